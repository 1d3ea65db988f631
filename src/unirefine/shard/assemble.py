"""Second pass: put each bucket in order in memory and append it to its shard, hashing as it is written."""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unirefine.core.alphabet import UNK
from unirefine.dataset.indexed import write_index
from unirefine.files.hashes import sha256_file
from unirefine.files.names import shard_files
from unirefine.shard.plan import Part, Plan
from unirefine.shard.scratch import scratch
from unirefine.shard.spill import CLUSTERS

IDS_SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("cluster_id", pa.string(), nullable=False)]
)

_PIECE = 1 << 20


@dataclass(frozen=True)
class Written:
    """What one shard holds."""

    part: Part
    documents: int
    sequences: int
    tokens: int
    longest: int
    unknown: int
    """Tokens that are `<unk>`: letters that ESM-2's alphabet lacks."""
    files: list[dict]
    """`{name, bytes, sha256}` of the .bin, .idx and .ids.parquet."""


def assemble(plan: Plan, part: Part, buckets: list[Path], directory: Path) -> Written:
    """Write one shard's three files into `directory`, deleting its buckets one by one. All are fsynced."""
    first, end = plan.part_sequences(part)
    lengths = plan.lengths[first:end]
    paths = [directory / name for name in shard_files(part.name)]
    digest, unknown = hashlib.sha256(), 0
    with (
        paths[0].open("wb", buffering=0) as handle,
        pq.ParquetWriter(paths[2], IDS_SCHEMA, compression="zstd", use_dictionary=False) as ids_writer,
    ):
        for bucket in range(*part.buckets):
            tokens, ids = order_bucket(plan, bucket, buckets[bucket])
            for start in range(0, len(tokens), _PIECE):  # one pass while the piece is in the cache
                piece = tokens[start : start + _PIECE]
                unknown += int(np.count_nonzero(piece == UNK))
                digest.update(piece)
                write_all(handle, piece)
            ids_writer.write_table(ids, row_group_size=max(len(ids), 1))
            buckets[bucket].unlink()
    documents = plan.first_sequence[part.ranks[0] : part.ranks[1] + 1].astype(np.int64) - first
    write_index(paths[1], lengths, documents)
    digests = [digest.hexdigest(), sha256_file(paths[1]), sha256_file(paths[2])]
    for path in paths:
        with path.open("rb+") as handle:
            os.fsync(handle.fileno())
    return Written(
        part=part,
        documents=len(documents) - 1,
        sequences=len(lengths),
        tokens=int(lengths.sum(dtype=np.int64)),
        longest=int(lengths.max()),
        unknown=unknown,
        files=[
            {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(paths, digests, strict=True)
        ],
    )


def write_all(handle: io.FileIO, piece: np.ndarray) -> None:
    """Write all of piece: uint8[n]; a single `write` may take less."""
    view = memoryview(piece)
    while view:
        view = view[handle.write(view) :]


def _read_all(path: Path) -> np.ndarray:
    """A file's bytes in this thread's scratch."""
    raw = scratch("raw", path.stat().st_size)
    view = memoryview(raw)
    with path.open("rb", buffering=0) as handle:
        while view:
            got = handle.readinto(view)
            assert got, path  # nobody else writes it
            view = view[got:]
    return raw


def order_bucket(plan: Plan, bucket: int, path: Path) -> tuple[np.ndarray, pa.Table]:
    """A bucket's tokens, uint8[tokens] (this thread's scratch), and its ids, in output order."""
    ranks = plan.bucket_ranks[bucket : bucket + 2]
    first, end = plan.bucket_sequences[bucket : bucket + 2]
    raw = _read_all(path)
    starts = np.zeros(end - first + 1, np.int64)
    np.cumsum(plan.lengths[first:end], dtype=np.int64, out=starts[1:])
    tokens = scratch("tokens", int(starts[-1]))
    id_ends, id_from = np.zeros(end - first + 1, np.int32), np.zeros(end - first, np.int64)
    name_ends, name_from = np.zeros(ranks[1] - ranks[0] + 1, np.int32), np.zeros(ranks[1] - ranks[0], np.int64)
    placed, named = _scatter(raw, first, ranks[0], starts, tokens, id_ends, id_from, name_ends, name_from)
    assert placed == end - first and named == ranks[1] - ranks[0], (path, placed, named)  # the plan saw every row
    clusters = plan.first_sequence[ranks[0] : ranks[1] + 1].astype(np.int64) - first
    ids = _gather(raw, id_from, id_ends)
    names = _gather_repeated(raw, name_from, name_ends, clusters)
    columns = [
        pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
        for offsets, data in (ids, names)
    ]
    return tokens, pa.table(columns, schema=IDS_SCHEMA)


@numba.njit(cache=True, nogil=True)
def _scatter(raw, first, first_rank, starts, tokens, id_ends, id_from, name_ends, name_from):
    """Tokens to their places; for every id, its length (in *_ends[1:]) and where its bytes stand in raw (*_from)."""
    words, halves = raw.view(np.int64), raw.view(np.uint32)
    at, placed, named = 0, 0, 0
    while at < len(raw):
        kind, items, token_bytes, id_bytes = (
            words[at >> 3],
            words[(at >> 3) + 1],
            words[(at >> 3) + 2],
            words[(at >> 3) + 3],
        )
        place = (at + 32) >> 2
        token = at + 32 + 8 * items
        name = token + token_bytes
        at = (name + id_bytes + 7) & ~7
        for i in range(items):
            length = np.int64(halves[place + items + i])
            if kind == CLUSTERS:
                where = np.int64(halves[place + i]) - first_rank
                name_ends[where + 1], name_from[where] = length, name
                named += 1
            else:
                where = np.int64(halves[place + i]) - first
                id_ends[where + 1], id_from[where] = length, name
                out = tokens[starts[where] : starts[where + 1]]
                source = raw[token : token + len(out)]
                for j in range(len(out)):
                    out[j] = source[j]
                token += len(out)
                placed += 1
            name += length
    return placed, named


@numba.njit(cache=True, nogil=True)
def _gather(raw, origins, ends):
    """Lengths in ends[1:] become offsets; returns (offsets, bytes)."""
    for i in range(len(origins)):
        ends[i + 1] += ends[i]
    data = np.empty(ends[-1], np.uint8)
    for i in range(len(origins)):
        for j in range(ends[i + 1] - ends[i]):
            data[ends[i] + j] = raw[origins[i] + j]
    return ends, data


@numba.njit(cache=True, nogil=True)
def _gather_repeated(raw, origins, lengths, clusters):
    """Each cluster's id once for each of its sequences; clusters int64[c + 1] are sequence numbers."""
    offsets = np.zeros(clusters[-1] + 1, np.int32)
    for c in range(len(origins)):
        for s in range(clusters[c], clusters[c + 1]):
            offsets[s + 1] = offsets[s] + lengths[c + 1]
    data = np.empty(offsets[-1], np.uint8)
    for c in range(len(origins)):
        for s in range(clusters[c], clusters[c + 1]):
            for j in range(lengths[c + 1]):
                data[offsets[s] + j] = raw[origins[c] + j]
    return offsets, data
