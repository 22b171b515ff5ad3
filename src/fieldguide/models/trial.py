r"""The multi-site trial: its PyMC models, and what is to be estimated from them.

Participants of sites :math:`j` are split into two arms, and the number of successes in each is

.. math::

   y_{jc} \sim \mathrm{Binomial}(n_{jc}, \mathrm{logit}^{-1} \theta_{j}), \qquad
   y_{jt} \sim \mathrm{Binomial}(n_{jt}, \mathrm{logit}^{-1} (\theta_{j} + \delta_{j})),

with :math:`(\theta_j, \delta_j)` bivariate normal over the sites. In brms this is
``outcome ~ intervention + (1 + intervention | site)``. Where further categories of participants, or
other covariates, shift the log odds of both arms, `adjusted_trial_model` has a coefficient for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from fieldguide.data import TrialError, arm_probabilities, check_groups, check_trial
from fieldguide.data.trials import GROUP_COLUMNS, arm_sizes, covariate_matrix
from fieldguide.models.graph import as_pymc_prior, declare
from fieldguide.priors import Prior, TrialPriors, prior_name, prior_parameters
from fieldguide.problem import Problem, digest
from fieldguide.reference.trial import trial_priors

PARAMETERIZATIONS = ("centered", "non-centered")
ESTIMANDS = ("coefficient", "site_average", "marginal_log_odds_ratio", "risk_difference")
"""What a trial may be about; `estimate` says what each is."""

COVARIATE_PRIOR = scipy.stats.norm(0, 1)
"""Prior of a covariate's coefficient in logits, the same as the question's on the effect (class b)."""


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
    priors = priors or TrialPriors()
    data = model_data(trial, priors)
    with pm.Model(coords={"site": [str(site) for site in trial.index]}) as model:
        if mutable:
            dims = {name: "site" if np.ndim(value) else None for name, value in data.items()}
            data = {name: pm.Data(name, value, dims=dims[name]) for name, value in data.items()}
        scale = data["sd_scale"] if mutable else None
        share = data["treated_share"]
        theta, delta = _site_effects(priors, share, parameterization, scale=scale, correlated=correlated)
        for arm, log_odds in (("control", theta), ("treated", theta + delta)):
            pm.Binomial(
                arm, data[f"n_{arm}"], logit_p=log_odds, observed=data[f"{arm}_data"], dims="site"
            )
    return model


def _site_effects(
    priors: TrialPriors,
    treated_share: Any,
    parameterization: str,
    *,
    scale: Any = None,
    correlated: bool = True,
) -> tuple[Any, Any]:
    """Add hyperparameters and sites to the model in whose context it is called.

    Returns the log odds at control and the effect, each by site. `scale` replaces that of the prior on
    the sds.
    """
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(
            f"Unknown parameterization {parameterization!r}; use one of {', '.join(PARAMETERIZATIONS)}."
        )
    intercept = as_pymc_prior("intercept", priors.intercept)
    effect = as_pymc_prior("effect", priors.effect)
    sd_intercept = as_pymc_prior("sd_intercept", priors.sd, scale=scale)
    sd_effect = as_pymc_prior("sd_effect", priors.sd, scale=scale)
    corr = 0.0
    if correlated:
        half = pm.Beta("corr_half", priors.lkj_eta, priors.lkj_eta)
        corr = pm.Deterministic("corr", 2 * half - 1)
    rest = pm.math.sqrt(1 - corr**2)
    at_control = intercept - treated_share * effect
    if parameterization == "centered":
        theta = pm.Normal("site_intercept", at_control, sd_intercept, dims="site")
        z = (theta - at_control) / sd_intercept
        given_theta = effect + sd_effect * corr * z
        return theta, pm.Normal("site_effect", given_theta, sd_effect * rest, dims="site")
    z1 = pm.Normal("z_intercept", dims="site")
    z2 = pm.Normal("z_effect", dims="site")
    theta = pm.Deterministic("site_intercept", at_control + sd_intercept * z1, dims="site")
    delta = effect + sd_effect * (corr * z1 + rest * z2)
    return theta, pm.Deterministic("site_effect", delta, dims="site")


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


def adjusted_trial_model(
    groups: pd.DataFrame,
    *,
    parameterization: str = "non-centered",
    priors: TrialPriors | None = None,
    covariate_prior: Prior = COVARIATE_PRIOR,
    mutable: bool = False,
) -> pm.Model:
    r"""Build the trial's model with covariates: further categories of participants, or numbers.

    A group :math:`i` of site :math:`j` and arm :math:`a` (0 or 1) has log odds of success
    :math:`\theta_j + a\,\delta_j + (x_i - \bar x)^\top \gamma`. Categories are treatment coded: each
    level but the first has a coefficient, the same at every site. All covariates are centred at their
    mean over the participants (`fieldguide.data.trials.covariate_matrix`), so that ``intercept`` keeps
    its meaning. In brms, with one row per participant, this is
    ``outcome ~ intervention + stratum + (1 + intervention | site)``, with ``covariate_prior`` as the
    prior of the stratum's coefficients.

    Parameters
    ----------
    groups : pandas.DataFrame
        As `fieldguide.data.check_groups` wants them, with at least one covariate.
    parameterization : {"centered", "non-centered"}
        Coordinates of the sampler. The posterior is the same.
    priors : TrialPriors, optional
        The question's by default.
    covariate_prior : scipy.stats frozen distribution
        Of each coefficient, in logits.
    mutable : bool
        Keep counts, covariates and scale of the sd prior as ``pm.Data``, so that one compiled model
        serves every trial with the same groups.

    Returns
    -------
    pymc.Model
        With the variables of `trial_model`, ``covariate_effect`` (dimension ``covariate``), and the
        observed ``successes``.

    Raises
    ------
    TrialError
        If the groups make no sense or have no covariate.
    ValueError
        If there is no such parameterization.
    """
    priors = priors or TrialPriors()
    groups = check_groups(groups)
    data: dict[str, Any] = adjusted_model_data(groups, priors)
    names = list(covariate_matrix(groups).columns)
    if not names:
        raise TrialError("The groups have no covariate; use trial_model for counts by site and arm.")
    labels = list(dict.fromkeys(groups["site"]))
    site = pd.Categorical(groups["site"], categories=labels).codes.astype(int)
    arm = groups["intervention"].to_numpy()
    family, _, loc, spread = prior_parameters(covariate_prior)
    if family != "norm":
        raise TrialError(f"covariate_prior must be normal, scipy.stats.norm(...), not {family}.")
    with pm.Model(coords={"site": labels, "covariate": names, "group": groups.index}) as model:
        if mutable:
            dims = {"covariates": ("group", "covariate"), "treated_share": None, "sd_scale": None}
            data = {
                name: pm.Data(name, value, dims=dims.get(name, "group")) for name, value in data.items()
            }
        scale = data["sd_scale"] if mutable else None
        theta, delta = _site_effects(priors, data["treated_share"], parameterization, scale=scale)
        gamma = pm.Normal("covariate_effect", loc, spread, dims="covariate")
        log_odds = theta[site] + arm * delta[site] + pm.math.dot(data["covariates"], gamma)
        pm.Binomial(
            "successes", data["trials"], logit_p=log_odds, observed=data["observed"], dims="group"
        )
    if not mutable:  # whose data may change
        declare(model, adjusted_problem(groups, priors, covariate_prior), parameterization)
    return model


def adjusted_model_data(groups: pd.DataFrame, priors: TrialPriors | None = None) -> dict:
    """Return what a mutable `adjusted_trial_model` needs to be told about a trial.

    Parameters
    ----------
    groups : pandas.DataFrame
        As `fieldguide.data.check_groups` wants them.
    priors : TrialPriors, optional
        Only the scale of ``sd`` is used.

    Returns
    -------
    dict
        The values of the model's ``pm.Data``.
    """
    groups = check_groups(groups)
    trials = groups["trials"].to_numpy()
    return {
        "observed": groups["successes"].to_numpy(),
        "trials": trials,
        "covariates": covariate_matrix(groups).to_numpy(),
        "treated_share": float(np.average(groups["intervention"], weights=trials)),
        "sd_scale": float(prior_parameters((priors or TrialPriors()).sd)[3]),
    }


def adjusted_problem(
    groups: pd.DataFrame, priors: TrialPriors | None = None, covariate_prior: Prior = COVARIATE_PRIOR
) -> Problem:
    """Return the problem that a posterior of an `adjusted_trial_model` belongs to.

    Parameters
    ----------
    groups, priors, covariate_prior
        As for `adjusted_trial_model`.

    Returns
    -------
    fieldguide.problem.Problem
    """
    groups = check_groups(groups)
    names = trial_priors(priors or TrialPriors())
    names |= {
        f"covariate_effect[{name}]": prior_name(covariate_prior) for name in covariate_matrix(groups)
    }
    order = [*GROUP_COLUMNS, *(name for name in groups if name not in GROUP_COLUMNS)]
    rows = [
        [value if isinstance(value, str) else float(value) for value in row]
        for row in groups[order].astype(object).itertuples(index=False)
    ]
    return Problem.of("varying intercept and effect, with covariates", names, digest(rows))


# ---------------------------------------------------------------------------------------------
# Estimands


def _check_estimands(names: Sequence[str] | None) -> Sequence[str]:
    names = ESTIMANDS if names is None else [names] if isinstance(names, str) else names
    for name in names:
        if name not in ESTIMANDS:
            raise TrialError(f"Unknown estimand {name!r}; use one of {', '.join(ESTIMANDS)}.")
    return names


def estimate(
    draws: xr.Dataset, weights: ArrayLike | pd.DataFrame, names: Sequence[str] | None = None
) -> xr.Dataset:
    r"""Turn posterior draws of a trial's model into draws of what the trial is about.

    - ``coefficient``: the population coefficient :math:`\beta`, the mean over a *population* of
      sites, of which these are a sample, of their log odds ratios.
    - ``site_average``: the mean of the log odds ratios of *these* sites, each counted once.
    - ``marginal_log_odds_ratio``: the log odds ratio of the two arms' average probabilities.
    - ``risk_difference``: the average effect on the probability scale.

    The last two are *standardised* over the trial's participants: the probabilities of each site (and
    of each category within it) are averaged with `weights` (Gelman and Hill 2007, section 21.4, call
    the last an average predictive comparison).

    Parameters
    ----------
    draws : xarray.Dataset or DataTree node
        With ``effect``, and ``site_intercept`` and ``site_effect`` (dimension ``site``); of a model
        with covariates ``covariate_effect`` too.
    weights : array_like, shape (site,), or DataFrame
        Participants per site; scaled to sum to one. For a model with covariates the groups that were
        fitted.
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
    average = delta.mean("site")
    if isinstance(weights, pd.DataFrame):
        groups = check_groups(weights)
        x = xr.DataArray(covariate_matrix(groups).to_numpy(), dims=("group", "covariate"))
        gamma = draws["covariate_effect"].drop_vars("covariate", errors="ignore")
        labels = list(dict.fromkeys(groups["site"]))
        site = xr.DataArray(pd.Categorical(groups["site"], categories=labels).codes, dims="group")
        theta, delta = theta.isel(site=site) + xr.dot(gamma, x, dim="covariate"), delta.isel(site=site)
        weights, over = groups["trials"].to_numpy(dtype=float), "group"
    else:
        weights, over = np.asarray(weights, dtype=float), "site"
    if weights.shape != (theta.sizes[over],) or not (weights > 0).all():
        raise TrialError(f"weights needs a positive number for each of {theta.sizes[over]} sites.")
    weights = xr.DataArray(weights / weights.sum(), dims=over)
    control = (expit(theta) * weights).sum(over)
    treated = (expit(theta + delta) * weights).sum(over)
    values = {
        "coefficient": draws["effect"],
        "site_average": average,
        "marginal_log_odds_ratio": logit(treated) - logit(control),
        "risk_difference": treated - control,
    }
    return xr.Dataset({name: values[name] for name in names})


def true_estimands(
    sites: pd.DataFrame,
    *,
    scale: str = "probability",
    out_of_range: str = "raise",
    coefficient: float = np.nan,
) -> dict[str, float]:
    """Return the true value of each estimand in a trial that is simulated from `sites`.

    Parameters
    ----------
    sites : pandas.DataFrame
        ``n`` (or ``n_control`` and ``n_treated``), ``baseline`` and ``effect`` by site, as for
        `simulate_trial`. A site may have several rows, one for each category of participants.
    scale, out_of_range : str
        See `arm_probabilities`.
    coefficient : float, optional
        The population coefficient, where the sites were drawn from a population. Sites that are given
        are no sample of one, and it has no true value: NaN.

    Returns
    -------
    dict
        One number for each of `ESTIMANDS`; ``site_average`` is infinite if a probability is 0 or 1.
    """
    p: Any = arm_probabilities(sites, scale=scale, out_of_range=out_of_range)
    size = sites["n"] if "n" in sites.columns else arm_sizes(sites, empty=True).sum(axis=1)
    weights = (size / size.sum()).to_numpy(dtype=float)
    average: Mapping[str, float] = {arm: float((p[arm] * weights).sum()) for arm in p}
    log_odds_ratio = (logit(p["treated"]) - logit(p["control"])).to_numpy(dtype=float)
    by_site = pd.DataFrame({"weight": weights, "sum": weights * log_odds_ratio})
    by_site = by_site.groupby(np.asarray(sites.index.get_level_values(0)), sort=False).sum()
    return {
        "coefficient": float(coefficient),
        "site_average": float((by_site["sum"] / by_site["weight"]).mean()),
        "marginal_log_odds_ratio": float(logit(average["treated"]) - logit(average["control"])),
        "risk_difference": average["treated"] - average["control"],
    }
