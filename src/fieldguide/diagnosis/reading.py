"""Reading draws: fits in memory, NetCDF, Zarr, and CSV files of CmdStan, brms and rstan.

Whatever the tool, the result has the same names and dimensions. What cannot be read is refused in one
sentence, and what is missing is said in notes. Long chains are thinned while they are read.
"""

from __future__ import annotations

import asyncio
import difflib
import gc
import glob
import json
import logging
import os
import re
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from fieldguide.diagnosis.columns import (
    MOST_DRAWS,
    MOST_VALUES,
    SAMPLER,
    Columns,
    DrawsError,
    arrays_of,
    frame_columns,
    is_parameter,
    listed,
    read_csv,
    split_chains,
    tool_of,
)

__all__ = ["MOST_BYTES", "Draws", "DrawsError", "read_draws"]

MOST_BYTES = 4 * 10**9
"""Size of the largest file that is read, and of what it holds when unpacked."""

STATS = {
    "diverging": ("diverging", "divergent__", "divergent"),
    "energy": ("energy", "energy__"),
    "depth": ("depth", "tree_depth", "treedepth__", "treedepth"),
    "maxdepth_reached": ("maxdepth_reached", "reached_max_treedepth"),
    "step_size": ("step_size", "stepsize__", "step_size_bar", "stepsize"),
    "acceptance": ("acceptance_rate", "mean_tree_accept", "accept_stat__", "acceptance", "accept_prob"),
    "n_steps": ("n_steps", "n_leapfrog__", "num_steps"),
}
"""Sampler statistics, and what the tools call them, the first one that is there being taken."""

TOOLS = {
    "pymc": "PyMC", "nutpie": "nutpie", "cmdstanpy": "CmdStan", "cmdstan": "CmdStan",
    "brms": "brms", "rstan": "rstan",
}  # fmt: skip
_LEFT_OUT = {"lp__", "lprior"}

_EXPORT_R = 'in R, write.csv(posterior::as_draws_df(fit), "draws.csv") writes what can be read'
_FOREIGN = {
    b"PAR1": ("a Parquet file", "read it with pandas and give the table, or write it as CSV"),
    b"\x89PNG": ("a picture", "give the file of the fit's draws"),
    b"\xff\xd8\xff": ("a picture", "give the file of the fit's draws"),
    b"%PDF": ("a PDF", "give the file of the fit's draws"),
    b"\x80\x02": ("a pickle, which may run any code", "load it and write the fit with to_netcdf"),
    b"\x80\x03": ("a pickle, which may run any code", "load it and write the fit with to_netcdf"),
    b"\x80\x04": ("a pickle, which may run any code", "load it and write the fit with to_netcdf"),
    b"\x80\x05": ("a pickle, which may run any code", "load it and write the fit with to_netcdf"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "write the draws as CSV"),
    b"RDX": ("an R workspace", _EXPORT_R),
    b"RDA": ("an R workspace", _EXPORT_R),
    b"X\n\0\0": ("R's own format", _EXPORT_R),
    b"BZh": ("a compressed file", "unpack it"),
    b"\xfd7zXZ": ("a compressed file", "unpack it"),
    b"\x28\xb5\x2f\xfd": ("a compressed file", "unpack it"),
    b"\xff\xfe": ("text in UTF-16", "write it in UTF-8"),
    b"\xfe\xff": ("text in UTF-16", "write it in UTF-8"),
    b"<!DO": ("a web page", "give the file of the fit's draws"),
    b"<htm": ("a web page", "give the file of the fit's draws"),
    b"<?xm": ("an XML file", "give the file of the fit's draws"),
    b"ARROW1": ("an Arrow file", "read it with pandas and give the table, or write it as CSV"),
    b"\x93NUMPY": ("a NumPy array", "give a dictionary of name and array, of shape (chain, draw, ...)"),
    b"\x7fELF": ("a program", "give the file of the fit's draws"),
}
_HDF5, _CDF = b"\x89HDF\r\n\x1a\n", (b"CDF\x01", b"CDF\x02")


@dataclass(frozen=True)
class Draws:
    """Draws of a fit, and what its sampler said of them.

    Attributes
    ----------
    posterior : Dataset
        Numeric variables with dimensions ``(chain, draw, ...)``, as float64.
    stats : Dataset
        Of ``(chain, draw)``, those known of ``diverging`` (bool), ``energy``, ``depth`` (int),
        ``maxdepth_reached`` (bool), ``step_size``, ``acceptance`` and ``n_steps``.
    start, end : DataArray or None
        Where divergent trajectories began and ended, ``(chain, draw, unconstrained_parameter)``, where
        nutpie stored it.
    tool : str
        ``"PyMC"``, ``"Bambi"``, ``"nutpie"``, ``"CmdStan"``, ``"brms"``, ``"rstan"``, or ``""``.
    max_depth : int or None
        Limit of the tree depth.
    target_accept : float or None
    name : str
        The file; empty for an object in memory.
    notes : tuple of str
        Sentences: what is missing, left out or was repaired, and what therefore cannot be told.
    totals : Mapping of str to (int or None)
        ``"draws"``, ``"divergences"`` and ``"maxdepth"``, counted before thinning.
    """

    posterior: xr.Dataset
    stats: xr.Dataset
    start: xr.DataArray | None = None
    end: xr.DataArray | None = None
    tool: str = ""
    max_depth: int | None = None
    target_accept: float | None = None
    name: str = ""
    notes: tuple[str, ...] = ()
    totals: Mapping[str, int | None] = field(default_factory=dict)


def read_draws(
    source: Any, *, chains: int | None = None, tick: Callable[[float], None] | None = None
) -> Draws:
    """Return the draws of a fit.

    Parameters
    ----------
    source : DataTree, Dataset, mapping, DataFrame, str, Path or list of paths
        A fit by PyMC, Bambi or nutpie; a posterior; arrays of shape (chain, draw, ...) by name; a table
        with one row per draw; or a file: NetCDF, Zarr (a folder, or zipped), CSV of CmdStan (one file
        per chain, as a list, a pattern or a folder), or CSV of draws exported from brms or rstan.
    chains : int, optional
        Of how many chains the rows of a table are, one after the other, where no column says it.
    tick : callable, optional
        Called with the share that is done.

    Returns
    -------
    Draws

    Raises
    ------
    DrawsError
        If there are no draws to be read; the sentence says why and what to do.
    """
    if isinstance(source, Draws):
        return source
    name = _name(source)
    place = f"{name}: " if name else ""
    if chains is not None and (isinstance(chains, bool) or not 1 <= chains <= 1000):
        raise DrawsError(f"{place}{chains} chains are not possible; give a number from 1 to 1000.")
    with warnings.catch_warnings(), _silent_tasks():
        warnings.simplefilter("ignore")
        try:
            return _read(source, name, chains, tick)
        except DrawsError as error:
            sentence = str(error)
            sentence = sentence if not place or name in sentence else place + sentence
        except MemoryError:
            sentence = (
                f"{place}there is not enough memory for these draws; write the fit again with fewer "
                "variables, or every second draw."
            )
        except Exception as error:  # what libraries raise for damaged files has no common class
            why = " ".join(f"{error}".split())[:200].rstrip(". ") or type(error).__name__
            what = (
                "the file is damaged or cut short, so write it again" if name else "give a fit's draws"
            )
            sentence = f"{place}the draws could not be read ({why}); {what}."
        _end_tasks()
    raise DrawsError(sentence)


@contextmanager
def _silent_tasks() -> Iterator[None]:
    """Keep asyncio from printing what fails beside the first fault in a Zarr store."""
    logger = logging.getLogger("asyncio")
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was


def _end_tasks() -> None:
    """Wait for what is still being read of a Zarr store; a failed task is told of when it is deleted."""
    if "zarr" in sys.modules:
        from zarr.core.sync import sync

        async def others() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*left, return_exceptions=True)

        sync(others())
    gc.collect()


def _name(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) if isinstance(os.fspath(source), str) else os.fsdecode(source)
    if isinstance(source, list | tuple) and source and isinstance(source[0], str | os.PathLike):
        return _name(source[0]) if len(source) == 1 else f"{_name(source[0])} and {len(source) - 1} more"
    return ""


def _read(source: Any, name: str, chains: int | None, tick: Any) -> Draws:
    if isinstance(source, str | os.PathLike):
        return _read_path(name, chains, tick)
    if isinstance(source, list | tuple):
        if not source or not all(isinstance(one, str | os.PathLike) for one in source):
            raise DrawsError("A list of draws is one of paths; give arrays as a dictionary by name.")
        if len(source) == 1:
            return _read_path(_name(source[0]), chains, tick)
        return _read_files([Path(_name(one)) for one in source], name, tick)
    if chains is not None and not isinstance(source, pd.DataFrame):
        raise DrawsError("The number of chains is given only for a table of draws; leave it out.")
    if isinstance(source, pd.DataFrame):
        return _of_frame(source, chains)
    if isinstance(source, xr.DataTree):
        return draws_of_tree(source)
    if isinstance(source, xr.Dataset):
        return _of_datasets(source, None, {}, "")
    if isinstance(source, xr.DataArray):
        return _of_datasets(
            source.to_dataset(name="x" if source.name is None else source.name), None, {}, ""
        )
    if isinstance(source, Mapping):
        return _of_mapping(source)
    if hasattr(source, "posterior") and isinstance(source.posterior, xr.Dataset):
        stats = getattr(source, "sample_stats", None)
        return _of_datasets(source.posterior, stats, dict(getattr(source, "attrs", {}) or {}), "")
    if hasattr(source, "groups") and not isinstance(source, np.ndarray):
        groups = source.groups() if callable(source.groups) else source.groups
        raise DrawsError(_no_posterior([str(group) for group in groups]))
    raise DrawsError(
        f"A {type(source).__name__} holds no draws that are known; give a fit (an xarray.DataTree), a "
        "dictionary of arrays of shape (chain, draw, ...), a data frame or the path of a file."
    )


# ---------------------------------------------------------------------------------------------
# Objects of xarray


def draws_of_tree(tree: xr.DataTree, name: str = "") -> Draws:
    """Return the draws of a fit in memory, as `read_draws` does; its name is that of its file."""
    attrs = {str(key): value for key, value in tree.attrs.items()}
    if "posterior" in tree.children:
        stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else None
        return _of_datasets(tree["posterior"].to_dataset(), stats, attrs, name)
    if {"chain", "draw"} <= set(tree.dims):
        return _of_datasets(tree.to_dataset(), None, attrs, name)
    raise DrawsError(_no_posterior(list(tree.children)))


def _no_posterior(groups: list[str]) -> str:
    there = f"its groups are {listed(sorted(groups))}" if groups else "it is empty"
    return f"there is no group 'posterior' ({there}); give the result of sampling, with its draws."


def _of_mapping(source: Mapping) -> Draws:
    if "posterior" in source and isinstance(source["posterior"], Mapping):
        posterior = _arrays(source["posterior"])
        stats = source.get("sample_stats")
        return _of_datasets(posterior, None if stats is None else _arrays(stats), {}, "")
    return _of_datasets(_arrays(source), None, {}, "")


def _arrays(source: Mapping) -> xr.Dataset:
    """Return arrays by name as a Dataset; NumPy's have no names of dimensions."""
    if isinstance(source, xr.Dataset):
        return source
    if not source:
        raise DrawsError("The dictionary is empty; give arrays of shape (chain, draw, ...) by name.")
    found: dict[str, Any] = {}
    first: tuple[str, tuple[int, ...]] | None = None
    for key, values in source.items():
        try:
            array = np.asarray(values)
        except ValueError:
            array = np.empty(0, dtype=object)
        if array.dtype.kind not in "biufc" or array.ndim < 2:
            raise DrawsError(
                f"{key!r} is no array of numbers of shape (chain, draw, ...), but has shape "
                f"{array.shape} and type {array.dtype}; one chain has shape (1, draws)."
            )
        if first is None:
            first = str(key), array.shape[:2]
        elif array.shape[:2] != first[1]:
            raise DrawsError(
                f"{key!r} has (chain, draw) = {array.shape[:2]} and {first[0]!r} {first[1]}; "
                "give all draws of one fit."
            )
        dims = ["chain", "draw", *(f"{key}_dim_{k}" for k in range(array.ndim - 2))]
        found[str(key)] = (dims, array)
    return xr.Dataset(found)


def _of_datasets(
    posterior: xr.Dataset,
    stats: xr.Dataset | None,
    attrs: dict[str, Any],
    name: str,
    tick: Callable[[float], None] | None = None,
) -> Draws:
    """Return the draws of a posterior and its sampler statistics, thinned where they are many."""
    missing = {"chain", "draw"} - set(posterior.sizes)
    if missing:
        there = listed([str(dim) for dim in posterior.sizes]) if posterior.sizes else "none"
        raise DrawsError(
            f"the posterior has no dimension {listed(sorted(missing))} (its dimensions are {there}); "
            "give draws with dimensions (chain, draw, ...), where one chain is a first one of length 1."
        )
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    _refuse_few(chains, draws)
    notes: list[str] = []
    kept: dict[str, xr.DataArray] = {}
    left: list[str] = []
    for key, variable in posterior.data_vars.items():
        if str(key) in _LEFT_OUT:
            continue
        if variable.dtype.kind in "biuf" and {"chain", "draw"} <= set(variable.dims):
            kept[str(key)] = variable
        else:
            left.append(str(key))
    if left:
        notes.append(f"Left out, for they are no numbers by chain and draw: {', '.join(left[:8])}"
                     f"{f' and {len(left) - 8} more' if len(left) > 8 else ''}.")  # fmt: skip
    if not kept:
        raise DrawsError(
            "the posterior has no variable of numbers; give draws of at least one parameter."
        )
    values = sum(variable.size for variable in kept.values())
    if 8 * values > 2 * MOST_BYTES:
        raise DrawsError(
            f"{values:.1e} numbers are more than {2 * MOST_BYTES / 8:.0e}; write the fit again without "
            "variables that are computed from others, or every second draw."
        )
    every = max(1, -(-draws // MOST_DRAWS), -(-values // MOST_VALUES))
    if every > 1 and draws // every < 2:
        raise DrawsError(
            f"{values // (chains * draws)} parameters are more than can be held; write the fit again "
            "without variables that are computed from others."
        )
    done = 0
    arrays: dict[str, xr.DataArray] = {}
    for key, variable in kept.items():
        arrays[key] = _taken(variable, every)
        done += variable.size
        if tick:
            tick(0.9 * done / values)
    found = xr.Dataset(arrays).assign_coords(
        chain=_numbers(posterior, "chain"), draw=_numbers(posterior, "draw")[::every]
    )
    sampler, full, said = _stats_of(stats, chains, draws, every)
    notes += said
    sampler = sampler.assign_coords(chain=found["chain"], draw=found["draw"]) if sampler else sampler
    settings = _settings(attrs, posterior.attrs, {} if stats is None else stats.attrs)
    depth = settings.get("max_depth")
    if "maxdepth_reached" not in sampler and "depth" in sampler and depth:
        full["maxdepth"] = int((full["depths"] >= depth).sum())
        sampler["maxdepth_reached"] = sampler["depth"] >= depth
    if depth is None and "depth" in sampler and bool(sampler.get("maxdepth_reached", np.False_).any()):
        depth = int(sampler["depth"].where(sampler["maxdepth_reached"]).max())
    ends = [
        None
        if stats is None or f"divergence_{which}" not in stats
        else _end(stats[f"divergence_{which}"], found, draws, every)
        for which in ("start", "end")
    ]
    totals = {
        "draws": chains * draws, "divergences": full.get("divergences"), "maxdepth": full.get("maxdepth")
    }  # fmt: skip
    return _finished(
        Draws(
            found, sampler, ends[0], ends[1], settings.get("tool", ""), depth, settings.get("target"),
            name, tuple(notes), totals,
        ),
        every,
    )  # fmt: skip


def _refuse_few(chains: int, draws: int) -> None:
    if not chains or not draws:
        raise DrawsError("there are no draws; the fit was stopped, or it was written without them.")
    if draws == 1:
        raise DrawsError(
            "there is one draw per chain, which says nothing; sample some hundreds at least."
        )


def _numbers(data: xr.Dataset, dim: str) -> np.ndarray:
    """Return the coordinate of a dimension, counted anew where it is missing or no number."""
    if dim in data.coords and data[dim].dims == (dim,):
        values = np.asarray(data[dim].values)
        if values.dtype.kind in "iu" and len(set(values.tolist())) == len(values):
            return values.astype(np.int64)
    return np.arange(data.sizes[dim])


def _values(variable: xr.DataArray, every: int) -> np.ndarray:
    """Return every k-th draw, read in blocks; dimensions are (chain, draw, ...)."""
    variable = variable.transpose("chain", "draw", ...)
    draws = variable.sizes["draw"]
    if every == 1:
        return np.asarray(variable.values)
    each = max(1, variable.size // draws) * 8
    chunk = (variable.encoding.get("preferred_chunks") or {}).get("draw", 1)
    step = max(1, (64 * 2**20) // each // chunk) * chunk
    parts = []
    for start in range(0, draws, step):
        block = np.asarray(variable.isel(draw=slice(start, start + step)).values)
        parts.append(block[:, -start % every :: every].copy())
    return np.concatenate(parts, axis=1)


def _taken(variable: xr.DataArray, every: int) -> xr.DataArray:
    values = _values(variable, every).astype(np.float64, copy=False)
    dims = variable.transpose("chain", "draw", ...).dims
    coords = {}
    for dim in dims[2:]:
        if dim in variable.coords and variable[dim].dims == (dim,):
            coords[dim] = np.asarray(variable[dim].values)
            if coords[dim].dtype.names or isinstance(variable.indexes.get(dim), pd.MultiIndex):
                coords[dim] = np.array([str(label) for label in coords[dim]])
    return xr.DataArray(values, dims=dims, coords=coords)


def _stats_of(
    stats: xr.Dataset | None, chains: int, draws: int, every: int
) -> tuple[xr.Dataset, dict[str, Any], list[str]]:
    """Return sampler statistics under their standard names, counts of all draws, and notes."""
    empty: tuple[xr.Dataset, dict[str, Any]] = xr.Dataset(), {}
    if stats is None:
        return *empty, []
    if (stats.sizes.get("chain"), stats.sizes.get("draw")) != (chains, draws):
        return *empty, [
            "The sampler statistics have other chains or draws than the posterior and are left out."
        ]
    found: dict[str, Any] = {}
    full: dict[str, Any] = {}
    for standard, names in STATS.items():
        variable = next((stats[name] for name in names if name in stats.data_vars), None)
        if variable is None or not {"chain", "draw"} <= set(variable.dims):
            continue
        if variable.dtype.kind not in "biuf":
            continue
        yes_or_no = standard in ("diverging", "maxdepth_reached")
        if variable.ndim > 2:  # several samplers step in turn
            if not yes_or_no:
                continue
            variable = variable.any([dim for dim in variable.dims if dim not in ("chain", "draw")])
        if yes_or_no:
            values = _values(variable, 1)
            flags = np.nan_to_num(values) != 0
            full["divergences" if standard == "diverging" else "maxdepth"] = int(flags.sum())
            found[standard] = flags[:, ::every]
        elif standard == "depth":
            values = _values(variable, 1)
            full["depths"] = np.nan_to_num(values.astype(float), posinf=0, neginf=0)
            found[standard] = full["depths"][:, ::every].astype(np.int64)
        else:
            found[standard] = _values(variable, every).astype(np.float64)
    data = xr.Dataset({key: (("chain", "draw"), values) for key, values in found.items()})
    return data, full, []


def _end(variable: xr.DataArray, posterior: xr.Dataset, draws: int, every: int) -> xr.DataArray | None:
    """Return where divergent trajectories began or ended, thinned like the posterior."""
    if variable.ndim != 3 or variable.dtype.kind != "f" or not {"chain", "draw"} <= set(variable.dims):
        return None
    if variable.sizes["draw"] != draws or variable.size // every > MOST_VALUES:
        return None
    found = _taken(variable, every)
    found = found.rename({found.dims[2]: "unconstrained_parameter"})
    return found.assign_coords(chain=posterior["chain"], draw=posterior["draw"])


def _settings(*sources: Mapping) -> dict[str, Any]:
    """Return the tool, the limit of the tree depth and the target acceptance, where they are said."""
    found: dict[str, Any] = {}
    for attrs in sources:
        if str(attrs.get("modeling_interface", "")).lower() == "bambi":
            found["tool"] = "Bambi"
        tool = TOOLS.get(str(attrs.get("inference_library", "")).lower())
        if tool and "tool" not in found:
            found["tool"] = tool
        try:
            said = json.loads(attrs.get("inference_library_settings", "{}"))
        except (TypeError, ValueError):
            said = {}
        for key, value in [*_leaves(said), *attrs.items()]:
            if isinstance(value, np.ndarray) and value.size == 1:
                value = value.item()
            if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
                continue
            if key in ("maxdepth", "max_treedepth", "max_depth") and 0 < value < 100:
                found.setdefault("max_depth", int(value))
            if key in ("target_accept", "adapt_delta") and 0 < value < 1:
                found.setdefault("target", float(value))
    if any(str(attrs.get("modeling_interface", "")).lower() == "bambi" for attrs in sources):
        found["tool"] = "Bambi"
    return found


def _leaves(said: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(said, dict):
        for key, value in said.items():
            yield str(key), value
            yield from _leaves(value)


def _finished(draws: Draws, every: int) -> Draws:
    """Add the notes that hold whatever the format is."""
    notes = list(draws.notes)
    posterior, stats = draws.posterior, draws.stats
    total = draws.totals["draws"]
    if every > 1:
        per_chain = int(posterior.sizes["draw"])
        notes.append(
            f"Of {total} draws, every {every}{_th(every)} is kept ({per_chain} per chain); divergences "
            "and trees that reached their limit are counted in all draws, and marked only where kept."
        )
    if posterior.sizes["chain"] == 1:
        notes.append(
            "There is one chain, so R-hat compares only its halves: whether chains from other starting "
            "points would agree is not known."
        )
    if "diverging" not in stats:
        missing = "no sampler statistics are there" if not stats else "the sampler statistics do not say"
        notes.append(f"Divergences are not known: {missing}{_remedy(draws.tool)}.")
    if stats and "energy" not in stats:
        notes.append("E-BFMI is not known: the energy is not stored.")
    elif not stats:
        notes.append("E-BFMI and the depth of trees are not known either.")
    if "maxdepth_reached" not in stats and "depth" in stats:
        notes.append(
            "Whether trees reached their limit is not known: the depths are stored, the limit is not."
        )
    bad = {}
    for key, values in posterior.data_vars.items():
        count = int(values.size - np.isfinite(values.values).sum())
        if count:
            bad[str(key)] = count
    if bad:
        named = ", ".join(f"{key} ({count})" for key, count in list(bad.items())[:8])
        more = f" and {len(bad) - 8} more variables" if len(bad) > 8 else ""
        notes.append(f"Values that are missing or infinite: {named}{more}.")
    return Draws(**{**draws.__dict__, "notes": tuple(notes)})


def _th(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _remedy(tool: str) -> str:
    if tool in ("brms", "rstan"):
        return "; write them beside the draws, as the help of `fieldguide diagnose` shows"
    return ""


# ---------------------------------------------------------------------------------------------
# Files


def _read_path(name: str, chains: int | None, tick: Any) -> Draws:
    path = Path(name)
    if not path.exists() and re.search(r"[*?\[]", name):
        files = sorted(Path(found) for found in glob.glob(name))
        if not files:
            raise DrawsError(f"{name}: no file has a name like this; check the pattern.")
        return (
            _read_path(str(files[0]), chains, tick)
            if len(files) == 1
            else _read_files(files, name, tick)
        )
    if not path.exists():
        raise DrawsError(f"{name}: there is no such file; {_nearest(path)}.")
    try:
        if path.is_dir():
            return _read_folder(path, chains, tick)
        if not path.is_file():
            raise DrawsError(f"{name}: this is no ordinary file; write the draws into one.")
        kind = _kind(path)
        if kind != "csv" and chains is not None:
            raise DrawsError(
                f"{name}: this file says itself how many chains there are; leave the number out (on the "
                "command line, --chains)."
            )
        if kind == "hdf5":
            return _read_hdf5(path, tick)
        if kind == "cdf":
            with xr.open_dataset(path, engine="scipy", **_PLAIN) as data:
                return _of_datasets(data, None, {}, name, tick)
        if kind == "zip":
            return _read_zip(path, tick)
        return _read_table(path, chains, tick)
    except PermissionError:
        raise DrawsError(f"{name}: you may not read this file; change its permissions.") from None


_PLAIN: dict[str, Any] = {"decode_times": False, "decode_timedelta": False, "cache": False}


def _nearest(path: Path) -> str:
    try:
        there = os.listdir(path.parent)
    except OSError:
        return "check its name and folder"
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.6)
    return f"did you mean {path.with_name(close[0])}" if close else "check its name and folder"


def _kind(path: Path) -> str:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise DrawsError(
            f"{path}: {size / 1e9:.1f} GB are more than {MOST_BYTES / 1e9:.0f}; write the fit again "
            "with fewer variables, or every second draw."
        )
    with path.open("rb") as file:
        start = file.read(512)
    if not start.strip():
        raise DrawsError(f"{path}: the file is empty; write the draws again.")
    if start.startswith(b"\x1f\x8b"):
        if path.suffix.lower() in (".rds", ".rda", ".rdata"):
            raise DrawsError(f"{path}: this is R's own format; {_EXPORT_R}.")
        raise DrawsError(
            f"{path}: this is a compressed file; unpack it, and if it is R's own, {_EXPORT_R}."
        )
    for magic, (what, remedy) in _FOREIGN.items():
        if start.startswith(magic) or (magic[:1] == b"<" and start.lower().startswith(magic.lower())):
            raise DrawsError(f"{path}: this is {what}; {remedy}.")
    if start.startswith(_HDF5):
        return "hdf5"
    if start.startswith(_CDF):
        return "cdf"
    if start.startswith(b"PK"):
        return "zip"
    if b"\0" in start:
        raise DrawsError(f"{path}: this format is not known; give NetCDF, Zarr or CSV.")
    return "csv"


_PROBE = """
import sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    places = [file, *(file[key] for key in ("posterior", "sample_stats") if key in file)]
    for place in places:
        dict(place.attrs)
        for item in place.values():
            dict(item.attrs)
            if isinstance(item, h5py.Dataset):
                for dimension in item.dims:
                    len(dimension)
                if item.chunks and item.size:
                    item.id.get_num_chunks()
                if item.size:
                    item[(0,) * item.ndim], item[tuple(size - 1 for size in item.shape)]
"""
_PATIENCE = 10.0


def _refuse_endless(path: Path) -> None:
    """Let another process look first: HDF5 itself may loop, or die, on a damaged file."""
    if not sys.executable:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, str(path)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DrawsError(
            f"{path}: HDF5 does not come to an end with this file; it is damaged, so write it again."
        ) from None
    if done.returncode < 0:
        raise DrawsError(f"{path}: HDF5 breaks down on this file; it is damaged, so write it again.")


def _read_hdf5(path: Path, tick: Any) -> Draws:
    import h5py

    _refuse_endless(path)
    with h5py.File(path, "r") as file:
        groups = [key for key, item in file.items() if isinstance(item, h5py.Group)]
        flat = not groups and len(file)
    return _open_groups(path, groups, bool(flat), tick, str(path), engine="h5netcdf")


def _open_groups(
    store: Any, groups: list[str], flat: bool, tick: Any, name: str, *, prefix: str = "", **options: Any
) -> Draws:
    """Return the draws of a store with groups, or of one without."""
    with _opened(store, prefix or None, options) as root:
        if flat or ("posterior" not in groups and {"chain", "draw"} <= set(root.sizes)):
            return _of_datasets(root, None, {}, name, tick)
        attrs = dict(root.attrs)
    if "posterior" not in groups:
        raise DrawsError(f"{name}: {_no_posterior(groups)}")
    with _opened(store, f"{prefix}posterior", options) as posterior:
        if "sample_stats" not in groups:
            return _of_datasets(posterior, None, attrs, name, tick)
        with _opened(store, f"{prefix}sample_stats", options) as stats:
            return _of_datasets(posterior, stats, attrs, name, tick)


@contextmanager
def _opened(store: Any, group: str | None, options: dict[str, Any]) -> Iterator[xr.Dataset]:
    data = xr.open_dataset(store, group=group, **_PLAIN, **options)
    try:
        yield data
    finally:
        data.close()


_ZARR = {"zarr.json", ".zgroup", ".zmetadata", ".zattrs"}


def _read_folder(path: Path, chains: int | None, tick: Any) -> Draws:
    there = sorted(os.listdir(path))
    if _ZARR & set(there):
        if chains is not None:
            raise DrawsError(
                f"{path}: Zarr says itself how many chains there are; leave the number out (on the "
                "command line, --chains)."
            )
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if size > MOST_BYTES:
            raise DrawsError(
                f"{path}: {size / 1e9:.1f} GB are more than {MOST_BYTES / 1e9:.0f}; write the fit again "
                "with fewer variables, or every second draw."
            )
        return _read_zarr(str(path), "", str(path), tick)
    tables = [path / one for one in there if one.lower().endswith(".csv") and (path / one).is_file()]
    stan = [one for one in tables if _is_stan(one)]
    if stan:
        return _read_files(stan, str(path), tick)
    if not there:
        raise DrawsError(f"{path}: the folder is empty; give the file of the fit's draws.")
    likely = [one for one in there if Path(one).suffix.lower() in (".nc", ".zarr", ".csv", ".zip")]
    hint = f"give the file itself, such as {path / likely[0]}" if likely else "give the fit's own file"
    raise DrawsError(f"{path}: this folder is no Zarr and holds no CSV files of CmdStan; {hint}.")


def _is_stan(path: Path) -> bool:
    with path.open("rb") as file:
        return b"stan_version_major" in file.read(200)


def _read_zarr(store: Any, prefix: str, name: str, tick: Any) -> Draws:
    import zarr

    root = zarr.open_group(store, mode="r", path=prefix.strip("/") or None)
    groups = sorted(root.group_keys())
    flat = not groups and bool(list(root.array_keys()))
    return _open_groups(
        store, groups, flat, tick, name, prefix=prefix, engine="zarr", consolidated=False, chunks=None
    )


def _read_zip(path: Path, tick: Any) -> Draws:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(info.file_size for info in archive.infolist())
            bad = archive.testzip() if unpacked <= MOST_BYTES else None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DrawsError(
            f"{path}: the archive is damaged or cut short ({error}); write it again."
        ) from None
    if bad is not None:
        raise DrawsError(f"{path}: {bad} in the archive is damaged; write it again.")
    if any(one.startswith("xl/") for one in names):
        raise DrawsError(f"{path}: this is an Excel workbook; write the draws as CSV.")
    roots = sorted(
        (one for one in names if one.rpartition("/")[2] in _ZARR), key=lambda one: one.count("/")
    )
    if not roots:
        raise DrawsError(
            f"{path}: this archive holds no Zarr; unpack it and give the file of the draws."
        )
    if unpacked > MOST_BYTES:
        raise DrawsError(
            f"{path}: {unpacked / 1e9:.1f} GB when unpacked are more than {MOST_BYTES / 1e9:.0f}; write "
            "the fit again with fewer variables, or every second draw."
        )
    import zarr

    store = zarr.storage.ZipStore(path, mode="r")
    try:
        folder = roots[0].rpartition("/")[0]
        return _read_zarr(store, f"{folder}/" if folder else "", str(path), tick)
    finally:
        store.close()


# ---------------------------------------------------------------------------------------------
# Tables


def _of_frame(frame: pd.DataFrame, chains: int | None) -> Draws:
    if isinstance(frame.index, pd.MultiIndex) and "chain" in frame.index.names:
        frame = frame.reset_index()
    if frame.shape[1] == 0 or frame.shape[0] == 0:
        raise DrawsError("there are no draws in the table; give one row per draw.")
    frame = frame.drop(columns=[name for name in ("Unnamed: 0", "") if name in frame.columns])
    columns = []
    for place, name in enumerate(frame.columns):
        raw = frame.iloc[:, place]
        values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        bad = np.isnan(values) & ~raw.isna().to_numpy()
        if bad.any():
            at = int(np.argmax(bad))
            raise DrawsError(
                f"row {at + 1} of the table, column {name}: {str(raw.iloc[at])[:30]!r} is not a number; "
                "leave columns of text out."
            )
        columns.append(values)
    found = frame_columns([str(name) for name in frame.columns], columns, chains)
    if chains is not None:
        found = split_chains(found, chains, "")
    return _of_columns([found], "", explicit=chains is not None)


def _read_table(path: Path, chains: int | None, tick: Any) -> Draws:
    found = read_csv(path, chains=chains, tick=tick)
    if chains is not None:
        found = split_chains(found, chains, f"{path}: ")
    return _of_columns([found], str(path), explicit=chains is not None)


def _read_files(paths: list[Path], name: str, tick: Any) -> Draws:
    """Return the draws of several files of CmdStan, one per chain."""
    for path in paths:
        if not path.exists():
            raise DrawsError(f"{path}: there is no such file; {_nearest(path)}.")
        if path.is_dir() or _kind(path) != "csv":
            raise DrawsError(
                f"{path}: several files are the chains of one run of CmdStan, and this is none; give "
                "other fits one at a time."
            )
    paths = sorted(paths, key=lambda path: [int(part) if part.isdigit() else part for part in
                                            re.split(r"(\d+)", str(path))])  # fmt: skip
    if len({path.resolve() for path in paths}) < len(paths):
        raise DrawsError(f"{name}: a file is given twice; give each chain once.")
    total = sum(path.stat().st_size for path in paths)
    if total > MOST_BYTES:
        raise DrawsError(
            f"{name}: {total / 1e9:.1f} GB are more than {MOST_BYTES / 1e9:.0f}; write fewer variables, "
            "or every second draw (CmdStan's thin=2)."
        )
    found: list[Columns] = []
    for k, path in enumerate(paths):
        found.append(read_csv(path))
        if tick:
            tick((k + 1) / len(paths))
        if found[k].tool != "CmdStan":
            raise DrawsError(
                f"{path}: several files are the chains of one run of CmdStan, and this is none; give "
                "other fits one at a time."
            )
        if found[k].names != found[0].names:
            other = set(found[k].names) ^ set(found[0].names)
            what = f"such as {listed(sorted(other), 3)}" if other else "in their order"
            raise DrawsError(
                f"{path}: its columns differ from those of {paths[0]} ({what}); give chains of one "
                "model."
            )
        found[k].chain[:] = k + 1
        found[k].chains[:] = k + 1
        found[k].lengths = {k + 1: len(found[k].chains)}
        while sum(one.values.size for one in found) > MOST_VALUES:
            for one in found:
                one.values, one.chain = one.values[:, ::2], one.chain[::2]
                one.every *= 2
    every = max(one.every for one in found)
    for one in found:
        step = every // one.every
        one.values, one.chain, one.every = one.values[:, ::step], one.chain[::step], every
    return _of_columns(found, name, explicit=True)


def _of_columns(parts: list[Columns], name: str, *, explicit: bool) -> Draws:
    """Return the draws of columns: of one file with all chains, or of one for each chain."""
    first = parts[0]
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    lengths = {chain: length for part in parts for chain, length in part.lengths.items()}
    longest = max(lengths.values())
    stubs = [chain for chain, length in lengths.items() if length < longest / 10]
    for chain in stubs:
        notes.append(f"Chain {chain} has {lengths.pop(chain)} of {longest} draws and is left out.")
    draws = min(lengths.values())
    if draws < longest:
        notes.append(
            f"The chains have between {draws} and {longest} draws; the first {draws} of each are kept."
        )
    _refuse_few(len(lengths), draws)
    where = [(part, np.flatnonzero(part.chain == chain)) for part in parts for chain in part.lengths
             if chain in lengths]  # fmt: skip
    kept = min(-(-draws // first.every), *(len(rows) for _, rows in where))
    if kept < 2:
        raise DrawsError("the columns are more than can be held; leave out computed variables.")
    names = first.names
    stan = first.tool == "CmdStan"
    places = [k for k, column in enumerate(names) if is_parameter(column)]
    if not places:
        raise DrawsError("no column holds a parameter; export the fit's draws with their parameters.")
    groups = arrays_of([names[k] for k in places], dots=stan)
    at = np.array(places)
    chain_numbers = sorted(lengths)
    arrays: dict[str, xr.DataArray] = {}
    for base, (labels, members) in groups.items():
        dims = [f"{base}_dim_{k}" for k in range(len(labels))]
        columns = at[members].ravel()
        values = np.stack([part.values[columns][:, rows[:kept]] for part, rows in where])
        values = np.ascontiguousarray(np.moveaxis(values, 1, 2)).reshape(
            len(where), kept, *members.shape
        )
        arrays[base] = xr.DataArray(
            values, dims=["chain", "draw", *dims], coords=dict(zip(dims, labels, strict=True))
        )
    shared = {"chain": chain_numbers, "draw": np.arange(kept) * first.every}
    posterior = xr.Dataset(arrays).assign_coords(shared)
    totals, limit = _flags_of(parts, lengths, draws)
    stats: dict[str, Any] = {}
    for column, standard in SAMPLER.items():
        if column in names:
            k = names.index(column)
            values = np.stack([part.values[k][rows[:kept]] for part, rows in where])
            stats[standard] = (("chain", "draw"), values)
    if "diverging" in stats:
        stats["diverging"] = (("chain", "draw"), np.nan_to_num(stats["diverging"][1]) != 0)
    if "depth" in stats:
        depth = np.nan_to_num(stats["depth"][1], posinf=0, neginf=0).clip(-1, 1000).astype(np.int64)
        stats["depth"] = (("chain", "draw"), depth)
        if limit is not None:
            stats["maxdepth_reached"] = (("chain", "draw"), depth >= limit)
    sampler = xr.Dataset(stats).assign_coords(shared) if stats else xr.Dataset()
    tool = first.tool if stan else tool_of(names)
    unknown = not explicit and not stan and len(lengths) == 1 and set(lengths) == {0}
    if unknown:
        notes.append(
            "No column says which chain a draw belongs to, so all are taken for one chain; if there are "
            "four, say chains=4 (on the command line, --chains 4)."
        )
    target = _number(first.settings.get("delta"))
    return _finished(
        Draws(
            posterior, sampler, None, None, tool, limit, target, name, tuple(notes),
            {"draws": len(lengths) * draws, **totals},
        ),
        first.every,
    )  # fmt: skip


def _flags_of(
    parts: list[Columns], lengths: dict[int, int], draws: int
) -> tuple[dict[str, int | None], int | None]:
    """Return counts of all draws, and the limit of the tree depth."""
    limit = _number(parts[0].settings.get("max_depth"))
    limit = int(limit) if limit is not None and 0 < limit < 100 else None
    counts: dict[str, int | None] = {"divergences": None, "maxdepth": None}
    for part in parts:
        for chain in part.lengths:
            if chain not in lengths:
                continue
            rows = np.flatnonzero(part.chains == chain)[:draws]
            if "diverging" in part.flags:
                counts["divergences"] = (counts["divergences"] or 0) + int(
                    part.flags["diverging"][rows].sum()
                )
            if "depth" in part.flags and limit is not None:
                counts["maxdepth"] = (counts["maxdepth"] or 0) + int(
                    (part.flags["depth"][rows] >= limit).sum()
                )
    return counts, limit


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
