"""What is measured of a fit, what is advised, and how the report says it."""

from __future__ import annotations

import json
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.signal
import xarray as xr

import fieldguide as fg
from fieldguide.diagnosis import KINDS, REMEDIES, diagnose
from fieldguide.diagnosis.advice import kind_of
from fieldguide.diagnosis.code import call
from fieldguide.diagnosis.groups import Groups, forms_in, own_share
from fieldguide.diagnosis.measures import measure, moved_p
from fieldguide.diagnosis.reading import read_draws
from fieldguide.diagnosis.record import PARTS, record
from fieldguide.models.districts import varying_intercept_model

SCHOOLS_Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
SCHOOLS_SE = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def draws_of(stats: dict | None = None, **values: np.ndarray) -> xr.DataTree:
    """Draws as a sampler returns them, from arrays (chain, draw, ...)."""

    def group(arrays: dict) -> xr.Dataset:
        return xr.Dataset(
            {
                name: (("chain", "draw", *(f"{name}_{k}" for k in range(a.ndim - 2))), a)
                for name, a in arrays.items()
            }
        )

    chains, size = next(iter(values.values())).shape[:2]
    rest = {"diverging": np.zeros((chains, size), bool)} | (stats or {})
    return xr.DataTree.from_dict({"posterior": group(values), "sample_stats": group(rest)})


def independent(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=(4, 1000, *shape))


def hierarchical(
    rng: np.random.Generator, information: np.ndarray, *, standardised: bool = False
) -> dict[str, np.ndarray]:
    """Draws of a mean, a spread and effects of which each group knows so much: exact conditionals."""
    spread = np.exp(rng.normal(0, 0.6, size=(4, 1000)))
    centre = rng.normal(1, 0.5, size=(4, 1000))
    at = rng.normal(1, 1, size=len(information))
    precision = information + 1 / spread[..., None] ** 2
    middle = (information * at + centre[..., None] / spread[..., None] ** 2) / precision
    effects = middle + rng.normal(size=middle.shape) / np.sqrt(precision)
    found = {"mu": centre, "tau": spread, "theta": effects}
    if standardised:
        found["z"] = (effects - centre[..., None]) / spread[..., None]
    return found


@pytest.fixture(scope="module")
def schools_fit():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, shape=8)
        pm.Normal("y", theta, SCHOOLS_SE, observed=SCHOOLS_Y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = pm.sample(chains=4, random_seed=1, progressbar=False, nuts_sampler="nutpie")
    return model, fit


# ---------------------------------------------------------------------------------------------
# Places


def test_divergences_anywhere_are_rarely_called_concentrated():
    """Chains that move slowly, divergences in clusters, and no relation between them."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(200):
        chains = scipy.signal.lfilter([1], [1, -0.95], rng.normal(size=(6, 4, 500)), axis=-1)
        calm = scipy.signal.lfilter([1], [1, -0.9], rng.normal(size=(4, 500)), axis=-1)
        hit = calm > np.quantile(calm, 0.95)
        ranks = np.argsort(np.argsort(chains.reshape(6, -1), axis=1), axis=1).reshape(chains.shape)
        found += moved_p(ranks / 2001, hit, rng).min() < 0.05
    assert found <= 22  # of 200; 5% are 10, and 22 or more of Binomial(200, 0.05) has p = 0.0005


def test_divergences_at_one_end_are_found_whatever_else_is_looked_at():
    rng = np.random.default_rng(2)
    values = {"low": independent(rng), "other": independent(rng), "many": independent(rng, 30)}
    hit = values["low"] < np.quantile(values["low"], 0.01)
    table = measure(read_draws(draws_of({"diverging": hit}, **values))).parameters
    assert table.loc["low", "place"] < 0.01
    assert table.loc["low", "p"] == pytest.approx(0.001)
    assert (table.drop("low")["p"].dropna() > 0.01).all()


def test_two_parameters_that_tell_together_are_the_first_pair():
    rng = np.random.default_rng(3)
    values = {name: independent(rng) for name in "abcd"}
    hit = np.abs(values["a"] + values["b"]) > 3.5
    first = measure(read_draws(draws_of({"diverging": hit}, **values))).pairs.iloc[0]
    assert {first["first"], first["second"]} == {"a", "b"}


# ---------------------------------------------------------------------------------------------
# Groups


@pytest.mark.parametrize("form", ["centered", "non-centered"])
def test_effects_spread_and_form_are_found_in_the_draws(form):
    rng = np.random.default_rng(4)
    values = hierarchical(rng, np.full(8, 0.3), standardised=form == "non-centered")
    found = measure(read_draws(draws_of(**values))).groups
    assert (found.effects, found.spread, found.centre) == ("theta", "tau", "mu")
    assert found.form == form
    assert found.standardised == ("z" if form == "non-centered" else "")


def test_what_a_group_knows_is_read_from_the_draws():
    information = np.array([0.01, 0.1, 0.5, 1.0, 4.0, 30.0])
    values = hierarchical(np.random.default_rng(5), information)
    draws = read_draws(draws_of(**values))
    groups = Groups("theta", "tau", "mu", "", "centered", "the draws")
    spread = values["tau"].ravel()[:, None]
    true = (information / (information + 1 / spread**2)).mean(0)
    np.testing.assert_allclose(own_share(draws, groups), true, atol=0.04)


def test_what_a_district_knows_agrees_with_its_counts():
    counts = fg.load_three_districts()
    exact = fg.your_counts(counts, successes="users", trials="women")
    model = varying_intercept_model(counts["users"], counts["women"], parameterization="non-centered")
    with model:
        fit = pm.sample(
            chains=4, target_accept=0.99, random_seed=1, progressbar=False, nuts_sampler="nutpie"
        )
    own = diagnose(fit, model).measures.own
    np.testing.assert_allclose(own, exact.table["own"], atol=0.08)


def test_the_model_tells_the_form_where_the_draws_do_not():
    with pm.Model() as model:
        tau = pm.HalfNormal("tau")
        z = pm.Normal("z", shape=3)
        pm.Normal("theta", 0, tau, shape=4)
        pm.Normal("flat", 0, 5, shape=2)
        pm.Deterministic("eta", tau * z)
        pm.Flat("open", shape=2)
    assert forms_in(model) == {
        "z": "non-centered",
        "theta": "centered",
        "flat": "centered",
        "open": "centered",
    }
    rng = np.random.default_rng(6)
    values = hierarchical(rng, np.full(5, 0.3))
    with pm.Model() as other:
        mu, tau = pm.Normal("mu"), pm.HalfNormal("tau")
        pm.Deterministic("theta", mu + tau * pm.Normal("hidden", shape=5))
    assert measure(read_draws(draws_of(**values))).groups.form == "centered"
    assert measure(read_draws(draws_of(**values)), other).groups.form == "non-centered"


# ---------------------------------------------------------------------------------------------
# Kinds of trouble, from draws of that kind


def test_independent_draws_are_healthy():
    rng = np.random.default_rng(7)
    found = diagnose(draws_of(a=independent(rng), b=independent(rng, 20)))
    assert found.healthy
    assert found.remedy == "none"


def test_a_few_divergences_of_which_none_is_placed_are_no_alarm():
    rng = np.random.default_rng(8)
    hit = np.zeros((4, 1000), bool)
    hit[[0, 2], [10, 700]] = True
    found = diagnose(draws_of({"diverging": hit}, a=independent(rng), b=independent(rng)))
    assert found.flags == ["divergences"]
    assert found.healthy


@pytest.mark.parametrize(
    ("kind", "means"), [("labels", [[-2, 2], [2, -2], [2, -2], [-2, 2]]), ("mirror", [-3, 3, 3, -3])]
)
def test_chains_that_agree_but_for_names_or_signs(kind, means):
    rng = np.random.default_rng(9)
    means = np.array(means, float)
    noise = independent(rng, *means.shape[1:])
    found = diagnose(draws_of(x=noise + means[:, None], other=independent(rng)))
    assert found.kind == kind


def test_chains_that_sit_apart_are_peaks_or_one_that_never_arrived():
    rng = np.random.default_rng(10)
    apart = independent(rng) + np.array([0, 8, 8, 0])[:, None]
    even = rng.normal(size=(4, 1000))
    peaks = diagnose(draws_of({"energy": even}, x=apart, other=independent(rng)))
    assert peaks.kind == "modes"
    lost = even + np.array([0, 400, 0, 0])[:, None]
    stuck = diagnose(draws_of({"energy": lost}, x=independent(rng) + np.array([0, 8, 0, 0])[:, None]))
    assert stuck.kind == "stuck"
    assert stuck.remedy == "restart"


def test_a_sum_that_is_known_and_its_parts_that_are_not():
    rng = np.random.default_rng(11)
    slow = np.cumsum(rng.normal(size=(4, 1000)), axis=1)
    found = diagnose(draws_of(a=slow, b=0.3 * independent(rng) - slow))
    assert found.kind == "sum"


def test_draws_without_an_end_are_called_so():
    rng = np.random.default_rng(12)
    slow = scipy.signal.lfilter([1], [1, -0.99], rng.normal(size=(4, 1000)), axis=-1)
    found = diagnose(draws_of(a=np.exp(slow), b=independent(rng)))
    assert found.kind == "runaway"


def test_short_chains_that_agree_want_more_draws():
    rng = np.random.default_rng(13)
    found = diagnose(draws_of(a=independent(rng)[:, :60], b=independent(rng)[:, :60]))
    assert found.kind == "few draws"
    assert found.remedy == "draws"


def test_the_eight_schools_are_a_neck(schools_fit):
    model, fit = schools_fit
    found = diagnose(fit, model, dict(zip(range(8), SCHOOLS_SE, strict=True)))
    assert found.kind == "neck"
    assert found.measures.groups.form == "centered"
    assert "non-centered" in found.verdict
    typed = found.cures.loc["form", "type"]
    with pm.Model(coords={"school": range(8)}):
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        exec(typed.replace("dims=...", 'dims="school"'), {"pm": pm, "mu": mu, "tau": tau})
        names = {rv.name for rv in pm.modelcontext(None).free_RVs}
    assert names == {"mu", "tau", "z"}


# ---------------------------------------------------------------------------------------------
# The report


class _Tags(HTMLParser):
    """Tags that were opened and not closed, and addresses that would be loaded."""

    VOID = frozenset({"meta", "img", "source", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loaded += [v for k, v in attrs if k in ("src", "srcset") and not v.startswith("data:")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_says_the_same_as_text_page_and_json(schools_fit):
    model, fit = schools_fit
    found = diagnose(fit, model, site="https://example.org/")
    said = json.loads(found.to_json())
    text, page = str(found), found.page()
    for finding in said["findings"]:
        assert finding["sentence"] in text
    assert said["verdict"] in text
    assert said["figures"]["divergences"] == found.measures.figures["divergences"]
    assert f"{said['figures']['divergences']:.0f} divergences" in text
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.loaded == []
    assert 'href="https://example.org/notebooks/03_centered.html"' in page
    assert "href" not in diagnose(fit, model).page()


def test_the_alternative_text_carries_the_values(schools_fit):
    model, fit = schools_fit
    found = diagnose(fit, model)
    place = found.measures.parameters.loc["tau", "place"]
    assert f"{place:.0%}" in found.alt
    figure = found.figure()
    (ax,) = figure.axes
    assert ax.get_ylabel() == "tau"
    crosses = ax.lines[-1]
    assert len(crosses.get_xdata()) == found.measures.figures["divergences"]


def test_observations_stand_beside_what_groups_know():
    rng = np.random.default_rng(14)
    fit = draws_of(**hierarchical(rng, np.array([0.05, 0.3, 9.0])))
    fit["posterior"] = fit["posterior"].dataset.rename(theta_0="ward").assign_coords(ward=list("abc"))
    found = diagnose(fit, data={"a": 2, "b": 20, "c": 117})
    assert found.groups["observed"].tolist() == [2, 20, 117]
    assert "2 observations" in str(found)
    assert diagnose(fit, data=pd.DataFrame({"n": [2, 20, 117]}, index=list("abc"))).observed.sum() == 139
    with pytest.raises(ValueError, match="no group 'c'"):
        diagnose(fit, data={"a": 2, "b": 20})
    with pytest.raises(ValueError, match="how many observations"):
        diagnose(fit, data="many")
    with pytest.raises(ValueError, match="no groups"):
        diagnose(draws_of(a=independent(rng)), data={"a": 2})


def test_every_kind_has_a_remedy_a_verdict_and_a_page():
    from fieldguide.diagnosis import report

    assert set(KINDS) == set(report._VERDICTS) == set(report.PAGES) == set(report._NEXT)
    assert set(KINDS.values()) <= set(REMEDIES) == set(report.WHAT_TO_DO)
    root = fg.data.DATA_FOLDER.parent
    for page, _ in report.PAGES.values():
        assert (root / f"{page}.ipynb").exists() or (root / f"{page}.md").exists()


@pytest.mark.parametrize("tool", ["PyMC", "nutpie", "Bambi", "CmdStan", "brms", "rstan"])
def test_what_to_type_turns_the_other_form_around(tool):
    centered = Groups("theta", "tau", "mu", "", "centered", "the draws")
    other = Groups("theta", "tau", "mu", "z", "non-centered", "the draws")
    if tool == "brms":  # its formulas have no centered form, and are non-centered already
        assert call(tool, "form", centered) == ""
        return
    one, back = call(tool, "form", centered), call(tool, "form", other)
    assert one
    assert back
    assert one != back
    assert call(tool, "step", None) != call(tool, "draws", None)


def test_figures_of_a_stored_row_are_judged_as_those_of_a_fit(schools_fit):
    """A row that was kept as a table keeps missing values as None."""
    figures = diagnose(schools_fit[1]).measures.figures
    row = json.loads(pd.Series(figures).to_json())
    assert kind_of(row) == kind_of(figures)


# ---------------------------------------------------------------------------------------------
# The record


@pytest.fixture(scope="module")
def known():
    found = record()
    assert found is not None
    return found


def test_first_fits_are_measured_and_tried_alike(known):
    first = known.tried[known.tried["remedy"] == "none"]
    keys = ["setting", "seed"]
    pairs = first[[*keys, "divergences"]].merge(known.measured[[*keys, "divergences"]], on=keys)
    assert len(pairs) == len(first) == len(known.measured)
    assert (pairs["divergences_x"].fillna(-1) == pairs["divergences_y"].fillna(-1)).mean() > 0.99


@pytest.mark.parametrize("part", PARTS)
def test_the_record_counts_every_first_fit_once(known, part):
    rows = known.advised[known.advised["part"] == part]
    assert known.confusion(part).to_numpy().sum() == len(rows)
    alarms = known.alarms(part)
    assert (alarms["of sound"] + alarms["of unsound"] == len(rows)).all()
    assert (alarms["false low"] <= alarms["false share"]).all()
    assert (alarms["false share"] <= alarms["false high"]).all()
    by_remedy = [known.cured(part, remedy) for remedy in REMEDIES]
    assert tuple(np.sum(by_remedy, axis=0)) == known.cured(part)


def test_sound_fits_of_the_held_out_part_are_rarely_alarmed(known):
    row = known.alarms("held out").loc["these rules"]
    assert row["false share"] <= 0.05


def test_advice_in_the_held_out_part_helps_more_often_than_one_remedy_for_all(known):
    cured, of = known.cured("held out")
    assert cured / of > 0.75
    for remedy in REMEDIES[1:]:
        assert known.always("held out", remedy)[0] < cured


def test_the_held_out_part_has_kinds_that_the_open_part_has_not(known):
    kinds = known.tried.groupby("part")["kind"].unique()
    assert len(set(kinds["held out"]) - set(kinds["open"])) >= 3
    assert set(kinds["open"]) < set(kinds["held out"])


def test_a_report_says_how_good_its_advice_was(known, schools_fit):
    model, fit = schools_fit
    rows = known.advised.query("part == 'held out' and said == 'neck' and not sound")
    cured = int((rows["cures"] == True).sum())  # noqa: E712
    assert 0 < cured < len(rows)
    assert f"Of {len(rows)} fits" in str(diagnose(fit, model))
    assert f"{cured} were cured" in str(diagnose(fit, model))
    assert diagnose(fit, model).cures["cost"].notna().all()
