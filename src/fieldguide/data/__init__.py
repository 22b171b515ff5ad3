"""The book's tables, checked when they are loaded, stored results, and simulated trials."""

from fieldguide.data.stored import Stored, quoted, stored
from fieldguide.data.tables import (
    DATA_FOLDER,
    DataError,
    count_by_district,
    load_bangladesh,
    load_schools,
    load_three_districts,
)
from fieldguide.data.trials import (
    QUESTION_SITES,
    VALID_SITES,
    TrialError,
    arm_probabilities,
    as_rows,
    check_groups,
    check_trial,
    counts_from_rows,
    question_trial,
    rows_from_counts,
    simulate_trial,
)

__all__ = [
    "DATA_FOLDER",
    "QUESTION_SITES",
    "VALID_SITES",
    "DataError",
    "Stored",
    "TrialError",
    "arm_probabilities",
    "as_rows",
    "check_groups",
    "check_trial",
    "count_by_district",
    "counts_from_rows",
    "load_bangladesh",
    "load_schools",
    "load_three_districts",
    "question_trial",
    "quoted",
    "rows_from_counts",
    "simulate_trial",
    "stored",
]
