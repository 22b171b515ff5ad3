"""What R prints is what is stored: the scripts in data/ run again, where R and the packages are here.

Where they are not, the figures quoted from R are taken as they are, and the reason is printed.
"""

import functools
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from fieldguide.data import DATA_FOLDER, load_three_districts, question_trial, quoted

SCHOOLS = ("lme4", "blme", "jsonlite", "RLRsim", "lmerTest", "pbkrtest", "brms")
TRIAL = ("brms", "rstan", "jsonlite", "posterior")


def need_r(*packages):
    """Skip, and say why, where R or one of the packages is missing."""
    if shutil.which("Rscript") is None:
        pytest.skip("Rscript is not installed; the figures quoted from R are taken as they are")
    listed = ", ".join(f"'{name}'" for name in packages)
    probe = f"cat(setdiff(c({listed}), rownames(installed.packages())))"
    missing = subprocess.run(["Rscript", "-e", probe], capture_output=True, text=True, check=True).stdout
    if missing:
        pytest.skip(f"R is here without {missing}; the figures quoted from it are taken as they are")


def run(script, *arguments):
    """Return what a script of the data folder prints, run from the project's root."""
    done = subprocess.run(
        ["Rscript", f"data/{script}", *arguments],
        cwd=DATA_FOLDER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@functools.cache
def fresh_schools():
    return run("r_schools.R")


@functools.cache
def fresh_trial():
    return run("r_trial.R", "quick")


# ---------------------------------------------------------------------------------------------
# The schools: point estimates, to the digits that an optimiser leaves


@pytest.mark.slow
def test_r_still_prints_the_quoted_figures():
    need_r(*SCHOOLS)
    fits, fresh = quoted("r_schools")["fits"], fresh_schools()
    for name, stored in fits.items():
        if name == "districts":
            assert fresh[name] == pytest.approx(stored, abs=1e-4)
        if "tight" not in stored and "evaluations" not in stored:
            continue
        if name == "blmer_default_call" and fresh["versions"]["blme"] != fits["versions"]["blme"]:
            continue  # another version may have mended its default call
        stored, again = stored.get("tight", stored), fresh[name].get("tight", fresh[name])
        if isinstance(stored["fixed"], dict):
            continue  # the reply, held by the test below
        np.testing.assert_allclose(again["fixed"], stored["fixed"], atol=2e-5)
        np.testing.assert_allclose(again["se"], stored["se"], atol=2e-5)
        for key in ("sd_intercept", "sd_slope", "correlation", "sd_residual"):
            assert again[key] == pytest.approx(stored[key], abs=2e-4), (name, key)


PLACES = {"p": 2e-3, "statistic": 2e-3, "df": 0.1, "df of Kenward-Roger": 2.0}
"""How far a figure may move, by its name; others by 2e-4 and one part in 5000."""


def leaves(value, path=()):
    """Yield every number, word and truth value of nested tables with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, (*path, place))
    else:
        yield path, value


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["runs", "reply", "reduced", "tests", "rePCA", "within", "df", "priors", "factor", "bayes"]
)
def test_r_still_says_of_the_schools_what_is_stored(part):
    need_r(*SCHOOLS)
    stored, fresh = quoted("r_schools")["fits"], fresh_schools()
    if fresh["versions"] != stored["versions"]:
        pytest.skip(f"R is here in other versions: {fresh['versions']}; messages and stops may differ")
    expected, found = dict(leaves(stored[part])), dict(leaves(fresh[part]))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        if isinstance(value, float) and path[-1] not in ("Pr(>|t|)", "evaluations"):
            places = PLACES.get(path[-1], 2e-4)
            assert found[path] == pytest.approx(value, rel=5e-3, abs=places), path
        elif isinstance(value, str):  # digits in a message are those of an optimiser's last step
            assert re.sub(r"[\d.]+", "0", found[path]) == re.sub(r"[\d.]+", "0", value), path
        elif isinstance(value, bool):
            assert found[path] is value, path


# ---------------------------------------------------------------------------------------------
# The trial and the districts: the same draws where versions are the same, and anyway the same answer

WIDE = 5
"""Monte Carlo errors, of two fits together, that two means of one posterior may lie apart."""


def alike(row, other):
    """Whether the means of two fits of one posterior agree within Monte Carlo error."""
    names = [name.removeprefix("mean:") for name in row if name.startswith("mean:")]
    gaps = {
        name: abs(row[f"mean:{name}"] - other[f"mean:{name}"])
        / np.hypot(row[f"mcse:{name}"], other[f"mcse:{name}"])
        for name in names
    }
    assert names
    assert max(gaps.values()) < WIDE, gaps


def cell(row):
    """Return which fit a row is of."""
    return tuple(
        row[name]
        for name in ("data", "layout", "form", "multiply", "sd_scale", "adapt_delta", "seed")
        if name in row
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["brms", "districts"])
def test_stan_still_gives_the_stored_answer(part):
    need_r(*TRIAL)
    fits, fresh = quoted("r_trial")["fits"], fresh_trial()
    stored = {cell(row): row for row in fits[part]}
    assert fresh[part]
    for row in fresh[part]:
        if row.get("form") != "centered":  # whose chains get stuck, so that its errors are not known
            alike(row, stored[cell(row)])


@pytest.mark.slow
def test_the_centered_form_still_diverges_more_in_stan():
    need_r(*TRIAL)
    count = {(row["form"], row["adapt_delta"]): row["divergences"] for row in fresh_trial()["districts"]}
    for delta in (0.8, 0.99):
        assert count["centered", delta] > count["non-centered", delta]


@pytest.mark.slow
def test_the_parts_of_the_script_still_give_the_stored_answers():
    need_r(*TRIAL)
    fits, fresh = quoted("r_trial")["fits"], fresh_trial()
    assert fresh["counts"] == fits["counts"]
    assert fresh["generator"] == fits["generator"]
    for kind, on_probability in (("average", "risk_difference"), ("sites", "difference")):
        for path, value in leaves(fits["reply"][kind]):
            again = dict(leaves(fresh["reply"][kind]))[path]
            assert again == pytest.approx(value, abs=0.01 if path[0] == on_probability else 0.08), path


# ---------------------------------------------------------------------------------------------
# What is stored holds together, R or no R


def test_r_was_given_the_books_own_data():
    counts = quoted("r_trial")["fits"]["counts"]
    trial = question_trial()
    assert counts["question"] == {
        site: [int(row["control"]), int(row["treated"])] for site, row in trial.iterrows()
    }
    script = (DATA_FOLDER / "r_trial.R").read_text(encoding="utf-8")
    districts = load_three_districts()
    for name in ("users", "women"):
        (typed,) = re.findall(rf"{name} = c\(([\d, ]+)\)", script)
        assert list(map(int, typed.split(","))) == districts[name].tolist()


def test_the_generator_of_the_question_never_lets_a_treated_participant_of_site_d_succeed():
    generator = quoted("r_trial")["fits"]["generator"]
    assert generator["trials"] == 1000
    assert generator["successes_of_treated_at_D"] == 0
    assert generator["refused_by_the_check"] is True


def test_both_layouts_have_one_posterior_in_stan():
    rows = {cell(row): row for row in quoted("r_trial")["fits"]["brms"]}
    pairs = [(key, (key[0], "counts", *key[2:])) for key in rows if key[1] == "rows"]
    assert len(pairs) >= 12
    for people, counts in pairs:
        alike(rows[people], rows[counts])


def test_the_non_centered_form_gives_one_answer_with_every_seed_and_step_size():
    rows = quoted("r_trial")["fits"]["districts"]
    quiet = [row for row in rows if row["form"] == "non-centered"]
    for row in quiet[1:]:
        alike(quiet[0], row)


def test_the_design_of_rs_fits_is_the_one_that_was_promised():
    fits = quoted("r_trial")["fits"]
    at = {name: {row[name] for row in fits["brms"]} for name in fits["brms"][0]}
    assert at["layout"] == {"counts", "rows"}
    assert at["multiply"] == {1, 4, 16}
    assert at["sd_scale"] == {0.2, 0.5, 1}
    assert at["adapt_delta"] == {0.8, 0.9, 0.95, 0.99}
    assert at["data"] == {"question", "1", "2", "3", "4", "5"}
    districts = fits["districts"]
    for form in ("centered", "non-centered"):
        for delta in at["adapt_delta"]:
            seeds = [r["seed"] for r in districts if (r["form"], r["adapt_delta"]) == (form, delta)]
            assert len(set(seeds)) == len(seeds) >= 6


def test_the_reply_for_the_schools_is_off_the_wall_and_the_question_on_it():
    fits = quoted("r_schools")["fits"]
    assert not fits["reply"]["singular"]
    assert {name: run["singular"] for name, run in fits["runs"].items()} == {
        "default": False, "bobyqa": True, "Nelder_Mead": True, "tight": True, "nlminbwrap": True,
    }  # fmt: skip
    assert fits["priors"]["gamma(shape = 2.5, rate = 0)"]["singular"]
    assert "ignored" in fits["priors"]["gamma(shape = 2.5, rate = 0)"]["said"][0]


# ---------------------------------------------------------------------------------------------
# Varying slopes


PUBLISHED_SLOPES = {
    "urban_slope": {
        "fixed": {"(Intercept)": -0.71772, "urban": 0.74118},
        "se": {"(Intercept)": 0.10276, "urban": 0.16824},
        "sd_intercept": 0.59395, "sd_slope": 0.81626, "correlation": -0.81651, "logLik": -1243.42509,
    },
    "full": {
        "fixed": {
            "(Intercept)": -1.71165, "urban": 0.81505, "age": -0.02652,
            "livch1": 1.12555, "livch2": 1.36823, "livch3+": 1.35468,
        },
        "se": {
            "(Intercept)": 0.15962, "urban": 0.16971, "age": 0.00800,
            "livch1": 0.15990, "livch2": 0.17684, "livch3+": 0.18240,
        },
        "sd_intercept": 0.61738, "sd_slope": 0.80109, "correlation": -0.79825, "logLik": -1199.50842,
    },
}  # fmt: skip
"""lme4's figures as they are published with the data, from another run of it."""


@pytest.mark.parametrize("fit", PUBLISHED_SLOPES)
def test_lme4_on_the_survey_is_as_published(fit):
    found = dict(leaves(quoted("r_slopes")["fits"][fit]))
    for path, value in leaves(PUBLISHED_SLOPES[fit]):
        assert found[path] == pytest.approx(value, abs=2e-4), path


@pytest.mark.slow
def test_r_still_prints_the_quoted_figures_of_the_slopes():
    need_r("lme4", "brms", "jsonlite", "posterior")
    stored, fresh = quoted("r_slopes")["fits"], run("r_slopes.R")
    expected, found = dict(leaves(stored)), dict(leaves(fresh))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        if path[0] not in ("versions", "brms") and path[:2] != ("average", "brms"):
            if isinstance(value, float):
                assert found[path] == pytest.approx(value, rel=1e-3, abs=5e-4), path
    assert fresh["average"]["brms"]["mean"] == pytest.approx(stored["average"]["brms"]["mean"], abs=4e-3)
    for name, row in stored["brms"]["posterior"].items():
        again = fresh["brms"]["posterior"][name]
        assert abs(again["mean"] - row["mean"]) < WIDE * np.hypot(again["mcse"], row["mcse"]), name


PARTS = {
    "r_trial.R": {"reply", "average", "covariate", "sites", "generator", "priors", "versions"},
    "r_schools.R": {"reply", "reduced", "rePCA", "within", "df", "priors", "factor", "bayes"},
    "r_slopes.R": {"lme4", "counts", "brms", "average", "interval"},
}


WIDEST = 76
"""Characters of a line of R that a page shows without breaking it."""


@pytest.mark.parametrize("name", PARTS)
def test_no_line_of_a_script_belongs_to_two_parts(name):
    text = (DATA_FOLDER / name).read_text(encoding="utf-8")
    marks = re.findall(r"^# \[(\w+)(?:: [\w, ]+)?\]$", text, re.MULTILINE)
    assert marks[1::2] == ["end"] * (len(marks) // 2)
    assert "end" not in marks[::2]
    assert PARTS[name] <= set(marks)
    assert len(set(marks[::2])) == len(marks[::2])


@pytest.mark.parametrize("name", PARTS)
def test_the_lines_that_a_page_shows_of_a_script_fit_its_column(name):
    text = (DATA_FOLDER / name).read_text(encoding="utf-8")
    shown = re.findall(r"^# \[[^\n]+\]\n(.*?)\n# \[end\]$", text, re.MULTILINE | re.DOTALL)
    assert len(shown) >= len(PARTS[name])
    assert [line for part in shown for line in part.splitlines() if len(line) > WIDEST] == []
