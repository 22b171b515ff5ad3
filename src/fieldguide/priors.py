"""Priors as frozen SciPy distributions: the book's own, one that SciPy lacks, and their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

Prior = Any
"""A frozen SciPy distribution, whose class SciPy does not make public."""

ALPHA_PRIOR = scipy.stats.norm(0, 1.5)
"""Prior on the mean of the districts (on each, in the fixed-effects model), in logits."""

SIGMA_PRIOR = scipy.stats.expon()
"""The case study's first prior on the spread of the districts, in logits."""


@dataclass(frozen=True)
class TrialPriors:
    """Priors of the trial's model, in logits, as the question's brms call has them.

    Attributes
    ----------
    intercept : scipy.stats.norm
        Log odds at *centred* predictors, at the share of treated participants (half-way between arms
        of equal size): what brms calls ``class = "Intercept"``.
    effect : scipy.stats.norm
        Population mean of the sites' log odds ratios (``class = "b"``).
    sd : scipy.stats frozen distribution on (0, inf)
        Standard deviation between sites, of the intercepts and of the effects alike
        (``class = "sd"``; brms cuts a normal prior at zero, which makes it a half-normal).
    lkj_eta : float
        Shape of the LKJ prior of their correlation (``class = "L"``).
    """

    intercept: Prior = scipy.stats.norm(-1, 1)
    effect: Prior = scipy.stats.norm(0, 1)
    sd: Prior = scipy.stats.halfnorm(scale=0.5)
    lkj_eta: float = 4.0


class _HalfStudentT(scipy.stats.rv_continuous):
    """Absolute value of a Student t variable."""

    def _pdf(self, x, df):
        return 2 * scipy.stats.t.pdf(x, df)

    def _logpdf(self, x, df):
        return np.log(2) + scipy.stats.t.logpdf(x, df)

    def _cdf(self, x, df):
        return 1 - 2 * scipy.stats.t.sf(x, df)

    def _sf(self, x, df):
        return 2 * scipy.stats.t.sf(x, df)

    def _ppf(self, q, df):
        return scipy.stats.t.isf((1 - q) / 2, df)

    def _isf(self, q, df):
        return scipy.stats.t.isf(q / 2, df)


_half_student_t = _HalfStudentT(a=0.0, name="half_student_t")


def half_student_t(df: float, scale: float = 1.0) -> Prior:
    """Half-Student-t distribution as a frozen SciPy distribution, which SciPy itself lacks.

    Parameters
    ----------
    df
        Degrees of freedom, positive.
    scale
        Scale, positive, in the units of the variable.
    """
    return _half_student_t(df, scale=scale)


def prior_parameters(frozen: Prior) -> tuple[str, tuple[float, ...], float, float]:
    """Return name, shape parameters, location and scale of a frozen SciPy distribution.

    Raises
    ------
    TypeError
        If it is not one.
    """
    try:
        shapes, loc, scale = frozen.dist._parse_args(*frozen.args, **frozen.kwds)
        return frozen.dist.name, tuple(shapes), loc, scale
    except AttributeError:
        raise TypeError(
            f"A prior must be a frozen SciPy distribution such as scipy.stats.expon(), not {frozen!r}."
        ) from None


def prior_name(frozen: Prior) -> str:
    """Name a prior as it is written in a model, such as ``HalfNormal(0.5)``.

    Parameters are PyMC's: Exponential(rate), Gamma(alpha, beta), InverseGamma(alpha, beta),
    LogNormal(mu, sigma). A shifted distribution is named as SciPy does, with its location and scale.

    Parameters
    ----------
    frozen : scipy.stats frozen distribution

    Examples
    --------
    >>> import scipy.stats
    >>> prior_name(scipy.stats.expon()), prior_name(scipy.stats.norm(0, 1.5))
    ('Exponential(1)', 'Normal(0, 1.5)')
    """
    family, shapes, loc, scale = prior_parameters(frozen)
    known: dict[str, Callable[[], tuple]] = {
        "norm": lambda: ("Normal", loc, scale),
        "expon": lambda: ("Exponential", 1 / scale),
        "halfnorm": lambda: ("HalfNormal", scale),
        "halfcauchy": lambda: ("HalfCauchy", scale),
        "half_student_t": lambda: ("HalfStudentT", shapes[0], scale),
        "gamma": lambda: ("Gamma", shapes[0], 1 / scale),
        "invgamma": lambda: ("InverseGamma", shapes[0], scale),
        "lognorm": lambda: ("LogNormal", np.log(scale), shapes[0]),
        "uniform": lambda: ("Uniform", loc, loc + scale),
    }
    if family not in known or (loc != 0 and family not in ("norm", "uniform")):
        return written(family, *shapes, loc, scale)
    return written(*known[family]())


def written(name: str, *parameters: float) -> str:
    """Write a distribution with the digits that matter, such as ``Normal(0, 1.5)``."""
    return f"{name}({', '.join(f'{float(p) + 0:.6g}' for p in parameters)})"
