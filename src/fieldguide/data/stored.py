"""Stored results: fits that take too long for a page's build, with what is known about their making."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from fieldguide.data.tables import DATA_FOLDER, DataError


class Stored(NamedTuple):
    """A stored table and how it came about.

    Attributes
    ----------
    table : DataFrame
        One row per fit.
    provenance : dict
        What `fieldguide.grid.write_provenance` wrote beside it: ``command``, ``code``, ``design``,
        ``data``, ``versions`` and so on.
    """

    table: pd.DataFrame
    provenance: dict


def stored(name: str, folder: str | Path | None = None) -> Stored:
    """Return a stored table with its provenance, checked against each other.

    Parameters
    ----------
    name : str
        Of a study, such as ``"factorial"``; ``python -m fieldguide.studies`` lists them.
    folder : path, optional
        Where it is kept; the project's data folder by default.

    Returns
    -------
    Stored

    Raises
    ------
    DataError
        If there is no such table, or the table is not the one that its provenance describes.

    Examples
    --------
    >>> fits, provenance = stored("factorial")
    >>> len(fits), provenance["command"]
    (1280, 'python -m fieldguide.studies factorial')
    """
    folder = DATA_FOLDER if folder is None else Path(folder)
    path, sidecar = folder / f"{name}.parquet", folder / f"{name}.json"
    remedy = f"restore both files from the project, or remake them: python -m fieldguide.studies {name}"
    if not path.exists() and not sidecar.exists():
        there = sorted(file.stem for file in folder.glob("*.parquet"))
        raise DataError(
            f"{path}: there is no such stored table; there are {', '.join(there) or 'none'}."
        )
    for file in (path, sidecar):
        if not file.is_file():
            raise DataError(f"{file}: this file is missing; {remedy}.")
    content = path.read_bytes()
    try:
        provenance = json.loads(sidecar.read_text(encoding="utf-8"))
        expected = provenance["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{sidecar}: not the provenance of a table ({type(error).__name__}: {error}); {remedy}."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: its SHA-256 is {found[:12]}…, but {sidecar.name} says {str(expected)[:12]}…: the "
            f"table was changed after it was made, or is incomplete; {remedy}."
        )
    try:
        return Stored(pd.read_parquet(io.BytesIO(content)), provenance)
    except (ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet table ({error}); {remedy}.") from None


def quoted(name: str) -> dict:
    """Return figures that are quoted from elsewhere, with their source.

    Parameters
    ----------
    name : str
        ``"published"`` (the published case study) or ``"r_schools"`` (R's fits of the schools).

    Returns
    -------
    dict

    Raises
    ------
    DataError
        If there is no such file, or it is no JSON.
    """
    path = DATA_FOLDER / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it from the project.") from None
