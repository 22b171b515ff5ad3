"""Fits of the three districts with one fault each, for students to find."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.data import load_three_districts
from fieldguide.fits import sample_seeds
from fieldguide.models import varying_intercept_model
from fieldguide.priors import SIGMA_PRIOR
from fieldguide.reference import DistrictsPosterior, exact_posterior
from fieldguide.scores import score

FAULTS: dict[str, str] = {
    "neck": "the centered form: divergent transitions, and small values of sigma are missing",
    "few-draws": "100 draws a chain: noisy means, in a form that is sound",
    "mixed": "a chain from a run with another prior among the others: they do not agree",
    "other-prior": "a tighter prior on sigma than was said: no diagnostic can tell",
    "swapped": "the effects of two districts under each other's names: no diagnostic can tell",
    "sound": "nothing",
}
"""What is wrong with a fit, by its name."""

TROUBLE = 20
"""Divergences of 4000, at least, where a form must be in trouble."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "neck": {"parameterization": "centered", "target_accept": 0.8},
    "few-draws": {"draws": 100},
    "other-prior": {"scale": 0.1},
}


@cache
def _model(parameterization: str, scale: float | None) -> pm.Model:
    counts = load_three_districts()
    prior = SIGMA_PRIOR if scale is None else scipy.stats.halfnorm(scale=scale)
    return varying_intercept_model(
        counts["users"].to_numpy(),
        counts["women"].to_numpy(),
        parameterization=parameterization,
        sigma_prior=prior,
        district=list(counts.index),
    )


def faulty_fit(fault: str, seed: int) -> xr.DataTree:
    """Return a fit of the three districts, said to be of the book's model, with a fault.

    Parameters
    ----------
    fault : str
        One of `FAULTS`.
    seed : int
        Of the sampler.

    Returns
    -------
    DataTree
        ``posterior`` (``alpha_bar``, ``sigma`` and ``alpha`` by district) and ``sample_stats``, without
        the record of how it was made.

    Raises
    ------
    ValueError
        If there is no such fault.
    """
    if fault not in FAULTS:
        raise ValueError(f"There is no fault {fault!r}; there are {', '.join(FAULTS)}.")
    settings: dict[str, Any] = {
        "parameterization": "non-centered",
        "target_accept": 0.99,
        "scale": None,
        "cores": 1,
    }
    settings |= _SETTINGS.get(fault, {})
    model = _model(settings.pop("parameterization"), settings.pop("scale"))
    (fit,) = sample_seeds(model, [seed], **settings)
    posterior = fit["posterior"].to_dataset()[["alpha_bar", "sigma", "alpha"]]
    statistics = fit["sample_stats"].to_dataset()[["diverging", "energy", "n_steps", "step_size"]]
    if fault == "mixed":
        older = faulty_fit("other-prior", seed)
        place = seed % posterior.sizes["chain"]
        posterior = _with_chain(posterior, older["posterior"].to_dataset(), place)
        statistics = _with_chain(statistics, older["sample_stats"].to_dataset(), place)
    if fault == "swapped":
        order = posterior["district"].to_numpy()
        other = np.array([order[1], order[0], *order[2:]])
        posterior["alpha"] = posterior["alpha"].sel(district=other).assign_coords(district=order)
    for part in (posterior, statistics):
        part.attrs.clear()
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": statistics})


def look(fault: str, fit: xr.DataTree) -> dict:
    """Hold a fit against the exact answer, and say whether its fault shows as it should, alone.

    Parameters
    ----------
    fault : str
        One of `FAULTS`.
    fit : DataTree
        As `faulty_fit` returns it.

    Returns
    -------
    dict
        ``divergences``, ``rhat``, ``ess``, ``error`` (the largest of a mean, in posterior standard
        deviations) and ``shows``.
    """
    one = score(fit, _answer(), label="the student's fit")
    ess, error = min(one.ess_bulk, one.ess_tail), float(one.errors["sd_error"].abs().max())
    calm = one.divergences == 0
    quiet = not any(one.warnings.values())
    shows = {
        "neck": one.divergences >= TROUBLE,
        "few-draws": calm and ess < 200 and one.rhat < 1.1,
        "mixed": calm and one.rhat > 1.1,
        "other-prior": quiet and error > 0.4,
        "swapped": quiet and error > 0.4,
        "sound": quiet and error < 0.1,
    }
    figures = {"divergences": one.divergences, "rhat": one.rhat, "ess": ess, "error": error}
    return figures | {"shows": bool(shows[fault])}


@cache
def _answer() -> DistrictsPosterior:
    counts = load_three_districts()
    users, women = counts["users"].to_numpy(), counts["women"].to_numpy()
    return exact_posterior(users, women, sigma_prior=SIGMA_PRIOR, district=list(counts.index))


def _with_chain(chains: xr.Dataset, others: xr.Dataset, place: int) -> xr.Dataset:
    """Return chains, one of them taken from others."""
    kept = [others if k == place else chains for k in range(chains.sizes["chain"])]
    return xr.concat([part.isel(chain=[k]) for k, part in enumerate(kept)], dim="chain")
