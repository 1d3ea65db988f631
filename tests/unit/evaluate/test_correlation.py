"""Rank correlations against plain numpy, and scores without a model against Biopython's BLOSUM62."""

import numpy as np
import pytest
from Bio.Align import substitution_matrices

from unirefine.evaluate.correlation import correlations, spearman, spearman_interval, without_model
from unirefine.evaluate.edits import parse_mutant
from unirefine.evaluate.mutants import Variant

WILD = "MKVLAAGICDERWYHPQNST"


def variant(text: str) -> Variant:
    return Variant("one", text, parse_mutant(text, WILD))


def test_spearman_with_ties_is_the_correlation_of_mean_ranks():
    assert spearman(np.array([1.0, 2, 2, 9]), np.array([10.0, 20, 30, 40])) == pytest.approx(
        np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    )
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None
    assert spearman(np.array([1.0]), np.array([1.0])) is None


def test_its_interval_is_that_of_resampled_variants():
    rng = np.random.default_rng(3)
    first = rng.normal(size=150)
    second = first + rng.normal(size=150)
    values = []
    for _ in range(600):
        drawn = rng.integers(0, 150, 150)
        ranks = [np.argsort(np.argsort(each[drawn], kind="stable")) for each in (first, second)]
        values.append(np.corrcoef(*ranks)[0, 1])
    assert spearman_interval(first, second) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.03)
    assert spearman_interval(first[:9], second[:9]) is None
    assert spearman_interval(first, np.ones(150)) is None


def test_scores_without_a_model():
    variants = [variant(text) for text in ("K2R", "K2W:V3I", "wt", "K2del", "M1X")]
    blosum = substitution_matrices.load("BLOSUM62")
    found = without_model(variants)
    one = blosum["K"]["R"] - blosum["K"]["K"]
    two = blosum["K"]["W"] - blosum["K"]["K"] + blosum["V"]["I"] - blosum["V"]["V"]
    np.testing.assert_array_equal(found["blosum62"], [one, two, 0, np.nan, blosum["M"]["X"] - blosum["M"]["M"]])
    np.testing.assert_array_equal(found["fewer_substitutions"], [-1, -2, 0, np.nan, -1])
    np.testing.assert_array_equal(found["longer"], [20, 20, 20, 19, 20])


def test_each_score_is_compared_where_it_is_known():
    scores = {"some": np.array([1.0, 2, np.nan, 4]), "none": np.full(4, np.nan)}
    found = correlations(scores, np.array([5.0, np.nan, 1, 7]))
    assert found["some"] == {"spearman": pytest.approx(1), "interval": None, "variants": 2}
    assert found["none"] == {"spearman": None, "interval": None, "variants": 0}
