"""The no-U-turn sampler in the open: it samples, it counts as nutpie does, and its two rules differ."""

import numpy as np
import pytest

from fieldguide.data import stored
from fieldguide.nuts import RULES, NoUTurn
from fieldguide.studies.paths import METRICS, PATHS, fit_with_given_tuning, paths_design

SCALE = np.array([0.5, 1.0, 3.0])


def normal(position):
    """A normal distribution of three parameters, around 1, -2 and 0."""
    apart = (position - [1, -2, 0]) / SCALE
    return -0.5 * float(apart @ apart), -apart / SCALE


@pytest.mark.parametrize("rule", RULES)
def test_either_rule_samples_a_normal_distribution(rule):
    sampler = NoUTurn(normal, 0.6, SCALE, rule, np.random.default_rng(1))
    position, drawn = np.zeros(3), []
    for _ in range(4000):
        position, diverged = sampler.draw(position)
        assert not diverged
        drawn.append(position)
    mean, sd = np.mean(drawn, axis=0), np.std(drawn, axis=0)
    assert np.abs((mean - [1, -2, 0]) / SCALE).max() < 0.06
    assert np.abs(sd / SCALE - 1).max() < 0.05
    assert sampler.steps > 4000


def test_a_step_beyond_the_stable_one_diverges():
    sampler = NoUTurn(normal, 2.5, SCALE, "sum", np.random.default_rng(1), largest_error=10.0)
    assert any(sampler.draw(np.array([1.0, -2.0, 0.0]))[1] for _ in range(50))


def test_paths_are_no_longer_than_allowed():
    sampler = NoUTurn(normal, 1e-3, SCALE, "ends", np.random.default_rng(1), depth=4)
    sampler.draw(np.zeros(3))
    assert sampler.steps == 2**4 - 1


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="ends, sum, not by 'middle'"):
        NoUTurn(normal, 0.6, SCALE, "middle", np.random.default_rng(1))


@pytest.fixture(scope="module")
def given():
    return stored("given_tuning").table


def test_everybody_had_the_tuning_of_the_same_fit(given):
    assert len(given) == len(paths_design())
    tuning = given.groupby(["parameterization", "metric", "seed"])[["step", "scale", "reach"]]
    assert (tuning.nunique() == 1).all(axis=None)
    assert (tuning.size() == len(PATHS)).all()


def test_the_rule_of_the_ends_counts_as_nutpie_does_and_pymc_counts_more_as_the_sum_does(given):
    counted = given.groupby("paths")["divergences"].sum()
    assert counted["ends"] / counted["nutpie"] == pytest.approx(1, abs=0.2)
    assert counted["PyMC"] > 1.3 * counted["nutpie"]
    assert counted["sum"] > 1.5 * counted["ends"]


def test_paths_by_their_sums_are_a_little_longer_in_both_samplers(given):
    work = given.groupby("paths")["gradients"].sum()
    assert work["ends"] == pytest.approx(work["nutpie"], rel=0.03)
    assert work["sum"] == pytest.approx(work["PyMC"], rel=0.03)
    assert 1.05 < work["sum"] / work["ends"] < 1.2


@pytest.mark.parametrize("paths", ["ends", "PyMC"])
def test_a_stored_fit_comes_out_again(given, paths):
    cell = {"parameterization": "non-centered", "metric": METRICS[0], "paths": paths, "seed": 0}
    (kept,) = given.query(" and ".join(f"{k} == {v!r}" for k, v in cell.items())).to_dict("records")
    again = fit_with_given_tuning(cell)
    assert again["step"] == pytest.approx(kept["step"])
    assert again["gradients"] == pytest.approx(kept["gradients"], rel=0.1)
