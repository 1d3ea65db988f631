"""FASTA for the searches: train sequences in a fixed number of parts, held-out sequences in one file.

Cluster c goes to part c mod parts, with all its members, so a part is all there is to know about its clusters. Clusters
are numbered by key, which is independent of length, so the parts are of similar size. Records are read once, in row
order. Memory: one number for each record of a level.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from unirefine.config import Decontaminate
from unirefine.core.fasta import write_fasta
from unirefine.core.levels import TEST, TRAIN, VALIDATION
from unirefine.core.rows import NONE
from unirefine.core.tables import Parts, iterate, record_parts
from unirefine.decontaminate.benchmarks import write_benchmarks
from unirefine.decontaminate.inputs import (
    Clusters,
    delete_other_parts,
    fasta_names,
    query_path,
    read_clusters,
    target_path,
)
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path
from unirefine.progress import meter

_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Prepared:
    """Numbers of sequences written, of parts, and of benchmark proteins, which are targets beside the others."""

    queries: int
    targets: int
    parts: int
    benchmarks: int = 0


def run(config: Decontaminate, *, records: Path, clusters: Path, split: Path, output: Path) -> Prepared:
    """Write `queries/part-*.fasta`, `target.fasta` and `benchmarks.parquet` to `output`, also without sequences.

    records, clusters, split: directories of those stages. FASTA ids are `<cluster>` for a representative and
    `<cluster>_<uniref90 row>` for a member. At level `members` every UniRef90 member of a cluster is written, and the
    representative unless a member is the same entry. Raises UserError when the inputs do not fit each other.
    """
    known = read_clusters(clusters, split)
    delete_other_parts(output, config.parts)
    with contextlib.ExitStack() as stack:
        queries = [_open(stack, query_path(output, part, config.parts)) for part in range(config.parts)]
        files = _Files(known, queries, _open(stack, target_path(output)))
        if config.level == "members":
            _write_members(files, known, records)
        else:
            _write_representatives(files, known, records, np.ones(len(known.side), bool))
        written = write_benchmarks(output, config.against, len(known.side), files.target, config.level)
    return Prepared(files.written_queries, files.written_targets, config.parts, written)


def _open(stack: contextlib.ExitStack, path: Path) -> BinaryIO:
    temporary = stack.enter_context(atomic_path(path))
    return stack.enter_context(temporary.open("wb"))


@dataclass
class _Files:
    """The open FASTA files; `write` appends sequences to the file of their cluster's side and part."""

    clusters: Clusters
    queries: list[BinaryIO]
    target: BinaryIO
    written_queries: int = 0
    written_targets: int = 0

    def write(self, cluster: np.ndarray, names: pa.Array, sequences: pa.Array) -> None:
        """Append n records; those of removed clusters are left out. cluster: uint32[n]; names, sequences: string[n]."""
        side = self.clusters.side[cluster]
        train, held_out = side == TRAIN, (side == VALIDATION) | (side == TEST)
        self.written_queries += int(train.sum())
        self.written_targets += int(held_out.sum())
        part = cluster % len(self.queries)
        chosen = [(self.queries[number], train & (part == number)) for number in np.unique(part[train])]
        for file, mask in [(self.target, held_out), *chosen]:
            write_fasta(file, names.filter(pa.array(mask)), sequences.filter(pa.array(mask)))


def _write_representatives(files: _Files, known: Clusters, records: Path, wanted: np.ndarray) -> None:
    """Write the representatives of the clusters in `wanted` (bool[n])."""
    parts = known.representatives(records)
    cluster_of_row = np.full(parts.rows, NONE, np.uint32)
    rows = known.column("row")
    _check_rows(rows, parts, known.directory / "clusters.parquet")
    chosen = np.flatnonzero(wanted).astype(np.uint32)
    cluster_of_row[rows[chosen]] = chosen
    for cluster, _row, sequences in _sequences(parts, cluster_of_row, "representatives"):
        files.write(cluster, fasta_names(cluster), sequences)


def _write_members(files: _Files, known: Clusters, records: Path) -> None:
    """Write the members, then the representatives that are not members themselves."""
    parts = record_parts(records, "uniref90")
    cluster_of_row = np.full(parts.rows, NONE, np.uint32)
    keys = known.column("key")
    no_member = np.ones(len(keys), bool)
    for cluster, row, key in known.members("row", "key"):
        _check_rows(row, parts, known.directory / "membership.parquet")
        cluster_of_row[row] = cluster
        no_member[cluster[keys[cluster] == key]] = False
    del keys
    for cluster, row, sequences in _sequences(parts, cluster_of_row, "members"):
        files.write(cluster, fasta_names(cluster, row), sequences)
    del cluster_of_row
    if no_member.any():
        _write_representatives(files, known, records, no_member)


def _check_rows(rows: np.ndarray, parts: Parts, path: Path) -> None:
    if len(rows) and int(rows.max()) >= parts.rows:
        raise UserError(
            f"row {rows.max()} of {parts.rows} {parts.level} records",
            where=path,
            fix="run the cluster stage again, on these records",
        )


def _sequences(
    parts: Parts, cluster_of_row: np.ndarray, title: str
) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Array]]:
    """Yield (cluster uint32[k], row uint32[k], sequence string[k]) of the records that belong to a cluster."""
    with meter(f"decontaminate prepare: {title}", total=parts.rows, unit="sequences") as progress:
        for first, batch in iterate(parts, ["sequence"], batch_rows=_BATCH_ROWS):
            cluster = cluster_of_row[first : first + batch.num_rows]
            local = np.flatnonzero(cluster != NONE)
            yield cluster[local], (local + first).astype(np.uint32), batch.column(0).take(pa.array(local))
            progress.advance(batch.num_rows)
