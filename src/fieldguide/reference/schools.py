r"""Exact posterior of the Gaussian varying-intercept, varying-slope model, by quadrature.

.. math::

   y_j = X_j \beta + Z_j u_j + e_j, \quad u_j \sim \mathrm{Normal}(0, \Sigma), \quad
   e_j \sim \mathrm{Normal}(0, \sigma^2 I), \quad
   \beta_k \sim \mathrm{Normal}(m_k, s_k),

with independent priors on the sds of intercept and slope and on :math:`\sigma`, and an LKJ prior
on their correlation. Fixed and group effects enter linearly and are integrated out in closed form
(Lindley and Smith 1972, J. R. Statist. Soc. B 34); four dimensions are left. In the relative sds
:math:`\theta = \mathrm{sd} / \sigma`, all sums over groups depend on three of them only
(:meth:`fieldguide.reml.CrossProducts.reduce`), and one eigendecomposition per node serves every
:math:`\sigma`.

The nodes are Gauss-Legendre in each direction, on a box outside of which the density is less than
``exp(-DROP)`` of its peak. The correlation is :math:`\sin\varphi`, which makes the LKJ
density :math:`\cos^{2\eta-1}\varphi`, smooth up to its ends for whole and half :math:`\eta`. For an
analytic integrand the error falls geometrically with the number of nodes (Trefethen 2008, SIAM
Review 50, theorem 4.5). The error estimate is the change from a grid with a quarter of the nodes
less in each direction, in posterior standard deviations.

With thousands of groups the sums over groups are most of the work. They are smooth on the box, so they
are computed at a few Chebyshev nodes and interpolated, which is checked against the sums themselves at
other points; the log density may differ by no more than ``INTERPOLATION``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.polynomial import chebyshev, legendre
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import betaln, ndtr, ndtri
from scipy.stats import rv_continuous

from fieldguide.priors import Prior, prior_name, written
from fieldguide.problem import Problem
from fieldguide.reference._protocol import ExactPosteriorError, Posterior
from fieldguide.reml import CrossProducts, fit_reml

TOLERANCE = 1e-4
"""Largest error estimate of a mean or sd, in posterior sds, that is not refused."""

DROP = 24.0
NODES = (36, 28, 26, 32)
"""Default number of nodes: intercept's and slope's relative sd, angle of correlation, sigma."""

_GROWTH = (1, 1.35, 1.8)
_CHUNK = 2048
_CELLS = 2**22
"""Numbers of one kind, groups times nodes, that are held at a time."""

MANY = 1000
"""Number of groups from which on the sums over groups are interpolated."""

INTERPOLATION = 1e-6
"""Largest error of a log density by interpolation; beyond it the sums themselves are used."""


@dataclass(frozen=True)
class _Priors:
    mean: np.ndarray  # (p,)
    sd: np.ndarray  # (p,)
    sd_intercept: Prior
    sd_slope: Prior
    sigma: Prior
    eta: float | None

    def log_angle(self, angle):
        """Log prior density of the angle whose sine is the correlation."""
        if self.eta is None:
            return np.zeros_like(angle)
        log_constant = (2 * self.eta - 1) * np.log(2) + betaln(self.eta, self.eta)
        with np.errstate(divide="ignore"):
            return (2 * self.eta - 1) * np.log(np.cos(angle)) - log_constant


@dataclass(frozen=True)
class SchoolsPosterior(Posterior):
    """The posterior on its grid; see :func:`schools_posterior`.

    Variables are ``beta`` with dimension ``term``, named as in the formula, and the scalars
    ``sd_intercept``, ``sd_slope``, ``correlation`` (absent where it is fixed at 0) and ``sigma``,
    all in the outcome's units (per unit of the predictor) but the correlation.

    Attributes
    ----------
    problem : Problem
        Model, priors and data.
    mean, sd : xarray.Dataset
        Posterior means and standard deviations.
    error : float
        Estimated error of means and sds, the largest, in posterior standard deviations.
    """

    problem: Problem
    mean: xr.Dataset
    sd: xr.Dataset
    error: float
    _grid: _Grid = field(repr=False)
    _sums: CrossProducts = field(repr=False)

    neck = "sd_slope"

    @property
    def log_marginal_likelihood(self) -> float:
        """Log density of the data, with all parameters integrated out."""
        return self._grid.log_evidence

    def _cdf(self, name, position, x):
        return self._at(name, position, x, cumulative=True)

    def _pdf(self, name, position, x):
        return self._at(name, position, x, cumulative=False)

    def _at(self, name, position, x, cumulative):
        if name == "beta":
            return self._grid.fixed_effect(position, x, cumulative)
        value = self._grid.marginal(name, x, cumulative)
        if not cumulative:
            return value
        low, high = (-1.0, 1.0) if name == "correlation" else (0.0, np.inf)
        return np.where(x <= low, 0.0, np.where(x >= high, 1.0, np.clip(value, 0, 1)))

    def _quantile(self, name, position, q):
        return np.array([self._one_quantile(name, position, value) for value in q])

    def _one_quantile(self, name, position, probability):
        def excess(x):
            return float(self._at(name, position, np.array([x]), cumulative=True)[0]) - probability

        if name == "beta":  # nearly normal: a short bracket is tried first
            mean, sd = (moment[position] for moment in self._grid.moments)
            low, high = mean - 12 * sd, mean + 12 * sd
            near = mean + sd * (ndtri(probability) + np.array([-0.1, 0.1]))
            if excess(near[0]) < 0 < excess(near[1]):
                low, high = near
        else:
            low, high = self._grid.bounds(name)
        return brentq(excess, low, high, xtol=1e-8 * (high - low))

    def joint_density(self, sd_slope: ArrayLike, correlation: ArrayLike) -> np.ndarray:
        """Joint posterior density of the slope's sd and the correlation, for pictures.

        Parameters
        ----------
        sd_slope : array_like, shape (M,)
        correlation : array_like, shape (N,)
            Strictly between -1 and 1.

        Returns
        -------
        numpy.ndarray, shape (M, N)
        """
        return self._grid.joint_density(np.asarray(sd_slope), np.asarray(correlation))

    def group_effects(self) -> xr.Dataset:
        """Mean and sd of each group's intercept and slope deviation, dims (group, effect)."""
        mean, sd = self._grid.group_effects(self._sums)
        coords = {"group": list(self._sums.groups), "effect": ["intercept", "slope"]}
        dims = ("group", "effect")
        return xr.Dataset({"mean": (dims, mean), "sd": (dims, sd)}, coords=coords)


_VARIANCE_PARAMETERS = ("sd_intercept", "sd_slope", "correlation", "sigma")


def schools_posterior(
    sums: CrossProducts,
    *,
    sd_prior: Prior | Sequence[Prior],
    sigma_prior: Prior,
    fixed_prior: tuple = (0.0, 100.0),
    lkj_eta: float | None = 1.0,
    nodes: tuple[int, int, int, int] | None = None,
) -> SchoolsPosterior:
    """Integrate the posterior of a varying-intercept, varying-slope model.

    Parameters
    ----------
    sums : CrossProducts
        The data and the design, from :func:`fieldguide.reml.cross_products`.
    sd_prior : frozen SciPy distribution, or a pair of them
        Prior on the sd of the group intercepts and slopes (one for both, or one each).
    sigma_prior : frozen SciPy distribution
        Prior on the residual sd.
    fixed_prior : pair (mean, sd)
        Normal prior on the fixed effects; each a number or one per term of ``sums.terms``.
    lkj_eta : float or None
        Shape of the LKJ prior on the correlation, at least 1 (1 is uniform); None fixes the
        correlation at 0, as Bambi does.
    nodes : tuple of int, optional
        Quadrature nodes for the intercept's sd, the slope's sd, the correlation and sigma; `NODES` by
        default, and more where these do not suffice.

    Raises
    ------
    ValueError
        If a prior is improper, not positive, or of the wrong shape.
    ExactPosteriorError
        If the error estimate exceeds ``TOLERANCE``.

    Examples
    --------
    >>> from fieldguide.data import load_schools
    >>> from fieldguide.models.schools import FORMULA, LKJ_ETA, PRIORS, with_catholic
    >>> from fieldguide.reml import cross_products
    >>> sums = cross_products(FORMULA, with_catholic(load_schools()))
    >>> exact = schools_posterior(sums, lkj_eta=LKJ_ETA, **PRIORS)
    >>> round(float(exact.mean["beta"].sel(term="ses")), 2), round(float(exact.mean["sd_slope"]), 2)
    (2.96, 0.35)
    """
    priors = _check_priors(sums, sd_prior, sigma_prior, fixed_prior, lkj_eta)
    model = _Model(sums, priors)
    box = _find_box(model)
    model.interpolate(box)
    first = NODES if nodes is None else nodes
    mean, sd = _Grid(model, box, tuple(max(4, round(0.75 * n)) for n in first)).moments
    for growth in _GROWTH if nodes is None else _GROWTH[:1]:
        coarse_mean, coarse_sd = mean, sd
        grid = _Grid(model, box, tuple(round(growth * n) for n in first))
        mean, sd = grid.moments
        scale = np.where(sd > 0, sd, 1)
        error = float(np.max(np.abs([coarse_mean - mean, coarse_sd - sd]) / scale))
        if error <= TOLERANCE:
            break
    if not error <= TOLERANCE:
        raise ExactPosteriorError(
            f"The quadrature's error estimate is {error:.1e} posterior sds, above {TOLERANCE:g}; "
            "use more nodes or a prior with lighter tails."
        )

    def named(values):
        p = len(sums.terms)
        rest = dict(zip(_VARIANCE_PARAMETERS, values[p:], strict=True))
        if lkj_eta is None:
            del rest["correlation"]
        return xr.Dataset({"beta": ("term", values[:p])} | rest, {"term": list(sums.terms)})

    problem = schools_problem(
        sums, sd_prior=sd_prior, sigma_prior=sigma_prior, fixed_prior=fixed_prior, lkj_eta=lkj_eta
    )
    return SchoolsPosterior(problem, named(mean), named(sd), error, grid, sums)


def schools_problem(
    sums: CrossProducts,
    *,
    sd_prior: Prior | Sequence[Prior],
    sigma_prior: Prior,
    fixed_prior: tuple = (0.0, 100.0),
    lkj_eta: float | None = 1.0,
) -> Problem:
    """Return the problem that a posterior of the schools belongs to.

    Parameters and errors as in `schools_posterior`.
    """
    checked = _check_priors(sums, sd_prior, sigma_prior, fixed_prior, lkj_eta)
    same = np.ptp(checked.mean) == 0 and np.ptp(checked.sd) == 0
    each = [written("Normal", *pair) for pair in zip(checked.mean, checked.sd, strict=True)]
    priors = {
        "beta": each[0] if same else ", ".join(each),
        "sd_intercept": prior_name(checked.sd_intercept),
        "sd_slope": prior_name(checked.sd_slope),
        "sigma": prior_name(checked.sigma),
        "correlation": "0" if lkj_eta is None else written("LKJ", lkj_eta),
    }
    return Problem.of("varying intercept and slope", priors, sums.digest)


def _check_priors(
    sums: CrossProducts,
    sd_prior: Prior | Sequence[Prior],
    sigma_prior: Prior,
    fixed_prior: tuple,
    lkj_eta: float | None,
) -> _Priors:
    pair = tuple(sd_prior) if isinstance(sd_prior, list | tuple) else (sd_prior, sd_prior)
    if len(pair) != 2:
        raise ValueError("sd_prior must be one distribution or a pair: intercept, slope.")
    for name, prior in zip(("sd", "sd", "sigma"), (*pair, sigma_prior), strict=True):
        if not isinstance(getattr(prior, "dist", None), rv_continuous):
            raise ValueError(
                f"The {name} prior must be a frozen SciPy distribution such as "
                f"scipy.stats.halfnorm(scale=5); found {prior!r}."
            )
        if prior.support()[0] < 0:
            raise ValueError(f"The {name} prior reaches below zero; use a positive distribution.")
    size = len(sums.terms)
    try:
        mean, sd = (np.broadcast_to(np.asarray(v, float), (size,)) for v in fixed_prior)
    except ValueError:
        raise ValueError(f"fixed_prior needs one number or {size}, one per fixed effect.") from None
    if not (np.isfinite(mean).all() and np.isfinite(sd).all() and (sd > 0).all()):
        raise ValueError("fixed_prior must be proper: finite means, finite positive sds.")
    if lkj_eta is not None and not lkj_eta >= 1:
        raise ValueError(f"lkj_eta = {lkj_eta} is below 1; use 1 or more, or None for no correlation.")
    return _Priors(mean, sd, *pair, sigma_prior, lkj_eta)


class _Model:
    """Log joint density of the data and (theta_0, theta_1, angle, sigma)."""

    def __init__(self, sums: CrossProducts, priors: _Priors):
        p = len(sums.terms)
        # y - X m in place of y, so that the fixed effects have prior mean zero
        centre = np.eye(p + 1)
        centre[:p, p] = -priors.mean
        shifted = centre.T @ sums.products @ centre
        self.sums = CrossProducts(sums.groups, sums.terms, sums.varying, sums.rows, shifted)
        self.priors, self.p, self.rows = priors, p, int(sums.rows.sum())
        self.start = fit_reml(sums)
        self._interpolation: _Interpolation | None = None

    @property
    def chunk(self):
        """Nodes to solve at a time, so that what is held is bounded."""
        direct = max(1, min(_CHUNK, _CELLS // len(self.sums.groups)))
        return _CHUNK if self._interpolation is not None else direct

    def solve(self, t0, t1, angle):
        """Everything that does not depend on sigma, for flat arrays of nodes."""
        parts = [
            self._solve(t0[i : i + self.chunk], t1[i : i + self.chunk], angle[i : i + self.chunk])
            for i in range(0, t0.size, self.chunk)
        ]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def interpolate(self, box, orders=(8, 10, 12), check=True):
        """Put an interpolation of the sums over groups in their place, if it is exact enough."""
        self._interpolation = None
        if len(self.sums.groups) < MANY:
            return
        places = np.random.default_rng(len(orders)).uniform(size=(3, 24))
        t0, t1, angle = box[:3, :1] + np.diff(box[:3]) * places
        sigma = np.array([self.start.sd_residual])
        exact = self.log_joint(t0, t1, angle, sigma, self.solve(t0, t1, angle)) if check else None
        for order in orders:
            self._interpolation = _Interpolation(self.sums, box, order, self.chunk)
            if exact is None:
                return
            found = self.log_joint(t0, t1, angle, sigma, self.solve(t0, t1, angle))
            if np.abs(found - exact).max() < INTERPOLATION:
                return
        self._interpolation = None

    def _solve(self, t0, t1, angle):
        r, p, s = np.sin(angle), self.p, self.priors.sd
        if self._interpolation is not None:
            log_det, a = self._interpolation(t0, t1, angle)
        else:
            log_det, a = self.sums.reduce(t0**2, r * t0 * t1, t1**2)
        values, vectors = np.linalg.eigh(a[:, :p, :p] * s[:, None] * s)
        b = np.einsum("tab,ta->tb", vectors, a[:, :p, p] * s)
        return log_det, np.maximum(values, 0), vectors, b, a[:, p, p]

    def log_joint(self, t0, t1, angle, sigma, solved):
        """Log density, shape (nodes, sigmas), per unit of theta, angle and sigma."""
        log_det, values, _, b, rss = solved
        variance = sigma**2
        ratio = values[:, None] / variance[:, None] + 1  # (T, K, p)
        quad = rss[:, None] / variance - (b[:, None] ** 2 / ratio).sum(-1) / variance**2
        value = -0.5 * (self.rows * np.log(2 * np.pi * variance) + log_det[:, None] + quad)
        value -= 0.5 * np.log(ratio).sum(-1)
        value += self.priors.log_angle(angle)[:, None] + self.priors.sigma.logpdf(sigma)
        value += self.priors.sd_intercept.logpdf(t0[:, None] * sigma) + np.log(sigma)
        return value + self.priors.sd_slope.logpdf(t1[:, None] * sigma) + np.log(sigma)


class _Interpolation:
    """Sums over groups as a polynomial in theta_0, theta_1 and the angle, on a box."""

    def __init__(self, sums: CrossProducts, box: np.ndarray, order: int, chunk: int):
        self.low, self.width = box[:3, 0], np.where(box[:3, 1] > box[:3, 0], np.ptp(box[:3], axis=1), 1)
        self.counts = [order if high > low else 1 for low, high in box[:3]]
        nodes = [chebyshev.chebpts1(n) for n in self.counts]
        self.inverse = [
            np.linalg.inv(chebyshev.chebvander(x, n - 1))
            for x, n in zip(nodes, self.counts, strict=True)
        ]
        axes = [
            low + width * (x + 1) / 2 if x.size > 1 else np.array([low])
            for x, low, width in zip(nodes, self.low, self.width, strict=True)
        ]
        t0, t1, angle = (v.ravel() for v in np.meshgrid(*axes, indexing="ij"))
        self.upper = np.triu_indices(sums.products.shape[1])
        self.size = sums.products.shape[1]
        values = []
        for i in range(0, t0.size, chunk):
            one, other, r = t0[i : i + chunk], t1[i : i + chunk], np.sin(angle[i : i + chunk])
            log_det, a = sums.reduce(one**2, r * one * other, other**2)
            values.append(np.column_stack([log_det, a[:, *self.upper]]))
        self.values = np.concatenate(values)

    def __call__(self, t0, t1, angle):
        each = zip((t0, t1, angle), self.low, self.width, self.counts, self.inverse, strict=True)
        i, j, k = (
            chebyshev.chebvander(2 * (x - low) / width - 1, n - 1) @ inverse
            for x, low, width, n, inverse in each
        )
        basis = (i[:, :, None, None] * j[:, None, :, None] * k[:, None, None, :]).reshape(t0.size, -1)
        found = basis @ self.values
        a = np.empty((t0.size, self.size, self.size))
        a[:, *self.upper] = a[:, *self.upper[::-1]] = found[:, 1:]
        return found[:, 0], a


def _first_box(model: _Model) -> np.ndarray:
    """Where the search for the box begins."""
    fit = model.start
    sigma = fit.sd_residual
    width = 12 / np.sqrt(2 * model.rows)
    box = np.array(
        [
            [0, 3 * fit.sd_intercept / sigma + 0.1],
            [0, 3 * fit.sd_slope / sigma + 0.1],
            [0, 0] if model.priors.eta is None else [-np.pi / 2, np.pi / 2],
            [sigma * np.exp(-width), sigma * np.exp(width)],
        ]
    )
    if len(model.sums.groups) < MANY:
        return box
    # thousands of groups: a few standard errors of the Fisher information of one group's effects
    spread = 9 / np.sqrt(2 * len(model.sums.groups))
    for k, sd in ((0, fit.sd_intercept), (1, fit.sd_slope)):
        box[k] = np.maximum(sd / sigma * np.array([1 - 2 * spread, 1 + 2 * spread]), [0, 1e-3])
    if model.priors.eta is not None:
        middle = np.arcsin(np.nan_to_num(fit.correlation))
        box[2] = np.clip(middle + 4 * spread * np.array([-1, 1]), -np.pi / 2, np.pi / 2)
    return box


def _legendre(low, high, n):
    x, w = legendre.leggauss(n)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2


def _find_box(model: _Model, count: int = 16) -> np.ndarray:
    """Bounds of theta_0, theta_1, angle and sigma outside of which the density is negligible."""
    box = _first_box(model)
    limits = np.array([[0, np.inf], [0, np.inf], [-np.pi / 2, np.pi / 2], [0, np.inf]])
    for _ in range(40):
        axes = [np.array([0.0]) if lo == hi else _legendre(lo, hi, count)[0] for lo, hi in box]
        model.interpolate(box, orders=(6,), check=False)
        t0, t1, angle = (v.ravel() for v in np.meshgrid(*axes[:3], indexing="ij"))
        with np.errstate(divide="ignore"):
            log_p = model.log_joint(t0, t1, angle, axes[3], model.solve(t0, t1, angle))
        log_p = log_p.reshape([len(axis) for axis in axes])
        log_p -= log_p.max()
        done = True
        for k in range(4):
            if box[k, 0] == box[k, 1]:
                continue
            others = tuple(i for i in range(4) if i != k)
            alive = np.flatnonzero(log_p.max(axis=others) > -DROP)
            low, high = box[k]
            span = high - low
            if alive[-1] == count - 1 and high < limits[k, 1]:
                box[k, 1], done = min(high + span, limits[k, 1]), False
            elif alive[-1] < count - 2:
                box[k, 1] = axes[k][alive[-1] + 1]
                done &= box[k, 1] - low > 0.7 * span
            if alive[0] == 0 and low > limits[k, 0]:
                box[k, 0], done = max(low - span, limits[k, 0]), False
            elif alive[0] > 1:
                box[k, 0] = axes[k][alive[0] - 1]
                done &= high - box[k, 0] > 0.7 * span
        if done:
            return box
    raise ExactPosteriorError(
        "The posterior of a standard deviation has no end that could be found; "
        "use a prior with a lighter tail."
    )


class _Grid:
    """The joint posterior on one tensor grid of nodes."""

    def __init__(self, model: _Model, box: np.ndarray, nodes: Sequence[int]):
        self.box, self.priors = box, model.priors
        self.fixed_correlation = model.priors.eta is None
        axes, weights = zip(
            *(
                (np.array([0.0]), np.array([1.0])) if lo == hi else _legendre(lo, hi, n)
                for (lo, hi), n in zip(box, nodes, strict=True)
            ),
            strict=True,
        )
        self.axes = axes
        t0, t1, angle = (v.ravel() for v in np.meshgrid(*axes[:3], indexing="ij"))
        solved = model.solve(t0, t1, angle)
        blocks = [slice(i, i + _CHUNK) for i in range(0, t0.size, _CHUNK)]
        log_p = np.concatenate(
            [
                model.log_joint(t0[i], t1[i], angle[i], axes[3], tuple(part[i] for part in solved))
                for i in blocks
            ]
        )
        top = log_p.max()
        density = np.exp(log_p - top)
        weight = density * np.einsum("i,j,k->ijk", *weights[:3]).ravel()[:, None] * weights[3]
        total = weight.sum()
        self.log_evidence = float(top + np.log(total))
        self.shape = tuple(len(axis) for axis in axes)
        self.weight = weight / total  # (T, K)
        keep = self.weight.sum(1) > 1e-13
        self.weight_kept = self.weight[keep] / self.weight[keep].sum()
        self.theta = np.stack([t0, t1, angle])[:, keep]
        _, values, self.vectors, b, _ = (part[keep] for part in solved)
        variance = axes[3] ** 2
        ratio = values[:, None] / variance[:, None] + 1
        self.rotated_mean = b[:, None] / variance[:, None] / ratio  # (T, K, p)
        self.rotated_variance = 1 / ratio
        self.legendre_weights = weights

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and sds: fixed effects, then the four variance parameters."""
        beta_mean, beta_square = self._fixed_given_theta
        w = self.weight_kept.sum(1)
        mean = w @ beta_mean
        second = w @ np.einsum("tkk->tk", beta_square)
        fixed_sd = np.sqrt(second - mean**2)
        t0, t1, angle = self.theta
        sigma = self.axes[3]
        values = (
            t0[:, None] * sigma,
            t1[:, None] * sigma,
            np.sin(angle)[:, None] + 0 * sigma,
            0 * t0[:, None] + sigma,
        )
        means = np.array([(self.weight_kept * v).sum() for v in values])
        sds = np.sqrt(
            [(self.weight_kept * (v - m) ** 2).sum() for v, m in zip(values, means, strict=True)]
        )
        offset = self.priors.mean
        return np.concatenate([offset + mean, means]), np.concatenate([fixed_sd, sds])

    @cached_property
    def _fixed_given_theta(self):
        """E[beta - m | theta] and E[(beta - m)(beta - m)' | theta] of each node kept."""
        w = self.weight_kept / self.weight_kept.sum(1, keepdims=True)
        mean = np.einsum("tk,tkp->tp", w, self.rotated_mean)
        second = np.einsum("tk,tkp,tkq->tpq", w, self.rotated_mean, self.rotated_mean, optimize=True)
        diagonal = np.einsum("tk,tkp->tp", w, self.rotated_variance)
        index = np.arange(mean.shape[1])
        second[:, index, index] += diagonal
        turn = self.vectors * self.priors.sd[:, None]
        return np.einsum("tab,tb->ta", turn, mean), turn @ second @ np.swapaxes(turn, 1, 2)

    def _fixed_normal(self, k):
        """Mean, sd and weight of the normal components of one fixed effect, flattened."""
        turn = self.vectors[:, k] * self.priors.sd[k]  # (T, p)
        mean = np.einsum("tp,tkp->tk", turn, self.rotated_mean) + self.priors.mean[k]
        sd = np.sqrt(np.einsum("tp,tkp->tk", turn**2, self.rotated_variance))
        keep = self.weight_kept > 1e-10
        return mean[keep], sd[keep], self.weight_kept[keep] / self.weight_kept[keep].sum()

    def fixed_effect(self, k, x, cumulative):
        if getattr(self, "_cached", (None,))[0] != k:
            self._cached = (k, self._fixed_normal(k))
        mean, sd, weight = self._cached[1]
        if cumulative:
            return np.array([weight @ ndtr((v - mean) / sd) for v in x])
        return np.array([weight @ (np.exp(-0.5 * ((v - mean) / sd) ** 2) / sd) for v in x]) / np.sqrt(
            2 * np.pi
        )

    def bounds(self, parameter):
        sigma = self.box[3]
        if parameter == "sigma":
            return sigma
        if parameter == "correlation":
            return tuple(np.sin(self.box[2]))
        low, high = self.box[0 if parameter == "sd_intercept" else 1]
        return low * sigma[0], high * sigma[1]

    def _series(self, axis, density):
        """Legendre coefficients, on the box's axis, of a function known at its nodes."""
        n = len(self.axes[axis])
        x, w = legendre.leggauss(n)
        vandermonde = legendre.legvander(x, n - 1)
        norm = (2 * np.arange(n) + 1) / 2
        return norm[:, None] * (vandermonde.T @ (w[:, None] * density.reshape(n, -1)))

    def _unit(self, axis, x):
        low, high = self.box[axis]
        return np.clip(2 * (x - low) / (high - low) - 1, -1, 1)

    def _axis_values(self, axis, x, density, cumulative):
        """Density or distribution function along an axis, each column of ``density`` apart."""
        low, high = self.box[axis]
        series = self._series(axis, density)
        if cumulative:
            series = legendre.legint(series, lbnd=-1) * (high - low) / 2
        unit = self._unit(axis, x)
        inside = (x >= low) & (x <= high) if not cumulative else np.ones(x.shape, bool)
        if x.ndim == 1 and series.shape[1] == 1:
            return legendre.legval(unit, series[:, 0]) * inside
        columns = [
            legendre.legval(unit[..., c], series[:, c]) * inside[..., c] for c in range(series.shape[1])
        ]
        return np.stack(columns, -1)

    def marginal(self, parameter, x, cumulative):
        """Marginal density or distribution function of a variance parameter."""
        weight = self.weight.reshape(self.shape)
        if parameter in ("sigma", "correlation"):
            axis = 3 if parameter == "sigma" else 2
            mass = weight.sum(axis=tuple(i for i in range(4) if i != axis))
            density = mass / self.legendre_weights[axis]
            if axis == 3:
                return self._axis_values(3, x, density[:, None], cumulative)
            angle = np.arcsin(np.clip(x, -1, 1))
            value = self._axis_values(2, angle, density[:, None], cumulative)
            return value if cumulative else np.where(np.abs(x) < 1, value / np.cos(angle), 0.0)
        # sd = theta * sigma: a mixture over the nodes of sigma
        axis = 0 if parameter == "sd_intercept" else 1
        mass = weight.sum(axis=tuple(i for i in range(3) if i != axis))  # (n_axis, K)
        density = mass / self.legendre_weights[axis][:, None]
        scaled = x[:, None] / self.axes[3]
        value = self._axis_values(axis, scaled, density, cumulative)
        return (value if cumulative else value / self.axes[3]).sum(-1)

    def joint_density(self, sd_slope, correlation):
        if self.fixed_correlation:
            raise ValueError(
                "The correlation is fixed at 0 in this model, so there is no joint density."
            )
        mass = self.weight.reshape(self.shape).sum(0)  # (n1, nr, K)
        density = mass / np.multiply.outer(self.legendre_weights[1], self.legendre_weights[2])[..., None]
        n1, nr, count = density.shape
        along_slope = self._series(1, density).reshape(n1, nr, count)
        along_both = self._series(2, along_slope.transpose(1, 0, 2)).reshape(nr, n1, count)
        angle = np.arcsin(correlation)
        right = legendre.legvander(self._unit(2, angle), nr - 1)  # (N, nr)
        right = right * ((angle >= self.box[2, 0]) & (angle <= self.box[2, 1]))[:, None]
        out = np.zeros((sd_slope.size, correlation.size))
        for k, sigma in enumerate(self.axes[3]):
            theta = sd_slope / sigma
            left = legendre.legvander(self._unit(1, theta), n1 - 1)
            left = left * ((theta >= self.box[1, 0]) & (theta <= self.box[1, 1]))[:, None]
            out += left @ along_both[:, :, k].T @ right.T / sigma
        return np.maximum(out / np.cos(angle), 0)

    def group_effects(self, sums: CrossProducts) -> tuple[np.ndarray, np.ndarray]:
        """Means and sds of the group effects, shape (J, 2) each."""
        beta_mean, beta_second = self._fixed_given_theta
        beta_mean = beta_mean + self.priors.mean
        shift = beta_mean - self.priors.mean
        covariance = beta_second - shift[:, :, None] * shift[:, None, :]
        w = self.weight_kept.sum(1)
        variance = (self.weight_kept @ self.axes[3] ** 2) / w
        z, p = list(sums.varying), len(sums.terms)
        c = sums.products[:, z]
        first, second = np.zeros((len(c), 2)), np.zeros((len(c), 2))
        t0, t1, angle = self.theta
        held = max(1, min(1024, _CELLS // (16 * len(c))))
        for part in np.array_split(np.arange(w.size), max(1, w.size // held)):
            d01 = np.sin(angle[part]) * t0[part] * t1[part]
            d = np.stack([t0[part] ** 2, d01, d01, t1[part] ** 2], -1).reshape(-1, 1, 2, 2)
            gram = np.eye(2) + d @ c[:, :, z]
            det = gram[..., 0, 0] * gram[..., 1, 1] - gram[..., 0, 1] * gram[..., 1, 0]
            inverse = np.empty_like(gram)
            inverse[..., 0, 0], inverse[..., 1, 1] = gram[..., 1, 1], gram[..., 0, 0]
            inverse[..., 0, 1], inverse[..., 1, 0] = -gram[..., 0, 1], -gram[..., 1, 0]
            shrink = inverse @ d / det[..., None, None]  # (T, J, 2, 2)
            residual = c[..., p] - np.einsum("jap,tp->tja", c[..., :p], beta_mean[part])
            mean = (shrink @ residual[..., None])[..., 0]
            load = shrink @ c[..., :p]  # (T, J, 2, p)
            spread = np.einsum("tjap,tjap->tja", load @ covariance[part][:, None], load)
            spread += variance[part][:, None, None] * np.einsum("tjaa->tja", shrink)
            first += np.einsum("t,tja->ja", w[part], mean)
            second += np.einsum("t,tja->ja", w[part], spread + mean**2)
        return first, np.sqrt(second - first**2)
