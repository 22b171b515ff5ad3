"""The diagnosis of a fit in sentences: as text, as HTML, as JSON, and as a picture."""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fieldguide.diagnosis.advice import KINDS, LIMITS, flagged, kind_of
from fieldguide.diagnosis.code import call
from fieldguide.diagnosis.groups import element, vectors
from fieldguide.diagnosis.measures import Measures
from fieldguide.diagnosis.reading import Draws
from fieldguide.diagnosis.record import Record, record
from fieldguide.report import digits, page, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GROUPS = 12
"""Groups of the longest list that is shown whole."""

PAGES = {
    "healthy": ("book/now_what", "When to stop"),
    "few draws": ("book/now_what", "Effective sample size"),
    "scattered": ("notebooks/04_target_accept", "chapter 4"),
    "curve": ("book/now_what", "Divergences"),
    "neck": ("notebooks/06_non_centered", "chapter 6"),
    "neck, other form already": ("notebooks/08_one_knob_at_a_time", "chapter 8"),
    "held": ("notebooks/08_one_knob_at_a_time", "chapter 8"),
    "slow form": ("notebooks/08_one_knob_at_a_time", "chapter 8"),
    "labels": ("book/now_what", "R-hat"),
    "mirror": ("book/now_what", "R-hat"),
    "modes": ("book/now_what", "R-hat"),
    "stuck": ("book/now_what", "R-hat"),
    "runaway": ("notebooks/05_tighter_priors", "chapter 5"),
    "sum": ("book/now_what", "R-hat"),
    "capped": ("book/now_what", "Maximum tree depth"),
    "heavy tail": ("book/now_what", "Low E-BFMI"),
    "slow": ("book/now_what", "Effective sample size"),
}
"""Where the book says more of each kind of trouble: the page, and what to look for."""

WHAT_TO_DO = {
    "none": "Leave the settings as they are.",
    "draws": "Draw longer: four times the draws, twice the warm-up.",
    "step": "Take shorter steps: a target acceptance of 0.95, then 0.99.",
    "form": "Write the groups' effects in the other form, and raise the target to 0.95 in the same run. "
    "The posterior stays the same.",
    "depth": "Raise the maximum tree depth by two or three.",
    "restart": "Run again from other initial values with a longer warm-up.",
    "prior": "Give it a prior that you would have defended before you saw the warning. "
    "That is another posterior, so say so.",
    "model": "Write another model. That is another posterior, so say so.",
    "data": "Collect more groups.",
}
"""Each remedy in words."""


class Finding(NamedTuple):
    """A sentence with its figures, and the page of the book that says more."""

    sentence: str
    page: str = ""
    words: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What is the matter with a fit, how that is known, and what is the likelier cure.

    Shown as a report in a notebook, and as text by ``print``.

    Attributes
    ----------
    draws : Draws
        What was diagnosed.
    measures : Measures
        All figures; see `fieldguide.diagnosis.measures.Measures`.
    site : str
        Where the book's pages are, to link to them; without it they are named.
    observed : Series or None
        Observations of each group, in the order of ``measures.own``.
    """

    draws: Draws
    measures: Measures
    site: str = ""
    observed: pd.Series | None = None

    # -- verdict

    @cached_property
    def kind(self) -> str:
        """What is the matter, such as ``"neck"``; one of `fieldguide.diagnosis.KINDS`."""
        return kind_of(self.measures.figures)

    @property
    def healthy(self) -> bool:
        """Whether nothing is the matter that these draws can tell."""
        return self.kind == "healthy"

    @property
    def remedy(self) -> str:
        """The likeliest cure, one of `fieldguide.diagnosis.REMEDIES`."""
        return KINDS[self.kind]

    @property
    def flags(self) -> list[str]:
        """Which of the usual rules complain: any divergence, R-hat above 1.01, ESS below 400."""
        return flagged(self.measures.figures)

    @cached_property
    def record(self) -> Record | None:
        """How good this advice was where every remedy was tried; None without the stored tables."""
        return record()

    @property
    def title(self) -> str:
        """What was read."""
        f = self.measures.figures
        words = f"{_count(f['chains'], 'chain')} with {_count(f['draws'], 'draw')} in all"
        if np.isfinite(f["divergences"]):
            words += f", {_count(f['divergences'], 'divergence')}"
        return f"{self.draws.name}: {words}" if self.draws.name else words[:1].upper() + words[1:]

    @property
    def verdict(self) -> str:
        """The diagnosis in a sentence or two."""
        return f"{_VERDICTS[self.kind]} {self._to_do}"

    @property
    def _to_do(self) -> str:
        if self.kind in _IN_DETAIL:
            return _IN_DETAIL[self.kind]
        if self.kind in ("held", "slow form", "neck"):
            centered = self.measures.figures.get("centered") == 1
            other = "non-centered" if centered else "centered"
            return (
                f"Write the effects in the {other} form, and raise the target to 0.95 in the same run. "
                "The posterior stays the same."
            )
        return WHAT_TO_DO[self.remedy]

    # -- findings

    @cached_property
    def findings(self) -> list[Finding]:
        """What was found, most telling first; each with its figures and the page that says more."""
        if self.healthy:
            first = [self._usual(), self._energy()]
        else:
            first = [self._usual(), *self._by_kind()]
        found = [*first, *self._where(), *self._paths(), *self._of_groups(), *self._trusted()]
        return [one for one in found if one is not None]

    def _usual(self) -> Finding:
        f = self.measures.figures
        parts = []
        if np.isfinite(f["divergences"]):
            share = _percent(f["divergent_share"])
            parts.append(f"{_count(f['divergences'], 'divergence')} ({share} of the draws)")
        parts.append(f"largest R-hat {digits(f['rhat'], 4)}")
        if np.isfinite([f["ess_bulk"], f["ess_tail"]]).all():
            bulk, tail = (f"{f[name]:.0f}" for name in ("ess_bulk", "ess_tail"))
            parts.append(f"smallest ESS {bulk} in the bulk and {tail} in the tail")
        if np.isfinite(f["bfmi"]):
            parts.append(f"smallest E-BFMI {digits(f['bfmi'], 2)}")
        if np.isfinite(f["maxdepth_share"]) and f["maxdepth_share"] > 0:
            parts.append(f"{_percent(f['maxdepth_share'])} of the paths cut short by the tree depth")
        said = _listed(self.flags) if self.flags else "none"
        tail = f" Beyond the usual limits of divergences, R-hat and ESS: {said}."
        if self.healthy and self.flags:
            tail += (
                " That is no more than a healthy fit with this many parameters and draws shows now and "
                "then."
            )
        return Finding(
            f"What the usual diagnostics say: {', '.join(parts)}.{tail}", "book/now_what", "Now what?"
        )

    def _energy(self) -> Finding | None:
        return None

    def _by_kind(self) -> list[Finding | None]:
        f, where = self.measures.figures, PAGES[self.kind]
        worst = self.measures.parameters["rhat"].fillna(0).idxmax()
        if self.kind == "labels":
            return [Finding(
                f"The chains sit apart (R-hat {digits(f['rhat_of_vector'], 4)}), and once the elements "
                f"are put in order within every draw they agree (R-hat {digits(f['rhat_sorted'], 4)}): "
                "they say the same with the names exchanged.", *where)]  # fmt: skip
        if self.kind == "mirror":
            return [Finding(
                f"The chains sit apart in {worst} (R-hat {digits(f['rhat'], 4)}), and without its sign "
                f"they agree (R-hat {digits(f['rhat_unsigned'], 4)}): two mirror images.",
                *where)]  # fmt: skip
        if self.kind in ("modes", "stuck"):
            means = ", ".join(digits(v) for v in self.measures.chains["mean"])
            text = (
                f"Each chain repeats itself, and the chains differ: their means of {worst} are {means}, "
                f"{digits(f['chain_apart'], 2)} of their own sds apart."
            )
            if np.isfinite(f["energy_apart"]):
                far = f["energy_apart"] > LIMITS.energy
                peaks = "of one posterior hardly" if far else "of about the same height"
                text += (
                    f" Their energies differ by {digits(f['energy_apart'], 2)} sds, as peaks {peaks} do."
                )
            return [Finding(text, *where)]
        if self.kind == "runaway" and f["flat"] > 0:
            return [Finding(f"The model has {_count(f['flat'], 'flat prior')}.", *where)]
        if self.kind == "runaway":
            return [Finding(
                f"The draws run away: some lie {digits(f['reach'], 2)} interquartile ranges from the "
                f"median, and the tail's shape is {digits(f['tail'], 2)}, where 0.5 means no finite "
                "variance and 1 no mean.", *where)]  # fmt: skip
        if self.kind == "heavy tail":
            return [Finding(
                f"The tails are heavy: the shape of the heaviest is {digits(f['tail'], 2)}, where 0.5 "
                "means no finite variance.", *where)]  # fmt: skip
        if self.kind == "sum":
            return [Finding(
                f"Two slow parameters have a correlation of {digits(f['sum_r'], 4)}, and what they make "
                f"up together has {digits(f['sum_gain'], 2)} times their effective draws: the data know "
                "the sum and not the parts.", *where)]  # fmt: skip
        return []

    def _where(self) -> list[Finding | None]:
        f = self.measures.figures
        if not f["divergences"] > 0:
            return []
        seen = self.measures.parameters.dropna(subset=["p"])
        if seen.empty:
            return []
        told = seen[seen["p"] < LIMITS.p].sort_values("p", kind="stable")
        looked = _count(len(seen), "parameter")
        if told.empty:
            return [Finding(
                f"The divergences lie nowhere in particular: none of the {looked} looked at is lower or "
                f"higher there than chance allows (smallest p = {digits(seen['p'].min(), 2)}, corrected "
                "for all of them).", "book/now_what", "Divergences")]  # fmt: skip
        rows = [
            f"{name} (half of them {_below(row['place'])}, p = {digits(row['p'], 1)})"
            for name, row in told.head(3).iterrows()
        ]
        out: list[Finding | None] = [Finding(
            f"The divergences concentrate in {_listed(rows)}; p values are corrected for the {looked} "
            "looked at.", "notebooks/03_centered", "chapter 3")]  # fmt: skip
        if len(self.measures.pairs):
            first = self.measures.pairs.iloc[0]
            if first["together"] > 0.1:
                out.append(Finding(
                    f"Of all pairs, {first['first']} and {first['second']} tell of them best together.",
                    "notebooks/03_centered", "chapter 3"))  # fmt: skip
        return out

    def _paths(self) -> list[Finding | None]:
        f = self.measures.figures
        if not np.isfinite(f.get("start_place", np.nan)):
            return []
        spread = self.measures.groups.spread if self.measures.groups else ""
        return [Finding(
            f"The steps that broke were stored. In {spread}, half of them began "
            f"{_below(f['start_place'])}, and half ended {_below(f['end_place'])}.",
            "notebooks/04_target_accept", "chapter 4")]  # fmt: skip

    def _of_groups(self) -> list[Finding | None]:
        groups, own, f = self.measures.groups, self.measures.own, self.measures.figures
        if groups is None or own is None:
            return []
        out: list[Finding | None] = []
        if f["funnel"] > 3 or f["squeeze"] > 3:
            name, ratio = (
                (f"{groups.effects}", f["funnel"]) if groups.form == "centered"
                else (groups.standardised or "the standardised effects", f["squeeze"])
            )  # fmt: skip
            if ratio > 3:
                centered = groups.form == "centered"
                at, kind = ("wider", "a neck") if centered else ("narrower", "held in place by the data")
                sentence = (
                    f"Between the lowest and the highest tenth of {groups.spread}, {name} is "
                    f"{digits(ratio, 2)} times {at} where it is large: {kind}."
                )
                out.append(Finding(sentence, "notebooks/03_centered", "chapter 3"))
        suits = int((own > 0.5).sum())
        least, most = own.idxmin(), own.idxmax()
        out.append(Finding(
            f"{groups.effects} has {len(own)} groups with the spread {groups.spread}, sampled in the "
            f"{groups.form} form (known from {groups.how}). A group's own data say {own.mean():.0%} of "
            f"what is known of it on average, least {self._group(least)} and most {self._group(most)}. "
            f"The centered form suits {suits} of them, the non-centered {len(own) - suits}.",
            "notebooks/16_your_counts", "chapter 16"))  # fmt: skip
        return out

    def _group(self, name: Any) -> str:
        assert self.measures.own is not None
        words = f"{self.measures.own[name]:.0%}"
        if self.observed is not None:
            words += f", {_count(float(self.observed[name]), 'observation')}"
        return f"{name} ({words})"

    @cached_property
    def groups(self) -> pd.DataFrame | None:
        """Every group: ``own`` share, the ``form`` that suits it, and what was ``observed``; or None."""
        own = self.measures.own
        if own is None:
            return None
        table = pd.DataFrame({"own": own, "form": np.where(own > 0.5, "centered", "non-centered")})
        return table if self.observed is None else table.assign(observed=self.observed)

    def _shown_groups(self) -> pd.DataFrame | None:
        """The groups as words; of many, those at both ends."""
        if self.groups is None:
            return None
        table = self.groups.sort_values("own", kind="stable")
        if len(table) > MOST_GROUPS:
            table = pd.concat([table.head(MOST_GROUPS // 2), table.tail(MOST_GROUPS // 2)])
        words = {"own": [f"{value:.0%}" for value in table["own"]]}
        if self.observed is not None:
            words["observed"] = [f"{value:g}" for value in table["observed"]]
        return table.assign(**words)

    def _trusted(self) -> list[Finding | None]:
        known = self.record
        if known is None:
            return []
        sentence = known.sentence(self.kind)
        return [Finding(sentence, "notebooks/15_your_own_model", "chapter 15")]

    @cached_property
    def cures(self) -> pd.DataFrame:
        """Remedies in the order in which to try them: what to do, and what it would cost.

        Columns ``do``, ``type`` (what to type in the tool that made the fit; may be empty) and
        ``cost`` (gradient evaluations as a multiple of this fit's, median over the
        corpus; NaN where it was not tried there or the stored tables are not at hand).
        """
        order = [self.remedy, *_NEXT[self.kind]]
        known = self.record
        cost = [np.nan if known is None else known.cost(name) for name in order]
        do = [self._to_do, *(WHAT_TO_DO[name] for name in order[1:])]
        groups = self.measures.groups if self.kind in _OF_GROUPS else None
        typed = [call(self.draws.tool, name, groups) for name in order]
        index = pd.Index(order, name="remedy")
        return pd.DataFrame({"do": do, "type": typed, "cost": cost}, index=index)

    # -- shown

    @cached_property
    def text(self) -> str:
        """The report in plain text."""
        lines = [self.title, "=" * len(self.title), self.verdict, ""]
        lines += [
            f"- {one.sentence}" + (f" [{one.words}]" if one.words else "") for one in self.findings
        ]
        if not self.healthy:
            lines += ["", "In this order:"]
            for k, (_, row) in enumerate(self.cures.iterrows(), 1):
                lines.append(f"{k}. {row['do']}{_at_cost(row['cost'])}")
                lines += [f"       {line}" for line in row["type"].splitlines()]
        if (groups := self._shown_groups()) is not None:
            lines += ["", _GROUPS, groups.to_string()]
        if self.draws.notes:
            lines += ["", "What could not be told, or was put right:"]
            lines += [f"- {note}" for note in self.draws.notes]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.kind}; print it, or show it in a notebook>"

    def _body(self, drawings: bool = True) -> str:
        said = html.escape
        items = []
        for one in self.findings:
            where = said(one.words)
            if self.site and one.page:
                where = f'<a href="{said(self.site)}{one.page}.html">{where}</a>'
            items.append(f"<li>{said(one.sentence)}{f' ({where})' if where else ''}</li>")
        parts = [f"<p><strong>{said(self.verdict)}</strong></p>"]
        if drawings and (drawn := self._drawn()):
            parts.append(picture(drawn, self.alt, self.caption, "diagnosis"))
        parts.append(f"<ul>{''.join(items)}</ul>")
        if not self.healthy:
            cures = "".join(
                f"<li>{said(row['do'])}{said(_at_cost(row['cost']))}"
                + (f"<pre><code>{said(row['type'])}</code></pre></li>" if row["type"] else "</li>")
                for _, row in self.cures.iterrows()
            )
            parts.append(f"<p>In this order:</p><ol>{cures}</ol>")
        if (groups := self._shown_groups()) is not None:
            shown = groups.to_html(border=0, escape=True)
            shown = shown.replace("<thead>", f"<caption>{_GROUPS}</caption><thead>", 1)
            parts.append(f'<div style="overflow-x:auto">{shown}</div>')
        if self.draws.notes:
            notes = "".join(f"<li>{said(note)}</li>" for note in self.draws.notes)
            parts.append(f"<p>What could not be told, or was put right:</p><ul>{notes}</ul>")
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        title = f"<p><strong>{html.escape(self.title)}</strong></p>"
        return f'<div class="fieldguide-report">{title}\n{self._body()}</div>'

    def page(self) -> str:
        """Return the report as one HTML file that loads nothing, for light, dark and paper."""
        return page(self.title, self._body())

    def to_json(self) -> str:
        """Return verdict, findings and all figures as JSON; a missing number is null."""
        groups = self.measures.groups
        found = {
            "title": self.title,
            "healthy": self.healthy,
            "kind": self.kind,
            "remedy": self.remedy,
            "verdict": self.verdict,
            "flags": self.flags,
            "findings": [one._asdict() for one in self.findings],
            "cures": [
                {"remedy": str(name), "do": row["do"], "type": row["type"], "cost": _plain(row["cost"])}
                for name, row in self.cures.iterrows()
            ],
            "figures": {name: _plain(value) for name, value in self.measures.figures.items()},
            "groups": None if groups is None else groups.__dict__,
            "own": None if self.measures.own is None else {
                str(name): _plain(value) for name, value in self.measures.own.items()
            },
            "parameters": _records(self.measures.parameters.reset_index()),
            "pairs": _records(self.measures.pairs.head(20)),
            "chains": _records(self.measures.chains.reset_index()),
            "notes": list(self.draws.notes),
        }  # fmt: skip
        return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False)

    # -- picture

    @cached_property
    def _view(self) -> tuple[str, str, str]:
        """What is drawn: ``"pair"`` with two parameters, or ``"chains"`` with one."""
        m = self.measures
        if self.kind in _OF_GROUPS and m.groups and m.own is not None:
            vector = m.groups.effects if m.groups.form == "centered" else (
                m.groups.standardised or m.groups.effects
            )  # fmt: skip
            at = int(np.argmin(m.own)) if m.groups.form == "centered" else int(np.argmax(m.own))
            names = list(vectors(self.draws.posterior).get(vector, {}))
            if at < len(names):
                return "pair", names[at], m.groups.spread
        if self.kind in ("scattered", "neck", "held", "sum") and len(m.pairs):
            return "pair", str(m.pairs.iloc[0]["first"]), str(m.pairs.iloc[0]["second"])
        return "chains", str(m.parameters["rhat"].fillna(0).idxmax()), ""

    def _of(self, name: str) -> np.ndarray:
        return np.clip(element(self.draws.posterior, name), -1e300, 1e300)  # ends of Matplotlib's axes

    @property
    def caption(self) -> str:
        """What `figure` draws, a sentence or two."""
        view, first, second = self._view
        if view == "pair":
            crosses = (
                " Crosses: divergent transitions." if self.measures.figures["divergences"] > 0 else ""
            )
            return f"Draws of {first} and {second}.{crosses}"
        return f"The chains of {first}, one shade each, draw by draw."

    @property
    def alt(self) -> str:
        """What `figure` says, in words."""
        view, first, second = self._view
        x = self._of(first)
        low, high = np.quantile(x, [0.025, 0.975])
        if view == "pair":
            y = self._of(second)
            a, b = np.quantile(y, [0.025, 0.975])
            words = (
                f"Scatter of {second}, 95% from {digits(a)} to {digits(b)}, by {first}, 95% from "
                f"{digits(low)} to {digits(high)}."
            )
            place = self.measures.parameters["place"].get(second, np.nan)
            if np.isfinite(place):
                words += f" Half of the divergences lie {_below(place)} of {second}."
            return words
        means = ", ".join(digits(v) for v in x.mean(1))
        return (
            f"Draws of {first} by chain, 95% from {digits(low)} to {digits(high)}; chain means {means}."
        )

    def figure(self) -> Figure:
        """Draw the picture of this failure: two parameters and the divergences, or the chains.

        Needs Matplotlib; the figure is not closed.
        """
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots(figsize=(7, 3.8))
        self.draw(ax)
        return figure

    def draw(self, ax: Axes) -> None:
        """Draw the picture of this failure."""
        from fieldguide.style import COLORS, shades

        view, first, second = self._view
        form = self.measures.groups.form if self.measures.groups else ""
        color = (
            COLORS.get(form, COLORS["fixed"])
            if view == "pair"
            else COLORS.get(form, COLORS["non-centered"])
        )
        x = self._of(first)
        if view == "chains":
            step = max(1, x.shape[1] // 500)
            for k, (chain, shade) in enumerate(zip(x, shades(color, len(x)), strict=True), 1):
                ax.plot(
                    np.arange(0, x.shape[1], step),
                    chain[::step],
                    color=shade,
                    lw=0.8,
                    label=f"chain {k}",
                )
            ax.set_xlabel("draw")
            ax.set_ylabel(first, parse_math=False)
            return
        y = self._of(second)
        step = max(1, x.size // 3000)
        ax.plot(
            x.ravel()[::step],
            y.ravel()[::step],
            ".",
            color=color,
            ms=4,
            alpha=0.4,
            mec="none",
            label="draw",
        )
        hit = self.draws.stats.get("diverging")
        if hit is not None and bool(hit.any()):
            at = hit.transpose("chain", "draw").values.astype(bool)
            ax.plot(x[at], y[at], "x", color=COLORS["divergent"], ms=5, mew=1.2, label="divergent")
            ax.legend(loc="best", markerscale=1.5)
        if 1e-100 < y.min() < y.max() / 20 < 1e100:  # beyond it, margins of a log scale overflow
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(first, parse_math=False)
        ax.set_ylabel(second, parse_math=False)

    def _drawn(self) -> Figure | None:
        try:
            import matplotlib as mpl

            from fieldguide.style import use_style
        except ImportError:
            return None
        with mpl.rc_context():
            use_style()
            return self.figure()


_OF_GROUPS = ("neck", "neck, other form already", "held", "slow form", "scattered")
"""Kinds of trouble whose picture is an effect and the spread."""

_VERDICTS = {
    "healthy": "Nothing is the matter that these draws can tell.",
    "few draws": "The chains agree, and there are too few draws for what one reports.",
    "scattered": "The steps are too long here and there.",
    "curve": "The posterior is a narrow ridge or a bent one, and the steps leave it.",
    "neck": "The chain cannot enter a neck: where the spread of the groups is small, the effects have "
    "no room, and one step size does not fit both ends.",
    "neck, other form already": "The divergences lie where the spread is small, although the form is "
    "the non-centered one.",
    "held": "The data hold the effects in place, and the standardised effects have no room where the "
    "spread is large.",
    "slow form": "The form does not suit what the groups know, and the chain is slow.",
    "labels": "The chains agree, but for the names: parts of the model can be exchanged.",
    "mirror": "The posterior has mirror images, and each chain sits in one.",
    "modes": "The posterior has more than one peak, and each chain sits on one.",
    "stuck": "A chain never arrived where the others are.",
    "runaway": "The posterior hardly has an end, or none: nothing holds some parameter.",
    "sum": "The data know a sum and not its parts.",
    "capped": "The paths are cut short before they have gone far.",
    "heavy tail": "Tails are so heavy that the chain crosses them slowly.",
    "slow": "The chain moves slowly, for a reason that these figures do not tell.",
}

_IN_DETAIL = {
    "curve": "Write the model in other coordinates: sample what the data know, such as a product, a "
    "sum or the value at the middle of the data, and compute the parts from it. The posterior stays the "
    "same.",
    "heavy tail": "Write the heavy-tailed variable as a normal one with a random scale, or draw longer. "
    "The posterior stays the same.",
    "labels": "Put the exchangeable parameters in order, or report only what does not depend on their "
    "names.",
    "mirror": "Fix the sign of one of the parameters, or report only what does not depend on it.",
    "modes": "More draws will not help: compare what the peaks say, and write a model that has one, or "
    "report both.",
    "sum": "Sample the sum and one of its parts instead of the two parts. The posterior stays the same; "
    "to leave one out, or to make the effects sum to zero, is another model that tells as much.",
    "capped": "Centre and scale the predictors; then, if paths are still cut short, raise the maximum "
    "tree depth.",
    "neck, other form already": "Take shorter steps: 0.95, then 0.99. If some stay, the data hardly "
    "speak about this spread, and its prior is what you report.",
}

_NEXT = {
    "healthy": (),
    "few draws": ("step",),
    "scattered": ("form",),
    "curve": ("step", "prior"),
    "neck": ("step", "data", "prior"),
    "neck, other form already": ("draws", "data", "prior"),
    "held": ("step", "draws"),
    "slow form": ("draws",),
    "labels": ("restart",),
    "mirror": ("restart",),
    "modes": ("restart", "prior"),
    "stuck": ("draws",),
    "runaway": ("model", "data"),
    "sum": ("model", "prior"),
    "capped": ("depth",),
    "heavy tail": ("draws", "prior"),
    "slow": ("form", "model"),
}


_GROUPS = "What each group knows of itself, and the form that suits it; of many, those at both ends."


# ---------------------------------------------------------------------------------------------
# Numbers in words


def _count(value: float, what: str) -> str:
    return f"1 {what}" if value == 1 else f"{value:.0f} {what}s"


def _percent(share: float) -> str:
    return f"{digits(100 * share, 2)}%"


def _below(place: float) -> str:
    """Say below which point of the draws the median of the divergences lies."""
    if place < 0.005:
        return "below every draw"
    if place > 0.995:
        return "above every draw"
    return f"below the {place:.0%} point"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _at_cost(cost: float) -> str:
    return f" (about {digits(cost, 2)} times the gradients)" if np.isfinite(cost) and cost > 1.15 else ""


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _records(table: pd.DataFrame) -> list:
    return json.loads(table.to_json(orient="records", double_precision=10))
