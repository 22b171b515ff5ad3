"""How good the advice is: rules applied to the corpus, in which every remedy was tried.

A fit is *sound* where it is right by the truth and precise enough to be reported; a remedy *works* in a
setting where at least two thirds of its fits are sound. The best remedy is the cheapest that works:
none, where that does; else of those that leave the posterior as it is the one with the fewest
gradient evaluations per effective draw; else another prior, another model, more data, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
import scipy.stats

from fieldguide.data import DataError, stored
from fieldguide.diagnosis.advice import KINDS, kind_of

MEAN, TAIL = 0.2, 0.035
"""Sound: every mean within so many posterior sds, every 5% tail within so much of its share."""

RHAT, ESS, DIVERGENT = 1.01, 400, 0.005
"""Sound: R-hat at most, ESS at least (bulk and tail), share of divergences at most."""

WORKS = 2 / 3
"""Share of a remedy's fits that are sound where it works."""

SAME = ("draws", "step", "form", "depth", "restart")
"""Remedies that leave the posterior as it is."""

OTHER = ("prior", "model", "data")
"""Remedies that change it, in the order in which they are preferred."""

PARTS = ("open", "held out")
"""The part on which rules were written, and the part that was not looked at."""

RULES = ("any divergence", "R-hat or ESS", "any of the three", "these rules")


def sound(table: pd.DataFrame) -> pd.Series:
    """Return which fits are right and precise enough.

    Parameters
    ----------
    table : DataFrame
        Rows of the stored table ``corpus``.

    Returns
    -------
    Series of bool
    """
    draws = table["draws"]
    return (
        (table["worst_mean"] <= MEAN)
        & (table["worst_tail"] <= TAIL)
        & (table["rhat"] <= RHAT)
        & (table[["ess", "ess_tail"]].min(axis=1, skipna=False) >= ESS)
        & (table["divergences"] <= DIVERGENT * draws)
    )


def share(count: int, of: int) -> tuple[float, float, float]:
    """Return a share with its 95% interval (Wilson 1927)."""
    if of == 0:
        return np.nan, np.nan, np.nan
    ends = scipy.stats.binomtest(int(count), int(of)).proportion_ci(method="wilson")
    return count / of, float(ends.low), float(ends.high)


@dataclass(frozen=True)
class Record:
    """What the corpus says of the rules.

    Attributes
    ----------
    tried : DataFrame
        The stored table ``corpus``: a row per setting, remedy and seed.
    measured : DataFrame
        The stored table ``corpus_measures``: the figures of every fit as it is.
    """

    tried: pd.DataFrame
    measured: pd.DataFrame

    @cached_property
    def works(self) -> pd.DataFrame:
        """Which remedy works in which setting: settings by remedies, missing where it was not tried."""
        rows = self.tried.assign(sound=sound(self.tried))
        shares = rows.pivot_table(index="setting", columns="remedy", values="sound", aggfunc="mean")
        return (shares >= WORKS - 1e-9).where(shares.notna())

    @cached_property
    def price(self) -> pd.DataFrame:
        """Gradient evaluations for an ESS of 400: settings by remedies, median over seeds."""
        ess = self.tried[["ess", "ess_tail"]].min(axis=1)
        rows = self.tried.assign(price=self.tried["gradients"] * np.maximum(ESS / ess, 1))
        return rows.pivot_table(index="setting", columns="remedy", values="price", aggfunc="median")

    @cached_property
    def best(self) -> pd.Series:
        """The best remedy of every setting; ``"nothing tried"`` where none works."""
        found = {}
        for setting, row in self.works.iterrows():
            good = [str(name) for name in row.index[row == True]]  # noqa: E712  (missing is not True)
            same = [name for name in good if name in SAME]
            if "none" in good:
                found[setting] = "none"
            elif same:
                found[setting] = str(self.price[same].loc[str(setting)].idxmin())
            else:
                found[setting] = next((name for name in OTHER if name in good), "nothing tried")
        return pd.Series(found, name="best").rename_axis("setting")

    @cached_property
    def advised(self) -> pd.DataFrame:
        """Every fit as it is: what the rules say, and whether it is sound.

        Columns ``setting``, ``kind``, ``part``, ``seed``, ``sound``, ``said`` (what is the matter),
        ``remedy``, ``best``, ``cures`` (whether the advised remedy works there; missing where it was
        not tried), and a column of bools for each of `RULES`.
        """
        keys = ["setting", "seed"]
        rows = self.tried[self.tried["remedy"] == "none"]
        rows = rows.assign(sound=sound(rows))[[*keys, "sound"]]
        table = self.measured.merge(rows, on=keys, validate="one_to_one")
        said = [kind_of({str(k): v for k, v in row.items()}) for row in table.to_dict("records")]
        out = table[["setting", "kind", "part", "seed", "sound"]].assign(
            said=said, remedy=[KINDS[kind] for kind in said], best=table["setting"].map(self.best)
        )
        out["cures"] = [
            self.works.loc[s, r] if r in self.works.columns else np.nan
            for s, r in zip(out["setting"], out["remedy"], strict=True)
        ]
        flags = {
            "any divergence": table["divergences"] > 0,
            "R-hat or ESS": ~(table["rhat"] <= RHAT)
            | ~(table[["ess_bulk", "ess_tail"]].min(axis=1) >= ESS),
        }
        flags["any of the three"] = flags["any divergence"] | flags["R-hat or ESS"]
        flags["these rules"] = out["remedy"] != "none"
        return out.assign(**flags)

    def confusion(self, part: str) -> pd.DataFrame:
        """Advice by best remedy, counts of fits: rows what was advised, columns what was best."""
        rows = self.advised[self.advised["part"] == part]
        order = ["none", *SAME, *OTHER, "nothing tried"]
        table = pd.crosstab(rows["remedy"], rows["best"])
        table = table.reindex(index=[n for n in order if n in table.index])
        return table.reindex(columns=[n for n in order if n in table.columns]).rename_axis(
            index="advised", columns="best"
        )

    def alarms(self, part: str) -> pd.DataFrame:
        """False alarms among sound fits and misses among the others, for every rule of `RULES`.

        Columns ``false``, ``of sound``, ``false share`` with ``false low`` and ``false high``, and the
        same for ``missed`` of ``of unsound``.
        """
        rows = self.advised[self.advised["part"] == part]
        good = rows["sound"].astype(bool)
        out = {}
        for rule in RULES:
            false, missed = int((rows[rule] & good).sum()), int((~rows[rule] & ~good).sum())
            out[rule] = [
                false, int(good.sum()), *share(false, int(good.sum())),
                missed, int((~good).sum()), *share(missed, int((~good).sum())),
            ]  # fmt: skip
        columns = [
            "false", "of sound", "false share", "false low", "false high",
            "missed", "of unsound", "missed share", "missed low", "missed high",
        ]  # fmt: skip
        return pd.DataFrame.from_dict(out, orient="index", columns=columns).rename_axis("rule")

    def cured(self, part: str, remedy: str | None = None) -> tuple[int, int]:
        """Of the fits in trouble where something that was tried works: how often the advised does.

        Parameters
        ----------
        part : {"open", "held out"}
        remedy : str, optional
            Only fits of which this was advised.

        Returns
        -------
        int, int
            Cured, and of how many.
        """
        rows = self.advised[self.advised["part"] == part]
        rows = rows[~rows["sound"].astype(bool) & ~rows["best"].isin(["none", "nothing tried"])]
        if remedy is not None:
            rows = rows[rows["remedy"] == remedy]
        return int((rows["cures"] == True).sum()), len(rows)  # noqa: E712

    def always(self, part: str, remedy: str) -> tuple[int, int]:
        """The same, had one remedy been advised whatever the figures say."""
        rows = self.advised[self.advised["part"] == part]
        rows = rows[~rows["sound"].astype(bool) & ~rows["best"].isin(["none", "nothing tried"])]
        works = (
            rows["setting"].map(self.works[remedy]) if remedy in self.works else pd.Series(dtype=bool)
        )
        return int((works == True).sum()), len(rows)  # noqa: E712

    def cost(self, remedy: str) -> float:
        """Gradient evaluations of a remedy as a multiple of the fit as it was, median over settings."""
        rows = self.tried.pivot_table(
            index="setting", columns="remedy", values="gradients", aggfunc="median"
        )
        if remedy not in rows:
            return float("nan")
        return float((rows[remedy] / rows["none"]).median())

    def sentence(self, kind: str) -> str:
        """How good this diagnosis was on the part of the corpus that was not looked at."""
        rows = self.advised[(self.advised["part"] == "held out") & (self.advised["said"] == kind)]
        sound = rows["sound"].astype(bool)
        if KINDS[kind] == "none":
            return (
                f"Of {len(rows)} fits of known truth that the rules had not seen and passed, "
                f"{sound.sum()} were sound."
            )
        lost = rows[~sound]
        if lost.empty:
            return "No fit of known truth that the rules had not seen was in this trouble."
        cured = int((lost["cures"] == True).sum())  # noqa: E712
        return (
            f"Of {len(lost)} fits in trouble that the rules had not seen and that were given this "
            f"diagnosis, {cured} were cured by what it advises."
        )


@cache
def record() -> Record | None:
    """Return the record, or None where the stored tables are not at hand."""
    try:
        return Record(stored("corpus").table, stored("corpus_measures").table)
    except DataError:
        return None
