# ruff: noqa: E402  (threads are set before NumPy is imported)
"""Make the stored tables of the book, on this machine or on a Dask cluster.

Without a name: list the studies and whether their tables are current. An interrupted run goes on
where it stopped when the same command is given again.

To calibrate a trial of your own, give a table of its sites:

    python -m fieldguide.studies trial my_design.csv
    python -m fieldguide.studies trial --help
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one process per core; threads would only get in the way

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from fieldguide.data import DATA_FOLDER
from fieldguide.grid import GridError
from fieldguide.studies import Study, studies
from fieldguide.studies.cluster import ClusterError, cluster
from fieldguide.studies.make import kept, make, state


def main(arguments: Sequence[str] | None = None, of: Iterable[Study] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.
    of : iterable of Study, optional
        Studies to choose from; the book's by default.

    Returns
    -------
    int
        Exit code.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["trial"]:
        return _trial(arguments[1:])
    known = studies() if of is None else {study.name: study for study in of}
    parser = argparse.ArgumentParser(
        prog="python -m fieldguide.studies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a study, or all")
    parser.add_argument("--dask", metavar="ADDRESS", help="scheduler of a cluster to run on, tcp://...")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; one per core by default")
    parser.add_argument("--to", type=Path, default=DATA_FOLDER, metavar="FOLDER", help="where tables go")
    parser.add_argument("--stale", action="store_true", help="list tables that are not current; exit 1")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in known and name != "all"]
    if unknown:
        parser.error(f"there is no study {', '.join(unknown)}; there are {', '.join(known)}, and all")
    names = known if "all" in options.names else dict.fromkeys(options.names)
    if options.stale:
        return _list([known[name] for name in names or known], options.to, only_stale=True)
    if not names:
        return _list(known.values(), options.to)
    logging.getLogger("pymc").setLevel(logging.ERROR)
    for name in names:
        code = _make(known[name], options)
        if code:
            return code
    return 0


def _list(chosen: Iterable[Study], folder: Path, *, only_stale: bool = False) -> int:
    chosen = list(chosen)
    width = max((len(study.name) for study in chosen), default=0)
    stale = 0
    for study in chosen:
        now = state(study, folder)
        stale += now != "current"
        if now != "current" or not only_stale:
            print(f"{study.name:{width}}  {len(study.design()):5d} fits  {now:14}  {study.title}")
    return int(only_stale and stale > 0)


def _make(study: Study, options: argparse.Namespace) -> int:
    if state(study, options.to) == "current":
        print(f"{study.name}: {options.to / study.name}.parquet is current.")
        return 0
    try:
        with contextlib.ExitStack() as stack:
            settings = {"workers": options.workers}
            if options.dask:
                executor, cores = stack.enter_context(cluster(options.dask, study.fit))
                settings = {"executor": executor, "cores": cores}
            made = make(study, options.to, **settings)
    except KeyboardInterrupt:
        with contextlib.suppress(GridError):
            print(
                f"\n{study.name}: interrupted; {kept(study, options.to)} of {len(study.design())} fits "
                "are kept, and the same command goes on from there.",
                file=sys.stderr,
            )
        return 130
    except (GridError, ClusterError, ValueError) as error:
        print(f"{study.name}: {error}", file=sys.stderr)
        return 1
    seconds = made.provenance["wall_seconds"]
    print(
        f"{study.name}: {len(made.table)} fits in {seconds:.1f} s, in {options.to / study.name}.parquet"
    )
    return 0


def _trial(arguments: Sequence[str]) -> int:
    """Simulate, fit and score the reader's own trial many times; print and write what came of it."""
    from fieldguide.data import TrialError

    parser = argparse.ArgumentParser(
        prog="python -m fieldguide.studies trial",
        description="Simulate a planned trial many times, fit every one, and say how often the analysis "
        "would be right, how wide its intervals would be and in how many fits the sampler complains.",
        epilog="The table has the columns site, n (or n_control and n_treated), baseline and effect; "
        "with a column stratum one row per site and category. An interrupted run goes on where it "
        "stopped.",
    )
    parser.add_argument("design", metavar="CSV", type=Path, help="the table of sites")
    parser.add_argument("--trials", type=int, default=200, metavar="N", help="simulated trials (200)")
    parser.add_argument(
        "--sd", type=float, default=0.5, help="scale of the half-normal prior on the sds"
    )
    parser.add_argument("--target-accept", type=float, default=0.95, metavar="SHARE", help="0.95")
    parser.add_argument("--scale", default="probability", help="of baseline and effect: or logit")
    parser.add_argument("--allocation", default="1", metavar="RATIO", help="treated to control: 2:1")
    parser.add_argument("--stratum", action="append", metavar="COLUMN", help="a column of categories")
    parser.add_argument("--covariate", action="append", metavar="COLUMN", help="a column of numbers")
    parser.add_argument(
        "--population",
        metavar="NAME=NUMBER,...",
        help="draw sites from baseline=-2,effect=0.6,sd_intercept=0.5,sd_effect=0.5 (logits)",
    )
    parser.add_argument("--sbc", action="store_true", help="rank truths drawn from the priors as well")
    parser.add_argument(
        "--draws", type=int, default=1000, help="per chain, of four; and as many to tune"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes; one per core by default")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where files go; beside the table")
    options = parser.parse_args(arguments)
    try:
        return _run_trial(options)
    except KeyboardInterrupt:
        print(
            "\ntrial: interrupted; finished fits are kept, and the same command goes on.",
            file=sys.stderr,
        )
        return 130
    except (TrialError, GridError, ValueError) as error:
        print(f"trial: {error}", file=sys.stderr)
        return 1


def _run_trial(options: argparse.Namespace) -> int:
    import scipy.stats

    from fieldguide.priors import TrialPriors
    from fieldguide.studies.trial_design import TrialDesign, parse_population, trial_study

    if not options.sd > 0:
        raise ValueError(f"--sd must be a positive number, not {options.sd:g}.")
    settings = {
        "scale": options.scale,
        "allocation": options.allocation,
        "strata": options.stratum or (),
        "covariates": options.covariate or (),
        "target_accept": options.target_accept,
        "priors": TrialPriors(sd=scipy.stats.halfnorm(scale=options.sd)),
    }
    if options.population is not None:
        settings["population"] = parse_population(options.population)
    design = TrialDesign.read(options.design, **settings)
    out = options.out or options.design.with_name(f"{options.design.stem}_study")
    print(design, file=sys.stderr)
    study = trial_study(
        design,
        options.trials,
        sbc=options.sbc,
        draws=options.draws,
        tune=options.draws,
        file=out / "fits.parquet",
        workers=options.workers,
    )
    print(study)
    print()
    for path in study.save(out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
