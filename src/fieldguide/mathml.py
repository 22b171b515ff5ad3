"""Mathematics that browsers draw themselves: TeX becomes MathML when a page is written.

A Sphinx extension. A page with an equation needs no script, an excerpt of it can be read, and assistive
programs are given the equation itself. Browsers draw MathML with a mathematical font; one that has none
loads `FONT`, which holds the characters that the pages show.
"""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from importlib.resources import as_file, files
from logging import WARNING, getLogger
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

FONT = "math.woff"
"""File of the font, beside the style sheets."""

THIN = '<mspace width="0.167em" />'


def to_mathml(tex: str, display: bool = False) -> str:
    """Return an equation as MathML.

    Parameters
    ----------
    tex : str
        The equation, without the signs around it.
    display : bool
        Whether it stands in a line of its own.

    Raises
    ------
    ValueError
        If the equation has a command that is not understood.
    """
    if display and "&" in tex and r"\begin" not in tex:  # as Sphinx has it, lines are aligned
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    aligned = re.sub(r"\{(?:aligned|split)\}", "{align*}", tex.strip())  # which latex2mathml aligns
    written = convert(aligned, display="block" if display else "inline")
    if strange := re.findall(r"\\\w*|<mi>&amp;</mi>|<mi>&</mi>", written):
        raise ValueError(f"{strange[0]} is not understood in {tex.strip()}")
    written = re.sub(r"<mi>([^<]*)</mi>", _named, written)
    written = re.sub(r"<mo[^>]*>(?=&#x0007C;)", '<mo stretchy="false" lspace="0" rspace="0">', written)
    return re.sub(r"<mi>[a-z]{2,}</mi>(?=<mi|<m\w+><mi)", rf"\g<0>{THIN}", written)


def _named(found: re.Match) -> str:
    r"""Return a relation as operator, so that there is space around it, and a capital Σ upright.

    latex2mathml 3.81 takes ``\sim`` for an identifier, and for the tilde on the keyboard.
    """
    sign = unescape(found[1]).replace("~", "∼")
    if len(sign) == 1 and unicodedata.category(sign).startswith("S"):
        return f"<mo>{sign}</mo>"
    upright = len(sign) == 1 and "Α" <= sign <= "Ω"
    return f'<mi mathvariant="normal">{sign}</mi>' if upright else found[0]


def characters(page: str) -> set[str]:
    """Return the characters in the equations of a page, and their slanted forms."""
    shown = set()
    for equation in re.findall(r"<math\b.*?</math>", page, flags=re.DOTALL):
        shown |= set(unescape(re.sub(r"<[^>]*>", "", equation)))
    return shown | {_slanted(letter) for letter in shown}


def _slanted(letter: str) -> str:
    """Return the letter by which a browser draws an identifier of one letter."""
    kind = "SMALL" if letter.islower() else "CAPITAL"
    name = unicodedata.name(letter, "").rpartition(" ")[2]
    try:
        return unicodedata.lookup(f"MATHEMATICAL ITALIC {kind} {name}")
    except KeyError:
        return letter


def write_font(shown: set[str], path: Path) -> None:
    """Write a font with some characters, and what stretches of them, cut from STIX Two Math.

    Parameters
    ----------
    shown : set of str
        The characters; roots and the bars over letters are added.
    path : Path
        Where to write it, in the Web Open Font Format.
    """
    getLogger("fontTools").setLevel(WARNING)  # it tells every table that it drops
    options = subset.Options(flavor="woff", hinting=False, layout_features=["ssty"])
    with as_file(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf") as whole:
        font = subset.load_font(str(whole), options)
    cut = subset.Subsetter(options)
    cut.populate(text="".join(sorted(shown | set("√‾¯ˉ^ˆ"))))
    cut.subset(font)
    font["head"].modified = font["head"].created  # two builds write the same file
    font.recalcTimestamp = False
    subset.save_font(font, str(path), options)


def _visit(translator: Any, node: Any) -> None:
    display = isinstance(node, nodes.math_block)
    tag = "div" if display else "span"
    translator.body.append(translator.starttag(node, tag, "", CLASS="math notranslate nohighlight"))
    if display and node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    try:
        translator.body.append(to_mathml(node.astext(), display))
    except ValueError as error:
        logger.warning("%s", error, location=node, type="fieldguide", subtype="math")
    translator.body.append(f"</{tag}>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Register the renderer; ``html_math_renderer = "mathml"`` chooses it."""
    app.add_html_math_renderer("mathml", (_visit, None), (_visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
