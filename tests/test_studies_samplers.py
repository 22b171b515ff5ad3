"""The same trials in Stan, nutpie and PyMC: one posterior, and the counts that R simulated."""

import numpy as np
import pandas as pd
import pytest
from test_r import alike

from fieldguide.data import VALID_SITES, quoted, stored
from fieldguide.studies import samplers

PLACE = ["data", "multiply", "sd_scale", "target_accept", "seed"]


@pytest.fixture(scope="module")
def table():
    return stored("trial_samplers").table


@pytest.fixture(scope="module")
def brms():
    rows = pd.DataFrame(quoted("r_trial")["fits"]["brms"]).query("layout == 'counts'")
    return rows.rename(columns={"adapt_delta": "target_accept"}).set_index(PLACE)


def test_rs_counts_are_trials_of_the_valid_sites():
    for data in ("question", "1", "5"):
        for multiply in (1,) if data == "question" else (1, 4, 16):
            trial = samplers.trial_of_r(data, multiply)
            assert (trial["n_control"] + trial["n_treated"]).equals(VALID_SITES["n"] * multiply)
            for arm in ("control", "treated"):
                assert (trial[arm] <= trial[f"n_{arm}"]).all()
    # Rare things would be likelier than that R's seeds gave such counts at other probabilities.
    shares = sum(samplers.trial_of_r(str(seed), 16)["treated"] for seed in range(1, 6))
    p = VALID_SITES["baseline"] + VALID_SITES["effect"]
    n = VALID_SITES["n"] * 40
    assert (np.abs(shares - n * p) < 4 * np.sqrt(n * p * (1 - p))).all()


def test_every_fit_stands_beside_one_of_brms(table, brms):
    places = table.set_index(PLACE).index
    assert places.isin(brms.index).all()
    nutpie = table[table["sampler"] == "nutpie"]
    assert brms.index.isin(nutpie.set_index(PLACE).index).all()
    assert not table.duplicated(["sampler", *PLACE]).any()


def test_all_samplers_have_one_posterior(table, brms):
    """In every cell, of every quantity, where the chains of both fits agree with each other."""
    compared = 0
    for _, row in table.iterrows():
        other = brms.loc[tuple(row[PLACE])]
        if max(row["rhat"], other["rhat"]) < 1.02:
            alike(row.to_dict(), other.to_dict())
            compared += 1
    assert compared > 0.95 * len(table)


def test_figures_of_a_row_are_possible_together(table):
    assert (table["divergences"] % 1 == 0).all()
    assert table["divergences"].between(0, 4000).all()
    assert table["gradients"].between(4000, 1024 * 4000).all()
    assert (table["below_0.1"] * 4000 % 1 < 1e-6).all()
    assert table["rhat"].between(0.999, 3).all()
    assert (table["rhat"] < 1.02).sum() > 0.95 * len(table)
    for name in (*samplers.HYPERPARAMETERS, *samplers.STANDARDISED):
        low, low89, mean, high89, high = (
            table[f"{what}:{name}"] for what in ("low", "low89", "mean", "high89", "high")
        )
        assert ((low < low89) & (low89 < mean) & (mean < high89) & (high89 < high)).all()
        independent = (table[f"sd:{name}"] / table[f"mcse:{name}"]) ** 2
        assert independent.between(5, 4 * 4000).all()


def test_samplers_are_the_ones_that_they_are_called(table):
    """PyMC takes nutpie for its own where it is installed; their steps tell them apart."""
    usual = table.query("multiply == 1 and sd_scale == 0.5 and data == 'question'")
    step = usual.pivot_table("stepsize", ["target_accept", "seed"], "sampler").dropna()
    assert len(step) == 16
    assert (step["nutpie"] > 1.2 * step["PyMC"]).all()


def test_the_metric_from_gradients_allows_a_larger_step_at_the_same_acceptance():
    fits = stored("trial_metrics").table
    means = fits.groupby(["data", "target_accept", "adaptation"])[["accept", "stepsize"]].mean()
    for (_data, _target), part in means.groupby(level=[0, 1]):
        gradients, draws = part.droplevel([0, 1]).loc[["diag", "draw_diag"]].to_numpy()
        assert abs(gradients[0] - draws[0]) < 0.02
        assert gradients[1] > 1.3 * draws[1]


@pytest.mark.slow
def test_a_fit_of_nutpie_made_again_is_the_stored_one(table):
    row = table.query("sampler == 'nutpie' and multiply == 1 and target_accept == 0.95").iloc[0]
    made = samplers.fit_as_r(row[["sampler", *PLACE]].to_dict())
    assert set(made) == set(table) - {"sampler", *PLACE}
    alike(made, row.to_dict())
    assert abs(np.log(made["gradients"] / row["gradients"])) < 0.7
