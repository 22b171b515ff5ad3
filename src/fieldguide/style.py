"""The book's one visual language: the same thing in the same colour on every page."""

from __future__ import annotations

import arviz as az
import matplotlib as mpl

# Okabe and Ito's palette, safe for the common forms of colour blindness.
COLORS = {
    "exact": "#000000",
    "centered": "#D55E00",
    "non-centered": "#0072B2",
    "fixed": "#7F7F7F",
    "deviation": "#CC79A7",
    "partial": "#009E73",
    "prior": "#56B4E9",
    "divergent": "#000000",
}


def use_style() -> None:
    """Apply the book's Matplotlib style and ArviZ settings to the running process."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(  # type: ignore[attr-defined]
                color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
            ),
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )
    az.rcParams["stats.ci_prob"] = 0.89
    az.rcParams["stats.ci_kind"] = "eti"


def district_label(district: int, women: int) -> str:
    """Return the label a district carries in every figure, such as ``district 3 · 2 women``."""
    return f"district {district} · {women} women"
