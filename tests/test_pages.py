"""The built pages: read as files, and opened in a real browser."""

import functools
import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, needs_browser
from PIL import Image, ImageStat

from fieldguide.picture import CARD, NARROW, WIDE
from fieldguide.sphinx_ext import pages_of_toc

PAGES = [f"{page}.html" for page in pages_of_toc(ROOT)]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]


@functools.cache
def soup_of(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("page", PAGES)
def test_every_image_has_alternative_text(site, page):
    for image in soup_of(site / page).select("article img"):
        assert len(image.get("alt", "")) >= 15
        assert not image["alt"].endswith((".png", ".svg"))


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_nothing_from_another_host(site, page):
    soup = soup_of(site / page)
    loaded = [
        tag[attribute]
        for attribute in ("src", "href", "data")
        for tag in soup.select(
            f"script[{attribute}], link[{attribute}]:not([rel=canonical]), img[{attribute}], "
            f"iframe[{attribute}], object[{attribute}]"
        )
    ]
    assert loaded
    assert [url for url in loaded if urlsplit(url).netloc] == []


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_lead_somewhere(site, page):
    for link in soup_of(site / page).select("article a[href]"):
        target = urlsplit(urljoin(page, link["href"]))
        if target.scheme or target.netloc:
            continue
        path = site / unquote(target.path)
        assert path.is_file(), link["href"]
        if "=" in target.fragment:  # the setting of an instrument
            assert soup_of(path).select_one(".explorer[data-own]"), link["href"]
        elif target.fragment and path.suffix == ".html":
            assert soup_of(path).find(id=unquote(target.fragment)), link["href"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("notebooks/")])
def test_figures_and_tables_are_numbered(site, page):
    soup = soup_of(site / page)
    figures = soup.select("figure.fieldguide")
    assert figures
    for item in figures + soup.select("table.fieldguide"):
        assert re.match(r"(Fig\.|Table) \d", item.select_one(".caption-number").text)


@needs_browser
@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("page", PAGES)
def test_page_opens_whole_and_quietly(site, server, browser, page, scheme):
    base = server if scheme == "http" else site.as_uri() + "/"
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    trouble = []
    tab.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
    tab.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((base, "data:", "blob:"))
            else trouble.append(f"foreign: {request.url}")
        ),
    )
    tab.on(  # one rule of the theme that names an icon would load all there are
        "request",
        lambda request: (
            trouble.append(f"icons: {request.url}") if "fontawesome" in request.url else None
        ),
    )
    tab.goto(base + page)
    equations = tab.evaluate(
        "[...document.querySelectorAll('article .math')].map(one => [one.textContent, "
        "one.querySelector('math')?.checkVisibility() ? one.getBoundingClientRect().width : 9])"
    )
    assert [text for text, width in equations if "\\" in text or width < 4] == []
    unloaded = tab.evaluate(
        "async () => { const images = [...document.querySelectorAll('article img')];"
        "images.forEach(i => i.loading = 'eager');"
        "await Promise.allSettled(images.map(i => i.decode()));"
        "return images.filter(i => i.naturalWidth === 0).map(i => i.src); }"
    )
    assert unloaded == []
    tab.wait_for_load_state("networkidle")
    assert trouble == []
    tab.close()


@needs_browser
def test_figures_of_a_table_stand_at_their_right_edge_on_one_line_and_words_at_their_left(
    server, browser
):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(server + "notebooks/12_singular_fit.html")
    looks = tab.evaluate(
        "[...document.querySelectorAll('table.fieldguide td')].slice().map(cell => [cell.cellIndex, "
        "cell.className, getComputedStyle(cell).textAlign, getComputedStyle(cell).whiteSpace])"
    )
    figures = {(align, space) for place, kind, align, space in looks if "figures" in kind and place}
    words = {align for _, kind, align, _ in looks if "words" in kind}
    assert figures == {("right", "nowrap")}
    assert words == {"left"}
    tab.close()


@needs_browser
@pytest.mark.parametrize("page", PAGES)
def test_page_does_not_scroll_sideways_on_a_phone_or_enlarged(server, browser, page):
    """A window of 1280 that is enlarged four times is 320 wide; on a page enlarged twice it is 640."""
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.goto(server + page)
    tab.wait_for_load_state("networkidle")
    for details in tab.query_selector_all("article details"):
        details.evaluate("d => d.open = true")
    for width in (390, 320, 640):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Beside both sidebars nothing is wider than its column; on a phone it scrolls within it.
    tab.set_viewport_size({"width": 1280, "height": 900})
    wider = (
        "[...document.querySelectorAll('article :is(pre, table, math, img)')].filter(tag => "
        "tag.checkVisibility() && (tag.getBoundingClientRect().right > "
        "tag.closest('article').getBoundingClientRect().right + 1 || "
        "tag.matches('pre') && tag.scrollWidth > tag.clientWidth + 1))"
        ".map(tag => tag.textContent.trim().slice(0, 60))"
    )
    assert tab.evaluate(wider) == []
    tab.close()


@needs_browser
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_drawings_follow_the_page_whatever_the_system_says(server, browser, mode):
    other = {"light": "dark", "dark": "light"}[mode]
    tab = browser.new_page(color_scheme=other, viewport={"width": 1280, "height": 900})
    tab.goto(server + PAGES[0])
    tab.evaluate(f"document.documentElement.setAttribute('data-theme', '{mode}')")
    tab.wait_for_function("document.querySelector('figure.fieldguide img').complete")
    with Image.open(BytesIO(tab.locator("figure.fieldguide img").first.screenshot())) as shown:
        corner, mean = shown.convert("L").getpixel((1, 1)), ImageStat.Stat(shown.convert("L")).mean[0]
    assert (corner > 250 and mean > 200) if mode == "light" else (corner < 25 and mean < 60)
    tab.close()


@needs_browser
def test_a_phone_loads_the_drawings_that_are_made_for_it(site, server, browser):
    for width, drawing in ((390, "picture source"), (1280, "picture img")):
        tab = browser.new_page(viewport={"width": width, "height": 844})
        loaded = []
        tab.on("response", lambda answer, loaded=loaded: loaded.append(answer.url))
        tab.goto(server + CHAPTERS[0])
        tab.wait_for_load_state("networkidle")
        pictures = "[...document.querySelectorAll('figure.fieldguide img')]"
        tab.evaluate(f"{pictures}.forEach(image => image.scrollIntoView())")
        tab.wait_for_function(f"{pictures}.every(image => image.complete && image.naturalWidth)")
        shown = tab.evaluate(f"{pictures}.map(image => [image.currentSrc, image.width])")
        files = [tag.get("srcset") or tag["src"] for tag in soup_of(site / CHAPTERS[0]).select(drawing)]
        assert [url.rpartition("/")[2] for url, _ in shown] == [f.rpartition("/")[2] for f in files]
        assert sorted(url for url in loaded if url.endswith(".svg") and "_images" in url) == sorted(
            url for url, _ in shown
        )
        assert all(size == NARROW for _, size in shown) if width == 390 else True
        tab.close()


@needs_browser
def test_dark_mode_keeps_text_readable(server, browser):
    """Captions stand on the page's background."""
    tab = browser.new_page(color_scheme="dark")
    tab.goto(server + next(page for page in PAGES if "01_data" in page))
    assert tab.evaluate("document.documentElement.getAttribute('data-theme')") == "dark"
    luminance = (
        "s => { const c = getComputedStyle(document.querySelector(s)).%s.match(/[\\d.]+/g).map(Number);"
        "return c.length > 3 && c[3] === 0 ? 'clear' : (c[0] + c[1] + c[2]) / 3; }"
    )
    assert tab.evaluate(luminance % "backgroundColor", "figure.fieldguide") == "clear"
    assert tab.evaluate(luminance % "color", "figure.fieldguide figcaption") > 120
    tab.close()


@needs_browser
@pytest.mark.parametrize("page", CHAPTERS)
def test_on_paper_folds_are_open_and_nothing_is_cut_off(server, browser, page):
    tab = browser.new_page(viewport={"width": 794, "height": 1123}, color_scheme="dark")
    tab.goto(server + page)
    tab.emulate_media(media="print")
    shut = (
        "[...document.querySelectorAll('article details')].filter("
        "fold => ![...fold.children].slice(1).some(part => part.getBoundingClientRect().height > 0))"
        ".map(fold => fold.textContent.slice(0, 60))"
    )
    assert tab.evaluate(shut) == []
    clipped = (
        "[...document.querySelectorAll('article pre')].filter("
        "code => code.scrollWidth > code.clientWidth + 1).map(code => code.textContent.slice(0, 60))"
    )
    assert tab.evaluate(clipped) == []
    coloured = (
        "[...document.querySelectorAll('article :is(p, li, td, th, pre, .cell, .cell_input)')].filter("
        "tag => getComputedStyle(tag).color !== 'rgb(0, 0, 0)' || "
        "getComputedStyle(tag).backgroundColor !== 'rgba(0, 0, 0, 0)')"
        ".map(tag => tag.textContent.slice(0, 60))"
    )
    assert tab.evaluate(coloured) == []
    addresses = (
        "[...document.querySelectorAll('article a.external')]"
        ".filter(link => !getComputedStyle(link, '::after').content.includes(link.getAttribute('href')))"
        ".map(link => link.href)"
    )
    assert tab.evaluate(addresses) == []
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    text = "document.querySelector('article section > p:not(.running-time)')"
    assert tab.evaluate(f"getComputedStyle({text}).color") == "rgb(0, 0, 0)"
    tab.close()


@needs_browser
def test_icons_are_drawn_without_the_script_of_all_icons(server, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    loaded = []
    tab.on("response", lambda answer: loaded.append(answer.url))
    tab.goto(server + PAGES[0])
    tab.wait_for_load_state("networkidle")
    assert not [url for url in loaded if "fontawesome" in url]
    icons = "[...document.querySelectorAll(':is(i, span)[class*=fa-]')]"
    drawn = tab.evaluate(f"{icons}.map(icon => getComputedStyle(icon).maskImage)")
    assert drawn
    assert all(mask.startswith("url(") for mask in drawn)
    tab.close()


@pytest.mark.parametrize("page", PAGES)
def test_a_search_engine_is_told_what_a_page_is_about(site, page):
    soup = soup_of(site / page)
    words = soup.find("meta", attrs={"name": "description"})["content"]
    assert 40 <= len(words) <= 170
    assert "$" not in words
    assert soup.find("meta", property="og:title")["content"]


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_has_its_number_wherever_it_is_named(site, page):
    number = int(page.partition("/")[2][:2])
    soup = soup_of(site / page)
    assert soup.select_one("article h1").text.startswith(f"{number}. ")
    name = page.rpartition("/")[2]
    there = [link for link in soup_of(site / PAGES[0]).select("nav a[href]") if name in link["href"]]
    assert there
    assert all(link.text.strip().startswith(f"{number}. ") for link in there)


def test_the_first_page_says_of_every_chapter_what_it_finds(site):
    soup = soup_of(site / PAGES[0])
    listed = [link["href"].rpartition("/")[2] for link in soup.select("dl.findings dt a")]
    assert listed == [page.rpartition("/")[2] for page in CHAPTERS]
    for link, finding in zip(
        soup.select("dl.findings dt a"), soup.select("dl.findings dd"), strict=True
    ):
        claims = soup_of(site / "notebooks" / link["href"].rpartition("/")[2]).select("ul.claims li")
        assert finding.text.strip() in [claim.text.strip() for claim in claims]


@pytest.mark.parametrize("page", PAGES)
def test_headings_go_down_one_level_at_a_time(site, page):
    levels = [int(tag.name[1]) for tag in soup_of(site / page).select("article :is(h1, h2, h3, h4, h5)")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_figure_is_drawn_twice_and_says_how_large_it_is(site, page):
    figures = soup_of(site / page).select("figure.fieldguide")
    assert figures
    for figure in figures:
        for tag, width in (
            (figure.select_one("picture img"), WIDE),
            (figure.select_one("source"), NARROW),
        ):
            assert int(tag["width"]) == width
            assert int(tag["height"]) > 100


def test_predictions_and_findings_are_set_apart(site):
    boxes = {
        page: soup_of(site / page).select("article .prediction, article .finding") for page in CHAPTERS
    }
    asked = [box for several in boxes.values() for box in several if "prediction" in box["class"]]
    assert len(asked) > 5
    for page in CHAPTERS:
        text = soup_of(site / page).select_one("article").text
        said = text.count("Predict before you look.") + text.count("The verdict.")
        assert len(boxes[page]) == said


@pytest.mark.parametrize("page", CHAPTERS)
def test_folds_that_show_nothing_do_not_stand_in_a_row(site, page):
    for cell in soup_of(site / page).select("article div.cell.tag_hide-input"):
        after = cell.find_next_sibling()
        silent = [one for one in (cell, after) if one is not None and not one.select(".cell_output")]
        assert len(silent) < 2 or "tag_hide-input" not in (after.get("class") or [])


def test_cells_beyond_the_usual_limits_are_tinted(site):
    table = soup_of(site / "notebooks/03_centered.html").select_one("#tab-scoreboard-centered")
    rows = {row.select_one("td").text.strip(): row.select("td")[1:] for row in table.select("tbody tr")}
    for measure, limit in (("divergences", lambda v: v > 0), ("min bulk ESS", lambda v: v < 400)):
        for cell in rows[measure]:
            assert ("bad" in (cell.get("class") or [])) == limit(float(cell.text))
    assert not any("bad" in (cell.get("class") or []) for cell in rows["gradient evaluations"])


def test_a_teacher_is_told_what_each_chapter_teaches_and_takes(site):
    listed = soup_of(site / "book/teaching/index.html").select("dl.findings")[0]
    assert [link["href"].rpartition("/")[2] for link in listed.select("dt a")] == [
        page.rpartition("/")[2] for page in CHAPTERS
    ]
    for page, said in zip(CHAPTERS, listed.select("dd"), strict=True):
        chapter = soup_of(site / page)
        goal = chapter.select_one("article p:not(.running-time)").text
        assert said.select("p")[0].text.lower()[1:40] in goal.lower()
        exercises = len(chapter.select("section#exercises > section"))
        assert exercises > 0
        times = chapter.select_one(".running-time").text.removesuffix(" when this page was built.")
        assert said.select("p")[1].text == f"{times}. {exercises} exercises."


def test_messengers_show_the_hero(site):
    with Image.open(site / "_static" / "card.png") as card:
        assert card.width == CARD
        assert 0.4 < card.height / card.width < 0.7
