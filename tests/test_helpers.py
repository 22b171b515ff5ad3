"""Helpers on which claims rest, each in a case in which the claim must fail."""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import scipy.stats
import xarray as xr

from fieldguide.claims import Claims, FalseClaimError
from fieldguide.data import load_three_districts
from fieldguide.figures import plot_exact_contours
from fieldguide.grid import agreement, cross
from fieldguide.models import log_density_gap
from fieldguide.models.trial import ESTIMANDS
from fieldguide.published import compare_with_published, published_errors, published_summary
from fieldguide.reference import exact_posterior
from fieldguide.scores import caught_and_missed, flags, is_wrong, raised
from fieldguide.studies.trial import coverage_table

COUNTS = load_three_districts()


@pytest.fixture(scope="module")
def home():
    return exact_posterior(COUNTS["users"], COUNTS["women"], sigma_prior=scipy.stats.halfnorm(scale=0.5))


# ---------------------------------------------------------------------------------------------
# log_density_gap


def normal(bump=0.0, above=np.inf):
    """A standard normal variable whose log density is off above a point."""
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("bump", pt.switch(x > above, bump, 0.0))
    return model


@pytest.mark.parametrize("bump", [1.0, -1.0, 1e-3])
def test_two_models_that_differ_in_one_place_only_are_told_apart(bump):
    drawn = np.random.default_rng(3).normal(scale=1.5, size=20)
    above = np.sort(drawn)[-2:].mean()  # one point of the twenty is in that place
    gap = log_density_gap(normal(), normal(bump, above), {"x": "x"}, np.random.default_rng(3))
    assert gap == pytest.approx(abs(bump) * 19 / 20, rel=1e-6)


def test_two_models_that_differ_by_a_constant_are_the_same():
    rng = np.random.default_rng(3)
    assert log_density_gap(normal(), normal(5.0, -np.inf), {"x": "x"}, rng) < 1e-12


def test_points_that_one_of_two_ways_of_writing_rounds_to_zero_tell_nothing_apart():
    """With other seeds than the book's, the claims of chapters 6 and 10 met such points."""

    def model(scale, stable):
        with pm.Model() as made:
            z = pm.Normal("z", 0, scale)
            rate = {"logit_p": 40 * z} if stable else {"p": pm.math.sigmoid(40 * z)}
            pm.Binomial("users", n=20, observed=7, **rate)
        return made

    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert log_density_gap(model(1, True), model(1, False), {"z": "z"}, rng) < 1e-9
        assert log_density_gap(model(1, True), model(2, False), {"z": "z"}, rng) > 0.1


def test_a_density_that_is_zero_in_one_place_only_is_another():
    for pair in ((normal(), normal(-np.inf, 1.0)), (normal(-np.inf, 1.0), normal())):
        assert log_density_gap(*pair, {"x": "x"}, np.random.default_rng(3)) == np.inf


# ---------------------------------------------------------------------------------------------
# grid


def fits(shift=None):
    table = cross(parameterization=["a", "b"], prior=["p"], target_accept=[0.8], seed=range(20))
    rng = np.random.default_rng(1)
    for figure in ("missing_share", "sd_error:sigma"):
        table[figure] = rng.normal(size=len(table))
    for figure in ("divergences", "gradients"):
        table[figure] = rng.poisson(50, size=len(table))
    return table.assign(seconds=rng.random(len(table)))


def test_a_table_agrees_with_itself_whatever_the_time():
    whole = fits()
    same = agreement(whole.iloc[::3].assign(seconds=9.0), whole)
    assert (same["fits"], same["identical"]) == (14, 1)
    assert same["worst_z"] < 4


@pytest.mark.parametrize("figure", ["divergences", "missing_share", "sd_error:sigma", "gradients"])
def test_one_changed_fit_is_not_identical_and_one_moved_cell_does_not_agree(figure):
    whole = fits()
    one = whole.copy()
    one[figure] = one[figure].astype(float)
    one.loc[5, figure] += 1e-3
    assert agreement(one, whole)["identical"] == 39 / 40
    for sign in (1, -1):
        moved = whole.copy()
        there = moved["parameterization"] == "b"
        moved[figure] = moved[figure].astype(float)
        moved.loc[there, figure] += sign * 3 * whole[figure].std()
        result = agreement(moved, whole)
        assert result["identical"] == 0.5
        assert result["worst_z"] > 5


def test_a_full_design_has_every_combination_once_in_order():
    table = cross(x=[1, 2], y=["a", "b", "c"])
    assert table.to_numpy().tolist() == [[1, "a"], [1, "b"], [1, "c"], [2, "a"], [2, "b"], [2, "c"]]
    assert list(table) == ["x", "y"]


# ---------------------------------------------------------------------------------------------
# published


def test_published_errors_are_published_less_exact_in_published_mcse(home):
    off = published_errors("mme4", home)
    assert list(off.index) == ["alpha_bar", "sigma"]  # z has no exact mean
    expected = [(-0.731 - home.mean["alpha_bar"]) / 0.014, (0.393 - home.mean["sigma"]) / 0.008]
    assert off.tolist() == pytest.approx([float(x) for x in expected])


def test_a_fit_beside_the_published_one_is_measured_in_both_their_errors(home):
    rng = np.random.default_rng(0)
    dims = {"alpha_bar": (), "sigma": (), "z": ("district",)}
    posterior = xr.Dataset(
        {
            name: (("chain", "draw", *more), rng.normal(size=(4, 250, *[3 for _ in more])))
            for name, more in dims.items()
        },
        coords={"district": [1, 2, 3]},
    )
    posterior["alpha_bar"] = posterior["alpha_bar"] * 0.1 + 1.0  # far above what was published
    fit = xr.DataTree.from_dict({"posterior": posterior})
    fit.attrs = home.problem.to_attrs() | {"parameterization": "non-centered", "target_accept": 0.99}
    table, theirs = compare_with_published(fit, home), published_summary("mme4")
    assert table["published"].tolist() == theirs["mean"].tolist()
    assert table.loc["alpha_bar", "ours"] == pytest.approx(float(posterior["alpha_bar"].mean()))
    assert table.loc["alpha_bar", "exact"] == float(home.mean["alpha_bar"])
    mcse = float(az.mcse(posterior["alpha_bar"]))
    error = (table.loc["alpha_bar", "ours"] + 0.731) / np.sqrt(mcse**2 + 0.014**2)
    assert table.loc["alpha_bar", "in MCSE"] == pytest.approx(error, rel=1e-3)
    assert error > 50
    assert table["exact"].isna().tolist() == [name.startswith("z") for name in table.index]


# ---------------------------------------------------------------------------------------------
# figures


def test_contours_hold_the_stated_shares_of_the_exact_probability(home):
    _, ax = plt.subplots()
    plot_exact_contours(ax, home, alpha_range=(-4, 5), sigma_range=(0.001, 10))
    (drawn,) = ax.collections
    plt.close("all")
    x, log_sigma = np.linspace(-6, 8, 300), np.linspace(np.log(1e-5), np.log(20), 301)
    density = np.asarray(
        home.joint_density(district=3, alpha=x, log_sigma=log_sigma).transpose("alpha", "log_sigma")
    )
    cell = (x[1] - x[0]) * (log_sigma[1] - log_sigma[0])
    assert density.sum() * cell == pytest.approx(1, abs=0.01)
    held = [density[density > level].sum() * cell for level in drawn.levels]
    assert held == pytest.approx([0.95, 0.8, 0.5, 0.2], abs=0.015)


# ---------------------------------------------------------------------------------------------
# scores

QUIET = {"divergences": 0, "rhat": 1.01, "ess_bulk": 400, "ess_tail": 400, "bfmi": 0.3}
"""Every diagnostic at its limit, where none is raised (Vehtari et al. 2021; Betancourt 2016)."""

BEYOND = [
    ({"divergences": 1}, "divergences"),
    ({"rhat": 1.0101}, "R-hat"),
    ({"ess_bulk": 399.9}, "ESS"),
    ({"ess_tail": 399.9}, "ESS"),
    ({"bfmi": 0.2999}, "E-BFMI"),
]


def test_a_diagnostic_is_raised_beyond_its_limit_and_not_at_it():
    assert not any(raised(**QUIET).values())
    for change, name in BEYOND:
        assert [k for k, is_raised in raised(**QUIET | change).items() if is_raised] == [name]


def test_a_fit_is_wrong_beyond_either_tolerance_in_either_direction():
    table = pd.DataFrame(
        {
            "sd_error:a": [0.0, 0.15, 0.151, -0.151, 0.0, 0.0, 0.0],
            "sd_error:b": [0.0, -0.15, 0.0, 0.0, 0.2, 0.0, 0.0],
            "mcse_error:a": 9.0,
            "missing_share": [0.0, 0.5, 0.0, 0.0, 0.0, 0.51, -0.51],
        }
    )
    assert is_wrong(table).tolist() == [False, False, True, True, True, True, True]
    assert is_wrong(table, sd_error=0.3, missing=1.0).sum() == 0


def test_diagnostics_are_counted_against_what_is_wrong():
    rows = [QUIET | {"sd_error:a": wrong, "missing_share": 0.0} | change for wrong, change in [
        (0.5, {}), (0.5, {"rhat": 1.2}), (0.5, {"bfmi": 0.1}), (0.0, {"rhat": 1.2}), (0.0, {}), (0.0, {})
    ]]  # fmt: skip
    table = pd.DataFrame(rows)
    counts = caught_and_missed(table)
    assert list(counts) == ["caught", "missed", "false alarms", "rightly quiet"]
    assert counts.loc["R-hat"].tolist() == [1, 2, 1, 2]
    assert counts.loc["E-BFMI"].tolist() == [1, 2, 0, 3]
    assert counts.loc["any"].tolist() == [2, 1, 1, 2]
    assert flags(table)["any"].tolist() == [False, True, True, True, False, False]


# ---------------------------------------------------------------------------------------------
# coverage and claims


def test_coverage_accepts_right_intervals_and_rejects_biased_ones():
    rng = np.random.default_rng(6)
    estimate = rng.normal(size=800)

    def intervals(bias):
        rows = pd.DataFrame({"scenario": "s", "multiply": 1, "divergences": np.zeros(800)})
        for name in ESTIMANDS:
            rows[f"{name}:truth"], rows[f"{name}:mean"] = 0.0, estimate + bias
            rows[f"{name}:low"] = estimate + bias - 1.96
            rows[f"{name}:high"] = estimate + bias + 1.96
        return coverage_table(rows).iloc[0]

    right, biased = intervals(0.0), intervals(0.7)
    assert right["low"] < 0.95 < right["high"]
    assert abs(right["bias"]) < 3 * right["bias_error"]
    assert biased["high"] < 0.95
    assert abs(biased["bias"]) > 10 * biased["bias_error"]
    assert right["bias_error"] == pytest.approx(1 / np.sqrt(800), rel=0.1)


@pytest.mark.parametrize("false", [False, 0, np.False_, np.nan > 1, None, ""])
def test_a_claim_that_does_not_hold_leaves_no_sentence(false):
    claims = Claims()
    with pytest.raises(FalseClaimError, match="n = 3"):
        claims.check("There are {n}.", false, n=3)
    assert claims.sentences == []
