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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

if TYPE_CHECKING:
    from fieldguide.diagnosis.reading import Draws

ENOUGH = 4000
"""Draws, all chains together, that are enough for an estimate by maximum likelihood."""

MANY = 20_000
"""Draws, all chains together, from which on a rank correlation is taken of a part of them."""

MOST = 200
"""Vectors, standard deviations and means that are looked at; the first ones of a fit."""

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
    labels = [array.coords[d].values if d in array.coords else None for d in array.dims[2:]]
    return _named(str(array.name), np.asarray(array.values, dtype=float), labels)


def _named(name: str, values: np.ndarray, labels: list) -> dict[str, np.ndarray]:
    if values.ndim == 2:
        return {name: values}
    flat = values.reshape(*values.shape[:2], -1)
    counted = [range(size) for size in values.shape[2:]]
    told = [c if one is None else one for one, c in zip(labels, counted, strict=True)]
    names = [f"{name}[{', '.join(map(str, at))}]" for at in itertools.product(*told)]
    if len(set(names)) < len(names):  # labels that come twice
        names = [f"{name}[{', '.join(map(str, at))}]" for at in itertools.product(*counted)]
    return {label: flat[..., k] for k, label in enumerate(names)}


def _variables(posterior: Any) -> Iterator[tuple[str, np.ndarray, tuple, list]]:
    """Yield name, values (chain, draw, ...), further dimensions and their labels."""
    coords = set(posterior.coords)
    for name in posterior.data_vars:
        variable = posterior.variables[name].transpose("chain", "draw", ...)
        dims = variable.dims[2:]
        labels = [posterior.variables[d].values if d in coords else None for d in dims]
        yield str(name), np.asarray(variable.values, dtype=float), dims, labels


def all_elements(posterior: Any) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield every variable's name and its scalars, as `elements` gives them."""
    for name, values, _, labels in _variables(posterior):
        yield name, _named(name, values, labels)


def element(posterior: Any, label: str) -> np.ndarray:
    """Return a scalar of shape (chain, draw) by its name, such as ``theta[a, 2]``."""
    for name, values, _, labels in _variables(posterior):
        if label == name or label.startswith(f"{name}["):
            found = _named(name, values, labels)
            if label in found:
                return found[label]
    raise KeyError(label)


def moving(values: np.ndarray) -> np.ndarray:
    """Tell of every element, of shape (chain, draw, ...), whether it is finite and not constant."""
    with np.errstate(all="ignore"):
        low, high = values.min((0, 1)), values.max((0, 1))
        largest = np.maximum(np.abs(low), np.abs(high))
        return np.isfinite(largest) & (high - low > 1e-12 * largest)


def vectors(posterior: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return what has at least two elements, all of which move: the elements by name, by vector.

    A matrix with few columns, or few rows, is a vector for each of them: ``u[:, slope]``.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, values, dims, labels in _variables(posterior):
        few = [k for k in range(len(dims)) if values.shape[2 + k] <= FEW]
        parts = {name: (values, labels)}
        if len(dims) == 2 and few:
            at = min(few, key=lambda k: values.shape[2 + k])
            told = range(values.shape[2 + at]) if labels[at] is None else labels[at]
            parts = {
                f"{name}[{', '.join(str(label) if k == at else ':' for k in range(2))}]": (
                    values.take([j], axis=2 + at),
                    [[label] if k == at else labels[k] for k in range(2)],
                )
                for j, label in enumerate(told)
            }
        for part, (those, named) in parts.items():
            if those[0, 0].size > 1 and moving(those).all():
                found[part] = _named(name, those, named)
    return found


def scales(posterior: Any) -> dict[str, np.ndarray]:
    """Return what may be a standard deviation: scalars, and elements of few, that are never negative."""
    found: dict[str, np.ndarray] = {}
    for name, values, _, labels in _variables(posterior):
        if values[0, 0].size <= FEW:
            scalars = _named(name, values, labels)
            found |= {k: one for k, one in scalars.items() if (one > 0).all() and moving(one)}
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
        name: np.stack(list(scalars.values()), axis=-1)
        for name, scalars in itertools.islice(vectors(posterior).items(), MOST)
    }
    stacked = {name: v for name, v in stacked.items() if not (v > 0).all()}
    spreads = dict(itertools.islice(scales(posterior).items(), MOST))
    if not stacked or not spreads:
        return []
    found = _standardised(stacked, spreads)
    made = {name for effects, _, standard in found for name in (effects, standard)}
    rest = {name: v for name, v in stacked.items() if name not in made}
    found += [(*pair, "") for pair in _spreading(rest, spreads, free=_scaled_in(model))]
    known = {} if model is None else forms_in(model)
    centres = _Ranked(_centres(posterior, spreads)) if found else None
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
        if effects != standard and centres is not None:
            centre = centres.nearest(stacked[effects].mean(-1), TOGETHER)
            out.append(Groups(effects, spread, centre, standard, form, how))
    return out


def _standardised(stacked: Mapping, spreads: Mapping) -> list[tuple[str, str, str]]:
    """Find effects that are a standardised vector times a spread, but for what all share."""
    thin = {name: v[:, :: max(1, v.shape[1] // 50)] for name, v in stacked.items()}
    widths = {name: v.std(-1) for name, v in thin.items()}
    scale = np.stack([one[:, :: max(1, one.shape[1] // 50)] for one in spreads.values()])
    names = np.array(list(spreads), dtype=object)
    found = []
    for (effects, v), (standard, z) in itertools.permutations(thin.items(), 2):
        if z.shape != v.shape:
            continue
        least = 1e-6 * max(float(np.median(widths[effects])), 1e-300)
        # |sd(v) - s sd(z)| <= sd(v - s z), so only these can be it
        near = np.abs(widths[effects] - scale * widths[standard]) <= 2 * least
        for k in np.flatnonzero(near.mean((1, 2)) >= 0.5):
            rest = v - scale[k][..., None] * z
            if np.median(rest.std(-1)) < least:
                found.append((effects, str(names[k]), standard))
    return found


class _Ranked:
    """Scalars by their ranks, to find the one that goes most with another."""

    def __init__(self, scalars: Mapping[str, np.ndarray]) -> None:
        self.names = list(scalars)
        self.ranks = np.array([self._ranks(one) for one in scalars.values()])

    @staticmethod
    def _ranks(one: np.ndarray) -> np.ndarray:
        row = one.ravel()
        ranks = rankdata(row[:: max(1, row.size // MANY)])
        ranks -= ranks.mean()
        return ranks / max(float(np.sqrt(ranks @ ranks)), 1e-300)

    def nearest(self, one: np.ndarray, least: float, without: str = "") -> str:
        """Return the first name with the largest rank correlation above `least`, or nothing."""
        if not self.names:
            return ""
        together = self.ranks @ self._ranks(one)
        if without:
            together[[name.partition("[")[0] == without for name in self.names]] = -np.inf
        best = int(np.argmax(together))
        return self.names[best] if together[best] > least else ""


def _spreading(stacked: Mapping, spreads: Mapping, free: frozenset) -> list[tuple[str, str]]:
    """Find for a vector the positive scalar with which its elements spread most, if they do at all.

    A vector of which the model says that its scale is not fixed has one in any case.
    """
    ranked = _Ranked(spreads)
    found = []
    for effects, v in stacked.items():
        base = effects.partition("[")[0]
        wide = np.stack([chain.std(-1) for chain in v])
        name = ranked.nearest(wide, -1.0 if base in free else TOGETHER, without=base)
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
                and all(
                    np.all(p.eval(mode="FAST_COMPILE") == value)
                    for p, value in zip(parameters, (0, 1), strict=True)
                )
            )
            found[rv.name] = "non-centered" if standard else "centered"
    return found


def flat_priors(model: Any) -> int:
    """Count the free variables of a PyMC model whose prior is flat."""
    return sum(rv.owner.op.name in ("flat", "half_flat") for rv in model.free_RVs)


def _centres(posterior: Any, spreads: Mapping) -> dict[str, np.ndarray]:
    """Return the scalars that may be a mean of effects, by name."""
    scalars = (
        (name, values)
        for name, values, dims, _ in _variables(posterior)
        if not dims and name not in spreads and moving(values)
    )
    return dict(itertools.islice(scalars, MOST))


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
    spread, centre = spread_and_centre(draws, groups)
    step = max(1, spread.size // ENOUGH)
    spread, centre = spread[::step], centre[::step]
    prior = 1 / np.maximum(spread, 1e-12 * np.median(spread)) ** 2
    middle = centre - centre.mean()
    # With I = information and w = I / (I + prior), the errors are e + w (centre - m), e = v - centre;
    # (I + prior) w = I, so sums over draws are needed only once.
    e = np.stack([one.ravel()[::step] for one in by_name.values()]) - centre
    total, crossed = e.sum(1), e @ middle
    np.square(e, out=e)
    squared, weighted = e.sum(1), e @ prior
    best = np.full(len(e), -np.inf)
    share = np.zeros(len(e))
    for information in np.geomspace(1e-3, 1e4, 121) / np.median(spread) ** 2:
        precision = information + prior
        weight = information / precision
        sums = weight.sum(), weight @ middle, weight @ middle**2
        m = (total + sums[1]) / sums[0]
        held = squared + 2 * (crossed - m * total) + sums[2] - 2 * m * sums[1] + m**2 * sums[0]
        fit = (np.log(precision).sum() - weighted - information * held) / 2
        better = fit > best
        best[better], share[better] = fit[better], weight.mean()
    return pd.Series(share, index=pd.Index(by_name, name="group"), name="own")
