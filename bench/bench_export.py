"""Residues exported per processor second, format by format, beside the writers of the formats' own libraries.

The demo's proteins, repeated to 180 MB of residues, out of shards. Ours is all of `unirefine export` with one thread:
the shards hashed, ids decoded, files written, hashed again and fsynced. The others start with Python strings in memory
and only write; they get the proteins once.
"""

import importlib.metadata
import os
import sqlite3
import sys
import tempfile
import types
from pathlib import Path

from bench_shards import directory, keep, run_of
from demo_proteins import proteins
from paired import main

REPEATS = 20


def built() -> Path:
    """Shards, made by a process of their own, so that its memory is not counted."""
    from unirefine.config import Shard
    from unirefine.shard.run import run as build

    shards = directory()
    child = os.fork()
    if child == 0:
        root = run_of(REPEATS)
        build(
            Shard(parts=2), records=root / "records", clusters=root / "cluster", split=root / "split.parquet",
            release=root / "release.json", output=shards, threads=1,
        )  # fmt: skip
        keep[-1].cleanup()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return shards


def ours(to):
    """`unirefine export --to` of that format, one thread."""

    def case():
        shards = built()
        from unirefine.export.run import run as export

        def run():
            with tempfile.TemporaryDirectory() as work:
                return export(shards, Path(work) / "out", to, threads=1)

        done = run()
        return sum(side["tokens"] for side in done.sides.values()) / 1e6, run

    return case


def library(write):
    """A writer of others: write(ids, clusters, sequences, directory)."""

    def case():
        sequences = proteins()
        ids = [f"UniRef90_A{number:09d}" for number in range(len(sequences))]
        clusters = [f"UniRef50_A{number // 3:09d}" for number in range(len(sequences))]

        def run():
            with tempfile.TemporaryDirectory() as work:
                write(ids, clusters, sequences, Path(work))

        run()
        return sum(map(len, sequences)) / 1e6, run

    return case


def with_datasets(ids, clusters, sequences, work):
    """Hugging Face's Dataset.to_parquet, with its own compression (snappy)."""
    from datasets import Dataset

    made = Dataset.from_dict({"sequence": sequences, "ur50_id": clusters, "ur90_id": ids})
    made.to_parquet(str(work / "000.parquet"))


def with_sqlite(ids, _clusters, sequences, work):
    """sqlite3.executemany into a table whose primary key is the id."""
    database = sqlite3.connect(work / "train.db")
    database.execute("CREATE TABLE protein (id TEXT PRIMARY KEY, sequence TEXT)")
    database.executemany("INSERT INTO protein VALUES (?, ?)", zip(ids, sequences, strict=True))
    database.commit()
    database.close()


def with_biopython(ids, _clusters, sequences, work):
    """Bio.SeqIO.write of SeqRecords, a line a sequence."""
    from Bio.Seq import Seq
    from Bio.SeqIO import write
    from Bio.SeqRecord import SeqRecord

    records = (SeqRecord(Seq(text), name, description="") for name, text in zip(ids, sequences, strict=True))
    write(records, work / "train.fasta", "fasta-2line")


def with_webdataset(ids, clusters, sequences, work):
    """webdataset.TarWriter with a JSON for each sequence."""
    import webdataset

    with webdataset.TarWriter(str(work / "train.tar")) as writer:
        for number, (name, cluster, text) in enumerate(zip(ids, clusters, sequences, strict=True)):
            sample = {"id": name, "cluster_id": cluster, "sequence": text}
            writer.write({"__key__": f"{number:010d}", "json": sample})


def with_streaming(ids, clusters, sequences, work):
    """MosaicML's MDSWriter."""
    if "streaming" not in sys.modules:  # the package itself imports torchvision
        package = types.ModuleType("streaming")
        package.__path__ = [str(importlib.metadata.distribution("mosaicml-streaming").locate_file("streaming"))]
        sys.modules["streaming"] = package
    from streaming.base.format.mds.writer import MDSWriter

    columns = dict.fromkeys(("cluster_id", "id", "sequence"), "str")
    with MDSWriter(columns=columns, out=str(work / "train"), hashes=["sha256"]) as writer:
        for name, cluster, text in zip(ids, clusters, sequences, strict=True):
            writer.write({"cluster_id": cluster, "id": name, "sequence": text})


LIBRARIES = {
    "parquet": ("datasets to_parquet", with_datasets),
    "bionemo": ("sqlite3 with a primary key", with_sqlite),
    "fasta": ("Biopython SeqIO.write", with_biopython),
    "webdataset": ("webdataset TarWriter", with_webdataset),
    "mds": ("streaming MDSWriter", with_streaming),
}
TABLES = {
    f"Export to {to}": ("MB of residues", {"unirefine export": ours(to), name: library(write)})
    for to, (name, write) in LIBRARIES.items()
}

if __name__ == "__main__":
    main(TABLES, rounds=3, per_core=True)
