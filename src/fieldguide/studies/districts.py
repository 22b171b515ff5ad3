"""The case study: the factorial of form, prior and target over seeds, and the usual remedies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.data import load_three_districts
from fieldguide.fits import compiled_model, sample, sample_seeds
from fieldguide.grid import cross
from fieldguide.models import PARAMETERIZATIONS, marginal_model, recover_alpha, varying_intercept_model
from fieldguide.priors import SIGMA_PRIOR, prior_name
from fieldguide.problem import count_digest
from fieldguide.reference import DistrictsPosterior, exact_posterior
from fieldguide.scores import score
from fieldguide.studies import Study

_SCALES = (0.5, 0.25, 0.1)
PRIORS = {
    prior_name(prior): prior
    for prior in (SIGMA_PRIOR, *(scipy.stats.halfnorm(scale=scale) for scale in _SCALES))
}
"""Priors on sigma by their names, the published one first, ever tighter."""

TARGETS = (0.8, 0.9, 0.95, 0.99)
MODEL_COLUMNS = ["parameterization", "prior"]
"""Design columns that choose the compiled model."""

INIT = {"diag": "jitter+adapt_diag", "dense": "jitter+adapt_full"}
"""What PyMC calls its metrics."""

_compiling = threading.Lock()


@cache
def _counts() -> tuple[np.ndarray, np.ndarray]:
    """Women who use contraception in districts 1, 2 and 3, and women asked."""
    counts = load_three_districts()
    return counts["users"].to_numpy(), counts["women"].to_numpy()


@cache
def _exact(prior: str) -> DistrictsPosterior:
    return exact_posterior(*_counts(), sigma_prior=PRIORS[prior])


@cache
def _model(parameterization: str, prior: str) -> pm.Model:
    if parameterization == "marginal":
        return marginal_model(*_counts(), sigma_prior=PRIORS[prior])
    return varying_intercept_model(
        *_counts(), parameterization=parameterization, sigma_prior=PRIORS[prior]
    )


def fit_three_districts(cell: Mapping) -> dict:
    """Fit the three districts as one cell of a design says, and score the fit.

    Parameters
    ----------
    cell : mapping
        ``parameterization`` (one of `fieldguide.models.PARAMETERIZATIONS` or ``"marginal"``),
        ``prior`` (a key of `PRIORS`), ``target_accept``, ``seed``; optionally ``sampler``
        (``"nutpie"`` or ``"pymc"``), ``tune``, ``draws`` (1000 each, per chain, of 4 chains) and
        ``metric`` (``"diag"``; ``"low_rank"`` with nutpie, ``"dense"`` with PyMC) and
        ``save_warmup`` (False; with nutpie).

    Returns
    -------
    dict
        The figures of `fieldguide.scores.Score`, flat. ``seconds`` is the wall time of sampling
        four chains one after another, without compiling under nutpie and with it under PyMC.
    """
    draws = sample_three_districts(cell)
    row = score(draws, _exact(cell["prior"])).to_series().to_dict()
    return {name: value for name, value in row.items() if name != "label" and name not in cell}


def sample_three_districts(cell: Mapping) -> xr.DataTree:
    """Sample the three districts as one cell of a design says.

    Parameters
    ----------
    cell : mapping
        See `fit_three_districts`.

    Returns
    -------
    DataTree
        Four chains, with their record (`fieldguide.fits.record`) and the wall time of sampling.
    """
    model = _model(cell["parameterization"], cell["prior"])
    metric = cell.get("metric", "diag")
    settings: dict[str, Any] = {
        "draws": int(cell.get("draws", 1000)),
        "tune": int(cell.get("tune", 1000)),
        "target_accept": float(cell["target_accept"]),
        "cores": 1,
    }
    seed = int(cell["seed"])
    if cell.get("sampler", "nutpie") == "pymc":
        start = time.perf_counter()
        draws = sample(
            **settings,
            model=model,
            init=INIT[metric],
            nuts_sampler="pymc",
            random_seed=seed,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
        )
    else:
        with _compiling:  # a worker may be a thread
            compiled_model(model)
        start = time.perf_counter()
        (draws,) = sample_seeds(
            model,
            [seed],
            **settings,
            adaptation=metric,
            save_warmup=bool(cell.get("save_warmup", False)),
        )
    if cell["parameterization"] == "marginal":
        draws = recover_alpha(draws, *_counts(), seed=seed)
    draws["posterior"].attrs["sampling_time"] = time.perf_counter() - start
    return draws


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
    """The part of the factorial that a page can make while it is built: 24 of the 1280 fits.

    All parameterizations, one prior (each model is compiled), two target_accepts, the first three seeds.
    """
    return factorial_design(priors=("Exponential(1)",), targets=(0.8, 0.95), seeds=range(3))


def remedies_design(seeds: Iterable[int] = range(10)) -> pd.DataFrame:
    """What people reach for, one change at a time from the same start, under Exponential(1).

    Every remedy is tried on the centered and on the non-centered form at target_accept 0.8 (the
    districts integrated out have one form only).
    Columns as `fit_three_districts` reads them, and ``remedy``, the name of the change.
    """
    start: dict[str, Any] = {
        "prior": "Exponential(1)",
        "target_accept": 0.8,
        "sampler": "nutpie",
        "tune": 1000,
        "draws": 1000,
        "metric": "diag",
        "save_warmup": True,
    }
    changes: dict[str, dict] = {
        "none": {},
        "target_accept 0.95": {"target_accept": 0.95},
        "target_accept 0.99": {"target_accept": 0.99},
        "5 x tuning": {"tune": 5000},
        "10 x draws": {"draws": 10_000},
        "low-rank metric": {"metric": "low_rank"},
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


def _table() -> dict:
    digest = count_digest(load_three_districts().index, *_counts())
    return {"table": "bangladesh.csv", "districts": [1, 2, 3], "digest": digest}


STUDIES = (
    Study(
        "factorial",
        factorial_design,
        fit_three_districts,
        tuple(MODEL_COLUMNS),
        _table,
        "three districts: form x prior x target_accept over 20 seeds",
    ),
    Study(
        "remedies",
        remedies_design,
        fit_three_districts,
        tuple(MODEL_COLUMNS),
        _table,
        "three districts: what people reach for, one change at a time",
    ),
)
"""What `fieldguide.studies` makes stored tables of."""
