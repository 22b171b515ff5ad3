r"""Groups in a fit: which vector has their effects, on what spread it hangs, what each group knows.

What a group knows of itself is read from the draws. Given the mean :math:`m` and the spread :math:`s` of
all groups, an effect whose likelihood is a normal of information :math:`I_j` around :math:`x_j` has

.. math::

   v_j \mid m, s \sim N\!\left(\frac{I_j x_j + m / s^2}{I_j + 1 / s^2}, \;
   \frac{1}{I_j + 1 / s^2}\right),

so :math:`I_j` and :math:`x_j` have maximum likelihood estimates from the draws of :math:`(v_j, m, s)`.
The group's share is the mean of :math:`I_j / (I_j + 1 / s^2)`, the weight of Papaspiliopoulos, Roberts
and Sköld (2007, Statistical Science 22, section 4): above one half the centered form suits the group.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

if TYPE_CHECKING:
    from fieldguide.diagnosis.reading import Draws

ENOUGH = 4000
"""Draws, all chains together, that are enough for an estimate by maximum likelihood."""

TOGETHER = 0.25
"""Rank correlation from which on a spread or a mean is taken to belong to a vector of effects."""

FEW = 4
"""Elements up to which a dimension tells kinds of effects apart, such as intercepts and slopes."""

_STANDARDISED = re.compile(r"(^|_)(z|raw|tilde|offset|std|standardi[sz]ed|eta)(_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Groups:
    """A vector of effects, and what it hangs on.

    Attributes
    ----------
    effects, spread : str
        Names of the vector, and of the standard deviation of its elements.
    centre : str
        Name of the effects' mean; empty where they are deviations from it.
    standardised : str
        Name of the standardised effects, where the sampler moved in these and they are known.
    form : {"centered", "non-centered"}
        In which coordinates the sampler moved.
    how : str
        How that is known: from the model, the draws, the names or the tool.
    """

    effects: str
    spread: str
    centre: str
    standardised: str
    form: str
    how: str


# ---------------------------------------------------------------------------------------------
# Scalars and vectors of a posterior


def elements(array: Any) -> dict[str, np.ndarray]:
    """Return the scalars of a variable, each of shape (chain, draw), named by their coordinates."""
    array = array.transpose("chain", "draw", ...)
    dims = array.dims[2:]
    values = np.asarray(array.values, dtype=float)
    if not dims:
        return {str(array.name): values}
    labels = [array.coords[d].values if d in array.coords else np.arange(array.sizes[d]) for d in dims]
    flat = values.reshape(*values.shape[:2], -1)
    return {
        f"{array.name}[{', '.join(map(str, at))}]": flat[..., k]
        for k, at in enumerate(itertools.product(*labels))
    }


def vectors(posterior: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return what has at least two elements, all of which move: the elements by name, by vector.

    A matrix with few columns, or few rows, is a vector for each of them: ``u[:, slope]``.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in posterior.data_vars:
        array = posterior[name].transpose("chain", "draw", ...)
        few = [d for d in array.dims[2:] if array.sizes[d] <= FEW]
        parts = {str(name): array}
        if array.ndim == 4 and few:
            dim = min(few, key=lambda d: array.sizes[d])
            labels = array.coords[dim].values if dim in array.coords else range(array.sizes[dim])
            parts = {
                f"{name}[{', '.join(str(label) if d == dim else ':' for d in array.dims[2:])}]": (
                    array.isel({dim: [k]})
                )
                for k, label in enumerate(labels)
            }
        for part, values in parts.items():
            scalars = elements(values)
            if len(scalars) > 1 and all(
                np.isfinite(one).all() and np.ptp(one) > 0 for one in scalars.values()
            ):
                found[part] = scalars
    return found


def scales(posterior: Any) -> dict[str, np.ndarray]:
    """Return what may be a standard deviation: scalars, and elements of few, that are never negative."""
    found: dict[str, np.ndarray] = {}
    for name in posterior.data_vars:
        scalars = elements(posterior[name])
        if len(scalars) <= FEW:
            found |= {k: one for k, one in scalars.items() if (one > 0).all() and np.ptp(one) > 0}
    return found


# ---------------------------------------------------------------------------------------------
# Which belong together


def find_groups(draws: Draws, model: Any = None) -> list[Groups]:
    """Find all effects with their spread and their mean, and the coordinates in which they moved.

    Effects are a vector that another one times a spread makes up, exactly; or, by the model, one whose
    scale is not fixed; or else a vector whose elements lie further apart where some positive scalar is
    large.

    Parameters
    ----------
    draws : Draws
    model : pymc.Model, optional

    Returns
    -------
    list of Groups
        One for each vector of effects.
    """
    posterior = draws.posterior
    stacked = {
        name: np.stack(list(scalars.values()), axis=-1) for name, scalars in vectors(posterior).items()
    }
    stacked = {name: v for name, v in stacked.items() if not (v > 0).all()}
    spreads = scales(posterior)
    if not stacked or not spreads:
        return []
    found = _standardised(stacked, spreads)
    made = {name for effects, _, standard in found for name in (effects, standard)}
    rest = {name: v for name, v in stacked.items() if name not in made}
    found += [(*pair, "") for pair in _spreading(rest, spreads, free=_scaled_in(model))]
    known = {} if model is None else forms_in(model)
    out = []
    for effects, spread, standard in found:
        if standard:
            form, how = "non-centered", "the draws"
        elif model is not None:
            form, how = known.get(effects.partition("[")[0], "non-centered"), "the model"
        elif draws.tool == "brms" or (effects.startswith("r_") and spread.startswith("sd_")):
            form, how = "non-centered", "the tool"
        elif named := [name for name in stacked if _STANDARDISED.search(name)]:
            form, how, standard = "non-centered", "the names", named[0]
        else:
            form, how = "centered", "the draws"
        if effects != standard:
            centre = _centre(posterior, stacked[effects], spreads)
            out.append(Groups(effects, spread, centre, standard, form, how))
    return out


def _standardised(stacked: Mapping, spreads: Mapping) -> list[tuple[str, str, str]]:
    """Find effects that are a standardised vector times a spread, but for what all share."""
    found = []
    for (effects, v), (standard, z) in itertools.permutations(stacked.items(), 2):
        if z.shape != v.shape:
            continue
        step = max(1, v.shape[1] // 50)
        for spread, scale in spreads.items():
            rest = v[:, ::step] - scale[:, ::step, None] * z[:, ::step]
            if np.median(rest.std(-1)) < 1e-6 * max(float(np.median(v.std(-1))), 1e-300):
                found.append((effects, spread, standard))
    return found


def _spreading(stacked: Mapping, spreads: Mapping, free: frozenset) -> list[tuple[str, str]]:
    """Find for a vector the positive scalar with which its elements spread most, if they do at all.

    A vector of which the model says that its scale is not fixed has one in any case.
    """
    found = []
    for effects, v in stacked.items():
        wide = np.log(v.std(-1) + 1e-300).ravel()
        best, name = (-1.0 if effects.partition("[")[0] in free else TOGETHER), ""
        for spread, scale in spreads.items():
            if spread.partition("[")[0] != effects.partition("[")[0]:
                together = float(spearmanr(wide, np.log(scale).ravel()).statistic)
                if together > best:
                    best, name = together, spread
        if name:
            found.append((effects, name))
    return found


def _parameters_of(rv: Any) -> list:
    """Return what a random variable of PyMC depends on, such as its mean and its scale."""
    known = getattr(rv.owner.op, "dist_params", None)
    return [] if known is None else list(known(rv.owner))


def _scaled_in(model: Any) -> frozenset[str]:
    """Names of the vectors of a model whose scale hangs on another free variable."""
    if model is None:
        return frozenset()
    from pytensor.graph.traversal import ancestors

    found = set()
    for rv in model.free_RVs:
        parameters = _parameters_of(rv)
        if rv.ndim and set(model.free_RVs) & set(ancestors(parameters[1:])):
            found.add(rv.name)
    return frozenset(found)


def forms_in(model: Any) -> dict[str, str]:
    """Return the form of every vector that a PyMC model samples, ``{"theta": "centered"}``.

    A standard normal one is the standardised part of a non-centered form; every other is its own effect.
    """
    from pytensor.graph.traversal import ancestors

    found = {}
    for rv in model.free_RVs:
        if rv.ndim:
            parameters = _parameters_of(rv)
            fixed = not set(model.free_RVs) & set(ancestors(parameters))
            standard = (
                rv.owner.op.name == "normal"
                and fixed
                and all(np.all(p.eval() == value) for p, value in zip(parameters, (0, 1), strict=True))
            )
            found[rv.name] = "non-centered" if standard else "centered"
    return found


def flat_priors(model: Any) -> int:
    """Count the free variables of a PyMC model whose prior is flat."""
    return sum(rv.owner.op.name in ("flat", "half_flat") for rv in model.free_RVs)


def _centre(posterior: Any, effects: np.ndarray, spreads: Mapping) -> str:
    """Return the scalar that goes with the mean of the effects; empty if none does."""
    middle = effects.mean(-1).ravel()
    best, name = TOGETHER, ""
    for candidate in posterior.data_vars:
        array = posterior[candidate]
        if array.ndim == 2 and candidate not in spreads:
            one = np.asarray(array.transpose("chain", "draw").values, dtype=float).ravel()
            if np.isfinite(one).all() and np.ptp(one) > 0:
                together = float(spearmanr(one, middle).statistic)
                if together > best:
                    best, name = together, str(candidate)
    return name


# ---------------------------------------------------------------------------------------------
# What each knows


def effects_of(draws: Draws, groups: Groups) -> dict[str, np.ndarray]:
    """Return the effects of groups, each of shape (chain, draw), by name."""
    return vectors(draws.posterior)[groups.effects]


def spread_and_centre(draws: Draws, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Return the spread of groups and their mean (zero where they have none), all chains in a row."""
    spread = scales(draws.posterior)[groups.spread].ravel()
    if not groups.centre:
        return spread, np.zeros_like(spread)
    centre = draws.posterior[groups.centre].transpose("chain", "draw").values
    return spread, np.asarray(centre, dtype=float).ravel()


def own_share(draws: Draws, groups: Groups) -> pd.Series:
    """Return what each group knows of itself, by element of the effects; see the module's text.

    Parameters
    ----------
    draws : Draws
    groups : Groups

    Returns
    -------
    Series
        Shares between 0 (the group says nothing, and its effect comes from the others) and 1.
    """
    by_name = effects_of(draws, groups)
    effects = np.stack([one.ravel() for one in by_name.values()])
    step = max(1, effects.shape[1] // ENOUGH)
    effects = effects[:, ::step]
    spread, centre = (values[::step] for values in spread_and_centre(draws, groups))
    prior = 1 / spread**2
    best = np.full(len(effects), -np.inf)
    share = np.zeros(len(effects))
    for information in np.geomspace(1e-3, 1e4, 121) / np.median(spread) ** 2:
        precision = information + prior
        weight = information / precision
        rest = effects - (1 - weight) * centre
        held = precision * weight
        middle = (rest * held).sum(1) / (held * weight).sum()
        errors = rest - weight * middle[:, None]
        fit = (np.log(precision).sum() - (precision * errors**2).sum(1)) / 2
        better = fit > best
        best[better], share[better] = fit[better], weight.mean()
    return pd.Series(share, index=pd.Index(by_name, name="group"), name="own")
