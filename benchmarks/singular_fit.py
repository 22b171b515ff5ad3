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
import nutpie
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import statsmodels.formula.api as smf
import xarray as xr
from scipy import stats

from fieldguide.data import DATA_FOLDER, load_schools
from fieldguide.reference.schools import exact_gaussian_posterior
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


def _packed():
    """Cholesky factor in the coordinates of PyMC's LKJCholeskyCov: its own elements."""
    sd_dist = pm.HalfNormal.dist(5, size=2)
    chol, corr, sds = pm.LKJCholeskyCov("lkj", n=2, eta=ETA, sd_dist=sd_dist, compute_corr=True)
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
        chol = _packed() if packed else _scaled()
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
            s = Sums(table)
            a = beta[0] + beta[2] * s.w + u[:, 0]
            b = beta[1] + beta[3] * s.w + u[:, 1]
            loss = s.residual_squares(a, b).sum()
            pm.Potential("math", -s.n.sum() * pt.log(sigma) - loss / (2 * sigma**2))
    return model


class Sums:
    """Per-school sums as arrays."""

    def __init__(self, table):
        x, y = table["ses"], table["math"]
        g = table.assign(sx=x, sxx=x**2, sy=y, sxy=x * y, syy=y**2).groupby("school")
        for name in ("sx", "sxx", "sy", "sxy", "syy"):
            setattr(self, name, g[name].sum().to_numpy())
        self.n, self.w = g.size().to_numpy(), g["catholic"].first().to_numpy()

    def residual_squares(self, a, b):
        """Sum of squares around the line with intercept a and slope b, one per school."""
        linear = self.syy - 2 * a * self.sy - 2 * b * self.sxy
        return linear + a**2 * self.n + 2 * a * b * self.sx + b**2 * self.sxx


def integrated(table) -> pm.Model:
    """Model with the school effects integrated out: eight parameters."""
    model, beta, sigma = _common(table)
    s = Sums(table)
    with model:
        sd0, sd1 = pm.HalfNormal("sd_intercept", 5), pm.HalfNormal("sd_slope", 5)
        r = pm.Deterministic("correlation", 2 * pm.Beta("half", ETA, ETA) - 1)
        a, b, v = beta[0] + beta[2] * s.w, beta[1] + beta[3] * s.w, sigma**2
        e0, e1 = s.sy - s.n * a - s.sx * b, s.sxy - s.sx * a - s.sxx * b
        rss = s.residual_squares(a, b)
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
    model = bmb.Model(FORMULA, table, priors=priors, noncentered=noncentered, center_predictors=False)
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


def fits(path, only: str = "") -> None:
    """Sample the forms whose name contains ``only``, and write the scores, one row per fit."""
    table = load()
    products = cross_products(FORMULA, table)
    exact = exact_gaussian_posterior(products, lkj_eta=ETA, **PRIORS)
    independent = exact_gaussian_posterior(products, lkj_eta=None, **PRIORS)

    def pymc_fit(model):
        compiled = []

        def run(seed):
            if not compiled:
                compiled.append(nutpie.compile_pymc_model(model))
            start = time.perf_counter()
            draws = nutpie.sample(
                compiled[0], draws=1000, tune=1000, chains=4, seed=seed, progress_bar=False
            )
            draws["posterior"].attrs["sampling_time"] = time.perf_counter() - start
            return draws

        return run

    def bambi(noncentered):
        return lambda seed: bambi_fit(table, noncentered=noncentered, seed=seed)

    def sampled(**form):
        return pymc_fit(sampled_effects(table, **form))

    non_centered = sampled(centered=False, rows=False)
    scaled = sampled(centered=False, rows=False, packed=False)
    forms = {
        "PyMC, integrated": (pymc_fit(integrated(table)), exact, SEEDS),
        "PyMC, non-centered, sums, sd and r": (scaled, exact, SEEDS),
        "PyMC, non-centered, sums": (non_centered, exact, SEEDS),
        "PyMC, centered, sums": (sampled(centered=True, rows=False), exact, range(1, 21)),
        "Bambi, centered": (bambi(False), independent, SEEDS),
        "Bambi, non-centered": (bambi(True), independent, SEEDS),
        "PyMC, non-centered, rows": (sampled(centered=False, rows=True), exact, SEEDS),
        "PyMC, centered, rows": (sampled(centered=True, rows=True), exact, SEEDS),
    }
    rows = []
    for label, (run, truth, seeds) in forms.items():
        if only not in label:
            continue
        for seed in seeds:
            start = time.perf_counter()
            draws = run(seed)
            seconds = time.perf_counter() - start
            row = score(draws, truth, label=label, var_names=list(truth.mean.data_vars)).to_series()
            row = row.drop(["missing_share", "unreached", "tuning_gradients"]).drop(
                [name for name in row.index if name.startswith("mcse_error")]
            )
            slope = draws["posterior"]["sd_slope"]
            row["seed"], row["seconds_in_all"] = seed, seconds
            for share in (0.05, 0.01):
                cut = truth.quantile("sd_slope", share)
                row[f"share_below_{share:.0%}"] = float((slope < cut).mean())
            rows.append(row)
            print(label, seed, f"{seconds:.0f} s", flush=True)
            header = "# made by: python benchmarks/singular_fit.py --fits; " + ", ".join(
                f"{name} {metadata.version(name)}" for name in ("pymc", "nutpie", "bambi")
            )
            header += f"; Python {platform.python_version()}"
            header += "; 4 chains of 1000 + 1000, target_accept 0.8"
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
        "exact answer: means and sds": lambda: exact_gaussian_posterior(products, lkj_eta=ETA, **PRIORS),
        "exact answer with quantiles": lambda: (
            exact_gaussian_posterior(products, lkj_eta=ETA, **PRIORS).summary
        ),
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
    parser.add_argument("--only", default="", help="only the forms whose name contains this")
    parser.add_argument("--to", default=DATA_FOLDER / "singular_fits.csv", help="where to write")
    arguments = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if arguments.fits:
            fits(arguments.to, arguments.only)
        else:
            print(timings().round(3).to_string())
