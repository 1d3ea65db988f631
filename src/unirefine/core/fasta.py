"""FASTA: files read strictly, with one line for every mistake, and our own written in bulk.

For whole levels of UniRef, records has a reader of its own that parses blocks in compiled code.
"""

import contextlib
import io
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.compressed import DAMAGE, damage, decompressed
from unirefine.core.fasta_faults import (
    BOM,
    LIMIT,
    OTHER_COMPRESSIONS,
    UNPACK,
    UTF_16,
    Fault,
    RawEntry,
    as_error,
    check,
    raw_entries,
    refuse_nucleotides,
    repeated_ids,
)
from unirefine.core.tables import string_buffers
from unirefine.errors import UserError
from unirefine.files.inputs import require_file

GZIP_MAGIC = b"\x1f\x8b"


class Entry(NamedTuple):
    """One entry of a FASTA as it is in the file."""

    header: str
    """The header line without `>` and without white space around it."""
    sequence: str
    """The lines of the sequence joined, without white space at their ends; any characters."""
    line: int
    """Line number of the header, from 1."""


class Protein(NamedTuple):
    """One sequence of a FASTA."""

    name: str
    """The header up to the first white space, without `>`."""
    sequence: str
    """Residue letters as they are in the file (either case)."""


def read_fasta(path: Path | str, *, allow_nucleotides: bool = False, option: str | None = None) -> Iterator[Protein]:
    """The proteins of a FASTA (plain or compressed, see core.compressed), in file order, streaming.

    option: the name under which a user can set `allow_nucleotides`, for the message.

    `*` at the end of a sequence (a translated stop codon) is dropped. Raises UserError as `read_entries` does. After
    the first mistake in an entry no more proteins are yielded, the next mistakes are sought, and all are raised in one
    line; repeated ids, and nucleotides for proteins, are found at the end. Memory: 8 bytes an entry.
    """
    path, faults, names = Path(path), list[Fault](), array("q")
    letters = np.zeros(256, np.int64)
    for entry in _read(path):
        if (fault := check(entry, _id_fault, inner_stops=False)) is not None:
            faults.append(fault)
            if len(faults) == LIMIT:
                break
        elif not faults:
            sequence = b"".join(entry.lines).rstrip(b"*")
            letters += np.bincount(np.frombuffer(sequence, np.uint8), minlength=256)
            name = entry.name.decode()
            names.append(hash(name))
            yield Protein(name, sequence.decode("ascii"))
    if faults:
        raise as_error(faults, path)
    if not allow_nucleotides:
        refuse_nucleotides(letters, path, option)
    _refuse_repeated(path, np.array(names))


def _id_fault(name: bytes) -> tuple[str, str] | None:
    try:
        name.decode()
    except UnicodeDecodeError:
        return "an id that is not UTF-8", "save the file as UTF-8, or use ASCII letters"
    return None


def _refuse_repeated(path: Path, hashes: np.ndarray) -> None:
    """Raises UserError when an id is there twice. hashes: int64[n], of all ids."""
    distinct, counts = np.unique(hashes, return_counts=True)
    if (counts == 1).all():
        return
    repeated = set(distinct[counts > 1].tolist())
    names = (
        (entry.name.decode(), (entry.header or b"").decode("utf-8", "replace"), entry.line) for entry in _read(path)
    )
    if faults := repeated_ids(found for found in names if hash(found[0]) in repeated):
        raise as_error(faults, path)


def read_entries(path: Path | str) -> Iterator[Entry]:
    """The entries of a FASTA (plain or compressed), in file order, streaming, with any sequence.

    Raises UserError for a missing file, a damaged compressed file, a file that is not FASTA, or one without entries.
    """
    for entry in _read(Path(path)):
        sequence = b"".join(line.strip() for line in entry.lines).decode("latin-1")
        yield Entry((entry.header or b"").strip().decode("utf-8", "replace"), sequence, entry.line)


def _read(path: Path) -> Iterator[RawEntry]:
    """The entries of a file whose first line is a header."""
    require_file(path, "check --fasta")
    found = False
    try:
        with _open(path) as (handle, head):
            only_returns = b"\r" in head and b"\n" not in head  # one line, which could be the whole file
            for entry in raw_entries([head] if only_returns else handle):
                found = True
                yield entry
    except DAMAGE as error:
        if damage(error) is None:
            raise
        raise UserError(f"damaged compressed file ({error})", where=path, fix="copy or download it again") from None
    if not found:
        raise UserError("no sequence in it", where=path, fix="give a FASTA file of proteins")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[io.BufferedIOBase, bytes]]:
    """The decompressed file and its first bytes. Raises UserError when these are not of a FASTA."""
    with path.open("rb") as file:
        stream, _compression = decompressed(file)
        head = stream.peek(io.DEFAULT_BUFFER_SIZE)
        text = head.removeprefix(BOM).lstrip()
        for start, name in OTHER_COMPRESSIONS.items():
            if head.startswith(start):
                raise UserError(f"compressed with {name}", where=path, fix=UNPACK)
        if head.startswith(UTF_16):
            raise UserError("UTF-16 text", where=path, fix="save it as UTF-8 or ASCII")
        if text and not text.startswith(b">"):
            fix = "give a FASTA file of proteins"
            raise UserError("not a FASTA: the first line does not start with `>`", where=path, fix=fix)
        yield stream, head


def write_fasta(file: BinaryIO, names: pa.Array, sequences: pa.Array) -> None:
    """Append n records of two lines each: `>name` and the whole sequence.

    names, sequences: string[n] or large_string[n].
    """
    text = pa.large_string()  # whose offsets do not overflow
    start, newline, nothing = (pa.scalar(word, text) for word in (">", "\n", ""))
    records = pc.binary_join_element_wise(start, names.cast(text), newline, sequences.cast(text), newline, nothing)
    raw, offsets = string_buffers(records)
    file.write(raw[: offsets[-1]])
