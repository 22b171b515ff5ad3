"""The pages for teachers: plans that fill their time, points that add up, objectives that are assessed.

That their links, figures and numbers are right is checked with those of all pages, in `test_words.py`.
"""

import itertools
import re

import nbformat
import pytest
from conftest import ROOT
from test_words import PAGES, STEMS, links, markdown, titles

FOLDER = ROOT / "book" / "teaching"


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def sections(text: str) -> list[tuple[str, str]]:
    """Return the sections of a page, each heading with what stands below it up to the next one."""
    parts = re.split(r"^(#+ .*)$", text, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a page, row by row and cell by cell, without the line of dashes."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.M)
    rows = [[re.split(r"\s*\|\s*", row.strip("| ")) for row in b.splitlines()] for b in blocks]
    return [[row for row in table if not set("".join(row)) <= set("-:")] for table in rows]


# ---------------------------------------------------------------------------------------------
# Lesson plans

PLANS = {h: body for h, body in sections(text_of("plans")) if re.search(r"\d", h) or "| Minutes" in body}


def test_every_row_of_minutes_belongs_to_a_plan_that_says_how_long_it_is():
    rows = re.findall(r"^\| \d+ to \d+ \|", text_of("plans"), flags=re.M)
    assert len(rows) > 50
    in_plans = [row for body in PLANS.values() for (head, *body) in tables(body) for row in body]
    assert len(rows) == len(in_plans)


MINUTES = re.compile(r"^\| \d+ to \d+ \||^#.* \(\d+ minutes\)$", re.M)
POINTS = re.compile(r"^\| Together \|", re.M)


def test_minutes_and_points_that_nobody_sums_stand_nowhere_else():
    for name in [*STEMS, *PAGES]:
        text = "\n".join(markdown(name))
        assert name == "book/teaching/plans.md" or not MINUTES.search(text)
        assert name == "book/teaching/rubrics.md" or not POINTS.search(text)


@pytest.mark.parametrize("heading", PLANS)
def test_a_lesson_plan_fills_its_time_without_a_gap(heading):
    (length,) = map(int, re.findall(r"\((\d+) minutes\)$", heading))
    ((head, *rows),) = tables(PLANS[heading])
    assert head[0] == "Minutes"
    times = [tuple(map(int, row[0].split(" to "))) for row in rows]
    assert times[0][0] == 0
    assert [end for _, end in times[:-1]] == [start for start, _ in times[1:]]
    assert times[-1][1] == length
    assert all(5 <= end - start <= 40 for start, end in times)


@pytest.mark.parametrize("heading", PLANS)
def test_a_lesson_plan_says_in_every_row_who_does_what_and_sometimes_what_to_say(heading):
    ((head, *rows),) = tables(PLANS[heading])
    assert all(len(row) == len(head) == 4 and all(row) for row in rows)
    assert len(re.findall(r"\"[^\"]{15,}\"", PLANS[heading])) >= 2


def test_a_plan_says_what_to_leave_out_and_what_to_have_ready():
    for name in ("One session", "Two weeks", "A workshop day"):
        plan = re.split(r"^## ", text_of("plans"), flags=re.M)
        (body,) = (part for part in plan if part.startswith(name))
        assert "**If time is short**" in body
    assert text_of("plans").count("repare") >= 5


# ---------------------------------------------------------------------------------------------
# Objectives


def objectives() -> dict[str, list[list[str]]]:
    """Return the objectives of each chapter, by the title of the chapter."""
    listed = [(h, body) for h, body in sections(text_of("objectives")) if ".ipynb" in h]
    return {links(heading)[0][0]: tables(body)[0][1:] for heading, body in listed}


def test_every_chapter_has_two_to_four_objectives():
    assert list(objectives()) == [titles()[stem] for stem in STEMS]
    assert all(2 <= len(rows) <= 4 for rows in objectives().values())


@pytest.mark.parametrize("stem", STEMS)
def test_every_exercise_and_question_of_a_chapter_shows_one_of_its_objectives(stem):
    text = "\n".join(markdown(stem))
    there = re.findall(r"^### (\d+\.\d+) ", text, flags=re.M)
    there += re.findall(r"^\*\*(\d+\.[a-z])\*\* ", text, flags=re.M)
    shown = [
        re.findall(r"(?:exercise|question) (\d+\.\w)", row[1]) for row in objectives()[titles()[stem]]
    ]
    assert all(shown)
    assert sorted(itertools.chain(*shown)) == sorted(there)


def test_every_assignment_assesses_an_objective():
    assert set(re.findall(r"\[assignment (\d)\]", text_of("objectives"))) == set("123456")


# ---------------------------------------------------------------------------------------------
# Rubrics

ASSIGNMENTS = re.split(r"^## (?=Assignment \d)", text_of("rubrics"), flags=re.M)[1:]


def test_there_is_a_rubric_for_each_of_the_six_assignments():
    assert [part.partition(".")[0] for part in ASSIGNMENTS] == [f"Assignment {k}" for k in range(1, 7)]


def at_most(criteria: list[list[str]]) -> int:
    """The points of all criteria together: two each, or one where there is no way to two."""
    return sum(1 if two == "–" else 2 for _, two, *_ in criteria)


@pytest.mark.parametrize("text", ASSIGNMENTS, ids=lambda text: text.splitlines()[0])
def test_a_rubric_gives_the_points_of_its_assignments_written_questions(text):
    number, title = re.match(r"Assignment (\d)\. (.*)", text).groups()
    ((path),) = (ROOT / "assignments").glob(f"0{number}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[1].source.splitlines()[0] == f"# {number}. {title}"
    written = re.findall(r"manual: true\npoints: (\d+)", "\n".join(c.source for c in notebook.cells))
    assert at_most(tables(text)[0][1:]) == sum(map(int, written))


@pytest.mark.parametrize("text", ASSIGNMENTS, ids=lambda text: text.splitlines()[0])
def test_two_answers_are_graded_by_the_criteria_and_their_points_add_up(text):
    (_, *criteria), (_, *graded) = tables(text)
    assert len(re.findall(r"^(?:>.*\n)+", text, flags=re.M)) == 2
    *rows, (together, *sums) = graded
    assert together == "Together"
    assert [row[0] for row in rows] == [row[0] for row in criteria]
    points = [[int(row[k]) for row in rows] for k in (1, 2)]
    limits = [at_most([criterion]) for criterion in criteria]
    assert all(0 <= p <= limit for column in points for p, limit in zip(column, limits, strict=True))
    assert sums[:2] == [f"{sum(column)} of {sum(limits)}" for column in points]
    assert sum(points[0]) > sum(points[1])


# ---------------------------------------------------------------------------------------------
# Misconceptions

SENTENCES = [(h, body) for h, body in sections(text_of("misconceptions")) if h.startswith("### ")]


def test_there_are_at_least_twelve_misconceptions():
    assert len({heading for heading, _ in SENTENCES}) >= 12


@pytest.mark.parametrize(("heading", "body"), SENTENCES, ids=[heading for heading, _ in SENTENCES])
def test_a_misconception_is_heard_shown_answered_and_backed_by_a_chapter(heading, body):
    parts = dict(re.findall(r"^\*\*(.+?):\*\* (.+)$", body, flags=re.M))
    assert list(parts) == ["It sounds like", "Show", "Say", "Backed by"]
    assert re.search(r"\{numref\}|exercise \d", parts["Show"], re.IGNORECASE)
    assert any(words.lower().startswith("chapter ") for words, _ in links(parts["Backed by"]))
