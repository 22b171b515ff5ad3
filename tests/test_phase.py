"""The phase diagram: on tables whose answer is known, the crossover and the rule are that answer."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from fieldguide import phase
from fieldguide.data import load_three_districts
from fieldguide.picture import draw
from fieldguide.reference import exact_posterior
from fieldguide.style import use_style


def made(change_at=4.0, numbers=(20,), noise=0.0, data_seeds=2):
    """A table in which the ratio of efficiencies is information x spread^2 over a number."""
    rng = np.random.default_rng(0)
    rows = []
    for number in numbers:
        for women in (1, 4, 15, 50, 200, 700, 2500, 10_000):
            for spread in (0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.75, 3.0):
                for data_seed in range(data_seeds):
                    information = women / 4
                    ratio = information * spread**2 / change_at * np.exp(noise * rng.standard_normal())
                    ess = {"centered": 500 * ratio**0.5, "non-centered": 500 / ratio**0.5}
                    for form in ("centered", "non-centered", "partial"):
                        rows.append(
                            {
                                "number": number, "women": women, "spread": spread,
                                "data_seed": data_seed, "seed": 1, "parameterization": form,
                                "weights_sigma": 0.25 * (form == "partial"),
                                "ess_bulk": ess.get(form, 3 * max(ess.values())), "ess_tail": 1e9,
                                "gradients": 20_000, "information": information,
                                "information_low": information, "information_high": information,
                                "exact_sigma": spread / 2, "exact_sigma_05": spread / 4,
                                "exact_sigma_95": 2 * spread, "divergences": 0, "seconds": 0.5,
                                "missing_share": 0.0, "sd_error:sigma": 0.1, "sd_error:worst": 0.2,
                            }
                        )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_crossover_is_where_the_table_has_it_and_its_interval_covers_it():
    for change_at in (1.0, 4.0):
        found = phase.crossover(phase.cells(made(change_at, noise=1.0)))
        assert found.at == pytest.approx(change_at, rel=0.7)
        assert found.low <= change_at <= found.high
        assert found.share[0] == pytest.approx(found.at / (1 + found.at))
    # with half the spread the same cells change hands at a quarter of the product
    exact = phase.cells(made(4.0))
    halved = phase.crossover(exact, "exact_sigma")
    assert halved.at == pytest.approx(phase.crossover(exact).at / 4)


def test_the_rule_is_right_where_it_should_be_and_ties_do_not_count():
    cells = phase.cells(made(1.0))
    right = phase.success(cells)
    assert right.right == right.decided == len(cells) - right.ties
    assert right.ties > 0
    assert right.worst == 1
    late = phase.success(phase.cells(made(4.0)))
    between = late.wrong["information"] * late.wrong["spread"] ** 2
    assert len(late.wrong) == late.decided - late.right > 0
    assert ((between > 1) & (between < 4)).all()
    assert late.worst == pytest.approx((4 / between).max())
    ends = scipy.stats.binomtest(late.right, late.decided).proportion_ci(method="wilson")
    assert (late.low, late.high) == (ends.low, ends.high)
    assert phase.success(phase.cells(made(4.0)), at=4.0).right == late.decided


def test_what_each_way_of_choosing_costs():
    costs = phase.wrong_choices(phase.cells(made(1.0)))
    assert costs.loc["rule with true σ", "mean cost"] == pytest.approx(1)
    assert costs.loc["always centered", "worst cost"] > 100
    assert costs.loc["always non-centered", "mean cost"] > 5


def test_an_ess_that_cannot_be_computed_is_one_draw_and_the_smaller_ess_counts():
    table = pd.DataFrame(
        {"ess_bulk": [400.0, np.nan], "ess_tail": [200.0, 300.0], "gradients": [1000, 1000]}
    )
    assert phase.efficiency(table).tolist() == [200.0, 1.0]


def test_the_rule_asks_for_the_centered_form_from_a_share_of_one_half_on():
    assert phase.own_share(4, 0.5) == pytest.approx(0.5)
    assert phase.choose([3.9, 4.1], 0.5).tolist() == ["non-centered", "centered"]
    assert phase.choose(4.1, 0.5, at=3.0) == "non-centered"


def test_the_mixed_form_is_held_against_the_better_of_the_others():
    found = phase.mixed_against_better(made(1.0))
    assert found["median"].tolist() == pytest.approx([3.0] * len(found))
    assert (found["share"] == 1).all()
    assert (found["share_low"] < 1).all()


def test_three_districts_are_in_the_gap_between_what_sigma_may_be():
    cases = phase.cases()
    counts = load_three_districts()
    exact = exact_posterior(
        counts["users"].to_numpy(), counts["women"].to_numpy(), sigma_prior=scipy.stats.expon()
    )
    three = cases.loc["three districts"]
    assert three["spread"] == pytest.approx(float(exact.mean["sigma"]))
    assert three["information"] == pytest.approx(20 * 39 / 139 * 100 / 139)
    assert float(exact.cdf("sigma", three["spread_low"])) == pytest.approx(0.05, abs=1e-6)
    assert (three["form"], three["cautious"]) == ("centered", "non-centered")
    assert cases.loc["schools", ["form", "cautious"]].tolist() == ["centered", "centered"]
    assert cases["groups"].tolist() == [3, 60, 5, 160]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phase.cells(pd.DataFrame({"number": [3]})), "lacks women, spread, data_seed; give the"),
        (lambda: phase.efficiency(made().iloc[:0]), "The table has no rows; give the stored table"),
        (lambda: phase.data_sets(made().query("parameterization == 'centered'")), "one form only"),
        (lambda: phase.Phase(made(), 7).cells, "no cells of 7 districts; it has 20"),
        (lambda: phase.crossover(phase.cells(made(1e9))), "One form wins in every cell"),
        (lambda: phase.crossover(phase.cells(made()), "sigma"), "Unknown spread 'sigma'"),
        (lambda: phase.choose(1, 1, at=0), "at is 0; give a positive number"),
        (lambda: phase.own_share(-1, 1), "numbers of at least 0"),
        (lambda: phase.BySize(made(), "age").rows, "use number or women"),
        (lambda: phase.BySize(made(), "women", 4).rows, "no fits of 4 districts"),
        (lambda: phase.BySize(made(), "women").summary("age"), "no figure 'age'"),
        (
            lambda: phase.mixed_against_better(made().query("parameterization != 'partial'")),
            "no fits of the partial form",
        ),
    ],
)
def test_another_table_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("which", ["phase", "rule", "women", "number"])
def test_the_figures_can_be_read_on_a_desk_and_on_a_phone(which):
    use_style()
    table = made(3.0, numbers=(20, 8), noise=0.8)
    if which in ("phase", "rule"):
        one = phase.Phase(table, 20)
        figure = one.figure() if which == "phase" else one.rule_figure()
        alt = one.alt if which == "phase" else one.rule_alt
        assert "20 districts" in alt
    else:
        if which == "number":
            numbers = (2, 3, 4, 5, 8, 12, 20, 40, 60)
            table = pd.concat(table[table["number"] == 20].assign(number=n) for n in numbers)
        one = phase.BySize(table, which)
        figure, alt = one.figure(), one.alt
        assert "Median divergences" in alt
    assert all(picture.svg for picture in draw(figure, which))
    plt.close(figure)


def test_the_figure_shows_each_cell_in_the_colour_of_its_winner():
    one = phase.Phase(made(1.0), 20)
    figure = one.figure(with_cases=False)
    ratio = one.cells["log2_ratio"]
    tied = ratio.abs() < np.log2(phase.TIE)
    counts = [len(dots.get_offsets()) for dots in figure.axes[0].collections[:3]]
    assert counts == [((ratio > 0) & ~tied).sum(), ((ratio < 0) & ~tied).sum(), tied.sum()]
    plt.close(figure)
