"""A slow, independent computation of the posterior that `fieldguide.reference` computes fast.

Written from the model's definition alone, and in another way: adaptive Gauss-Kronrod quadrature
(`scipy.integrate.quad_vec`) over sigma and over each district's effect, Gauss-Legendre panels
over alpha_bar, no change of variable, nothing imported from the package. It takes seconds where
the package takes milliseconds. It does not find quantiles; it gives the distribution functions at
the points it is handed, which are then also the places where its integrals are split.
"""

import numpy as np
from scipy.integrate import quad_vec
from scipy.special import expit, gammaln, log_expit

NODES, WEIGHTS = np.polynomial.legendre.leggauss(14)


def log_binomial(alpha, y, n):
    constant = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)
    return constant + y * log_expit(alpha) + (n - y) * log_expit(-alpha)


def district(a, sigma, y, n, cuts, tolerance):
    """Integrals over one district's effect, for every ``a`` at one sigma.

    Returns the log of a scale per ``a``, then the integrals of the likelihood times the normal
    density (over that scale) against 1, alpha, alpha**2, p, p**2 and each alpha <= cut.
    """
    centre = np.log((y + 0.5) / (n - y + 0.5))
    start = np.concatenate([a[:, None] + 11 * sigma * np.linspace(-1, 1, 201) + 0 * a[:, None],
                            np.tile(centre + np.linspace(-30, 30, 601), (a.size, 1))], axis=1)
    scale = (log_binomial(start, y, n) - 0.5 * ((start - a[:, None]) / sigma) ** 2).max(1)
    # The splits around the likelihood's peak keep a wide integral from overlooking it.
    inner = np.sort(np.concatenate([cuts, centre + np.array([-40.0, -6.0, 6.0, 40.0])]))
    ends = np.concatenate([[-np.inf], inner, [np.inf]])
    ends = np.clip(ends, (a - 11 * sigma)[:, None], (a + 11 * sigma)[:, None])
    pieces = []
    for low, high in zip(ends.T[:-1], ends.T[1:], strict=True):

        def integrand(u, low=low, high=high):
            alpha = low + (high - low) * u
            z = (alpha - a) / sigma
            f = np.exp(log_binomial(alpha, y, n) - 0.5 * z * z - scale) * (high - low)
            f /= sigma * np.sqrt(2 * np.pi)
            p = expit(alpha)
            return f * np.stack([np.ones_like(a), alpha, alpha**2, p, p**2])

        if (high > low).any():
            value = quad_vec(
                integrand, 0, 1, epsabs=tolerance, epsrel=tolerance, norm="max", limit=2000
            )[0]
        else:
            value = np.zeros((5, a.size))
        pieces.append(value)
    pieces = np.stack(pieces)
    below = np.cumsum(pieces[:-1, 0], axis=0)[np.searchsorted(inner, cuts)]
    return scale, np.concatenate([pieces.sum(0), below])


def posterior(
    successes, trials, sigma_pdf, prior_mean, prior_sd, cuts, sigma_ends=(0, np.inf),
    count=None, tolerance=1e-10, panels=10,
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
    offset = None
    size = 7 + len(cuts["alpha_bar"]) + sum(4 + len(c) for c in cuts["alpha"])

    def given_sigma(sigma):
        """Integrals over alpha_bar at one sigma, as one vector."""
        nonlocal offset
        prior = sigma_pdf(sigma)
        if offset is not None and prior < 1e-30:
            return np.zeros(size)

        def log_weight(a, tolerance):
            parts = [
                district(a, sigma, y[j], n[j], cuts["alpha"][j], tolerance) for j in range(y.size)
            ]
            log_w = -0.5 * ((a - prior_mean) / prior_sd) ** 2
            log_w = log_w - np.log(prior_sd * np.sqrt(2 * np.pi))
            for c, (scale, value) in zip(count, parts, strict=True):
                log_w = log_w + c * (scale + np.log(value[0]))
            return log_w, [value / value[0] for _, value in parts]

        # where alpha_bar can be, given this sigma: search a coarse range, then a finer one
        low, high = prior_mean - 10 * prior_sd, prior_mean + 10 * prior_sd
        for _ in range(4):
            a = np.linspace(low, high, 41)
            log_w = log_weight(a, 1e-4)[0]
            alive = np.flatnonzero(log_w > log_w.max() - 38)
            low, high = a[max(alive[0] - 1, 0)], a[min(alive[-1] + 1, 40)]
            if alive.size > 12:
                break
        edges = np.linspace(low, high, panels + 1)
        edges = np.union1d(edges, [c for c in cuts["alpha_bar"] if low < c < high])
        half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
        a = (middle[:, None] + half[:, None] * NODES).ravel()
        log_w, parts = log_weight(a, tolerance)
        if offset is None:
            offset = log_w.max()
        w = np.exp(log_w - offset) * (half[:, None] * WEIGHTS).ravel()
        p = expit(a)
        out = [w.sum(), w @ a, w @ a**2, w @ p, w @ p**2]
        out += [w.sum() * sigma, w.sum() * sigma**2]
        out += [w @ (a < c) for c in cuts["alpha_bar"]]
        for part in parts:
            out += list(part[1:] @ w)
        return np.array(out) * prior

    given_sigma(float(np.median(cuts["sigma"])))
    ends = [sigma_ends[0], *cuts["sigma"], 5 * cuts["sigma"][-1], sigma_ends[1]]
    ends = [e for e in ends if e <= sigma_ends[1]]
    pieces = np.stack(
        [
            quad_vec(given_sigma, low, high, epsabs=1e-14, epsrel=tolerance, norm="max")[0]
            for low, high in zip(ends[:-1], ends[1:], strict=True)
        ]
    )
    total = pieces.sum(0)
    moment = iter(total[1:] / total[0])
    k = len(cuts["alpha_bar"])

    def mean_sd():
        first, second = next(moment), next(moment)
        return first, np.sqrt(second - first**2)

    found = {"alpha_bar": mean_sd(), "p_bar": mean_sd(), "sigma": mean_sd()}
    cdf = {"alpha_bar": [next(moment) for _ in range(k)], "alpha": []}
    cdf["sigma"] = list(np.cumsum(pieces[:, 0])[: len(cuts["sigma"])] / total[0])
    alpha, p = [], []
    for c in cuts["alpha"]:
        alpha.append(mean_sd())
        p.append(mean_sd())
        cdf["alpha"].append([next(moment) for _ in c])
    found["alpha"], found["p"] = alpha, p
    pick = {
        i: {k: np.array([v[i] for v in x]) if isinstance(x, list) else x[i] for k, x in found.items()}
        for i in (0, 1)
    }
    return {
        "mean": pick[0],
        "sd": pick[1],
        "cdf": cdf,
        "log_marginal_likelihood": float(np.log(total[0]) + offset),
    }
