"""Exact posteriors: answers computed by quadrature, to hold a sampler's fit against."""

from fieldguide.priors import half_student_t
from fieldguide.reference.districts import (
    ExactPosterior,
    ExactPosteriorError,
    exact_posterior,
    exact_posterior_fixed,
)

__all__ = [
    "ExactPosterior",
    "ExactPosteriorError",
    "exact_posterior",
    "exact_posterior_fixed",
    "half_student_t",
]
