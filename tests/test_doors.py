"""The ways in: what a chapter's page offers to download, and jobs that need an index or the network."""

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions

import environments
import linkcheck
import pytest
from chapters import statements
from conftest import NOTEBOOKS, ROOT

from fieldguide.sphinx_ext import ask_for_the_doi


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_offers_its_chapter_without_results(site, path):
    page = site / "notebooks" / f"{path.stem}.html"
    (link,) = set(
        re.findall(r'<a href="([^"]*\.ipynb)" download[^>]*\bdropdown-item\b', page.read_text("utf-8"))
    )
    offered = (page.parent / link).read_bytes()
    assert offered == path.read_bytes()
    notebook = json.loads(offered)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_a_chapter_imports_only_what_every_door_brings():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    brought = set(re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE))
    homes = packages_distributions()
    for path in NOTEBOOKS:
        nodes = [node for statement in statements(path.stem) for node in ast.walk(statement)]
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert "fieldguide.page" in names
        for name in {name.partition(".")[0] for name in names} - {
            "fieldguide",
            *sys.stdlib_module_names,
        }:
            assert brought & set(homes[name]), f"{path.name} imports {name}"


def test_references_are_in_the_order_of_their_names(site):
    page = (site / "book" / "references.html").read_text(encoding="utf-8")
    labels = re.findall(r'<span class="label">(?:<span[^>]*>.</span>)?([^<]*)', page)
    assert len(labels) > 20
    assert labels == sorted(labels, key=lambda label: label.replace("ä", "a").lower())


def test_readers_are_shown_the_commands_that_are_tried():
    text = (ROOT / "book" / "run.md").read_text(encoding="utf-8")
    for line in (environments.WITH_PIP, environments.WITH_CONDA):
        assert f"\n{line}\n" in text


def link(uri: str, status: str, info: str = "", line: int = 7) -> dict:
    return {"filename": "book/run.md", "lineno": line, "status": status, "uri": uri, "info": info}


def test_dead_links_are_told_from_sites_that_let_no_program_in():
    said, code = linkcheck.report(
        [
            link("https://a.org", "working"),
            link("https://b.org", "broken", "404 Client Error: Not Found", line=30004),
            link("https://c.org", "broken", "403 Client Error: Forbidden"),
            link("https://d.org", "timeout", "Read timed out"),
        ]
    )
    assert said.splitlines() == [
        "2 let no program in, or answered too late:",
        "  book/run.md, line 7: https://c.org (403 Client Error: Forbidden)",
        "  book/run.md, line 7: https://d.org (Read timed out)",
        "1 dead:",
        "  book/run.md, cell 3: https://b.org (404 Client Error: Not Found)",
        "4 links: 1 lead somewhere, 1 dead.",
    ]
    assert code == 1
    assert linkcheck.report([link("https://a.org", "redirected")])[1] == 0
    assert linkcheck.report([])[1] == 1  # a book without links was not read


def test_a_doi_is_asked_for_where_programs_may():
    assert ask_for_the_doi(None, "https://doi.org/10.1/a") == "https://doi.org/api/handles/10.1/a"
    assert ask_for_the_doi(None, "https://example.org/doi.org/10.1/a") is None
