"""The built pages for those who read with keys, large print, few colours, or a slow line."""

import gzip
import itertools
import os
import re
from pathlib import Path
from urllib.parse import urljoin

import axe_playwright_python
import pytest
from conftest import needs_browser
from fontTools.ttLib import TTFont
from test_pages import CHAPTERS, PAGES, soup_of

from fieldguide.html import SHEET
from fieldguide.mathml import FONT, characters

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
EVERY_PAGE = [*PAGES, "genindex.html", "search.html?q=sigma"]
VIEWS = [*itertools.product((1280, 390), ("light", "dark"), (False, True))]
ALL = os.environ.get("FIELDGUIDE_AXE") == "all"
ASKED = range(len(VIEWS)) if ALL else [None]
"""Every view of every page (``make axe``), or one view of every third page, without what repeats."""

REPEATS = ["pre", "tbody", "dl.py"]
"""Parts of many elements, alike on all pages: they take axe most of its time."""

CHAPTER = next(page for page in CHAPTERS if "03_" in page)

RUN_AXE = """async (parts) => {
  const found = await axe.run({exclude: parts.map(part => [part])}, {
    resultTypes: ["violations"],
    rules: {"label-content-name-mismatch": {enabled: true}},
  });
  return found.violations.flatMap(
    rule => rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 120)} ${node.failureSummary}`));
}"""


def opened(browser, address, width=1280, **context):
    tab = browser.new_page(viewport={"width": width, "height": 844}, **context)
    tab.goto(address)
    tab.wait_for_load_state("networkidle")
    return tab


@needs_browser
@pytest.mark.parametrize("view", ASKED)
@pytest.mark.parametrize("page", EVERY_PAGE if ALL else EVERY_PAGE[::3])
def test_axe_finds_nothing(server, browser, page, view):
    width, scheme, unfold = VIEWS[(EVERY_PAGE.index(page) * 3 if view is None else view) % len(VIEWS)]
    tab = opened(browser, server + page, width, color_scheme=scheme, reduced_motion="reduce")
    tab.evaluate("open => document.querySelectorAll('details').forEach(f => f.open = open)", unfold)
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    tab.wait_for_timeout(400)  # after 300 ms the theme lets the keys into what scrolls
    found = tab.evaluate(RUN_AXE, REPEATS if view is None and page != CHAPTER else [])
    tab.close()
    assert found == [], f"at {width}, {scheme}, folds {'open' if unfold else 'shut'}"


FOCUS = """() => {
  const one = document.activeElement, box = one.getBoundingClientRect(), style = getComputedStyle(one);
  let seen = 1;
  for (let part = one; part; part = part.parentElement) seen *= getComputedStyle(part).opacity;
  return {
    name: one.outerHTML.slice(0, 150),
    nothing: one === document.body,
    told: one.matches("article :is(a[href], button, summary)"),
    seen: seen > 0 && box.width > 1 && box.right > 0 && box.left < innerWidth
      && box.bottom > 0 && box.top < innerHeight,
    marked: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none"
      || style.boxShadow !== "none" && !style.boxShadow.startsWith("rgba(0, 0, 0, 0)"),
  };
}"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_tab_key_reaches_everything_and_the_focus_is_seen(server, browser, width):
    tab = opened(browser, server + CHAPTER, width, reduced_motion="reduce")
    tab.evaluate(
        "async () => { const all = [...document.images]; all.forEach(one => one.loading = 'eager');"
        "await Promise.all(all.map(one => one.decode())); }"
    )
    wanted = tab.evaluate(
        "[...document.querySelectorAll('article :is(a[href], button, summary)')].filter("
        "one => one.checkVisibility({visibilityProperty: true})).length"
    )
    stops = []
    while not stops or not stops[-1]["nothing"]:
        tab.keyboard.press("Tab")
        stops.append(tab.evaluate(FOCUS))
        assert len(stops) < 300, "the focus never leaves the page"
    assert "#main-content" in stops[0]["name"]
    assert [stop["name"] for stop in stops[:-1] if not (stop["seen"] and stop["marked"])] == []
    assert sum(stop["told"] for stop in stops) == wanted > 20
    tab.close()


@needs_browser
@pytest.mark.parametrize(
    ("button", "opens"),
    [
        (".theme-switch-button", None),
        (".search-button", "pst-search-dialog"),
        (".primary-toggle", "pst-primary-sidebar-modal"),
        (".secondary-toggle", "pst-secondary-sidebar-modal"),
    ],
)
def test_the_focus_returns_to_the_button(server, browser, button, opens):
    tab = opened(browser, server + CHAPTER, 390)
    tab.locator(button).focus()
    tab.keyboard.press("Enter")
    if opens:
        dialog = f"document.querySelector('dialog#{opens}')"
        assert tab.evaluate(f"{dialog}.open && {dialog}.contains(document.activeElement)")
        tab.keyboard.press("Escape")
        tab.wait_for_function(f"!{dialog}.open")
    assert tab.evaluate(f"document.activeElement.matches('{button}')")
    tab.close()


@needs_browser
def test_the_way_to_the_top_takes_the_focus_along(server, browser):
    tab = opened(browser, server + CHAPTER, 390, reduced_motion="reduce")
    tab.mouse.wheel(0, 3000)
    tab.wait_for_function("scrollY > 2000")
    tab.mouse.wheel(0, -300)
    tab.locator("#pst-back-to-top").wait_for(state="visible")
    tab.locator("#pst-back-to-top").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function("scrollY < 10")
    assert tab.evaluate("document.activeElement.id") == "main-content"
    tab.close()


@needs_browser
def test_folds_open_and_shut_by_key(server, browser):
    tab = opened(browser, server + CHAPTER, 390)
    fold = tab.locator("article details:has(pre)").first
    fold.locator("summary").first.focus()
    tab.keyboard.press("Enter")
    assert fold.evaluate("fold => fold.open")
    tab.keyboard.press("Space")
    assert not fold.evaluate("fold => fold.open")
    assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
    tab.close()


@needs_browser
def test_what_scrolls_is_reached_with_the_keys(server, browser):
    """Equations too, which the theme forgets."""
    tab = opened(browser, server + next(page for page in CHAPTERS if "07_" in page), 390)
    wide = tab.evaluate(
        "[...document.querySelectorAll('article :is(div.math, pre)')].filter(one => "
        "one.scrollWidth > one.clientWidth).map(one => [one.tagName, one.tabIndex])"
    )
    assert {tag for tag, _ in wide} == {"DIV", "PRE"}
    assert {index for _, index in wide} == {0}
    tab.close()


@needs_browser
def test_icons_and_folds_are_seen_in_the_colours_of_the_system(server, browser):
    tab = opened(browser, server + CHAPTER, forced_colors="active")
    icons = tab.evaluate(
        "[...document.querySelectorAll(':is(i, span)[class*=fa-]')].filter(icon => "
        "icon.checkVisibility()).map(icon => [icon, document.body].map("
        "one => getComputedStyle(one).backgroundColor))"
    )
    assert len(icons) > 4
    assert all(colour != ground and "rgba(0, 0, 0, 0)" not in colour for colour, ground in icons)
    assert tab.evaluate(
        "[...document.querySelectorAll('article details.admonition')].every("
        "fold => parseFloat(getComputedStyle(fold).borderTopWidth) > 0)"
    )
    tab.close()


@needs_browser
def test_nothing_moves_for_those_who_asked_for_that(server, browser):
    tab = opened(browser, server + CHAPTER, reduced_motion="reduce")
    moving = (
        "[...document.querySelectorAll('*')].filter(one => { const style = getComputedStyle(one);"
        "return style.animationName !== 'none' || style.scrollBehavior === 'smooth'"
        "|| style.transitionProperty !== 'none' && parseFloat(style.transitionDuration) > 0; })"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    assert tab.evaluate(moving) == []
    tab.emulate_media(reduced_motion="no-preference")
    assert tab.evaluate(moving) != []
    tab.close()


@needs_browser
def test_what_is_found_is_told_in_sentences(server, browser):
    tab = browser.new_page()
    trouble = []
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto(server + "search.html?q=sigma")
    tab.wait_for_function("document.querySelectorAll('ul.search li p.context').length > 5")
    said = tab.locator("ul.search li p.context").all_inner_texts()
    assert trouble == []
    assert "sigma" in " ".join(said).lower()
    assert [one for one in said if re.search(r"\\[a-z(\[]|import \w|\w\(\w+=|Hide code", one)] == []
    tab.close()


def weight(site, page) -> dict[str, int]:
    """Return the bytes of a page's parts as a server sends them, text compressed."""
    soup = soup_of(site / page)
    parts = {"page": [page], "programs": [], "pictures": [], "font": []}
    parts["programs"] += [urljoin(page, tag["src"]) for tag in soup.select("script[src]")]
    parts["programs"] += [urljoin(page, tag["href"]) for tag in soup.select("link[rel=stylesheet]")]
    parts["pictures"] += [urljoin(page, tag["src"]) for tag in soup.select("img[src]")]
    parts["font"] += [f"_static/{FONT}"] if soup.find("math") else []
    parts["font"] += [f"_static/fonts/{face}.woff2" for face in ("upright", "italic")]

    def sent(name: str) -> int:
        content = (site / name.partition("?")[0]).read_bytes()
        return min(len(content), len(gzip.compress(content)))

    return {kind: sum(map(sent, dict.fromkeys(names))) for kind, names in parts.items()}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_brings_few_programs(site, page):
    sizes = weight(site, page)
    assert 20_000 < sizes["programs"] < 80_000
    assert sum(sizes.values()) < (300_000 if page == PAGES[0] else 600_000)
    sheets = soup_of(site / page).select("link[rel=stylesheet]")
    assert [SHEET in sheet["href"] for sheet in sheets] == [True]
    assert soup_of(site / page).select("script[src]:not([defer])") == []


def test_the_font_has_every_character_of_the_equations(site):
    shown = set().union(*(characters((site / page).read_text(encoding="utf-8")) for page in PAGES))
    assert {"σ", "𝜎", "∼", "∫"} <= shown
    assert {char for char in shown if not char.isspace()} <= {
        chr(code) for code in TTFont(site / "_static" / FONT).getBestCmap()
    }
