"""A course's folder: who takes it, what each is handed, what each has handed in.

::

    bayes-2027/
        course.json        the course's name
        roster.csv         student, name, email, id, section
        handout/ada/       what ada is given, by assignment
        submissions/02_cure/   what came back, as the platform gives it
        graded/02_cure/    what `fieldguide.course.grade` makes of it
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import nbformat
import pandas as pd

from fieldguide.course.personal import KEY, TOKEN_FILE, CourseError, personal_fit, student_token

MASTERS = Path("assignments")
"""Folder of the master notebooks, from the project's root."""
COLUMNS = ("student", "name", "email", "id", "section")
"""Of a roster; only the first must be there. ``id`` is the number that Canvas or Moodle has."""
ROSTER = ",".join(COLUMNS) + "\nada,Ada Lovelace,ada@example.org,1001,A\n"


# ---------------------------------------------------------------------------------------------
# Assignments


@dataclasses.dataclass(frozen=True)
class Question:
    """One question of an assignment: its name, its heading, and the points of a written answer."""

    name: str
    title: str
    written: float = 0


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A master notebook.

    Attributes
    ----------
    master : Path
        The notebook from which all versions are made.
    built : Path
        Where `make` puts them: ``student`` and ``autograder``.
    """

    master: Path
    built: Path

    @property
    def name(self) -> str:
        """Return the name, such as ``02_cure``."""
        return self.master.stem

    @cached_property
    def title(self) -> str:
        """Return the heading, such as ``2. Curing your districts``."""
        cells = nbformat.read(self.master, as_version=4).cells
        return next(c.source for c in cells if c.cell_type == "markdown").splitlines()[0].lstrip("# ")

    @cached_property
    def questions(self) -> list[Question]:
        """Return the questions in their order."""
        found, config = [], None
        for cell in nbformat.read(self.master, as_version=4).cells:
            if cell.cell_type == "raw" and cell.source.startswith("# BEGIN QUESTION"):
                config = dict(line.split(": ", 1) for line in cell.source.splitlines()[1:])
            elif config is not None:
                title = re.match(r"#+ (.*)", cell.source)
                words = title[1] if title else config["name"]
                written = float(config["points"]) if config.get("manual") == "true" else 0
                found.append(Question(config["name"], words, written))
                config = None
        return found

    @property
    def notebook(self) -> Path:
        """Return the student's version."""
        return self.built / "student" / self.master.name

    @property
    def solved(self) -> Path:
        """Return the instructor's version, with solutions."""
        return self.built / "autograder" / self.master.name

    @property
    def tests(self) -> list[Path]:
        """Return the files of all tests, hidden ones too."""
        return sorted((self.built / "autograder" / "tests").glob("*.py"))

    def make(self) -> Assignment:
        """Make all versions by otter-grader, unless they are those of this master already.

        Raises
        ------
        CourseError
            If otter-grader refuses the master.
        """
        mark = self.built / "made_from.ipynb"
        if mark.is_file() and mark.read_bytes() == self.master.read_bytes():
            return self
        shutil.rmtree(self.built, ignore_errors=True)
        self.built.mkdir(parents=True)
        command = [sys.executable, "-m", "otter", "assign", str(self.master), str(self.built)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or (not self.tests and any(not one.written for one in self.questions)):
            raise CourseError(
                f"otter-grader made no versions of {self.master}: {done.stderr.strip()[-500:]}"
            )
        shutil.copy(self.master, mark)
        return self


def assignments(masters: Path = MASTERS, built: Path = Path("_build/course")) -> list[Assignment]:
    """Return the assignments of a folder of masters.

    Raises
    ------
    CourseError
        If there are none.
    """
    found = [Assignment(path, built / path.stem) for path in sorted(masters.glob("[0-9]*.ipynb"))]
    if not found:
        raise CourseError(
            f"There is no assignment in {masters.absolute()}: run from the project's root."
        )
    return found


def assignment(name: str, masters: Path = MASTERS, built: Path = Path("_build/course")) -> Assignment:
    """Return an assignment by its name, number or any part of it that no other has.

    Raises
    ------
    CourseError
        If there is none, or several.
    """
    known = assignments(masters, built)
    chosen = [one for one in known if one.name == name] or [one for one in known if name in one.name]
    if len(chosen) != 1:
        raise CourseError(
            f"{name!r} is {'no' if not chosen else 'more than one'} assignment; there are "
            f"{', '.join(one.name for one in known)}."
        )
    return chosen[0]


# ---------------------------------------------------------------------------------------------
# The folder


@dataclasses.dataclass(frozen=True)
class Student:
    """A line of the roster; all but the first may be empty."""

    student: str
    name: str = ""
    email: str = ""
    id: str = ""
    section: str = ""


@dataclasses.dataclass(frozen=True)
class Classroom:
    """A course's folder.

    Attributes
    ----------
    folder : Path
    course : str
        The course's name, which with the key decides what everybody is given.
    students : tuple of Student
    """

    folder: Path
    course: str
    students: tuple[Student, ...]

    @classmethod
    def new(cls, folder: str | Path, course: str) -> Classroom:
        """Make a folder with a roster to be filled in.

        Raises
        ------
        CourseError
            If there is a course already.
        """
        folder = Path(folder)
        if (folder / "course.json").exists():
            raise CourseError(f"{folder} is a course already; delete its course.json to start over.")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "course.json").write_text(json.dumps({"course": course}) + "\n", encoding="utf-8")
        if not (folder / "roster.csv").exists():
            (folder / "roster.csv").write_text(ROSTER, encoding="utf-8")
        return cls.read(folder)

    @classmethod
    def read(cls, folder: str | Path) -> Classroom:
        """Read a course's folder.

        Raises
        ------
        CourseError
            If a file is missing or wrong; the message names the file, the row and the remedy.
        """
        folder = Path(folder)
        path = folder / "course.json"
        try:
            course = json.loads(path.read_text(encoding="utf-8"))["course"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CourseError(
                f"{path} does not name a course ({error}). Make one with: "
                f"python -m fieldguide.course new {folder} --course NAME"
            ) from None
        return cls(folder, str(course), tuple(_read_roster(folder / "roster.csv")))

    def student(self, name: str) -> Student:
        """Return a student by name.

        Raises
        ------
        CourseError
            If nobody is called that.
        """
        for one in self.students:
            if one.student == name:
                return one
        raise CourseError(f"{self.folder / 'roster.csv'} has no student {name!r}.")

    def handed_out(self, student: str, assignment: Assignment) -> Path:
        """Return the folder of what a student was handed for an assignment."""
        return self.folder / "handout" / student / assignment.name


def _read_roster(path: Path) -> Iterator[Student]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise CourseError(
            f"{path} cannot be read as a table ({error}). It has a line for each student, with the "
            f"columns {', '.join(COLUMNS)}."
        ) from None
    if "student" not in table:
        raise CourseError(f"{path} has no column student; it has {', '.join(table.columns)}.")
    seen: dict[str, int] = {}
    for k, row in enumerate(table.to_dict("records"), start=2):
        name = row["student"].strip()
        if not re.fullmatch(r"[\w@.+-]+", name) or name.startswith("."):
            raise CourseError(
                f"{path}, line {k}: {name!r} names no student; use letters, digits and @ . _ + - only, "
                "as in a login, for folders are called so."
            )
        if name.casefold() in seen:
            raise CourseError(
                f"{path}, line {k}: {name!r} stands in line {seen[name.casefold()]} already; take one "
                "out."
            )
        seen[name.casefold()] = k
        yield Student(name, *(row.get(column, "").strip() for column in COLUMNS[1:]))
    if not seen:
        raise CourseError(f"{path} has no students; give each a line.")


def course_key() -> str:
    """Return the instructor's key.

    Raises
    ------
    CourseError
        If it is not set.
    """
    key = os.environ.get(KEY, "")
    if not key:
        raise CourseError(
            f"{KEY} is not set. Make a key once, with: python -c 'import secrets; "
            "print(secrets.token_hex(16))'; keep it where students do not read, and set it before this."
        )
    return key


# ---------------------------------------------------------------------------------------------
# What is handed out


def check_key(room: Classroom, key: str) -> None:
    """Refuse another key, or name of the course, than was handed out with.

    Raises
    ------
    CourseError
        If a token in ``handout`` does not follow from them.
    """
    for one in room.students:
        path = room.folder / "handout" / one.student / TOKEN_FILE
        if path.is_file():
            token = json.loads(path.read_text(encoding="utf-8"))["token"]
            if token != student_token(one.student, room.course, key):
                raise CourseError(
                    f"{path} has a token that does not follow from this key and course.json: one of "
                    "them is another than when it was handed out. Set the key of then; to hand out "
                    "anew with another one, move handout away first."
                )


def hand_out(
    room: Classroom, chosen: Sequence[Assignment], *, key: str, common: Iterable[Path] = ()
) -> int:
    """Write what each student is given: notebooks without solutions, their token, their data.

    What is there already is left as it is, so that students who enrol later can be served by the same
    call, and nobody's saved fit changes.

    Parameters
    ----------
    room : Classroom
    chosen : sequence of Assignment
    key : str
        The instructor's.
    common : iterable of path
        Files that everybody is given besides, such as ``requirements.txt``.

    Returns
    -------
    int
        How many folders of an assignment are new.

    Raises
    ------
    CourseError
        If something was handed out with another key before; nothing is changed then.
    """
    check_key(room, key)
    new, common = 0, list(common)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(Assignment.make, chosen))
    for student in room.students:
        base = room.folder / "handout" / student.student
        base.mkdir(parents=True, exist_ok=True)
        token = student_token(student.student, room.course, key)
        about = {"student": student.student, "course": room.course, "token": token}
        (base / TOKEN_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        for path in common:
            shutil.copy(path, base / path.name)
        for one in chosen:
            target = room.handed_out(student.student, one)
            if target.exists():
                continue
            part = target.with_name(f".{one.name}.part")  # there whole or not at all
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(one.built / "student", part)
            if "fit.zarr" in one.notebook.read_text(encoding="utf-8"):
                fit = personal_fit(student.student, room.course, key=key)
                fit.to_zarr(part / "fit.zarr", zarr_format=2, consolidated=False)
            part.rename(target)
            new += 1
    return new


# ---------------------------------------------------------------------------------------------
# What comes back


def submissions(
    room: Classroom, assignment: Assignment, folder: Path | None = None
) -> tuple[dict, list]:
    """Find whose each notebook is, in whatever way the platform has named it.

    A name counts where it stands alone in the path: a student's login, number, address or full name
    (Canvas writes the last name first, and all in one).

    Parameters
    ----------
    room : Classroom
    assignment : Assignment
    folder : path, optional
        ``submissions/<assignment>`` of the course by default.

    Returns
    -------
    found : dict of str to Path
        By student; of several files the newest.
    problems : list of str
        Files that are nobody's, or that could be several students', and what to do.

    Raises
    ------
    CourseError
        If the folder is not there.
    """
    folder = room.folder / "submissions" / assignment.name if folder is None else Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not there: put what was handed in for {assignment.name} there.")
    found: dict[str, Path] = {}
    problems = [f"{path}: unpack this archive here." for path in sorted(folder.rglob("*.zip"))]
    paths = [path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    for path in sorted(paths, key=lambda path: (path.stat().st_mtime, path)):
        relative = path.relative_to(folder)
        whose = _whose(relative, room.students)
        if path.is_symlink() or not path.is_file():
            problems.append(f"{path}: not a file.")
        elif len(whose) != 1:
            names = f"{len(whose)} students ({', '.join(whose)})" if whose else "nobody of the roster"
            problems.append(f"{path}: of {names}; rename it to the student's login, as in ada.ipynb.")
        else:
            found[whose[0]] = path
    return found, problems


def _whose(relative: Path, students: Iterable[Student]) -> list[str]:
    """Return the students whom a path names, those whose login it is before those that it mentions."""
    whole = {relative.parts[0].casefold(), relative.stem.casefold()}
    students = list(students)
    exact = [one.student for one in students if one.student.casefold() in whole]
    if exact:
        return exact
    text = _squeezed(str(relative.with_suffix("")), keep=" _/.@+-")
    parts = set(re.split(r"[ _/]+", text)) | set(re.split(r"[ _/.@+-]+", text))
    parts |= {_squeezed(part) for part in re.split(r"[_/]+", text)}
    return [one.student for one in students if parts & set(_names(one))]


def _names(student: Student) -> Iterator[str]:
    words = [_squeezed(word) for word in student.name.split()]
    names = [student.student.casefold(), student.email.casefold(), student.id.casefold()]
    names += ["".join(words), "".join(words[-1:] + words[:-1])]
    yield from (name for name in names if name)


def _squeezed(text: str, keep: str = "") -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in plain if letter.isalnum() or letter in keep)
