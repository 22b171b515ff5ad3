"""Do the claims of the chapters hold for other seeds? ``make seeds 20`` asks, claim by claim.

Every chapter is run with the seeds 1, 2, ... instead of its own: its ``RANDOM_SEED`` is replaced, and
the seeds that its cells give to ``sample_seeds`` are moved by a thousand times as much. What is
compared with stored tables (the grids of chapters 8 and 10) keeps its seeds, for those tables are not
made again. A chapter that names PyMC's own sampler beside nutpie is run with both.

A false claim is written down and the page goes on; so does any other failure of a cell, with its
message. This happens here, in processes of this script, and nowhere else: `fieldguide.claims` has no
such mode, so that no build can be in it.

Each run is kept in ``_build/seeds`` as soon as it has ended, and an interrupted call goes on where it
was. A chapter is run in a process forked from one that has imported what the chapters import; its
cells see what they would see in a notebook.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import importlib
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEED = re.compile(r"^RANDOM_SEED = (\d+)$", flags=re.M)
SECONDS = 1800  # that one chapter may take
BOTH_SAMPLERS = ('nuts_sampler="pymc"',)
"""A chapter whose code has this says something of both samplers."""
OF_NUTPIE = ("mass_matrix_inv",)
"""A chapter whose code has this reads what only nutpie writes down."""


class Chapter:
    """The code of one notebook."""

    def __init__(self, path: Path):
        import nbformat

        self.path, self.name = path, path.stem
        cells = nbformat.read(path, as_version=4).cells
        self.cells = [cell for cell in cells if cell.cell_type == "code"]
        source = "\n".join(cell.source for cell in self.cells)
        self.digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        own = SEED.findall(source)
        if len(own) > 1:
            raise SystemExit(f"{path.name} sets RANDOM_SEED {len(own)} times; once is enough.")
        self.seed = int(own[0]) if own else None
        named = any(words in source for words in BOTH_SAMPLERS)
        tied = any(words in source for words in OF_NUTPIE)
        self.samplers = ("nutpie", "pymc") if named and not tied else ("nutpie",)

    def imports(self) -> Iterator[str]:
        """Return the modules that its cells import."""
        for cell in self.cells:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def seeds(self, count: int, own: bool) -> list[int]:
        """Return the first whole numbers that are not the chapter's own seed, or only that one."""
        if own:
            return [self.seed or 0]
        return [seed for seed in range(1, count + 2) if seed != self.seed][:count]


# ---------------------------------------------------------------------------------------------
# In the process that runs a chapter


def _keep_false_claims(claims: list[dict]) -> None:
    """Write every claim down, and let the page go on after a false one."""
    from fieldguide.claims import Claims, FalseClaimError

    check = Claims.check

    def write_down(self, sentence, holds, /, **figures):
        holding = True
        try:
            check(self, sentence, holds, **figures)
        except FalseClaimError:
            holding = False
            self.sentences.append(sentence.format(**figures))
        number = sum(sentence == claim["claim"] for claim in claims)
        text = sentence.format(**figures)
        claims.append({"claim": sentence, "number": number, "held": holding, "sentence": text})

    Claims.check = write_down


def _other_seeds(names: dict, shift: int, sampler: str) -> None:
    """Move the seeds that a page gives to ``sample_seeds``, and choose its sampler."""
    if sampler == "pymc":
        import pymc

        pymc.sample = functools.partial(pymc.sample, nuts_sampler="pymc")
    if "sample_seeds" not in names:
        return
    given = names["sample_seeds"]

    def sample_seeds(model, seeds, **settings):
        moved = [shift + one for one in seeds]
        if sampler == "nutpie":
            return given(model, moved, **settings)
        from fieldguide import sample

        quiet = {"progressbar": False, "quiet": True, "compute_convergence_checks": False}
        return [sample(model=model, random_seed=one, **quiet, **settings) for one in moved]

    names["sample_seeds"] = sample_seeds


def _once_for_all_seeds(folder: Path) -> None:
    """Keep the grid that a page makes: its seeds are those of the stored table, whatever the page's."""
    with suppress(ImportError):
        import pandas as pd

        from fieldguide import grid

        run_grid = grid.run_grid

        def run_once(design, fit, path, **settings):
            named = f"{fit.__module__}.{fit.__qualname__} {design.to_json()}"
            kept = folder / f"grid-{hashlib.sha256(named.encode()).hexdigest()[:12]}.parquet"
            if not kept.exists():
                run_grid(design, fit, path, **settings)
                temporary = kept.with_suffix(f".{os.getpid()}")
                temporary.write_bytes(Path(path).read_bytes())
                temporary.replace(kept)
            return pd.read_parquet(kept)

        grid.run_grid = run_once


class _Streams:
    """Both streams of this process and of those that it starts, in files."""

    def __init__(self, folder: Path):
        self.files = {}
        for number, name in ((1, "out"), (2, "err")):
            file = (folder / f"{os.getpid()}.{name}").open("w+b", buffering=0)
            os.dup2(file.fileno(), number)
            Path(file.name).unlink()
            self.files[name] = file
        sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))

    def read(self) -> str:
        """Return what was written to standard error since the last time."""
        sys.stdout.flush()
        sys.stderr.flush()
        file = self.files["err"]
        position = getattr(self, "position", 0)
        text = os.pread(file.fileno(), 1 << 20, position)
        self.position = position + len(text)
        return text.decode(errors="replace").strip()


def run_chapter(chapter: Chapter, seed: int, sampler: str, folder: Path) -> dict:
    """Run a chapter's cells in this process with other seeds, and return what became of its claims."""
    import matplotlib as mpl
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    streams = _Streams(folder)
    os.chdir(chapter.path.parent)  # as a notebook runs
    mpl.use("agg")
    claims: list[dict] = []
    failures: list[dict] = []
    _keep_false_claims(claims)
    _once_for_all_seeds(folder)
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shift = 0 if seed in (chapter.seed, 0) else 1000 * seed
    start = time.perf_counter()
    for number, cell in enumerate(chapter.cells):
        result = shell.run_cell(SEED.sub(f"RANDOM_SEED = {seed}", cell.source))
        if number == 0:
            _other_seeds(shell.user_ns, shift, sampler)
        with suppress(KeyError):
            sys.modules["matplotlib.pyplot"].close("all")  # as at the end of a notebook's cell
        said = streams.read()
        error = result.error_before_exec or result.error_in_exec
        shown = cell.metadata.get("mystnb", {}).get("output_stderr") == "show"
        if error is not None:
            message = f"{type(error).__name__}: {error}".strip()
        elif said and not shown and sampler == "nutpie":  # the other one announces its divergences
            message = f"stderr: {said}"
        else:
            continue
        failures.append({"cell": cell.get("id", f"number {number}"), "message": message[:2000]})
    times = os.times()  # of this process and of those that it has started
    return {
        "claims": claims,
        "failures": failures,
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(sum(times[:4]), 1),
    }


def _child(chapter: Chapter, seed: int, sampler: str, path: Path, parent: int) -> None:
    from fieldguide.kernel import stop_with

    os.setsid()
    stop_with(parent)
    terminal = os.dup(2)
    try:
        result = run_chapter(chapter, seed, sampler, path.parent)
    except BaseException:
        os.write(terminal, traceback.format_exc().encode())
        os._exit(1)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    temporary.replace(path)
    os._exit(0)  # threads of samplers need not be waited for


# ---------------------------------------------------------------------------------------------
# In the process that starts them


def import_all(chapters: list[Chapter]) -> None:
    """Import what the chapters import, so that processes forked from this one have it."""
    import tqdm

    tqdm.tqdm.monitor_interval = 0  # a thread, which a fork would lose
    for name in sorted({name for chapter in chapters for name in chapter.imports()}):
        with suppress(ImportError):
            importlib.import_module(name)


def run_all(tasks: list[tuple], workers: int) -> list[str]:
    """Run chapters that have no result yet, some at a time; return those that died."""
    from tqdm import tqdm

    context = multiprocessing.get_context("fork")
    waiting = [task for task in tasks if not task[-1].exists()]
    running: dict = {}
    died = []
    with tqdm(total=len(tasks), initial=len(tasks) - len(waiting), unit="run") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    task = waiting.pop(0)
                    process = context.Process(target=_child, args=(*task, os.getpid()))
                    process.start()
                    running[process] = (task, time.monotonic())
                multiprocessing.connection.wait([process.sentinel for process in running], timeout=5)
                for process, (task, start) in list(running.items()):
                    chapter, seed, sampler, path = task
                    if process.is_alive():
                        if time.monotonic() - start > SECONDS:
                            _stop(process)
                        continue
                    process.join()
                    del running[process]
                    bar.update()
                    bar.set_postfix_str(f"{chapter.name}, seed {seed}")
                    if not path.exists():
                        died.append(f"{chapter.name}, seed {seed}, {sampler}: {process.exitcode}")
        finally:
            for process in running:
                _stop(process)
    return died


def _stop(process) -> None:
    from fieldguide.kernel import kill_tree

    kill_tree(process.pid)
    process.join()


def report(tasks: list[tuple]) -> tuple[str, bool]:
    """Return what became of every claim as Markdown, and whether anything failed."""
    runs: dict[tuple, list] = {}
    for chapter, seed, sampler, path in tasks:
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            runs.setdefault((chapter.name, sampler), []).append((seed, result))
    both = {name for name, sampler in runs if sampler != "nutpie"}
    rows, false, failed = [], [], []
    for (name, sampler), results in sorted(runs.items()):
        title = f"{name}, {sampler}" if name in both else name
        claims: dict[tuple, list] = {}
        for seed, result in results:
            for one in result["claims"]:
                claims.setdefault((one["claim"], one["number"]), []).append((seed, one))
            for failure in result["failures"]:
                where = f"- {title}, seed {seed}, cell `{failure['cell']}`: "
                failed.append(where + failure["message"].replace("\n", " "))
        for (claim, _), found in claims.items():
            held = sum(one["held"] for _, one in found)
            missing = len(results) - len(found)
            left = f", not reached in {missing}" if missing else ""
            rows.append(f"| {title} | {claim} | {held} of {len(found)}{left} |")
            false += [f"- {title}, seed {s}: {o['sentence']}" for s, o in found if not o["held"]]
    parts = ["| chapter | claim | held |\n|---|---|---|\n" + "\n".join(rows)]
    seconds = sum(result["seconds"] for results in runs.values() for _, result in results)
    count = sum(map(len, runs.values()))
    parts.append(f"{len(rows)} claims in {count} runs, {seconds / 60:.0f} minutes of them.")
    parts += ["Not true:\n\n" + "\n".join(false)] if false else []
    parts += ["Cells that failed otherwise:\n\n" + "\n".join(failed)] if failed else []
    return "\n\n".join(parts), bool(false or failed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=20, help="how many seeds")
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's folder")
    parser.add_argument("--only", default="", help="chapters whose name contains this")
    parser.add_argument("--sampler", choices=["nutpie", "pymc"], help="runs of one sampler only")
    parser.add_argument("--own", action="store_true", help="the chapters' own seeds, to compare")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    given = parser.parse_args(arguments)
    if given.count < 1:
        parser.error("at least one seed")
    from fieldguide.sphinx_ext import digest_of_inputs

    root = given.root.resolve()
    paths = sorted((root / "notebooks").glob(f"*{given.only}*.ipynb"))
    chapters = [Chapter(path) for path in paths]
    folder = root / "_build" / "seeds" / digest_of_inputs(root)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        (chapter, seed, sampler, folder / f"{chapter.name}-{chapter.digest}-{seed}{part}.json")
        for sampler, part in (("nutpie", ""), ("pymc", "-pymc"))
        if given.sampler in (None, sampler)
        for turn in range(1 if given.own else given.count)  # all chapters with one seed, then the next
        for chapter in chapters
        if sampler in chapter.samplers
        for seed in [chapter.seeds(given.count, given.own)[turn]]
    ]
    if not all(task[-1].exists() for task in tasks):
        import_all(chapters)
    died = run_all(tasks, given.workers)
    table, failed = report(tasks)
    print(table)
    if died:
        print("\nProcesses that ended without a result (the same call tries them again):\n")
        print("\n".join(f"- {one}" for one in died))
    return int(failed or bool(died))


if __name__ == "__main__":
    sys.exit(main())
