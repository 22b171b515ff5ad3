"""A fit carries what it is, read from the graph and from the sampler, and not from what was typed."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.stats
import xarray as xr

from fieldguide import fits, models
from fieldguide.data import load_schools, load_three_districts, question_trial
from fieldguide.fits import UnlabelledFitError, label, prior_of, record, sample, sample_seeds
from fieldguide.models import (
    UnknownModelError,
    declare_like,
    fixed_effects_model,
    marginal_model,
    parameterization_of,
    problem_of,
    trial_model,
    varying_intercept_model,
)
from fieldguide.models.schools import FORMULA, LKJ_ETA, PRIORS, schools_model, with_catholic
from fieldguide.priors import TrialPriors, half_student_t
from fieldguide.problem import Problem, count_digest
from fieldguide.published import NAMES, published
from fieldguide.reference import exact_posterior, exact_posterior_fixed, schools_problem, trial_problem
from fieldguide.reml import cross_products

COUNTS = load_three_districts()
USERS, WOMEN = COUNTS["users"].to_numpy(), COUNTS["women"].to_numpy()
SHORT = {"draws": 50, "tune": 50}


# ---------------------------------------------------------------------------------------------
# What the graph says


@pytest.mark.parametrize("form", models.PARAMETERIZATIONS)
@pytest.mark.parametrize("mutable", [False, True])
def test_the_graph_tells_form_priors_and_data(form, mutable):
    prior = scipy.stats.halfnorm(scale=0.25)
    model = varying_intercept_model(
        USERS, WOMEN, parameterization=form, sigma_prior=prior, mutable=mutable
    )
    assert parameterization_of(model) == form
    assert problem_of(model) == exact_posterior(USERS, WOMEN, sigma_prior=prior).problem


@pytest.mark.parametrize(
    "prior",
    [
        scipy.stats.expon(scale=0.5),
        scipy.stats.halfcauchy(scale=2.5),
        half_student_t(3, 2.5),
        scipy.stats.gamma(2, scale=0.3),
        scipy.stats.invgamma(3, scale=2.0),
        scipy.stats.lognorm(0.8, scale=0.5),
        scipy.stats.uniform(0, 5),
    ],
)
def test_a_prior_has_one_name_in_the_graph_and_in_the_answer(prior):
    model = varying_intercept_model(USERS, WOMEN, sigma_prior=prior)
    assert problem_of(model) == exact_posterior(USERS, WOMEN, sigma_prior=prior).problem


def test_models_written_by_hand_are_recognised():
    with pm.Model(coords={"district": COUNTS.index}) as by_hand:
        alpha_bar = pm.Normal("alpha_bar", 0, 1.5)
        sigma = pm.Exponential("sigma", 1)
        alpha = pm.Normal("alpha", alpha_bar, sigma, dims="district")
        pm.Binomial("users", n=WOMEN, logit_p=alpha, observed=USERS, dims="district")
    assert problem_of(by_hand) == problem_of(varying_intercept_model(USERS, WOMEN))
    assert parameterization_of(by_hand) == "centered"


def test_fixed_effects_and_integrated_districts_are_told_apart():
    fixed, integrated = fixed_effects_model(USERS, WOMEN), marginal_model(USERS, WOMEN)
    assert (parameterization_of(fixed), parameterization_of(integrated)) == ("fixed", "marginal")
    assert problem_of(fixed) == exact_posterior_fixed(USERS, WOMEN).problem
    assert problem_of(integrated) == problem_of(varying_intercept_model(USERS, WOMEN))


@pytest.mark.parametrize("form", ["centered", "non-centered"])
def test_the_trials_graph_tells_the_same(form):
    trial, priors = question_trial(), TrialPriors(sd=scipy.stats.halfnorm(scale=0.2), lkj_eta=2.0)
    model = trial_model(trial, parameterization=form, priors=priors)
    assert parameterization_of(model) == form
    assert problem_of(model) == trial_problem(trial, priors)
    swapped = trial.rename(columns={"control": "treated", "treated": "control"})
    assert problem_of(trial_model(swapped, priors=priors)) != trial_problem(trial, priors)


def test_a_graph_of_another_model_has_no_name():
    with pm.Model() as stranger:
        mu = pm.Normal("mu", 0, 1)
        pm.Poisson("y", mu=pm.math.exp(mu), observed=[1, 2])
    with pytest.raises(UnknownModelError, match="model of mu is none of this book"):
        problem_of(stranger)


def with_names_of_the_book(effects, likelihood, extra=None):
    """A model with the names, priors and counts of the book's, and something else inside."""
    with pm.Model(coords={"district": COUNTS.index}) as model:
        alpha_bar = pm.Normal("alpha_bar", 0, 1.5)
        sigma = pm.Exponential("sigma", 1)
        alpha = effects(alpha_bar, sigma)
        likelihood(alpha)
        if extra is not None:
            pm.Potential("extra", extra(alpha))
    return model


def logit_link(alpha):
    pm.Binomial("users", n=WOMEN, logit_p=alpha, observed=USERS, dims="district")


def probit_link(alpha):
    pm.Binomial("users", n=WOMEN, p=pm.math.invprobit(alpha), observed=USERS, dims="district")


def normal_effects(alpha_bar, sigma):
    return pm.Normal("alpha", alpha_bar, sigma, dims="district")


def heavy_effects(alpha_bar, sigma):
    return pm.StudentT("alpha", nu=4, mu=alpha_bar, sigma=sigma, dims="district")


def doubled_effects(alpha_bar, sigma):
    z = pm.Normal("z", 0, 1, dims="district")
    return pm.Deterministic("alpha", alpha_bar + 2 * sigma * z, dims="district")


@pytest.mark.parametrize(
    ("effects", "likelihood", "extra"),
    [
        (normal_effects, probit_link, None),
        (heavy_effects, logit_link, None),
        (doubled_effects, logit_link, None),
        (normal_effects, logit_link, lambda alpha: -(alpha.sum() ** 2)),
        (normal_effects, lambda alpha: logit_link(alpha + 1), None),
    ],
    ids=["probit link", "Student t population", "doubled spread", "a term more", "an offset"],
)
def test_a_model_with_the_books_names_and_another_density_is_refused(effects, likelihood, extra):
    with pytest.raises(UnknownModelError, match="but not its density"):
        problem_of(with_names_of_the_book(effects, likelihood, extra))


def test_a_non_centered_model_may_call_its_coordinate_as_it_likes():
    def effects(alpha_bar, sigma):
        offset = pm.Normal("offset", 0, 1, dims="district")
        return pm.Deterministic("alpha", alpha_bar + sigma * offset, dims="district")

    model = with_names_of_the_book(effects, logit_link)
    assert parameterization_of(model) == "non-centered"
    assert problem_of(model) == problem_of(varying_intercept_model(USERS, WOMEN))


def test_a_partial_form_with_weights_of_its_own_is_known():
    model = varying_intercept_model(USERS, WOMEN, parameterization="partial", weights=[0.9, 0.5, 0.1])
    assert parameterization_of(model) == "partial"
    assert problem_of(model) == problem_of(varying_intercept_model(USERS, WOMEN))


def test_a_model_is_declared_like_another_only_if_it_is_the_same():
    rng = np.random.default_rng(1)
    known = varying_intercept_model(USERS, WOMEN)
    with pm.Model() as same:
        m, s = pm.Normal("alpha_bar", 0, 1.5), pm.Exponential("sigma", 1)
        a = pm.Normal("alpha", m, s, shape=3)
        loglik = USERS * a - WOMEN * pm.math.log1pexp(a)
        pm.Potential("counts", loglik.sum())
    with pytest.raises(UnknownModelError):
        problem_of(same)
    assert declare_like(same, known, None, rng) < 1e-6
    assert (problem_of(same), parameterization_of(same)) == (problem_of(known), "centered")
    other = varying_intercept_model(USERS, WOMEN, sigma_prior=scipy.stats.halfnorm())
    with pytest.raises(UnknownModelError, match="part by"):
        declare_like(varying_intercept_model(USERS, WOMEN), other, None, rng)


def test_the_schools_models_belong_to_their_exact_answer():
    schools = load_schools()
    problem = schools_problem(cross_products(FORMULA, with_catholic(schools)), lkj_eta=LKJ_ETA, **PRIORS)
    for form in ("integrated", "centered", "non-centered"):
        model = schools_model(schools, parameterization=form)
        assert (problem_of(model), parameterization_of(model)) == (problem, form)
    fewer = schools_model(schools.iloc[:-1])
    assert problem_of(fewer).data != problem.data


# ---------------------------------------------------------------------------------------------
# The digest


def test_the_digest_sees_every_count_and_label_but_no_order():
    digest = count_digest([1, 2, 3], USERS, WOMEN)
    assert digest == count_digest([3, 1, 2], USERS[[2, 0, 1]], WOMEN[[2, 0, 1]])
    assert digest == count_digest(pd.Index([1, 2, 3]), USERS.astype(float), WOMEN)
    for labels, users, women in [
        ([1, 2, 4], USERS, WOMEN),
        ([1, 2, 3], USERS - np.eye(3)[2], WOMEN),
        ([1, 2, 3], USERS, WOMEN + np.eye(3)[1]),
        ([2, 1, 3], USERS, WOMEN),
    ]:
        assert count_digest(labels, users, women) != digest


# ---------------------------------------------------------------------------------------------
# What a fit carries


@pytest.fixture(scope="module")
def centered_model():
    return varying_intercept_model(USERS, WOMEN)


@pytest.mark.parametrize("sampler", ["nutpie", "pymc"])
def test_a_fit_carries_model_target_seed_and_sampler(centered_model, sampler):
    with centered_model:
        fit = sample(
            **SHORT,
            chains=2,
            cores=1,
            target_accept=0.9,
            random_seed=4,
            nuts_sampler=sampler,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
        )
    run = {"sampler": sampler, "target_accept": 0.9, "tune": 50, "draws": 50, "chains": 2, "seed": 4}
    assert run.items() <= fit.attrs.items()
    assert fits.problem_of_fit(fit) == problem_of(centered_model)
    assert label(fit) == "mme1: centered, Exponential(1), target 0.9"
    assert prior_of(fit) == "Exponential(1)"


def test_the_target_is_the_one_that_was_run_whatever_the_caller_says(centered_model):
    (fit,) = sample_seeds(centered_model, [0], target_accept=0.95, **SHORT, chains=2)
    record(fit, problem_of(centered_model), "centered", seed=0, target_accept=0.99)
    assert fit.attrs["target_accept"] == 0.95


def test_seeds_differ_and_repeat(centered_model):
    first, second, again = sample_seeds(centered_model, [1, 2, 1], **SHORT, chains=2)
    sigma = [fit["posterior"]["sigma"].to_numpy() for fit in (first, second, again)]
    assert [fit.attrs["seed"] for fit in (first, second, again)] == [1, 2, 1]
    np.testing.assert_array_equal(sigma[0], sigma[2])
    assert (sigma[0] != sigma[1]).any()


@pytest.mark.slow
def test_new_data_make_another_problem():
    model = varying_intercept_model(USERS, WOMEN, mutable=True)
    data = {"successes_data": USERS * [1, 1, 0], "trials": WOMEN * [1, 1, 0]}
    (before,) = sample_seeds(model, [1], **SHORT, chains=2)
    (after,) = sample_seeds(model, [1], data=data, **SHORT, chains=2)
    (again,) = sample_seeds(model, [1], **SHORT, chains=2)  # the model has kept its own data
    assert again.attrs == before.attrs
    np.testing.assert_array_equal(again["posterior"]["sigma"], before["posterior"]["sigma"])
    assert not np.array_equal(after["posterior"]["sigma"], before["posterior"]["sigma"])
    assert fits.problem_of_fit(before).data == count_digest(COUNTS.index, USERS, WOMEN)
    assert fits.problem_of_fit(after).data == count_digest(COUNTS.index, *data.values())
    assert label(before).startswith("mme0: ")
    assert label(after) == "centered, Exponential(1), target 0.8"  # published for other data


def test_the_record_survives_a_file(centered_model, tmp_path):
    (fit,) = sample_seeds(centered_model, [1], **SHORT, chains=2)
    tree = xr.DataTree.from_dict({"posterior": fit["posterior"].to_dataset()})
    tree.attrs = fit.attrs
    tree.to_zarr(tmp_path / "fit.zarr")
    again = xr.open_datatree(tmp_path / "fit.zarr", engine="zarr")
    assert fits.problem_of_fit(again) == problem_of(centered_model)
    assert label(again) == label(fit)


def test_a_fit_that_does_not_say_what_it_is_has_no_label():
    with pytest.raises(UnlabelledFitError, match=r"fieldguide\.sample"):
        label(xr.DataTree())


def test_a_record_without_the_samplers_settings_is_refused():
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"sigma": (("chain", "draw"), np.ones((2, 3)))}),
            "sample_stats": xr.Dataset({"diverging": (("chain", "draw"), np.zeros((2, 3), bool))}),
        }
    )
    problem = Problem.of("fixed effects", {"alpha": "Normal(0, 1.5)"}, "0")
    with pytest.raises(ValueError, match="metric, sampler, target_accept, tune"):
        record(tree, problem, "fixed", seed=1)


def test_published_names_are_those_of_the_published_targets():
    targets = {name: entry["target_accept"] for name, entry in published()["models"].items()}
    assert {name: target for (_, _, target), name in NAMES.items()} == targets


def test_divergences_of_all_chains_are_counted():
    diverging = xr.DataArray([[False, True], [True, True], [False, False]], dims=("chain", "draw"))
    fit = xr.DataTree.from_dict({"sample_stats": xr.Dataset({"diverging": diverging})})
    assert fits.divergences(fit) == 3
