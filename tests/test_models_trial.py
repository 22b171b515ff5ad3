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
    check_groups,
    check_trial,
    counts_from_rows,
    question_trial,
    rows_from_counts,
    simulate_trial,
)
from fieldguide.data.trials import covariate_matrix
from fieldguide.models import problem_of
from fieldguide.models.trial import adjusted_trial_model, estimate, trial_model, true_estimands
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
    assert np.isfinite(valid["site_average"])
    with np.errstate(divide="ignore"):
        assert true_estimands(QUESTION_SITES, out_of_range="clip")["site_average"] == -np.inf


def test_sites_that_are_given_have_an_average_and_no_population():
    log_odds_ratio = logit(VALID_SITES["baseline"] + VALID_SITES["effect"]) - logit(
        VALID_SITES["baseline"]
    )
    truth = true_estimands(VALID_SITES)
    assert truth["site_average"] == pytest.approx(log_odds_ratio.mean())
    assert np.isnan(truth["coefficient"])
    assert true_estimands(VALID_SITES, coefficient=0.6)["coefficient"] == 0.6


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
        ({"n": [30, 300, 50, 20, 1]}, r"Site E has 1 participants.*at least 2"),
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
    with pytest.raises(TrialError, match="either a column n or both"):
        simulate_trial(VALID_SITES.assign(n_control=5), seed=1)
    with pytest.raises(TrialError, match="Site A has 0 participants in its control arm"):
        simulate_trial(VALID_SITES.drop(columns="n").assign(n_control=0, n_treated=5), seed=1)
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


def test_arms_may_have_any_ratio_and_sites_any_size():
    sites = VALID_SITES.assign(n=[31, 300, 7, 20, 100])
    equal, twice = simulate_trial(sites, seed=1), simulate_trial(sites, seed=1, allocation="2:1")
    assert equal[["n_control", "n_treated"]].sum(axis=1).tolist() == sites["n"].tolist()
    assert (equal["n_treated"] - equal["n_control"]).tolist() == [1, 0, 1, 0, 0]
    assert twice["n_treated"].tolist() == [21, 200, 5, 13, 67]
    by_arm = sites.drop(columns="n").assign(n_control=twice["n_control"], n_treated=twice["n_treated"])
    assert simulate_trial(by_arm, seed=1).equals(twice)
    assert true_estimands(by_arm) == pytest.approx(true_estimands(sites), nan_ok=True)


@pytest.mark.parametrize("allocation", ["1:0", "a:b", "1:2:3", -1, np.nan, None])
def test_a_ratio_that_is_none_is_refused(allocation):
    with pytest.raises(TrialError, match="positive number or a ratio such as '2:1'"):
        simulate_trial(VALID_SITES, seed=1, allocation=allocation)


# --- rows and groups --------------------------------------------------------------------------


def test_rows_hold_the_same_counts():
    rows = as_rows(question_trial())
    assert len(rows) == 10
    assert rows["trials"].sum() == 500
    treated = rows.query("intervention == 1").set_index("site")["successes"]
    assert treated.to_dict() == question_trial()["treated"].to_dict()


GROUPS = pd.DataFrame(
    {
        "site": ["A", "A", "A", "A", "B", "B", "B"],
        "intervention": [0, 1, 0, 1, 0, 1, 1],
        "stratum": ["child", "child", "old", "old", "child", "child", "old"],
        "successes": [2, 4, 1, 0, 7, 5, 3],
        "trials": [9, 8, 3, 4, 20, 30, 6],
    }
)


@pytest.mark.parametrize("trial", [SMALL, question_trial(), GROUPS], ids=["small", "question", "groups"])
def test_counts_become_rows_and_rows_the_same_counts(trial):
    rows = rows_from_counts(trial).sample(frac=1, random_state=1)
    strata = "stratum" if "stratum" in trial else ()
    again = counts_from_rows(rows, outcome="outcome", arm="intervention", site="site", strata=strata)
    if strata:
        order = ["site", "intervention", "stratum"]
        again = again.sort_values(order)[list(trial)]
        trial = trial.sort_values(order)
        assert len(rows) == trial["trials"].sum()
    assert again.reset_index(drop=True).equals(trial.reset_index(drop=True))


def test_arms_in_words_and_outcomes_that_are_true_or_false_are_counted():
    rows = rows_from_counts(SMALL)
    words = rows.assign(
        outcome=rows["outcome"] == 1, arm=np.where(rows["intervention"] == 1, "drug", "placebo")
    )
    counts = counts_from_rows(words, outcome="outcome", arm="arm", site="site", treated="drug")
    assert counts.equals(SMALL)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"outcome": [0, 1, 2, 0]}, {}, r"Row 3: outcome is .*2.*write 1 for a success"),
        ({"arm": ["a", "b", "a", "b"]}, {}, r"Row 1: arm is 'a'.*say with treated="),
        ({"arm": ["a", "b", "c", "b"]}, {"treated": "b"}, "an arm has two"),
        ({"site": ["A", None, "A", "A"]}, {}, "Row 2: site is missing"),
        ({"arm": [1, 1, 1, 1]}, {}, "Site A has nobody in its control arm"),
        ({}, {"site": "clinic"}, "no column 'clinic'; there are site, arm, outcome"),
        ({}, {"strata": ["age"]}, "no column 'age'"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused_with_their_number(change, settings, message):
    rows = pd.DataFrame({"site": "A", "arm": [0, 1, 0, 1], "outcome": [0, 1, 1, 0]}).assign(**change)
    with pytest.raises(TrialError, match=message):
        counts_from_rows(rows, **{"outcome": "outcome", "arm": "arm", "site": "site"} | settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"successes": [2, 9, 1, 0, 7, 5, 3]}, "Row 2: 9 successes among 8"),
        ({"trials": [9, 8, 3, 0, 20, 30, 6]}, "Row 4: 0 successes among 0.*left out"),
        ({"intervention": [0, 1, 0, 2, 0, 1, 1]}, "Row 4: intervention is 2"),
        ({"intervention": [0, 1, 0, 1, 1, 1, 1]}, "Site B has nobody in its control arm"),
        ({"stratum": ["old", None, *["old"] * 5]}, "Row 2: stratum is missing"),
        ({"stratum": "old"}, "Everybody has the stratum 'old'"),
    ],
)
def test_impossible_groups_are_refused(change, message):
    with pytest.raises(TrialError, match=message):
        check_groups(GROUPS.assign(**change))
    with pytest.raises(TrialError, match=message):
        adjusted_trial_model(GROUPS.assign(**change))


def test_covariates_are_coded_against_the_first_level_and_centred_over_participants():
    groups = GROUPS.assign(age=[10.0, 10.0, 80.0, 80.0, 12.0, 12.0, 70.0])
    matrix = covariate_matrix(groups)
    assert list(matrix) == ["stratum[old]", "age"]
    assert (matrix.mul(groups["trials"], axis=0).sum().abs() < 1e-9).all()
    assert matrix.loc[2, "stratum[old]"] - matrix.loc[0, "stratum[old]"] == 1
    assert matrix.loc[2, "age"] - matrix.loc[0, "age"] == 70
    order = pd.Categorical(groups["stratum"], categories=["old", "child"])
    assert "stratum[child]" in covariate_matrix(groups.assign(stratum=order))


# --- models -----------------------------------------------------------------------------------


@pytest.mark.parametrize("parameterization", ["centered", "non-centered"])
def test_a_stratum_adds_its_coefficient_to_both_arms(parameterization):
    priors = TrialPriors(sd=scipy.stats.halfnorm(scale=0.3), lkj_eta=2.0)
    model = adjusted_trial_model(
        GROUPS,
        parameterization=parameterization,
        priors=priors,
        covariate_prior=scipy.stats.norm(0.5, 2),
    )
    log_density = model.compile_fn(model.logp(jacobian=False), inputs=model.value_vars, point_fn=True)
    n, y = GROUPS["trials"].to_numpy(), GROUPS["successes"].to_numpy()
    arm, site = GROUPS["intervention"].to_numpy(), np.array([0, 0, 0, 0, 1, 1, 1])
    old = (GROUPS["stratum"] == "old").to_numpy() - n[[2, 3, 6]].sum() / n.sum()
    rng = np.random.default_rng(4)
    for _ in range(4):
        half, sd, gamma = rng.beta(3, 3), rng.gamma(2, 0.3, size=2), rng.normal(size=1)
        intercept, effect = rng.normal(-1, 0.5), rng.normal(0.3, 0.5)
        z, rho = rng.standard_normal((2, 2)), 2 * half - 1
        mean = [intercept - (arm * n).sum() / n.sum() * effect, effect]
        theta = mean[0] + sd[0] * z[0]
        delta = effect + sd[1] * (rho * z[0] + np.sqrt(1 - rho**2) * z[1])
        cov = np.array([[sd[0] ** 2, rho * sd[0] * sd[1]], [rho * sd[0] * sd[1], sd[1] ** 2]])
        p = expit(theta[site] + arm * delta[site] + gamma * old)
        expected = priors.intercept.logpdf(intercept) + priors.effect.logpdf(effect)
        expected += priors.sd.logpdf(sd).sum() + scipy.stats.beta.logpdf(half, 2, 2)
        expected += scipy.stats.norm.logpdf(gamma, 0.5, 2).sum()
        expected += (
            scipy.stats.multivariate_normal(mean, cov).logpdf(np.column_stack([theta, delta])).sum()
        )
        expected += scipy.stats.binom.logpmf(y, n, p).sum()
        point = {
            "intercept": intercept,
            "effect": effect,
            "sd_intercept_log__": np.log(sd[0]),
            "sd_effect_log__": np.log(sd[1]),
            "corr_half_logodds__": logit(half),
            "covariate_effect": gamma,
        }
        if parameterization == "centered":
            point |= {"site_intercept": theta, "site_effect": delta}
        else:
            point |= {"z_intercept": z[0], "z_effect": z[1]}
            expected += 2 * (np.log(sd).sum() + np.log1p(-(rho**2)) / 2)
        assert log_density(point) == pytest.approx(expected, abs=1e-5)


def test_an_adjusted_model_says_what_it_is():
    problem = problem_of(adjusted_trial_model(GROUPS))
    assert problem.model == "varying intercept and effect, with covariates"
    assert problem.prior("covariate_effect[stratum[old]]") == "Normal(0, 1)"
    assert problem == problem_of(adjusted_trial_model(GROUPS.sample(frac=1, random_state=2)))
    assert problem != problem_of(adjusted_trial_model(GROUPS.assign(successes=[2, 4, 1, 1, 7, 5, 3])))


def test_an_adjusted_model_needs_a_covariate_and_a_normal_prior():
    with pytest.raises(TrialError, match="no covariate; use trial_model"):
        adjusted_trial_model(as_rows(SMALL))
    with pytest.raises(TrialError, match="must be normal"):
        adjusted_trial_model(GROUPS, covariate_prior=scipy.stats.halfnorm())
    with pytest.raises(ValueError, match="use one of centered, non-centered"):
        adjusted_trial_model(GROUPS, parameterization="noncentered")


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
    np.testing.assert_allclose(found["site_average"], draws["site_effect"].values.mean(axis=-1))
    with pytest.raises(TrialError, match="Unknown estimand 'odds'"):
        estimate(draws, [30, 10], ["odds"])
    with pytest.raises(TrialError, match="positive number for each of 2 sites"):
        estimate(draws, [30, 10, 5])


def test_marginal_odds_ratio_is_nearer_to_zero_than_the_common_one():
    sites = pd.DataFrame({"n": 100, "baseline": [-3.0, 0.0, 2.0], "effect": 1.0})
    truth = true_estimands(sites, scale="logit")
    assert truth["site_average"] == pytest.approx(1.0)
    assert 0 < truth["marginal_log_odds_ratio"] < 0.95
