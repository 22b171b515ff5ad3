"""Rows of single people: counted in pieces, refused in a sentence, one posterior with the counts."""

import gzip

import numpy as np
import nutpie
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from fieldguide import counts_rows
from fieldguide.cli import NO_ANSWER, main
from fieldguide.counts_rows import count_rows
from fieldguide.counts_table import CountsError, read_counts
from fieldguide.data import count_by_district, load_bangladesh, stored
from fieldguide.studies import rows as study


def people(rows, seed=1):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "person": np.arange(rows),
            "ward": rng.choice(["north", "south, old", "east 'n' west", "007"], rows),
            "district": rng.integers(1, 7, rows),
            "age": rng.integers(-2, 3, rows) + 0.25,
            "cured": rng.integers(0, 2, rows),
        }
    )


def counted(table, by):
    """Count with pandas."""
    return (
        table.groupby(by)["cured"].agg(successes="sum", trials="size").reset_index().sort_values(by)
    ).reset_index(drop=True)


def agree(found, table, by):
    assert list(found) == [*by, "successes", "trials"]
    assert found.attrs == {"rows": len(table), "left_out": 0}
    pd.testing.assert_frame_equal(found, counted(table, by), check_dtype=False)
    assert found["trials"].sum() == len(table)


BY = [["ward"], ["district"], ["district", "age"], ["ward", "district", "age"]]


@pytest.fixture
def small_pieces(monkeypatch):
    """Read a few rows at once, so that counts come from many pieces."""
    monkeypatch.setattr(counts_rows, "BLOCK", 2**10)
    monkeypatch.setattr(counts_rows, "BATCH", 37)


# ---------------------------------------------------------------------------------------------
# The counts


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("by", BY, ids="-".join)
@pytest.mark.parametrize("form", ["csv", "semicolon", "tab", "crlf", "bom", "gzip", "parquet"])
def test_counts_are_those_of_pandas(by, form, tmp_path):
    table = people(9001)
    path = tmp_path / f"people.{form}"
    if form == "parquet":
        table.to_parquet(path, row_group_size=2000)
    else:
        settings_of = {
            "semicolon": {"sep": ";"},
            "tab": {"sep": "\t"},
            "crlf": {"lineterminator": "\r\n"},
        }
        text = table.to_csv(index=False, **settings_of.get(form, {})).encode()
        text = b"\xef\xbb\xbf" + text if form == "bom" else text
        path.write_bytes(gzip.compress(text) if form == "gzip" else text)
    agree(count_rows(path, by, "cured"), table, by)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**31), st.sampled_from(BY))
def test_counts_of_random_tables_do_not_depend_on_the_format(rows, seed, by):
    import tempfile
    from pathlib import Path

    table = people(rows, seed)
    with tempfile.TemporaryDirectory() as folder:
        text, binary = Path(folder) / "p.csv", Path(folder) / "p.parquet"
        table.to_csv(text, index=False)
        table.to_parquet(binary)
        agree(count_rows(text, by, "cured"), table, by)
        agree(count_rows(binary, by, "cured"), table, by)


@pytest.mark.usefixtures("small_pieces")
def test_many_patterns_are_added_up_on_the_way(tmp_path):
    table = people(30_000).assign(district=lambda t: t["person"] // 3)
    table.to_csv(tmp_path / "p.csv", index=False)  # more pieces than are held
    agree(count_rows(tmp_path / "p.csv", "district", "cured"), table, ["district"])


def test_several_files_are_one_table(tmp_path):
    table = people(500)
    table[:200].to_parquet(tmp_path / "a.parquet")
    table[200:].to_parquet(tmp_path / "b.parquet")
    agree(count_rows(sorted(tmp_path.iterdir()), ["ward"], "cured"), table, ["ward"])
    table.to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(CountsError, match=r"a\.parquet: the column 'age' is of the type double, and"):
        count_rows([tmp_path / "c.csv", tmp_path / "a.parquet", tmp_path / "b.parquet"], "age", "cured")


@pytest.mark.parametrize(
    "values", [[True, False], [1.0, 0.0], ["1", "0"], [" true", "false"], pd.Categorical(["1", "0"])]
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_outcome_may_be_written_in_several_ways(values, form, tmp_path):
    table = pd.DataFrame({"ward": ["a"] * 4 + ["b"], "cured": [*values, *values, values[0]]})
    path = tmp_path / f"p.{form}"
    table.to_csv(path, index=False) if form == "csv" else table.to_parquet(path)
    found = count_rows(path, "ward", "cured")
    assert found.to_dict("list") == {"ward": ["a", "b"], "successes": [2, 1], "trials": [4, 1]}


def test_one_of_two_words_may_be_the_success(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("ward,use\n1,N\n1,Y\n2,N\n")
    assert count_rows(path, "ward", "use", success="Y")["successes"].tolist() == [1, 0]
    with pytest.raises(CountsError, match=r"row 2, column use: 'N' is not 0 or 1.*--success"):
        count_rows(path, "ward", "use")
    with pytest.raises(
        CountsError, match=r"no row has 'y' in the column 'use'; it holds 'N'|third value"
    ):
        count_rows(path, "ward", "use", success="y")
    path.write_text("ward,use\n1,N\n1,Y\n2,M\n")
    with pytest.raises(CountsError, match=r"row 4, column use: 'M' is a third value beside 'Y' and 'N'"):
        count_rows(path, "ward", "use", success="Y")


def test_codes_stay_text_and_quoted_words_are_no_missing_values(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('land,plot,use\n"NA",007,1\n"NA",007,0\nDE,012,1\n')
    found = count_rows(path, ["land", "plot"], "use")
    assert found["land"].tolist() == ["DE", "NA"]
    assert found["plot"].tolist() == ["012", "007"]


def test_blank_lines_and_blanks_around_values_do_not_count(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("ward, use\n1, 1\n\n 1,0\n1 ,1 \n\n\n")
    assert count_rows(path, "ward", "use").to_dict("list") == {
        "ward": [1],
        "successes": [2],
        "trials": [3],
    }


# ---------------------------------------------------------------------------------------------
# What is refused


LONG = "ward,use\n" + "1,1\n" * 4000


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", r"p\.csv: the file is empty; give"),
        (b" \n\n", r"the file is empty; give"),
        (b"ward,use\n", r"no rows below the columns' names; give"),
        (b"area,use\n1,1\n", r"no column 'ward'; the columns are 'area' and 'use'; choose"),
        (b"ward use\n1 1\n", r"no column 'ward'; the only column is 'ward use'; separate columns"),
        (b"ward,use,use\n1,1,1\n", r"the column 'use' comes twice; rename"),
        (
            LONG.encode() + b"1,2\n",
            r"p\.csv, row 4002, column use: '2' is not 0 or 1; recode the outcome\.$",
        ),
        (LONG.encode() + b"1,-1\n1,1\n", r"row 4002, column use: '-1' is not 0 or 1"),
        (LONG.encode() + b"1,0.5\n", r"row 4002, column use: '0.5' is not 0 or 1"),
        (LONG.encode() + b"1,\n", r"row 4002, column use: the value is missing; fill .*--drop-missing"),
        (LONG.encode() + b"1,NaN\n", r"row 4002, column use: the value is missing"),
        (LONG.encode() + b"NA,1\n", r"row 4002, column ward: the value is missing"),
        (LONG.encode() + b"  ,1\n", r"row 4002, column ward: the value is missing"),
        (LONG.encode() + b"1,2\nNA,1\n", r"row 4002, column use: '2' is not 0 or 1"),
        (LONG.encode() + b"1,1,1\n", r"p\.csv, row 4002: 3 cells where there are 2 columns"),
        (LONG.encode() + b"1\n", r"row 4002: 1 cells where there are 2 columns"),
        (LONG.encode() + b'1,"1\n' + b"1,1\n" * 4000, r"after row \d+ is longer than .*quotation mark"),
        (LONG.encode() + b"1\xff,1\n", r"row 4002: the text is not UTF-8; save"),
        (b"w\xe4rd,use\n1,1\n", r"row 1 is not UTF-8 text; save"),
        ("ward,use\n1,1\n".encode("utf-16"), r"this is text in UTF-16; save"),
        (b"PK\x03\x04 and more", r"this is an Excel workbook or another archive; save"),
        (gzip.compress(LONG.encode())[:-20], r"p\.csv: the file is damaged or cut short"),
        (b"PAR1 and more", r"Parquet file is damaged or cut short .*; write it again"),
    ],
)
def test_bad_tables_are_refused_with_row_and_remedy(text, sentence, tmp_path, capsys):
    path = tmp_path / "p.csv"
    path.write_bytes(text)
    with pytest.raises(CountsError, match=sentence) as refusal:
        count_rows(path, "ward", "use")
    assert "\n" not in str(refusal.value)
    assert main(["rows", str(path), "--by", "ward", "--outcome", "use"]) == NO_ANSWER
    said = capsys.readouterr()
    assert said.err == f"{refusal.value}\n"
    assert said.out == ""


def parquet_of(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_bad_parquet_files_are_refused_with_row_and_remedy(tmp_path):
    path = tmp_path / "p.parquet"
    for columns, sentence in (
        ({"ward": [1, 2], "use": [0, 2]}, r"p\.parquet, row 2, column use: '2' is not 0 or 1"),
        ({"ward": [1, 2], "use": [0, None]}, r"row 2, column use: the value is missing"),
        ({"ward": [1, 2], "use": [0.0, np.nan]}, r"row 2, column use: the value is missing"),
        ({"ward": [np.nan, 2], "use": [0, 1]}, r"row 1, column ward: the value is missing"),
        ({"ward": ["a", ""], "use": [0, 1]}, r"row 2, column ward: the value is missing"),
        ({"ward": ["a", "b"], "use": [[0], [1]]}, r"'use' are of the type list.*single values"),
        (
            {"ward": pa.array([], pa.int64()), "use": pa.array([], pa.int64())},
            r"there are no rows; give",
        ),
        ({"ward": [1], "used": [0]}, r"no column 'use'; the columns are 'ward' and 'used'"),
    ):
        with pytest.raises(CountsError, match=sentence):
            count_rows(parquet_of(path, **columns), "ward", "use")
    parquet_of(path, ward=pa.array([b"a", b"b"]), use=[0, 1])
    assert count_rows(path, "ward", "use")["ward"].tolist() == ["a", "b"]
    parquet_of(path, ward=pa.array([b"a", b"\xff"]), use=[0, 1])
    with pytest.raises(CountsError, match=r"p\.parquet: rows cannot be counted .*as text or numbers"):
        count_rows(path, "ward", "use")
    content = parquet_of(path, ward=list(range(5000)), use=[0, 1] * 2500).read_bytes()
    scrambled = content[:9] + b"\xff" * 900 + content[909:]
    for damage in (content[: len(content) // 2], b"0" + content[1:], scrambled):
        path.write_bytes(damage)
        with pytest.raises(CountsError, match=r"p\.parquet: .*damaged.*write it again"):
            count_rows(path, "ward", "use")


def test_rows_with_a_value_missing_are_left_out_when_asked(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("ward,use\n1,1\n,1\n1,NA\nNA,7\n1,0\n")
    found = count_rows(path, "ward", "use", drop_missing=True)
    assert found.to_dict("list") == {"ward": [1], "successes": [1], "trials": [2]}
    assert found.attrs == {"rows": 2, "left_out": 3}
    path.write_text("ward,use\n1,1\n,1\n1,NA\n2,7\n1,0\n")
    with pytest.raises(CountsError, match="row 5, column use: '7'"):
        count_rows(path, "ward", "use", drop_missing=True)
    path.write_text("ward,use\n1,NA\n")
    with pytest.raises(CountsError, match="every row has a value missing"):
        count_rows(path, "ward", "use", drop_missing=True)


def test_columns_that_cannot_be_counted_by_are_refused(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("trials,ward,use\n1,1,1\n")
    for by, sentence in (
        ([], "No column is given"),
        (["ward", "ward"], "'ward' is given twice"),
        ("use", "'use' is the outcome"),
        ("trials", "a column 'trials' of their own; rename"),
    ):
        with pytest.raises(CountsError, match=sentence):
            count_rows(path, by, "use")
    for missing, sentence in (
        (tmp_path / "none.csv", r"none\.csv: there is no such file"),
        (tmp_path, r"this is a folder; give the files in it"),
    ):
        with pytest.raises(CountsError, match=sentence):
            count_rows(missing, "ward", "use")


@pytest.mark.usefixtures("small_pieces")
def test_a_column_with_too_many_values_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(counts_rows, "MOST_PATTERNS", 1000)
    people(9001).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(CountsError, match=r"more than 1000 patterns .* round the column 'person'"):
        count_rows(tmp_path / "p.csv", ["ward", "person"], "cured")


# ---------------------------------------------------------------------------------------------
# The command


def test_the_command_writes_what_counts_takes(tmp_path, capsys):
    rows, to = tmp_path / "women.csv", tmp_path / "counts.csv"
    women = load_bangladesh()
    women.to_csv(rows, index=False)
    job = ["rows", str(rows), "--by", "district", "--outcome", "use_contraception"]
    assert main([*job, "--to", str(to)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("1,934 rows are 60 patterns (")
    counts, expected = read_counts(to), count_by_district(women)
    assert counts.group == [str(label) for label in expected.index]
    np.testing.assert_array_equal(counts.successes, expected["users"])
    np.testing.assert_array_equal(counts.trials, expected["women"])
    assert main(job) == 0
    assert capsys.readouterr().out == to.read_text()
    assert main([*job, "--by", "urban", "--to", str(to)]) == 0
    added = read_counts(to, group="district", add_up=True)
    np.testing.assert_array_equal(added.trials, expected["women"])


def test_the_command_does_not_write_where_it_must_not(tmp_path, capsys):
    rows = tmp_path / "women.csv"
    rows.write_text("ward,use\n1,1\n")
    job = ["rows", str(rows), "--by", "ward", "--outcome", "use", "--to"]
    for to, sentence in (
        (rows, "would replace the rows"),
        (tmp_path, "give one in a folder that exists"),
        (tmp_path / "none" / "counts.csv", "give one in a folder that exists"),
    ):
        assert main([*job, str(to)]) == NO_ANSWER
        assert sentence in capsys.readouterr().err
    assert rows.read_text() == "ward,use\n1,1\n"


def test_progress_ends_at_one(tmp_path):
    people(2000).to_csv(tmp_path / "p.csv", index=False)
    people(2000).to_parquet(tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        shares = []
        count_rows(tmp_path / name, "ward", "cured", tick=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)


# ---------------------------------------------------------------------------------------------
# One posterior


@pytest.mark.parametrize("parameterization", ["centered", "non-centered"])
@pytest.mark.parametrize("covariates", [False, True], ids=["district", "covariates"])
def test_the_log_densities_of_rows_and_counts_differ_by_the_binomial_coefficients(
    covariates, parameterization
):
    patterns = study.simulate_patterns(3000)
    women = study.as_women(patterns)
    rows = study.rows_model(women, covariates=covariates, parameterization=parameterization)
    counts = study.counts_model(patterns, covariates=covariates, parameterization=parameterization)
    used = patterns if covariates else study.per_district(patterns)
    n, y = used["women"].to_numpy(), used["users"].to_numpy()
    constant = (gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)).sum()
    assert {v.name for v in rows.value_vars} == {v.name for v in counts.value_vars}
    densities = [model.compile_logp() for model in (rows, counts)]
    rng = np.random.default_rng(3)
    start = rows.initial_point(0)
    apart = []
    for _ in range(20):
        point = {name: rng.normal(0, 0.7, np.shape(value)) for name, value in start.items()}
        apart.append(float(densities[1](point)) - float(densities[0](point)))
    np.testing.assert_allclose(apart, constant, rtol=0, atol=1e-8)


def test_women_are_the_rows_of_their_patterns(tmp_path):
    patterns = study.simulate_patterns(5000)
    assert patterns["women"].sum() == 5000
    women = study.as_women(patterns)
    women.to_parquet(tmp_path / "women.parquet")
    found = count_rows(tmp_path / "women.parquet", ["district", "urban", "children"], "use")
    found = found.rename(columns={"successes": "users", "trials": "women"})
    pd.testing.assert_frame_equal(found, patterns, check_dtype=False)


def test_the_timed_gradient_is_that_of_the_model():
    patterns = study.simulate_patterns(1000)
    model = study.counts_model(patterns)
    evaluate = study.gradient_of(nutpie.compile_pymc_model(model))
    point = np.random.default_rng(1).normal(0, 0.3, 2 + 59 + 1)[
        : sum(np.size(value) for value in model.initial_point(0).values())
    ]
    density, gradient = evaluate(point)
    steps = 1e-5 * np.eye(point.size)
    gradient = gradient.copy()
    numeric = [(evaluate(point + step)[0] - evaluate(point - step)[0]) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-5)
    assert density == pytest.approx(evaluate(point)[0], abs=0)
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(np.full(point.size, 1e200))


# ---------------------------------------------------------------------------------------------
# What a row costs: the stored study


def test_rows_and_counts_have_the_same_means_where_both_were_sampled():
    fits = stored("rows").table
    sampled = fits[fits["sampled"]].set_index(["model", "parameterization", "rows"])
    rows = sampled[sampled["form"] == "rows"]
    counts = sampled[sampled["form"] == "counts"].loc[rows.index]
    assert len(rows) == 4
    assert (rows["rhat"] < 1.02).all()
    for name in ("alpha_bar", "sigma"):
        error = np.hypot(rows[f"{name}_mcse"], counts[f"{name}_mcse"])
        assert ((rows[name] - counts[name]).abs() < 4 * error).all()
        np.testing.assert_allclose(rows[f"{name}_sd"], counts[f"{name}_sd"], rtol=0.15)


def test_a_table_of_counts_does_not_grow_with_the_women():
    fits = stored("rows").table
    assert (fits["lines"] == fits["rows"])[fits["form"] == "rows"].all()
    counts = fits[fits["form"] == "counts"]
    assert counts.loc[counts["model"] == "district", "lines"].between(55, 60).all()
    assert counts["lines"].max() <= 60 * 2 * 4
    assert (fits["peak_mib"] > fits["start_mib"]).all()


def test_derived_times_are_those_of_as_many_gradients_as_the_counts_needed():
    fits = stored("rows").table
    found = study.with_derived_times(fits)
    derived = found["time"] == "derived"
    assert (derived == ~fits["sampled"]).all()
    assert derived.any()
    assert found[["sample_seconds", "gradients", "ess"]].notna().all(axis=None)
    for _, row in found[derived].iterrows():
        alike = ["model", "rows", "parameterization"]
        same = (fits[alike] == row[alike]).all(axis=1)
        like = fits[same & (fits["form"] == "counts")]
        assert row["gradients"] == like["gradients"].item()
        assert row["sample_seconds"] == pytest.approx(row["gradient_seconds"] * row["gradients"])
    pd.testing.assert_frame_equal(found.loc[~derived, list(fits)], fits[~derived])
