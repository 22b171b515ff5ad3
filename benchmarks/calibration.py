"""Make the stored tables of chapter 10, and measure how fast simulated trials are fitted.

    python benchmarks/calibration.py divergences   # data/trial_divergences.parquet
    python benchmarks/calibration.py reference     # data/trial_reference.parquet
    python benchmarks/calibration.py coverage      # data/trial_coverage.parquet
    python benchmarks/calibration.py sbc           # data/trial_sbc.parquet
    python benchmarks/calibration.py precision     # data/trial_precision.parquet
    python benchmarks/calibration.py speed         # 200 fits, against pm.sample, brms and simuk
    python benchmarks/calibration.py scale         # 10,000 short fits, killed midway and resumed

An interrupted run goes on where it stopped. Each table gets a JSON file beside it that says how
it was made.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one process per core; threads would only get in the way

import argparse
import contextlib
import logging
import multiprocessing
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pymc as pm
import simuk

from fieldguide import calibration, experiments
from fieldguide.data import VALID_SITES, as_rows, simulate_trial
from fieldguide.models.trial import trial_model

DATA = Path(__file__).resolve().parents[1] / "data"
STUDIES = {
    "divergences": (calibration.divergence_design, calibration.fit_trial),
    "reference": (
        lambda: calibration.reference_design(calibration.divergence_design()),
        calibration.fit_reference,
    ),
    "coverage": (calibration.coverage_design, calibration.fit_trial),
    "sbc": (calibration.sbc_design, calibration.fit_sbc),
    "precision": (calibration.precision_design, calibration.fit_trial),
}


def study(name: str) -> None:
    make_design, fit = STUDIES[name]
    design = make_design()
    group = [column for column in ("scenario", "parameterization") if column in design]
    # Built beside the stored table, which stays as it is until the new one is whole.
    work, final = DATA / f"trial_{name}.work.parquet", DATA / f"trial_{name}.parquet"
    start = time.perf_counter()
    table = experiments.run_grid(design, fit, work, group=group)
    seconds = time.perf_counter() - start
    work.replace(final)
    sidecar = experiments.write_provenance(
        final,
        table,
        design,
        data={"population": calibration.POPULATION, "seed": "the replicate's number"},
        command=f"python benchmarks/calibration.py {name}",
        seconds=seconds,
    )
    print(f"{len(table)} fits in {seconds:.1f} s: {final.name}, {sidecar.name}")


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
    design = experiments.cross(
        scenario=["question"],
        parameterization=["non-centered"],
        target_accept=[0.95],
        replicate=range(fits),
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        experiments.run_grid(design, calibration.fit_trial, Path(folder) / "speed.parquet")
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
    calibration.fit_sbc(cell | {"replicate": 0})  # compiles
    start = time.perf_counter()
    for replicate in range(1, 11):
        calibration.fit_sbc(cell | {"replicate": replicate})
    mine = (time.perf_counter() - start) / 10
    print(
        f"SBC: simuk {each:.2f} s a simulation, ours {mine:.2f} s on one core, {each / mine:.1f} times"
    )


def scale(fits: int = 10_000) -> None:
    """Make 10,000 fits of 4 x (50 + 50) draws; kill the run by force midway; resume it."""
    design = experiments.cross(
        scenario=["question"], parameterization=["non-centered"], target_accept=[0.9],
        tune=[50], draws=[50], replicate=range(fits),
    )  # fmt: skip

    def run(path):
        experiments.run_grid(design, calibration.fit_trial, path, progress=False)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.parquet"
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
                parts = path.with_name(path.name + ".parts").glob("*.parquet")
                if leave and sum(pq.read_metadata(part).num_rows for part in parts) > leave:
                    process.kill()
            process.join()
            seconds = time.perf_counter() - start
            what = "killed" if leave else "resumed and finished"
            print(f"{what} after {seconds:.0f} s, {peak / 2**20:.0f} MiB at most in all processes")
        table = pd.read_parquet(path)
        print(f"{len(table)} fits, {table['replicate'].nunique()} different ones")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=[*STUDIES, "speed", "scale"])
    name = parser.parse_args().study
    others = {"speed": speed, "scale": scale}
    others[name]() if name in others else study(name)


if __name__ == "__main__":
    main()
