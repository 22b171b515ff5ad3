"""The three districts with one tuning and several samplers: what makes their divergences differ."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr

from fieldguide.data import load_three_districts
from fieldguide.fits import sample_seeds
from fieldguide.grid import cross
from fieldguide.models import varying_intercept_model
from fieldguide.nuts import RULES, NoUTurn
from fieldguide.problem import count_digest
from fieldguide.studies import Study

PATHS = ("nutpie", *RULES, "PyMC")
"""Who follows the paths: nutpie itself, our sampler with either rule to stop by, and PyMC's own."""

METRICS = ("diag", "draw_diag")
"""Diagonal metrics as nutpie adapts them: from draws and gradients, or from draws alone."""


@cache
def _counts() -> tuple[np.ndarray, np.ndarray]:
    counts = load_three_districts()
    return counts["users"].to_numpy(), counts["women"].to_numpy()


@cache
def _model(parameterization: str) -> pm.Model:
    return varying_intercept_model(*_counts(), parameterization=parameterization)


@cache
def _tuned(parameterization: str, metric: str, seed: int) -> xr.DataTree:
    """Tune and sample with nutpie; the others are given what its four chains have learnt."""
    (fit,) = sample_seeds(
        _model(parameterization),
        [seed],
        cores=1,
        adaptation=metric,
        store_mass_matrix=True,
        store_unconstrained=True,
        save_warmup=True,
    )
    return fit


def _tuning(fit: xr.DataTree, chain: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Step, metric (as standard deviations) and last position of a chain."""
    of_chain = fit["sample_stats"].to_dataset().isel(chain=chain)
    learnt = fit["warmup_sample_stats"]["mass_matrix_inv"].isel(chain=chain).dropna("draw")
    last = of_chain["unconstrained_draw"].isel(draw=-1).to_numpy()
    return float(of_chain["step_size_bar"][-1]), learnt.isel(draw=-1).to_numpy(), last


def fit_with_given_tuning(cell: Mapping) -> dict:
    """Sample with the step and the metric that nutpie found, and count divergences.

    Parameters
    ----------
    cell : mapping
        ``parameterization``, ``metric`` (one of `METRICS`), ``paths`` (one of `PATHS`), ``seed``.

    Returns
    -------
    dict
        ``divergences`` and ``gradients`` of four chains of 1000 transitions; medians over chains of
        the step (``step``), of the metric's standard deviation of log sigma (``scale``), and of
        their product (``reach``), which is how far a step can go in log sigma.
    """
    model = _model(cell["parameterization"])
    fit = _tuned(cell["parameterization"], cell["metric"], int(cell["seed"]))
    tunings = [_tuning(fit, chain) for chain in range(4)]
    if cell["paths"] == "nutpie":
        counts = [int(fit["sample_stats"][name].sum()) for name in ("diverging", "n_steps")]
    elif cell["paths"] == "PyMC":
        counts = _by_pymc(model, fit, tunings, int(cell["seed"]))
    else:
        counts = _in_the_open(model, tunings, cell["paths"], int(cell["seed"]))
    where = [v.name for v in model.free_RVs].index("sigma")
    steps, scales = np.array([(step, scale[where]) for step, scale, _ in tunings]).T
    return {
        "divergences": counts[0],
        "gradients": counts[1],
        "step": float(np.median(steps)),
        "scale": float(np.median(scales)),
        "reach": float(np.median(steps * scales)),
    }


def _in_the_open(model: pm.Model, tunings: list, rule: str, seed: int) -> list[int]:
    log_density = model.logp_dlogp_function(ravel_inputs=True)
    log_density.set_extra_values({})
    divergences = gradients = 0
    for chain, (step, scale, position) in enumerate(tunings):
        sampler = NoUTurn(log_density, step, scale, rule, np.random.default_rng([seed, chain]))
        for _ in range(1000):
            position, diverged = sampler.draw(position)
            divergences += diverged
        gradients += sampler.steps
    return [divergences, gradients]


def _by_pymc(model: pm.Model, fit: xr.DataTree, tunings: list, seed: int) -> list[int]:
    divergences = gradients = 0
    for chain, (step, scale, _) in enumerate(tunings):
        given = pm.NUTS(
            model=model,
            scaling=scale**2,
            is_cov=True,
            step_scale=step * len(scale) ** 0.25,  # PyMC divides by this power of the dimension
            adapt_step_size=False,
        )
        last = fit["posterior"].to_dataset().isel(chain=chain, draw=-1)
        drawn = pm.sample(
            1000,
            tune=0,
            chains=1,
            cores=1,
            step=given,
            initvals={v.name: last[v.name].to_numpy() for v in model.free_RVs},
            model=model,
            random_seed=1000 * seed + chain,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
        )
        stats = drawn["sample_stats"]
        if not np.allclose(stats["step_size"], step):
            raise RuntimeError("PyMC did not keep the step that it was given.")
        divergences += int(stats["diverging"].sum())
        gradients += int(stats["n_steps"].sum())
    return [divergences, gradients]


def paths_design(seeds: tuple[int, ...] = tuple(range(30))) -> pd.DataFrame:
    """Parameterization x metric x who follows the paths x seed; 480 fits by default."""
    return cross(parameterization=("centered", "non-centered"), metric=METRICS, paths=PATHS, seed=seeds)


def _table() -> dict:
    digest = count_digest(load_three_districts().index, *_counts())
    return {"table": "bangladesh.csv", "districts": [1, 2, 3], "digest": digest}


STUDIES = (
    Study(
        "given_tuning",
        paths_design,
        fit_with_given_tuning,
        ("parameterization",),
        _table,
        "three districts: nutpie's step and metric, given to other samplers",
    ),
)
"""What `fieldguide.studies` makes stored tables of."""
