"""A slow, independent computation of the posterior that `fieldguide.reference` computes fast.

Written from the model's definition, in another way, importing nothing from the package: no change
of variable, no trapezoidal sums, no sinc sums. Sigma is integrated by SciPy's adaptive
Gauss-Kronrod rule, alpha_bar and each district's effect by Gauss-Legendre rules on panels, and
the sharp places (peaks, and the points where a distribution function is wanted) are panel
borders. It takes seconds where the package takes milliseconds. It finds no quantiles: it gives
the distribution functions at the points that it is handed.

Its own accuracy is checked by running it with other ``nodes``.
"""

import functools
from itertools import pairwise

import numpy as np
from scipy.integrate import quad_vec
from scipy.special import expit, gammaln, log_expit

leggauss = functools.cache(np.polynomial.legendre.leggauss)


def on_panels(edges, nodes):
    """Gauss-Legendre nodes and weights on the panels between sorted ``edges`` (last axis)."""
    x, w = leggauss(nodes)
    half = np.diff(edges)[..., None] / 2
    x = edges[..., :-1, None] + half * (1 + x)
    return x.reshape(*x.shape[:-2], -1), (half * w).reshape(*x.shape[:-2], -1)


def district(a, sigma, y, n, cuts, nodes):
    """Integrals over one district's effect at one sigma, for every ``a``.

    Returns the log of the integral of likelihood times normal density, and the expectations of
    alpha, alpha**2, p, p**2 and each alpha <= cut.
    """
    rate = (y + 0.5) / (n + 1)
    centre = np.log(rate / (1 - rate))
    width = 1 / np.sqrt(max(n * rate * (1 - rate), 0.25))
    steps = np.array([0, 1, 2.5, 5, 10, 20, 40])
    fixed = np.concatenate([cuts, centre + width * steps, centre - width * steps[1:]])
    moving = a[:, None] + sigma * np.array([-11, -6, -3, -1, 1, 3, 6, 11.0])
    fixed = np.clip(fixed, moving[:, [0]], moving[:, [-1]])
    alpha, weight = on_panels(np.sort(np.concatenate([fixed, moving], axis=1)), nodes)
    z = (alpha - a[:, None]) / sigma
    log_p = log_expit(alpha)  # and log(1 - p) is log_p - alpha
    constant = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1) - np.log(sigma * np.sqrt(2 * np.pi))
    log_f = n * log_p - (n - y) * alpha - 0.5 * z * z + constant
    top = log_f.max(1, keepdims=True)
    f = np.exp(log_f - top) * weight
    total = f.sum(1)
    f /= np.where(total > 0, total, 1)[:, None]  # 0 where the search for alpha_bar is far off
    with np.errstate(divide="ignore"):
        log_total = np.log(total) + top[:, 0]
    p = np.exp(log_p)
    parts = [alpha, alpha**2, p, p**2, *(alpha < cut for cut in cuts)]
    return log_total, np.stack([np.einsum("an,an->a", f, part) for part in parts])


def posterior(
    successes,
    trials,
    sigma_pdf,
    prior_mean,
    prior_sd,
    cuts,
    sigma_ends=(0, np.inf),
    count=None,
    tolerance=1e-7,
    nodes=7,
):
    """Means, sds, distribution functions and log marginal likelihood.

    Parameters
    ----------
    successes, trials
        Counts, one entry per district; ``count`` says how often each is repeated.
    sigma_pdf
        Prior density of sigma, a plain function.
    prior_mean, prior_sd
        The normal prior of alpha_bar.
    cuts
        For "alpha_bar", "sigma" (each a list) and "alpha" (one list per district): the points
        at which the distribution functions are wanted.

    Returns
    -------
    dict
        "mean" and "sd" by name, "cdf" by name, "log_marginal_likelihood".
    """
    y, n = np.asarray(successes, float), np.asarray(trials, float)
    count = np.ones_like(y) if count is None else np.asarray(count, float)
    size = 7 + len(cuts["alpha_bar"]) + sum(4 + len(c) for c in cuts["alpha"])
    offset = None

    def log_weight(a, sigma, nodes):
        parts = [district(a, sigma, y[j], n[j], cuts["alpha"][j], nodes) for j in range(y.size)]
        log_w = -0.5 * ((a - prior_mean) / prior_sd) ** 2 - np.log(prior_sd * np.sqrt(2 * np.pi))
        return log_w + sum(c * part[0] for c, part in zip(count, parts, strict=True)), parts

    def given_sigma(sigma):
        """Integrals over alpha_bar at one sigma, as one vector."""
        nonlocal offset
        prior = sigma_pdf(sigma)
        if prior < 1e-30:
            return np.zeros(size)
        # where alpha_bar can be, given this sigma: search a coarse range, then finer ones
        low, high = prior_mean - 10 * prior_sd, prior_mean + 10 * prior_sd
        for _ in range(6):
            a = np.linspace(low, high, 41)
            log_w = log_weight(a, sigma, 4)[0]
            if log_w.max() == -np.inf:  # so far from large counts that nothing is left
                return np.zeros(size)
            alive = np.flatnonzero(log_w > log_w.max() - 36)
            low, high = a[max(alive[0] - 1, 0)], a[min(alive[-1] + 1, 40)]
            if alive.size > 12:
                break
        edges = [np.linspace(low, high, 11), cuts["alpha_bar"]]
        # as a function of alpha_bar, P(alpha_j <= cut) is a step about as wide as sigma
        edges += [np.add.outer(c, sigma * np.array([-7, -2.5, 0, 2.5, 7])) for c in cuts["alpha"]]
        edges = np.unique(np.concatenate([np.ravel(e) for e in edges]))
        edges = edges[(edges >= low) & (edges <= high)]
        a, weight = on_panels(edges, nodes)
        log_w, parts = log_weight(a, sigma, nodes)
        if offset is None:
            offset = log_w.max()
        w = np.exp(log_w - offset) * weight
        p = expit(a)
        out = [w.sum(), w @ a, w @ a**2, w @ p, w @ p**2, w.sum() * sigma, w.sum() * sigma**2]
        out += [w @ (a < c) for c in cuts["alpha_bar"]]
        for _, part in parts:
            out += list(part @ w)
        return np.array(out) * prior

    middle = float(np.median(cuts["sigma"]))
    offset = None
    given_sigma(middle)
    ends = [sigma_ends[0], *cuts["sigma"], 5 * cuts["sigma"][-1], sigma_ends[1]]
    ends = [e for e in ends if e <= sigma_ends[1]]
    pieces = np.stack(
        [
            quad_vec(given_sigma, low, high, epsabs=1e-14, epsrel=tolerance, norm="max")[0]
            for low, high in pairwise(ends)
        ]
    )
    total = pieces.sum(0)
    moment = iter(total[1:] / total[0])

    def mean_sd():
        first, second = next(moment), next(moment)
        return first, np.sqrt(second - first**2)

    found = {"alpha_bar": mean_sd(), "p_bar": mean_sd(), "sigma": mean_sd()}
    cdf = {"alpha_bar": [next(moment) for _ in cuts["alpha_bar"]], "alpha": []}
    cdf["sigma"] = list(np.cumsum(pieces[:, 0])[: len(cuts["sigma"])] / total[0])
    alpha, p = [], []
    for c in cuts["alpha"]:
        alpha.append(mean_sd())
        p.append(mean_sd())
        cdf["alpha"].append([next(moment) for _ in c])
    found["alpha"], found["p"] = zip(*alpha, strict=True), zip(*p, strict=True)
    found = {name: [np.array(v) for v in pair] for name, pair in found.items()}
    return {
        "mean": {name: pair[0] for name, pair in found.items()},
        "sd": {name: pair[1] for name, pair in found.items()},
        "cdf": cdf,
        "log_marginal_likelihood": float(np.log(total[0]) + offset),
    }
