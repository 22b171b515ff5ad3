"""What a row costs: one posterior from a row per woman and from counts, for tables of any length."""

from __future__ import annotations

import ctypes
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import arviz as az
import numpy as np
import nutpie
import pandas as pd
import pymc as pm
from scipy.special import expit

from fieldguide.data import load_bangladesh
from fieldguide.grid import _start_worker
from fieldguide.models.districts import varying_intercept_model
from fieldguide.studies import Study

ROWS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
"""Women in the tables."""

MODELS = ("district", "covariates")
"""``use ~ 1 + (1 | district)`` and ``use ~ 1 + urban + children + (1 | district)``."""

FORMS = ("rows", "counts")
"""One row per woman, or one per district (with covariates, per pattern that occurs)."""

SAMPLED_ROWS = 10_000
"""The longest table that is sampled as rows; beyond, only a gradient evaluation is timed."""

PARAMETERIZATIONS = dict.fromkeys(ROWS, "centered") | {1_000: "non-centered"}
"""By rows, the form for districts that know so much. Counts per district are sampled in both."""

POPULATION: dict[str, Any] = {
    "alpha_bar": -1.7,
    "sigma": 0.46,
    "urban": 0.73,
    "children": (0.0, 1.1, 1.4, 1.35),
}
"""The women's population, in logits: about what a fit to the survey finds."""

SEED = 16
"""Of the population's districts and of the women."""

SEEDS = {"rows": 1, "counts": 2}
"""Of the fits: with one seed, both forms take the same path until rounding parts them."""

TIMED_SECONDS = 1.0
"""Of the processor: how long gradient evaluations are repeated, and at least `LEAST_TIMED` times."""

LEAST_TIMED = 3

CHILDREN = ("0", "1", "2", "3+")
"""Categories of ``living_children``."""

PRIOR_SD = 1.0
"""Of the coefficients of covariates, in logits."""


def simulate_patterns(rows: int, seed: int = SEED) -> pd.DataFrame:
    """Simulate women of the survey's sixty districts, counted by district, urban and children.

    District and kind of region are those of a woman of the survey drawn at random, the number of
    children that of another from the same kind of region; whether she uses contraception is drawn from
    `POPULATION`.

    Parameters
    ----------
    rows : int
        How many women.
    seed : int

    Returns
    -------
    DataFrame
        One row per pattern that occurs: ``district`` (0 to 59), ``urban`` (0/1), ``children`` (0 to 3),
        ``users``, ``women``.
    """
    survey = load_bangladesh()
    survey["district"] = np.unique(survey["district"], return_inverse=True)[1]
    survey["children"] = survey["living_children"].map(CHILDREN.index)
    regions = survey.groupby(["district", "urban"]).size().rename("share") / len(survey)
    children = survey.groupby("urban")["children"].value_counts(normalize=True).rename("given")
    cells = regions.reset_index().merge(children.reset_index(), on="urban")
    cells = cells.sort_values(["district", "urban", "children"], ignore_index=True)
    rng = np.random.default_rng(seed)
    effect = rng.normal(POPULATION["alpha_bar"], POPULATION["sigma"], survey["district"].nunique())
    rng = np.random.default_rng([seed, rows])
    share = (cells["share"] * cells["given"]).to_numpy()
    cells["women"] = rng.multinomial(rows, share / share.sum())
    logit = effect[cells["district"]] + POPULATION["urban"] * cells["urban"].to_numpy()
    logit += np.array(POPULATION["children"])[cells["children"]]
    cells["users"] = rng.binomial(cells["women"], expit(logit))
    found = cells.loc[cells["women"] > 0, ["district", "urban", "children", "users", "women"]]
    return found.reset_index(drop=True)


def per_district(patterns: pd.DataFrame) -> pd.DataFrame:
    """Add up the counts of each district; see `simulate_patterns`."""
    return patterns.groupby("district", as_index=False)[["users", "women"]].sum()


def as_women(patterns: pd.DataFrame) -> pd.DataFrame:
    """Return one row per woman with ``use`` (0/1) instead of counts, users first in each pattern."""
    counts = patterns[["users", "women"]].to_numpy()
    ends = np.column_stack([counts[:, 0], counts[:, 1] - counts[:, 0]]).ravel()
    use = np.repeat(np.tile([1, 0], len(patterns)), ends)
    columns = patterns.drop(columns=["users", "women"])
    return pd.DataFrame(
        {name: np.repeat(columns[name].to_numpy(), counts[:, 1]) for name in columns} | {"use": use}
    )


def rows_model(
    women: pd.DataFrame, *, covariates: bool = False, parameterization: str = "non-centered"
) -> pm.Model:
    """Return the varying-intercept model of one row per woman.

    Parameters
    ----------
    women : DataFrame
        ``district`` (0 to 59), ``use`` (0/1), and ``urban`` and ``children`` for covariates.
    covariates : bool
        Whether ``urban`` and ``children`` have effects.
    parameterization : {"centered", "non-centered"}

    Returns
    -------
    pymc.Model
        With ``alpha_bar``, ``sigma``, ``alpha`` (district), and ``beta_urban`` and ``beta_children``
        (children, against none) for covariates.
    """
    with _effects(women, covariates, parameterization) as model:
        pm.Bernoulli(
            "use", logit_p=_predictor(model, women, covariates), observed=women["use"].to_numpy()
        )
    return model


def counts_model(
    patterns: pd.DataFrame, *, covariates: bool = False, parameterization: str = "non-centered"
) -> pm.Model:
    """Return the same model of counts: without covariates, `varying_intercept_model`.

    Parameters
    ----------
    patterns : DataFrame
        ``district``, ``users``, ``women``, and ``urban`` and ``children`` for covariates.
    covariates, parameterization
        As for `rows_model`.
    """
    if not covariates:
        found = per_district(patterns)
        return varying_intercept_model(found["users"], found["women"], parameterization=parameterization)
    with _effects(patterns, covariates, parameterization) as model:
        eta = _predictor(model, patterns, covariates)
        women, users = patterns["women"].to_numpy(), patterns["users"].to_numpy()
        pm.Binomial("users", n=women, logit_p=eta, observed=users)
    return model


def _effects(table: pd.DataFrame, covariates: bool, parameterization: str) -> pm.Model:
    coords: dict[str, Any] = {"district": range(1 + int(table["district"].max()))}
    with pm.Model(coords=coords | {"children": CHILDREN[1:]}) as model:
        alpha_bar, sigma = pm.Normal("alpha_bar", 0, 1.5), pm.Exponential("sigma", 1)
        if parameterization == "centered":
            pm.Normal("alpha", alpha_bar, sigma, dims="district")
        else:
            z = pm.Normal("z", 0, 1, dims="district")
            pm.Deterministic("alpha", alpha_bar + z * sigma, dims="district")
        if covariates:
            pm.Normal("beta_urban", 0, PRIOR_SD)
            pm.Normal("beta_children", 0, PRIOR_SD, dims="children")
    return model


def _predictor(model: pm.Model, table: pd.DataFrame, covariates: bool) -> Any:
    eta = model["alpha"][table["district"].to_numpy()]
    if covariates:
        by_children = pm.math.concatenate([[0.0], model["beta_children"]])
        eta = eta + model["beta_urban"] * table["urban"].to_numpy()
        eta = eta + by_children[table["children"].to_numpy()]
    return eta


def gradient_of(compiled: Any) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return what nutpie evaluates at every leapfrog step, as a function of a point.

    Parameters
    ----------
    compiled : nutpie's compiled model

    Returns
    -------
    callable
        Takes an ndarray of ``n_dim`` unconstrained values; returns the log density and its gradient, in
        an array that the next call overwrites.
    """
    double = ctypes.POINTER(ctypes.c_double)
    place, gradient, density = np.zeros(compiled.n_dim), np.zeros(compiled.n_dim), np.zeros(1)
    pointers = [array.ctypes.data_as(double) for array in (place, gradient, density)]
    arguments = (compiled.n_dim, *pointers, compiled.user_data.ctypes.data)
    call = compiled.compiled_logp_func.ctypes

    def evaluate(point: np.ndarray) -> tuple[float, np.ndarray]:
        place[:] = point
        if call(*arguments):
            raise FloatingPointError("The log density or its gradient is not finite.")
        return float(density[0]), gradient

    return evaluate


def _peak_mib() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):  # not Linux; after a fork this may be the parent's
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(cell: Mapping) -> dict:
    """Compile a model of rows or counts, time its gradient, and sample it if that is soon done.

    Parameters
    ----------
    cell : mapping
        ``model``, ``form``, ``rows`` and ``parameterization``.

    Returns
    -------
    dict
        See `fit_rows`.
    """
    covariates, rows = cell["model"] == "covariates", int(cell["rows"])
    patterns = simulate_patterns(rows)
    before = _peak_mib()
    build: Callable[..., pm.Model]
    if cell["form"] == "rows":
        table, build = as_women(patterns), rows_model
    else:
        table, build = (patterns if covariates else per_district(patterns)), counts_model
    start = time.process_time()
    model = build(table, covariates=covariates, parameterization=cell["parameterization"])
    built = time.process_time()
    compiled = nutpie.compile_pymc_model(model)
    done = time.process_time()
    row: dict[str, Any] = {
        "lines": len(table),
        "build_seconds": built - start,
        "compile_seconds": done - built,
    }
    evaluate, point, times = gradient_of(compiled), np.zeros(compiled.n_dim), 0
    evaluate(point)
    start = time.process_time()
    while times < LEAST_TIMED or time.process_time() - start < TIMED_SECONDS:
        evaluate(point)
        times += 1
    row["gradient_seconds"] = (time.process_time() - start) / times
    row["sampled"] = cell["form"] == "counts" or rows <= SAMPLED_ROWS
    row |= _sampled(compiled, SEEDS[cell["form"]]) if row["sampled"] else dict.fromkeys(SAMPLED, np.nan)
    return row | {"start_mib": before, "peak_mib": _peak_mib()}


SAMPLED = (
    "sample_seconds", "gradients", "divergences", "rhat", "ess", "alpha_bar", "alpha_bar_mcse",
    "alpha_bar_sd", "sigma", "sigma_mcse", "sigma_sd",
)  # fmt: skip
"""Figures of a fit, missing where none was made."""


def _sampled(compiled: Any, seed: int) -> dict[str, float]:
    start = time.process_time()
    fit = nutpie.sample(
        compiled,
        draws=1000,
        tune=1000,
        chains=4,
        cores=1,
        seed=seed,
        progress_bar=False,
        save_warmup=True,
    )
    seconds = time.process_time() - start
    draws = fit["posterior"].to_dataset()[["alpha_bar", "sigma"]]
    ess, mcse, rhat = az.ess(draws), az.mcse(draws), az.rhat(draws)
    steps = fit["sample_stats"]["n_steps"].sum() + fit["warmup_sample_stats"]["n_steps"].sum()
    row = {
        "sample_seconds": seconds,
        "gradients": int(steps),
        "divergences": int(fit["sample_stats"]["diverging"].sum()),
        "rhat": max(float(rhat[name]) for name in draws),
        "ess": min(float(ess[name]) for name in draws),
    }
    for name in draws:
        row |= {
            str(name): float(draws[name].mean()),
            f"{name}_mcse": float(mcse[name]),
            f"{name}_sd": float(draws[name].std()),
        }
    return row


def fit_rows(cell: Mapping) -> dict:
    """Measure one form of one model in a process of its own; see `measure`.

    Parameters
    ----------
    cell : mapping
        ``model`` of `MODELS`, ``form`` of `FORMS`, ``rows``, ``parameterization``.

    Returns
    -------
    dict
        ``lines`` of the table that the model is given; processor seconds, which on an idle processor
        are those of a clock: ``build_seconds`` of PyMC's model,
        ``compile_seconds`` of nutpie, ``gradient_seconds`` of one evaluation of the log density and
        its gradient, ``sample_seconds`` of four chains of 1000 + 1000 draws on one core; ``sampled``,
        whether they were run; ``gradients`` with tuning; ``divergences``; ``rhat`` and ``ess``, the
        worse of ``alpha_bar`` and ``sigma``, with mean, ``_mcse`` and ``_sd`` of each; ``start_mib``
        before the women are there, and ``peak_mib``, the most memory that the process held.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker) as executor:
        return executor.submit(measure, dict(cell)).result()


def rows_design() -> pd.DataFrame:
    """Every model in every form at every length; counts per district centered and non-centered."""
    cells = [
        (model, form, rows, PARAMETERIZATIONS[rows])
        for model in MODELS
        for rows in ROWS
        for form in FORMS
    ]
    cells += [
        ("district", "counts", rows, form) for rows in ROWS for form in ("centered", "non-centered")
    ]
    columns = ["model", "form", "rows", "parameterization"]
    return pd.DataFrame([*dict.fromkeys(cells)], columns=columns)


def with_derived_times(fits: pd.DataFrame) -> pd.DataFrame:
    """Fill in how long rows would be sampled where they were not.

    The posterior is that of the counts, so the sampler would take about as many steps: the seconds of
    one gradient of the rows times the gradients of the fit to the counts.

    Parameters
    ----------
    fits : DataFrame
        As `fit_rows` makes them.

    Returns
    -------
    DataFrame
        With ``time``, ``"measured"`` or ``"derived"``, and ``sample_seconds``, ``gradients`` and ``ess``
        of all; ``needs_mib``, the memory beyond what the imports took.
    """
    alike = ["model", "rows", "parameterization"]
    counts = fits[fits["form"] == "counts"].set_index(alike)
    same = pd.MultiIndex.from_frame(fits[alike])
    found = fits.assign(time=np.where(fits["sampled"], "measured", "derived"))
    for name in ("gradients", "ess"):
        found[name] = fits[name].where(fits["sampled"], counts[name].reindex(same).to_numpy())
    derived = fits["gradient_seconds"] * found["gradients"]
    found["sample_seconds"] = fits["sample_seconds"].where(fits["sampled"], derived)
    found["needs_mib"] = fits["peak_mib"] - fits["start_mib"]
    return found


def _data() -> dict:
    return {
        "women": "simulated from districts, regions and children of data/bangladesh.csv",
        "seed": SEED,
    }


STUDIES = (
    Study(
        name="rows",
        title="what a row costs: a row per woman against counts, by the length of the table",
        design=rows_design,
        fit=fit_rows,
        group=("model", "form", "rows", "parameterization"),
        data=_data,
    ),
)
