"""Time the report on a singular fit with a million rows in ten thousand groups, and its memory.

Each computation runs in a process of its own, so that the peak is its own; the table of rows is part of
the peak. Seconds are the least of the repeats, processor and wall; the load of the machine stands
beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

ROWS, GROUPS = 10**6, 10**4
FORMULA = "score ~ x * kind + (x | group)"


def million(correlation: float, rows: int = ROWS, groups: int = GROUPS) -> pd.DataFrame:
    """Rows in groups of uneven size, with lines of that correlation, and a factor in words."""
    rng = np.random.default_rng(1)
    group = np.sort(rng.integers(0, groups, rows))
    effects = rng.normal(size=(2, groups))
    slope = correlation * effects[0] + np.sqrt(1 - correlation**2) * effects[1]
    x = rng.normal(size=rows) + 0.3 * rng.normal(size=groups)[group]
    public = (np.arange(groups) % 2)[group]
    score = 10 + 2 * effects[0][group] + (1 + 0.5 * public + 0.2 * slope[group]) * x
    return pd.DataFrame(
        {
            "score": score + 6 * rng.normal(size=rows),
            "x": x,
            "kind": np.where(public, "Public", "Catholic"),
            "group": group,
        }
    )


def timed(correlation: float) -> list[dict]:
    """Time each step once, in this process."""
    import fieldguide.singular  # noqa: F401  (what is imported is not timed)
    from fieldguide.reference import schools_posterior
    from fieldguide.reml import cross_products, fit_reml
    from fieldguide.singular import default_priors, singular_fit_report

    table = million(correlation)
    cross_products(FORMULA, table.head(2000).assign(group=np.arange(2000) % 20))  # loads formulae
    rows: list[dict] = []

    def clock(what, job):
        cpu, wall = time.process_time(), time.perf_counter()
        result = job()
        seconds = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"what": what, **seconds, "peak_MB": peak})
        return result

    clock("table of rows alone", lambda: table)
    sums = clock("read the rows into sums", lambda: cross_products(FORMULA, table))
    clock("REML on sums", lambda: fit_reml(sums))
    clock("exact posterior", lambda: schools_posterior(sums, **default_priors(sums)))
    clock("whole report, as text", lambda: singular_fit_report(FORMULA, table).text)
    return rows


def timings(repeats: int) -> pd.DataFrame:
    """Return the least seconds and the largest peak of each step, over processes."""
    found = []
    for correlation in (0.3, 1.0):
        for _ in range(repeats):
            command = [sys.executable, __file__, "--one", str(correlation)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found += [{"correlation": correlation, **row} for row in json.loads(done.stdout)]
    by = pd.DataFrame(found).groupby(["correlation", "what"], sort=False)
    return by.agg({"cpu_s": "min", "wall_s": "min", "peak_MB": "max"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=float)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(timed(arguments.one)))
    else:
        load, cores = os.getloadavg()[0], os.cpu_count()
        print(f"{ROWS} rows in {GROUPS} groups; load {load:.1f} on {cores} cores at the start")
        print(timings(arguments.repeats).round(2).to_string())
        print(f"load {os.getloadavg()[0]:.1f} at the end")
