"""Fits that carry what they are, in their attributes: model, form, priors, data, sampler and seed.

`sample` is ``pm.sample`` that also writes down what it ran. What the graph of the model says is read
from the graph; what nutpie was asked for is read from nutpie's own record in the fit. Scoreboards,
captions and pictures read it from there, so that no label of a fit is typed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import xarray as xr

from fieldguide.problem import Problem
from fieldguide.published import published_name

if TYPE_CHECKING:
    import pymc as pm

RUN = ("sampler", "target_accept", "tune", "draws", "chains", "metric", "seed")
"""Attributes of a fit that say how it was sampled; `Problem.to_attrs` writes which posterior."""

_compiled: WeakKeyDictionary = WeakKeyDictionary()


class UnlabelledFitError(ValueError):
    """A fit does not say what it is."""


def record(
    fit: xr.DataTree, problem: Problem, parameterization: str, *, seed: int, **run: Any
) -> xr.DataTree:
    """Write into a fit what it is.

    Parameters
    ----------
    fit : DataTree
        As the sampler returned it; its attributes are changed.
    problem : Problem
        Which posterior was sampled.
    parameterization : str
        In which coordinates, such as ``"non-centered"``.
    seed : int
        The seed that the user gave.
    **run
        ``sampler``, ``target_accept``, ``tune`` and ``metric``, where the fit does not say itself;
        fits by nutpie do.

    Returns
    -------
    DataTree
        The same fit.
    """
    sizes = fit["posterior"].sizes
    run |= {"draws": int(sizes["draw"]), "chains": int(sizes["chain"]), "seed": int(seed)}
    own = fit["sample_stats"].attrs.get("inference_library_settings")
    if own is not None:  # nutpie's own record, whatever the caller believes
        own = json.loads(own)
        steps = own["settings"]["adapt_options"]["step_size_settings"]
        run |= {"sampler": "nutpie", "target_accept": float(steps["target_accept"])}
        run |= {"tune": int(own["settings"]["num_tune"]), "metric": own["adaptation"]}
    missing = set(RUN) - set(run)
    if missing:
        raise ValueError(f"Say with which {', '.join(sorted(missing))} the fit was made.")
    fit.attrs |= problem.to_attrs() | {"parameterization": parameterization} | run
    return fit


def sample(
    draws: int = 1000,
    *,
    tune: int = 1000,
    chains: int = 4,
    target_accept: float = 0.8,
    random_seed: int,
    model: pm.Model | None = None,
    **settings: Any,
) -> xr.DataTree:
    """Call ``pm.sample``, and write into the fit what was sampled and how.

    Parameters
    ----------
    draws, tune, chains, target_accept, random_seed, model
        As for ``pm.sample``; the model of the context by default, and a seed must be given.
    **settings
        Handed on to ``pm.sample``.

    Returns
    -------
    DataTree
        What ``pm.sample`` returned. Its attributes say what it is; see `record`.

    Raises
    ------
    UnknownModelError
        If the model is none of this book's; sample it with ``pm.sample``.
    """
    import pymc as pm

    from fieldguide.models.graph import parameterization_of, problem_of

    model = pm.modelcontext(model)
    problem, parameterization = problem_of(model), parameterization_of(model)
    fit = pm.sample(
        draws,
        tune=tune,
        chains=chains,
        target_accept=target_accept,
        random_seed=random_seed,
        model=model,
        **settings,
    )
    metric = settings.get("init", "jitter+adapt_diag")
    return record(
        fit,
        problem,
        parameterization,
        seed=random_seed,
        sampler="pymc",
        target_accept=target_accept,
        tune=tune,
        metric="dense" if "full" in metric else "diag",
    )


def compiled_model(model: pm.Model, var_names: Iterable[str] | None = None) -> Any:
    """Compile a model for nutpie, once for each model of this process.

    Parameters
    ----------
    model : pymc.Model
    var_names : iterable of str, optional
        Variables to keep; all by default. Only the first call for a model chooses.
    """
    import nutpie

    if model not in _compiled:
        names = None if var_names is None else list(var_names)
        _compiled[model] = nutpie.compile_pymc_model(model, var_names=names)
    return _compiled[model]


def sample_seeds(
    model: pm.Model,
    seeds: Iterable[int],
    *,
    target_accept: float = 0.8,
    draws: int = 1000,
    tune: int = 1000,
    data: Mapping | None = None,
    **settings: Any,
) -> list[xr.DataTree]:
    """Fit a model with nutpie once for each seed, compiled only once.

    Parameters
    ----------
    model : pymc.Model
    seeds : iterable of int
        One fit each.
    target_accept, draws, tune
        Of every fit, which has four chains.
    data : mapping, optional
        Values of the model's ``pm.Data`` for these fits; the model keeps its own.
    **settings
        Handed on to ``nutpie.sample``.

    Returns
    -------
    list of DataTree
        Each with its record (see `record`).
    """
    import nutpie
    import pymc as pm

    from fieldguide.models.graph import parameterization_of, problem_of

    problem_of(model)  # refused before anything is changed
    before = {variable.name: variable.get_value() for variable in model.data_vars}
    try:
        with model:
            pm.set_data(dict(data or {}))
        now = {variable.name: variable.get_value() for variable in model.data_vars}
        compiled = compiled_model(model)
        compiled = compiled.with_data(**now) if now else compiled
        problem, parameterization = problem_of(model), parameterization_of(model)
    finally:
        with model:
            pm.set_data(before)
    settings = {"chains": 4, "progress_bar": False} | settings
    fits = []
    for seed in seeds:
        fit = nutpie.sample(
            compiled, draws=draws, tune=tune, seed=seed, target_accept=target_accept, **settings
        )
        fits.append(record(fit, problem, parameterization, seed=seed))
    return fits


def problem_of_fit(fit: xr.DataTree) -> Problem | None:
    """Return which posterior a fit says that it is of; None if it does not say."""
    return Problem.from_attrs(fit.attrs)


def prior_of(fit: xr.DataTree, name: str = "sigma") -> str:
    """Return the prior of a parameter that a fit carries, such as ``"HalfNormal(0.25)"``."""
    return _said(fit).prior(name)


def label(fit: xr.DataTree) -> str:
    """Name a fit by what it carries, such as ``mme1: centered, Exponential(1), target 0.9``.

    The name before the colon is the published one; without it where no such model was published.

    Raises
    ------
    UnlabelledFitError
        If the fit does not say what it is.
    """
    problem, attrs = _said(fit), fit.attrs
    if problem.model == "fixed effects":
        words = problem.model
    else:
        words = f"{attrs['parameterization']}, "
        if problem.model == "varying intercept":
            words += f"{problem.prior('sigma')}, "
        words += f"target {attrs['target_accept']:g}"
    name = published_name(problem, attrs["parameterization"], attrs["target_accept"])
    return words if name is None else f"{name}: {words}"


def divergences(fit: xr.DataTree) -> int:
    """Count the divergent transitions after tuning."""
    return int(np.asarray(fit["sample_stats"]["diverging"]).sum())


def _said(fit: xr.DataTree) -> Problem:
    problem = problem_of_fit(fit)
    if problem is None:
        raise UnlabelledFitError(
            "The fit does not say what it is; sample with fieldguide.sample, which writes it down, or "
            "give score a label."
        )
    return problem
