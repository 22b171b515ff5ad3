"""The spelling: no misspelt word, British English, and terms as CONTRIBUTING.md lists them.

Read is what people read: prose without its code, mathematics and addresses; of Python files the
comments and docstrings, of notebooks also the sentences in their code.
"""

import re
import subprocess
import sys
import tokenize
from importlib.resources import files
from io import StringIO
from pathlib import Path

from chapters import cells, source
from conftest import NOTEBOOKS, ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("book/**/*.md"), *ROOT.glob("data/*.md")]
MODULES = [path for folder in ("src", "tests", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")]
TERMS = re.compile(r"^\| (?P<right>[^|]+) \| not (?P<wrong>[^|]+) \|", re.MULTILINE)
BRITISH_TOO = {"biased", "center", "fro", "math", "program", "story", "stram"}
"""Words that the dictionaries refuse: "to and fro", the column ``math``, CSS, programs, a name."""


def words_of(text: str) -> str:
    """Return a text in Markdown or a docstring without its code, mathematics and addresses."""
    text = TERMS.sub("", text)
    text = re.sub(r"\{[^{}]*\bcolor:[^{}]*\}|\)\.color\b", "", text)  # style sheets in tests
    text = re.sub(r"^(?P<fence>`{3,}|~{3,})(?!\{).*?^(?P=fence)$", "", text, flags=re.M | re.S)
    text = re.sub(r"^ *[\w, ]+ : .*$", "", text, flags=re.MULTILINE)  # a parameter and its type
    text = re.sub(
        r":\w+:`[^`]*`|``.*?``|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|\{\w+:[^}]*\}", "", text, flags=re.S
    )
    return re.sub(r"\]\([^)]*\)|https?://\S+", "]", text)


def said_in(code: str) -> str:
    """Return the comments of a piece of code, and its strings of several words."""
    kept = []
    for token in tokenize.generate_tokens(StringIO(code).readline):
        middle = tokenize.FSTRING_MIDDLE
        if token.type in (tokenize.COMMENT, tokenize.STRING, middle) and " " in token.string:
            kept.append(words_of(token.string))
    return "\n".join(kept)


def prose_of(path: Path) -> str:
    if path.suffix == ".py":
        return said_in(path.read_text(encoding="utf-8"))
    if path.suffix == ".ipynb":
        return "\n".join(
            (words_of if cell["cell_type"] == "markdown" else said_in)(source(cell))
            for cell in cells(path.stem)
        )
    return words_of(path.read_text(encoding="utf-8"))


def terms() -> dict[str, str]:
    """Return the wrong forms of terms, with the right one of each, from the table for writers."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {
        wrong: row["right"] for row in TERMS.finditer(text) for wrong in row["wrong"].strip().split(", ")
    }


def british() -> dict[str, str]:
    """Return American forms with the British one, but for what the table of terms calls right."""
    listed = files("codespell_lib").joinpath("data/dictionary_en-GB_to_en-US.txt")
    pairs = (line.split("->") for line in listed.read_text(encoding="utf-8").splitlines())
    right = re.findall(r"[\w-]+", " ".join(terms().values()))
    return {us: gb for gb, us in pairs if us not in right}


def mistakes(folder: Path, texts: dict[str, str]) -> list[str]:
    """Return what is spelt wrong, with the file it stands in."""
    english = folder / "english"
    english.write_text("".join(f"{us}->{gb}\n" for us, gb in british().items()), encoding="utf-8")
    prose = folder / "prose"
    for name, text in texts.items():
        (prose / name).parent.mkdir(parents=True, exist_ok=True)
        (prose / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", "-D", "-", "-D", english]
    command += ["-L", ",".join(BRITISH_TOO), prose]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode in (0, 65), found.stderr
    wrong = [line.removeprefix(f"{prose}/") for line in found.stdout.splitlines()]
    for bad, right in terms().items():
        term = re.compile(rf"(?<![\w-]){bad}(?![\w-])")
        wrong += [f"{name}: {bad} ==> {right}" for name in texts if term.search(texts[name])]
    return wrong


def test_everything_people_read_is_spelt_in_one_way(tmp_path):
    texts = {
        path.relative_to(ROOT).as_posix(): prose_of(path)
        for path in [*PAGES, *MODULES, *NOTEBOOKS]
        if path != Path(__file__) and path.name != "submissions.py"  # whose texts are code
    }
    assert sum(len(text.split()) for text in texts.values()) > 40_000
    assert mistakes(tmp_path, texts) == []


def test_what_is_spelt_otherwise_is_found(tmp_path):
    texts = {
        "a": "a seperate one",
        "b": "the color of a behavior that we normalize",
        "c": "the noncentered form",
        "d": "the non-centered form and its parameterization, R-hat and a data set",
        "e": "a `color` in $color$, {ref}`color`, and [a page](https://color.org/color)",
        "f": said_in('def color():\n    """Give a color."""  # no favor\n    return f"the gray {x}"\n'),
    }
    found = mistakes(tmp_path, {name: words_of(text) for name, text in texts.items()})
    assert {re.sub(r":\d+:", ":", line) for line in found} == {
        "a: seperate ==> separate",
        "b: color ==> colour",
        "b: behavior ==> behaviour",
        "b: normalize ==> normalise",
        "c: noncentered ==> non-centered",
        "f: color ==> colour",
        "f: favor ==> favour",
        "f: gray ==> grey",
    }
