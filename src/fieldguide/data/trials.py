"""Simulate a multi-site trial, check the counts of one, and turn rows into counts and back.

The successes of an arm are binomial. A trial is a table of *counts*, one row per site with both arms
beside each other. Where further categories of participants matter it is a table of *groups*, one row
per site, arm and category, as brms takes it with ``successes | trials(trials)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

COUNT_COLUMNS = ["n_control", "n_treated", "control", "treated"]
GROUP_COLUMNS = ["site", "intervention", "successes", "trials"]

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


def arm_ratio(allocation: object) -> float:
    """Return how many participants are treated for each one who is not.

    Parameters
    ----------
    allocation : float or str
        Such as 2, or ``"2:1"`` for two treated participants to one in the control arm.

    Returns
    -------
    float

    Raises
    ------
    TrialError
        If it is no positive number and no pair of them.

    Examples
    --------
    >>> arm_ratio("2:1"), arm_ratio(1)
    (2.0, 1.0)
    """
    try:
        parts = [float(part) for part in str(allocation).split(":")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or not all(np.isfinite(part) and part > 0 for part in parts):
        raise TrialError(
            f"allocation must be a positive number or a ratio such as '2:1' (treated to control), not "
            f"{allocation!r}."
        )
    return parts[0] / (parts[1] if len(parts) == 2 else 1)


def arm_sizes(
    sites: pd.DataFrame, *, allocation: float | str = 1, multiply: int = 1, empty: bool = False
) -> pd.DataFrame:
    """Return how many participants of each site go to each arm.

    Parameters
    ----------
    sites : pandas.DataFrame
        One row per site, with ``n_control`` and ``n_treated``, or with ``n`` and perhaps a column
        ``allocation``.
    allocation : float or str
        Treated participants to one in the control arm, where the table does not say; see `arm_ratio`.
        What does not divide is rounded, halves in favour of the treated arm.
    multiply : int
        Make every site this many times larger.
    empty : bool
        Whether an arm may be empty, as a category of participants may be at a site.

    Returns
    -------
    pandas.DataFrame
        Indexed as `sites`; whole numbers ``n_control`` and ``n_treated``.

    Raises
    ------
    TrialError
        If sizes are missing, not whole, or leave an arm without anybody.
    """
    if multiply < 1 or multiply != int(multiply):
        raise TrialError(f"multiply must be a whole number of at least 1, not {multiply!r}.")
    by_arm = {"n_control", "n_treated"} & set(sites.columns)
    if not by_arm and "n" not in sites.columns:
        raise TrialError(
            "sites needs a column n, the number of participants at each site, or the columns n_control "
            "and n_treated."
        )
    if len(by_arm) == 1 or (by_arm and "n" in sites.columns):
        raise TrialError(
            "sites needs either a column n or both n_control and n_treated; it has "
            f"{', '.join(name for name in ('n', 'n_control', 'n_treated') if name in sites.columns)}."
        )
    named = ["n_control", "n_treated"] if by_arm else ["n"]
    least = 0 if empty else 1 if by_arm else 2
    for name in named:
        for site, n in sites[name].items():
            if not np.isfinite(n) or n != int(n) or n < least:
                who = {"n": "", "n_control": " in its control arm", "n_treated": " in its treated arm"}
                raise TrialError(
                    f"Site {site} has {n:g} participants{who[name]}; give a whole number of at least "
                    f"{least}."
                )
    if by_arm:
        return (sites[named] * multiply).astype(int)
    total = (sites["n"] * multiply).astype(int)
    if "allocation" in sites.columns:
        ratio = sites["allocation"].map(arm_ratio).to_numpy(dtype=float)
    else:
        ratio = np.full(len(sites), arm_ratio(allocation))
    treated = np.floor(total * ratio / (1 + ratio) + 0.5 + 1e-9).astype(int)
    if not empty:
        treated = treated.clip(1, total - 1)
    return pd.DataFrame({"n_control": total - treated, "n_treated": treated}, index=sites.index)


def simulate_trial(
    sites: pd.DataFrame,
    *,
    seed: int | np.random.Generator,
    scale: str = "probability",
    multiply: int = 1,
    out_of_range: str = "raise",
    allocation: float | str = 1,
) -> pd.DataFrame:
    """Simulate one multi-site trial.

    Parameters
    ----------
    sites : pandas.DataFrame
        Indexed by site, such as `VALID_SITES`; ``n`` participants or ``n_control`` and ``n_treated``
        (see `arm_sizes`), ``baseline`` (of the control arm) and ``effect``, the last two on `scale`.
    seed : int or numpy.random.Generator
        Source of randomness.
    scale, out_of_range : str
        See `arm_probabilities`.
    multiply : int
        Make every site this many times larger.
    allocation : float or str
        Treated participants to one in the control arm: half of each site's in each by default.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``site``; whole numbers ``n_control``, ``n_treated`` and successes ``control``,
        ``treated``: the sufficient statistics of ``n`` rows of zeros and ones.

    Raises
    ------
    TrialError
        If a probability lies outside 0 to 1, a site's size is not a whole number that leaves somebody
        in each arm, or sites repeat.

    Examples
    --------
    >>> simulate_trial(VALID_SITES, seed=1)["n_control"].tolist()
    [15, 150, 25, 10, 50]
    >>> simulate_trial(VALID_SITES, seed=1, allocation="2:1")["n_treated"].tolist()
    [20, 200, 33, 13, 67]
    """
    if sites.empty or sites.index.has_duplicates:
        raise TrialError("A trial needs at least one site, and every site a label of its own.")
    sizes = arm_sizes(sites, allocation=allocation, multiply=multiply)
    p = arm_probabilities(sites, scale=scale, out_of_range=out_of_range)
    rng = np.random.default_rng(seed)
    counts = sizes.assign(
        control=rng.binomial(sizes["n_control"], p["control"]),
        treated=rng.binomial(sizes["n_treated"], p["treated"]),
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


# ---------------------------------------------------------------------------------------------
# Categories of participants, and rows


def check_groups(groups: pd.DataFrame) -> pd.DataFrame:
    """Return a trial's groups with their numbers whole, or say what is wrong with them.

    Parameters
    ----------
    groups : pandas.DataFrame
        One row per group of participants who have everything in common: ``site``, ``intervention``
        (0 or 1), ``successes``, ``trials`` (how many participants), and a column for each covariate.

    Returns
    -------
    pandas.DataFrame
        The same rows, numbered from 0; sites as text, counts as integers.

    Raises
    ------
    TrialError
        If a column is missing, a count is not whole or out of range, a covariate is missing
        somewhere or is the same everywhere, or a site has nobody in one of its arms.
    """
    missing = [name for name in GROUP_COLUMNS if name not in groups.columns]
    if missing:
        raise TrialError(
            f"Groups of a trial need the columns {', '.join(GROUP_COLUMNS)}; missing: {missing}."
        )
    if groups.empty:
        raise TrialError("A trial needs at least one group of participants; this one has none.")
    groups = groups.reset_index(drop=True)
    numbers = groups[GROUP_COLUMNS[1:]].to_numpy(dtype=float)
    for row, (arm, successes, trials) in enumerate(numbers, start=1):
        if arm not in (0, 1):
            raise TrialError(f"Row {row}: intervention is {arm:g}; write 0 (control) or 1 (treated).")
        if not np.isfinite([successes, trials]).all() or successes % 1 or trials % 1 or trials < 1:
            raise TrialError(
                f"Row {row}: {successes:g} successes among {trials:g} participants; both must be whole "
                "numbers, and a group without participants is left out."
            )
        if not 0 <= successes <= trials:
            raise TrialError(
                f"Row {row}: {successes:g} successes among {trials:g} participants; successes must lie "
                "between 0 and the participants."
            )
    covariates = [name for name in groups.columns if name not in GROUP_COLUMNS]
    for name in covariates:
        if groups[name].isna().any():
            row = int(np.argmax(groups[name].isna())) + 1
            raise TrialError(f"Row {row}: {name} is missing; fill it, or leave the participants out.")
        if len(set(groups[name])) == 1:
            raise TrialError(
                f"Everybody has the {name} {groups[name].iloc[0]!r}; leave out what does not differ."
            )
    counts = groups.assign(site=groups["site"].astype(str))
    counts = counts.astype(dict.fromkeys(GROUP_COLUMNS[1:], int))
    for code, arm in enumerate(["control", "treated"]):
        there = set(counts.loc[counts["intervention"] == code, "site"])
        for site in counts["site"]:
            if site not in there:
                raise TrialError(f"Site {site} has nobody in its {arm} arm; leave the site out.")
    return counts


def covariate_matrix(groups: pd.DataFrame) -> pd.DataFrame:
    """Return the covariates of a trial's groups as numbers, as the model has them.

    Words and truth values are *treatment coded*: a column of zeros and ones for every level but the
    first, which the others are compared with. Numbers are taken as they are. Every column is centred
    at its mean over the participants.

    Parameters
    ----------
    groups : pandas.DataFrame
        As `check_groups` wants them. A categorical column keeps the order of its levels; other words
        are sorted.

    Returns
    -------
    pandas.DataFrame
        One row per group; columns such as ``stratum[old]`` or ``age``.

    Examples
    --------
    >>> groups = pd.DataFrame({"stratum": ["old", "young"], "trials": [10, 30]})
    >>> covariate_matrix(groups)
       stratum[young]
    0           -0.75
    1            0.25
    """
    columns: dict[str, Any] = {}
    weights = groups["trials"].to_numpy(dtype=float)
    for name in groups.columns:
        if name in GROUP_COLUMNS:
            continue
        values = groups[name]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            columns[str(name)] = values.to_numpy(dtype=float)
        else:
            levels = pd.Categorical(values).remove_unused_categories()
            for code, level in enumerate(levels.categories[1:], start=1):
                columns[f"{name}[{level}]"] = (levels.codes == code).astype(float)
    matrix = {name: x - np.average(x, weights=weights) for name, x in columns.items()}
    return pd.DataFrame(matrix, index=groups.index)


def counts_from_rows(
    data: pd.DataFrame,
    *,
    outcome: str,
    arm: str,
    site: str,
    strata: str | Sequence[str] = (),
    treated: object = None,
) -> pd.DataFrame:
    """Count a trial that comes with one row per participant.

    Parameters
    ----------
    data : pandas.DataFrame
        One row per participant.
    outcome : str
        Column of the outcome: 0 or 1, or truth values.
    arm : str
        Column of the arm: 0 (control) and 1 (treated), truth values, or two words.
    site : str
        Column of the site.
    strata : str or sequence of str
        Columns of further categories, to count within each apart.
    treated : object, optional
        Which of the arm's two values is the treated one, where they are words.

    Returns
    -------
    pandas.DataFrame
        Without `strata` the counts by site, as `check_trial` wants them. With `strata` one row per
        site, arm and category in which there is anybody, as `check_groups` wants them.

    Raises
    ------
    TrialError
        If a column is missing or a value cannot be counted; with the row, counted from 1.

    Examples
    --------
    >>> rows = rows_from_counts(question_trial())
    >>> counts = counts_from_rows(rows, outcome="outcome", arm="intervention", site="site")
    >>> counts.equals(question_trial())
    True
    """
    strata = [strata] if isinstance(strata, str) else list(strata)
    for name in (outcome, arm, site, *strata):
        if name not in data.columns:
            raise TrialError(f"There is no column {name!r}; there are {', '.join(map(str, data))}.")
    if data.empty:
        raise TrialError("There are no rows, so there is nothing to count.")
    for name in (outcome, arm, site, *strata):
        if data[name].isna().any():
            row = int(np.argmax(data[name].isna())) + 1
            raise TrialError(
                f"Row {row}: {name} is missing. Decide what to do with such participants first, for "
                "instance leave them out and say so."
            )
    success = _zeros_and_ones(data[outcome], "write 1 for a success and 0 for a failure")
    if treated is None:
        intervention = _zeros_and_ones(
            data[arm], "write 0 and 1, or say with treated= which value is the treated arm"
        )
    else:
        values = list(dict.fromkeys(data[arm]))
        if treated not in values or len(values) != 2:
            raise TrialError(
                f"{arm} has the values {', '.join(map(repr, values))}; an arm has two, and {treated!r} "
                "must be one of them."
            )
        intervention = (data[arm] == treated).to_numpy(dtype=int)
    rows = pd.DataFrame(
        {
            "site": data[site].to_numpy(),
            "intervention": intervention,
            **{name: data[name].to_numpy() for name in strata},
            "successes": success,
            "trials": 1,
        }
    )
    groups = rows.groupby(["site", "intervention", *strata], as_index=False, sort=True).sum()
    if strata:
        return check_groups(groups[["site", "intervention", *strata, "successes", "trials"]])
    arms = {code: groups[groups["intervention"] == code].set_index("site") for code in (0, 1)}
    counts = {
        "n_control": arms[0]["trials"],
        "n_treated": arms[1]["trials"],
        "control": arms[0]["successes"],
        "treated": arms[1]["successes"],
    }
    return check_trial(pd.DataFrame(counts).fillna(0).rename_axis("site"))


def _zeros_and_ones(values: pd.Series, remedy: str) -> np.ndarray:
    good = values.isin([0, 1])
    if not good.all():
        row = int(np.argmin(good.to_numpy()))
        raise TrialError(f"Row {row + 1}: {values.name} is {values.iloc[row]!r}; {remedy}.")
    return values.to_numpy(dtype=int)


def rows_from_counts(trial: pd.DataFrame) -> pd.DataFrame:
    """Return a trial with one row per participant.

    Parameters
    ----------
    trial : pandas.DataFrame
        Counts by site, or groups as `check_groups` wants them.

    Returns
    -------
    pandas.DataFrame
        Columns ``site``, ``intervention`` (0 or 1), the covariates if there are any, and ``outcome``
        (0 or 1), group by group with the successes first.
    """
    groups = check_groups(trial) if "trials" in trial.columns else as_rows(trial)
    if "trials" not in trial.columns:
        groups["site"] = np.tile(trial.index.to_numpy(), 2)  # as they were, not as text
    again = groups.loc[groups.index.repeat(groups["trials"])]
    place = again.groupby(level=0).cumcount()
    rows = again.assign(outcome=(place < again["successes"]).astype(int))
    return rows.drop(columns=["successes", "trials"]).reset_index(drop=True)
