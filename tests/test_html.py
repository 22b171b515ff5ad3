"""The last touch on the pages: what they load, and what assistive programs are told."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from fieldguide.html import (
    ADDRESS,
    MENDED,
    REPOSITORY,
    SHEET,
    about,
    finish,
    icon_styles,
    icons_shown,
    mend_scripts,
    repository_address,
    site_address,
    sitemap,
)
from fieldguide.mathml import to_mathml
from fieldguide.sheets import one_sheet, words_of_page, words_of_script

HEAD = """<head>
<meta name="viewport" content="width=device-width, initial-scale=1.0" />
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<link href="../_static/styles/theme.css?digest=1" rel="stylesheet" />
<link rel="stylesheet" type="text/css" href="../_static/fieldguide.css?v=1" />
<script src="../_static/scripts/fontawesome.js?digest=1"></script>
<link rel="preload" as="script" href="../_static/scripts/bootstrap.js?digest=1" />
<script src="../_static/doctools.js?v=1"></script>
<script src="../_static/copybutton.js?v=1"></script>
<script src="../_static/togglebutton.js?v=1"></script>
<script>DOCUMENTATION_OPTIONS.pagename = 'book/a';</script>
<script defer src="../_static/scripts/bootstrap.js?digest=1"></script>
</head>"""


def scripts_of(page):
    """Return the scripts of a page that wait until it is read; all of them must."""
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.select("script[src]:not([defer])")
    return [re.search(r"(\w+)\.js", script["src"])[1] for script in soup.select("script[src]")]


def test_no_page_loads_every_icon_there_is():
    page = finish(
        f'{HEAD}<i class="fa-solid fa-list"></i><i class="theme-switch fa-solid fa-sun fa-lg"></i>'
    )
    soup = BeautifulSoup(page, "html.parser")
    assert "fontawesome" not in scripts_of(page)
    assert all(icon["aria-hidden"] == "true" for icon in soup.find_all("i"))


def test_a_page_has_one_style_sheet():
    soup = BeautifulSoup(finish(HEAD, version="12"), "html.parser")
    assert [sheet["href"] for sheet in soup.select("link[rel=stylesheet]")] == [
        f"../_static/{SHEET}?v=12"
    ]


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ("<p>toggle, highlight</p>", []),
        ('<div class="dropdown dropdown-download-buttons"></div>', []),
        ('<div class="highlight"></div>', ["copybutton"]),
        ('<div class="admonition note dropdown"></div>', ["togglebutton"]),
        ('<div class="cell toggle"></div>', ["togglebutton"]),
    ],
)
def test_a_page_loads_the_scripts_that_it_uses_when_it_is_read(body, needed):
    page = finish(f"{HEAD}<body>{body}</body>")
    assert scripts_of(page) == ["doctools", *needed, "bootstrap"]
    assert '<script type="module">DOCUMENTATION_OPTIONS' in page
    assert "preload" not in page


def test_a_script_that_is_no_longer_amiss_is_told(tmp_path):
    for name, amiss, _ in MENDED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with (tmp_path / name).open("a") as script:
            script.write(f"before {amiss} after\n")
    mend_scripts(tmp_path)
    for name, _, mended in MENDED:
        assert f"before {mended} after" in (tmp_path / name).read_text()
    (tmp_path / MENDED[0][0]).write_text("mended upstream")
    with pytest.raises(ValueError, match="no longer has"):
        mend_scripts(tmp_path)


def test_one_sheet_has_the_rules_that_can_match(tmp_path):
    (tmp_path / "styles").mkdir()
    (tmp_path / "basic.css").write_text("p.lead, p.gone { margin: 0 }")
    (tmp_path / "styles" / "theme.css").write_text(
        """@charset "UTF-8"; @import "../basic.css";
        .lead:hover, #there > a::after { background: url(picture.svg) }
        .gone, .gone.lead, #nowhere .lead { color: red }
        a:not(.gone) { content: "a,  b" }
        @media (max-width: 9px) { .gone { color: red } .made { animation: spin 1s } }
        @media print { .gone { color: red } }
        @keyframes spin { from { left: 0 } to { left: 1px } }
        @keyframes idle { from { left: 0 } to { left: 1px } }
        #fff { color: #fff }"""
    )
    words = words_of_page('<p class="lead  big" id="there">gone</p><script>add("made")</script>')
    sheet = one_sheet([tmp_path / "styles" / "theme.css"], tmp_path, words)
    assert sheet.replace("\n", "") == (
        "p.lead{margin: 0}"
        ".lead:hover,#there > a::after{background: url(styles/picture.svg)}"
        'a:not(.gone){content: "a,  b"}'
        "@media (max-width: 9px){.made{animation: spin 1s}}"
        "@keyframes spin{from { left: 0 } to { left: 1px }}"
    )
    assert words_of_script("a.classList.add('bd-open');") >= {"bd-open"}


def test_equations_are_written_as_mathml():
    lines = to_mathml(r"\begin{aligned} y_j &\sim N(0, 1) \\ \log\sigma &= |\Sigma| \end{aligned}", True)
    tree = ElementTree.fromstring(lines)
    tag = "{http://www.w3.org/1998/Math/MathML}"
    assert tree.get("display") == "block"
    assert [len(row) for row in tree.iter(f"{tag}mtr")] == [2, 2]
    assert "∼" in [sign.text for sign in tree.iter(f"{tag}mo")]
    assert {name.text: name.get("mathvariant") for name in tree.iter(f"{tag}mi")}["Σ"] == "normal"
    assert "&" not in "".join(tree.itertext())
    assert 'log</mi><mspace width="0.167em"' in lines


@pytest.mark.parametrize("tex", [r"\nosuchcommand x", r"a & b"])
def test_an_equation_that_is_not_understood_is_refused(tex):
    with pytest.raises(ValueError, match="not understood"):
        to_mathml(tex)


def test_an_equation_with_a_label_has_its_number(tmp_path):
    (tmp_path / "conf.py").write_text(
        "extensions = ['fieldguide.mathml']\nhtml_math_renderer = 'mathml'\n"
    )
    (tmp_path / "index.rst").write_text(
        "T\n=\n\n.. math:: x = 1\n   :label: one\n\nSee :eq:`one` and :math:`x`.\n\n"
        ".. math:: \\nosuchcommand\n"
    )
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", tmp_path, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nosuchcommand is not understood" in made.stderr
    soup = BeautifulSoup((tmp_path / "out" / "index.html").read_text(), "html.parser")
    assert soup.select_one("div.math .eqno").text.startswith("(1)")
    assert [equation["display"] for equation in soup.select(".math math")] == ["block", "inline"]


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
