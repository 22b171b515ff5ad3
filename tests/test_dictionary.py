"""The dictionary: its code is that of scripts that run, and what it says of tools is what they said.

What R prints is asked again where R and the packages are; elsewhere what is stored is taken as it is,
and the reason is printed.
"""

import functools
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from conftest import ROOT
from test_r import WIDE, WIDEST, leaves, need_r, run

from fieldguide.data import DATA_FOLDER, load_schools, load_three_districts, question_trial, quoted
from fieldguide.dictionary import FARTHEST, MODELS, SCHOOLS, agreements, stored_means, table
from fieldguide.models.schools import LKJ_ETA, PRIORS
from fieldguide.priors import ALPHA_PRIOR, SIGMA_PRIOR, TrialPriors, prior_name
from fieldguide.reference import trial_posterior
from fieldguide.scripts import PART, script_part

SCRIPTS = ("r_dictionary.R", "dictionary.py")
IN_R = ("brms", "rstanarm", "lme4", "rstan", "posterior", "jsonlite")
PAGE = (ROOT / "book" / "dictionary.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```\{script-part\} (\S+) (\S+)$", PAGE, re.MULTILINE)
TOOLS = {"brms": 0, "rstanarm": 0, "lme4": 0, "Stan": 0, "PyMC": 1, "Bambi": 1}
"""The tools, and which of the scripts they stand in."""


def text(script):
    return (DATA_FOLDER / script).read_text(encoding="utf-8")


def seen():
    """Return what the tools said of themselves."""
    return {
        tool: said
        for script in SCRIPTS
        for tool, said in quoted(Path(script).stem)["fits"]["seen"].items()
    }


# ---------------------------------------------------------------------------------------------
# The code of the page


def test_every_piece_of_code_on_the_page_is_a_part_of_a_script():
    assert SHOWN
    for script, part in SHOWN:
        assert script_part(script, part).startswith(("```r\n", "```python\n"))
    fences = re.findall(r"^(?:```|~~~)(.+)$", PAGE, re.MULTILINE)
    assert {fence.split()[0] for fence in fences} == {"{script-part}", "{dictionary-table}"}


def test_every_model_is_there_in_every_tool_under_its_heading():
    for model in MODELS:
        for tool, which in TOOLS.items():
            heading = f"### {model.capitalize()} in {tool}"
            below = PAGE.partition(f"{heading}\n")[2].partition("\n#")[0]
            assert f"{{script-part}} {SCRIPTS[which]} {model}_{tool.lower()}\n" in below, heading


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_no_part_that_nobody_sees_and_no_line_too_wide(script):
    parts = {part: code for part, _, code in PART.findall(text(script))}
    assert set(parts) == {part for name, part in SHOWN if name == script}
    marks = re.findall(r"^# \[(\w+)(?:: [\w, ]+)?\]$", text(script), re.MULTILINE)
    assert len(marks) == 2 * len(parts)
    assert [line for code in parts.values() for line in code.splitlines() if len(line) > WIDEST] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_stored_was_printed_by_the_script_as_it_is(script):
    lines = [line for line in text(script).splitlines() if line.strip()]
    code = "".join(f"{line}\n" for line in lines if not line.lstrip().startswith("#"))
    stored = quoted(Path(script).stem)
    assert stored["code"] == hashlib.md5(code.encode()).hexdigest(), f"run {stored['made_with']} again"
    assert not stored["made_with"].endswith("quick")


def test_a_part_names_the_versions_it_was_run_with():
    ran = {script: quoted(Path(script).stem)["fits"]["versions"] for script in SCRIPTS}
    said = {part: script_part(script, part).rpartition("\n\n")[2] for script, part in SHOWN}
    for part, package in (("trial_brms", "brms"), ("trial_stan", "rstan"), ("districts_lme4", "lme4")):
        assert said[part].endswith(
            f"run with {package} {ran[SCRIPTS[0]][package]} in R {ran[SCRIPTS[0]]['R']}."
        )
    python = f"in Python {ran[SCRIPTS[1]]['Python']}."
    by = ", ".join(f"{name} {ran[SCRIPTS[1]][name]}" for name in ("pymc", "bambi", "nutpie"))
    assert said["trial_bambi"].endswith(f"run with {by} {python}")  # the last is what sampled
    assert script_part(SCRIPTS[0], "schools").endswith(f"run in R {ran[SCRIPTS[0]]['R']}.")


def test_the_scripts_have_the_books_data_and_priors():
    districts, trial = load_three_districts(), question_trial()
    for script in SCRIPTS:
        for name in ("users", "women"):
            typed = set(re.findall(rf'{name}"?(?: =|:) (?:c\(|\[)([\d, ]+)[\])]', text(script)))
            assert typed == {", ".join(map(str, districts[name]))}, (script, name)
        successes = [*trial["control"], *trial["treated"]]
        assert ", ".join(str(int(y)) for y in successes) in text(script)
        assert f"[1:{SCHOOLS}]" in text(script) or f"[:{SCHOOLS}]" in text(script)
    asked = TrialPriors()
    for prior, words in (
        (ALPHA_PRIOR, "normal(0, 1.5)"),
        (SIGMA_PRIOR, "exponential(1)"),
        (asked.intercept, "normal(-1, 1)"),
        (asked.effect, "normal(0, 1)"),
        (asked.sd, "normal(0, 0.5)"),
        (PRIORS["sd_prior"], "normal(0, 5)"),
        (PRIORS["sigma_prior"], "normal(0, 10)"),
    ):
        cut = prior_name(prior).replace("HalfNormal(", "Normal(0, ")
        assert cut.lower() == words
        assert words in text(SCRIPTS[0])
    for eta in (asked.lkj_eta, LKJ_ETA):
        assert f"prior(lkj({eta:g}), class = cor)" in text(SCRIPTS[0])
        assert f"L ~ lkj_corr_cholesky({eta:g});" in text(SCRIPTS[0])
    assert PRIORS["fixed_prior"] == (0.0, 20.0)


# ---------------------------------------------------------------------------------------------
# One answer


@pytest.mark.parametrize("model", MODELS)
def test_the_samplers_agree_with_the_exact_answer(model):
    rows = {row.heading: row for row in agreements(model)}
    gaps = {heading: row.gap for heading, row in rows.items() if row.gap is not None}
    expected = {"districts": set(TOOLS) - {"lme4"}}.get(
        model, {"PyMC", "brms", "Stan", "Bambi, uncorrelated"}
    )
    assert set(gaps) == expected
    assert max(gaps.values()) < FARTHEST, gaps
    shown = table(model)
    assert [row[0] for row in shown["rows"]] == list(rows)
    for heading, means in stored_means(model).items():
        (row,) = (row for row in rows.values() if row.heading.partition(",")[0] == heading)
        assert row.means == {parameter: value["mean"] for parameter, value in means.items()}
    for row in shown["rows"]:
        means = [rows[row[0]].means.get(parameter) for parameter in MODELS[model].parameters]
        assert row[1:-1] == ["–" if mean is None else f"{mean:.2f}" for mean in means]


def test_a_mean_that_is_another_one_stops_the_table(monkeypatch):
    wrong = stored_means("districts")
    wrong["brms"]["sigma"]["mean"] += 10 * wrong["brms"]["sigma"]["mcse"]
    monkeypatch.setattr("fieldguide.dictionary.stored_means", lambda name: wrong)
    with pytest.raises(ValueError, match="brms: a mean of the districts is"):
        table("districts")


def test_rstanarms_own_prior_is_the_one_that_the_page_describes():
    """Its answer for the trial is the exact one, weighted from a wide prior on the sds to this one."""
    wide = scipy.stats.halfnorm(scale=1.5)
    points = trial_posterior(question_trial(), TrialPriors(sd=wide), log2_points=11).points
    a, b = points["sd_intercept"], points["sd_effect"]
    # the sds are sqrt(2 share) and sqrt(2 (1 - share)) times an exponential scale; share is uniform
    size = np.hypot(a, b)
    decov = scipy.stats.expon(scale=0.4).pdf(size / np.sqrt(2)) * np.sqrt(2) * a * b / size**3
    weight = points["weight"] * decov / (wide.pdf(a) * wide.pdf(b))
    weight /= weight.sum()
    assert 1 / (weight**2).sum() > 2000
    held(
        "scaled to about the same prior mean",
        abs(0.4 * np.sqrt(2) * 2 / 3 / TrialPriors().sd.mean() - 1) < 0.1,
    )
    found = stored_means("trial")["rstanarm"]
    for parameter, value in found.items():
        mean = float((weight * points[parameter]).sum())
        error = float(np.sqrt((weight**2 * (points[parameter] - mean) ** 2).sum()))
        assert abs(value["mean"] - mean) < 4 * np.hypot(value["mcse"], error), parameter


def test_rstanarms_prior_matters_little_in_the_schools():
    means = stored_means("schools")
    off = [
        abs(means["rstanarm"][name]["mean"] - of["mean"]) / of["sd"]
        for name, of in means["brms"].items()
    ]
    held("it moves no mean by half a posterior standard deviation", max(off) < 0.5)


def test_lme4s_districts_are_the_highest_likelihood():
    """At a spread of zero, where all districts share one rate."""
    found, districts = stored_means("districts")["lme4"], load_three_districts()
    rate = districts["users"].sum() / districts["women"].sum()
    assert found["sigma"]["mean"] == 0
    assert found["alpha_bar"]["mean"] == pytest.approx(np.log(rate / (1 - rate)), abs=1e-4)
    fits = quoted("r_dictionary")["fits"]["means"]
    assert fits["districts"]["lme4"]["singular"]
    assert fits["trial"]["lme4"]["singular"]
    assert abs(fits["trial"]["lme4"]["means"]["corr"]["mean"]) == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------------------------------------
# What the page says of the tools


def held(words, condition):
    """Assert that the page has these words, and that the tools said what they rest on."""
    assert words in re.sub(r"\s+", " ", PAGE), words
    assert condition, words


def test_what_the_page_says_of_brms_was_seen_in_brms():
    brms = seen()["brms"]
    centred = "real b_Intercept = Intercept - dot_product(means_X, b);" in brms["trial"]
    held(
        "Belongs to centred predictors. What is reported, `b_Intercept`, is the intercept at zero",
        centred,
    )
    held(
        "For a prior there, write `0 + Intercept`",
        "lprior += normal_lpdf(b[1] | -1, 1);" in brms["at_zero"],
    )
    assert not any("means_X" in line for line in brms["at_zero"])
    held("A normal prior on an sd is cut at zero", "- 2 * normal_lccdf(0 | 0, 0.5);" in brms["trial"])
    held(
        "an sd has `student_t(3, 0, 2.5)` and a correlation `lkj(1)`",
        (brms["priors"]["sd"], brms["priors"]["cor"]) == ("student_t(3, 0, 2.5)", "lkj(1)"),
    )
    held("has `r_1_1 = (sd_1[1] * (z_1[1]));`", "r_1_1 = (sd_1[1] * (z_1[1]));" in brms["districts"])
    assert "r_1 = scale_r_cor(z_1, sd_1, L_1);" in brms["trial"]  # correlated, unless asked otherwise
    held(
        "0.8, and a depth of 10. `max_treedepth`",
        brms["control"] == {"adapt_delta": 0.8, "max_treedepth": 10},
    )
    held("such as `sd_district__Intercept`", "sd_district__Intercept" in brms["names"])


def test_what_the_page_says_of_rstanarm_was_seen_in_rstanarm():
    rstanarm = seen()["rstanarm"]
    held("`prior_summary` says so", rstanarm["intercept"] == ["Intercept (after predictors centered)"])
    held(
        "`(Intercept)`, is at zero",
        "if (dense_X) alpha[1] = gamma[1] - dot_product(xbar, beta);" in rstanarm["code"],
    )
    held("`b = make_b(z_b, theta_L, p, l);`", "b = make_b(z_b, theta_L, p, l);" in rstanarm["code"])
    held("0.95, and a depth of 15.", rstanarm["control"] == {"adapt_delta": 0.95, "max_treedepth": 15})
    covariance = rstanarm["defaults"]["prior_covariance"]
    held(
        "an exponential, as it stands here, which is also the default",
        (covariance["dist"], covariance["shape"], covariance["scale"]) == ("decov", 1, 1),
    )
    held("in units of the residual sd", rstanarm["scaled"][1].startswith("aux, tau, scale"))
    held("`Sigma` holds variances", "Sigma[district:(Intercept),(Intercept)]" in rstanarm["names"])


def test_what_the_page_says_of_lme4_and_stan_was_seen_in_them():
    lme4, stan = seen()["lme4"], seen()["Stan"]
    held("(`nAGQ` is 1: Laplace's method", lme4["nAGQ"] == 1)
    held("refused for two varying terms", lme4["refused"].startswith("nAGQ > 1 is only available"))
    held("restricted maximum likelihood by default (`REML`)", lme4["REML"] is True)
    held(
        "In rstan 0.8, and a depth of 10.", stan["control"] == {"adapt_delta": 0.8, "max_treedepth": 10}
    )


def test_what_the_page_says_of_pymc_and_bambi_was_seen_in_them():
    pymc, bambi = seen()["PyMC"], seen()["Bambi"]
    held("0.8, and a depth of 10, both in its own sampler", pymc["target_accept"] == 0.8)
    assert pymc["max_treedepth"] == 10
    held("Without `chains` it runs as many as suit the machine", pymc["chains"] is None)
    held("and in nutpie (`maxdepth`)", seen()["nutpie"] == {"target_accept": 0.8, "maxdepth": 10})
    held(
        "takes nutpie where that is installed",
        (pymc["nuts_sampler"], pymc["sampled_by"]) == (None, "nutpie"),
    )
    held("As PyMC, to which it hands the model", bambi["inference_method"] == "pymc")
    held("by default (`center_predictors`)", bambi["center_predictors"] is True)
    held("`noncentered` is on by default", bambi["noncentered"] is True)
    held(
        "builds independent ones",
        {name for name in bambi["trial"] if not name.endswith("_offset")}
        == {"Intercept", "intervention", "1|site_sigma", "intervention|site_sigma"},
    )
    held("is called `1|district_sigma`", "1|district_sigma" in bambi["names"])


def test_the_versions_of_python_are_those_of_the_environment():
    from importlib import metadata

    ran = dict(quoted("dictionary")["fits"]["versions"])
    ran.pop("Python")
    assert ran == {name: metadata.version(name) for name in ran}


# ---------------------------------------------------------------------------------------------
# Run again


@functools.cache
def fresh():
    return run("r_dictionary.R", "quick")


@pytest.mark.slow
def test_r_still_gives_the_stored_means():
    need_r(*IN_R)
    stored, again = quoted("r_dictionary")["fits"], fresh()["fits"]
    asked = {
        "districts": {"lme4", "rstanarm", "Stan"},
        "trial": {"lme4", "rstanarm"},
        "schools": {"lme4"},
    }
    for model, tools in asked.items():
        assert set(again["means"][model]) == tools
        for tool in tools:
            means = stored["means"][model][tool]["means"]
            for parameter, new in again["means"][model][tool]["means"].items():
                old = means[parameter]
                if "mcse" in new:
                    limit = WIDE * np.hypot(old["mcse"], new["mcse"])
                else:
                    limit = 2e-3
                assert abs(new["mean"] - old["mean"]) < limit, (model, tool, parameter)


@pytest.mark.slow
def test_rs_tools_still_say_of_themselves_what_is_stored():
    need_r(*IN_R)
    stored, again = quoted("r_dictionary")["fits"], fresh()["fits"]
    if again["versions"] != stored["versions"]:
        pytest.skip(f"R is here in other versions: {again['versions']}")
    said = dict(leaves(stored["seen"]))
    for path, value in leaves(again["seen"]):
        assert said[path] == (pytest.approx(value) if isinstance(value, float) else value), path
    assert {path[0] for path, _ in leaves(again["seen"])} == {"brms", "rstanarm", "lme4", "Stan"}


def run_part(name, place, settings="chains=4, random_seed=2"):
    """Run a part of the script in Python, as a reader would paste it but for the seed."""
    code = {part: code for part, _, code in PART.findall(text("dictionary.py"))}[name]
    code = code.replace("chains=4", "progressbar=False").replace("random_seed=1", settings)
    exec(compile(code.replace("data/", f"{DATA_FOLDER.as_posix()}/"), name, "exec"), place)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pymc", "bambi"])
@pytest.mark.parametrize("model", ["districts", "trial"])
@pytest.mark.filterwarnings("ignore")
def test_the_parts_in_python_run_and_give_the_exact_answer(tool, model):
    place = {}
    run_part(model, place)
    run_part(f"{model}_{tool}", place)
    if model == "districts":
        run_part(f"read_{tool}", place)
    stored = stored_means(model)[{"pymc": "PyMC", "bambi": "Bambi"}[tool]]
    draws = place["fit"].posterior
    of_bambi = {
        "districts": {"alpha_bar": "Intercept", "sigma": "1|district_sigma"},
        "trial": {"effect": "intervention", "sd_effect": "intervention|site_sigma"},
    }[model]
    for parameter, in_bambi in of_bambi.items():
        mean = float(draws[in_bambi if tool == "bambi" else parameter].mean())
        limit = WIDE * np.sqrt(2) * stored[parameter]["mcse"]
        assert abs(mean - stored[parameter]["mean"]) < limit, parameter


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pymc", "bambi"])
@pytest.mark.filterwarnings("ignore")
def test_the_parts_of_the_schools_run(tool):
    """With a few draws; the script took all of them."""
    place = {}
    run_part("schools", place)
    run_part(f"schools_{tool}", place, "tune=20, draws=20, chains=1")
    model = place["model"] if tool == "pymc" else place["model"].backend.model
    (observed,) = model.observed_RVs
    schools = load_schools()["school"]
    assert observed.eval().shape == (int(schools.isin(schools.unique()[:SCHOOLS]).sum()),)
    assert place["fit"].posterior.sizes["draw"] == 20
