"""Slides: small decks of a made-up chapter, and the decks of the book as a class sees them."""

import re
import shutil
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, build, needs_browser
from pypdf import PdfReader
from test_access import AXE, RUN_AXE
from test_broken_books import TRUE_CLAIM, book_with
from test_pages import soup_of

from fieldguide.paper import chapters_of
from fieldguide.slides import FOLDER, PARTS, SlideError, read_deck, sentences, sources, write_decks

DECKS = [path.stem for path in sources(ROOT)]
every_deck = pytest.mark.parametrize("name", DECKS)
MOST_WORDS = 45
"""On a slide, besides its heading, captions, tables and code."""

FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20"/></svg>'
PHONE = FIGURE.replace("20", "9")
CHAPTER = """<!DOCTYPE html><html><body><article class="bd-article"><section id="a-chapter">
<h1>1. A chapter<a class="headerlink" href="#a-chapter">#</a></h1>
<p>It begins. <strong>9 of 20 diverged.</strong> The rest (of <em>mme0</em>, see
<a href="../book/references.html#neal">Neal, 2003</a>) did not. Did they?
“They did.” At 0.5 more did.</p>
<section id="a-model"><h2>A model</h2>
<div class="math"><math display="block"><mi>σ</mi></math></div>
<div class="cell"><div class="cell_input"><pre><span>sigma</span> = 1 &lt; 2</pre></div></div>
<div class="cell tag_hide-input"><details class="hide"><summary>Show the code</summary>
<div class="cell_input"><pre>draw(sigma)</pre></div></details>
<div class="cell_output"><figure class="fieldguide" id="fig-one"><picture>
<source media="(max-width: 600px)" srcset="../_images/phone.svg" width="9" height="9"/>
<img alt="One square, nine of twenty." src="../_images/wide.svg" width="20" height="10" loading="lazy"/>
</picture><figcaption><p><span class="caption-number">Fig. 7 </span>
<span class="caption-text">A square.</span></p></figcaption></figure></div></div>
<table class="fieldguide" id="tab-one"><caption><span class="caption-number">Table 3 </span>
<span class="caption-text">Some.</span></caption>
<thead><tr><th>form</th><th>R-hat</th><th>ESS</th></tr></thead>
<tbody><tr><td>centered</td><td class="bad">1.07</td><td>41</td></tr>
<tr><td>non-centered</td><td>1.00</td><td>822</td></tr></tbody></table>
<div class="prediction"><p><strong>Predict before you look.</strong> How many?</p></div></section>
<section id="exercises"><h2>Exercises</h2><section id="take"><h3>1.1 Take them out</h3>
<p>What has become worse?</p><details><summary>Hint</summary><p>Where do they lie?</p></details>
<details><summary>Answer</summary><p>The hole is larger.</p></details><p>The hole stays.</p></section>
</section><ul class="claims"><li>It diverged 9 times.</li><li>It diverged in all seeds.</li></ul>
</section></article></body></html>"""
DECK = """# A deck of *one*

```{sentence} of 20 diverged
At 0.5
```

See [chapter 1](../../../notebooks/01_chapter.ipynb#a-model).

## Look

```{figure} fig-one
```

:::{notes}
Say that $\\sigma$ is small.

```{claim} It diverged 9 times
```
:::
"""


@pytest.fixture
def project(tmp_path):
    """Return a project with one built chapter, and a function that makes a deck of a source."""
    html = tmp_path / "_build" / "html"
    for folder in ("notebooks", "_images"):
        (html / folder).mkdir(parents=True)
    (html / "notebooks" / "01_chapter.html").write_text(CHAPTER, encoding="utf-8")
    (html / "_images" / "wide.svg").write_text(FIGURE)
    (html / "_images" / "phone.svg").write_text(PHONE)
    shutil.copytree(ROOT / "book" / "_static", html / "_static")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / FOLDER).mkdir(parents=True)

    def made(source: str, name: str = "01_chapter", site: str = ""):
        (tmp_path / FOLDER / f"{name}.md").write_text(source, encoding="utf-8")
        faults = write_decks(tmp_path, html, site)
        path = html / FOLDER / f"{name}.html"
        page = path.read_text(encoding="utf-8") if path.is_file() else ""
        return BeautifulSoup(page, "html.parser"), faults

    return made


def slide_with(project, part: str):
    """Return what a slide shows of one part, without its heading."""
    soup, faults = project(f"# A deck\n\n## Slide\n\n{part}\n")
    assert faults == []
    return soup.select(".slide")[1].select_one(".shown")


# ---------------------------------------------------------------------------------------------
# What a deck takes from its chapter


def test_a_deck_is_one_file_with_its_slides_their_places_and_its_notes_shut(project):
    soup, faults = project(DECK)
    assert faults == []
    slides = soup.select("main > section.slide")
    assert [slide["id"] for slide in slides] == ["1", "2"]
    assert [slide.find(id=slide["aria-labelledby"]).text for slide in slides] == [
        "A deck of one",
        "Look",
    ]
    assert slides[0].h2.em.text == "one"
    assert [slide.select_one(".place a")["href"] for slide in slides] == ["#1", "#2"]
    assert soup.title.text == "A deck of one – slides for 1. A chapter"
    assert "When Multilevel Models Diverge" in slides[0].text
    (notes,) = soup.select("details.notes")
    assert not notes.has_attr("open")
    assert notes.math.text == "σ"
    assert notes.li.text == "It diverged 9 times."


def test_sentences_are_the_chapters_with_their_numbers_and_links(project):
    soup, _ = project(DECK)
    said = soup.select_one(".slide .said")
    assert said.text == "9 of 20 diverged. At 0.5 more did."
    assert said.strong.text == "9 of 20 diverged."
    cited = slide_with(project, "```{sentence} mme0\n```").a
    assert cited["href"] == "../../references.html#neal"
    links = [link["href"] for link in soup.select(".slide .shown a")]
    assert links == ["../../../notebooks/01_chapter.html#a-model", "../../../notebooks/01_chapter.html"]


def test_links_of_a_deck_that_is_carried_away_lead_to_the_site_where_it_is_known(project):
    soup, _ = project(DECK, site="https://example.org/book/")
    links = {link["href"].partition("#")[0] for link in soup.select(".slide .shown a")}
    assert links == {"https://example.org/book/notebooks/01_chapter.html"}


def test_a_paragraph_is_parted_into_its_sentences():
    parted = ["See Fig. 3, at 0.5.", "(So it is.)", "<b>Why?</b>", "“It is.”", "An <i>a. B</i> c.d."]
    text = " ".join([*parted, "3 more"])
    paragraph = BeautifulSoup(f"<p>{text}</p>", "html.parser").p
    said = [sentence.decode_contents() for sentence in sentences(paragraph)]
    assert said == [*parted, "3 more"]


def test_a_figure_keeps_number_caption_words_and_both_drawings(project):
    figure = slide_with(project, "```{figure} fig-one\n```").figure
    assert " ".join(figure.figcaption.text.split()) == "Fig. 7 A square."
    assert figure.img["alt"] == "One square, nine of twenty."
    assert not figure.img.has_attr("loading")
    for address, drawing in ((figure.img["src"], FIGURE), (figure.source["srcset"], PHONE)):
        assert b64decode(address.removeprefix("data:image/svg+xml;base64,")).decode() == drawing


def test_a_table_is_taken_whole_or_by_names(project):
    def cells(part):
        table = slide_with(project, part).table
        return [[cell.text for cell in row.select("th, td")] for row in table.select("tr")], table

    whole, table = cells("```{table} tab-one\n```")
    assert whole == [
        ["form", "R-hat", "ESS"],
        ["centered", "1.07", "41"],
        ["non-centered", "1.00", "822"],
    ]
    assert "In part" not in table.caption.text
    cut, table = cells("```{table} tab-one\nrows: centered\ncolumns: R-hat\n```")
    assert cut == [["form", "R-hat"], ["centered", "1.07"]]
    assert table.caption.text.endswith("Some. In part.")
    assert table.select_one(".bad").text == "1.07"


def test_predictions_equations_and_code_are_the_chapters(project):
    assert slide_with(project, "```{prediction} How many\n```").text.split()[-2:] == ["How", "many?"]
    assert slide_with(project, "```{equation} A model\n```").math.text == "σ"
    assert slide_with(project, "```{code} sigma\n```").pre.text == "sigma = 1 < 2"


def test_an_exercise_comes_without_anything_after_its_first_fold(project):
    exercise = slide_with(project, "```{exercise} Take them out\n```").select_one(".exercise")
    assert [part.text for part in exercise.select("p")] == [
        "1.1 Take them out",
        "What has become worse?",
    ]


FAULTS = {
    "```{figure} fig-two\n```": "notebooks/01_chapter shows no figure 'fig-two'; it shows fig-one",
    "```{table} tab-two\n```": "shows no table 'tab-two'; it shows tab-one",
    "```{table} tab-one\nrows: anchored\n```": "no row of tab-one named 'anchored'; there are centered",
    "```{table} tab-one\ncolumns: sd\n```": "no column of tab-one named 'sd'; there are form, R-hat",
    "```{table} tab-one\nplace: sd\n```": "a table is cut by rows and columns, not by 'place'",
    "```{sentence} of 20 converged\n```": "it has '9 of 20 diverged.'",
    "```{sentence} did\n```": "has the words 'did' in 3 sentences; name more of them",
    "```{sentence} The hole is larger\n```": "no sentence with the words 'The hole is larger'",
    "```{claim} It diverged\n```": "has the words 'It diverged' in 2 claims",
    "```{claim} It converged\n```": "it has 'It diverged 9 times.'",
    "```{prediction} Why\n```": "no prediction with the words 'Why'",
    "```{exercise} Put them back\n```": "it has '1.1 Take them out'",
    "```{equation} Exercises\n```": "no displayed equation below 'Exercises'",
    "```{code} draw\n```": "no open code cell with the words 'draw'",
    "```{picture} fig-one\n```": "no part 'picture' of a slide; there are figure, table, sentence",
    ":::{remarks}\nNo.\n:::": "'{remarks}' is nothing that a slide has",
}


@pytest.mark.parametrize("part", FAULTS)
def test_what_the_chapter_does_not_have_is_told_with_the_line_and_with_what_there_is(project, part):
    _, faults = project(f"# A deck\n\n## Slide\n\n{part}\n")
    ((place, words),) = faults
    assert place == f"{FOLDER}/01_chapter.md:5"
    assert FAULTS[part] in words


def test_every_fault_of_a_deck_is_told_also_in_its_notes(project):
    _, faults = project(
        "# A deck\n\n```{figure} a\n```\n\n:::{notes}\nSay.\n\n```{figure} b\n```\n:::\n"
    )
    assert [(fault.place[-2:], fault.words.split("'")[1]) for fault in faults] == [
        (":3", "a"),
        (":9", "b"),
    ]


def test_an_equation_that_is_not_understood_is_told_with_its_slide(project):
    _, faults = project("# A deck\n\n## Slide\n\nSo $\\nonsense{x}$.\n")
    ((place, words),) = faults
    assert place.endswith(":3")
    assert "nonsense is not understood" in words


def test_a_deck_without_a_chapter_or_a_title_is_refused(project, tmp_path):
    _, faults = project("# A deck\n", name="02_other")
    assert [fault.words for fault in faults] == [
        "no chapter is named as this deck; there are 01_chapter"
    ]
    (tmp_path / FOLDER / "02_other.md").unlink()
    for source in ("", "Words.\n", "## Slide\n", "# A deck\n\n# Another\n"):
        _, faults = project(source)
        assert "begins with one heading of the first level" in faults[0].words
        with pytest.raises(SlideError):
            read_deck(tmp_path / FOLDER / "01_chapter.md")


@pytest.mark.slow
def test_the_build_stops_at_a_deck_that_names_what_is_not_there_and_links_to_one_that_is_sound(tmp_path):
    root = book_with(tmp_path / "book", TRUE_CLAIM)
    (root / "book" / "index.md").write_text("# A small book\n\n```{decks}\n```\n")
    deck = root / FOLDER / "01_chapter.md"
    deck.parent.mkdir(parents=True)
    deck.write_text("# A deck\n\n## Slide\n\n```{claim} District 3 has 9\n```\n")
    result = build(root)
    assert result.returncode != 0
    (block,) = result.stdout.split("─" * 80)[1:-1]
    assert f"{FOLDER}/01_chapter.md:5: " in block
    assert "notebooks/01_chapter has no claim with the words 'District 3 has 9'" in block
    assert "it has 'District 3 has 2 women.'" in block
    deck.write_text(deck.read_text().replace("has 9", "has"))
    assert build(root).returncode == 0
    page = root / "_build" / "html" / "book" / "index.html"
    (link,) = soup_of(page).select("dl.decks dt a")
    assert link.text == "A deck"
    assert soup_of(page).select_one("dl.decks dd").text.strip() == "2 slides for Only."
    assert "District 3 has 2 women." in (page.parent / link["href"]).read_text(encoding="utf-8")
    bound = chapters_of(root)[0].article  # on paper the list has nowhere to lead
    assert "A deck" in bound.text
    assert not bound.select("dl.decks dt a")


# ---------------------------------------------------------------------------------------------
# The decks of the book


def deck_of(site: Path, name: str) -> BeautifulSoup:
    return soup_of(site / FOLDER / f"{name}.html")


def test_the_page_for_teachers_lists_every_deck_and_every_part(site):
    page = soup_of(site / "book/teaching/slides.html")
    listed = page.select("dl.decks dt a")
    assert [urljoin("book/teaching/", link["href"]) for link in listed] == [
        f"{FOLDER}/{name}.html" for name in DECKS
    ]
    for link, about_it, name in zip(listed, page.select("dl.decks dd"), DECKS, strict=True):
        soup = deck_of(site, name)
        chapter = soup_of(site / f"notebooks/{name}.html").h1.text.rstrip("#")
        assert link.text == soup.h2.text
        assert about_it.text.strip() == f"{len(soup.select('.slide'))} slides for {chapter}."
    first = [row.select_one("td, th").text.strip() for row in page.select("table tr")]
    assert [name for name in first if name in PARTS] == list(PARTS)


@every_deck
def test_a_deck_shows_every_figure_and_table_that_it_names(site, name):
    source = (ROOT / FOLDER / f"{name}.md").read_text(encoding="utf-8")
    soup, chapter = deck_of(site, name), soup_of(site / f"notebooks/{name}.html")
    for kind, part in (("figure", "figure.fieldguide"), ("table", "table.fieldguide")):
        labels = re.findall(rf"^```\{{{kind}\}} (\S+)$", source, re.M)
        shown = soup.select(part)
        assert len(labels) == len(shown) > 0
        for label, tag in zip(labels, shown, strict=True):
            numbers = [one.select_one(".caption-number").text for one in (tag, chapter.find(id=label))]
            assert numbers[0] == numbers[1]
    for image in soup.select("img"):
        assert len(image["alt"]) > 15
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert image.find_previous_sibling("source")["srcset"].startswith("data:image/svg+xml;base64,")


@every_deck
def test_a_deck_loads_nothing_and_its_links_lead_somewhere(site, name):
    path = site / FOLDER / f"{name}.html"
    page, soup = path.read_text(encoding="utf-8"), deck_of(site, name)
    assert path.stat().st_size < 4_000_000
    assert not soup.select("script[src], link[rel=stylesheet], iframe, object, video, audio, embed")
    assert re.findall(r"""@import|url\((?!["']?data:)""", page) == []
    loaded = [tag[name] for name in ("src", "srcset") for tag in soup.select(f"[{name}]")]
    assert [address[:40] for address in loaded if not address.startswith("data:")] == []
    for link in soup.select("a[href]"):
        target = urlsplit(urljoin(f"{FOLDER}/{name}.html", link["href"]))
        if not target.scheme:
            there = site / unquote(target.path)
            assert there.is_file(), link["href"]
            assert not target.fragment or soup_of(there).find(id=unquote(target.fragment)), link["href"]


def words_shown(slide) -> list[str]:
    shown = BeautifulSoup(str(slide.select_one(".shown")), "html.parser")
    for part in shown.select("figure, table, pre, .math, .source"):
        part.decompose()
    return shown.text.split()


@every_deck
def test_a_deck_goes_its_way_and_has_few_words_on_a_slide(site, name):
    slides = deck_of(site, name).select(".slide")
    assert 12 <= len(slides) <= 18
    assert [slide.h2.text for slide in slides][-2:] == ["In pairs", "To take away"]
    assert slides[-2].select_one(".exercise")
    asked = [k for k, slide in enumerate(slides) if slide.select(".prediction")]
    assert asked
    for place in asked:  # the answer is not beside the question
        assert not slides[place].select("figure, table, .said, .claims")
        assert slides[place + 1].select(".shown :is(figure, table, .said)")
    for slide in slides:
        assert slide.select_one("details.notes:not([open]) .spoken p"), slide["id"]
        assert len(words_shown(slide)) <= MOST_WORDS, (slide["id"], len(words_shown(slide)))
        assert len(slide.select(".shown :is(figure, table, pre)")) <= 1


@every_deck
def test_no_solution_comes_into_a_deck(site, name):
    """Neither on a slide nor in the notes: a deck is public."""
    said = " ".join(deck_of(site, name).text.split())
    folded = soup_of(site / f"notebooks/{name}.html").select("article details")
    lines = {" ".join(line.split()) for fold in folded for line in fold.text.splitlines()}
    secret = [line for line in lines if len(line) > 30]
    assert len(secret) > 20
    assert [line for line in secret if line in said] == []


@every_deck
def test_headings_go_down_one_level_at_a_time(site, name):
    levels = [int(tag.name[1]) for tag in deck_of(site, name).select("h1, h2, h3, h4")]
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def opened(browser, site, name, place="", **context):
    tab = browser.new_page(**({"viewport": {"width": 1280, "height": 720}} | context))
    tab.goto(f"{(site / FOLDER / name).as_uri()}.html{place}")
    return tab


HERE = (
    "() => [...document.querySelectorAll('.slide')].filter(one => one.checkVisibility())"
    ".map(one => one.id)"
)


@needs_browser
def test_a_deck_is_turned_with_the_keys_and_its_address_says_where_one_is(site, browser):
    tab = opened(browser, site, DECKS[0], "#3")
    last = len(deck_of(site, DECKS[0]).select(".slide"))
    assert tab.evaluate(HERE) == ["3"]
    steps = [("ArrowRight", 4), (" ", 5), ("PageDown", 6), ("ArrowDown", 7), ("ArrowLeft", 6)]
    steps += [("PageUp", 5), ("ArrowUp", 4), ("Shift+ ", 3), ("End", last), ("ArrowRight", last)]
    steps += [("Home", 1), ("ArrowLeft", 1)]
    for key, place in steps:
        tab.keyboard.press(key)
        assert tab.evaluate(HERE) == [str(place)], key
        assert tab.evaluate("location.hash") == f"#{place}"
        assert tab.evaluate("document.activeElement.id") == str(place)  # and is read aloud
    tab.evaluate("location.hash = '#5'")
    tab.wait_for_function("document.querySelector('.here').id === '5'")
    tab.reload()
    assert tab.evaluate(HERE) == ["5"]
    tab.close()


@needs_browser
def test_a_deck_is_turned_with_a_click_its_buttons_and_a_finger(site, browser):
    tab = opened(browser, site, DECKS[0], has_touch=True)
    tab.mouse.click(900, 360)
    assert tab.evaluate(HERE) == ["2"]
    tab.mouse.click(40, 360)
    assert tab.evaluate(HERE) == ["1"]
    tab.get_by_role("button", name="Next").click()
    assert tab.evaluate(HERE) == ["2"]
    tab.get_by_role("button", name="Back").click()
    assert tab.evaluate(HERE) == ["1"]
    assert not tab.locator(".turn .back").is_visible()
    swipe = """([from, to]) => { const at = x => [new Touch({identifier: 1, target: document.body,
      clientX: x, clientY: 300})];
      dispatchEvent(new TouchEvent('touchstart', {touches: at(from), changedTouches: at(from)}));
      dispatchEvent(new TouchEvent('touchend', {touches: [], changedTouches: at(to)})); }"""
    for way, place in (([800, 400], "2"), ([800, 780], "2"), ([400, 800], "1")):
        tab.evaluate(swipe, way)
        assert tab.evaluate(HERE) == [place]
    tab.close()


@needs_browser
def test_notes_are_hidden_until_they_are_asked_for_and_the_slide_stays_whole(site, browser):
    tab = opened(browser, site, DECKS[0], "#7")
    spoken = tab.locator("[id='7'] .spoken")
    assert not spoken.is_visible()
    tab.keyboard.press("n")
    assert spoken.is_visible()
    inside = (
        "['.picture', '.spoken'].map(one => document.querySelector(`.here ${one}`)"
        ".getBoundingClientRect()).map(box => [box.top, box.bottom])"
    )
    (top, below), (begin, end) = tab.evaluate(inside)
    assert 0 <= top < below <= begin + 1 < end <= 720
    tab.keyboard.press("ArrowRight")
    assert tab.locator("[id='8'] .spoken").is_visible()
    tab.locator("[id='8'] summary").click()
    assert not tab.locator("[id='8'] .spoken").is_visible()
    tab.wait_for_function("!document.querySelector('.notes[open]')")
    tab.close()


@needs_browser
def test_a_second_window_turns_with_the_first(site, browser):
    tab = opened(browser, site, DECKS[0], "#2")
    with tab.expect_popup() as popup:
        tab.keyboard.press("w")
    second = popup.value
    second.wait_for_function("document.querySelector('.here')?.id === '2'")
    tab.keyboard.press("ArrowRight")
    second.wait_for_function("document.querySelector('.here').id === '3'")
    second.keyboard.press("n")
    second.keyboard.press("ArrowRight")
    tab.wait_for_function("document.querySelector('.here').id === '4'")
    assert tab.locator(".notes[open]").count() == 0
    second.close()
    tab.close()


CUT_OFF = """() => {
  const slide = document.querySelector('.here'), frame = slide.querySelector('.picture');
  const box = frame.getBoundingClientRect();
  const foot = slide.querySelector('.place').getBoundingClientRect();
  const parts = [...slide.querySelectorAll('h1, h2, .shown, .shown *:not(math *)')];
  const over = parts.filter(part => {
    const one = part.getBoundingClientRect();
    return one.width && (one.left < box.left || one.right > box.right || one.bottom > foot.top + 1);
  });
  const small = parts.filter(part => part.matches('p, li, td, th, code, pre, figcaption')
    && parseFloat(getComputedStyle(part).fontSize) < innerHeight / 45 && !part.closest('.source'));
  const drawn = [...slide.querySelectorAll('img')].filter(one => {
    const size = one.getBoundingClientRect();
    return Math.min(size.width / one.naturalWidth, size.height / one.naturalHeight) < innerHeight / 750;
  });
  return [over, small, drawn].map(list => list.map(one => one.outerHTML.slice(0, 60)));
}"""


@needs_browser
@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (1024, 768)])
@every_deck
def test_on_a_projector_nothing_is_cut_off_or_too_small(site, browser, name, size):
    """Words are at least a 45th of the picture's height, figures about as large as on a page."""
    width, height = size
    tab = opened(browser, site, name, viewport={"width": width, "height": height})
    for slide in deck_of(site, name).select(".slide"):
        assert tab.evaluate(HERE) == [slide["id"]]
        tab.evaluate("Promise.all([...document.images].map(one => one.decode().catch(() => 0)))")
        over, small, drawn = tab.evaluate(CUT_OFF)
        assert over == [], slide["id"]
        if width / height > 1.7:
            assert (small, drawn) == ([], []), slide["id"]
        tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


@needs_browser
@every_deck
def test_a_deck_opens_quietly_and_asks_for_nothing(server, browser, name):
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    trouble, asked = [], []
    tab.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{server}{FOLDER}/{name}.html")
    tab.wait_for_load_state("networkidle")
    assert tab.evaluate("document.fonts.check('20px \"Fieldguide Sans\"')")
    assert trouble == []
    assert [url for url in asked[1:] if not url.startswith("data:")] == []
    tab.close()


@needs_browser
@pytest.mark.parametrize("javascript", [True, False])
@every_deck
def test_on_a_phone_and_without_scripts_all_slides_stand_below_each_other(
    site, browser, name, javascript
):
    for width in (390, 320) if javascript else (390, 1280):
        tab = opened(
            browser, site, name, viewport={"width": width, "height": 800}, java_script_enabled=javascript
        )
        boxes = [slide.bounding_box() for slide in tab.locator(".slide").all()]
        assert len(boxes) == len(deck_of(site, name).select(".slide"))
        assert all(above["y"] + above["height"] <= below["y"] + 1 for above, below in pairwise(boxes))
        assert all(box["height"] > 100 for box in boxes)
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
        assert tab.locator("details.notes[open]").count() == 0
        if javascript:
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            narrow = (
                "[...document.images].every(one => one.currentSrc === one.previousElementSibling.srcset)"
            )
            assert tab.evaluate(narrow)
        tab.close()


@needs_browser
def test_a_deck_that_is_narrowed_stays_where_it_is(site, browser):
    tab = opened(browser, site, DECKS[0], "#9")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_function("Math.abs(document.getElementById('9').getBoundingClientRect().top) < 5")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("Math.abs(document.getElementById('10').getBoundingClientRect().top) < 5")
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.wait_for_function("document.documentElement.classList.contains('paged')")
    assert len(tab.evaluate(HERE)) == 1
    tab.close()


@needs_browser
def test_a_deck_follows_the_system_into_the_dark_and_a_key_back(site, browser):
    tab = opened(browser, site, DECKS[0], color_scheme="dark")
    look = (
        "() => [getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('figure img')).colorScheme]"
    )
    assert tab.evaluate(look) == ["rgb(18, 18, 18)", "dark"]
    tab.keyboard.press("d")
    assert tab.evaluate(look) == ["rgb(255, 255, 255)", "light"]
    tab.emulate_media(color_scheme="light")
    tab.wait_for_function("!matchMedia('(prefers-color-scheme: dark)').matches")
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("document.documentElement.matches('[data-theme=dark]')")
    assert tab.evaluate(look) == ["rgb(18, 18, 18)", "dark"]
    tab.emulate_media(media="print")
    assert tab.evaluate(look) == ["rgb(255, 255, 255)", "light"]
    tab.close()


@needs_browser
@every_deck
def test_on_paper_a_slide_is_a_page_and_open_notes_another(site, browser, tmp_path, name):
    tab = opened(browser, site, name, color_scheme="dark")
    headings = [slide.h2.text for slide in deck_of(site, name).select(".slide")]

    def printed(path):
        tab.pdf(path=path, prefer_css_page_size=True, print_background=True)
        return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]

    pages = printed(tmp_path / "slides.pdf")
    assert len(pages) == len(headings)
    assert all(heading[:12] in page for heading, page in zip(headings, pages, strict=True))
    tab.keyboard.press("n")
    both = printed(tmp_path / "notes.pdf")
    assert len(both) == 2 * len(headings)
    assert both[::2] == pages
    assert [page.startswith(f"Notes to slide {k}") for k, page in enumerate(both[1::2], 1)] == [
        True
    ] * len(pages)
    tab.close()


@needs_browser
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_axe_finds_nothing_on_a_deck(site, browser, width, scheme):
    name = DECKS[(width + len(scheme)) % len(DECKS)]
    tab = opened(browser, site, name, viewport={"width": width, "height": 720}, color_scheme=scheme)
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    places = range(len(deck_of(site, name).select(".slide")) if width > 800 else 1)
    for place in places:
        if place == 3:
            tab.keyboard.press("n")
        assert tab.evaluate(RUN_AXE, []) == [], place
        tab.keyboard.press("ArrowRight")
    tab.close()
