"""The report on one's own singular fit, on a singular and on a regular one, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fieldguide as fg
from fieldguide.data import load_schools
from fieldguide.reference import schools as quadrature
from fieldguide.reference import schools_posterior
from fieldguide.reml import (
    CrossProducts,
    DesignError,
    cross_products,
    fit_reml,
    profile,
    restricted_deviance,
    wishart,
)
from fieldguide.singular import _Profiles, boundary_p_value, default_priors, singular_fit_report

FORMULA = "math ~ ses * sector + (ses | school)"
SLEEP = "Reaction ~ Days + (Days | Subject)"

# lme4 1.1-31 under R 4.2.2: lmer by bobyqa, its REMLcrit, AIC,
# VarCorr and rePCA; sleepstudy is lme4's, which mixedlm ships too.
LME4_SCHOOLS = {
    "(ses | school)": {"criterion": 46569.11219, "AIC": 46585.1122},
    "(ses || school)": {"criterion": 46574.16427, "AIC": 46588.1643},
    "(1 | school)": {"criterion": 46574.16427, "AIC": 46586.1643},
}
LME4_SLEEP = {
    "criterion": [1743.628272, 1743.669294, 1786.465085],
    "sds": [24.740658, 5.922138, 25.591796],
    "correlation": 0.06555,
    "rePCA": [0.9668680, 0.2308798],
}


@pytest.fixture(scope="module")
def schools():
    return singular_fit_report(FORMULA, load_schools())


@pytest.fixture(scope="module")
def sleepstudy():
    return pd.DataFrame(pytest.importorskip("mixedlm").load_sleepstudy())


@pytest.fixture(scope="module")
def sleep(sleepstudy):
    return singular_fit_report(SLEEP, sleepstudy)


@pytest.fixture(scope="module")
def growth():
    """Thirty children seen at twelve ages, whose lines differ."""
    rng = np.random.default_rng(3)
    child = np.repeat(np.arange(30), 12)
    age = rng.normal(size=child.size)
    lines = rng.normal(size=(2, 30)) * [[1.0], [0.4]]
    height = 1 + lines[0][child] + (0.5 + lines[1][child]) * age + rng.normal(size=child.size)
    return pd.DataFrame({"child": child, "age": age, "height": height})


# ---------------------------------------------------------------------------------------------
# What lme4 says of the same models


def test_reduced_models_of_the_schools_agree_with_lme4(schools):
    for model, quoted in LME4_SCHOOLS.items():
        row = schools.models.loc[model]
        assert row["criterion"] == pytest.approx(quoted["criterion"], abs=1e-5), model
        assert row["AIC"] == pytest.approx(quoted["AIC"], abs=1e-4), model
    assert schools.models["singular"].tolist() == [True, True, False]


def test_the_schools_without_a_correlation_are_singular_too(schools):
    """The usual remedy (ses || school) has slopes that do not vary: it is (1 | school)."""
    assert schools.models.loc["(ses || school)", "sd_slope"] == 0
    assert schools.reduced["diagonal"].boundary
    assert schools.tests["lost"].round(2).tolist() == [5.05, 5.05, 0.0]


def test_sleepstudy_agrees_with_lme4(sleep):
    np.testing.assert_allclose(sleep.models["criterion"], LME4_SLEEP["criterion"], atol=2e-6)
    fit = sleep.fit
    found = [fit.sd_intercept, fit.sd_slope, fit.sd_residual]
    np.testing.assert_allclose(found, LME4_SLEEP["sds"], atol=5e-4)
    assert fit.correlation == pytest.approx(LME4_SLEEP["correlation"], abs=1e-4)
    np.testing.assert_allclose(sleep.principal["sd"], LME4_SLEEP["rePCA"], atol=2e-5)
    assert not fit.singular


def test_standard_errors_grow_along_the_path_and_are_blmes(schools):
    """The coefficients hardly notice the penalty; the interaction's standard error does."""
    path = schools.path
    se = path["se ses:sector[Public]"]
    assert se.loc[[3.0, 4.5, 6.0]].round(4).tolist() == [0.2156, 0.2255, 0.2307]
    assert se.is_monotonic_increasing
    assert path["correlation"].is_monotonic_decreasing
    assert path.loc[4.5, "correlation"] == pytest.approx(0.581, abs=5e-4)


def test_a_penalised_fit_may_be_inside_and_singular_by_tolerance_alone():
    """The mathematics and isSingular's tolerance are two things: df = 3 + 5e-7."""
    fit = fit_reml(cross_products(FORMULA, load_schools()), wishart(3 + 5e-7))
    assert fit.singular
    assert not fit.boundary
    assert abs(fit.correlation) < 1


# ---------------------------------------------------------------------------------------------
# Profiles


def test_what_the_profile_says_of_the_schools(schools):
    lost = schools.profile["lost"]
    assert lost["r = 1"] == 0
    assert lost["r = 0.500"] == pytest.approx(1.0, abs=0.02)
    assert lost["r = 0"] == pytest.approx(5.05, abs=0.01)
    assert lost["no slope variance"] == pytest.approx(lost["r = 0"], abs=1e-5)
    low, high = schools.flat
    assert (round(low, 2), high) == (0.5, 1.0)


@pytest.mark.parametrize("r", [-0.5, 0.3, 0.9])
def test_profiles_are_the_lowest_of_the_surface(growth, r):
    report = singular_fit_report("height ~ age + (age | child)", growth)
    sds = report.fit.sd_slope * np.geomspace(0.001, 2, 400)
    surface = profile(report.sums, sds, r)
    found, x = report._profiles.at_correlation(r)
    assert surface.min() - 0.02 < found < surface.min() + 1e-6
    assert report._profiles.sds_at(r, x)[1] == pytest.approx(
        sds[surface.argmin()], rel=0.03, abs=2 * sds[0]
    )
    at = profile(report.sums, 0.5, np.linspace(-0.99, 0.99, 199)).min()
    assert report._profiles.at_sd(0.5)[0] == pytest.approx(at, abs=1e-3)


def test_profile_at_no_correlation_is_the_uncorrelated_model(sleep):
    assert sleep.profile.loc["r = 0", "deviance"] == pytest.approx(
        sleep.models["criterion"].iloc[1], abs=1e-6
    )


def test_curves_are_lowest_at_the_estimate(schools, sleep):
    for report in (schools, sleep):
        for curve, best in (
            (report.correlation_curve, report.fit.correlation),
            (report.slope_curve, report.fit.sd_slope),
        ):
            where, lost = (curve[column].to_numpy() for column in curve)
            assert where[lost.argmin()] == pytest.approx(best, abs=1e-9)
            assert lost.min() < 1e-4
            falls, rises = np.diff(lost[: lost.argmin() + 1]), np.diff(lost[lost.argmin() :])
            assert (falls < 1e-6).all()
            assert (rises > -1e-6).all()


@pytest.mark.parametrize(("shift", "scale"), [(0, 1000), (0, 1e-3), (8, 2), (-50, 0.1)])
def test_units_and_zero_of_the_predictor_do_not_matter(growth, shift, scale):
    one = singular_fit_report("height ~ age + (age | child)", growth)
    other = growth.assign(age=shift + scale * growth["age"])
    other = singular_fit_report("height ~ age + (age | child)", other)
    # the restricted likelihood counts the predictor's units once
    assert other.fit.reml - 2 * np.log(scale) == pytest.approx(one.fit.reml, abs=1e-6)
    assert other.fit.sd_slope * scale == pytest.approx(one.fit.sd_slope, rel=1e-5)
    assert other.tests["lost"].iloc[0] == pytest.approx(one.tests["lost"].iloc[0], abs=1e-6)
    none = one.slope_curve
    again = other._profiles.at_sd(none["sd_slope"].iloc[3] / scale)[0] - other.fit.reml
    assert again == pytest.approx(none["lost"].iloc[3], abs=1e-4)


def test_a_zero_far_from_the_data_is_pointed_out(growth):
    report = singular_fit_report("height ~ age + (age | child)", growth.assign(age=growth["age"] + 900))
    assert any("centre age" in note for note in report.notes)
    lost = report.profile["lost"]
    assert 0 <= lost["r = \N{MINUS SIGN}1"] <= lost["no slope variance"] + 1e-6


# ---------------------------------------------------------------------------------------------
# The test at the boundary


def test_mixtures_of_chi_squared():
    x = 5.05
    by_hand = (stats.chi2.sf(x, 1) + stats.chi2.sf(x, 2)) / 2
    assert boundary_p_value(x) == pytest.approx(by_hand)
    assert boundary_p_value(x, with_correlation=False) == pytest.approx(stats.chi2.sf(x, 1) / 2)
    assert boundary_p_value(0) == boundary_p_value(-1e-9) == 1


def simulated(rng, groups=300, rows=8):
    """Sums of data whose slopes do not vary."""
    x = rng.normal(size=(groups, rows))
    y = 0.8 * rng.normal(size=(groups, 1)) + 0.3 * x + rng.normal(size=(groups, rows))
    w = np.stack([np.ones_like(x), x, y], -1)
    products = np.einsum("jia,jib->jab", w, w)
    labels = tuple(map(str, range(groups)))
    return CrossProducts(labels, ("Intercept", "x"), (0, 1), np.full(groups, rows), products)


def test_the_estimate_is_the_lowest_of_its_profile_at_either_end():
    """Where slopes hardly vary, correlations of one and of minus one are both lowest around."""
    rng, ends = np.random.default_rng(1), set()
    for _ in range(15):
        sums = simulated(rng, groups=40, rows=40)
        fit = fit_reml(sums)
        profiles = _Profiles(sums, fit)
        lowest = min(profiles.at_correlation(r)[0] for r in np.linspace(-1, 1, 21))
        assert fit.reml <= lowest + 1e-6
        ends.add(fit.correlation)
    assert {-1.0, 1.0} <= ends


@pytest.mark.slow
def test_p_values_at_the_boundary_are_uniform_where_slopes_are_equal():
    """Those of the mixture; chi-squared with two degrees of freedom says too little too rarely."""
    rng, count = np.random.default_rng(1), 300
    lost = np.array(
        [
            fit_reml(sums, covariance="intercept").reml - fit_reml(sums).reml
            for sums in (simulated(rng) for _ in range(count))
        ]
    )
    assert (lost > -1e-6).all()
    p = np.array([boundary_p_value(value) for value in lost])
    naive = stats.chi2.sf(lost, 2)
    for level in (0.05, 0.2):
        assert stats.binomtest(int((p < level).sum()), count, level).pvalue > 0.005, level
    assert stats.binomtest(int((naive < 0.2).sum()), count, 0.2, "less").pvalue < 0.05


@pytest.mark.slow
def test_p_values_of_a_lone_variance_are_half_as_large():
    rng, count = np.random.default_rng(2), 300
    lost = np.array(
        [
            fit_reml(sums, covariance="intercept").reml - fit_reml(sums, covariance="diagonal").reml
            for sums in (simulated(rng) for _ in range(count))
        ]
    )
    p = np.array([boundary_p_value(value, with_correlation=False) for value in lost])
    assert stats.binomtest(int((lost < 1e-6).sum()), count, 0.5).pvalue > 0.001
    assert stats.binomtest(int((p < 0.1).sum()), count, 0.1).pvalue > 0.005


# ---------------------------------------------------------------------------------------------
# The posterior


def test_prior_stands_beside_posterior_for_every_variance_and_the_correlation(schools):
    table = schools.variances
    assert table.index.tolist() == ["sd_intercept", "sd_slope", "correlation", "sd_residual"]
    prior = stats.beta(2, 2, loc=-1, scale=2)
    assert table.loc["correlation", "prior low"] == pytest.approx(prior.ppf(0.055))
    inside = schools.exact.cdf("correlation", table.loc["correlation", "posterior high"])
    assert float(inside) == pytest.approx(0.945, abs=1e-6)
    assert table.loc["sd_intercept", "narrower"] < 0.1
    assert table.loc["correlation", "narrower"] > 0.5, "the correlation is what the data leave open"


def test_default_priors_follow_the_scales_of_the_data(growth):
    formula = "height ~ age + (age | child)"
    one = default_priors(cross_products(formula, growth))
    table = growth.assign(age=growth["age"] * 10, height=growth["height"] * 100)
    other = default_priors(cross_products(formula, table))
    assert other["sd_prior"][0].std() == pytest.approx(100 * one["sd_prior"][0].std(), rel=0.06)
    assert other["sd_prior"][1].std() == pytest.approx(10 * one["sd_prior"][1].std(), rel=0.06)


def test_priors_may_be_given_and_misspelt_ones_are_refused(growth):
    formula = "height ~ age + (age | child)"
    report = singular_fit_report(formula, growth, priors={"lkj_eta": None})
    assert "correlation" not in report.variances.index
    assert "a correlation of 0" in report.paragraph
    with pytest.raises(ValueError, match="Unknown priors"):
        singular_fit_report(formula, growth, priors={"lkj": 2})


def test_sums_that_are_interpolated_give_the_same_posterior(monkeypatch):
    """With thousands of groups the sums are interpolated; here with 160, beside the sums themselves."""
    sums = cross_products(FORMULA, load_schools())
    priors = default_priors(sums)
    direct = schools_posterior(sums, **priors)
    monkeypatch.setattr(quadrature, "MANY", 100)
    made = []
    kept = quadrature._Interpolation.__init__
    monkeypatch.setattr(
        quadrature._Interpolation,
        "__init__",
        lambda self, *args: (made.append(args[2]), kept(self, *args))[1],
    )
    monkeypatch.setattr(quadrature, "INTERPOLATION", 1e-3)
    other = schools_posterior(sums, **priors)
    assert made
    for name in ("mean", "sd"):
        one, two = getattr(direct, name), getattr(other, name)
        for variable in one:
            gap = np.abs(one[variable] - two[variable]) / direct.sd[variable]
            assert float(gap.max()) < 2e-4, (name, variable)


def test_an_interpolation_that_is_not_exact_enough_is_dropped(monkeypatch):
    sums = cross_products(FORMULA, load_schools())
    monkeypatch.setattr(quadrature, "MANY", 100)
    p = default_priors(sums)
    model = quadrature._Model(
        sums,
        quadrature._check_priors(sums, p["sd_prior"], p["sigma_prior"], p["fixed_prior"], p["lkj_eta"]),
    )
    box = np.array([[0.0, 3.0], [0.0, 3.0], [-np.pi / 2, np.pi / 2], [5.0, 7.0]])
    model.interpolate(box, orders=(3,))
    assert model._interpolation is None


# ---------------------------------------------------------------------------------------------
# Words


def test_a_singular_fit_is_called_one(schools):
    assert schools.kind == "correlation"
    assert "on the boundary of what a covariance matrix can be" in schools.text
    assert "(ses || school) is singular too" in schools.text
    assert "so we do not interpret the correlation" in schools.paragraph
    assert "p = 0.052" in schools.paragraph
    assert "for the groups we report the exact posterior" in schools.paragraph
    assert "sd of slopes 0.35 (0.07 to 0.64), correlation 0.50" in schools.paragraph
    intercept = schools.fit.fixed.loc["Intercept"]
    said = f"with standard errors: Intercept {intercept['estimate']:.2f} ({intercept['se']:.2f})"
    assert said in schools.paragraph


def test_a_regular_fit_is_called_one(sleep):
    assert sleep.kind == "regular"
    assert "not on the boundary" in sleep.findings[0]
    assert "The fit is not singular" in sleep.paragraph
    assert "speaks clearly against equal slopes" in sleep.text
    assert "The estimate lies on the boundary" not in sleep.paragraph
    assert (
        "Fixed effects, with standard errors: Intercept 251.4 (6.8); Days 10.5 (1.5)" in sleep.paragraph
    )


def test_a_part_of_the_schools_is_singular_at_the_other_end():
    table = load_schools()
    few = table[table["school"].isin(np.sort(table["school"].unique())[-40:])]
    report = singular_fit_report("math ~ ses + (ses | school)", few)
    assert report.fit.boundary
    assert report.fit.correlation == -1
    assert "Equal slopes are not ruled out" in report.text
    assert report.models["AIC"].idxmin() == "(1 | school)"


def test_the_page_has_the_sentences_the_tables_and_words_for_the_picture(schools):
    page = schools._repr_html_()
    for part in [*schools.findings, schools.paragraph]:
        assert part.replace("<", "&lt;").replace("'", "&#x27;") in page
    assert page.count("<caption>") == page.count("<table") == 8
    assert schools.alt in page
    assert "data:image/svg+xml;base64," in page
    assert str(schools) == schools.text
    for finding in schools.findings:
        assert finding in schools.text


def test_a_name_too_long_for_the_picture_does_not_stop_the_page(growth):
    long = "a" * 90
    report = singular_fit_report(
        f"height ~ {long} + ({long} | child)", growth.rename(columns={"age": long})
    )
    assert "data:image/svg+xml;base64," in report._repr_html_()


def test_notes_say_what_is_odd_about_the_data(growth, sleepstudy):
    formula = "height ~ age + (age | child)"
    assert singular_fit_report(SLEEP, sleepstudy).notes == []
    two = singular_fit_report(formula, growth.assign(height=(growth["height"] > 1).astype(int)))
    assert any("two values only" in note for note in two.notes)
    few = singular_fit_report(formula, growth[growth["child"] < 5])
    assert any("5 groups are few" in note for note in few.notes)
    alone = growth[(growth["child"] > 1) | ~growth["child"].duplicated()]
    assert any("2 of 30 groups have one row" in n for n in singular_fit_report(formula, alone).notes)
    still = growth.assign(age=growth["age"].where(growth["child"] > 2, 0.5))
    assert any("In 3 of 30 groups age" in n for n in singular_fit_report(formula, still).notes)


# ---------------------------------------------------------------------------------------------
# What it reads, and what it refuses


def test_words_are_coded_whatever_their_type(growth):
    rng = np.random.default_rng(0)
    sex = np.where(rng.uniform(size=30) < 0.5, "girl", "boy")[growth["child"]]
    formula = "height ~ age * sex + (age | child)"
    one = cross_products(formula, growth.assign(sex=sex))
    assert one.terms == ("Intercept", "age", "sex[girl]", "age:sex[girl]")
    for column in (pd.Categorical(sex), sex.astype(object), pd.Categorical(sex, ["girl", "boy", "x"])):
        other = cross_products(formula, growth.assign(sex=column))
        assert other.terms == one.terms
        np.testing.assert_array_equal(other.products, one.products)
    ordered = pd.Categorical(sex, ["girl", "boy"], ordered=True)
    assert cross_products(formula, growth.assign(sex=ordered)).terms[2] == "sex[boy]"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("height ~ age + (age | child) + (1 | home)", "several grouping factors, child and home"),
        ("height ~ age + (age | home/child)", "several grouping factors"),
        ("height ~ age + (age | home:child)", "join them into one column"),
        ("height ~ age + weight + (age + weight | child)", "2 slopes, age and weight"),
        ("height ~ age + (1 | child)", "RLRsim"),
        ("height ~ age + (0 + age | child)", "Without a varying intercept"),
        ("height ~ age", "ordinary regression"),
        ("height ~ age + (age || child)", "fixes the correlation at 0"),
        ("height ~ sex + (sex | child)", "not one number per row"),
        ("height ~ weight + (age | child)", "no fixed effect"),
        ("height ~ 0 + age + (age | child)", "leave out the 0"),
        ("height ~ home_age + (home_age | child)", r"use \(1 \| child\)"),
        ("sex ~ age + (age | child)", "glmer"),
        ("height ~ age + (age | kid)", "no column"),
        ("height ~ age + (age | child", "cannot be read"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_way_out(growth, formula, message):
    table = growth.assign(
        home=growth["child"] // 3,
        weight=np.cos(np.arange(len(growth))),
        sex=np.where(np.arange(len(growth)) % 2, "girl", "boy"),
        home_age=growth["child"] * 0.1,
    )
    with pytest.raises(DesignError, match=message):
        singular_fit_report(formula, table)


def test_data_that_cannot_inform_the_model_are_refused(growth):
    formula = "height ~ age + (age | child)"
    with pytest.raises(DesignError, match="2 groups cannot tell"):
        singular_fit_report(formula, growth[growth["child"] < 2])
    with pytest.raises(DesignError, match="cannot tell 60"):
        singular_fit_report(formula, growth.groupby("child").head(2))
    damaged = growth.assign(age=growth["age"].where(growth.index != 7))
    with pytest.raises(DesignError, match=r"Column age has 1 missing cell.*row 7"):
        singular_fit_report(formula, damaged)
    damaged = growth.assign(child=growth["child"].astype(float).where(growth.index > 2))
    with pytest.raises(DesignError, match=r"Column child has 3 missing cell.*row 0"):
        singular_fit_report(formula, damaged)
    with pytest.raises(DesignError, match="infinite"):
        singular_fit_report(formula, growth.assign(height=np.inf))


def test_columns_that_the_formula_does_not_use_may_be_anything(growth):
    formula = "height ~ age + (age | child)"
    table = growth.assign(a=np.nan, chil=None, ag=np.inf)
    assert (
        singular_fit_report(formula, table).fit.reml == fg.singular_fit_report(formula, growth).fit.reml
    )


def test_reduced_models_have_no_penalty(growth):
    with pytest.raises(ValueError, match="full covariance"):
        fit_reml(cross_products("height ~ age + (age | child)", growth), wishart(4), "diagonal")


def test_reduced_models_are_the_lowest_of_their_kind(growth):
    """Independent: a search over their own variances alone."""
    from scipy.optimize import minimize, minimize_scalar

    sums = cross_products("height ~ age + (age | child)", growth)
    two = minimize(
        lambda x: float(restricted_deviance(sums, np.exp(x[0]), 0, np.exp(x[1]))),
        [0, 0],
        method="Nelder-Mead",
        options={"fatol": 1e-10},
    )
    one = minimize_scalar(lambda x: float(restricted_deviance(sums, np.exp(x), 0, 0)))
    assert fit_reml(sums, covariance="diagonal").reml == pytest.approx(two.fun, abs=1e-7)
    assert fit_reml(sums, covariance="intercept").reml == pytest.approx(one.fun, abs=1e-7)
