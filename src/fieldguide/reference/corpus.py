"""Answers without Markov chains for the settings of the corpus: weighted points, and their summary."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.stats
from scipy.special import expit

COLUMNS = ("mean", "sd", "q05", "q95")
"""Columns of a truth."""

DRAWS = 100_000
"""Independent draws of an answer that is made of draws."""

Points = tuple[dict[str, np.ndarray], np.ndarray]
"""Values by variable, the first axis runs over points, and the points' weights."""

_QUANTITY = re.compile(r"(?:(log|asinh) )?(\w+)(?:\[(\d+)\])?")
_FUNCTIONS = {None: lambda x: x, "log": np.log, "asinh": np.arcsinh}


def quantity(values: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return a scalar quantity by its name, such as ``"mu"``, ``"log tau"`` or ``"asinh x[1]"``.

    Parameters
    ----------
    values : mapping
        Arrays by variable; a vector's elements are along the last axis.
    name : str
        Perhaps a function, a variable, and perhaps a position from 0.
    """
    found = _QUANTITY.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} names no quantity; write it like 'log tau' or 'beta[0]'.")
    function, variable, position = found.groups()
    value = values[variable] if position is None else values[variable][..., int(position)]
    return _FUNCTIONS[function](value)  # type: ignore[operator]


def summary(points: Points, names: Sequence[str]) -> pd.DataFrame:
    """Return mean, sd and the 5% and 95% quantiles of quantities over weighted points.

    Parameters
    ----------
    points : tuple of dict and ndarray
        Values by variable and weights; see `Points`.
    names : sequence of str
        See `quantity`.

    Returns
    -------
    DataFrame
        Indexed by quantity, with `COLUMNS`.
    """
    values, weights = points
    weights = weights / weights.sum()
    rows = []
    for name in names:
        x = quantity(values, name)
        mean = float(weights @ x)
        each, where = np.unique(x, return_inverse=True)  # points of a grid share values
        mass = np.bincount(where, weights)
        low, high = np.interp([0.05, 0.95], np.cumsum(mass) - mass / 2, each)
        rows.append((mean, float(np.sqrt(weights @ (x - mean) ** 2)), low, high))
    return pd.DataFrame(rows, index=list(names), columns=list(COLUMNS))


def normal_summary(mean: np.ndarray, sd: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Return the summary of normal quantities from their exact means and sds."""
    z = scipy.stats.norm.ppf(0.95)
    return pd.DataFrame(
        np.column_stack([mean, sd, mean - z * sd, mean + z * sd]),
        index=list(names),
        columns=list(COLUMNS),
    )


def even(values: dict[str, np.ndarray]) -> Points:
    """Return independent draws as points of equal weight."""
    return values, np.ones(len(next(iter(values.values()))))


def linear_posterior(
    x: np.ndarray, y: np.ndarray, noise: float, prior_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd of the coefficients of a normal regression with known noise.

    Parameters
    ----------
    x : ndarray, shape (n, k)
    y : ndarray, shape (n,)
    noise : float
        Sd of the observations.
    prior_sd : float
        Of every coefficient, about 0.

    Returns
    -------
    mean, sd : ndarray, shape (k,)
        From the singular values of `x`, which keeps directions that the data leave open exact.
    """
    u, s, vt = scipy.linalg.svd(x, full_matrices=True)
    s = np.concatenate([s, np.zeros(x.shape[1] - s.size)])
    variance = 1 / (s**2 / noise**2 + 1 / prior_sd**2)
    projected = (u.T @ y)[: s.size]
    projected = np.concatenate([projected, np.zeros(s.size - projected.size)])
    return vt.T @ (variance * s * projected / noise**2), np.sqrt((vt.T**2) @ variance)


def spread_draws(
    fixed: np.ndarray,
    scaled: np.ndarray,
    y: np.ndarray,
    observed: np.ndarray,
    noise: np.ndarray,
    log_prior: Callable[[np.ndarray], np.ndarray],
    centre: float,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Draw from a normal model with one unknown spread, integrated on a fine grid.

    Latent :math:`u \sim N(0, F + \tau^2 S)`, data :math:`y \sim N(H u, \mathrm{diag}(noise^2))`.

    Parameters
    ----------
    fixed, scaled : ndarray, shape (m, m)
        :math:`F` and :math:`S`.
    y, noise : ndarray, shape (n,)
        Data and their sds.
    observed : ndarray, shape (n, m)
        :math:`H`.
    log_prior : callable
        Log density of :math:`\tau`, for an array of it.
    centre : float
        A plausible spread; the grid reaches from :math:`e^{-12}` to :math:`e^{8}` times it.
    seed, draws : int
        Of the independent draws.

    Returns
    -------
    tau : ndarray, shape (draws,)
    u : ndarray, shape (draws, m)
    """
    rng = np.random.default_rng(seed)
    grid, step = np.linspace(-12, 8, 1601, retstep=True)
    tau = centre * np.exp(grid)
    log_mass = log_prior(tau) + np.log(tau)
    for i, t in enumerate(tau):
        cov = observed @ (fixed + t**2 * scaled) @ observed.T + np.diag(noise**2)
        factor = np.linalg.cholesky(cov)
        z = scipy.linalg.solve_triangular(factor, y, lower=True)
        log_mass[i] -= z @ z / 2 + np.log(np.diag(factor)).sum()
    mass = np.exp(log_mass - log_mass.max())
    counts = rng.multinomial(draws, mass / mass.sum())
    taus, latent = [], []
    for t, count in zip(tau, counts, strict=True):
        if count:
            prior = fixed + t**2 * scaled
            cov = observed @ prior @ observed.T + np.diag(noise**2)
            # A joint draw of latent and data, moved to the data (Matheron's rule).
            values, vectors = np.linalg.eigh(prior)
            root = vectors * np.sqrt(np.clip(values, 0, None))
            u = rng.standard_normal((count, len(prior))) @ root.T
            simulated = u @ observed.T + rng.standard_normal((count, y.size)) * noise
            gain = np.linalg.solve(cov, observed @ prior)
            latent.append(u + (y - simulated) @ gain)
            taus.append(t * np.exp(step * (rng.random(count) - 0.5)))
    return np.concatenate(taus), np.concatenate(latent)


def hierarchy_points(
    y: np.ndarray,
    se: np.ndarray,
    mu_sd: float,
    log_prior: Callable[[np.ndarray], np.ndarray],
    centre: float,
) -> Points:
    """Return independent draws of ``mu``, ``tau`` and ``theta`` of a normal hierarchical model."""
    groups = y.size
    fixed, scaled = np.full((groups + 1, groups + 1), mu_sd**2), np.eye(groups + 1)
    scaled[0, 0] = 0
    observed = np.eye(groups + 1)[1:]
    tau, u = spread_draws(fixed, scaled, y, observed, se, log_prior, centre)
    return even({"mu": u[:, 0], "tau": tau, "theta": u[:, 1:]})


def walk_points(
    y: np.ndarray,
    noise: float,
    start_sd: float,
    log_prior: Callable[[np.ndarray], np.ndarray],
    centre: float,
) -> Points:
    """Return independent draws of ``tau`` and the states ``x`` of a random walk seen with noise."""
    steps = np.arange(y.size)
    fixed = np.full((y.size, y.size), start_sd**2)
    scaled = np.minimum(steps[:, None], steps).astype(float)
    tau, x = spread_draws(fixed, scaled, y, np.eye(y.size), np.full(y.size, noise), log_prior, centre)
    return even({"tau": tau, "x": x})


def separate_points(
    log_density: Callable[[np.ndarray], np.ndarray], count: int, scale: float
) -> np.ndarray:
    """Return independent draws of independent variables, from their log densities on a fine grid.

    Parameters
    ----------
    log_density : callable
        Takes an array of shape (points, 1) and returns (points, count).
    count : int
        How many variables.
    scale : float
        The grid is even in ``asinh(x / scale)``, out to 1e12 times the scale.

    Returns
    -------
    ndarray, shape (draws, count)
    """
    rng = np.random.default_rng(0)
    top = np.arcsinh(1e12)
    t, step = np.linspace(-top, top, 120_001, retstep=True)
    x = scale * np.sinh(t)
    log_mass = log_density(x[:, None]) + np.log(np.cosh(t))[:, None]
    columns = []
    for j in range(count):
        mass = np.exp(log_mass[:, j] - log_mass[:, j].max())
        cell = rng.choice(t.size, DRAWS, p=mass / mass.sum())
        columns.append(scale * np.sinh(t[cell] + step * (rng.random(DRAWS) - 0.5)))
    return np.column_stack(columns)


def change_points(y: np.ndarray, noise: float, level_sd: float) -> Points:
    """Return independent draws of ``when`` a level changes, uniform in time, and of both ``level``.

    Observation i is made at time i + 0.5 of `y`.size; before ``when`` it has the first level.
    """
    rng = np.random.default_rng(0)
    n = y.size
    log_mass, moments = np.log(np.r_[0.5, np.ones(n - 1), 0.5]), []
    for k in range(n + 1):  # k observations before the change
        both = []
        for part in (y[:k], y[k:]):
            variance = 1 / (part.size / noise**2 + 1 / level_sd**2)
            mean = variance * part.sum() / noise**2
            log_mass[k] += np.log(variance) / 2 + mean**2 / variance / 2
            both.append((mean, np.sqrt(variance)))
        moments.append(both)
    mass = np.exp(log_mass - log_mass.max())
    k = rng.choice(n + 1, DRAWS, p=mass / mass.sum())  # type: ignore[assignment]
    low, high = np.maximum(k - 0.5, 0), np.minimum(k + 0.5, n)
    mean, sd = np.array(moments)[k, :, 0], np.array(moments)[k, :, 1]
    return even(
        {
            "when": low + (high - low) * rng.random(DRAWS),
            "level": mean + sd * rng.standard_normal((DRAWS, 2)),
        }
    )


def smooth_change_points(y: np.ndarray, noise: float, level_sd: float, width: float) -> Points:
    """Return the same as `change_points` for a change that is logistic in time, of a given width."""
    rng = np.random.default_rng(0)
    n = y.size
    when = n * (np.arange(8000) + 0.5) / 8000
    after = expit((np.arange(n) + 0.5 - when[:, None]) / width)
    design = np.stack([1 - after, after], axis=2)
    precision = np.swapaxes(design, 1, 2) @ design / noise**2 + np.eye(2) / level_sd**2
    projected = (y @ design) / noise**2
    factor = np.linalg.cholesky(precision)
    half = np.linalg.solve(factor, projected[:, :, None])
    log_mass = (half[:, :, 0] ** 2).sum(1) / 2 - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    mass = np.exp(log_mass - log_mass.max())
    at = rng.choice(when.size, DRAWS, p=mass / mass.sum())
    upper = np.swapaxes(factor, 1, 2)[at]
    level = np.linalg.solve(upper, half[at] + rng.standard_normal((DRAWS, 2, 1)))[:, :, 0]
    return even({"when": when[at] + n * (rng.random(DRAWS) - 0.5) / 8000, "level": level})


def shift_points(y: np.ndarray, shift_sd: float, shape: float) -> Points:
    """Return the posterior of ``shift`` and ``rate`` of exponential waiting times after a shift.

    The shift is normal about 0, the rate Gamma(shape, shape). The grid is even in the logarithms of the
    rate and of the distance from the shift to the first observation, where the density has no jump.
    """
    u, v = (
        axis.ravel()
        for axis in np.meshgrid(np.linspace(-20, 4, 1200), np.linspace(-6, 4, 1000), indexing="ij")
    )
    shift, rate = y.min() - np.exp(u), np.exp(v)
    log_mass = y.size * (v - rate * (y.mean() - shift)) - (shift / shift_sd) ** 2 / 2
    log_mass += shape * v - shape * rate + u
    keep = log_mass > log_mass.max() - 30
    return {"shift": shift[keep], "rate": rate[keep]}, np.exp(log_mass[keep] - log_mass.max())


def mixture_points(y: np.ndarray, components: int, prior_sd: float, size: int = 100) -> Points:
    """Return the posterior of the ordered means ``mu`` of a normal mixture on an even grid.

    Components are equally likely and have sd 1; the means have the same normal prior about 0.

    Parameters
    ----------
    y : ndarray, shape (n,)
    components : int
        2 or 3.
    prior_sd : float
    size : int
        Points along each axis, ten times as many for two components; each axis is narrowed to where
        the density is.
    """
    size = size if components == 3 else 10 * size
    ends = [(y.min() - 4 * prior_sd, y.max() + 4 * prior_sd)] * components
    for _ in range(8):
        axes = [np.linspace(low, high, size) for low, high in ends]
        parts = [np.exp(-((y[:, None] - axis) ** 2) / 2) for axis in axes]  # (n, size)
        log_mass = np.zeros([size] * components)
        for i in range(components):
            shape = [-1 if j == i else 1 for j in range(components)]
            log_mass = log_mass - (axes[i].reshape(shape) / prior_sd) ** 2 / 2
        # The product of four such sums stays within the range of a float.
        for start in range(0, y.size, 4):
            product = np.ones_like(log_mass)
            for one in range(start, min(start + 4, y.size)):
                total = np.full([1] * components, 1e-70)
                for i in range(components):
                    shape = [-1 if j == i else 1 for j in range(components)]
                    total = total + parts[i][one].reshape(shape)
                product *= total
            log_mass += np.log(product)
        mu = np.meshgrid(*axes, indexing="ij", sparse=True)
        for i in range(components - 1):
            log_mass = np.where(mu[i] <= mu[i + 1], log_mass, -np.inf)
        near = log_mass > log_mass.max() - 18
        narrow = []
        for i, axis in enumerate(axes):
            inside = axis[near.any(axis=tuple(j for j in range(components) if j != i))]
            step = axis[1] - axis[0]
            narrow.append((inside.min() - step, inside.max() + step))
        shrunk = min((b - a) / (high - low) for (a, b), (low, high) in zip(narrow, ends, strict=True))
        if shrunk > 0.8:
            break
        ends = narrow
    points = np.stack([part[near] for part in np.broadcast_arrays(*mu)], axis=1)
    return {"mu": points}, np.exp(log_mass[near] - log_mass.max())


def shrinkage_points(
    x: np.ndarray, y: np.ndarray, noise: float, scales: np.ndarray, tau: np.ndarray
) -> Points:
    """Return the posterior of a regression with a scale for each coefficient, by importance sampling.

    Parameters
    ----------
    x : ndarray, shape (n, k)
    y : ndarray, shape (n,)
    noise : float
    scales : ndarray, shape (points, k)
        Prior sds of the coefficients, drawn from their prior; coefficients are integrated out.
    tau : ndarray, shape (points,)
        The overall scale that belongs to them.

    Raises
    ------
    ArithmeticError
        If the effective number of points is below 5000.
    """
    rng = np.random.default_rng(1)
    k = x.shape[1]
    gram, projected = x.T @ x / noise**2, x.T @ y / noise**2
    # With b = scales * z the precision of z is I + D gram D, which no scale makes singular.
    precision = np.eye(k) + scales[:, :, None] * gram * scales[:, None, :]
    factor = np.linalg.cholesky(precision)
    half = np.linalg.solve(factor, (scales * projected)[:, :, None])[:, :, 0]
    log_weight = (half**2).sum(1) / 2 - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    weight = np.exp(log_weight - log_weight.max())
    if weight.sum() ** 2 / (weight**2).sum() < 5000:
        raise ArithmeticError("Too few points carry the posterior of the shrinkage regression.")
    keep = rng.choice(len(weight), DRAWS, p=weight / weight.sum())
    z = half[keep] + rng.standard_normal((DRAWS, k))
    z = np.linalg.solve(np.swapaxes(factor[keep], 1, 2), z[:, :, None])[:, :, 0]
    return even({"tau": tau[keep], "beta": scales[keep] * z})
