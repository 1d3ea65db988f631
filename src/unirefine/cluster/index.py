"""Find the row of a 64-bit key, for hundreds of millions of keys in a few bytes each.

Accessions crowd in a small part of the key space, so keys are hashed with `mix64` (a bijection) and rows are put into
buckets by the top bits of the hash: two arrays, filled in two passes. A lookup reads one bucket of about two rows.
"""

import numba
import numpy as np

from unirefine.core.hashing import mix64
from unirefine.core.rows import NONE
from unirefine.core.tables import Parts, strings_at
from unirefine.errors import UserError

_CHUNKS = 256


class KeyIndex:
    """An index of n keys, which it does not copy: 4 n bytes for the rows and at most 2.7 n for the buckets."""

    def __init__(self, keys: np.ndarray) -> None:
        """keys: uint64[n], n below 2**32 - 1."""
        assert keys.dtype == np.uint64 and len(keys) < NONE
        self.keys = keys
        bits = max(1, (len(keys) // 3).bit_length())
        self._shift = np.uint64(64 - bits)
        self._ends = np.zeros((1 << bits) + 1, np.uint32)
        self._rows = np.empty(len(keys), np.uint32)
        _fill(keys, self._shift, self._ends, self._rows)

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        """Row of each key, NONE where it is not there. wanted: uint64[m]; returns uint32[m]. Uses numba's threads."""
        out = np.empty(len(wanted), np.uint32)
        _find_all(wanted, self.keys, self._shift, self._ends, self._rows, out)
        return out

    def duplicate(self) -> tuple[int, int] | None:
        """Two rows that have the same key, or None. Uses numba's threads."""
        found = _first_duplicates(self.keys, self._ends, self._rows)
        pairs = found[found[:, 0] >= 0]
        if len(pairs) == 0:
            return None
        first, second = pairs[np.argmin(pairs.min(1))].tolist()
        return min(first, second), max(first, second)


def index_records(parts: Parts, keys: np.ndarray) -> KeyIndex:
    """Index the records of a level. keys: uint64[records]. Raises UserError when two have the same key.

    Uses numba's threads.
    """
    index = KeyIndex(keys)
    rows = index.duplicate()
    if rows is not None:
        names = strings_at(parts, "id", np.array(rows)).to_pylist()
        raise UserError(
            f"records {rows[0]} and {rows[1]} have one key: {names[0]} and {names[1]}",
            where=parts.paths[0].parent,
            fix="an entry is there twice, or two ids collide: drop or rename one and run the records stage again",
        )
    return index


@numba.njit(cache=True)
def _fill(keys, shift, ends, rows):
    for i in range(len(keys)):
        ends[(mix64(keys[i]) >> shift) + np.uint64(1)] += np.uint32(1)
    for bucket in range(1, len(ends)):
        ends[bucket] += ends[bucket - 1]
    for i in range(len(keys)):  # ends[b] is the next free slot of bucket b; in the end it is the start of bucket b + 1
        bucket = mix64(keys[i]) >> shift
        rows[ends[bucket]] = i
        ends[bucket] += np.uint32(1)


@numba.njit(cache=True, inline="always")
def _find(key, keys, shift, ends, rows):
    bucket = mix64(key) >> shift
    begin = np.uint32(0) if bucket == 0 else ends[bucket - np.uint64(1)]
    for slot in range(begin, ends[bucket]):
        row = rows[slot]
        if keys[row] == key:
            return row
    return NONE


@numba.njit(cache=True, parallel=True)
def _find_all(wanted, keys, shift, ends, rows, out):
    for i in numba.prange(len(wanted)):
        out[i] = _find(wanted[i], keys, shift, ends, rows)


@numba.njit(cache=True, parallel=True)
def _first_duplicates(keys, ends, rows):
    """The first pair of rows with one key in each chunk of buckets: int64[chunks, 2], -1 where none."""
    found = np.full((_CHUNKS, 2), -1, np.int64)
    buckets = len(ends) - 1
    for chunk in numba.prange(_CHUNKS):
        begin, end = buckets * chunk // _CHUNKS, buckets * (chunk + 1) // _CHUNKS
        for bucket in range(begin, end):
            first = np.int64(0) if bucket == 0 else np.int64(ends[bucket - 1])
            for slot in range(first + 1, np.int64(ends[bucket])):
                for other in range(first, slot):
                    if found[chunk, 0] < 0 and keys[rows[slot]] == keys[rows[other]]:
                        found[chunk, 0], found[chunk, 1] = rows[other], rows[slot]
    return found
