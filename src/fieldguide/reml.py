r"""Restricted maximum likelihood for a varying intercept and slope, from per-group sums.

The model of ``y ~ x * w + (x | group)``, for group :math:`j` with rows :math:`X_j, Z_j, y_j`:

.. math::

   y_j = X_j \beta + Z_j u_j + e_j, \qquad u_j \sim \mathrm{Normal}(0, \sigma^2 D), \qquad
   e_j \sim \mathrm{Normal}(0, \sigma^2 I),

where :math:`D` is the 2 x 2 *relative* covariance of intercept and slope. All that the likelihood
needs of a group are the sums :math:`S_j = Z_j' Z_j`, :math:`C_j = Z_j' [X_j, y_j]` and
:math:`[X_j, y_j]'[X_j, y_j]`; thousands of rows are read once. By the Woodbury identity,

.. math::

   A(D) = \sum_j [X_j, y_j]' (I + Z_j D Z_j')^{-1} [X_j, y_j]
        = \sum_j [X_j, y_j]'[X_j, y_j] - C_j' \frac{D + |D|\,\mathrm{adj}\,S_j}{|I + S_j D|} C_j ,

which holds for a singular :math:`D` too: a correlation of one is a point like any other. From
:math:`A` follow the generalised least squares estimate, the residual sum of squares and the
profiled restricted likelihood (Bates, Mächler, Bolker and Walker 2015, J. Stat. Softw. 67(1),
equations 39 to 42). Penalties on :math:`D` are those of blme (Chung, Gelman, Rabe-Hesketh, Liu
and Dorie 2015, J. Educ. Behav. Stat. 40, section 3), on its default common scale: they see the
standard deviations divided by the residual one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from fieldguide.problem import digest

SINGULAR_TOLERANCE = 1e-4
"""Smallest element of the relative Cholesky factor's diagonal that is not singular (lme4's)."""

Penalty = Callable[..., np.ndarray]
"""Log prior density, up to a constant, of three sds divided by the residual one: the intercept's,
the slope's, and the slope's given the intercept, which is sd_slope * sqrt(1 - correlation**2)."""


Covariance = Literal["full", "diagonal", "intercept"]
"""What may vary: intercept and slope with a correlation, both without one, or the intercept."""

_FREE = {"full": (0, 1, 2), "diagonal": (0, 2), "intercept": (0,)}
"""Elements (a, b, c) of the relative Cholesky factor [[a, 0], [b, c]] that are searched."""


class DesignError(ValueError):
    """The data cannot inform the model; the message says why and what to do."""


class ConvergenceError(ArithmeticError):
    """The optimiser did not reach a minimum, so no estimate is given."""


@dataclass(frozen=True)
class CrossProducts:
    """What the likelihood needs of the data: one small matrix of sums per group.

    Attributes
    ----------
    groups : tuple of str
        Labels of the J groups.
    terms : tuple of str
        Names of the p fixed effects.
    varying : tuple of int
        Positions among ``terms`` of the intercept and the slope that vary over groups.
    rows : numpy.ndarray, shape (J,)
        Number of rows of each group.
    products : numpy.ndarray, shape (J, p + 1, p + 1)
        Cross products of ``[X, y]`` within each group.
    """

    groups: tuple[str, ...]
    terms: tuple[str, ...]
    varying: tuple[int, int]
    rows: np.ndarray
    products: np.ndarray

    if TYPE_CHECKING:  # made by __post_init__

        @property
        def _det(self) -> np.ndarray: ...

        @property
        def _quad(self) -> np.ndarray: ...

        @property
        def _total(self) -> np.ndarray: ...

    def reduce(self, d00: ArrayLike, d01: ArrayLike, d11: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Sum the groups for many relative covariances at once.

        Parameters
        ----------
        d00, d01, d11 : array_like of one shape
            Elements of the relative covariance matrix D; real or complex.

        Returns
        -------
        log_det : numpy.ndarray, shape of the input
            Log determinant of the relative covariance of all rows.
        a : numpy.ndarray, shape of the input + (p + 1, p + 1)
            The matrix A(D) of the module's equation.
        """
        d = np.stack(np.broadcast_arrays(d00, d01, d11), -1)
        det_d = d[..., 0] * d[..., 2] - d[..., 1] ** 2
        d = np.concatenate([d, det_d[..., None]], -1)
        det = 1 + d @ self._det
        size = self.products.shape[1]
        quad, inverse = self._quad.reshape(len(self.groups), -1), 1 / det
        sums = inverse.real @ quad
        if np.iscomplexobj(inverse):  # apart, so that the sums of many groups are not copied
            sums = sums + 1j * (inverse.imag @ quad)
        sums = sums.reshape(*d.shape, size, size)
        return np.log(det).sum(-1), self._total - np.einsum("...k,...kab->...ab", d, sums)

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits of the data: groups, design, rows and sums.

        Sums count with ten digits of their size, so that the order in which rows were added does
        not matter, not even where a sum is zero but for rounding.
        """
        rows = [["", *self.terms, *self.varying]]
        for group, count, sums in zip(self.groups, self.rows, self.products, strict=True):
            size = np.sqrt(np.multiply.outer(sums.diagonal(), sums.diagonal()))
            exponent = np.floor(np.log10(np.where(size > 0, size, 1))) - 9
            # shifted, because sums of decimal numbers often lie half-way between two digits
            units = np.floor(sums / 10.0**exponent + 1 / np.pi)
            upper = np.triu_indices(len(sums))
            digits = zip(units[upper], exponent[upper], strict=True)
            rows.append([group, count, *(f"{u:.0f}e{e:.0f}" for u, e in digits)])
        return digest(rows)

    def __post_init__(self):
        z = list(self.varying)
        c = self.products[:, z]
        s00, s01, s11 = c[:, 0, z[0]], c[:, 0, z[1]], c[:, 1, z[1]]

        def pair(i, k):
            return c[:, i, :, None] * c[:, k, None, :]

        cross = pair(0, 1) + pair(1, 0)
        adjugate = (
            s11[:, None, None] * pair(0, 0)
            + s00[:, None, None] * pair(1, 1)
            - s01[:, None, None] * cross
        )
        det_s = s00 * s11 - s01**2
        object.__setattr__(self, "_det", np.stack([s00, 2 * s01, s11, det_s]))
        object.__setattr__(self, "_quad", np.stack([pair(0, 0), cross, pair(1, 1), adjugate], 1))
        object.__setattr__(self, "_total", self.products.sum(0))


def cross_products(formula: str, data: pd.DataFrame) -> CrossProducts:
    """Read a table once and keep the sums of each group.

    Parameters
    ----------
    formula : str
        In lme4's notation, with one varying intercept and slope:
        ``"math ~ ses * catholic + (ses | school)"``.
    data : pandas.DataFrame
        One row per unit.

    Raises
    ------
    ImportError
        If formulae, which reads the formula, is not installed.
    DesignError
        If a cell is missing, a group has no rows, groups have too few rows to tell their effects
        from the residual, or a predictor is constant or a combination of others.
    """
    try:
        from formulae import model_description
        from formulae.environment import Environment
        from formulae.matrices import DesignMatrices
        from formulae.parser import ParseError
    except ImportError as error:
        raise ImportError(
            "Reading a formula needs formulae; install it with: pip install fieldguide[models]"
        ) from error
    if "||" in formula:
        raise DesignError(
            "|| fixes the correlation at 0; write (x | group) here, "
            'and fit_reml(sums, covariance="diagonal").'
        )
    try:
        described = model_description(formula)
    except ParseError as error:
        raise DesignError(f"The formula {formula!r} cannot be read: {error}") from None
    slope, factor = _what_varies(described)
    _check_cells(described.var_names, data)
    # The columns of the groups would be rows times groups; the labels say the same.
    described.group_terms = []
    columns = [name for name in data.columns if name in described.var_names]
    plain = not any("(" in term.name for term in described.common_terms)
    table = data[columns].apply(_as_levels) if plain else data[columns]
    try:
        design = DesignMatrices(described, table, Environment.capture(0))
    except KeyError as error:
        raise DesignError(f"The table has no column {error}; correct the formula.") from None
    if factor not in data.columns:
        raise DesignError(f"The table has no column {factor!r}; correct the formula.")
    x = design.common.design_matrix if design.common is not None else np.empty((len(data), 0))
    names = [] if design.common is None else list(design.common.as_dataframe().columns)
    _check_roles(design, names, slope)
    codes, labels = pd.factorize(data[factor], sort=True)
    w = np.column_stack([x, np.ravel(np.asarray(design.response.design_matrix, float))])
    varying = (names.index("Intercept"), names.index(slope))
    _check_design(data, w, names, codes, labels, factor)
    products = np.empty((len(labels), w.shape[1], w.shape[1]))
    for i, k in zip(*np.triu_indices(w.shape[1]), strict=True):
        products[:, i, k] = products[:, k, i] = np.bincount(codes, w[:, i] * w[:, k])
    sums = CrossProducts(
        groups=tuple(map(str, labels)),
        terms=tuple(names),
        varying=varying,
        rows=np.bincount(codes),
        products=products,
    )
    _check_slope(sums, factor)
    return sums


def _as_levels(column: pd.Series) -> pd.Series:
    """Order the levels of words as formulae does, which then need not sort a million words."""
    if pd.api.types.is_numeric_dtype(column) or getattr(column.dtype, "ordered", False):
        return column
    codes, found = pd.factorize(column)
    levels: Any = sorted(found)
    places: Any = np.array([levels.index(level) for level in found])[codes]
    return pd.Series(pd.Categorical.from_codes(places, levels, ordered=True), index=column.index)


def _what_varies(described: Any) -> tuple[str, str]:
    """Return the slope and the grouping factor of the one term that varies, or say why not."""
    shape = "The formula needs one term like (ses | school): an intercept and one slope that vary."
    terms = described.group_terms
    if described.response is None:
        raise DesignError(f"The formula has no outcome; begin it with one, as in y ~ x. {shape}")
    if not terms:
        raise DesignError(f"{shape} Without one it is an ordinary regression, which cannot be singular.")
    factors = list(dict.fromkeys(term.factor.name for term in terms))
    if len(factors) > 1:
        raise DesignError(
            f"{shape} This one has several grouping factors, {' and '.join(factors)}; fit nested or "
            "crossed factors with lme4 and look at rePCA, or with Bambi."
        )
    (factor,) = factors
    if len(terms[0].factor.components) > 1:
        raise DesignError(
            f"{shape} {factor} is made of several columns; join them into one column of labels."
        )
    slopes = [term.expr.name for term in terms if term.expr.name != "Intercept"]
    if len(slopes) == len(terms):
        raise DesignError(
            f"{shape} Without a varying intercept, as in (0 + x | g), there is one variance and no "
            "correlation; write (x | g), or fit it with lme4."
        )
    if not slopes:
        raise DesignError(
            f"{shape} With the intercept alone the boundary is one variance of zero; fit it with lme4 "
            "and test it with RLRsim's exactRLRT."
        )
    if len(slopes) > 1:
        raise DesignError(
            f"{shape} This one has {len(slopes)} slopes, {' and '.join(slopes)}; look at one at a time, "
            "or fit them with lme4 and look at rePCA, or with Bambi."
        )
    return slopes[0], factor


def _check_roles(design: Any, names: list[str], slope: str) -> None:
    """See that the slope is one number per row, the outcome numeric, and both have fixed effects."""
    if design.response.kind != "numeric":
        raise DesignError(
            f"The outcome {design.response.name} is not a number; for two categories use lme4's glmer "
            "or Bambi with family='bernoulli'."
        )
    terms = design.common.terms if design.common is not None else {}
    if "Intercept" not in terms:
        raise DesignError("The intercept varies over groups but has no fixed effect; leave out the 0.")
    if slope not in terms:
        raise DesignError(f"{slope} varies over groups but has no fixed effect; add it to the formula.")
    if slope not in names:
        raise DesignError(
            f"{slope} is not one number per row, so it has several slopes; code it as one number, "
            "or fit it with lme4 and look at rePCA."
        )


def _check_slope(sums: CrossProducts, factor: str) -> None:
    n, x, xx = _spread_within(sums)
    name = sums.terms[sums.varying[1]]
    varies = xx - x**2 / n > 1e-13 * np.maximum(xx, 1e-300)
    if not varies.any():
        raise DesignError(
            f"{name} is the same for all rows of a {factor}, so no slope can vary; "
            f"use (1 | {factor}) with {name} as a fixed effect."
        )


def _spread_within(sums: CrossProducts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, sums and sums of squares of the slope's predictor, per group."""
    one, x = sums.varying
    return sums.products[:, one, one], sums.products[:, one, x], sums.products[:, x, x]


def _check_cells(names: set[str], data: pd.DataFrame) -> None:
    used = [column for column in data.columns if column in names]
    for column in used:
        missing = data[column].isna()
        if missing.any():
            raise DesignError(
                f"Column {column} has {missing.sum()} missing cell(s), the first at row "
                f"{missing.idxmax()}; fill or remove them on purpose, since nothing is dropped silently."
            )
        if pd.api.types.is_numeric_dtype(data[column]) and not np.isfinite(data[column]).all():
            raise DesignError(f"Column {column} has infinite cells; mend or remove them.")


def _check_design(
    data: pd.DataFrame, w: np.ndarray, names: Sequence[str], codes: np.ndarray, labels: Any, factor: str
) -> None:
    x = w[:, :-1]
    categories = getattr(data[factor].dtype, "categories", labels)
    empty = sorted(set(categories) - set(labels), key=str)
    if empty:
        raise DesignError(
            f"{factor} {empty[0]} has no rows ({len(empty)} such); drop the unused categories."
        )
    for column, name in zip(x.T, names, strict=True):
        if name != "Intercept" and np.ptp(column) == 0:
            raise DesignError(f"{name} is constant, so it has no effect to estimate; remove it.")
    size = np.abs(x).max(0)
    triangle = np.linalg.qr(x / np.where(size > 0, size, 1), mode="r")  # of the rank of x, but small
    if np.linalg.matrix_rank(triangle) < x.shape[1]:
        raise DesignError(
            "One predictor is a combination of the others, so their effects have no estimate; "
            f"remove one of {', '.join(name for name in names if name != 'Intercept')}."
        )
    if len(x) <= 2 * len(labels):
        raise DesignError(
            f"{len(x)} rows in {len(labels)} groups cannot tell {2 * len(labels)} intercepts and "
            "slopes from the residual; use groups with more rows or let the intercept vary alone."
        )


# ---------------------------------------------------------------------------------------------
# Penalties


def wishart(df: float) -> Penalty:
    """Penalty of blme's ``wishart(df, scale = Inf)``: (df - 3) / 2 times the log determinant of D.

    With df = 3 there is no penalty; with any df above 3 a singular D has density zero. blme's
    default for an intercept and a slope is df = 4.5.
    """
    if not df >= 3:
        raise ValueError(f"df = {df} rewards singular covariances; use 3 (no penalty) or more.")

    def log_density(sd_intercept, sd_slope, sd_slope_given_intercept):
        return 0 * sd_slope if df == 3 else (df - 3) * np.log(sd_intercept * sd_slope_given_intercept)

    return log_density


def gamma_on_sds(shape: float) -> Penalty:
    """Gamma of rate zero on each sd, blme's ``gamma(shape, rate = 0)``; correlation untouched."""
    if not shape >= 1:
        raise ValueError(f"shape = {shape} rewards zero variances; use 1 (no penalty) or more.")

    def log_density(sd_intercept, sd_slope, sd_slope_given_intercept):
        return (shape - 1) * np.log(sd_intercept * sd_slope)

    return log_density


def lkj(eta: float) -> Penalty:
    """LKJ density of the correlation, (eta - 1) log(1 - correlation^2); the sds are untouched."""
    if not eta >= 1:
        raise ValueError(f"eta = {eta} rewards correlations of one; use 1 (no penalty) or more.")

    def log_density(sd_intercept, sd_slope, sd_slope_given_intercept):
        ratio = sd_slope_given_intercept / sd_slope
        return 0 * sd_slope if eta == 1 else 2 * (eta - 1) * np.log(ratio)

    return log_density


# ---------------------------------------------------------------------------------------------
# Criterion and estimate


def restricted_deviance(
    sums: CrossProducts, d00: ArrayLike, d01: ArrayLike, d11: ArrayLike, sigma: ArrayLike | None = None
) -> np.ndarray:
    """Minus twice the log restricted likelihood, for many relative covariances at once.

    Parameters
    ----------
    sums : CrossProducts
    d00, d01, d11 : array_like of one shape
        Elements of the relative covariance D.
    sigma : array_like, optional
        Residual sd in the outcome's units; at its best value given D by default, which gives
        lme4's REML criterion (Bates et al. 2015, equation 42).
    """
    log_det, a = sums.reduce(d00, d01, d11)
    p = a.shape[-1] - 1
    freedom = sums.rows.sum() - p
    factor, rss = _least_squares(a)
    log_det = log_det + 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    if sigma is None:
        return log_det + freedom * (1 + np.log(2 * np.pi * rss / freedom))
    return log_det + freedom * np.log(2 * np.pi * np.square(sigma)) + rss / np.square(sigma)


def _least_squares(a):
    """Cholesky factor of the X block and the residual sum of squares; also for complex input."""
    size = a.shape[-1]
    factor = np.zeros_like(a)
    # Written out, because a complex step needs the transpose without the conjugate.
    for k in range(size):
        head = factor[..., k, :k]
        pivot = a[..., k, k] - (head * head).sum(-1)
        if k == size - 1:
            return factor[..., :-1, :-1], pivot
        factor[..., k, k] = np.sqrt(pivot)
        rest = a[..., k + 1 :, k] - (factor[..., k + 1 :, :k] * head[..., None, :]).sum(-1)
        factor[..., k + 1 :, k] = rest / factor[..., k, k, None]
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class RemlFit:
    """Estimates of one model, in the outcome's units.

    Attributes
    ----------
    fixed : pandas.DataFrame
        ``estimate``, ``se`` and ``t`` of each fixed effect.
    sd_intercept, sd_slope, correlation, sd_residual : float
    reml : float
        Minus twice the log restricted likelihood, without the penalty.
    objective : float
        The same with the penalty: what was minimised.
    group_effects : pandas.DataFrame
        Conditional mean of each group's ``intercept`` and ``slope`` deviation (lme4's ``ranef``).
    evaluations : int
    covariance : str
        What may vary, see :func:`fit_reml`.
    boundary : bool
        Whether the estimated covariance has a determinant of zero (of the intercept's variance where
        that is all there is). A penalised estimate may be `singular` by lme4's tolerance without that.
    """

    fixed: pd.DataFrame
    sd_intercept: float
    sd_slope: float
    correlation: float
    sd_residual: float
    reml: float
    objective: float
    group_effects: pd.DataFrame
    evaluations: int
    covariance: str = "full"
    boundary: bool = False

    @property
    def parameters(self) -> int:
        """Number of fixed effects, variances and correlations, the residual one counted."""
        return len(self.fixed) + len(_FREE[self.covariance]) + 1

    @property
    def aic(self) -> float:
        """REML criterion plus twice the parameters, as lme4 counts; for equal fixed effects."""
        return self.reml + 2 * self.parameters

    @property
    def smallest(self) -> float:
        """Smallest diagonal element of the relative Cholesky factor, what lme4's isSingular reads.

        The elements are the sd of the intercepts and that of the slopes given the intercepts, both
        divided by the residual one; of those that the model has.
        """
        slope = self.sd_slope * np.sqrt(1 - np.nan_to_num(self.correlation) ** 2)
        sds = [self.sd_intercept] if self.covariance == "intercept" else [self.sd_intercept, slope]
        return float(min(sds) / self.sd_residual)

    @property
    def singular(self) -> bool:
        """Whether that element is below lme4's tolerance: at the boundary, or near it."""
        return self.smallest < SINGULAR_TOLERANCE


def fit_reml(
    sums: CrossProducts, penalty: Penalty | None = None, covariance: Covariance = "full"
) -> RemlFit:
    """Maximise the restricted likelihood, penalised if asked.

    The search runs over the Cholesky factor of D, whose boundary is a coordinate plane, with
    gradients by the complex step (Squire and Trapp 1998, SIAM Review 40), exact to rounding. The
    slope's predictor is put on its own scale first (and centred, where intercepts and slopes are
    correlated and may be turned into one another), so that its units do not matter.

    Parameters
    ----------
    sums : CrossProducts
    penalty : callable, optional
        Log prior density on the relative scale, such as :func:`wishart`.
    covariance : {"full", "diagonal", "intercept"}
        ``(x | g)``, lme4's ``(x || g)``, whose correlation is 0, or ``(1 | g)``. The latter two have no
        penalty.

    Raises
    ------
    ValueError
        If a penalty is asked for with a reduced covariance.
    ConvergenceError
        If no start ends where the gradient vanishes.
    """
    if penalty is not None and covariance != "full":
        raise ValueError("A penalty is for the full covariance; fit the reduced models without one.")
    search = _Search(sums, penalty, covariance)
    best: Any
    best, evaluations = None, 0
    starts = [[1.0, 0.0, 1.0], [0.3, 0.02, 0.05]]
    while starts:
        result = search.minimise(starts.pop(0))
        evaluations += result.nfev
        if best is None or result.fun < best.fun - 1e-9:
            best = result
            if len(_FREE[covariance]) == 3 and penalty is None and abs(best.x[2]) < 1e-3:
                # at the boundary a correlation of one and of minus one may both be lowest around
                a, b, _ = best.x
                starts += [[max(a, 0.03), -b, 0.02], [max(a, 0.03), b, 0.1]]
    theta = search.snap(search.polish(best.x))
    objective, gradient = search(theta)
    inside = np.zeros(3, bool)
    inside[list(_FREE[covariance])] = True
    inside &= theta > [1e-8, -np.inf, 1e-8]
    if not np.isfinite(objective) or np.abs(gradient[inside]).max(initial=0) > 1e-3:
        raise ConvergenceError(
            "The restricted likelihood has no minimum that the search could reach; "
            "look at its profile before you trust any estimate."
        )
    return _describe(search, theta, objective, evaluations)


class _Search:
    """The criterion over (a, b, c), the Cholesky factor for a predictor on its own scale."""

    def __init__(self, sums: CrossProducts, penalty: Penalty | None, covariance: str):
        n, x, xx = (part.sum() for part in _spread_within(sums))
        spread = np.sqrt(max(xx / n - (x / n) ** 2, 1e-300))
        middle = x / n if covariance == "full" else 0.0
        turn = np.eye(len(sums.terms) + 1)
        one, slope = sums.varying
        turn[slope, slope], turn[one, slope] = 1 / spread, -middle / spread
        self.back = np.array([[1, -middle / spread], [0, 1 / spread]])  # effects in the table's units
        self.turn = turn
        products = turn.T @ sums.products @ turn
        self.sums = CrossProducts(sums.groups, sums.terms, sums.varying, sums.rows, products)
        self.penalty, self.covariance = penalty, covariance
        self.shift = 2 * np.log(spread)  # of the criterion, whose fixed effects changed their scale

    def relative(self, theta):
        """Elements of D, for a Cholesky factor on this scale, in the table's units."""
        a, b, c = theta
        (p, q), (_, s) = self.back
        first = a * p + b * q
        return first**2 + (c * q) ** 2, s * (first * b + c * c * q), s * s * (b * b + c * c)

    def __call__(self, theta):
        """Penalised deviance and its gradient."""
        step = 1e-20
        a, b, c = (np.asarray(theta) + 1j * step * np.eye(3)).T
        value = restricted_deviance(self.sums, a * a, a * b, b * b + c * c) + self.shift
        if self.penalty is not None:
            d00, _, d11 = self.relative((a, b, c))
            intercept = np.sqrt(d00)
            value = value - 2 * self.penalty(
                intercept, np.sqrt(d11), a * c * self.back[1, 1] / intercept
            )
        free = np.isin(range(3), _FREE[self.covariance])
        return value.real.mean(), value.imag / step * free

    def minimise(self, start):
        low = 0 if self.penalty is None else 1e-6
        bounds: list[tuple] = [(1e-9, None), (None, None), (low, None)]
        free = _FREE[self.covariance]
        bounds = [bounds[k] if k in free else (0, 0) for k in range(3)]
        start = np.where(np.isin(range(3), free), start, 0)
        return minimize(
            self,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"ftol": 1e-16, "gtol": 1e-7, "maxiter": 500},
        )

    def polish(self, theta):
        """Newton steps with a Hessian from exact gradients, on the coordinates off the boundary."""
        free = np.flatnonzero(np.asarray(theta) > [1e-6, -np.inf, 1e-6])
        free = np.intersect1d(free, _FREE[self.covariance])
        for _ in range(4):
            value, gradient = self(theta)
            hessian = np.empty((free.size, free.size))
            for row, k in enumerate(free):
                h = 1e-5 * max(abs(theta[k]), 1e-3)
                shift = h * np.eye(3)[k]
                up, down = (self(theta + s * shift)[1] for s in (1, -1))
                hessian[row] = ((up - down) / (2 * h))[free]
            try:
                step = np.linalg.solve((hessian + hessian.T) / 2, gradient[free])
            except np.linalg.LinAlgError:
                return theta
            candidate = theta.copy()
            candidate[free] -= step
            if (candidate[[0, 2]] < 0).any():
                return theta
            new_value, new_gradient = self(candidate)
            largest = np.abs(gradient[free]).max(initial=0)
            worse = np.abs(new_gradient[free]).max(initial=0) >= largest
            if worse or new_value > value + 1e-6:
                return theta
            theta = candidate
        return theta

    def snap(self, theta):
        """Set to zero what the search drove there but for its tolerance, where that is no worse."""
        if self.penalty is not None:
            return theta
        for k in (2, 1, 0):
            candidate = theta.copy()
            candidate[k] = 0
            if k == 0:  # then nothing tells the other two apart
                candidate[1:] = 0, np.hypot(*theta[1:])
            may = abs(theta[k]) < 0.01 and (k != 1 or theta[2] == 0)
            if may and self(candidate)[0] <= self(theta)[0] + 1e-8:
                theta = candidate
        return theta


def _describe(search: _Search, theta: np.ndarray, objective: float, evaluations: int) -> RemlFit:
    sums = search.sums
    a, b, c = theta
    d = np.array([[a * a, a * b], [a * b, b * b + c * c]])
    _, matrix = sums.reduce(d[0, 0], d[0, 1], d[1, 1])
    p = matrix.shape[0] - 1
    spread = np.linalg.inv(matrix[:p, :p])
    beta = spread @ matrix[:p, p]
    freedom = sums.rows.sum() - p
    sigma = np.sqrt((matrix[p, p] - matrix[:p, p] @ beta) / freedom)
    z = list(sums.varying)
    c_j = sums.products[:, z]
    shrink = np.linalg.solve(np.eye(2) + d @ c_j[:, :, z], np.broadcast_to(d, (len(c_j), 2, 2)))
    effects = np.einsum("jab,jb->ja", shrink, c_j[..., p] - c_j[..., :p] @ beta)
    turn = search.turn[:p, :p]
    beta, spread = turn @ beta, turn @ spread @ turn.T
    se = sigma * np.sqrt(np.diag(spread))
    d00, d01, d11 = search.relative(theta)
    intercept, slope = np.sqrt(d00), np.sqrt(d11)
    boundary = a == 0 or (c == 0 and search.covariance != "intercept")
    correlation = 0.0 if search.covariance == "diagonal" else np.nan
    if search.covariance == "full" and d00 * d11 > 0:
        correlation = float(np.sign(d01) if boundary else d01 / (intercept * slope))
    return RemlFit(
        fixed=pd.DataFrame(
            {"estimate": beta, "se": se, "t": beta / se}, index=pd.Index(sums.terms, name="term")
        ),
        sd_intercept=float(sigma * intercept),
        sd_slope=float(sigma * slope),
        correlation=correlation,
        sd_residual=float(sigma),
        reml=float(restricted_deviance(sums, d[0, 0], d[0, 1], d[1, 1]) + search.shift),
        objective=float(objective),
        group_effects=pd.DataFrame(
            effects @ search.back.T,
            index=pd.Index(sums.groups, name="group"),
            columns=["intercept", "slope"],
        ),
        evaluations=evaluations,
        covariance=search.covariance,
        boundary=bool(boundary),
    )


def profile(
    sums: CrossProducts, sd_slope: ArrayLike, correlation: ArrayLike, penalty: Penalty | None = None
) -> np.ndarray:
    """Minimise the (penalised) deviance over everything but the slope's sd and the correlation.

    Parameters
    ----------
    sums : CrossProducts
    sd_slope : array_like
        Positive sds of the slope, in the outcome's units per unit of the predictor.
    correlation : array_like
        Correlations, broadcast against ``sd_slope``.
    penalty : callable, optional
        Log prior density on the relative scale, such as :func:`wishart`.

    Returns
    -------
    numpy.ndarray
        Minus twice the (penalised) log restricted likelihood at its best, per grid point.
    """
    sd, r = np.broadcast_arrays(np.asarray(sd_slope, float), np.asarray(correlation, float))
    if (sd <= 0).any() or (np.abs(r) > 1).any():
        raise ValueError("The slope's sd must be positive and the correlation within -1 and 1.")
    shape, sd, r = sd.shape, sd.ravel(), r.ravel()
    fit = fit_reml(sums, penalty)

    with np.errstate(divide="ignore"):  # a penalty may forbid a correlation of one
        return _minimise_others(sums, sd, r, penalty, fit).reshape(shape)


def _minimise_others(sums, sd, r, penalty, fit):
    """Newton in the intercept's ratio and in sigma, for all grid points together."""
    conditional = np.sqrt(1 - r**2)

    def deviance(log_ratio, log_sigma):
        ratio, slope = np.exp(log_ratio), sd / np.exp(log_sigma)
        value = restricted_deviance(sums, ratio**2, r * ratio * slope, slope**2, np.exp(log_sigma))
        return value if penalty is None else value - 2 * penalty(ratio, slope, slope * conditional)

    x = np.full(sd.size, np.log(fit.sd_intercept / fit.sd_residual))
    y = np.full(sd.size, np.log(fit.sd_residual))
    h, k = 1e-2, 2e-3  # steps for the intercept's ratio and for sigma, both on the log scale
    for _ in range(8):
        f = deviance(x, y)
        right, left, up, down = (
            deviance(x + h, y), deviance(x - h, y), deviance(x, y + k), deviance(x, y - k),
        )  # fmt: skip
        gx, gy = (right - left) / (2 * h), (up - down) / (2 * k)
        fxx, fyy = (right - 2 * f + left) / h**2, (up - 2 * f + down) / k**2
        fxy = (deviance(x + h, y + k) - right - up + f) / (h * k)
        det = fxx * fyy - fxy**2
        convex = (det > 0) & (fxx > 0)
        dx = np.where(convex, (fyy * gx - fxy * gy) / det, np.sign(gx) * 0.1)
        dy = np.where(convex, (fxx * gy - fxy * gx) / det, np.sign(gy) * 0.01)
        x, y = x - np.clip(dx, -0.5, 0.5), y - np.clip(dy, -0.05, 0.05)
        if max(np.abs(dx).max(), np.abs(dy).max()) < 1e-3:
            break
    return deviance(x, y)
