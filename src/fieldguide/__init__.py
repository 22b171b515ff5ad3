"""Exact posteriors of small multilevel models, and scores of the fits that are held against them.

``import fieldguide as fg`` is immediate: a name or a module is imported when it is first used.
What samples (`sample`, `varying_intercept_model`, :mod:`fieldguide.models`) needs PyMC, which comes
with ``pip install "fieldguide[models]"``; the rest needs the core alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from fieldguide.claims import Claims
    from fieldguide.counts import your_counts
    from fieldguide.data.stored import stored
    from fieldguide.data.tables import (
        count_by_district,
        load_bangladesh,
        load_schools,
        load_three_districts,
    )
    from fieldguide.diagnosis import diagnose
    from fieldguide.fits import sample
    from fieldguide.grid import run_grid
    from fieldguide.models.districts import varying_intercept_model
    from fieldguide.reference.districts import exact_posterior, exact_posterior_fixed
    from fieldguide.reference.districts_many import exact_posterior_many
    from fieldguide.scores import score, scoreboard
    from fieldguide.singular import singular_fit_report

    __version__: str

__all__ = [
    "Claims",
    "__version__",
    "count_by_district",
    "diagnose",
    "exact_posterior",
    "exact_posterior_fixed",
    "exact_posterior_many",
    "load_bangladesh",
    "load_schools",
    "load_three_districts",
    "run_grid",
    "sample",
    "score",
    "scoreboard",
    "singular_fit_report",
    "stored",
    "varying_intercept_model",
    "your_counts",
]

_HOMES = {
    "Claims": "claims",
    "count_by_district": "data.tables",
    "diagnose": "diagnosis",
    "exact_posterior": "reference.districts",
    "exact_posterior_fixed": "reference.districts",
    "exact_posterior_many": "reference.districts_many",
    "load_bangladesh": "data.tables",
    "load_schools": "data.tables",
    "load_three_districts": "data.tables",
    "run_grid": "grid",
    "sample": "fits",
    "score": "scores",
    "scoreboard": "scores",
    "singular_fit_report": "singular",
    "stored": "data.stored",
    "varying_intercept_model": "models.districts",
    "your_counts": "counts",
}
_MODULES = set("claims counts data diagnosis fits grid models priors reference scores studies".split())
_SAMPLING = {"sample", "varying_intercept_model"}  # refused without PyMC when named, not when called
_MODELS_EXTRA = {"bambi", "formulae", "mixedlm", "nutpie", "pymc", "pytensor", "statsmodels"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("fieldguide")
    elif name in _HOMES:
        value = getattr(_import(_HOMES[name], name), name)
    elif name in _MODULES:
        value = _import(name, name)
    else:
        raise AttributeError(f"module 'fieldguide' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


def _import(module: str, name: str) -> ModuleType:
    try:
        if name in _SAMPLING:
            import_module("pymc")
        return import_module(f"fieldguide.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _MODELS_EXTRA:
            raise
        raise ImportError(
            f"fieldguide.{name} needs {error.name}, which is not installed: "
            'pip install "fieldguide[models]"',
            name=error.name,
        ) from error
