"""The book's attempts, stored for the explorer: steps, metrics, last draws; and the script of them."""

import ast
import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import jsonschema
import numpy as np
import pymc as pm
import pytest
import scipy.stats
import xarray as xr
from chapters import run, statements
from conftest import ROOT
from test_explorer import DENSITIES, NODE, gradient_of, in_node

from fieldguide.data import load_three_districts, stored
from fieldguide.explorer import attempts_script, sigma_prior
from fieldguide.fits import compiled_model, label, problem_of_fit
from fieldguide.priors import ALPHA_PRIOR, half_student_t, prior_name, prior_parameters
from fieldguide.studies.attempts import SEED, attempts_design, in_order, sample_attempt
from fieldguide.studies.districts import PRIORS

ATTEMPTS = attempts_design().drop(columns="chain").drop_duplicates().set_index("attempt")
ASSIGNMENT = "fieldguideExplorer.attempts = "
SAMPLED = {
    "03_centered": ["centered_draws ="],
    "04_target_accept": ["draws = {}", "draws[target] = "],
    "05_tighter_priors": ["draws = {}", "draws[name] = "],
    "06_non_centered": ["one_knob = []", "one_knob.append", "mme4_draws ="],
}
"""What is written in the statements of a chapter that make its attempts."""
NEEDED = {
    "03_centered": ["sampling", "centered_model"],
    "04_target_accept": ["sampling", "centered_model"],
    "05_tighter_priors": ["sampling", "models"],
    "06_non_centered": ["sampling", "same_model", "forms", "non_centered_model"],
}
"""What these need."""
needs_node = pytest.mark.skipif(NODE is None, reason="no node on PATH")
each_attempt = pytest.mark.parametrize("attempt", ATTEMPTS.index)


def table():
    return stored("attempts").table


def columns(rows, what):
    return rows[[f"{what}_{i}" for i in range(5)]].to_numpy(copy=True)


def presets():
    """What the script hands over, read as JSON."""
    first, second, _ = attempts_script().splitlines()
    assert first == "globalThis.fieldguideExplorer ??= {};"
    assert second.startswith(ASSIGNMENT)
    return json.loads(second.removeprefix(ASSIGNMENT).removesuffix(";"))


@cache
def counts():
    three = load_three_districts()
    return three["users"].tolist(), three["women"].tolist()


@cache
def density_of(form, prior):
    return gradient_of(*counts(), parameterization=form, sigma_prior=PRIORS[prior])


def fits_of(chapter):
    """Make the attempts of a chapter by its own code; by their labels, what is compared of them."""
    there = run(chapter, *NEEDED[chapter])
    for written in SAMPLED[chapter]:
        body = next(one for one in statements(chapter) if written in ast.unparse(one))
        exec(compile(ast.Module([body], []), chapter, "exec"), there)
    found = [there.get(name) for name in ("centered_draws", "draws", "one_knob", "mme4_draws")]
    fits = []
    for one in found:
        if isinstance(one, xr.DataTree):  # which is a mapping, too
            fits.append(one)
        elif one is not None:
            fits += one.values() if isinstance(one, dict) else one
    return {label(fit): compared(fit) for fit in fits}


def compared(fit):
    """What is compared of a fit with the stored rows of its chains."""
    stats = fit["sample_stats"].to_dataset()
    return {
        "attrs": dict(fit.attrs),
        "alpha_bar": problem_of_fit(fit).prior("alpha_bar"),
        "step": stats["step_size_bar"].isel(draw=-1).to_numpy(),
        "diverged": stats["diverging"].sum("draw").to_numpy(),
        "last": np.log(fit["posterior"]["sigma"].isel(draw=-1).to_numpy()),
    }


def alone(function, *given):
    """Call it in a process of its own, where nothing that ran before has changed how models compile."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def same_chains(fit, rows):
    """Hold a fit made again against the stored rows of its chains."""
    step, diverged, last = fit["step"], fit["diverged"], fit["last"]
    if np.allclose(last, rows["position_1"], rtol=1e-6):
        np.testing.assert_allclose(step, rows["step"], rtol=1e-6)
        assert diverged.tolist() == rows["divergences"].tolist()
    # Another processor, or code from the compiler's cache: other draws of the same posterior. The steps
    # of four chains differ among themselves by nearly as much as a factor of two.
    assert abs(np.log(step / rows["step"].to_numpy()).mean()) < np.log(2)


# ---------------------------------------------------------------------------------------------
# The stored chains


@pytest.mark.slow
@pytest.mark.parametrize("page", ATTEMPTS["page"].unique())
def test_the_attempts_are_the_fits_that_their_chapters_make(page):
    fits = alone(fits_of, Path(page).stem)
    rows = table().query("page == @page")
    settings = {"tune": 1000, "draws": 1000, "chains": 4, "seed": SEED, "metric": "diag"}
    assert set(rows["label"]) <= set(fits)
    for name, part in rows.groupby("label"):
        fit = fits[name]
        assert settings.items() <= fit["attrs"].items()
        assert fit["alpha_bar"] == part["alpha_bar_prior"].iloc[0]
        same_chains(fit, part)


@each_attempt
def test_the_last_draws_have_the_density_that_the_sampler_wrote_down(attempt):
    """In these coordinates, in this order: any other two exchanged have another density."""
    of = ATTEMPTS.loc[attempt]
    density = density_of(of["parameterization"], of["prior"])
    rows = table().query("attempt == @attempt")
    for q, written in zip(columns(rows, "position"), rows["log_density"], strict=True):
        assert float(density(q)[0]) == pytest.approx(written, abs=1e-5)
    for i, j in zip(*np.triu_indices(5, 1), strict=True):
        exchanged = columns(rows, "position")
        exchanged[:, [i, j]] = exchanged[:, [j, i]]
        other = [float(density(q)[0]) for q in exchanged]
        assert np.abs(other - rows["log_density"]).max() > 0.01
        for i, j in zip(*np.triu_indices(5, 1), strict=True):
            exchanged = q.copy()
            exchanged[[i, j]] = q[[j, i]]
            assert abs(float(density(exchanged)[0]) - written) > 1e-4


def test_the_chains_of_an_attempt_are_alike():
    for _, rows in table().groupby("attempt"):
        scale, step = columns(rows, "scale"), rows["step"].to_numpy()
        assert len(rows) == 4
        assert (scale.max(axis=0) < 2.5 * scale.min(axis=0)).all()
        assert step.max() < 3 * step.min()
        assert (rows["divergences"] < rows["transitions"]).all()
        assert (rows["transitions"] == 1000).all()


@pytest.mark.slow
def test_the_first_attempt_made_again_is_the_stored_one():
    of = ATTEMPTS.loc["mme0"]
    settings = of["parameterization"], of["prior"], of["target_accept"], of["seed"]
    fit = alone(sample_attempt, *settings)
    rows = table().query("attempt == 'mme0'")
    assert set(rows["label"]) == {label(fit)}
    stats = fit["sample_stats"].to_dataset()
    adapted = stats["step_size_bar"]
    assert float(adapted.std("draw").max()) < 1e-12  # warm-up is over
    assert np.abs(stats["step_size"] / adapted - 1).max() < 0.1001
    names = ["alpha_bar", "sigma_log__", "alpha_0", "alpha_1", "alpha_2"]
    last = stats["unconstrained_draw"].isel(draw=-1).sel(unconstrained_parameter=names).to_numpy()
    drawn = fit["posterior"].to_dataset().isel(draw=-1)
    np.testing.assert_allclose(last[:, 0], drawn["alpha_bar"], rtol=1e-12)
    np.testing.assert_allclose(last[:, 1], np.log(drawn["sigma"]), rtol=1e-9)
    np.testing.assert_allclose(last[:, 2:], drawn["alpha"], rtol=1e-12)
    same_chains(compared(fit), rows)
    assert int(stats["diverging"].sum()) > 20
    assert rows["divergences"].sum() > 20


def test_coordinates_are_put_in_order_by_their_names():
    names = ["z_10", "sigma_log__", "z_2", "alpha_bar", "z_1"]
    values = xr.DataArray([10, -1, 2, -2, 1], {"unconstrained_parameter": names})
    assert in_order(values).tolist() == [-2, -1, 1, 2, 10]


def test_the_sampler_keeps_standard_deviations_as_its_metric():
    import nutpie

    with pm.Model() as model:
        for name, sd in {"wide": 50, "unit": 1, "narrow": 0.02}.items():
            pm.Normal(name, 0, sd)
    fit = nutpie.sample(
        compiled_model(model),
        draws=50,
        tune=500,
        chains=1,
        seed=1,
        store_mass_matrix=True,
        save_warmup=True,
        progress_bar=False,
    )
    metrics = fit["warmup_sample_stats"]["mass_matrix_inv"].isel(chain=0)
    found = metrics.dropna("draw").isel(draw=-1)
    assert found["unconstrained_parameter"].to_numpy().tolist() == ["wide", "unit", "narrow"]
    np.testing.assert_allclose(found, [50, 1, 0.02], rtol=0.05)


# ---------------------------------------------------------------------------------------------
# The script


def test_the_script_has_the_shape_that_the_explorer_reads():
    path = ROOT / "book" / "_static" / "explorer" / "presets.schema.json"
    found = presets()
    jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8"))).validate(found)
    three = load_three_districts()
    assert found["district"] == [str(district) for district in three.index]
    assert (found["successes"], found["trials"]) == counts()
    _, _, mean, sd = prior_parameters(ALPHA_PRIOR)
    assert found["alphaPrior"] == {"mean": mean, "sd": sd}
    assert len(attempts_script()) < 8000


def test_the_script_says_what_the_table_says():
    rows = table()
    found = {attempt["id"]: attempt for attempt in presets()["attempts"]}
    assert list(found) == rows["attempt"].unique().tolist() == ATTEMPTS.index.tolist()
    for name, of in found.items():
        part = rows[rows["attempt"] == name]
        assert {of["label"]} == set(part["label"])
        assert of["page"] == ATTEMPTS.loc[name, "page"]
        assert f"{of['form']}, {ATTEMPTS.loc[name, 'prior']}, target" in of["label"]
        assert of["divergences"] == part["divergences"].sum()
        assert of["transitions"] == part["transitions"].sum()
        chains = of["chains"]
        for what in ("step", "scale"):
            exact = part["step"] if what == "step" else columns(part, what)
            np.testing.assert_allclose([chain[what] for chain in chains], exact, rtol=5e-4)
        positions = [chain["position"] for chain in chains]
        np.testing.assert_allclose(positions, columns(part, "position"), atol=5.1e-5)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (scipy.stats.expon(), ("exponential", 1, None)),
        (scipy.stats.expon(scale=4), ("exponential", 4, None)),
        (scipy.stats.halfnorm(scale=0.1), ("half-normal", 0.1, None)),
        (scipy.stats.halfcauchy(scale=2), ("half-cauchy", 2, None)),
        (half_student_t(3, 1.5), ("half-student-t", 1.5, 3)),
    ],
)
def test_a_prior_is_described_as_the_explorer_reads_it(prior, expected):
    found = sigma_prior(prior_name(prior))
    assert (found.pop("family"), found.pop("scale"), found.pop("df", None)) == expected
    assert found == {}


def test_the_script_is_written_without_a_sampler():
    program = """
import sys
from fieldguide.explorer import attempts_script
attempts_script()
print(*{"pymc", "nutpie", "pytensor", "bambi", "arviz", "matplotlib"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@needs_node
@each_attempt
def test_the_explorers_density_at_the_last_draws_is_that_of_pymc(attempt):
    found = presets()
    (of,) = [one for one in found["attempts"] if one["id"] == attempt]
    settings = {name: found[name] for name in ("successes", "trials", "alphaPrior")}
    settings |= {name: of[name] for name in ("form", "sigmaPrior")}
    points = [chain["position"] for chain in of["chains"]]
    density = density_of(*ATTEMPTS.loc[attempt, ["parameterization", "prior"]])
    for q, (value, gradient) in zip(
        points, in_node(DENSITIES, {"settings": settings, "points": points}), strict=True
    ):
        expected, slopes = density(np.array(q))
        assert np.isfinite(value)
        assert value == pytest.approx(float(expected), rel=1e-10, abs=5e-9)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-9, atol=1e-9)


@needs_node
def test_the_explorer_goes_on_from_the_attempts_with_the_acceptance_that_was_asked_for():
    """With the metric as it stands; not with variances, nor with two of its coordinates exchanged."""
    found = in_node(
        """(e, script) => {
          (0, eval)(script);
          const accepted = (id, chain, change) => {
            const {model, settings: {step, scale}, start} = e.preset(e.attempts, id, chain);
            const target = (q, g) => e.logDensity(model, q, g);
            const given = {step, scale: change(scale)};
            return e.sample(target, start, given, e.seeded(chain, 5), 500).acceptance;
          };
          const changes = [
            (s) => s,
            (s) => s.map((v) => v * v),
            ([a, b, ...x]) => [b, a, ...x],
            ([a, b, ...x]) => [a, b, ...x.reverse()],
          ];
          return changes.map((change) => e.attempts.attempts.map(({id, chains}) =>
            chains.map((_, chain) => accepted(id, chain, change))));
        }""",
        attempts_script(),
    )
    refused = 1 - np.median(found, axis=2)
    asked = 1 - ATTEMPTS["target_accept"].to_numpy()
    as_it_stands, *others = np.abs(np.log(refused / asked).mean(axis=1))
    assert as_it_stands < 0.5
    assert min(others) > as_it_stands + 0.2
