"""The held-out sequences of an audit, and the train sequence that is nearest to each of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa

from unirefine.audit.sources import Source
from unirefine.core.fasta import write_fasta
from unirefine.core.smith_waterman import as_residues
from unirefine.core.tables import string_buffers
from unirefine.errors import UserError
from unirefine.progress import meter

SEARCH, AUDIT, EXACT, IDENTICAL = CHECKS = ("search", "audit", "exact", "identical")
"""What has found a pair: the first search, the more sensitive one, the exact alignment of a sample, equal letters."""
FOUND = {
    "target": pl.UInt32,
    "train": pl.String,
    "identity": pl.Float32,
    "query_coverage": pl.Float32,
    "target_coverage": pl.Float32,
    "evalue": pl.Float64,
    "bits": pl.Float32,
    "check": pl.String,
}
"""A pair: number of the held-out sequence, id of the train sequence, and their alignment. evalue and bits are null for
sequences that were compared letter by letter."""


@dataclass
class HeldOut:
    """n held-out sequences, numbered in the order of their sources."""

    sources: list[Source]
    source: np.ndarray
    """int64[n]: index of the source of each."""
    names: pa.Array
    """large_string[n]."""
    lengths: np.ndarray
    """int64[n]: residues."""
    sequences: list[str]

    def residues(self) -> list[bytes]:
        """The sequences in the letters that are aligned."""
        return [as_residues(sequence) for sequence in self.sequences]

    def write(self, path: Path, chosen: np.ndarray) -> None:
        """Write FASTA of the sequences in `chosen`, int[k]; their names are their numbers."""
        with path.open("wb") as file:
            write_numbered(file, chosen, pa.array([self.sequences[at] for at in chosen], pa.large_string()))


def write_numbered(file: BinaryIO, numbers: np.ndarray, sequences: pa.Array) -> None:
    """Append FASTA of k records whose names are numbers."""
    write_fasta(file, pa.array(numbers).cast(pa.large_string()), sequences)


def read_held_out(sources: list[Source]) -> HeldOut:
    """Read all sequences of the sources. Memory: the sequences."""
    names, sequences, origin = [], list[str](), []
    with meter("audit: held-out sequences", unit="sequences") as done:
        for number, source in enumerate(sources):
            before = len(sequences)
            for block in source.blocks():
                names.append(block.names)
                sequences += block.sequences.to_pylist()
                done.advance(len(block.names))
            if len(sequences) == before:
                raise UserError("no held-out sequences in it", where=source.path, fix="give another --against")
            origin.append(np.full(len(sequences) - before, number))
    if len(sequences) >= 2**32 - 1:
        raise UserError(f"{len(sequences):,} held-out sequences; a number has 32 bits", where=sources[-1].path)
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    return HeldOut(sources, np.concatenate(origin), pa.concat_arrays(names), lengths, sequences)


class Identical:
    """Finds train sequences with the very letters of a held-out one, however short: no search can miss those."""

    def __init__(self, held_out: HeldOut) -> None:
        self._targets: dict[str, list[int]] = {}
        for number, sequence in enumerate(held_out.sequences):
            self._targets.setdefault(sequence, []).append(number)

    def find(self, names: pa.Array, sequences: pa.Array) -> pl.DataFrame:
        """The pairs of a block of train sequences, as in FOUND. names, sequences: large_string[n]."""
        rows = [
            (target, names[at].as_py())
            for at, sequence in enumerate(sequences.to_pylist())
            for target in self._targets.get(sequence, ())
        ]
        return pl.DataFrame(rows, schema={"target": pl.UInt32, "train": pl.String}, orient="row").select(
            "target",
            "train",
            *(pl.lit(1.0).cast(pl.Float32).alias(name) for name in ("identity", "query_coverage", "target_coverage")),
            pl.lit(None, pl.Float64).alias("evalue"),
            pl.lit(None, pl.Float32).alias("bits"),
            pl.lit(IDENTICAL).alias("check"),
        )


def nearest_of(found: pl.DataFrame) -> pl.DataFrame:
    """The best pair of each held-out sequence: the highest identity, then by score; of equal ones the first id."""
    # pairs that were compared letter by letter have no score, and come first
    ordered = found.sort("target", "identity", "bits", "train", descending=[False, True, True, False])
    return ordered.unique("target", keep="first", maintain_order=True)


def bytes_of(sequences: pa.Array) -> int:
    """Letters of n sequences."""
    offsets = string_buffers(sequences)[1]
    return int(offsets[-1] - offsets[0])
