"""The proteins to embed: of a FASTA, a Parquet file or the validation shard, in order."""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.alphabet import decode
from unirefine.core.fasta import Protein, read_fasta
from unirefine.core.tables import iterate_file
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.files.inputs import require_file


@dataclass(frozen=True)
class Source:
    """Proteins that have been read once, to check and count them, and are read again to embed them."""

    proteins: Callable[[], Iterator[Protein]]
    lengths: np.ndarray
    """int32[n], in residues."""
    digest: str
    """Hex SHA-256 of all names and sequences."""


def from_fasta(path: Path, *, allow_nucleotides: bool = False) -> Source:
    """The proteins of a FASTA. Reads the whole file; raises UserError for a mistake anywhere in it."""
    option = "embed.allow_nucleotides"
    return _counted(lambda: read_fasta(path, allow_nucleotides=allow_nucleotides, option=option))


def from_parquet(path: Path) -> Source:
    """The proteins of a Parquet file with columns `id` and `sequence`, like record parts. Raises UserError."""

    require_file(path, "check --parquet")

    def proteins() -> Iterator[Protein]:
        for first, batch in iterate_file(path, ("id", "sequence"), "records", batch_rows=4096, nulls=True):
            for row, (name, sequence) in enumerate(
                zip(batch["id"].to_pylist(), batch["sequence"].to_pylist(), strict=True)
            ):
                if not name or not sequence:
                    raise UserError("no id or no sequence", where=f"{path}, row {first + row}")
                yield Protein(name, sequence)

    return _counted(proteins)


def from_shards(directory: Path, sequences: int) -> Source:
    """The first `sequences` proteins of the validation shard, whose order is random."""
    side = open_shards(directory).validation

    def proteins() -> Iterator[Protein]:
        for number in range(min(sequences, side.sequences)):
            yield Protein(side.ids(number)[0], decode(side.tokens(number)))

    return _counted(proteins)


def _counted(proteins: Callable[[], Iterator[Protein]]) -> Source:
    digest, lengths = hashlib.sha256(), array("i")
    for protein in proteins():
        digest.update(f">{protein.name}\n{protein.sequence}\n".encode())
        lengths.append(len(protein.sequence))
    if not lengths:
        raise UserError("nothing to embed", fix="give a file with at least one sequence")
    return Source(proteins, np.array(lengths, np.int32), digest.hexdigest())
