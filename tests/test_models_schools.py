"""The schools' models: one posterior in every form, on rows and on sums, in PyMC and in Bambi."""

import numpy as np
import pytest
import scipy.stats

from fieldguide.data import load_schools
from fieldguide.models import log_density_gap
from fieldguide.models.graph import problem_of
from fieldguide.models.schools import (
    FORMULA,
    LKJ_ETA,
    PRIORS,
    bambi_schools,
    schools_model,
    with_catholic,
)
from fieldguide.reference import schools_problem
from fieldguide.reml import cross_products


@pytest.fixture(scope="module")
def few_schools():
    """Twelve schools: as good as 160 for comparing densities."""
    schools = load_schools()
    return schools[schools["school"].isin(schools["school"].unique()[:12])]


def random_point(model, rng):
    return {name: rng.normal(scale=0.7, size=np.shape(v)) for name, v in model.initial_point().items()}


def log_density_of_the_text(schools, beta, sigma, sds, r, u):
    """Log density as the chapter's equations say it, one student at a time."""
    w = (schools["sector"] == "Catholic").to_numpy(float)
    j = np.unique(schools["school"], return_inverse=True)[1]
    a, b = beta[0] + beta[2] * w + u[j, 0], beta[1] + beta[3] * w + u[j, 1]
    cov = np.array([[sds[0] ** 2, r * sds[0] * sds[1]], [r * sds[0] * sds[1], sds[1] ** 2]])
    value = scipy.stats.norm.logpdf(schools["math"], a + b * schools["ses"], sigma).sum()
    value += scipy.stats.multivariate_normal.logpdf(u, [0, 0], cov).sum()
    value += scipy.stats.norm.logpdf(beta, 0, 20).sum()
    value += scipy.stats.halfnorm.logpdf(sds, scale=5).sum()
    value += scipy.stats.halfnorm.logpdf(sigma, scale=10)
    return value + scipy.stats.beta.logpdf((1 + r) / 2, 2, 2)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("form", ["centered", "non-centered"])
def test_every_form_has_the_density_of_the_text(few_schools, form, rows):
    model = schools_model(few_schools, parameterization=form, coordinates="scaled", rows=rows)
    logp, rng = model.compile_logp(), np.random.default_rng(3)
    order = with_catholic(few_schools)
    differences = []
    for _ in range(6):
        point = random_point(model, rng)
        sigma = np.exp(point["sigma_log__"])
        sds = np.exp([point["sd_intercept_log__"], point["sd_slope_log__"]])
        half = 1 / (1 + np.exp(-point["half_logodds__"]))
        r = 2 * half - 1
        # Jacobians of log sds, log sigma and the log odds of (1 + r) / 2
        jacobian = np.log(sds).sum() + np.log(sigma) + np.log(half * (1 - half))
        if form == "centered":
            u = point["u"]
        else:
            factor = np.array([[sds[0], 0], [r * sds[1], sds[1] * np.sqrt(1 - r**2)]])
            u = point["z"] @ factor.T
            jacobian += len(u) * np.log(sds.prod() * np.sqrt(1 - r**2))
        text = log_density_of_the_text(order, point["beta"], sigma, sds, r, u) + jacobian
        differences.append(logp(point) - text)
    # Sums leave a constant out; a constant is no difference.
    assert np.ptp(differences) < 1e-6


@pytest.mark.slow
def test_the_integrated_form_is_the_others_with_the_effects_integrated_out(few_schools):
    """Given the rest, centered density = integrated density x normal density of the effects."""
    integrated = schools_model(few_schools)
    centered = schools_model(few_schools, parameterization="centered", coordinates="scaled")
    rng, sizes = np.random.default_rng(4), []
    for _ in range(3):
        shared = random_point(integrated, rng) | {"sigma_log__": np.array(1.5)}
        logp = centered.compile_logp()
        u = np.zeros((12, 2))
        # A Gaussian integral from its mode and curvature, by Newton with differences.
        step = 1e-3 * np.eye(24)

        def at(v, shared=shared, logp=logp):
            return float(logp(shared | {"u": v.reshape(12, 2)}))

        base = at(u.ravel())
        plus = np.array([at(u.ravel() + s) for s in step])
        minus = np.array([at(u.ravel() - s) for s in step])
        gradient, hessian = (plus - minus) / 2e-3, np.zeros((24, 24))
        hessian[np.diag_indices(24)] = (plus - 2 * base + minus) / 1e-6
        for j in range(12):  # schools are independent given the rest
            a, b = step[2 * j], step[2 * j + 1]
            mixed = at(a + b) - at(a - b) - at(b - a) + at(-a - b)
            hessian[2 * j, 2 * j + 1] = hessian[2 * j + 1, 2 * j] = mixed / 4e-6
        log_integral = base + 0.5 * gradient @ np.linalg.solve(-hessian, gradient)
        log_integral += 12 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(-hessian)[1]
        sizes.append(log_integral - float(integrated.compile_logp()(shared)))
    assert np.ptp(sizes) < 1e-3 * max(1, abs(sizes[0]))


@pytest.mark.parametrize("form", ["centered", "non-centered"])
def test_packed_and_scaled_coordinates_belong_to_one_problem(few_schools, form):
    problems = {
        problem_of(schools_model(few_schools, parameterization=form, coordinates=c, rows=rows))
        for c in ("packed", "scaled")
        for rows in (False, True)
    }
    assert problems == {
        schools_problem(cross_products(FORMULA, with_catholic(few_schools)), lkj_eta=LKJ_ETA, **PRIORS)
    }


def test_rows_and_sums_differ_by_a_constant(few_schools):
    rows, sums = (
        schools_model(few_schools, parameterization="centered", rows=rows) for rows in (True, False)
    )
    names = {rv.name: rv.name for rv in rows.free_RVs}
    assert log_density_gap(rows, sums, names, np.random.default_rng(5), points=5) < 1e-4


def test_bambi_belongs_to_the_answer_without_correlation(few_schools):
    model = bambi_schools(few_schools, noncentered=True)
    problem = problem_of(model.backend.model)
    assert problem.prior("correlation") == "0"
    sums = cross_products(FORMULA, with_catholic(few_schools))
    assert problem == schools_problem(sums, lkj_eta=None, **PRIORS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameterization": "centred"}, "Unknown parameterization 'centred'"),
        ({"coordinates": "polar"}, "Unknown coordinates 'polar'"),
        ({"rows": True}, "no rows left"),
    ],
)
def test_unknown_forms_are_refused(few_schools, arguments, message):
    with pytest.raises(ValueError, match=message):
        schools_model(few_schools, **arguments)
