"""One district's effect, integrated out given the mean and the spread of all.

Log likelihoods are differences from their value near the peak, means of probabilities come with
those of their complements, and variances are sums of squared differences: counts of millions leave
no digit to waste (Goldberg 1991, ACM Computing Surveys 23, on cancellation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

MANY = 1e6
"""Trials of one district above which rounding has to be kept out of every logarithm."""

LOG_TWO_PI = np.log(2 * np.pi)

_B_INNER = 2.5  # nodes are mode + width * B sinh(t / B): even in the middle, ever wider outside
_CHUNK = 1 << 11  # pairs handled at once, so that their nodes stay in the processor's cache
_FAR = 300.0  # logits beyond which an exponential is replaced by its logarithm


def reference_point(successes, trials):
    """Probability near the likelihood's peak, its complement and its logit: where logs are zero.

    Log likelihoods are relative to their value at this point. Of counts in the millions the value
    itself has lost all digits that matter.
    """
    p, q = (successes + 0.5) / (trials + 1), (trials - successes + 0.5) / (trials + 1)
    return p, q, np.log(p / q)


def log_ratio(x, y, n, p, q):
    """Log likelihood at a distance ``x`` from where the probability is ``p``, less its value there.

    From ``log(1 + exp(c + x)) - log(1 + exp(c)) = log1p(p expm1(x))``, for whichever of the two
    outcomes is the rarer one. Also the probabilities of success and failure at that distance.
    """
    flip = p > 0.5
    rare, common = np.where(flip, q, p), np.where(flip, p, q)
    z = np.where(flip, -x, x)
    excess = np.maximum(z - _FAR, 0)
    z = z - excess
    change = rare * np.expm1(z)
    log_f = np.where(flip, n - y, y) * z - n * np.log1p(change) + np.where(flip, -y, y - n) * excess
    rare, common = rare * np.exp(z) / (1 + change), common * np.exp(-excess) / (1 + change)
    return log_f, np.where(flip, common, rare), np.where(flip, rare, common)


@dataclass
class Inner:
    """Moments of one district's effect given ``(alpha_bar, sigma)``; arrays of one shape."""

    log_integral: np.ndarray  # log I_j, relative to the likelihood at its reference
    shift: np.ndarray  # E[alpha_j] - alpha_bar
    variance: np.ndarray  # Var[alpha_j]
    p: np.ndarray  # E[p_j]
    q: np.ndarray  # E[1 - p_j]
    variance_p: np.ndarray  # Var[p_j]


def integrate_effect(
    mean: ArrayLike, sd: ArrayLike, successes: ArrayLike, trials: ArrayLike, step: float
) -> Inner:
    """Integrate one district's effect out, for arrays of (mean, sd, successes, trials)."""
    shape = np.broadcast_shapes(*map(np.shape, (mean, sd, successes, trials)))
    a, s, y, n = (np.broadcast_to(v, shape).ravel() for v in (mean, sd, successes, trials))
    out = np.empty((6, a.size))
    for start in range(0, a.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        _inner_chunk(out[:, part], a[part], s[part], y[part], n[part], step)
    return Inner(*out.reshape(6, *shape))


def _inner_chunk(out, a, s, y, n, step):
    # Distance of the log-concave integrand's mode from `a` (the distance, because it keeps its
    # digits when sigma is tiny): Newton from the precision-weighted compromise, in a bracket.
    p, q, centre = reference_point(y, n)
    middle = centre - a
    information, precision = n * p * q, 1 / s**2
    # the score lies between y - n and y, and the mode between `a` and where the likelihood peaks;
    # one that peaks nowhere has lost to the normal log(n s^2) beyond zero
    low, high = (y - n) / precision, y / precision
    with np.errstate(divide="ignore"):
        peak, room = logit(np.divide(y, n, out=np.full_like(a, 0.5), where=n > 0)) - a, np.log(n * s**2)
    low = np.maximum(low, np.where(y > 0, np.minimum(peak, 0), np.minimum(-room - a, -1)))
    high = np.minimum(high, np.where(y < n, np.maximum(peak, 0), np.maximum(room - a, 1)))
    delta = np.clip(middle * information / (information + precision), low, high)
    last = np.inf
    for _ in range(60):
        p_mode, q_mode = expit(a + delta), expit(-a - delta)
        slope = np.where(p_mode < 0.5, y - n * p_mode, n * q_mode - (n - y)) - delta * precision
        width = 1 / np.sqrt(n * p_mode * q_mode + precision)
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
    wide &= np.hypot(1, delta - middle) < 5 * width
    many = n > MANY
    for i in (~wide & ~many, ~wide & many):
        if i.any():
            log_top = log_ratio(delta[i] - middle[i], y[i], n[i], p[i], q[i])[0]
            log_top -= 0.5 * delta[i] ** 2 * precision[i]
            args = [v[i] for v in (s, y, n, delta, width, p_mode, q_mode)]
            out[:, i] = _inner_narrow(log_top, *args, step, precise=bool(many[i][0]))  # type: ignore[call-arg, misc]
    if wide.any():
        i = wide
        offset = delta[i] - middle[i]
        left = np.maximum(middle[i], 0) + 8.5 * s[i]
        right = np.maximum(-middle[i], 0) + 8.5 * s[i]
        with np.errstate(divide="ignore"):  # where the likelihood falls before the normal does
            left = np.minimum(left, 40 / y[i] + 10 + np.maximum(-offset, 0))
            right = np.minimum(right, 40 / (n[i] - y[i]) + 10 + np.maximum(offset, 0))
        low, high = -np.arcsinh(left)[:, None], np.arcsinh(right)[:, None]
        count = int(np.ceil(24 / step))
        t = low + (high - low) * np.linspace(0, 1, count + 1)
        weights = np.cosh(t) * (high - low) / count
        out[:, i] = _inner_wide(np.sinh(t), weights, *(v[i, None] for v in (middle, s, y, n, p, q)))


def _inner_narrow(log_top, s, y, n, delta, width, p, q, step, precise):
    """Inner integral with nodes around the mode, the same standardised ones for every pair.

    ``p`` and ``q`` are the probabilities at the mode; ``log_top`` is the integrand's logarithm
    there. ``precise`` keeps the digits that counts above `MANY` need, at twice the time.
    """
    half = int(np.ceil(6.6 / step))
    t = np.arange(-half, half + 1) * (step / _B_INNER)
    z = _B_INNER * np.sinh(t)
    precision = 1 / s**2
    # As in `log_ratio`, at z times the width; nodes up to `half` are on the left of the mode.
    # as in `log_ratio`, at z times the width; z changes sides where failure is the rarer outcome
    side, rare, k = np.where(p > 0.5, -1.0, 1.0), np.minimum(p, q), np.where(p > 0.5, n - y, y)
    e = np.minimum(np.multiply.outer(width, z), _FAR)
    if precise:
        np.expm1(e, out=e)
        d = rare[:, None] * e
        log_f = np.log1p(d)
        d += 1
    else:
        np.exp(e, out=e)
        e -= 1
        d = rare[:, None] * e
        d += 1
        log_f = np.log(d)
    log_f *= -n[:, None]
    slope = width * (k - side * delta * precision)
    log_f += np.stack([slope, -0.5 * width**2 * precision], axis=1) @ np.stack([z, z * z])
    f = np.exp(log_f, out=log_f)
    weight = step * np.cosh(t)
    total, first, second = (f @ (weight * np.stack([np.ones_like(z), z, z * z])).T).T
    first /= total
    e /= d  # the rarer outcome's probability, less that at the mode, over p q
    f *= e
    mean_change = f @ weight / total
    f *= e
    variance_change = f @ weight / total - mean_change**2
    log_integral = np.log(total * width / s) + log_top - 0.5 * LOG_TWO_PI
    variance = width**2 * (second / total - first**2)
    shift = side * p * q * mean_change
    variance_p = (p * q) ** 2 * variance_change
    mean = delta + side * width * first
    return np.stack([log_integral, mean, variance, p + shift, q - shift, variance_p])


def _inner_wide(x, weights, middle, s, y, n, p, q):
    """Inner integral with nodes at distances ``x`` from the likelihood's reference."""
    deviation = middle + x
    log_f, probability, complement = log_ratio(x, y, n, p, q)
    log_f -= 0.5 * (deviation / s) ** 2
    top = log_f.max(axis=1, keepdims=True)
    f = np.exp(log_f - top)
    f *= weights
    total = f.sum(axis=1)
    f /= total[:, None]
    shift = np.einsum("ik,ik->i", f, deviation)
    variance = np.einsum("ik,ik->i", f, (deviation - shift[:, None]) ** 2)
    mean_p = np.einsum("ik,ik->i", f, probability)
    mean_q = np.einsum("ik,ik->i", f, complement)
    # the smaller of the two has the digits
    other = mean_q < mean_p
    probability[other] = complement[other]
    probability -= np.minimum(mean_p, mean_q)[:, None]
    variance_p = np.einsum("ik,ik->i", f, probability**2)
    log_integral = np.log(total) + top[:, 0] - np.log(s[:, 0]) - 0.5 * LOG_TWO_PI
    return np.stack([log_integral, shift, variance, mean_p, mean_q, variance_p])
