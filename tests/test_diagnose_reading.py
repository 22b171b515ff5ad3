"""Draws from every tool, as `fieldguide diagnose` reads them: values, refusals, damage, size."""

import contextlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_r import WIDEST, need_r

from fieldguide.cli import main
from fieldguide.data import DATA_FOLDER
from fieldguide.diagnosis import reading
from fieldguide.diagnosis.columns import MOST_DRAWS, arrays_of
from fieldguide.diagnosis.reading import Draws, DrawsError, read_draws
from fieldguide.scripts import PART

CHAINS, DRAWS = 2, 150


@pytest.fixture(scope="module")
def funnel():
    """A model with a scalar, a spread and three groups, whose centered form diverges."""
    import pymc as pm

    with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
        mu = pm.Normal("mu")
        sigma = pm.HalfNormal("sigma")
        theta = pm.Normal("theta", mu, sigma, dims="group")
        pm.Normal("y", theta, 1.0, observed=[0.3, -0.2, 0.1])
    return model


@pytest.fixture(scope="module")
def pymc_fit(funnel):
    import pymc as pm

    with funnel, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pm.sample(
            draws=DRAWS, tune=200, chains=CHAINS, cores=1, random_seed=1, progressbar=False,
            nuts_sampler="pymc",
        )  # fmt: skip


@pytest.fixture(scope="module")
def nutpie_fit(funnel):
    import nutpie

    return nutpie.sample(
        nutpie.compile_pymc_model(funnel), draws=DRAWS, tune=200, chains=CHAINS, cores=1, seed=1,
        progress_bar=False, store_divergences=True, target_accept=0.7, maxdepth=8,
    )  # fmt: skip


def plain(chains=CHAINS, draws=DRAWS, seed=1):
    """A fit without a sampler, of the dimensions and names that PyMC gives."""
    rng = np.random.default_rng(seed)
    coords = {"chain": np.arange(chains), "draw": np.arange(draws), "group": ["a", "b", "c"]}
    posterior = xr.Dataset(
        {
            "mu": (("chain", "draw"), rng.normal(size=(chains, draws))),
            "theta": (("chain", "draw", "group"), rng.normal(size=(chains, draws, 3))),
        },
        coords=coords,
        attrs={"inference_library": "pymc"},
    )
    stats = xr.Dataset(
        {
            "diverging": (("chain", "draw"), rng.random((chains, draws)) < 0.05),
            "energy": (("chain", "draw"), rng.normal(size=(chains, draws))),
        },
        coords={"chain": coords["chain"], "draw": coords["draw"]},
    )
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


def same(read: Draws, fit: xr.DataTree) -> None:
    assert set(read.posterior) == set(fit["posterior"].data_vars)
    for name, values in fit["posterior"].data_vars.items():
        assert read.posterior[name].dtype == float
        np.testing.assert_array_equal(
            read.posterior[name].values, values.transpose("chain", "draw", ...).values
        )


def refusal(source, **options) -> str:
    with pytest.raises(DrawsError) as error:
        read_draws(source, **options)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def saved(fit, path):
    """Write a fit in the format that the file's name says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".nc":
            fit.to_netcdf(path, engine="h5netcdf")
        elif path.suffix == ".zarr":
            fit.to_zarr(path)
        else:
            import zarr

            with zarr.storage.ZipStore(path, mode="w") as store:
                fit.to_zarr(store)
    return path


# ---------------------------------------------------------------------------------------------
# PyMC, nutpie, Bambi


FORMATS = ("fit.nc", "fit.zarr", "fit.zarr.zip")


@pytest.mark.parametrize("name", FORMATS)
def test_a_fit_by_nutpie_is_the_same_from_every_format(nutpie_fit, tmp_path, name):
    read = read_draws(saved(nutpie_fit, tmp_path / name))
    memory, stats = read_draws(nutpie_fit), nutpie_fit["sample_stats"]
    same(read, nutpie_fit)
    xr.testing.assert_identical(read.stats, memory.stats)
    assert list(read.posterior["theta"]["group"].values) == ["a", "b", "c"]
    for ours, theirs in (
        ("diverging", "diverging"), ("energy", "energy"), ("depth", "depth"), ("n_steps", "n_steps"),
        ("maxdepth_reached", "maxdepth_reached"), ("step_size", "step_size"),
        ("acceptance", "mean_tree_accept"),
    ):  # fmt: skip
        np.testing.assert_array_equal(read.stats[ours].values, stats[theirs].values)
    assert (read.stats["diverging"].dtype, read.stats["depth"].dtype) == (bool, np.int64)
    assert (read.tool, read.max_depth, read.target_accept) == ("nutpie", 8, 0.7)
    assert read.name == str(tmp_path / name)
    assert read.totals == {
        "draws": CHAINS * DRAWS,
        "divergences": int(stats["diverging"].sum()),
        "maxdepth": int(stats["maxdepth_reached"].sum()),
    }
    for ours, theirs in ((read.start, "divergence_start"), (read.end, "divergence_end")):
        assert ours.dims == ("chain", "draw", "unconstrained_parameter")
        np.testing.assert_array_equal(ours.values, stats[theirs].values)
    assert list(read.start["unconstrained_parameter"].values) == list(
        stats["unconstrained_parameter"].values
    )
    assert read.notes == ()


def test_a_fit_by_pymc_has_the_same_names(pymc_fit, tmp_path):
    stats = pymc_fit["sample_stats"]
    for read in (read_draws(pymc_fit), read_draws(saved(pymc_fit, tmp_path / "fit.nc"))):
        same(read, pymc_fit)
        assert read.tool == "PyMC"
        for ours, theirs in (
            ("diverging", "diverging"), ("depth", "tree_depth"), ("acceptance", "acceptance_rate"),
            ("maxdepth_reached", "reached_max_treedepth"), ("step_size", "step_size"),
            ("n_steps", "n_steps"), ("energy", "energy"),
        ):  # fmt: skip
            np.testing.assert_array_equal(read.stats[ours].values, stats[theirs].values)
        assert (read.start, read.end) == (None, None)


def test_a_fit_by_bambi_says_so(tmp_path):
    import bambi

    rng = np.random.default_rng(1)
    table = pd.DataFrame({"y": rng.normal(size=12), "g": list("abc") * 4})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = bambi.Model("y ~ 1 + (1|g)", table).fit(
            draws=60, tune=100, chains=2, cores=1, random_seed=1, progressbar=False
        )
    read = read_draws(saved(fit, tmp_path / "fit.nc"))
    same(read, fit)
    assert read.tool == read_draws(fit).tool == "Bambi"
    assert {"1|g", "1|g_sigma", "Intercept"} <= set(read.posterior)


class Legacy:
    """What ArviZ called InferenceData: groups as attributes."""

    def __init__(self, fit):
        self.posterior = fit["posterior"].to_dataset()
        self.sample_stats = fit["sample_stats"].to_dataset()


def test_other_objects_hold_the_same_draws(tmp_path):
    fit = plain()
    posterior = fit["posterior"].to_dataset()
    arrays = {name: values.values for name, values in posterior.items()}
    long = pd.DataFrame(
        {"mu": arrays["mu"].ravel()}
        | {f"theta[{k + 1}]": arrays["theta"][:, :, k].ravel() for k in range(3)}
        | {".chain": np.repeat([1, 2], DRAWS)}
    )
    posterior.to_netcdf(tmp_path / "flat.nc", engine="h5netcdf")
    posterior.drop_vars("group").to_netcdf(tmp_path / "old.nc", engine="scipy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior.to_zarr(tmp_path / "flat.zarr")
    files = [tmp_path / name for name in ("flat.nc", "old.nc", "flat.zarr")]
    for source in (Legacy(fit), posterior, arrays, long, fit["posterior"], *files):
        read = read_draws(source)
        for name, values in arrays.items():
            np.testing.assert_array_equal(read.posterior[name].values, values)
    nested = {
        "posterior": arrays,
        "sample_stats": {"diverging": fit["sample_stats"]["diverging"].values},
    }
    for source in (Legacy(fit), nested):
        assert read_draws(source).totals["divergences"] == int(fit["sample_stats"]["diverging"].sum())
    read = read_draws(fit)
    assert read_draws(read) is read


def test_integers_become_floats_and_what_is_no_number_is_left_out_with_a_note():
    fit = plain()
    posterior = fit["posterior"].to_dataset()
    posterior["count"] = (("chain", "draw"), np.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS))
    posterior["name"] = (("chain", "draw"), np.full((CHAINS, DRAWS), "x"))
    posterior["fixed"] = (("chain", "draw"), np.ones((CHAINS, DRAWS)))
    posterior["x"] = ("group", [1.0, 2.0, 3.0])
    read = read_draws(posterior)
    assert set(read.posterior) == {"mu", "theta", "count", "fixed"}
    assert read.posterior["count"].dtype == float
    assert any("Left out" in note and "name, x" in note for note in read.notes)


def test_the_notes_say_what_cannot_be_told():
    fit = plain()
    (left,) = [note for note in read_draws(fit["posterior"]).notes if "Divergences" in note]
    assert "not known" in left
    one = read_draws(fit.isel(chain=[0]))
    assert any("one chain" in note and "R-hat" in note for note in one.notes)
    broken = fit["posterior"].to_dataset().copy(deep=True)
    broken["mu"][0, 3:5] = np.nan
    broken["theta"][1, 0, 2] = np.inf
    read = read_draws(broken)
    assert any("mu (2), theta (1)" in note for note in read.notes)
    assert np.isnan(read.posterior["mu"].values).sum() == 2
    other = fit["sample_stats"].to_dataset().isel(draw=slice(10))
    mixed = xr.DataTree.from_dict({"/": None, "sample_stats": other})
    legacy = Legacy(fit)
    legacy.sample_stats = mixed["sample_stats"].to_dataset()
    read = read_draws(legacy)
    assert not read.stats
    assert any("other chains or draws" in note for note in read.notes)


# ---------------------------------------------------------------------------------------------
# CmdStan

# The layout of https://mc-stan.org/docs/cmdstan-guide/stan_csv_apdx.html, with the header that
# CmdStan 2.37 wrote for stan-dev/cmdstanpy, test/data/runset-good/bern-1.csv.
HEADER = """\
# stan_version_major = 2
# stan_version_minor = 37
# stan_version_patch = 0
# model = funnel_model
# start_datetime = 2026-07-20 16:58:36 UTC
# method = {method}
#   sample
#     num_samples = {num_samples}
#     num_warmup = {num_warmup}
#     save_warmup = {save_warmup}
#     thin = {thin}
#     adapt
#       engaged = true (Default)
#       gamma = 0.05 (Default)
#       delta = 0.9
#       kappa = 0.75 (Default)
#     algorithm = hmc (Default)
#       hmc
#         engine = nuts (Default)
#           nuts
#             max_depth = {max_depth}
#         metric = diag_e (Default)
#         stepsize = 1 (Default)
# id = {id}
# random
#   seed = 12345
# output
#   file = output_{id}.csv
"""
ADAPTED = """\
# Adaptation terminated
# Step size = 0.766137
# Diagonal elements of inverse mass matrix:
# 0.567537, 1.2
"""
ELAPSED = """\
#\x20
#  Elapsed Time: 0.001 seconds (Warm-up)
#                0 seconds (Sampling)
#                0.001 seconds (Total)
#\x20
"""
SAMPLER = (
    "lp__",
    "accept_stat__",
    "stepsize__",
    "treedepth__",
    "n_leapfrog__",
    "divergent__",
    "energy__",
)


def cmdstan(path, fit, chain, *, warm=(), **said):
    """Write one chain of a nutpie fit as CmdStan does; `warm` are rows of a stored warm-up."""
    posterior, stats = fit["posterior"].isel(chain=chain), fit["sample_stats"].isel(chain=chain)
    theta = posterior["theta"].values
    columns = [
        stats["energy"].values, stats["mean_tree_accept"].values, stats["step_size"].values,
        stats["depth"].values, stats["n_steps"].values, stats["diverging"].values.astype(int),
        stats["energy"].values, posterior["mu"].values, posterior["sigma"].values,
        *(theta[:, k] for k in range(3)),
        *(theta[:, i] + 10 * j for j in range(2) for i in range(3)),
    ]  # fmt: skip
    names = [*SAMPLER, "mu", "sigma", *(f"theta.{k + 1}" for k in range(3))]
    names += [f"z.{i + 1}.{j + 1}" for j in range(2) for i in range(3)]
    rows = [",".join(repr(value.item()) for value in row) for row in zip(*columns, strict=True)]
    told = {
        "method": "sample (Default)", "num_samples": len(rows), "num_warmup": "1000 (Default)",
        "save_warmup": "false (Default)", "thin": "1 (Default)", "max_depth": "10 (Default)",
        "id": chain + 1,
    } | said  # fmt: skip
    lines = [",".join(names), *warm, ADAPTED.rstrip("\n"), *rows]
    path.write_text(HEADER.format(**told) + "\n".join(lines) + "\n" + ELAPSED, encoding="utf-8")
    return path


def test_the_files_of_cmdstan_hold_the_draws_that_were_written(nutpie_fit, tmp_path, monkeypatch):
    paths = [
        cmdstan(tmp_path / f"output_{k + 1}.csv", nutpie_fit, k, max_depth=3) for k in range(CHAINS)
    ]
    (tmp_path / "profile.csv").write_text("name,total_time\na,1\n")
    monkeypatch.chdir(tmp_path)
    theta, stats = nutpie_fit["posterior"]["theta"].values, nutpie_fit["sample_stats"]
    for source in (paths, list(map(str, paths[::-1])), tmp_path, "output_*.csv"):
        read = read_draws(source)
        assert set(read.posterior) == {"mu", "sigma", "theta", "z"}
        np.testing.assert_array_equal(read.posterior["theta"].values, theta)
        assert read.posterior["z"].shape == (CHAINS, DRAWS, 3, 2)
        np.testing.assert_array_equal(read.posterior["z"].sel(z_dim_0=3, z_dim_1=2), theta[..., 2] + 10)
        np.testing.assert_array_equal(read.stats["diverging"], stats["diverging"])
        np.testing.assert_array_equal(read.stats["energy"], stats["energy"])
        np.testing.assert_array_equal(read.stats["maxdepth_reached"], stats["depth"] >= 3)
        assert (read.tool, read.max_depth, read.target_accept) == ("CmdStan", 3, 0.9)
        assert read.totals == {
            "draws": CHAINS * DRAWS,
            "divergences": int(stats["diverging"].sum()),
            "maxdepth": int((stats["depth"] >= 3).sum()),
        }
        assert read.notes == ()
    one = read_draws(paths[1])
    np.testing.assert_array_equal(one.posterior["theta"].values[0], theta[1])
    assert any("one chain" in note for note in one.notes)


def test_a_stored_warm_up_is_left_out(nutpie_fit, tmp_path):
    warm = [",".join(["9"] * 18)] * 25
    path = cmdstan(tmp_path / "o.csv", nutpie_fit, 0, warm=warm, save_warmup=1, num_warmup=50, thin=2,
                   num_samples=2 * DRAWS)  # fmt: skip
    read = read_draws(path)
    np.testing.assert_array_equal(read.posterior["mu"].values[0], nutpie_fit["posterior"]["mu"][0])
    assert any("25 draws of the warm-up" in note for note in read.notes)
    assert read.totals["draws"] == DRAWS
    cmdstan(path, nutpie_fit, 0, save_warmup=1, num_warmup=1000)
    assert "belong to the warm-up" in refusal(path)


def test_a_run_that_stopped_early_is_read_as_far_as_it_is_whole(nutpie_fit, tmp_path):
    text = cmdstan(tmp_path / "o.csv", nutpie_fit, 0).read_text()
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("lp__")) + 5

    def stopped(rows, more=""):
        path = tmp_path / "stopped.csv"
        path.write_text("\n".join(lines[: start + rows]) + "\n" + more)
        return path

    for more in (lines[start + 120][:40], ""):
        read = read_draws(stopped(120, more))
        np.testing.assert_array_equal(
            read.posterior["mu"].values[0], nutpie_fit["posterior"]["mu"][0, :120]
        )
        assert any("120 of 150 draws" in note for note in read.notes)
        assert any("ends within a draw" in note for note in read.notes) == bool(more)
    cut = stopped(120)
    cut.write_text(cut.read_text()[:-3])  # the last number has lost digits
    read = read_draws(cut)
    assert read.posterior.sizes["draw"] == 119
    assert any("last draw is left out" in note for note in read.notes)
    for more in (lines[start + 50][:40], ""):
        assert "run the chain again" in refusal(stopped(50, more))
    other = cmdstan(tmp_path / "p.csv", nutpie_fit, 1)
    read = read_draws([stopped(120), other])
    assert read.posterior.sizes["draw"] == 120
    assert any("between 120 and 150 draws" in note for note in read.notes)
    assert read.totals["draws"] == 240


def test_files_that_are_no_chains_of_one_run_are_refused(nutpie_fit, tmp_path):
    first = cmdstan(tmp_path / "a.csv", nutpie_fit, 0)
    other = tmp_path / "b.csv"
    other.write_text(first.read_text().replace("theta.3", "eta"))
    assert "'eta' and 'theta.3'" in refusal([first, other])
    assert "given twice" in refusal([first, first])
    assert "no such file; did you mean" in refusal([first, tmp_path / "bb.csv"])
    assert "one at a time" in refusal([first, saved(plain(), tmp_path / "fit.nc")])
    other.write_text(first.read_text().replace("method = sample (Default)", "method = pathfinder"))
    assert "'pathfinder'" in refusal(other)


# ---------------------------------------------------------------------------------------------
# brms, rstan, posterior


def exported(fit, *, chain=True, numbers=True):
    """What R's write.csv makes of as_draws_df, as text."""
    posterior = fit["posterior"]
    theta, chains = posterior["theta"].values, posterior.sizes["chain"]
    table = pd.DataFrame({"b_Intercept": posterior["mu"].values.ravel()})
    for k, site in enumerate(("Oslo", "St..Ives", "Rome")):
        table[f"r_site[{site},Intercept]"] = theta[..., k].ravel()
        table[f"z[{k + 1}]"] = theta[..., k].ravel() ** 2
    table["lprior"], table["lp__"] = -1.0, -2.0
    if chain:
        draws = posterior.sizes["draw"]
        table[".chain"] = np.repeat(np.arange(1, chains + 1), draws)
        table[".iteration"] = np.tile(np.arange(1, draws + 1), chains)
        table[".draw"] = np.arange(1, len(table) + 1)
    if numbers:
        table.index += 1
    return table.to_csv(index=numbers, index_label="")


def test_draws_of_brms_are_arrays_with_their_labels(tmp_path):
    fit = plain()
    path = tmp_path / "draws.csv"
    for numbers in (True, False):
        path.write_text(exported(fit, numbers=numbers))
        read = read_draws(path)
        assert set(read.posterior) == {"b_Intercept", "r_site", "z"}
        assert list(read.posterior["r_site"]["r_site_dim_0"].values) == ["Oslo", "St..Ives", "Rome"]
        rome = read.posterior["r_site"].sel(r_site_dim_0="Rome", r_site_dim_1="Intercept")
        np.testing.assert_array_equal(rome.values, fit["posterior"]["theta"].values[..., 2])
        assert list(read.posterior["z"]["z_dim_0"].values) == [1, 2, 3]
        assert (read.tool, read.totals["divergences"]) == ("brms", None)
        assert any("Divergences are not known" in note for note in read.notes)


def test_a_table_without_chains_is_one_or_as_many_as_are_said(tmp_path):
    fit = plain()
    path = tmp_path / "draws.csv"
    path.write_text(exported(fit, chain=False))
    read = read_draws(path)
    assert read.posterior.sizes["chain"] == 1
    assert any("No column says which chain" in note for note in read.notes)
    read = read_draws(path, chains=CHAINS)
    np.testing.assert_array_equal(read.posterior["b_Intercept"].values, fit["posterior"]["mu"].values)
    assert not any("No column" in note for note in read.notes)
    assert "cannot be split into 7 chains" in refusal(path, chains=7)
    path.write_text(exported(fit))
    assert "2 chains, not 3" in refusal(path, chains=3)
    bare = tmp_path / "bare.csv"
    bare.write_text("x,y\n" + "1.5,2\n2.5,3\n" * 20)
    assert "say of how many chains" in refusal(bare)
    assert read_draws(bare, chains=4).posterior.sizes == {"chain": 4, "draw": 10}


def test_chains_of_different_length_are_cut_and_stubs_left_out(tmp_path):
    path = tmp_path / "draws.csv"
    lines = exported(plain(chains=3), numbers=False).splitlines()
    path.write_text(
        "\n".join([*lines[: 1 + 2 * DRAWS], *lines[1 + 2 * DRAWS : 1 + 2 * DRAWS + 100]]) + "\n"
    )
    read = read_draws(path)
    assert read.posterior.sizes["draw"] == 100
    assert read.totals["draws"] == 300
    assert any("between 100 and 150" in note for note in read.notes)
    path.write_text("\n".join(lines[: 1 + 2 * DRAWS + 5]) + "\n")
    read = read_draws(path)
    assert (read.posterior.sizes["chain"], read.posterior.sizes["draw"]) == (2, DRAWS)
    assert any("Chain 3 has 5 of 150 draws and is left out" in note for note in read.notes)


def test_cells_of_r_without_a_number_are_missing_values(tmp_path):
    path = tmp_path / "draws.csv"
    lines = exported(plain(), numbers=False).splitlines()
    for row, cell in ((3, "NA"), (4, "Inf"), (5, "-Inf"), (6, "NaN"), (7, "")):
        lines[row] = cell + "," + lines[row].partition(",")[2]
    path.write_text("\r\n".join(lines) + "\r\n")
    read = read_draws(path)
    assert not np.isfinite(read.posterior["b_Intercept"].values[0, 2:7]).any()
    assert any("b_Intercept (5)" in note for note in read.notes)


def test_columns_that_do_not_fill_an_array_stay_on_their_own():
    names = ["a[1,1]", "a[2,1]", "a[2,2]", "b[2]", "b[10]", "b[1]", "c", "d[x,1]", "e[1]", "e[1,2]"]
    found = arrays_of(names, dots=False)
    assert {"a[1,1]", "a[2,1]", "a[2,2]", "b", "c", "d", "e[1]", "e[1,2]"} == set(found)
    assert (found["b"][0], found["b"][1].tolist()) == ([[1, 2, 10]], [5, 3, 4])
    assert found["d"][0] == [["x"], [1]]
    stan = arrays_of(["tup:1.1", "tup:1.2", "x.1.2", "x.1.1"], dots=True)
    assert (stan["tup:1"][0], stan["x"][1].tolist()) == ([[1, 2]], [[3, 2]])


@pytest.mark.slow
def test_r_writes_draws_that_are_read_as_r_sees_them(tmp_path):
    need_r("brms", "rstan", "posterior", "jsonlite")
    script = DATA_FOLDER / "r_export_draws.R"
    done = subprocess.run(
        ["Rscript", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)["fits"]
    for tool in ("brms", "rstan"):
        read = read_draws(tmp_path / f"{tool}.csv")
        assert read.tool == tool
        assert read.totals["divergences"] == said[tool]["divergences"]
        assert read.totals["draws"] == said[tool]["draws"]
        assert read.posterior.sizes["chain"] == said[tool]["chains"]
        np.testing.assert_allclose(read.stats["energy"].mean("draw"), said[tool]["energy"])
    brms = read_draws(tmp_path / "brms.csv").posterior
    np.testing.assert_allclose(brms["b_Intercept"].mean("draw"), said["brms"]["intercept"])
    labels = [site.replace(" ", ".") for site in said["brms"]["sites"]]
    assert list(brms["r_site"]["r_site_dim_0"].values) == labels
    last = brms["r_site"].sel(r_site_dim_0="St..Ives", r_site_dim_1="Intercept").mean()
    np.testing.assert_allclose(last, said["brms"]["last"])
    rstan = read_draws(tmp_path / "rstan.csv").posterior
    for table in (rstan, read_draws(tmp_path / "stanfit.csv", chains=2).posterior):
        np.testing.assert_allclose(
            table["z"].sel(z_dim_0=2, z_dim_1=1).mean("draw"), said["rstan"]["z21"]
        )
    assert "write.csv" in refusal(tmp_path / "fit.rds")


def test_the_lines_of_r_in_the_help_are_those_of_the_script(capsys):
    script = (DATA_FOLDER / "r_export_draws.R").read_text(encoding="utf-8")
    parts = {part: code for part, _, code in PART.findall(script)}
    with pytest.raises(SystemExit):
        main(["diagnose", "--help"])
    told = capsys.readouterr().out
    for line in parts["export"].splitlines():
        assert line in told
        assert len(line) <= WIDEST
    assert parts["export_rstan"] == parts["export"].replace("fit$fit", "fit")


# ---------------------------------------------------------------------------------------------
# Refusals


def written(content):
    def write(folder):
        path = folder / "draws.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def halved(name):
    def write(folder):
        path = saved(plain(draws=2000), folder / name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return write


def without_posterior(folder):
    fit = plain()
    tree = xr.DataTree.from_dict(
        {"prior": fit["posterior"].to_dataset(), "observed_data": xr.Dataset({"y": ("i", [1.0])})}
    )
    return saved(tree, folder / "prior.nc")


def archive(folder, member="a.txt"):
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr(member, "text")
    return folder / "a.zip"


def folder_of(*names):
    def make(folder):
        (folder / "inner").mkdir()
        for name in names:
            (folder / "inner" / name).write_text("x\n1\n")
        return folder / "inner"

    return make


def near(folder):
    saved(plain(), folder / "fit_final.nc")
    return folder / "fit_finale.nc"


GOOD = "a,.chain,lp__\n" + "".join(f"{k / 7},{1 + k // 20},-1\n" for k in range(40))
BAD_FILES = {
    "missing": (lambda folder: folder / "fit.nc", "there is no such file"),
    "nearly the name": (near, "did you mean"),
    "pattern": (lambda folder: str(folder / "out_*.csv"), "no file has a name like this"),
    "empty": (written(""), "the file is empty"),
    "blank": (written(" \n\n "), "the file is empty"),
    "half a NetCDF": (halved("fit.nc"), "damaged or cut short"),
    "half an archive": (halved("fit.zarr.zip"), "damaged or cut short"),
    "PNG": (written(b"\x89PNG\r\n\x1a\n" + bytes(50)), "a picture"),
    "PDF": (written(b"%PDF-1.7\n..."), "a PDF"),
    "pickle": (written(pickle.dumps({"a": 1})), "pickle"),
    "Parquet": (written(b"PAR1" + bytes(50)), "Parquet"),
    "web page": (written("<!doctype html><p>not found"), "a web page"),
    "UTF-16": (written(GOOD.encode("utf-16")), "UTF-16"),
    "Latin": (written("å,lp__\n1,2\n".encode("latin-1")), "not UTF-8"),
    "bytes": (written(bytes(range(256))), "not known"),
    "archive": (archive, "holds no Zarr"),
    "Excel": (lambda folder: archive(folder, "xl/workbook.xml"), "Excel"),
    "prior only": (without_posterior, "its groups are 'observed_data' and 'prior'"),
    "empty folder": (folder_of(), "the folder is empty"),
    "folder of something": (folder_of("notes.txt", "fit.csv"), "no CSV files of CmdStan; give the file"),
    "data": (lambda _: DATA_FOLDER / "bangladesh.csv", "no column is called '.chain' or 'lp__'"),
    "prose": (lambda _: ROOT / "README.md", "no table of draws"),
    "only names": (written("a,.chain,lp__\n"), "there are no draws"),
    "one draw": (written("a,.chain,lp__\n1,1,1\n"), "one draw per chain"),
    "text": (written(GOOD.replace(f"\n{3 / 7},", "\nx,")), "row 5, column a: 'x' is not a number"),
    "a cell too few": (written(GOOD.replace(f"\n{3 / 7},", "\n")), "row 5 has 2 fields and not 3"),
    "cut": (written(GOOD[:-4]), "the last row has 2 fields and not 3"),
    "chains in halves": (written(GOOD.replace(",2,-1", ",1.5,-1")), "not the number of a chain"),
    "twice": (written("a,a,lp__\n1,2,3\n"), "'a' comes twice"),
    "no parameter": (written("lp__,.chain\n" + "1,1\n" * 30), "no column holds a parameter"),
    "nul": (written(b"a,lp__" + b"\0" * 600), "known"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_without_draws_is_refused_in_a_sentence(name, tmp_path, capsys):
    make, words = BAD_FILES[name]
    path = make(tmp_path)
    sentence = refusal(path)
    assert words in sentence
    assert str(path) in sentence
    assert main(["diagnose", str(path)]) == 2
    assert capsys.readouterr() == ("", f"{sentence}\n")


def test_r_draws_saved_by_r_itself_say_how_to_export(tmp_path):
    import gzip

    path = tmp_path / "fit.rds"
    path.write_bytes(gzip.compress(b"X\n\0\0\0\3" + bytes(100)))
    assert "write.csv(posterior::as_draws_df(fit)" in refusal(path)


BAD_OBJECTS = {
    "number": (3.0, "A float holds no draws"),
    "empty": ({}, "The dictionary is empty"),
    "vector": ({"a": np.ones(5)}, "(chain, draw, ...)"),
    "words": ({"a": np.array([["x"] * 5])}, "no array of numbers"),
    "lengths": ({"a": np.ones((2, 5)), "b": np.ones((2, 6))}, "'b' has (chain, draw) = (2, 6)"),
    "no draws": ({"a": np.ones((2, 0))}, "there are no draws"),
    "one draw": ({"a": np.ones((4, 1))}, "one draw per chain"),
    "dims": (xr.Dataset({"a": ("sample", np.ones(9))}), "no dimension 'chain' and 'draw'"),
    "no posterior": (xr.DataTree.from_dict({"prior": xr.Dataset()}), "its groups are 'prior'"),
    "nothing": (xr.DataTree(), "it is empty"),
    "text": (pd.DataFrame({"a": [1.0, "x"], ".chain": 1}), "row 2 of the table, column a: 'x'"),
    "list": ([1, 2], "A list of draws is one of paths"),
    "only text": (
        xr.Dataset({"a": (("chain", "draw"), [["x", "y"]])}), "no variable of numbers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OBJECTS)
def test_an_object_without_draws_is_refused_in_a_sentence(name):
    source, words = BAD_OBJECTS[name]
    assert words in refusal(source)


def test_the_number_of_chains_is_only_for_tables(tmp_path):
    path = saved(plain(), tmp_path / "fit.nc")
    assert "leave the number out" in refusal(path, chains=2)
    assert "0 chains are not possible" in refusal(path, chains=0)


# ---------------------------------------------------------------------------------------------
# Any damage


@pytest.fixture(scope="module")
def good(tmp_path_factory, nutpie_fit):
    """One file of every format, and a folder for damaged ones."""
    folder = tmp_path_factory.mktemp("good")
    small = plain(draws=20)
    files = [saved(small, folder / "fit.nc"), saved(small, folder / "fit.zarr.zip")]
    small["posterior"].to_dataset().drop_vars("group").to_netcdf(folder / "old.nc", engine="scipy")
    (folder / "draws.csv").write_text(exported(small))
    files += [folder / "old.nc", folder / "draws.csv", cmdstan(folder / "o.csv", nutpie_fit, 0)]
    saved(small, folder / "fit.zarr")
    return folder, files


def draws_or_sentence(path):
    try:
        outcome = read_draws(path)
    except DrawsError as error:
        outcome = str(error)
    assert isinstance(outcome, Draws) or (str(path) in outcome and "\n" not in outcome)


def with_a_damaged_chunk(folder):
    path = saved(plain(), folder / "fit.zarr.zip")
    content = bytearray(path.read_bytes())
    for name in (b"posterior/group/zarr.json", b"posterior/theta/zarr.json"):
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo(name.decode()).header_offset
        content[content.index(b"{", start) + 5] ^= 1
    path.write_bytes(content)
    return path


def with_damaged_metadata(folder):
    path = saved(plain(), folder / "fit.zarr")
    for name in ("group", "theta", "mu"):
        (path / "posterior" / name / "zarr.json").write_text("{")
    return path


LOUD = {
    "archive": (with_a_damaged_chunk, "zarr.json in the archive is damaged"),
    "folder": (with_damaged_metadata, "could not be read"),
    "row": (written(GOOD.encode() + b"\xff\xff,1\n"), "no UTF-8 text"),
}


@pytest.mark.parametrize("name", LOUD)
def test_libraries_print_no_traceback_of_their_own(name, tmp_path):
    """Some report faults of tasks and of callbacks on standard error, beside what they raise."""
    make, words = LOUD[name]
    path = make(tmp_path)
    command = [sys.executable, "-m", "fieldguide", "diagnose", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_file_that_keeps_hdf5_busy_is_refused(tmp_path, monkeypatch):
    """Some damaged files make HDF5 loop; here a whole one has no time to be looked at."""
    path = saved(plain(), tmp_path / "fit.nc")
    read_draws(path)
    monkeypatch.setattr(reading, "_PATIENCE", 0.001)
    assert "HDF5 does not come to an end" in refusal(path)


EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@EXAMPLES
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_draws_or_refused(content, tmp_path):
    path = tmp_path / "any"
    path.write_bytes(content)
    draws_or_sentence(path)


@EXAMPLES
@given(text=st.text(alphabet='a1.,;\n"#-eN[]_ lp', max_size=60))
def test_any_text_below_names_is_draws_or_refused(text, tmp_path):
    path = tmp_path / "any.csv"
    path.write_text("a,.chain,lp__\n1,1,1\n2,1,1\n" + text, encoding="utf-8")
    draws_or_sentence(path)


@settings(EXAMPLES, max_examples=25)
@given(data=st.data())
def test_any_damage_to_a_file_leaves_draws_or_a_sentence(good, data):
    folder, files = good
    content = bytearray(data.draw(st.sampled_from(files)).read_bytes())
    damaged = folder / "damaged"
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    for at in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=8)):
        if content:
            content[at] = data.draw(st.integers(0, 255))
    damaged.write_bytes(content)
    draws_or_sentence(damaged)


@EXAMPLES
@given(data=st.data())
def test_any_damage_to_a_zarr_folder_leaves_draws_or_a_sentence(good, data):
    folder, _ = good
    damaged = folder / "damaged.zarr"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(folder / "fit.zarr", damaged)
    victim = data.draw(st.sampled_from(sorted(path for path in damaged.rglob("*") if path.is_file())))
    content = bytearray(victim.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    elif data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        victim.unlink()
    if victim.exists():
        victim.write_bytes(content)
    draws_or_sentence(damaged)


# ---------------------------------------------------------------------------------------------
# Size

CHILD = """
import json, pathlib, re, sys
from fieldguide.diagnosis.reading import read_draws
draws = read_draws(sys.argv[1])
last = {name: values.values.ravel()[-1] for name, values in draws.posterior.items()}
status = pathlib.Path("/proc/self/status")  # getrusage has the peak of the parent, too
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 2**20 if status.exists() else 0
print(json.dumps([dict(draws.posterior.sizes), dict(draws.totals), last, draws.notes, peak]))
"""


def in_a_child(path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["large.nc", "large.csv"])
def test_two_million_draws_are_thinned_and_their_divergences_all_counted(name, tmp_path):
    import pyarrow as pa
    from pyarrow import csv

    chains, draws = 4, 500_000
    fit = plain(chains, draws)
    fit = xr.DataTree.from_dict(
        {
            "posterior": fit["posterior"].to_dataset()[["mu"]],
            "sample_stats": fit["sample_stats"].to_dataset(),
        }
    )
    mu, diverging = fit["posterior"]["mu"].values, fit["sample_stats"]["diverging"].values
    if name.endswith(".nc"):
        saved(fit, tmp_path / name)
        every = -(-draws // MOST_DRAWS)
    else:
        table = {"mu": mu.ravel(), "divergent__": diverging.ravel().astype("int8")}
        table[".chain"] = np.repeat(np.arange(1, 5, dtype="int8"), draws)
        csv.write_csv(pa.table(table), tmp_path / name)
        every = 16
    sizes, totals, last, notes, peak = in_a_child(tmp_path / name)
    assert (sizes["chain"], sizes["draw"]) == (chains, -(-draws // every))
    assert sizes["draw"] <= MOST_DRAWS
    assert last["mu"] == mu[-1, ::every][-1]
    assert totals == {"draws": chains * draws, "divergences": int(diverging.sum()), "maxdepth": None}
    assert any(f"every {every}th is kept" in note for note in notes)
    assert peak < 0.8


def test_five_thousand_parameters_fit_into_memory(tmp_path):
    values = np.random.default_rng(1).normal(size=(4, 1000, 5000))
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw", "k"), values)})})
    sizes, totals, last, _, peak = in_a_child(saved(tree, tmp_path / "wide.nc"))
    assert sizes == {"chain": 4, "draw": 1000, "k": 5000}
    assert (totals["draws"], last["x"]) == (4000, values[-1, -1, -1])
    assert peak < 0.8


def test_what_is_too_large_is_refused_unread(tmp_path):
    for name, words in (("fit.nc", "GB are more than 4"), ("draws.csv", "GB are more than 4")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(4 * 10**9 + 1)
        assert words in refusal(tmp_path / name)
    path = tmp_path / "text.csv"
    with path.open("wb") as file:
        file.write(b"a,.chain,lp__\n")
        file.truncate(2 * 2**30 + 1)
    sentence = refusal(path)
    assert "GiB of text" in sentence or "not known" in sentence


def test_the_command_says_how_it_is_used():
    with contextlib.redirect_stdout(io.StringIO()) as told, pytest.raises(SystemExit) as left:
        main(["diagnose", "--help"])
    assert left.value.code == 0
    for words in ("examples:", "exit status:", "--chains N", "--json", "--html FILE", "to_netcdf"):
        assert words in told.getvalue()
