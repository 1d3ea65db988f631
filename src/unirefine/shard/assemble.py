"""Second pass: order each bucket in memory and append it to its shard, which is hashed as it is written."""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.alphabet import UNK
from unirefine.dataset.indexed import write_index
from unirefine.files.hashes import sha256_file
from unirefine.files.names import shard_files
from unirefine.shard.plan import Plan, PlannedShard
from unirefine.shard.scratch import scratch
from unirefine.shard.spill import BLOCK_HEADER, CLUSTERS

IDS_SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("cluster_id", pa.string(), nullable=False)]
)

_PIECE = 1 << 20


@dataclass(frozen=True)
class WrittenShard:
    """One shard on disk, and numbers of what it holds."""

    name: str
    side: str
    documents: int
    """Clusters."""
    sequences: int
    tokens: int
    longest: int
    """Tokens of the longest sequence."""
    unknown: int
    """Tokens that are `<unk>`: letters that ESM-2's alphabet lacks."""
    files: list[dict]
    """`{name, bytes, sha256}` of the .bin, .idx and .ids.parquet."""


def assemble(plan: Plan, shard: PlannedShard, buckets: list[Path], directory: Path) -> WrittenShard:
    """Write the three files of a shard to `directory` and fsync them.

    buckets: the bucket files of all shards; each one of this shard is deleted as soon as it is written.
    """
    first, end = plan.sequences_of(shard)
    lengths = plan.lengths[first:end]
    paths = [directory / name for name in shard_files(shard.name)]
    digest, unknown = hashlib.sha256(), 0
    with (
        paths[0].open("wb", buffering=0) as handle,
        parquet.Writer(paths[2], IDS_SCHEMA, compression="zstd", use_dictionary=False) as ids_writer,
    ):
        for bucket in range(*shard.buckets):
            tokens, ids = order_bucket(plan, bucket, buckets[bucket])
            for start in range(0, len(tokens), _PIECE):  # count, hash and write while the piece is in the cache
                piece = tokens[start : start + _PIECE]
                unknown += int(np.count_nonzero(piece == UNK))
                digest.update(piece)
                write_all(handle, piece)
            ids_writer.write_table(ids, row_group_size=max(len(ids), 1))
            buckets[bucket].unlink()
    documents = plan.first_sequence[shard.ranks[0] : shard.ranks[1] + 1].astype(np.int64) - first
    write_index(paths[1], lengths, documents)
    digests = [digest.hexdigest(), sha256_file(paths[1]), sha256_file(paths[2])]
    for path in paths:
        with path.open("rb+") as handle:
            os.fsync(handle.fileno())
    return WrittenShard(
        name=shard.name,
        side=shard.side,
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
    """Write all of `piece`, uint8[n]: one call of `write` may write less."""
    view = memoryview(piece)
    while view:
        view = view[handle.write(view) :]


def _read_all(path: Path) -> np.ndarray:
    """A file's bytes, uint8[bytes] in a scratch buffer."""
    raw = scratch("raw", path.stat().st_size)
    view = memoryview(raw)
    with path.open("rb", buffering=0) as handle:
        while view:
            count = handle.readinto(view)
            assert count, path  # it is ours alone, so it does not shrink
            view = view[count:]
    return raw


def order_bucket(plan: Plan, bucket: int, path: Path) -> tuple[np.ndarray, pa.Table]:
    """Read a bucket: its tokens, uint8[tokens] in a scratch buffer, and its ids as in IDS_SCHEMA, in output order."""
    ranks = plan.bucket_ranks[bucket : bucket + 2]
    first, end = plan.bucket_sequences[bucket : bucket + 2]
    raw = _read_all(path)
    starts = np.zeros(end - first + 1, np.int64)
    np.cumsum(plan.lengths[first:end], dtype=np.int64, out=starts[1:])
    tokens = scratch("tokens", int(starts[-1]))
    id_ends, id_from = np.zeros(end - first + 1, np.int32), np.zeros(end - first, np.int64)
    name_ends, name_from = np.zeros(ranks[1] - ranks[0] + 1, np.int32), np.zeros(ranks[1] - ranks[0], np.int64)
    sequences, named = _scatter(raw, first, ranks[0], starts, tokens, id_ends, id_from, name_ends, name_from)
    assert sequences == end - first and named == ranks[1] - ranks[0], (path, sequences, named)  # all that were planned
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
    """Read the blocks of a bucket (see unirefine.shard.spill), in any order.

    raw: uint8[bytes], the blocks; first, first_rank: the bucket's first sequence and rank; starts: int64[s + 1], where
    each of its sequences starts in tokens. Fills tokens; for each of the s sequences the length of its id, in
    id_ends[1:], and where the id starts in raw, in id_from; name_ends and name_from likewise for the ids of clusters.
    Returns the numbers of sequences and of clusters read.
    """
    as_int64, as_uint32 = raw.view(np.int64), raw.view(np.uint32)
    at, sequences, named = 0, 0, 0
    while at < len(raw):
        word = at >> 3
        kind, items, token_bytes, id_bytes = as_int64[word], as_int64[word + 1], as_int64[word + 2], as_int64[word + 3]
        position = (at + BLOCK_HEADER) >> 2
        token = at + BLOCK_HEADER + 8 * items
        name = token + token_bytes
        at = (name + id_bytes + 7) & ~7
        for i in range(items):
            length = np.int64(as_uint32[position + items + i])
            if kind == CLUSTERS:
                where = np.int64(as_uint32[position + i]) - first_rank
                name_ends[where + 1], name_from[where] = length, name
                named += 1
            else:
                where = np.int64(as_uint32[position + i]) - first
                id_ends[where + 1], id_from[where] = length, name
                out = tokens[starts[where] : starts[where + 1]]
                source = raw[token : token + len(out)]
                for j in range(len(out)):
                    out[j] = source[j]
                token += len(out)
                sequences += 1
            name += length
    return sequences, named


@numba.njit(cache=True, nogil=True)
def _gather(raw, origins, ends):
    """Copy strings from raw, which start at origins int64[n] and have the lengths ends[1:], int32[n + 1].

    Returns them as Arrow's offsets int32[n + 1], in the memory of ends, and bytes uint8.
    """
    for i in range(len(origins)):
        ends[i + 1] += ends[i]
    data = np.empty(ends[-1], np.uint8)
    for i in range(len(origins)):
        for j in range(ends[i + 1] - ends[i]):
            data[ends[i] + j] = raw[origins[i] + j]
    return ends, data


@numba.njit(cache=True, nogil=True)
def _gather_repeated(raw, origins, lengths, clusters):
    """As _gather, but each cluster's id is repeated for each of its sequences. clusters: int64[c + 1], first sequences.

    Returns offsets int32[sequences + 1] and bytes uint8.
    """
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
