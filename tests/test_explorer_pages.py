"""The instruments where readers find them: on pages of their own, and in chapters."""

import gzip

import pytest
from conftest import needs_browser
from test_pages import soup_of

from fieldguide.explorer import INSTRUMENTS

CHAPTERS = {
    "notebooks/03_centered.html": ("path", ""),
    "notebooks/04_target_accept.html": ("path", "attempt=mme2&draws=2000"),
    "notebooks/06_non_centered.html": ("path", "attempt=non-centered-95&draws=1000"),
    "notebooks/09_sixty_districts.html": ("pool", "set=sixty"),
}


def test_all_scripts_together_are_small(site):
    scripts = sorted((site / "_static" / "explorer").glob("*.js"))
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in scripts}
    assert {"open.js", "ui.js", "attempts.js", *(f"ui_{name}.js" for name in INSTRUMENTS)} <= set(sizes)
    assert sum(sizes.values()) <= 60_000, sizes


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_page_of_its_own_has_a_still_figure_with_words(site, name):
    place = soup_of(site / f"book/explorer/{name}.html").select_one(
        f"[data-instrument={name}][data-own]"
    )
    figure = place.select_one(".explorer-still figure")
    assert len(figure.select_one("img")["alt"]) > 40
    assert figure.select_one("figcaption").text.strip()


@needs_browser
@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_it_opens_on_its_own_page_and_stands_still_without_scripts(site, server, browser, scheme, name):
    base = server if scheme == "http" else site.as_uri() + "/"
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(f"{base}book/explorer/{name}.html")
    assert tab.locator(".explorer-still img").is_visible()
    assert tab.locator(".fx").count() == 0
    tab.close()
    tab = browser.new_page()
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{base}book/explorer/{name}.html")
    tab.wait_for_selector(".explorer[data-opened] svg[role=img]")
    assert tab.locator(".explorer-still").is_hidden()
    assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.close()


@needs_browser
@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_opens_it_when_asked_and_loads_nothing_before(server, browser, page):
    name, state = CHAPTERS[page]
    tab = browser.new_page(reduced_motion="reduce")
    asked = []
    tab.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    tab.goto(server + page)
    place = tab.locator(f".explorer[data-instrument={name}]")
    link = place.locator("a").first.get_attribute("href")
    assert link.endswith(f"/book/explorer/{name}.html" + (f"#{state}" if state else ""))
    assert "ui.js" not in asked
    place.get_by_role("button", name="Open it here").click()
    place.locator("svg[role=img]").first.wait_for()
    assert "ui.js" in asked
    assert tab.evaluate("document.activeElement.closest('.fx') !== null")
    assert tab.evaluate("location.hash") == "", "a chapter keeps its own address"
    fragment = "new URL(document.querySelector('.explorer a').href).hash"
    before = tab.evaluate(fragment)
    place.locator("input[type=range]").last.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function(f"before => {fragment} !== before", arg=before)
    with tab.expect_navigation():
        place.locator("a").first.click()
    tab.wait_for_selector(".explorer[data-opened]")
    assert tab.evaluate("location.hash.length") > 3
    tab.close()


@needs_browser
def test_where_a_script_is_missing_the_picture_stays_and_says_so(server, browser):
    tab = browser.new_page()
    tab.route("**/ui_path.js", lambda route: route.abort())
    tab.goto(server + "book/explorer/path.html")
    tab.wait_for_selector(".explorer-failed")
    assert "ui_path.js could not be loaded" in tab.locator(".explorer-failed").inner_text()
    assert tab.locator(".explorer-still img").is_visible()
    tab.close()


@needs_browser
def test_a_link_to_a_setting_brings_the_instrument_into_view(server, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    tab.goto(server + "book/explorer/path.html")
    tab.wait_for_selector(".explorer[data-opened]")
    words = tab.locator(".fx-verdict").first
    before = words.inner_text()
    tab.locator("a[href^='#step=']").click()
    tab.wait_for_function("document.querySelector('.fx').getBoundingClientRect().top.toFixed() < 200")
    picture = tab.locator(".fx svg").first.bounding_box()
    assert 0 < picture["y"] < 700
    assert words.inner_text() != before
    tab.close()
