"""Run a notebook that somebody handed in, where it can harm nobody, and keep what it answered.

With bubblewrap (``bwrap``, in every Linux distribution) a submission sees the interpreter, the packages
and a folder of its own, nothing else of the disk, no network and no other process. Without it only
limits are left: time, memory, size of files, an empty environment, and no network where
``unshare`` may take it away; the submission can then read what the grader can. See the guide for
instructors on what this does and does not protect against.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import fieldguide
from fieldguide.data import DATA_FOLDER

WALLS = ("bubblewrap", "limits")
"""Ways to keep a submission in, the best first."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes
    ----------
    seconds : float
        Of wall time, all in all.
    cell_seconds : float
        Of wall time, for one cell.
    memory : int
        Bytes of data a process may have.
    file : int
        Bytes of one file that it writes.
    output : int
        Characters of output that are kept of a cell.
    """

    seconds: float = 600
    cell_seconds: float = 240
    memory: int = 4 * 2**30
    file: int = 300 * 10**6
    output: int = 20_000


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    fault : str
        Why it did not get to the end; empty if it did.
    errors : tuple of str
        One line for each cell that raised.
    seconds : float
        Of wall time.
    """

    fault: str
    errors: tuple[str, ...]
    seconds: float


@cache
def walls() -> str:
    """Return the best way that works on this machine."""
    if shutil.which("bwrap"):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "work").mkdir()
            command = [*_bubblewrap(Path(folder)), sys.executable, "-c", "pass"]
            if subprocess.run(command, capture_output=True, timeout=60).returncode == 0:
                return "bubblewrap"
    return "limits"


def _bubblewrap(folder: Path) -> list[str]:
    """Return the command that shows a process the interpreter, the packages and its folder."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    read = [Path(path) for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin")]
    read += [
        Path(f"/etc/{name}") for name in ("ld.so.cache", "localtime", "passwd", "fonts", "alternatives")
    ]
    read += [Path(sys.prefix), Path(sys.base_prefix), *map(Path, fieldguide.__path__), Path(DATA_FOLDER)]
    for path in read:
        if path.is_symlink() and len(path.parts) == 2:  # /lib is a link to /usr/lib
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            command += ["--ro-bind", str(path.resolve()), str(path)]
    return [*command, "--bind", str(folder), str(folder), "--chdir", str(folder / "work")]


@cache
def _without_network() -> tuple[str, ...]:
    """Return the command that takes the network away, where it may."""
    command = ("unshare", "--user", "--map-current-user", "--net")
    if (
        shutil.which("unshare")
        and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    ):
        return command
    return ()


def run_notebook(
    notebook: str,
    names: Iterable[str],
    folder: str | Path,
    *,
    called: str = "submission.ipynb",
    beside: Mapping[str, str | Path] | None = None,
    within: str | None = None,
    limits: Limits | None = None,
    compiled: str | Path | None = None,
    keep_compiled: str | Path | None = None,
) -> Outcome:
    """Run a notebook and keep its answers, and the notebook as it ran.

    Parameters
    ----------
    notebook : str
        Its JSON.
    names : iterable of str
        Variables to keep, see `fieldguide.course.answers`.
    folder : path
        Made for the run: ``work`` (where the notebook runs), ``answers`` and ``executed.ipynb``.
    called : str
        The notebook's name there.
    beside : mapping of str to path, optional
        Files and folders that are put beside the notebook, by name.
    within : {"bubblewrap", "limits"}, optional
        The best that works by default.
    limits : Limits, optional
    compiled : path, optional
        Compiled code to begin with; it is copied, so that no run can change what another finds.
    keep_compiled : path, optional
        Where to leave what the run compiled, for later ones.

    Returns
    -------
    Outcome
    """
    limits, within = limits or Limits(), within or walls()
    folder = Path(folder).resolve()
    work, answers, home = folder / "work", folder / "answers", folder / "home"
    for part in (work, answers):
        part.mkdir(parents=True)
    if compiled and Path(compiled).is_dir():
        shutil.copytree(compiled, home)
    home.mkdir(exist_ok=True)
    (work / called).write_text(notebook, encoding="utf-8")
    for name, source in (beside or {}).items():
        copy = shutil.copytree if Path(source).is_dir() else shutil.copy
        copy(source, work / name)
    job = {"notebook": called, "names": list(names), "limits": dataclasses.asdict(limits)}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    environment = {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": str(Path(fieldguide.__path__[0]).parent),
        "TMPDIR": str(home),
        **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")},
    }
    # By its path: the package would bring PyMC, which takes seconds that the kernel spends anyway.
    command = [sys.executable, "-P", str(Path(__file__).with_name("inside.py")), str(folder)]
    if within == "bubblewrap":
        settings = [part for pair in environment.items() for part in ("--setenv", *pair)]
        command = [*_bubblewrap(folder), *settings, *command]
    else:
        command = [*_without_network(), *command]
    start = time.monotonic()
    ended = _wait(command, environment, work, limits)
    if keep_compiled:
        shutil.move(home, keep_compiled)
    shutil.rmtree(home, ignore_errors=True)
    seconds = time.monotonic() - start
    report = _report(folder / "report.json")
    if ended == "time":
        fault = f"It was not done within {limits.seconds:.0f} seconds and was stopped."
    elif report is None or not report.get("done"):
        fault = (report or {}).get("fault") or f"It ended before its last cell (exit status {ended})."
    else:
        fault = report.get("fault", "")
    errors = tuple(str(line)[:300] for line in (report or {}).get("errors", []))[:50]
    return Outcome(str(fault)[:500], errors, round(seconds, 1))


def _wait(command: list[str], environment: dict, work: Path, limits: Limits) -> int | str:
    """Run a command, and end it and its children in time; return its status, or "time"."""
    process = subprocess.Popen(
        command,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        return "time"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def _report(path: Path) -> dict | None:
    try:
        if path.is_symlink() or path.stat().st_size > 1_000_000:
            return None
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
