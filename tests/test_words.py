"""The words: equations, priors, numbers and chapters in the text are those of models, data and book.

Nothing here repeats what the text says. Equations are parsed and compared with the graphs of the
models; every number is found by a scanner, and must be computed by an entry of `inventory.py`, or be
part of an equation, a citation, a link or a solved exercise. An edit of one of them fails, and so
does a new number that nobody accounts for.
"""

import ast
import inspect
import math
import re
import tomllib
from functools import cache

import numpy as np
import pymc
import pytensor.tensor as pt
import pytest
import scipy.stats
from chapters import cells, run, source, statements
from conftest import NOTEBOOKS, ROOT
from inventory import CODE, FACTS, TEXT
from mdit_py_plugins.anchors.index import slugify
from outline import OUTLINE, outline, prose
from pybtex.database import parse_file
from pytensor.graph.traversal import ancestors

from fieldguide.data import load_bangladesh, load_schools, load_three_districts
from fieldguide.models import fixed_effects_model, varying_intercept_model
from fieldguide.models.schools import schools_model
from fieldguide.models.slopes import count_patterns, slopes_model
from fieldguide.sphinx_ext import author_and_year

STEMS = [path.stem for path in NOTEBOOKS]
PAGES = ["README.md", "CONTRIBUTING.md", "data/README.md"]
PAGES += sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("book", "book/teaching")
    for path in (ROOT / folder).glob("*.md")
)
every_text = pytest.mark.parametrize("name", STEMS + PAGES)

DISTRIBUTION = "Normal|HalfNormal|Exponential|Binomial|LKJ|Beta"
TEN = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
NUMBER = re.compile(
    rf"\b(?:Half|half-)?(?:{DISTRIBUTION}|normal)\([^()]*\)"  # the name of a prior
    r"|(?<![\w.])[-−]?\d[\d,]*\.\d+(?:e-?\d+)?%?"  # a decimal
    r"|(?<![\w.])\d+%|(?<![\w.])[-−]?\d[\d,]*\d%?"  # a percentage, a whole number of two digits
    rf"|\b(?:{TEN}|{TENS}|hundred|thousand|million|billion)\b",
    re.IGNORECASE,
)


# ---------------------------------------------------------------------------------------------
# Reading


def markdown(name: str) -> list[str]:
    """Return the text of a chapter cell by cell, or that of a page as one."""
    if name in STEMS:
        return [source(cell) for cell in cells(name) if cell["cell_type"] == "markdown"]
    return [(ROOT / name).read_text(encoding="utf-8")]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@cache
def titles() -> dict[str, str]:
    return {stem: source(cells(stem)[0]).splitlines()[0].removeprefix("# ") for stem in STEMS}


def links(text: str) -> list[tuple[str, str]]:
    return re.findall(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", text)


# ---------------------------------------------------------------------------------------------
# Chapters

OTHER_WORDS = {
    "01_data": {"case study", "the sixty districts"},
    "10_multisite_trial": {"multi-site trial"},
    "12_singular_fit": {"singular fit"},
}
"""Words of a link that are neither the chapter's number nor its title."""

NEIGHBOURS = {"next chapter": 1, "last chapter": -1}


@every_text
def test_a_link_to_a_chapter_says_its_number_or_its_title(name):
    for words, target in links("\n".join(markdown(name))):
        stem = target.rpartition("/")[2].removesuffix(".ipynb")
        if not target.endswith(".ipynb"):
            continue
        assert stem in STEMS, f"{target}: there is no such chapter"
        assert (ROOT / name if name in PAGES else NOTEBOOKS[0]).parent.joinpath(target).exists(), target
        number = re.fullmatch(r"chapter (\d+)", words, re.IGNORECASE)
        if words in NEIGHBOURS:
            assert STEMS.index(stem) == STEMS.index(name) + NEIGHBOURS[words], (words, target)
        elif number:
            assert int(number[1]) == int(stem[:2]), (words, target)
        elif words:  # without words Sphinx writes the title
            assert words in {titles()[stem], *OTHER_WORDS.get(stem, ())}, (words, target)


@cache
def headings(path) -> dict[str, str]:
    """Return the headings of a chapter or a page by the anchor that a link to them has."""
    name = path.stem if path.stem in STEMS else path.relative_to(ROOT).as_posix()
    text = prose("\n\n".join(markdown(name)))
    found = re.findall(r"^#{1,3} (.*)$", text, flags=re.M)
    plain = [re.sub(r"\]\([^)]*\)|[\[*`]", "", heading) for heading in found]
    return {slugify(heading): heading for heading in plain}


@every_text
def test_a_link_to_a_section_has_its_heading_or_the_number_of_its_exercise(name):
    for words, target in links("\n".join(markdown(name))):
        page, _, anchor = target.partition("#")
        if not anchor or target.startswith("http"):
            continue
        path = (
            (NOTEBOOKS[0] if name in STEMS else ROOT / name)
            .parent.joinpath(page or name.rpartition("/")[2])
            .resolve()
        )
        assert anchor in headings(path), f"{name}: {target} has no such heading"
        heading = headings(path)[anchor]
        if path.suffix == ".ipynb":
            exercise = re.fullmatch(r"exercise (\d+\.\d+)", words, re.IGNORECASE)
            question = re.fullmatch(r"question (\d+\.[a-z])", words, re.IGNORECASE)
            said = squeezed(words) == heading
            if exercise:
                said = heading.startswith(f"{exercise[1]} ")
            if question:
                asked = f"**{question[1]}** " in "\n".join(markdown(path.stem))
                said = asked and heading == "Check yourself"
            assert said, f"{name}: {words!r} leads to {heading!r}"


@every_text
def test_a_numbered_figure_or_table_is_one_of_a_chapters(name):
    shown = set(tomllib.loads((ROOT / "tests" / "figures.toml").read_text(encoding="utf-8")))
    assert set(re.findall(r"\{numref\}`([^`]*)`", "\n".join(markdown(name)))) <= shown


@every_text
def test_a_chapter_is_not_mentioned_without_a_link(name):
    text = squeezed(prose("\n".join(markdown(name))))
    if name in STEMS:
        text += " ".join(strings(name))
    text = re.sub(r"\[[^\]]*\]\([^)\s]+\.ipynb\)", "", text)
    text = text.replace("Raudenbush and Bryk (2002), chapter 4", "")  # of their book
    assert not re.search(r"chapters? \d+|(next|last|previous) chapter", text, re.IGNORECASE), name


def test_the_glossary_has_its_chapters_titles_from_the_chapters():
    """In the book, unlike in JupyterLab, a link without words gets the title of its page."""
    found = links((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
    words = [words for words, target in found if target.endswith(".ipynb")]
    assert len(words) > 5
    assert not any(words)


def test_the_landing_pages_cards_and_the_contents_name_every_chapter_that_is_there():
    listed = re.findall(r"file: notebooks/(\w+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert listed == STEMS


# ---------------------------------------------------------------------------------------------
# Headings, links, and what claims rest on


def test_headings_links_and_the_conditions_of_claims_are_those_that_were_read_last():
    """What nothing computes is written twice: ``python tests/outline.py`` writes, a person reads."""
    assert outline().splitlines() == OUTLINE.read_text(encoding="utf-8").splitlines()


SAID = {"sigma": "sigma", "alpha_bar": "alpha_bar", "the mean": "alpha_bar"}


def test_a_figure_is_of_the_parameter_that_its_words_name():
    code = "\n".join(
        source(cell) for stem in STEMS for cell in cells(stem) if cell["cell_type"] == "code"
    )
    named = re.findall(r"\{(sigma|alpha_bar):[^}]*\} for (sigma|alpha_bar|the mean)", code)
    assert named
    assert all(field == SAID[words] for field, words in named), named


def test_the_first_page_begins_with_the_words_of_pymcs_warning():
    page = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    (quoted,) = re.findall(r"^\*([^*]+)\*$", page, re.MULTILINE)
    assert f"after tuning. {quoted}" in inspect.getsource(pymc.stats.convergence.warn_divergences)


# ---------------------------------------------------------------------------------------------
# Equations

SYMBOLS = {
    r"\sigma": "sigma",
    r"\bar\alpha": "alpha_bar",
    r"\alpha_j": "alpha",
    r"\alpha": "alpha",
    "u_j": "u",
    "z_j": "z",
    "C_i": "C",
    "y_j": "users",
    r"\beta": "beta",
    r"\mathrm{math}_i": "math",
    r"(u_{0j}, u_{1j})": "u",
    r"\mathrm{sd}_0": "sd_intercept",
    r"\mathrm{sd}_1": "sd_slope",
    "r": "correlation",
    "y_i": "users",
}
"""What the symbols of the equations are called in the models."""


@cache
def districts(form: str, prior=None):
    counts = load_three_districts()
    prior = scipy.stats.expon() if prior is None else prior
    return varying_intercept_model(
        counts["users"], counts["women"], parameterization=form, sigma_prior=prior
    )


@cache
def wide_fixed():
    counts = load_three_districts()
    (call,) = [
        node
        for s in statements("02_fixed_effects")
        if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "wide"
        for node in ast.walk(s)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stats.norm.pdf"
    ]
    mean, sd = (ast.literal_eval(argument) for argument in call.args[1:])
    return fixed_effects_model(counts["users"], counts["women"], alpha_prior=scipy.stats.norm(mean, sd))


@cache
def few_schools(form):
    schools = load_schools()
    few = schools[schools["school"].isin(schools["school"].unique()[:5])]
    return schools_model(few, parameterization=form, rows=form == "centered")


@cache
def few_slopes():
    women = load_bangladesh()
    return slopes_model(women[women["district"] < 5], parameterization="centered")


def published_model(name):
    return run("05_tighter_priors", "models")["models"][name]


def models_of(name: str, exercise: bool, label: str) -> list:
    """Return the models that an equation may be of, in the place where it stands."""
    if label:
        return [published_model(label)]
    if exercise and name == "02_fixed_effects":
        return [wide_fixed()]
    return {
        "02_fixed_effects": lambda: [run(name, "mfe")["mfe"], run(name, "mfe_counts")["mfe_counts"]],
        "03_centered": lambda: [run(name, "centered_model")["centered_model"], districts("deviation")],
        "06_non_centered": lambda: [
            run(name, "non_centered_model")["non_centered_model"],
            districts("centered", scipy.stats.halfnorm(scale=0.5)),
        ],
        "07_the_exact_answer": lambda: [districts("centered")],
        "08_one_knob_at_a_time": lambda: [districts("deviation")],
        "09_sixty_districts": lambda: [districts("centered")],
        "12_singular_fit": lambda: [few_schools("integrated"), few_schools("centered")],
        "17_varying_slopes": lambda: [few_slopes()],
        "book/glossary.md": lambda: [districts("centered")],
    }[name]()


def parts(text: str) -> list[str]:
    """Split at commas outside parentheses and braces."""
    found, depth = [""], 0
    for character in text.replace(r"\,", " "):
        depth += character in "({"
        depth -= character in ")}"
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [re.sub(r"\\[ ,;]|\s", " ", part).strip() for part in found if part.strip()]


def distributions(equation: str) -> list[tuple[str, list[str], str, list[str]]]:
    """Parse an equation into (label, variables, distribution, parameters)."""
    found = []
    for match in re.finditer(rf"\\(?:text|mathrm)\{{({DISTRIBUTION})\}}\(", equation):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(equation[end], 0)
            end += 1
        inner, before = equation[match.end() : end - 1], equation[: match.start()]
        label = ""
        if r"\mid" in inner:
            variables, _, inner = inner.partition(r"\mid")
        else:
            assert re.search(r"\\sim\s*$", before), f"{match[0]} of what? {equation}"
            before = re.sub(r"&?\\sim\s*$", "", before)
            variables = re.split(r"\\\\|\\qquad|\\quad|\\begin\{aligned\}|\n\n|\)\s*,", before)[-1]
            named = re.search(r"\\text\{(\w+): \}", variables)
            label = named[1] if named else ""
            variables = re.sub(r"\\text\{\w+: \}", "", variables).replace("&", "")
        found.append((label, parts(variables), match[1], parts(inner)))
    return found


def equations(text: str) -> list[str]:
    """Return all formulas, displayed or not."""
    display = re.findall(r"\$\$(.*?)\$\$", text, flags=re.S)
    return display + re.findall(
        r"(?<!\$)\$([^$]+)\$(?!\$)", re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    )


def said_by_graph(model, name: str):
    """Return a variable's distribution, and for each parameter its number or the names it hangs on."""
    (rv,) = [v for v in [*model.free_RVs, *model.observed_RVs] if v.name == name]
    family, parameters = rv.owner.op.name, list(rv.owner.op.dist_params(rv.owner))
    if family == "exponential":
        parameters = [1 / parameters[0]]
    if family == "halfnormal":
        parameters = parameters[1:]
    if family == "multivariate_normal":  # its mean has the shape of the covariance, no more
        parameters[0] = pt.constant(np.unique(parameters[0].eval()))
    said = []
    for parameter in parameters:
        hangs_on = nearest(model, parameter)
        said.append(hangs_on or np.unique(parameter.eval()).tolist())
    return {"halfnormal": "HalfNormal", "multivariate_normal": "Normal"}.get(
        family, family.capitalize()
    ), said


def nearest(model, expression) -> set[str]:
    """Return the model's variables that an expression is computed from, not those behind them."""
    named = {v for v in model.named_vars.values() if v is not expression or v.owner is not None}
    found = {v for v in ancestors([expression], blockers=named) if v in named}
    return {v.name for v in found}


def agrees(model, variable: str, distribution: str, parameters: list[str]) -> bool:
    """Tell whether a line of an equation is what a model's graph says."""
    names = {v.name for v in [*model.free_RVs, *model.observed_RVs]}
    if "lkj" in names and variable in (r"\sigma_a", r"\sigma_b", "r", "(a_j, b_j)"):
        return agrees_of_slopes(model, variable, distribution, parameters)
    name = SYMBOLS[variable]
    if "lkj" in names:
        name = {"alpha": "intercept", "beta": "slope"}.get(name, name)
    if distribution == "LKJ":  # of two effects: (1 + r) / 2 is Beta(eta, eta)
        family, said = said_by_graph(model, "half") if "half" in names else ("", [])
        return family == "Beta" and said == [[float(parameters[0])]] * 2
    name = "successes" if name == "users" and name not in names else name
    if name not in names:
        return False
    family, said = said_by_graph(model, name)
    if family != distribution or len(said) != len(parameters):
        return False
    return all(map(fits, parameters, said))


def agrees_of_slopes(model, variable: str, distribution: str, parameters: list[str]) -> bool:
    """Tell the same of a line on the districts' two effects, their sds or their correlation."""
    *_, eta, sds = model["lkj"].owner.inputs
    if variable == "(a_j, b_j)":  # the second given the first
        first = said_by_graph(model, "intercept_by_district")
        second = said_by_graph(model, "slope_by_district")
        given = {"slope", "lkj", "intercept", "intercept_by_district"}
        expected = ("Normal", [{"intercept"}, {"lkj"}]), ("Normal", [given, {"lkj"}])
        told = ("Normal", [r"(\alpha, \beta)", r"\Sigma"])
        return (first, second) == expected and (distribution, parameters) == told
    numbers = [float(parameter) for parameter in parameters]
    if variable == "r":
        return distribution == "LKJ" and numbers == [float(eta.eval())]
    (scale,) = sds.owner.op.dist_params(sds.owner)
    same_family = distribution == sds.owner.op.name.capitalize()
    return same_family and set(numbers) == set(1 / np.unique(scale.eval()))


def fits(parameter: str, said) -> bool:
    """Tell whether one parameter of an equation is that of the graph."""
    try:
        return said == [float(parameter)]
    except ValueError:
        pass
    if parameter == "n_j":
        return said == sorted(load_three_districts()["women"])
    if parameter == "n_i":
        women = load_bangladesh()
        return said == np.unique(count_patterns(women[women["district"] < 5])["women"]).tolist()
    symbols = {
        r"p_j": {"alpha"},  # through its logit, which the same equation defines
        r"p_i": {"alpha"},
        r"\text{logit}^{-1} \alpha_j": {"alpha"},
        r"\text{logit}^{-1}\alpha": {"alpha"},
        r"\Sigma": {"chol", "cov", "lkj", "sd_intercept", "sd_slope", "correlation"},
        r"a_{j} + b_{j} \mathrm{ses}_i": {"beta", "u"},
        r"\mathrm{logit}^{-1}(a_{j} + b_{j} \mathrm{urban}_i)": {"district_intercept", "district_slope"},
    }
    expected = symbols.get(squeezed(parameter), {SYMBOLS.get(parameter)})
    if parameter.startswith("p_") and isinstance(said, set):
        return said <= {"alpha", "alpha_bar", "z", "sigma"} and bool(said)
    return isinstance(said, set) and bool(said) and said <= expected


@every_text
def test_every_distribution_in_an_equation_is_that_of_the_model(name):
    exercise = False
    for text in markdown(name):
        exercise |= "## Exercises" in text
        for equation in equations(prose(text)):
            for label, variables, distribution, parameters in distributions(equation):
                for variable in variables:
                    models = models_of(name, exercise, label)
                    assert any(agrees(m, variable, distribution, parameters) for m in models), (
                        f"{name}: {variable} ~ {distribution}({', '.join(parameters)}) is not what the "
                        f"model says, in {equation}"
                    )


WHOLE = {  # the chapter's own model, and the displayed equation that writes it in full
    "02_fixed_effects": ("mfe", 0),
    "03_centered": ("centered_model", 0),
    "06_non_centered": ("non_centered_model", 1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_chapters_equation_has_every_variable_of_its_model(name):
    model, number = WHOLE[name]
    display = re.findall(r"\$\$(.*?)\$\$", "\n".join(markdown(name)), flags=re.S)[number]
    written = [SYMBOLS[v] for _, variables, _, _ in distributions(display) for v in variables]
    model = run(name, model)[model]
    assert sorted(written) == sorted(v.name for v in [*model.free_RVs, *model.observed_RVs])


# Relations such as alpha_j = alpha_bar + z_j sigma, tried at random values of their symbols.
PYTHON = {
    r"\text{logit}(p_j)": "alpha",
    r"\text{logit}(p_i)": "alpha",
    r"\alpha_{j[i]}": "alpha",
    r"\bar\alpha": "alpha_bar",
    r"\alpha_j": "alpha",
    r"\sigma": "sigma",
    "z_j": "z",
    "u_j": "u",
}
RELATION = re.compile(
    r"(\\alpha_j|z_j|\\text\{logit\}\(p_[ij]\))\s*&?=\s*"
    r"((?:(?!\\\\|(?<!\\),|\\qquad|\\quad|\.\s*\Z).)+)",
    re.S,
)


def value(expression: str, at: dict) -> float:
    code = expression.replace("&", "").replace(r"\,", " ")
    for latex, python in PYTHON.items():
        code = code.replace(latex, f" {python} ")
    code = re.sub(r"(?<=[\w)])\s+(?=[a-z(])", " * ", squeezed(code).strip())
    return eval(code, {}, at)


@every_text
def test_every_relation_between_the_effects_is_the_models(name):
    rng = np.random.default_rng(0)
    for _ in range(3):
        at = dict(zip(("alpha_bar", "sigma", "z"), rng.normal(size=3), strict=True))
        at["u"] = at["sigma"] * at["z"]
        at["alpha"] = at["alpha_bar"] + at["u"]
        for equation in equations(prose("\n".join(markdown(name)))):
            for left, right in RELATION.findall(equation):
                assert math.isclose(value(left, at), value(right, at)), f"{left} = {right}"


def test_the_models_have_the_relations_that_equations_are_held_against():
    for form, coordinate in (("non-centered", "z"), ("deviation", "u")):
        model = districts(form)
        uses = set(ancestors([model["alpha"]], blockers=model.free_RVs))
        point = {v.name: np.full((v.ndim and 3) or (), 0.3 + k) for k, v in enumerate(model.free_RVs)}
        alpha = model["alpha"].eval({model[n]: x for n, x in point.items() if model[n] in uses})
        moved = point[coordinate] * (point["sigma"] if coordinate == "z" else 1)
        np.testing.assert_allclose(alpha, point["alpha_bar"] + moved)


# ---------------------------------------------------------------------------------------------
# Numbers


@cache
def citations() -> dict[str, str]:
    """Return each work as the list of references calls it, with the address it is printed with."""
    works = parse_file(ROOT / "book" / "references.bib").entries.values()
    fields = ("doi", "url", "eprint", "isbn")
    return {
        author_and_year(work): next(filter(None, map(work.fields.get, fields)), "") for work in works
    }


def cited(words: str) -> bool:
    """Tell whether this is how a work of the bibliography is called, in parentheses or in a sentence."""
    return re.sub(r" \((\d{4})\)$", r", \1", words) in citations()


@every_text
def test_a_citation_is_in_the_bibliography(name):
    for words, target in links(" ".join([*markdown(name), *(strings(name) if name in STEMS else [])])):
        if target.endswith("references.md"):
            assert cited(words), words


def test_a_wrong_year_or_name_is_no_citation():
    assert cited("Huq and Cleland (1990)")
    assert cited("Talts and others, 2018")
    assert not cited("Huq and Cleland (1991)")
    assert not cited("Huq and Clelan (1990)")
    assert not cited("Talts et al., 2018")


def test_a_reference_has_an_address():
    """But for a report of 1990, a book, and an article whose DOI was found in two forms."""
    bare = {words for words, address in citations().items() if not address}
    assert bare == {
        "Huq and Cleland, 1990",
        "Raudenbush and Bryk, 2002",
        "Steele, Diamond and Amin, 1996",
    }


@every_text
def test_a_link_to_an_issue_says_its_number(name):
    for words, target in links("\n".join(markdown(name))):
        if target.startswith("http"):
            assert re.findall(r"\d+", words) == re.findall(r"/(\d+)$", target), (words, target)


@pytest.mark.parametrize("name", STEMS)
def test_exercises_are_numbered_by_their_chapter(name):
    found = re.findall(r"^### (\d+\.\d+) ", "\n".join(markdown(name)), flags=re.M)
    assert found == [f"{int(name[:2])}.{k}" for k in range(1, len(found) + 1)]


def strings(stem: str) -> list[str]:
    """Return the sentences in a chapter's code, with a gap where a value is put in."""
    found = []

    def visit(node):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".query"):
            return
        if isinstance(node, ast.JoinedStr):
            pieces = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            found.append("".join(pieces))
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    visit(part.value)
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in statements(stem):
        visit(statement)
    sentences = (squeezed(re.sub(r"\{[^{}]*\}", "…", text)) for text in found)
    return [text for text in sentences if " " in text.strip()]


def settled(text: str) -> str:
    """Leave out the numbers that other tests account for, such as those of citations and exercises.

    Minutes of lesson plans and points of graded answers are summed by `test_teaching.py`.
    """
    text = prose(text)
    text = re.sub(r"^### \d+\.\d+ ", "### ", text, flags=re.M)
    text = re.sub(r"^\*\*\d+\.[a-z]\*\* ", "", text, flags=re.M)  # a question's
    text = re.sub(r"(^# |\[)\d+\. ", r"\1", text, flags=re.M)  # a title and a link to it
    text = re.sub(r"\[[^\]]*\]\([^)\s]*references\.md\)", "", text)
    text = re.sub(r"\[[^\]]*\]\(https?://[^)]*\)", "", text)
    text = re.sub(r"\[chapter \d+\]\([^)\s]*\)", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\[[^\]]*\]\([^)\s]*\.ipynb#[^)\s]*\)", "", text)  # a section, an exercise
    text = re.sub(r"^(?:\| \d+ to \d+ |(#+ .*) \(\d+ minutes\)$)", r"\1", text, flags=re.M)  # a plan
    text = re.sub(r"^(\| Together) (\| \d+ of \d+ )+", r"\1 ", text, flags=re.M)  # points
    text = re.sub(r"\]\([^)\s]*( \"[^\"]*\")?\)", "]", text)  # the setting of an instrument
    text = re.sub(r"\{numref\}`[^`]*`|`(?:tcp|http)[^`]*`|\d{2}_\w+|\b[0-9a-f]{64}\b", "", text)
    for equation in equations(text):
        if distributions(equation):
            text = text.replace(equation, "")
    return squeezed(text)


def in_solution(number: str, code: str) -> bool:
    """Tell whether an exercise's number stands in the code of its solution."""
    words = {w: 10 + k for k, w in enumerate(TEN.split("|"))}
    words |= {w: 20 + 10 * k for k, w in enumerate(TENS.split("|"))}
    plain = number.lower().replace(",", "").replace("−", "-")
    if "(" in plain:
        return False
    wanted = float(words.get(plain, "nan")) if plain.isalpha() else float(plain.rstrip("%"))
    wanted = wanted / 100 if plain.endswith("%") else wanted
    written = [
        float(n.value)
        for n in ast.walk(ast.parse(code))
        if isinstance(n, ast.Constant) and isinstance(n.value, int | float)
    ]
    written += [float(x) for x in re.findall(r"\d+\.\d+", code)]
    written += [1 - x for x in written]
    return any(math.isclose(wanted, x, rel_tol=1e-9) for x in written)


def exercises(stem: str) -> list[tuple[str, str]]:
    """Return the exercises, each with the code of its solution."""
    found, text = [], None
    for cell in cells(stem):
        if cell["cell_type"] == "markdown" and re.search(r"^### \d+\.\d+ ", source(cell), flags=re.M):
            text = source(cell)[source(cell).rindex("### ") :]
        elif "hide-cell" in cell["metadata"].get("tags", []) and text:
            found.append((text, source(cell)))
            text = None
    return found


@cache
def rendered(template: str) -> tuple[str, list[tuple[int, int]]]:
    """Write an entry of the inventory, and say where its computed values are."""
    text, spans = "", []
    for literal, expression in re.findall(r"([^{]*)(?:\{([^}]*)\})?", template):
        text += literal
        if expression:
            computed = str(eval(expression, FACTS))
            spans.append((len(text), len(text) + len(computed)))
            text += computed
    return text, spans


def unaccounted(text: str, templates: list[str]) -> list[str]:
    """Return the numbers of a text that no entry computes; an entry that is not there is an error."""
    covered = []
    for template in templates:
        words, spans = rendered(template)
        places = [m.start() for m in re.finditer(re.escape(words), text)]
        assert places, f"the text does not say: {words!r} (computed from {template!r})"
        covered += [(place + start, place + end) for place in places for start, end in spans]
    return [
        f"{number[0]} in: …{text[max(0, number.start() - 50) : number.end() + 40]}…"
        for number in NUMBER.finditer(text)
        if not any(start <= number.start() and number.end() <= end for start, end in covered)
    ]


@every_text
def test_every_number_in_the_text_is_computed(name):
    text = "\n".join(markdown(name))
    for exercise, code in exercises(name) if name in STEMS else []:
        kept = NUMBER.sub(lambda m, code=code: "" if in_solution(m[0], code) else m[0], prose(exercise))
        text = text.replace(exercise, kept)
    assert not unaccounted(settled(text), TEXT.get(name, []))


@pytest.mark.parametrize("name", STEMS)
def test_every_number_in_a_sentence_of_the_code_is_computed(name):
    text = " ¶ ".join(strings(name))
    text = re.sub(r"\[[^\]]*\]\([^)\s]*references\.md\)", "", text)
    text = re.sub(r"\[chapter \d+\]\([^)\s]*\)", "", text, flags=re.IGNORECASE)
    assert not unaccounted(text, CODE.get(name, []))


@pytest.mark.parametrize(
    "text",
    [
        "with 117 women",
        "at 0.95",
        "under Exponential(2)",
        "in 5%",
        "of sixty",
        "a rate of −0.05",
        "1,280 fits",
    ],
)
def test_a_number_that_nobody_accounts_for_is_found(text):
    assert unaccounted(text, [])
    assert not unaccounted("district 3 has 2 women in mme3b, E-BFMI and R-hat", [])
