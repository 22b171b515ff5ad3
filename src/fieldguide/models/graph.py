"""What the graph of a PyMC model says: its priors, its form, its data; and whether two are the same."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.traversal import ancestors

from fieldguide.priors import prior_parameters, written
from fieldguide.problem import Problem, count_digest

_HYPERPARAMETERS = {
    frozenset({"alpha_bar", "sigma"}): "varying intercept",
    frozenset({"alpha"}): "fixed effects",
    frozenset({"intercept", "effect", "sd_intercept", "sd_effect"}): "varying intercept and effect",
}
_declared: WeakKeyDictionary[pm.Model, tuple[Problem, str]] = WeakKeyDictionary()


class UnknownModelError(ValueError):
    """The graph is not that of a model of this book, or its data do not stand in it."""


def as_pymc_prior(name: str, frozen, *, scale=None) -> pt.TensorVariable:
    """Add a prior to the current PyMC model, given as a frozen SciPy distribution.

    Parameters
    ----------
    name : str
        Name of the random variable.
    frozen : scipy.stats frozen distribution
        One of ``norm``, ``expon``, ``halfnorm``, ``halfcauchy``, ``gamma``, ``invgamma``,
        ``lognorm``, ``uniform`` or ``fieldguide.priors.half_student_t``.
    scale : tensor, optional
        A scale to use instead of the frozen one, such as a ``pm.Data`` that changes between fits.

    Returns
    -------
    TensorVariable
        The random variable, a scalar.

    Raises
    ------
    TypeError
        If `frozen` is not a frozen SciPy distribution.
    ValueError
        If its family is not supported, or a family on (0, inf) was shifted by ``loc``.

    Examples
    --------
    >>> import scipy.stats
    >>> with pm.Model():
    ...     sigma = as_pymc_prior("sigma", scipy.stats.halfnorm(scale=0.25))
    """
    family, shapes, loc, frozen_scale = prior_parameters(frozen)
    s = frozen_scale if scale is None else scale
    if family == "norm":
        return pm.Normal(name, loc, s)
    if family == "uniform":
        return pm.Uniform(name, loc, loc + s)
    builders = {
        "expon": lambda: pm.Exponential(name, scale=s),
        "halfnorm": lambda: pm.HalfNormal(name, sigma=s),
        "halfcauchy": lambda: pm.HalfCauchy(name, beta=s),
        "half_student_t": lambda: pm.HalfStudentT(name, nu=shapes[0], sigma=s),
        "gamma": lambda: pm.Gamma(name, alpha=shapes[0], beta=1 / s),
        "invgamma": lambda: pm.InverseGamma(name, alpha=shapes[0], beta=s),
        "lognorm": lambda: pm.LogNormal(name, mu=pt.log(s), sigma=shapes[0]),
    }
    if family not in builders:
        raise ValueError(
            f"The prior of {name} is a {family}, which has no PyMC form here; "
            f"use one of norm, uniform, {', '.join(builders)}."
        )
    if loc != 0:
        raise ValueError(f"The prior of {name} is shifted by loc={loc:g}; leave loc at 0.")
    return builders[family]()


def problem_of(model: pm.Model) -> Problem:
    """Read from a model's graph which posterior it has.

    Parameters
    ----------
    model : pymc.Model
        A model of counts, with the variable names of this book (``alpha_bar``, ``sigma``,
        ``alpha`` and so on; whoever wrote it), or one that was named by `declare`.

    Returns
    -------
    Problem
        Model, priors and data as they stand in the graph. Of ``pm.Data`` the present values.

    Raises
    ------
    UnknownModelError
        If the graph is of another model, or a prior is of a family unknown here.
    """
    if model in _declared:
        return _declared[model][0]
    priors = _priors(model)
    kind = _HYPERPARAMETERS.get(frozenset(priors) - {"corr"})
    if kind is None or not model.observed_RVs:
        raise UnknownModelError(
            f"The model of {', '.join(v.name for v in model.free_RVs)} is none of this book's with "
            "its counts in the graph; name it with fieldguide.models.declare."
        )
    columns, labels = [], None
    for observed in sorted(model.observed_RVs, key=lambda rv: rv.name):
        if observed.owner.op.name != "binomial":
            raise UnknownModelError(f"{observed.name} is not binomial; name the model with declare.")
        trials = observed.owner.op.dist_params(observed.owner)[0].eval()
        successes = model.rvs_to_values[observed].eval()
        dims = model.named_vars_to_dims.get(observed.name)
        columns += [successes, np.broadcast_to(trials, successes.shape)]
        labels = model.coords[dims[0]] if dims else range(1, successes.size + 1)
    return Problem.of(kind, priors, count_digest(labels, *columns))


def parameterization_of(model: pm.Model) -> str:
    """Read from a model's graph in which coordinates its sampler moves.

    Returns
    -------
    {"fixed", "centered", "deviation", "partial", "non-centered", "marginal"}
        By what the groups' free variables depend on: nothing (non-centered), a spread
        (deviation), or a spread and a mean (centered; partial if the effects are computed from
        them). Without free variables for the groups it is marginal, without a spread fixed.
    """
    if model in _declared:
        return _declared[model][1]
    groups = [rv for rv in model.free_RVs if rv.ndim]
    hyper = {rv for rv in model.free_RVs if not rv.ndim}
    if not hyper:
        return "fixed"
    if not groups:
        return "marginal"
    location, *rest = groups[0].owner.op.dist_params(groups[0].owner)
    moved, scaled = (bool(hyper & set(ancestors(part))) for part in ([location], rest))
    if not scaled:
        return "non-centered"
    if not moved:
        return "deviation"
    computed = any(set(groups) & set(ancestors([model[d.name]])) for d in model.deterministics if d.ndim)
    return "partial" if computed else "centered"


def declare(model: pm.Model, problem: Problem, parameterization: str) -> pm.Model:
    """Say what a model is whose data do not stand in its graph as counts; return it."""
    _declared[model] = problem, parameterization
    return model


def declare_like(
    model: pm.Model, other: pm.Model, rng, names: Mapping | None = None, tol: float = 1e-6
) -> float:
    """Say that a model written by hand is a known one, after making sure that it is.

    Parameters
    ----------
    model, other : pymc.Model
        The model written by hand and the known one.
    rng : numpy.random.Generator
        Draws the points at which the two are compared.
    names : mapping, optional
        As for `log_density_gap`; the same names by default.
    tol : float
        Largest gap that is tolerated.

    Returns
    -------
    float
        The gap.

    Raises
    ------
    UnknownModelError
        If the log densities differ by more than a constant.
    """
    names = {rv.name: rv.name for rv in model.free_RVs} if names is None else names
    gap = log_density_gap(model, other, dict(names), rng)
    if not gap < tol:
        raise UnknownModelError(f"The two models differ: their log densities part by {gap:.1e}.")
    declare(model, problem_of(other), parameterization_of(other))
    return gap


def _priors(model: pm.Model) -> dict[str, str]:
    """Priors of the variables that depend on no other; standard normal coordinates left out."""
    computed = {v for d in model.deterministics for v in ancestors([d])}
    found = {}
    for rv in model.free_RVs:
        parameters = rv.owner.op.dist_params(rv.owner)
        if set(model.free_RVs) & set(ancestors(parameters)):
            continue
        values = [np.unique(p.eval()) for p in parameters]
        if any(value.size != 1 for value in values):
            raise UnknownModelError(f"The prior of {rv.name} differs between its elements.")
        name = _prior_name(rv.name, rv.owner.op.name, [float(v[0]) for v in values])
        if rv.ndim and rv in computed and name == "Normal(0, 1)":
            continue
        if name.startswith("LKJ"):
            found["corr"] = name
        else:
            found[rv.name] = name
    return found


def _prior_name(variable: str, family: str, p: list[float]) -> str:
    if family == "beta" and variable.endswith("half") and p[0] == p[1]:
        return written("LKJ", p[0])  # of 2 x 2: (1 + corr) / 2 is Beta(eta, eta)
    known = {
        "normal": lambda: ("Normal", *p),
        "exponential": lambda: ("Exponential", 1 / p[0]),
        "halfnormal": lambda: ("HalfNormal", p[1]),
        "halfcauchy": lambda: ("HalfCauchy", p[-1]),
        "halfstudentt": lambda: ("HalfStudentT", *p),
        "gamma": lambda: ("Gamma", p[0], 1 / p[1]),
        "invgamma": lambda: ("InverseGamma", *p),
        "lognormal": lambda: ("LogNormal", *p),
        "uniform": lambda: ("Uniform", *p),
    }
    if family not in known:
        raise UnknownModelError(f"The prior of {variable} is a {family}, which has no name here.")
    return written(*known[family]())


def log_density_gap(model: pm.Model, other: pm.Model, names: dict[str, str], rng, points: int = 20):
    """Tell whether two models are the same one written twice.

    Two log densities of one posterior differ by a constant (a counts model leaves out or keeps
    the binomial coefficient, say); those of different models do not.

    Parameters
    ----------
    model, other : pymc.Model
        The models to compare.
    names : dict
        For each free variable of `model` its name in `other`.
    rng : numpy.random.Generator
        Draws the points at which both are evaluated.
    points : int
        How many.

    Returns
    -------
    float
        The largest deviation of the difference of log densities from its mean, on the scale that
        the samplers use; zero but for rounding where the models agree.

    Raises
    ------
    ValueError
        If a free variable of either model is not in `names`.
    """
    if {v.name for v in model.free_RVs} != set(names) or {v.name for v in other.free_RVs} != set(
        names.values()
    ):
        raise ValueError(
            f"names must map {sorted(v.name for v in model.free_RVs)} "
            f"to {sorted(v.name for v in other.free_RVs)}"
        )
    value_name = {rv.name: value.name for rv, value in other.rvs_to_values.items()}
    # A dozen evaluations do not repay compiling to machine code.
    logp, other_logp = (one.compile_logp(mode="FAST_COMPILE") for one in (model, other))
    differences = []
    for _ in range(points):
        point, other_point = {}, {}
        for rv in model.free_RVs:
            value = model.rvs_to_values[rv]
            drawn = rng.normal(scale=1.5, size=model.initial_point()[value.name].shape)
            point[value.name] = drawn
            other_point[value_name[names[rv.name]]] = drawn
        differences.append(logp(point) - other_logp(other_point))
    return float(np.abs(differences - np.mean(differences)).max())
