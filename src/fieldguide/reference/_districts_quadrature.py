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
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter1d
from scipy.special import betaln, expit, log_expit, logit, logsumexp

from fieldguide.reference._marginal import Marginal
from fieldguide.reference._protocol import ExactPosteriorError

TOLERANCE = 4e-7
"""Largest error estimate of a moment, in posterior standard deviations, that is not refused."""


# Nodes are centre + width * B sinh(t / B): even in the middle, ever wider outside. B per variable:
_B_INNER, _B_MEAN, _B_SPREAD = 2.5, 3.0, 2.0
_STEPS = (0.3, 0.6, 0.4)  # first steps in t for the spread, the mean and the inner integral
_CHUNK = 1 << 11  # pairs handled at once, so that their nodes stay in the processor's cache
_REACH = 5.0  # ends of alpha_bar's grid, in t, where the data say enough about alpha_bar
_NOTHING = 3e-11  # probability at the ends of a grid that is not worth going further for
_LOG_TWO_PI = np.log(2 * np.pi)


# ---------------------------------------------------------------------------------------------
# Inner integral: one district, given the mean and the spread


def _log_likelihood(alpha, successes, trials):
    """Binomial log likelihood without its constant; also the probability p(alpha)."""
    e = np.exp(-np.abs(alpha))
    d = 1 + e  # log(d), not log1p(e): absolute accuracy is enough, and it is twice as fast
    log_f = np.log(d)
    log_f += np.maximum(alpha, 0)
    log_f *= -trials
    log_f += successes * alpha
    return log_f, np.where(alpha > 0, 1.0, e) / d


@dataclass
class _Inner:
    """Moments of one district's effect given ``(alpha_bar, sigma)``; arrays of one shape."""

    log_integral: np.ndarray  # log I_j, without the binomial coefficient
    shift: np.ndarray  # E[alpha_j] - alpha_bar
    variance: np.ndarray  # Var[alpha_j]
    p: np.ndarray  # E[p_j]
    p_squared: np.ndarray  # E[p_j ** 2]


def _inner(mean, sd, successes, trials, step: float) -> _Inner:
    """Integrate one district's effect out, for arrays of (mean, sd, successes, trials)."""
    shape = np.broadcast_shapes(*map(np.shape, (mean, sd, successes, trials)))
    a, s, y, n = (np.broadcast_to(v, shape).ravel() for v in (mean, sd, successes, trials))
    out = np.empty((5, a.size))
    for start in range(0, a.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        _inner_chunk(out[:, part], a[part], s[part], y[part], n[part], step)
    return _Inner(*out.reshape(5, *shape))


def _inner_chunk(out, a, s, y, n, step):
    # Distance of the log-concave integrand's mode from `a` (the distance, because it keeps its
    # digits when sigma is tiny): Newton from the precision-weighted compromise, in a bracket.
    p = (y + 0.5) / (n + 1)
    centre = logit(p)
    information, precision = n * p * (1 - p), 1 / s**2
    # the score lies between y - n and y, and the mode between `a` and where the likelihood peaks;
    # one that peaks nowhere has lost to the normal log(n s^2) beyond zero
    low, high = (y - n) / precision, y / precision
    with np.errstate(divide="ignore"):
        peak, room = logit(np.divide(y, n, out=np.full_like(a, 0.5), where=n > 0)) - a, np.log(n * s**2)
    low = np.maximum(low, np.where(y > 0, np.minimum(peak, 0), np.minimum(-room - a, -1)))
    high = np.minimum(high, np.where(y < n, np.maximum(peak, 0), np.maximum(room - a, 1)))
    delta = np.clip((centre - a) * information / (information + precision), low, high)
    last = np.inf
    for _ in range(60):
        p = expit(a + delta)
        slope = y - n * p - delta * precision
        width = 1 / np.sqrt(n * p * (1 - p) + precision)
        move = slope * width**2
        if (np.abs(move) < 0.1 * width).all():
            break
        low, high = np.where(slope > 0, delta, low), np.where(slope < 0, delta, high)
        newton = delta + move
        halve = (newton < low) | (newton > high) | (np.abs(move) > 0.5 * last)
        newton = np.where(halve, (low + high) / 2, newton)
        last = np.abs(newton - delta)
        delta = newton

    # With nearly no or nearly all successes the integrand has a logistic step in it; once the
    # integrand is wide and reaches the step, its nodes belong around that step.
    wide = (width > 1.5) | ((width > 0.5) & (np.minimum(y, n - y) < 4))
    wide &= np.hypot(1, a + delta - centre) < 5 * width
    if not wide.all():
        i = ~wide
        out[:, i] = _inner_narrow(a[i], s[i], y[i], n[i], delta[i], width[i], step)
    if wide.any():
        i = wide
        middle = centre[i] - a[i]
        offset = delta[i] - middle
        left = np.maximum(middle, 0) + 8.5 * s[i]
        right = np.maximum(-middle, 0) + 8.5 * s[i]
        with np.errstate(divide="ignore"):  # where the likelihood falls before the normal does
            left = np.minimum(left, 40 / y[i] + 10 + np.maximum(-offset, 0))
            right = np.minimum(right, 40 / (n[i] - y[i]) + 10 + np.maximum(offset, 0))
        low, high = -np.arcsinh(left)[:, None], np.arcsinh(right)[:, None]
        count = int(np.ceil(24 / step))
        t = low + (high - low) * np.linspace(0, 1, count + 1)
        deviation = middle[:, None] + np.sinh(t)
        out[:, i] = _inner_sums(deviation, np.cosh(t) * (high - low) / count, a, s, y, n, i)


def _inner_narrow(a, s, y, n, delta, width, step):
    """Inner integral with nodes around the mode, the same standardised ones for every pair."""
    half = np.ceil(6.6 / step)
    t = np.arange(-half, half + 1) * (step / _B_INNER)
    z = _B_INNER * np.sinh(t)
    powers = np.stack([np.ones_like(z), z, z * z])
    mode = a + delta
    precision = 1 / s**2
    # y alpha - (alpha - a)^2 / 2 sigma^2 less its value at the mode, a polynomial in z
    slope = width * (y - delta * precision)
    log_f, p = _log_likelihood(np.stack([mode, width], axis=1) @ powers[:2], 0.0, n[:, None])
    log_mode = log_f[:, [t.size // 2]].copy()
    log_f -= log_mode
    log_f += np.stack([slope, -0.5 * width**2 * precision], axis=1) @ powers[1:]
    f = np.exp(log_f, out=log_f)
    weights = (step * np.cosh(t) * powers).T
    total, first, second = (f @ weights).T
    first /= total
    f *= p
    mean_p = f @ weights[:, 0] / total
    f *= p
    mean_p_squared = f @ weights[:, 0] / total
    log_top = log_mode[:, 0] + y * mode - 0.5 * delta**2 * precision
    log_integral = np.log(total * width / s) + log_top - 0.5 * _LOG_TWO_PI
    variance = width**2 * (second / total - first**2)
    return np.stack([log_integral, delta + width * first, variance, mean_p, mean_p_squared])


def _inner_sums(deviation, weights, a, s, y, n, i):
    a, s, y, n = (v[i, None] for v in (a, s, y, n))
    log_f, p = _log_likelihood(a + deviation, y, n)
    log_f -= 0.5 * (deviation / s) ** 2
    top = log_f.max(axis=1, keepdims=True)
    f = np.exp(log_f - top)
    f *= weights
    total = f.sum(axis=1)
    f /= total[:, None]
    shift = np.einsum("ik,ik->i", f, deviation)
    variance = np.einsum("ik,ik->i", f, (deviation - shift[:, None]) ** 2)
    f *= p
    mean_p = f.sum(axis=1)
    mean_p_squared = np.einsum("ik,ik->i", f, p)
    log_integral = np.log(total) + top[:, 0] - np.log(s[:, 0]) - 0.5 * _LOG_TWO_PI
    return np.stack([log_integral, shift, variance, mean_p, mean_p_squared])


# ---------------------------------------------------------------------------------------------
# Outer integral: the mean and the spread


@dataclass
class Model:
    """The data (unique districts with their multiplicity) and the priors, checked."""

    successes: np.ndarray
    trials: np.ndarray
    count: np.ndarray
    member: np.ndarray  # index of each district among the unique ones
    prior_mean: float
    prior_sd: float
    sigma_prior: object

    @property
    def log_constant(self) -> float:
        n, y = self.trials, self.successes
        return float(self.count @ (-np.log1p(n) - betaln(n - y + 1, y + 1)))

    def log_weight(self, a, inner: _Inner):
        """Log of prior(alpha_bar) times the product of the inner integrals, shape of ``a``."""
        z = (a - self.prior_mean) / self.prior_sd
        log_prior = -0.5 * z**2 - np.log(self.prior_sd) - 0.5 * _LOG_TWO_PI
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


def _ridge(model: Model, sigma: np.ndarray):
    """Mode and curvature scale of alpha_bar given each sigma, and the log weight at the mode."""
    y, n = model.successes, model.trials
    p = (y + 0.5) / (n + 1)
    with np.errstate(divide="ignore"):
        spread = np.where(n > 0, 1 / (n * p * (1 - p)), np.inf)
    precision = model.count / (spread + sigma[:, None] ** 2)
    prior_precision = 1 / model.prior_sd**2
    mode = (precision @ logit(p) + prior_precision * model.prior_mean) / (
        precision.sum(1) + prior_precision
    )
    scale = 1 / np.sqrt(precision.sum(1) + prior_precision)
    for _ in range(3):
        inner = _inner(mode[:, None], sigma[:, None], y, n, step=0.9)
        # d log I / d alpha_bar = E[y - n p], and its derivative, stay exact as sigma -> 0
        slope = (y - n * inner.p) @ model.count - (mode - model.prior_mean) * prior_precision
        variance_p = np.maximum(inner.p_squared - inner.p**2, 0)
        bend = (n**2 * variance_p - n * (inner.p - inner.p_squared)) @ model.count
        curvature = np.maximum(prior_precision - bend, prior_precision)
        scale = 1 / np.sqrt(curvature)
        log_weight = model.log_weight(mode, inner)
        mode = mode + np.clip(slope / curvature, -3 * scale, 3 * scale)
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
    inner: _Inner  # arrays of shape (S, A, unique districts)


def _slices(model, sigma, mode, scale, t, step) -> _Slices:
    alpha_bar = mode[:, None] + scale[:, None] * _B_MEAN * np.sinh(t / _B_MEAN)
    inner = _inner(alpha_bar[:, :, None], sigma[:, None, None], model.successes, model.trials, step)
    log_weight = model.log_weight(alpha_bar, inner)
    log_measure = np.log(scale)[:, None] + np.log((t[1] - t[0]) * np.cosh(t / _B_MEAN))
    return _Slices(sigma, mode, scale, t, alpha_bar, log_weight, log_measure, inner)


def _tail_exponent(prior) -> float:
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

    def ridge(self, v):
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
        far = prior.isf(1e-6)
        light = prior.logpdf(2 * far) - prior.logpdf(far) < -5

    def scan(v):
        mode, scale, log_weight = _ridge(model, model.sigma(v))
        return np.stack([v, mode, np.log(scale), log_weight + np.log(scale)])

    # Below `first` sigma is so small that only the prior still changes.
    start = min(0.02 * narrowest, prior.ppf(0.01) - lower)
    if np.isfinite(upper):
        start = min(start, 0.01 * (upper - lower))
    first = model.v(lower + start)
    last = max(model.v(prior.isf(1e-4)), first + 4) if np.isinf(upper) else max(6.0, first + 4)
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
    excess = np.exp(max(0.0, (points[2] - log_cap).max()))
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


def _make_grid(model: Model, plan: _Plan, steps, reach) -> _Grid:
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


def _moments(grid: _Grid, weight):
    """Means and variances: alpha_bar, p_bar, sigma, then alpha and p of each unique district."""
    slices, inner = grid.slices, grid.slices.inner
    weight = weight / weight.sum()
    values = [slices.alpha_bar, expit(slices.alpha_bar), slices.sigma[:, None] + 0 * weight]
    mean, variance = [], []
    for value in values:
        mean.append((weight * value).sum())
        variance.append((weight * (value - mean[-1]) ** 2).sum())
    flat = weight.ravel()
    units = inner.shift.shape[-1]
    alpha = (slices.alpha_bar[:, :, None] + inner.shift).reshape(-1, units)
    mean_alpha = flat @ alpha
    variance_alpha = flat @ (inner.variance.reshape(-1, units) + (alpha - mean_alpha) ** 2)
    p = inner.p.reshape(-1, units)
    mean_p = flat @ p
    variance_p = flat @ (inner.p_squared.reshape(-1, units) - p**2 + (p - mean_p) ** 2)
    return (
        np.concatenate([mean, mean_alpha, mean_p]),
        np.concatenate([variance, variance_alpha, variance_p]),
    )


def _inner_error(model: Model, grid: _Grid, step: float, sd_p) -> float:
    """Estimated error of the inner integrals, from a sample of nodes done again more finely."""
    s, inner = grid.slices, grid.slices.inner
    order = np.argsort(grid.weight, axis=None)
    order = order[grid.weight.ravel()[order] > 1e-10]
    pick = np.unique(order[np.linspace(0, order.size - 1, 60).astype(int)])
    rows, columns = np.unravel_index(pick, grid.weight.shape)
    a, sigma = s.alpha_bar[rows, columns, None], s.sigma[rows, None]
    fine = _inner(a, sigma, model.successes, model.trials, step / 1.5)
    changes = np.stack(
        [
            (inner.log_integral[rows, columns] - fine.log_integral) * model.count,
            (inner.shift[rows, columns] - fine.shift) / np.sqrt(fine.variance),
            inner.variance[rows, columns] / fine.variance - 1,
            (inner.p[rows, columns] - fine.p) / sd_p,
            (inner.p_squared[rows, columns] - fine.p_squared) / (2 * sd_p**2),
        ]
    )
    weight = grid.weight[rows, columns] * order.size / pick.size
    return float((weight @ np.abs(changes)).max())


def _weighted_median(value, weight):
    order = np.argsort(value)
    cumulative = np.cumsum(weight[order])
    return value[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]]


class _Splines:
    """Smooth functions of alpha_bar, one per row of the grid, as quintic splines over uniform t.

    A polynomial fit comes off first, so that the spline's even continuation past both ends has
    next to nothing left to bend.
    """

    def __init__(self, slices: _Slices, value):
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
        order = exponent + model.count[mixed].sum() - 1
        self.has_mean, self.has_sd = order > 1, order > 2
        self.mixed = mixed
        self.plan = _make_plan(model, int(self.has_mean) + int(self.has_sd))
        self.moments = self._converge()

    def _converge(self):
        tail = np.concatenate([[False, False, True], ~self.mixed, np.zeros(self.mixed.size, bool)])
        finite = ~tail | (self.has_mean & self.has_sd)
        step_v, step_a, step_inner = _STEPS
        reach = [-self.plan.reach, self.plan.reach]
        before, ratio = None, np.ones(3)
        for _ in range(10):
            self.steps, self.reach = (step_v, step_a, step_inner), reach
            grid = _make_grid(self.model, self.plan, self.steps, reach)
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
            mean, variance = _moments(grid, grid.weight)
            sd = np.sqrt(variance)
            missed = []
            for every in (np.s_[::2, :], np.s_[:, ::2]):
                weight = np.zeros_like(grid.weight)
                weight[every] = grid.weight[every]
                m, v = _moments(grid, weight)
                change = np.maximum(np.abs(m - mean), np.abs(np.sqrt(v) - sd)) / sd
                if self.plan.reach > _REACH:
                    # alpha_bar is so wide that p_bar is a step between distant nodes, where
                    # halving their distance gains less than the square
                    change[1] **= 0.65
                missed.append(max(change[finite].max(), abs(2 * weight.sum() - 1)))
            sd_p = sd[-self.mixed.size :]
            errors = [*np.square(missed), _inner_error(self.model, grid, step_inner, sd_p)]
            self.error = 4 * float(sum(errors))  # to be on the safe side
            if before is not None:  # a second opinion, from the change that refining made
                change = np.maximum(np.abs(before[0] - mean), np.abs(before[1] - sd)) / sd
                change = max(change[finite].max(), abs(before[2] - grid.log_marginal_likelihood))
                power = 1 / ratio.max(where=ratio < 1, initial=0.4)
                self.error = max(self.error, float(change) ** power)
            if self.error < TOLERANCE:
                break
            # one step of exp(-1 / step) towards the target, at least a little finer
            with np.errstate(divide="ignore"):
                wanted = np.log(np.minimum(errors, 0.5)) / np.log(TOLERANCE / 32)
            ratio = np.where(np.array(errors) > TOLERANCE / 16, np.clip(wanted, 0.4, 0.85), 1.0)
            step_v, step_a, step_inner = (ratio * self.steps).tolist()
            before = mean, sd, grid.log_marginal_likelihood
        else:
            raise ExactPosteriorError(
                f"The quadrature did not converge (error estimate {self.error:.0e} posterior sd "
                "after the finest grid); use less extreme priors."
            )
        self.grid = grid
        self.log_marginal_likelihood = grid.log_marginal_likelihood
        mean, sd = mean.copy(), np.sqrt(variance)
        if not self.has_sd:
            sd[tail] = np.inf
        if not self.has_mean:
            y, n = self.model.successes, self.model.trials
            sign = np.where(n == 0, np.nan, np.where(y > 0, np.inf, -np.inf))
            mean[tail] = np.concatenate([[np.inf], sign[~self.mixed]])
            sd[tail] = np.nan
        return mean, sd

    @cached_property
    def fine(self) -> _Grid:
        """A finer grid for densities, which vary faster along it than moments do."""
        step_v, step_a, step_inner = self.steps
        steps = step_v / 1.5, step_a / 2, step_inner / 1.2
        grid = _make_grid(self.model, self.plan, steps, self.reach)
        change = abs(grid.log_marginal_likelihood - self.log_marginal_likelihood)
        if not change < TOLERANCE:
            raise ExactPosteriorError(
                f"Two grids disagree on the marginal likelihood by {change:.0e}; "
                "use less extreme priors."
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

    def _slices_at(self, v, t, step) -> _Slices:
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

    def _given_sigma(self, slices: _Slices, unit: int):
        """Function of (rows, x): density of (y, alpha_j = x) given each row's sigma."""
        y, n = self.model.successes[unit], self.model.trials[unit]
        others = slices.log_weight - slices.inner.log_integral[:, :, unit]
        splines = _Splines(slices, others)
        log_mass = others + slices.log_measure
        # Where sigma is wide beside the nodes of alpha_bar, sum over those nodes. Where it is
        # narrow, sum over alpha_bar = x - sigma z at Gauss-Hermite nodes z instead.
        narrow = slices.sigma < 0.6 * slices.scale

        def density(rows, x, log_row):
            """Sum over rows of exp(log_row) times the density at ``x`` (or each row's own x)."""
            out = np.zeros(x.shape)
            log_likelihood = _log_likelihood(x, y, n)[0]
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
                keep = log_f > log_f.max() - 45
                log_f = log_f[keep] - 0.5 * _LOG_TWO_PI
                a = slices.alpha_bar[many][keep]
                sigma = np.broadcast_to(sigma[:, None], keep.shape)[keep]
                z = (x[:, None] - a) / sigma
                out += np.exp(log_likelihood[:, None] + log_f - 0.5 * z * z).sum(1)
            return out

        return density

    def _pdf_alpha(self, unit: int):
        density = self._given_sigma(self.fine.slices, unit)
        rows, log_prior = self._rows

        def pdf(x):
            x = np.asarray(x, dtype=float)
            return density(rows, np.atleast_1d(x).ravel(), log_prior).reshape(x.shape)

        return pdf

    def joint_density(self, unit: int, alpha, log_sigma):
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

    def pdf(self, name: str, unit: int):
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
            marginal = Marginal.from_density(self.pdf(name, unit), *self._bounds(value, spread))
        if not marginal.error < TOLERANCE / 4:
            raise ExactPosteriorError(
                f"The distribution function of {name} did not converge "
                f"(error estimate {marginal.error:.0e}); use less extreme priors."
            )
        return marginal


class FixedEffects(_Engine):
    """Everything `DistrictsPosterior` asks of the fixed-effects model: districts on their own."""

    names = ()

    def __init__(self, model: Model):
        self.model = model
        y, n = model.successes, model.trials
        fine, finer = (_inner(model.prior_mean, model.prior_sd, y, n, step) for step in (0.25, 0.2))
        self.inner = finer
        sd = np.sqrt(finer.variance)
        sd_p = np.sqrt(finer.p_squared - finer.p**2)
        self.moments = (
            np.concatenate([model.prior_mean + finer.shift, finer.p]),
            np.concatenate([sd, sd_p]),
        )
        changes = [
            (fine.log_integral - finer.log_integral) * model.count,
            (fine.shift - finer.shift) / sd,
            np.sqrt(fine.variance) / sd - 1,
            (fine.p - finer.p) / sd_p,
            np.sqrt(fine.p_squared - fine.p**2) / sd_p - 1,
        ]
        self.error = float(np.abs(changes).max())
        if not self.error < TOLERANCE:
            raise ExactPosteriorError(
                f"The quadrature did not converge (error estimate {self.error:.0e} posterior sd); "
                "use a less extreme prior."
            )
        self.log_marginal_likelihood = float(finer.log_integral @ model.count) + model.log_constant

    def pdf(self, name, unit):
        model = self.model

        def density(x):
            x = np.asarray(x, dtype=float)
            log_f = _log_likelihood(x, model.successes[unit], model.trials[unit])[0]
            log_f = log_f - 0.5 * ((x - model.prior_mean) / model.prior_sd) ** 2
            log_f -= np.log(model.prior_sd) + 0.5 * _LOG_TWO_PI + self.inner.log_integral[unit]
            return np.exp(log_f)

        return density

    def _tabulate(self, name, unit):
        mean = self.moments[0][unit]
        sd = self.moments[1][unit]
        return Marginal.from_density(self.pdf(name, unit), mean, sd, mean - 35 * sd, mean + 35 * sd)
