"""The published case study's figures, and how a fit of ours and the exact answer compare with them."""

from __future__ import annotations

from functools import cache
from typing import cast

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from fieldguide.data import load_three_districts, quoted
from fieldguide.problem import Problem, count_digest
from fieldguide.reference import Reference

NAMES = {
    ("fixed", None, 0.8): "mfe",
    ("centered", "Exponential(1)", 0.8): "mme0",
    ("centered", "Exponential(1)", 0.9): "mme1",
    ("centered", "Exponential(1)", 0.99): "mme2",
    ("centered", "HalfNormal(0.25)", 0.99): "mme3",
    ("centered", "HalfNormal(0.1)", 0.99): "mme3b",
    ("non-centered", "HalfNormal(0.5)", 0.99): "mme4",
}
"""What the published analysis calls its models: form, prior on sigma, target_accept."""


@cache
def published() -> dict:
    """Return what the published analysis printed, by model (``data/published.json``)."""
    return quoted("published")


@cache
def _data_digest() -> str:
    counts = load_three_districts()
    return count_digest(counts.index, counts["users"], counts["women"])


def published_name(problem: Problem, parameterization: str, target_accept: float) -> str | None:
    """Return what the published analysis calls a fit of this kind; None if it has none.

    Parameters
    ----------
    problem : Problem
        Model, priors and data of the fit.
    parameterization : str
        Its form.
    target_accept : float
        Its target.
    """
    prior = dict(problem.priors).get("sigma")
    name = NAMES.get((parameterization, prior, target_accept))
    return name if name is not None and problem.data == _data_digest() else None


def published_summary(model: str) -> pd.DataFrame:
    """Return the published summary table of one model.

    Parameters
    ----------
    model : {"mfe", "mme0", "mme1", "mme2", "mme3b", "mme4"}
        The published name of the model.

    Returns
    -------
    pandas.DataFrame
        Indexed by variable as ``az.summary`` names it (districts are 1, 2, 3), on the logit scale.

    Raises
    ------
    KeyError
        If no table was published for this model.
    """
    entry = published()["models"].get(model, {})
    if "summary" not in entry:
        raise KeyError(f"no summary was published for {model!r}")
    return pd.DataFrame.from_dict(entry["summary"], orient="index", columns=published()["columns"])


def published_errors(model: str, exact: Reference) -> pd.Series:
    """Return how far the published means are from the exact ones, in their own MCSE.

    Parameters
    ----------
    model : str
        The published name of the model.
    exact : Reference
        The exact answer of that model.

    Returns
    -------
    pandas.Series
        Indexed by variable; those without an exact mean are left out.
    """
    theirs, means = published_summary(model), exact.to_series()
    theirs = theirs.loc[theirs.index.intersection(means.index, sort=False)]
    return (theirs["mean"] - means[theirs.index]) / theirs["mcse_mean"]


def compare_with_published(fit: xr.DataTree, exact: Reference) -> pd.DataFrame:
    """Put the means of a fit beside the published ones and the exact ones.

    Parameters
    ----------
    fit : DataTree
        Of a published model; its attributes say which.
    exact : Reference
        The exact answer of that model.

    Returns
    -------
    pandas.DataFrame
        Indexed by variable; ``ours``, ``published``, ``exact`` (NaN where there is none; logits),
        ``in MCSE``: ours less published, in Monte Carlo standard errors of that difference, and
        ``published, from exact, in its MCSE``.

    Raises
    ------
    UnlabelledFitError
        If the fit does not say what it is.
    ProblemError
        If the exact answer is of another problem than the fit.
    KeyError
        If no table was published for this model.
    """
    from fieldguide.fits import _said  # not above: fits imports this module

    problem = _said(fit)
    problem.check_same(exact.problem)
    form, target = fit.attrs["parameterization"], fit.attrs["target_accept"]
    model = cast("str", published_name(problem, form, target))
    theirs = published_summary(model)
    ours = az.summary(fit, round_to="none").loc[theirs.index]
    error = np.hypot(ours["mcse_mean"], theirs["mcse_mean"])
    return pd.DataFrame(
        {
            "ours": ours["mean"],
            "published": theirs["mean"],
            "exact": exact.to_series().reindex(theirs.index),
            "in MCSE": (ours["mean"] - theirs["mean"]) / error,
            "published, from exact, in its MCSE": published_errors(model, exact).reindex(theirs.index),
        }
    ).rename_axis(model)
