"""What the graph of a PyMC model says: its priors, its form, its data; and whether two are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import scipy.stats
from pytensor.graph.traversal import ancestors

from fieldguide.priors import Prior, TrialPriors, half_student_t, prior_name, prior_parameters, written
from fieldguide.problem import Problem, count_digest

if TYPE_CHECKING:
    from pytensor.tensor.variable import TensorVariable

_HYPERPARAMETERS = {
    frozenset({"alpha_bar", "sigma"}): "varying intercept",
    frozenset({"alpha"}): "fixed effects",
    frozenset({"intercept", "effect", "sd_intercept", "sd_effect"}): "varying intercept and effect",
}
_declared: WeakKeyDictionary[pm.Model, tuple[Problem, str]] = WeakKeyDictionary()
_verified: WeakSet[pm.Model] = WeakSet()


class UnknownModelError(ValueError):
    """The graph is not that of a model of this book, or its data do not stand in it."""


def as_pymc_prior(name: str, frozen: Prior, *, scale: Any = None) -> TensorVariable:
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
    """Read from a model's graph which posterior it has, and make sure that it has it.

    Names, priors and counts are read from the graph. Then the model of this book that has them is
    built, and the two log densities are compared at random points (once for each model): another
    link, another distribution of the groups or a term more is another posterior.

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
    counts, labels = {}, []
    for observed in sorted(model.observed_RVs, key=lambda rv: rv.name):
        if observed.owner.op.name != "binomial":
            raise UnknownModelError(
                f"{observed.name} is not binomial; compare the model with a known one by declare_like."
            )
        trials = observed.owner.op.dist_params(observed.owner)[0].eval()
        successes = model.rvs_to_values[observed].eval()
        dims = model.named_vars_to_dims.get(observed.name)
        counts[observed.name] = successes, np.broadcast_to(trials, successes.shape)
        labels = list(model.coords[dims[0]] if dims else range(1, successes.size + 1))
    if model not in _verified:
        _verify(model, kind, priors, counts, labels)
        _verified.add(model)
    named = {
        name: prior if isinstance(prior, str) else prior_name(prior) for name, prior in priors.items()
    }
    return Problem.of(kind, named, count_digest(labels, *(c for pair in counts.values() for c in pair)))


def _verify(model: pm.Model, kind: str, priors: dict, counts: dict, labels: list) -> None:
    """Raise `UnknownModelError` unless the model has the density of the book's model of its kind."""
    from fieldguide.models.districts import fixed_effects_model, varying_intercept_model
    from fieldguide.models.trial import trial_model

    form = parameterization_of(model)
    with pm.Model(model=None) as known:  # a context of its own, for the caller's may be open
        if kind == "varying intercept and effect":
            if set(counts) != {"control", "treated"}:
                raise UnknownModelError("The arms of a trial are called control and treated.")
            columns = {arm: y for arm, (y, _) in counts.items()}
            columns |= {f"n_{arm}": n for arm, (_, n) in counts.items()}
            lkj = {"lkj_eta": float(priors["corr"][4:-1])} if "corr" in priors else {}
            trial_priors = TrialPriors(priors["intercept"], priors["effect"], priors["sd_effect"], **lkj)
            trial_model(
                pd.DataFrame(columns, index=labels),
                parameterization=form,
                correlated="corr" in priors,
                priors=trial_priors,
            )
        elif kind == "fixed effects":
            ((successes, trials),) = counts.values()
            fixed_effects_model(successes, trials, alpha_prior=priors["alpha"])
        else:
            ((successes, trials),) = counts.values()
            varying_intercept_model(
                successes,
                trials,
                parameterization=form,
                sigma_prior=priors["sigma"],
                alpha_prior=priors["alpha_bar"],
            )
    ours = [rv.name for rv in known.free_RVs]
    names: dict[str, Any] = {rv.name: rv.name if rv.name in ours else None for rv in model.free_RVs}
    left = [name for name in ours if name not in names]
    for name in (name for name, other in names.items() if other is None):  # such as offset for z
        names[name] = left.pop(0) if left else None
    if left or None in names.values():
        gap = np.inf
    else:
        gap = log_density_gap(model, known, names, np.random.default_rng(0), points=5)
    if not gap < 1e-5:
        raise UnknownModelError(
            f"The model has the names and priors of this book's {kind} model, but not its density: "
            "look at its link, at the distribution of its groups, and for terms more. If it is another "
            "model on purpose, this book has no answer for it."
        )


def parameterization_of(model: pm.Model) -> str:
    """Read from a model's graph in which coordinates its sampler moves.

    Returns
    -------
    {"fixed", "centered", "deviation", "partial", "non-centered", "marginal"}
        Or what was declared, such as ``"integrated"``. By what the groups' free variables depend on:
        nothing (non-centered), a spread
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
    """Say what a model is whose data do not stand in its graph as counts.

    Parameters
    ----------
    model : pymc.Model
    problem : Problem
        Which posterior it has.
    parameterization : str
        In which coordinates, such as ``"integrated"``.

    Returns
    -------
    pymc.Model
        The same model.
    """
    _declared[model] = problem, parameterization
    return model


def declare_like(
    model: pm.Model,
    other: pm.Model,
    names: Mapping[str, str] | None,
    rng: np.random.Generator,
    tol: float = 1e-6,
) -> float:
    """Say that a model written by hand is a known one, after making sure that it is.

    Parameters
    ----------
    model, other : pymc.Model
        The model written by hand and the known one.
    names : mapping or None
        As for `log_density_gap`; None where they are the same.
    rng : numpy.random.Generator
        Draws the points at which the two are compared.
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


def _priors(model: pm.Model) -> dict:
    """Priors of the variables that depend on no other; standard normal coordinates left out.

    Frozen SciPy distributions by variable, and ``corr``, the name of an LKJ prior.
    """
    computed = {v for d in model.deterministics for v in ancestors([d])}
    found = {}
    for rv in model.free_RVs:
        parameters = rv.owner.op.dist_params(rv.owner)
        if set(model.free_RVs) & set(ancestors(parameters)):
            continue
        values = [np.unique(p.eval()) for p in parameters]
        if any(value.size != 1 for value in values):
            raise UnknownModelError(f"The prior of {rv.name} differs between its elements.")
        family, p = rv.owner.op.name, [float(v[0]) for v in values]
        if family == "beta" and rv.name.endswith("half") and p[0] == p[1]:
            found["corr"] = written("LKJ", p[0])  # of 2 x 2: (1 + corr) / 2 is Beta(eta, eta)
            continue
        if family not in _FROZEN:
            raise UnknownModelError(f"The prior of {rv.name} is a {family}, which has no name here.")
        prior = _FROZEN[family](*p)
        if not (rv.ndim and rv in computed and prior_name(prior) == "Normal(0, 1)"):
            found[rv.name] = prior
    return found


_FROZEN = {
    "normal": scipy.stats.norm,
    "exponential": lambda scale: scipy.stats.expon(scale=scale),
    "halfnormal": lambda _, sigma: scipy.stats.halfnorm(scale=sigma),
    "halfcauchy": lambda *p: scipy.stats.halfcauchy(scale=p[-1]),
    "halfstudentt": half_student_t,
    "gamma": lambda alpha, scale: scipy.stats.gamma(alpha, scale=scale),
    "invgamma": lambda alpha, beta: scipy.stats.invgamma(alpha, scale=beta),
    "lognormal": lambda mu, sigma: scipy.stats.lognorm(sigma, scale=np.exp(mu)),
    "uniform": lambda low, high: scipy.stats.uniform(low, high - low),
}
"""SciPy's distribution for the name and the parameters of a PyTensor one."""


LOST = 36.0
"""How far below its top a log density may be minus infinity by rounding alone: -log(2.2e-16)."""


def log_density_gap(
    model: pm.Model, other: pm.Model, names: dict[str, str], rng: np.random.Generator, points: int = 20
) -> float:
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
    start, told = model.initial_point(), 0
    pairs: list[tuple[float, float]] = []
    point = start  # the first, so that the values of one point are near the top
    while told < points and len(pairs) < 10 * points:
        other_point = {
            value_name[names[rv.name]]: point[model.rvs_to_values[rv].name] for rv in model.free_RVs
        }
        pairs.append((float(logp(point)), float(other_logp(other_point))))
        told += bool(np.isfinite(pairs[-1]).all())
        scale = 1.5 / (1 + len(pairs) // points)  # nearer, where points so far out tell nothing
        point = {name: rng.normal(scale=scale, size=value.shape) for name, value in start.items()}
    values = np.array(pairs)
    finite = np.isfinite(values).all(axis=1)
    if told < points:
        return np.inf
    # Where one density is zero and the other is not, the models differ; but far out, where a
    # probability has rounded to one for the first and not for the second, nothing is told.
    here = values > values[finite].max(axis=0) - LOST
    if (here & ~finite[:, None]).any():
        return np.inf
    differences = values[finite, 0] - values[finite, 1]
    return float(np.abs(differences - np.mean(differences)).max())
