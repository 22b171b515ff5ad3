"""Claims, figures and tables: what a page shows, and what it refuses to show."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from fieldguide.claims import CLAIMS_MIME, Claims, FalseClaimError
from fieldguide.page import FIGURE_MIME, TABLE_MIME, show_figure, show_table


@pytest.fixture(autouse=True)
def notebook():
    """Display works as in a notebook only where a shell runs."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_a_true_claim_is_shown_with_its_figures():
    claims = Claims()
    claims.check("District 3 has {women} women, {share:.0%} of them users.", True, women=2, share=1)
    bundle = claims._repr_mimebundle_()
    assert bundle[CLAIMS_MIME] == ["District 3 has 2 women, 100% of them users."]
    assert "<li>District 3 has 2 women" in bundle["text/html"]


def test_a_false_claim_stops_with_its_sentence_and_figures():
    with pytest.raises(FalseClaimError, match=r"it diverged 0 times.*count = 0"):
        Claims().check("it diverged {count} times.", 0 > 1, count=0)


def test_a_page_without_claims_is_refused():
    with pytest.raises(ValueError, match="no claim"):
        Claims()._repr_mimebundle_()


def test_a_claim_on_many_values_must_be_made_one():
    with pytest.raises(ValueError, match="ambiguous"):
        Claims().check("All are positive.", pd.Series([True, False]))


@pytest.fixture
def figure():
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    yield fig
    plt.close(fig)


def test_a_figure_carries_caption_and_alternative_text(figure):
    with capture_output() as captured:
        show_figure(figure, "fig-line", "A line.", "A line from 0 to 1, rising.")
    bundle = captured.outputs[0].data
    assert bundle[FIGURE_MIME]["alt"] == "A line from 0 to 1, rising."
    assert 'alt="A line from 0 to 1, rising."' in bundle["text/html"]
    assert bundle[FIGURE_MIME]["width"] > 300


@pytest.mark.parametrize(("caption", "alt"), [("A line.", ""), ("", "A line from 0 to 1, rising.")])
def test_a_figure_without_words_is_refused(figure, caption, alt):
    with pytest.raises(ValueError, match="fig-line"):
        show_figure(figure, "fig-line", caption, alt)


def test_a_table_shows_the_digits_asked_for():
    table = pd.DataFrame({"mean": [-1.0449, None]}, index=pd.Index([1, 2], name="district"))
    with capture_output() as captured:
        show_table(table, "tab-means", "Means.", {"mean": "{:.2f}"})
    content = captured.outputs[0].data[TABLE_MIME]
    assert content["columns"] == ["district", "mean"]
    assert content["rows"] == [["1", "\N{MINUS SIGN}1.04"], ["2", "–"]]
