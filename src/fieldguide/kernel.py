"""A kernel of a build: what the fork does, and how it ends when the build does.

The process that forks imports this module for each kernel, so it imports little.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from contextlib import suppress

import psutil

PARENT = "FIELDGUIDE_STOPS_WITH"
"""Environment variable that names the process (its id) with which a build ends; make sets it."""


def be_kernel(arguments: list[str], folder: str, folder_of_program: str) -> None:
    """Serve as a Jupyter kernel, in a process that was forked to be one.

    Parameters
    ----------
    arguments : list of str
        Of ``python -m ipykernel_launcher``.
    folder : str
        Where the notebook stands.
    folder_of_program : str
        What the build has first on ``sys.path``, which a kernel has not.
    """
    os.setsid()  # what is sent to the build's group (Ctrl-C, kill) is the build's business
    threading.Thread(target=_end_with_the_build, daemon=True).start()
    os.chdir(folder)
    if folder_of_program in sys.path:
        sys.path.remove(folder_of_program)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    early = {sys.stdout, sys.stderr}
    for stream in (1, 2):  # what a page does not show is not shown by the build either
        os.dup2(nowhere, stream)
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(parent_handle=os.getppid())
    app.initialize([*arguments, "--HistoryManager.hist_file=:memory:"])
    for logger in map(logging.getLogger, list(logging.root.manager.loggerDict)):
        for handler in logger.handlers:  # a library that was loaded early writes to the notebook
            if isinstance(handler, logging.StreamHandler) and handler.stream in early:
                handler.setStream(sys.stderr)
    app.start()


def _end_with_the_build() -> None:
    """Wait for the build to end (not the process of which this one is a fork), and kill what is here."""
    build = multiprocessing.parent_process()
    if build is not None:
        build.join()
    kill_tree(os.getpid())


def stop_with(parent: int) -> None:
    """Watch a process, and kill this one with all its descendants when it is no longer the parent."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        kill_tree(os.getpid())

    threading.Thread(target=watch, daemon=True).start()


def kill_tree(pid: int) -> None:
    """Kill a process with all its descendants."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
