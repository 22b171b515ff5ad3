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
from typing import TYPE_CHECKING, Any

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
        sums = (1 / det) @ self._quad.reshape(len(self.groups), -1)
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
        from formulae import design_matrices, model_description
    except ImportError as error:
        raise ImportError(
            "Reading a formula needs formulae; install it with: pip install fieldguide[models]"
        ) from error
    _check_cells(model_description(formula).var_names, data)
    try:
        design = design_matrices(formula, data, na_action="error")
    except KeyError as error:
        raise DesignError(f"The table has no column {error}; correct the formula.") from None
    group_terms = list(design.group.terms.values()) if design.group is not None else []
    shape = [term.kind for term in group_terms]
    if shape != ["intercept", "numeric"] or len({term.factor.name for term in group_terms}) != 1:
        raise DesignError(
            "The formula needs one term like (ses | school): an intercept and one slope that vary."
        )
    x = design.common.as_dataframe()
    names = ["Intercept", group_terms[1].expr.name]
    if not set(names) <= set(x.columns):
        raise DesignError(
            f"{names[1]} varies over groups but has no fixed effect; add it to the formula."
        )
    codes, labels = pd.factorize(data[group_terms[0].factor.name], sort=True)
    w = np.column_stack([x.to_numpy(float), np.ravel(np.asarray(design.response))])
    _check_design(data, w[:, :-1], x.columns, codes, labels, group_terms[0].factor.name)
    rows = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(rows)[:-1]])
    order = np.argsort(codes, kind="stable")
    outer = w[order, :, None] * w[order, None, :]
    return CrossProducts(
        groups=tuple(map(str, labels)),
        terms=tuple(x.columns),
        varying=(x.columns.get_loc(names[0]), x.columns.get_loc(names[1])),
        rows=rows,
        products=np.add.reduceat(outer, starts),
    )


def _check_cells(names: set[str], data: pd.DataFrame) -> None:
    used = [column for column in data.columns if column in names]
    missing = data[used].isna()
    if missing.to_numpy().any():
        column = missing.any().idxmax()
        row = missing[column].idxmax()
        raise DesignError(
            f"Column {column} has {missing[column].sum()} missing cell(s), the first at row {row}; "
            "fill or remove them on purpose, since nothing is dropped silently."
        )


def _check_design(
    data: pd.DataFrame, x: np.ndarray, names: Sequence[str], codes: np.ndarray, labels: Any, factor: str
) -> None:
    categories = getattr(data[factor].dtype, "categories", labels)
    empty = sorted(set(categories) - set(labels), key=str)
    if empty:
        raise DesignError(
            f"{factor} {empty[0]} has no rows ({len(empty)} such); drop the unused categories."
        )
    for column, name in zip(x.T, names, strict=True):
        if name != "Intercept" and np.ptp(column) == 0:
            raise DesignError(f"{name} is constant, so it has no effect to estimate; remove it.")
    if np.linalg.matrix_rank(x) < x.shape[1]:
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

    @property
    def singular(self) -> bool:
        """Whether the relative Cholesky factor has a zero on its diagonal, lme4's isSingular."""
        smallest = min(self.sd_intercept, self.sd_slope * np.sqrt(1 - self.correlation**2))
        return bool(smallest / self.sd_residual < SINGULAR_TOLERANCE)


def fit_reml(sums: CrossProducts, penalty: Penalty | None = None) -> RemlFit:
    """Maximise the restricted likelihood, penalised if asked.

    The search runs over the Cholesky factor of D, whose boundary is a coordinate plane, with
    gradients by the complex step (Squire and Trapp 1998, SIAM Review 40), exact to rounding.

    Parameters
    ----------
    sums : CrossProducts
    penalty : callable, optional
        Log prior density on the relative scale, such as :func:`wishart`.

    Raises
    ------
    ConvergenceError
        If no start ends where the gradient vanishes.
    """
    best: Any
    best, evaluations = None, 0
    for start in ([1.0, 0.0, 1.0], [0.3, 0.02, 0.05]):
        result = minimize(
            _objective,
            start,
            args=(sums, penalty),
            jac=True,
            method="L-BFGS-B",
            bounds=[(1e-9, None), (None, None), (0 if penalty is None else 1e-6, None)],
            options={"ftol": 1e-16, "gtol": 1e-7, "maxiter": 500},
        )
        evaluations += result.nfev
        if best is None or result.fun < best.fun:
            best = result
    theta = _polish(best.x, sums, penalty)
    objective, gradient = _objective(theta, sums, penalty)
    inside = theta > [1e-8, -np.inf, 1e-8]
    if not np.isfinite(objective) or np.abs(gradient[inside]).max() > 1e-3:
        raise ConvergenceError(
            "The restricted likelihood has no minimum that the search could reach; "
            "look at its profile before you trust any estimate."
        )
    return _describe(theta, sums, objective, evaluations)


def _objective(theta, sums, penalty):
    """Penalised deviance and its gradient at one Cholesky factor (a, b, c)."""
    step = 1e-20
    a, b, c = (np.asarray(theta) + 1j * step * np.eye(3)).T
    value = restricted_deviance(sums, a * a, a * b, b * b + c * c)
    if penalty is not None:
        slope = np.sqrt(b * b + c * c)
        value = value - 2 * penalty(a, slope, c)
    return value.real.mean(), value.imag / step


def _polish(theta, sums, penalty):
    """Newton steps with a Hessian from exact gradients, on the coordinates off the boundary."""
    free = np.flatnonzero(np.asarray(theta) > [1e-6, -np.inf, 1e-6])
    for _ in range(4):
        value, gradient = _objective(theta, sums, penalty)
        hessian = np.empty((free.size, free.size))
        for row, k in enumerate(free):
            h = 1e-5 * max(abs(theta[k]), 1e-3)
            shift = h * np.eye(3)[k]
            up, down = (_objective(theta + s * shift, sums, penalty)[1] for s in (1, -1))
            hessian[row] = ((up - down) / (2 * h))[free]
        try:
            step = np.linalg.solve((hessian + hessian.T) / 2, gradient[free])
        except np.linalg.LinAlgError:
            return theta
        candidate = theta.copy()
        candidate[free] -= step
        if (candidate[[0, 2]] < 0).any():
            return theta
        new_value, new_gradient = _objective(candidate, sums, penalty)
        worse = np.abs(new_gradient[free]).max() >= np.abs(gradient[free]).max()
        if worse or new_value > value + 1e-6:
            return theta
        theta = candidate
    return theta


def _describe(theta: np.ndarray, sums: CrossProducts, objective: float, evaluations: int) -> RemlFit:
    a, b, c = theta
    d = np.array([[a * a, a * b], [a * b, b * b + c * c]])
    _, matrix = sums.reduce(d[0, 0], d[0, 1], d[1, 1])
    p = matrix.shape[0] - 1
    beta = np.linalg.solve(matrix[:p, :p], matrix[:p, p])
    freedom = sums.rows.sum() - p
    sigma = np.sqrt((matrix[p, p] - matrix[:p, p] @ beta) / freedom)
    se = sigma * np.sqrt(np.diag(np.linalg.inv(matrix[:p, :p])))
    z = list(sums.varying)
    c_j = sums.products[:, z]
    shrink = np.linalg.solve(np.eye(2) + d @ c_j[:, :, z], np.broadcast_to(d, (len(c_j), 2, 2)))
    effects = np.einsum("jab,jb->ja", shrink, c_j[..., p] - c_j[..., :p] @ beta)
    slope = np.hypot(b, c)
    return RemlFit(
        fixed=pd.DataFrame(
            {"estimate": beta, "se": se, "t": beta / se}, index=pd.Index(sums.terms, name="term")
        ),
        sd_intercept=float(sigma * a),
        sd_slope=float(sigma * slope),
        correlation=float(b / slope) if slope > 0 else np.nan,
        sd_residual=float(sigma),
        reml=float(restricted_deviance(sums, d[0, 0], d[0, 1], d[1, 1])),
        objective=float(objective),
        group_effects=pd.DataFrame(
            effects, index=pd.Index(sums.groups, name="group"), columns=["intercept", "slope"]
        ),
        evaluations=evaluations,
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
