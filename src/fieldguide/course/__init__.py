"""The book assigned: data of one's own for every student, and grading against the exact answer."""

from fieldguide.course.grading import (
    Criterion,
    ModelReading,
    Verdict,
    judge_diagnostics,
    judge_districts,
    judge_form,
    judge_schools,
    judge_trial,
    read_model,
    require_number,
)
from fieldguide.course.personal import (
    CourseError,
    admissible,
    enrolled,
    fault_of,
    personal_districts,
    personal_fit,
    personal_schools,
    personal_trial,
    student_token,
)

__all__ = [
    "CourseError",
    "Criterion",
    "ModelReading",
    "Verdict",
    "admissible",
    "enrolled",
    "fault_of",
    "judge_diagnostics",
    "judge_districts",
    "judge_form",
    "judge_schools",
    "judge_trial",
    "personal_districts",
    "personal_fit",
    "personal_schools",
    "personal_trial",
    "read_model",
    "require_number",
    "student_token",
]
