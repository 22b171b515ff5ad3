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


def exists(check):
    file, _, test = check.partition("::")
    path = ROOT / file
    return path.is_file() and (not test or f"\ndef {test.partition('[')[0]}(" in path.read_text())


@pytest.mark.parametrize("kind", sorted({mutant.kind for mutant in MUTANTS}))
def test_every_mutant_still_applies(kind):
    wrong = []
    for mutant in MUTANTS:
        if mutant.kind == kind:
            for check in mutant.first.split():
                assert check in ("lint", "book", "env") or exists(check), f"{mutant.name}: no {check}"
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


runner = load("__main__")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "E   x\nFAILED tests/test_page.py::test_a[b c] - ValueError: y",
            "tests/test_page.py::test_a[b c] - ValueError: y",
        ),
        (
            "FalseClaimError: This page claims: 'σ is 3.' That is false. Figures: a = 1",
            "claim: 'σ is 3.'",
        ),
        (
            "/home/me/notebooks/01_data.ipynb:20: WARNING: gone [ref]",
            "01_data.ipynb:20: WARNING: gone [ref]",
        ),
        ("Traceback:\n  File x\nKeyError: 'women'\n", "KeyError: 'women'"),
        ("make: *** [Makefile:58: lint] Error 1", "make: *** [Makefile:58: lint] Error 1"),
        ("", "no output"),
    ],
)
def test_what_noticed_a_mutant_is_told_in_one_line(output, said):
    assert runner.reason(output) == said


def test_a_mutant_is_tried_again_when_it_or_the_tests_have_changed():
    mutant = mutant_of(file="words.md", old="a", new="b")
    entry = {"digest": mutant.digest, "tests": "now", "depth": 3, "caught": "lint"}
    assert runner.is_current(entry, mutant, "now", depth=5)
    assert not runner.is_current(entry, mutant, "later", depth=5)
    assert not runner.is_current(entry, mutant_of(file="words.md", old="a", new="c"), "now", depth=5)
    assert not runner.is_current(None, mutant, "now", depth=5)
    survived = entry | {"caught": runner.SURVIVED}
    assert runner.is_current(survived, mutant, "now", depth=3)
    assert not runner.is_current(survived, mutant, "now", depth=5)  # all tests have not been asked


def test_survivors_make_the_run_fail():
    mutant = mutant_of(file="words.md", old="a", new="b")
    result = {"caught": "lint", "by": "E501 | too long", "seconds": {"first": 1.2, "lint": 0.9}}
    table, bad = runner.report([mutant], {mutant.name: result})
    assert "| words | a change | lint | E501 \\| too long | 2 |" in table
    assert "| words | 1 | 1 | 0 | 0 | 0 |" in table
    assert not bad
    for caught in (runner.SURVIVED, runner.NO_MATCH):
        assert runner.report([mutant], {mutant.name: result | {"caught": caught}})[1]


@pytest.mark.slow
def test_a_command_that_does_not_end_is_ended_with_what_it_started(tmp_path):
    sleep = "[sys.executable, '-c', 'import time; time.sleep(99)']"
    command = f"import subprocess, sys; subprocess.Popen({sleep}, start_new_session=True).wait()"
    code, _, seconds = runner.run([sys.executable, "-c", command], tmp_path, 1.5)
    assert code == "too slow"
    assert seconds < 30
