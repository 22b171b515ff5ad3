"""What a posterior belongs to: a model, its priors and the data.

A fit and an exact answer both carry a `Problem`, made independently, the fit's from the graph of
its model, the answer's from what it was computed from. They belong together when the two are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class ProblemError(ValueError):
    """A fit and an answer belong to different models, priors or data; the message says which."""


@dataclass(frozen=True)
class Problem:
    """What a posterior belongs to.

    Attributes
    ----------
    model : str
        ``"varying intercept"``, ``"fixed effects"``, ``"varying intercept and effect"`` (the
        multi-site trial) or ``"varying intercept and slope"`` (the schools).
    priors : tuple of (str, str)
        Parameter and prior, such as ``("sigma", "Exponential(1)")``, in the order of the names.
    data : str
        Digest of the data; see `digest`.
    """

    model: str
    priors: tuple[tuple[str, str], ...]
    data: str

    @classmethod
    def of(cls, model: str, priors: Mapping[str, str], data: str) -> Problem:
        """Make a problem from a mapping of priors."""
        return cls(model, tuple(sorted(priors.items())), data)

    def prior(self, name: str) -> str:
        """Return the prior of a parameter, such as ``"Exponential(1)"``."""
        return dict(self.priors)[name]

    def check_same(self, answer: Problem) -> None:
        """Raise `ProblemError` unless this fit's problem is that of the answer."""
        if self.model != answer.model:
            raise ProblemError(
                f"The fit is of a {self.model} model, the answer of a {answer.model} one."
            )
        if self.data != answer.data:
            raise ProblemError(
                f"The fit and the answer belong to different data (digests {self.data} and "
                f"{answer.data}); compute the answer from the data that were fitted."
            )
        mine, theirs = dict(self.priors), dict(answer.priors)
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                raise ProblemError(
                    f"The prior of {name} is {mine.get(name)} in the fit and {theirs.get(name)} in "
                    "the answer; another prior is another posterior."
                )

    def to_attrs(self) -> dict[str, str]:
        """Return the problem as flat strings, as a fit carries it."""
        return {"model": self.model, "priors": json.dumps(dict(self.priors)), "data": self.data}

    @classmethod
    def from_attrs(cls, attrs: Mapping) -> Problem | None:
        """Read what `to_attrs` wrote; None where it is not there."""
        if not {"model", "priors", "data"} <= set(attrs):
            return None
        return cls.of(attrs["model"], json.loads(attrs["priors"]), attrs["data"])


def digest(rows: Iterable[Iterable]) -> str:
    """Return twelve hexadecimal digits that change with any value, but not with the order of rows.

    Parameters
    ----------
    rows : iterable of rows
        One row per group: its label, then its counts or sums. Whole numbers are written as such,
        others with twelve digits.
    """

    def plain(value):
        if isinstance(value, str):
            return value
        value = float(value)
        return str(int(value)) if value.is_integer() else f"{value:.12g}"

    lines = sorted(json.dumps([plain(value) for value in row]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def plain_label(label: Any) -> str:
    """Write a group's label as text, the same for 3, ``numpy.int64(3)``, 3.0 and "3"."""
    label = label.item() if hasattr(label, "item") else label
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def count_digest(labels: Iterable, *counts: ArrayLike) -> str:
    """Return the digest of counts per group.

    Parameters
    ----------
    labels : sequence, shape (group,)
        The groups' labels; only their text counts, as `plain_label` writes it.
    *counts : array_like, shape (group,)
        Successes and trials; for several arms those of each, in the order of the arms' names.

    Examples
    --------
    >>> count_digest([1, 2, 3], [30, 7, 2], [117, 20, 2]) == count_digest(
    ...     [3, 2, 1], [2, 7, 30], [2, 20, 117]
    ... )
    True
    """
    columns = [np.asarray(column, dtype=float) for column in counts]
    return digest([plain_label(label), *row] for label, *row in zip(labels, *columns, strict=True))
