"""A reader's own trial: what is refused, what is simulated, and what a study of it says."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.special import expit, logit

from fieldguide.data import DATA_FOLDER, VALID_SITES, TrialError, check_groups
from fieldguide.data.trials import covariate_matrix
from fieldguide.grid import GridError
from fieldguide.models.trial import ESTIMANDS, true_estimands
from fieldguide.priors import TrialPriors
from fieldguide.studies.__main__ import main
from fieldguide.studies.trial import TrialDesign, sample_trial, trial_study

EXAMPLE = DATA_FOLDER / "example_design.csv"
SHORT = {"draws": 200, "tune": 300, "progressbar": False}
POPULATION = {"baseline": -1.5, "effect": 0.8, "sd_intercept": 0.4, "sd_effect": 0.3}


def strata(shift=1.2, n=60):
    """Six sites with two categories of participants; the second has other log odds in both arms."""
    rows = [
        {"site": site, "stratum": stratum, "n": n, "baseline": -1 + 0.2 * j + add, "effect": 0.7}
        for j, site in enumerate("ABCDEF")
        for stratum, add in (("adult", 0.0), ("child", shift))
    ]
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------------------------
# The design


def test_the_example_has_twelve_unequal_sites_with_twice_as_many_treated():
    design = TrialDesign.read(EXAMPLE)
    assert len(design.labels) == 12
    sizes = design.cells["n_control"] + design.cells["n_treated"]
    assert sizes.max() > 10 * sizes.min()
    assert (sizes % 2 == 1).any()
    ratio = design.cells["n_treated"].sum() / design.cells["n_control"].sum()
    assert ratio == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("n", "allocation", "control", "treated"),
    [(30, "2:1", 10, 20), (31, "1:1", 15, 16), (7, "1:3", 5, 2), (2, "9:1", 1, 1), (10, 1.5, 4, 6)],
)
def test_participants_are_allotted_in_any_ratio_and_in_any_number(n, allocation, control, treated):
    sites = pd.DataFrame({"n": [n], "baseline": 0.3, "effect": 0.1}, index=["A"])
    cells = TrialDesign(sites, allocation=allocation).cells
    assert (cells["n_control"].item(), cells["n_treated"].item()) == (control, treated)
    by_row = TrialDesign(sites.assign(allocation=allocation)).cells
    assert (by_row["n_control"].item(), by_row["n_treated"].item()) == (control, treated)


def test_simulated_counts_have_the_sizes_and_the_probabilities_of_the_design():
    design = TrialDesign.read(EXAMPLE)
    simulated = [design.simulate(replicate)[0] for replicate in range(300)]
    table = pd.read_csv(EXAMPLE, index_col="site")
    for trial in simulated[:5]:
        assert trial[["n_control", "n_treated"]].equals(table[["n_control", "n_treated"]])
    for arm, p in (("control", table["baseline"]), ("treated", table["baseline"] + table["effect"])):
        n = table[f"n_{arm}"] * len(simulated)
        z = (sum(trial[arm] for trial in simulated) - n * p) / np.sqrt(n * p * (1 - p))
        assert (z.abs() < 4.5).all()
    again = design.simulate(7)[0]
    assert again.equals(simulated[7])
    assert not again.equals(simulated[8])


def test_these_sites_have_an_average_and_no_population():
    trial, truth, effects = TrialDesign(VALID_SITES).simulate(3)
    assert truth.keys() == set(ESTIMANDS)
    assert np.isnan(truth["coefficient"])
    assert truth["risk_difference"] == pytest.approx(0.096)
    p = VALID_SITES["baseline"], VALID_SITES["baseline"] + VALID_SITES["effect"]
    expected = logit(p[1]) - logit(p[0])
    np.testing.assert_allclose(effects, expected)
    assert truth["site_average"] == pytest.approx(expected.mean())
    assert trial.index.tolist() == list("ABCDE")


def test_sites_of_a_population_are_drawn_anew_and_it_has_a_coefficient():
    design = TrialDesign(pd.DataFrame({"n": [40] * 400}), population=POPULATION, allocation="3:1")
    trial, truth, effects = design.simulate(0)
    _, other, effects_again = design.simulate(1)
    assert truth["coefficient"] == other["coefficient"] == 0.8
    assert truth["site_average"] == pytest.approx(effects.mean()) != other["site_average"]
    assert effects.mean() == pytest.approx(0.8, abs=4 * 0.3 / 20)
    assert effects.std() == pytest.approx(0.3, rel=0.15)
    assert not np.allclose(effects, effects_again)
    # a quarter of them is in the control arm, whose log odds are the baseline's
    assert (trial["n_control"] == 10).all()
    control = expit(-1.5 + 0.4 * np.random.default_rng(0).standard_normal(200_000)).mean()
    assert trial["control"].sum() / trial["n_control"].sum() == pytest.approx(control, abs=0.03)


def test_an_intercept_lies_as_far_from_the_baseline_as_the_share_of_the_treated_says():
    sites = pd.DataFrame({"n": [40] * 4})
    one = TrialDesign(sites, population=POPULATION, allocation="3:1")
    rest = {name: value for name, value in POPULATION.items() if name != "baseline"}
    two = TrialDesign(sites, population=rest | {"intercept": -1.5 + 0.75 * 0.8}, allocation="3:1")
    assert one.simulate(5)[0].equals(two.simulate(5)[0])


def test_categories_have_shares_and_shifts_of_their_own():
    design = TrialDesign(strata(), scale="logit", strata="stratum")
    trial, truth, effects = design.simulate(1)
    assert list(trial.columns) == ["site", "stratum", "intervention", "successes", "trials"]
    assert len(trial) == 24
    assert trial["trials"].eq(30).all()
    assert effects.tolist() == pytest.approx([0.7] * 6)
    assert truth["site_average"] == pytest.approx(0.7)
    p = expit(strata()["baseline"]), expit(strata()["baseline"] + 0.7)
    assert truth["risk_difference"] == pytest.approx((p[1] - p[0]).mean())
    drawn = TrialDesign(
        strata().drop(columns=["baseline", "effect"]).assign(shift=[0.0, 9.0] * 6),
        population=POPULATION,
        strata="stratum",
    )
    rates = drawn.simulate(0)[0].groupby("stratum")[["successes", "trials"]].sum()
    assert rates.loc["child", "successes"] / rates.loc["child", "trials"] > 0.98
    assert rates.loc["adult", "successes"] / rates.loc["adult", "trials"] < 0.5


def test_designs_that_are_analysed_alike_have_the_same_digest():
    one = TrialDesign(VALID_SITES)
    assert one.digest == TrialDesign(VALID_SITES.copy(), estimands="risk_difference").digest
    others = [
        TrialDesign(VALID_SITES.assign(n=[30, 300, 50, 20, 102])),
        TrialDesign(VALID_SITES.assign(effect=[0.0, 0.1, 0.2, -0.1, 0.11])),
        TrialDesign(VALID_SITES, target_accept=0.9),
        TrialDesign(VALID_SITES, priors=TrialPriors(sd=scipy.stats.halfnorm(scale=0.2))),
        TrialDesign(VALID_SITES, parameterization="centered"),
        TrialDesign(VALID_SITES, allocation=2),
        TrialDesign(VALID_SITES, interval=0.89),
    ]
    assert len({design.digest for design in [one, *others]}) == 8


# ---------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"n": [30, 300, 50, 20, -4]}, {}, "Site E has -4 participants.*at least 2"),
        ({"effect": [0.0, 0.1, 0.2, -0.2, 0.1]}, {}, "Site D.*outside 0 to 1"),
        ({"baseline": [0.1, 0.15, 0.0, 0.15, 0.1]}, {}, "Site C: a probability is 0 or 1.*0.001"),
        ({"colour": "red"}, {}, "'colour'.*strata.*covariates"),
        ({}, {"strata": "stratum"}, "no column stratum"),
        ({}, {"allocation": "two to one"}, "'2:1'.*not 'two to one'"),
        ({}, {"allocation": 0}, "positive number"),
        ({}, {"estimands": "odds"}, "Unknown estimand 'odds'"),
        ({}, {"target_accept": 95}, "target_accept must lie between 0 and 1"),
        ({}, {"parameterization": "noncentered"}, "use one of centered"),
        ({}, {"population": {"effect": 0.5}}, "needs intercept"),
        ({}, {"population": POPULATION}, "give one of the two"),
        ({}, {"population": POPULATION | {"sd_effect": -1.0}}, "must not be negative"),
        ({}, {"population": POPULATION | {"slope": 1.0}}, "no 'slope'"),
    ],
)
def test_a_design_that_cannot_be_is_refused_in_one_sentence(change, settings, message):
    with pytest.raises(TrialError, match=message) as caught:
        TrialDesign(VALID_SITES.assign(**change), **settings)
    assert "\n" not in str(caught.value)


def test_sites_that_are_there_twice_are_refused():
    twice = pd.concat([VALID_SITES, VALID_SITES.loc[["B"]]])
    with pytest.raises(TrialError, match=r"Site B is there twice; .*strata"):
        TrialDesign(twice)
    again = pd.concat([strata(), strata().iloc[[3]]])
    with pytest.raises(TrialError, match="Site B with stratum child is there twice"):
        TrialDesign(again, scale="logit", strata="stratum")
    alone = strata().assign(n=[2, 58] * 6, allocation=["9:1", "1:1"] * 6)
    TrialDesign(alone, scale="logit", strata="stratum")  # a category may be in one arm only
    sizes = strata().drop(columns="n").assign(n_control=5, n_treated=[0, 0] + [5] * 10)
    with pytest.raises(TrialError, match="Site A has nobody in its treated arm"):
        TrialDesign(sizes, scale="logit", strata="stratum")


HEAD = "site,n,baseline,effect\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,n,baseline,effect\nA,20,0.1,0\n", r"row 1 .*no column site; add one"),
        ("site,baseline,effect\nA,0.1,0\n", r"row 1 .*no column n; add it"),
        ("site,n,effect\nA,20,0\n", r"row 1 .*no column baseline; add it, or give a population"),
        (HEAD + "A,20,0.1,0\nB,-20,0.1,0\n", r"row 3, column n: -20 participants; write a whole"),
        (HEAD + "A,20.5,0.1,0\n", r"row 2, column n: 20.5 participants; write a whole"),
        (HEAD + "A,20,1.1,0\n", r"row 2, column baseline: 1.1 is no probability; write one between"),
        (HEAD + "A,20,0.1,0\nB,20,0.2,0.9\n", r"row 3, column effect: .*probability 1.1.*change one"),
        (HEAD + "A,twenty,0.1,0\n", r"row 2, column n: 'twenty' is no number; write one"),
        (HEAD + "A,20,0.1,\n", r"row 2, column effect: nothing stands there; write"),
        (HEAD + ",20,0.1,0\n", r"row 2, column site: nothing stands there"),
        (HEAD + "A,20,0.1,0\nA,30,0.1,0\n", r"Site A is there twice"),
        (HEAD, r"no row below its header; write one"),
        ("site,n,allocation,baseline,effect\nA,9,much,0.1,0\n", r"row 2, column allocation: .*'2:1'"),
    ],
)
def test_a_table_that_is_no_design_is_refused_with_file_row_column_and_remedy(tmp_path, text, message):
    file = tmp_path / "my_design.csv"
    file.write_text(text)
    with pytest.raises(TrialError, match=message) as caught:
        TrialDesign.read(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_table_is_refused(tmp_path):
    with pytest.raises(TrialError, match=r"There is no file .*absent.csv"):
        TrialDesign.read(tmp_path / "absent.csv")
    (tmp_path / "picture.csv").write_bytes(bytes(range(256)))
    with pytest.raises(TrialError, match=r"picture.csv cannot be read as a table.*UTF-8"):
        TrialDesign.read(tmp_path / "picture.csv")


def test_a_table_of_a_spreadsheet_is_read_whatever_separates_its_columns(tmp_path):
    file = tmp_path / "my_design.csv"
    rows = strata().round(3)
    rows.to_csv(file, sep=";", index=False, encoding="utf-8-sig")
    design = TrialDesign.read(file, scale="logit")
    assert design.strata == ("stratum",)
    assert design.digest == TrialDesign(rows, scale="logit", strata="stratum").digest


# ---------------------------------------------------------------------------------------------
# The study


@pytest.fixture(scope="module")
def unbalanced():
    """The twelve sites of the example, with calibration."""
    return trial_study(TrialDesign.read(EXAMPLE), 8, sbc=True, **SHORT)


def test_a_study_of_twelve_unbalanced_sites_says_what_its_intervals_do(unbalanced):
    table, summary = unbalanced.table, unbalanced.summary
    assert len(table) == 8
    assert list(summary.index) == list(ESTIMANDS)
    truth = true_estimands(pd.read_csv(EXAMPLE, index_col="site"))
    for name in ("site_average", "marginal_log_odds_ratio", "risk_difference"):
        low, high = table[f"{name}:low"], table[f"{name}:high"]
        assert table[f"{name}:truth"].to_numpy() == pytest.approx(truth[name])
        outside = (low > truth[name]) | (high < truth[name])
        assert summary.loc[name, "misses"] == outside.sum()
        assert summary.loc[name, "coverage"] == 1 - outside.mean()
        assert summary.loc[name, "bias"] == pytest.approx((table[f"{name}:mean"] - truth[name]).mean())
        assert summary.loc[name, "width"] == pytest.approx((high - low).mean())
        assert summary.loc[name, "power"] == ((low > 0) | (high < 0)).mean()
    assert (summary["divergent"] == (table["divergences"] > 0).mean()).all()
    assert 0 < unbalanced.sites["coverage"] <= 1


def test_the_coefficient_of_given_sites_has_no_coverage(unbalanced):
    assert "coefficient:truth" not in unbalanced.table
    assert unbalanced.summary.loc["coefficient", ["misses", "coverage", "bias"]].isna().all()
    assert unbalanced.shown.loc["population coefficient", "coverage"] == "–"
    assert unbalanced.summary.loc["coefficient", "width"] > 0
    # These very sites are known better than the population that they might come from.
    width = unbalanced.summary["width"]
    assert width["site_average"] < width["coefficient"]


def test_a_study_is_read_as_text_and_as_a_page(unbalanced):
    for words in (repr(unbalanced), unbalanced._repr_html_()):
        assert "8 simulated trials: 12 sites" in words
        assert "risk difference" in words
        assert "divergent" in words
        assert "Simulation-based calibration, 8 trials" in words
    assert "<table" in unbalanced._repr_html_()


def test_ranks_of_a_design_are_those_of_its_own_sizes(unbalanced):
    assert len(unbalanced.ranks) == 8
    pits = unbalanced.ranks.filter(like="pit:")
    assert ((pits > 0) & (pits < 1)).all(axis=None)
    assert np.unique(pits).size == pits.size
    assert unbalanced.uniformity.between(0, 1).all()


def test_a_picture_has_the_intervals_of_every_trial_and_the_truth_where_there_is_one(unbalanced):
    figure = unbalanced.figure()
    drawn = {}
    for ax in figure.axes:
        segments = [s for collection in ax.collections for s in collection.get_segments()]
        drawn[ax.get_title(loc="left") or ax.get_title()] = (
            sorted(s[:, 1].tolist() for s in segments),
            [line.get_ydata()[0] for line in ax.lines if line.get_label() == "true value"],
        )
    table = unbalanced.table
    names = {"population coefficient": "coefficient", "risk difference": "risk_difference"}
    for title, name in names.items():
        intervals, truth = drawn[title]
        np.testing.assert_allclose(
            intervals, sorted(table[[f"{name}:low", f"{name}:high"]].values.tolist())
        )
        assert truth == table.get(f"{name}:truth", pd.Series())[:1].tolist()


def test_a_category_is_recovered_and_averaged_over():
    design = TrialDesign(strata(n=400), scale="logit", strata="stratum")
    study = trial_study(design, 2, **SHORT)
    assert (study.table["stratum[child]:low"] < 1.2).all()
    assert (study.table["stratum[child]:high"] > 1.2).all()
    assert (study.table["stratum[child]:mean"] - 1.2).abs().max() < 0.3
    trial, truth, _ = design.simulate(0)
    fit = sample_trial(trial, seed=0, target_accept=0.95, draws=200, tune=300)
    posterior = fit["posterior"].to_dataset()
    groups = check_groups(trial)
    x = covariate_matrix(groups).to_numpy()
    site = np.array([list("ABCDEF").index(label) for label in groups["site"]])
    shift = posterior["covariate_effect"].values @ x.T
    control = posterior["site_intercept"].values[..., site] + shift
    treated = control + posterior["site_effect"].values[..., site]
    share = (groups["trials"] / groups["trials"].sum()).to_numpy()
    difference = ((expit(treated) - expit(control)) * share).sum(axis=-1)
    assert study.table["risk_difference:mean"][0] == pytest.approx(difference.mean())
    assert study.table["risk_difference:truth"][0] == truth["risk_difference"]


def test_numbers_may_be_covariates_too():
    ages = strata(0.0, n=200).assign(age=[30.0, 60.0] * 6).drop(columns="stratum")
    ages["baseline"] += 0.04 * (ages["age"] - 45)
    study = trial_study(TrialDesign(ages, scale="logit", covariates="age"), 1, **SHORT)
    assert study.table["age:mean"].item() == pytest.approx(0.04, abs=0.015)


def test_a_study_goes_on_where_it_stopped_and_grows(tmp_path):
    design, file = TrialDesign(VALID_SITES), tmp_path / "fits.parquet"
    first = trial_study(design, 2, file=file, **SHORT)
    more = trial_study(design, 4, file=file, **SHORT)
    pd.testing.assert_frame_equal(more.table.iloc[:2], first.table)  # seconds too: not made again
    other = TrialDesign(VALID_SITES, target_accept=0.8)
    trial_study(other, 1, file=file, **SHORT)
    again = trial_study(design, 4, file=file, **SHORT)
    pd.testing.assert_frame_equal(again.table, more.table)


def test_a_study_runs_on_an_executor_that_is_given():
    with ThreadPoolExecutor(1) as executor:
        given = trial_study(TrialDesign(VALID_SITES), 2, executor=executor, **SHORT)
    own = trial_study(TrialDesign(VALID_SITES), 2, workers=1, **SHORT)
    pd.testing.assert_frame_equal(
        given.table.drop(columns="seconds"), own.table.drop(columns="seconds"), rtol=1e-6
    )


@pytest.mark.parametrize("trials", [0, -3, 2.5])
def test_a_study_has_at_least_one_trial(trials):
    with pytest.raises(TrialError, match="trials must be a whole number"):
        trial_study(TrialDesign(VALID_SITES), trials)


# ---------------------------------------------------------------------------------------------
# From a shell


def command(*arguments):
    return [sys.executable, "-m", "fieldguide.studies", "trial", *map(str, arguments)]


@pytest.mark.slow
def test_the_shell_prints_a_table_and_writes_files(tmp_path):
    out = tmp_path / "study"
    options = ["--trials", 4, "--draws", 100, "--sd", 0.3, "--sbc", "--out", out, "--workers", 1]
    done = subprocess.run(
        command(EXAMPLE, *options), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 simulated trials: 12 sites" in done.stdout
    assert "8/8" in done.stderr  # progress
    summary = pd.read_csv(out / "summary.csv", index_col="estimand")
    assert summary["trials"].eq(4).all()
    assert len(pd.read_csv(out / "trials.csv")) == len(pd.read_csv(out / "ranks.csv")) == 4
    assert (out / "intervals.svg").read_text().startswith("<?xml")
    assert (out / "intervals.png").read_bytes().startswith(b"\x89PNG")
    design = TrialDesign.read(EXAMPLE, priors=TrialPriors(sd=scipy.stats.halfnorm(scale=0.3)))
    alone = trial_study(design, 1, draws=100, tune=100, progressbar=False)
    written = pd.read_csv(out / "trials.csv").loc[0, "risk_difference:mean"]
    assert written == pytest.approx(alone.table["risk_difference:mean"].item(), abs=0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_shell_command_goes_on(tmp_path):
    out = tmp_path / "study"
    options = ["--trials", 70, "--draws", 50, "--out", out, "--workers", 2]
    running = subprocess.Popen(command(EXAMPLE, *options), stderr=subprocess.PIPE, text=True)
    file, deadline = out / "fits.parquet.sqlite", time.monotonic() + 600
    while time.monotonic() < deadline and running.poll() is None:
        if file.exists() and file.stat().st_size > 40_000:
            break
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130, said
    assert "the same command goes on" in said
    done = subprocess.run(command(EXAMPLE, *options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    begun = next(part for part in done.stderr.split() if part.endswith("/70"))
    assert begun != "0/70"
    assert len(pd.read_csv(out / "trials.csv")) == 70


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "There is no file absent.csv"),
        ([EXAMPLE, "--sd", "0"], "--sd must be a positive number"),
        ([EXAMPLE, "--trials", "0"], "trials must be a whole number"),
        ([EXAMPLE, "--population", "effect"], "name=number"),
        ([EXAMPLE, "--stratum", "sex"], "row 1 .*no column sex"),
        ([EXAMPLE, "--scale", "odds"], "'probability' or 'logit'"),
    ],
)
def test_the_shell_says_in_one_line_what_is_wrong(arguments, message, tmp_path, capsys):
    assert main(["trial", *map(str, arguments), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("trial: ")
    assert re.search(message, said)
    assert not (tmp_path / "out" / "fits.parquet").exists()


def test_a_fit_that_fails_is_told_with_its_trial(tmp_path):
    class Broken(TrialDesign):
        def simulate(self, replicate):
            raise RuntimeError("no such trial")

    with pytest.raises(GridError, match=r"'replicate': 0.*no such trial"):
        trial_study(Broken(VALID_SITES), 1, file=tmp_path / "fits.parquet", progressbar=False)
