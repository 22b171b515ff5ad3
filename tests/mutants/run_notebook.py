"""Run one notebook as the build does: an error stops it, and so does an unexpected warning."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, timeout=600).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        shown = cell.metadata.get("mystnb", {}).get("output_stderr") == "show"
        if output.output_type == "stream" and output.name == "stderr" and not shown:
            sys.exit(f"Warning: {output.text}")
