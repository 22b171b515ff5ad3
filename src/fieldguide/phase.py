"""Which form of the varying-intercept model wins, where it changes hands, and what a wrong choice costs.

Read from the stored tables ``districts_number``, ``districts_women`` and ``districts_phase``
(`fieldguide.studies.sixty`). The price of a form is gradient evaluations per effective draw, with the
smallest bulk or tail ESS over all quantities. Theory has the forms change hands where a group's own
data hold half of the precision of its effect: with information I about the effect and spread sigma,
where the share ``I sigma^2 / (1 + I sigma^2)`` is one half (Papaspiliopoulos, Roberts and Sköld 2007,
Statistical Science 22, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats
from numpy.typing import ArrayLike

from fieldguide.data import (
    count_by_district,
    load_bangladesh,
    load_schools,
    load_three_districts,
    question_trial,
)
from fieldguide.priors import SIGMA_PRIOR
from fieldguide.reference import Reference
from fieldguide.reference.districts import exact_posterior
from fieldguide.reference.schools import schools_posterior
from fieldguide.reference.trial import trial_posterior
from fieldguide.reml import cross_products
from fieldguide.style import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIE = 1.5
"""Efficiencies whose ratio is smaller are a tie."""

SPREADS = {"spread": "true σ", "exact_sigma": "posterior mean", "exact_sigma_05": "5% quantile"}
"""What the rule may be given as spread, by the tables' columns: sigma as it was simulated, or its exact
posterior mean or 5% quantile."""

MARKERS = {"centered": "o", "non-centered": "s", "partial": "D"}

_DATA = ["number", "women", "spread", "data_seed"]
_LARGEST = 6.0  # log2 of the ratio from which on squares do not grow


class PhaseError(ValueError):
    """A table is not one of those that this module reads; the message says what it lacks."""


def _checked(table: pd.DataFrame, columns: Sequence[str], name: str) -> pd.DataFrame:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise PhaseError(
            f"The table lacks {', '.join(missing)}; give the stored table {name}, or rows of it."
        )
    if table.empty:
        raise PhaseError(f"The table has no rows; give the stored table {name}, or rows of it.")
    return table


def efficiency(table: pd.DataFrame) -> pd.Series:
    """Return the smallest ESS, bulk or tail, per 1000 gradient evaluations after tuning.

    Parameters
    ----------
    table : DataFrame
        Fits, one per row, with ``ess_bulk``, ``ess_tail`` and ``gradients``.

    Returns
    -------
    Series of float
        An ESS that cannot be computed, because chains never moved, counts as one draw.
    """
    _checked(table, ["ess_bulk", "ess_tail", "gradients"], "districts_phase")
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1, skipna=False).fillna(1.0).clip(lower=1.0)
    return (1000 * ess / table["gradients"]).rename("efficiency")


def data_sets(table: pd.DataFrame) -> pd.DataFrame:
    """Return what was fitted, one row per data set, with the efficiency of each form.

    Parameters
    ----------
    table : DataFrame
        One of the three stored tables.

    Returns
    -------
    DataFrame
        Indexed by what the table varies of ``number``, ``women``, ``spread`` and ``data_seed``, with
        ``information``, ``information_low``, ``information_high`` (1 / logit squared), ``exact_sigma``
        and its quantiles ``exact_sigma_05`` and ``exact_sigma_95`` (logit); ``centered`` and
        ``non-centered``, the efficiency, geometric mean over the sampler's seeds; and ``log2_ratio``,
        by how many doublings the centered form wins.
    """
    keys = [name for name in _DATA if name in table.columns]
    kept = ["information", "information_low", "information_high"]
    kept += ["exact_sigma", "exact_sigma_05", "exact_sigma_95"]
    _checked(table, ["number", "data_seed", "parameterization", *kept], "districts_phase")
    rows = table.assign(log2=np.log2(efficiency(table)))
    logs = rows.pivot_table(index=keys, columns="parameterization", values="log2", aggfunc="mean")
    if not {"centered", "non-centered"} <= set(logs.columns):
        raise PhaseError("The table has one form only; give rows of the centered and non-centered form.")
    found = rows.groupby(keys)[kept].first()
    for form in ("centered", "non-centered"):
        found[form] = 2 ** logs[form]
    return found.assign(log2_ratio=logs["centered"] - logs["non-centered"])


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return the phase diagram, one row per number of districts, women per district and true spread.

    Parameters
    ----------
    table : DataFrame
        The stored table ``districts_phase``.

    Returns
    -------
    DataFrame
        Columns ``number``, ``women``, ``spread`` (logit), ``information``, ``exact_sigma`` and
        ``exact_sigma_05`` (medians over data sets), ``log2_ratio`` (mean over data sets) with its
        range ``log2_low`` to ``log2_high``, and ``data_sets``, their number.
    """
    found = data_sets(_checked(table, _DATA, "districts_phase"))
    groups = found.groupby(level=["number", "women", "spread"])
    medians = groups[["information", "exact_sigma", "exact_sigma_05"]].median()
    ratio = groups["log2_ratio"].agg(
        log2_ratio="mean", log2_low="min", log2_high="max", data_sets="size"
    )
    return medians.join(ratio).reset_index()


# ---------------------------------------------------------------------------------------------
# Where the forms change hands


def own_share(information: ArrayLike, spread: ArrayLike) -> np.ndarray:
    """Return the share of the precision of a group's effect that its own data hold.

    Parameters
    ----------
    information : array_like
        About the effect, in 1 / unit squared; n p (1 - p) of a proportion's logit.
    spread : array_like
        Standard deviation between the groups, in the same unit.

    Returns
    -------
    ndarray
        In [0, 1).

    Raises
    ------
    ValueError
        If a value is negative or missing.
    """
    known, sd = np.asarray(information, dtype=float), np.asarray(spread, dtype=float)
    if not ((known >= 0).all() and (sd >= 0).all()):
        raise ValueError("Give information and spread as numbers of at least 0; one is not.")
    return known * sd**2 / (1 + known * sd**2)


def choose(information: ArrayLike, spread: ArrayLike, at: float = 1.0) -> np.ndarray:
    """Choose the form by the rule of thumb: centered where information x spread squared exceeds `at`.

    Parameters
    ----------
    information, spread : array_like
        Of the typical group; see `own_share`.
    at : float
        1 is theory's, a share of one half; or a `Crossover`'s.

    Returns
    -------
    ndarray of str
        ``"centered"`` or ``"non-centered"``.
    """
    if not at > 0:
        raise ValueError(f"at is {at!r}; give a positive number, 1 for an own share of one half.")
    return np.where(own_share(information, spread) > at / (1 + at), "centered", "non-centered")


@dataclass(frozen=True)
class Crossover:
    """Where the better form changes.

    Attributes
    ----------
    at, low, high : float
        Information x spread squared, with a 95% interval from a bootstrap over cells.
    """

    at: float
    low: float
    high: float

    @property
    def share(self) -> tuple[float, float, float]:
        """The same as a share of the precision (see `own_share`)."""
        return self.at / (1 + self.at), self.low / (1 + self.low), self.high / (1 + self.high)


def crossover(
    table: pd.DataFrame, spread: str = "spread", *, resamples: int = 2000, seed: int = 0
) -> Crossover:
    """Estimate where the forms change hands, as information x spread squared.

    The log ratio of the efficiencies is fitted by a function that does not decrease (isotonic least
    squares); where it changes sign is the threshold that loses least in all, counted in doublings.

    Parameters
    ----------
    table : DataFrame
        As `cells` or `data_sets` returns it; the bootstrap resamples its rows.
    spread : str
        A column of `SPREADS`.
    resamples : int
        Of the bootstrap.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Crossover

    Raises
    ------
    PhaseError
        If the table lacks columns, or one form wins everywhere.
    """
    table = table.reset_index()
    x = _log2_product(table, spread)
    ratio = table["log2_ratio"].to_numpy(dtype=float)
    at = _zero(x, ratio)
    if not np.isfinite(at):
        raise PhaseError("One form wins in every cell, so there is no crossover; give more cells.")
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(x), size=(resamples, len(x)))
    again = [_zero(x[rows], ratio[rows]) for rows in picked]
    low, high = np.quantile(again, [0.025, 0.975])
    return Crossover(float(2**at), float(2**low), float(2**high))


def _log2_product(table: pd.DataFrame, spread: str) -> np.ndarray:
    if spread not in SPREADS:
        raise ValueError(f"Unknown spread {spread!r}; use one of {', '.join(SPREADS)}.")
    _checked(table, ["information", spread, "log2_ratio"], "districts_phase")
    return np.log2(table["information"].to_numpy() * table[spread].to_numpy() ** 2)


def _zero(x: np.ndarray, y: np.ndarray) -> float:
    """Where the isotonic fit of y on x changes sign; infinite if it does not."""
    order = np.argsort(x, kind="stable")
    fitted = scipy.optimize.isotonic_regression(y[order]).x
    below = int((fitted < 0).sum())
    if below == 0:
        return -np.inf
    if below == len(x):
        return np.inf
    return float(x[order][below - 1 : below + 1].mean())


@dataclass(frozen=True)
class Success:
    """How often a rule picks the better form.

    Attributes
    ----------
    right, decided, ties : int
        Cells where it picks the better form, of how many where one is better, and cells where
        neither is (ratio below `TIE`).
    share, low, high : float
        ``right / decided`` with its 95% interval (Wilson 1927).
    cost : float
        How many times dearer the rule's form is where it is wrong, median; NaN if it never is.
    worst : float
        The same, largest; 1 if it never is wrong.
    wrong : DataFrame
        The cells where it is wrong.
    """

    right: int
    decided: int
    ties: int
    share: float
    low: float
    high: float
    cost: float
    worst: float
    wrong: pd.DataFrame


def success(table: pd.DataFrame, spread: str = "spread", *, at: float = 1.0) -> Success:
    """Return how often the rule of thumb picks the better form, and what its mistakes cost.

    Parameters
    ----------
    table : DataFrame
        As `cells` or `data_sets` returns it.
    spread : str
        A column of `SPREADS`, which the rule is given.
    at : float
        See `choose`.
    """
    table = table.reset_index()
    _log2_product(table, spread)  # the columns are there
    chosen = choose(table["information"], table[spread], at)
    ratio = table["log2_ratio"].to_numpy(dtype=float)
    decided = np.abs(ratio) >= np.log2(TIE)
    right = decided & ((ratio > 0) == (chosen == "centered"))
    wrong = decided & ~right
    count, of = int(right.sum()), int(decided.sum())
    low = high = np.nan
    if of:
        ends = scipy.stats.binomtest(count, of).proportion_ci(method="wilson")
        low, high = float(ends.low), float(ends.high)
    costs = 2 ** np.abs(ratio[wrong])
    return Success(
        right=count,
        decided=of,
        ties=int((~decided).sum()),
        share=count / of if of else np.nan,
        low=low,
        high=high,
        cost=float(np.median(costs)) if costs.size else np.nan,
        worst=float(costs.max()) if costs.size else 1.0,
        wrong=table[wrong].assign(chosen=chosen[wrong]),
    )


def wrong_choices(table: pd.DataFrame) -> pd.DataFrame:
    """Return what each fixed choice and the rules cost over all cells, beside always the better form.

    Parameters
    ----------
    table : DataFrame
        As `cells` or `data_sets` returns it.

    Returns
    -------
    DataFrame
        Indexed by the way of choosing, with ``right``, ``decided``, ``share``, ``low``, ``high``,
        ``median cost`` where wrong, ``worst cost``, and ``mean cost`` over all cells (geometric).
    """
    table = _checked(table.reset_index(), ["information", "log2_ratio"], "districts_phase")
    ratio = table["log2_ratio"].to_numpy(dtype=float)
    ways = {
        "always centered": np.full(len(table), "centered"),
        "always non-centered": np.full(len(table), "non-centered"),
    }
    for column, words in SPREADS.items():
        if column in table.columns:
            ways[f"rule with {words}"] = choose(table["information"], table[column])
    rows = {}
    for name, chosen in ways.items():
        lost = np.where(chosen == "centered", np.maximum(-ratio, 0), np.maximum(ratio, 0))
        decided = np.abs(ratio) >= np.log2(TIE)
        wrong = decided & (lost > 0)
        of, right = int(decided.sum()), int((decided & ~wrong).sum())
        ends = scipy.stats.binomtest(right, of).proportion_ci(method="wilson")
        costs = 2 ** lost[wrong]
        rows[name] = {
            "right": right,
            "decided": of,
            "share": right / of,
            "low": float(ends.low),
            "high": float(ends.high),
            "median cost": float(np.median(costs)) if costs.size else 1.0,
            "worst cost": float(costs.max()) if costs.size else 1.0,
            "mean cost": float(2 ** lost.mean()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("choice")


# ---------------------------------------------------------------------------------------------
# The book's cases


@cache
def cases() -> pd.DataFrame:
    """Return where the book's cases lie on the phase diagram.

    Returns
    -------
    DataFrame
        Indexed by case, with ``groups``, their number; ``information`` of the typical group (the
        median), ``information_low`` and ``information_high``; ``spread``, the exact posterior mean,
        with ``spread_low`` and ``spread_high``, the 5% and 95% quantiles; ``share`` (see `own_share`);
        ``form``, what the rule picks (see `choose`) with the mean, and ``cautious``, with the 5%
        quantile. Districts: n p (1 - p) with the pooled proportion, and sigma under Exponential(1), in
        logits. Trial: the effects of the sites, log odds ratios, whose information is that of both
        arms together, and their sd under the question's priors. Schools: n over the residual variance
        (its posterior mean squared), and the sd of the intercepts, in points.
    """
    from fieldguide.models.schools import FORMULA, LKJ_ETA, PRIORS, with_catholic

    rows: dict[str, dict] = {}
    for name, counts in {
        "three districts": load_three_districts(),
        "sixty districts": count_by_district(load_bangladesh()),
    }.items():
        y, n = counts["users"].to_numpy(), counts["women"].to_numpy()
        p = y.sum() / n.sum()
        exact = exact_posterior(y, n, sigma_prior=SIGMA_PRIOR)
        rows[name] = _case(n * p * (1 - p), exact, "sigma")
    trial = question_trial()
    arms = []
    for arm in ("control", "treated"):
        p = trial[arm].sum() / trial[f"n_{arm}"].sum()
        arms.append(trial[f"n_{arm}"].to_numpy() * p * (1 - p))
    answer = trial_posterior(trial, log2_points=10)
    both = 1 / (1 / arms[0] + 1 / arms[1])
    rows["trial's effects"] = _case(both, answer, "sd_effect")
    sums = cross_products(FORMULA, with_catholic(load_schools()))
    schools = schools_posterior(sums, lkj_eta=LKJ_ETA, **PRIORS)
    residual = float(schools.mean["sigma"])
    rows["schools"] = _case(sums.rows / residual**2, schools, "sd_intercept")
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")
    found["share"] = own_share(found["information"], found["spread"])
    found["form"] = choose(found["information"], found["spread"])
    found["cautious"] = choose(found["information"], found["spread_low"])
    return found


def _case(information: np.ndarray, exact: Reference, name: str) -> dict:
    low, high = (float(exact.quantile(q, var_names=[name])[name]) for q in (0.05, 0.95))
    return {
        "groups": len(information),
        "information": float(np.median(information)),
        "information_low": float(information.min()),
        "information_high": float(information.max()),
        "spread": float(exact.mean[name]),
        "spread_low": low,
        "spread_high": high,
    }


# ---------------------------------------------------------------------------------------------
# The phase diagram


@dataclass(frozen=True)
class Phase:
    """The phase diagram of one number of districts.

    Attributes
    ----------
    table : DataFrame
        The stored table ``districts_phase``.
    number : int
        Of districts.
    """

    table: pd.DataFrame
    number: int = 20

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The cells of this number of districts; see `cells`."""
        found = cells(self.table)
        numbers = sorted(set(found["number"]))
        if self.number not in numbers:
            raise PhaseError(
                f"The table has no cells of {self.number} districts; it has "
                f"{', '.join(str(number) for number in numbers)}."
            )
        return found[found["number"] == self.number].reset_index(drop=True)

    @cached_property
    def data_sets(self) -> pd.DataFrame:
        """The data sets of this number of districts; see `data_sets`."""
        found = data_sets(_checked(self.table, _DATA, "districts_phase")).reset_index()
        return found[found["number"] == self.number].reset_index(drop=True)

    @cached_property
    def crossover(self) -> Crossover:
        """Where the forms change hands by the true spread; see `crossover`."""
        return crossover(self.cells)

    def figure(self, with_cases: bool = True) -> Figure:
        """Draw which form wins by how much, theory's curve, the estimate, and the book's cases.

        Parameters
        ----------
        with_cases : bool
            Whether to mark the book's cases.

        Returns
        -------
        Figure
            Needs Matplotlib; it is not closed.
        """
        import matplotlib.pyplot as plt
        from matplotlib.lines import Line2D

        from fieldguide.figures import HALO

        fig, ax = plt.subplots(figsize=(7, 4.9))
        table = self.cells
        x = table.groupby("women")["information"].transform("median")
        ratio = table["log2_ratio"]
        tied = ratio.abs() < np.log2(TIE)
        for form, sign in (("centered", 1), ("non-centered", -1)):
            wins = (sign * ratio > 0) & ~tied
            sizes: Any = _area(ratio[wins])
            ax.scatter(x[wins], table["spread"][wins], sizes, COLORS[form], marker="s", lw=0)
        ax.scatter(x[tied], table["spread"][tied], float(_area(0)), COLORS["fixed"], marker="s", lw=0)
        ax.set(xscale="log", yscale="log")
        ax.set_xlim(x.min() / 2.2, x.max() * 2.2)
        ax.set_ylim(table["spread"].min() / 1.6, table["spread"].max() * 1.7)
        left, right = ax.get_xlim()
        at = self.crossover
        line = np.geomspace(left, right, 50)
        band: Any = {"color": "0.5", "alpha": 0.25, "lw": 0, "zorder": 0}
        ax.fill_between(line, np.sqrt(at.low / line), np.sqrt(at.high / line), **band)
        ax.plot(line, np.sqrt(at.at / line), color=COLORS["prior"], ls="--", lw=1.4)
        ax.plot(line, 1 / np.sqrt(line), color=COLORS["exact"], lw=1.6)
        if with_cases:
            for name, case in cases().iterrows():
                ax.plot(case["information"], case["spread"], "D", color="#000000", mec="#ffffff", ms=8)
                ax.annotate(
                    str(name).partition(" ")[0].removesuffix("'s"),
                    (case["information"], case["spread"]),
                    _PLACES.get(str(name), (8, 6)),
                    textcoords="offset points",
                    ha=_SIDES.get(str(name), "left"),
                    weight="bold",
                    path_effects=HALO,
                )
        ax.set_yticks(sorted(set(table["spread"])), [f"{sd:g}" for sd in sorted(set(table["spread"]))])
        ax.minorticks_off()
        ax.set(
            xlabel="information per district, n p (1 − p) (1 / logit²)",
            ylabel="spread between districts, σ (logit)",
        )
        square: Any = {"marker": "s", "ls": "none", "mew": 0}
        handles = [
            Line2D([], [], color=COLORS[form], ms=np.sqrt(_area(np.log2(times))), **square)
            for form in ("centered", "non-centered")
            for times in (4, 32)
        ]
        names = [f"{form} {times}×" for form in ("centered", "non-centered") for times in (4, 32)]
        handles += [
            Line2D([], [], color=COLORS["fixed"], ms=np.sqrt(_area(0)), **square),
            Line2D([], [], color=COLORS["exact"], lw=1.6),
            Line2D([], [], color=COLORS["prior"], lw=1.4, ls="--"),
        ]
        names += [f"within {TIE:g}×", "theory", "estimate"]
        fig.legend(handles, names, loc="outside upper left", ncols=4)
        return fig

    @property
    def alt(self) -> str:
        """What `figure` shows, in words."""
        table, at = self.cells, self.crossover
        tied = table["log2_ratio"].abs() < np.log2(TIE)
        won = int(((table["log2_ratio"] > 0) & ~tied).sum())
        most = 2 ** table["log2_ratio"].max(), 2 ** -table["log2_ratio"].min()
        less = len(table) - won - int(tied.sum())
        return (
            f"A grid of squares for {self.number} districts, information against spread. Of "
            f"{len(table)} cells the centered form wins {won}, above a falling line, by up to "
            f"{most[0]:.0f} times; the non-centered form wins {less}, below it, by up to {most[1]:.0f} "
            f"times; {int(tied.sum())} are ties. They change hands where information times squared "
            f"spread is {at.at:.2g} (95% interval {at.low:.2g} to {at.high:.2g}); theory says 1."
        )

    def rule_figure(self) -> Figure:
        """Draw by how much a form wins against information x spread squared, for each spread.

        Returns
        -------
        Figure
            A panel for each of `SPREADS`, all data sets of this number of districts; the rule changes
            its mind at the line. Needs Matplotlib; it is not closed.
        """
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 3, figsize=(7, 3.2), sharey=True)
        table = self.data_sets
        for ax, (column, words) in zip(axes, SPREADS.items(), strict=True):
            x, y = 2 ** _log2_product(table, column), 2 ** table["log2_ratio"]
            chosen = choose(table["information"], table[column])
            for form, marker in tuple(MARKERS.items())[:2]:
                of = chosen == form
                ax.plot(x[of], y[of], marker, ms=3.5, mew=0, color=COLORS[form], label=form)
            ax.axvline(1, color=COLORS["exact"], lw=1.2)
            ax.axhline(1, color="0.6", lw=0.8, zorder=0)
            ax.set(xscale="log", yscale="log", title=words)
            ax.set_xticks([1e-3, 1, 1e3])
            ax.minorticks_off()
        axes[0].set_ylabel("centered over non-centered")
        fig.supxlabel("information × spread², by three spreads")
        handles, names = axes[0].get_legend_handles_labels()
        names = [f"the rule picks {name}" for name in names]
        fig.legend(handles, names, loc="outside upper left", ncols=2)
        return fig

    @property
    def rule_alt(self) -> str:
        """What `rule_figure` shows, in words."""
        said = []
        for column, words in SPREADS.items():
            found = success(self.data_sets, column)
            said.append(f"with {words} it picks the better form in {found.right} of {found.decided}")
        return (
            f"Three panels of the ratio of efficiencies against information times squared spread, for "
            f"{len(self.data_sets)} data sets of {self.number} districts. Where one form is better, the "
            f"rule is right so often: {'; '.join(said)}."
        )


_PLACES = {
    "three districts": (9, 7),
    "sixty districts": (9, -16),
    "trial's effects": (9, -17),
    "schools": (-9, 8),
}
_SIDES = {"schools": "right"}


def _area(log2_ratio: ArrayLike) -> np.ndarray:
    """Area of a square in points squared, by how many doublings a form wins."""
    size = np.minimum(np.abs(np.asarray(log2_ratio, dtype=float)), _LARGEST) / _LARGEST
    return 20 + 210 * size


# ---------------------------------------------------------------------------------------------
# By number of districts, or of women in each


FIGURES = {
    "divergences": ("Divergences", "of 4000 transitions"),
    "efficiency": ("Efficiency", "ESS per 1000 gradients"),
    "sd_error:sigma": ("Error of σ's mean", "in posterior sds"),
    "missing_share": ("Missing at small σ", "share of the smallest 5%"),
}
"""What is drawn by number or women: the title of its panel and the words at its axis."""


@dataclass(frozen=True)
class BySize:
    """How fits go as the number of districts grows, or the women in each.

    Attributes
    ----------
    table : DataFrame
        The stored table ``districts_number`` or ``districts_women``.
    by : {"number", "women"}
        What grows.
    number : int, optional
        Of districts, where the women grow; all together by default.
    weights_sigma : float
        Of the partial form that is shown.
    """

    table: pd.DataFrame
    by: str = "number"
    number: int | None = None
    weights_sigma: float = 0.25

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The fits, with ``efficiency``, ``per_second`` (smallest ESS) and ``wrong``."""
        from fieldguide.scores import is_wrong

        if self.by not in ("number", "women"):
            raise ValueError(f"by is {self.by!r}; use number or women.")
        table = _checked(self.table, [self.by, "parameterization", "seconds"], f"districts_{self.by}")
        table = table[table["weights_sigma"].isin([0.0, self.weights_sigma])]
        if self.number is not None:
            table = table[table["number"] == self.number]
        if table.empty:
            raise PhaseError(f"The table has no fits of {self.number} districts.")
        efficient = efficiency(table)
        per_second = efficient * table["gradients"] / 1000 / table["seconds"]
        return table.assign(efficiency=efficient, per_second=per_second, wrong=is_wrong(table))

    def summary(self, column: str) -> pd.DataFrame:
        """Return the median and the range over data sets and seeds of a column of `rows`.

        Parameters
        ----------
        column : str
            Such as ``"divergences"``, ``"efficiency"``, ``"per_second"``, ``"missing_share"``,
            ``"sd_error:sigma"``, ``"sd_error:worst"`` or ``"rhat"``.

        Returns
        -------
        DataFrame
            Indexed by what grows and ``parameterization``; ``median``, ``low`` and ``high``.
        """
        if column not in self.rows.columns:
            raise PhaseError(f"The fits have no figure {column!r}.")
        groups: Any = self.rows.groupby([self.by, "parameterization"])[column]
        return groups.agg(median="median", low="min", high="max")

    def wrong(self) -> pd.DataFrame:
        """Return the share of wrong fits (`fieldguide.scores.is_wrong`), forms in columns."""
        keys = [self.by, "parameterization"]
        groups: Any = self.rows.groupby(keys)["wrong"]
        found = groups.mean().reset_index()
        return found.pivot_table(index=self.by, columns="parameterization", values="wrong")

    def figure(self) -> Figure:
        """Draw divergences, efficiency, error of sigma and its missing tail: medians and ranges.

        Returns
        -------
        Figure
            Needs Matplotlib; it is not closed.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import FixedLocator, NullLocator

        fig, axes = plt.subplots(2, 2, figsize=(7, 5.6), sharex=True)
        sizes = sorted(set(self.rows[self.by]))
        shown = [size for size in sizes if size not in (3, 5)] if self.by == "number" else sizes
        for ax, (column, (title, words)) in zip(axes.flat, FIGURES.items(), strict=True):
            table = self.summary(column)
            for k, (form, marker) in enumerate(MARKERS.items()):
                part: Any = table.xs(form, level="parameterization")
                at = part.index.to_numpy() * 1.07 ** (k - 1)
                ax.vlines(at, part["low"], part["high"], color=COLORS[form], lw=1.2, alpha=0.6)
                ax.plot(at, part["median"], marker=marker, ms=4.5, color=COLORS[form], label=form)
            ax.set(xscale="log", title=title, ylabel=words)
            ax.xaxis.set_major_locator(FixedLocator(shown))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xticks(shown, [f"{size:,}" for size in shown])
            if column == "divergences":
                ax.set_yscale("symlog", linthresh=1)
                ax.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
                ax.set_ylim(-0.2, None)
            elif column == "efficiency":
                ax.set_yscale("log")
            else:
                ax.axhline(0, color="0.6", lw=0.8, zorder=0)
        fig.supxlabel("districts" if self.by == "number" else "women in each district")
        handles, names = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper left", ncols=3)
        return fig

    @property
    def alt(self) -> str:
        """What `figure` shows, in words."""
        words = []
        found: Any = self.summary("divergences")["median"]
        ratio: Any = self.summary("efficiency")["median"]
        sizes = sorted(set(self.rows[self.by]))
        for size in (sizes[0], sizes[len(sizes) // 2], sizes[-1]):
            said = ", ".join(
                f"{form} {found[size, form]:.0f} and {ratio[size, form]:.2g}" for form in MARKERS
            )
            words.append(f"at {size:,}: {said}")
        what = "districts" if self.by == "number" else "women in each district"
        return (
            f"Four panels against the number of {what}. Median divergences and ESS per 1000 gradients "
            f"{'; '.join(words)}."
        )


def mixed_against_better(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the partial form with the better of the centered and the non-centered form.

    Parameters
    ----------
    table : DataFrame
        ``districts_number``, ``districts_women`` or ``districts_phase``.

    Returns
    -------
    DataFrame
        A row per number of districts (or women, or both, as the table varies them) and
        ``weights_sigma``: ``median`` of the ratio of efficiencies, partial over the better other,
        with ``low`` and ``high``, its range over data sets; ``wins``, the data sets where it exceeds
        1, ``of``, their number, and ``share``, ``share_low``, ``share_high`` (Wilson).
    """
    keys = [name for name in _DATA if name in table.columns]
    best = data_sets(table)[["centered", "non-centered"]].max(axis=1).rename("better")
    rows = table[table["parameterization"] == "partial"]
    if rows.empty:
        raise PhaseError("The table has no fits of the partial form; give rows of it.")
    logs = np.log2(efficiency(rows)).groupby([*(rows[k] for k in keys), rows["weights_sigma"]]).mean()
    found = (2 ** logs.rename("partial")).reset_index().merge(best.reset_index(), on=keys)
    found["ratio"] = found["partial"] / found["better"]
    by = [name for name in keys if name not in ("data_seed", "spread")]
    out = found.groupby([*by, "weights_sigma"])["ratio"].agg(
        median="median", low="min", high="max", wins=lambda r: int((r > 1).sum()), of="size"
    )
    ends = [
        scipy.stats.binomtest(int(w), int(n)).proportion_ci(method="wilson")
        for w, n in zip(out["wins"], out["of"], strict=True)
    ]
    return out.assign(
        share=out["wins"] / out["of"],
        share_low=[float(e.low) for e in ends],
        share_high=[float(e.high) for e in ends],
    ).reset_index()
