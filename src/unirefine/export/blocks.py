"""Letters and ids of a range of sequences, block by block: what every format writes."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa

from unirefine.core.alphabet import TOKENS, UNK
from unirefine.dataset.indexed import Index, read_index
from unirefine.dataset.manifest import UNKNOWN_TOKEN, VERIFY
from unirefine.dataset.reader import open_ids
from unirefine.errors import UserError

BLOCK_ROWS, BLOCK_RESIDUES = 1 << 15, 1 << 24
"""A block ends at whichever comes first. It takes some 50 MB of memory while a format is written."""
UNKNOWN_LETTER = "J"
"""The letter of `<unk>`. J is the one amino-acid code without a token, so a reader gets `<unk>` back."""
_LETTERS = bytes(
    ord(UNKNOWN_LETTER if token == UNK else name) if len(name) == 1 or token == UNK else 0
    for token, name in enumerate(TOKENS)
).ljust(256, b"\0")
"""For bytes.translate: the letter of each residue token, 0 for what a sequence cannot hold."""


_NO_LETTERS = pa.array([""] * BLOCK_ROWS, pa.string())


@dataclass(frozen=True)
class Shard:
    """One shard of a side, open for reading in order."""

    prefix: Path
    index: Index

    @property
    def sequences(self) -> int:
        """How many it holds."""
        return len(self.index.lengths)


class Block(NamedTuple):
    """Sequences that follow each other in a shard."""

    ids: pa.StringArray
    clusters: pa.StringArray
    letters: pa.StringArray
    """One string for each sequence."""
    residues: int


def open_shard(prefix: Path) -> Shard:
    """The shard of that path without suffix. Raises UserError when its index is damaged."""
    tokens = prefix.with_name(prefix.name + ".bin")
    return Shard(prefix, read_index(prefix.with_name(prefix.name + ".idx"), tokens.stat().st_size))


def blocks(shard: Shard, first: int, end: int, *, letters: bool = True) -> Iterator[Block]:
    """The sequences first .. end - 1 of a shard in blocks that depend on nothing but this range.

    letters: without them all sequences are empty, and only ids are read. Reads with plain reads, so that memory stays
    bounded. Raises UserError for a damaged token or table of ids.
    """
    assert shard.index.dtype == np.uint8, "shards of unirefine have one byte a token"
    waiting = _ids(shard, first, end)
    names = next(waiting) if first < end else None
    with shard.prefix.with_name(shard.prefix.name + ".bin").open("rb") as handle:
        while first < end:
            last = block_end(shard.index, first, end, BLOCK_ROWS, BLOCK_RESIDUES)
            while len(names) < last - first:
                names = pa.concat_tables([names, next(waiting)])
            texts, size = _letters(shard, handle, first, last) if letters else (_NO_LETTERS.slice(0, last - first), 0)
            rows = names.slice(0, last - first).combine_chunks()
            yield Block(
                ids=_strings(rows["id"]),
                clusters=_strings(rows["cluster_id"]),
                letters=texts,
                residues=size,
            )
            names, first = names.slice(last - first), last


def _letters(shard: Shard, handle: IO[bytes], first: int, end: int) -> tuple[pa.StringArray, int]:
    """The letters of sequences first .. end - 1, and how many they are. handle: the .bin."""
    pointers, lengths = shard.index.pointers, shard.index.lengths
    offsets = np.empty(end - first + 1, np.int32)
    begin, stop = int(pointers[first]), int(pointers[end - 1]) + int(lengths[end - 1])
    offsets[:-1] = pointers[first:end] - begin
    offsets[-1] = stop - begin
    handle.seek(begin)
    found = handle.read(stop - begin).translate(_LETTERS)
    if (bad := found.find(0)) >= 0:
        number = first + int(np.searchsorted(offsets, bad, "right")) - 1
        raise UserError(UNKNOWN_TOKEN.format(number), where=shard.prefix, fix=VERIFY)
    return pa.StringArray.from_buffers(end - first, pa.py_buffer(offsets), pa.py_buffer(found)), len(found)


def block_end(index: Index, first: int, end: int, rows: int, residues: int) -> int:
    """One past the last of the sequences from `first` on that fit into `rows` and `residues`; at least one fits."""
    last, limit = min(first + rows, end), int(index.pointers[first]) + residues
    beyond = bisect_right(index.pointers, limit, first + 1, last)  # the first that starts too late
    if beyond < last or int(index.pointers[last - 1]) + int(index.lengths[last - 1]) > limit:
        beyond -= 1  # the one before it starts in time and ends too late, or just in time
    return max(first + 1, beyond)


def _ids(shard: Shard, first: int, end: int) -> Iterator[pa.Table]:
    """Rows first .. end - 1 of the ids of a shard, row group by row group."""
    with open_ids(shard.prefix, shard.sequences) as table:
        start = 0
        for group in range(table.num_row_groups):
            stop = start + table.metadata.row_group(group).num_rows
            if start < end and stop > first:
                rows = table.read_row_group(group, columns=["id", "cluster_id"], use_threads=False)
                yield rows.slice(max(first - start, 0), min(end, stop) - max(first, start))
            start = stop


def _strings(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
