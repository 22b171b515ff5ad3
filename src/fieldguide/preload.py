"""Loaded once by the process from which the kernels of a build are forked (`fieldguide.execution`).

It holds what most chapters spend their first seconds on: the libraries, and what those set up when
the first model is compiled. Nothing of the package's own is in it.
"""

import gc
from contextlib import suppress

with suppress(ImportError):  # a small book may need none of them
    import arviz  # noqa: F401
    import bambi  # noqa: F401
    import ipykernel.kernelapp
    import ipykernel.zmqshell  # noqa: F401
    import nutpie
    import pymc as pm
    import seaborn  # noqa: F401
    import statsmodels.formula.api  # noqa: F401

    with pm.Model() as model:
        pm.Binomial(
            "successes", 2, logit_p=pm.Normal("alpha", 0, pm.Exponential("sigma", 1)), observed=1
        )
    nutpie.compile_pymc_model(model)
    del model

gc.collect()
gc.freeze()  # a fork neither searches nor copies what is here
