"""What students are given: chapters and assignments without solutions, and the way to run them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from fieldguide.course.classroom import MASTERS, assignments
from fieldguide.course.personal import CourseError

CHAPTERS = Path("notebooks")
SOLUTION = "Show the solution"
"""How a chapter labels a cell with a solution."""
ANSWER = re.compile(r"<details><summary>Answer</summary>.*?</details>\n*", re.DOTALL)
PLACE = "# Your solution\n"

README = """# For students

Chapters to read and run, and assignments to solve. In an environment with Python 3.12 or later:

    python -m pip install -r requirements.txt
    jupyter lab

In Colab upload this folder's archive, and run in a first cell, once:

    !unzip -q student.zip
    %cd student
    %pip install -q -r requirements.txt

then restart the session, and begin each notebook with `%cd` into the folder where it lies. On Binder
put this folder into a repository; its `requirements.txt` is all that is needed.

Put the `student.json` that your instructor gives you beside this file. Exercises in the chapters have
hints; their solutions are in the book.
"""


def without_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a chapter with an empty cell in the place of each solution, and no written answers.

    Parameters
    ----------
    notebook : NotebookNode
        A chapter of the book.

    Returns
    -------
    NotebookNode
        A copy.
    """
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = ANSWER.sub("", cell.source).rstrip()
        elif cell.metadata.get("mystnb", {}).get("code_prompt_show") == SOLUTION:
            cell.source, cell.metadata, cell.outputs = PLACE, nbformat.NotebookNode(), []
    return copy


def for_everybody(built: Path = Path("_build/course")) -> list[Path]:
    """Make the package's wheel and the list of what to install, which every student is given.

    Returns
    -------
    list of Path
        ``requirements.txt`` and the wheel that it names.

    Raises
    ------
    CourseError
        If the wheel cannot be built.
    """
    folder = built / "common"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise CourseError(f"The package could not be built as a wheel: {done.stderr.strip()[-500:]}")
    locked = (MASTERS / "requirements.txt").read_text(encoding="utf-8")
    listing = folder / "requirements.txt"
    listing.write_text(f"./{wheels[0].name}\n{locked}", encoding="utf-8")
    return [listing, wheels[0]]


def student_folder(folder: Path, built: Path = Path("_build/course")) -> tuple[Path, Path]:
    """Write chapters and assignments for students, without any solution.

    Parameters
    ----------
    folder : Path
        Made anew.
    built : Path
        For what is made on the way.

    Returns
    -------
    folder, archive : Path
        The same as a zip file beside it.

    Raises
    ------
    CourseError
        If `folder` holds something else.
    """
    if folder.exists() and not (folder / "chapters").is_dir() and any(folder.iterdir()):
        raise CourseError(f"{folder} holds something else; choose another folder.")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "chapters").mkdir(parents=True)
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        notebook = without_solutions(nbformat.read(path, as_version=4))
        nbformat.write(notebook, folder / "chapters" / path.name)
    for one in assignments(built=built):
        shutil.copytree(one.make().built / "student", folder / "assignments" / one.name)
    for path in for_everybody(built):
        shutil.copy(path, folder / path.name)
    (folder / "README.md").write_text(README, encoding="utf-8")
    archive = shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
    return folder, Path(archive)
