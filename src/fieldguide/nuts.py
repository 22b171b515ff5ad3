"""The no-U-turn sampler in the open, with a given step and metric, and either rule to stop by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RULES = ("ends", "sum")
"""When a path turns back: by its two ends (nutpie), or by its summed momenta (Stan and PyMC)."""

LogDensity = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass
class _State:
    """A point of a path: position, momentum, velocity, and log density with its gradient."""

    q: np.ndarray
    p: np.ndarray
    v: np.ndarray
    density: float
    gradient: np.ndarray

    @property
    def energy(self) -> float:
        return 0.5 * float(self.p @ self.v) - self.density


@dataclass
class _Path:
    """A stretch of 2^depth points in a row, the point chosen from it, and its weight."""

    left: _State
    right: _State
    chosen: _State
    momenta: np.ndarray
    log_weight: float
    depth: int = 0


class NoUTurn:
    """Multinomial no-U-turn sampling (Hoffman and Gelman 2014; Betancourt 2017) without adaptation.

    Parameters
    ----------
    log_density : callable
        Takes a position, returns the log density there and its gradient.
    step : float
        The leapfrog step, in units of the metric.
    scale : ndarray, shape (parameters,)
        The diagonal metric, as standard deviations.
    rule : {"ends", "sum"}
        A path turns back where the difference of its ends points against the momentum at either end
        (Hoffman and Gelman 2014, equation 9), or where the sum of its momenta points against the
        velocity there (Betancourt 2017, appendix A.4.2), for each of its halves with the neighbouring
        point as well.
    rng : numpy.random.Generator
    largest_error, depth
        A path is divergent where its energy has risen by more than the one, and is doubled at most
        as often as the other says.
    """

    def __init__(
        self,
        log_density: LogDensity,
        step: float,
        scale: np.ndarray,
        rule: str,
        rng: np.random.Generator,
        *,
        largest_error: float = 1000.0,
        depth: int = 10,
    ):
        if rule not in RULES:
            raise ValueError(f"A path turns back by one of {', '.join(RULES)}, not by {rule!r}.")
        self.log_density, self.step, self.scale = log_density, float(step), np.asarray(scale, float)
        self.rule, self.rng = rule, rng
        self.largest_error, self.depth = largest_error, depth
        self.steps = 0

    def draw(self, position: np.ndarray) -> tuple[np.ndarray, bool]:
        """Take one transition; return the next position, and whether its path diverged."""
        density, gradient = self.log_density(position)
        momentum = self.rng.normal(size=len(self.scale)) / self.scale
        start = _State(position, momentum, self.scale**2 * momentum, float(density), gradient)
        path = _Path(start, start, start, momentum, 0.0)
        while path.depth < self.depth:
            forward = self.rng.random() < 0.5
            more = self._stretch(path.right if forward else path.left, forward, path.depth, start.energy)
            if not isinstance(more, _Path):
                return path.chosen.q, more == "diverging"
            joined, turned = self._join(path, more, forward)
            if np.log(self.rng.random()) < more.log_weight - path.log_weight:
                joined.chosen = more.chosen
            else:
                joined.chosen = path.chosen
            path = joined
            if turned:
                break
        return path.chosen.q, False

    def _stretch(self, state: _State, forward: bool, depth: int, energy: float) -> _Path | str:
        """Follow 2^depth further points, or say why that ended before."""
        if depth == 0:
            state = self._leap(state, self.step if forward else -self.step)
            error = state.energy - energy
            if not error < self.largest_error:
                return "diverging"
            return _Path(state, state, state, state.p, -error)
        first = self._stretch(state, forward, depth - 1, energy)
        if not isinstance(first, _Path):
            return first
        second = self._stretch(first.right if forward else first.left, forward, depth - 1, energy)
        if not isinstance(second, _Path):
            return second
        joined, turned = self._join(first, second, forward)
        if np.log(self.rng.random()) < second.log_weight - joined.log_weight:
            joined.chosen = second.chosen
        return "turned" if turned else joined

    def _join(self, path: _Path, more: _Path, forward: bool) -> tuple[_Path, bool]:
        """Put two stretches of one length together; say whether the whole turns back."""
        a, b = (path, more) if forward else (more, path)
        weight = float(np.logaddexp(path.log_weight, more.log_weight))
        momenta = a.momenta + b.momenta
        joined = _Path(a.left, b.right, path.chosen, momenta, weight, path.depth + 1)
        turned = self._turns(a.left, b.right, momenta)
        if path.depth > 0 and not turned:
            turned = self._turns(a.left, b.left, a.momenta + b.left.p)
            turned = turned or self._turns(a.right, b.right, b.momenta + a.right.p)
        return joined, turned

    def _turns(self, left: _State, right: _State, momenta: np.ndarray) -> bool:
        if self.rule == "ends":
            way = right.q - left.q
            return bool(way @ left.p < 0 or way @ right.p < 0)
        return bool(momenta @ left.v <= 0 or momenta @ right.v <= 0)

    def _leap(self, state: _State, step: float) -> _State:
        self.steps += 1
        p = state.p + 0.5 * step * state.gradient
        q = state.q + step * self.scale**2 * p
        density, gradient = self.log_density(q)
        p = p + 0.5 * step * gradient
        return _State(q, p, self.scale**2 * p, float(density), gradient)
