"""The posterior of the trial's model, against weighted draws from the prior and NUTS."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.special import expit

from fieldguide.data import question_trial
from fieldguide.priors import TrialPriors
from fieldguide.reference import flat, trial_posterior

SMALL = pd.DataFrame(
    {"n_control": [15, 25], "n_treated": [15, 25], "control": [2, 3], "treated": [4, 9]},
    index=pd.Index(["A", "B"], name="site"),
)


def table(answer):
    return pd.DataFrame({name: flat(getattr(answer, name)) for name in ("mean", "sd", "mcse")})


def brute_force(trial, priors, draws, rng):
    """Likelihood-weighted draws from the prior: slow, and independent of the quadrature."""
    sd = priors.sd.rvs((2, draws), random_state=rng)
    rho = 2 * rng.beta(priors.lkj_eta, priors.lkj_eta, draws) - 1
    intercept = priors.intercept.rvs(draws, random_state=rng)
    effect = priors.effect.rvs(draws, random_state=rng)
    log_weight = np.zeros(draws)
    for _, row in trial.iterrows():
        z = rng.standard_normal((2, draws))
        theta = intercept - effect / 2 + sd[0] * z[0]
        delta = effect + sd[1] * (rho * z[0] + np.sqrt(1 - rho**2) * z[1])
        log_weight += scipy.stats.binom.logpmf(row["control"], row["n_control"], expit(theta))
        log_weight += scipy.stats.binom.logpmf(row["treated"], row["n_treated"], expit(theta + delta))
    return np.exp(log_weight), {
        "intercept": intercept,
        "effect": effect,
        "sd_intercept": sd[0],
        "sd_effect": sd[1],
        "corr": rho,
        "site_effect[B]": delta,
    }


def test_reference_agrees_with_weighted_draws_from_the_prior():
    priors = TrialPriors()
    answer = trial_posterior(SMALL, priors, log2_points=10)
    weight, values = brute_force(SMALL, priors, 1_000_000, np.random.default_rng(1))
    evidence = weight.mean()
    relative = weight.std() / evidence / np.sqrt(weight.size)
    assert np.exp(answer.log_marginal_likelihood) / evidence == pytest.approx(1, abs=4 * relative)
    for name, value in values.items():
        mean = (weight * value).sum() / weight.sum()
        error = np.sqrt((weight**2 * (value - mean) ** 2).sum()) / weight.sum()
        row = table(answer).loc[name]
        assert abs(row["mean"] - mean) < 4 * np.hypot(error, row["mcse"]), name
        sd = np.sqrt((weight * (value - mean) ** 2).sum() / weight.sum())
        assert row["sd"] == pytest.approx(sd, rel=0.03), name
    share = (weight * (values["sd_effect"] < 0.1)).sum() / weight.sum()
    assert float(answer.cdf("sd_effect", 0.1)) == pytest.approx(share, abs=0.01)


@pytest.mark.slow
def test_reference_does_not_depend_on_seed_or_nodes_beyond_its_error():
    one = trial_posterior(question_trial(), log2_points=9, seed=1)
    two = trial_posterior(question_trial(), log2_points=9, seed=2, nodes=16)
    first, second = table(one), table(two)
    gap = (first["mean"] - second["mean"]).abs()
    assert (gap < 5 * np.hypot(first["mcse"], second["mcse"]) + 1e-4).all()
    assert (first["mcse"] < 0.02 * first["sd"]).all()
    assert (first["mcse"] / first["sd"]).max() + one.quadrature_error == pytest.approx(one.error)
    assert one.quadrature_error < 1e-3
    assert one.ess_share > 0.3


@pytest.mark.slow
def test_non_centered_draws_agree_with_the_reference():
    from fieldguide.studies.trial import sample_trial

    answer = trial_posterior(question_trial(), log2_points=10)
    fit = sample_trial(question_trial(), seed=4, draws=4000, target_accept=0.95)
    posterior = fit["posterior"].to_dataset()
    for name in ("intercept", "effect", "sd_intercept", "sd_effect", "corr"):
        row = table(answer).loc[name]
        assert float(posterior[name].mean()) == pytest.approx(row["mean"], abs=0.08 * row["sd"])
        assert float(posterior[name].std()) == pytest.approx(row["sd"], rel=0.08)
    effects = posterior["site_effect"].mean(("chain", "draw"))
    for label, value in effects.to_series().items():
        row = table(answer).loc[f"site_effect[{label}]"]
        assert value == pytest.approx(row["mean"], abs=0.08 * row["sd"])


@pytest.mark.slow
def test_centered_form_misses_small_spreads_at_the_questions_size():
    from fieldguide.studies.trial import sample_trial

    answer = trial_posterior(question_trial(), log2_points=9)
    exact = float(answer.cdf("sd_effect", 0.05))
    seen, divergences = [], []
    for seed in range(3):
        fit = sample_trial(question_trial(), seed=seed, parameterization="centered", target_accept=0.8)
        seen.append(float((fit["posterior"]["sd_effect"] < 0.05).mean()))
        divergences.append(int(fit["sample_stats"]["diverging"].sum()))
    assert np.mean(seen) < 0.7 * exact
    assert min(divergences) > 20
