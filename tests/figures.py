"""The declared inventory of the book's figures and tables, and what holds a page against it.

``figures.toml`` says of every figure which panels, words and marks it has and of which fits they are,
and of every table its columns, rows and fits. In it ``#`` stands for a number that is a result (of a
sampler, so that it changes with the seed or the machine), and ``…`` after "at" for coordinates that are.
All other numbers are the same in every build.

After a change that is meant, ``python tests/figures.py`` writes the file anew from the built book and
keeps the ``#`` that still fit; read the difference before it is committed. Given folders of executed
notebooks (of several seeds) instead, it puts ``#`` where they differ.
"""

import difflib
import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat

from fieldguide.outputs import FIGURE_MIME, TABLE_MIME
from fieldguide.seen import AT

INVENTORY = Path(__file__).with_name("figures.toml")
NUMBER = r"(?:(?<![\w.])[-+−±])?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
ANYWHERE = f"{AT}…"


def shown(notebook, chapter: str) -> dict[str, dict]:
    """What a notebook shows, by the name of the figure or table."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if FIGURE_MIME in data:
                content = data[FIGURE_MIME]
                entry = {"chapter": chapter, "caption": content["caption"]} | content["seen"]
                found[content["name"]] = entry
            elif TABLE_MIME in data:
                content = data[TABLE_MIME]
                found[content["name"]] = {
                    "chapter": chapter,
                    "caption": content["caption"],
                    "fits": list(content["fits"]),
                    "columns": content["columns"],
                    "rows": [" | ".join(row) for row in content["rows"]],
                }
    return found


def lines_of(entry: dict) -> list[str]:
    """An entry of the inventory, or what a page shows, line by line."""
    lines = [f"chapter {entry['chapter']}", f"caption: {entry['caption']}"]
    lines += [f"of {fit}" for fit in entry["fits"]]
    for k, panel in enumerate(entry.get("panels", []), 1):
        lines += [f"panel {k}", *(f"  {line}" for line in panel)]
    lines += [f"around: {line}" for line in entry.get("around", [])]
    lines += [f"column {column}" for column in entry.get("columns", [])]
    return lines + [f"row {row}" for row in entry.get("rows", [])]


def fits_pattern(pattern: str, line: str) -> bool:
    """Whether a line is as declared, with any number for ``#`` and any place for ``…``."""
    if pattern.endswith(ANYWHERE):
        pattern, line = pattern.removesuffix(ANYWHERE), line.partition(AT)[0]
    parts = re.split("#", pattern)
    return re.fullmatch(NUMBER.join(map(re.escape, parts)), line) is not None


def differences(declared: dict, found: dict) -> list[str]:
    """How what a page shows differs from the inventory; empty if it does not."""
    sure = found.get("sure", [])
    patterns, lines = ([_any_draws(line, sure) for line in lines_of(one)] for one in (declared, found))
    # The crosses of a fit without divergent draws may be missing.
    missing = [f"divergent draws of {fit}" for fit in sure]
    if len(patterns) > len(lines):
        patterns = [
            p
            for p in patterns
            if not any(m in p for m in missing) or any(fits_pattern(p, x) for x in lines)
        ]
    if len(patterns) == len(lines) and all(map(fits_pattern, patterns, lines)):
        return []
    by_pattern = [next((p for p in patterns if fits_pattern(p, line)), line) for line in lines]
    return [
        line
        for line in difflib.unified_diff(patterns, by_pattern, "declared", "shown", lineterm="", n=1)
        if not line.startswith("@@")
    ] or ["the same lines in another order or number"]


def _any_draws(line: str, sure: list[str]) -> str:
    """All draws of a fit are those that did not diverge, if none did."""
    for fit in sure:
        kinds = rf"(all \d+ draws|draws that did not diverge) of {re.escape(fit)}"
        line = re.sub(kinds, f"draws of {fit}".replace("\\", r"\\"), line)
    return line


def read() -> dict[str, dict]:
    """The inventory."""
    return tomllib.loads(INVENTORY.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------
# Writing it anew


def masked(line: str, other: str) -> str:
    """A line with ``#`` where another run of the page has another number."""
    if line == other:
        return line
    if AT in line and AT in other and line.partition(AT)[0] == other.partition(AT)[0]:
        return line.partition(AT)[0] + ANYWHERE
    skeletons = [re.split(NUMBER, one) for one in (line, other)]
    if skeletons[0] != skeletons[1]:
        return line
    numbers = [re.findall(NUMBER, one) for one in (line, other)]
    kept = ["#" if a != b else a for a, b in zip(*numbers, strict=True)]
    return "".join(part + number for part, number in zip(skeletons[0], [*kept, ""], strict=True))


def merged(entry: dict, other: dict) -> dict:
    """An entry with ``#`` where another run has other numbers."""
    result = dict(entry)
    result["caption"] = masked(entry["caption"], other["caption"])
    for key in ("around", "panels"):
        if key in entry:
            result[key] = _each(entry[key], other.get(key, []), masked)
    if "rows" in entry:
        result["rows"] = _each(entry["rows"], other["rows"], _masked_row)
    return result


def _masked_row(row: str, other: str) -> str:
    """A row with ``#`` for all numbers of the cells that differ."""
    ours, theirs = row.split(" | "), other.split(" | ")
    if len(ours) != len(theirs):
        return row
    pairs = zip(ours, theirs, strict=True)
    return " | ".join(a if a == b else re.sub(NUMBER, "#", a) for a, b in pairs)


def _masked_cells(row: str, columns: list[str]) -> str:
    """A row about fits: its numbers are results, but for what is quoted or exact."""
    first, *cells = row.split(" | ")
    kept = {"published", "exact"}
    cells = zip(columns[1:], cells, strict=True)
    return " | ".join([first, *(c if n in kept else re.sub(NUMBER, "#", c) for n, c in cells)])


def _each(ours, theirs, function):
    if isinstance(ours, str):
        return function(ours, theirs) if isinstance(theirs, str) else ours
    theirs = [*theirs, *ours[len(theirs) :]][: len(ours)]
    return [_each(a, b, function) for a, b in zip(ours, theirs, strict=True)]


def keeping(entry: dict, declared: dict) -> dict:
    """An entry with the ``#`` of the present inventory where they still fit."""

    def keep(line, pattern):
        return pattern if fits_pattern(pattern, line) else line

    result = entry | {"caption": keep(entry["caption"], declared["caption"])}
    for key in ("around", "panels", "rows"):
        if key in entry and key in declared:
            result[key] = _each(entry[key], declared[key], keep)
    return result


def write(entries: dict[str, dict]) -> None:
    """Write the inventory."""

    def quoted(value, indent=0):
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        if not value:
            return "[]"
        pad = " " * (indent + 4)
        inner = "".join(f"{pad}{quoted(one, indent + 4)},\n" for one in value)
        return f"[\n{inner}{' ' * indent}]"

    blocks = []
    for name, entry in entries.items():
        keys = [key for key in entry if key != "sure" and (entry[key] or key == "fits")]
        blocks.append("\n".join([f"[{name}]", *(f"{key} = {quoted(entry[key])}" for key in keys)]))
    head = "".join(f"# {line}".rstrip() + "\n" for line in __doc__.strip().splitlines())
    INVENTORY.write_text(head + "\n" + "\n\n".join(blocks) + "\n", encoding="utf-8")


def main(folders: list[str]) -> None:
    """Write the inventory from executed notebooks."""
    if folders:
        runs = [{p.stem: nbformat.read(p, 4) for p in sorted(Path(f).glob("*.ipynb"))} for f in folders]
    else:
        from conftest import NOTEBOOKS, ROOT
        from jupyter_cache import get_cache

        from fieldguide.sphinx_ext import execution_cache

        cache = get_cache(str(execution_cache(ROOT)))
        runs = [
            {p.stem: cache.get_cache_bundle(cache.match_cache_file(str(p)).pk).nb for p in NOTEBOOKS}
        ]
    before = read() if INVENTORY.exists() else {}
    entries = {}
    for chapter, notebook in runs[0].items():
        entries |= shown(notebook, chapter)
    for run in runs[1:]:
        for chapter, notebook in run.items():
            for name, other in shown(notebook, chapter).items():
                entries[name] = merged(entries[name], other)
    for entry in entries.values():
        if entry["fits"] and "rows" in entry:
            entry["rows"] = [_masked_cells(row, entry["columns"]) for row in entry["rows"]]
    write({n: keeping(e, before[n]) if n in before else e for n, e in entries.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
