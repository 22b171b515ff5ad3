"""Headings, links, conditions of claims, columns of tables: ``python tests/outline.py`` writes them.

Nothing computes where a link should lead or what a claim should rest on, and a cell of a stored table is
made again only now and then. Whoever changes one reads the change again in the difference of
``outline.txt``, and a change that nobody meant fails `test_words.py`.
"""

import ast
import hashlib
import re
import textwrap
from collections.abc import Iterator

from chapters import calls, cells, source
from conftest import NOTEBOOKS, ROOT

from fieldguide.data import stored
from fieldguide.studies import studies

OUTLINE = ROOT / "tests" / "outline.txt"

MARKS = re.compile(
    r"^(?P<heading>#+ .*)$|(?<!!)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)|^ *:link: (?P<card>\S+)$"
    r"|\{numref\}`(?P<figure>[^`]+)`",
    re.M,
)


def outline() -> str:
    """Return what there is now."""
    places = [*sorted((ROOT / "book").glob("**/*.md")), ROOT / "README.md"]
    pages = {path: path.read_text(encoding="utf-8") for path in places}
    for path in NOTEBOOKS:
        text = [source(cell) for cell in cells(path.stem) if cell["cell_type"] == "markdown"]
        pages[path] = "\n\n".join(text)
    lines: list[str] = []
    for path, text in pages.items():
        lines += [path.relative_to(ROOT).as_posix(), *_marks(text)]
        lines += [*(_claims(path.stem) if path in NOTEBOOKS else []), ""]
    for name in studies():
        lines += _columns(name)
    return "\n".join([*lines, *_records(), ""])


def prose(text: str) -> str:
    """Leave out fenced code; README's is run by test_package, the rest are commands."""
    return re.sub(r"^```.*?^```\n?", "", text, flags=re.S | re.M)


def _marks(text: str) -> Iterator[str]:
    for found in MARKS.finditer(prose(text)):
        if found["heading"]:
            yield f"    {found['heading']}"
        else:
            target = found["target"] or found["card"] or found["figure"]
            yield f"        [{found['words'] or ''}] -> {target}"


def _claims(stem: str) -> Iterator[str]:
    for name in ("claims.check", "reply.check"):
        for call in calls(stem, name):
            sentence, holds = call.args
            yield f"    claim: {ast.unparse(sentence)}"
            yield textwrap.indent(ast.unparse(holds), "        ")


def _records() -> Iterator[str]:
    """A digest of each record beside the tables: R's output, what was published, how tables came."""
    for path in sorted((ROOT / "data").glob("*.json")):
        yield f"{path.relative_to(ROOT).as_posix()}: {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


def _columns(name: str) -> Iterator[str]:
    """A digest of each column of a stored table, but of those that measure time."""
    yield f"data/{name}.parquet"
    table = stored(name).table
    for column in table:
        if "seconds" not in str(column):
            text = "\n".join(map(repr, table[column].tolist()))
            yield f"    {column}: {hashlib.sha256(text.encode()).hexdigest()[:8]}"


if __name__ == "__main__":
    OUTLINE.write_text(outline(), encoding="utf-8")
