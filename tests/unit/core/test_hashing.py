"""The keyed hash is pinned: another value here is another split of every release."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirefine.core.hashing import GOLDEN, keyed, keyed_hash, mix64

WORD = 2**64 - 1
words = st.integers(0, WORD)


def splitmix64(seed: int):
    """The published generator, in plain integers."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & WORD
        word = seed
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
        yield word ^ (word >> 31)


def test_mix64_gives_the_published_outputs_of_splitmix64():
    """First outputs for seed 0 and seed 1234567."""
    golden = int(GOLDEN)
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [mix64(np.uint64(golden * (i + 1) & WORD)) for i in range(4)] == first
    second = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [mix64(np.uint64((1234567 + golden * (i + 1)) & WORD)) for i in range(5)] == second


@pytest.mark.parametrize(
    ("seed", "key", "value"),
    [
        (0, 0, 0x48218226FF3CD4BF),
        (42, 0, 0x8929AD0D47D6E1A6),
        (42, 1, 0xD258FCEC39DC573F),
        (7, WORD, 0xF72DFF3FD4BFC889),
        (WORD, 2**63, 0xC4BABB9A8C869FF0),
    ],
)
def test_golden_vectors_of_the_keyed_hash(seed, key, value):
    assert keyed(np.uint64(seed), np.uint64(key)) == value
    assert keyed_hash(seed, np.array([key], np.uint64)).tolist() == [value]


@given(words, st.lists(words, max_size=20))
def test_the_array_form_is_the_definition(seed, keys):
    expected = [next(splitmix64((next(splitmix64(key)) ^ mixed(seed)) - int(GOLDEN) & WORD)) for key in keys]
    assert keyed_hash(seed, np.array(keys, np.uint64)).tolist() == expected


def mixed(word: int) -> int:
    return next(splitmix64((word - int(GOLDEN)) & WORD))


@given(words)
def test_different_keys_never_tie(seed):
    keys = np.arange(5000, dtype=np.uint64) * np.uint64(0x1234567)
    assert len(np.unique(keyed_hash(seed, keys))) == 5000


def test_the_smallest_hashes_are_an_even_sample():
    """Keys in a row, 128 bins of the hash: every one within six standard deviations."""
    hashes = keyed_hash(3, np.arange(1_000_000, dtype=np.uint64))
    counts = np.bincount((hashes >> np.uint64(57)).astype(int), minlength=128)
    assert np.abs(counts - 1e6 / 128).max() < 6 * np.sqrt(1e6 / 128)
