"""The studies of sixty districts: what is fitted, and that the figures of a fit follow the truth."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from fieldguide.data import count_by_district, load_bangladesh
from fieldguide.fits import label, problem_of_fit
from fieldguide.models import varying_intercept_model
from fieldguide.models.graph import log_density_gap
from fieldguide.reference import districts_problem
from fieldguide.studies import sixty

SMALL = {"seed": 1, "draws": 200, "tune": 300}


@pytest.mark.parametrize("name", ["number", "women", "phase"])
def test_every_fit_of_a_design_is_there_once_and_in_every_form(name):
    design = getattr(sixty, f"{name}_design")()
    assert not design.duplicated().any()
    assert set(design.columns) <= set(sixty.DESIGN_COLUMNS)
    cells = [name for name in design if name not in ("parameterization", "weights_sigma")]
    forms = design.groupby(cells)["parameterization"].agg(set)
    assert all({"centered", "non-centered"} <= found for found in forms)
    partial = design["parameterization"] == "partial"
    assert (design.loc[partial, "weights_sigma"] > 0).all()
    assert (design.loc[~partial, "weights_sigma"] == 0).all()


def test_the_design_of_numbers_has_six_subsets_of_each_and_one_of_all():
    design = sixty.number_design()
    subsets = design.groupby("number")["data_seed"].nunique()
    assert subsets[60] == 1
    assert (subsets.drop(60) >= 6).all()
    assert design.loc[design["number"] == 60, "seed"].nunique() >= 6
    assert len(sixty.reduced_design().merge(design)) == len(sixty.reduced_design()) == 8


def test_a_subset_is_of_the_survey_and_all_districts_are_the_survey():
    counts = count_by_district(load_bangladesh())
    users, women = sixty.subset(60, 0)
    assert users.sum() == 759
    assert women.tolist() == counts["women"].tolist()
    users, women = sixty.subset(5, 3)
    pairs = set(zip(counts["users"], counts["women"], strict=True))
    assert set(zip(users.tolist(), women.tolist(), strict=True)) <= pairs
    assert sixty.subset(5, 4)[1].tolist() != women.tolist()


def test_simulated_districts_differ_by_the_spread_that_was_asked_for():
    users, women = sixty.simulated(400, 10_000, seed=5, spread=1.0)
    rates = np.log(users / (women - users))
    assert rates.std(ddof=1) == pytest.approx(1.0, abs=0.12)
    assert rates.mean() == pytest.approx(sixty.population()[0], abs=0.15)
    narrow = sixty.simulated(400, 10_000, seed=5, spread=0.1)[0]
    # the same standardised effects
    assert np.corrcoef(rates, narrow)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sixty.subset(61, 0), "whole number from 1 to 60"),
        (lambda: sixty.subset(2.5, 0), "whole number from 1 to 60"),
        (lambda: sixty.simulated(3, 0, 0), "women is 0; give a whole number"),
        (lambda: sixty.simulated(3, 5, 0, spread=-1), "spread is -1; give a positive number"),
        (
            lambda: sixty.sample_districts(
                {"number": 3, "data_seed": 0, "parameterization": "partial", "seed": 1}
            ),
            "weights_sigma is 0; the partial form needs a positive spread",
        ),
        (
            lambda: sixty.sample_districts(
                {"number": 3, "data_seed": 0, "parameterization": "integrated", "seed": 1}
            ),
            "Unknown parameterization 'integrated'; use one of centered, non-centered, partial",
        ),
        (lambda: sixty.again(pd.DataFrame({"number": [3]})), "rows of a stored table such as"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_partial_form_whose_weights_are_data_is_the_partial_form():
    users, women = sixty.subset(4, 2)
    weights = [0.0, 0.3, 0.8, 1.0]
    ours, theirs = (
        sixty.partial_model(users, women),
        varying_intercept_model(users, women, parameterization="partial", weights=weights),
    )
    with ours:
        ours.set_data("weights", weights)
    names = {name: name for name in ("alpha_bar", "sigma", "x")}
    assert log_density_gap(ours, theirs, names, np.random.default_rng(1)) < 1e-8


def test_one_compiled_model_fits_the_data_of_each_cell():
    for data_seed in (0, 1):
        cell = {"number": 3, "data_seed": data_seed, "parameterization": "partial"}
        fit = sixty.sample_districts(cell | {"weights_sigma": 0.5} | SMALL)
        users, women = sixty.subset(3, data_seed)
        assert problem_of_fit(fit) == districts_problem(users, women, sigma_prior=scipy.stats.expon())
        assert label(fit).endswith("partial, Exponential(1), target 0.8")
        assert fit["posterior"].sizes["chain"] == 4


def test_with_10_000_women_in_a_district_the_centered_form_wins_and_with_one_it_loses():
    cell = {"number": 3, "spread": 1.0, "data_seed": 0, "weights_sigma": 0.0} | SMALL
    price = {}
    for women in (1, 10_000):
        for form in ("centered", "non-centered"):
            row = sixty.fit_districts(cell | {"women": women, "parameterization": form})
            price[women, form] = row["gradients"] / min(row["ess_bulk"], row["ess_tail"])
    assert price[10_000, "non-centered"] > 2 * price[10_000, "centered"]
    assert price[1, "centered"] > 2 * price[1, "non-centered"]


def test_the_figures_of_a_fit_are_those_of_the_data_and_the_same_when_made_again():
    cell = {"number": 3, "data_seed": 1, "weights_sigma": 0.0, "parameterization": "non-centered"}
    row = sixty.fit_districts(cell | {"seed": 1})
    users, women = sixty.subset(3, 1)
    p = (users.sum() + 0.5) / (women.sum() + 1)
    assert row["information"] == pytest.approx(women.mean() * p * (1 - p))
    assert row["information_high"] == pytest.approx(women.max() * p * (1 - p))
    assert row["exact_sigma_05"] < row["exact_sigma_50"] < row["exact_sigma_95"]
    worst = row["sd_error:worst"]
    assert abs(worst) >= max(abs(row["sd_error:sigma"]), abs(row["sd_error:alpha_bar"]))
    made = sixty.again(pd.DataFrame([cell | {"seed": 1}], index=[7]))
    assert made.index.tolist() == [7]
    same = [name for name in row if name != "seconds"]
    assert made.loc[7, same].astype(float).tolist() == pytest.approx([row[name] for name in same])
