r"""What a "boundary (singular) fit" of one's own data means, and what to report of it.

For any model of one grouping factor and one slope, ``y ~ x * w + (x | group)``,
:func:`singular_fit_report` says where the restricted likelihood is highest, how flat it is around
there, which simpler model loses how much, what a Wishart penalty changes, and what the posterior knows.

A variance of zero lies on the boundary of what is possible, so twice a log likelihood ratio has no
chi-squared distribution. With many groups it has a mixture: for a slope's variance *and* its
correlation with the intercept, half of one with one degree of freedom and half of one with two; for a
variance that has no correlation, half of a point at zero and half of one with one degree of freedom
(Self and Liang 1987, J. Am. Stat. Assoc. 82, cases 6 and 5; Stram and Lee 1994, Biometrics 50,
cases 2 and 1). A correlation of zero lies inside, and is tested as usual, as long as the slopes vary.
"""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.stats
from scipy.optimize import brentq, minimize

from fieldguide.priors import prior_name
from fieldguide.reference._protocol import ExactPosteriorError
from fieldguide.reference.schools import SchoolsPosterior, schools_posterior
from fieldguide.reml import (
    SINGULAR_TOLERANCE,
    CrossProducts,
    DesignError,
    RemlFit,
    cross_products,
    fit_reml,
    restricted_deviance,
    wishart,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DFS = (3.0, 3.0001, 3.01, 3.1, 3.5, 4.0, 4.5, 6.0)
"""Degrees of freedom of the Wishart penalty along the path; 3 is no penalty, 4.5 blme's default."""

CORRELATIONS = (-1.0, 0.0, 0.5, 0.75, 0.9, 1.0)
"""Correlations at which the profile is tabulated."""

PROB = 0.89
"""Probability of the equal-tailed intervals."""

LKJ_ETA = 2.0
"""Default shape of the LKJ prior on the correlation."""

FAR = 2.0
"""Sds of the predictor between its mean and zero from which on the report speaks of centring."""

FLAT = 1.0
"""Loss of deviance that is called flat: a likelihood ratio of 1.6."""


def boundary_p_value(lost: float, with_correlation: bool = True) -> float:
    """Return the p value of a variance of zero, from the mixture of the module's text.

    Parameters
    ----------
    lost : float
        Deviance of the model without the variance less that of the model with it.
    with_correlation : bool
        Whether a correlation goes with the variance.

    Examples
    --------
    >>> round(boundary_p_value(5.05), 3), round(boundary_p_value(2.71, with_correlation=False), 3)
    (0.052, 0.05)
    """
    if not lost > 0:
        return 1.0
    one, two = scipy.stats.chi2.sf(lost, [1, 2])
    return float((one + two) / 2 if with_correlation else one / 2)


def default_priors(sums: CrossProducts) -> dict[str, Any]:
    """Return weak priors on the scales of the outcome and the predictors, to two digits.

    Half-normals for the sds, as wide as the outcome's sd (per sd of the predictor, for the slopes), LKJ
    with shape 2 for the correlation, and normals for the fixed effects: 2.5 sds of the outcome per sd of
    the column, and for the intercept that around the outcome's mean, as far from the data as zero is.

    Parameters
    ----------
    sums : CrossProducts

    Returns
    -------
    dict
        What `fieldguide.reference.schools_posterior` takes.
    """
    total = sums.products.sum(0)
    rows = sums.rows.sum()
    one, slope = sums.varying
    mean = total[one] / rows
    sd = np.sqrt(np.maximum(np.diagonal(total) / rows - mean**2, 0))
    y = sd[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = 2.5 * y / sd[:-1]
        spread[one] = 2.5 * y * np.sqrt(1 + np.nansum((mean[:-1] / sd[:-1])[sd[:-1] > 0] ** 2))
    centre = np.where(np.arange(len(sums.terms)) == one, mean[-1], 0.0)
    wide = scipy.stats.halfnorm(scale=_rounded(y))
    return {
        "sd_prior": (wide, scipy.stats.halfnorm(scale=_rounded(y / sd[slope]))),
        "sigma_prior": wide,
        "fixed_prior": ([_rounded(v) for v in centre], [_rounded(v) for v in spread]),
        "lkj_eta": LKJ_ETA,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def singular_fit_report(
    formula: str,
    data: pd.DataFrame,
    *,
    priors: Mapping[str, Any] | None = None,
    dfs: Sequence[float] = DFS,
) -> SingularFitReport:
    """Report on a model with one varying intercept and slope, whether its fit is singular or not.

    The estimate is computed at once; what else the report says is computed when it is first read.

    Parameters
    ----------
    formula : str
        In lme4's notation, such as ``"math ~ ses * sector + (ses | school)"``.
    data : pandas.DataFrame
        One row per unit; words are coded as factors.
    priors : mapping, optional
        ``sd_prior``, ``sigma_prior``, ``fixed_prior`` and ``lkj_eta`` as
        `fieldguide.reference.schools_posterior` takes them; those left out are `default_priors`.
    dfs : sequence of float
        Degrees of freedom of the Wishart penalty, at least 3.

    Returns
    -------
    SingularFitReport
        Shown as a page in a notebook, and as text by ``print``.

    Raises
    ------
    DesignError
        If the model is of another kind, or the data cannot inform it; the message names what to do.
    ValueError
        If a prior has an unknown name.

    Examples
    --------
    >>> from fieldguide.data import load_schools
    >>> report = singular_fit_report("math ~ ses * sector + (ses | school)", load_schools())
    >>> report.models["lost"].round(2).tolist()
    [0.0, 5.05, 5.05]
    """
    sums = cross_products(formula, data)
    if len(sums.groups) < 3:
        raise DesignError(
            f"{len(sums.groups)} groups cannot tell two variances and a correlation; "
            "give each group its own line in an ordinary regression."
        )
    chosen = default_priors(sums)
    if unknown := set(priors or {}) - set(chosen):
        raise ValueError(f"Unknown priors {sorted(unknown)}; a model has {', '.join(chosen)}.")
    outcome = formula.partition("~")[0].strip()
    values = data[outcome].drop_duplicates() if outcome in data.columns else ()
    factor = formula.rpartition("|")[2].partition(")")[0].strip()
    return SingularFitReport(
        formula=formula,
        outcome=outcome,
        factor=factor,
        sums=sums,
        fit=fit_reml(sums),
        priors=chosen | dict(priors or {}),
        dfs=tuple(map(float, dfs)),
        two_valued=len(values) == 2,
    )


# ---------------------------------------------------------------------------------------------
# Profiles of one parameter


class _Profiles:
    """Lowest deviance where the correlation, or the slope's sd, has a given value.

    The predictor is centred and of sd 1 here, so that a zero far from the data does no harm; the
    correlation is that at the table's own zero, ``middle`` of these sds away.
    """

    def __init__(self, sums: CrossProducts, fit: RemlFit):
        total = sums.products.sum(0)
        one, slope = sums.varying
        rows = total[one, one]
        mean = total[one, slope] / rows
        self.unit = float(np.sqrt(total[slope, slope] / rows - mean**2))
        self.middle = float(mean / self.unit)
        turn = np.eye(len(total))
        turn[slope, slope], turn[one, slope] = 1 / self.unit, -self.middle
        products = turn.T @ sums.products @ turn
        self.sums = CrossProducts(sums.groups, sums.terms, sums.varying, sums.rows, products)
        self.shift = 2 * np.log(self.unit)
        self.fit = fit
        self.start = np.array([fit.sd_intercept, fit.sd_slope * self.unit]) / fit.sd_residual

    def _turned(self, r: float, q: Any, s: Any) -> tuple:
        """The intercept's relative sd, and the elements of D at the middle.

        ``q`` is what the intercept's sd would be at the middle if the correlation there were one.
        """
        a = q - r * self.middle * s
        q, a = np.where(a.real < 0, q - 2 * a, q), np.where(a.real < 0, -a, a)
        rest = (1 - r * r) * self.middle * s
        return a, q * q + rest * self.middle * s, s * (r * q + rest), s * s

    def at_correlation(self, r: float, near: Sequence[np.ndarray] = ()) -> tuple[float, np.ndarray]:
        """Deviance, and where: ``q`` and the slope's relative sd."""

        def deviance(x):
            q, s = (x + 1e-20j * np.eye(2)).T
            value = restricted_deviance(self.sums, *self._turned(r, q, s)[1:])
            return value.real.mean(), value.imag / 1e-20

        a, s = np.maximum(self.start, 0.03)
        starts = [*near, np.array([a + r * self.middle * s, s])]
        if abs(self.middle) > 1:
            at_middle = np.sqrt(a * a + 2 * np.nan_to_num(self.fit.correlation) * a * s * self.middle
                                + (s * self.middle) ** 2)  # fmt: skip
            starts += [np.array([sign * at_middle, part * s]) for sign in (1, -1) for part in (1, 0.01)]
        return _lowest(deviance, starts, [(None, None), (0, None)], self.shift)

    def sds_at(self, r: float, x: np.ndarray) -> tuple[float, float]:
        """Sds of intercepts and slopes at what `at_correlation` found, in the table's units."""
        q, s = x[0], x[1] if x[1] > 1e-5 else 0.0  # where the search went for zero
        a, d00, d01, d11 = self._turned(r, np.asarray(q), np.asarray(s))
        _, matrix = self.sums.reduce(d00, d01, d11)
        sigma = _residual_sd(matrix, self.sums)
        return float(sigma * a), float(sigma * s / self.unit)

    def at_sd(self, sd: float, near: Sequence[np.ndarray] = ()) -> tuple[float, np.ndarray]:
        """Deviance, and the intercept's relative sd and the correlation at the middle, log sigma."""

        def deviance(x):
            a, r, log_sigma = (x + 1e-20j * np.eye(3)).T
            sigma = np.exp(log_sigma)
            s = sd * self.unit / sigma
            value = restricted_deviance(self.sums, a * a, r * a * s, s * s, sigma)
            return value.real.mean(), value.imag / 1e-20

        a, s = self.start
        cross = np.nan_to_num(self.fit.correlation) * a * s + self.middle * s * s
        at_middle = np.sqrt(max(a * a + self.middle * (2 * cross - self.middle * s * s), 1e-12))
        r = np.clip(cross / max(at_middle * s, 1e-12), -0.95, 0.95)
        log_sigma = np.log(self.fit.sd_residual)
        starts = [*near, np.array([max(at_middle, 0.03), r, log_sigma])]
        bounds = [(1e-9, None), (-1, 1), (log_sigma - 1, log_sigma + 1)]
        return _lowest(deviance, starts, bounds, self.shift)


def _lowest(function: Callable, starts: list, bounds: list, shift: float) -> tuple[float, np.ndarray]:
    best: Any = None
    for start in starts:
        found = minimize(
            function, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13}
        )
        if best is None or found.fun < best.fun:
            best = found
    return float(best.fun) + shift, best.x


def _curve(
    at: Callable, low: float, high: float, best: float, lowest: float, count: int = 25
) -> tuple[np.ndarray, np.ndarray]:
    """Loss of deviance between the values where it is 8, or the limits: the values and the losses."""
    spans = []
    for limit in (low, high):
        loss = at(limit)[0] - lowest
        if loss > 8:
            spans.append(brentq(lambda v: at(v)[0] - lowest - 8, limit, best, xtol=0.01 * (high - low)))
        else:
            spans.append(limit)
    values = np.unique(np.append(np.linspace(spans[0], spans[1], count), best))
    near: list = []
    losses = []
    for value in values:
        loss, x = at(value, near)
        near = [x]
        losses.append(max(loss - lowest, 0.0))
    return values, np.array(losses)


# ---------------------------------------------------------------------------------------------
# The report


@dataclass(frozen=True, repr=False)
class SingularFitReport:
    """What `singular_fit_report` found; a page in a notebook, text when printed.

    Attributes
    ----------
    formula, outcome, factor : str
    sums : CrossProducts
        What the likelihood needs of the data.
    fit : RemlFit
        The estimate by restricted maximum likelihood.
    priors : dict
        Of the exact posterior.
    dfs : tuple of float
    two_valued : bool
        Whether the outcome has two values only.
    """

    formula: str
    outcome: str
    factor: str
    sums: CrossProducts = field(repr=False)
    fit: RemlFit
    priors: dict[str, Any]
    dfs: tuple[float, ...] = DFS
    two_valued: bool = False

    # -- names

    @property
    def predictor(self) -> str:
        """Name of the predictor whose slope varies."""
        return self.sums.terms[self.sums.varying[1]]

    def _term(self, kind: str) -> str:
        inside = {"full": f"{self.predictor} | ", "diagonal": f"{self.predictor} || "}
        return f"({inside.get(kind, '1 | ')}{self.factor})"

    @property
    def kind(self) -> str:
        """Where the estimate lies.

        ``"correlation"`` (of plus or minus one), ``"slope"`` or ``"intercept"`` (variance of zero) at
        the boundary; ``"near"`` within lme4's tolerance of it; else ``"regular"``.
        """
        if self.fit.boundary:
            if self.fit.sd_slope == 0:
                return "slope"
            return "intercept" if np.isnan(self.fit.correlation) else "correlation"
        return "near" if self.fit.singular else "regular"

    # -- tables

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Estimate by REML, ``estimate`` and ``se``, of fixed effects, sds and the correlation."""
        fixed = self.fit.fixed[["estimate", "se"]]
        names = ["sd_intercept", "sd_slope", "correlation", "sd_residual"]
        rest = pd.DataFrame({"estimate": [getattr(self.fit, name) for name in names]}, index=names)
        return pd.concat([fixed, rest.assign(se=np.nan)]).rename_axis("parameter")

    @cached_property
    def reduced(self) -> dict[str, RemlFit]:
        """Fits of the full, the uncorrelated and the intercept's model, by ``covariance``."""
        return {
            "full": self.fit,
            "diagonal": fit_reml(self.sums, covariance="diagonal"),
            "intercept": fit_reml(self.sums, covariance="intercept"),
        }

    @cached_property
    def models(self) -> pd.DataFrame:
        """The model and its reductions, one row each.

        ``parameters``, REML ``criterion`` and ``AIC`` as lme4 counts them, deviance ``lost`` against the
        full model, ``naive p`` by chi-squared, ``mixture p`` (see `boundary_p_value`; missing for the
        uncorrelated model, whose correlation of zero is no boundary), sds, correlation, ``singular``.
        """
        rows: dict[Any, dict[str, Any]] = {}
        for name, fit in self.reduced.items():
            lost = max(fit.reml - self.fit.reml, 0.0)
            fewer = self.fit.parameters - fit.parameters
            rows[self._term(name)] = {
                "parameters": fit.parameters,
                "criterion": fit.reml,
                "AIC": fit.aic,
                "lost": lost,
                "naive p": scipy.stats.chi2.sf(lost, fewer) if fewer else np.nan,
                "mixture p": boundary_p_value(lost) if name == "intercept" else np.nan,
                "sd_intercept": fit.sd_intercept,
                "sd_slope": fit.sd_slope if name != "intercept" else np.nan,
                "correlation": fit.correlation if name == "full" else np.nan,
                "sd_residual": fit.sd_residual,
                "singular": fit.singular,
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Likelihood-ratio tests between the three models: ``lost``, ``naive p``, ``mixture p``."""
        full, diagonal, intercept = (self._term(kind) for kind in self.reduced)
        criterion = self.models["criterion"]
        of = {
            "no variance of slopes, no correlation": (full, intercept, 2, True),
            "no correlation": (full, diagonal, 1, None),
            "no variance of slopes, where uncorrelated": (diagonal, intercept, 1, False),
        }
        rows: dict[Any, dict[str, Any]] = {}
        for name, (larger, smaller, fewer, correlated) in of.items():
            lost = max(float(criterion[smaller] - criterion[larger]), 0.0)
            mixture = np.nan if correlated is None else boundary_p_value(lost, correlated)
            rows[name] = {
                "from": larger,
                "to": smaller,
                "lost": lost,
                "naive p": scipy.stats.chi2.sf(lost, fewer),
                "mixture p": mixture,
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("what is dropped")

    @cached_property
    def path(self) -> pd.DataFrame:
        """Penalised estimates along the df of the Wishart penalty.

        ``correlation``, ``sd_intercept``, ``sd_slope``, ``sd_residual``, ``lost`` (REML criterion above
        its lowest), ``singular`` (by lme4's tolerance) and, per fixed effect, ``<term>`` and
        ``se <term>``; indexed by ``df``.
        """
        rows: dict[Any, dict[str, Any]] = {}
        for df in self.dfs:
            fit = self.fit if df == 3 else fit_reml(self.sums, wishart(df))
            rows[df] = {
                "correlation": fit.correlation,
                "sd_intercept": fit.sd_intercept,
                "sd_slope": fit.sd_slope,
                "sd_residual": fit.sd_residual,
                "lost": max(fit.reml - self.fit.reml, 0.0),
                "singular": fit.singular,
                **{str(term): value for term, value in fit.fixed["estimate"].items()},
                **{f"se {term}": se for term, se in fit.fixed["se"].items()},
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("df")

    @cached_property
    def _profiles(self) -> _Profiles:
        return _Profiles(self.sums, self.fit)

    @cached_property
    def profile(self) -> pd.DataFrame:
        """Deviance at given correlations and without slope variance, at its best otherwise.

        ``deviance``, ``lost`` against the lowest, and the slope's and intercept's sd there.
        """
        rows: dict[str, tuple] = {}
        for r in CORRELATIONS:
            deviance, x = self._profiles.at_correlation(r)
            intercept, slope = self._profiles.sds_at(r, x)
            rows[f"r = {_digits(r)}"] = (r, deviance, slope, intercept)
        none = self.reduced["intercept"]
        rows["no slope variance"] = (np.nan, none.reml, 0.0, none.sd_intercept)
        columns = ["correlation", "deviance", "sd_slope", "sd_intercept"]
        table: Any = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        lost = (table["deviance"] - self.fit.reml).clip(lower=0)
        table.insert(2, "lost", lost.where(lost > 1e-6, 0.0))
        return table.rename_axis("where")

    @cached_property
    def correlation_curve(self) -> pd.DataFrame:
        """Deviance ``lost`` by ``correlation``, for a picture; where it is at most about 8."""
        best = float(np.nan_to_num(self.fit.correlation))
        curve = _curve(self._profiles.at_correlation, -1.0, 1.0, best, self.fit.reml)
        return pd.DataFrame(dict(zip(("correlation", "lost"), curve, strict=True)))

    @cached_property
    def slope_curve(self) -> pd.DataFrame:
        """Deviance ``lost`` by ``sd_slope``, for a picture; where it is at most about 8."""
        top = max(self.fit.sd_slope, 0.02 * self.fit.sd_residual / self._profiles.unit)
        while self._profiles.at_sd(top)[0] - self.fit.reml < 6 and top < 1e9:
            top *= 1.6
        at = self._profiles.at_sd
        curve = _curve(at, 0.0, top, self.fit.sd_slope, self.fit.reml)
        return pd.DataFrame(dict(zip(("sd_slope", "lost"), curve, strict=True)))

    @cached_property
    def flat(self) -> tuple[float, float]:
        """Smallest and largest correlation whose best deviance is within `FLAT` of the lowest."""

        def excess(r: float) -> float:
            return self._profiles.at_correlation(r)[0] - self.fit.reml - FLAT

        if np.isnan(self.fit.correlation):
            inside = [r for r in np.linspace(-1, 1, 41) if excess(r) < 0]
            return (min(inside), max(inside)) if inside else (np.nan, np.nan)
        ends = []
        for limit in (-1.0, 1.0):
            if self.fit.correlation == limit or excess(limit) < 0:
                ends.append(limit)
            else:
                ends.append(float(brentq(excess, limit, self.fit.correlation, xtol=1e-4)))
        return ends[0], ends[1]

    @cached_property
    def principal(self) -> pd.DataFrame:
        """Singular values of the relative Cholesky factor, and their ``share`` of variance.

        What lme4's rePCA prints, in the units of the table: ``sd`` divided by the residual one, and the
        ``intercept`` and ``slope`` of each direction.
        """
        sigma, r = self.fit.sd_residual, np.nan_to_num(self.fit.correlation)
        a, s = self.fit.sd_intercept / sigma, self.fit.sd_slope / sigma
        factor = np.array([[a, 0.0], [r * s, s * np.sqrt(max(1 - r * r, 0.0))]])
        directions, values, _ = np.linalg.svd(factor)
        total = max(float((values**2).sum()), 1e-300)
        return pd.DataFrame(
            {
                "sd": values,
                "share": values**2 / total,
                "intercept": directions[0],
                "slope": directions[1],
            },
            index=pd.Index([1, 2], name="component"),
        )

    @cached_property
    def exact(self) -> SchoolsPosterior:
        """The posterior under ``priors``; raises `ExactPosteriorError` where it would be inaccurate."""
        return schools_posterior(self.sums, **self.priors)

    @cached_property
    def variances(self) -> pd.DataFrame:
        """Prior beside posterior of every sd and of the correlation.

        ``REML``, then median and ends of 89% equal-tailed intervals of the ``prior`` and the
        ``posterior``, and ``narrower``, the width of the posterior's interval over the prior's.
        """
        tails = [(1 - PROB) / 2, 0.5, (1 + PROB) / 2]
        given = self.priors["sd_prior"]
        pair = (given, given) if hasattr(given, "ppf") else tuple(given)
        eta = self.priors["lkj_eta"]
        of: dict[str, Any] = {
            "sd_intercept": pair[0],
            "sd_slope": pair[1],
            "correlation": None if eta is None else scipy.stats.beta(eta, eta, loc=-1, scale=2),
            "sigma": self.priors["sigma_prior"],
        }
        found = self.exact.quantile(tails, [name for name, prior in of.items() if prior is not None])
        rows: dict[Any, dict[str, Any]] = {}
        for name, prior in of.items():
            if prior is None:
                continue
            before, after = prior.ppf(tails), found[name].values
            rows["sd_residual" if name == "sigma" else name] = {
                "REML": getattr(self.fit, "sd_residual" if name == "sigma" else name),
                **dict(zip(("prior low", "prior median", "prior high"), before, strict=True)),
                **dict(zip(("posterior low", "posterior median", "posterior high"), after, strict=True)),
                "narrower": (after[2] - after[0]) / (before[2] - before[0]),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")

    @cached_property
    def fixed(self) -> pd.DataFrame:
        """Fixed effects by REML and by the posterior: ``estimate``, ``se``, ``mean``, ``sd``, ends."""
        table = self.fit.fixed[["estimate", "se"]].copy()
        ends = self.exact.interval(PROB, ["beta"])["beta"]
        table["posterior mean"] = self.exact.mean["beta"].values
        table["posterior sd"] = self.exact.sd["beta"].values
        table["posterior low"] = ends.sel(bound="lower").values
        table["posterior high"] = ends.sel(bound="upper").values
        return table

    # -- sentences

    @cached_property
    def _no_answer(self) -> str:
        """Why there is no exact posterior; empty where there is one."""
        try:
            _ = self.exact
        except ExactPosteriorError as error:
            if abs(self._profiles.middle) > FAR:
                return f"{error} Here it is the zero of {self.predictor}; centre it."
            return str(error)
        return ""

    @property
    def priors_in_words(self) -> str:
        """The priors, as one says them."""
        given = self.priors["sd_prior"]
        pair = (given, given) if hasattr(given, "ppf") else tuple(given)
        eta = self.priors["lkj_eta"]
        correlation = "a correlation of 0" if eta is None else f"LKJ({_digits(eta)}) on the correlation"
        return (
            f"{prior_name(pair[0])} on the sd of intercepts, {prior_name(pair[1])} on the sd of slopes, "
            f"{correlation}, {prior_name(self.priors['sigma_prior'])} on the residual sd"
        )

    @property
    def notes(self) -> list[str]:
        """What to know of the data before reading on; often nothing."""
        one, slope = self.sums.varying
        n, x = self.sums.products[:, one, one], self.sums.products[:, one, slope]
        xx, name = self.sums.products[:, slope, slope], self.predictor
        notes = []
        away = abs(self._profiles.middle)
        if away > FAR:
            notes.append(
                f"{name} = 0, where intercepts are compared, lies {_digits(away)} sds from the mean of "
                f"{name}. Their sd, the correlation, {self._term('diagonal')} and the priors speak of "
                f"that place; centre {name} if you do not mean it. Whether the fit is singular does not "
                "depend on it."
            )
        if alone := int((n == 1).sum()):
            notes.append(f"{alone} of {len(n)} groups have one row; they tell nothing of slopes.")
        still = int((~(xx - x**2 / n > 1e-13 * np.maximum(xx, 1e-300))).sum())
        if still > alone:
            notes.append(
                f"In {still} of {len(n)} groups {name} has one value; they tell nothing of slopes."
            )
        if len(n) < 10:
            notes.append(
                f"{len(n)} groups are few for two variances and a correlation: the p values, which hold "
                "for many groups, are rough, and the posterior leans on its priors."
            )
        if self.two_valued:
            notes.append(
                f"{self.outcome} has two values only; a logistic model (lme4's glmer, or Bambi with "
                "family='bernoulli') may be what you want."
            )
        return notes

    @cached_property
    def findings(self) -> list[str]:
        """What the tables say, a sentence or two each."""
        return [self._where(), self._how_flat(), *self._tested(), self._along_the_path(), self._known()]

    def _where(self) -> str:
        fit, x = self.fit, self.predictor
        tolerance = f"lme4's isSingular, whose tolerance is {SINGULAR_TOLERANCE:g},"
        at = {
            "correlation": (
                f"where the correlation of intercepts and slopes is {_digits(fit.correlation)}"
            ),
            "slope": f"where the slopes of {x} do not vary at all",
            "intercept": "where the intercepts do not vary at all",
        }
        if self.kind in at:
            return (
                f"The restricted likelihood is highest {at[self.kind]}: on the boundary of what a "
                f"covariance matrix can be. That is the mathematics; {tolerance} says singular because "
                f"the smallest diagonal element of the relative Cholesky factor is zero."
            )
        inside = (
            f"The restricted likelihood is highest at a correlation of {_digits(fit.correlation)} and "
            f"sds of {_digits(fit.sd_intercept)} (intercepts) and {_digits(fit.sd_slope)} (slopes): "
            "inside, not on the boundary."
        )
        smallest = f"the smallest diagonal element of the relative Cholesky factor, {fit.smallest:.2g},"
        if self.kind == "near":
            return f"{inside} {tolerance} says singular all the same, since {smallest} is below that."
        return f"{inside} {tolerance} agrees: {smallest} is above that."

    def _how_flat(self) -> str:
        low, high = self.flat
        lost = self.profile["lost"]
        one, minus, zero = lost["r = 1"], lost["r = \N{MINUS SIGN}1"], lost["r = 0"]
        if self.kind == "slope" or np.isnan(low):
            return (
                "Where the slopes do not vary, the correlation has no meaning; at their best sds, "
                f"correlations of \N{MINUS SIGN}1, 0 and 1 lose {_digits(minus)}, {_digits(zero)} and "
                f"{_digits(one)} units of deviance."
            )
        if high - low > 1.99:
            return (
                "Every correlation from \N{MINUS SIGN}1 to 1 loses less than one unit of deviance: the "
                "data say next to nothing of it."
            )
        flat = ": the data hardly tell them apart" if high - low > 0.3 else ""
        still = self.profile.loc["r = 0", "sd_slope"] == 0
        others = [
            f"a correlation of {_digits(r)} loses {_digits(lost[f'r = {_digits(r)}'])}"
            for r in (-1.0, 0.0, 1.0)
            if r != self.fit.correlation
        ]
        return (
            f"Correlations from {_digits(low)} to {_digits(high)} lose less than one unit of deviance"
            f"{flat}. With the sds at their best, {', '.join(others[:-1])} and {others[-1]} units"
            + (", where 0 has slopes that do not vary." if still else ".")
        )

    def _tested(self) -> list[str]:
        rows = self.tests
        first = rows.iloc[0]
        text = (
            f"Dropping the variance of the slopes, from {first['from']} to {first['to']}, loses "
            f"{_digits(first['lost'])} units: {_p_is(first['mixture p'])} by the mixture of chi-squared "
            "with one and two degrees of freedom that holds at the boundary for many groups "
            f"({_p_is(first['naive p'])} by chi-squared with two). {_verdict(first['mixture p'])}."
        )
        diagonal = self.reduced["diagonal"]
        second = rows.iloc[1]
        if diagonal.sd_slope == 0:
            other = (
                f"{self._term('diagonal')} is singular too: without a correlation the best sd of the "
                f"slopes is 0, and it is the same fit as {self._term('intercept')}."
            )
        else:
            singular = "singular too" if diagonal.singular else "not singular"
            other = (
                f"{self._term('diagonal')} is {singular} and loses {_digits(second['lost'])} units "
                f"({_p_is(second['naive p'])}; a correlation of 0 is no boundary)."
            )
        least = self.models["AIC"].idxmin()
        gap = self.models["AIC"].sort_values().diff().iloc[1]
        close = f", by {_digits(gap)}" if gap > 0.005 else ", though not alone"
        return [text, f"{other} AIC is lowest for {least}{close}."]

    def _along_the_path(self) -> str:
        path, terms = self.path, list(self.sums.terms)
        if len(path) < 2:
            return "The path of the penalty has one point."
        moved = (path[terms] - path[terms].iloc[0]).abs().max() / self.fit.fixed["se"].to_numpy()
        ses = path[[f"se {term}" for term in terms]]
        change = (ses.iloc[-1] / ses.iloc[0] - 1).to_numpy()
        k = int(np.argmax(np.abs(change)))
        some = [path.index[0], path.index[len(path) // 2], path.index[-1]]
        values = ", ".join(_digits(path.loc[df, f"se {terms[k]}"], 4) for df in some)
        dfs = ", ".join(f"{df:g}" for df in some)
        inside = [f"{df:.9g}" for df in path.index[(path.index > 3) & path["singular"]]]
        words = (
            f"At df = {', '.join(inside)} the estimate is inside the boundary, and isSingular does not "
            "see it. "
            if inside
            else ""
        )
        effects = (
            f"The fixed effects move by at most {_digits(moved.max(), 2)} standard errors "
            f"({moved.idxmax()})"
            if moved.max() > 0.001
            else "The fixed effects stay where they are"
        )
        return (
            f"{words}Along the Wishart penalty's df from {path.index[0]:g} to {path.index[-1]:g} the "
            f"correlation goes from {_digits(path['correlation'].iloc[0])} to "
            f"{_digits(path['correlation'].iloc[-1])}. {effects}; their standard errors change too, "
            f"most that of {terms[k]}: {values} at df = {dfs} ({_signed_percent(change[k])})."
        )

    def _known(self) -> str:
        if self._no_answer:
            return f"There is no exact posterior: {self._no_answer}"
        table = self.variances
        slope = table.loc["sd_slope"]
        text = (
            f"Under {self.priors_in_words}, the sd of the slopes has an {PROB:.0%} interval from "
            f"{_digits(slope['posterior low'])} to {_digits(slope['posterior high'])} (prior: "
            f"{_digits(slope['prior low'])} to {_digits(slope['prior high'])})"
        )
        if "correlation" in table.index:
            r = table.loc["correlation"]
            text += (
                f", the correlation one from {_digits(r['posterior low'])} to "
                f"{_digits(r['posterior high'])} (prior: {_digits(r['prior low'])} to "
                f"{_digits(r['prior high'])})"
            )
            if r["narrower"] > 0.8:
                text += ": as wide as before, so it is largely the prior that speaks"
        return text + "."

    @cached_property
    def paragraph(self) -> str:
        """A paragraph for a paper.

        It reports the fixed effects as estimated, and says how far the posterior is from them; of the
        groups' sds and correlation, which may lie on the boundary, it gives the posterior.
        """
        parts = [*self._fitted(), *self._posterior_of_sds(), *self._fixed_effects()]
        return " ".join(parts)

    def _fitted(self) -> list[str]:
        fit, (low, high) = self.fit, self.flat
        sds = f"sds {_digits(fit.sd_intercept)} and {_digits(fit.sd_slope)}"
        singular = "singular by lme4's tolerance, though inside" if fit.singular else "not singular"
        at = {
            "correlation": (
                f"The estimate lies on the boundary: the correlation of intercepts and slopes is "
                f"{_digits(fit.correlation)} ({sds})."
            ),
            "slope": "The estimate lies on the boundary: the variance of the slopes is zero.",
            "intercept": "The estimate lies on the boundary: the variance of the intercepts is zero.",
        }
        inside = (
            f"The fit is {singular}: intercepts and slopes have {sds}, and a correlation of "
            f"{_digits(fit.correlation)}."
        )
        sentences = [
            f"We fitted {self.formula} by restricted maximum likelihood to {int(self.sums.rows.sum())} "
            f"rows in {len(self.sums.groups)} groups ({self.factor}).",
            at.get(self.kind, inside),
        ]
        if self.kind not in ("slope", "intercept") and not np.isnan(low):
            so = ", so we do not interpret the correlation" if high - low > 0.3 else ""
            sentences.append(
                f"Correlations from {_digits(low)} to {_digits(high)} lose less than one unit of "
                f"deviance{so}."
            )
        first = self.tests.iloc[0]
        sentences.append(
            f"Without variance of the slopes of {self.predictor} the deviance is "
            f"{_digits(first['lost'])} units higher ({_p_is(first['mixture p'])}, equal mixture of "
            "chi-squared with one and two degrees of freedom)."
        )
        return sentences

    def _posterior_of_sds(self) -> list[str]:
        if self._no_answer:
            return []
        table = self.variances
        lead = "An estimate on the boundary has no standard error, so for the groups we report"
        text = (
            f"{lead if self.fit.singular else 'Beside it we computed'} the exact posterior under "
            f"weak priors ({self.priors_in_words}; normal on the fixed effects): sd of intercepts "
            f"{_interval(table.loc['sd_intercept'])}, sd of slopes {_interval(table.loc['sd_slope'])}"
        )
        if "correlation" in table.index:
            r = table.loc["correlation"]
            text += (
                f", correlation {_interval(r)}, where the prior alone has {_digits(r['prior low'])} to "
                f"{_digits(r['prior high'])}"
            )
        return [f"{text} (medians and {PROB:.0%} equal-tailed intervals)."]

    def _fixed_effects(self) -> list[str]:
        each = [
            f"{term} {_to_error(row['estimate'], row['se'])} ({_to_error(row['se'], row['se'])})"
            for term, row in self.fit.fixed.iterrows()
        ]
        sentences = [f"Fixed effects, with standard errors: {'; '.join(each)}."]
        if self._no_answer:
            return sentences
        gap = ((self.fixed["posterior mean"] - self.fixed["estimate"]).abs() / self.fixed["se"]).max()
        wider = (self.fixed["posterior sd"] / self.fixed["se"] - 1).to_numpy()
        k = int(np.argmax(np.abs(wider)))
        return [
            *sentences,
            f"Posterior means differ from the estimates by at most {_digits(gap, 2)} standard errors, "
            f"posterior sds from the standard errors by at most {abs(wider[k]):.0%} "
            f"({self.fixed.index[k]}).",
        ]

    # -- shown

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        """Captions and tables, formatted, in the order of the page."""
        path = self.path.copy()
        path.index = pd.Index([f"{df:g}" for df in path.index], name="df")
        models = self.models.copy()
        tables = [
            ("Estimates by restricted maximum likelihood.", self.estimates),
            (
                "Deviance at its best for a given correlation, and what it loses against the lowest.",
                self.profile.drop(columns="correlation"),
            ),
            (
                "The model and its reductions. AIC counts as lme4 does; p values against the first row.",
                models,
            ),
            ("What is dropped, and the p value of that.", self.tests),
            (
                "Singular values of the relative Cholesky factor, as lme4's rePCA has them.",
                self.principal,
            ),
            ("Penalised estimates along the df of the Wishart penalty; 3 is no penalty.", path),
        ]
        if not self._no_answer:
            words = f"{PROB:.0%} equal-tailed intervals"
            tables += [
                (
                    f"Prior beside posterior: medians and {words}; narrower is the width of the "
                    "posterior's interval over the prior's.",
                    self.variances,
                ),
                (f"Fixed effects by REML and in the posterior ({words}).", self.fixed),
            ]
        return [(caption, _written(table)) for caption, table in tables]

    @property
    def title(self) -> str:
        word = {"regular": "a regular fit", "near": "a fit that is singular by tolerance"}
        return f"{self.formula}: {word.get(self.kind, 'a singular fit')}"

    @cached_property
    def text(self) -> str:
        """The report in plain text."""
        rows = f"{int(self.sums.rows.sum())} rows in {len(self.sums.groups)} groups ({self.factor})."
        parts = [self.title, "=" * len(self.title), rows, *self.notes, ""]
        parts += [f"- {finding}" for finding in self.findings]
        for caption, table in self._tables():
            parts += ["", caption, table.to_string()]
        return "\n".join([*parts, "", "For the paper", "-" * 13, self.paragraph])

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<SingularFitReport of {self.title}; print it, or show it in a notebook>"

    def _repr_html_(self) -> str:
        def said(words: str) -> str:
            return html.escape(words)

        parts = [f"<p><strong>{said(self.title)}</strong></p>"]
        parts += [f"<p><em>{said(note)}</em></p>" for note in self.notes]
        parts.append("<ul>" + "".join(f"<li>{said(one)}</li>" for one in self.findings) + "</ul>")
        if svg := self._svg():
            source = b64encode(svg.encode()).decode()
            parts.append(
                f'<img src="data:image/svg+xml;base64,{source}" alt="{said(self.alt)}" '
                'style="max-width:100%">'
            )
        for caption, table in self._tables():
            shown = table.to_html(border=0, escape=True)
            shown = shown.replace("<thead>", f"<caption>{said(caption)}</caption><thead>", 1)
            parts.append(f'<div style="overflow-x:auto">{shown}</div>')
        parts.append(f"<p><strong>For the paper.</strong> {said(self.paragraph)}</p>")
        return '<div class="fieldguide-report">' + "\n".join(parts) + "</div>"

    @property
    def alt(self) -> str:
        """What `figure` says, in words."""
        low, high = self.flat
        words = (
            f"Deviance lost by correlation: lowest at {_digits(self.fit.correlation)}, below one unit "
            f"from {_digits(low)} to {_digits(high)}, {_digits(self.profile['lost']['r = 0'])} at 0. By "
            f"the sd of slopes: lowest at {_digits(self.fit.sd_slope)}, "
            f"{_digits(self.profile['lost']['no slope variance'])} at 0. Correlation along the penalty: "
            f"from {_digits(self.path['correlation'].iloc[0])} to "
            f"{_digits(self.path['correlation'].iloc[-1])}."
        )
        if not self._no_answer and "correlation" in self.variances.index:
            r = self.variances.loc["correlation"]
            words += (
                f" Posterior of the correlation: median {_digits(r['posterior median'])}, "
                f"{PROB:.0%} from {_digits(r['posterior low'])} to {_digits(r['posterior high'])}."
            )
        return words

    def figure(self) -> Figure:
        """Draw the two profiles, the correlation along the penalty, and its prior and posterior.

        Needs Matplotlib; the figure is not closed.
        """
        import matplotlib.pyplot as plt

        from fieldguide.style import COLORS

        figure, axes = plt.subplots(2, 2, figsize=(7, 5.2))
        flat = {"color": "#767676", "linewidth": 1}
        words = [
            (self.correlation_curve, "correlation", "correlation"),
            (self.slope_curve, "sd_slope", f"sd of slopes of {self.predictor}"),
        ]
        for ax, (curve, column, label) in zip(axes[0], words, strict=True):
            ax.plot(curve[column], curve["lost"], color="black")
            ax.axhline(FLAT, **flat)
            ax.set(
                xlabel=label, ylabel="deviance lost", ylim=(-0.4, max(curve["lost"].max(), 1.5) * 1.05)
            )
        axes[0, 0].set_title("Profile of correlation")
        axes[0, 1].set_title("Profile of the slopes' sd")
        path = self.path["correlation"]
        axes[1, 0].plot(range(len(path)), path, marker="o", color="black")
        axes[1, 0].set_xticks(range(len(path)), [f"{df:g}" for df in path.index], rotation=45)
        axes[1, 0].set(xlabel="df of the penalty", ylabel="correlation", title="Wishart path")
        ax = axes[1, 1]
        ax.set(xlabel="correlation", ylabel="density", title="Prior and posterior")
        eta = self.priors["lkj_eta"]
        if not self._no_answer and eta is not None:
            r = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 203)[1:-1])
            density = np.maximum(self.exact.pdf("correlation", r), 0)
            ax.plot(r, density, color=COLORS["exact"], label="posterior")
            prior = scipy.stats.beta(eta, eta, loc=-1, scale=2)
            ax.plot(r, prior.pdf(r), color=COLORS["prior"], linestyle="--", label="prior")
            ax.legend()
        else:
            ax.set_visible(False)
        return figure

    def _svg(self) -> str:
        """The figure as a drawing; empty without Matplotlib."""
        try:
            import matplotlib as mpl
            import matplotlib.pyplot as plt

            from fieldguide.picture import LayoutError, draw
            from fieldguide.style import use_style
        except ImportError:
            return ""
        with mpl.rc_context():
            use_style()
            figure = self.figure()
            try:
                return draw(figure, "singular-fit")[0].svg
            except LayoutError:  # names too long to be laid out well
                buffer = io.StringIO()
                figure.savefig(buffer, format="svg", facecolor="white")
                return buffer.getvalue()
            finally:
                plt.close(figure)


# ---------------------------------------------------------------------------------------------
# Numbers in words


def _residual_sd(matrix: np.ndarray, sums: CrossProducts) -> float:
    p = len(matrix) - 1
    rest = matrix[p, p] - matrix[p, :p] @ np.linalg.solve(matrix[:p, :p], matrix[:p, p])
    return float(np.sqrt(rest / (sums.rows.sum() - p)))


def _digits(value: Any, digits: int = 3) -> str:
    """Write a number with so many digits that count, and no exponent where it can do without."""
    if not np.isfinite(value):
        return "\N{EN DASH}"
    if value == 0 or abs(value) < 1e-6:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")
    decimals = max(digits - 1 - int(np.floor(np.log10(abs(value)))), 0)
    if 0.999 <= abs(value) < 1:  # a correlation that is not one
        decimals = min(max(1 - int(np.floor(np.log10(1 - abs(value)))), digits), 9)
    written = f"{value:.{decimals}f}"
    if float(written).is_integer() and value == int(value):
        written = f"{value:.0f}"
    return written.replace("-", "\N{MINUS SIGN}")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else _digits(value, 2)


def _p_is(value: float) -> str:
    return f"p {_p(value)}" if value < 0.001 else f"p = {_p(value)}"


def _to_error(value: float, error: float) -> str:
    """Write a number to the second digit of its standard error."""
    if not error > 0:
        return _digits(value)
    decimals = max(1 - int(np.floor(np.log10(error))), 0)
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _signed_percent(value: float) -> str:
    return f"{value:+.1%}".replace("-", "\N{MINUS SIGN}")


def _interval(row: Any) -> str:
    ends = [row[f"posterior {end}"] for end in ("low", "median", "high")]
    low, middle, high = (_to_error(end, (ends[2] - ends[0]) / 4) for end in ends)
    return f"{middle} ({low} to {high})"


def _verdict(p: float) -> str:
    if p < 0.01:
        return "That speaks clearly against equal slopes"
    if p < 0.1:
        return "That is some evidence against equal slopes, not much"
    return "Equal slopes are not ruled out"


def _written(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of words."""
    shown: dict[str, list[str]] = {}
    for column in table.columns:
        words = []
        for value in table[column]:
            if isinstance(value, str):
                words.append(value)
            elif isinstance(value, bool | np.bool_):
                words.append("yes" if value else "no")
            elif column in ("criterion", "AIC", "deviance"):
                words.append(f"{value:.2f}")
            elif column.endswith(" p"):
                words.append("\N{EN DASH}" if np.isnan(value) else _p(value))
            elif column == "parameters":
                words.append(f"{value:d}")
            else:
                words.append(_digits(float(value), 4))
        shown[str(column)] = words
    return pd.DataFrame(shown, index=table.index)
