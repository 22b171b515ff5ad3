"""The figures of the published case study, and how a fit of ours compares with them."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd

from fieldguide.data import DATA_FOLDER


@cache
def published() -> dict:
    """Return what the published analysis printed, by model (``data/published.json``)."""
    return json.loads((DATA_FOLDER / "published.json").read_text(encoding="utf-8"))


def published_summary(model: str) -> pd.DataFrame:
    """Return the published summary table of one model.

    Parameters
    ----------
    model : {"mfe", "mme0", "mme1", "mme2", "mme3b", "mme4"}
        The published name of the model.

    Returns
    -------
    pandas.DataFrame
        Indexed by variable as ``az.summary`` names it (districts are 1, 2, 3), on the logit scale.

    Raises
    ------
    KeyError
        If no table was published for this model.
    """
    entry = published()["models"].get(model, {})
    if "summary" not in entry:
        raise KeyError(f"no summary was published for {model!r}")
    return pd.DataFrame.from_dict(entry["summary"], orient="index", columns=published()["columns"])


def compare_with_published(summary: pd.DataFrame, model: str) -> pd.DataFrame:
    """Put the means of a fit beside the published ones.

    Parameters
    ----------
    summary : pandas.DataFrame
        ``az.summary(draws, round_to="none")``, indexed by variable.
    model : str
        The published name of the model.

    Returns
    -------
    pandas.DataFrame
        ``ours``, ``published``, ``difference`` (logits) and ``in MCSE``: the difference in units
        of the Monte Carlo standard error of the difference of the two means.
    """
    theirs = published_summary(model)
    ours = summary.loc[theirs.index]
    difference = ours["mean"] - theirs["mean"]
    error = np.hypot(ours["mcse_mean"], theirs["mcse_mean"])
    return pd.DataFrame(
        {
            "ours": ours["mean"],
            "published": theirs["mean"],
            "difference": difference,
            "in MCSE": difference / error,
        }
    )
