"""The proteins to embed: of a FASTA, a Parquet file or the validation shard, in order."""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.alphabet import decode
from unirefine.core.fasta import Protein, read_fasta
from unirefine.core.fasta_faults import RawEntry, check, refuse_nucleotides
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.files.inputs import require_file

_OPTION = "embed.allow_nucleotides"


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


def from_fasta(path: Path, *, allow_nucleotides: bool = False) -> Source:
    """The proteins of a FASTA. Reads the whole file; raises UserError for a mistake anywhere in it."""
    return _counted(lambda: read_fasta(path, allow_nucleotides=allow_nucleotides, option=_OPTION), path)


def from_parquet(path: Path, *, allow_nucleotides: bool = False) -> Source:
    """The proteins of a Parquet file with columns `id` and `sequence`, like record parts.

    Reads the whole file; raises UserError for the mistakes that `read_fasta` refuses.
    """
    require_file(path, "check --parquet", "Parquet file")
    fix = "give a Parquet file with text columns id and sequence"

    def proteins() -> Iterator[Protein]:
        row, names, letters = 0, array("q"), np.zeros(256, np.int64)
        with parquet.File(path, fix) as file:
            for name in ("id", "sequence"):
                if name not in file.schema_arrow.names:
                    raise UserError(f"no column {name!r}", where=path, fix=fix)
                if not _is_text(kind := file.schema_arrow.field(name).type):
                    raise UserError(f"column {name!r} is {kind}, not text", where=path, fix=fix)
            for batch in file.iter_batches(4096, columns=["id", "sequence"]):
                for name, sequence in zip(*(batch[column].to_pylist() for column in ("id", "sequence")), strict=True):
                    row += 1
                    protein = _checked(name, sequence, path, row)
                    names.append(hash(protein.name))
                    letters += np.bincount(np.frombuffer(protein.sequence.encode(), np.uint8), minlength=256)
                    yield protein
        if not allow_nucleotides:
            refuse_nucleotides(letters, path, _OPTION)
        _refuse_repeated(path, fix, np.array(names))

    return _counted(proteins, path)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _checked(name: str | None, sequence: str | None, path: Path, row: int) -> Protein:
    """One protein. Raises UserError for what `read_fasta` refuses."""
    where = f"{path}, row {row}"
    if not name:
        raise UserError("no id", where=where, fix="give each protein an id")
    entry = RawEntry(name.encode(), [(sequence or "").encode()], row)
    if (fault := check(entry, lambda _name: None, inner_stops=False)) is not None:
        raise UserError(f"{fault.name}: {fault.what}", where=where, fix=fault.fix)
    return Protein(name, (sequence or "").rstrip("*"))


def _refuse_repeated(path: Path, fix: str, hashes: np.ndarray) -> None:
    """Raises UserError when an id of a Parquet file is there twice. hashes: int64[n], of all ids."""
    distinct, counts = np.unique(hashes, return_counts=True)
    repeated, first = set(distinct[counts > 1].tolist()), dict[str, int]()
    if not repeated:
        return
    with parquet.File(path, fix) as file:
        names = (name for batch in file.iter_batches(4096, columns=["id"]) for name in batch["id"].to_pylist())
        for row, name in enumerate(names, 1):
            if hash(name) in repeated and first.setdefault(name, row) != row:
                raise UserError(
                    f"{name} is there twice, in rows {first[name]} and {row}", where=path, fix="give each its own id"
                )


def from_shards(directory: Path, sequences: int) -> Source:
    """The first `sequences` proteins of the validation shard, whose order is random."""
    side = open_shards(directory).validation

    def proteins() -> Iterator[Protein]:
        for number in range(min(sequences, side.sequences)):
            yield Protein(side.ids(number)[0], decode(side.tokens(number)))

    return _counted(proteins)


def _counted(proteins: Callable[[], Iterator[Protein]], *files: Path) -> Source:
    digest, lengths = hashlib.sha256(), array("i")
    for protein in proteins():
        digest.update(f">{protein.name}\n{protein.sequence}\n".encode())
        lengths.append(len(protein.sequence))
    if not lengths:
        raise UserError("nothing to embed", fix="give a file with at least one sequence")
    return Source(proteins, np.array(lengths, np.int32), digest.hexdigest(), files)
