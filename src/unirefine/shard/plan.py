"""Where every sequence goes, worked out from the integer tables before a single residue is read.

Clusters are ranked: train in keyed-hash order, then validation, then test, each in keyed-hash order too. A sequence's
global number follows from its cluster's rank and its place among the members (ordered by key). Train ranks are cut
into equal runs, one shard each, and every shard into buckets, the unit that is ordered in memory: 16 MB, or the 512th
part of everything if that is more.
Memory: 4 bytes for each record and each written sequence, about 40 for each cluster while planning.
"""

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from unirefine.config import Shard
from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import LEVELS, NONE
from unirefine.errors import UserError
from unirefine.files.names import train_shard
from unirefine.shard.source import Level, batches, open_level, open_parquet

SIDES = ("train", "validation", "test")
BUCKET_BYTES = 16 << 20
MAX_BUCKETS = 512  # files that are open at once in the first pass
_BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class Part:
    """One shard: a run of cluster ranks, and the buckets that make it up."""

    name: str
    side: str
    ranks: tuple[int, int]
    buckets: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """The whole layout: c clusters, n written sequences. Ranges are (first, end)."""

    first_sequence: np.ndarray
    """uint32[c + 1]: number of the first sequence of each rank."""
    lengths: np.ndarray
    """int32[n]: residues of each sequence, in output order."""
    parts: list[Part]
    bucket_ranks: np.ndarray
    """int64[buckets + 1]: first rank of each bucket."""
    bucket_sequences: np.ndarray
    """int64[buckets + 1]: first sequence of each bucket."""
    levels: dict[str, Level]
    """Record levels to read."""
    sequence_of_row: dict[str, np.ndarray]
    """Per level uint32[rows]: the sequence a record becomes, or NONE."""
    representative_level: str
    """Level of the records that represent clusters and name them."""
    rank_of_row: np.ndarray
    """uint32[rows] of that level: rank of the cluster that a record represents, or NONE."""
    members: dict[str, int]
    """Members of the clusters of each side, written or not."""

    def part_sequences(self, part: Part) -> tuple[int, int]:
        """First and end sequence of a shard."""
        return int(self.first_sequence[part.ranks[0]]), int(self.first_sequence[part.ranks[1]])


def make_plan(config: Shard, records: Path, clusters: Path, split: Path) -> Plan:
    """Lay out the shards. `clusters`: directory of the cluster stage; `split`: a split.parquet.

    Raises UserError when the inputs do not fit each other or when a shard would stay empty.
    """
    path = clusters / "clusters.parquet"
    table = open_parquet(path, "cluster")
    side = open_parquet(split, "decontaminate").read(columns=["side"])["side"].to_numpy()
    if len(side) != table.metadata.num_rows:
        raise UserError(f"{len(side)} rows for {table.metadata.num_rows} clusters", where=split, fix=_again("split"))
    level = (table.schema_arrow.metadata or {}).get(b"representative_level", b"").decode()
    if level not in LEVELS:
        raise UserError(f"its metadata names no representative_level but {level!r}", where=path, fix=_again("cluster"))
    levels = {name: open_level(records, name) for name in dict.fromkeys((level, "uniref90"))}

    def column(name: str) -> np.ndarray:
        return table.read(columns=[name])[name].to_numpy()

    order, bounds = _rank_clusters(config.seed, column("key"), side)
    train_end = bounds["train"][1]
    _check_sides(bounds, config.parts, split)
    size = column("size")
    whole = train_end if config.validation == "representatives" else len(order)  # from here on only representatives
    first_sequence = _first_sequences(size[order], whole, path)
    lengths = np.zeros(int(first_sequence[-1]), np.int32)
    sequence_of_row = {name: np.full(levels[name].rows, NONE, np.uint32) for name in levels}
    rank_of_row = np.full(levels[level].rows, NONE, np.uint32)

    row = column("row")[order]
    if len(row) and row.max() >= len(rank_of_row):
        raise UserError(f"row {row.max()} is beyond the {len(rank_of_row)} records of {level}", where=path)
    rank_of_row[row] = np.arange(len(row), dtype=np.uint32)
    if whole < len(order):
        sequence_of_row[level][row[whole:]] = first_sequence[whole:-1]
        lengths[first_sequence[whole] :] = column("length")[order[whole:]]
    del row
    start_of_cluster = np.full(len(side), NONE, np.uint32)
    start_of_cluster[order[:whole]] = first_sequence[:whole]
    _place_members(clusters / "membership.parquet", size, start_of_cluster, sequence_of_row["uniref90"], lengths)
    parts, bucket_ranks = _cut(config.parts, bounds, first_sequence, lengths)
    return Plan(
        first_sequence=first_sequence,
        lengths=lengths,
        parts=parts,
        bucket_ranks=bucket_ranks,
        bucket_sequences=first_sequence[bucket_ranks].astype(np.int64),
        levels=levels,
        sequence_of_row=sequence_of_row,
        representative_level=level,
        rank_of_row=rank_of_row,
        members={name: int(size[order[a:b]].sum(dtype=np.int64)) for name, (a, b) in bounds.items()},
    )


def _again(stage: str) -> str:
    return f"run `snakemake -R {stage}`"


def _rank_clusters(seed: int, keys: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """uint32[c] clusters by rank, and the ranks of each side."""
    runs, bounds, first = [], {}, 0
    for code, name in enumerate(SIDES):
        chosen = np.flatnonzero(side == code).astype(np.uint32)
        runs.append(chosen[np.argsort(keyed_hash(seed, keys[chosen]), kind="stable")])
        bounds[name] = (first, first := first + len(chosen))
    return np.concatenate(runs), bounds


def _check_sides(bounds: dict[str, tuple[int, int]], parts: int, split: Path) -> None:
    for name in ("train", "validation"):
        if bounds[name][0] == bounds[name][1]:
            raise UserError(f"no {name} clusters", where=split, fix="change split.validation_fraction or _count")
    train = bounds["train"][1]
    if parts > train:
        raise UserError(f"shard.parts is {parts} for {train} train clusters", fix=f"set shard.parts to at most {train}")


def _first_sequences(sizes: np.ndarray, whole: int, path: Path) -> np.ndarray:
    """uint32[c + 1] from the members of each rank; ranks from `whole` on have one sequence."""
    first = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, dtype=np.int64, out=first[1:])
    first[whole + 1 :] = first[whole] + np.arange(1, len(sizes) - whole + 1)
    if first[-1] >= int(NONE):
        raise UserError(f"{first[-1]} sequences are more than the {int(NONE) - 1} that one run can hold", where=path)
    return first.astype(np.uint32)


def _place_members(
    path: Path, size: np.ndarray, start_of_cluster: np.ndarray, sequence_of_row: np.ndarray, lengths: np.ndarray
) -> None:
    """Give every member its sequence number and length; clusters without a start are passed over."""
    cluster, seen = np.int64(-1), np.int64(0)
    for batch in batches(path, ["cluster", "row", "length"], "cluster", _BATCH_ROWS):
        columns = [batch.column(i).to_numpy() for i in range(3)]
        cluster, seen, wrong = _place(*columns, cluster, seen, size, start_of_cluster, sequence_of_row, lengths)
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
        raise UserError(what, where=path, fix=_again("cluster"))


@numba.njit(cache=True, nogil=True)
def _place(clusters, rows, residues, cluster, seen, size, start_of_cluster, sequence_of_row, lengths):  # fmt: skip
    for i in range(len(clusters)):
        if clusters[i] != cluster:
            # every cluster has members, so the next one follows when the last is complete
            if clusters[i] != cluster + 1 or clusters[i] >= len(size) or (cluster >= 0 and seen != size[cluster]):
                return cluster, seen, 1
            cluster, seen = np.int64(clusters[i]), np.int64(0)
        if seen >= size[cluster]:
            return cluster, seen, 1
        if rows[i] >= len(sequence_of_row):
            return cluster, seen, 2
        start = start_of_cluster[cluster]
        if start != NONE:
            if sequence_of_row[rows[i]] != NONE:
                return cluster, seen, 3
            sequence_of_row[rows[i]] = start + seen
            lengths[start + seen] = residues[i]
        seen += 1
    return cluster, seen, 0


def _cut(
    count: int, bounds: dict[str, tuple[int, int]], first_sequence: np.ndarray, lengths: np.ndarray
) -> tuple[list[Part], np.ndarray]:
    """The shards and int64[buckets + 1], the first rank of each bucket."""
    train = bounds["train"][1]
    edges = [train * i // count for i in range(count + 1)]
    runs = [(train_shard(i, count), "train", edges[i], edges[i + 1]) for i in range(count)]
    runs += [(name, name, *bounds[name]) for name in SIDES[1:] if bounds[name][0] < bounds[name][1]]
    target = max(BUCKET_BYTES, int(lengths.sum(dtype=np.int64)) // max(MAX_BUCKETS - len(runs), 1))
    parts, ranks = [], [0]
    for name, side, first, end in runs:
        bucket = len(ranks) - 1
        ranks.extend(_bucket_ends(first, end, first_sequence, lengths, target))
        parts.append(Part(name, side, (first, end), (bucket, len(ranks) - 1)))
    return parts, np.asarray(ranks, np.int64)


@numba.njit(cache=True)
def _bucket_ends(first, end, first_sequence, lengths, target):
    """Ranks at which the buckets of first .. end end; the last is `end`."""
    ends, filled = [], 0
    for rank in range(first, end):
        for sequence in range(first_sequence[rank], first_sequence[rank + 1]):
            filled += lengths[sequence]
        if filled >= target and rank + 1 < end:
            ends.append(rank + 1)
            filled = 0
    ends.append(end)
    return ends
