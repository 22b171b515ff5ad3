"""The same trials in nutpie and in PyMC's own sampler, beside what Stan made of them.

The counts are those that ``data/r_trial.R`` simulated and fitted with brms; its figures are quoted in
``data/r_trial.json``, and the rows of this table have the same columns.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import arviz as az
import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.data import VALID_SITES, quoted
from fieldguide.fits import compiled_model
from fieldguide.grid import cross
from fieldguide.models.trial import estimate, model_data, trial_model
from fieldguide.priors import TrialPriors
from fieldguide.reference.trial import HYPERPARAMETERS
from fieldguide.studies import Study
from fieldguide.studies.trial_fits import diagnostics

STANDARDISED = ("risk_difference", "marginal_log_odds_ratio")

_compiling = threading.Lock()


def trial_of_r(data: str, multiply: int = 1) -> pd.DataFrame:
    """Return the counts of a trial that R simulated and fitted.

    Parameters
    ----------
    data : str
        ``"question"``, or the seed that R simulated with, such as ``"1"``.
    multiply : int
        How many times larger its sites are.

    Returns
    -------
    pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them.
    """
    name = data if multiply == 1 else f"{data} x{multiply}"
    successes = quoted("r_trial")["fits"]["counts"][name]
    half = VALID_SITES["n"] * multiply // 2
    control, treated = np.array([successes[site] for site in half.index]).T
    return pd.DataFrame({"n_control": half, "n_treated": half, "control": control, "treated": treated})


@cache
def _model() -> pm.Model:
    return trial_model(trial_of_r("question"), mutable=True)


def sample_as(cell: Mapping) -> tuple[xr.DataTree, float]:
    """Fit a trial of R's with one of the samplers, 1000 draws after 1000 of tuning in four chains.

    Parameters
    ----------
    cell : mapping
        ``data`` and ``multiply`` (see `trial_of_r`), ``sampler`` (``"nutpie"`` or ``"PyMC"``),
        ``sd_scale``, ``target_accept`` and ``seed``; for nutpie perhaps ``adaptation``, ``"diag"``
        (its default: a metric from draws and gradients) or ``"draw_diag"`` (from draws alone).

    Returns
    -------
    fit : DataTree
        With the standardised estimands in the posterior.
    seconds : float
        Of the processor, for the chains one after the other; PyMC compiles the model each time.
    """
    trial = trial_of_r(cell["data"], int(cell["multiply"]))
    data = model_data(trial, TrialPriors(sd=scipy.stats.halfnorm(scale=float(cell["sd_scale"]))))
    run: dict[str, Any] = {"draws": 1000, "tune": 1000, "chains": 4, "cores": 1}
    run["target_accept"] = float(cell["target_accept"])
    with _compiling:  # a worker may be a thread
        model = _model()
        compiled = compiled_model(model)
    if cell["sampler"] == "nutpie":
        run["adaptation"] = cell.get("adaptation", "diag")
        start = time.process_time()
        fit = nutpie.sample(
            compiled.with_data(**data), seed=int(cell["seed"]), progress_bar=False, **run
        )
    else:
        with _compiling, model:
            pm.set_data(data)
            start = time.process_time()
            fit = pm.sample(random_seed=int(cell["seed"]), nuts_sampler="pymc", progressbar=False, **run)
    seconds = time.process_time() - start
    posterior = fit["posterior"].to_dataset().assign_coords(site=list(trial.index))
    weights = trial["n_control"] + trial["n_treated"]
    fit["posterior"] = xr.DataTree(posterior.assign(estimate(posterior, weights, STANDARDISED)))
    return fit, seconds


def fit_as_r(cell: Mapping) -> dict[str, float]:
    """Fit a trial of R's, and return the figures that ``data/r_trial.R`` returns of brms's fits.

    Parameters
    ----------
    cell : mapping
        As for `sample_as`.

    Returns
    -------
    dict
        ``divergences`` and ``gradients`` (after tuning), ``accept`` (the acceptance rate that came
        about), ``stepsize`` (mean over the chains), ``seconds``; ``rhat``, ``ess_bulk`` and
        ``ess_tail``, the worst over hyperparameters, standardised effects and the sites' effects;
        ``below_0.1``, the probability of ``sd_effect`` below 0.1; and ``mean:``, ``mcse:``, ``sd:``,
        ``low:`` and ``high:`` (95%), ``low89:`` and ``high89:`` of hyperparameters and standardised
        effects.
    """
    fit, seconds = sample_as(cell)
    posterior, stats = fit["posterior"].to_dataset(), fit["sample_stats"]
    shown = posterior[[*HYPERPARAMETERS, *STANDARDISED]]
    accept = stats["mean_tree_accept" if cell["sampler"] == "nutpie" else "acceptance_rate"]
    row = {
        **diagnostics(fit, (*HYPERPARAMETERS, *STANDARDISED)),
        "accept": float(accept.mean()),
        "stepsize": float(stats["step_size_bar"].isel(draw=-1).mean()),
        "seconds": seconds,
        "below_0.1": float((posterior["sd_effect"] < 0.1).mean()),
    }
    mcse = az.mcse(shown, method="mean")
    for name, values in shown.data_vars.items():
        row |= {f"mean:{name}": float(values.mean()), f"mcse:{name}": float(mcse[name])}
        row[f"sd:{name}"] = float(values.values.std(ddof=1))
        limits = np.quantile(values.values, [0.025, 0.975, 0.055, 0.945])
        for limit, value in zip(("low", "high", "low89", "high89"), limits, strict=True):
            row[f"{limit}:{name}"] = float(value)
    return row


def samplers_design() -> pd.DataFrame:
    """Every trial in nutpie, those of the question's size in PyMC's own sampler too."""
    targets = [0.8, 0.9, 0.95, 0.99]
    simulated = [str(seed) for seed in range(1, 6)]
    scales = [0.2, 0.5, 1.0]
    seeds = [1, 2, 3, 4]
    parts = [
        ("nutpie", ["question"], [1], scales, targets, seeds),
        ("nutpie", simulated, [1], scales, targets, [1]),
        ("nutpie", simulated, [4, 16], scales, [0.8, 0.95], [1]),
        ("PyMC", ["question"], [1], [0.5], targets, seeds),
        ("PyMC", ["question"], [1], [0.2], [0.8], seeds),
        ("PyMC", simulated, [1], [0.5], [0.8, 0.95], [1]),
        ("PyMC", simulated, [16], [0.5], [0.8], [1]),
    ]
    columns = ["data", "multiply", "sd_scale", "target_accept", "seed"]
    designs = []
    for sampler, *part in parts:
        levels: dict[str, Any] = dict(zip(columns, part, strict=True))
        designs.append(cross(sampler=[sampler], **levels))
    return pd.concat(designs, ignore_index=True)


def metrics_design() -> pd.DataFrame:
    """Compare nutpie's own metric with one from draws alone, as Stan and PyMC estimate it."""
    return cross(
        sampler=["nutpie"],
        adaptation=["diag", "draw_diag"],
        data=["question", "2"],
        multiply=[1],
        sd_scale=[0.5],
        target_accept=[0.8, 0.95],
        seed=list(range(1, 9)),
    )


def _counts() -> dict:
    counts = quoted("r_trial")["fits"]["counts"]
    written = json.dumps(counts, sort_keys=True)
    return {"counts": "data/r_trial.json", "sha256": hashlib.sha256(written.encode()).hexdigest()}


STUDIES = (
    Study(
        name="trial_samplers",
        title="the trials that R fitted with brms, in nutpie and in PyMC's own sampler",
        design=samplers_design,
        fit=fit_as_r,
        group=("sampler",),
        data=_counts,
    ),
    Study(
        name="trial_metrics",
        title="nutpie's metric from gradients against one from draws alone",
        design=metrics_design,
        fit=fit_as_r,
        group=("adaptation",),
        data=_counts,
    ),
)
