"""What the explorer is given by the book: its attempts, as a script that a page loads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fieldguide.data import count_by_district, load_bangladesh, load_three_districts, stored
from fieldguide.problem import plain_label


class Instrument(NamedTuple):
    """An instrument of the explorer: its name, and the notebook and figure that stand for it."""

    title: str
    still: tuple[str, str]


INSTRUMENTS = {
    "path": Instrument("Break a path", ("notebooks/03_centered.ipynb", "fig-trajectory")),
    "pool": Instrument("From one to sixty", ("notebooks/09_sixty_districts.ipynb", "fig-sixty-path")),
    "counts": Instrument("Your counts", ("notebooks/16_your_counts.ipynb", "fig-counts-three")),
}

DIGITS = 4
"""Of steps and metrics those that matter, of positions those behind the point."""


def attempts_script(chains: int | None = None) -> str:
    """Return the script that hands the explorer the attempts of the book and the survey's counts.

    Parameters
    ----------
    chains : int, optional
        How many chains of each attempt it holds; all by default.

    Returns
    -------
    str
        A classic script that sets ``fieldguideExplorer.attempts``, in the shape of
        ``book/_static/explorer/presets.schema.json``, and ``fieldguideExplorer.survey``, the counts of
        every district of the survey: ``district``, ``successes`` and ``trials``.
    """
    table, counts = stored("attempts").table, load_three_districts()
    (alpha_bar,) = table["alpha_bar_prior"].unique()
    mean, sd = _parameters(alpha_bar)
    attempts = _counts(counts) | {
        "alphaPrior": {"mean": mean, "sd": sd},
        "attempts": [_attempt(part, chains) for _, part in table.groupby("attempt", sort=False)],
    }
    given = {"attempts": attempts, "survey": _counts(count_by_district(load_bangladesh()))}
    lines = ["globalThis.fieldguideExplorer ??= {};"]
    for name, content in given.items():
        written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        lines.append(f"fieldguideExplorer.{name} = {written};")
    return "\n".join(lines) + "\n"


def _counts(counts: pd.DataFrame) -> dict[str, Any]:
    return {
        "district": [plain_label(label) for label in counts.index],
        "successes": counts["users"].tolist(),
        "trials": counts["women"].tolist(),
    }


def write_scripts(folder: Path) -> None:
    """Write what a built page loads of the explorer: its scripts without comments, and the attempts."""
    from minify_html import minify

    (folder / "attempts.js").write_text(attempts_script(chains=1), encoding="utf-8")
    for path in folder.glob("*.js"):
        page = minify(f"<script>{path.read_text(encoding='utf-8')}</script>", minify_js=True)
        path.write_text(page.removeprefix("<script>").removesuffix("</script>"), encoding="utf-8")


def _attempt(chains: pd.DataFrame, kept: int | None) -> dict[str, Any]:
    """One attempt, from the rows of its chains."""
    same = chains.iloc[0]
    return {
        "id": same["attempt"],
        "label": same["label"],
        "page": same["page"],
        "form": same["parameterization"],
        "sigmaPrior": sigma_prior(same["prior"]),
        "divergences": int(chains["divergences"].sum()),
        "transitions": int(chains["transitions"].sum()),
        "chains": [
            {
                "step": _significant(chain["step"]),
                "scale": [_significant(value) for value in chain.filter(regex=r"^scale_\d+$")],
                "position": [round(v, DIGITS) for v in chain.filter(regex=r"^position_\d+$")],
            }
            for _, chain in chains.sort_values("chain").iloc[:kept].iterrows()
        ],
    }


def sigma_prior(name: str) -> dict[str, Any]:
    """Describe a prior on sigma as the explorer's scripts do.

    Parameters
    ----------
    name : str
        As `fieldguide.priors.prior_name` writes it.

    Examples
    --------
    >>> sigma_prior("Exponential(2)"), sigma_prior("HalfNormal(0.25)")
    ({'family': 'exponential', 'scale': 0.5}, {'family': 'half-normal', 'scale': 0.25})
    """
    family = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.partition("(")[0]).lower()
    if family == "exponential":  # named by its rate
        (rate,) = _parameters(name)
        return {"family": family, "scale": 1 / rate}
    *df, scale = _parameters(name)
    return {"family": family, **({"df": df[0]} if df else {}), "scale": scale}


def _parameters(prior: str) -> list[float]:
    return [float(value) for value in prior.partition("(")[2].removesuffix(")").split(",")]


def _significant(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
