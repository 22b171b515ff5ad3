"""The last touch on the written pages: what they load, and what assistive programs are told.

The theme loads a script with every icon there is (1.5 MB) before it shows a page, MathJax where there
is no mathematics, and each picture at once. A fold is called "Toggle hidden content" whatever its
summary says, the empty corner of a table counts as a heading, and a bibliography is no list. Pages are
texts when they are written; here each is read once more and mended.
"""

from __future__ import annotations

import os
import re
import subprocess
from html import escape
from pathlib import Path
from urllib.parse import quote, urljoin

ADDRESS = ("FIELDGUIDE_URL", "READTHEDOCS_CANONICAL_URL")
"""Environment variables that say where the site is read; the first that is set counts."""

REPOSITORY = "FIELDGUIDE_REPOSITORY"
"""Environment variable that says where on GitHub the repository is, if its remote does not."""

BRANCH = "main"
"""What is published, and opened by the launch buttons."""

ICONS = "icons.css"

PHONE = 600
"""Width in pixels up to which a page shows the drawings for a phone."""

_ON_GITHUB = re.compile(r"github\.com[:/]([\w-]+)/([\w.-]+?)(?:\.git)?/?$")
_ICON_SCRIPT = re.compile(r'\s*<script src="[^"]*scripts/fontawesome\.js[^"]*"></script>')
_ICON = re.compile(
    r'<(?:i|span) class="(?P<classes>[^"]*\bfa[srb]?\b[^"]*|[^"]*\bfa-(?:solid|brands)\b[^"]*)"'
)
_STYLE = re.compile(r'(?P<tag><link [^>]*href="(?P<to>[^"]*_static/)fieldguide\.css[^>]*>)')


def finish(page: str) -> str:
    """Return a page as it is to be read.

    Parameters
    ----------
    page : str
        The whole page, as the theme wrote it.

    Returns
    -------
    str
        The page with the icons it shows and no others, with MathJax only where there is mathematics,
        with pictures that load when the reader comes near, with notebooks that are saved and not shown
        as text, and with folds, corners of tables and bibliographies named as what they are.
    """
    page = _ICON_SCRIPT.sub("", page)
    page = _STYLE.sub(rf'\g<tag>\n    <link rel="stylesheet" href="\g<to>{ICONS}" />', page)
    page = _ICON.sub(lambda found: f'{found[0]} aria-hidden="true"', page)
    if 'class="math' not in page and r"\(" not in page:
        page = re.sub(r"\s*<script[^>]*>window\.MathJax = .*?</script>", "", page)
        page = re.sub(r'\s*<script[^>]*src="[^"]*mathjax/[^"]*"></script>', "", page)
    page = _pictures(page)
    page = re.sub(r'(href="[^"]*_sources/[^"]*\.ipynb") target="_blank"', r"\1 download", page)
    before, first, others = page.partition("<img ")
    page = before + first + others.replace("<img ", '<img loading="lazy" ')
    page = page.replace(' aria-label="Toggle hidden content"', "")
    page = re.sub(r"<th(?: class=\"[^\"]*\")?>(?:<p></p>)?</th>", "<td></td>", page)
    page = page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
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


def finish_site(folder: Path) -> None:
    """Finish every page in a folder, and write the style sheet of the icons that they show."""
    names: set[str] = {"xmark"}  # which the theme's script shows
    for path in sorted(folder.rglob("*.html")):
        page = path.read_text(encoding="utf-8")
        names |= icons_shown(page)
        path.write_text(finish(page), encoding="utf-8")
    scripts = folder / "_static" / "scripts"
    script = (scripts / "fontawesome.js").read_text(encoding="utf-8")
    (folder / "_static" / ICONS).write_text(icon_styles(script, names), encoding="utf-8")
    for name in ("fontawesome.js", "fontawesome.js.map"):
        (scripts / name).unlink(missing_ok=True)
