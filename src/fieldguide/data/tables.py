"""Load the book's tables, checked: what comes back is complete and in range, or an error says where not.

No row is ever dropped. The codebook and the provenance of each table are in ``data/README.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pandas as pd
import pandera.pandas as pa


def _data_folder() -> Path:
    """Return ``fieldguide/_data`` of an installed wheel, or ``data/`` of a checkout."""
    packaged = Path(__file__).resolve().parents[1] / "_data"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "data"


DATA_FOLDER = _data_folder()
"""Where the tables are: beside the package's modules, or ``data/`` at the root of a checkout."""


class DataError(ValueError):
    """A table is not what it should be; the message names file, row, column and what was expected."""


def _zero_one(meaning: str) -> pa.Column:
    return pa.Column(int, pa.Check.isin([0, 1]), description=f"0 or 1 ({meaning})")


def _real(low: float, high: float, unit: str) -> pa.Column:
    return pa.Column(
        float, pa.Check.in_range(low, high), description=f"a number from {low:g} to {high:g} ({unit})"
    )


BANGLADESH = pa.DataFrameSchema(
    {
        "woman": pa.Column(
            int, pa.Check.in_range(1, 1934), unique=True, description="a whole number, once per woman"
        ),
        "district": pa.Column(
            int,
            pa.Check.isin([code for code in range(1, 62) if code != 54]),
            description="a district code from 1 to 61, without 54",
        ),
        "use_contraception": _zero_one("1 = uses contraception"),
        "living_children": pa.Column(
            str, pa.Check.isin(["0", "1", "2", "3+"]), description="one of 0, 1, 2, 3+"
        ),
        "age_centered": _real(-20, 20, "years from the mean age"),
        "urban": _zero_one("1 = lives in an urban area"),
    },
    strict=True,
    ordered=True,
    coerce=True,
    name="bangladesh",
    metadata={"rows": 1934},
)

SCHOOLS = pa.DataFrameSchema(
    {
        "school": pa.Column(
            int, pa.Check.in_range(1000, 9999), description="a school code of four digits"
        ),
        "sector": pa.Column(
            str, pa.Check.isin(["Public", "Catholic"]), description="Public or Catholic"
        ),
        "minority": _zero_one("1 = member of a minority"),
        "female": _zero_one("1 = female"),
        "ses": _real(-4, 4, "socio-economic status, standardised"),
        "mean_ses": _real(-4, 4, "mean of ses in the student's school"),
        "math": _real(-10, 40, "score in mathematics, points"),
    },
    strict=True,
    ordered=True,
    coerce=True,
    name="schools",
    metadata={"rows": 7185},
)


def load_bangladesh(path: str | Path | None = None) -> pd.DataFrame:
    """Return the 1988 Bangladesh Fertility Survey, one row per woman.

    Parameters
    ----------
    path : str or Path, optional
        Another copy of the table; the project's own by default.

    Returns
    -------
    pandas.DataFrame
        1934 rows; columns ``woman``, ``district``, ``use_contraception`` (0/1), ``living_children``
        (``"0"``, ``"1"``, ``"2"``, ``"3+"``), ``age_centered`` (years), ``urban`` (0/1).

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged or incomplete.

    Examples
    --------
    >>> women = load_bangladesh()
    >>> len(women), int(women["use_contraception"].sum())
    (1934, 759)
    """
    return _load(path, BANGLADESH)


def load_schools(path: str | Path | None = None) -> pd.DataFrame:
    """Return High School and Beyond (1982), one row per student.

    Parameters
    ----------
    path : str or Path, optional
        Another copy of the table; the project's own by default.

    Returns
    -------
    pandas.DataFrame
        7185 rows; columns ``school``, ``sector`` (``"Public"`` or ``"Catholic"``), ``minority``
        (0/1), ``female`` (0/1), ``ses``, ``mean_ses`` (standardised), ``math`` (points).

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged or incomplete.

    Examples
    --------
    >>> students = load_schools()
    >>> len(students), students["school"].nunique()
    (7185, 160)
    """
    return _load(path, SCHOOLS)


def count_by_district(women: pd.DataFrame) -> pd.DataFrame:
    """Count women and users of contraception in each district.

    Parameters
    ----------
    women : pandas.DataFrame
        Rows as :func:`load_bangladesh` returns them.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``district``, with whole numbers ``women`` and ``users``: the sufficient
        statistics of every model in this book that has no other predictor.

    Examples
    --------
    >>> count_by_district(load_bangladesh()).loc[[1, 11]]
              women  users
    district
    1           117     30
    11           21      0
    """
    return cast("Any", women.groupby("district"))["use_contraception"].agg(women="size", users="sum")


def load_three_districts() -> pd.DataFrame:
    """Return the counts of districts 1, 2 and 3, on which the case study runs.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``district`` (1, 2, 3), with whole numbers ``women`` and ``users``.

    Examples
    --------
    >>> load_three_districts()
              women  users
    district
    1           117     30
    2            20      7
    3             2      2
    """
    return count_by_district(load_bangladesh()).loc[[1, 2, 3]]


def _load(path: str | Path | None, schema: pa.DataFrameSchema) -> pd.DataFrame:
    path = Path(path) if path is not None else DATA_FOLDER / f"{schema.name}.csv"
    columns = list(schema.columns)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {_why_unreadable(path, error)}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8 text; save the table as UTF-8 CSV."
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: not a table of comma-separated values ({error}).") from None
    if list(table.columns) != columns:
        raise DataError(
            f"{path}, row 1: expected the columns {', '.join(columns)}, separated by commas; "
            f"found {', '.join(map(str, table.columns))}."
        )
    try:
        checked = schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise DataError(_first_failure(path, table, schema, error.failure_cases)) from None
    expected = schema.metadata["rows"]
    if len(checked) != expected:
        raise DataError(
            f"{path}: expected {expected} rows below the header, found {len(checked)}; "
            "the file is cut short or was added to."
        )
    return checked


def _why_unreadable(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "this is a folder; give the path of the CSV file in it."
    if isinstance(error, FileNotFoundError):
        return "there is no such file; restore it from the project."
    if isinstance(error, PermissionError):
        return "you may not read this file; change its permissions or give another copy."
    return f"the file could not be read ({error}); restore it from the project."


def _first_failure(
    path: Path, table: pd.DataFrame, schema: pa.DataFrameSchema, failures: pd.DataFrame
) -> str:
    """Say where the topmost wrong cell is, what stands there, what was expected, how many more."""
    cells = failures.dropna(subset=["index", "column"]).drop_duplicates(["index", "column"])
    # A column with one cell of the wrong type stays text, so that each of its cells fails its check.
    wrong_type = cells["check"].astype(str).str.startswith("coerce_dtype")
    cells = cells[wrong_type] if wrong_type.any() else cells
    first = cells.sort_values("index").iloc[0]
    row, column = int(first["index"]), first["column"]
    found = table.loc[row, column]
    found = "an empty cell" if pd.isna(found) or found == "" else repr(found)
    more = f" ({len(cells) - 1} more cells fail)" if len(cells) > 1 else ""
    return (
        f"{path}, row {row + 2}, column {column}: expected {schema.columns[column].description}, "
        f"found {found}{more}."
    )
