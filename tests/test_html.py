"""The last touch on the pages: what they load, and what assistive programs are told."""

import re
import subprocess
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from fieldguide.html import (
    ADDRESS,
    ICONS,
    REPOSITORY,
    about,
    finish,
    icon_styles,
    icons_shown,
    repository_address,
    site_address,
    sitemap,
)

HEAD = """<head>
<meta name="viewport" content="width=device-width, initial-scale=1.0" />
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<link rel="stylesheet" type="text/css" href="../_static/fieldguide.css?v=1" />
<script src="../_static/scripts/fontawesome.js?digest=1"></script>
<script>window.MathJax = {"options": {}}</script>
<script defer="defer" src="../_static/mathjax/tex-chtml.js"></script>
</head>"""


def test_no_page_loads_every_icon_there_is():
    page = finish(
        f'{HEAD}<i class="fa-solid fa-list"></i><i class="theme-switch fa-solid fa-sun fa-lg"></i>'
    )
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.find("script", src=re.compile("fontawesome"))
    assert soup.find("link", href=f"../_static/{ICONS}")
    assert all(icon["aria-hidden"] == "true" for icon in soup.find_all("i"))


@pytest.mark.parametrize(
    ("body", "loads"),
    [("<p>words</p>", False), ('<span class="math notranslate">\\(x\\)</span>', True), (r"\(x\)", True)],
)
def test_mathjax_is_loaded_where_there_is_mathematics(body, loads):
    page = finish(HEAD + body)
    assert ("mathjax/tex-chtml.js" in page) is loads
    assert ("window.MathJax" in page) is loads


def test_pictures_below_the_first_wait_for_the_reader():
    soup = BeautifulSoup(finish("<img src=a><img src=b><img src=c>"), "html.parser")
    assert [image.get("loading") for image in soup.find_all("img")] == [None, "lazy", "lazy"]


def test_a_notebook_is_downloaded_and_opens_elsewhere_in_a_tab():
    link = '<a href="{}" target="_blank"\n class="btn">'
    assert " download" in finish(link.format("../_sources/notebooks/a.ipynb"))
    elsewhere = link.format("https://colab.research.google.com/notebooks/a.ipynb")
    assert finish(elsewhere) == elsewhere


def test_a_fold_is_called_what_its_summary_says_and_an_empty_corner_heads_nothing():
    page = finish(
        '<details><summary aria-label="Toggle hidden content">Show the checks</summary></details>'
        "<table><tr><th></th><th>mean</th></tr></table>"
    )
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.summary.get("aria-label")
    assert [cell.name for cell in soup.tr.find_all(["td", "th"])] == ["td", "th"]


def test_the_width_of_the_screen_is_said_once():
    assert finish(HEAD).count('name="viewport"') == 1


def test_icons_are_drawn_from_the_themes_own_script():
    script = '{"sun":[512,512,[9728],"f185","M1 2"],"list":[512,448,["x"],"f03a","M3 4"]}'
    styles = icon_styles(script, {"sun", "list", "lg"})
    assert "M1 2" in styles
    assert "viewBox='0 0 512 448'" in styles
    assert ".fa-lg" not in styles
    assert icons_shown('<span class="fas fa-expand"></span><i class="fa-solid fa-sun fa-lg">') == {
        "expand",
        "sun",
        "lg",
    }


@pytest.mark.parametrize(
    ("remote", "repository", "address"),
    [
        (
            "git@github.com:Someone/a-book.git",
            "https://github.com/Someone/a-book",
            "https://someone.github.io/a-book/",
        ),
        (
            "https://x:secret@github.com/someone/a.book/",
            "https://github.com/someone/a.book",
            "https://someone.github.io/a.book/",
        ),
        ("https://example.org/someone/book.git", "", ""),
        (None, "", ""),
    ],
)
def test_the_addresses_are_those_of_the_remote(tmp_path, monkeypatch, remote, repository, address):
    for name in (*ADDRESS, REPOSITORY):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    if remote:
        subprocess.run(["git", "remote", "add", "origin", remote], cwd=tmp_path, check=True)
    assert repository_address(tmp_path) == repository
    assert site_address(tmp_path) == address


def test_the_environment_knows_the_addresses_better(tmp_path, monkeypatch):
    for name in ADDRESS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(REPOSITORY, "https://github.com/someone/book.git")
    assert repository_address(tmp_path) == "https://github.com/someone/book"
    assert site_address(tmp_path) == "https://someone.github.io/book/"
    monkeypatch.setenv(ADDRESS[0], "https://example.org/book")
    assert site_address(tmp_path) == "https://example.org/book/"
    monkeypatch.setenv(REPOSITORY, "https://example.org/someone/book")
    with pytest.raises(ValueError, match=f"{REPOSITORY} is 'https://example.org/someone/book'"):
        repository_address(tmp_path)


def test_a_page_is_described_to_those_who_have_not_opened_it():
    head = about(
        'What "diverged"', "Three districts & more.", "a.html", "https://example.org/", "_static/p.png"
    )
    soup = BeautifulSoup(head, "html.parser")
    said = {tag.get("name") or tag["property"]: tag["content"] for tag in soup.find_all("meta")}
    assert said["description"] == said["og:description"] == "Three districts & more."
    assert said["og:title"] == 'What "diverged"'
    assert said["og:url"] == "https://example.org/a.html"
    assert said["og:image"] == "https://example.org/_static/p.png"


def test_nothing_is_linked_where_the_address_is_not_known():
    assert "og:url" not in about("t", "d", "a.html", "", "p.png")
    assert "og:image" not in about("t", "d", "a.html", "", "p.png")


def test_the_sitemap_lists_pages_at_their_address():
    tree = ElementTree.fromstring(sitemap(["book/index.html"], "https://example.org/b/"))
    assert [loc.text for loc in tree.iter() if loc.tag.endswith("loc")] == [
        "https://example.org/b/book/index.html"
    ]
