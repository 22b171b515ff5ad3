"""Show figures and tables with a caption and words for those who cannot see them.

The same cell reads well in JupyterLab (as HTML) and in the book (as a numbered Sphinx figure or
table; see :mod:`fieldguide.sphinx_ext`). Captions and alternative text are made by code, so they
can carry the values that were computed.
"""

from __future__ import annotations

import html
import logging
import platform
import warnings
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from fieldguide.outputs import FIGURE_MIME, TABLE_MIME
from fieldguide.picture import card, draw
from fieldguide.scores import THRESHOLDS, Score, scoreboard
from fieldguide.scripts import script_part
from fieldguide.seen import Known, check_words, describe, facts
from fieldguide.style import use_style


def setup() -> None:
    """Set the book's figure style and keep PyMC's progress messages off the page.

    Warnings of the sampler are raised to errors of the build unless a page shows them on purpose;
    what PyMC merely reports (which sampler, how long) is not a result and is left out, and so is that
    PyTensor has no BLAS, which small models do without.
    """
    import pymc  # noqa: F401  (its import sets the level of its logger, so it comes first)

    use_style()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")


def show_figure(
    figure: Any,
    name: str,
    caption: str,
    alt: str,
    fits: Sequence[xr.DataTree] | Mapping = (),
    as_card: bool = False,
) -> None:
    """Display a figure with caption and alternative text, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure, matplotlib.axes.Axes, seaborn grid or ArviZ PlotCollection
        What to show.
    name : str
        Label for cross references, unique in the book, such as ``"fig-rank-centered"``.
    caption : str
        One or two sentences: what is drawn and what to see in it.
    alt : str
        What the picture says to someone who cannot see it, with the values that matter.
    fits : sequence or mapping of DataTree, optional
        Fits from which the values shown were computed. Draws are recognised by their values.
    as_card : bool
        Whether messengers show this figure beside a link to the book.

    Raises
    ------
    ValueError
        If the caption or the alternative text is missing, or names colours, marks, panels or a fit
        that the figure does not show; or if words of the figure cannot be read (see
        ``fieldguide.picture``).
    """
    if len(alt) < 15 or not caption:
        raise ValueError(f"figure {name!r} needs a caption and an alternative text of 15 characters")
    given, figure = figure, _matplotlib_figure(figure)
    figure.draw_without_rendering()
    known = Known(_namespace() | {"what was given": fits})
    seen = describe(figure, known, fits=fits, data=_data_of(given))
    check_words(f"{caption}\n{alt}", seen, known)
    picture = card(figure) if as_card else ""
    wide, narrow = draw(figure, name)
    plt.close(figure)
    source = f"data:image/svg+xml;base64,{b64encode(wide.svg.encode()).decode()}"
    page = (
        f'<figure><img src="{source}" alt="{html.escape(alt)}" '
        f'style="max-width:100%;width:{wide.width}px"><figcaption>{html.escape(caption)}</figcaption>'
        "</figure>"
    )
    content = {
        "wide": wide._asdict(),
        "narrow": narrow._asdict(),
        "alt": alt,
        "caption": caption,
        "name": name,
        "seen": seen,
        "card": picture,
    }
    display({FIGURE_MIME: content, "text/html": page}, raw=True)


def show_table(
    table: pd.DataFrame,
    name: str,
    caption: str,
    formats: Mapping[str, str] | str = "{}",
    index: bool = True,
    bad: pd.DataFrame | None = None,
) -> None:
    """Display a data frame as a captioned table with the digits that mean something.

    Parameters
    ----------
    table : pandas.DataFrame
        What to show; column names and index are shown as they are.
    name, caption : str
        As for :func:`show_figure`.
    formats : mapping of column to format string, or one format string
        For instance ``{"mean": "{:.2f}"}``; columns not named are shown as they are. A missing
        value is shown as a dash.
    index : bool
        Whether the index is the first column.
    bad : DataFrame of bool, optional
        Of the table's shape: which cells are tinted. The caption says what that means.
    """
    if not caption:
        raise ValueError(f"table {name!r} needs a caption")
    if isinstance(formats, str):
        formats = dict.fromkeys(table.columns, formats)
    shown = pd.DataFrame(
        {
            column: [
                "–" if pd.isna(value) else formats.get(column, "{}").format(value)
                for value in table[column]
            ]
            for column in table.columns
        },
        index=table.index,
    )
    if index:
        shown.insert(
            0, cast("str | None", table.index.name) or "", [str(label) for label in table.index]
        )
    shown = shown.replace(r"^-(?=\d)", "\N{MINUS SIGN}", regex=True)
    page = shown.to_html(index=False, border=0, escape=True).replace(
        "<thead>", f"<caption>{html.escape(caption)}</caption><thead>", 1
    )
    content = {
        "caption": caption,
        "name": name,
        "columns": [str(column) for column in shown.columns],
        "rows": shown.to_numpy().tolist(),
        "fits": facts(table, caption, Known(_namespace())),
        "bad": [] if bad is None else [[int(r), int(c) + index] for r, c in np.argwhere(bad)],
    }
    display({TABLE_MIME: content, "text/html": page}, raw=True)


def _namespace() -> dict:
    """Return the names of the notebook that shows something; none outside of one."""
    shell = get_ipython()
    return {} if shell is None else dict(shell.user_ns)


def _data_of(figure: Any) -> xr.Dataset | None:
    """Return what ArviZ was given to draw; None for another library's figure."""
    data = getattr(figure, "data", None)
    return data if hasattr(figure, "viz") and isinstance(data, xr.Dataset) else None


def _matplotlib_figure(figure: Any) -> Figure:
    """Return the Matplotlib figure behind what a plotting library gave back."""
    if hasattr(figure, "viz"):  # ArviZ PlotCollection
        return figure.viz["figure"].item()
    return getattr(figure, "figure", figure)


def show_script(name: str, part: str) -> None:
    """Display a part of a script as it stands there, with the versions that it was run with.

    Parameters
    ----------
    name, part : str
        As for `fieldguide.scripts.script_part`.
    """
    display(Markdown(script_part(name, part)))


SUMMARY_COLUMNS = {
    "mean": ("mean", "{:.2f}"),
    "sd": ("sd", "{:.2f}"),
    "eti89_lb": ("5.5%", "{:.2f}"),
    "eti89_ub": ("94.5%", "{:.2f}"),
    "ess_bulk": ("bulk ESS", "{:.0f}"),
    "ess_tail": ("tail ESS", "{:.0f}"),
    "r_hat": ("R-hat", "{:.3f}"),
    "mcse_mean": ("MCSE of mean", "{:.3f}"),
}
"""What ArviZ calls the columns of a summary, and what the pages call them."""


def show_summary(summary: pd.DataFrame, name: str, caption: str) -> None:
    """Display what ``az.summary(draws, round_to="none")`` returned.

    Parameters
    ----------
    summary : pandas.DataFrame
        Indexed by variable.
    name, caption : str
        As for :func:`show_figure`.
    """
    names = {column: words for column, (words, _) in SUMMARY_COLUMNS.items()}
    shown = summary[list(names)].rename(columns=names)
    show_table(shown, name, caption, dict(SUMMARY_COLUMNS.values()))


COMPARISON_DIGITS = {
    "ours": "{:.3f}",
    "published": "{:.3f}",
    "exact": "{:.3f}",
    "in MCSE": "{:+.1f}",
    "published, from exact, in its MCSE": "{:+.1f}",
}


def show_comparison(comparison: pd.DataFrame, name: str, caption: str) -> None:
    """Display what `fieldguide.published.compare_with_published` returned.

    Parameters
    ----------
    comparison : pandas.DataFrame
        Indexed by variable; several tables may be stacked.
    name, caption : str
        As for :func:`show_figure`.
    """
    show_table(comparison, name, caption, COMPARISON_DIGITS)


SCOREBOARD_DIGITS = {
    "divergences": "{:.0f}",
    "worst R-hat": "{:.3f}",
    "min bulk ESS": "{:.0f}",
    "min tail ESS": "{:.0f}",
    "E-BFMI": "{:.2f}",
    "gradient evaluations": "{:,.0f}",
    "step size": "{:.2f}",
    "seconds": "{:.2f}",
    "ESS per 1000 gradients": "{:.1f}",
    "worst error (sd)": "{:.2f}",
    "worst error (MCSE)": "{:.1f}",
    "missing at small sigma": "{:.0%}",
    "never reached": "{:.2%}",
}


def show_scoreboard(scores: Iterable[Score], name: str, caption: str) -> None:
    """Display the scoreboard of several attempts, a column for each.

    Parameters
    ----------
    scores : iterable of fieldguide.scores.Score
        The attempts so far.
    name, caption : str
        As for :func:`show_figure`.
    """
    table = scoreboard(scores)
    shown = pd.DataFrame(
        {
            measure: [
                None if pd.isna(value) else SCOREBOARD_DIGITS.get(measure, "{:+.2f}").format(value)
                for value in table[measure]
            ]
            for measure in table.columns
        },
        index=table.index,
    ).T.dropna(how="all")
    shown.index.name = "measure"
    beyond = {
        "divergences": table["divergences"] > 0,
        "worst R-hat": table["worst R-hat"] > THRESHOLDS["rhat"],
        "min bulk ESS": table["min bulk ESS"] < THRESHOLDS["ess"],
        "min tail ESS": table["min tail ESS"] < THRESHOLDS["ess"],
        "E-BFMI": table["E-BFMI"] < THRESHOLDS["bfmi"],
    }
    bad = pd.DataFrame(beyond).T.reindex(shown.index, fill_value=False)
    show_table(shown, name, f"{caption} Tinted: beyond the usual limits.", bad=bad)


def versions() -> pd.DataFrame:
    """Return the versions of Python and of the packages that computed a page."""
    names = ["pymc", "arviz", "bambi", "nutpie", "numpy", "scipy", "pandas", "fieldguide"]
    found = {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
    return pd.DataFrame({"version": found}).T
