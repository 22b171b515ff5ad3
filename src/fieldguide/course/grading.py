"""Grade draws and models against the exact answer to a student's own data, and say why in words.

Draws are judged within what their own Monte Carlo error explains: a mean is right if it lies within
`WITHIN` Monte Carlo standard errors of the exact one, as the submission's own draws imply them (Vehtari
and others 2021, Bayesian Analysis 16), and a hair more for what those errors leave out. Too few draws do
not pass by being noisy. Where draws are wrong, the likely mistakes are tried one by one, and the student
is told which of them would explain the numbers, but not what the right numbers are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.models.graph import UnknownModelError, parameterization_of, problem_of
from fieldguide.priors import prior_name
from fieldguide.problem import plain_label
from fieldguide.reference import DistrictsPosterior, Posterior, exact_posterior
from fieldguide.scores import THRESHOLDS

WITHIN = 4.5
"""Monte Carlo standard errors that a mean or a standard deviation may be off."""
SLACK = 0.02
"""Posterior standard deviations more, for what an estimated Monte Carlo error leaves out."""
FEW = 0.001
"""Share of transitions that may diverge."""
COARSE = 0.3
"""Allowance for a mean, in posterior standard deviations, from which on draws are too few to judge."""
LIKELY_PRIORS = (
    *(scipy.stats.expon(scale=scale) for scale in (0.5, 1, 2)),
    *(scipy.stats.halfnorm(scale=scale) for scale in (0.1, 0.25, 0.5, 1, 1.5, 2.5, 5)),
)
"""Priors on sigma that a student may have used instead."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One thing that was asked for.

    Attributes
    ----------
    what : str
        In a few words.
    points, possible : float
        Given, and at most.
    words : str
        What is right or wrong, and how to find out more; never the answer.
    """

    what: str
    points: float
    possible: float
    words: str

    @property
    def met(self) -> bool:
        """Whether all points are given."""
        return self.points >= self.possible


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a submission gets, criterion by criterion."""

    criteria: tuple[Criterion, ...]

    @property
    def points(self) -> float:
        """All points together."""
        return sum(one.points for one in self.criteria)

    @property
    def possible(self) -> float:
        """Points at most."""
        return sum(one.possible for one in self.criteria)

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return all(one.met for one in self.criteria)

    def __str__(self) -> str:
        lines = [f"{self.points:g} of {self.possible:g} points"]
        lines += [
            f"{'+' if one.met else '-'} {one.what} ({one.points:g} of {one.possible:g}): {one.words}"
            for one in self.criteria
        ]
        return "\n".join(lines)

    def assert_passed(self) -> None:
        """Raise with the words of what is not met, as a test of otter-grader wants it.

        Raises
        ------
        AssertionError
        """
        if not self.passed:
            raise AssertionError(str(self))


# ---------------------------------------------------------------------------------------------
# Draws


def judge_districts(
    draws: Any,
    counts: pd.DataFrame,
    sigma_prior: Any,
    *,
    others: Mapping[str, pd.DataFrame] | None = None,
) -> Verdict:
    """Judge a fit of three districts.

    Parameters
    ----------
    draws : DataTree
        What ``pm.sample``, nutpie or Bambi returned: ``alpha_bar``, ``sigma`` and ``alpha`` (one for
        each district, labelled or in the order of `counts`), or Bambi's ``Intercept``,
        ``1|district_sigma`` and ``1|district``.
    counts : DataFrame
        The student's data, ``users`` and ``women`` by district.
    sigma_prior : scipy.stats frozen distribution
        The prior that was asked for.
    others : mapping of str to DataFrame, optional
        Data of other students by name. A fit that belongs to one of them is called that.

    Returns
    -------
    Verdict
        Of ten points: one for draws that can be read, three for diagnostics, six for the answer.
    """
    exact = _exact(counts, sigma_prior)
    try:
        posterior, statistics = _read(draws, exact)
    except _Unreadable as fault:
        none = [("diagnostics", 3), ("the answer", 6)]
        return Verdict(
            (
                Criterion("draws that can be read", 0, 1, str(fault)),
                *(Criterion(what, 0, points, "nothing could be judged.") for what, points in none),
            )
        )
    readable = Criterion("draws that can be read", 1, 1, "the variables are there, and all are numbers.")
    gaps = _gaps(posterior, exact)
    answer = list(_answer(gaps))
    if _wrong(gaps).any():
        hint = _likely_mistake(posterior, counts, sigma_prior, others or {})
        answer = [
            one if one.met else dataclasses.replace(one, words=f"{one.words} {hint}".strip())
            for one in answer
        ]
    return Verdict((readable, *_diagnostics(posterior, statistics), *answer))


class _Unreadable(ValueError):
    """Draws lack what a judgement needs."""


def _exact(counts: pd.DataFrame, sigma_prior: Any) -> DistrictsPosterior:
    users, women = counts["users"].to_numpy(), counts["women"].to_numpy()
    return exact_posterior(users, women, sigma_prior=sigma_prior, district=list(counts.index))


def _read(draws: Any, exact: Posterior) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws under the book's names, with the districts in the order of the answer."""
    try:
        posterior = draws["posterior"].to_dataset()
        statistics = draws["sample_stats"].to_dataset()
    except (AttributeError, KeyError, TypeError) as error:
        raise _Unreadable(
            f"this is a {type(draws).__name__}, not what pm.sample returns, with its groups posterior "
            f"and sample_stats ({error})."
        ) from None
    if {"Intercept", "1|district", "1|district_sigma"} <= set(posterior.data_vars):
        effects = posterior["1|district"]
        (inner,) = (dim for dim in effects.dims if dim not in ("chain", "draw"))
        posterior = xr.Dataset(
            {
                "alpha_bar": posterior["Intercept"],
                "sigma": posterior["1|district_sigma"],
                "alpha": (posterior["Intercept"] + effects).rename({inner: "district"}),
            }
        )
    wanted = {"alpha_bar", "sigma", "alpha"}
    if missing := wanted - set(posterior.data_vars):
        raise _Unreadable(
            f"the posterior has no {', '.join(sorted(missing))}; it has "
            f"{', '.join(map(str, posterior.data_vars))}. Name the variables as the task does."
        )
    posterior = posterior[sorted(wanted)]
    for name, one in posterior.data_vars.items():
        inner = [dim for dim in one.dims if dim not in ("chain", "draw")]
        if len(inner) != (name == "alpha"):
            raise _Unreadable(f"{name} has dimensions {', '.join(map(str, one.dims))}.")
        if not np.isfinite(one).all():
            raise _Unreadable(f"some draws of {name} are not numbers.")
        if float(one.std(("chain", "draw")).min()) < 1e-9:
            raise _Unreadable(f"{name} does not move: a number that is repeated is no draw.")
    (inner,) = (dim for dim in posterior["alpha"].dims if dim not in ("chain", "draw"))
    posterior = posterior.rename({inner: "district"}) if inner != "district" else posterior
    size = exact.mean.sizes["district"]
    if posterior.sizes["district"] != size:
        raise _Unreadable(f"alpha has {posterior.sizes['district']} districts where there are {size}.")
    wanted_order = [plain_label(one) for one in exact.mean["district"].values]
    if "district" in posterior.coords:  # by their labels, where these are the districts'
        labels = [plain_label(one) for one in posterior["district"].values]
        if sorted(labels) == sorted(wanted_order):
            posterior = posterior.isel(district=[labels.index(one) for one in wanted_order])
    if posterior.sizes["chain"] < 2 or posterior.sizes["draw"] < 4:
        raise _Unreadable("fewer than two chains of four draws: whether chains agree cannot be asked.")
    if "diverging" not in statistics:
        raise _Unreadable("sample_stats does not say which transitions diverged; hand in the whole fit.")
    return posterior.drop_vars("district", errors="ignore"), statistics


def _diagnostics(posterior: xr.Dataset, statistics: xr.Dataset) -> Iterator[Criterion]:
    share = float(statistics["diverging"].mean())
    count = int(statistics["diverging"].sum())
    yield Criterion(
        "no divergences",
        float(share <= FEW),
        1,
        f"{count} of {statistics['diverging'].size} transitions diverged."
        + ("" if share <= FEW else " Where are they, and what does the sampler not reach there?"),
    )
    rhat = _worst(az.rhat(posterior), max)
    yield Criterion(
        "chains that agree",
        float(rhat <= THRESHOLDS["rhat"]),
        1,
        f"the largest R-hat is {rhat:.3f}."
        + ("" if rhat <= THRESHOLDS["rhat"] else " Look at the chains of that parameter one by one."),
    )
    ess = min(_worst(az.ess(posterior, method=kind), min) for kind in ("bulk", "tail"))
    yield Criterion(
        "enough draws",
        float(ess >= THRESHOLDS["ess"]),
        1,
        f"the smallest effective sample size is {ess:.0f}."
        + ("" if ess >= THRESHOLDS["ess"] else f" A mean needs {THRESHOLDS['ess']} or more."),
    )


def _worst(values: xr.Dataset, worst: Any) -> float:
    return float(worst(float(worst(one.values.ravel())) for one in values.data_vars.values()))


def _gaps(posterior: xr.Dataset, exact: Posterior) -> pd.DataFrame:
    """Return by how much each scalar's mean and sd are off, and by how much they may be."""
    rows = {}
    mcse = {kind: az.mcse(posterior, method=kind) for kind in ("mean", "sd")}
    for name in posterior.data_vars:
        unit = exact.sd[name].values
        for kind, right in (("mean", exact.mean[name].values), ("sd", unit)):
            found = getattr(posterior[name], "mean" if kind == "mean" else "std")(
                ("chain", "draw")
            ).values
            off = np.abs(found - right) / unit
            allowed = WITHIN * mcse[kind][name].values / unit + SLACK
            for k, (a, b) in enumerate(zip(np.ravel(off), np.ravel(allowed), strict=True)):
                rows[str(name), k, kind] = {"off": float(a), "allowed": float(b)}
    table = pd.DataFrame(rows).T
    table.index.names = ["name", "place", "kind"]
    return table


def _wrong(gaps: pd.DataFrame) -> pd.Series:
    """Say which figures are farther off than they may be; draws that do not move have no allowance."""
    return ~(gaps["off"] <= gaps["allowed"])


def _answer(gaps: pd.DataFrame) -> Iterator[Criterion]:
    wrong = _wrong(gaps)
    coarse = bool((gaps["allowed"].xs("mean", level="kind") > COARSE).any())
    for kind, possible, words in (("mean", 4, "means"), ("sd", 2, "standard deviations")):
        if coarse and not wrong.any():
            too_few = "your draws are too few to tell whether they are right; draw more."
            yield Criterion(f"the right {words}", 0, possible, too_few)
            continue
        of_kind = wrong.xs(kind, level="kind")
        share = 1 - float(of_kind.mean())
        names = ", ".join(
            name if name != "alpha" else f"alpha of district {place + 1} in your table"
            for name, place in of_kind.index[of_kind]
        )
        yield Criterion(
            f"the right {words}",
            possible if share == 1 else np.floor(possible * share),
            possible,
            f"within the Monte Carlo error of your draws, all {words} are those of the posterior."
            if share == 1
            else f"farther from the posterior than the Monte Carlo error of your draws: {names}.",
        )


def _fits(posterior: xr.Dataset, exact: Posterior) -> bool:
    gaps = _gaps(posterior, exact)
    return bool((gaps["off"] <= 2 * gaps["allowed"]).all())


def _likely_mistake(
    posterior: xr.Dataset, counts: pd.DataFrame, sigma_prior: Any, others: Mapping[str, pd.DataFrame]
) -> str:
    """Say which mistake, if it had been made, would explain the draws; nothing if none does."""
    exact = _exact(counts, sigma_prior)
    size = len(counts)
    for order in itertools.permutations(range(size)):
        if list(order) != sorted(order) and _fits(posterior.isel(district=list(order)), exact):
            return "The effects would be right in another order of the districts."
    if (posterior["sigma"] > 0).all():
        for power, words in (
            (0.5, "sigma looks like a variance."),
            (2, "sigma looks like its own root."),
        ):
            if _fits(posterior.assign(sigma=posterior["sigma"] ** power), exact):
                return f"Your {words}"
    swapped = posterior.assign(alpha_bar=posterior["sigma"], sigma=posterior["alpha_bar"])
    if _fits(swapped, exact):
        return "alpha_bar and sigma have each other's draws."
    for prior in LIKELY_PRIORS:
        if prior_name(prior) != prior_name(sigma_prior) and _fits(posterior, _exact(counts, prior)):
            return (
                "The draws would be right under another prior on sigma: compare yours with the task's."
            )
    if _is_the_prior(posterior["sigma"], sigma_prior):
        return "The draws of sigma are those of its prior: does sigma enter your model?"
    for name, table in others.items():
        if len(table) == size and _fits(posterior, _exact(table, sigma_prior)):
            return f"The draws would be right for the data of {name}."
    return "Compare your model with the task line by line: priors, data, order."


def _is_the_prior(draws: xr.DataArray, prior: Any) -> bool:
    """Whether draws of a parameter are those of its prior, within Monte Carlo error."""
    one = draws.to_dataset(name="x")
    errors = [float(az.mcse(one, method=kind)["x"]) for kind in ("mean", "sd")]
    off = np.abs([float(draws.mean()) - prior.mean(), float(draws.std()) - prior.std()])
    return bool((off <= WITHIN * np.array(errors) + SLACK * prior.std()).all())


# ---------------------------------------------------------------------------------------------
# Models


def judge_form(model: Any, counts: pd.DataFrame, sigma_prior: Any, *, wanted: str) -> Verdict:
    """Judge whether a model has the posterior that was asked for, in the geometry that was asked for.

    Parameters
    ----------
    model : pymc.Model
        With ``alpha_bar``, ``sigma`` and ``alpha``.
    counts, sigma_prior
        See `judge_districts`.
    wanted : {"centered", "non-centered"}
        The geometry.

    Returns
    -------
    Verdict
        Three points for the posterior, which is read from the graph and compared by log density at
        random points, and two for the geometry.
    """
    posterior, geometry = "the posterior that was asked for", f"a {wanted} form"
    if not isinstance(model, pm.Model):
        words = f"this is a {type(model).__name__}, not a PyMC model."
        return Verdict((Criterion(posterior, 0, 3, words), Criterion(geometry, 0, 2, words)))
    try:
        problem, form = problem_of(model), parameterization_of(model)
    except (UnknownModelError, ValueError) as error:
        words = f"the model could not be recognised: {error}"
        return Verdict((Criterion(posterior, 0, 3, words), Criterion(geometry, 0, 2, words)))
    asked = _exact(counts, sigma_prior).problem
    same = problem == asked
    parts = [
        name
        for name, a, b in (
            ("the model", problem.model, asked.model),
            ("a prior", problem.priors, asked.priors),
            ("the data", problem.data, asked.data),
        )
        if a != b
    ]
    right = form == wanted
    return Verdict(
        (
            Criterion(
                posterior,
                3 if same else 3 - len(parts),
                3,
                "model, priors and data are those of the task."
                if same
                else f"{' and '.join(parts)} differ{'s' * (len(parts) == 1)} from the task's.",
            ),
            Criterion(
                geometry,
                2 * right,
                2,
                f"the sampler moves in the coordinates of the {form} form."
                + ("" if right else " What does it draw for a district, and from which distribution?"),
            ),
        )
    )
