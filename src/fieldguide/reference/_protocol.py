"""What every exact answer can be asked, whichever model it belongs to, and the code they share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from fieldguide.problem import Problem, plain_label

PROBS = (0.055, 0.5, 0.945)
"""Probabilities of the quantiles in a summary: the median and the ends of an 89% interval."""


class ExactPosteriorError(ArithmeticError):
    """The computation could not reach its accuracy, so no answer is given."""


@runtime_checkable
class Reference(Protocol):
    """An exact answer, whichever model it belongs to.

    Variables are named as in a fit, and each answers on its own scale. An unknown variable or
    label raises a ValueError that names what there is. An answer may know only the moments of some
    variables, whose quantiles are then NaN in ``summary``, and densities of none (the trial's):
    asking for them raises a ValueError. `ExactPosteriorError` is raised where moments, and in the
    districts' answer quantiles, would be inaccurate.

    Attributes
    ----------
    problem : Problem
        Model, priors and data that the answer belongs to.
    mean, sd : xarray.Dataset
        Posterior means and standard deviations.
    error : float
        Estimated error of the means, the largest, in posterior standard deviations. Distribution
        functions of the trial's answer carry Monte Carlo error besides.
    summary : xarray.Dataset
        Means, sds and quantiles along one dimension ``statistic``.
    neck : str or None
        The standard deviation whose small values are hard to sample; None if there is none.
    """

    @property
    def problem(self) -> Problem: ...

    @property
    def mean(self) -> xr.Dataset: ...

    @property
    def sd(self) -> xr.Dataset: ...

    @property
    def error(self) -> float: ...

    @property
    def summary(self) -> xr.Dataset: ...

    @property
    def neck(self) -> str | None: ...

    def cdf(self, name: str, x: ArrayLike | xr.DataArray, **where: Any) -> xr.DataArray:
        """Posterior probability that a variable is at most ``x``."""
        ...

    def pdf(self, name: str, x: ArrayLike | xr.DataArray, **where: Any) -> xr.DataArray:
        """Marginal posterior density of a variable at ``x``."""
        ...

    def quantile(self, q: float | Sequence[float], var_names: Sequence[str] | None = None) -> xr.Dataset:
        """Quantiles, with dimension ``quantile`` if ``q`` is a sequence."""
        ...

    def interval(self, prob: float = 0.89, var_names: Sequence[str] | None = None) -> xr.Dataset:
        """Equal-tailed intervals, with dimension ``bound`` (lower, upper)."""
        ...

    def to_series(self) -> pd.Series:
        """Posterior means, labelled as ``az.summary`` labels its rows."""
        ...


def flat(dataset: xr.Dataset) -> pd.Series:
    """One value per scalar parameter, labelled as ``az.summary`` labels its rows.

    Parameters
    ----------
    dataset : xarray.Dataset
        Scalars and arrays with coordinates.

    Returns
    -------
    pandas.Series
        Indexed by ``sigma``, ``alpha[3]``, ``beta[ses]``, in the order of the variables.
    """
    parts = {}
    for name, variable in dataset.data_vars.items():
        if not variable.dims:
            parts[name] = float(variable)
            continue
        for key, value in variable.to_series().items():
            key = key if isinstance(key, tuple) else (key,)
            parts[f"{name}[{', '.join(map(str, key))}]"] = value
    return pd.Series(parts, dtype=float)


class Posterior:
    """What the answers share: labels, shapes, and the questions in terms of three methods.

    A subclass has the attributes of `Reference` and the methods ``_cdf(name, i, x)`` and
    ``_pdf(name, i, x)`` for finite ``x`` of shape (K,), and ``_quantile(name, i, q)`` for
    probabilities of shape (Q,); ``i`` is the position of the element, None for a scalar.
    """

    probs: tuple[float, ...] = PROBS
    neck: str | None = None

    if TYPE_CHECKING:

        @property
        def mean(self) -> xr.Dataset: ...

        @property
        def sd(self) -> xr.Dataset: ...

        def _quantile(self, name: str, position: int | None, q: np.ndarray) -> np.ndarray: ...

    @property
    def _with_quantiles(self) -> list[str]:
        """Variables whose distribution function is known."""
        return list(cast("dict[str, xr.DataArray]", self.mean.data_vars))

    @property
    def _with_density(self) -> list[str]:
        return list(cast("dict[str, xr.DataArray]", self.mean.data_vars))

    def _check_name(self, name: str, known: Sequence[str], what: str) -> None:
        if name not in self.mean.data_vars:
            raise ValueError(
                f"Unknown variable {name!r}; this model has "
                f"{', '.join(cast('Sequence[str]', self.mean.data_vars))}."
            )
        if name not in known:
            raise ValueError(
                f"This answer has no {what} of {name}, "
                + (f"only of {', '.join(known)}." if known else f"nor a {what} of any variable.")
            )

    def _position(self, name: str, where: dict) -> int | None:
        """Position of the element that ``where`` selects, None for a scalar."""
        where = {dim: label for dim, label in where.items() if label is not None}
        dims = cast("tuple[str, ...]", self.mean[name].dims)
        for dim in where:
            if dim not in dims:
                has = f"it has {', '.join(dims)}" if dims else "it is one number"
                raise ValueError(f"{name} has no dimension {dim!r}; {has}.")
        if not dims:
            return None
        (dim,) = dims
        labels = [plain_label(label) for label in self.mean[dim].values]
        label = where.get(dim)
        if label is None or plain_label(label) not in labels:
            raise ValueError(f"{name} needs {dim}=, one of {', '.join(labels)}; got {label!r}.")
        return labels.index(plain_label(label))

    def _evaluate(self, kind: str, name: str, x: ArrayLike | xr.DataArray, where: dict) -> xr.DataArray:
        position = self._position(name, where)
        if isinstance(x, xr.DataArray):
            template = x
        else:
            x = np.asarray(x, dtype=float)
            if x.ndim > 1:
                raise ValueError(f"x must be a number or one-dimensional; it has {x.ndim} axes.")
            template = xr.DataArray(x, dims=[name] if x.ndim else [])
            if x.ndim:
                template = template.assign_coords({name: x})
        value = np.asarray(template.values, dtype=float)
        out = np.where(np.isnan(value), np.nan, 0.0)
        if kind == "cdf":
            out[value == np.inf] = 1.0
        finite = np.isfinite(value)
        if finite.any():
            out[finite] = getattr(self, f"_{kind}")(name, position, value[finite])
        return template.copy(data=out).rename(kind)

    def cdf(self, name: str, x: ArrayLike | xr.DataArray, **where: Any) -> xr.DataArray:
        """Posterior probability that a variable is at most ``x``; NaN where ``x`` is NaN.

        Parameters
        ----------
        name : str
            A variable of `mean`.
        x : float, array_like of shape (K,), or xarray.DataArray
            In the unit of the variable.
        **where
            The element of a variable that has several, such as ``district=3``.

        Raises
        ------
        ValueError
            If the variable or the label is unknown.
        """
        self._check_name(name, self._with_quantiles, "distribution function")
        return self._evaluate("cdf", name, x, where)

    def pdf(self, name: str, x: ArrayLike | xr.DataArray, **where: Any) -> xr.DataArray:
        """Marginal posterior density of a variable at ``x``, per unit of the variable.

        Parameters and errors as in `cdf`.
        """
        self._check_name(name, self._with_density, "density")
        return self._evaluate("pdf", name, x, where)

    def quantile(self, q: float | Sequence[float], var_names: Sequence[str] | None = None) -> xr.Dataset:
        """Values below which given shares of the posterior lie.

        Parameters
        ----------
        q : float or sequence of float
            Probabilities, strictly between 0 and 1.
        var_names : str or sequence of str, optional
            All variables whose distribution function is known if not given.

        Returns
        -------
        xarray.Dataset
            With dimension ``quantile`` if ``q`` is a sequence.

        Raises
        ------
        ValueError
            If a probability or a variable is not one.
        ExactPosteriorError
            If a quantile would be inaccurate.
        """
        values = np.atleast_1d(np.asarray(q, dtype=float))
        if values.ndim > 1 or not ((values > 0) & (values < 1)).all():
            raise ValueError("A quantile's probability must lie strictly between 0 and 1.")
        names = [var_names] if isinstance(var_names, str) else var_names
        data: dict[str, tuple] = {}
        for name in self._with_quantiles if names is None else names:
            self._check_name(name, self._with_quantiles, "quantile")
            dims = self.mean[name].dims
            if dims:
                found = [self._quantile(name, i, values) for i in range(self.mean[name].size)]
                data[name] = (("quantile", *dims), np.stack(found, axis=1))
            else:
                data[name] = ("quantile", self._quantile(name, None, values))
        used = {dim for dims, _ in data.values() for dim in dims}
        coords = {dim: values for dim, values in self.mean.coords.items() if dim in used}
        result = xr.Dataset(data, coords={"quantile": values, **coords})
        return result if np.ndim(q) else result.isel(quantile=0)

    def interval(self, prob: float = 0.89, var_names: Sequence[str] | None = None) -> xr.Dataset:
        """Equal-tailed intervals, with dimension ``bound`` (lower, upper).

        Parameters
        ----------
        prob : float
            Probability inside, strictly between 0 and 1.
        var_names : str or sequence of str, optional
            As in `quantile`.
        """
        tail = (1 - prob) / 2
        ends = self.quantile([tail, 1 - tail], var_names).drop_vars("quantile")
        return ends.rename(quantile="bound").assign_coords(bound=["lower", "upper"])

    @cached_property
    def summary(self) -> xr.Dataset:
        """Means, sds and the quantiles ``probs`` of every variable, along ``statistic``.

        Quantiles of a variable of which only moments are known are NaN.
        """
        names = ["mean", "sd", *(f"{100 * q:g}%" for q in self.probs)]
        quantiles = self.quantile(self.probs)
        data = {}
        for name, mean in self.mean.data_vars.items():
            ends = (
                quantiles[name].values
                if name in quantiles
                else np.full((len(self.probs), *mean.shape), np.nan)
            )
            data[name] = (("statistic", *mean.dims), np.stack([mean, self.sd[name], *ends]))
        return xr.Dataset(data, coords={"statistic": names, **self.mean.coords})

    def to_series(self) -> pd.Series:
        """Posterior means, labelled as ``az.summary`` labels its rows, without probabilities.

        Returns
        -------
        pandas.Series
            Indexed by ``alpha_bar``, ``alpha[1]``, ``site_effect[A]``, ``beta[ses]``; ``p`` and
            ``p_bar``, which are other scales of the same effects, are left out.
        """
        return flat(self.mean.drop_vars(["p", "p_bar"], errors="ignore"))
