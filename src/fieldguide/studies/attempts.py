"""The book's attempts on the three districts: what each chain had learnt, and where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import xarray as xr

from fieldguide.data import load_three_districts
from fieldguide.fits import label, problem_of_fit, sample
from fieldguide.models import varying_intercept_model
from fieldguide.problem import count_digest
from fieldguide.published import NAMES
from fieldguide.studies import Study
from fieldguide.studies.districts import PRIORS

SEED = 19
"""Of the chapters (``RANDOM_SEED``)."""

CHAINS = 4

MADE_IN = (
    ("03_centered", "centered", "Exponential(1)", 0.8),
    ("04_target_accept", "centered", "Exponential(1)", 0.9),
    ("04_target_accept", "centered", "Exponential(1)", 0.99),
    ("05_tighter_priors", "centered", "HalfNormal(0.25)", 0.99),
    ("05_tighter_priors", "centered", "HalfNormal(0.1)", 0.99),
    ("06_non_centered", "non-centered", "HalfNormal(0.5)", 0.99),
    ("06_non_centered", "centered", "Exponential(1)", 0.95),
    ("06_non_centered", "non-centered", "Exponential(1)", 0.95),
)
"""Chapter, form, prior on sigma (a key of `PRIORS`) and target of each attempt."""

FIRST = ("alpha_bar", "sigma_log__")
"""The coordinates that stand before those of the districts."""


def attempts_design() -> pd.DataFrame:
    """Every chain of every attempt.

    Returns
    -------
    DataFrame
        ``attempt``, the published name or, where there is none, form and target; ``page``, where the
        attempt is made, from the root of the site; ``parameterization``, ``prior``,
        ``target_accept``, ``seed``, ``chain``.
    """
    return pd.DataFrame(
        {
            "attempt": NAMES.get((form, prior, target), f"{form}-{100 * target:.0f}"),
            "page": f"notebooks/{chapter}.html",
            "parameterization": form,
            "prior": prior,
            "target_accept": target,
            "seed": SEED,
            "chain": chain,
        }
        for chapter, form, prior, target in MADE_IN
        for chain in range(CHAINS)
    )


def sample_attempt(form: str, prior: str, target_accept: float, seed: int) -> xr.DataTree:
    """Make an attempt as its chapter does, and keep what the sampler writes down.

    Parameters
    ----------
    form : str
        One of `fieldguide.models.PARAMETERIZATIONS`.
    prior : str
        A key of `fieldguide.studies.districts.PRIORS`.
    target_accept : float
    seed : int

    Returns
    -------
    DataTree
        With metrics and unconstrained draws among its statistics, and those of the warm-up.
    """
    counts = load_three_districts()
    model = varying_intercept_model(
        counts["users"],
        counts["women"],
        parameterization=form,
        sigma_prior=PRIORS[prior],
        district=counts.index.tolist(),
    )
    return sample(
        draws=1000,
        tune=1000,
        chains=CHAINS,
        target_accept=target_accept,
        random_seed=seed,
        model=model,
        nuts_sampler="nutpie",
        nuts={"store_mass_matrix": True},
        idata_kwargs={"include_transformed": True},
        discard_tuned_samples=False,
        progressbar=False,
        quiet=True,
    )


_attempt = cache(sample_attempt)


def in_order(values: xr.DataArray) -> np.ndarray:
    """Return values of the sampler's coordinates as alpha_bar, log sigma, the districts' own.

    Parameters
    ----------
    values : DataArray, dimension ``unconstrained_parameter``
        Labelled with the names of the coordinates, in any order.
    """
    names = values["unconstrained_parameter"].to_numpy().tolist()
    rest = [name for name in names if name not in FIRST]
    own = sorted(rest, key=lambda name: int(name.rpartition("_")[2]))
    return values.sel(unconstrained_parameter=[*FIRST, *own]).to_numpy()


def fit_attempt(cell: Mapping) -> dict:
    """Make an attempt, and return what one of its chains had learnt and where it stopped.

    Parameters
    ----------
    cell : mapping
        A row of `attempts_design`.

    Returns
    -------
    dict
        ``label``; ``alpha_bar_prior``, as the model's graph has it; ``step``, to which the chain's
        step size had adapted, and around which nutpie scatters it by a tenth; ``scale_0`` ... its
        diagonal metric, as standard deviations, and ``position_0`` ... its last draw, in the
        coordinates alpha_bar, log sigma and the districts' own (effects or z); ``log_density`` there,
        as nutpie wrote it down; ``divergences`` and ``transitions`` after warm-up.
    """
    fit = _attempt(
        cell["parameterization"], cell["prior"], float(cell["target_accept"]), int(cell["seed"])
    )
    problem = problem_of_fit(fit)
    if problem is None or problem.prior("sigma") != cell["prior"]:
        raise ValueError(f"The fit is of {problem}, and not under {cell['prior']}.")
    chain = int(cell["chain"])
    of_chain = fit["sample_stats"].to_dataset().isel(chain=chain)
    metrics = fit["warmup_sample_stats"].to_dataset()["mass_matrix_inv"].isel(chain=chain)
    last = of_chain.isel(draw=-1)
    scale = in_order(metrics.dropna("draw").isel(draw=-1))
    position = in_order(last["unconstrained_draw"])
    return {
        "label": label(fit),
        "alpha_bar_prior": problem.prior("alpha_bar"),
        "step": float(last["step_size_bar"]),
        **{f"scale_{i}": float(value) for i, value in enumerate(scale)},
        **{f"position_{i}": float(value) for i, value in enumerate(position)},
        "log_density": float(last["logp"]),
        "divergences": int(of_chain["diverging"].sum()),
        "transitions": int(of_chain.sizes["draw"]),
    }


def _table() -> dict:
    counts = load_three_districts()
    digest = count_digest(counts.index, counts["users"], counts["women"])
    return {"table": "bangladesh.csv", "districts": counts.index.tolist(), "digest": digest}


STUDIES = (
    Study(
        "attempts",
        attempts_design,
        fit_attempt,
        ("parameterization", "prior", "target_accept"),
        _table,
        "three districts: step, metric and last draw of every chain of the book's attempts",
    ),
)
"""What `fieldguide.studies` makes stored tables of."""
