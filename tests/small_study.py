"""A small study of real fits, which the workers of a cluster can import."""

from quick_fits import note

from fieldguide.grid import cross
from fieldguide.studies import Study
from fieldguide.studies.districts import fit_three_districts


def design():
    return cross(
        parameterization=["non-centered"],
        prior=["Exponential(1)"],
        target_accept=[0.9],
        tune=[500],
        draws=[500],
        seed=range(36),
    )


def fit(cell):
    figures = fit_three_districts(cell)
    note()
    return figures


STUDIES = (
    Study(
        "small", design, fit, ("parameterization", "prior"), lambda: {"districts": 3}, "three dozen fits"
    ),
)
