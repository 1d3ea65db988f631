"""Sides of clusters by rank of their keyed hash, exact and in little memory.

The hash of (seed, key) is a bijection of the keys, so clusters never tie and "the k smallest" is one set, whatever the
order of the clusters, the size of the blocks or the machine. Between two releases a cluster that is in both keeps its
hash; its side can differ only when its hash lies between the thresholds of the two releases.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

import numpy as np

from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import TEST, VALIDATION

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
    waiting: list[np.ndarray] = []
    held, bound = 0, _MAX_HASH
    for block in hashes:
        taken = block[block <= bound]
        waiting.append(taken)
        held += len(taken)
        if held >= 2 * count:
            kept = np.concatenate(waiting)
            kept.partition(count - 1)
            waiting, held, bound = [kept[:count].copy()], count, kept[count - 1]
    kept = np.concatenate(waiting) if waiting else np.empty(0, np.uint64)
    kept.sort()
    return kept[:count]


def sides_by_hash(
    blocks: Callable[[], Iterator[np.ndarray]], seed: int, validation: int, test: int
) -> tuple[Iterator[np.ndarray], dict[str, int]]:
    """Sides of all clusters: the `validation` smallest hashes validate, the `test` next ones test, the rest train.

    blocks: gives the clusters' keys anew, as blocks of uint64; it is called twice. Returns the sides (uint8 blocks,
    one per block of keys) and the largest hash of each side that was asked for.
    """
    smallest = smallest_hashes((keyed_hash(seed, keys) for keys in blocks()), validation + test)
    thresholds = {}
    if validation:
        thresholds["validation"] = int(smallest[validation - 1])
    if test:
        thresholds["test"] = int(smallest[validation + test - 1])

    def sides() -> Iterator[np.ndarray]:
        for keys in blocks():
            hashes = keyed_hash(seed, keys)
            side = np.zeros(len(keys), np.uint8)
            if test:
                side[hashes <= np.uint64(thresholds["test"])] = TEST
            if validation:
                side[hashes <= np.uint64(thresholds["validation"])] = VALIDATION
            yield side

    return sides(), thresholds
