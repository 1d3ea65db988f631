import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.cluster.index import KeyIndex
from unirefine.core.ids import key_of
from unirefine.core.rows import NONE

KEYS = st.integers(0, 2**64 - 1) | st.integers(0, 50)


@settings(deadline=None)
@given(st.lists(KEYS, max_size=60, unique=True), st.lists(KEYS, max_size=60))
def test_agrees_with_a_dict(present, asked):
    rows = {key: row for row, key in enumerate(present)}
    index = KeyIndex(np.array(present, np.uint64))
    wanted = np.array(present + asked, np.uint64)
    assert index.rows(wanted).tolist() == [rows.get(int(key), int(NONE)) for key in wanted]
    assert index.duplicate() is None


def test_crowded_accessions_are_spread():
    """Neighbouring accessions share their leading bits; buckets must not."""
    keys = np.array([key_of(f"A0A{number:07d}") for number in range(60_000)], np.uint64)
    index = KeyIndex(keys)
    assert index.rows(keys).tolist() == list(range(len(keys)))
    assert int(np.diff(index._ends).max()) < 20


@pytest.mark.parametrize("rows", [(0, 1), (5, 9_999), (9_998, 9_999)])
def test_a_key_that_is_there_twice_is_found(rows):
    keys = np.random.default_rng(3).integers(0, 2**64, 10_000, np.uint64)
    assert KeyIndex(keys).duplicate() is None
    keys[rows[1]] = keys[rows[0]]
    assert KeyIndex(keys).duplicate() == rows
