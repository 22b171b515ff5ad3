"""A reader's own counts: the answer for many groups, refusals, the report, programs, the command."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

import fieldguide as fg
from fieldguide.cli import main
from fieldguide.counts import CountsError, your_counts
from fieldguide.counts_table import MOST_BYTES, read_counts
from fieldguide.data import count_by_district, load_bangladesh, load_three_districts
from fieldguide.reference import ExactPosteriorError, exact_posterior
from fieldguide.reference._districts_many import ManyGroups
from fieldguide.reference.districts import _check

PROBS = (0.055, 0.5, 0.945)


def simulated(groups, least, most, sigma, seed=1):
    rng = np.random.default_rng(seed)
    n = rng.integers(least, most + 1, groups)
    y = rng.binomial(n, expit(rng.normal(-1, sigma, groups)))
    return pd.DataFrame({"group": [f"g{k}" for k in range(groups)], "successes": y, "trials": n})


@pytest.fixture(scope="module")
def three():
    return your_counts(load_three_districts())


@pytest.fixture(scope="module")
def sixty():
    return your_counts(count_by_district(load_bangladesh()))


# ---------------------------------------------------------------------------------------------
# The answer


def many(table, probs=PROBS):
    y, n = table["successes"].to_numpy(), table["trials"].to_numpy()
    model, *_ = _check(y, n, stats.norm(0, 1.5), stats.expon(), None, probs)
    engine = ManyGroups(model)
    return engine, engine.summarise(probs), model.member


TABLES = {
    "sixty districts": count_by_district(load_bangladesh()).rename(
        columns={"users": "successes", "women": "trials"}
    ),
    "alike, so that sigma is narrow": simulated(60, 1, 2000, 0.0),
    "few trials": simulated(40, 0, 5, 0.5),
    "far apart": simulated(40, 1, 5000, 3.0),
    "no successes at all": simulated(20, 5, 25, 0.5).assign(successes=0),
}


def disagreement(table, every=1):
    """Largest distance between the two engines: of moments and quantiles, in posterior sds."""
    exact = exact_posterior(table["successes"], table["trials"], sigma_prior=stats.expon())
    engine, found, member = many(table)
    sd = exact.sd["alpha"].values
    moments = np.abs(exact.mean["alpha"].values - found.mean[member]) / sd
    rates = np.abs(exact.mean["p"].values - found.mean_p[member]) / exact.sd["p"].values
    worst = max(moments.max(), rates.max(), np.abs(found.sd[member] / sd - 1).max())
    quantiles = 0.0
    for j in range(0, len(table), every):
        ends = exact._quantile("alpha", j, np.array(PROBS))
        quantiles = max(quantiles, np.abs((ends - found.quantiles[:, member[j]]) / sd[j]).max())
    for name, marginal in (("sigma", engine.sigma), ("alpha_bar", engine.alpha_bar)):
        ends = exact.quantile(list(PROBS), [name])[name].values
        apart = ends - [marginal.quantile(q) for q in PROBS]
        quantiles = max(quantiles, np.abs(apart / float(exact.sd[name])).max())
    assert engine.error < 1e-5
    assert found.error.max() < 3e-4
    return worst, quantiles


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_answer_for_many_groups_is_that_of_the_precise_engine(name):
    moments, quantiles = disagreement(TABLES[name])
    assert moments < 1e-6
    assert quantiles < 1e-4


@pytest.mark.slow
def test_so_it_is_for_three_hundred_groups():
    moments, quantiles = disagreement(simulated(300, 1, 200, 0.4), every=12)
    assert moments < 1e-6
    assert quantiles < 1e-4


def test_both_ways_give_one_report(monkeypatch, three):
    monkeypatch.setattr("fieldguide.counts.FEW", 0)
    other = your_counts(load_three_districts())
    assert other._answer.way != three._answer.way
    numbers = three.table.select_dtypes("number")
    np.testing.assert_allclose(other.table[numbers.columns], numbers, atol=2e-4, rtol=2e-4)
    np.testing.assert_allclose(other.population, three.population, atol=3e-4, rtol=3e-4)
    np.testing.assert_allclose(other.sigma_curve, three.sigma_curve, atol=3e-3)


def test_what_one_grid_refuses_is_tabulated_group_by_group(monkeypatch):
    monkeypatch.setattr("fieldguide.reference._districts_many.QUANTILE_TOLERANCE", 1e-12)
    found = your_counts(simulated(20, 1, 60, 0.4))
    assert found._answer.way == "every marginal tabulated on its own"
    assert found.error < 1e-6


def test_a_grid_that_is_too_coarse_is_noticed_and_refined(monkeypatch):
    table = simulated(40, 1, 60, 0.4)
    fine, there, _ = many(table)
    monkeypatch.setattr("fieldguide.reference._districts_many._STEPS", (1.8, 1.8, 0.5))
    coarse, again, _ = many(table)
    assert coarse.error < 1e-5
    np.testing.assert_allclose(again.mean, there.mean, atol=1e-5)
    np.testing.assert_allclose(again.quantiles, there.quantiles, atol=1e-4)
    assert coarse.nodes.weight.size > 0.3 * fine.nodes.weight.size


def test_the_table_holds_the_exact_posterior(three):
    exact = exact_posterior([30, 7, 2], [117, 20, 2], sigma_prior=stats.expon())
    np.testing.assert_allclose(three.table["mean"], exact.mean["p"], rtol=1e-6)
    np.testing.assert_allclose(three.table["log_odds_sd"], exact.sd["alpha"], rtol=1e-6)
    ends = exact.interval(0.89, "p")["p"]
    np.testing.assert_allclose(three.table["low"], ends.sel(bound="lower"), rtol=1e-6)
    np.testing.assert_allclose(three.table["high"], ends.sel(bound="upper"), rtol=1e-6)
    assert three.population.loc["sigma", "mean"] == pytest.approx(float(exact.mean["sigma"]))
    assert three.table.index.tolist() == ["1", "2", "3"]
    assert three.table.index.name == "district"


def test_the_density_of_sigma_integrates_to_one(sixty):
    curve = sixty.sigma_curve
    area = np.trapezoid(curve["posterior"], curve["sigma"])
    assert area == pytest.approx(1, abs=2e-3)
    np.testing.assert_allclose(curve["prior"], stats.expon.pdf(curve["sigma"]))


def test_many_counts_speak_for_themselves_as_a_normal_likelihood_says():
    table = simulated(30, 20_000, 40_000, 0.4)
    found = your_counts(table)
    sigma = found.population.loc["sigma"]
    p = found.table["mean"]
    information = found.table["trials"] * p * (1 - p)
    expected = information / (information + 1 / sigma["median"] ** 2)
    np.testing.assert_allclose(found.table["shrinkage"], 1 - expected, rtol=0.15)
    assert found.form == "centered"


def test_the_prior_is_the_readers():
    table = simulated(20, 5, 50, 0.5)
    tight = your_counts(table, sigma_prior=stats.halfnorm(scale=0.1))
    assert tight.population.loc["sigma", "median"] < your_counts(table).population.loc["sigma", "median"]
    assert "HalfNormal(0.1)" in tight.text
    sure = your_counts(table, alpha_prior=stats.norm(2, 0.01))
    assert sure.population.loc["alpha_bar", "mean"] == pytest.approx(2, abs=0.05)


def test_a_group_without_trials_is_a_new_group(sixty):
    counts = count_by_district(load_bangladesh())
    found = your_counts(pd.concat([counts, pd.DataFrame({"women": [0], "users": [0]}, index=["new"])]))
    row = found.table.loc["new"]
    assert np.isnan(row["share"])
    assert row["own"] == pytest.approx(0, abs=1e-9)
    sigma, mean = sixty.population.loc["sigma"], sixty.population.loc["alpha_bar"]
    variance = mean["sd"] ** 2 + sigma["mean"] ** 2 + sigma["sd"] ** 2
    assert row["log_odds_sd"] == pytest.approx(np.sqrt(variance), rel=1e-5)
    assert any("without trials" in note for note in found.notes)


def test_one_group_is_told_that_sigma_is_its_prior():
    found = your_counts({"group": ["a"], "y": [3], "n": [10]})
    row = found.population.loc["sigma"]
    assert row["median"] == pytest.approx(row["prior median"], abs=0.2)
    assert any("One group cannot say" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------
# What must hold for any counts

pairs = st.lists(
    st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=6,
    max_size=30,
).filter(lambda rows: any(n for _, n in rows))


def of(rows):
    y, n = np.array(rows).T
    table = pd.DataFrame({"group": [f"g{k}" for k in range(len(rows))], "successes": y, "trials": n})
    try:
        engine, found, member = many(table)
    except ExactPosteriorError:  # too few groups for one grid, which says so
        reject()
    return engine, np.stack([found.mean, found.sd, *found.quantiles, found.own])[:, member]


@settings(max_examples=15, deadline=None)
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    _, there = of(rows)
    _, mixed = of([rows[k] for k in order])
    np.testing.assert_allclose(mixed, there[:, order], atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_an_empty_group_changes_nothing_else(rows):
    before, there = of(rows)
    after, more = of([*rows, (0, 0)])
    np.testing.assert_allclose(more[:, :-1], there, atol=2e-4)
    assert after.nodes.total == pytest.approx(before.nodes.total, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_failures_for_successes_turn_the_answer_round(rows):
    _, there = of(rows)
    _, turned = of([(n - y, n) for y, n in rows])
    mean, sd, low, middle, high, own = there
    np.testing.assert_allclose(turned, [-mean, sd, -high, -middle, -low, own], atol=2e-4)


@settings(max_examples=10, deadline=None)
@given(pairs.filter(lambda rows: len({y / n for y, n in rows if n}) > 2))
def test_a_group_seen_ten_times_as_often_tells_more_of_itself(rows):
    k = max(range(len(rows)), key=lambda k: rows[k][1])
    y, n = rows[k]
    if 0 < y < n:
        _, there = of(rows)
        _, more = of([*rows[:k], (10 * y, 10 * n), *rows[k + 1 :]])
        assert more[5, k] > there[5, k]


# ---------------------------------------------------------------------------------------------
# Reading


@pytest.mark.parametrize(
    ("columns", "extra"),
    [
        ({"school": ["a", "b"], "y": [1, 2], "n": [3, 4]}, {}),
        ({"successes": [1, 2], "trials": [3, 4], "ward": ["a", "b"]}, {}),
        ({"Site": ["a", "b"], "Events": [1, 2], "N": [3, 4]}, {}),
        ({"site": ["a", "b"], "successes": [1, 2], "failures": [2, 2]}, {}),
        ({"x": [1, 2], "of": [3, 4], "g": ["a", "b"]}, {"successes": "x", "trials": "of"}),
        ({"id": ["a", "a", "b"], "y": [1, 0, 2], "n": [1, 2, 4]}, {"add_up": True}),
        ({"id": [*"aaabbbb"], "y": [1, 0, 0, 1, 1, 0, 0]}, {"add_up": True}),
    ],
)
def test_columns_are_recognised(tmp_path, columns, extra):
    path = tmp_path / "mine.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    for table in (columns, pd.DataFrame(columns), path):
        counts = read_counts(table, **extra)
        assert counts.group == ["a", "b"]
        assert counts.successes.tolist() == [1, 2]
        assert counts.trials.tolist() == [3, 4]


def test_semicolons_tabs_spaces_blank_lines_and_marks_of_excel_are_read(tmp_path):
    path = tmp_path / "mine.csv"
    for text in (
        "site;y;n\na;1;3\nb;2;4\n",
        "site\ty\tn\r\na\t1\t3\r\n\r\nb\t2\t4\r\n\r\n",
        "\ufeffsite, y, n\n a , 1, 3\nb, 2, 4",
    ):
        path.write_bytes(text.encode())
        counts = read_counts(path)
        assert (counts.group, counts.trials.tolist()) == (["a", "b"], [3, 4])


REFUSED = {
    "": "the file is empty",
    "site,y,n\n": "there are no rows",
    "site,y,n\na,1,3\nb,,4\n": "row 3, column y: the count is missing; fill it in",
    "site,y,n\na,1,3\nb,NaN,4\n": "row 3, column y: the count is missing",
    "site,y,n\n\na,1,3\nb,2,x\n": "row 4, column n: 'x' is not a count",
    "site,y,n\na,-1,3\n": "row 2, column y: -1 is a negative count",
    "site,y,n\na,0.5,3\n": "row 2, column y: 0.5 is a fraction; give whole counts",
    'site,y,n\na,"1,000",2000\n': "separators of thousands",
    "site,y,n\na,inf,3\n": "an infinite count",
    "site,y,n\na,1,3\nb,5,4\n": "row 3 (group b): 5 successes in 4 trials; check that the columns",
    "site,y,n\na,1,3\nb,2,4\na,2,4\n": "row 4: the group 'a' comes a second time",
    "site,y,n\na,1,3\n,2,4\n": "row 3, column site: the group has no name",
    "site,y\na,1\na,0\nb,1\n": "one row per person. Count them by group with add_up=True",
    "site,y\na,1\nb,7\n": "no column is named like trials or failures",
    "site,these,those\na,1,3\n": "the columns are 'site', 'these' and 'those'. Say which",
    "site,y,events,n\na,1,1,3\n": "'y' and 'events' may all hold the successes",
    "site,y,n\na,0,0\nb,0,0\n": "no group has a trial",
    "site,y,n\na,1,3\nb,2,4,5,6\n": "different numbers of columns",
    'site,y,n\na,1,3\n"b,2,4\n': "a quotation mark is not closed",
    "y,n\n1,3,10\n2,4,11\n": "different numbers of columns",
    "site,y,y,n\na,1,1,3\n": "comes twice",
    "site,y,n\na,1,3\nb,2": "row 3, column n: the count is missing",
    "site,y,n\na,1,1e30\n": "more than",
    "PK\x03\x04rest": "an Excel workbook",
    "PAR1\x00rest": "a Parquet file",
    "abc\x00def": "no text",
    "<html><body>404</body></html>": "a web page",
    "x" * 200_000: "the first line has",
}


@pytest.mark.parametrize("text", REFUSED, ids=[words[:40] for words in REFUSED.values()])
def test_a_damaged_file_is_refused_in_a_sentence_that_names_it(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CountsError) as caught:
        read_counts(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert REFUSED[text] in sentence
    assert "\n" not in sentence


def test_bytes_that_are_no_text_and_files_too_large_are_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes("größe,y,n\na,1,3\n".encode("latin-1"))
    with pytest.raises(CountsError, match="byte 2 is not UTF-8"):
        read_counts(path)
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(CountsError, match="MiB are more than"):
        read_counts(path)
    with pytest.raises(CountsError, match="this is a folder"):
        read_counts(tmp_path)
    with pytest.raises(CountsError, match="no such file"):
        read_counts(tmp_path / "other.csv")


def test_a_data_frame_is_refused_by_row():
    with pytest.raises(CountsError, match="Row 2 of the table, column y: the count is missing"):
        read_counts(pd.DataFrame({"g": ["a", "b"], "y": [1, None], "n": [2, 2]}))
    with pytest.raises(CountsError, match="not a list"):
        read_counts([1, 2])
    with pytest.raises(CountsError, match="no column 'z' for the successes"):
        read_counts({"g": ["a"], "y": [1], "n": [2]}, successes="z")
    with pytest.raises(ValueError, match="prob must lie"):
        your_counts({"g": ["a"], "y": [1], "n": [2]}, prob=1.0)


# ---------------------------------------------------------------------------------------------
# The report


def test_the_report_says_what_the_tables_say(three, sixty):
    row = three.population.loc["sigma"]
    assert f"{row['median']:.3f}" in three.findings[0]
    assert f"{row['high']:.2f}" in three.findings[0]
    assert "Own counts say least of district 3, with 2 of 2" in three.text
    assert "Trouble is expected of the centered form" in three.text
    assert "No trouble is expected" in sixty.text
    assert str(three) in (three.text,)
    assert len(sixty.table) == 60
    assert sixty.healthy
    assert not three.healthy


def test_a_long_table_is_shown_in_part():
    found = your_counts(simulated(200, 1, 50, 0.5))
    caption, shown = found._shown()
    assert len(shown) == 20
    assert "20 of 200 groups" in caption
    moved = (found.table["mean"] - found.table["share"]).abs()
    assert set(shown.index) == set(moved.nlargest(20).index)


@pytest.mark.parametrize("name", ["three", "sixty"])
def test_the_page_loads_nothing_and_has_its_figures_in_words(request, name):
    found = request.getfixturevalue(name)
    page = found.page()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<img ") == 2
    assert page.count('src="data:image/svg+xml;base64,') == 2
    assert not [mark for mark in ("http:", "https:", "<script", "url(", "<link") if mark in page]
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert found._sigma_in_words()[:40] in page
    assert f"{found.population.loc['sigma', 'median']:.3f}" in found.alt


def test_names_from_a_table_are_words_and_not_markup():
    found = your_counts({"g": ["<script>alert(1)</script>", 'b"'], "y": [1, 2], "n": [3, 4]})
    assert "<script" not in found.page()
    assert "&lt;script&gt;" in found._repr_html_()


# ---------------------------------------------------------------------------------------------
# Programs


def run(code, name="__main__"):
    names = {"__name__": name}
    exec(compile(code, "program", "exec"), names)
    return names


def check(draws, report, effects, sigma):
    """Means of draws agree with the exact ones within five Monte Carlo errors."""
    import arviz as az

    exact = report.table["log_odds"].to_numpy()
    mean = effects.mean(("chain", "draw")).values
    error = np.asarray(az.mcse(effects))
    assert (np.abs(mean - exact) < 5 * error).all(), np.abs((mean - exact) / error).max()
    apart = float(draws["posterior"][sigma].mean()) - report.population.loc["sigma", "mean"]
    assert abs(apart) < 5 * float(np.asarray(az.mcse(draws["posterior"][sigma])))


@pytest.mark.slow
def test_the_pymc_program_gives_the_exact_answer(sixty):
    pytest.importorskip("pymc")
    code = sixty.code("pymc")
    assert "sigma**w" in code
    assert "74" in code
    fit = run(code.replace("random_seed=1", "random_seed=1, progressbar=False, cores=2"))["fit"]
    assert fit["posterior"]["alpha"]["group"].values.tolist() == sixty.counts.group
    check(fit, sixty, fit["posterior"]["alpha"], "sigma")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "table"),
    [
        ("centered", simulated(8, 3000, 5000, 0.8)),
        ("mixed", simulated(80, 1, 300, 0.4)),
        ("non-centered", simulated(70, 1, 3, 0.2)),
    ],
)
@pytest.mark.parametrize("tool", ["pymc", "bambi"])
def test_a_program_has_the_form_that_it_should_and_the_exact_answer(tmp_path, form, table, tool):
    pytest.importorskip("pymc")
    import nutpie

    path = tmp_path / "it's mine.csv"
    table.to_csv(path, index=False)
    found = your_counts(path)
    assert found.form == form
    names = run(found.code(tool), "a program")
    model = names["model"]
    if tool == "bambi":
        model.build()
        model = model.backend.model
    compiled = nutpie.compile_pymc_model(model)
    fit = nutpie.sample(compiled, seed=2, cores=2, draws=1500, target_accept=0.9, progress_bar=False)
    posterior = fit["posterior"]
    if tool == "pymc":
        return check(fit, found, posterior["alpha"], "sigma")
    effects = posterior["1|group"] + (posterior["Intercept"] if form != "centered" else 0)
    effects = effects.sel({effects.dims[-1]: found.counts.group})  # Bambi sorts them
    return check(fit, found, effects, "1|group_sigma")


@pytest.mark.slow
def test_the_brms_program_gives_the_exact_answer(tmp_path, sixty):
    if shutil.which("Rscript") is None:
        pytest.skip("Rscript is not installed")
    probe = 'cat(requireNamespace("brms", quietly = TRUE))'
    there = subprocess.run(["Rscript", "-e", probe], capture_output=True, text=True).stdout
    if not there.endswith("TRUE"):
        pytest.skip("brms is not installed")
    boost = 'if (dir.exists("/usr/include/boost")) rstan::rstan_options(boost_lib = "/usr/include")\n'
    code = (
        boost
        + sixty.code("brms")
        + (  # Debian's R has Boost elsewhere
            'draws <- as.matrix(fit, variable = "^r_group|^b_|^sd_", regex = TRUE)\n'
            'write.csv(rbind(colMeans(draws), apply(draws, 2, sd)), "out.csv", row.names = FALSE)\n'
        )
    )
    (tmp_path / "fit.R").write_text(code.replace("seed = 1", "seed = 1, refresh = 0"), encoding="utf-8")
    result = subprocess.run(["Rscript", "fit.R"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    mean = pd.read_csv(tmp_path / "out.csv").iloc[0]
    effects = mean["b_Intercept"] + mean[[f"r_group[{g},Intercept]" for g in sixty.counts.group]]
    apart = np.abs(effects.to_numpy() - sixty.table["log_odds"]) / sixty.table["log_odds_sd"]
    assert apart.max() < 0.12  # five Monte Carlo errors of 4000 draws that are worth half as many
    spread = mean["sd_group__Intercept"]
    assert spread == pytest.approx(sixty.population.loc["sigma", "mean"], abs=0.015)


def test_a_program_that_cannot_be_written_says_why(three):
    with pytest.raises(ValueError, match="choose one of pymc, bambi, brms"):
        three.code("stata")
    bounded = your_counts(load_three_districts(), sigma_prior=stats.uniform(0, 3))
    assert 'pm.Uniform("sigma", lower=0, upper=3)' in bounded.code()
    with pytest.raises(ValueError, match="brms has no bounded prior"):
        bounded.code("brms")


def test_a_program_has_the_readers_priors():
    priors = {"sigma_prior": stats.halfnorm(scale=0.7), "alpha_prior": stats.norm(-1, 2)}
    found = your_counts(load_three_districts(), **priors)
    for tool, words in {
        "pymc": ['pm.Normal("alpha_bar", -1, 2)', 'pm.HalfNormal("sigma", sigma=0.7)'],
        "bambi": ['"Normal", mu=-1, sigma=2', 'bmb.Prior("HalfNormal", sigma=0.7)'],
        "brms": ['prior(normal(-1, 2), class = "Intercept")', 'prior(normal(0, 0.7), class = "sd")'],
    }.items():
        assert not [one for one in words if one not in found.code(tool)], tool


@pytest.mark.parametrize("tool", ["pymc", "bambi", "brms"])
def test_many_groups_are_read_from_the_readers_own_file(tmp_path, tool):
    path = tmp_path / "wards.csv"
    table = simulated(80, 1, 30, 0.5).rename(columns={"group": "ward", "successes": "cured"})
    table.to_csv(path, index=False, sep=";")
    code = your_counts(path, successes="cured").code(tool)
    assert str(path) in code
    assert "ward" in code
    assert "cured" in code
    from_frame = your_counts(table, successes="cured")
    assert "counts.csv" in from_frame.code(tool)
    from_frame.save_counts(tmp_path / "counts.csv")
    saved = pd.read_csv(tmp_path / "counts.csv")
    assert saved["successes"].tolist() == table["cured"].tolist()


# ---------------------------------------------------------------------------------------------
# What the forms are worth, by real fits

WORTH = {
    "districts": (count_by_district(load_bangladesh()), set()),
    "few groups": (load_three_districts(), {"centered", "non-centered"}),
    "many trials": (simulated(30, 1000, 2000, 1.0), {"non-centered"}),
    "few trials": (simulated(60, 3, 8, 0.2), {"centered"}),
}


def effective(report, parameterization, target=0.8):
    """ESS of the worst parameter per 1000 gradients, and the share of draws that diverge."""
    import arviz as az
    import nutpie

    from fieldguide.models.districts import varying_intercept_model

    extra = {"weights": report.table["own"].to_numpy()} if parameterization == "partial" else {}
    y, n = report.counts.successes, report.counts.trials
    model = varying_intercept_model(y, n, parameterization=parameterization, **extra)
    fit = nutpie.sample(
        nutpie.compile_pymc_model(model),
        seed=4,
        draws=1000,
        tune=1000,
        chains=4,
        cores=2,
        target_accept=target,
        progress_bar=False,
    )
    names = ["alpha_bar", "sigma", "alpha"]
    least = min(float(np.min(az.ess(fit["posterior"][name]).values)) for name in names)
    gradients = int(fit["sample_stats"]["n_steps"].sum())
    return 1000 * least / gradients, float(fit["sample_stats"]["diverging"].mean()), least


@pytest.mark.slow
@pytest.mark.parametrize("name", WORTH)
def test_the_advice_is_what_real_fits_say(name):
    pytest.importorskip("pymc")
    table, trouble = WORTH[name]
    report = your_counts(table)
    assert set(report.health.trouble) == trouble
    plain = {form: effective(report, form) for form in ("centered", "non-centered")}
    best = max(worth for worth, *_ in plain.values())
    mixed = effective(report, "partial")[0]
    if len(trouble) == 2:  # no form at this target, whose divergent draws are worth nothing
        assert report.form == "non-centered"
        worth, diverging, least = effective(report, report.form, report.target)
        assert diverging < 0.001
        assert least > 400
    else:
        advised = mixed if report.form == "mixed" else plain[report.form][0]
        assert advised > 0.6 * max(best, mixed)
    for form, (worth, diverging, least) in plain.items():
        if form in trouble:
            assert diverging > 0.002 or worth < 0.4 * max(best, mixed)
        else:
            assert diverging < 0.01
            assert least > 400


# ---------------------------------------------------------------------------------------------
# The command


def process(*arguments):
    command = [sys.executable, "-m", "fieldguide", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def command(*arguments):
    """Run the command in this process: the status, and what it writes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    load_three_districts().to_csv(folder / "three.csv")
    count_by_district(load_bangladesh()).to_csv(folder / "sixty.csv")
    load_bangladesh().to_csv(folder / "women.csv", index=False)
    (folder / "broken.csv").write_text("site,y,n\na,1,3\nb,,4\n", encoding="utf-8")
    return folder


def test_the_exit_status_says_healthy_trouble_or_unreadable(files):
    healthy, trouble, broken = (
        process("counts", files / f"{name}.csv") for name in ("sixty", "three", "broken")
    )
    assert [r.returncode for r in (healthy, trouble, broken)] == [0, 1, 2]
    assert "No trouble is expected" in healthy.stdout
    assert "Trouble is expected of the centered form" in trouble.stdout
    assert not broken.stdout
    assert broken.stderr.strip().endswith("fill it in or leave the row out.")
    assert len(broken.stderr.strip().splitlines()) == 1
    assert "Traceback" not in broken.stderr
    assert not healthy.stderr  # nobody looks, so there is no bar


def test_help_names_every_option_and_the_exit_statuses():
    result = command("counts", "--help")
    assert result.returncode == 0
    for words in ("--successes", "--add-up", "--html", "--json", "--code", "exit status", "examples"):
        assert words in result.stdout
    assert "counts" in command("--help").stdout
    assert command("counts").returncode == 2


def test_what_the_command_writes(files, sixty):
    found = json.loads(command("counts", files / "sixty.csv", "--json").stdout)
    assert found["healthy"] is True
    assert found["groups"][0]["mean"] == pytest.approx(sixty.table["mean"].iloc[0], rel=1e-6)
    rows = command("counts", files / "sixty.csv", "--csv", "--html", files / "sixty.html").stdout
    assert rows.splitlines()[0].startswith("district,trials,successes,share,mean,sd,low,high")
    assert len(rows.splitlines()) == 61
    assert (files / "sixty.html").read_text(encoding="utf-8").count("<img ") == 2
    code = command("counts", files / "three.csv", "--code", "pymc")
    assert code.stdout == your_counts(files / "three.csv").code("pymc")
    assert code.returncode == 1
    women = ["--group", "district", "--successes", "use_contraception", "--add-up"]
    counted = json.loads(command("counts", files / "women.csv", *women, "--json").stdout)
    assert len(counted["groups"]) == 60


def test_priors_on_the_command_line(files):
    result = command("counts", files / "three.csv", "--sigma-prior", "half-normal(0.5)", "--prob", "0.5")
    assert "HalfNormal(0.5)" in result.stdout
    assert "50% interval" in result.stdout
    for words in (["--sigma-prior", "gauss(1)"], ["--alpha-prior", "normal(0)"], ["--prob", "2"]):
        refused = command("counts", files / "three.csv", *words)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
    assert command("counts", files / "three.csv", "--json", "--csv").returncode == 2


def test_the_command_needs_neither_pymc_nor_matplotlib(files):
    code = (
        "import sys; from fieldguide.cli import main\n"
        f"main(['counts', {str(files / 'sixty.csv')!r}])\n"
        "loaded = [m for m in ('pymc', 'arviz', 'bambi', 'matplotlib', 'pandera') if m in sys.modules]\n"
        "assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_ten_thousand_groups_take_less_than_two_gigabytes(tmp_path):
    path = tmp_path / "ten.csv"
    table = simulated(10_000, 5, 4000, 0.7)
    assert len(table[["successes", "trials"]].drop_duplicates()) > 9900
    table.to_csv(path, index=False)
    code = (
        "import resource, sys\n"
        "from fieldguide.cli import main\n"
        f"main(['counts', {str(path)!r}, '--csv'])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert len(result.stdout.splitlines()) == 10_001
    assert float(result.stderr) < 2 * 2**20  # kibibytes


def test_the_name_is_at_hand():
    assert fg.your_counts is your_counts


def test_the_prior_speaks_where_sigma_is_as_wide_and_has_not_moved():
    """A posterior as wide as the prior may lie elsewhere."""

    def spread(successes, trials):
        report = your_counts(pd.DataFrame({"successes": successes, "trials": trials}))
        share = int(re.search(r"(\d+)% of the prior", report.findings[0]).group(1))
        return share, "prior that speaks" in report.findings[0]

    few, speaks = spread([1, 0], [2, 1])
    many, moved = spread([30, 7, 20], [117, 20, 20])
    assert min(few, many) > 80
    assert speaks
    assert not moved
