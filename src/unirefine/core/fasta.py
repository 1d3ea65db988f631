"""FASTA: files read strictly, with one line for every mistake, and our own written in bulk.

For whole levels of UniRef, records has a reader of its own that parses blocks in compiled code.
"""

import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.tables import string_buffers
from unirefine.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
XZ_MAGIC = b"\xfd7zXZ"
_SPACE = re.compile(r"\s", re.ASCII)
_NOT_RESIDUES = re.compile(r"[^A-Za-z]")


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


def read_fasta(path: Path | str) -> Iterator[Protein]:
    """The proteins of a FASTA (plain, gzip or xz), in file order, streaming.

    A `*` at the end of a sequence (a translated stop codon) is dropped. Raises UserError as `read_entries` does, and
    for a header without a name, an empty sequence, or a character that is not a letter.
    """
    for header, sequence, line in read_entries(path):
        name = _SPACE.split(header, 1)[0]
        if not name:
            raise UserError("a header without a name", where=f"{path}:{line}", fix="put an id after `>`")
        yield Protein(name, _checked(sequence.removesuffix("*"), name, path, line))


def read_entries(path: Path | str) -> Iterator[Entry]:
    """The entries of a FASTA (plain, gzip or xz), in file order, streaming, with any sequence.

    Raises UserError for a missing file, a damaged compressed file, a file that is not FASTA, or one without entries.
    """
    path, found = Path(path), False
    try:
        with _open(path) as handle:
            for entry in _entries(handle, path):
                found = True
                yield entry
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise UserError(f"damaged compressed file ({error})", where=path, fix="copy or download it again") from None
    if not found:
        raise UserError("no sequence in it", where=path, fix="give a FASTA file of proteins")


def _open(path: Path) -> io.BufferedIOBase:
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="check --fasta") from None
    except IsADirectoryError:
        raise UserError("a directory, not a FASTA file", where=path, fix="check --fasta") from None
    magic = handle.peek(6)
    if magic.startswith(GZIP_MAGIC):
        return gzip.GzipFile(fileobj=handle)
    return lzma.LZMAFile(handle) if magic.startswith(XZ_MAGIC) else handle


def _entries(handle: io.BufferedIOBase, path: Path) -> Iterator[Entry]:
    header: str | None = None
    lines: list[bytes] = []
    start = 0
    for number, raw in enumerate(handle, 1):
        line = raw.strip()
        if line.startswith(b">"):
            if header is not None:
                yield Entry(header, b"".join(lines).decode("latin-1"), start)
            header, lines, start = line[1:].strip().decode("utf-8", "replace"), [], number
        elif line:
            if header is None:
                raise UserError(
                    "not a FASTA: the first line does not start with `>`",
                    where=path,
                    fix="give a FASTA file of proteins",
                )
            lines.append(line)
    if header is not None:
        yield Entry(header, b"".join(lines).decode("latin-1"), start)


def _checked(sequence: str, name: str, path: Path | str, line: int) -> str:
    """The sequence. Raises UserError when it is empty or has a character that is not a letter."""
    if not sequence:
        raise UserError(f"{name} has no residues", where=f"{path}:{line}", fix="remove it, or complete the file")
    if (wrong := _NOT_RESIDUES.search(sequence)) is not None:
        hint = "remove the gaps of the alignment" if wrong[0] in "-." else "only letters are residues"
        what = f"{name} has {wrong[0]!r} at residue {wrong.start() + 1}"
        raise UserError(what, where=f"{path}:{line}", fix=hint)
    return sequence


def write_fasta(file: BinaryIO, names: pa.Array, sequences: pa.Array) -> None:
    """Append n records of two lines each: `>name` and the whole sequence.

    names, sequences: string[n] or large_string[n].
    """
    text = pa.large_string()  # whose offsets do not overflow
    start, newline, nothing = (pa.scalar(word, text) for word in (">", "\n", ""))
    records = pc.binary_join_element_wise(start, names.cast(text), newline, sequences.cast(text), newline, nothing)
    raw, offsets = string_buffers(records)
    file.write(raw[: offsets[-1]])
