"""What to type: each remedy in the words of the tool that made the fit."""

from __future__ import annotations

from fieldguide.diagnosis.groups import Groups

_CALLS = {
    "PyMC": {
        "draws": "fit = pm.sample(4000, tune=2000, random_seed=1)",
        "step": "fit = pm.sample(target_accept=0.95, random_seed=1)",
        "depth": "fit = pm.sample(max_treedepth=12, random_seed=1)",
        "restart": 'fit = pm.sample(tune=3000, init="jitter+adapt_diag", random_seed=2)',
    },
    "nutpie": {
        "draws": "fit = nutpie.sample(compiled, draws=4000, tune=2000, seed=1)",
        "step": "fit = nutpie.sample(compiled, target_accept=0.95, seed=1)",
        "depth": "fit = nutpie.sample(compiled, maxdepth=12, seed=1)",
        "restart": "fit = nutpie.sample(compiled, tune=3000, seed=2)",
    },
    "Bambi": {
        "draws": "fit = model.fit(draws=4000, tune=2000, random_seed=1)",
        "step": "fit = model.fit(target_accept=0.95, random_seed=1)",
        "depth": "fit = model.fit(max_treedepth=12, random_seed=1)",
        "restart": "fit = model.fit(tune=3000, random_seed=2)",
    },
    "CmdStan": {
        "draws": "fit = model.sample(data, iter_sampling=4000, iter_warmup=2000, seed=1)",
        "step": "fit = model.sample(data, adapt_delta=0.95, seed=1)",
        "depth": "fit = model.sample(data, max_treedepth=12, seed=1)",
        "restart": "fit = model.sample(data, iter_warmup=3000, seed=2)",
    },
    "brms": {
        "draws": "fit <- update(fit, iter = 6000, warmup = 2000, seed = 1)",
        "step": "fit <- update(fit, control = list(adapt_delta = 0.95), seed = 1)",
        "depth": "fit <- update(fit, control = list(max_treedepth = 12), seed = 1)",
        "restart": "fit <- update(fit, warmup = 3000, iter = 4000, seed = 2)",
    },
    "rstan": {
        "draws": "fit <- sampling(model, data, iter = 6000, warmup = 2000, seed = 1)",
        "step": "fit <- sampling(model, data, control = list(adapt_delta = 0.95), seed = 1)",
        "depth": "fit <- sampling(model, data, control = list(max_treedepth = 12), seed = 1)",
        "restart": "fit <- sampling(model, data, warmup = 3000, iter = 4000, seed = 2)",
    },
}
"""What is typed in each tool; ``model``, ``compiled``, ``data`` and ``fit`` are the reader's own."""


def call(tool: str, remedy: str, groups: Groups | None) -> str:
    """Return what to type for a remedy; empty where it cannot be said.

    Parameters
    ----------
    tool : str
        As `fieldguide.diagnosis.Draws` names it; PyMC where it is unknown.
    remedy : str
        One of `fieldguide.diagnosis.REMEDIES`.
    groups : Groups or None
        Whose names the other form is written with.
    """
    tool = tool if tool in _CALLS else "PyMC"
    if remedy == "form":
        return "" if groups is None else _form(tool, groups)
    return _CALLS[tool].get(remedy, "")


def _form(tool: str, groups: Groups) -> str:
    effects, spread = (name.partition("[")[0] for name in (groups.effects, groups.spread))
    centre = groups.centre.partition("[")[0]
    if tool in ("PyMC", "nutpie"):
        if groups.form == "non-centered":
            return (
                f"# instead of {groups.standardised or 'z'} and what is computed from it\n"
                f'{effects} = pm.Normal("{effects}", {centre or 0}, {spread}, dims=...)'
            )
        if "[" in groups.effects:
            return (
                f"# instead of {effects}, with one row of z per group and one column per effect;\n"
                "# cholesky: of the effects' covariance\n"
                'z = pm.Normal("z", dims=...)\n'
                f'{effects} = pm.Deterministic("{effects}", z @ cholesky.T, dims=...)'
            )
        sum_ = f"{centre} + {spread}" if centre else spread
        return (
            f'# instead of {effects} = pm.Normal("{effects}", {centre or 0}, {spread}, dims=...)\n'
            f'z = pm.Normal("z", dims=...)\n'
            f'{effects} = pm.Deterministic("{effects}", {sum_} * z, dims=...)'
        )
    if tool == "Bambi":
        noncentered = groups.form == "centered"
        return f"model = bmb.Model(formula, data, {noncentered=})"
    if tool in ("CmdStan", "rstan") and groups.form == "centered":
        sum_ = f"{centre} + {spread}" if centre else spread
        return (
            f"parameters {{ vector[J] z; }}  // instead of {effects}\n"
            f"transformed parameters {{ vector[J] {effects} = {sum_} * z; }}\n"
            f"model {{ z ~ std_normal(); }}  // instead of {effects} ~ normal(...)"
        )
    if tool in ("CmdStan", "rstan"):
        return (
            f"parameters {{ vector[J] {effects}; }}  // instead of z\n"
            f"model {{ {effects} ~ normal({centre or 0}, {spread}); }}  // instead of z ~ std_normal()"
        )
    return ""
