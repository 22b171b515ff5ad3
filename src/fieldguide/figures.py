"""Plots that more than one chapter draws: a fit against its exact answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from arviz_base.labels import BaseLabeller
from arviz_plots.plot_collection import PlotCollection
from arviz_stats.ecdf_utils import ecdf_pit
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fieldguide.fits import divergences, problem_of_fit
from fieldguide.fits import label as label_of
from fieldguide.problem import Problem
from fieldguide.reference.districts import DistrictsPosterior
from fieldguide.style import COLORS, shades

LABELS = {
    "alpha_bar": "mean of districts, ᾱ (logit)",
    "sigma": "spread of districts, σ (logit)",
    "alpha": "effect of district {district}, α (logit)",
}
HALO = [withStroke(linewidth=3, foreground="#ffffff")]
"""Path effect that keeps words readable where they lie over marks."""
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
    fig, axs = plt.subplots(1, len(variables), figsize=(7, 2.5), squeeze=False)
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
    shape: tuple[int, int] | None = None,
    floor: bool = False,
) -> tuple[Figure, str]:
    """Draw the funnels of several fits, each over its own exact answer.

    Parameters
    ----------
    fits : sequence of (draws, exact)
        See `plot_funnel`. The first one's exact contours are repeated in grey below the others that
        belong to another problem.
    title : callable
        What is said above a panel of its fit; the number of divergences is added.
    sigma_range : tuple of float
        Limits of sigma, in logits.
    shape : tuple of int
        Rows and columns; by default one row.
    floor : bool
        Whether to shade what lies below the smallest sigma drawn, and to say how much of the exact
        probability that is.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
        What each panel shows, with its values.
    """
    rows, columns = shape or (1, len(fits))
    fig, axs = plt.subplots(
        rows, columns, figsize=(7, 3.3 * rows), sharex=True, sharey=True, squeeze=False
    )
    first = fits[0][1]
    described = []
    for ax, (draws, exact) in zip(axs.flat, fits, strict=True):
        if exact.problem != first.problem:
            plot_exact_contours(ax, first, sigma_range=sigma_range, color="0.7")
        plot_funnel(ax, draws, exact, sigma_range=sigma_range)
        ax.set_title(f"{title(draws)}\n{divergences(draws)} divergences", fontsize=10 if shape else 11)
        ax.label_outer()
        smallest = float(draws["posterior"]["sigma"].min())
        below = float(exact.cdf("sigma", smallest))
        if floor:
            ax.axhspan(sigma_range[0], smallest, color=_color_of(draws, exact), alpha=0.14, lw=0)
            words = f"never visited: {below:.1%}" if below >= 0.0005 else "never visited: < 0.1%"
            ax.text(
                0.98, 0.03, words, ha="right", transform=ax.transAxes, fontsize=10.5, path_effects=HALO
            )
        described.append(
            f"{label_of(draws)}: {divergences(draws)} divergences, smallest sigma visited "
            f"{smallest:.3f}, below which lies {below:.2%} of the exact probability, exact mean of "
            f"district 3 {float(exact.mean['alpha'].sel(district=3)):.2f}"
        )
    return fig, f"{len(fits)} panels of district 3's effect against sigma. {'; '.join(described)}."


def plot_paths(
    exact: DistrictsPosterior, paths: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[Figure, str]:
    """Draw leapfrog paths over the exact density, and their energy errors.

    Parameters
    ----------
    exact : DistrictsPosterior
        The exact answer for the same model, priors and data.
    paths : mapping of str to (positions, errors)
        Positions, of shape (steps, parameters), have log sigma second and district 3's effect last;
        errors, of shape (steps,), are in nats. The path called ``lost`` is orange and ends in a cross,
        others are grey.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
        What the paths do, with their values.
    """
    fig, axs = plt.subplots(1, 2, figsize=(6.4, 3.2), width_ratios=[1.4, 1])
    plot_exact_contours(axs[0], exact)
    described = []
    for name, (path, errors) in paths.items():
        color, end = (COLORS["centered"], "X") if name == "lost" else ("#808080", "o")
        line = {"color": color, "lw": 1.2, "marker": ".", "ms": 4}
        axs[0].plot(path[:, -1], np.exp(path[:, 1]), **line)
        axs[0].plot(path[-1, -1], np.exp(path[-1, 1]), end, color=color, ms=8, clip_on=True)
        axs[1].plot(np.arange(len(errors)), np.abs(errors) + 1e-3, **line)
        described.append(
            f"the {'orange' if name == 'lost' else 'grey'} path reaches a sigma of "
            f"{np.exp(path[:-1, 1].min()):.2g} and an energy error of {np.abs(errors[:-1]).max():.2g} "
            f"nats before its last step, {np.abs(errors[-1]):.2g} after it, in {len(errors) - 1} steps"
        )
    axs[1].axhline(1000, color="#4d4d4d", ls=":", lw=1)
    axs[1].set(yscale="log", ylim=(None, 5e5), xlabel="leapfrog step", ylabel="energy error (nats)")
    return fig, f"Leapfrog paths in the plane of district 3's effect and sigma: {'; '.join(described)}."


def plot_ess(fits: Sequence[xr.DataTree], name: str = "alpha") -> tuple[Figure, str]:
    """Draw the bulk effective sample size of each district's effect in several fits, as bars.

    Parameters
    ----------
    fits : sequence of DataTree
        Fits that carry what they are; their forms choose the colours.
    name : str
        A variable with one dimension.

    Returns
    -------
    figure : matplotlib.figure.Figure
    alt : str
        What the bars say, with their values.
    """
    sizes = {label_of(fit): az.ess(fit["posterior"][name]).to_series() for fit in fits}
    index = next(iter(sizes.values())).index
    over = index.name
    fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.33 * len(fits) * len(index)))
    height = 0.8 / len(fits)
    for k, (fit, (said, values)) in enumerate(zip(fits, sizes.items(), strict=True)):
        at = np.arange(len(values)) + height * (k - (len(fits) - 1) / 2)
        bars = ax.barh(at, values, 0.9 * height, color=COLORS[fit.attrs["parameterization"]], label=said)
        ax.bar_label(bars, [f" {value:.0f}" for value in values])
    ax.set_yticks(range(len(index)), [f"{over} {one}" for one in index])
    ax.set(xlabel="bulk effective sample size", ylim=(len(index) - 0.4, -0.6))
    ax.margins(x=0.12)
    fig.legend(loc="outside upper left")
    words = "; ".join(f"{said}: {', '.join(f'{v:.0f}' for v in of)}" for said, of in sizes.items())
    return fig, f"Bar chart of bulk effective sample size, one bar for each {over}. {words}."


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


# ---------------------------------------------------------------------------------------------
# ArviZ's plots of a fit, in the book's words and colours

WORDS = {
    "alpha_bar": "mean of districts, ᾱ",
    "sigma": "spread of districts, σ",
    "log_sigma": "log σ",
    "alpha": "effect of district {district}, α",
    "z": "z of district {district}",
    "effect": "effect",
    "sd_effect": "spread of effects",
    "sd_intercept": "spread of baselines",
    "corr": "correlation",
    "risk_difference": "risk difference",
}
"""What figures call a model's variables."""


BAND = 0.99
"""Probability with which the band of a rank plot holds all chains, if they agree."""
_BAND_LOOK = {"color": "#b3b3b3", "alpha": 0.4}


class Labeller(BaseLabeller):
    """Names variables in words, for any plot of ArviZ (``labeller=Labeller()``)."""

    def make_label_flat(self, var_name: str | None, sel: Mapping, isel: Mapping) -> str:
        """Return the words for a variable, and for which district it is, or the like."""
        words = WORDS.get(str(var_name), str(var_name or ""))
        if "{" in words:
            return words.format(**sel)
        where = (f"of {dim} {value}" for dim, value in sel.items() if dim == "district")
        return " ".join([words, *where])

    make_label_vert = make_label_flat


def plot_traces(draws: xr.DataTree, variables: Sequence[str], **where: Any) -> PlotCollection:
    """Draw density and trace of variables, a shade for each chain, a cross where a draw diverged.

    Parameters
    ----------
    draws : DataTree
        A fit that carries what it is; its form chooses the colour.
    variables : sequence of str
        A row for each scalar.
    **where
        Coordinates, such as ``district=[1, 3]``.

    Returns
    -------
    arviz_plots.PlotCollection
        For `fieldguide.page.show_figure`.
    """
    rows = _scalars(draws, variables, where)
    plot = az.plot_trace_dist(
        draws,
        var_names=list(variables),
        coords=where,
        compact=False,
        visuals={
            "dist": {"lw": 1.4},
            "trace": {"lw": 0.6, "alpha": 0.8},
            "divergence": {"color": COLORS["divergent"], "marker": "x", "size": 16, "width": 0.8},
        },
        figure_kwargs={"figsize": (7, 0.3 + 1.5 * rows)},
        **_chains(draws),
    )
    for ax in plot.viz["figure"].item().axes[1::2]:
        ax.set_xlabel("draw")
    return plot


def plot_ranks(draws: xr.DataTree, variables: Sequence[str], **where: Any) -> PlotCollection:
    """Draw how far each chain is ahead of its fair share of the ranks, from the lowest on.

    The band holds, with probability `BAND`, chains of independent draws from one distribution
    (Säilynoja and others, 2022). Draws of a chain resemble each other, so that lines of a sound fit may
    leave it a little.

    Parameters
    ----------
    draws, variables, **where
        As for `plot_traces`; a panel for each scalar.

    Returns
    -------
    arviz_plots.PlotCollection
    """
    plot = az.plot_rank(
        draws,
        var_names=list(variables),
        coords=where,
        method="envelope",
        envelope_prob=BAND,
        thin=False,
        stats={"ecdf_pit": {"n_simulations": 400}},  # ArviZ takes 1000, and four seconds
        visuals={
            "ecdf_lines": {"lw": 1.3},
            "credible_interval": _BAND_LOOK,
            "xlabel": {"text": "rank of a draw among all"},
            "remove_axis": False,
        },
        figure_kwargs={"figsize": (7, 2.5), "sharey": True},
        **_chains(draws),
    )
    panels = plot.viz["figure"].item().axes
    for ax in panels:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _label_ranks(panels, "ahead of its share")
    return plot


def plot_energies(draws: xr.DataTree) -> PlotCollection:
    """Draw how far the sampler's energies spread, and how far they jump from draw to draw.

    Parameters
    ----------
    draws : DataTree
        A fit that carries what it is; its form chooses the colour.

    Returns
    -------
    arviz_plots.PlotCollection
    """
    label_of(draws)
    visited, jumps = shades(COLORS[draws.attrs["parameterization"]], 2)
    plot = az.plot_energy(
        draws,
        show_bfmi=False,
        color=[visited, jumps],
        visuals={"legend": False, "face": {"alpha": 0.25}},
        figure_kwargs={"figsize": (7, 2.5)},
    )
    (ax,) = plot.viz["figure"].item().axes
    ax.legend(ax.lines[:2], ["energies visited", "jumps from draw to draw"], loc="upper right")
    ax.set_xlabel("energy (nats, from its mean)")
    return plot


def plot_against(
    draws: xr.DataTree, focus: str, variables: Sequence[str], **where: Any
) -> PlotCollection:
    """Draw one variable against others, a panel for each, with divergent draws as crosses.

    Parameters
    ----------
    draws : DataTree
        A fit that carries what it is; its form chooses the colour.
    focus : str
        On every vertical axis.
    variables, **where
        As for `plot_traces`, on the horizontal axes.

    Returns
    -------
    arviz_plots.PlotCollection
    """
    label_of(draws)
    plot = az.plot_pair_focus(
        draws,
        focus,
        var_names=list(variables),
        coords=where,
        visuals={
            "scatter": {
                "color": COLORS[draws.attrs["parameterization"]],
                "alpha": 0.25,
                "size": 5,
                "edgecolor": "none",
            },
            "divergence": {"color": COLORS["divergent"], "marker": "x", "size": 24, "alpha": 1},
        },
        labeller=Labeller(),
        figure_kwargs={"figsize": (7, 2.7), "sharey": True},
    )
    for ax in plot.viz["figure"].item().axes:
        ax.label_outer()
    return plot


def plot_sensitivity(draws: xr.DataTree, variables: Sequence[str], **where: Any) -> PlotCollection:
    """Draw variables with the prior (left), then the likelihood, weakened and strengthened.

    Parameters
    ----------
    draws, variables, **where
        As for `plot_traces`; a row for each scalar. The fit carries ``log_prior`` and
        ``log_likelihood``.

    Returns
    -------
    arviz_plots.PlotCollection
    """
    label_of(draws)
    weaker, stronger = shades(COLORS[draws.attrs["parameterization"]], 2)[::-1]
    plot = az.plot_psense_dist(
        draws,
        var_names=list(variables),
        coords=where,
        color=[weaker, COLORS["exact"], stronger],
        labeller=Labeller(),
        figure_kwargs={"figsize": (7, 0.5 + 1.9 * _scalars(draws, variables, where))},
    )
    figure = plot.viz["figure"].item()
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        if legend is not None:
            legend.remove()
    for k, ax in enumerate(figure.axes):
        ax.set(xlabel=ax.get_title(loc="left"), yticks=[])
        ax.set_title(f"{('prior', 'likelihood')[k % 2]} weaker or stronger")
    lines = [Line2D([], [], color=color) for color in (weaker, COLORS["exact"], stronger)]
    names = ["power 0.8", "as it is", "power 1.25"]
    figure.legend(lines, names, loc="outside upper left", ncols=3)
    return plot


def plot_uniformity(
    ranks: xr.DataTree, variables: Sequence[str], color: str, probability: float = 0.95
) -> PlotCollection:
    """Draw how far the distribution of ranks is from a uniform one, with the band of uniform ones.

    Parameters
    ----------
    ranks : DataTree
        Group ``posterior_sbc``: a rank for each simulation.
    variables : sequence of str
        A panel for each.
    color : str
        Of the form's lines.
    probability : float
        With which the band holds the whole line, if the ranks are uniform (Säilynoja and others, 2022).

    Returns
    -------
    arviz_plots.PlotCollection
    """
    plot = az.plot_ecdf_pit(
        ranks,
        var_names=list(variables),
        envelope_prob=probability,
        visuals={
            "ecdf_lines": {"color": color},
            "p_value_text": False,
            "suspicious_points": False,
            "xlabel": {"text": "rank of the truth"},
        },
        labeller=Labeller(),
        figure_kwargs={"figsize": (7, 2.6), "sharey": True},
    )
    panels = plot.viz["figure"].item().axes
    count = max(len(line.get_xdata()) for line in panels[0].lines)
    at, _, low, high = ecdf_pit(np.linspace(0, 1, count), probability, n_simulations=1000)
    for ax in panels:
        ax.fill_between(at, low - at, high - at, lw=0, step="post", **_BAND_LOOK)
        ax.margins(y=0.1)
    _label_ranks(panels, "share, minus uniform")
    return plot


def _label_ranks(panels: Sequence[Axes], ahead: str) -> None:
    """Put words at the axes of panels that go from the lowest rank to the highest."""
    panels[0].set_ylabel(ahead)
    for ax in panels:
        ax.set_xticks([0, 0.5, 1], ["lowest", "", "highest"])
        ax.label_outer()


def _scalars(draws: xr.DataTree, variables: Sequence[str], where: Mapping[str, Any]) -> int:
    """Count the scalars of variables at coordinates."""
    chosen = draws["posterior"].to_dataset()[list(variables)].sel(where).isel(chain=0, draw=0)
    return sum(one.size for one in chosen.data_vars.values())


def _chains(draws: xr.DataTree) -> dict[str, Any]:
    """Return what gives chains their shades of the form's colour, and variables their words."""
    label_of(draws)
    colors = shades(COLORS[draws.attrs["parameterization"]], draws["posterior"].sizes["chain"])
    return {"aes": {"color": ["chain"]}, "color": colors, "labeller": Labeller()}
