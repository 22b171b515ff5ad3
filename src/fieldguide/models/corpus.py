"""Models and data of many kinds, in trouble and not, with the remedies that one could try on each.

A `Setting` is a model with its data and the way its first fit is run; `build` returns its PyMC model as
each remedy leaves it, `truth` the answer of that model, found without a sampler where that can be.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import scipy.optimize
import scipy.stats
import xarray as xr
from pytensor.graph.replace import vectorize_graph
from scipy.special import expit

from fieldguide.data import count_by_district, load_bangladesh, load_three_districts
from fieldguide.models.districts import varying_intercept_model
from fieldguide.models.graph import as_pymc_prior
from fieldguide.models.trial import trial_model
from fieldguide.priors import Prior, TrialPriors
from fieldguide.reference.corpus import (
    DRAWS,
    Points,
    change_points,
    even,
    hierarchy_points,
    linear_posterior,
    mixture_points,
    normal_summary,
    quantity,
    separate_points,
    shift_points,
    shrinkage_points,
    smooth_change_points,
    summary,
    walk_points,
)
from fieldguide.reference.districts import exact_posterior
from fieldguide.reference.trial import HYPERPARAMETERS, trial_posterior

REMEDIES = ("none", "draws", "step", "form", "depth", "restart", "prior", "model", "data")
"""What is tried: the first six keep the posterior, the others have one of their own."""

KEEPING = REMEDIES[:6]
"""Remedies that keep the posterior."""

MORE_DATA = 8
"""How many times as many groups or observations the remedy ``data`` has."""

SHOWN = 4
"""How many elements of a vector are quantities of interest."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A model with its data and the way its first fit is run.

    Attributes
    ----------
    name, kind : str
        Its own name, such as ``"ridge-2"``, and that of its kind.
    part : {"open", "held out"}
        Whether rules may be written with it in sight.
    healthy : bool
        Meant to need nothing; what it needs is found by trying.
    family : str
        Key of `FAMILIES`.
    parameters : mapping
        Of the model and of the simulated data.
    seed : int
        Of the simulated data.
    run : mapping
        ``draws``, ``tune``, ``target_accept``, ``maxdepth``; ``astray``, the probability that a chain
        starts at a bad point, and ``spread``, the sd of such points on the unconstrained scale.
    """

    name: str
    kind: str
    part: str
    healthy: bool
    family: str
    parameters: Mapping[str, Any]
    seed: int
    run: Mapping[str, float]


class Family:
    """Models of one kind: their data, their graph, their quantities of interest, their answer.

    The remedies ``form``, ``prior``, ``model`` and ``data`` are in `tried` where they make sense.
    """

    tried: tuple[str, ...] = ()

    def data(self, p: Mapping, rng: np.random.Generator, times: int) -> dict:
        """Return the data, `times` as many; none unless a family says otherwise."""
        return {}

    def build(self, p: Mapping, d: Mapping, remedy: str) -> None:
        """Add the variables to the model of the context."""
        raise NotImplementedError

    def names(self, p: Mapping, d: Mapping, remedy: str) -> list[str]:
        """Return the quantities of interest; see `fieldguide.reference.corpus.quantity`."""
        raise NotImplementedError

    def answer(self, setting: Setting, p: Mapping, d: Mapping, remedy: str) -> Any:
        """Return the answer as a table, as weighted points, or None where there is none."""
        return importance_points(build(setting, remedy))

    def remedies(self, p: Mapping) -> tuple[str, ...]:
        """Return which of `tried` make sense at these parameters."""
        return self.tried


def _some(name: str, size: int) -> list[str]:
    return [f"{name}[{i}]" for i in range(min(size, SHOWN))]


_PRIORS = {
    "halfnorm": lambda scale: scipy.stats.halfnorm(scale=scale),
    "halfcauchy": lambda scale: scipy.stats.halfcauchy(scale=scale),
    "expon": lambda scale: scipy.stats.expon(scale=scale),
}


def _spread_prior(p: Mapping, remedy: str) -> Prior:
    """Return the prior of a spread; the remedy is a half-normal of a typical scale."""
    if remedy == "prior":
        return scipy.stats.halfnorm(scale=p["typical"])
    return _PRIORS[p["prior"]](p["scale"])


def _centered(p: Mapping, remedy: str) -> bool:
    return (p["form"] == "centered") != (remedy == "form")


SCHOOLS_Y = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
SCHOOLS_SE = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
"""Effects of coaching in eight schools and their standard errors (Rubin 1981, table 1)."""


class _Hierarchy(Family):
    """Normal groups with known standard errors: mu, tau, theta."""

    def data(self, p, rng, times):
        if "groups" not in p:
            return {"y": np.array(SCHOOLS_Y), "se": np.array(SCHOOLS_SE)}
        groups = int(p["groups"]) * times
        se = p["se"] * rng.uniform(0.8, 1.25, groups)
        return {
            "y": 5 + p["tau"] * rng.standard_normal(groups) + se * rng.standard_normal(groups),
            "se": se,
        }

    def build(self, p, d, remedy):
        mu = pm.Normal("mu", 0, p["mu_sd"])
        if p["prior"] == "flat" and remedy != "prior":
            tau = pm.Deterministic("tau", pt.exp(pm.Flat("log_tau", initval=0.0)))
        else:
            tau = as_pymc_prior("tau", _spread_prior(p, remedy))
        if _centered(p, remedy):
            theta = pm.Normal("theta", mu, tau, shape=d["y"].size)
        else:
            z = pm.Normal("z", shape=d["y"].size)
            theta = pm.Deterministic("theta", mu + tau * z)
        pm.Normal("y", theta, d["se"], observed=d["y"])

    def names(self, p, d, remedy):
        return ["mu", "log tau", *_some("theta", d["y"].size)]

    def answer(self, setting, p, d, remedy):
        if p["prior"] == "flat" and remedy != "prior":
            return None
        prior = _spread_prior(p, remedy)
        return hierarchy_points(d["y"], d["se"], p["mu_sd"], prior.logpdf, float(np.median(d["se"])))

    def remedies(self, p):
        return ("form", "prior", "data") if "groups" in p else ("form", "prior")


class _Counts(Family):
    """Varying intercepts of counts: some districts of Bangladesh, or simulated ones."""

    def data(self, p, rng, times):
        if p["source"] == "three":
            counts = load_three_districts()
        elif p["source"] == "all":
            counts = count_by_district(load_bangladesh())
        elif p["source"] == "small":
            counts = count_by_district(load_bangladesh())
            small = counts[counts["women"] <= p["women"]]
            counts = small.iloc[rng.choice(len(small), int(p["groups"]), replace=False)]
        else:
            groups = int(p["groups"]) * times
            n = rng.integers(int(p["women"] / 1.5), int(p["women"] * 1.5), groups)
            y = rng.binomial(n, expit(-0.5 + p["sigma"] * rng.standard_normal(groups)))
            return {"y": y, "n": n}
        return {"y": counts["users"].to_numpy(), "n": counts["women"].to_numpy()}

    def build(self, p, d, remedy):
        varying_intercept_model(
            d["y"],
            d["n"],
            parameterization="centered" if _centered(p, remedy) else "non-centered",
            sigma_prior=_spread_prior(p, remedy),
        )

    def names(self, p, d, remedy):
        return ["alpha_bar", "log sigma", *_some("alpha", d["y"].size)]

    def answer(self, setting, p, d, remedy):
        exact = exact_posterior(d["y"], d["n"], sigma_prior=_spread_prior(p, remedy))
        ends = exact.quantile([0.05, 0.95])
        rows: dict[str, tuple[float, ...]] = {}
        for name in self.names(p, d, remedy):
            variable, _, position = name.removesuffix("]").partition("[")
            if name == "log sigma":
                logs = np.linspace(-14, 5, 4001)  # moments from the exact distribution function
                share = np.diff(exact.cdf("sigma", np.exp(logs)).values)
                inner = (logs[1:] + logs[:-1]) / 2
                mean = share @ inner / share.sum()
                sd = np.sqrt(share @ (inner - mean) ** 2 / share.sum())
                low, high = (float(np.log(end)) for end in ends["sigma"].values)
                rows[name] = (mean, sd, low, high)
                continue
            i = {"district": int(position)} if position else {}
            rows[name] = tuple(
                float(part[variable].isel(i))
                for part in (exact.mean, exact.sd, ends.isel(quantile=0), ends.isel(quantile=1))
            )
        return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd", "q05", "q95"])

    def remedies(self, p):
        return ("form", "prior", "data") if p["source"] == "simulated" else ("form", "prior")


class _Trial(Family):
    """Multi-site trials: varying intercept and effect with their correlation."""

    tried = ("form", "prior", "data")

    def data(self, p, rng, times):
        sites = int(p["sites"]) * (2 if times > 1 else 1)
        n = np.round(p["n"] * rng.uniform(0.6, 1.6, sites) / 2).astype(int)
        z = rng.standard_normal((2, sites))
        control = rng.binomial(n, expit(-1 + p["sd"] * z[0]))
        treated = rng.binomial(n, expit(-0.5 + p["sd"] * (z[0] + 0.7 * z[1])))
        index = pd.Index([f"S{i}" for i in range(sites)], name="site")
        return {
            "trial": pd.DataFrame(
                {"n_control": n, "n_treated": n, "control": control, "treated": treated}, index=index
            )
        }

    def build(self, p, d, remedy):
        trial_model(
            d["trial"],
            parameterization="centered" if _centered(p, remedy) else "non-centered",
            priors=self._priors(p, remedy),
        )

    def _priors(self, p, remedy):
        return TrialPriors(sd=scipy.stats.halfnorm(scale=0.25 if remedy == "prior" else p["scale"]))

    def names(self, p, d, remedy):
        return list(HYPERPARAMETERS)

    def answer(self, setting, p, d, remedy):
        exact = trial_posterior(d["trial"], self._priors(p, remedy))
        names = self.names(p, d, remedy)
        ends = exact.quantile([0.05, 0.95], names)
        columns = {"mean": exact.mean, "sd": exact.sd}
        columns |= {"q05": ends.isel(quantile=0), "q95": ends.isel(quantile=1)}
        return pd.DataFrame(
            {key: [float(part[n]) for n in names] for key, part in columns.items()}, names
        )


class _Twist(Family):
    """Pairs of twisted normals, without data."""

    tried = ("form",)

    def build(self, p, d, remedy):
        pairs = int(p["pairs"])
        x = pm.Normal("x", 0, p["sd"], shape=pairs)
        bent = p["bend"] * (x**2 - p["sd"] ** 2)
        if remedy == "form":
            pm.Deterministic("y", bent + pm.Normal("z", shape=pairs))
        else:
            pm.Normal("y", bent, 1, shape=pairs)

    def names(self, p, d, remedy):
        pairs = min(int(p["pairs"]), 2)
        return [f"{name}[{i}]" for i in range(pairs) for name in ("x", "y")]

    def answer(self, setting, p, d, remedy):
        rng = np.random.default_rng(0)
        x = p["sd"] * rng.standard_normal((10 * DRAWS, int(p["pairs"])))
        y = p["bend"] * (x**2 - p["sd"] ** 2) + rng.standard_normal(x.shape)
        return even({"x": x, "y": y})


class _Decay(Family):
    """Exponential decay seen at few late times: level and rate lie on a narrow curved ridge."""

    tried = ("form", "prior", "data")

    def data(self, p, rng, times):
        t = np.linspace(p["first"], p["first"] + 1, int(p["n"]) * times)
        return {"t": t, "y": 2 * np.exp(-(t - p["first"])) + p["noise"] * rng.standard_normal(t.size)}

    def build(self, p, d, remedy, apart=False):
        middle = d["t"].mean()
        wide = 0.5 if remedy == "prior" else p["wide"]
        rate = pm.HalfNormal("rate", 2 * wide)
        if remedy == "form" or apart:
            at = pm.Normal("at", -rate * middle, 5 * wide)
            level = pm.Deterministic("level", at + rate * middle)
        else:
            level = pm.Normal("level", 0, 5 * wide)
        pm.Normal("y", pt.exp(level - rate * d["t"]), p["noise"], observed=d["y"])

    def names(self, p, d, remedy):
        return ["log rate", "level"]

    def answer(self, setting, p, d, remedy):
        with pm.Model() as model:
            self.build(p, d, remedy, apart=True)
        return grid_points(model, [(-12, 4), (-30, 30)])


class _Product(Family):
    """A product of two unknowns is seen, and they are not."""

    tried = ("form", "prior", "data")

    def data(self, p, rng, times):
        n = int(p["n"]) * times
        return {"mean": p["product"] + p["noise"] * rng.standard_normal() / np.sqrt(n), "n": n}

    def build(self, p, d, remedy, apart=False):
        wide = 1.0 if remedy == "prior" else p["wide"]
        a = pm.HalfNormal("a", wide)
        if remedy == "form" or apart:
            product = pm.Normal("product", 0, a * wide)
            pm.Deterministic("b", product / a)
        else:
            b = pm.Normal("b", 0, wide)
            product = pm.Deterministic("product", a * b)
        pm.Normal("y", product, p["noise"] / np.sqrt(d["n"]), observed=d["mean"])

    def names(self, p, d, remedy):
        return ["log a", "asinh b", "product"]

    def answer(self, setting, p, d, remedy):
        with pm.Model() as model:
            self.build(p, d, remedy, apart=True)
        return grid_points(model, [(-12, 6), (-60, 60)])


class _HeavyTails(Family):
    """Student t priors, most of which the data leave open."""

    tried = ("form", "prior")

    def data(self, p, rng, times):
        se = np.r_[p["se"], np.full(int(p["open"]), 1e6)]
        return {"se": se, "y": np.r_[p["y"], np.zeros(int(p["open"]))]}

    def build(self, p, d, remedy):
        count = d["y"].size
        if remedy == "prior":
            x = pm.Normal("x", 0, 2.5 * p["scale"], shape=count)
        elif remedy != "form":
            x = pm.StudentT("x", nu=p["nu"], mu=0, sigma=p["scale"], shape=count)
        elif p["nu"] == 1:
            u = pm.Uniform("u", 0, 1, shape=count)
            x = pm.Deterministic("x", p["scale"] * pt.tan(np.pi * (u - 0.5)))
        else:
            precision = pm.Gamma("precision", p["nu"] / 2, p["nu"] / 2, shape=count)
            x = pm.Deterministic("x", p["scale"] * pm.Normal("z", shape=count) / pt.sqrt(precision))
        pm.Normal("y", x, d["se"], observed=d["y"])

    def names(self, p, d, remedy):
        return [f"asinh {name}" for name in _some("x", d["y"].size)]

    def answer(self, setting, p, d, remedy):
        if remedy == "prior":
            prior = scipy.stats.norm(0, 2.5 * p["scale"])
        else:
            prior = scipy.stats.t(p["nu"], 0, p["scale"])
        x = separate_points(
            lambda x: prior.logpdf(x) - ((x - d["y"]) / d["se"]) ** 2 / 2, d["y"].size, p["scale"]
        )
        return even({"x": x})


class _Square(Family):
    """Only the square of an unknown is seen."""

    tried = ("prior", "model", "data")

    def data(self, p, rng, times):
        n = int(p["n"]) * times
        return {"mean": p["theta"] ** 2 + p["noise"] * rng.standard_normal() / np.sqrt(n), "n": n}

    def build(self, p, d, remedy):
        sd = 1.0 if remedy == "prior" else p["wide"]
        theta = pm.HalfNormal("theta", sd) if remedy == "model" else pm.Normal("theta", 0, sd)
        level = pm.Normal("level", 0, 1)
        pm.Normal("y", theta**2, p["noise"] / np.sqrt(d["n"]), observed=d["mean"])
        pm.Normal("other", level, 1, observed=0.5)

    def names(self, p, d, remedy):
        return ["theta", "level"]

    def answer(self, setting, p, d, remedy):
        low = -12.0 if remedy == "model" else -5 * p["wide"]
        high = 4.0 if remedy == "model" else 5 * p["wide"]
        return grid_points(build(setting, remedy), [(low, high), (-6, 6)])


class _Conflict(Family):
    """A prior and a likelihood with heavy tails that contradict each other."""

    tried = ("prior", "data")

    def data(self, p, rng, times):
        return {"y": p["away"] + rng.standard_normal(int(p["n"]) * times)}

    def build(self, p, d, remedy):
        if remedy == "prior":
            theta = pm.Normal("theta", 0, 2 * p["away"])
        else:
            theta = pm.StudentT("theta", nu=p["nu"], mu=0, sigma=p["scale"])
        pm.StudentT("y", nu=p["nu"], mu=theta, sigma=1, observed=d["y"])

    def names(self, p, d, remedy):
        return ["theta"]

    def answer(self, setting, p, d, remedy):
        return grid_points(build(setting, remedy), [(-2 * p["away"], 4 * p["away"])])


class _Mixture(Family):
    """Normal mixtures whose components can trade places."""

    tried = ("prior", "model", "data")

    def data(self, p, rng, times):
        k, n = int(p["components"]), int(p["n"]) * times
        means = p["apart"] * (np.arange(k) - (k - 1) / 2)
        return {"y": means[rng.integers(0, k, n)] + rng.standard_normal(n)}

    def build(self, p, d, remedy):
        k = int(p["components"])
        sd = self._prior_sd(p, remedy)
        form = {}
        if remedy == "model":
            form = {
                "transform": pm.distributions.transforms.ordered,
                "initval": np.linspace(-1.0, 1.0, k),
            }
        mu = pm.Normal("mu", 0, sd, shape=k, **form)
        pm.NormalMixture("y", w=np.full(k, 1 / k), mu=mu, sigma=1.0, observed=d["y"])

    def _prior_sd(self, p, remedy):
        return 2.0 if remedy == "prior" else p["wide"]

    def names(self, p, d, remedy):
        return _some("mu", int(p["components"]))

    def answer(self, setting, p, d, remedy):
        k = int(p["components"])
        values, weights = mixture_points(d["y"], k, self._prior_sd(p, remedy))
        if remedy == "model":
            return values, weights
        turned = [np.roll(values["mu"], i, axis=1) for i in range(k)]
        return {"mu": np.concatenate(turned)}, np.tile(weights, k)


class _Linear(Family):
    """Normal regression with known noise, in which the data hardly tell some sums apart."""

    tried = ("form", "prior", "model", "data")

    def data(self, p, rng, times):
        n = int(p["n"]) * times
        if p["design"] == "sum":
            x = np.ones((n, 2))
        elif p["design"] == "groups":
            groups = int(p["groups"])
            x = np.column_stack([np.ones(n), np.eye(groups)[np.arange(n) % groups]])
        else:
            k = int(p["predictors"])
            scales = p["size"] ** np.arange(k)
            x = np.column_stack([np.ones(n), scales * (p["far"] + rng.standard_normal((n, k)))])
        y = 1 + 0.5 * rng.standard_normal(x.shape[1]) @ (x / np.maximum(1, np.abs(x).max(0))).T
        return {"x": x, "y": y + p["noise"] * rng.standard_normal(n)}

    def _design(self, p, d, remedy):
        x = d["x"]
        if remedy == "model" and p["design"] == "sum":
            return x[:, :1]
        if remedy == "model" and p["design"] == "groups":
            return x[:, 1:]
        if remedy == "model":
            return np.column_stack([x[:, 0], (x[:, 1:] - x[:, 1:].mean(0)) / x[:, 1:].std(0)])
        return x

    def _prior_sd(self, p, remedy):
        return 2.5 if remedy == "prior" else p["wide"]

    def build(self, p, d, remedy):
        x, sd = self._design(p, d, remedy), self._prior_sd(p, remedy)
        if remedy == "form":  # principal axes of the predictors; the prior looks alike from all sides
            turn = np.linalg.svd(x, full_matrices=True)[2]
            beta = pm.Deterministic("beta", turn.T @ pm.Normal("z", 0, sd, shape=x.shape[1]))
        else:
            beta = pm.Normal("beta", 0, sd, shape=x.shape[1])
        pm.Normal("y", pt.dot(x, beta), p["noise"], observed=d["y"])

    def names(self, p, d, remedy):
        return _some("beta", self._design(p, d, remedy).shape[1])

    def answer(self, setting, p, d, remedy):
        x = self._design(p, d, remedy)
        mean, sd = linear_posterior(x, d["y"], p["noise"], self._prior_sd(p, remedy))
        return normal_summary(mean[:SHOWN], sd[:SHOWN], self.names(p, d, remedy))


class _Regression(Family):
    """Generalised linear models without groups."""

    def data(self, p, rng, times):
        n, k = int(p["n"]) * times, int(p["predictors"])
        x = p.get("far", 0.0) + rng.standard_normal((n, k))
        eta = 0.3 + (x - p.get("far", 0.0)) @ rng.normal(0, 0.5 / np.sqrt(k), k)
        draw = {
            "normal": lambda: rng.normal(eta, 1),
            "student": lambda: eta + rng.standard_t(4, n),
            "bernoulli": lambda: rng.binomial(1, expit(eta)),
            "poisson": lambda: rng.poisson(np.exp(eta)),
            "negative binomial": lambda: rng.poisson(np.exp(eta) * rng.gamma(3, 1 / 3, n)),
            "gamma": lambda: rng.gamma(3, np.exp(eta) / 3),
            "beta": lambda: np.clip(rng.beta(8 * expit(eta), 8 * expit(-eta)), 1e-6, 1 - 1e-6),
        }
        return {"x": x, "y": draw[p["likelihood"]]()}

    def build(self, p, d, remedy):
        x, y = d["x"], d["y"]
        if remedy == "model":
            x = (x - x.mean(0)) / x.std(0)
        sd = 1.0 if remedy == "prior" else p["wide"]
        intercept = pm.Normal("intercept", 0, sd if "far" not in p else sd * p["far"])
        beta = pm.Normal("beta", 0, sd, shape=x.shape[1])
        eta = intercept + pt.dot(x, beta)
        likelihood = p["likelihood"]
        if likelihood == "normal":
            pm.Normal("y", eta, pm.HalfNormal("sigma", 2), observed=y)
        elif likelihood == "student":
            pm.StudentT("y", nu=4, mu=eta, sigma=pm.HalfNormal("sigma", 2), observed=y)
        elif likelihood == "bernoulli":
            pm.Bernoulli("y", logit_p=eta, observed=y)
        elif likelihood == "poisson":
            pm.Poisson("y", pt.exp(eta), observed=y)
        elif likelihood == "negative binomial":
            pm.NegativeBinomial("y", mu=pt.exp(eta), alpha=pm.Gamma("size", 2, 0.5), observed=y)
        elif likelihood == "gamma":
            shape = pm.Gamma("shape_", 2, 0.5)
            pm.Gamma("y", alpha=shape, beta=shape / pt.exp(eta), observed=y)
        else:
            size = pm.Gamma("size", 2, 0.1)
            pm.Beta(
                "y", alpha=size * pm.math.sigmoid(eta), beta=size * pm.math.sigmoid(-eta), observed=y
            )

    def names(self, p, d, remedy):
        extra = {"normal": ["sigma"], "student": ["sigma"], "gamma": ["shape_"]}
        extra |= {"negative binomial": ["size"], "beta": ["size"]}
        return ["intercept", *_some("beta", d["x"].shape[1]), *extra.get(p["likelihood"], [])]

    def remedies(self, p):
        return ("prior", "model", "data") if "far" in p else ("prior", "data")


class _Separation(Family):
    """Logistic regression under flat priors, in which a predictor tells the outcomes apart."""

    tried = ("prior", "data")

    def data(self, p, rng, times):
        n = int(p["n"]) * times
        x = rng.standard_normal((n, int(p["predictors"])))
        return {"x": x, "y": (x[:, 0] > 0).astype(int)}

    def build(self, p, d, remedy):
        k = d["x"].shape[1]
        if remedy == "prior":
            intercept, beta = pm.Normal("intercept", 0, 2.5), pm.Normal("beta", 0, 2.5, shape=k)
        else:
            intercept = pm.Flat("intercept", initval=0.0)
            beta = pm.Flat("beta", shape=k, initval=np.zeros(k))
        pm.Bernoulli("y", logit_p=intercept + pt.dot(d["x"], beta), observed=d["y"])

    def names(self, p, d, remedy):
        return ["intercept", *_some("beta", d["x"].shape[1])]

    def answer(self, setting, p, d, remedy):
        return super().answer(setting, p, d, remedy) if remedy == "prior" else None


class _Zeros(Family):
    """Poisson counts of groups under flat priors, some of which have only zeros."""

    tried = ("prior",)

    def data(self, p, rng, times):
        y = rng.poisson(4, int(p["groups"]))
        y[: int(p["zeros"])] = 0
        return {"y": y}

    def build(self, p, d, remedy):
        groups = d["y"].size
        if remedy == "prior":
            rate = pm.Normal("log_rate", 0, 2.5, shape=groups)
        else:
            rate = pm.Flat("log_rate", shape=groups, initval=np.zeros(groups))
        pm.Poisson("y", pt.exp(rate), observed=d["y"])

    def names(self, p, d, remedy):
        return _some("log_rate", d["y"].size)

    def answer(self, setting, p, d, remedy):
        return super().answer(setting, p, d, remedy) if remedy == "prior" else None


class _Walk(Family):
    """A random walk with small steps, seen with noise."""

    tried = ("form", "prior", "data")

    def data(self, p, rng, times):
        n = int(p["n"]) * (2 if times > 1 else 1)
        x = np.cumsum(p["tau"] * rng.standard_normal(n))
        return {"y": x + rng.standard_normal(n)}

    def build(self, p, d, remedy):
        tau = as_pymc_prior("tau", _spread_prior(p, remedy))
        n = d["y"].size
        if remedy == "form":
            start = pm.Normal("start", 0, 2)
            steps = pt.concatenate([[0.0], pt.cumsum(pm.Normal("z", shape=n - 1))])
            x = pm.Deterministic("x", start + tau * steps)
        else:
            x = pm.GaussianRandomWalk("x", sigma=tau, init_dist=pm.Normal.dist(0, 2), steps=n - 1)
        pm.Normal("y", x, 1, observed=d["y"])

    def names(self, p, d, remedy):
        n = d["y"].size
        return ["log tau", "x[0]", f"x[{n // 2}]", f"x[{n - 1}]"]

    def answer(self, setting, p, d, remedy):
        return walk_points(d["y"], 1.0, 2.0, _spread_prior(p, remedy).logpdf, p["tau"])


class _Horseshoe(Family):
    """Regression with a half-Cauchy scale for every coefficient and for all."""

    tried = ("form", "prior")

    def data(self, p, rng, times):
        n, k = int(p["n"]), int(p["predictors"])
        x = rng.standard_normal((n, k))
        return {"x": x, "y": p["signal"] * x[:, 0] + rng.standard_normal(n)}

    def build(self, p, d, remedy):
        k = d["x"].shape[1]
        if remedy == "prior":
            tau = pm.HalfNormal("tau", p["scale"])
            local = np.ones(k)
        else:
            tau = pm.HalfCauchy("tau", p["scale"])
            local = pm.HalfCauchy("local", 1, shape=k)
        if remedy == "form":
            beta = pm.Deterministic("beta", pm.Normal("z", shape=k) * tau * local)
        else:
            beta = pm.Normal("beta", 0, tau * local, shape=k)
        pm.Normal("y", pt.dot(d["x"], beta), 1, observed=d["y"])

    def names(self, p, d, remedy):
        return ["log tau", *_some("beta", d["x"].shape[1])]

    def answer(self, setting, p, d, remedy):
        rng = np.random.default_rng(0)
        k, count = d["x"].shape[1], 3 * DRAWS
        if remedy == "prior":
            tau, local = scipy.stats.halfnorm(scale=p["scale"]).rvs(count, rng), np.ones((count, k))
        else:
            tau = scipy.stats.halfcauchy(scale=p["scale"]).rvs(count, rng)
            local = scipy.stats.halfcauchy.rvs(size=(count, k), random_state=rng)
        return shrinkage_points(d["x"], d["y"], 1.0, tau[:, None] * local, tau)


class _Change(Family):
    """A level that changes at once, at an unknown time."""

    tried = ("model", "data")

    def data(self, p, rng, times):
        n = int(p["n"]) * times
        return {"y": p["jump"] * (np.arange(n) >= n // 2) + rng.standard_normal(n)}

    def build(self, p, d, remedy):
        n = d["y"].size
        when = pm.Uniform("when", 0, n)
        level = pm.Normal("level", 0, 5, shape=2)
        time = np.arange(n) + 0.5
        after = pm.math.sigmoid((time - when) / 0.5) if remedy == "model" else pt.ge(time, when)
        pm.Normal("y", level[0] + (level[1] - level[0]) * after, 1, observed=d["y"])

    def names(self, p, d, remedy):
        return ["when", "level[0]", "level[1]"]

    def answer(self, setting, p, d, remedy):
        if remedy == "model":
            return smooth_change_points(d["y"], 1.0, 5.0, 0.5)
        return change_points(d["y"], 1.0, 5.0)


class _Bound(Family):
    """Waiting times after an unknown shift, which no observation may fall below."""

    tried = ("model", "data")

    def data(self, p, rng, times):
        return {"y": p["shift"] + rng.exponential(1, int(p["n"]) * times)}

    def build(self, p, d, remedy):
        shift, rate = pm.Normal("shift", 0, 5), pm.Gamma("rate", 2, 2)
        late = d["y"] - shift
        if remedy == "model":  # the exponential with a logistic edge of width 0.1 instead of a jump
            top = pt.log(pt.sin(np.pi * rate * 0.1) / (np.pi * 0.1))
            pm.Potential("y", (top - rate * late - pt.softplus(-late / 0.1)).sum())
        else:
            pm.Potential("y", pt.switch(pt.all(late > 0), (pt.log(rate) - rate * late).sum(), -np.inf))

    def names(self, p, d, remedy):
        return ["shift", "log rate"]

    def answer(self, setting, p, d, remedy):
        if remedy != "model":
            return shift_points(d["y"], 5.0, 2.0)
        low = d["y"].min()
        return grid_points(build(setting, remedy), [(low - 8, low + 2), (-5, 2.3)])


FAMILIES: dict[str, Family] = {
    "hierarchy": _Hierarchy(),
    "counts": _Counts(),
    "trial": _Trial(),
    "twist": _Twist(),
    "decay": _Decay(),
    "product": _Product(),
    "heavy tails": _HeavyTails(),
    "square": _Square(),
    "conflict": _Conflict(),
    "mixture": _Mixture(),
    "linear": _Linear(),
    "regression": _Regression(),
    "separation": _Separation(),
    "zeros": _Zeros(),
    "walk": _Walk(),
    "horseshoe": _Horseshoe(),
    "change": _Change(),
    "bound": _Bound(),
}
"""Models by the name of their family."""


# ---------------------------------------------------------------------------------------------
# The settings

RUN = {"draws": 1000, "tune": 1000, "target_accept": 0.8, "maxdepth": 10, "astray": 0.0, "spread": 0.0}
"""How a first fit is run unless its kind says otherwise."""

_WEAK = {
    "family": "hierarchy",
    "form": "centered",
    "groups": (4, 12),
    "se": (8.0, 15.0),
    "tau": (0.5, 5.0),
    "mu_sd": 10.0,
    "prior": ["halfcauchy", "halfnorm"],
    "scale": (5.0, 12.0),
    "typical": 4.0,
}
_STRONG = _WEAK | {"groups": (6, 20), "se": (0.3, 0.8), "tau": (4.0, 8.0), "prior": "halfnorm"}
_SMALL_DISTRICTS = {
    "family": "counts",
    "form": "centered",
    "source": "small",
    "women": 25,
    "groups": (2, 8),
    "prior": ["expon", "halfnorm", "halfcauchy"],
    "scale": 1.0,
    "typical": 0.25,
}
_LARGE_COUNTS = _SMALL_DISTRICTS | {
    "source": "simulated",
    "women": (400, 2000),
    "groups": (6, 20),
    "sigma": (0.8, 1.5),
    "prior": "halfnorm",
}
_TRIAL = {"family": "trial", "form": "centered", "sites": (4, 8), "n": (40, 120), "sd": (0.1, 0.4)}
_TRIAL |= {"scale": 0.5}  # type: ignore[dict-item]
_LARGE_TRIAL = _TRIAL | {"form": "non-centered", "n": (2000, 6000), "sd": (0.6, 1.0), "scale": 1.0}
_GLM = {"family": "regression", "n": (60, 200), "predictors": (1, 5), "wide": 2.5}
_TWIST = {"family": "twist", "pairs": (1, 3), "sd": (0.8, 2.0), "bend": (0.3, 1.0)}
_DECAY = {"family": "decay", "first": (1.0, 6.0), "n": (5, 12), "noise": (0.1, 0.4), "wide": 1.0}
_PRODUCT = {
    "family": "product",
    "product": (1.0, 5.0),
    "n": (10, 100),
    "noise": (0.2, 1.0),
    "wide": (3.0, 10.0),
}
_HEAVY = {
    "family": "heavy tails",
    "nu": [1, 1, 2],
    "scale": (0.5, 5.0),
    "open": (1, 4),
    "y": (0.0, 5.0),
    "se": (1.0, 20.0),
}
_SQUARE = {"family": "square", "theta": (1.0, 4.0), "n": (5, 50), "noise": 1.0, "wide": 5.0}
_CONFLICT = {"family": "conflict", "nu": [2, 3], "scale": (0.3, 1.0), "away": (8.0, 20.0), "n": (2, 3)}
_MIXTURE = {
    "family": "mixture",
    "components": 2,
    "n": (30, 100),
    "apart": (2.5, 6.0),
    "wide": (5.0, 10.0),
}
_SUM = {"family": "linear", "design": "sum", "n": (8, 20), "noise": 1.0, "wide": (30.0, 150.0)}
_GROUP_MEANS = _SUM | {"design": "groups", "groups": (3, 6), "n": (12, 24)}
_SEPARATION = {"family": "separation", "n": (15, 60), "predictors": (1, 3)}
_UNCENTRED = {
    "family": "linear",
    "design": "uncentred",
    "predictors": (1, 3),
    "n": (30, 80),
    "noise": 1.0,
    "far": (30.0, 200.0),
    "size": (1.0, 10.0),
    "wide": 100.0,
}
_FAR = _GLM | {"far": (50.0, 300.0)}
_FEW = {"draws": (50, 150), "tune": (100, 200)}
_ASTRAY = {"tune": (10, 50), "astray": 0.5, "spread": (5.0, 40.0)}
_SHALLOW = {"maxdepth": 8}

_EIGHT_SCHOOLS = {
    "family": "hierarchy",
    "form": "centered",
    "mu_sd": 10.0,
    "prior": "halfcauchy",
    "scale": 5.0,
    "typical": 5.0,
}
_THREE_DISTRICTS = _SMALL_DISTRICTS | {"source": "three", "prior": "expon"}
_NON = {"form": "non-centered"}

KINDS: dict[str, tuple[Sequence[Mapping], Sequence[Mapping], Mapping]] = {
    "gaussian_funnel": ((_EIGHT_SCHOOLS, _WEAK), (_WEAK, _WEAK), {}),
    "counts_funnel": ((_THREE_DISTRICTS, _SMALL_DISTRICTS), (_SMALL_DISTRICTS, _SMALL_DISTRICTS), {}),
    "informative_non_centered": (
        (_STRONG | _NON, _LARGE_COUNTS | _NON),
        (_STRONG | _NON, _LARGE_COUNTS | _NON),
        {},
    ),
    "banana": ((_TWIST, _DECAY), (_TWIST, _DECAY), {}),
    "ridge": ((_PRODUCT, _PRODUCT), (_PRODUCT, _PRODUCT), {}),
    "heavy_tails": ((_HEAVY, _HEAVY), (_HEAVY, _HEAVY), {}),
    "multimodal": ((_SQUARE, _CONFLICT), (_SQUARE, _CONFLICT), {}),
    "label_switching": (
        (_MIXTURE, _MIXTURE | {"components": 3}),
        (_MIXTURE, _MIXTURE | {"components": 3}),
        {},
    ),
    "unidentified_sum": ((_SUM, _GROUP_MEANS), (_SUM, _GROUP_MEANS), _SHALLOW),
    "improper": (
        (_SEPARATION, _WEAK | {"prior": "flat"}),
        (_SEPARATION, {"family": "zeros", "groups": (4, 10), "zeros": (1, 3)}),
        _SHALLOW,
    ),
    "stuck": (
        (_GLM | {"likelihood": "normal"}, _WEAK | _NON),
        (_GLM | {"likelihood": "bernoulli"}, _STRONG),
        _ASTRAY,
    ),
    "few_draws": (
        (_GLM | {"likelihood": "normal"}, _WEAK | _NON),
        (_GLM | {"likelihood": "poisson"}, _STRONG),
        _FEW,
    ),
    "correlated_slopes": ((_TRIAL, _LARGE_TRIAL), (_TRIAL, _LARGE_TRIAL), {}),
    "healthy_hierarchical": (
        (_WEAK | _NON, _STRONG, _SMALL_DISTRICTS | _NON | {"source": "all"}, _LARGE_COUNTS),
        (_WEAK | _NON, _STRONG, _SMALL_DISTRICTS | _NON, _TRIAL | _NON),
        {},
    ),
    "healthy_flat": (
        (
            _GLM | {"likelihood": "normal"},
            _GLM | {"likelihood": "bernoulli"},
            _GLM | {"likelihood": "poisson"},
            _GLM | {"likelihood": "normal", "predictors": 28, "n": 200},
        ),
        (
            _GLM | {"likelihood": "gamma"},
            _GLM | {"likelihood": "beta"},
            _GLM | {"likelihood": "negative binomial"},
            _GLM | {"likelihood": "student", "predictors": 12},
        ),
        {},
    ),
    "scales": (
        (_UNCENTRED, _FAR | {"likelihood": "bernoulli"}),
        (_UNCENTRED, _FAR | {"likelihood": "poisson"}),
        _SHALLOW,
    ),
    "random_walk": (
        (),
        (
            {
                "family": "walk",
                "n": (20, 40),
                "tau": (0.05, 0.2),
                "prior": ["expon", "halfnorm"],
                "scale": 1.0,
                "typical": 0.2,
            },
        )
        * 2,
        {},
    ),
    "horseshoe": (
        (),
        (
            {
                "family": "horseshoe",
                "n": (15, 30),
                "predictors": (4, 6),
                "signal": (0.5, 1.5),
                "scale": (0.3, 1.0),
            },
        )
        * 2,
        {},
    ),
    "edge": (
        (),
        (
            {"family": "change", "n": (20, 40), "jump": (1.5, 3.0)},
            {"family": "bound", "shift": (0.5, 2.0), "n": (5, 20)},
        ),
        {},
    ),
}
"""By kind: ranges of the open settings, of those held out, and of how the first fit is run.

A pair of whole numbers is a range of whole numbers, a pair of others a range that is drawn from evenly
in the logarithm where it reaches over more than a factor of ten; of a list one is chosen; other values
stand.
"""

HEALTHY = ("healthy_hierarchical", "healthy_flat")
"""Kinds that are meant to need nothing."""


def _drawn(ranges: Mapping, rng: np.random.Generator) -> dict:
    """Draw parameters from their ranges; see `KINDS`."""
    found: dict[str, Any] = {}
    for name, value in ranges.items():
        if isinstance(value, list):
            found[name] = value[rng.integers(len(value))]
        elif not isinstance(value, tuple):
            found[name] = value
        elif all(isinstance(end, int) for end in value):
            found[name] = int(rng.integers(value[0], value[1] + 1))
        elif value[0] > 0 and value[1] >= 10 * value[0]:
            found[name] = float(np.exp(rng.uniform(*np.log(value))))
        else:
            found[name] = float(rng.uniform(*value))
    return found


@cache
def settings() -> dict[str, Setting]:
    """Return all settings by name, their parameters drawn from the ranges of `KINDS`."""
    found = {}
    for kind, (open_, held_out, run) in KINDS.items():
        parts = [("open", ranges) for ranges in open_] + [("held out", ranges) for ranges in held_out]
        for number, (part, ranges) in enumerate(parts, start=1):
            seed = zlib.crc32(f"{kind} {number}".encode())
            rng = np.random.default_rng(seed)
            parameters = _drawn(ranges, rng)
            found[f"{kind}-{number}"] = Setting(
                name=f"{kind}-{number}",
                kind=kind,
                part=part,
                healthy=kind in HEALTHY,
                family=parameters.pop("family"),
                parameters=parameters,
                seed=seed,
                run=RUN | _drawn(run, rng),
            )
    return found


def remedies(setting: Setting) -> tuple[str, ...]:
    """Return which of `REMEDIES` a sensible person could try on a setting, ``"none"`` first."""
    extra = FAMILIES[setting.family].remedies(setting.parameters)
    always = ("none", "draws", "step", "depth", "restart")
    return tuple(remedy for remedy in REMEDIES if remedy in always or remedy in extra)


@cache
def data_of(setting: Setting, times: int = 1) -> dict:
    """Return the data of a setting, or of the same simulation with `times` as many.

    Parameters
    ----------
    setting : Setting
    times : int
        1, or `MORE_DATA`.
    """
    rng = np.random.default_rng(setting.seed)
    return FAMILIES[setting.family].data(setting.parameters, rng, times)


def _parts(setting: Setting, remedy: str) -> tuple[Family, Mapping, dict]:
    if remedy not in remedies(setting):
        raise ValueError(f"The remedy {remedy!r} is not tried on {setting.name}.")
    data = data_of(setting, MORE_DATA if remedy == "data" else 1)
    return FAMILIES[setting.family], setting.parameters, data


@cache
def _built(setting: Setting, remedy: str) -> pm.Model:
    family, parameters, data = _parts(setting, remedy)
    with pm.Model() as model:
        family.build(parameters, data, remedy)
    return model


def build(setting: Setting, remedy: str = "none") -> pm.Model:
    """Return the model of a setting as a remedy leaves it.

    Parameters
    ----------
    setting : Setting
    remedy : str
        One of ``remedies(setting)``. The posterior is the same for all of `KEEPING`.

    Raises
    ------
    ValueError
        If the remedy is not tried on this setting.
    """
    _parts(setting, remedy)
    return _built(setting, "none" if remedy in ("draws", "step", "depth", "restart") else remedy)


def quantities(setting: Setting, remedy: str, posterior: xr.Dataset) -> xr.Dataset:
    """Return the quantities of interest of a fit.

    Parameters
    ----------
    setting : Setting
    remedy : str
        With which it was made.
    posterior : Dataset
        Draws with the dimensions ``chain`` and ``draw``.

    Returns
    -------
    Dataset
        A scalar for every row of `truth` (chain, draw).
    """
    family, parameters, data = _parts(setting, remedy)
    names = family.names(parameters, data, remedy)
    values = {str(n): v.transpose("chain", "draw", ...).values for n, v in posterior.data_vars.items()}
    return xr.Dataset({name: (("chain", "draw"), quantity(values, name)) for name in names})


@cache
def truth(setting: Setting, remedy: str = "none") -> pd.DataFrame | None:
    """Return what is true of the posterior of a setting as a remedy leaves it.

    Parameters
    ----------
    setting : Setting
    remedy : str

    Returns
    -------
    DataFrame or None
        Quantities of interest with their mean, sd and 5% and 95% quantiles, by conjugacy, quadrature,
        independent draws or importance sampling; None where the posterior is improper.
    """
    if remedy in KEEPING and remedy != "none":
        _parts(setting, remedy)
        return truth(setting, "none")
    family, parameters, data = _parts(setting, remedy)
    found = family.answer(setting, parameters, data, remedy)
    if found is None or isinstance(found, pd.DataFrame):
        return found
    return summary(found, family.names(parameters, data, remedy))


# ---------------------------------------------------------------------------------------------
# Answers from the graph of a model


class _Density:
    """The log density of a model on the unconstrained scale, and its variables, at many points."""

    def __init__(self, model: pm.Model, chunk: int = 4000):
        start = model.initial_point(0)
        self.start = np.concatenate([np.ravel(start[v.name]) for v in model.value_vars]).astype(float)
        self.chunk = chunk
        flat, batches, place = pt.dmatrix("flat"), {}, 0
        for variable in model.value_vars:
            shape = np.shape(start[variable.name])
            size = int(np.prod(shape))
            batches[variable] = flat[:, place : place + size].reshape((-1, *shape))
            place += size
        self.names = [variable.name for variable in model.unobserved_RVs]
        transformed = model.replace_rvs_by_values(model.unobserved_RVs)
        outputs = vectorize_graph([model.logp(), *transformed], replace=batches)
        self.function = pytensor.function([flat], outputs, on_unused_input="ignore")

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        parts = [self.function(x[i : i + self.chunk]) for i in range(0, len(x), self.chunk)]
        logp, *values = (np.concatenate(part) for part in zip(*parts, strict=True))
        return np.where(np.isnan(logp), -np.inf, logp), dict(zip(self.names, values, strict=True))


GRID = {1: 20_001, 2: 1000}
"""Points along each axis of a grid, by the number of axes."""

FEWEST = 3.0
"""Effective number of points that a line of a grid must have on the posterior, on average.

With three the step is 0.85 sds of a normal density, whose sums are then right to one in a million.
"""

SMALLEST_EDGE = 1e-6
"""Probability that may lie on the last points of an axis."""

NEGLIGIBLE = 25.0
"""How far below its top a log density may be left out: e to minus this is 1e-11."""


def grid_points(model: pm.Model, box: Sequence[tuple[float, float]]) -> Points:
    """Return the posterior of a model of one or two unknowns on an even grid.

    Parameters
    ----------
    model : pymc.Model
    box : sequence of tuple
        Ends of each unconstrained variable, outside of which there is nothing; they are narrowed to
        where the density is.

    Returns
    -------
    tuple of dict and ndarray
        Values by variable, and weights.

    Raises
    ------
    ArithmeticError
        If lines along an axis have fewer than `FEWEST` points on the posterior, or it leaves the box.
    """
    density = _Density(model)
    ends = [(float(low), float(high)) for low, high in box]
    for _ in range(6):
        axes = [np.linspace(low, high, GRID[len(ends)]) for low, high in ends]
        x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(ends))
        logp, values = density(x)
        near = logp > logp.max() - NEGLIGIBLE
        narrow = []
        for axis, grid in zip(x.T, axes, strict=True):
            step = grid[1] - grid[0]
            narrow.append((axis[near].min() - 1.5 * step, axis[near].max() + 1.5 * step))
        shrunk = min((b - a) / (high - low) for (a, b), (low, high) in zip(narrow, ends, strict=True))
        if shrunk > 0.8:
            break
        ends = [(max(a, low), min(b, high)) for (a, b), (low, high) in zip(narrow, ends, strict=True)]
    weights = np.exp(logp - logp.max())
    table = weights.reshape([GRID[len(ends)]] * len(ends)) / weights.sum()
    for i, (grid, (low, high)) in enumerate(zip(axes, box, strict=True)):
        lines = np.moveaxis(table, i, -1).reshape(-1, grid.size)
        shares = lines.sum(axis=1)
        lines, shares = lines[shares > 0], shares[shares > 0]
        if shares @ (shares**2 / (lines**2).sum(axis=1)) < FEWEST:
            raise ArithmeticError("The grid is too coarse for the posterior.")
        cut = (grid[0] <= low, lines[:, 0].sum()), (grid[-1] >= high, lines[:, -1].sum())
        if any(at_end and left > SMALLEST_EDGE for at_end, left in cut):
            raise ArithmeticError("The posterior leaves the box of the grid.")
    keep = weights > np.exp(-NEGLIGIBLE)
    return {name: value[keep] for name, value in values.items()}, weights[keep]


IMPORTANCE_POINTS = 60_000
"""Points of importance sampling; so many twice, the first of which shape the proposal."""

SMALLEST_SHARE = 0.05
"""Effective share of these points that must be left."""


def importance_points(model: pm.Model) -> Points:
    """Return the posterior of a model by importance sampling from a t distribution at its mode.

    Parameters
    ----------
    model : pymc.Model
        Whose posterior is nearly normal on the unconstrained scale.

    Returns
    -------
    tuple of dict and ndarray
        Values by variable, and weights.

    Raises
    ------
    ArithmeticError
        If the weights leave less than 5% of the points.
    """
    density = _Density(model)
    mode, cov = _laplace(model, density.start)
    freedom = 10 if mode.size < 12 else 40
    for seed in (0, 1):
        proposal = scipy.stats.multivariate_t(
            mode, cov, df=freedom, seed=np.random.default_rng(seed), allow_singular=True
        )
        x = proposal.rvs(IMPORTANCE_POINTS).reshape(IMPORTANCE_POINTS, mode.size)
        logp, values = density(x)
        log_weight = logp - proposal.logpdf(x)
        weights = np.exp(log_weight - log_weight.max())
        weights /= weights.sum()
        mode = weights @ x
        cov = 1.1 * (x - mode).T @ ((x - mode) * weights[:, None])
    if 1 / (weights**2).sum() < SMALLEST_SHARE * IMPORTANCE_POINTS:
        raise ArithmeticError("Too few points carry the posterior; it needs another answer.")
    return values, weights


def _laplace(model: pm.Model, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mode and inverse curvature of the log density, by Newton steps halved as needed."""
    first = model.initial_point(0)
    names = [(v.name, np.shape(first[v.name])) for v in model.value_vars]
    # A few dozen evaluations do not repay compiling to machine code.
    logp = model.compile_logp(mode="FAST_COMPILE")
    gradient = model.compile_dlogp(mode="FAST_COMPILE")
    hessian = model.compile_d2logp(negate_output=False, mode="FAST_COMPILE")

    def point(x):
        found, place = {}, 0
        for name, shape in names:
            size = int(np.prod(shape))
            found[name] = x[place : place + size].reshape(shape)
            place += size
        return found

    x, top = start, float(logp(point(start)))
    for _ in range(200):
        curvature = -np.asarray(hessian(point(x)))
        slope = np.asarray(gradient(point(x)))
        values, vectors = np.linalg.eigh(curvature)
        values = np.maximum(np.abs(values), 1e-10 * np.abs(values).max())
        step = vectors @ ((vectors.T @ slope) / values)
        size = 1.0
        while size > 1e-8:
            value = float(logp(point(x + size * step)))
            if value >= top:
                break
            size /= 2
        else:
            break
        done = value - top < 1e-10
        x, top = x + size * step, value
        if done:
            break
    return x, (vectors / values) @ vectors.T
