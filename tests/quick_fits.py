"""Fits that take no time, for tests of the machinery; other processes import this without PyMC."""

import os
import signal
import time
import uuid
from pathlib import Path

import numpy as np

from fieldguide.grid import cross
from fieldguide.studies import Study


def note():
    """Leave a mark for each finished fit: a run's own file is locked while it is at work."""
    if "NOTES" in os.environ:
        (Path(os.environ["NOTES"]) / f"{os.getpid()}-{uuid.uuid4().hex}").touch()


def long_design():
    return cross(x=range(80))


def slow_square(cell):
    time.sleep(0.1)
    return square(cell)


def fail_late(cell):
    if cell["x"] == 300 and not Path(cell["permit"]).exists():
        raise ArithmeticError("stopped")
    return {"square": cell["x"] ** 2, "text": "x" * 80}


def square(cell):
    note()
    return {"square": cell["x"] ** 2, "process": os.getpid(), "stamp": uuid.uuid4().hex}


def fail_at_three_until_allowed(cell):
    if cell["x"] == 3 and not Path(cell["permit"]).exists():
        raise ArithmeticError("three is not allowed")
    return {"square": cell["x"] ** 2}


def die_once_at_five(cell):
    first = Path(cell["tomb"])
    if cell["x"] == 5 and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": cell["x"] ** 2}


def always_die(cell):
    os._exit(1)


def overwrite_the_design(cell):
    return {"x": 0}


def answer_nothing(cell):
    return None


def answer_a_number(cell):
    return cell["x"] ** 2


def answer_no_figures(cell):
    return {}


def answer_only_gaps(cell):
    return {"square": float("nan"), "cube": None}


def answer_a_list(cell):
    return {"squares": [1, 4, 9]}


def every_kind_of_figure(cell):
    figures = [0.1 + 0.2, 5e-324, -0.0, np.inf, 1e22, np.nan]
    return {
        "float": figures[cell["x"]],
        "numpy": np.float64(figures[cell["x"]]) / 3,
        "whole": 2**53 + cell["x"],
        "true": cell["x"] % 2 == 0,
        "text": f'é\n"{cell["x"]}" ☃',
        "sometimes": None if cell["x"] else 1.5,
    }


def long_data():
    return {"x": "0 to 79"}


STUDIES = (Study("slow", long_design, slow_square, (), long_data, "squares, slowly"),)
