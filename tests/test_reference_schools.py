"""The exact posterior of the schools' model, against slow, independent computations."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

from fieldguide.data import load_schools
from fieldguide.reference import ExactPosteriorError, flat, schools_posterior
from fieldguide.reference.schools import TOLERANCE
from fieldguide.reml import cross_products, fit_reml

PRIORS = {
    "sd_prior": stats.halfnorm(scale=5),
    "sigma_prior": stats.halfnorm(scale=10),
    "fixed_prior": (0.0, 20.0),
}


@pytest.fixture(scope="module")
def schools():
    table = load_schools()
    table["catholic"] = (table["sector"] == "Catholic").astype(int)
    return cross_products("math ~ ses * catholic + (ses | school)", table)


@pytest.fixture(scope="module")
def posterior(schools):
    return schools_posterior(schools, lkj_eta=2, **PRIORS)


@pytest.fixture(scope="module")
def few():
    """Six schools of eight students: a posterior that dense matrices can still handle."""
    table = load_schools()
    keep = table["school"].unique()[:6]
    table = table[table["school"].isin(keep)].groupby("school").head(8).reset_index(drop=True)
    return table, cross_products("math ~ ses + (ses | school)", table)


def flat_summary(posterior):
    """One row per parameter, one column per statistic."""
    each = [flat(posterior.summary.sel(statistic=s, drop=True)) for s in ("mean", "sd", "50%")]
    return pd.concat(each, axis=1, keys=["mean", "sd", "50%"])


def dense_log_joint(table, points, sd_prior, sigma_prior, fixed_prior, eta):
    """Log density of the data and (sd0, sd1, r, sigma) from full covariance matrices."""
    x = np.column_stack([np.ones(len(table)), table["ses"]])
    same = (table["school"].to_numpy()[:, None] == table["school"].to_numpy()).astype(float)
    mean, sd = fixed_prior
    out = np.empty(len(points))
    for i, (s0, s1, r, sigma) in enumerate(points):
        d = np.array([[s0**2, r * s0 * s1], [r * s0 * s1, s1**2]])
        v = sigma**2 * np.eye(len(x)) + (x @ d @ x.T) * same + sd**2 * x @ x.T
        factor = np.linalg.cholesky(v)
        residual = np.linalg.solve(factor, table["math"].to_numpy() - x @ [mean, mean])
        log_det = np.log(np.diag(factor)).sum()
        out[i] = -0.5 * (residual @ residual + len(x) * np.log(2 * np.pi)) - log_det
    s0, s1, r, sigma = np.transpose(points)
    out += sd_prior.logpdf(s0) + sd_prior.logpdf(s1) + sigma_prior.logpdf(sigma)
    return out + stats.beta(eta, eta, loc=-1, scale=2).logpdf(r)


@pytest.mark.slow
def test_agrees_with_importance_sampling_on_dense_matrices(few):
    table, products = few
    eta = 2.0
    priors = {
        "sd_prior": stats.gamma(2, scale=1.5),
        "sigma_prior": stats.halfnorm(scale=10),
        "fixed_prior": (3.0, 8.0),
    }
    exact = schools_posterior(products, lkj_eta=eta, nodes=(48, 48, 28, 36), **priors)
    rng = np.random.default_rng(1)
    count = 2**14
    s = stats.qmc.Sobol(4, rng=rng).random(count)
    guess = float(exact.mean["sigma"])
    # the prior is the proposal, except for sigma, which the data determine well
    proposals = [
        priors["sd_prior"], priors["sd_prior"], stats.beta(eta, eta, loc=-1, scale=2),
        stats.lognorm(0.2, scale=guess),
    ]  # fmt: skip
    points = np.column_stack([p.ppf(u) for p, u in zip(proposals, s.T, strict=True)])
    log_q = sum(p.logpdf(v) for p, v in zip(proposals, points.T, strict=True))
    log_w = dense_log_joint(table, points, eta=eta, **priors) - log_q
    evidence = logsumexp(log_w) - np.log(count)
    assert exact.log_marginal_likelihood == pytest.approx(evidence, abs=0.02)
    w = np.exp(log_w - logsumexp(log_w))
    for k, name in enumerate(["sd_intercept", "sd_slope", "correlation", "sigma"]):
        row = flat_summary(exact).loc[name]
        mean = w @ points[:, k]
        sd = np.sqrt(w @ (points[:, k] - mean) ** 2)
        assert row["mean"] == pytest.approx(mean, abs=0.03 * sd), name
        assert row["sd"] == pytest.approx(sd, rel=0.03), name
        below = w @ (points[:, k] <= row["50%"])
        assert below == pytest.approx(0.5, abs=0.02), name


def test_joint_density_at_a_point_is_that_of_dense_matrices(few):
    """The integrand itself, to rounding, at points that include a correlation of one."""
    from fieldguide.reference.schools import _check_priors, _Model

    table, products = few
    priors = _check_priors(products, stats.halfnorm(scale=5), stats.halfnorm(scale=10), (3.0, 8.0), 2.0)
    model = _Model(products, priors)
    rng = np.random.default_rng(2)
    for _ in range(5):
        t0, t1, angle, sigma = rng.uniform([0.01, 0.01, -1.5, 4], [1, 1, 1.5, 8])
        one = [np.array([v]) for v in (t0, t1, angle)]
        value = model.log_joint(*one, np.array([sigma]), model.solve(*one))[0, 0]
        point = [t0 * sigma, t1 * sigma, np.sin(angle), sigma]
        expected = dense_log_joint(
            table, [point], stats.halfnorm(scale=5), stats.halfnorm(scale=10), (3.0, 8.0), 2.0
        )[0]
        jacobian = 2 * np.log(sigma) + np.log(np.cos(angle))
        assert value == pytest.approx(expected + jacobian, abs=1e-8)


@pytest.mark.slow
def test_a_finer_and_another_grid_give_the_same_answer(schools, posterior):
    other = schools_posterior(schools, lkj_eta=2, nodes=(44, 37, 35, 41), **PRIORS)
    sd = flat(posterior.sd)
    assert (abs(flat(other.mean) - flat(posterior.mean)) / sd).max() < 1e-5
    assert (abs(flat(other.sd) - sd) / sd).max() < 1e-5
    for q in (0.055, 0.5, 0.945):
        gap = abs(flat(other.quantile(q)) - flat(posterior.quantile(q))) / sd
        assert gap.max() < 1e-4
    assert posterior.error < TOLERANCE


@pytest.mark.slow
def test_densities_integrate_to_one_and_to_the_reported_moments(posterior):
    rows = flat_summary(posterior)
    for label, where in [
        ("beta[ses]", {"term": "ses"}),
        ("sd_intercept", {}),
        ("sd_slope", {}),
        ("sigma", {}),
    ]:
        mean, sd = rows.loc[label, ["mean", "sd"]]
        x = np.linspace(max(mean - 9 * sd, 0), mean + 9 * sd, 4001)
        density = posterior.pdf(label.split("[")[0], x, **where).values
        assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-5), label
        assert np.trapezoid(density * x, x) == pytest.approx(mean, abs=1e-4 * sd), label
        assert np.trapezoid(density * (x - mean) ** 2, x) == pytest.approx(sd**2, rel=1e-4), label


@pytest.mark.slow
def test_quantiles_invert_the_distribution_function(posterior):
    for q in (0.055, 0.5, 0.945):
        found = posterior.quantile(q)
        for name in ("sd_intercept", "sd_slope", "correlation", "sigma"):
            assert float(posterior.cdf(name, float(found[name]))) == pytest.approx(q, abs=1e-6), name
        for term, x in found["beta"].to_series().items():
            assert float(posterior.cdf("beta", x, term=term)) == pytest.approx(q, abs=1e-6), term


def test_joint_density_has_the_marginals(posterior):
    sd = np.linspace(0, 1.6, 801)
    r = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 601)[1:-1])
    joint = posterior.joint_density(sd, r)
    assert np.trapezoid(np.trapezoid(joint, r, axis=1), sd) == pytest.approx(1, abs=1e-3)
    over_r = np.trapezoid(joint, r, axis=1)
    np.testing.assert_allclose(over_r, posterior.pdf("sd_slope", sd), atol=5e-3)


def test_posterior_sits_where_the_restricted_likelihood_is(schools, posterior):
    fit = fit_reml(schools)
    for term in schools.terms:
        gap = abs(float(posterior.mean["beta"].sel(term=term)) - fit.fixed.loc[term, "estimate"])
        assert gap < 0.15 * fit.fixed.loc[term, "se"]


@pytest.mark.slow
def test_a_stronger_lkj_prior_pulls_the_correlation_to_zero(schools):
    means = [
        float(schools_posterior(schools, lkj_eta=eta, **PRIORS).mean["correlation"]) for eta in (1, 2, 4)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] - means[2] > 0.2


@pytest.mark.slow
def test_independent_effects_are_the_limit_of_a_strong_lkj_prior(schools):
    fixed = schools_posterior(schools, lkj_eta=None, **PRIORS)
    strong = schools_posterior(schools, lkj_eta=400, nodes=(36, 28, 60, 32), **PRIORS)
    assert "correlation" not in fixed.mean
    assert dict(fixed.problem.priors)["correlation"] == "0"
    one, other = flat_summary(fixed), flat_summary(strong)
    for name in ("sd_intercept", "sd_slope", "beta[ses]"):
        gap = one.loc[name, "mean"] - other.loc[name, "mean"]
        assert abs(gap) < 0.05 * one.loc[name, "sd"]
    with pytest.raises(ValueError, match="Unknown variable 'correlation'"):
        fixed.quantile(0.5, ["correlation"])


def test_group_effects_agree_with_conditional_means_of_a_sharp_posterior(few):
    """With priors that nail the four variance parameters, the answer is one linear solve."""
    table, products = few
    at = {"sd_intercept": 2.0, "sd_slope": 1.0, "sigma": 6.0}
    exact = schools_posterior(
        products,
        sd_prior=tuple(stats.gamma(1e6, scale=at[k] / 1e6) for k in ("sd_intercept", "sd_slope")),
        sigma_prior=stats.gamma(1e6, scale=6.0 / 1e6),
        fixed_prior=(0.0, 10.0),
        lkj_eta=None,
    )
    x = np.column_stack([np.ones(len(table)), table["ses"]])
    school = np.array([products.groups.index(str(s)) for s in table["school"]])
    z = np.zeros((len(table), 12))
    for k in range(2):
        z[np.arange(len(table)), 2 * school + k] = x[:, k]
    w = np.column_stack([x, z])
    prior = np.diag([1 / 100, 1 / 100] + [1 / 4, 1] * 6)
    covariance = np.linalg.inv(prior + w.T @ w / 36)
    mean = covariance @ w.T @ table["math"].to_numpy() / 36
    effects = exact.group_effects()
    np.testing.assert_allclose(effects["mean"].values.ravel(), mean[2:], atol=2e-3)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(effects["sd"].values.ravel(), sd[2:], atol=2e-3)
    np.testing.assert_allclose(exact.sd["beta"], sd[:2], rtol=2e-3)


def test_too_few_nodes_are_refused(schools):
    with pytest.raises(ExactPosteriorError, match="use more nodes"):
        schools_posterior(schools, lkj_eta=2, nodes=(6, 6, 6, 6), **PRIORS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sd_prior": 5}, "frozen SciPy distribution"),
        ({"sd_prior": stats.norm()}, "below zero"),
        ({"sigma_prior": "half-normal"}, "frozen SciPy distribution"),
        ({"fixed_prior": (0, np.inf)}, "proper"),
        ({"fixed_prior": ([0, 0], 1)}, "one per fixed effect"),
        ({"lkj_eta": 0.2}, "below 1"),
    ],
)
def test_bad_priors_are_refused(schools, change, message):
    with pytest.raises(ValueError, match=message):
        schools_posterior(schools, **(PRIORS | {"lkj_eta": 1} | change))
