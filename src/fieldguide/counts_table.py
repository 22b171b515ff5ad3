"""Reading successes and trials per group from a reader's own table, and saying what is wrong with it.

Every refusal is one sentence that names the file, the row and what to do. Nothing is guessed that could
be meant otherwise: two columns that may be the successes are named, and so are groups that come twice.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MOST_BYTES = 32 * 2**20
"""Size of the largest file that is read."""

MOST_GROUPS = 200_000
"""Groups of the largest table that is taken."""

MOST_TRIALS = 1e9
"""Trials of a group beyond which numbers of 16 digits no longer tell counts apart in a posterior."""

NAMES = {
    "successes": (
        "successes success y k events event users hits cases positives positive conversions wins "
        "responders deaths died passed converted yes"
    ).split(),
    "failures": "failures failure fails failed non_events nonevents losses negatives no".split(),
    "trials": (
        "trials trial n total totals women size attempts tested patients visitors persons people "
        "participants exposed at_bats denominator"
    ).split(),
    "group": (
        "group groups district site school hospital centre center county region clinic unit name id "
        "player batch store country state cluster arm"
    ).split(),
}
"""What columns are usually called, in small letters."""

_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or another archive",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a compressed file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"RDX": "an R workspace",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"<!DO": "a web page",
    b"<htm": "a web page",
}


class CountsError(ValueError):
    """A table of counts is not what it should be; the sentence names the place and the remedy."""


@dataclass(frozen=True)
class Counts:
    """Counts per group, checked.

    Attributes
    ----------
    group : list of str, length J
        Names, all different.
    successes, trials : ndarray of int, shape (J,)
    called : dict
        What the columns are called in the reader's table: ``group``, ``successes`` and ``trials``.
    path : str or None
        The file, where its columns hold the counts as they are.
    separator : str
        Between its columns.
    notes : tuple of str
        What was done to the table.
    """

    group: list[str]
    successes: np.ndarray
    trials: np.ndarray
    called: dict[str, str]
    path: str | None = None
    separator: str = ","
    notes: tuple[str, ...] = ()


def read_counts(
    table: Any,
    *,
    group: str | None = None,
    successes: str | None = None,
    trials: str | None = None,
    failures: str | None = None,
    add_up: bool = False,
) -> Counts:
    """Return the counts of a table.

    Parameters
    ----------
    table : pandas.DataFrame, mapping, str or Path
        One row per group; or the path of a text file with separated columns and their names on top.
    group, successes, trials, failures : str, optional
        Columns; guessed from `NAMES` if not given. Failures serve instead of trials. Where no column
        holds the groups, the table's index does.
    add_up : bool
        Whether rows of one group are added up; without trials and failures, successes are 0 or 1
        and each row is one trial.

    Returns
    -------
    Counts

    Raises
    ------
    CountsError
        If the counts cannot be told from the table; the sentence says why and what to do.
    """
    path, separator = None, ","
    if isinstance(table, str | Path):
        path = str(table)
        frame, separator = _read(Path(table))
    elif isinstance(table, pd.DataFrame):
        frame = table
    elif isinstance(table, Mapping):
        try:
            frame = pd.DataFrame(dict(table))
        except ValueError as error:
            raise CountsError(f"The columns do not fit together ({error}).") from None
    else:
        raise CountsError(
            f"A table is a data frame, a dictionary of columns or the path of a CSV file, not a "
            f"{type(table).__name__}."
        )
    place = _Place(path, frame)
    if frame.shape[0] == 0:
        raise CountsError(f"{place}there are no rows; give at least one group.")
    wanted = {"group": group, "successes": successes, "trials": trials, "failures": failures}
    columns = _columns(frame, wanted, place)
    return _counted(frame, columns, place, add_up, path, separator)


@dataclass(frozen=True)
class _Place:
    """Where in the reader's table something is, in words."""

    path: str | None
    frame: pd.DataFrame

    def __str__(self) -> str:
        return f"{self.path}: " if self.path else ""

    def row(self, position: int) -> str:
        if self.path:
            return f"{self.path}, row {int(self.frame.index[position]) + 2}"
        return f"Row {position + 1} of the table"


# ---------------------------------------------------------------------------------------------
# Files


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    """Return a text file's cells, indexed by line, and what separates them."""
    text = _text(path)
    head = text.split("\n", 1)[0].strip("\r")
    if len(head) > 100_000:
        raise CountsError(
            f"{path}: the first line has {len(head)} characters; give a table with the names of its "
            "columns in the first line."
        )
    separator = max(",;\t|", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CountsError(f"{path}: the column {twice[0]!r} comes twice; rename one of the two.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the first line
            frame = pd.read_csv(
                BytesIO(text.encode()),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                index_col=False,
            )
    except pd.errors.EmptyDataError:
        raise CountsError(f"{path}: the file is empty; give a table with at least one group.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        why = str(error).replace("Error tokenizing data. C error: ", "").strip().rstrip(".")
        raise CountsError(
            f"{path}: not a table, for its rows have different numbers of columns or a quotation mark "
            f"is not closed ({why}); the file is damaged or cut short."
        ) from None
    frame.columns = [str(name).strip() for name in frame.columns]
    empty = (frame.fillna("").apply(lambda column: column.str.strip()) == "").all(axis=1)
    return frame[~empty], separator


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise CountsError(f"{path}: this is a folder; give the path of the CSV file in it.")
        if path.exists() and not path.is_file():
            raise CountsError(f"{path}: this is no ordinary file; save the table as one.")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise CountsError(
                f"{path}: {size / 2**20:.0f} MiB are more than {MOST_BYTES / 2**20:.0f}; count the "
                "successes and trials of each group first (`fieldguide rows` does), and give that table."
            )
        content = path.read_bytes()
    except FileNotFoundError:
        raise CountsError(f"{path}: there is no such file; check its name and folder.") from None
    except PermissionError:
        raise CountsError(f"{path}: you may not read this file; change its permissions.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, CountsError):
            raise
        raise CountsError(f"{path}: the file could not be read ({error}).") from None
    if not content.strip():
        raise CountsError(f"{path}: the file is empty; give a table with at least one group.")
    for start, what in _FOREIGN.items():
        if content.lower().startswith(start.lower()) if start.isalpha() else content.startswith(start):
            raise CountsError(f"{path}: this is {what}; save the table as CSV in UTF-8.")
    if b"\0" in content:
        raise CountsError(f"{path}: this is no text, or it is damaged; save the table as CSV in UTF-8.")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CountsError(
            f"{path}: byte {error.start} is not UTF-8 text; save the table as CSV in UTF-8."
        ) from None


# ---------------------------------------------------------------------------------------------
# Columns


def _columns(frame: pd.DataFrame, wanted: dict[str, str | None], place: _Place) -> dict[str, str]:
    """Return which column has which role; without the group where the index has it."""
    there = [str(name) for name in frame.columns]
    if len(set(there)) < len(there):
        twice = next(name for name in there if there.count(name) > 1)
        raise CountsError(f"{place}the column {twice!r} comes twice; rename one of the two.")
    found: dict[str, str] = {}
    for role, name in wanted.items():
        if name is None:
            continue
        if str(name) not in there:
            raise CountsError(
                f"{place}there is no column {name!r} for the {role}; the columns are {_listed(there)}."
            )
        found[role] = str(name)
    for role in ("successes", "trials", "failures", "group"):
        if role in found or (role == "failures" and "trials" in found):
            continue
        if role == "trials" and "failures" in found:
            continue
        free = [name for name in there if name not in found.values()]
        likely = [name for name in free if name.strip().lower().replace(" ", "_") in NAMES[role]]
        if len(likely) > 1:
            raise CountsError(
                f"{place}{_listed(likely)} may all hold the {role}; say which, such as "
                f"{role}={likely[0]!r}."
            )
        if likely:
            found[role] = likely[0]
    if "successes" not in found:
        raise CountsError(
            f"{place}no column is named like successes; the columns are {_listed(there)}. Say which it "
            f"is, such as successes={there[-1]!r}."
        )
    if "group" not in found:
        _guess_group(frame, there, found, place)
    return found


def _guess_group(frame: pd.DataFrame, there: list[str], found: dict[str, str], place: _Place) -> None:
    free = [name for name in there if name not in found.values()]
    words = [name for name in free if not _is_numeric(frame[name])]
    if len(words) == 1 or (len(free) == 1 and not words):
        found["group"] = (words or free)[0]
    elif len(words) > 1:
        raise CountsError(
            f"{place}{_listed(words)} may all hold the groups; say which, such as group={words[0]!r}."
        )
    elif free:
        raise CountsError(
            f"{place}no column is named like groups; the columns are {_listed(there)}. Say which it is, "
            f"such as group={free[0]!r}."
        )


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.to_numeric(column, errors="coerce").notna().any())


def _listed(names: list[str]) -> str:
    shown = [repr(name) for name in names[:12]] + (
        [f"{len(names) - 12} more"] if len(names) > 12 else []
    )
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


# ---------------------------------------------------------------------------------------------
# Cells


def _whole(frame: pd.DataFrame, column: str, place: _Place) -> np.ndarray:
    """Return a column's counts, or refuse the first cell that is none."""
    raw = frame[column]
    values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    bad = ~np.isfinite(values) | (values < 0) | (values != np.round(values)) | (values > MOST_TRIALS)
    if not bad.any():
        return values.astype("int64")
    at = int(np.argmax(bad))
    cell, value = raw.iloc[at], values[at]
    more = f" ({int(bad.sum()) - 1} more such cells)" if bad.sum() > 1 else ""
    where = f"{place.row(at)}, column {column}"
    text = "" if cell is None or cell is pd.NA else str(cell).strip()
    if text.lower() in ("", "nan", "na", "n/a", "none", "null", "nat", "<na>", ".", "-"):
        raise CountsError(f"{where}: the count is missing; fill it in or leave the row out{more}.")
    if np.isnan(value):
        thousands = text.replace(",", "").replace("\N{NO-BREAK SPACE}", "").replace(" ", "")
        hint = (
            "write it without separators of thousands" if thousands.isdigit() else "give a whole number"
        )
        raise CountsError(f"{where}: {_cut(text)!r} is not a count; {hint}{more}.")
    if np.isinf(value):
        raise CountsError(f"{where}: an infinite count; give a whole number{more}.")
    if value < 0:
        raise CountsError(f"{where}: {text} is a negative count; counts start at 0{more}.")
    if value != np.round(value):
        raise CountsError(f"{where}: {text} is a fraction; give whole counts, not rates{more}.")
    raise CountsError(
        f"{where}: {text} is more than {MOST_TRIALS:.0e}; give counts in a larger unit{more}."
    )


def _cut(text: str) -> str:
    return text if len(text) <= 30 else text[:27] + "..."


def _names(frame: pd.DataFrame, columns: dict[str, str], place: _Place) -> tuple[pd.Series, str]:
    """Return the groups' names as text, and what they are called."""
    if "group" in columns:
        raw, called = frame[columns["group"]], columns["group"]
    elif place.path or (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None):
        return pd.Series([str(k) for k in range(1, len(frame) + 1)]), "group"
    else:
        raw, called = (
            frame.index.to_series(),
            str("group" if frame.index.name is None else frame.index.name),
        )
    missing = raw.isna().to_numpy() | (raw.astype(str).str.strip() == "").to_numpy()
    if missing.any():
        at = int(np.argmax(missing))
        raise CountsError(f"{place.row(at)}, column {called}: the group has no name; give it one.")
    return raw.map(_plain).reset_index(drop=True), called


def _plain(label: Any) -> str:
    if isinstance(label, float | np.floating) and float(label).is_integer():
        label = int(label)
    return str(label).strip()


def _counted(
    frame: pd.DataFrame,
    columns: dict[str, str],
    place: _Place,
    add_up: bool,
    path: str | None,
    separator: str,
) -> Counts:
    names, called = _names(frame, columns, place)
    y = _whole(frame, columns["successes"], place)
    notes, plain = [], "group" in columns
    if "trials" in columns:
        n = _whole(frame, columns["trials"], place)
    elif "failures" in columns:
        n = y + _whole(frame, columns["failures"], place)
        notes.append("Trials are successes and failures together.")
        plain = False
    else:
        n = _single(frame, columns, names, y, place, add_up)
        plain = False
    if (y > n).any():
        at = int(np.argmax(y > n))
        more = f" ({int((y > n).sum()) - 1} more such rows)" if (y > n).sum() > 1 else ""
        raise CountsError(
            f"{place.row(at)} (group {_cut(names.iloc[at])}): {y[at]} successes in {n[at]} trials; "
            f"check that the columns {columns['successes']!r} and "
            f"{columns.get('trials', 'trials')!r} were not exchanged{more}."
        )
    if names.duplicated().any():
        if not add_up:
            at = int(np.argmax(names.duplicated().to_numpy()))
            raise CountsError(
                f"{place.row(at)}: the group {_cut(names.iloc[at])!r} comes a second time "
                f"({int(names.duplicated().sum())} rows do so); if its rows belong together, add them "
                "up with add_up=True (on the command line, --add-up), else give them different names."
            )
        rows = len(names)
        summed = pd.DataFrame({"y": y, "n": n}).groupby(names.to_numpy(), sort=False).sum()
        names, y, n = summed.index.to_series(), summed["y"].to_numpy(), summed["n"].to_numpy()
        notes.append(f"{rows} rows were added up to {len(names)} groups.")
        plain = False
    if len(names) > MOST_GROUPS:
        raise CountsError(
            f"{place}{len(names)} groups are more than {MOST_GROUPS}; take a sample of them."
        )
    if not n.any():
        raise CountsError(f"{place}no group has a trial; the table says nothing.")
    called_all = {
        "group": called,
        "successes": columns["successes"],
        "trials": columns.get("trials", "trials"),
    }
    return Counts(
        [str(name) for name in names], y, n, called_all, path if plain else None, separator, tuple(notes)
    )


def _single(
    frame: pd.DataFrame,
    columns: dict[str, str],
    names: pd.Series,
    y: np.ndarray,
    place: _Place,
    add_up: bool,
) -> np.ndarray:
    """Trials of a table without them: ones, where each row is a person and rows are added up."""
    there = [str(name) for name in frame.columns]
    if y.max() > 1 or not names.duplicated().any():
        raise CountsError(
            f"{place}no column is named like trials or failures; the columns are {_listed(there)}. Say "
            f"which it is, such as trials={there[-1]!r}."
        )
    if not add_up:
        raise CountsError(
            f"{place}there are no trials, and {columns['successes']!r} is 0 or 1 in {len(y)} rows of "
            f"{names.nunique()} groups: one row per person. Count them by group with add_up=True (on "
            "the command line, --add-up), or say which column has the trials."
        )
    return np.ones(len(y), dtype="int64")
