"""Where the text has numbers, and what computes them: for `test_words.py`.

Each entry is a piece of a text whose fields are expressions; written out, it must stand in the text as
it is here. ``{117}`` with a number instead of an expression is for what nothing can be computed from,
such as a year. In the code of chapters, … stands where a value is put in.
"""
# ruff: noqa: F401 (entries use the imported names)

import ast
import importlib.metadata
import json
import re
from functools import cache

import numpy as np
import scipy.stats
from chapters import calls, cells, constants, run, source, statements
from conftest import ROOT
from test_r import WIDEST

from fieldguide.course.personal import SHORTEST_KEY, schools_of
from fieldguide.course.reports import ALIKE
from fieldguide.course.sandbox import Limits
from fieldguide.data import (
    QUESTION_SITES,
    count_by_district,
    load_bangladesh,
    load_schools,
    load_three_districts,
    quoted,
    stored,
)
from fieldguide.dictionary import SCHOOLS
from fieldguide.figures import CONTOUR_SHARES
from fieldguide.fits import sample, sample_seeds
from fieldguide.models.schools import LKJ_ETA, PRIORS
from fieldguide.models.slopes import SlopesPriors
from fieldguide.priors import ALPHA_PRIOR, SIGMA_PRIOR, TrialPriors, prior_name, written
from fieldguide.published import NAMES, published
from fieldguide.reference import exact_posterior, schools_posterior
from fieldguide.reml import cross_products
from fieldguide.scores import SMALL_SIGMA, THRESHOLDS, is_wrong
from fieldguide.studies import districts, rows, sixty, studies, trial
from fieldguide.studies.schools import SHARES

RIGHT = ("non-centered", "centered with care", "Bambi")


def _verdicts(styles):
    """What was handed in of some styles of the stored verdicts."""
    table = stored("course_verdicts").table
    return table[table["style"].isin(styles) & table["handed_in"]]


def judged(*styles):
    return len(_verdicts(styles))


def lost(*styles):
    return int((~_verdicts(styles)["passed"]).sum())


def average(style):
    return round(float(_verdicts([style])["points"].mean()), 1)


WORDS = dict(
    enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split()
    )
) | {
    40: "forty",
    60: "sixty",
    80: "eighty",
    200: "two hundred",
    1000: "thousand",
    2000: "two thousand",
    4000: "four thousand",
}

ch1, ch2, ch3, ch4, ch5, ch6, ch7, ch8, ch9, ch10, ch11, ch12, ch13, ch14, ch16, ch17 = (
    "01_data",
    "02_fixed_effects",
    "03_centered",
    "04_target_accept",
    "05_tighter_priors",
    "06_non_centered",
    "07_the_exact_answer",
    "08_one_knob_at_a_time",
    "09_sixty_districts",
    "10_multisite_trial",
    "11_trial_design",
    "12_singular_fit",
    "13_tools",
    "14_three_views",
    "16_your_counts",
    "17_varying_slopes",
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
all_districts = count_by_district(survey)
everyone = len(all_districts)
silent = all_districts.query("users == 0")["women"].idxmin()  # the smallest without a user
largest = all_districts["women"].idxmax()
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
        if ast.unparse(c.args[0]).lstrip("f")[1:].startswith(words)
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


def neck_of_the_trial() -> str:
    (column,) = (c for c in stored("trial_divergences").table if c.startswith("below_"))
    return column.removeprefix("below_").partition(":")[0]


def asked() -> str:
    """The asker's prior on the standard deviations, as brms writes it."""
    return f"normal(0, {divergence['sd_scale'].min()})"


def replied() -> str:
    """The prior on the standard deviations in the R that the answer gives."""
    reply = (ROOT / "data" / "r_trial.R").read_text(encoding="utf-8").partition("# [reply]")[2]
    return re.search(r"prior\((normal\(0, [\d.]+\)), class = sd\)", reply)[1]


def widest() -> str:
    return f"normal(0, {divergence['sd_scale'].max():g})"


def late_target() -> float:
    """From which target chapter 10's answer counts the fits of brms."""
    default, first, _ = assigned(ch10, "(early, late)")
    assert default == default_target
    return first


def trial_scales() -> list[float]:
    found = assigned(ch10, "(SCALES, TARGETS)")[:3]
    assert found == sorted(set(divergence["sd_scale"]))
    return found


def larger_brms() -> int:
    return claimed(ch10, "Larger trials")[0]


def trial_kept() -> int:
    """Draws of each of chapter 10's fits, all chains together."""
    return 4 * trial.sample_trial.__kwdefaults__["draws"]


def read_at() -> list[float]:
    """The targets whose medians chapter 10 reads from its figure."""
    return [assigned(ch10, "(c, nc)")[0], assigned(ch10, "(late, b)")[0]]


def stan_at() -> list[float]:
    return [t for t in subscripts(ch10, "b") if t not in trial_scales()]


def where_target() -> float:
    return assigned(ch10, "settings")[1]


def size_at() -> list[float]:
    return subscripts(ch10, "asked.loc")


def refitted_at() -> float:
    """The scale of the prior in the fits that chapter 10 makes again."""
    return query(ch10, "sd_scale == 0.5")


def few_limit() -> int:
    return int(query(ch10, "0 < divergences < 20")) - 1


def coverage_width() -> str:
    return percent(1 - nominal)


def larger_trial() -> int:
    """How many times larger chapter 10's second trial is."""
    return next(
        k.value.value
        for c in calls(ch10, "data.simulate_trial")
        for k in c.keywords
        if k.arg == "multiply"
    )


def coverage_target() -> float:
    return trial.coverage_design()["target_accept"].unique().item()


def power_cells() -> list[int]:
    """Sites and participants of the two trials of equal size whose coefficients are compared."""
    return assigned(ch11, "(many, few)")


def factor_sizes() -> list[int]:
    """Participants per site of the trials whose factors the answer of chapter 11 compares."""
    found = claimed(ch11, "What a site tells")
    return [found[k] for k in (1, 4, 10)]


def nominal_interval() -> str:
    """The interval whose misses chapter 11 counts."""
    return f"{percent(1 - nominal)} interval"


def prior_scales() -> list[float]:
    """The scales of the prior on the sds under which coverage is counted."""
    return sorted(trial.coverage_design()["sd_scale"].unique())


def middle_scale() -> float:
    """The scale under which chapter 11 says how wide intervals are."""
    nodes = [n for s in statements(ch11) for n in ast.walk(s) if isinstance(n, ast.Assign)]
    (width,) = (n for n in nodes if ast.unparse(n.targets[0]) == "shown['width']")
    return constants(width)[-1]


def new_sites() -> list[list[int]]:
    """Number and size of the sites in the designs that draw them."""
    names = [name for name in trial.coverage_design()["scenario"].unique() if name.startswith("drawn")]
    return [[int(x) for x in name.removeprefix("drawn:").split("x")] for name in names]


def size_sites() -> list[int]:
    names = trial.precision_design()["scenario"].unique()
    return sorted({int(name.removeprefix("drawn:").split("x")[0]) for name in names})


def sizes() -> list[int]:
    names = trial.precision_design()["scenario"].unique()
    return sorted({int(name.split("x")[1]) for name in names})


def studied(which: int) -> int:
    """How many trials a study that chapter 11 makes itself has."""
    return next(k.value.value for k in calls(ch11, "trial_study")[which].keywords if k.arg == "trials")


def subscripts(stem: str, table: str) -> list[float]:
    """The numbers at which a chapter looks up a table."""
    nodes = [n for s in statements(stem) for n in ast.walk(s) if isinstance(n, ast.Subscript)]
    return sorted({c for n in nodes if ast.unparse(n.value) == table for c in constants(n.slice)})


def valley() -> list[float]:
    return subscripts(ch12, "lowest")


def schools_shares() -> tuple[float, ...]:
    return SHARES


def fifth(step: float) -> str:
    return {0.2: "fifth", 0.1: "tenth"}[step]


def setting(name: str) -> int:
    """Of the studies' fits, per chain."""
    assert study_kept() == 4 * remedy_start["draws"]
    return int(remedy_start[name])


def calm_fit():
    """The stored fit of chapter 3 that is wrong and calm, of which an answer in the rubrics speaks."""
    wanted = f"parameterization == 'centered' and prior == {prior('mme0')!r}"
    fits = stored("factorial").table.query(wanted)
    smallest_ess = fits[["ess_bulk", "ess_tail"]].min(axis=1)
    ((_, fit),) = fits[(fits["rhat"] <= T["rhat"]) & (smallest_ess >= T["ess"])].iterrows()
    assert fit["missing_share"] > 0.5
    return fit.to_dict() | {"ess": min(fit["ess_bulk"], fit["ess_tail"])}


@cache
def exact(name: str = "mme0"):
    """The exact posterior of the three districts under the prior of a published model."""
    counts, sigma_prior = load_three_districts(), districts.PRIORS[prior(name)]
    return exact_posterior(counts["users"], counts["women"], sigma_prior=sigma_prior)


def of_district(district: int, statistic: str, variable: str, name: str = "mme0") -> float:
    return float(getattr(exact(name), statistic)[variable].sel(district=district))


def rate(district: int, name: str = "mme0") -> str:
    return percent(of_district(district, "mean", "p", name))


def ends(district: int) -> list[str]:
    """The ends of a rate's exact interval, as wide as chapter 6's intervals are."""
    found = exact().interval(float(interval(ch6).rstrip("%")) / 100, "p")["p"].sel(district=district)
    return [percent(float(end)) for end in found]


def moved(district: int) -> float:
    """By how many logits the tighter prior of chapter 5 moves a district's mean."""
    return of_district(district, "mean", "alpha", "mme3") - of_district(district, "mean", "alpha")


def above_half(name: str) -> list[float]:
    """The probability that sigma is above one half, before the data of three districts and after."""
    return [districts.PRIORS[prior(name)].sf(0.5), 1 - float(exact(name).cdf("sigma", 0.5))]


def in_sds(district: int) -> str:
    return two(abs(moved(district)) / of_district(district, "sd", "alpha"))


def three(number: float) -> str:
    return f"{number:.3f}".replace("-", "−")


def own_schools() -> int:
    """How many schools a student gets."""
    return schools_of(0)["school"].nunique()


def one(number: float) -> str:
    return f"{number:.1f}"


def spread_of(which: str) -> dict:
    """What brms says of the spread of effects in the reply of chapter 10, with the data or without."""
    return brms[which]["sd_site__intervention"]


def correlation_of(which: str) -> dict:
    return brms[which]["cor_site__Intercept__intervention"]


def in_brms(kind: str) -> str:
    """A prior in the R that the answer of chapter 10 gives."""
    reply = (ROOT / "data" / "r_trial.R").read_text(encoding="utf-8").partition("# [reply]")[2]
    return re.search(rf"prior\((normal\([-\d, .]+\)), class = {kind}\)", reply)[1].replace("-", "−")


def sector_slope(model: str = "(ses | school)") -> list[float]:
    """The difference between the sectors in the slope of ses in one of lme4's models, and its error."""
    fit = lme4["reduced"][model]
    return [fit["fixed"]["ses:catholic"], fit["se"]["ses:catholic"]]


@cache
def uncorrelated():
    """The posterior of the schools with independent intercepts and slopes."""
    catholic = (students["sector"] == "Catholic").astype(int)
    sums = cross_products("math ~ ses * catholic + (ses | school)", students.assign(catholic=catholic))
    return schools_posterior(sums, **PRIORS | {"lkj_eta": None})


def slopes_between() -> list[float]:
    width = float(interval(ch12).rstrip("%")) / 100
    return uncorrelated().interval(width)["sd_slope"].to_numpy().tolist()


def slopes_cost(model: str) -> float:
    """What a model of the schools loses where its slopes do not vary."""
    models = lme4["within"]
    return models[f"{model}, (1 | school)"]["criterion"] - models[model]["criterion"]


@cache
def dictionary() -> str:
    """The dictionary's scripts, and every word that the tools said to them."""
    scripts = [ROOT / "data" / name for name in ("r_dictionary.R", "dictionary.py")]
    text = [path.read_text(encoding="utf-8") for path in scripts]
    text += [json.dumps(quoted(path.stem)["fits"]["seen"]).replace('\\"', '"') for path in scripts]
    return squeezed_code("\n".join(text))


def squeezed_code(code: str) -> str:
    """Code as it is written on one line."""
    return re.sub(r"(?<=[(\[{]) | (?=[)\]}])", "", re.sub(r"\s+", " ", code))


FROM_MANUALS = ("delta", "max_depth", "default_prior")
"""Of CmdStan and of newer versions of brms, which were not run; the dictionary links to manuals."""


def typed(code: str) -> str:
    """A piece of code as it stands in the dictionary's scripts, or as a tool said it."""
    assert code in dictionary() or code in FROM_MANUALS, f"none of the dictionary's scripts has {code!r}"
    return code


def typed_on_the_dictionary() -> list[str]:
    """An entry for every piece of code within the dictionary's text."""
    page = (ROOT / "book" / "dictionary.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```\n?", "", page, flags=re.S | re.M)
    return [f"`{{typed({code!r})}}`" for code in dict.fromkeys(re.findall(r"`([^`\n]+)`", prose))]


def unasked(tool: str) -> list[float]:
    """A tool's target and depth where nobody asks for any."""
    said = {**quoted("r_dictionary")["fits"]["seen"], **quoted("dictionary")["fits"]["seen"]}[tool]
    return list(said.get("control", said).values())[:2]


lme4, brms = quoted("r_schools")["fits"], quoted("r_trial")["fits"]["reply"]
R = quoted("r_schools")["fits"]["versions"]
sites = QUESTION_SITES
coverage_trials = int(trial.coverage_design()["replicate"].nunique())
divergence = trial.divergence_design()
sbc = trial.sbc_design()
remedy_seeds = districts.remedies_design()["seed"].nunique()
remedy_start = districts.remedies_design().iloc[0]
factorial = districts.factorial_design()
factorial_seeds = factorial["seed"].nunique()
misses, replications, nominal = assigned(ch11, "misses_test")
never = (sites["baseline"] + sites["effect"]).min()
all_fits = {name: len(stored(name).table) for name in studies()}
steps = arguments(ch7, "by_hand")


n = "{n}"
T = THRESHOLDS
smallest = int(load_three_districts()["women"].idxmin())
low_share = assigned(ch3, "low_sigma")[0]
tail = 0.05
half_step = min(assigned(ch12, "steps"))
both_priors = assigned(ch12, "(wide, narrow)")
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
    ch9: [
        "# {Word(everyone)} districts",
        "The survey has {word(everyone)} districts",
        "From one estimate to {word(everyone)} strangers",
        "usually costs {word(everyone)} more fits",
        "three districts and not with {word(everyone)}.",
        "from two to {word(max(sixty.NUMBERS))}, subsets",
        "were asked in district {silent},",
        "more than a {'hundred'} women?",
        "Fix the number at {word(arguments(ch9, 'phase.BySize', 1)[0])},",
        "And two {'thousand'} districts?",
        "Here are two {'thousand'} districts",
        "Surveys of {word(arguments(ch9, 'phase.Phase')[0])} districts were",
        "the {'5%'} quantile of σ; from",
        "In districts 3 and {largest} a far larger",
        "with a {'hundred'} women would stay",
        "With {word(everyone)} districts the prior",
        "has {'sixty'} clinics with {'ten thousand'} patients each",
        "matters against {'ten thousand'} patients per clinic",
        "Take {prior_name(scipy.stats.halfnorm(scale=assigned(ch9, 'priors')[0]))},",
        "{prior_name(scipy.stats.halfnorm(scale=assigned(ch9, 'priors')[1]))} and "
        "{prior_name(SIGMA_PRIOR)}, with",
        "prints the {'ten'} districts",
        "among the lowest {'ten'} before",
        "{'Six hundred'} women can be asked: {'twenty'} in each of {'thirty'} districts, or "
        "{'two hundred'} in",
        "so {'thirty'} say far more",
        "{'Thirty'} districts are also",
        "then even {'two hundred'} women each do",
    ],
    ch10: [
        "`{asked()}` on the standard deviations",
        "{Word(2 * len(sites))} binomial counts",
        "that {sites['n'].sum()} rows of zeros and ones",
        "`{cut_normal()}` is a half-normal",
        r"an {'LKJ($\\eta$)'} prior says that $(1 + \rho) / 2$ has a {'Beta($\\eta$, $\\eta$)'} "
        "distribution",
        "With {word(larger_trial())} times as many people",
    ],
    ch11: [
        "this {replications} times over. In {misses} of them the {nominal_interval()} missed",
        "{nominal_interval()}s, not the {summary_interval()} of the others",
        "whether a {nominal_interval()} covers",
        "## {Word(misses)} of {word(replications)}",
        "right in {percent(1 - nominal)} of trials is wrong in {percent(nominal)}, so of "
        "{replications} one "
        "expects {word(replications * nominal)} misses. {Word(misses)} is more",
        "missed in {percent(2 * nominal)} of trials. Could you tell that from {replications}?",
        "between sites is {asked()}, cut at zero",
        "So we simulate {coverage_trials} trials",
        "sites of {new_sites()[0][1]} participants in every trial, and {word(new_sites()[1][0])} of "
        "{new_sites()[1][1]}.",
        "a standard deviation of {half(trial.POPULATION['sd_effect'])} in log odds",
        "## What {coverage_trials} trials cannot tell",
        "the prior has scale {TrialPriors().sd.kwds['scale']}",
        "it would be {'100%'}, and {'0%'} is no better",
        "hold it, and {studied(0)} simulated trials",
        "cover {percent(1 - nominal)} of the true effects",
    ],
    ch13: ["(Since Stan {2.33} `int"],
    ch12: [
        "reads the {len(students)} rows once and keeps {students['school'].nunique()} sets of sums",
        "hold {interval(ch12)}, as everywhere",
        "which is why it is not {95}.",
        "a p above one in {word(10)}, say",
        "a p below one in a {'hundred'}, a smaller",
        "Fit with `wishart({3 + half_step})` and `wishart({3 + 2 * half_step})`",
        "under {'HalfNormal(%g)' % both_priors[0]} and under {'HalfNormal(%g)' % both_priors[1]}.",
        "of the {students['school'].nunique()} schools",
    ],
    "book/teaching/plans.md": ["right panel: three districts, then {word(labels.nunique())}"],
    "book/teaching/misconceptions.md": [
        "Between three districts and {word(labels.nunique())} not a line",
        "district 3 stands among {word(labels.nunique())} and",
    ],
    "book/teaching/rubrics.md": [
        "largest R-hat is {three(calm_fit()['rhat'])} (limit {T['rhat']})",
        "effective sample size {round(calm_fit()['ess'])} (limit {T['ess']})",
        "But {calm_fit()['divergences']} of {study_kept()} transitions diverged",
        "> R-hat is {three(calm_fit()['rhat'])}, so the chains",
        "There were {calm_fit()['divergences']} divergences",
        "From the second it is {rate(3)} ({ends(3)[0]} to {ends(3)[1]}), which",
        "alpha for district 3 is {two(of_district(3, 'mean', 'alpha'))} with an sd of "
        "{two(of_district(3, 'sd', 'alpha'))}.",
        "I used target_accept {target('mme4')} to",
        "Under {prior('mme2')} a σ above one half has probability {two(above_half('mme2')[0])} before "
        "the data and {two(above_half('mme2')[1])} after them; under {prior('mme3')} it has "
        "{two(above_half('mme3')[0])} before and {two(above_half('mme3')[1])} after.",
        "District 3 moved by {in_sds(3)} posterior standard deviations of the wide fit, from a rate of "
        "{rate(3)} to {rate(3, 'mme3')}, because",
        "district 1 moved by {in_sds(1)} and",
        "is lower, {rate(3, 'mme3')} instead of {rate(3)}, and",
        "It was {three(brms['average']['risk_difference']['mean'])} ({interval(ch10)} interval "
        "{three(brms['average']['risk_difference']['5.5%'])} to "
        "{three(brms['average']['risk_difference']['94.5%'])})",
        "priors were {in_brms('Intercept')} on the intercept, {in_brms('b')} on the effect, half-normal "
        "of scale {TrialPriors().sd.kwds['scale']} on both standard deviations and "
        "{'LKJ(%g)' % TrialPriors().lkj_eta} on",
        "deviation is {two(spread_of('posterior')['5.5%'])} to "
        "{two(spread_of('posterior')['94.5%'])}, and under the prior alone it is "
        "{two(spread_of('prior')['5.5%'])} to {two(spread_of('prior')['94.5%'])}; the correlation has "
        "{minus(correlation_of('posterior')['5.5%'])} to {two(correlation_of('posterior')['94.5%'])} "
        "where the prior has {minus(correlation_of('prior')['5.5%'])} to "
        "{two(correlation_of('prior')['94.5%'])}.",
        "({two(brms['average']['risk_difference']['mean'])}, {interval(ch10)} interval "
        "{two(brms['average']['risk_difference']['5.5%'])} to "
        "{two(brms['average']['risk_difference']['94.5%'])})",
        "R-hat values were {two(1)}.",
        "between sites was {two(spread_of('posterior')['Estimate'])}, so",
        "whether {two(brms['average']['risk_difference']['mean'])} is a probability",
        "Students get {word(own_schools())} schools",
        "not the {word(own_schools())} of any",
        "criterion is {two(lme4['tests']['deviance_lost']['(1 | school)'])} higher",
        "freedom gives p = {three(lme4['tests']['mixture_p'])}.",
        "(standard deviation {two(float(uncorrelated().mean['sd_slope']))}, {interval(ch12)} interval "
        "{two(slopes_between()[0])} to {two(slopes_between()[1])}, in the",
        "interaction is {minus(sector_slope()[0])} with a standard error of {two(sector_slope()[1])} in "
        "the full fit, {minus(sector_slope('(ses || school)')[0])} "
        "({two(sector_slope('(ses || school)')[1])}) with independent slopes, and "
        "{minus(float(uncorrelated().mean['beta'][-1]))} in the posterior",
        "anova gave p = {three(lme4['tests']['anova_p'])}, so",
        "interaction is {minus(sector_slope('(1 | school)')[0])} (standard error "
        "{two(sector_slope('(1 | school)')[1])})",
        "steeper slopes (r = {two(lme4['raw_interaction']['tight']['correlation'])})",
        "the {students['school'].nunique()} schools of the survey",
        "cost {one(slopes_cost('within + mean'))} units of deviance, where they cost "
        "{one(slopes_cost('within'))} without",
        "values were below {T['rhat']}.",
    ],
    "book/teaching/index.md": ["secrets.token_hex({SHORTEST_KEY})", "CC BY {4.0}"],
    "book/teaching/running.md": [
        "It has at least {word(SHORTEST_KEY)} characters.",
        "A notebook may take {word(Limits.seconds / 60)} minutes in all, "
        "{word(Limits.cell_seconds / 60)} for a cell, {Limits.memory // 2**30} gigabytes for a process "
        "and {Limits.file // 10**6} megabytes for a file.",
        "alike by at least {ALIKE} per cent",
        "Of {judged(*RIGHT)} right fits one lost points that it should have had: "
        "{lost('non-centered')} of {judged('non-centered')} non-centered ones in PyMC, "
        "{lost('centered with care')} of {judged('centered with care')} centered ones",
        "and {lost('Bambi')} of {judged('Bambi')} in Bambi",
        *(
            f"| {words} | {{judged({style!r})}} | {{judged({style!r}) - lost({style!r})}} "
            f"| {{average({style!r})}} |"
            for style, words in {
                "another prior": "another prior",
                "steps too long": "steps too long: divergences not looked at",
                "sigma forgotten": "sigma forgotten",
                "another student's data": "another student's data",
                "a variance for a standard deviation": "a variance for a standard deviation",
                "another order of the districts": "another order of the districts",
                "parameters under each other's names": "parameters under each other's names",
                "too few draws": "too few draws",
            }.items()
        ),
    ],
    "README.md": [
        f"the {SURVEY} Bangladesh Fertility Survey ({THREE} women)",
        "Python {lowest_python()} or later",
        "locked, Python {locked_python()}",
        "CC BY {4.0}",
    ],
    "CONTRIBUTING.md": [
        "`studies/{'sixty'}.py`",
        "how many of {all_fits['factorial']} fits are wrong",
        "makes {len(districts.reduced_design())} of the fits again",
        "a chapter on {word(labels.nunique())} districts",
        "diverged in {n} of {20} seeds",
        "n == {20}",
        "in lines of at most {WIDEST} characters",
    ],
    "data/README.md": [
        "on 2 to {max(sixty.NUMBERS)} districts of the survey; on simulated districts of 1 to "
        "{format(max(sixty.WOMEN), ',')} women",
        "from {min(rows.ROWS)} women to {'ten million'}",
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
    "16_your_counts": [
        "{prior_name(ALPHA_PRIOR)} on the mean of the groups and {prior_name(SIGMA_PRIOR)} on their"
    ],
    "book/now_what.md": [
        "r_hat above {T['rhat']} in the summary",
        "n_eff or ESS below {T['ess']} in the summary",
        "stands second in `{'Normal(mu, …)'}`",
        "{0.5} is the middle of all its draws",
        "**Low**, {0.3} or less",
        "**High**, {0.7} or more",
        "With fewer than {'ten'} divergences",
        "no centered form: go to {target('mme2')}, or",
        "NumPyro: `alpha ~ {'Normal(mu, sigma)'}`",
        "First {0.95}, and {target('mme2')} if some are left.",
        "`fit <- update(fit, adapt_delta = {target('mme2')})`; {0.95} is its default",
        "`fit = pm.sample(target_accept={0.95})`",
        "`fit = nutpie.sample(compiled, target_accept={0.95})`",
        "`fit = model.fit(target_accept={0.95})`",
        "`fit <- update(fit, control = list(adapt_delta = {0.95}))`",
        "`control = list(adapt_delta = {0.95})` in `sampling`",
        "`adapt_delta={0.95}` in `sample`",
        "`NUTS(model, target_accept_prob={0.95})`",
        "fewer than {'twenty'} of four {'thousand'}",
        "R-hat is below {T['rhat']} and ESS above {T['ess']} for what you report",
        "R-hat is below {T['rhat']} for what you report",
        "`pm.sample({4000}, tune={2000})`, `update(fit, iter = {6000}, warmup = {2000})`",
        "num_warmup={2000}, num_samples={4000}, num_chains=4)`",
        "too long to reach {T['ess']}, look",
        "At an ESS of {T['ess']} the Monte Carlo error",
        "`max_treedepth={12}` in `pm.sample`, `maxdepth={12}` in `nutpie.sample`",
        "`control = list(max_treedepth = {12})` in brms",
    ],
    "book/one_page.md": [
        "`alpha ~ {'Normal(mu, sigma)'}`",
        "raise the target to {0.95}. |",
        "`adapt_delta` to {0.95}, then {target('mme2')}.",
        "Have the means moved at {target('mme2')}?",
        "**R-hat** above {T['rhat']}",
        "**ESS** below {T['ess']}",
        "R-hat is below {T['rhat']} and ESS above {T['ess']} for what you report",
    ],
    "book/dictionary.md": [
        *typed_on_the_dictionary(),
        "Since Stan {2.33} `int<lower=0> users[J];`",
        "brms - `control = list(adapt_delta = 0.99)` - {unasked('brms')[0]}, and a depth of "
        "{unasked('brms')[1]}.",
        "{unasked('rstanarm')[0]}, and a depth of {unasked('rstanarm')[1]}. The target is",
        "In rstan {unasked('Stan')[0]}, and a depth of {unasked('Stan')[1]}.",
        "{unasked('PyMC')[0]}, and a depth of {unasked('PyMC')[1]}, both in its own sampler",
        "first priors: {prior_name(ALPHA_PRIOR)} on the mean and {prior_name(SIGMA_PRIOR)} on the",
        "For two terms this is {written('LKJ', TrialPriors().lkj_eta)}.",
        "the first {SCHOOLS} schools",
    ],
    "book/run.md": ["In an environment of Python {locked_python()}"],
    "book/glossary.md": [
        "(an error above {energy_limit()}, in the common samplers)",
        "Below {T['bfmi']} a chain crosses",
        "for its {percent(tail)} and {percent(1 - tail)} quantiles",
    ],
    "book/index.md": [
        f"the {SURVEY} Bangladesh Fertility Survey, with {THREE} women",
        "on to all {word(everyone)} districts",
    ],
    "book/teaching/objectives.md": ["[{Word(everyone)} districts]"],
    ch17: ["{'LKJ(1)'} is flat for two effects", "The density of {'LKJ(2)'} for two effects"],
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
    ch9: [
        "means with {summary_interval()} intervals, and complete",
        "district {silent}, where none does",
        "more than a {'hundred'} women were asked the two",
        "where fewer than {'ten'}, they",
        "that of district {largest}, with",
        "one estimate for {word(everyone)} places",
        "to match: {word(everyone)} strangers",
        "({summary_interval()}), and the partially",
        "({summary_interval()}). Complete pooling",
        "lie in their {summary_interval()} interval",
        "inside the exact {summary_interval()} interval",
        "from 3, 5, {assigned(ch9, 'sizes')[2]}, {assigned(ch9, 'sizes')[3]} and all {everyone}",
        "from all {word(everyone)}, … and …. What",
        "below {0.1}, where the funnel's neck",
        "line-ups, {word(constants(calls(ch9, 'pd.DataFrame')[1])[-2])} districts leave",
        "at most; {'twenty'} leave",
        "about {'twenty'} of these districts",
        "below a spread of {0.1} and",
        "with {'twenty'} it has … in the middle",
        "k̂: above {0.7} (filled)",
        "k̂ above {0.7} ¶",
        "with eight, … with {'twenty'} and … with all {word(everyone)} (median",
        "are wrong, and … with {word(everyone)}. Luck matters in between: with {'twelve'} districts one",
        "times with {word(everyone)}. The survey's",
        "against … with {word(everyone)}, on the machine",
        "in {word(arguments(ch9, 'phase.BySize', 1)[0])} simulated districts",
        "with {'ten thousand'} the centered one",
        "times with {'ten thousand'}.",
        "({'95%'} interval … to …) and not",
        "at the {'5%'} quantile of σ's posterior, below which one draw in {'twenty'} has to go",
        "survey of {word(arguments(ch9, 'phase.Phase')[0])} districts, by",
        "and its {'5%'} quantile. The rule",
        "σ, {'5%'} ¶",
        "spread and its {'5%'} quantile, and which",
        "All {word(everyone)} lie close",
        "{Word(everyone)} real districts",
        "over all {word(everyone)} it yields",
        "over {'twenty'} … times (median)",
        "with {word(everyone)}, in the median",
        "In {word(arguments(ch9, 'phase.Phase')[0])} districts the",
    ],
    ch10: [
        "transitions of {trial_kept()} on average at the default adapt_delta "
        "(at most …), and … at {late_target()} or "
        "more",
        "log odds; {asked()} rules that out, and the fit reports … (under {widest()}, …). The code "
        "below has {replied()}, for",
        "you expect, write {widest()}, which",
        "under prior scales {trial_scales()[0]}, {trial_scales()[1]} and 1. Report",
        "differ between sites ({interval(ch10)} interval",
        "prior scales, and … in trials {word(larger_brms())} times as large, where",
        "divergences of {trial_kept()}",
        "prior at {read_at()[0]}, orange",
        "and at {read_at()[1]} blue",
        "(…, …, … at {read_at()[0]}). Blue",
        "squares. At {stan_at()[0]} brms has …, … and …, in the same order, and at {stan_at()[1]} …",
        "brms gave … at {read_at()[0]} under",
        "target_accept {where_target()}.",
        "divergent transitions of {trial_kept()} as the trial grows",
        "divergences at {size_at()[0]} on average, and … in trials "
        "{word(larger_brms())} times as large; at "
        "{size_at()[1]} …",
        "at ×{subscripts(ch10, 'work')[-1]}.",
        "goes up to … at ×{larger_brms()}, because",
        "below {neck_of_the_trial()}",
        "Compare the rows at {subscripts(ch10, 'harm.loc')[0]}.",
        "prior {interval(ch10)} ¶",
        "posterior {interval(ch10)}",
        "¶ in common ×{larger_trial()} ¶",
        "trial {word(larger_trial())} times as large (×{larger_trial()})",
        "trial {word(larger_trial())} times as large (thin)",
        "{interval(ch10)} intervals of prior",
        "{Word(larger_trial())} times as many people do say",
        "posterior {interval(ch10)} ×{larger_trial()}",
        "means and {interval(ch10)} intervals",
        "(Intervals are {interval(ch10)} here as everywhere; the post's "
        "{coverage_width()} intervals are taken up, "
        "at {coverage_width()}, in",
        "From prior scale 1 to {trial_scales()[0]} the centered form's divergences at {read_at()[0]} go",
        "three trials have … and … at {refitted_at()}.",
        "with 1 to {few_limit()} divergences",
        "average; at {subscripts(ch10, 'harm.loc')[0]} the centered form lacks",
        "in a trial {word(larger_trial())} times as large … and",
    ],
    ch11: [
        "{Word(misses)} misses in {replications} are",
        "covers {percent(1 - nominal)} misses … to … of {replications} in",
        "proof of {percent(1 - nominal)} either",
        "covered in … of {coverage_trials} trials under your {asked()} on the sds, in … under "
        "{prior_scales()[1]} and",
        "true ones under {prior_scales()[0]}, … under {prior_scales()[1]} and",
        "{nominal_interval()}",
        "odds ratio with {factor_sizes()[0]} participants at each, of … with {factor_sizes()[1]} "
        "and of … "
        "with {factor_sizes()[2]}.",
        "with {power_cells()[0] * power_cells()[1]} participants the",
        "trials at {power_cells()[0]} sites of {power_cells()[1]}, and in … at {power_cells()[2]} "
        "sites of "
        "{power_cells()[3]}.",
        "misses in {replications} trials",
        "to expect in {replications} trials of an interval that misses in {percent(nominal)} of them "
        "(circles) or in {percent(2 * nominal)} (squares). Dashed: the {misses} that",
        "Probability of {misses} or more at {percent(nominal)}: …; of {misses} or fewer at "
        "{percent(2 * nominal)}:",
        "At a rate of {percent(nominal)} one sees {misses} misses",
        "At {percent(2 * nominal)} one sees {misses} or fewer",
        "{misses} of {replications} goes with",
        "(prior scale {middle_scale()}; log odds",
        "prior on the sds. {coverage_trials} trials each",
        "¶ {new_sites()[1][0]} new ¶",
        "in {coverage_trials} trials of each design",
        "on the sds: {prior_scales()[0]} (dotted), {prior_scales()[1]} (dashed), 1 (solid)",
        "beside a line at {percent(1 - nominal)}.",
        "in {coverage_trials} trials, coverage",
        "Of the {coverage_trials} trials …",
        "by little, and {coverage_trials} trials are too few",
        "mean of {coverage_trials} trials",
        "… under scale {prior_scales()[0]} and … under 1.",
        "half-normal prior of scale {prior_scales()[0]} gives",
        "size scale {prior_scales()[0]} covers",
        "scale {prior_scales()[1]} covers … of the effects of five new sites and scale "
        "{prior_scales()[0]} …",
        "with {4 * sbc['draws'].iloc[0]} draws at target_accept {sbc['target_accept'].iloc[0]}",
        "with probability {percent(1 - nominal)}",
        "sites of {sizes()[0]}, {sizes()[1]}, {sizes()[2]}:",
        "With {word(size_sites()[1])} sites, {sizes()[0]} participants at each recover … of the "
        "differences, {sizes()[1]} recover … and {sizes()[2]} …",
        "at {sizes()[1]} participants: five sites recover …, {word(size_sites()[3])} …",
        "a site of {sizes()[0]} knows",
        "among {word(size_sites()[3])}; one of {sizes()[2]} to",
        "the participants {power_cells()[0] * power_cells()[1]} people do",
        "trials at {power_cells()[0]} sites of {power_cells()[1]} and in … of … at "
        "{power_cells()[2]} sites "
        "of {power_cells()[3]}, a difference",
        "--trials {400} --sd {divergence['sd_scale'].min()} --sbc",
        "… trials; {replications} have",
        "Between scale {divergence['sd_scale'].min()} and scale 1 of the prior, … of "
        "{coverage_trials} trials",
        "between {word(size_sites()[1])} sites {sizes()[0]} participants at each recover …, "
        "{sizes()[2]} "
        "recover",
    ],
    ch12: [
        "from {valley()[1]} to 1 gains … units",
        "from {valley()[2]} to 1 only",
        "But from {valley()[1]} down to zero",
        "the ends of {interval(ch12)} intervals",
        "and … below {valley()[1]}, its prior",
        "means and {interval(ch12)} intervals",
        "of {arguments(ch12, 'range')[-1]} are singular",
    ],
    ch13: [
        "with its {interval(ch13)} interval from",
        "({interval(ch13)} intervals, from",
        "divergences of {study_kept()} ¶",
        "lowest {percent(schools_shares()[1])}",
        "exact answer has {percent(schools_shares()[1])}, at",
        "lie where {percent(schools_shares()[1])} should",
    ],
    ch14: ["median and {interval(ch14)} interval."],
    ch17: [
        "per {1000} gradients",
        "with its {interval(ch17)} interval. Hollow",
        "a mean with its {interval(ch17)} interval, as",
        "Its profile interval ({'95%'}) goes",
        "for {'ten'} years",
        "coefficients, {prior_name(SlopesPriors().covariate)}, draw",
        "from {'ten thousand'} on, count",
        "under {'LKJ(2)'}, … under {'LKJ(1)'}",
    ],
}

FACTS = {name: thing for name, thing in globals().items() if not name.startswith("_")}
"""What the expressions of the entries may use."""
