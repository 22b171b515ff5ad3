r"""PyMC models that more than one chapter uses: one small model in several parameterizations.

All of them describe women (trials) in districts :math:`j` of whom :math:`y_j` use contraception:

.. math::

   y_j \sim \mathrm{Binomial}(n_j, \mathrm{logit}^{-1} \alpha_j), \quad
   \alpha_j \sim \mathrm{Normal}(\bar\alpha, \sigma), \quad
   \bar\alpha \sim \mathrm{Normal}(0, 1.5), \quad \sigma \sim \text{any prior on } \sigma > 0.

They differ in the coordinates that the sampler moves in and in nothing else: every one exposes
``alpha_bar``, ``sigma`` and ``alpha`` (dimension ``district``) and has the same posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike
from pytensor.gradient import disconnected_grad
from scipy.special import expit, log_expit, logit

from fieldguide.models.graph import as_pymc_prior, declare
from fieldguide.priors import ALPHA_PRIOR, SIGMA_PRIOR, Prior, prior_name, prior_parameters
from fieldguide.problem import Problem, count_digest

if TYPE_CHECKING:
    import bambi as bmb

PARAMETERIZATIONS = ("centered", "deviation", "partial", "non-centered")
"""The forms of the varying-intercept model that sample every district's effect."""


def _checked_counts(successes: ArrayLike, trials: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, n = np.asarray(successes), np.asarray(trials)
    if y.ndim != 1 or y.shape != n.shape or y.size == 0:
        raise ValueError(
            f"successes and trials need one entry per district; got shapes {y.shape} and {n.shape}."
        )
    if not (np.isfinite(y).all() and np.isfinite(n).all()):
        raise ValueError("successes and trials must be counts; a value is missing or infinite.")
    if (y != np.floor(y)).any() or (n != np.floor(n)).any() or (y < 0).any() or (y > n).any():
        raise ValueError("Every district needs whole counts with 0 <= successes <= trials.")
    return y.astype("int64"), n.astype("int64")


def _coords(district: Sequence | None, count: int) -> dict:
    labels = list(range(1, count + 1)) if district is None else list(district)
    if len(labels) != count:
        raise ValueError(f"district has {len(labels)} labels for {count} districts.")
    return {"district": labels}


def centering_weights(successes: ArrayLike, trials: ArrayLike, sigma: float = 0.25) -> np.ndarray:
    r"""Weights between non-centered (0) and centered (1), from how much each district knows.

    The share of the precision of :math:`\alpha_j` that comes from the district's own data,

    .. math:: w_j = \frac{I_j}{I_j + 1 / \sigma^2}, \qquad I_j = n_j \hat p (1 - \hat p),

    with :math:`\hat p` the pooled proportion. For a Gaussian likelihood this is the weight at
    which :math:`\bar\alpha` and the district's coordinate are independent (Papaspiliopoulos,
    Roberts and Sköld 2007, Statistical Science 22, section 4).

    Parameters
    ----------
    successes, trials : array_like of int, shape (district,)
        Counts.
    sigma : float
        Spread between the districts, on the logit scale, at which the weights should be right. The
        default is small on purpose: the funnel's neck is where a sampler needs them.

    Returns
    -------
    ndarray, shape (district,)
        Weights in [0, 1).
    """
    y, n = _checked_counts(successes, trials)
    p = (y.sum() + 0.5) / (n.sum() + 1)
    information = n * p * (1 - p)
    return information / (information + 1 / sigma**2)


def varying_intercept_model(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    parameterization: str = "centered",
    sigma_prior: Prior = SIGMA_PRIOR,
    alpha_prior: Prior = ALPHA_PRIOR,
    district: Sequence | None = None,
    weights: ArrayLike | None = None,
    mutable: bool = False,
) -> pm.Model:
    r"""Varying-intercept logistic regression on counts, in one of four parameterizations.

    With :math:`\bar\alpha` and :math:`\sigma` from their priors, the effects are

    ================ =================================================================
    centered         :math:`\alpha_j \sim N(\bar\alpha, \sigma)`
    deviation        :math:`u_j \sim N(0, \sigma)`, :math:`\alpha_j = \bar\alpha + u_j`
    non-centered     :math:`z_j \sim N(0, 1)`, :math:`\alpha_j = \bar\alpha + \sigma z_j`
    partial          :math:`x_j \sim N(w_j \bar\alpha, \sigma^{w_j})`,
                     :math:`\alpha_j = \bar\alpha + \sigma^{1 - w_j} (x_j - w_j \bar\alpha)`
    ================ =================================================================

    The partial form is the non-centered one at :math:`w = 0` and the centered one at
    :math:`w = 1` (in location: Papaspiliopoulos, Roberts and Sköld 2007, Statistical Science 22;
    in location and scale: Gorinova, Moore and Hoffman 2020, ICML, section 4.1). The deviation
    form is centered in scale but not in location; it is what Bambi builds for
    ``noncentered=False``.

    Parameters
    ----------
    successes, trials : array_like of int, shape (district,)
        Women who use contraception, and women asked.
    parameterization : {"centered", "deviation", "partial", "non-centered"}
        Coordinates of the sampler. The posterior is the same.
    sigma_prior, alpha_prior : scipy.stats frozen distributions
        Priors of ``sigma`` and ``alpha_bar``, in logits.
    district : sequence, optional
        Labels of the districts; 1, 2, ... by default.
    weights : array_like, shape (district,), optional
        Centering weights of the partial form, in [0, 1]; `centering_weights` by default.
    mutable : bool
        Keep the counts and the scale of sigma's prior as ``pm.Data`` (``successes_data``,
        ``trials``, ``sigma_scale``), so that one compiled model serves many data sets and prior
        scales.

    Returns
    -------
    pymc.Model
        With variables ``alpha_bar``, ``sigma``, ``alpha`` (district) and the observed
        ``successes`` (district).

    Raises
    ------
    ValueError
        If the counts, weights, labels or the name of the parameterization make no sense.
    """
    y, n = _checked_counts(successes, trials)
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(
            f"Unknown parameterization {parameterization!r}; use one of {', '.join(PARAMETERIZATIONS)}."
        )
    if weights is not None and parameterization != "partial":
        raise ValueError("weights belong to the partial parameterization only; leave them out.")
    with pm.Model(coords=_coords(district, y.size)) as model:
        scale = None
        if mutable:
            scale = pm.Data("sigma_scale", float(prior_parameters(sigma_prior)[3]))
            y = pm.Data("successes_data", y, dims="district")
            n = pm.Data("trials", n, dims="district")
        alpha_bar = as_pymc_prior("alpha_bar", alpha_prior)
        sigma = as_pymc_prior("sigma", sigma_prior, scale=scale)
        if parameterization == "centered":
            alpha = pm.Normal("alpha", alpha_bar, sigma, dims="district")
        elif parameterization == "deviation":
            u = pm.Normal("u", 0, sigma, dims="district")
            alpha = pm.Deterministic("alpha", alpha_bar + u, dims="district")
        elif parameterization == "non-centered":
            z = pm.Normal("z", 0, 1, dims="district")
            alpha = pm.Deterministic("alpha", alpha_bar + z * sigma, dims="district")
        else:
            w = centering_weights(successes, trials) if weights is None else np.asarray(weights)
            w = np.broadcast_to(w.astype(float), np.shape(successes))
            if not ((w >= 0) & (w <= 1)).all():
                raise ValueError("Centering weights must lie between 0 and 1.")
            x = pm.Normal("x", w * alpha_bar, sigma**w, dims="district")
            alpha = pm.Deterministic(
                "alpha", alpha_bar + sigma ** (1 - w) * (x - w * alpha_bar), dims="district"
            )
        pm.Binomial("successes", n=n, logit_p=alpha, observed=y, dims="district")
    if weights is not None:  # they cannot be read from the graph
        priors = {"alpha_bar": prior_name(alpha_prior), "sigma": prior_name(sigma_prior)}
        data = count_digest(
            _coords(district, len(cast("Sequence", successes)))["district"], successes, trials
        )
        declare(model, Problem.of("varying intercept", priors, data), parameterization)
    return model


def fixed_effects_model(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    alpha_prior: Prior = ALPHA_PRIOR,
    district: Sequence | None = None,
) -> pm.Model:
    """Logistic regression on counts in which districts share nothing.

    Parameters
    ----------
    successes, trials : array_like of int, shape (district,)
        Women who use contraception, and women asked.
    alpha_prior : scipy.stats frozen normal distribution
        Prior of every district's ``alpha``, in logits.
    district : sequence, optional
        Labels of the districts; 1, 2, ... by default.

    Returns
    -------
    pymc.Model
        With variables ``alpha`` (district) and the observed ``successes`` (district).
    """
    y, n = _checked_counts(successes, trials)
    family, _, mean, sd = prior_parameters(alpha_prior)
    if family != "norm":
        raise ValueError(f"alpha_prior must be a scipy.stats.norm, not {family}.")
    with pm.Model(coords=_coords(district, y.size)) as model:
        alpha = pm.Normal("alpha", mean, sd, dims="district")
        pm.Binomial("successes", n=n, logit_p=alpha, observed=y, dims="district")
    return model


def marginal_model(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    sigma_prior: Prior = SIGMA_PRIOR,
    alpha_prior: Prior = ALPHA_PRIOR,
    nodes: int = 32,
) -> pm.Model:
    r"""The varying-intercept model with its districts integrated out: two parameters are left.

    Each district's likelihood :math:`\int \mathrm{Binomial}(y_j \mid n_j, \bar\alpha + \sigma z)
    \, N(z \mid 0, 1)\, dz` is a Gauss--Hermite sum whose nodes are moved to the integrand's mode
    and scaled by its curvature there (Liu and Pierce 1994, Biometrika 81). With 32 nodes the log
    density of the book's three districts is right to 2e-5 for sigma up to 4 and to 1e-3 at 8.

    Parameters
    ----------
    successes, trials : array_like of int, shape (district,)
        Women who use contraception, and women asked.
    sigma_prior, alpha_prior : scipy.stats frozen distributions
        Priors of ``sigma`` and ``alpha_bar``, in logits.
    nodes : int
        Number of Gauss--Hermite nodes per district.

    Returns
    -------
    pymc.Model
        With variables ``alpha_bar`` and ``sigma``; `recover_alpha` adds ``alpha`` to its draws.
    """
    y, n = _checked_counts(successes, trials)
    x, weight = np.polynomial.hermite.hermgauss(nodes)
    log_weight = np.log(weight) + x**2
    log_choose = scipy.stats.binom.logpmf(y, n, 0.5) + n * np.log(2)
    guess = logit((y + 0.5) / (n + 1))
    information = n * expit(guess) * expit(-guess)

    def log_joint(z, alpha_bar, sigma, y, n):
        alpha = alpha_bar + sigma * z
        return y * alpha - n * pt.softplus(alpha) - z**2 / 2

    with pm.Model() as model:
        alpha_bar = as_pymc_prior("alpha_bar", alpha_prior)
        sigma = as_pymc_prior("sigma", sigma_prior)
        mode = sigma * information * (guess - alpha_bar) / (1 + sigma**2 * information)
        for _ in range(6):
            p = pt.sigmoid(alpha_bar + sigma * mode)
            curvature = 1 + sigma**2 * n * p * (1 - p)
            mode = mode + pt.clip((sigma * (y - n * p) - mode) / curvature, -2, 2)
        p = pt.sigmoid(alpha_bar + sigma * mode)
        width = 1 / pt.sqrt(1 + sigma**2 * n * p * (1 - p))
        # The integral does not depend on where its nodes are, so neither does its gradient.
        mode, width = (disconnected_grad(v)[:, None] for v in (mode, width))
        z = mode + np.sqrt(2) * width * x
        terms = log_joint(z, alpha_bar, sigma, y[:, None], n[:, None]) + log_weight
        log_integral = pt.logsumexp(terms, axis=1) + pt.log(width[:, 0]) - np.log(np.pi) / 2
        pm.Potential("log_likelihood_districts", (log_integral + log_choose).sum())
    priors = {"alpha_bar": prior_name(alpha_prior), "sigma": prior_name(sigma_prior)}
    data = count_digest(range(1, y.size + 1), y, n)
    return declare(model, Problem.of("varying intercept", priors, data), "marginal")


def recover_alpha(
    draws: xr.DataTree,
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    seed: int,
    district: Sequence | None = None,
) -> xr.DataTree:
    r"""Add the districts' effects to draws of the marginal model.

    Given :math:`(\bar\alpha, \sigma)` each :math:`\alpha_j` has a one-dimensional log-concave
    density; one value per draw comes from inverting its distribution function, tabulated on 201
    points within nine standard deviations of the mode.

    Parameters
    ----------
    draws : DataTree
        With ``posterior`` variables ``alpha_bar`` and ``sigma`` (chain, draw).
    successes, trials : array_like of int, shape (district,)
        The counts that the marginal model was given.
    seed : int
        Seed of the draws made here.
    district : sequence, optional
        Labels of the districts; 1, 2, ... by default.

    Returns
    -------
    DataTree
        A copy with ``alpha`` (chain, draw, district) added to ``posterior``.
    """
    y, n = _checked_counts(successes, trials)
    rng = np.random.default_rng(seed)
    posterior = draws["posterior"].to_dataset()
    mean = posterior["alpha_bar"].transpose("chain", "draw").values[..., None]
    sd = posterior["sigma"].transpose("chain", "draw").values[..., None]
    guess = logit((y + 0.5) / (n + 1))
    information = n * expit(guess) * expit(-guess)
    z = sd * information * (guess - mean) / (1 + sd**2 * information)
    for _ in range(8):
        p = expit(mean + sd * z)
        z = z + np.clip((sd * (y - n * p) - z) / (1 + sd**2 * n * p * (1 - p)), -2, 2)
    p = expit(mean + sd * z)
    width = 1 / np.sqrt(1 + sd**2 * n * p * (1 - p))
    # Where the likelihood is flat on one side the density is as wide as the prior there.
    low = np.maximum(z - 9 * width, np.minimum(z, 0) - 9)
    high = np.where(y == n, np.maximum(z, 0) + 9, z + 9 * width)
    low = np.where(y == 0, np.minimum(z, 0) - 9, low)
    grid = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, 201)
    alpha = mean[..., None] + sd[..., None] * grid
    log_density = y[:, None] * log_expit(alpha) + (n - y)[:, None] * log_expit(-alpha) - grid**2 / 2
    density = np.exp(log_density - log_density.max(-1, keepdims=True))
    cdf = np.cumsum((density[..., 1:] + density[..., :-1]) / 2, axis=-1)
    u = rng.random(z.shape) * cdf[..., -1]
    cell = (cdf < u[..., None]).sum(-1, keepdims=True)
    upper = np.take_along_axis(cdf, cell, -1)
    mass = (np.take_along_axis(density, cell, -1) + np.take_along_axis(density, cell + 1, -1)) / 2
    fraction = 1 - (upper - u[..., None]) / mass
    step = (high - low)[..., None] / 200
    drawn = np.take_along_axis(grid, cell, -1) + fraction * step
    coords = _coords(district, y.size)
    values = xr.DataArray(
        mean + sd * drawn[..., 0],
        dims=("chain", "draw", "district"),
        coords={"chain": posterior["chain"], "draw": posterior["draw"], **coords},
    )
    out = draws.copy()
    out["posterior"] = xr.DataTree(posterior.assign(alpha=values))
    return out


BAMBI_NAMES = {"alpha_bar": "1|district_mu", "sigma": "1|district_sigma", "alpha": "1|district"}
"""What Bambi calls the variables of the centered model."""


def bambi_centered(counts: pd.DataFrame, sigma_prior: bmb.Prior | None = None) -> bmb.Model:
    """Build the centered model in Bambi: the districts' prior has a mean of its own, and no intercept.

    Parameters
    ----------
    counts : pandas.DataFrame
        Indexed by ``district``, with ``users`` and ``women``.
    sigma_prior : bambi.Prior, optional
        Prior on the spread of the districts; Exponential(1) by default.

    Returns
    -------
    bambi.Model
        Built. `BAMBI_NAMES` says what its variables are called.
    """
    import bambi as bmb  # takes seconds, and few callers need it

    table = counts.reset_index().astype({"district": "category"})
    group_prior = bmb.Prior(
        "Normal",
        mu=bmb.Prior("Normal", mu=0, sigma=1.5),
        sigma=sigma_prior or bmb.Prior("Exponential", lam=1),
    )
    model = bmb.Model(
        "p(users, women) ~ 0 + (1|district)",
        table,
        family="binomial",
        priors={"1|district": group_prior},
        noncentered=False,
    )
    model.build()
    return model
