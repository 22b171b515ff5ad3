"""What a figure shows is read from it, and every change that a reader could miss is a difference."""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figures import differences, fits_pattern, masked
from test_figures import NARROW, WIDE, answer, short_fit

from fieldguide.figures import plot_funnels, plot_marginals
from fieldguide.seen import Known, WordsError, check_words, describe, facts


@pytest.fixture(scope="module")
def fits():
    return {
        "centered": short_fit("centered", WIDE, 0.8),
        "higher": short_fit("centered", WIDE, 0.9),
        "home": short_fit("non-centered", NARROW, 0.99),
    }


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def seen(figure, among, **how):
    found = describe(figure, Known({"draws": among}), **how)
    return {"chapter": "here", "caption": "A caption."} | found


def of_arviz(plot, fits):
    return seen(plot.viz["figure"].item(), fits, data=plot.data)


def funnels(fits, names=("centered", "higher", "home"), titles=None):
    pairs = [(fits[n], answer(NARROW if n == "home" else WIDE)) for n in names]
    titles = iter(titles or ("first", "second", "third"))
    return plot_funnels(pairs, title=lambda fit: next(titles))[0]


def test_a_funnel_says_whose_draws_its_dots_and_crosses_are(fits):
    found = seen(funnels(fits), fits)
    assert len(found["panels"]) == 3
    assert found["fits"] == [
        "mme0: centered, Exponential(1), target 0.8 (seed 1)",
        "mme1: centered, Exponential(1), target 0.9 (seed 1)",
        "mme4: non-centered, HalfNormal(0.5), target 0.99 (seed 1)",
    ]
    for panel, name in zip(found["panels"], found["fits"], strict=True):
        colour = "blue" if "non-centered" in name else "orange"
        assert f"{colour} dots: sigma against alpha[3], draws that did not diverge of {name}" in panel
        assert f"black crosses: sigma against alpha[3], divergent draws of {name}" in panel
        assert any(line.startswith("black contours, 4 levels") for line in panel)
    assert "x: effect of district 3 (logit)" in found["panels"][1]
    assert "y: σ (logit, log scale) [log]" in found["panels"][0]


def lost_panel(figure, fits):
    figure.axes[2].remove()
    return figure


def axis_words(figure, fits):
    figure.axes[0].set_ylabel("α (logit, log scale)")
    return figure


def another_scale(figure, fits):
    figure.axes[1].set_xscale("symlog")
    return figure


def another_title(figure, fits):
    figure.axes[0].set_title("third")
    return figure


def fewer_draws(figure, fits):
    (dots,) = (line for line in figure.axes[0].lines if line.get_marker() == ".")
    dots.set_data(dots.get_xdata()[::2], dots.get_ydata()[::2])
    return figure


def dots_for_crosses(figure, fits):
    for line in figure.axes[0].lines:
        line.set_marker(".")
    return figure


def another_colour(figure, fits):
    for line in figure.axes[1].lines:
        line.set_color("#0072B2")
    return figure


def another_district(figure, fits):
    (dots,) = (line for line in figure.axes[0].lines if line.get_marker() == ".")
    alpha = fits["centered"]["posterior"]["alpha"].sel(district=2).to_numpy().ravel()
    dots.set_xdata(alpha[: len(dots.get_xdata())])
    return figure


def no_contours(figure, fits):
    figure.axes[0].collections[0].remove()
    return figure


def another_text(figure, fits):
    figure.axes[0].text(0, 1, "never reached")
    return figure


def another_legend(figure, fits):
    figure.axes[0].legend(["all of them"])
    return figure


def another_fit(figure, fits):
    return funnels(fits, ("higher", "higher", "home"))


def another_order(figure, fits):
    return funnels(fits, ("higher", "centered", "home"))


CHANGES = [
    lost_panel,
    axis_words,
    another_scale,
    another_title,
    fewer_draws,
    dots_for_crosses,
    another_colour,
    another_district,
    no_contours,
    another_text,
    another_legend,
    another_fit,
    another_order,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_figure_differs_from_its_declaration(change, fits):
    declared = seen(funnels(fits), fits)
    assert differences(declared, seen(funnels(fits), fits)) == []
    assert differences(declared, seen(change(funnels(fits), fits), fits))


def test_legends_that_change_places_are_a_difference(fits):
    def figure(first, second):
        fig, ax = plt.subplots()
        ax.plot([0, 1], color="black", label=first)
        ax.plot([1, 0], color="#0072B2", label=second)
        ax.legend()
        ax.set_xticks([0, 1], ["a", "b"])
        return fig

    declared = seen(figure("exact", "draws"), fits)
    assert "legend: exact [black]" in declared["panels"][0]
    assert "x: [a | b]" in declared["panels"][0]
    assert differences(declared, seen(figure("draws", "exact"), fits))
    swapped = figure("exact", "draws")
    swapped.axes[0].set_xticks([0, 1], ["b", "a"])
    assert differences(declared, seen(swapped, fits))


def test_a_histogram_of_another_fit_is_a_difference(fits):
    declared = seen(plot_marginals(fits["centered"], answer(WIDE))[0], fits)
    name = "mme0: centered, Exponential(1), target 0.8 (seed 1)"
    assert declared["fits"] == [name]
    assert f"orange histogram of 60 bars: sigma of {name}" in declared["panels"][1]
    assert differences(declared, seen(plot_marginals(fits["higher"], answer(WIDE))[0], fits))
    assert differences(
        declared, seen(plot_marginals(fits["centered"], answer(WIDE), [("sigma", {})])[0], fits)
    )


PLOTS = {
    "rank": lambda draws, names: az.plot_rank(draws, var_names=names),
    "trace": lambda draws, names: az.plot_trace_dist(draws, var_names=names, compact=False),
    "pair": lambda draws, names: az.plot_pair(draws, var_names=names, marginal_kind="kde"),
    "energy": lambda draws, names: az.plot_energy(draws),
}


@pytest.mark.parametrize("kind", PLOTS)
def test_a_plot_of_arviz_says_whose_draws_it_was_given(kind, fits):
    plot, names = PLOTS[kind], ["sigma", "alpha_bar"]
    declared = of_arviz(plot(fits["centered"], names), fits)
    assert declared["fits"] == ["mme0: centered, Exponential(1), target 0.8 (seed 1)"]
    assert differences(declared, of_arviz(plot(fits["higher"], names), fits))
    if kind != "energy":  # what ArviZ drops without a word
        assert differences(declared, of_arviz(plot(fits["centered"], names[:1]), fits))


@pytest.mark.slow
def test_a_fit_run_at_another_target_is_another_fit(fits):
    declared = seen(funnels(fits), fits)
    again = short_fit("centered", WIDE, 0.95)
    assert again.attrs["target_accept"] == 0.95
    assert differences(declared, seen(funnels(fits | {"higher": again}), fits | {"higher": again}))


def test_another_seed_shows_the_same(fits):
    """With or without divergent draws; numbers that are results are declared as ``#``."""

    def declared_for(fit, name):
        figure = plot_funnels([(fit, answer(NARROW))] * 2, title=lambda fit: "a")[0]
        return seen(figure, {"home": fit}) | {"fits": [name]}

    name = "mme4: non-centered, HalfNormal(0.5), target 0.99 (seed 1)"
    quiet = fits["home"].copy(deep=True)
    quiet["sample_stats"]["diverging"][:] = False
    loud = fits["home"].copy(deep=True)
    loud["sample_stats"]["diverging"][:, :3] = True
    for fit, lost in ((quiet, "0"), (loud, "12")):
        found = declared_for(fit, name)
        assert f"title: a / {lost} divergences" in found["panels"][0]
        for panel in found["panels"]:
            panel[0] = "title: a / # divergences"
        for other in (quiet, loud):
            assert differences(found, declared_for(other, name)) == []


def test_crosses_may_be_missing_only_where_no_draw_diverged():
    line = "black crosses: b against a, divergent draws of one fit"
    declared = {"chapter": "c", "caption": "d", "fits": ["one fit"], "panels": [["x: a", line]]}
    without = declared | {"panels": [["x: a"]]}
    assert differences(declared, without)
    assert not differences(declared, without | {"sure": ["one fit"]})
    assert differences(declared, without | {"sure": ["another fit"]})


def test_numbers_are_masked_where_they_are_results_and_nowhere_else():
    assert masked("target 0.9 / 64 divergences", "target 0.9 / 7 divergences") == (
        "target 0.9 / # divergences"
    )
    assert masked("red dots; at (1, 2)", "red dots; at (1, 3)") == "red dots; at …"
    assert masked("first", "second") == "first"
    assert fits_pattern("target 0.9 / # divergences", "target 0.9 / 1,234 divergences")
    assert not fits_pattern("target 0.9 / # divergences", "target 0.99 / 12 divergences")
    assert not fits_pattern("# divergences", "no divergences")
    assert fits_pattern("red dots; at …", "red dots; at (5, 6) to (7, 8)")
    assert not fits_pattern("red dots; at …", "blue dots; at (5, 6)")


def test_values_that_belong_to_no_fit_are_said_where_they_are():
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3], [4, 6, 5], "o-", color="black")
    ax.axhline(2, color="0.5", ls=":")
    (panel,) = seen(fig, {})["panels"]
    assert (
        panel
        == [
            "black line with circles (width 1.8); at (1, 4) to (3, 5), highest (2, 6)",
            "grey 0.5 dotted line (width 1.8), level; at 2",
        ]
        or plt.rcParams["lines.linewidth"] != 1.8
    )
    ax.lines[0].set_ydata([5, 6, 4])
    assert differences(seen(fig, {}) | {"panels": [panel]}, seen(fig, {}))


def test_error_bars_are_read_as_their_points_and_lines():
    fig, ax = plt.subplots()
    ax.errorbar([1, 2], [3, 4], yerr=0.5, fmt="o", color="black")
    points, lines = seen(fig, {})["panels"][0]
    assert points == "black circles, 2 points; at (1, 3) to (2, 4)"
    assert lines == "2 black lines; at x 1 to 2, y 2.5 to 4.5"


def test_fits_that_a_figure_was_computed_from_are_named(fits):
    fig, ax = plt.subplots()
    ax.bar([0, 1], [3, 4])
    found = seen(fig, fits, fits=[fits["centered"], fits["home"]])
    assert [name.partition(":")[0] for name in found["fits"]] == ["mme0", "mme4"]
    assert found["panels"] == [["2 blue bars"]] or "bars" in found["panels"][0][0]


def test_a_caption_that_names_another_fit_is_refused(fits):
    figure = plot_marginals(fits["centered"], answer(WIDE))[0]
    known = Known(fits)
    found = describe(figure, known)
    check_words("Draws of mme0: centered, Exponential(1), target 0.8.", found, known)
    with pytest.raises(WordsError, match=r"target 0\.9'"):
        check_words("Draws of mme1: centered, Exponential(1), target 0.9.", found, known)


def test_a_table_of_means_is_of_the_fit_that_has_them(fits):
    summary = az.summary(fits["centered"], round_to="none")
    label = "mme0: centered, Exponential(1), target 0.8"
    stats = fits["centered"]["sample_stats"]
    counts = [int(stats["diverging"].sum()), int(stats["n_steps"].sum())]
    assert facts(summary, f"Summary of {label}.", Known(fits)) == {label: [counts]}
    with pytest.raises(WordsError, match="mme4"):
        facts(summary, "Summary of mme4: non-centered, HalfNormal(0.5), target 0.99.", Known(fits))
    other = az.summary(fits["higher"], round_to="none")
    stacked = pd.concat({"mme0": summary, "mme1": other})
    stacked.index = [" ".join(key) for key in stacked.index]
    assert [name[:4] for name in facts(stacked, "Two.", Known(fits))] == ["mme0", "mme1"]
    reversed_ = pd.concat({"mme1": summary, "mme0": other})
    reversed_.index = [" ".join(key) for key in reversed_.index]
    with pytest.raises(WordsError, match="the table names 'mme1'"):
        facts(reversed_, "Two.", Known(fits))


def test_a_fit_that_says_nothing_is_named_by_where_it_is(fits):
    bare = fits["centered"].copy()
    bare.attrs = {}
    fig, ax = plt.subplots()
    values = bare["posterior"]["sigma"].to_numpy().ravel()
    ax.plot(np.arange(values.size), values)
    assert seen(fig, {"bare": bare})["fits"] == ["a fit without a label (draws['bare'])"]
