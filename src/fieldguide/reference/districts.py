"""Exact posteriors of binomial-logit models, as xarray: what `exact_posterior` returns and accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.stats
import xarray as xr
from scipy.special import expit, logit

from fieldguide.priors import ALPHA_PRIOR
from fieldguide.reference._districts_quadrature import (
    ExactPosteriorError,
    FixedEffects,
    Model,
    VaryingIntercepts,
)

QUANTILE_TOLERANCE = 1e-6
"""Largest error estimate of a quantile, in posterior standard deviations, that is not refused."""


@dataclass(frozen=True)
class ExactPosterior:
    """The exact posterior: moments at once, quantiles and densities when asked for.

    Variables are ``alpha`` and ``p`` with dimension ``district``, and for the varying-intercept
    model the scalars ``alpha_bar``, ``p_bar`` and ``sigma``. ``alpha`` and ``alpha_bar`` are on
    the logit scale; ``p`` and ``p_bar`` are their inverse logits.

    Attributes
    ----------
    mean, sd
        Posterior means and standard deviations. Where a heavy-tailed prior on sigma leaves a
        moment without a finite value it is infinite, or NaN where it is not defined at all.
    log_marginal_likelihood
        Log probability of the data under the model, binomial coefficients included.
    error
        Estimated error of means, sds and the log marginal likelihood, the first two in posterior
        standard deviations.
    probs
        Probabilities of the quantiles in `summary`.
    """

    mean: xr.Dataset
    sd: xr.Dataset
    log_marginal_likelihood: float
    error: float
    probs: tuple[float, ...]
    _engine: VaryingIntercepts | FixedEffects = field(repr=False)

    def quantile(self, q: float | Sequence[float]) -> xr.Dataset:
        """Quantiles of every variable, with dimension ``quantile`` if ``q`` is a sequence."""
        values = np.atleast_1d(np.asarray(q, dtype=float))
        if values.ndim > 1 or not ((values > 0) & (values < 1)).all():
            raise ValueError("A quantile's probability must lie strictly between 0 and 1.")
        engine = self._engine
        units = engine.model.successes.size
        sd = dict(zip(engine.names, engine.moments[1], strict=False))
        sd_alpha, sd_p = engine.moments[1][len(engine.names) :].reshape(2, -1)

        def quantiles(name, unit=None):
            marginal = engine.marginal(name, unit)
            found = np.array([marginal.quantile(v) for v in values])
            error = np.array([marginal.quantile_error(x) for x in found])
            sds = (sd[name], sd.get("p_bar")) if unit is None else (sd_alpha[unit], sd_p[unit])
            relative = error / sds[0]
            if name != "sigma":
                relative = np.maximum(relative, error * expit(found) * expit(-found) / sds[1])
            if (relative > QUANTILE_TOLERANCE).any():
                worst = np.nanargmax(relative)
                raise ExactPosteriorError(
                    f"The {100 * values[worst]:g}% quantile of {name} is not accurate (error "
                    f"estimate {relative[worst]:.0e} posterior sd); use a less extreme "
                    "probability or less extreme priors."
                )
            return found

        data = {}
        for name in engine.names:
            if name != "p_bar":
                data[name] = ("quantile", np.array(quantiles(name)))
        if "alpha_bar" in data:
            data["p_bar"] = ("quantile", expit(data["alpha_bar"][1]))
        alpha = np.array([quantiles("alpha", unit) for unit in range(units)])
        alpha = alpha[engine.model.member].T
        data["alpha"] = (("quantile", "district"), alpha)
        data["p"] = (("quantile", "district"), expit(alpha))
        result = xr.Dataset(data, coords={"quantile": values, "district": self.mean["district"].values})
        return result if np.ndim(q) else result.isel(quantile=0)

    def interval(self, prob: float = 0.89) -> xr.Dataset:
        """Equal-tailed intervals of every variable, with dimension ``bound`` (lower, upper)."""
        tail = (1 - prob) / 2
        ends = self.quantile([tail, 1 - tail]).drop_vars("quantile")
        return ends.rename(quantile="bound").assign_coords(bound=["lower", "upper"])

    @cached_property
    def summary(self) -> xr.Dataset:
        """Means, sds and the quantiles `probs`, along one dimension ``statistic``."""
        names = ["mean", "sd", *(f"{100 * q:g}%" for q in self.probs)]
        quantiles = self.quantile(self.probs)
        data = {
            name: (
                ("statistic", *self.mean[name].dims),
                np.stack([self.mean[name], self.sd[name], *quantiles[name].values]),
            )
            for name in self.mean
        }
        return xr.Dataset(data, coords={"statistic": names, **self.mean.coords})

    def _unit(self, name: str, district) -> int | None:
        if name in ("alpha", "p"):
            labels = self.mean["district"].values
            found = np.flatnonzero(labels == district)
            if district is None or not found.size:
                raise ValueError(
                    f"{name} needs district=, one of {', '.join(map(str, labels))}; got {district!r}."
                )
            return int(self._engine.model.member[found[0]])
        if name not in self._engine.names:
            raise ValueError(f"Unknown variable {name!r}; this model has {', '.join(self.mean)}.")
        return None

    def _evaluate(self, kind: str, name: str, x, district) -> xr.DataArray:
        unit = self._unit(name, district)
        if isinstance(x, xr.DataArray):
            template = x
        else:
            x = np.asarray(x, dtype=float)
            if x.ndim > 1:
                raise ValueError(f"x must be a number or one-dimensional; it has {x.ndim} axes.")
            template = xr.DataArray(x, dims=[name] if x.ndim else [])
            if x.ndim:
                template = template.assign_coords({name: x})
        value = np.asarray(template.values, dtype=float)
        base = {"p": "alpha", "p_bar": "alpha_bar"}.get(name, name)
        jacobian = np.ones_like(value)
        inside = np.ones(value.shape, bool)
        if base != name:
            inside = (value > 0) & (value < 1)
            safe = np.where(inside, value, 0.5)
            jacobian = 1 / (safe * (1 - safe))
            at = logit(safe)
        else:
            at = value
        if kind == "pdf":
            out = np.where(inside, self._engine.pdf(base, unit)(at) * jacobian, 0.0)
        else:
            out = np.where(inside, self._engine.marginal(base, unit).cdf(at), value >= 1)
        return template.copy(data=out).rename(kind)

    def pdf(self, name: str, x, district=None) -> xr.DataArray:
        """Marginal posterior density of a variable at ``x``, on the variable's own scale."""
        return self._evaluate("pdf", name, x, district)

    def cdf(self, name: str, x, district=None) -> xr.DataArray:
        """Posterior probability that a variable is at most ``x``."""
        return self._evaluate("cdf", name, x, district)

    def joint_density(self, district, alpha, log_sigma) -> xr.DataArray:
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
        if "sigma" not in self._engine.names:
            raise ValueError("The fixed-effects model has no sigma, so no joint density with it.")
        unit = self._unit("alpha", district)
        alpha = np.asarray(alpha, dtype=float)
        log_sigma = np.asarray(log_sigma, dtype=float)
        return xr.DataArray(
            self._engine.joint_density(unit, alpha, log_sigma),
            dims=["log_sigma", "alpha"],
            coords={"log_sigma": log_sigma, "alpha": alpha},
            name="density",
        )


def _check(successes, trials, alpha_prior, sigma_prior, district, probs):
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


def _wrap(engine, labels, probs) -> ExactPosterior:
    member = engine.model.member
    units = engine.model.successes.size
    first = len(engine.names)

    def dataset(values):
        data = dict(zip(engine.names, values[:first], strict=True))
        data["alpha"] = ("district", values[first : first + units][member])
        data["p"] = ("district", values[first + units :][member])
        return xr.Dataset(data, coords={"district": labels})

    mean, sd = (dataset(values) for values in engine.moments)
    return ExactPosterior(mean, sd, engine.log_marginal_likelihood, engine.error, probs, engine)


def exact_posterior(
    successes,
    trials,
    *,
    sigma_prior,
    alpha_prior=ALPHA_PRIOR,
    probs: Sequence[float] = (0.055, 0.5, 0.945),
    district=None,
) -> ExactPosterior:
    """Exact posterior of the varying-intercept binomial-logit model.

    Parameters
    ----------
    successes, trials
        Counts per district, shape (J,).
    sigma_prior
        Prior on the districts' standard deviation (logits): any frozen continuous SciPy
        distribution on positive values, or `half_student_t`.
    alpha_prior
        Prior on the mean of the districts (logits), a frozen ``scipy.stats.norm``;
        Normal(0, 1.5) if not given.
    probs
        Probabilities of the quantiles in ``summary``.
    district
        Labels of the districts, shape (J,); 1, ..., J if not given.

    Returns
    -------
    ExactPosterior

    Raises
    ------
    ValueError, TypeError
        If the counts or priors are not what they should be.
    ExactPosteriorError
        If the estimated error stays above `TOLERANCE`.
    """
    model, labels, probs = _check(successes, trials, alpha_prior, sigma_prior, district, probs)
    return _wrap(VaryingIntercepts(model), labels, probs)


def exact_posterior_fixed(
    successes,
    trials,
    *,
    alpha_prior=ALPHA_PRIOR,
    probs: Sequence[float] = (0.055, 0.5, 0.945),
    district=None,
) -> ExactPosterior:
    """Exact posterior of the fixed-effects model, ``alpha_j ~ Normal`` independently.

    Parameters, result and errors as in `exact_posterior`, without sigma and the districts' mean.
    """
    model, labels, probs = _check(successes, trials, alpha_prior, None, district, probs)
    return _wrap(FixedEffects(model), labels, probs)
