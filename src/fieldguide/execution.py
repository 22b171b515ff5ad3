"""Run notebooks in parallel, in processes that end with the build, however it ends.

A build that is killed cannot stop what it started: the processes that run notebooks, their kernels,
and what a notebook starts itself. So each process watches its parent, and takes its own children
with it when the parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import cast

import psutil
from jupyter_cache.base import JupyterCacheAbstract
from jupyter_cache.executors.basic import ExecutionWorkerLocalMProc, ProcessData

PARENT = "FIELDGUIDE_STOPS_WITH"
"""Environment variable that names the process (its id) with which a build ends; make sets it."""


def run_in_parallel(cache: JupyterCacheAbstract, pks: Iterable[int], timeout: int) -> list[str]:
    """Execute notebooks of a cache's project, and cache those that run through.

    Parameters
    ----------
    cache : JupyterCacheAbstract
        Where the notebooks are registered and their outputs go.
    pks : iterable of int
        Which ones, in the order in which they are started.
    timeout : int
        Seconds that one cell may take.

    Returns
    -------
    list of str
        Paths of the notebooks that ran through.
    """
    tasks = [
        ProcessData(record.pk, record.uri, cache, timeout, allow_errors=False)
        for record in map(cache.get_project_record, pks)
    ]
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    count = min(os.cpu_count() or 1, len(tasks))
    with ProcessPoolExecutor(count, context, _start_worker, (os.getpid(),)) as pool:
        try:
            results = list(pool.map(ExecutionWorkerLocalMProc(), tasks))
        except BrokenProcessPool:  # a process was killed from outside, for instance for its memory
            return []
        except BaseException:  # Ctrl-C: the pool would wait for the notebooks under way
            for worker in multiprocessing.active_children():
                _kill_tree(cast("int", worker.pid))
            raise
    return [uri for status, uri in results if status == 0]


def stop_with(parent: int) -> None:
    """Watch a process, and kill this one with all its descendants when it is no longer the parent."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        _kill_tree(os.getpid())

    threading.Thread(target=watch, daemon=True).start()


def _start_worker(parent: int) -> None:
    if hasattr(
        os, "setsid"
    ):  # what is sent to the build's group (Ctrl-C, kill) is the parent's business
        os.setsid()
    stop_with(parent)


def _kill_tree(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
