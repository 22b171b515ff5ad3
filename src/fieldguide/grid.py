"""Run a grid of fits: in parallel, resumable, every finished fit on disk before the next one.

`run_grid` takes a design (one row per fit), a function that makes one fit and returns its figures,
and a Parquet file. The grids of this book are in `fieldguide.studies`.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import shutil
import signal
import threading
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

import numpy as np
import pandas as pd
from tqdm import tqdm


class GridError(RuntimeError):
    """A fit of the grid failed; the message says which, and finished fits are kept."""


class _Store:
    """Finished fits on disk: one small Parquet file per save, compacted now and then.

    A part appears under its final name by an atomic rename, so a kill leaves whole files only.
    A fit found twice (killed between compaction and clean-up) counts once.
    """

    COMPACT_AT = 200

    def __init__(self, path: Path, keys: list[str]):
        self.path, self.keys = path, keys
        self.folder = path.with_name(path.name + ".parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = sorted(self.folder.glob("*.parquet"))

    def _write(self, table: pd.DataFrame, path: Path) -> None:
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        table.to_parquet(temporary, index=False)
        os.replace(temporary, path)

    def _read(self, paths: Iterable[Path]) -> pd.DataFrame:
        tables = [pd.read_parquet(path) for path in paths]
        for path, table in zip(paths, tables, strict=True):
            missing = [key for key in self.keys if key not in table]
            if missing:
                raise ValueError(
                    f"{path} holds another design (no column {', '.join(missing)}); "
                    "choose another path or delete it."
                )
        if not tables:
            return pd.DataFrame(columns=self.keys)
        table = pd.concat(tables, ignore_index=True)
        return table.drop_duplicates(self.keys, ignore_index=True)

    def read(self) -> pd.DataFrame:
        finished = [self.path] if self.path.exists() else []
        return self._read([*finished, *self.parts])

    def save(self, rows: list[dict]) -> None:
        part = self.folder / f"{uuid.uuid4().hex}.parquet"
        self._write(pd.DataFrame(rows), part)
        self.parts.append(part)
        if len(self.parts) >= self.COMPACT_AT:
            whole = self.folder / f"{uuid.uuid4().hex}.parquet"
            self._write(self._read(self.parts), whole)
            for part in self.parts:
                part.unlink(missing_ok=True)
            self.parts = [whole]

    def finish(self, table: pd.DataFrame) -> None:
        self._write(table, self.path)
        shutil.rmtree(self.folder)


def _start_worker() -> None:
    """Prepare a worker process: Ctrl-C is the parent's business, and so is the end of the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

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
        self.group = None

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
    if not queues.get(lane.group):
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
) -> pd.DataFrame:
    """Make every fit of a design, in parallel, and keep each as soon as it is finished.

    The table on disk grows in a folder ``<path>.parts`` and becomes ``path`` at the end. A run
    that was interrupted, by Ctrl-C or by force, goes on where it stopped when it is called again;
    only fits that were under way are made again. Fits already on disk are found by the values of
    their design columns, so a design may grow. Delete `path` to start over, for instance after a
    change of `fit`.

    Parameters
    ----------
    design : DataFrame
        One row per fit, without missing values; its columns, seed included, say everything that
        distinguishes one fit from another.
    fit : callable
        Takes one row as a dict, returns its figures as a dict. It runs in another process, so it
        must be importable there (for a Dask cluster: picklable by cloudpickle).
    path : path
        Parquet file of the finished table.
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

    Returns
    -------
    DataFrame
        The design's columns and those that `fit` returned, rows in the order of the design
        whatever order they finished in.

    Raises
    ------
    ValueError
        If the design is empty, has missing values or duplicated rows, or `path` holds another one.
    GridError
        If a fit raised an error, with its cell; the finished fits are kept and the next call
        resumes.
    """
    cells, keys = _checked_design(design)
    store = _Store(Path(path), keys)
    finished = store.read()
    done = set(finished[keys].itertuples(index=False, name=None))
    todo = [i for i, cell in enumerate(cells) if tuple(cell.values()) not in done]
    columns = keys[:0] if group is None else [group] if isinstance(group, str) else list(group)
    queues: dict[tuple, deque[int]] = {}
    for i in todo:
        queues.setdefault(tuple(cells[i][name] for name in columns), deque()).append(i)
    with tqdm(total=len(cells), initial=len(cells) - len(todo), disable=not progress) as bar:
        if todo:
            _run(cells, queues, fit, store, executor, workers, attempts, bar)
    table = store.read()
    ordered = design.reset_index(drop=True).merge(table, on=keys, how="left", validate="1:1")
    if todo or not store.path.exists() or store.parts:
        extra = table.merge(design[keys], on=keys, how="left", indicator="_side")
        extra = extra[extra["_side"] == "left_only"].drop(columns="_side")
        store.finish(pd.concat([ordered, extra], ignore_index=True) if len(extra) else ordered)
    else:
        shutil.rmtree(store.folder)
    return ordered


def _checked_design(design: pd.DataFrame) -> tuple[list[dict], list[str]]:
    keys = list(design.columns)
    if design.empty:
        raise ValueError("The design has no rows; give one row per fit.")
    if design.isna().any(axis=None):
        column = design.columns[design.isna().any()][0]
        raise ValueError(f"The design has a missing value in column {column!r}; fill it.")
    if design.duplicated().any():
        row = design[design.duplicated()].iloc[0].to_dict()
        raise ValueError(f"The design has the row {row} twice; give repeats a seed of their own.")
    return design.to_dict("records"), keys


def _run(cells, queues, fit, store, executor, workers, attempts, bar) -> None:
    if executor is None:
        count = min(workers or _cores(), sum(map(len, queues.values())))
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
            _collect(lanes, ready, cells, store, attempts, lost, again, bar)
    finally:
        for lane in lanes:
            for future in lane.running:
                future.cancel()
            if lane.own:
                lane.executor.shutdown(wait=True, cancel_futures=True)


def _collect(lanes, ready, cells, store, attempts, lost, again, bar) -> None:
    """Save what is ready; put back what a dying process took with it; stop on an error."""
    rows, failure = [], None
    for lane in lanes:
        broken = False
        for future in [future for future in lane.running if future in ready]:
            i = lane.running.pop(future)
            error = CancelledError("cancelled") if future.cancelled() else future.exception()
            if error is None:
                figures = dict(future.result())
                clash = figures.keys() & cells[i].keys()
                if not clash:
                    rows.append(cells[i] | figures)
                    continue
                error = ValueError(f"fit returned the design's own column {', '.join(clash)}")
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
        store.save(rows)
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
    exact = [name for name in left if name in shared and "seconds" not in name]
    same = [
        np.isclose(left[name].astype(float), shared[name].astype(float), rtol=1e-6, equal_nan=True)
        for name in exact
    ]
    worst = 0.0
    for name in AGREEMENT_FIGURES:
        a, b = left[name].astype(float), right[name].astype(float)
        if name in ("divergences", "gradients"):
            a, b = np.log1p(a), np.log1p(b)
        few, many = a.groupby(keys), b.groupby(keys)
        spread = many.std().clip(lower=b.std() / 20)  # a cell may be constant, such as at 0
        error = spread * np.sqrt(1 / few.size() + 1 / many.size())
        worst = max(worst, float(((few.mean() - many.mean()) / error).abs().max()))
    return {"fits": len(left), "identical": float(np.mean(np.all(same, axis=0))), "worst_z": worst}


def write_provenance(
    path: str | Path,
    table: pd.DataFrame,
    design: pd.DataFrame,
    *,
    data: Mapping,
    command: str,
    seconds: float,
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

    Returns
    -------
    Path
        Of the JSON file.
    """
    path = Path(path)
    packages = ["pymc", "nutpie", "pytensor", "numba", "arviz", "numpy", "scipy", "pandas"]
    record = {
        "table": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": command,
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "fits": len(table),
        "wall_seconds": round(seconds, 1),
        "cores": _cores(),
        "design": {name: design[name].unique().tolist() for name in design},
        "data": dict(data),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return sidecar
