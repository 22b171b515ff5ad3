"""Grade what a class handed in: run each notebook behind walls, then judge what it answered.

A submission never meets the tests: it runs in a process of its own with its student's data and nothing
else, and leaves its answers as data. The tests, hidden ones too, run here, on those answers and on data
that follow from the key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from fieldguide.course.answers import NoAnswer, read_answers
from fieldguide.course.classroom import Assignment, Classroom, check_key, submissions
from fieldguide.course.personal import (
    TOKEN_FILE,
    CourseError,
    fault_of,
    personal_districts,
    personal_schools,
    personal_trial,
    student_token,
)
from fieldguide.course.sandbox import Limits, Outcome, run_notebook, walls
from fieldguide.grid import run_grid

GIVEN = {"counts": personal_districts, "trial": personal_trial, "schools": personal_schools}
"""Names in a test that stand for the student's data, as they follow from the token."""
TRUSTED = {*GIVEN, "handed", "student", "term", "env"}
"""Names in a test that only the grader supplies."""
LARGEST = 200_000_000
"""Bytes of a notebook that is still looked at."""


# ---------------------------------------------------------------------------------------------
# Tests


def load_tests(assignment: Assignment) -> Iterator[tuple[str, Any]]:
    """Yield question and test case, in order, of those that give points."""
    from otter.test_files.exception_test import ExceptionTestFile

    for path in assignment.tests:
        for case in ExceptionTestFile.from_file(str(path)).test_cases:
            if case.points:
                yield path.stem, case.body


def names_asked(assignment: Assignment) -> list[str]:
    """Return the variables of a submission that its tests look at."""
    return sorted(_parameters(assignment) - TRUSTED)


def judge(assignment: Assignment, answers: Mapping[str, Any], given: Mapping[str, Any]) -> list[dict]:
    """Run the tests of an assignment on answers.

    Parameters
    ----------
    assignment : Assignment
    answers : mapping
        By name.
    given : mapping
        What the grader knows better: it replaces an answer of the same name.

    Returns
    -------
    list of dict
        ``question``, ``what``, ``points``, ``possible`` and ``words`` of each test.
    """
    environment, found = {**answers, **given}, []
    titles = {one.name: one.title for one in assignment.questions}
    for question, case in load_tests(assignment):
        asked = [name for name in case._get_func_params() if name != "env"]
        points, words = 0, _unanswered(asked, environment)
        if not words:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    case.call_func(environment)
                points = case.points
            except AssertionError as error:
                words = str(error)
            except Exception as error:
                words = _not_judged(error)
        found.append(
            {
                "question": titles.get(question, question),
                "what": _in_words(case.test_func.__name__),
                "points": points,
                "possible": case.points,
                "words": words,
            }
        )
    return found


def _in_words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ").replace("non centered", "non-centered")


def _unanswered(asked: Iterable[str], environment: Mapping[str, Any]) -> str:
    missing = [name for name in asked if name not in environment]
    if missing:
        return f"There is no {' and no '.join(missing)} in your notebook."
    odd = [f"{name} is {environment[name]}" for name in asked if isinstance(environment[name], NoAnswer)]
    return f"This cannot be graded: {', '.join(odd)}." if odd else ""


def _not_judged(error: Exception) -> str:
    if isinstance(error, KeyError) and str(error.args[0]).startswith("_"):
        return "Nothing could be judged, for what stands above."
    return f"This could not be judged ({type(error).__name__}: {str(error)[:200]})."


# ---------------------------------------------------------------------------------------------
# One submission


def grade_submission(cell: Mapping) -> dict:
    """Run and judge one submission.

    Parameters
    ----------
    cell : mapping
        ``job`` (JSON, see `grade_class`); ``student`` and ``digest`` of the file tell cells apart.

    Returns
    -------
    dict
        ``points``, ``possible``, ``criteria`` (JSON of `judge`), ``fault``, ``errors`` (JSON) and
        ``seconds``.
    """
    logging.disable(logging.ERROR)  # samplers and readers talk
    job = json.loads(cell["job"])
    assignment = Assignment(Path(job["master"]), Path(job["built"]))
    folder = Path(job["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    source, outcome = Path(job["path"]), Outcome("", (), 0.0)
    answers: dict[str, Any] = {}
    names = names_asked(assignment)
    size = source.stat().st_size
    if size == 0 or size > LARGEST:
        words = f"The file has {size / 1e6:.0f} MB." if size else "The file is empty."
        outcome = Outcome(words, (), 0.0)
        folder.mkdir()
    else:
        with tempfile.TemporaryDirectory(prefix="fg") as here:  # a short path: sockets need that
            beside = _beside(job, Path(here))
            outcome = run_notebook(
                source.read_text(encoding="utf-8", errors="replace"),
                names,
                Path(here) / "run",
                called=assignment.master.name,
                beside=beside,
                within=job["within"],
                limits=Limits(**job["limits"]),
                compiled=job["compiled"],
                keep_compiled=job.get("keep_compiled"),
            )
            run = Path(here) / "run"
            folder.mkdir()
            for part in ("answers", "executed.ipynb"):
                if (run / part).exists() and not (run / part).is_symlink():
                    shutil.move(run / part, folder / part)
            answers = read_answers(folder / "answers", names) if (folder / "answers").is_dir() else {}
    criteria = judge(assignment, answers, _given(job))
    return {
        "points": float(sum(one["points"] for one in criteria)),
        "possible": float(sum(one["possible"] for one in criteria)),
        "criteria": json.dumps(criteria),
        "fault": outcome.fault,
        "errors": json.dumps(outcome.errors),
        "seconds": outcome.seconds,
    }


def _beside(job: Mapping, here: Path) -> dict[str, Path]:
    """Return what lies beside a student's notebook where it runs: the token, and data handed out."""
    token = here / TOKEN_FILE
    token.write_text(json.dumps({name: job[name] for name in ("student", "course", "token")}))
    handed = Path(job["handed_out"])
    keep = [] if not handed.is_dir() else [p for p in handed.iterdir() if p.suffix in (".zarr", ".csv")]
    return {TOKEN_FILE: token, **{path.name: path for path in keep}}


def _given(job: Mapping) -> dict[str, Any]:
    """Return what the tests must not take from a submission."""
    who = (job["student"], job["course"])
    given: dict[str, Any] = {"student": who[0], "term": who[1], "handed": job["handed"]}
    given |= {
        name: draw(*who, token=job["token"]) for name, draw in GIVEN.items() if name in job["given"]
    }
    fit = Path(job["handed_out"]) / "fit.zarr"
    if fit.is_dir():
        given["fit"] = xr.open_datatree(fit, engine="zarr", consolidated=False).load()
    return given


# ---------------------------------------------------------------------------------------------
# A class


def grade_class(
    room: Classroom,
    assignment: Assignment,
    *,
    key: str,
    folder: Path | None = None,
    within: str | None = None,
    limits: Limits | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Grade everything that was handed in for an assignment.

    First the instructor's own solution is graded, on the data of the roster's first student: it must
    get every point, or something is wrong here and not with the class. What it compiled is then at
    hand for everybody. Each graded submission is on disk before the next; an interrupted call goes on
    where it stopped, and a file that was handed in anew is graded anew.

    Parameters
    ----------
    room : Classroom
    assignment : Assignment
    key : str
        The instructor's.
    folder : path, optional
        Of the submissions, see `fieldguide.course.classroom.submissions`.
    within : {"bubblewrap", "limits"}, optional
        See `fieldguide.course.sandbox`; the best that works here by default.
    limits : Limits, optional
    executor, workers, progress
        See `fieldguide.grid.run_grid`. The machines of a cluster must see the course's folder, and the
        project, under the same paths.

    Returns
    -------
    table : DataFrame
        One row for each submission, with the figures of `grade_submission`.
    problems : list of str
        Files that could not be graded, and why.

    Raises
    ------
    CourseError
        If nothing was handed in, the key is another than that of the hand-out, or the solution fails.
    """
    found, problems = submissions(room, assignment, folder)
    if not found:
        raise CourseError("\n".join(["Nothing was handed in that could be graded.", *problems]))
    assignment.make()
    within, limits = within or walls(), limits or Limits()
    graded = room.folder.resolve() / "graded" / assignment.name
    asked, version = _parameters(assignment), _version(assignment)
    common = {
        "course": room.course,
        "master": str(assignment.master.resolve()),
        "built": str(assignment.built.resolve()),
        "within": within,
        "limits": vars(limits),
        "compiled": str(graded / ".compiled"),
        "given": sorted(GIVEN.keys() & asked),
    }

    def job(student: str, path: Path, where: Path) -> str:
        own = {
            "student": student,
            "token": student_token(student, room.course, key),
            "handed": fault_of(student, room.course, key=key) if "handed" in asked else {},
            "handed_out": str(room.handed_out(student, assignment).resolve()),
            "path": str(path.resolve()),
            "folder": str(where),
        }
        return json.dumps(common | own)

    first = room.students[0].student
    check_key(room, key)
    if "fit.zarr" in assignment.notebook.read_text(encoding="utf-8"):
        for student in {first, *found}:
            _check_handed_out(room.handed_out(student, assignment))
    solution = job(first, assignment.solved, graded / ".solution")
    _check_solution(solution, graded, assignment, version)
    rows = []
    for student in sorted(found):
        digest = hashlib.sha256(found[student].read_bytes()).hexdigest()[:16]
        where = graded / "students" / student
        rows.append({"student": student, "digest": digest, "job": job(student, found[student], where)})
    table = run_grid(
        pd.DataFrame(rows),
        grade_submission,
        graded / "results.parquet",
        executor=executor,
        workers=workers,
        progress=progress,
        version=version,
    )
    return table, problems


def _check_handed_out(folder: Path) -> None:
    if not (folder / "fit.zarr").is_dir():
        raise CourseError(
            f"{folder / 'fit.zarr'} is not there, the fit that was handed out, and without it "
            "nothing can be told. Hand out first, or put the folder back."
        )


def _parameters(assignment: Assignment) -> set[str]:
    return {name for _, case in load_tests(assignment) for name in case._get_func_params()}


def _version(assignment: Assignment) -> str:
    """Return a digest of what decides over points: the tests, and the code that they and we use."""
    from fieldguide.studies.code import code_digest

    digest = hashlib.sha256(code_digest(grade_submission).encode())
    own = ("answers.py", "grading.py", "inside.py")  # what the tests and the notebook's process use
    for path in [*assignment.tests, *(Path(__file__).with_name(name) for name in own)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _check_solution(job: str, graded: Path, assignment: Assignment, version: str) -> None:
    """Grade the instructor's solution, and keep what it compiled for the class."""
    compiled, mark = graded / ".compiled", graded / ".solution" / "passed"
    if compiled.is_dir() and mark.is_file() and mark.read_text() == version:
        return
    shutil.rmtree(compiled, ignore_errors=True)
    keep = json.loads(job) | {"keep_compiled": str(compiled)}
    for name in ("seconds", "cell_seconds"):
        keep["limits"][name] *= 3  # it compiles what the class then finds compiled
    row = grade_submission({"job": json.dumps(keep)})
    if row["points"] < row["possible"]:
        wrong = [one for one in json.loads(row["criteria"]) if one["points"] < one["possible"]]
        words = "\n".join(f"  {one['question']}, {one['what']}: {one['words']}" for one in wrong)
        raise CourseError(
            f"The solution of {assignment.name} itself gets {row['points']:g} of {row['possible']:g} "
            f"points here, so nobody was graded. {row['fault']} {' '.join(json.loads(row['errors']))}\n"
            f"{words}"
        )
    mark.write_text(version)
