"""The longest stable step is the one beyond which a leapfrog path runs away."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

from fieldguide.data import load_three_districts
from fieldguide.fits import sample_seeds
from fieldguide.leapfrog import longest_stable_steps
from fieldguide.models import varying_intercept_model

SDS = np.array([0.1, 1.0, 3.0])
SCALE = np.array([0.2, 1.0, 1.5])


@pytest.fixture(scope="module")
def bell():
    """Independent normals, whose fastest swing is known, and a fit that says with which scales."""
    with pm.Model() as model:
        pm.Normal("x", 0, SDS, shape=3)
    draws = np.random.default_rng(2).normal(scale=SDS, size=(2, 30, 3))
    learnt = np.full((2, 5, 3), np.nan)
    learnt[:, -2] = SCALE  # nutpie leaves out what has not changed
    groups = {
        "sample_stats": xr.Dataset({"unconstrained_draw": (("chain", "draw", "p"), draws)}),
        "warmup_sample_stats": xr.Dataset({"mass_matrix_inv": (("chain", "draw", "p"), learnt)}),
    }
    return model, xr.DataTree.from_dict(groups)


def energy_after(step, steps=400):
    """Energy of a leapfrog path in the bell, in units of what it began with."""
    position, momentum = SDS.copy(), 1 / SCALE
    start = 0.5 * ((momentum * SCALE) ** 2 + (position / SDS) ** 2).sum()
    for _ in range(steps):
        momentum = momentum - 0.5 * step * position / SDS**2
        position = position + step * SCALE**2 * momentum
        momentum = momentum - 0.5 * step * position / SDS**2
    return 0.5 * ((momentum * SCALE) ** 2 + (position / SDS) ** 2).sum() / start


def test_beyond_the_longest_stable_step_a_path_runs_away(bell):
    _, steps = longest_stable_steps(*bell, points=4, rng=np.random.default_rng(1))
    np.testing.assert_allclose(steps, 2 * (SDS / SCALE).min(), rtol=1e-5)
    assert energy_after(0.98 * steps[0]) < 100
    assert energy_after(1.02 * steps[0]) > 1e6


def test_the_places_are_draws_of_the_fit(bell):
    model, fit = bell
    places, _ = longest_stable_steps(model, fit, points=7, rng=np.random.default_rng(1))
    draws = fit["sample_stats"]["unconstrained_draw"].to_numpy().reshape(-1, 3)
    assert places.shape == (7, 3)
    assert all((draws == place).all(axis=1).any() for place in places)


def test_it_falls_with_sigma_in_the_centered_form_and_rises_in_the_other():
    counts, power = load_three_districts(), {}
    for form in ("centered", "non-centered"):
        model = varying_intercept_model(counts["users"], counts["women"], parameterization=form)
        (fit,) = sample_seeds(
            model, [3], target_accept=0.95, store_mass_matrix=True, store_unconstrained=True, cores=1
        )
        places, steps = longest_stable_steps(model, fit, points=300, rng=np.random.default_rng(1))
        low, high = np.quantile(places[:, 1], [0.1, 0.9])
        bottom, top = steps[places[:, 1] < low], steps[places[:, 1] > high]
        power[form] = np.median(top) / np.median(bottom)
    assert power["centered"] > 2
    assert power["non-centered"] < 0.7
