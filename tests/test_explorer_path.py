"""The instrument "Break a path", driven in Chromium by mouse, touch and keys."""

import json
import re

import numpy as np
import pytest
import scipy.stats
from conftest import needs_browser
from explorer_page import opened, write_page
from test_access import AXE, RUN_AXE

import fieldguide as fg
from fieldguide.explorer import attempts_script
from fieldguide.models import varying_intercept_model

pytestmark = needs_browser
ATTEMPTS = json.loads(attempts_script().partition("attempts = ")[2].partition(";\n")[0])["attempts"]
SETTLED = 700  # milliseconds after which words have been said


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("path"), "path")


@pytest.fixture(scope="module")
def exact():
    counts = fg.load_three_districts()
    return fg.exact_posterior(counts["users"], counts["women"], sigma_prior=scipy.stats.expon())


@pytest.fixture
def tab(browser, page):
    made = opened(browser, page)
    yield made
    assert made.trouble == []
    made.close()


def words(tab):
    return tab.locator(".fx-verdict").first.inner_text()


def ran(tab):
    return tab.locator(".fx-ran").inner_text()


def address(tab):
    tab.wait_for_timeout(400)  # it changes at most three times in a second
    return tab.evaluate("location.hash.slice(1)")


def start(tab, panel=0):
    box = tab.locator(".fx-start").nth(panel).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_it_opens_on_a_path_that_breaks_and_says_why(tab):
    said = words(tab)
    assert re.match(r"The path breaks at step \d+ of 16: its energy has risen by more than 1000", said)
    assert "times as long as" in said
    assert tab.locator(".explorer-still").is_hidden()
    assert tab.locator(".fx-cross").count() == 2
    assert tab.locator(".fx-tint rect").count() >= 1
    assert tab.locator(".fx-contour").count() >= 8


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[one["id"] for one in ATTEMPTS])
def test_an_attempt_has_the_form_the_step_and_the_prior_that_it_had(browser, page, attempt):
    tab = opened(browser, page)
    tab.get_by_label("Attempt of the book").select_option(attempt["id"])
    assert (
        tab.get_by_label("Form, from").input_value()
        == {"centered": "0", "non-centered": "1"}[attempt["form"]]
    )
    step = float(np.exp(float(tab.get_by_label("Step size").input_value())))
    assert step == pytest.approx(attempt["chains"][0]["step"], rel=0.01)
    family, scale = attempt["sigmaPrior"]["family"], attempt["sigmaPrior"]["scale"]
    name = {"exponential": "Exponential", "half-normal": "HalfNormal"}[family]
    chosen = tab.get_by_label("Prior of σ").evaluate("one => one.selectedOptions[0].textContent")
    assert chosen == f"{name}({scale:g})"
    assert f"“{attempt['label']}” had {attempt['divergences']} divergences in 4000" in ran(tab)
    assert ("attempt" in address(tab)) == (attempt is not ATTEMPTS[0])
    tab.close()


def test_the_path_is_that_of_the_package(tab):
    """Its points in pixels, against a path of PyMC's log density from the same start and momentum."""
    attempt = ATTEMPTS[0]
    given = tab.evaluate(
        """() => {
          const e = fieldguideExplorer, scale = e.attempts.attempts[0].chains[0].scale;
          const d = document.querySelector('.fx-line').getAttribute('d');
          return {p: e.newMomentum(scale, e.seeded(1)), d};
        }"""
    )
    counts = fg.load_three_districts()
    model = varying_intercept_model(counts["users"], counts["women"], parameterization="centered")
    logp = model.compile_logp()
    names = [value.name for value in model.value_vars]
    assert names[:2] == ["alpha_bar", "sigma_log__"]

    def at(q):
        return float(logp({names[0]: q[0], names[1]: q[1], names[2]: q[2:]}))

    # the start: district 3's effect 0 and sigma 0.4; the rest is where the log density is largest
    from scipy.optimize import minimize

    def rest(x):
        return -at(np.array([x[0], np.log(0.4), x[1], x[2], 0.0]))

    best = minimize(
        rest, [-0.8, -1.0, -0.7], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}
    ).x
    gradient = model.compile_dlogp()
    q = np.array([best[0], np.log(0.4), best[1], best[2], 0.0])
    p, scale = np.array(given["p"]), np.array(attempt["chains"][0]["scale"])
    step = float(f"{attempt['chains'][0]['step']:.3g}")

    def slope(q):
        return np.asarray(gradient({names[0]: q[0], names[1]: q[1], names[2]: q[2:]}))

    points = [q]
    for _ in range(6):
        p = p + 0.5 * step * slope(q)
        q = q + step * scale**2 * p
        p = p + 0.5 * step * slope(q)
        points.append(q)
    drawn = np.array(
        [[float(v) for v in pair.split()] for pair in re.findall(r"[ML]([^ML]+)", given["d"])]
    )
    x, y = np.array([point[4] for point in points]), np.array([point[1] for point in points])
    for pixels, values in zip(
        drawn[:7].T, (x, y), strict=True
    ):  # an axis is a straight line of the values
        slope_, offset = np.polyfit(values[[0, 3, 5]], pixels[[0, 3, 5]], 1)
        np.testing.assert_allclose(pixels, slope_ * values + offset, atol=0.4)


def test_draws_are_counted_and_held_against_the_exact_share(tab, exact):
    tab.get_by_role("button", name="Run 500").click()
    tab.get_by_role("button", name="Run 500").click()
    said = ran(tab)
    count, acceptance, least, share, low, lowest = re.search(
        r"1000 transitions from this start: (\d+) divergent, mean acceptance ([\d.]+)\. "
        r"No draw has a σ below ([\d.]+), where ([\d.]+)% of .* "
        r"lowest 5% of σ \(below ([\d.]+)\) (lies none|lie [\d.]+%)",
        said,
    ).groups()
    assert 5 < int(count) < 200
    assert 0.4 < float(acceptance) < 0.95
    assert lowest == "lies none" or float(lowest.removeprefix("lie ").removesuffix("%")) < 5
    below = [100 * float(exact.cdf("sigma", float(least) + way)) for way in (-0.006, 0.006)]
    assert below[0] - 0.06 <= float(share) <= below[1] + 0.06
    assert float(low) == pytest.approx(float(exact.quantile(0.05, "sigma")["sigma"]), abs=6e-4)
    dots = tab.locator(".fx-draw").first.get_attribute("d").count("M")
    crosses = tab.locator(".fx-divergent").first.get_attribute("d").count("M")
    assert (dots + crosses, crosses) == (1000, int(count))
    assert "draws=1000" in address(tab)
    tab.get_by_label("Step size").focus()
    tab.keyboard.press("ArrowLeft")
    assert "transitions from" not in ran(tab), "draws of another setting stay"
    assert tab.get_by_role("button", name="Clear").is_disabled()


def test_the_ring_is_dragged_in_either_coordinate_and_a_click_puts_it(tab):
    for panel in (0, 1):
        before = words(tab), address(tab)
        x, y = start(tab, panel)
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x - 20, y + 25, steps=4)
        tab.mouse.up()
        assert start(tab, panel) == pytest.approx((x - 20, y + 25), abs=2.5)
        assert (words(tab), address(tab)) != before
    svg = tab.locator(".fx-at-effect svg").bounding_box()
    tab.mouse.click(svg["x"] + 200, svg["y"] + 120)
    assert start(tab) == pytest.approx((svg["x"] + 200, svg["y"] + 120), abs=2.5)
    assert re.search(r"effect=-?[\d.]+&sigma=[\d.]+", address(tab))


def test_a_finger_puts_the_ring_and_the_page_still_scrolls(browser, page):
    tab = opened(browser, page, width=390, has_touch=True, is_mobile=True)
    svg = tab.locator(".fx-at-effect svg").bounding_box()
    tab.touchscreen.tap(svg["x"] + 180, svg["y"] + 110)
    assert start(tab) == pytest.approx((svg["x"] + 180, svg["y"] + 110), abs=3)
    assert (
        tab.locator(".fx-at-effect svg").evaluate("one => getComputedStyle(one).touchAction") == "pan-y"
    )
    assert tab.locator(".fx-start").first.evaluate("one => getComputedStyle(one).touchAction") == "none"
    tops = [tab.locator(f".fx-at-{name}").bounding_box()["y"] for name in ("effect", "controls", "z")]
    assert tops == sorted(tops), "on a phone the picture stands beside what moves it"
    assert tab.trouble == []
    tab.close()


def test_keys_reach_and_move_everything_and_the_words_are_said(tab):
    tab.locator("body").click(position={"x": 2, "y": 2})
    reached = []
    while len(reached) < 40:
        tab.keyboard.press("Tab")
        name = tab.evaluate(
            "document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent"
        )
        if tab.evaluate("document.activeElement === document.body"):
            break
        reached.append(name)
    controls = [
        "Attempt",
        "New momentum",
        "Watch",
        "Run 500",
        "Form",
        "Step size",
        "Steps",
        "Prior",
        "District",
    ]
    for word in [*controls, "Start: effect", "Start: σ"]:
        assert any(word in name for name in reached), word
    slider = tab.get_by_label("Step size")
    slider.focus()
    before = words(tab)
    for _ in range(300):
        tab.keyboard.press("ArrowLeft")
    assert words(tab) != before
    assert "The path holds for all 16 steps" in words(tab)
    assert "step=" in address(tab)
    assert (
        slider.get_attribute("aria-valuetext")
        == tab.locator(".fx-slider:has-text('Step size') .fx-value").inner_text()
    )
    tab.wait_for_timeout(SETTLED)
    assert tab.locator(".fx-aloud").inner_text() == words(tab)


def test_the_address_is_the_state(tab):
    tab.evaluate(
        "location.hash = 'attempt=mme4&form=0.5&step=0.2&steps=30&district=1&effect=-1&sigma=0.2&seed=7'"
    )
    tab.wait_for_function("document.querySelector('.fx-verdict').textContent.includes('30')")
    assert tab.get_by_label("Form, from").input_value() == "0.5"
    assert tab.get_by_label("District shown").input_value() == "1"
    assert tab.get_by_label("Attempt of the book").input_value() == "mme4"
    first = words(tab)
    tab.get_by_role("button", name="New momentum").click()
    assert words(tab) != first
    assert "seed=8" in address(tab)
    state = address(tab)
    tab.reload()
    tab.wait_for_selector(".explorer[data-opened]")
    assert address(tab) == state
    assert tab.get_by_label("Steps in the path").input_value() == "30"


@pytest.mark.parametrize(
    "broken",
    ["attempt=mme9", "step=0", "step=long", "steps=1.5", "steps=1e9", "district=4", "sigma=-1", "form=2",
     "draws=7", "draws=1e9", "prior=none", "effect=NaN", "seed=", "%=%", "a=b&=&&"],
)  # fmt: skip
def test_what_no_setting_can_be_is_left_at_the_default(browser, page, broken):
    plain, odd = opened(browser, page), opened(browser, page, broken)
    assert words(odd) == words(plain)
    assert odd.trouble == []
    plain.close()
    odd.close()


def test_a_path_is_watched_step_by_step_unless_motion_is_unwelcome(browser, page):
    tab = opened(browser, page, reduced_motion="no-preference")
    count = "document.querySelector('.fx-dots').getAttribute('d').split('M').length - 1"
    whole = tab.evaluate(count)
    tab.get_by_role("button", name="Watch the path").click()
    tab.wait_for_function(f"{count} < {whole - 3}")
    seen = tab.evaluate(count)
    assert tab.locator(".fx-cross").count() == 0
    tab.wait_for_function(f"{count} > {seen}")
    tab.wait_for_selector(".fx-cross")
    assert (tab.evaluate(count), tab.locator(".fx-cross").count()) == (whole, 2)
    tab.close()
    tab = opened(browser, page)
    tab.get_by_role("button", name="Watch the path").click()
    assert tab.evaluate(count) == whole
    tab.close()


def test_prior_and_district_redraw_the_exact_contours(tab):
    contours = "[...document.querySelectorAll('.fx-contour')].map(one => one.getAttribute('d')).join()"
    seen = {tab.evaluate(contours)}
    tab.get_by_label("District shown").select_option("1")
    seen.add(tab.evaluate(contours))
    tab.get_by_label("Prior of σ").select_option("HalfNormal(0.1)")
    seen.add(tab.evaluate(contours))
    assert len(seen) == 3
    label = tab.locator(".fx-at-effect svg").get_attribute("aria-label")
    assert re.search(
        r"starts at effect 0, sigma 0\.4, and (breaks after|ends at) effect −?[\d.]+", label
    )
    tab.set_viewport_size({"width": 700, "height": 900})
    tab.wait_for_function(
        "document.querySelector('.fx-at-error svg').getBoundingClientRect().width < 690"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(browser, page, theme, width):
    tab = opened(browser, write_page(page.parents[1], "path", theme), "draws=500", width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        tab.trouble == []
    )  # axe itself asks for the style sheets once more, in vain on a page from a file
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    assert tab.evaluate(RUN_AXE, []) == []
    tab.set_viewport_size({"width": 320, "height": 800})
    tab.wait_for_function("document.documentElement.scrollWidth <= 320")
    tab.close()
