r"""Successes and trials per group: what the exact posterior knows, and how to sample it.

:func:`your_counts` takes a reader's own table, one row per group, to the varying-intercept model of
chapters 1 to 8,

.. math::

   y_j \sim \mathrm{Binomial}(n_j, \mathrm{logit}^{-1} \alpha_j), \quad
   \alpha_j \sim \mathrm{Normal}(\bar\alpha, \sigma),

and says what its posterior is, without Markov chains, what every group's own counts tell of it, and in
which form a sampler does well.

How much a group tells of itself is the share of its effect's conditional precision that does not come
from the other groups,

.. math:: w_j = 1 - \mathrm{Var}(\alpha_j \mid \bar\alpha, \sigma, y) / \sigma^2,

averaged over the posterior. Where the likelihood is a normal of information :math:`I_j`, about
:math:`n_j p_j (1 - p_j)`, this is :math:`I_j / (I_j + 1 / \sigma^2)`: the weight at which a group's
coordinate is independent of the mean of all (Papaspiliopoulos, Roberts and Sköld 2007, Statistical
Science 22, section 4). Above one half the centered form suits the group, below the non-centered one
(Betancourt and Girolami 2015, "Hamiltonian Monte Carlo for hierarchical models", section 4).
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import scipy.stats
from scipy.optimize import brentq
from scipy.special import expit

from fieldguide.counts_code import FILE, Recipe, program
from fieldguide.counts_table import Counts, CountsError, read_counts
from fieldguide.priors import ALPHA_PRIOR, Prior, prior_name
from fieldguide.reference._districts_integral import integrate_effect
from fieldguide.reference._districts_many import GroupSummaries, ManyGroups
from fieldguide.reference._districts_quadrature import Model, _Plan
from fieldguide.reference._protocol import ExactPosteriorError
from fieldguide.reference.districts import DistrictsPosterior, _check, exact_posterior
from fieldguide.report import digits, page, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CountsError", "YourCounts", "your_counts"]

PROB = 0.89
"""Probability of the equal-tailed intervals."""

FEW = 12
"""Kinds of groups up to which every marginal is tabulated on its own; more share one grid."""

SOME = 300
"""Kinds of groups up to which that is done as well where one grid is not accurate enough."""

LIMIT = 5.0
"""Factor by which the width of a coordinate may change between the ends of sigma's posterior."""

ENDS = (0.01, 0.99)
"""The ends of sigma's posterior between which widths are compared."""

KNOWN = 0.85
"""Share of what is known, on average, above which one form is the other's opposite."""

MOST_ROWS = 60
"""Groups of the longest table that is shown whole."""

_BY_NAME = 25  # groups up to which the figure has a line for each


def your_counts(
    table: Any,
    *,
    group: str | None = None,
    successes: str | None = None,
    trials: str | None = None,
    failures: str | None = None,
    add_up: bool = False,
    sigma_prior: Prior | None = None,
    alpha_prior: Prior = ALPHA_PRIOR,
    prob: float = PROB,
    tick: Callable[[float], object] | None = None,
) -> YourCounts:
    """Return the exact posterior of a table of counts, and what it means for a sampler.

    Parameters
    ----------
    table : pandas.DataFrame, mapping, str or Path
        One row per group, with its name, its successes, and its trials or failures; or the path of a
        CSV file with such columns.
    group, successes, trials, failures : str, optional
        Columns. Common names, such as ``successes`` and ``trials`` or ``y`` and ``n``, are recognised.
        Without a column for the groups, the table's index names them.
    add_up : bool
        Whether rows of one group are added up, or counted where each is one person (0 or 1).
    sigma_prior : frozen SciPy distribution, optional
        Prior on the groups' standard deviation, in logits; Exponential(1) by default.
    alpha_prior : frozen SciPy distribution
        Normal prior on their mean, in logits.
    prob : float
        Probability of the equal-tailed intervals, strictly between 0 and 1.
    tick : callable, optional
        Called with the share of the work that has been done.

    Returns
    -------
    YourCounts
        Shown as a page in a notebook, and as text by ``print``.

    Raises
    ------
    CountsError
        If the counts cannot be told from the table; the sentence names the place and the remedy.
    ValueError, TypeError
        If a prior or ``prob`` is not what it should be.
    ExactPosteriorError
        If the posterior cannot be computed to its accuracy; the message says why.

    Examples
    --------
    >>> from fieldguide.data import load_three_districts
    >>> mine = your_counts(load_three_districts(), successes="users", trials="women")
    >>> mine.table[["share", "mean", "own"]].round(2)
              share  mean   own
    district
    1          0.26  0.27  0.76
    2          0.35  0.34  0.56
    3          1.00  0.50  0.20
    >>> mine.form, mine.target
    ('non-centered', 0.95)
    """
    if not (np.ndim(prob) == 0 and 0 < prob < 1):
        raise ValueError(f"prob must lie strictly between 0 and 1; got {prob!r}.")
    counts = read_counts(
        table, group=group, successes=successes, trials=trials, failures=failures, add_up=add_up
    )
    sigma_prior = scipy.stats.expon() if sigma_prior is None else sigma_prior
    probs = ((1 - prob) / 2, 0.5, (1 + prob) / 2)
    model, *_ = _check(counts.successes, counts.trials, alpha_prior, sigma_prior, counts.group, probs)
    given = counts, model, alpha_prior, sigma_prior, probs, tick
    kinds = model.successes.size
    answer: _Few | _Many
    try:
        answer = (_Few if kinds <= FEW else _Many)(*given)
    except ExactPosteriorError:
        if not FEW < kinds <= SOME:
            raise
        answer = _Few(*given)
    return YourCounts(counts, alpha_prior, sigma_prior, float(prob), answer)


# ---------------------------------------------------------------------------------------------
# Two ways to one answer


class _Few:
    """Every marginal on its own, by `exact_posterior`."""

    way = "every marginal tabulated on its own"

    def __init__(
        self,
        counts: Counts,
        model: Model,
        alpha_prior: Prior,
        sigma_prior: Prior,
        probs: tuple[float, ...],
        tick: Callable[[float], object] | None,
    ) -> None:
        exact: DistrictsPosterior = exact_posterior(
            counts.successes,
            counts.trials,
            sigma_prior=sigma_prior,
            alpha_prior=alpha_prior,
            district=counts.group,
            probs=probs,
        )
        self.exact, self.engine = exact, cast("Any", exact._engine)
        self.model: Model = self.engine.model
        self.plan: _Plan = self.engine.plan
        self.error = exact.error
        first = np.unique(self.model.member, return_index=True)[1]
        units = first.size
        mean, sd = exact.mean, exact.sd
        found = GroupSummaries(
            mean["alpha"].values[first],
            sd["alpha"].values[first],
            mean["p"].values[first],
            sd["p"].values[first],
            np.empty((len(probs), units)),
            self._own(),
            np.full(units, exact.error),
        )
        for k, position in enumerate(first):
            found.quantiles[:, k] = exact._quantile("alpha", int(position), np.array(probs))
            if tick:
                tick((k + 1) / units)
        self.groups = found

    def _own(self) -> np.ndarray:
        grid = self.engine.grid
        over = grid.weight / grid.slices.sigma[:, None] ** 2
        return np.clip(1 - np.tensordot(over, grid.slices.inner.variance, axes=2), 0, 1)

    def population(self) -> dict[str, tuple[float, float]]:
        mean, sd = self.exact.mean, self.exact.sd
        return {name: (float(mean[name]), float(sd[name])) for name in ("alpha_bar", "p_bar", "sigma")}

    def quantile(self, name: str, q: float) -> float:
        return float(self.exact.quantile(q, [name])[name])

    def sigma_density(self, x: np.ndarray) -> np.ndarray:
        return self.exact.pdf("sigma", x).values


class _Many:
    """One grid for all groups, by `ManyGroups`."""

    way = "one grid for all groups"

    def __init__(
        self,
        counts: Counts,
        model: Model,
        alpha_prior: Prior,
        sigma_prior: Prior,
        probs: tuple[float, ...],
        tick: Callable[[float], object] | None,
    ) -> None:
        self.engine = ManyGroups(model, tick)
        self.model, self.plan = model, self.engine.plan
        self.groups = self.engine.summarise(probs)
        self.error = max(self.engine.error, float(self.groups.error.max()))

    def population(self) -> dict[str, tuple[float, float]]:
        means, sds = self.engine.moments
        pairs = zip(means, sds, strict=True)
        return dict(zip(("alpha_bar", "p_bar", "sigma"), pairs, strict=True))

    def quantile(self, name: str, q: float) -> float:
        marginal = self.engine.sigma if name == "sigma" else self.engine.alpha_bar
        return float(marginal.quantile(q))

    def sigma_density(self, x: np.ndarray) -> np.ndarray:
        return self.engine.sigma_density(x)


def _own_at(answer: _Few | _Many, sigma: float) -> np.ndarray:
    """What every kind of group tells of itself at one sigma, where alpha_bar is likeliest given it."""
    model = answer.model
    mode, _ = answer.plan.ridge(model.v(np.array([sigma])))
    inner = integrate_effect(mode[0], sigma, model.successes, model.trials, 0.4)
    return np.clip(1 - inner.variance / sigma**2, 0, 1 - 1e-12)


# ---------------------------------------------------------------------------------------------
# The report


@dataclass(frozen=True)
class Health:
    """How well two forms are expected to sample.

    Attributes
    ----------
    funnel : float
        Largest factor by which the width of a group's effect changes between the ends of sigma's
        posterior: what the centered form has to follow with one step size.
    squeeze : float
        The same of a group's standardised effect, in the non-centered form.
    own : float
        Mean share of what is known of a group that its own counts say.
    trouble : dict of str
        Of each form that is expected to sample badly, why.
    """

    funnel: float
    squeeze: float
    own: float
    trouble: dict[str, str]


@dataclass(frozen=True, repr=False)
class YourCounts:
    """What `your_counts` found; a page in a notebook, text when printed.

    Attributes
    ----------
    counts : Counts
        Names, successes and trials as they were understood.
    alpha_prior, sigma_prior : frozen SciPy distributions
    prob : float
        Probability of the equal-tailed intervals.
    """

    counts: Counts
    alpha_prior: Prior
    sigma_prior: Prior
    prob: float
    _answer: Any = field(repr=False)

    @property
    def error(self) -> float:
        """Estimated error of means, sds and ends of intervals, the largest, in posterior sds."""
        return float(self._answer.error)

    # -- tables

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per group, in the order of the reader's table.

        ``trials``, ``successes`` and the observed ``share`` (NaN without trials); posterior ``mean``,
        ``sd`` and interval ``low`` to ``high`` of the rate, and of its log odds with ``log_odds``,
        ``log_odds_sd``, ``log_odds_low`` and ``log_odds_high``; ``own``, from 0 to 1, what the group's
        own counts tell of it; ``shrinkage``, which is the rest and what the other groups tell; and the
        ``form`` that suits the group.
        """
        groups, member = self._answer.groups, self._answer.model.member
        y, n = self.counts.successes, self.counts.trials
        low, _, high = groups.quantiles[:, member]
        own = groups.own[member]
        return pd.DataFrame(
            {
                "trials": n,
                "successes": y,
                "share": np.divide(y, n, out=np.full(len(y), np.nan), where=n > 0),
                "mean": groups.mean_p[member],
                "sd": groups.sd_p[member],
                "low": expit(low),
                "high": expit(high),
                "log_odds": groups.mean[member],
                "log_odds_sd": groups.sd[member],
                "log_odds_low": low,
                "log_odds_high": high,
                "own": own,
                "shrinkage": 1 - own,
                "form": np.where(own > 0.5, "centered", "non-centered"),
            },
            index=pd.Index(self.counts.group, name=self.counts.called["group"]),
        )

    @cached_property
    def population(self) -> pd.DataFrame:
        """Mean and spread of all groups: ``mean``, ``sd``, ``low``, ``median``, ``high``, and priors.

        Rows ``alpha_bar`` (logits), ``p_bar`` (its inverse logit, the rate of a typical group) and
        ``sigma`` (logits); columns ``prior low``, ``prior median`` and ``prior high`` besides.
        """
        tails = [(1 - self.prob) / 2, 0.5, (1 + self.prob) / 2]
        rows = {}
        for name, (mean, sd) in self._answer.population().items():
            base = "sigma" if name == "sigma" else "alpha_bar"
            ends = np.array([self._answer.quantile(base, q) for q in tails])
            prior = np.asarray((self.sigma_prior if name == "sigma" else self.alpha_prior).ppf(tails))
            if name == "p_bar":
                ends, prior = expit(ends), expit(prior)
            rows[name] = [mean, sd, *ends, *prior]
        columns = ["mean", "sd", "low", "median", "high", "prior low", "prior median", "prior high"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("parameter")

    @property
    def _rows(self) -> Any:
        return self.table

    @property
    def _of_all(self) -> Any:
        return self.population

    @cached_property
    def sigma_curve(self) -> pd.DataFrame:
        """Density of ``sigma`` in the ``prior`` and in the ``posterior``, where either has mass."""
        low, high = (self._answer.quantile("sigma", q) for q in (0.001, 0.999))
        start, end = self.sigma_prior.support()
        wide = max(float(self.sigma_prior.ppf(0.9)), high)
        if high - low < 0.1 * (wide - start):  # a spike beside the prior: look at it closely
            x = np.linspace(max(low - (high - low), start), min(high + (high - low), end), 241)
        else:
            x = start + (wide - start) * np.linspace(0, 1, 242)[1:]
        with np.errstate(divide="ignore"):
            prior = self.sigma_prior.pdf(x)
        return pd.DataFrame({"sigma": x, "prior": prior, "posterior": self._answer.sigma_density(x)})

    @cached_property
    def health(self) -> Health:
        """How well the two plain forms are expected to sample."""
        low, high = (self._answer.quantile("sigma", q) for q in ENDS)
        at_low, at_high = _own_at(self._answer, low), _own_at(self._answer, high)
        funnel = float(np.max(high / low * np.sqrt((1 - at_high) / (1 - at_low))))
        squeeze = float(np.max(np.sqrt((1 - at_low) / (1 - at_high))))
        own = float(self._rows["own"].mean())
        trouble = {}
        span = f"between sigma = {digits(low)} and {digits(high)}, the ends of its posterior"
        if funnel > LIMIT:
            trouble["centered"] = (
                f"{span}, the width of a group's effect changes by a factor of {digits(funnel)}, a "
                "funnel that one step size does not fit; expect divergences, and small values of sigma "
                "that are never reached"
            )
        elif own < 1 - KNOWN:
            trouble["centered"] = (
                f"on average a group's own counts say {own:.0%} of what is known of it, so the effects "
                "hang together with their mean; expect few effective draws"
            )
        if squeeze > LIMIT:
            trouble["non-centered"] = (
                f"{span}, the width of a standardised effect changes by a factor of {digits(squeeze)}, "
                "because the counts hold the effect itself in place; expect divergences, or few "
                "effective draws"
            )
        elif own > KNOWN:
            trouble["non-centered"] = (
                f"on average a group's own counts say {own:.0%} of what is known of it, so the "
                "standardised effects hang together with mean and spread; expect few effective draws"
            )
        return Health(funnel, squeeze, own, trouble)

    @property
    def healthy(self) -> bool:
        """Whether either plain form is expected to sample well."""
        return not self.health.trouble

    @property
    def form(self) -> str:
        """``"centered"`` or ``"non-centered"`` where that suits all groups, else ``"mixed"``.

        Where the centered form would be a funnel it is the non-centered: to be centered in part would
        keep a part of the funnel.
        """
        own, trouble = self._rows["own"], self.health.trouble
        if self.health.funnel > LIMIT:
            return "non-centered"
        for name, fits in (("centered", own > KNOWN), ("non-centered", own < 1 - KNOWN)):
            if fits.all() and name not in trouble:
                return name
        return "mixed"

    @property
    def target(self) -> float:
        """Acceptance that a sampler should aim at: higher where the recommended form has trouble too."""
        return 0.95 if self.form in self.health.trouble else 0.9

    @cached_property
    def _recipe(self) -> Recipe:
        own = self._rows["own"].to_numpy()
        y, n = self.counts.successes, self.counts.trials
        share = (y + y.sum() / n.sum()) / (n + 1)
        information = n * share * (1 - share)

        def excess(log_spread):  # of the weights that a program computes
            return float((information / (information + np.exp(-2 * log_spread))).mean() - own.mean())

        ends = (-12.0, 12.0)
        inside = excess(ends[0]) < 0 < excess(ends[1])
        spread = float(np.exp(brentq(excess, *ends))) if inside else 1.0
        return Recipe(
            self.counts, self.alpha_prior, self.sigma_prior, self.form, own, spread, self.target
        )

    def code(self, tool: str = "pymc") -> str:
        """Return a program that samples this posterior, with these counts in it.

        Parameters
        ----------
        tool : {"pymc", "bambi", "brms"}
            PyMC's has the recommended form; Bambi has no mixed form, and brms is always non-centered.

        Returns
        -------
        str
            More than 60 groups are read from a file: the reader's own, or what `save_counts` writes.
        """
        return program(tool, self._recipe)

    def save_counts(self, path: str | Path = FILE) -> None:
        """Write the counts as a CSV file with the columns ``group``, ``successes`` and ``trials``."""
        columns = ("group", "successes", "trials")
        values = (self.counts.group, self.counts.successes, self.counts.trials)
        pd.DataFrame(dict(zip(columns, values, strict=True))).to_csv(path, index=False)

    # -- sentences

    @property
    def notes(self) -> list[str]:
        """What to know of the table before reading on; often nothing."""
        notes, n = list(self.counts.notes), self.counts.trials
        if len(n) == 1:
            notes.append(
                "One group cannot say how much groups differ: sigma is what its prior says, but for the "
                "little that the priors tell of the mean."
            )
        elif len(n) < 5:
            notes.append(
                f"{len(n)} groups say little of how much groups differ; the answer leans on "
                "sigma's prior."
            )
        if none := int((n == 0).sum()):
            notes.append(f"{_groups(none)} without trials: their rates are those of a new group.")
        return notes

    @cached_property
    def findings(self) -> list[str]:
        """What the tables say, a sentence or two each."""
        return [self._spread(), self._typical(), *self._shrunk(), self._forms(), *self._expected()]

    def _spread(self) -> str:
        row = self._of_all.loc["sigma"]
        text = (
            f"The groups' log odds differ by an sd (sigma) of {digits(row['median'])}, with an "
            f"{self.prob:.0%} interval from {digits(row['low'])} to {digits(row['high'])}; before the "
            f"counts, under {prior_name(self.sigma_prior)}, it went from {digits(row['prior low'])} to "
            f"{digits(row['prior high'])}."
        )
        narrower = (row["high"] - row["low"]) / (row["prior high"] - row["prior low"])
        if narrower > 0.8 and row["low"] < self.sigma_prior.ppf(0.2):  # neither narrower nor elsewhere
            return f"{text} That is {narrower:.0%} of the prior's width: it is the prior that speaks."
        return f"{text} That is {narrower:.0%} of the prior's width."

    def _typical(self) -> str:
        row, sigma = self._of_all.loc["p_bar"], self._of_all.loc["sigma", "median"]
        centre = self._of_all.loc["alpha_bar", "mean"]
        low, high = expit(centre - sigma), expit(centre + sigma)
        text = (
            f"A typical group has a rate of {_rate(row['mean'])} ({_rate(row['low'])} to "
            f"{_rate(row['high'])})"
        )
        if len(self.table) < 10:  # how far the others lie from it is then hardly known
            return f"{text}."
        return (
            f"{text}, and two thirds of groups have rates between about {_rate(low)} and {_rate(high)}."
        )

    def _shrunk(self) -> list[str]:
        seen = self._rows[self._rows["trials"] > 0]
        least, most = seen.iloc[int(seen["own"].argmin())], seen.iloc[int(seen["own"].argmax())]
        if len(seen) == 1:
            return [self._of_one(most)]
        moved = (seen["mean"] - seen["share"]).abs()
        far = seen.loc[[moved.idxmax()]].iloc[0]
        text = [
            f"Own counts say least of {self._of_one(least)}",
            f"They say most of {self._of_one(most)}",
        ]
        text.append(
            f"The others move {self._name(far)} furthest, from {_rate(far['share'])} to "
            f"{_rate(far['mean'])}; half of the groups move by less than {_points(moved.median())}."
        )
        return text

    def _name(self, row: Any) -> str:
        return f"{self.counts.called['group']} {row.name}"

    def _of_one(self, row: Any) -> str:
        return (
            f"{self._name(row)}, with {row['successes']} of {row['trials']}: its own counts say "
            f"{row['own']:.0%} of what is known of it. It goes from {_rate(row['share'])} to "
            f"{_rate(row['mean'])} ({_rate(row['low'])} to {_rate(row['high'])})."
        )

    def _forms(self) -> str:
        count = int((self._rows["form"] == "centered").sum())
        total = len(self.table)
        text = (
            f"The centered form suits {count} of {total} groups, whose own counts say more than half of "
            f"what is known of them, and the non-centered form {total - count}."
        )
        if self.form == "mixed":
            return (
                f"{text} The mixed form, which takes each group as far as its counts go, suits them all."
            )
        if self.health.funnel > LIMIT:
            text = f"{text} Since the spread may be small, the non-centered form is safer for them all"
            return f"{text}{f', with a target of {self.target}' if self.target > 0.9 else ''}."
        return f"{text} All are so far on one side that the {self.form} form serves for all."

    def _expected(self) -> list[str]:
        if self.healthy:
            return ["No trouble is expected: either form, centered or non-centered, should sample well."]
        return [
            f"Trouble is expected of the {form} form: {why}."
            for form, why in self.health.trouble.items()
        ]

    # -- shown

    @property
    def title(self) -> str:
        """What was counted."""
        n = int(self.counts.trials.sum())
        where = f"{Path(self.counts.path).name}: " if self.counts.path else ""
        return f"{where}{int(self.counts.successes.sum())} of {n} in {_groups(len(self.counts.group))}"

    def _shown(self) -> tuple[str, pd.DataFrame]:
        """Caption and table of the groups, as text; of many, those that the others move most."""
        table, words = self.table, f"{self.prob:.0%} equal-tailed interval"
        caption = (
            f"Every group: trials, successes, observed share; posterior mean, sd and {words} of the "
            "rate; what its own counts tell of it, and the form that suits it."
        )
        if len(table) > MOST_ROWS:
            moved = (table["mean"] - table["share"]).abs().fillna(0)
            chosen = np.sort(np.argsort(-moved.to_numpy(), kind="stable")[:20])
            table = table.iloc[chosen]
            caption = caption.replace(
                "Every group", f"The 20 of {len(self.table)} groups that move most"
            )
        shown = table[
            ["trials", "successes", "share", "mean", "sd", "low", "high", "own", "form"]
        ].copy()
        for name in ("share", "mean", "low", "high"):
            shown[name] = [_rate(v) for v in table[name]]
        shown["sd"] = [digits(v, 2) for v in table["sd"]]
        shown["own"] = [f"{v:.0%}" for v in table["own"]]
        return caption, shown.astype(str)

    def _shown_population(self) -> tuple[str, pd.DataFrame]:
        caption = (
            f"Mean and spread of all groups, in logits, and the rate of a typical group: posterior, and "
            f"prior, with {self.prob:.0%} equal-tailed intervals."
        )
        return caption, self.population.map(digits)

    @cached_property
    def text(self) -> str:
        """The report in plain text."""
        parts = [self.title, "=" * len(self.title), *self.notes, ""]
        parts += [f"- {finding}" for finding in self.findings]
        for caption, table in (self._shown_population(), self._shown()):
            parts += ["", caption, table.to_string()]
        return "\n".join([*parts, "", self._accuracy()])

    def _accuracy(self) -> str:
        return (
            f"Exact to {self.error:.0e} posterior sds, by quadrature ({self._answer.way}); priors "
            f"{prior_name(self.alpha_prior)} on the mean and {prior_name(self.sigma_prior)} on sigma."
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<YourCounts of {self.title}; print it, or show it in a notebook>"

    def _body(self, drawings: bool = True) -> str:
        said = html.escape
        parts = [f"<p><em>{said(note)}</em></p>" for note in self.notes]
        parts.append("<ul>" + "".join(f"<li>{said(one)}</li>" for one in self.findings) + "</ul>")
        if drawings:
            pairs = zip(self._figures(), self.captions, strict=False)  # no figures without Matplotlib
            parts += [picture(*drawn, says, f"counts-{k}") for k, (drawn, says) in enumerate(pairs)]
        for caption, table in (self._shown_population(), self._shown()):
            shown = table.to_html(border=0, escape=True)
            shown = shown.replace("<thead>", f"<caption>{said(caption)}</caption><thead>", 1)
            parts.append(f'<div style="overflow-x:auto">{shown}</div>')
        for tool, name in (("pymc", "PyMC"), ("bambi", "Bambi"), ("brms", "brms")):
            try:
                words = self.code(tool)
            except ValueError as error:
                words = f"# {error}"
            parts.append(
                f"<details><summary>The program for {name}</summary><pre><code>{said(words)}"
                "</code></pre></details>"
            )
        parts.append(f"<p>{said(self._accuracy())}</p>")
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        title = f"<p><strong>{html.escape(self.title)}</strong></p>"
        return f'<div class="fieldguide-report">{title}\n{self._body()}</div>'

    def page(self) -> str:
        """Return the report as one HTML file that loads nothing, for light, dark and paper."""
        return page(self.title, self._body())

    def to_json(self) -> str:
        """Return tables, health and sentences as JSON; a missing number is null."""
        found = {
            "title": self.title,
            "healthy": self.healthy,
            "form": self.form,
            "trouble": self.health.trouble,
            "priors": {"alpha_bar": prior_name(self.alpha_prior), "sigma": prior_name(self.sigma_prior)},
            "probability": self.prob,
            "error": self.error,
            "notes": self.notes,
            "findings": self.findings,
            "population": json.loads(self.population.to_json(orient="index", double_precision=12)),
            "groups": json.loads(
                self.table.rename_axis("group")
                .reset_index()
                .to_json(orient="records", double_precision=12)
            ),
        }
        return json.dumps(found, ensure_ascii=False, indent=1)

    # -- figures

    @property
    def alt(self) -> str:
        """What `figure` says, in words."""
        return f"{self._sigma_in_words()} {self._groups_in_words()}"

    @property
    def captions(self) -> tuple[str, str]:
        """What `draw_sigma` and `draw_groups` draw, a sentence or two each."""
        marks = "Squares: the centered form suits the group; dots: the non-centered form."
        sigma = "Density of sigma in the posterior (line) and in the prior (dashed)."
        if len(self.table) <= _BY_NAME:
            return sigma, (
                "Observed share (open circle, larger with more trials), posterior mean, and "
                f"{self.prob:.0%} interval of every group's rate. {marks} Upright line: a typical group."
            )
        return sigma, (
            "Posterior mean of every group's rate by its observed share; marks are larger with more "
            f"trials. {marks} On the diagonal nothing has moved; dotted: a typical group."
        )

    def _sigma_in_words(self) -> str:
        row = self._of_all.loc["sigma"]
        return (
            f"Density of sigma: the posterior has its median at {digits(row['median'])} and "
            f"{self.prob:.0%} of it from {digits(row['low'])} to {digits(row['high'])}; the prior "
            f"from {digits(row['prior low'])} to {digits(row['prior high'])}."
        )

    def _groups_in_words(self) -> str:
        table, rate = self.table, self._of_all.loc["p_bar", "mean"]
        seen = table[table["trials"] > 0]
        return (
            f"Rates of {_groups(len(table))}: observed shares from {_rate(seen['share'].min())} to "
            f"{_rate(seen['share'].max())}, posterior means from {_rate(table['mean'].min())} to "
            f"{_rate(table['mean'].max())}, around {_rate(rate)}."
        )

    def figure(self) -> Figure:
        """Draw sigma's posterior over its prior, and what the observed shares become.

        Needs Matplotlib; the figure is not closed.
        """
        import matplotlib.pyplot as plt

        few = len(self.table) <= _BY_NAME
        height = max(3.4, 1.5 + 0.3 * len(self.table)) if few else 3.8
        figure, (left, right) = plt.subplots(1, 2, figsize=(7, height))
        self.draw_sigma(left)
        self.draw_groups(right)
        return figure

    def draw_sigma(self, ax: Axes) -> None:
        """Draw sigma's posterior over its prior."""
        from fieldguide.style import COLORS

        curve = self.sigma_curve
        ax.fill_between(curve["sigma"], curve["posterior"], color="0.85", lw=0)
        ax.plot(curve["sigma"], curve["posterior"], color=COLORS["exact"], label="posterior")
        ax.plot(curve["sigma"], curve["prior"], color=COLORS["prior"], ls="--", label="prior")
        top = 1.12 * max(curve["posterior"].max(), min(curve["prior"].max(), curve["posterior"].max()))
        ax.set(xlabel="sigma (logits)", ylabel="density", ylim=(0, top), title="How much groups differ")
        ax.legend()

    def draw_groups(self, ax: Axes) -> None:
        """Draw what observed shares become: a line for each of few groups, a mark for each of many."""
        ax.set_title("What shares become")
        (self._draw_named if len(self.table) <= _BY_NAME else self._draw_cloud)(ax)

    def _draw_named(self, ax: Axes) -> None:
        from fieldguide.style import COLORS

        table = self._rows.iloc[::-1]
        at = np.arange(len(table))
        ax.axvline(self._of_all.loc["p_bar", "mean"], color="0.6", lw=1)
        ax.hlines(at, table["low"], table["high"], color=COLORS["exact"], lw=1.4)
        size = _sizes(table["trials"], 25, 130)
        ax.scatter(table["share"], at, s=size, facecolor="none", edgecolor=COLORS["fixed"], lw=1.5)
        for form, mark in (("centered", "s"), ("non-centered", "o")):
            rows = (table["form"] == form).to_numpy()
            if rows.any():
                ax.plot(table["mean"][rows], at[rows], mark, color=COLORS[form], ms=6, label=form)
        names = [name if len(name) < 18 else f"{name[:16]}…" for name in table.index.astype(str)]
        ax.set_yticks(at, names)
        ax.set(xlabel="rate", ylabel=self.counts.called["group"], ylim=(-0.7, len(table) - 0.3))

    def _draw_cloud(self, ax: Axes) -> None:
        from fieldguide.style import COLORS

        table = self._rows[self._rows["trials"] > 0].sort_values("trials", ascending=False)
        ends = [0, 1] if table["share"].max() > 0.5 else [0, 1.05 * table["share"].max()]
        ax.plot(ends, ends, color="0.6", lw=1)
        ax.axhline(self._of_all.loc["p_bar", "mean"], color="0.6", lw=1, ls=":")
        small, large = (6, 60) if len(table) < 400 else (2, 20)
        size = _sizes(table["trials"], small, large)
        for form, mark in (("centered", "s"), ("non-centered", "o")):
            rows = (table["form"] == form).to_numpy()
            if rows.any():
                ax.scatter(
                    table["share"][rows], table["mean"][rows], s=size[rows], marker=mark,
                    color=COLORS[form], lw=0, alpha=0.7 if len(table) < 400 else 0.45, label=form,
                    clip_on=False, zorder=3,
                )  # fmt: skip
        ax.legend(loc="upper left", markerscale=1 if len(table) < 400 else 2.5)
        ax.set(xlabel="observed share", ylabel="posterior mean of the rate", xlim=ends, ylim=ends)

    def _figures(self) -> list[tuple[Figure, str]]:
        """The two drawings with their words; none without Matplotlib."""
        try:
            import matplotlib as mpl
            import matplotlib.pyplot as plt

            from fieldguide.style import use_style
        except ImportError:
            return []
        out = []
        with mpl.rc_context():
            use_style()
            few = len(self.table) <= _BY_NAME
            heights = (3.0, max(2.2, 1.1 + 0.3 * len(self.table)) if few else 4.6)
            drawn = (
                (self.draw_sigma, self._sigma_in_words()), (self.draw_groups, self._groups_in_words()),
            )  # fmt: skip
            for height, (drawing, words) in zip(heights, drawn, strict=True):
                figure, ax = plt.subplots(figsize=(7, height))
                drawing(ax)
                out.append((figure, words))
        return out


def _sizes(trials: pd.Series, small: float, large: float) -> np.ndarray:
    """Areas of dots that grow with the square root of the trials."""
    root = np.sqrt(trials.to_numpy(float))
    return small + (large - small) * root / max(root.max(), 1)


# ---------------------------------------------------------------------------------------------
# Numbers in words


def _rate(value: float) -> str:
    """Write a rate with three decimals, and with more near zero and one."""
    if np.isnan(value):
        return "\N{EN DASH}"
    rest = min(value, 1 - value)
    decimals = 3 if rest >= 0.01 or rest == 0 else min(2 - int(np.floor(np.log10(max(rest, 1e-9)))), 9)
    return f"{value:.{decimals}f}"


def _points(value: float) -> str:
    return f"{digits(100 * value, 2)} percentage points"


def _groups(count: int) -> str:
    return "1 group" if count == 1 else f"{count} groups"


ANSWERS_NONE = (CountsError, ExactPosteriorError)
"""What is raised where there is no answer, and says why in a sentence."""
