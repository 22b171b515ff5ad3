"""The explorer's pool by mouse, touch and keys, its figures held against the package's exact answers."""

import html
import re

import numpy as np
import pytest
import scipy.stats as st
from conftest import ROOT, needs_browser
from explorer_page import opened, write_page
from scipy.special import expit
from test_access import AXE, RUN_AXE

import fieldguide as fg
from fieldguide.reference.given_spread import given_spread

pytestmark = needs_browser

TABLES = {"three": fg.load_three_districts(), "sixty": fg.count_by_district(fg.load_bangladesh())}
PRIORS = {
    "Exponential(1)": st.expon(),
    "HalfNormal(0.5)": st.halfnorm(scale=0.5),
    "HalfNormal(0.25)": st.halfnorm(scale=0.25),
    "HalfNormal(0.1)": st.halfnorm(scale=0.1),
}
NUMBER = r"(?:under |over )?[\d.]+%?"
END = 100
"""Where the slider ends; sigma is there `MOST`."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    return {theme: write_page(folder, "pool", theme) for theme in ("light", "dark")}


@pytest.fixture
def page(pages):
    return pages["light"]


def exact(name, prior="Exponential(1)"):
    table = TABLES[name]
    return fg.exact_posterior(
        table["users"], table["women"], sigma_prior=PRIORS[prior], district=table.index
    )


def said(value, share=True):
    """Return the digits of a number as the page writes it."""
    if share and 0.999 < value < 1:
        return "over 99.9%"
    if share and 0 < value < 0.001:
        return "under 0.1%"
    places = 3 if share and value >= 0.0995 else 2
    text = f"{100 * value if share else value:.{places}g}"
    return f"{float(text):g}" + ("%" if share else "")


def near(text, value, share=True):
    """Whether a text is the number to the digits shown, up or down where it is halfway."""
    return text in {said(value * (1 + tiny), share) for tiny in (-3e-5, 0, 3e-5)}


def verdict(tab):
    return tab.locator(".fx-verdict").inner_text()


def labels(tab):
    return [svg.get_attribute("aria-label") for svg in tab.locator(".fx svg").all()]


def slider(tab):
    return tab.get_by_label("Spread σ")


def sigma(tab):
    return float(slider(tab).get_attribute("aria-valuetext"))


def value(tab):
    return float(slider(tab).input_value())


def address(tab, wanted):
    """Wait until a text stands in the address behind "#"."""
    tab.wait_for_function("wanted => decodeURIComponent(location.hash.slice(1)) === wanted", arg=wanted)


def by_district(label, fields):
    """Return what a label says of each district, as texts."""
    number = rf"({NUMBER})"
    pattern = {1: number, 3: rf"{number} \({number} to {number}\)"}[fields]
    found = re.findall(rf"(?:^|[;:] )(\d+): {pattern}(?=;|$)", label)
    return {int(one[0]): one[1:] for one in found}


@pytest.mark.parametrize("spread", [0.1, 3])
@pytest.mark.parametrize("name", TABLES)
def test_rates_sds_and_intervals_are_those_of_the_package(browser, page, name, spread):
    """Against `given_spread`, and for intervals `exact_posterior` under a prior that is one spread."""
    tab = opened(browser, page, f"set={name}&sigma={spread}")
    table = TABLES[name]
    known = given_spread(table["users"], table["women"], spread, district=table.index).isel(sigma=0)
    width = 1e-3 * spread
    narrow = fg.exact_posterior(
        table["users"],
        table["women"],
        sigma_prior=st.uniform(spread - width / 2, width),
        district=table.index,
    )
    ends = narrow.quantile([0.055, 0.945])["p"]
    rates, _, sds = labels(tab)
    rates, sds = by_district(rates, 3), by_district(sds, 1)
    assert [*rates] == [*sds]
    assert sorted(rates) == sorted(table.index)
    for district, (mean, low, high) in rates.items():
        of = {"district": district}
        assert near(mean, float(known["mean_p"].sel(of)))
        for text, end in zip((low, high), ends.sel(of).values.ravel(), strict=True):
            off = abs(float(re.search(r"[\d.]+", text).group()) / 100 - end)
            assert off < 1e-3, (district, text, end)
        assert near(sds[district][0], float(known["sd"].sel(of)), share=False)
    assert f"district 3's rate is {rates[3][0]} ({rates[3][1]} to {rates[3][2]})" in verdict(tab)
    tab.close()
    assert tab.trouble == []


@pytest.mark.parametrize(
    ("name", "prior"),
    [*(("three", prior) for prior in PRIORS), ("sixty", "Exponential(1)"), ("sixty", "HalfNormal(0.1)")],
)
def test_the_posterior_of_sigma_is_that_of_the_package(browser, page, name, prior):
    """Against `exact_posterior`: share below, interval, district 3 averaged; and both curves."""
    answer = exact(name, prior)
    middle = round(float(answer.quantile(0.4)["sigma"]), 2)
    tab = opened(browser, page, f"set={name}&prior={prior}&sigma={middle}")
    below = re.search(rf"({NUMBER}) of the posterior of σ lies below\.", verdict(tab)).group(1)
    assert near(below, float(answer.cdf("sigma", middle)))
    averaged = re.search(rf"its rate is ({NUMBER})\.$", verdict(tab)).group(1)
    assert near(averaged, float(answer.mean["p"].sel(district=3)))
    low, high = answer.quantile([0.055, 0.945])["sigma"].values.ravel()
    shown = re.search(r"89%, ([\d.]+) to ([\d.]+)\.", tab.locator(".fx-hint").nth(1).inner_text())
    assert near(shown.group(1), low, share=False)
    assert near(shown.group(2), high, share=False)
    # heights of the curves are densities of sigma times the pace of sigma along the axis
    draws = """layer => [...document.querySelector(`.fx-pool-${layer} path`).getAttribute("d")
        .matchAll(/(?:M|L)([\\d.]+) ([\\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)])"""
    base, left, right = (
        170 - 42,
        *tab.evaluate(
            "() => { const [, a, b] = document.querySelector('.fx-pool-drag .fx-axes path')"
            ".getAttribute('d').match(/^M([\\d.]+) .*H([\\d.]+)$/); return [+a, +b]; }"
        ),
    )
    curves = {}
    for layer, density in (("posterior", answer.pdf), ("prior", None)):
        x, y = np.array(tab.evaluate(draws, layer)).T
        pace = np.arcsinh(10 / 0.2) / (right - left)
        spread = 0.2 * np.sinh(np.clip(pace * (x - left), 1e-6, None))
        wanted = np.asarray(density("sigma", spread) if density else PRIORS[prior].pdf(spread)).ravel()
        curves[layer] = (base - y, wanted * np.hypot(spread, 0.2) * pace)
    scale = curves["posterior"][0].max() / curves["posterior"][1].max()
    for drawn, wanted in curves.values():
        np.testing.assert_allclose(drawn, scale * wanted, atol=1.2)
    assert max(drawn.max() for drawn, _ in curves.values()) == pytest.approx((170 - 52) / 1.08, abs=0.2)
    tab.close()
    assert tab.trouble == []


def test_pictures_show_what_their_words_say(browser, page):
    """Places of dots, bars, own shares and the mean, read from the drawing, against the package."""
    tab = opened(browser, page, "set=sixty&sigma=0.8&order=own+share")
    table = TABLES["sixty"]
    known = given_spread(table["users"], table["women"], 0.8, district=table.index).isel(sigma=0)
    width = tab.locator(".fx svg").first.evaluate("svg => svg.viewBox.baseVal.width")

    def rates(layer):
        text = tab.locator(f".fx-pool-{layer} path").get_attribute("d")
        x = np.array([float(one) for one in re.findall(r"M([\d.]+)", text)])
        return -0.03 + 1.06 * (x - 76) / (width - 86)

    share = table["users"] / table["women"]
    order = table.assign(share=share).sort_values("share", ascending=False, kind="stable").index
    np.testing.assert_allclose(rates("own"), share[order], atol=1e-6)
    np.testing.assert_allclose(rates("dots"), known["mean_p"].sel(district=order), atol=1e-5)
    assert (rates("bars") < rates("dots")).all()
    mean = expit(float(known["weight"] @ known["alpha_bar"]))
    np.testing.assert_allclose(rates("rule"), mean, atol=1e-5)
    tab.get_by_label("Order by").select_option("number of women")
    order = table.assign(share=share).sort_values("women", ascending=False, kind="stable").index
    np.testing.assert_allclose(rates("own"), share[order], atol=1e-6)
    assert list(by_district(labels(tab)[0], 3)) == list(order)
    address(tab, "set=sixty&sigma=0.8")
    # curves of sds: those of the package, at the ends and at the slider's place
    ends = 0.2 * np.sinh(np.arcsinh(50) * np.array([0.3, 0.7, 1]))
    sds = given_spread(table["users"], table["women"], ends, district=table.index)["sd"]
    drawn = tab.locator(".fx-pool-named path").get_attribute("d")
    points = np.array([[float(v) for v in one.split()] for one in re.findall(r"[\d.]+ [\d.]+", drawn)])
    x = points[0, 0] + (points[-1, 0] - points[0, 0]) * np.array([0.3, 0.7, 1])
    height = -1.4 + 2.6 * (168 - np.interp(x, *points.T)) / 158
    np.testing.assert_allclose(height, np.log10(sds.sel(district=3)), atol=2e-3)
    assert tab.locator(".fx-pool-sds path").count() == len(table) - 1
    tab.close()
    # three districts carry the whole answer too
    tab = opened(browser, page)
    width = tab.locator(".fx svg").first.evaluate("svg => svg.viewBox.baseVal.width")
    np.testing.assert_allclose(rates("exact-dots"), exact("three").mean["p"], atol=1e-5)
    low = exact("three").quantile(0.055)["p"].values.ravel()
    np.testing.assert_allclose(rates("exact"), low, atol=1e-4)
    ticks = tab.locator(".fx svg").first.locator(".fx-axes text").all_text_contents()
    assert {"1 (117)", "2 (20)", "3 (2)"} <= set(ticks)
    tab.close()
    assert tab.trouble == []


def test_the_keys_go_from_one_estimate_to_strangers(browser, page):
    tab = opened(browser, page)
    stops = []
    for _ in range(4):
        tab.keyboard.press("Tab")
        stops.append(tab.evaluate("document.activeElement.labels[0].firstChild.textContent.trim()"))
    assert stops == ["Districts", "Prior of σ", "Order by", "Spread σ"]
    assert tab.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    tab.keyboard.press("Home")
    assert sigma(tab) == 0
    women = TABLES["three"].sum()
    together = fg.exact_posterior_fixed([women["users"]], [women["women"]]).mean["p"].item()
    one = {rate for rate, *_ in by_district(labels(tab)[0], 3).values()}
    assert len(one) == 1
    assert near(one.pop(), together)
    assert "0% of the posterior of σ lies below" in verdict(tab)
    tab.keyboard.press("ArrowRight")
    assert 0 < sigma(tab) < 0.02
    tab.keyboard.press("End")
    assert sigma(tab) == 10
    rates = {name: float(rate[:-1]) for name, (rate, *_) in by_district(labels(tab)[0], 3).items()}
    own = 100 * TABLES["three"]["users"] / TABLES["three"]["women"]
    assert all(abs(rates[name] - own[name]) < 5 for name in rates)
    address(tab, "sigma=10")
    said_aloud = tab.locator(".fx [role=status]")
    tab.wait_for_function("document.querySelector('.fx [role=status]').textContent.includes('σ = 10,')")
    assert said_aloud.inner_text() == verdict(tab).split(" Its own")[0]
    assert said_aloud.count() == 1
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("ArrowDown")
    address(tab, "sigma=10&prior=HalfNormal(0.5)")
    tab.close()
    assert tab.trouble == []


def middle_of(tab, k):
    box = tab.locator(".fx-pool-drag").nth(k).bounding_box()
    return box["x"], box["y"] + box["height"] / 2, box["width"]


@pytest.mark.parametrize("k", [0, 1])
def test_the_mouse_drags_sigma_on_its_posterior_and_on_the_sds(browser, page, k):
    tab = opened(browser, page)
    x, y, width = middle_of(tab, k)
    tab.mouse.move(x + 80, y)
    before = verdict(tab)
    assert sigma(tab) == 0.5  # a pointer that is not pressed sets nothing
    tab.mouse.down()
    tab.mouse.move(x + 0.5 * width, y, steps=3)
    assert value(tab) == pytest.approx(END * (0.5 * width - 52) / (width - 62), abs=0.2)
    half = verdict(tab)
    tab.mouse.move(x + width + 300, y + 200)  # out of the picture, which keeps the pointer
    assert sigma(tab) == 10
    tab.mouse.move(x - 100, y)
    assert sigma(tab) == 0
    tab.mouse.up()
    assert len({before, half, verdict(tab)}) == 3
    for mark in tab.locator(".fx-pool-mark path").all():
        assert mark.get_attribute("d").startswith("M52 ")
    address(tab, "sigma=0")
    tab.mouse.click(x + 0.8 * width, y)
    assert value(tab) == pytest.approx(END * (0.8 * width - 52) / (width - 62), abs=0.2)
    tab.close()
    assert tab.trouble == []


def test_the_handle_stands_over_its_place_on_the_axes(browser, page):
    for width in (1280, 390):
        tab = opened(browser, page, "sigma=2", width)
        input_, picture = slider(tab).bounding_box(), tab.locator(".fx-pool-drag").first
        mark = picture.locator(".fx-pool-mark path").bounding_box()
        thumb = input_["x"] + 8 + value(tab) / END * (input_["width"] - 16)
        assert thumb == pytest.approx(mark["x"] + mark["width"] / 2, abs=1.5)
        tab.close()


def test_a_finger_taps_and_drags_and_still_scrolls_the_page(browser, page):
    tab = opened(browser, page, "", 390, has_touch=True)
    tab.locator(".fx-pool-drag").first.scroll_into_view_if_needed()
    x, y, width = middle_of(tab, 0)
    tab.touchscreen.tap(x + 0.7 * width, y)
    assert value(tab) == pytest.approx(END * (0.7 * width - 52) / (width - 62), abs=0.5)

    touch = tab.context.new_cdp_session(tab)

    def swipe(*points):
        for kind, at in zip(["touchStart", *["touchMove"] * (len(points) - 1)], points, strict=True):
            touch.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [dict(x=at[0], y=at[1])]}
            )
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    swipe(*((x + share * width, y) for share in (0.7, 0.6, 0.5, 0.45, 0.4)))
    assert value(tab) == pytest.approx(END * (0.4 * width - 52) / (width - 62), abs=0.5)
    held, top = value(tab), tab.evaluate("scrollY")
    swipe(*((x + 0.8 * width, y - 30 * step) for step in range(8)))
    tab.wait_for_function("top => scrollY > top + 60", arg=top)
    assert value(tab) == held  # up and down is the page's
    box = slider(tab).bounding_box()
    tab.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    assert value(tab) == pytest.approx(25, abs=4)
    tab.close()
    assert tab.trouble == []


def test_the_address_brings_back_what_it_keeps(browser, page):
    state = "set=sixty&sigma=0.3&prior=HalfNormal(0.25)&order=own+share"
    tab = opened(browser, page, state)
    chosen = [tab.get_by_label(one).input_value() for one in ("Districts", "Prior of σ", "Order by")]
    assert chosen == ["sixty", "HalfNormal(0.25)", "own share"]
    assert sigma(tab) == 0.3
    first = labels(tab)
    tab.evaluate("location.hash = 'sigma=0.1'")
    tab.wait_for_function("document.querySelector('.fx-verdict').textContent.includes('σ = 0.1,')")
    chosen = [tab.get_by_label(one).input_value() for one in ("Districts", "Prior of σ", "Order by")]
    assert chosen == ["three", "Exponential(1)", "number of women"]
    tab.get_by_label("Districts").select_option("sixty")
    tab.get_by_label("Prior of σ").select_option("HalfNormal(0.25)")
    tab.get_by_label("Order by").select_option("own share")
    address(tab, "set=sixty&sigma=0.1&prior=HalfNormal(0.25)&order=own+share")
    tab.evaluate("state => { location.hash = state; }", state)
    tab.wait_for_function("document.querySelector('.fx-verdict').textContent.includes('σ = 0.3,')")
    assert labels(tab) == first
    tab.close()
    broken = opened(browser, page, "set=two&sigma=-1&prior=Normal(1)&order=constructor&more=1")
    assert verdict(broken).startswith("With σ = 0.5,")
    plain = opened(browser, page)
    assert labels(broken) == labels(plain)
    slider(broken).press("End")
    address(broken, "sigma=10")
    broken.close()
    plain.close()
    assert tab.trouble == broken.trouble == plain.trouble == []


def test_the_first_minute_holds(browser, page):
    """The links of the instrument's page open what they say, and what is to be seen there is seen."""
    text = (ROOT / "book" / "explorer" / "pool.md").read_text(encoding="utf-8")
    states = [html.unescape(one) for one in re.findall(r'<a href="#([^"]+)">', text)]
    found = {}
    for state in [*states, "sigma=10", "sigma=2"]:
        tab = opened(browser, page, state)
        tab.get_by_label("Order by").select_option("own share")
        address(tab, f"{state}&order=own+share")
        tab.get_by_label("Order by").select_option("number of women")
        address(tab, state)  # which is written out without what is at its default
        rates, _, sds = labels(tab)
        found[state] = {
            "rate": {
                k: [float(v.strip("over%")) for v in one] for k, one in by_district(rates, 3).items()
            },
            "sd": {k: float(one[0]) for k, one in by_district(sds, 1).items()},
            "averaged": float(re.search(r"its rate is ([\d.]+)%\.$", verdict(tab)).group(1)),
        }
        tab.close()
        assert tab.trouble == []
    assert len(states) == 4
    none, sixty, tight, tight_sixty, most, some = found.values()
    assert len({tuple(one) for one in none["rate"].values()}) == 1
    assert abs(most["rate"][1][0] - none["rate"][1][0]) < 4
    assert most["rate"][3][0] - none["rate"][3][0] > 60
    bars = [one["rate"][3][2] - one["rate"][3][1] for one in (none, some, most)]
    assert bars[0] < bars[2] < bars[1]
    assert most["sd"][1] < 1.2 * none["sd"][1]
    assert most["sd"][2] < 1.1 * some["sd"][2]
    assert most["sd"][3] > 2 * some["sd"][3]
    assert sixty["averaged"] - tight_sixty["averaged"] < 5 < 15 < none["averaged"] - tight["averaged"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(browser, pages, theme, width):
    for state in ("", "set=sixty"):
        tab = opened(browser, pages[theme], state, width)
        assert tab.trouble == []  # axe will ask in vain for the files of the page
        tab.evaluate(AXE.read_text(encoding="utf-8"))
        assert tab.evaluate(RUN_AXE, []) == []
        small = tab.evaluate(
            "[...document.querySelectorAll('.fx *')].filter(one => one.childNodes.length && "
            "parseFloat(getComputedStyle(one).fontSize) < 12).length"
        )
        assert small == 0
        tab.close()


def test_everything_fits_a_narrow_phone_and_follows_its_turn(browser, page):
    words = """() => [...document.querySelectorAll('.fx svg')].flatMap(svg => {
      const frame = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
          || box.bottom > frame.bottom + 1;
      }).map(text => text.textContent);
    })"""
    for state in ("sigma=0", "set=sixty&sigma=10"):
        tab = opened(browser, page, state, 320)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320
        assert tab.evaluate(words) == []
        kept = labels(tab)
        tab.set_viewport_size({"width": 800, "height": 390})
        tab.wait_for_function("document.querySelectorAll('.fx svg')[1].viewBox.baseVal.width > 340")
        assert tab.evaluate(words) == []
        assert labels(tab) == kept
        tab.close()
        assert tab.trouble == []


def test_in_the_dark_nothing_vanishes(browser, pages):
    """Each line and dot stands out from the paper, by three to one as WCAG asks of graphics."""
    contrast = """() => {
      const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map(v => v / 255).map(
        v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const paper = light(getComputedStyle(document.body).backgroundColor);
      const all = ['own', 'dots', 'bars', 'rule', 'exact', 'posterior', 'prior', 'mark', 'named'];
      return all.map(name => {
        const ink = light(getComputedStyle(document.querySelector(`.fx-pool-${name} path`)).stroke);
        return [name, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)]; });
    }"""
    for theme in ("light", "dark"):
        tab = opened(browser, pages[theme])
        assert {name: ratio for name, ratio in tab.evaluate(contrast) if ratio < 3} == {}
        dashed = tab.locator(".fx-pool-prior path").evaluate("e => getComputedStyle(e).strokeDasharray")
        assert dashed != "none"
        tab.close()
