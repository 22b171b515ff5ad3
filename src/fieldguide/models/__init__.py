"""PyMC models of the three subjects, and what their graphs say."""

from fieldguide.models.districts import (
    PARAMETERIZATIONS,
    bambi_centered,
    centering_weights,
    fixed_effects_model,
    marginal_model,
    recover_alpha,
    varying_intercept_model,
)
from fieldguide.models.graph import (
    UnknownModelError,
    as_pymc_prior,
    declare,
    declare_like,
    log_density_gap,
    parameterization_of,
    problem_of,
)
from fieldguide.models.trial import trial_model

__all__ = [
    "PARAMETERIZATIONS",
    "UnknownModelError",
    "as_pymc_prior",
    "bambi_centered",
    "centering_weights",
    "declare",
    "declare_like",
    "fixed_effects_model",
    "log_density_gap",
    "marginal_model",
    "parameterization_of",
    "problem_of",
    "recover_alpha",
    "trial_model",
    "varying_intercept_model",
]
