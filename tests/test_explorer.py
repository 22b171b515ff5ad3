"""The explorer's computations, in Chromium and, where there is one, in Node: against PyMC and Python."""

import json
import math
import shutil
import subprocess
from functools import cache

import jsonschema
import numpy as np
import pytest
import scipy.stats
from conftest import BROWSER, ROOT
from pytensor.scalar.basic import autocast_float_as
from scipy.special import expit, log_expit, logsumexp

from fieldguide.explorer import write_scripts
from fieldguide.fits import sample_seeds
from fieldguide.models import centering_weights, varying_intercept_model
from fieldguide.nuts import RULES, NoUTurn
from fieldguide.priors import half_student_t
from fieldguide.reference import exact_posterior

SCRIPTS = [
    ROOT / "book" / "_static" / "explorer" / f"{name}.js"
    for name in ("random", "posterior", "leapfrog", "nuts", "exact", "contours", "presets")
]
NODE = shutil.which("node")
Y, N = [30, 7, 2], [117, 20, 2]
COUNTS = {"successes": Y, "trials": N}
PRIORS = {
    "Exponential(1)": (scipy.stats.expon(), {"family": "exponential", "scale": 1}),
    "HalfNormal(0.5)": (scipy.stats.halfnorm(scale=0.5), {"family": "half-normal", "scale": 0.5}),
    "HalfCauchy(0.7)": (scipy.stats.halfcauchy(scale=0.7), {"family": "half-cauchy", "scale": 0.7}),
    "HalfStudentT(3, 1.5)": (
        half_student_t(3, 1.5),
        {"family": "half-student-t", "df": 3, "scale": 1.5},
    ),
}
WEIGHTS = {"by count": centering_weights(Y, N).tolist(), "a third": [1 / 3] * 3}
FORMS = ("centered", "deviation", "non-centered", *WEIGHTS)
SETTINGS = {"step": 0.35, "scale": [0.62, 1.0, 0.2, 0.4, 0.9]}
START = [-0.5, -0.3, -1.0, -0.7, 0.1]


def in_node(function, given):
    program = (
        f"{json.dumps([str(path) for path in SCRIPTS])}.forEach((path) => require(path));"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"console.log(JSON.stringify(({function})(fieldguideExplorer, given)));"
    )
    done = subprocess.run(
        [NODE, "-e", program], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("node", marks=pytest.mark.skipif(NODE is None, reason="no node on PATH")),
        pytest.param("chromium", marks=pytest.mark.skipif(BROWSER is None, reason="no browser on PATH")),
    ],
)
def run(request, tmp_path_factory):
    """Run a function of the explorer and of what it is given, there and in a page opened from a file."""
    if request.param == "node":
        yield in_node
        return
    folder = tmp_path_factory.mktemp("explorer")
    for path in SCRIPTS:
        shutil.copy(path, folder)
    write_scripts(folder)  # as the built site has them
    page = folder / "page.html"
    tags = "".join(f'<script src="{path.name}"></script>' for path in SCRIPTS)
    page.write_text(f"<!doctype html><title>Explorer</title>{tags}", encoding="utf-8")
    tab = request.getfixturevalue("browser").new_page()
    tab.goto(page.as_uri())
    yield lambda function, given: tab.evaluate(
        f"(given) => ({function})(fieldguideExplorer, given)", given
    )
    tab.close()


def settings_of(form, prior="Exponential(1)", counts=COUNTS):
    which = {"weight": WEIGHTS[form]} if form in WEIGHTS else {"form": form}
    return {**counts, **which, "sigmaPrior": PRIORS[prior][1]}


def gradient_of(y, n, **given):
    # constants would be kept in single precision otherwise, and be right to 1e-8 only
    with autocast_float_as("float64"):
        model = varying_intercept_model(y, n, **given)
        assert [v.name for v in model.value_vars][:2] == ["alpha_bar", "sigma_log__"]
        density = model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    density.set_extra_values({})
    return density


@cache
def compiled(form, prior="Exponential(1)"):
    """PyMC's log density with its gradient, a function of the sampler's coordinates."""
    which = {"parameterization": form}
    if form in WEIGHTS:
        which = {"parameterization": "partial", "weights": WEIGHTS[form]}
    return gradient_of(Y, N, sigma_prior=PRIORS[prior][0], **which)


@cache
def points():
    return np.random.default_rng(4).normal([-0.5, -0.5, 0, 0, 0], [1.5, 1.5, 2, 2, 2], size=(20, 5))


DENSITIES = """(e, {settings, points}) => {
  const model = e.posterior(settings);
  return points.map((q) => { const g = []; return [e.logDensity(model, q, g), g]; });
}"""


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("form", FORMS)
def test_log_density_and_gradient_are_those_that_pymc_compiles(run, form, prior):
    found = run(DENSITIES, {"settings": settings_of(form, prior), "points": points().tolist()})
    for q, (density, gradient) in zip(points(), found, strict=True):
        value, slopes = compiled(form, prior)(q)
        assert density == pytest.approx(float(value), rel=1e-10, abs=5e-9)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-10, atol=1e-10)


def test_many_trials_keep_their_digits(run):
    y, n = [0, 1200, 40_000], [900, 2300, 100_000]
    density = gradient_of(y, n, parameterization="centered")
    given = {"settings": settings_of("centered", counts={"successes": y, "trials": n})}
    ((value, gradient),) = run(DENSITIES, {**given, "points": [START]})
    expected, slopes = density(np.array(START))
    assert value == pytest.approx(float(expected), rel=1e-11)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_coordinates_and_effects_are_each_others_inverse(run, form):
    point, back = run(
        """(e, {settings, alpha}) => {
          const model = e.posterior(settings);
          const q = e.coordinates(model, -0.4, -1.2, alpha);
          return [q, e.effects(model, q)];
        }""",
        {"settings": settings_of(form), "alpha": [-1.1, -0.6, 0.3]},
    )
    np.testing.assert_allclose(back, [-1.1, -0.6, 0.3], rtol=1e-12)
    moved = {"centered": [-1.1, -0.6, 0.3], "deviation": [-0.7, -0.2, 0.7]}
    moved["non-centered"] = [v / math.exp(-1.2) for v in moved["deviation"]]
    if form in moved:
        np.testing.assert_allclose(point, [-0.4, -1.2, *moved[form]], rtol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"successes": [3], "trials": [2], "weight": 1}, "District 1 needs whole counts"),
        ({"successes": [3], "trials": [2, 3], "weight": 1}, "one entry per district"),
        ({**COUNTS, "form": "middle"}, "Unknown form middle"),
        ({**COUNTS, "form": "centered", "weight": 1}, "a form or a weight"),
        ({**COUNTS, "weight": 1.5}, "between 0 and 1"),
        ({**COUNTS, "weight": 1, "sigmaPrior": {"family": "flat", "scale": 1}}, "prior of sigma"),
        ({**COUNTS, "weight": 1, "alphaPrior": {"mean": 0, "sd": 0}}, "alpha_bar needs a mean"),
    ],
)
def test_settings_that_make_no_sense_are_refused(run, wrong, said):
    refused = "(e, given) => { try { e.posterior(given); } catch (error) { return error.message; } }"
    assert said in run(refused, wrong)


def sfc32(seed, stream):
    """Doty-Humphrey's sfc32, seeded as in PractRand: the integers that it gives."""
    a, b, c, counter, mask = 0, seed, stream, 1, 2**32 - 1
    discarded = 0
    while True:
        drawn = (a + b + counter) & mask
        counter = (counter + 1) & mask
        a = b ^ (b >> 9)
        b = (c + (c << 3)) & mask
        c = (((c << 21) & mask | (c >> 11)) + drawn) & mask
        if (discarded := discarded + 1) > 12:
            yield drawn


class SameNumbers:
    """The explorer's random numbers, as `NoUTurn` asks for them."""

    def __init__(self, seed, stream=0):
        self.integers, self.spare = sfc32(seed, stream), None

    def random(self):
        return (next(self.integers) + 0.5) / 2**32

    def _normal(self):
        if self.spare is not None:
            kept, self.spare = self.spare, None
            return kept
        radius, angle = math.sqrt(-2 * math.log(self.random())), 2 * math.pi * self.random()
        self.spare = radius * math.sin(angle)
        return radius * math.cos(angle)

    def normal(self, size):
        return np.array([self._normal() for _ in range(size)])


def test_random_numbers_are_those_of_sfc32_and_normal(run):
    drawn = run(
        """(e, [seed, stream]) => {
          const one = e.seeded(seed, stream), two = e.seeded(seed, stream);
          return [0, 1].map((k) => Array.from({length: 4000}, () => k ? e.normal(two) : e.uniform(one)));
        }""",
        [2**32 - 3, 17],
    )
    same = SameNumbers(2**32 - 3, 17)
    assert drawn[0] == [same.random() for _ in range(4000)]
    np.testing.assert_allclose(drawn[1], SameNumbers(2**32 - 3, 17).normal(4000), rtol=1e-9)
    assert scipy.stats.kstest(drawn[1], "norm").pvalue > 1e-3


def test_a_path_can_be_walked_back_and_its_error_falls_with_the_square_of_the_step(run):
    back, errors, volume = run(
        """(e, {settings, start, scale}) => {
          const model = e.posterior(settings), target = (q, g) => e.logDensity(model, q, g);
          const from = e.stateAt(target, start, e.newMomentum(scale, e.seeded(5)));
          const there = e.path(target, from, {step: 0.1, scale, steps: 40}).states.at(-1);
          const turned = e.path(target, there, {step: -0.1, scale, steps: 40}).states.at(-1);
          const back = [...turned.q, ...turned.p].map((v, i) => v - [...from.q, ...from.p][i]);
          const errors = [0.08, 0.04, 0.02, 0.01].map((step) =>
            Math.abs(e.path(target, from, {step, scale, steps: Math.round(1.6 / step)}).errors.at(-1)));
          const nudge = 1e-5; // columns of the Jacobian of one step
          const flow = (z) => {
            const next = e.leapfrog(target, e.stateAt(target, z.slice(0, 5), z.slice(5)), 0.3, scale);
            return [...next.q, ...next.p];
          };
          const z = [...from.q, ...from.p];
          const moved = (i, by) => flow(z.map((v, k) => (k === i ? v + by : v)));
          const jacobian = z.map((_, i) => {
            const low = moved(i, -nudge);
            return moved(i, nudge).map((v, k) => (v - low[k]) / (2 * nudge));
          });
          return [back, errors, jacobian];
        }""",
        {"settings": settings_of("centered"), "start": START, "scale": SETTINGS["scale"]},
    )
    assert np.abs(back).max() < 1e-10
    assert np.divide(errors[:-1], errors[1:]) == pytest.approx([4, 4, 4], rel=0.15)
    assert np.linalg.det(volume) == pytest.approx(1, abs=1e-6)


def test_a_path_ends_where_its_energy_has_risen_by_a_thousand(run):
    found = run(
        """(e, {settings, start, scale}) => {
          const model = e.posterior(settings), target = (q, g) => e.logDensity(model, q, g);
          const from = e.stateAt(target, start, scale.map((s) => 1 / s));
          return [0.1, 6].map((step) => {
            const {errors, states, diverged} = e.path(target, from, {step, scale, steps: 50});
            return [errors.slice(0, -1), String(errors.at(-1)), states.length, diverged];
          });
        }""",
        {"settings": settings_of("centered"), "start": START, "scale": SETTINGS["scale"]},
    )
    (_, _, length, diverged), (before, last, short, broken) = found
    assert (length, diverged) == (51, False)
    assert broken
    assert short < 51
    assert max(before) < 1000
    assert not float(last) < 1000


def test_the_longest_stable_step_is_that_of_pymcs_gradients(run):
    given = {"settings": settings_of("centered"), "points": points().tolist(), **SETTINGS}
    found = run(
        """(e, {settings, points, scale}) => {
          const model = e.posterior(settings), target = (q, g) => e.logDensity(model, q, g);
          return points.map((q) => e.longestStableStep(target, q, scale));
        }""",
        given,
    )
    nudges, scale = 1e-4 * np.eye(5), np.array(SETTINGS["scale"])
    density = compiled("centered")
    for q, step in zip(points(), found, strict=True):
        bent = np.array([density(q - h)[1] - density(q + h)[1] for h in nudges]) / 2e-4
        curvature = bent * np.outer(scale, scale)
        fastest = np.linalg.eigvalsh((curvature + curvature.T) / 2).max()
        assert step == pytest.approx(2 / math.sqrt(fastest), rel=1e-6)


SAMPLE = """(e, {settings, start, seed, count, ...given}) => {
  const model = e.posterior(settings), target = (q, g) => e.logDensity(model, q, g);
  return e.sample(target, start, given, e.seeded(seed), count);
}"""


@pytest.mark.parametrize("rule", RULES)
def test_the_same_random_numbers_lead_to_the_same_draws_in_python(run, rule):
    given = {"settings": settings_of("centered"), "start": START, "seed": 11, "count": 40, "rule": rule}
    found = run(SAMPLE, {**given, **SETTINGS, "step": 0.5})
    scale = np.array(SETTINGS["scale"])
    sampler = NoUTurn(compiled("centered"), 0.5, scale, rule, SameNumbers(11))
    position, drawn, broke = np.array(START), [], []
    for _ in range(40):
        position, diverged = sampler.draw(position)
        drawn.append(position)
        broke.append(diverged)
    np.testing.assert_allclose(found["positions"], drawn, rtol=1e-6, atol=1e-6)
    assert found["diverged"] == broke
    assert found["steps"] == sampler.steps
    assert found["smallest"] == pytest.approx(np.min(drawn, axis=0)[1])
    np.testing.assert_allclose(found["last"], drawn[-1], atol=1e-6)


def log_density(q):
    """The centered form with Exponential(1), up to a constant."""
    y, n, sigma, away = np.array(Y), np.array(N), math.exp(q[1]), q[2:] - q[0]
    g = y - n * expit(q[2:]) - away / sigma**2
    value = (y * log_expit(q[2:]) + (n - y) * log_expit(-q[2:]) - away**2 / sigma**2 / 2).sum()
    value += -2 * q[1] - sigma - q[0] ** 2 / 4.5
    slopes = [(away / sigma**2).sum() - q[0] / 2.25, (away**2).sum() / sigma**2 - 2 - sigma]
    return value, np.concatenate([slopes, g])


def test_as_many_of_500_paths_diverge_as_in_python(run):
    """Chains are seeds; the bound is 4.5 standard errors of the difference of the means."""
    for q in points()[:3]:
        np.testing.assert_allclose(log_density(q)[1], compiled("centered")(q)[1], rtol=1e-8)
    ours = run(
        """(e, {settings, start, chains, ...given}) => {
          const model = e.posterior(settings), target = (q, g) => e.logDensity(model, q, g);
          return Array.from({length: chains}, (_, seed) => {
            const found = e.sample(target, start, given, e.seeded(seed, 9), 500);
            return [found.divergences, found.steps, found.acceptance];
          });
        }""",
        {"settings": settings_of("centered"), "start": START, "chains": 24, **SETTINGS},
    )
    python = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sampler = NoUTurn(log_density, SETTINGS["step"], np.array(SETTINGS["scale"]), "ends", rng)
        position, count = np.array(START), 0
        for _ in range(500):
            position, diverged = sampler.draw(position)
            count += diverged
        python.append([count, sampler.steps])
    ours, python = np.array(ours, dtype=float), np.array(python, dtype=float)
    assert python[:, 0].mean() > 3
    for k in (0, 1):
        error = math.hypot(scipy.stats.sem(ours[:, k]), scipy.stats.sem(python[:, k]))
        assert abs(ours[:, k].mean() - python[:, k].mean()) < 4.5 * error
    assert ((ours[:, 2] > 0.3) & (ours[:, 2] < 1)).all()


def test_short_steps_in_a_partial_form_give_the_exact_shares(run):
    given = {"settings": settings_of("by count"), "start": [-0.5, -0.3, 0, 0, 0], "seed": 3}
    metric = {"step": 0.1, "scale": [0.6, 1.0, 0.4, 0.8, 0.9], "count": 8000}
    found = run(SAMPLE, {**given, **metric})
    drawn = np.array(found["positions"])
    exact = exact_posterior(Y, N, sigma_prior=scipy.stats.expon())
    assert found["divergences"] < 20
    assert found["acceptance"] > 0.95
    assert drawn[:, 0].mean() == pytest.approx(float(exact.mean["alpha_bar"]), abs=0.08)
    for limit in (0.1, 0.5, 2.0):
        share = float(exact.cdf("sigma", limit))
        assert (drawn[:, 1] < math.log(limit)).mean() == pytest.approx(share, abs=0.05)


@cache
def presets():
    """A fit of the centered form as a preset, with its divergences."""
    model = varying_intercept_model(Y, N, parameterization="centered")
    kept = {"store_mass_matrix": True, "store_unconstrained": True, "save_warmup": True}
    (fit,) = sample_seeds(model, [5], cores=1, **kept)
    stats = fit["sample_stats"]
    metric = fit["warmup_sample_stats"]["mass_matrix_inv"]
    chains = [
        {
            "step": float(stats["step_size_bar"].isel(chain=chain, draw=-1)),
            "scale": metric.isel(chain=chain).dropna("draw").isel(draw=-1).values.tolist(),
            "position": stats["unconstrained_draw"].isel(chain=chain, draw=-1).values.tolist(),
        }
        for chain in range(fit["posterior"].sizes["chain"])
    ]
    attempt = {
        "id": "centered",
        "label": "centered",
        "page": "notebooks/03_centered.html",
        "form": "centered",
        "sigmaPrior": PRIORS["Exponential(1)"][1],
        "divergences": int(stats["diverging"].sum()),
        "transitions": stats["diverging"].size,
        "chains": chains,
    }
    alpha_prior = {"mean": 0, "sd": 1.5}
    return {**COUNTS, "district": ["1", "2", "3"], "alphaPrior": alpha_prior, "attempts": [attempt]}


@pytest.mark.slow
def test_a_preset_of_a_fit_diverges_as_often_as_the_fit(run):
    schema = json.loads((SCRIPTS[0].parent / "presets.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(presets())
    counts = run(
        """(e, given) => Array.from({length: 30}, (_, seed) =>
          given.attempts[0].chains.reduce((sum, _, chain) => {
            const {model, settings, start} = e.preset(given, "centered", chain);
            const target = (q, g) => e.logDensity(model, q, g);
            return sum + e.sample(target, start, settings, e.seeded(seed, chain), 1000).divergences;
          }, 0))""",
        presets(),
    )
    attempt = presets()["attempts"][0]
    assert attempt["transitions"] == 4000
    assert min(counts) / 1.2 < attempt["divergences"] < 1.2 * max(counts)
    assert np.median(counts) > 20
    missing = (
        "(e, given) => { try { e.preset(given, 'none'); } catch (error) { return error.message; } }"
    )
    assert "no chain 0 of an attempt none" in run(missing, presets())


EXACT = """(e, {settings, district, xs, ys}) => {
  const posterior = e.exact(e.posterior(settings)), rows = e.rowsAt(posterior, ys);
  return [
    e.jointDensity(posterior, e.posterior(settings), district, xs, rows),
    ys.map((v) => e.belowLogSigma(posterior, v)),
    e.logSigmaDensity(posterior, rows),
  ];
}"""
TABLES = {
    "three districts": (Y, N),
    "extremes": ([0, 12, 5, 0], [9, 12, 300, 0]),
    "alike": ([400, 410, 390, 405, 395], [1000] * 5),
}


@cache
def referred(table, prior):
    reference = exact_posterior(*TABLES[table], sigma_prior=PRIORS[prior][0])
    ends = reference.quantile([0.001, 0.999], "alpha")["alpha"].transpose("district", "quantile")
    return reference, ends.to_numpy().tolist()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("table", TABLES)
def test_exact_density_and_share_are_those_of_the_reference(run, table, prior):
    y, n = TABLES[table]
    reference, ends = referred(table, prior)
    ys = np.linspace(-6, 3, 31)
    for district in range(2):
        xs = np.linspace(*ends[district], 41)
        counts = {"successes": y, "trials": n}
        settings = settings_of("centered", prior, counts)
        given = {"settings": settings, "district": district, "xs": xs.tolist(), "ys": ys.tolist()}
        density, below, _ = run(EXACT, given)
        expected = reference.joint_density(district + 1, xs, ys).values
        np.testing.assert_allclose(density, expected, atol=1e-6 * expected.max())
        np.testing.assert_allclose(below, reference.cdf("sigma", np.exp(ys)), atol=1e-5)


@cache
def brute_density(x, log_sigma, district, location, power, marginal):
    """The density of (x_j, log sigma) by sums over even grids of alpha_bar and of the other effects."""
    sigma, means, z = math.exp(log_sigma), np.linspace(-8, 8, 3001), np.linspace(-8, 8, 401)
    log = scipy.stats.norm.logpdf(means, 0, 1.5) + log_sigma - sigma
    for j in range(3):
        if j == district:
            log += scipy.stats.norm.logpdf(x, location * means, sigma**power)
            alpha = means + sigma ** (1 - power) * (x - location * means)
            log += scipy.stats.binom.logpmf(Y[j], N[j], expit(alpha))
        else:
            alpha = means[:, None] + sigma * z
            terms = Y[j] * log_expit(alpha) + (N[j] - Y[j]) * log_expit(-alpha)
            log += logsumexp(terms + scipy.stats.norm.logpdf(z), axis=1) + math.log(z[1] - z[0])
            log += math.log(math.comb(N[j], Y[j]))
    return math.exp(logsumexp(log) + math.log(means[1] - means[0]) - marginal)


@pytest.mark.parametrize("form", ["deviation", "non-centered", "a third"])
def test_exact_density_in_other_coordinates_is_that_of_sums_over_grids(run, form):
    xs, ys = [-1.2, -0.2, 0.5, 1.6], [-3.0, -0.4, 0.8]
    given = {"settings": settings_of(form), "district": 0, "xs": xs, "ys": ys}
    density, _, _ = run(EXACT, given)
    exact = exact_posterior(Y, N, sigma_prior=scipy.stats.expon())
    location, power = {"deviation": (0, 1), "non-centered": (0, 0)}.get(form, (1 / 3, 1 / 3))
    for row, y in zip(density, ys, strict=True):
        for value, x in zip(row, xs, strict=True):
            expected = brute_density(x, y, 0, location, power, exact.log_marginal_likelihood)
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-9)


MOMENTS = """(e, settings) => {
  const model = e.posterior(settings);
  return e.moments(e.exact(e.posterior(settings)), model);
}"""


@pytest.mark.parametrize("prior", ["Exponential(1)", "HalfNormal(0.5)"])
@pytest.mark.parametrize("table", TABLES)
def test_exact_moments_are_those_of_the_reference(run, table, prior):
    y, n = TABLES[table]
    reference, _ = referred(table, prior)
    found = run(MOMENTS, settings_of("centered", prior, {"successes": y, "trials": n}))
    sd = reference.sd["alpha"].values
    np.testing.assert_allclose((found["mean"][2:] - reference.mean["alpha"].values) / sd, 0, atol=1e-5)
    np.testing.assert_allclose(found["sd"][2:] / sd, 1, rtol=1e-5)
    assert found["mean"][0] == pytest.approx(float(reference.mean["alpha_bar"]), abs=1e-5)
    assert found["sd"][0] == pytest.approx(float(reference.sd["alpha_bar"]), rel=1e-5)


@pytest.mark.parametrize("form", ["a third", "non-centered", "by count"])
def test_exact_moments_in_other_coordinates_are_those_of_their_density(run, form):
    found = run(MOMENTS, settings_of(form))
    xs, ys = np.linspace(-11, 11, 551), np.linspace(-16, 4, 121)
    given = {"settings": settings_of(form), "district": 1, "xs": xs.tolist(), "ys": ys.tolist()}
    density = np.array(run(EXACT, given)[0])
    for k, values in ((1, ys[:, None]), (3, xs[None, :])):
        mean = (values * density).sum() / density.sum()
        assert found["mean"][k] == pytest.approx(mean, abs=1e-4)
        sd = math.sqrt(((values - mean) ** 2 * density).sum() / density.sum())
        assert found["sd"][k] == pytest.approx(sd, rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_exact_density_adds_up_to_that_of_log_sigma_in_all_coordinates(run, form):
    given = {"settings": settings_of(form), "district": 1, "ys": [-2.0, 0.0, 1.0]}
    xs = np.linspace(-14, 14, 2801)
    density, _, margin = run(EXACT, {**given, "xs": xs.tolist()})
    np.testing.assert_allclose(np.trapezoid(density, xs, axis=1), margin, rtol=1e-6)


def test_contours_of_a_bell_are_circles_that_hold_their_shares(run):
    axis = np.linspace(-5, 5, 121)
    grid = np.exp(-0.5 * (axis**2 + axis[:, None] ** 2))
    found = run(
        """(e, {axis, grid, shares}) => {
          const levels = e.levels(grid, shares);
          return [levels, levels.map((level) => e.contours(axis, axis, grid, level))];
        }""",
        {"axis": axis.tolist(), "grid": grid.tolist(), "shares": [0.5, 0.9]},
    )
    np.testing.assert_allclose(found[0], [0.5, 0.1], rtol=0.03)
    for level, lines in zip(*found, strict=True):
        (line,) = np.array(lines)
        assert (line[0] == line[-1]).all()
        np.testing.assert_allclose(np.hypot(*line.T), math.sqrt(-2 * math.log(level)), rtol=2e-3)


def test_contours_that_leave_the_grid_are_open_and_saddles_are_kept_apart(run):
    trace = "(e, {xs, ys, grid, level}) => e.contours(xs, ys, grid, level)"
    slope = {"xs": [0, 1, 2], "ys": [0, 1], "grid": [[0, 1, 2], [0, 1, 2]], "level": 0.5}
    assert sorted(map(tuple, *run(trace, slope))) == [(0.5, 0), (0.5, 1)]
    saddle = {"xs": [0, 1], "ys": [0, 1], "grid": [[1, 0], [0, 1]], "level": 0.6}
    lines = run(trace, saddle)
    assert len(lines) == 2
    for line in lines:  # both corners that are above stand alone
        (ax, ay), (bx, by) = line
        assert (ax - ay) * (bx - by) < 0
