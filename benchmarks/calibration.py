"""Measure how fast fits are made: simulated trials, many of them, and the districts' grid.

python benchmarks/calibration.py speed    # 200 fits, against pm.sample, brms and simuk
python benchmarks/calibration.py scale    # 10,000 short fits, killed midway and resumed
python benchmarks/calibration.py reduced  # the 48 fits that chapter 8 makes, processor time
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one process per core; threads would only get in the way

import argparse
import contextlib
import logging
import multiprocessing
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pymc as pm
import simuk

from fieldguide.data import VALID_SITES, as_rows, simulate_trial, stored
from fieldguide.grid import agreement, cross, run_grid
from fieldguide.models.trial import trial_model
from fieldguide.studies import districts
from fieldguide.studies.trial import fit_sbc, fit_trial

BRMS = """
suppressMessages(library(brms))
rstan::rstan_options(boost_lib = "/usr/include")
folder <- commandArgs(TRUE)[1]
files <- sort(list.files(folder, "csv$", full.names = TRUE))
priors <- c(prior(normal(-1, 1), class = Intercept), prior(normal(0, 1), class = b),
            prior(normal(0, 0.5), class = sd), prior(lkj_corr_cholesky(4), class = L))
fit <- brm(successes | trials(trials) ~ intervention + (1 + intervention | site),
           data = read.csv(files[1]), family = binomial(), prior = priors, chains = 4, cores = 2,
           iter = 2000, control = list(adapt_delta = 0.95), refresh = 0, silent = 2)
started <- proc.time()[["elapsed"]]
for (file in files) {
  update(fit, newdata = read.csv(file), recompile = FALSE, chains = 4, cores = 2, iter = 2000,
         control = list(adapt_delta = 0.95), refresh = 0, silent = 2)
}
cat((proc.time()[["elapsed"]] - started) / length(files))
"""


def brms_seconds(trials: list) -> float | str:
    """Seconds per ``update(recompile = FALSE)``, or why they could not be measured."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return "not measured: R is not installed"
    with tempfile.TemporaryDirectory() as folder:
        for k, trial in enumerate(trials):
            as_rows(trial).to_csv(Path(folder) / f"{k}.csv", index=False)
        done = subprocess.run([rscript, "-e", BRMS, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"not measured: {done.stderr.strip().splitlines()[-1]}"
    return float(done.stdout.split()[-1])


def speed(fits: int = 200, others: int = 3) -> None:
    """Time 200 fits of 4 x (1000 + 1000) draws at target_accept 0.95, and the alternatives."""
    logging.getLogger("pymc").setLevel(logging.ERROR)
    design = cross(
        scenario=["question"],
        parameterization=["non-centered"],
        target_accept=[0.95],
        replicate=range(fits),
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_grid(design, fit_trial, Path(folder) / "speed.parquet")
        total = time.perf_counter() - start
    ours = total / fits
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"fieldguide.studies.trial: {fits} fits in {total:.1f} s, {ours:.2f} s each")

    trials = [simulate_trial(VALID_SITES, seed=seed) for seed in range(others)]
    start = time.perf_counter()
    for trial in trials:
        with trial_model(trial):
            pm.sample(
                1000, tune=1000, chains=4, cores=2, target_accept=0.95, random_seed=1,
                progressbar=False,
            )  # fmt: skip
    each = (time.perf_counter() - start) / others
    print(f"one pm.sample per data set: {each:.2f} s each, {each / ours:.1f} times ours")

    each = brms_seconds(trials)
    ratio = "" if isinstance(each, str) else f" s each, {each / ours:.1f} times ours"
    print(f"brms update(recompile = FALSE): {each}{ratio}")

    settings = {"draws": 500, "tune": 500, "chains": 4, "cores": 2, "target_accept": 0.8}
    model = trial_model(trials[0], mutable=True)
    start = time.perf_counter()
    simuk.SBC(
        model, num_simulations=others, sample_kwargs=settings, seed=1, progress_bar=False
    ).run_simulations()
    each = (time.perf_counter() - start) / others
    cell = {"parameterization": "non-centered", "target_accept": 0.8, "draws": 500, "tune": 500}
    fit_sbc(cell | {"replicate": 0})  # compiles
    start = time.perf_counter()
    for replicate in range(1, 11):
        fit_sbc(cell | {"replicate": replicate})
    mine = (time.perf_counter() - start) / 10
    print(
        f"SBC: simuk {each:.2f} s a simulation, ours {mine:.2f} s on one core, {each / mine:.1f} times"
    )


def noted_trial(cell: dict) -> dict:
    """Fit a trial and leave a note: the file of a run at work is locked."""
    figures = fit_trial(cell)
    (Path(os.environ["NOTES"]) / str(cell["replicate"])).touch()
    return figures


def scale(fits: int = 10_000) -> None:
    """Make 10,000 fits of 4 x (50 + 50) draws; kill the run by force midway; resume it."""
    design = cross(
        scenario=["question"], parameterization=["non-centered"], target_accept=[0.9],
        tune=[50], draws=[50], replicate=range(fits),
    )  # fmt: skip

    def run(path):
        run_grid(design, noted_trial, path, progress=False)

    with tempfile.TemporaryDirectory() as folder:
        path, notes = Path(folder) / "scale.parquet", Path(folder) / "notes"
        notes.mkdir()
        os.environ["NOTES"] = str(notes)
        for leave in (fits // 2, None):
            start, peak = time.perf_counter(), 0
            process = multiprocessing.get_context("fork").Process(target=run, args=(path,))
            process.start()
            own = psutil.Process(process.pid)
            while process.is_alive():
                time.sleep(1)
                with contextlib.suppress(psutil.NoSuchProcess):
                    family = [own, *own.children(recursive=True)]
                    peak = max(peak, sum(p.memory_info().rss for p in family))
                if leave and len(os.listdir(notes)) > leave:
                    process.kill()
            process.join()
            seconds = time.perf_counter() - start
            what = "killed" if leave else "resumed and finished"
            print(f"{what} after {seconds:.0f} s, {peak / 2**20:.0f} MiB at most in all processes")
        table = pd.read_parquet(path)
        print(f"{len(table)} fits, {table['replicate'].nunique()} different ones")


def reduced() -> None:
    """Make the part of the factorial that a page makes, and say what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        table = run_grid(
            districts.reduced_design(),
            districts.fit_three_districts,
            Path(folder) / "reduced.parquet",
            group=districts.MODEL_COLUMNS,
        )
        total = time.perf_counter() - start
    print(f"{len(table)} fits in {total:.1f} s: {agreement(table, stored('factorial').table)}")
    # whatever else the machine was doing
    workers, own = (
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
    )
    print(f"processor time: {workers:.0f} s in the workers, {own:.0f} s here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measures = {"speed": speed, "scale": scale, "reduced": reduced}
    parser.add_argument("measure", choices=measures)
    measures[parser.parse_args().measure]()


if __name__ == "__main__":
    main()
