"""Exact posteriors of thousands of districts: one grid for all, every quantile at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import expit

from fieldguide.priors import ALPHA_PRIOR, Prior
from fieldguide.reference._districts_many import EXACT, ManyGroups, _times
from fieldguide.reference._districts_quadrature import Model, VaryingIntercepts, _tail_exponent
from fieldguide.reference._marginal import Marginal
from fieldguide.reference._protocol import PROBS, ExactPosteriorError
from fieldguide.reference.districts import _BASE, DistrictsPosterior, _check, districts_problem

_FINER = (0.65, 0.65, 0.9)  # factors of the steps where a quantile is not accurate enough
_FEW = 300  # kinds of districts up to which marginals are tabulated one by one where that fails


@dataclass(frozen=True)
class ManyDistrictsPosterior(DistrictsPosterior):
    """The exact posterior of many districts: moments at once, all quantiles together.

    Variables, attributes and questions are those of `DistrictsPosterior`, but for `joint_density`.
    Quantiles of all districts take about as long as their moments; a distribution function or a
    density is made for the one district that is asked for.
    """

    @cached_property
    def _known(self) -> dict[Any, Any]:
        """Quantiles and marginals found so far."""
        return {}

    def __getstate__(self):
        return {name: v for name, v in self.__dict__.items() if name not in ("_known", "summary")}

    def _marginal(self, name: str, position: int | None) -> Marginal:
        key = _BASE.get(name, name), self._unit(position)
        if key not in self._known:
            self._known[key] = self._engine.marginal(*key)
        return self._known[key]

    def _quantile(self, name: str, position: int | None, q: np.ndarray) -> np.ndarray:
        base = _BASE.get(name, name)
        key = base, tuple(map(float, q))
        if key not in self._known:
            self._known[key] = self._quantiles(*key)
        found = self._known[key]
        if position is not None:
            found = found[:, self._unit(position)]
        return expit(found) if name in _BASE else found

    def _quantiles(self, base: str, q: tuple[float, ...]) -> np.ndarray:
        """Quantiles of sigma or alpha_bar, shape (Q,), or of all kinds of districts, shape (Q, U)."""
        engine = cast("ManyGroups", self._engine)
        found, error, what = _ask(engine, base, q)
        if not error < EXACT.quantiles:
            steps = _times(EXACT.steps, _FINER)
            engine = ManyGroups(engine.model, accuracy=replace(EXACT, steps=steps))
            found, error, what = _ask(engine, base, q)
        if error < EXACT.quantiles:
            return found
        if engine.model.successes.size <= _FEW:
            return self._one_by_one(base, q)
        raise ExactPosteriorError(
            f"{what} is not accurate (error estimate {error:.0e} posterior sd); "
            "use less extreme probabilities or priors."
        )

    def _one_by_one(self, base: str, q: tuple[float, ...]) -> np.ndarray:
        """Quantiles from marginals that are tabulated on their own."""
        if "one by one" not in self._known:
            engine = VaryingIntercepts(self._engine.model)
            exact = DistrictsPosterior(
                self.problem, self.mean, self.sd, self.log_marginal_likelihood, self.error, engine
            )
            self._known["one by one"] = exact
        exact = self._known["one by one"]
        if base != "alpha":
            return exact._quantile(base, None, np.array(q))
        first = np.unique(self._engine.model.member, return_index=True)[1]
        return np.stack([exact._quantile("alpha", int(j), np.array(q)) for j in first], axis=1)

    def joint_density(self, district: Any, alpha: ArrayLike, log_sigma: ArrayLike) -> xr.DataArray:
        """Refused; ask `exact_posterior` for it."""
        raise ValueError("The answer for many districts has no joint density; use exact_posterior.")


def _ask(engine: ManyGroups, base: str, q: tuple[float, ...]) -> tuple[np.ndarray, float, str]:
    """Quantiles, the largest error estimate in posterior sds, and of what it is."""
    if base != "alpha":
        found = np.array([engine.marginal(base).quantile(v) for v in q])
        errors = [4 * engine.quantile_error(base, v) for v in q]
        worst = int(np.argmax(errors))
        return found, errors[worst], f"The {100 * q[worst]:g}% quantile of {base}"
    groups = engine.summarise(q, refuse=False)
    # relative to the sd on both scales, so that the effect and its probability can be trusted
    slope = (expit(groups.quantiles) * expit(-groups.quantiles)).max(0)
    error = groups.error * np.maximum(1, slope * groups.sd / groups.sd_p)
    error = np.where(np.isnan(error), np.inf, error)
    worst = int(np.argmax(error))
    y, n = engine.model.successes[worst], engine.model.trials[worst]
    return groups.quantiles, float(error[worst]), f"A quantile of a district with {y:.0f} of {n:.0f}"


def exact_posterior_many(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    sigma_prior: Prior,
    alpha_prior: Prior = ALPHA_PRIOR,
    probs: Sequence[float] = PROBS,
    district: Sequence | None = None,
) -> ManyDistrictsPosterior:
    """Exact posterior of the varying-intercept binomial-logit model for many districts.

    The same answer as `exact_posterior`, to 1e-6 posterior sds, in a time that grows with the number of
    different pairs of counts, moments of all districts first and all quantiles together when they are
    asked for. For a few districts with heavy tails `exact_posterior` knows more.

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
    ManyDistrictsPosterior

    Raises
    ------
    ValueError, TypeError
        If the counts or priors are not what they should be.
    ExactPosteriorError
        If the estimated error stays above 4e-7 posterior sds, or if sigma has no finite sd.

    Examples
    --------
    A thousand districts of 50, with 5 to 45 successes:

    >>> import numpy as np
    >>> import scipy.stats
    >>> successes = np.arange(1000) % 41 + 5
    >>> exact = exact_posterior_many(successes, np.full(1000, 50), sigma_prior=scipy.stats.expon())
    >>> round(float(exact.mean["p"].sel(district=1)), 3)
    0.132
    >>> exact.quantile([0.055, 0.945], "p")["p"].sizes["district"]
    1000
    """
    model, labels, probs = _check(successes, trials, alpha_prior, sigma_prior, district, probs)
    problem = districts_problem(
        successes, trials, sigma_prior=sigma_prior, alpha_prior=alpha_prior, district=labels
    )
    _refuse_heavy_tail(model)
    engine = ManyGroups(model, accuracy=EXACT)
    groups, outer = engine.summarise(()), engine.moments

    def dataset(outer, alpha, p):
        data: dict[str, Any] = dict(zip(("alpha_bar", "p_bar", "sigma"), outer, strict=True))
        data["alpha"] = ("district", alpha[model.member])
        data["p"] = ("district", p[model.member])
        return xr.Dataset(data, coords={"district": labels})

    return ManyDistrictsPosterior(
        problem,
        dataset(outer[0], groups.mean, groups.mean_p),
        dataset(outer[1], groups.sd, groups.sd_p),
        engine.nodes.total,
        max(engine.error, float(groups.error.max())),
        cast("Any", engine),
        probs,
    )


def _refuse_heavy_tail(model: Model) -> None:
    mixed = (model.successes > 0) & (model.successes < model.trials)
    # p(sigma | y) falls like sigma ** -(exponent + number of districts with both outcomes)
    if not _tail_exponent(model.sigma_prior) + model.count[mixed].sum() > 3:
        raise ExactPosteriorError(
            "The tail of sigma falls too slowly for a finite sd; use exact_posterior, or a prior on "
            "sigma with a lighter tail."
        )
