# ruff: noqa: E402  (threads are set before NumPy is imported)
"""Run a course: hand out, grade, and make the folder for students.

    python -m fieldguide.course new FOLDER --course NAME       a folder with a roster to fill in
    python -m fieldguide.course handout FOLDER                 what each student is given
    python -m fieldguide.course grade FOLDER ASSIGNMENT        grade what was handed in
    python -m fieldguide.course student [FOLDER]               chapters and assignments, no solutions

Run it from the project's root. An interrupted run goes on where it stopped when the same command is
given again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one process per core; threads would only get in the way

from fieldguide.course.classroom import Classroom, assignment, assignments, course_key, hand_out
from fieldguide.course.handout import for_everybody, student_folder
from fieldguide.course.personal import CourseError
from fieldguide.course.sandbox import WALLS, Limits, walls
from fieldguide.grid import GridError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        Exit code: 0, or 1 with a sentence where something is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m fieldguide.course",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    new = jobs.add_parser("new", help="make a course's folder")
    new.add_argument("folder", type=Path)
    new.add_argument("--course", required=True, metavar="NAME", help="such as bayes-2027")
    handout = jobs.add_parser("handout", help="write what each student is given")
    handout.add_argument("folder", type=Path)
    handout.add_argument("assignments", nargs="*", help="all by default")
    grade = jobs.add_parser("grade", help="grade what was handed in")
    grade.add_argument("folder", type=Path)
    grade.add_argument("assignment", help="such as 02_cure, or a part of it: cure")
    grade.add_argument("--submissions", type=Path, metavar="FOLDER", help="where they are, if elsewhere")
    grade.add_argument("--within", choices=WALLS, help="what keeps a submission in; the best by default")
    grade.add_argument("--seconds", type=float, default=Limits.seconds, help="for a submission (600)")
    grade.add_argument("--workers", type=int, metavar="N", help="processes; one per core by default")
    grade.add_argument("--dask", metavar="ADDRESS", help="scheduler of a cluster to run on, tcp://...")
    student = jobs.add_parser("student", help="make the folder for students, and an archive of it")
    student.add_argument("folder", type=Path, nargs="?", default=Path("_build/student"))
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("\nInterrupted; what was done is kept, and the same command goes on.", file=sys.stderr)
        return 130
    except (CourseError, GridError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.job == "new":
        room = Classroom.new(options.folder, options.course)
        print(f"Made {options.folder}. Put your students into {room.folder / 'roster.csv'}.")
    elif options.job == "handout":
        room = Classroom.read(options.folder)
        chosen = [assignment(name) for name in options.assignments] or assignments()
        new = hand_out(room, chosen, key=course_key(), common=for_everybody())
        print(
            f"New folders: {new}. Each student's is in {room.folder / 'handout'}: give it to that "
            "student alone."
        )
    elif options.job == "student":
        folder, archive = student_folder(options.folder)
        print(f"{folder}\n{archive}")
    else:
        return _grade(options)
    return 0


def _grade(options: argparse.Namespace) -> int:
    from fieldguide.course.grade import grade_class, grade_submission
    from fieldguide.course.reports import write_reports

    room, chosen = Classroom.read(options.folder), assignment(options.assignment)
    within = options.within or walls()
    if within != "bubblewrap":
        print(
            "bubblewrap is not used, so a submission can read what you can. It has limits, and no "
            "network where unshare works; see the guide before you grade strangers.",
            file=sys.stderr,
        )
    with contextlib.ExitStack() as stack:
        executor = None
        if options.dask:
            from fieldguide.studies.cluster import ClusterError, cluster

            try:
                executor, _ = stack.enter_context(cluster(options.dask, grade_submission))
            except ClusterError as error:
                raise CourseError(str(error)) from None
        table, problems = grade_class(
            room,
            chosen,
            key=course_key(),
            folder=options.submissions,
            within=within,
            limits=Limits(seconds=options.seconds),
            executor=executor,
            workers=options.workers,
        )
    paths = write_reports(room, chosen, table, problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    missing = len(room.students) - len(table)
    print(f"{len(table)} graded, {missing} not handed in.")
    print(f"{paths['overview']} for you, {paths['pages']} for your students.")
    print(f"{paths['marks']}: mark what was written there, and run this again for")
    print(f"{paths['grades']}, {paths['canvas']}, {paths['moodle']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
