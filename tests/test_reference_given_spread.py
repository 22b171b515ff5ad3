"""The posterior given the spread, held against the posterior that it is a piece of."""

import numpy as np
import pytest
import scipy.stats as st
from scipy.special import expit

import fieldguide as fg
from fieldguide.reference.given_spread import given_spread


@pytest.mark.parametrize(
    "counts", [fg.load_three_districts(), fg.count_by_district(fg.load_bangladesh())]
)
def test_pieces_make_up_the_whole(counts):
    users, women = counts["users"], counts["women"]
    exact = fg.exact_posterior(users, women, sigma_prior=st.expon(), district=counts.index)
    log_sigma = np.linspace(-15, 4.2, 191)
    known = given_spread(users, women, np.exp(log_sigma), district=counts.index)
    weight = np.exp(known["log_likelihood"] + st.expon.logpdf(np.exp(log_sigma)) + log_sigma)
    weight /= weight.sum()
    mean = weight @ known["mean"]
    sd = np.sqrt(weight @ (known["sd"] ** 2 + (known["mean"] - mean) ** 2))
    assert float(np.abs((mean - exact.mean["alpha"]) / exact.sd["alpha"]).max()) < 2e-6
    assert float(np.abs(sd / exact.sd["alpha"] - 1).max()) < 2e-6
    rate = weight @ known["mean_p"]
    assert float(np.abs((rate - exact.mean["p"]) / exact.sd["p"]).max()) < 2e-6
    nodes = weight @ (known["weight"] * known["alpha_bar"]).sum("node")
    assert float(abs(nodes - exact.mean["alpha_bar"]) / exact.sd["alpha_bar"]) < 2e-6


def test_nearly_no_spread_is_one_rate_for_all():
    counts = fg.load_three_districts()
    together = fg.exact_posterior_fixed([counts["users"].sum()], [counts["women"].sum()])
    known = given_spread(counts["users"], counts["women"], 1e-4)
    np.testing.assert_allclose(known["mean"], float(together.mean["alpha"][0]), atol=1e-6)
    np.testing.assert_allclose(known["sd"], float(together.sd["alpha"][0]), atol=1e-6)
    np.testing.assert_allclose(known["mean_p"], float(together.mean["p"][0]), atol=1e-6)


def test_a_wide_spread_leaves_every_district_its_own_share():
    known = given_spread([300, 700, 20], [1000, 1000, 40], 50.0)
    np.testing.assert_allclose(expit(known["mean"]), [[0.3, 0.7, 0.5]], atol=2e-3)


def test_bad_spreads_and_counts_are_refused():
    for sigma in (0, -1, [0.5, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="sigma must be one or more positive, finite spreads"):
            given_spread([1, 2], [3, 4], sigma)
    with pytest.raises(ValueError, match="successes exceed trials at position 0"):
        given_spread([5, 2], [3, 4], 1.0)
