"""The districts' study: a page's small part agrees with the stored whole, and the whole says why."""

import pytest
import scipy.stats

from fieldguide.data import load_three_districts, stored
from fieldguide.fits import label, problem_of_fit
from fieldguide.grid import agreement
from fieldguide.reference import districts_problem
from fieldguide.studies.districts import (
    factorial_design,
    reduced_design,
    remedies_design,
    sample_three_districts,
)


@pytest.fixture(scope="module")
def factorial():
    return stored("factorial").table


@pytest.mark.parametrize("name", ["factorial", "remedies"])
def test_every_stored_fit_has_its_diagnostics(name):
    figures = ["divergences", "rhat", "ess_bulk", "ess_tail", "bfmi", "missing_share", "gradients"]
    assert stored(name).table[figures].notna().all(axis=None)


def test_every_remedy_changes_one_thing_of_the_same_start():
    design = remedies_design()
    settings = ["target_accept", "sampler", "tune", "draws", "metric"]
    start = design.loc[design["remedy"] == "none", settings].iloc[0]
    changed = {
        remedy: set(part.columns[(part != start).any()])
        for remedy, part in design.groupby("remedy")[settings]
    }
    with_pymc = {"PyMC's sampler, target_accept 0.95", "PyMC's sampler, dense metric"}
    assert all(len(changed[remedy]) == 2 and "sampler" in changed[remedy] for remedy in with_pymc)
    single = changed.keys() - with_pymc - {"none", "districts integrated out"}
    assert all(len(changed[remedy]) == 1 for remedy in single)
    integrated = design[design["remedy"] == "districts integrated out"]
    assert set(integrated["parameterization"]) == {"marginal"}


def test_the_fits_are_of_the_three_districts_in_the_table_and_of_their_cell():
    counts = load_three_districts()
    cell = {"parameterization": "deviation", "prior": "HalfNormal(0.25)", "target_accept": 0.9}
    fit = sample_three_districts(cell | {"seed": 3, "draws": 50, "tune": 50})
    assert problem_of_fit(fit) == districts_problem(
        counts["users"], counts["women"], sigma_prior=scipy.stats.halfnorm(scale=0.25)
    )
    assert label(fit) == "deviation, HalfNormal(0.25), target 0.9"
    assert fit.attrs["seed"] == 3


def test_the_reduced_factorial_is_part_of_the_whole():
    whole = factorial_design()
    assert len(whole) == 1280
    assert len(reduced_design().merge(whole)) == len(reduced_design()) == 24


def test_agreement_needs_fits_that_the_stored_table_has(factorial):
    with pytest.raises(ValueError, match="stored one lacks"):
        agreement(factorial.assign(seed=factorial["seed"] + 1000), factorial)


def test_non_centered_form_visits_the_neck_and_the_centered_form_does_not(factorial):
    missing = factorial.groupby("parameterization")["missing_share"].median()
    assert missing["centered"] > 0.5
    assert abs(missing["non-centered"]) < 0.2
