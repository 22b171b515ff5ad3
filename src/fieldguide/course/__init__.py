"""The book assigned: data of one's own for every student, and grading against the exact answer."""

from fieldguide.course.grading import Criterion, Verdict, judge_districts, judge_form
from fieldguide.course.personal import (
    CourseError,
    admissible,
    personal_districts,
    personal_fit,
    personal_schools,
    personal_trial,
    student_token,
)

__all__ = [
    "CourseError",
    "Criterion",
    "Verdict",
    "admissible",
    "judge_districts",
    "judge_form",
    "personal_districts",
    "personal_fit",
    "personal_schools",
    "personal_trial",
    "student_token",
]
