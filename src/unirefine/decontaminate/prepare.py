"""FASTA for the searches: train sequences in a fixed number of parts, held-out sequences in one file.

Cluster c goes to part c mod parts, with all its members: a part then knows everything about its clusters. Clusters are
numbered by key, which has nothing to do with length, so the parts are alike in size. Records are read once, in row
order; what is held in memory is one number per record of a level.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from unirefine.config import Decontaminate
from unirefine.core.levels import NONE, REMOVED, TRAIN
from unirefine.core.tables import Parts, iterate, record_parts
from unirefine.decontaminate.inputs import Clusters, delete_other_parts, query_path, read_clusters, target_path
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path
from unirefine.progress import meter

_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Prepared:
    """Sequences written."""

    queries: int
    targets: int
    parts: int


def run_prepare(config: Decontaminate, records: Path, clusters: Path, split: Path, output: Path) -> Prepared:
    """Write `queries/part-*.fasta` and `target.fasta`; all of them exist, empty ones too.

    FASTA ids are `<cluster>` for a representative and `<cluster>_<uniref90 row>` for a member. At level `members`
    every UniRef90 member of a cluster is written, and the representative unless a member is the same entry.
    Raises UserError when the inputs do not fit each other.
    """
    known = read_clusters(clusters, split)
    delete_other_parts(output, config.parts)
    with contextlib.ExitStack() as files:
        queries = [_open(files, query_path(output, part, config.parts)) for part in range(config.parts)]
        sink = _Sink(known, queries, _open(files, target_path(output)))
        if config.level == "members":
            _write_members(sink, known, records)
        else:
            _write_representatives(sink, known, records, np.ones(len(known.side), bool))
    return Prepared(sink.queries, sink.targets, config.parts)


def _open(files: contextlib.ExitStack, path: Path) -> BinaryIO:
    part = files.enter_context(atomic_path(path))
    return files.enter_context(part.open("wb"))


@dataclass
class _Sink:
    """Sends sequences to the file of their cluster's side and part."""

    clusters: Clusters
    parts: list[BinaryIO]
    target: BinaryIO
    queries: int = 0
    targets: int = 0

    def write(self, cluster: np.ndarray, name: pl.Series, sequence: pl.Series) -> None:
        """cluster: uint32[n]; name, sequence: n strings."""
        side = self.clusters.side[cluster]
        text = pl.DataFrame({"name": name, "sequence": sequence}).select(
            pl.format(">{}\n{}\n", "name", "sequence").alias("text")
        )["text"]
        train = side == TRAIN
        held_out = ~train & (side != REMOVED)
        self.queries += int(train.sum())
        self.targets += int(held_out.sum())
        self.target.write(_joined(text, held_out))
        part = cluster % len(self.parts)
        for number in np.unique(part[train]):
            self.parts[number].write(_joined(text, train & (part == number)))


def _joined(text: pl.Series, chosen: np.ndarray) -> bytes:
    return text.filter(pl.Series(chosen)).str.join("").item().encode("ascii")


def _write_representatives(sink: _Sink, known: Clusters, records: Path, wanted: np.ndarray) -> None:
    """Write the representatives of the clusters in `wanted` (bool[n])."""
    parts = known.representatives(records)
    cluster_of_row = np.full(parts.rows, NONE, np.uint32)
    rows = known.column("row")
    if len(rows) and int(rows.max()) >= parts.rows:
        raise UserError(
            f"row {rows.max()} of {parts.rows} {parts.level} records",
            where=known.directory / "clusters.parquet",
            fix="run the cluster stage again, on these records",
        )
    chosen = np.flatnonzero(wanted).astype(np.uint32)
    cluster_of_row[rows[chosen]] = chosen
    for cluster, _row, sequence in _chosen(parts, cluster_of_row, "representatives"):
        sink.write(cluster, pl.Series(cluster).cast(pl.String), sequence)


def _write_members(sink: _Sink, known: Clusters, records: Path) -> None:
    """Write the members, then those representatives that are no member themselves."""
    parts = record_parts(records, "uniref90")
    cluster_of_row = np.full(parts.rows, NONE, np.uint32)
    keys = known.column("key")
    alone = np.ones(len(keys), bool)
    for cluster, row, key in known.members("row", "key"):
        if len(row) and int(row.max()) >= parts.rows:
            raise UserError(
                f"row {row.max()} of {parts.rows} uniref90 records",
                where=known.directory / "membership.parquet",
                fix="run the cluster stage again, on these records",
            )
        cluster_of_row[row] = cluster
        alone[cluster[keys[cluster] == key]] = False
    del keys
    for cluster, row, sequence in _chosen(parts, cluster_of_row, "members"):
        names = pl.DataFrame({"cluster": cluster, "row": row}).select(pl.format("{}_{}", "cluster", "row"))
        sink.write(cluster, names.to_series(), sequence)
    del cluster_of_row
    if alone.any():
        _write_representatives(sink, known, records, alone)


def _chosen(parts: Parts, cluster_of_row: np.ndarray, title: str) -> Iterator[tuple[np.ndarray, np.ndarray, pl.Series]]:
    """Yield (cluster uint32[k], row uint32[k], sequence) of the records that belong to a cluster."""
    with meter(f"decontaminate prepare: {title}", total=parts.rows, unit="sequences") as done:
        for first, batch in iterate(parts, ["sequence"], batch_rows=_BATCH_ROWS):
            cluster = cluster_of_row[first : first + batch.num_rows]
            local = np.flatnonzero(cluster != NONE)
            sequence = pl.Series(pl.from_arrow(batch.column(0))).gather(local)
            yield cluster[local], (local + first).astype(np.uint32), sequence
            done.advance(batch.num_rows)
