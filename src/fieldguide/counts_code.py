"""A reader's counts as a program that is ready to run: in PyMC, in Bambi, and in R with brms."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from fieldguide.counts_table import Counts
from fieldguide.priors import Prior, prior_name, prior_parameters

TOOLS = ("pymc", "bambi", "brms")
"""What a program can be written for."""

MOST_INLINE = 60
"""Groups up to which the counts stand in the program; more are read from a file."""

FILE = "counts.csv"
"""The file that a program reads where the reader's own does not hold the counts as they are."""


@dataclass(frozen=True)
class Recipe:
    """What a program is written from.

    Attributes
    ----------
    counts : Counts
    alpha_prior, sigma_prior : frozen SciPy distributions
    form : str
        ``"centered"``, ``"non-centered"`` or ``"mixed"``.
    weights : ndarray, shape (J,)
        How far each group is centered in the mixed form, from 0 to 1.
    spread : float
        The spread that weights are computed from where a program computes them itself, in logits.
    target : float
        Acceptance that the sampler aims at.
    """

    counts: Counts
    alpha_prior: Prior
    sigma_prior: Prior
    form: str
    weights: np.ndarray
    spread: float
    target: float

    @property
    def inline(self) -> bool:
        """Whether the counts stand in the program."""
        return len(self.counts.group) <= MOST_INLINE


def program(tool: str, recipe: Recipe) -> str:
    """Write the program.

    Parameters
    ----------
    tool : {"pymc", "bambi", "brms"}
    recipe : Recipe

    Raises
    ------
    ValueError
        If there is no such tool, or it has no name for a prior.
    """
    written = {"pymc": _pymc, "bambi": _bambi, "brms": _brms}
    if tool not in written:
        raise ValueError(f"There is no program for {tool!r}; choose one of {', '.join(TOOLS)}.")
    return written[tool](recipe)


# ---------------------------------------------------------------------------------------------
# Priors

_KEYWORDS = {
    "expon": ("Exponential", "lam"),
    "halfnorm": ("HalfNormal", "sigma"),
    "halfcauchy": ("HalfCauchy", "beta"),
    "half_student_t": ("HalfStudentT", "nu", "sigma"),
    "gamma": ("Gamma", "alpha", "beta"),
    "invgamma": ("InverseGamma", "alpha", "beta"),
    "lognorm": ("LogNormal", "mu", "sigma"),
    "uniform": ("Uniform", "lower", "upper"),
}
_IN_STAN = {
    "expon": "exponential({0})",
    "halfnorm": "normal(0, {0})",
    "halfcauchy": "cauchy(0, {0})",
    "half_student_t": "student_t({0}, 0, {1})",
    "gamma": "gamma({0}, {1})",
    "invgamma": "inv_gamma({0}, {1})",
    "lognorm": "lognormal({0}, {1})",
}


def _numbers(prior: Prior) -> tuple[str, list[str]]:
    """Family of a prior, and its parameters as PyMC writes them, with all their digits."""
    family, shapes, loc, scale = prior_parameters(prior)
    values: dict[str, tuple] = {
        "expon": (1 / scale,),
        "halfnorm": (scale,),
        "halfcauchy": (scale,),
        "half_student_t": (*shapes, scale),
        "gamma": (*shapes, 1 / scale),
        "invgamma": (*shapes, scale),
        "lognorm": (np.log(scale), *shapes),
        "uniform": (loc, loc + scale),
    }
    if family not in values or (loc != 0 and family != "uniform"):
        raise ValueError(
            f"A program cannot name the prior {prior_name(prior)}; choose one of "
            f"{', '.join(name for name, *_ in _KEYWORDS.values())}."
        )
    return family, [_number(value) for value in values[family]]


def _number(value: float) -> str:
    return f"{float(value) + 0:.12g}"


def _in_python(prior: Prior) -> tuple[str, str]:
    """Class and keyword arguments of sigma's prior."""
    family, numbers = _numbers(prior)
    name, *keywords = _KEYWORDS[family]
    return name, ", ".join(f"{k}={v}" for k, v in zip(keywords, numbers, strict=True))


def _in_stan(prior: Prior) -> str:
    family, numbers = _numbers(prior)
    if family not in _IN_STAN:
        raise ValueError(
            f"brms has no bounded prior {prior_name(prior)} on a standard deviation; take another "
            "prior, or the programs for PyMC and Bambi."
        )
    return _IN_STAN[family].format(*numbers)


def _centre(prior: Prior) -> tuple[str, str]:
    _, _, mean, sd = prior_parameters(prior)
    return _number(mean), _number(sd)


# ---------------------------------------------------------------------------------------------
# Data


def _array(values: np.ndarray, digits: str = "d", width: int = 88) -> str:
    """Write numbers as a list over several lines."""
    lines, line = [], "   "
    for value in values:
        word = f" {value:{digits}},"
        if len(line) + len(word) > width:
            lines.append(line)
            line = "   "
        line += word
    return "[\n" + "\n".join([*lines, line]) + "\n]"


def _strings(names: list[str]) -> str:
    lines = [f"    {name!r}," for name in names]
    return "[\n" + "\n".join(lines) + "\n]"


def _source(counts: Counts) -> tuple[str, dict[str, str], str]:
    """File, names of its columns, and what separates them."""
    if counts.path is None:
        names = {"group": "group", "successes": "successes", "trials": "trials"}
        return FILE, names, ","
    return counts.path, counts.called, counts.separator


def _where_from(counts: Counts) -> str:
    if counts.path is None:
        return f"# {FILE} has one row per group; your_counts(...).save_counts({FILE!r}) writes it.\n"
    return ""


def _python_data(recipe: Recipe) -> str:
    counts = recipe.counts
    if recipe.inline:
        return (
            f"group = {_strings(counts.group)}\n"
            f"successes = np.array({_array(counts.successes)})\n"
            f"trials = np.array({_array(counts.trials)})\n"
        )
    path, names, separator = _source(counts)
    apart = "" if separator == "," else f", sep={separator!r}"
    return (
        f"{_where_from(counts)}"
        f"kinds = {{{names['group']!r}: str}}\n"
        f"table = pd.read_csv({path!r}, dtype=kinds, skipinitialspace=True{apart})\n"
        f"group = table[{names['group']!r}].str.strip().to_list()\n"
        f"successes = table[{names['successes']!r}].to_numpy(int)\n"
        f"trials = table[{names['trials']!r}].to_numpy(int)\n"
    )


# ---------------------------------------------------------------------------------------------
# PyMC

_EFFECTS = {
    "centered": (
        "# Centered: the counts of every group say more of it than the other groups do.\n",
        '    alpha = pm.Normal("alpha", alpha_bar, sigma, dims="group")\n',
    ),
    "non-centered": (
        "# Non-centered: the form for groups that know little, and for a sigma that may be small.\n",
        '    z = pm.Normal("z", 0, 1, dims="group")\n'
        '    alpha = pm.Deterministic("alpha", alpha_bar + sigma * z, dims="group")\n',
    ),
    "mixed": (
        "# Mixed: w is how far each group is centered, the share of what is known of it that its own\n"
        "# counts say. At w = 0 this is the non-centered form, at w = 1 the centered one.\n",
        '    x = pm.Normal("x", w * alpha_bar, sigma**w, dims="group")\n'
        "    alpha = pm.Deterministic(\n"
        '        "alpha", alpha_bar + sigma ** (1 - w) * (x - w * alpha_bar), dims="group"\n'
        "    )\n",
    ),
}


def _weights(recipe: Recipe) -> str:
    if recipe.form != "mixed":
        return ""
    if recipe.inline:
        return f"w = np.array({_array(recipe.weights, '.3f')})\n"
    return (
        "pooled = successes.sum() / trials.sum()\n"
        "share = (successes + pooled) / (trials + 1)\n"
        "information = trials * share * (1 - share)\n"
        f"w = information / (information + 1 / {recipe.spread:.4g} ** 2)\n"
    )


def _pymc(recipe: Recipe) -> str:
    mean, sd = _centre(recipe.alpha_prior)
    name, numbers = _in_python(recipe.sigma_prior)
    comment, effects = _EFFECTS[recipe.form]
    pandas = "" if recipe.inline else "import pandas as pd\n"
    return (
        f"import arviz as az\nimport numpy as np\n{pandas}import pymc as pm\n\n"
        f"{_python_data(recipe)}\n{comment}{_weights(recipe)}"
        'with pm.Model(coords={"group": group}) as model:\n'
        f'    alpha_bar = pm.Normal("alpha_bar", {mean}, {sd})\n'
        f'    sigma = pm.{name}("sigma", {numbers})\n'
        f"{effects}"
        '    pm.Deterministic("rate", pm.math.sigmoid(alpha), dims="group")\n'
        '    pm.Binomial("y", n=trials, logit_p=alpha, observed=successes, dims="group")\n\n'
        'if __name__ == "__main__":\n'
        "    with model:\n"
        f"        fit = pm.sample(target_accept={recipe.target}, random_seed=1)\n"
        '    print(az.summary(fit, var_names=["alpha_bar", "sigma", "rate"]))\n'
    )


# ---------------------------------------------------------------------------------------------
# Bambi


def _bambi(recipe: Recipe) -> str:
    mean, sd = _centre(recipe.alpha_prior)
    name, numbers = _in_python(recipe.sigma_prior)
    spread = f'bmb.Prior("{name}", {numbers})'
    if recipe.form == "centered":
        comment = (
            "# Centered: Bambi builds it where the groups' prior has a mean, and the formula none.\n"
            '# "1|group_mu" is the mean of the groups, "1|group_sigma" their spread.\n'
        )
        formula = "p(successes, trials) ~ 0 + (1|group)"
        priors = (
            '    "1|group": bmb.Prior(\n'
            f'        "Normal", mu=bmb.Prior("Normal", mu={mean}, sigma={sd}),\n'
            f"        sigma={spread},\n    ),\n"
        )
    else:
        comment = (
            "# Non-centered, for all groups alike: Bambi has no mixed form.\n"
            '# A group\'s log odds are "Intercept" and its "1|group" together, their spread is '
            '"1|group_sigma".\n'
        )
        formula = "p(successes, trials) ~ 1 + (1|group)"
        priors = (
            f'    "Intercept": bmb.Prior("Normal", mu={mean}, sigma={sd}),\n'
            f'    "1|group": bmb.Prior("Normal", mu=0, sigma={spread}),\n'
        )
    return (
        "import arviz as az\nimport bambi as bmb\nimport numpy as np\nimport pandas as pd\n\n"
        f"{_python_data(recipe)}\n"
        'data = pd.DataFrame({"group": group, "successes": successes, "trials": trials})\n'
        f"{comment}priors = {{\n{priors}}}\n"
        "model = bmb.Model(\n"
        f'    "{formula}", data, family="binomial", priors=priors, '
        f"noncentered={recipe.form != 'centered'}\n)\n\n"
        'if __name__ == "__main__":\n'
        f"    fit = model.fit(target_accept={recipe.target}, random_seed=1)\n"
        "    print(az.summary(fit))\n"
    )


# ---------------------------------------------------------------------------------------------
# brms


def _brms(recipe: Recipe) -> str:
    mean, sd = _centre(recipe.alpha_prior)
    counts = recipe.counts
    if recipe.inline:
        names = ",\n".join(f"    {json.dumps(name)}" for name in counts.group)
        data = (
            "data <- data.frame(\n"
            f"  group = c(\n{names}\n  ),\n"
            f"  successes = c({', '.join(map(str, counts.successes))}),\n"
            f"  trials = c({', '.join(map(str, counts.trials))})\n)\n"
        )
    else:
        path, called, separator = _source(counts)
        data = (
            f"{_where_from(counts)}"
            f"table <- read.csv({json.dumps(path)}, sep = {json.dumps(separator)},\n"
            f"                  check.names = FALSE, strip.white = TRUE,\n"
            f'                  colClasses = c({json.dumps(called["group"])} = "character"))\n'
            "data <- data.frame(\n"
            f"  group = table[[{json.dumps(called['group'])}]],\n"
            f"  successes = table[[{json.dumps(called['successes'])}]],\n"
            f"  trials = table[[{json.dumps(called['trials'])}]]\n)\n"
        )
    return (
        f"library(brms)\n\n{data}\n"
        "# brms is always non-centered: a group's log odds are Intercept and r_group together.\n"
        "fit <- brm(\n"
        "  successes | trials(trials) ~ 1 + (1 | group),\n"
        "  data = data, family = binomial(),\n"
        "  prior = c(\n"
        f'    prior(normal({mean}, {sd}), class = "Intercept"),\n'
        f'    prior({_in_stan(recipe.sigma_prior)}, class = "sd")\n'
        "  ),\n"
        "  control = list(adapt_delta = 0.95), seed = 1\n)\n"
        "print(summary(fit))\n"
    )
