"""Sixty districts: when the forms break, by number of districts, women in each, and true spread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from scipy.special import expit

from fieldguide.data import count_by_district, load_bangladesh
from fieldguide.fits import compiled_model, sample_seeds
from fieldguide.grid import cross
from fieldguide.models.districts import centering_weights, varying_intercept_model
from fieldguide.models.graph import as_pymc_prior, problem_of
from fieldguide.priors import ALPHA_PRIOR, SIGMA_PRIOR
from fieldguide.problem import count_digest
from fieldguide.reference.districts import DistrictsPosterior, exact_posterior
from fieldguide.scores import score
from fieldguide.studies import Study

FORMS = ("centered", "non-centered", "partial")
"""Parameterizations that are compared; the last one mixes the others district by district."""

WEIGHTS_SIGMAS = (0.25, 0.5, 1.0)
"""Spreads (logit) at which the centering weights of the partial form are right."""

NUMBERS = (2, 3, 4, 5, 8, 12, 20, 40, 60)
"""Numbers of districts of which subsets of the survey are made."""

WOMEN = (1, 3, 10, 30, 100, 300, 1000, 10_000)
"""Women per district of simulated surveys."""

PHASE_WOMEN = (1, 4, 15, 50, 200, 700, 2500, 10_000)
"""Women per district of the phase diagram."""

SPREADS = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.75, 3.0)
"""True standard deviations between districts (logit) of the phase diagram."""

DESIGN_COLUMNS = (
    "number", "women", "spread", "data_seed", "seed", "parameterization", "weights_sigma"
)  # fmt: skip
"""What the three designs vary; each has some of them."""

_compiling = threading.Lock()


@cache
def survey() -> pd.DataFrame:
    """Return women and users of contraception in the survey's 60 districts."""
    return count_by_district(load_bangladesh())


@cache
def population() -> tuple[float, float]:
    """Return the survey's exact posterior means of ``alpha_bar`` and ``sigma`` (logit)."""
    exact = exact_posterior(
        survey()["users"].to_numpy(), survey()["women"].to_numpy(), sigma_prior=SIGMA_PRIOR
    )
    return float(exact.mean["alpha_bar"]), float(exact.mean["sigma"])


def subset(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw districts of the survey without replacement.

    Parameters
    ----------
    number : int
        How many, from 1 to 60.
    seed : int
        Of the draw; of all 60 districts there is one subset only.

    Returns
    -------
    users, women : ndarray of int, shape (number,)
        Counts, in the order of the survey.

    Raises
    ------
    ValueError
        If the survey has no such subset.
    """
    counts = survey()
    if not 1 <= number <= len(counts) or number != int(number):
        raise ValueError(
            f"number is {number!r}; the survey has {len(counts)} districts, so give a whole number from "
            f"1 to {len(counts)}."
        )
    rng = np.random.default_rng([seed, number])
    chosen = np.sort(rng.choice(len(counts), size=int(number), replace=False))
    return counts["users"].to_numpy()[chosen], counts["women"].to_numpy()[chosen]


def simulated(
    number: int, women: int, seed: int, spread: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a survey with equally many women in each district.

    The districts' standardised effects belong to the seed and the number of districts, so that
    surveys of one seed differ in what is varied and in the women's answers only.

    Parameters
    ----------
    number : int
        Of districts.
    women : int
        In each district.
    seed : int
        Of the simulation.
    spread : float, optional
        True standard deviation between the districts (logit); the survey's by default. The true mean
        is always the survey's (see `population`).

    Returns
    -------
    users, women : ndarray of int, shape (number,)

    Raises
    ------
    ValueError
        If a number is not positive, or those of districts and women are not whole.
    """
    for name, value in {"number": number, "women": women}.items():
        if value < 1 or value != int(value):
            raise ValueError(f"{name} is {value!r}; give a whole number of at least 1.")
    mean, sd = population()
    sd = sd if spread is None else float(spread)
    if not (np.isfinite(sd) and sd > 0):
        raise ValueError(f"spread is {spread!r}; give a positive number of logits.")
    alpha = mean + sd * np.random.default_rng([seed, int(number)]).standard_normal(int(number))
    rng = np.random.default_rng([seed, int(number), int(women), round(1000 * sd)])
    trials = np.full(int(number), int(women))
    return rng.binomial(trials, expit(alpha)), trials


def counts_of(cell: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Return users and women per district of a cell of one of the three designs.

    Parameters
    ----------
    cell : mapping
        ``number`` and ``data_seed`` (of subset or simulation); with ``women`` the survey is
        simulated, without it is a subset of the real one; ``spread`` (logit) if not the survey's.

    Returns
    -------
    users, women : ndarray of int, shape (number,)
    """
    number, seed = int(cell["number"]), int(cell["data_seed"])
    if "women" not in cell:
        return subset(number, seed)
    return simulated(number, int(cell["women"]), seed, cell.get("spread"))


def partial_model(successes: np.ndarray, trials: np.ndarray) -> pm.Model:
    """Return the partial form whose counts and centering weights (``weights``) are ``pm.Data``.

    The density is that of ``varying_intercept_model`` with ``parameterization="partial"``; there the
    weights stand in the graph, so that each data set would be compiled anew.
    """
    with pm.Model(coords={"district": range(1, len(successes) + 1)}) as model:
        y = pm.Data("successes_data", successes, dims="district")
        n = pm.Data("trials", trials, dims="district")
        w = pm.Data("weights", centering_weights(successes, trials), dims="district")
        alpha_bar = as_pymc_prior("alpha_bar", ALPHA_PRIOR)
        sigma = as_pymc_prior("sigma", SIGMA_PRIOR)
        x = pm.Normal("x", w * alpha_bar, sigma**w, dims="district")
        alpha = pm.Deterministic(
            "alpha", alpha_bar + sigma ** (1 - w) * (x - w * alpha_bar), dims="district"
        )
        pm.Binomial("successes", n=n, logit_p=alpha, observed=y, dims="district")
    return model


@cache
def _model(form: str, number: int) -> pm.Model:
    """A model whose counts are replaced for every fit."""
    successes, trials = np.arange(number) % 3, np.full(number, 4)
    if form == "partial":
        model = partial_model(successes, trials)
    else:
        model = varying_intercept_model(successes, trials, parameterization=form, mutable=True)
    problem_of(model)  # it is verified once, and not while a fit is timed
    return model


@lru_cache(maxsize=16)
def _exact(counts: tuple[tuple[int, ...], tuple[int, ...]]) -> DistrictsPosterior:
    return exact_posterior(*counts, sigma_prior=SIGMA_PRIOR)


def sample_districts(cell: Mapping) -> xr.DataTree:
    """Sample the varying-intercept model of a cell of one of the three designs.

    Parameters
    ----------
    cell : mapping
        What `counts_of` reads; ``parameterization`` (one of `FORMS`) and ``seed`` of the sampler;
        for the partial form ``weights_sigma``, the spread (logit) at which its weights are right;
        perhaps ``draws`` and ``tune`` (1000 each, per chain).

    Returns
    -------
    DataTree
        Four chains of nutpie at target_accept 0.8, one after the other, with their record. The
        attribute ``sampling_time`` of the posterior is the wall time in seconds without compiling.

    Raises
    ------
    ValueError
        If the form is none of `FORMS`, or the counts or the spread of the weights make no sense.
    """
    form = cell["parameterization"]
    if form not in FORMS:
        raise ValueError(f"Unknown parameterization {form!r}; use one of {', '.join(FORMS)}.")
    users, women = counts_of(cell)
    data: dict[str, Any] = {"successes_data": users, "trials": women}
    if form == "partial":
        sigma = float(cell.get("weights_sigma", 0))
        if not sigma > 0:
            raise ValueError(f"weights_sigma is {sigma:g}; the partial form needs a positive spread.")
        data["weights"] = centering_weights(users, women, sigma)
    with _compiling:  # a worker may be a thread, and the model's data are changed and read
        model = _model(form, len(users))
        compiled_model(model)
        start = time.perf_counter()
        (fit,) = sample_seeds(
            model,
            [int(cell["seed"])],
            data=data,
            draws=int(cell.get("draws", 1000)),
            tune=int(cell.get("tune", 1000)),
            cores=1,
        )
    fit["posterior"].attrs["sampling_time"] = time.perf_counter() - start
    return fit


def fit_districts(cell: Mapping) -> dict[str, float]:
    """Fit one cell of the three designs, and hold it against the exact answer.

    Parameters
    ----------
    cell : mapping
        See `sample_districts`.

    Returns
    -------
    dict
        ``divergences``, ``gradients`` (after tuning), ``rhat``, ``ess_bulk``, ``ess_tail`` (the
        worst over alpha_bar, sigma and all alphas), ``bfmi``, ``step_size``, ``seconds`` (wall time
        of four chains one after the other, tuning included, compiling not), ``missing_share`` and
        ``unreached`` (see `fieldguide.scores.Score`); errors of posterior means in exact posterior
        sds, signed: ``sd_error:alpha_bar``, ``sd_error:sigma`` and ``sd_error:worst``;
        ``log_sd_error:sigma``, the log of sigma's posterior sd over the exact one; sigma's exact
        mean, sd and quantiles, ``exact_sigma``, ``exact_sigma_sd``, ``exact_sigma_05``,
        ``exact_sigma_50`` and ``exact_sigma_95`` (logit); ``information``, the mean over the
        districts of n p (1 - p) with the pooled proportion, and the smallest and largest of a
        district, ``information_low`` and ``information_high`` (1 / logit squared).
    """
    users, women = counts_of(cell)
    exact = _exact((tuple(users.tolist()), tuple(women.tolist())))
    found = score(sample_districts(cell), exact)
    table: Any = found.errors
    errors, sigma = table["sd_error"], table.loc["sigma"]
    knows = district_information(users, women)
    kept = (
        "divergences", "gradients", "rhat", "ess_bulk", "ess_tail", "bfmi", "step_size", "seconds",
        "missing_share", "unreached",
    )  # fmt: skip
    return {
        **{name: getattr(found, name) for name in kept},
        "sd_error:alpha_bar": float(errors["alpha_bar"]),
        "sd_error:sigma": float(errors["sigma"]),
        "sd_error:worst": float(errors[errors.abs().idxmax()]),
        "log_sd_error:sigma": float(np.log(sigma["sd"] / sigma["exact_sd"])),
        "exact_sigma": float(sigma["exact_mean"]),
        "exact_sigma_sd": float(sigma["exact_sd"]),
        **{
            f"exact_sigma_{percent:02d}": float(
                exact.quantile(percent / 100, var_names=["sigma"])["sigma"]
            )
            for percent in (5, 50, 95)
        },
        "information": float(knows.mean()),
        "information_low": float(knows.min()),
        "information_high": float(knows.max()),
    }


def district_information(successes: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Return what each district's counts say of its own logit: n p (1 - p), p pooled.

    As in `fieldguide.models.districts.centering_weights`.

    Parameters
    ----------
    successes, trials : ndarray of int, shape (district,)

    Returns
    -------
    ndarray, shape (district,)
        In 1 / logit squared.
    """
    p = (successes.sum() + 0.5) / (trials.sum() + 1)
    return trials * p * (1 - p)


# ---------------------------------------------------------------------------------------------
# Designs


def _with_forms(cells: pd.DataFrame, weights: Iterable[float | str]) -> pd.DataFrame:
    """Every cell in the centered, the non-centered and the partial form, one after the other.

    ``weights_sigma`` is 0 for the first two; ``"spread"`` among the weights is the cell's own.
    """
    forms: list[tuple[str, float | str]] = [("centered", 0.0), ("non-centered", 0.0)]
    forms += [("partial", sigma) for sigma in weights]
    rows = [
        dict(cell)
        | {
            "parameterization": form,
            "weights_sigma": float(cell["spread"] if sigma == "spread" else sigma),
        }
        for cell in cells.to_dict("records")
        for form, sigma in forms
    ]
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def number_design(
    *,
    numbers: Iterable[int] = NUMBERS,
    subsets: Iterable[int] = range(10),
    seeds: Iterable[int] = (1, 2),
    all_seeds: Iterable[int] = range(1, 11),
    weights: Iterable[float] = WEIGHTS_SIGMAS,
) -> pd.DataFrame:
    """Subsets of the survey's districts x form x seed of the sampler.

    Parameters
    ----------
    numbers : iterable of int
        Of districts.
    subsets : iterable of int
        Seeds of the subsets (``data_seed``) of each number below 60.
    seeds, all_seeds : iterable of int
        Of the sampler, for each subset and for all 60 districts.
    weights : iterable of float
        Spreads at which the partial form's weights are right.
    """
    subsets, seeds, everyone = list(subsets), list(seeds), len(survey())
    parts = [
        cross(number=[number], data_seed=[0], seed=list(all_seeds))
        if number == everyone
        else cross(number=[number], data_seed=subsets, seed=seeds)
        for number in numbers
    ]
    return _with_forms(pd.concat(parts, ignore_index=True), list(weights))


def women_design(
    *,
    numbers: Iterable[int] = (3, 20),
    women: Iterable[int] = WOMEN,
    data_seeds: Iterable[int] = range(10),
    weights: Iterable[float] = (0.25, 0.5),
) -> pd.DataFrame:
    """Women per district of surveys simulated from the survey's population x form."""
    cells = cross(number=numbers, women=women, data_seed=data_seeds, seed=[1])
    return _with_forms(cells, list(weights))


def phase_design(
    *,
    numbers: Iterable[int] = (20, 8),
    women: Iterable[int] = PHASE_WOMEN,
    spreads: Iterable[float] = SPREADS,
    data_seeds: Iterable[int] = range(4),
    weights: Iterable[float | str] = (0.25, "spread"),
) -> pd.DataFrame:
    """Women per district x true spread x form; the partial form for the first number only."""
    first, *others = numbers
    women, spreads, data_seeds = list(women), list(spreads), list(data_seeds)
    parts = []
    for number in (first, *others):
        cells = cross(number=[number], women=women, spread=spreads, data_seed=data_seeds, seed=[1])
        parts.append(_with_forms(cells, list(weights) if number == first else []))
    return pd.concat(parts, ignore_index=True)


def reduced_design() -> pd.DataFrame:
    """The part of `number_design` that a page can make while it is built: 8 of its fits."""
    return number_design(numbers=(3, 20), subsets=(0, 1), seeds=(1,), weights=())


def again(rows: pd.DataFrame) -> pd.DataFrame:
    """Make some rows of a stored table again.

    Parameters
    ----------
    rows : DataFrame
        Of ``districts_number``, ``districts_women`` or ``districts_phase``, or of their designs.

    Returns
    -------
    DataFrame
        The columns of the design and the figures of `fit_districts`, in the order and with the index
        of the rows.

    Raises
    ------
    ValueError
        If the rows are of another table.
    """
    keys = [name for name in DESIGN_COLUMNS if name in rows.columns]
    missing = {"number", "data_seed", "seed", "parameterization", "weights_sigma"} - set(keys)
    if missing:
        raise ValueError(
            f"The rows lack {', '.join(sorted(missing))}; give rows of a stored table such as "
            "districts_number."
        )
    made = [cell | fit_districts(cell) for cell in rows[keys].to_dict("records")]
    return pd.DataFrame(made, index=rows.index)


# ---------------------------------------------------------------------------------------------
# What is stored


def _survey_table() -> dict:
    counts = survey()
    digest = count_digest(counts.index, counts["users"].to_numpy(), counts["women"].to_numpy())
    return {"table": "bangladesh.csv", "digest": digest}


def _simulated() -> dict:
    return {"simulated": "fieldguide.studies.sixty.simulated", "population": _survey_table()}


STUDIES = (
    Study(
        name="districts_number",
        title="subsets of 2 to 60 districts of the survey, in every form",
        design=number_design,
        fit=fit_districts,
        group=("number",),
        data=_survey_table,
    ),
    Study(
        name="districts_women",
        title="1 to 10,000 women in each of 3 or 20 simulated districts, in every form",
        design=women_design,
        fit=fit_districts,
        group=("number",),
        data=_simulated,
    ),
    Study(
        name="districts_phase",
        title="which form wins: women per district x true spread between the districts",
        design=phase_design,
        fit=fit_districts,
        group=("number",),
        data=_simulated,
    ),
)
"""What `fieldguide.studies` makes stored tables of."""
