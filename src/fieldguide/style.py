"""The book's one visual language: the same thing in the same colour and letters on every page.

Hue says which form a fit has, shades of it tell its chains apart, dashes tell priors apart; what is
exact is black, a divergent transition is a cross. Pages take the same colours and letters from
``book/_static/fieldguide.css``.
"""

from __future__ import annotations

import colorsys
from importlib import resources

import arviz as az
import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import to_hex, to_rgb

# Okabe and Ito's palette, safe for the common forms of colour blindness.
COLORS = {
    "exact": "#000000",
    "centered": "#D55E00",
    "non-centered": "#0072B2",
    "fixed": "#7F7F7F",
    "deviation": "#CC79A7",
    "partial": "#009E73",
    "prior": "#666666",
    "divergent": "#000000",
}

DASHES = {
    "Exponential(1)": "-",
    "HalfNormal(0.5)": "--",
    "HalfNormal(0.25)": "-.",
    "HalfNormal(0.1)": ":",
}
"""How a line is dashed that belongs to a prior on sigma."""

FONT = "Fieldguide Sans"

_IN_THE_DARK = {
    "#000000": "#f2f2f2",
    "#ffffff": "#121212",
    "#d55e00": "#ff9248",
    "#0072b2": "#5db2ee",
    "#cc79a7": "#e59bc4",
    "#009e73": "#3ecb9f",
}


_SHADES = 0.3, 0.68
"""Lightness of the darkest and the lightest shade of a colour."""


def use_style() -> None:
    """Apply the book's Matplotlib style and ArviZ settings to the running process."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for name in ("regular", "semibold", "italic"):
        path = str(resources.files("fieldguide") / "fonts" / f"{name}.ttf")
        if path not in known:
            font_manager.fontManager.addfont(path)
    mpl.rcParams.update(
        {
            "figure.figsize": (7, 3.6),
            "figure.dpi": 96,
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.w_pad": 0.06,
            "figure.constrained_layout.h_pad": 0.06,
            "figure.titlesize": 12,
            "figure.labelsize": 11.5,
            "font.family": [FONT, "DejaVu Sans"],
            "font.size": 11.5,
            "mathtext.fontset": "custom",
            **dict.fromkeys(("mathtext.rm", "mathtext.sf", "mathtext.tt", "mathtext.cal"), FONT),
            **dict.fromkeys(("mathtext.it", "mathtext.bfit"), f"{FONT}:italic"),
            "mathtext.bf": f"{FONT}:bold",
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.facecolor": "none",
            "axes.edgecolor": "#4d4d4d",
            "axes.labelcolor": "#333333",
            "axes.labelsize": 11.5,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(  # type: ignore[attr-defined]
                color=[COLORS[name] for name in ("non-centered", "centered", "partial", "deviation")]
            ),
            "legend.frameon": False,
            "legend.fontsize": 11,
            "lines.linewidth": 1.8,
            "xtick.color": "#4d4d4d",
            "ytick.color": "#4d4d4d",
            "xtick.labelsize": 10.5,
            "ytick.labelsize": 10.5,
        }
    )
    az.rcParams["stats.ci_prob"] = 0.89
    az.rcParams["stats.ci_kind"] = "eti"


def shades(color: str, count: int) -> list[str]:
    """Return shades of a colour, from dark to light, that stand out from white and from a dark page."""
    hue, _, full = colorsys.rgb_to_hls(*to_rgb(color))
    low, high = _SHADES
    steps = [low + (high - low) * k / max(1, count - 1) for k in range(count)]
    return [to_hex(colorsys.hls_to_rgb(hue, step, full)) for step in steps]


def in_the_dark(color: str) -> str:
    """Return the colour that stands on a dark page for a colour on white.

    Black and white change places, the palette's hues become lighter, shades of a hue stay apart in their
    order (see `shades`), and greys are mirrored.

    Parameters
    ----------
    color : str
        As ``#rrggbb``.
    """
    if color.lower() in _IN_THE_DARK:
        return _IN_THE_DARK[color.lower()]
    hue, light, full = colorsys.rgb_to_hls(*to_rgb(color))
    light = 0.94 - 0.84 * light if full < 0.1 else np.interp(light, _SHADES, [0.52, 0.85])
    return to_hex(colorsys.hls_to_rgb(hue, float(light), full))


def district_label(district: int, women: int) -> str:
    """Return the label a district carries in every figure, such as ``district 3 · 2 women``."""
    return f"district {district} · {women} women"
