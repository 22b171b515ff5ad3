"""Simulate a multi-site trial, and check the counts of one.

Every site gives half of its participants to each arm; the successes of an arm are binomial.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

COUNT_COLUMNS = ["n_control", "n_treated", "control", "treated"]

QUESTION_SITES = pd.DataFrame(
    {
        "n": [30, 300, 50, 20, 100],
        "baseline": [0.1, 0.15, 0.01, 0.05, 0.1],
        "effect": [0.0, 0.1, 0.2, -0.1, 0.1],
    },
    index=pd.Index(list("ABCDE"), name="site"),
)
"""The five sites as the question states them; site D's treated arm has probability -0.05."""

VALID_SITES = QUESTION_SITES.assign(baseline=[0.1, 0.15, 0.01, 0.15, 0.1])
"""The same sites and effects, with site D's baseline raised so that every probability exists."""


class TrialError(ValueError):
    """A trial cannot be simulated or analysed as asked; the message says which site, and why."""


def question_trial() -> pd.DataFrame:
    """Return the counts that the question's own generator gives at the question's own seed.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``site``; whole numbers ``n_control``, ``n_treated``, ``control``, ``treated``.
    """
    half = QUESTION_SITES["n"] // 2
    return pd.DataFrame(
        {"n_control": half, "n_treated": half, "control": [2, 29, 0, 0, 6], "treated": [1, 46, 4, 0, 7]}
    )


def arm_probabilities(
    sites: pd.DataFrame, *, scale: str = "probability", out_of_range: str = "raise"
) -> pd.DataFrame:
    """Return each site's probability of success in both arms.

    Parameters
    ----------
    sites : pandas.DataFrame
        Indexed by site; ``baseline`` and ``effect`` on `scale`.
    scale : {"probability", "logit"}
        Whether ``baseline`` is a probability and ``effect`` a difference of probabilities, or the
        two are log odds and a log odds ratio.
    out_of_range : {"raise", "clip"}
        What to do where baseline plus effect is no probability. ``"clip"`` is what comparing a
        uniform random number with it does: below 0 becomes never, above 1 always.

    Returns
    -------
    pandas.DataFrame
        Indexed by site; ``control`` and ``treated``.

    Raises
    ------
    TrialError
        If a probability lies outside 0 to 1 (and is not to be clipped) or a column is missing.
    """
    if scale not in ("probability", "logit"):
        raise TrialError(f"scale must be 'probability' or 'logit', not {scale!r}.")
    if out_of_range not in ("raise", "clip"):
        raise TrialError(f"out_of_range must be 'raise' or 'clip', not {out_of_range!r}.")
    missing = {"baseline", "effect"} - set(sites.columns)
    if missing:
        raise TrialError(f"sites needs columns baseline and effect; missing: {sorted(missing)}.")
    values = sites[["baseline", "effect"]].to_numpy(dtype=float)
    if not np.isfinite(values).all():
        raise TrialError("Every baseline and effect must be a number; one is missing or infinite.")
    p = np.column_stack([values[:, 0], values.sum(axis=1)])
    if scale == "logit":
        p = expit(p)
    elif out_of_range == "clip":
        p = p.clip(0, 1)
    for site, row, given in zip(sites.index, p, values, strict=True):
        for arm, value in zip(["control", "treated"], row, strict=True):
            # 0.1 + 0.9 may miss 1 by rounding
            if not -1e-12 <= value <= 1 + 1e-12:
                raise TrialError(
                    f"Site {site}: baseline {given[0]:g} and effect {given[1]:g} put the {arm} "
                    f"arm at probability {value:.3g}, outside 0 to 1; change one of them, or state "
                    "both as log odds with scale='logit'."
                )
    return pd.DataFrame(p.clip(0, 1), index=sites.index, columns=["control", "treated"])


def simulate_trial(
    sites: pd.DataFrame,
    *,
    seed: int | np.random.Generator,
    scale: str = "probability",
    multiply: int = 1,
    out_of_range: str = "raise",
) -> pd.DataFrame:
    """Simulate one multi-site trial, half of each site's participants in each arm.

    Parameters
    ----------
    sites : pandas.DataFrame
        Indexed by site, such as `VALID_SITES`; ``n`` (participants, even), ``baseline`` (of the
        control arm) and ``effect``, the last two on `scale`.
    seed : int or numpy.random.Generator
        Source of randomness.
    scale, out_of_range : str
        See `arm_probabilities`.
    multiply : int
        Make every site this many times larger.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``site``; whole numbers ``n_control``, ``n_treated`` and successes ``control``,
        ``treated``: the sufficient statistics of ``n`` rows of zeros and ones.

    Raises
    ------
    TrialError
        If a probability lies outside 0 to 1, a site's size is not an even whole number of at
        least 2, or sites repeat.

    Examples
    --------
    >>> simulate_trial(VALID_SITES, seed=1)["n_control"].tolist()
    [15, 150, 25, 10, 50]
    """
    if "n" not in sites.columns:
        raise TrialError("sites needs a column n, the number of participants at each site.")
    if sites.empty or sites.index.has_duplicates:
        raise TrialError("A trial needs at least one site, and every site a label of its own.")
    if multiply < 1 or multiply != int(multiply):
        raise TrialError(f"multiply must be a whole number of at least 1, not {multiply!r}.")
    for site, n in sites["n"].items():
        if not np.isfinite(n) or n != int(n) or n % 2 or n < 2:
            raise TrialError(
                f"Site {site} has {n:g} participants; half go to each arm, so give an even whole "
                "number of at least 2."
            )
    p = arm_probabilities(sites, scale=scale, out_of_range=out_of_range)
    half = (sites["n"] * multiply // 2).astype(int)
    rng = np.random.default_rng(seed)
    counts = pd.DataFrame(
        {
            "n_control": half,
            "n_treated": half,
            "control": rng.binomial(half, p["control"]),
            "treated": rng.binomial(half, p["treated"]),
        }
    )
    return counts.rename_axis("site")


def check_trial(trial: pd.DataFrame) -> pd.DataFrame:
    """Return a trial's counts as whole numbers, or say what is wrong with them.

    Parameters
    ----------
    trial : pandas.DataFrame
        Indexed by site, with the columns ``n_control``, ``n_treated``, ``control``, ``treated``.

    Returns
    -------
    pandas.DataFrame
        Those four columns as integers.

    Raises
    ------
    TrialError
        If a column is missing, an arm is empty, or a count is not whole or out of range.
    """
    missing = [column for column in COUNT_COLUMNS if column not in trial.columns]
    if missing:
        raise TrialError(f"A trial needs the columns {', '.join(COUNT_COLUMNS)}; missing: {missing}.")
    if trial.empty:
        raise TrialError("A trial needs at least one site; this one has none.")
    counts = trial[COUNT_COLUMNS].to_numpy(dtype=float)
    if not np.isfinite(counts).all() or (counts != np.floor(counts)).any():
        raise TrialError("Participants and successes must be whole numbers; one of them is not.")
    for site, (n_control, n_treated, control, treated) in zip(trial.index, counts, strict=True):
        for arm, n, y in (("control", n_control, control), ("treated", n_treated, treated)):
            if n < 1:
                raise TrialError(f"Site {site} has nobody in its {arm} arm; leave the site out.")
            if not 0 <= y <= n:
                raise TrialError(
                    f"Site {site} has {y:g} successes among {n:g} participants of its {arm} arm; "
                    "successes must lie between 0 and the participants."
                )
    return trial[COUNT_COLUMNS].astype(int)


def as_rows(trial: pd.DataFrame) -> pd.DataFrame:
    """Return a trial with one row per site and arm, as Bambi's ``p(successes, trials)`` wants it.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts as `simulate_trial` returns them.

    Returns
    -------
    pandas.DataFrame
        Columns ``site``, ``intervention`` (0 or 1), ``successes``, ``trials``.
    """
    trial = check_trial(trial)
    arms = [
        pd.DataFrame(
            {
                "site": trial.index.astype(str),
                "intervention": code,
                "successes": trial[arm].to_numpy(),
                "trials": trial[f"n_{arm}"].to_numpy(),
            }
        )
        for code, arm in enumerate(["control", "treated"])
    ]
    return pd.concat(arms, ignore_index=True)
