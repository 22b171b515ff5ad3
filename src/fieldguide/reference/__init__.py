"""Exact answers to hold a sampler's fit against: three subjects behind one `Reference` protocol."""

from fieldguide.priors import half_student_t
from fieldguide.reference._protocol import ExactPosteriorError, Posterior, Reference, flat
from fieldguide.reference.districts import (
    DistrictsPosterior,
    districts_problem,
    exact_posterior,
    exact_posterior_fixed,
)
from fieldguide.reference.districts_many import ManyDistrictsPosterior, exact_posterior_many
from fieldguide.reference.leave_one_out import leave_one_out
from fieldguide.reference.schools import SchoolsPosterior, schools_posterior, schools_problem
from fieldguide.reference.trial import TrialPosterior, trial_posterior, trial_problem

__all__ = [
    "DistrictsPosterior",
    "ExactPosteriorError",
    "ManyDistrictsPosterior",
    "Posterior",
    "Reference",
    "SchoolsPosterior",
    "TrialPosterior",
    "districts_problem",
    "exact_posterior",
    "exact_posterior_fixed",
    "exact_posterior_many",
    "flat",
    "half_student_t",
    "leave_one_out",
    "schools_posterior",
    "schools_problem",
    "trial_posterior",
    "trial_problem",
]
