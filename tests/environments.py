"""Go through the doors that ``book/run.md`` shows, each in an empty folder, and run a chapter there.

Takes minutes and needs a package index, so it is not a test that pytest collects:

    make environments                 every door, chapter 3
    make environments DOORS=download  one of them: requirements, conda, download, handout

``requirements`` and ``conda`` start from what is committed, ``download`` from the wheel and from the
notebook that the built page offers, ``handout`` from the folder that students are given, where an
assignment is run as well. Exits with 0 if the chapter ran behind every door, else with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from canary import ROOT, copy_checkout, run

from fieldguide.course import student_token

WITH_PIP = "python -m pip install -r requirements.txt -e ."
WITH_CONDA = "conda env create -f environment.yml"
ON_COLAB_ANYWAY = ["ipykernel", "matplotlib", "nbclient", "seaborn"]


class Failed(Exception):
    """A command failed; what it said stands above."""


def call(*command: str | Path, cwd: Path) -> None:
    """Run a command, which must pass."""
    if run(list(command), cwd):
        raise Failed(" ".join(map(str, command)))


def bare(folder: Path, python: str = sys.executable) -> Path:
    """Make an environment with pip and nothing else, and return its Python."""
    call(python, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin" / "python"


def requirements(folder: Path) -> Path:
    """Make the environment of ``requirements.txt`` with pip."""
    copy_checkout(folder / "checkout")
    python = bare(folder / "env")
    call(python, *WITH_PIP.split()[1:], "-q", cwd=folder / "checkout")
    return python


def conda(folder: Path) -> Path:
    """Make the environment of ``environment.yml``, as far as that can be done here."""
    copy_checkout(folder / "checkout")
    program = shutil.which("conda") or shutil.which("mamba")
    if program is None and "CONDA" in os.environ:  # where GitHub's machines have it
        program = shutil.which(Path(os.environ["CONDA"]) / "bin" / "conda")
    if program is not None:
        call(program, *WITH_CONDA.split()[1:], "-p", folder / "env", cwd=folder / "checkout")
        return folder / "env" / "bin" / "python"
    if "CI" in os.environ:
        raise Failed("conda: neither it nor mamba is on PATH")
    print("Neither conda nor mamba is on PATH: tried is only the pip part, with pip.", flush=True)
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (version,) = [one.removeprefix("python=") for one in listed if str(one).startswith("python=")]
    (lines,) = [one["pip"] for one in listed if isinstance(one, dict)]
    same = sys.version.startswith(f"{version}.")
    python = bare(folder / "env", sys.executable if same else f"python{version}")
    words = [word for line in lines for word in line.split()]
    call(python, *"-m pip install -q".split(), *words, cwd=folder / "checkout")
    return python


def download(folder: Path) -> Path:
    """Make what Colab has and add the package, as a wheel and in the versions of the lock."""
    call(sys.executable, "-m", "fieldguide.build", cwd=ROOT)
    call(sys.executable, *"-m hatchling build -t wheel -d".split(), folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    python = bare(folder / "env")
    locked = ["-c", ROOT / "requirements.txt"]
    call(python, *"-m pip install -q".split(), *locked, f"{wheel}[models]", *ON_COLAB_ANYWAY, cwd=folder)
    return python


def handout(folder: Path) -> Path:
    """Make what students are told to make, from the folder that they are given, and solve there."""
    call(sys.executable, *"-m fieldguide.course student".split(), folder / "student", cwd=ROOT)
    python = bare(folder / "env")
    call(python, *"-m pip install -q -r requirements.txt".split(), cwd=folder / "student")
    about = {"student": "ada", "course": "bayes", "token": student_token("ada", "bayes", "k" * 16)}
    (folder / "student" / "student.json").write_text(json.dumps(about), encoding="utf-8")
    place = folder / "student" / "assignments" / "02_cure"
    shutil.copy(ROOT / "_build" / "course" / "02_cure" / "autograder" / "02_cure.ipynb", place)
    call(python.with_name("jupyter-execute"), "02_cure.ipynb", cwd=place)
    return python


DOORS: dict[str, Callable[[Path], Path]] = {
    "requirements": requirements,
    "conda": conda,
    "download": download,
    "handout": handout,
}


def main() -> int:
    """Go through the chosen doors and say how long each took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=", ".join(DOORS))
    parser.add_argument("--chapters", default="03_*", help="which notebooks, such as '*' for all")
    options = parser.parse_args()
    said = []
    failed = False
    for door in options.doors or DOORS:
        with TemporaryDirectory(prefix="fieldguide-") as name:
            folder = Path(name).resolve()
            try:
                start = time.perf_counter()
                print(f"\n== {door}", flush=True)
                python = DOORS[door](folder)
                said.append(f"{door}: made in {time.perf_counter() - start:.0f} s")
                source = ROOT / "_build" / "html" / "_sources" if door == "download" else ROOT
                for path in sorted((source / "notebooks").glob(f"{options.chapters}.ipynb")):
                    place = folder / path.stem
                    place.mkdir()
                    shutil.copy(path, place)
                    start = time.perf_counter()
                    call(python.with_name("jupyter-execute"), path.name, cwd=place)
                    said[-1] += f", {path.stem} ran in {time.perf_counter() - start:.0f} s"
            except Failed as failure:
                said.append(f"{door}: FAILED at {failure}")
                failed = True
    print("", *said, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
