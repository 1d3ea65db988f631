"""The keyed 64-bit hash behind split, shuffle and sampling, the same in numpy and in numba.

`mix64` is the finaliser of splitmix64 (Steele et al. 2014, with the constants of Stafford's variant 13). It is a
bijection of 64-bit words, so different keys have different hashes under one seed. Golden vectors in the tests pin it:
a change would change every split ever made.
"""

import numba
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@numba.njit("uint64(uint64)", cache=True, inline="always")
def mix64(word: int) -> int:
    """The splitmix64 finaliser of one 64-bit word."""
    word = (word ^ (word >> _S30)) * _M1
    word = (word ^ (word >> _S27)) * _M2
    return word ^ (word >> _S31)


@numba.njit("uint64(uint64, uint64)", cache=True, inline="always")
def keyed(seed: int, key: int) -> int:
    """`mix64(mix64(key + GOLDEN) ^ mix64(seed))`: the keyed hash of one key."""
    return mix64(mix64(key + GOLDEN) ^ mix64(seed))


@numba.vectorize(["uint64(uint64, uint64)"], cache=True)
def _keyed_array(seed: int, key: int) -> int:
    return keyed(seed, key)


def keyed_hash(seed: int, keys: np.ndarray) -> np.ndarray:
    """Keyed hash of each key. keys: uint64[n]; returns uint64[n]. A bijection of the keys for a fixed seed."""
    return _keyed_array(np.uint64(seed), np.asarray(keys, np.uint64))
