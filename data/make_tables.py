"""Make bangladesh.csv and schools.csv from the tables of R's mlmRev package, and list all checksums.

    python data/make_tables.py Contraception.csv Hsb82.csv     makes both tables, then the list
    python data/make_tables.py                                 makes only the list, SHA256SUMS

The two arguments are what R writes with ``write.csv(Contraception, row.names = FALSE)`` and
``write.csv(Hsb82, row.names = FALSE)`` after ``library(mlmRev)`` (version 1.0-8). A source that is
not the one the tables were made from is refused. Nothing is dropped or rounded: columns get plain
names, categories become 0/1, and what can be derived is left out.

SHA256SUMS names every file of this folder but itself, in the format of ``sha256sum -c``.
"""

import hashlib
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
LIST = "SHA256SUMS"

SOURCES = {
    "Contraception.csv": "6e454b61e51a0df29550d81c44fdd1bd4145573f6232b6f4d065361ad69813a5",
    "Hsb82.csv": "0da3c861219c56cb08afa23b0ab0091f47018e0b91320302eab1a81c2b078ab7",
}
"""SHA-256 of what R writes (with LF line ends), by the names that the codebook gives to the files."""


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def checked(path: str, name: str) -> pd.DataFrame:
    """Return a source table, or end if it is not the one the tables were made from."""
    found = digest(path)
    if found != SOURCES[name]:
        sys.exit(
            f"{path}: its SHA-256 is {found}, and that of {name} is {SOURCES[name]}: another version "
            "of the table, other line ends, or the two arguments in the wrong order."
        )
    return pd.read_csv(path)


def bangladesh(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per woman of the 1988 Bangladesh Fertility Survey."""
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


def schools(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per student of High School and Beyond, 1982."""
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


def checksums(folder: Path = HERE) -> str:
    """Return the list: a line for every file of the folder but the list itself."""
    files = sorted(
        (path for path in folder.iterdir() if path.is_file() and path.name != LIST),
        key=lambda path: path.name,
    )
    return "".join(f"{digest(path)}  {path.name}\n" for path in files)


def main(arguments: list[str]) -> None:
    """Make the tables, if their sources are given, and the list."""
    if arguments:
        if len(arguments) != len(SOURCES):
            sys.exit(__doc__)
        sources = [checked(path, name) for path, name in zip(arguments, SOURCES, strict=True)]
        for make, source in zip((bangladesh, schools), sources, strict=True):
            make(source).to_csv(HERE / f"{make.__name__}.csv", index=False, lineterminator="\n")
    (HERE / LIST).write_text(checksums(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
