r"""The multi-site trial: its PyMC models, and what is to be estimated from them.

Participants of sites :math:`j` are split into two arms, and the number of successes in each is

.. math::

   y_{jc} \sim \mathrm{Binomial}(n_{jc}, \mathrm{logit}^{-1} \theta_{j}), \qquad
   y_{jt} \sim \mathrm{Binomial}(n_{jt}, \mathrm{logit}^{-1} (\theta_{j} + \delta_{j})),

with :math:`(\theta_j, \delta_j)` bivariate normal over the sites. In brms this is
``outcome ~ intervention + (1 + intervention | site)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from fieldguide.data import TrialError, arm_probabilities, check_trial
from fieldguide.models.graph import as_pymc_prior
from fieldguide.priors import TrialPriors, prior_parameters

PARAMETERIZATIONS = ("centered", "non-centered")
ESTIMANDS = ("coefficient", "marginal_log_odds_ratio", "risk_difference")


# ---------------------------------------------------------------------------------------------
# Models


def trial_model(
    trial: pd.DataFrame,
    *,
    parameterization: str = "non-centered",
    correlated: bool = True,
    priors: TrialPriors | None = None,
    mutable: bool = False,
) -> pm.Model:
    r"""Varying-intercept, varying-slope logistic regression on the counts of a multi-site trial.

    With :math:`\rho` the correlation of a site's intercept and effect, the non-centered form is

    .. math::

       \theta_j = \mu_\theta + \sigma_\theta z_{j1}, \qquad
       \delta_j = \beta + \sigma_\delta (\rho z_{j1} + \sqrt{1 - \rho^2}\, z_{j2}),

    and the centered form draws :math:`\theta_j` and :math:`\delta_j \mid \theta_j` from the same
    normal distributions. For two terms an LKJ(:math:`\eta`) prior says that
    :math:`(1 + \rho) / 2 \sim \mathrm{Beta}(\eta, \eta)` (Lewandowski, Kurowicka and Joe 2009,
    Journal of Multivariate Analysis 100), and written out like this a gradient costs a third of
    what ``pm.LKJCholeskyCov`` needs. As in brms, ``intercept`` belongs to centred predictors:
    :math:`\mu_\theta` is ``intercept`` minus ``effect`` times the share of treated participants.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them.
    parameterization : {"centered", "non-centered"}
        Coordinates of the sampler. The posterior is the same.
    correlated : bool
        Whether a site's intercept and effect may be correlated; if not, ``corr`` is left out.
    priors : TrialPriors, optional
        The question's by default.
    mutable : bool
        Keep counts and scale of the sd prior as ``pm.Data`` (``control_data``, ``treated_data``,
        ``n_control``, ``n_treated``, ``treated_share``, ``sd_scale``), so that one compiled model
        serves every trial with as many sites.

    Returns
    -------
    pymc.Model
        With variables ``intercept``, ``effect``, ``sd_intercept``, ``sd_effect``, ``corr``,
        ``site_intercept`` and ``site_effect`` (dimension ``site``), and the observed ``control``
        and ``treated``.

    Raises
    ------
    TrialError
        If the counts make no sense.
    ValueError
        If there is no such parameterization.
    """
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(
            f"Unknown parameterization {parameterization!r}; use one of {', '.join(PARAMETERIZATIONS)}."
        )
    priors = priors or TrialPriors()
    data = model_data(trial, priors)
    with pm.Model(coords={"site": [str(site) for site in trial.index]}) as model:
        if mutable:
            dims = {name: "site" if np.ndim(value) else None for name, value in data.items()}
            data = {name: pm.Data(name, value, dims=dims[name]) for name, value in data.items()}
        intercept = as_pymc_prior("intercept", priors.intercept)
        effect = as_pymc_prior("effect", priors.effect)
        scale = data["sd_scale"] if mutable else None
        sd_intercept = as_pymc_prior("sd_intercept", priors.sd, scale=scale)
        sd_effect = as_pymc_prior("sd_effect", priors.sd, scale=scale)
        corr = 0.0
        if correlated:
            half = pm.Beta("corr_half", priors.lkj_eta, priors.lkj_eta)
            corr = pm.Deterministic("corr", 2 * half - 1)
        rest = pm.math.sqrt(1 - corr**2)
        at_control = intercept - data["treated_share"] * effect
        if parameterization == "centered":
            theta = pm.Normal("site_intercept", at_control, sd_intercept, dims="site")
            z = (theta - at_control) / sd_intercept
            given_theta = effect + sd_effect * corr * z
            delta = pm.Normal("site_effect", given_theta, sd_effect * rest, dims="site")
        else:
            z1 = pm.Normal("z_intercept", dims="site")
            z2 = pm.Normal("z_effect", dims="site")
            theta = pm.Deterministic("site_intercept", at_control + sd_intercept * z1, dims="site")
            delta = effect + sd_effect * (corr * z1 + rest * z2)
            delta = pm.Deterministic("site_effect", delta, dims="site")
        for arm, log_odds in (("control", theta), ("treated", theta + delta)):
            pm.Binomial(
                arm, data[f"n_{arm}"], logit_p=log_odds, observed=data[f"{arm}_data"], dims="site"
            )
    return model


def model_data(trial: pd.DataFrame, priors: TrialPriors | None = None) -> dict:
    """Return what a mutable `trial_model` needs to be told about a trial.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them.
    priors : TrialPriors, optional
        Only the scale of ``sd`` is used.

    Returns
    -------
    dict
        The values of the model's ``pm.Data``, for ``compiled.with_data(**model_data(trial))``.
    """
    counts = check_trial(trial)
    n = counts["n_control"] + counts["n_treated"]
    sd = (priors or TrialPriors()).sd
    return {
        "control_data": counts["control"].to_numpy(),
        "treated_data": counts["treated"].to_numpy(),
        "n_control": counts["n_control"].to_numpy(),
        "n_treated": counts["n_treated"].to_numpy(),
        "treated_share": float(counts["n_treated"].sum() / n.sum()),
        "sd_scale": float(prior_parameters(sd)[3]),
    }


# ---------------------------------------------------------------------------------------------
# Estimands


def _check_estimands(names: Sequence[str] | None) -> Sequence[str]:
    names = ESTIMANDS if names is None else [names] if isinstance(names, str) else names
    for name in names:
        if name not in ESTIMANDS:
            raise TrialError(f"Unknown estimand {name!r}; use one of {', '.join(ESTIMANDS)}.")
    return names


def estimate(draws: xr.Dataset, weights: ArrayLike, names: Sequence[str] | None = None) -> xr.Dataset:
    r"""Turn posterior draws of a trial's model into draws of what the trial is about.

    - ``coefficient``: the population coefficient :math:`\beta`, the mean over a population of
      sites of their log odds ratios.
    - ``marginal_log_odds_ratio``: the log odds ratio of the two arms' average probabilities.
    - ``risk_difference``: the average effect on the probability scale.

    The last two are *standardised* over the trial's sites: each site's probabilities are averaged
    with `weights` (Gelman and Hill 2007, section 21.4, call the last an average predictive
    comparison).

    Parameters
    ----------
    draws : xarray.Dataset or DataTree node
        With ``effect``, and ``site_intercept`` and ``site_effect`` (dimension ``site``).
    weights : array_like, shape (site,)
        Participants per site; scaled to sum to one.
    names : sequence of str, optional
        Some of `ESTIMANDS`; all by default.

    Returns
    -------
    xarray.Dataset
        One variable per estimand, with the sample dimensions of `draws`.

    Raises
    ------
    TrialError
        If an estimand is unknown or the weights do not fit the sites.
    """
    names = _check_estimands(names)
    theta, delta = draws["site_intercept"], draws["site_effect"]
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (theta.sizes["site"],) or not (weights > 0).all():
        raise TrialError(f"weights needs a positive number for each of {theta.sizes['site']} sites.")
    weights = xr.DataArray(weights / weights.sum(), dims="site")
    control = (expit(theta) * weights).sum("site")
    treated = (expit(theta + delta) * weights).sum("site")
    values = {
        "coefficient": draws["effect"],
        "marginal_log_odds_ratio": logit(treated) - logit(control),
        "risk_difference": treated - control,
    }
    return xr.Dataset({name: values[name] for name in names})


def true_estimands(
    sites: pd.DataFrame,
    *,
    scale: str = "probability",
    out_of_range: str = "raise",
    coefficient: float | None = None,
) -> dict[str, float]:
    """Return the true value of each estimand in a trial that is simulated from `sites`.

    Parameters
    ----------
    sites : pandas.DataFrame
        ``n``, ``baseline`` and ``effect`` by site, as for `simulate_trial`.
    scale, out_of_range : str
        See `arm_probabilities`.
    coefficient : float, optional
        The population coefficient, where the sites were drawn from a population. By default the
        unweighted mean of the sites' log odds ratios, infinite if a probability is 0 or 1.

    Returns
    -------
    dict
        One number for each of `ESTIMANDS`.
    """
    p: Any = arm_probabilities(sites, scale=scale, out_of_range=out_of_range)
    weights = sites["n"] / sites["n"].sum()
    average: Mapping[str, float] = {arm: float((p[arm] * weights).sum()) for arm in p}
    if coefficient is None:
        coefficient = float((logit(p["treated"]) - logit(p["control"])).mean())
    return {
        "coefficient": coefficient,
        "marginal_log_odds_ratio": float(logit(average["treated"]) - logit(average["control"])),
        "risk_difference": average["treated"] - average["control"],
    }
