"""Run a grid of fits: in parallel, resumable, every finished fit on disk before the next one.

`run_grid` takes a design (one row per fit), a function that makes one fit and returns its figures,
and a Parquet file. While it runs, finished fits are kept in an SQLite file beside that one. The grids
of this book are in `fieldguide.studies`.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import multiprocessing
import multiprocessing.connection
import operator
import os
import platform
import signal
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

ATTRIBUTE = "grid"
"""Where in a table's ``attrs`` stands which columns are its design; Parquet keeps it."""


class GridError(RuntimeError):
    """A fit failed, or a file of the grid cannot be used; the message says which and what to do."""


# ---------------------------------------------------------------------------------------------
# Rows, and where they are kept


def _plain(value):
    """Return a value that JSON keeps exactly: a number, a truth value, a string or None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA:
        return None
    if value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(
            f"{value!r} is a {type(value).__name__}, where only numbers, truth values and strings "
            "can be kept"
        )
    return value


def _key(cell: Mapping) -> str:
    """Name a cell by its values: the same for 1 and 1.0, and for any order of the columns."""

    def canonical(value):
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps({name: canonical(_plain(value)) for name, value in cell.items()}, sort_keys=True)


def _checked_figures(figures: Any, cell: Mapping) -> dict:
    if not isinstance(figures, Mapping):
        raise TypeError(f"fit returned {figures!r} instead of a dict of figures")
    clash = figures.keys() & cell.keys()
    if clash:
        raise ValueError(f"fit returned the design's own column {', '.join(clash)}")
    odd = [name for name in figures if not isinstance(name, str)]
    if odd:
        raise TypeError(f"fit named a figure {odd[0]!r}; names are strings")
    plain = {name: _plain(value) for name, value in figures.items()}
    if all(pd.isna(value) for value in plain.values()):
        raise ValueError(f"fit returned no figure but {plain}")
    return plain


def _differences(theirs: Iterable[str], ours: Iterable[str]) -> str:
    """Say in which columns two designs differ; nothing if they have the same ones."""
    missing = [name for name in ours if name not in theirs]
    unknown = [name for name in theirs if name not in ours]
    parts = [f"no column {', '.join(missing)}"] if missing else []
    parts += [f"a column {', '.join(unknown)} that this design lacks"] if unknown else []
    return " and ".join(parts)


def _other_design(path: Path, different: str) -> ValueError:
    return ValueError(
        f"{path} holds another design ({different}); choose another path, or delete it to start over."
    )


def _work_path(path: Path) -> Path:
    return path.with_name(path.name + ".sqlite")


class _WorkFile:
    """The fits of a run under way: an SQLite file, one row per cell, one transaction per save.

    SQLite's own lock keeps every other run out for as long as the file is open, and ends with the
    process however that ends.
    """

    def __init__(self, path: Path):
        self.target, self.path = path, _work_path(path)
        self.seconds_before, self.start = 0.0, time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(self.path, timeout=1, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._lock()
        except sqlite3.Error as error:
            self.connection.close()
            raise self._explained(error) from None
        except GridError:
            self.connection.close()
            raise

    def _do(self, statement: str, values: tuple = ()) -> sqlite3.Cursor:
        return self.connection.execute(statement, values)

    def _lock(self) -> None:
        self._do("PRAGMA locking_mode = EXCLUSIVE")
        self._do("BEGIN EXCLUSIVE")
        # A run killed before its first save may leave a file of no bytes, and no fit is lost with it.
        names = {name for (name,) in self._do("SELECT name FROM sqlite_master")}
        if not names:
            self._do("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
            self._do("CREATE TABLE fits (cell TEXT PRIMARY KEY, row TEXT NOT NULL)")
        elif not {"about", "fits"} <= names:
            raise self._damaged("it holds something else")
        elif self._do("PRAGMA quick_check").fetchone() != ("ok",):
            raise self._damaged("parts of it are missing")
        self._do("COMMIT")

    def begin(self, keys: list[str], version: str | None) -> None:
        """Take up an interrupted run, or start a new one; refuse the run of another design."""
        rows = self.read()
        about = self.about()
        if rows:
            different = _differences(about["design"], keys)
            if different:
                raise _other_design(self.path, different)
            if version is not None and about["version"] != version:
                raise GridError(
                    f"{self.path} holds {len(rows)} fits that other code made; delete it to make them "
                    "again, or go back to that code to finish them."
                )
            self.seconds_before = about["seconds"]
        else:
            about = {"design": keys, "version": version, "seconds": 0.0}
            self._write("about", {name: json.dumps(value) for name, value in about.items()})

    def about(self) -> dict:
        try:
            found = {name: json.loads(value) for name, value in self._do("SELECT * FROM about")}
        except sqlite3.Error as error:
            raise self._explained(error) from None
        except ValueError:
            raise self._damaged("what it says about itself cannot be read") from None
        return {"design": [], "version": None, "seconds": 0.0} | found

    def seconds(self) -> float:
        """Wall time of this run and of those that were interrupted before it."""
        return self.seconds_before + time.monotonic() - self.start

    def read(self) -> dict[str, dict]:
        try:
            return {cell: json.loads(row) for cell, row in self._do("SELECT cell, row FROM fits")}
        except sqlite3.Error as error:
            raise self._explained(error) from None
        except ValueError:
            raise self._damaged("a row cannot be read") from None

    def save(self, rows: dict[str, dict]) -> None:
        self._write("fits", {cell: json.dumps(row) for cell, row in rows.items()})

    def _write(self, table: str, values: dict[str, str]) -> None:
        try:
            self._do("BEGIN")
            self.connection.executemany(f"REPLACE INTO {table} VALUES (?, ?)", values.items())
            self._do("REPLACE INTO about VALUES ('seconds', ?)", (json.dumps(self.seconds()),))
            self._do("COMMIT")
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def empty(self) -> None:
        """Forget the fits, once they are in the finished table."""
        self._do("DELETE FROM fits")

    def close(self) -> None:
        """Let others in. A file without fits goes."""
        try:
            if self.connection.in_transaction:  # interrupted while saving
                self._do("ROLLBACK")
            empty = self._do("SELECT count(*) FROM fits").fetchone() == (0,)
        except sqlite3.Error:
            empty = False
        self.connection.close()
        if empty:
            self.path.unlink(missing_ok=True)

    def _damaged(self, what: object) -> GridError:
        return GridError(
            f"{self.path} is damaged ({what}). Delete it and run again: its fits are made again, "
            f"those in {self.target.name} are not touched."
        )

    def _unusable(self, error: Exception) -> GridError:
        return GridError(
            f"{self.path} cannot be written ({error}). Finished fits are kept; when that is mended, "
            "the same call resumes."
        )

    def _explained(self, error: sqlite3.Error) -> GridError:
        kind = getattr(error, "sqlite_errorname", "")
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return GridError(
                f"Another run is at work on {self.target} (it has {self.path.name} locked). Wait until "
                "it has ended, or choose another path."
            )
        if kind.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return self._damaged(error)
        return self._unusable(error)


def _read_table(path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:  # by its path, pyarrow would take columns from folders' names
            return pd.read_parquet(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise GridError(
            f"{path} cannot be read as a Parquet table ({error}). Restore it, or delete it to make its "
            "fits again."
        ) from None


def _about_table(table: pd.DataFrame) -> dict:
    return {"design": None, "version": None, "seconds": 0.0} | table.attrs.get(ATTRIBUTE, {})


def _with_figures(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Leave out rows that hold nothing but their cell: nobody made those fits."""
    return table[table.drop(columns=keys).notna().any(axis=1)]


def _finished_rows(path: Path, keys: list[str], version: str | None) -> tuple[dict[str, dict], dict]:
    """Return the rows of a finished table by cell, and what it says about itself."""
    nothing = {"design": keys, "version": version, "seconds": 0.0}
    table = _read_table(path)
    if table is None:
        return {}, nothing
    about = _about_table(table)
    if about["design"] is not None:
        different = _differences(about["design"], keys)
    else:  # it does not remember, so any column may be a figure
        different = _differences([name for name in keys if name in table], keys)
        if not different and table.duplicated(keys).any():
            different = f"several rows for the same {', '.join(keys)}"
    if different:
        raise _other_design(path, different)
    if version is not None and about["version"] != version:
        return {}, nothing
    rows = _with_figures(table, keys).to_dict("records")
    return {_key({name: row[name] for name in keys}): row for row in rows}, about | {"design": keys}


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a Parquet file that is there whole or not at all, whatever happens meanwhile.

    Parameters
    ----------
    table : DataFrame
        Without its index.
    path : path
        The file; one that is there is replaced.

    Raises
    ------
    GridError
        If a column mixes numbers and strings, or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            table.to_parquet(file, index=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, OverflowError, pa.ArrowException) as error:
        raise GridError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def kept_fits(path: str | Path, version: str | None = None) -> pd.DataFrame:
    """Return the fits on disk for a path, whether its run has ended or was interrupted.

    Parameters
    ----------
    path, version
        As for `run_grid`; fits of another version are left out.

    Returns
    -------
    DataFrame
        One row per fit, in no particular order.

    Raises
    ------
    GridError
        If a run is at work on the path, or one of its files is damaged.
    """
    path = Path(path)
    parts = []
    table = _read_table(path)
    if table is not None and version in (None, _about_table(table)["version"]):
        parts.append(_with_figures(table, _about_table(table)["design"] or []))
    if _work_path(path).exists():
        work = _WorkFile(path)
        try:
            if version in (None, work.about()["version"]):
                parts.append(pd.DataFrame(list(work.read().values())))
        finally:
            work.close()
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


# ---------------------------------------------------------------------------------------------
# Processes


def _start_worker() -> None:
    """Prepare a worker process: Ctrl-C is the parent's business, and so is the end of the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = cast("multiprocessing.process.BaseProcess", multiprocessing.parent_process())

    def leave_with_parent():  # a killed parent cannot say goodbye
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


class _Lane:
    """An executor, how many cells it may hold at once, and the group of cells it works on."""

    def __init__(self, make: Callable[[], Executor], capacity: float, own: bool):
        self.make, self.capacity, self.own = make, capacity, own
        self.executor = make()
        self.running: dict[Future, int] = {}
        self.group: tuple | None = None

    def restart(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self.make()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # fewer than cpu_count in a container
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_process() -> Executor:
    # spawn: a fork would copy locks held by the samplers' threads
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker)


def _next_cell(queues: dict[tuple, deque[int]], lane: _Lane, taken: set) -> int | None:
    """A cell of the lane's own group; else a new group; else help where most is left."""
    if lane.group is None or not queues.get(lane.group):
        fresh = [group for group, queue in queues.items() if queue and group not in taken]
        if fresh:
            lane.group = fresh[0]
        else:
            lane.group = max(queues, key=lambda group: len(queues[group]))
    taken.add(lane.group)
    queue = queues[lane.group]
    return queue.popleft() if queue else None


def run_grid(
    design: pd.DataFrame,
    fit: Callable[[dict], Mapping],
    path: str | Path,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    group: str | list[str] | None = None,
    progress: bool = True,
    attempts: int = 3,
    version: str | None = None,
) -> pd.DataFrame:
    """Make every fit of a design, in parallel, and keep each as soon as it is finished.

    Finished fits are kept in ``<path>.sqlite`` and become the table `path` at the end, which is there
    whole or not at all. A run that was interrupted, by Ctrl-C or by force, goes on where it stopped
    when it is called again; only fits that were under way are made again. Fits already on disk are
    found by the values of their design columns, so a design may grow. The table remembers which
    columns those are, and a design with others is refused. Delete `path` to start over, for instance
    after a change of `fit`, or give each state of the code its own `version`.

    Parameters
    ----------
    design : DataFrame
        One row per fit, of numbers, truth values and strings, without missing values; its columns,
        seed included, say everything that distinguishes one fit from another.
    fit : callable
        Takes one row as a dict, returns its figures as a dict: numbers, truth values and strings, at
        least one that is not missing. It runs in another process, so it must be importable there
        (for a Dask cluster: picklable by cloudpickle).
    path : path
        Parquet file of the finished table. Its folder is made if it is not there.
    executor : concurrent.futures.Executor, optional
        Where to run, such as ``client.get_executor()`` of a Dask cluster. By default one process
        per core of this machine; those that die are replaced and their fits made again.
    workers : int, optional
        Number of processes, without `executor`; the cores this process may use by default.
    group : str or list of str, optional
        Design columns that share a compiled model. Fits of one group run one after another, and
        on one process as long as there are other groups for the others.
    progress : bool
        Show a progress bar.
    attempts : int
        How often a fit may lose its process before the run gives up.
    version : str, optional
        Names what makes the fits, such as a digest of its code. Rows of a finished table that has
        another version are made again; an unfinished run of another version is refused.

    Returns
    -------
    DataFrame
        The design's columns and those that `fit` returned, rows in the order of the design
        whatever order they finished in. ``attrs["grid"]`` holds the ``design`` columns, the
        ``version`` and the wall ``seconds`` of all runs that it took.

    Raises
    ------
    ValueError
        If the design is empty, has missing values or duplicated rows, if `path` is a folder or holds
        another design, or if `group`, `workers` or `attempts` make no sense. Nothing is touched.
    GridError
        If a fit raised an error or returned no figures, with its cell; if another run is at work on
        the path; if a file is damaged. Finished fits are kept and the next call resumes.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from tempfile import TemporaryDirectory
    >>> with ThreadPoolExecutor(2) as executor, TemporaryDirectory() as folder:
    ...     table = run_grid(
    ...         cross(x=[1, 2, 3]),
    ...         lambda cell: {"square": cell["x"] ** 2},
    ...         f"{folder}/squares.parquet",
    ...         executor=executor,
    ...         progress=False,
    ...     )
    >>> table.to_dict("list")
    {'x': [1, 2, 3], 'square': [1, 4, 9]}
    """
    cells, keys = _checked_design(design)
    path = _checked_path(path)
    groups = _checked_group(group, keys)
    workers = None if workers is None else _whole("workers", workers)
    attempts = _whole("attempts", attempts)
    names = [_key(cell) for cell in cells]
    rows, about = _finished_rows(path, keys, version)
    if all(name in rows for name in names) and not _work_path(path).exists():
        tqdm(total=len(cells), initial=len(cells), disable=not progress).close()
        return _in_order(design, names, rows, about)[0]
    work = _WorkFile(path)
    try:
        work.begin(keys, version)
        rows, about = _finished_rows(path, keys, version)  # again: now nobody else can change it
        rows |= work.read()
        todo = [i for i, name in enumerate(names) if name not in rows]
        queues: dict[tuple, deque[int]] = {}
        for i in todo:
            queues.setdefault(tuple(cells[i][name] for name in groups), deque()).append(i)
        with tqdm(total=len(cells), initial=len(cells) - len(todo), disable=not progress) as bar:
            if todo:
                _run(cells, queues, fit, work, executor, workers, attempts, bar)
        rows |= work.read()
        about |= {"version": version, "seconds": about["seconds"] + work.seconds()}
        ordered, whole = _in_order(design, names, rows, about)
        write_table(whole, path)
        work.empty()
        return ordered
    finally:
        work.close()


def _in_order(
    design: pd.DataFrame, names: list[str], rows: dict[str, dict], about: dict
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the design with its figures, and the same above the fits that it does not ask for."""
    keys, asked = list(design.columns), set(names)
    figures = pd.DataFrame([rows[name] for name in names]).drop(columns=keys)
    ordered = pd.concat([design.reset_index(drop=True), figures], axis=1)
    extra = [row for name, row in rows.items() if name not in asked]
    whole = pd.concat([ordered, pd.DataFrame(extra)], ignore_index=True) if extra else ordered
    ordered.attrs = whole.attrs = {ATTRIBUTE: about}
    return ordered, whole


def _checked_design(design: pd.DataFrame) -> tuple[list[dict], list[str]]:
    keys = list(design.columns)
    if design.empty:
        raise ValueError("The design has no rows; give one row per fit.")
    if not all(isinstance(name, str) for name in keys) or not design.columns.is_unique:
        raise ValueError(f"The design's columns need names of their own, as strings; they are {keys}.")
    if design.isna().any(axis=None):
        column = design.columns[design.isna().any()][0]
        raise ValueError(f"The design has a missing value in column {column!r}; fill it.")
    cells = design.to_dict("records")
    for cell in cells:
        for name, value in cell.items():
            try:
                cell[name] = _plain(value)
            except TypeError as error:
                raise ValueError(f"The design's column {name!r}: {error}.") from None
    seen = set()
    for cell in cells:
        if _key(cell) in seen:
            raise ValueError(f"The design has the row {cell} twice; give repeats a seed of their own.")
        seen.add(_key(cell))
    return cells, keys


def _checked_path(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a Parquet file in it.")
    parents = [parent for parent in path.absolute().parents if parent.exists()]
    if not parents[0].is_dir():
        raise ValueError(f"{parents[0]} is a file, so that {path} cannot be; choose another path.")
    return path


def _checked_group(group: str | list[str] | None, keys: list[str]) -> list[str]:
    groups = [] if group is None else [group] if isinstance(group, str) else list(group)
    for name in groups:
        if name not in keys:
            raise ValueError(
                f"group names a column {name!r} that the design does not have; it has {', '.join(keys)}."
            )
    return groups


def _whole(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number from 1, not {value!r}.")
    return number


def _run(
    cells: list[dict],
    queues: dict[tuple, deque[int]],
    fit: Callable[[dict], Mapping],
    work: _WorkFile,
    executor: Executor | None,
    workers: int | None,
    attempts: int,
    bar: Any,
) -> None:
    if executor is None:
        count = min(_cores() if workers is None else workers, sum(map(len, queues.values())))
        # Two cells per process: one runs while the next one already waits at its door.
        lanes = [_Lane(_own_process, 2, own=True) for _ in range(count)]
    else:
        lanes = [_Lane(lambda: executor, np.inf, own=False)]
    lost: dict[int, int] = {}
    again: deque[int] = deque()
    taken: set = set()
    try:
        while True:
            for lane in lanes:
                while len(lane.running) < lane.capacity:
                    i = again.popleft() if again else _next_cell(queues, lane, taken)
                    if i is None:
                        break
                    try:
                        lane.running[lane.executor.submit(fit, cells[i])] = i
                    except BrokenProcessPool:
                        again.append(i)
                        if not lane.own:
                            raise GridError("The executor is broken; give a new one.") from None
                        if not lane.running:
                            lane.restart()
                        break
            futures = [future for lane in lanes for future in lane.running]
            if not futures and not again:
                return
            ready, _ = wait(futures, return_when=FIRST_COMPLETED)
            _collect(lanes, ready, cells, work, attempts, lost, again, bar)
    finally:
        for lane in lanes:
            for future in lane.running:
                future.cancel()
            if lane.own:
                lane.executor.shutdown(wait=True, cancel_futures=True)


def _collect(
    lanes: list[_Lane],
    ready: set[Future],
    cells: list[dict],
    work: _WorkFile,
    attempts: int,
    lost: dict[int, int],
    again: deque[int],
    bar: Any,
) -> None:
    """Save what is ready; put back what a dying process took with it; stop on an error."""
    rows, failure = {}, None
    for lane in lanes:
        broken = False
        for future in [future for future in lane.running if future in ready]:
            i = lane.running.pop(future)
            error = CancelledError("cancelled") if future.cancelled() else future.exception()
            if error is None:
                try:
                    rows[_key(cells[i])] = cells[i] | _checked_figures(future.result(), cells[i])
                    continue
                except (TypeError, ValueError) as wrong:
                    error = wrong
            if isinstance(error, BrokenProcessPool) and lane.own:
                broken = True
                lost[i] = lost.get(i, 0) + 1
                if lost[i] < attempts:
                    again.append(i)
                    continue
            failure = failure or (i, error)
        if broken:
            for i in lane.running.values():
                again.append(i)
            lane.running.clear()
            lane.restart()
    if rows:
        work.save(rows)
        bar.update(len(rows))
    if failure:
        i, error = failure
        raise GridError(
            f"The fit {cells[i]} failed with {type(error).__name__}: {error}. "
            "Finished fits are kept; the same call resumes."
        ) from error


def cross(**levels: Iterable) -> pd.DataFrame:
    """Full factorial design: every combination of the levels, the last one varying fastest."""
    rows = itertools.product(*levels.values())
    return pd.DataFrame(rows, columns=list(levels))


AGREEMENT_FIGURES = ("divergences", "missing_share", "sd_error:sigma", "gradients")


def agreement(part: pd.DataFrame, whole: pd.DataFrame, keys: list[str] | None = None) -> dict:
    """Compare a smaller run with a stored one, made perhaps on another machine.

    The same seeds give the same fits on the same machine with the same versions. On another one a
    last-digit difference sends a chaotic trajectory elsewhere, so the figures must then agree as
    samples do: per cell, the two means over seeds are compared with their standard error.

    Parameters
    ----------
    part, whole : DataFrame
        Tables of fits; every cell of `part` must be in `whole`.
    keys : list of str, optional
        Columns that make a cell, without the seed; the factorial's by default.

    Returns
    -------
    dict
        ``fits`` compared, ``identical`` (share of them that is equal, but for rounding, in every
        figure that does not measure time), and ``worst_z``: the largest difference between a
        cell's means over seeds, divergences on the log scale, in standard errors of that
        difference as estimated from the spread in `whole`.

    Raises
    ------
    ValueError
        If `part` has a fit that `whole` lacks.
    """
    keys = ["parameterization", "prior", "target_accept"] if keys is None else keys
    index = [*keys, "seed"]
    left, right = part.set_index(index), whole.set_index(index)
    if not left.index.isin(right.index).all():
        raise ValueError("The smaller table has fits that the stored one lacks.")
    shared = right.loc[left.index]
    exact = [name for name in left if name in shared and "seconds" not in str(name)]
    same = [
        np.isclose(left[name].astype(float), shared[name].astype(float), rtol=1e-6, equal_nan=True)
        for name in exact
    ]
    worst = 0.0
    a: Any
    b: Any
    for name in AGREEMENT_FIGURES:
        a, b = left[name].astype(float), right[name].astype(float)
        if name in ("divergences", "gradients"):
            a, b = np.log1p(a), np.log1p(b)
        few, many = a.groupby(keys), b.groupby(keys)
        spread = many.std().clip(lower=b.std() / 20)  # a cell may be constant, such as at 0
        error = spread * np.sqrt(1 / few.size() + 1 / many.size())
        worst = max(worst, float(((few.mean() - many.mean()) / error).abs().max()))
    return {"fits": len(left), "identical": float(np.mean(np.all(same, axis=0))), "worst_z": worst}


PACKAGES = ("pymc", "nutpie", "bambi", "pytensor", "numba", "arviz", "numpy", "scipy", "pandas")
"""On which the figures of a fit may depend."""


def versions() -> dict:
    """Return the version of ``python`` and, under ``versions``, those of the installed `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": platform.python_version(), "versions": found}


def write_provenance(
    path: str | Path,
    table: pd.DataFrame,
    design: pd.DataFrame,
    *,
    data: Mapping,
    command: str,
    seconds: float,
    code: str,
    cores: int | None = None,
) -> Path:
    """Write beside a stored table how it came about, as JSON with the same name.

    Parameters
    ----------
    path : path
        The Parquet file; its checksum is recorded.
    table, design : DataFrame
        The result and what was asked for.
    data : mapping
        What was fitted: the data, or how they were simulated.
    command : str
        What remakes it.
    seconds : float
        Wall time of the whole run.
    code : str
        Digest of the code that made the fits, from `fieldguide.studies.code.code_digest`.
    cores : int, optional
        How many worked; those of this machine by default.

    Returns
    -------
    Path
        Of the JSON file.
    """
    path = Path(path)
    record = {
        "table": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": command,
        "code": code,
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "fits": len(table),
        "wall_seconds": round(seconds, 1),
        "cores": _cores() if cores is None else cores,
        "design": {name: design[name].unique().tolist() for name in design},
        "data": dict(data),
        "machine": f"{platform.system()} {platform.machine()}",
        **versions(),
    }
    sidecar = path.with_suffix(".json")
    temporary = sidecar.with_name(f"{sidecar.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, sidecar)
    return sidecar
