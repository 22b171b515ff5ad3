"""A one-dimensional density, tabulated so that its distribution function is exact to many digits.

Nodes are uniform in t with ``x = centre + width * sinh(t)``, which crowds them in the middle and
spreads them along both tails. On such nodes the trapezoidal rule converges exponentially for
analytic densities (Trefethen and Weideman 2014, SIAM Review 56, Theorem 5.1), and so does the
sinc rule for indefinite integrals (Haber 1993, Numerische Mathematik 65, equation 1.4):
with step h and masses ``g_k`` at ``t_k``, ``F(t) = sum_k g_k (1/2 + Si(pi (t - t_k) / h) / pi)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from time import perf_counter
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import sici

SUFFICIENT = 1e-10
"""Tabulation stops when the estimated error of the distribution function is below this."""

SECONDS = 10.0
"""Tabulation stops, too, when it would take longer than this wall time."""


class Marginal:
    """Distribution function and quantiles from masses on uniform nodes.

    Parameters
    ----------
    t, mass
        Uniform nodes, shape (K,), and the probability each stands for.
    to_t, from_t
        Increasing change of variable x -> t and its inverse.

    Attributes
    ----------
    error
        Estimated error of the distribution function: what it changes by when every other node is
        left out, to the power 1.7 (in theory halving the step squares the error), or the mass that
        is missing or too much.
    """

    def __init__(self, t: np.ndarray, mass: np.ndarray, to_t: Callable, from_t: Callable):
        self.t, self.mass, self.to_t, self.from_t = t, mass / mass.sum(), to_t, from_t
        self.step = t[1] - t[0]
        # found so far: an effect and its probability share them
        self._quantiles: dict[float, float] = {}
        some = self.t[1 :: 2 * max(t.size // 80, 1)]  # the nodes that are left out
        change = np.abs(self._cdf_t(some) - self._cdf_t(some, every=2)).max()
        missed = abs(2 * self.mass[::2].sum() - 1)
        self.resolution = float(max(change, missed)) ** 1.7
        self.error = max(self.resolution, abs(float(mass.sum()) - 1))

    @classmethod
    def from_density(
        cls, density: Callable, centre: float, width: float, low: float, high: float
    ) -> Marginal:
        """Tabulate a normalised density between ``low`` and ``high``, halving the step."""

        def to_t(x):
            return np.arcsinh((x - centre) / width)

        def from_t(t):
            return centre + width * np.sinh(t)

        def density_t(t):
            return density(from_t(t)) * width * np.cosh(t)

        return cls.from_uniform(density_t, to_t(low), to_t(high), to_t, from_t)

    @classmethod
    def from_uniform(
        cls, density: Callable, low: float, high: float, to_t: Callable, from_t: Callable
    ) -> Marginal:
        """Tabulate a normalised density of t between ``low`` and ``high``, halving the step."""
        start = perf_counter()
        t = np.linspace(low, high, int(np.ceil((high - low) / 0.3)) + 1)
        value = density(t)
        for _ in range(6):
            spent = perf_counter() - start
            between = (t[1:] + t[:-1]) / 2
            value = np.insert(density(between), np.arange(t.size), value)
            t = np.linspace(low, high, value.size)
            marginal = cls(t, value * (t[1] - t[0]), to_t, from_t)
            if marginal.resolution < SUFFICIENT or 2 * (perf_counter() - start) - spent > SECONDS:
                break
        return marginal

    def _cdf_t(self, t: ArrayLike, every: int = 1) -> np.ndarray:
        steps = (np.asarray(t)[..., None] - self.t[::every]) / (every * self.step)
        mass = every * self.mass[::every]
        return 0.5 * mass.sum() + sici(np.pi * steps)[0] @ mass / np.pi

    @cached_property
    def _cdf_nodes(self):
        return np.maximum.accumulate(self._cdf_t(self.t))

    def cdf(self, x):
        """Probability of being at most ``x``, any shape."""
        t = self.to_t(np.asarray(x, dtype=float))
        value = self._cdf_t(np.clip(t, self.t[0], self.t[-1]))
        return np.where(t < self.t[0], 0.0, np.where(t > self.t[-1], 1.0, np.clip(value, 0, 1)))

    def quantile(self, q: float) -> float:
        """The value below which a share ``q`` of the probability lies."""
        if q not in self._quantiles:
            i = cast("int", np.searchsorted(self._cdf_nodes, q))
            low, high = self.t[max(i - 2, 0)], self.t[min(i + 1, self.t.size - 1)]
            t = brentq(lambda t: self._cdf_t(t) - q, low, high, xtol=1e-13)
            self._quantiles[q] = float(self.from_t(t))
        return self._quantiles[q]

    def quantile_error(self, x: float) -> float:
        """What `error` means for the quantile ``x``: itself, over the density there."""
        t = self.to_t(x) + self.step * np.array([-0.05, 0.05])
        return float(self.error * np.diff(self.from_t(t))[0] / np.diff(self._cdf_t(t))[0])
