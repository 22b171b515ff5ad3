"""The chapters: what is committed, and what running them gave."""

import ast
import re

import nbformat
import numpy as np
import pytest
from conftest import NOTEBOOKS, ROOT
from nbclient import NotebookClient
from scipy import stats
from scipy.special import expit

from fieldguide.outputs import CLAIMS_MIME, FIGURE_MIME, TABLE_MIME

chapters = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs_of(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield cell, output


def shown(notebook, mime):
    return [o["data"][mime] for _, o in outputs_of(notebook) if mime in o.get("data", {})]


@chapters
def test_no_outputs_are_committed(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@chapters
def test_cells_are_short_and_plain(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            folded = {"hide-input", "remove-input", "hide-cell"} & set(cell.metadata.get("tags", []))
            assert len(cell.source.splitlines()) <= (50 if folded else 25), cell.source
        else:
            # MyST roles and directives show raw in JupyterLab.
            assert "```{" not in cell.source
            assert ":::" not in cell.source
            assert "{term}`" not in cell.source
            assert "{cite" not in cell.source


@chapters
def test_no_imported_name_is_given_to_something_else(path):
    """A chapter that calls a table ``stats`` loses SciPy's for the rest of the page."""
    imported, assigned = set(), {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assigned[node.id] = cell.source
            elif isinstance(node, ast.FunctionDef):
                assigned[node.name] = cell.source
    assert imported
    assert not imported & set(assigned), imported & set(assigned)


@chapters
def test_chapter_has_its_parts(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert text.startswith("# ")
    for part in (
        "**After this chapter**",
        "**Read first:**",
        "## Exercises",
        "## Checked when this page was built",
        "## Versions",
    ):
        assert part in text
    assert text.count("<summary>Hint</summary>") >= 3
    solutions = [c for c in cells if "hide-cell" in c.metadata.get("tags", [])]
    assert len(solutions) >= 3
    assert all("assert" in c.source for c in solutions)


@chapters
def test_what_the_book_folds_is_folded_in_jupyterlab(path):
    """JupyterLab looks at ``jupyter``, not at the tags."""
    for cell in nbformat.read(path, as_version=4).cells:
        tags = {"hide-input", "hide-cell", "remove-input"} & set(cell.metadata.get("tags", []))
        folds = {name for name, folded in cell.metadata.get("jupyter", {}).items() if folded}
        expected = {"source_hidden"} if tags else set()
        assert folds == expected | ({"outputs_hidden"} if "hide-cell" in tags else set()), cell.source


def questions_of(path):
    """Return a chapter's questions as (number, text, [(option, feedback), ...])."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    asked = re.findall(r"^## Check yourself\n(.*?)^## Exercises$", text, flags=re.M | re.S)
    assert len(asked) == text.count("## Check yourself") == 1
    parts = re.split(r"^\*\*(\d+\.[a-z])\*\* (.+)$", asked[0], flags=re.M)[1:]
    option = re.compile(r"^<details><summary>([^<]+)</summary>\n\n([^<]+)\n\n</details>$", re.M)
    return [
        (number, question, option.findall(options))
        for number, question, options in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def place_of_the_right_option(options):
    (place,) = (k for k, (_, feedback) in enumerate(options) if feedback.startswith("Yes. "))
    return place


@chapters
def test_three_questions_stand_before_the_exercises(path):
    """One option of each is right, and the others say what is true instead."""
    questions = questions_of(path)
    assert [number for number, _, _ in questions] == [f"{int(path.stem[:2])}.{k}" for k in "abc"]
    for number, question, options in questions:
        assert question.endswith("?"), number
        assert 3 <= len(options) <= 4, number
        assert len({words for words, _ in options}) == len(options), number
        for words, feedback in options:
            # A summary shows marks of Markdown as they are.
            assert re.fullmatch(r"[^$`*\[\]&>]+\.", words), words
            assert re.match(r"(Yes|No|Partly)\. \S", feedback), feedback
            assert len(feedback.split()) >= 12, feedback
        place_of_the_right_option(options)
    assert len({place_of_the_right_option(options) for _, _, options in questions}) > 1


def test_the_form_of_an_option_does_not_say_whether_it_is_right():
    """Options of a question are about as long, and over the book each place is right as often."""
    asked = [options for path in NOTEBOOKS for _, _, options in questions_of(path)]
    for options in asked:
        lengths = [len(words) for words, _ in options]
        assert max(lengths) < 1.2 * min(lengths), options
    places = [place_of_the_right_option(options) for options in asked]
    assert all(0.15 < places.count(place) / len(asked) < 0.35 for place in range(4))


@chapters
def test_exercises_with_and_without_code(path):
    """Five or more, three of them solved in code that runs and two in words."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = text.partition("## Exercises")[2].partition("## Checked when")[0]
    exercises = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    answers = re.findall(r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", text, re.DOTALL)
    solutions = [cell for cell in cells if "hide-cell" in cell.metadata.get("tags", [])]
    assert len(exercises) >= 5
    assert len(answers) >= 2
    assert len(solutions) >= 3
    assert len(answers) + len(solutions) >= len(exercises)


@chapters
def test_a_chapter_says_what_to_do_at_home(path):
    """Before the exercises, with code that is open and needs nothing of this package."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert text.count("\n## What to do at home\n") == 1
    assert text.index("## What to do at home") < text.index("## Exercises")
    first = next(k for k, cell in enumerate(cells) if "## What to do at home" in cell.source)
    last = next(k for k, cell in enumerate(cells) if "## Exercises" in cell.source)
    code = [cell for cell in cells[first : last + 1] if cell.cell_type == "code"]
    snippets = [cell for cell in code if not cell.metadata.get("tags")]
    assert snippets
    assert not any(re.search(r"\bfg\.|\bfieldguide\b", cell.source) for cell in snippets)


@chapters
def test_at_most_half_of_the_code_is_folded(path):
    """Cells that only write a sentence count as folded: nobody sees their code on the page."""
    lines = {True: 0, False: 0}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            folded = bool(
                {"hide-input", "remove-input", "hide-cell"} & set(cell.metadata.get("tags", []))
            )
            lines[folded] += sum(bool(line.strip()) for line in cell.source.splitlines())
            draws = "show_figure(" in cell.source and "subplots(" in cell.source
            assert folded or not draws or len(cell.source.splitlines()) <= 25, cell.source
    assert lines[True] <= lines[False], lines


OTHER_PEOPLE = [path for path in NOTEBOOKS if int(path.stem[:2]) >= 10]


@pytest.mark.parametrize("path", OTHER_PEOPLE, ids=lambda path: path.stem)
def test_a_chapter_on_other_peoples_problems_stays_short(path):
    """Who comes with a question of the kind reads one chapter, and to its end."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert len(cells) <= 45
    assert sum(bool(line.strip()) for text in code for line in text.splitlines()) <= 450


@chapters
def test_notebook_ran_without_failure_or_unexpected_warning(path, executed):
    for cell, output in outputs_of(executed[path.stem]):
        assert output.output_type != "error", output
        if output.output_type == "stream" and output.name == "stderr":
            assert cell.metadata.get("mystnb", {}).get("output_stderr") == "show", output.text


@chapters
def test_every_claim_was_checked_and_shown(path, executed):
    source = "\n".join(c.source for c in executed[path.stem].cells if c.cell_type == "code")
    checks = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "claims.check"
    ]
    (claims,) = shown(executed[path.stem], CLAIMS_MIME)
    assert len(claims) >= len(checks) >= 3


@chapters
def test_figures_and_tables_have_names_and_words(path, executed):
    figures = shown(executed[path.stem], FIGURE_MIME)
    assert figures
    for figure in figures:
        assert len(figure["alt"]) >= 40, figure["name"]
        assert len(figure["caption"]) >= 20, figure["name"]
    names = [item["name"] for item in figures + shown(executed[path.stem], TABLE_MIME)]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_notebook_runs_from_the_root_too():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}, timeout=300).execute()
    assert shown(notebook, CLAIMS_MIME)


def test_names_are_unique_in_the_book(executed):
    names = [
        item["name"]
        for notebook in executed.values()
        for item in shown(notebook, FIGURE_MIME) + shown(notebook, TABLE_MIME)
    ]
    assert len(set(names)) == len(names)


PUBLISHED_FIGURES = {
    "trace plot of mfe": "fig-trace-fixed",
    "rank plots of mfe": "fig-rank-fixed",
    "trace plot of mme0": "fig-trace-centered",
    "rank plot of mme0": "fig-rank-centered",
    "bar chart: ESS per district, fixed against mixed": "fig-ess",
    "pair plot with divergences marked": "fig-pairs-target",
    "trace plot of sigma": "fig-trace-sigma-target",
    "rank plot of sigma": "fig-rank-sigma-target",
    "prior densities for alpha_bar and sigma": "fig-prior-densities",
    "pair plot of mme4": "fig-pairs-non-centered",
    "rank plot of sigma under mme4": "fig-rank-non-centered",
    "table: alpha recovered row by row": "tab-recovered",
    "three-panel forest plot on one scale": "fig-forest",
}


@pytest.mark.parametrize("published", PUBLISHED_FIGURES)
def test_published_figure_has_its_counterpart(published, executed):
    names = {
        item["name"]
        for notebook in executed.values()
        for item in shown(notebook, FIGURE_MIME) + shown(notebook, TABLE_MIME)
    }
    assert PUBLISHED_FIGURES[published] in names


# The published specifications, written without PyMC. Counts enter as one Bernoulli per woman.
WOMEN, USERS = np.array([117, 20, 2]), np.array([30, 7, 2])


def log_likelihood(alpha):
    p = expit(alpha)
    return (USERS * np.log(p) + (WOMEN - USERS) * np.log1p(-p)).sum()


def fixed_effects(q):
    return stats.norm.logpdf(q["alpha"], 0, 1.5).sum() + log_likelihood(q["alpha"])


def centered(sigma_prior):
    def log_density(q):
        sigma = np.exp(q["sigma_log__"])
        return (
            stats.norm.logpdf(q["alpha_bar"], 0, 1.5)
            + sigma_prior.logpdf(sigma)
            + q["sigma_log__"]  # Jacobian of sigma = exp(log sigma)
            + stats.norm.logpdf(q["alpha"], q["alpha_bar"], sigma).sum()
            + log_likelihood(q["alpha"])
        )

    return log_density


def non_centered(q):
    sigma = np.exp(q["sigma_log__"])
    return (
        stats.norm.logpdf(q["alpha_bar"], 0, 1.5)
        + stats.halfnorm.logpdf(sigma, scale=0.5)
        + q["sigma_log__"]
        + stats.norm.logpdf(q["z"]).sum()
        + log_likelihood(q["alpha_bar"] + q["z"] * sigma)
    )


SPECIFICATIONS = {
    "mfe, a row per woman": ("02_fixed_effects", "mfe", fixed_effects),
    "mfe": ("02_fixed_effects", "mfe_counts", fixed_effects),
    "mme0": ("03_centered", "centered_model", centered(stats.expon())),
    "mme1 and mme2": ("04_target_accept", "centered_model", centered(stats.expon())),
    "mme3": ("05_tighter_priors", "models['mme3']", centered(stats.halfnorm(scale=0.25))),
    "mme3b": ("05_tighter_priors", "models['mme3b']", centered(stats.halfnorm(scale=0.1))),
    "mme4": ("06_non_centered", "non_centered_model", non_centered),
}


@pytest.mark.parametrize("published", SPECIFICATIONS)
def test_model_has_the_published_specification(published):
    """Run the cells of the chapter that define models, and compare log densities."""
    chapter, expression, formula = SPECIFICATIONS[published]
    path = next(path for path in NOTEBOOKS if path.stem == chapter)
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    names: dict = {}
    for cell in [cells[0], *(c for c in cells if "model" in c.metadata.get("tags", []))]:
        exec(compile(cell.source, chapter, "exec"), names)
    model = eval(expression, names)
    log_density = model.compile_logp()
    rng = np.random.default_rng(5)
    differences = []
    for _ in range(30):
        point = {name: rng.normal(size=np.shape(v)) for name, v in model.initial_point().items()}
        differences.append(log_density(point) - formula(point))
    # Counts keep the binomial coefficient, rows do not have one: a constant is no difference.
    assert np.ptp(differences) < 1e-9
