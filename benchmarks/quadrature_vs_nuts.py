"""Error against time: the exact posterior by quadrature, and NUTS, in one picture.

    python benchmarks/quadrature_vs_nuts.py            # about 3 minutes on one core
    python benchmarks/quadrature_vs_nuts.py --quick    # fewer draws, under a minute

Prints the time of the exact posterior with and without quantiles, and a table of errors, and
writes ``quadrature_vs_nuts.png`` beside this file. Error is the largest error of any posterior
mean, in posterior standard deviations. Times are of one core, after the first call, and leave out
the compilation of the model.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import numpy as np
import nutpie
import pandas as pd
import scipy.special
import scipy.stats

from fieldguide.data import count_by_district, load_bangladesh, load_three_districts
from fieldguide.models import varying_intercept_model
from fieldguide.reference import _districts_quadrature, exact_posterior
from fieldguide.style import COLORS, use_style

PRIOR = scipy.stats.expon()
VARIABLES = ["alpha_bar", "sigma", "alpha", "p"]


def seconds(function, repeats: int = 7) -> float:
    """Median processor time of a call, the first one left out."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times))


def error(mean, exact) -> float:
    """Largest error of a posterior mean, in posterior standard deviations."""
    gaps = [np.abs((mean[name] - exact.mean[name]) / exact.sd[name]).max() for name in mean]
    return float(max(gaps))


def quadrature(counts: pd.DataFrame, exact) -> pd.DataFrame:
    """Time and error for grids from far too coarse to finer than the default."""
    rows = []
    for factor in (3.0, 2.5, 2.2, 1.9, 1.6, 1.4, 1.2, 1.0, 0.85):
        steps = tuple(factor * step for step in _districts_quadrature._STEPS)
        with mock.patch.multiple(_districts_quadrature, _STEPS=steps, TOLERANCE=np.inf):

            def call():
                return exact_posterior(counts["users"], counts["women"], sigma_prior=PRIOR)

            rows.append(
                {
                    "method": "quadrature",
                    "setting": f"steps x {factor:g}",
                    "seconds": seconds(call),
                    "error": error(call().mean[VARIABLES], exact),
                    "estimate": call().error,
                }
            )
    return pd.DataFrame(rows)


def nuts(counts: pd.DataFrame, exact, draws: list[int], seeds: range) -> pd.DataFrame:
    """Time and error of the non-centered form, medians over seeds."""
    model = varying_intercept_model(
        counts["users"], counts["women"], parameterization="non-centered", sigma_prior=PRIOR
    )
    start = time.perf_counter()
    compiled = nutpie.compile_pymc_model(model)
    print(f"  (compiling the model for NUTS took {time.perf_counter() - start:.1f} s)")

    def sample(count, seed):
        start = time.process_time()
        data = nutpie.sample(
            compiled, draws=count, tune=1000, chains=4, cores=1, seed=seed,
            target_accept=0.95, progress_bar=False,
        )  # fmt: skip
        posterior = data.posterior.to_dataset()
        posterior["p"] = scipy.special.expit(posterior["alpha"])
        mean = posterior[VARIABLES].mean(["chain", "draw"])
        return time.process_time() - start, mean.assign_coords(district=exact.mean["district"])

    sample(100, 0)
    rows = []
    for count in draws:
        runs = [sample(count, seed) for seed in seeds]
        rows.append(
            {
                "method": "NUTS",
                "setting": f"4 x {count} draws",
                "seconds": float(np.median([run[0] for run in runs])),
                "error": float(np.median([error(run[1], exact) for run in runs])),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer draws and seeds")
    quick = parser.parse_args().quick
    use_style()
    fig, axs = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    cases = {"3 districts": load_three_districts(), "60 districts": count_by_district(load_bangladesh())}
    for ax, (title, counts) in zip(axs, cases.items(), strict=True):
        print(title)

        def call(counts=counts):
            return exact_posterior(counts["users"], counts["women"], sigma_prior=PRIOR)

        print(f"  means and sds        {1e3 * seconds(call):7.1f} ms")
        print(f"  quantiles included   {1e3 * seconds(lambda: call().summary):7.1f} ms")
        fine = tuple(0.6 * step for step in _districts_quadrature._STEPS)
        with mock.patch.object(_districts_quadrature, "_STEPS", fine):
            exact = call()
        # 60 districts cost twenty times as much per draw
        most = (10_000 if title.startswith("3") else 4_000) // (10 if quick else 1)
        draws = [int(d) for d in np.geomspace(100, most, 3 if quick else 6)]
        table = pd.concat(
            [quadrature(counts, exact), nuts(counts, exact, draws, range(1, 3 if quick else 6))]
        )
        print(table.to_string(index=False, float_format="{:.2g}".format, na_rep=""), "\n")
        beside = {"xytext": (12, 0), "ha": "left", "va": "center"}
        below = {"xytext": (0, -12), "ha": "center", "va": "top"}
        for method, label, color, marker, place in [
            ("quadrature", "quadrature", COLORS["exact"], "s", beside),
            ("NUTS", "NUTS,\nnon-centered", COLORS["non-centered"], "o", below),
        ]:
            rows = table[table["method"] == method]
            ax.loglog(rows["seconds"], rows["error"], marker=marker, color=color)
            middle = rows.iloc[len(rows) // 2][["seconds", "error"]]
            ax.annotate(label, middle, textcoords="offset points", color=color, **place)
        ax.set(title=title, xlabel="processor time (s)")
        ax.margins(x=0.2)
    axs[0].set_ylabel("largest error of a mean\n(posterior sds)")
    path = Path(__file__).with_suffix(".png")
    fig.savefig(path, dpi=150)
    print(f"Picture: {path.name}")


if __name__ == "__main__":
    main()
