"""Simulate a trial, fit it, score it, many times over: divergences, coverage, SBC, precision.

Every study is a design (one row per fit) and a function that makes one fit; both go to
`fieldguide.grid.run_grid`, which runs them on all cores or on any executor, keeps each
finished fit on disk and resumes. A model is compiled once per process and number of sites; data
are swapped under it. Fits with divergences are kept and flagged, never dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import arviz as az
import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.data import VALID_SITES, TrialError, simulate_trial
from fieldguide.fits import compiled_model, record
from fieldguide.grid import cross
from fieldguide.models.trial import ESTIMANDS, estimate, model_data, trial_model, true_estimands
from fieldguide.priors import TrialPriors
from fieldguide.reference.trial import HYPERPARAMETERS, TrialPosterior, trial_posterior, trial_problem
from fieldguide.scores import score
from fieldguide.studies import Study

POPULATION = {"intercept": -1.6, "effect": 0.6, "sd_intercept": 0.5, "sd_effect": 0.5, "corr": 0.0}
"""The population, in logits, from which the ``drawn`` scenarios draw new sites every time."""

QUANTITIES = (*HYPERPARAMETERS, "risk_difference")
"""What is scored and ranked: the hyperparameters, and the estimand that depends on every site."""

_compiling = threading.Lock()


# ---------------------------------------------------------------------------------------------
# Simulate


def draw_sites(
    hyper: Mapping[str, float], n: Sequence[int] | np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw sites from a bivariate normal population, as the trial's model has them.

    Parameters
    ----------
    hyper : mapping
        ``intercept`` (at centred predictors), ``effect``, ``sd_intercept``, ``sd_effect``,
        ``corr``, in logits.
    n : array_like of int, shape (site,)
        Participants per site, half in each arm.
    rng : numpy.random.Generator
        Source of randomness.

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
            "baseline": hyper["intercept"] - hyper["effect"] / 2 + hyper["sd_intercept"] * z1,
            "effect": hyper["effect"] + hyper["sd_effect"] * slope,
        },
        index=pd.Index([f"{j + 1}" for j in range(len(n))], name="site"),
    )


def simulate_scenario(
    scenario: str, replicate: int, multiply: int = 1
) -> tuple[pd.DataFrame, dict[str, float], pd.DataFrame]:
    """Simulate one trial of a named scenario, with its truth.

    Parameters
    ----------
    scenario : str
        ``"question"``: the question's five sites, made valid. ``"no effect"``: the same sites
        with no effect anywhere. ``"drawn:JxN"``: J new sites of N participants from `POPULATION`.
    replicate : int
        Number of the simulated trial, its seed.
    multiply : int
        Make every site this many times larger.

    Returns
    -------
    trial : pandas.DataFrame
        Counts.
    truth : dict
        The true value of each estimand.
    sites : pandas.DataFrame
        ``n``, ``baseline`` and ``effect``: log odds and log odds ratio in the ``drawn`` scenarios,
        otherwise probability and difference of probabilities.

    Raises
    ------
    TrialError
        If there is no such scenario.
    """
    rng = np.random.default_rng([int(replicate), *scenario.encode()])
    if scenario in ("question", "no effect"):
        sites = VALID_SITES if scenario == "question" else VALID_SITES.assign(effect=0.0)
        trial = simulate_trial(sites, seed=rng, multiply=multiply)
        return trial, true_estimands(sites), sites
    kind, _, size = scenario.partition(":")
    count, _, each = size.partition("x")
    if kind != "drawn" or not (count.isdigit() and each.isdigit()):
        raise TrialError(
            f"Unknown scenario {scenario!r}; use 'question', 'no effect' or 'drawn:5x100' for five "
            "new sites of 100 participants."
        )
    sites = draw_sites(POPULATION, [int(each)] * int(count), rng)
    trial = simulate_trial(sites, seed=rng, scale="logit", multiply=multiply)
    truth = true_estimands(sites, scale="logit", coefficient=POPULATION["effect"])
    return trial, truth, sites


# ---------------------------------------------------------------------------------------------
# Fit


@cache
def _model(parameterization: str, sites: int) -> pm.Model:
    placeholder = pd.DataFrame(
        {"n_control": 2, "n_treated": 2, "control": 1, "treated": 1},
        index=pd.RangeIndex(1, sites + 1, name="site"),
    )
    return trial_model(placeholder, parameterization=parameterization, mutable=True)


def _compile_once(parameterization: str, sites: int) -> Any:
    with _compiling:  # a worker may be a thread
        model = _model(parameterization, sites)
        return compiled_model(model, [*HYPERPARAMETERS, "site_intercept", "site_effect"])


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
) -> xr.DataTree:
    """Fit a trial with a model that this process compiles only once per number of sites.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them.
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

    Returns
    -------
    DataTree
        As nutpie returns it, without the draws of tuning, with its record
        (`fieldguide.fits.record`) and ``risk_difference`` in ``posterior``, averaged over the
        participants.
    """
    priors = TrialPriors(sd=scipy.stats.halfnorm(scale=float(sd_scale)))
    data = model_data(trial, priors)
    fit = nutpie.sample(
        _compile_once(parameterization, len(trial)).with_data(**data),
        draws=draws,
        tune=tune,
        chains=4,
        cores=cores,
        seed=seed,
        target_accept=float(target_accept),
        save_warmup=False,
        progress_bar=False,
    )
    posterior = fit["posterior"].to_dataset().assign_coords(site=[str(site) for site in trial.index])
    weights = trial["n_control"] + trial["n_treated"]
    estimates = estimate(posterior, weights, ["risk_difference"])
    fit["posterior"] = xr.DataTree(posterior.assign(estimates))
    return record(fit, trial_problem(trial, priors), parameterization, seed=seed)


def _settings(cell: Mapping) -> dict:
    return {
        "seed": int(cell.get("seed", 0)) + 1000 * int(cell["replicate"]),
        "parameterization": cell["parameterization"],
        "sd_scale": cell.get("sd_scale", 0.5),
        "target_accept": cell["target_accept"],
        "draws": int(cell.get("draws", 1000)),
        "tune": int(cell.get("tune", 1000)),
    }


def _diagnostics(fit: xr.DataTree) -> dict[str, float]:
    posterior = fit["posterior"].to_dataset()[[*HYPERPARAMETERS, "site_effect"]]

    def extreme(values: xr.Dataset, worst: Callable) -> float:
        return float(worst([worst(values[name].values) for name in values.data_vars]))

    return {
        "divergences": int(fit["sample_stats"]["diverging"].sum()),
        "gradients": int(fit["sample_stats"]["n_steps"].sum()),
        "rhat": extreme(az.rhat(posterior), np.max),
        "ess_bulk": extreme(az.ess(posterior, method="bulk"), np.min),
        "ess_tail": extreme(az.ess(posterior, method="tail"), np.min),
    }


def fit_trial(cell: Mapping) -> dict[str, float]:
    """Simulate, fit and score one trial.

    Parameters
    ----------
    cell : mapping
        ``scenario`` and ``replicate`` (see `simulate_scenario`), ``parameterization``,
        ``target_accept``; optionally ``multiply`` (1), ``sd_scale`` (0.5), ``seed`` (0; of the
        sampler, given the replicate), ``draws`` and ``tune`` (1000 each per chain, of 4 chains).

    Returns
    -------
    dict
        ``divergences``, ``gradients`` (after tuning), ``rhat``, ``ess_bulk``, ``ess_tail`` (the
        worst over hyperparameters and site effects) and ``seconds`` (sampling, one core); for
        each estimand its ``:truth``, posterior ``:mean``, ``:low`` and ``:high`` (95% interval);
        ``:mean`` and ``:mcse`` of the hyperparameters; ``below_0.1:sd_effect``, the probability
        below 0.1; and how well the sites' own effects are known: ``site_error`` (root mean
        squared error of their posterior means), ``site_width`` (mean width of their 95%
        intervals) and ``site_coverage``.
    """
    return _fit_and_figures(cell)[1]


def _fit_and_figures(cell: Mapping) -> tuple[xr.DataTree, dict[str, float]]:
    trial, truth, sites = simulate_scenario(
        cell["scenario"], int(cell["replicate"]), int(cell.get("multiply", 1))
    )
    _compile_once(cell["parameterization"], len(trial))
    start = time.perf_counter()
    fit = sample_trial(trial, **_settings(cell))
    row = {"seconds": time.perf_counter() - start} | _diagnostics(fit)
    posterior = fit["posterior"].to_dataset()
    estimates = estimate(posterior, trial["n_control"] + trial["n_treated"])
    for name in ESTIMANDS:
        values = estimates[name].values
        low, high = np.quantile(values, [0.025, 0.975])
        row |= {f"{name}:truth": truth[name], f"{name}:mean": values.mean()}
        row |= {f"{name}:low": low, f"{name}:high": high}
    mcse = az.mcse(posterior[list(QUANTITIES)], method="mean")
    for name in QUANTITIES:
        row |= {f"{name}:mean": float(posterior[name].mean()), f"{name}:mcse": float(mcse[name])}
    row["below_0.1:sd_effect"] = float((posterior["sd_effect"] < 0.1).mean())
    true_effect = _true_site_effects(cell["scenario"], sites)
    effect = posterior["site_effect"]
    low, high = effect.quantile([0.025, 0.975], dim=("chain", "draw")).values
    error = effect.mean(("chain", "draw")).values - true_effect
    row["site_error"] = float(np.sqrt((error**2).mean()))
    row["site_width"] = float((high - low).mean())
    row["site_coverage"] = float(((low <= true_effect) & (true_effect <= high)).mean())
    return fit, {name: float(value) for name, value in row.items()}


def _true_site_effects(scenario: str, sites: pd.DataFrame) -> np.ndarray:
    if scenario.startswith("drawn"):
        return sites["effect"].to_numpy()
    control, treated = sites["baseline"], sites["baseline"] + sites["effect"]
    return np.log(treated / (1 - treated) / (control / (1 - control))).to_numpy()


@lru_cache(maxsize=16)
def _reference(scenario: str, replicate: int, multiply: int, sd_scale: float) -> TrialPosterior:
    trial, _, _ = simulate_scenario(scenario, replicate, multiply)
    priors = TrialPriors(sd=scipy.stats.halfnorm(scale=sd_scale))
    return trial_posterior(trial, priors, log2_points=10)


def fit_and_score_trial(cell: Mapping) -> dict[str, float]:
    """Simulate and fit one trial, and hold the fit against the reference answer for its data.

    Parameters
    ----------
    cell : mapping
        As for `fit_trial`; ``multiply`` and ``sd_scale`` must be given.

    Returns
    -------
    dict
        What `fit_trial` returns; for each of `QUANTITIES` the error of its mean, ``sd_error:`` in
        posterior sds and ``mcse_error:`` in the fit's own Monte Carlo errors, and the reference's
        own ``reference:``, its mean; ``missing``, the share of the probability of
        ``sd_effect < 0.1`` that the fit lacks; and ``reference_error``, in posterior sds.
    """
    fit, row = _fit_and_figures(cell)
    reference = _reference(
        cell["scenario"], int(cell["replicate"]), int(cell["multiply"]), float(cell["sd_scale"])
    )
    errors: Any = score(fit, reference, var_names=QUANTITIES).errors
    for name in QUANTITIES:
        row |= {f"{kind}:{name}": errors.loc[name, kind] for kind in ("sd_error", "mcse_error")}
        row[f"reference:{name}"] = errors.loc[name, "exact_mean"]
    row["missing"] = 1 - row["below_0.1:sd_effect"] / float(reference.cdf("sd_effect", 0.1))
    row["reference_error"] = reference.error
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


def fit_sbc(cell: Mapping) -> dict[str, float]:
    """Make one step of simulation-based calibration (Talts et al. 2018, arXiv:1804.06788).

    Hyperparameters come from the prior, sites from the hyperparameters, counts from the sites (of
    the question's sizes). If the sampler is right, the truth is one more posterior draw, and its
    rank among the others is uniform. Draws are thinned to 100 so that they are nearly independent.

    Parameters
    ----------
    cell : mapping
        ``replicate``, ``parameterization``, ``target_accept``; optionally ``draws``, ``tune`` and
        ``seed`` as for `fit_trial`.

    Returns
    -------
    dict
        ``divergences``, ``rhat``, ``ess_bulk`` and so on, and for each of `QUANTITIES`
        ``pit:<name>`` between 0 and 1: the rank, with ties (there are none among real numbers)
        and the gaps between ranks filled at random.
    """
    rng = np.random.default_rng([int(cell["replicate"]), *b"prior"])
    truth = draw_prior(rng)
    sites = draw_sites(truth, VALID_SITES["n"].to_numpy(), rng)
    trial = simulate_trial(sites, seed=rng, scale="logit")
    truth["risk_difference"] = true_estimands(sites, scale="logit")["risk_difference"]
    _compile_once(cell["parameterization"], len(trial))
    start = time.perf_counter()
    fit = sample_trial(trial, **_settings(cell))
    row = {"seconds": time.perf_counter() - start} | _diagnostics(fit)
    posterior = fit["posterior"].to_dataset()
    posterior = posterior.isel(draw=slice(None, None, posterior.sizes["draw"] // 25))
    estimates = estimate(posterior, sites["n"], ["risk_difference"])
    posterior = posterior.assign(risk_difference=estimates["risk_difference"])
    for name in QUANTITIES:
        values = posterior[name].values.ravel()
        row[f"pit:{name}"] = ((values < truth[name]).sum() + rng.random()) / (values.size + 1)
    return {name: float(value) for name, value in row.items()}


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


def coverage_table(
    table: pd.DataFrame, by: str | Sequence[str] = ("scenario", "multiply")
) -> pd.DataFrame:
    """Summarise many simulated trials: whether the 95% interval covers, and what it costs.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows as `fit_trial` returns them, all of them: fits with divergences count.
    by : str or sequence of str
        Columns that tell the designs apart.

    Returns
    -------
    pandas.DataFrame
        Indexed by `by` and ``estimand``: ``fits``, ``misses``, ``coverage`` with its 95% Wilson
        interval ``low`` and ``high``, ``bias``, ``bias_error`` (its standard error), ``width``,
        ``excludes_zero`` and ``divergent`` (share of fits with a divergent transition).
    """
    keys = [by] if isinstance(by, str) else list(by)
    rows = []
    for values, part in table.groupby(keys, sort=False):
        for name in ESTIMANDS:
            truth, low, high = (part[f"{name}:{what}"] for what in ("truth", "low", "high"))
            covered = (low <= truth) & (truth <= high)
            interval = scipy.stats.binomtest(int(covered.sum()), len(part)).proportion_ci(
                0.95, method="wilson"
            )
            error = part[f"{name}:mean"] - truth
            rows.append(
                dict(zip(keys, values, strict=True))
                | {
                    "estimand": name,
                    "fits": len(part),
                    "misses": int((~covered).sum()),
                    "coverage": covered.mean(),
                    "low": interval.low,
                    "high": interval.high,
                    "bias": error.mean(),
                    "bias_error": error.std(ddof=1) / np.sqrt(len(part)),
                    "width": (high - low).mean(),
                    "excludes_zero": ((low > 0) | (high < 0)).mean(),
                    "divergent": (part["divergences"] > 0).mean(),
                }
            )
    return pd.DataFrame(rows).set_index([*keys, "estimand"])


# ---------------------------------------------------------------------------------------------
# The chapter's studies

FORMS = ("non-centered", "centered")


def divergence_design(
    *, replicates: Iterable[int] = range(5), seeds: Iterable[int] = range(4)
) -> pd.DataFrame:
    """Form x prior scale x target_accept at the question's size; form x target_accept x size."""
    shared = {"replicate": list(replicates), "seed": list(seeds)}
    columns = ["scenario", "parameterization", "multiply", "sd_scale", "target_accept"]
    small = cross(
        scenario=["question"],
        parameterization=FORMS,
        multiply=[1],
        sd_scale=[0.2, 0.5, 1.0],
        target_accept=[0.8, 0.9, 0.95, 0.99],
        **shared,
    )
    large = cross(
        scenario=["question"],
        parameterization=FORMS,
        multiply=[4, 16, 64],
        sd_scale=[0.5],
        target_accept=[0.8, 0.95],
        **shared,
    )
    design = pd.concat([small, large], ignore_index=True)
    return design[[*columns, *shared]]


COVERAGE_DESIGNS = [("question", 1), ("question", 4), ("drawn:5x100", 1), ("drawn:10x50", 1)]
"""Scenario and sample size multiplier of each design whose coverage is counted."""


def coverage_design(trials: int = 200, target_accept: float = 0.95) -> pd.DataFrame:
    """Simulated trials of each design, each fitted once in the non-centered form."""
    parts = [
        cross(
            scenario=[scenario],
            multiply=[multiply],
            parameterization=["non-centered"],
            target_accept=[target_accept],
            replicate=range(trials),
        )
        for scenario, multiply in COVERAGE_DESIGNS
    ]
    return pd.concat(parts, ignore_index=True)


def sbc_design(simulations: int = 500) -> pd.DataFrame:
    """Both forms at the default target_accept, on the same simulated trials."""
    return cross(
        parameterization=FORMS,
        target_accept=[0.8],
        tune=[500],
        draws=[500],
        replicate=range(simulations),
    )


def precision_design(replicates: Iterable[int] = range(40)) -> pd.DataFrame:
    """Number of sites x participants per site, sites drawn from `POPULATION`."""
    return cross(
        scenario=[f"drawn:{j}x{n}" for j in (5, 10, 20, 40) for n in (20, 100, 400)],
        parameterization=["non-centered"],
        target_accept=[0.9],
        tune=[500],
        draws=[500],
        replicate=list(replicates),
    )


def _simulated() -> dict:
    return {"population": POPULATION, "seed": "the replicate's number"}


STUDIES = (
    Study(
        name="trial_divergences",
        title="form x prior scale x target_accept, and larger trials, each fit beside its reference",
        design=divergence_design,
        fit=fit_and_score_trial,
        group=("replicate",),
        data=_simulated,
    ),
    Study(
        name="trial_coverage",
        title="whether the 95% interval covers, in 200 trials of each of four designs",
        design=coverage_design,
        fit=fit_trial,
        group=("scenario", "parameterization"),
        data=_simulated,
    ),
    Study(
        name="trial_sbc",
        title="simulation-based calibration of both forms",
        design=sbc_design,
        fit=fit_sbc,
        group=("parameterization",),
        data=_simulated,
    ),
    Study(
        name="trial_precision",
        title="number of sites x participants per site",
        design=precision_design,
        fit=fit_trial,
        group=("scenario", "parameterization"),
        data=_simulated,
    ),
)
