"""Any draws are diagnosed or refused in a sentence, and the command says which by its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_diagnose import _Tags, draws_of, hierarchical, independent
from test_diagnose_reading import exported, plain, saved

from fieldguide.cli import main
from fieldguide.diagnosis import Diagnosis, DrawsError, diagnose, measure, read_draws

# ---------------------------------------------------------------------------------------------
# Any fit

NAMES = (
    "mu", "a[1,1]", "a", "two words", "θ", "<b>&amp;", 'q"uote', "$x$", "x_", "100%", "{mu}", "1|g",
    "back\\slash", "$", "名前", "tau[",
)  # fmt: skip


def no_constant(token: str) -> None:
    raise AssertionError(f"{token} is no JSON.")


def all_said(fit: object, pages: bool = True) -> Diagnosis | str:
    """Everything that a diagnosis says, held against the rules of its formats."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = diagnose(fit)
        except DrawsError as error:
            sentence = str(error)
            assert sentence.endswith(".")
            assert "\n" not in sentence
            return sentence
        text, page = str(found), found.page() if pages else ""
        said = json.loads(found.to_json(), parse_constant=no_constant)
    assert said["verdict"] in text
    tags = _Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    assert tags.loaded == []
    assert "<b>" not in page.partition("<body")[2]
    return found


@st.composite
def fits(draw):
    """Draws of few variables of many kinds, with or without what a sampler says."""
    chains, size = draw(st.sampled_from([(1, 2), (2, 2), (4, 3), (1, 40), (2, 5), (4, 60), (3, 25)]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    values = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)):
        shape = draw(st.sampled_from([(), (), (1,), (2,), (7,), (3, 2), (0,), (2, 3, 2)]))
        one = rng.normal(size=(chains, size, *shape))
        kind = draw(
            st.sampled_from(
                ["normal", "spread", "walk", "constant", "stuck", "integer", "boolean", "huge", "tiny",
                 "missing", "infinite", "nothing", "copy", "effects"]
            )
        )  # fmt: skip
        earlier = list(values.values())
        if kind == "spread":
            one = np.exp(3 * one)
        elif kind == "walk":
            one = np.cumsum(one, axis=1)
        elif kind == "constant":
            one = np.full_like(one, 3.0)
        elif kind == "stuck":
            one = np.broadcast_to(one[:, :1], one.shape).copy()
        elif kind == "integer":
            one = np.round(2 * one).astype(int)
        elif kind == "boolean":
            one = one > 0
        elif kind == "tiny":
            one = 1e-310 * one
        elif kind == "nothing":
            one = np.full_like(one, np.nan)
        elif kind == "copy" and earlier:
            one = earlier[0].copy()
        elif kind == "effects" and earlier and shape:
            first = np.asarray(earlier[0], dtype=float).reshape(chains, size, -1)
            if first.shape[-1]:
                one = one * np.abs(first[..., 0]).reshape(chains, size, *[1] * len(shape))
        elif kind in ("huge", "missing", "infinite") and one.size:
            at = tuple(rng.integers(0, n) for n in one.shape)
            one[at] = {"huge": 1e300, "missing": np.nan, "infinite": np.inf}[kind]
        values[name] = one
    what = draw(st.sampled_from(["none", "no divergence", "one", "all", "some"]))
    hit = np.zeros((chains, size), bool)
    if what == "one":
        hit.flat[rng.integers(hit.size)] = True
    elif what == "all":
        hit[:] = True
    elif what == "some":
        hit = rng.random(hit.shape) < 0.3
    stats = {"diverging": hit}
    if draw(st.booleans()):
        stats["energy"] = rng.normal(size=hit.shape)
        stats["step_size"] = np.full(hit.shape, draw(st.sampled_from([0.1, 0.0, np.nan])))
        stats["n_steps"] = np.full(hit.shape, 7)
        if draw(st.booleans()):
            stats["energy"][0, 0] = np.nan
    fit = draws_of(stats, **values)
    return fit["posterior"].to_dataset() if what == "none" else fit


EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(fit=fits())
def test_any_draws_are_diagnosed_or_refused(fit):
    all_said(fit, pages=False)


@settings(EXAMPLES, max_examples=12)
@given(fit=fits())
def test_any_draws_have_a_page_or_are_refused(fit):
    all_said(fit)


def test_any_name_can_be_drawn():
    """Two slow parameters whose divergences lie together, with names that are no mathematics."""
    rng = np.random.default_rng(6)
    hit = np.zeros((4, 1000), bool)
    hit[:, ::50] = True
    values = {"$x": independent(rng), "$\\y$ <b>": independent(rng)}
    found = all_said(draws_of({"diverging": hit}, **values))
    assert {found.figure().axes[0].get_xlabel(), found.figure().axes[0].get_ylabel()} == set(values)


@pytest.mark.parametrize("largest", [1e300, 1.7e308])
@pytest.mark.parametrize("seed", range(4))
def test_values_at_the_end_of_the_numbers_are_drawn(largest, seed):
    """Their margins on an axis, and their ratio, are beyond what a number can hold."""
    rng = np.random.default_rng(seed)
    chains, size = (1, 2) if seed % 2 else (4, 60)
    values = {name: np.abs(rng.normal(size=(chains, size))) for name in ("sigma", "mu")}
    values["mu"][0, 0] = largest
    hit = rng.random((chains, size)) < 0.3
    all_said(draws_of({"diverging": hit}, **values, a=rng.normal(size=(chains, size, 3))))


def test_nothing_is_diagnosed_of_draws_that_are_not_finite_or_do_not_move():
    rng = np.random.default_rng(1)
    lost = np.full((4, 100), np.nan)
    assert "2 with missing or infinite" in all_said(draws_of(a=lost, b=lost))
    assert "no parameter moves" in all_said(draws_of(a=np.ones((4, 100)), b=np.zeros((4, 100, 3))))
    half = independent(rng)
    half[0, :5] = np.nan
    found = all_said(draws_of(a=half, b=independent(rng), c=np.ones((4, 1000))))
    assert list(found.measures.parameters.index) == ["b"]
    assert found.measures.figures["left_out"] == 1


def test_a_constant_element_is_not_mistaken_for_another_parameter():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(4, 1000, 2, 2))
    matrix[..., 0, 0] = 1 + 1e-16 * matrix[..., 0, 0]
    hit = matrix[..., 1, 1] > 2
    table = all_said(draws_of({"diverging": hit}, chol=matrix, a=independent(rng))).measures.parameters
    assert list(table.index) == ["chol[0, 1]", "chol[1, 0]", "chol[1, 1]", "a"]
    assert table.loc["chol[1, 1]", "place"] > 0.95


@pytest.mark.parametrize("shapes", [[(5000,)], [()] * 5000, [(70, 70)], [(10,)] * 100])
def test_many_parameters_are_measured_whatever_holds_them(shapes):
    rng = np.random.default_rng(3)
    spread = np.exp(rng.normal(size=(2, 30)))
    values = {f"x{k}": rng.normal(size=(2, 30, *shape)) for k, shape in enumerate(shapes)}
    values["x0"] = (values["x0"].T * spread.T).T
    hit = rng.random((2, 30)) < 0.2
    table = measure(read_draws(draws_of({"diverging": hit}, tau=spread, **values))).parameters
    assert len(table) == 1 + sum(int(np.prod(shape)) for shape in shapes)
    assert 2 <= table["p"].notna().sum() <= 400
    assert np.isfinite(table["p"]["tau"])


# ---------------------------------------------------------------------------------------------
# The command


def written(fit: xr.DataTree, folder, suffix: str):
    if suffix != ".csv":
        return saved(fit, folder / f"fit{suffix}")
    path = folder / "fit.csv"
    path.write_text(exported(fit), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".zip", ".csv"])
def test_a_healthy_fit_exits_with_zero_as_text_json_and_page(suffix, tmp_path, capsys):
    fit = plain(4, 1000)
    fit["sample_stats"]["diverging"][:] = False
    path = written(fit, tmp_path, suffix)
    page = tmp_path / "report.html"
    assert main(["diagnose", str(path), "--html", str(page)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{path}: 4 chains with 4000 draws in all")
    assert told.err == ""
    tags = _Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    assert (tags.open, tags.loaded) == ([], [])
    assert main(["diagnose", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert said["healthy"]
    assert said["verdict"] in told.out


def test_a_neck_exits_with_one_and_what_is_written_is_what_is_said(tmp_path, capsys):
    rng = np.random.default_rng(4)
    values = hierarchical(rng, np.full(8, 0.1))
    hit = values["tau"] < np.quantile(values["tau"], 0.02)
    path = saved(draws_of({"diverging": hit}, **values), tmp_path / "fit.nc")
    page = tmp_path / "report.html"
    assert main(["diagnose", str(path), "--json", "--html", str(page)]) == 1
    said = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert (said["kind"], said["figures"]["divergences"]) == ("neck", hit.sum())
    assert said["verdict"] in page.read_text(encoding="utf-8")
    assert main(["diagnose", str(path)]) == 1
    assert said["verdict"] in capsys.readouterr().out


def test_a_page_that_cannot_be_written_and_draws_without_numbers_exit_with_two(tmp_path, capsys):
    path = saved(plain(4, 1000), tmp_path / "fit.nc")
    assert main(["diagnose", str(path), "--html", str(tmp_path / "no" / "where.html")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    lost = saved(draws_of(a=np.full((4, 50), np.nan)), tmp_path / "lost.nc")
    assert main(["diagnose", str(lost)]) == 2
    assert capsys.readouterr().err.startswith(f"{lost}: nothing can be diagnosed")


# ---------------------------------------------------------------------------------------------
# Size

CHILD = """
import pathlib, re, sys
from fieldguide.cli import main
status = main(["diagnose", sys.argv[1]])
said = pathlib.Path("/proc/self/status")  # getrusage has the peak of the parent, too
peak = int(re.search(r"VmHWM:\\s+(\\d+)", said.read_text())[1]) / 2**20 if said.exists() else 0
print(status, peak)
"""


@pytest.mark.parametrize(("draws", "parameters"), [(500_000, 1), (500, 2000)])
def test_large_fits_are_diagnosed_in_little_memory(draws, parameters, tmp_path):
    """Two million draws, and two thousand effects with their spread."""
    rng = np.random.default_rng(5)
    spread = np.exp(rng.normal(size=(4, draws)))
    effects = rng.normal(size=(4, draws, parameters)) * spread[..., None]
    hit = (spread < 0.3) & (rng.random(spread.shape) < 0.1)
    fit = draws_of({"diverging": hit}, tau=spread, theta=effects, mu=rng.normal(size=(4, draws)))
    path = saved(fit, tmp_path / "fit.nc")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    *report, last = done.stdout.splitlines()
    status, peak = last.split()
    assert report[0].startswith(f"{path}: 4 chains with {4 * draws} draws in all, {hit.sum()} div")
    assert status == "1"
    assert float(peak) < 0.9
