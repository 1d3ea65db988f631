"""Padded batches: every sequence once, within the budget, little padding."""

import numpy as np
import pytest

from unirefine.core.alphabet import CLS, EOS
from unirefine.model.batching import length_buckets, micro_batches, with_special_tokens


def test_micro_batches_cover_in_order_within_budget():
    lengths = np.sort(np.random.default_rng(1).integers(20, 1025, 100))[::-1]
    slices = micro_batches(lengths, 4096)
    assert [i for cut in slices for i in range(100)[cut]] == list(range(100))
    assert all(lengths[cut].max() * len(lengths[cut]) <= 4096 for cut in slices)
    padded = sum(lengths[cut].max() * len(lengths[cut]) for cut in slices)
    assert padded < 1.15 * lengths.sum()


def test_a_sample_longer_than_the_budget_goes_alone():
    assert micro_batches(np.array([50, 10, 10]), 20) == [slice(0, 1), slice(1, 3)]


def test_buckets_hold_every_sequence_once_the_longest_first_and_ties_in_input_order():
    lengths = np.array([5, 9, 5, 30, 9, 5])
    assert [bucket.tolist() for bucket in length_buckets(lengths, 20)] == [[3], [1, 4], [0, 2, 5]]


@pytest.mark.parametrize("lengths", [[], [0, 0], [7]])
def test_buckets_of_little(lengths):
    assert [list(bucket) for bucket in length_buckets(np.array(lengths, np.int32), 100)] == (
        [list(range(len(lengths)))] if lengths else []
    )


def test_special_tokens_go_around_a_sequence():
    whole = with_special_tokens(np.array([5, 6], np.uint8))
    assert whole.dtype == np.uint8 and whole.tolist() == [CLS, 5, 6, EOS]
