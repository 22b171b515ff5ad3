"""Plots that more than one chapter draws: a fit against its exact answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fieldguide.fits import divergences, problem_of_fit
from fieldguide.fits import label as label_of
from fieldguide.problem import Problem
from fieldguide.reference.districts import DistrictsPosterior
from fieldguide.style import COLORS

LABELS = {
    "alpha_bar": "mean of districts, ᾱ (logit)",
    "sigma": "spread of districts, σ (logit)",
    "alpha": "effect of district {district}, α (logit)",
}
CONTOUR_SHARES = (0.95, 0.8, 0.5, 0.2)
"""Shares of exact probability inside the contours of a funnel plot, outermost first."""


def plot_marginals(
    draws: xr.DataTree,
    exact: DistrictsPosterior,
    variables: Sequence[tuple[str, dict]] = (
        ("alpha_bar", {}),
        ("sigma", {}),
        ("alpha", {"district": 3}),
    ),
) -> tuple[Figure, str]:
    """Draw histograms of the draws with the exact density over them, one panel per variable.

    Parameters
    ----------
    draws : DataTree
        A fit that carries what it is; its form chooses the colour.
    exact : DistrictsPosterior
        The exact answer for the same model, priors and data.
    variables : sequence of (name, selection)
        What to draw, such as ``("alpha", {"district": 3})``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
        What the figure says, with its values.

    Raises
    ------
    ProblemError
        If fit and answer do not belong together.
    """
    color = _color_of(draws, exact)
    width = 6.4
    fig, axs = plt.subplots(1, len(variables), figsize=(width, 2.5), squeeze=False)
    described = []
    for ax, (name, where) in zip(axs[0], variables, strict=True):
        values = draws["posterior"][name].sel(where).to_numpy().ravel()
        low, high = np.quantile(values, [0.001, 0.995])
        low = 0 if name == "sigma" else low
        x = np.linspace(low, high, 301)
        ax.hist(values, bins=60, range=(low, high), density=True, color=color, alpha=0.45)
        # The density of sigma may have no finite value at zero itself.
        ax.plot(x[1:], exact.pdf(name, x[1:], **where), color=COLORS["exact"])
        label = LABELS[name].format(**where)
        ax.set(xlabel=label.replace(", ", ",\n"), yticks=[], xlim=(low, high))
        ax.spines["left"].set_visible(False)
        mean = float(exact.mean[name].sel(where))
        words = label.partition(",")[0]
        described.append(f"{words}: draws {values.mean():.3f}, exact {mean:.3f}")
    return fig, f"Marginal densities of {label_of(draws)}. Means: {'; '.join(described)}."


def plot_funnel(
    ax: Axes,
    draws: xr.DataTree,
    exact: DistrictsPosterior,
    district: int = 3,
    alpha_range: tuple[float, float] = (-4, 7),
    sigma_range: tuple[float, float] = (0.01, 10),
) -> None:
    """Draw a district's effect against sigma: exact contours, draws, divergent draws as crosses.

    Contours hold 95, 80, 50 and 20% of the exact probability in the plane of the effect and
    log sigma.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw. Its vertical axis becomes sigma on a log scale.
    draws : DataTree
        A fit that carries what it is, with ``posterior`` (``alpha``, ``sigma``) and
        ``sample_stats`` (``diverging``); its form chooses the colour.
    exact : DistrictsPosterior
        The exact answer for the same model, priors and data.
    district : int
        Which district's effect to draw.
    alpha_range, sigma_range : tuple of float
        Limits of the axes, in logits.

    Raises
    ------
    ProblemError
        If fit and answer do not belong together.
    """
    color = _color_of(draws, exact)
    alpha = draws["posterior"]["alpha"].sel(district=district).to_numpy().ravel()
    sigma = draws["posterior"]["sigma"].to_numpy().ravel()
    divergent = draws["sample_stats"]["diverging"].to_numpy().ravel().astype(bool)
    ax.plot(alpha[~divergent], sigma[~divergent], ".", color=color, ms=2.5, alpha=0.25, mew=0)
    plot_exact_contours(ax, exact, district, alpha_range, sigma_range)
    ax.plot(alpha[divergent], sigma[divergent], "x", color=COLORS["divergent"], ms=5, mew=1)


def _color_of(draws: xr.DataTree, exact: DistrictsPosterior) -> str:
    """Colour of a fit's form, once it is sure that the answer is its own."""
    label_of(draws)  # refuses a fit that does not say what it is
    cast("Problem", problem_of_fit(draws)).check_same(exact.problem)
    return COLORS[draws.attrs["parameterization"]]


def plot_funnels(
    fits: Sequence[tuple[xr.DataTree, DistrictsPosterior]],
    title: Callable[[xr.DataTree], str],
    sigma_range: tuple[float, float] = (0.01, 10),
) -> tuple[Figure, str]:
    """Draw the funnels of three fits side by side, each over its own exact answer.

    Parameters
    ----------
    fits : sequence of (draws, exact)
        See `plot_funnel`.
    title : callable
        What is said above a panel of its fit; the number of divergences is added.
    sigma_range : tuple of float
        Limits of sigma, in logits.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
        What each panel shows, with its values.
    """
    fig, axs = plt.subplots(1, len(fits), figsize=(6.4, 3), sharey=True)
    described = []
    for ax, (draws, exact) in zip(axs, fits, strict=True):
        plot_funnel(ax, draws, exact, sigma_range=sigma_range)
        ax.set_title(f"{title(draws)}\n{divergences(draws)} divergences", fontsize=10)
        ax.set(xlabel="", ylabel="")
        described.append(
            f"{label_of(draws)}: {divergences(draws)} divergences, smallest sigma visited "
            f"{float(draws['posterior']['sigma'].min()):.3f}, exact mean of district 3 "
            f"{float(exact.mean['alpha'].sel(district=3)):.2f}"
        )
    axs[0].set_ylabel("σ (logit, log scale)")
    axs[len(fits) // 2].set_xlabel("effect of district 3 (logit)")
    return fig, f"{len(fits)} panels of district 3's effect against sigma. {'; '.join(described)}."


def plot_exact_contours(
    ax: Axes,
    exact: DistrictsPosterior,
    district: int = 3,
    alpha_range: tuple[float, float] = (-4, 7),
    sigma_range: tuple[float, float] = (0.01, 10),
    color: str = COLORS["exact"],
) -> None:
    """Draw the exact joint density of a district's effect and log sigma as four contours."""
    x = np.linspace(*alpha_range, 141)
    log_sigma = np.linspace(*cast("tuple[float, float]", np.log(sigma_range)), 121)
    density: Any = exact.joint_density(district=district, alpha=x, log_sigma=log_sigma)
    density = np.asarray(density.transpose("alpha", "log_sigma"))
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) * (x[1] - x[0]) * (log_sigma[1] - log_sigma[0])
    levels = [ordered[min(np.searchsorted(held, share), ordered.size - 1)] for share in CONTOUR_SHARES]
    ax.contour(x, np.exp(log_sigma), density.T, levels=levels, colors=color, linewidths=0.9)
    ax.set(xlim=alpha_range, ylim=sigma_range, yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(f"effect of district {district} (logit)")
    ax.set_ylabel("σ (logit, log scale)")


def plot_attempts(fits: dict[str, tuple[xr.DataTree, DistrictsPosterior]]) -> tuple[Figure, str]:
    """Draw the book's key figure: one funnel per attempt, each over its own exact answer.

    Parameters
    ----------
    fits : dict
        For each attempt's headline its draws and its exact answer. What the fit is stands under the
        headline, as the fit says it. The first attempt's exact answer is repeated in grey where
        another belongs to another problem.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
        What the figure says, with its values.
    """
    low, high = 0.005, 10.0
    fig, axs = plt.subplots(2, 2, figsize=(6.4, 6.8), sharex=True, sharey=True)
    first = next(iter(fits.values()))[1]
    described = []
    for ax, (headline, (draws, exact)) in zip(axs.flat, fits.items(), strict=True):
        if exact.problem != first.problem:
            plot_exact_contours(ax, first, sigma_range=(low, high), color="0.75")
        plot_funnel(ax, draws, exact, sigma_range=(low, high))
        name, _, words = label_of(draws).partition(": ")
        floor = float(draws["posterior"]["sigma"].min())
        missed = float(exact.cdf("sigma", floor))
        ax.axhspan(low, floor, color=COLORS["centered"], alpha=0.12, lw=0)
        ax.text(6.8, low * 1.25, f"never reached: {missed:.2%}", ha="right", fontsize=9.5)
        ax.set_title(f"{headline} · {name}\n{words}\n{divergences(draws)} divergences", fontsize=9)
        ax.label_outer()
        mean = float(exact.mean["alpha"].sel(district=3))
        described.append(
            f"{headline}, {label_of(draws)}: {divergences(draws)} divergences, {missed:.2%} of the "
            f"exact probability lies below the smallest sigma drawn ({floor:.3f}), exact mean of "
            f"district 3 {mean:+.2f}"
        )
    return fig, "District 3's effect against sigma in four attempts. " + "; ".join(described) + "."
