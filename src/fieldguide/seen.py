"""What a reader sees of a figure, read from the figure: panels, words, marks, and whose draws they are.

`page.show_figure` keeps this description beside each picture, and a test holds it against what the
chapter's text says that the figure shows (``tests/figures.toml``). No word of it is typed: colours are
looked up in the palette, and draws are recognised by their values among the fits of the notebook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from colorsys import rgb_to_hls
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.container import BarContainer
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter

from fieldguide.fits import UnlabelledFitError
from fieldguide.fits import label as label_of
from fieldguide.style import COLORS

HUES = {
    "black": {COLORS["exact"], COLORS["divergent"]},
    "orange": {COLORS["centered"]},
    "blue": {COLORS["non-centered"]},
    "grey": {COLORS["fixed"], COLORS["prior"]},
    "pink": {COLORS["deviation"]},
    "green": {COLORS["partial"]},
}
"""What captions call the colours of the palette."""

MARKERS = {".": "dots", "o": "circles", "x": "crosses", "X": "crosses", "s": "squares", "D": "diamonds"}
STROKES = {"-": "line", "--": "dashed line", ":": "dotted line", "-.": "dash-dotted line"}
AT = "; at "
"""Before the coordinates of a mark whose values are not draws of a fit."""

_CLOSE = 1e-10  # draws and the exponentials of their logarithms


_Column = tuple[int, str, np.ndarray, np.ndarray]
"""Fit (its place among the known ones), variable, draws, and the order that sorts them."""

_Found = tuple[int, str]
"""Fit and variable of which values are draws."""


class WordsError(ValueError):
    """A caption or an alternative text names what the figure does not show."""


# ---------------------------------------------------------------------------------------------
# Whose draws


class Known:
    """The fits that a figure may show, and a search among their draws by value.

    Parameters
    ----------
    namespace : mapping
        Names and what they stand for, as in a notebook; fits may lie in lists and dicts.
    """

    def __init__(self, namespace: Mapping):
        self.seed = namespace.get("RANDOM_SEED")
        found: dict[int, tuple[str, xr.DataTree]] = {}
        for name, value in namespace.items():
            if not str(name).startswith("_") and name not in ("In", "Out"):
                for where, fit in _fits_in(value, str(name)):
                    found.setdefault(id(fit), (where, fit))
        self.fits = [fit for _, fit in found.values()]
        self.names = [self.name(fit, where) for where, fit in found.values()]
        self._index: tuple[list[_Column], np.ndarray, np.ndarray] | None = None

    def name(self, fit: xr.DataTree, where: str = "") -> str:
        """Name a fit by what it carries, and its seed; one that carries nothing by where it is."""
        try:
            label = label_of(fit)
        except UnlabelledFitError:
            return f"a fit without a label ({where})"
        seed = fit.attrs["seed"]
        how = "seed of the page" if seed == self.seed else f"seed {seed}"
        by = fit.attrs["sampler"]
        return f"{label} ({how}{'' if by == 'nutpie' else f', by {by}'})"

    def divergent(self, fit: int) -> int:
        """Count the divergent draws of a fit."""
        stats: Mapping = self.fits[fit].children.get("sample_stats", {})
        return int(stats["diverging"].sum()) if "diverging" in stats else 0

    def size(self, fit: int) -> int:
        """Count the draws of a fit."""
        sizes = self.fits[fit]["posterior"].sizes
        return sizes["chain"] * sizes["draw"]

    def find(self, values: np.ndarray) -> _Found | None:
        """Return fit (its place in `fits`) and variable that all values are draws of, if any."""
        values = np.asarray(values, dtype=float).ravel()
        values = values[np.isfinite(values)]
        if not values.size or not self.fits:
            return None
        for words, numbers in (("{}", values), ("log {}", np.exp(np.minimum(values, 700)))):
            for fit, variable, draws, order in self._having(numbers[values.size // 2]):
                column = draws[order]
                at = np.searchsorted(column, numbers - np.abs(numbers) * _CLOSE)
                near = column[np.minimum(at, column.size - 1)]
                if np.allclose(near, numbers, rtol=2 * _CLOSE, atol=0):
                    return fit, words.format(variable)
        return None

    def of_bars(self, edges: np.ndarray, heights: np.ndarray) -> _Found | None:
        """Return fit and variable of which bars are the histogram; None if there is none."""
        for fit, variable, draws, order in self._columns():
            counts = np.diff(np.searchsorted(draws[order], edges))
            if counts.sum() > 0.9 * draws.size and np.allclose(
                counts / counts.sum(), heights / heights.sum(), atol=2.5 / draws.size
            ):
                return fit, variable
        return None

    def of_data(self, data: xr.Dataset) -> list[int]:
        """Return the fits whose draws ArviZ was given, as they are, as ranks, or centred."""
        found = []
        for variable in data.data_vars.values():
            if {"chain", "draw"} <= set(variable.dims):
                values = variable.transpose(..., "chain", "draw").to_numpy()
                for one in values.reshape(-1, values.shape[-2] * values.shape[-1]):
                    found += self._in_order_of(one)
        return list(dict.fromkeys(found))

    def _in_order_of(self, values: np.ndarray) -> list[int]:
        """Return the fits of which the draws of a variable, sorted, sort these values too."""
        found = []
        for fit, _, draws, order in self._columns():
            if draws.size == values.size and np.isfinite(values).all():
                steps = np.diff(draws[order]) > 0  # equal draws, of refused proposals, may change places
                so_far = np.maximum.accumulate(values[order])[:-1][steps]
                to_come = np.minimum.accumulate(values[order][::-1])[::-1][1:][steps]
                if (so_far <= to_come).all():
                    found.append(fit)
        return found

    def of_means(self, means: Mapping[str, float]) -> list[int]:
        """Return the fits that have these posterior means (``sigma``, ``alpha[3]`` and so on)."""
        draws = {(fit, name): values for fit, name, values, _ in self._columns()}
        return [
            fit
            for fit in range(len(self.fits))
            if means
            and all(
                (fit, name) in draws and np.isclose(draws[fit, name].mean(), mean, rtol=1e-6)
                for name, mean in means.items()
            )
        ]

    def _columns(self) -> list[_Column]:
        """Fit, variable, draws and their order, of every scalar of every fit."""
        return self._indexed()[0]

    def _indexed(self) -> tuple[list[_Column], np.ndarray, np.ndarray]:
        """Return the columns, all their draws sorted, and of which column each of these is."""
        if self._index is None:
            columns = [
                (k, variable, draws, np.argsort(draws, kind="stable"))
                for k, fit in enumerate(self.fits)
                for variable, draws in sorted(_scalars(fit), key=lambda one: "[" in one[0])
                if np.ptp(draws) > 0
            ]
            values = np.concatenate([c[2] for c in columns]) if columns else np.empty(0)
            owner = np.repeat(np.arange(len(columns)), [c[2].size for c in columns])
            order = np.argsort(values, kind="stable")
            self._index = columns, values[order], owner[order]
        return self._index

    def _having(self, value: float) -> list[_Column]:
        columns, values, owner = self._indexed()
        margin = abs(value) * _CLOSE
        low, high = np.searchsorted(values, [value - margin, value + margin])
        return [columns[k] for k in dict.fromkeys(owner[low : high + 1])]


def _fits_in(value: Any, where: str, depth: int = 3) -> Iterator[tuple[str, xr.DataTree]]:
    """Yield each fit in a value, with where it is."""
    if isinstance(value, xr.DataTree):
        if "posterior" in value.children and {"chain", "draw"} <= set(value["posterior"].dims):
            yield where, value
    elif depth and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _fits_in(one, f"{where}[{key!r}]", depth - 1)
    elif depth and isinstance(value, list | tuple):
        for key, one in enumerate(value):
            yield from _fits_in(one, f"{where}[{key}]", depth - 1)


def _scalars(fit: xr.DataTree) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and draws of every scalar of a fit, and its energy."""
    for name, variable in fit["posterior"].to_dataset().data_vars.items():
        if variable.dtype.kind == "f" and {"chain", "draw"} <= set(variable.dims):
            rest = [dim for dim in variable.dims if dim not in ("chain", "draw")]
            values = variable.transpose(*rest, "chain", "draw").to_numpy()
            labels = [
                variable[d].to_numpy() if d in variable.coords else range(variable.sizes[d])
                for d in rest
            ]
            for where in np.ndindex(values.shape[:-2]):
                index = ", ".join(str(names[k]) for names, k in zip(labels, where, strict=True))
                yield (f"{name}[{index}]" if rest else str(name)), values[where].ravel()
    stats: Mapping = fit.children.get("sample_stats", {})
    if "energy" in stats:
        yield "energy", stats["energy"].to_numpy().ravel()


# ---------------------------------------------------------------------------------------------
# Panels and marks


def describe(
    figure: Figure,
    known: Known | None = None,
    fits: Sequence | Mapping = (),
    data: xr.Dataset | None = None,
) -> dict:
    """Say what a figure shows.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    known : Known, optional
        Fits among whose draws the marks are looked up.
    fits : sequence or mapping of DataTree
        Fits from which the figure's values were computed, where it does not show their draws.
    data : Dataset, optional
        What ArviZ was given to draw.

    Returns
    -------
    dict
        ``panels``, a list of lines for each; ``around``, the words outside of them; ``fits``, of
        which fits the draws are; and ``sure``, those of them without a divergent draw.
    """
    known = known or Known({})
    shown: list[int] = []
    if data is not None:
        shown += known.of_data(data)
    sourced = bool(shown or fits)
    panels = []
    for ax in figure.axes:
        if ax.get_visible() and (ax.axison or ax.has_data()):
            lines, of = _panel(ax, known, sourced)
            panels.append(lines)
            shown += of
    shown = list(dict.fromkeys(shown))
    return {
        "panels": panels,
        "around": _around(figure),
        "fits": list(dict.fromkeys([*(known.names[k] for k in shown), *_given(fits, known)])),
        "sure": [known.names[k] for k in shown if not known.divergent(k)],
    }


def _given(fits: Sequence | Mapping, known: Known) -> list[str]:
    """Name fits, those that differ in their seed together if they are many."""
    by_label: dict[str, list] = {}
    for where, fit in _fits_in(fits, "fits"):
        name = known.name(fit, where)
        by_label.setdefault(name.rpartition(" (")[0], []).append((name, fit.attrs.get("seed")))
    names = []
    for label, several in by_label.items():
        seeds = [seed for _, seed in several]
        if len(several) > 3:
            names.append(f"{label} ({len(several)} fits, seeds {min(seeds)} to {max(seeds)})")
        else:
            names += [name for name, _ in several]
    return names


def _panel(ax: Axes, known: Known, sourced: bool) -> tuple[list[str], list[int]]:
    lines = []
    title = " / ".join(filter(None, (_flat(ax.get_title(loc)) for loc in ("left", "center", "right"))))
    if title:
        lines.append(f"title: {title}")
    for which, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        words, scale = _flat(axis.get_label_text()), axis.get_scale()
        ticks = _named_ticks(axis)
        if words or scale != "linear" or ticks:
            words += "" if scale == "linear" else f" [{scale}]"
            words += f" [{' | '.join(ticks)}]" if ticks else ""
            lines.append(f"{which}: {words.strip()}")
    if hasattr(ax, "_colorbar"):
        return ["colour bar", *lines], []
    marks = [mark for mark in _marks(ax) if mark is not None]
    merged: dict[tuple, list] = {}
    for mark in marks:
        # An interval or a median may end at a draw; one or two divergent draws are marked as such.
        enough = mark["x"].size > 2 or re.search("crosses|marks", mark["words"])
        found_x, found_y = (known.find(v) if enough else None for v in (mark["x"], mark["y"]))
        if mark["bars"] is not None:
            found_x = known.of_bars(*mark["bars"])
        merged.setdefault((mark["words"], found_x, found_y), []).append(mark)
    fits = []
    for (words, found_x, found_y), group in _name_empty(merged).items():
        of = list(dict.fromkeys(found[0] for found in (found_x, found_y) if found))
        fits += of
        if of:
            lines.append(f"{words}: {_draws(found_x, found_y, group, known)}")
        else:
            count = sum(np.size(mark["x"]) for mark in group)
            times = f"{len(group)} × " if len(group) > 1 else ""
            where = "" if sourced else _where(group)
            points = "" if sourced else f", {count} points" if group[0]["points"] else ""
            lines.append(f"{times}{words}{points}{where}")
    for text in ax.texts:
        if text.get_visible() and text.get_text().strip():
            lines.append(f"text: {_flat(text.get_text())} [{_colour(text.get_color())}]")
    legend = ax.get_legend()
    if legend is not None:
        lines += _legend(legend)
    return lines, fits


def _named_ticks(axis: Axis) -> list[str]:
    """Return the words that ticks were given; none where they are numbers of the scale."""
    formatter = axis.get_major_formatter()
    words = getattr(formatter, "seq", []) if isinstance(formatter, FixedFormatter) else []
    given = getattr(formatter, "func", None)  # as Axes.set_xticks does it
    if isinstance(given, partial) and given.args and isinstance(given.args[0], Mapping):
        words = given.args[0].values()
    return [_flat(str(word)) for word in words if str(word)]


def _name_empty(merged: dict) -> dict:
    """Let marks without any point stand for draws of the fit beside them that has none of the kind."""
    matched = [key for key in merged if key[1] or key[2]]
    pairs = list(dict.fromkeys(key[1:] for key in matched if key[1] and key[2]))
    named: dict[tuple, list] = {}
    for key, group in merged.items():
        if key[1:] == (None, None) and not any(mark["x"].size for mark in group):
            alike = [other for other in matched if other[0] == key[0]]
            if alike:
                key = alike[0]
            elif len(pairs) == 1 and group[0]["points"]:
                key = (key[0], *pairs[0])
        named.setdefault(key, []).extend(group)
    return named


def _draws(found_x: _Found | None, found_y: _Found | None, group: list[dict], known: Known) -> str:
    fit, *others = dict.fromkeys(found[0] for found in (found_x, found_y) if found)
    name, total, lost = known.names[fit], known.size(fit), known.divergent(fit)
    if found_x and group[0]["bars"] is not None:
        return f"{found_x[1]} of {name}"
    count = sum(int(np.isfinite(mark["x"]).sum()) for mark in group)
    crosses = "crosses" in group[0]["words"]
    if count == lost and (crosses or lost):
        part = "divergent draws"
    elif count == total and lost:
        part = f"all {total} draws"
    elif count == total - lost:
        part = "draws that did not diverge"
    else:
        part = f"{count} draws"
    x, y = (found[1] if found else None for found in (found_x, found_y))
    what = f"{y} against {x}" if x and y else (x or y)
    parts = f", {len(group)} chains" if len(group) > 1 else ""
    return f"{what}, {part} of {name}{parts}" + "".join(f" AND OF {known.names[k]}" for k in others)


def _marks(ax: Axes) -> Iterator[dict | None]:
    all_bars = [one for one in ax.containers if isinstance(one, BarContainer)]
    in_bars = {id(patch) for bars in all_bars for patch in bars.patches}
    yield from map(_bars, all_bars)
    for artist in ax.get_children():
        if not artist.get_visible() or id(artist) in in_bars:
            continue
        if isinstance(artist, Line2D):
            yield _line(artist, ax)
        elif isinstance(artist, Collection):
            yield _collection(artist, ax)
        elif isinstance(artist, Patch) and artist in ax.patches:
            yield _mark(f"{_colour(artist.get_facecolor())} band", [], [])
        elif artist in ax.images:
            yield _mark("image", np.empty(0), np.empty(0))


def _mark(
    words: str, x: Any, y: Any, points: bool = False, bars: tuple[np.ndarray, np.ndarray] | None = None
) -> dict:
    x, y = (np.ma.filled(np.ma.asarray(v, dtype=float), np.nan).ravel() for v in (x, y))
    keep = np.isfinite(x) & np.isfinite(y)
    return {"words": words, "x": x[keep], "y": y[keep], "points": points, "bars": bars}


def _line(line: Line2D, ax: Axes) -> dict | None:
    marker: Any = line.get_marker()
    stroke = line.get_linestyle()
    marks = MARKERS.get(marker, None if marker in ("None", "", " ", None) else f"marks {marker!r}")
    parts = [STROKES[stroke]] if stroke in STROKES else []
    if marks:
        face = line.get_markerfacecolor()
        white = not isinstance(face, str) or face != "auto"
        opened = white and to_hex(face) == "#ffffff"
        parts.append(f"open {marks}" if opened else marks)
    if not parts:
        return None
    words = f"{_colour(line.get_color())} {' with '.join(parts)}"
    if stroke in STROKES:
        words += f" (width {line.get_linewidth():g})"
    x, y = np.asarray(line.get_xdata(orig=False)), np.asarray(line.get_ydata(orig=False))
    if line.get_transform() == ax.get_yaxis_transform(which="grid"):
        return _mark(f"{words}, level", [], []) | {"level": y[0]}
    if line.get_transform() == ax.get_xaxis_transform(which="grid"):
        return _mark(f"{words}, upright", [], []) | {"level": x[0]}
    return _mark(words, x, y, points=stroke not in STROKES)


def _collection(artist: Collection, ax: Axes) -> dict | None:
    faces: Any = artist.get_facecolor()
    edges: Any = artist.get_edgecolor()
    if isinstance(artist, ContourSet):
        corners = [np.asarray(path.vertices) for path in artist.get_paths()]
        where = np.concatenate([some for some in corners if len(some)] or [np.empty((0, 2))])
        how = "filled" if artist.filled else _colour(edges[0])
        words = f"{how} contours, {len(list(artist.levels))} levels"
        return _mark(words, *where.T) | {"extent": True}
    if isinstance(artist, PathCollection):
        offsets = np.ma.asarray(artist.get_offsets())
        x, y = offsets.T if len(offsets) else ([], [])
        colour = faces[0] if len(faces) else edges[0] if len(edges) else "none"
        return _mark(f"{_colour(colour)} {_shape(artist)}", x, y, points=True)
    if isinstance(artist, LineCollection):
        ends = [segment for segment in artist.get_segments() if len(segment)]
        where = np.concatenate(ends) if ends else np.empty((0, 2))
        return _mark(f"{len(ends)} {_colour(edges[0])} lines", *where.T) | {"extent": True}
    if isinstance(artist, PolyCollection):
        where = np.concatenate([path.vertices for path in artist.get_paths()] or [np.empty((0, 2))])
        return _mark(f"{_colour(faces[0])} filled area", *where.T) | {"extent": True}
    if isinstance(artist, QuadMesh):
        return _mark("mesh of colours", [], [])
    return None


def _bars(bars: BarContainer) -> dict:
    patches = list(bars.patches)
    colour = _colour(patches[0].get_facecolor()) if patches else "none"
    upright = bars.orientation == "vertical"
    start = np.array([p.get_x() if upright else p.get_y() for p in patches])
    width = np.array([p.get_width() if upright else p.get_height() for p in patches])
    height = np.array([p.get_height() if upright else p.get_width() for p in patches])
    touching = len(patches) > 3 and np.allclose(start[1:], start[:-1] + width[:-1])
    if touching:
        edges = np.append(start, start[-1] + width[-1])
        return _mark(
            f"{colour} histogram of {len(patches)} bars", start + width / 2, height, bars=(edges, height)
        )
    return _mark(f"{len(patches)} {colour} bars", start + width / 2, height)


def _where(group: list[dict]) -> str:
    """Where marks are: from the first point to the last, and the highest if it is neither."""
    if "level" in group[0]:
        return AT + " and ".join(f"{mark['level']:.3g}" for mark in group)
    group = [mark for mark in group if mark["x"].size]
    if not group:
        return ""
    x, y = (np.concatenate([mark[k] for mark in group]) for k in ("x", "y"))
    if "extent" in group[0] or len(group) > 3:
        return f"{AT}x {x.min():.3g} to {x.max():.3g}, y {y.min():.3g} to {y.max():.3g}"
    said = []
    for mark in group:
        x, y = (np.where(np.abs(v) < 1e-4 * np.abs(v).max(), 0.0, v) for v in (mark["x"], mark["y"]))
        ends = f"({x[0]:.3g}, {y[0]:.3g})"
        if x.size > 1:
            ends += f" to ({x[-1]:.3g}, {y[-1]:.3g})"
        top = int(np.argmax(y))
        if 0 < top < x.size - 1:
            ends += f", highest ({x[top]:.3g}, {y[top]:.3g})"
        said.append(ends)
    return AT + " and ".join(said)


def _shape(artist: PathCollection) -> str:
    vertices = np.asarray(artist.get_paths()[0].vertices)
    for marker, words in MARKERS.items():
        style = MarkerStyle(marker)
        same = np.asarray(style.get_path().transformed(style.get_transform()).vertices)
        if same.shape == vertices.shape and np.allclose(same, vertices):
            return words
    return "marks"


def _colour(colour: Any) -> str:
    """Call a colour what captions call it; the palette's greys by their lightness."""
    if isinstance(colour, str) and colour == "none":
        return "no colour"
    red, green, blue, alpha = to_rgba(colour)
    if alpha == 0:
        return "transparent"
    code = to_hex((red, green, blue)).upper()
    for name, codes in HUES.items():
        if code in codes:
            return name
    if code == "#FFFFFF":
        return "white"
    if red == green == blue:
        return f"grey {red:.2g}"
    hue, light, _ = rgb_to_hls(red, green, blue)
    for name, codes in HUES.items():
        for base in codes:
            near = rgb_to_hls(*to_rgb(base))
            if near[2] and abs(near[0] - hue) < 0.01:
                return f"{'dark' if light < 0.42 else 'light'} {name}"
    return f"colour {code[1:]}"


def _legend(legend: Legend) -> list[str]:
    entries = [
        f"{_flat(text.get_text())} [{_handle(handle)}]"
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    ]
    return [f"legend: {entry}" for entry in entries]


def _handle(handle: Any) -> str:
    if hasattr(handle, "get_color"):
        return _colour(handle.get_color())
    return _colour(np.atleast_2d(handle.get_facecolor())[0])


def _around(figure: Figure) -> list[str]:
    lines = [f"text: {_flat(t.get_text())}" for t in figure.texts if t.get_text().strip()]
    untyped: Any = figure  # whose attributes for its three titles Matplotlib's types do not have
    for one in (untyped._suptitle, untyped._supxlabel, untyped._supylabel):
        if one is not None and f"text: {_flat(one.get_text())}" not in lines:
            lines.append(f"text: {_flat(one.get_text())}")
    for legend in figure.legends:
        lines += _legend(legend)
    return lines


def _flat(text: str) -> str:
    return " / ".join(part.strip() for part in text.strip().splitlines())


# ---------------------------------------------------------------------------------------------
# Tables


def facts(table: pd.DataFrame, caption: str, known: Known) -> dict[str, list]:
    """Say of which fits a table is, and what a test can hold its cells against.

    A table is of the fits whose labels name its columns or rows, and of those whose posterior means
    are its column ``mean`` or ``ours``. Of each there are the counts of divergent draws and of gradient
    evaluations, taken from the fit itself; where a label belongs to several fits, from each.

    Raises
    ------
    WordsError
        If the caption names a fit, and the means are those of another.
    """
    names = {str(name) for name in (*table.columns, *table.index)}
    named = [k for k, name in enumerate(known.names) if name.rpartition(" (")[0] in names]
    for column in {"mean", "ours"} & set(table.columns):
        parts: dict[str, dict] = {}
        of_all = str(cast("str | None", table.index.name) or "")
        for name, mean in table[column].items():
            words, _, variable = str(name).rpartition(" ")
            if variable in ("sigma", "alpha[3]"):
                parts.setdefault(words or of_all, {})[variable] = mean
        for words, means in parts.items():
            of = known.of_means(means)
            labels = [known.names[k].rpartition(" (")[0] for k in of]
            if words and of and not any(label.startswith(f"{words}:") for label in labels):
                raise WordsError(f"the table names {words!r}, and the means are of {labels}")
            for label in (name.rpartition(" (")[0] for name in known.names):
                if label in caption and label not in labels:
                    raise WordsError(f"the caption names {label!r}, and the means are of {labels}")
            named += of
    said: dict[str, list] = {}
    for k in dict.fromkeys(named):
        stats = known.fits[k]["sample_stats"]
        counts = [int(stats[count].sum()) for count in ("diverging", "n_steps")]
        said.setdefault(known.names[k].rpartition(" (")[0], []).append(counts)
    return said


# ---------------------------------------------------------------------------------------------
# Words that name marks

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_NEEDS = {
    r"red": r"\bred\b",
    r"blue": r"\bblue\b",
    r"black": r"\bblack\b",
    r"gr[ea]y": r"\bgrey\b|filled contours",
    r"green": r"\bgreen\b",
    r"orange": r"\borange\b",
    r"cross(es|ed)?": r"\bcrosses\b",
    r"dots?": r"\b(dots|circles)\b",
    r"circles": r"\bcircles\b",
    r"squares": r"\bsquares\b",
    r"diamonds": r"\bdiamonds\b",
    r"open": r"\bopen\b",
    r"dashed": r"\bdashed\b",
    r"dotted": r"\bdotted\b",
    r"solid": r"(?m)(?<!dashed )(?<!dotted )\bline\b",
    r"(shaded|shading|band|envelope)": r"\b(filled area|band)\b",
    r"contours?": r"\bcontours\b",
    r"(bars|bar chart)": r"\d bars\b|\d \S+ bars\b|\bbars\b",
    r"histograms?": r"\bhistogram\b",
}


def check_words(words: str, seen: dict, known: Known | None = None) -> None:
    """Refuse words that name a colour, a mark, panels or a fit that a figure does not show.

    Parameters
    ----------
    words : str
        Caption and alternative text.
    seen : dict
        As `describe` returned it.
    known : Known, optional
        The fits that words might name.

    Raises
    ------
    WordsError
        With what is named and not shown.
    """
    panels = [lines for lines in seen["panels"] if lines[:1] != ["colour bar"]]
    drawn = "\n".join(line for lines in panels for line in lines)
    marks = "\n".join(line for line in drawn.split("\n") if not re.match("(title|x|y|text): ", line))
    for named, needed in _NEEDS.items():
        said = re.search(rf"\b{named}\b", words, re.IGNORECASE)
        if said and not re.search(needed, marks):
            raise WordsError(
                f"the words say {said.group()!r}, and nothing of the kind is drawn:\n{drawn}"
            )
    widths = set(re.findall(r"width ([\d.]+)", marks))
    for said in re.findall(r"\b(thick|thin)\b", words, re.IGNORECASE):
        if len(widths) < 2:
            raise WordsError(f"the words say {said!r}, and all lines are of one width:\n{drawn}")
    count = rf"\b({'|'.join(_NUMBERS)}|\d+) (?:panels|scatter plots|contour plots)\b"
    for said in re.findall(count, words, re.IGNORECASE):
        if int(_NUMBERS.get(said.lower(), said if said.isdigit() else 0)) != len(panels):
            raise WordsError(f"the words say {said!r} panels, and there are {len(panels)}")
    for least, side in ((2, "left|right"), (3, "middle")):
        if (
            re.search(rf"\(({side})\b|\b({side})(:| panel)", words, re.IGNORECASE)
            and len(panels) < least
        ):
            raise WordsError(f"the words speak of {side}, and there are {len(panels)} panels")
    for name in [] if known is None else known.names:
        label = name.rpartition(" (")[0]
        said = re.search(rf"(?<![\w-]){re.escape(label)}", words)  # "centered" is not in "non-centered"
        if said and not any(shown.startswith(label) for shown in seen["fits"]):
            raise WordsError(f"the words name {label!r}, and what is shown is of {seen['fits']}")
