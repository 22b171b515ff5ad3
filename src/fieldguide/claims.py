"""Check what a page claims, show it with its figures, and stop the build where it is false."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

from fieldguide.outputs import CLAIMS_MIME

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class FalseClaimError(AssertionError):
    """A page claims something that its own computation contradicts."""


def typeset(text: str) -> str:
    r"""Return a sentence with its numbers as they are printed: powers of ten, minus signs, one zero.

    >>> typeset("up to 6e-14, from 2e+07 to -0.90, -0% and 0e+00")
    'up to 6\xa0×\xa010⁻¹⁴, from 2\xa0×\xa010⁷ to −0.90, 0% and 0'
    """
    text = re.sub(r"\b0(?:\.0+)?e[+-]00\b", "0", text)
    text = re.sub(r"\b(\d(?:\.\d+)?)e([+-])0*(\d+)\b", _power, text)
    text = re.sub(r"(?<![\w.,)%-])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"\N{MINUS SIGN}(0(?:\.0+)?)(?![\d.])", r"\1", text)


def _power(found: re.Match) -> str:
    sign = "\N{SUPERSCRIPT MINUS}" if found[2] == "-" else ""
    return f"{found[1]}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10{sign}{found[3].translate(SUPERSCRIPTS)}"


@dataclass
class Claims:
    """The claims of one page, each a sentence, its figures and a condition that code evaluated.

    Examples
    --------
    >>> claims, women = Claims(), 2
    >>> claims.check("District 3 has {women} women.", women < 10, women=women)
    >>> claims.sentences
    ['District 3 has 2 women.']
    """

    sentences: list[str] = field(default_factory=list)

    def check(self, sentence: str, holds: bool, /, **figures: Any) -> None:
        """Record a claim that holds, or stop.

        Parameters
        ----------
        sentence : str
            The claim, with format fields such as ``{count}`` or ``{share:.0%}`` for its figures.
        holds : bool
            Whether the computation supports it. Must be a single truth value.
        **figures
            The values for the sentence's fields.

        Raises
        ------
        FalseClaimError
            If the claim does not hold; the message carries the sentence and all figures.
        """
        text = typeset(sentence.format(**figures))
        if not bool(holds):
            values = ", ".join(f"{name} = {value!r}" for name, value in figures.items())
            raise FalseClaimError(f"This page claims: {text!r} That is false. Figures: {values}")
        self.sentences.append(text)

    def include(self, other: Claims) -> None:
        """Add the claims that were checked elsewhere on the page, such as those of an answer."""
        self.sentences.extend(other.sentences)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        if not self.sentences:
            raise ValueError("no claim was checked on this page")
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        return {
            CLAIMS_MIME: self.sentences,
            "text/html": f'<ul class="claims">{items}</ul>',
            "text/plain": "\n".join(f"✓ {sentence}" for sentence in self.sentences),
        }
