"""The permutation: a bijection for every n, another one for every key, uniform over positions."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.sampling.permutation import permute


@numba.njit
def image(key, n):
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = permute(key, np.uint64(i), np.uint64(n))
    return out


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 3000))
def test_every_key_and_size_gives_a_permutation(key, n):
    assert sorted(image(np.uint64(key), n)) == list(range(n))


def test_a_large_domain_stays_a_bijection():
    n = 1_000_003
    assert (np.bincount(image(np.uint64(5), n), minlength=n) == 1).all()


@pytest.mark.parametrize("n", [2, 3, 5, 16, 37])
def test_the_image_of_a_position_is_uniform_over_keys(n, assert_counts):
    seen = np.zeros((n, n), np.int64)
    rounds = 4000
    for key in range(rounds):
        seen[np.arange(n), image(np.uint64(key), n)] += 1
    for position in range(n):
        assert_counts(seen[position], rounds / n)


@pytest.mark.parametrize("n", [5, 16])
def test_the_images_of_two_positions_are_uniform(n, assert_counts):
    seen = np.zeros((n, n), np.int64)
    rounds = 20_000
    for key in range(rounds):
        positions = image(np.uint64(key), n)
        seen[positions[0], positions[1]] += 1
    assert (np.diag(seen) == 0).all()
    assert_counts(seen[~np.eye(n, dtype=bool)], rounds / (n * (n - 1)))


def test_neighbours_do_not_stay_neighbours():
    n = 100_000
    order = image(np.uint64(9), n)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.013
    assert abs(np.abs(np.diff(order)).mean() / (n / 3) - 1) < 0.013


def test_golden():
    assert image(np.uint64(42), 10).tolist() == [3, 7, 6, 0, 1, 5, 9, 2, 4, 8]
    large = [int(permute(np.uint64(1), np.uint64(i), np.uint64(65_182_365))) for i in (0, 1, 65_182_364)]
    assert large == [42268753, 40327573, 31585044]
