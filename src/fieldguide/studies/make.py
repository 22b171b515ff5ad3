"""Make a study's stored table, and tell whether the one there is still the one it would make."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor
from pathlib import Path

from fieldguide.data import DATA_FOLDER, DataError, Stored, stored
from fieldguide.grid import kept_fits, run_grid, write_provenance, write_table
from fieldguide.studies import Study
from fieldguide.studies.code import code_digest


def make(
    study: Study,
    folder: str | Path = DATA_FOLDER,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    cores: int | None = None,
    progress: bool = True,
) -> Stored:
    """Make a study's table, or what is missing of it, and its provenance beside it.

    Fits that the same code made are kept, whether their run was finished or interrupted, so a design
    may grow. A table that other code made stays as it is until the new one is whole.

    Parameters
    ----------
    study : Study
        What to make.
    folder : path
        Where; the project's data folder by default.
    executor, workers, progress
        As for `fieldguide.grid.run_grid`.
    cores : int, optional
        How many worked, for the provenance; those of this machine by default.

    Returns
    -------
    Stored

    Raises
    ------
    GridError
        As `fieldguide.grid.run_grid` does.
    """
    path = Path(folder) / f"{study.name}.parquet"
    design = study.design()
    table = run_grid(
        design,
        study.fit,
        path,
        executor=executor,
        workers=workers,
        group=list(study.group),
        progress=progress,
        version=_version(study),
    )
    write_table(table, path)  # without the fits of a design that was larger once
    write_provenance(
        path,
        table,
        design,
        data=study.data(),
        command=f"python -m fieldguide.studies {study.name}",
        seconds=table.attrs["grid"]["seconds"],
        code=code_digest(study.fit),
        cores=cores,
    )
    return stored(study.name, folder)


def kept(study: Study, folder: str | Path = DATA_FOLDER) -> int:
    """Return how many fits of a study are on disk, made by the code as it is now."""
    return len(kept_fits(Path(folder) / f"{study.name}.parquet", _version(study)))


def state(study: Study, folder: str | Path = DATA_FOLDER) -> str:
    """Say how a study's stored table stands to what would be made today.

    Returns
    -------
    str
        ``"current"``, ``"not made yet"``, ``"damaged"``, or what has changed since: ``"code changed"``,
        ``"design changed"``, ``"data changed"``, more than one separated by commas.
    """
    folder = Path(folder)
    if not (folder / f"{study.name}.parquet").exists():
        return "not made yet"
    try:
        table, provenance = stored(study.name, folder)
    except DataError:
        return "damaged"
    design = study.design()
    columns = list(design.columns)
    same_rows = len(table) == len(design) and set(columns) <= set(table.columns)
    same_rows = same_rows and table[columns].to_dict("records") == design.to_dict("records")
    changed = {
        "code changed": provenance.get("code") != code_digest(study.fit),
        "design changed": not same_rows,
        "data changed": provenance.get("data") != json.loads(json.dumps(dict(study.data()))),
    }
    return ", ".join(what for what, is_so in changed.items() if is_so) or "current"


def _version(study: Study) -> str:
    """Name the state of a study's code and data: fits of two such states do not go together."""
    data = json.dumps(dict(study.data()), sort_keys=True)
    return f"{code_digest(study.fit)}-{hashlib.sha256(data.encode()).hexdigest()[:8]}"
