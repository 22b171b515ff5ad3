"""Time the point estimates and the exact answers of chapter 12."""

from __future__ import annotations

import os
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import mixedlm
import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

from fieldguide.data import load_schools
from fieldguide.models.schools import FORMULA, LKJ_ETA, PRIORS, with_catholic
from fieldguide.reference import schools_posterior
from fieldguide.reml import cross_products, fit_reml, profile, wishart


def timings() -> pd.DataFrame:
    """Median processor and wall time of each computation, over five calls after a first one."""
    table = with_catholic(load_schools())
    table["school"] = table["school"].astype(str)
    sums = cross_products(FORMULA, table)
    jobs = {
        "read 7185 rows into sums": lambda: cross_products(FORMULA, table),
        "REML on sums": lambda: fit_reml(sums),
        "REML with Wishart penalty": lambda: fit_reml(sums, wishart(4.5)),
        "profile, 40 x 40": lambda: profile(
            sums, np.linspace(0.02, 1, 40)[:, None], np.linspace(-0.5, 0.999, 40)
        ),
        "mixedlm.lmer": lambda: mixedlm.lmer(FORMULA, table),
        "statsmodels MixedLM": lambda: smf.mixedlm(
            "math ~ ses * catholic", table, groups="school", re_formula="~ses"
        ).fit(),
        "exact answer: means and sds": lambda: schools_posterior(sums, lkj_eta=LKJ_ETA, **PRIORS),
        "exact answer with quantiles": lambda: (
            schools_posterior(sums, lkj_eta=LKJ_ETA, **PRIORS).summary
        ),
    }
    rows = []
    for name, job in jobs.items():
        job()
        cpu, wall = [], []
        for _ in range(5):
            c, w = time.process_time(), time.perf_counter()
            job()
            cpu.append(time.process_time() - c)
            wall.append(time.perf_counter() - w)
        rows.append((name, np.median(cpu), np.median(wall)))
    return pd.DataFrame(rows, columns=["what", "cpu_s", "wall_s"]).set_index("what")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(timings().round(3).to_string())
