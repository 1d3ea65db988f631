"""Duplicate ids: found from the written keys, one slice of the key space at a time, so that memory is bounded."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.hashing import keyed_hash
from unirefine.core.tables import open_parquet
from unirefine.records.stream import read_blocks

KEYS_AT_ONCE = 1 << 25
"""Keys that are sorted together, in a buffer of 0.4 GB."""
MOST_KEYS = 20
"""Duplicate keys that are reported together."""
_BATCH_ROWS = 1 << 20


def find_duplicates(paths: Sequence[Path], entries: int, keys_at_once: int = KEYS_AT_ONCE) -> list[str]:
    """The ids of the records that share one of the smallest MOST_KEYS duplicate keys of the first slice with one.

    An id is there as often as it has records. Ids with one key differ only where the hashes of two ids of a custom
    FASTA collide, or where an id occurs with and without its UniRef prefix.
    """
    passes = -(-entries // keys_at_once)
    for number in range(passes):
        kept = np.empty(keys_at_once * 3 // 2 if passes > 1 else entries, np.uint64)
        filled = 0
        for keys in _column(paths, "key"):
            if passes > 1:
                keys = keys[keyed_hash(0, keys) % np.uint64(passes) == number]
            keys = keys[: len(kept) - filled]  # the hash fills slices evenly: a slice that overflows has duplicates
            kept[filled : filled + len(keys)] = keys
            filled += len(keys)
        kept[:filled].sort()
        repeated = _repeats(kept[:filled], MOST_KEYS)
        if len(repeated):
            return _ids(paths, repeated)
    return []


@numba.njit(cache=True)
def _repeats(keys: np.ndarray, most: int) -> np.ndarray:
    """The first `most` keys that occur more than once. keys: uint64[n], ascending."""
    found, count = np.empty(most, np.uint64), 0
    for i in range(len(keys) - 1):
        if count == most:
            break
        if keys[i] == keys[i + 1] and (count == 0 or found[count - 1] != keys[i]):
            found[count] = keys[i]
            count += 1
    return found[:count]


def _column(paths: Sequence[Path], name: str) -> Iterator[np.ndarray]:
    for path in paths:
        with open_parquet(path, "records") as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False):
                yield batch.column(0).to_numpy()


def _ids(paths: Sequence[Path], keys: np.ndarray) -> list[str]:
    found: list[str] = []
    for path in paths:
        with open_parquet(path, "records") as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=["key", "id"], use_threads=False):
                chosen = batch.filter(pc.is_in(batch.column(0), value_set=pa.array(keys)))
                found += chosen.column(1).to_pylist()
    return found


def locate_in_xml(path: Path, ids: Sequence[str]) -> list[tuple[str, int]]:
    """(id, offset of its entry) of the first two entries with one of the ids. Reads the input again."""
    names = b"|".join(re.escape(name.encode()) for name in sorted(set(ids)))
    # no `<` in a tag: from each `<entry` it looks no further than to the next, so the time grows with the length only
    pattern = re.compile(rb"<entry\b[^<>]*?\sid\s*+=\s*+[\"'](%s)[\"']" % names)
    found: list[tuple[str, int]] = []
    for block in read_blocks(path, b"</entry>", 0):
        for match in pattern.finditer(block.raw):
            found.append((match[1].decode(), block.offset + match.start()))
            if len(found) == 2:
                return found
    return found
