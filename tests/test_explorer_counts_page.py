"""The instrument for a reader's own counts, in Chromium, held to `fieldguide.your_counts`."""

import csv
import html
import io
import re
from functools import cache
from urllib.parse import parse_qs, quote

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import ROOT, needs_browser
from explorer_page import opened, write_page
from test_access import AXE, RUN_AXE
from test_explorer_counts import same_words

from fieldguide import your_counts
from fieldguide.counts import _rate
from fieldguide.data import load_three_districts
from fieldguide.priors import half_student_t
from fieldguide.report import digits

pytestmark = needs_browser

PRIORS = {
    "half-normal": scipy.stats.halfnorm(scale=0.25),
    "half-student-t": half_student_t(3, 0.25),
    "half-cauchy": scipy.stats.halfcauchy(scale=0.25),
    "exponential": scipy.stats.expon(scale=0.25),
}
PAGE = ROOT / "book" / "explorer" / "counts.md"
BOX = "Successes and trials, a row per group"
WARDS = "ward,successes,trials\nnorth,3,40\nsouth,9,30\neast,1,2\nwest,0,8\n"


@cache
def three(prior=None):
    return your_counts(load_three_districts(), sigma_prior=prior)


def wards():
    return your_counts(pd.read_csv(io.StringIO(WARDS)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    return {theme: write_page(folder, "counts", theme) for theme in ("light", "dark")}


@pytest.fixture
def tab(browser, pages):
    one = opened(browser, pages["light"])
    yield one
    assert one.trouble == []
    one.close()


def settle(tab, words):
    """Wait until the title of the results has some words, and nothing is being computed."""
    tab.wait_for_function(
        """(words) => document.querySelector(".fx-title").textContent.includes(words)
          && !document.querySelector(".fx-last").textContent""",
        arg=words,
    )


def state_of(tab):
    """What the address holds, which changes at most three times in a second."""
    tab.wait_for_timeout(450)
    return {name: value[0] for name, value in parse_qs(tab.url.partition("#")[2]).items()}


def findings_of(tab):
    return [tab.inner_text(".fx-verdict"), *tab.locator(".fx-found ul li").all_inner_texts()]


def holds_the_findings_of(tab, report):
    shown, theirs = findings_of(tab), [*report.findings, *report.notes]
    assert len(shown) == len(theirs)
    for mine, wanted in zip(shown, theirs, strict=True):
        assert same_words(mine, wanted), (mine, wanted)


def paste(tab, text):
    """Paste text into the box, in place of what stands there."""
    tab.get_by_label(BOX).focus()
    tab.keyboard.press("Control+a")
    tab.evaluate("(text) => document.execCommand('insertText', false, text)", text)


def saved(tab, button):
    with tab.expect_download() as coming:
        tab.get_by_role("button", name=button).first.click()
    return coming.value.suggested_filename, coming.value.path().read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------
# What it shows


def test_opens_with_the_three_districts_as_the_package_has_them(tab):
    report = three()
    assert tab.inner_text(".fx-title") == report.title
    holds_the_findings_of(tab, report)
    rows = tab.locator("tbody tr")
    assert rows.count() == 3
    for k, (name, one) in enumerate(report.table.iterrows()):
        shown = rows.nth(k).locator("th, td").all_inner_texts()
        assert shown[:3] == [name, f"{one.successes} of {one.trials}", _rate(one.share)]
        assert same_words(shown[3], f"{_rate(one['mean'])} ({_rate(one.low)} to {_rate(one.high)})")
        assert shown[4].startswith("■" if one.form == "centered" else "●")
        assert f"{one.own:.0%}" in shown[4]
        assert shown[4].endswith(one.form)


def test_pictures_draw_what_their_words_say(tab):
    report = three()
    shares, sigma = tab.locator("svg[role=img]").all()
    words = shares.get_attribute("aria-label")
    for name, one in report.table.iterrows():
        wanted = f"{name}: {one.successes} of {one.trials}, share {_rate(one.share)}, "
        wanted += f"mean {_rate(one['mean'])}"
        assert same_words(re.search(rf"\b{name}: \d+ of .*?(?= \()", words)[0], wanted)
    row = report.population.loc["sigma"]
    for value in row[["low", "median", "high", "prior low", "prior high"]]:
        assert digits(value) in sigma.get_attribute("aria-label")
    assert (
        tab.locator(".fx-centered rect").count(),
        tab.locator(".fx-non-centered circle").count(),
    ) == (2, 1)
    circles = tab.locator(".fx-share circle").evaluate_all(
        "all => all.map(one => +one.getAttribute('r'))"
    )
    assert circles == sorted(circles, reverse=True)  # of 117, 20 and 2 women
    means = tab.locator(".fx-centered rect, .fx-non-centered circle").evaluate_all(
        "all => all.map(one => { const b = one.getBoundingClientRect(); return b.x + b.width / 2; })"
    )
    ticks = shares.locator("g.fx-axes text").evaluate_all(
        "all => all.map(one => [one.textContent, one.getBoundingClientRect()])"
        ".map(([text, b]) => [text, b.x + b.width / 2])"
    )
    zero, one = (next(x for text, x in ticks if text == end) for end in ("0", "1"))
    wanted = zero + (one - zero) * report.table["mean"].sort_values()
    np.testing.assert_allclose(sorted(means), wanted, atol=1)
    curve = tab.locator(".fx-posterior path").get_attribute("d")
    assert curve.count("L") > 200
    assert (
        tab.locator(".fx-prior path").evaluate("one => getComputedStyle(one).strokeDasharray") != "none"
    )


def test_many_groups_are_a_cloud_and_stay_out_of_the_address(tab):
    rng = np.random.default_rng(4)
    n = rng.integers(1, 90, 70)
    table = pd.DataFrame({"ward": [f"w{k}" for k in range(70)], "y": rng.binomial(n, 0.3), "n": n})
    tab.evaluate(
        """() => { globalThis.seen = []; new MutationObserver(() => seen.push(
          document.querySelector(".fx-last").textContent)).observe(document.querySelector(".fx-last"),
          {childList: true}); }"""
    )
    paste(tab, table.to_csv(index=False))
    settle(tab, "in 70 groups")
    assert tab.evaluate("seen")[0] == "Computing …"
    holds_the_findings_of(tab, your_counts(table))
    assert tab.locator(".fx-same path").count() == 1
    assert tab.locator(".fx-interval path").count() == 0
    marks = tab.locator(".fx-centered rect, .fx-non-centered circle")
    assert marks.count() == 70
    assert tab.locator("tbody tr").count() == 70
    assert state_of(tab) == {}
    assert "counts.csv" in tab.inner_text("pre")


# ---------------------------------------------------------------------------------------------
# Mouse, keys, touch


def test_typing_is_computed_after_a_pause_and_announced(tab):
    tab.evaluate(
        """() => { const {counts} = fieldguideExplorer, report = counts.report; globalThis.times = 0;
          counts.report = (...given) => { times++; return report(...given); }; }"""
    )
    tab.get_by_label(BOX).focus()
    tab.keyboard.press("Control+a")
    tab.keyboard.type(WARDS, delay=5)
    settle(tab, "in 4 groups")
    assert tab.evaluate("times") == 1
    report = wards()
    holds_the_findings_of(tab, report)
    row = report.population.loc["sigma"]
    tab.wait_for_function("document.querySelector('[role=status]').textContent.includes('4 groups')")
    said = tab.inner_text("[role=status]")
    low, median, high = (digits(row[name]) for name in ("low", "median", "high"))
    wanted = (
        f"{report.title}: sigma is {median} ({low} to {high}), "
        f"and the {report.form} form is recommended."
    )
    assert same_words(said, wanted)
    assert state_of(tab) == {"t": "north:3/40;south:9/30;east:1/2;west:0/8", "name": "ward"}
    assert tab.get_by_label("Example").input_value() == "own"
    tab.get_by_label("Example").select_option("0")  # and back to what was typed
    settle(tab, "39 of 139")
    tab.get_by_label("Example").select_option("own")
    settle(tab, "in 4 groups")


@pytest.mark.parametrize("family", PRIORS)
def test_another_prior_says_what_it_changes(tab, family):
    tab.get_by_label("Prior of sigma").select_option(family)
    slider = tab.get_by_label("Its scale")
    slider.focus()
    while not slider.get_attribute("aria-valuetext").startswith("0.25:"):
        tab.keyboard.press("ArrowLeft")
    report, book = three(PRIORS[family]), three()
    moved = (report.table["mean"] - book.table["mean"]).abs().idxmax()
    ends = [_rate(one.table["mean"][moved]) for one in (book, report)]
    spreads = [digits(one.population.loc["sigma", "mean"]) for one in (report, book)]
    words = tab.inner_text(".fx-compared")
    name = slider.get_attribute("aria-valuetext").partition(": ")[2]
    wanted = (
        f"Under {name} sigma has a mean of {spreads[0]}, under Exponential(1) {spreads[1]}; "
        f"district {moved} moves most, from {ends[0]} to {ends[1]}."
    )
    assert same_words(words, wanted), (words, wanted)
    holds_the_findings_of(tab, report)
    tab.wait_for_function("(t) => document.querySelector('[role=status]').textContent === t", arg=words)
    kept = {"scale": "0.25"} | ({} if family == "exponential" else {"prior": family})
    assert state_of(tab) == kept


def test_the_keys_reach_everything(tab):
    stops = []
    while True:
        tab.keyboard.press("Tab")
        one = tab.evaluate(
            """() => { const one = document.activeElement, style = getComputedStyle(one);
              return [one.tagName, one.labels?.[0]?.innerText ?? one.ariaLabel ?? one.innerText,
                style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0]; }"""
        )
        if one[0] == "BODY":
            break
        stops.append(one)
    assert [tag for tag, *_ in stops] == [
        "SELECT", "TEXTAREA", "INPUT", "INPUT", "INPUT", "SELECT", "INPUT", "BUTTON", "BUTTON", "DIV",
        "BUTTON", "BUTTON", "BUTTON", "SELECT", "BUTTON", "PRE",
    ]  # fmt: skip
    assert all(name for _, name, _ in stops)
    assert [name for tag, name, marked in stops if not marked] == []


def test_touch_moves_the_slider_and_takes_the_program(browser, pages):
    tab = opened(browser, pages["light"], width=390, has_touch=True, is_mobile=True)
    slider = tab.get_by_label("Its scale")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    tab.touchscreen.tap(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2)
    tab.wait_for_function("location.hash.includes('scale')")
    assert float(state_of(tab)["scale"]) < 0.2
    assert "district 3 moves most" in tab.inner_text(".fx-compared")
    tab.get_by_label("Example").select_option("1")
    settle(tab, "in 8 groups")
    assert "A:22/310" in state_of(tab)["t"]
    tab.get_by_label("Keep the counts").scroll_into_view_if_needed()
    box = tab.get_by_label("Keep the counts").bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_function("!location.hash.includes('t=')")
    assert not tab.get_by_label("Keep the counts").is_checked()
    assert tab.trouble == []
    tab.close()


def test_programs_are_those_of_the_package_and_can_be_copied(tab):
    report = three()
    for tool in ("bambi", "brms", "pymc"):
        tab.get_by_label("Program").first.select_option(tool)
        assert same_words(tab.inner_text("pre").strip(), report.code(tool).strip())
        assert state_of(tab).get("code", "pymc") == tool
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.get_by_role("button", name="Copy").click()
    tab.get_by_role("button", name="Copied").wait_for()
    tab.get_by_label(BOX).focus()
    tab.keyboard.press("Control+a")
    tab.keyboard.press("Control+v")
    assert tab.input_value("textarea").strip() == tab.locator("pre code").text_content().strip()


# ---------------------------------------------------------------------------------------------
# Files


def test_a_file_is_read_and_dropped_and_what_is_no_table_refused(tab, tmp_path):
    file = tmp_path / "wards.csv"
    file.write_text(WARDS, encoding="utf-8")
    tab.get_by_label("Or a CSV file").set_input_files(file)
    settle(tab, "wards.csv: 13 of 80 in 4 groups")
    assert tab.input_value("textarea") == WARDS
    file.write_text(WARDS.replace("9,30", "39,30"), encoding="utf-8")
    tab.get_by_label("Or a CSV file").set_input_files(file)
    tab.wait_for_selector("textarea[aria-invalid=true]")
    selected = "one => one.value.slice(one.selectionStart, one.selectionEnd)"
    assert tab.get_by_label(BOX).evaluate(selected) == "south,39,30"
    file.write_bytes(b"PK\x03\x04rest")
    tab.get_by_label("Or a CSV file").set_input_files(file)
    tab.wait_for_function("document.querySelector('.fx-bad').textContent.includes('an Excel workbook')")
    tab.evaluate(
        """(text) => {
          const files = new DataTransfer();
          files.items.add(new File([text], "persons.csv"));
          const given = {dataTransfer: files, bubbles: true, cancelable: true};
          const box = document.querySelector("textarea");
          if (box.dispatchEvent(new DragEvent("dragover", given))) throw Error("not taken");
          if (box.dispatchEvent(new DragEvent("drop", given))) throw Error("not taken");
        }""",
        "site,success\na,1\nb,0\na,0\nb,1\nb,0\n",
    )
    tab.wait_for_function("document.querySelector('.fx-bad').textContent.includes('one row per person')")
    tab.get_by_label("Add up rows").check()
    settle(tab, "persons.csv: 2 of 5 in 2 groups")
    assert "5 rows were added up to 2 groups." in findings_of(tab)


def test_results_counts_and_pictures_are_saved(tab):
    paste(tab, WARDS)
    settle(tab, "in 4 groups")
    report = wards()
    name, text = saved(tab, "Save the results")
    assert name == "results.csv"
    kept = pd.read_csv(io.StringIO(text), index_col="ward")
    columns = ["share", "mean", "low", "high", "own"]
    np.testing.assert_allclose(kept[columns].astype(float), report.table[columns], rtol=1e-3)
    assert kept["form"].tolist() == report.table["form"].tolist()
    name, text = saved(tab, "Save mean and spread")
    everyone = pd.read_csv(io.StringIO(text), index_col="parameter")
    np.testing.assert_allclose(everyone, report.population, rtol=1e-3, atol=1e-3)
    name, text = saved(tab, "Save the counts")
    assert name == "counts.csv"
    assert list(csv.reader(io.StringIO(text)))[1] == ["north", "3", "40"]
    for k, stem in enumerate(("What shares become", "How much groups differ")):
        with tab.expect_download() as coming:
            tab.get_by_role("button", name="Save as SVG").nth(k).click()
        assert coming.value.suggested_filename == f"{stem}.svg"
        drawn = coming.value.path().read_text(encoding="utf-8")
        assert drawn.startswith("<svg")
        assert "var(" not in drawn


# ---------------------------------------------------------------------------------------------
# What is wrong is said, and what was right stays


def test_a_bad_cell_is_named_its_row_selected_and_the_last_results_kept(tab):
    before = findings_of(tab)
    bad = WARDS.replace("9,30", "9,x")
    paste(tab, bad)
    box = tab.get_by_label(BOX)
    tab.wait_for_selector("textarea[aria-invalid=true]")
    words = tab.inner_text(".fx-bad > span")
    assert words == "Row 3, column trials: 'x' is not a count; give a whole number."
    assert box.get_attribute("aria-describedby").split()[0] == tab.get_attribute(".fx-bad > span", "id")
    assert findings_of(tab) == before
    assert "last good table" in tab.inner_text(".fx-last")
    assert tab.locator(".fx-old").count() == 2
    tab.wait_for_function("(t) => document.querySelector('[role=status]').textContent === t", arg=words)
    selected = "one => one.value.slice(one.selectionStart, one.selectionEnd)"
    assert box.evaluate(selected) != "south,9,x"  # while somebody types nothing is selected
    tab.get_by_role("button", name="Select row 3").click()
    assert box.evaluate(selected) == "south,9,x"
    assert box.evaluate("one => one === document.activeElement")
    tab.keyboard.type("south,9,30")
    settle(tab, "in 4 groups")
    assert box.get_attribute("aria-invalid") == "false"
    assert tab.locator(".fx-old").count() == 0
    assert tab.locator(".fx-bad").is_hidden()
    holds_the_findings_of(tab, wards())


def test_columns_without_known_names_are_asked_for(tab):
    paste(tab, WARDS.replace("successes,trials", "cured,treated"))
    tab.wait_for_selector("textarea[aria-invalid=true]")
    words = tab.inner_text(".fx-bad")
    assert "no column is named like successes" in words.lower()
    assert "name it group, successes or trials in the first row" in words


def test_a_prior_that_has_no_answer_is_refused_beside_the_prior(tab):
    paste(tab, "g,y,n\na,0,2\n")
    settle(tab, "0 of 2")
    choice = tab.get_by_label("Prior of sigma")
    choice.select_option("half-cauchy")
    assert choice.get_attribute("aria-invalid") == "true"
    assert tab.inner_text(f"#{choice.get_attribute('aria-describedby')}").endswith("lighter tail.")
    assert tab.get_by_label(BOX).get_attribute("aria-invalid") == "false"
    assert "last good table" in tab.inner_text(".fx-last")
    choice.select_option("half-normal")
    assert choice.get_attribute("aria-invalid") == "false"
    assert tab.locator(".fx-old").count() == 0


# ---------------------------------------------------------------------------------------------
# The address


def test_the_address_opens_the_table_the_prior_and_the_program(browser, pages):
    name = "a;b:c/d 100%"
    t = f"{name.replace('%', '%25').replace(';', '%3B')}:3/40;9/30;é:1/2"
    tab = opened(
        browser, pages["light"], f"t={quote(t)}&name=ward&prior=half-normal&scale=0.5&code=brms"
    )
    assert tab.input_value("textarea") == f"ward,successes,trials\n{name},3,40\n2,9,30\né,1,2\n"
    table = pd.DataFrame({"ward": [name, "2", "é"], "successes": [3, 9, 1], "trials": [40, 30, 2]})
    holds_the_findings_of(tab, your_counts(table, sigma_prior=scipy.stats.halfnorm(scale=0.5)))
    assert 'prior(normal(0, 0.5), class = "sd")' in tab.inner_text("pre")
    kept = state_of(tab)
    assert kept == {"t": t, "name": "ward", "prior": "half-normal", "scale": "0.5", "code": "brms"}
    tab.evaluate("location.hash = '#t=5/10;9/12&name=shop'")
    settle(tab, "14 of 22 in 2 groups")
    assert tab.get_by_label("Its scale").get_attribute("aria-valuetext") == "1: Exponential(1)"
    assert tab.trouble == []
    tab.close()


@pytest.mark.parametrize(
    "state",
    [
        "t=5/3;1/2",
        "t=x",
        "t=%25:1/2",
        "t=" + ";".join(["1/2"] * 61),
        "prior=flat&scale=0&code=c",
        "scale=7",
        "t=0/2&prior=half-cauchy",
    ],
)
def test_what_the_address_cannot_mean_is_the_three_districts(browser, pages, state):
    tab = opened(browser, pages["light"], state)
    assert tab.inner_text(".fx-title") == three().title
    holds_the_findings_of(tab, three())
    assert tab.locator("tbody tr").count() == 3
    assert tab.trouble == []
    tab.close()


# ---------------------------------------------------------------------------------------------
# For everybody


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(browser, pages, theme):
    for width in (1280, 390):
        tab = opened(browser, pages[theme], "t=a:3/40;9/30;0/2", width)
        tab.evaluate(AXE.read_text(encoding="utf-8"))
        assert tab.evaluate(RUN_AXE, []) == [], width
        tab.get_by_label(BOX).fill("a,1,2\nb,3,2\n")
        tab.wait_for_selector("textarea[aria-invalid=true]")
        assert tab.evaluate(RUN_AXE, []) == [], f"{width}, with a mistake"
        small = tab.evaluate(
            "[...document.querySelectorAll('.fx *')]"
            ".filter(one => parseFloat(getComputedStyle(one).fontSize) < 12).map(one => one.outerHTML)"
        )
        assert small == []
        tab.close()


def test_a_narrow_window_is_not_scrolled_sideways_and_a_wide_one_filled(browser, pages):
    tab = opened(browser, pages["light"], "t=" + quote("a" * 60) + ":3/40;9/30;0/2", 320)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    narrow = tab.locator("svg[role=img]").first.bounding_box()
    cut = tab.locator("svg text").evaluate_all(
        """all => all.filter(one => {
          const b = one.getBoundingClientRect(), s = one.ownerSVGElement.getBoundingClientRect();
          return b.left < s.left - 1 || b.right > s.right + 1;
        }).map(one => one.textContent)"""
    )
    assert cut == []
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.wait_for_function(
        "(width) => document.querySelector('svg').getBoundingClientRect().width > 2 * width",
        arg=narrow["width"],
    )
    first, second = (one.bounding_box() for one in tab.locator("svg[role=img]").all())
    assert second["x"] > first["x"] + first["width"]
    tab.close()


LINKS = re.findall(r'<a href="#([^"]+)">', PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("link", LINKS)
def test_what_the_page_says_to_try_is_there(browser, pages, link):
    state = html.unescape(link)
    tab = opened(browser, pages["light"])
    tab.evaluate("(state) => { location.hash = state; }", state)
    given = {name: value[0] for name, value in parse_qs(state).items()}
    tab.wait_for_function("document.querySelector('tbody').children.length > 0")
    assert (
        state_of(tab).items() <= ({"name": "district"} | given).items()
    )  # what is left out is so anyway
    names, reasons = (tab.locator(f"tbody {of}").all_inner_texts() for of in ("th", "td:last-child"))
    rows = dict(zip(names, reasons, strict=True))
    dots = {name for name, why in rows.items() if why.startswith("●")}
    if given.get("prior") == "half-normal":
        assert dots == {"1", "2", "3"}
    elif given.get("prior") == "half-cauchy":
        ends = re.search(r"district 3 moves most, from (.*) to (.*)\.$", tab.inner_text(".fx-compared"))
        assert float(ends[1]) + 0.1 < float(ends[2])
    elif given["name"] == "district":
        assert dots == set()
    else:
        assert dots == {"D", "G"}
        drawn = tab.locator("svg[role=img]").first.locator("g.fx-axes text").all_text_contents()
        order = [word for word in drawn if word in rows]
        assert 0 < order.index("D") < len(order) - 1
    assert tab.trouble == []
    tab.close()
