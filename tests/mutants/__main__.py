"""Change the project in many small ways, one at a time, and see which change no check notices.

``make mutants`` works on a copy of the last commit in ``_build/mutants``, with an environment of its
own. For each mutant the copy is changed, checks are run in order of their cost until one fails, and the
copy is restored: first the check that is likely to notice, then the style, the quick tests, and at last
the book with all tests. A failing check counts only if it passes on the unchanged copy.

Results are kept in ``_build/mutants/results.jsonl``; an interrupted call goes on where it was, and a
mutant is tried again when its definition or the tests have changed. The end is a table in Markdown, and
exit code 1 if a mutant survived or no longer applies. Options go through make:
``make mutants MUTANTS="--quick --only words"``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
from definitions import HERE, DoesNotApplyError, Mutant, read_mutants
from tqdm import tqdm

ROOT = HERE.parents[1]
WORK = ROOT / "_build" / "mutants"
MARK = "FIELDGUIDE_MUTANT"
"""Environment variable that every process started for a mutant carries, so that none is forgotten."""

SURVIVED, NO_MATCH = "SURVIVED", "does not apply"
STOP = threading.Event()  # set by Ctrl-C: what was under way then says nothing
SECONDS = {"first": 900, "lint": 600, "quick": 1200, "book": 1800, "tests": 5400}


# ---------------------------------------------------------------------------------------------
# One command, and what it says


def run(command: list, folder: Path, seconds: float) -> tuple[int | str, str, float]:
    """Run a command to its end or its time, and end whatever it leaves behind.

    Returns its exit code (or ``"too slow"``), what it printed, and the seconds it took.
    """
    mark = uuid.uuid4().hex
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment |= {MARK: mark, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    environment["PATH"] = os.pathsep.join([str(ROOT / ".uv" / "bin"), environment.get("PATH", "")])
    start = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        code: int | str = process.returncode
    except subprocess.TimeoutExpired:
        _end(mark)
        output, code = process.communicate()[0], "too slow"
    finally:
        _end(mark)
    if STOP.is_set():
        raise KeyboardInterrupt
    return code, output, time.monotonic() - start


def _end(mark: str) -> None:
    """Kill the processes of one command, wherever they have gone."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                process.kill()


WORDS = (
    (r"^(?:FAILED|ERROR) ((?:tests|src)/.*)$", "{}"),
    (r"This page claims: (.*?) That is false", "claim: {}"),
    (r"^E   +(.*)$", "{}"),
    (r"^(?:.*/)?(\S+: WARNING: .*)$", "{}"),
    (r"^(?:\S*/)?(\S+\.(?:py|ipynb)\S*: [A-Z]+\d+ .*)$", "{}"),
    (r"^([A-Z]+\d+ .*)$", "{}"),  # ruff
    (r"^(invalid-syntax: .*|Would reformat: .*)$", "{}"),
    (r"^(\w*(?:Error|Warning|Exception)\b.*)$", "{}"),
)


def reason(output: str) -> str:
    """Return what a failing check says, in one line: a false claim, a test, a warning, an error."""
    output = re.sub(r"\x1b\[[\d;]*m", "", output)
    for pattern, words in WORDS:
        found = re.findall(pattern, output, flags=re.M)
        if found:
            one = found[-1] if "Error|Warning" in pattern else found[0]
            return words.format(one).strip()[:300]
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return (lines[-1] if lines else "no output")[:300]


# ---------------------------------------------------------------------------------------------
# The copy


def git(*arguments, folder: Path = ROOT) -> str:
    done = subprocess.run(
        ["git", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


CHECKS = ("tests", "Makefile", "pyproject.toml", "_config.yml", ".ci")


def state(commit: str, *places: str) -> str:
    """Return a digest of what is committed, without the mutants themselves."""
    listed = git("ls-tree", "-r", commit, *places).splitlines()
    kept = [line for line in listed if "mutants" not in line and "seeds" not in line]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:12]


class Copy:
    """A private checkout with its own environment and its own built book."""

    def __init__(self, number: int, commit: str, say: Callable[[str], None]):
        self.folder, self.commit, self.say = WORK / f"copy-{number}", commit, say
        self.baseline = WORK / f"baseline-{number}"
        self.state = state(commit)

    def prepare(self) -> None:
        """Check out the commit, make the environment, build the book once."""
        if not (self.folder / ".git").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            git("clone", "--quiet", "--no-checkout", ROOT, self.folder)
        git("fetch", "--quiet", ROOT, self.commit, folder=self.folder)
        git("checkout", "--quiet", "--force", "--detach", self.commit, folder=self.folder)
        self.restore(build=False)
        code, output, _ = run(["make", "env"], self.folder, SECONDS["book"])
        if code != 0:
            raise SystemExit(f"The unchanged copy has no environment:\n{output[-3000:]}")
        mark = self.baseline / "state"
        if not mark.exists() or mark.read_text() != self.state:
            self.say("building the book of the unchanged copy")
            if (ROOT / "_build" / "executed").is_dir():  # what has run need not run again
                executed = self.folder / "_build" / "executed"
                shutil.copytree(ROOT / "_build" / "executed", executed, dirs_exist_ok=True)
            code, output, _ = run(["make", "book"], self.folder, SECONDS["book"])
            shutil.rmtree(self.baseline, ignore_errors=True)
            shutil.copytree(self.folder / "_build", self.baseline / "_build", symlinks=True)
            if code == 0:
                mark.write_text(self.state)
            else:
                tqdm.write(f"The unchanged book is not built; no check that needs it counts:\n{output}")
        self.restore()

    def restore(self, build: bool = True) -> None:
        """Undo everything that a mutant or a check has done."""
        git("checkout", "--quiet", "--force", self.commit, "--", ".", folder=self.folder)
        git("clean", "-qfd", folder=self.folder)
        # A file changed twice within a second would be taken for the one that was compiled.
        for place in ("src", "tests", "benchmarks"):
            for compiled in (self.folder / place).rglob("__pycache__"):
                shutil.rmtree(compiled)
        shutil.rmtree(self.folder / ".ruff_cache", ignore_errors=True)
        if build:
            shutil.rmtree(self.folder / "_build", ignore_errors=True)
            shutil.copytree(self.baseline / "_build", self.folder / "_build", symlinks=True)

    def checks(self, mutant: Mutant, depth: int) -> list[tuple[str, list]]:
        """Return the checks of a mutant in order of their cost: a kind and a command each."""
        python = self.folder / ".venv" / "bin" / "python"
        # Whether mutants still apply is no question to ask of a project with one of them in it.
        options = "-x -q -p no:cacheprovider --color=no --ignore=tests/test_mutants.py".split()
        pytest = [python, "-m", "pytest", *options]
        parallel = [*pytest, "-n", "auto", "--dist", "worksteal"]
        if mutant.first.endswith(".ipynb"):
            first = [python, HERE / "run_notebook.py", mutant.first]
        elif mutant.first in ("lint", "book", "env"):
            first = ["make", mutant.first]
        else:
            first = [*pytest, *mutant.first.split()]
        found = [("first", first), ("lint", ["make", "lint", "types"])]
        found.append(("quick", ["make", "quick", f"PYTEST={' '.join(map(str, parallel))}"]))
        found += [("book", ["make", "book"]), ("tests", parallel)]
        return found[:depth]

    def passes_unchanged(self, kind: str, command: list) -> bool:
        """Say whether a check passes on the unchanged copy; it is asked once."""
        key = hashlib.sha256(f"{self.state} {command}".encode()).hexdigest()[:16]
        file = self.baseline / "passed.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        if key not in known:
            self.restore()
            self.say(f"does the unchanged copy pass {kind}: {' '.join(map(str, command[-2:]))}?")
            code, output, _ = run(command, self.folder, SECONDS[kind])
            known[key] = None if code == 0 else reason(output)
            file.write_text(json.dumps(known, indent=1))
        if known[key] is not None:
            self.say(f"the unchanged copy fails {kind} ({known[key]}), so that says nothing")
        return known[key] is None

    def try_mutant(self, mutant: Mutant, depth: int) -> dict:
        """Apply a mutant, look for it, undo it, and return what noticed it."""
        seconds: dict[str, float] = {}
        result = {"caught": SURVIVED, "by": "", "seconds": seconds}
        applied = False
        try:
            for kind, command in self.checks(mutant, depth):
                if not applied:
                    self.restore()
                    try:
                        mutant.apply(self.folder)
                    except DoesNotApplyError as error:
                        return result | {"caught": NO_MATCH, "by": str(error)}
                    applied = True
                self.say(kind)
                code, output, spent = run(command, self.folder, SECONDS[kind])
                seconds[kind] = round(spent, 1)
                if code == 0:
                    continue
                said = code if code == "too slow" else reason(output)
                if self.passes_unchanged(kind, command):
                    return result | {"caught": kind, "by": said}
                applied = False
            return result
        finally:
            self.restore()


# ---------------------------------------------------------------------------------------------
# All of them


def known_results(path: Path) -> dict[str, dict]:
    """Return the last result of each mutant."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {entry["name"]: entry for entry in map(json.loads, filter(None, lines))}


def is_current(entry: dict | None, mutant: Mutant, tests: str, depth: int) -> bool:
    """Say whether a result stands: for the same mutant and tests, and as many kinds of checks."""
    if entry is None or entry["digest"] != mutant.digest or entry["tests"] != tests:
        return False
    return entry["caught"] != SURVIVED or entry["depth"] >= depth


def report(mutants: list[Mutant], results: dict[str, dict]) -> tuple[str, bool]:
    """Return a table in Markdown, counts by class, and whether one survived."""
    rows, counts = [], {}
    for mutant in mutants:
        entry = results.get(mutant.name)
        caught = "not tried" if entry is None else entry["caught"]
        by = "" if entry is None else entry["by"].replace("|", "\\|").replace("\n", " ")
        spent = "" if entry is None else f"{sum(entry['seconds'].values()):.0f}"
        rows.append(f"| {mutant.kind} | {mutant.name} | {caught} | {by} | {spent} |")
        each = counts.setdefault(
            mutant.kind, {"all": 0, "caught": 0, SURVIVED: 0, NO_MATCH: 0, "not tried": 0}
        )
        each["all"] += 1
        each[caught if caught in each else "caught"] += 1
    table = "| class | mutant | caught by | which said | s |\n|---|---|---|---|---|\n" + "\n".join(rows)
    columns = ["all", "caught", SURVIVED, NO_MATCH, "not tried"]
    lines = [
        f"| {kind} | " + " | ".join(str(each[c]) for c in columns) + " |"
        for kind, each in counts.items()
    ]
    total = [str(sum(each[c] for each in counts.values())) for c in columns]
    lines.append("| **all** | " + " | ".join(total) + " |")
    head = "| class | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n"
    bad = any(each[SURVIVED] or each[NO_MATCH] for each in counts.values())
    return f"{table}\n\n{head}" + "\n".join(lines), bad


def main(arguments: list[str] | None = None) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore the first
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="mutants whose name or class contains this")
    parser.add_argument("--again", action="append", default=[], help="try this mutant again")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--first", action="store_true", help="only the check that is likely to notice")
    depth.add_argument("--quick", action="store_true", help="without the book and all tests")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time, each in its own copy")
    parser.add_argument("--report", action="store_true", help="only print what is known")
    parser.add_argument("--mutants", type=Path, default=HERE, help="folder with their definitions")
    given = parser.parse_args(arguments)
    deep = 1 if given.first else 3 if given.quick else 5
    mutants = [
        m for m in read_mutants(given.mutants) if given.only.lower() in f"{m.kind}: {m.name}".lower()
    ]
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "results.jsonl"
    commit = git("rev-parse", "HEAD")
    tests = state(commit, *CHECKS)
    results = known_results(path)
    todo = [
        m
        for m in mutants
        if not given.report
        and (m.name in given.again or not is_current(results.get(m.name), m, tests, deep))
    ]
    if git("status", "--porcelain", "--untracked-files=no"):
        print("Changes that are not committed are not in the copy.", file=sys.stderr)
    lock = threading.Lock()
    with tqdm(total=len(mutants), initial=len(mutants) - len(todo), disable=given.report) as bar:
        waiting = list(todo)

        def work(number: int) -> None:
            current = ""

            def say(what: str) -> None:
                bar.set_postfix_str(f"{current}: {what}")

            copy = Copy(number, commit, say)
            copy.prepare()
            while True:
                with lock:
                    if not waiting:
                        return
                    mutant = waiting.pop(0)
                current = mutant.name
                entry = {"name": mutant.name, "digest": mutant.digest, "tests": tests}
                entry |= {"commit": commit, "depth": deep} | copy.try_mutant(mutant, deep)
                with lock:
                    results[mutant.name] = entry
                    with path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(entry) + "\n")
                    bar.update()

        if todo:
            with ThreadPoolExecutor(given.jobs) as pool:
                try:
                    for future in [pool.submit(work, number) for number in range(given.jobs)]:
                        future.result()
                except BaseException:
                    waiting.clear()
                    STOP.set()
                    _end_all()
                    raise
    table, bad = report(mutants, {m.name: results[m.name] for m in mutants if m.name in results})
    print(table)
    return int(bad)


def _end_all() -> None:
    """Kill the processes of every command of this call."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if MARK in process.environ():
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
