"""First pass: read the records once, in order, and append each sequence's tokens to the bucket it belongs to.

A bucket file is a series of blocks: header int64[4] (kind, items n, token bytes, id bytes), then uint32[n] place (the
sequence's number, or the cluster's rank), int32[n] id lengths, the tokens end to end, the ids end to end, padded to 8
bytes. Every item says where it belongs, so the order of blocks, and with it the number of threads, does not matter.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa

from unirefine.core.alphabet import BYTE_TO_TOKEN
from unirefine.core.levels import NONE
from unirefine.errors import UserError
from unirefine.shard.plan import Plan
from unirefine.shard.scratch import scratch
from unirefine.shard.source import batches

SEQUENCES, CLUSTERS = 0, 1
BLOCK_HEADER = 32
_BATCH_ROWS = 1 << 16


class Buckets:
    """The bucket files of a plan in `directory`; `append` may be called from any thread."""

    def __init__(self, directory: Path, count: int) -> None:
        self.paths = [directory / f"bucket-{i:04d}" for i in range(count)]
        self._handles = [path.open("wb", buffering=0) for path in self.paths]
        self._locks = [threading.Lock() for _ in self.paths]

    def append(self, blocks: np.ndarray, starts: np.ndarray) -> None:
        """Append block i, blocks[starts[i] : starts[i + 1]], to bucket i. blocks: uint8[bytes]."""
        view = memoryview(blocks)
        for bucket in np.flatnonzero(np.diff(starts)):
            piece = view[starts[bucket] : starts[bucket + 1]]
            with self._locks[bucket]:
                while piece:
                    piece = piece[self._handles[bucket].write(piece) :]

    def close(self) -> None:
        """Close the files."""
        for handle in self._handles:
            handle.close()


def spill(plan: Plan, directory: Path, threads: int, advance: Callable[[int], None]) -> list[Path]:
    """Run the first pass with `threads` threads; `advance(records)` reports progress.

    Returns the bucket files. Raises UserError when a record is not as long as the tables say.
    """
    lock = threading.Lock()

    def told(records: int) -> None:
        with lock:
            advance(records)

    with contextlib.closing(Buckets(directory, len(plan.bucket_ranks) - 1)) as buckets:
        jobs = [(name, part) for name, level in plan.levels.items() for part in range(len(level.parts))]
        with ThreadPoolExecutor(threads) as pool:
            work = [pool.submit(_spill_part, plan, name, part, buckets, told) for name, part in jobs]
            try:
                for done in work:
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return buckets.paths


def _spill_part(plan: Plan, name: str, part: int, buckets: Buckets, advance: Callable[[int], None]) -> None:
    level = plan.levels[name]
    row, end = level.first_row[part], level.first_row[part + 1]
    place_all = plan.sequence_of_row[name]
    names_clusters = name == plan.representative_level
    wanted = bool((place_all[row:end] != NONE).any())
    if not wanted and not names_clusters:
        advance(end - row)
        return
    for batch in batches(level.parts[part], ["id", "sequence"] if wanted else ["id"], "records", _BATCH_ROWS):
        rows = slice(row, row + batch.num_rows)
        ids = string_buffers(batch.column("id"))
        if names_clusters:
            place = plan.rank_of_row[rows]
            nothing = (np.zeros(1, np.int64), np.empty(0, np.uint8))
            blocks, starts, _wrong = emit(CLUSTERS, place, plan.bucket_ranks, np.empty(0, np.int32), *nothing, *ids)
            buckets.append(blocks, starts)
        if wanted:
            sequences = string_buffers(batch.column("sequence"))
            blocks, starts, wrong = emit(
                SEQUENCES, place_all[rows], plan.bucket_sequences, plan.lengths, *sequences, *ids
            )
            if wrong >= 0:
                raise UserError(
                    f"record {row + wrong} of {name} is not as long as the cluster tables say",
                    where=level.parts[part], fix="run `snakemake -R curate`",
                )  # fmt: skip
            buckets.append(blocks, starts)
        advance(batch.num_rows)
        row += batch.num_rows


def string_buffers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A string array's offsets, int32 or int64 [n + 1], and its bytes, uint8, without a copy. No nulls."""
    wide = pa.types.is_large_string(column.type)
    assert wide or pa.types.is_string(column.type), column.type
    _valid, offsets, data = column.buffers()
    count = len(column)
    if offsets is None or count == 0:
        return np.zeros(count + 1, np.int64), np.empty(0, np.uint8)
    kind = np.int64 if wide else np.int32
    starts = np.frombuffer(offsets, kind, count + 1, column.offset * np.dtype(kind).itemsize)
    return starts, np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def emit(kind, place, edges, lengths, offsets, residues, id_offsets, ids):  # fmt: skip
    """The blocks of one batch, uint8[bytes] (scratch), int64[buckets + 1] starts, first row of wrong length or -1."""
    bucket, items, tokens, id_bytes, wrong = _count(kind, place, edges, lengths, offsets, id_offsets)
    sizes = np.where(items > 0, BLOCK_HEADER + 8 * items + tokens + id_bytes, 0)
    starts = np.zeros(len(edges), np.int64)
    np.cumsum((sizes + 7) & ~7, out=starts[1:])
    blocks = scratch("blocks", int(starts[-1]))
    if wrong < 0:
        _fill(kind, place, bucket, items, tokens, id_bytes, starts, offsets, residues, id_offsets, ids, blocks, TABLE)
    return blocks, starts, wrong


TABLE = np.array(BYTE_TO_TOKEN)


@numba.njit(cache=True, nogil=True)
def _count(kind, place, edges, lengths, offsets, id_offsets):
    """Bucket of each row, and items, token bytes and id bytes of each bucket."""
    count = len(edges) - 1
    bucket = np.empty(len(place), np.int32)
    items, tokens, id_bytes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    wrong = -1
    for i in range(len(place)):
        if place[i] == NONE:
            bucket[i] = -1
            continue
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) >> 1
            if edges[middle] <= place[i]:
                low = middle
            else:
                high = middle
        bucket[i] = low
        items[low] += 1
        id_bytes[low] += id_offsets[i + 1] - id_offsets[i]
        if kind == SEQUENCES:
            length = offsets[i + 1] - offsets[i]
            tokens[low] += length
            if length != lengths[place[i]] and wrong < 0:
                wrong = i
    return bucket, items, tokens, id_bytes, wrong


@numba.njit(cache=True, nogil=True)
def _fill(
    kind, place, bucket, items, tokens, id_bytes, starts, offsets, residues, id_offsets, ids, blocks, table
):  # fmt: skip
    """Write every block: each row's place, id length, tokens and id, at the running ends of its bucket's block."""
    count = len(items)
    at_item, at_token, at_id = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    words, halves = blocks.view(np.int64), blocks.view(np.uint32)
    for b in range(count):
        if items[b] == 0:
            continue
        word = starts[b] >> 3
        words[word], words[word + 1], words[word + 2], words[word + 3] = kind, items[b], tokens[b], id_bytes[b]
        at_item[b] = (starts[b] + BLOCK_HEADER) >> 2
        at_token[b] = starts[b] + BLOCK_HEADER + 8 * items[b]
        at_id[b] = at_token[b] + tokens[b]
        for i in range(at_id[b] + id_bytes[b], starts[b + 1]):
            blocks[i] = 0
    for i in range(len(place)):
        b = bucket[i]
        if b < 0:
            continue
        halves[at_item[b]] = place[i]
        length = id_offsets[i + 1] - id_offsets[i]
        halves[at_item[b] + items[b]] = length
        at_item[b] += 1
        out, letters = blocks[at_id[b] : at_id[b] + length], ids[id_offsets[i] : id_offsets[i + 1]]
        for j in range(len(letters)):
            out[j] = letters[j]
        at_id[b] += length
        if kind == SEQUENCES:
            length = offsets[i + 1] - offsets[i]
            out, letters = blocks[at_token[b] : at_token[b] + length], residues[offsets[i] : offsets[i + 1]]
            for j in range(len(letters)):
                out[j] = table[letters[j]]
            at_token[b] += length
