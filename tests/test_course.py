"""Data of one's own: keyed, stable, tried; and verdicts that know Monte Carlo error."""

import json
import re

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.stats
import xarray as xr
from conftest import ROOT

from fieldguide.course import (
    CourseError,
    enrolled,
    fault_of,
    personal_districts,
    personal_fit,
    personal_schools,
    personal_trial,
    student_token,
)
from fieldguide.course.faults import FAULTS, faulty_fit
from fieldguide.course.grading import judge_districts, judge_form
from fieldguide.course.personal import KEY, TOKEN_FILE, _draw, admissible, three_districts
from fieldguide.data import load_schools, stored
from fieldguide.models import parameterization_of, varying_intercept_model
from fieldguide.reference import exact_posterior

COURSE, SECRET = "bayes-2027", "correct horse battery staple"
STUDENTS = [f"student {k}" for k in range(300)]
PERSONAL = {
    "districts": personal_districts,
    "trial": personal_trial,
    "schools": personal_schools,
    "fit": personal_fit,
}


@pytest.fixture(autouse=True)
def nobody_has_the_key(monkeypatch, tmp_path):
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------------------------------------
# Who draws


def test_a_token_follows_from_the_key_the_course_and_the_student_alone():
    token = student_token("Ada ", COURSE, SECRET)
    assert token == student_token("ada", COURSE, SECRET)
    others = {
        student_token("bob", COURSE, SECRET),
        student_token("ada", "bayes-2028", SECRET),
        student_token("ada", COURSE, SECRET + "r"),
    }
    assert len(others | {token}) == 4


def test_a_course_and_a_student_are_not_run_together():
    assert student_token("ab", "c-2027", SECRET)[:32] != student_token("b", "c-2027a", SECRET)[:32]


@pytest.mark.parametrize("what", ["districts", "trial", "schools"])
def test_the_key_a_token_and_the_file_give_the_same_data(what, monkeypatch, tmp_path):
    token = student_token("ada", COURSE, SECRET)
    by_token = PERSONAL[what]("ada", COURSE, token=token)
    (tmp_path / TOKEN_FILE).write_text(json.dumps({"token": token}))
    pd.testing.assert_frame_equal(PERSONAL[what]("ada", COURSE), by_token)
    (tmp_path / TOKEN_FILE).unlink()
    monkeypatch.setenv(KEY, SECRET)
    pd.testing.assert_frame_equal(PERSONAL[what]("ada", COURSE), by_token)


def test_without_a_token_nothing_is_drawn_and_the_remedy_is_named():
    with pytest.raises(CourseError, match=rf"no {TOKEN_FILE} in this folder.*Instructors set {KEY}"):
        personal_districts("ada", COURSE)


def test_a_token_of_another_student_or_with_a_typing_error_is_refused():
    token = student_token("ada", COURSE, SECRET)
    for wrong in (student_token("bob", COURSE, SECRET), token[:-1] + "x", token[:5], "", token.upper()):
        with pytest.raises(CourseError, match="not that of 'ada'"):
            personal_districts("ada", COURSE, token=wrong)


def test_a_damaged_file_and_a_short_key_are_named(tmp_path):
    (tmp_path / TOKEN_FILE).write_text("{")
    with pytest.raises(CourseError, match=rf"{TOKEN_FILE}: no token can be read"):
        personal_districts("ada", COURSE)
    with pytest.raises(CourseError, match="has 5 characters; it needs 16"):
        student_token("ada", COURSE, "short")
    with pytest.raises(CourseError, match="names that are not empty"):
        student_token(" ", COURSE, SECRET)


def test_a_pick_that_goes_moves_only_those_who_had_it():
    tokens = [student_token(name, COURSE, SECRET).encode() for name in STUDENTS]
    picks = [f"pick {k}" for k in range(40)]
    before = [picks[_draw(token, "x", picks)] for token in tokens]
    fewer = [pick for pick in picks if pick != "pick 7"]
    after = [fewer[_draw(token, "x", fewer)] for token in tokens]
    moved = [a for a, b in zip(before, after, strict=True) if a != b]
    assert moved
    assert set(moved) == {"pick 7"}


def test_picks_are_drawn_evenly_and_without_relation_to_one_another():
    tokens = [student_token(name, COURSE, SECRET).encode() for name in STUDENTS]
    picks = list(range(10))
    drawn = {what: [_draw(token, what, picks) for token in tokens] for what in ("districts", "trial")}
    for places in drawn.values():
        assert scipy.stats.chisquare(np.bincount(places, minlength=10)).pvalue > 1e-4
    together = pd.crosstab(*drawn.values())
    assert scipy.stats.chi2_contingency(together).pvalue > 1e-4


# ---------------------------------------------------------------------------------------------
# What is drawn


def test_every_pick_that_can_be_drawn_was_tried_and_does_what_was_said():
    districts = admissible("districts")
    assert len(districts) >= 200
    assert (districts["centered"] >= 20).all()
    assert (districts["non_centered"] <= 0).all()
    assert (districts["rhat"] <= 1.01).all()
    trial = admissible("trial")
    assert len(trial) >= 100
    assert (trial["centered"] >= 20).all()
    assert (trial["non_centered"] <= 5).all()
    assert (admissible("schools")["correlation"].abs() > 0.999).all()
    assert len(admissible("schools")) >= 100
    assert set(admissible("fit")["fault"]) == set(FAULTS)


@pytest.mark.parametrize("what", PERSONAL)
def test_not_everything_that_was_tried_can_be_drawn(what):
    table = stored(f"personal_{what}").table
    assert 0 < table["admissible"].sum() <= len(table)
    assert table["pick"].is_unique


def test_sizes_of_the_districts_lie_widely_apart():
    for pick in admissible("districts")["pick"]:
        women = three_districts(pick)["women"].to_numpy()
        assert (women[:-1] >= 3 * women[1:]).all()


def test_schools_are_whole_schools():
    table = personal_schools("ada", COURSE, token=student_token("ada", COURSE, SECRET))
    every = load_schools()
    assert table["school"].nunique() == 60
    assert len(table) == every["school"].isin(table["school"].unique()).sum()


def test_a_saved_fit_does_not_say_what_is_wrong_with_it(tmp_path):
    fit = personal_fit("ada", COURSE, key=SECRET)
    fit.to_zarr(tmp_path / "fit.zarr", zarr_format=2, consolidated=False)
    files = [path for path in (tmp_path / "fit.zarr").rglob(".z*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert b"alpha_bar" in b"".join(str(path).encode() for path in files)
    for word in (*FAULTS, "HalfNormal", "centered", "parameterization"):
        assert word.encode() not in written
    assert set(fit["posterior"].data_vars) == {"alpha_bar", "sigma", "alpha"}


def test_only_the_key_says_what_is_wrong_with_a_saved_fit(monkeypatch):
    with pytest.raises(CourseError, match="Only the instructor can draw a fit"):
        personal_fit("ada", COURSE)
    monkeypatch.setenv(KEY, SECRET)
    faults = {name: fault_of(name, COURSE) for name in STUDENTS}
    assert {one["fault"] for one in faults.values()} == set(FAULTS)
    assert all((one["odd_chain"] is not None) == (one["fault"] == "mixed") for one in faults.values())
    other = [fault_of(name, COURSE, key=SECRET + "r")["fault"] for name in STUDENTS]
    assert other != [one["fault"] for one in faults.values()]


def test_the_odd_chain_is_the_one_that_stands_apart():
    mixed = next(name for name in STUDENTS if fault_of(name, COURSE, key=SECRET)["fault"] == "mixed")
    means = personal_fit(mixed, COURSE, key=SECRET)["posterior"]["sigma"].mean("draw").values
    apart = int(np.abs(means - np.median(means)).argmax())
    assert apart == fault_of(mixed, COURSE, key=SECRET)["odd_chain"]


def test_a_student_is_who_the_file_says(tmp_path):
    (tmp_path / TOKEN_FILE).write_text(json.dumps({"student": "ada", "course": COURSE}))
    assert enrolled() == ("ada", COURSE)
    (tmp_path / TOKEN_FILE).unlink()
    with pytest.raises(CourseError, match="nothing says who you are"):
        enrolled()


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="no fault 'nothing'; there are neck"):
        faulty_fit("nothing", 1)


# ---------------------------------------------------------------------------------------------
# Verdicts on draws

EXPONENTIAL = scipy.stats.expon()
COUNTS = three_districts("14-10-49")


def sampled(counts=COUNTS, prior=EXPONENTIAL, form="non-centered", seed=1, target=0.99, **settings):
    model = varying_intercept_model(
        counts["users"].to_numpy(),
        counts["women"].to_numpy(),
        parameterization=form,
        sigma_prior=prior,
        district=list(counts.index),
    )
    run = {"draws": 1500, "tune": 1000, "chains": 4, "cores": 1, "progressbar": False} | settings
    with model:
        return pm.sample(
            nuts_sampler="nutpie",
            target_accept=target,
            random_seed=seed,
            compute_convergence_checks=False,
            **run,
        )


@pytest.fixture(scope="module")
def right():
    return sampled()


def with_posterior(fit, **changed):
    posterior = fit["posterior"].to_dataset().assign(**changed)
    return xr.DataTree.from_dict(
        {"posterior": posterior, "sample_stats": fit["sample_stats"].to_dataset()}
    )


def judged(fit, counts=COUNTS, prior=EXPONENTIAL, **more):
    verdict = judge_districts(fit, counts, prior, **more)
    return verdict, {one.what: one for one in verdict.criteria}


def test_a_right_fit_gets_all_points(right):
    verdict, _ = judged(right)
    assert verdict.passed
    assert verdict.points == verdict.possible == 10
    verdict.require("the right means")


def test_a_fit_of_bambi_gets_all_points():
    bmb = pytest.importorskip("bambi")
    table = COUNTS.assign(district=COUNTS.index.astype(str)).reset_index(drop=True)
    table["district"] = pd.Categorical(table["district"], categories=table["district"])
    spread = bmb.Prior("Normal", mu=0, sigma=bmb.Prior("Exponential", lam=1))
    model = bmb.Model(
        "p(users, women) ~ 1 + (1 | district)",
        table,
        family="binomial",
        priors={"Intercept": bmb.Prior("Normal", mu=0, sigma=1.5), "1|district": spread},
    )
    fit = model.fit(
        draws=1500, chains=4, cores=1, target_accept=0.99, random_seed=3, inference_method="nutpie",
        progressbar=False,
    )  # fmt: skip
    verdict, _ = judged(fit)
    assert verdict.passed, str(verdict)


def posterior_of(fit):
    return fit["posterior"].to_dataset()


def in_another_order(fit):
    alpha = posterior_of(fit)["alpha"]
    return with_posterior(fit, alpha=alpha.copy(data=alpha.isel(district=[1, 0, 2]).values))


def squared(fit):
    return with_posterior(fit, sigma=posterior_of(fit)["sigma"] ** 2)


def exchanged(fit):
    draws = posterior_of(fit)
    return with_posterior(fit, sigma=draws["alpha_bar"], alpha_bar=draws["sigma"])


def with_another_prior(fit):
    return sampled(prior=scipy.stats.halfnorm(scale=0.5))


WRONG = {
    with_another_prior: "another prior on sigma",
    in_another_order: "another order of the districts",
    squared: "looks like a variance",
    exchanged: "have each other's draws",
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_loses_points_and_is_named_without_the_answer(mistake, right):
    words = WRONG[mistake]
    verdict, criteria = judged(mistake(right))
    assert not verdict.passed
    assert not criteria["the right means"].met
    assert words in str(verdict)
    exact = right["posterior"].to_dataset().mean(("chain", "draw"))
    for value in (exact["sigma"], exact["alpha_bar"]):
        assert f"{float(value):.2f}" not in str(verdict)
    with pytest.raises(AssertionError, match=words):
        verdict.require("the right means")


def test_another_students_answer_is_called_that(right):
    mine = three_districts("14-10-3")
    verdict, _ = judged(right, mine, others={"bob": COUNTS})
    assert not verdict.passed
    assert "bob" in str(verdict)


def test_few_draws_do_not_pass_by_being_noisy():
    _, criteria = judged(sampled(draws=12))
    assert not criteria["enough draws"].met
    assert not criteria["the right means"].met
    assert "too few to tell" in criteria["the right means"].words


def test_a_fit_with_divergences_is_asked_where_they_are():
    verdict, criteria = judged(sampled(form="centered", target=0.8))
    assert not criteria["no divergences"].met
    assert "Where are they" in criteria["no divergences"].words
    assert 0 < verdict.points < verdict.possible


UNREADABLE = {
    "this is a float": lambda fit: 3.2,
    "this is a NoneType": lambda fit: None,
    "the posterior has no alpha; it has": lambda fit: xr.DataTree.from_dict(
        {
            "posterior": posterior_of(fit).drop_vars("alpha"),
            "sample_stats": fit["sample_stats"].to_dataset(),
        }
    ),
    "some draws of sigma are not numbers": lambda fit: with_posterior(
        fit, sigma=posterior_of(fit)["sigma"] * np.nan
    ),
    "sigma does not move": lambda fit: with_posterior(
        fit, sigma=0 * posterior_of(fit)["sigma"] + float(posterior_of(fit)["sigma"].mean())
    ),
    "sigma has dimensions": lambda fit: with_posterior(fit, sigma=posterior_of(fit)["alpha"]),
    "fewer than two chains": lambda fit: xr.DataTree.from_dict(
        {name: fit[name].to_dataset().isel(chain=[0]) for name in ("posterior", "sample_stats")}
    ),
    "alpha has 2 districts where there are 3": lambda fit: xr.DataTree.from_dict(
        {
            "posterior": posterior_of(fit).isel(district=[0, 1]),
            "sample_stats": fit["sample_stats"].to_dataset(),
        }
    ),
}


@pytest.mark.parametrize("words", UNREADABLE)
def test_what_cannot_be_read_gets_no_points_and_a_sentence(right, words):
    verdict, _ = judged(UNREADABLE[words](right))
    assert verdict.points == 0
    assert words in str(verdict)


def test_what_the_page_for_teachers_shows_runs(monkeypatch, tmp_path, capsys):
    """The instructor's snippet with the key, the student's without it, in the student's folder."""
    text = (ROOT / "book" / "teaching" / "index.md").read_text(encoding="utf-8")
    handout, verdict = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv(KEY, SECRET)
    names: dict = {}
    exec(handout, names)
    monkeypatch.delenv(KEY)
    monkeypatch.chdir(tmp_path / "handout" / "ada")
    names["draws"] = sampled(personal_districts("ada", COURSE))
    exec(verdict, names)
    assert names["verdict"].passed
    assert "10 of 10 points" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "handout" / "bob")
    with pytest.raises(CourseError, match="not that of 'ada'"):
        exec(verdict, names)


# ---------------------------------------------------------------------------------------------
# Verdicts on models


def form(parameterization, prior=EXPONENTIAL, counts=COUNTS):
    return varying_intercept_model(
        counts["users"].to_numpy(),
        counts["women"].to_numpy(),
        parameterization=parameterization,
        sigma_prior=prior,
        district=list(counts.index),
    )


ASKED = exact_posterior(
    COUNTS["users"].to_numpy(),
    COUNTS["women"].to_numpy(),
    sigma_prior=EXPONENTIAL,
    district=list(COUNTS.index),
).problem


def test_the_same_posterior_in_another_geometry_gets_all_points():
    verdict = judge_form(form("non-centered"), ASKED, wanted="non-centered")
    assert verdict.passed


def test_the_wrong_geometry_loses_its_two_points():
    model = form("centered")
    assert parameterization_of(model) == "centered"
    verdict = judge_form(model, ASKED, wanted="non-centered")
    assert (verdict.points, verdict.possible) == (3, 5)


def test_a_tighter_prior_is_another_posterior():
    model = form("non-centered", scipy.stats.halfnorm(scale=0.5))
    verdict = judge_form(model, ASKED, wanted="non-centered")
    assert (verdict.points, verdict.possible) == (4, 5)
    assert "a prior differs" in str(verdict)


def test_a_model_that_forgets_sigma_is_not_recognised():
    with pm.Model(coords={"district": list(COUNTS.index)}) as model:
        alpha_bar = pm.Normal("alpha_bar", 0, 1.5)
        pm.Exponential("sigma", 1)
        z = pm.Normal("z", dims="district")
        alpha = pm.Deterministic("alpha", alpha_bar + z, dims="district")
        n, y = COUNTS["women"].to_numpy(), COUNTS["users"].to_numpy()
        pm.Binomial("users", n, logit_p=alpha, observed=y, dims="district")
    verdict = judge_form(model, ASKED, wanted="non-centered")
    assert verdict.criteria[0].points == 0


def test_what_is_no_model_gets_nothing():
    verdict = judge_form("model", ASKED, wanted="centered")
    assert verdict.points == 0
    assert "this is a str" in str(verdict)
