"""Variants of one protein: what they change, and ProteinGym's folds by position."""

import csv
from pathlib import Path

import numpy as np
import pytest

from unirefine.errors import UserError
from unirefine.finetune import positions

ASSAY = Path(__file__).parents[3] / "resources/demo/amyloid_beta.csv"


@pytest.fixture(scope="module")
def assay():
    """(position of each variant by its name, from 1; where each differs)."""
    rows = list(csv.DictReader(ASSAY.open()))
    return np.array([int(row["mutant"][1:-1]) for row in rows]), positions.changed(
        [row["mutated_sequence"] for row in rows]
    )


def test_changed_positions_are_those_of_the_names(assay):
    named, places = assay
    assert places.shape == (468, 42) and (places.sum(axis=1) == 1).all()
    assert np.array_equal(places.argmax(axis=1) + 1, named)
    assert len(np.unique(positions.groups(places))) == 42
    assert all(len(set(named[positions.groups(places) == group])) == 1 for group in range(42))


@pytest.mark.parametrize("scheme", ["modulo", "contiguous"])
@pytest.mark.parametrize("folds", [1, 7])
def test_folds_of_single_substitutions(assay, scheme, folds):
    named, places = assay
    rows = np.arange(len(named))[::2]  # the others have no label
    found = positions.by_position(places, rows, scheme, folds, "t.csv")
    assert len(found) == (5 if folds == 1 else folds)
    assert np.array_equal(np.sort(np.concatenate([one.test for one in found])), rows)
    for number, one in enumerate(found):
        assert np.array_equal(one.validation, found[(number + 1) % len(found)].test)
        assert np.array_equal(np.sort(np.concatenate([one.train, one.validation, one.test])), rows)
        tested = np.unique(named[one.test])
        if scheme == "modulo":
            assert len(np.unique(tested % len(found))) == 1
        else:
            assert np.array_equal(tested, np.arange(tested[0], tested[-1] + 1))
            assert len(tested) in (42 // len(found), 42 // len(found) + 1)


def test_multiple_substitutions_never_touch_what_is_held_out():
    draw = np.random.Generator(np.random.Philox(2))
    wild_type = np.array(list("MKTAYIAKQRQISFVKSHFS"))
    sequences = ["".join(wild_type)]
    for _ in range(300):
        variant = wild_type.copy()
        for at in draw.choice(len(wild_type), draw.integers(1, 4), replace=False):
            variant[at] = draw.choice([one for one in "ACDEFGHIKLMNPQRSTVWY" if one != wild_type[at]])
        sequences.append("".join(variant))
    places = positions.changed(sequences)
    assert np.array_equal(places, [[a != b for a, b in zip(s, wild_type, strict=True)] for s in sequences])
    for scheme in ("modulo", "contiguous"):
        found = positions.by_position(places, np.arange(len(sequences)), scheme, 4, "t.csv")
        for one in found:
            held_out = places[one.test].any(axis=0), places[one.validation].any(axis=0)
            assert not (held_out[0] & held_out[1]).any()
            assert not places[one.train][:, held_out[0] | held_out[1]].any()
            assert 0 in one.train and len(one.test) > 10


@pytest.mark.parametrize(
    ("sequences", "said"),
    [
        (["MKV", "MK"], "for variants of one protein, with substitutions alone"),
        (["MKVAA", "GGWYL", "PPRST"], "for variants of one protein"),
        (["MKVLLGHWAA"] * 3 + ["MKVLLGHWAG", "MKVLLGHWGA"], "no variant is only in fold"),
    ],
)
def test_what_has_no_folds_by_position(sequences, said):
    with pytest.raises(UserError, match=said):
        positions.by_position(positions.changed(sequences), np.arange(len(sequences)), "contiguous", 5, "t.csv")
