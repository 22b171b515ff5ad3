"""Pictures of pooling: what they draw is what the exact answers say."""

import numpy as np
import pytest
import scipy.stats as st
from matplotlib import pyplot as plt

import fieldguide as fg
from fieldguide import pooling
from fieldguide.reference.given_spread import given_spread

COUNTS = fg.load_three_districts()
PRIOR = st.expon()


@pytest.fixture(scope="module")
def known():
    return given_spread(
        COUNTS["users"], COUNTS["women"], np.geomspace(1e-6, 60, 200), district=COUNTS.index
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_spreads_are_weighed_as_the_exact_posterior_does(known):
    exact = fg.exact_posterior(COUNTS["users"], COUNTS["women"], sigma_prior=PRIOR)
    weight = pooling.weigh_spreads(known, PRIOR)
    assert float(weight.sum()) == pytest.approx(1)
    assert float((weight * known["sigma"]).sum()) == pytest.approx(float(exact.mean["sigma"]), abs=1e-4)
    below = float(weight[known["sigma"] <= 0.5].sum())
    assert below == pytest.approx(float(exact.cdf("sigma", 0.5)), abs=0.02)
    with pytest.raises(ValueError, match="even steps of their logarithm"):
        pooling.weigh_spreads(known.isel(sigma=[0, 1, 3]), PRIOR)


def test_a_new_district_varies_by_the_spread_and_by_what_is_unknown_of_the_mean(known):
    exact = fg.exact_posterior(COUNTS["users"], COUNTS["women"], sigma_prior=PRIOR)
    effect = np.linspace(-60, 60, 6001)
    density, distribution = pooling.new_district(known, PRIOR, effect)
    step = effect[1] - effect[0]
    assert density.sum() * step == pytest.approx(1, abs=1e-3)
    assert distribution[0] < 1e-4
    assert distribution[-1] > 1 - 1e-4
    np.testing.assert_allclose(np.cumsum(density)[::50] * step, distribution[::50], atol=0.02)
    mean = (density * effect).sum() * step
    assert mean == pytest.approx(float(exact.mean["alpha_bar"]), abs=0.01)
    variance = (density * (effect - mean) ** 2).sum() * step
    sigma = exact.mean["sigma"] ** 2 + exact.sd["sigma"] ** 2  # E[sigma^2]
    assert variance == pytest.approx(float(sigma + exact.sd["alpha_bar"] ** 2), rel=0.02)


def test_the_order_is_that_of_the_pooled_rates():
    survey = fg.count_by_district(fg.load_bangladesh()).iloc[:9]
    labels = {"district": survey.index}
    partial = fg.exact_posterior(survey["users"], survey["women"], sigma_prior=PRIOR, **labels)
    alone = fg.exact_posterior_fixed(survey["users"], survey["women"], **labels)
    together = fg.exact_posterior_fixed([survey["users"].sum()], [survey["women"].sum()])
    figure, alt = pooling.plot_ordered(partial, alone, together, named=(3,))
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["partial"], np.sort(partial.mean["p"].values))
    by_rate = partial.mean["p"].to_series().sort_values().index
    np.testing.assert_allclose(lines["no pooling"], alone.mean["p"].sel(district=by_rate))
    assert f"{alone.mean['p'].sel(district=3).item():.0%} alone" in alt


def test_the_alternative_text_of_what_is_left_out_names_the_worst():
    exact = fg.count_by_district(fg.load_bangladesh())["women"].iloc[:5] * -1.0
    estimate, k_hat = exact.copy(), exact * 0 + 0.3
    estimate.iloc[4] += 2.5
    k_hat.iloc[4] = 1.2
    figure, alt = pooling.plot_left_out(exact, estimate, k_hat, named=int(exact.index[0]))
    assert "1 of 5 districts are warned of" in alt
    assert "largest difference is +2.50" in alt
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "o") == 5
