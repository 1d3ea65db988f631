"""Data sets of the demo's proteins in the layouts of others: NVIDIA's Parquet, and BioNeMo 2's files.

Every tenth UniRef50 cluster validates. As in the published ones, validation has the representatives of its clusters
only, and train has no member of them.
"""

import contextlib
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from minisite.proteins import Cluster, choose, form_clusters, read_proteins, read_table
from minisite.site import DEMO
from minisite.taxonomy import Taxonomy

_EVERY = 10
_FILES = 3
Row = tuple[str, str, str]
"""UniRef50 id, UniRef90 id, sequence."""


def rows(limit: int | None = None) -> tuple[list[Row], list[Row]]:
    """Train and validation rows of the demo's proteins, or of `limit` UniRef50 clusters of them."""
    taxa = Taxonomy(read_table(DEMO / "taxonomy.tsv.xz", 4))
    found = read_proteins(sorted(DEMO.glob("*.fasta.xz")), DEMO / "clusters.tsv.xz", DEMO / "organisms.tsv.xz")
    proteins = choose(found, taxa, limit)
    clusters = form_clusters(proteins, "uniref50", taxa)
    held_out = {_name(cluster): cluster for cluster in clusters[::_EVERY]}
    validation = [(f"UniRef50_{name}", f"UniRef90_{name}", _sequence(one)) for name, one in held_out.items()]
    train = [
        (f"UniRef50_{member.representative.uniref50}", f"UniRef90_{_name(member)}", _sequence(member))
        for member in form_clusters(proteins, "uniref90", taxa)
        if member.representative.uniref50 not in held_out
    ]
    return train, validation


def write_parquet(directory: Path, train: list[Row], validation: list[Row]) -> None:
    """Write `train/000.parquet`, ... and `validation/000.parquet`."""
    for side, found, files in (("train", train, _FILES), ("validation", validation, 1)):
        (directory / side).mkdir(parents=True)
        for number in range(min(files, len(found))):
            columns = zip(*found[number::files], strict=True)
            table = pa.table(dict(zip(("ur50_id", "ur90_id", "sequence"), map(list, columns), strict=True)))
            pq.write_table(table, directory / side / f"{number:03d}.parquet")


def write_bionemo(directory: Path, train: list[Row], validation: list[Row]) -> None:
    """Write `train.db`, `validation.db`, `train_clusters.parquet` and `valid_clusters.parquet`."""
    directory.mkdir(parents=True)
    for name, found in (
        ("train.db", [(member, sequence) for _cluster, member, sequence in train]),
        ("validation.db", [(cluster, sequence) for cluster, _member, sequence in validation]),
    ):
        with contextlib.closing(sqlite3.connect(directory / name)) as connection, connection:
            connection.execute("CREATE TABLE protein (id TEXT PRIMARY KEY, sequence TEXT)")
            connection.executemany("INSERT INTO protein VALUES (?, ?)", found)
    members: dict[str, list[str]] = {}
    for cluster, member, _sequence in train:
        members.setdefault(cluster, []).append(member)
    pq.write_table(pa.table({"ur90_id": list(members.values())}), directory / "train_clusters.parquet")
    pq.write_table(pa.table({"ur50_id": [row[0] for row in validation]}), directory / "valid_clusters.parquet")


def _name(cluster: Cluster) -> str:
    return cluster.representative.accession


def _sequence(cluster: Cluster) -> str:
    return cluster.representative.sequence
