"""Claims, figures and tables: what a page shows, and what it refuses to show."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from fieldguide.claims import Claims, FalseClaimError
from fieldguide.data import DATA_FOLDER, DataError, quoted
from fieldguide.outputs import CLAIMS_MIME, FIGURE_MIME, TABLE_MIME
from fieldguide.page import show_figure, show_scoreboard, show_script, show_table
from fieldguide.picture import NARROW, WIDE
from fieldguide.scores import Score
from fieldguide.seen import WordsError
from fieldguide.style import COLORS, use_style


@pytest.fixture(autouse=True)
def notebook():
    """Display works as in a notebook only where a shell runs; figures have the book's style."""
    with plt.rc_context():
        use_style()
        yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_a_true_claim_is_shown_with_its_figures():
    claims = Claims()
    claims.check("District 3 has {women} women, {share:.0%} of them users.", True, women=2, share=1)
    bundle = claims._repr_mimebundle_()
    assert bundle[CLAIMS_MIME] == ["District 3 has 2 women, 100% of them users."]
    assert "<li>District 3 has 2 women" in bundle["text/html"]


def test_claims_that_were_checked_elsewhere_on_the_page_are_shown_too():
    answer, claims = Claims(), Claims()
    answer.check("It is not the step size.", True)
    claims.include(answer)
    claims.check("Zero is not one.", True)
    assert claims.sentences == ["It is not the step size.", "Zero is not one."]


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
    ax.set(xlabel="steps", ylabel="height")
    yield fig
    plt.close(fig)


def test_a_figure_carries_caption_and_alternative_text(figure):
    with capture_output() as captured:
        show_figure(figure, "fig-line", "A line.", "A line from 0 to 1, rising.")
    bundle = captured.outputs[0].data
    assert bundle[FIGURE_MIME]["alt"] == "A line from 0 to 1, rising."
    assert 'alt="A line from 0 to 1, rising."' in bundle["text/html"]
    drawings = [bundle[FIGURE_MIME][kind] for kind in ("wide", "narrow")]
    assert [drawing["width"] for drawing in drawings] == [WIDE, NARROW]
    assert all(drawing["svg"].startswith("<svg ") for drawing in drawings)


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


def score_of(label, seed):
    """A score whose figures all differ from those of another seed."""
    rng = np.random.default_rng(seed)
    errors = pd.DataFrame(
        rng.uniform(0.1, 0.9, size=(2, 2)),
        index=["sigma", "alpha[3]"],
        columns=["sd_error", "mcse_error"],
    )
    whole = {name: int(rng.integers(100, 9999)) for name in ("draws", "divergences", "gradients")}
    names = "rhat ess_bulk ess_tail bfmi tuning_gradients step_size seconds missing_share unreached"
    others = dict(zip(names.split(), rng.uniform(0.1, 0.9, size=9), strict=True))
    others |= {"ess_bulk": 100 + 100 * seed, "ess_tail": 150 + 100 * seed}
    return Score(label=label, errors=errors, **whole, **others)


def test_a_scoreboard_shows_every_figure_under_its_own_label():
    scores = [score_of("first", 1), score_of("second", 2)]
    shown = {}
    for order in (scores, scores[::-1], scores[:1], scores[1:]):
        with capture_output() as captured:
            show_scoreboard(order, "tab-scores", "Scores.")
        content = captured.outputs[0].data[TABLE_MIME]
        assert content["columns"] == ["measure", *(one.label for one in order)]
        for k, one in enumerate(order, 1):
            column = {row[0]: row[k] for row in content["rows"]}
            assert shown.setdefault(one.label, column) == column
            assert column["divergences"] == f"{one.divergences}"
            assert column["worst R-hat"] == f"{one.rhat:.3f}"
            assert column["min bulk ESS"] == f"{one.ess_bulk:.0f}"
            assert column["min tail ESS"] == f"{one.ess_tail:.0f}"
            assert column["E-BFMI"] == f"{one.bfmi:.2f}"
            assert column["gradient evaluations"] == f"{one.gradients:,}"
            assert column["step size"] == f"{one.step_size:.2f}"
            assert column["seconds"] == f"{one.seconds:.2f}"
            assert column["ESS per 1000 gradients"] == f"{1000 * one.ess_bulk / one.gradients:.1f}"
            assert column["worst error (sd)"] == f"{one.errors['sd_error'].max():.2f}"
            assert column["worst error (MCSE)"] == f"{one.errors['mcse_error'].max():.1f}"
            for name in ("sigma", "alpha[3]"):
                for unit, errors in (("sd", "sd_error"), ("MCSE", "mcse_error")):
                    assert column[f"{name} error ({unit})"] == f"{one.errors.loc[name, errors]:+.2f}"
            assert column["missing at small sigma"] == f"{one.missing_share:.0%}"
            assert column["never reached"] == f"{one.unreached:.2%}"
            assert len(column) == 17
    assert all(value != shown["second"][measure] for measure, value in shown["first"].items())


@pytest.mark.parametrize(
    ("caption", "complaint"),
    [
        ("A red line.", "'red'"),
        ("A dashed line.", "'dashed'"),
        ("Crosses are divergent.", "'Crosses'"),
        ("Thick: one; thin: another.", "'Thick'"),
        ("Two panels of a line.", "'Two' panels"),
        ("A line (left) and nothing.", "left"),
        ("A line with a 99% envelope.", "'envelope'"),
    ],
)
def test_words_for_what_is_not_drawn_are_refused(figure, caption, complaint):
    with pytest.raises(WordsError, match=re.escape(complaint)):
        show_figure(figure, "fig-line", caption, "A line from 0 to 1, rising.")
    with pytest.raises(WordsError, match=re.escape(complaint)):
        show_figure(figure, "fig-line", "A line.", f"It rises from 0 to 1. {caption}")


def test_words_for_what_is_drawn_pass():
    fig, axs = plt.subplots(1, 2)
    axs[0].plot([0, 1], [0, 1], "x", color=COLORS["divergent"])
    axs[0].axhline(0.5, color=COLORS["centered"], ls="--", lw=1)
    axs[1].scatter([1, 2], [2, 3], marker="s", color=COLORS["non-centered"])
    axs[1].axhspan(0, 1, color="0.8")
    axs[1].plot([0, 1], color=COLORS["exact"], lw=3)
    for ax in axs:
        ax.set(xlabel="steps", ylabel="height")
    with capture_output():
        show_figure(
            fig,
            "fig-many",
            "Black crosses (left), orange dashes, blue squares (right). Thick: exact. Shaded: band.",
            "Two panels; a thin line in one, a solid black one in the other.",
        )


def test_a_part_of_a_script_is_shown_as_it_runs_with_its_versions():
    with capture_output() as captured:
        show_script("r_schools.R", "reply")
    (shown,) = captured.outputs
    text = shown.data["text/markdown"]
    code = text.removeprefix("```r\n").partition("\n```\n")[0]
    assert f"# [reply: lme4, blme]\n{code}\n# [end]\n" in (DATA_FOLDER / "r_schools.R").read_text()
    assert "cov.prior = wishart(df = 3.0001, scale = Inf)" in code
    versions = quoted("r_schools")["fits"]["versions"]
    with_what = f"lme4 {versions['lme4']}, blme {versions['blme']}"  # blme is named by the code as well
    said = f"From `data/r_schools.R`, run with {with_what} in R {versions['R']}."
    assert text.endswith(f"\n\n{said}")


def test_an_unknown_part_of_a_script_is_refused_with_those_that_there_are():
    with pytest.raises(DataError, match=r"r_schools\.R has no part 'repply'; its parts are .*\breply\b"):
        show_script("r_schools.R", "repply")
    with pytest.raises(DataError, match=r"r_nothing\.R: cannot be read"):
        show_script("r_nothing.R", "reply")
