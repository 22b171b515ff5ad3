"""Exact posteriors of binomial-logit models, as xarray: what `exact_posterior` returns and accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from fieldguide.priors import ALPHA_PRIOR, Prior, prior_name
from fieldguide.problem import Problem, count_digest
from fieldguide.reference._districts_quadrature import FixedEffects, Model, VaryingIntercepts
from fieldguide.reference._marginal import Marginal
from fieldguide.reference._protocol import PROBS, ExactPosteriorError, Posterior

QUANTILE_TOLERANCE = 1e-6
"""Largest error estimate of a quantile, in posterior standard deviations, that is not refused."""


@dataclass(frozen=True)
class DistrictsPosterior(Posterior):
    """The exact posterior: moments at once, quantiles and densities when asked for.

    Variables are ``alpha`` and ``p`` with dimension ``district``, and for the varying-intercept
    model the scalars ``alpha_bar``, ``p_bar`` and ``sigma``. ``alpha`` and ``alpha_bar`` are on
    the logit scale; ``p`` and ``p_bar`` are their inverse logits.

    Attributes
    ----------
    problem : Problem
        Model, priors and counts.
    mean, sd : xarray.Dataset
        Posterior means and standard deviations. Where a heavy-tailed prior on sigma leaves a
        moment without a finite value it is infinite, or NaN where it is not defined at all.
    log_marginal_likelihood : float
        Log probability of the data under the model, binomial coefficients included.
    error : float
        Estimated error of means, sds and the log marginal likelihood, the first two in posterior
        standard deviations.
    probs : tuple of float
        Probabilities of the quantiles in `summary`.
    """

    problem: Problem
    mean: xr.Dataset
    sd: xr.Dataset
    log_marginal_likelihood: float
    error: float
    _engine: VaryingIntercepts | FixedEffects = field(repr=False)
    probs: tuple[float, ...] = PROBS

    @property
    def neck(self) -> str | None:  # type: ignore[override]
        """``"sigma"``, whose small values are hard to sample; None for fixed effects."""
        return "sigma" if "sigma" in self.mean else None

    def _marginal(self, name: str, position: int | None) -> Marginal:
        """Marginal of a variable, of the effect behind it if it is a probability."""
        return self._engine.marginal(_BASE.get(name, name), self._unit(position))

    def _unit(self, position: int | None) -> int | None:
        """Number of a district among the unique ones."""
        return None if position is None else int(self._engine.model.member[position])

    def _quantile(self, name: str, position: int | None, q: np.ndarray) -> np.ndarray:
        marginal = self._marginal(name, position)
        found = np.array([marginal.quantile(v) for v in q])
        error = np.array([marginal.quantile_error(x) for x in found])
        # relative to the sd on both scales, so that the effect and its probability can be trusted
        effect, probability = ("alpha_bar", "p_bar") if position is None else ("alpha", "p")

        def sd(variable):
            return float(self.sd[variable].values.ravel()[position or 0])

        relative = error / sd("sigma" if name == "sigma" else effect)
        if name != "sigma":
            relative = np.maximum(relative, error * expit(found) * expit(-found) / sd(probability))
        if (relative > QUANTILE_TOLERANCE).any():
            worst = np.nanargmax(relative)
            raise ExactPosteriorError(
                f"The {100 * q[worst]:g}% quantile of {name} is not accurate (error "
                f"estimate {relative[worst]:.0e} posterior sd); use a less extreme "
                f"probability, or: {self._engine.reason()}."
            )
        return expit(found) if name in _BASE else found

    def _cdf(self, name: str, position: int | None, x: np.ndarray) -> np.ndarray:
        marginal = self._marginal(name, position)
        low, high = (0.0, 1.0) if name in _BASE else (-np.inf, np.inf)
        if name == "sigma":
            low, high = self._engine.model.sigma_prior.support()
        out = np.where(x >= high, 1.0, 0.0)
        inside = (x > low) & (x < high)
        at = logit(x[inside]) if name in _BASE else x[inside]
        out[inside] = marginal.cdf(at)
        return out

    def _pdf(self, name: str, position: int | None, x: np.ndarray) -> np.ndarray:
        unit = self._unit(position)
        if name not in _BASE:
            return self._engine.pdf(name, unit)(x)
        out = np.zeros(x.shape)
        inside = (x > 0) & (x < 1)
        p = x[inside]
        out[inside] = self._engine.pdf(_BASE[name], unit)(logit(p)) / (p * (1 - p))
        return out

    def joint_density(self, district: Any, alpha: ArrayLike, log_sigma: ArrayLike) -> xr.DataArray:
        """Posterior density of (alpha_j, log sigma) on a grid, Jacobian included.

        Parameters
        ----------
        district
            The district's label.
        alpha
            Values of the district's effect, shape (A,).
        log_sigma
            Values of log sigma, shape (S,).

        Returns
        -------
        xarray.DataArray
            Density with dimensions ``log_sigma`` and ``alpha``; it integrates to 1 over both.
        """
        if "sigma" not in self.mean:
            raise ValueError("The fixed-effects model has no sigma, so no joint density with it.")
        unit = self._unit(self._position("alpha", {"district": district}))
        alpha = np.asarray(alpha, dtype=float)
        log_sigma = np.asarray(log_sigma, dtype=float)
        return xr.DataArray(
            cast("VaryingIntercepts", self._engine).joint_density(unit, alpha, log_sigma),
            dims=["log_sigma", "alpha"],
            coords={"log_sigma": log_sigma, "alpha": alpha},
            name="density",
        )


_BASE = {"p": "alpha", "p_bar": "alpha_bar"}
"""The variables that are the inverse logit of another one."""


def _check(
    successes: ArrayLike,
    trials: ArrayLike,
    alpha_prior: Prior,
    sigma_prior: Prior | None,
    district: Sequence | None,
    probs: Sequence[float],
) -> tuple[Model, np.ndarray, tuple[float, ...]]:
    y, n = (np.asarray(v, dtype=float) for v in (successes, trials))
    if y.ndim != 1 or n.ndim != 1:
        raise ValueError("successes and trials must be one-dimensional, one entry per district.")
    if y.size != n.size:
        raise ValueError(
            f"successes has {y.size} entries and trials {n.size}; give one of each per district."
        )
    if y.size == 0:
        raise ValueError("successes and trials are empty; give at least one district.")
    for name, v in (("successes", y), ("trials", n)):
        if not np.isfinite(v).all():
            raise ValueError(f"{name} contains a missing or infinite value; drop that district.")
        if (v < 0).any():
            raise ValueError(f"{name} contains a negative count; counts start at 0.")
        if (v != np.round(v)).any():
            raise ValueError(f"{name} contains a fraction; give whole counts, not rates.")
    if (y > n).any():
        i = int(np.argmax(y > n))
        raise ValueError(
            f"successes exceed trials at position {i} ({y[i]:g} of {n[i]:g}); "
            "check that the two were not swapped."
        )
    kind = getattr(getattr(alpha_prior, "dist", None), "name", None)
    if kind != "norm":
        raise TypeError("alpha_prior must be a frozen normal, for instance scipy.stats.norm(0, 1.5).")
    with np.errstate(all="ignore"):
        mean, sd = float(alpha_prior.mean()), float(alpha_prior.std())
    if not (np.isfinite(mean) and np.isfinite(sd) and sd > 0):
        raise ValueError("alpha_prior is improper; give a finite mean and a positive, finite sd.")
    if sigma_prior is not None:
        if not isinstance(getattr(sigma_prior, "dist", None), scipy.stats.rv_continuous):
            raise TypeError(
                "sigma_prior must be a frozen continuous SciPy distribution, "
                "for instance scipy.stats.expon()."
            )
        with np.errstate(all="ignore"):
            low, high = sigma_prior.support()
            probe = sigma_prior.ppf([0.25, 0.5, 0.75])
            proper = np.isfinite(probe).all() and np.isfinite(sigma_prior.logpdf(probe)).all()
        if not (proper and (np.diff(probe) > 0).all()):
            raise ValueError("sigma_prior is improper; give it a positive, finite scale.")
        if low < 0:
            raise ValueError(
                f"sigma_prior must live on positive values; its support is ({low:g}, {high:g})."
            )
    labels = np.arange(1, y.size + 1) if district is None else np.asarray(district)
    if labels.shape != y.shape or np.unique(labels).size != labels.size:
        raise ValueError("district must hold one different label per entry of successes.")
    probs = tuple(float(q) for q in probs)
    if not all(0 < q < 1 for q in probs):
        raise ValueError("probs must lie strictly between 0 and 1.")
    unique, member, count = np.unique(
        np.stack([y, n], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    model = Model(unique[:, 0], unique[:, 1], count.astype(float), member.ravel(), mean, sd, sigma_prior)
    return model, labels, probs


def _wrap(
    engine: VaryingIntercepts | FixedEffects,
    problem: Problem,
    labels: np.ndarray,
    probs: tuple[float, ...],
) -> DistrictsPosterior:
    member = engine.model.member
    units = engine.model.successes.size
    first = len(engine.names)

    def dataset(values):
        data = dict(zip(engine.names, values[:first], strict=True))
        data["alpha"] = ("district", values[first : first + units][member])
        data["p"] = ("district", values[first + units :][member])
        return xr.Dataset(data, coords={"district": labels})

    mean, sd = (dataset(values) for values in engine.moments)
    log_marginal_likelihood = engine.log_marginal_likelihood
    return DistrictsPosterior(problem, mean, sd, log_marginal_likelihood, engine.error, engine, probs)


def districts_problem(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    sigma_prior: Prior | None = None,
    alpha_prior: Prior = ALPHA_PRIOR,
    district: Sequence | np.ndarray | None = None,
) -> Problem:
    """Return the problem that a posterior of the districts belongs to.

    Parameters
    ----------
    successes, trials : array_like of int, shape (J,)
        Counts per district.
    sigma_prior : frozen SciPy distribution, optional
        Prior on the districts' standard deviation (logits); None for the fixed-effects model.
    alpha_prior : frozen SciPy distribution
        Prior on the mean of the districts, on each of them in the fixed-effects model (logits).
    district : sequence, shape (J,), optional
        Labels of the districts; 1, ..., J if not given.
    """
    labels = range(1, len(cast("Sequence", successes)) + 1) if district is None else district
    data = count_digest(labels, successes, trials)
    if sigma_prior is None:
        return Problem.of("fixed effects", {"alpha": prior_name(alpha_prior)}, data)
    priors = {"alpha_bar": prior_name(alpha_prior), "sigma": prior_name(sigma_prior)}
    return Problem.of("varying intercept", priors, data)


def exact_posterior(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    sigma_prior: Prior,
    alpha_prior: Prior = ALPHA_PRIOR,
    probs: Sequence[float] = PROBS,
    district: Sequence | None = None,
) -> DistrictsPosterior:
    """Exact posterior of the varying-intercept binomial-logit model.

    Parameters
    ----------
    successes, trials : array_like of int, shape (J,)
        Counts per district.
    sigma_prior : frozen SciPy distribution
        Prior on the districts' standard deviation (logits): any frozen continuous SciPy
        distribution on positive values, or `half_student_t`.
    alpha_prior : frozen SciPy distribution
        Prior on the mean of the districts (logits), a frozen ``scipy.stats.norm``;
        Normal(0, 1.5) if not given.
    probs : sequence of float
        Probabilities of the quantiles in ``summary``.
    district : sequence, shape (J,), optional
        Labels of the districts; 1, ..., J if not given.

    Returns
    -------
    DistrictsPosterior

    Raises
    ------
    ValueError, TypeError
        If the counts or priors are not what they should be.
    ExactPosteriorError
        If the estimated error stays above 4e-7 posterior sds, with the finest grid or for ten
        seconds; the message says what limits it.

    Examples
    --------
    Three districts, 30 of 117, 7 of 20 and 2 of 2:

    >>> import scipy.stats
    >>> exact = exact_posterior([30, 7, 2], [117, 20, 2], sigma_prior=scipy.stats.expon())
    >>> exact.to_series().round(3).to_dict()
    {'alpha_bar': -0.51, 'sigma': 0.836, 'alpha[1]': -1.012, 'alpha[2]': -0.686, 'alpha[3]': 0.139}
    >>> round(float(exact.cdf("sigma", 0.1)), 4)
    0.0931
    >>> exact.interval(0.89, "alpha")["alpha"].sel(district=3).round(2).values.tolist()
    [-1.22, 2.67]
    """
    model, labels, probs = _check(successes, trials, alpha_prior, sigma_prior, district, probs)
    problem = districts_problem(
        successes, trials, sigma_prior=sigma_prior, alpha_prior=alpha_prior, district=labels
    )
    return _wrap(VaryingIntercepts(model), problem, labels, probs)


def exact_posterior_fixed(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    alpha_prior: Prior = ALPHA_PRIOR,
    probs: Sequence[float] = PROBS,
    district: Sequence | None = None,
) -> DistrictsPosterior:
    """Exact posterior of the fixed-effects model, ``alpha_j ~ Normal`` independently.

    Parameters, result and errors as in `exact_posterior`, without sigma and the districts' mean.
    """
    model, labels, probs = _check(successes, trials, alpha_prior, None, district, probs)
    problem = districts_problem(successes, trials, alpha_prior=alpha_prior, district=labels)
    return _wrap(FixedEffects(model), problem, labels, probs)
