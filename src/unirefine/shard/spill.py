"""First pass: read the records once, in order, and append each sequence's tokens to the file of its bucket.

A bucket file is a series of blocks. A block is a header int64[4] (kind, number of items n, token bytes, id bytes), then
uint32[n] positions (the sequence's number, or the cluster's rank), int32[n] id lengths, the tokens end to end, the ids
end to end, and padding to a multiple of 8 bytes. Every item has its position, so the order of the blocks does not
matter, and neither does the number of threads.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np

from unirefine.core.alphabet import BYTE_TO_TOKEN
from unirefine.core.rows import NONE
from unirefine.core.tables import iterate_file, string_buffers
from unirefine.errors import UserError
from unirefine.shard.plan import Plan
from unirefine.shard.scratch import scratch

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

    def report(records: int) -> None:
        with lock:
            advance(records)

    with contextlib.closing(Buckets(directory, len(plan.bucket_ranks) - 1)) as buckets:
        parts = [(level, part) for level, records in plan.levels.items() for part in range(len(records.paths))]
        with ThreadPoolExecutor(threads) as pool:
            jobs = [pool.submit(_spill_part, plan, level, part, buckets, report) for level, part in parts]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return buckets.paths


def _spill_part(plan: Plan, level: str, part: int, buckets: Buckets, advance: Callable[[int], None]) -> None:
    """Read one part of the records of a level."""
    records = plan.levels[level]
    path, first, end = records.paths[part], records.first_row[part], records.first_row[part + 1]
    sequence_of_row = plan.sequence_of_row[level][first:end]
    has_sequences, names_clusters = bool((sequence_of_row != NONE).any()), level == plan.representative_level
    if not has_sequences and not names_clusters:
        advance(end - first)
        return
    columns = ["id", "sequence"] if has_sequences else ["id"]
    no_lengths, no_residues = np.empty(0, np.int32), (np.empty(0, np.uint8), np.zeros(1, np.int64))
    for row, batch in iterate_file(path, columns, "records", batch_rows=_BATCH_ROWS, threads=False):
        ids = string_buffers(batch.column("id"))
        if names_clusters:
            ranks = plan.rank_of_row[first + row : first + row + batch.num_rows]
            blocks, starts, _wrong = make_blocks(CLUSTERS, ranks, plan.bucket_ranks, no_lengths, *no_residues, *ids)
            buckets.append(blocks, starts)
        if has_sequences:
            positions = sequence_of_row[row : row + batch.num_rows]
            residues = string_buffers(batch.column("sequence"))
            blocks, starts, wrong = make_blocks(
                SEQUENCES, positions, plan.bucket_sequences, plan.lengths, *residues, *ids
            )
            if wrong >= 0:
                raise UserError(
                    f"record {first + row + wrong} of {level} is not as long as the cluster tables say",
                    where=path,
                    fix="run the curate stage again",
                )
            buckets.append(blocks, starts)
        advance(batch.num_rows)


def make_blocks(kind, position, edges, lengths, residues, offsets, ids, id_offsets):  # fmt: skip
    """The blocks of one batch of n records, one for each bucket that gets any.

    kind: SEQUENCES or CLUSTERS. position: uint32[n], number of the sequence or rank of the cluster, or NONE. edges:
    int64[buckets + 1], the first position of each bucket. lengths: int32[sequences], as planned. (residues, offsets),
    (ids, id_offsets): the records' strings as from string_buffers; those of residues only for SEQUENCES.

    Returns the blocks end to end, uint8[bytes] in a scratch buffer; int64[buckets + 1], where each bucket's block
    starts; and the first row whose length differs from the planned one, or -1.
    """
    bucket, items, tokens, id_bytes, wrong = _count(kind, position, edges, lengths, offsets, id_offsets)
    sizes = np.where(items > 0, BLOCK_HEADER + 8 * items + tokens + id_bytes, 0)
    starts = np.zeros(len(edges), np.int64)
    np.cumsum((sizes + 7) & ~7, out=starts[1:])
    blocks = scratch("blocks", int(starts[-1]))
    if wrong < 0:
        sizes = (items, tokens, id_bytes)
        _fill(kind, position, bucket, *sizes, starts, residues, offsets, ids, id_offsets, blocks, TABLE)
    return blocks, starts, wrong


TABLE = np.array(BYTE_TO_TOKEN)


@numba.njit(cache=True, nogil=True)
def _count(kind, position, edges, lengths, offsets, id_offsets):
    """The bucket of each row; the items, token bytes and id bytes of each bucket; the first row of a wrong length."""
    count = len(edges) - 1
    bucket = np.empty(len(position), np.int32)
    items, tokens, id_bytes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    wrong = -1
    for i in range(len(position)):
        if position[i] == NONE:
            bucket[i] = -1
            continue
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) >> 1
            if edges[middle] <= position[i]:
                low = middle
            else:
                high = middle
        bucket[i] = low
        items[low] += 1
        id_bytes[low] += id_offsets[i + 1] - id_offsets[i]
        if kind == SEQUENCES:
            length = offsets[i + 1] - offsets[i]
            tokens[low] += length
            if length != lengths[position[i]] and wrong < 0:
                wrong = i
    return bucket, items, tokens, id_bytes, wrong


@numba.njit(cache=True, nogil=True)
def _fill(
    kind, position, bucket, items, tokens, id_bytes, starts, residues, offsets, ids, id_offsets, blocks, table
):  # fmt: skip
    """Fill the blocks: append each row's position, id length, tokens and id to the block of its bucket."""
    count = len(items)
    at_item, at_token, at_id = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    as_int64, as_uint32 = blocks.view(np.int64), blocks.view(np.uint32)
    for b in range(count):
        if items[b] == 0:
            continue
        word = starts[b] >> 3
        as_int64[word], as_int64[word + 1] = kind, items[b]
        as_int64[word + 2], as_int64[word + 3] = tokens[b], id_bytes[b]
        at_item[b] = (starts[b] + BLOCK_HEADER) >> 2
        at_token[b] = starts[b] + BLOCK_HEADER + 8 * items[b]
        at_id[b] = at_token[b] + tokens[b]
        for i in range(at_id[b] + id_bytes[b], starts[b + 1]):
            blocks[i] = 0
    for i in range(len(position)):
        b = bucket[i]
        if b < 0:
            continue
        as_uint32[at_item[b]] = position[i]
        length = id_offsets[i + 1] - id_offsets[i]
        as_uint32[at_item[b] + items[b]] = length
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
