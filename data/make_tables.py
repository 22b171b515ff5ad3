"""Make bangladesh.csv and schools.csv from the tables of R's mlmRev package.

Usage: python data/make_tables.py Contraception.csv Hsb82.csv

The two arguments are what R writes with ``write.csv(Contraception, row.names = FALSE)`` and
``write.csv(Hsb82, row.names = FALSE)`` after ``library(mlmRev)`` (version 1.0-8). Nothing is dropped
or rounded: columns get plain names, categories become 0/1, and what can be derived is left out.
"""

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent


def bangladesh(source: str) -> pd.DataFrame:
    """Return one row per woman of the 1988 Bangladesh Fertility Survey."""
    table = pd.read_csv(source)
    return pd.DataFrame(
        {
            "woman": table["woman"],
            "district": table["district"],
            "use_contraception": table["use"].map({"N": 0, "Y": 1}),
            "living_children": table["livch"],
            "age_centered": table["age"],
            "urban": table["urban"].map({"N": 0, "Y": 1}),
        }
    )


def schools(source: str) -> pd.DataFrame:
    """Return one row per student of High School and Beyond, 1982."""
    table = pd.read_csv(source)
    return pd.DataFrame(
        {
            "school": table["school"],
            "sector": table["sector"],
            "minority": table["minrty"].map({"No": 0, "Yes": 1}),
            "female": table["sx"].map({"Male": 0, "Female": 1}),
            "ses": table["ses"],
            "mean_ses": table["meanses"],
            "math": table["mAch"],
        }
    )


if __name__ == "__main__":
    contraception, hsb82 = sys.argv[1:]
    bangladesh(contraception).to_csv(HERE / "bangladesh.csv", index=False)
    schools(hsb82).to_csv(HERE / "schools.csv", index=False)
