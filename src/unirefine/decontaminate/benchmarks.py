"""Proteins of `decontaminate.against`: held out without being of the run, numbered after its clusters.

They are searched together with validation and test. `benchmarks.parquet` has them in the order of their numbers; it is
empty where a run has no such files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.config import Benchmark, Decontaminate
from unirefine.core.fasta import write_fasta
from unirefine.core.proteins import read_proteins
from unirefine.core.tables import open_parquet, table_writer
from unirefine.decontaminate.inputs import Clusters, fasta_names, names_of
from unirefine.errors import UserError

FILE = "benchmarks.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("length", pa.int32()),
        ("benchmark", pa.string()),
        ("action", pa.string()),
        ("sequence", pa.string()),
    ]
)
_FIRST = b"unirefine_first"
"""Metadata key: number of the first protein, which is the number of clusters."""


@dataclass(frozen=True)
class Benchmarks:
    """The k proteins of all files."""

    first: int
    """Number of the first; target t of a search is protein t - first."""
    table: pl.DataFrame
    """As in SCHEMA."""

    def is_reported(self, targets: np.ndarray) -> np.ndarray:
        """Which targets are proteins of a file whose hits are reported only: bool[n]. targets: numbers, int[n]."""
        reported = np.concatenate([(self.table["action"] == "report").to_numpy(), [False]])
        at = targets.astype(np.int64) - self.first
        return reported[np.where(at < 0, -1, at)]

    def removing(self, hits: pl.DataFrame) -> pl.DataFrame:
        """The hits whose clusters are removed."""
        return hits.filter(~pl.Series(self.is_reported(hits["target"].to_numpy()), dtype=pl.Boolean))

    def numbers(self, name: str) -> np.ndarray:
        """Numbers of the proteins of a file, uint32[n]."""
        return (np.flatnonzero((self.table["benchmark"] == name).to_numpy()) + self.first).astype(np.uint32)

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.first + len(self.table)


def write_benchmarks(directory: Path, files: Sequence[Benchmark], first: int, target: BinaryIO, level: str) -> int:
    """Append the proteins of all files to the FASTA `target` and write FILE; return how many there are.

    Raises UserError for a file that cannot be read as proteins.
    """
    number = first
    with table_writer(directory / FILE, SCHEMA, {_FIRST.decode(): str(first)}) as writer:
        for benchmark in files:
            for block in read_proteins(benchmark.file, option=f"decontaminate.against ({benchmark.name})"):
                numbers = np.arange(number, number + len(block.names))
                # named as the level names its sequences: the first name tells the level
                rows = np.zeros(len(numbers), np.int64) if level == "members" else None
                write_fasta(target, fasta_names(numbers, rows), block.sequences)
                same = [pa.repeat(text, len(numbers)) for text in (benchmark.name, benchmark.action)]
                lengths = pc.utf8_length(block.sequences)
                columns = (block.names, lengths, *same, block.sequences)
                writer.write(dict(zip(SCHEMA.names, columns, strict=True)))
                number += len(numbers)
    if number >= 2**32 - 1:
        raise UserError(f"{number:,} clusters and benchmark proteins; a number has 32 bits", where=directory / FILE)
    return number - first


def read_benchmarks(config: Decontaminate, directory: Path, clusters: int | None = None) -> Benchmarks:
    """Read what prepare has written. clusters: how many there must be.

    Raises UserError when it is missing, or of other files or clusters.
    """
    path = directory / FILE
    if not config.against and not path.exists():  # searched by a version without it
        return Benchmarks(
            2**32 - 1 if clusters is None else clusters, pl.DataFrame(pl.from_arrow(SCHEMA.empty_table()))
        )
    with open_parquet(path, "decontaminate") as file:
        first = (file.schema_arrow.metadata or {}).get(_FIRST, b"")
        table = pl.DataFrame(pl.from_arrow(file.read()))
    found = dict(table.select("benchmark", "action").unique(maintain_order=True).rows())
    asked = {benchmark.name: benchmark.action for benchmark in config.against}
    if not first.isdigit() or (clusters is not None and int(first) != clusters) or found != asked:
        raise UserError(
            "it is of other clusters, or of other files than decontaminate.against names", where=path,
            fix="run `unirefine decontaminate prepare` with this config",
        )  # fmt: skip
    return Benchmarks(int(first), table)


def target_names(known: Clusters, benchmarks: Benchmarks, targets: np.ndarray, records: Path) -> list[str]:
    """Names of targets: ids of clusters, and `<id> of <name>` of benchmark proteins. targets: int[n] in any order."""
    names = np.empty(len(targets), object)
    own = targets < benchmarks.first
    names[own] = names_of(known, targets[own], records)
    rows = benchmarks.table[(targets[~own].astype(np.int64) - benchmarks.first).tolist()]
    names[~own] = [f"{name} of {benchmark}" for name, benchmark in zip(rows["id"], rows["benchmark"], strict=True)]
    return names.tolist()
