"""Run notebooks in parallel, in processes that end with the build, however it ends.

The libraries that chapters import take longer to load than many a chapter takes to run. They are
loaded once (`fieldguide.preload`), in a process that does nothing else; each kernel is a fork of it
(where the system can fork). The package itself is loaded by each notebook, as at a reader's.

A build that is killed cannot stop what it started: kernels, and what a notebook starts itself. So
each kernel watches the build, and takes its own children with it when the build is gone.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nbformat
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from fieldguide.kernel import be_kernel, kill_tree

INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel sets before Matplotlib is loaded


@dataclass(frozen=True)
class Failure:
    """Where and why a notebook did not run through.

    Attributes
    ----------
    cell : int
        Number of the cell in the notebook, from 1, as JupyterLab and the page count them; 0 if the
        kernel did not start.
    cells : int
        How many cells the notebook has.
    error : str
        Its kind and message in one line or a few.
    traceback : str
        All that Python said, without colours.
    """

    cell: int
    cells: int
    error: str
    traceback: str


@dataclass(frozen=True)
class Run:
    """What came of one notebook.

    Attributes
    ----------
    path : Path
        The notebook.
    notebook : NotebookNode
        With its outputs, as far as it ran.
    seconds : float
        Wall time, starting the kernel included.
    failure : Failure or None
        None if it ran through without a word on its error stream that was not expected.
    """

    path: Path
    notebook: nbformat.NotebookNode
    seconds: float
    failure: Failure | None


def run_in_parallel(paths: Iterable[Path], timeout: int, ended: Callable[[Run], None]) -> None:
    """Execute notebooks, each in a kernel of its own and in its own folder, one per processor at a time.

    Parameters
    ----------
    paths : iterable of Path
        Which ones, in the order in which they are started.
    timeout : int
        Seconds that one cell may take.
    ended : callable
        Called with each `Run` as it ends.
    """
    paths = list(paths)
    if "forkserver" in multiprocessing.get_all_start_methods():
        # One notebook alone loads the libraries as soon itself, if it needs them at all.
        sampling = sum("import pymc" in path.read_text(encoding="utf-8") for path in paths)
        libraries = ["fieldguide.preload"] if sampling > 1 else []
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            [*libraries, "fieldguide.kernel"]
        )
    asyncio.run(_run_all(paths, timeout, ended))


async def _run_all(paths: list[Path], timeout: int, ended: Callable[[Run], None]) -> None:
    places = asyncio.Semaphore(os.cpu_count() or 1)

    async def run_in_turn(path: Path) -> None:
        async with places:
            ended(await _run(path, timeout))

    async with asyncio.TaskGroup() as group:
        for path in paths:
            group.create_task(run_in_turn(path))


async def _run(path: Path, timeout: int) -> Run:
    notebook = nbformat.read(path, as_version=4)
    start, number, failure = time.perf_counter(), 0, None
    # A name of its own in a short folder: the path of a socket may have about 100 characters.
    with tempfile.TemporaryDirectory(prefix="kernel") as folder:
        manager = AsyncKernelManager(
            kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "python3"),
            connection_file=os.path.join(folder, "kernel.json"),
            transport="tcp" if os.name == "nt" else "ipc",
        )
        if "forkserver" in multiprocessing.get_all_start_methods():
            manager.provisioner = ForkedKernel(
                kernel_id="fork", kernel_spec=manager.kernel_spec, parent=manager
            )
        client = NotebookClient(
            notebook,
            manager,
            timeout=timeout,
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
        try:
            await client.async_start_new_kernel()
            channels = await client.async_start_new_kernel_client()
            about = await client.async_wait_for_reply(channels.kernel_info())
            if about is not None:  # a page is coloured as its language asks
                notebook.metadata["language_info"] = about["content"]["language_info"]
            for number, cell in enumerate(notebook.cells, 1):
                await client.async_execute_cell(cell, number - 1)
                said = _unexpected_words(cell)
                if said:
                    failure = Failure(number, len(notebook.cells), f"stderr: {said}", said)
                    break
        except (CellExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as error:
            failure = Failure(number, len(notebook.cells), _in_short(error), _plain(str(error)))
        finally:
            if manager.has_kernel:
                # Politely, so that it puts away what it holds; a kernel that does not go is killed.
                await manager.shutdown_kernel(now=failure is not None)
            if client.kc is not None:
                client.kc.stop_channels()
    return Run(path, notebook, time.perf_counter() - start, failure)


def _unexpected_words(cell: nbformat.NotebookNode) -> str:
    """Return what a cell wrote to stderr, unless the page wants to show it."""
    if cell.metadata.get("mystnb", {}).get("output_stderr") == "show":
        return ""
    return _plain("".join(o.text for o in cell.get("outputs", []) if o.get("name") == "stderr"))


def _in_short(error: Exception) -> str:
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {_plain(error.evalue)}"
    if isinstance(error, CellTimeoutError):
        return "it took longer than a cell may take (execute: timeout in _config.yml)"
    if isinstance(error, DeadKernelError):
        return "its kernel died (was it killed, or out of memory?)"
    return f"{type(error).__name__}: {_plain(str(error))}"


def _plain(text: str) -> str:
    """Return text without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


class ForkedKernel(LocalProvisioner):
    """Start a kernel as a fork of the process that has loaded the libraries."""

    async def launch_kernel(self, cmd: list[str], **settings: Any) -> KernelConnectionInfo:
        """Start the kernel; see `jupyter_client.provisioning.KernelProvisionerBase`."""
        context = multiprocessing.get_context("forkserver")
        given = os.environ.get("MPLBACKEND")
        os.environ["MPLBACKEND"] = given or INLINE  # read when Matplotlib is loaded
        arguments = ["-f", cast("AsyncKernelManager", self.parent).connection_file]
        process = context.Process(target=be_kernel, args=(arguments, settings["cwd"], sys.path[0]))
        process.start()
        if given is None:
            del os.environ["MPLBACKEND"]
        self.process = cast("subprocess.Popen[Any]", _Popen(process))
        self.pid = self.pgid = process.pid
        return self.connection_info


class _Popen:
    """A process of `multiprocessing` that looks like one of `subprocess`."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        self.pid = cast("int", process.pid)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        kill_tree(self.pid)
