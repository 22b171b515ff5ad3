r"""Exact posterior of the varying-intercept binomial-logit model, by quadrature.

The model, for districts :math:`j = 1, \dots, J`:

.. math::

   y_j \sim \mathrm{Binomial}(n_j, \mathrm{logit}^{-1} \alpha_j), \quad
   \alpha_j \sim \mathrm{Normal}(\bar\alpha, \sigma), \quad
   \bar\alpha \sim \mathrm{Normal}(m_0, s_0), \quad \sigma \sim \text{any proper prior}.

Given :math:`(\bar\alpha, \sigma)` the districts are independent, so the posterior is a
two-dimensional integral over a product of one-dimensional ones:

.. math::

   p(\bar\alpha, \sigma \mid y) \propto p(\bar\alpha)\, p(\sigma) \prod_j I_j(\bar\alpha, \sigma),
   \qquad
   I_j = \int \mathrm{Binomial}(y_j \mid n_j, \alpha)\, \mathrm{Normal}(\alpha \mid \bar\alpha,
   \sigma)\, d\alpha .

Every integral is a trapezoidal sum after a change of variable :math:`x = c + w \sinh t` that
centres and scales the integrand and lets both of its tails decay quickly. For an integrand that
is analytic in a strip around the real line the error of such a sum falls exponentially in the
inverse step (Trefethen and Weideman 2014, SIAM Review 56, Theorem 5.1; for the sinh
substitution, Takahasi and Mori 1974, Publ. RIMS 9). The law that goes with it, "halve the step,
square the error", gives the error estimate: the square of what every other node misses.

The inner integrals are in `_districts_integral`; this module has the two outer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates, spline_filter1d
from scipy.special import expit, gammaln, log_expit, logit, logsumexp

from fieldguide.priors import Prior
from fieldguide.reference._districts_integral import (
    LOG_TWO_PI,
    MANY,
    Inner,
    integrate_effect,
    log_ratio,
    reference_point,
)
from fieldguide.reference._marginal import Marginal
from fieldguide.reference._protocol import ExactPosteriorError

TOLERANCE = 4e-7
"""Largest error estimate of a moment, in posterior standard deviations, that is not refused."""

SECONDS = 10.0
"""Wall time after which an answer is refused rather than sought on."""


# Nodes are centre + width * B sinh(t / B): even in the middle, ever wider outside. B per variable:
_B_MEAN, _B_SPREAD = 3.0, 2.0
_STEPS = (0.3, 0.6, 0.4)  # first steps in t for the spread, the mean and the inner integral
_REACH = 5.0  # ends of alpha_bar's grid, in t, where the data say enough about alpha_bar
_NOTHING = 3e-11  # probability at the ends of a grid that is not worth going further for
_PAIRS = 2e7  # nodes times districts that still fit in memory
_NECK = 1e-7  # probability of a row of the grid that is too small for its spike to matter


def _stirling_rest(k):
    """Log factorial of ``k`` less Stirling's formula."""
    direct = gammaln(k + 1) - (k + 0.5) * np.log(k) + k - 0.5 * LOG_TWO_PI
    inverse = 1 / k**2
    series = (1 / 12 - (1 / 360 - (1 / 1260 - inverse / 1680) * inverse) * inverse) / k
    return np.where(k < 25, direct, series)


@dataclass
class Model:
    """The data (unique districts with their multiplicity) and the priors, checked."""

    successes: np.ndarray
    trials: np.ndarray
    count: np.ndarray
    member: np.ndarray  # index of each district among the unique ones
    prior_mean: float
    prior_sd: float
    sigma_prior: Prior

    @cached_property
    def log_constant(self) -> float:
        """Log probability of the counts where every district is at its reference."""
        y, n = self.successes, self.trials

        def part(k):  # k log of reference over observed proportion, but for log1p(1 / n)
            return np.where(k > 0, k * np.log1p(0.5 / np.maximum(k, 1)), 0)

        at_reference = part(y) + part(n - y) - n * np.log1p(1 / np.maximum(n, 1))
        # at the observed proportion (Loader 2000, "Fast and accurate computation of binomial
        # probabilities"): differences of the logarithms would lose the digits of large counts
        mixed = (y > 0) & (y < n)
        y, n = y[mixed], n[mixed]
        at_reference[mixed] += _stirling_rest(n) - _stirling_rest(y) - _stirling_rest(n - y)
        at_reference[mixed] += 0.5 * (np.log(n / y / (n - y)) - LOG_TWO_PI)
        return float(self.count @ at_reference)

    def log_weight(self, a: np.ndarray, inner: Inner) -> np.ndarray:
        """Log of prior(alpha_bar) times the product of the inner integrals, shape of ``a``."""
        z = (a - self.prior_mean) / self.prior_sd
        log_prior = -0.5 * z**2 - np.log(self.prior_sd) - 0.5 * LOG_TWO_PI
        return log_prior + inner.log_integral @ self.count + self.log_constant

    # sigma = lower + exp(v), or a logistic between the ends of a bounded support
    def sigma(self, v):
        low, high = self.sigma_prior.support()
        return np.maximum(low + (np.exp(v) if np.isinf(high) else (high - low) * expit(v)), 1e-100)

    def v(self, sigma):
        low, high = self.sigma_prior.support()
        return np.log(sigma - low) if np.isinf(high) else logit((sigma - low) / (high - low))

    def log_sigma_prior(self, v):
        """Log prior density of ``v``."""
        low, high = self.sigma_prior.support()
        if np.isinf(high):
            return self.sigma_prior.logpdf(low + np.exp(v)) + v
        jacobian = np.log(high - low) + log_expit(v) + log_expit(-v)
        return self.sigma_prior.logpdf(self.sigma(v)) + jacobian


def _ridge(model: Model, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mode and curvature scale of alpha_bar given each sigma, and the log weight at the mode."""
    y, n = model.successes, model.trials
    p, q, centre = reference_point(y, n)
    with np.errstate(divide="ignore"):
        spread = np.where(n > 0, 1 / (n * p * q), np.inf)
    variance = sigma[:, None] ** 2
    precision = model.count / (spread + variance)
    prior_precision = 1 / model.prior_sd**2
    mode = (precision @ centre + prior_precision * model.prior_mean) / (
        precision.sum(1) + prior_precision
    )
    scale = 1 / np.sqrt(precision.sum(1) + prior_precision)
    tight = variance < spread
    reach, before = np.full(sigma.shape, 3.0), np.zeros(sigma.shape)
    for k in range(30):
        inner = integrate_effect(mode[:, None], sigma[:, None], y, n, step=0.9)
        # d log I / d alpha_bar and its derivative in two ways, each exact where the other is not:
        # E[y - n p] as sigma -> 0, and E[alpha - alpha_bar] / sigma^2 as the counts grow
        score = np.where(inner.p < 0.5, y - n * inner.p, n * inner.q - (n - y))
        slope = np.where(tight, score, inner.shift / variance) @ model.count
        slope = slope - (mode - model.prior_mean) * prior_precision
        bend = n**2 * inner.variance_p - n * (inner.p * inner.q - inner.variance_p)
        bend = np.where(tight, bend, (inner.variance / variance - 1) / variance) @ model.count
        curvature = np.maximum(prior_precision - bend, prior_precision)
        scale = 1 / np.sqrt(curvature)
        log_weight = model.log_weight(mode, inner)
        move = np.clip(slope / curvature, -reach * scale, reach * scale)
        mode = mode + move
        reach = np.where(move * before < 0, 0.5 * reach, reach)  # not to and fro
        before = move
        if k >= 2 and (np.abs(move) < 0.3 * scale).all():
            break
    return mode, scale, log_weight


@dataclass
class _Slices:
    """Everything known on the grid: one row per sigma, one column per standardised alpha_bar."""

    sigma: np.ndarray  # (S,)
    mode: np.ndarray  # (S,)
    scale: np.ndarray  # (S,)
    t: np.ndarray  # (A,) uniform; alpha_bar = mode + scale * 3 sinh(t / 3)
    alpha_bar: np.ndarray  # (S, A)
    log_weight: np.ndarray  # (S, A), density of (y, alpha_bar) given sigma
    log_measure: np.ndarray  # (S, A), log of the trapezoid's weight in alpha_bar
    inner: Inner  # arrays of shape (S, A, unique districts)


def _slices(
    model: Model, sigma: np.ndarray, mode: np.ndarray, scale: np.ndarray, t: np.ndarray, step: float
) -> _Slices:
    alpha_bar = mode[:, None] + scale[:, None] * _B_MEAN * np.sinh(t / _B_MEAN)
    inner = integrate_effect(
        alpha_bar[:, :, None], sigma[:, None, None], model.successes, model.trials, step
    )
    log_weight = model.log_weight(alpha_bar, inner)
    log_measure = np.log(scale)[:, None] + np.log((t[1] - t[0]) * np.cosh(t / _B_MEAN))
    return _Slices(sigma, mode, scale, t, alpha_bar, log_weight, log_measure, inner)


def _tail_exponent(prior: Prior) -> float:
    """Exponent q of a prior density that falls like ``sigma ** -q``; inf if it falls faster."""
    if np.isfinite(prior.support()[1]):
        return np.inf
    x = prior.median() * np.array([1e30, 1e31, 1e60, 1e61])
    with np.errstate(all="ignore"):
        log_density = prior.logpdf(x)
    if not np.isfinite(log_density).all():
        return np.inf
    near, far = -np.diff(log_density)[[0, 2]] / np.log(10)
    return float(far) if np.isclose(near, far, rtol=1e-6) else np.inf


@dataclass
class _Plan:
    """Where the mass is: the map from t to v, and alpha_bar's mode and scale along the way."""

    light: bool  # whether the prior's tail falls like exp(-sigma) or faster
    median: float  # of v
    centre: float  # of x, the variable that is uniform in sinh(t)
    width: float
    low: float  # first and last t
    high: float
    reach: float  # last t of alpha_bar
    nodes: np.ndarray  # values of v where mode and scale are known
    mode: np.ndarray
    log_scale: np.ndarray

    # Under a light tail sigma is proportional to log(1 + exp(x)), so that exp(-sigma) becomes
    # exp(-x), which sums well, and not exp(-exp(v)). Otherwise x is v.
    def x(self, v):
        if not self.light:
            return v
        r = np.exp(v - self.median)
        return r + np.log(-np.expm1(-r))

    def v(self, t):
        """Value of v and log of dv/dt."""
        x = self.centre + self.width * _B_SPREAD * np.sinh(t / _B_SPREAD)
        log_slope = np.log(self.width * np.cosh(t / _B_SPREAD))
        if not self.light:
            return x, log_slope
        log_r = np.where(x < -30, x, np.log(np.logaddexp(0, np.maximum(x, -30))))
        return self.median + log_r, log_slope + log_expit(x) - log_r

    def t(self, v):
        """Value of t at ``v``."""
        return _B_SPREAD * np.arcsinh((self.x(v) - self.centre) / (self.width * _B_SPREAD))

    def ridge(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mode and scale of alpha_bar given ``v``; only their smoothness matters, not accuracy."""
        return np.interp(v, self.nodes, self.mode), np.exp(np.interp(v, self.nodes, self.log_scale))


def _make_plan(model: Model, moments: int) -> _Plan:
    y, n = model.successes, model.trials
    prior = model.sigma_prior
    lower, upper = prior.support()
    p = (y + 0.5) / (n + 1)
    narrowest = 1 / np.sqrt(max((n * p * (1 - p)).max(), 0.1))
    growth = moments if np.isinf(upper) else 0
    light = False
    if np.isinf(upper):
        with np.errstate(all="ignore"):  # infinite where the tail is heavier than numbers are large
            far, end = prior.isf(1e-6), prior.isf(1e-4)
            light = prior.logpdf(2 * far) - prior.logpdf(far) < -5

    def scan(v):
        mode, scale, log_weight = _ridge(model, model.sigma(v))
        return np.stack([v, mode, np.log(scale), log_weight + np.log(scale)])

    # Below `first` sigma is so small that only the prior still changes.
    start = min(0.02 * narrowest, prior.ppf(0.01) - lower)
    if np.isfinite(upper):
        start = min(start, 0.01 * (upper - lower))
    first = model.v(lower + start)
    last = max(min(model.v(end), 80.0) if np.isinf(upper) else 6.0, first + 4)
    points = scan(np.linspace(first, last, int(np.ceil((last - first) / 0.6)) + 1))

    def log_density(points):
        with np.errstate(divide="ignore"):
            return points[3] + model.log_sigma_prior(points[0])

    while True:  # to the right until nothing is left, moments included
        density = log_density(points) + growth * (points[0] - points[0][0])
        top = np.nanmax(density)
        if not density[-1] > top - 36:
            break
        if points[0][-1] > 80:
            raise ExactPosteriorError(
                "The posterior of sigma has a tail too heavy to integrate; "
                "use a prior on sigma with a lighter tail."
            )
        points = np.concatenate([points, scan(points[0][-1] + np.arange(1.0, 7.0))], axis=1)
    for _ in range(8):  # finer around a peak that the scan only touched
        density = log_density(points)
        i = int(np.clip(np.nanargmax(density), 1, density.size - 2))
        left, peak, right = density[i - 1 : i + 2]
        if peak - min(left, right) < 1.0:
            break
        v = points[0]
        extra = np.setdiff1d(np.linspace(v[i - 1], v[i + 1], 9), v)
        points = np.concatenate([points, scan(extra)], axis=1)
        points = points[:, np.argsort(points[0])]

    # The left end, where the prior alone decides
    beyond = points[0][0] - np.arange(1, 700)
    with np.errstate(all="ignore"):
        tail = points[3][0] + model.log_sigma_prior(beyond)
    tail = np.where(np.isnan(tail), -np.inf, tail)
    density = log_density(points)
    alive = np.flatnonzero(tail > np.nanmax(density) - 36)
    if alive.size == tail.size:
        raise ExactPosteriorError(
            "The prior puts too much mass at sigma = 0 to integrate; use a less extreme one."
        )
    stop = int(alive[-1]) + 2 if alive.size else 1
    v = np.concatenate([beyond[:stop][::-1], points[0]])
    density = np.concatenate([tail[:stop][::-1], density])
    ok = density > -np.inf
    v, density = v[ok], density[ok]
    alive = np.flatnonzero(density + growth * (v - v[0]) > (density + growth * (v - v[0])).max() - 36)
    low = v[max(np.flatnonzero(density > density.max() - 36)[0] - 1, 0)]
    high = v[min(alive[-1] + 1, v.size - 1)]

    # Steps of the likelihood in alpha_bar are about as wide as sigma, and steps of the inverse
    # logit about as wide as 1; nodes spaced by a wide prior would miss them.
    log_cap = np.log(1.5) + 0.5 * np.log1p(np.minimum(model.sigma(points[0]), 1) ** 2)
    seen = log_density(points) + growth * (points[0] - points[0][0])
    excess = np.exp(max(0.0, (points[2] - log_cap)[seen > np.nanmax(seen) - 36].max()))
    reach = _B_MEAN * np.arcsinh(np.sinh(_REACH / _B_MEAN) * excess)

    fine = np.linspace(low, high, 4001)
    mass = np.exp(np.interp(fine, v, density) - density.max())
    cumulative = np.cumsum(mass) / mass.sum()
    quantiles = np.interp([0.16, 0.5, 0.84], cumulative, fine)
    capped = np.minimum(points[2], log_cap)
    plan = _Plan(light, quantiles[1], 0, 1, 0, 0, reach, points[0], points[1], capped)
    q16, plan.centre, q84 = plan.x(quantiles)
    plan.width = (q84 - q16) / 2
    plan.low, plan.high = plan.t(np.array([low, high]))
    return plan


@dataclass
class _Grid:
    """The joint posterior on the outer grid."""

    v: np.ndarray  # (S,)
    slices: _Slices
    weight: np.ndarray  # (S, A), sums to 1
    log_marginal_likelihood: float
    log_jacobian: np.ndarray  # (S,), log of the trapezoid's weight in v


def _make_grid(model: Model, plan: _Plan, steps: Sequence[float], reach: Sequence[float]) -> _Grid:
    step_v, step_a, step_inner = steps
    # even numbers of intervals, so that every other node is a grid of its own
    count = 2 * int(np.ceil((plan.high - plan.low) / step_v / 2))
    t = np.linspace(plan.low, plan.high, count + 1)
    v, log_slope = plan.v(t)
    log_jacobian = np.log(t[1] - t[0]) + log_slope
    low, high = reach
    count = 2 * int(np.ceil((high - low) / step_a / 2))
    t_a = np.linspace(low, high, count + 1)
    mode, scale = plan.ridge(v)
    slices = _slices(model, model.sigma(v), mode, scale, t_a, step_inner)
    with np.errstate(divide="ignore"):
        log_prior = model.log_sigma_prior(v)
    log_joint = slices.log_weight + slices.log_measure + (log_prior + log_jacobian)[:, None]
    total = logsumexp(log_joint)
    return _Grid(v, slices, np.exp(log_joint - total), float(total), log_jacobian)


@dataclass
class _Moments:
    """Means and variances: alpha_bar, p_bar, sigma, then alpha and p of each unique district.

    Of a probability near 1 the mean is kept as that of its complement, which has the digits.
    """

    mean: np.ndarray
    variance: np.ndarray
    complement: np.ndarray  # where `mean` is that of 1 - p

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.variance)

    def distance(self, other: _Moments) -> np.ndarray:
        """Change of means and sds to other moments, in sds."""
        mean = np.where(self.complement == other.complement, other.mean, 1 - other.mean)
        return np.maximum(np.abs(self.mean - mean), np.abs(self.sd - other.sd)) / self.sd


def _moments(grid: _Grid, weight: np.ndarray) -> _Moments:
    slices, inner = grid.slices, grid.slices.inner
    flat = weight.ravel() / weight.sum()
    units = inner.shift.shape[-1]
    size = 3 + 2 * units
    result = _Moments(np.empty(size), np.empty(size), np.zeros(size, bool))

    def put(where, value, inside=0.0):
        mean = flat @ value
        result.mean[where], result.variance[where] = mean, flat @ (inside + (value - mean) ** 2)

    a = slices.alpha_bar.ravel()
    put(0, a)
    p_bar, q_bar = expit(a), expit(-a)
    result.complement[1] = flat @ q_bar < 0.5
    put(1, q_bar if result.complement[1] else p_bar)
    put(2, np.repeat(slices.sigma, slices.t.size))
    alpha = a[:, None] + inner.shift.reshape(-1, units)
    put(slice(3, 3 + units), alpha, inner.variance.reshape(-1, units))
    p, q = inner.p.reshape(-1, units), inner.q.reshape(-1, units)
    other = flat @ q < 0.5
    result.complement[3 + units :] = other
    put(slice(3 + units, size), np.where(other, q, p), inner.variance_p.reshape(-1, units))
    return result


def _inner_error(model: Model, grid: _Grid, step: float, sd_p: np.ndarray) -> float:
    """Estimated error of the inner integrals, from a sample of nodes done again more finely."""
    s, inner = grid.slices, grid.slices.inner
    order = np.argsort(grid.weight, axis=None)
    order = order[grid.weight.ravel()[order] > 1e-10]
    pick = np.unique(order[np.linspace(0, order.size - 1, 60).astype(int)])
    rows, columns = np.unravel_index(pick, grid.weight.shape)
    a, sigma = s.alpha_bar[rows, columns, None], s.sigma[rows, None]
    fine = integrate_effect(a, sigma, model.successes, model.trials, step / 1.5)
    small, fine_small = (np.minimum(v.p, v.q) for v in (_at(inner, rows, columns), fine))
    changes = np.stack(
        [
            (inner.log_integral[rows, columns] - fine.log_integral) * model.count,
            (inner.shift[rows, columns] - fine.shift) / np.sqrt(fine.variance),
            inner.variance[rows, columns] / fine.variance - 1,
            (small - fine_small) / sd_p,
            (inner.variance_p[rows, columns] - fine.variance_p) / (2 * sd_p**2),
        ]
    )
    changes = np.abs(changes)
    # both computations share the rounding of alpha_bar, which the log likelihood's slope multiplies
    changes[0] += np.finfo(float).eps * np.abs(fine.shift) / sigma**2 * np.maximum(np.abs(a), 1)
    weight = grid.weight[rows, columns] * order.size / pick.size
    return float((weight @ changes).max())


def _at(inner: Inner, rows: np.ndarray, columns: np.ndarray) -> Inner:
    return Inner(*(getattr(inner, f.name)[rows, columns] for f in fields(inner)))


def _weighted_median(value, weight):
    order = np.argsort(value)
    cumulative = np.cumsum(weight[order])
    return value[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]]


class _Splines:
    """Smooth functions of alpha_bar, one per row of the grid, as quintic splines over uniform t.

    A polynomial fit comes off first, so that the spline's even continuation past both ends has
    next to nothing left to bend.
    """

    def __init__(self, slices: _Slices, value: np.ndarray):
        self.slices = slices
        t = np.linspace(-1, 1, slices.t.size)
        basis = np.polynomial.chebyshev.chebvander(t, 8)
        self.polynomial = np.linalg.lstsq(basis, value.T)[0]  # (9, S)
        rest = value - (basis @ self.polynomial).T
        coefficients = spline_filter1d(rest, order=5, axis=1, mode="mirror")
        self.columns = value.shape[1] + 6
        self.flat = np.pad(coefficients, ((0, 0), (3, 3)), mode="reflect").ravel()

    def __call__(self, rows, x):
        """Values of the given rows' functions at ``x``; -inf outside the tabulated range."""
        s = self.slices
        z = (x - s.mode[rows]) / s.scale[rows]
        last = s.t.size - 1
        index = (_B_MEAN * np.arcsinh(z / _B_MEAN) - s.t[0]) / (s.t[1] - s.t[0])
        inside = (index >= 0) & (index <= last)
        index, rows = index[inside], np.broadcast_to(rows, inside.shape)[inside]
        t = 2 * index / last - 1
        value = np.full(inside.shape, -np.inf)
        value[inside] = map_coordinates(
            self.flat, [index + rows * self.columns + 3], order=5, prefilter=False
        ) + np.polynomial.chebyshev.chebval(t, self.polynomial[:, rows], tensor=False)
        return value


_HERMITE_Z, _HERMITE_W = np.polynomial.hermite_e.hermegauss(14)
_HERMITE_W = _HERMITE_W / np.sqrt(2 * np.pi)


class _Engine:
    """What the models share: marginals are made when asked for, and made again after pickling."""

    @cached_property
    def _marginals(self) -> dict:
        return {}

    if TYPE_CHECKING:

        def _tabulate(self, name: str, unit: int | None) -> Marginal: ...

    def marginal(self, name: str, unit: int | None = None) -> Marginal:
        """Tabulated marginal of alpha_bar, sigma or a unique district's alpha."""
        key = name, unit
        if key not in self._marginals:
            self._marginals[key] = self._tabulate(name, unit)
        return self._marginals[key]

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_marginals"}


class VaryingIntercepts(_Engine):
    """Everything `DistrictsPosterior` asks of the varying-intercept model."""

    names = ("alpha_bar", "p_bar", "sigma")

    def __init__(self, model: Model):
        self.model = model
        exponent = _tail_exponent(model.sigma_prior)
        mixed = (model.successes > 0) & (model.successes < model.trials)
        # p(sigma | y) falls like sigma ** -(exponent + number of districts with both outcomes)
        self.order = exponent + model.count[mixed].sum() - 1
        self.has_mean, self.has_sd = self.order > 1, self.order > 2
        self.mixed = mixed
        self.plan = _make_plan(model, int(self.has_mean) + int(self.has_sd))
        self.moments = self._converge()

    def _converge(self):
        tail = np.concatenate([[False, False, True], ~self.mixed, np.zeros(self.mixed.size, bool)])
        finite = ~tail | (self.has_mean & self.has_sd)
        step_v, step_a, step_inner = _STEPS
        reach = [-self.plan.reach, self.plan.reach]
        before: Any
        before, ratio, least, stuck = None, np.ones(3), np.inf, 0
        self.error, errors, spent, pairs = np.inf, [np.inf] * 3, 0.0, 1.0
        start = perf_counter()
        for _ in range(20):
            self.steps, self.reach = (step_v, step_a, step_inner), reach
            size = (self.plan.high - self.plan.low) * (reach[1] - reach[0]) / step_v / step_a
            last, pairs = pairs, size * self.mixed.size * max(1, 0.1 / step_inner)
            elapsed = perf_counter() - start
            if pairs > _PAIRS or elapsed + spent * pairs / last > SECONDS:
                break
            grid = _make_grid(self.model, self.plan, self.steps, reach)
            spent = perf_counter() - start - elapsed
            ends = [grid.weight[:, 0].sum(), grid.weight[:, -1].sum()]
            if max(ends) > _NOTHING:
                low, high = reach
                reach = [low - 0.7 * (ends[0] > _NOTHING), high + 0.7 * (ends[1] > _NOTHING)]
                continue
            ends = [grid.weight[0].sum(), grid.weight[-1].sum()]
            if max(ends) > _NOTHING:
                self.plan.low -= 0.7 * (ends[0] > _NOTHING)
                self.plan.high += 0.7 * (ends[1] > _NOTHING)
                continue
            found = _moments(grid, grid.weight)
            sd = found.sd
            if not (sd > 0).all():
                break  # a probability too near 0 or 1 for its variance to be a number
            missed = []
            for every in (np.s_[::2, :], np.s_[:, ::2]):
                weight = np.zeros_like(grid.weight)
                weight[every] = grid.weight[every]
                change = found.distance(_moments(grid, weight))
                if self.plan.reach > _REACH:
                    # alpha_bar is so wide that p_bar is a step between distant nodes, where
                    # halving their distance gains less than the square
                    change[1] **= 0.65
                missed.append(max(change[finite].max(), abs(2 * weight.sum() - 1)))
            sd_p = sd[-self.mixed.size :]
            errors = [*np.square(missed), _inner_error(self.model, grid, step_inner, sd_p)]
            stuck = stuck + 1 if TOLERANCE / 4 < least < 2 * errors[2] else 0
            least = min(least, errors[2])
            if stuck > 2:
                break  # finer nodes do not help against rounding
            self.error = 4 * float(sum(errors))  # to be on the safe side
            if before is not None:  # a second opinion, from the change that refining made
                change = found.distance(before[0])
                change = max(change[finite].max(), abs(before[1] - grid.log_marginal_likelihood))
                power = 1 / ratio.max(where=ratio < 1, initial=0.4)
                self.error = max(self.error, float(change) ** power)
            if self.error < TOLERANCE:
                break
            # one step of exp(-1 / step) towards the target, at least a little finer
            with np.errstate(divide="ignore"):
                wanted = np.log(np.minimum(errors, 0.5)) / np.log(TOLERANCE / 32)
            ratio = np.where(np.array(errors) > TOLERANCE / 16, np.clip(wanted, 0.4, 0.85), 1.0)
            step_v, step_a, step_inner = (ratio * self.steps).tolist()
            before = found, grid.log_marginal_likelihood
        if not self.error < TOLERANCE:
            rounding = errors[2] > TOLERANCE / 4 and not max(errors[:2]) > TOLERANCE
            seconds = perf_counter() - start
            raise ExactPosteriorError(
                f"The quadrature did not converge after {seconds:.1f} s (error estimate "
                f"{self.error:.0e} posterior sd): {self.reason(rounding)}."
            )
        self.grid = grid
        self.log_marginal_likelihood = grid.log_marginal_likelihood
        mean, sd = np.where(found.complement, 1 - found.mean, found.mean), found.sd
        if not self.has_sd:
            sd[tail] = np.inf
        if not self.has_mean:
            y, n = self.model.successes, self.model.trials
            sign = np.where(n == 0, np.nan, np.where(y > 0, np.inf, -np.inf))
            mean[tail] = np.concatenate([[np.inf], sign[~self.mixed]])
            sd[tail] = np.nan
        return mean, sd

    def reason(self, rounding: bool = False) -> str:
        """What limits the quadrature, to say so in a refusal."""
        model, plan = self.model, self.plan
        y, n = model.successes[model.trials > 0], model.trials[model.trials > 0]
        if rounding and n.size and n.max() > MANY:
            return (
                f"{n.max():.0e} trials in one district are too many for numbers of 16 digits; "
                "use fewer trials"
            )
        if self.order < 2.5:
            return (
                f"the tail of sigma falls too slowly (like sigma ** -{self.order + 1:.3g}); "
                "use a prior on sigma with a lighter tail"
            )
        centre = reference_point(y, n)[2] if n.size else np.array([model.prior_mean])
        far = max(centre.min() - model.prior_mean, model.prior_mean - centre.max())
        if far > max(5 * model.prior_sd, 5):
            return (
                f"the prior mean of alpha_bar is {far:.3g} logits from every district; "
                "use one nearer to the data"
            )
        if plan.reach > _REACH:
            return (
                f"the prior on alpha_bar, with an sd of {model.prior_sd:.3g} logits, is too wide for "
                "what the districts say about it; use a narrower one"
            )
        if hasattr(self, "grid"):
            contradiction = model.log_constant - self.grid.log_marginal_likelihood
            if contradiction > 500:
                return (
                    f"the priors contradict the counts, which they make exp({contradiction:.0f}) times "
                    "less probable than they could be; use wider priors"
                )
        middle, high = model.sigma(plan.v(np.array([0.0, plan.high]))[0])
        if high > 1e10 * middle:
            return (
                f"sigma can lie far beyond {middle:.1g}, up to {high:.0e}; "
                "use a prior on sigma with a lighter tail"
            )
        return (
            f"{n.size} kinds of districts, of {n.min(initial=0):.3g} to {n.max(initial=0):.3g} trials, "
            "need a finer grid than fits; use fewer districts, more similar counts "
            "or less extreme priors"
        )

    _finer = 1.0  # times finer than usual, where a density asked for it

    @cached_property
    def fine(self) -> _Grid:
        """A finer grid for densities, which vary faster along it than moments do."""
        step_v, step_a, step_inner = self.steps
        steps = step_v / 1.5 / self._finer, step_a / 2 / self._finer, step_inner / 1.2
        grid = _make_grid(self.model, self.plan, steps, self.reach)
        change = abs(grid.log_marginal_likelihood - self.log_marginal_likelihood)
        if not change < TOLERANCE:
            raise ExactPosteriorError(
                f"Two grids disagree on the marginal likelihood by {change:.0e}: {self.reason()}."
            )
        return grid

    def _bounds(self, value, spread):
        """Centre, width and ends for a marginal from node-wise means and sds."""
        weight = self.fine.weight.ravel()
        value = value.ravel()
        spread = spread.ravel()
        centre = _weighted_median(value, weight)
        width = _weighted_median(np.abs(value - centre) + spread, weight)
        # a log-concave tail falls at least like exp(-x / sd)
        room = spread * np.log(np.maximum(weight, 1e-11) / 1e-11)
        alive = weight > 1e-11
        low, high = (value - room)[alive].min(), (value + room)[alive].max()
        return centre, width, low, high

    @cached_property
    def _rows(self):
        """Rows of the fine grid that carry mass, and the log of prior times measure in v."""
        grid = self.fine
        rows = np.flatnonzero(grid.weight.sum(1) > 1e-15)
        log_prior = self.model.log_sigma_prior(grid.v[rows]) + grid.log_jacobian[rows]
        return rows, log_prior - grid.log_marginal_likelihood

    @cached_property
    def _mean_splines(self):
        return _Splines(self.fine.slices, self.fine.slices.log_weight)

    def _pdf_alpha_bar(self, x):
        rows, log_prior = self._rows
        x = np.asarray(x, dtype=float)
        log_f = self._mean_splines(rows, np.atleast_1d(x)[:, None]) + log_prior
        return np.exp(log_f).sum(1).reshape(x.shape)

    def _slices_at(self, v: np.ndarray, t: np.ndarray, step: float) -> _Slices:
        return _slices(self.model, self.model.sigma(v), *self.plan.ridge(v), t, step)

    def _pdf_v(self, v):
        slices = self._slices_at(v, self.grid.slices.t, self.steps[2])
        log_likelihood = logsumexp(slices.log_weight + slices.log_measure, axis=1)
        return np.exp(log_likelihood + self.model.log_sigma_prior(v) - self.fine.log_marginal_likelihood)

    def _pdf_sigma(self, x):
        low, high = self.model.sigma_prior.support()
        x = np.asarray(x, dtype=float)
        out = np.zeros(x.shape)
        inside = (x > low) & (x < high)
        if inside.any():
            v = self.model.v(x[inside])
            jacobian = np.exp(self.model.sigma_prior.logpdf(x[inside]) - self.model.log_sigma_prior(v))
            out[inside] = self._pdf_v(v) * jacobian
        return out

    def _given_sigma(
        self, slices: _Slices, unit: int | None
    ) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        """Function of (rows, x): density of (y, alpha_j = x) given each row's sigma."""
        y, n = self.model.successes[unit], self.model.trials[unit]
        p, q, centre = reference_point(y, n)
        own = slices.inner.log_integral[:, :, unit]
        others = slices.log_weight - own
        splines = _Splines(slices, others)
        log_mass = others + slices.log_measure
        # Where sigma is wide beside the nodes of alpha_bar, sum over those nodes. Where it is
        # narrow, sum over alpha_bar = x - sigma z at Gauss-Hermite nodes z instead.
        narrow = slices.sigma < 0.6 * slices.scale

        def density(rows, x, log_row):
            """Sum over rows of exp(log_row) times the density at ``x`` (or each row's own x)."""
            out = np.zeros(x.shape)
            log_likelihood = log_ratio(x - centre, y, n, p, q)[0]
            few = rows[narrow[rows]]
            if few.size:
                at = x[:, None, None] - slices.sigma[few][:, None] * _HERMITE_Z
                value = splines(few[:, None], at) + log_row[narrow[rows]][:, None]
                value += log_likelihood[:, None, None]
                out += np.exp(value).sum(1) @ _HERMITE_W
            many = rows[~narrow[rows]]
            if many.size:
                sigma = slices.sigma[many]
                log_f = log_mass[many] + (log_row[~narrow[rows]] - np.log(sigma))[:, None]
                joint = log_f + own[many]
                keep = joint > joint.max() - 45
                log_f = log_f[keep] - 0.5 * LOG_TWO_PI
                a = slices.alpha_bar[many][keep]
                sigma = np.broadcast_to(sigma[:, None], keep.shape)[keep]
                for part in np.array_split(np.arange(x.size), 1 + x.size * a.size // 1_000_000):
                    z = (x[part, None] - a) / sigma
                    out[part] += np.exp(log_likelihood[part, None] + log_f - 0.5 * z * z).sum(1)
            return out

        return density

    def _pdf_alpha(self, unit: int | None) -> Callable[[ArrayLike], np.ndarray]:
        density = self._given_sigma(self.fine.slices, unit)
        rows, log_prior = self._rows

        def pdf(x):
            x = np.asarray(x, dtype=float)
            return density(rows, np.atleast_1d(x).ravel(), log_prior).reshape(x.shape)

        return pdf

    def joint_density(self, unit: int | None, alpha: np.ndarray, log_sigma: np.ndarray) -> np.ndarray:
        """Density of (alpha_j, log sigma), shape (log_sigma, alpha)."""
        low, high = self.model.sigma_prior.support()
        sigma = np.exp(log_sigma)
        inside = (sigma > low) & (sigma < high)
        sigma = np.where(inside, sigma, self.model.sigma_prior.median())
        slices = self._slices_at(self.model.v(sigma), self.fine.slices.t, self.steps[2])
        density = self._given_sigma(slices, unit)
        log_prior = self.model.sigma_prior.logpdf(sigma) + log_sigma
        log_prior = np.where(inside, log_prior - self.fine.log_marginal_likelihood, -np.inf)
        out = [
            density(np.array([i]), alpha, log_prior[[i]]) if np.isfinite(log_prior[i]) else 0 * alpha
            for i in range(sigma.size)
        ]
        return np.stack(out)

    def pdf(self, name: str, unit: int | None) -> Callable[[ArrayLike], np.ndarray]:
        if name == "sigma":
            return self._pdf_sigma
        return self._pdf_alpha_bar if name == "alpha_bar" else self._pdf_alpha(unit)

    def _tabulate(self, name: str, unit: int | None) -> Marginal:
        grid = self.fine
        if name == "sigma":
            plan, model = self.plan, self.model

            def density(t):
                v, log_slope = plan.v(t)
                return self._pdf_v(v) * np.exp(log_slope)

            marginal = Marginal.from_uniform(
                density,
                plan.low,
                plan.high,
                to_t=lambda x: plan.t(model.v(x)),
                from_t=lambda t: model.sigma(plan.v(t)[0]),
            )
        else:
            value = grid.slices.alpha_bar
            spread = np.zeros_like(value)
            if name == "alpha":
                value = value + grid.slices.inner.shift[:, :, unit]
                spread = np.sqrt(grid.slices.inner.variance[:, :, unit])
            centre, width, low, high = self._bounds(value, spread)
            maps = [(centre, width)]
            # At the smallest sigmas all effects come together, where the largest counts say. The
            # density has a spike there, which is resolved by nodes that crowd in it.
            neck = np.flatnonzero(grid.weight.sum(1) > _NECK)[0]
            middle = grid.slices.t.size // 2
            thin = np.hypot(grid.slices.scale[neck], spread[neck, middle])
            if thin < 0.1 * width:
                maps.insert(0, (value[neck, middle], thin))
            for centre, width in maps:
                marginal = Marginal.from_density(self.pdf(name, unit), centre, width, low, high)
                if marginal.error < TOLERANCE / 4:
                    break
        if not marginal.error < TOLERANCE / 4:
            if name != "sigma" and self._finer < 2:
                self._finer *= 1.5
                for cached in ("fine", "_rows", "_mean_splines"):
                    self.__dict__.pop(cached, None)
                return self._tabulate(name, unit)
            raise ExactPosteriorError(
                f"The distribution function of {name} did not converge "
                f"(error estimate {marginal.error:.0e}): {self.reason()}."
            )
        return marginal


class FixedEffects(_Engine):
    """Everything `DistrictsPosterior` asks of the fixed-effects model: districts on their own."""

    names = ()

    def reason(self) -> str:
        """What limits the quadrature, to say so in a refusal."""
        if self.model.trials.max() > 1e10:
            return "the counts are too many for numbers of 16 digits; use fewer trials"
        return "use a prior on alpha nearer to the data, or a narrower one"

    def __init__(self, model: Model):
        self.model = model
        y, n = model.successes, model.trials
        fine, finer = (
            integrate_effect(model.prior_mean, model.prior_sd, y, n, step) for step in (0.25, 0.2)
        )
        self.inner = finer
        sd = np.sqrt(finer.variance)
        sd_p = np.sqrt(finer.variance_p)
        self.moments = (
            np.concatenate([model.prior_mean + finer.shift, finer.p]),
            np.concatenate([sd, sd_p]),
        )
        changes = [
            (fine.log_integral - finer.log_integral) * model.count,
            (fine.shift - finer.shift) / sd,
            np.sqrt(fine.variance) / sd - 1,
            (np.minimum(fine.p, fine.q) - np.minimum(finer.p, finer.q)) / sd_p,
            np.sqrt(fine.variance_p) / sd_p - 1,
        ]
        self.error = float(np.abs(changes).max())
        if not self.error < TOLERANCE:
            raise ExactPosteriorError(
                f"The quadrature did not converge (error estimate {self.error:.0e} posterior sd): "
                f"{self.reason()}."
            )
        self.log_marginal_likelihood = float(finer.log_integral @ model.count) + model.log_constant

    def pdf(self, name, unit):
        model = self.model
        y, n = model.successes[unit], model.trials[unit]
        p, q, centre = reference_point(y, n)

        def density(x):
            x = np.asarray(x, dtype=float)
            log_f = log_ratio(x - centre, y, n, p, q)[0]
            log_f = log_f - 0.5 * ((x - model.prior_mean) / model.prior_sd) ** 2
            log_f -= np.log(model.prior_sd) + 0.5 * LOG_TWO_PI + self.inner.log_integral[unit]
            return np.exp(log_f)

        return density

    def _tabulate(self, name, unit):
        mean = self.moments[0][unit]
        sd = self.moments[1][unit]
        return Marginal.from_density(self.pdf(name, unit), mean, sd, mean - 35 * sd, mean + 35 * sd)
