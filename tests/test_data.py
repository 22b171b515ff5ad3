"""The tables are what their codebook and their sources say, and damage to them is named."""

import csv
import errno
import hashlib
import importlib.util
import math
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fieldguide.data import (
    DATA_FOLDER,
    QUESTION_SITES,
    DataError,
    load_bangladesh,
    load_schools,
    load_three_districts,
    question_trial,
    quoted,
)
from fieldguide.published import published, published_summary

HERE = Path(__file__).parent

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


# ---------------------------------------------------------------------------------------------
# The list of checksums


def maker():
    """The script that makes the tables and the list; it is no part of the package."""
    spec = importlib.util.spec_from_file_location("make_tables", DATA_FOLDER / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_names_every_file_with_its_checksum():
    listed = [line.split("  ") for line in (DATA_FOLDER / "SHA256SUMS").read_text().splitlines()]
    there = {path.name for path in DATA_FOLDER.iterdir() if path.is_file()} - {"SHA256SUMS"}
    assert [name for _, name in listed] == sorted(there)
    for expected, name in listed:
        found = hashlib.sha256((DATA_FOLDER / name).read_bytes()).hexdigest()
        assert found == expected, f"{name} was changed; if it was meant: python data/make_tables.py"


def test_the_list_is_what_its_script_writes(tmp_path):
    assert maker().checksums(DATA_FOLDER) == (DATA_FOLDER / "SHA256SUMS").read_text()
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "SHA256SUMS").write_text("old")
    names = [line.split("  ")[1] for line in maker().checksums(tmp_path).splitlines()]
    assert names == ["a", "b"]


def test_tables_are_made_from_no_other_sources(tmp_path):
    other = tmp_path / "Contraception.csv"
    other.write_text(source_of_bangladesh().replace("18.44", "18.45", 1), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"Contraception\.csv: its SHA-256 is .* another version"):
        maker().main([str(other), str(other)])


def test_tables_are_made_from_their_sources_as_they_are(tmp_path):
    make = maker()
    make.HERE = tmp_path
    texts = dict(zip(make.SOURCES, (source_of_bangladesh(), source_of_schools()), strict=True))
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode())
    make.main([str(tmp_path / name) for name in texts])
    for name in ("bangladesh.csv", "schools.csv"):
        assert (tmp_path / name).read_bytes() == (DATA_FOLDER / name).read_bytes()


# ---------------------------------------------------------------------------------------------
# The tables against their sources: written back as R wrote them, each is its source to the byte

SOURCES = {"Contraception.csv": "6e454b61", "Hsb82.csv": "0da3c861"}
"""How the SHA-256 of what R writes begins, as it was handed down with the sources."""


def rows_of(name):
    return csv.DictReader((DATA_FOLDER / name).read_text(encoding="utf-8").splitlines())


def source_of_bangladesh() -> str:
    lines = ['"woman","district","use","livch","age","urban"']
    for row in rows_of("bangladesh.csv"):
        use, urban = ("NY"[int(row[name])] for name in ("use_contraception", "urban"))
        age = float(row["age_centered"])
        lines.append(
            f'"{row["woman"]}","{row["district"]}","{use}","{row["living_children"]}",{age:.15g},"{urban}"'
        )
    return "\n".join(lines) + "\n"


def source_of_schools() -> str:
    rows, ses_of = list(rows_of("schools.csv")), {}
    for row in rows:
        ses_of.setdefault(row["school"], []).append(float(row["ses"]))
    means = {school: math.fsum(values) / len(values) for school, values in ses_of.items()}
    lines = ['"school","minrty","sx","ses","mAch","meanses","sector","cses"']
    for row in rows:
        minority, sex = ("No", "Yes")[int(row["minority"])], ("Male", "Female")[int(row["female"])]
        ses, mean = float(row["ses"]), means[row["school"]]
        assert f"{mean:.15g}" == f"{float(row['mean_ses']):.15g}"
        lines.append(
            f'"{row["school"]}","{minority}","{sex}",{ses:.15g},{float(row["math"]):.15g},{mean:.15g},'
            f'"{row["sector"]}",{ses - mean:.15g}'
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", SOURCES)
def test_a_table_written_back_is_its_source_to_the_byte(name):
    text = {"Contraception.csv": source_of_bangladesh, "Hsb82.csv": source_of_schools}[name]()
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest.startswith(SOURCES[name])
    assert digest == maker().SOURCES[name]
    assert f"| `{name}` | `{digest}` |" in (DATA_FOLDER / "README.md").read_text(encoding="utf-8")


# Of each column its sum, the sum of its squares, and the sum of its products with the number of the
# row: one changed cell changes the first, two that compensate each other the second or the third.
MOMENTS = {
    "bangladesh.csv": {
        "woman": ("1871145", "2413153335", "2413153335"),
        "district": ("56770", "2289908", "74286716"),
        "use_contraception": ("759", "759", "759456"),
        "living_children": ("3195", "8263", "3043004"),
        "age_centered": ("4.2507", "157034.16144313", "53401.1479"),
        "urban": ("562", "562", "538036"),
    },
    "schools.csv": {
        "school": ("37921696", "245031673204", "173408525316"),
        "sector": ("3543", "3543", "12461109"),
        "minority": ("1974", "1974", "6427960"),
        "female": ("3795", "3795", "13686882"),
        "ses": ("1.030", "4363.522380", "238650.400"),
        "math": ("91593.321", "1507495.090811", "328461896.877"),
    },
}


@pytest.mark.parametrize("name", MOMENTS)
def test_each_column_has_the_sums_that_its_source_has(name):
    rows = list(rows_of(name))
    assert set(rows[0]) - {"mean_ses"} == set(MOMENTS[name])  # mean_ses follows from ses
    for column, expected in MOMENTS[name].items():
        words = {"Public": "0", "Catholic": "1"}
        values = [Decimal(words.get(row[column], row[column].rstrip("+"))) for row in rows]
        sums = (
            sum(values),
            sum(value**2 for value in values),
            sum(number * value for number, value in enumerate(values, 1)),
        )
        assert sums == tuple(map(Decimal, expected)), column


def test_the_tables_have_the_figures_of_the_literature():
    women, students = load_bangladesh(), load_schools()
    assert women["living_children"].value_counts().to_dict() == {"3+": 743, "0": 530, "1": 356, "2": 305}
    assert women["age_centered"].quantile([0, 0.5, 1]).tolist() == [-13.56, -1.5599, 19.44]
    # Raudenbush and Bryk (2002), table 4.1: means and sds of the students, schools by sector.
    assert students["math"].agg(["mean", "std"]).round(2).tolist() == [12.75, 6.88]
    assert students["ses"].agg(["mean", "std"]).round(2).tolist() == [0.0, 0.78]
    assert students.groupby("sector")["school"].nunique().to_dict() == {"Catholic": 70, "Public": 90}


# ---------------------------------------------------------------------------------------------
# Quoted figures against a transcription of their own

AGAIN = pd.read_csv(HERE / "published_again.csv", dtype=str, index_col=["model", "parameter"])
SETTINGS = {  # target_accept, seconds, divergences of the chains
    "mfe": (0.8, 22, None),
    "mme0": (0.8, 21, [71, 71, 99, 49]),
    "mme1": (0.9, 23, [151, 34, 56, 58]),
    "mme2": (0.99, 35, [10, 2, 3, 5]),
    "mme3": (0.99, 34, [8, 6, 201, 8]),
    "mme3b": (0.99, 42, [5, 2, 3, 4]),
    "mme4": (0.99, 22, None),
}


def renamed(parameter):
    """The blog post counts districts from zero and writes a for alpha."""
    name, _, number = parameter.rstrip("]").partition("[")
    name = name.replace("a_bar", "alpha_bar") if number == "" else name.replace("a", "alpha")
    return f"{name}[{int(number) + 1}]" if number else name


def test_published_figures_were_copied_twice_alike():
    models = published()["models"]
    assert list(models) == list(SETTINGS)
    assert set(AGAIN.index.get_level_values("model")) == {m for m in models if "summary" in models[m]}
    for model, again in AGAIN.groupby(level="model"):
        table = published_summary(model)
        again = again.droplevel("model").rename(index=renamed).astype(float)
        again = again.rename(columns={"hdi_5.5%": "hdi_low", "hdi_94.5%": "hdi_high"})
        pd.testing.assert_frame_equal(
            table, again, check_names=False, check_dtype=False, check_exact=True
        )


@pytest.mark.parametrize("model", SETTINGS)
def test_published_runs_were_copied_twice_alike(model):
    entry, (target, seconds, chains) = published()["models"][model], SETTINGS[model]
    assert (entry["target_accept"], entry["seconds"]) == (target, seconds)
    assert entry["divergences_per_chain"] == chains
    assert entry["divergences"] == sum(chains or [0])
    assert entry.get("warnings", ["0.642 0.99"])[0].startswith("acceptance probability 0.642") == (
        model == "mme3"
    )


R_AGAIN = pd.read_csv(HERE / "r_schools_again.csv", dtype=str).groupby(["from", "fit"], sort=False)


@pytest.mark.parametrize("key", R_AGAIN.groups, ids=" ".join)
def test_figures_of_the_schools_were_copied_twice_alike(key):
    origin, name = key
    ours = quoted("r_schools")["fits" if origin == "R" else "published"][name]
    ours = ours.get("default", ours)
    flat = {"reml": ours.get("reml"), "corr": ours.get("correlation"), "cov": ours.get("covariance")}
    for part in ("intercept", "slope", "residual"):
        sd = ours.get(f"sd_{part}")
        flat[f"var_{part}"] = ours[f"var_{part}"] if sd is None else sd**2
        flat[f"sd_{part}"] = sd
    flat |= {word: ours.get(word) for word in ("AIC", "BIC", "logLik")}
    terms = []
    for figure, value in R_AGAIN.get_group(key)[["figure", "value"]].to_numpy():
        kind, _, term = figure.rpartition(" ")
        figure = {"REML": "reml", "REML_criterion": "reml"}.get(figure, figure)
        if figure in flat:
            mine = flat[figure]
        elif figure in ("b_ses", "se_b_ses"):
            mine = ours["fixed" if figure == "b_ses" else "se"][1]
        else:
            terms += [term] if kind == "" else []
            mine = ours[kind or "fixed"][len(terms) - 1]
        # What was published is quoted as it was printed; R's figures are quoted with more digits, and
        # in the last digit of those that were printed optimisers may differ.
        step = Decimal(1).scaleb(Decimal(value).as_tuple().exponent)
        assert abs(Decimal(repr(mine)) - Decimal(value)) <= (0 if origin == "published" else step), (
            figure
        )
    assert len(terms) in (0, len(ours["fixed"]))


def test_the_trial_is_the_one_of_the_question():
    sites = QUESTION_SITES.reset_index().to_numpy().tolist()
    assert sites == [
        ["A", 30, 0.1, 0.0],
        ["B", 300, 0.15, 0.1],
        ["C", 50, 0.01, 0.2],
        ["D", 20, 0.05, -0.1],
        ["E", 100, 0.1, 0.1],
    ]
    trial = question_trial()
    successes = " ".join(f"{s} {r.treated}/{r.control}" for s, r in trial.iterrows())
    assert successes == "A 1/2 B 46/29 C 4/0 D 0/0 E 7/6"
    np.testing.assert_array_equal(trial["n_control"] * 2, QUESTION_SITES["n"])


def test_the_script_for_r_has_the_counts_of_the_table():
    """R's fits of the districts are of counts that are typed in the script."""
    script = (DATA_FOLDER / "r_schools.R").read_text(encoding="utf-8")
    counts = load_three_districts()
    for name in ("users", "women"):
        (typed,) = re.findall(rf"{name} = c\(([\d, ]+)\)", script)
        assert list(map(int, typed.split(","))) == counts[name].tolist()
