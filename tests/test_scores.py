"""Scores say what a fit got wrong: draws made from the exact answer, then damaged on purpose."""

from dataclasses import replace

import arviz as az
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from fieldguide.fits import sample, sample_seeds
from fieldguide.models import fixed_effects_model, varying_intercept_model
from fieldguide.problem import ProblemError
from fieldguide.reference import exact_posterior, exact_posterior_fixed
from fieldguide.scores import SMALL_SIGMA, caught_and_missed, flags, is_wrong, score, scoreboard

SUCCESSES = np.array([30, 7, 2])
TRIALS = np.array([117, 20, 2])


@pytest.fixture(scope="module")
def exact():
    return exact_posterior(SUCCESSES, TRIALS, sigma_prior=scipy.stats.expon())


@pytest.fixture(scope="module")
def centered_draws():
    model = varying_intercept_model(SUCCESSES, TRIALS)
    (fit,) = sample_seeds(model, [3], draws=500, tune=500, cores=1)
    return fit


@pytest.fixture(scope="module")
def non_centered_draws():
    model = varying_intercept_model(SUCCESSES, TRIALS, parameterization="non-centered")
    with model:
        return sample(
            500,
            tune=500,
            chains=4,
            cores=1,
            random_seed=3,
            target_accept=0.95,
            nuts_sampler="pymc",
            progressbar=False,
        )


def test_diagnostics_agree_with_the_arviz_summary(centered_draws, exact):
    result = score(centered_draws, exact, label="centered")
    summary = az.summary(centered_draws, var_names=["alpha_bar", "sigma", "alpha"], round_to="none")
    assert result.rhat == pytest.approx(summary["r_hat"].max())
    assert result.ess_bulk == pytest.approx(summary["ess_bulk"].min())
    assert result.ess_tail == pytest.approx(summary["ess_tail"].min())
    np.testing.assert_allclose(result.errors["mcse"].sort_index(), summary["mcse_mean"].sort_index())
    assert result.draws == 2000
    assert result.divergences == int(centered_draws.sample_stats["diverging"].sum()) > 0
    assert result.gradients == int(centered_draws.sample_stats["n_steps"].sum())
    assert result.tuning_gradients == centered_draws.warmup_sample_stats["n_steps"].sum()


def test_errors_are_the_distance_from_the_exact_means(centered_draws, exact):
    errors = score(centered_draws, exact, label="centered").errors
    third = centered_draws.posterior["alpha"].sel(district=3)
    truth, spread = exact.mean["alpha"].sel(district=3), exact.sd["alpha"].sel(district=3)
    assert errors.loc["alpha[3]", "sd_error"] == pytest.approx(float((third.mean() - truth) / spread))
    mcse = float(az.mcse(third.values))
    assert errors.loc["alpha[3]", "mcse_error"] == pytest.approx(float(third.mean() - truth) / mcse)


def test_each_warning_has_its_own_limit(non_centered_draws, exact):
    good = replace(
        score(non_centered_draws, exact, label="good"),
        divergences=0,
        rhat=1.0,
        ess_bulk=1000.0,
        ess_tail=1000.0,
        bfmi=0.9,
    )
    assert not any(good.warnings.values())
    for change, raised in [
        ({"divergences": 1}, "divergences"),
        ({"rhat": 1.02}, "R-hat"),
        ({"rhat": np.nan}, "R-hat"),
        ({"ess_bulk": 399.0}, "ESS"),
        ({"ess_tail": 399.0}, "ESS"),
        ({"ess_bulk": np.nan}, "ESS"),
        ({"ess_tail": np.nan}, "ESS"),
        ({"bfmi": 0.29}, "E-BFMI"),
        ({"bfmi": np.nan}, "E-BFMI"),
    ]:
        changed = replace(good, **change)
        warnings = changed.warnings
        assert [name for name, is_raised in warnings.items() if is_raised] == [raised]
        # A table of fits is read by the same rule.
        table = pd.DataFrame([changed.to_series()])
        assert flags(table).iloc[0].drop("any").to_dict() == warnings


def test_parameters_without_exact_moments_have_no_error():
    y, n = [3, 2, 1], [3, 2, 4]
    exact = exact_posterior(y, n, sigma_prior=scipy.stats.halfcauchy())
    assert np.isinf(exact.sd["sigma"])
    model = varying_intercept_model(
        y, n, parameterization="non-centered", sigma_prior=scipy.stats.halfcauchy()
    )
    (fit,) = sample_seeds(model, [1], draws=100, tune=200, chains=2, cores=1)
    result = score(fit, exact, label="half-Cauchy")
    undefined = result.errors[["sd_error", "mcse_error"]].isna().all(axis=1)
    assert set(undefined.index[undefined]) == {"sigma", "alpha[1]", "alpha[2]"}
    assert np.isfinite(scoreboard([result])["worst error (sd)"]).all()


def test_centered_fit_misses_the_neck_and_the_non_centered_fit_does_not(
    centered_draws, non_centered_draws, exact
):
    centered = score(centered_draws, exact, label="centered")
    home = score(non_centered_draws, exact, label="non-centered")
    assert centered.missing_share > 0.3
    assert abs(home.missing_share) < 0.3
    assert centered.unreached > 5 * home.unreached
    assert home.errors["sd_error"].abs().max() < 0.2


def test_both_samplers_are_scored_alike(centered_draws, non_centered_draws, exact):
    for draws in (centered_draws, non_centered_draws):
        row = score(draws, exact, label="fit").to_series()
        needed = row.drop(["tuning_gradients", "seconds"])
        assert needed.notna().all()
        assert row["gradients"] > row["draws"]
        assert 0 < row["step_size"] < 5


def test_seconds_come_from_the_sampler_unless_given(non_centered_draws, exact):
    own = score(non_centered_draws, exact, label="fit")
    assert own.seconds == non_centered_draws.posterior.attrs["sampling_time"] > 0
    assert score(non_centered_draws, exact, label="fit", seconds=1.5).seconds == 1.5


def from_exact(exact, uniform):
    """A fit whose sigma has the given exact distribution function values."""
    grid = np.exp(np.linspace(-12, 4, 4001))
    sigma = np.interp(uniform, np.asarray(exact.cdf("sigma", grid)), grid)
    rng = np.random.default_rng(0)
    stats = {
        "diverging": np.zeros(uniform.shape, bool),
        "n_steps": np.full(uniform.shape, 7),
        "step_size": np.full(uniform.shape, 0.5),
        "energy": rng.normal(size=uniform.shape),
    }
    dims = ("chain", "draw")
    coords = {"chain": range(uniform.shape[0]), "draw": range(uniform.shape[1])}
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"sigma": (dims, sigma)}, coords=coords),
            "sample_stats": xr.Dataset({k: (dims, v) for k, v in stats.items()}, coords=coords),
        }
    )


def test_missing_share_is_none_half_and_all_where_we_made_it_so(exact):
    uniform = np.random.default_rng(2).permutation((np.arange(4000) + 0.5) / 4000).reshape(4, 1000)
    complete = score(from_exact(exact, uniform), exact, label="complete")
    assert complete.missing_share == pytest.approx(0, abs=0.01)
    assert complete.unreached == pytest.approx(0.5 / 4000, rel=0.05)
    assert complete.errors.loc["sigma", "sd_error"] == pytest.approx(0, abs=0.01)
    thinned = np.where((uniform < SMALL_SIGMA) & (uniform * 8000 // 2 % 2 == 0), 0.5, uniform)
    assert score(from_exact(exact, thinned), exact, label="").missing_share == pytest.approx(
        0.5, abs=0.02
    )
    cut = np.maximum(uniform, 0.08)
    shut_out = score(from_exact(exact, cut), exact, label="shut out")
    assert shut_out.missing_share == 1
    assert shut_out.unreached == pytest.approx(0.08, rel=1e-3)


def test_a_fit_without_sigma_has_no_share_to_miss():
    model = fixed_effects_model(SUCCESSES, TRIALS)
    (draws,) = sample_seeds(model, [1], draws=300, tune=300, chains=2, cores=1)
    result = score(draws, exact_posterior_fixed(SUCCESSES, TRIALS), label="fixed")
    assert np.isnan(result.missing_share)
    assert np.isnan(result.unreached)
    assert list(result.errors.index) == ["alpha[1]", "alpha[2]", "alpha[3]"]
    assert result.warnings["divergences"] is False


def test_scoreboard_has_one_row_per_attempt_in_order(centered_draws, non_centered_draws, exact):
    board = scoreboard(
        [
            score(centered_draws, exact, label="centered"),
            score(non_centered_draws, exact, label="non-centered"),
        ]
    )
    assert list(board.index) == ["centered", "non-centered"]
    for column in ("divergences", "worst R-hat", "ESS per 1000 gradients", "missing at small sigma"):
        assert pd.api.types.is_numeric_dtype(board[column])
    assert {"sigma error (sd)", "alpha[3] error (MCSE)", "worst error (sd)"} <= set(board.columns)
    assert board["worst error (sd)"].ge(board["sigma error (sd)"].abs()).all()


def test_districts_are_matched_by_label_and_not_by_position(centered_draws, exact):
    turned = centered_draws.copy()
    turned["posterior"] = xr.DataTree(centered_draws["posterior"].to_dataset().isel(district=[2, 0, 1]))
    expected = score(centered_draws, exact, label="fit").errors
    pd.testing.assert_frame_equal(score(turned, exact, label="fit").errors, expected)


def without_record(fit):
    """The same fit from somebody who wrote nothing down."""
    bare = fit.copy()
    bare.attrs = {}
    return bare


@pytest.mark.parametrize(
    ("successes", "trials", "prior", "message"),
    [
        ([31, 7, 2], [117, 20, 2], scipy.stats.expon(), "different data"),
        ([30, 7, 2], [118, 20, 2], scipy.stats.expon(), "different data"),
        ([7, 30, 2], [20, 117, 2], scipy.stats.expon(), "different data"),
        (SUCCESSES, TRIALS, scipy.stats.expon(scale=0.5), r"prior of sigma is Exponential\(1\)"),
        (SUCCESSES, TRIALS, scipy.stats.halfnorm(scale=0.5), r"HalfNormal\(0.5\) in the answer"),
    ],
)
def test_a_fit_is_not_held_against_another_answer(centered_draws, successes, trials, prior, message):
    other = exact_posterior(successes, trials, sigma_prior=prior)
    with pytest.raises(ProblemError, match=message):
        score(centered_draws, other)


def test_a_fit_is_not_held_against_another_model_or_prior_on_the_mean(centered_draws):
    with pytest.raises(ProblemError, match="of a varying intercept model, the answer of a fixed"):
        score(centered_draws, exact_posterior_fixed(SUCCESSES, TRIALS))
    wide = exact_posterior(
        SUCCESSES, TRIALS, sigma_prior=scipy.stats.expon(), alpha_prior=scipy.stats.norm(0, 5)
    )
    with pytest.raises(ProblemError, match="prior of alpha_bar"):
        score(centered_draws, wide)


def test_a_fit_that_says_nothing_is_held_against_names_and_sizes_only(centered_draws, exact):
    bare = without_record(centered_draws)
    with pytest.raises(ValueError, match="does not say what it is"):
        score(bare, exact)
    expected = score(centered_draws, exact).errors
    pd.testing.assert_frame_equal(score(bare, exact, label="mine").errors, expected)
    other = exact_posterior([1, 2], [3, 4], sigma_prior=scipy.stats.expon())
    with pytest.raises(ValueError, match="size of 'district'"):
        score(bare, other, label="fit")
    relabelled = exact_posterior(
        SUCCESSES, TRIALS, sigma_prior=scipy.stats.expon(), district=["a", "b", "c"]
    )
    with pytest.raises(ValueError, match="same district labels"):
        score(bare, relabelled, label="fit")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "1 draws of sigma are not finite"),
        (np.inf, "1 draws of sigma are not finite"),
        (0.0, "zero or negative"),
        (-0.3, "zero or negative"),
    ],
)
def test_draws_that_are_no_standard_deviation_are_refused_in_words(
    centered_draws, exact, value, message
):
    broken = centered_draws.copy()
    posterior = centered_draws["posterior"].to_dataset().copy(deep=True)
    posterior["sigma"][0, 0] = value
    broken["posterior"] = xr.DataTree(posterior)
    with pytest.raises(ValueError, match=message):
        score(broken, exact)


def test_scores_are_labelled_by_what_the_fits_say(centered_draws, non_centered_draws, exact):
    board = scoreboard([score(centered_draws, exact), score(non_centered_draws, exact)])
    assert list(board.index) == [
        "mme0: centered, Exponential(1), target 0.8",
        "non-centered, Exponential(1), target 0.95",
    ]


def test_fits_without_nuts_statistics_are_refused(centered_draws, exact):
    bare = xr.DataTree.from_dict({"posterior": centered_draws["posterior"].to_dataset()})
    with pytest.raises(ValueError, match="no sample_stats"):
        score(bare, exact, label="fit")
    with pytest.raises(ValueError, match="do not share tau"):
        score(centered_draws, exact, label="fit", var_names=["tau"])
    with pytest.raises(ValueError, match="at least one score"):
        scoreboard([])


def test_caught_and_missed_counts_every_fit_once():
    table = pd.DataFrame(
        {
            "divergences": [0, 5, 0, 3],
            "rhat": [1.0, 1.0, 1.05, 1.0],
            "ess_bulk": 1000,
            "ess_tail": 1000,
            "bfmi": 0.9,
            "sd_error:sigma": [0.5, -0.3, 0.0, 0.01],
            "missing_share": 0.0,
        }
    )
    assert is_wrong(table).tolist() == [True, True, False, False]
    counts = caught_and_missed(table)
    assert counts.loc["divergences"].tolist() == [1, 1, 1, 1]
    assert counts.loc["R-hat"].tolist() == [0, 2, 1, 1]
    assert counts.loc["any"].tolist() == [1, 1, 2, 0]
    assert (counts.sum(axis=1) == len(table)).all()
    assert flags(table)["any"].tolist() == [False, True, True, True]
