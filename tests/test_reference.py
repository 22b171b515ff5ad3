"""The exact posterior of the varying-intercept model: accuracy, speed of convergence, refusals."""

import numpy as np
import oracle
import pymc as pm
import pytest
import scipy.stats as st

import arviz as az
from fieldguide.models import varying_intercept_model
from fieldguide.reference import exact_posterior, exact_posterior_fixed, half_student_t

PROBS = (0.055, 0.5, 0.945)
THREE = ([30, 7, 2], [117, 20, 2])

CASES = {
    "three districts, exponential": (*THREE, st.expon(), st.norm(0, 1.5)),
    "three districts, tight half-normal": (*THREE, st.halfnorm(scale=0.1), st.norm(0, 1.5)),
    "three districts, half-Cauchy": (*THREE, st.halfcauchy(), st.norm(0, 1.5)),
    "three districts, half-t": (*THREE, half_student_t(4, 0.7), st.norm(0, 1.5)),
    "three districts, gamma": (*THREE, st.gamma(2, scale=0.5), st.norm(0, 1.5)),
    "three districts, lognormal": (*THREE, st.lognorm(1.0, scale=0.5), st.norm(0, 1.5)),
    "none and all, other prior on the mean": ([0, 5, 3], [4, 5, 8], st.expon(), st.norm(1, 0.7)),
    "large counts": ([4200, 5100, 3300], [10_000] * 3, st.expon(), st.norm(0, 1.5)),
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_an_independent_slow_computation(case):
    """Means and sds to 1e-6 posterior sds; quantiles by the oracle's probability below them."""
    y, n, sigma_prior, alpha_prior = CASES[case]
    exact = exact_posterior(y, n, sigma_prior=sigma_prior, alpha_prior=alpha_prior, probs=PROBS)
    quantiles = exact.quantile(PROBS)
    cuts = {
        "alpha_bar": quantiles["alpha_bar"].values,
        "sigma": quantiles["sigma"].values,
        "alpha": list(quantiles["alpha"].transpose("district", "quantile").values),
    }
    slow = oracle.posterior(
        y, n, lambda s: sigma_prior.pdf(s), alpha_prior.mean(), alpha_prior.std(), cuts
    )
    assert exact.error < 1e-6
    assert exact.log_marginal_likelihood == pytest.approx(slow["log_marginal_likelihood"], abs=1e-6)
    for name in ("alpha_bar", "sigma", "alpha"):
        sd = exact.sd[name].values
        finite = np.isfinite(sd).all()
        for ours, theirs in ((exact.mean, slow["mean"]), (exact.sd, slow["sd"])):
            if finite:  # a half-Cauchy leaves some moments infinite
                assert np.abs((ours[name].values - theirs[name]) / sd).max() < 1e-6
        scale = sd if finite else np.ptp(quantiles[name].values, axis=0) / 3
        for k, prob in enumerate(PROBS):
            below = np.array([c[k] for c in np.atleast_2d(slow["cdf"][name])])
            points = np.atleast_1d(quantiles[name].values[k])
            labels = [None] if name != "alpha" else list(exact.mean["district"].values)
            density = [float(exact.pdf(name, x, d)) for x, d in zip(points, labels, strict=True)]
            assert np.abs((below - prob) / density / scale).max() < 1e-6


def test_without_data_the_posterior_is_the_prior():
    exact = exact_posterior([0, 0, 0], [0, 0, 0], sigma_prior=st.gamma(3, scale=0.4))
    assert float(exact.mean["sigma"]) == pytest.approx(1.2, abs=1e-6)
    assert float(exact.sd["sigma"]) == pytest.approx(np.sqrt(3) * 0.4, abs=1e-6)
    assert float(exact.sd["alpha_bar"]) == pytest.approx(1.5, abs=1e-6)
    assert exact.log_marginal_likelihood == pytest.approx(0, abs=1e-6)
    for q in PROBS:
        prior = st.gamma(3, scale=0.4).ppf(q)
        assert float(exact.quantile(q)["sigma"]) == pytest.approx(prior, abs=1e-6)
    # alpha = alpha_bar + sigma z: its variance is that of the mean plus the mean of sigma squared
    variance = 1.5**2 + 1.2**2 + 3 * 0.4**2
    assert float(exact.sd["alpha"][0]) == pytest.approx(np.sqrt(variance), abs=1e-6)


def test_fixed_effects_agree_with_scipy_quadrature():
    from scipy.integrate import quad
    from scipy.special import expit

    exact = exact_posterior_fixed(*THREE)
    for j, (y, n) in enumerate(zip(*THREE, strict=True)):
        def weight(a, power, y=y, n=n):
            p = expit(a)
            return a**power * st.norm.pdf(a, 0, 1.5) * p**y * (1 - p) ** (n - y) * 1e20 ** (n > 50)

        total, first, second = (
            quad(weight, -12, 12, (k,), epsabs=0, epsrel=1e-12, limit=400, points=[-1, 0])[0]
            for k in range(3)
        )
        mean = first / total
        assert float(exact.mean["alpha"][j]) == pytest.approx(mean, abs=1e-8)
        assert float(exact.sd["alpha"][j]) == pytest.approx(np.sqrt(second / total - mean**2), abs=1e-8)


def test_densities_and_distribution_functions_belong_together():
    exact = exact_posterior(*THREE, sigma_prior=st.expon())
    x = np.linspace(1e-6, 14, 20_001)
    area = np.trapezoid(exact.pdf("sigma", x), x)
    assert area == pytest.approx(float(exact.cdf("sigma", 14)), abs=1e-5)
    alpha, log_sigma = np.linspace(-12, 25, 500), np.linspace(-9, 3.2, 300)
    joint = exact.joint_density(3, alpha, log_sigma)
    mass = np.trapezoid(np.trapezoid(joint, alpha, axis=1), log_sigma)
    assert mass == pytest.approx(1, abs=1e-3)


def test_repeated_districts_are_the_same_as_listed_ones():
    """Sixty districts in two patterns: the order of rows does not matter, labels do."""
    y, n = [3, 8] * 30, [20, 20] * 30
    exact = exact_posterior(y, n, sigma_prior=st.expon())
    shuffled = exact_posterior(y[::-1], n[::-1], sigma_prior=st.expon())
    np.testing.assert_allclose(exact.mean["alpha"], shuffled.mean["alpha"][::-1], atol=1e-9)
    assert exact.mean["alpha"].sel(district=1) < exact.mean["alpha"].sel(district=2)


def test_a_long_non_centered_run_agrees():
    exact = exact_posterior(*THREE, sigma_prior=st.expon())
    with varying_intercept_model(*THREE, parameterization="non-centered"):
        draws = pm.sample(
            draws=5000, tune=1000, chains=4, target_accept=0.97, random_seed=3, progressbar=False
        ).posterior
    for name in ("alpha_bar", "sigma", "alpha"):
        error = draws[name].mean(("chain", "draw")) - exact.mean[name]
        assert float(np.abs(error / az.mcse(draws[name])).max()) < 4.5


BAD = {
    "more successes than trials": (([3], [2]), {}, "success"),
    "negative counts": (([-1], [2]), {}, "negative|successes"),
    "no district": (([], []), {}, "district|empty"),
    "a missing count": (([np.nan], [2]), {}, "missing|finite|NaN"),
    "lengths that differ": (([1, 2], [3]), {}, "length|entr|shape"),
    "an improper prior": (THREE, {"sigma_prior": st.expon(scale=np.inf)}, "improper|scale|prior"),
    "a prior on negative values": (THREE, {"sigma_prior": st.norm()}, "positive"),
    "a prior that is none": (THREE, {"sigma_prior": 1.0}, "sigma_prior"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_in_words(bad):
    counts, other, words = BAD[bad]
    with pytest.raises((ValueError, TypeError), match=f"(?i){words}"):
        exact_posterior(*counts, **({"sigma_prior": st.expon()} | other))
