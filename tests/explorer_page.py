"""A page with one instrument of the explorer and nothing else, opened from a file in Chromium."""

import shutil
from pathlib import Path

from conftest import ROOT

from fieldguide.explorer import write_scripts

STATIC = ROOT / "book" / "_static"
PAGE = """<!doctype html>
<html lang="en" data-theme="{theme}">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<link rel="stylesheet" href="fieldguide.css">
<style>html {{ --pst-color-background: {paper}; }} body {{ background: {paper}; margin: 16px; }}
  body {{ color: var(--pst-color-text-base); font-family: var(--pst-font-family-base); }}</style>
<main><h1>{name}</h1>
<div class="explorer" data-instrument="{name}" data-title="{name}" data-own>
<div class="explorer-still">The still picture.</div></div></main>
<script defer src="explorer/open.js"></script>
</html>
"""


def write_page(folder: Path, name: str, theme: str = "light") -> Path:
    """Write the page of an instrument, with all that it loads, and return its path."""
    static = folder / "static"
    if not static.is_dir():
        shutil.copytree(STATIC, static)
        write_scripts(static / "explorer")
    page = static / f"{name}_{theme}.html"
    paper = "#ffffff" if theme == "light" else "#14181e"
    page.write_text(PAGE.format(name=name, theme=theme, paper=paper), encoding="utf-8")
    return page


def opened(browser, page: Path, state: str = "", width: int = 1280, **context):
    """Open a page with a state in its address; return the tab, whose `trouble` should stay empty."""
    context = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"} | context
    tab = browser.new_page(**context)
    tab.trouble = []
    tab.on("console", lambda m: tab.trouble.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: tab.trouble.append(str(error)))
    tab.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else tab.trouble.append(f"foreign: {request.url}")
        ),
    )
    tab.goto(page.as_uri() + (f"#{state}" if state else ""))
    tab.wait_for_selector(".explorer[data-opened]")
    return tab
