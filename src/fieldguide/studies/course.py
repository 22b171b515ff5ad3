"""Every pick that a course can hand out, tried: fitted, and whether it teaches what it should."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.course.faults import FAULTS, TROUBLE, faulty_fit, look
from fieldguide.course.grading import judge_diagnostics, judge_districts
from fieldguide.course.personal import admissible, schools_of, three_districts, trial_of
from fieldguide.data import count_by_district, load_bangladesh, load_schools, load_three_districts
from fieldguide.fits import compiled_model, sample_seeds
from fieldguide.models import varying_intercept_model
from fieldguide.models.schools import FORMULA, with_catholic
from fieldguide.priors import SIGMA_PRIOR
from fieldguide.problem import count_digest
from fieldguide.reference import exact_posterior, trial_posterior
from fieldguide.reml import cross_products, fit_reml
from fieldguide.scores import score
from fieldguide.studies import Study
from fieldguide.studies.trial_fits import diagnostics, sample_trial

APART = 3
"""How many times larger each of three districts is than the next."""
LARGE, SMALL = 45, 15
"""Women at least in the largest of three districts, and at most in the smallest."""
SEEDS = (1, 2)
"""Each pick is fitted with these."""

CENTERED_TARGET, NON_CENTERED_TARGET = 0.8, 0.99
_compiling = threading.Lock()


# ---------------------------------------------------------------------------------------------
# Three districts


def districts_design() -> pd.DataFrame:
    """Return the triples of districts whose sizes lie widely apart."""
    women = count_by_district(load_bangladesh())["women"]
    picks = [
        f"{large}-{middle}-{small}"
        for large in women.index[women >= LARGE]
        for middle in women.index[women * APART <= women[large]]
        for small in women.index[(women * APART <= women[middle]) & (women <= SMALL)]
    ]
    return pd.DataFrame({"pick": picks})


@cache
def _districts(parameterization: str) -> pm.Model:
    counts = load_three_districts()
    users, women = counts["users"].to_numpy(), counts["women"].to_numpy()
    return varying_intercept_model(users, women, parameterization=parameterization, mutable=True)


def fit_districts(cell: Mapping) -> dict:
    """Fit three districts in both forms, with every seed.

    Parameters
    ----------
    cell : mapping
        ``pick``, as `fieldguide.course.personal.three_districts` reads it.

    Returns
    -------
    dict
        ``centered`` and ``non_centered``: the fewest and the most divergences of 4000; the
        non-centered fits' worst ``rhat`` and ``ess``, and ``error``, the largest error of a mean in
        posterior standard deviations; ``admissible``.
    """
    counts = three_districts(cell["pick"])
    users, women = counts["users"].to_numpy(), counts["women"].to_numpy()
    exact = exact_posterior(users, women, sigma_prior=SIGMA_PRIOR)
    found = {}
    for form, target in (("centered", CENTERED_TARGET), ("non-centered", NON_CENTERED_TARGET)):
        with _compiling:
            model = _districts(form)
            compiled_model(model)
            data = {"successes_data": users, "trials": women}
            fits = sample_seeds(model, SEEDS, target_accept=target, cores=1, data=data)
        found[form] = [score(fit, exact) for fit in fits]
    sound = found["non-centered"]
    row = {
        "centered": min(one.divergences for one in found["centered"]),
        "non_centered": max(one.divergences for one in sound),
        "rhat": max(one.rhat for one in sound),
        "ess": min(min(one.ess_bulk, one.ess_tail) for one in sound),
        "error": max(float(one.errors["sd_error"].abs().max()) for one in sound),
    }
    good = not any(any(one.warnings.values()) for one in sound) and row["error"] < 0.2
    return row | {"admissible": row["centered"] >= TROUBLE and good}


# ---------------------------------------------------------------------------------------------
# Trials, schools, faulty fits


def trial_design() -> pd.DataFrame:
    """Return the numbers of the trials."""
    return pd.DataFrame({"pick": range(300)})


def fit_trial(cell: Mapping) -> dict:
    """Fit a trial in both forms at ``target_accept`` 0.95, beside its exact answer.

    Parameters
    ----------
    cell : mapping
        ``pick``, a number for `fieldguide.course.personal.trial_of`.

    Returns
    -------
    dict
        ``centered`` and ``non_centered``, divergences of 4000; the non-centered fit's ``rhat``, ``ess``
        and ``error`` (see `fit_districts`); ``admissible``.
    """
    trial = trial_of(int(cell["pick"]))
    exact = trial_posterior(trial, log2_points=9)
    found = {}
    for form in ("centered", "non-centered"):
        fit = sample_trial(trial, seed=SEEDS[0], parameterization=form, target_accept=0.95)
        found[form] = diagnostics(fit)
    sound = found["non-centered"]  # whose fit is the last
    means = fit["posterior"].to_dataset()[list(exact.mean.data_vars)].mean(("chain", "draw"))
    error = abs(means - exact.mean) / exact.sd
    row = {
        "centered": found["centered"]["divergences"],
        "non_centered": sound["divergences"],
        "rhat": sound["rhat"],
        "ess": min(sound["ess_bulk"], sound["ess_tail"]),
        "error": max(float(one.max()) for one in error.data_vars.values()),
    }
    good = row["non_centered"] <= 5 and row["rhat"] <= 1.01 and row["ess"] >= 400 and row["error"] < 0.2
    return row | {"admissible": row["centered"] >= TROUBLE and good}


def schools_design() -> pd.DataFrame:
    """Return the numbers of the draws of schools."""
    return pd.DataFrame({"pick": range(400)})


def fit_schools(cell: Mapping) -> dict:
    """Fit some of the schools by restricted maximum likelihood.

    Parameters
    ----------
    cell : mapping
        ``pick``, a number for `fieldguide.course.personal.schools_of`.

    Returns
    -------
    dict
        ``correlation``, ``sd_intercept``, ``sd_slope``; ``admissible`` where the fit is singular because
        of the correlation, with slopes that vary.
    """
    fit = fit_reml(cross_products(FORMULA, with_catholic(schools_of(int(cell["pick"])))))
    row = {name: float(getattr(fit, name)) for name in ("correlation", "sd_intercept", "sd_slope")}
    by_correlation = abs(row["correlation"]) > 0.999 and row["sd_slope"] > 0.1
    return row | {"admissible": bool(fit.singular and by_correlation)}


def fits_design() -> pd.DataFrame:
    """Return the faults with the seeds that make other draws of them."""
    return pd.DataFrame({"pick": [f"{fault}-{seed}" for fault in FAULTS for seed in range(40)]})


def diagnose_fit(cell: Mapping) -> dict:
    """Make a fit with a fault, and see whether it shows as it should, and nothing else does.

    Parameters
    ----------
    cell : mapping
        ``pick``, a fault and a seed.

    Returns
    -------
    dict
        ``fault``, ``divergences``, ``rhat``, ``ess`` and ``error`` (see `fit_districts`);
        ``admissible``.
    """
    fault, seed = cell["pick"].rsplit("-", 1)
    found = look(fault, faulty_fit(fault, int(seed)))
    return {"fault": fault, "admissible": found.pop("shows")} | found


# ---------------------------------------------------------------------------------------------
# Verdicts

CAREFUL = ((0.99, 4000), (0.999, 8000), (0.9995, 16000))
"""Targets and draws that a careful student tries with the centered form, until nothing complains."""

SUBMITTED = {
    "non-centered": 1400,
    "centered with care": 100,
    "Bambi": 100,
    "another prior": 60,
    "steps too long": 60,
    "sigma forgotten": 60,
    "another student's data": 60,
    "a variance for a standard deviation": 60,
    "another order of the districts": 60,
    "parameters under each other's names": 60,
    "too few draws": 60,
}
"""How many fits of each style are judged; the first three are right."""


def verdicts_design() -> pd.DataFrame:
    """Return the styles with picks and seeds, Bambi's with few picks, for each is compiled anew."""
    picks = admissible("districts")["pick"].tolist()
    rows = []
    for style, count in SUBMITTED.items():
        some = picks[::50] if style == "Bambi" else picks
        rows += [{"style": style, "pick": some[k % len(some)], "seed": 1000 + k} for k in range(count)]
    return pd.DataFrame(rows)


@cache
def _submitted(style: str, pick: str) -> pm.Model:
    """Return the model that a student of a style has written; of all but Bambi's the data can change."""
    counts = three_districts(pick or "1-2-3")
    users, women = counts["users"].to_numpy(), counts["women"].to_numpy()
    if style == "Bambi":
        import bambi as bmb  # takes seconds, and few callers need it

        table = counts.reset_index().assign(district=lambda one: one["district"].astype(str))
        spread = bmb.Prior("Normal", mu=0, sigma=bmb.Prior("Exponential", lam=1))
        priors = {"Intercept": bmb.Prior("Normal", mu=0, sigma=1.5), "1|district": spread}
        formula = "p(users, women) ~ 1 + (1 | district)"
        model = bmb.Model(formula, table, family="binomial", priors=priors)
        model.build()
        return model.backend.model
    if style == "sigma forgotten":
        with pm.Model() as model:
            alpha_bar, z = pm.Normal("alpha_bar", 0, 1.5), pm.Normal("z", shape=len(counts))
            pm.Exponential("sigma", 1)
            alpha = pm.Deterministic("alpha", alpha_bar + z)
            successes, trials = pm.Data("successes_data", users), pm.Data("trials", women)
            pm.Binomial("successes", trials, logit_p=alpha, observed=successes)
        return model
    form = "centered" if style in ("centered with care", "steps too long") else "non-centered"
    prior = scipy.stats.halfnorm(scale=0.5) if style == "another prior" else SIGMA_PRIOR
    return varying_intercept_model(users, women, parameterization=form, sigma_prior=prior, mutable=True)


def _fit_submitted(style: str, pick: str, seed: int, **settings: float) -> xr.DataTree:
    import nutpie

    counts = three_districts(pick)
    with _compiling:
        compiled = compiled_model(_submitted(style, pick if style == "Bambi" else ""))
    if style != "Bambi":
        data = {"successes_data": counts["users"].to_numpy(), "trials": counts["women"].to_numpy()}
        compiled = compiled.with_data(**data)
    return nutpie.sample(compiled, seed=seed, chains=4, cores=1, progress_bar=False, **settings)


def _edited(style: str, fit: xr.DataTree) -> xr.DataTree:
    draws = fit["posterior"].to_dataset()
    if style == "a variance for a standard deviation":
        draws = draws.assign(sigma=draws["sigma"] ** 2)
    elif style == "another order of the districts":
        (inner,) = (dim for dim in draws["alpha"].dims if dim not in ("chain", "draw"))
        draws["alpha"] = draws["alpha"].copy(data=draws["alpha"].isel({inner: [1, 0, 2]}).values)
    elif style == "parameters under each other's names":
        draws = draws.assign(sigma=draws["alpha_bar"], alpha_bar=draws["sigma"])
    return xr.DataTree.from_dict({"posterior": draws, "sample_stats": fit["sample_stats"].to_dataset()})


def give_verdict(cell: Mapping) -> dict:
    """Fit as a student of some style does, and judge the fit.

    Parameters
    ----------
    cell : mapping
        ``style``, one of `SUBMITTED`; ``pick``; ``seed``.

    Returns
    -------
    dict
        ``handed_in``, whether the student saw nothing wrong or looked for nothing; ``passed``;
        ``points`` of ten; ``means`` and ``sds``, whether these were found right; ``lost``, the
        criteria that were not met.
    """
    style, pick, seed = cell["style"], cell["pick"], int(cell["seed"])
    counts, handed_in = three_districts(pick), True
    if style == "centered with care":
        for target, draws in CAREFUL:
            fit = _fit_submitted(style, pick, seed, target_accept=target, draws=draws, tune=2000)
            handed_in = judge_diagnostics(fit).passed
            if handed_in:
                break
    else:
        target = 0.8 if style == "steps too long" else 0.99
        draws = 25 if style == "too few draws" else 2000
        fitted = pick
        if style == "another student's data":
            picks = admissible("districts")["pick"].tolist()
            fitted = picks[(picks.index(pick) + 1 + seed) % len(picks)]
        fit = _fit_submitted(style, fitted, seed, target_accept=target, draws=draws, tune=1000)
        fit = _edited(style, fit)
    verdict = judge_districts(fit, counts, SIGMA_PRIOR)
    met = {one.what: one.met for one in verdict.criteria}
    return {
        "handed_in": handed_in,
        "passed": verdict.passed,
        "points": float(verdict.points),
        "means": met["the right means"],
        "sds": met["the right standard deviations"],
        "lost": ", ".join(what for what, good in met.items() if not good),
    }


# ---------------------------------------------------------------------------------------------
# What is stored


def _districts_table() -> dict:
    counts = count_by_district(load_bangladesh())
    digest = count_digest(counts.index, counts["users"].to_numpy(), counts["women"].to_numpy())
    return {"table": "bangladesh.csv", "digest": digest}


def _simulated() -> dict:
    return {"simulated": "fieldguide.course.personal.trial_of", "trials": len(trial_design())}


def _schools_table() -> dict:
    schools = load_schools()
    return {
        "table": "schools.csv",
        "rows": len(schools),
        "sum of math": float(np.round(schools["math"].sum(), 6)),
    }


STUDIES = (
    Study(
        name="personal_districts",
        title="every triple of districts that a student can be given, in both forms",
        design=districts_design,
        fit=fit_districts,
        group=(),
        data=_districts_table,
    ),
    Study(
        name="personal_trial",
        title="every trial that a student can be given, in both forms",
        design=trial_design,
        fit=fit_trial,
        group=(),
        data=_simulated,
    ),
    Study(
        name="personal_schools",
        title="every draw of 60 schools that a student can be given, by REML",
        design=schools_design,
        fit=fit_schools,
        group=(),
        data=_schools_table,
    ),
    Study(
        name="course_verdicts",
        title="right and wrong fits of students' districts, and what the verdict on them is",
        design=verdicts_design,
        fit=give_verdict,
        group=("style",),
        data=_districts_table,
    ),
    Study(
        name="personal_fit",
        title="every saved fit that a student can be given, and whether its fault shows",
        design=fits_design,
        fit=diagnose_fit,
        group=(),
        data=_districts_table,
    ),
)
