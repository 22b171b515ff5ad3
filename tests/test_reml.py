"""The restricted likelihood of the schools: in Python, in R, and on data that cannot inform it."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fieldguide.data import DATA_FOLDER, load_schools
from fieldguide.reml import (
    DesignError,
    cross_products,
    fit_reml,
    gamma_on_sds,
    lkj,
    profile,
    restricted_deviance,
    wishart,
)

FIGURES = json.loads((DATA_FOLDER / "r_schools.json").read_text())
R, PUBLISHED = FIGURES["fits"], FIGURES["published"]
MODELS = [name for name in R if {"tight", "formula"} <= set(R[name])]
WISHART = sorted(float(name.removeprefix("wishart_")) for name in R if name.startswith("wishart_"))
RAW = "math ~ ses * catholic + (ses | school)"


@pytest.fixture(scope="module")
def schools():
    table = load_schools()
    table["catholic"] = (table["sector"] == "Catholic").astype(int)
    table["ses_within"] = table["ses"] - table.groupby("school")["ses"].transform("mean")
    return table


@pytest.fixture(scope="module")
def raw(schools):
    return cross_products(RAW, schools)


def assert_agrees(fit, quoted, variances=2e-5, fixed=3e-6):
    np.testing.assert_allclose(fit.fixed["estimate"], quoted["fixed"], rtol=0, atol=2 * fixed)
    np.testing.assert_allclose(fit.fixed["se"], quoted["se"], rtol=0, atol=2 * fixed)
    for name in ("sd_intercept", "sd_slope", "correlation", "sd_residual"):
        assert getattr(fit, name) == pytest.approx(quoted[name], abs=3 * variances), name
    assert fit.reml == pytest.approx(quoted["reml"], abs=6e-4)


@pytest.mark.parametrize("name", MODELS)
def test_reml_agrees_with_lme4_told_to_go_on(schools, name):
    fit = fit_reml(cross_products(R[name]["formula"], schools))
    assert_agrees(fit, R[name]["tight"])
    assert fit.reml <= R[name]["default"]["reml"] + 1e-6, "lme4's default stop must not be better"


@pytest.mark.parametrize("name", MODELS)
def test_reml_prints_what_lme4_prints(schools, name):
    """To the digits of R's summary(); where lme4 stops early its own last digit is off by more."""
    fit, quoted = fit_reml(cross_products(R[name]["formula"], schools)), R[name]["default"]
    np.testing.assert_allclose(fit.fixed["estimate"], quoted["fixed"], rtol=0, atol=1.2e-4)
    np.testing.assert_allclose(fit.fixed["se"], quoted["se"], rtol=0, atol=5e-5)
    for ours, theirs in [
        (fit.sd_intercept**2, quoted["sd_intercept"] ** 2),
        (fit.sd_slope**2, quoted["sd_slope"] ** 2),
        (fit.correlation, quoted["correlation"]),
        (fit.sd_residual**2, quoted["sd_residual"] ** 2),
    ]:
        assert ours == pytest.approx(theirs, abs=6e-4)
    assert round(fit.reml, 1) == round(quoted["reml"], 1)


@pytest.mark.parametrize("name", MODELS)
def test_criterion_at_lme4s_own_variances_is_lme4s(schools, name):
    quoted = R[name]["default"]
    model = cross_products(R[name]["formula"], schools)
    a, s = (quoted[key] / quoted["sd_residual"] for key in ("sd_intercept", "sd_slope"))
    value = restricted_deviance(model, a**2, quoted["correlation"] * a * s, s**2)
    assert float(value) == pytest.approx(quoted["reml"], abs=2e-6)


def test_published_figures_are_reproduced_to_their_digits(schools):
    for name in ("within_no_interaction", "within_interaction"):
        quoted, fit = PUBLISHED[name], fit_reml(cross_products(R[name]["formula"], schools))
        np.testing.assert_array_equal(fit.fixed["estimate"].round(2), quoted["fixed"])
        np.testing.assert_array_equal(fit.fixed["se"].round(2), quoted["se"])
        assert round(fit.sd_intercept**2, 2) == quoted["var_intercept"]
        assert round(fit.sd_slope**2, 2) == quoted["var_slope"]
        assert round(fit.sd_residual**2, 2) == quoted["var_residual"]
        covariance = fit.correlation * fit.sd_intercept * fit.sd_slope
        assert round(covariance, 2) == quoted["covariance"]
        parameters = len(fit.fixed) + 4
        assert round(fit.reml + 2 * parameters, 2) == quoted["AIC"]
        assert round(fit.reml + np.log(len(schools)) * parameters, 2) == quoted["BIC"]
        assert round(-fit.reml / 2, 2) == pytest.approx(quoted["logLik"], abs=0.011)


def test_the_model_asked_about_is_singular_and_the_others_are_not(schools):
    singular = [
        name for name in MODELS if fit_reml(cross_products(R[name]["formula"], schools)).singular
    ]
    assert singular == ["raw_interaction"]


@pytest.mark.parametrize("df", WISHART)
def test_wishart_penalty_agrees_with_blme(raw, df):
    fit = fit_reml(raw, wishart(df))
    assert_agrees(fit, R[f"wishart_{df:g}"])
    assert fit.singular == (df == 3)


def test_blmers_default_call_stops_at_a_wrong_optimum(raw):
    right, stopped = fit_reml(raw, wishart(4.5)), R["blmer_default_call"]
    a, s = (stopped[key] / stopped["sd_residual"] for key in ("sd_intercept", "sd_slope"))
    r = stopped["correlation"]
    there = restricted_deviance(raw, a**2, r * a * s, s**2) - 2 * wishart(4.5)(
        a, s, s * np.sqrt(1 - r**2)
    )
    assert there > right.objective + 160
    assert stopped["sd_slope"] > 1.7 * right.sd_slope


def test_restricted_likelihood_is_the_integral_of_a_dense_normal_density(schools):
    """Independent: full covariance matrices, and the fixed effects integrated numerically."""
    few = schools[schools["school"].isin(schools["school"].unique()[:5])].groupby("school").head(6)
    model = cross_products("math ~ ses + (ses | school)", few)
    d, sigma = np.array([[0.3, 0.1], [0.1, 0.2]]), 5.5
    x = np.column_stack([np.ones(len(few)), few["ses"]])
    same = few["school"].to_numpy()[:, None] == few["school"].to_numpy()
    v = sigma**2 * (np.eye(len(few)) + (x @ d @ x.T) * same)
    y = few["math"].to_numpy()
    beta = np.linalg.solve(x.T @ np.linalg.solve(v, x), x.T @ np.linalg.solve(v, y))
    spread = np.linalg.inv(x.T @ np.linalg.solve(v, x))
    top = stats.multivariate_normal(x @ beta, v).logpdf(y)
    expected = -2 * (top + 0.5 * np.linalg.slogdet(2 * np.pi * spread)[1])
    value = restricted_deviance(model, d[0, 0], d[0, 1], d[1, 1], sigma)
    assert float(value) == pytest.approx(expected, abs=1e-8)


def test_school_effects_shrink_towards_zero_and_sum_to_nothing(raw):
    effects = fit_reml(raw, wishart(4.5)).group_effects
    assert effects.shape == (160, 2)
    assert abs(effects["intercept"].mean()) < 0.1
    assert effects["intercept"].std() < fit_reml(raw, wishart(4.5)).sd_intercept


def test_profile_is_lowest_at_the_estimate_and_nowhere_below(raw):
    fit = fit_reml(raw)
    at = profile(raw, fit.sd_slope, fit.correlation)
    assert float(at) == pytest.approx(fit.reml, abs=1e-5)
    surface = profile(raw, np.linspace(0.05, 1, 9)[:, None], np.linspace(-0.9, 1, 9))
    assert surface.min() >= fit.reml - 1e-6


def test_profile_agrees_with_a_direct_minimisation(raw):
    from scipy.optimize import minimize

    def deviance(x):
        a, sigma = np.exp(x)
        s = 0.4 / sigma
        return float(restricted_deviance(raw, a**2, 0.3 * a * s, s**2, sigma))

    best = minimize(deviance, [-1.1, 1.8], method="Nelder-Mead", options={"fatol": 1e-9})
    assert float(profile(raw, 0.4, 0.3)) == pytest.approx(best.fun, abs=1e-5)


def test_the_likelihood_hardly_informs_the_correlation(raw):
    sds = np.linspace(0.1, 0.8, 141)
    gain = profile(raw, sds, 0.5).min() - profile(raw, sds, 1.0).min()
    assert gain == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("penalty", [gamma_on_sds(2.5), lkj(1.5), wishart(5)])
def test_penalised_estimates_are_minima_of_their_profiles(raw, penalty):
    fit = fit_reml(raw, penalty)
    r = np.clip(fit.correlation + np.array([-0.03, 0, 0.03]), -1, 0.9999)
    around = profile(raw, fit.sd_slope * np.array([0.95, 1, 1.05])[:, None], r, penalty)
    assert around.argmin() == 4
    assert around[1, 1] == pytest.approx(fit.objective, abs=1e-4)


def test_penalties_that_reward_the_boundary_are_refused():
    for make, value in [(wishart, 2.9), (gamma_on_sds, 0.5), (lkj, 0.5)]:
        with pytest.raises(ValueError, match="rewards"):
            make(value)


def test_one_student_per_school_is_refused(schools):
    alone = schools.drop_duplicates("school")
    with pytest.raises(DesignError, match="cannot tell"):
        cross_products(RAW, alone)


def test_constant_predictor_is_refused(schools):
    with pytest.raises(DesignError, match="ses is constant"):
        cross_products(RAW, schools.assign(ses=0.5))


def test_redundant_predictor_is_refused(schools):
    with pytest.raises(DesignError, match="combination of the others"):
        cross_products("math ~ ses + twice + (ses | school)", schools.assign(twice=2 * schools["ses"]))


def test_a_school_without_rows_is_refused(schools):
    labels = pd.Categorical(schools["school"], categories=[*schools["school"].unique(), 9999])
    with pytest.raises(DesignError, match="school 9999 has no rows"):
        cross_products(RAW, schools.assign(school=labels))


def test_a_column_that_the_formula_does_not_use_may_be_empty(schools):
    """Even one whose name is part of another's, such as s in ses and school."""
    formula = "math ~ ses + (ses | school)"
    expected = fit_reml(cross_products(formula, schools))
    table = schools.assign(s=np.nan, math_="")
    assert fit_reml(cross_products(formula, table)).reml == expected.reml


def test_a_missing_cell_is_refused_with_its_place(schools):
    damaged = schools.copy()
    damaged.loc[41, "ses"] = np.nan
    with pytest.raises(DesignError, match=r"Column ses has 1 missing cell.*row 41"):
        cross_products(RAW, damaged)


def test_an_unknown_column_or_shape_of_formula_is_refused(schools):
    with pytest.raises(DesignError, match="no column"):
        cross_products("math ~ wealth + (wealth | school)", schools)
    with pytest.raises(DesignError, match="an intercept and one slope"):
        cross_products("math ~ ses + (1 | school)", schools)
    with pytest.raises(DesignError, match="no fixed effect"):
        cross_products("math ~ catholic + (ses | school)", schools)
