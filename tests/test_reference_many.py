"""The exact posterior of many districts, and leave-one-out: against the precise engine and refits."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
from scipy.special import expit, gammaln

import fieldguide as fg
from fieldguide.priors import half_student_t
from fieldguide.reference import (
    ExactPosteriorError,
    Reference,
    exact_posterior,
    exact_posterior_fixed,
    leave_one_out,
)
from fieldguide.reference.districts_many import ManyDistrictsPosterior

PROBS = [0.055, 0.5, 0.945]
LIMIT = 1e-6  # posterior sds
PRIORS = {
    "exponential": st.expon(),
    "half-normal": st.halfnorm(scale=0.5),
    "half-t": half_student_t(3, 2.5),
}


def survey():
    table = fg.count_by_district(fg.load_bangladesh())
    return table["users"].to_numpy(), table["women"].to_numpy(), table.index.to_numpy()


def simulated(districts, least, most, sigma, seed=1):
    rng = np.random.default_rng(seed)
    n = np.exp(rng.uniform(np.log(least), np.log(most + 1), districts)).astype(int)
    return rng.binomial(n, expit(rng.normal(-0.5, sigma, districts))), n


TABLES = {
    "three districts": ([30, 7, 2], [117, 20, 2]),
    "sixty districts": survey()[:2],
    "none, all, one woman, a million": (
        [0, 10**6, 500_000, 1, 0, 5, 3, 12, 0, 1000],
        [10**6, 10**6, 10**6, 1, 1, 5, 9, 40, 30, 1003],
    ),
    "alike, so that sigma is narrow": simulated(40, 1, 2000, 0.0),
    "few women": simulated(40, 1, 5, 0.5),
    "far apart": simulated(30, 1, 5000, 3.0),
    "no successes at all": ([0] * 12, [5, 8, 11, 9, 25, 6, 7, 12, 17, 22, 5, 19]),
    "mixed, up to ten million": simulated(100, 1, 10**7, 0.6),
}


def apart(one, other, every=1):
    """Largest distance of moments, and of quantiles, in posterior sds."""
    moments = quantiles = 0.0
    found = one.quantile(PROBS)
    for name in ("alpha_bar", "p_bar", "sigma", "alpha", "p"):
        sd = other.sd[name]
        moments = max(moments, float(np.abs((one.mean[name] - other.mean[name]) / sd).max()))
        moments = max(moments, float(np.abs(one.sd[name] / sd - 1).max()))
        if sd.dims:
            for j in range(0, sd.size, every):
                ends = other._quantile(name, j, np.array(PROBS))
                moved = np.abs(found[name].values[:, j] - ends) / sd.values[j]
                quantiles = max(quantiles, moved.max())
        else:
            moved = np.abs(found[name] - other.quantile(PROBS, [name])[name]) / sd
            quantiles = max(quantiles, float(moved.max()))
    return moments, quantiles


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", TABLES)
def test_many_districts_have_the_exact_posterior(name, prior):
    y, n = TABLES[name]
    many = fg.exact_posterior_many(y, n, sigma_prior=PRIORS[prior])
    exact = exact_posterior(y, n, sigma_prior=PRIORS[prior])
    moments, quantiles = apart(many, exact, every=max(len(y) // 12, 1))
    assert moments < LIMIT
    assert quantiles < LIMIT
    assert abs(many.log_marginal_likelihood - exact.log_marginal_likelihood) < LIMIT
    assert many.error < LIMIT
    assert many.problem == exact.problem


@pytest.mark.parametrize("seed", range(6))
def test_so_it_is_for_tables_drawn_at_random(seed):
    rng = np.random.default_rng(seed)
    y, n = simulated(int(rng.integers(2, 30)), 1, 10 ** int(rng.integers(1, 7)), rng.gamma(1.0), seed)
    y = np.where(rng.random(y.size) < 0.1, 0, np.where(rng.random(y.size) < 0.1, n, y))
    prior = list(PRIORS.values())[seed % 3]
    where = st.norm(rng.normal(), 1.5)
    arguments = {"sigma_prior": prior, "alpha_prior": where}
    many = fg.exact_posterior_many(y, n, **arguments)
    moments, quantiles = apart(many, exact_posterior(y, n, **arguments), every=4)
    assert moments < LIMIT
    assert quantiles < LIMIT


def test_hundreds_of_districts_agree_with_a_finer_grid_without_interpolation(monkeypatch):
    from dataclasses import replace

    from fieldguide.reference import _districts_many, districts_many

    y, n = simulated(520, 1, 10**6, 0.5)
    usual = fg.exact_posterior_many(y, n, sigma_prior=st.expon())
    finer = replace(_districts_many.EXACT, steps=(0.22, 0.33, 0.33), end=1e-13, nothing=1e-15)
    monkeypatch.setattr(districts_many, "EXACT", finer)
    monkeypatch.setattr(_districts_many, "_close_plan", lambda model: None)
    other = fg.exact_posterior_many(y, n, sigma_prior=st.expon())
    assert usual._engine.nodes.few is not None
    assert other._engine.nodes.few is None
    assert other._engine.nodes.weight.size > 1.5 * usual._engine.nodes.weight.size
    moments, quantiles = apart(usual, other, every=100)
    assert moments < LIMIT
    assert quantiles < LIMIT


def test_it_answers_what_every_reference_answers():
    y, n, labels = survey()
    many = fg.exact_posterior_many(y, n, sigma_prior=st.expon(), district=labels)
    exact = exact_posterior(y, n, sigma_prior=st.expon(), district=labels)
    assert isinstance(many, ManyDistrictsPosterior)
    assert isinstance(many, Reference)
    assert many.neck == "sigma"
    assert many.summary.sizes == exact.summary.sizes
    assert many.to_series().index.equals(exact.to_series().index)
    for name, where in (("sigma", {}), ("alpha_bar", {}), ("p_bar", {}), ("p", {"district": 3})):
        x = exact.quantile([0.1, 0.4, 0.9], [name])[name]
        x = x.sel(district=3).values if where else x.values
        np.testing.assert_allclose(many.cdf(name, x, **where), [0.1, 0.4, 0.9], atol=1e-7)
        np.testing.assert_allclose(many.pdf(name, x, **where), exact.pdf(name, x, **where), rtol=1e-5)
    again = pickle.loads(pickle.dumps(many))
    np.testing.assert_array_equal(again.quantile(0.3)["p"], many.quantile(0.3)["p"])
    with pytest.raises(ValueError, match="joint density; use exact_posterior"):
        many.joint_density(3, [0.0], [0.0])


def test_the_order_of_the_districts_does_not_matter_and_equal_counts_have_equal_answers():
    y, n = simulated(1200, 1, 40, 0.7)
    order = np.random.default_rng(0).permutation(y.size)
    one = fg.exact_posterior_many(y, n, sigma_prior=st.expon())
    labels = order + 1
    other = fg.exact_posterior_many(y[order], n[order], sigma_prior=st.expon(), district=labels)
    np.testing.assert_allclose(
        one.mean["p"], other.mean["p"].sel(district=one.mean.district), rtol=1e-12
    )
    table = pd.DataFrame({"y": y, "n": n, "p": one.quantile(0.9)["p"]})
    assert table.groupby(["y", "n"])["p"].nunique().max() == 1


# ---------------------------------------------------------------------------------------------
# Leave one district out


def refits(y, n, j, prior):
    """What the three models predict for a district, from marginal likelihoods of refits."""
    rest = np.arange(len(y)) != j
    evidence = [
        exact_posterior(y[some], n[some], sigma_prior=prior).log_marginal_likelihood
        for some in (np.full(len(y), True), rest)
    ]

    def pooled(y, n):
        choose = gammaln(n.sum() + 1) - gammaln(y.sum() + 1) - gammaln(n.sum() - y.sum() + 1)
        return exact_posterior_fixed([y.sum()], [n.sum()]).log_marginal_likelihood - choose

    own = gammaln(n[j] + 1) - gammaln(y[j] + 1) - gammaln(n[j] - y[j] + 1)
    return {
        "no pooling": exact_posterior_fixed(y[[j]], n[[j]]).log_marginal_likelihood,
        "partial pooling": evidence[0] - evidence[1],
        "complete pooling": pooled(y, n) - pooled(y[rest], n[rest]) + own,
    }


def test_leave_one_out_is_the_ratio_of_refits_in_the_survey():
    y, n, labels = survey()
    table = leave_one_out(y, n, sigma_prior=st.expon(), district=labels)
    assert n[labels == 3] == 2
    for district in (1, 3, 34, 61):
        expected = refits(y, n, int(np.flatnonzero(labels == district)[0]), st.expon())
        for model, value in expected.items():
            assert table.loc[district, model] == pytest.approx(value, abs=1e-7)
    assert table.attrs["error"] < 1e-6
    assert table["partial pooling"].sum() > table[["no pooling", "complete pooling"]].sum().max()


@pytest.mark.parametrize("name", ["three districts", "none, all, one woman, a million", "far apart"])
def test_leave_one_out_is_so_where_a_district_says_much(name):
    y, n = map(np.asarray, TABLES[name])
    prior = half_student_t(3, 1.0)
    table = leave_one_out(y, n, sigma_prior=prior)
    for j in range(0, len(y), max(len(y) // 4, 1)):
        for model, value in refits(y, n, j, prior).items():
            assert table[model].iloc[j] == pytest.approx(value, abs=1e-6)


def test_predictions_of_one_more_district_add_up_to_one():
    y, n = np.array([30, 7, 12]), np.array([117, 20, 25])
    total = 0.0
    for k in range(5):
        found = leave_one_out([*y, k], [*n, 4], sigma_prior=st.expon())
        total = total + np.exp(found.iloc[-1])
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_one_district_alone_is_predicted_by_the_priors():
    table = leave_one_out([2], [5], sigma_prior=st.expon())
    alone = exact_posterior([2], [5], sigma_prior=st.expon()).log_marginal_likelihood
    assert table["partial pooling"].item() == pytest.approx(alone, abs=1e-6)
    fixed = exact_posterior_fixed([2], [5]).log_marginal_likelihood
    np.testing.assert_allclose(table[["no pooling", "complete pooling"]], fixed, atol=1e-9)


def test_leave_one_out_does_not_lose_the_digits_of_large_counts():
    y, n = simulated(400, 10**6, 10**7, 0.01)
    table = leave_one_out(y, n, sigma_prior=st.expon())
    # by Laplace's method the pooled prediction is a binomial, widened by what the others do not know
    p = (y.sum() - y) / (n.sum() - n)
    z = (y / n - p) / np.sqrt(p * (1 - p) * (1 / n + 1 / (n.sum() - n)))
    normal = -0.5 * z**2 - 0.5 * np.log(2 * np.pi * p * (1 - p) * n * n.sum() / (n.sum() - n))
    common = np.abs(z) < 3
    assert common.any()
    np.testing.assert_allclose(table["complete pooling"][common], normal[common], atol=0.02)


# ---------------------------------------------------------------------------------------------
# Refusals

REFUSED = {
    "swapped": (([117, 20], [30, 7]), {}, "successes exceed trials at position 0"),
    "empty": (([], []), {}, "give at least one district"),
    "lengths": (([1], [2, 3]), {}, "give one of each per district"),
    "missing": (([np.nan, 1], [2, 3]), {}, "drop that district"),
    "fraction": (([0.5, 1], [2, 3]), {}, "give whole counts, not rates"),
    "negative": (([-1, 1], [2, 3]), {}, "counts start at 0"),
    "labels": (([1, 1], [2, 3]), {"district": ["a", "a"]}, "one different label per entry"),
    "prior": (([1, 1], [2, 3]), {"sigma_prior": st.norm()}, "must live on positive values"),
    "no prior": (([1, 1], [2, 3]), {"sigma_prior": 1.0}, "frozen continuous SciPy distribution"),
    "mean": (([1, 1], [2, 3]), {"alpha_prior": st.expon()}, "frozen normal"),
    "tail": (([2, 0], [2, 3]), {"sigma_prior": st.halfcauchy()}, "tail of sigma falls too slowly"),
}


@pytest.mark.parametrize("function", [fg.exact_posterior_many, leave_one_out])
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_a_sentence(name, function):
    (y, n), changes, match = REFUSED[name]
    kind = (ValueError, TypeError, ExactPosteriorError)
    with pytest.raises(kind, match=match) as caught:
        function(y, n, **({"sigma_prior": st.expon()} | changes))
    assert "\n" not in str(caught.value)


def test_probabilities_are_checked():
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        fg.exact_posterior_many([1], [2], sigma_prior=st.expon(), probs=[0.5, 1.0])
    many = fg.exact_posterior_many([1, 2, 3], [2, 3, 4], sigma_prior=st.expon())
    with pytest.raises(ValueError, match="Unknown variable 'mu'"):
        many.quantile(0.5, "mu")
    with pytest.raises(ValueError, match="needs district="):
        many.cdf("p", 0.5, district=9)
