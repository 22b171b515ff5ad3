"""Make the stored tables of chapter 10, and measure how fast simulated trials are fitted.

    python benchmarks/calibration.py divergences   # data/trial_divergences.parquet
    python benchmarks/calibration.py reference     # data/trial_reference.parquet
    python benchmarks/calibration.py coverage      # data/trial_coverage.parquet
    python benchmarks/calibration.py sbc           # data/trial_sbc.parquet
    python benchmarks/calibration.py precision     # data/trial_precision.parquet
    python benchmarks/calibration.py speed         # 200 fits, against pm.sample, brms and simuk

An interrupted run goes on where it stopped. Each table gets a JSON file beside it that says how
it was made.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one process per core; threads would only get in the way

import argparse
import json
import time
from pathlib import Path

from fieldguide import calibration, experiments

DATA = Path(__file__).resolve().parents[1] / "data"
STUDIES = {
    "divergences": (calibration.divergence_design, calibration.fit_trial),
    "reference": (
        lambda: calibration.reference_design(calibration.divergence_design()),
        calibration.fit_reference,
    ),
    "coverage": (calibration.coverage_design, calibration.fit_trial),
    "sbc": (calibration.sbc_design, calibration.fit_sbc),
    "precision": (calibration.precision_design, calibration.fit_trial),
}


def study(name: str) -> None:
    make_design, fit = STUDIES[name]
    design = make_design()
    group = [column for column in ("scenario", "parameterization") if column in design]
    # Built beside the stored table, which stays as it is until the new one is whole.
    work, final = DATA / f"trial_{name}.work.parquet", DATA / f"trial_{name}.parquet"
    start = time.perf_counter()
    table = experiments.run_grid(design, fit, work, group=group)
    seconds = time.perf_counter() - start
    work.replace(final)
    sidecar = experiments.write_provenance(
        final,
        table,
        design,
        command=f"python benchmarks/calibration.py {name}",
        seconds=seconds,
    )
    record = json.loads(sidecar.read_text(encoding="utf-8"))
    record["data"] = {"population": calibration.POPULATION, "seed": "the replicate's number"}
    sidecar.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{len(table)} fits in {seconds:.1f} s: {final.name}, {sidecar.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=[*STUDIES])
    study(parser.parse_args().study)


if __name__ == "__main__":
    main()
