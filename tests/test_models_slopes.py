"""Varying slopes: counts by pattern, one density in four forms, average effects, lme4's likelihood."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.optimize
import scipy.stats
import xarray as xr
from chapters import run
from scipy.special import expit, log_expit

import fieldguide as fg
from fieldguide.data import quoted
from fieldguide.models.graph import log_density_gap, parameterization_of, problem_of
from fieldguide.models.slopes import (
    EFFECTS,
    FORMS,
    SlopesError,
    SlopesPriors,
    count_patterns,
    design,
    slopes_model,
    urban_effect,
)

COVARIATES = ("age_centered", "living_children")


@pytest.fixture(scope="module")
def women():
    return fg.load_bangladesh()


@pytest.fixture(scope="module")
def few(women):
    """Some women of four districts, one of them (3) without urban women."""
    return women.query("district in (1, 2, 3, 4)").groupby("district").head(25)


# ---------------------------------------------------------------------------------------------
# Counts


def test_patterns_are_counted_and_nobody_is_lost(women):
    counts = count_patterns(women)
    one = women.query("district == 1 and urban == 1")["use_contraception"]
    row = counts.query("district == 1 and urban == 1").iloc[0]
    assert (row["women"], row["users"]) == (len(one), one.sum())
    full = count_patterns(women, COVARIATES)
    for table in (counts, full):
        assert table["women"].sum() == len(women)
        assert table["users"].sum() == women["use_contraception"].sum()
        assert (table["users"] <= table["women"]).all()
        assert (table["women"] > 0).all()
    assert len(full) == len(women[["district", "urban", *COVARIATES]].drop_duplicates())


def test_categories_are_held_against_their_first_level(women):
    counts = count_patterns(women, COVARIATES)
    columns = design(counts, COVARIATES)
    levels = [f"living_children[{level}]" for level in ("1", "2", "3+")]
    assert list(columns) == ["age_centered", *levels]
    assert (columns[levels].sum(axis=1) == (counts["living_children"] != "0")).all()
    assert (columns["age_centered"] == counts["age_centered"]).all()


BAD = {
    "no column": (lambda t: t.drop(columns="urban"), r"no column 'urban'; it has woman"),
    "no covariate": (lambda t: t.drop(columns="age_centered"), "no column 'age_centered'"),
    "nobody": (lambda t: t.iloc[:0], "no rows"),
    "empty": (
        lambda t: t.assign(age_centered=t["age_centered"].where(t.index != 7)),
        "Row 7: no value in column 'age_centered'.*1 such",
    ),
    "not 0 or 1": (
        lambda t: t.assign(urban=t["urban"].where(t.index != 5, 2)),
        "Row 5: column 'urban' is 2; it must be 0 or 1",
    ),
    "infinite": (
        lambda t: t.assign(age_centered=t["age_centered"].where(t.index != 3, np.inf)),
        "Row 3: column 'age_centered' is infinite",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_table_is_refused_in_one_sentence(women, fault):
    change, said = BAD[fault]
    table = change(women.head(30))
    for refused in (count_patterns, lambda *args: slopes_model(args[0], covariates=args[1])):
        with pytest.raises(SlopesError, match=said) as error:
            refused(table, COVARIATES)
        assert "\n" not in str(error.value)


def test_unknown_names_and_priors_are_refused(few):
    with pytest.raises(ValueError, match="Unknown name 'centred'; use one of centered"):
        slopes_model(few, parameterization="centred")
    with pytest.raises(ValueError, match="Unknown name 'both'; use one of slopes, levels"):
        slopes_model(few, effects="both")
    with pytest.raises(SlopesError, match=r"sds is HalfCauchy\(1\); use scipy.stats.expon or halfnorm"):
        slopes_model(few, priors=SlopesPriors(sd=scipy.stats.halfcauchy()))
    with pytest.raises(SlopesError, match="covariates must be normal, not expon"):
        slopes_model(few, covariates=COVARIATES, priors=SlopesPriors(covariate=scipy.stats.expon()))


# ---------------------------------------------------------------------------------------------
# Densities, held against formulas without PyMC


def formula(few, form, effects, correlated, covariates):
    """Log density of a form at a point of its own, written with SciPy."""
    j = pd.factorize(few["district"], sort=True)[0]
    urban, y = few["urban"].to_numpy(), few["use_contraception"].to_numpy()
    names = EFFECTS[effects]
    centered = dict(zip(names, FORMS[form], strict=True))

    def spread(q):
        if not correlated:
            logs = np.array([q[f"sd_{name}_log__"] for name in names])
            sd = np.exp(logs)
            return sd, 0.0, scipy.stats.expon.logpdf(sd).sum() + logs.sum()
        log11, l21, log22 = q["lkj_cholesky-cov-packed__"]
        l11, l22 = np.exp(log11), np.exp(log22)
        sd = np.array([l11, np.hypot(l21, l22)])
        r = l21 / sd[1]
        # d(sd, r) / d(l21, l22), and that of the logarithms; LKJ(2) of two: (1 + r) / 2 is Beta(2, 2)
        jacobian = 0.5 * np.log1p(-(r**2)) - np.log(sd[1]) + log11 + log22
        prior = scipy.stats.expon.logpdf(sd).sum() + scipy.stats.beta.logpdf((1 + r) / 2, 2, 2)
        return sd, r, prior + jacobian

    def log_density(q):
        sd, r, total = spread(q)
        total += scipy.stats.norm.logpdf(q["intercept"], 0, 1.5) + scipy.stats.norm.logpdf(q["slope"])
        means = [q["intercept"], q["slope"] + (q["intercept"] if effects == "levels" else 0)]
        values = []
        for k, name in enumerate(names):
            mean = means[k] + (r * sd[1] * (values[0] - means[0]) / sd[0] if k else 0)
            scale = sd[k] * (np.sqrt(1 - r**2) if k else 1)
            if centered[name]:
                values.append(q[f"{name}_by_district"])
                total += scipy.stats.norm.logpdf(values[-1], mean, scale).sum()
            else:
                values.append(mean + scale * q[f"z_{name}"])
                total += scipy.stats.norm.logpdf(q[f"z_{name}"]).sum()
        b = values[1] - (values[0] if effects == "levels" else 0)
        eta = values[0][j] + b[j] * urban
        if covariates:
            eta = eta + design(few, covariates).to_numpy() @ q["coefficient"]
            total += scipy.stats.norm.logpdf(q["coefficient"]).sum()
        return total + log_expit(np.where(y == 1, eta, -eta)).sum()

    return log_density


CASES = [
    *((form, effects, True, ()) for form in FORMS for effects in EFFECTS),
    ("centered", "slopes", False, ()),
    ("non-centered", "levels", False, ()),
    ("centered intercepts", "slopes", True, COVARIATES),
]


@pytest.mark.parametrize(("form", "effects", "correlated", "covariates"), CASES)
def test_every_form_has_the_density_of_the_same_formula(few, form, effects, correlated, covariates):
    model = slopes_model(
        few, parameterization=form, effects=effects, correlated=correlated, covariates=covariates
    )
    expected = formula(few, form, effects, correlated, covariates)
    log_density = model.compile_logp(mode="FAST_COMPILE")
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(10):
        point = {
            name: rng.normal(scale=0.7, size=np.shape(value))
            for name, value in model.initial_point().items()
        }
        differences.append(float(log_density(point)) - expected(point))
    assert np.ptp(differences) < 1e-6


@pytest.mark.parametrize("covariates", [(), COVARIATES])
def test_rows_and_counts_are_one_posterior(few, covariates):
    counts = slopes_model(few, covariates=covariates)
    rows = slopes_model(few, covariates=covariates, rows=True)
    names = {rv.name: rv.name for rv in counts.free_RVs}
    assert log_density_gap(counts, rows, names, np.random.default_rng(1)) < 1e-8
    other = slopes_model(few.assign(urban=0), covariates=covariates)
    assert log_density_gap(counts, other, names, np.random.default_rng(1)) > 0.1
    assert problem_of(rows) == problem_of(counts)


def test_forms_share_a_problem_and_codings_and_data_do_not(few):
    models = [slopes_model(few, parameterization=form) for form in FORMS]
    assert {parameterization_of(model) for model in models} == set(FORMS)
    assert len({problem_of(model) for model in models}) == 1
    others = [
        slopes_model(few, effects="levels"),
        slopes_model(few, correlated=False),
        slopes_model(few, covariates=["age_centered"]),
        slopes_model(few, priors=SlopesPriors(lkj_eta=4.0)),
        slopes_model(few.iloc[1:]),
    ]
    assert len({problem_of(model) for model in [models[0], *others]}) == 6


def test_the_prior_of_the_correlation_depends_on_the_coding(few):
    """Uncorrelated slopes make urban and rural log odds correlated, and the other way round."""
    both = []
    for effects in ("slopes", "levels"):
        model = slopes_model(few, effects=effects, correlated=False)
        names = ("district_intercept", "district_slope")
        both.append(pm.draw([model[name] for name in names], 4000, random_seed=1))
    within = [np.array(pair) - np.mean(pair, axis=-1, keepdims=True) for pair in both]
    (a, b), (c, d) = within
    assert abs(np.mean(a * b)) < 0.2 < np.mean(a * (a + b))
    assert abs(np.mean(c * (c + d))) < 0.2 < -np.mean(c * d)


# ---------------------------------------------------------------------------------------------
# Average effects


def drawn(few, covariates, seed=2):
    rng = np.random.default_rng(seed)
    labels = [str(label) for label in sorted(few["district"].unique())]
    shape = ("chain", "draw", "district")
    data = {
        f"district_{k}": (shape, rng.normal(size=(2, 3, len(labels)))) for k in ("intercept", "slope")
    }
    coords = {"district": labels}
    if covariates:
        coords["covariate"] = list(design(few, covariates))
        data["coefficient"] = (("chain", "draw", "covariate"), rng.normal(0, 0.3, (2, 3, 4)))
    return xr.Dataset(data, coords=coords)


@pytest.mark.parametrize("covariates", [(), COVARIATES])
def test_average_effects_are_means_over_women(few, covariates):
    draws = drawn(few, covariates)
    effect = urban_effect(draws, few, covariates)
    columns = design(few, covariates)
    for chain, draw in ((0, 0), (1, 2)):
        at = draws.isel(chain=chain, draw=draw)
        differences = []
        for row, district in few["district"].items():
            a, b = (
                float(at[f"district_{k}"].sel(district=str(district))) for k in ("intercept", "slope")
            )
            a += float(columns.loc[row].to_numpy() @ at["coefficient"].to_numpy()) if covariates else 0
            differences.append(expit(a + b) - expit(a))
        each = pd.Series(differences, index=few["district"]).groupby(level=0).mean()
        found = effect.isel(chain=chain, draw=draw)
        assert float(found["average"]) == pytest.approx(np.mean(differences))
        np.testing.assert_allclose(found["by_district"], each)
    assert effect["by_district"].dims == ("chain", "draw", "district")


def test_average_effects_refuse_what_the_draws_do_not_have(few, women):
    with pytest.raises(SlopesError, match=r"The draws have no district 5; they have 1, 2, 3, 4\."):
        urban_effect(drawn(few, ()), women)
    with pytest.raises(SlopesError, match="covariates are age_centered; those of the draws are none"):
        urban_effect(drawn(few, ()), few, ["age_centered"])
    with pytest.raises(SlopesError, match="are none; those of the draws are age_centered, living"):
        urban_effect(drawn(few, COVARIATES), few)


# ---------------------------------------------------------------------------------------------
# lme4: its likelihood by Laplace's approximation, here without R


def laplace(women, fixed, sds, correlation, columns):
    """Laplace's approximation of the log likelihood of ``(urban | district)``, by Newton's method."""
    columns = np.column_stack([np.ones(len(women)), women["urban"], columns])
    offset = columns @ fixed
    r = correlation
    cov = np.outer(sds, sds) * [[1, r], [r, 1]]
    precision, log_det = np.linalg.inv(cov), np.linalg.slogdet(cov)[1]
    z = columns[:, :2]
    y = women["use_contraception"].to_numpy()
    total = 0.0
    for rows in women.reset_index(drop=True).groupby("district").indices.values():
        u = np.zeros(2)
        for _ in range(50):
            p = expit(offset[rows] + z[rows] @ u)
            gradient = z[rows].T @ (y[rows] - p) - precision @ u
            curvature = (z[rows].T * (p * (1 - p))) @ z[rows] + precision
            step = np.linalg.solve(curvature, gradient)
            u += step
            if np.abs(step).max() < 1e-12:
                break
        eta = offset[rows] + z[rows] @ u
        likelihood = log_expit(np.where(y[rows] == 1, eta, -eta)).sum()
        total += likelihood - 0.5 * (u @ precision @ u + log_det + np.linalg.slogdet(curvature)[1])
    return total


@pytest.mark.parametrize("fit", ["urban_slope", "full"])
def test_lme4s_figures_maximise_the_likelihood_that_it_states(women, fit):
    stored = quoted("r_slopes")["fits"][fit]
    covariates = COVARIATES if fit == "full" else ()
    fixed = np.array(list(stored["fixed"].values()))
    start = np.array([*fixed, stored["sd_intercept"], stored["sd_slope"], stored["correlation"]])
    columns = design(women, covariates).to_numpy()

    def at(point):
        return laplace(women, point[:-3], point[-3:-1], point[-1], columns)

    top = at(start)
    assert top == pytest.approx(stored["logLik"], abs=2e-4)
    se = np.array([*stored["se"].values(), 0.1, 0.2, 0.1])
    for k in range(len(start)):
        for sign in (-1, 1):
            moved = start.copy()
            moved[k] += sign * se[k] / 2
            assert 0.01 < top - at(moved) < 2, (k, sign)


def test_lme4s_slopes_are_the_modes_of_its_model(women):
    """District 11 has no urban women: its slope is what the correlation makes of its intercept."""
    stored = quoted("r_slopes")["fits"]
    fit = stored["urban_slope"]
    y = women.query("district == 11")["use_contraception"]
    alpha, beta = fit["fixed"].values()

    def negative(u):
        eta = alpha + u
        return len(y) * np.log1p(np.exp(eta)) - y.sum() * eta + u**2 / (2 * fit["sd_intercept"] ** 2)

    u = scipy.optimize.minimize_scalar(negative, bounds=(-3, 3), method="bounded").x
    slope = beta + fit["correlation"] * fit["sd_slope"] / fit["sd_intercept"] * u
    assert not women.query("district == 11")["urban"].any()
    assert stored["slopes"]["11"] == pytest.approx(slope, abs=1e-3)


# ---------------------------------------------------------------------------------------------
# The model that chapter 17 writes


@pytest.fixture(scope="module")
def chapter_17():
    return run("17_varying_slopes", "model")["model"]


@pytest.mark.parametrize(("form", "switch"), [(form, [float(c) for c in FORMS[form]]) for form in FORMS])
@pytest.mark.parametrize("effects", EFFECTS)
def test_chapter_17s_model_is_the_packages_in_every_form(women, chapter_17, form, switch, effects):
    model = chapter_17
    with model:
        pm.set_data({"c": switch, "on": 1.0, "levels": float(effects == "levels")})
    other = slopes_model(women, parameterization=form, effects=effects)
    first, second = (
        f"{name}_by_district" if centered else f"z_{name}"
        for name, centered in zip(EFFECTS[effects], FORMS[form], strict=True)
    )
    same = {"alpha": "intercept", "beta": "slope", "lkj": "lkj", "x": first, "v": second}
    if effects == "slopes" or not FORMS[form][1]:  # its centered second effect is always the slope
        assert log_density_gap(model, other, same, np.random.default_rng(2), points=5) < 1e-5
    with model:
        pm.set_data({"on": 0.0})
    assert log_density_gap(model, other, same, np.random.default_rng(2), points=5) > 0.1
