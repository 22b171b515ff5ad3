"""Follow every link that leads out of the book, and list those that are dead: ``make linkcheck``.

It is Sphinx's linkcheck over the pages and the chapters as they ran when the book was built (chapters
that have not run are run). Needs the network, so it is not a test that pytest collects. A site that
lets no program in (403, 429) or does not answer in time is listed apart, and is no failure.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from jupyter_book.sphinx import build_sphinx

LINES_OF_A_CELL = 10_000  # MyST-NB counts a notebook's lines so
NO_PROGRAMS = re.compile(r"\b(403|429)\b")


def check(root: Path) -> list[dict]:
    """Return what is known of each link: filename, lineno, status, code, uri, info."""
    out = root / "_build" / "linkcheck"
    said = StringIO()
    with redirect_stderr(said):
        result = build_sphinx(
            root,
            out,
            noconfig=True,
            path_config=root / "_config.yml",
            confoverrides={"external_toc_path": str(root / "_toc.yml"), "latex_individualpages": False},
            builder="linkcheck",
            doctreedir=out / ".doctrees",
            freshenv=True,
            quiet=True,
            jobs=os.cpu_count() or 1,
        )
    if isinstance(result, BaseException):
        raise SystemExit(f"{said.getvalue()}{result}")
    lines = (out / "output.json").read_text(encoding="utf-8").splitlines()
    return [one for one in map(json.loads, lines) if one["uri"].startswith("http")]


def report(links: list[dict]) -> tuple[str, int]:
    """Return a line for each link that is not well and the number of the others, and the exit code."""
    dead, silent = [], []
    for link in links:
        cell, line = divmod(link["lineno"], LINES_OF_A_CELL)
        place = f"cell {cell}" if cell else f"line {line}"
        line = f"  {link['filename']}, {place}: {link['uri']} ({link['info']})"
        if link["status"] == "timeout":
            silent.append(line)
        elif link["status"] == "broken":
            (silent if NO_PROGRAMS.search(link["info"]) else dead).append(line)
    said = []
    for words, lines in (("let no program in, or answered too late", silent), ("dead", dead)):
        if lines:
            said += [f"{len(lines)} {words}:", *sorted(lines)]
    well = len(links) - len(dead) - len(silent)
    said.append(f"{len(links)} links: {well} lead somewhere, {len(dead)} dead.")
    return "\n".join(said), int(bool(dead) or not links)


if __name__ == "__main__":
    said, code = report(check(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
    print(said)
    sys.exit(code)
