"""The dictionary's table of means: what its scripts found in each tool, beside the exact answer.

The scripts are ``data/r_dictionary.R`` and ``data/dictionary.py``; what they printed is stored beside
them. A mean that lies farther from the exact one than chance allows is refused, and the build stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.stats

from fieldguide.data import load_schools, load_three_districts, question_trial, quoted
from fieldguide.priors import SIGMA_PRIOR, TrialPriors
from fieldguide.reference import (
    Posterior,
    TrialPosterior,
    exact_posterior,
    flat,
    schools_posterior,
    trial_posterior,
)
from fieldguide.reml import cross_products

FARTHEST = 5.0
"""Monte Carlo standard errors that a mean may lie from the exact one."""

SCHOOLS = 40
"""How many schools the dictionary's scripts take, to keep their runs short."""

INDEPENDENT = 1e6
"""Shape of an LKJ prior that leaves a correlation of zero and no other."""


def districts_exact() -> Posterior:
    """Return the exact posterior of the three districts under the dictionary's priors."""
    counts = load_three_districts()
    return exact_posterior(counts["users"], counts["women"], sigma_prior=SIGMA_PRIOR)


def trial_exact(correlated: bool = True) -> Posterior:
    """Return the trial's posterior without Markov chains, with or without a correlation."""
    priors = TrialPriors() if correlated else TrialPriors(lkj_eta=INDEPENDENT)
    return trial_posterior(question_trial(), priors, log2_points=10)


def schools_exact(correlated: bool = True) -> Posterior:
    """Return the exact posterior of the first schools, with or without a correlation."""
    schools = load_schools()
    first = schools["school"].unique()[:SCHOOLS]
    return schools_posterior(
        cross_products("math ~ ses + (ses | school)", schools[schools["school"].isin(first)]),
        sd_prior=scipy.stats.halfnorm(scale=5),
        sigma_prior=scipy.stats.halfnorm(scale=10),
        fixed_prior=(0.0, 20.0),
        lkj_eta=2.0 if correlated else None,
    )


class Model(NamedTuple):
    """One of the dictionary's models, as its table shows it.

    Attributes
    ----------
    parameters : dict
        Headings of the columns, by the names that the scripts give to the parameters.
    names : dict
        Those that the exact answer names in another way.
    rows : dict
        By heading of a row: the tool, and the exact answer that its means are held against, if any.
    exact : dict
        The exact answers by heading, computed when they are asked for.
    caption : str
        Of the table.
    """

    parameters: dict[str, str]
    names: dict[str, str]
    rows: dict[str, tuple[str, str]]
    exact: dict[str, Callable[[], Posterior]]
    caption: str


_GAP = "Gap: the largest difference from the exact answer, in Monte Carlo standard errors."

MODELS = {
    "districts": Model(
        parameters={
            "alpha_bar": "mean",
            "sigma": "sd",
            **{f"alpha[{j}]": f"district {j}" for j in (1, 2, 3)},
        },
        names={},
        rows={
            **{tool: (tool, "exact") for tool in ("PyMC", "Bambi", "brms", "rstanarm", "Stan")},
            "lme4, maximum likelihood": ("lme4", ""),
        },
        exact={"exact": districts_exact},
        caption=f"Posterior means of the districts' mean, sd and effects, in logits. {_GAP}",
    ),
    "trial": Model(
        parameters={
            "intercept": "intercept",
            "effect": "effect",
            "sd_intercept": "sd of intercepts",
            "sd_effect": "sd of effects",
            "corr": "correlation",
        },
        names={},
        rows={
            **{tool: (tool, "exact") for tool in ("PyMC", "brms", "Stan")},
            "Bambi, uncorrelated": ("Bambi", "exact, uncorrelated"),
            "rstanarm, its own prior": ("rstanarm", ""),
            "lme4, maximum likelihood": ("lme4", ""),
        },
        exact={"exact": trial_exact, "exact, uncorrelated": lambda: trial_exact(correlated=False)},
        caption=f"Posterior means of the trial, in log odds; intercept: half-way between arms. {_GAP}",
    ),
    "schools": Model(
        parameters={
            "intercept": "intercept",
            "slope": "slope",
            "sd_intercept": "sd of intercepts",
            "sd_slope": "sd of slopes",
            "correlation": "correlation",
            "sigma": "residual sd",
        },
        names={"intercept": "beta[Intercept]", "slope": "beta[ses]"},
        rows={
            **{tool: (tool, "exact") for tool in ("PyMC", "brms", "Stan")},
            "Bambi, uncorrelated": ("Bambi", "exact, uncorrelated"),
            "rstanarm, its own prior": ("rstanarm", ""),
            "lme4, REML": ("lme4", ""),
        },
        exact={"exact": schools_exact, "exact, uncorrelated": lambda: schools_exact(correlated=False)},
        caption=f"Posterior means of the schools, in points of the score. {_GAP}",
    ),
}


def stored_means(model: str) -> dict[str, dict]:
    """Return what the scripts found of a model in each tool: parameters with mean, mcse and sd."""
    fits = {
        **quoted("dictionary")["fits"]["means"][model],
        **quoted("r_dictionary")["fits"]["means"][model],
    }
    return {tool: fit["means"] for tool, fit in fits.items()}


class Agreement(NamedTuple):
    """A row of the table: its heading, the means by parameter, and the gap if there is one."""

    heading: str
    means: dict[str, float]
    gap: float | None


def agreements(name: str) -> Iterator[Agreement]:
    """Yield the rows of a model's table: each exact answer, and below it the tools.

    Raises
    ------
    ValueError
        If a tool's mean is not the exact one.
    """
    model, found = MODELS[name], stored_means(name)
    answers = {heading: _named(model, compute()) for heading, compute in model.exact.items()}
    for heading, right in answers.items():
        yield Agreement(heading, {parameter: mean for parameter, (mean, _) in right.items()}, None)
    for heading, (tool, of) in model.rows.items():
        gap = _gap(found[tool], answers[of]) if of else None
        if gap is not None and gap > FARTHEST:
            raise ValueError(f"{heading}: a mean of the {name} is {gap:.1f} MCSE from the exact one")
        means = {parameter: value["mean"] for parameter, value in found[tool].items()}
        yield Agreement(heading, means, gap)


def _gap(found: dict, right: dict[str, tuple[float, float]]) -> float:
    """Return the largest difference of a mean from the exact one, in both errors together."""
    return max(
        abs(value["mean"] - right[parameter][0]) / float(np.hypot(value["mcse"], right[parameter][1]))
        for parameter, value in found.items()
    )


def _named(model: Model, answer: Posterior) -> dict[str, tuple[float, float]]:
    """Return exact means with their own errors, by the names of the scripts' parameters."""
    mean = flat(answer.mean)
    mcse: dict = dict(flat(answer.mcse)) if isinstance(answer, TrialPosterior) else {}
    named = {parameter: model.names.get(parameter, parameter) for parameter in model.parameters}
    return {
        parameter: (float(mean[name]), float(mcse.get(name, 0.0)))
        for parameter, name in named.items()
        if name in mean
    }


def table(name: str) -> dict:
    """Return a model's table as `fieldguide.sphinx_ext` sets it."""
    model = MODELS[name]
    rows = [
        [row.heading]
        + [f"{row.means[p]:.2f}" if p in row.means else "–" for p in model.parameters]
        + ["–" if row.gap is None else f"{row.gap:.1f}"]
        for row in agreements(name)
    ]
    return {
        "name": f"tab-dictionary-{name}",
        "caption": model.caption,
        "columns": ["", *model.parameters.values(), "gap"],
        "rows": rows,
    }
