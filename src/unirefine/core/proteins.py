"""Proteins of a file that somebody else has made, a FASTA or a Parquet table, in blocks."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core import parquet
from unirefine.core.fasta import read_fasta
from unirefine.core.fasta_faults import refuse_nucleotides
from unirefine.core.smith_waterman import LONGEST
from unirefine.core.tables import string_buffers
from unirefine.errors import UserError
from unirefine.files.inputs import require_file
from unirefine.terminal import brief

BLOCK_ROWS = 1 << 15
SEQUENCE = "sequence"
ID_COLUMNS = ("id", "ur90_id", "ur50_id", "accession", "name", "entry", "header")
"""Columns of a Parquet file that may name its sequences; the first that is there does. Without one, `row 0` does."""
_MAGIC = b"PAR1"
_FIX = "give a FASTA file of proteins, or a Parquet file with a column `sequence`"


class Proteins(NamedTuple):
    """A block of n proteins."""

    names: pa.Array
    """large_string[n]."""
    sequences: pa.Array
    """large_string[n]: upper-case letters."""


def is_parquet(path: Path | str) -> bool:
    """Whether a file begins as Parquet does."""
    with Path(path).open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_proteins(path: Path | str, *, option: str) -> Iterator[Proteins]:
    """The proteins of a FASTA, in any compression that `read_fasta` takes, or of a Parquet file; in order, in blocks.

    option: the one that names the file, for messages. A `*` at the end of a sequence is dropped. Raises UserError for a
    missing or damaged file, one without sequences, with nucleotides, with an empty sequence, a character that is no
    letter, or a sequence of more than LONGEST residues; as `read_fasta` does for a FASTA.
    """
    path = Path(path)
    require_file(path, f"check {option}")
    found = False
    for block in _parquet_blocks(path) if is_parquet(path) else _fasta_blocks(path):
        found = found or len(block.names) > 0
        yield block
    if not found:
        raise UserError("no sequence in it", where=path, fix=_FIX)


def _fasta_blocks(path: Path) -> Iterator[Proteins]:
    proteins = read_fasta(path)
    while chunk := list(itertools.islice(proteins, BLOCK_ROWS)):
        names = pa.array([protein.name for protein in chunk], pa.large_string())
        sequences = pa.array([protein.sequence.upper() for protein in chunk], pa.large_string())
        _refuse_long(path, names, sequences)
        yield Proteins(names, sequences)


def _parquet_blocks(path: Path) -> Iterator[Proteins]:
    letters = np.zeros(256, np.int64)
    with parquet.File(path, "get the file again") as file:
        columns = file.schema_arrow.names
        if SEQUENCE not in columns:
            raise UserError(
                f"no column `sequence`; it has {brief(', '.join(columns), 200)}", where=path, fix="rename the column"
            )
        named = next((name for name in ID_COLUMNS if name in columns), None)
        for column in filter(None, (SEQUENCE, named)):
            kind = file.schema_arrow.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if column == SEQUENCE and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"column {column!r} is {kind}, not text", where=path, fix=_FIX)
        row = 0
        for batch in file.iter_batches(BLOCK_ROWS, columns=list(filter(None, (SEQUENCE, named)))):
            sequences = batch.column(SEQUENCE).cast(pa.large_string())
            if sequences.null_count:
                at = row + int(np.flatnonzero(sequences.is_null().to_numpy(zero_copy_only=False))[0])
                raise UserError(f"row {at} has no sequence", where=path, fix="leave such rows out")
            sequences = pc.utf8_upper(pc.utf8_rtrim(sequences, characters="*"))
            names = batch.column(named).cast(pa.large_string()) if named else _row_names(row, len(sequences))
            if names.null_count:
                names = pc.coalesce(names, _row_names(row, len(sequences)))
            letters += _checked_letters(path, sequences, row)
            _refuse_long(path, names, sequences)
            yield Proteins(names, sequences)
            row += len(sequences)
    refuse_nucleotides(letters, path, None)


def _row_names(first: int, count: int) -> pa.Array:
    return pa.array([f"row {row}" for row in range(first, first + count)], pa.large_string())


def _checked_letters(path: Path, sequences: pa.Array, first: int) -> np.ndarray:
    """How often each byte occurs in n sequences: int64[256]. first: row of the first one, for the message."""
    raw, offsets = string_buffers(sequences)
    whole = raw[offsets[0] : offsets[-1]]
    counts = np.bincount(whole, minlength=256)
    lengths = np.diff(offsets)
    if len(lengths) and not lengths.all():
        at = int(np.flatnonzero(lengths == 0)[0])
        raise UserError(f"row {first + at} has an empty sequence", where=path, fix="leave such rows out")
    if counts[:65].any() or counts[91:].any():
        at = int(np.flatnonzero((whole < 65) | (whole > 90))[0])
        row = int(np.searchsorted(offsets, offsets[0] + at, side="right")) - 1
        shown = repr(sequences[row].as_py()[:60])
        fix = "take gaps and other signs out, as in an alignment's"
        raise UserError(f"row {first + row} has a character that is no letter: {shown}", where=path, fix=fix)
    return counts


def _refuse_long(path: Path, names: pa.Array, sequences: pa.Array) -> None:
    lengths = np.diff(string_buffers(sequences)[1])
    if len(lengths) and int(lengths.max()) > LONGEST:
        at = int(lengths.argmax())
        raise UserError(
            f"{names[at].as_py()} has {lengths[at]:,} residues; at most {LONGEST:,} can be aligned",
            where=path,
            fix="leave it out; the longest natural protein known has some 45,000",
        )
