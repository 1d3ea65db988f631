"""The proteins to embed: of a FASTA, a Parquet file or the validation shard, in order."""

import hashlib
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.alphabet import decode
from unirefine.core.fasta import Protein, read_fasta
from unirefine.dataset import open_shards
from unirefine.errors import UserError

_NOT_RESIDUE = re.compile(r"[^A-Za-z]")


@dataclass(frozen=True)
class Source:
    """Proteins that have been read once, to check and count them, and are read again to embed them."""

    proteins: Callable[[], Iterator[Protein]]
    lengths: np.ndarray
    """int32[n], in residues."""
    digest: str
    """Hex SHA-256 of all names and sequences."""
    files: tuple[Path, ...] = ()
    """What is read."""


def from_fasta(path: Path) -> Source:
    """The proteins of a FASTA. Reads the whole file; raises UserError for a mistake anywhere in it."""
    return _counted(lambda: read_fasta(path), path)


def from_parquet(path: Path) -> Source:
    """The proteins of a Parquet file with columns `id` and `sequence`, like record parts.

    Reads the whole file; raises UserError for the mistakes that `read_fasta` refuses.
    """
    fix = "give a Parquet file with text columns id and sequence"

    def proteins() -> Iterator[Protein]:
        try:
            file = parquet.File(path, fix)
        except FileNotFoundError:
            raise UserError("no such file", where=path, fix="check --parquet") from None
        except IsADirectoryError:
            raise UserError("a directory, not a Parquet file", where=path, fix="check --parquet") from None
        with file:
            for name in ("id", "sequence"):
                if name not in file.schema_arrow.names:
                    raise UserError(f"no column {name!r}", where=path, fix=fix)
                if not _is_text(kind := file.schema_arrow.field(name).type):
                    raise UserError(f"column {name!r} is {kind}, not text", where=path, fix=fix)
            row = 0
            for batch in file.iter_batches(4096, columns=["id", "sequence"]):
                for name, sequence in zip(*(batch[column].to_pylist() for column in ("id", "sequence")), strict=True):
                    row += 1
                    yield _checked(name, sequence, f"{path}, row {row}")

    return _counted(proteins, path)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _checked(name: str | None, sequence: str | None, where: str) -> Protein:
    """One protein. Raises UserError, as `read_fasta` does."""
    if not name or not name.strip():
        raise UserError("no id", where=where, fix="give each protein an id")
    sequence = (sequence or "").removesuffix("*")
    if not sequence:
        raise UserError(f"{name} has no residues", where=where, fix="remove it, or complete the file")
    if (wrong := _NOT_RESIDUE.search(sequence)) is not None:
        hint = "remove the gaps of the alignment" if wrong[0] in "-." else "only letters are residues"
        raise UserError(f"{name} has {wrong[0]!r} at residue {wrong.start() + 1}", where=where, fix=hint)
    return Protein(name, sequence)


def from_shards(directory: Path, sequences: int) -> Source:
    """The first `sequences` proteins of the validation shard, whose order is random."""
    side = open_shards(directory).validation

    def proteins() -> Iterator[Protein]:
        for number in range(min(sequences, side.sequences)):
            yield Protein(side.ids(number)[0], decode(side.tokens(number)))

    return _counted(proteins)


def _counted(proteins: Callable[[], Iterator[Protein]], *files: Path) -> Source:
    digest, lengths, names = hashlib.sha256(), array("i"), array("q")
    for protein in proteins():
        names.append(hash(protein.name))
        digest.update(f">{protein.name}\n{protein.sequence}\n".encode())
        lengths.append(len(protein.sequence))
    if not lengths:
        raise UserError("nothing to embed", fix="give a file with at least one sequence")
    _refuse_repeated(proteins, np.array(names), *files)
    return Source(proteins, np.array(lengths, np.int32), digest.hexdigest(), files)


def _refuse_repeated(proteins: Callable[[], Iterator[Protein]], hashes: np.ndarray, *files: Path) -> None:
    """Raises UserError when two proteins have the same name. hashes: int64[n], of the names."""
    distinct, counts = np.unique(hashes, return_counts=True)
    repeated, seen = set(distinct[counts > 1].tolist()), set[str]()
    for protein in proteins() if repeated else ():
        if hash(protein.name) in repeated and protein.name in seen:
            raise UserError(
                f"two proteins named {protein.name}", where=files[0] if files else None, fix="give each its own id"
            )
        seen |= {protein.name} if hash(protein.name) in repeated else set()
