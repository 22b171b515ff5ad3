"""The book's trials: its scenarios, and the stored tables about them; and the reader's own design.

Every study is a design (one row per fit) and a function that makes one fit; both go to
`fieldguide.grid.run_grid`, which runs them on all cores or on any executor, keeps each
finished fit on disk and resumes. What makes and scores a fit is in `fieldguide.studies.trial_fits`; what
takes a reader's own design is `TrialDesign` and `trial_study`, of `fieldguide.studies.trial_design`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from fieldguide.data import VALID_SITES, TrialError, simulate_trial
from fieldguide.grid import cross
from fieldguide.models.trial import true_estimands
from fieldguide.priors import TrialPriors
from fieldguide.reference.trial import HYPERPARAMETERS, TrialPosterior, trial_posterior
from fieldguide.scores import score
from fieldguide.studies import Study
from fieldguide.studies.trial_design import TrialDesign, TrialStudy, trial_study
from fieldguide.studies.trial_fits import (
    QUANTITIES,
    compile_trial,
    coverage_table,
    diagnostics,
    draw_prior,
    draw_sites,
    figures,
    sample_trial,
    sbc_tree,
    thinned_ranks,
    uniformity,
)

__all__ = [
    "HYPERPARAMETERS",
    "POPULATION",
    "QUANTITIES",
    "STUDIES",
    "TrialDesign",
    "TrialStudy",
    "compile_trial",
    "coverage_table",
    "draw_prior",
    "draw_sites",
    "fit_and_score_trial",
    "fit_sbc",
    "fit_trial",
    "sample_trial",
    "sbc_tree",
    "simulate_scenario",
    "trial_study",
    "uniformity",
]

POPULATION = {"intercept": -1.6, "effect": 0.6, "sd_intercept": 0.5, "sd_effect": 0.5, "corr": 0.0}
"""The population, in logits, from which the ``drawn`` scenarios draw new sites every time."""


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


def _settings(cell: Mapping) -> dict:
    return {
        "seed": int(cell.get("seed", 0)) + 1000 * int(cell["replicate"]),
        "parameterization": cell["parameterization"],
        "sd_scale": cell.get("sd_scale", 0.5),
        "target_accept": cell["target_accept"],
        "draws": int(cell.get("draws", 1000)),
        "tune": int(cell.get("tune", 1000)),
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
        each estimand its ``:truth`` (NaN where it has none), posterior ``:mean``, ``:low`` and
        ``:high`` (95% interval); ``:mean`` and ``:mcse`` of the hyperparameters;
        ``below_0.1:sd_effect``, the probability
        below 0.1; and how well the sites' own effects are known: ``site_error`` (root mean
        squared error of their posterior means), ``site_width`` (mean width of their 95%
        intervals) and ``site_coverage``.
    """
    return _fit_and_figures(cell)[1]


def _fit_and_figures(cell: Mapping) -> tuple[xr.DataTree, dict[str, float]]:
    trial, truth, sites = simulate_scenario(
        cell["scenario"], int(cell["replicate"]), int(cell.get("multiply", 1))
    )
    compile_trial(trial, parameterization=cell["parameterization"])
    start = time.perf_counter()
    fit = sample_trial(trial, **_settings(cell))
    row = {"seconds": time.perf_counter() - start} | diagnostics(fit)
    row |= figures(fit, trial, truth, _true_site_effects(cell["scenario"], sites))
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
        What `fit_trial` returns, but for ``site_average``; for each of `QUANTITIES` the error of its
        mean, ``sd_error:`` in posterior sds and ``mcse_error:`` in the fit's own Monte Carlo errors,
        and the reference's own ``reference:``, its mean; ``missing``, the share of the probability
        of ``sd_effect < 0.1`` that the fit lacks; and ``reference_error``, in posterior sds.
    """
    fit, row = _fit_and_figures(cell)
    row = {name: value for name, value in row.items() if not name.startswith("site_average")}
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
    compile_trial(trial, parameterization=cell["parameterization"])
    start = time.perf_counter()
    fit = sample_trial(trial, **_settings(cell))
    row = {"seconds": time.perf_counter() - start} | diagnostics(fit)
    row |= thinned_ranks(fit, truth, sites["n"], rng)
    return {name: float(value) for name, value in row.items()}


# ---------------------------------------------------------------------------------------------
# The chapter's studies

FORMS = ("non-centered", "centered")


def divergence_design(
    *, replicates: Iterable[int] = range(5), seeds: Iterable[int] = range(4)
) -> pd.DataFrame:
    """Form x prior scale x target_accept at the question's size; form x target_accept x size x scale."""
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
        sd_scale=[0.2, 0.5],
        target_accept=[0.8, 0.95],
        **shared,
    )
    design = pd.concat([small, large], ignore_index=True)
    return design[[*columns, *shared]]


COVERAGE_DESIGNS = [("question", 1), ("question", 4), ("drawn:5x100", 1), ("drawn:10x50", 1)]
"""Scenario and sample size multiplier of each design whose coverage is counted."""


def coverage_design(trials: int = 200, target_accept: float = 0.95) -> pd.DataFrame:
    """Simulated trials of each design, each fitted under three priors on the spread between sites."""
    parts = [
        cross(
            scenario=[scenario],
            multiply=[multiply],
            parameterization=["non-centered"],
            sd_scale=[0.2, 0.5, 1.0],
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
        title="whether the 95% interval covers, in 200 trials of four designs under three priors",
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
