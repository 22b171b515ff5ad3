"""The corpus: its settings, their answers against other ways to them, and what is called working."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.stats
import xarray as xr
from scipy.special import expit

from fieldguide.diagnosis.record import Record, sound
from fieldguide.models.corpus import (
    FAMILIES,
    HEALTHY,
    KEEPING,
    MORE_DATA,
    REMEDIES,
    build,
    data_of,
    grid_points,
    quantities,
    remedies,
    settings,
    truth,
)
from fieldguide.models.graph import log_density_gap
from fieldguide.reference import corpus as reference
from fieldguide.reference.corpus import quantity
from fieldguide.studies import corpus, studies

HELD_OUT_ONLY = {"random_walk", "horseshoe", "edge"}


def test_the_corpus_is_as_large_and_as_divided_as_it_says():
    table = pd.DataFrame([(s.kind, s.part, s.healthy) for s in settings().values()])
    table.columns = ["kind", "part", "healthy"]
    assert len(table) >= 70
    assert table["kind"].nunique() == 19
    by = pd.crosstab(table["kind"], table["part"])
    shared = by.drop(index=list(HELD_OUT_ONLY))
    assert (shared["open"] == shared["held out"]).all()
    assert (shared.sum(axis=1) >= 4).all()
    assert (by.loc[list(HELD_OUT_ONLY), "open"] == 0).all()
    assert table.groupby("kind")["healthy"].sum().to_dict()["healthy_flat"] == 8
    design = studies()["corpus"].design()
    assert not design.duplicated().any()
    many = (design["remedy"] == "none") & design["kind"].isin(HEALTHY)
    for seeds, part in [(corpus.MORE_SEEDS, design[many]), (corpus.SEEDS, design[~many])]:
        assert (part.groupby(["setting", "remedy"])["seed"].agg(set) == set(seeds)).all()
    for name, part in design.groupby("setting"):
        assert tuple(part["remedy"].unique()) == remedies(settings()[name])


def test_every_setting_builds_with_every_remedy_and_its_quantities_are_there():
    for setting in settings().values():
        for remedy in remedies(setting):
            model = build(setting, remedy)
            if remedy == "none" and setting.name.endswith("-2"):
                logp = model.compile_logp(mode="FAST_COMPILE")(model.initial_point(0))
                assert np.isfinite(logp), setting.name
            data = data_of(setting, MORE_DATA if remedy == "data" else 1)
            names = FAMILIES[setting.family].names(setting.parameters, data, remedy)
            assert 1 <= len(names) <= 8
            known = {variable.name for variable in model.unobserved_RVs}
            for name in names:
                assert name.split(" ")[-1].split("[")[0] in known, (setting.name, remedy, name)


def test_settings_do_not_depend_on_one_another_or_on_the_hour():
    one = settings()["gaussian_funnel-2"]
    settings.cache_clear()
    data_of.cache_clear()
    again = settings()["gaussian_funnel-2"]
    assert one is not again
    assert one.parameters == again.parameters
    assert (data_of(one)["y"] == data_of(again)["y"]).all()
    assert len(data_of(again, MORE_DATA)["y"]) == MORE_DATA * len(data_of(again)["y"])


def test_the_eight_schools_against_a_grid_of_another_kind():
    setting = settings()["gaussian_funnel-1"]
    found = truth(setting)
    y, se = data_of(setting)["y"], data_of(setting)["se"]
    mu = np.linspace(-40, 50, 361)[:, None]
    tau = np.exp(np.linspace(-9, 7, 800))
    logp = scipy.stats.norm.logpdf(mu, 0, 10) + scipy.stats.halfcauchy.logpdf(tau, scale=5) + np.log(tau)
    for one, sd in zip(y, se, strict=True):
        logp = logp + scipy.stats.norm.logpdf(one, mu, np.hypot(tau, sd))
    p = np.exp(logp - logp.max())
    p /= p.sum()
    mean = (p * mu).sum()
    assert abs(found.loc["mu", "mean"] - mean) < 0.02 * found.loc["mu", "sd"]
    assert found.loc["mu", "sd"] == pytest.approx(np.sqrt((p * (mu - mean) ** 2).sum()), rel=0.02)
    log_tau, mass = np.log(tau), p.sum(axis=0)
    mean = mass @ log_tau
    assert abs(found.loc["log tau", "mean"] - mean) < 0.02 * found.loc["log tau", "sd"]
    low = np.interp(0.05, np.cumsum(mass) - mass / 2, log_tau)
    assert abs(found.loc["log tau", "q05"] - low) < 0.03 * found.loc["log tau", "sd"]
    shrunk = (y[0] / se[0] ** 2 + mu / tau**2) / (1 / se[0] ** 2 + 1 / tau**2)
    assert abs(found.loc["theta[0]", "mean"] - (p * shrunk).sum()) < 0.02 * found.loc["theta[0]", "sd"]


COUNT = 1_000_000


def from_the_prior(name, rng):
    """Draws from a prior weighted by the likelihood of few data, and the answer by `name`."""
    y = np.array([0.3, 1.4, 2.6])
    normal, tau = rng.standard_normal, np.abs(rng.standard_normal(COUNT))
    halfnorm = scipy.stats.halfnorm.logpdf

    def likelihood(mean, noise):
        return np.exp(-(((y - mean) / noise) ** 2).sum(axis=-1) / 2)

    if name == "hierarchy":
        mu, se = 2 * normal(COUNT), np.array([0.7, 1.0, 1.5])
        theta = mu[:, None] + tau[:, None] * normal((COUNT, 3))
        found = {"mu": mu, "tau": tau, "theta": theta}, likelihood(theta, se)
        return found, reference.hierarchy_points(y, se, 2.0, halfnorm, 1.0)
    if name == "walk":
        steps = np.cumsum(np.c_[np.zeros(COUNT), normal((COUNT, 2))], axis=1)
        x = 2 * normal((COUNT, 1)) + tau[:, None] * steps
        return ({"tau": tau, "x": x}, likelihood(x, 0.8)), reference.walk_points(
            y, 0.8, 2.0, halfnorm, 1.0
        )
    if name == "shrinkage":
        x, scales = np.array([[1.0, 0.2], [0.5, 1.0], [-1.0, 1.0]]), tau[:, None] * np.ones((1, 2))
        scales = scales * np.abs(normal((COUNT, 2)))
        beta = scales * normal((COUNT, 2))
        found = {"tau": tau, "beta": beta}, likelihood(beta @ x.T, 1.0)
        return found, reference.shrinkage_points(x, y, 1.0, scales[: COUNT // 3], tau[: COUNT // 3])
    if name == "change":
        when, level = 3 * rng.random(COUNT), 2 * normal((COUNT, 2))
        after = np.arange(3) + 0.5 > when[:, None]
        found = (
            {"when": when, "level": level},
            likelihood(np.where(after, level[:, 1:], level[:, :1]), 1),
        )
        return found, reference.change_points(y, 1.0, 2.0)
    if name == "smooth change":
        when, level = 3 * rng.random(COUNT), 2 * normal((COUNT, 2))
        after = expit((np.arange(3) + 0.5 - when[:, None]) / 0.5)
        mean = level[:, :1] + (level[:, 1:] - level[:, :1]) * after
        found = {"when": when, "level": level}, likelihood(mean, 1)
        return found, reference.smooth_change_points(y, 1.0, 2.0, 0.5)
    if name == "shift":
        shift, rate = 2 * normal(COUNT), rng.gamma(2, 1 / 2, COUNT)
        weight = np.where(shift < y.min(), rate**3 * np.exp(-rate * (y.sum() - 3 * shift)), 0)
        return ({"shift": shift, "rate": rate}, weight), reference.shift_points(y, 2.0, 2.0)
    k = int(name[-1])
    mu = 2 * np.sort(normal((COUNT, k)), axis=1)
    weight = np.exp(-((y[:, None] - mu[:, None, :]) ** 2) / 2).mean(axis=2).prod(axis=1)
    return ({"mu": mu}, weight), reference.mixture_points(y, k, 2.0)


ENGINES = {
    "hierarchy": ["mu", "log tau", "theta[0]", "theta[2]"],
    "walk": ["log tau", "x[0]", "x[2]"],
    "shrinkage": ["log tau", "beta[0]", "beta[1]"],
    "change": ["when", "level[0]", "level[1]"],
    "smooth change": ["when", "level[0]", "level[1]"],
    "shift": ["shift", "log rate"],
    "mixture of 2": ["mu[0]", "mu[1]"],
    "mixture of 3": ["mu[0]", "mu[2]"],
}


@pytest.mark.parametrize("name", ENGINES)
def test_answers_against_the_prior_weighted_by_the_likelihood(name):
    brute, found = from_the_prior(name, np.random.default_rng(3))
    expected, got = (reference.summary(points, ENGINES[name]) for points in (brute, found))
    for column in expected:
        gap = (got[column] - expected[column]).abs() / expected["sd"]
        assert gap.max() < 0.03, (column, gap)


@pytest.mark.parametrize("remedy", ["none", "prior", "data"])
def test_a_product_against_its_one_unknown_that_is_not_conjugate(remedy):
    setting = settings()["ridge-2"]
    p, data = setting.parameters, data_of(setting, MORE_DATA if remedy == "data" else 1)
    wide, noise = 1.0 if remedy == "prior" else p["wide"], p["noise"] / np.sqrt(data["n"])
    log_a = np.linspace(-14, 5, 40_001)
    a = np.exp(log_a)
    log_mass = scipy.stats.halfnorm.logpdf(a, scale=wide) + log_a
    log_mass += scipy.stats.norm.logpdf(data["mean"], 0, np.hypot(a * wide, noise))
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    found = truth(setting, remedy).loc["log a"]
    mean = mass @ log_a
    sd = np.sqrt(mass @ (log_a - mean) ** 2)
    ends = np.interp([0.05, 0.95], np.cumsum(mass) - mass / 2, log_a)
    np.testing.assert_allclose(found - mean, [0, sd - mean, *(ends - mean)], atol=0.01 * sd)


def test_a_grid_that_cannot_hold_the_posterior_is_refused():
    with pm.Model() as model:
        pm.Normal("x", 0, 1)
    with pytest.raises(ArithmeticError, match="leaves the box"):
        grid_points(model, [(-1, 8)])
    assert reference.summary(grid_points(model, [(-9, 9)]), ["x"]).loc["x", "q95"] == pytest.approx(
        1.6449, abs=1e-3
    )
    with pm.Model() as narrow:
        x = pm.Normal("x", 0, 1)
        pm.Normal("y", x, 1e-3)
    with pytest.raises(ArithmeticError, match="coarse"):
        grid_points(narrow, [(-9, 9), (-9, 9)])


def test_a_normal_regression_with_a_redundant_term_against_its_normal_equations():
    setting = settings()["unidentified_sum-2"]
    data, p = data_of(setting), setting.parameters
    precision = data["x"].T @ data["x"] / p["noise"] ** 2 + np.eye(data["x"].shape[1]) / p["wide"] ** 2
    cov = np.linalg.inv(precision)
    mean = cov @ data["x"].T @ data["y"] / p["noise"] ** 2
    found = truth(setting)
    np.testing.assert_allclose(found["mean"], mean[: len(found)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["sd"], np.sqrt(np.diag(cov))[: len(found)], rtol=1e-6)


@pytest.mark.parametrize("name", ["healthy_flat-2", "ridge-1", "label_switching-1"])
def test_answers_from_the_graph_agree_with_random_walks(name):
    """A plain Metropolis walk, written out here, in the model's own log density."""
    setting = settings()[name]
    model = build(setting, {"ridge-1": "form", "label_switching-1": "model"}.get(name, "none"))
    logp = model.compile_logp(mode="FAST_COMPILE")
    start = model.initial_point(0)
    names = [variable.name for variable in model.value_vars]
    shapes = [np.shape(start[n]) for n in names]
    sizes = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def density(x):
        parts = np.split(x, sizes)
        return float(logp({n: v.reshape(s) for n, v, s in zip(names, parts, shapes, strict=True)}))

    rng = np.random.default_rng(0)
    x = np.concatenate([np.ravel(start[n]) for n in names]).astype(float)
    cov, now, kept = 0.01 * np.eye(x.size), density(x), []
    for step in range(24_000):
        if step in (1000, 3000, 6000):
            cov = np.cov(np.array(kept[step // 2 :]).T) * 2.4**2 / x.size
        y = rng.multivariate_normal(x, cov)
        then = density(y)
        if np.log(rng.random()) < then - now:
            x, now = y, then
        kept.append(x)
    flat = np.array(kept[8000:])
    variables = [model.rvs_to_values[rv].name for rv in model.free_RVs]
    assert variables == names
    remedy = "model" if name == "label_switching-1" else "none"
    found = truth(setting, remedy)
    if name == "healthy_flat-2":
        values = {"intercept": flat[:, 0], "beta": flat[:, 1:]}
    elif name == "ridge-1":
        a = np.exp(flat[:, 0])
        values = {"a": a, "b": flat[:, 1] / a, "product": flat[:, 1]}
    else:
        values = {"mu": np.column_stack([flat[:, 0], flat[:, 0] + np.exp(flat[:, 1])])}
    for row in found.index:
        walked = quantity(values, row)
        assert abs(walked.mean() - found.loc[row, "mean"]) < 0.25 * found.loc[row, "sd"], row
        assert walked.std() == pytest.approx(found.loc[row, "sd"], rel=0.25), row


def test_improper_posteriors_have_a_truth_only_under_a_prior():
    for setting in settings().values():
        if setting.kind == "improper":
            assert truth(setting) is None
            assert truth(setting, "draws") is None
            assert np.isfinite(truth(setting, "prior")).all(axis=None)


@pytest.mark.parametrize("kind", ["banana", "ridge", "unidentified_sum", "gaussian_funnel"])
def test_the_other_form_is_the_same_posterior(kind):
    """The base's log density at a point less the form's, and less the log Jacobian between them."""
    setting = settings()[f"{kind}-1"]
    base, form = build(setting, "none"), build(setting, "form")
    rng = np.random.default_rng(1)
    density = [model.compile_logp(mode="FAST_COMPILE") for model in (base, form)]
    p, differences = setting.parameters, []
    for _ in range(8):
        point = {k: rng.normal(0, 0.7, np.shape(v)) for k, v in form.initial_point(0).items()}
        if kind == "banana":
            bent = p["bend"] * (point["x"] ** 2 - p["sd"] ** 2)
            other, jacobian = {"x": point["x"], "y": bent + point["z"]}, 0.0
        elif kind == "ridge":
            log_a = point["a_log__"]
            other = {"a_log__": log_a, "b": point["product"] * np.exp(-log_a)}
            jacobian = -log_a
        elif kind == "unidentified_sum":
            turn = np.linalg.svd(data_of(setting)["x"], full_matrices=True)[2]
            other, jacobian = {"beta": turn.T @ point["z"]}, 0.0
        else:
            log_tau = point["tau_log__"]
            other = {"mu": point["mu"], "tau_log__": log_tau}
            other["theta"] = point["mu"] + np.exp(log_tau) * point["z"]
            jacobian = point["z"].size * log_tau
        differences.append(float(density[0](other)) + jacobian - float(density[1](point)))
    assert np.ptp(differences) < 1e-6


def test_remedies_that_keep_the_posterior_share_its_truth_and_the_rest_do_not():
    setting = settings()["gaussian_funnel-2"]
    for remedy in remedies(setting):
        assert truth(setting, remedy).equals(truth(setting)) == (remedy in KEEPING)
    names = {variable.name: variable.name for variable in build(setting).free_RVs}
    assert build(setting, "draws") is build(setting)
    gap = log_density_gap(build(setting), build(setting, "prior"), names, np.random.default_rng(0))
    assert gap > 0.01


def test_a_remedy_that_is_not_tried_is_refused():
    with pytest.raises(ValueError, match="'form' is not tried on healthy_flat-1"):
        build(settings()["healthy_flat-1"], "form")


def test_quantities_of_draws_are_named_as_the_truth():
    setting = settings()["heavy_tails-1"]
    count = len(data_of(setting)["y"])
    x = np.arange(6.0 * count).reshape(2, 3, count)
    draws = quantities(setting, "none", xr.Dataset({"x": (("chain", "draw", "k"), x)}))
    assert list(draws.data_vars) == list(truth(setting).index)
    np.testing.assert_allclose(draws["asinh x[1]"], np.arcsinh(x[..., 1]))


GOOD = {
    "worst_mean": 0.1,
    "worst_tail": 0.01,
    "rhat": 1.0,
    "ess": 900.0,
    "ess_tail": 800.0,
    "divergences": 20,
    "draws": 4000,
}


def is_sound(row):
    return bool(sound(pd.DataFrame([row])).iloc[0])


def test_a_sound_fit_keeps_within_every_limit():
    assert is_sound(GOOD)
    limits = GOOD | {"worst_mean": 0.2, "worst_tail": 0.035, "rhat": 1.01, "ess": 400, "ess_tail": 400}
    assert is_sound(limits)
    worse = {
        "worst_mean": 0.21,
        "worst_tail": 0.036,
        "rhat": 1.011,
        "ess": 399.0,
        "ess_tail": 399.0,
        "divergences": 21,
    }
    for name, value in worse.items():
        assert not is_sound(GOOD | {name: value}), name
        assert not is_sound(GOOD | {name: np.nan}), name
    without_truth = GOOD | {"worst_mean": np.nan, "worst_tail": np.nan}
    assert not is_sound(without_truth)


def table_of(outcomes):
    """Three fits for each remedy: how many are sound, and their gradients."""
    rows = []
    for (setting, remedy), (count, gradients) in outcomes.items():
        for seed in (1, 2, 3):
            row = GOOD | {"setting": setting, "remedy": remedy, "seed": seed, "gradients": gradients}
            rows.append(row | {"kind": "k", "part": "open", "rhat": 1.0 if seed <= count else 1.5})
    return pd.DataFrame(rows)


def test_the_best_remedy_is_the_cheapest_that_keeps_the_posterior():
    record = Record(
        table_of(
            {
                ("a", "none"): (2, 5000),
                ("a", "form"): (3, 10),
                ("b", "none"): (1, 5000),
                ("b", "draws"): (3, 20000),
                ("b", "step"): (2, 10000),
                ("b", "prior"): (3, 10),
                ("c", "none"): (0, 5000),
                ("c", "step"): (1, 10),
                ("c", "data"): (3, 10),
                ("c", "model"): (2, 5000),
                ("d", "none"): (0, 5000),
                ("d", "prior"): (1, 5000),
            }
        ),
        pd.DataFrame(),
    )
    assert record.best.to_dict() == {"a": "none", "b": "step", "c": "model", "d": "nothing tried"}
    working = {
        setting: {name for name, good in row.items() if good is True or good == 1}
        for setting, row in record.works.iterrows()
    }
    assert working == {
        "a": {"none", "form"},
        "b": {"draws", "step", "prior"},
        "c": {"model", "data"},
        "d": set(),
    }
    assert record.works.loc[["b", "d"], "model"].isna().all()
    assert record.price.loc["b", "step"] == pytest.approx(10000)
    poor = table_of({("e", "step"): (3, 10000)}).assign(ess=100.0)
    assert Record(poor, pd.DataFrame()).price.loc["e", "step"] == pytest.approx(10000 * 400 / 100)


def test_remedies_change_the_run_as_they_say():
    setting = settings()["few_draws-1"]
    base, more = corpus.run_of(setting, "none"), corpus.run_of(setting, "draws")
    assert more["draws"] >= base["draws"] + 1000
    assert more["tune"] >= base["tune"] + 1000
    assert corpus.run_of(setting, "depth")["maxdepth"] == base["maxdepth"] + 3
    assert corpus.run_of(setting, "step")["target_accept"] == 0.99
    astray = settings()["stuck-1"]
    assert corpus.run_of(astray, "none")["astray"] > 0
    assert corpus.run_of(astray, "restart")["astray"] == 0
    assert set(REMEDIES) >= set(remedies(setting))


@pytest.mark.parametrize(
    ("name", "fine"), [("healthy_hierarchical-2", True), ("gaussian_funnel-1", False)]
)
def test_a_healthy_fit_works_and_a_funnel_does_not(name, fine):
    cell = {"setting": name, "remedy": "none", "seed": 1}
    row = corpus.fit_setting(cell)
    assert row["failed"] == ""
    assert is_sound(row) == fine
    assert (row["divergences"] > 0) != fine
    again = corpus.figures(settings()[name], "none", corpus.base_fit(settings()[name], 1))
    assert {key: row[key] for key in again} == again


def test_a_flat_prior_under_separation_has_figures_but_no_truth():
    row = corpus.fit_setting({"setting": "improper-2", "remedy": "none", "seed": 1})
    assert row["truth"] == "none"
    assert np.isnan(row["worst_mean"])
    assert row["ess"] > 0
    assert not is_sound(row)
