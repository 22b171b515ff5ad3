"""Counting rows of single people: successes and trials per group or covariate pattern, out of core.

A table with a row per person is read in pieces by Arrow's CSV and Parquet readers; each piece is counted
and let go, so memory grows with the number of patterns and not with that of rows.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from fieldguide.counts_table import _FOREIGN, CountsError, _cut, _listed

MOST_PATTERNS = 1_000_000
"""Patterns of the largest answer; a table with more is hardly smaller than its rows."""

BLOCK = 4 * 2**20
"""Bytes of a CSV file that are read at once; no row may be longer."""

BATCH = 2**17
"""Rows of a Parquet file that are read at once."""

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "NaT", ".")
"""Cells without quotation marks that hold no value."""

_ZERO = ("0", "0.0", "false", "False", "FALSE")
_ONE = ("1", "1.0", "true", "True", "TRUE")

Tick = Callable[[float], None]


def count_rows(
    path: str | PathLike | Sequence[str | PathLike],
    by: str | Sequence[str],
    outcome: str,
    *,
    success: str | None = None,
    drop_missing: bool = False,
    tick: Tick | None = None,
) -> pd.DataFrame:
    """Count successes and trials per pattern of a table with one row per person.

    Parameters
    ----------
    path : path or sequence of paths
        CSV (separated by comma, semicolon, tab or bar; gzipped or not) or Parquet, told apart by their
        content. Several files are read as one table.
    by : str or sequence of str
        Columns whose values make a pattern: the group, and covariates if there are any.
    outcome : str
        Column with 0 or 1, or false or true, in every row.
    success : str, optional
        The value of `outcome` that is a success, where it has two others than 0 and 1.
    drop_missing : bool
        Whether rows without an outcome or one of the columns `by` are left out; else they are refused.
    tick : callable, optional
        Called with the share of the files that has been read.

    Returns
    -------
    pandas.DataFrame
        One row per pattern that occurs, in order: the columns `by`, then whole numbers ``successes`` and
        ``trials``. Columns of a CSV file become numbers where all their values are. ``attrs`` has
        ``rows``, the number that was counted, and ``left_out``.

    Raises
    ------
    CountsError
        If a file or a row cannot be counted; the sentence says where and what to do. Rows are numbered
        from 1; in a CSV file the names of the columns are the first, and blank lines do not count.

    Notes
    -----
    Given the pattern, rows are independent and have one probability, so the counts are sufficient for
    every model whose predictors are functions of the columns `by`. The log likelihood of the counts
    differs from that of the rows by the logarithms of the binomial coefficients, a constant.

    Examples
    --------
    >>> from fieldguide.data import DATA_FOLDER
    >>> count_rows(DATA_FOLDER / "bangladesh.csv", "district", "use_contraception").head(3)
       district  successes  trials
    0         1         30     117
    1         2          7      20
    2         3          2       2
    """
    files = [Path(path)] if isinstance(path, str | PathLike) else [Path(one) for one in path]
    names = [by] if isinstance(by, str) else list(by)
    if not files:
        raise CountsError("No file is given; give at least one.")
    _check_columns(names, outcome)
    sizes = [_size(file) for file in files]
    counter = _Counter(names, outcome, success, drop_missing)
    done = 0
    for file, size in zip(files, sizes, strict=True):
        for first, batch, share in _batches(file, [*names, outcome]):
            try:
                counter.add(file, first, batch)
            except pa.ArrowException as error:
                raise CountsError(
                    f"{file}: rows cannot be counted by {_listed(names)} ({_first_line(error)}); write "
                    "these columns as text or numbers."
                ) from None
            if tick is not None:
                tick((done + share * size) / sum(sizes))
        done += size
    return counter.table(_listed_files(files))


def _check_columns(by: list[str], outcome: str) -> None:
    if not by:
        raise CountsError("No column is given to count by; give the group's.")
    for name in by:
        if by.count(name) > 1:
            raise CountsError(f"The column {name!r} is given twice to count by; give it once.")
        if name in ("successes", "trials"):
            raise CountsError(
                f"The counts will have a column {name!r} of their own; rename the one to count by."
            )
    if outcome in by:
        raise CountsError(f"The column {outcome!r} is the outcome; count by others.")


def _listed_files(files: list[Path]) -> str:
    return f"{files[0]}" if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _size(path: Path) -> int:
    """Return a file's bytes, or refuse what is no readable file."""
    try:
        if path.is_dir():
            raise CountsError(
                f"{path}: this is a folder; give the files in it, such as {path}/*.parquet."
            )
        if path.exists() and not path.is_file():
            raise CountsError(f"{path}: this is no ordinary file; save the table as one.")
        size = path.stat().st_size
    except FileNotFoundError:
        raise CountsError(f"{path}: there is no such file; check its name and folder.") from None
    except PermissionError:
        raise CountsError(f"{path}: you may not read this file; change its permissions.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, CountsError):
            raise
        raise CountsError(f"{path}: the file could not be read ({error}).") from None
    if size == 0:
        raise CountsError(f"{path}: the file is empty; give a table with a row per person.")
    return size


# ---------------------------------------------------------------------------------------------
# Reading in pieces


def _batches(path: Path, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch, float]]:
    """Yield pieces of a file's columns, the number of the first row and the share that has been read."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except PermissionError:
        raise CountsError(f"{path}: you may not read this file; change its permissions.") from None
    except OSError as error:
        raise CountsError(f"{path}: the file could not be read ({error}).") from None
    if start.startswith(b"PAR1"):
        yield from _parquet_batches(path, columns)
        return
    if path.suffix.lower() in (".parquet", ".pq"):
        raise CountsError(f"{path}: this is no Parquet file, or it is damaged; write it again.")
    gzipped = start.startswith(b"\x1f\x8b")
    for mark, what in () if gzipped else _FOREIGN.items():
        if start.lower().startswith(mark.lower()) if mark.isalpha() else start.startswith(mark):
            raise CountsError(f"{path}: this is {what}; save the table as Parquet or CSV in UTF-8.")
    yield from _csv_batches(path, columns, gzipped)


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch, float]]:
    row = 1
    try:
        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=BLOCK) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            _check_there(path, list(schema.names), columns)
            for name in columns:
                if pa.types.is_nested(schema.field(name).type):
                    raise CountsError(
                        f"{path}: the cells of the column {name!r} are of the type "
                        f"{schema.field(name).type}; give a column of single values."
                    )
            for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
                yield row, batch, (row - 1 + len(batch)) / rows
                row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise CountsError(
            f"{path}: the Parquet file is damaged or cut short ({_first_line(error)}); write it again."
        ) from None
    if row == 1:
        raise CountsError(f"{path}: there are no rows; give at least one.")


def _csv_batches(
    path: Path, columns: list[str], gzipped: bool
) -> Iterator[tuple[int, pa.RecordBatch, float]]:
    row, size = 2, path.stat().st_size
    names, separator = _header(path, gzipped)
    _check_there(path, names, columns, separator)
    try:
        with pa.OSFile(str(path)) as file:
            stream = pa.CompressedInputStream(file, "gzip") if gzipped else file
            reader = arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK, column_names=names, skip_rows=1
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=columns,
                    column_types=dict.fromkeys(columns, pa.string()),
                    null_values=list(MISSING),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield row, batch, file.tell() / size
                row += len(batch)
    except pa.ArrowInvalid as error:
        raise _not_csv(path, _first_line(error), row) from None
    except (pa.ArrowException, OSError) as error:
        raise CountsError(
            f"{path}: the file is damaged or cut short after row {row - 1} ({_first_line(error)}); "
            "write it again."
        ) from None
    if row == 2:
        raise CountsError(f"{path}: there are no rows below the columns' names; give at least one.")


def _header(path: Path, gzipped: bool) -> tuple[list[str], str]:
    """Return the names in the first line of a CSV file, and what separates them."""
    try:
        with pa.OSFile(str(path)) as file:
            start = (pa.CompressedInputStream(file, "gzip") if gzipped else file).read(100_000)
    except (pa.ArrowException, OSError) as error:
        raise CountsError(
            f"{path}: the file is damaged or cut short ({_first_line(error)}); write it again."
        ) from None
    if not start.strip():
        raise CountsError(f"{path}: the file is empty; give a table with a row per person.")
    if b"\0" in start:
        raise CountsError(f"{path}: this is no text, or it is damaged; save the table as CSV in UTF-8.")
    line = start.splitlines()[0]
    if len(line) == len(start) == 100_000:
        raise CountsError(
            f"{path}: the first line has more than {len(line)} characters; give a table with the names "
            "of its columns in the first line."
        )
    try:
        head = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CountsError(f"{path}: row 1 is not UTF-8 text; save the table as CSV in UTF-8.") from None
    separator = max(",;\t|", key=head.count)
    names = next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])
    return [name.strip() for name in names], separator


def _check_there(path: Path, there: list[str], wanted: list[str], separator: str = "") -> None:
    for name in wanted:
        if name not in there:
            seen = f"the columns are {_listed(there)}" if len(there) > 1 else (
                f"the only column is {_listed(there)}"
            )  # fmt: skip
            hint = (
                "separate columns by comma, semicolon, tab or bar"
                if separator and len(there) == 1
                else "choose one of them"
            )
            raise CountsError(f"{path}: there is no column {name!r}; {seen}; {hint}.")
        if there.count(name) > 1:
            raise CountsError(f"{path}: the column {name!r} comes twice; rename one of the two.")


def _not_csv(path: Path, why: str, row: int) -> CountsError:
    at = why.partition("Row #")[2].partition(":")[0]
    where = f"{path}, row {at}" if at else f"{path}, after row {row - 1}"
    if "UTF8" in why:
        return CountsError(f"{where}: the text is not UTF-8; save the table as CSV in UTF-8.")
    if "straddling" in why:
        return CountsError(
            f"{path}: a row after row {row - 1} is longer than {BLOCK / 2**20:.0f} MiB, as where a "
            "quotation mark is not closed; the file is damaged."
        )
    if "Expected" in why:
        numbers = why.partition("Expected ")[2].partition(":")[0].replace(" columns, got ", " and ")
        wanted, _, found = numbers.partition(" and ")
        return CountsError(
            f"{where}: {found} cells where there are {wanted} columns; the row is damaged, or "
            "a cell with a separator in it has no quotation marks."
        )
    return CountsError(f"{where}: not a row of a table ({why}); the file is damaged.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return _short(lines[0].rstrip(".")) if lines else type(error).__name__


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."


# ---------------------------------------------------------------------------------------------
# Counting


@dataclass
class _Counter:
    """Counts per pattern of the pieces so far."""

    by: list[str]
    outcome: str
    success: str | None
    drop_missing: bool
    parts: list[pa.Table] = field(default_factory=list)
    held: int = 0
    rows: int = 0
    left_out: int = 0
    failure: str | None = None
    succeeded: bool = False

    def add(self, path: Path, first: int, batch: pa.RecordBatch) -> None:
        """Count a piece whose first row has the number `first`."""
        keys = [_key(batch.column(name)) for name in self.by]
        text = _trimmed(_as_text(batch.column(self.outcome)))
        missing = [pc.is_null(key) for key in keys]
        missing.append(pc.or_kleene(pc.is_null(text), pc.is_in(text, pa.array(MISSING, pa.string()))))
        y, unknown = self._outcomes(text)
        unknown = pc.and_not(unknown, missing[-1])
        names = [*self.by, self.outcome]
        troubles = [(_first_true(mask), name, True) for mask, name in zip(missing, names, strict=True)]
        kept = None
        if any(at is not None for at, *_ in troubles) and self.drop_missing:
            absent = missing[0]
            for mask in missing[1:]:
                absent = pc.or_(absent, mask)
            kept, troubles = pc.invert(absent), []
            unknown = pc.and_(unknown, kept)
        troubles.append((_first_true(unknown), self.outcome, False))
        found = min(((at, name, gone) for at, name, gone in troubles if at is not None), default=None)
        if found is not None:
            at, name, gone = found
            where = f"{path}, row {first + at}, column {name}"
            raise self._missing(where) if gone else self._unknown(where, text[at].as_py())
        table = pa.table([*keys, y], names=[*self._codes(), "y"])
        if kept is not None:
            table = table.filter(kept)
            self.left_out += len(batch) - len(table)
        self.rows += len(table)
        counts = table.group_by(self._codes(), use_threads=False)
        self._hold(path, counts.aggregate([("y", "sum"), ("y", "count")]))

    def _codes(self) -> list[str]:
        return [f"key {k}" for k in range(len(self.by))]

    def _outcomes(self, text: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Return 0 or 1 per row, and which rows are neither."""
        if self.success is None:
            one = pc.is_in(text, pa.array(_ONE, pa.string()))
            zero = pc.is_in(text, pa.array(_ZERO, pa.string()))
        else:
            one = pc.fill_null(pc.equal(text, self.success), False)
            self.succeeded = self.succeeded or bool(pc.any(one).as_py())
            if self.failure is None:
                others = [
                    v for v in pc.unique(text).to_pylist() if v not in (*MISSING, self.success, None)
                ]
                self.failure = others[0] if others else None
            zero = pc.fill_null(pc.equal(text, self.failure or self.success), False)
        return one.cast(pa.int64()), pc.invert(pc.or_(one, zero))

    def _missing(self, where: str) -> CountsError:
        return CountsError(
            f"{where}: the value is missing; fill it in, or leave such rows out with drop_missing=True "
            "(on the command line, --drop-missing)."
        )

    def _unknown(self, where: str, cell: str) -> CountsError:
        if self.success is not None:
            return CountsError(
                f"{where}: {_cut(cell)!r} is a third value beside {_cut(self.success)!r} and "
                f"{_cut(str(self.failure))!r}; an outcome has two, so recode it."
            )
        remedy = (
            ""
            if cell.strip("+-")[:1].isdigit()
            else f", or say which of two values is a success, such as success={_cut(cell)!r} (on the "
            "command line, --success)"
        )
        return CountsError(f"{where}: {_cut(cell)!r} is not 0 or 1; recode the outcome{remedy}.")

    def _hold(self, path: Path, part: pa.Table) -> None:
        for name, code in zip(self.by, self._codes(), strict=True):
            kind, before = (
                part.schema.field(code).type,
                (self.parts or [part])[0].schema.field(code).type,
            )
            if kind != before and not (_is_number(kind) and _is_number(before)):
                raise CountsError(
                    f"{path}: the column {name!r} is of the type {kind}, and in the file before of "
                    f"the type {before}; write both alike."
                )
        self.parts.append(part)
        self.held += len(part)
        if self.held > 2 * MOST_PATTERNS or len(self.parts) > 256:
            self._merge(path)

    def _merge(self, path: Path | str) -> None:
        """Add up the pieces' counts."""
        codes = self._codes()
        whole = pa.concat_tables(self.parts, promote_options="permissive")
        whole = whole.group_by(codes, use_threads=False).aggregate(
            [("y_sum", "sum"), ("y_count", "sum")]
        )
        whole = whole.rename_columns([*codes, "y_sum", "y_count"])
        if len(whole) > MOST_PATTERNS:
            levels = [len(pc.unique(whole.column(code))) for code in codes]
            raise CountsError(
                f"{path}: there are more than {MOST_PATTERNS} patterns in {self.rows} rows; round the "
                f"column {self.by[int(np.argmax(levels))]!r}, which has most values, or leave it out."
            )
        self.parts, self.held = [whole], len(whole)

    def table(self, path: str) -> pd.DataFrame:
        """Return the counts of all pieces."""
        if self.rows == 0:
            raise CountsError(f"{path}: every row has a value missing; there is nothing to count.")
        if self.success is not None and not self.succeeded:
            raise CountsError(
                f"{path}: no row has {_cut(self.success)!r} in the column {self.outcome!r}; it holds "
                f"{_cut(str(self.failure))!r}."
            )
        self._merge(path)
        frame = self.parts[0].to_pandas()
        frame.columns = [*self.by, "successes", "trials"]
        for name in self.by:
            frame[name] = _numbers(frame[name])
        frame = frame.groupby(self.by, as_index=False, sort=True, observed=True).sum()
        frame.attrs |= {"rows": self.rows, "left_out": self.left_out}
        return frame


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    strings = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return strings or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _as_text(column: pa.Array) -> pa.Array:
    column = _decoded(column)
    return column if column.type == pa.string() else column.cast(pa.string())


def _trimmed(text: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(text)


def _key(column: pa.Array) -> pa.Array:
    """Return a column to count by, with null where there is no value."""
    column = _decoded(column)
    if _is_text(column.type):
        text = _trimmed(column.cast(pa.string()))
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _first_true(mask: pa.Array) -> int | None:
    at = pc.index(mask, True).as_py()
    return None if at < 0 else at


def _numbers(column: pd.Series) -> pd.Series:
    """Return numbers where text holds nothing else, and no code such as 007."""
    if not isinstance(column.dtype, pd.StringDtype) and column.dtype != object:
        return column
    words = column.astype(str)
    if words.str.fullmatch(r"[-+]?(0|[1-9]\d{0,17})").all():
        return words.astype("int64")
    if words.str.fullmatch(r"[-+]?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?").all():
        return words.astype(float)
    return column
