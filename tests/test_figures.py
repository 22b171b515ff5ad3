"""Shared figures read colours, titles and words from the fits, and refuse an answer not theirs."""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_hex

from fieldguide.data import load_three_districts
from fieldguide.figures import (
    plot_energies,
    plot_ess,
    plot_funnel,
    plot_funnels,
    plot_marginals,
    plot_paths,
    plot_ranks,
    plot_traces,
)
from fieldguide.fits import UnlabelledFitError, divergences, label, sample_seeds
from fieldguide.models import varying_intercept_model
from fieldguide.problem import ProblemError
from fieldguide.published import compare_with_published, published_errors
from fieldguide.reference import exact_posterior
from fieldguide.style import COLORS, shades

COUNTS = load_three_districts()
WIDE, NARROW = scipy.stats.expon(), scipy.stats.halfnorm(scale=0.5)


def answer(prior):
    return exact_posterior(COUNTS["users"], COUNTS["women"], sigma_prior=prior)


def short_fit(form, prior, target):
    model = varying_intercept_model(
        COUNTS["users"], COUNTS["women"], parameterization=form, sigma_prior=prior
    )
    (fit,) = sample_seeds(model, [1], target_accept=target, draws=200, tune=300, cores=1)
    return fit


@pytest.fixture(scope="module")
def centered():
    return short_fit("centered", WIDE, 0.8)


@pytest.fixture(scope="module")
def home():
    return short_fit("non-centered", NARROW, 0.99)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def colors_of_dots(ax):
    return {to_hex(line.get_color()).upper() for line in ax.lines if line.get_marker() == "."}


def test_a_funnel_has_the_colour_of_the_fits_own_form(centered, home):
    for fit, prior in ((centered, WIDE), (home, NARROW)):
        _, ax = plt.subplots()
        plot_funnel(ax, fit, answer(prior))
        assert colors_of_dots(ax) == {COLORS[fit.attrs["parameterization"]].upper()}
        crosses = next(line for line in ax.lines if line.get_marker() == "x")
        assert len(crosses.get_xdata()) == divergences(fit)


def test_a_picture_over_another_answer_is_refused(centered):
    _, ax = plt.subplots()
    with pytest.raises(ProblemError, match="prior of sigma"):
        plot_funnel(ax, centered, answer(NARROW))
    with pytest.raises(ProblemError, match="prior of sigma"):
        plot_marginals(centered, answer(NARROW))
    bare = centered.copy()
    bare.attrs = {}
    with pytest.raises(UnlabelledFitError):
        plot_marginals(bare, answer(WIDE))


def test_titles_and_words_are_read_from_the_fits(centered, home):
    pairs = [(centered, answer(WIDE)), (home, answer(NARROW))]
    fig, alt = plot_funnels(pairs, title=lambda fit: f"target {fit.attrs['target_accept']:g}")
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == [
        f"target 0.8\n{divergences(centered)} divergences",
        f"target 0.99\n{divergences(home)} divergences",
    ]
    assert label(centered) in alt
    assert f"{label(home)}: {divergences(home)} divergences" in alt
    _, alt = plot_marginals(home, answer(NARROW))
    assert label(home) in alt
    assert f"exact {float(answer(NARROW).mean['sigma']):.3f}" in alt


def test_several_funnels_repeat_the_first_answer_and_shade_what_was_never_reached(centered, home):
    pairs = [
        (centered, answer(WIDE)),
        (centered, answer(WIDE)),
        (home, answer(NARROW)),
        (home, answer(NARROW)),
    ]
    fig, alt = plot_funnels(pairs, title=label, shape=(2, 2), floor=True)
    assert fig.axes[0].get_title().startswith("mme0: centered, Exponential(1), target 0.8\n")
    assert fig.axes[2].get_title().startswith("mme4: non-centered, HalfNormal(0.5), target 0.99\n")
    assert alt.count("exact mean of district 3") == 4
    # Grey contours repeat the first answer where the problem is another, and only there.
    contours = [len(ax.collections) for ax in fig.axes]
    assert contours[2] > contours[0] == contours[1]
    for ax, (draws, exact) in zip(fig.axes, pairs, strict=True):
        smallest = float(draws["posterior"]["sigma"].min())
        (shaded,) = ax.patches
        assert shaded.get_y() + shaded.get_height() == pytest.approx(smallest)
        below = float(exact.cdf("sigma", smallest))
        said = "all of it visited" if below < 0.001 else f"never visited: {below:.1%}"
        assert [text.get_text() for text in ax.texts] == [said]
        assert f"{below:.2%}" in alt


def test_plots_of_arviz_speak_in_words_and_in_the_shades_of_the_form(centered, home):
    for draws in (centered, home):
        hue = COLORS[draws.attrs["parameterization"]]
        trace = plot_traces(draws, ["sigma", "alpha"], district=[1, 3]).viz["figure"].item()
        words = [ax.get_xlabel() for ax in trace.axes[::2]]
        assert words == ["spread of districts, σ", "effect of district 1, α", "effect of district 3, α"]
        ranks = plot_ranks(draws, ["sigma", "alpha_bar"]).viz["figure"].item()
        assert [ax.get_title() for ax in ranks.axes] == [
            "spread of districts, σ",
            "mean of districts, ᾱ",
        ]
        chains = {line.get_color() for line in ranks.axes[0].lines}
        assert chains == set(shades(hue, draws["posterior"].sizes["chain"]))
        energy = plot_energies(draws).viz["figure"].item()
        assert energy.axes[0].get_legend().get_texts()[0].get_text() == "energies visited"
        plt.close("all")


def test_bars_of_ess_are_each_fits_own(centered, home):
    fits = [centered, home]
    figure, alt = plot_ess(fits)
    (ax,) = figure.axes
    for bars, fit in zip(ax.containers, fits, strict=True):
        own = az.ess(fit["posterior"]["alpha"]).to_numpy()
        np.testing.assert_allclose([bar.get_width() for bar in bars], own)
        assert bars.get_label() == label(fit)
        assert to_hex(bars[0].get_facecolor()) == COLORS[fit.attrs["parameterization"]].lower()
        assert f"{label(fit)}: {own[0]:.0f}, {own[1]:.0f}, {own[2]:.0f}" in alt
    assert ax.yaxis.get_inverted()  # the first district is above
    plt.close("all")


def test_a_lost_path_is_orange_and_ends_in_a_cross():
    straight = np.zeros((4, 5))
    straight[:, 1] = np.log([1, 0.5, 0.25, 2])
    paths = {"lost": (straight, np.array([0, 0.1, -3, 5000])), "kept": (straight, np.zeros(4))}
    figure, alt = plot_paths(answer(WIDE), paths)
    ends = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert [line.get_marker() for line in ends] == ["X", "o"]
    assert to_hex(ends[0].get_color()) == COLORS["centered"].lower()
    np.testing.assert_allclose([line.get_ydata()[0] for line in ends], 2)
    assert "the orange path reaches a sigma of 0.25 and an energy error of 3 nats" in alt
    plt.close("all")


def test_published_figures_are_compared_with_the_fit_of_their_own_model(centered, home):
    table = compare_with_published(home, answer(NARROW))
    assert table.index.name == "mme4"
    off = published_errors("mme4", answer(NARROW))
    assert table.loc["sigma", "published, from exact, in its MCSE"] == off["sigma"]
    # The blog post's mme4: sigma 0.393 with an MCSE of 0.008.
    exact_sigma = float(answer(NARROW).mean["sigma"])
    assert off["sigma"] == pytest.approx((0.393 - exact_sigma) / 0.008, abs=0.8)
    assert compare_with_published(centered, answer(WIDE)).index.name == "mme0"
    with pytest.raises(ProblemError):
        compare_with_published(home, answer(WIDE))
    unpublished = short_fit("deviation", WIDE, 0.8)
    with pytest.raises(KeyError, match="no summary was published"):
        compare_with_published(unpublished, answer(WIDE))


def test_a_fit_that_does_not_say_what_it_is_is_not_compared_with_published_figures(centered):
    bare = centered.copy()
    bare.attrs = {}
    with pytest.raises(UnlabelledFitError, match=r"sample with fieldguide\.sample"):
        compare_with_published(bare, answer(WIDE))
