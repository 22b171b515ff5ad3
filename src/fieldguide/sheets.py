"""The style sheets of the site as one, without the rules that no page can use.

The themes and the extensions bring eleven sheets, most of it for icons and parts that no page has. A
browser shows nothing before all have come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

import tinycss2

GROUPS = {"media", "supports", "layer", "container"}
"""At-rules that hold rules of their own."""

MADE_UP = re.compile(r"bs-tooltip-")
"""Classes that the theme's scripts put together from parts."""


def one_sheet(paths: Iterable[Path], home: Path, words: set[str]) -> str:
    """Return several style sheets as one.

    Parameters
    ----------
    paths : iterable of Path
        The sheets, in the order in which they are loaded.
    home : Path
        The folder of the new one.
    words : set of str
        The classes and ids that pages and scripts name. A selector that needs another one is left out.
    """
    kept = "\n".join(_kept(rules, words) for path in paths for rules in _rules(path, home))
    frames = {name for name in re.findall(r"@(?:-\w+-)?keyframes ([\w-]+)", kept)}
    said = re.sub(r"@(?:-\w+-)?keyframes [\w-]+", "", kept)
    for name in sorted(name for name in frames if not re.search(rf"(?<![\w-]){name}(?![\w-])", said)):
        kept = re.sub(rf"@(?:-\w+-)?keyframes {name}\{{(?:[^{{}}]*\{{[^{{}}]*\}})*[^{{}}]*\}}", "", kept)
    return kept


def _rules(path: Path, home: Path) -> Iterator[list[Any]]:
    """Yield the rules of a sheet, after those of the sheets that it imports, as seen from a folder."""
    rules = tinycss2.parse_stylesheet(
        path.read_text(encoding="utf-8"), skip_comments=True, skip_whitespace=True
    )
    here = []
    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword == "import":
            yield from _rules(
                path.parent / next(t.value for t in rule.prelude if t.type == "string"), home
            )
        elif not (rule.type == "at-rule" and rule.lower_at_keyword == "charset"):
            here.append(rule)
    there = relpath(path.parent, home)
    if there != ".":
        for token in _tokens(here):
            if token.type == "url" and not re.match(r"data:|#|/|\w+:", token.value):
                token.representation = f"url({there}/{token.value})"
    yield here


def _tokens(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        yield part
        for inner in ("prelude", "content", "arguments"):
            yield from _tokens(getattr(part, inner, None) or [])


def _kept(rules: Iterable[Any], words: set[str]) -> str:
    """Return the rules that can match something, as text."""
    written = []
    for rule in rules:
        if rule.type == "error":
            raise ValueError(f"a style sheet cannot be read: {rule.message}")
        if rule.type == "qualified-rule":
            selectors = [one for one in _split(rule.prelude) if _can_match(one, words)]
            if selectors:
                written.append(f"{','.join(map(_text, selectors))}{{{_text(rule.content)}}}")
        elif rule.lower_at_keyword in GROUPS and rule.content is not None:
            inside = _kept(
                tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True), words
            )
            if inside:
                written.append(f"@{rule.at_keyword} {_text(rule.prelude)}{{{inside}}}")
        elif rule.content is not None:
            written.append(f"@{rule.at_keyword} {_text(rule.prelude)}{{{_text(rule.content)}}}")
        else:
            written.append(f"@{rule.at_keyword} {_text(rule.prelude)};")
    return "".join(written)


def _text(tokens: Iterable[Any]) -> str:
    said = tinycss2.serialize([token for token in tokens if token.type != "comment"])
    return re.sub(r"\s+", " ", said).strip() if '"' not in said and "'" not in said else said.strip()


def _split(prelude: list[Any]) -> Iterator[list[Any]]:
    """Yield the selectors between commas."""
    one: list[Any] = []
    for token in prelude:
        if token == ",":
            yield one
            one = []
        else:
            one.append(token)
    yield one


def _can_match(selector: list[Any], words: set[str]) -> bool:
    """Return whether the classes and ids that a selector needs are known; in (...) it needs none."""
    for before, token in zip([None, *selector], selector, strict=False):
        if (token.type == "ident" and before == ".") or (token.type == "hash" and token.is_identifier):
            if token.value not in words and not MADE_UP.match(token.value):
                return False
    return True


def words_of_page(page: str) -> set[str]:
    """Return the classes and ids in a page, and the words of the scripts that stand in it."""
    named = re.findall(r'\b(?:class|id)=(?:"([^"]*)"|\'([^\']*)\')', page)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    return {word for pair in named for word in " ".join(pair).split()}.union(
        *map(words_of_script, scripts)
    )


def words_of_script(script: str) -> set[str]:
    """Return everything in a script that could be a class or an id."""
    return set(re.findall(r"[A-Za-z_][\w-]*", script))
