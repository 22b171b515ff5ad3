"""Try the newest versions that pyproject.toml allows: what is newer than the lock, and what breaks.

Works in a copy of the checkout with an environment of its own, ``_build/canary``; the lock, the
environment and the built book of the checkout stay as they are. Not a test that pytest collects:

    make canary                      all steps, with the Python of .python-version
    make canary PYTHON=3.12          with another one
    make canary ONLY=versions        what is newer, without installing it

Exits with 0 if every step passed, else with 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = {
    "versions": "resolve the newest versions",
    "environment": "install them",
    "imports": "import every module of the package",
    "stale": "recognise every stored table by the code that made it",
    "book": "build the book",
    "tests": "run the tests",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen steps; say what is newer first, and last what failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=(ROOT / ".python-version").read_text().strip())
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP")
    parser.add_argument(
        "--to", type=Path, default=ROOT / "_build" / "canary", help="where the copy goes"
    )
    parser.add_argument("--uv", default=shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv"))
    options = parser.parse_args(arguments)

    copy = options.to.resolve()
    copy_checkout(copy)
    uv = Path(shutil.which(options.uv) or options.uv).resolve()
    before = locked(copy / "uv.lock")
    if run([uv, "lock", "--upgrade", "--quiet", "--python", options.python], copy):
        print("The newest versions do not go together: see uv's message above.")
        return 1
    if run(["make", "--silent", "lock", f"UV={uv}"], copy):  # requirements.txt follows the lock
        return 1
    newer = changes(before, locked(copy / "uv.lock"))
    print(table(newer) if newer else "Nothing is newer than the lock.", flush=True)

    python = copy / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    imports = (
        "import importlib, pkgutil, fieldguide as package; "
        "modules = [one.name for one in pkgutil.walk_packages(package.__path__, 'fieldguide.')]; "
        "[importlib.import_module(name) for name in modules if not name.endswith('__main__')]; "
        "print(len(modules), 'modules')"
    )
    commands = {
        "environment": [uv, *f"sync --locked -q --compile-bytecode --python {options.python}".split()],
        "imports": [python, "-c", imports],
        "stale": [python, "-m", "fieldguide.studies", "--stale"],
        "book": [python, "-m", "fieldguide.build"],
        "tests": [python, *"-m pytest -n auto --dist worksteal".split()],
    }
    failed = []
    for step, command in commands.items():
        if step in options.only:
            print(f"\n== {STEPS[step]}", flush=True)
            if run(command, copy):
                failed.append(step)
                if step == "environment":
                    break  # nothing can be tried without it
    done = [STEPS[step] for step in options.only if step not in failed]
    print(f"\nPython {options.python}, {len(newer)} packages not as locked.")
    print("passed:", "; ".join(done) or "nothing")
    print("failed:", "; ".join(STEPS[step] for step in failed) or "nothing")
    return int(bool(failed))


def copy_checkout(to: Path) -> None:
    """Write what is committed into an empty folder, keeping the environment of an earlier canary.

    It becomes a repository of its own, so that git, asked there, does not answer for this one.
    """
    to.mkdir(parents=True, exist_ok=True)
    for old in to.iterdir():
        if old.name not in (".venv", ".uv"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    with subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE) as archive:
        with tarfile.open(fileobj=archive.stdout, mode="r|") as files:
            files.extractall(to, filter="data")
            archive.stdout.read()  # what git pads the archive with, lest git be cut off
    if archive.returncode:
        raise SystemExit("git archive failed: the canary copies what is committed in this checkout.")
    identity = ["-c", "user.name=canary", "-c", "user.email=canary@localhost"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-m", "a copy"]):
        subprocess.run(["git", *command], cwd=to, check=True, stdout=subprocess.DEVNULL)


def locked(path: Path) -> dict[str, str]:
    """Return the versions of a lock by package; several versions of one as they are listed."""
    found: dict[str, list[str]] = {}
    for package in tomllib.loads(path.read_text(encoding="utf-8"))["package"]:
        if "registry" in package.get("source", {}):
            found.setdefault(package["name"], []).append(package["version"])
    return {name: ", ".join(versions) for name, versions in found.items()}


def changes(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return name, locked and newest version of every package that is not the same in both."""
    return [
        (name, before.get(name, "-"), after.get(name, "-"))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def table(rows: list[tuple[str, str, str]]) -> str:
    """Lay out the changes under their headings."""
    rows = [("package", "locked", "newest"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def run(command: list, folder: Path) -> int:
    """Run a command in the copy, with nothing of this checkout's environment; return its exit code."""
    kept = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "UV_PYTHON")}
    return subprocess.run([str(part) for part in command], cwd=folder, env=kept).returncode


if __name__ == "__main__":
    sys.exit(main())
