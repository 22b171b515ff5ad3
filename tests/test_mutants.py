"""The list of deliberate changes fits the project as it is, so that ``make mutants`` can try each."""

import importlib.util
import sys

import pytest
from conftest import ROOT

FOLDER = ROOT / "tests" / "mutants"


def load(name):
    """Import a module of the folder, which is a program and no package."""
    sys.path.insert(0, str(FOLDER))
    try:
        specification = importlib.util.spec_from_file_location(f"mutants_{name}", FOLDER / f"{name}.py")
        module = sys.modules[specification.name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


definitions = load("definitions")
MUTANTS = definitions.read_mutants()


def test_there_are_many_and_each_has_a_name_of_its_own():
    assert len(MUTANTS) >= 150
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant.kind for mutant in MUTANTS}) >= 10


@pytest.mark.parametrize("kind", sorted({mutant.kind for mutant in MUTANTS}))
def test_every_mutant_still_applies(kind):
    wrong = []
    for mutant in MUTANTS:
        if mutant.kind == kind:
            try:
                changed = mutant.changes(ROOT)
                assert all(content != path.read_bytes() for path, content in changed.items())
            except definitions.DoesNotApplyError as error:
                wrong.append(str(error))
    assert wrong == []


@pytest.fixture
def project(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "words.md").write_text("117 women, and 117 more\n")
    return tmp_path


def mutant_of(**edit):
    return definitions.Mutant("a change", "words", "why", "lint", (edit,))


def test_a_text_that_is_gone_or_there_twice_is_named(project):
    for old, count in (("118 women", 0), ("117", 2)):
        with pytest.raises(definitions.DoesNotApplyError, match=f"words.md has {count} times"):
            mutant_of(file="words.md", old=old, new="x").apply(project)
    with pytest.raises(definitions.DoesNotApplyError, match=r"there is no gone\.md"):
        mutant_of(file="gone.md", old="x", new="y").apply(project)


def test_a_change_is_made_once(project):
    mutant_of(file="words.md", old="117 women", new="177 women").apply(project)
    assert (project / "words.md").read_text() == "177 women, and 117 more\n"
