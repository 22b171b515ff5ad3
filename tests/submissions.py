"""What students might hand in: right in several ways, and wrong in many; made from a solution.

Each is an edit of the solved notebook and what grading must make of it. Some mistakes show only in the
data of the student at their place in the list, so append new ones at its end.

    python tests/submissions.py singular

hands in everything that is known for an assignment, as a class whose students each do one thing, grades
it in ``_build/known`` and tells what is not as it must be (minutes; an interrupted call goes on).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat

EVERYTHING = "everything"


@dataclasses.dataclass(frozen=True)
class Submission:
    """One way to hand in.

    Attributes
    ----------
    name : str
    edit : callable
        Takes the solved notebook, returns the one that is handed in, or the bytes of a file.
    lost : tuple of str
        Tests that must give no points, by a pattern for the beginning of their names, or `EVERYTHING`.
    kept : tuple of str
        Tests that must give all points, or `EVERYTHING` else.
    fault : str
        Words that must stand in what is said of the run, or in a cell's error.
    """

    name: str
    edit: Callable
    lost: tuple[str, ...] = ()
    kept: tuple[str, ...] | str = EVERYTHING
    fault: str = ""


def replaced(*pairs: tuple[str, str]) -> Callable:
    """Return an edit of code; every pattern must be there."""

    def edit(notebook):
        notebook = copy.deepcopy(notebook)
        for old, new in pairs:
            count = 0
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.source, found = re.subn(old, new, cell.source)
                    count += found
            assert count, f"{old!r} is nowhere in the solution"
        return notebook

    return edit


def with_cell(code: str, after: int | None = None) -> Callable:
    """Return an edit that puts a cell after the set-up, or at the end."""

    def edit(notebook):
        notebook = copy.deepcopy(notebook)
        cell = nbformat.v4.new_code_cell(code)
        place = len(notebook.cells) if after is None else after
        notebook.cells.insert(place, cell)
        return notebook

    return edit


def after_question(name: str, code: str) -> Callable:
    """Return an edit that puts a cell after a question."""

    def edit(notebook):
        place = next(k for k, c in enumerate(notebook.cells) if f'grader.check("{name}")' in c.source)
        return with_cell(code, place + 1)(notebook)

    return edit


def chain(*edits: Callable) -> Callable:
    def edit(notebook):
        for one in edits:
            notebook = one(notebook)
        return notebook

    return edit


SETUP = 4  # cells: title, what is missing, imports and data
LOOK = """
import glob, os, socket
found = [k for k in os.environ if "KEY" in k or "TOKEN" in k]
for pattern in ("PROJECT/**/tests/q*.py", "/root/**/tests/q*.py", "/home/**/tests/q*.py",
                "/tmp/**/q*.py", "../**/tests/q*.py", "../../**/q*.py"):
    found += glob.glob(pattern, recursive=True)
for pid in os.listdir("/proc"):
    if pid.isdigit():
        try:
            text = open(f"/proc/{pid}/environ").read()
        except OSError:
            continue
        found += [pid] if "COURSE_KEY" in text else []
try:
    socket.create_connection(("1.1.1.1", 53), 2)
    found.append("network")
except OSError:
    pass
print("FOUND", found)
""".replace("PROJECT", str(Path(__file__).parents[1]))
PATCH = """
import fieldguide.course as course_module
import fieldguide.course.grading as grading_module
for module in (course_module, grading_module):
    module.require_number = lambda *a, **k: None
    for name in ("judge_districts", "judge_trial", "judge_schools", "judge_diagnostics", "judge_form"):
        setattr(module, name, lambda *a, **k: type("V", (), {"require": lambda *a, **k: None})())
"""


def generic(first: str, kept_before: tuple[str, ...]) -> list[Submission]:
    """Return what can be done to any assignment; `first` is its first checked question."""
    return [
        Submission("the solution", lambda nb: nb),
        Submission("empty file", lambda nb: b"", (EVERYTHING,), (), "empty"),
        Submission(
            "no notebook", lambda nb: b"\x00\xff not JSON", (EVERYTHING,), (), "cannot|can be read"
        ),
        Submission("nothing answered", unanswered, (EVERYTHING,), ()),
        Submission(
            "a cell raises", with_cell('raise ValueError("mine")', SETUP), (), EVERYTHING, "mine"
        ),
        Submission(
            "an endless cell",
            after_question(first, "while True:\n    pass"),
            (),
            EVERYTHING,
            "Interrupt",
        ),
        Submission(
            "an endless cell that cannot be interrupted",
            after_question(
                first,
                "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
            ),
            (),
            kept_before,
            "not done within",
        ),
        Submission(
            "a memory hog",
            after_question(first, "hog = [bytearray(2**28) for _ in range(100)]"),
            (),
            EVERYTHING,
            "MemoryError",
        ),
        Submission(
            "the kernel is killed",
            after_question(first, "import os\nos._exit(3)"),
            (),
            kept_before,
            "died",
        ),
        Submission(
            "100 MB of output", with_cell('for _ in range(100):\n    print("x" * 1_000_000)', SETUP)
        ),
        Submission("a look for tests, key and network", with_cell(LOOK, SETUP)),
        Submission("the judges replaced", chain(unanswered, with_cell(PATCH, SETUP)), (EVERYTHING,), ()),
    ]


def unanswered(notebook):
    """Return the notebook with its answers taken out."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if "otter_assign_solution_cell" in cell.metadata.get("tags", []):
            cell.source = "..."
    return notebook


def recoloured(notebook):
    """Return a copy with other names, comments and layout."""
    changed = copy.deepcopy(notebook)
    for cell in changed.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"\bz\b", "raw_offset", cell.source)
            cell.source = re.sub(r"(?m)^(    \w.*)$", r"\1  # mine", cell.source)
    return changed


FIT = ("fit can be read", "fit no divergences", "fit chains agree", "fit enough draws")
TRUTH = ("fit all means right", "fit standard deviations right")
TYPED = "counts = counts.assign(users=[40, 9, 1], women=[100, 25, 4])\n" + (
    "women, users = counts['women'].to_numpy(), counts['users'].to_numpy()"
)


def changed(fit: str, **variables: str) -> str:
    """Return code that changes the draws of a fit; ``p`` stands for its posterior."""
    new = ", ".join(f"{name}={code}" for name, code in variables.items())
    return f"p = {fit}.posterior.to_dataset()\np = p.assign({new})\n{fit} = {remade('p', fit)}"


def remade(posterior: str, fit: str = "fit") -> str:
    """Return code for a fit with another posterior."""
    return (
        f"{fit}.__class__.from_dict("
        f'{{"posterior": {posterior}, "sample_stats": {fit}.sample_stats.to_dataset()}})'
    )


def of(name: str, *parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tests of a fit that is not called `fit`."""
    return tuple(f"{name} {one}" for part in parts for one in part)


BAMBI = """import bambi as bmb


def bambi_fit(counts, sigma_prior, seed):
    spread = bmb.Prior("Normal", mu=0, sigma=sigma_prior)
    data = counts.reset_index().assign(district=counts.index.astype(str))
    model = bmb.Model("p(users, women) ~ 1 + (1 | district)", data, family="binomial",
        priors={"Intercept": bmb.Prior("Normal", mu=0, sigma=1.5), "1|district": spread})
    fit = model.fit(2000, chains=4, target_accept=0.99, random_seed=seed, progressbar=False)
    effects = fit.posterior["1|district"]
    names = list(effects.coords["district__factor_dim"].values)
    effects = effects.isel(district__factor_dim=[names.index(str(d)) for d in counts.index])
    alpha = (fit.posterior["Intercept"] + effects).rename(district__factor_dim="district")
    fit.posterior["alpha"], fit.posterior["sigma"] = alpha, fit.posterior["1|district_sigma"]
    return fit


"""
WIDE = 'bmb.Prior("Exponential", lam=1)'
TIGHT = 'bmb.Prior("HalfNormal", sigma=0.25)'


def _cure() -> list[Submission]:
    first = ("centered model", "centered fit is four", "divergences counted")
    wrong_model = ("centered model has the posterior", "model has the posterior")
    return [
        *generic("q1", first),
        Submission(
            "centered with care",
            replaced(
                (
                    r"with model:\n    fit = pm.sample\(2000, chains=4, target_accept=0.99",
                    "with centered_model:\n    fit = pm.sample(12000, tune=4000, "
                    "chains=4, target_accept=0.9995",
                )
            ),
        ),
        Submission(
            "Bambi",
            replaced((r"(?s)with model:\n    fit = .*", f"{BAMBI}fit = bambi_fit(counts, {WIDE}, 2)")),
        ),
        Submission(
            "another prior",
            replaced((r'Exponential\("sigma", 1\)', 'HalfNormal("sigma", 0.3)')),
            (*wrong_model, *TRUTH),
            FIT,
        ),
        Submission(
            "sigma forgotten",
            replaced((r"alpha_bar \+ sigma \* z", "alpha_bar + z")),
            ("model has the posterior", *TRUTH),
            first,
        ),
        Submission(
            "a variance for a standard deviation",
            replaced(
                (r"alpha_bar, sigma, dims", "alpha_bar, sigma**0.5, dims"),
                (r"alpha_bar \+ sigma \* z", "alpha_bar + sigma**0.5 * z"),
            ),
            (*wrong_model, *TRUTH),
            FIT,
        ),
        Submission(
            "another order of the districts",
            replaced((r"observed=users", "observed=users[::-1]"), (r"n=women", "n=women[::-1]")),
            (*wrong_model, *TRUTH),
            FIT,
        ),
        Submission(
            "warnings silenced",
            replaced(
                (
                    r"with model:\n    fit = pm.sample\(2000, chains=4, target_accept=0.99",
                    "import warnings, logging\nwarnings.simplefilter('ignore')\nlogging.disable(50)\n"
                    "with centered_model:\n    fit = pm.sample(2000, chains=4, target_accept=0.8",
                )
            ),
            ("fit no divergences",),
            (*first, "model"),
        ),
        Submission(
            "too few draws",
            replaced((r"pm.sample\(2000,", "pm.sample(25,")),
            ("fit enough draws", "fit all means right"),
            (*first, "model"),
        ),
        Submission(
            "numbers typed",
            after_question("q5", "rate, low, high = 0.5, 0.1, 0.9"),
            ("rate", "interval"),
        ),
        Submission(
            "parameters under each other's names",
            after_question("q4", changed("fit", alpha_bar='p["sigma"]', sigma='p["alpha_bar"]')),
            TRUTH[1:],
            FIT,
        ),
        Submission(
            "sigma squared", after_question("q4", changed("fit", sigma='p["sigma"] ** 2')), TRUTH, FIT
        ),
        Submission("another student's answer", with_cell(TYPED, SETUP), (*wrong_model, *TRUTH), FIT),
        Submission("a lightly edited copy", recoloured),
        Submission(
            "not the model that was asked for",
            replaced(
                (r"alpha_bar \+ sigma \* z, dims", "alpha_bar + sigma * z, dims"),
                (
                    r'z = pm.Normal\("z", dims="district"\)',
                    'z = pm.StudentT("z", nu=3, dims="district")',
                ),
            ),
            ("model has the posterior",),
            first,
        ),
        Submission(
            "the centered form handed in twice",
            after_question("q3", "model = centered_model"),
            ("model is non centered",),
            first,
        ),
        Submission("without labels", replaced((r'(observed=users), dims="district"', r"\1"))),
    ]


def centered(*others: tuple[str, str]) -> Callable:
    """Return an edit to the centered form of the districts' model, and more."""
    return replaced(
        (r'(?m)^ *z = pm.Normal\("z", dims="district"\)\n', ""),
        (r'pm.Deterministic\("alpha", alpha_bar \+ sigma \* z,', 'pm.Normal("alpha", alpha_bar, sigma,'),
        *others,
    )


SAMPLED = r"pm.sample\(2000, chains=4, target_accept=0.99"
CARE = (SAMPLED, "pm.sample(12000, tune=4000, chains=4, target_accept=0.9995")
SILENCE = "import warnings, logging\nwarnings.simplefilter('ignore')\nlogging.disable(50)"
HASTE = (SAMPLED, "pm.sample(2000, chains=4, target_accept=0.8")
FEW = (SAMPLED, "pm.sample(25, chains=4, target_accept=0.99")
FORGOTTEN = (r"alpha_bar \+ sigma \* z", "alpha_bar + z")
BACKWARDS = ((r"observed=users", "observed=users[::-1]"), (r"n=women", "n=women[::-1]"))


# ---------------------------------------------------------------------------------------------
# 01_reading


def _reading() -> list[Submission]:
    first = ("divergences counted", "largest rhat", "smallest ess")
    fit, truth = of("own", FIT), of("own", TRUTH)
    hers = (*first, "means by chain", "the odd chain", "rates")
    typed = (
        "divergences, worst_rhat, smallest_ess = 312, 1.21, 61.0\n"
        "chain_means, rates = [0.91, 0.62, 0.87, 0.83], [0.27, 0.41, 0.55]"
    )
    names = '("neck", "few-draws", "mixed", "other-prior", "swapped", "sound")'
    return [
        *generic("q1", first),
        Submission(
            "her fit handed in as one's own", after_question("q4", "own_fit = fit"), ("own fit",), hers
        ),
        Submission(
            "own fit centered with care",
            centered(CARE, ("(?<=target_accept=0.9995, random_seed=)1", "2")),  # 1 is not quiet
        ),
        Submission(
            "own fit by Bambi",
            replaced(
                (
                    r"(?s)with pm.Model.*own_fit = [^\n]*",
                    f"{BAMBI}own_fit = bambi_fit(districts, {WIDE}, 1)",
                )
            ),
        ),
        Submission(
            "answers as arrays",
            after_question(
                "q5",
                'chain_means, rates = posterior["sigma"].mean("draw"), tuple(np.array(rates))\n'
                "divergences, worst_rhat = fit.sample_stats.diverging.sum(), np.float32(worst_rhat)\n"
                "odd_chain = odd_chain if odd_chain == 'none' else np.int64(odd_chain)",
            ),
        ),
        # Seen with this place's student, whose fit is of a fault that shows it.
        Submission(
            "R-hat of sigma only",
            replaced((r"az.rhat\(posterior\)", 'az.rhat(posterior[["sigma"]])')),
            ("largest rhat",),
            (first[0], first[2], "means", "rates", *fit, *truth),
        ),
        # Seen with this place's student, whose fit is of a fault that shows it.
        Submission(
            "a chain named too much, or too little",
            after_question(
                "q5", "odd_chain = 'none' if odd_chain != 'none' else int(np.argmax(chain_means))"
            ),
            ("the odd chain",),
        ),
        Submission(
            "another fault named",
            after_question("q5", f"names = {names}\nfault = names[(names.index(fault) + 1) % 6]"),
            ("the fault",),
        ),
        Submission(
            "rates at the mean log odds",
            replaced(
                (
                    r'\(1 / \(1 \+ np.exp\(-posterior\["alpha"\]\)\)\).mean\(\("chain", "draw"\)\)',
                    '(1 / (1 + np.exp(-posterior["alpha"].mean(("chain", "draw")))))',
                )
            ),
            ("rates",),
        ),
        Submission(
            "the observed shares for rates",
            after_question("q3", "rates = (districts['users'] / districts['women']).tolist()"),
            ("rates",),
        ),
        Submission(
            "rates in log odds",
            after_question("q3", "rates = posterior['alpha'].mean(('chain', 'draw')).values"),
            ("rates",),
        ),
        # Seen with this place's student, whose fit is of a fault that shows it.
        Submission(
            "divergences as a share",
            after_question("q1", "divergences /= 4000"),
            ("divergences counted",),
            (*first[1:], "means", "rates", *fit, *truth),
        ),
        Submission(
            "the fit's transitions that did not diverge",
            replaced((r'fit.sample_stats\["diverging"\].sum', '(~fit.sample_stats["diverging"]).sum')),
            ("divergences counted",),
            (*first[1:], "means", "rates", *fit, *truth),
        ),
        Submission("a lightly edited copy", recoloured),
        Submission(
            "ESS of one parameter only",
            replaced(
                (r"az.ess\(posterior, method=kind\)", 'az.ess(posterior[["alpha_bar"]], method=kind)')
            ),
            ("smallest ess",),
            (*first[:2], "means", "the odd", "rates", *fit, *truth),
        ),
        Submission(
            "another prior",
            replaced((r'Exponential\("sigma", 1\)', 'HalfNormal("sigma", 0.25)')),
            truth,
            (*hers, *fit),
        ),
        Submission(
            "means in another order",
            replaced((r'mean\("draw"\).values.tolist\(\)', 'mean("draw").values.tolist()[::-1]')),
            ("means by chain",),
            (*first, "rates", *fit, *truth),
        ),
        Submission(
            "means of alpha_bar",
            replaced((r'posterior\["sigma"\].mean\("draw"\)', 'posterior["alpha_bar"].mean("draw")')),
            ("means by chain",),
            (*first, "rates", *fit, *truth),
        ),
        Submission("sigma forgotten", replaced(FORGOTTEN), truth, (*hers, *fit)),
        Submission("another order of the districts", replaced(*BACKWARDS), truth, (*hers, *fit)),
        Submission(
            "warnings silenced",
            chain(with_cell(SILENCE, SETUP), centered(HASTE)),
            of("own", ("fit no divergences",)),
            hers,
        ),
        Submission(
            "too few draws", replaced(FEW), of("own", ("fit enough draws", "fit all means")), hers
        ),
        Submission(
            "parameters under each other's names",
            after_question("q4", changed("own_fit", alpha_bar='p["sigma"]', sigma='p["alpha_bar"]')),
            truth,
            (*hers, *fit),
        ),
        Submission(
            "sigma squared",
            after_question("q4", changed("own_fit", sigma='p["sigma"] ** 2')),
            truth,
            (*hers, *fit),
        ),
        Submission(
            "another student's answer",
            after_question("q5", typed),
            (*first, "means", "rates"),
            (*fit, *truth),
        ),
        Submission("no name of the list", after_question("q5", 'fault = "a neck"'), ("the fault",)),
    ]


# ---------------------------------------------------------------------------------------------
# 03_prior


def _prior() -> list[Submission]:
    first = of("wide", FIT, TRUTH)
    truth, fit = of("wide", TRUTH) + of("tight", TRUTH), of("wide", FIT) + of("tight", FIT)
    moved = ("shift", "sd ratio")

    def both(**variables: str) -> str:
        return "\n".join(changed(name, **variables) for name in ("wide_fit", "tight_fit"))

    return [
        *generic("q1", first),
        Submission("centered with care", centered(CARE)),
        Submission(
            "Bambi",
            replaced(
                (r"(?s)def fitted.*?(?=# END SOLUTION)", BAMBI),
                (r'fitted\(lambda: pm.Exponential\("sigma", 1\)', f"bambi_fit(counts, {WIDE}"),
                (r'fitted\(lambda: pm.HalfNormal\("sigma", 0.25\)', f"bambi_fit(counts, {TIGHT}"),
            ),
        ),
        Submission(
            "without labels",
            replaced(
                (r'coords=\{"district": counts.index\}', ""),
                (r', dims="district"', ", shape=3"),
                (r"sigma \* z, shape=3", "sigma * z"),
                (r"observed=users, shape=3", "observed=users"),
            ),
        ),
        Submission(
            "numbers as arrays",
            after_question(
                "q4",
                "shift, sd_ratio = np.array(shift), np.float32(sd_ratio)\n"
                "prior_wide = np.float64(prior_wide)\n"
                'posterior_wide = (wide_fit.posterior["sigma"] > 0.5).mean()',
            ),
        ),
        Submission("a lightly edited copy", recoloured),
        Submission(
            "the two fits exchanged",
            after_question("q2", "wide_fit, tight_fit = tight_fit, wide_fit"),
            (*truth, *moved, "posteriors"),
            (*fit, "priors"),
        ),
        Submission(
            "a variance for the scale of the prior",
            replaced((r'HalfNormal\("sigma", 0.25\)', 'HalfNormal("sigma", 0.5)')),
            (*of("tight", TRUTH), *moved, "posteriors"),
            (*first, *fit, "priors"),
        ),
        Submission(
            "one fit handed in twice",
            replaced((r"tight_fit = fitted.*", "tight_fit = wide_fit")),
            (*of("tight", TRUTH), *moved, "posteriors"),
            (*first, *fit, "priors"),
        ),
        Submission(
            "another prior on alpha_bar",
            replaced((r'"alpha_bar", 0, 1.5', '"alpha_bar", 1, 0.3')),
            truth,
            (*fit, "priors"),
        ),
        Submission("sigma forgotten", replaced(FORGOTTEN), (*truth, *moved), (*fit, "priors")),
        Submission(
            "another order of the districts",
            replaced(*BACKWARDS),
            (*truth, *moved),
            (*fit, "priors", "posteriors"),
        ),
        Submission(
            "warnings silenced",
            chain(with_cell(SILENCE, SETUP), centered(HASTE)),
            ("wide fit no divergences", "tight fit no divergences"),
            ("priors",),
        ),
        Submission(
            "too few draws",
            replaced(FEW),
            of("wide", ("fit enough draws", "fit all means"))
            + of("tight", ("fit enough draws", "fit all means")),
            ("priors",),
        ),
        Submission(
            "numbers typed",
            after_question(
                "q4",
                "shift, sd_ratio = -2.5, 1.0\nprior_wide, prior_tight = 0.61, 0.05\n"
                "posterior_wide, posterior_tight = 0.95, 0.5",
            ),
            (*moved, "priors", "posteriors"),
        ),
        Submission(
            "the shift with its sign turned",
            replaced((r"b.mean\(\) - a.mean\(\)", "a.mean() - b.mean()")),
            ("shift",),
        ),
        Submission(
            "the shift in sds of the tight fit",
            replaced((r"a.mean\(\)\) / a.std", "a.mean()) / b.std")),
            ("shift",),
        ),
        Submission(
            "the shift of probabilities",
            replaced(
                (
                    r"\(\(b.mean\(\) - a.mean\(\)\) / a.std\(\)\)",
                    "((1 / (1 + np.exp(-b))).mean() - (1 / (1 + np.exp(-a))).mean())",
                )
            ),
            ("shift",),
        ),
        Submission(
            "a ratio of variances", replaced((r"b.std\(\) / a.std", "b.var() / a.var")), ("sd ratio",)
        ),
        Submission(
            "the largest district for the smallest", replaced((r"np.argmin", "np.argmax")), moved
        ),
        Submission(
            "below a half, not above",
            replaced((r"\.sf\(0.5\)", ".cdf(0.5)"), (r"> 0.5\)", "< 0.5)")),
            ("priors", "posteriors"),
        ),
        Submission("densities for probabilities", replaced((r"\.sf\(0.5\)", ".pdf(0.5)")), ("priors",)),
        Submission(
            "the priors by draws",
            after_question(
                "q4",
                "prior_wide, prior_tight = "
                "((one.rvs(1000, random_state=1) > 0.5).mean() for one in (wide, tight))",
            ),
            ("priors",),
        ),
        Submission(
            "priors for posteriors",
            after_question(
                "q4",
                "prior_wide, posterior_wide, prior_tight, posterior_tight = "
                "posterior_wide, prior_wide, posterior_tight, prior_tight",
            ),
            ("priors", "posteriors"),
        ),
        Submission("another student's answer", with_cell(TYPED, SETUP), truth, (*fit, "priors")),
        Submission(
            "parameters under each other's names",
            after_question("q2", both(alpha_bar='p["sigma"]', sigma='p["alpha_bar"]')),
            ("wide fit stand", "tight fit stand", "posteriors"),
            (*fit, *moved, "priors"),
        ),
        Submission(
            "sigma squared",
            after_question("q2", both(sigma='p["sigma"] ** 2')),
            (*truth, "posteriors"),
            (*fit, *moved, "priors"),
        ),
    ]


# ---------------------------------------------------------------------------------------------
# 04_trial

OWN_TRIAL = """share = trial["n_treated"].sum() / trial[["n_control", "n_treated"]].to_numpy().sum()
with pm.Model(coords={"site": trial.index, "part": ["intercept", "effect"]}) as model:
    intercept = pm.Normal("intercept", -1, 1)
    effect = pm.Normal("effect", 0, 1)
    %s
    theta = pm.Deterministic("site_intercept", intercept - share * effect + u, dims="site")
    delta = pm.Deterministic("site_effect", effect + v, dims="site")
    for arm, log_odds in (("control", theta), ("treated", theta + delta)):
        pm.Binomial(arm, trial[f"n_{arm}"], logit_p=log_odds, observed=trial[arm], dims="site")
"""
BY_HAND = """sd_intercept = pm.HalfNormal("sd_intercept", 0.5)
    sd_effect = pm.HalfNormal("sd_effect", 0.5)
    corr = pm.Deterministic("corr", 2 * pm.Beta("corr_half", 4, 4) - 1)
"""
VECTORS = """    a, b = pm.Normal("a", dims="site"), pm.Normal("b", dims="site")
    u, v = sd_intercept * a, sd_effect * (corr * a + pm.math.sqrt(1 - corr**2) * b)"""
MATRIX = """    z = pm.Normal("z", dims=("part", "site"))
    u, v = sd_intercept * z[0], sd_effect * (corr * z[0] + pm.math.sqrt(1 - corr**2) * z[1])"""
CHOLESKY = """chol, correlations, sds = pm.LKJCholeskyCov(
        "chol", n=2, eta=4, sd_dist=pm.HalfNormal.dist(0.5, size=2), compute_corr=True)
    pm.Deterministic("sd_intercept", sds[0]), pm.Deterministic("sd_effect", sds[1])
    pm.Deterministic("corr", correlations[0, 1])
    effects = chol @ pm.Normal("z", dims=("part", "site"))
    u, v = effects[0], effects[1]"""


def _trial() -> list[Submission]:
    first = ("crude", "power")
    posterior = ("model has the posterior",)
    form = ("model is non-centered", "model is non centered")

    def model(code: str) -> tuple[str, str]:
        return r'trial_model\(trial, parameterization="non-centered"\)', code

    def own(*parts: str, more: tuple[tuple[str, str], ...] = ()) -> Callable:
        return replaced((r"model = trial_model\(.*", OWN_TRIAL % "".join(parts)), *more)

    def priors(code: str) -> Callable:
        given = with_cell("from fieldguide.priors import TrialPriors", SETUP)
        return chain(given, replaced(model(f"trial_model(trial, priors=TrialPriors({code}))")))

    def fit_by(code: str, *sampling: tuple[str, str]) -> Callable:
        return replaced((r"with model:", f"with trial_model({code}):"), *sampling)

    exchanged = 'trial.set_axis(["n_treated", "n_control", "treated", "control"], axis=1)'
    typed = (
        "arms = [14, 68, 117, 23, 8, 200, 40]\n"
        "trial = pd.DataFrame({'control': [3, 18, 31, 9, 2, 60, 5], 'n_control': arms,\n"
        "    'treated': [4, 30, 25, 12, 6, 90, 21], 'n_treated': arms},\n"
        "    index=pd.Index(list('ABCDEFG'), name='site'))"
    )
    return [
        *generic("q1", ("crude",)),
        Submission(
            "sd_effect forgotten",
            own(
                BY_HAND,
                VECTORS.replace("v = sd_intercept * a, sd_effect *", "v = sd_intercept * a, 1.0 *"),
            ),
            (*posterior, *TRUTH),
            (*first, *FIT),
        ),
        Submission("the model by hand", own(BY_HAND, VECTORS)),
        # Right models, but not with the free variables that the task asks for: these are not recognised.
        Submission(
            "the model by hand, its offsets in a matrix", own(BY_HAND, MATRIX), (*posterior, *form)
        ),
        Submission(
            "the model by hand with LKJCholeskyCov",
            chain(own(CHOLESKY), replaced((r"with model:", "with trial_model(trial):"))),
            (*posterior, *form),
        ),
        Submission(
            "sites in another order with their labels",
            replaced(
                model("trial_model(trial.iloc[::-1])"),
                (
                    r"draws = fit.posterior.to_dataset\(\)",
                    "draws = fit.posterior.to_dataset().sel(site=list(trial.index))",
                ),
            ),
        ),
        Submission("a lightly edited copy", recoloured),
        Submission(
            "another prior on the sds",
            priors("sd=scipy.stats.halfnorm(scale=3)"),
            (*posterior, *TRUTH),
            (*first, *form, *FIT),
        ),
        Submission(
            "the arms exchanged",
            replaced(model(f"trial_model({exchanged})")),
            (*posterior, TRUTH[0], "site average"),
            (*first, *form, *FIT),
        ),
        Submission(
            "another prior on the effect",
            priors("effect=scipy.stats.norm(0, 0.1)"),
            (*posterior, *TRUTH),
            (*first, *form, *FIT),
        ),
        Submission(
            "without the correlation",
            replaced(model("trial_model(trial, correlated=False)")),
            (*posterior, "fit"),
            (*first, *form),
        ),
        # A centered form can be nursed where, as here, the sites' intercepts differ much.
        Submission(
            "centered with care",
            fit_by(
                'trial, parameterization="centered"',
                (SAMPLED, "pm.sample(5000, tune=3000, chains=4, target_accept=0.9995"),
            ),
        ),
        Submission(
            "sites in another order",
            replaced(model("trial_model(trial.iloc[::-1].set_axis(trial.index))")),
            (*posterior, *TRUTH),
            (*first, *form, *FIT, "site average"),
        ),
        Submission(
            "another prior on the correlation",
            priors("lkj_eta=1.0"),
            (*posterior, TRUTH[1]),
            (*first, *form, *FIT),
        ),
        Submission(
            "the centered form",
            replaced(
                (
                    r"(model = .*)\n",
                    r'\1\nfitted, model = model, trial_model(trial, parameterization="centered")\n',
                ),
                (r"with model", "with fitted"),
            ),
            form,
        ),
        # Seen with this place's student: the sites of some are too much alike.
        Submission(
            "sites counted once in the risk difference",
            replaced((r"\(size / size.sum\(\)\).to_numpy\(\)\)", "1 / len(size))")),
            ("risk difference$",),
            (*first, *posterior, *form, *FIT, *TRUTH, "site"),
        ),
        Submission(
            "too few draws",
            replaced(FEW),
            ("fit enough draws", "fit all means"),
            (*first, *posterior, *form),
        ),
        Submission(
            "numbers typed",
            after_question("q4", "site_average, risk_difference, risk_difference_sd = 2.0, 0.3, 0.1"),
            ("site average", "risk difference"),
        ),
        Submission(
            "the two sds under each other's names",
            after_question(
                "q3", changed("fit", sd_intercept='p["sd_effect"]', sd_effect='p["sd_intercept"]')
            ),
            TRUTH[:1],  # their sds may be alike
            (*first, *posterior, *form, *FIT, "site", "risk"),
        ),
        Submission(
            "variances for standard deviations",
            after_question(
                "q3",
                changed("fit", sd_intercept='p["sd_intercept"] ** 2', sd_effect='p["sd_effect"] ** 2'),
            ),
            TRUTH,
        ),
        Submission(
            "the treated arm's log odds for the effect",
            after_question("q3", changed("fit", site_effect='p["site_intercept"] + p["site_effect"]')),
            (*TRUTH, "site average", "risk difference$"),
            (*first, *posterior, *form, *FIT),
        ),
        Submission(
            "another student's answer", with_cell(typed, SETUP), ("crude", *posterior, *TRUTH), form
        ),
        Submission(
            "sites counted once in the crude difference",
            replaced((r"np.average\(difference, weights=size\)", "difference.mean()")),
            ("crude",),
        ),
        Submission(
            "control minus treated",
            after_question(
                "q4", "crude, site_average, risk_difference = -crude, -site_average, -risk_difference"
            ),
            ("crude", "site average", "risk difference$"),
        ),
        Submission(
            "the power with one arm's noise",
            replaced((r" \+ p_c \* \(1 - p_c\) / n_c\)", ")")),
            ("power",),
        ),
        Submission(
            "the power of one arm against a known share",
            replaced((r"p_c = rng.*", "p_c = 0.25"), (r" \+ p_c \* \(1 - p_c\) / n_c\)", ")")),
            ("power",),
        ),
        Submission(
            "the power of the largest site",
            replaced(
                (
                    r'\["n_control"\].sum\(\), trial\["n_treated"\].sum\(\)',
                    '["n_control"].max(), trial["n_treated"].max()',
                )
            ),
            ("power",),
        ),
        Submission(
            "the odds ratio for its logarithm",
            replaced((r'float\(draws\["site_effect"\].mean', 'float(np.exp(draws["site_effect"]).mean')),
            ("site average",),
        ),
        Submission(
            "the risk difference at the mean log odds",
            replaced(
                (
                    r"\(size / size.sum\(\)\).to_numpy\(\)\).sum\(-1\)",
                    "1).sum(-1) * 0\n"
                    "a, b = (draws[f'site_{name}'].mean('site').values\n"
                    "    for name in ('intercept', 'effect'))\n"
                    "gain = 1 / (1 + np.exp(-a - b)) - 1 / (1 + np.exp(-a))",
                )
            ),
            ("risk difference$",),
            (*first, *posterior, *form, *FIT, *TRUTH, "site"),
        ),
        Submission(
            "warnings silenced",
            chain(with_cell(SILENCE, SETUP), fit_by('trial, parameterization="centered"', HASTE)),
            ("fit no divergences",),
            (*first, *form, *posterior),
        ),
        Submission(
            "the variance of the risk difference",
            replaced((r"gain.std", "gain.var")),
            ("risk difference sd",),
        ),
        Submission(
            "the Monte Carlo error of the risk difference",
            replaced((r"gain.std\(\)", "gain.std() / np.sqrt(gain.size)")),
            ("risk difference sd",),
        ),
        Submission(
            "the model by hand without labels",
            own(BY_HAND, VECTORS, more=((r'(observed=trial\[arm\]), dims="site"', r"\1"),)),
        ),
        Submission(
            "the model by hand, its offsets the other way round",
            own(
                BY_HAND,
                VECTORS,
                more=((r'a, b = (pm.Normal\("a", dims="site"\)), (.*)', r"b, a = \2, \1"),),
            ),
            (*posterior, *form),
        ),
        Submission(
            "the model by hand, its Beta named r",
            own(BY_HAND.replace("corr_half", "r"), VECTORS),
            (*posterior, *form),
        ),
    ]


# ---------------------------------------------------------------------------------------------
# 05_singular

BY_SCHOOL = """code, labels = pd.factorize(table["school"])
x, y, w = (table[name].to_numpy(float) for name in ("ses", "math", "catholic"))
n, sx, sy, sxx, sxy, syy = (np.bincount(code, one) for one in (x**0, x, y, x * x, x * y, y * y))
catholic = np.bincount(code, w) / n
with pm.Model(coords={"term": ["Intercept", "ses", "catholic", "ses:catholic"], "school": labels}):
    beta = pm.Normal("beta", 0, 20, dims="term")
    s0, s1 = pm.HalfNormal("sd_intercept", 5), pm.HalfNormal("sd_slope", 5)
    sigma = pm.HalfNormal("sigma", 10)
    a0, b0 = beta[0] + beta[2] * catholic, beta[1] + beta[3] * catholic
    %s
    loss = syy - 2 * a * sy - 2 * b * sxy + a**2 * n + 2 * a * b * sx + b**2 * sxx
    pm.Potential("math", -n.sum() * pm.math.log(sigma) - loss.sum() / (2 * sigma**2))
    fit = pm.sample(2000, chains=4, target_accept=0.99, random_seed=1, progressbar=False)
"""
BY_STUDENT = """code, labels = pd.factorize(table["school"])
x, w = table["ses"].to_numpy(), table["catholic"].to_numpy()
with pm.Model(coords={"term": ["Intercept", "ses", "catholic", "ses:catholic"], "school": labels}):
    beta = pm.Normal("beta", 0, 20, dims="term")
    sd_intercept = pm.HalfNormal("sd_intercept", 5)
    sd_slope = pm.HalfNormal("sd_slope", 5)
    sigma = pm.HalfNormal("sigma", 10)
    u, v = sd_intercept * pm.Normal("zu", dims="school"), sd_slope * pm.Normal("zv", dims="school")
    line = beta[0] + beta[2] * w + u[code] + (beta[1] + beta[3] * w + v[code]) * x
    pm.Normal("math", line, sigma, observed=table["math"].to_numpy())
    fit = pm.sample(1000, chains=4, target_accept=0.9, random_seed=1, progressbar=False)
"""
OFFSETS = 'a, b = a0 + s0 * pm.Normal("zu", dims="school"), b0 + s1 * pm.Normal("zv", dims="school")'
EFFECTS = 'a, b = pm.Normal("a", a0, s0, dims="school"), pm.Normal("b", b0, s1, dims="school")'
PARTLY = 'a, b = pm.Normal("a", a0, s0, dims="school"), b0 + s1 * pm.Normal("zv", dims="school")'
CORRELATED = (
    'z = pm.Normal("z", shape=(2, len(n)))\n'
    '    r = pm.Deterministic("correlation", 2 * pm.Beta("half", 2, 2) - 1)\n'
    "    a, b = a0 + s0 * z[0], b0 + s1 * (r * z[0] + pm.math.sqrt(1 - r**2) * z[1])"
)
LIKELIHOOD = """p, size = sums.products, sums.rows.sum()
vary = list(sums.varying)
s, c = p[:, vary][:, :, vary], p[:, vary]


def maximum_likelihood(theta):
    factor = np.array([[theta[0], 0], [theta[1], theta[2]]])
    inner = np.eye(2) + s @ factor @ factor.T
    a = (p - c.transpose(0, 2, 1) @ (factor @ factor.T) @ np.linalg.solve(inner, c)).sum(0)
    squares = a[-1, -1] - a[-1, :-1] @ np.linalg.solve(a[:-1, :-1], a[:-1, -1])
    variance = squares / size
    found = np.log(np.linalg.det(inner)).sum() + size * (1 + np.log(2 * np.pi * variance))
    return found, factor @ factor.T * variance


best = scipy.optimize.minimize(
    lambda theta: maximum_likelihood(theta)[0], [0.3, 0.05, 0.05], method="Nelder-Mead"
)
deviance, covariance = maximum_likelihood(best.x)
sd_intercept, sd_slope = np.sqrt(np.diag(covariance))
correlation = covariance[0, 1] / sd_intercept / sd_slope
"""


MIXEDLM = """import statsmodels.formula.api as smf

mixed = smf.mixedlm("math ~ ses * catholic", table, groups="school", re_formula="~ses").fit(reml=True)
covariance = mixed.cov_re.to_numpy()
sd_intercept, sd_slope = np.sqrt(np.diag(covariance))
correlation, deviance = covariance[0, 1] / sd_intercept / sd_slope, -2 * mixed.llf
"""


def _singular() -> list[Submission]:
    first = ("standard deviations", "correlation", "deviance")
    losses, interaction = ("lost",), ("interaction",)
    before = (*first, *losses, *interaction)
    of_schools = (first[0], first[2], *losses, *interaction)  # the correlation is one in all of them

    def by_pymc(code: str, *others: tuple[str, str]) -> Callable:
        return replaced((r"(?s)import bambi as bmb.*?(?=# END SOLUTION)", code), *others)

    return [
        *generic("q1", first),
        Submission("PyMC non-centered", by_pymc(BY_SCHOOL % OFFSETS)),
        Submission("PyMC, the intercepts centered", by_pymc(BY_SCHOOL % PARTLY)),
        Submission("PyMC by student, Python's names those of the variables", by_pymc(BY_STUDENT)),
        Submission(
            "terms in another order with their labels",
            chain(
                by_pymc(BY_SCHOOL % OFFSETS),
                after_question(
                    "q4", f"fit = {remade('fit.posterior.to_dataset().isel(term=[2, 0, 3, 1])')}"
                ),
            ),
        ),
        Submission("mixedlm of statsmodels", after_question("q1", MIXEDLM)),
        Submission(
            "numbers typed as they are printed",
            after_question(
                "q3",
                "sd_intercept, sd_slope = float(f'{sd_intercept:.4g}'), float(f'{sd_slope:.4g}')\n"
                "deviance, correlation = round(deviance, 2), round(correlation, 2)\n"
                "lost_correlation, lost_slopes = round(lost_correlation, 2), round(lost_slopes, 2)\n"
                "interaction, interaction_se = round(interaction, 3), round(interaction_se, 3)",
            ),
        ),
        Submission("a lightly edited copy", recoloured),
        Submission(
            "maximum likelihood",
            after_question("q3", LIKELIHOOD),
            ("deviance",),
            (*losses, *interaction, *FIT, *TRUTH),
        ),
        Submission(
            "variances for sds",
            after_question("q1", "sd_intercept, sd_slope = sd_intercept**2, sd_slope**2"),
            ("standard deviations",),
        ),
        Submission(
            "the sds exchanged",
            after_question("q1", "sd_intercept, sd_slope = sd_slope, sd_intercept"),
            ("standard deviations",),
        ),
        Submission(
            "sds in units of the residual",
            after_question("q1", "sd_intercept /= full.sd_residual\nsd_slope /= full.sd_residual"),
            ("standard deviations",),
        ),
        Submission(
            "the correlation without its sign",
            after_question("q1", "correlation = -correlation"),
            ("correlation",),
        ),
        Submission(
            "the log likelihood for the deviance",
            replaced(
                (r"deviance = full.reml", "deviance = -full.reml / 2"),
                (r"\.reml - full.reml", ".reml / 2 - full.reml / 2"),
            ),
            ("deviance", *losses),
        ),
        Submission(
            "full minus reduced",
            replaced((r"= (fit_reml\(.*?\).reml) - full.reml", r"= full.reml - \1")),
            losses,
        ),
        Submission(
            "differences of AIC",
            after_question(
                "q2", "lost_correlation, lost_slopes = lost_correlation - 2, lost_slopes - 4"
            ),
            losses,
        ),
        Submission(
            "the coefficient of ses",
            replaced((r'"ses:catholic", \["estimate', '"ses", ["estimate')),
            interaction,
        ),
        Submission(
            "variances for standard errors",
            after_question("q3", "interaction_se **= 2\ninteraction_se_independent **= 2"),
            interaction,
        ),
        Submission(
            "catholic as minus one and one",
            with_cell("table['catholic'] = 2 * table['catholic'] - 1", SETUP),
            ("deviance", *interaction, "fit all means"),
            ("standard deviations", "correlation", "lost", *FIT),
        ),
        Submission(
            "ses in standard deviations",
            with_cell("table['ses'] = table['ses'] / table['ses'].std()", SETUP),
            ("standard deviations", "deviance", *interaction, *TRUTH),
            (*losses, *FIT),
        ),
        Submission(
            "schools of the whole country",
            with_cell(
                "from fieldguide import load_schools\nschools = load_schools()\n"
                "table = with_catholic(schools)",
                SETUP,
            ),
            (*of_schools, *TRUTH),
            FIT,
        ),
        Submission(
            "another student's answer",
            with_cell(
                "from fieldguide import load_schools\nschools = load_schools()\n"
                "schools = schools[schools['school'].isin(schools['school'].unique()[:60])]\n"
                "table = with_catholic(schools)",
                SETUP,
            ),
            (*of_schools, *TRUTH),
            FIT,
        ),
        Submission(
            "numbers typed",
            after_question(
                "q3",
                "sd_intercept, sd_slope, correlation, deviance = 1.543, 0.318, 0.391, 46504\n"
                "lost_correlation, lost_slopes = 1.5, 9.0\ninteraction, interaction_se = -1.64, 0.24\n"
                "interaction_independent, interaction_se_independent = -1.64, 0.23",
            ),
            before,
        ),
        Submission(
            "without varying slopes",
            replaced(
                (r"bmb.Model\(FORMULA", 'bmb.Model("math ~ ses * catholic + (1 | school)"'),
                (r', "ses\|school": spread', ""),
            ),
            ("fit",),
        ),
        # Seen with this place's student: the schools of most hardly tell the two models apart.
        Submission("with a correlation", by_pymc(BY_SCHOOL % CORRELATED), (*FIT, *TRUTH), before),
        Submission(
            "without varying slopes in PyMC",
            by_pymc(BY_SCHOOL % OFFSETS.replace("b0 + s1 *", "b0 + 0 *")),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "another prior on the sds",
            replaced((r'"HalfNormal", sigma=5', '"HalfNormal", sigma=0.3')),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "another prior on the fixed effects",
            replaced((r"mu=0, sigma=20", "mu=0, sigma=1")),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "the sd of intercepts forgotten",
            by_pymc(BY_SCHOOL % OFFSETS.replace("s0 * ", "")),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "terms in another order",
            by_pymc(
                BY_SCHOOL % OFFSETS,
                (r"beta\[1\] \+ beta\[3\]", "beta[2] + beta[3]"),
                (r"beta\[0\] \+ beta\[2\]", "beta[0] + beta[1]"),
            ),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "variances in the fit",
            chain(
                by_pymc(BY_SCHOOL % OFFSETS),
                after_question(
                    "q4",
                    changed("fit", sd_intercept='p["sd_intercept"] ** 2', sd_slope='p["sd_slope"] ** 2'),
                ),
            ),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "sds exchanged in the fit",
            chain(
                by_pymc(BY_SCHOOL % OFFSETS),
                after_question(
                    "q4", changed("fit", sd_intercept='p["sd_slope"]', sd_slope='p["sd_intercept"]')
                ),
            ),
            TRUTH,
            (*before, *FIT),
        ),
        Submission(
            "warnings silenced",
            chain(with_cell(SILENCE, SETUP), by_pymc(BY_SCHOOL % EFFECTS, HASTE)),
            ("fit no divergences",),
            before,
        ),
        Submission(
            "too few draws",
            replaced((r"fit\(2000,", "fit(25,")),
            ("fit enough draws", "fit all means"),
            before,
        ),
    ]


# ---------------------------------------------------------------------------------------------
# 06_project

OWN_DATA = """import bambi as bmb
from fieldguide import load_three_districts

data = load_three_districts().reset_index()
data["district"] = data["district"].astype(str)
model = bmb.Model("p(users, women) ~ 1 + (1 | district)", data, family="binomial")
fit, second_fit = (
    model.fit(4000, chains=4, target_accept=0.99, random_seed=seed, progressbar=False) for seed in (1, 2)
)
"""


def _project() -> list[Submission]:
    same, two = "quantity is the same", "fits are two"

    def second(code: str) -> Callable:
        return replaced((r"fit, second_fit = .*", f"fit = fitted(False, 1)\nsecond_fit = {code}"))

    def after(code: str) -> Callable:
        return after_question("q3", code)

    p = "fit.posterior.to_dataset()"
    return [
        *generic("q3", ()),
        Submission("second fit centered with care", second("fitted(True, 2)")),
        Submission(
            "another model and data, by Bambi",
            replaced(
                (r"fit, second_fit = .*", OWN_DATA), (r'posterior\["mu"\]', 'posterior["Intercept"]')
            ),
        ),
        Submission(
            "numbers as arrays", after("quantity, error = np.array(quantity), az.mcse(draws[0])['x']")
        ),
        Submission("a lightly edited copy", recoloured),
        Submission("the second fit is the first", second("fit"), (two,)),
        Submission("the same seed twice", second("fitted(False, 1)"), (two,)),
        Submission(
            "the second fit is the first in another order of chains",
            second(remade(f"{p}.isel(chain=[1, 0, 3, 2])")),
            (two,),
        ),
        Submission(
            "the second fit is the first in other names",
            second(remade(f"{p}.rename(mu='m', tau='t', theta='h', z='o')")),
            (two, same),
        ),
        Submission(
            "the second fit is a part of the first",
            second(
                "fit.__class__.from_dict({name: fit[name].to_dataset().isel(draw=slice(2000)) "
                'for name in ("posterior", "sample_stats")})'
            ),
            (two,),
        ),
        Submission(
            "the second fit is the first with a hair of noise", second(remade(f"{p} + 1e-9")), (two,)
        ),
        Submission("a quantity typed", after("quantity = 5.5"), (same,)),
        Submission(
            "an error of a smaller kind",
            after("error, second_error = error / 100, second_error / 100"),
            (same,),
        ),
        Submission(
            "sds for Monte Carlo errors",
            after("error, second_error = (float(one['x'].std()) for one in draws)"),
            (same,),
        ),
        Submission("no number", after("quantity = float('nan')"), (same,)),
        Submission("words for a number", after("quantity = 'about four'"), (same,)),
        Submission(
            "the second posterior is another",
            replaced(
                (
                    r"with pm.Model\(\):\n        mu, tau = pm.Normal\(\"mu\", 0, 10\)",
                    'with pm.Model():\n        mu, tau = pm.Normal("mu", 0, 10 if seed == 1 else 2)',
                )
            ),
            (same,),
        ),
        Submission(
            "fit with divergences",
            replaced(
                (r"fitted\(False, 1\)", "fitted(True, 1)"),
                (
                    r"sample\(4000, chains=4, target_accept=0.99",
                    "sample(4000, chains=4, target_accept=0.99 if seed == 2 else 0.7",
                ),
            ),
            ("fit no divergences",),
            ("fit can be read", two),
        ),
        Submission(
            "divergences silenced",
            chain(
                with_cell(SILENCE, SETUP),
                replaced(
                    (r"fitted\(False, 1\)", "fitted(True, 1)"),
                    (r"target_accept=0.99", "target_accept=0.7"),
                ),
            ),
            ("fit no divergences",),
            ("fit can be read", two),
        ),
        Submission(
            "too few draws",
            replaced((r"sample\(4000", "sample(50")),
            ("fit enough draws",),
            ("fit can be read", two),
        ),
        Submission("one chain", after("fit = fit.sel(chain=[0])"), ("fit ",), (two, same)),
        Submission(
            "chains that disagree",
            after(changed("fit", mu='p["mu"] + 3 * (p["chain"] == 2)')),
            ("fit chains agree", "fit enough draws"),
            ("fit can be read", "fit no divergences", two, same),
        ),
        Submission(
            "draws without the sampler's words",
            after("fit = fit.__class__.from_dict({'posterior': fit.posterior.to_dataset()})"),
            ("fit ",),
            (same,),
        ),
        Submission("a summary for a fit", after("fit = az.summary(fit)"), ("fit ", two, same), ()),
        Submission(
            "a number repeated for draws",
            after(changed("fit", mu='p["mu"] * 0 + 4.4')),
            ("fit ",),
            (same,),
        ),
        Submission(
            "draws that are no numbers",
            after(changed("fit", mu='p["mu"].where(p["mu"] < 10)')),
            ("fit ",),
            (same,),
        ),
        Submission(
            "another student's answer",
            after("quantity, error, second_quantity, second_error = 7.9, 0.05, 8.6, 0.05"),
            (same,),
        ),
    ]


SUBMISSIONS: dict[str, Callable[[], list[Submission]]] = {
    "01_reading": _reading,
    "02_cure": _cure,
    "03_prior": _prior,
    "04_trial": _trial,
    "05_singular": _singular,
    "06_project": _project,
}


def check(submission: Submission, row: dict) -> list[str]:
    """Return what is not as it must be in a graded row."""
    criteria = json.loads(row["criteria"])
    words = f"{row['fault']} {row['errors']}"
    wrong = []
    if submission.fault and not re.search(submission.fault, words):
        wrong.append(f"nothing of {submission.fault!r} in {words!r}")
    for one in criteria:
        name = one["what"]
        lost = EVERYTHING in submission.lost or _among(submission.lost, name)
        kept = not lost and (submission.kept == EVERYTHING or _among(submission.kept, name))
        if lost and one["points"]:
            wrong.append(f"{name} got {one['points']:g}")
        if kept and one["points"] < one["possible"]:
            wrong.append(f"{name} lost: {one['words']}")
    return wrong


def _among(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)


def main(arguments: list[str] | None = None) -> int:
    """Grade what is known for an assignment; return how many were not as they must be."""
    from fieldguide.course.classroom import Classroom, assignment, hand_out
    from fieldguide.course.grade import grade_class
    from fieldguide.course.sandbox import Limits

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("assignment")
    parser.add_argument("--only", nargs="+", default=[], help="those with this in their name")
    parser.add_argument("--cell-seconds", type=float, default=60, help="one cell may take")
    options = parser.parse_args(arguments)
    chosen = assignment(options.assignment).make()
    every = {f"s{k:03d}": one for k, one in enumerate(SUBMISSIONS[chosen.name]())}
    if options.only:
        every = {who: one for who, one in every.items() if any(w in one.name for w in options.only)}
    folder = Path(__file__).parents[1] / "_build" / "known" / chosen.name
    if not folder.exists():
        Classroom.new(folder, "known")
    (folder / "roster.csv").write_text("student\n" + "".join(f"{who}\n" for who in every))
    room, key = Classroom.read(folder), "known submissions, key 133"
    if "fit.zarr" in chosen.notebook.read_text(encoding="utf-8"):
        hand_out(room, [chosen], key=key)
    handed_in = folder / "submissions" / chosen.name
    handed_in.mkdir(parents=True, exist_ok=True)
    solved = nbformat.read(chosen.solved, as_version=4)
    for who, one in every.items():
        out = one.edit(solved)
        text = out if isinstance(out, bytes) else nbformat.writes(out).encode()
        (handed_in / f"{who}.ipynb").write_bytes(text)
    limits = Limits(seconds=3 * options.cell_seconds, cell_seconds=options.cell_seconds)
    table, problems = grade_class(room, chosen, key=key, limits=limits)
    rows, bad = table.set_index("student"), 0
    for who, one in every.items():
        row = rows.loc[who].to_dict()
        wrong = check(one, row)
        bad += bool(wrong)
        print(f"{row['points']:5g} of {row['possible']:g} {one.name}", *wrong, sep="\n      ")
    print(f"{len(every) - bad} of {len(every)} as they must be", *problems, sep="\n")
    return bad


if __name__ == "__main__":
    sys.exit(main())
