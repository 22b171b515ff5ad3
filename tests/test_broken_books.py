"""Known-broken books that the build must refuse, and one sound book that it must not."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import psutil
import pytest
from conftest import ROOT, build
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fieldguide.build import digest_of_site
from fieldguide.sphinx_ext import digest_of_inputs, remove_old_caches

FAILING_CELL = "counts = {}\ncounts['women']"
FALSE_CLAIM = """
from fieldguide.claims import Claims
claims = Claims()
claims.check("District 3 has {women} women.", 2 > 100, women=2)
"""
TRUE_CLAIM = FALSE_CLAIM.replace("2 > 100", "2 < 100") + "claims"
IMAGE_WITHOUT_ALT = """
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
fig.savefig("line.png")
plt.close(fig)
from IPython.display import Image
Image("line.png")
"""
WARNING = "import warnings\nwarnings.warn('the sampler diverged')"
DAMAGED_DATA = """
from pathlib import Path
from fieldguide.data import DATA_FOLDER, load_bangladesh
damaged = (DATA_FOLDER / "bangladesh.csv").read_text().replace("\\n5,1,0,", "\\n5,1,2,", 1)
Path("bangladesh.csv").write_text(damaged)
load_bangladesh("bangladesh.csv")
"""


BROKEN_LINK = "# Only\n\nSee [the next chapter](nowhere.ipynb) and {py:func}`fieldguide.nothing`."


def book_with(root, *codes, words="# Only"):
    """Write a book with one notebook for each code, with the real configuration."""
    (root / "notebooks").mkdir(parents=True)
    (root / "book").mkdir()
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "index.md").write_text("# A small book\n")
    shutil.copy(ROOT / "_config.yml", root / "_config.yml")
    names = [f"{number:02}_chapter" for number in range(1, len(codes) + 1)]
    files = "".join(f"  - file: notebooks/{name}\n" for name in names)
    (root / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{files}")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for name, code in zip(names, codes, strict=True):
        notebook = new_notebook(cells=[new_markdown_cell(words), new_code_cell(code)], metadata=kernel)
        nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
    return root


STOPS = {
    "a failing cell": (FAILING_CELL, "error       KeyError: 'women'"),
    "a false claim": (
        FALSE_CLAIM,
        "claim       This page claims: 'District 3 has 2 women.' That is false.",
    ),
    "an unexpected warning": (WARNING, "warning     /"),
    "a damaged table": (DAMAGED_DATA, "row 6, column use_contraception"),
    "a kernel that dies": ("import os; os._exit(1)", "error       its kernel died"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return what the build said of a book in which every chapter but the last stops."""
    codes = [code for code, _ in STOPS.values()]
    root = book_with(tmp_path_factory.mktemp("stops") / "book", *codes, TRUE_CLAIM)
    return root, build(root)


@pytest.mark.slow
@pytest.mark.parametrize("fault", STOPS)
def test_a_chapter_that_stops_is_named_with_its_cell_and_what_to_do(stopped, fault):
    root, result = stopped
    assert result.returncode != 0
    name = f"{list(STOPS).index(fault) + 1:02}_chapter"
    blocks = result.stdout.split("─" * 80)[1].split("\n\n")
    (block,) = [block for block in blocks if f"chapter     notebooks/{name}.ipynb" in block]
    assert "cell        2 of 2" in block
    assert STOPS[fault][1] in block
    assert "what to do" in block
    assert (root / "_build" / "failed" / f"{name}.txt").stat().st_size > 10


@pytest.mark.slow
def test_a_sound_chapter_beside_them_is_not_blamed_and_not_run_again(stopped):
    root, result = stopped
    assert f"ran {len(STOPS) + 1:02}_chapter, " in result.stdout
    assert len(re.findall(r"^stopped in \d\d_chapter, \d+ s, \d of 6$", result.stdout, re.M)) == len(
        STOPS
    )
    assert result.stdout.count("chapter     notebooks/") == len(STOPS)
    assert not (root / "_build" / "html").exists() or not list(
        (root / "_build" / "html").glob("**/*.html")
    )
    for path in sorted((root / "notebooks").glob("*.ipynb"))[:-1]:
        cells = [new_markdown_cell("# Mended")]
        nbformat.write(new_notebook(cells=cells, metadata=nbformat.read(path, 4).metadata), path)
    assert "ran 06_chapter" not in build(root).stdout


@pytest.mark.slow
def test_pages_with_warnings_are_refused_with_the_page_and_the_line(tmp_path):
    result = build(book_with(tmp_path / "book", IMAGE_WITHOUT_ALT, words=BROKEN_LINK))
    assert result.returncode != 0
    (block,) = result.stdout.split("─" * 80)[1:-1]
    assert "notebooks/01_chapter.ipynb" in block
    assert "image without alternative text" in block
    assert "nowhere.ipynb" in block
    assert "fieldguide.nothing" in block
    assert "what to do" in block


@pytest.mark.slow
def test_a_sound_book_is_built_and_only_when_something_changed(tmp_path):
    root = book_with(tmp_path / "book", TRUE_CLAIM)
    result = build(root)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert result.stderr == ""
    assert re.search(r"^ran 01_chapter, \d+ s, 1 of 1$", result.stdout, re.M)
    first = root / "_build/html/book/index.html"
    assert result.stdout.splitlines()[-1] == f"The book is built. First page: {first.as_uri()}"
    page = root / "_build/html/notebooks/01_chapter.html"
    assert "District 3 has 2 women." in page.read_text(encoding="utf-8")
    assert launch_links(page.read_text(encoding="utf-8")) == []  # nobody knows where it would open

    built = page.stat().st_mtime_ns
    again = build(root)
    assert again.stdout.startswith("Nothing has changed since the book was built.")
    assert page.stat().st_mtime_ns == built
    page.unlink()
    page.with_name("02_renamed.html").write_text("a page of an older build")
    assert "Nothing has changed" not in build(root).stdout
    assert page.is_file()
    assert not page.with_name("02_renamed.html").exists()

    notebook = nbformat.read(root / "notebooks/01_chapter.ipynb", as_version=4)
    notebook.cells[0].source = "# Other prose"
    nbformat.write(notebook, root / "notebooks/01_chapter.ipynb")
    result = build(root)
    assert result.returncode == 0
    assert "ran 01_chapter" not in result.stdout
    assert "Other prose" in page.read_text(encoding="utf-8")
    assert "District 3 has 2 women." in page.read_text(encoding="utf-8")


SITE_INPUTS = [
    "_config.yml",
    "_toc.yml",
    "uv.lock",
    "book/a.md",
    "book/_static/a.css",
    "notebooks/a.ipynb",
]
SITE_INPUTS += [f"data/{name}" for name in ("a.csv", "a.json", "a.parquet", "SHA256SUMS")]
SITE_INPUTS += ["src/fieldguide/sphinx_ext.py", "src/fieldguide/models/districts.py"]


def test_a_site_is_current_until_anything_it_shows_has_changed(tmp_path, monkeypatch):
    for name in [*SITE_INPUTS, "tests/test_a.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
        before = digest_of_site(tmp_path)
        (tmp_path / name).write_text("after")
        assert (digest_of_site(tmp_path) != before) == (name in SITE_INPUTS), name
    before = digest_of_site(tmp_path)
    monkeypatch.setenv("FIELDGUIDE_REPOSITORY", REPOSITORY)
    monkeypatch.setenv("FIELDGUIDE_URL", "https://example.org/book")
    known = digest_of_site(tmp_path)
    assert known != before
    monkeypatch.delenv("FIELDGUIDE_REPOSITORY")
    assert digest_of_site(tmp_path) not in (known, before)
    (tmp_path / "book" / "a.md").unlink()
    monkeypatch.delenv("FIELDGUIDE_URL")
    assert digest_of_site(tmp_path) != before


WITH_CACHES = """
import matplotlib.pyplot as plt  # warns, which stops a build, if it has nowhere to go
import pytensor
assert pytensor.config.compiledir.is_dir()
"""


REPOSITORY = "https://github.com/someone/a.book.git"


def launch_links(page: str) -> list[str]:
    return re.findall(r'href="(https://(?:mybinder|colab)\.[^"]*)"', page)


@pytest.mark.slow
def test_book_is_built_without_a_home_that_can_be_written_to(tmp_path):
    root = book_with(tmp_path / "book", WITH_CACHES)
    (root / "book" / "index.md").write_text(
        "# A small book\n\nFrom `git+https://github.com/OWNER/NAME`."
    )
    told = {"FIELDGUIDE_URL": "https://example.org/book", "FIELDGUIDE_REPOSITORY": REPOSITORY}
    result = build(root, HOME=os.devnull, **told)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert f"{os.devnull} cannot be written to: caches go to {root}" in result.stdout
    assert (root / "_build" / "home").is_dir()
    # And it says where it is read, as it was told.
    page = (root / "_build/html/notebooks/01_chapter.html").read_text(encoding="utf-8")
    place = "https://example.org/book/notebooks/01_chapter.html"
    assert f'<link rel="canonical" href="{place}" />' in page
    assert f"<loc>{place}</loc>" in (root / "_build/html/sitemap.xml").read_text(encoding="utf-8")
    # It opens elsewhere, and the package is installed from where it is.
    chapter = "notebooks/01_chapter.ipynb"
    assert launch_links(page) == [
        f"https://mybinder.org/v2/gh/someone/a.book/main?urlpath=lab/tree/{chapter}",
        f"https://colab.research.google.com/github/someone/a.book/blob/main/{chapter}",
    ]
    first = (root / "_build/html/book/index.html").read_text(encoding="utf-8")
    assert "git+https://github.com/someone/a.book<" in first
    assert launch_links(first) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_finds_a_home_for_caches(tmp_path):
    def home(given):
        command = ["make", "-s", "-f", ROOT / "Makefile", "--eval", "show:; @echo $$HOME", "show"]
        environment = os.environ | {"HOME": str(given)}
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return result.stdout.splitlines()

    assert home(tmp_path) == [str(tmp_path)]
    assert list(tmp_path.iterdir()) == []
    note, elsewhere = home(os.devnull)
    assert note == f"{os.devnull} cannot be written to: caches go to _build/home"
    assert elsewhere == str(tmp_path / "_build" / "home")
    assert (tmp_path / "_build" / "home").is_dir()


INPUTS = [
    "src/fieldguide/models/districts.py",
    "src/fieldguide/page.py",
    "data/women.csv",
    "data/fits.json",
    "data/fits.parquet",
    "uv.lock",
]
NO_INPUTS = [
    "src/fieldguide/sphinx_ext.py",
    "src/fieldguide/execution.py",
    "src/fieldguide/html.py",
    "src/fieldguide/kernel.py",
    "src/fieldguide/preload.py",
    "src/fieldguide/build.py",
    "src/fieldguide/paper.py",
    "src/fieldguide/slides.py",
    "src/fieldguide/studies/__main__.py",
    "src/fieldguide/py.typed",
    "data/README.md",
    "data/make_tables.py",
    "README.md",
]


def test_notebooks_run_again_when_what_they_use_changes_and_only_then(tmp_path):
    for name in [*INPUTS, *NO_INPUTS]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    for name in [*INPUTS, *NO_INPUTS]:
        before = digest_of_inputs(tmp_path)
        (tmp_path / name).write_text("after")
        assert (digest_of_inputs(tmp_path) != before) == (name in INPUTS), name
    (tmp_path / "data" / "more.csv").write_text("new")
    assert digest_of_inputs(tmp_path) != before


def test_executed_notebooks_of_older_builds_are_deleted(tmp_path):
    for age, name in enumerate(["present", "previous", "older", "oldest"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "global.db").write_text("")
        os.utime(tmp_path / name, (10**9 - age, 10**9 - age))
    remove_old_caches(tmp_path / "older")  # as if its sources had been restored
    assert {path.name for path in tmp_path.iterdir()} == {"older", "present"}
    remove_old_caches(tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"older", "new"}


ENDLESS = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids.part").write_text(f"{os.getpid()} {child.pid}")
pathlib.Path("pids.part").rename("pids")
time.sleep(600)
"""


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.fixture
def running_build(tmp_path):
    """Return ``make book`` in the midst of a notebook, and all processes that it has started."""
    root = book_with(tmp_path / "book", ENDLESS)
    (root / ".venv").symlink_to(sys.prefix)
    command = ["make", "-f", ROOT / "Makefile", "-o", "env", "book"]
    with open(tmp_path / "log", "w") as log:
        make = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
    pids = root / "notebooks" / "pids"
    wait_until(lambda: pids.exists() or make.poll() is not None, 120)
    assert pids.exists(), (tmp_path / "log").read_text()
    processes = psutil.Process(make.pid).children(recursive=True)
    assert {int(pid) for pid in pids.read_text().split()} <= {process.pid for process in processes}
    yield make, processes
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    make.kill()
    make.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="process groups and SIGKILL are POSIX")
@pytest.mark.parametrize("stop", ["kill the build", "kill make", "kill both", "Ctrl-C"])
def test_a_stopped_build_leaves_no_process_behind(running_build, stop):
    make, processes = running_build
    if stop == "kill the build":
        (builder,) = psutil.Process(make.pid).children()
        builder.kill()
    elif stop == "kill make":
        make.kill()
    else:
        os.killpg(make.pid, signal.SIGKILL if stop == "kill both" else signal.SIGINT)
    assert wait_until(lambda: make.poll() is not None, 15)
    wait_until(lambda: not any(map(alive, processes)), 15)
    assert [process.cmdline() for process in processes if alive(process)] == []
    assert make.returncode != 0
