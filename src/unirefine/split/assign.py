"""Sides of clusters by rank of their keyed hash, exact and in little memory.

For a given seed the hash is a bijection of the keys. So clusters never tie, and "the k smallest" is the same set for
any order of the clusters, size of the blocks or machine. A cluster that is in two releases has the same hash in both;
its side can differ only when the hash lies between the thresholds of the two.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

import numpy as np

from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import SIDES, TEST, TRAIN, VALIDATION

_MAX_HASH = np.uint64(2**64 - 1)


def exact_floor(fraction: float, count: int) -> int:
    """floor(fraction x count) of the fraction's decimal text, without binary rounding.

    >>> exact_floor(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return int(Decimal(repr(fraction)) * count)


def smallest_hashes(hashes: Iterable[np.ndarray], count: int) -> np.ndarray:
    """The `count` smallest of all hashes in ascending order: uint64[count], or all of them when there are fewer.

    hashes: blocks of uint64. Memory: three times `count`, and one block.
    """
    if count == 0:
        return np.empty(0, np.uint64)
    candidates: list[np.ndarray] = []
    total, bound = 0, _MAX_HASH
    for block in hashes:
        taken = block[block <= bound]
        candidates.append(taken)
        total += len(taken)
        if total >= 2 * count:
            found = np.concatenate(candidates)
            found.partition(count - 1)
            candidates, total, bound = [found[:count].copy()], count, found[count - 1]
    found = np.concatenate(candidates) if candidates else np.empty(0, np.uint64)
    found.sort()
    return found[:count]


def sides_by_hash(
    blocks: Callable[[], Iterator[np.ndarray]], seed: int, validation: int, test: int
) -> tuple[Iterator[np.ndarray], dict[str, int]]:
    """Sides of all clusters: the `validation` smallest hashes validate, the `test` next ones test, the rest train.

    blocks: function that yields the clusters' keys in blocks of uint64; it is called twice. Returns the sides, a block
    of uint8 for each block of keys, and the largest hash of each side that was asked for.
    """
    smallest = smallest_hashes((keyed_hash(seed, keys) for keys in blocks()), validation + test)
    thresholds = {}
    if validation:
        thresholds[SIDES[VALIDATION]] = int(smallest[validation - 1])
    if test:
        thresholds[SIDES[TEST]] = int(smallest[validation + test - 1])

    def sides() -> Iterator[np.ndarray]:
        for keys in blocks():
            hashes = keyed_hash(seed, keys)
            side = np.full(len(keys), TRAIN, np.uint8)
            if test:
                side[hashes <= np.uint64(thresholds[SIDES[TEST]])] = TEST
            if validation:
                side[hashes <= np.uint64(thresholds[SIDES[VALIDATION]])] = VALIDATION
            yield side

    return sides(), thresholds
