r"""The survey's districts with a varying urban effect: counts, PyMC models, and average effects.

For a woman of district :math:`j`, with ``urban`` :math:`x` and covariates :math:`w`,

.. math::

   \mathrm{logit}\, p = a_j + b_j x + w^\top \gamma, \qquad
   (a_j, b_j) \sim \mathrm{Normal}\big((\alpha, \beta), \Sigma\big),

which lme4 and brms write ``use ~ urban + (urban | district)``. Women of one district who share all
predictors enter as one binomial count; `count_patterns` counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr
from scipy.special import expit

from fieldguide.models.graph import as_pymc_prior, declare
from fieldguide.priors import ALPHA_PRIOR, SIGMA_PRIOR, Prior, prior_name, prior_parameters
from fieldguide.problem import Problem, digest

FORMS = {
    "centered": (True, True),
    "non-centered": (False, False),
    "centered intercepts": (True, False),
    "centered slopes": (False, True),
}
"""Whether the first and the second effect of a district are sampled as they are (centered)."""

EFFECTS = {"slopes": ("intercept", "slope"), "levels": ("rural", "urban")}
"""What a district's two effects are: rural log odds and the urban effect, or both log odds."""


@dataclass(frozen=True)
class SlopesPriors:
    """Priors of `slopes_model`, in logits.

    Attributes
    ----------
    intercept : scipy.stats.norm
        Log odds of rural women (at zero of every covariate) in the mean district.
    slope : scipy.stats.norm
        Mean urban effect of the districts.
    covariate : scipy.stats.norm
        Coefficient of each column of the covariates, per unit (years for ``age_centered``).
    sd : scipy.stats expon or halfnorm
        Between districts, of either effect.
    lkj_eta : float
        Shape of the LKJ prior of the effects' correlation.
    """

    intercept: Prior = ALPHA_PRIOR
    slope: Prior = scipy.stats.norm(0, 1)
    covariate: Prior = scipy.stats.norm(0, 1)
    sd: Prior = SIGMA_PRIOR
    lkj_eta: float = 2.0


class SlopesError(ValueError):
    """A table cannot be counted or modelled; the message says which column or row, and what to do."""


# ---------------------------------------------------------------------------------------------
# Counts


def _checked(women: pd.DataFrame, covariates: Sequence[str]) -> pd.DataFrame:
    """Return the columns that a model needs; `SlopesError` names the first that is wrong."""
    wanted = ["district", "urban", *covariates, "use_contraception"]
    for column in wanted:
        if column not in women:
            found = ", ".join(map(str, women.columns))
            raise SlopesError(f"The table has no column {column!r}; it has {found or 'none'}.")
    if len(women) == 0:
        raise SlopesError("The table has no rows; give one row per woman.")
    table = women[wanted].reset_index(drop=True)
    for column in wanted:
        empty = table[column].isna().to_numpy()
        if empty.any():
            raise SlopesError(
                f"Row {women.index[int(empty.argmax())]}: no value in column {column!r}; fill it or "
                f"leave the row out ({empty.sum()} such in this column)."
            )
    for column in ("urban", "use_contraception"):
        strange = ~table[column].isin([0, 1]).to_numpy()
        if strange.any():
            raise SlopesError(
                f"Row {women.index[int(strange.argmax())]}: column {column!r} is "
                f"{table[column][strange.argmax()]}; it must be 0 or 1."
            )
    for column in covariates:
        if pd.api.types.is_numeric_dtype(table[column]):
            endless = ~np.isfinite(table[column].to_numpy(dtype=float))
            if endless.any():
                raise SlopesError(
                    f"Row {women.index[int(endless.argmax())]}: column {column!r} is infinite; give a "
                    "number."
                )
    return table


def count_patterns(women: pd.DataFrame, covariates: Sequence[str] = ()) -> pd.DataFrame:
    """Count women and users of contraception for each district and each pattern of predictors.

    Parameters
    ----------
    women : pandas.DataFrame
        A row per woman, with ``district``, ``urban`` and ``use_contraception`` (0 or 1) and the
        covariates, as `fieldguide.load_bangladesh` returns them.
    covariates : sequence of str
        Further columns that tell patterns apart.

    Returns
    -------
    pandas.DataFrame
        A row per pattern that occurs, sorted, with ``district``, ``urban``, the covariates, and
        whole numbers ``women`` and ``users``. Their sums are those of the table.

    Raises
    ------
    SlopesError
        If a column is missing, a value is missing, or a zero or one is something else.

    Examples
    --------
    >>> import fieldguide as fg
    >>> counts = count_patterns(fg.load_bangladesh())
    >>> len(counts), int(counts["women"].sum()), int(counts["users"].sum())
    (102, 1934, 759)
    """
    table = _checked(women, covariates)
    groups: Any = table.groupby(["district", "urban", *covariates], sort=True, observed=True)
    return groups["use_contraception"].agg(women="size", users="sum").reset_index()


def design(patterns: pd.DataFrame, covariates: Sequence[str]) -> pd.DataFrame:
    """Return the columns of the covariates: numbers as they are, categories against the first.

    Parameters
    ----------
    patterns : pandas.DataFrame
        As of `count_patterns`, or a row per woman.
    covariates : sequence of str
        Which columns.

    Returns
    -------
    pandas.DataFrame
        As many rows; a column per number, and one per level of a category but the first in sorted
        order, called ``column[level]``.
    """
    columns = {}
    for name in covariates:
        if pd.api.types.is_numeric_dtype(patterns[name]):
            columns[name] = patterns[name].to_numpy(dtype=float)
            continue
        for level in sorted(patterns[name].unique())[1:]:
            columns[f"{name}[{level}]"] = (patterns[name] == level).to_numpy(dtype=float)
    return pd.DataFrame(columns, index=patterns.index)


# ---------------------------------------------------------------------------------------------
# Models


def slopes_model(
    women: pd.DataFrame,
    *,
    covariates: Sequence[str] = (),
    parameterization: str = "non-centered",
    effects: str = "slopes",
    correlated: bool = True,
    rows: bool = False,
    priors: SlopesPriors | None = None,
) -> pm.Model:
    r"""Varying-intercept, varying-slope logistic regression of contraceptive use on ``urban``.

    With :math:`L` the Cholesky factor of :math:`\Sigma` and :math:`z` standard normal, the effects of
    a district are :math:`(\alpha + L_{11} z_1, \; \beta + L_{21} z_1 + L_{22} z_2)`. Each of the two is
    sampled as :math:`z` (non-centered) or as it is (centered), the second given the first; so there
    are four forms of one posterior. :math:`L` is ``pm.LKJCholeskyCov`` (Lewandowski, Kurowicka and
    Joe 2009, Journal of Multivariate Analysis 100).

    Parameters
    ----------
    women : pandas.DataFrame
        A row per woman, as for `count_patterns`.
    covariates : sequence of str
        Columns with one coefficient for all districts, such as ``"age_centered"`` and
        ``"living_children"``; coded by `design`.
    parameterization : {"centered", "non-centered", "centered intercepts", "centered slopes"}
        Coordinates of the sampler. The posterior is the same.
    effects : {"slopes", "levels"}
        What varies and is correlated: rural log odds and the urban effect, ``(urban | district)``, or
        the log odds of rural and of urban women, ``(0 + rural + urban | district)``. Without priors
        these are one model; sds and correlation have their priors in one coding or the other.
    correlated : bool
        Whether the two effects may be correlated; if not, ``(urban || district)``.
    rows : bool
        One Bernoulli variable per woman in place of one binomial per pattern.
    priors : SlopesPriors, optional
        Normal(0, 1.5) and Normal(0, 1) on the fixed effects, Exponential(1) on the sds and LKJ(2) on
        the correlation by default.

    Returns
    -------
    pymc.Model
        With ``intercept``, ``slope``, ``coefficient`` (dimension ``covariate``, if there are any), the
        sds ``sd_intercept`` and ``sd_slope`` (or ``sd_rural`` and ``sd_urban``), ``corr``, and
        ``district_intercept`` and ``district_slope`` (dimension ``district``); observed ``users``.

    Raises
    ------
    SlopesError
        If the table is not as it should be, or a prior is of a family that has no place here.
    ValueError
        If a form or a kind of effects is unknown.
    """
    for value, known in ((parameterization, FORMS), (effects, EFFECTS)):
        if value not in known:
            raise ValueError(f"Unknown name {value!r}; use one of {', '.join(known)}.")
    priors = priors or SlopesPriors()
    table = _checked(women, covariates)
    counts = table.assign(women=1, users=table["use_contraception"]) if rows else None
    counts = count_patterns(women, covariates) if counts is None else counts
    labels = sorted(table["district"].unique())
    j = pd.Categorical(counts["district"], categories=labels).codes.astype(int)
    columns = design(counts, covariates)
    coords = {"district": [str(label) for label in labels]}
    coords |= {"covariate": list(columns.columns)} if len(columns.columns) else {}
    with pm.Model(coords=coords) as model:
        intercept = as_pymc_prior("intercept", priors.intercept)
        slope = as_pymc_prior("slope", priors.slope)
        factor = _factor(priors, EFFECTS[effects], correlated)
        means = (intercept, slope if effects == "slopes" else intercept + slope)
        first, second = _effects(EFFECTS[effects], means, factor, FORMS[parameterization])
        second = second if effects == "slopes" else second - first
        a = pm.Deterministic("district_intercept", first, dims="district")
        b = pm.Deterministic("district_slope", second, dims="district")
        log_odds = a[j] + b[j] * counts["urban"].to_numpy()
        if len(columns.columns):
            family, _, loc, scale = prior_parameters(priors.covariate)
            if family != "norm":
                raise SlopesError(f"The prior of the covariates must be normal, not {family}.")
            gamma = pm.Normal("coefficient", loc, scale, dims="covariate")
            log_odds += pm.math.dot(columns.to_numpy(), gamma)
        users = counts["users"].to_numpy()
        if rows:
            pm.Bernoulli("users", logit_p=log_odds, observed=users)
        else:
            pm.Binomial("users", counts["women"].to_numpy(), logit_p=log_odds, observed=users)
    return declare(
        model, slopes_problem(women, covariates, effects, correlated, priors), parameterization
    )


def _factor(priors: SlopesPriors, names: tuple[str, str], correlated: bool) -> tuple[Any, Any, Any]:
    """Add sds and correlation; return the elements 11, 21 and 22 of the Cholesky factor."""
    family, _, loc, scale = prior_parameters(priors.sd)
    if family not in ("expon", "halfnorm") or loc != 0:
        raise SlopesError(
            f"The prior of the sds is {prior_name(priors.sd)}; use scipy.stats.expon or halfnorm, at 0."
        )
    if not correlated:
        first, second = (as_pymc_prior(f"sd_{name}", priors.sd) for name in names)
        return first, 0.0, second
    if family == "expon":
        sd_dist = pm.Exponential.dist(scale=scale, size=2)
    else:
        sd_dist = pm.HalfNormal.dist(sigma=scale, size=2)
    chol, corr, sds = pm.LKJCholeskyCov("lkj", n=2, eta=priors.lkj_eta, sd_dist=sd_dist)
    for name, sd in zip(names, (sds[0], sds[1]), strict=True):
        pm.Deterministic(f"sd_{name}", sd)
    pm.Deterministic("corr", corr[0, 1])
    return chol[0, 0], chol[1, 0], chol[1, 1]


def _effects(
    names: tuple[str, str], means: tuple[Any, Any], factor: tuple[Any, Any, Any], form: tuple[bool, bool]
) -> tuple[Any, Any]:
    """Add the districts' effects, the second given the first, each centered or not."""
    l11, l21, l22 = factor
    if form[0]:
        first = pm.Normal(f"{names[0]}_by_district", means[0], l11, dims="district")
        z = (first - means[0]) / l11
    else:
        z = pm.Normal(f"z_{names[0]}", dims="district")
        first = means[0] + l11 * z
    given_first = means[1] + l21 * z
    if form[1]:
        return first, pm.Normal(f"{names[1]}_by_district", given_first, l22, dims="district")
    return first, given_first + l22 * pm.Normal(f"z_{names[1]}", dims="district")


def slopes_problem(
    women: pd.DataFrame,
    covariates: Sequence[str] = (),
    effects: str = "slopes",
    correlated: bool = True,
    priors: SlopesPriors | None = None,
) -> Problem:
    """Return the problem that a posterior of a `slopes_model` belongs to.

    Parameters
    ----------
    women, covariates, effects, correlated, priors
        As for `slopes_model`.

    Returns
    -------
    fieldguide.problem.Problem
        The same for rows and for counts.
    """
    priors = priors or SlopesPriors()
    counts = count_patterns(women, covariates)
    names = {"intercept": prior_name(priors.intercept), "slope": prior_name(priors.slope)}
    names |= {f"sd_{name}": prior_name(priors.sd) for name in EFFECTS[effects]}
    names |= {"corr": f"LKJ({priors.lkj_eta:g})"} if correlated else {}
    names |= {
        f"coefficient[{name}]": prior_name(priors.covariate) for name in design(counts, covariates)
    }
    rows = [
        [value if isinstance(value, str) else float(value) for value in row]
        for row in counts.astype(object).itertuples(index=False)
    ]
    return Problem.of(f"varying {' and '.join(EFFECTS[effects])}", names, digest(rows))


# ---------------------------------------------------------------------------------------------
# Average effects


def urban_effect(
    draws: xr.Dataset | xr.DataTree, women: pd.DataFrame, covariates: Sequence[str] = ()
) -> xr.Dataset:
    r"""Average effect of ``urban`` on the probability of use, from draws (g-computation).

    For each draw every woman is given ``urban`` 1 and then 0, with her own district and covariates,
    and the difference of her two probabilities is averaged over women: over all of the survey, and
    over those of each district (Gelman and Hill 2007, section 21.4, call it an average predictive
    comparison).

    Parameters
    ----------
    draws : xarray.Dataset or DataTree node
        With ``district_intercept`` and ``district_slope`` (dimension ``district``), and
        ``coefficient`` (dimension ``covariate``) if the model has covariates.
    women : pandas.DataFrame
        The women to average over, as for `count_patterns`; every one of a district of the fit.
    covariates : sequence of str
        Those of the model.

    Returns
    -------
    xarray.Dataset
        ``average`` and ``by_district`` (dimension ``district``), differences of probabilities, with
        the sample dimensions of `draws`.

    Raises
    ------
    SlopesError
        If the table is not as it should be, has a district that the draws do not have, or other
        covariates.

    Examples
    --------
    >>> import fieldguide as fg
    >>> draws = xr.Dataset(coords={"district": ["1", "2"]})
    >>> draws["district_intercept"] = ("district", [0.0, 0.0])
    >>> draws["district_slope"] = ("district", [0.0, 2.0])
    >>> two = fg.load_bangladesh().query("district <= 2")
    >>> urban_effect(draws, two)["by_district"].round(3).to_numpy()
    array([0.   , 0.381])
    """
    draws = draws.to_dataset() if isinstance(draws, xr.DataTree) else draws
    counts = count_patterns(women, covariates)
    known = [str(label) for label in draws["district"].to_numpy()]
    labels = [str(label) for label in counts["district"].unique()]
    for label in labels:
        if label not in known:
            raise SlopesError(f"The draws have no district {label}; they have {', '.join(known)}.")
    columns = design(counts, covariates)
    fitted = [str(name) for name in draws["covariate"].to_numpy()] if "covariate" in draws.dims else []
    if list(columns) != fitted:
        raise SlopesError(
            f"The table's covariates are {', '.join(columns.columns) or 'none'}; "
            f"those of the draws are {', '.join(fitted) or 'none'}."
        )
    by_district, sizes = [], []
    for label in counts["district"].unique():
        rows = counts[counts["district"] == label]
        at = draws.sel(district=str(label)).drop_vars("district")
        a, b = at["district_intercept"], at["district_slope"]
        weights = xr.DataArray(rows["women"].to_numpy(dtype=float), dims="pattern")
        if fitted:
            matrix = xr.DataArray(columns.loc[rows.index].to_numpy(), dims=("pattern", "covariate"))
            a = a + matrix.dot(draws["coefficient"].drop_vars("covariate"), dim="covariate")
        else:
            weights = weights.sum("pattern", keepdims=True)
            a = a.expand_dims(pattern=1)
        difference = xr.apply_ufunc(expit, a + b) - xr.apply_ufunc(expit, a)
        by_district.append((difference * weights).sum("pattern") / weights.sum())
        sizes.append(float(weights.sum()))
    each = xr.concat(by_district, xr.IndexVariable("district", labels))
    women_of = xr.DataArray(sizes, dims="district", coords={"district": labels})
    each = each.transpose(..., "district")
    return xr.Dataset({"average": each.weighted(women_of).mean("district"), "by_district": each})
