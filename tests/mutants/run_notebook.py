"""Run one notebook as the build does: an error stops it, and so does an unexpected warning."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main(path: Path) -> str | None:
    """Run it, and return what it said on standard error without leave."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, resources=resources, timeout=600).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown = cell.metadata.get("mystnb", {}).get("output_stderr") == "show"
            if output.output_type == "stream" and output.name == "stderr" and not shown:
                return f"Warning: {output.text}"
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
