"""The multi-site trial: what is simulated, what is modelled, what is estimated."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.stats
import xarray as xr
from scipy.special import expit, logit

from fieldguide.data import (
    QUESTION_SITES,
    VALID_SITES,
    TrialError,
    arm_probabilities,
    as_rows,
    check_trial,
    question_trial,
    simulate_trial,
)
from fieldguide.models.trial import estimate, trial_model, true_estimands
from fieldguide.priors import TrialPriors

SMALL = pd.DataFrame(
    {"n_control": [15, 25], "n_treated": [15, 25], "control": [2, 3], "treated": [4, 9]},
    index=pd.Index(["A", "B"], name="site"),
)


def test_the_question_asks_for_a_negative_probability():
    with pytest.raises(TrialError, match=r"Site D.*treated.*-0.05.*scale='logit'"):
        arm_probabilities(QUESTION_SITES)
    with pytest.raises(TrialError, match="Site D"):
        simulate_trial(QUESTION_SITES, seed=1)


def test_clipping_changes_the_true_effect_and_the_valid_version_restores_it():
    stated = (QUESTION_SITES["n"] * QUESTION_SITES["effect"]).sum() / QUESTION_SITES["n"].sum()
    simulated = true_estimands(QUESTION_SITES, out_of_range="clip")
    valid = true_estimands(VALID_SITES)
    assert stated == pytest.approx(0.096)
    assert simulated["risk_difference"] == pytest.approx(0.098)
    assert valid["risk_difference"] == pytest.approx(stated)
    assert np.isfinite(valid["coefficient"])
    with np.errstate(divide="ignore"):
        assert true_estimands(QUESTION_SITES, out_of_range="clip")["coefficient"] == -np.inf


def test_clipped_site_never_succeeds():
    trial = simulate_trial(QUESTION_SITES, seed=3, out_of_range="clip", multiply=50)
    assert trial.loc["D", "treated"] == 0
    assert trial.loc["D", "control"] > 0


def test_question_trial_has_the_questions_sizes():
    trial = question_trial()
    assert (trial["n_control"] + trial["n_treated"]).tolist() == QUESTION_SITES["n"].tolist()
    assert trial["treated"].tolist() == [1, 46, 4, 0, 7]
    assert trial["control"].tolist() == [2, 29, 0, 0, 6]


def test_simulated_proportions_approach_the_probabilities():
    trial = simulate_trial(VALID_SITES, seed=5, multiply=2000)
    p = arm_probabilities(VALID_SITES)
    for arm in ("control", "treated"):
        n = trial[f"n_{arm}"]
        z = (trial[arm] - n * p[arm]) / np.sqrt(n * p[arm] * (1 - p[arm]))
        assert (z.abs() < 4.5).all()


def test_both_scales_describe_the_same_trial():
    p = arm_probabilities(VALID_SITES)
    log_odds = VALID_SITES.assign(
        baseline=logit(p["control"]), effect=logit(p["treated"]) - logit(p["control"])
    )
    pd.testing.assert_frame_equal(
        simulate_trial(VALID_SITES, seed=7), simulate_trial(log_odds, seed=7, scale="logit")
    )


def test_same_seed_same_trial_other_seed_other_trial():
    assert simulate_trial(VALID_SITES, seed=1).equals(simulate_trial(VALID_SITES, seed=1))
    assert not simulate_trial(VALID_SITES, seed=1).equals(simulate_trial(VALID_SITES, seed=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": [30, 301, 50, 20, 100]}, r"Site B has 301 participants.*even"),
        ({"n": [30, 300, 50, 20, 0]}, r"Site E has 0 participants.*at least 2"),
        ({"n": [30, 300, 50.5, 20, 100]}, "Site C has 50.5"),
        ({"baseline": [0.1, 0.15, 0.01, 0.15, 1.4]}, "Site E: baseline 1.4"),
        ({"baseline": [0.1, 0.95, 0.01, 0.15, 0.1]}, "Site B.*1.05, outside 0 to 1"),
        ({"effect": [0.0, 0.1, np.nan, 0.0, 0.1]}, "missing or infinite"),
    ],
)
def test_impossible_sites_are_refused_in_one_sentence(change, message):
    with pytest.raises(TrialError, match=message) as caught:
        simulate_trial(VALID_SITES.assign(**change), seed=1)
    assert "\n" not in str(caught.value)


def test_other_misuse_of_the_simulator_is_refused():
    with pytest.raises(TrialError, match="column n"):
        simulate_trial(VALID_SITES.drop(columns="n"), seed=1)
    with pytest.raises(TrialError, match="missing"):
        simulate_trial(VALID_SITES.drop(columns="effect"), seed=1)
    with pytest.raises(TrialError, match="label of its own"):
        simulate_trial(VALID_SITES.rename(index={"B": "A"}), seed=1)
    with pytest.raises(TrialError, match="scale must be"):
        simulate_trial(VALID_SITES, seed=1, scale="odds")
    with pytest.raises(TrialError, match="multiply"):
        simulate_trial(VALID_SITES, seed=1, multiply=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_treated": [15, 0], "treated": [4, 0]}, "Site B has nobody in its treated arm"),
        ({"control": [16, 3]}, "Site A has 16 successes among 15"),
        ({"control": [-1, 3]}, "Site A has -1 successes"),
        ({"control": [2.5, 3]}, "whole numbers"),
    ],
)
def test_impossible_counts_are_refused(change, message):
    with pytest.raises(TrialError, match=message):
        check_trial(SMALL.assign(**change))
    with pytest.raises(TrialError, match=message):
        trial_model(SMALL.assign(**change))


def test_rows_hold_the_same_counts():
    rows = as_rows(question_trial())
    assert len(rows) == 10
    assert rows["trials"].sum() == 500
    treated = rows.query("intervention == 1").set_index("site")["successes"]
    assert treated.to_dict() == question_trial()["treated"].to_dict()


# --- models -----------------------------------------------------------------------------------


def independent_log_density(trial, priors, corr_half, intercept, effect, sd, theta, delta):
    """The model's density written with SciPy's own bivariate normal."""
    rho = 2 * corr_half - 1
    cov = np.array([[sd[0] ** 2, rho * sd[0] * sd[1]], [rho * sd[0] * sd[1], sd[1] ** 2]])
    size = trial[["n_control", "n_treated"]].to_numpy()
    share = size[:, 1].sum() / size.sum()
    sites = scipy.stats.multivariate_normal([intercept - share * effect, effect], cov)
    total = priors.intercept.logpdf(intercept) + priors.effect.logpdf(effect)
    total += priors.sd.logpdf(sd).sum()
    total += scipy.stats.beta.logpdf(corr_half, priors.lkj_eta, priors.lkj_eta)
    total += sites.logpdf(np.column_stack([theta, delta])).sum()
    total += scipy.stats.binom.logpmf(trial["control"], size[:, 0], expit(theta)).sum()
    return total + scipy.stats.binom.logpmf(trial["treated"], size[:, 1], expit(theta + delta)).sum()


@pytest.mark.parametrize("unequal", [False, True])
def test_both_forms_have_the_published_density(unequal):
    trial = SMALL.assign(n_treated=[20, 60]) if unequal else SMALL
    priors = TrialPriors(sd=scipy.stats.halfnorm(scale=0.3), lkj_eta=2.0)
    centered = trial_model(trial, parameterization="centered", priors=priors)
    other = trial_model(trial, parameterization="non-centered", priors=priors)
    log_centered = centered.compile_fn(
        centered.logp(jacobian=False), inputs=centered.value_vars, point_fn=True
    )
    log_other = other.compile_fn(other.logp(jacobian=False), inputs=other.value_vars, point_fn=True)
    rng = np.random.default_rng(2)
    for _ in range(5):
        half, sd = rng.beta(3, 3), rng.gamma(2, 0.3, size=2)
        intercept, effect = rng.normal(-1, 0.5), rng.normal(0.3, 0.5)
        z = rng.standard_normal((2, 2))
        rho = 2 * half - 1
        share = trial["n_treated"].sum() / trial[["n_control", "n_treated"]].to_numpy().sum()
        theta = intercept - share * effect + sd[0] * z[0]
        delta = effect + sd[1] * (rho * z[0] + np.sqrt(1 - rho**2) * z[1])
        expected = independent_log_density(trial, priors, half, intercept, effect, sd, theta, delta)
        free = {
            "intercept": intercept,
            "effect": effect,
            "sd_intercept_log__": np.log(sd[0]),
            "sd_effect_log__": np.log(sd[1]),
            "corr_half_logodds__": logit(half),
        }
        found = log_centered(free | {"site_intercept": theta, "site_effect": delta})
        assert found == pytest.approx(expected, abs=1e-6)
        # dz = d(theta, delta) / |L|, site by site
        log_jacobian = 2 * (np.log(sd).sum() + np.log1p(-(rho**2)) / 2)
        found = log_other(free | {"z_intercept": z[0], "z_effect": z[1]})
        assert found == pytest.approx(expected + log_jacobian, abs=1e-6)


@pytest.mark.parametrize("eta", [1.0, 4.0])
def test_correlation_prior_is_lkj(eta):
    with pm.Model():
        _, corr, _ = pm.LKJCholeskyCov("cov", eta=eta, n=2, sd_dist=pm.HalfNormal.dist(1, shape=2))
    drawn = pm.draw(corr, draws=4000, random_seed=1)[:, 0, 1]
    assert scipy.stats.kstest((1 + drawn) / 2, scipy.stats.beta(eta, eta).cdf).pvalue > 1e-3


def test_unknown_parameterization_is_refused():
    with pytest.raises(ValueError, match="use one of centered, non-centered"):
        trial_model(SMALL, parameterization="noncentered")


# --- estimands --------------------------------------------------------------------------------


def test_estimands_of_draws_equal_the_sum_by_hand():
    rng = np.random.default_rng(0)
    dims = ("chain", "draw", "site")
    draws = xr.Dataset(
        {
            "effect": (dims[:2], rng.normal(size=(2, 5))),
            "site_intercept": (dims, rng.normal(size=(2, 5, 2))),
            "site_effect": (dims, rng.normal(size=(2, 5, 2))),
        }
    )
    found = estimate(draws, [30, 10])
    control = expit(draws["site_intercept"].values)
    treated = expit((draws["site_intercept"] + draws["site_effect"]).values)
    average = [0.75 * p[..., 0] + 0.25 * p[..., 1] for p in (control, treated)]
    np.testing.assert_allclose(found["risk_difference"], average[1] - average[0])
    np.testing.assert_allclose(found["marginal_log_odds_ratio"], logit(average[1]) - logit(average[0]))
    np.testing.assert_allclose(found["coefficient"], draws["effect"])
    with pytest.raises(TrialError, match="Unknown estimand 'odds'"):
        estimate(draws, [30, 10], ["odds"])
    with pytest.raises(TrialError, match="positive number for each of 2 sites"):
        estimate(draws, [30, 10, 5])


def test_marginal_odds_ratio_is_nearer_to_zero_than_the_common_one():
    sites = pd.DataFrame({"n": 100, "baseline": [-3.0, 0.0, 2.0], "effect": 1.0})
    truth = true_estimands(sites, scale="logit")
    assert truth["coefficient"] == pytest.approx(1.0)
    assert 0 < truth["marginal_log_odds_ratio"] < 0.95
