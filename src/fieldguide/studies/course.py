"""Every pick that a course can hand out, tried: fitted, and whether it teaches what it should."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import pymc as pm

from fieldguide.course.faults import FAULTS, faulty_fit
from fieldguide.course.personal import schools_of, three_districts, trial_of
from fieldguide.data import count_by_district, load_bangladesh, load_schools, load_three_districts
from fieldguide.fits import compiled_model, sample_seeds
from fieldguide.models import varying_intercept_model
from fieldguide.models.schools import FORMULA, with_catholic
from fieldguide.priors import SIGMA_PRIOR
from fieldguide.problem import count_digest
from fieldguide.reference import exact_posterior, trial_posterior
from fieldguide.reml import cross_products, fit_reml
from fieldguide.scores import raised, score
from fieldguide.studies import Study
from fieldguide.studies.trial_fits import diagnostics, sample_trial

APART = 3
"""How many times larger each of three districts is than the next."""
LARGE, SMALL = 45, 15
"""Women at least in the largest of three districts, and at most in the smallest."""
SEEDS = (1, 2)
"""Each pick is fitted with these."""

CENTERED_TARGET, NON_CENTERED_TARGET = 0.8, 0.99
TROUBLE = 20
"""Divergences of 4000, at least, where a form must be in trouble."""

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
    counts = load_three_districts()
    exact = exact_posterior(
        counts["users"].to_numpy(),
        counts["women"].to_numpy(),
        sigma_prior=SIGMA_PRIOR,
        district=list(counts.index),
    )
    one = score(faulty_fit(fault, int(seed)), exact, label="the student's fit")
    ess = min(one.ess_bulk, one.ess_tail)
    error = float(one.errors["sd_error"].abs().max())
    flags = raised(
        divergences=0, rhat=one.rhat, ess_bulk=one.ess_bulk, ess_tail=one.ess_tail, bfmi=one.bfmi
    )
    quiet = one.divergences == 0 and not any(flags.values())
    shows = {
        "neck": one.divergences >= TROUBLE,
        "few-draws": one.divergences == 0 and ess < 200 and one.rhat < 1.1,
        "mixed": one.divergences == 0 and one.rhat > 1.1,
        "other-prior": quiet and error > 0.4,
        "swapped": quiet and error > 0.4,
        "sound": quiet and error < 0.1,
    }
    row = {"fault": fault, "divergences": one.divergences, "rhat": one.rhat, "ess": ess, "error": error}
    return row | {"admissible": bool(shows[fault])}


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
        name="personal_fit",
        title="every saved fit that a student can be given, and whether its fault shows",
        design=fits_design,
        fit=diagnose_fit,
        group=(),
        data=_districts_table,
    ),
)
