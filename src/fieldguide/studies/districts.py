"""The case study: the factorial of form, prior and target over seeds, and the usual remedies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache

import nutpie
import pandas as pd
import pymc as pm
import scipy.stats

from fieldguide.grid import cross
from fieldguide.models import PARAMETERIZATIONS, marginal_model, recover_alpha, varying_intercept_model
from fieldguide.reference import exact_posterior
from fieldguide.scores import score
from fieldguide.studies import Study

SUCCESSES, TRIALS = (30, 7, 2), (117, 20, 2)
"""The book's three districts: women who use contraception, and women asked."""

PRIORS = {
    "Exponential(1)": scipy.stats.expon(),
    "HalfNormal(0.5)": scipy.stats.halfnorm(scale=0.5),
    "HalfNormal(0.25)": scipy.stats.halfnorm(scale=0.25),
    "HalfNormal(0.1)": scipy.stats.halfnorm(scale=0.1),
}
"""Priors on sigma, the published one first, ever tighter."""

TARGETS = (0.8, 0.9, 0.95, 0.99)
MODEL_COLUMNS = ["parameterization", "prior"]
"""Design columns that choose the compiled model."""

_compiling = threading.Lock()


@cache
def _exact(prior: str):
    return exact_posterior(SUCCESSES, TRIALS, sigma_prior=PRIORS[prior])


@cache
def _model(parameterization: str, prior: str) -> pm.Model:
    if parameterization == "marginal":
        return marginal_model(SUCCESSES, TRIALS, sigma_prior=PRIORS[prior])
    return varying_intercept_model(
        SUCCESSES, TRIALS, parameterization=parameterization, sigma_prior=PRIORS[prior]
    )


@cache
def _compiled(parameterization: str, prior: str):
    names = ["alpha_bar", "sigma"] + ["alpha"] * (parameterization != "marginal")
    return nutpie.compile_pymc_model(_model(parameterization, prior), var_names=names)


def fit_three_districts(cell: Mapping) -> dict:
    """Fit the three districts as one cell of a design says, and score the fit.

    Parameters
    ----------
    cell : mapping
        ``parameterization`` (one of `fieldguide.models.PARAMETERIZATIONS` or ``"marginal"``),
        ``prior`` (a key of `PRIORS`), ``target_accept``, ``seed``; optionally ``sampler``
        (``"nutpie"`` or ``"pymc"``), ``tune``, ``draws`` (1000 each, per chain, of 4 chains) and
        ``metric`` (``"diagonal"`` or ``"dense"``: nutpie's low-rank metric, PyMC's
        ``jitter+adapt_full``).

    Returns
    -------
    dict
        The figures of `fieldguide.scores.Score`, flat. ``seconds`` is the wall time of sampling
        four chains one after another, without compiling under nutpie and with it under PyMC.
    """
    model_name = cell["parameterization"], cell["prior"]
    tune, draws = int(cell.get("tune", 1000)), int(cell.get("draws", 1000))
    dense = cell.get("metric", "diagonal") == "dense"
    settings = {"draws": draws, "tune": tune, "chains": 4, "cores": 1}
    settings["target_accept"] = float(cell["target_accept"])
    seed = int(cell["seed"])
    if cell.get("sampler", "nutpie") == "pymc":
        start = time.perf_counter()
        with _model(*model_name):
            data = pm.sample(
                **settings,
                init="jitter+adapt_full" if dense else "jitter+adapt_diag",
                nuts_sampler="pymc",
                random_seed=seed,
                progressbar=False,
                quiet=True,
                compute_convergence_checks=False,
            )
    else:
        with _compiling:  # a worker may be a thread
            compiled = _compiled(*model_name)
        start = time.perf_counter()
        data = nutpie.sample(
            compiled,
            **settings,
            seed=seed,
            adaptation="low_rank" if dense else "diag",
            save_warmup=bool(cell.get("save_warmup", False)),
            progress_bar=False,
        )
    if cell["parameterization"] == "marginal":
        data = recover_alpha(data, SUCCESSES, TRIALS, seed=seed)
    seconds = time.perf_counter() - start
    row = score(data, _exact(cell["prior"]), label="", seconds=seconds).to_series().to_dict()
    return {name: value for name, value in row.items() if name != "label" and name not in cell}


def factorial_design(
    *,
    parameterizations: Iterable[str] = PARAMETERIZATIONS,
    priors: Iterable[str] = tuple(PRIORS),
    targets: Iterable[float] = TARGETS,
    seeds: Iterable[int] = range(20),
) -> pd.DataFrame:
    """Parameterization x prior on sigma x target_accept x seed; 1280 fits by default."""
    return cross(parameterization=parameterizations, prior=priors, target_accept=targets, seed=seeds)


def reduced_design() -> pd.DataFrame:
    """The part of the factorial that a page can make while it is built: 48 of the 1280 fits.

    All parameterizations, two priors, two target_accepts, the first three seeds.
    """
    return factorial_design(
        priors=("Exponential(1)", "HalfNormal(0.25)"), targets=(0.8, 0.95), seeds=range(3)
    )


def remedies_design(seeds: Iterable[int] = range(10)) -> pd.DataFrame:
    """What people reach for, one change at a time from the same start, under Exponential(1).

    Every remedy is tried on the centered and on the non-centered form at target_accept 0.8 (the
    districts integrated out have one form only).
    Columns as `fit_three_districts` reads them, and ``remedy``, the name of the change.
    """
    start = {
        "prior": "Exponential(1)",
        "target_accept": 0.8,
        "sampler": "nutpie",
        "tune": 1000,
        "draws": 1000,
        "metric": "diagonal",
        "save_warmup": True,
    }
    changes = {
        "none": {},
        "target_accept 0.95": {"target_accept": 0.95},
        "target_accept 0.99": {"target_accept": 0.99},
        "5 x tuning": {"tune": 5000},
        "10 x draws": {"draws": 10_000},
        "dense metric": {"metric": "dense"},
        "PyMC's sampler": {"sampler": "pymc"},
        "PyMC's sampler, target_accept 0.95": {"sampler": "pymc", "target_accept": 0.95},
        "PyMC's sampler, dense metric": {"sampler": "pymc", "metric": "dense"},
    }
    rows = [
        {"remedy": remedy, "parameterization": form} | start | change | {"seed": seed}
        for remedy, change in changes.items()
        for form in ("centered", "non-centered")
        for seed in seeds
    ]
    rows += [
        {"remedy": "districts integrated out", "parameterization": "marginal"} | start | {"seed": seed}
        for seed in seeds
    ]
    return pd.DataFrame(rows)


_DATA = {"successes": SUCCESSES, "trials": TRIALS}

STUDIES = (
    Study(
        "factorial",
        factorial_design,
        fit_three_districts,
        tuple(MODEL_COLUMNS),
        _DATA,
        "three districts: form x prior x target_accept over 20 seeds",
    ),
    Study(
        "remedies",
        remedies_design,
        fit_three_districts,
        tuple(MODEL_COLUMNS),
        _DATA,
        "three districts: what people reach for, one change at a time",
    ),
)
"""What `fieldguide.studies` makes stored tables of."""
