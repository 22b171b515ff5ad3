"""What a notebook answered, written down as data and read again without running anything.

A submission runs where it can do no harm, and is graded where it cannot reach. Between the two only
arrays and JSON pass: draws as netCDF 3, models as what was read from their graphs, everything else as
numbers and words. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pytensor.graph.basic import Variable

from fieldguide.course.grading import ModelReading, read_model
from fieldguide.problem import Problem

GROUPS = ("posterior", "sample_stats")
"""Of draws; others are not needed for a verdict."""
LONGEST = 10_000
"""Characters of text, and entries of a list, that are kept of one answer."""


class NoAnswer:
    """Stands for an answer of a kind that cannot be graded; whatever is asked of it fails with words."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"a {self.kind}"


class Keeper:
    """Write a notebook's answers to a folder, after each cell those that are new.

    Parameters
    ----------
    names : iterable of str
        Variables that are asked for.
    folder : path
        An empty one; an answer is a file or a folder there, whole or not at all.
    namespace : dict
        Where the variables are.
    """

    def __init__(self, names: Iterable[str], folder: str | Path, namespace: dict[str, Any]):
        self.names, self.folder, self.namespace = list(names), Path(folder), namespace
        self._kept: dict[str, Any] = {}

    def __call__(self, *_: Any) -> None:
        """Look at every name, and write what has changed; what cannot be written is named as that."""
        for name in self.names:
            value = self.namespace.get(name, ...)  # which also stands where nothing was answered
            if isinstance(value, Variable):
                continue  # of a model that has the name of an answer
            if value is not ... and self._kept.get(name, ...) is not value:
                self._kept[name] = value
                try:
                    keep(value, self.folder, name)
                except Exception as error:
                    _write_json(
                        self.folder / f"{name}.json", {"none": f"{type(value).__name__} ({error})"}
                    )


def keep(value: Any, folder: Path, name: str) -> None:
    """Write one answer.

    Parameters
    ----------
    value : object
        Draws (a DataTree), a PyMC model, or something of which `read_answers` makes numbers and words.
    folder : Path
    name : str
    """
    import pymc as pm

    if isinstance(value, xr.DataTree):
        for group in GROUPS:
            if group in value.children:
                _plain_draws(value[group].to_dataset()).to_netcdf(
                    folder / f"{name}.{group}.nc", engine="scipy"
                )
        _write_json(folder / f"{name}.json", {"draws": [g for g in GROUPS if g in value.children]})
    elif isinstance(value, pm.Model):
        found = read_model(value)
        problem = found.problem.to_attrs() if found.problem else None
        reading = {"problem": problem, "form": found.form, "fault": found.fault}
        _write_json(folder / f"{name}.json", {"model": reading})
    else:
        _write_json(folder / f"{name}.json", _plain(value))


def _plain_draws(draws: xr.Dataset) -> xr.Dataset:
    """Return what netCDF 3 can hold: numbers of 32 bits or floats, labels as text, no attributes."""
    kept = {}
    for name, one in draws.variables.items():
        if one.dtype.kind in "iu":
            one = one.astype("int32" if np.abs(one.values).max(initial=0) < 2**31 else "float64")
        elif one.dtype.kind not in "bf":
            if name not in draws.coords:
                continue
            one = one.astype(str)
        kept[name] = xr.Variable(one.dims, one.values)
    coords = {name: kept[name] for name in draws.coords if name in kept}
    return xr.Dataset({name: one for name, one in kept.items() if name not in coords}, coords)


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, np.ndarray | pd.Series | pd.Index | xr.DataArray):
        value = np.asarray(value).tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | set | range):
        value = list(value)
    if value is None or isinstance(value, bool | int):
        return {"value": value}
    if isinstance(value, float):
        return {"value": value} if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, str):
        return {"value": value[:LONGEST]}
    if isinstance(value, list):
        return {"list": [_plain(one) for one in value[:LONGEST]]}
    if isinstance(value, dict):
        return {"dict": {str(key): _plain(one) for key, one in list(value.items())[:LONGEST]}}
    return {"none": type(value).__name__}


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)


def read_answers(folder: str | Path, names: Iterable[str], largest: int = 300_000_000) -> dict[str, Any]:
    """Read what a `Keeper` wrote; the files may be anything, for a submission could write there too.

    Parameters
    ----------
    folder : path
    names : iterable of str
        Those that are asked for; others are left.
    largest : int
        Bytes of a file that is still read.

    Returns
    -------
    dict
        By name; a DataTree for draws, a `ModelReading` for a model, numbers and words. A name that has
        no file is left out, and one whose file is damaged is a `NoAnswer`.
    """
    answers = {}
    for name in names:
        path = Path(folder) / f"{name}.json"
        if not re.fullmatch(r"\w+", name) or not path.is_file() or path.is_symlink():
            continue
        try:
            files = [path, *(path.with_name(f"{name}.{group}.nc") for group in GROUPS)]
            if sum(one.stat().st_size for one in files if one.exists()) > largest:
                answers[name] = NoAnswer(f"thing of more than {largest / 1e6:.0f} MB")
                continue
            answers[name] = _read(path, name)
        except Exception as error:
            answers[name] = NoAnswer(f"thing that could not be kept ({type(error).__name__})")
    return answers


def _read(path: Path, name: str) -> Any:
    value = json.loads(path.read_text(encoding="utf-8"))
    if "draws" in value:
        groups = {}
        for group in GROUPS:
            if group in value["draws"]:
                file = path.with_name(f"{name}.{group}.nc")
                if file.is_symlink():
                    raise ValueError("a link")
                with xr.open_dataset(file, engine="scipy") as dataset:
                    groups[group] = dataset.load()
        return xr.DataTree.from_dict(groups)
    if "model" in value:
        found = value["model"]
        problem = Problem.from_attrs(found["problem"]) if found["problem"] else None
        return ModelReading(problem, str(found["form"]), str(found["fault"]))
    return _from_plain(value)


def _from_plain(value: dict) -> Any:
    if "list" in value:
        return [_from_plain(one) for one in value["list"]]
    if "dict" in value:
        return {key: _from_plain(one) for key, one in value["dict"].items()}
    if "float" in value:
        return float(value["float"])
    return NoAnswer(str(value["none"])) if "none" in value else value["value"]
