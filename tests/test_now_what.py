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
from bs4 import BeautifulSoup
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
    done = subprocess.run(["Rscript", "-e", code], cwd=ROOT, capture_output=True, text=True, check=False)
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


def test_every_place_and_form_has_a_step():
    grid = PAGE.partition("| | the form is centered")[2].splitlines()[2:5]
    cells = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in grid]
    named = re.findall(r"\n- \*\*(Low|High|Scattered)\*\*", PAGE)
    assert [row[0] for row in cells] == [name.lower() for name in named]
    steps = set(re.findall(r"### Step (\d)", PAGE))
    assert {step for row in cells for step in row[1:]} <= {f"step {n}" for n in steps}


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


def place(said, name, bare=False):
    number = r"(\S+)" if bare else r"\[(.*)\]"
    return float(re.search(rf"^{name} {number}$", said, re.MULTILINE).group(1))


def test_where_divergences_are_is_printed_and_the_limits_tell_neck_from_mouth(fits):
    _, code, *_ = snippets("python", "Divergences")
    low, high = (float(re.search(rf"([\d.]+) or {word}", PAGE).group(1)) for word in ("less", "more"))
    for fit in fits["centered"]:
        said, _ = printed(code, fit=fit)
        assert said.startswith(f"{int(fit.sample_stats['diverging'].sum())} of 4000 transitions")
        assert place(said, "sigma") <= low
    seen = [place(printed(code, fit=fit)[0], "sigma") for fit in fits["non-centered"]]
    assert np.median(seen) >= high
    assert min(seen) > 0.5


def test_the_diagnosis_is_that_of_a_neck_and_not_of_a_healthy_fit(fits):
    code, *_ = snippets("python", "Divergences")
    for fit in fits["centered"][:2]:
        said, _ = printed(code, fit=fit)
        assert f"{int(fit.sample_stats['diverging'].sum())} divergences" in said
        assert "non-centered" in said


@pytest.mark.slow
def test_the_other_form_as_it_is_written_there_cures_the_three_districts():
    _, _, code, _ = snippets("python", "Divergences")
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


def edited(fit, **changes):
    """A fit with other draws of some variables."""
    changed = fit.copy()
    changed["posterior"] = type(fit)(fit["posterior"].to_dataset().assign(changes))
    return changed


def test_how_far_means_moved_is_printed_in_monte_carlo_errors(fits):
    *_, code = snippets("python", "Divergences")
    before, fit = fits["non-centered"][:2]
    same, _ = printed(code, before=before, fit=fit)
    assert abs(place(same, "sigma", bare=True)) < 5
    sigma = fit["posterior"]["sigma"]
    shift = 10 * float(np.hypot(*(az.mcse(one)["sigma"] for one in (before, fit))))
    moved, _ = printed(code, before=before, fit=edited(fit, sigma=sigma + shift))
    assert place(moved, "sigma", bare=True) - place(same, "sigma", bare=True) == pytest.approx(
        10, abs=0.2
    )


@pytest.mark.parametrize("sits", [True, False])
def test_chains_that_sit_are_told_from_chains_that_wander(fits, sits):
    (code,) = snippets("python", "R-hat")
    fit = fits["non-centered"][0]
    sigma = fit["posterior"]["sigma"]
    by_chain = np.array([3.0, 0, 0, 0])[:, None]
    by_half = np.repeat([[3.0, 0], [0, 3], [0, 0], [3, 3]], sigma.sizes["draw"] // 2, axis=1)
    said, _ = printed(code, fit=edited(fit, sigma=sigma + (by_chain if sits else by_half)))
    name, *rows = said.splitlines()
    assert name.startswith("sigma ")
    first, second = (np.array(row.strip("[]").split(), dtype=float) for row in rows)
    assert np.ptp(first) > 2
    assert (np.abs(first - second).max() < 2) == sits


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
before <- fit
fit <- suppressWarnings(%s)
%s
"""


@pytest.mark.slow
def test_rs_snippets_say_where_which_and_how_far():
    where, moved = snippets("r", "Divergences")
    (which,) = snippets("r", "R-hat")
    (again,) = re.findall(r"\| brms \| `fit <- (update.*?)` \|", PAGE)
    columns = [", ".join(map(str, COUNTS[name])) for name in ("users", "women")]
    said = r(BRMS % (*columns, where + which, again.replace("))", "), refresh = 0)"), moved), "brms")
    assert re.search(r"\d+ of 4000 transitions diverged", said)
    placed, rest = said.split("diverged\n")[1].split("\n", 2)[1:]
    assert "sd_district__Intercept" in said
    assert len(re.findall(r"^ *1 +2 +3 +4 *$", rest, re.MULTILINE)) == 2
    assert rest.count("sd_district__Intercept") >= 1, placed


@pytest.mark.slow
def test_rs_snippets_on_a_singular_fit_say_where_and_how_flat():
    where, flat = snippets("r", "Boundary (singular) fit")
    fitted = (
        'schools <- read.csv("data/schools.csv")\n'
        "fit <- lme4::lmer(math ~ ses * sector + (ses | school), schools)\n"
    )
    said = r("suppressMessages(library(lme4))\n" + fitted + where + flat, "lme4")
    likelihoods = [float(one) for one in re.findall(r"-\d{5}\.\d+", said)[:2]]
    assert np.ptp(likelihoods) < 0.01
    assert re.search(r"school +\(Intercept\).*\n +ses .* 1\.00", said)
    lost = float(re.search(r"^again .*?(\d\.\d+) +2 ", said, re.MULTILINE).group(1))
    assert lost == pytest.approx(5.05, abs=0.05)


# ---------------------------------------------------------------------------------------------
# As it is read


@pytest.mark.book
def test_claims_of_one_chapter_stand_together(site):
    page = BeautifulSoup((site / "book" / "now_what.html").read_text(encoding="utf-8"), "html.parser")
    asked = re.findall(r"```{findings}\n(.*?)```", PAGE, re.DOTALL)
    shown = page.select("dl.findings")
    assert len(shown) == len(asked)
    for listed, lines in zip(shown, map(str.splitlines, asked), strict=True):
        assert len(listed.select("dt")) == len({line.partition(":")[0] for line in lines})
        assert len(listed.select("dd p")) == len(lines)


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
