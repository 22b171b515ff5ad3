"""Slides to stand in front of a class with: a deck for a chapter, made of its executed page.

The source of a deck is a Markdown file in ``book/teaching/slides``, named as its chapter. A heading of
the second level begins a slide, ``:::{notes}`` holds what the teacher says, and what comes from the
chapter is named in a fence: ```` ```{figure} fig-ess ````. `PARTS` lists what can be named. Whatever the
chapter does not show, or shows folded, cannot come on a slide.

A deck is one file that loads nothing. Slide programs that can be had offline, such as reveal.js, bring
more than a hundred kilobytes, show nothing without JavaScript and are told by an address how to print;
here the browser scrolls and prints, and a short script turns the pages.
"""

from __future__ import annotations

import difflib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from copy import copy
from html import escape
from os.path import relpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from fieldguide.mathml import FONT, characters, to_mathml, write_font
from fieldguide.sheets import one_sheet, words_of_page, words_of_script

FOLDER = "book/teaching/slides"
"""Where the sources of decks are, from the root, and the decks on the site."""

PARTS: dict[str, Callable[[Chapter, str, list[str]], Tag]] = {}
"""What a deck can take from its chapter, by the name of the fence."""

TALL = 0.65
"""Height of a figure, as a share of its width, from which on it stands beside the words of a slide."""

FOLDED = "details, .tag_hide-cell, .tag_hide-input > .cell_input, .tag_hide-input > details"
TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".woff2": "font/woff2", ".woff": "font/woff"}
_SENTENCE_ENDS = re.compile(r"(?:(?<=[.?!])|(?<=[.?!][)”]))(?<!Fig\.)\s+(?=[^\W_a-z]|[(“])")


class SlideError(ValueError):
    """A deck names something that its chapter does not have."""


class Fault(NamedTuple):
    """What is wrong with a deck, and where: ``book/teaching/slides/03_centered.md:12``."""

    place: str
    words: str


class Deck(NamedTuple):
    """A deck as its source has it.

    Attributes
    ----------
    chapter : str
        Page of its chapter, such as ``notebooks/03_centered``.
    title : str
        Its first heading, without marks.
    slides : list of list of markdown_it.token.Token
        What stands on each slide; the first is that of the title.
    """

    chapter: str
    title: str
    slides: list[list[Any]]


# ---------------------------------------------------------------------------------------------
# The source of a deck


def sources(root: Path) -> list[Path]:
    """Return the sources of all decks in a project, in the order of their chapters."""
    return sorted((root / FOLDER).glob("*.md"))


def read_deck(path: Path) -> Deck:
    """Read the source of a deck.

    Raises
    ------
    SlideError
        If it does not begin with a title.
    """
    tokens = _reader().parse(path.read_text(encoding="utf-8"))
    slides: list[list[Any]] = []
    for token in tokens:
        if token.type == "heading_open" and token.tag in ("h1", "h2"):
            slides.append([])
        if not slides or (token.tag == "h1" and len(slides) > 1):
            raise SlideError("a deck begins with one heading of the first level, which is its title")
        slides[-1].append(token)
    if not slides or slides[0][0].tag != "h1":
        raise SlideError("a deck begins with one heading of the first level, which is its title")
    return Deck(f"notebooks/{path.stem}", re.sub(r"[*_`$]", "", slides[0][1].content), slides)


def _reader() -> MarkdownIt:
    def mathematics(tex: str, how: dict[str, Any]) -> str:
        return to_mathml(tex, how["display_mode"])

    reader = MarkdownIt("commonmark", {"typographer": True}).enable(["smartquotes", "table"])
    reader.use(dollarmath_plugin, renderer=mathematics, allow_digits=False).use(colon_fence_plugin)
    reader.add_render_rule("fence", _part)
    reader.add_render_rule("colon_fence", _notes)
    reader.add_render_rule("link_open", _link)
    return reader


def _part(renderer: Any, tokens: list[Any], number: int, options: Any, env: Any) -> str:
    """Return what a fence names, or note that there is no such thing."""
    token = tokens[number]
    found = re.fullmatch(r"\{(\w+)\}\s*(.*)", token.info.strip())
    if not found:
        return f"<pre><code>{escape(token.content)}</code></pre>\n"
    name, argument = found.groups()
    try:
        if name not in PARTS:
            raise SlideError(f"there is no part {name!r} of a slide; there are {', '.join(PARTS)}")
        lines = [line.strip() for line in token.content.splitlines() if line.strip()]
        return f"{PARTS[name](env['chapter'], argument.strip(), lines)}\n"
    except SlideError as error:
        env["faults"].append((env["above"] + token.map[0] + 1, str(error)))
        return ""


def _notes(renderer: Any, tokens: list[Any], number: int, options: Any, env: Any) -> str:
    """Keep the notes, which stand below the slide."""
    token = tokens[number]
    if token.info.strip() != "{notes}":
        said = f"{token.info.strip()!r} is nothing that a slide has; :::{{notes}} is"
        env["faults"].append((env["above"] + token.map[0] + 1, said))
        return ""
    inside = env | {"above": env["above"] + token.map[0] + 1}
    env["notes"].append(_reader().render(token.content, inside))
    return ""


def _link(renderer: Any, tokens: list[Any], number: int, options: Any, env: Any) -> str:
    """Let a link to a source, such as a notebook, lead to its page."""
    token = tokens[number]
    target = str(token.attrs["href"])
    if not urlsplit(target).scheme:
        token.attrs["href"] = env["chapter"].address(
            urljoin(f"{FOLDER}/", re.sub(r"\.(?:ipynb|md)(?=#|$)", ".html", target))
        )
    return renderer.renderToken(tokens, number, options, env)


# ---------------------------------------------------------------------------------------------
# What a chapter has


class Chapter:
    """The built page of a chapter, as decks take parts from it.

    Parameters
    ----------
    html : Path
        The folder of the built site.
    page : str
        Path of the page, without suffix.
    site : str
        Where the site is read, if that is known; links then lead there from anywhere.
    """

    def __init__(self, html: Path, page: str, site: str = "") -> None:
        self.html, self.page, self.site = html, page, site
        soup = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
        article = soup.select_one("article")
        assert article is not None, page
        self.article = article
        for mark in article.select(".headerlink"):
            mark.decompose()
        self.title = article.h1.get_text() if article.h1 else page
        self.shown = [
            tag
            for tag in article.select("p, li")
            if not tag.find_parent(["details", "table", "figure"])
            and not tag.find_parent(class_="claims")
            and not tag.select_one("p")
        ]

    def address(self, path: str) -> str:
        """Return the address by which a deck links to a path of the site."""
        return urljoin(self.site, path) if self.site else relpath(path, FOLDER)

    def take(self, tag: Tag) -> Tag:
        """Return a copy of a part of the page with pictures in it and links that lead on.

        Raises
        ------
        SlideError
            If the part is folded on the page.
        """
        if tag.select_one(FOLDED) or any(above.name == "details" for above in tag.parents):
            raise SlideError(f"what is folded on {self.page} stays folded")
        taken = copy(tag)
        for named in [taken, *taken.select("[id]")]:
            del named["id"]
        for link in taken.select("a[href]"):
            there = urljoin(f"{self.page}.html", str(link["href"]))
            link["href"] = there if urlsplit(there).scheme else self.address(there)
        for name in ("src", "srcset"):
            for picture in taken.select(f"[{name}]"):
                path = unquote(urljoin(f"{self.page}.html", str(picture[name])))
                picture[name] = as_data(self.html / path)
                del picture["loading"]
        return taken

    def labelled(self, kind: str, label: str) -> Tag:
        """Return the figure or table of a label."""
        tags = {str(tag["id"]): tag for tag in self.article.select(f"{kind}.fieldguide[id]")}
        if label not in tags:
            raise SlideError(
                f"{self.page} shows no {kind} {label!r}; it shows {', '.join(tags) or 'none'}"
            )
        return tags[label]

    def only(self, words: str, tags: list[Tag], what: str) -> Tag:
        """Return the one among some tags that has some words."""
        texts = [_plain(tag) for tag in tags]
        found = [tag for tag, text in zip(tags, texts, strict=True) if _plain(words) in text]
        if len(found) == 1:
            return found[0]
        if found:
            raise SlideError(
                f"{self.page} has the words {words!r} in {len(found)} {what}s; name more of them"
            )
        near = difflib.get_close_matches(_plain(words), texts, 3, 0)
        there = "; ".join(repr(text if len(text) < 120 else f"{text[:117]}...") for text in near)
        raise SlideError(f"{self.page} has no {what} with the words {words!r}; it has {there or 'none'}")


def _plain(words: str | Tag) -> str:
    """Return words as they are compared: in one line, with straight quotation marks."""
    text = words if isinstance(words, str) else words.get_text()
    marks = str.maketrans("“”‘’\N{NO-BREAK SPACE}", "\"\"'' ")
    return " ".join(text.translate(marks).split())


def as_data(path: Path) -> str:
    """Return a file as an address that holds it."""
    return f"data:{TYPES[path.suffix]};base64,{b64encode(path.read_bytes()).decode()}"


def _tag(markup: str) -> Tag:
    found = BeautifulSoup(markup, "html.parser").find()
    assert isinstance(found, Tag)
    return found


def _figure(chapter: Chapter, label: str, lines: list[str]) -> Tag:
    """Take a figure with its two drawings, its alternative text, its number and its caption."""
    figure = chapter.take(chapter.labelled("figure", label))
    image, drawn = figure.select_one("picture img"), figure.select_one("source")
    assert image is not None
    assert drawn is not None
    high = int(str(image["height"])) / int(str(image["width"]))
    figure["class"] = "fieldguide tall" if high > TALL else "fieldguide"
    drawn["media"] = "(max-width: 600px)"
    return figure


def _table(chapter: Chapter, label: str, lines: list[str]) -> Tag:
    """Take a table, or the rows and columns of it that are named: ``rows: sigma; alpha[3]``."""
    table = chapter.take(chapter.labelled("table", label))
    cut = dict(line.partition(":")[::2] for line in lines)
    if strange := sorted(set(cut) - {"rows", "columns"}):
        raise SlideError(f"a table is cut by rows and columns, not by {strange[0]!r}")
    names = {kind: [_plain(one) for one in words.split(";")] for kind, words in cut.items()}
    if "columns" in names:
        head = [_plain(cell) for cell in table.select("thead tr:last-child > *")]
        kept = {0, *(_place(name, head, f"column of {label}") for name in names["columns"])}
        for row in table.select("tr"):
            for number, cell in enumerate(row.find_all(["td", "th"], recursive=False)):
                if number not in kept:
                    cell.decompose()
    if "rows" in names:
        rows = table.select("tbody > tr")
        first = [_plain(row.find_all("td")[0]) for row in rows]
        for name in names["rows"]:
            _place(name, first, f"row of {label}")
        for row, name in zip(rows, first, strict=True):
            if name not in names["rows"]:
                row.decompose()
    caption = table.select_one(".caption-text")
    if cut and caption is not None:
        caption.append(" In part.")
    scrolls = _tag('<div class="scrolls"></div>')
    scrolls.append(table)
    return scrolls


def _place(name: str, names: list[str], what: str) -> int:
    if name not in names:
        raise SlideError(f"there is no {what} named {name!r}; there are {', '.join(names)}")
    return names.index(name)


def _sentence(chapter: Chapter, words: str, lines: list[str]) -> Tag:
    """Take the sentence that has some words; each further line takes another one."""
    said = [sentence for tag in chapter.shown for sentence in sentences(tag)]
    taken = _tag('<p class="said"></p>')
    for words_of_one in [words, *lines]:
        found = chapter.take(chapter.only(words_of_one, said, "sentence"))
        if taken.contents:
            taken.append(" ")
        taken.extend(list(found.contents))
    return taken


def sentences(paragraph: Tag) -> Iterator[Tag]:
    """Yield the sentences of a paragraph, each with its markup."""
    cuts = [found.span() for found in _SENTENCE_ENDS.finditer(paragraph.get_text())]
    one, place = _tag("<p></p>"), 0
    for child in paragraph.contents:
        text = child.get_text()
        if isinstance(child, Tag):
            one.append(copy(child))
        else:
            start = 0
            for end, begin in [(end - place, begin - place) for end, begin in cuts]:
                if 0 <= end < len(text):
                    one.append(NavigableString(text[start:end]))
                    yield one
                    one, start = _tag("<p></p>"), begin
            one.append(NavigableString(text[start:]))
        place += len(text)
    if one.get_text(strip=True):
        yield one


def _claim(chapter: Chapter, words: str, lines: list[str]) -> Tag:
    """Take a claim that the chapter has checked."""
    claims = chapter.article.select("ul.claims li")
    taken = _tag('<ul class="claims"></ul>')
    for words_of_one in [words, *lines]:
        taken.append(chapter.take(chapter.only(words_of_one, claims, "claim")))
    return taken


def _prediction(chapter: Chapter, words: str, lines: list[str]) -> Tag:
    """Take what the reader is asked to predict."""
    return chapter.take(chapter.only(words, chapter.article.select(".prediction"), "prediction"))


def _exercise(chapter: Chapter, title: str, lines: list[str]) -> Tag:
    """Take an exercise by its number or its title, as far as it is not folded."""
    headings = chapter.article.select("#exercises > section > h3")
    section = chapter.only(title, headings, "exercise").parent
    assert section is not None
    taken = _tag('<div class="exercise"></div>')
    heading = _tag(f'<p class="label">{section.h3.decode_contents() if section.h3 else ""}</p>')
    taken.append(heading)
    for part in section.find_all(True, recursive=False)[1:]:
        if not part.css.match("p, ul, ol, div.math"):
            break  # hint and solution are folded, and what comes after belongs to them
        taken.append(chapter.take(part))
    return taken


def _equation(chapter: Chapter, heading: str, lines: list[str]) -> Tag:
    """Take the first displayed equation below a heading."""
    headings = chapter.article.select("h2, h3")
    section = chapter.only(heading, headings, "heading").parent
    found = section.select_one("div.math") if section is not None else None
    if found is None:
        raise SlideError(f"{chapter.page} has no displayed equation below {heading!r}")
    return chapter.take(found)


def _code(chapter: Chapter, words: str, lines: list[str]) -> Tag:
    """Take the open code cell that has some words."""
    open_cells = [
        code
        for code in chapter.article.select("div.cell:not(.tag_hide-cell) div.cell_input pre")
        if not code.find_parent("details")
    ]
    taken = chapter.only(words, open_cells, "open code cell")
    return _tag(f"<pre><code>{escape(taken.get_text().strip())}</code></pre>")


PARTS |= {
    "figure": _figure,
    "table": _table,
    "sentence": _sentence,
    "claim": _claim,
    "prediction": _prediction,
    "exercise": _exercise,
    "equation": _equation,
    "code": _code,
}


# ---------------------------------------------------------------------------------------------
# A deck as one file


def write_decks(root: Path, html: Path, site: str = "") -> list[Fault]:
    """Write the decks of a project into its built site.

    Parameters
    ----------
    root : Path
        The project's folder.
    html : Path
        That of the built site.
    site : str
        Where the site is read, if that is known.

    Returns
    -------
    list of Fault
        What the decks name that their chapters do not have. Nothing if all is well.
    """
    faults = []
    for path in sources(root):
        place = path.relative_to(root).as_posix()
        if not (html / "notebooks" / f"{path.stem}.html").is_file():
            pages = ", ".join(page.stem for page in sorted((html / "notebooks").glob("*.html")))
            faults.append(Fault(f"{place}:1", f"no chapter is named as this deck; there are {pages}"))
            continue
        try:
            deck = read_deck(path)
        except SlideError as error:
            faults.append(Fault(f"{place}:1", str(error)))
            continue
        page, amiss = deck_page(deck, Chapter(html, deck.chapter, site), _about(root))
        faults += [Fault(f"{place}:{line}", words) for line, words in amiss]
        (html / FOLDER).mkdir(parents=True, exist_ok=True)
        (html / FOLDER / f"{path.stem}.html").write_text(page, encoding="utf-8")
    return faults


def _about(root: Path) -> dict[str, str]:
    """Return title and licence of the book."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    licence = str(config["html"]["extra_footer"]).split(",")[0]
    return {"title": str(config["title"]), "author": str(config["author"]), "licence": licence}


def deck_page(deck: Deck, chapter: Chapter, about: dict[str, str]) -> tuple[str, list[tuple[int, str]]]:
    """Return a deck as a page that loads nothing, and what is wrong in which line of its source."""
    faults: list[tuple[int, str]] = []
    slides = [_slide(deck, number, chapter, about, faults) for number in range(len(deck.slides))]
    static = chapter.html / "_static"
    script = (static / "slides.js").read_text(encoding="utf-8")
    body = f"""<main>
<h1>Slides for {escape(chapter.title)}</h1>
{"".join(slides)}</main>
<nav class="turn" aria-label="Slides">
<button type="button" class="back">Back</button>
<button type="button" class="on">Next</button>
</nav>"""
    words = words_of_page(body) | words_of_script(script)
    sheet = one_sheet([static / "fieldguide.css", static / "slides.css"], static, words)
    page = f"""<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="description" content="Slides for the chapter {escape(chapter.title)}" />
<title>{escape(deck.title)} – slides for {escape(chapter.title)}</title>
<link rel="icon" href="data:," />
<style>
{_with_fonts(sheet, static, characters(body))}
</style>
</head>
<body>
{body}
<script>
{script}</script>
</body>
</html>
"""
    return page, faults


def _slide(
    deck: Deck, number: int, chapter: Chapter, about: dict[str, str], faults: list[tuple[int, str]]
) -> str:
    reader = _reader()
    env: dict[str, Any] = {"chapter": chapter, "faults": faults, "notes": [], "above": 0}
    heading, rest = deck.slides[number][:3], deck.slides[number][3:]
    try:
        title = reader.renderer.render([heading[1]], reader.options, env)
        body = reader.renderer.render(rest, reader.options, env).replace("<th></th>", "<td></td>")
    except ValueError as error:  # an equation that is not understood
        faults.append((heading[0].map[0] + 1, str(error)))
        return ""
    soup = BeautifulSoup(body, "html.parser")
    layouts = {"tall": ".tall", "question": ".prediction, .exercise, blockquote"}
    kinds = [f"has-{kind}" for kind, selector in layouts.items() if soup.select(selector)]
    if number == 0:
        link = f'<a href="{chapter.address(f"{chapter.page}.html")}">{escape(chapter.title)}</a>'
        body += (
            f'<p class="source">Slides for {link}, a chapter of <cite>{escape(about["title"])}</cite>. '
            f"{escape(about['author'])}. {escape(about['licence'])}.</p>\n"
        )
        kinds.append("first")
    place, notes = number + 1, "".join(env["notes"])
    fold = (
        '<details class="notes"><summary>Notes</summary>\n<div class="spoken" role="group" '
        f'aria-label="Notes to slide {place}">{notes}</div></details>\n'
        if notes
        else ""
    )
    return f"""<section class="slide" id="{place}" tabindex="-1"
 role="group" aria-roledescription="slide" aria-labelledby="title-{place}">
<div class="{" ".join(["picture", *kinds])}">
<h2 id="title-{place}">{title}</h2>
<div class="shown">
{body}</div>
<p class="place"><a href="#{place}" aria-label="Slide {place} of {len(deck.slides)}">{place}</a></p>
</div>
{fold}</section>
"""


def _with_fonts(sheet: str, static: Path, shown: set[str]) -> str:
    """Return a style sheet that holds the fonts which it names, that of equations cut to its letters."""
    with TemporaryDirectory() as folder:
        mathematics = Path(folder) / FONT
        if shown:
            write_font(shown, mathematics)

        def inside(found: re.Match) -> str:
            name = found[1]
            path = mathematics if name == FONT else static / name
            return f'url("{as_data(path)}")' if path.is_file() else found[0]

        sheet = sheet.replace("font-display: optional", "font-display: block")  # they are there at once
        return re.sub(r'url\("?([\w./-]+)"?\)', inside, sheet)
