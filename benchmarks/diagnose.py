"""Time ``fieldguide diagnose`` and take its memory: ten million draws, and 5000 parameters.

    python benchmarks/diagnose.py [FOLDER]

Writes fits of random numbers into the folder (3 GB; a temporary one by default), runs the command on
each, and prints seconds of processor and by the wall, and the peak of its memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import xarray as xr
from pyarrow import csv

CHAINS = 4


def fit(draws: int, parameters: int) -> xr.DataTree:
    """Return draws of means, a spread and effects that it widens, and of what a sampler says.

    Divergences lie where the spread is small, so that everything that can be measured is.
    """
    rng = np.random.default_rng(1)
    shape, dims = (CHAINS, draws), ("chain", "draw")
    posterior = {f"p{k}": (dims, rng.normal(size=shape)) for k in range(min(parameters, 3))}
    spread = np.exp(posterior["p2"][1])
    posterior["p2"] = dims, spread
    if parameters > 3:
        effects = rng.normal(size=(*shape, parameters - 3))
        effects *= spread[..., None]
        posterior["x"] = ((*dims, "k"), effects)
    stats = {
        "diverging": (dims, (spread < 0.3) & (rng.random(shape) < 0.05)),
        "energy": (dims, rng.normal(size=shape)),
        "tree_depth": (dims, rng.integers(2, 6, shape)),
        "reached_max_treedepth": (dims, np.zeros(shape, dtype=bool)),
    }
    coords = {"chain": np.arange(CHAINS), "draw": np.arange(draws)}
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior, coords=coords),
            "sample_stats": xr.Dataset(stats, coords=coords),
        }
    )


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the fits one by one, with what each is."""
    for what, draws, parameters in (
        ("four small chains", 1000, 3),
        ("ten million draws", 2_500_000, 3),
        ("5000 parameters", 1000, 5000),
    ):
        tree = fit(draws, parameters)
        for suffix in (".nc", ".zarr", ".csv"):
            path = folder / f"{what.replace(' ', '_')}{suffix}"
            if suffix == ".nc":
                tree.to_netcdf(path, engine="h5netcdf")
            elif suffix == ".zarr":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree.to_zarr(path, mode="w")
            else:
                csv.write_csv(pa.table(columns(tree)), path)
            yield f"{what}, {suffix[1:]}", path


def columns(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Return a fit as R exports it."""
    posterior, stats = tree["posterior"], tree["sample_stats"]
    found = {name: values.values.ravel() for name, values in posterior.items() if values.ndim == 2}
    if "x" in posterior:
        rows = posterior["x"].values.reshape(-1, posterior.sizes["k"])
        found |= {f"x[{k + 1}]": rows[:, k] for k in range(rows.shape[1])}
    draws = posterior.sizes["draw"]
    return found | {
        "divergent__": stats["diverging"].values.ravel().astype("int8"),
        "energy__": stats["energy"].values.ravel(),
        "treedepth__": stats["tree_depth"].values.ravel(),
        "lp__": stats["energy"].values.ravel(),
        ".chain": np.repeat(np.arange(1, CHAINS + 1, dtype="int8"), draws),
    }


def main() -> None:
    """Run the command on each file and print what it took."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        for what, path in files(folder):
            start = time.perf_counter()
            command = [sys.executable, "-m", "fieldguide", "diagnose", str(path)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            wall, core = time.perf_counter() - start, used.ru_utime + used.ru_stime
            process.returncode = os.waitstatus_to_exitcode(status)
            print(
                f"{what}: exit status {process.returncode}, {core:.1f} s of a core, {wall:.1f} s, up to "
                f"{used.ru_maxrss / 2**20:.2f} GiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
