"""What several test files share: the built book and its executed notebooks, each made once."""

import functools
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache

from fieldguide.kernel import PARENT
from fieldguide.sphinx_ext import execution_cache

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser on PATH (looked for {', '.join(BROWSERS)})"
)

NO_UV = "uv is neither in the environment nor on PATH nor in .uv"


BOOK = {"site", "executed"}
SLOW = {"wheel", "empty", "uninterrupted", "bound"}


def pytest_collection_modifyitems(items) -> None:
    """Mark tests that need the built book, or what takes long to make: ``make quick`` has neither."""
    for item in items:
        if BOOK & set(item.fixturenames):
            item.add_marker(pytest.mark.book)
        if SLOW & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def listens_to_ctrl_c() -> None:
    """Undo what ``nohup`` or a shell's ``&`` do: whoever is started here can be interrupted."""
    if os.name == "posix" and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def find_uv() -> str | None:
    """Return the uv of this environment (where uv made it), of PATH, or of the Makefile."""
    places = (Path(sys.executable).parent, None, ROOT / ".uv" / "bin")
    found = (shutil.which("uv", path=None if place is None else str(place)) for place in places)
    return next(filter(None, found), None)


def build(root: Path, **variables: str) -> subprocess.CompletedProcess:
    """Build the book in a folder with the command of the Makefile.

    It ends with the tests, even if they are killed.
    """
    command = [sys.executable, "-m", "fieldguide.build", str(root)]
    environment = os.environ | {PARENT: str(os.getpid())} | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder of the built pages; they are built only if something has changed."""
    result = build(ROOT)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-3000:]
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def executed(site) -> dict[str, nbformat.NotebookNode]:
    """Return the notebooks with the outputs that the build gave them, by name."""
    cache = get_cache(str(execution_cache(ROOT)))  # a KeyError below: sources changed since the build
    return {
        path.stem: cache.get_cache_bundle(cache.match_cache_file(str(path)).pk).nb for path in NOTEBOOKS
    }


@pytest.fixture(scope="session")
def server(site):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield running
        running.close()
