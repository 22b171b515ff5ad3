"""Where the text has numbers, and what computes them: for `test_words.py`.

Each entry is a piece of a text whose fields are expressions; written out, it must stand in the text as
it is here. ``{117}`` with a number instead of an expression is for what nothing can be computed from,
such as a year. In the code of chapters, … stands where a value is put in.
"""
# ruff: noqa: F401 (entries use the imported names)

import ast
import importlib.metadata
import re

import numpy as np
import scipy.stats
from chapters import calls, cells, constants, run, source, statements
from conftest import ROOT

from fieldguide.data import (
    QUESTION_SITES,
    load_bangladesh,
    load_schools,
    load_three_districts,
    quoted,
    stored,
)
from fieldguide.figures import CONTOUR_SHARES
from fieldguide.fits import sample, sample_seeds
from fieldguide.models.schools import LKJ_ETA, PRIORS
from fieldguide.priors import TrialPriors, prior_name
from fieldguide.published import NAMES, published
from fieldguide.scores import SMALL_SIGMA, THRESHOLDS, is_wrong
from fieldguide.studies import districts, studies, trial
from fieldguide.studies.schools import SHARES

WORDS = dict(
    enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split()
    )
) | {
    60: "sixty",
    80: "eighty",
    200: "two hundred",
    1000: "thousand",
    2000: "two thousand",
    4000: "four thousand",
}

ch1, ch2, ch3, ch4, ch5, ch6, ch7, ch8, ch10, ch12 = (
    "01_data",
    "02_fixed_effects",
    "03_centered",
    "04_target_accept",
    "05_tighter_priors",
    "06_non_centered",
    "07_the_exact_answer",
    "08_one_knob_at_a_time",
    "10_multisite_trial",
    "12_singular_fit",
)


def word(number: float) -> str:
    """A number as a word; an error where none is known."""
    return WORDS[int(number)]


def half(number: float) -> str:
    assert number == 0.5
    return "one half"


def Word(number: float) -> str:
    return word(number).capitalize()


def percent(share: float) -> str:
    return f"{share:.0%}"


def percent_1(share: float) -> str:
    return f"{share:.1%}"


def women(district: int, column: str = "women") -> int:
    return int(load_three_districts().loc[district, column])


def raw(district: int) -> str:
    return percent(women(district, "users") / women(district))


survey, students = load_bangladesh(), load_schools()
labels = survey["district"]
missing_label = (set(range(1, labels.max() + 1)) - set(labels)).pop()


def sampling(stem: str) -> dict:
    return run(stem, "sampling")["sampling"]


def kept(stem: str) -> int:
    """Draws of the chapter's fits, all chains together."""
    return sampling(stem)["draws"] * sampling(stem)["chains"]


def seeds(stem: str, model: str) -> int:
    """With how many seeds the chapter samples a model."""
    counts = {
        len(eval(ast.unparse(c.args[1])))
        for c in calls(stem, "sample_seeds")
        if ast.unparse(c.args[0]) == model and "range" in ast.unparse(c.args[1])
    }
    (count,) = counts
    return count


def prior(name: str) -> str:
    """Prior on sigma of a published model."""
    (found,) = (prior for (_, prior, _), n in NAMES.items() if n == name)
    return found


def target(name: str) -> float:
    """target_accept of a published model, by the names of fits and by what was published."""
    (found,) = (t for (_, _, t), n in NAMES.items() if n == name)
    assert found == published()["models"][name]["target_accept"]
    return found


def arguments(stem: str, function: str, which: int = 0) -> list:
    """Numbers in a call of a function in a chapter, by default the first."""
    return constants(calls(stem, function)[which])


def assigned(stem: str, name: str) -> list:
    """Numbers in the statement that gives a name its value in a chapter."""
    for statement in statements(stem):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return constants(statement)
    raise KeyError(name)


def swept() -> list[float]:
    """The targets of chapter 4's sweep."""
    (loop,) = (s for s in statements(ch4) if isinstance(s, ast.For) and "sample_seeds" in ast.unparse(s))
    return list(ast.literal_eval(loop.iter))


def claimed(stem: str, words: str) -> list:
    """Numbers in the condition of the claim that begins with these words."""
    (call,) = (
        c
        for c in [*calls(stem, "claims.check"), *calls(stem, "reply.check")]
        if ast.literal_eval(c.args[0]).startswith(words)
    )
    return constants(call.args[1])


def query(stem: str, words: str) -> float:
    """The number that a table is queried for: ``target_accept == 0.8``, or ``divergences > 10``."""
    code = "\n".join(source(cell) for cell in cells(stem) if cell["cell_type"] == "code")
    assert words in code
    return float(words.split()[-1].strip("\"'"))


def version(package: str, parts: int = 2) -> str:
    return ".".join(importlib.metadata.version(package).split(".")[:parts])


def tolerated(name: str) -> float:
    return is_wrong.__kwdefaults__[name]


def interval(stem: str) -> str:
    """Width of the chapter's intervals, from the quantiles that it takes."""
    found = set()
    for statement in statements(stem):
        for node in ast.walk(statement):
            if isinstance(node, ast.List) and len(numbers := constants(node)) in (2, 3):
                low, high = numbers[0], numbers[-1]
                if 0 < low < 0.25 and np.isclose(low + high, 1) and low > 0.01:
                    found.add(round(high - low, 4))
    (share,) = found
    return percent(share)


def summary_interval() -> str:
    import arviz as az

    return percent(az.rcParams["stats.ci_prob"])


def shares_held() -> list[int]:
    return [round(100 * share) for share in sorted(CONTOUR_SHARES)]


def free(stem: str, model: str) -> int:
    """How many numbers a chapter's model has to find."""
    built = run(stem, model)[model]
    return sum(int(np.prod(np.shape(v), dtype=int)) for v in built.initial_point().values())


def form(name: str) -> str:
    """Parameterization of a published model."""
    (found,) = (form for (form, _, _), n in NAMES.items() if n == name)
    return found


def name_of(variable: str, stem: str) -> str:
    """The prior on sigma under which a chapter computes an exact answer."""
    for statement in statements(stem):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == variable:
            for keyword in getattr(statement.value, "keywords", []):
                if keyword.arg == "sigma_prior":
                    return prior_name(eval(ast.unparse(keyword.value), {"stats": scipy.stats}))
    raise KeyError(variable)


def inner(prior: str) -> str:
    return prior[prior.index("(") :]


def cut_normal() -> str:
    """The trial's prior on an sd as brms writes it, a normal one that is cut at zero."""
    return f"normal(0, {inner(prior_name(TrialPriors().sd))[1:]}"


def minus(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


def two(number: float) -> str:
    return f"{number:.2f}"


def first_districts() -> list[int]:
    """From how many districts chapter 3 learns their spread."""
    (loop,) = (s for s in statements(ch3) if isinstance(s, ast.For) and ast.unparse(s.target) == "many")
    return list(ast.literal_eval(loop.iter))


def one_target() -> float:
    """The one target at which chapter 6 samples both forms."""
    (first, *_) = (c for c in calls(ch6, "fg.sample") if any(k.arg == "nuts" for k in c.keywords))
    return next(k.value.value for k in first.keywords if k.arg == "target_accept")


def study_seeds() -> int:
    """With how many seeds each cell of the stored factorial was fitted."""
    return int(stored("factorial").table["seed"].nunique())


def energy_limit() -> int:
    """The error of the energy at which chapter 3 calls a path divergent."""
    (follow,) = (s for s in statements(ch3) if isinstance(s, ast.FunctionDef) and s.name == "follow")
    (limit,) = {c for n in ast.walk(follow) if isinstance(n, ast.Compare) for c in constants(n)} - {1}
    return limit


def year(key: str) -> str:
    """Year of an entry of the bibliography."""
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    return re.search(rf"\{{{key},.*?year=\{{(\d+)\}}", text)[1]


def lowest_python() -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'requires-python = ">=([\d.]+)"', text)[1]


def locked_python() -> str:
    return re.search(r"- python=([\d.]+)", (ROOT / "environment.yml").read_text(encoding="utf-8"))[1]


def bells() -> list:
    """Mean and spreads of the bells that chapter 7 draws."""
    loop = next(s for s in statements(ch7) if isinstance(s, ast.For))
    (bell,) = (c for c in ast.walk(loop) if isinstance(c, ast.Call) and "alpha, -" in ast.unparse(c))
    return [ast.literal_eval(bell.args[1]), *ast.literal_eval(loop.iter.args[1])]


def compared() -> list[int]:
    """The two sizes of the grid whose errors chapter 7's claim compares."""
    sizes = assigned(ch7, "sizes")
    return [sizes[k] for k in claimed(ch7, "From 28 to 56")[:2]]


def study_kept() -> int:
    (draws,) = stored("factorial").table["draws"].unique()
    return int(draws)


def changed() -> list[int]:
    """Women of district 1 in chapter 8's two changes of it."""
    tables = run(ch8, "districts")["districts"]
    return [int(tables[name][1][0]) for name in tables if name.startswith("district 1")]


def loose_limit() -> float:
    return assigned(ch8, "(strict_catch, loose_catch)")[-1]


def solid() -> float:
    """The target whose lines chapter 10 draws solid."""
    nodes = [n for s in statements(ch10) for n in ast.walk(s) if isinstance(n, ast.IfExp)]
    (choice,) = (n for n in nodes if ast.unparse(n.body) == "'-'" and ast.unparse(n.orelse) == "'--'")
    return constants(choice.test)[0]


def dashed() -> float:
    (other,) = set(divergence.query("multiply > 1")["target_accept"]) - {solid()}
    return other


def shown_size() -> int:
    return claimed(ch10, "At 16 times")[1]


def few_limit() -> int:
    """From how many divergences on chapter 10 calls them many."""
    return max(assigned(ch10, "scored['any']"))


def neck_of_the_trial() -> str:
    (column,) = (c for c in stored("trial_divergences").table if c.startswith("below_"))
    return column.removeprefix("below_").partition(":")[0]


def coverage_target() -> float:
    return trial.coverage_design()["target_accept"].unique().item()


def power_cells() -> list[int]:
    return claimed(ch10, "Two thousand")


def between() -> list[int]:
    return arguments(ch10, "nc_errors['divergences'].between")


def factors() -> list[int]:
    """Sites and participants of the two trials whose intervals are compared."""
    five, small, _, _, large = claimed(ch10, "The data are too few")
    return [five, small, five, large]


def refitted() -> float:
    return claimed(ch10, "Refitted here")[1]


def harm_target() -> float:
    return claimed(ch10, "At 0.8 the centered")[0]


def penalty(name: str) -> float:
    """The number in a penalty of chapter 11, by the penalty's name."""
    nodes = [n for s in statements(ch12) for n in ast.walk(s) if isinstance(n, ast.Dict)]
    for node in nodes:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == name:
                return constants(value)[0]
    raise KeyError(name)


def subscripts(stem: str, table: str) -> list[float]:
    """The numbers at which a chapter looks up a table."""
    nodes = [n for s in statements(stem) for n in ast.walk(s) if isinstance(n, ast.Subscript)]
    return sorted({c for n in nodes if ast.unparse(n.value) == table for c in constants(n.slice)})


def valley() -> list[float]:
    return subscripts(ch12, "deviance_at_r")


def df_near() -> float:
    return subscripts(ch12, "by_df")[0]


def cut_share() -> float:
    return assigned(ch12, "cut")[0]


def schools_shares() -> tuple[float, ...]:
    return SHARES


def lkj_prior() -> str:
    (eta,) = (
        k.value.value
        for c in calls(ch12, "schools_posterior")
        for k in c.keywords
        if k.arg == "lkj_eta" and isinstance(k.value, ast.Constant) and k.value.value
    )
    assert eta == LKJ_ETA
    return f"LKJ({eta})"


def fifth(step: float) -> str:
    return {0.2: "fifth", 0.1: "tenth"}[step]


def setting(name: str) -> int:
    """Of the studies' fits, per chain."""
    assert study_kept() == 4 * remedy_start["draws"]
    return int(remedy_start[name])


R = quoted("r_schools")["fits"]["versions"]
sites = QUESTION_SITES
coverage_trials = int(trial.coverage_design()["replicate"].nunique())
divergence = trial.divergence_design()
sbc = trial.sbc_design()
remedy_seeds = districts.remedies_design()["seed"].nunique()
remedy_start = districts.remedies_design().iloc[0]
factorial = districts.factorial_design()
factorial_seeds = factorial["seed"].nunique()
misses, replications, nominal = arguments(ch10, "stats.binomtest")
never = (sites["baseline"] + sites["effect"]).min()
all_fits = {name: len(stored(name).table) for name in studies()}
steps = arguments(ch7, "by_hand")


n = "{n}"
T = THRESHOLDS
smallest = int(load_three_districts()["women"].idxmin())
low_share = assigned(ch3, "low_sigma")[0]
tail = 0.05
half_step = min(assigned(ch12, "k"))
priors_of_design = list(districts.PRIORS)
default_target = sample_seeds.__kwdefaults__["target_accept"]
default_kept = 4 * sample.__kwdefaults__["tune"]
spread = [f"{arguments(ch8, 'cell.quantile', k)[0]:.0%}" for k in (0, 1)]
spread[0] = spread[0].rstrip("%")

SURVEY = "{1988}"
THREE = "{women(1)}, {women(2)} and {women(3)}"
LIMITS = "R-hat above {T['rhat']}; an ESS below {T['ess']}; E-BFMI below {T['bfmi']}"

TEXT: dict[str, list[str]] = {
    ch1: [
        "each of {labels.nunique()} districts gets a rate",
        f"In {SURVEY} the Bangladesh Fertility Survey",
        "(Why {interval(ch1)}? The width of an interval",
        "With all {labels.nunique()} districts",
        "The bar under it is an {interval(ch1)} interval",
        "this one is among the {word(labels.nunique())} as well",
        "the {interval(ch1)} interval for its rate",
        "All women of district {smallest} use contraception",
    ],
    ch2: [
        "(pages {407} and {408};",
        "The intervals hold {summary_interval()}, with",
        "and {T['rhat']} is a common limit",
        "outvoted by {women(1)} women",
        "An ESS below {T['ess']}:",
        "as close as {kept(ch2)} draws allow",
        "R-hat was {two(1)} for all parameters",
    ],
    ch3: [
        "of {kept(ch3)} transitions",
        "{Word(kept(ch3))} draws, two models",
        "compiled once, with {word(seeds(ch3, 'centered_model'))} seeds",
        "District {smallest} has {word(women(smallest))} women",
        "Three districts, {word(free(ch3, 'centered_model'))} parameters",
        "itself so that a share of {default_target} is accepted on",
        "error passes a threshold ({energy_limit()} nats, in Stan, PyMC",
    ],
    ch4: [
        "`mme1` ({target('mme1')}) and `mme2` ({target('mme2')})",
        "{Word(10)} times fewer divergences at {target('mme2')} than at {target('mme0')}?",
        "give every target {word(seeds(ch4, 'centered_model'))} seeds",
        "there: the step. Asked for {target('mme0')}, the sampler takes",
        "some error; asked for {target('mme2')}, it takes short",
        "`tune`, Stan's `warmup`), {sampling(ch4)['tune']} of them here. In it",
        "The stored fits of have {word(study_seeds())} seeds at each of",
        "post says of its run at {target('mme1')} what nobody expects",
        "to cross it; a ratio below {T['bfmi']} is taken as a",
        "(). ## What is left at {target('mme2')} The best of the",
        "Raise the target once, to {swept()[2]} or 0.99, and compare",
        "target once, to 0.95 or {target('mme2')}, and compare what it",
        "funnel, and a third try at {0.999} will buy one more",
        "## Exercises ### Why not {0.999} from the start? No",
        'sets `target_accept={0.999}` in every model, "to',
        "Zero at last No code. At {target('mme2')} your own model has",
        "not say about the fits at {target('mme2')}? </details>",
    ],
    ch5: [
        "`target_accept={target('mme3')}`. We keep",
        "`target_accept={target('mme3b')}`, each",
        "a factor of about {round(np.e, 1)}",
        "[the {word(labels.nunique())} districts]",
        "the same mean as {prior('mme2')} and",
        "prefer {prior('mme2')} to {prior('mme3b')}",
        "district 2, with its {women(2)} women",
    ],
    ch6: [
        r"The prior on $\sigma$ is {prior('mme4')} and was {prior('mme0')}",
        "The target is {target('mme4')} and was {target('mme0')}",
        "The form is {form('mme4')} and was {form('mme0')}",
        "model, with its own prior {prior('mme0')}, in the new",
        "and so are the prior, {prior('mme0')}, and",
        "the same mountain under {prior('mme0')}. The fourth, the",
        "one does. Give all three {assigned(ch6, 'women')[1]} women each, with a",
        "and `target_accept`, {one_target()}; only the form",
        "is too small. Look at the {percent(arguments(ch6, 'sd.quantile')[0])} quantile before the",
        "priors and `adapt_delta = {target('mme4')}` (Stan's name for",
    ],
    ch7: [
        r"suppose $\bar\alpha$ is {bells()[0]}",
        r"at large $\sigma$ the {women(1)} women",
        "the whole method, in {word(10)} lines",
        "### {Word(labels.nunique())} districts",
        "partial pooling of all {word(labels.nunique())} districts",
        "Change one line of `by_hand` to {name_of('tight', ch7)} and",
        "the posterior is the prior: {name_of('empty', ch7)} has mean 1 and sd 1",
    ],
    ch8: [
        "{priors_of_design[0]}; {priors_of_design[1]}, {inner(priors_of_design[2])}, "
        "{inner(priors_of_design[3])} |",
        "| `target_accept` | {'; '.join(map(str, districts.TARGETS))} |",
        "| seeds | {factorial_seeds} |",
        "has {word(4)} chains of {setting('tune')} + {setting('draws')} draws",
        "to zero in all {word(factorial_seeds)} seeds",
        "under the original prior, {prior('mme0')}:",
        "If {word(factorial_seeds)} seeds err",
        "with an {interval(ch8)} interval",
        "With a {priors_of_design[3]} prior the",
        "off by more than {tolerated('sd_error')} posterior sds",
        f"any divergence; {LIMITS}",
        "one change at a time from target {remedy_start['target_accept']} under "
        "{remedy_start['prior']}, with {word(remedy_seeds)} seeds",
        "whose release {0.15} asks for a PyMC older than this book's {version('pymc')}",
        "fewer than 1 in {factorial_seeds} seeds is wrong",
        "an effective draw cost under {prior('mme0')}?",
    ],
    ch10: [
        "differ with a standard deviation of {half(trial.POPULATION['sd_effect'])} in log odds",
        "is never below {minus(never)}",
        "{Word(2 * len(sites))} binomial counts",
        "that {sites['n'].sum()} rows of zeros and ones",
        "`{cut_normal()}` is a half-normal",
        r"an {'LKJ($\\eta$)'} prior says that $(1 + \rho) / 2$ has a {'Beta($\\eta$, $\\eta$)'} "
        "distribution",
        "Bambi {version('bambi')}'s non-centered form",
        "up to {divergence['multiply'].max()} times larger",
        "Calibration: {word(coverage_trials)} trials",
        "simulated {replications} trials and found that {misses} intervals missed the truth. "
        "A {percent(1 - nominal)} interval may miss {percent(nominal)}",
        "within the uncertainty of {coverage_trials} trials",
        "## What {coverage_trials} trials cannot tell",
        "{'0%'} means no better",
        "any of the {word(len(trial.QUANTITIES))} quantities",
    ],
    ch12: [
        "From {len(students)} rows to {students['school'].nunique()} sums",
        "blme {R['blme'].partition('-')[0]}-{R['blme'].partition('-')[2]} returns",
        "on all {len(students)} rows and by Bambi",
        "Fit with `wishart({3 + half_step})` and `wishart({3 + 2 * half_step})`",
        "of the {students['school'].nunique()} schools",
    ],
    "book/teach.md": ["CC BY {4.0}"],
    "README.md": [
        f"the {SURVEY} Bangladesh Fertility Survey ({THREE} women)",
        "Python {lowest_python()} or later",
        "locked, Python {locked_python()}",
        "CC BY {4.0}",
    ],
    "CONTRIBUTING.md": [
        "how many of {all_fits['factorial']} fits are wrong",
        "makes {len(districts.reduced_design())} of the fits again",
        "a chapter on {word(labels.nunique())} districts",
        "diverged in {n} of {20} seeds",
        "n == {20}",
    ],
    "data/README.md": [
        f"Women of the {SURVEY} Bangladesh Fertility Survey: {{len(survey)}} rows, "
        "{labels.nunique()} districts (labelled {labels.min()} to {labels.max()}; none is labelled "
        "{missing_label}), {survey['use_contraception'].sum()} women using contraception",
        "1 to {survey['woman'].max()}, once each",
        "1 to {labels.max()}, without {missing_label}",
        "CRAN package mlmRev {'1.0'}-8",
        "Huq and Cleland ({year('huq1990')})",
        "Steele, Diamond and Amin ({year('steele1996')})",
        "Raudenbush and Bryk ({year('raudenbush2002')})",
        "High School and Beyond, {1982}: {len(students)} rows, {students['school'].nunique()} schools",
        "| {all_fits['factorial']} fits:",
        "In R {R['R'].rpartition('.')[0]} with mlmRev {'1.0'}-8",
        "| SHA-{256} |",
    ],
    "book/run.md": ["In an environment of Python {locked_python()}"],
    "book/glossary.md": [
        "(an error above {energy_limit()}, in the common samplers)",
        "Below {T['bfmi']} a chain crosses",
        "for its {percent(tail)} and {percent(1 - tail)} quantiles",
    ],
    "book/index.md": [f"the {SURVEY} Bangladesh Fertility Survey, with {THREE} women"],
}

DRAWS = "{kept(ch3)}"
CODE: dict[str, list[str]] = {
    ch1: [
        "from 1 to {labels.max()}, and no district is labelled {missing_label}",
        "where {interval(ch1)} of districts or more",
        "… of {labels.nunique()} districts lie outside the band that chance",
        "at least {interval(ch1)} leaves out",
        "with {word(labels.nunique())} districts it is kept",
        "(dot) with its {interval(ch1)} interval",
        "{interval(ch1)} intervals for σ",
        "With {word(labels.nunique())} districts the interval",
        "such district in {labels.nunique()}:",
        "of {word(labels.nunique())} by …",
        "the {interval(ch1)} interval",
    ],
    ch2: [
        "; {summary_interval()} equal-tailed",
        "of {kept(ch2)} draws",
        "for its {percent(tail)} and {percent(1 - tail)} quantiles",
        "Shaded: the {interval(ch2)} interval.",
        "District 3's {interval(ch2)} interval",
        "The published fit of {re.search(r'20\\d\\d', published()['source'])[0]}",
    ],
    ch3: [
        "transitions of {kept(ch3)} diverged",
        "contours hold {shares_held()[0]}, {shares_held()[1]}, {shares_held()[2]} and "
        "{percent(max(CONTOUR_SHARES))})",
        "transitions of {kept(ch3)} ¶",
        "{Word(seeds(ch3, 'centered_model'))} seeds:",
        "in the lowest {percent(low_share)} of σ",
        "Over {seeds(ch3, 'centered_model')} seeds",
        "below its exact {percent(low_share)} quantile",
        "instead of {percent(low_share)}.",
        "of {seeds(ch3, 'centered_model')} seeds",
        "times in {kept(ch3)} transitions",
        "the lowest {percent(low_share)} of the exact σ",
        "the first 3, the first {first_districts()[1]} and all 60",
        "3, the first 10 and all {first_districts()[2]} districts.",
        "Probability of sigma below {arguments(ch3, 'a.cdf')[0]}:",
        "to a σ below {arguments(ch3, 'a.cdf')[0]}, and the data leave",
        ", of {kept(ch3)} draws. The fixed",
        "each district's effect, of {kept(ch3)} draws: fixed effects",
        "The same {kept(ch3)} draws are worth at",
        "are the first path of {assigned(ch3, 'paths')[-1]} that was lost and",
        "of the {assigned(ch3, 'paths')[-1]} were lost, many more",
        "at sigma {assigned(ch3, 'sigmas')[0]}. The step in use,",
        "the posterior of a σ below {arguments(ch3, 'a.cdf')[0]} is",
        "it gives a σ below {arguments(ch3, 'a.cdf')[0]} a probability of",
    ],
    ch4: [
        "{Word(seeds(ch4, 'centered_model'))} seeds at each",
        "of {word(seeds(ch4, 'centered_model'))} seeds",
        "a draw at {target('mme2')} costs",
        "of {seeds(ch4, 'centered_model')} seeds",
        "diverge at {query(ch4, 'target_accept == 0.99')}.",
        "divergences at {target('mme0')}, {target('mme1')} and {target('mme2')}.",
        "mean of {word(seeds(ch4, 'centered_model'))} runs",
        "long run at {default_target}",
        "At {query(ch4, 'target_accept == 0.99')} the centered form",
        "A draw at {target('mme2')} costs … times the gradient evaluations of one at {target('mme0')}.",
        "more than {word(query(ch4, 'divergences > 10'))} divergences",
        "at target {target('mme0')}. When a chain is in",
        "width in the neck, at σ = {assigned(ch4, '(neck, mouth)')[0]}, and in the mouth,",
        "From {target('mme0')} to 0.99, the",
        "From 0.8 to {target('mme2')}, the divergences go",
        "divergent of {kept(ch4)}",
        "evaluations* as one at {target('mme0')}. (A gradient",
        "to the dashed line. At {target('mme0')} the fits are too",
        "values are missing; at {target('mme2')} their median,",
        "{Word(len(swept()) * study_seeds())} fits of the centered",
        "times shorter than at {target('mme2')}, with as many times",
        "missing of the lowest {percent(SMALL_SIGMA)} of σ (%)",
        "Squares: R-hat above {assigned(ch4, 'loud')[0]}.",
        "median and largest of {word(study_seeds())} fits:",
        "At {target('mme0')} every fit misses all",
        "a part: half of those at {target('mme2')} miss",
        "of the {word(len(swept()) * study_seeds())} fits have far too",
        "whose worst value at {target('mme0')} was",
        "fits R-hat is above {assigned(ch4, 'loud')[0]} (the squares). With",
        "missing at {target('mme2')}) hides that some",
        "that is typical: of the {word(len(swept()) * study_seeds())} stored fits of the",
        "run at {target('mme2')}",
        "the step: from target {target('mme0')} to 0.99 the median",
        "step: from target 0.8 to {target('mme2')} the median step",
        "Of {word(len(swept()) * study_seeds())} stored fits,",
        "the smallest σ, and all at {target('mme0')} have none at all.",
        "as wide at σ = 2 as at {assigned(ch4, '(neck, mouth)')[0]}, and district 1's",
        "of the {word(len(swept()) * study_seeds())} stored fits, all of",
        "there was not straight: at {target('mme1')} the mean of σ was",
        "sds, at {target('mme0')} by",
    ],
    ch5: [
        "The {percent(arguments(ch5, 'prior.ppf')[0])} quantile of sigma",
        ". {percent(arguments(ch5, 'apart[n].quantile')[0])} are below",
        "Under {prior('mme2')}, left",
        "Under {prior('mme3b')}, right",
        "under {prior('mme2')} the two women",
        "Under {prior('mme3')} it is",
        "Under {prior('mme3b')}, dotted",
        "its {interval(ch5)} interval (shaded)",
        "¶ {word(labels.nunique())} districts ¶",
        "interval under {prior('mme2')}, at the",
        "that of {word(labels.nunique())} falls",
        "{Word(labels.nunique())} districts do choose.",
        "prefer {prior('mme2')} to {prior('mme3b')} by",
        "… under {prior('mme2')} and … under {prior('mme3b')}.",
        "and … at {default_target}.",
        "that σ is below {assigned(ch5, 'neck')[0]}.",
        "above {claimed(ch5, 'Prior sensitivity')[0]} counts as sensitive",
        "{'HalfNormal(…)'}: district 3",
        "below {assigned(ch5, 'share')[0]}: …",
        "{Word(labels.nunique())} districts choose:",
        "below σ = {assigned(ch5, 'neck')[0]} as of",
        "at target_accept {default_target} has a median",
        "at {query(ch5, 'target_accept == 0.99')}, … of … fits",
        "the limit of {claimed(ch5, 'Prior sensitivity')[0]}.",
        "under {prior('mme2')}, and … under {prior('mme3b')}, rates",
    ],
    ch6: [
        "{interval(ch6)} intervals",
        "sigma. Below a sigma of {assigned(ch6, 'narrow')[0]} and above, the sd of",
        "of {study_seeds()} non-centered fits",
        "of the {study_seeds()} centered ones; of",
        "was; a step for target {one_target()} goes through, and",
        "goes through, and one for {target('mme0')} often does not, as",
        "partial pooling under {prior('mme0')}; under the prior of",
        "{percent(arguments(ch6, 'sd.quantile')[0])} quantile",
        "of {study_seeds()} seeds, and at most",
        "in {kept(ch6)} transitions in the",
        "district 3: pooling under {prior('mme0')} moves it",
        "for the centered form at {target('mme0')},",
        "at {target('mme4')},",
        "for the non-centered at {one_target()}.",
        "Of {study_seeds()} stored fits each at",
        "below a σ of {assigned(ch6, 'bands')[1]} and",
        "With {assigned(ch6, 'women')[1]} women in every",
        "of the mean for every {1000} gradient evaluations",
    ],
    ch7: [
        "at a mean of {bells()[0]}:",
        "for sigma {bells()[1]}, {bells()[2]} and {bells()[3]}.",
        "under {name_of('exact', ch7)}, in logits",
        "our {word(10)} lines",
        "{Word(labels.nunique())} districts by size",
        "posterior means with {percent(arguments(ch7, 'exact_sixty.interval')[0])} intervals",
        "of {labels.nunique()} districts range",
        "District 3 moves from {two(women(3, 'users') / women(3))} to",
        "prior, {name_of('exact', ch7)}",
        "A σ below {claimed(ch7, 'A σ below')[0]} has",
        "it counts {word(labels.nunique())} cells",
        "All {word(labels.nunique())} took",
        "for {labels.nunique()} districts",
        "at a {'billion'} per second",
        "Work of a {assigned(ch7, 'points')[0]}-point grid in every dimension, for "
        "{word(labels.nunique())} districts",
        "{Word(10)} lines and a grid of {steps[0]} by {steps[0]} agree",
        "From {compared()[0]} to {compared()[1]} points",
        "With all {labels.nunique()} districts neither form diverges (… and … of {default_kept})",
        "fits of {labels.nunique()} districts",
    ],
    ch8: [
        "the lowest {percent(SMALL_SIGMA)} of σ",
        "of its lowest {percent(SMALL_SIGMA)}:",
        "divergences of {study_kept()}",
        "Medians under {prior('mme0')}",
        "under {prior('mme0')}: medians of {factorial_seeds} seeds, with {spread[0]} to {spread[1]} of "
        "them",
        "medians of {factorial_seeds} seeds",
        "by target_accept. At {target('mme0')}:",
        "effective draws per {1000} gradients",
        "ESS per {1000} gradients",
        "target_accept {districts.TARGETS[2]}",
        "effective draws for a {word(1000)}, where the non-centered form at {districts.TARGETS[2]} has",
        "from mme4; {factorial_seeds} seeds each",
        "of {factorial_seeds} seeds",
        "together give … of {factorial_seeds}",
        "all means in the {word(factorial_seeds)} fits of `mme0`",
        "{factorial_seeds} seeds, with {interval(ch8)} bootstrap",
        "with its {interval(ch8)} bootstrap",
        "of {factorial_seeds} diverge, and without",
        "The four forms at target_accept {query(ch8, 'target_accept == 0.8')} under {prior('mme0')}, "
        "{factorial_seeds} seeds",
        "Five forms of one model at target_accept {default_target} under {prior('mme0')}, "
        "{factorial_seeds} seeds each",
        "the one with {women(3)} women or the one with {women(1)}?",
        "district 1 with {changed()[0]} women",
        "district 1 with {changed()[1]} women",
        "The {women(1)}, not the {women(3)}.",
        "Let district 1 have {changed()[0]} women and it is …; with {changed()[1]}, …",
        "slices of σ, {factorial_seeds} seeds: {arguments(ch8, 'part.sample')[0]} draws",
        "{women(1)} women or not",
        "over {word(remedy_seeds)} seeds",
        "at {T['rhat']}, … at {loose_limit()}",
        "more than a {word(claimed(ch8, 'The stored table holds')[0])}",
        "With {changed()[0]} women instead of {women(1)}",
        "divergent of {study_kept()}",
        "times as much. (It ran at {default_target}, and was not without",
        "of {study_kept()} in the median.) And",
    ],
    ch10: [
        "data, {kept(ch10)} draws each",
        "transitions of {kept(ch10)} at",
        "transitions of {kept(ch10)}, and",
        "divergences of {kept(ch10)}",
        "Solid: target_accept {solid()}; dashed: {dashed()}.",
        "divergences at {dashed()} go from … at times 1 to … at times {shown_size()}. Non-centered "
        "cost at {solid()} goes",
        "1 to {few_limit() - 1} ¶ {few_limit()} or more",
        "below {neck_of_the_trial()}",
        "(blue squares), with {interval(ch10)} intervals",
        "covers exactly {percent(1 - nominal)} misses between … and … of {replications} in "
        "{word(20 * (1 - nominal))} such studies of {word(20)}; {misses} misses are",
        "against {percent(nominal)}). What {misses} of {replications} does",
        "say, {'15%'}",
        "¶ {interval(ch10)} interval ¶",
        "coverage,{interval(ch10)} interval,",
        "of the {interval(ch10)} interval",
        "non-centered, {kept(ch10)} draws, target_accept {coverage_target()}), with the "
        "{interval(ch10)} uncertainty",
        "from {percent(sites.loc['C', 'baseline'])} to "
        "{percent(sites.loc['C', 'baseline'] + sites.loc['C', 'effect'])} at site C",
        "with {4 * sbc['draws'].iloc[0]} draws at target_accept {sbc['target_accept'].iloc[0]}",
        "a site's {interval(ch10)} interval",
        "whose {interval(ch10)} interval",
        "{Word(power_cells()[0] * power_cells()[1])} participants find",
        "trials at {power_cells()[0]} sites of {power_cells()[1]}, in … at {power_cells()[2]} sites of "
        "{power_cells()[3]}.",
        "the same {power_cells()[0] * power_cells()[1]} participants find it in … of trials when they "
        "come from {power_cells()[0]} sites of {power_cells()[1]}, and in … when they come from "
        "{power_cells()[2]} sites of {power_cells()[3]}.",
        "transitions in {kept(ch10)}, and at adapt_delta {query(ch10, 'target_accept >= 0.95')} or more",
        "fits with 1 to {between()[1]} of them",
        "from scale 1 to {divergence['sd_scale'].min()} it",
        "{Word(misses)} misses in {replications} are",
        "{word(factors()[0])} sites of {factors()[1]}, an interval",
        "with {factors()[3]} participants",
        "trials; {coverage_trials} have",
        "divergences at {refitted()} and the non-centered",
        "At {shown_size()} times the size",
        "At {harm_target()} the centered form lacks",
    ],
    ch12: [
        "df = {penalty('df = 3.1')}",
        "df = {penalty('df = 4.5')}",
        "from {valley()[0]} to 1 gains … units of deviance, from {valley()[1]} to 1 only",
        "from {valley()[0]} to 1 gains … units",
        "no smallest: {df_near()} is enough",
        "at {df_near()}, …",
        'Wishart, df {penalty("Wishart, df 4.5 (blme\'s default)")} (blme',
        "gamma {penalty('gamma 2.5 on each sd')} on each sd",
        "LKJ {penalty('LKJ 1.5 on the correlation')} on the correlation",
        "lies {percent(cut_share())} of the exact",
        "exact {percent_1(cut_share())}",
        "lowest {percent(schools_shares()[0])}",
        "lowest {percent(schools_shares()[1])}",
        "has {percent(schools_shares()[0])} and {percent(schools_shares()[1])}, at",
        "R-hat above {T['rhat']}",
        "exact answer has {percent(schools_shares()[1])}, its",
        "{interval(ch12)} interval",
        "weak for {students['school'].nunique()} schools",
        "a correlation of {valley()[0]} lowers",
        "under {prior_name(PRIORS['sd_prior']).replace('HalfNormal', 'half-normal')} priors",
        "an {lkj_prior()} prior",
        "of {arguments(ch12, 'range')[-1]} are singular",
    ],
}

FACTS = {name: thing for name, thing in globals().items() if not name.startswith("_")}
"""What the expressions of the entries may use."""
