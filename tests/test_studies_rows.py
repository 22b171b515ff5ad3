"""The cells of the stored tables: what ties those of a row together, and rows that are made again.

A checksum tells that a table is the one that was stored, not that it is the one that was made: whoever
edits a cell can write the checksum anew. What cannot be written anew is here: what follows from the
design without a fit, what one cell of a row says about another, and the fit itself.
"""

import hashlib
import subprocess
from functools import cache

import numpy as np
import pytest
from conftest import ROOT

from fieldguide.data import VALID_SITES, simulate_trial, stored
from fieldguide.models.trial import ESTIMANDS, true_estimands
from fieldguide.scores import SMALL_SIGMA
from fieldguide.studies import studies, trial

SCORED = ["factorial", "remedies", "singular_fits"]
SIMULATED = ["trial_divergences", "trial_coverage", "trial_precision"]
every_table = pytest.mark.parametrize("name", [*SCORED, *SIMULATED, "trial_sbc"])


def table_of(name):
    table = stored(name).table
    per_chain = "sampler" in table or "tune" in table  # the design's own column, per chain
    draws = table["draws"] * (4 if per_chain else 1) if "draws" in table else 4000
    return table, np.broadcast_to(draws, len(table))


def whole(values) -> np.ndarray:
    """Tell which numbers are whole but for rounding."""
    return np.abs(values - np.round(values)) < 1e-6


@every_table
def test_diagnostics_and_costs_are_possible(name):
    table, draws = table_of(name)
    assert whole(table["divergences"]).all()
    assert whole(table["gradients"]).all()
    assert table["divergences"].between(0, draws).all()
    assert (table["gradients"] >= draws).all()
    assert (table["gradients"] < 1024 * draws).all()  # trees of depth ten
    assert table["rhat"].between(0.999, 3).all()
    for ess in ("ess_bulk", "ess_tail"):
        assert table[ess].between(3, 1.5 * draws).all()
    assert table["seconds"].between(0.01, 100).all()
    # Chains that disagree have few effective draws, and those that agree have many.
    assert not ((table["rhat"] > 1.1) & (table["ess_bulk"] > 100)).any()
    assert not ((table["rhat"] < 1.01) & (table["ess_bulk"] < 100)).any()


@pytest.mark.parametrize("name", SCORED)
def test_figures_of_a_score_belong_together(name):
    table, draws = table_of(name)
    efficiency = 1000 * table["ess_bulk"] / table["gradients"]
    np.testing.assert_allclose(table["ess_per_1000_gradients"], efficiency, rtol=1e-12)
    # The missing share counts draws.
    assert whole((1 - table["missing_share"]) * SMALL_SIGMA * draws).all()
    assert ((table["missing_share"] == 1) == (table["unreached"] >= SMALL_SIGMA)).all()
    assert table["bfmi"].between(0, 2).all()
    for column in table.filter(like="mcse_error:"):
        error = table[column.replace("mcse_error", "sd_error")]
        independent = (table[column] / error) ** 2  # draws that have such an MCSE
        assert (independent > 0.1 * table["ess_bulk"]).all()
        assert (independent < 8 * draws).all()
        assert (np.sign(error) == np.sign(table[column])).all()


def test_the_fits_of_a_cell_are_alike_in_their_costs():
    """A row's gradients and step size against those of the other seeds, in robust sds."""
    table = stored("factorial").table
    cells = table.groupby(["parameterization", "prior", "target_accept"])
    for column in ("gradients", "step_size"):
        values = np.log(table[column])
        middle = cells[column].transform(lambda x: np.log(x).median())
        spread = (values - middle).abs().groupby(cells.ngroup()).transform("median")
        assert ((values - middle).abs() < 0.9 + 3 * spread).all(), column


@cache
def simulated(scenario, replicate):
    """Return the truth of a simulated trial and its number of sites, without its counts."""
    if scenario == "question":
        return true_estimands(VALID_SITES), len(VALID_SITES)
    count, each = map(int, scenario.removeprefix("drawn:").split("x"))
    rng = np.random.default_rng([int(replicate), *scenario.encode()])
    sites = trial.draw_sites(trial.POPULATION, [each] * count, rng)
    return true_estimands(sites, scale="logit", coefficient=trial.POPULATION["effect"]), count


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATED)
def test_truths_are_those_of_the_simulated_trials(name):
    table, draws = table_of(name)
    estimands = [estimand for estimand in ESTIMANDS if f"{estimand}:truth" in table]
    if name != "trial_divergences":  # which is about the sampler, and lacks the average of the sites
        assert estimands == list(ESTIMANDS)
    for (scenario, replicate), part in table.groupby(["scenario", "replicate"]):
        truth, count = simulated(scenario, replicate)
        for estimand in estimands:
            expected = np.full(len(part), truth[estimand])  # NaN: no population, no coefficient
            np.testing.assert_allclose(part[f"{estimand}:truth"], expected, rtol=1e-9)
        assert whole(part["site_coverage"] * count).all()
    assert (table["coefficient:mean"] == table["effect:mean"]).all()
    assert whole(table["below_0.1:sd_effect"] * draws).all()
    for estimand in estimands:
        low, mean, high = (table[f"{estimand}:{what}"] for what in ("low", "mean", "high"))
        assert ((low < mean) & (mean < high)).all()
        # An interval of 95% is about four sds wide; the MCSE of the mean is a small part of one.
        if f"{estimand}:mcse" in table:
            sd = (high - low) / 3.92
            assert (sd / table[f"{estimand}:mcse"]).between(1, 100).all()
    for quantity in trial.HYPERPARAMETERS:
        assert (table[f"{quantity}:mcse"] > 0).all()


@pytest.mark.slow
def test_errors_of_the_trials_follow_from_their_means_and_one_reference_for_each():
    table = stored("trial_divergences").table
    groups = table.groupby(["replicate", "multiply", "sd_scale"])
    for quantity in trial.QUANTITIES:
        mean, reference = table[f"{quantity}:mean"], table[f"reference:{quantity}"]
        assert (groups[f"reference:{quantity}"].nunique() == 1).all()
        error = (mean - reference) / table[f"{quantity}:mcse"]
        np.testing.assert_allclose(table[f"mcse_error:{quantity}"], error, rtol=1e-9, atol=1e-12)
        sd = (mean - reference) / table[f"sd_error:{quantity}"]
        spread = sd.groupby(groups.ngroup()).agg(["min", "max"])
        np.testing.assert_allclose(spread["min"], spread["max"], rtol=1e-6)
    reached = table["missing"] < 1
    exact = (table["below_0.1:sd_effect"] / (1 - table["missing"]))[reached]
    spread = exact.groupby(groups.ngroup()[reached]).agg(["min", "max"])
    np.testing.assert_allclose(spread["min"], spread["max"], rtol=1e-9)
    assert (table.loc[~reached, "below_0.1:sd_effect"] == 0).all()


@pytest.mark.slow
def test_ranks_are_whole_numbers_and_the_random_numbers_of_their_simulation():
    """The gaps between ranks are filled by the simulation's own generator, whatever the fit says."""
    table = stored("trial_sbc").table
    for replicate, part in table.groupby("replicate"):
        rng = np.random.default_rng([int(replicate), *b"prior"])
        truth = trial.draw_prior(rng)
        sites = trial.draw_sites(truth, VALID_SITES["n"].to_numpy(), rng)
        simulate_trial(sites, seed=rng, scale="logit")
        for quantity in trial.QUANTITIES:
            rank = part[f"pit:{quantity}"] * 101 - rng.random()
            assert whole(rank).all()
            assert rank.round().between(0, 100).all()


def test_truths_of_no_effect_are_zero():
    assert true_estimands(VALID_SITES.assign(effect=0.0))["risk_difference"] == 0


# ---------------------------------------------------------------------------------------------
# Rows made again: with each commit others, so that in time all of them are


def commit() -> str:
    """The commit, or outside of a repository the list of checksums."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or (ROOT / "data" / "SHA256SUMS").read_text()


CHEAP = {  # fits that take a second, of forms that do not get stuck
    "factorial": "target_accept < 0.99 and parameterization != 'centered'",
    "remedies": "parameterization == 'non-centered' and sampler == 'nutpie' and metric == 'diag' "
    "and draws == 1000 and tune == 1000",
    "trial_divergences": "multiply == 1 and parameterization == 'non-centered'",
    "trial_coverage": "scenario != 'drawn:10x50'",
    "trial_sbc": "parameterization == 'non-centered'",
    "trial_precision": "scenario.str.startswith('drawn:5x')",
    "singular_fits": "parameterization == 'integrated'",
}

FOLLOWS_FROM_THE_DESIGN = (":truth", "reference:", "reference_error", "label")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_a_row_made_again_is_the_stored_one(name):
    study, table = studies()[name], stored(name).table
    rows = table.query(CHEAP[name])
    seed = int.from_bytes(hashlib.sha256(f"{commit()} {name}".encode()).digest()[:8])
    row = rows.iloc[seed % len(rows)]
    cell = row[list(study.design())].to_dict()
    made = study.fit(cell)
    assert set(made) == set(table) - set(cell)
    for figure, value in made.items():
        if any(part in figure for part in FOLLOWS_FROM_THE_DESIGN):
            same = value == row[figure] or np.isclose(value, row[figure], rtol=1e-6, equal_nan=True)
            assert same, (cell, figure)
    figures = [f for f in made if "seconds" not in f and not isinstance(made[f], str)]
    if np.allclose([made[f] for f in figures], [row[f] for f in figures], rtol=1e-6, equal_nan=True):
        return
    # Another processor, or code from the compiler's cache: other draws of the same posterior.
    for figure in figures:
        if figure.startswith("sd_error:") or figure.endswith(":mean"):
            kind = figure.replace("sd_error", "mcse_error")
            if figure.startswith("sd_error:") and made.get(kind):
                error = abs(made[figure] / made[kind]) + abs(row[figure] / row[kind])
            else:
                error = made.get(figure.replace(":mean", ":mcse"), np.inf)
            assert abs(made[figure] - row[figure]) < 6 * np.sqrt(2) * error, (cell, figure)
    assert abs(np.log1p(made["divergences"]) - np.log1p(row["divergences"])) < 3, cell
    assert abs(np.log(made["gradients"] / row["gradients"])) < 0.7, cell
