"""The whole book as one PDF and as an ePub: ``python -m fieldguide.paper pdf|epub [FOLDER]``.

``make pdf`` and ``make epub`` run it. Both are bound from the pages of the site, so no notebook runs
again and every number is the one that the site shows. A browser prints the PDF and draws the cover. The
product is checked before it is kept, and put into the site, whose directive ``{editions}`` links to it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup
from filelock import FileLock
from sphinx_external_toc.parsing import parse_toc_yaml

from fieldguide.build import INPUTS, build, digest_of_site, keep_stamp

KINDS = {"pdf": "PDF", "epub": "ePub"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
TEXT_WIDTH = 605  # CSS pixels: 160 mm, as paper.css says
COVER = {"width": 600, "height": 900}
FONTS = {
    "Book": {
        "": "STIXGeneral",
        "bold": "STIXGeneralBol",
        "italic": "STIXGeneralItalic",
        "bold italic": "STIXGeneralBolIta",
    },
    "Code": {"": "DejaVuSansMono", "bold": "DejaVuSansMono-Bold", "italic": "DejaVuSansMono-Oblique"},
}
"""Fonts that come with Matplotlib, so that the book looks the same wherever it is printed."""

WHAT_IS_HERE = (
    "Printed here are the text, the figures, the tables, the code that a reader would write, and "
    "hints and solutions in their places. The code that sets a page up, draws its figures and checks "
    "its claims is left out; the notebooks have it."
)
LEFT_OUT = (
    "script, style, .headerlink, .running-time, .editions, .toctree-wrapper, .citation > .label, "
    ".tag_hide-input > details, .collapsed.admonition-title ~ .expanded"
)


class PaperError(Exception):
    """An edition was not made; the message says why and what to do about it."""


class Chapter(NamedTuple):
    """A page of the site, as it is to be bound.

    Attributes
    ----------
    name : str
        Its file's name without suffix, such as ``03_centered``; unique in the book.
    title : str
        With its number.
    part : str
        Caption of the part of the book that it opens, or nothing.
    article : bs4.Tag
        What stands on it.
    """

    name: str
    title: str
    part: str
    article: Any


# ---------------------------------------------------------------------------------------------
# From pages to chapters


def chapters_of(root: Path) -> list[Chapter]:
    """Return the pages of the built site in reading order, laid out for paper, with their links.

    A link from one page to another becomes ``name.xhtml#id``, and one into the same page ``#id``.

    Raises
    ------
    PaperError
        If a link leads to no page, or to no place on it.
    """
    site_map = parse_toc_yaml(root / "_toc.yml")
    opens = {str(part.items[0]): part.caption or "" for part in site_map.root.subtrees if part.items}
    pages = [str(page) for page in site_map]
    chapters = []
    for page in pages:
        text = (root / "_build" / "html" / f"{page}.html").read_text(encoding="utf-8")
        article = BeautifulSoup(text, "html.parser").select_one("article")
        assert article is not None, page
        lay_out(article)
        names = {f"{other}.html": f"{_name(other)}.xhtml" for other in pages}
        for link in article.select("a[href]"):
            link["href"] = _address(str(link["href"]), page, names)
        for image in article.select("img"):
            image["src"] = urljoin(f"{page}.html", str(image["src"]))
        title = article.h1.get_text() if article.h1 else page
        chapters.append(Chapter(_name(page), title, opens.get(page, ""), article))
    lost = dead_links(chapters)
    if lost:
        raise PaperError("these links lead nowhere:\n" + "\n".join(lost))
    return chapters


def _name(page: str) -> str:
    """Return the name of a page in the bound book, such as ``03_centered`` or ``teaching-plans``."""
    return "-".join(Path(page).parts[1:])


def _address(link: str, page: str, names: dict[str, str]) -> str:
    """Return where a link of a page leads in the bound book."""
    if link.startswith("#") or urlsplit(link).scheme:
        return link
    path, _, place = urljoin(f"{page}.html", link).partition("#")
    if path == f"{page}.html" and place:
        return f"#{place}"
    return names.get(unquote(path), path) + (f"#{place}" if place else "")


def dead_links(chapters: list[Chapter]) -> list[str]:
    """Return the links that lead to no chapter, or to no place in it, each after its chapter's name."""
    places = {
        chapter.name: {str(tag["id"]) for tag in chapter.article.select("[id]")} for chapter in chapters
    }
    dead = []
    for chapter in chapters:
        for link in chapter.article.select("a[href]"):
            path, _, place = str(link["href"]).partition("#")
            if urlsplit(path).scheme:
                good = urlsplit(path).scheme in ("http", "https", "mailto")
            else:
                name = path.removesuffix(".xhtml") or chapter.name
                good = name in places and (not place or unquote(place) in places[name])
            if not good:
                dead.append(f"{chapter.name}: {link['href']}")
    return dead


def lay_out(article: Any) -> None:
    """Lay a page out for a reader who cannot click: folds open or left out, pictures without links.

    Parameters
    ----------
    article : bs4.Tag
        A page's article; it is changed.
    """
    for tag in article.select(LEFT_OUT):
        tag.decompose()
    for fold in article.select("details"):
        label = fold.summary.extract().get_text(" ", strip=True)
        label = "Solution" if "solution" in label.lower() else label
        fold.name = "div"
        fold["class"] = ["unfolded"]
        label_tag = BeautifulSoup(f'<p class="label">{escape(label)}</p>', "html.parser")
        fold.insert(0, label_tag)
    for picture in article.select("picture"):
        for source in picture.select("source"):
            source.decompose()
        picture.unwrap()
    for link in article.select("a.image-reference"):
        link.unwrap()
    for link in article.select(".decks dt a, a.download"):
        link.unwrap()  # slides and files are for the screen
    for card in article.select(".sd-card"):
        title = card.select_one(".sd-card-title").get_text(strip=True)
        text = card.select_one(".sd-card-text").get_text(strip=True)
        link = card.select_one("a[href]")
        shown = f'<p class="card"><strong>{escape(title)}</strong> {escape(text)} → </p>'
        paragraph = BeautifulSoup(shown, "html.parser").p
        assert paragraph is not None
        if link is not None:
            paragraph.append(link.extract())
        card.replace_with(paragraph)
    for box in article.select(".sd-container-fluid, .sd-row, .sd-col"):
        box.unwrap()
    for code in article.select("pre, code"):
        code.string = code.get_text()  # each coloured word would be a tag of its own in the PDF
    for image in article.select("img"):
        del image["loading"]
    for tag in article.select("[border], [valign], [style]:not(col), [role=doc-biblioentry]"):
        for old in ("border", "valign", "style", "role"):  # what EPUB 3 forbids or advises against
            del tag[old]


# ---------------------------------------------------------------------------------------------
# One long page for the printer


def facts_of(root: Path) -> dict[str, str]:
    """Return what the book says of itself: title, author, licence, subtitle, version and date.

    The date is that of the last commit which touched what the pages depend on, or the first day of
    the copyright's year where there is no repository, so that the same sources always have the same.
    """
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    facts = {name: str(config[name]) for name in ("title", "author")}
    facts["licence"] = " ".join(str(config["html"]["extra_footer"]).split())
    facts["subtitle"] = facts["version"] = ""
    if (root / "CITATION.cff").is_file():
        cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
        facts |= {"subtitle": str(cited["abstract"]), "version": str(cited["version"])}
    facts["date"] = f"{config['copyright']}-01-01T00:00:00Z"
    command = ["git", "log", "-1", "--format=%ct", "--", *(f":(glob){pattern}" for pattern in INPUTS)]
    try:
        asked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # there is no git on this machine
        return facts
    if asked.stdout.strip():
        facts["date"] = datetime.fromtimestamp(int(asked.stdout), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return facts


def slug_of(title: str) -> str:
    """Return a title as part of a file's name: ``when-multilevel-models-diverge``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _long_page(root: Path, chapters: list[Chapter], facts: dict[str, str]) -> str:
    """Return the whole book as one page, with title, contents and notes of the links' addresses."""
    body = "".join(_printed(chapter) for chapter in chapters)
    running = "\n".join(
        f"@page c{number} {{ @top-center {{ content: {json.dumps(chapter.title)} }} }}\n"
        f'[id="{chapter.name}"] {{ page: c{number} }}'
        for number, chapter in enumerate(chapters)
    )
    static = (root / "_build" / "html" / "_static").as_uri()
    figure = chapters[0].article.select_one("figure img")
    picture = f'<img src="{escape(figure["src"])}" alt="" />' if figure else ""
    year_month_day = datetime.fromisoformat(facts["date"])
    date = f"{year_month_day.day} {year_month_day:%B %Y}"
    version = f"Version {facts['version']}, from" if facts["version"] else "From"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<title>{escape(facts["title"])}</title>
<base href="{(root / "_build" / "html").as_uri()}/" />
<link rel="stylesheet" href="{static}/edition.css" />
<link rel="stylesheet" href="{static}/paper.css" />
<style>
{_font_faces()}
{running}
</style>
</head>
<body class="bound">
<section class="title-page">
<p class="title">{escape(facts["title"])}</p>
<p class="subtitle">{escape(facts["subtitle"])}</p>
<p class="author">{escape(facts["author"])}</p>
{picture}
</section>
<section class="verso">
<p>{escape(WHAT_IS_HERE)}</p>
<p>{version} the sources of {date}.</p>
<p>{escape(facts["licence"])}</p>
</section>
<nav class="contents" aria-label="Contents">
<h1>Contents</h1>
{_contents(chapters)}
</nav>
{body}
</body>
</html>
"""


def _font_faces() -> str:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return "\n".join(
        f'@font-face {{ font-family: "{family}"; src: url("{(folder / name).as_uri()}.ttf"); '
        f"font-weight: {'bold' if 'bold' in face else 'normal'}; "
        f"font-style: {'italic' if 'italic' in face else 'normal'}; "
        # Taller letters than a line is high would be drawn, and read aloud, on the page before too.
        "ascent-override: 92%; descent-override: 26%; line-gap-override: 0%; }"
        for family, faces in FONTS.items()
        for face, name in faces.items()
    )


def _sections(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """Yield identifier and heading of the sections that a table of contents names."""
    for heading in chapter.article.select("h2"):
        place = heading.find_parent(id=True)
        if place is not None:
            yield str(place["id"]), heading.get_text()


def _contents(chapters: list[Chapter]) -> str:
    """Return the printed table of contents; sections that every other chapter has are not named."""
    titles = [title for chapter in chapters for _, title in _sections(chapter)]
    lines = []
    for chapter in chapters:
        if chapter.part:
            lines.append(f'<p class="part">{escape(chapter.part)}</p>')
        entries = [("chapter", chapter.name, chapter.title)]
        entries += [
            ("section", f"{chapter.name}--{place}", title)
            for place, title in _sections(chapter)
            if titles.count(title) <= len(chapters) / 2
        ]
        lines += [
            f'<p class="{kind}"><a href="#{place}"><span>{escape(title)}</span>'
            '<span class="leader"></span><span class="page"></span></a></p>'
            for kind, place, title in entries
        ]
    return "\n".join(lines)


def _printed(chapter: Chapter) -> str:
    """Return a chapter with identifiers of its own, and the addresses of its links at its end."""
    article: Any = BeautifulSoup(str(chapter.article), "html.parser").article
    for tag in article.select("[id]"):
        tag["id"] = f"{chapter.name}--{tag['id']}"
    addresses: list[str] = []
    for link in article.select("a[href]"):
        path, _, place = str(link["href"]).partition("#")
        if not urlsplit(path).scheme:
            name = path.removesuffix(".xhtml") or chapter.name
            link["href"] = f"#{name}--{place}" if place else f"#{name}"
        elif not _says_its_address(link):
            if link["href"] not in addresses:
                addresses.append(str(link["href"]))
            number = addresses.index(str(link["href"])) + 1
            link.insert_after(BeautifulSoup(f'<sup class="note">{number}</sup>', "html.parser"))
    notes = "".join(f"<li>{escape(address)}</li>" for address in addresses)
    listed = f'<section class="notes"><p>Addresses</p><ol>{notes}</ol></section>' if notes else ""
    body = article.decode_contents()
    return f'<article class="chapter" id="{chapter.name}">{body}{listed}</article>\n'


def _says_its_address(link: Any) -> bool:
    """Return whether a link's words are the address already, or a name such as doi:10.1000/182."""
    words = link.get_text(strip=True)
    return "." in words and re.sub(r"^(doi|arXiv):", "", words) in link["href"]


# ---------------------------------------------------------------------------------------------
# The browser


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise PaperError(
            "the Python package playwright is not installed: make env installs it"
        ) from None
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        if path is None and not Path(playwright.chromium.executable_path).is_file():
            raise PaperError(
                f"no browser was found (looked for {', '.join(BROWSERS)} on PATH). Install Chromium or "
                "Chrome with your package manager, or run: .venv/bin/playwright install chromium"
            )
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def _opened(root: Path, chapters: list[Chapter], facts: dict[str, str]) -> Iterator[Any]:
    """Open the whole book in a browser, as it is printed."""
    page = root / "_build" / "paper" / "book.html"
    page.write_text(_long_page(root, chapters, facts), encoding="utf-8")
    with _browser() as browser:
        tab = browser.new_page(viewport={"width": TEXT_WIDTH, "height": 900}, device_scale_factor=2)
        failed: list[str] = []
        tab.on("requestfailed", lambda request: failed.append(request.url))
        tab.emulate_media(media="print", color_scheme="light")
        tab.goto(page.as_uri())
        tab.evaluate("async () => { await document.fonts.ready; }")
        wide = tab.evaluate(
            """() => [...document.querySelectorAll('pre, table, img, math, dt, h1, h2, h3')]
            .filter(tag => tag.getBoundingClientRect().right > innerWidth + 1 ||
                           tag.matches('pre, dt') && tag.scrollWidth > tag.clientWidth + 1)
            .map(tag => `${tag.closest('article')?.id}: ${tag.tagName.toLowerCase()} ` +
                        `${(tag.textContent || tag.getAttribute('alt') || '').trim().slice(0, 60)}`)"""
        )
        broken = tab.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        trouble = [f"could not be loaded: {url}" for url in dict.fromkeys([*failed, *broken])]
        trouble += [f"wider than the paper: {words}" for words in wide]
        if trouble:
            raise PaperError("\n".join(trouble))
        yield tab


# ---------------------------------------------------------------------------------------------
# PDF


def make_pdf(root: Path, path: Path) -> int:
    """Print the built book, check it, and return how many pages it has.

    Parameters
    ----------
    root : Path
        The project's folder, in which the site is built.
    path : Path
        Where the PDF goes.
    """
    from pypdf import PdfReader, PdfWriter

    chapters, facts = chapters_of(root), facts_of(root)
    with _opened(root, chapters, facts) as tab:
        how = {"prefer_css_page_size": True, "print_background": True, "tagged": True, "outline": True}
        tab.pdf(path=path, **how)  # once to learn the pages' numbers, once more with them
        tab.evaluate(
            """numbers => document.querySelectorAll('.contents .page').forEach(page => {
            page.textContent = numbers[decodeURIComponent(page.parentNode.hash.slice(1))] })""",
            _page_numbers(PdfReader(path)),
        )
        tab.pdf(path=path, **how)
    writer = PdfWriter(clone_from=path)
    moment = datetime.fromisoformat(facts["date"]).strftime("D:%Y%m%d%H%M%SZ")
    writer.add_metadata(
        {
            "/Title": facts["title"],
            "/Author": facts["author"],
            "/Subject": facts["subtitle"],
            "/CreationDate": moment,
            "/ModDate": moment,
        }
    )
    preferences: Any = writer.create_viewer_preferences()
    preferences.display_doctitle = True
    writer.write(path)
    trouble = check_pdf(path, chapters)
    if trouble:
        raise PaperError("\n".join(trouble))
    return len(writer.pages)


def _page_numbers(reader: Any) -> dict[str, int]:
    """Return on which page each place is that a link leads to."""
    return {
        str(name).removeprefix("/"): reader.get_destination_page_number(place) + 1
        for name, place in reader.named_destinations.items()
    }


def check_pdf(path: Path, chapters: list[Chapter]) -> list[str]:
    """Return what is wrong with a printed book; nothing if it is as it should be.

    Parameters
    ----------
    path : Path
        The PDF.
    chapters : list of Chapter
        What its outline must hold, with their sections.
    """
    from pypdf import PdfReader

    reader: Any = PdfReader(path)
    catalog = reader.trailer["/Root"]
    trouble = [] if len(reader.pages) else ["it has no page"]
    titles = [" ".join(str(title).split()) for title in _titles(reader.outline)]
    wanted = [
        title for chapter in chapters for title in [chapter.title, *dict(_sections(chapter)).values()]
    ]
    missing = [title for title in wanted if " ".join(title.split()) not in titles]
    trouble += [f"its outline lacks {title!r}" for title in missing]
    if not catalog.get("/MarkInfo", {}).get("/Marked") or "/StructTreeRoot" not in catalog:
        trouble.append("it is not tagged")
    if not catalog.get("/Lang"):
        trouble.append("it does not say its language")
    if not reader.metadata or not reader.metadata.title:
        trouble.append("it has no title")
    places = set(reader.named_destinations)
    for number, page in enumerate(reader.pages, 1):
        for annotation in page.get("/Annots", ()):
            link = annotation.get_object()
            action = link.get("/A", {}).get_object() if "/A" in link else {}
            target = link.get("/Dest", action.get("/D"))
            address = str(action.get("/URI", ""))
            if address and not address.startswith(("http://", "https://", "mailto:")):
                trouble.append(f"page {number} links to {address}")
            elif not address and (target is None or (isinstance(target, str) and target not in places)):
                trouble.append(f"page {number} has a link to nowhere: {target}")
        for font in page["/Resources"].get("/Font", {}).values():
            if not _embedded(font.get_object()):
                trouble.append(f"page {number} needs the font {font.get_object().get('/BaseFont')}")
    return trouble


def _titles(outline: Any) -> Iterator[str]:
    for entry in outline:
        if isinstance(entry, list):
            yield from _titles(entry)
        else:
            yield entry.title


def _embedded(font: Any) -> bool:
    if font["/Subtype"] == "/Type3":  # its letters are drawings in the file
        return True
    if font["/Subtype"] == "/Type0":
        font = font["/DescendantFonts"][0].get_object()
    descriptor = font.get("/FontDescriptor", {})
    return any(name in descriptor for name in ("/FontFile", "/FontFile2", "/FontFile3"))


# ---------------------------------------------------------------------------------------------
# ePub


def make_epub(root: Path, path: Path) -> None:
    """Write the built book as an ePub.

    Parameters
    ----------
    root : Path
        The project's folder, in which the site is built.
    path : Path
        Where the ePub goes.
    """
    chapters, facts = chapters_of(root), facts_of(root)
    with _opened(root, chapters, facts) as tab:
        tab.emulate_media(media="screen", color_scheme="light")
        tab.set_viewport_size(COVER)
        tab.evaluate(
            "document.body.replaceChildren(document.querySelector('.title-page')); "
            "document.body.classList.add('cover')"
        )
        cover = tab.screenshot()
    html = root / "_build" / "html"
    files: dict[str, bytes] = {"cover.png": cover}
    files["style.css"] = (html / "_static" / "edition.css").read_bytes()
    for chapter in chapters:
        for image in chapter.article.select("img"):
            source = html / unquote(str(image["src"]))
            image["src"] = f"images/{source.name}"
            files[str(image["src"])] = (
                without_variables(source.read_text(encoding="utf-8")).encode()
                if source.suffix == ".svg"
                else source.read_bytes()
            )
        files[f"{chapter.name}.xhtml"] = _xhtml(
            chapter.title, _as_xml(chapter.article.decode_contents(formatter="minimal"))
        ).encode()
    files["nav.xhtml"] = _xhtml("Contents", _navigation(chapters)).encode()
    about = f"<p>{escape(WHAT_IS_HERE)}</p><p>{escape(facts['licence'])}</p>"
    title = f'<h1 class="title">{escape(facts["title"])}</h1><p>{escape(facts["subtitle"])}</p>'
    author = f"<p>{escape(facts['author'])}</p>"
    files["title.xhtml"] = _xhtml(facts["title"], f"{title}{author}{about}").encode()
    files["content.opf"] = _package(files, chapters, facts).encode()
    _zip(path, files)


def without_variables(picture: str) -> str:
    """Return an SVG in which each ``var(--name, value)`` is the value: not every reader knows them.

    >>> without_variables('<path style="fill: var(--ink, #222)"/>')
    '<path style="fill: #222"/>'
    """
    innermost = re.compile(r"var\(\s*--[\w-]+\s*,\s*([^()]*(?:\([^()]*\)[^()]*)*)\)")
    while (found := innermost.sub(lambda match: match[1].strip(), picture)) != picture:
        picture = found
    if "var(" in picture:
        raise PaperError("a picture uses a variable of CSS without a value to fall back on")
    return picture


def _as_xml(body: str) -> str:
    """Return what html.parser understood, as XML wants it."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", body)


def _xhtml(title: str, body: str) -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">
<head>
<title>{escape(title)}</title>
<link rel="stylesheet" type="text/css" href="style.css" />
</head>
<body>
{body}
</body>
</html>
"""


def _navigation(chapters: list[Chapter]) -> str:
    entries = []
    for chapter in chapters:
        below = "".join(
            f'<li><a href="{chapter.name}.xhtml#{place}">{escape(title)}</a></li>'
            for place, title in _sections(chapter)
        )
        nested = f"<ol>{below}</ol>" if below else ""
        entries.append(f'<li><a href="{chapter.name}.xhtml">{escape(chapter.title)}</a>{nested}</li>\n')
    nav = '<nav xmlns:epub="http://www.idpf.org/2007/ops" epub:type="toc" id="toc">'
    return f"{nav}<h1>Contents</h1><ol>\n{''.join(entries)}</ol></nav>"


TYPES = {
    ".xhtml": "application/xhtml+xml",
    ".css": "text/css",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}


def _package(files: dict[str, bytes], chapters: list[Chapter], facts: dict[str, str]) -> str:
    """Return the list of what an ePub holds and in which order it is read (EPUB 3.3, 5)."""
    items = []
    for name, content in files.items():
        properties = {"nav.xhtml": "nav", "cover.png": "cover-image"}.get(name, "")
        if b"<math" in content and name.endswith(".xhtml"):
            properties = "mathml"
        said = f' properties="{properties}"' if properties else ""
        items.append(
            f'<item id="{_id(name)}" href="{name}" media-type="{TYPES[Path(name).suffix]}"{said}/>'
        )
    order = ["title.xhtml", "nav.xhtml", *(f"{chapter.name}.xhtml" for chapter in chapters)]
    spine = "".join(f'<itemref idref="{_id(name)}"/>' for name in order)
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{facts['title']}, {facts['author']}")
    access = {
        "accessMode": ["textual", "visual"],
        "accessModeSufficient": ["textual"],
        "accessibilityFeature": [
            "alternativeText",
            "MathML",
            "structuralNavigation",
            "tableOfContents",
            "readingOrder",
        ],
        "accessibilityHazard": ["none"],
        "accessibilitySummary": ["Figures have alternative text, mathematics is MathML."],
    }
    said = "\n".join(
        f'<meta property="schema:{name}">{value}</meta>'
        for name, values in access.items()
        for value in values
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>
<dc:title>{escape(facts["title"])}</dc:title>
<dc:creator>{escape(facts["author"])}</dc:creator>
<dc:language>en</dc:language>
<dc:rights>{escape(facts["licence"])}</dc:rights>
<meta property="dcterms:modified">{facts["date"]}</meta>
{said}
</metadata>
<manifest>
{chr(10).join(items)}
</manifest>
<spine>{spine}</spine>
</package>
"""


def _id(name: str) -> str:
    return "f-" + re.sub(r"[^\w-]", "-", name)


def _zip(path: Path, files: dict[str, bytes]) -> None:
    """Write an ePub that is the same, byte for byte, whenever its files are."""
    container = (
        '<?xml version="1.0"?>\n<container version="1.0" '
        'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="book/content.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>\n"
    )
    entries = {"mimetype": b"application/epub+zip", "META-INF/container.xml": container.encode()}
    entries |= {f"book/{name}": content for name, content in files.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            how = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), content, how)


def check_epub(path: Path) -> str:
    """Return what epubcheck says of an ePub, or that it is not installed.

    Raises
    ------
    PaperError
        If epubcheck has anything to report.
    """
    program = shutil.which("epubcheck")
    if program is None:
        return "not checked: epubcheck is not installed"
    command = (
        ["java", "-jar", program] if zipfile.is_zipfile(program) else [program]
    )  # Debian's is a jar
    result = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    said = result.stdout + result.stderr
    if result.returncode != 0 or re.search(r"^(FATAL|ERROR|WARNING|INFO)", said, re.M):
        raise PaperError(f"epubcheck has something to report:\n{said.strip()}")
    return next(line for line in said.splitlines() if line.startswith("Messages"))


# ---------------------------------------------------------------------------------------------
# The site's links to both


def current_editions(root: Path) -> dict[str, Path]:
    """Return the editions that were made from what is there now, by kind."""
    folder = root / "_build" / "paper"
    try:
        made = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    digest = digest_of_site(root)
    return {
        kind: folder / name
        for kind, (name, of) in made.items()
        if of == digest and (folder / name).is_file()
    }


def link_editions(root: Path, html: Path) -> None:
    """Put the current editions into the site, and say on its pages where they are or how to make them.

    Parameters
    ----------
    root : Path
        The project's folder.
    html : Path
        That of the built pages.
    """
    links = []
    for kind, path in sorted(current_editions(root).items(), reverse=True):
        shutil.copyfile(path, html / path.name)
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        links.append(f'<a href="{{to}}{path.name}">the book as {KINDS[kind]}</a> ({size})')
    missing = (
        "This copy of the site has neither; <code>make pdf</code> and <code>make epub</code> add them."
    )
    words = f"To take along: {' and '.join(links)}." if links else missing
    for path in html.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if '<div class="editions' in page:
            to = "../" * (len(path.relative_to(html).parts) - 1)
            told = words.replace("{to}", to)
            page = re.sub(
                r'(<div class="editions[^>]*>).*?(</div>)', rf"\1<p>{told}</p>\2", page, flags=re.S
            )
            path.write_text(page, encoding="utf-8")


# ---------------------------------------------------------------------------------------------
# The command


def make(root: Path, kind: str) -> int:
    """Build the book if it is not built, make one edition of it, and link it from the site.

    Parameters
    ----------
    root : Path
        The folder of ``_config.yml`` and ``_toc.yml``.
    kind : {'pdf', 'epub'}
        Which edition.

    Returns
    -------
    int
        0 if it was made and found good.
    """
    if code := build(root):
        return code
    folder = root / "_build" / "paper"
    folder.mkdir(exist_ok=True)
    name = f"{slug_of(facts_of(root)['title'])}.{kind}"
    draft = folder / f"draft.{kind}"
    with FileLock(root / "_build" / "build.lock"):
        digest = digest_of_site(root)
        try:
            if kind == "pdf":
                said = f"{make_pdf(root, draft)} pages"
            else:
                make_epub(root, draft)
                said = check_epub(draft)
        except PaperError as trouble:
            print(f"{'─' * 80}\nThe {KINDS[kind]} was not made.\n\n{trouble}\n{'─' * 80}", flush=True)
            return 1
        os.replace(draft, folder / name)
        current = {other: [path.name, digest] for other, path in current_editions(root).items()}
        current[kind] = [name, digest]
        (folder / "made.json").write_text(json.dumps(current), encoding="utf-8")
        link_editions(root, root / "_build" / "html")
        keep_stamp(root, digest)
    size = (folder / name).stat().st_size / 1e6
    print(f"The {KINDS[kind]} is made ({said}, {size:.1f} MB): {(folder / name).as_uri()}", flush=True)
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m fieldguide.paper", description="Bind the book.")
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="where _config.yml stands")
    given = parser.parse_args()
    return make(given.folder.resolve(), given.kind)


if __name__ == "__main__":
    sys.exit(main())
