"""Claims under other seeds: counted one by one, whatever else fails, and resumed where it stopped."""

import multiprocessing
import os
import time

import nbformat
import pytest
import seeds
from nbformat.v4 import new_code_cell, new_notebook

from fieldguide.claims import Claims, FalseClaimError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="chapters run in forked processes"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

CELLS = [
    "import sys, time, warnings\nfrom fieldguide.claims import Claims\n"
    "RANDOM_SEED = 3\nclaims = Claims()\nsample_seeds = lambda model, seeds: list(seeds)",
    'claims.check("The seed {seed} is even.", RANDOM_SEED % 2 == 0, seed=RANDOM_SEED)',
    'seeds = sample_seeds(None, range(2))\nclaims.check("Seeds are {seeds}.", True, seeds=seeds)',
    'assert RANDOM_SEED != 4, "a solution fails"',
    'if RANDOM_SEED == 5:\n    print("noise", file=sys.stderr)',
    'time.sleep(0.2)\nprint("words")\nclaims.check("It is reached.", True)\nclaims',
]
ROWS = {
    "| 01_tiny | The seed {seed} is even. | 2 of 4 |",
    "| 01_tiny | Seeds are {seeds}. | 4 of 4 |",
    "| 01_tiny | It is reached. | 4 of 4 |",
    "- 01_tiny, seed 1: The seed 1 is even.",
    "- 01_tiny, seed 5: The seed 5 is even.",
}


@pytest.fixture
def book(tmp_path):
    (tmp_path / "notebooks").mkdir()
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    nbformat.write(notebook, tmp_path / "notebooks" / "01_tiny.ipynb")
    return tmp_path


def asked(book, count, capsys, *options):
    code = seeds.main([str(count), "--root", str(book), *options])
    return code, capsys.readouterr().out


def results(book):
    return sorted((book / "_build" / "seeds").glob("*/*.json"))


def test_every_claim_is_counted_and_other_failures_are_told(book, capsys):
    code, out = asked(book, 4, capsys)
    assert code == 1
    assert set(out.splitlines()) >= ROWS
    assert "seed 4, cell" in out
    assert "AssertionError: a solution fails" in out
    assert "stderr: noise" in out
    assert out.count("cell `") == 2
    assert [path.stem.rpartition("-")[2] for path in results(book)] == ["1", "2", "4", "5"]  # 3: its own


def test_claims_that_hold_are_a_success_and_seeds_are_moved(book, capsys):
    path = book / "notebooks" / "01_tiny.ipynb"
    path.write_text(
        path.read_text()
        .replace("% 2 == 0", "> 0")
        .replace("True, seeds", "seeds[0] % 1000 == 0 < seeds[0], seeds")
    )
    assert asked(book, 2, capsys)[0] == 0
    code, out = asked(book, 1, capsys, "--own")
    assert code == 1  # with its own seeds nothing is moved
    assert "- 01_tiny, seed 3: Seeds are [0, 1]." in out


@pytest.mark.slow
def test_an_interrupted_call_goes_on_where_it_was(book, tmp_path_factory, capsys):
    process = multiprocessing.get_context("fork").Process(
        target=seeds.main, args=(["4", "--root", str(book), "--workers", "1"],)
    )
    process.start()
    end = time.monotonic() + 300
    while not results(book) and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.join()
    kept = {path: path.stat().st_mtime_ns for path in results(book)}
    assert 0 < len(kept) < 4
    resumed = asked(book, 4, capsys)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert len(results(book)) == 4
    again = tmp_path_factory.mktemp("again")
    (book / "notebooks").rename(again / "notebooks")
    assert resumed == asked(again, 4, capsys)


def test_a_page_that_dies_is_told_and_tried_again(book, capsys):
    path = book / "notebooks" / "01_tiny.ipynb"
    path.write_text(
        path.read_text()
        .replace("import sys, time", "import os, sys, time")
        .replace("assert RANDOM_SEED != 4", "os._exit(RANDOM_SEED - 1) if RANDOM_SEED > 1 else print")
    )
    code, out = asked(book, 2, capsys)
    assert code == 1
    assert "- 01_tiny, seed 2, nutpie: 1" in out
    assert len(results(book)) == 1


def test_a_false_claim_still_stops_every_other_page(book, capsys):
    asked(book, 1, capsys)
    with pytest.raises(FalseClaimError):
        Claims().check("It is false.", False)
