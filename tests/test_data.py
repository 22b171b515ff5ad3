"""The tables are what their codebook says, and damage to them is named."""

import errno

import pandas as pd
import pytest

from fieldguide.data import (
    DATA_FOLDER,
    DataError,
    load_bangladesh,
    load_schools,
    load_three_districts,
    quoted,
)

TEXT = (DATA_FOLDER / "bangladesh.csv").read_text(encoding="utf-8")


def test_bangladesh_has_the_published_counts():
    women = load_bangladesh()
    assert len(women) == 1934
    assert women["district"].nunique() == 60
    assert 54 not in set(women["district"])
    assert women["use_contraception"].sum() == 759


def test_three_districts_have_the_published_counts():
    counts = load_three_districts()
    assert counts["women"].tolist() == [117, 20, 2]
    assert counts["users"].tolist() == [30, 7, 2]


def test_schools_have_the_published_counts():
    students = load_schools()
    assert len(students) == 7185
    assert students["school"].nunique() == 160
    assert students.groupby("school")["sector"].nunique().max() == 1
    means = students.groupby("school")["ses"].transform("mean")
    assert (means - students["mean_ses"]).abs().max() < 1e-12


DAMAGES = {
    "missing column": (
        "\n".join(line.rpartition(",")[0] for line in TEXT.splitlines()),
        ["row 1", "urban"],
    ),
    "wrong delimiter": (TEXT.replace(",", ";"), ["row 1", "commas"]),
    "a 2 in a 0/1 column": (
        TEXT.replace("\n5,1,0,", "\n5,1,2,", 1),
        ["row 6", "use_contraception", "0 or 1", "'2'"],
    ),
    "an empty cell": (
        TEXT.replace("\n7,1,0,", "\n7,1,,", 1),
        ["row 8", "use_contraception", "empty cell"],
    ),
    "a word in a number": (
        TEXT.replace("18.44,1\n", "old,1\n", 1),
        ["row 2", "age_centered", "a number", "'old'"],
    ),
    "a duplicated woman": (TEXT.replace("\n3,1,", "\n2,1,", 1), ["row 3", "woman", "once per woman"]),
    "rows cut off": ("\n".join(TEXT.splitlines()[:1000]) + "\n", ["expected 1934", "found 999"]),
    "cut within a row": (TEXT[: TEXT.index("\n900,") + 8], ["row 901", "empty cell"]),
    "an unknown district": (TEXT.replace("\n1,1,", "\n1,54,", 1), ["row 2", "district", "'54'"]),
    "too many fields": (TEXT.replace("\n4,1,", "\n4,1,1,", 1), ["line 5"]),
    "nothing at all": ("", ["comma-separated"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_refused_by_file_row_and_column(tmp_path, damage):
    text, expected = DAMAGES[damage]
    assert text != TEXT
    path = tmp_path / "women.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as refusal:
        load_bangladesh(path)
    for words in ["women.csv", *expected]:
        assert words in str(refusal.value)


def test_a_wrong_encoding_is_refused(tmp_path):
    path = tmp_path / "women.csv"
    path.write_bytes(TEXT.replace("woman", "wöman", 1).encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        load_bangladesh(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_schools(tmp_path / "schools.csv")


def test_a_folder_is_refused_by_path_and_remedy(tmp_path):
    with pytest.raises(DataError, match="this is a folder; give the path of the CSV") as refusal:
        load_bangladesh(tmp_path)
    assert str(tmp_path) in str(refusal.value)


def test_a_file_in_a_file_is_refused(tmp_path):
    (tmp_path / "women").write_text(TEXT, encoding="utf-8")
    path = tmp_path / "women" / "bangladesh.csv"  # as if a zip had been unpacked
    with pytest.raises(DataError, match="could not be read") as refusal:
        load_bangladesh(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "permissions"), (errno.EIO, "could not be read")]
)
def test_what_the_system_refuses_is_a_data_error(tmp_path, monkeypatch, number, words):
    """Root may read everything and disks seldom fail, so that the system's answer is put in place."""

    def refuse(path, **settings):
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(pd, "read_csv", refuse)
    with pytest.raises(DataError, match=words) as refusal:
        load_schools(tmp_path / "schools.csv")
    assert str(tmp_path / "schools.csv") in str(refusal.value)


def test_quoted_figures_carry_their_source():
    assert quoted("published")["source"].startswith("Blog post")
    assert {"lme4", "blme"} <= set(quoted("r_schools")["fits"]["versions"])
    with pytest.raises(DataError, match=r"no_such\.json: cannot be read"):
        quoted("no_such")
