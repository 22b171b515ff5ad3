"""The last touch on the written pages: what they load, and what assistive programs are told.

The theme loads a script with every icon there is (1.5 MB) and eleven style sheets before it shows a
page, scripts that no page uses, and each picture at once. A fold is called "Toggle hidden content"
whatever its summary says, the empty corner of a table counts as a heading, and a bibliography is no
list. Pages are texts when they are written; here each is read once more and mended.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from html import escape
from pathlib import Path
from urllib.parse import quote, urljoin

from fieldguide.mathml import FONT, characters, write_font
from fieldguide.sheets import one_sheet, words_of_page, words_of_script

ADDRESS = ("FIELDGUIDE_URL", "READTHEDOCS_CANONICAL_URL")
"""Environment variables that say where the site is read; the first that is set counts."""

REPOSITORY = "FIELDGUIDE_REPOSITORY"
"""Environment variable that says where on GitHub the repository is, if its remote does not."""

BRANCH = "main"
"""What is published, and opened by the launch buttons."""

SHEET = "site.css"

PHONE = 600
"""Width in pixels up to which a page shows the drawings for a phone."""

_ON_GITHUB = re.compile(r"github\.com[:/]([\w-]+)/([\w.-]+?)(?:\.git)?/?$")
_ICON_SCRIPT = re.compile(r'\s*<script src="[^"]*scripts/fontawesome\.js[^"]*"></script>')
_ICON = re.compile(
    r'<(?:i|span) class="(?P<classes>[^"]*\bfa[srb]?\b[^"]*|[^"]*\bfa-(?:solid|brands)\b[^"]*)"'
)
_SHEET = re.compile(r'[ \t]*<link [^>]*href="(?P<to>[^"?]*_static/)(?P<name>[^"?]*\.css)[^"]*"[^>]*>\n?')
_SCRIPT = re.compile(r'<script (?P<with>[^>]*src="(?:[./]*_static/)?(?P<name>[^"?]*)[^>]*)></script>')

USED_BY = {
    "togglebutton.js": r'class="(?:[^"]* )?(?:toggle|admonition(?: [^"]*)? dropdown)[ "]',
    "design-tabs.js": r'class="[^"]*\bsd-tab',
    "clipboard.min.js": r'class="highlight',
    "copybutton.js": r'class="highlight',
}
"""Scripts that extensions load on every page, and what there is to do for them on a page."""

MENDED = (
    # The book's theme takes the focus from a button that was pressed, to put out its tooltip.
    ("scripts/sphinx-book-theme.js", "t.blur()", "window.bootstrap.Tooltip.getInstance(t)?.hide()"),
    # The way to the top hides its button, and with it the focus.
    (
        "scripts/bootstrap.js",
        "document.body.scrollTop=0,document.documentElement.scrollTop=0",
        'scrollTo(0,0);const m=document.getElementById("main-content");m.tabIndex=-1,'
        "m.focus({preventScroll:!0})",
    ),
    # A link to a setting of the explorer is none to a place on the page, and no selector.
    (
        "scripts/bootstrap.js",
        "we.findOne(decodeURI(e.hash),this._element)",
        "document.getElementById(decodeURI(e.hash.slice(1)))",
    ),
    # What scrolls can be reached with the keyboard, but for equations.
    (
        "scripts/pydata-sphinx-theme.js",
        '".pst-scrollable-table-container"].join',
        '".pst-scrollable-table-container","div.math"].join',
    ),
    # All sizes are read before the first element is changed: one layout of the page, not one for each.
    (
        "scripts/pydata-sphinx-theme.js",
        ".forEach((e=>{e.tabIndex=e.scrollWidth>e.clientWidth||e.scrollHeight>e.clientHeight?0:-1}))",
        ".forEach(((_,k,all)=>{if(k)return;const to=Array.from(all,(e=>"
        "e.scrollWidth>e.clientWidth||e.scrollHeight>e.clientHeight?0:-1));"
        "all.forEach(((e,j)=>{e.tabIndex=to[j]}))}))",
    ),
    # An excerpt of a page that was found is taken from its sentences.
    (
        "searchtools.js",
        '[".headerlink", "script", "style"]',
        '[".headerlink", "script", "style", "#jb-print-docs-body", ".running-time", ".highlight", '
        '"table", "summary"]',
    ),
)
"""Scripts of the theme and of Sphinx: where something is amiss, and how it is mended."""


def finish(page: str, version: str = "") -> str:
    """Return a page as it is to be read.

    Parameters
    ----------
    page : str
        The whole page, as the theme wrote it.
    version : str
        Of the one style sheet, so that no browser shows the page with an older one.

    Returns
    -------
    str
        The page with one style sheet, with the scripts that it uses and no others, which wait until it
        has been read, with pictures that load when the reader comes near, with notebooks that are saved
        and not shown as text, and with folds, corners of tables, bibliographies, the search and the
        way home named as what they are.
    """
    page = _ICON_SCRIPT.sub("", page)
    page = _ICON.sub(lambda found: f'{found[0]} aria-hidden="true"', page)
    page = _pictures(page)
    page = re.sub(r'(href="[^"]*_sources/[^"]*\.ipynb") target="_blank"', r"\1 download", page)
    if sheet := _SHEET.search(page):
        link = f'    <link rel="stylesheet" href="{sheet["to"]}{SHEET}?v={version}" />\n'
        page = page[: sheet.start()] + link + _SHEET.sub("", page[sheet.start() :])
    page = re.sub(r'[ \t]*<link rel="preload" as="script"[^>]*>\n?', "", page)
    body = page.partition("<body")[2]
    page = _SCRIPT.sub(
        lambda script: (
            ""
            if script["name"] in USED_BY and not re.search(USED_BY[script["name"]], body)
            else script[0]
            if " defer" in f" {script['with']}"
            else f"<script defer {script['with']}></script>"
        ),
        page,
    )
    # What stands in the page and calls one of them waits as well.
    page = re.sub(r"<script>(?=\s*(?:DOCUMENTATION_OPTIONS|Search)\.)", '<script type="module">', page)
    before, first, others = page.partition("<img ")
    page = before + first + others.replace("<img ", '<img loading="lazy" ')
    page = page.replace(' aria-label="Toggle hidden content"', "")
    page = re.sub(r'(search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1", page)
    logo = r'<div class="sidebar-primary-item">(?=\s*<a class="navbar-brand)'
    page = re.sub(logo, '<div class="sidebar-primary-item" role="navigation" aria-label="Book">', page)
    page = re.sub(r"<th(?: class=\"[^\"]*\")?>(?:<p></p>)?</th>", "<td></td>", page)
    page = page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    page = page.replace(' role="doc-biblioentry"', "")  # which is for items of a list
    before, first, others = page.partition('<meta name="viewport"')
    return before + first + re.sub(r'\s*<meta name="viewport"[^>]*>', "", others)


def _pictures(page: str) -> str:
    """Make one picture of each figure's two drawings: the browser loads the one that fits."""
    page = re.sub(r'<a class="[^"]*\bimage-reference"[^>]*>(<img [^>]*>)\s*</a>', r"\1", page)
    page = re.sub(r'style="width: (\d+)px; height: (\d+)px;"', r'width="\1" height="\2"', page)

    def picture(found: re.Match) -> str:
        narrow = re.sub(r' (?:alt|class)="[^"]*"', "", found["narrow"]).replace(" src=", " srcset=")
        source = narrow.replace("<img", f'<source media="(max-width: {PHONE}px)"')
        return f"<picture>{source}{found['wide']}</picture>"

    drawings = r'(?P<wide><img [^>]*class="[^"]*\bwide\b[^>]*>)\s*(?P<narrow><img [^>]*\bnarrow\b[^>]*>)'
    return re.sub(drawings, picture, page)


def site_address(root: Path) -> str:
    """Return where the site is read, with a slash at its end, or nothing where that is not known.

    It is what the environment says, or else the GitHub Pages of the repository.
    """
    for name in ADDRESS:
        if os.environ.get(name):
            return os.environ[name].rstrip("/") + "/"
    if not (repository := repository_address(root)):
        return ""
    owner, name = repository.split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


def repository_address(root: Path) -> str:
    """Return where the repository is on GitHub, or nothing where that is not known.

    It is what the environment says, or else the remote ``origin``.

    Raises
    ------
    ValueError
        If the environment says something that is no repository on GitHub.
    """
    told = os.environ.get(REPOSITORY, "")
    found = _ON_GITHUB.search(told or _remote(root))
    if told and not found:
        raise ValueError(f"{REPOSITORY} is {told!r}, but should be like https://github.com/owner/name")
    return f"https://github.com/{found[1]}/{found[2]}" if found else ""


def _remote(root: Path) -> str:
    try:
        asked = subprocess.run(
            ["git", "config", "--get", "remote.origin.url"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # there is no git on this machine
        return ""
    return asked.stdout.strip()


def about(title: str, description: str, page: str, address: str, picture: str = "") -> str:
    """Return what search engines and messengers show of a page, for its head.

    Parameters
    ----------
    title, description : str
        In words, without markup.
    page : str
        Path of the page on the site.
    address : str
        Of the site, from `site_address`; without it no link to the page or to a picture is given.
    picture : str
        Path of a picture on the site.
    """
    said = {"og:type": "article", "og:title": title, "og:description": description}
    if address:
        said["og:url"] = urljoin(address, page)
    if address and picture:
        said["og:image"] = urljoin(address, picture)
    tags = [f'<meta name="description" content="{escape(description)}" />']
    tags += [f'<meta property="{name}" content="{escape(words)}" />' for name, words in said.items()]
    return "\n    ".join(tags)


def sitemap(pages: list[str], address: str) -> str:
    """Return the list of pages that search engines ask for (sitemaps.org, protocol 0.9)."""
    entries = "\n".join(f"  <url><loc>{escape(urljoin(address, page))}</loc></url>" for page in pages)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}\n</urlset>\n'
    )


def icons_shown(page: str) -> set[str]:
    """Return the names of the icons on a page, such as ``magnifying-glass``."""
    names = {name for found in _ICON.finditer(page) for name in found["classes"].split()}
    return {name.removeprefix("fa-") for name in names if name.startswith("fa-")} - {"solid", "brands"}


def icon_styles(script: str, names: set[str]) -> str:
    """Return a style sheet that draws icons as the script would, each in the colour of its text.

    Parameters
    ----------
    script : str
        The theme's ``fontawesome.js``, in which every icon has a width, a height and a path.
    names : set of str
        Which icons; sizes such as ``lg`` are no icons, and left out.
    """
    rules = [
        ':is(i, span)[class*="fa-"] { display: inline-block; width: 1.25em; height: 1em; '
        "vertical-align: -0.125em; background: currentColor; "
        "mask: var(--icon) center / contain no-repeat; }",
        ':is(i, span)[class*="fa-"]::before { content: none !important; }',
    ]
    for name in sorted(names):
        shape = rf'"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]'
        found = re.search(rf"[{{,]{shape}", script)
        if found:
            width, height, path = found.groups()
            picture = (
                f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
                f"<path d='{path}'/></svg>"
            )
            quoted = quote(picture, safe=" '=/:,")
            rules.append(f'.fa-{name} {{ --icon: url("data:image/svg+xml,{quoted}"); }}')
    return "\n".join(rules) + "\n"


def mend_scripts(static: Path) -> None:
    """Mend the scripts of the theme and of Sphinx.

    Raises
    ------
    ValueError
        If one is not as it was; it is time to see whether it still needs mending.
    """
    for name, amiss, mended in MENDED:
        path = static / name
        script = path.read_text(encoding="utf-8")
        if amiss not in script:
            raise ValueError(f"{name} no longer has {amiss}: see fieldguide.html.MENDED")
        path.write_text(script.replace(amiss, mended), encoding="utf-8")


def finish_site(folder: Path) -> None:
    """Finish every page in a folder, and write the style sheet and the font that they need."""
    static = folder / "_static"
    pages = {
        path: path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.html"))
        if static not in path.parents
    }
    mend_scripts(static)
    links = (found for page in pages.values() for found in _SHEET.finditer(page))
    sheets = [static / name for name in dict.fromkeys(found["name"] for found in links)]
    scripts = {found["name"] for page in pages.values() for found in _SCRIPT.finditer(page)}
    words = set().union(*map(words_of_page, pages.values()))
    for path in (static / name for name in sorted(scripts) if "fontawesome" not in name):
        if path.is_file():
            words |= words_of_script(path.read_text(encoding="utf-8"))
    every_icon = static / "scripts" / "fontawesome.js"
    icons = set().union(*map(icons_shown, pages.values())) | {"xmark"}  # which the theme's script shows
    drawn = icon_styles(every_icon.read_text(encoding="utf-8"), icons)
    sheet = one_sheet(sheets, static, words) + drawn
    (static / SHEET).write_text(sheet, encoding="utf-8")
    write_font(set().union(*map(characters, pages.values())), static / FONT)
    version = hashlib.sha256(sheet.encode()).hexdigest()[:8]
    for path, page in pages.items():
        path.write_text(finish(page, version), encoding="utf-8")
    for name in ("fontawesome.js", "fontawesome.js.map"):
        (static / "scripts" / name).unlink(missing_ok=True)
