"""A grid of fits survives what happens to long runs, and its stored tables can be made again."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from fieldguide.experiments import (
    GridError,
    agreement,
    caught_and_missed,
    cross,
    factorial_design,
    fit_three_districts,
    flags,
    is_wrong,
    reduced_design,
    remedies_design,
    run_grid,
)

from fieldguide import experiments
from fieldguide.studies.trial import fit_trial

DATA = Path(__file__).resolve().parents[1] / "data"
QUIET = {"progress": False}


def small_design(seeds=6):
    """Real fits of two models, short enough to make many times."""
    return cross(
        parameterization=["centered", "non-centered"],
        prior=["Exponential(1)"],
        target_accept=[0.8],
        tune=[200],
        draws=[200],
        seed=range(seeds),
    )


def trials_design():
    """Simulated trials, each fitted: enough of them to be interrupted midway."""
    return cross(
        scenario=["question"],
        parameterization=["non-centered"],
        target_accept=[0.9],
        tune=[400],
        draws=[400],
        replicate=range(30),
    )


def untimed(table):
    return table.drop(columns="seconds")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("uninterrupted") / "fits.parquet"
    return run_grid(small_design(), fit_three_districts, path, group=experiments.MODEL_COLUMNS, **QUIET)


@pytest.fixture(scope="module")
def uninterrupted_trials(tmp_path_factory):
    path = tmp_path_factory.mktemp("uninterrupted") / "trials.parquet"
    return run_grid(trials_design(), fit_trial, path, **QUIET)


def start_run(folder, path, design, fit):
    """Run a grid in a process of its own; both arguments are names in this module."""
    script = folder / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import test_experiments as tests
            if __name__ == "__main__":
                tests.run_grid(tests.{design}(), tests.{fit}, {str(path)!r}, progress=False)
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def threads():
    """An executor that starts at once, for tests in which processes do not matter."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def finished_fits(path):
    parts = list(path.with_name(path.name + ".parts").glob("*.parquet"))
    return pd.concat([pd.read_parquet(part) for part in parts]) if parts else pd.DataFrame()


def wait_for_fits(path, count, process=None, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(finished_fits(path)) >= count:
            return
        assert process is None or process.poll() is None, "the run ended early"
        time.sleep(0.05)
    raise AssertionError(f"no {count} fits within {seconds} s")


# Fits for tests of the machinery alone; they run in other processes, so they are importable.


def square(cell):
    return {"square": cell["x"] ** 2, "process": os.getpid(), "stamp": uuid.uuid4().hex}


def fail_at_three_until_allowed(cell):
    if cell["x"] == 3 and not Path(cell["permit"]).exists():
        raise ArithmeticError("three is not allowed")
    return {"square": cell["x"] ** 2}


def die_once_at_five(cell):
    first = Path(cell["tomb"])
    if cell["x"] == 5 and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": cell["x"] ** 2}


def always_die(cell):
    os._exit(1)


def overwrite_the_design(cell):
    return {"x": 0}


# ---------------------------------------------------------------------------------------------


def test_same_seeds_give_the_same_table(uninterrupted, tmp_path):
    again = run_grid(small_design(), fit_three_districts, tmp_path / "again.parquet", **QUIET)
    pd.testing.assert_frame_equal(untimed(again), untimed(uninterrupted))
    # and other seeds another one
    assert uninterrupted["sd_error:sigma"].is_unique


def test_rows_come_in_the_order_of_the_design(uninterrupted):
    design = small_design()
    pd.testing.assert_frame_equal(uninterrupted[list(design)], design)


@pytest.mark.parametrize(
    ("design", "fit", "whole"),
    [
        ("small_design", "fit_three_districts", "uninterrupted"),
        ("trials_design", "fit_trial", "uninterrupted_trials"),
    ],
)
def test_a_run_killed_by_force_loses_no_finished_fit(design, fit, whole, tmp_path, request):
    whole = request.getfixturevalue(whole)
    path = tmp_path / "killed.parquet"
    process = start_run(tmp_path, path, design, fit)
    try:
        wait_for_fits(path, 2, process)
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.communicate()
    assert not path.exists()
    before = finished_fits(path)
    assert 2 <= len(before) < len(whole)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "worker processes outlived the run"

    resumed = run_grid(globals()[design](), globals()[fit], path, **QUIET)
    pd.testing.assert_frame_equal(untimed(resumed), untimed(whole))
    # Kept and not made again: even the time each fit took is the one measured before the kill.
    assert set(before["seconds"]) <= set(resumed["seconds"])
    assert path.exists()
    assert not path.with_name(path.name + ".parts").exists()


def test_ctrl_c_keeps_finished_fits(tmp_path, threads):
    path = tmp_path / "stopped.parquet"
    process = start_run(tmp_path, path, "long_design", "slow_square")
    try:
        wait_for_fits(path, 4, process)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in message
    kept = finished_fits(path)
    assert 4 <= len(kept) < 200
    table = run_grid(long_design(), square, path, executor=threads, **QUIET)
    assert table["square"].tolist() == [x**2 for x in range(200)]
    assert table["stamp"].isin(kept["stamp"]).sum() == len(kept)


def long_design():
    return cross(x=range(200))


def slow_square(cell):
    time.sleep(0.1)
    return square(cell)


@pytest.mark.parametrize(
    ("design", "fit", "whole"),
    [
        (small_design(), fit_three_districts, "uninterrupted"),
        (trials_design(), fit_trial, "uninterrupted_trials"),
    ],
)
def test_the_same_grid_runs_on_dask_while_a_worker_is_killed(design, fit, whole, tmp_path, request):
    whole = request.getfixturevalue(whole)
    distributed = pytest.importorskip("distributed")
    path = tmp_path / "dask.parquet"
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        before = client.run(os.getpid)
        assert len(set(before.values())) == 2
        killed = []

        def kill_one():
            wait_for_fits(path, 2)
            victim = next(iter(before.values()))
            os.kill(victim, signal.SIGKILL)
            killed.append((victim, len(finished_fits(path))))

        killer = threading.Thread(target=kill_one)
        killer.start()
        table = run_grid(design, fit, path, executor=client.get_executor(), **QUIET)
        killer.join()
        assert killed[0][1] < len(table), "the worker was killed too late to matter"
        assert killed[0][0] not in client.run(os.getpid).values()
    pd.testing.assert_frame_equal(untimed(table), untimed(whole))


def test_a_process_that_dies_is_replaced(tmp_path):
    design = cross(x=range(20), tomb=[str(tmp_path / "tomb")])
    table = run_grid(design, die_once_at_five, tmp_path / "fits.parquet", workers=2, **QUIET)
    assert (tmp_path / "tomb").exists()
    assert table["square"].tolist() == [x**2 for x in range(20)]


def test_a_fit_that_always_dies_ends_the_run(tmp_path):
    with pytest.raises(GridError, match=r"'x': 1.*same call resumes"):
        run_grid(cross(x=[1]), always_die, tmp_path / "fits.parquet", attempts=2, **QUIET)


def test_a_failing_fit_is_named_and_the_others_are_kept(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    design = cross(x=range(6), permit=[str(tmp_path / "permit")])
    with pytest.raises(GridError, match=r"'x': 3.*ArithmeticError: three is not allowed"):
        run_grid(design, fail_at_three_until_allowed, path, executor=threads, **QUIET)
    assert {0, 1, 2} <= set(finished_fits(path)["x"])
    (tmp_path / "permit").touch()
    table = run_grid(design, fail_at_three_until_allowed, path, executor=threads, **QUIET)
    assert table["square"].tolist() == [0, 1, 4, 9, 16, 25]


def test_a_design_may_grow_and_shrink_without_losing_fits(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    first = run_grid(cross(x=range(4)), square, path, executor=threads, **QUIET)
    grown = run_grid(cross(x=range(8)), square, path, executor=threads, **QUIET)
    assert grown["stamp"][:4].tolist() == first["stamp"].tolist()
    assert grown["stamp"].is_unique
    part = run_grid(cross(x=[6, 2]), square, path, executor=threads, **QUIET)
    assert part["x"].tolist() == [6, 2]
    assert part["stamp"].tolist() == [grown["stamp"][6], grown["stamp"][2]]
    assert len(pd.read_parquet(path)) == 8


def test_many_parts_are_compacted_without_loss(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(experiments._Store, "COMPACT_AT", 5)
    path = tmp_path / "fits.parquet"
    most = []
    original = experiments._Store.save

    def counted(store, rows):
        original(store, rows)
        most.append(len(list(store.folder.glob("*.parquet"))))

    monkeypatch.setattr(experiments._Store, "save", counted)
    table = run_grid(cross(x=range(40)), slow_square, path, executor=threads, **QUIET)
    assert table["square"].tolist() == [x**2 for x in range(40)]
    assert max(most) < 5 < len(most)


def test_a_group_stays_on_one_process(tmp_path):
    design = cross(model=["a", "b"], x=range(6))
    table = run_grid(design, slow_square, tmp_path / "f.parquet", workers=2, group="model", **QUIET)
    # A process that has finished helps with the other's group, so the first fits are what counts.
    first = table[table["x"] < 2].groupby("model")["process"].unique()
    assert all(len(processes) == 1 for processes in first)
    assert first["a"][0] != first["b"][0]


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (pd.DataFrame({"x": []}), "no rows"),
        (pd.DataFrame({"x": [1, 1]}), "twice"),
        (pd.DataFrame({"x": [1.0, np.nan]}), "missing value in column 'x'"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(design, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_grid(design, square, tmp_path / "fits.parquet", **QUIET)


def test_a_path_that_holds_another_design_is_refused(tmp_path):
    path = tmp_path / "fits.parquet"
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"another design \(no column x\)"):
        run_grid(cross(x=[1]), square, path, **QUIET)


def test_a_fit_may_not_overwrite_the_design(tmp_path, threads):
    with pytest.raises(GridError, match="design's own column x"):
        run_grid(cross(x=[1]), overwrite_the_design, tmp_path / "f.parquet", executor=threads, **QUIET)


# ---------------------------------------------------------------------------------------------
# The stored tables


@pytest.mark.parametrize(
    ("name", "design"), [("factorial", factorial_design()), ("remedies", remedies_design())]
)
def test_a_stored_table_is_whole_and_says_where_it_came_from(name, design):
    path = DATA / f"{name}.parquet"
    table = pd.read_parquet(path)
    pd.testing.assert_frame_equal(table[list(design)], design, check_dtype=False)
    assert not path.with_name(f"{name}.work.parquet.parts").exists()
    figures = ["divergences", "rhat", "ess_bulk", "ess_tail", "bfmi", "missing_share", "gradients"]
    assert table[figures].notna().all(axis=None)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["fits"] == len(design)
    assert record["design"] == {column: design[column].unique().tolist() for column in design}
    assert record["command"] == f"python benchmarks/factorial.py {name}"


def test_the_reduced_factorial_agrees_with_the_stored_one(tmp_path):
    part = run_grid(
        reduced_design(),
        fit_three_districts,
        tmp_path / "reduced.parquet",
        group=experiments.MODEL_COLUMNS,
        **QUIET,
    )
    whole = pd.read_parquet(DATA / "factorial.parquet")
    result = agreement(part, whole)
    assert result["fits"] == len(reduced_design())
    # Equal on the machine that made it; elsewhere, agreement as of two samples of seeds.
    assert result["identical"] == 1 or result["worst_z"] < 5, result
    assert agreement(part.assign(missing_share=part["missing_share"] - 0.5), whole)["worst_z"] > 5


def test_agreement_needs_fits_that_the_stored_table_has():
    whole = pd.read_parquet(DATA / "factorial.parquet")
    with pytest.raises(ValueError, match="stored one lacks"):
        agreement(whole.assign(seed=whole["seed"] + 1000), whole)


def test_caught_and_missed_counts_every_fit_once():
    table = pd.DataFrame(
        {
            "divergences": [0, 5, 0, 3],
            "rhat": [1.0, 1.0, 1.05, 1.0],
            "ess_bulk": 1000,
            "ess_tail": 1000,
            "bfmi": 0.9,
            "sd_error:sigma": [0.5, -0.3, 0.0, 0.01],
            "missing_share": 0.0,
        }
    )
    assert is_wrong(table).tolist() == [True, True, False, False]
    counts = caught_and_missed(table)
    assert counts.loc["divergences"].tolist() == [1, 1, 1, 1]
    assert counts.loc["R-hat"].tolist() == [0, 2, 1, 1]
    assert counts.loc["any"].tolist() == [1, 1, 2, 0]
    assert (counts.sum(axis=1) == len(table)).all()
    assert flags(table)["any"].tolist() == [False, True, True, True]


def test_non_centered_form_visits_the_neck_and_the_centered_form_does_not():
    table = pd.read_parquet(DATA / "factorial.parquet")
    missing = table.groupby("parameterization")["missing_share"].median()
    assert missing["centered"] > 0.5
    assert abs(missing["non-centered"]) < 0.2
