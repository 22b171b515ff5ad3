"""Time ``fieldguide counts`` for ten thousand groups: ordinary ones, and groups that are all alike.

    python benchmarks/your_counts.py

Prints seconds of one core and by the wall, and the memory, each with that of sixty districts beside it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from fieldguide.data import count_by_district, load_bangladesh


def tables() -> dict[str, pd.DataFrame]:
    """Return the tables by what they are."""
    rng = np.random.default_rng(1)
    trials = rng.integers(5, 4000, 10_000)
    made = {}
    for name, spread in (("ordinary", 0.7), ("all alike", 0.0)):
        successes = rng.binomial(trials, expit(rng.normal(-1, spread, trials.size)))
        made[name] = pd.DataFrame(
            {"group": range(trials.size), "successes": successes, "trials": trials}
        )
    return {"sixty districts": count_by_district(load_bangladesh()).reset_index()} | made


def main() -> None:
    """Run the command on each table and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables().items():
            path = Path(folder) / "counts.csv"
            table.to_csv(path, index=False)
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [sys.executable, "-m", "fieldguide", "counts", str(path), "--csv"]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            core = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"{name}: {core:.1f} s of a core, {wall:.1f} s, up to {after.ru_maxrss / 2**20:.2f} GiB"
            )


if __name__ == "__main__":
    main()
