"""Every parameterization is the same model: log densities against a formula written in SciPy."""

import numpy as np
import pymc as pm
import pytest
import scipy.integrate
import scipy.stats
from scipy.special import expit

from fieldguide import models
from fieldguide.models import (
    as_pymc_prior,
    centering_weights,
    fixed_effects_model,
    marginal_model,
    recover_alpha,
    varying_intercept_model,
)
from fieldguide.priors import ALPHA_PRIOR, half_student_t

SUCCESSES = np.array([30, 7, 2])
TRIALS = np.array([117, 20, 2])
PRIORS = {
    "exponential": scipy.stats.expon(),
    "half-normal": scipy.stats.halfnorm(scale=0.25),
    "half-Cauchy": scipy.stats.halfcauchy(scale=2.0),
    "half-t": half_student_t(3, scale=0.7),
    "gamma": scipy.stats.gamma(2, scale=0.3),
    "inverse gamma": scipy.stats.invgamma(3, scale=2.0),
    "log-normal": scipy.stats.lognorm(0.8, scale=0.5),
}


def log_posterior(alpha_bar, sigma, alpha, sigma_prior, alpha_prior=ALPHA_PRIOR):
    """Unnormalised log posterior density of (alpha_bar, sigma, alpha), straight from the text."""
    return (
        alpha_prior.logpdf(alpha_bar)
        + sigma_prior.logpdf(sigma)
        + scipy.stats.norm.logpdf(alpha, alpha_bar, sigma).sum()
        + scipy.stats.binom.logpmf(SUCCESSES, TRIALS, expit(alpha)).sum()
    )


def coordinates(parameterization, alpha_bar, sigma, alpha, weights):
    """The sampler's coordinates, and log |d alpha / d coordinate| summed over districts."""
    if parameterization == "centered":
        return {"alpha": alpha}, 0.0
    if parameterization == "deviation":
        return {"u": alpha - alpha_bar}, 0.0
    if parameterization == "non-centered":
        return {"z": (alpha - alpha_bar) / sigma}, alpha.size * np.log(sigma)
    x = weights * alpha_bar + (alpha - alpha_bar) / sigma ** (1 - weights)
    return {"x": x}, ((1 - weights) * np.log(sigma)).sum()


def random_points(count=5, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        alpha_bar = rng.normal(0, 1.5)
        sigma = rng.lognormal(-0.5, 1.0)
        yield alpha_bar, sigma, rng.normal(alpha_bar, sigma, size=3)


@pytest.mark.parametrize("parameterization", models.PARAMETERIZATIONS)
@pytest.mark.parametrize("mutable", [False, True])
def test_every_parameterization_has_the_density_of_the_text(parameterization, mutable):
    prior = PRIORS["exponential"]
    model = varying_intercept_model(
        SUCCESSES, TRIALS, parameterization=parameterization, sigma_prior=prior, mutable=mutable
    )
    weights = centering_weights(SUCCESSES, TRIALS)
    logp = model.compile_logp()
    for alpha_bar, sigma, alpha in random_points():
        point, log_jacobian = coordinates(parameterization, alpha_bar, sigma, alpha, weights)
        # The sampler moves in log sigma, whose Jacobian is sigma.
        point |= {"alpha_bar": alpha_bar, "sigma_log__": np.log(sigma)}
        expected = log_posterior(alpha_bar, sigma, alpha, prior) + log_jacobian + np.log(sigma)
        assert float(logp(point)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", PRIORS)
def test_a_scipy_prior_becomes_the_same_pymc_prior(name):
    with pm.Model() as model:
        as_pymc_prior("sigma", PRIORS[name])
    logp = model.compile_logp()
    for sigma in (0.01, 0.3, 1.0, 4.0):
        expected = PRIORS[name].logpdf(sigma) + np.log(sigma)
        assert float(logp({"sigma_log__": np.log(sigma)})) == pytest.approx(expected, abs=1e-7)


def test_normal_and_uniform_priors_keep_their_location():
    with pm.Model() as model:
        mean = as_pymc_prior("mean", scipy.stats.norm(-1, 2))
        bounded = as_pymc_prior("bounded", scipy.stats.uniform(1, 2))
    assert float(pm.logp(mean, 0.5).eval()) == pytest.approx(scipy.stats.norm(-1, 2).logpdf(0.5))
    assert float(pm.logp(bounded, 2.9).eval()) == pytest.approx(np.log(0.5))
    assert {variable.name for variable in model.free_RVs} == {"mean", "bounded"}


def test_partial_form_ends_at_the_centered_and_the_non_centered_form():
    for weight, parameterization in ((1.0, "centered"), (0.0, "non-centered")):
        partial = varying_intercept_model(
            SUCCESSES, TRIALS, parameterization="partial", weights=np.full(3, weight)
        ).compile_logp()
        other = varying_intercept_model(
            SUCCESSES, TRIALS, parameterization=parameterization
        ).compile_logp()
        for alpha_bar, sigma, alpha in random_points(3):
            shared = {"alpha_bar": alpha_bar, "sigma_log__": np.log(sigma)}
            point, _ = coordinates(parameterization, alpha_bar, sigma, alpha, None)
            (values,) = point.values()
            assert float(partial(shared | {"x": values})) == pytest.approx(
                float(other(shared | point)), rel=1e-10
            )


def test_mutable_data_and_prior_scale_change_the_density():
    model = varying_intercept_model(SUCCESSES, TRIALS, sigma_prior=PRIORS["half-normal"], mutable=True)
    with model:
        pm.set_data({"sigma_scale": 0.5})
    expected = log_posterior(-0.4, 0.6, np.zeros(3), scipy.stats.halfnorm(scale=0.5)) + np.log(0.6)
    point = {"alpha_bar": -0.4, "sigma_log__": np.log(0.6), "alpha": np.zeros(3)}
    assert float(model.compile_logp()(point)) == pytest.approx(expected)


def test_fixed_effects_model_has_the_density_of_the_text():
    logp = fixed_effects_model(SUCCESSES, TRIALS).compile_logp()
    for _, _, alpha in random_points():
        expected = (
            scipy.stats.norm(0, 1.5).logpdf(alpha).sum()
            + scipy.stats.binom.logpmf(SUCCESSES, TRIALS, expit(alpha)).sum()
        )
        assert float(logp({"alpha": alpha})) == pytest.approx(expected)


def district_integral(alpha_bar, sigma, successes, trials):
    """Adaptive quadrature of one district's likelihood over its effect."""

    def integrand(alpha):
        likelihood = scipy.stats.binom.pmf(successes, trials, expit(alpha))
        return likelihood * scipy.stats.norm.pdf(alpha, alpha_bar, sigma)

    peaks = [alpha_bar, np.log((successes + 0.5) / (trials - successes + 0.5))]
    limits = min(peaks) - 10 * sigma - 1, max(peaks) + 10 * sigma + 1
    value, _ = scipy.integrate.quad(
        integrand, *limits, points=sorted(peaks), limit=400, epsabs=0, epsrel=1e-11
    )
    return value


def test_marginal_model_integrates_the_districts_out():
    prior = PRIORS["exponential"]
    model = marginal_model(SUCCESSES, TRIALS, sigma_prior=prior)
    logp = model.compile_logp()
    points = [*random_points(6), (0.0, 0.001, None), (-0.5, 4.0, None), (1.5, 8.0, None)]
    for alpha_bar, sigma, _ in points:
        expected = (
            ALPHA_PRIOR.logpdf(alpha_bar)
            + prior.logpdf(sigma)
            + np.log(sigma)
            + sum(
                np.log(district_integral(alpha_bar, sigma, y, n))
                for y, n in zip(SUCCESSES, TRIALS, strict=True)
            )
        )
        value = float(logp({"alpha_bar": alpha_bar, "sigma_log__": np.log(sigma)}))
        # The stated accuracy; sigma above 4 has no posterior mass to speak of here.
        assert value == pytest.approx(expected, abs=2e-5 if sigma <= 4 else 1e-3)


@pytest.mark.slow
def test_gradient_of_the_marginal_model_agrees_with_differences():
    model = marginal_model(SUCCESSES, TRIALS)
    logp, gradient = model.compile_logp(), model.compile_dlogp()
    for alpha_bar, sigma, _ in random_points(4, seed=3):
        point = {"alpha_bar": np.array(alpha_bar), "sigma_log__": np.array(np.log(sigma))}
        differences = [
            (
                float(logp(point | {name: point[name] + 1e-5}))
                - float(logp(point | {name: point[name] - 1e-5}))
            )
            / 2e-5
            for name in ("alpha_bar", "sigma_log__")
        ]
        np.testing.assert_allclose(gradient(point), differences, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.05, 0.9, 6.0])
def test_recovered_effects_follow_their_conditional_distribution(sigma):
    count, alpha_bar = 20_000, -0.5
    shape = (1, count)
    import xarray as xr

    draws = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {
                    "alpha_bar": (("chain", "draw"), np.full(shape, alpha_bar)),
                    "sigma": (("chain", "draw"), np.full(shape, sigma)),
                },
                coords={"chain": [0], "draw": np.arange(count)},
            )
        }
    )
    recovered = recover_alpha(draws, SUCCESSES, TRIALS, seed=5)["posterior"]["alpha"]
    grid = np.linspace(-0.5 - 12 * max(sigma, 1), -0.5 + 12 * max(sigma, 1), 200_001)
    for j in range(3):
        density = scipy.stats.binom.pmf(SUCCESSES[j], TRIALS[j], expit(grid))
        density *= scipy.stats.norm.pdf(grid, alpha_bar, sigma)
        cdf = scipy.integrate.cumulative_simpson(density, x=grid, initial=0)
        cdf /= cdf[-1]
        result = scipy.stats.kstest(recovered[0, :, j], lambda v, c=cdf: np.interp(v, grid, c))
        assert result.pvalue > 1e-4
    assert "alpha" not in draws["posterior"]


def test_a_row_per_woman_differs_from_counts_by_a_constant():
    woman_district = np.repeat(np.arange(3), TRIALS)
    uses = np.concatenate(
        [np.r_[np.ones(y), np.zeros(n - y)] for y, n in zip(SUCCESSES, TRIALS, strict=True)]
    )
    with pm.Model() as rows:
        alpha_bar = pm.Normal("alpha_bar", 0, 1.5)
        sigma = pm.Exponential("sigma", 1)
        alpha = pm.Normal("alpha", alpha_bar, sigma, shape=3)
        pm.Bernoulli("uses", logit_p=alpha[woman_district], observed=uses)
    by_row = rows.compile_logp()
    by_count = varying_intercept_model(SUCCESSES, TRIALS).compile_logp()
    differences = [
        float(by_count(point)) - float(by_row(point))
        for point in (
            {"alpha_bar": a, "sigma_log__": np.log(s), "alpha": alpha}
            for a, s, alpha in random_points(6)
        )
    ]
    log_choose = np.log(scipy.special.comb(TRIALS, SUCCESSES)).sum()
    np.testing.assert_allclose(differences, log_choose, rtol=1e-9)


def test_weights_grow_with_the_number_of_women():
    weights = centering_weights(SUCCESSES, TRIALS)
    assert 1 > weights[0] > weights[1] > weights[2] > 0
    # The Gaussian case: prior variance over prior plus sampling variance.
    p = (SUCCESSES.sum() + 0.5) / (TRIALS.sum() + 1)
    sampling_variance = 1 / (TRIALS * p * (1 - p))
    np.testing.assert_allclose(weights, 0.25**2 / (0.25**2 + sampling_variance))
    assert (centering_weights(SUCCESSES, TRIALS, sigma=1.0) > weights).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: varying_intercept_model([3], [2]), "0 <= successes <= trials"),
        (lambda: varying_intercept_model([1.5], [2]), "whole counts"),
        (lambda: varying_intercept_model([], []), "one entry per district"),
        (lambda: varying_intercept_model([1, 2], [2]), "one entry per district"),
        (lambda: varying_intercept_model([np.nan], [2]), "missing or infinite"),
        (lambda: varying_intercept_model([1], [2], district=["a", "b"]), "2 labels"),
        (lambda: varying_intercept_model([1], [2], parameterization="centred"), "Unknown"),
        (lambda: varying_intercept_model([1], [2], weights=[0.5]), "partial"),
        (
            lambda: varying_intercept_model([1], [2], parameterization="partial", weights=[2]),
            "between 0 and 1",
        ),
        (lambda: fixed_effects_model([1], [2], alpha_prior=scipy.stats.expon()), "norm"),
        (lambda: varying_intercept_model([1], [2], sigma_prior=scipy.stats.pareto(2)), "pareto"),
        (
            lambda: varying_intercept_model([1], [2], sigma_prior=scipy.stats.expon(loc=1)),
            "leave loc at 0",
        ),
    ],
)
def test_bad_input_is_refused_with_its_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_prior_that_is_not_frozen_is_refused():
    with pytest.raises(TypeError, match="frozen SciPy distribution"):
        varying_intercept_model([1], [2], sigma_prior=1.0)
