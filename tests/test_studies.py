"""The studies: every stored table is the one that its study makes today, by one command."""

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import small_study
from distributed import LocalCluster
from quick_fits import square

from fieldguide.data import DataError, stored
from fieldguide.grid import cross, kept_fits, run_grid, versions
from fieldguide.studies import Study, studies
from fieldguide.studies import cluster as cluster_module
from fieldguide.studies.__main__ import main
from fieldguide.studies.code import code_digest
from fieldguide.studies.make import kept, make, state

TESTS = Path(__file__).parent
DASK = Path(sys.executable).with_name("dask")


# ---------------------------------------------------------------------------------------------
# The stored tables


@pytest.mark.parametrize("study", studies().values(), ids=lambda study: study.name)
def test_a_stored_table_is_the_one_that_its_study_makes_today(study):
    table, provenance = stored(study.name)  # checks the checksum
    design = study.design()
    pd.testing.assert_frame_equal(table[list(design)], design, check_dtype=False)
    assert table.drop(columns=list(design)).notna().any(axis=1).all()
    assert provenance["fits"] == len(design)
    assert provenance["design"] == {name: design[name].unique().tolist() for name in design}
    assert provenance["data"] == json.loads(json.dumps(study.data()))
    assert provenance["versions"].keys() >= {"pymc", "nutpie", "numpy", "scipy"}
    assert provenance["command"] == f"python -m fieldguide.studies {study.name}"
    assert provenance["code"] == code_digest(study.fit)


def test_every_stored_table_has_a_study():
    folder = Path(__file__).resolve().parents[1] / "data"
    assert {path.stem for path in folder.glob("*.parquet")} <= studies().keys()


@pytest.fixture
def made(tmp_path):
    study = Study(
        "squares", functools.partial(cross, x=range(3)), square, (), lambda: {"x": [0, 1, 2]}, ""
    )
    with ThreadPoolExecutor(1) as executor:
        make(study, tmp_path, executor=executor, progress=False)
    return tmp_path


def test_a_stored_table_comes_with_its_provenance(made):
    table, provenance = stored("squares", made)
    assert table["square"].tolist() == [0, 1, 4]
    assert provenance["fits"] == 3
    assert provenance["code"] == code_digest(square)
    assert provenance["wall_seconds"] >= 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes() + b" "),
            r"SHA-256 is .* remake them: .* squares",
        ),
        (lambda path: path.with_suffix(".json").write_text("{"), "not the provenance of a table"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "not the provenance of a table"),
        (lambda path: path.with_suffix(".json").unlink(), r"squares\.json: this file is missing"),
        (lambda path: path.unlink(), r"squares\.parquet: this file is missing"),
    ],
    ids=["table changed", "no JSON", "other JSON", "no provenance", "no table"],
)
def test_a_stored_table_that_is_not_what_was_made_is_refused(damage, message, made):
    damage(made / "squares.parquet")
    with pytest.raises(DataError, match=message):
        stored("squares", made)


def test_an_unknown_table_is_named_beside_those_there_are(made):
    with pytest.raises(DataError, match=r"circles\.parquet: .*there are squares"):
        stored("circles", made)


# ---------------------------------------------------------------------------------------------
# The digest of code

FITS = '''
"""Fits of a sample."""
from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, cast

import scipy.stats

from PACKAGE import helpers
from PACKAGE.helpers import Machine, Setting
from PACKAGE.helpers import scaled as shrunk

if TYPE_CHECKING:
    from PACKAGE.kinds import Kind

PRIORS = {"a": scipy.stats.halfnorm(scale=0.5), "b": scipy.stats.expon()}
LEVELS = {"x", "y", "z"}
OTHER = 1
_lock = threading.Lock()
_cache = {}


@functools.cache
def prepared(x: Kind, *, more: int = 1) -> float:
    # a remark
    number: int = len(LEVELS)
    return helpers.twice(cast("float", x)) + number * more


def unused(x):
    return OTHER


def fit(cell):
    """Make one fit."""
    with _lock:
        _cache[cell["x"]] = prepared(cell["x"])
    y = shrunk(_cache[cell["x"]]) + Machine().run(cell["x"]) + PRIORS["a"].mean() + Setting().by
    return {"y": float(y)}
'''

HELPERS = '''
from dataclasses import dataclass

FACTOR = 0.1 + 0.2
OFFSET = 3


def deep(x):
    return FACTOR * x


def twice(x):
    return 2 * deep(x)


def scaled(x, by=OFFSET):
    from .late import shrink

    return shrink(x / by)


class Base:
    def step(self, x):
        return x + 1


class Machine(Base):
    """It runs."""

    @property
    def speed(self):
        return 5

    def run(self, x):
        """Run."""
        return self.step(x) * self.speed


@dataclass
class Setting:
    by: int = 2


def unused_helper(x):
    return 7
'''

KINDS = "Kind = int\n"

LATE = "def shrink(x):\n    return x / 10\n"


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """Write a package, with a change perhaps, and return its fit."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(old="", new=""):
        assert old in FITS + HELPERS + KINDS + LATE
        name = f"sample_{uuid.uuid4().hex}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for file, source in {"fits": FITS, "helpers": HELPERS, "kinds": KINDS, "late": LATE}.items():
            text = source.replace(old, new) if old else source
            (folder / f"{file}.py").write_text(text.replace("PACKAGE", name))
        importlib.invalidate_caches()
        return importlib.import_module(f"{name}.fits").fit

    return write


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 0.1 + 0.2", "FACTOR = 0.31"),
        ("OFFSET = 3", "OFFSET = 4"),
        ("halfnorm(scale=0.5)", "halfnorm(scale=0.5000001)"),
        ('"z"}', '"w"}'),
        ("FACTOR * x", "FACTOR + x"),
        ("return 2 * deep(x)", "return deep(x) * 3"),
        ("* self.speed", "- self.speed"),
        ("return 5", "return 6"),
        ("return x + 1", "return x + 2"),
        ("x / 10", "x / 11"),
        ("threading.Lock()", "threading.RLock()"),
        ("@functools.cache\n", ""),
        ("import scaled as shrunk", "import twice as shrunk"),
        ("more: int = 1", "more: int = 2"),
        ("number: int = len(LEVELS)", "number: int = len(LEVELS) + 1"),
        ('cast("float", x)', "-x"),
        ("import TYPE_CHECKING, cast", "import TYPE_CHECKING\n\ncast = max"),
        ("by: int = 2", "by: float = 2"),  # a data class reads it
        ("by: int = 2", "other: int = 1\n    by: int = 2"),
    ],
)
def test_a_digest_changes_with_everything_that_a_fit_uses(old, new, sample):
    assert code_digest(sample(old, new)) != code_digest(sample())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('"""Make one fit."""', '"""Make a fit, and say more about it."""'),
        ('    """Make one fit."""\n', ""),
        ('"""It runs."""', '"""It walks."""'),
        ("# a remark", "# another one"),
        ("return OTHER", "return 2 * OTHER"),
        ("OTHER = 1", "OTHER = 2"),
        ("return 7", "return 8"),
        ("FACTOR = 0.1 + 0.2", "FACTOR = 0.3"),
        ('{"x", "y", "z"}', '{"z", "y", "x"}'),
        ('{"a": scipy.stats.halfnorm(scale=0.5), ', '{"a": scipy.stats.halfnorm(0, 0.5), '),
        ("    return 2 * deep(x)", "    return (\n        2 * deep(x)\n    )"),
        ("x: Kind, *, more: int = 1) -> float", "x, *, more=1)"),
        ("x: Kind", "x: float"),
        ("def step(self, x)", "def step(self, x: float) -> float"),
        ("def step(self, x)", "def step[T](self, x: T) -> T"),
        ("number: int = len", "number: float = len"),
        ("number: int = len", "number = len"),
        ("_cache = {}", "_cache: dict[int, Kind] = {}"),
        ('cast("float", x)', 'cast("int", x)'),
        ('cast("float", x)', "x"),
        ("from dataclasses", "from __future__ import annotations\n\nfrom dataclasses"),
        ("if TYPE_CHECKING:", "if TYPE_CHECKING:\n    import decimal"),
        ("Kind = int", "Kind = float"),
    ],
)
def test_a_digest_does_not_change_with_words_and_what_a_fit_does_not_use(old, new, sample):
    assert code_digest(sample(old, new)) == code_digest(sample())


@pytest.mark.slow
def test_a_digest_is_the_same_before_and_after_fits_and_in_another_process(sample, tmp_path):
    fit = sample()
    before = code_digest(fit)
    fit({"x": 1})
    assert code_digest(fit) == before
    code = f"from fieldguide.studies.code import code_digest; from {fit.__module__} import fit; "
    for seed in "1", "2":
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", code + "print(code_digest(fit))"]
        assert subprocess.check_output(command, env=environment, text=True).strip() == before


def test_a_fit_whose_code_cannot_be_followed_is_refused():
    with pytest.raises(ValueError, match="not at the top level of a module"):
        code_digest(lambda cell: {})


# ---------------------------------------------------------------------------------------------
# Making


def squares(fit, count):
    return Study("squares", functools.partial(cross, x=range(count)), fit, (), dict, "squares")


@pytest.mark.slow
def test_a_grown_design_keeps_its_fits_and_changed_code_keeps_none(sample, tmp_path):
    fit, changed = sample(), sample("FACTOR * x", "FACTOR + x")
    folder = tmp_path / "tables"
    settings = {"workers": 1, "progress": False}
    assert state(squares(fit, 3), folder) == "not made yet"
    first = make(squares(fit, 3), folder, **settings)
    assert state(squares(fit, 3), folder) == "current"
    assert state(squares(fit, 5), folder) == "design changed"
    assert state(squares(changed, 3), folder) == "code changed"
    assert kept(squares(fit, 5), folder) == 3
    assert kept(squares(changed, 5), folder) == 0
    grown = make(squares(fit, 5), folder, **settings)
    assert grown.table["y"][:3].tolist() == first.table["y"].tolist()
    assert state(squares(fit, 5), folder) == "current"
    other = make(squares(changed, 2), folder, **settings)
    assert len(other.table) == 2
    assert not set(other.table["y"]) & set(grown.table["y"][1:])
    assert other.provenance["code"] == code_digest(changed)
    (folder / "squares.parquet").write_bytes(b"")
    assert state(squares(changed, 2), folder) == "damaged"


def test_a_smaller_design_leaves_no_other_fits_in_the_table(sample, tmp_path):
    fit = sample()
    make(squares(fit, 4), tmp_path / "tables", workers=1, progress=False)
    make(squares(fit, 2), tmp_path / "tables", workers=1, progress=False)
    assert state(squares(fit, 2), tmp_path / "tables") == "current"


def test_the_command_line_makes_lists_and_finds_stale_tables(sample, tmp_path, capsys):
    fit, to = sample(), ["--to", str(tmp_path / "tables")]
    assert main(["--stale", *to], [squares(fit, 3)]) == 1
    assert "not made yet" in capsys.readouterr().out
    assert main(["squares", "--workers", "1", *to], [squares(fit, 3)]) == 0
    assert "squares: 3 fits in" in capsys.readouterr().out
    assert main(["all", *to], [squares(fit, 3)]) == 0
    assert "is current" in capsys.readouterr().out
    assert main(["--stale", *to], [squares(fit, 3)]) == 0
    assert not capsys.readouterr().out
    assert main(to, [squares(fit, 3)]) == 0
    assert capsys.readouterr().out == "squares      3 fits  current         squares\n"
    assert main(["--stale", *to], [squares(sample("x / 10", "x / 12"), 3)]) == 1
    assert "code changed" in capsys.readouterr().out


def test_the_command_line_says_what_it_cannot_do(sample, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster_module, "WAIT_FOR_SCHEDULER", 1)
    chosen, to = [squares(sample(), 3)], ["--to", str(tmp_path / "tables")]
    with pytest.raises(SystemExit):
        main(["circles"], chosen)
    assert "there is no study circles; there are squares, and all" in capsys.readouterr().err
    assert main(["squares", "--workers", "0", *to], chosen) == 1
    assert "workers must be a whole number from 1" in capsys.readouterr().err
    assert main(["squares", "--dask", "tcp://127.0.0.1:9", *to], chosen) == 1
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "tables" / "squares.parquet").exists()


def test_a_cluster_without_workers_or_of_another_state_is_refused(monkeypatch, tmp_path, capsys):
    chosen, to = [squares(square, 3)], ["--to", str(tmp_path / "tables")]
    monkeypatch.setattr(cluster_module, "WAIT_FOR_WORKERS", 1)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert main(["squares", "--dask", address, *to], chosen) == 1
        assert f"{address} has no workers" in capsys.readouterr().err
        cluster.scale(1)
        # The worker, a thread of this process, finds another version at the second look.
        seen = iter([versions(), versions() | {"python": "2.7.18"}])
        monkeypatch.setattr(cluster_module, "versions", lambda: next(seen))
        assert main(["squares", "--dask", address, *to], chosen) == 1
        assert f"python 2.7.18 (here {versions()['python']})" in capsys.readouterr().err
    assert not (tmp_path / "tables" / "squares.parquet").exists()


def test_threads_are_set_before_numpy_is_loaded():
    code = "import sys, fieldguide.studies; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


# ---------------------------------------------------------------------------------------------
# Interrupted, and on a cluster

COMMAND = """
import importlib, signal, sys
from fieldguide.studies.__main__ import main
if __name__ == "__main__":
    # A shell that starts a job in the background lets it ignore SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[2:], importlib.import_module(sys.argv[1]).STUDIES))
"""


class Place:
    """A folder for one test: processes started in it leave notes of finished fits."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        (folder / "notes").mkdir()
        (folder / "study.py").write_text(COMMAND)

    def start(self, *command):
        environment = os.environ | {"PYTHONPATH": str(TESTS), "NOTES": str(self.folder / "notes")}
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def study(self, module, *options):
        return self.start(sys.executable, "study.py", module, "all", "--to", self.folder, *options)

    def notes(self):
        return [path.name.split("-") for path in (self.folder / "notes").iterdir()]

    def wait_until(self, condition, process, seconds=300):
        end = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.05)

    def wait_for_fits(self, count, process):
        self.wait_until(lambda: len(self.notes()) >= count, process)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for process in place.processes:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("uninterrupted") / "small.parquet"
    with ThreadPoolExecutor(2) as executor:
        return run_grid(small_study.design(), small_study.fit, path, executor=executor, progress=False)


@pytest.mark.slow
def test_ctrl_c_says_how_many_fits_are_kept_and_the_same_command_resumes(place):
    process = place.study("quick_fits", "--workers", "1")
    place.wait_for_fits(4, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    before = kept_fits(place.folder / "slow.parquet")
    assert process.returncode == 130
    assert "Traceback" not in output
    assert 1 <= len(before) < 80
    assert f"slow: interrupted; {len(before)} of 80 fits are kept, and the same command goes" in output
    process = place.study("quick_fits", "--workers", "2")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    table = stored("slow", place.folder).table
    assert table["square"].tolist() == [x**2 for x in range(80)]
    assert set(before["stamp"]) <= set(table["stamp"])


@pytest.mark.slow
def test_a_study_on_a_dask_cluster_survives_a_killed_worker_and_its_own_death(place, uninterrupted):
    pytest.importorskip("distributed")
    quiet = ["--host", "127.0.0.1", "--no-dashboard"]
    file = place.folder / "scheduler.json"
    scheduler = place.start(DASK, "scheduler", *quiet, "--port", "0", "--scheduler-file", file)
    place.wait_until(lambda: file.exists() and file.read_text().endswith("}"), scheduler, 60)
    address = json.loads(file.read_text())["address"]
    place.start(DASK, "worker", address, *quiet, "--nworkers", "2", "--nthreads", "1")

    study = place.study("small_study", "--dask", address)
    place.wait_for_fits(6, study)
    workers = {int(process) for process, _ in place.notes()}
    victim = workers.pop()
    os.kill(victim, signal.SIGKILL)
    place.wait_for_fits(len(place.notes()) + 6, study)  # the study goes on
    study.kill()
    study.wait()
    before = kept_fits(place.folder / "small.parquet")
    assert 6 <= len(before) < len(uninterrupted)
    assert not (place.folder / "small.parquet").exists()

    seen = len(place.notes())
    study = place.study("small_study", "--dask", address)
    output, _ = study.communicate(timeout=300)
    assert study.returncode == 0, output
    assert f"small: {len(uninterrupted)} fits in" in output
    assert {int(process) for process, _ in place.notes()} >= {victim, *workers}
    assert (
        len(place.notes()) - seen <= len(uninterrupted) - len(before) + 4
    )  # but for fits lost on their way
    table, provenance = stored("small", place.folder)
    pd.testing.assert_frame_equal(
        table.drop(columns="seconds"), uninterrupted.drop(columns="seconds"), check_exact=True
    )
    # Kept and not made again: even the time each fit took is the one measured before.
    assert set(before["seconds"]) <= set(table["seconds"])
    assert provenance["code"] == code_digest(small_study.fit)
    assert not list(place.folder.glob("*.sqlite*"))
