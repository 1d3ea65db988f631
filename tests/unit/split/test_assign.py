"""Sides by rank of the keyed hash: exact, independent of order and blocks, stable between releases."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import key_of
from unirefine.split.assign import exact_floor, sides_by_hash, smallest_hashes

GOLDEN_42 = [
    "8682ea69e612c97b",
    "23d037446a0996dd",
    "a2881c73947b81df",
    "36a37282c93f9d10",
    "0b649401a8e74821",
    "aa2fba942c4e72c1",
]
GOLDEN_SIDES = [0, 1, 0, 2, 1, 0]
KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200, unique=True)


def sides_of(keys, seed, validation, test=0, block=7):
    """Side of each key, computed in blocks; and the thresholds."""
    keys = np.array(keys, np.uint64)
    blocks = lambda: (keys[i : i + block] for i in range(0, len(keys), block))  # noqa: E731
    sides, thresholds = sides_by_hash(blocks, seed, validation, test)
    return np.concatenate(list(sides)), thresholds


@pytest.mark.parametrize(
    ("fraction", "count", "expected"),
    [
        (0.005, 65_672_139, 328_360),
        (0.005, 200, 1),
        (0.005, 199, 0),
        (0.29, 100, 29),  # int(0.29 * 100) is 28
        (0.07, 100, 7),  # 0.07 * 100 is 7.000000000000001
        (1e-05, 300_000, 3),
    ],
)
def test_floor_is_exact_in_the_decimal_text(fraction, count, expected):
    assert exact_floor(fraction, count) == expected


@given(st.integers(1, 9999), st.integers(1, 4), st.integers(0, 10**9))
def test_floor_agrees_with_rational_arithmetic(digits, places, count):
    text = f"0.{digits:0{places + 3}d}"
    assert exact_floor(float(text), count) == Fraction(text) * count // 1


def test_golden_vectors():
    ids = ["A0A009IHW8", "P10636-7", "UPI002E2621C6", "Q6GZX4", "P12345", "UPI0000000001"]
    keys = np.array([key_of(name) for name in ids], np.uint64)
    assert [f"{h:016x}" for h in keyed_hash(42, keys)] == GOLDEN_42
    side, thresholds = sides_of(keys, 42, 2, 1)
    assert side.tolist() == GOLDEN_SIDES
    assert thresholds == {"validation": int(sorted(GOLDEN_42)[1], 16), "test": int(sorted(GOLDEN_42)[2], 16)}


@given(KEYS, st.integers(0, 2**63 - 1), st.data())
def test_counts_are_exact_and_the_chosen_are_the_smallest(keys, seed, data):
    validation = data.draw(st.integers(0, len(keys)))
    test = data.draw(st.integers(0, len(keys) - validation))
    side, _ = sides_of(keys, seed, validation, test)
    assert np.bincount(side, minlength=3).tolist() == [len(keys) - validation - test, validation, test]
    ranked = side[np.argsort(keyed_hash(seed, np.array(keys, np.uint64)))]
    assert ranked.tolist() == [1] * validation + [2] * test + [0] * (len(keys) - validation - test)


@given(KEYS, st.integers(0, 2**63 - 1), st.randoms(), st.integers(1, 50), st.data())
def test_order_and_blocks_do_not_matter(keys, seed, random, block, data):
    validation = data.draw(st.integers(0, len(keys)))
    shuffled = random.sample(keys, len(keys))
    first, _ = sides_of(keys, seed, validation)
    second, _ = sides_of(shuffled, seed, validation, block=block)
    assert dict(zip(keys, first.tolist(), strict=True)) == dict(zip(shuffled, second.tolist(), strict=True))


@settings(max_examples=200)
@given(KEYS, KEYS, KEYS, st.integers(0, 2**63 - 1), st.floats(0.05, 0.6))
def test_between_releases_only_hashes_between_the_thresholds_change_side(shared, old, new, seed, fraction):
    releases = [list(dict.fromkeys(shared + extra)) for extra in (old, new)]
    sides, thresholds = [], []
    for keys in releases:
        side, threshold = sides_of(keys, seed, max(1, exact_floor(fraction, len(keys))))
        sides.append(dict(zip(keys, side.tolist(), strict=True)))
        thresholds.append(threshold["validation"])
    low, high = sorted(thresholds)
    for key in sides[0].keys() & sides[1].keys():
        value = int(keyed_hash(seed, np.array([key], np.uint64))[0])
        assert (sides[0][key] != sides[1][key]) == (low < value <= high)


@settings(max_examples=200)
@given(KEYS, KEYS, KEYS, st.integers(0, 2**63 - 1), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_between_releases_a_test_cluster_changes_side_only_between_thresholds_too(
    shared, old, new, seed, validation, test
):
    """Of three sides, a shared cluster changes its one just where either threshold has passed over its hash.

    Held out or not (validation and test together) changes just where the threshold of test has.
    """
    releases = [list(dict.fromkeys(shared + extra)) for extra in (old, new)]
    assume(min(map(len, releases)) >= 2)
    sides, thresholds = [], []
    for keys in releases:
        counts = [max(1, exact_floor(fraction, len(keys))) for fraction in (validation, test)]
        side, threshold = sides_of(keys, seed, *counts)
        sides.append(dict(zip(keys, side.tolist(), strict=True)))
        thresholds.append(threshold)
    ranges = {name: sorted(one[name] for one in thresholds) for name in ("validation", "test")}
    for key in sides[0].keys() & sides[1].keys():
        value = int(keyed_hash(seed, np.array([key], np.uint64))[0])
        passed = {name: low < value <= high for name, (low, high) in ranges.items()}
        before, after = (side[key] for side in sides)
        assert (before != after) == (passed["validation"] or passed["test"])
        assert ((before == 0) != (after == 0)) == passed["test"]


def test_a_release_that_shares_95_percent_keeps_nearly_all_test_clusters():
    random = np.random.default_rng(4)
    shared, old, new = np.split(random.integers(0, 2**63, 210_000, np.uint64), [190_000, 200_000])
    first, second = (
        sides_of(np.concatenate([shared, extra]), 42, 1000, 2000, block=4096)[0][: len(shared)] for extra in (old, new)
    )
    assert (first != second).sum() < 200  # two thresholds move, each by some tens of clusters
    assert ((first == 2) & (second == 2)).sum() > 1750
    assert ((first > 0) & (second > 0)).sum() > 2700  # held out in both, as validation or test


def test_a_release_that_shares_95_percent_keeps_nearly_all_sides():
    random = np.random.default_rng(3)
    shared, old, new = np.split(random.integers(0, 2**63, 210_000, np.uint64), [190_000, 200_000])
    side = [sides_of(np.concatenate([shared, extra]), 42, 1000, block=4096)[0][: len(shared)] for extra in (old, new)]
    kept = (side[0] == side[1]).sum()
    # the threshold moves by the difference of two counts of about 50: some tens of the 190,000 change
    assert len(shared) - kept < 60
    assert (side[0] & side[1]).sum() > 880


@given(st.lists(KEYS, max_size=6), st.integers(0, 300))
def test_smallest_hashes_are_those_of_a_full_sort(blocks, count):
    arrays = [np.array(block, np.uint64) for block in blocks]
    expected = sorted(value for block in blocks for value in block)[:count]
    assert smallest_hashes(iter(arrays), count).tolist() == expected
