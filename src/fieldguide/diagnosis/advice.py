"""From figures to advice: a list of rules, the first that holds decides.

The limits were set on one part of the corpus (`fieldguide.studies.corpus`) and left alone when the other
part was looked at. `advise` takes what `fieldguide.diagnosis.measures.measure` found, or a row of the
stored table of it, so that rules can change without fitting again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Limits:
    """Where a figure begins to count."""

    rhat: float = 1.01
    ess: float = 400
    chance_rhat: float = 1.02
    few_divergences: float = 0.005
    low: float = 0.35
    high: float = 0.65
    p: float = 0.05
    sit: float = 0.95
    lost: float = 100.0
    frozen: float = 0.01
    several: float = 5
    apart: float = 1.05
    energy: float = 3.0
    runaway: float = 0.7
    reach: float = 60.0
    sum_r: float = 0.98
    sum_gain: float = 5.0
    capped: float = 0.05
    heavy: float = 0.5
    bfmi: float = 0.3
    slow: float = 0.05
    funnel: float = 5.0
    bend: float = 0.2
    ridge: float = 0.95


LIMITS = Limits()

REMEDIES = ("none", "draws", "step", "form", "depth", "restart", "prior", "model", "data")
"""What may be advised, and was tried on every setting of the corpus where it can be."""

KINDS: dict[str, str] = {
    "healthy": "none",
    "few draws": "draws",
    "scattered": "step",
    "curve": "form",
    "neck": "form",
    "neck, other form already": "step",
    "held": "form",
    "slow form": "form",
    "labels": "model",
    "mirror": "model",
    "modes": "model",
    "stuck": "restart",
    "runaway": "prior",
    "sum": "form",
    "capped": "model",
    "heavy tail": "form",
    "slow": "draws",
}
"""What is the matter, and the remedy that the rules name first for it."""


def flagged(figures: Mapping[str, Any], limits: Limits = LIMITS) -> list[str]:
    """Return which of the usual rules complain: any divergence, R-hat, ESS."""
    flags = []
    if figures["divergences"] > 0:
        flags.append("divergences")
    if not figures["rhat"] <= limits.rhat:
        flags.append("R-hat")
    if not min(figures["ess_bulk"], figures["ess_tail"]) >= limits.ess:
        flags.append("ESS")
    return flags


def kind_of(figures: Mapping[str, Any], limits: Limits = LIMITS) -> str:
    """Say what is the matter with a fit, as a key of `KINDS`.

    Parameters
    ----------
    figures : mapping
        `Measures.figures`, or a row of the table ``corpus_measures``.
    limits : Limits

    Returns
    -------
    str
    """
    f = {name: np.nan if value is None else value for name, value in figures.items()}

    def of(name: str) -> float:
        return float(f.get(name, np.nan))

    divergent = of("divergent_share") > limits.few_divergences
    told = of("divergences") > 0 and of("spread_p") < limits.p
    unmixed = of("rhat") > limits.apart
    few = not min(of("ess_bulk"), of("ess_tail")) >= limits.ess
    if not (divergent or (told and of("spread_place") < limits.low) or few):
        if not of("rhat") > limits.chance_rhat:
            return "healthy"
    if of("energy_apart") > limits.lost or of("step_ratio") < limits.frozen:
        return "runaway" if of("flat") > 0 else "stuck"
    far = of("tail") > limits.runaway and of("reach") > limits.reach
    if of("flat") > 0 or (far and unmixed) or (of("tail") > 1 and of("maxdepth_share") > 0.5):
        return "runaway"
    if (divergent or told) and of("spread_p") < limits.p and of("spread_place") < limits.low:
        return "neck, other form already" if of("centered") == 0 else "neck"
    if unmixed and of("sit") > limits.sit:
        if of("rhat_sorted") < limits.apart:
            return "labels"
        if of("rhat_unsigned") < limits.apart:
            return "mirror"
        if of("energy_apart") > limits.energy:
            return "stuck"
    centered, wide = of("centered"), of("funnel") > limits.funnel
    slow = unmixed or not min(of("ess_bulk"), of("ess_tail")) > limits.slow * of("draws")
    if slow and not divergent and of("sum_r") > limits.sum_r and of("sum_gain") > limits.sum_gain:
        return "sum"
    if divergent or of("divergences") >= limits.several:
        if centered == 1 and (of("spread_place") < limits.low or of("own") < 0.5):
            return "neck"
        if centered == 0 and of("spread_place") > limits.high and of("own") > 0.5 and not wide:
            return "held"
        if np.isnan(centered) and (of("bend") > limits.bend or of("ridge") > limits.ridge):
            return "curve"
        return "scattered"
    if unmixed and of("sit") > limits.sit:
        return "modes"
    if of("maxdepth_share") > limits.capped:
        return "capped"
    if (of("own") > 0.5 and centered == 0 and not wide) or (of("own") < 0.5 and centered == 1):
        return "slow form"
    if of("tail") > limits.heavy or of("bfmi") < limits.bfmi:
        return "heavy tail"
    return "slow" if slow else "few draws"


def remedy_for(figures: Mapping[str, Any], limits: Limits = LIMITS) -> str:
    """Return the remedy that is advised, one of `REMEDIES`."""
    return KINDS[kind_of(figures, limits)]
