"""Draws in columns: CSV files of CmdStan, brms, rstan and posterior, read in one pass and thinned.

One row is one draw. Files are streamed, so that what is kept in memory does not grow with the file, and
every refusal is one sentence that names the file, the row and what to do.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

MOST_TEXT = 2 * 2**30
"""Bytes of the largest text file that is read."""

MOST_DRAWS = 40_000
"""Draws per chain that are kept; of longer chains, every k-th."""

MOST_VALUES = 25_000_000
"""Numbers that are kept of all parameters together (200 MB)."""

FEWEST_WHOLE = 100
"""Draws that a run which stopped early must have."""

CHAIN = (".chain", "chain", "chain__")
BOOKKEEPING = {*CHAIN, ".iteration", ".draw", "iteration", "draw", "iter__", "draw__", "lp__", "lprior"}
"""Columns that are no parameters."""

SAMPLER = {
    "divergent__": "diverging",
    "energy__": "energy",
    "treedepth__": "depth",
    "stepsize__": "step_size",
    "accept_stat__": "acceptance",
    "n_leapfrog__": "n_steps",
}
"""What Stan calls its statistics, and what they are called here."""

MISSING = ["", "NA", "NULL", "null"]
"""Cells without a number, read as NaN; ``nan`` and ``inf`` are numbers."""

_BLOCK = 8 * 2**20
_MOST_CHAINS = 1000
_EXPORT = "write it as the help of `fieldguide diagnose` shows"


class DrawsError(ValueError):
    """Draws cannot be read; the sentence names the file, what is wrong and the remedy."""


@dataclass
class Columns:
    """Columns of draws, thinned.

    Attributes
    ----------
    names : list of str, length K
        Of the columns, those of bookkeeping included.
    values : ndarray, shape (K, kept)
        Every `every`-th draw of each chain, in the file's order.
    chain : ndarray of int, shape (kept,)
    lengths : dict of int to int
        Draws of each chain in the file.
    every : int
        A power of two.
    flags : dict of str to ndarray, shape (draws,)
        ``diverging`` (bool) and ``depth`` (int) of all draws, where they are columns.
    chains : ndarray of int, shape (draws,)
        The chain of each draw.
    tool : str
    settings : dict of str to str
        What CmdStan's header says.
    notes : list of str
    """

    names: list[str]
    values: np.ndarray
    chain: np.ndarray
    lengths: dict[int, int]
    every: int
    flags: dict[str, np.ndarray]
    chains: np.ndarray
    tool: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Collector:
    """Take blocks of rows, and keep every k-th of each chain."""

    def __init__(self, names: Sequence[str], place: str, chains: int = 1) -> None:
        self.names, self.place = list(names), place
        self.at = {name: k for k, name in enumerate(self.names)}
        self.chain_column = next((self.at[name] for name in CHAIN if name in self.at), None)
        self.every = 1
        self.most = MOST_DRAWS * (chains if self.chain_column is None else 1)
        self.counts: dict[int, int] = {}
        self.blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # values, chain, position
        self.kept = 0
        self.chains: list[np.ndarray] = []
        self.flags: dict[str, list[np.ndarray]] = {
            name: []
            for stan, name in SAMPLER.items()
            if name in ("diverging", "depth") and stan in self.at
        }
        self.rows = 0

    def feed(self, columns: list[np.ndarray]) -> None:
        rows = len(columns[0])
        chain = self._chain(columns, rows)
        position = np.empty(rows, dtype=np.int64)
        for one in np.unique(chain):
            mine = chain == one
            before = self.counts.get(int(one), 0)
            position[mine] = before + np.arange(mine.sum())
            self.counts[int(one)] = before + int(mine.sum())
        if len(self.counts) > _MOST_CHAINS:
            raise DrawsError(
                f"{self.place}the column {self.names[self.chain_column or 0]!r} has more than "
                f"{_MOST_CHAINS} different values; it must hold the number of the chain."
            )
        self.chains.append(chain)
        if "diverging" in self.flags:
            self.flags["diverging"].append(np.nan_to_num(columns[self.at["divergent__"]]) != 0)
        if "depth" in self.flags:
            depth = np.nan_to_num(columns[self.at["treedepth__"]]).clip(-1, 1000)
            self.flags["depth"].append(depth.astype(np.int16))
        self.rows += rows
        keep = position % self.every == 0
        block = np.stack([column[keep] for column in columns]) if len(columns) else np.empty((0, 0))
        self.blocks.append((block, chain[keep], position[keep]))
        self.kept += int(keep.sum())
        while (
            max(self.counts.values()) > self.most * self.every
            or self.kept * len(self.names) > MOST_VALUES
        ):
            self._thin()

    def _chain(self, columns: list[np.ndarray], rows: int) -> np.ndarray:
        if self.chain_column is None:
            return np.zeros(rows, dtype=np.int32)
        raw = columns[self.chain_column]
        bad = ~(np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**31))
        if bad.any():
            at = int(np.argmax(bad))
            raise DrawsError(
                f"{self.place}draw {self.rows + at + 1}, column {self.names[self.chain_column]!r}: "
                f"{raw[at]:g} is not the number of a chain."
            )
        return raw.astype(np.int32)

    def _thin(self) -> None:
        self.every *= 2
        if min(self.counts.values()) / self.every < 2:
            raise DrawsError(
                f"{self.place}{len(self.names)} columns are more than can be held; leave out variables "
                "that are computed from others."
            )
        thinner = []
        for values, chain, position in self.blocks:
            keep = position % self.every == 0
            thinner.append((values[:, keep], chain[keep], position[keep]))
        self.blocks = thinner
        self.kept = sum(len(chain) for _, chain, _ in self.blocks)

    def columns(self) -> Columns:
        joined = [np.concatenate(parts, axis=-1) for parts in zip(*self.blocks, strict=True)]
        self.blocks = []
        return Columns(
            self.names,
            joined[0],
            joined[1],
            dict(sorted(self.counts.items())),
            self.every,
            {name: np.concatenate(parts) for name, parts in self.flags.items()},
            np.concatenate(self.chains),
        )


def frame_columns(names: Sequence[str], columns: list[np.ndarray], chains: int | None = None) -> Columns:
    """Return columns that are in memory, thinned.

    Parameters
    ----------
    names : sequence of str, length K
    columns : list of ndarray of float, each of shape (draws,)
    chains : int, optional
        Into how many chains the draws will be split.

    Returns
    -------
    Columns
    """
    _refuse_twice(list(names), "")
    collector = _Collector(names, "", chains or 1)
    step = max(1, _BLOCK // (8 * max(1, len(columns))))
    for start in range(0, len(columns[0]), step):
        collector.feed([column[start : start + step] for column in columns])
    if not collector.rows:
        raise DrawsError("There are no draws in the table; give one row per draw.")
    found = collector.columns()
    found.tool = tool_of(found.names)
    return found


def split_chains(found: Columns, chains: int, place: str) -> Columns:
    """Give the draws of one long column to `chains` chains, one after the other."""
    rows = len(found.chains)
    if len(found.lengths) > 1:
        if len(found.lengths) != chains:
            raise DrawsError(
                f"{place}there are {len(found.lengths)} chains, not {chains}; leave the number out "
                "(on the command line, --chains)."
            )
        return found
    if chains < 1 or rows % chains:
        raise DrawsError(
            f"{place}{rows} draws cannot be split into {chains} chains of one length; give their number."
        )
    each = rows // chains
    position = np.arange(found.values.shape[1]) * found.every
    chain = position // each
    found.chain = chain.astype(np.int32) + 1
    found.chains = (np.arange(rows) // each).astype(np.int32) + 1
    found.lengths = dict.fromkeys(range(1, chains + 1), each)
    return found


# ---------------------------------------------------------------------------------------------
# Files


def read_csv(
    path: Path, *, chains: int | None = None, tick: Callable[[float], None] | None = None
) -> Columns:
    """Return the columns of a CSV file of draws.

    Parameters
    ----------
    path : Path
    chains : int, optional
        Into how many chains the draws will be split, where no column says it. A table without
        chains and without ``lp__`` is taken for draws only with this.
    tick : callable, optional
        Called with the share of the file that is read.

    Returns
    -------
    Columns

    Raises
    ------
    DrawsError
        If the file is no table of numbers, is cut short, or holds no draws.
    """
    size = path.stat().st_size
    if size > MOST_TEXT:
        raise DrawsError(
            f"{path}: {size / 2**30:.1f} GiB of text are more than {MOST_TEXT / 2**30:.0f}; export "
            "fewer variables, or every second draw."
        )
    with path.open("rb") as file:
        comments, head = _head(file, path)
        start = file.tell()
        first = file.readline(_BLOCK)
        while first.lstrip().startswith(b"#"):
            first = file.readline(_BLOCK)
        file.seek(start)
        separator, names = _names(head, first, path)
        settings = _settings(comments)
        stan = "stan_version_major" in settings or {"lp__", "accept_stat__"} <= set(names[:3])
        _refuse_foreign_method(settings, path)
        known = {*BOOKKEEPING, *SAMPLER} & set(names)
        if not (chains or stan or known - {"draw", "iteration", "chain"} or {"chain", "draw"} <= known):
            raise DrawsError(
                f"{path}: this is no table of draws that is known, for no column is called '.chain' or "
                f"'lp__' (they are {listed(names)}); if its rows are draws, say of how many chains with "
                "chains=4 (on the command line, --chains 4), else give the draws of a fit."
            )
        collector, faults = _stream(file, path, size, separator, first, names, chains or 1, tick)
    notes = _faults(path, faults, collector.rows, stan)
    if not collector.rows:
        raise DrawsError(
            f"{path}: there are no draws below the names of the columns; the fit was stopped or the "
            "file is cut short."
        )
    found = collector.columns()
    found.settings, found.notes = settings, notes
    if not faults.ends and not faults.count:
        _drop_last(found, path)
    found.tool = "CmdStan" if stan else tool_of(names)
    if stan:
        _drop_warm_up(found, path)
    return found


def _head(file: BinaryIO, path: Path) -> tuple[list[str], str]:
    """Return the comments above the names of the columns, and these."""
    comments: list[str] = []
    while True:
        line = file.readline(_BLOCK * 8)
        if not line:
            raise DrawsError(f"{path}: there are no columns and no draws; the file is cut short.")
        if b"\0" in line:
            raise DrawsError(f"{path}: this is no text, and no format that is known; {_EXPORT}.")
        if len(line) >= _BLOCK * 8:
            raise DrawsError(f"{path}: the first line has no end; this is no table of draws.")
        try:
            text = line.decode("utf-8-sig" if not comments else "utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise DrawsError(
                f"{path}: byte {error.start} of line {len(comments) + 1} is not UTF-8 text; {_EXPORT}."
            ) from None
        if text.lstrip().startswith("#"):
            comments.append(text.strip().lstrip("#").strip())
        elif text.strip():
            return comments, text
        else:
            comments.append("")
        if len(comments) > 100_000:
            raise DrawsError(f"{path}: there are only comments; this is no table of draws.")


def _names(head: str, first: bytes, path: Path) -> tuple[str, list[str]]:
    separator = max(",;\t", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=separator))]
    cells = first.decode("utf-8", "replace").strip("\r\n")
    if cells and len(next(csv.reader([cells], delimiter=separator))) == len(names) + 1:
        names = ["", *names]  # names of rows without a name of their column, as R's write.table has them
    if (
        len(names) < 2
        and names[0] not in SAMPLER
        and not re.fullmatch(r"[A-Za-z.][\w.\[\],]*", names[0])
    ):
        raise DrawsError(f"{path}: this is no table of draws, and no format that is known; {_EXPORT}.")
    _refuse_twice(names, f"{path}: ")
    if empty := [k for k, name in enumerate(names) if not name and k]:
        raise DrawsError(f"{path}: column {empty[0] + 1} has no name; give it one.")
    return separator, names


def _refuse_twice(names: list[str], place: str) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DrawsError(f"{place}the column {twice!r} comes twice; rename one of the two.")


def _settings(comments: list[str]) -> dict[str, str]:
    """Return what CmdStan says in its comments: ``num_warmup = 1000 (Default)`` and the like."""
    found: dict[str, str] = {}
    for line in comments:
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key.strip(), value.replace("(Default)", "").strip())
    return found


def _refuse_foreign_method(settings: dict[str, str], path: Path) -> None:
    method = settings.get("method", "sample")
    if method in ("optimize", "variational", "pathfinder", "laplace", "diagnose", "log_prob"):
        raise DrawsError(
            f"{path}: CmdStan's method was {method!r}, which draws no Markov chain; give the files of "
            "method=sample."
        )


class _Rows(io.RawIOBase):
    """A text file without the lines that begin with #, as CmdStan puts them between draws."""

    def __init__(self, file: BinaryIO, tick: Callable[[int], None]) -> None:
        self.file, self.tick = file, tick
        self.rest, self.ready, self.ended = b"", memoryview(b""), False
        self.last = b"\n"

    def readable(self) -> bool:
        return True

    def _more(self) -> None:
        while not self.ready and not self.ended:
            block = self.file.read(_BLOCK)
            self.tick(self.file.tell())
            if not block:
                self.ended, whole, self.rest = True, self.rest, b""
            else:
                self.last = block[-1:]
                end = block.rfind(b"\n") + 1
                if not end:
                    self.rest += block
                    if len(self.rest) > 16 * _BLOCK:
                        raise DrawsError("a line has no end; this is no table of draws.")
                    continue
                whole, self.rest = self.rest + block[:end], block[end:]
            if not whole.isascii():
                whole.decode("utf-8")
            if b"#" in whole:
                whole = re.sub(rb"(?m)^[ \t]*#[^\n]*\n?", b"", whole)
            self.ready = memoryview(whole)

    def read(self, size: int = -1) -> bytes:
        self._more()
        size = len(self.ready) if size < 0 else size
        given, self.ready = bytes(self.ready[:size]), self.ready[size:]
        return given


@dataclass
class _Fault:
    cells: int
    expected: int
    text: str


@dataclass
class _Faults:
    rows: list[_Fault] = field(default_factory=list)
    count: int = 0
    last_row: str = ""
    ends: bool = True


def _stream(
    file: BinaryIO,
    path: Path,
    size: int,
    separator: str,
    first: bytes,
    names: list[str],
    chains: int,
    tick: Callable[[float], None] | None,
) -> tuple[_Collector, _Faults]:
    import pyarrow as pa
    from pyarrow import csv as arrow

    faults = _Faults()

    def invalid(row: object) -> str:
        faults.count += 1
        if len(faults.rows) < 2:
            faults.rows.append(_Fault(row.actual_columns, row.expected_columns, row.text))  # type: ignore[attr-defined]
        return "skip"

    keys = [str(k) for k in range(len(names))]
    used = keys[1:] if names[0] == "" else keys
    cells = next(csv.reader([first.decode("utf-8", "replace").strip("\r\n")], delimiter=separator), [])
    logical = {
        key for key, cell in zip(keys, cells, strict=False) if cell.strip().lower() in ("true", "false")
    }
    rows = _Rows(file, lambda done: tick(done / size) if tick else None)
    collector = _Collector([names[int(key)] for key in used], f"{path}: ", chains)
    schema = {key: pa.bool_() if key in logical else pa.float64() for key in used}
    try:
        reader = arrow.open_csv(
            pa.PythonFile(rows, mode="r"),
            read_options=arrow.ReadOptions(
                block_size=max(_BLOCK, 8192 * len(names)), column_names=keys, use_threads=True
            ),
            parse_options=arrow.ParseOptions(delimiter=separator, invalid_row_handler=invalid),
            convert_options=arrow.ConvertOptions(
                column_types=schema,
                include_columns=used,
                null_values=MISSING,
                true_values=["TRUE", "True", "true"],
                false_values=["FALSE", "False", "false"],
                decimal_point="," if separator == ";" and b"," in first else ".",
            ),
        )
        for batch in reader:
            if batch.num_rows:
                collector.feed([_floats(column) for column in batch.columns])
    except UnicodeDecodeError as error:
        cell = error.object[max(0, error.start - 15) : error.start].decode("utf-8", "replace")
        raise DrawsError(
            f"{path}: after {cell!r} comes a byte that is no UTF-8 text; the file is damaged, or has to "
            "be written in UTF-8."
        ) from None
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise DrawsError(_first_fault(path, separator, names, error)) from None
    faults.ends = rows.last == b"\n"
    if faults.count or not faults.ends:
        faults.last_row = _last_row(path)
    return collector, faults


def _floats(column: object) -> np.ndarray:
    import pyarrow as pa

    if pa.types.is_boolean(column.type):  # type: ignore[attr-defined]
        column = column.cast(pa.float64())  # type: ignore[attr-defined]
    return column.to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]


def _last_row(path: Path) -> str:
    """Return the last line that is no comment."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        length = 4096
        while True:
            file.seek(max(0, size - length))
            lines = file.read().decode("utf-8", "replace").splitlines()
            rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
            if length >= size or len(rows) > 1:
                return rows[-1] if rows else ""
            length *= 4


def _faults(path: Path, faults: _Faults, rows: int, stan: bool) -> list[str]:
    """Refuse rows of another length, but for the last row of a run that was stopped."""
    if faults.count:
        fault = faults.rows[0]
        last = faults.count == 1 and fault.text.strip() == faults.last_row.strip()
        if stan and last and fault.cells < fault.expected:
            if rows < FEWEST_WHOLE:
                raise DrawsError(
                    f"{path}: the last row has {fault.cells} fields and not {fault.expected}, for the "
                    f"run stopped early, and only {rows} draws are whole; run the chain again."
                )
            return [f"{path.name} ends within a draw, which is left out: the run stopped early."]
        where = "the last row" if last else f"row {_row_of(path, fault.text)}"
        raise DrawsError(
            f"{path}: {where} has {fault.cells} fields and not {fault.expected} as the names of the "
            "columns; the file is damaged or cut short, so write it again."
        )
    return []


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and not line.lstrip().startswith(b"#"):
                yield number, line.decode("utf-8", "replace").strip("\r\n")


def _row_of(path: Path, text: str) -> int:
    return next((number for number, line in _lines(path) if line.strip() == text.strip()), 0)


def _first_fault(path: Path, separator: str, names: list[str], error: Exception) -> str:
    """Return the sentence on the first cell that is no number."""
    rows = _lines(path)
    next(rows, None)
    for number, line in rows:
        cells = next(csv.reader([line], delimiter=separator), [])
        if len(cells) != len(names):
            continue
        for name, cell in zip(names, cells, strict=True):
            text = cell.strip()
            if not name or text in MISSING or text.lower() in ("true", "false"):
                continue
            try:
                float(text.replace(",", ".") if separator == ";" else text)
            except ValueError:
                shown = text if len(text) <= 30 else f"{text[:27]}..."
                return (
                    f"{path}, row {number}, column {name}: {shown!r} is not a number; leave columns of "
                    "text out, or write the file again if it is damaged."
                )
    why = str(error).split("\n")[0].strip().rstrip(".")[:200]
    return f"{path}: this is no table of numbers ({why}); the file is damaged, so write it again."


def _drop_last(found: Columns, path: Path) -> None:
    """Leave out the last draw of a file that does not end with a line: its last number may be cut."""
    chain = int(found.chains[-1])
    if (found.lengths[chain] - 1) % found.every == 0:
        last = int(np.flatnonzero(found.chain == chain)[-1])
        found.values = np.delete(found.values, last, axis=1)
        found.chain = np.delete(found.chain, last)
    found.chains = found.chains[:-1]
    found.flags = {name: values[:-1] for name, values in found.flags.items()}
    found.lengths[chain] -= 1
    found.notes.append(
        f"{path.name} does not end with a whole line, so its last draw is left out: it may be cut short."
    )


def _drop_warm_up(found: Columns, path: Path) -> None:
    """Leave out draws of the warm-up that CmdStan stored."""
    said = found.settings
    thin = max(1, _whole(said.get("thin"), 1))
    warm = -(-_whole(said.get("num_warmup"), 0) // thin)
    wanted = -(-_whole(said.get("num_samples"), 0) // thin)
    if said.get("save_warmup", "0").lower() not in ("1", "true"):
        warm = 0
    rows = len(found.chains)
    if rows <= warm:
        raise DrawsError(
            f"{path}: all {rows} draws belong to the warm-up; the run stopped early, so run it again."
        )
    if warm:
        kept = np.arange(found.values.shape[1]) * found.every >= warm
        found.values, found.chain = found.values[:, kept], found.chain[kept]
        found.chains = found.chains[warm:]
        found.flags = {name: values[warm:] for name, values in found.flags.items()}
        found.lengths = {0: rows - warm}
        found.notes.append(f"{warm} draws of the warm-up in {path.name} are left out.")
    if wanted and rows - warm < wanted:
        if rows - warm < FEWEST_WHOLE:
            raise DrawsError(
                f"{path}: the run stopped after {rows - warm} of {wanted} draws; run the chain again."
            )
        found.notes.append(f"{path.name} holds {rows - warm} of {wanted} draws: the run stopped early.")


def _whole(text: str | None, otherwise: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        return otherwise


# ---------------------------------------------------------------------------------------------
# Names


def tool_of(names: Sequence[str]) -> str:
    """Return what wrote columns of these names: brms, rstan or "" if nothing tells."""
    if "lprior" in names or any(re.match(r"(b_|sd_\w+__|r_\w+\[)", name) for name in names):
        return "brms" if "lp__" in names else ""
    return "rstan" if "lp__" in names else ""


def is_parameter(name: str) -> bool:
    """Whether a column belongs to the posterior."""
    return bool(name) and name not in BOOKKEEPING and not name.endswith("__") and name != "Unnamed: 0"


_BRACKETS = re.compile(r"(?s)([^\[\]]+)\[([^\[\]]*)\]")
_DOTS = re.compile(r"(.+?)((?:\.\d+)+)")


def arrays_of(
    names: Sequence[str], *, dots: bool
) -> dict[str, tuple[list[list[str | int]], np.ndarray]]:
    """Return which columns make which array.

    Parameters
    ----------
    names : sequence of str
        Such as ``theta[1,2]`` or, with `dots`, ``theta.1.2``.
    dots : bool
        Whether dots separate indices, as CmdStan writes them.

    Returns
    -------
    dict of str to (labels, places)
        By variable: the labels of each dimension, and the columns' places in `names`, an array with
        these dimensions. Columns that do not fill an array stay on their own.
    """
    groups: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for place, name in enumerate(names):
        match = (_DOTS if dots else _BRACKETS).fullmatch(name)
        if match is None:
            groups.setdefault(name, []).append(((), place))
        else:
            index = match[2][1:].split(".") if dots else [part.strip() for part in match[2].split(",")]
            groups.setdefault(match[1], []).append((tuple(index), place))
    found: dict[str, tuple[list[list[str | int]], np.ndarray]] = {}
    for base, members in groups.items():
        indices = [index for index, _ in members]
        ranks = {len(index) for index in indices}
        labels = (
            [list(dict.fromkeys(part)) for part in zip(*indices, strict=True)] if len(ranks) == 1 else []
        )
        full = int(np.prod([len(part) for part in labels], initial=1))
        if len(ranks) > 1 or full != len(members) or len(set(indices)) < len(indices):
            found |= {names[place]: ([], np.array(place)) for _, place in members}
            continue
        ordered = [_ordered(part) for part in labels]
        where = [{str(label): k for k, label in enumerate(part)} for part in ordered]
        places = np.empty([len(part) for part in ordered], dtype=int)
        for index, place in members:
            places[tuple(at[label] for at, label in zip(where, index, strict=True))] = place
        found[base] = (ordered, places)
    return found


def _ordered(labels: list[str]) -> list[str | int]:
    if all(re.fullmatch(r"0|[1-9]\d{0,9}", label) for label in labels):
        return sorted(int(label) for label in labels)
    return list(labels)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names in quotation marks, the first few of many."""
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
