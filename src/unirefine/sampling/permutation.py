"""Keyed permutations of 0 .. n - 1 without memory: a Feistel network with cycle walking."""

import numba
import numpy as np

from unirefine.core.hashing import keyed

ROUNDS = 16  # 8 leave a measurable bias over pairs of positions when n is 5
_ONE = np.uint64(1)


@numba.njit("uint64(uint64, uint64, uint64)", cache=True)
def permute(key: int, position: int, n: int) -> int:
    """The image of `position` (< n) under permutation number `key` of 0 .. n - 1.

    The network works on the smallest power of two that holds n (at least 2), split into a left half of b // 2 bits
    and a right half of the rest; each round XORs one half with the keyed hash of the other, which is a bijection
    for any hash. Values at or above n are mapped again (cycle walking): fewer than two steps on average.
    """
    bits = _ONE
    while (_ONE << bits) < n:
        bits += _ONE
    left_bits = bits >> _ONE
    right_bits = bits - left_bits
    left_mask, right_mask = (_ONE << left_bits) - _ONE, (_ONE << right_bits) - _ONE
    value = position
    while True:
        left, right = value >> right_bits, value & right_mask
        for turn in range(ROUNDS):
            if turn % 2 == 0:
                right ^= keyed(key + np.uint64(turn), left) & right_mask
            else:
                left ^= keyed(key + np.uint64(turn), right) & left_mask
        value = (left << right_bits) | right
        if value < n:
            return value
