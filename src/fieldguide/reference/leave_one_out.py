r"""Leave one district out: what each way of pooling predicts for it from all others, exactly.

The log predictive density of a district's count given those of the others,
:math:`\log p(y_j \mid y_{-j})`, whose sum over districts compares models (Vehtari, Gelman and Gabry
2017, Statistics and Computing 27). PSIS-LOO approximates it from draws; here it is integrated:

* partial pooling: :math:`p(y_j \mid y_{-j})^{-1} = E[1 / p(y_j \mid \bar\alpha, \sigma) \mid y]`, a sum
  over the nodes of the exact posterior; where these do not suffice, because a district says much of the
  outer parameters, the ratio of two marginal likelihoods,
* no pooling: the district's own marginal likelihood, since the others say nothing of it,
* complete pooling: the ratio of the marginal likelihoods of the sums of the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binom

from fieldguide.priors import ALPHA_PRIOR, Prior
from fieldguide.reference._districts_integral import integrate_effect, log_ratio, reference_point
from fieldguide.reference._districts_many import EXACT, ManyGroups
from fieldguide.reference._districts_quadrature import Model, VaryingIntercepts
from fieldguide.reference._protocol import PROBS, ExactPosteriorError
from fieldguide.reference.districts import _check
from fieldguide.reference.districts_many import _refuse_heavy_tail

TOLERANCE = 1e-6
"""Largest error estimate of a log predictive density that is not refused."""

_ENOUGH = 1e-8  # error estimate above which a district is left out in fact
_FEW = 300  # kinds of districts up to which `exact_posterior`'s engine does that
_STEP = 0.25  # of the integrals of one district


def leave_one_out(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    sigma_prior: Prior,
    alpha_prior: Prior = ALPHA_PRIOR,
    district: Sequence | None = None,
) -> pd.DataFrame:
    """Return the exact log predictive density of every district given all others, by model.

    Parameters
    ----------
    successes, trials : array_like of int, shape (J,)
        Counts per district.
    sigma_prior : frozen SciPy distribution
        Prior on the districts' standard deviation (logits), for partial pooling.
    alpha_prior : frozen SciPy distribution
        Normal prior (logits): on the mean of the districts for partial pooling, on each district for
        no pooling, on what is common to all for complete pooling.
    district : sequence, shape (J,), optional
        Labels of the districts; 1, ..., J if not given.

    Returns
    -------
    pandas.DataFrame
        Log probabilities of the counts, binomial coefficients included, one row per district, with the
        columns ``no pooling``, ``partial pooling`` and ``complete pooling``. ``attrs["error"]`` is the
        largest error estimate.

    Raises
    ------
    ValueError, TypeError
        If the counts or priors are not what they should be.
    ExactPosteriorError
        If an estimated error stays above 1e-6.

    Examples
    --------
    >>> import scipy.stats
    >>> table = leave_one_out([30, 7, 2], [117, 20, 2], sigma_prior=scipy.stats.expon())
    >>> table.loc[3].round(2).to_dict()
    {'no pooling': -1.13, 'partial pooling': -2.05, 'complete pooling': -2.58}
    """
    model, labels, _ = _check(successes, trials, alpha_prior, sigma_prior, district, PROBS)
    constant = _log_reference(model)
    none, none_error = _no_pooling(model)
    complete, complete_error = _complete_pooling(model)
    partial, partial_error = _partial_pooling(model)
    error = np.maximum(np.maximum(none_error, partial_error), complete_error)
    if not (error < TOLERANCE).all():
        worst = int(np.nanargmax(error))
        raise ExactPosteriorError(
            f"The prediction of a district with {model.successes[worst]:.0f} of "
            f"{model.trials[worst]:.0f} is not accurate (error estimate {error[worst]:.0e}); "
            "use less extreme priors."
        )
    columns = {"no pooling": none, "partial pooling": partial, "complete pooling": complete}
    table = pd.DataFrame(
        {name: (value + constant)[model.member] for name, value in columns.items()},
        index=pd.Index(labels, name="district"),
    ).rename_axis("model", axis="columns")
    table.attrs["error"] = float(error.max())
    return table


def _log_reference(model: Model) -> np.ndarray:
    """Log probability of each kind of district's count at its reference point."""
    y, n = model.successes, model.trials
    return np.log(binom.pmf(y, n, reference_point(y, n)[0]))


def _integral(model: Model, y: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log integral of likelihoods over the prior, relative to their reference, and its error."""
    coarse, fine = (
        integrate_effect(model.prior_mean, model.prior_sd, y, n, step).log_integral
        for step in (1.3 * _STEP, _STEP)
    )
    return fine, np.abs(fine - coarse)


def _no_pooling(model: Model) -> tuple[np.ndarray, np.ndarray]:
    return _integral(model, model.successes, model.trials)


def _complete_pooling(model: Model) -> tuple[np.ndarray, np.ndarray]:
    y, n = model.successes, model.trials
    all_y, all_n = float(model.count @ y), float(model.count @ n)
    rest_y, rest_n = all_y - y, all_n - n
    (whole,), (whole_error,) = _integral(model, np.array([all_y]), np.array([all_n]))
    rest, rest_error = _integral(model, rest_y, rest_n)
    # The likelihoods of all and of the others are relative to their values at two points. The two
    # probabilities differ by a fraction of counts, which loses no digits.
    *_, centre = reference_point(all_y, all_n)
    below = (rest_n + 1) * (all_n + 1)
    change = (y * (rest_n + 1) - n * (rest_y + 0.5)) / below  # in the probability of success
    others_p, others_q, _ = reference_point(rest_y, rest_n)
    moved = rest_y * np.log1p(change / others_p) + (rest_n - rest_y) * np.log1p(-change / others_q)
    own_p, own_q, own_centre = reference_point(y, n)
    own = log_ratio(centre - own_centre, y, n, own_p, own_q)[0]
    return whole - rest + moved + own, whole_error + rest_error


def _partial_pooling(model: Model) -> tuple[np.ndarray, np.ndarray]:
    _refuse_heavy_tail(model)
    engine = ManyGroups(model, accuracy=EXACT)
    value, error = engine.left_out()
    constant = _log_reference(model)
    for unit in np.flatnonzero(~(error < _ENOUGH)):
        rest, rest_error = _evidence_without(model, int(unit))
        value[unit] = engine.nodes.total - rest - constant[unit]
        error[unit] = engine.error + rest_error
    return value, error


def _evidence_without(model: Model, unit: int) -> tuple[float, float]:
    """Log marginal likelihood of all districts but one of a kind, and its error."""
    count = model.count.copy()
    count[unit] -= 1
    kept = count > 0
    if not kept.any():
        return 0.0, 0.0
    rest = replace(
        model,
        successes=model.successes[kept],
        trials=model.trials[kept],
        count=count[kept],
        member=np.arange(kept.sum()),
    )
    if kept.sum() <= _FEW:
        found = VaryingIntercepts(rest)
        return found.log_marginal_likelihood, found.error
    engine = ManyGroups(rest, accuracy=EXACT)
    return engine.nodes.total, engine.error
