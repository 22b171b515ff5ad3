"""PyMC models of the three subjects, and what they share."""

from fieldguide.models.districts import (
    PARAMETERIZATIONS,
    as_pymc_prior,
    centering_weights,
    fixed_effects_model,
    log_density_gap,
    marginal_model,
    recover_alpha,
    varying_intercept_model,
)

__all__ = [
    "PARAMETERIZATIONS",
    "as_pymc_prior",
    "centering_weights",
    "fixed_effects_model",
    "log_density_gap",
    "marginal_model",
    "recover_alpha",
    "varying_intercept_model",
]
