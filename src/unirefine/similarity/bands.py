"""Bands of length, so that the prefilter compares only sequences that can cover each other.

An alignment that covers the fraction c of two sequences needs lengths whose ratio is at least c. MMseqs2's prefilter
drops other pairs too, but after their k-mers have been matched, which is most of the work on a large index. Sequences
of UniRef's lengths save about two thirds of it.
"""

from collections.abc import Iterator

import numpy as np

MIN_PAIRS = 1_000_000_000
"""A band of fewer pairs costs more to start than it saves."""


def length_bands(asks: np.ndarray, index: np.ndarray, coverage: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of the sequences that ask in a band, and of those in the index that they may cover.

    asks, index: lengths, int [n] and [m]. Each sequence that asks is in one band. Bands without a sequence on either
    side are left out. A band's lengths differ by 1 / coverage at least, and it has MIN_PAIRS pairs where that many are
    left.
    """
    asking, indexed = np.argsort(asks, kind="stable"), np.argsort(index, kind="stable")
    asks, index = asks[asking], index[indexed]
    begin = 0
    while begin < len(asks):
        end = int(np.searchsorted(asks, asks[begin] / coverage, side="right"))
        # a residue more on both sides, because MMseqs2 divides in single precision
        first = int(np.searchsorted(index, asks[begin] * coverage - 1))
        last = _last(asks, index, end, coverage)
        while end < len(asks) and (end - begin) * (last - first) < MIN_PAIRS:
            end = min(len(asks), end + max(1, (end - begin) // 4))
            last = _last(asks, index, end, coverage)
        if last > first:
            yield np.sort(asking[begin:end]), np.sort(indexed[first:last])
        begin = end


def _last(asks: np.ndarray, index: np.ndarray, end: int, coverage: float) -> int:
    return int(np.searchsorted(index, asks[end - 1] / coverage + 1, side="right"))
