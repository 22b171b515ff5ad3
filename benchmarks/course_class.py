"""Time the grading of a class: right work in several styles, wrong work, one endless cell.

    python benchmarks/course_class.py 100 cure

The class is made in a temporary folder; each student has data of their own. Prints the wall time, that
of a submission, and how much of both cores' time went into running notebooks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nbformat

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from submissions import SUBMISSIONS

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
    options = parser.parse_args()
    os.chdir(ROOT)
    chosen = assignment(options.assignment).make()
    every = [one for one in SUBMISSIONS[chosen.name]() if one.name not in SLOW]
    endless = [one for one in every if one.name == "an endless cell"]
    every = [one for one in every if one not in endless]
    with tempfile.TemporaryDirectory() as name:
        room = Classroom.new(name, "benchmark")
        logins = [f"s{k:04d}" for k in range(options.students)]
        room.folder.joinpath("roster.csv").write_text("student\n" + "\n".join(logins) + "\n")
        room = Classroom.read(name)
        if "fit.zarr" in chosen.notebook.read_text(encoding="utf-8"):
            hand_out(room, [chosen], key=KEY)
        folder = room.folder / "submissions" / chosen.name
        folder.mkdir(parents=True)
        solved = nbformat.read(chosen.solved, as_version=4)
        for k, login in enumerate(logins):
            one = endless[0] if k == 0 else every[k % len(every)]
            out = one.edit(solved)
            text = out if isinstance(out, bytes) else nbformat.writes(out).encode()
            (folder / f"{login}.ipynb").write_bytes(text)
        start = time.perf_counter()
        table, problems = grade_class(room, chosen, key=KEY)
        graded = time.perf_counter() - start
        write_reports(room, chosen, table, problems)
        reported = time.perf_counter() - start - graded
    ran = table["seconds"]
    print(
        f"{len(table)} of {chosen.name} in {graded / 60:.1f} min on {_cores()} cores, the solution's "
        f"first; {ran.median():.1f} s for one (median; longest {ran.max():.0f} s), of two cores' time "
        f"{ran.sum() / graded / _cores():.0%}; pages and tables in {reported:.1f} s; load "
        f"{os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    main()
