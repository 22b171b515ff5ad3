r"""The same posterior for many groups: one grid for all, each group's marginal a mixture over it.

`_districts_quadrature` makes each marginal on its own, which is what few groups with long tails need.
With many groups the two outer parameters are known well, a coarse grid of the same kind carries the
whole posterior, and given its nodes the groups are independent, so that

.. math::

   p(\alpha_j \mid y) = L_j(\alpha_j) \sum_k w_k\,
   \frac{\mathrm{Normal}(\alpha_j \mid \bar\alpha_k, \sigma_k)}{I_j(\bar\alpha_k, \sigma_k)}

with the nodes' posterior weights :math:`w_k`. Groups are handled in chunks, twice: once for the
weights, which need the integrals of all groups, and once for the groups' moments and quantiles. So
memory does not grow with the number of groups.

Where :math:`\sigma_k` is narrow beside the distance of the nodes of :math:`\bar\alpha`, such a mixture
would be a comb. There the sum over :math:`\bar\alpha` is one over Gauss-Hermite nodes around
:math:`\alpha_j`, with the logarithm of the rest, which is close to a parabola, as a polynomial.

Errors are estimated as in `_districts_quadrature`: by what every other node misses, squared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike
from scipy.special import expit, logsumexp, sici

from fieldguide.reference._districts_integral import (
    LOG_TWO_PI,
    Inner,
    integrate_effect,
    log_ratio,
    reference_point,
)
from fieldguide.reference._districts_quadrature import _B_MEAN, Model, _make_plan, _Plan, _tail_exponent
from fieldguide.reference._marginal import Marginal
from fieldguide.reference._protocol import ExactPosteriorError

TOLERANCE = 1e-5
"""Largest error estimate of a moment, in posterior standard deviations, that is not refused."""

QUANTILE_TOLERANCE = 3e-4
"""Largest error estimate of a quantile, in posterior standard deviations, that is not refused."""

_PAIRS = 1 << 19  # nodes times groups that are handled at once
_STEPS = (0.45, 0.6, 0.5)  # steps in t for the spread, the mean and the inner integral
_FEW = 300  # groups whose moments are looked at before all of them are
_NOTHING = 1e-10  # probability of a node that does not count
_END = 1e-8  # probability at the ends of a grid that is not worth going further for
_NARROW = 0.8  # scales of alpha_bar below which sigma is narrow
_NARROW_SPREAD = 0.15  # sd of log sigma up to which a posterior is narrow
_DEGREES = ((0.1, 8), (np.inf, 14))  # of the polynomials in alpha_bar, up to a scale of so much
_FAR = 35.0  # sds from its mean to either end of a group's marginal
_NODES = (49, 97, 193, 385)  # of a group's marginal; more where fewer do not suffice
_SUFFICIENT = 2e-6  # error estimate of a quantile at which nodes are enough

_HERMITE = ((0.08, 4), (0.3, 7), (np.inf, 18))  # Gauss-Hermite nodes up to a sigma of so many scales


Steps = tuple[float, float, float]  # in t for the spread, the mean and the inner integral


@dataclass(frozen=True)
class Accuracy:
    """What a computation aims at, in posterior sds, and what it begins with."""

    moments: float  # largest error estimate that is not refused
    quantiles: float
    steps: Steps
    nothing: float  # probability of a node that does not count
    end: float  # probability at the ends of a grid that is not worth going further for
    sufficient: float  # error estimate of a quantile at which nodes are enough
    degrees: tuple[tuple[float, int], ...]  # of the polynomials, up to a scale of so much
    hermite: tuple[tuple[float, int], ...]  # nodes up to a sigma of so many scales
    nodes: tuple[int, ...]  # of a group's marginal
    spread: bool = False  # whether the quantiles of sigma decide on the grid, too
    far: float = _FAR  # sds to either end of a group's marginal, under a prior with a heavy tail
    missing: float = 1.7  # power of the missing mass that is an error


def _times(steps: Steps, factors: ArrayLike) -> Steps:
    spread, mean, inner = np.multiply(steps, factors).tolist()
    return spread, mean, inner


def _ordinary() -> Accuracy:
    return Accuracy(
        TOLERANCE, QUANTILE_TOLERANCE, _STEPS, _NOTHING, _END, _SUFFICIENT, _DEGREES, _HERMITE, _NODES
    )


EXACT = Accuracy(
    moments=4e-7,
    quantiles=1e-6,
    steps=(0.3, 0.45, 0.4),
    nothing=1e-13,
    end=1e-10,
    sufficient=1e-8,
    degrees=((0.05, 8), (0.1, 12), (0.2, 16), (0.4, 20), (np.inf, 28)),
    hermite=((0.03, 4), (0.1, 6), (0.3, 9), (np.inf, 20)),
    nodes=(65, 97, 193, 385, 769),
    spread=True,
    far=3e4,
    missing=1.0,
)
"""As accurate as `exact_posterior`."""


_PROBED = (0.05, 0.5, 0.95)  # quantiles of sigma that are looked at
_DERIVED = ("sigma", "moments", "alpha_bar", "_alpha_bar_rows", "_alpha_bar_misfit")  # from the grid
_THREADS = 4  # at most; more would only wait for memory
_CHEBYSHEV = 11  # such nodes along sigma and along alpha_bar
_POLYNOMIAL = 0.05  # sds of log sigma and alpha_bar, in logits, up to which so many are enough
_MANY = 400  # kinds of groups of which a sample says where the posterior is
_WIDER = (1.05, 1.3, 1.05)  # factors of the first steps in such a grid, which is nearly normal
_SPARE = 7.2  # sds of log sigma to either end of a grid around a narrow posterior


def _close_plan(model: Model) -> _Plan | None:
    """Where the mass is, of so many groups that the posterior of both outer parameters is narrow.

    A sample of the groups, each counted more often, says about where; from there Newton's method, with
    derivatives from differences over one sd. None where the posterior is not narrow.
    """
    units = model.successes.size
    if units < _MANY:
        return None
    some = np.unique(np.linspace(0, units - 1, max(_MANY // 3, units // 30)).astype(int))
    count = model.count[some] * (model.count.sum() / model.count[some].sum())
    sample = replace(
        model, successes=model.successes[some], trials=model.trials[some], count=count, member=some
    )
    plan = _make_plan(sample, 2)
    ends, _ = plan.v(np.array([-1.0, 0.0, 1.0]))
    v, sd = ends[1], (ends[2] - ends[0]) / 2
    if sd > _NARROW_SPREAD or np.ptp(plan.v(np.array([plan.low, plan.high]))[0]) > 40 * sd:
        return None
    (a,), (scale,) = plan.ridge(ends[1:2])
    grid = np.array([-1.0, 0.0, 1.0])
    for _ in range(12):
        f = _log_joint(model, a + scale * grid, v + sd * grid)  # (spread, mean)
        f_a, f_v = (f[1, 2] - f[1, 0]) / 2, (f[2, 1] - f[0, 1]) / 2
        f_aa, f_vv = f[1, 2] + f[1, 0] - 2 * f[1, 1], f[2, 1] + f[0, 1] - 2 * f[1, 1]
        f_av = (f[2, 2] - f[2, 0] - f[0, 2] + f[0, 0]) / 4
        determinant = f_aa * f_vv - f_av**2
        if not (f_aa < 0 < determinant):
            return None
        move_a = (f_av * f_v - f_vv * f_a) / determinant
        move_v = (f_av * f_a - f_aa * f_v) / determinant
        far = max(abs(move_a), abs(move_v))
        tilt = -f_av / f_aa * scale / sd
        shrink = min(1.0, 0.3 / max(abs(move_a) * scale, abs(move_v) * sd, 1e-300))
        a, v = a + shrink * move_a * scale, v + shrink * move_v * sd
        scale, sd = scale / np.sqrt(-f_aa), sd / np.sqrt(determinant / -f_aa)
        if far < 0.3:
            break
    else:
        return None
    plan.median = v
    plan.nodes = v + 2 * _SPARE * sd * grid
    plan.mode, plan.log_scale = a + tilt * (plan.nodes - v), np.full(3, np.log(scale))
    plan.centre, plan.width = float(plan.x(v)), float(plan.x(v + sd) - plan.x(v - sd)) / 2
    plan.reach = _B_MEAN * np.arcsinh(_SPARE / _B_MEAN)
    plan.low, plan.high = plan.t(v + _SPARE * sd * np.array([-1.0, 1.0]))
    return plan


def _fits(plan: _Plan) -> bool:
    """Whether a grid is so narrow that integrals are polynomials on it."""
    widths = np.ptp(plan.nodes) / (4 * _SPARE), np.exp(plan.log_scale[0])
    return max(widths) < _POLYNOMIAL


def _log_joint(model: Model, alpha_bar: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Log density of counts, alpha_bar and v, shape (V, A), but for a constant."""
    out = np.zeros((v.size, alpha_bar.size))
    size = max(_PAIRS // out.size, 1)
    for start in range(0, model.successes.size, size):
        part = slice(start, start + size)
        y, n = model.successes[part], model.trials[part]
        inner = integrate_effect(alpha_bar[:, None], model.sigma(v)[:, None, None], y, n, 0.5)
        out += inner.log_integral @ model.count[part]
    z = (alpha_bar - model.prior_mean) / model.prior_sd
    return out + model.log_sigma_prior(v)[:, None] - 0.5 * z**2


@dataclass
class _Nodes:
    """The outer grid: one row per sigma, one column per standardised alpha_bar."""

    t: np.ndarray  # (S,) uniform
    sigma: np.ndarray  # (S,)
    mode: np.ndarray  # (S,)
    scale: np.ndarray  # (S,)
    alpha_bar: np.ndarray  # (S, A)
    log_measure: np.ndarray  # (S, A), of both trapezoidal rules and sigma's prior
    log_density: np.ndarray  # (S, A), of the counts and alpha_bar given sigma
    weight: np.ndarray  # (S, A), sums to 1
    total: float  # log marginal likelihood
    step: float  # of the inner integrals
    log_product: np.ndarray  # (S, A), of all groups' integrals
    few: _Few | None  # the nodes at which integrals are made, if not at all of them


@dataclass
class _Few:
    """Few nodes of Chebyshev's between which integrals are interpolated, on a narrow grid.

    There they are as good as polynomials: nearly parabolas over a small share of their own width.
    """

    alpha_bar: np.ndarray  # (F,)
    sigma: np.ndarray  # (F,)
    between: np.ndarray  # (S * A, F), from these to the nodes of the grid


def _interpolation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev's nodes over the range of ``x``, and the matrix from values there to values at ``x``."""
    low, high = x.min(), x.max()
    unit = chebyshev.chebpts1(_CHEBYSHEV)
    values = chebyshev.chebvander(unit, _CHEBYSHEV - 1)
    matrix = chebyshev.chebvander((2 * x - low - high) / (high - low), _CHEBYSHEV - 1)
    return (low + high + (high - low) * unit) / 2, matrix @ np.linalg.inv(values)


@dataclass
class GroupSummaries:
    """What is known of each kind of group; arrays of shape (U,), of quantiles (Q, U)."""

    mean: np.ndarray  # of the effect, in logits
    sd: np.ndarray
    mean_p: np.ndarray  # of the rate
    sd_p: np.ndarray
    quantiles: np.ndarray  # of the effect
    own: np.ndarray  # share of what is known that comes from the group's own counts
    error: np.ndarray  # estimated, the largest of all, in sds


class ManyGroups:
    """Posterior of the varying-intercept model for many kinds of groups.

    Parameters
    ----------
    model : Model
        Counts and priors.
    tick : callable, optional
        Told the share of the work that has been done, now and then.
    accuracy : Accuracy, optional
        That of a report, unless given.
    """

    def __init__(
        self,
        model: Model,
        tick: Callable[[float], object] | None = None,
        accuracy: Accuracy | None = None,
    ):
        self.model = model
        self.accuracy = _ordinary() if accuracy is None else accuracy
        self._tick = tick
        heavy = np.isfinite(_tail_exponent(model.sigma_prior))
        self._far = self.accuracy.far if heavy else _FAR
        close = _close_plan(model)
        self.plan = close or _make_plan(model, 2)
        self._narrow = close is not None and _fits(close)
        self._told(0.2)
        steps = self.accuracy.steps
        self._converge(_times(steps, _WIDER) if close else steps)

    def _told(self, share: float) -> None:
        if self._tick:
            self._tick(share)

    def __getstate__(self):
        return {name: v for name, v in self.__dict__.items() if name not in {*_DERIVED, "_tick"}}

    def __setstate__(self, state):
        self.__dict__.update(state, _tick=None)

    # -- the grid

    def _chunks(self, nodes: int) -> Iterator[np.ndarray]:
        size = max(_PAIRS // nodes, 1)
        units = self.model.successes.size
        for start in range(0, units, size):
            yield np.arange(start, min(start + size, units))

    def _each(self, function: Callable, nodes: int) -> Iterator[tuple[np.ndarray, Any]]:
        """Chunks of groups and the function's values, in order, in threads if there are many chunks."""
        chunks = list(self._chunks(nodes))
        if len(chunks) < 4:
            yield from ((part, function(part)) for part in chunks)
            return
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as threads:
            yield from zip(chunks, threads.map(function, chunks), strict=True)

    def _inner(self, nodes: _Nodes, units: np.ndarray, at: np.ndarray) -> Inner:
        """Integrals of some groups at the nodes numbered ``at``; arrays of shape (N, G)."""
        y, n = self.model.successes[units], self.model.trials[units]
        if nodes.few is not None:
            few, between = nodes.few, nodes.few.between[at]
            made = integrate_effect(few.alpha_bar[:, None], few.sigma[:, None], y, n, nodes.step)
            # the effect's mean, not its distance from alpha_bar, is the one that hardly changes
            made.shift += few.alpha_bar[:, None]
            out = Inner(*(between @ getattr(made, field.name) for field in fields(made)))
            out.shift -= nodes.alpha_bar.ravel()[at, None]
            return out
        sigma = np.repeat(nodes.sigma, nodes.alpha_bar.shape[1])
        return integrate_effect(nodes.alpha_bar.ravel()[at, None], sigma[at, None], y, n, nodes.step)

    def _make(self, steps: Steps, reach: list[float]) -> _Nodes:
        model, plan = self.model, self.plan
        # even numbers of intervals, so that every other node is a grid of its own
        t = np.linspace(plan.low, plan.high, 2 * int(np.ceil((plan.high - plan.low) / steps[0] / 2)) + 1)
        t_a = np.linspace(reach[0], reach[1], 2 * int(np.ceil((reach[1] - reach[0]) / steps[1] / 2)) + 1)
        v, log_slope = plan.v(t)
        mode, scale = plan.ridge(v)
        alpha_bar = mode[:, None] + scale[:, None] * _B_MEAN * np.sinh(t_a / _B_MEAN)
        with np.errstate(divide="ignore"):
            log_v = model.log_sigma_prior(v) + log_slope + np.log(t[1] - t[0])
        log_a = np.log(scale)[:, None] + np.log((t_a[1] - t_a[0]) * np.cosh(t_a / _B_MEAN))
        z = (alpha_bar - model.prior_mean) / model.prior_sd
        density = -0.5 * z**2 - np.log(model.prior_sd) - 0.5 * LOG_TWO_PI + model.log_constant
        nodes = _Nodes(
            t, model.sigma(v), mode, scale, alpha_bar, log_a + log_v[:, None],
            density, np.empty(0), 0.0, steps[2], np.zeros(density.shape), None,
        )  # fmt: skip
        a, s = alpha_bar.ravel(), np.repeat(nodes.sigma, t_a.size)
        if self._narrow:
            some_v, rows = _interpolation(v)
            some_u, columns = _interpolation(np.sinh(t_a / _B_MEAN))
            some_mode, some_scale = plan.ridge(some_v)
            a = (some_mode[:, None] + some_scale[:, None] * _B_MEAN * some_u).ravel()
            s = np.repeat(model.sigma(some_v), some_u.size)
            nodes.few = _Few(a, s, np.kron(rows, columns))

        def log_product(units):
            y, n = model.successes[units], model.trials[units]
            made = integrate_effect(a[:, None], s[:, None], y, n, nodes.step)
            return made.log_integral @ model.count[units]

        product = sum((found for _, found in self._each(log_product, a.size)), np.zeros(a.size))
        if nodes.few is not None:
            product = nodes.few.between @ product
        nodes.log_product += product.reshape(density.shape)
        nodes.log_density += nodes.log_product
        joint = nodes.log_density + nodes.log_measure
        nodes.total = float(logsumexp(joint))
        nodes.weight = np.exp(joint - nodes.total)
        return nodes

    def _converge(self, steps: Steps) -> None:
        reach = [-self.plan.reach, self.plan.reach]
        aim = self.accuracy
        some = np.unique(np.linspace(0, self.model.successes.size - 1, _FEW).astype(int))
        for _ in range(12):
            nodes = self._make(steps, reach)
            ends = nodes.weight[:, [0, -1]].sum(0)
            if ends.max() > aim.end:
                reach = [reach[0] - (ends[0] > aim.end), reach[1] + (ends[1] > aim.end)]
                continue
            ends = nodes.weight[[0, -1]].sum(1)
            if ends.max() > aim.end:
                self.plan.low -= ends[0] > aim.end
                self.plan.high += ends[1] > aim.end
                continue
            self.nodes = nodes
            for known in _DERIVED:  # of the grid before
                self.__dict__.pop(known, None)
            errors = np.array([*np.square(self._missed(some)), self._inner_error()])
            errors[0] = max(errors[0], self.sigma.resolution)
            if aim.spread:
                errors[0] = max(errors[0], max(self.quantile_error("sigma", q) for q in _PROBED))
            self.error = 4 * float(errors.sum())
            if self.error < aim.moments:
                break
            # errors fall like exp(-1 / step): one step towards the target, at least a little finer
            with np.errstate(divide="ignore"):
                wanted = np.log(np.minimum(errors, 0.5)) / np.log(aim.moments / 16)
            ratio = np.where(errors > aim.moments / 16, np.clip(wanted, 0.4, 0.85), 1.0)
            steps = _times(steps, ratio)
        if not (hasattr(self, "error") and self.error < aim.moments):
            raise ExactPosteriorError(
                f"The grid over the groups' mean and spread did not converge (error estimate "
                f"{getattr(self, 'error', np.inf):.0e} posterior sd); use less extreme priors."
            )
        self._told(0.5)

    @property
    def _thin_rows(self) -> np.ndarray:
        """Rows whose sigma is narrow beside the distance of the nodes of alpha_bar."""
        narrow = self.nodes.sigma < _NARROW * self.nodes.scale
        return np.flatnonzero(narrow & (self.nodes.weight.sum(1) > self.accuracy.nothing))

    @property
    def _alive(self) -> np.ndarray:
        """Numbers of the nodes that groups are asked at: those that count, and whole narrow rows."""
        (a, _, s), (var_a, _, var_s) = self._outer(self.nodes.weight)
        # far out along a heavy tail what has hardly a probability has a second moment
        far = (self.nodes.alpha_bar - a) ** 2 / var_a + ((self.nodes.sigma - s) ** 2 / var_s)[:, None]
        alive = self.nodes.weight * np.maximum(1, far) > self.accuracy.nothing
        alive[self._thin_rows] = True
        return np.flatnonzero(alive)

    def _halves(self) -> list[np.ndarray]:
        """Weights of every node, of every other sigma, and of every other alpha_bar."""
        out = [self.nodes.weight]
        for every in (np.s_[::2, :], np.s_[:, ::2]):
            half = np.zeros_like(self.nodes.weight)
            half[every] = self.nodes.weight[every]
            out.append(half / half.sum())
        return out

    def _missed(self, some: np.ndarray) -> np.ndarray:
        """How far moments move with every other sigma, and with every other alpha_bar, in sds."""
        at = self._alive
        inner = self._inner(self.nodes, some, at)
        found = []
        for weight in self._halves():
            means, variances = self._outer(weight)
            mean, variance, mean_p, variance_p, _ = self._groups(inner, weight, at)
            sds = np.sqrt([*variances, *variance, *variance_p])
            found.append((np.array([*means, *mean, *mean_p]), sds))
        (mean, sd), *others = found
        return np.array([float(np.max(np.maximum(abs(m - mean), abs(s - sd)) / sd)) for m, s in others])

    def _inner_error(self) -> float:
        """Estimated error of the inner integrals, from five nodes done again more finely.

        Of one group's moments in sds, and of the logarithm of all groups' product where it is not the
        same at all five, which shifts the outer parameters.
        """
        weight = self.nodes.weight
        row, column = np.unravel_index(np.argmax(weight), weight.shape)
        ways = [(0, 0), (-3, 0), (3, 0), (0, -3), (0, 3)]
        rows, columns = np.array([(row + i, column + j) for i, j in ways]).T
        rows, columns = np.clip(rows, 0, weight.shape[0] - 1), np.clip(columns, 0, weight.shape[1] - 1)
        a, s = self.nodes.alpha_bar[rows, columns, None], self.nodes.sigma[rows, None]
        worst, product = 0.0, -self.nodes.log_product[rows, columns]
        for units in self._chunks(rows.size):
            y, n = self.model.successes[units], self.model.trials[units]
            now, fine = (integrate_effect(a, s, y, n, self.nodes.step / k) for k in (1, 1.5))
            moved = np.abs(now.shift - fine.shift) / np.sqrt(fine.variance)
            worst = max(worst, moved.max(), np.abs(now.variance / fine.variance - 1).max())
            product += fine.log_integral @ self.model.count[units]
        self._inner_step = worst
        return float(max(worst, np.ptp(product)))

    def _outer(self, weight: np.ndarray) -> tuple[list[float], list[float]]:
        """Means and variances of alpha_bar, its rate and sigma."""
        sigma = np.broadcast_to(self.nodes.sigma[:, None], weight.shape)
        values = (self.nodes.alpha_bar, expit(self.nodes.alpha_bar), sigma)
        means = [float((weight * v).sum()) for v in values]
        spreads = [float((weight * (v - m) ** 2).sum()) for v, m in zip(values, means, strict=True)]
        return means, spreads

    def _groups(self, inner: Inner, weight: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
        """Mean and variance of effect and rate, and the own share, of some groups."""
        sigma = np.repeat(self.nodes.sigma, weight.shape[1])[at]
        weight = weight.ravel()[at]
        weight = weight / weight.sum()
        alpha = self.nodes.alpha_bar.ravel()[at, None] + inner.shift
        mean = weight @ alpha
        variance = weight @ (inner.variance + (alpha - mean) ** 2)
        mean_p = weight @ inner.p
        variance_p = weight @ (inner.variance_p + (inner.p - mean_p) ** 2)
        own = 1 - (weight / sigma**2) @ inner.variance
        return mean, variance, mean_p, variance_p, np.clip(own, 0, 1)

    # -- the two outer parameters

    @cached_property
    def moments(self) -> tuple[list[float], list[float]]:
        """Means and sds of alpha_bar, its rate and sigma."""
        means, variances = self._outer(self.nodes.weight)
        return means, np.sqrt(variances).tolist()

    @cached_property
    def sigma(self) -> Marginal:
        """Marginal of sigma, from the rows of the grid."""
        plan, model = self.plan, self.model
        return Marginal(
            self.nodes.t,
            self.nodes.weight.sum(1),
            to_t=lambda x: plan.t(model.v(x)),
            from_t=lambda t: model.sigma(plan.v(t)[0]),
        )

    def sigma_density(self, x: np.ndarray) -> np.ndarray:
        """Posterior density of sigma: the rows' masses, with the sinc function between them."""
        nodes, model = self.nodes, self.model
        low, high = model.sigma_prior.support()
        out = np.zeros(np.shape(x))
        inside = (x > max(low, nodes.sigma[0])) & (x < min(high, nodes.sigma[-1]))
        v = model.v(x[inside])
        t = self.plan.t(v)
        step = nodes.t[1] - nodes.t[0]
        value = np.sinc((t[:, None] - nodes.t) / step) @ nodes.weight.sum(1) / step
        with np.errstate(divide="ignore"):
            jacobian = model.sigma_prior.logpdf(x[inside]) - model.log_sigma_prior(v)
        out[inside] = np.maximum(value, 0) * np.exp(jacobian - self.plan.v(t)[1])
        return out

    @cached_property
    def alpha_bar(self) -> Marginal:
        """Marginal of alpha_bar."""
        mean, sd = self.moments[0][0], self.moments[1][0]
        return Marginal.from_density(
            self._alpha_bar_density, mean, sd, mean - _FAR * sd, mean + _FAR * sd
        )

    @cached_property
    def _alpha_bar_rows(self) -> tuple[np.ndarray, Callable]:
        """Rows that carry mass, and their log densities of alpha_bar as polynomials."""
        rows = np.flatnonzero(self.nodes.weight.sum(1) > 1e-14)
        return rows, self._polynomials(rows, self._log_rows(rows))

    def _alpha_bar_density(self, x: np.ndarray) -> np.ndarray:
        rows, fitted = self._alpha_bar_rows
        u = (np.asarray(x)[:, None] - self.nodes.mode[rows]) / self.nodes.scale[rows]
        return np.exp(fitted(u[None])[0]).sum(-1)

    @cached_property
    def _alpha_bar_misfit(self) -> float:
        """What the polynomials are off at the nodes, in probability."""
        rows, fitted = self._alpha_bar_rows
        u = (self.nodes.alpha_bar[rows] - self.nodes.mode[rows, None]) / self.nodes.scale[rows, None]
        off = np.abs(fitted(u.T[None])[0].T - self._log_rows(rows)[0])
        return float((self.nodes.weight[rows] * np.minimum(off, 1)).sum())

    def quantile_error(self, name: str, q: float) -> float:
        """Estimated error of a quantile of sigma or alpha_bar, in posterior sds of it and of p_bar."""
        marginal = self.marginal(name)
        x = marginal.quantile(q)
        error = marginal.quantile_error(x)
        if name == "sigma":
            return error / self.moments[1][2]
        error *= 1 + self._alpha_bar_misfit / marginal.error
        return error * max(1 / self.moments[1][0], expit(x) * expit(-x) / self.moments[1][1])

    def _log_rows(self, rows: np.ndarray) -> np.ndarray:
        """Log density of alpha_bar and each row, in alpha_bar, at the row's nodes; (1, R, A)."""
        prior = self.nodes.log_measure[rows] - self._log_column(rows)
        return (self.nodes.log_density[rows] + prior - self.nodes.total)[None]

    def _log_column(self, rows: np.ndarray) -> np.ndarray:
        """Log of the trapezoid's weight in alpha_bar."""
        u = (self.nodes.alpha_bar[rows] - self.nodes.mode[rows, None]) / self.nodes.scale[rows, None]
        t = _B_MEAN * np.arcsinh(u / _B_MEAN)
        step = (t[:, -1] - t[:, 0]) / (t.shape[1] - 1)
        return np.log(step * self.nodes.scale[rows])[:, None] + np.log(np.cosh(t / _B_MEAN))

    def _polynomials(self, rows: np.ndarray, log_value: np.ndarray) -> Callable:
        """Polynomials in u, the standardised alpha_bar, through values of shape (G, R, A)."""
        u = (self.nodes.alpha_bar[rows[:1]] - self.nodes.mode[rows[0]]) / self.nodes.scale[rows[0]]
        low, high = u[0, 0], u[0, -1]

        def unit(u):
            return (2 * u - low - high) / (high - low)

        widest = self.nodes.scale[rows].max()
        degree = next(d for limit, d in self.accuracy.degrees if widest < limit)
        # on nearly uniform nodes a polynomial of a higher degree swings between them
        degree = min(degree, max(_DEGREES[-1][1], int(0.55 * u.shape[1])), u.shape[1] - 3)
        basis = chebyshev.chebvander(unit(u[0]), degree)
        near = np.exp(-0.05 * u[0] ** 2)[:, None]  # the middle has the mass
        coefficients = (log_value * near[:, 0]) @ np.linalg.pinv(basis * near).T

        def value(at):  # (G, ..., R) -> (G, ..., R)
            x = unit(at)
            c = coefficients.reshape(len(log_value), *(1,) * (at.ndim - 2), *coefficients.shape[1:])
            first = second = np.zeros(1)
            for k in range(degree, 0, -1):  # Clenshaw
                first, second = c[..., k] + 2 * x * first - second, first
            out = c[..., 0] + x * first - second
            return np.where(np.abs(x) <= 1, out, -np.inf)

        return value

    # -- the groups

    def summarise(self, probs: tuple[float, ...], refuse: bool = True) -> GroupSummaries:
        """Return moments, quantiles and own shares of all groups; moments alone without ``probs``.

        Raises
        ------
        ExactPosteriorError
            If the estimated error stays above the accuracy's, unless ``refuse`` is False.
        """
        units = self.model.successes.size
        mean, sd, mean_p, sd_p, own, error = np.empty((6, units))
        quantiles = np.empty((len(probs), units))
        out = GroupSummaries(mean, sd, mean_p, sd_p, quantiles, own, error)
        at, halved = self._alive, self._halves()

        def work(part):
            inner = self._inner(self.nodes, part, at)
            full, *halves = (self._groups(inner, weight, at) for weight in halved)
            mean[part], sd[part], mean_p[part] = full[0], np.sqrt(full[1]), full[2]
            sd_p[part], own[part] = np.sqrt(full[3]), full[4]
            moved = [
                np.maximum(abs(h[0] - mean[part]), abs(np.sqrt(h[1]) - sd[part])) / sd[part]
                for h in halves
            ]
            error[part] = 4 * np.square(moved).sum(0)
            if probs:
                found = self._quantiles(part, inner.log_integral, mean[part], sd[part], np.array(probs))
                quantiles[:, part] = found[0]
                error[part] = np.maximum(found[1], error[part])

        for part, _ in self._each(work, at.size):
            self._told(0.5 + 0.5 * (part[-1] + 1) / units)
        if refuse and not (out.error < self.accuracy.quantiles).all():
            worst = int(np.nanargmax(out.error))
            y, n = self.model.successes[worst], self.model.trials[worst]
            raise ExactPosteriorError(
                f"The interval of a group with {y:.0f} of {n:.0f} is not accurate (error estimate "
                f"{out.error[worst]:.0e} posterior sd); use less extreme priors."
            )
        return out

    def marginal(self, name: str, unit: int | None = None) -> Marginal:
        """Tabulated marginal of sigma, alpha_bar or one group's alpha."""
        if unit is None:
            return self.sigma if name == "sigma" else self.alpha_bar
        mean, sd, density = self._density(unit)
        return Marginal.from_density(density, mean, sd, mean - self._far * sd, mean + self._far * sd)

    def pdf(self, name: str, unit: int | None) -> Callable[[np.ndarray], np.ndarray]:
        """Density of sigma, alpha_bar or one group's alpha."""
        if unit is not None:
            return self._density(unit)[2]
        return self.sigma_density if name == "sigma" else self._alpha_bar_density

    def _density(self, unit: int) -> tuple[float, float, Callable[[np.ndarray], np.ndarray]]:
        """Mean, sd and density of one group's effect."""
        at, units = self._alive, np.array([unit])
        inner = self._inner(self.nodes, units, at)
        (mean,), (variance,), *_ = self._groups(inner, self.nodes.weight, at)

        def density(x):
            x = np.asarray(x, dtype=float)
            order = np.argsort(x, axis=None)  # powers of distances to the middle one keep their digits
            out = np.empty(x.size)
            points = x.ravel()[order][None]
            out[order] = self._densities(units, inner.log_integral, points)[0][0, 0]
            return out.reshape(x.shape)

        return float(mean), float(np.sqrt(variance)), density

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        r"""Log predictive density of each kind of group given the others, and its estimated error.

        From :math:`p(y_j \mid y_{-j})^{-1} = \sum_k w_k / I_j(\bar\alpha_k, \sigma_k)`, relative to the
        likelihood at the group's reference. The error counts what is left out beyond the grid's ends.
        """
        nodes = self.nodes
        with np.errstate(divide="ignore"):
            log_weight = nodes.log_density + nodes.log_measure - nodes.total
        value, error = np.empty((2, self.model.successes.size))
        everywhere = np.arange(log_weight.size)

        def work(part):
            log_integral = self._inner(nodes, part, everywhere).log_integral
            rest = log_weight[:, :, None] - log_integral.reshape(*log_weight.shape, -1)
            rows, columns = logsumexp(rest, axis=1), logsumexp(rest, axis=0)
            total = logsumexp(rows, axis=0)
            missed = [
                logsumexp(some, axis=0) + np.log(2) - total
                for some in (rows[::2], rows[1::2], columns[::2], columns[1::2])
            ]
            ends = np.exp(np.stack([*rows[[0, -1]], *columns[[0, -1]]]) - total).sum(0)
            value[part] = -total
            error[part] = 4 * np.square(missed).sum(0) + 10 * ends + self._inner_step

        for _ in self._each(work, log_weight.size):
            pass
        return value, error

    def _quantiles(self, units, log_integral, mean, sd, probs):
        """Quantiles of some groups' effects, with more nodes for those that need them."""
        found, error = np.empty((probs.size, units.size)), np.full(units.size, np.inf)
        left = np.arange(units.size)
        for count in self.accuracy.nodes:
            size = max(4 * _PAIRS // (count * len(log_integral)), 1)
            for start in range(0, left.size, size):
                part = left[start : start + size]
                found[:, part], error[part] = self._tabulated(
                    units[part], log_integral[..., part], mean[part], sd[part], probs, count
                )
            left = left[~(error[left] < self.accuracy.sufficient)]
            if not left.size:
                break
        return found, error

    def _tabulated(self, units, log_integral, mean, sd, probs, count):
        """Quantiles of some groups, shape (Q, G), from marginals on ``count`` nodes, and their error."""
        end = np.arcsinh(self._far)
        t = np.linspace(-end, end, count)
        step = t[1] - t[0]
        x = mean[:, None] + sd[:, None] * np.sinh(t)  # (G, K)
        density, misfit = self._densities(units, log_integral, x)
        mass = density * (step * sd[:, None] * np.cosh(t))
        missing = np.abs(mass[0].sum(-1) - 1)
        full, *halves = mass / mass.sum(-1, keepdims=True)
        at = _solve(t, full, probs)  # (G, Q)
        cdf, slope = _distribution(t, full, at)
        halved = _distribution(t[::2], 2 * full[:, ::2], at)[0]
        error = 4 * sum(np.abs(_distribution(t, half, at)[0] - cdf) ** 2 for half in halves)
        error += np.abs(halved - cdf) ** 1.7 + misfit[:, None]
        error += missing[:, None] ** self.accuracy.missing
        relative = error / slope * np.cosh(at)  # in sds
        value = mean[:, None] + sd[:, None] * np.sinh(at)
        return value.T, relative.max(-1)

    def _densities(self, units, log_integral, x):
        """Marginal densities at ``x`` (G, K), by weights of all nodes and of halves, and a misfit."""
        y, n = self.model.successes[units, None], self.model.trials[units, None]
        p, q, centre = reference_point(y, n)
        log_likelihood = log_ratio(x - centre, y, n, p, q)[0]
        rows = self._thin_rows
        out = self._wide(log_integral, log_likelihood, x, rows)
        misfit = np.zeros(units.size)
        if rows.size:
            thin, misfit = self._thin(log_integral, log_likelihood, x, rows)
            out += thin
        return out, misfit

    def _wide(self, log_integral, log_likelihood, x, thin):
        """Sum over the nodes of all rows but the thin ones."""
        nodes, at = self.nodes, self._alive
        row, _ = np.divmod(at, nodes.weight.shape[1])
        use = ~np.isin(row, thin)
        if not use.any():
            return np.zeros((3, *x.shape))
        at, sigma = at[use], nodes.sigma[row[use]]
        a = nodes.alpha_bar.ravel()[at]
        middle = x[:, x.shape[1] // 2, None]
        shifted = x - middle  # powers of x keep their digits
        apart = a - middle  # (G, N)
        constant = -np.log(sigma) - 0.5 * LOG_TWO_PI - log_integral[use].T  # (G, N)
        factors = np.stack(
            [np.broadcast_to(-0.5 / sigma**2, apart.shape), apart / sigma**2,
             constant - 0.5 * (apart / sigma) ** 2], axis=1,
        )  # fmt: skip
        log_f = np.stack([shifted**2, shifted, np.ones_like(x)], axis=2) @ factors
        log_f += log_likelihood[:, :, None]
        weights = np.stack([half.ravel()[at] for half in self._halves()], axis=1)  # (N, 3)
        return np.moveaxis(np.exp(log_f, out=log_f) @ weights, -1, 0)

    def _thin(self, log_integral, log_likelihood, x, rows):
        """Sum over Gauss-Hermite nodes around ``x``, for rows whose sigma is narrow.

        Also what the polynomials are off at the nodes, in probability.
        """
        columns = self.nodes.weight.shape[1]
        place = np.searchsorted(self._alive, rows[:, None] * columns + np.arange(columns))
        others = self._log_rows(rows) - np.moveaxis(log_integral[place], -1, 0)  # (G, R, A)
        relative = self.nodes.sigma[rows] / self.nodes.scale[rows]
        out, above, misfit = np.zeros((3, *x.shape)), 0.0, np.zeros(len(x))
        for below, count in self.accuracy.hermite:
            use = (relative >= above) & (relative < below)
            above = below
            if not use.any():
                continue
            some = rows[use]
            fitted = self._polynomials(some, others[:, use])
            sigma, mode, scale = (getattr(self.nodes, k)[some] for k in ("sigma", "mode", "scale"))
            at = (self.nodes.alpha_bar[some] - mode[:, None]) / scale[:, None]  # (R, A)
            off = np.abs(fitted(np.moveaxis(at, 0, 1)[None]) - np.moveaxis(others[:, use], 1, 2))
            misfit += np.einsum("ra,gar->g", self.nodes.weight[some], np.minimum(off, 1))
            nodes, weights = np.polynomial.hermite_e.hermegauss(count)
            for z, w in zip(nodes, weights / np.sqrt(2 * np.pi), strict=True):
                u = (x[:, :, None] - sigma * z - mode) / scale
                density = w * np.exp(fitted(u) + log_likelihood[:, :, None])
                total = density.sum(-1)
                out += np.stack([total, 2 * density[..., some % 2 == 0].sum(-1), total])
        return out, misfit


def _distribution(t: np.ndarray, mass: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distribution function and density in t of masses (G, K) on uniform nodes, at points (G, Q).

    The sinc rule of `_marginal`.
    """
    step = t[1] - t[0]
    away = (at[:, :, None] - t) / step
    cdf = 0.5 * mass.sum(-1)[:, None] + np.einsum("gqk,gk->gq", sici(np.pi * away)[0], mass) / np.pi
    return cdf, np.einsum("gqk,gk->gq", np.sinc(away), mass) / step


def _solve(t: np.ndarray, mass: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Points (G, Q) where the distribution function of masses (G, K) is ``probs``: Newton, in a cell."""
    steps = np.arange(t.size)
    table = 0.5 + sici(np.pi * (steps[:, None] - steps))[0] / np.pi
    cdf = np.maximum.accumulate(mass @ table.T, axis=1)  # (G, K) at the nodes
    cell = np.clip((cdf[:, None, :] < probs[:, None]).sum(-1), 1, t.size - 1)
    low, high = t[cell - 1], t[cell]
    below = np.take_along_axis(cdf, cell - 1, 1)
    above = np.take_along_axis(cdf, cell, 1)
    at = low + (high - low) * np.clip((probs - below) / np.maximum(above - below, 1e-300), 0, 1)
    for _ in range(5):
        value, slope = _distribution(t, mass, at)
        at = np.clip(at - (value - probs) / np.maximum(slope, 1e-300), low, high)
    return at
