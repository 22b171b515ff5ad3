"""The same posterior for one spread after the other: from one common estimate to strangers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from fieldguide.priors import ALPHA_PRIOR, Prior
from fieldguide.reference._districts_integral import integrate_effect
from fieldguide.reference._protocol import ExactPosteriorError
from fieldguide.reference.districts import _check

_NODES = 65  # of alpha_bar, given sigma; even, on a bell
_REACH = 7.5  # sds to either end of them
_END = 1e-7  # probability that may lie on a last node
_STEP = 0.5  # of the inner integrals


def given_spread(
    successes: ArrayLike,
    trials: ArrayLike,
    sigma: ArrayLike,
    *,
    alpha_prior: Prior = ALPHA_PRIOR,
    district: Sequence | None = None,
) -> xr.Dataset:
    r"""Posterior of the districts were the spread between them known, for each of many spreads.

    The mean of the districts is integrated out on even nodes, each effect by quadrature given both.
    Weighted by ``exp(log_likelihood)``, sigma's prior and the distance of the spreads, the pieces make
    up the posterior of `exact_posterior`.

    Parameters
    ----------
    successes, trials : array_like of int, shape (J,)
        Counts per district.
    sigma : array_like, shape (S,)
        Spreads, in logits, all positive.
    alpha_prior : frozen SciPy distribution
        Prior on the mean of the districts, a normal.
    district : sequence, shape (J,), optional
        Labels of the districts; 1, ..., J if not given.

    Returns
    -------
    xarray.Dataset
        ``mean`` and ``sd`` of the effects (sigma, district; logits), ``mean_p`` of their rates,
        ``log_likelihood`` of sigma (sigma; up to a constant), and the nodes ``alpha_bar`` (sigma, node;
        logits) with their probabilities ``weight``, which sum to 1 for each sigma.

    Raises
    ------
    ValueError
        If a spread is not positive and finite, or the counts are not counts.
    ExactPosteriorError
        If the nodes do not hold the mean of the districts.

    Examples
    --------
    >>> known = given_spread([30, 7, 2], [117, 20, 2], [0.01, 0.5, 3])
    >>> known["mean"].sel(district=3).round(1).values.tolist()
    [-0.9, -0.4, 2.8]
    """
    model, labels, _ = _check(successes, trials, alpha_prior, scipy.stats.expon(), district, (0.5,))
    spread = np.atleast_1d(np.asarray(sigma, dtype=float))
    if spread.ndim != 1 or not (np.isfinite(spread) & (spread > 0)).all():
        raise ValueError("sigma must be one or more positive, finite spreads, in logits.")
    y, n, count = model.successes, model.trials, model.count
    found = [_given(s, y, n, count, model.prior_mean, model.prior_sd) for s in spread]
    nodes, weight, log_likelihood, *effects = (np.array(v) for v in zip(*found, strict=True))
    data = {
        name: (("sigma", "district"), values[:, model.member])
        for name, values in zip(("mean", "sd", "mean_p"), effects, strict=True)
    }
    return xr.Dataset(
        {
            **data,
            "log_likelihood": ("sigma", log_likelihood),
            "alpha_bar": (("sigma", "node"), nodes),
            "weight": (("sigma", "node"), weight),
        },
        coords={"sigma": spread, "district": labels},
    )


def _given(sigma, y, n, count, prior_mean, prior_sd):
    """Nodes of alpha_bar, their weights, the log likelihood of sigma, and moments of each effect."""

    def density(nodes):
        inner = integrate_effect(nodes[:, None], sigma, y, n, _STEP)
        return inner, inner.log_integral @ count - 0.5 * ((nodes - prior_mean) / prior_sd) ** 2

    middle, width = prior_mean, prior_sd
    for _ in range(8):  # towards the bell, which may be a hundred times as narrow as its prior
        nodes = middle + width * np.linspace(-_REACH, _REACH, _NODES)
        weight = density(nodes)[1]
        weight = np.exp(weight - weight.max())
        weight /= weight.sum()
        before, middle = width, float(weight @ nodes)
        width = max(float(np.sqrt(weight @ (nodes - middle) ** 2)), (nodes[1] - nodes[0]) / 3)
        if abs(width / before - 1) < 0.05:
            break
    nodes = middle + width * np.linspace(-_REACH, _REACH, _NODES)
    inner, log_density = density(nodes)
    total = logsumexp(log_density)
    weight = np.exp(log_density - total)
    if max(weight[0], weight[-1]) > _END:
        raise ExactPosteriorError(
            f"Given a spread of {sigma:g} the nodes do not reach the tails of the districts' mean; "
            "use a narrower prior for it."
        )
    effect = nodes[:, None] + inner.shift
    mean = weight @ effect
    sd = np.sqrt(weight @ (inner.variance + (effect - mean) ** 2))
    return nodes, weight, total + np.log(nodes[1] - nodes[0]), mean, sd, weight @ inner.p
