r"""The multi-site trial: simulated data, its PyMC models, and what is to be estimated from them.

Participants of sites :math:`j` are split into two arms, and the number of successes in each is

.. math::

   y_{jc} \sim \mathrm{Binomial}(n_{jc}, \mathrm{logit}^{-1} \theta_{j}), \qquad
   y_{jt} \sim \mathrm{Binomial}(n_{jt}, \mathrm{logit}^{-1} (\theta_{j} + \delta_{j})),

with :math:`(\theta_j, \delta_j)` bivariate normal over the sites. In brms this is
``outcome ~ intervention + (1 + intervention | site)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr
from scipy.special import expit, logit

from fieldguide.models import as_pymc_prior

COUNT_COLUMNS = ["n_control", "n_treated", "control", "treated"]
PARAMETERIZATIONS = ("centered", "non-centered")
ESTIMANDS = ("coefficient", "marginal_log_odds_ratio", "risk_difference")

QUESTION_SITES = pd.DataFrame(
    {
        "n": [30, 300, 50, 20, 100],
        "baseline": [0.1, 0.15, 0.01, 0.05, 0.1],
        "effect": [0.0, 0.1, 0.2, -0.1, 0.1],
    },
    index=pd.Index(list("ABCDE"), name="site"),
)
"""The five sites as the question states them; site D's treated arm has probability -0.05."""

VALID_SITES = QUESTION_SITES.assign(baseline=[0.1, 0.15, 0.01, 0.15, 0.1])
"""The same sites and effects, with site D's baseline raised so that every probability exists."""


class TrialError(ValueError):
    """A trial cannot be simulated or analysed as asked; the message says which site, and why."""


@dataclass(frozen=True)
class TrialPriors:
    """Priors of the trial's model, in logits, as the question's brms call has them.

    Attributes
    ----------
    intercept : scipy.stats.norm
        Log odds at *centred* predictors, half-way between the arms: what brms calls
        ``class = "Intercept"``.
    effect : scipy.stats.norm
        Population mean of the sites' log odds ratios (``class = "b"``).
    sd : scipy.stats frozen distribution on (0, inf)
        Spread between sites, of the intercepts and of the effects alike (``class = "sd"``; brms
        cuts a normal prior at zero, which makes it a half-normal).
    lkj_eta : float
        Shape of the LKJ prior of their correlation (``class = "L"``).
    """

    intercept: object = scipy.stats.norm(-1, 1)
    effect: object = scipy.stats.norm(0, 1)
    sd: object = scipy.stats.halfnorm(scale=0.5)
    lkj_eta: float = 4.0


# ---------------------------------------------------------------------------------------------
# Data


def question_trial() -> pd.DataFrame:
    """Return the counts that the question's own generator gives at the question's own seed.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``site``; whole numbers ``n_control``, ``n_treated``, ``control``, ``treated``.
    """
    half = QUESTION_SITES["n"] // 2
    return pd.DataFrame(
        {"n_control": half, "n_treated": half, "control": [2, 29, 0, 0, 6], "treated": [1, 46, 4, 0, 7]}
    )


def arm_probabilities(
    sites: pd.DataFrame, *, scale: str = "probability", out_of_range: str = "raise"
) -> pd.DataFrame:
    """Return each site's probability of success in both arms.

    Parameters
    ----------
    sites : pandas.DataFrame
        Indexed by site; ``baseline`` and ``effect`` on `scale`.
    scale : {"probability", "logit"}
        Whether ``baseline`` is a probability and ``effect`` a difference of probabilities, or the
        two are log odds and a log odds ratio.
    out_of_range : {"raise", "clip"}
        What to do where baseline plus effect is no probability. ``"clip"`` is what comparing a
        uniform random number with it does: below 0 becomes never, above 1 always.

    Returns
    -------
    pandas.DataFrame
        Indexed by site; ``control`` and ``treated``.

    Raises
    ------
    TrialError
        If a probability lies outside 0 to 1 (and is not to be clipped) or a column is missing.
    """
    if scale not in ("probability", "logit"):
        raise TrialError(f"scale must be 'probability' or 'logit', not {scale!r}.")
    if out_of_range not in ("raise", "clip"):
        raise TrialError(f"out_of_range must be 'raise' or 'clip', not {out_of_range!r}.")
    missing = {"baseline", "effect"} - set(sites.columns)
    if missing:
        raise TrialError(f"sites needs columns baseline and effect; missing: {sorted(missing)}.")
    values = sites[["baseline", "effect"]].to_numpy(dtype=float)
    if not np.isfinite(values).all():
        raise TrialError("Every baseline and effect must be a number; one is missing or infinite.")
    p = np.column_stack([values[:, 0], values.sum(axis=1)])
    if scale == "logit":
        p = expit(p)
    elif out_of_range == "clip":
        p = p.clip(0, 1)
    for site, row, given in zip(sites.index, p, values, strict=True):
        for arm, value in zip(["control", "treated"], row, strict=True):
            # 0.1 + 0.9 may miss 1 by rounding
            if not -1e-12 <= value <= 1 + 1e-12:
                raise TrialError(
                    f"Site {site}: baseline {given[0]:g} and effect {given[1]:g} put the {arm} "
                    f"arm at probability {value:.3g}, outside 0 to 1; change one of them, or state "
                    "both as log odds with scale='logit'."
                )
    return pd.DataFrame(p.clip(0, 1), index=sites.index, columns=["control", "treated"])


def simulate_trial(
    sites: pd.DataFrame,
    *,
    seed: int | np.random.Generator,
    scale: str = "probability",
    multiply: int = 1,
    out_of_range: str = "raise",
) -> pd.DataFrame:
    """Simulate one multi-site trial, half of each site's participants in each arm.

    Parameters
    ----------
    sites : pandas.DataFrame
        Indexed by site, such as `VALID_SITES`; ``n`` (participants, even), ``baseline`` (of the
        control arm) and ``effect``, the last two on `scale`.
    seed : int or numpy.random.Generator
        Source of randomness.
    scale, out_of_range : str
        See `arm_probabilities`.
    multiply : int
        Make every site this many times larger.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``site``; whole numbers ``n_control``, ``n_treated`` and successes ``control``,
        ``treated``: the sufficient statistics of ``n`` rows of zeros and ones.

    Raises
    ------
    TrialError
        If a probability lies outside 0 to 1, a site's size is not an even whole number of at
        least 2, or sites repeat.

    Examples
    --------
    >>> simulate_trial(VALID_SITES, seed=1)["n_control"].tolist()
    [15, 150, 25, 10, 50]
    """
    if "n" not in sites.columns:
        raise TrialError("sites needs a column n, the number of participants at each site.")
    if sites.empty or sites.index.has_duplicates:
        raise TrialError("A trial needs at least one site, and every site a label of its own.")
    if multiply < 1 or multiply != int(multiply):
        raise TrialError(f"multiply must be a whole number of at least 1, not {multiply!r}.")
    for site, n in sites["n"].items():
        if not np.isfinite(n) or n != int(n) or n % 2 or n < 2:
            raise TrialError(
                f"Site {site} has {n:g} participants; half go to each arm, so give an even whole "
                "number of at least 2."
            )
    p = arm_probabilities(sites, scale=scale, out_of_range=out_of_range)
    half = (sites["n"] * multiply // 2).astype(int)
    rng = np.random.default_rng(seed)
    counts = pd.DataFrame(
        {
            "n_control": half,
            "n_treated": half,
            "control": rng.binomial(half, p["control"]),
            "treated": rng.binomial(half, p["treated"]),
        }
    )
    return counts.rename_axis("site")


def check_trial(trial: pd.DataFrame) -> pd.DataFrame:
    """Return a trial's counts as whole numbers, or say what is wrong with them.

    Parameters
    ----------
    trial : pandas.DataFrame
        Indexed by site, with the columns ``n_control``, ``n_treated``, ``control``, ``treated``.

    Returns
    -------
    pandas.DataFrame
        Those four columns as integers.

    Raises
    ------
    TrialError
        If a column is missing, an arm is empty, or a count is not whole or out of range.
    """
    missing = [column for column in COUNT_COLUMNS if column not in trial.columns]
    if missing:
        raise TrialError(f"A trial needs the columns {', '.join(COUNT_COLUMNS)}; missing: {missing}.")
    if trial.empty:
        raise TrialError("A trial needs at least one site; this one has none.")
    counts = trial[COUNT_COLUMNS].to_numpy(dtype=float)
    if not np.isfinite(counts).all() or (counts != np.floor(counts)).any():
        raise TrialError("Participants and successes must be whole numbers; one of them is not.")
    for site, (n_control, n_treated, control, treated) in zip(trial.index, counts, strict=True):
        for arm, n, y in (("control", n_control, control), ("treated", n_treated, treated)):
            if n < 1:
                raise TrialError(f"Site {site} has nobody in its {arm} arm; leave the site out.")
            if not 0 <= y <= n:
                raise TrialError(
                    f"Site {site} has {y:g} successes among {n:g} participants of its {arm} arm; "
                    "successes must lie between 0 and the participants."
                )
    return trial[COUNT_COLUMNS].astype(int)


def as_rows(trial: pd.DataFrame) -> pd.DataFrame:
    """Return a trial with one row per site and arm, as Bambi's ``p(successes, trials)`` wants it.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `simulate_trial` returns them.

    Returns
    -------
    pandas.DataFrame
        Columns ``site``, ``intervention`` (0 or 1), ``successes``, ``trials``.
    """
    trial = check_trial(trial)
    arms = [
        pd.DataFrame(
            {
                "site": trial.index.astype(str),
                "intervention": code,
                "successes": trial[arm].to_numpy(),
                "trials": trial[f"n_{arm}"].to_numpy(),
            }
        )
        for code, arm in enumerate(["control", "treated"])
    ]
    return pd.concat(arms, ignore_index=True)


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
        Counts as `simulate_trial` returns them.
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
        If the counts or the name of the parameterization make no sense.
    """
    if parameterization not in PARAMETERIZATIONS:
        raise TrialError(
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
        Counts as `simulate_trial` returns them.
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
        "sd_scale": float(sd.dist._parse_args(*sd.args, **sd.kwds)[2]),
    }


# ---------------------------------------------------------------------------------------------
# Estimands


def _check_estimands(names: Sequence[str] | None) -> Sequence[str]:
    names = ESTIMANDS if names is None else [names] if isinstance(names, str) else names
    for name in names:
        if name not in ESTIMANDS:
            raise TrialError(f"Unknown estimand {name!r}; use one of {', '.join(ESTIMANDS)}.")
    return names


def estimate(draws: xr.Dataset, weights, names: Sequence[str] | None = None) -> xr.Dataset:
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
    p = arm_probabilities(sites, scale=scale, out_of_range=out_of_range)
    weights = sites["n"] / sites["n"].sum()
    average: Mapping[str, float] = {arm: float((p[arm] * weights).sum()) for arm in p}
    if coefficient is None:
        coefficient = float((logit(p["treated"]) - logit(p["control"])).mean())
    return {
        "coefficient": coefficient,
        "marginal_log_odds_ratio": float(logit(average["treated"]) - logit(average["control"])),
        "risk_difference": average["treated"] - average["control"],
    }
