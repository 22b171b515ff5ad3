"""The explorer's exact posterior in JavaScript held to the package's: counts, words, programs."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import ROOT, needs_browser

from fieldguide.counts import CountsError, your_counts
from fieldguide.counts_table import NAMES, read_counts
from fieldguide.explorer import write_scripts
from fieldguide.priors import half_student_t
from fieldguide.reference.districts import exact_posterior
from fieldguide.reference.districts_many import exact_posterior_many
from fieldguide.reference.given_spread import given_spread

FOLDER = ROOT / "book" / "_static" / "explorer"
SCRIPTS = ["counts_numbers", "counts_posterior", "counts_table", "counts_report", "counts_code", "pool"]
NODE = shutil.which("node")
no_node = pytest.mark.skipif(NODE is None, reason="no node on PATH")

PRIORS = [
    ({"family": "exponential", "scale": 1}, scipy.stats.expon()),
    ({"family": "half-normal", "scale": 0.5}, scipy.stats.halfnorm(scale=0.5)),
    ({"family": "exponential", "scale": 0.5}, scipy.stats.expon(scale=0.5)),
    ({"family": "half-student-t", "df": 4, "scale": 1}, half_student_t(4, 1.0)),
    ({"family": "half-cauchy", "scale": 1}, scipy.stats.halfcauchy(scale=1)),
]

ANSWERS = """(text) => {
  const counts = globalThis.fieldguideExplorer.counts;
  const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value)
    : typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
  return JSON.stringify(JSON.parse(text).map((job) => {
    try {
      return (BODY)(job);
    } catch (error) {
      if (!["Refused", "CountsError"].includes(error.name)) throw error;
      return { ...error, refused: error.message };
    }
  }), plain);
}"""
LOAD = """
const fs = require("fs"), vm = require("vm"), [folder, ...names] = process.argv.slice(1);
for (const name of names) vm.runInThisContext(fs.readFileSync(`${folder}/${name}.js`, "utf8"));
fs.writeSync(1, (ANSWERS)(fs.readFileSync(0, "utf8")));
"""


def in_node(answers: str, jobs: str) -> str:
    done = subprocess.run(
        [NODE, "-e", LOAD.replace("ANSWERS", answers), str(FOLDER), *SCRIPTS],
        input=jobs, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(
    scope="module",
    params=[pytest.param("node", marks=no_node), pytest.param("chromium", marks=needs_browser)],
)
def run(request, tmp_path_factory):
    """Values of a JavaScript function at each job, there and in a page that is opened from a file."""

    def with_answers(to):
        return lambda body, jobs: json.loads(to(ANSWERS.replace("BODY", body), json.dumps(jobs)))

    if request.param == "node":
        yield with_answers(in_node)
        return
    folder = tmp_path_factory.mktemp("counts")
    for name in SCRIPTS:
        shutil.copy(FOLDER / f"{name}.js", folder)
    write_scripts(folder)  # as the built site has them
    page = folder / "page.html"
    tags = "".join(f'<script src="{name}.js"></script>' for name in SCRIPTS)
    page.write_text(f"<!doctype html><title>Counts</title>{tags}", encoding="utf-8")
    tab = request.getfixturevalue("browser").new_page()
    tab.goto(page.as_uri())
    yield with_answers(tab.evaluate)
    tab.close()


# ---------------------------------------------------------------------------------------------
# The posterior

POSTERIOR = """({y, n, prior, alpha, at}) => {
  const exact = counts.exactPosterior(y, n, {sigmaPrior: prior, alphaPrior: alpha});
  return {...exact, sigmaDensity: (at ?? []).map(exact.sigmaDensity),
    priorDensity: (at ?? []).map(exact.priorDensity)};
}"""


def tables(count: int, seed: int = 18) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Random tables of 3 to 500 groups of 0 to 100,000 trials, with none, all, and one prior of four."""
    rng, out = np.random.default_rng(seed), []
    for k in range(count):
        groups = int(np.exp(rng.uniform(np.log(3), np.log(20))))
        groups = {0: 500, 10: 4 * groups, 20: 25 * groups, 30: 4 * groups}.get(k % 40, groups)
        most = [30, 300, 3, 100_000, 3000][rng.integers(5)]
        n = np.exp(rng.uniform(0, np.log(most), groups)).round().astype(int)
        n[rng.random(groups) < 0.05] = 1
        if rng.random() < 0.3:
            n[rng.integers(groups)] = 100_000
        if rng.random() < 0.2:
            n[rng.integers(groups)] = 0
        alpha = rng.normal(rng.normal(0, 1.5), rng.exponential(1), groups)
        y = rng.binomial(n, 1 / (1 + np.exp(-alpha)))
        if rng.random() < 0.3:
            y[rng.integers(groups)] = 0
        all_of = rng.integers(groups)
        if rng.random() < 0.3:
            y[all_of] = n[all_of]
        out.append((y, n, int(rng.integers(4))))
    return out


def distances(found: dict, y, n, prior, alpha_prior=None) -> dict[str, float]:
    """Largest differences from the exact posterior, in posterior sds."""
    exact_of = exact_posterior if len(y) <= 12 else exact_posterior_many
    more = {} if alpha_prior is None else {"alpha_prior": alpha_prior}
    exact = exact_of(y, n, sigma_prior=prior, **more)
    quantile = exact.quantile([0.055, 0.5, 0.945])
    sides = {
        "sigma": found["sigma"],
        "alpha_bar": found["alphaBar"],
        "p_bar": found["pBar"],
        "alpha": found,
        "p": found["rate"],
    }
    far = {}
    for name, mine in sides.items():
        sd = exact.sd[name].values
        far[name] = np.max(np.abs([mine["mean"] - exact.mean[name], mine["sd"] - exact.sd[name]]) / sd)
        far[f"{name}'s quantiles"] = np.max(
            np.abs(np.transpose(mine["quantiles"]) - quantile[name]) / sd
        )
    far["likelihood"] = abs(found["logMarginalLikelihood"] - exact.log_marginal_likelihood)
    return {name: float(value) for name, value in far.items()}


BATCHES = [
    pytest.param("node", 0, marks=no_node),
    *(
        pytest.param("chromium", k, marks=[needs_browser, *([pytest.mark.slow] if k else [])])
        for k in range(40)
    ),
]


@pytest.mark.parametrize(("run", "batch"), BATCHES, indirect=["run"])
def test_agrees_with_the_exact_posterior_on_two_hundred_tables(run, batch):
    some = tables(200)[5 * batch : 5 * batch + 5]
    jobs = [{"y": y.tolist(), "n": n.tolist(), "prior": PRIORS[k][0]} for y, n, k in some]
    for (y, n, k), found in zip(some, run(POSTERIOR, jobs), strict=True):
        assert "refused" not in found, found["refused"]
        far = distances(found, y, n, PRIORS[k][1])
        assert max(far.values()) < 1e-4, (len(y), far)
        assert found["error"] < 1e-4


EXTREME = [
    ([0], [0], 0, (0, 1.5)),
    ([1], [2], 3, (0, 1.5)),
    ([0, 0, 0], [5, 10, 100_000], 0, (0, 1.5)),
    ([5, 10, 100_000], [5, 10, 100_000], 0, (0, 1.5)),
    ([100_000, 0, 50_000], [100_000] * 3, 1, (0, 1.5)),
    ([1, 999_999_997], [2, 1_000_000_000], 0, (0, 1.5)),
    ([30, 7, 2], [117, 20, 2], 4, (0, 1.5)),
    ([30, 7, 2], [117, 20, 2], 0, (0, 100)),
    ([30, 7, 2], [117, 20, 2], 0, (20, 0.5)),
]


def test_extreme_tables_and_priors(run):
    jobs = [
        {"y": y, "n": n, "prior": PRIORS[k][0], "alpha": {"mean": mean, "sd": sd}}
        for y, n, k, (mean, sd) in EXTREME
    ]
    for (y, n, k, alpha), found in zip(EXTREME, run(POSTERIOR, jobs), strict=True):
        far = distances(found, y, n, PRIORS[k][1], scipy.stats.norm(*alpha))
        assert max(far.values()) < 1e-4, (y, n, far)


def test_density_of_sigma_beside_its_prior(run):
    x = np.linspace(0, 4, 41)
    jobs = [{"y": [30, 7, 2], "n": [117, 20, 2], "prior": p, "at": x.tolist()} for p, _ in PRIORS]
    for (_, prior), found in zip(PRIORS, run(POSTERIOR, jobs), strict=True):
        exact = exact_posterior([30, 7, 2], [117, 20, 2], sigma_prior=prior)
        np.testing.assert_allclose(found["sigmaDensity"][1:], exact.pdf("sigma", x[1:]), rtol=1e-4)
        np.testing.assert_allclose(found["priorDensity"], prior.pdf(x), rtol=1e-10)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"y": [3], "n": [2]}, "3 successes in 2 trials"),
        ({"y": [0.5], "n": [2]}, "whole numbers"),
        ({"y": [1, 1], "n": [2]}, "one of each per group"),
        ({"y": [1] * 501, "n": [2] * 501}, "501 groups are more than 500"),
        ({"y": [1], "n": [2], "prior": {"family": "flat"}}, "choose one of exponential"),
        ({"y": [1], "n": [2], "prior": {"family": "half-normal", "scale": -1}}, "scale"),
        ({"y": [0], "n": [2], "prior": {"family": "half-cauchy", "scale": 1}}, "lighter tail"),
        ({"y": [1], "n": [2], "alpha": {"mean": 0, "sd": 0}}, "Normal(0, 0)"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(run, job, words):
    (found,) = run(POSTERIOR, [job])
    assert words in found["refused"]
    assert found["refused"].endswith(".")


# ---------------------------------------------------------------------------------------------
# One spread after the other


def test_pool_agrees_with_given_spread(run):
    spreads = [1e-4, 0.01, 0.3, 1, 3, 30]
    sixty = np.arange(60)
    cases = [
        ([30, 7, 2], [117, 20, 2]),
        ((sixty % 12).tolist(), (12 + sixty).tolist()),
        ([0, 5], [9, 5]),
    ]
    body = """({y, n, spreads}) => {
      const at = counts.givenSpread(y, n);
      return spreads.map((sigma) => at(sigma, [0.055, 0.945]));
    }"""
    jobs = [{"y": y, "n": n, "spreads": spreads} for y, n in cases]
    for (y, n), found in zip(cases, run(body, jobs), strict=True):
        known = given_spread(y, n, spreads)

        def mine(get, found=found):
            return np.array([get(one) for one in found])

        sd = known["sd"].values
        assert (np.abs(mine(lambda one: one["mean"]) - known["mean"].values) < 1e-5 * sd).all()
        assert (np.abs(mine(lambda one: one["sd"]) - sd) < 1e-5 * sd).all()
        np.testing.assert_allclose(mine(lambda one: one["rate"]["mean"]), known["mean_p"], atol=1e-6)
        ratio = mine(lambda one: one["logLikelihood"]) - known["log_likelihood"].values
        np.testing.assert_allclose(ratio, ratio[0], atol=1e-5)
        low, high = np.moveaxis(mine(lambda one: one["quantiles"]), -1, 0)
        assert (low < known["mean"].values).all()
        assert (high > known["mean"].values).all()


def test_pooled_completely_and_mixed_over_sigma(run):
    body = """({y, n}) => {
      const at = counts.givenSpread(y, n), exact = counts.exactPosterior(y, n);
      const step = 0.02, sums = {weight: 0, mean: [0, 0, 0]};
      for (let v = -9; v < 3.5; v += step) {
        const sigma = Math.exp(v), one = at(sigma);
        const weight = Math.exp(one.logLikelihood - sigma + v) * step;
        sums.weight += weight;
        one.mean.forEach((m, j) => { sums.mean[j] += weight * m; });
      }
      return {none: at(0, [0.055, 0.5, 0.945]), sums, exact};
    }"""
    ((found),) = run(body, [{"y": [30, 7, 2], "n": [117, 20, 2]}])
    none, sums, exact = found["none"], found["sums"], found["exact"]
    # with sigma = 0 all districts are one of 39 in 139
    x = np.linspace(-3, 1, 20001)
    density = scipy.stats.binom.pmf(39, 139, 1 / (1 + np.exp(-x))) * scipy.stats.norm.pdf(x, 0, 1.5)
    density /= density.sum()
    mean = density @ x
    np.testing.assert_allclose(none["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(none["sd"], np.sqrt(density @ (x - mean) ** 2), atol=1e-6)
    ends = np.interp([0.055, 0.5, 0.945], np.cumsum(density), x)
    np.testing.assert_allclose(none["quantiles"], [ends] * 3, atol=1e-3)
    assert np.log(sums["weight"]) == pytest.approx(exact["logMarginalLikelihood"], abs=2e-4)
    np.testing.assert_allclose(np.array(sums["mean"]) / sums["weight"], exact["mean"], atol=2e-4)


# ---------------------------------------------------------------------------------------------
# Tables in text

READ = "({text, options}) => counts.readCounts(text, options)"

GOOD = [
    "district,users,women\n1,30,117\n2,7,20\n3,2,2\n",
    "district;users;women\r\n1;30;117\r\n2;7;20\r\n3;2;2",
    "\ufeffusers\twomen\tdistrict\n30\t117\t1\n7\t20\t2\n\n2\t2\t3\n",
    "district | users | women\n 1 | 30 | 117\n2|7|20\n3|2|2",
    '"district","users","women"\n"1","30","117"\n"2","7","20"\n"3","2","2"\n',
    "district,successes,failures\n1,30,87\n2,7,13\n3,2,0\n",
]


def test_tables_are_read_as_the_package_reads_them(run, tmp_path):
    jobs = [{"text": text, "options": {"file": "mine.csv"}} for text in GOOD]
    for text, found in zip(GOOD, run(READ, jobs), strict=True):
        file = tmp_path / "mine.csv"
        file.write_text(text, encoding="utf-8", newline="")
        counts = read_counts(file)
        assert (found["group"], found["successes"]) == (counts.group, counts.successes.tolist())
        assert found["trials"] == counts.trials.tolist() == [117, 20, 2]
        assert (found["called"], found["separator"]) == (counts.called, counts.separator)
        assert (found["path"] is None, found["notes"]) == (counts.path is None, list(counts.notes))


def test_text_without_names_and_names_with_commas(run):
    texts = ["1,30,117\n2,7,20", "30 117\n7   20\n", "Dhaka\t30\t117", "30;117;Dhaka", "n,y\n2,1\n",
             'site,y,n\n"Dhaka, north",1,2\n"say ""hi""\nthere",0,3']  # fmt: skip
    one, two, three, four, five, six = run(READ, [{"text": text, "options": {}} for text in texts])
    assert (one["group"], one["successes"], one["trials"]) == (["1", "2"], [30, 7], [117, 20])
    assert one["notes"]
    assert not one["header"]
    assert (two["group"], two["successes"], two["trials"]) == (["1", "2"], [30, 7], [117, 20])
    assert (three["group"], three["trials"]) == (four["group"], four["trials"]) == (["Dhaka"], [117])
    assert (five["group"], five["successes"], five["trials"]) == (["1"], [1], [2])
    assert six["group"] == ["Dhaka, north", 'say "hi"\nthere']


BAD = [
    "",
    "district,users,women\n",
    "district,users,users\n1,2,3\n",
    "district,women\na,3\n",
    "district,users,hits,women\na,1,2,3\n",
    "a,users,b,women\nx,1,y,3\n",
    "district,users,women\na,,3\n",
    "district,users,women\na,1,3\nb,NA,3\nc,NA,3\n",
    "district,users,women\na,1.5,3\n",
    "district,users,women\na,-1,3\n",
    "district,users,women\na,x,3\n",
    "district;users;women\na;1;1,000\n",
    "district,users,women\na,inf,3\n",
    "district,users,women\na,1,2000000000\n",
    "district,users,women\na,4,3\nb,5,4\n",
    "district,users,women\n,1,3\n",
    "district,users,women\na,0,0\n",
    "district,users\na,2\nb,3\n",
]


@pytest.mark.parametrize("name", ["mine.csv"])
def test_refusals_are_those_of_the_package(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = run(READ, [{"text": text, "options": {"file": name}} for text in BAD])
    for text, mine in zip(BAD, found, strict=True):
        Path(name).write_text(text, encoding="utf-8")
        with pytest.raises(CountsError) as refusal:
            read_counts(name)
        assert mine["refused"] == str(refusal.value)
        assert mine["expected"]


def test_refusals_name_row_value_and_what_was_expected(run):
    cases = [
        ("g;y;n\na;1;2\nb;0,5;2", 3, "0,5", "decimal comma"),
        ("g;y;n\na;1;2\n\nb;1;1 000", 4, "1 000", "separators of thousands"),
        ("g,y,n\na,1,2\nb,1,234,5", 3, "b,1,234,5", "separators of thousands"),
        ("a,1,2\nb,x,2", 2, "x", "whole number"),
        ("a,3,2", 1, "3 of 2", "exchanged"),
        ("g,y,n\na,1,2\na,1,3", 3, "a", "added up"),
        ('g,y,n\n"a,1,2', 2, None, "quotation mark"),
        ("1,2,3,4", 1, "1,2,3,4", "names of the columns"),
        ("5\n6", 1, "5", "names of the columns"),
        (
            "g,y,n\n" + "".join(f"{k},1,2\n" for k in range(501)),
            None,
            "501",
            "501 groups are more than 500",
        ),
    ]
    found = run(READ, [{"text": text, "options": {}} for text, *_ in cases])
    for (text, row, value, words), mine in zip(cases, found, strict=True):
        assert words in mine["refused"], text
        assert mine["expected"]
        assert row == mine["row"]
        assert value is None or mine["value"] == value
        assert row is None or f"Row {row}" in mine["refused"]


def test_rows_are_added_up_and_columns_chosen_when_asked(run):
    jobs = [
        {"text": "g,y,n\na,1,2\nb,0,3\na,1,3", "options": {"addUp": True}},
        {"text": "g,y\na,1\nb,0\na,0", "options": {"addUp": True}},
        {"text": "g,y,hits,n\na,1,2,3", "options": {"columns": {"successes": "hits"}}},
    ]
    sums, persons, chosen = run(READ, jobs)
    assert (sums["group"], sums["successes"], sums["trials"]) == (["a", "b"], [2, 0], [5, 3])
    assert sums["notes"] == ["3 rows were added up to 2 groups."]
    assert (persons["successes"], persons["trials"]) == ([1, 0], [2, 1])
    assert (chosen["successes"], chosen["trials"]) == ([2], [3])


def test_files_that_are_no_text_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = [
        b"PK\x03\x04rest",
        b"%PDF-1.7",
        b"<!DOCTYPE html>",
        b"g,y,n\na\0,1,2",
        b"g,y,n\n\xe9,1,2",
    ]
    body = '({bytes}) => counts.decode(Uint8Array.from(bytes), "mine.csv")'
    for content, mine in zip(contents, run(body, [{"bytes": list(c)} for c in contents]), strict=True):
        Path("mine.csv").write_bytes(content)
        with pytest.raises(CountsError) as refusal:
            read_counts("mine.csv")
        assert mine["refused"] == str(refusal.value)
    (text,) = run(body, [{"bytes": list("\ufeffé,1,2".encode())}])
    assert text == "é,1,2"


def test_columns_have_the_names_that_the_package_knows(run):
    (found,) = run("() => counts.columnNames", [0])
    assert found == NAMES


# ---------------------------------------------------------------------------------------------
# Words, programs, files

REPORT = """({text, options, prior}) => {
  const made = counts.report(counts.readCounts(text, options), {sigmaPrior: prior});
  const code = {};
  for (const tool of ["pymc", "bambi", "brms"]) code[tool] = counts.program(tool, made.recipe);
  const {notes, findings, form, target, health, title, population, accuracy, table} = made;
  return {notes, findings, form, target, health, title, population, accuracy, table, code,
    csv: counts.resultsCsv(made), all: counts.populationCsv(made), counts: counts.countsCsv(made.counts),
    curve: made.sigmaCurve()};
}"""

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def same_words(mine: str, theirs: str) -> bool:
    """Whether texts are equal, but for the last digit of a number."""
    if mine == theirs:
        return True
    if NUMBER.sub("#", mine) != NUMBER.sub("#", theirs):
        return False
    pairs = zip(NUMBER.findall(mine), NUMBER.findall(theirs), strict=True)
    return all(a == b or abs(float(a) - float(b)) < 1.5 * unit(a) + 0.01 * float(b) for a, b in pairs)


def unit(number: str) -> float:
    return 10.0 ** -len(number.partition(".")[2].partition("e")[0])


def reports() -> list[tuple[pd.DataFrame, int]]:
    rng = np.random.default_rng(3)
    odd = ["it's", 'say "hi"', "a\\b", "é", "日本", "x y", "tab\tx", "ü'\""]
    out = [([30, 7, 2], [117, 20, 2], None), ([5] * 7 + [0], [10, 20, 30, 40, 50, 60, 70, 0], odd)]
    for groups, low, high in ((1, 1, 200), (12, 1, 200), (70, 1, 200), (15, 500, 900), (40, 2, 4)):
        n = rng.integers(low, high, groups)
        out.append((rng.binomial(n, 1 / (1 + np.exp(-rng.normal(0, 1, groups)))), n, None))
    return [
        (
            pd.DataFrame({"site": names or [f"g{j}" for j in range(len(y))], "y": y, "n": n}),
            k % len(PRIORS),
        )
        for k, (y, n, names) in enumerate(out)
    ]


def test_words_and_programs_are_those_of_the_package(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = reports()
    jobs = [
        {"text": t.to_csv(index=False), "prior": PRIORS[k][0], "options": {"file": "mine.csv"}}
        for t, k in some
    ]
    forms = set()
    for (table, k), mine in zip(some, run(REPORT, jobs), strict=True):
        table.to_csv("mine.csv", index=False)
        theirs = your_counts("mine.csv", sigma_prior=PRIORS[k][1])
        assert (mine["form"], mine["target"]) == (theirs.form, theirs.target)
        assert (mine["notes"], mine["title"]) == (theirs.notes, theirs.title)
        assert len(mine["findings"]) == len(theirs.findings)
        for a, b in zip(mine["findings"], theirs.findings, strict=True):
            assert same_words(a, b), (a, b)
        for tool in ("pymc", "bambi", "brms"):
            assert same_words(mine["code"][tool], theirs.code(tool)), mine["code"][tool]
        assert mine["health"]["trouble"].keys() == theirs.health.trouble.keys()
        assert all(row["form"] in row["reason"] for row in mine["table"])
        forms.add(mine["form"])
        check_files(mine, table, theirs)
    assert forms == {"centered", "non-centered", "mixed"}


def check_files(mine: dict, table: pd.DataFrame, theirs) -> None:
    kept = pd.read_csv(io.StringIO(mine["csv"]), keep_default_na=False, na_values=[""])
    assert kept["site"].astype(str).tolist() == table["site"].tolist()
    for name in theirs.table:
        if name == "form":
            assert kept[name].tolist() == theirs.table[name].tolist()
        else:
            np.testing.assert_allclose(
                kept[name].to_numpy(float), theirs.table[name], rtol=2e-3, atol=2e-4
            )
    everyone = pd.read_csv(io.StringIO(mine["all"]), index_col="parameter")
    assert everyone.columns.tolist() == theirs.population.columns.tolist()
    np.testing.assert_allclose(everyone, theirs.population, rtol=2e-3, atol=2e-4)
    rows = list(csv.reader(io.StringIO(mine["counts"])))
    assert rows[0] == ["group", "successes", "trials"]
    assert [int(row[2]) for row in rows[1:]] == table["n"].tolist()
    x, prior, density = (
        np.array([row[name] for row in mine["curve"]]) for name in ("sigma", "prior", "posterior")
    )
    curve = theirs.sigma_curve
    assert x[-1] == pytest.approx(curve["sigma"].iloc[-1], rel=1e-3)
    top = curve["posterior"].max()
    np.testing.assert_allclose(
        density, np.interp(x, curve["sigma"], curve["posterior"]), atol=0.01 * top
    )
    assert (prior >= 0).all()


def test_programs_of_a_pasted_table_read_the_file_that_the_page_saves(run):
    table = pd.DataFrame({"g": range(70), "y": 1, "n": range(2, 72)})
    (mine,) = run(REPORT, [{"text": table.to_csv(index=False), "options": {}}])
    theirs = your_counts(table.astype({"g": str}))
    for tool in ("pymc", "bambi", "brms"):
        first, *rest = (line for line in mine["code"][tool].splitlines() if "counts.csv has" in line)
        assert "Save the counts" in first
        assert not rest
        assert same_words(
            mine["code"][tool].replace(first, ""),
            re.sub(r"# counts\.csv has one row.*", "", theirs.code(tool)),
        )


def test_numbers_are_written_as_python_writes_them(run):
    rng = np.random.default_rng(1)
    values = [*(10 ** rng.uniform(-12, 12, 200)), 0.0625, 0.5, 1.5, 2.5, 0.125, 1e-5, 123456.5, 1e7, 1.0]
    body = """(x) => [counts.numbers.general(x, 4), counts.numbers.general(x, 12),
      counts.numbers.fixed(x, 3), counts.numbers.fixed(x, 0)]"""
    wanted = [[f"{x:.4g}", f"{x:.12g}", f"{x:.3f}", f"{x:.0f}"] for x in values]
    assert run(body, values) == wanted
    names = [
        "a",
        "it's",
        '"',
        "'\"",
        "\\",
        "\n\t\r\x01",
        "é日本",
        "\u200b\u00a0",
        "😀",
        "\ud83d"[:0] + "x",
    ]
    body = "(x) => [counts.numbers.repr(x), counts.numbers.quoted(x)]"
    assert run(body, names) == [[repr(x), json.dumps(x)] for x in names]
