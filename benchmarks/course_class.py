"""Time the grading of a class: right work in several styles, wrong work, one endless cell.

    python benchmarks/course_class.py 100 cure

    python benchmarks/course_class.py 1000 cure --dask 2 --others 0.9

The class is made in a temporary folder; each student has data of their own. Prints the wall time, that
of a submission, how much of the cores' time went into running notebooks, and who was not graded as they
must be. With --dask a cluster of so many processes grades; --others says which share of the class hands
in an empty file, so that a large class can be tried on a small machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nbformat

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from submissions import SUBMISSIONS, check

from fieldguide.course.classroom import Classroom, assignment, hand_out
from fieldguide.course.grade import grade_class
from fieldguide.course.reports import write_reports
from fieldguide.grid import _cores

KEY = "a key for this benchmark alone"
SLOW = ("an endless cell that cannot be interrupted",)


def main() -> None:
    """Make a class, grade it, and say how long that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", type=int, nargs="?", default=100)
    parser.add_argument("assignment", nargs="?", default="cure")
    parser.add_argument("--dask", type=int, default=0, metavar="WORKERS")
    parser.add_argument("--others", type=float, default=0.0, metavar="SHARE")
    options = parser.parse_args()
    os.chdir(ROOT)
    chosen = assignment(options.assignment).make()
    every = [one for one in SUBMISSIONS[chosen.name]() if one.name not in SLOW]
    endless = [one for one in every if one.name == "an endless cell"]
    every = [one for one in every if one not in endless]
    whole = round(options.students * (1 - options.others))
    empty = next(one for one in every if one.name == "empty file")
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        room = Classroom.new(name, "benchmark")
        logins = [f"s{k:04d}" for k in range(options.students)]
        room.folder.joinpath("roster.csv").write_text("student\n" + "\n".join(logins) + "\n")
        room = Classroom.read(name)
        if "fit.zarr" in chosen.notebook.read_text(encoding="utf-8"):
            hand_out(room, [chosen], key=KEY)
        folder = room.folder / "submissions" / chosen.name
        folder.mkdir(parents=True)
        solved = nbformat.read(chosen.solved, as_version=4)
        given = {}
        for k, login in enumerate(logins):
            one = endless[0] if k == 0 else every[k % len(every)] if k < whole else empty
            given[login] = one
            out = one.edit(solved)
            text = out if isinstance(out, bytes) else nbformat.writes(out).encode()
            (folder / f"{login}.ipynb").write_bytes(text)
        executor = None
        if options.dask:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=options.dask, threads_per_worker=1, dashboard_address=None)
            executor = stack.enter_context(Client(stack.enter_context(cluster))).get_executor()
        start = time.perf_counter()
        table, problems = grade_class(room, chosen, key=KEY, executor=executor)
        graded = time.perf_counter() - start
        write_reports(room, chosen, table, problems)
        reported = time.perf_counter() - start - graded
    wrong = {row.student: check(given[row.student], row._asdict()) for row in table.itertuples()}
    for login, words in wrong.items():
        if words:
            print(f"{login}, {given[login].name}:", *words, sep="\n    ")
    ran = table.loc[table["seconds"] > 0, "seconds"]
    cores = options.dask or _cores()
    print(
        f"{len(table)} of {chosen.name} in {graded / 60:.1f} min on {cores} cores, with the solution: "
        f"{sum(map(bool, wrong.values()))} not as they must be; {ran.median():.1f} s for one (median of "
        f"{len(ran)} that ran; longest {ran.max():.0f} s), of the cores' time "
        f"{ran.sum() / graded / cores:.0%}; pages and tables in {reported:.1f} s; load "
        f"{os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    main()
