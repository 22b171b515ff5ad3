"""Pictures of no, partial and complete pooling, of rates and of effects, and of what a fit costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter
from numpy.typing import ArrayLike
from scipy.special import expit

from fieldguide.priors import Prior
from fieldguide.reference.districts import DistrictsPosterior
from fieldguide.style import COLORS

_SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
_DASHES = ("-", "--", "-.", ":")


def weigh_spreads(known: xr.Dataset, sigma_prior: Prior) -> xr.DataArray:
    """Return the posterior probability of every spread of a grid that is even in its logarithm.

    Parameters
    ----------
    known : xarray.Dataset
        As `fieldguide.reference.given_spread.given_spread` returns it.
    sigma_prior : frozen SciPy distribution
        Prior of sigma.

    Returns
    -------
    DataArray
        Along ``sigma``; sums to 1.

    Raises
    ------
    ValueError
        If the spreads are not even in their logarithm.
    """
    sigma = known["sigma"].values
    steps = np.diff(np.log(sigma))
    if sigma.size < 2 or not (np.allclose(steps, steps[0]) and steps[0] > 0):
        raise ValueError(
            "The spreads must grow in even steps of their logarithm, as np.geomspace has them."
        )
    log_weight = known["log_likelihood"] + sigma_prior.logpdf(sigma) + np.log(sigma)
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def new_district(
    known: xr.Dataset, sigma_prior: Prior, effect: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return density and distribution function of the effect of a district that was not visited.

    A mixture of normals over the mean of the districts and their spread.

    Parameters
    ----------
    known : xarray.Dataset
        As `fieldguide.reference.given_spread.given_spread` returns it.
    sigma_prior : frozen SciPy distribution
        Prior of sigma.
    effect : array_like, shape (E,)
        Where, in logits.

    Returns
    -------
    density, distribution : ndarray, shape (E,)
    """
    at = np.asarray(effect, dtype=float)[:, None, None]
    weight = (weigh_spreads(known, sigma_prior) * known["weight"]).transpose("sigma", "node").values
    bell = scipy.stats.norm(
        known["alpha_bar"].transpose("sigma", "node").values, known["sigma"].values[:, None]
    )
    return (weight * bell.pdf(at)).sum((1, 2)), (weight * bell.cdf(at)).sum((1, 2))


def plot_ordered(
    partial: DistrictsPosterior,
    alone: DistrictsPosterior,
    together: DistrictsPosterior,
    *,
    named: Sequence[int] = (),
    prob: float = 0.89,
) -> tuple[Figure, str]:
    """Draw every district's rate with and without pooling, in the order of the partially pooled rate.

    Parameters
    ----------
    partial, alone, together : DistrictsPosterior
        Of the varying-intercept model, of districts that share nothing, and of all women as one.
    named : sequence
        Labels of districts that carry their number.
    prob : float
        Of the intervals.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    mean = {"no pooling": alone.mean["p"].to_series(), "partial": partial.mean["p"].to_series()}
    order = mean["partial"].sort_values().index
    everybody = together.mean["p"].item()
    fig, ax = plt.subplots(figsize=(7, 4))
    looks = (alone, "fixed", "s", 1.0, 2.5, -0.15), (partial, "non-centered", "o", 2.2, 4.5, 0.15)
    for name, (exact, hue, mark, width, size, aside) in zip(mean, looks, strict=True):
        ends = exact.interval(prob, "p")["p"].sel(district=order)
        at = np.arange(len(order)) + aside
        ax.vlines(at, *ends.transpose("bound", "district").values, color=COLORS[hue], lw=width)
        ax.plot(at, mean[name][order], mark, color=COLORS[hue], ms=size, label=name)
    ax.axhline(everybody, color=COLORS["exact"], lw=1, ls="--", label="complete pooling")
    ax.set_xticks([list(order).index(district) for district in named], [str(d) for d in named])
    ax.set(ylim=(0, 1), ylabel="share who use contraception")
    ax.set_xlabel("districts, from the lowest rate to the highest")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    fig.legend(loc="outside upper left", ncols=3)
    said = "; ".join(
        f"district {d}: {mean['no pooling'][d]:.0%} alone, {mean['partial'][d]:.0%} partially pooled"
        for d in named
    )
    return fig, (
        f"{len(order)} pairs of intervals around a line at {everybody:.0%}; the partially pooled ones "
        f"are shorter and nearer to the line. {said}."
    )


def plot_shrinkage(
    partial: DistrictsPosterior, alone: DistrictsPosterior, trials: pd.Series, rate: float
) -> tuple[Figure, str]:
    r"""Draw, by size, how far effects lie from their mean and how uncertain they are.

    Parameters
    ----------
    partial, alone : DistrictsPosterior
        Of the varying-intercept model, and of districts that share nothing.
    trials : Series
        Number of women, by district.
    rate : float
        Of all women, for the formulas: sds of :math:`1/\sqrt{I}` and :math:`1/\sqrt{I + 1/\sigma^2}`
        with :math:`I = n p (1 - p)`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    looks = {"no pooling": (alone, "s", "fixed", 3), "partial": (partial, "o", "non-centered", 4)}
    spread, middle = partial.mean["sigma"].item(), partial.mean["alpha_bar"].item()
    n = np.geomspace(trials.min(), trials.max() * 1.1)
    formula = {"no pooling": n * rate * (1 - rate)}
    formula["partial"] = formula["no pooling"] + spread**-2
    fig, axs = plt.subplots(1, 2, figsize=(7, 3.3))
    away, sds = {}, {}
    for name, (exact, mark, color, size) in looks.items():
        look: Any = {"color": COLORS[color], "ms": size, "label": name}
        away[name] = np.abs(exact.mean["alpha"].to_series() - middle)
        sds[name] = exact.sd["alpha"].to_series()
        axs[0].plot(trials, away[name], mark, **look)
        axs[1].plot(trials, sds[name], mark, **look)
        axs[1].plot(n, formula[name] ** -0.5, color=COLORS[color], lw=1)
    axs[0].vlines(trials, *away.values(), color="0.6", lw=0.6, zorder=0)
    axs[0].set(title="distance from the mean", ylabel="logits")
    axs[1].axhline(spread, color=COLORS["exact"], lw=1, ls="--", label="σ")
    axs[1].set(title="sd of the effect", ylim=(0, None))
    axs[1].legend()
    shown = [size for size in _SIZES if trials.min() <= size <= trials.max()]
    for ax in axs:
        ax.set(xscale="log", xlabel="women asked in the district")
        _ticks(ax, shown)
    ends: Any = trials.idxmin(), trials.idxmax()
    return fig, (
        "Two panels against the number of women on a log axis. "
        + "; ".join(
            f"district {d} with {trials[d]}: distance {away['no pooling'][d]:.2f} alone and "
            f"{away['partial'][d]:.2f} pooled, sd {sds['no pooling'][d]:.2f} and {sds['partial'][d]:.2f}"
            for d in ends
        )
        + f". Sigma is {spread:.2f}."
    )


def plot_spreads(known: xr.Dataset, sigma_prior: Prior, named: Mapping[int, str]) -> tuple[Figure, str]:
    """Draw every district's rate and sd were the spread known, above what is known of the spread.

    Parameters
    ----------
    known : xarray.Dataset
        As `fieldguide.reference.given_spread.given_spread` returns it.
    sigma_prior : frozen SciPy distribution
        Prior of sigma.
    named : mapping
        Labels of at most four districts that stand out, and the words at their lines.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    sigma = known["sigma"].values
    fig, axs = plt.subplots(3, 1, figsize=(6.4, 6.6), sharex=True, height_ratios=[3, 2, 1.3])
    dashes = dict(zip(named, _DASHES, strict=False))
    for d in known["district"].values:
        look: Any = {"color": COLORS["fixed"], "lw": 0.6, "alpha": 0.6}
        if d in dashes:
            look = {"color": COLORS["exact"], "lw": 2, "ls": dashes[d], "zorder": 3}
        axs[0].plot(sigma, known["mean_p"].sel(district=d), **look)
        axs[1].plot(sigma, known["sd"].sel(district=d), **look)
    ends = {}
    for d, words in named.items():
        ends[d] = known["mean_p"].sel(district=d)[[0, -1]].values
        axs[0].annotate(words, (sigma[-1] * 1.06, ends[d][1]), va="center", fontsize=10)
    density = weigh_spreads(known, sigma_prior) / np.log(sigma[1] / sigma[0])
    axs[2].fill_between(sigma, density, color="0.8")
    axs[2].plot(sigma, density, color=COLORS["exact"], lw=1.4, label="posterior")
    prior: Any = {"color": COLORS["prior"], "ls": "--", "lw": 1.4, "label": "prior"}
    axs[2].plot(sigma, sigma_prior.pdf(sigma) * sigma, **prior)
    axs[2].legend(loc="upper left")
    axs[0].set(xscale="log", ylabel="rate, given σ", ylim=(0, 1))
    axs[0].yaxis.set_major_formatter(PercentFormatter(1))
    axs[1].set(ylabel="sd of the effect\n(logits)", ylim=(0, 2.5))
    axs[2].set(ylabel="density", yticks=[], xlabel="spread of the districts, σ (logits)")
    _ticks(axs[2], [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    said = "; ".join(f"{words} from {ends[d][0]:.0%} to {ends[d][1]:.0%}" for d, words in named.items())
    top = float(sigma[int(np.argmax(density.values))])
    return fig, (
        f"{known.sizes['district']} lines fan out from one rate as sigma grows: {said}. Sds grow with "
        f"sigma. The posterior of sigma is highest near {top:.2g} and far narrower than its prior."
    )


def plot_population(
    counted: pd.Series, pooled: pd.Series, effect: np.ndarray, density: np.ndarray
) -> tuple[Figure, str]:
    """Draw the districts' rates as counted and partially pooled, and the density of a new one.

    Parameters
    ----------
    counted, pooled : Series
        Rates by district.
    effect, density : ndarray, shape (E,)
        Effects of a new district (logits), and their density.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    bins = np.linspace(0, 1, 26)
    for values, color, label in (
        (counted, "fixed", "shares as counted"),
        (pooled, "non-centered", "partially pooled means"),
    ):
        high = np.append(np.histogram(values, bins=bins, density=True)[0], 0)
        ax.plot(bins, high, color=COLORS[color], drawstyle="steps-post", lw=1.6, label=label)
    p = expit(effect)
    ax.plot(p, density / (p * (1 - p)), color=COLORS["exact"], lw=2, label="a new district")
    ax.set(
        xlim=(0, 1), ylim=(0, None), yticks=[], ylabel="density", xlabel="share who use contraception"
    )
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    fig.legend(loc="outside upper left", ncols=3)
    return fig, (
        f"The shares as counted spread from {counted.min():.0%} to {counted.max():.0%}, the partially "
        f"pooled means from {pooled.min():.0%} to {pooled.max():.0%}; the curve of a new district is "
        f"highest near {p[int(np.argmax(density / (p * (1 - p))))]:.0%} and lies between them in width."
    )


def plot_made_up(made_up: Mapping[str, ArrayLike], counted: float) -> tuple[Figure, str]:
    """Draw a figure of surveys that models make up beside that of the real one, a panel per model.

    Parameters
    ----------
    made_up : mapping
        By name of the model, the sd of the districts' shares in each survey; three of them.
    counted : float
        That of the real survey.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    fig, axs = plt.subplots(1, len(made_up), figsize=(7, 2.6), sharex=True)
    for ax, (name, values) in zip(axs, made_up.items(), strict=True):
        color = COLORS["non-centered" if "partial" in name else "fixed"]
        ax.hist(np.ravel(values), bins=np.linspace(0, 0.5, 60), color=color, alpha=0.7)
        ax.axvline(counted, color=COLORS["exact"], lw=1.6)
        ax.set(title=name, yticks=[], xlim=(0, 0.5))
        ax.xaxis.set_major_formatter(PercentFormatter(1))
    axs[len(axs) // 2].set_xlabel("sd of the districts' shares in a made-up survey")
    said = ", ".join(f"{np.mean(np.ravel(v) >= counted):.2f} ({name})" for name, v in made_up.items())
    return fig, f"The real sd is {counted:.1%}. Made-up surveys reach it with probability {said}."


def plot_left_out(
    exact: pd.Series, estimate: pd.Series, k_hat: pd.Series, named: int
) -> tuple[Figure, str]:
    """Draw how far PSIS-LOO is off for every district, by its own warning.

    Parameters
    ----------
    exact, estimate : Series
        Log predictive density of every district given the others, and its estimate.
    k_hat : Series
        Pareto k of each.
    named : int
        Label of the district that carries its number.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    gap, warned = estimate - exact, k_hat > 0.7
    largest: Any = gap.abs().idxmax()
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    for of, fill, label in ((~warned, "white", "not warned of"), (warned, None, "warned of")):
        look: Any = {"color": COLORS["non-centered"], "mfc": fill, "label": label}
        ax.plot(k_hat[of], gap[of], "o", ms=5, **look)
    ax.axhline(0, color=COLORS["exact"], lw=1)
    ax.axvline(0.7, color="0.5", lw=1, ls="--")
    ax.annotate(str(named), (k_hat[named], gap[named]), (0, 7), textcoords="offset points", ha="center")
    ax.set(xlabel="warning, Pareto k̂", ylabel="PSIS estimate less\nexact score")
    fig.legend(loc="outside upper left", ncols=2)
    return fig, (
        f"Dots around a line at zero. {warned.sum()} of {len(gap)} districts are warned of; the largest "
        f"difference is {gap[largest]:+.2f}. District {named} has a k-hat of "
        f"{k_hat[named]:.2f} and a difference of {gap[named]:+.2f}."
    )


def plot_shares(shares: pd.DataFrame, sizes: pd.DataFrame) -> tuple[Figure, str]:
    """Draw the share of users among urban women against that among rural women, by district.

    Parameters
    ----------
    shares, sizes : DataFrame
        Share of users, and number of women, by district (rows) and kind of place (0 rural, 1 urban);
        districts without women of one kind are left out.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    both = shares.notna().all(axis=1)
    fig, ax = plt.subplots(figsize=(6.4, 3.9))
    ax.axline((0, 0), slope=1, color="0.6", lw=1)
    rural, urban = shares[both].T.to_numpy()
    ax.scatter(rural, urban, 4 * sizes.loc[both, 1].to_numpy(), color="k", alpha=0.5)
    ax.set(xlabel="share of users, rural women", ylabel="share of users, urban women")
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    return fig, (
        f"A scatter plot of {both.sum()} districts. {(urban > rural).sum()} of them lie above the line, "
        f"and the urban shares run from {urban.min():.0%} to {urban.max():.0%}; the marks at both ends "
        "are small."
    )


def plot_effects(effect: xr.DataArray, average: float, hollow: Sequence[str]) -> tuple[Figure, str]:
    """Draw every district's effect with its 89% interval, in order.

    Parameters
    ----------
    effect : DataArray (chain, draw, district)
        Draws of a difference of probabilities.
    average : float
        Over all women.
    hollow : sequence of str
        Districts whose circles are hollow.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    over = ("chain", "draw")
    ordered = effect.isel(district=np.argsort(effect.mean(over).to_numpy()))
    mean, place = ordered.mean(over).to_numpy(), np.arange(ordered.sizes["district"])
    low, high = ordered.quantile([0.055, 0.945], over).to_numpy()
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    ax.vlines(place, low, high, color="0.7", lw=1.5)
    lacking = np.isin(ordered["district"], hollow)
    for where, face in ((~lacking, COLORS["exact"]), (lacking, "white")):
        ax.plot(place[where], mean[where], "ok", ms=4.5, mfc=face)
    ax.axhline(average, color="0.4", lw=1, ls="--")
    ax.set(xlabel="districts, in order of their effect", xticks=[], ylabel="difference of probabilities")
    return fig, (
        f"Effects of {len(place)} districts in order, from {mean[0]:.2f} to {mean[-1]:.2f} around an "
        f"average of {average:.2f}; {int((low > 0).sum())} intervals lie above zero."
    )


def plot_gradients(costs: pd.DataFrame) -> tuple[Figure, str]:
    """Draw the seconds of a gradient by the length of the table, as rows and as counts.

    Parameters
    ----------
    costs : DataFrame
        The stored table ``rows``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
    """
    fig, axs = plt.subplots(1, 2, figsize=(6.4, 3.2), sharey=True)
    titles = {"district": "district alone", "covariates": "with covariates"}
    looks = {"rows": ("o-", "a line per woman"), "counts": ("s--", "counts")}
    said = []
    for ax, (kind, title) in zip(axs, titles.items(), strict=True):
        for form, (look, label) in looks.items():
            part = costs[(costs["model"] == kind) & (costs["form"] == form)].sort_values("rows")
            ax.plot(part["rows"], part["gradient_seconds"], look, color="0.3", label=label)
            last: Any = part.iloc[-1]
            said.append(f"{title}, {label}: {1e6 * last['gradient_seconds']:,.0f} microseconds")
        ax.set(xscale="log", yscale="log", title=title, xlabel="women")
    axs[0].set_ylabel("seconds per gradient")
    fig.legend(*axs[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return fig, (
        "Two panels of seconds per gradient against women; counts are flat. At "
        f"{costs['rows'].max():,} women: {'; '.join(said)}."
    )


def _ticks(ax: Axes, at: Sequence[float]) -> None:
    ax.set_xticks(at)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
