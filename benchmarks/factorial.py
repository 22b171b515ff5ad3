"""Make the stored tables of chapter 8: ``data/factorial.parquet`` and ``data/remedies.parquet``.

    python benchmarks/factorial.py             # 1280 fits, about 4 minutes on 2 cores
    python benchmarks/factorial.py remedies    # the side studies
    python benchmarks/factorial.py reduced     # 48 fits, compared with the stored table

An interrupted run goes on where it stopped. Each table gets a JSON file beside it that says how
it was made.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd

from fieldguide import experiments

DATA = Path(__file__).resolve().parents[1] / "data"
DESIGNS = {
    "factorial": experiments.factorial_design,
    "remedies": experiments.remedies_design,
    "reduced": experiments.reduced_design,
}


def run(name: str, path: Path) -> tuple[pd.DataFrame, float]:
    start = time.perf_counter()
    table = experiments.run_grid(
        DESIGNS[name](), experiments.fit_three_districts, path, group=experiments.MODEL_COLUMNS
    )
    return table, time.perf_counter() - start


def print_processor_time() -> None:
    """Say what the run cost whatever else the machine was doing."""
    workers, own = (
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
    )
    print(f"processor time: {workers:.0f} s in the workers, {own:.0f} s here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("design", nargs="?", choices=DESIGNS, default="factorial")
    name = parser.parse_args().design
    if name == "reduced":
        with tempfile.TemporaryDirectory() as folder:
            table, seconds = run(name, Path(folder) / "reduced.parquet")
        stored = pd.read_parquet(DATA / "factorial.parquet")
        print(f"{len(table)} fits in {seconds:.1f} s: {experiments.agreement(table, stored)}")
        print_processor_time()
        return
    # Built beside the stored table, which stays as it is until the new one is whole.
    work = DATA / f"{name}.work.parquet"
    table, seconds = run(name, work)
    final = DATA / f"{name}.parquet"
    table.to_parquet(final, index=False)
    work.unlink()
    sidecar = experiments.write_provenance(
        final,
        table,
        DESIGNS[name](),
        data={"successes": experiments.SUCCESSES, "trials": experiments.TRIALS},
        command=f"python benchmarks/factorial.py {name}",
        seconds=seconds,
    )
    print(f"{len(table)} fits in {seconds:.1f} s: {final.name}, {sidecar.name}")
    print_processor_time()


if __name__ == "__main__":
    main()
