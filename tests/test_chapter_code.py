"""What chapters compute by hand, held against another computation: a wrong formula there fails here."""

import ast

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from chapters import calls, run, statements
from scipy.integrate import quad
from scipy.special import expit, gammaln

from fieldguide.data import load_three_districts, stored
from fieldguide.reference import exact_posterior, exact_posterior_fixed
from fieldguide.studies import trial as study

COUNTS = load_three_districts()
USERS, WOMEN = COUNTS["users"].to_numpy(), COUNTS["women"].to_numpy()


def test_chapter_2s_grid_has_the_exact_means_and_sds():
    names = run("02_fixed_effects", "grid_sd")
    exact = exact_posterior_fixed(USERS, WOMEN)
    np.testing.assert_allclose(names["grid_mean"], exact.mean["alpha"], atol=1e-6)
    np.testing.assert_allclose(names["grid_sd"], exact.sd["alpha"], atol=1e-6)


def centered_log_density(q):
    """mme0 at (alpha_bar, log sigma, alpha), as a chain moves in it: with the Jacobian of log sigma."""
    alpha_bar, log_sigma, alpha = q[0], q[1], q[2:]
    p = expit(alpha)
    return (
        scipy.stats.norm.logpdf(alpha_bar, 0, 1.5)
        + scipy.stats.expon.logpdf(np.exp(log_sigma))
        + log_sigma
        + scipy.stats.norm.logpdf(alpha, alpha_bar, np.exp(log_sigma)).sum()
        + (USERS * np.log(p) + (WOMEN - USERS) * np.log1p(-p)).sum()
    )


@pytest.fixture(scope="module")
def chapter_3():
    return run("03_centered", "follow")


POINTS = np.random.default_rng(4).normal(scale=0.7, size=(6, 5))


def test_chapter_3s_landscape_is_the_models_with_its_jacobian(chapter_3):
    values = [chapter_3["log_density"](q) for q in POINTS]
    assert np.ptp([v - centered_log_density(q) for (v, _), q in zip(values, POINTS, strict=True)]) < 1e-9
    for (_, gradient), q in zip(values, POINTS, strict=True):
        steps = 1e-6 * np.eye(5)
        slope = [(centered_log_density(q + e) - centered_log_density(q - e)) / 2e-6 for e in steps]
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5)


def test_chapter_3s_paths_keep_the_energy_of_the_landscape_and_can_be_walked_back(chapter_3):
    scale, rng = np.sqrt([0.5, 0.7, 0.05, 0.2, 1.5]), np.random.default_rng(8)
    for start in POINTS[:4]:
        momentum = rng.normal(size=5) / scale
        worst = []
        for halved in (1, 2):
            step, steps = 0.02 / halved, 40 * halved
            path, errors = chapter_3["follow"](start, momentum, step, scale, steps=steps)
            assert len(path) == len(errors) == steps + 1
            assert errors[0] == 0
            worst.append(np.abs(errors).max())
            # Along the path the potential energy is that of the formula, momenta come from the steps.
            velocity = (path[2:] - path[:-2]) / (2 * step)
            kinetic = 0.5 * (velocity**2 / scale**2).sum(axis=1)
            potential = np.array([-centered_log_density(q) for q in path[1:-1]])
            total = kinetic + potential
            begin = 0.5 * (momentum**2 * scale**2).sum() - centered_log_density(start)
            assert np.abs(total - begin).max() < 0.8 / halved**2
        assert worst[0] < 0.5
        assert worst[1] < 0.4 * worst[0]  # an error of second order


def test_chapter_3s_paths_end_where_the_energy_is_lost(chapter_3):
    scale, momentum = np.ones(5), np.full(5, 3.0)
    path, errors = chapter_3["follow"](np.array([0, -3.0, 0, 0, 0]), momentum, 1.0, scale)
    assert len(path) < 41
    assert not errors[-1] < 1000
    assert (errors[:-1] < 1000).all()


def test_chapter_3s_longest_stable_step_is_that_of_the_landscapes_curvature(chapter_3):
    (function,) = (
        s
        for s in statements("03_centered")
        if isinstance(s, ast.FunctionDef) and s.name == "longest_stable_step"
    )
    scale = np.sqrt([0.5, 0.7, 0.05, 0.2, 1.5])
    there = chapter_3 | {"scale": scale}
    exec(compile(ast.Module([function], []), "chapter 3", "exec"), there)
    for q in POINTS:
        nudges = 1e-3 * np.eye(5)
        curvature = [
            [
                centered_log_density(q + a - b)
                + centered_log_density(q - a + b)
                - centered_log_density(q + a + b)
                - centered_log_density(q - a - b)
                for b in nudges
            ]
            for a in nudges
        ]
        scaled = np.array(curvature) / 4e-6 * np.outer(scale, scale)
        expected = 2 / np.sqrt(np.linalg.eigvalsh(scaled).max())
        assert there["longest_stable_step"](q) == pytest.approx(expected, rel=1e-3)


def test_chapter_7s_inner_integral_is_the_integral():
    integrals = run("07_the_exact_answer", "district_integrals")["district_integrals"]
    for alpha_bar, sigma in ((-0.5, 0.1), (0.3, 1.0), (-1.0, 3.0)):

        def area(y, n, alpha_bar=alpha_bar, sigma=sigma):
            def integrand(z):
                return np.exp(y * (a := alpha_bar + sigma * z) - n * np.logaddexp(0, a) - z**2 / 2)

            return quad(integrand, -9, 9, points=[-2, 0, 2], epsabs=0, limit=200)[0] / np.sqrt(2 * np.pi)

        expected = [np.log(area(y, n)) for y, n in zip(USERS, WOMEN, strict=True)]
        found = integrals(np.array(alpha_bar), np.array(sigma))
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.slow
def test_chapter_7s_ten_lines_have_the_exact_means_and_sds():
    names = run("07_the_exact_answer", "means")
    exact = exact_posterior(USERS, WOMEN, sigma_prior=scipy.stats.expon())
    for computed, expected in ((names["means"], exact.mean), (names["sds"], exact.sd)):
        np.testing.assert_allclose(computed, [expected["alpha_bar"], expected["sigma"]], atol=1e-5)


def test_chapter_7s_table_of_work_counts_the_points_of_its_grid():
    names = run("07_the_exact_answer", "reach", "points")
    columns = [s for s in statements("07_the_exact_answer") if ast.unparse(s).startswith("reach[")]
    exec(compile(ast.Module(columns, []), "7", "exec"), names)
    reach = names["reach"]
    hours = reach.pop("hours at a billion per second")
    for (_, row), spent in zip(reach.iterrows(), hours, strict=True):
        shared, own, work = row
        assert work == 60 * 40.0**shared * 40.0**own
        assert spent == pytest.approx(work / 1e9 / 60 / 60)
    # Intercepts, slopes, two sds and a correlation; a predictor is one more.
    assert reach["shared parameters"].tolist() == [2, 3, 4, 5, 7]
    assert reach["effects per district"].tolist() == [1, 1, 1, 2, 2]


def test_chapter_11s_measures_of_precision_are_what_their_words_say():
    names = run("11_trial_design", "recovered", "factor", "power_of")
    table = stored("trial_precision").table
    part = table[table["scenario"] == "drawn:10x100"]
    # What is left of the sites' errors when the error of their average is taken out of each.
    common = part["site_average:mean"] - part["site_average:truth"]
    left = (part["site_error"] ** 2 - common**2).mean()
    differences = study.POPULATION["sd_effect"] ** 2 * 9 / 10
    assert names["recovered"][10, 100][0] == pytest.approx(1 - left / differences)
    # Half of an interval's width in log odds is a factor on the odds ratio.
    assert np.log(names["factor"][10, 100][0]) == pytest.approx(part["site_width"].mean() / 2)
    share, low, high = names["power_of"]("coefficient")[10, 100]
    assert low < share == (part["coefficient:low"] > 0).mean() < high


def test_chapter_14s_marginal_deviance_is_lowest_over_the_mean():
    deviance = run("14_three_views", "marginal_deviance")["marginal_deviance"]

    def at(mean, sigma):
        total = 0.0
        for y, n in zip(USERS, WOMEN, strict=True):

            def integrand(z, y=y, n=n):
                logit = mean + sigma * z
                return np.exp(y * logit - n * np.logaddexp(0, logit) - z**2 / 2)

            total += np.log(quad(integrand, -9, 9, epsabs=0, limit=200)[0] / np.sqrt(2 * np.pi))
        return -2 * total

    for sigma in (0.2, 1.5):
        values = [at(mean, sigma) for mean in np.linspace(-1.5, 0.5, 21)]
        assert deviance(sigma) == pytest.approx(min(values), abs=0.05)
        assert deviance(sigma) <= min(values) + 1e-6


def test_chapter_4s_sweep_compares_the_medians_of_log_sigma():
    (append,) = (call for call in calls("04_target_accept", "rows.append"))
    log_sigma = xr.DataArray([-5.0, -3.0, -1.0, 1.0, 0.0])
    diverging = xr.DataArray([True, True, True, False, False])
    there = {
        "run": xr.DataArray(0.0, attrs={"target_accept": 0.9}),
        "divergences": lambda run: 3,
        "statistics": xr.Dataset({"step_size": ("draw", [0.1, 0.3]), "n_steps": ("draw", [7, 3])}),
        "sigma": np.exp(log_sigma),
        "log_sigma": log_sigma,
        "crossed": log_sigma.where(diverging),
    }
    row = eval(compile(ast.Expression(append.args[0]), "chapter 4", "eval"), there)
    assert row.pop("target_accept") == 0.9
    assert row.pop("divergences") == 3
    assert row == pytest.approx(
        {
            "step size": 0.2,
            "gradients per draw": 5.0,
            "sigma": float(np.exp([-5, -3, -1, 1, 0]).mean()),
            "log sigma, divergent": -3.0,
            "log sigma, all": -1.0,
        }
    )


def test_chapter_8s_table_of_steps_turns_one_knob_at_a_time():
    names = run("08_one_knob_at_a_time", "row")
    fits = pd.DataFrame(stored("factorial").table)
    row = names["row"]("centered", "Exponential(1)", 0.8)
    part = fits.query("parameterization == 'centered' and prior == 'Exponential(1)'")
    part = part[part["target_accept"] == 0.8]
    assert len(part) == 20
    assert row["divergences, median"] == np.median(part["divergences"])
    assert row["seeds with any"] == np.count_nonzero(part["divergences"])
    assert row["σ error (sd)"] == pytest.approx(np.mean(part["sd_error:sigma"]))
    assert row["missing at small σ"] == pytest.approx(np.mean(part["missing_share"]))


def test_chapter_14s_trial_is_where_lme4_and_blme_find_it():
    """glmer of lme4 1.1-31 (Laplace) and bglmer of blme 1.0-5, run on the question's counts."""
    names = run("14_three_views", "free", "held")
    free, held, y, size = (names[name] for name in ("free", "held", "y", "size"))
    constant = (gammaln(size + 1) - gammaln(y + 1) - gammaln(size - y + 1)).sum()
    assert free[:, 0].argmin() == 0
    assert constant - free[0, 0] / 2 == pytest.approx(-21.815, abs=0.02)
    best = held[:, 0].argmin()
    assert names["sd_trial"][best] == pytest.approx(1.152, abs=0.04)
    assert np.exp(held[best, 3]) == pytest.approx(1.494, abs=0.03)
    assert np.tanh(held[best, 4]) == pytest.approx(-0.752, abs=0.02)
