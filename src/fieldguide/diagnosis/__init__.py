"""What is the matter with a fit: where its divergences are, what the groups know, and the likelier cure.

`diagnose` reads draws from anywhere (`fieldguide.diagnosis.reading`), measures them
(`fieldguide.diagnosis.measures`), and advises by rules (`fieldguide.diagnosis.advice`) whose
record stands in two stored tables (`fieldguide.diagnosis.record`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from fieldguide.diagnosis.advice import KINDS, REMEDIES
from fieldguide.diagnosis.measures import Measures, measure
from fieldguide.diagnosis.reading import Draws, DrawsError, read_draws
from fieldguide.diagnosis.report import Diagnosis

__all__ = [
    "KINDS",
    "REMEDIES",
    "Diagnosis",
    "Draws",
    "DrawsError",
    "Measures",
    "diagnose",
    "measure",
    "read_draws",
]


def diagnose(draws: Any, model: Any = None, data: Any = None, *, site: str = "") -> Diagnosis:
    """Say what is the matter with a fit, how that is known, and what is the likelier cure.

    Parameters
    ----------
    draws : DataTree, Dataset, mapping, DataFrame, str, Path or Draws
        What PyMC, Bambi or nutpie returned; or the path of a NetCDF or Zarr file, of CmdStan's CSV
        files, or of a CSV of draws exported from brms or rstan. See
        `fieldguide.diagnosis.reading.read_draws`.
    model : pymc.Model, optional
        From which draws came. It tells in which form the effects were sampled where the draws do not.
    data : mapping or DataFrame, optional
        Observations per group, ``{name: count}`` or one row per group; the report then says how much
        each group knows beside how much was observed of it.
    site : str
        Where the book's pages are, such as ``"https://…/"``, to link to them.

    Returns
    -------
    Diagnosis
        Shown as a report in a notebook, as text by ``print``; ``.to_json()`` and ``.page()`` for others.

    Raises
    ------
    DrawsError
        If the draws cannot be read; the sentence says why, and what to do.
    """
    read = draws if isinstance(draws, Draws) else read_draws(draws)
    found = measure(read, model)
    observed = None if data is None else _observed(data, found)
    return Diagnosis(read, found, site, observed)


def _observed(data: Any, found: Measures) -> pd.Series:
    """Return observations per group, in the order and with the names of the groups' shares."""
    if found.own is None:
        raise ValueError("There are no groups in these draws that data could belong to; leave data out.")
    names = [str(name).partition("[")[2].rstrip("]") for name in found.own.index]
    try:
        if isinstance(data, pd.DataFrame):
            (column,) = data.columns
            data = data[column]
        counts = pd.Series(data).rename(str)
        counts = counts.astype(float)
    except (TypeError, ValueError):
        raise ValueError(
            "data must say how many observations each group has: a mapping from group to count, or a "
            "table with one column of counts."
        ) from None
    missing = [name for name in names if name not in counts.index]
    if missing:
        raise ValueError(
            f"data has no group {missing[0]!r}; the draws have {', '.join(names[:5])}"
            f"{' and more' if len(names) > 5 else ''}."
        )
    return pd.Series(counts[names].to_numpy(), index=found.own.index, name="observed")
