"""How long a leapfrog step may be, place by place: what a funnel does to a sampler."""

from __future__ import annotations

import numpy as np
import pymc as pm
import xarray as xr


def longest_stable_steps(
    model: pm.Model, fit: xr.DataTree, points: int = 600, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    r"""Compute the longest stable step at draws of a fit, in the units of its own mass matrix.

    Where the log density is nearly quadratic, leapfrog steps follow its fastest swing, of frequency
    :math:`\omega`, as long as they are shorter than :math:`2 / \omega` (Leimkuhler and Reich 2004,
    Simulating Hamiltonian Dynamics, section 2.6). :math:`\omega^2` is the largest eigenvalue of the
    negative Hessian in coordinates in which the mass matrix is the identity; the Hessian is taken from
    central differences of the gradient.

    Parameters
    ----------
    model : pymc.Model
        The model that was sampled.
    fit : DataTree
        By nutpie with a diagonal mass matrix, with ``store_mass_matrix=True``,
        ``store_unconstrained=True`` and its warm-up.
    points : int
        At how many of the draws.
    rng : numpy.random.Generator
        Chooses the draws.

    Returns
    -------
    positions : ndarray, shape (points, parameters)
        Where, in the sampler's own coordinates.
    steps : ndarray, shape (points,)
        The longest stable step there; infinite where the density is convex.
    """
    log_density = model.logp_dlogp_function(ravel_inputs=True)
    log_density.set_extra_values({})
    learnt = fit["warmup_sample_stats"]["mass_matrix_inv"].dropna("draw")
    scale = learnt.isel(draw=-1).mean("chain").to_numpy()  # nutpie keeps standard deviations
    draws = fit["sample_stats"]["unconstrained_draw"].stack(sample=("chain", "draw")).to_numpy().T
    positions = rng.permutation(draws)[:points]
    nudges = 1e-4 * np.eye(len(scale))
    steps = np.empty(len(positions))
    for k, position in enumerate(positions):
        bent = [log_density(position - h)[1] - log_density(position + h)[1] for h in nudges]
        curvature = np.array(bent) / 2e-4 * np.outer(scale, scale)
        fastest = np.linalg.eigvalsh((curvature + curvature.T) / 2).max()
        steps[k] = 2 / np.sqrt(fastest) if fastest > 0 else np.inf
    return positions, steps
