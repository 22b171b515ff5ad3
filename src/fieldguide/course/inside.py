"""Run a notebook cell by cell, and keep its answers after each: what `sandbox` starts."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

WATCH = """
from fieldguide.course.answers import Keeper as _Keeper
get_ipython().events.register("post_run_cell", _Keeper({names!r}, {folder!r}, get_ipython().user_ns))
"""


def main(folder: Path) -> None:
    """Run the notebook in a folder's ``work``; leave answers, the notebook as it ran, a report.

    Cells of otter-grader's checks are left out: the same questions are asked where it is graded.
    """
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    limits = job["limits"]
    report: dict[str, Any] = {"done": False, "errors": [], "fault": ""}

    def say() -> None:
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")

    for what, most in (
        (resource.RLIMIT_DATA, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_CPU, int(4 * limits["seconds"])),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))  # of the kernel too, which begins after this
    say()
    try:
        notebook = nbformat.reads(
            (folder / "work" / job["notebook"]).read_text(encoding="utf-8"), as_version=4
        )
    except Exception as error:  # nbformat raises many kinds
        report["fault"] = f"It is not a notebook that can be read ({type(error).__name__})."
        return say()
    for cell in notebook.cells:
        cell.pop("id", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / "executed.ipynb")  # to be there even if this is killed
    # Over files and not over ports: there may be no network, not even to this machine itself.
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=limits["cell_seconds"],
        interrupt_on_timeout=True,
        allow_errors=True,
        resources={"metadata": {"path": str(folder / "work")}},
    )
    with client.setup_kernel():
        watch = WATCH.format(names=job["names"], folder=str(folder / "answers"))
        notebook.cells.insert(0, nbformat.v4.new_code_cell(watch))
        client.execute_cell(notebook.cells[0], 0, store_history=False)
        for k, cell in enumerate(notebook.cells[1:], start=1):
            if cell.cell_type != "code" or cell.source.lstrip().startswith("grader.check"):
                continue
            try:
                client.execute_cell(cell, k)
            except CellTimeoutError:
                report["errors"].append(f"cell {k}: stopped after {limits['cell_seconds']:.0f} seconds")
            except DeadKernelError:
                report["fault"] = f"The kernel died in cell {k}, out of memory or by force."
                break
            for output in cell.outputs:
                if output.output_type == "error":
                    report["errors"].append(f"cell {k}: {output.ename}: {output.evalue}"[:300])
            _shorten(cell, limits["output"])
            say()
        report["done"] = not report["fault"]
        del notebook.cells[0]
        nbformat.write(notebook, folder / "executed.ipynb")
        say()


def _shorten(cell: nbformat.NotebookNode, longest: int) -> None:
    """Cut what a cell said to its first characters; a picture too large goes."""
    left = longest
    for output in cell.outputs:
        if "text" in output:
            output.text, left = output.text[: max(left, 0)], left - len(output.text)
        for kind, data in list(output.get("data", {}).items()):
            if len(data) > 20 * longest or (kind.startswith("text") and len(data) > longest):
                del output.data[kind]
    if left < 0:
        cell.outputs = cell.outputs[:20]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(Path(sys.argv[1]))
