"""A small book as PDF and ePub. The whole one is checked by the commands that make it."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from conftest import build
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject, TextStringObject
from test_broken_books import book_with
from test_pages import needs_browser

from fieldguide.build import is_current
from fieldguide.paper import (
    Chapter,
    PaperError,
    chapters_of,
    check_pdf,
    current_editions,
    lay_out,
    link_editions,
    make,
    make_epub,
    without_variables,
)

FIGURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20" width="20" height="20">
<style>rect { fill: var(--ink, #d55e00); stroke: var(--line, var(--ink, rgb(0, 0, 0))); }</style>
<rect width="20" height="20"/></svg>"""
CHAPTER = r"""# 1. A chapter

The mean is $\bar\alpha$, and the [source](https://example.org/source) says so;
see [the other](other.md#two).

$$
y &\sim \text{Normal}(\alpha, \sigma) \\
\alpha &\sim \text{Normal}(0, 1)
$$

![A square, orange with a black edge.](square.svg)

## One

<details><summary>Hint</summary>

Look twice.

</details>

```{editions}
```
"""
OTHER = "# 2. Another\n\n## One\n\n(two)=\n## Two\n\nBack to [the first](chapter.md#one).\n"


@pytest.fixture(scope="module")
def bound(tmp_path_factory):
    """Return a small book, built and printed."""
    root = book_with(tmp_path_factory.mktemp("paper") / "book")
    for name, text in {"chapter.md": CHAPTER, "other.md": OTHER, "square.svg": FIGURE}.items():
        (root / "book" / name).write_text(text, encoding="utf-8")
    with open(root / "_toc.yml", "a") as toc:
        toc.write("  - file: book/chapter\n  - file: book/other\n")
    result = build(root)
    assert result.returncode == 0, result.stdout
    assert apart(make, root, "pdf") == 0
    assert is_current(root)
    return root


def apart(function, *given):
    """Call a function that opens a browser in a thread of its own: one thread has room for one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *given).result()


def text_of(page) -> str:
    return " ".join(page.extract_text().split())


@needs_browser
def test_pdf_has_the_chapters_in_its_outline_and_their_pages_in_its_contents(bound):
    path = current_editions(bound)["pdf"]
    assert path.name == "when-multilevel-models-diverge.pdf"
    reader = PdfReader(path)
    titles = [entry.title for entry in reader.outline if not isinstance(entry, list)]
    assert titles == ["Contents", "A small book", "1. A chapter", "2. Another"]
    contents = text_of(reader.pages[2])
    for number, title in enumerate(titles[1:], 4):  # after title, licence and contents
        assert text_of(reader.pages[number - 1]).startswith(f"{title} {number} ")
        assert f"{title} {number}" in contents
    chapter = text_of(reader.pages[4])
    assert "Hint Look twice." in chapter
    assert "https://example.org/source" in chapter  # in the notes: nobody can click on paper
    assert "make pdf" not in chapter


@needs_browser
def test_a_printed_book_with_a_fault_is_refused(bound, tmp_path):
    path = current_editions(bound)["pdf"]
    chapters = chapters_of(bound)
    assert check_pdf(path, chapters) == []
    extra = BeautifulSoup(
        '<article><section id="x"><h2>Unprinted</h2></section></article>', "html.parser"
    )
    lacking = check_pdf(path, [*chapters, Chapter("more", "3. More", "", extra.article)])
    assert lacking == ["its outline lacks '3. More'", "its outline lacks 'Unprinted'"]

    writer = PdfWriter(clone_from=path)
    for name in ("/StructTreeRoot", "/Lang"):
        del writer.root_object[NameObject(name)]
    links = [link.get_object() for page in writer.pages for link in page.get("/Annots", ())]
    inside = [link for link in links if "/Dest" in link]
    outside = [link for link in links if "/URI" in link.get("/A", {})]
    inside[0][NameObject("/Dest")] = NameObject("/nowhere")
    outside[0]["/A"][NameObject("/URI")] = TextStringObject("file:///tmp/page.html")
    fonts = [font.get_object() for font in writer.pages[4]["/Resources"]["/Font"].values()]
    below = [font["/DescendantFonts"][0] for font in fonts if "/DescendantFonts" in font]
    del below[0]["/FontDescriptor"][NameObject("/FontFile2")]
    writer.write(tmp_path / "broken.pdf")
    said = "\n".join(check_pdf(tmp_path / "broken.pdf", chapters))
    for fault in ("not tagged", "language", "nowhere", "file:///tmp", "needs the font"):
        assert fault in said


@needs_browser
def test_epub_has_mathematics_as_mathml_and_plain_colours_and_no_date_of_its_making(bound, tmp_path):
    apart(make_epub, bound, tmp_path / "book.epub")
    with zipfile.ZipFile(tmp_path / "book.epub") as book:
        assert book.namelist()[0] == "mimetype"
        assert {entry.date_time for entry in book.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        files = {name.removeprefix("book/"): book.read(name) for name in book.namelist()}
    package = ElementTree.fromstring(files.pop("content.opf"))
    items = {item.get("href"): item for item in package.iter("{http://www.idpf.org/2007/opf}item")}
    assert set(items) == set(files) - {"mimetype", "META-INF/container.xml"}
    assert items["chapter.xhtml"].get("properties") == "mathml"
    (changed,) = [item for item in package.iter() if item.get("property") == "dcterms:modified"]
    assert changed.text == "2026-01-01T00:00:00Z"  # there is no repository: the year of the copyright
    page = BeautifulSoup(files["chapter.xhtml"], "html.parser")
    assert page.select_one("math mover").get_text() == "α¯"
    assert page.select("math mtd")
    target, _, place = page.find("a", string="the other")["href"].partition("#")
    there = BeautifulSoup(files[target], "html.parser").find(id=place)
    assert there.find_parent("section").h2.text == "Two"
    assert not page.select("script, style, details, .editions")
    (image,) = page.select("img")
    picture = files[image["src"]].decode()
    assert "fill: #d55e00; stroke: rgb(0, 0, 0);" in picture


@needs_browser
def test_a_link_to_no_page_or_place_is_refused(bound):
    page = bound / "_build" / "html" / "book" / "other.html"
    whole = page.read_text(encoding="utf-8")
    try:
        page.write_text(whole.replace("chapter.html#one", "chapter.html#three"), encoding="utf-8")
        with pytest.raises(PaperError, match=r"other: chapter\.xhtml#three"):
            chapters_of(bound)
        page.write_text(whole.replace("chapter.html#one", "third.html"), encoding="utf-8")
        with pytest.raises(PaperError, match=r"other: book/third\.html"):
            chapters_of(bound)
    finally:
        page.write_text(whole, encoding="utf-8")


@needs_browser
def test_the_site_links_to_what_was_made_of_its_sources_and_to_nothing_older(bound):
    page = bound / "_build" / "html" / "book" / "chapter.html"

    def line():
        return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one(".editions")

    (link,) = line().select("a")
    assert (page.parent / link["href"]).read_bytes() == current_editions(bound)["pdf"].read_bytes()
    source = bound / "book" / "other.md"
    source.write_text(f"{OTHER}\nMore.\n", encoding="utf-8")
    try:
        link_editions(bound, bound / "_build" / "html")
        assert not line().select("a")
        assert "make pdf" in line().text
    finally:
        source.write_text(OTHER, encoding="utf-8")


def test_a_picture_keeps_no_variable():
    assert without_variables("a{fill:var(--a, url(#b))}") == "a{fill:url(#b)}"
    with pytest.raises(PaperError, match="without a value"):
        without_variables("a{fill:var(--a)}")


def test_folded_code_is_left_out_and_solutions_are_not():
    page = """<article><div class="cell tag_hide-input"><details><summary>Show the code</summary>
    <pre>plot()</pre></details><div class="cell_output">Figure</div></div>
    <div class="cell tag_hide-cell"><details><summary><p>Show the solution</p>
    <p>Hide code cell content</p></summary><pre>1 + 1</pre></details></div>
    <picture><source srcset="phone.svg"/><img loading="lazy" src="wide.svg"/></picture></article>"""
    article = BeautifulSoup(page, "html.parser").article
    lay_out(article)
    assert article.get_text(" ", strip=True) == "Figure Solution 1 + 1"
    assert str(article.select_one("img")) == '<img src="wide.svg"/>'
    assert not article.select("picture, source, details")
