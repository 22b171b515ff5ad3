"""A grid of fits survives what happens to long runs, and refuses what it cannot keep whole."""

import importlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from quick_fits import (
    always_die,
    answer_a_list,
    answer_a_number,
    answer_no_figures,
    answer_nothing,
    answer_only_gaps,
    die_once_at_five,
    every_kind_of_figure,
    fail_at_three_until_allowed,
    fail_late,
    long_design,
    note,
    overwrite_the_design,
    slow_square,
    square,
)

from fieldguide.grid import GridError, cross, kept_fits, run_grid, write_table
from fieldguide.studies.districts import MODEL_COLUMNS, fit_three_districts

QUIET = {"progress": False}


def small_design(seeds=30):
    """Real fits of one model, short enough to make many times."""
    return cross(
        parameterization=["non-centered"],
        prior=["Exponential(1)"],
        target_accept=[0.8],
        tune=[200],
        draws=[200],
        seed=range(seeds),
    )


def untimed(table):
    return table.drop(columns="seconds")


def fit_districts(cell):
    figures = fit_three_districts(cell)
    note()
    return figures


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("uninterrupted") / "fits.parquet"
    with ThreadPoolExecutor(1) as here:
        return run_grid(small_design(), fit_districts, path, executor=here, **QUIET)


def start_run(folder, path, fits, design, fit):
    """Run a grid in a process of its own; design and fit are names in the module `fits`."""
    script = folder / "run.py"
    # A shell that starts a job in the background lets it ignore SIGINT, and children inherit that.
    script.write_text(
        textwrap.dedent(
            f"""
            import signal
            import {fits} as fits
            from fieldguide.grid import run_grid
            if __name__ == "__main__":
                signal.signal(signal.SIGINT, signal.default_int_handler)
                run_grid(fits.{design}(), fits.{fit}, {str(path)!r}, workers=2, progress=False)
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "NOTES": str(notes(folder))}
    return subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.PIPE, text=True)


def notes(folder):
    path = folder / "notes"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def threads():
    """An executor that starts at once, for tests in which processes do not matter."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def wait_for_fits(folder, count, process=None, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(os.listdir(notes(folder))) >= count:
            return
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"no {count} fits within {seconds} s")


def work_file(path):
    return path.with_name(path.name + ".sqlite")


# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_same_seeds_give_the_same_table(uninterrupted, tmp_path):
    again = run_grid(
        small_design(),
        fit_districts,
        tmp_path / "again.parquet",
        workers=1,
        group=MODEL_COLUMNS,
        **QUIET,
    )
    pd.testing.assert_frame_equal(untimed(again), untimed(uninterrupted))
    # and other seeds another one
    assert uninterrupted["sd_error:sigma"].is_unique


@pytest.mark.slow
def test_rows_come_in_the_order_of_the_design(uninterrupted):
    design = small_design()
    pd.testing.assert_frame_equal(uninterrupted[list(design)], design)


@pytest.mark.slow
def test_a_run_killed_by_force_loses_no_finished_fit(uninterrupted, tmp_path):
    path = tmp_path / "killed.parquet"
    process = start_run(tmp_path, path, "test_grid", "small_design", "fit_districts")
    try:
        wait_for_fits(tmp_path, 4, process)
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.communicate()
    assert not path.exists()
    before = kept_fits(path)
    assert 1 <= len(before) < len(uninterrupted)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "worker processes outlived the run"

    with ThreadPoolExecutor(1) as here:
        resumed = run_grid(small_design(), fit_districts, path, executor=here, **QUIET)
    pd.testing.assert_frame_equal(untimed(resumed), untimed(uninterrupted))
    # Kept and not made again: even the time each fit took is the one measured before the kill.
    assert set(before["seconds"]) <= set(resumed["seconds"])
    assert path.exists()
    assert not work_file(path).exists()


@pytest.mark.slow
def test_ctrl_c_keeps_finished_fits(tmp_path, threads):
    path = tmp_path / "stopped.parquet"
    process = start_run(tmp_path, path, "quick_fits", "long_design", "slow_square")
    try:
        wait_for_fits(tmp_path, 4, process)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in message
    kept = kept_fits(path)
    assert 1 <= len(kept) < 80
    table = run_grid(long_design(), square, path, executor=threads, **QUIET)
    assert table["square"].tolist() == [x**2 for x in range(80)]
    assert table["stamp"].isin(kept["stamp"]).sum() == len(kept)


@pytest.mark.slow
def test_the_same_grid_runs_on_dask_while_a_worker_is_killed(uninterrupted, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("NOTES", str(notes(tmp_path)))
    module = importlib.import_module("test_grid")
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
            wait_for_fits(tmp_path, 2)
            victim = next(iter(before.values()))
            os.kill(victim, signal.SIGKILL)
            killed.append((victim, len(os.listdir(notes(tmp_path)))))

        killer = threading.Thread(target=kill_one)
        killer.start()
        table = run_grid(
            module.small_design(),
            module.fit_districts,
            tmp_path / "dask.parquet",
            executor=client.get_executor(),
            **QUIET,
        )
        killer.join()
        assert killed[0][1] < len(table), "the worker was killed too late to matter"
        assert killed[0][0] not in client.run(os.getpid).values()
    pd.testing.assert_frame_equal(untimed(table), untimed(uninterrupted))


@pytest.mark.slow
def test_a_process_that_dies_is_replaced(tmp_path):
    design = cross(x=range(20), tomb=[str(tmp_path / "tomb")])
    table = run_grid(design, die_once_at_five, tmp_path / "fits.parquet", workers=2, **QUIET)
    assert (tmp_path / "tomb").exists()
    assert table["square"].tolist() == [x**2 for x in range(20)]


@pytest.mark.slow
def test_a_fit_that_always_dies_ends_the_run(tmp_path):
    with pytest.raises(GridError, match=r"'x': 1.*same call resumes"):
        run_grid(cross(x=[1]), always_die, tmp_path / "fits.parquet", attempts=2, **QUIET)


def test_a_failing_fit_is_named_and_the_others_are_kept(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    design = cross(x=range(6), permit=[str(tmp_path / "permit")])
    with pytest.raises(GridError, match=r"'x': 3.*ArithmeticError: three is not allowed"):
        run_grid(design, fail_at_three_until_allowed, path, executor=threads, **QUIET)
    assert {0, 1, 2} <= set(kept_fits(path)["x"])
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


@pytest.mark.slow
def test_a_group_stays_on_one_process(tmp_path):
    design = cross(model=["a", "b"], x=range(6))
    table = run_grid(design, slow_square, tmp_path / "f.parquet", workers=2, group="model", **QUIET)
    # A process that has finished helps with the other's group, so the first fits are what counts.
    first = table[table["x"] < 2].groupby("model")["process"].unique()
    assert all(len(processes) == 1 for processes in first)
    assert first["a"][0] != first["b"][0]


def test_figures_come_back_exactly_as_they_were_returned(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    table = run_grid(cross(x=range(6)), every_kind_of_figure, path, executor=threads, **QUIET)
    expected = pd.DataFrame([{"x": x} | every_kind_of_figure({"x": x}) for x in range(6)])
    expected["sometimes"] = expected["sometimes"].astype(float)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert np.signbit(table["float"][2])
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected, check_exact=True)


@pytest.mark.slow
def test_figures_survive_an_interruption_exactly(tmp_path, threads):
    def stop_at_five(cell):
        if cell["x"] == 5:
            raise ArithmeticError("five")
        return every_kind_of_figure(cell)

    path = tmp_path / "fits.parquet"
    with ThreadPoolExecutor(1) as one, pytest.raises(GridError, match="five"):
        run_grid(cross(x=range(6)), stop_at_five, path, executor=one, **QUIET)
    kept = kept_fits(path).sort_values("x", ignore_index=True)
    expected = pd.DataFrame([{"x": x} | every_kind_of_figure({"x": x}) for x in range(5)])
    assert len(kept) == 5
    pd.testing.assert_frame_equal(kept, expected, check_exact=True)


# What makes no sense is refused before anything is touched


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (pd.DataFrame({"x": []}), "no rows"),
        (pd.DataFrame({"x": [1, 1]}), "twice"),
        (pd.DataFrame({"x": [1.0, np.nan]}), "missing value in column 'x'"),
        (pd.DataFrame({0: [1]}), "names of their own"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "names of their own"),
        (pd.DataFrame({"x": pd.to_datetime(["2020-01-01"])}), "column 'x'.*Timestamp"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(design, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_grid(design, square, tmp_path / "fits.parquet", **QUIET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argument", ["workers", "attempts"])
@pytest.mark.parametrize("value", [-1, 0, 1.5, True, "2"])
def test_numbers_of_workers_and_attempts_are_whole_and_positive(argument, value, tmp_path):
    with pytest.raises(ValueError, match=f"{argument} must be a whole number from 1"):
        run_grid(cross(x=[1, 2]), square, tmp_path / "fits.parquet", **QUIET, **{argument: value})
    assert not list(tmp_path.iterdir())


def test_an_unknown_group_is_named_beside_the_columns_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"'model' that the design does not have; it has x, seed\."):
        run_grid(cross(x=[1], seed=[0]), square, tmp_path / "f.parquet", group=["x", "model"], **QUIET)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_taken_for_a_table(tmp_path):
    folder = tmp_path / "fits.parquet"
    folder.mkdir()
    pd.DataFrame({"x": [1], "square": [1]}).to_parquet(folder / "part.parquet")
    with pytest.raises(ValueError, match=r"fits\.parquet is a folder; give the name"):
        run_grid(cross(x=[1]), square, folder, **QUIET)


def test_the_folder_of_the_table_is_made(tmp_path, threads):
    path = tmp_path / "new" / "seed=7" / "fits.parquet"
    run_grid(cross(x=range(3)), square, path, executor=threads, **QUIET)
    again = run_grid(cross(x=range(3)), square, path, executor=threads, **QUIET)
    assert list(again) == ["x", "square", "process", "stamp"]


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is a file"):
        run_grid(cross(x=[1]), square, tmp_path / "file" / "fits.parquet", **QUIET)


# A table remembers its design


def test_a_path_that_holds_another_design_is_refused(tmp_path):
    path = tmp_path / "fits.parquet"
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"another design \(no column x\)"):
        run_grid(cross(x=[1]), square, path, **QUIET)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (cross(x=[1]), "a column seed that this design lacks"),
        (cross(x=[1], seed=[0], more=["a"]), "no column more"),
        (cross(x=[1], more=["a"]), "no column more and a column seed that this design lacks"),
    ],
)
def test_a_design_with_other_columns_is_refused_and_nothing_is_lost(other, message, tmp_path, threads):
    path = tmp_path / "fits.parquet"
    run_grid(cross(x=[1], seed=range(5)), square, path, executor=threads, **QUIET)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        run_grid(other, square, path, executor=threads, **QUIET)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["fits.parquet"]


def test_an_interrupted_run_of_another_design_is_refused_too(tmp_path, threads):
    path, permit = tmp_path / "fits.parquet", [str(tmp_path / "permit")]
    with pytest.raises(GridError, match="three is not allowed"):
        run_grid(
            cross(x=range(6), permit=permit),
            fail_at_three_until_allowed,
            path,
            executor=threads,
            **QUIET,
        )
    kept = len(kept_fits(path))
    with pytest.raises(ValueError, match=r"sqlite holds another design.*column permit"):
        run_grid(cross(x=range(6)), square, path, executor=threads, **QUIET)
    assert len(kept_fits(path)) == kept >= 3


def test_an_old_table_must_tell_its_fits_apart_by_the_design(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    old = cross(x=[1, 2], seed=range(5)).assign(square=1.0)
    old.to_parquet(path)
    with pytest.raises(ValueError, match="several rows for the same x"):
        run_grid(cross(x=[1, 2]), square, path, executor=threads, **QUIET)
    table = run_grid(cross(x=[1, 2], seed=range(5)), square, path, executor=threads, **QUIET)
    assert table["square"].eq(1).all()


def test_rows_without_figures_are_not_finished_fits(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    for old in (cross(x=range(3)), cross(x=range(3)).assign(square=[0.0, np.nan, np.nan])):
        old.to_parquet(path)
        table = run_grid(cross(x=range(3)), square, path, executor=threads, **QUIET)
        assert table["square"].tolist() == [0, 1, 4]
        path.unlink()


def test_whole_numbers_written_as_floats_are_the_same_cell(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    first = run_grid(cross(x=[1, 2]), square, path, executor=threads, **QUIET)
    grown = run_grid(cross(x=[0.5, 2.0]), square, path, executor=threads, **QUIET)
    assert grown["stamp"][1] == first["stamp"][1]


def test_fits_of_another_version_are_made_again_and_never_mixed(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    settings = {"executor": threads, **QUIET}
    first = run_grid(cross(x=range(3)), square, path, version="a", **settings)
    same = run_grid(cross(x=range(3)), square, path, version="a", **settings)
    assert same["stamp"].tolist() == first["stamp"].tolist()
    permit = {"permit": [str(tmp_path / "permit")]}
    other = run_grid(cross(x=range(2)), square, path, version="b", **settings)
    assert not set(other["stamp"]) & set(first["stamp"])
    assert len(pd.read_parquet(path)) == 2
    stopped, design = tmp_path / "stopped.parquet", cross(x=range(6), **permit)
    with pytest.raises(GridError, match="three is not allowed"):
        run_grid(design, fail_at_three_until_allowed, stopped, version="a", **settings)
    with pytest.raises(GridError, match=r"holds \d fits that other code made; delete it"):
        run_grid(design, fail_at_three_until_allowed, stopped, version="b", **settings)
    assert kept_fits(stopped, "b").empty
    assert len(kept_fits(stopped, "a")) >= 3


# Two runs, and damaged files


@pytest.mark.slow
def test_a_second_run_on_a_path_is_kept_out_until_the_first_has_ended(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    process = start_run(tmp_path, path, "quick_fits", "long_design", "slow_square")
    try:
        wait_for_fits(tmp_path, 4, process)
        with pytest.raises(GridError, match=r"Another run is at work on .*fits\.parquet"):
            run_grid(long_design(), square, path, executor=threads, **QUIET)
        made = len(os.listdir(notes(tmp_path)))
        wait_for_fits(tmp_path, made + 4, process)  # the first goes on
    finally:
        process.kill()
        process.communicate()
    kept = kept_fits(path)
    assert len(kept) >= made - 2  # those on their way from a worker die with the run
    table = run_grid(long_design(), square, path, executor=threads, **QUIET)
    assert table["stamp"].isin(kept["stamp"]).sum() == len(kept)


def test_a_work_file_of_no_bytes_is_a_run_that_has_not_begun(tmp_path, threads):
    path = tmp_path / "fits.parquet"
    work_file(path).touch()
    table = run_grid(cross(x=range(3)), square, path, executor=threads, **QUIET)
    assert table["square"].tolist() == [0, 1, 4]
    assert not work_file(path).exists()


@pytest.mark.parametrize("damage", ["other bytes", "cut", "overwritten", "other tables"])
def test_a_damaged_work_file_is_named_with_the_remedy(damage, tmp_path, threads):
    path = tmp_path / "fits.parquet"
    design = cross(x=range(400), permit=[str(tmp_path / "permit")])
    with ThreadPoolExecutor(1) as one, pytest.raises(GridError, match="'x': 300"):
        run_grid(design, fail_late, path, executor=one, **QUIET)
    file = work_file(path)
    whole = file.read_bytes()
    assert len(whole) > 20_000
    if damage == "other tables":
        file.unlink()
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE birds (name TEXT)")
        connection.close()
    else:
        contents = {
            "other bytes": b"not a database" * 100,
            "cut": whole[: len(whole) // 2],
            "overwritten": whole[:4096] + bytes(len(whole) - 4096),
        }
        file.write_bytes(contents[damage])
    with pytest.raises(GridError, match=r"fits\.parquet\.sqlite is damaged .* Delete it and run again"):
        run_grid(design, fail_late, path, executor=threads, **QUIET)
    file.unlink()
    (tmp_path / "permit").touch()
    assert len(run_grid(design, fail_late, path, executor=threads, **QUIET)) == 400


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_damaged_table_is_named_with_the_remedy(content, tmp_path, threads):
    path = tmp_path / "fits.parquet"
    path.write_bytes(content)
    with pytest.raises(GridError, match=r"fits\.parquet cannot be read as a Parquet table .*delete it"):
        run_grid(cross(x=[1]), square, path, executor=threads, **QUIET)
    with pytest.raises(GridError, match="cannot be read"):
        kept_fits(path)
    assert path.read_bytes() == content


def test_a_table_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "fits.parquet"
    write_table(pd.DataFrame({"x": [1]}), path)
    with pytest.raises(GridError, match="cannot be written"):
        write_table(pd.DataFrame({"x": [1, "a"]}), path)
    assert pd.read_parquet(path)["x"].tolist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["fits.parquet"]


# What a fit may return


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (overwrite_the_design, "design's own column x"),
        (answer_nothing, "returned None instead of a dict"),
        (answer_a_number, "returned 1 instead of a dict"),
        (answer_no_figures, r"returned no figure but {}"),
        (answer_only_gaps, r"returned no figure but {'square': nan"),
        (answer_a_list, r"\[1, 4, 9\] is a list"),
    ],
)
def test_a_fit_that_returns_no_row_of_figures_is_named(fit, message, tmp_path, threads):
    path = tmp_path / "f.parquet"
    with pytest.raises(GridError, match=rf"fit {{'x': 1}} failed .*{message}"):
        run_grid(cross(x=[1]), fit, path, executor=threads, **QUIET)
    assert not list(tmp_path.iterdir())
