"""The book's grids of fits, by subject: what was asked, how one fit is made, how its table is read.

``python -m fieldguide.studies`` lists the studies and makes their stored tables.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # NumPy must not be loaded before the command line has set its threads
    import pandas as pd

SUBJECTS = (
    "districts",
    "sixty",
    "paths",
    "attempts",
    "trial",
    "samplers",
    "schools",
    "course",
    "corpus",
    "rows",
)
"""Modules here that may have studies, in the order in which they are listed."""


@dataclass(frozen=True)
class Study:
    """A grid of fits whose table is stored.

    Attributes
    ----------
    name : str
        Of the study and of its files, ``NAME.parquet`` and ``NAME.json``.
    design : callable
        Returns the design, one row per fit.
    fit : callable
        Takes one row as a dict and returns its figures; at the top level of a module, so that other
        processes can import it and its code can be followed.
    group : tuple of str
        Design columns that share a compiled model.
    data : callable
        Returns what is fitted, as a mapping for the provenance: the table with a digest of its
        values, or how data are simulated. Fits of other data do not count as made.
    title : str
        What the study is about, in a line.
    """

    name: str
    design: Callable[[], pd.DataFrame]
    fit: Callable[[Mapping], Mapping]
    group: tuple[str, ...]
    data: Callable[[], Mapping]
    title: str


def studies() -> dict[str, Study]:
    """Return all studies by name: what the subjects' modules have in ``STUDIES``."""
    found = {}
    for subject in SUBJECTS:
        name = f"{__name__}.{subject}"
        if importlib.util.find_spec(name) is not None:
            for study in getattr(importlib.import_module(name), "STUDIES", ()):
                found[study.name] = study
    return found
