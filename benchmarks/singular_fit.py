"""Time the fits of chapter 11 and remake the table of its slow ones.

``python benchmarks/singular_fit.py`` prints the time of each point estimate and exact answer.
``python benchmarks/singular_fit.py --fits`` samples every form of the model with three seeds and
writes ``data/singular_fits.csv``, one row per fit, beside its exact answer (minutes).
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import time
import warnings
from importlib import metadata

os.environ.setdefault("OMP_NUM_THREADS", "1")

import bambi as bmb
import mixedlm
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import statsmodels.formula.api as smf
import xarray as xr
from scipy import stats

from fieldguide.data import DATA_FOLDER, load_schools
from fieldguide.reference.gaussian import exact_gaussian_posterior
from fieldguide.reml import cross_products, fit_reml, profile, wishart
from fieldguide.scores import score

FORMULA = "math ~ ses * catholic + (ses | school)"
TERMS = ["Intercept", "ses", "catholic", "ses:catholic"]
PRIORS = {
    "sd_prior": stats.halfnorm(scale=5),
    "sigma_prior": stats.halfnorm(scale=10),
    "fixed_prior": (0.0, 20.0),
}
ETA = 2
SEEDS = (1, 2, 3)


def load() -> pd.DataFrame:
    """Return the schools with Catholic coded 1 and a school number from 0."""
    table = load_schools().sort_values("school", kind="stable", ignore_index=True)
    table["catholic"] = (table["sector"] == "Catholic").astype(int)
    table["code"] = table["school"].astype("category").cat.codes
    return table


def _common(table):
    coords = {"term": TERMS, "school": np.unique(table["school"]), "effect": ["intercept", "slope"]}
    model = pm.Model(coords=coords)
    with model:
        beta = pm.Normal("beta", 0, 20, dims="term")
        sigma = pm.HalfNormal("sigma", 10)
    return model, beta, sigma


def _cholesky():
    return _named(
        *pm.LKJCholeskyCov("lkj", n=2, eta=ETA, sd_dist=pm.HalfNormal.dist(5, size=2), compute_corr=True)
    )


def _named(chol, corr, sds):
    pm.Deterministic("sd_intercept", sds[0])
    pm.Deterministic("sd_slope", sds[1])
    pm.Deterministic("correlation", corr[0, 1])
    return chol


def _scaled():
    """Cholesky factor from the sds and the correlation, each sampled in its own coordinate."""
    sd0, sd1 = pm.HalfNormal("sd_intercept", 5), pm.HalfNormal("sd_slope", 5)
    r = pm.Deterministic("correlation", 2 * pm.Beta("half", ETA, ETA) - 1)
    zero = pt.zeros_like(sd0)
    return pt.stack([pt.stack([sd0, zero]), pt.stack([r * sd1, sd1 * pt.sqrt(1 - r**2)])])


def sampled_effects(table, *, centered: bool, rows: bool, packed: bool = True) -> pm.Model:
    """Model with the school effects sampled, on student rows or on per-school sums."""
    model, beta, sigma = _common(table)
    with model:
        chol = _cholesky() if packed else _scaled()
        if centered:
            u = pm.MvNormal("u", 0, chol=chol, dims=("school", "effect"))
        else:
            u = pm.Normal("z", 0, 1, dims=("school", "effect")) @ chol.T
        if rows:
            x, w, j = (table[name].to_numpy() for name in ("ses", "catholic", "code"))
            intercept = beta[0] + beta[2] * w + u[j, 0]
            mu = intercept + (beta[1] + beta[3] * w + u[j, 1]) * x
            pm.Normal("math", mu, sigma, observed=table["math"].to_numpy())
        else:
            s = sums(table)
            a = beta[0] + beta[2] * s.w + u[:, 0]
            b = beta[1] + beta[3] * s.w + u[:, 1]
            rss = s.syy - 2 * a * s.sy - 2 * b * s.sxy + a**2 * s.n + 2 * a * b * s.sx + b**2 * s.sxx
            pm.Potential("math", -s.n.sum() * pt.log(sigma) - rss.sum() / (2 * sigma**2))
    return model


class sums:  # noqa: N801
    """Per-school sums as arrays."""

    def __init__(self, table):
        x, y = table["ses"], table["math"]
        g = table.assign(sx=x, sxx=x**2, sy=y, sxy=x * y, syy=y**2).groupby("school")
        for name in ("sx", "sxx", "sy", "sxy", "syy"):
            setattr(self, name, g[name].sum().to_numpy())
        self.n, self.w = g.size().to_numpy(), g["catholic"].first().to_numpy()


def integrated(table) -> pm.Model:
    """Model with the school effects integrated out: eight parameters."""
    model, beta, sigma = _common(table)
    s = sums(table)
    with model:
        sd0, sd1 = pm.HalfNormal("sd_intercept", 5), pm.HalfNormal("sd_slope", 5)
        r = pm.Deterministic("correlation", 2 * pm.Beta("half", ETA, ETA) - 1)
        a, b, v = beta[0] + beta[2] * s.w, beta[1] + beta[3] * s.w, sigma**2
        e0, e1 = s.sy - s.n * a - s.sx * b, s.sxy - s.sx * a - s.sxx * b
        rss = s.syy - 2 * a * s.sy - 2 * b * s.sxy + a**2 * s.n + 2 * a * b * s.sx + b**2 * s.sxx
        d00, d01, d11 = sd0**2 / v, r * sd0 * sd1 / v, sd1**2 / v
        dd = d00 * d11 * (1 - r**2)
        det = 1 + d00 * s.n + 2 * d01 * s.sx + d11 * s.sxx + dd * (s.n * s.sxx - s.sx**2)
        q = (d00 + dd * s.sxx) * e0**2 + 2 * (d01 - dd * s.sx) * e0 * e1 + (d11 + dd * s.n) * e1**2
        parts = s.n * pt.log(v) + pt.log(det) + (rss - q / det) / v
        pm.Potential("math", -0.5 * parts.sum())
    return model


def bambi_fit(table, *, noncentered: bool, seed: int) -> xr.DataTree:
    """Fit by Bambi, whose group effects are independent; renamed to this file's names."""
    sd = bmb.Prior("HalfNormal", sigma=5)
    group = bmb.Prior("Normal", mu=0, sigma=sd)
    names = ("Intercept", "ses", "catholic", "ses:catholic")
    priors = {name: bmb.Prior("Normal", mu=0, sigma=20) for name in names}
    priors |= {"1|school": group, "ses|school": group, "sigma": bmb.Prior("HalfNormal", sigma=10)}
    model = bmb.Model(
        FORMULA, table, priors=priors, noncentered=noncentered, center_predictors=False
    )
    draws = model.fit(draws=1000, tune=1000, chains=4, random_seed=seed, progressbar=False)
    p = draws["posterior"].to_dataset()
    beta = xr.concat([p[name] for name in names], xr.IndexVariable("term", list(names)))
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {
                    "beta": beta.transpose("chain", "draw", "term"),
                    "sd_intercept": p["1|school_sigma"],
                    "sd_slope": p["ses|school_sigma"],
                    "sigma": p["sigma"],
                },
                attrs=p.attrs,
            ),
            "sample_stats": draws["sample_stats"].to_dataset(),
        }
    )


def fits(path, only: str | None = None) -> None:
    """Sample every form with every seed and write the scores, one row per fit."""
    table = load()
    products = cross_products(FORMULA, table)
    exact = exact_gaussian_posterior(products, lkj_eta=ETA, **PRIORS)
    independent = exact_gaussian_posterior(products, lkj_eta=None, **PRIORS)

    def pymc_fit(**form):
        def run(seed):
            with sampled_effects(table, **form):
                return pm.sample(1000, tune=1000, chains=4, random_seed=seed, progressbar=False)

        return run

    def integrated_fit(seed):
        with integrated(table):
            return pm.sample(1000, tune=1000, chains=4, random_seed=seed, progressbar=False)

    forms = {
        "PyMC, integrated": (integrated_fit, exact),
        "PyMC, non-centered, sums, sd and r": (
            pymc_fit(centered=False, rows=False, packed=False), exact,
        ),
        "PyMC, non-centered, sums": (pymc_fit(centered=False, rows=False), exact),
        "PyMC, centered, sums": (pymc_fit(centered=True, rows=False), exact),
        "Bambi, centered": (lambda s: bambi_fit(table, noncentered=False, seed=s), independent),
        "Bambi, non-centered": (lambda s: bambi_fit(table, noncentered=True, seed=s), independent),
        "PyMC, non-centered, rows": (pymc_fit(centered=False, rows=True), exact),
        "PyMC, centered, rows": (pymc_fit(centered=True, rows=True), exact),
    }  # fmt: skip
    rows = []
    for label, (run, truth) in forms.items():
        for seed in SEEDS:
            start = time.perf_counter()
            draws = run(seed)
            seconds = time.perf_counter() - start
            row = score(draws, truth, label=label, var_names=list(truth.mean.data_vars)).to_series()
            row = row.drop(["missing_share", "unreached", "tuning_gradients"]).drop(
                [name for name in row.index if name.startswith("mcse_error")]
            )
            cut = truth.quantile("sd_slope", 0.05)
            slope = draws["posterior"]["sd_slope"]
            row["seed"], row["seconds_with_compilation"] = seed, seconds
            row["share_below_5%"] = float((slope < cut).mean())
            rows.append(row)
            print(label, seed, f"{seconds:.0f} s", flush=True)
            header = "# made by: python benchmarks/singular_fit.py --fits; " + ", ".join(
                f"{name} {metadata.version(name)}" for name in ("pymc", "nutpie", "bambi")
            )
            header += f"; Python {platform.python_version()}; 4 chains of 1000 + 1000, target_accept 0.8"
            frame = pd.DataFrame(rows).reset_index(drop=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(header + "\n")
                frame.to_csv(file, index=False, float_format="%.6g")


def timings() -> pd.DataFrame:
    """Median processor and wall time of each computation, over five calls after a first one."""
    table = load()
    table["school"] = table["school"].astype(str)
    products = cross_products(FORMULA, table)
    jobs = {
        "read 7185 rows into sums": lambda: cross_products(FORMULA, table),
        "REML on sums": lambda: fit_reml(products),
        "REML with Wishart penalty": lambda: fit_reml(products, wishart(4.5)),
        "profile, 40 x 40": lambda: profile(
            products, np.linspace(0.02, 1, 40)[:, None], np.linspace(-0.5, 0.999, 40)
        ),
        "mixedlm.lmer": lambda: mixedlm.lmer(FORMULA, table),
        "statsmodels MixedLM": lambda: smf.mixedlm(
            "math ~ ses * catholic", table, groups="school", re_formula="~ses"
        ).fit(),
        "exact answer: means and sds": lambda: exact_gaussian_posterior(
            products, lkj_eta=ETA, **PRIORS
        ),
        "exact answer with quantiles": lambda: exact_gaussian_posterior(
            products, lkj_eta=ETA, **PRIORS
        ).summary,
    }
    rows = []
    for name, job in jobs.items():
        job()
        cpu, wall = [], []
        for _ in range(5):
            c, w = time.process_time(), time.perf_counter()
            job()
            cpu.append(time.process_time() - c)
            wall.append(time.perf_counter() - w)
        rows.append((name, np.median(cpu), np.median(wall)))
    return pd.DataFrame(rows, columns=["what", "cpu_s", "wall_s"]).set_index("what")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", action="store_true", help="remake data/singular_fits.csv")
    arguments = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if arguments.fits:
            fits(DATA_FOLDER / "singular_fits.csv")
        else:
            print(timings().round(3).to_string())
