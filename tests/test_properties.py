"""What must hold for any data: relations between exact answers, whatever their values are.

Hypothesis looks for counts and priors that break them. It tries the same examples in every run, so
that a failure here is a change in the code and not luck.
"""

import json
from itertools import product

import arviz as az
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import log_expit, logsumexp

from fieldguide.grid import _key
from fieldguide.priors import prior_name
from fieldguide.problem import count_digest
from fieldguide.reference import (
    exact_posterior,
    exact_posterior_fixed,
    flat,
    schools_posterior,
    trial_posterior,
)
from fieldguide.reml import cross_products, fit_reml
from fieldguide.scores import score

settings.register_profile(
    "the same every time",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("the same every time")
FEW = settings(max_examples=3)
MANY = settings(max_examples=40)

NORMAL = scipy.stats.norm(0, 1.5)
VARIABLES = ("alpha_bar", "p_bar", "sigma", "alpha", "p")


@st.composite
def counts(draw, least=1, most=5, trials=30):
    """Successes and trials of a few districts, empty ones and unanimous ones among them."""
    n = draw(st.lists(st.integers(0, trials), min_size=least, max_size=most))
    return [draw(st.integers(0, size)) for size in n], n


@st.composite
def spreads(draw):
    """Priors of sigma of every kind of tail and support that the quadrature tells apart."""
    scale = draw(st.floats(0.25, 2))
    return draw(
        st.sampled_from(
            [
                scipy.stats.expon(scale=scale),
                scipy.stats.halfnorm(scale=scale),
                scipy.stats.gamma(2, scale=scale),
                scipy.stats.uniform(0, 3 * scale),
            ]
        )
    )


def flat_answer(exact):
    """Means and sds of every scalar, and the log marginal likelihood, as one series."""
    return pd.concat(
        [
            flat(exact.mean).add_prefix("mean "),
            flat(exact.sd).add_prefix("sd "),
            pd.Series({"log marginal likelihood": exact.log_marginal_likelihood}),
        ]
    )


def assert_same(one, other, tolerance=2e-6):
    """Two answers agree in every number that both have, and neither has another."""
    pd.testing.assert_series_equal(
        one.sort_index(), other.sort_index(), rtol=tolerance, atol=tolerance, check_names=False
    )


# ---------------------------------------------------------------------------------------------
# Districts


@given(counts(least=2), spreads(), st.randoms())
def test_districts_in_another_order_have_the_same_answers(data, prior, random):
    y, n = map(np.array, data)
    labels = np.array([f"d{j}" for j in range(y.size)])
    order = random.sample(range(y.size), y.size)
    one = exact_posterior(y, n, sigma_prior=prior, district=labels)
    other = exact_posterior(y[order], n[order], sigma_prior=prior, district=labels[order])
    assert other.mean["district"].values.tolist() == labels[order].tolist()
    assert_same(flat_answer(one), flat_answer(other))
    assert one.problem == other.problem


@given(counts(), spreads())
def test_a_district_of_nobody_changes_nothing_of_the_others(data, prior):
    y, n = data
    without = exact_posterior(y, n, sigma_prior=prior)
    with_one = exact_posterior([*y, 0], [*n, 0], sigma_prior=prior)
    last = len(y) + 1
    others = flat_answer(with_one).drop(
        [f"{what} {name}[{last}]" for what in ("mean", "sd") for name in ("alpha", "p")]
    )
    assert_same(flat_answer(without), others)
    # and what is known of it is what the other districts say of one like them
    assert float(with_one.mean["alpha"].sel(district=last)) == pytest.approx(
        float(with_one.mean["alpha_bar"]), abs=2e-6
    )
    assert float(with_one.sd["alpha"].sel(district=last)) > float(with_one.sd["alpha_bar"])


@given(counts(), spreads(), st.floats(-1, 1))
def test_counting_the_others_instead_turns_every_sign(data, prior, centre):
    y, n = map(np.array, data)
    one = exact_posterior(y, n, sigma_prior=prior, alpha_prior=scipy.stats.norm(centre, 1.5))
    other = exact_posterior(n - y, n, sigma_prior=prior, alpha_prior=scipy.stats.norm(-centre, 1.5))
    turned = flat(other.mean)
    logits = turned.index.str.startswith("alpha")
    shares = turned.index.str.startswith("p")
    turned = turned.where(~logits, -turned).where(~shares, 1 - turned)
    assert_same(flat(one.mean), turned)
    assert_same(flat(one.sd), flat(other.sd))
    assert one.log_marginal_likelihood == pytest.approx(other.log_marginal_likelihood, abs=1e-6)
    x = np.array([-2.0, 0.3, 1.0])
    np.testing.assert_allclose(one.cdf("alpha_bar", x), 1 - other.cdf("alpha_bar", -x), atol=1e-6)


@given(counts(most=3), spreads(), st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3))
def test_the_distribution_function_undoes_the_quantile(data, prior, q):
    exact = exact_posterior(*data, sigma_prior=prior)
    quantile = exact.quantile(sorted(q))
    for name in VARIABLES:
        for x in quantile[name].transpose("quantile", ...).values.reshape(len(q), -1).T[:1]:
            where = {"district": 1} if "district" in quantile[name].dims else {}
            np.testing.assert_allclose(exact.cdf(name, x, **where), sorted(q), atol=1e-6)
            assert (np.diff(x) >= 0).all()


@given(counts(most=3), spreads(), st.floats(0.02, 0.7), st.floats(0.05, 0.25))
def test_the_density_sums_to_the_distribution_function(data, prior, low, width):
    exact = exact_posterior(*data, sigma_prior=prior)
    node, weight = np.polynomial.legendre.leggauss(40)
    for name in VARIABLES:
        where = {"district": 1} if name in ("alpha", "p") else {}
        ends = exact.quantile([low, low + width], [name])[name]
        a, b = ends.sel(where).values if where else ends.values
        area = weight @ exact.pdf(name, (a + b) / 2 + (b - a) / 2 * node, **where).values * (b - a) / 2
        assert area == pytest.approx(width, abs=2e-5), name


@given(counts(), spreads(), st.floats(-1, 1), st.floats(0.6, 2))
def test_another_prior_of_the_mean_reweights_the_posterior(data, prior, centre, sd):
    """Posterior times new prior over old prior, divided by the evidence that this leaves."""
    new = scipy.stats.norm(centre, sd)
    one = exact_posterior(*data, sigma_prior=prior, alpha_prior=NORMAL)
    other = exact_posterior(*data, sigma_prior=prior, alpha_prior=new)
    x = other.quantile([0.05, 0.3, 0.5, 0.9], ["alpha_bar"])["alpha_bar"].values
    evidence = np.exp(other.log_marginal_likelihood - one.log_marginal_likelihood)
    reweighted = one.pdf("alpha_bar", x) * new.pdf(x) / NORMAL.pdf(x) / evidence
    np.testing.assert_allclose(other.pdf("alpha_bar", x), reweighted, rtol=1e-4)


@given(counts(), st.floats(0.3, 2), st.floats(0.3, 2))
def test_another_prior_of_the_spread_reweights_the_posterior(data, old, new):
    old, new = scipy.stats.expon(scale=old), scipy.stats.halfnorm(scale=new)
    one = exact_posterior(*data, sigma_prior=old)
    other = exact_posterior(*data, sigma_prior=new)
    x = other.quantile([0.05, 0.3, 0.5, 0.9], ["sigma"])["sigma"].values
    evidence = np.exp(other.log_marginal_likelihood - one.log_marginal_likelihood)
    reweighted = one.pdf("sigma", x) * new.pdf(x) / old.pdf(x) / evidence
    np.testing.assert_allclose(other.pdf("sigma", x), reweighted, rtol=1e-4)


def summed(y, n, prior, power):
    """Log evidence and means by plain sums over a grid, each district's likelihood to a power."""
    t, log_t = np.polynomial.legendre.leggauss(50)
    a = 8 * t
    log_a = np.log(log_t * 8) + NORMAL.logpdf(a)
    sigma = prior.ppf((t + 1) / 2)  # uniform in the prior's probability
    log_sigma = np.log(log_t / 2)
    z, log_z = np.polynomial.hermite_e.hermegauss(60)
    log_z = np.log(log_z / np.sqrt(2 * np.pi))
    alpha = a[:, None, None] + sigma[:, None] * z
    log_joint = log_a[:, None] + log_sigma
    inner, means = [], []
    for successes, trials in zip(y, n, strict=True):
        log_choose = scipy.stats.binom.logpmf(successes, trials, 0.5) + trials * np.log(2)
        likelihood = successes * log_expit(alpha) + (trials - successes) * log_expit(-alpha)
        likelihood = power * (log_choose + likelihood) + log_z
        inner.append(logsumexp(likelihood, axis=-1))
        means.append((np.exp(likelihood - inner[-1][..., None]) * alpha).sum(-1))
    log_joint = log_joint + sum(inner)
    evidence = logsumexp(log_joint)
    weight = np.exp(log_joint - evidence)
    found = {"alpha_bar": (weight.sum(1) * a).sum(), "sigma": (weight.sum(0) * sigma).sum()}
    found |= {f"alpha[{j + 1}]": (weight * mean).sum() for j, mean in enumerate(means)}
    return evidence, pd.Series(found)


@given(counts(most=3, trials=12), st.floats(0.5, 1.5))
def test_data_seen_twice_square_the_likelihood(data, scale):
    y, n = map(np.array, data)
    prior = scipy.stats.uniform(0.2, 2 * scale)
    twice = exact_posterior(2 * y, 2 * n, sigma_prior=prior)
    evidence, means = summed(y, n, prior, power=2)
    # they differ in how often the same counts come about in another order
    each = scipy.stats.binom.logpmf(2 * y, 2 * n, 0.5) - 2 * scipy.stats.binom.logpmf(y, n, 0.5)
    assert twice.log_marginal_likelihood == pytest.approx(evidence + each.sum(), abs=1e-4)
    assert_same(twice.to_series(), means, tolerance=1e-4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), spreads(), st.floats(-1, 1))
@FEW
def test_all_that_can_be_seen_has_probability_one(n, prior, centre):
    alpha_prior = scipy.stats.norm(centre, 1.5)
    each = product(*(range(size + 1) for size in n))
    evidence = [
        exact_posterior(y, n, sigma_prior=prior, alpha_prior=alpha_prior).log_marginal_likelihood
        for y in each
    ]
    assert np.exp(evidence).sum() == pytest.approx(1, abs=1e-6)


@given(counts(most=3), counts(most=3))
def test_districts_that_share_nothing_are_answered_one_by_one(some, others):
    y, n = (one + other for one, other in zip(some, others, strict=True))
    together = exact_posterior_fixed(y, n)
    apart = [exact_posterior_fixed(*data) for data in (some, others)]
    np.testing.assert_allclose(
        together.mean["alpha"], np.concatenate([one.mean["alpha"] for one in apart]), atol=1e-6
    )
    assert together.log_marginal_likelihood == pytest.approx(
        sum(one.log_marginal_likelihood for one in apart), abs=1e-6
    )


@given(counts(), st.floats(0.2, 3))
def test_without_a_spread_beyond_doubt_districts_are_one(data, scale):
    """With sigma next to nothing the districts' effects are one effect, that of all counts together."""
    y, n = data
    prior = scipy.stats.uniform(0, 1e-4 * scale)
    exact = exact_posterior(y, n, sigma_prior=prior)
    pooled = exact_posterior_fixed([sum(y)], [sum(n)])
    np.testing.assert_allclose(exact.mean["alpha"], pooled.mean["alpha"].item(), atol=1e-4)
    assert float(exact.sd["alpha_bar"]) == pytest.approx(pooled.sd["alpha"].item(), abs=1e-4)


# ---------------------------------------------------------------------------------------------
# Trial and schools


@st.composite
def trials(draw):
    """Two arms at two or three sites."""
    sites = draw(st.integers(2, 3))
    table = {}
    for arm in ("control", "treated"):
        table[f"n_{arm}"] = draw(st.lists(st.integers(2, 30), min_size=sites, max_size=sites))
        table[arm] = [draw(st.integers(0, size)) for size in table[f"n_{arm}"]]
    return pd.DataFrame(table, index=pd.Index([*"ABC"[:sites]], name="site"))


@pytest.mark.slow
@given(trials())
@FEW
def test_sites_in_another_order_have_the_same_answers(trial):
    settings = {"log2_points": 5, "replicates": 2, "nodes": 6}
    one, other = trial_posterior(trial, **settings), trial_posterior(trial[::-1], **settings)
    assert_same(flat_answer(one), flat_answer(other))
    assert one.problem == other.problem


@st.composite
def pupils(draw):
    """Scores of pupils in five schools, with a predictor."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    school = np.repeat([*"abcde"], 8)
    ses = rng.normal(size=school.size)
    effect = rng.normal(size=(2, 5))[:, np.arange(school.size) // 8]
    score = draw(st.floats(-2, 2)) + effect[0] + effect[1] * ses + rng.normal(size=school.size)
    return pd.DataFrame({"school": school, "ses": ses, "score": score})


FORMULA = "score ~ ses + (ses | school)"


def schools_answer(table, unit=1.0, shift=0.0):
    spread = scipy.stats.halfnorm(scale=unit)
    return schools_posterior(
        cross_products(FORMULA, table),
        sd_prior=spread,
        sigma_prior=spread,
        fixed_prior=([shift, 0.0], 2.0 * unit),
    )


@pytest.fixture(scope="module")
def school_answer():
    """One table that the quadrature can answer with its usual nodes; it refuses some others."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"school": np.repeat([*"abcde"], 8), "ses": rng.normal(size=40)})
    table["score"] = 1 + 0.5 * table["ses"] + rng.normal(size=40)
    return table, schools_answer(table)


@given(unit=st.floats(0.1, 10), zero=st.floats(-3, 3))
@FEW
def test_scores_in_other_units_from_another_zero_have_answers_in_those(school_answer, unit, zero):
    table, one = school_answer
    other = schools_answer(table.assign(score=zero + unit * table["score"]), unit, zero)
    in_units = unit * flat(one.mean)
    in_units["beta[Intercept]"] += zero
    in_units["correlation"] /= unit
    assert_same(flat(other.mean), in_units, tolerance=1e-3)


@given(pupils(), st.floats(0.1, 10), st.randoms())
def test_restricted_likelihood_knows_neither_units_nor_order(table, unit, random):
    one = fit_reml(cross_products(FORMULA, table))
    order = random.sample(range(len(table)), len(table))
    turned = table.iloc[order].assign(score=unit * table["score"])
    other = fit_reml(cross_products(FORMULA, turned))
    assert other.sd_residual == pytest.approx(unit * one.sd_residual, rel=1e-4)
    assert other.sd_slope == pytest.approx(unit * one.sd_slope, rel=1e-3, abs=1e-4 * unit)


# ---------------------------------------------------------------------------------------------
# Scores


def fit_of(exact, seed, shift=0.0):
    """Return a fit whose draws are independent, after a shift of ``alpha_bar``."""
    rng = np.random.default_rng(seed)
    means, sds = exact.mean, exact.sd
    shape = (4, 50)
    alpha = rng.normal(means["alpha"], sds["alpha"], (*shape, means.sizes["district"]))
    posterior = xr.Dataset(
        {
            "alpha_bar": (("chain", "draw"), rng.normal(means["alpha_bar"] + shift, 1, shape)),
            "sigma": (("chain", "draw"), rng.exponential(1, shape)),
            "alpha": (("chain", "draw", "district"), alpha),
        },
        coords={"chain": range(4), "draw": range(50), "district": means["district"]},
    )
    stats = {
        "diverging": rng.random(shape) < 0.02,
        "n_steps": rng.integers(1, 8, shape),
        "step_size": rng.random(shape),
        "energy": rng.normal(size=shape),
    }
    stats = {name: (("chain", "draw"), value) for name, value in stats.items()}
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": xr.Dataset(stats)})


@pytest.fixture(scope="module")
def three():
    return exact_posterior([30, 7, 2], [117, 20, 2], sigma_prior=scipy.stats.expon())


@given(seed=st.integers(0, 2**32 - 1), order=st.sampled_from([[3, 2, 1, 0], [1, 2, 3, 0]]))
@FEW
def test_chains_in_another_order_score_the_same(three, seed, order):
    fit = fit_of(three, seed)
    turned = xr.DataTree.from_dict(
        {name: node.to_dataset().isel(chain=order) for name, node in fit.children.items()}
    )
    one, other = (score(draws, three, label="", seconds=1).to_series() for draws in (fit, turned))
    assert_same(one.drop("label").astype(float), other.drop("label").astype(float), tolerance=1e-9)


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-3, 3))
@FEW
def test_draws_that_move_by_a_distance_are_wrong_by_it(three, seed, shift):
    sd = float(three.sd["alpha_bar"])
    here, there = (
        score(fit_of(three, seed, by), three, label="", seconds=1).errors for by in (0, shift * sd)
    )
    moved = there["sd_error"] - here["sd_error"]
    assert moved["alpha_bar"] == pytest.approx(shift, abs=1e-9)
    assert moved.drop("alpha_bar").abs().max() == 0
    assert there["mcse"]["alpha_bar"] == pytest.approx(here["mcse"]["alpha_bar"], rel=1e-9)
    assert here["mcse"]["sigma"] == float(
        az.mcse(fit_of(three, seed)["posterior"].to_dataset())["sigma"]
    )


# ---------------------------------------------------------------------------------------------
# Names and digests

NUMBERS = st.floats(0.001, 1000)


@given(NUMBERS, NUMBERS)
@MANY
def test_a_prior_is_named_with_the_parameters_that_pymc_has(a, b):
    named = {
        "Exponential": (scipy.stats.expon(scale=1 / a), [a]),
        "HalfNormal": (scipy.stats.halfnorm(scale=a), [a]),
        "HalfCauchy": (scipy.stats.halfcauchy(scale=a), [a]),
        "Normal": (scipy.stats.norm(-a, b), [-a, b]),
        "Gamma": (scipy.stats.gamma(a, scale=1 / b), [a, b]),
        "InverseGamma": (scipy.stats.invgamma(a, scale=b), [a, b]),
        "LogNormal": (scipy.stats.lognorm(b, scale=np.exp(a / 100)), [a / 100, b]),
        "Uniform": (scipy.stats.uniform(a, b), [a, a + b]),
    }
    for name, (prior, parameters) in named.items():
        family, _, rest = prior_name(prior).removesuffix(")").partition("(")
        assert family == name
        np.testing.assert_allclose([float(part) for part in rest.split(", ")], parameters, rtol=1e-5)


@given(st.floats(-10, 10), NUMBERS)
@MANY
def test_a_prior_has_one_name_however_it_is_written(loc, scale):
    ways = [
        scipy.stats.norm(loc, scale),
        scipy.stats.norm(loc, scale=scale),
        scipy.stats.norm(scale=scale, loc=loc),
    ]
    assert len({prior_name(prior) for prior in ways}) == 1


@given(counts(least=2), st.randoms(), st.data())
@MANY
def test_a_digest_of_counts_changes_with_a_count_and_not_with_the_order(data, random, choice):
    y, n = data
    order = random.sample(range(len(y)), len(y))
    labels = list(range(len(y)))
    turned = [[column[j] for j in order] for column in (labels, y, n)]
    assert count_digest(*turned) == count_digest(labels, y, n)
    position = choice.draw(st.sampled_from(labels))
    more = [count + (j == position) for j, count in enumerate(n)]
    assert count_digest(labels, y, more) != count_digest(labels, y, n)


CELLS = st.dictionaries(
    st.text("abcd", min_size=1), st.integers(-99, 99) | st.text("xyz") | st.booleans(), min_size=1
)


@given(CELLS, st.randoms())
@MANY
def test_a_cell_has_one_key_whatever_the_order_of_its_columns(cell, random):
    columns = random.sample(list(cell), len(cell))
    turned = {name: cell[name] for name in columns}
    as_numpy = {name: np.array([value])[0] for name, value in cell.items()}
    as_floats = {name: float(value) if type(value) is int else value for name, value in cell.items()}
    assert len({_key(one) for one in (cell, turned, as_numpy, as_floats)}) == 1
    assert json.loads(_key(cell)) == cell


@given(CELLS, CELLS)
@MANY
def test_cells_that_differ_have_keys_that_differ(one, other):
    differ = {(name, type(value), value) for name, value in one.items()} != {
        (name, type(value), value) for name, value in other.items()
    }
    assert (_key(one) != _key(other)) == differ
