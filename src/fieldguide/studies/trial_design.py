"""The reader's own trial: a table of sites, simulated, fitted and scored many times over.

`TrialDesign` says what is planned, `trial_study` says how often the analysis would be right, how wide
its intervals would be, and in how many of its fits the sampler would complain.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import expit, logit

from fieldguide.data import TrialError, arm_probabilities, check_groups, check_trial
from fieldguide.data.trials import arm_ratio, arm_sizes, covariate_matrix
from fieldguide.grid import _cores, run_grid
from fieldguide.models.trial import COVARIATE_PRIOR, ESTIMANDS, PARAMETERIZATIONS, true_estimands
from fieldguide.priors import Prior, TrialPriors, prior_name
from fieldguide.reference.trial import trial_priors
from fieldguide.studies.code import code_digest
from fieldguide.studies.trial_fits import (
    QUANTITIES,
    compile_trial,
    diagnostics,
    draw_prior,
    draw_sites,
    figures,
    sample_trial,
    summarise,
    thinned_ranks,
    uniformity,
)

SIZES = ("n", "n_control", "n_treated", "allocation")
NUMBERS = ("n", "n_control", "n_treated", "baseline", "effect", "shift")
WORDS = {
    "coefficient": "population coefficient",
    "site_average": "average of these sites",
    "marginal_log_odds_ratio": "marginal log odds ratio",
    "risk_difference": "risk difference",
}
"""What the estimands are called on a page."""

FEW = 60
"""Up to so many fits run in threads of the process that asks for them: another takes longer to start."""


@dataclass(frozen=True, eq=False)
class TrialDesign:
    """A planned multi-site trial, and how it will be analysed.

    What is true of the sites is given in one of two ways. With ``baseline`` and ``effect`` in the table
    the sites are *these* sites, the same in every simulated trial. With a `population` every simulated
    trial draws new ones from it, and only then has ``coefficient``, the mean of the population, a true
    value.

    Attributes
    ----------
    sites : pandas.DataFrame
        One row per site, named by the index or by a column ``site``. Sizes: ``n_control`` and
        ``n_treated``, or ``n`` and perhaps ``allocation``. Truth, without a population: ``baseline``
        and ``effect`` on `scale`. With `strata` or `covariates` one row for each site and category,
        and, with a population, perhaps ``shift``, the log odds by which a category differs.
    population : mapping, optional
        ``intercept`` (log odds at centred predictors) or ``baseline`` (log odds in the control arm),
        ``effect``, ``sd_intercept``, ``sd_effect``, and ``corr`` (0 if left out), in logits.
    scale : {"probability", "logit"}
        Of ``baseline`` and ``effect``: a probability and a difference of two, or log odds and a log
        odds ratio.
    allocation : float or str
        Treated participants to one in the control arm where the table does not say, such as ``"2:1"``.
    strata : str or sequence of str
        Columns of categories of participants; the model has a coefficient for each but the first.
    covariates : str or sequence of str
        Columns of numbers; the model has a coefficient for each.
    priors : fieldguide.priors.TrialPriors
        Of the model that is fitted.
    covariate_prior : scipy.stats.norm
        Of each coefficient of a stratum or covariate.
    estimands : sequence of str
        Some of `fieldguide.models.trial.ESTIMANDS`.
    parameterization : {"non-centered", "centered"}
    target_accept : float
    interval : float
        Probability of the intervals that are to cover, equal-tailed.

    Raises
    ------
    TrialError
        If no such trial can be; the message says which site or which setting, and what to do.

    Examples
    --------
    >>> from fieldguide.data import VALID_SITES
    >>> TrialDesign(VALID_SITES, allocation="2:1")
    TrialDesign: 5 sites, 500 participants (167 control, 333 treated), these sites
    """

    sites: pd.DataFrame
    population: Mapping[str, float] | None = None
    scale: str = "probability"
    allocation: float | str = 1
    strata: str | Sequence[str] = ()
    covariates: str | Sequence[str] = ()
    priors: TrialPriors = field(default_factory=TrialPriors)
    covariate_prior: Prior = COVARIATE_PRIOR
    estimands: Sequence[str] = ESTIMANDS
    parameterization: str = "non-centered"
    target_accept: float = 0.95
    interval: float = 0.95

    def __post_init__(self) -> None:
        for name in ("strata", "covariates", "estimands"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        unknown = [name for name in self.estimands if name not in ESTIMANDS]
        if unknown:
            raise TrialError(f"Unknown estimand {unknown[0]!r}; use some of {', '.join(ESTIMANDS)}.")
        if self.parameterization not in PARAMETERIZATIONS:
            raise TrialError(
                f"Unknown parameterization {self.parameterization!r}; use one of "
                f"{', '.join(PARAMETERIZATIONS)}."
            )
        for name in ("target_accept", "interval"):
            if not 0 < getattr(self, name) < 1:
                raise TrialError(f"{name} must lie between 0 and 1, not {getattr(self, name)!r}.")
        object.__setattr__(self, "sites", self._named_sites())
        if self.population is not None:
            object.__setattr__(self, "population", _checked_population(self.population))
        self._check_arms(self.cells)  # so that what is impossible is refused here
        if self._categories:
            check_groups(self._groups.drop(columns=["cell", "arm"]))

    def _named_sites(self) -> pd.DataFrame:
        sites = self.sites
        if sites.empty:
            raise TrialError("A trial needs at least one site; this design has none.")
        if "site" in sites.columns:
            sites = sites.set_index("site")
        elif sites.index.name is None and isinstance(sites.index, pd.RangeIndex):
            sites = sites.set_axis(pd.RangeIndex(1, len(sites) + 1), axis=0)
        return sites.set_axis(pd.Index([str(site) for site in sites.index], name="site"), axis=0)

    @property
    def _categories(self) -> list[str]:
        return [*self.strata, *self.covariates]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per site and category: sizes of the arms, and what is true, in log odds."""
        sites, given = self.sites, list(self.sites.columns)
        truth = ["baseline", "effect"] if self.population is None else []
        absent = [name for name in (*truth, *self._categories) if name not in given]
        if absent:
            more = (
                "; without them give a population, from which sites are drawn"
                if set(absent) & set(truth)
                else ""
            )
            raise TrialError(f"The table of sites has no column {' and no column '.join(absent)}{more}.")
        allowed = {*SIZES, *self._categories} | set(truth or ["shift"])
        unknown = [name for name in given if name not in allowed]
        if unknown:
            if set(unknown) & {"baseline", "effect"}:
                raise TrialError(
                    "baseline and effect say what is true of these sites, and a population says that "
                    "sites are drawn; give one of the two."
                )
            raise TrialError(
                f"The table of sites has a column {unknown[0]!r} that says nothing about the design; "
                "leave it out, or name it in strata (categories) or covariates (numbers)."
            )
        self._check_repeats()
        sizes = arm_sizes(sites, allocation=self.allocation, empty=bool(self._categories))
        cells = sizes.copy()
        for name in self.strata:
            values = sites[name]
            if not isinstance(values.dtype, pd.CategoricalDtype):
                values = values.astype(str)
            cells[name] = values
        for name in self.covariates:
            try:
                cells[name] = sites[name].astype(float)
            except (TypeError, ValueError):
                raise TrialError(
                    f"The covariate {name} is no number everywhere; a category belongs to strata."
                ) from None
        if self.population is None:
            p = arm_probabilities(sites, scale=self.scale).to_numpy()
            sure = ((p <= 0) | (p >= 1)).any(axis=1)
            if sure.any():
                raise TrialError(
                    f"Site {sites.index[sure][0]}: a probability is 0 or 1, whose log odds are "
                    "infinite; write a small or a large one, such as 0.001."
                )
            cells["baseline"] = logit(p[:, 0])
            cells["effect"] = logit(p[:, 1]) - logit(p[:, 0])
        else:
            cells["shift"] = sites["shift"].astype(float) if "shift" in given else 0.0
        return cells[cells["n_control"] + cells["n_treated"] > 0]

    def _check_repeats(self) -> None:
        labels = pd.DataFrame(
            {
                "site": self.sites.index,
                **{name: self.sites[name].to_numpy() for name in self._categories},
            }
        )
        again = labels.duplicated()
        if again.any():
            row = labels[again].iloc[0]
            where = f" with {' and '.join(f'{name} {row[name]}' for name in self._categories)}"
            remedy = (
                "give every row a category of its own"
                if self._categories
                else "give every site a name of its own, or name in strata what tells its rows apart"
            )
            raise TrialError(
                f"Site {row['site']}{where * bool(self._categories)} is there twice; {remedy}."
            )

    def _check_arms(self, cells: pd.DataFrame) -> None:
        for arm in ("control", "treated"):
            total = cells[f"n_{arm}"].groupby(level="site", sort=False).sum()
            if (total < 1).any():
                raise TrialError(
                    f"Site {total.index[total < 1][0]} has nobody in its {arm} arm; leave the site out."
                )

    @cached_property
    def _groups(self) -> pd.DataFrame:
        """Groups of participants with as many trials as are planned, and no success yet."""
        parts = []
        cells = self.cells.reset_index()
        for code, arm in enumerate(["control", "treated"]):
            part = cells[["site", *self._categories]].assign(intervention=code, successes=0)
            parts.append(part.assign(trials=cells[f"n_{arm}"], cell=cells.index, arm=arm))
        groups = pd.concat(parts, ignore_index=True)
        return groups[groups["trials"] > 0].reset_index(drop=True)

    @property
    def labels(self) -> list[str]:
        """The sites, in the order of the table."""
        return list(dict.fromkeys(self.cells.index))

    @cached_property
    def _sizes(self) -> pd.DataFrame:
        return self.cells[["n_control", "n_treated"]].groupby(level="site", sort=False).sum()

    @property
    def _treated_share(self) -> float:
        return float(self._sizes["n_treated"].sum() / self._sizes.to_numpy().sum())

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with anything that a fit depends on."""
        said = {
            "cells": json.loads(self.cells.reset_index().to_json(orient="records", double_precision=15)),
            "population": self.population,
            "priors": trial_priors(self.priors) | {"covariate": prior_name(self.covariate_prior)},
            "fit": [self.parameterization, self.target_accept, self.interval],
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        control, treated = self._sizes.sum()
        what = "these sites" if self.population is None else "sites drawn from a population"
        by = f", by {' and '.join(self._categories)}" if self._categories else ""
        count = f"{len(self._sizes)} site{'s' * (len(self._sizes) > 1)}"
        return (
            f"TrialDesign: {count}, {control + treated:,} participants ({control:,} control, "
            f"{treated:,} treated), {what}{by}"
        )

    @classmethod
    def read(cls, path: str | Path, **settings: Any) -> TrialDesign:
        """Read a design from a CSV file with one row per site, or per site and category.

        Parameters
        ----------
        path : path
            The first row has the names of the columns: ``site``; ``n`` (perhaps with ``allocation``)
            or ``n_control`` and ``n_treated``; ``baseline`` and ``effect``, unless a population is
            given; the columns named in `strata` and `covariates`. A column ``stratum`` is a stratum
            without being named.
        **settings
            The other attributes of `TrialDesign`.

        Returns
        -------
        TrialDesign

        Raises
        ------
        TrialError
            If the file is not such a table; with file, row (the header is the first), column and remedy.
        """
        path = Path(path)
        table = _table(path)
        categories = {name: settings.get(name, ()) for name in ("strata", "covariates")}
        named = {
            name: [value] if isinstance(value, str) else list(value)
            for name, value in categories.items()
        }
        if "stratum" in table.columns and "stratum" not in [*named["strata"], *named["covariates"]]:
            named["strata"].append("stratum")
        scale = settings.get("scale", "probability")
        if scale not in ("probability", "logit"):
            raise TrialError(f"scale must be 'probability' or 'logit', not {scale!r}.")
        _check_columns(path, table, named, settings.get("population") is not None)
        numbers = [name for name in (*NUMBERS, *named["covariates"]) if name in table.columns]
        sites = table.copy()
        for row, line in zip(range(2, len(table) + 2), table.to_dict("records"), strict=True):
            for name, text in line.items():
                where = f"{path}, row {row}, column {name}"
                if not text:
                    raise TrialError(f"{where}: nothing stands there; write a value.")
                if name in numbers:
                    _check_number(
                        where, str(name), text, scale, bool(named["strata"] or named["covariates"])
                    )
                elif name == "allocation":
                    try:
                        arm_ratio(text)
                    except TrialError as error:
                        raise TrialError(f"{where}: {error}") from None
            if scale == "probability" and {"baseline", "effect"} <= set(line):
                p = float(line["baseline"]) + float(line["effect"])
                if not 0 < p < 1:
                    raise TrialError(
                        f"{path}, row {row}, column effect: baseline {line['baseline']} and effect "
                        f"{line['effect']} put the treated arm at probability {p:.3g}, and it must lie "
                        "between 0 and 1; change one of them, or state both as log odds (scale logit)."
                    )
        for name in numbers:
            sites[name] = sites[name].astype(float)
        try:
            return cls(sites, **settings | named)
        except TrialError as error:
            raise TrialError(f"{path}: {error}") from None

    def simulate(self, replicate: int) -> tuple[pd.DataFrame, dict[str, float], pd.Series]:
        """Simulate one trial of this design.

        Parameters
        ----------
        replicate : int
            Number of the simulated trial, its seed.

        Returns
        -------
        trial : pandas.DataFrame
            Counts by site (`fieldguide.data.check_trial`); with strata or covariates groups
            (`fieldguide.data.check_groups`).
        truth : dict
            The true value of each of `fieldguide.models.trial.ESTIMANDS`; NaN where there is none.
        effects : pandas.Series
            The sites' true log odds ratios.
        """
        rng = np.random.default_rng([int(replicate), *b"design"])
        if self.population is None:
            return self._trial(self.cells["baseline"], self.cells["effect"], np.nan, rng)
        hyper = dict(self.population)
        share = self._treated_share
        if "intercept" not in hyper:
            hyper["intercept"] = hyper["baseline"] + share * hyper["effect"]
        drawn = draw_sites(hyper, self._sizes.sum(axis=1).to_numpy(), rng, share)
        drawn = drawn.set_axis(self._sizes.index).loc[self.cells.index]
        return self._trial(
            drawn["baseline"] + self.cells["shift"], drawn["effect"], hyper["effect"], rng
        )

    def _from_prior(self, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, float]]:
        """Simulate a trial whose truth is drawn from the priors; return it and the truth."""
        truth = draw_prior(rng, self.priors)
        drawn = draw_sites(truth, self._sizes.sum(axis=1).to_numpy(), rng, self._treated_share)
        drawn = drawn.set_axis(self._sizes.index).loc[self.cells.index]
        baseline = drawn["baseline"].to_numpy()
        if self._categories:
            size = self.cells["n_control"] + self.cells["n_treated"]
            x = covariate_matrix(self.cells[self._categories].assign(trials=size))
            baseline = baseline + x.to_numpy() @ self.covariate_prior.rvs(x.shape[1], random_state=rng)
        trial, found, _ = self._trial(baseline, drawn["effect"], truth["effect"], rng)
        return trial, truth | {"risk_difference": found["risk_difference"]}

    def _trial(
        self, baseline: Any, effect: Any, coefficient: float, rng: np.random.Generator
    ) -> tuple[pd.DataFrame, dict[str, float], pd.Series]:
        cells = self.cells.assign(baseline=np.asarray(baseline), effect=np.asarray(effect))
        size = cells["n_control"] + cells["n_treated"]
        truth = true_estimands(cells, scale="logit", coefficient=coefficient)
        weighted = (cells["effect"] * size).groupby(level="site", sort=False).sum()
        effects = weighted / size.groupby(level="site", sort=False).sum()
        log_odds = {"control": cells["baseline"], "treated": cells["baseline"] + cells["effect"]}
        successes = {
            arm: rng.binomial(cells[f"n_{arm}"], expit(log_odds[arm])) for arm in ("control", "treated")
        }
        if not self._categories:
            return check_trial(cells[["n_control", "n_treated"]].assign(**successes)), truth, effects
        groups = self._groups
        counted = [successes[arm][cell] for arm, cell in zip(groups["arm"], groups["cell"], strict=True)]
        groups = groups.assign(successes=counted).drop(columns=["cell", "arm"])
        return check_groups(groups), truth, effects


def _checked_population(population: Mapping[str, float]) -> dict[str, float]:
    needed = {"effect", "sd_intercept", "sd_effect"}
    given = dict(population)
    if len({"intercept", "baseline"} & set(given)) != 1 or needed - set(given):
        raise TrialError(
            "A population needs intercept (at centred predictors) or baseline (of the control arm), "
            "and effect, sd_intercept and sd_effect, in logits; this one has "
            f"{', '.join(given) or 'nothing'}."
        )
    unknown = set(given) - needed - {"intercept", "baseline", "corr"}
    if unknown:
        raise TrialError(f"A population has no {sorted(unknown)[0]!r}; leave it out.")
    values = {name: float(value) for name, value in ({"corr": 0.0} | given).items()}
    if min(values["sd_intercept"], values["sd_effect"]) < 0 or abs(values["corr"]) > 1:
        raise TrialError("A population's sds must not be negative, and corr must lie between -1 and 1.")
    return values


def parse_population(text: str) -> dict[str, float]:
    """Read a population from a line such as ``effect=0.6,sd_effect=0.5``.

    Parameters
    ----------
    text : str
        Names and numbers, separated by commas.

    Returns
    -------
    dict

    Raises
    ------
    TrialError
        If a part is no name with a number.
    """
    found = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise TrialError(
                f"A population is written as name=number, separated by commas; {part.strip()!r} is not."
            ) from None
    return found


def _table(path: Path) -> pd.DataFrame:
    """Read a CSV file as text, whatever separates its columns."""
    try:
        head = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = max(",;\t", key=head.count)
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            skipinitialspace=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise TrialError(f"There is no file {path}; give the path of a CSV file of sites.") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise TrialError(
            f"{path} cannot be read as a table ({str(error).strip()}); save it as CSV in UTF-8."
        ) from None
    table.columns = [str(name).strip() for name in table.columns]
    if table.empty:
        raise TrialError(f"{path} has no row below its header; write one for each site.")
    return table.apply(lambda column: column.str.strip())


def _check_columns(path: Path, table: pd.DataFrame, named: Mapping, population: bool) -> None:
    there = list(table.columns)
    where = f"{path}, row 1 (its columns are {', '.join(there)})"
    if "site" not in there:
        raise TrialError(f"{where}: there is no column site; add one with a name for each site.")
    if "n" not in there and not {"n_control", "n_treated"} <= set(there):
        raise TrialError(
            f"{where}: there is no column n; add it, or add n_control and n_treated, the participants "
            "of each arm."
        )
    for name in () if population else ("baseline", "effect"):
        if name not in there:
            raise TrialError(
                f"{where}: there is no column {name}; add it, or give a population to draw sites from."
            )
    for name in (*named["strata"], *named["covariates"]):
        if name not in there:
            raise TrialError(
                f"{where}: there is no column {name}, which was named as one of the categories."
            )


def _check_number(where: str, name: str, text: str, scale: str, empty: bool) -> None:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise TrialError(f"{where}: {text!r} is no number; write one with a point, such as 0.25.")
    if name.startswith("n"):
        least = 0 if empty else 2 if name == "n" else 1
        if value % 1 or value < least:
            raise TrialError(f"{where}: {text} participants; write a whole number of at least {least}.")
    elif name == "baseline" and scale == "probability" and not 0 < value < 1:
        raise TrialError(
            f"{where}: {text} is no probability; write one between 0 and 1, or state baselines and "
            "effects as log odds (scale logit)."
        )


# ---------------------------------------------------------------------------------------------
# Fits


def fit_design(design: TrialDesign, cell: Mapping) -> dict[str, float]:
    """Simulate one trial of a design, fit it and score it.

    Parameters
    ----------
    design : TrialDesign
    cell : mapping
        ``what`` (``"design"``, or ``"prior"`` for a step of simulation-based calibration, whose truth
        is drawn from the priors), ``replicate``, ``seed`` (of the sampler, given the replicate),
        ``draws`` and ``tune``.

    Returns
    -------
    dict
        ``seconds``, diagnostics, and what `fieldguide.studies.trial_fits.figures` returns, with mean and
        interval of each covariate's coefficient; or, for a truth from the priors, its ranks.
    """
    replicate = int(cell["replicate"])
    rng = np.random.default_rng([replicate, *b"prior"])
    if cell["what"] == "prior":
        trial, truth = design._from_prior(rng)
        effects = pd.Series(dtype=float)
    else:
        trial, truth, effects = design.simulate(replicate)
    model: dict[str, Any] = {
        "parameterization": design.parameterization,
        "priors": design.priors,
        "covariate_prior": design.covariate_prior,
    }
    compile_trial(trial, **model)
    start = time.perf_counter()
    fit = sample_trial(
        trial,
        seed=int(cell["seed"]) + 1000 * replicate,
        target_accept=design.target_accept,
        draws=int(cell["draws"]),
        tune=int(cell["tune"]),
        **model,
    )
    row = {"seconds": time.perf_counter() - start} | diagnostics(fit)
    if cell["what"] == "prior":
        weights = trial if design._categories else trial["n_control"] + trial["n_treated"]
        row |= thinned_ranks(fit, truth, weights, rng)
    else:
        row |= figures(fit, trial, truth, effects.to_numpy(), design.interval)
        row |= _covariate_figures(fit, design.interval)
    return {name: float(value) for name, value in row.items()}


def _covariate_figures(fit: xr.DataTree, interval: float) -> dict[str, float]:
    posterior = fit["posterior"].to_dataset()
    row: dict[str, float] = {}
    if "covariate_effect" in posterior:
        for name, values in zip(
            posterior["covariate"].values,
            posterior["covariate_effect"].transpose("covariate", ...).values,
            strict=True,
        ):
            low, high = np.quantile(values, [(1 - interval) / 2, (1 + interval) / 2])
            row |= {f"{name}:mean": values.mean(), f"{name}:low": low, f"{name}:high": high}
    return row


def trial_study(
    design: TrialDesign,
    trials: int = 200,
    *,
    sbc: bool = False,
    draws: int = 1000,
    tune: int = 1000,
    seed: int = 0,
    file: str | Path | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progressbar: bool = True,
) -> TrialStudy:
    """Simulate a design many times, fit every trial, and say how the analysis did.

    Parameters
    ----------
    design : TrialDesign
        What is planned.
    trials : int
        How many trials are simulated.
    sbc : bool
        Simulate as many trials again whose truth is drawn from the priors, and rank it among the draws
        (simulation-based calibration, Talts et al. 2018, arXiv:1804.06788): whether the sampler is right
        for this design under these priors.
    draws, tune : int
        Per chain, of four chains.
    seed : int
        Of the sampler; another one fits the same simulated trials again.
    file : path, optional
        Parquet file in which finished fits are kept, so that an interrupted study goes on, and a larger
        one begins where a smaller ended. One file may hold several designs.
    executor : concurrent.futures.Executor, optional
        Where to run, such as ``client.get_executor()`` of a Dask cluster; on all cores of this machine
        by default.
    workers : int, optional
        How many fits at a time, without `executor`.
    progressbar : bool
        Show one.

    Returns
    -------
    TrialStudy

    Raises
    ------
    TrialError
        If `trials` is no positive whole number.
    GridError
        If a fit failed or the file cannot be used; finished fits are kept.
    """
    if not (np.ndim(trials) == 0 and np.isreal(trials) and trials >= 1 and trials % 1 == 0):
        raise TrialError(f"trials must be a whole number of at least 1, not {trials!r}.")
    logging.getLogger("pymc").setLevel(logging.ERROR)
    grid = pd.DataFrame(
        {
            "design": design.digest,
            "what": np.repeat(["design", "prior"][: 1 + sbc], trials),
            "replicate": [*range(trials)] * (1 + sbc),
            "seed": int(seed),
            "draws": int(draws),
            "tune": int(tune),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.parquet" if file is None else Path(file)
        settings: dict[str, Any] = {"executor": executor, "workers": workers}
        few = None
        if executor is None and len(grid) <= FEW:
            few = ThreadPoolExecutor(_cores() if workers is None else workers)
            settings = {"executor": few}
        try:
            table = run_grid(
                grid,
                partial(fit_design, design),
                path,
                progress=progressbar,
                version=code_digest(fit_design),
                **settings,
            )
        finally:
            if few is not None:
                few.shutdown(wait=True, cancel_futures=True)
    return TrialStudy(design, table.drop(columns="design"))


@dataclass(frozen=True, eq=False)
class TrialStudy:
    """What came of many simulated trials of one design.

    Attributes
    ----------
    design : TrialDesign
    fits : pandas.DataFrame
        One row per fit, those for simulation-based calibration (``what`` is ``"prior"``) included.
    """

    design: TrialDesign
    fits: pd.DataFrame = field(repr=False)

    def _part(self, what: str) -> pd.DataFrame:
        part = self.fits[self.fits["what"] == what].drop(columns="what")
        return part.dropna(axis="columns", how="all").reset_index(drop=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per simulated trial.

        Diagnostics, and for each estimand ``:truth``, ``:mean``, ``:low`` and ``:high``; an estimand
        without a true value has no ``:truth``.
        """
        return self._part("design")

    @cached_property
    def ranks(self) -> pd.DataFrame | None:
        """One row per step of simulation-based calibration, with ``pit:`` columns; None without."""
        part = self._part("prior")
        return None if part.empty else part

    @cached_property
    def uniformity(self) -> pd.Series | None:
        """Probability of ranks at least as uneven, for each quantity, if the sampler were right."""
        return None if self.ranks is None else uniformity(self.ranks)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """How the analysis did, one row per estimand.

        ``trials``, ``misses``, ``coverage`` with its 95% Wilson interval (``low``, ``high``), ``bias``
        and its standard error ``bias_error``, mean ``width`` of the intervals, ``power`` (share of
        intervals that exclude zero) with ``power_low`` and ``power_high``, and ``divergent``, the share
        of fits with a divergent transition. Without a true value misses, coverage and bias are missing.
        """
        rows = {name: summarise(self.table, name) for name in self.design.estimands}
        table = pd.DataFrame(rows).T.rename_axis("estimand")
        new = {"fits": "trials", "excludes_zero": "power"}
        new |= {"excludes_zero_low": "power_low", "excludes_zero_high": "power_high"}
        return table.rename(columns=new)

    @cached_property
    def sites(self) -> pd.Series:
        """How well the sites' own effects become known: mean ``error``, ``width`` and ``coverage``."""
        return pd.Series(
            {name: self.table[f"site_{name}"].mean() for name in ("error", "width", "coverage")}
        )

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The summary as a page shows it, in words."""

        def line(row: pd.Series) -> dict[str, str]:
            known = not np.isnan(row["misses"])
            said = {"misses": "–", "coverage": "–", "bias": "–"}
            if known:
                said = {
                    "misses": f"{row['misses']:.0f} of {row['trials']:.0f}",
                    "coverage": f"{row['coverage']:.1%} [{row['low']:.1%}, {row['high']:.1%}]",
                    "bias": f"{row['bias']:+.3f} ± {row['bias_error']:.3f}",
                }
            power = f"{row['power']:.1%} [{row['power_low']:.1%}, {row['power_high']:.1%}]"
            return said | {"width": f"{row['width']:.3f}", "excludes zero": power}

        table = pd.DataFrame({WORDS[str(name)]: line(row) for name, row in self.summary.iterrows()}).T
        table.index.name = f"{self.design.interval:.0%} interval"
        return table

    @property
    def sentences(self) -> list[str]:
        """What a reader should know beside the table."""
        count, sick = len(self.table), int((self.table["divergences"] > 0).sum())
        design = repr(self.design).partition(": ")[2]
        said = [f"{count} simulated trials: {design}."]
        said.append(
            f"{sick} of {count} fits had divergent transitions ({sick / count:.1%}); the largest R-hat "
            f"was {self.table['rhat'].max():.3f}."
        )
        error, width, coverage = self.sites
        said.append(
            f"A site's own effect (log odds ratio): intervals {width:.2f} wide on average, which "
            f"covered {coverage:.1%} of the true ones; error of the posterior means {error:.2f}."
        )
        if self.uniformity is not None and self.ranks is not None:
            worst = str(self.uniformity.idxmin())
            said.append(
                f"Simulation-based calibration, {len(self.ranks)} trials from the priors: ranks least "
                f"uniform for {worst}, p = {self.uniformity[worst]:.3f}, the smallest of "
                f"{len(QUANTITIES)}."
            )
        return said

    def __repr__(self) -> str:
        return "\n".join([*self.sentences[:1], "", self.shown.to_string(), "", *self.sentences[1:]])

    def _repr_html_(self) -> str:
        words = [f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences]
        return "\n".join([words[0], self.shown.to_html(border=0), *words[1:]])

    def figure(self, estimands: str | Sequence[str] | None = None) -> Any:
        """Draw the interval of every simulated trial, beside the truth.

        Parameters
        ----------
        estimands : str or sequence of str, optional
            Those of the design by default.

        Returns
        -------
        matplotlib.figure.Figure
            A panel for each estimand, intervals in the order of their means. Where every trial has a
            truth of its own, it is subtracted.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        from fieldguide.style import COLORS, shades

        names = self.design.estimands if estimands is None else estimands
        names = [names] if isinstance(names, str) else list(names)
        across = 1 if len(names) == 1 else 2
        down = -(-len(names) // across)
        figure, axs = plt.subplots(
            down, across, figsize=(7, 0.7 + 2.5 * down), squeeze=False, layout="constrained"
        )
        dark, _, light, _ = shades(COLORS[self.design.parameterization], 4)
        for ax, name in zip(axs.flat, names, strict=False):
            self._draw(ax, name, {"covers": light, "misses": dark, "truth": COLORS["exact"]})
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for ax in list(axs.flat)[len(names) :]:
            ax.remove()
        handles = {
            label: handle
            for ax in figure.axes
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=2)
        return figure

    def _draw(self, ax: Any, name: str, colors: Mapping[str, str]) -> None:
        table = self.table
        mean, low, high = (table[f"{name}:{what}"].to_numpy() for what in ("mean", "low", "high"))
        unit = "difference of probabilities" if name == "risk_difference" else "log odds ratio"
        truth: Any = None
        if f"{name}:truth" in table:
            truth = table[f"{name}:truth"].to_numpy()
            if np.ptp(truth) > 1e-9:
                mean, low, high, truth = mean - truth, low - truth, high - truth, 0 * truth
                unit = "minus the true value"
            truth = float(truth[0])
        order = np.argsort(mean)
        mean, low, high = mean[order], low[order], high[order]
        missed = np.zeros(len(table), dtype=bool) if truth is None else (low > truth) | (high < truth)
        x = np.arange(1, len(table) + 1)
        width = float(np.clip(160 / len(table), 0.8, 3))
        for what, chosen in (("covers", ~missed), ("misses", missed)):
            label = {"covers": "interval", "misses": "interval that misses"}[what]
            if np.any(chosen):
                ax.vlines(
                    x[chosen],
                    low[chosen],
                    high[chosen],
                    color=colors[what],
                    linewidth=width,
                    label=label,
                )
        if truth is not None:
            ax.axhline(truth, color=colors["truth"], linewidth=1.2, label="true value")
        sick = (table["divergences"] > 0).to_numpy()[order]
        if sick.any():  # below the intervals, where no colour hides a cross
            ax.margins(y=0.12)
            ax.plot(
                x[sick], np.full(sick.sum(), 0.04), "x", color="#000000", markersize=5,
                markeredgewidth=1.2, label="fit with divergences", transform=ax.get_xaxis_transform(),
            )  # fmt: skip
        ax.set(title=WORDS[name], ylabel=unit, xlabel="simulated trials, in order")

    def save(self, folder: str | Path) -> list[Path]:
        """Write the study as files that other programs open.

        Parameters
        ----------
        folder : path
            It is made if it is not there.

        Returns
        -------
        list of Path
            ``summary.csv``, ``trials.csv``, perhaps ``ranks.csv``, ``intervals.svg`` and
            ``intervals.png``.
        """
        import matplotlib as mpl
        import matplotlib.pyplot as plt

        from fieldguide.style import use_style

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "summary.csv", folder / "trials.csv"]
        self.summary.to_csv(written[0])
        self.table.to_csv(written[1], index=False)
        if self.ranks is not None:
            written.append(folder / "ranks.csv")
            self.ranks.to_csv(written[-1], index=False)
        with mpl.rc_context():
            use_style()
            figure = self.figure()
            for kind in ("svg", "png"):
                written.append(folder / f"intervals.{kind}")
                figure.savefig(written[-1], dpi=200, facecolor="white")
            plt.close(figure)
        return written
