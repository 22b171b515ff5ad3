"""Time exact posteriors by the number of districts, and hold some against `exact_posterior`.

    python benchmarks/exact_at_scale.py

Districts of 1 to 1000 women and of 1 to ten million, and some that are all alike. Each table is taken
by a process of its own, whose seconds of the cores and by the wall and whose largest memory are printed,
with and without quantiles, and how the seconds grow. Then the largest distance from `exact_posterior`,
in posterior sds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import scipy.stats
from scipy.special import expit

from fieldguide.data import count_by_district, load_bangladesh
from fieldguide.reference import exact_posterior, exact_posterior_many, leave_one_out

PROBS = [0.055, 0.5, 0.945]
PRIOR = scipy.stats.expon()
SIZES = {
    "moments": (100, 1000, 10_000, 100_000),
    "quantiles": (100, 1000, 10_000),
    "left out": (100, 1000, 10_000),
}


def counts(
    districts: int, least: float, most: float, sigma: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return successes and trials, whose logarithms are spread evenly."""
    rng = np.random.default_rng(1)
    n = np.exp(rng.uniform(np.log(least), np.log(most), districts)).astype(int)
    return rng.binomial(n, expit(rng.normal(-0.5, sigma, districts))), n


def work(what: str, districts: int, most: float, sigma: float) -> None:
    """Do one piece of work and print what it took."""
    y, n = counts(districts, 1, most, sigma)
    start, cpu = time.perf_counter(), time.process_time()
    if what == "left out":
        error = leave_one_out(y, n, sigma_prior=PRIOR).attrs["error"]
    else:
        exact = exact_posterior_many(y, n, sigma_prior=PRIOR)
        error = exact.error
        if what == "quantiles":
            exact.quantile(PROBS)
    found = {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "kinds": np.unique(np.stack([y, n]), axis=1).shape[1],
        "error": error,
    }
    print(json.dumps(found))


def distance(y: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Largest distances of moments and quantiles from `exact_posterior`, in posterior sds."""
    many, exact = (f(y, n, sigma_prior=PRIOR) for f in (exact_posterior_many, exact_posterior))
    moments = max(float(np.abs((many.mean - exact.mean) / exact.sd).to_array().max()),
                  float(np.abs(many.sd / exact.sd - 1).to_array().max()))  # fmt: skip
    moved = np.abs((many.quantile(PROBS) - exact.quantile(PROBS)) / exact.sd)
    return moments, float(moved.to_array().max())


def main() -> None:
    """Print times, memory and growth, then distances."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for most, sigma in ((1000, 0.5), (1e7, 0.5), (1000, 0.0)):
        print("all alike:" if sigma == 0 else "districts that differ:")
        for what, sizes in SIZES.items():
            seconds = []
            for districts in sizes:
                command = [sys.executable, __file__, what, *map(str, (districts, most, sigma))]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout)
                seconds.append((found["kinds"], found["cpu"]))
                print(
                    f"{what}, {districts} districts of up to {most:.0e} ({found['kinds']} kinds): "
                    f"{found['wall']:.1f} s, {found['cpu']:.1f} s of the cores, {found['GiB']:.2f} GiB, "
                    f"error estimate {found['error']:.0e}",
                    flush=True,
                )
            (few, short), (many, long) = seconds[-2:]
            print(f"{what}: seconds grow like kinds ** {np.log(long / short) / np.log(many / few):.2f}")
    survey = count_by_district(load_bangladesh())
    tables = {
        "the survey": (survey["users"].to_numpy(), survey["women"].to_numpy()),
        "60 districts of 1 to ten million": counts(60, 1, 1e7),
        "60 districts of ten million": counts(60, 1e7, 1e7 + 1),
        "100 districts of 1 to 1000": counts(100, 1, 1000),
    }
    for name, table in tables.items():
        moments, quantiles = distance(*table)
        print(f"{name}: moments within {moments:.0e}, quantiles within {quantiles:.0e} posterior sd")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:]))
    else:
        main()
