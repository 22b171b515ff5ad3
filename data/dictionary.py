"""The three models of the dictionary in PyMC and Bambi, and what each tool does unasked.

    python data/dictionary.py > fits.json && mv fits.json data/dictionary.json    (some minutes)

Run it from the project's root. The parts between ``# [name]`` and ``# [end]`` are shown in the book,
word for word, and run here; ``# [name: package]`` says which package's version stands below it, where
the part does not name it. "code" in the JSON is a digest of this file without its comments: a test
fails until the JSON is that of the script. The parts in R are in r_dictionary.R.
"""
# ruff: noqa: E402, F811 (a part imports what it needs, as whoever pastes it does)
# fmt: off

import hashlib
import inspect
import json
import logging
import platform
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import nutpie
import pandas as pd
from pymc.step_methods.hmc.base_hmc import BaseHMC

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
started, means = time.monotonic(), {"districts": {}, "trial": {}, "schools": {}}
out, sys.stdout = sys.stdout, sys.stderr  # what the parts print is not the result
OF_TRIAL = ["intercept", "effect", "sd_intercept", "sd_effect", "corr"]
OF_SCHOOLS = ["intercept", "slope", "sd_intercept", "sd_slope", "correlation", "sigma"]


def found(fit, values):
    """Return means, their errors and sds of what was drawn, and how often the path was lost."""
    drawn = {name: value.transpose("chain", "draw").to_numpy() for name, value in values.items()}
    return {
        "means": {
            name: {
                "mean": float(value.mean()),
                "mcse": float(az.mcse(value, method="mean")),
                "sd": float(value.std(ddof=1)),
            }
            for name, value in drawn.items()
        },
        "divergences": int(fit.sample_stats["diverging"].sum()),
        "rhat": max(float(az.rhat(value)) for value in drawn.values()),
    }


def say(words):
    """Tell whoever waits what is done."""
    print(f"{time.monotonic() - started:4.0f} s  {words}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------
# The three districts

# [districts: Python]
import pandas as pd

districts = pd.DataFrame(
    {
        "users": [30, 7, 2],
        "women": [117, 20, 2],
        "district": ["1", "2", "3"],
    }
)
# [end]

# [districts_pymc: pymc, nutpie]
import pymc as pm

with pm.Model(coords={"district": districts["district"]}) as model:
    alpha_bar = pm.Normal("alpha_bar", 0, 1.5)
    sigma = pm.Exponential("sigma", 1)
    z = pm.Normal("z", 0, 1, dims="district")
    alpha = pm.Deterministic(
        "alpha", alpha_bar + sigma * z, dims="district"
    )
    pm.Binomial(
        "users",
        n=districts["women"],
        logit_p=alpha,
        observed=districts["users"],
        dims="district",
    )
    fit = pm.sample(chains=4, target_accept=0.99, random_seed=1)
# [end]

# [read_pymc: pymc, arviz]
import arviz as az

int(fit.sample_stats["diverging"].sum())
az.summary(fit, var_names=["alpha_bar", "sigma", "alpha"])
draws = fit.posterior  # by chain and draw
float(draws["sigma"].mean())
az.extract(fit)["alpha"].sel(district="3")  # one row of draws
# [end]
means["districts"]["PyMC"] = found(
    fit,
    {"alpha_bar": draws["alpha_bar"], "sigma": draws["sigma"]}
    | {f"alpha[{j}]": draws["alpha"].sel(district=str(j)) for j in (1, 2, 3)},
)
sampled_by = str(fit.posterior.attrs.get("inference_library"))
say("districts in PyMC")

# [districts_bambi: pymc, bambi, nutpie]
import bambi as bmb

model = bmb.Model(
    "p(users, women) ~ 1 + (1 | district)",
    districts,
    family="binomial",
    priors={
        "Intercept": bmb.Prior("Normal", mu=0, sigma=1.5),
        "1|district": bmb.Prior(
            "Normal", mu=0, sigma=bmb.Prior("Exponential", lam=1)
        ),
    },
)
fit = model.fit(chains=4, target_accept=0.99, random_seed=1)
# [end]

# [read_bambi: bambi, arviz]
import arviz as az

int(fit.sample_stats["diverging"].sum())
az.summary(fit)
print(model)  # formula, family and priors, the automatic ones too
draws = fit.posterior
float(draws["1|district_sigma"].mean())
draws["Intercept"] + draws["1|district"]  # each district
# [end]
of_each = draws["Intercept"] + draws["1|district"]
means["districts"]["Bambi"] = found(
    fit,
    {"alpha_bar": draws["Intercept"], "sigma": draws["1|district_sigma"]}
    | {f"alpha[{j}]": of_each.sel(district__factor_dim=str(j)) for j in (1, 2, 3)},
)
names_in_bambi = sorted(map(str, draws.data_vars))
districts_graph = sorted(variable.name for variable in model.backend.model.free_RVs)
say("districts in Bambi")

# ---------------------------------------------------------------------------------------------
# The trial

# [trial: Python]
import pandas as pd

trial = pd.DataFrame(
    {
        "site": list("ABCDE") * 2,
        "intervention": [0] * 5 + [1] * 5,
        "successes": [2, 29, 0, 0, 6, 1, 46, 4, 0, 7],
        "n": [15, 150, 25, 10, 50] * 2,
    }
)
# [end]

# [trial_pymc: pymc, nutpie]
import pandas as pd
import pymc as pm

site, sites = pd.factorize(trial["site"])
arm = trial["intervention"].to_numpy()
with pm.Model(coords={"site": sites}) as model:
    intercept = pm.Normal("intercept", -1, 1)  # half-way between the arms
    effect = pm.Normal("effect", 0, 1)
    sd_intercept = pm.HalfNormal("sd_intercept", 0.5)
    sd_effect = pm.HalfNormal("sd_effect", 0.5)
    # LKJ(4) on one correlation: (1 + corr) / 2 is Beta(4, 4)
    corr = pm.Deterministic("corr", 2 * pm.Beta("corr_half", 4, 4) - 1)
    z1 = pm.Normal("z1", dims="site")
    z2 = pm.Normal("z2", dims="site")
    u = sd_intercept * z1
    v = sd_effect * (corr * z1 + (1 - corr**2) ** 0.5 * z2)
    of_sites = u[site] + v[site] * arm
    logits = intercept + effect * (arm - arm.mean()) + of_sites
    pm.Binomial(
        "successes",
        n=trial["n"],
        logit_p=logits,
        observed=trial["successes"],
    )
    fit = pm.sample(chains=4, target_accept=0.95, random_seed=1)
# [end]
means["trial"]["PyMC"] = found(fit, {name: fit.posterior[name] for name in OF_TRIAL})
say("trial in PyMC")

# [trial_bambi: pymc, bambi, nutpie]
import bambi as bmb

half_normal = bmb.Prior("HalfNormal", sigma=0.5)
of_sites = bmb.Prior("Normal", mu=0, sigma=half_normal)
model = bmb.Model(
    "p(successes, n) ~ intervention + (1 + intervention | site)",
    trial,
    family="binomial",
    priors={
        "Intercept": bmb.Prior("Normal", mu=-1, sigma=1),
        "intervention": bmb.Prior("Normal", mu=0, sigma=1),
        "1|site": of_sites,
        "intervention|site": of_sites,
    },
)
fit = model.fit(chains=4, target_accept=0.95, random_seed=1)
# [end]
draws = fit.posterior
at_mean = draws["Intercept"] + draws["intervention"] * float(trial["intervention"].mean())
sds = [draws["1|site_sigma"], draws["intervention|site_sigma"]]
means["trial"]["Bambi"] = found(
    fit, dict(zip(OF_TRIAL, [at_mean, draws["intervention"], *sds], strict=False))
)
trial_graph = sorted(variable.name for variable in model.backend.model.free_RVs)
unasked = bmb.Model(
    "p(successes, n) ~ intervention + (1 + intervention | site)", trial, family="binomial"
)
unasked.build()
automatic = str(unasked)
say("trial in Bambi")

# ---------------------------------------------------------------------------------------------
# The schools

# [schools: Python]
import pandas as pd

schools = pd.read_csv("data/schools.csv")[["math", "ses", "school"]]
first = schools["school"].unique()[:40]
schools = schools[schools["school"].isin(first)]
# [end]

# [schools_pymc: pymc, nutpie]
import pandas as pd
import pymc as pm

school, labels = pd.factorize(schools["school"])
ses = schools["ses"].to_numpy()
with pm.Model(coords={"school": labels}) as model:
    intercept = pm.Normal("intercept", 0, 20)
    slope = pm.Normal("slope", 0, 20)
    sd_intercept = pm.HalfNormal("sd_intercept", 5)
    sd_slope = pm.HalfNormal("sd_slope", 5)
    # LKJ(2) on one correlation: (1 + r) / 2 is Beta(2, 2)
    r = pm.Deterministic("correlation", 2 * pm.Beta("r_half", 2, 2) - 1)
    z1 = pm.Normal("z1", dims="school")
    z2 = pm.Normal("z2", dims="school")
    u = sd_intercept * z1
    v = sd_slope * (r * z1 + (1 - r**2) ** 0.5 * z2)
    sigma = pm.HalfNormal("sigma", 10)
    mu = intercept + u[school] + (slope + v[school]) * ses
    pm.Normal("math", mu, sigma, observed=schools["math"])
    fit = pm.sample(chains=4, target_accept=0.95, random_seed=1)
# [end]
means["schools"]["PyMC"] = found(fit, {name: fit.posterior[name] for name in OF_SCHOOLS})
say("schools in PyMC")

# [schools_bambi: pymc, bambi, nutpie]
import bambi as bmb

half_normal = bmb.Prior("HalfNormal", sigma=5)
of_schools = bmb.Prior("Normal", mu=0, sigma=half_normal)
model = bmb.Model(
    "math ~ ses + (ses | school)",
    schools,
    priors={
        "Intercept": bmb.Prior("Normal", mu=0, sigma=20),
        "ses": bmb.Prior("Normal", mu=0, sigma=20),
        "1|school": of_schools,
        "ses|school": of_schools,
        "sigma": bmb.Prior("HalfNormal", sigma=10),
    },
)
fit = model.fit(chains=4, target_accept=0.95, random_seed=1)
# [end]
draws = fit.posterior
means["schools"]["Bambi"] = found(
    fit,
    {
        "intercept": draws["Intercept"],
        "slope": draws["ses"],
        "sd_intercept": draws["1|school_sigma"],
        "sd_slope": draws["ses|school_sigma"],
        "sigma": draws["sigma"],
    },
)
say("schools in Bambi")

# ---------------------------------------------------------------------------------------------
# What the tools do unasked


def default(function, name):
    """Return what an argument is where nobody gives it."""
    return inspect.signature(function).parameters[name].default


of_nutpie = nutpie._lib.PyNutsSettings.Diag(0).as_dict()["settings"]
seen = {
    "nutpie": {
        "target_accept": of_nutpie["adapt_options"]["step_size_settings"]["target_accept"],
        "maxdepth": of_nutpie["maxdepth"],
    },
    "PyMC": {
        "target_accept": default(BaseHMC, "target_accept"),
        "max_treedepth": default(pm.NUTS, "max_treedepth"),
        "draws": default(pm.sample, "draws"),
        "chains": default(pm.sample, "chains"),
        "nuts_sampler": default(pm.sample, "nuts_sampler"),
        "sampled_by": sampled_by,
    },
    "Bambi": {
        "noncentered": default(bmb.Model, "noncentered"),
        "center_predictors": default(bmb.Model, "center_predictors"),
        "inference_method": default(bmb.Model.fit, "inference_method"),
        "names": names_in_bambi,
        "districts": districts_graph,
        "trial": trial_graph,
        "automatic": automatic,
    },
}
packages = ["pymc", "bambi", "arviz", "nutpie"]
versions = {"Python": platform.python_version()} | {name: metadata.version(name) for name in packages}
lines = Path(__file__).read_text(encoding="utf-8").splitlines()
code = "".join(f"{line}\n" for line in lines if line.strip() and not line.lstrip().startswith("#"))
result = {
    "what": (
        "The three models of the dictionary in PyMC and Bambi. means: of the posterior, with their "
        "Monte Carlo standard errors and the posterior sds. intercept: of the trial half-way between "
        "the arms, of the schools at a ses of zero. Bambi's models of the trial and of the schools have "
        "no correlation. seen: what the tools say of themselves and of the graphs that they built."
    ),
    "made_with": "python data/dictionary.py",
    "code": hashlib.md5(code.encode()).hexdigest(),
    "fits": {
        "versions": versions,
        "seen": seen,
        "means": means,
        "minutes": round((time.monotonic() - started) / 60, 1),
    },
}
print(json.dumps(result, indent=1), file=out)
