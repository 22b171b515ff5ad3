"""Three exact answers, one protocol: whoever has read one subject finds the other two."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
import xarray as xr

from fieldguide.data import load_schools
from fieldguide.priors import TrialPriors
from fieldguide.problem import Problem, count_digest
from fieldguide.reference import (
    Reference,
    districts_problem,
    exact_posterior,
    exact_posterior_fixed,
    flat,
    schools_posterior,
    schools_problem,
    trial_posterior,
    trial_problem,
)
from fieldguide.reml import CrossProducts, cross_products

TRIAL = pd.DataFrame(
    {"n_control": [15, 25], "n_treated": [15, 25], "control": [2, 3], "treated": [4, 9]},
    index=pd.Index(["A", "B"], name="site"),
)
SCHOOLS = {"sd_prior": st.halfnorm(scale=5), "sigma_prior": st.halfnorm(scale=10), "lkj_eta": 2}


def some_schools():
    table = load_schools()
    keep = table["school"].unique()[:12]
    return table[table["school"].isin(keep)].reset_index(drop=True)


@pytest.fixture(scope="module")
def answers():
    sums = cross_products("math ~ ses + (ses | school)", some_schools())
    return {
        "districts": exact_posterior([30, 7, 2], [117, 20, 2], sigma_prior=st.expon()),
        "fixed": exact_posterior_fixed([30, 7, 2], [117, 20, 2]),
        "trial": trial_posterior(TRIAL, log2_points=9),
        "schools": schools_posterior(sums, nodes=(40, 40, 28, 32), **SCHOOLS),
    }


ELEMENT = {
    "districts": [("sigma", {}), ("alpha", {"district": 3}), ("p", {"district": 3}), ("p_bar", {})],
    "fixed": [("alpha", {"district": 2}), ("p", {"district": 1})],
    "trial": [("sd_effect", {}), ("corr", {}), ("intercept", {})],
    "schools": [("beta", {"term": "ses"}), ("sd_slope", {}), ("correlation", {}), ("sigma", {})],
}
NECK = {"districts": "sigma", "fixed": None, "trial": "sd_effect", "schools": "sd_slope"}


@pytest.mark.parametrize("subject", ELEMENT)
def test_every_answer_obeys_the_protocol(answers, subject):
    answer = answers[subject]
    assert isinstance(answer, Reference)
    assert isinstance(answer.problem, Problem)
    assert answer.neck == NECK[subject]
    assert 0 < answer.error < 0.02
    assert set(answer.mean) == set(answer.sd)
    for name, where in ELEMENT[subject]:
        each = [answer.quantile(q, [name]).sel(where)[name] for q in (0.1, 0.5, 0.9)]
        x = np.array([float(value) for value in each])
        tolerance = 2e-3 if subject == "trial" else 1e-6
        cdf = answer.cdf(name, x, **where)
        assert cdf.dims == (name,)
        np.testing.assert_allclose(cdf, [0.1, 0.5, 0.9], atol=tolerance)
        both = answer.interval(0.8, name)[name].sel(where)
        assert both.dims == ("bound",)
        np.testing.assert_allclose(both, x[[0, 2]])
        mean = float(answer.mean[name].sel(where))
        assert answer.summary[name].sel(where).sel(statistic="mean") == mean
        assert answer.summary[name].sel(where).sel(statistic="50%") == pytest.approx(x[1], rel=0.1)


@pytest.mark.parametrize("subject", ELEMENT)
def test_nothing_in_nothing_out(answers, subject):
    """NaN in, NaN out; nothing is below minus infinity and all is below infinity."""
    answer = answers[subject]
    for name, where in ELEMENT[subject]:
        cdf = answer.cdf(name, [np.nan, -np.inf, np.inf], **where).values
        np.testing.assert_array_equal(cdf, [np.nan, 0, 1])
        assert np.isnan(answer.cdf(name, np.nan, **where))
        if name.startswith(("sd", "sigma")):
            assert (answer.cdf(name, [-1.0, 0.0], **where) == 0).all()
        if subject != "trial":
            pdf = answer.pdf(name, [np.nan, -np.inf, np.inf], **where).values
            np.testing.assert_array_equal(pdf, [np.nan, 0, 0])


@pytest.mark.parametrize("subject", ELEMENT)
def test_unknown_names_and_labels_are_value_errors_that_name_what_there_is(answers, subject):
    answer = answers[subject]
    name, where = next(pair for pair in ELEMENT[subject] if pair[1] or subject == "trial")
    dim = next(iter(where), None)
    for ask in (
        lambda name, **where: answer.cdf(name, 0.1, **where),
        lambda name, **where: answer.quantile(0.5, [name]),
    ):
        with pytest.raises(ValueError, match=f"Unknown variable 'tau'; this model has .*{name}"):
            ask("tau")
    with pytest.raises(ValueError, match="no dimension 'planet'"):
        answer.cdf(name, 0.1, planet="Mars", **where)
    if dim:
        for label in (None, "nowhere"):
            with pytest.raises(ValueError, match=f"{name} needs {dim}=, one of .*; got {label!r}"):
                answer.cdf(name, 0.1, **{dim: label})
    with pytest.raises(ValueError, match="strictly between"):
        answer.quantile([0.5, 1.0])


def test_the_trial_says_what_it_does_not_know(answers):
    answer = answers["trial"]
    with pytest.raises(ValueError, match=r"no distribution function of site_effect, only of intercept"):
        answer.cdf("site_effect", 0.1, site="A")
    with pytest.raises(ValueError, match="no quantile of risk_difference, only of intercept"):
        answer.quantile(0.5, "risk_difference")
    with pytest.raises(ValueError, match="no density of sd_effect, nor"):
        answer.pdf("sd_effect", 0.1)
    assert np.isnan(answer.summary["risk_difference"].sel(statistic="50%"))
    assert set(answer.quantile(0.5)) == {"intercept", "effect", "sd_intercept", "sd_effect", "corr"}


def test_series_is_labelled_as_arviz_labels_a_summary(answers):
    import arviz as az

    rng = np.random.default_rng(0)
    for answer in answers.values():
        fit = answer.mean.drop_vars(["p", "p_bar"], errors="ignore")
        fit = fit.expand_dims(chain=4, draw=100)
        fit = fit + xr.DataArray(rng.normal(size=(4, 100)), dims=("chain", "draw"))
        labels = az.summary(xr.DataTree.from_dict({"posterior": fit})).index
        assert list(answer.to_series().index) == list(labels)
    series = answers["districts"].to_series()
    assert series["alpha[3]"] == float(answers["districts"].mean["alpha"].sel(district=3))
    assert series.index.tolist() == ["alpha_bar", "sigma", "alpha[1]", "alpha[2]", "alpha[3]"]
    assert flat(answers["districts"].sd)["p[3]"] == float(answers["districts"].sd["p"].sel(district=3))
    assert {"site_effect[A]", "risk_difference"} <= set(answers["trial"].to_series().index)
    assert "beta[ses]" in answers["schools"].to_series().index


def test_labels_select_as_text(answers):
    exact = answers["districts"]
    for label in (3, np.int64(3), 3.0, "3"):
        assert exact.cdf("alpha", 0.1, district=label) == exact.cdf("alpha", 0.1, district=3)


def test_problems_say_what_the_answer_was_computed_from(answers):
    data = count_digest(["1", "2", "3"], [30, 7, 2], [117, 20, 2])
    assert answers["districts"].problem == Problem.of(
        "varying intercept", {"alpha_bar": "Normal(0, 1.5)", "sigma": "Exponential(1)"}, data
    )
    assert answers["fixed"].problem == Problem.of("fixed effects", {"alpha": "Normal(0, 1.5)"}, data)
    half = "HalfNormal(0.5)"
    assert answers["trial"].problem == Problem.of(
        "varying intercept and effect",
        {
            "intercept": "Normal(-1, 1)",
            "effect": "Normal(0, 1)",
            "sd_intercept": half,
            "sd_effect": half,
            "corr": "LKJ(4)",
        },
        count_digest(["A", "B"], [2, 3], [15, 25], [4, 9], [15, 25]),
    )
    assert dict(answers["schools"].problem.priors) == {
        "beta": "Normal(0, 100)",
        "sd_intercept": "HalfNormal(5)",
        "sd_slope": "HalfNormal(5)",
        "sigma": "HalfNormal(10)",
        "correlation": "LKJ(2)",
    }
    assert answers["trial"].problem == trial_problem(TRIAL)
    assert trial_problem(TRIAL, TrialPriors(lkj_eta=2)) != trial_problem(TRIAL)


@pytest.mark.parametrize("labels", [[1, 2, 3], ["1", "2", "3"], np.arange(1.0, 4), np.arange(1, 4)])
def test_the_same_labels_give_the_same_problem(labels):
    one = districts_problem([30, 7, 2], [117, 20, 2], sigma_prior=st.expon())
    assert districts_problem([30, 7, 2], [117, 20, 2], sigma_prior=st.expon(), district=labels) == one
    assert districts_problem([30, 7, 1], [117, 20, 2], sigma_prior=st.expon(), district=labels) != one


def test_digest_of_sums_depends_on_the_data_and_not_on_their_order():
    table = some_schools()
    table["ses"] -= table.groupby("school")["ses"].transform("mean")  # sums that are 0 but for rounding
    formula = "math ~ ses + (ses | school)"
    sums = cross_products(formula, table)
    shuffled = cross_products(formula, table.sample(frac=1, random_state=1))
    assert sums.digest == shuffled.digest
    assert (sums.products != shuffled.products).any()
    other = table.copy()
    other.loc[5, "math"] += 0.001
    assert cross_products(formula, other).digest != sums.digest
    products = sums.products * (1 + 1e-14)
    again = CrossProducts(sums.groups, sums.terms, sums.varying, sums.rows, products)
    assert again.digest == sums.digest
    assert schools_problem(sums, **SCHOOLS) == schools_problem(shuffled, **SCHOOLS)


def test_exact_answers_need_neither_a_sampler_nor_formulae():
    code = (
        "import sys, fieldguide.reference, fieldguide.reml; "
        "print(*{'pymc', 'formulae', 'bambi', 'nutpie', 'pytensor'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_reading_a_formula_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "formulae", None)
    with pytest.raises(ImportError, match=r"pip install fieldguide\[models\]"):
        cross_products("math ~ ses + (ses | school)", some_schools())
