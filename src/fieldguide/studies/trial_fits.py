"""One simulated trial: draw its sites, fit it, say what came of it; and summaries of many.

A model is compiled once per process and kind of trial; data are swapped under it. Fits with divergences
are kept and flagged, never dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import arviz as az
import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.data import check_groups
from fieldguide.data.trials import covariate_matrix
from fieldguide.fits import compiled_model, record
from fieldguide.models.trial import (
    COVARIATE_PRIOR,
    ESTIMANDS,
    adjusted_model_data,
    adjusted_problem,
    adjusted_trial_model,
    estimate,
    model_data,
    trial_model,
)
from fieldguide.priors import Prior, TrialPriors, prior_parameters
from fieldguide.reference.trial import HYPERPARAMETERS, trial_problem

QUANTITIES = (*HYPERPARAMETERS, "risk_difference")
"""What is scored and ranked: the hyperparameters, and the estimand that depends on every site."""

_compiling = threading.RLock()
_models: dict[tuple, pm.Model] = {}


# ---------------------------------------------------------------------------------------------
# Simulate


def draw_sites(
    hyper: Mapping[str, float],
    n: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    treated_share: float = 0.5,
) -> pd.DataFrame:
    """Draw sites from a bivariate normal population, as the trial's model has them.

    Parameters
    ----------
    hyper : mapping
        ``intercept`` (at centred predictors), ``effect``, ``sd_intercept``, ``sd_effect``,
        ``corr``, in logits.
    n : array_like of int, shape (site,)
        Participants per site.
    rng : numpy.random.Generator
        Source of randomness.
    treated_share : float
        Share of the participants that is treated, at which the predictors are centred.

    Returns
    -------
    pandas.DataFrame
        ``n``, ``baseline`` and ``effect`` per site, the last two log odds: what
        ``simulate_trial(..., scale="logit")`` takes.
    """
    z1, z2 = rng.standard_normal((2, len(n)))
    slope = hyper["corr"] * z1 + np.sqrt(1 - hyper["corr"] ** 2) * z2
    return pd.DataFrame(
        {
            "n": n,
            "baseline": hyper["intercept"]
            - treated_share * hyper["effect"]
            + hyper["sd_intercept"] * z1,
            "effect": hyper["effect"] + hyper["sd_effect"] * slope,
        },
        index=pd.Index([f"{j + 1}" for j in range(len(n))], name="site"),
    )


# ---------------------------------------------------------------------------------------------
# Fit


def _placeholder(trial: pd.DataFrame) -> pd.DataFrame:
    """Return a trial of the same kind, with counts that are possible in any."""
    if "trials" in trial.columns:
        return trial.assign(successes=1, trials=trial["trials"].clip(lower=1))
    return pd.DataFrame(
        {"n_control": 2, "n_treated": 2, "control": 1, "treated": 1},
        index=pd.RangeIndex(1, len(trial) + 1, name="site"),
    )


def compile_trial(
    trial: pd.DataFrame,
    *,
    parameterization: str = "non-centered",
    priors: TrialPriors | None = None,
    covariate_prior: Prior = COVARIATE_PRIOR,
) -> Any:
    """Compile the model of a kind of trial, once in this process.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts by site, or groups with covariates (`fieldguide.data.check_groups`). Trials with as many
        sites, or with the same groups, are of one kind, whatever their counts.
    parameterization : {"centered", "non-centered"}
        Coordinates of the sampler.
    priors : TrialPriors, optional
        The question's by default; another scale of the same ``sd`` prior needs no other model.
    covariate_prior : scipy.stats frozen distribution
        See `fieldguide.models.trial.adjusted_trial_model`.

    Returns
    -------
    compiled model
        For nutpie.
    """
    priors = priors or TrialPriors()
    kind: tuple = (parameterization, prior_parameters(priors.intercept), prior_parameters(priors.effect))
    kind += (*prior_parameters(priors.sd)[:3], priors.lkj_eta)
    names = [*HYPERPARAMETERS, "site_intercept", "site_effect"]
    grouped = "trials" in trial.columns
    if grouped:
        groups = check_groups(trial)
        columns = tuple(covariate_matrix(groups).columns)
        kind += (columns, prior_parameters(covariate_prior))
        kind += (tuple(groups["site"]), tuple(groups["intervention"]))
        names.append("covariate_effect")
    else:
        kind += (len(trial),)
    with _compiling:  # a worker may be a thread
        if kind not in _models:
            settings: dict[str, Any] = {
                "parameterization": parameterization,
                "priors": priors,
                "mutable": True,
            }
            if grouped:
                _models[kind] = adjusted_trial_model(
                    _placeholder(trial), covariate_prior=covariate_prior, **settings
                )
            else:
                _models[kind] = trial_model(_placeholder(trial), **settings)
        return compiled_model(_models[kind], names)


def sample_trial(
    trial: pd.DataFrame,
    *,
    seed: int,
    parameterization: str = "non-centered",
    sd_scale: float = 0.5,
    target_accept: float = 0.95,
    draws: int = 1000,
    tune: int = 1000,
    cores: int = 1,
    priors: TrialPriors | None = None,
    covariate_prior: Prior = COVARIATE_PRIOR,
) -> xr.DataTree:
    """Fit a trial with a model that this process compiles only once for each kind of trial.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them, or groups with covariates.
    seed : int
        Seed of the sampler.
    parameterization : {"centered", "non-centered"}
        Coordinates of the sampler.
    sd_scale : float
        Scale of the half-normal prior on the spread between sites; the other priors are the
        question's.
    target_accept : float
        Acceptance probability that the step size is tuned to.
    draws, tune : int
        Per chain, of four chains.
    cores : int
        Chains that run at the same time.
    priors : TrialPriors, optional
        Instead of the question's, `sd_scale` included.
    covariate_prior : scipy.stats frozen distribution
        Of the covariates' coefficients, where there are any.

    Returns
    -------
    DataTree
        As nutpie returns it, without the draws of tuning, with its record
        (`fieldguide.fits.record`) and ``risk_difference`` in ``posterior``, averaged over the
        participants.
    """
    priors = priors or TrialPriors(sd=scipy.stats.halfnorm(scale=float(sd_scale)))
    grouped = "trials" in trial.columns
    data = adjusted_model_data(trial, priors) if grouped else model_data(trial, priors)
    compiled = compile_trial(
        trial, parameterization=parameterization, priors=priors, covariate_prior=covariate_prior
    )
    fit = nutpie.sample(
        compiled.with_data(**data),
        draws=draws,
        tune=tune,
        chains=4,
        cores=cores,
        seed=seed,
        target_accept=float(target_accept),
        save_warmup=False,
        progress_bar=False,
    )
    posterior = fit["posterior"].to_dataset()
    weights: Any
    if grouped:
        problem = adjusted_problem(trial, priors, covariate_prior)
        weights, sites = trial, list(dict.fromkeys(trial["site"].astype(str)))
    else:
        problem = trial_problem(trial, priors)
        weights, sites = trial["n_control"] + trial["n_treated"], [str(site) for site in trial.index]
    posterior = posterior.assign_coords(site=sites)
    estimates = estimate(posterior, weights, ["risk_difference"])
    fit["posterior"] = xr.DataTree(posterior.assign(estimates))
    return record(fit, problem, parameterization, seed=seed)


def diagnostics(fit: xr.DataTree, parameters: Sequence[str] = HYPERPARAMETERS) -> dict[str, float]:
    """Return what the usual diagnostics say of a fit, the worst over its parameters.

    Parameters
    ----------
    fit : DataTree
        Of a trial's model.
    parameters : sequence of str
        Those that are looked at, besides the sites' effects.

    Returns
    -------
    dict
        ``divergences`` and ``gradients`` after tuning, and of `parameters` and the sites' effects the
        largest ``rhat`` and the smallest ``ess_bulk`` and ``ess_tail``.
    """
    posterior = fit["posterior"].to_dataset()[[*parameters, "site_effect"]]

    def extreme(values: xr.Dataset, worst: Callable) -> float:
        return float(worst([worst(values[name].values) for name in values.data_vars]))

    return {
        "divergences": int(fit["sample_stats"]["diverging"].sum()),
        "gradients": int(fit["sample_stats"]["n_steps"].sum()),
        "rhat": extreme(az.rhat(posterior), np.max),
        "ess_bulk": extreme(az.ess(posterior, method="bulk"), np.min),
        "ess_tail": extreme(az.ess(posterior, method="tail"), np.min),
    }


def figures(
    fit: xr.DataTree,
    trial: pd.DataFrame,
    truth: Mapping[str, float],
    true_effects: np.ndarray,
    interval: float = 0.95,
) -> dict[str, float]:
    """Return what a fit says of the estimands, the hyperparameters and the sites, beside the truth.

    Parameters
    ----------
    fit : DataTree
        From `sample_trial`.
    trial : pandas.DataFrame
        What was fitted.
    truth : mapping
        The true value of each of `fieldguide.models.trial.ESTIMANDS`; NaN where there is none.
    true_effects : ndarray, shape (site,)
        The sites' true log odds ratios.
    interval : float
        Probability of the intervals, equal-tailed.

    Returns
    -------
    dict
        For each estimand ``:truth``, posterior ``:mean``, ``:low`` and ``:high``; ``:mean`` and
        ``:mcse`` of `QUANTITIES`; ``below_0.1:sd_effect``; and ``site_error`` (root mean squared error
        of the sites' posterior means), ``site_width`` and ``site_coverage`` of their intervals.
    """
    tails = [(1 - interval) / 2, (1 + interval) / 2]
    posterior = fit["posterior"].to_dataset()
    grouped = "trials" in trial.columns
    estimates = estimate(posterior, trial if grouped else trial["n_control"] + trial["n_treated"])
    row: dict[str, float] = {}
    for name in ESTIMANDS:
        values = estimates[name].values
        low, high = np.quantile(values, tails)
        row |= {f"{name}:truth": truth[name], f"{name}:mean": values.mean()}
        row |= {f"{name}:low": low, f"{name}:high": high}
    mcse = az.mcse(posterior[list(QUANTITIES)], method="mean")
    for name in QUANTITIES:
        row |= {f"{name}:mean": float(posterior[name].mean()), f"{name}:mcse": float(mcse[name])}
    row["below_0.1:sd_effect"] = float((posterior["sd_effect"] < 0.1).mean())
    effect = posterior["site_effect"]
    low, high = np.quantile(effect.values, tails, axis=(0, 1))
    error = effect.mean(("chain", "draw")).values - true_effects
    row["site_error"] = float(np.sqrt((error**2).mean()))
    row["site_width"] = float((high - low).mean())
    row["site_coverage"] = float(((low <= true_effects) & (true_effects <= high)).mean())
    return {name: float(value) for name, value in row.items()}


# ---------------------------------------------------------------------------------------------
# Simulation-based calibration


def draw_prior(rng: np.random.Generator, priors: TrialPriors | None = None) -> dict[str, float]:
    """Draw the hyperparameters from their prior.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    priors : TrialPriors, optional
        The question's by default.

    Returns
    -------
    dict
        One number for each of the hyperparameters.
    """
    priors = priors or TrialPriors()
    return {
        "intercept": float(priors.intercept.rvs(random_state=rng)),
        "effect": float(priors.effect.rvs(random_state=rng)),
        "sd_intercept": float(priors.sd.rvs(random_state=rng)),
        "sd_effect": float(priors.sd.rvs(random_state=rng)),
        "corr": float(2 * rng.beta(priors.lkj_eta, priors.lkj_eta) - 1),
    }


def thinned_ranks(
    fit: xr.DataTree, truth: Mapping[str, float], weights: Any, rng: np.random.Generator
) -> dict[str, float]:
    """Return where the truth stands among draws, thinned to 100 so that they are nearly independent.

    Parameters
    ----------
    fit : DataTree
        From `sample_trial`.
    truth : mapping
        The true value of each of `QUANTITIES`.
    weights : array_like or DataFrame
        As for `fieldguide.models.trial.estimate`.
    rng : numpy.random.Generator
        Fills the gaps between ranks, so that uniform ranks are uniform numbers.

    Returns
    -------
    dict
        ``pit:<name>`` between 0 and 1 for each of `QUANTITIES`.
    """
    posterior = fit["posterior"].to_dataset()
    posterior = posterior.isel(draw=slice(None, None, max(posterior.sizes["draw"] // 25, 1)))
    estimates = estimate(posterior, weights, ["risk_difference"])
    posterior = posterior.assign(risk_difference=estimates["risk_difference"])
    found = {}
    for name in QUANTITIES:
        values = posterior[name].values.ravel()
        found[f"pit:{name}"] = float(((values < truth[name]).sum() + rng.random()) / (values.size + 1))
    return found


def sbc_tree(table: pd.DataFrame) -> xr.DataTree:
    """Arrange the ranks of an SBC run as ArviZ's ``plot_ecdf_pit`` wants them.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per fit, with the ``pit:`` columns of `fit_sbc`.

    Returns
    -------
    DataTree
        Group ``prior_sbc`` with one variable per quantity; each simulation is a ``draw`` of one
        ``chain``.
    """
    pits = {name: (("chain", "draw"), table[f"pit:{name}"].to_numpy()[None]) for name in QUANTITIES}
    return xr.DataTree.from_dict({"prior_sbc": xr.Dataset(pits)})


def uniformity(table: pd.DataFrame) -> pd.Series:
    """Test that the ranks of an SBC run are uniform, by ArviZ's own test.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per fit, with the ``pit:`` columns of `fit_sbc`.

    Returns
    -------
    pandas.Series
        For each of `QUANTITIES` the probability of ranks at least as uneven, if they were uniform.
    """
    ranks = sbc_tree(table)["prior_sbc"].to_dataset()
    p_value, _, _ = ranks.azstats.uniformity_test(dim=["chain", "draw"])
    return pd.Series({name: float(p_value[name]) for name in QUANTITIES})


# ---------------------------------------------------------------------------------------------
# Score


def summarise(part: pd.DataFrame, estimand: str) -> dict[str, float]:
    """Summarise simulated trials of one design: whether the interval of an estimand covers.

    Parameters
    ----------
    part : pandas.DataFrame
        Rows with what `figures` returns, all of them: fits with divergences count.
    estimand : str
        One of `fieldguide.models.trial.ESTIMANDS`.

    Returns
    -------
    dict
        ``fits``, ``misses``, ``coverage`` with its 95% Wilson interval ``low`` and ``high``, ``bias``,
        ``bias_error`` (its standard error), ``width``, ``excludes_zero`` with its Wilson interval
        ``excludes_zero_low`` and ``excludes_zero_high``, and ``divergent``, the share of fits with a
        divergent transition. Where there is no truth, misses, coverage and bias are NaN.
    """
    low, high = part[f"{estimand}:low"], part[f"{estimand}:high"]
    truth = part.get(f"{estimand}:truth", pd.Series(np.nan, index=part.index))
    found = {"fits": len(part), "misses": np.nan, "coverage": np.nan, "low": np.nan, "high": np.nan}
    found |= {"bias": np.nan, "bias_error": np.nan}
    if truth.notna().all():
        covered = (low <= truth) & (truth <= high)
        error = part[f"{estimand}:mean"] - truth
        found |= {"misses": int((~covered).sum()), "coverage": covered.mean()}
        found |= dict(zip(("low", "high"), _wilson(covered), strict=True))
        found |= {"bias": error.mean(), "bias_error": error.std(ddof=1) / np.sqrt(len(part))}
    excluded = (low > 0) | (high < 0)
    between = _wilson(excluded)
    return found | {
        "width": (high - low).mean(),
        "excludes_zero": excluded.mean(),
        "excludes_zero_low": between[0],
        "excludes_zero_high": between[1],
        "divergent": (part["divergences"] > 0).mean(),
    }


def _wilson(happened: pd.Series) -> tuple[float, float]:
    """Return a 95% interval for the probability of what happened in some of many trials."""
    interval = scipy.stats.binomtest(int(happened.sum()), len(happened)).proportion_ci(
        0.95, method="wilson"
    )
    return interval.low, interval.high


def coverage_table(
    table: pd.DataFrame, by: str | Sequence[str] = ("scenario", "multiply")
) -> pd.DataFrame:
    """Summarise many simulated trials: whether the 95% interval covers, and what it costs.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows as `fieldguide.studies.trial.fit_trial` returns them, all of them.
    by : str or sequence of str
        Columns that tell the designs apart.

    Returns
    -------
    pandas.DataFrame
        Indexed by `by` and ``estimand``, with the columns of `summarise`.
    """
    keys = [by] if isinstance(by, str) else list(by)
    rows = [
        dict(zip(keys, values, strict=True)) | {"estimand": name} | summarise(part, name)
        for values, part in table.groupby(keys, sort=False)
        for name in ESTIMANDS
    ]
    return pd.DataFrame(rows).set_index([*keys, "estimand"])
