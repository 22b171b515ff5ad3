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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import scipy.stats
import xarray as xr

from fieldguide.models.graph import UnknownModelError, parameterization_of, problem_of
from fieldguide.models.schools import BAMBI_TERMS, FORMULA, PRIORS, with_catholic
from fieldguide.priors import TrialPriors, prior_name
from fieldguide.problem import Problem, plain_label
from fieldguide.reference import Reference, exact_posterior, schools_posterior, trial_posterior
from fieldguide.reml import cross_products
from fieldguide.scores import THRESHOLDS

WITHIN = 4.5
"""Monte Carlo standard errors that a mean or a standard deviation may be off."""
SLACK = 0.02
"""Posterior standard deviations more, for what an estimated Monte Carlo error leaves out."""
FEW = 0.001
"""Share of transitions that may diverge."""
COARSE = 0.3
"""Allowance for a mean, in posterior standard deviations, from which on draws are too few to judge."""
AGREE = 1.02
"""R-hat from which on chains are said to disagree: that of right fits, too, passes 1.01 by chance."""
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
        return bool(self.points >= self.possible)


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

    def require(self, what: str, points: float | None = None) -> None:
        """Raise with its words where a criterion has fewer points, as a test of otter-grader wants it.

        Parameters
        ----------
        what : str
            The criterion, by the beginning of its name.
        points : float, optional
            All that are possible by default.

        Raises
        ------
        AssertionError
            With the criterion's words.
        ValueError
            If there is no such criterion.
        """
        for one in self.criteria:
            if one.what.startswith(what):
                if one.points < (one.possible if points is None else points):
                    raise AssertionError(one.words)
                return
        raise ValueError(f"No criterion begins with {what!r}: {[one.what for one in self.criteria]}.")

    def __str__(self) -> str:
        lines = [f"{self.points:g} of {self.possible:g} points"]
        lines += [
            f"{'+' if one.met else '-'} {one.what} ({one.points:g} of {one.possible:g}): {one.words}"
            for one in self.criteria
        ]
        return "\n".join(lines)


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

    def exact(counts: pd.DataFrame = counts, prior: Any = sigma_prior) -> Reference:
        users, women = counts["users"].to_numpy(), counts["women"].to_numpy()
        return exact_posterior(users, women, sigma_prior=prior, district=list(counts.index))

    def mistakes(posterior: xr.Dataset) -> Iterator[tuple[str, xr.Dataset, Reference]]:
        right = exact()
        yield from _other_orders(posterior, right, "district", ["alpha"])
        yield from _other_powers(posterior, right, ["sigma"])
        yield from _exchanged(posterior, right, [("alpha_bar", "sigma")])
        for prior in LIKELY_PRIORS:
            if prior_name(prior) != prior_name(sigma_prior):
                yield f"{OTHER_PRIOR} on sigma: {COMPARE}", posterior, exact(prior=prior)
        for name, table in (others or {}).items():
            if len(table) == len(counts):
                yield f"The draws would be right for the data of {name}.", posterior, exact(table)

    return _judge(
        draws,
        exact(),
        ["alpha_bar", "sigma", "alpha"],
        mistakes,
        translate=_districts_from_bambi,
        spreads={"sigma": sigma_prior},
    )


OTHER_PRIOR = "The draws would be right under another prior"
COMPARE = "compare yours with the task's."


def _districts_from_bambi(posterior: xr.Dataset) -> xr.Dataset:
    if not {"Intercept", "1|district", "1|district_sigma"} <= set(posterior.data_vars):
        return posterior
    effects = posterior["1|district"]
    (inner,) = _inner(effects)
    return xr.Dataset(
        {
            "alpha_bar": posterior["Intercept"],
            "sigma": posterior["1|district_sigma"],
            "alpha": (posterior["Intercept"] + effects).rename({inner: "district"}),
        }
    )


def judge_trial(draws: Any, trial: pd.DataFrame, priors: TrialPriors | None = None) -> Verdict:
    """Judge a fit of a multi-site trial.

    Parameters
    ----------
    draws : DataTree
        With ``intercept``, ``effect``, ``sd_intercept``, ``sd_effect``, ``corr``, ``site_intercept`` and
        ``site_effect`` as `fieldguide.models.trial_model` has them.
    trial : DataFrame
        The student's data, as `fieldguide.data.simulate_trial` returns them.
    priors : TrialPriors, optional
        Those that were asked for, the question's by default.

    Returns
    -------
    Verdict
        As `judge_districts` returns it.
    """
    asked = priors or TrialPriors()

    def mistakes(posterior: xr.Dataset) -> Iterator[tuple[str, xr.Dataset, Reference]]:
        right = _exact_trial(trial, asked)
        yield from _other_orders(posterior, right, "site", ["site_intercept", "site_effect"])
        yield from _other_powers(posterior, right, ["sd_intercept", "sd_effect"])
        pairs = [
            ("intercept", "effect"),
            ("sd_intercept", "sd_effect"),
            ("site_intercept", "site_effect"),
        ]
        yield from _exchanged(posterior, right, pairs)
        yield from _exchanged(posterior, right, pairs, together=True)
        arms = trial.rename(
            columns={"control": "treated", "treated": "control"}
            | {"n_control": "n_treated", "n_treated": "n_control"}
        )
        yield (
            "The draws would be right with the two arms exchanged.",
            posterior,
            _exact_trial(arms, asked),
        )
        for scale in LIKELY_SCALES:
            prior = scipy.stats.halfnorm(scale=scale)
            if prior_name(prior) != prior_name(asked.sd):
                other = dataclasses.replace(asked, sd=prior)
                yield f"{OTHER_PRIOR} on the sds: {COMPARE}", posterior, _exact_trial(trial, other)

    names = ["intercept", "effect", "sd_intercept", "sd_effect", "corr", "site_intercept", "site_effect"]
    spreads = {"sd_intercept": asked.sd, "sd_effect": asked.sd}
    return _judge(draws, _exact_trial(trial, asked), names, mistakes, spreads=spreads)


LIKELY_SCALES = (0.2, 1.0)
"""Scales of half-normal priors on the trial's sds that a student may have used instead."""


def _exact_trial(trial: pd.DataFrame, priors: TrialPriors) -> Reference:
    return trial_posterior(trial, priors, log2_points=10)


def judge_schools(draws: Any, schools: pd.DataFrame, *, lkj_eta: float | None = None) -> Verdict:
    """Judge a full Bayesian fit of a student's schools, with the priors of the book.

    Parameters
    ----------
    draws : DataTree
        With ``beta`` (dimension ``term``), ``sd_intercept``, ``sd_slope`` and ``sigma``, and
        ``correlation`` where it was asked for; or Bambi's names for them.
    schools : DataFrame
        The student's data.
    lkj_eta : float or None
        Shape of the prior of the correlation; None for independent intercepts and slopes.

    Returns
    -------
    Verdict
        As `judge_districts` returns it.
    """
    table = with_catholic(schools)
    sums = cross_products(FORMULA, table)
    right = schools_posterior(sums, lkj_eta=lkj_eta, **PRIORS)

    def mistakes(posterior: xr.Dataset) -> Iterator[tuple[str, xr.Dataset, Reference]]:
        yield from _other_powers(posterior, right, ["sd_intercept", "sd_slope", "sigma"])
        yield from _exchanged(
            posterior, right, [("sd_intercept", "sd_slope"), ("sd_intercept", "sigma")]
        )
        yield from _other_orders(posterior, right, "term", ["beta"])
        for scale in (1.0, 2.0, 10.0):
            sd_prior = scipy.stats.halfnorm(scale=scale)
            other = schools_posterior(sums, lkj_eta=lkj_eta, **PRIORS | {"sd_prior": sd_prior})
            yield f"{OTHER_PRIOR} on the sds: {COMPARE}", posterior, other
        for eta, words in ((2.0, "with a correlation"), (None, "without a correlation")):
            if eta != lkj_eta:
                other = schools_posterior(sums, lkj_eta=eta, **PRIORS)
                yield f"The draws would be right in the model {words}.", posterior, other

    if lkj_eta is None and "correlation" in getattr(draws, "posterior", ()):
        return _nothing(
            _Unreadable("the model has a correlation that was not asked for."), DIAGNOSTICS | ANSWER
        )
    names = ["beta", "sd_intercept", "sd_slope", "sigma", *["correlation"] * (lkj_eta is not None)]
    spreads = {"sd_intercept": PRIORS["sd_prior"], "sd_slope": PRIORS["sd_prior"]}
    return _judge(draws, right, names, mistakes, translate=_schools_from_bambi, spreads=spreads)


def _schools_from_bambi(posterior: xr.Dataset) -> xr.Dataset:
    if not {*BAMBI_TERMS, "1|school_sigma", "ses|school_sigma"} <= set(posterior.data_vars):
        return posterior
    terms = xr.IndexVariable("term", list(BAMBI_TERMS))
    return xr.Dataset(
        {
            "beta": xr.concat([posterior[name] for name in BAMBI_TERMS], terms),
            "sd_intercept": posterior["1|school_sigma"],
            "sd_slope": posterior["ses|school_sigma"],
            "sigma": posterior["sigma"],
        }
    )


def judge_diagnostics(draws: Any) -> Verdict:
    """Judge what can be seen without an exact answer: divergences, R-hat and ESS of a fit of anything.

    Parameters
    ----------
    draws : DataTree
        With ``posterior`` and ``sample_stats``.

    Returns
    -------
    Verdict
        Of four points: one for draws that can be read, three for diagnostics.
    """
    try:
        posterior, statistics = _groups(draws)
        numbers = [name for name, one in posterior.data_vars.items() if one.dtype.kind in "fiu"]
        if not numbers:
            raise _Unreadable("the posterior has no variables that are numbers.")
        _check_draws(posterior[numbers], statistics)
    except _Unreadable as fault:
        return _nothing(fault, DIAGNOSTICS)
    return Verdict((READABLE, *_diagnostics(posterior[numbers], statistics)))


READABLE = Criterion("draws that can be read", 1, 1, "the variables are there, and all are numbers.")
DIAGNOSTICS = {"no divergences": 1, "chains that agree": 1, "enough draws": 1}
ANSWER = {"the right means": 4, "the right standard deviations": 2}
"""Points at most."""


def _judge(
    draws: Any,
    exact: Reference,
    names: Sequence[str],
    mistakes: Callable[[xr.Dataset], Iterable[tuple[str, xr.Dataset, Reference]]],
    *,
    translate: Callable[[xr.Dataset], xr.Dataset] | None = None,
    spreads: Mapping[str, Any],
) -> Verdict:
    """Hold draws against an exact answer; say which mistake would explain those that are wrong."""
    try:
        posterior, statistics = _groups(draws)
        posterior = _like(translate(posterior) if translate else posterior, exact, names)
        _check_draws(posterior, statistics)
    except _Unreadable as fault:
        return _nothing(fault, DIAGNOSTICS | ANSWER)
    gaps = _gaps(posterior, exact)
    answer = list(_answer(gaps, exact))
    if _wrong(gaps).any():
        hint = _likely_mistake(posterior, mistakes(posterior), spreads)
        answer = [
            one if one.met else dataclasses.replace(one, words=f"{one.words} {hint}") for one in answer
        ]
    return Verdict((READABLE, *_diagnostics(posterior, statistics), *answer))


class _Unreadable(ValueError):
    """Draws lack what a judgement needs."""


def _nothing(fault: _Unreadable, rest: Mapping[str, float]) -> Verdict:
    """Return the verdict on draws that cannot be read: the fault, and no points for the rest."""
    unread = dataclasses.replace(READABLE, points=0, words=str(fault))
    none = "nothing could be judged."
    return Verdict((unread, *(Criterion(what, 0, points, none) for what, points in rest.items())))


def _groups(draws: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Return posterior and sampler statistics of a fit."""
    try:
        return draws["posterior"].to_dataset(), draws["sample_stats"].to_dataset()
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise _Unreadable(
            f"this is a {type(draws).__name__}, not what pm.sample returns, with its groups posterior "
            f"and sample_stats ({error})."
        ) from None


def _inner(variable: xr.DataArray) -> list:
    return [dim for dim in variable.dims if dim not in ("chain", "draw")]


def _like(posterior: xr.Dataset, exact: Reference, names: Sequence[str]) -> xr.Dataset:
    """Return draws of the named variables, with groups called and ordered as in the answer."""
    if missing := sorted(set(names) - set(posterior.data_vars)):
        raise _Unreadable(
            f"the posterior has no {', '.join(missing)}; it has "
            f"{', '.join(map(str, posterior.data_vars))}. Name the variables as the task does."
        )
    found = {}
    for name in names:
        one, wanted = posterior[name], exact.mean[name]
        inner = _inner(one)
        if len(inner) != wanted.ndim:
            raise _Unreadable(f"{name} has dimensions {', '.join(map(str, one.dims))}.")
        for mine, dim in zip(inner, wanted.dims, strict=True):
            if one.sizes[mine] != wanted.sizes[dim]:
                raise _Unreadable(
                    f"{name} has {one.sizes[mine]} {dim}s where there are {wanted.sizes[dim]}."
                )
            if mine in one.coords:  # by their labels, where these are the answer's
                labels = [plain_label(label) for label in one[mine].values]
                order = [plain_label(label) for label in wanted[dim].values]
                if sorted(labels) == sorted(order):
                    one = one.isel({mine: [labels.index(label) for label in order]})
            one = one.drop_vars(mine, errors="ignore").rename({mine: dim} if mine != dim else {})
        found[name] = one.reset_coords(drop=True)
    return xr.Dataset(found)


def _check_draws(posterior: xr.Dataset, statistics: xr.Dataset) -> None:
    for name, one in posterior.data_vars.items():
        if not {"chain", "draw"} <= set(one.dims):
            raise _Unreadable(f"{name} has dimensions {', '.join(map(str, one.dims))}.")
        if one.dtype.kind not in "fiu":
            raise _Unreadable(f"the draws of {name} are not numbers.")
        if not np.isfinite(one).all():
            raise _Unreadable(f"some draws of {name} are not numbers.")
        if one.size and float(one.std(("chain", "draw")).min()) < 1e-9:
            raise _Unreadable(f"{name} does not move: a number that is repeated is no draw.")
    if posterior.sizes["chain"] < 2 or posterior.sizes["draw"] < 4:
        raise _Unreadable("fewer than two chains of four draws: whether chains agree cannot be asked.")
    if "diverging" not in statistics:
        raise _Unreadable("sample_stats does not say which transitions diverged; hand in the whole fit.")
    if statistics["diverging"].size != posterior.sizes["chain"] * posterior.sizes["draw"]:
        raise _Unreadable(
            f"sample_stats is of {statistics['diverging'].size} transitions, the posterior of "
            f"{posterior.sizes['chain'] * posterior.sizes['draw']} draws; hand in one fit, whole."
        )


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
        float(rhat <= AGREE),
        1,
        f"the largest R-hat is {rhat:.3f}."
        + ("" if rhat <= AGREE else " Look at the chains of that parameter one by one."),
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


def _gaps(posterior: xr.Dataset, exact: Reference) -> pd.DataFrame:
    """Return by how much each scalar's mean and sd are off, and by how much they may be."""
    rows = {}
    mcse = {kind: az.mcse(posterior, method=kind) for kind in ("mean", "sd")}
    found = {"mean": posterior.mean(("chain", "draw")), "sd": posterior.std(("chain", "draw"))}
    for name in posterior.data_vars:
        unit = exact.sd[name].values
        for kind, right in (("mean", exact.mean[name].values), ("sd", unit)):
            off = np.abs(found[kind][name].values - right) / unit
            allowed = WITHIN * mcse[kind][name].values / unit + SLACK + 3 * exact.error
            for k, (a, b) in enumerate(zip(np.ravel(off), np.ravel(allowed), strict=True)):
                rows[str(name), k, kind] = {"off": float(a), "allowed": float(b)}
    table = pd.DataFrame(rows).T
    table.index.names = ["name", "place", "kind"]
    return table


def _wrong(gaps: pd.DataFrame) -> pd.Series:
    """Say which figures are farther off than they may be; draws that do not move have no allowance."""
    return ~(gaps["off"] <= gaps["allowed"])


def _answer(gaps: pd.DataFrame, exact: Reference) -> Iterator[Criterion]:
    wrong = _wrong(gaps)
    coarse = bool((gaps["allowed"].xs("mean", level="kind") > COARSE).any())
    for kind, possible, words in (("mean", 4, "means"), ("sd", 2, "standard deviations")):
        if coarse and not wrong.any():
            too_few = "your draws are too few to tell whether they are right; draw more."
            yield Criterion(f"the right {words}", 0, possible, too_few)
            continue
        of_kind = wrong.xs(kind, level="kind")
        share = 1 - float(of_kind.mean())
        names = ", ".join(_of_place(exact, name, place) for name, place in of_kind.index[of_kind])
        yield Criterion(
            f"the right {words}",
            possible if share == 1 else float(np.floor(possible * share)),
            possible,
            f"within the Monte Carlo error of your draws, all {words} are those of the posterior."
            if share == 1
            else f"farther from the posterior than the Monte Carlo error of your draws: {names}.",
        )


def _of_place(exact: Reference, name: str, place: int) -> str:
    """Name a scalar, such as ``sigma`` or ``alpha of district 14``."""
    one = exact.mean[name]
    return f"{name} of {one.dims[0]} {plain_label(one[one.dims[0]].values[place])}" if one.dims else name


# ---------------------------------------------------------------------------------------------
# Mistakes


def _fits(posterior: xr.Dataset, exact: Reference) -> bool:
    gaps = _gaps(posterior, exact)
    return bool((gaps["off"] <= 2 * gaps["allowed"]).all())


def _likely_mistake(
    posterior: xr.Dataset,
    mistakes: Iterable[tuple[str, xr.Dataset, Reference]],
    spreads: Mapping[str, Any],
) -> str:
    """Say which mistake, if it had been made, would explain the draws."""
    for words, mended, exact in mistakes:
        if _fits(mended, exact):
            return words
    for name, prior in spreads.items():
        if _is_the_prior(posterior[name], prior):
            return f"The draws of {name} are those of its prior: does {name} enter your model?"
    return "Compare your model with the task line by line: priors, data, order."


def _other_orders(
    posterior: xr.Dataset, exact: Reference, dim: str, names: Sequence[str]
) -> Iterator[tuple[str, xr.Dataset, Reference]]:
    """Yield the draws with groups in every other order, or where those are many with two exchanged."""
    size = posterior.sizes[dim]
    places = range(size)
    if size <= 4:
        orders = [list(order) for order in itertools.permutations(places)]
    else:
        orders = [
            [b if k == a else a if k == b else k for k in places]
            for a, b in itertools.combinations(places, 2)
        ]
    for order in orders:
        if order != sorted(order):
            changed = {name: posterior[name].isel({dim: order}) for name in names}
            yield (
                f"The effects would be right in another order of the {dim}s.",
                posterior.assign(changed),
                exact,
            )


def _other_powers(
    posterior: xr.Dataset, exact: Reference, names: Sequence[str]
) -> Iterator[tuple[str, xr.Dataset, Reference]]:
    """Yield the draws with variances taken for standard deviations, one and all, and the reverse."""
    for some in [list(names), *([name] for name in names if len(names) > 1)]:
        if not all((posterior[name] > 0).all() for name in some):
            continue
        for power, words in ((0.5, "looks like a variance"), (2, "looks like its own root")):
            changed = {name: posterior[name] ** power for name in some}
            yield f"Your {' and '.join(some)} {words}.", posterior.assign(changed), exact


def _exchanged(
    posterior: xr.Dataset, exact: Reference, pairs: Sequence[tuple[str, str]], together: bool = False
) -> Iterator[tuple[str, xr.Dataset, Reference]]:
    """Yield the draws with two parameters under each other's names; `together`, all pairs at once."""
    for some in [list(pairs)] if together else [[pair] for pair in pairs]:
        changed = {a: posterior[b] for pair in some for a, b in (pair, pair[::-1])}
        words = ", ".join(f"{a} and {b}" for a, b in some)
        yield f"{words} have each other's draws.", posterior.assign(changed), exact


def _is_the_prior(draws: xr.DataArray, prior: Any) -> bool:
    """Whether draws of a parameter are those of its prior, within Monte Carlo error."""
    one = draws.to_dataset(name="x")
    errors = [float(az.mcse(one, method=kind)["x"]) for kind in ("mean", "sd")]
    off = np.abs([float(draws.mean()) - prior.mean(), float(draws.std()) - prior.std()])
    return bool((off <= WITHIN * np.array(errors) + SLACK * prior.std()).all())


# ---------------------------------------------------------------------------------------------
# Models


@dataclasses.dataclass(frozen=True)
class ModelReading:
    """What was read from the graph of a model.

    Attributes
    ----------
    problem : Problem or None
        Which posterior it has.
    form : str
        In which coordinates its sampler moves, see `fieldguide.models.parameterization_of`.
    fault : str
        Why nothing could be read, where nothing could.
    """

    problem: Problem | None
    form: str = ""
    fault: str = ""


def read_model(model: Any) -> ModelReading:
    """Read what a student's model is: from its graph, and by its log density at random points."""
    if not isinstance(model, pm.Model):
        return ModelReading(None, fault=f"this is a {type(model).__name__}, not a PyMC model.")
    if not model.free_RVs:
        return ModelReading(None, fault="the model has no parameters.")
    try:
        return ModelReading(problem_of(model), parameterization_of(model))
    except (UnknownModelError, ValueError) as error:
        return ModelReading(None, fault=f"the model could not be recognised: {error}")


def judge_form(model: Any, asked: Problem | Sequence[Problem], *, wanted: str) -> Verdict:
    """Judge whether a model has the posterior that was asked for, in the geometry that was asked for.

    Parameters
    ----------
    model : pymc.Model or ModelReading
        With the variable names of the task.
    asked : Problem or sequence of Problem
        Of the exact answer, ``exact_posterior(...).problem``; of several the nearest counts, such as
        the same without the groups' labels.
    wanted : {"centered", "non-centered"}
        The geometry.

    Returns
    -------
    Verdict
        Three points for the posterior, which is read from the graph and compared by log density at
        random points, and two for the geometry.
    """
    posterior, geometry = "the posterior that was asked for", f"a {wanted} form"
    found = model if isinstance(model, ModelReading) else read_model(model)
    if found.problem is None:
        return Verdict((Criterion(posterior, 0, 3, found.fault), Criterion(geometry, 0, 2, found.fault)))
    names = {"model": "the model", "priors": "a prior", "data": "the data"}
    parts = min(
        (
            [
                words
                for part, words in names.items()
                if getattr(found.problem, part) != getattr(one, part)
            ]
            for one in ([asked] if isinstance(asked, Problem) else asked)
        ),
        key=len,
    )
    right = found.form == wanted
    return Verdict(
        (
            Criterion(
                posterior,
                3 - len(parts),
                3,
                f"{' and '.join(parts)} differ{'s' * (len(parts) == 1)} from the task's."
                if parts
                else "model, priors and data are those of the task.",
            ),
            Criterion(
                geometry,
                2 * right,
                2,
                f"the sampler moves in the coordinates of the {found.form} form."
                + ("" if right else " What does it draw for a group, and from which distribution?"),
            ),
        )
    )


# ---------------------------------------------------------------------------------------------
# Numbers


def require_number(name: str, value: Any, right: float, within: float, hint: str = "") -> None:
    """Raise unless a student's number is near enough to the right one, without saying which that is.

    Parameters
    ----------
    name : str
        What the student calls it.
    value : object
        The student's.
    right, within : float
        The right one, and how far off it may be.
    hint : str
        What to look at, where it is wrong.

    Raises
    ------
    AssertionError
        With words for the student.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise AssertionError(
            f"{name} is a {type(value).__name__}, where one number was asked for."
        ) from None
    if not abs(number - right) <= within:
        raise AssertionError(f"{name} is not right. {hint}".strip())
