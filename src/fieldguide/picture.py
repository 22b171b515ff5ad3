"""A figure as a page shows it: vector graphics for light and dark, for a desk and for a phone.

A figure is drawn twice, as wide as a page's column and, with its panels below each other, as wide as a
phone. Dots by the hundred become a picture inside the drawing. Each colour has a counterpart in the
dark (:func:`fieldguide.style.in_the_dark`), which a browser chooses. What a reader could not read is
refused: words that are cut off, too small, or on top of one another or of a line, and axes without
words.
"""

from __future__ import annotations

import io
import re
import textwrap
from base64 import b64decode, b64encode
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from fieldguide.style import in_the_dark

PIXELS_PER_INCH = 96  # of a style sheet
POINTS_PER_INCH = 72
WIDE, NARROW = 672, 350
"""Widths in pixels of the text's column on a desk, and on a phone."""
SMALLEST_TEXT = 11
"""Pixels."""
CARD = 1200
"""Width in pixels of the picture that messengers show."""
_DENSE = {True: 250, False: 800}
"""Points from which on dots (True) and lines (False) are drawn as a picture."""
_RASTER_DPI = 2 * PIXELS_PER_INCH
_PALETTE = 24  # colours of such a picture


class LayoutError(ValueError):
    """Words of a figure cannot be read, or an axis has none."""


class Picture(NamedTuple):
    """A drawing.

    Attributes
    ----------
    svg : str
        The drawing, complete.
    width, height : int
        In pixels of a style sheet.
    """

    svg: str
    width: int
    height: int


def draw(figure: Figure, name: str) -> tuple[Picture, Picture]:
    """Draw a figure for a desk and for a phone.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Its width becomes the column's; afterwards it is laid out for a phone.
    name : str
        Unique on the page; names inside the drawing begin with it.

    Returns
    -------
    wide, narrow : Picture

    Raises
    ------
    LayoutError
        If words are cut off, smaller than `SMALLEST_TEXT`, or on top of one another or of a line, or if
        an axis with numbers has no words, in either layout.
    """
    height = figure.get_figheight() * WIDE / PIXELS_PER_INCH / figure.get_figwidth()
    figure.set_size_inches(WIDE / PIXELS_PER_INCH, height)
    _draw_dense_marks_as_picture(figure)
    written = {text: text.get_text() for text in _breakable(figure)}
    wide = _checked(figure, name, "on a desk")
    for text, words in written.items():
        text.set_text(words)
    stack(figure)
    return wide, _checked(figure, f"{name}-narrow", "on a phone")


def _checked(figure: Figure, name: str, where: str) -> Picture:
    """Lay a figure out, refuse what cannot be read, and draw it."""
    figure.draw_without_rendering()
    if _break_lines(figure):
        figure.draw_without_rendering()
    if faults := list(_faults(figure)):
        raise LayoutError(f"figure {name!r}, {where}: " + "; ".join(faults))
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")  # what was laid out stays in its place
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", dpi=_RASTER_DPI, facecolor="none", bbox_inches=None, metadata=nothing
        )
    figure.set_layout_engine(engine)
    width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    return Picture(_for_light_and_dark(buffer.getvalue(), width, height), width, height)


def card(figure: Figure) -> str:
    """Return a figure as messengers show it beside a link: a PNG on white, in base64."""
    buffer = io.BytesIO()
    dpi = CARD / figure.get_figwidth()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", bbox_inches=None)
    return _smaller(b64encode(buffer.getvalue()).decode())


# ---------------------------------------------------------------------------------------------
# The drawing


def _draw_dense_marks_as_picture(figure: Figure) -> None:
    for artist in figure.findobj(lambda one: isinstance(one, PathCollection | QuadMesh | Line2D)):
        if isinstance(artist, Line2D) and to_hex(artist.get_color()) == "#000000":
            dense = False  # a picture cannot change colour, and black would vanish on a dark page
        elif isinstance(artist, Line2D):
            dense = np.size(artist.get_xdata()) > _DENSE[artist.get_linestyle() == "None"]
        elif isinstance(artist, QuadMesh):  # a colour bar has a few cells, in colours that change
            dense = len(cast("Any", artist.get_array())) > _DENSE[True]
        else:
            dense = len(cast("Any", artist).get_offsets()) > _DENSE[True]
        if dense:
            artist.set_rasterized(True)


def _for_light_and_dark(svg: str, width: int, height: int) -> str:
    """Name the colours of a drawing, put paper under it, and give each colour its counterpart."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"base64,([A-Za-z0-9+/=\s]+)", lambda found: f"base64,{_smaller(found[1])}", svg)
    svg = re.sub(r"<path (?![^>]*\bd=)", '<path d="" ', svg)  # of marks outside of the panel
    svg = re.sub(r">\s+<", ">\n<", svg)
    colors = {"#000000", "#ffffff"}

    def name(found: re.Match) -> str:
        color = found[1].lower()
        colors.add(color)
        return f": var(--c{color[1:]}, {color})"

    svg = re.sub(r": (#[0-9a-fA-F]{6})\b", name, svg)
    light, dark = (
        "".join(f"--c{color[1:]}:{of(color)};" for color in sorted(colors)) for of in (str, in_the_dark)
    )
    style = (
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}"
        "image{filter:brightness(1.35)}}"
        "svg{fill:var(--c000000,#000000)}</style>"
        '<rect width="100%" height="100%" style="fill: var(--cffffff, #ffffff)"/>'
    )
    opening = svg.index(">") + 1
    head = re.sub(r'\b(?:width|height)="[^"]*pt"', "", svg[:opening])
    head = head.replace("<svg", f'<svg width="{width}" height="{height}"', 1)
    return head + style + svg[opening:]


def _smaller(png: str) -> str:
    """Return a picture in base64 with few colours."""
    with Image.open(io.BytesIO(b64decode(png))) as picture:
        buffer = io.BytesIO()
        picture.convert("RGBA").quantize(_PALETTE, Image.Quantize.FASTOCTREE).save(
            buffer, "png", optimize=True
        )
    return b64encode(buffer.getvalue()).decode()


# ---------------------------------------------------------------------------------------------
# The layout on a phone


def stack(figure: Figure) -> None:
    """Lay a figure out for a phone: its panels below each other, each with words at both axes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    """
    panels = [ax for ax in figure.axes if ax.get_subplotspec() is not None and ax.get_visible()]
    grid = [cast("Any", ax.get_subplotspec()) for ax in panels]
    columns = max((spec.colspan.stop for spec in grid), default=1)
    rows = max((spec.rowspan.stop for spec in grid), default=1)
    height = figure.get_figheight()
    narrow = NARROW / PIXELS_PER_INCH
    if columns > 1:
        for ax, words in [(ax, _words_at_axes(ax, panels)) for ax in panels]:
            ax.set(**words)
        sides = [ax.yaxis.get_visible() and bool(ax.get_yticks().size) for ax in panels]
        each = float(np.clip(height / rows * (0.8 if any(sides) else 0.7), 1.45, 2.6))
        below = GridSpec(len(panels), 1, figure=figure)
        for k, (ax, side) in enumerate(zip(panels, sides, strict=True)):
            ax.set_subplotspec(below[k])
            ax.tick_params(labelbottom=ax.xaxis.get_visible(), labelleft=side)
        figure.set_size_inches(narrow, each * len(panels) + height - _inside(figure, height))
        for one in ("supxlabel", "supylabel"):
            if getattr(figure, f"_{one}") is not None:
                getattr(figure, one)("")
    else:
        figure.set_size_inches(narrow, float(np.clip(height * 0.85, 1.8 * rows, 4.2 * rows)))
    for text in figure.findobj(Text):
        text.set_fontsize(max(0.94 * float(text.get_fontsize()), 8.5))
    _legends_above(figure)


def _legends_above(figure: Figure) -> None:
    """Set the legends above the panels, in lines that a phone has room for."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    for legend in filter(None, legends):
        names = [text.get_text() for text in legend.get_texts()]
        legend.remove()
        columns = 1 if max(map(len, names)) > 18 else 2
        handles: Any = legend.legend_handles
        figure.legend(handles, names, loc="outside upper left", ncols=columns, fontsize=10)


def _inside(figure: Figure, height: float) -> float:
    """Return the height that is left for panels beside legends and titles of the whole figure."""
    around = [legend.get_window_extent().height for legend in figure.legends]
    return height - 1.6 * sum(around) / figure.dpi


def _words_at_axes(ax: Axes, panels: list[Axes]) -> dict[str, str]:
    """Return the words at a panel's axes, or else those that it shares with a neighbour."""
    figure: Any = ax.figure
    spec = cast("Any", ax.get_subplotspec())
    words = {}
    for which, own, spans in (
        ("xlabel", ax.get_xlabel(), "colspan"),
        ("ylabel", ax.get_ylabel(), "rowspan"),
    ):
        axis = ax.xaxis if which == "xlabel" else ax.yaxis
        beside = [
            other
            for other in panels
            if getattr(cast("Any", other.get_subplotspec()), spans) == getattr(spec, spans)
        ]
        everyone = getattr(figure, f"_sup{which}")
        shared = [getattr(other, f"get_{which}")() for other in [*beside, *panels]]
        shared.append(everyone.get_text() if everyone is not None else "")
        numbers = axis.get_visible() and axis.get_ticklocs().size
        words[which] = own or (next(filter(None, shared), "") if numbers else "")
    return words


def _breakable(figure: Figure) -> Iterator[Text]:
    """Yield the titles of panels and the words at their axes."""
    for ax in figure.axes:
        yield from (*_titles(ax), ax.xaxis.label, ax.yaxis.label)


def _break_lines(figure: Figure) -> bool:
    """Break titles and words at axes that are longer than their panel; return whether any were."""
    broken = False
    for ax in figure.axes:
        panel = ax.get_window_extent()
        for text in _titles(ax):
            room = min(figure.bbox.width - panel.x0, 1.15 * panel.width)
            broken |= _break(text, text.get_window_extent().width, room)
        for label, side in ((ax.xaxis.label, "width"), (ax.yaxis.label, "height")):
            broken |= _break(label, getattr(label.get_window_extent(), side), getattr(panel, side))
    return broken


def _break(text: Text, long: float, room: float) -> bool:
    """Break words into lines if they are longer than the room."""
    letters = max(map(len, text.get_text().split("\n")), default=0)
    if not letters or long <= room:
        return False
    most = max(12, int(letters * room / long) - 1)
    lines = [textwrap.fill(line, most) for line in text.get_text().split("\n")]
    text.set_text("\n".join(lines))
    return True


# ---------------------------------------------------------------------------------------------
# What cannot be read


def faults_of(figure: Figure) -> Iterator[str]:
    """Say what a reader of a figure, as it was drawn last, could not read.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Yields
    ------
    str
        Words that are cut off, too small, over one another or over a line or dots, and axes that
        have numbers and no words.
    """
    figure.draw_without_rendering()
    yield from _faults(figure)


def _faults(figure: Figure) -> Iterator[str]:
    scale = PIXELS_PER_INCH / figure.dpi
    renderer = cast("Any", figure.canvas).get_renderer()
    canvas = figure.bbox
    boxes = []
    for text in _shown(figure):
        words = " ".join(text.get_text().split())
        size = float(text.get_fontsize()) * PIXELS_PER_INCH / POINTS_PER_INCH
        if size < SMALLEST_TEXT:
            yield f"{words!r} is set in {size:.1f} pixels, less than {SMALLEST_TEXT}"
        box = text.get_window_extent(renderer)
        outside = max(canvas.x0 - box.x0, canvas.y0 - box.y0, box.x1 - canvas.x1, box.y1 - canvas.y1)
        if outside * scale > 1:
            yield f"{words!r} is cut off by {outside * scale:.0f} pixels"
        boxes.append((words, text, box.padded(-1.5 / scale)))
    for (one, _, box), (other, _, beside) in combinations(boxes, 2):
        if box.overlaps(beside):
            yield f"{one!r} overlaps {other!r}"
    for ax in figure.axes:
        yield from _faults_of_labels(ax, renderer)
        yield from _axes_without_words(ax)


def _shown(figure: Figure) -> Iterator[Text]:
    """Yield the words that are drawn; labels of ticks outside of the view are not."""
    ticks = {}
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn = set(map(id, _ticks_drawn(axis))) if ax.get_visible() and ax.axison else set()
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                for label in (tick.label1, tick.label2):
                    ticks[id(label)] = id(tick) in drawn and axis.get_visible()
    hidden = {id(text) for ax in figure.axes if not ax.get_visible() for text in ax.findobj(Text)}
    for text in figure.findobj(Text):
        if (
            text.get_visible()
            and text.get_text().strip()
            and id(text) not in hidden
            and ticks.get(id(text), True)
        ):
            yield text


def _ticks_drawn(axis: Axis) -> list:
    return cast("Any", axis)._update_ticks()


def _titles(ax: Axes) -> list[Text]:
    untyped: Any = ax
    return [ax.title, untyped._left_title, untyped._right_title]


def _faults_of_labels(ax: Axes, renderer: Any) -> Iterator[str]:
    """Say which labels inside a panel, or names in its legend, lie over a line or over dots."""
    legend = ax.get_legend()
    labels = [*ax.texts, *(legend.get_texts() if legend else [])]
    for text in labels:
        if not text.get_visible() or not text.get_text().strip() or text.get_path_effects():
            continue
        box = text.get_window_extent(renderer).padded(-1.5)
        words = " ".join(text.get_text().split())
        for line in ax.lines:
            if line.get_visible() and _crosses(line, box):
                yield f"{words!r} lies over a line"
                break
        for dots in ax.collections:
            if isinstance(dots, ContourSet):
                if any(
                    path.transformed(dots.get_transform()).intersects_bbox(box, filled=False)
                    for path in dots.get_paths()
                ):
                    yield f"{words!r} lies over contours"
                    break
            elif isinstance(dots, PathCollection):
                at = dots.get_offset_transform().transform(np.asarray(dots.get_offsets()))
                if _any_inside(at, box):
                    yield f"{words!r} lies over dots"
                    break


def _crosses(line: Line2D, box: Bbox) -> bool:
    at = line.get_path().transformed(line.get_transform())
    if not np.size(at.vertices):
        return False
    if line.get_linestyle() != "None":
        return bool(at.intersects_bbox(box, filled=False))
    return _any_inside(np.asarray(at.vertices), box)


def _any_inside(points: np.ndarray, box: Bbox) -> bool:
    x, y = points.T
    return bool(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).any())


def _axes_without_words(ax: Axes) -> Iterator[str]:
    figure: Any = ax.figure
    if not ax.get_visible() or not ax.axison:
        return
    for which, axis, everyone in (
        ("x", ax.xaxis, figure._supxlabel),
        ("y", ax.yaxis, figure._supylabel),
    ):
        labels = [tick.label1 for tick in _ticks_drawn(axis)]
        numbers = [label for label in labels if label.get_visible() and label.get_text()]
        written = [re.search(r"[^\W\d_]{2}", label.get_text()) for label in numbers]
        if not numbers or not axis.get_visible() or all(written):
            continue
        beside = [
            getattr(other, f"get_{which}label")() for other in figure.axes if _shares(other, ax, which)
        ]
        if not any(beside) and not (everyone is not None and everyone.get_text()):
            title = _titles(ax)[1].get_text() or "without a title"
            yield f"the {which} axis of the panel {title!r} has numbers and no words"


def _shares(other: Axes, ax: Axes, which: str) -> bool:
    """Whether the words of another panel stand for this one's axis as well."""
    if other is ax:
        return True
    spec, mine = cast("Any", other.get_subplotspec()), cast("Any", ax.get_subplotspec())
    if spec is None or mine is None:
        return False
    return spec.rowspan == mine.rowspan or (which == "x" and spec.colspan == mine.colspan)
