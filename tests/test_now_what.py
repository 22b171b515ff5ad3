"""The page for somebody with a warning on the screen: its lines, its snippets, its one printed page."""

import contextlib
import inspect
import io
import json
import re
import subprocess

import arviz as az
import numpy as np
import nutpie
import pymc as pm
import pytest
import statsmodels.regression.mixed_linear_model
from conftest import ROOT
from test_r import need_r

from fieldguide import exact_posterior, load_three_districts, score
from fieldguide.fits import sample_seeds
from fieldguide.models import varying_intercept_model
from fieldguide.priors import SIGMA_PRIOR

PAGE = (ROOT / "book" / "now_what.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.partition("| the line")[2].partition(":::")[0].splitlines()[2:]
]
COUNTS = load_three_districts()


def snippets(language, heading):
    """The page's code of a language below a heading of the second level."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)


def printed(code, **names):
    """What a snippet prints, and the names that it leaves."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue(), names


# ---------------------------------------------------------------------------------------------
# The lines


def said_by_python(fit):
    """What the Python packages can print: the words of their code, and PyMC's on a real fit."""
    modules = (pm.stats.convergence, nutpie.sample, statsmodels.regression.mixed_linear_model)
    sources = [inspect.getsource(inspect.getmodule(module)) for module in modules]
    words = [one.message for one in pm.stats.convergence.warn_divergences(fit)]
    return squeezed(re.sub(r'"\s+"', "", "\n".join(sources + words)))


def squeezed(text):
    return re.sub(r"\s+", " ", text)


def pieces(line):
    """The words of a line between its gaps."""
    line = line.replace("\\|", "|").replace("*", "")
    words = re.split(r"…|; | above 0 in the progress table|, or Tail", line)
    return [squeezed(word).strip(" ,") for word in words if len(word.strip()) > 3]


@pytest.mark.parametrize("tool", ["PyMC", "nutpie", "statsmodels"])
def test_the_lines_are_those_that_the_python_packages_print(fits, tool):
    said = said_by_python(fits["centered"][0])
    lines = [row[0] for row in ROWS if tool in row[1]]
    assert lines
    for line in lines:
        for piece in pieces(line):
            assert piece in said, piece


R_SOURCES = """
text <- function(f) paste(deparse(f, width.cutoff = 500L), collapse = " ")
said <- c(
  rstan = text(rstan:::throw_sampler_warnings),
  brms = text(utils::getS3method("summary", "brmsfit", envir = asNamespace("brms"))),
  lme4 = text(lme4:::checkConv)
)
cat(jsonlite::toJSON(as.list(said), auto_unbox = TRUE))
"""


def r(code, *packages):
    """What R prints of some code; the test is skipped where a package is missing."""
    need_r(*packages)
    done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_lines_are_those_that_rs_packages_print():
    said = json.loads(r(R_SOURCES, "rstan", "brms", "lme4", "jsonlite"))
    said = {name: re.sub(r'"\s*,\s*"', "", text).replace("\\n", " ") for name, text in said.items()}
    for line, by, _ in ROWS:
        for tool in said:
            if tool in by.split("; ")[0].split(", ") and not (tool == "brms" and "rstan" in by):
                for piece in pieces(line):
                    if "E-BFMI" not in piece:  # cmdstanr's
                        assert piece in squeezed(said[tool]), piece


def test_every_line_leads_to_a_part_of_the_page():
    anchors = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"\n## (.*)", PAGE)
    }
    for line, _, where in ROWS:
        assert re.search(r"now_what\.md#([\w-]+)\)", where).group(1) in anchors, line


def test_a_part_leads_in_at_most_four_steps():
    for part in PAGE.split("\n## ")[1:]:
        steps = [int(number) for number in re.findall(r"(?:### |\*\*)Step (\d)", part)]
        assert steps == list(range(1, len(steps) + 1)), part[:40]
        assert 2 <= len(steps) <= 4, part[:40]


# ---------------------------------------------------------------------------------------------
# The snippets


@pytest.fixture(scope="module")
def fits():
    users, women = COUNTS["users"].to_numpy(), COUNTS["women"].to_numpy()
    models = {
        form: varying_intercept_model(users, women, parameterization=form)
        for form in ("centered", "non-centered")
    }
    return {form: sample_seeds(model, range(8), cores=1) for form, model in models.items()}


def place(said, name):
    return float(re.search(rf"^{name} \[(.*)\]$", said, re.MULTILINE).group(1))


def test_where_divergences_are_is_printed_and_the_limits_tell_neck_from_mouth(fits):
    (code, _) = snippets("python", "Divergences")
    low, high = (float(re.search(rf"at ([\d.]+) or {word}", PAGE).group(1)) for word in ("less", "more"))
    for fit in fits["centered"]:
        said, _ = printed(code, fit=fit)
        assert said.startswith(f"{int(fit.sample_stats['diverging'].sum())} of 4000 transitions")
        assert place(said, "sigma") <= low
    seen = [place(printed(code, fit=fit)[0], "sigma") for fit in fits["non-centered"]]
    assert np.median(seen) >= high
    assert min(seen) > 0.5


@pytest.mark.slow
def test_the_other_form_as_it_is_written_there_cures_the_three_districts():
    (_, code) = snippets("python", "Divergences")
    _, names = printed(
        code,
        groups=[str(one) for one in COUNTS.index],
        trials=COUNTS["women"].to_numpy(),
        successes=COUNTS["users"].to_numpy(),
    )
    fit = names["fit"]
    named = fit["posterior"].to_dataset().rename(mu="alpha_bar", group="district")
    fit["posterior"] = type(fit)(named)
    exact = exact_posterior(
        COUNTS["users"],
        COUNTS["women"],
        sigma_prior=SIGMA_PRIOR,
        district=[str(k) for k in COUNTS.index],
    )
    found = score(fit, exact, label="now what")
    assert found.divergences <= 10
    assert found.errors["mcse_error"].abs().max() < 5


def test_chains_that_disagree_are_named(fits):
    (code,) = snippets("python", "R-hat")
    fit = fits["non-centered"][0].copy()
    moved = fit["posterior"].to_dataset()
    shift = np.array([3.0, 0, 0, 0])[:, None]
    fit["posterior"] = type(fit)(moved.assign(sigma=moved["sigma"] + shift))
    said, _ = printed(code, fit=fit)
    name, means, _ = said.split("\n", 2)
    assert name.startswith("sigma ")
    means = np.array(means.strip("[]").split(), dtype=float)
    assert means.argmax() == 0
    assert means[0] > means[1:].max() + 2


def test_the_table_of_diagnostics_is_printed(fits):
    (code,) = snippets("python", "Effective sample size")
    said, _ = printed(code, fit=fits["non-centered"][0])
    assert f"{az.ess(fits['non-centered'][0])['sigma'].item():.0f}"[:2] in said
    assert "ess_bulk" in said


def test_the_report_on_a_singular_fit_is_printed():
    (code,) = snippets("python", "Boundary (singular) fit")
    said, _ = printed(code)
    assert "singular" in said
    assert "REML" in said


BRMS = """
suppressMessages(library(brms))
if (dir.exists("/usr/include/boost")) rstan::rstan_options(boost_lib = "/usr/include")
counts <- data.frame(district = factor(1:3), users = c(%s), women = c(%s))
fit <- suppressWarnings(brm(users | trials(women) ~ 1 + (1 | district), counts, family = binomial(),
  prior = c(prior(normal(0, 1.5), class = Intercept), prior(exponential(1), class = sd)),
  chains = 4, seed = 1, refresh = 0))
%s
"""


@pytest.mark.slow
def test_rs_snippets_say_where_and_which():
    code = snippets("r", "Divergences") + snippets("r", "R-hat")
    assert len(code) == 2
    columns = [", ".join(map(str, COUNTS[name])) for name in ("users", "women")]
    said = r(BRMS % (*columns, "\n".join(code)), "brms", "posterior")
    assert re.search(r"\d+ of 4000 transitions diverged", said)
    assert "sd_district__Intercept" in said
    assert len(re.findall(r"^ *1 +2 +3 +4 *$", said, re.MULTILINE)) == 2


# ---------------------------------------------------------------------------------------------
# To print


@pytest.mark.book
def test_the_one_page_is_one_page(site, browser):
    from pypdf import PdfReader

    tab = browser.new_page()
    tab.goto((site / "book" / "one_page.html").as_uri())
    pages = PdfReader(io.BytesIO(tab.pdf(format="A4", print_background=True))).pages
    assert len(pages) == 1
    text = re.sub(r"\s+", " ", pages[0].extract_text())
    for words in ("divergences", "R-hat", "ESS", "tree depth", "E-BFMI", "singular fit", "Stop"):
        assert words in text
    tab.close()
