r"""What is measured of a fit before anything is advised: figures, and no limits.

Where divergent transitions are is told by ranks. Every parameter's draws are ranked over all chains, and
the *place* of the divergences is the median rank, as a share: 0.1 is low, 0.9 is high, 0.5 is anywhere.
Whether that could be chance is asked of the fit itself: the divergences of a chain are moved along it
together, so that they keep their clusters and the draws their dependence; how far the mean rank then
strays tells what chance does. The largest deviation over all parameters is compared with
the largest of each move, so that looking at many costs what it should (Westfall and Young 1993,
"Resampling-based multiple testing", section 2.3.2).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from arviz_stats.base.array import array_stats
from scipy.special import ndtri
from scipy.stats import rankdata

from fieldguide.diagnosis.columns import DrawsError
from fieldguide.diagnosis.groups import (
    Groups,
    all_elements,
    effects_of,
    find_groups,
    flat_priors,
    moving,
    own_share,
    scales,
    spread_and_centre,
    vectors,
)

if TYPE_CHECKING:
    from fieldguide.diagnosis.reading import Draws

MOVES = 999
"""How often the divergences are moved along their chains."""

LOOKED_AT = 60
"""Scalar parameters of which places, pairs and sums are looked at; the first ones of a fit."""

MEMBERS = 40
"""Elements of one vector of which places are looked at; the first ones."""

MOST = 400
"""Scalar parameters of which places are looked at, those of vectors included."""

ENOUGH = 4000
"""Draws, all chains together, that are enough for a shape."""

OF_GROUPS = (
    "groups", "centered", "own", "own_least", "own_most", "funnel", "squeeze", "spread_place",
    "spread_p", "spread_range", "spread_ess", "start_place", "end_place",
)  # fmt: skip
"""Figures that only a fit with groups has."""


@dataclass(frozen=True, repr=False)
class Measures:
    """What `measure` found.

    Attributes
    ----------
    figures : dict
        Numbers, one of a kind for every fit; NaN where something cannot be told.
    parameters : DataFrame
        One row per scalar parameter that moves: ``mean``, ``sd``, ``rhat``, ``ess_bulk``, ``ess_tail``;
        ``place`` of the divergences (a share of the ranks) and ``p`` (corrected for all parameters
        looked at), NaN where not looked at.
    pairs : DataFrame
        Pairs of parameters by how much better they tell the divergences together than apart
        (``together``, in nats).
    groups : Groups or None
    own : Series or None
        What each group knows of itself, a share by element of the effects.
    chains : DataFrame
        One row per chain: ``divergences``, ``step_size``, ``acceptance``, ``energy`` (mean, in sds of
        the chains) and ``mean`` of the parameter whose R-hat is largest, with its halves.
    """

    figures: Mapping[str, float]
    parameters: pd.DataFrame
    pairs: pd.DataFrame
    groups: Groups | None
    own: pd.Series | None
    chains: pd.DataFrame


def measure(draws: Draws, model: Any = None) -> Measures:
    """Measure a fit.

    Parameters
    ----------
    draws : Draws
        As `fieldguide.diagnosis.reading.read_draws` gives them.
    model : pymc.Model, optional
        From which draws came; tells the form of effects whose standardised ones were not kept.

    Returns
    -------
    Measures

    Raises
    ------
    DrawsError
        If no parameter moves.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of numbers too large to be squared, and of few draws
        return _measured(draws, model)


def _measured(draws: Draws, model: Any) -> Measures:
    views, left_out = _scalars(draws.posterior)
    if not views:
        raise DrawsError(_nothing_moves(draws.name, left_out))
    flat = np.stack(list(views.values()))  # (parameter, chain, draw)
    values = dict(zip(views, flat, strict=True))
    del views
    parameters = pd.DataFrame(
        {
            "mean": flat.mean((1, 2)),
            "sd": [one.std() for one in flat],
            "rhat": array_stats.rhat(flat),
            "ess_bulk": array_stats.ess(flat),
            "ess_tail": array_stats.ess(flat, method="tail", prob=(0.05, 0.95)),
        },
        index=pd.Index(values, name="parameter"),
    )
    found = find_groups(draws, model)
    chosen = _looked_at(draws, list(values), found)
    where = parameters.index.get_indexer(pd.Index(chosen))
    hit = _diverging(draws)
    figures = _counts(draws, parameters, hit)
    places, pairs = _places(flat, where, hit, chosen)
    parameters = parameters.join(places)
    groups = _leading(found, parameters)
    own = None
    figures |= dict.fromkeys(OF_GROUPS, np.nan)
    if groups is not None:
        own = own_share(draws, groups)
        figures |= _of_groups(draws, groups, own, parameters) | _paths(draws, groups, hit)
    chains, apart = _chains(draws, parameters, values)
    figures |= apart | _exchanged(draws, parameters, values)
    figures |= _shapes(flat, where, parameters) | _sums(draws, values, parameters)
    figures |= {
        "left_out": float(left_out),
        "flat": np.nan if model is None else float(flat_priors(model)),
    }
    return Measures(figures, parameters, pairs, groups, own, chains)


# ---------------------------------------------------------------------------------------------
# Parameters


def _scalars(posterior: Any) -> tuple[dict[str, np.ndarray], int]:
    """Return every scalar that moves, by name; and how many were left out for what is not finite."""
    values: dict[str, np.ndarray] = {}
    left_out = 0
    for _, scalars in all_elements(posterior):
        for label, one in scalars.items():
            if moving(one):
                values[label] = one
            elif not np.isfinite(one).all():
                left_out += 1
    return values, left_out


def _nothing_moves(name: str, left_out: int) -> str:
    """Say why nothing can be diagnosed."""
    place = f"{name}: " if name else ""
    if left_out:
        return (
            f"{place}nothing can be diagnosed, for no parameter that moves has finite draws only "
            f"({left_out} with missing or infinite ones); look at the model's log density at its "
            "initial values, and sample again."
        )
    return (
        f"{place}nothing can be diagnosed, for no parameter moves: all draws of each are the same; give "
        "the draws of what was sampled, or sample again from other initial values."
    )


def _looked_at(draws: Draws, names: list[str], found: list[Groups]) -> list[str]:
    """Return the parameters of which places are looked at: spreads and means first."""
    known = set(names)
    scalars = [
        label
        for _, found_there in all_elements(draws.posterior)
        if len(found_there) <= 4
        for label in found_there
    ]
    first = [name for groups in found for name in (groups.spread, groups.centre)]
    chosen = [name for name in dict.fromkeys([*first, *scalars]) if name in known][:LOOKED_AT]
    by_vector = vectors(draws.posterior)
    moved = dict.fromkeys(groups.standardised or groups.effects for groups in found)
    for vector in moved if moved or len(chosen) > 1 else by_vector:
        chosen += [name for name in by_vector[vector] if name not in chosen][:MEMBERS]
    return chosen[:MOST] or names[:LOOKED_AT]


def _leading(found: list[Groups], parameters: pd.DataFrame) -> Groups | None:
    """Return the groups whose spread tells most of the divergences; without any, the slowest."""
    if not found:
        return None
    spreads = parameters.reindex([groups.spread for groups in found])
    order = np.lexsort((spreads["ess_bulk"].to_numpy(), spreads["p"].fillna(1).to_numpy()))
    return found[int(order[0])]


def _diverging(draws: Draws) -> np.ndarray | None:
    if "diverging" not in draws.stats:
        return None
    return np.asarray(draws.stats["diverging"].transpose("chain", "draw").values, dtype=bool)


def _counts(draws: Draws, parameters: pd.DataFrame, hit: np.ndarray | None) -> dict[str, float]:
    """Return what the usual diagnostics say."""
    sizes = draws.posterior.sizes
    total = draws.totals.get("draws") or sizes["chain"] * sizes["draw"]
    divergences = draws.totals.get("divergences")
    if divergences is None and hit is not None:
        divergences = int(hit.sum())
    capped = draws.totals.get("maxdepth")
    figures = {
        "chains": sizes["chain"],
        "draws": total,
        "divergences": np.nan if divergences is None else divergences,
        "divergent_share": np.nan if divergences is None else divergences / total,
        "maxdepth_share": np.nan if capped is None else capped / total,
        "rhat": parameters["rhat"].max(),
        "ess_bulk": parameters["ess_bulk"].min(),
        "ess_tail": parameters["ess_tail"].min(),
        "median_rhat": parameters["rhat"].median(),
        "median_ess": parameters["ess_bulk"].median(),
        "bfmi": np.nan,
        "steps": np.nan,
        "parameters": len(parameters),
    }
    stats = draws.stats
    if "energy" in stats and np.isfinite(stats["energy"]).all():
        energy = stats["energy"].transpose("chain", "draw").values
        if (energy.std(1) > 0).all():
            figures["bfmi"] = float(np.min(array_stats.bfmi(energy)))
    if "n_steps" in stats:
        figures["steps"] = float(stats["n_steps"].mean())
    return {name: float(value) for name, value in figures.items()}


# ---------------------------------------------------------------------------------------------
# Where the divergences are


def _places(
    flat: np.ndarray, where: np.ndarray, hit: np.ndarray | None, names: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return place and p of every parameter looked at, and the pairs that tell most together."""
    empty = pd.DataFrame({"place": np.nan, "p": np.nan}, index=pd.Index(names, name="parameter"))
    none = pd.DataFrame(columns=["first", "second", "together"])
    if hit is None or not hit.any() or hit.all():
        return empty, none
    ranks = np.stack([rankdata(one).reshape(one.shape) / (hit.size + 1) for one in flat[where]])
    places = empty.assign(
        place=np.median(ranks[:, hit], axis=1), p=moved_p(ranks, hit, np.random.default_rng(0))
    )
    if hit.sum() < 10 or len(names) < 2:
        return places, none
    best = np.argsort(-np.abs(places["place"].to_numpy() - 0.5), kind="stable")[:12]
    scores = ndtri(ranks[best][:, hit])
    apart = [_surprise(one[None]) for one in scores]
    rows = [
        (names[best[i]], names[best[j]], _surprise(scores[[i, j]]) - apart[i] - apart[j])
        for i, j in itertools.combinations(range(len(best)), 2)
        if abs(np.corrcoef(ranks[best[i]].ravel(), ranks[best[j]].ravel())[0, 1]) < 0.999
    ]
    pairs = pd.DataFrame(rows, columns=none.columns).sort_values("together", ascending=False)
    return places, pairs.reset_index(drop=True)


def _surprise(scores: np.ndarray) -> float:
    """Kullback-Leibler divergence of a normal with these scores' moments from the standard one."""
    size = len(scores)
    covariance = np.cov(scores).reshape(size, size) + 1e-6 * np.eye(size)
    mean = scores.mean(1)
    return float((np.trace(covariance) + mean @ mean - size - np.linalg.slogdet(covariance)[1]) / 2)


def moved_p(ranks: np.ndarray, hit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return p values of the mean rank of divergent draws, corrected for all parameters.

    Parameters
    ----------
    ranks : array, shape (parameter, chain, draw)
        Ranks of the draws, as shares.
    hit : bool array, shape (chain, draw)
        Which transitions diverged; some, not all.
    rng : numpy.random.Generator
        Draws the moves.

    Returns
    -------
    array, shape (parameter,)
        Two-sided, by `MOVES` moves of the divergences along their chains; see the module's text.
    """
    size = hit.shape[1]
    observed = np.zeros(len(ranks))
    moved = np.zeros((len(ranks), MOVES))
    for chain in np.flatnonzero(hit.any(1)):
        series = ranks[:, chain] - 0.5
        marks = np.conj(np.fft.rfft(hit[chain].astype(float)))
        sums = np.fft.irfft(np.fft.rfft(series, axis=1) * marks, n=size, axis=1)
        observed += sums[:, 0]
        moved += sums[:, rng.integers(0, size, MOVES)]
    spread = np.maximum(moved.std(1), 1e-12)
    centre = moved.mean(1)
    largest = np.abs((moved - centre[:, None]) / spread[:, None]).max(0)
    seen = np.abs((observed - centre) / spread)
    return (1 + (largest >= seen[:, None]).sum(1)) / (1 + MOVES)


# ---------------------------------------------------------------------------------------------
# Groups


def _of_groups(
    draws: Draws, groups: Groups, own: pd.Series, parameters: pd.DataFrame
) -> dict[str, float]:
    """Return how the width of the effects changes with the spread, and how much the groups know."""
    spread, centre = spread_and_centre(draws, groups)
    by_name = effects_of(draws, groups)
    low, high = (np.quantile(spread, end) for end in (0.1, 0.9))
    ends = []
    for rows in (spread >= high, spread <= low):
        effects = np.stack([one.ravel()[rows] for one in by_name.values()], axis=-1)
        effects -= centre[rows, None]
        ends.append((_width(effects), _width(effects / spread[rows, None])))
    funnel, squeeze = (np.median(wide / narrow) for wide, narrow in zip(*ends, strict=True))
    lead = parameters.astype(float).to_dict("index")[groups.spread]
    return {
        "groups": float(len(by_name)),
        "centered": float(groups.form == "centered"),
        "own": float(own.mean()),
        "own_least": float(own.min()),
        "own_most": float(own.max()),
        "funnel": float(np.clip(funnel, 1e-3, 1e3)),
        "squeeze": float(np.clip(1 / squeeze, 1e-3, 1e3)),
        "spread_place": float(lead["place"]),
        "spread_p": float(lead["p"]),
        "spread_range": float(np.log(np.quantile(spread, 0.975) / np.quantile(spread, 0.025))),
        "spread_ess": float(lead["ess_bulk"]),
    }


def _paths(draws: Draws, groups: Groups | None, hit: np.ndarray | None) -> dict[str, float]:
    """Return where paths that diverged began and broke off, as places among the draws of the spread."""
    figures = {"start_place": np.nan, "end_place": np.nan}
    if groups is None or hit is None or draws.start is None or draws.end is None or not hit.any():
        return figures
    names = [str(name) for name in draws.start.coords["unconstrained_parameter"].values]
    base = groups.spread.partition("[")[0]
    if f"{base}_log__" not in names or base != groups.spread:
        return figures
    at = names.index(f"{base}_log__")
    spread = np.sort(np.log(scales(draws.posterior)[groups.spread]), axis=None)
    for name, ends in (("start_place", draws.start), ("end_place", draws.end)):
        values = ends.transpose("chain", "draw", ...).values[hit][:, at]
        values = values[np.isfinite(values)]
        if len(values):
            figures[name] = float(np.median(np.searchsorted(spread, values) / (spread.size + 1)))
    return figures


def _width(values: np.ndarray) -> np.ndarray:
    """Interquartile ranges, one per column."""
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    return np.maximum(high - low, 1e-300)


# ---------------------------------------------------------------------------------------------
# Chains


def _chains(
    draws: Draws, parameters: pd.DataFrame, values: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the chains side by side, and by how much they sit, freeze or differ in energy."""
    worst = str(parameters["rhat"].idxmax()) if parameters["rhat"].notna().any() else str(
        parameters.index[0]
    )  # fmt: skip
    one = values[worst]
    half = one.shape[1] // 2
    table = pd.DataFrame(
        {"mean": one.mean(1), "first half": one[:, :half].mean(1), "second half": one[:, half:].mean(1)},
        index=pd.RangeIndex(1, len(one) + 1, name="chain"),
    )
    stats = draws.stats
    for name, of in (("step_size", "step_size"), ("acceptance", "acceptance")):
        if of in stats:
            table[name] = stats[of].mean("draw").values
    if "diverging" in stats:
        table["divergences"] = stats["diverging"].sum("draw").values
    between = float(one.mean(1).var(ddof=1)) if len(one) > 1 else np.nan
    halves = float(((table["first half"] - table["second half"]) ** 2 / 4).mean())
    sd = np.array([v.std(1) for v in values.values()])
    typical = np.median(sd, axis=1)
    figures = {
        "sit": 1 - halves / between if len(one) > 1 and between > 0 else np.nan,
        "frozen": float(np.median(sd / np.maximum(typical, 1e-300)[:, None], axis=0).min()),
        "repeated": float(min(1 - (np.diff(chain) != 0).mean() for chain in one)),
        "chain_apart": float(
            (one.mean(1).max() - one.mean(1).min()) / max(np.median(one.std(1)), 1e-300)
        ),
        "energy_apart": np.nan,
        "step_ratio": np.nan,
        "one_chain": np.nan,
    }
    if "energy" in stats:
        energy = stats["energy"].transpose("chain", "draw").values
        within = np.median(energy.std(1))
        if np.isfinite(energy).all() and within > 0:
            table["energy"] = (energy.mean(1) - np.median(energy.mean(1))) / within
            figures["energy_apart"] = float(np.ptp(energy.mean(1)) / within)
    if "step_size" in table and (table["step_size"] > 0).all():
        figures["step_ratio"] = float(table["step_size"].min() / table["step_size"].median())
    if "divergences" in table and table["divergences"].sum() > 0:
        figures["one_chain"] = float(table["divergences"].max() / table["divergences"].sum())
    return table, figures


def _exchanged(
    draws: Draws, parameters: pd.DataFrame, values: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return R-hat once elements are put in order, and once signs are dropped, of what is worst."""
    figures = {"rhat_sorted": np.nan, "rhat_unsigned": np.nan, "rhat_of_vector": np.nan}
    high = parameters["rhat"][parameters["rhat"] > 1.05].sort_values(ascending=False)
    if high.empty:
        return figures
    for scalars in vectors(draws.posterior).values():
        before = float(parameters["rhat"].reindex(list(scalars)).max())
        if len(scalars) <= 12 and before > 1.05:
            v = np.stack(list(scalars.values()))
            after = float(np.max(array_stats.rhat(np.sort(v, axis=0))))
            if not after >= figures["rhat_sorted"]:
                figures |= {"rhat_sorted": after, "rhat_of_vector": before}
    worst = [values[label] for label in high.index[:MOST]]
    signed = [one for one in worst if (one < 0).any() and (one > 0).any()]
    if signed:
        figures["rhat_unsigned"] = float(np.max(array_stats.rhat(np.abs(np.stack(signed)))))
    return figures


# ---------------------------------------------------------------------------------------------
# Shapes


def _shapes(flat: np.ndarray, where: np.ndarray, parameters: pd.DataFrame) -> dict[str, float]:
    """Return how heavy the tails are, how far out the draws go, and how narrow ridges are."""
    names = parameters.index[where]
    tails = np.array([_tail(flat[k]) for k in where])
    reach = np.array([_reach(flat[k]) for k in where])
    drift = np.abs(parameters["mean"].to_numpy()[where]) + parameters["sd"].to_numpy()[where]
    step = max(1, flat[0].size // ENOUGH)
    rows = np.stack([flat[k].ravel()[::step] for k in where[:LOOKED_AT]])
    figures = {
        "tail": float(np.nanmax(tails)) if np.isfinite(tails).any() else np.nan,
        "reach": float(reach.max()),
        "size": float(drift.max()),
        "ridge": np.nan,
        "bend": np.nan,
        "worst_tail": float(tails[int(np.argmin(parameters["ess_bulk"].fillna(0).to_numpy()[where]))]),
    }
    if len(rows) > 1 and len(names):
        together = np.abs(np.corrcoef(np.stack([rankdata(row) for row in rows])))
        np.fill_diagonal(together, 0)
        together[together > 1 - 1e-9] = 0  # one is computed from the other
        figures["ridge"] = float(together.max())
        figures["bend"] = _bend(rows)
    return figures


def _tail(one: np.ndarray) -> float:
    """Shape of a generalised Pareto distribution fitted to the heavier tail (Vehtari et al. 2024)."""
    try:
        return float(array_stats.pareto_khat(one, chain_axis=-2, draw_axis=-1))
    except (ValueError, IndexError):  # too few draws, or a chain that stood still
        return np.nan


def _reach(one: np.ndarray) -> float:
    """Interquartile ranges between the median and the draw that is farthest from it."""
    low, middle, high = np.quantile(one, [0.25, 0.5, 0.75])
    return float(np.abs(one - middle).max() / max(high - low, 1e-300))


def _bend(rows: np.ndarray) -> float:
    """Largest share of one's variance that a parabola in another explains beyond a line."""
    best = 0.0
    for x in rows:
        x = (x - x.mean()) / max(x.std(), 1e-300)
        if np.abs(x).max() > 50:
            continue
        square = x**2 - 1 - (x**3).mean() * x
        norm = (square**2).mean()
        if norm > 0:
            y = rows - rows.mean(1, keepdims=True)
            gained = ((y * square).mean(1) ** 2) / norm / np.maximum(y.var(1), 1e-300)
            best = max(best, float(gained[gained < 1 - 1e-9].max(initial=0)))
    return best


def _sums(draws: Draws, values: Mapping[str, np.ndarray], parameters: pd.DataFrame) -> dict[str, float]:
    """Return how closely two slow parameters hang together, and how fast what they make up is."""
    figures = {"sum_r": np.nan, "sum_gain": np.nan, "sum_slope": np.nan}
    slow = parameters[parameters["ess_bulk"] < 0.1 * draws.posterior["draw"].size *
                      draws.posterior["chain"].size].sort_values("ess_bulk").index[:20]  # fmt: skip
    if len(slow) == 0:
        return figures
    pool = {name: values[name] for name in slow}
    for name, scalars in vectors(draws.posterior).items():
        if set(scalars) & set(slow):
            pool[f"mean of {name}"] = sum(scalars.values()) / len(scalars)  # type: ignore[assignment]
    best = 0.0
    for (_, x), (_, y) in itertools.combinations(pool.items(), 2):
        r = float(np.corrcoef(x.ravel(), y.ravel())[0, 1])
        if not best < abs(r) < 1 - 1e-12:
            continue
        best = abs(r)
        slope = float(y.std() / x.std()) * np.sign(r)
        rest = y - slope * x
        if np.ptp(rest) <= 1e-9 * np.ptp(y):
            best = 0.0
            continue
        ess = array_stats.ess(np.stack([x, y, rest]))
        figures = {"sum_r": abs(r), "sum_gain": float(ess[2] / min(ess[:2])), "sum_slope": slope}
    return figures
