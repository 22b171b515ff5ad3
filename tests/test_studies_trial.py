"""Many simulated trials: the same cell gives the same figures, and the summaries count right."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from fieldguide.data import VALID_SITES, TrialError, simulate_trial, stored
from fieldguide.grid import run_grid
from fieldguide.models.trial import ESTIMANDS, true_estimands
from fieldguide.priors import TrialPriors
from fieldguide.reference.trial import trial_posterior
from fieldguide.studies import trial as study

CELL = {
    "scenario": "question",
    "parameterization": "non-centered",
    "target_accept": 0.95,
    "tune": 300,
    "draws": 300,
}


@pytest.mark.slow
def test_a_grid_of_trials_gives_what_single_fits_give(tmp_path):
    design = pd.DataFrame([CELL | {"replicate": k} for k in range(3)])
    with ThreadPoolExecutor(1) as here:
        table = run_grid(design, study.fit_trial, tmp_path / "g.parquet", executor=here, progress=False)
    for k in (0, 2):
        alone = study.fit_trial(CELL | {"replicate": k})
        for name, value in alone.items():
            if name != "seconds":
                assert table.loc[k, name] == pytest.approx(value, rel=1e-6, nan_ok=True), name
    assert table["coefficient:mean"].nunique() == 3
    again = run_grid(design, study.fit_trial, tmp_path / "g.parquet", progress=False)
    pd.testing.assert_frame_equal(again, table)  # seconds too: nothing ran twice


def test_figures_of_a_fit_are_those_of_its_draws():
    row = study.fit_trial(CELL | {"replicate": 1})
    trial, truth, sites = study.simulate_scenario("question", 1)
    fit = study.sample_trial(trial, seed=1000, target_accept=0.95, tune=300, draws=300)
    draws = fit["posterior"].to_dataset()
    assert row["below_0.1:sd_effect"] == (draws["sd_effect"] < 0.1).mean() > 0
    weights = (trial["n_control"] + trial["n_treated"]) / 500
    p0, p1 = (1 / (1 + np.exp(-draws["site_intercept"] - k * draws["site_effect"])) for k in (0, 1))
    difference = ((p1 - p0) * xr.DataArray(weights.to_numpy(), dims="site")).sum("site")
    low, high = np.quantile(difference, [0.025, 0.975])
    assert row["risk_difference:low"] == pytest.approx(low)
    assert row["risk_difference:high"] == pytest.approx(high)
    assert row["risk_difference:truth"] == truth["risk_difference"] == pytest.approx(0.096)
    low, high = draws["site_effect"].quantile([0.025, 0.975], dim=("chain", "draw")).values
    assert row["site_width"] == pytest.approx((high - low).mean())
    p = sites["baseline"], sites["baseline"] + sites["effect"]
    true = np.log(p[1] / (1 - p[1])) - np.log(p[0] / (1 - p[0]))
    assert row["site_coverage"] == ((low <= true) & (true <= high)).mean()
    error = draws["site_effect"].mean(("chain", "draw")).values - true
    assert row["site_error"] == pytest.approx(np.sqrt((error**2).mean()))


def test_scenarios_state_their_truth():
    trial, truth, sites = study.simulate_scenario("question", 3, multiply=4)
    assert truth == pytest.approx(true_estimands(VALID_SITES), nan_ok=True)
    assert np.isnan(truth["coefficient"])
    assert (trial["n_control"] * 2).tolist() == (VALID_SITES["n"] * 4).tolist()
    _, truth, _ = study.simulate_scenario("no effect", 3)
    assert truth["risk_difference"] == 0
    trial, truth, sites = study.simulate_scenario("drawn:7x40", 1)
    assert len(trial) == 7
    assert trial["n_treated"].eq(20).all()
    assert truth["coefficient"] == study.POPULATION["effect"]
    p = 1 / (1 + np.exp(-sites["baseline"])), 1 / (1 + np.exp(-sites["baseline"] - sites["effect"]))
    assert truth["risk_difference"] == pytest.approx((p[1] - p[0]).mean())


@pytest.mark.parametrize("name", ["answer", "drawn:five", "drawn:5", "drawn:x20"])
def test_unknown_scenario_is_refused(name):
    with pytest.raises(TrialError, match="Unknown scenario"):
        study.simulate_scenario(name, 0)


def test_sites_drawn_from_a_population_have_its_moments():
    hyper = {"intercept": -1, "effect": 0.5, "sd_intercept": 0.4, "sd_effect": 0.7, "corr": 0.6}
    sites = study.draw_sites(hyper, np.full(40_000, 20), np.random.default_rng(0))
    assert sites["baseline"].mean() == pytest.approx(-1.25, abs=0.02)
    assert sites["effect"].std() == pytest.approx(0.7, rel=0.02)
    assert sites["baseline"].corr(sites["effect"]) == pytest.approx(0.6, abs=0.02)


def test_prior_draws_follow_the_prior():
    priors, rng = TrialPriors(), np.random.default_rng(3)
    drawn = pd.DataFrame([study.draw_prior(rng, priors) for _ in range(1500)])
    beta = scipy.stats.beta(4, 4, loc=-1, scale=2)
    for name, prior in [("intercept", priors.intercept), ("sd_effect", priors.sd), ("corr", beta)]:
        assert scipy.stats.kstest(drawn[name], prior.cdf).pvalue > 1e-3


def test_sbc_step_ranks_every_quantity():
    cell = {"parameterization": "non-centered", "target_accept": 0.8, "tune": 300, "draws": 300}
    rows = pd.DataFrame([study.fit_sbc(cell | {"replicate": k}) for k in range(4)])
    pits = rows[[f"pit:{name}" for name in study.QUANTITIES]].to_numpy()
    assert ((pits > 0) & (pits < 1)).all()
    assert np.unique(pits).size == pits.size
    tree = study.sbc_tree(rows)
    assert dict(tree["prior_sbc"].sizes) == {"chain": 1, "draw": 4}


def test_sbc_ranks_the_truth_among_the_draws():
    cell = {"parameterization": "non-centered", "target_accept": 0.8, "tune": 300, "draws": 300}
    for k in range(3):
        row = study.fit_sbc(cell | {"replicate": k})
        rng = np.random.default_rng([k, *b"prior"])
        truth = study.draw_prior(rng)
        sites = study.draw_sites(truth, VALID_SITES["n"].to_numpy(), rng)
        trial = simulate_trial(sites, seed=rng, scale="logit")
        fit = study.sample_trial(trial, seed=1000 * k, target_accept=0.8, tune=300, draws=300)
        thinned = fit["posterior"].to_dataset().isel(draw=slice(None, None, 12))
        for name in ("intercept", "effect", "sd_effect", "corr"):
            values = thinned[name].values.ravel()
            rank = np.floor(row[f"pit:{name}"] * (values.size + 1))
            assert rank == (values < truth[name]).sum(), name


def ranks(values):
    """A table of ranks as an SBC run has them, the same for every quantity."""
    return pd.DataFrame({f"pit:{name}": values for name in study.QUANTITIES})


def test_uniformity_accepts_uniform_ranks_and_rejects_what_is_not():
    rng = np.random.default_rng(1)
    p = [study.uniformity(ranks(rng.random(200)))["sd_effect"] for _ in range(60)]
    assert np.mean(np.array(p) < 0.1) < 0.25
    assert (study.uniformity(ranks(rng.beta(2, 2, 200))) < 0.01).all()
    assert (study.uniformity(ranks(rng.beta(1, 1.6, 200))) < 0.01).all()


def test_uniformity_is_told_for_each_quantity_apart():
    rng = np.random.default_rng(2)
    table = ranks(rng.random(300))
    table["pit:sd_effect"] = rng.beta(1, 2, 300)
    p = study.uniformity(table)
    assert list(p.index) == list(study.QUANTITIES)
    assert p.idxmin() == "sd_effect"
    assert p["sd_effect"] < 0.001 < p.drop("sd_effect").min()


def test_coverage_counts_misses_and_keeps_divergent_fits():
    rows = pd.DataFrame({"scenario": "s", "multiply": 1, "divergences": [0, 3, 0, 0]}, index=range(4))
    for name in ESTIMANDS:
        rows[f"{name}:truth"], rows[f"{name}:mean"] = 1.0, [1.0, 1.5, 2.0, 1.1]
        rows[f"{name}:low"], rows[f"{name}:high"] = [0.0, 0.5, 1.5, -1.0], [2.0, 2.5, 2.5, 3.0]
    table = study.coverage_table(rows)
    row = table.loc[("s", 1, "risk_difference")]
    assert (row["fits"], row["misses"], row["coverage"]) == (4, 1, 0.75)
    assert row["bias"] == pytest.approx(0.4)
    assert row["width"] == pytest.approx(2.25)
    assert row["divergent"] == 0.25
    assert row["excludes_zero"] == 0.5
    wilson = scipy.stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == (wilson.low, wilson.high)


def test_an_estimand_without_a_truth_has_a_width_and_no_coverage():
    rows = pd.DataFrame({"scenario": "s", "multiply": 1, "divergences": [0, 0]}, index=range(2))
    for name in ESTIMANDS:
        rows[f"{name}:truth"], rows[f"{name}:mean"] = np.nan, [1.0, 1.5]
        rows[f"{name}:low"], rows[f"{name}:high"] = [-0.5, 0.5], [2.0, 2.5]
    row = study.coverage_table(rows).loc[("s", 1, "coefficient")]
    assert row[["misses", "coverage", "low", "high", "bias", "bias_error"]].isna().all()
    assert (row["fits"], row["width"], row["excludes_zero"]) == (2, 2.25, 0.5)
    wilson = scipy.stats.binomtest(1, 2).proportion_ci(method="wilson")
    assert (row["excludes_zero_low"], row["excludes_zero_high"]) == (wilson.low, wilson.high)


def test_coverage_was_counted_under_three_priors_for_four_designs():
    table = study.coverage_table(stored("trial_coverage").table, ["scenario", "multiply", "sd_scale"])
    assert (table["fits"] == 200).all()
    assert len(table) == 4 * 3 * len(ESTIMANDS)
    given = table.query("scenario == 'question'").xs("coefficient", level="estimand")
    assert given["coverage"].isna().all()
    assert table.drop(index="question", level="scenario")["coverage"].notna().all()


@pytest.mark.slow
def test_a_scored_fit_is_held_against_the_reference_for_its_own_data_and_prior():
    cell = CELL | {"replicate": 2, "multiply": 4, "sd_scale": 0.2}
    row = study.fit_and_score_trial(cell)
    alone = study.fit_trial(cell)
    shared = [name for name in alone if name != "seconds" and not name.startswith("site_average")]
    assert [row[name] for name in shared] == pytest.approx([alone[name] for name in shared], nan_ok=True)
    trial, _, _ = study.simulate_scenario("question", 2, multiply=4)
    reference = trial_posterior(trial, TrialPriors(sd=scipy.stats.halfnorm(scale=0.2)), log2_points=10)
    for name in study.QUANTITIES:
        mean, sd = float(reference.mean[name]), float(reference.sd[name])
        assert row[f"sd_error:{name}"] == pytest.approx((row[f"{name}:mean"] - mean) / sd)
        assert row[f"mcse_error:{name}"] == pytest.approx(
            (row[f"{name}:mean"] - mean) / row[f"{name}:mcse"]
        )
    exact = float(reference.cdf("sd_effect", 0.1))
    assert row["missing"] == pytest.approx(1 - row["below_0.1:sd_effect"] / exact)
    assert row["reference_error"] == reference.error


def test_every_fit_of_the_stored_table_was_scored_against_one_reference_per_trial():
    table = stored("trial_divergences").table
    keys = ["scenario", "multiply", "replicate", "sd_scale"]
    means = table.groupby(keys)["reference:sd_effect"]
    assert (means.min() == means.max()).all()
    assert table["reference_error"].max() < 0.05


def test_centered_fits_are_worse_than_non_centered_at_the_questions_size():
    scored = stored("trial_divergences").table
    small = scored[(scored["multiply"] == 1) & (scored["target_accept"] == 0.8)]
    form = small.groupby("parameterization")
    assert form["divergences"].median()["centered"] > 5 * form["divergences"].median()["non-centered"]
    assert form["missing"].mean()["centered"] > form["missing"].mean()["non-centered"] + 0.1


def test_sbc_tells_the_forms_apart():
    sbc = stored("trial_sbc").table
    p = {form: study.uniformity(part).min() for form, part in sbc.groupby("parameterization")}
    assert p["centered"] < 0.01 < p["non-centered"]
