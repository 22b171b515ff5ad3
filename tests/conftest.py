"""What several test files share: the built book and its executed notebooks, each made once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache

from fieldguide.execution import PARENT
from fieldguide.sphinx_ext import execution_cache

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

NO_UV = "uv is neither in the environment nor on PATH nor in .uv"


def find_uv() -> str | None:
    """Return the uv of this environment (where uv made it), of PATH, or of the Makefile."""
    places = (Path(sys.executable).parent, None, ROOT / ".uv" / "bin")
    found = (shutil.which("uv", path=None if place is None else str(place)) for place in places)
    return next(filter(None, found), None)


def build(root: Path, **variables: str) -> subprocess.CompletedProcess:
    """Build the book in a folder as the Makefile does: from scratch, but for the executed notebooks.

    It ends with the tests, even if they are killed.
    """
    for old in ("html", ".doctrees"):
        shutil.rmtree(root / "_build" / old, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", ".", "-W", "-n", "--keep-going"]
    environment = os.environ | {PARENT: str(os.getpid())} | variables
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder of the built pages."""
    result = build(ROOT)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def executed(site) -> dict[str, nbformat.NotebookNode]:
    """Return the notebooks with the outputs that the build gave them, by name."""
    cache = get_cache(str(execution_cache(ROOT)))  # a KeyError below: sources changed since the build
    return {
        path.stem: cache.get_cache_bundle(cache.match_cache_file(str(path)).pk).nb for path in NOTEBOOKS
    }
