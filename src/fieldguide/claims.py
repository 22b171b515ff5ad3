"""Check what a page claims, show it with its figures, and stop the build where it is false."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from fieldguide.outputs import CLAIMS_MIME


class FalseClaimError(AssertionError):
    """A page claims something that its own computation contradicts."""


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
        text = sentence.format(**figures)
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
