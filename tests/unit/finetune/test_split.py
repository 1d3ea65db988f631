"""Sides: groups stay whole, shares are near what was asked for, and columns say what they mean."""

import numpy as np
import polars as pl
import pytest

from unirefine.config import Finetune
from unirefine.errors import UserError
from unirefine.finetune import similar, split, text
from unirefine.finetune.table import Data
from unirefine.similarity.linkage import single_linkage

GROUPS = np.repeat(np.arange(60), np.random.Generator(np.random.Philox(1)).integers(1, 9, 60))


def text_of(splits, groups, config):
    """What is said of splits by homology."""
    sizes = {"labelled": len(groups), "largest_cluster": int(np.bincount(groups).max())}
    parts = [{"train": len(one.train), "validation": len(one.validation), "test": len(one.test)} for one in splits]
    found = {"method": "homology", "parts": parts, "leaks": 0, "test": sum(one["test"] for one in parts), "untested": 0}
    return text.split_text(found, {"settings": {"config": config.model_dump(mode="json")}, "sequences": sizes})


@pytest.mark.parametrize("folds", [1, 5])
def test_groups_stay_whole_and_sides_have_their_share(folds):
    rows = np.arange(len(GROUPS))[::2]  # the others have no label
    config = Finetune(folds=folds)
    found = split.by_groups(GROUPS, rows, config, "t.csv")
    assert len(found) == folds
    for one in found:
        sides = one.train, one.validation, one.test
        assert np.array_equal(np.sort(np.concatenate(sides)), rows)
        groups = [set(GROUPS[side]) for side in sides]
        assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
        wanted = (0.7, 0.1, 0.2) if folds == 1 else (0.6, 0.2, 0.2)
        assert [len(side) / len(rows) for side in sides] == pytest.approx(wanted, abs=0.03)
    if folds > 1:
        assert np.array_equal(np.sort(np.concatenate([one.test for one in found])), rows)
    again = split.by_groups(GROUPS, rows, config, "t.csv")
    other = split.by_groups(GROUPS, rows, Finetune(folds=folds, seed=1), "t.csv")
    assert np.array_equal(again[0].test, found[0].test) and not np.array_equal(other[0].test, found[0].test)


def test_one_large_group_goes_where_it_fits():
    groups = np.concatenate([np.zeros(90, int), np.arange(1, 11)])
    (one,) = split.by_groups(groups, np.arange(100), Finetune(), "t.csv")
    assert set(groups[one.train]) >= {0} and len(one.test) and len(one.validation)
    said = text_of([one], groups, Finetune())
    assert "Few test and validation sequences: one cluster has 90 of the 100 with a label" in said
    folds = split.by_groups(groups, np.arange(100), Finetune(folds=3), "t.csv")
    assert "Few test sequences: one cluster has 90" in text_of(folds, groups, Finetune(folds=3))


def test_usual_groups_are_no_reason_for_a_warning():
    rows = np.arange(len(GROUPS))
    for folds in (1, 3):
        found = split.by_groups(GROUPS, rows, Finetune(folds=folds), "t.csv")
        assert "Few" not in text_of(found, GROUPS, Finetune(folds=folds))


@pytest.mark.parametrize(
    ("groups", "folds", "said"),
    [
        (np.zeros(50, int), 1, "1 cluster of similar sequences for train, validation and test"),
        (np.arange(50) % 4, 5, "4 clusters of similar sequences for 5 folds"),
        (np.arange(4), 5, "4 sequences for 5 folds"),
    ],
)
def test_too_few_groups(groups, folds, said):
    with pytest.raises(UserError, match=said):
        split.by_groups(groups, np.arange(len(groups)), Finetune(folds=folds), "t.csv")


def of_column(values, config=Finetune(split_by="side")):  # noqa: B008 - a constant
    number = len(values)
    data = Data("t.csv", [str(at) for at in range(number)], ["M"] * number, {"side": values}, ",", ["t.csv"] * number)
    return split.by_column(data, np.arange(number), config)


def test_columns():
    (one,) = of_column(["Train"] * 6 + ["valid", "TEST"])
    assert (one.train.tolist(), one.validation.tolist(), one.test.tolist()) == ([0, 1, 2, 3, 4, 5], [6], [7])
    (one,) = of_column(["train"] * 20 + ["test"])
    assert (len(one.train), len(one.validation), one.test.tolist()) == (18, 2, [20])
    folds = of_column(["0", "1", "2", "3", "4"] * 2)
    assert [each.test.tolist() for each in folds] == [[at, at + 5] for at in range(5)]
    assert folds[4].validation.tolist() == [0, 5]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["train"] * 3, "no test rows"),
        (["test"] * 3, "no train rows"),
        (["train", "", "test"], "column 'side' is empty"),
        (["a", "b"] * 3, "has 2 different values"),
        ([str(at) for at in range(30)], "has 30 different values"),
    ],
)
def test_columns_that_are_refused(values, said):
    with pytest.raises(UserError, match=said):
        of_column(values)


def test_clusters_nearest_and_leaks():
    sequences = ["MKV", "MKW", "MKY", "GGS", "GGS", "LLL"]
    one_way = [(0, 1, 0.5, 0.9), (1, 2, 0.3, 0.8), (2, 5, 0.9, 0.6), (0, 2, 0.29, 0.9)]
    rows = [(q, t, i, c, 50.0) for q, t, i, c in one_way] + [(t, q, i, c, 50.0) for q, t, i, c in one_way]
    columns = {
        "query": pl.UInt32,
        "target": pl.UInt32,
        "identity": pl.Float32,
        "coverage": pl.Float32,
        "bits": pl.Float32,
    }
    pairs = pl.DataFrame(rows, schema=columns, orient="row")
    config = Finetune()
    groups = single_linkage(sequences, pairs, config.identity, config.coverage)
    # 0-1-2 through 1; 3 and 4 have the same letters; 2-5 covers too little
    assert groups.tolist() == [0, 0, 0, 1, 1, 2]
    near, identity = similar.nearest(sequences, pairs, np.array([0, 3, 5]), np.array([1, 2, 4]))
    assert near.tolist() == [0, 5, 3] and identity == pytest.approx([0.5, 0.9, 1.0])
    assert similar.leaks(sequences, pairs, np.array([0, 3, 5]), np.array([1, 2, 4]), config) == 2
    assert similar.leaks(sequences, pairs, np.array([5]), np.array([0]), config) == 0
