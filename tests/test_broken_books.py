"""Known-broken books that the build must refuse, and one sound book that it must not."""

import shutil

import nbformat
import pytest
from conftest import ROOT, build
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

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


def book_with(code, root):
    """Write a book of one notebook, with the real configuration."""
    (root / "notebooks").mkdir(parents=True)
    (root / "book").mkdir()
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "index.md").write_text("# A small book\n")
    shutil.copy(ROOT / "_config.yml", root / "_config.yml")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/01_only\n"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[new_markdown_cell("# Only"), new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, root / "notebooks" / "01_only.ipynb")
    return root


BROKEN = {
    "a failing cell": (FAILING_CELL, "KeyError"),
    "a false claim": (FALSE_CLAIM, "This page claims"),
    "an image without alternative text": (IMAGE_WITHOUT_ALT, "alternative text"),
    "an unexpected warning": (WARNING, "stderr"),
    "a damaged table": (DAMAGED_DATA, "row 6, column use_contraception"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_book_is_refused(tmp_path, fault):
    code, words = BROKEN[fault]
    result = build(book_with(code, tmp_path / "book"))
    assert result.returncode != 0
    assert words in result.stdout + result.stderr


def test_sound_book_is_built(tmp_path):
    root = book_with(TRUE_CLAIM, tmp_path / "book")
    result = build(root)
    assert result.returncode == 0, result.stderr[-3000:]
    page = (root / "_build/html/notebooks/01_only.html").read_text(encoding="utf-8")
    assert "District 3 has 2 women." in page


def test_a_change_in_the_package_runs_the_notebooks_again(tmp_path):
    from fieldguide.sphinx_ext import digest_of_inputs

    (tmp_path / "src").mkdir()
    module = tmp_path / "src" / "models.py"
    module.write_text("prior = 1.5\n")
    before = digest_of_inputs(tmp_path)
    module.write_text("prior = 2.5\n")
    assert digest_of_inputs(tmp_path) != before
