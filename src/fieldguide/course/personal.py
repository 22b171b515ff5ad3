"""Data of one's own: a keyed, stable draw from picks every one of which has been tried.

The instructor holds a key. From it a student's token follows (HMAC-SHA256, RFC 2104), and from the token
what the student is given. Nobody can go the other way, so a student who knows names, this code and all
stored tables still cannot tell what another one was given. Each pick has been fitted before it could be
drawn (``python -m fieldguide.studies``), and those that would not teach what they should are left out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from fieldguide.course.faults import FAULTS, faulty_fit, look
from fieldguide.data import count_by_district, load_bangladesh, load_schools, simulate_trial, stored

KEY = "FIELDGUIDE_COURSE_KEY"
"""Environment variable in which the instructor has the key."""

TOKEN_FILE = "student.json"
"""What a student is handed: ``student``, ``course`` and ``token``, beside the notebooks."""

SHORTEST_KEY = 16
LARGEST_SITE = 400
CHAINS = 4
"""Of a saved fit; the odd one of a mixed fit is that of its seed, as `faulty_fit` places it."""
ATTEMPTS = 20


class CourseError(ValueError):
    """A student's data cannot be drawn; the message says why, and what to do."""


# ---------------------------------------------------------------------------------------------
# Who draws


def student_token(student: str, course: str, key: str) -> str:
    """Return the token by which a student draws data, and nobody else.

    Parameters
    ----------
    student : str
        A name or number as the course lists it; capitals and spaces at its ends do not count.
    course : str
        Such as ``"bayes-2027"``. Another course, or another term, gives everybody other data.
    key : str
        The instructor's, of 16 characters or more, kept outside of the course's files.

    Returns
    -------
    str
        36 hexadecimal digits, of which the last four tell a mistyped token.

    Raises
    ------
    CourseError
        If the key is too short or a name is empty.

    Examples
    --------
    >>> student_token("ada", "bayes-2027", key="correct horse battery staple")
    '3f61a5d6333a11369002d86e82b105cdeb14'
    """
    if len(key) < SHORTEST_KEY:
        raise CourseError(
            f"The course's key has {len(key)} characters; it needs {SHORTEST_KEY} or more. Make one "
            'with python -c "import secrets; print(secrets.token_hex(16))".'
        )
    name = _name_in_course(student, course)
    digits = hmac.new(key.encode(), name, hashlib.sha256).hexdigest()[:32]
    return digits + _check_digits(digits, name)


def _name_in_course(student: str, course: str) -> bytes:
    names = [unicodedata.normalize("NFKC", str(name)).strip().casefold() for name in (course, student)]
    if not all(names):
        raise CourseError("A student and a course need names that are not empty.")
    return "\0".join(names).encode()


def _check_digits(digits: str, name: bytes) -> str:
    return hashlib.sha256(digits.encode() + name).hexdigest()[:4]


def _token(student: str, course: str, token: str | None) -> bytes:
    """Return a student's token: the one given, the instructor's, or that in the file beside us."""
    if token is None and (key := os.environ.get(KEY)):
        token = student_token(student, course, key)
    if token is None:
        token = _beside_us("token")
    name = _name_in_course(student, course)
    if not re.fullmatch(r"[0-9a-f]{36}", token) or token[32:] != _check_digits(token[:32], name):
        raise CourseError(
            f"This token is not that of {student!r} in the course {course!r}, or has a typing error. "
            f"Copy it, and both names, from the {TOKEN_FILE} that your instructor gave you."
        )
    return token.encode()


def _beside_us(name: str) -> str:
    """Return an entry of the file that a student was handed, in this folder or above it."""
    for folder in (Path.cwd(), *Path.cwd().parents[:2]):
        path = folder / TOKEN_FILE
        if path.exists():
            try:
                return str(json.loads(path.read_text(encoding="utf-8"))[name])
            except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
                raise CourseError(
                    f"{path}: no {name} can be read from it ({error}); put the file back as your "
                    "instructor gave it to you."
                ) from None
    raise CourseError(
        f"There is no {TOKEN_FILE} in this folder or above it, so nothing says who you are. Put the "
        f"file that your instructor gave you beside this notebook. (Instructors set {KEY}.)"
    )


def enrolled() -> tuple[str, str]:
    """Return the student and the course that the file says which a student was handed.

    Returns
    -------
    student, course : str
        From ``student.json`` in this folder or above it.

    Raises
    ------
    CourseError
        If it is not there, or damaged.
    """
    return _beside_us("student"), _beside_us("course")


def _draw(token: bytes, what: str, picks: Sequence) -> int:
    """Return the place of a student's pick: the one whose keyed digest is the smallest.

    A pick that is added or removed moves only those students whose pick it is (Thaler and Ravishankar
    1998, IEEE/ACM Transactions on Networking 6, call this highest random weight).
    """
    digests = [hmac.new(token, f"{what}\0{pick}".encode(), hashlib.sha256).digest() for pick in picks]
    return int(min(range(len(picks)), key=digests.__getitem__))


def _drawn(student: str, course: str, token: str | None, what: str) -> pd.Series:
    """Return the row of a student's pick in the stored study of all picks."""
    secret = _token(student, course, token)
    table = admissible(what)
    return table.iloc[_draw(secret, what, table["pick"].tolist())]


def admissible(what: str) -> pd.DataFrame:
    """Return the picks that can be drawn, with what the study of them found.

    Parameters
    ----------
    what : {"districts", "trial", "schools", "fit"}

    Returns
    -------
    DataFrame
        One row for each, with its name in ``pick``.
    """
    table = stored(f"personal_{what}").table
    return table[table["admissible"]].reset_index(drop=True)


# ---------------------------------------------------------------------------------------------
# What is drawn


def personal_districts(student: str, course: str, *, token: str | None = None) -> pd.DataFrame:
    """Return a student's three districts: a large one, a middle one and a small one.

    With any of the picks the centered form diverges at ``target_accept`` 0.8 and the non-centered form
    is healthy at 0.99, each with every seed that was tried.

    Parameters
    ----------
    student, course : str
        See `student_token`.
    token : str, optional
        The student's; otherwise it follows from the instructor's key in the environment variable
        ``FIELDGUIDE_COURSE_KEY``, or is read from ``student.json`` in this folder or above it.

    Returns
    -------
    DataFrame
        As `fieldguide.load_three_districts` returns it: ``women`` and ``users``, indexed by
        ``district``, the largest first.

    Raises
    ------
    CourseError
        If there is no token, or it is another student's.
    """
    return three_districts(_drawn(student, course, token, "districts")["pick"])


def three_districts(pick: str) -> pd.DataFrame:
    """Return the counts of three districts, named as in ``"1-2-3"``."""
    return count_by_district(load_bangladesh()).loc[[int(district) for district in pick.split("-")]]


def personal_trial(student: str, course: str, *, token: str | None = None) -> pd.DataFrame:
    """Return a student's multi-site trial, simulated from sites that no other pick has.

    Parameters
    ----------
    student, course, token
        See `personal_districts`.

    Returns
    -------
    DataFrame
        As `fieldguide.data.simulate_trial` returns it.
    """
    return trial_of(int(_drawn(student, course, token, "trial")["pick"]))


def trial_of(pick: int) -> pd.DataFrame:
    """Return trial number `pick`: five to eight sites of very different sizes."""
    rng = np.random.default_rng([20271, pick])
    count = int(rng.integers(5, 9))
    sizes = 2 * np.geomspace(8, LARGEST_SITE / 2, count).round()
    sites = pd.DataFrame(
        {
            "n": rng.permutation(sizes).astype(int),
            "baseline": rng.normal(-1.2, 0.6, count),
            "effect": rng.normal(rng.uniform(0.2, 0.8), 0.5, count),
        },
        index=pd.Index(list("ABCDEFGH"[:count]), name="site"),
    )
    return simulate_trial(sites, seed=rng, scale="logit")


def personal_schools(student: str, course: str, *, token: str | None = None) -> pd.DataFrame:
    """Return a student's 60 of the 160 schools.

    The fit of ``math ~ ses * catholic + (ses | school)`` to them is singular, with a correlation at its
    boundary and slopes that vary.

    Parameters
    ----------
    student, course, token
        See `personal_districts`.

    Returns
    -------
    DataFrame
        The rows of `fieldguide.load_schools` of these schools.
    """
    return schools_of(int(_drawn(student, course, token, "schools")["pick"]))


def schools_of(pick: int) -> pd.DataFrame:
    """Return draw number `pick` of 60 schools."""
    schools = load_schools()
    ids = schools["school"].unique()
    chosen = np.random.default_rng([20272, pick]).choice(ids, 60, replace=False)
    return schools[schools["school"].isin(chosen)].reset_index(drop=True)


def personal_fit(student: str, course: str, *, key: str | None = None) -> xr.DataTree:
    """Return a student's fit of the three districts, with one fault, or none, that is not named.

    For the instructor, who saves it (``to_zarr``) and hands out the folder. Fault and seed follow from
    the key and not from the token, so that a student who has this code cannot make it again. The fault
    shows as it should, or is tried again with another seed.

    Parameters
    ----------
    student, course : str
        See `student_token`.
    key : str, optional
        The instructor's; that in the environment variable ``FIELDGUIDE_COURSE_KEY`` by default.

    Returns
    -------
    DataTree
        ``posterior`` and ``sample_stats`` without the record of how they were made.

    Raises
    ------
    CourseError
        If there is no key, or no fit shows its fault.
    """
    about = fault_of(student, course, key=key)
    for attempt in range(ATTEMPTS):
        seed = int.from_bytes(_secret(student, course, key, f"seed {attempt}")[:6])
        if about["odd_chain"] is not None:
            seed = CHAINS * seed + about["odd_chain"]
        fit = faulty_fit(about["fault"], seed % 2**31)
        if look(about["fault"], fit)["shows"]:
            return fit
    raise CourseError(
        f"No fit of {student!r} shows its fault in {ATTEMPTS} attempts; are versions those of the lock?"
    )


def fault_of(student: str, course: str, *, key: str | None = None) -> dict:
    """Return what is wrong with a student's fit, and in which chain.

    Parameters
    ----------
    student, course, key
        See `personal_fit`.

    Returns
    -------
    dict
        ``fault``, a name in `fieldguide.course.faults.FAULTS`, and ``odd_chain``, a number or None.
    """
    faults = sorted(FAULTS)
    fault = faults[_draw(_secret(student, course, key, "fault"), "fault", faults)]
    place = _secret(student, course, key, "chain")[0] % CHAINS
    return {"fault": fault, "odd_chain": place if fault == "mixed" else None}


def _secret(student: str, course: str, key: str | None, what: str) -> bytes:
    """Return what only the instructor can compute of a student."""
    key = key or os.environ.get(KEY)
    if not key:
        raise CourseError(f"Only the instructor can draw a fit: set the course's key as {KEY}.")
    name = f"fit\0{what}\0".encode() + _name_in_course(student, course)
    return hmac.new(key.encode(), name, hashlib.sha256).digest()
