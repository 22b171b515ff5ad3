"""What becomes of a graded class: a page for each student, tables for the gradebook, what is alike."""

from __future__ import annotations

import hashlib
import io
import json
import keyword
import shutil
import tokenize
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np
import pandas as pd

from fieldguide.course.classroom import Assignment, Classroom
from fieldguide.course.personal import CourseError

MARKS = ("student", "question", "points", "comment")
"""Columns of the file in which a person marks written answers."""
ALIKE = 90
"""Per cent from which on two submissions are listed as alike."""


# ---------------------------------------------------------------------------------------------
# Written answers


def written_answers(executed: Path, assignment: Assignment) -> dict[str, str]:
    """Return what a student wrote, by question: the Markdown between otter-grader's marks."""
    asked = [one.name for one in assignment.questions if one.written]
    found: dict[str, list[str]] = {}
    current: str | None = None
    for cell in _cells(executed):
        text = cell.get("source", "")
        if "<!-- BEGIN QUESTION -->" in text:
            current = asked[len(found)] if len(found) < len(asked) else None
            if current:
                found[current] = []
        elif "<!-- END QUESTION -->" in text:
            current = None
        elif current and "_Type your answer here" not in text:
            found[current].append(text)
    return {name: "\n\n".join(found.get(name, [])).strip() for name in asked}


def _cells(executed: Path) -> list[dict]:
    if not executed.is_file() or executed.stat().st_size > 50_000_000:
        return []
    try:
        return list(nbformat.read(executed, as_version=4).cells)
    except Exception:  # whatever a submission left there
        return []


def read_marks(
    path: Path, room: Classroom, assignment: Assignment, handed_in: Sequence[str]
) -> pd.DataFrame:
    """Return the points for written answers, and write a line for each that has none yet.

    Parameters
    ----------
    path : Path
        A CSV of `MARKS`, kept and filled in by a person; made if it is not there.
    room, assignment
    handed_in : sequence of str
        Students with a submission.

    Returns
    -------
    DataFrame
        ``points`` (NaN where none are given) and ``comment`` by student and question.

    Raises
    ------
    CourseError
        If a line is wrong; the message names it.
    """
    most = {one.name: one.written for one in assignment.questions if one.written}
    index = pd.MultiIndex.from_product([list(handed_in), list(most)], names=["student", "question"])
    marks = pd.DataFrame({"points": np.nan, "comment": ""}, index=index)
    if path.exists():
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        if list(table.columns) != list(MARKS):
            raise CourseError(
                f"{path} has the columns {', '.join(table.columns)}, not {', '.join(MARKS)}."
            )
        for k, row in enumerate(table.to_dict("records"), start=2):
            room.student(row["student"])
            if row["question"] not in most:
                raise CourseError(f"{path}, line {k}: there is no written question {row['question']!r}.")
            points = np.nan
            if row["points"].strip():
                try:
                    points = float(row["points"])
                except ValueError:
                    points = np.inf
                if not 0 <= points <= most[row["question"]]:
                    raise CourseError(
                        f"{path}, line {k}: points are {row['points']!r}, where a number from 0 to "
                        f"{most[row['question']]:g} is wanted."
                    )
            marks.loc[(row["student"], row["question"]), ["points", "comment"]] = [
                points,
                row["comment"],
            ]
    marks.sort_index().reset_index()[list(MARKS)].to_csv(path, index=False)
    return marks


# ---------------------------------------------------------------------------------------------
# Who is like whom


def alike(graded: Path, assignment: Assignment, students: Sequence[str]) -> pd.DataFrame:
    """Compare all pairs of submissions.

    Code is compared by its tokens, with names, texts and comments left out, and without the lines that
    everybody was handed: renaming and another layout do not hide a copy. Words are compared as they
    are. Draws are the same or not. Two who solved a task alone may well have written the same code, so
    a high figure is a reason to look, and no proof.

    Returns
    -------
    DataFrame
        ``first``, ``second``, ``code`` and ``words`` (per cent alike), ``same_draws`` (names of fits),
        for pairs at or above `ALIKE` or with the same draws, the most alike first.
    """
    from rapidfuzz import fuzz, process

    given = set(_lines(assignment.notebook))
    folders = [graded / "students" / student for student in students]
    code = [
        "\n".join(line for line in _lines(f / "executed.ipynb") if line not in given) for f in folders
    ]
    words = [" ".join(written_answers(f / "executed.ipynb", assignment).values()) for f in folders]
    draws = [_digests(f / "answers") for f in folders]
    compare = partial(process.cdist, scorer=fuzz.ratio, workers=-1, dtype=np.float32)
    tables = {"code": compare(code, code), "words": compare(words, words)}
    rows = []
    for a in range(len(students)):
        for b in range(a + 1, len(students)):
            row: dict[str, Any] = {"first": students[a], "second": students[b]}
            for name, texts in (("code", code), ("words", words)):
                row[name] = float(tables[name][a, b]) if texts[a] and texts[b] else 0.0
            row["same_draws"] = " ".join(sorted(draws[a][k] for k in draws[a].keys() & draws[b].keys()))
            if max(row["code"], row["words"]) >= ALIKE or row["same_draws"]:
                rows.append(row)
    table = pd.DataFrame(rows, columns=["first", "second", "code", "words", "same_draws"])
    return table.sort_values(["same_draws", "words", "code"], ascending=False, ignore_index=True)


def _lines(notebook: Path) -> list[str]:
    """Return the lines of a notebook's code as kinds of tokens; what is no Python as it stands."""
    lines = []
    for cell in _cells(notebook):
        if cell.get("cell_type") == "code":
            lines += _shapes(cell["source"])
    return lines


def _shapes(code: str) -> list[str]:
    lines: list[list[str]] = [[]]
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.NAME:
                lines[-1].append(token.string if keyword.iskeyword(token.string) else "n")
            elif token.type == tokenize.STRING:
                lines[-1].append("s")
            elif token.type == tokenize.NEWLINE:
                lines.append([])
            elif token.type in (tokenize.NUMBER, tokenize.OP):
                lines[-1].append(token.string)
    except (tokenize.TokenError, SyntaxError):
        return [line.strip() for line in code.splitlines() if line.strip()]
    return ["".join(line) for line in lines if line]


def _digests(answers: Path) -> dict[str, str]:
    """Return the names of fits by a digest of their draws."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.name.split(".")[0]
        for path in sorted(answers.glob("*.posterior.nc"))
        if path.is_file() and not path.is_symlink()
    }


# ---------------------------------------------------------------------------------------------
# Pages and tables


def write_reports(
    room: Classroom, assignment: Assignment, table: pd.DataFrame, problems: Sequence[str]
) -> dict[str, Path]:
    """Write everything that a graded class wants.

    Parameters
    ----------
    room, assignment
    table : DataFrame
        As `fieldguide.course.grade.grade_class` returns it.
    problems : sequence of str
        Files that could not be graded.

    Returns
    -------
    dict of str to Path
        ``overview`` (a page for the instructor), ``pages`` (a folder with a page for each student),
        ``marks``, ``grades``, ``canvas``, ``moodle`` and ``alike`` (tables).

    Raises
    ------
    CourseError
        If the file of marks is wrong.
    """
    graded = room.folder / "graded" / assignment.name
    paths = {name: graded / f"{name}.csv" for name in ("marks", "grades", "canvas", "moodle", "alike")}
    paths |= {"overview": graded / "overview.html", "pages": graded / "pages"}
    handed_in = list(table["student"])
    marks = read_marks(paths["marks"], room, assignment, handed_in)
    pairs = alike(graded, assignment, handed_in)
    pairs.round(1).to_csv(paths["alike"], index=False)
    grades = _grades(room, assignment, table, marks)
    grades.to_csv(paths["grades"], index=False)
    _canvas(room, assignment, grades).to_csv(paths["canvas"], index=False)
    _moodle(room, grades).to_csv(paths["moodle"], index=False)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fieldguide.course", "."), autoescape=True
    )
    shutil.rmtree(paths["pages"], ignore_errors=True)
    paths["pages"].mkdir()
    rows = {row["student"]: row for row in table.to_dict("records")}
    for grade in grades.to_dict("records"):
        if grade["student"] not in rows:
            continue
        page = environment.get_template("feedback.html").render(
            assignment=assignment,
            course=room.course,
            student=room.student(grade["student"]),
            grade=grade,
            waiting=bool(np.isnan(grade["total"])),
            fault=rows[grade["student"]]["fault"],
            errors=json.loads(rows[grade["student"]]["errors"]),
            questions=_by_question(assignment, rows[grade["student"]], marks, graded),
        )
        (paths["pages"] / f"{grade['student']}.html").write_text(page, encoding="utf-8")
    page = environment.get_template("overview.html").render(
        assignment=assignment,
        course=room.course,
        grades=grades.to_dict("records"),
        faults={name: row["fault"] or _errors(row) for name, row in rows.items()},
        cases=_success(table),
        pairs=pairs.head(50).to_dict("records"),
        more=max(0, len(pairs) - 50),
        problems=problems,
        seconds=float(table["seconds"].sum()),
    )
    paths["overview"].write_text(page, encoding="utf-8")
    return paths


def _errors(row: Mapping) -> str:
    count = len(json.loads(row["errors"]))
    return f"errors in {count} cell{'s' * (count > 1)}" if count else ""


def _by_question(
    assignment: Assignment, row: Mapping, marks: pd.DataFrame, graded: Path
) -> list[dict[str, Any]]:
    """Return what a page shows of each question: its tests, or the answer and its marks."""
    student, criteria = row["student"], json.loads(row["criteria"])
    wrote = written_answers(graded / "students" / student / "executed.ipynb", assignment)
    shown = []
    for one in assignment.questions:
        if one.written:
            mark = marks.xs((student, one.name)).to_dict()
            points = None if np.isnan(mark["points"]) else mark["points"]
            words = {"answer": wrote[one.name], "comment": mark["comment"]}
            shown.append({"title": one.title, "points": points, "possible": one.written, **words})
        else:
            tests = [test for test in criteria if test["question"] == one.title]
            points, possible = (sum(test[name] for test in tests) for name in ("points", "possible"))
            about = {"title": one.title, "points": points, "possible": possible}
            shown.append(about | {"tests": _together(tests)})
    return shown


def _together(tests: list[dict]) -> list[dict]:
    """Join tests in a row that failed for the same reason, so that a page says it once."""
    joined: list[dict] = []
    for test in tests:
        last = joined[-1] if joined else None
        if last and last["words"] and not test["points"] and last["words"].endswith(test["words"]):
            last["what"] += f", {test['what']}"
            last["possible"] += test["possible"]
        else:
            joined.append(dict(test))
    return joined


def _grades(
    room: Classroom, assignment: Assignment, table: pd.DataFrame, marks: pd.DataFrame
) -> pd.DataFrame:
    """Return points of everybody on the roster; a total where nothing waits to be marked."""
    by_student = table.set_index("student")
    written = sum(one.written for one in assignment.questions)
    rows: list[dict[str, Any]] = []
    possible = float(table["possible"].iloc[0]) + written
    for one in room.students:
        row: dict[str, Any] = {
            "student": one.student,
            "name": one.name,
            "handed_in": one.student in by_student.index,
        }
        if row["handed_in"]:
            checked = by_student["points"][one.student]
            read = marks.loc[[one.student], "points"].sum(skipna=False) if written else 0.0
            row |= {"checked": checked, "read": read, "total": checked + read, "possible": possible}
        else:
            row |= {"checked": np.nan, "read": np.nan, "total": np.nan, "possible": possible}
        rows.append(row)
    return pd.DataFrame(rows)


def _canvas(room: Classroom, assignment: Assignment, grades: pd.DataFrame) -> pd.DataFrame:
    """Return a table as Canvas' gradebook imports it; a missing total leaves its cell empty there."""
    students = [room.student(name) for name in grades["student"]]
    rows = pd.DataFrame(
        {
            "Student": [one.name or one.student for one in students],
            "ID": [one.id for one in students],
            "SIS User ID": "",
            "SIS Login ID": [one.student for one in students],
            "Section": [one.section for one in students],
            assignment.name: grades["total"].to_numpy(),
        }
    )
    possible = {"Student": "    Points Possible", assignment.name: grades["possible"].iloc[0]}
    return pd.concat([pd.DataFrame([possible]), rows], ignore_index=True)[list(rows.columns)]


def _moodle(room: Classroom, grades: pd.DataFrame) -> pd.DataFrame:
    """Return a table as Moodle's gradebook imports it, mapped by address or number."""
    students = [room.student(name) for name in grades["student"]]
    return pd.DataFrame(
        {
            "Full name": [one.name for one in students],
            "ID number": [one.id for one in students],
            "Email address": [one.email for one in students],
            "Grade": grades["total"].to_numpy(),
            "Feedback": [
                f"{row['checked']:g} points by the checks, {row['read']:g} for what you wrote."
                if row["total"] == row["total"]
                else ""
                for row in grades.to_dict("records")
            ],
        }
    )


def _success(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how many got each test right."""
    cases: dict[tuple, list[bool]] = {}
    for criteria in table["criteria"]:
        for one in json.loads(criteria):
            right = one["points"] >= one["possible"]
            cases.setdefault((one["question"], one["what"]), []).append(right)
    return [
        {"question": question, "what": what, "right": sum(got), "of": len(got)}
        for (question, what), got in cases.items()
    ]
