"""What the reports on a reader's own work share: a page that loads nothing, drawings in it, numbers."""

from __future__ import annotations

import html
import io
import warnings
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(figure: Figure, words: str, caption: str, name: str) -> str:
    """A drawing for a desk and one for a phone, of which a browser takes one."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from fieldguide.picture import LayoutError, draw
    from fieldguide.style import use_style

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a browser has other fonts
        use_style()
        try:
            wide, narrow = (_uri(one.svg) for one in draw(figure, name))
        except LayoutError:  # names too long to be laid out well
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", facecolor="white")
            wide = narrow = _uri(buffer.getvalue())
        finally:
            plt.close(figure)
    return (
        f'<figure style="margin:1rem 0"><picture><source media="(max-width: 500px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="{html.escape(words)}" style="max-width:100%"></picture>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --rule: #ccc; --quiet: #595959; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #121212; --rule: #444; --quiet: #a6a6a6; }
}
body { font: 17px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding: 0.8rem 0 0.4rem; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; }
td { white-space: nowrap; }
pre { overflow-x: auto; font-size: 0.8rem; border: 1px solid var(--rule); padding: 0.8rem; }
summary { cursor: pointer; padding: 0.3rem 0; }
img { display: block; }
figcaption { color: var(--quiet); font-size: 0.85rem; }
@media print {
  :root { --ink: #000; --paper: #fff; --rule: #999; --quiet: #333; }
  body { font-size: 10pt; margin: 0; max-width: none; }
  table, picture, li { break-inside: avoid-page; }
  pre { white-space: pre-wrap; }
}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def page(title: str, body: str) -> str:
    """Return one HTML file with a title and a body, for light, dark and paper."""
    return _PAGE.format(title=html.escape(title), body=body, style=_STYLE)


def digits(value: Any, places: int = 3) -> str:
    """Write a number with so many digits that count, and no exponent where it can do without."""
    value = float(value)
    if not np.isfinite(value):
        return "\N{EN DASH}" if np.isnan(value) else "infinite"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{places}g}".replace("-", "\N{MINUS SIGN}")
    decimals = max(places - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
