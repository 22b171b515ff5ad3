"""The corpus: settings of many kinds, every remedy tried on each, each fit held against the truth."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import arviz as az
import numpy as np
import nutpie
import pandas as pd
import xarray as xr

from fieldguide.diagnosis.measures import measure
from fieldguide.diagnosis.reading import draws_of_tree
from fieldguide.models.corpus import (
    FAMILIES,
    KEEPING,
    MORE_DATA,
    Setting,
    build,
    data_of,
    quantities,
    remedies,
    settings,
    truth,
)
from fieldguide.studies import Study

SEEDS = (1, 2, 3)
"""Of the fits of a setting with a remedy."""

MORE_SEEDS = range(1, 31)
"""Of the first fits of settings meant to be healthy, for the rate of false alarms."""

MORE_DRAWS, MORE_TUNING, AT_LEAST_MORE = 4, 2, 1000
"""What the remedy ``draws`` multiplies, and how many more draws and tuning steps it gives at least."""

SMALL_STEPS = 0.99
"""target_accept of the remedy ``step``."""

FORM_TARGET = 0.95
"""target_accept of the remedy ``form``."""

DEEPER = 3
"""How much deeper trees may be with the remedy ``depth``."""

LONG_TUNING = 3000
"""Tuning steps of the remedy ``restart``."""

_compiling = threading.Lock()


def _kept(remedy: str) -> str:
    """Return which remedy's model a fit has: that of the first fit where only the run changes."""
    return "none" if remedy in KEEPING and remedy != "form" else remedy


@cache
def _compiled(setting: Setting, kept: str) -> Any:
    return nutpie.compile_pymc_model(build(setting, kept))


def run_of(setting: Setting, remedy: str) -> dict[str, float]:
    """Return how a fit is run, as a remedy changes it.

    Returns
    -------
    dict
        With the keys of ``Setting.run``.
    """
    run = dict(setting.run)
    if remedy == "draws":
        run["draws"] = max(MORE_DRAWS * run["draws"], run["draws"] + AT_LEAST_MORE)
        run["tune"] = max(MORE_TUNING * run["tune"], run["tune"] + AT_LEAST_MORE)
    elif remedy == "step":
        run["target_accept"] = SMALL_STEPS
    elif remedy == "form":
        run["target_accept"] = FORM_TARGET
    elif remedy == "depth":
        run["maxdepth"] += DEEPER
    elif remedy == "restart":
        run |= {"astray": 0.0, "spread": 0.0, "tune": LONG_TUNING}
    return run


def _some_astray(start: Any, size: int, share: float, spread: float) -> Any:
    """Return a function of a chain's seed that starts a share of chains far from where others start."""

    def starting_point(seed: int | None = None) -> np.ndarray:
        point = start(seed)
        rng = np.random.default_rng(seed)
        return point + spread * rng.standard_normal(size) if rng.random() < share else point

    return starting_point


def sample_setting(setting: Setting, remedy: str, seed: int) -> xr.DataTree:
    """Sample a setting with a remedy, four chains one after the other.

    Parameters
    ----------
    setting : Setting
    remedy : str
    seed : int

    Returns
    -------
    DataTree
        As nutpie returned it, with tuning, and with the places of divergent transitions.

    Raises
    ------
    RuntimeError, ValueError
        If the sampler cannot begin.
    """
    run = run_of(setting, remedy)
    with _compiling:  # a worker may be a thread
        compiled = _compiled(setting, _kept(remedy))
    if run["astray"]:
        start = _some_astray(compiled.initial_point_func, compiled.n_dim, run["astray"], run["spread"])
        compiled = dataclasses.replace(compiled, initial_point_func=start)
    return nutpie.sample(
        compiled,
        draws=int(run["draws"]),
        tune=int(run["tune"]),
        target_accept=run["target_accept"],
        maxdepth=int(run["maxdepth"]),
        chains=4,
        cores=1,
        seed=int(seed),
        progress_bar=False,
        save_warmup=True,
        store_divergences=True,
    )


def base_fit(setting: Setting, seed: int) -> xr.DataTree:
    """Return the whole first fit of a setting, before any remedy; see `sample_setting`."""
    return sample_setting(setting, "none", seed)


NO_FIGURES: dict[str, float] = dict.fromkeys(
    (
        "divergences",
        "rhat",
        "ess",
        "ess_tail",
        "maxdepth_share",
        "bfmi",
        "gradients",
        "worst_mean",
        "worst_tail",
        "worst_sd",
    ),
    math.nan,
)
"""The figures of a fit that the sampler could not make."""


def compared(draws: xr.Dataset, exact: pd.DataFrame) -> dict[str, float]:
    """Hold quantities of interest against what is true of them.

    Parameters
    ----------
    draws : Dataset
        A scalar for each quantity (chain, draw).
    exact : DataFrame
        The same quantities with ``mean``, ``sd``, ``q05`` and ``q95``.

    Returns
    -------
    dict
        ``worst_mean``, the largest error of a mean in true sds; ``worst_tail``, of the share of draws
        below the 5% or above the 95% quantile; ``worst_sd``, of the logarithm of an sd.
    """
    x = np.column_stack([draws[name].values.ravel() for name in exact.index])
    means, tails = np.abs(x.mean(0) - exact["mean"]) / exact["sd"], []
    for outside in (x < exact["q05"].to_numpy(), x > exact["q95"].to_numpy()):
        tails.append(np.abs(outside.mean(0) - 0.05).max())
    with np.errstate(divide="ignore"):
        sds = np.abs(np.log(x.std(0, ddof=1) / exact["sd"].to_numpy()))
    return {
        "worst_mean": float(means.max()),
        "worst_tail": float(max(tails)),
        "worst_sd": float(sds.max()),
    }


def figures(setting: Setting, remedy: str, fit: xr.DataTree) -> dict[str, float]:
    """Return the figures of a fit; see `fit_setting`.

    Parameters
    ----------
    setting : Setting
    remedy : str
        With which it was made.
    fit : DataTree
        See `sample_setting`.
    """
    draws = quantities(setting, remedy, fit["posterior"].to_dataset())
    stats = fit["sample_stats"]

    def extreme(found: xr.Dataset, worst: Any) -> float:
        return float(worst([float(found[name]) for name in found.data_vars]))

    exact = truth(setting, remedy)
    nothing = dict.fromkeys(("worst_mean", "worst_tail", "worst_sd"), math.nan)
    return {
        "divergences": int(stats["diverging"].sum()),
        "rhat": extreme(az.rhat(draws), np.max),
        "ess": extreme(az.ess(draws, method="bulk"), np.min),
        "ess_tail": extreme(az.ess(draws, method="tail"), np.min),
        "maxdepth_share": float(stats["maxdepth_reached"].mean()),
        "bfmi": float(np.min(az.bfmi(fit)["energy"].values)),
        "gradients": int(stats["n_steps"].sum() + fit["warmup_sample_stats"]["n_steps"].sum()),
        **(nothing if exact is None else compared(draws, exact)),
    }


def fit_setting(cell: Mapping) -> dict:
    """Fit one setting with one remedy and one seed, and hold the fit against the truth.

    Parameters
    ----------
    cell : mapping
        ``setting`` (a key of `fieldguide.models.corpus.settings`), ``remedy``, ``seed``.

    Returns
    -------
    dict
        ``divergences``; ``rhat``, ``ess`` (bulk) and ``ess_tail``, the worst over the quantities of
        interest; ``maxdepth_share``; ``bfmi``, the smallest; ``gradients`` with tuning; ``worst_mean``,
        ``worst_tail`` and ``worst_sd`` (see `compared`); ``seconds`` of sampling; ``draws``, of all
        chains; ``dimension``, the number of unconstrained parameters; ``truth``, ``"exact"`` or
        ``"none"``; ``failed``, what the sampler said if it could not begin, with no figures.
    """
    setting, remedy = settings()[cell["setting"]], cell["remedy"]
    with _compiling:
        model = build(setting, remedy)
        exact = truth(setting, remedy)
        _compiled(setting, _kept(remedy))  # before the clock starts
    point = model.initial_point(0)
    row: dict[str, Any] = {
        "failed": "",
        "truth": "none" if exact is None else "exact",
        "draws": 4 * int(run_of(setting, remedy)["draws"]),
        "dimension": int(sum(np.size(value) for value in point.values())),
    }
    start = time.perf_counter()
    try:
        fit = sample_setting(setting, remedy, int(cell["seed"]))
    except (RuntimeError, ValueError) as error:
        return row | {"failed": str(error).strip().splitlines()[0], "seconds": math.nan} | NO_FIGURES
    row["seconds"] = time.perf_counter() - start
    return row | figures(setting, remedy, fit)


def corpus_design() -> pd.DataFrame:
    """Every setting with every remedy that could be tried on it, three seeds each.

    The first fits of settings meant to be healthy have thirty, so that false alarms can be counted.
    """
    rows = [
        (setting.name, setting.kind, setting.part, remedy, seed)
        for setting in settings().values()
        for remedy in remedies(setting)
        for seed in (MORE_SEEDS if setting.healthy and remedy == "none" else SEEDS)
    ]
    return pd.DataFrame(rows, columns=["setting", "kind", "part", "remedy", "seed"])


def measure_setting(cell: Mapping) -> dict:
    """Make the first fit of a setting again, and measure it as a diagnosis does.

    Parameters
    ----------
    cell : mapping
        ``setting`` and ``seed``.

    Returns
    -------
    dict
        ``Measures.figures``, without a look at the truth; ``failed`` as in `fit_setting`.
    """
    setting = settings()[cell["setting"]]
    with _compiling:
        model = build(setting, "none")
    try:
        fit = base_fit(setting, int(cell["seed"]))
    except (RuntimeError, ValueError) as error:
        return {"failed": str(error).strip().splitlines()[0], "draws": math.nan}
    with np.errstate(all="ignore"):  # of chains that went astray
        return {"failed": ""} | dict(measure(draws_of_tree(fit), model).figures)


def measures_design() -> pd.DataFrame:
    """The first fits of `corpus_design`."""
    design = corpus_design()
    rows = design[design["remedy"] == "none"].drop(columns="remedy")
    return rows.reset_index(drop=True)


def _written(value: Any) -> Any:
    """Return data so that they read the same on every machine."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict("split")["data"]
    if isinstance(value, np.ndarray):
        return [_written(part) for part in value.tolist()]
    if isinstance(value, Mapping):
        return {str(name): _written(part) for name, part in sorted(value.items())}
    if isinstance(value, list):
        return [_written(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _settings() -> dict:
    written = {
        name: _written({"parameters": one.parameters, "run": one.run, "data": data_of(one)})
        for name, one in settings().items()
    }
    digest = hashlib.sha256(json.dumps(written, sort_keys=True, default=int).encode()).hexdigest()
    return {"settings": len(written), "families": len(FAMILIES), "more": MORE_DATA, "digest": digest}


STUDIES = (
    Study(
        name="corpus",
        title="settings of many kinds with every remedy tried on each",
        design=corpus_design,
        fit=fit_setting,
        group=("setting",),
        data=_settings,
    ),
    Study(
        name="corpus_measures",
        title="what a diagnosis measures of the first fit of every setting",
        design=measures_design,
        fit=measure_setting,
        group=("setting",),
        data=_settings,
    ),
)
