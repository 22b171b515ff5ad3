r"""PyMC models of the schools: a varying intercept and slope, in several forms.

For student :math:`i` of school :math:`j`,

.. math::

   \mathrm{math}_i \sim \mathrm{Normal}(a_j + b_j\,\mathrm{ses}_i, \sigma), \quad
   a_j = \beta_0 + \beta_2 w_j + u_{0j}, \quad b_j = \beta_1 + \beta_3 w_j + u_{1j}, \quad
   u_j \sim \mathrm{Normal}(0, \Sigma),

with :math:`w_j = 1` for Catholic schools. All that the likelihood needs of a school are the sums
of `fieldguide.reml.CrossProducts`; the row-per-student form says the same for 45 times the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import scipy.stats
import xarray as xr

from fieldguide.models.graph import as_pymc_prior, declare
from fieldguide.reference.schools import schools_problem
from fieldguide.reml import CrossProducts, cross_products

if TYPE_CHECKING:
    import bambi as bmb

FORMULA = "math ~ ses * catholic + (ses | school)"
PARAMETERIZATIONS = ("integrated", "centered", "non-centered")
COORDINATES = ("packed", "scaled")
"""Of the covariance: PyMC's packed Cholesky factor, or the sds and the correlation themselves."""

PRIORS = {
    "sd_prior": scipy.stats.halfnorm(scale=5),
    "sigma_prior": scipy.stats.halfnorm(scale=10),
    "fixed_prior": (0.0, 20.0),
}
"""Priors of the schools' chapters, in points of the score, as `schools_posterior` takes them."""

LKJ_ETA = 2.0
"""Shape of its LKJ prior on the correlation."""


def with_catholic(schools: pd.DataFrame) -> pd.DataFrame:
    """Return the schools sorted by school, with ``catholic`` (0 or 1) for the formula."""
    table = schools.sort_values("school", kind="stable", ignore_index=True)
    return table.assign(catholic=(table["sector"] == "Catholic").astype(int))


class SchoolSums:
    """The sums of a `CrossProducts` by their names, one entry per school, shape (school,).

    Attributes
    ----------
    n, w : numpy.ndarray
        Students, and whether the school is Catholic.
    x, y, xx, xy, yy : numpy.ndarray
        Sums of ses, of math, and of their squares and products.
    """

    def __init__(self, sums: CrossProducts):
        terms = [*sums.terms, "math"]
        one, ses, catholic, math = map(terms.index, ("Intercept", "ses", "catholic", "math"))
        p = sums.products
        self.n, self.x, self.y = p[:, one, one], p[:, one, ses], p[:, one, math]
        self.xx, self.xy, self.yy = p[:, ses, ses], p[:, ses, math], p[:, math, math]
        self.w = p[:, one, catholic] / self.n

    def residual_squares(self, a, b):
        """Sum of squares around the line with intercept a and slope b, shape (school,)."""
        linear = self.yy - 2 * a * self.y - 2 * b * self.xy
        return linear + a**2 * self.n + 2 * a * b * self.x + b**2 * self.xx


def schools_model(
    schools: pd.DataFrame,
    *,
    parameterization: str = "integrated",
    coordinates: str = "packed",
    rows: bool = False,
) -> pm.Model:
    """Build the varying-intercept, varying-slope model of the schools.

    Parameters
    ----------
    schools : pandas.DataFrame
        Rows as `fieldguide.data.load_schools` returns them.
    parameterization : {"integrated", "centered", "non-centered"}
        Without the schools' effects, or with them in one of two coordinates.
    coordinates : {"packed", "scaled"}
        How the covariance of the effects is sampled: as elements of its Cholesky factor
        (``pm.LKJCholeskyCov``), or as two sds and a correlation. The integrated form has the
        second only and ignores this.
    rows : bool
        One normal likelihood per student instead of sums per school.

    Returns
    -------
    pymc.Model
        With variables ``beta`` (dimension ``term``), ``sigma``, ``sd_intercept``, ``sd_slope``,
        ``correlation``, and ``u`` or ``z`` (school, effect) where effects are sampled.

    Raises
    ------
    ValueError
        If a name is unknown, or ``rows`` is asked of the integrated form.
    """
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(
            f"Unknown parameterization {parameterization!r}; use one of {', '.join(PARAMETERIZATIONS)}."
        )
    if coordinates not in COORDINATES:
        raise ValueError(f"Unknown coordinates {coordinates!r}; use one of {', '.join(COORDINATES)}.")
    if rows and parameterization == "integrated":
        raise ValueError("Integrated over the schools' effects there are no rows left; use sums.")
    table = with_catholic(schools)
    sums = cross_products(FORMULA, table)
    s = SchoolSums(sums)
    coords = {"term": sums.terms, "school": sums.groups, "effect": ["intercept", "slope"]}
    with pm.Model(coords=coords) as model:
        beta = pm.Normal("beta", *PRIORS["fixed_prior"], dims="term")
        sigma = as_pymc_prior("sigma", PRIORS["sigma_prior"])
        a, b = beta[0] + beta[2] * s.w, beta[1] + beta[3] * s.w
        if parameterization == "integrated":
            sd0, sd1, r = _scaled_covariance()
            pm.Potential("math", _integrated_log_density(s, a, b, sd0, sd1, r, sigma))
        else:
            chol = _packed_factor() if coordinates == "packed" else _scaled_factor()
            if parameterization == "centered":
                u = pm.MvNormal("u", 0, chol=chol, dims=("school", "effect"))
            else:
                u = pm.Normal("z", 0, 1, dims=("school", "effect")) @ chol.T
            a, b = a + u[:, 0], b + u[:, 1]
            if rows:
                j = pd.factorize(table["school"])[0]
                mu = a[j] + b[j] * table["ses"].to_numpy()
                pm.Normal("math", mu, sigma, observed=table["math"].to_numpy())
            else:
                loss = s.residual_squares(a, b).sum()
                pm.Potential("math", -s.n.sum() * pt.log(sigma) - loss / (2 * sigma**2))
    return declare(model, schools_problem(sums, lkj_eta=LKJ_ETA, **PRIORS), parameterization)


def _scaled_covariance():
    """Sds and correlation, each sampled in its own coordinate."""
    sd0 = as_pymc_prior("sd_intercept", PRIORS["sd_prior"])
    sd1 = as_pymc_prior("sd_slope", PRIORS["sd_prior"])
    half = pm.Beta("half", LKJ_ETA, LKJ_ETA)
    return sd0, sd1, pm.Deterministic("correlation", 2 * half - 1)


def _scaled_factor():
    sd0, sd1, r = _scaled_covariance()
    zero = pt.zeros_like(sd0)
    return pt.stack([pt.stack([sd0, zero]), pt.stack([r * sd1, sd1 * pt.sqrt(1 - r**2)])])


def _packed_factor():
    """Cholesky factor in the coordinates of PyMC's LKJCholeskyCov: its own elements."""
    sd_dist = pm.HalfNormal.dist(PRIORS["sd_prior"].kwds["scale"], size=2)
    chol, corr, sds = pm.LKJCholeskyCov("lkj", n=2, eta=LKJ_ETA, sd_dist=sd_dist, compute_corr=True)
    pm.Deterministic("sd_intercept", sds[0])
    pm.Deterministic("sd_slope", sds[1])
    pm.Deterministic("correlation", corr[0, 1])
    return chol


def _integrated_log_density(
    s: SchoolSums, a: Any, b: Any, sd0: Any, sd1: Any, r: Any, sigma: Any
) -> Any:
    """Log density of all scores with the schools' effects integrated out (`fieldguide.reml`)."""
    v = sigma**2
    e0, e1 = s.y - s.n * a - s.x * b, s.xy - s.x * a - s.xx * b
    d00, d01, d11 = sd0**2 / v, r * sd0 * sd1 / v, sd1**2 / v
    size = d00 * d11 * (1 - r**2)
    det = 1 + d00 * s.n + 2 * d01 * s.x + d11 * s.xx + size * (s.n * s.xx - s.x**2)
    explained = (d00 + size * s.xx) * e0**2 + 2 * (d01 - size * s.x) * e0 * e1
    explained += (d11 + size * s.n) * e1**2
    parts = s.n * pt.log(v) + pt.log(det) + (s.residual_squares(a, b) - explained / det) / v
    return -0.5 * parts.sum()


BAMBI_TERMS = ("Intercept", "ses", "catholic", "ses:catholic")


def bambi_schools(schools: pd.DataFrame, *, noncentered: bool) -> bmb.Model:
    """Build the model in Bambi, whose intercepts and slopes are independent: correlation zero.

    Parameters
    ----------
    schools : pandas.DataFrame
        Rows as `fieldguide.data.load_schools` returns them.
    noncentered : bool
        Bambi's own switch.

    Returns
    -------
    bambi.Model
        Built.
    """
    import bambi as bmb  # takes seconds, and few callers need it

    sd_scale, sigma_scale = (PRIORS[k].kwds["scale"] for k in ("sd_prior", "sigma_prior"))
    mean, sd = PRIORS["fixed_prior"]
    group = bmb.Prior("Normal", mu=0, sigma=bmb.Prior("HalfNormal", sigma=sd_scale))
    priors = {name: bmb.Prior("Normal", mu=mean, sigma=sd) for name in BAMBI_TERMS}
    priors |= {"1|school": group, "ses|school": group}
    priors["sigma"] = bmb.Prior("HalfNormal", sigma=sigma_scale)
    table = with_catholic(schools)
    model = bmb.Model(FORMULA, table, priors=priors, noncentered=noncentered, center_predictors=False)
    model.build()
    problem = schools_problem(cross_products(FORMULA, table), lkj_eta=None, **PRIORS)
    declare(model.backend.model, problem, "non-centered" if noncentered else "centered")
    return model


def from_bambi(draws: xr.DataTree) -> xr.DataTree:
    """Return a fit of `bambi_schools` with this module's names, so that it can be scored."""
    p = draws["posterior"].to_dataset()
    beta = xr.concat([p[name] for name in BAMBI_TERMS], xr.IndexVariable("term", list(BAMBI_TERMS)))
    named = {
        "beta": beta.transpose("chain", "draw", "term"),
        "sd_intercept": p["1|school_sigma"],
        "sd_slope": p["ses|school_sigma"],
        "sigma": p["sigma"],
    }
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(named, attrs=p.attrs),
            "sample_stats": draws["sample_stats"].to_dataset(),
        }
    )
    tree.attrs |= draws.attrs
    return tree
