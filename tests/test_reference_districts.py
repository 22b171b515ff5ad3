"""The exact posterior of the binomial models, held against slower and simpler computations."""

import pickle
import time
import warnings

import numpy as np
import oracle
import pytest
import scipy.stats as st
import xarray as xr
from scipy.special import betaln, expit

from fieldguide import reference
from fieldguide.reference import (
    ExactPosteriorError,
    districts,
    exact_posterior,
    exact_posterior_fixed,
    half_student_t,
)
from fieldguide.reference import _districts_quadrature as quadrature

SUCCESSES, TRIALS = [30, 7, 2], [117, 20, 2]
PROBS = [0.055, 0.5, 0.945]
LIMIT = 5e-7  # asserted, in posterior sds; the promise is 1e-6

# name: successes, trials, prior on sigma, prior on alpha_bar, further arguments of the oracle
CASES = {
    "three districts, exponential": (SUCCESSES, TRIALS, st.expon(), (0, 1.5), {}),
    "three districts, half-Cauchy": (SUCCESSES, TRIALS, st.halfcauchy(), (0, 1.5), {}),
    "ridge at small sigma, half-normal 0.1": (SUCCESSES, TRIALS, st.halfnorm(scale=0.1), (0, 1.5), {}),
    "10,000 trials, most and none": ([9000, 0], [10_000] * 2, st.expon(), (0, 1.5), {"nodes": 13}),
    "10,000 trials, close": ([9000, 9050, 8990], [10_000] * 3, st.expon(), (0, 1.5), {}),
    "all and none, lognormal": ([3, 7, 0], [3, 20, 2], st.lognorm(1.0), (0, 1.5), {}),
    "half-t": (SUCCESSES, TRIALS, half_student_t(3, 2.5), (0, 1.5), {}),
    "gamma": (SUCCESSES, TRIALS, st.gamma(2, scale=0.5), (0, 1.5), {}),
    "three women, wide prior on the mean": ([2, 1], [2, 1], st.expon(), (0, 10), {"nodes": 15}),
    "mean far wider than the data, half-Cauchy": (
        [0, 18, 104],
        [2, 22, 303],
        st.halfcauchy(),
        (0, 20),
        {"nodes": 15},
    ),
    "districts at odds with a tight prior": (
        [164, 91, 1039, 4, 2522],
        [861, 93, 1040, 4, 2524],
        st.halfnorm(scale=0.5),
        (-1.2, 1.5),
        {"nodes": 13},
    ),
    "almost nobody, wide priors": (
        [0, 25],
        [1651, 2354],
        st.halfnorm(scale=5),
        (1.8, 20),
        {"nodes": 15},
    ),
    "bounded above and below, a district without trials": (
        [3, 0],
        [7, 0],
        st.uniform(0.5, 1.5),
        (0, 1.5),
        {"sigma_ends": (0.5, 2.0)},
    ),
    "sixty districts of six kinds": (
        [1, 5, 0, 20, 12, 2],
        [2, 20, 4, 35, 40, 2],
        st.expon(),
        (0, 1.5),
        {"count": [10] * 6},
    ),
}


def base(**changes):
    arguments = {"successes": SUCCESSES, "trials": TRIALS, "sigma_prior": st.expon()} | changes
    return exact_posterior(arguments.pop("successes"), arguments.pop("trials"), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_moments_quantiles_and_evidence_agree_with_adaptive_quadrature(name):
    y, n, prior, (mean, sd), options = CASES[name]
    count = options.get("count", [1] * len(y))
    first = np.cumsum([0, *count[:-1]])
    exact = exact_posterior(
        np.repeat(y, count),
        np.repeat(n, count),
        sigma_prior=prior,
        alpha_prior=st.norm(mean, sd),
        district=np.arange(sum(count)),
    )
    quantile = exact.quantile(PROBS)
    cuts = {name: quantile[name].values for name in ("alpha_bar", "sigma")}
    cuts["alpha"] = [quantile["alpha"].sel(district=j).values for j in first]
    slow = oracle.posterior(
        y, n, prior.pdf, mean, sd, cuts, **({"nodes": 7, "tolerance": 1e-7} | options)
    )
    for variable in ("alpha_bar", "p_bar", "sigma", "alpha", "p"):
        m, s = exact.mean[variable], exact.sd[variable]
        if "district" in m.dims:
            m, s = m.sel(district=first), s.sel(district=first)
        assert np.abs((slow["mean"][variable] - m) / s).max() < LIMIT
        assert np.abs(slow["sd"][variable] / s - 1).max() < LIMIT
    # The oracle knows distribution functions, not quantiles: divide by the density.
    for variable in ("alpha_bar", "sigma"):
        shift = (np.array(slow["cdf"][variable]) - PROBS) / exact.pdf(variable, cuts[variable])
        assert np.abs(shift / exact.sd[variable]).max() < LIMIT
    for j, points, cdf in zip(first, cuts["alpha"], slow["cdf"]["alpha"], strict=True):
        shift = (np.array(cdf) - PROBS) / exact.pdf("alpha", points, district=j)
        assert np.abs(shift / exact.sd["alpha"].sel(district=j)).max() < LIMIT
        shift_of_p = shift * expit(points) * expit(-points)
        assert np.abs(shift_of_p / exact.sd["p"].sel(district=j)).max() < LIMIT
    assert exact.log_marginal_likelihood == pytest.approx(slow["log_marginal_likelihood"], abs=LIMIT)
    assert exact.error < 1e-6


@pytest.mark.slow
def test_oracle_does_not_change_with_its_nodes():
    cuts = {"alpha_bar": [0.0], "sigma": [0.3, 1.0], "alpha": [[-1.0], [-0.7], [0.5]]}
    coarse, fine = (
        oracle.posterior(SUCCESSES, TRIALS, st.expon().pdf, 0, 1.5, cuts, nodes=k, tolerance=1e-7)
        for k in (7, 10)
    )
    assert np.allclose(coarse["mean"]["alpha"], fine["mean"]["alpha"], rtol=0, atol=1e-8)
    assert np.allclose(coarse["cdf"]["alpha"], fine["cdf"]["alpha"], rtol=0, atol=1e-8)
    assert coarse["sd"]["sigma"] == pytest.approx(fine["sd"]["sigma"], abs=1e-8)


@pytest.mark.parametrize(
    "prior",
    [st.expon(), st.halfnorm(scale=0.5), st.lognorm(0.8), st.gamma(2, scale=0.5), st.uniform(0, 2)],
    ids=lambda prior: prior.dist.name,
)
def test_without_data_the_posterior_is_the_prior(prior):
    exact = exact_posterior([0, 0], [0, 0], sigma_prior=prior, alpha_prior=st.norm(-0.5, 1.2))
    quantile = exact.quantile(PROBS)
    assert exact.log_marginal_likelihood == pytest.approx(0, abs=1e-7)
    for variable, marginal in (("sigma", prior), ("alpha_bar", st.norm(-0.5, 1.2))):
        sd = marginal.std()
        assert abs(exact.mean[variable] - marginal.mean()) < LIMIT * sd
        assert abs(exact.sd[variable] - sd) < LIMIT * sd
        assert np.abs(quantile[variable] - marginal.ppf(PROBS)).max() < LIMIT * sd
        x = marginal.ppf([0.01, 0.3, 0.9])
        assert np.allclose(exact.pdf(variable, x), marginal.pdf(x), rtol=1e-6)
        assert np.allclose(exact.cdf(variable, x), [0.01, 0.3, 0.9], rtol=0, atol=1e-7)
    # alpha_j = alpha_bar + sigma z: law of total variance
    assert exact.sd["alpha"][0] == pytest.approx(
        np.sqrt(1.2**2 + prior.var() + prior.mean() ** 2), rel=1e-7
    )


def test_heavy_tails_say_which_moments_exist():
    none = exact_posterior([3, 2, 0], [3, 2, 0], sigma_prior=st.halfcauchy())
    assert none.mean["sigma"] == np.inf
    assert np.isnan(none.sd["sigma"])
    assert np.array_equal(none.mean["alpha"], [np.inf, np.inf, np.nan], equal_nan=True)
    assert np.isfinite(none.mean[["alpha_bar", "p"]].to_array()).all()
    one = exact_posterior([3, 1], [3, 2], sigma_prior=st.halfcauchy())
    assert np.isfinite(one.mean["sigma"])
    assert one.sd["sigma"] == np.inf
    assert np.array_equal(np.isfinite(one.sd["alpha"]), [False, True])
    two = exact_posterior([1, 1], [3, 2], sigma_prior=st.halfcauchy())
    assert np.isfinite(two.sd.to_array()).all()


def test_half_cauchy_without_data_has_the_quantiles_of_its_prior():
    exact = exact_posterior([0], [0], sigma_prior=st.halfcauchy(scale=2))
    x = st.halfcauchy(scale=2).ppf(PROBS)
    assert np.allclose(exact.quantile(PROBS)["sigma"], x, rtol=2e-6)
    assert np.allclose(exact.pdf("sigma", [0.01, 1, 1000]), st.halfcauchy(0, 2).pdf([0.01, 1, 1000]))


@pytest.mark.parametrize("prior", [st.expon(), st.halfcauchy(), st.halfnorm(scale=0.25)])
def test_a_change_of_grid_changes_nothing(prior, monkeypatch):
    before = base(sigma_prior=prior).summary
    monkeypatch.setattr(quadrature, "_STEPS", tuple(0.7 * step for step in quadrature._STEPS))
    after = base(sigma_prior=prior).summary
    for variable in before:
        sd = before[variable].sel(statistic="sd")
        assert np.abs((after[variable] - before[variable]) / sd).max() < LIMIT


def test_reported_error_covers_the_actual_one(monkeypatch):
    """Coarse grids made on purpose: the estimate has to see how wrong they are."""
    exact = base()
    monkeypatch.setattr(quadrature, "TOLERANCE", np.inf)
    for steps in [(0.5, 0.5, 0.35), (0.25, 1.0, 0.35), (0.25, 0.5, 0.7), (0.6, 1.1, 0.6)]:
        monkeypatch.setattr(quadrature, "_STEPS", steps)
        rough = base()
        actual = max(
            float(np.abs((rough.mean[v] - exact.mean[v]) / exact.sd[v]).max()) for v in exact.mean
        )
        assert actual > 1e-8
        assert rough.error > actual


def test_what_cannot_be_resolved_is_refused(monkeypatch):
    monkeypatch.setattr(quadrature, "TOLERANCE", 1e-18)
    monkeypatch.setattr(quadrature, "SECONDS", 2.0)
    with pytest.raises(ExactPosteriorError, match="did not converge"):
        base()
    monkeypatch.undo()
    with pytest.raises(ExactPosteriorError, match="tail too heavy"):
        exact_posterior([0], [0], sigma_prior=half_student_t(1.1))


def test_an_inaccurate_quantile_is_refused(monkeypatch):
    monkeypatch.setattr(districts, "QUANTILE_TOLERANCE", 1e-13)
    with pytest.raises(ExactPosteriorError, match="is not accurate"):
        base().quantile(0.945)


def test_results_can_be_pickled_after_use():
    exact = base()
    before = exact.summary
    again = pickle.loads(pickle.dumps(exact))
    xr.testing.assert_equal(again.quantile(PROBS), exact.quantile(PROBS))
    xr.testing.assert_equal(again.summary, before)


@pytest.mark.slow
def test_fixed_effects_are_one_dimensional_integrals():
    from scipy.integrate import quad

    exact = exact_posterior_fixed(SUCCESSES, TRIALS)
    evidence = 0.0
    for j, (y, n) in enumerate(zip(SUCCESSES, TRIALS, strict=True)):

        def f(a, y=y, n=n):
            return st.binom(n, expit(a)).pmf(y) * st.norm(0, 1.5).pdf(a)

        def integral(g, low=-12, f=f, **limits):
            return quad(
                lambda a: g(a) * f(a), low, limits.get("high", 12), epsabs=1e-14, points=[-1, 1],
                limit=200,
            )[0]  # fmt: skip

        z = integral(np.ones_like)
        evidence += np.log(z)
        mean = integral(lambda a: a) / z
        sd = np.sqrt(integral(lambda a, m=mean: (a - m) ** 2) / z)
        assert abs(exact.mean["alpha"][j] - mean) < LIMIT * sd
        assert abs(exact.sd["alpha"][j] - sd) < LIMIT * sd
        assert abs(exact.mean["p"][j] - integral(expit) / z) < LIMIT * float(exact.sd["p"][j])
        for q, x in zip(PROBS, exact.quantile(PROBS)["alpha"][:, j].values, strict=True):
            below = quad(f, -12, x, epsabs=1e-14, points=[(x - 12) / 3])[0] / z
            assert abs(below - q) < LIMIT * float(exact.pdf("alpha", x, district=j + 1)) * sd
    assert exact.log_marginal_likelihood == pytest.approx(evidence, abs=1e-8)
    assert "sigma" not in exact.mean


def test_fixed_effects_with_a_flat_prior_are_conjugate():
    """A flat prior on the logit is Beta(0, 0) on p, and its posterior is Beta(y, n - y)."""
    sd = 200.0
    exact = exact_posterior_fixed([12], [40], alpha_prior=st.norm(0, sd))
    beta = st.beta(12, 28)
    assert exact.mean["p"][0] == pytest.approx(beta.mean(), abs=1e-4 * beta.std())
    assert exact.sd["p"][0] == pytest.approx(beta.std(), rel=1e-4)
    assert np.allclose(exact.quantile(PROBS)["p"][:, 0], beta.ppf(PROBS), rtol=1e-4)
    log_evidence = betaln(12, 28) - np.log(41) - betaln(29, 13) - np.log(sd * np.sqrt(2 * np.pi))
    assert exact.log_marginal_likelihood == pytest.approx(log_evidence, abs=1e-3)


def test_small_sigma_pools_completely_and_large_sigma_not_at_all():
    pooled = base(sigma_prior=st.uniform(0.0, 1e-4))
    together = exact_posterior_fixed([sum(SUCCESSES)], [sum(TRIALS)])
    assert np.allclose(pooled.mean["alpha"], together.mean["alpha"], atol=1e-6)
    far = base(sigma_prior=st.uniform(1.5, 1e-3), alpha_prior=st.norm(0, 1e-3))
    apart = exact_posterior_fixed(SUCCESSES, TRIALS)
    assert np.allclose(far.mean["alpha"], apart.mean["alpha"], atol=2e-3)


@pytest.mark.slow
def test_quadrature_agrees_with_a_long_non_centered_run():
    import arviz as az
    import pymc as pm

    with pm.Model(coords={"district": [1, 2, 3]}):
        alpha_bar = pm.Normal("alpha_bar", 0, 1.5)
        sigma = pm.Exponential("sigma", 1)
        z = pm.Normal("z", dims="district")
        alpha = pm.Deterministic("alpha", alpha_bar + sigma * z, dims="district")
        pm.Deterministic("p", pm.math.invlogit(alpha), dims="district")
        pm.Binomial("successes", n=TRIALS, logit_p=alpha, observed=SUCCESSES, dims="district")
        draws = pm.sample(5000, chains=4, cores=1, target_accept=0.95, random_seed=20, progressbar=False)
    exact = base()
    names = ["alpha_bar", "sigma", "alpha", "p"]
    posterior = draws.posterior.dataset[names]
    for error, truth, estimate in [
        (az.mcse(draws, var_names=names, method="mean"), exact.mean, posterior.mean),
        (az.mcse(draws, var_names=names, method="sd"), exact.sd, posterior.std),
    ]:
        estimate = estimate(["chain", "draw"])
        for name in names:
            assert (np.abs(estimate[name] - truth[name]) < 4 * error[name]).all()
    for q in PROBS:
        for name in names:
            reached = (posterior[name] < exact.quantile(q)[name]).mean(["chain", "draw"])
            ess = az.ess(draws, var_names=[name], method="quantile", prob=q)
            assert (np.abs(reached - q) < 4 * np.sqrt(q * (1 - q) / ess[name])).all()


@pytest.mark.slow
def test_densities_integrate_to_distribution_functions_and_moments():
    exact = base()
    for name, district, x in [
        ("alpha_bar", None, np.linspace(-9, 9, 6001)),
        ("alpha", 3, np.linspace(-9, 40, 6001)),
        ("p", 2, np.linspace(1e-6, 1 - 1e-6, 6001)),
        ("p_bar", None, np.linspace(1e-6, 1 - 1e-6, 6001)),
        ("sigma", None, np.linspace(1e-9, 30, 6001)),
    ]:
        pdf = exact.pdf(name, x, district=district).values
        steps = (pdf[1:] + pdf[:-1]) / 2 * np.diff(x)
        cdf = exact.cdf(name, x, district=district).values
        assert (np.diff(cdf) > -1e-9).all()
        assert np.allclose(cdf[[0, -1]], [0, 1], rtol=0, atol=1e-6)
        assert np.abs(np.concatenate([[0], np.cumsum(steps)]) - cdf).max() < 1e-5
        mean = exact.mean[name] if district is None else exact.mean[name].sel(district=district)
        assert np.trapezoid(pdf * x, x) == pytest.approx(float(mean), abs=1e-4)


def test_joint_density_has_the_right_marginals():
    exact = base()
    alpha, log_sigma = np.linspace(-8, 25, 1201), np.linspace(-11, 3.5, 300)
    joint = exact.joint_density(3, alpha, log_sigma)
    assert joint.dims == ("log_sigma", "alpha")
    over_alpha = joint.integrate("alpha").values
    sigma = np.exp(log_sigma)
    assert np.allclose(over_alpha, exact.pdf("sigma", sigma).values * sigma, atol=2e-6)
    grid = joint.integrate("log_sigma").values
    marginal = exact.pdf("alpha", alpha, district=3).values
    assert np.abs(grid - marginal).max() < 1e-4
    assert joint.integrate(["alpha", "log_sigma"]) == pytest.approx(1, abs=1e-4)


def test_a_district_in_the_neck_and_outside_it_share_one_density():
    """At a sigma so small that alpha_j is alpha_bar, the density is the pooled posterior's."""
    exact = base()
    alpha = np.linspace(-2, 0.5, 200)
    neck = exact.joint_density(3, alpha, [np.log(1e-7)])[0].values
    pooled = exact_posterior_fixed([39], [139]).pdf("alpha", alpha, district=1).values
    neck, pooled = neck / np.trapezoid(neck, alpha), pooled / np.trapezoid(pooled, alpha)
    assert np.abs(neck - pooled).max() < 1e-7 * pooled.max()


def test_results_are_labelled():
    exact = base(district=["a", "b", "c"])
    assert list(exact.mean["alpha"]["district"].values) == ["a", "b", "c"]
    assert set(exact.mean) == {"alpha_bar", "p_bar", "sigma", "alpha", "p"}
    summary = exact.summary
    assert list(summary["statistic"].values) == ["mean", "sd", "5.5%", "50%", "94.5%"]
    assert summary["alpha"].dims == ("statistic", "district")
    assert exact.quantile(0.5)["sigma"].ndim == 0
    assert exact.quantile([0.1, 0.9])["alpha"].sizes == {"quantile": 2, "district": 3}
    interval = exact.interval(0.89)
    assert list(interval["bound"].values) == ["lower", "upper"]
    assert np.allclose(interval["sigma"], exact.quantile([0.055, 0.945])["sigma"])
    x = xr.DataArray([0.1, 0.2], dims="sigma")
    assert exact.pdf("sigma", x).dims == ("sigma",)
    assert exact.cdf("alpha", 0.0, district="c").ndim == 0
    assert set(reference.__all__) >= {"exact_posterior", "exact_posterior_fixed"}


def test_order_and_repetition_of_districts_do_not_matter():
    forward = exact_posterior([30, 7, 2, 7], [117, 20, 2, 20], sigma_prior=st.expon())
    backward = exact_posterior([7, 2, 7, 30], [20, 2, 20, 117], sigma_prior=st.expon())
    assert np.allclose(forward.mean["alpha"], backward.mean["alpha"][::-1], atol=1e-12)
    assert forward.mean["alpha"][1] == forward.mean["alpha"][3]


def test_half_student_t_is_the_absolute_value_of_a_t():
    prior, t = half_student_t(4, 2.0), st.t(4, scale=2.0)
    x = np.array([0.1, 1.0, 5.0, 60.0])
    assert np.allclose(prior.pdf(x), 2 * t.pdf(x))
    assert np.allclose(prior.sf(x), 2 * t.sf(x))
    assert np.allclose(prior.ppf(prior.cdf(x)), x)
    assert np.allclose(prior.isf(prior.sf(x)), x)
    assert prior.pdf(-1.0) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"successes": [130, 7, 2]}, ValueError, "exceed trials at position 0"),
        ({"successes": [-1, 7, 2]}, ValueError, "negative"),
        ({"successes": [np.nan, 7, 2]}, ValueError, "missing or infinite"),
        ({"trials": [117, np.inf, 2]}, ValueError, "missing or infinite"),
        ({"successes": [0.26, 7, 2]}, ValueError, "whole counts"),
        ({"successes": [30, 7]}, ValueError, "successes has 2 entries and trials 3"),
        ({"successes": [], "trials": []}, ValueError, "empty"),
        ({"successes": [[30, 7, 2]]}, ValueError, "one-dimensional"),
        ({"sigma_prior": st.norm()}, ValueError, "positive values"),
        ({"sigma_prior": st.expon(scale=np.inf)}, ValueError, "improper"),
        ({"sigma_prior": st.expon(scale=-1)}, ValueError, "sigma_prior"),
        ({"sigma_prior": "exponential"}, TypeError, "frozen continuous"),
        ({"sigma_prior": st.expon}, TypeError, "frozen continuous"),
        ({"sigma_prior": st.poisson(2)}, TypeError, "frozen continuous"),
        ({"alpha_prior": st.expon()}, TypeError, "frozen normal"),
        ({"alpha_prior": st.norm(0, np.inf)}, ValueError, "improper"),
        ({"alpha_prior": 1.5}, TypeError, "frozen normal"),
        ({"district": ["a", "a", "b"]}, ValueError, "different label"),
        ({"district": ["a", "b"]}, ValueError, "different label"),
        ({"probs": (0.0, 0.5)}, ValueError, "strictly between"),
    ],
)
def test_bad_input_is_named(changes, error, message):
    with pytest.raises(error, match=message):
        base(**changes)


def test_bad_questions_are_named():
    exact = base()
    for call, message in [
        (lambda: exact.quantile(1.0), "strictly between"),
        (lambda: exact.interval(1.5), "between"),
        (lambda: exact.pdf("alpha", 0.0), "needs district="),
        (lambda: exact.pdf("alpha", 0.0, district=7), "needs district="),
        (lambda: exact.cdf("tau", 0.0), "Unknown variable 'tau'"),
        (lambda: exact.pdf("sigma", [[0.1]]), "one-dimensional"),
        (lambda: exact.joint_density(9, [0.0], [0.0]), "needs district="),
        (lambda: exact_posterior_fixed([1], [2]).joint_density(1, [0.0], [0.0]), "no sigma"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for prior in (st.expon(), st.halfcauchy(), st.gamma(0.5), st.uniform(0, 3)):
            assert np.isfinite(base(sigma_prior=prior).summary["sigma"]).all()
        exact_posterior([0, 5], [0, 5], sigma_prior=st.halfcauchy()).quantile(0.5)


# --- large counts, priors far from the data ----------------------------------------------------

LARGE = {
    "one of all, others not": ([30_000, 50_000, 100_000], [100_000] * 3),
    "one district of ten million": ([5e6], [1e7]),
    "ten million beside twenty": ([3e6, 7, 2], [1e7, 20, 2]),
    "three of ten million": ([3e6, 5e6, 2e6], [1e7] * 3),
    "three of ten million, close": ([3_000_000, 3_001_000, 2_999_000], [1e7] * 3),
    "none against all": ([0, 1e7], [1e7] * 2),
    "a million million beside twenty": ([3e11, 7], [1e12, 20]),
    "three of a million million": ([3e11, 5e11, 2e11], [1e12] * 3),
    "none, all and few": ([0, 1e12, 5], [1e12, 1e12, 9]),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_counts_work_at_once(name, monkeypatch):
    y, n = LARGE[name]
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = exact_posterior(y, n, sigma_prior=st.expon())
        summary = exact.summary
    assert time.process_time() - start < 5
    assert exact.error < 1e-6
    monkeypatch.setattr(quadrature, "_STEPS", tuple(0.6 * step for step in quadrature._STEPS))
    finer = exact_posterior(y, n, sigma_prior=st.expon())
    for variable in summary:
        sd = exact.sd[variable]
        gap = abs(finer.summary[variable] - summary[variable])
        # a probability near 1 is known to rounding
        assert (gap < LIMIT * sd + 2e-16).all(), variable
    assert finer.log_marginal_likelihood == pytest.approx(exact.log_marginal_likelihood, abs=LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three of ten million", "three of ten million, close"])
def test_ten_million_agree_with_adaptive_quadrature(name):
    y, n = LARGE[name]
    exact = exact_posterior(y, n, sigma_prior=st.expon())
    cuts = {
        "alpha_bar": [float(exact.mean["alpha_bar"])],
        "sigma": exact.quantile(0.5)["sigma"].values[None],
    }
    cuts["alpha"] = [[float(value)] for value in exact.mean["alpha"]]
    slow = oracle.posterior(y, n, st.expon().pdf, 0, 1.5, cuts, nodes=7, tolerance=1e-6)
    for variable in ("alpha_bar", "p_bar", "sigma", "alpha", "p"):
        m, s = exact.mean[variable], exact.sd[variable]
        assert np.abs((slow["mean"][variable] - m) / s).max() < 1e-6
        assert np.abs(slow["sd"][variable] / s - 1).max() < 1e-6
    # the oracle adds logarithms of ten million factors, which costs it digits
    assert exact.log_marginal_likelihood == pytest.approx(slow["log_marginal_likelihood"], abs=1e-6)
    assert slow["cdf"]["sigma"][0] == pytest.approx(0.5, abs=1e-6)


def test_huge_counts_are_the_normal_normal_model():
    """With 10^12 trials the likelihood of an effect is normal, and sums over sigma are all there is."""
    y, n = np.array([3e11, 3.000004e11, 2.999999e11]), np.full(3, 1e12)
    exact = exact_posterior(y, n, sigma_prior=st.expon(), alpha_prior=st.norm(0, 1.5))
    rate = y / n
    effect, variance = np.log(rate / (1 - rate)), 1 / (n * rate * (1 - rate))
    sigma = np.exp(np.linspace(-25, 3, 40_001))
    v = variance + sigma[:, None] ** 2
    precision = (1 / v).sum(1) + 1 / 1.5**2
    mean = (effect / v).sum(1) / precision
    log_w = st.norm(mean[:, None], np.sqrt(v)).logpdf(effect).sum(1) + st.norm(0, 1.5).logpdf(mean)
    log_w += np.log(sigma) - sigma - 0.5 * np.log(precision)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    sd = float(exact.sd["sigma"])
    assert float(exact.mean["sigma"]) == pytest.approx(w @ sigma, abs=1e-4 * sd)
    assert sd == pytest.approx(np.sqrt(w @ (sigma - w @ sigma) ** 2), rel=1e-4)
    assert float(exact.mean["alpha_bar"]) == pytest.approx(
        w @ mean, abs=1e-4 * float(exact.sd["alpha_bar"])
    )
    alpha = (w[:, None] * (effect * sigma[:, None] ** 2 + mean[:, None] * variance) / v).sum(0)
    assert (abs(exact.mean["alpha"] - alpha) < 1e-4 * exact.sd["alpha"]).all()


@pytest.mark.parametrize(
    ("y", "n"), [(3 * 10**11, 10**12), (10**12 - 10**5, 10**12), (7 * 10**6, 10**9)]
)
def test_evidence_of_large_counts_keeps_its_digits(y, n):
    """A wide prior is flat where the likelihood is: Beta(y, n - y) is the integral over the logit."""
    exact = exact_posterior_fixed([y], [n], alpha_prior=st.norm(0, 1e3))
    failures = n - y
    log_odds = np.log(y / failures)
    # choose(n, y) Beta(y, n - y) = n / (y (n - y))
    expected = np.log(n / y / failures) + st.norm(0, 1e3).logpdf(log_odds)
    assert exact.log_marginal_likelihood == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("prior_mean", "prior_sd"), [(50, 1), (-50, 1), (0, 1e4)], ids=["50", "-50", "sd 10,000"]
)
def test_a_prior_mean_far_from_the_data_works_at_once(prior_mean, prior_sd):
    start = time.process_time()
    exact = base(alpha_prior=st.norm(prior_mean, prior_sd))
    assert np.isfinite(exact.sd.to_array()).all()
    assert time.process_time() - start < 5
    assert exact.error < 1e-6
    if prior_mean:
        assert abs(float(exact.mean["alpha_bar"]) - prior_mean) < 1
        mirrored = exact_posterior(
            np.subtract(TRIALS, SUCCESSES),
            TRIALS,
            sigma_prior=st.expon(),
            alpha_prior=st.norm(-prior_mean, prior_sd),
        )
        gap = exact.mean[["alpha_bar", "alpha"]] + mirrored.mean[["alpha_bar", "alpha"]]
        assert (abs(gap) < 1e-6 * exact.sd[["alpha_bar", "alpha"]]).to_array().all()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sigma_prior": st.invgamma(0.01)}, "tail too heavy"),
        ({"alpha_prior": st.norm(-500, 1)}, "prior mean of alpha_bar is 499 logits from every district"),
        (
            {"successes": [3e11, 5e11], "trials": [1e12] * 2, "sigma_prior": st.halfnorm(scale=1e-9)},
            "1e\\+12 trials in one district are too many",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_refusals_come_soon_and_with_their_own_reason(arguments, reason):
    start = time.process_time()
    with pytest.raises(ExactPosteriorError, match=reason):
        base(**arguments)
    assert time.process_time() - start < 12


def test_there_is_a_limit_of_time(monkeypatch):
    monkeypatch.setattr(quadrature, "SECONDS", 0.0)
    with pytest.raises(
        ExactPosteriorError, match=r"did not converge after 0\.\d s .*: 3 kinds of districts"
    ):
        base()


def test_districts_that_a_tight_prior_pulls_together_keep_their_marginals():
    """The nodes that a district's own counts pull in must not be dropped for lack of the others'."""
    exact = exact_posterior(
        [14339, 0], [14339, 5_114_844], sigma_prior=st.halfnorm(scale=0.05), alpha_prior=st.norm(3, 2)
    )
    for j in (1, 2):
        mean, sd = (float(v["alpha"].sel(district=j)) for v in (exact.mean, exact.sd))
        x = np.linspace(mean - 9 * sd, mean + 9 * sd, 2001)
        pdf = exact.pdf("alpha", x, district=j).values
        assert np.trapezoid(pdf, x) == pytest.approx(1, abs=1e-6)
        assert np.trapezoid(x * pdf, x) == pytest.approx(mean, abs=1e-6 * sd)


def test_distribution_function_outside_the_support():
    exact = base(sigma_prior=st.uniform(0.5, 1.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = exact.cdf("sigma", [np.nan, -1.0, 0.0, 0.5, 2.0, 3.0]).values
    np.testing.assert_array_equal(found, [np.nan, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(exact.cdf("p", [-0.1, 0, 1, 2], district=1), [0, 0, 1, 1])
