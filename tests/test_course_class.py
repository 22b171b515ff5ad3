"""A class from hand-out to grades: files, walls, answers, tests, pages; and that nothing leaks."""

import ast
import builtins
import contextlib
import html
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from conftest import NOTEBOOKS, ROOT
from submissions import SUBMISSIONS, check

from fieldguide.course import CourseError, personal_districts, student_token
from fieldguide.course.__main__ import main
from fieldguide.course.answers import LONGEST, Keeper, NoAnswer, read_answers
from fieldguide.course.classroom import Classroom, Student, _whose, assignments, hand_out, submissions
from fieldguide.course.grade import grade_class, load_tests, names_asked
from fieldguide.course.grading import ModelReading, judge_schools, judge_trial, require_number
from fieldguide.course.handout import PLACE, SOLUTION, student_folder, without_solutions
from fieldguide.course.personal import KEY
from fieldguide.course.reports import MARKS, _shapes, alike, read_marks, write_reports
from fieldguide.course.sandbox import Limits, run_notebook, walls
from fieldguide.data import load_schools
from fieldguide.fits import sample_seeds
from fieldguide.models import trial_model, varying_intercept_model
from fieldguide.models.schools import bambi_schools
from fieldguide.priors import TrialPriors

COURSE, SECRET = "bayes-2027", "correct horse battery staple"
needs_walls = pytest.mark.skipif(walls() != "bubblewrap", reason="bubblewrap is not here")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(KEY, SECRET)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All assignments, made by otter-grader."""
    built = tmp_path_factory.mktemp("built")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return {one.name: one.make() for one in assignments(built=built)}
    finally:
        os.chdir(before)


def room_of(
    folder, roster="student,name,email,id,section\nada,Ada Lovelace,ada@example.org,1001,A\nbob,,,,\n"
):
    Classroom.new(folder, COURSE)
    (folder / "roster.csv").write_text(roster, encoding="utf-8")
    return Classroom.read(folder)


# ---------------------------------------------------------------------------------------------
# Answers pass as data


def kept(tmp_path, **values):
    Keeper(values, tmp_path, values)()
    return read_answers(tmp_path, values)


def test_draws_come_back_as_they_were_with_labels_and_divergences(tmp_path):
    rng = np.random.default_rng(1)
    alpha = (("chain", "draw", "district"), rng.normal(size=(2, 5, 3)))
    whole = (("chain", "draw"), np.arange(10).reshape(2, 5))
    coords = {"district": ["14", "10", "49"]}
    posterior = xr.Dataset({"alpha": alpha, "k": whole}, coords, {"note": object()})
    statistics = xr.Dataset({"diverging": (("chain", "draw"), rng.random((2, 5)) < 0.5)})
    fit = xr.DataTree.from_dict({"posterior": posterior, "sample_stats": statistics})
    back = kept(tmp_path, fit=fit)["fit"]
    xr.testing.assert_equal(back["posterior"].to_dataset(), posterior.drop_attrs())
    assert back["sample_stats"]["diverging"].astype(bool).equals(statistics["diverging"])


def test_numbers_and_words_come_back(tmp_path):
    values = {
        "a": 3,
        "b": np.float64(2.5),
        "c": "neck",
        "d": (1, np.int64(2)),
        "e": float("nan"),
        "f": None,
    }
    back = kept(tmp_path, **values, g=pd.Series([1.0, 2.0]), h={"x": [True]})
    assert [back[name] for name in "abcd"] == [3, 2.5, "neck", [1, 2]]
    assert np.isnan(back["e"])
    assert back["f"] is None
    assert back["g"] == [1.0, 2.0]
    assert back["h"] == {"x": [True]}


def test_a_model_comes_back_as_what_was_read_from_it(tmp_path):
    model = varying_intercept_model([3, 4], [9, 8])
    found = kept(tmp_path, model=model)["model"]
    assert isinstance(found, ModelReading)
    assert found.problem.model == "varying intercept"
    assert found.form == "centered"
    with pm.Model() as empty:
        pass
    assert kept(tmp_path, model=empty)["model"].fault == "the model has no parameters."


def test_what_is_unanswered_or_of_another_kind_is_no_answer(tmp_path):
    back = kept(tmp_path, a=..., b=object(), c=open, d="x" * 10**6)
    assert "a" not in back
    assert isinstance(back["b"], NoAnswer)
    assert isinstance(back["c"], NoAnswer)
    assert len(back["d"]) == LONGEST


def test_answers_that_somebody_forged_cannot_harm(tmp_path):
    (tmp_path / "secret.json").write_text('{"value": 1}')
    (tmp_path / "link.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "junk.json").write_text("{")
    (tmp_path / "odd.json").write_text('{"draws": ["posterior"]}')
    (tmp_path / "odd.posterior.nc").write_bytes(b"\x80\x04cos\nsystem\n")
    (tmp_path / "large.json").write_text(json.dumps({"value": "x" * 1000}))
    back = read_answers(tmp_path, ["link", "junk", "odd", "large", "../secret"], largest=500)
    assert back.keys() == {"junk", "odd", "large"}
    assert all(isinstance(one, NoAnswer) for one in back.values())


def test_an_answer_is_written_again_only_when_it_changes(tmp_path):
    space = {"x": 1.5}
    keeper = Keeper(["x", "y"], tmp_path, space)
    keeper()
    first = (tmp_path / "x.json").stat().st_mtime_ns
    keeper()
    assert (tmp_path / "x.json").stat().st_mtime_ns == first
    space["x"] = 2.5
    keeper()
    assert read_answers(tmp_path, ["x"]) == {"x": 2.5}


# ---------------------------------------------------------------------------------------------
# Walls


def notebook_of(*cells):
    return nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]))


LOOK = """
import os, pathlib, socket
seen = []
for place in (%r, %r):
    try:
        seen += [str(path) for path in pathlib.Path(place).iterdir()]
    except OSError as error:
        pass
key = [name for name in os.environ if "KEY" in name]
try:
    socket.create_connection(("127.0.0.1", %d), 1)
    network = True
except OSError:
    network = False
"""


@needs_walls
@pytest.mark.slow
def test_behind_the_walls_there_is_nothing_to_find(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "q1.py").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = LOOK % (str(tmp_path / "private"), str(ROOT / "assignments"), server.getsockname()[1])
        outcome = run_notebook(notebook_of(code), ["seen", "key", "network"], tmp_path / "run")
    assert not outcome.fault
    assert not outcome.errors
    names = ["seen", "key", "network"]
    assert read_answers(tmp_path / "run" / "answers", names) == {"seen": [], "key": [], "network": False}


@pytest.mark.slow
def test_with_limits_alone_the_environment_is_empty_and_the_time_short(tmp_path):
    cells = [
        "import os\nkey = [name for name in os.environ if 'KEY' in name]",
        "import time\ntime.sleep(10**6)",
    ]
    outcome = run_notebook(
        notebook_of(*cells), ["key"], tmp_path / "run", within="limits", limits=Limits(seconds=60)
    )
    assert "not done within 60 seconds" in outcome.fault
    assert read_answers(tmp_path / "run" / "answers", ["key"]) == {"key": []}


@pytest.mark.slow
def test_what_was_answered_before_the_kernel_died_is_kept(tmp_path):
    cells = ["x = 1", "print('a' * 10**6)", "import os\nos._exit(1)", "x = 2"]
    outcome = run_notebook(notebook_of(*cells), ["x"], tmp_path / "run", limits=Limits(output=1000))
    assert "The kernel died in cell 3" in outcome.fault
    assert read_answers(tmp_path / "run" / "answers", ["x"]) == {"x": 1}
    assert (tmp_path / "run" / "executed.ipynb").stat().st_size < 5000


@pytest.mark.slow
def test_memory_is_limited(tmp_path):
    code = "kept = 1\nhog = [bytearray(2**26) for _ in range(64)]"
    outcome = run_notebook(
        notebook_of(code), ["kept"], tmp_path / "run", limits=Limits(memory=2**30)
    )
    assert "MemoryError" in " ".join(outcome.errors) or "died" in outcome.fault


# ---------------------------------------------------------------------------------------------
# A course's folder


ROSTERS = {
    "no column student": "name\nAda\n",
    "line 3: 'a b' names no student": "student\nada\na b\n",
    "line 3: 'ADA' stands in line 2 already": "student\nada\nADA\n",
    "line 2: '../x' names no student": "student\n../x\n",
    "has no students": "student\n",
}


@pytest.mark.parametrize("words", ROSTERS)
def test_a_wrong_roster_is_refused_with_its_line(tmp_path, words):
    with pytest.raises(CourseError, match=re.escape(words)) as error:
        room_of(tmp_path / "course", ROSTERS[words])
    assert "roster.csv" in str(error.value)


def test_a_course_is_made_once_and_named_when_missing(tmp_path):
    Classroom.new(tmp_path, COURSE)
    with pytest.raises(CourseError, match="is a course already"):
        Classroom.new(tmp_path, COURSE)
    with pytest.raises(CourseError, match=r"python -m fieldguide\.course new"):
        Classroom.read(tmp_path / "nowhere")


ADA = Student("ada", "Ada Lovelace", "ada.l@example.org", "1001")
BOB = Student("bob7", "Bob de la Cruz", "bob@example.org", "1002")
NAMED = {
    "ada.ipynb": ["ada"],
    "ada/02_cure.ipynb": ["ada"],
    "lovelaceada_1001_55_02_cure.ipynb": ["ada"],
    "lovelaceada_LATE_1001_55_02_cure-1.ipynb": ["ada"],
    "Ada Lovelace_77_assignsubmission_file_/02_cure.ipynb": ["ada"],
    "Bob de la Cruz_78_assignsubmission_file/02_cure.ipynb": ["bob7"],
    "ada.l@example.org/02_cure.ipynb": ["ada"],
    "02_cure.ipynb": [],
    "adam/02_cure.ipynb": [],
    "ada/bob7.ipynb": ["ada", "bob7"],
}


@pytest.mark.parametrize("path", NAMED)
def test_a_file_is_its_students_as_platforms_name_it(path):
    assert _whose(Path(path), [ADA, BOB]) == NAMED[path]


def test_files_of_nobody_or_of_two_are_named_and_the_newest_counts(tmp_path, made):
    room, cure = room_of(tmp_path), made["02_cure"]
    with pytest.raises(CourseError, match="put what was handed in for 02_cure there"):
        submissions(room, cure)
    folder = tmp_path / "submissions" / "02_cure"
    for name in ("ada.ipynb", "ada/bob.ipynb", "eve.ipynb", "more.zip", "ada/second.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    os.utime(folder / "ada.ipynb", (1, 1))
    found, problems = submissions(room, cure)
    assert found == {"ada": folder / "ada" / "second.ipynb"}
    assert len(problems) == 3
    assert any("2 students (ada, bob)" in one for one in problems)
    assert any("eve.ipynb: of nobody of the roster; rename it" in one for one in problems)
    assert any("more.zip: unpack" in one for one in problems)


# ---------------------------------------------------------------------------------------------
# Written answers, tables, what is alike


def graded_by_hand(tmp_path, made, sources):
    """A graded folder without having run anything: notebooks as if they had."""
    room, cure = room_of(tmp_path), made["02_cure"]
    rows = []
    for student, notebook in sources.items():
        folder = tmp_path / "graded" / "02_cure" / "students" / student
        (folder / "answers").mkdir(parents=True)
        nbformat.write(notebook, folder / "executed.ipynb")
        points = 2.0 * (student == "ada")
        test = {"question": "The textbook form", "what": "model is centered", "points": points}
        criteria = json.dumps([test | {"possible": 2, "words": "no <b>form</b>"}])
        row = {"student": student, "points": points, "possible": 2.0, "seconds": 1.0, "fault": ""}
        rows.append(row | {"criteria": criteria, "errors": '["cell 3: x"]'})
    return room, cure, pd.DataFrame(rows)


def test_pages_and_tables_for_platforms(tmp_path, made):
    solved = nbformat.read(made["02_cure"].solved, as_version=4)
    empty = nbformat.read(made["02_cure"].notebook, as_version=4)
    room, cure, table = graded_by_hand(tmp_path, made, {"ada": solved, "bob": empty})
    paths = write_reports(room, cure, table, ["eve.ipynb: nobody's"])
    grades = pd.read_csv(paths["grades"])
    assert grades["total"].isna().all()  # what was written waits to be read
    marks = pd.read_csv(paths["marks"], dtype=str, keep_default_na=False)
    assert list(marks.columns) == list(MARKS)
    assert marks["question"].tolist() == ["q6", "q6"]
    marks.assign(points=["7.5", "0"], comment=["well seen", ""]).to_csv(paths["marks"], index=False)
    write_reports(room, cure, table, [])
    canvas = pd.read_csv(paths["canvas"], keep_default_na=False)
    assert list(canvas.columns[:5]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert canvas["02_cure"].tolist() == [10, 9.5, 0]
    assert canvas["Student"][0].strip() == "Points Possible"
    moodle = pd.read_csv(paths["moodle"])
    assert moodle["Grade"].tolist() == [9.5, 0]
    assert moodle["Email address"][0] == "ada@example.org"
    page = (paths["pages"] / "ada.html").read_text(encoding="utf-8")
    assert "9.5</b> of 10 points" in page
    assert "well seen" in page
    bobs = (paths["pages"] / "bob.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;form&lt;/b&gt;" in bobs  # what a student wrote is no markup
    assert "Nothing was written." in bobs
    overview = paths["overview"].read_text(encoding="utf-8")
    assert "model is centered" in overview
    assert "1 of 2" in overview
    for text in (page, bobs, overview):
        assert not re.search(r"(src|href)=\"https?:", text)


WRONG_MARKS = {
    "line 2: points are '99', where a number from 0 to 8": "ada,q6,99,",
    "line 2: points are 'x'": "ada,q6,x,",
    "line 2: there is no written question 'q1'": "ada,q1,1,",
    "has no student 'eve'": "eve,q6,1,",
}


@pytest.mark.parametrize("words", WRONG_MARKS)
def test_a_wrong_mark_is_refused_with_its_line(tmp_path, made, words):
    room = room_of(tmp_path)
    (tmp_path / "marks.csv").write_text(",".join(MARKS) + "\n" + WRONG_MARKS[words] + "\n")
    with pytest.raises(CourseError, match=re.escape(words)):
        read_marks(tmp_path / "marks.csv", room, made["02_cure"], ["ada"])


def test_a_copy_with_other_names_and_layout_is_found_and_other_work_is_not(tmp_path, made):
    solved = nbformat.read(made["02_cure"].solved, as_version=4)
    (copied,) = [one for one in SUBMISSIONS["02_cure"]() if one.name == "a lightly edited copy"]
    _room, cure, _ = graded_by_hand(tmp_path, made, {"ada": solved, "bob": copied.edit(solved)})
    pairs = alike(tmp_path / "graded" / "02_cure", cure, ["ada", "bob"])
    assert pairs["code"].tolist() == [pytest.approx(100, abs=2)]
    empty = nbformat.read(cure.notebook, as_version=4)
    other_folder = tmp_path / "other"
    graded_by_hand(other_folder, made, {"ada": solved, "bob": empty})
    assert alike(other_folder / "graded" / "02_cure", cure, ["ada", "bob"]).empty


def test_the_same_draws_are_found(tmp_path, made):
    solved = nbformat.read(made["02_cure"].solved, as_version=4)
    empty = nbformat.read(made["02_cure"].notebook, as_version=4)
    _room, cure, _ = graded_by_hand(tmp_path, made, {"ada": solved, "bob": empty})
    for student in ("ada", "bob"):
        answers = tmp_path / "graded" / "02_cure" / "students" / student / "answers"
        (answers / "fit.posterior.nc").write_bytes(b"the same draws")
    pairs = alike(tmp_path / "graded" / "02_cure", cure, ["ada", "bob"])
    assert pairs["same_draws"].tolist() == ["fit"]


def test_shapes_of_code_forget_names_and_comments_but_not_structure():
    assert _shapes("a = f(b, 2)  # one") == _shapes("x = g(\n    y, 2)")
    assert _shapes("a = f(b, 2)") != _shapes("a = f(b, 3)")
    assert _shapes("for a in b: pass") != _shapes("while a in b: pass")


# ---------------------------------------------------------------------------------------------
# Verdicts on trials, schools and numbers

TRIAL = pd.DataFrame(
    {"n_control": [60, 30, 12, 90, 20], "control": [14, 9, 2, 30, 6], "n_treated": [60, 30, 12, 90, 20],
     "treated": [22, 11, 5, 41, 6]}, index=pd.Index(list("ABCDE"), name="site"),
)  # fmt: skip


@pytest.fixture(scope="module")
def trial_fit():
    (fit,) = sample_seeds(trial_model(TRIAL), [1], target_accept=0.99, draws=2000, cores=1)
    return fit


def edited(fit, edit):
    draws = edit(fit["posterior"].to_dataset())
    return xr.DataTree.from_dict({"posterior": draws, "sample_stats": fit["sample_stats"].to_dataset()})


def exchange(a, b):
    return lambda draws: draws.assign({a: draws[b], b: draws[a]})


def sites_in_another_order(draws):
    other = draws.isel(site=[1, 0, 2, 3, 4]).assign_coords(site=draws["site"])
    return draws.assign(site_intercept=other["site_intercept"], site_effect=other["site_effect"])


def test_a_right_fit_of_a_trial_passes(trial_fit):
    assert judge_trial(trial_fit, TRIAL).passed


TRIAL_MISTAKES = {
    "sd_intercept and sd_effect have each other's draws": exchange("sd_intercept", "sd_effect"),
    "intercept and effect have each other's draws": exchange("intercept", "effect"),
    "another order of the sites": sites_in_another_order,
    "looks like a variance": lambda draws: draws.assign(sd_effect=draws["sd_effect"] ** 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", TRIAL_MISTAKES)
def test_a_mistake_in_a_trial_is_named(trial_fit, words):
    verdict = judge_trial(edited(trial_fit, TRIAL_MISTAKES[words]), TRIAL)
    assert not verdict.passed
    assert words in str(verdict)


@pytest.mark.slow
def test_another_prior_of_a_trial_is_another_posterior(trial_fit):
    verdict = judge_trial(trial_fit, TRIAL, TrialPriors(lkj_eta=1.0))
    assert not verdict.passed
    with pytest.raises(AssertionError, match="farther from the posterior"):
        verdict.require("the right means")


@pytest.mark.slow
def test_schools_of_bambi_pass_and_variances_do_not():
    schools = load_schools()
    schools = schools[schools["school"].isin(schools["school"].unique()[::3])]
    model = bambi_schools(schools, noncentered=True)
    fit = model.fit(
        1500, chains=4, cores=1, target_accept=0.95, random_seed=1, progressbar=False,
        inference_method="nutpie",
    )  # fmt: skip
    assert judge_schools(fit, schools).passed
    wrong = edited(fit, lambda draws: draws.assign({"1|school_sigma": draws["1|school_sigma"] ** 2}))
    assert "sd_intercept looks like a variance" in str(judge_schools(wrong, schools))
    assert "in the model without a correlation" not in str(judge_schools(fit, schools))


def test_a_wrong_number_is_refused_without_saying_the_right_one():
    require_number("rate", "0.50", 0.5, 0.01)
    with pytest.raises(AssertionError, match=r"^rate is not right. Look again.$"):
        require_number("rate", 0.6, 0.5, 0.01, "Look again.")
    with pytest.raises(AssertionError, match="rate is a list, where one number"):
        require_number("rate", [0.5], 0.5, 0.01)
    with pytest.raises(AssertionError, match="not right"):
        require_number("rate", float("nan"), 0.5, 0.01)


# ---------------------------------------------------------------------------------------------
# Graded, whole


@pytest.mark.slow
def test_a_class_is_graded_and_a_killed_run_goes_on(tmp_path, made):
    """Right, wrong and harmful work of one class, by the command line, killed in the middle."""
    by_name = {one.name: one for one in SUBMISSIONS["02_cure"]()}
    chosen = [
        "the solution",
        "another prior",
        "a memory hog",
        "the kernel is killed",
        "the judges replaced",
    ]
    chosen += ["an endless cell that cannot be interrupted", "empty file", "a lightly edited copy"]
    chosen += ["a look for tests, key and network"]
    students = {f"s{k}": by_name[name] for k, name in enumerate(chosen)}
    room_of(tmp_path, "student\n" + "".join(f"{name}\n" for name in [*students, "late"]))
    folder = tmp_path / "submissions" / "02_cure"
    folder.mkdir(parents=True)
    solved = nbformat.read(made["02_cure"].solved, as_version=4)
    for name, one in students.items():
        out = one.edit(solved)
        text = out if isinstance(out, bytes) else nbformat.writes(out).encode()
        (folder / f"{name}.ipynb").write_bytes(text)
    command = [
        sys.executable,
        "-m",
        "fieldguide.course",
        "grade",
        str(tmp_path),
        "cure",
        "--seconds",
        "180",
    ]
    students_folder = tmp_path / "graded" / "02_cure" / "students"
    work = tmp_path / "graded" / "02_cure" / "results.parquet.sqlite"
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 1200
        while not (students_folder / "s1" / "executed.ipynb").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        time.sleep(5)  # until it is saved
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert work.exists()
    first = (students_folder / "s0" / "executed.ipynb").stat().st_mtime_ns
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "9 graded, 1 not handed in." in done.stdout
    assert (students_folder / "s0" / "executed.ipynb").stat().st_mtime_ns == first
    table = pd.read_parquet(tmp_path / "graded" / "02_cure" / "results.parquet").set_index("student")
    for name, one in students.items():
        assert check(one, table.loc[name].to_dict()) == [], one.name
    if walls() == "bubblewrap":
        look = (students_folder / "s8" / "executed.ipynb").read_text(encoding="utf-8")
        assert "FOUND []" in look
    pairs = pd.read_csv(tmp_path / "graded" / "02_cure" / "alike.csv")
    assert {"s0", "s7"} in [set(pair) for pair in pairs[["first", "second"]].to_numpy()]
    assert SECRET not in "".join(p.read_text() for p in (tmp_path / "graded").rglob("*.html"))
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0
    assert (students_folder / "s0" / "executed.ipynb").stat().st_mtime_ns == first


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_reading", "03_prior", "04_trial", "06_project"])
def test_the_solution_of_every_assignment_gets_every_point(tmp_path, made, name):
    """(02_cure is graded above; 05_singular is left out, for its fit takes a minute.)"""
    room = room_of(tmp_path, "student\nada\n")
    token = student_token("ada", COURSE, SECRET)
    assert personal_districts("ada", COURSE, token=token) is not None
    if name == "01_reading":
        assert main(["handout", str(tmp_path), "reading"]) == 0
        handed = tmp_path / "handout" / "ada"
        assert json.loads((handed / "student.json").read_text())["token"] == token
        assert (handed / "01_reading" / "fit.zarr").is_dir()
    (tmp_path / "submissions" / name).mkdir(parents=True)
    shutil.copy(made[name].solved, tmp_path / "submissions" / name / "ada.ipynb")
    table, problems = grade_class(room, made[name], key=SECRET, progress=False)
    assert problems == []
    assert table["points"].tolist() == table["possible"].tolist()
    assert table["fault"].tolist() == [""]


def test_another_key_than_that_of_the_hand_out_is_refused(made, tmp_path):
    room = room_of(tmp_path, "student\nada\n")
    hand_out(room, [made["02_cure"]], key=SECRET)
    (tmp_path / "submissions" / "02_cure").mkdir(parents=True)
    shutil.copy(made["02_cure"].notebook, tmp_path / "submissions" / "02_cure" / "ada.ipynb")
    with pytest.raises(
        CourseError, match=r"student\.json has a token that does not follow from this key"
    ):
        grade_class(room, made["02_cure"], key=SECRET + "r", progress=False)


def test_without_a_key_or_an_assignment_the_remedy_is_named(monkeypatch, tmp_path, capsys):
    room_of(tmp_path)
    assert main(["grade", str(tmp_path), "nothing"]) == 1
    assert "'nothing' is no assignment; there are 01_reading" in capsys.readouterr().err
    monkeypatch.delenv(KEY)
    (tmp_path / "submissions" / "02_cure").mkdir(parents=True)
    assert main(["grade", str(tmp_path), "cure"]) == 1
    assert f"{KEY} is not set" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# Masters, and that nothing leaks


def test_every_test_has_points_or_guides_and_asks_for_names_of_the_notebook(made):
    for one in made.values():
        cases = list(load_tests(one))
        assert len(cases) >= 5
        text = one.notebook.read_text(encoding="utf-8")
        for name in names_asked(one):
            assert re.search(rf"\b{name}\b", text), f"{one.name} never asks for {name}"
        written = sum(question.written for question in one.questions)
        assert written > 0
        assert len({question.title for question in one.questions}) == len(one.questions)


def test_the_first_cell_says_in_one_sentence_what_is_missing(made, monkeypatch):
    for one in made.values():
        cells = [c for c in nbformat.read(one.notebook, as_version=4).cells if c.cell_type == "code"]
        exec(cells[0].source, {})  # here nothing is missing
        code = cells[0].source.replace('"otter"', '"otter_that_is_not_there"')
        assert code != cells[0].source
        with pytest.raises(
            ModuleNotFoundError, match="otter_that_is_not_there not found: go to the folder"
        ):
            exec(code, {})


def secrets(made) -> set[str]:
    """Lines of code and of answers that only a solution or a hidden test has."""
    public = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for path in NOTEBOOKS:
        public += "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    found = set()
    for one in made.values():
        given = one.notebook.read_text(encoding="utf-8")
        for cell in nbformat.read(one.solved, as_version=4).cells:
            if "otter_assign_solution_cell" in cell.metadata.get("tags", []):
                found |= {line.strip() for line in cell.source.splitlines() if len(line.strip()) > 45}
        for path in one.tests:
            cases = path.read_text(encoding="utf-8").split("@test_case(")
            hidden = [case for case in cases if "hidden=True" in case.partition("\n")[0]]
            lines = [line.strip() for case in hidden for line in case.splitlines()]
            found |= {line for line in lines if len(line) > 45}
        found -= {line for line in found if line in given or json.dumps(line)[1:-1] in given}
    return {line for line in found if line not in public}


def texts_of(archive: bytes) -> dict[str, bytes]:
    if archive[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            return {name: file.read(name) for name in file.namelist()}
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        files = [member for member in file.getmembers() if member.isfile()]
        return {one.name: file.extractfile(one).read() for one in files}


def leaks(files: dict[str, bytes], lines: set[str]) -> list[tuple[str, str]]:
    found = []
    for name, data in files.items():
        if name.endswith((".whl", ".zip")):
            found += leaks(texts_of(data), lines)
            continue
        text = data.decode("utf-8", errors="replace")
        variants = (text, html.unescape(re.sub("<[^>]*>", "", text)) if name.endswith(".html") else "")
        found += [
            (name, one) for one in lines for v in variants if one in v or json.dumps(one)[1:-1] in v
        ]
    return found


@pytest.mark.book
def test_no_solution_and_no_hidden_test_is_on_the_site_or_in_an_archive(site, made, tmp_path):
    lines = secrets(made)
    assert len(lines) > 100
    masters = {path.name: path.read_bytes() for path in (ROOT / "assignments").glob("*.ipynb")}
    assert len({line for _, line in leaks(masters, lines)}) > 100  # the search finds what is there
    pages = {
        p.name: p.read_bytes() for p in site.rglob("*") if p.suffix in (".html", ".js", ".ipynb", ".md")
    }
    assert len(pages) > 20
    assert leaks(pages, lines) == []
    _folder, archive = student_folder(tmp_path / "student", made["02_cure"].built.parent)
    student = texts_of(archive.read_bytes())
    assert "student/assignments/02_cure/02_cure.ipynb" in student
    assert any(name.endswith(".whl") for name in student)
    assert leaks(student, lines) == []
    if (ROOT / ".git").exists():
        command = ["git", "archive", "--worktree-attributes", "HEAD"]
        source = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        assert leaks(texts_of(source), lines) == []


def test_what_students_are_given_holds_no_key(made, tmp_path):
    room = room_of(tmp_path, "student\nada\nbob\n")
    assert hand_out(room, [made["02_cure"]], key=SECRET) == 2
    tokens = {name: student_token(name, COURSE, SECRET) for name in ("ada", "bob")}
    handed = tmp_path / "handout" / "ada"
    text = "".join(path.read_text(encoding="utf-8") for path in handed.rglob("*") if path.is_file())
    assert tokens["ada"] in text
    assert tokens["bob"] not in text
    assert SECRET not in text
    assert hand_out(room, [made["02_cure"]], key=SECRET) == 0  # what is there stays


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_students_chapter_has_no_solution_and_needs_none(path):
    notebook = nbformat.read(path, as_version=4)
    copy = without_solutions(notebook)
    prompts = [(c.source, c.metadata.get("mystnb", {}).get("code_prompt_show")) for c in notebook.cells]
    solutions = [source for source, prompt in prompts if prompt == SOLUTION]
    answers = sum(cell.source.count("<summary>Answer") for cell in notebook.cells)
    assert len(solutions) + answers >= 4
    text = "\n".join(cell.source for cell in copy.cells)
    assert "<summary>Answer" not in text
    assert all(source not in text for source in solutions)
    assert [cell.source for cell in copy.cells].count(PLACE) == len(solutions)
    assert text.count("<summary>Hint") == sum(c.source.count("<summary>Hint") for c in notebook.cells)
    later = names_needed(copy)
    assert not later, f"{path.name} needs {later} of a solution"


def names_needed(copy) -> set[str]:
    """Names that a chapter without solutions uses, and that nothing in it makes."""
    made, used = set(dir(builtins)) | {"get_ipython", "display", "__name__"}, set()
    for cell in copy.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                made.add(node.name)
            elif isinstance(node, ast.arg):
                made.add(node.arg)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                made |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ExceptHandler) and node.name:
                made.add(node.name)
    return used - made
