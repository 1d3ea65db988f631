"""The position of every sequence in the shards, computed from the integer tables before a single residue is read.

Clusters are ranked: train in keyed-hash order, then validation, then test, each in keyed-hash order too. Sequences are
numbered cluster by cluster in that order, the members of a cluster by key. Train ranks are divided into equal ranges,
one for each shard, and every shard into buckets, which are ordered in memory one at a time: 16 MB, or 1/512 of all
residues if that is more.
Memory: 4 bytes for each record and each written sequence, and about 40 for each cluster while planning.
"""

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from unirefine.config import Shard
from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import LEVELS, SIDES
from unirefine.core.rows import NONE
from unirefine.core.tables import Parts, iterate_file, open_parquet, record_parts
from unirefine.errors import UserError
from unirefine.files.names import train_shard

BUCKET_BYTES = 16 << 20
MAX_BUCKETS = 512  # files that are open at once in the first pass
_BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class PlannedShard:
    """One shard. Ranges are (first, end)."""

    name: str
    side: str
    ranks: tuple[int, int]
    """Range of cluster ranks."""
    buckets: tuple[int, int]
    """Range of buckets."""


@dataclass(frozen=True)
class Plan:
    """The layout of all shards: c clusters, n sequences to write."""

    first_sequence: np.ndarray
    """uint32[c + 1]: number of the first sequence of each rank; the last is n."""
    lengths: np.ndarray
    """int32[n]: residues of each sequence, in output order."""
    shards: list[PlannedShard]
    bucket_ranks: np.ndarray
    """int64[buckets + 1]: first rank of each bucket."""
    bucket_sequences: np.ndarray
    """int64[buckets + 1]: first sequence of each bucket."""
    levels: dict[str, Parts]
    """The records to read, by level."""
    sequence_of_row: dict[str, np.ndarray]
    """By level, uint32[rows]: the number of the sequence that a record becomes, or NONE."""
    representative_level: str
    """Level of the records that represent the clusters and give them their ids."""
    rank_of_row: np.ndarray
    """uint32[rows] of that level: rank of the cluster that a record represents, or NONE."""
    members: dict[str, int]
    """By side, the number of members of its clusters, written or not."""

    def sequences_of(self, shard: PlannedShard) -> tuple[int, int]:
        """Range of the sequences of a shard."""
        return int(self.first_sequence[shard.ranks[0]]), int(self.first_sequence[shard.ranks[1]])


def make_plan(config: Shard, records: Path, clusters: Path, split: Path) -> Plan:
    """Plan the shards. records, clusters: directories of those stages; split: a split.parquet.

    Raises UserError when the inputs do not fit each other or when a shard would be empty.
    """
    path = clusters / "clusters.parquet"
    table = open_parquet(path, "cluster")
    side = open_parquet(split, "decontaminate").read(columns=["side"])["side"].to_numpy()
    if len(side) != table.metadata.num_rows:
        raise UserError(f"{len(side)} rows for {table.metadata.num_rows} clusters", where=split, fix=_rerun("split"))
    level = (table.schema_arrow.metadata or {}).get(b"representative_level", b"").decode()
    if level not in LEVELS:
        raise UserError(f"its metadata has representative_level {level!r}", where=path, fix=_rerun("cluster"))
    levels = {name: record_parts(records, name) for name in dict.fromkeys((level, "uniref90"))}

    def column(name: str) -> np.ndarray:
        return table.read(columns=[name])[name].to_numpy()

    order, bounds = _rank_clusters(config.seed, column("key"), side)
    train_end = bounds["train"][1]
    _check_sides(bounds, config.parts, split)
    size = column("size")
    # ranks below have all their members written, the others their representative only
    with_members = train_end if config.validation == "representatives" else len(order)
    first_sequence = _first_sequences(size[order], with_members, path)
    lengths = np.zeros(int(first_sequence[-1]), np.int32)
    sequence_of_row = {name: np.full(levels[name].rows, NONE, np.uint32) for name in levels}
    rank_of_row = np.full(levels[level].rows, NONE, np.uint32)

    row = column("row")[order]
    if len(row) and row.max() >= len(rank_of_row):
        raise UserError(f"row {row.max()} is beyond the {len(rank_of_row)} records of {level}", where=path)
    rank_of_row[row] = np.arange(len(row), dtype=np.uint32)
    if with_members < len(order):
        sequence_of_row[level][row[with_members:]] = first_sequence[with_members:-1]
        lengths[first_sequence[with_members] :] = column("length")[order[with_members:]]
    del row
    first_of_cluster = np.full(len(side), NONE, np.uint32)
    first_of_cluster[order[:with_members]] = first_sequence[:with_members]
    _number_members(clusters / "membership.parquet", size, first_of_cluster, sequence_of_row["uniref90"], lengths)
    shards, bucket_ranks = _divide(config.parts, bounds, first_sequence, lengths)
    return Plan(
        first_sequence=first_sequence,
        lengths=lengths,
        shards=shards,
        bucket_ranks=bucket_ranks,
        bucket_sequences=first_sequence[bucket_ranks].astype(np.int64),
        levels=levels,
        sequence_of_row=sequence_of_row,
        representative_level=level,
        rank_of_row=rank_of_row,
        members={name: int(size[order[a:b]].sum(dtype=np.int64)) for name, (a, b) in bounds.items()},
    )


def _rerun(stage: str) -> str:
    return f"run the {stage} stage again"


def _rank_clusters(seed: int, keys: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """uint32[c], the cluster of each rank, and the range of ranks of each side."""
    chunks, bounds, first = [], {}, 0
    for code, name in enumerate(SIDES):
        chosen = np.flatnonzero(side == code).astype(np.uint32)
        chunks.append(chosen[np.argsort(keyed_hash(seed, keys[chosen]), kind="stable")])
        bounds[name] = (first, first := first + len(chosen))
    return np.concatenate(chunks), bounds


def _check_sides(bounds: dict[str, tuple[int, int]], parts: int, split: Path) -> None:
    for name in ("train", "validation"):
        if bounds[name][0] == bounds[name][1]:
            raise UserError(f"no {name} clusters", where=split, fix="change split.validation_fraction or _count")
    train = bounds["train"][1]
    if parts > train:
        raise UserError(f"shard.parts is {parts} for {train} train clusters", fix=f"set shard.parts to at most {train}")


def _first_sequences(sizes: np.ndarray, with_members: int, path: Path) -> np.ndarray:
    """Plan.first_sequence. sizes: members of each rank; ranks from `with_members` on have one sequence each."""
    first = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, dtype=np.int64, out=first[1:])
    first[with_members + 1 :] = first[with_members] + np.arange(1, len(sizes) - with_members + 1)
    if first[-1] >= int(NONE):
        raise UserError(f"{first[-1]} sequences are more than the {int(NONE) - 1} that one run can hold", where=path)
    return first.astype(np.uint32)


def _number_members(
    path: Path, size: np.ndarray, first_of_cluster: np.ndarray, sequence_of_row: np.ndarray, lengths: np.ndarray
) -> None:
    """Fill sequence_of_row and lengths for the members of clusters that have a number in first_of_cluster."""
    cluster, seen = np.int64(-1), np.int64(0)
    columns = ["cluster", "row", "length"]
    for _row, batch in iterate_file(path, columns, "cluster", batch_rows=_BATCH_ROWS, threads=False):
        arrays = [column.to_numpy() for column in batch.columns]
        cluster, seen, wrong = _number(*arrays, cluster, seen, size, first_of_cluster, sequence_of_row, lengths)
        if wrong:
            break
    else:
        wrong = 0 if len(size) == 0 or (cluster == len(size) - 1 and seen == size[cluster]) else 1
    if wrong:
        what = {
            1: f"cluster {cluster} does not have as many members as clusters.parquet says",
            2: f"a member of cluster {cluster} names a row beyond the {len(sequence_of_row)} records of uniref90",
            3: f"a record of cluster {cluster} is the member of two clusters",
        }[wrong]
        raise UserError(what, where=path, fix=_rerun("cluster"))


@numba.njit(cache=True, nogil=True)
def _number(clusters, rows, residues, cluster, seen, size, first_of_cluster, sequence_of_row, lengths):  # fmt: skip
    """One block of members. Returns (cluster, its members seen so far, kind of error or 0), for the next block."""
    for i in range(len(clusters)):
        if clusters[i] != cluster:
            # every cluster has members, so the next one begins when this one is complete
            if clusters[i] != cluster + 1 or clusters[i] >= len(size) or (cluster >= 0 and seen != size[cluster]):
                return cluster, seen, 1
            cluster, seen = np.int64(clusters[i]), np.int64(0)
        if seen >= size[cluster]:
            return cluster, seen, 1
        if rows[i] >= len(sequence_of_row):
            return cluster, seen, 2
        first = first_of_cluster[cluster]
        if first != NONE:
            if sequence_of_row[rows[i]] != NONE:
                return cluster, seen, 3
            sequence_of_row[rows[i]] = first + seen
            lengths[first + seen] = residues[i]
        seen += 1
    return cluster, seen, 0


def _divide(
    count: int, bounds: dict[str, tuple[int, int]], first_sequence: np.ndarray, lengths: np.ndarray
) -> tuple[list[PlannedShard], np.ndarray]:
    """Divide the ranks into `count` train shards and one shard for each other side: (shards, Plan.bucket_ranks)."""
    train = bounds["train"][1]
    edges = [train * i // count for i in range(count + 1)]
    ranges = [(train_shard(i, count), "train", edges[i], edges[i + 1]) for i in range(count)]
    ranges += [(name, name, *bounds[name]) for name in SIDES[1:] if bounds[name][0] < bounds[name][1]]
    target = max(BUCKET_BYTES, int(lengths.sum(dtype=np.int64)) // max(MAX_BUCKETS - len(ranges), 1))
    shards, ranks = [], [0]
    for name, side, first, end in ranges:
        bucket = len(ranks) - 1
        ranks.extend(_bucket_ends(first, end, first_sequence, lengths, target))
        shards.append(PlannedShard(name, side, (first, end), (bucket, len(ranks) - 1)))
    return shards, np.asarray(ranks, np.int64)


@numba.njit(cache=True)
def _bucket_ends(first, end, first_sequence, lengths, target):
    """The ranks, each one past the last of a bucket, that divide the ranks first to end - 1; the last one is `end`."""
    ends, filled = [], 0
    for rank in range(first, end):
        for sequence in range(first_sequence[rank], first_sequence[rank + 1]):
            filled += lengths[sequence]
        if filled >= target and rank + 1 < end:
            ends.append(rank + 1)
            filled = 0
    ends.append(end)
    return ends
