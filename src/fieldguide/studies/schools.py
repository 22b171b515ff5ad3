"""The schools: ways to sample the varying-intercept, varying-slope model, each with several seeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd
import xarray as xr

from fieldguide.data import load_schools
from fieldguide.fits import compiled_model, record, sample_seeds
from fieldguide.models.graph import parameterization_of, problem_of
from fieldguide.models.schools import (
    FORMULA,
    LKJ_ETA,
    PRIORS,
    bambi_schools,
    from_bambi,
    schools_model,
    with_catholic,
)
from fieldguide.reference.schools import SchoolsPosterior, schools_posterior
from fieldguide.reml import cross_products
from fieldguide.scores import score
from fieldguide.studies import Study

FORMS = [
    ("PyMC", "integrated", "sums", "scaled", 3),
    ("PyMC", "non-centered", "sums", "scaled", 3),
    ("PyMC", "non-centered", "sums", "packed", 3),
    ("PyMC", "centered", "sums", "packed", 20),
    ("Bambi", "centered", "rows", "independent", 3),
    ("Bambi", "non-centered", "rows", "independent", 3),
    ("PyMC", "non-centered", "rows", "packed", 3),
    ("PyMC", "centered", "rows", "packed", 3),
]
"""Library, parameterization, likelihood, coordinates of the covariance, and number of seeds."""

SHARES = (0.05, 0.01)
"""Exact probabilities of the smallest sds of the slopes, below which draws are counted."""

_compiling = threading.Lock()


@cache
def _exact(library: str) -> SchoolsPosterior:
    sums = cross_products(FORMULA, with_catholic(load_schools()))
    return schools_posterior(sums, lkj_eta=None if library == "Bambi" else LKJ_ETA, **PRIORS)


@cache
def _model(library: str, parameterization: str, likelihood: str, coordinates: str) -> Any:
    schools = load_schools()
    if library == "Bambi":
        return bambi_schools(schools, noncentered=parameterization == "non-centered")
    return schools_model(
        schools, parameterization=parameterization, coordinates=coordinates, rows=likelihood == "rows"
    )


def form_label(cell: Mapping) -> str:
    """Name a cell of the design as the pages do, such as ``PyMC, non-centered, sums``."""
    words = [cell["library"], cell["parameterization"]]
    if cell["library"] == "PyMC" and cell["parameterization"] != "integrated":
        words.append(cell["likelihood"])
        if cell["coordinates"] == "scaled":
            words.append("sd and r")
    return ", ".join(words)


def sample_schools(cell: Mapping) -> xr.DataTree:
    """Sample the schools' model as one cell of the design says.

    Parameters
    ----------
    cell : mapping
        ``library``, ``parameterization``, ``likelihood``, ``coordinates`` (see `FORMS`), ``seed``.

    Returns
    -------
    DataTree
        Four chains of 1000 + 1000 draws at target_accept 0.8, with its record.
    """
    form = tuple(cell[name] for name in ("library", "parameterization", "likelihood", "coordinates"))
    seed = int(cell["seed"])
    with _compiling:  # a worker may be a thread
        model = _model(*form)
        if cell["library"] == "PyMC":
            compiled_model(model)
    if cell["library"] == "PyMC":
        start = time.perf_counter()
        (draws,) = sample_seeds(model, [seed])
        draws["posterior"].attrs["sampling_time"] = time.perf_counter() - start
        return draws
    draws = model.fit(
        draws=1000,
        tune=1000,
        chains=4,
        random_seed=seed,
        inference_method="nutpie",  # as for the other forms, so that the form is what differs
        progressbar=False,
    )
    graph = model.backend.model
    return from_bambi(record(draws, problem_of(graph), parameterization_of(graph), seed=seed))


def fit_schools(cell: Mapping) -> dict:
    """Fit the schools as one cell of the design says, and score the fit.

    Parameters
    ----------
    cell : mapping
        See `sample_schools`.

    Returns
    -------
    dict
        ``label`` (see `form_label`); the figures of `fieldguide.scores.Score`, flat, with errors in
        posterior sds; ``share_below_5%`` and ``share_below_1%``, the shares of draws where the
        exact answer has these probabilities at the smallest sds of the slopes; and
        ``seconds_in_all``, the wall time with compilation where there was one.
    """
    start = time.perf_counter()
    draws = sample_schools(cell)
    seconds = time.perf_counter() - start
    exact = _exact(cell["library"])
    row: Any
    row = score(draws, exact, label=form_label(cell)).to_series()
    row = row[[name for name in row.index if not name.startswith("mcse_error")]].to_dict()
    for share in SHARES:
        cut = float(exact.quantile(share, var_names=["sd_slope"])["sd_slope"])
        row[f"share_below_{share:.0%}"] = float((draws["posterior"]["sd_slope"] < cut).mean())
    return row | {"seconds_in_all": seconds}


def schools_design() -> pd.DataFrame:
    """Every form with its seeds; the centered form on sums with more, because its fits differ most."""
    columns = ["library", "parameterization", "likelihood", "coordinates", "seed"]
    rows = [(*form, seed) for *form, seeds in FORMS for seed in range(1, seeds + 1)]
    return pd.DataFrame(rows, columns=columns)


def _table() -> dict:
    sums = cross_products(FORMULA, with_catholic(load_schools()))
    return {"table": "schools.csv", "formula": FORMULA, "digest": sums.digest}


STUDIES = (
    Study(
        name="singular_fits",
        title="ways to sample the schools' model: library, form, rows or sums",
        design=schools_design,
        fit=fit_schools,
        group=("library", "parameterization", "likelihood", "coordinates"),
        data=_table,
    ),
)
