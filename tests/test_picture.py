"""A drawing follows light and dark, stacks its panels on a phone, and refuses what nobody could read."""

import re
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from io import BytesIO
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from fieldguide.picture import NARROW, WIDE, LayoutError, draw, faults_of
from fieldguide.style import COLORS, in_the_dark, shades, use_style


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def panels(count=3, points=20, **look):
    fig, axs = plt.subplots(1, count, figsize=(6.4, 2.4), sharey=True, squeeze=False)
    for k, ax in enumerate(axs.flat):
        ax.plot(np.linspace(0, 1, points), **look)
        ax.set(title=f"panel {k}", xlabel="steps")
    axs[0, 0].set_ylabel("height")
    return fig


def luminance(color):
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_drawing_is_as_wide_as_the_column_and_as_a_phone():
    wide, narrow = draw(panels(), "fig")
    assert (wide.width, narrow.width) == (WIDE, NARROW)
    assert narrow.height > 2 * wide.height
    for drawing in (wide, narrow):
        root = ElementTree.fromstring(drawing.svg)
        assert (root.get("width"), root.get("height")) == (str(drawing.width), str(drawing.height))
        assert not re.search(r"https?://(?!www\.w3\.org)", drawing.svg)


def test_on_a_phone_each_panel_has_words_at_both_axes():
    fig = panels()
    draw(fig, "fig")
    places = [ax.get_position() for ax in fig.axes]
    assert all(above.y0 > below.y1 for above, below in pairwise(places))
    assert {ax.get_ylabel() for ax in fig.axes} == {"height"}
    for ax in fig.axes:
        assert all(label.get_visible() for label in ax.get_yticklabels())


def test_words_that_all_panels_share_are_repeated_on_a_phone():
    fig, axs = plt.subplots(2, 2, figsize=(6.4, 4), sharex=True, sharey=True)
    for ax in axs.flat:
        ax.plot([0, 1])
    fig.supxlabel("steps")
    fig.supylabel("height")
    draw(fig, "fig")
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in fig.axes] == [("steps", "height")] * 4


def test_a_drawing_is_the_same_in_every_build():
    assert draw(panels(), "fig") == draw(panels(), "fig")


def test_hundreds_of_dots_are_a_picture_within_the_drawing():
    few, _ = draw(panels(1, 200, marker=".", ls=""), "fig")
    many, _ = draw(panels(1, 4000, marker=".", ls=""), "fig")
    assert "data:image/png" not in few.svg
    assert len(many.svg) < 60_000
    (picture,) = re.findall(r'<image [^>]*base64,([^"]+)"[^>]*/>', many.svg.replace("\n", ""))
    with Image.open(BytesIO(b64decode(picture))) as dots:
        assert dots.width > WIDE  # two dots of a screen for each pixel of a style sheet


def test_every_colour_has_its_counterpart_in_the_dark():
    fig = panels(1, color=COLORS["centered"])
    wide, _ = draw(fig, "fig")
    light, dark = re.search(
        r":root\{(.*?)\}@media \(prefers-color-scheme:dark\)\{:root\{(.*?)\}\}", wide.svg
    ).groups()
    assert f"--cd55e00:{in_the_dark('#D55E00')};" in dark
    assert light.count("--c") == dark.count("--c") == len(set(re.findall(r"var\(--c(\w+)", wide.svg)))
    drawn = wide.svg.partition("</style>")[2]
    assert not re.findall(r": #[0-9a-f]{6}", drawn)
    assert drawn.startswith('<rect width="100%" height="100%" style="fill: var(--cffffff, ')  # the paper


def test_colours_stand_out_from_the_page_in_light_and_dark():
    for color in {*COLORS.values(), "#333333", "#4d4d4d"}:
        assert contrast(color, "#ffffff") > 2.7, color
        assert contrast(in_the_dark(color), in_the_dark("#ffffff")) > 4.5, color
    for hue in (COLORS["centered"], COLORS["non-centered"], COLORS["fixed"]):
        several = shades(hue, 4)
        assert len(set(several)) == 4
        dark = [contrast(in_the_dark(shade), in_the_dark("#ffffff")) for shade in several]
        assert (np.diff(dark) > 0.8).all() or hue == COLORS["fixed"]  # each its own, in their order
        for shade in several:  # drawn as a picture, it is the same in the dark
            assert contrast(shade, "#ffffff") > 1.8
            assert contrast(shade, in_the_dark("#ffffff")) > 1.8


def small_words(fig):
    fig.axes[0].text(0.1, 0.8, "tiny", fontsize=7)


def words_cut_off(fig):
    fig.text(0.97, 0.5, "beyond the edge")


def words_on_words(fig):
    for dx in (0, 0.02):
        fig.axes[0].text(0.1 + dx, 0.8, "the same place", transform=fig.axes[0].transAxes)


def words_on_a_line(fig):
    fig.axes[0].text(9, 0.47, "crossed out")


def words_on_dots(fig):
    fig.axes[0].scatter([2, 3, 4], [0.8, 0.8, 0.8])
    fig.axes[0].text(1, 0.78, "dotted words")


def words_on_contours(fig):
    x = np.linspace(0, 19, 30)
    y = np.linspace(0.6, 1, 30)
    fig.axes[0].contour(x, y, np.hypot((x - 5) / 5, (y[:, None] - 0.8) / 0.1), levels=[0.5, 1, 1.5])
    fig.axes[0].text(1, 0.78, "between two levels")


def numbers_without_words(fig):
    fig.axes[0].set_ylabel("")


FAULTS = {
    small_words: "'tiny' is set in 9.3 pixels",
    words_cut_off: "'beyond the edge' is cut off",
    words_on_words: "'the same place' overlaps",
    words_on_a_line: "'crossed out' lies over a line",
    words_on_dots: "'dotted words' lies over dots",
    words_on_contours: "'between two levels' lies over contours",
    numbers_without_words: "the y axis of the panel 'panel 0' has numbers and no words",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_nobody_could_read_is_refused(fault):
    fig = panels(1)
    assert not list(faults_of(fig))
    fault(fig)
    with pytest.raises(LayoutError, match=re.escape(FAULTS[fault])):
        draw(fig, "fig")


def test_what_fits_a_desk_and_not_a_phone_is_refused():
    fig = panels(1)
    words = "one line of words that is as long as a desk has room for"
    fig.axes[0].text(0.98, 0.04, words, ha="right", transform=fig.axes[0].transAxes)
    with pytest.raises(LayoutError, match="on a phone"):
        draw(fig, "fig")
