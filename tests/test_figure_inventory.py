"""Every figure and table of the book shows what the inventory says: panels, words, marks, whose fit."""

import itertools

import pytest
from conftest import NOTEBOOKS
from figures import differences, read, shown

DECLARED = read()


@pytest.fixture(scope="module")
def found(executed):
    return {
        name: entry
        for chapter, notebook in executed.items()
        for name, entry in shown(notebook, chapter).items()
    }


def test_the_book_shows_what_is_declared_and_nothing_else(found):
    assert set(found) == set(DECLARED), "declare it in tests/figures.toml: python tests/figures.py"


@pytest.mark.parametrize("name", DECLARED)
def test_it_shows_what_the_inventory_says(name, found):
    assert name in found, f"{name} is no longer shown"
    assert not (lines := differences(DECLARED[name], found[name])), "\n".join([name, *lines])


def test_the_inventory_knows_every_chapter():
    assert {entry["chapter"] for entry in DECLARED.values()} == {path.stem for path in NOTEBOOKS}


def test_scoreboards_say_of_each_fit_what_the_fit_says(executed):
    """The counts under a label are those of a fit with that label, taken from the fit itself."""
    from test_notebooks import TABLE_MIME
    from test_notebooks import shown as outputs

    checked = 0
    for table in itertools.chain(*(outputs(notebook, TABLE_MIME) for notebook in executed.values())):
        rows = [table["columns"], *table["rows"]]
        if "divergences" in table["columns"] and "gradient evaluations" in table["columns"]:
            rows = list(zip(*rows, strict=True))  # fits as rows
        by_measure = {row[0]: row[1:] for row in rows}
        if not {"divergences", "gradient evaluations"} <= set(by_measure):
            continue
        for k, label in enumerate(rows[0][1:]):
            counts = [
                int(float(by_measure[m][k].replace(",", "")))
                for m in ("divergences", "gradient evaluations")
            ]
            assert counts in table["fits"][label], f"{table['name']}: {label}"
            checked += 1
    assert checked >= 12
