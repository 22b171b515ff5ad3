r"""The posterior of the multi-site trial's model without Markov chains, with its own error.

Given the five hyperparameters the sites are independent, and each contributes a two-dimensional
integral over its intercept and effect. Those are done by Gauss--Hermite quadrature around the
integrand's mode (Liu and Pierce 1994, Biometrika 81; two-dimensional as in Pinheiro and Bates 1995,
Journal of Computational and Graphical Statistics 4, section 2.4). The five outer dimensions are
done by importance sampling: hyperparameters are expressed in coordinates in which the prior is
standard normal, the proposal is a Student t fitted to the posterior, and its points are scrambled
Sobol points, whose independent replicates give the error (Owen 1997, SIAM Journal on Numerical
Analysis 34).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import qmc

from fieldguide.priors import TrialPriors, prior_name, written
from fieldguide.problem import Problem, count_digest, plain_label
from fieldguide.reference._protocol import ExactPosteriorError, Posterior

HYPERPARAMETERS = ("intercept", "effect", "sd_intercept", "sd_effect", "corr")
_DEGREES = 6.0  # of freedom of the proposal


@dataclass(frozen=True)
class TrialPosterior(Posterior):
    """The posterior of a trial's model, from a weighted sample of its hyperparameters.

    Variables are the scalars `HYPERPARAMETERS` and ``risk_difference``, and ``site_intercept`` and
    ``site_effect`` with dimension ``site``. Distribution functions and quantiles are those of the
    hyperparameters, from the weighted points; of the others it knows the moments.

    Attributes
    ----------
    problem : Problem
        Model, priors and counts.
    mean, sd : xarray.Dataset
        Posterior means and standard deviations, in logits (``risk_difference``: in probability).
    mcse : xarray.Dataset
        Monte Carlo standard errors of the means, in the same units.
    error : float
        Estimated error of the means, the largest: Monte Carlo and quadrature error together, in
        posterior standard deviations.
    quadrature_error : float
        Largest change of a mean, in posterior sds, when the inner rule has two thirds of the nodes.
    ess_share : float
        Effective share of the importance sample, between 0 and 1.
    log_marginal_likelihood : float
        Log probability of the counts, binomial coefficients included.
    points : pandas.DataFrame
        The hyperparameters at every point of the sample, and its normalised ``weight``.
    """

    problem: Problem
    mean: xr.Dataset
    sd: xr.Dataset
    mcse: xr.Dataset
    error: float
    quadrature_error: float
    ess_share: float
    log_marginal_likelihood: float
    points: pd.DataFrame = field(repr=False)

    neck = "sd_effect"

    @property
    def _with_quantiles(self) -> list[str]:
        return list(HYPERPARAMETERS)

    @property
    def _with_density(self) -> list[str]:
        return []

    def _distribution(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Points in order, and the probability up to each: half of its own weight included."""
        order = np.argsort(self.points[name].to_numpy())
        weight = self.points["weight"].to_numpy()[order]
        return self.points[name].to_numpy()[order], np.cumsum(weight) - weight / 2

    def _cdf(self, name, position, x):
        return np.interp(x, *self._distribution(name), left=0.0, right=1.0)

    def _quantile(self, name, position, q):
        return np.interp(q, *self._distribution(name)[::-1])


def _from_normal(prior, x):
    """Quantile of `prior` at the probability of standard normal `x`, accurate in both tails."""
    return np.where(x < 0, prior.ppf(scipy.stats.norm.cdf(x)), prior.isf(scipy.stats.norm.sf(x)))


def _hyperparameters(x: np.ndarray, priors: TrialPriors) -> dict[str, np.ndarray]:
    """Map prior-normal coordinates, shape (point, 5), to the hyperparameters."""
    half = _from_normal(scipy.stats.beta(priors.lkj_eta, priors.lkj_eta), x[:, 4])
    tiny = 1e-300
    return {
        "intercept": _from_normal(priors.intercept, x[:, 0]),
        "effect": _from_normal(priors.effect, x[:, 1]),
        "sd_intercept": np.maximum(_from_normal(priors.sd, x[:, 2]), tiny),
        "sd_effect": np.maximum(_from_normal(priors.sd, x[:, 3]), tiny),
        "corr": np.clip(2 * half - 1, -1 + 1e-12, 1 - 1e-12),
    }


def _site_integrals(
    hyper: dict, counts: pd.DataFrame, nodes: int, moments: bool
) -> tuple[np.ndarray, Any]:
    """Log integral of every point and site, and moments of the site's effects given the point.

    Returns
    -------
    log_integral : ndarray, shape (point, site)
    moments : ndarray, shape (6, point, site), or None
        Means and variances of the intercept, the effect and the difference of probabilities.
    """
    y = counts[["control", "treated"]].to_numpy(float)
    n = counts[["n_control", "n_treated"]].to_numpy(float)
    share = n[:, 1].sum() / n.sum()
    column = {name: value[:, None] for name, value in hyper.items()}
    s0, s1, r = column["sd_intercept"], column["sd_effect"], column["corr"]
    mean = column["intercept"] - share * column["effect"]
    # log odds of the arms: a = mean + a1 * z1, b = mean + effect + b1 * z1 + b2 * z2
    a1, b1, b2 = s0, s0 + r * s1, s1 * np.sqrt(1 - r**2)
    z1 = z2 = np.zeros((len(mean), len(counts)))

    def arms(z1, z2):
        return mean + a1 * z1, mean + column["effect"] + b1 * z1 + b2 * z2

    for step in range(30):
        a, b = arms(z1, z2)
        pa, pb = expit(a), expit(b)
        ga, gb = y[:, 0] - n[:, 0] * pa, y[:, 1] - n[:, 1] * pb
        g1, g2 = a1 * ga + b1 * gb - z1, b2 * gb - z2
        ha, hb = n[:, 0] * pa * (1 - pa), n[:, 1] * pb * (1 - pb)
        h11, h12, h22 = 1 + a1**2 * ha + b1**2 * hb, b1 * b2 * hb, 1 + b2**2 * hb
        determinant = h11 * h22 - h12**2
        if step == 29:
            break
        z1 = z1 + np.clip((h22 * g1 - h12 * g2) / determinant, -1.5, 1.5)
        z2 = z2 + np.clip((h11 * g2 - h12 * g1) / determinant, -1.5, 1.5)

    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    t1, t2 = (t.ravel() for t in np.meshgrid(node, node, indexing="ij"))
    log_node_weight = np.log(np.outer(weight, weight).ravel() / (2 * np.pi)) + (t1**2 + t2**2) / 2
    # Cholesky factor of the inverse curvature
    c11 = np.sqrt(h22 / determinant)
    c21, c22 = -h12 / determinant / c11, 1 / np.sqrt(h22)
    shape = (nodes**2, *z1.shape)
    log_term, theta, delta, difference = (np.empty(shape) for _ in range(4))
    for k in range(nodes**2):
        u1, u2 = z1 + c11 * t1[k], z2 + c21 * t1[k] + c22 * t2[k]
        a, b = arms(u1, u2)
        log_likelihood = (
            y[:, 0] * log_expit(a)
            + (n[:, 0] - y[:, 0]) * log_expit(-a)
            + y[:, 1] * log_expit(b)
            + (n[:, 1] - y[:, 1]) * log_expit(-b)
        )
        log_term[k] = log_likelihood - (u1**2 + u2**2) / 2 + log_node_weight[k]
        if moments:
            theta[k], delta[k], difference[k] = a, b - a, expit(b) - expit(a)
    top = log_term.max(axis=0)
    term = np.exp(log_term - top)
    total = term.sum(axis=0)
    log_integral = top + np.log(total) - np.log(determinant) / 2
    if not moments:
        return log_integral, None
    term /= total
    result = []
    for value in (theta, delta, difference):
        average = (term * value).sum(axis=0)
        result += [average, (term * (value - average) ** 2).sum(axis=0)]
    return log_integral, np.stack(result)


def _log_posterior(x: np.ndarray, counts: pd.DataFrame, priors: TrialPriors, nodes: int) -> np.ndarray:
    log_integral, _ = _site_integrals(_hyperparameters(x, priors), counts, nodes, moments=False)
    return log_integral.sum(axis=1) - (x**2).sum(axis=1) / 2


def _proposal(u: np.ndarray, centre: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a multivariate t from uniform points of shape (point, 6), and their log density."""
    z = scipy.stats.norm.ppf(u[:, :5])
    z /= np.sqrt(scipy.stats.chi2.ppf(u[:, 5], _DEGREES) / _DEGREES)[:, None]
    x = centre + z @ factor.T
    return x, scipy.stats.multivariate_t(centre, factor @ factor.T, _DEGREES).logpdf(x)


def _sobol(log2_points: int, seed: Any) -> np.ndarray:
    points = qmc.Sobol(6, scramble=True, rng=np.random.default_rng(seed)).random_base2(log2_points)
    return np.clip(points, 1e-12, 1 - 1e-12)


def _fit_proposal(counts, priors, seed):
    """Centre and Cholesky factor: the posterior's mode and curvature, then its moments, twice."""

    def objective(x):
        return -_log_posterior(x[None], counts, priors, 5)[0]

    found = minimize(objective, np.zeros(5), method="BFGS", options={"gtol": 1e-3})
    centre, covariance = found.x, found.hess_inv
    for _ in range(3):
        factor = np.linalg.cholesky(1.1 * covariance + 1e-6 * np.eye(5))
        x, log_q = _proposal(_sobol(10, seed), centre, factor)
        log_weight = _log_posterior(x, counts, priors, 7) - log_q
        weight = np.exp(log_weight - logsumexp(log_weight))
        centre = weight @ x
        covariance = (x - centre).T @ ((x - centre) * weight[:, None])
    return centre, np.linalg.cholesky(1.05 * covariance + 1e-8 * np.eye(5))


def _checked(trial: pd.DataFrame) -> pd.DataFrame:
    # The loaders beside it validate tables with a library that an exact answer does not need.
    from fieldguide.data.trials import check_trial

    return check_trial(trial)


def trial_priors(priors: TrialPriors) -> dict[str, str]:
    """Return the names of the priors of a trial's hyperparameters, by hyperparameter."""
    return {
        "intercept": prior_name(priors.intercept),
        "effect": prior_name(priors.effect),
        "sd_intercept": prior_name(priors.sd),
        "sd_effect": prior_name(priors.sd),
        "corr": written("LKJ", priors.lkj_eta),
    }


def trial_problem(trial: pd.DataFrame, priors: TrialPriors | None = None) -> Problem:
    """Return the problem that a posterior of the trial belongs to.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them.
    priors : TrialPriors, optional
        The question's by default.

    Raises
    ------
    TrialError
        If the counts make no sense.
    """
    counts = _checked(trial)
    names = trial_priors(priors or TrialPriors())
    columns = [counts[name] for name in ("control", "n_control", "treated", "n_treated")]
    return Problem.of("varying intercept and effect", names, count_digest(counts.index, *columns))


def trial_posterior(
    trial: pd.DataFrame,
    priors: TrialPriors | None = None,
    *,
    log2_points: int = 11,
    replicates: int = 8,
    nodes: int = 12,
    seed: int = 0,
) -> TrialPosterior:
    """Compute the posterior of a trial's model by quadrature inside importance sampling.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `fieldguide.data.simulate_trial` returns them.
    priors : TrialPriors, optional
        The question's by default.
    log2_points : int
        Each replicate has two to this power points.
    replicates : int
        Independent scramblings; their scatter gives the stated error.
    nodes : int
        Gauss--Hermite nodes per dimension and site.
    seed : int
        Seed of the scramblings.

    Returns
    -------
    TrialPosterior
        Means and sds with their errors; five sites take a few seconds.

    Raises
    ------
    TrialError
        If the counts make no sense.
    ExactPosteriorError
        If the effective sample is below 5% of the points.

    Examples
    --------
    >>> from fieldguide.data import question_trial
    >>> answer = trial_posterior(question_trial())
    >>> round(float(answer.mean["risk_difference"]), 2), answer.error < 0.01
    (0.08, True)
    """
    counts, priors = _checked(trial), priors or TrialPriors()
    size = counts["n_control"] + counts["n_treated"]
    share = (size / size.sum()).to_numpy()
    centre, factor = _fit_proposal(counts, priors, seed)
    sites = [plain_label(site) for site in counts.index]

    def evaluate(points, nodes):
        x, log_q = _proposal(points, centre, factor)
        hyper = _hyperparameters(x, priors)
        log_integral, m = _site_integrals(hyper, counts, nodes, moments=True)
        log_weight = log_integral.sum(axis=1) - (x**2).sum(axis=1) / 2 - log_q
        log_weight -= 2.5 * np.log(2 * np.pi)
        fixed = np.stack([hyper[name] for name in HYPERPARAMETERS])
        mean = np.concatenate([fixed, m[0].T, m[2].T, (m[4] @ share)[None]])
        inside = np.concatenate([0 * fixed, m[1].T, m[3].T, (m[5] @ share**2)[None]])
        return hyper, log_weight, mean, inside

    runs = [evaluate(_sobol(log2_points, [seed, r]), nodes) for r in range(replicates)]
    top = max(run[1].max() for run in runs)
    weight = np.stack([np.exp(run[1] - top) for run in runs])  # (replicate, point)
    mean = np.stack([run[2] for run in runs])  # (replicate, quantity, point)
    inside = np.stack([run[3] for run in runs])
    ess_share = weight.sum() ** 2 / (weight**2).sum() / weight.size
    if not ess_share > 0.05:
        raise ExactPosteriorError(
            f"The importance sample is worth only {ess_share:.1%} of its points; raise log2_points."
        )
    share_of = weight / weight.sum()
    average = np.einsum("rp,rqp->q", share_of, mean)
    variance = np.einsum("rp,rqp->q", share_of, inside + (mean - average[:, None]) ** 2)
    each = np.einsum("rp,rqp->rq", weight, mean) / weight.sum(axis=1)[:, None]
    mcse = each.std(axis=0, ddof=1) / np.sqrt(replicates)
    sd = np.sqrt(variance)

    _, log_weight, coarse, _ = evaluate(_sobol(log2_points, [seed, 0]), max(2 * nodes // 3, 3))
    coarse = coarse @ np.exp(log_weight - logsumexp(log_weight))
    n, y = counts[["n_control", "n_treated"]].to_numpy(), counts[["control", "treated"]].to_numpy()
    log_choose = (scipy.stats.binom.logpmf(y, n, 0.5) + n * np.log(2)).sum()
    points = pd.DataFrame(
        {name: np.concatenate([run[0][name] for run in runs]) for name in HYPERPARAMETERS}
    )
    quadrature_error = float((np.abs(coarse - each[0]) / sd).max())

    def named(values):
        first = len(HYPERPARAMETERS)
        data = dict(zip(HYPERPARAMETERS, values[:first], strict=True))
        data["site_intercept"] = ("site", values[first : first + len(sites)])
        data["site_effect"] = ("site", values[first + len(sites) : -1])
        data["risk_difference"] = values[-1]
        return xr.Dataset(data, coords={"site": sites})

    return TrialPosterior(
        problem=trial_problem(trial, priors),
        mean=named(average),
        sd=named(sd),
        mcse=named(mcse),
        error=float((mcse / sd).max()) + quadrature_error,
        quadrature_error=quadrature_error,
        ess_share=float(ess_share),
        log_marginal_likelihood=float(top + np.log(weight.mean()) + log_choose),
        points=points.assign(weight=share_of.ravel()),
    )
