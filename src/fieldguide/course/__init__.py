"""The book assigned: data of one's own for every student, and grading against the exact answer."""

from fieldguide.course.personal import (
    CourseError,
    personal_districts,
    personal_fit,
    personal_schools,
    personal_trial,
    student_token,
)

__all__ = [
    "CourseError",
    "personal_districts",
    "personal_fit",
    "personal_schools",
    "personal_trial",
    "student_token",
]
