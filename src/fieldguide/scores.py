r"""Put a fit beside its exact answer: what the sampler reports, and what it got wrong.

A fit is scored by three kinds of figure. *Diagnostics* need no truth and come from ArviZ:
divergent transitions, R-hat, bulk and tail ESS (Vehtari et al. 2021, Bayesian Analysis 16), E-BFMI
(Betancourt 2016, arXiv:1604.00695). *Costs* are gradient evaluations and seconds. *Errors* need
the exact posterior: the error of each posterior mean in posterior standard deviations (does it
matter?) and in Monte Carlo standard errors (does the fit know?), and what is missing at small
:math:`\sigma`, where the funnel's neck is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from fieldguide.fits import label as label_of
from fieldguide.fits import problem_of_fit
from fieldguide.reference import Reference, flat

SMALL_SIGMA = 0.05
"""Exact probability that counts as "small sigma": its lowest twentieth."""

THRESHOLDS = {"rhat": 1.01, "ess": 400, "bfmi": 0.3}
"""R-hat above, ESS below (both from Vehtari et al. 2021) and E-BFMI below (Betancourt 2016)."""


def raised(
    *, divergences: ArrayLike, rhat: ArrayLike, ess_bulk: ArrayLike, ess_tail: ArrayLike, bfmi: ArrayLike
) -> dict:
    """Say which of the usual diagnostics raise a flag; a missing value (NaN) raises its flag.

    Parameters
    ----------
    divergences, rhat, ess_bulk, ess_tail, bfmi : float or array_like
        The worst over all parameters and chains; arrays for many fits at once.

    Returns
    -------
    dict
        ``divergences``, ``R-hat``, ``ESS`` (bulk or tail) and ``E-BFMI``, each a bool or an array
        of them. The limits are `THRESHOLDS`.
    """
    few = ~(np.asarray(ess_bulk) >= THRESHOLDS["ess"]) | ~(np.asarray(ess_tail) >= THRESHOLDS["ess"])
    flags = {
        "divergences": ~(np.asarray(divergences) <= 0),
        "R-hat": ~(np.asarray(rhat) <= THRESHOLDS["rhat"]),
        "ESS": few,
        "E-BFMI": ~(np.asarray(bfmi) >= THRESHOLDS["bfmi"]),
    }
    return {name: flag if flag.ndim else bool(flag) for name, flag in flags.items()}


@dataclass(frozen=True, repr=False)
class Score:
    """One fit beside its exact answer.

    Attributes
    ----------
    label : str
        Name of the attempt.
    draws : int
        Draws after tuning, all chains together.
    divergences : int
        Divergent transitions after tuning.
    rhat, ess_bulk, ess_tail : float
        The worst over all parameters that the exact answer has too.
    bfmi : float
        E-BFMI, the smallest over the chains.
    gradients : int
        Gradient evaluations (leapfrog steps) after tuning, all chains together.
    tuning_gradients : float
        The same during tuning; NaN unless the fit kept its warm-up statistics.
    step_size : float
        Mean over chains and draws, in units of the adapted metric.
    seconds : float
        As given to `score`, otherwise the sampler's own time; NaN if unknown.
    missing_share : float
        Share of the exact probability of the smallest 5% of sigma (of the answer's ``neck``) that
        the draws miss, ``1 - fit probability / exact probability``: 0 is right, 1 is never there,
        negative is too much. NaN for models without such a spread.
    unreached : float
        Exact probability of sigma below the smallest one drawn. N independent draws from the
        exact posterior leave 1 / (N + 1) on average. NaN for models without such a spread.
    errors : DataFrame
        One row per scalar parameter (``sigma``, ``alpha[3]``, ...) with columns ``exact_mean``,
        ``exact_sd``, ``mean``, ``sd``, ``mcse``, ``sd_error`` (error of the mean in exact
        posterior standard deviations, signed) and ``mcse_error`` (the same in Monte Carlo
        standard errors as the fit estimates them). Both are NaN for a parameter without a finite
        exact mean and sd, which a heavy-tailed prior on sigma may cause.
    """

    label: str
    draws: int
    divergences: int
    rhat: float
    ess_bulk: float
    ess_tail: float
    bfmi: float
    gradients: int
    tuning_gradients: float
    step_size: float
    seconds: float
    missing_share: float
    unreached: float
    errors: pd.DataFrame

    @property
    def ess_per_1000_gradients(self) -> float:
        """Smallest bulk ESS per thousand gradient evaluations after tuning."""
        return 1000 * self.ess_bulk / self.gradients

    @property
    def warnings(self) -> dict[str, bool]:
        """Which of the usual diagnostics raise a flag; see `raised`."""
        return raised(
            divergences=self.divergences,
            rhat=self.rhat,
            ess_bulk=self.ess_bulk,
            ess_tail=self.ess_tail,
            bfmi=self.bfmi,
        )

    def to_series(self) -> pd.Series:
        """All figures as one flat row, ``sd_error:alpha[3]`` and so on for each parameter."""
        names = [name for name in self.__dataclass_fields__ if name != "errors"]
        row = {name: getattr(self, name) for name in names}
        row["ess_per_1000_gradients"] = self.ess_per_1000_gradients
        for column in ("sd_error", "mcse_error"):
            row |= {f"{column}:{name}": value for name, value in self.errors[column].items()}
        return pd.Series(row, name=self.label, dtype=object)

    def __repr__(self) -> str:
        worst = self.errors["sd_error"].abs()
        return (
            f"<Score of {self.label!r}: {self.divergences} divergences, R-hat {self.rhat:.3f}, "
            f"worst error {worst.max():.2f} posterior sd ({worst.idxmax()})>"
        )


def _sampler_statistics(draws: xr.DataTree) -> dict[str, Any]:
    """Divergences, gradient evaluations, step size and E-BFMI of NUTS in PyMC or nutpie."""
    if "sample_stats" not in draws.children:
        raise ValueError("The fit has no sample_stats; score the DataTree that pm.sample returns.")
    stats = draws["sample_stats"].to_dataset()
    missing = {"diverging", "n_steps", "step_size", "energy"} - set(stats.data_vars)
    if missing:
        raise ValueError(f"sample_stats lacks {', '.join(sorted(missing))}; score a NUTS fit.")
    warmup = draws.children.get("warmup_sample_stats")
    return {
        "divergences": int(stats["diverging"].sum()),
        "gradients": int(stats["n_steps"].sum()),
        "tuning_gradients": np.nan if warmup is None else float(warmup["n_steps"].sum()),
        "step_size": float(stats["step_size"].mean()),
        "bfmi": float(az.bfmi(draws)["energy"].min()),
    }


def _matching(posterior: xr.Dataset, exact: Reference, var_names: Iterable[str] | None) -> xr.Dataset:
    """The draws of the parameters that the exact answer has, with districts in its order."""
    wanted: list[Any] = list(exact.mean.data_vars) if var_names is None else list(var_names)
    if var_names is None:
        wanted = [name for name in wanted if name not in ("p", "p_bar") and name in posterior]
    unknown = [name for name in wanted if name not in posterior or name not in exact.mean]
    if unknown or not wanted:
        raise ValueError(
            f"The fit and the exact answer do not share {', '.join(unknown) or 'any parameter'}; "
            f"the exact answer has {', '.join(cast('list[str]', exact.mean.data_vars))}."
        )
    chosen = posterior[wanted]
    for dim, size in exact.mean[wanted].sizes.items():
        labels = exact.mean[dim].values if dim in exact.mean.coords else None
        if dim not in chosen.sizes or chosen.sizes[dim] != size:
            raise ValueError(
                f"The fit and the exact answer differ in the size of {dim!r}: it is {size} in the "
                f"answer, and the fit has {dict(chosen.sizes)}. Build the model with "
                f"pm.Model(coords={{{dim!r}: [...]}}) and dims={dim!r}."
            )
        if labels is not None and dim in chosen.coords:
            if set(labels) != set(chosen[dim].values):
                raise ValueError(f"Give the model and the exact answer the same {dim} labels.")
            chosen = chosen.sel({dim: labels})
    return chosen


def score(
    draws: xr.DataTree,
    exact: Reference,
    *,
    label: str | None = None,
    seconds: float | None = None,
    var_names: Iterable[str] | None = None,
) -> Score:
    """Put a fit beside its exact answer.

    Parameters
    ----------
    draws : DataTree
        What ``fieldguide.sample``, ``pm.sample`` or ``nutpie.sample`` returned, from NUTS.
    exact : Reference
        The answer for the same model, priors and data, from `fieldguide.reference`.
    label : str, optional
        Name of the attempt; by default what the fit says that it is (`fieldguide.fits.label`).
    seconds : float, optional
        Wall time of the fit; by default the sampler's own ``sampling_time`` if it says.
    var_names : iterable of str, optional
        Parameters to judge; by default all that both have, except the probabilities ``p`` and
        ``p_bar``, which are the same effects on another scale.

    Returns
    -------
    Score

    Raises
    ------
    ProblemError
        If the fit says that it is of another model, other data or another prior than the answer.
        A fit that does not say what it is is only held against the answer's names and sizes.
    ValueError
        If the two do not share parameters, the fit lacks the statistics of NUTS or a label, or a
        draw is not a number or not a standard deviation.

    Examples
    --------
    >>> import pymc as pm, scipy.stats
    >>> from fieldguide import exact_posterior, sample, varying_intercept_model
    >>> exact = exact_posterior([30, 7, 2], [117, 20, 2], sigma_prior=scipy.stats.expon())
    >>> with varying_intercept_model([30, 7, 2], [117, 20, 2]):
    ...     draws = sample(100, tune=100, random_seed=1, progressbar=False, quiet=True)
    >>> score(draws, exact).label
    'mme0: centered, Exponential(1), target 0.8'
    """
    problem = problem_of_fit(draws)
    if problem is not None:
        problem.check_same(exact.problem)
    statistics = _sampler_statistics(draws)
    posterior = _matching(draws["posterior"].to_dataset(), exact, var_names)
    _check_draws(posterior, exact.neck)
    names = list(posterior.data_vars)
    sample = ("chain", "draw")
    errors = pd.DataFrame(
        {
            "exact_mean": flat(exact.mean[names]),
            "exact_sd": flat(exact.sd[names]),
            "mean": flat(posterior.mean(sample)),
            "sd": flat(posterior.std(sample, ddof=1)),
            "mcse": flat(az.mcse(posterior)),
        }
    ).rename_axis("parameter")
    defined = np.isfinite(errors["exact_mean"]) & np.isfinite(errors["exact_sd"])
    error = (errors["mean"] - errors["exact_mean"]).where(defined)
    errors["sd_error"] = error / errors["exact_sd"]
    errors["mcse_error"] = error / errors["mcse"]
    missing_share = unreached = np.nan
    if exact.neck in names:
        missing_share, unreached = _missed(np.log(posterior[exact.neck].values), exact)
    if seconds is None:
        attributes = draws["sample_stats"].attrs | draws["posterior"].attrs
        seconds = attributes.get("sampling_time", np.nan)
    return Score(
        label=label_of(draws) if label is None else label,
        draws=posterior.sizes["chain"] * posterior.sizes["draw"],
        rhat=float(flat(az.rhat(posterior)).max(skipna=False)),
        ess_bulk=float(flat(az.ess(posterior)).min(skipna=False)),
        ess_tail=float(flat(az.ess(posterior, method="tail")).min(skipna=False)),
        seconds=float(seconds),
        missing_share=missing_share,
        unreached=unreached,
        errors=errors,
        **statistics,
    )


def _check_draws(posterior: xr.Dataset, neck: str | None) -> None:
    for name, values in posterior.data_vars.items():
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise ValueError(f"{count} draws of {name} are not finite numbers; fit again.")
    if neck in posterior and not (posterior[neck] > 0).all():
        raise ValueError(
            f"A draw of {neck} is zero or negative; a standard deviation is positive. Score the "
            "draws on their own scale, not on the log scale."
        )


def _missed(log_draws: np.ndarray, exact: Reference) -> tuple[float, float]:
    """Missing share of the smallest 5% of the exact probability, and what lies below all draws."""

    def share(x):
        return float(exact.cdf(cast("str", exact.neck), np.exp(x)))

    low, high = log_draws.min() - 1, log_draws.max() + 1
    while share(low) > SMALL_SIGMA:
        low -= 1
    while share(high) < SMALL_SIGMA:
        high += 1
    small = brentq(lambda x: share(x) - SMALL_SIGMA, low, high, xtol=1e-6)
    return 1 - float((log_draws < small).mean()) / SMALL_SIGMA, share(log_draws.min())


def scoreboard(scores: Iterable[Score], *, parameters: Iterable[str] | None = None) -> pd.DataFrame:
    """Show scores side by side, one row per attempt, in the order given.

    Parameters
    ----------
    scores : iterable of Score
        The attempts so far.
    parameters : iterable of str, optional
        Parameters whose errors get columns of their own, besides the worst one. By default
        ``sigma`` and the last district, whichever the attempts have.

    Returns
    -------
    DataFrame
        Unrounded, with column names ready to be shown. Errors are signed where they belong to a
        named parameter and absolute where they are the worst over all.
    """
    scores = list(scores)
    if not scores:
        raise ValueError("A scoreboard needs at least one score.")
    if parameters is None:
        last = [name for name in scores[-1].errors.index if name.startswith("alpha[")][-1:]
        parameters = ["sigma", *last]
    rows = []
    for one in scores:
        row = {
            "attempt": one.label,
            "divergences": one.divergences,
            "worst R-hat": one.rhat,
            "min bulk ESS": one.ess_bulk,
            "min tail ESS": one.ess_tail,
            "E-BFMI": one.bfmi,
            "gradient evaluations": one.gradients,
            "step size": one.step_size,
            "seconds": one.seconds,
            "ESS per 1000 gradients": one.ess_per_1000_gradients,
            "worst error (sd)": one.errors["sd_error"].abs().max(),
            "worst error (MCSE)": one.errors["mcse_error"].abs().max(),
        }
        for name in parameters:
            if any(name in other.errors.index for other in scores):
                for column, unit in (("sd_error", "sd"), ("mcse_error", "MCSE")):
                    row[f"{name} error ({unit})"] = one.errors[column].get(name, np.nan)
        row["missing at small sigma"] = one.missing_share
        row["never reached"] = one.unreached
        rows.append(row)
    return pd.DataFrame(rows).set_index("attempt")


# ---------------------------------------------------------------------------------------------
# Reading a table of scored fits


def flags(table: pd.DataFrame) -> pd.DataFrame:
    """Which diagnostics raise a flag, one boolean column each, for a table of scored fits.

    Columns ``divergences``, ``R-hat``, ``ESS`` (the smaller of bulk and tail), ``E-BFMI`` and
    ``any``; thresholds in `fieldguide.scores.THRESHOLDS`.
    """
    columns = ("divergences", "rhat", "ess_bulk", "ess_tail", "bfmi")
    found: Any
    found = raised(**{name: table[name].to_numpy(dtype=float) for name in columns})
    found = pd.DataFrame(found, index=table.index)
    return found.assign(any=found.any(axis=1))


def is_wrong(table: pd.DataFrame, *, sd_error: float = 0.15, missing: float = 0.5) -> pd.Series:
    """Fits whose answer is wrong: a mean far from the exact one, or the funnel's neck not visited.

    Parameters
    ----------
    table : DataFrame
        Scored fits, one per row.
    sd_error : float
        Largest tolerated error of a posterior mean, in exact posterior sds. 400 effective draws
        have a Monte Carlo sd of 0.05, so 0.15 is three of those.
    missing : float
        Largest tolerated distance from 0 of the missing share of probability at small sigma.
    """
    errors = table.filter(regex="^sd_error:").abs().max(axis=1)
    return (errors > sd_error) | (table["missing_share"].abs() > missing)


def caught_and_missed(table: pd.DataFrame, **tolerance: float) -> pd.DataFrame:
    """Did the diagnostics see the fits that went wrong? One row per diagnostic.

    Parameters
    ----------
    table : DataFrame
        Scored fits, one per row.
    **tolerance
        As for `is_wrong`.

    Returns
    -------
    DataFrame
        Counts of wrong fits that were flagged (``caught``) and not (``missed``), and of right
        fits that were flagged (``false alarms``) and not (``rightly quiet``).
    """
    wrong, flagged = is_wrong(table, **tolerance), flags(table)
    rows = {
        name: {
            "caught": int((wrong & flag).sum()),
            "missed": int((wrong & ~flag).sum()),
            "false alarms": int((~wrong & flag).sum()),
            "rightly quiet": int((~wrong & ~flag).sum()),
        }
        for name, flag in flagged.items()
    }
    return pd.DataFrame(rows).T.rename_axis("diagnostic")
