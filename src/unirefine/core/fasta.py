"""FASTA: a user's file read strictly, with one line for every mistake, and our own written in bulk."""

import gzip
import io
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
_NOT_RESIDUES = re.compile(rb"[^A-Za-z]")


class Protein(NamedTuple):
    """One sequence of a FASTA."""

    name: str
    """The header up to the first white space, without `>`."""
    sequence: str
    """Residue letters as they are in the file (either case)."""


def read_fasta(path: Path | str) -> Iterator[Protein]:
    """The proteins of a plain or gzipped FASTA, in file order, streaming.

    A `*` at the end of a sequence (a translated stop codon) is dropped. Raises UserError for what is no FASTA, a
    header without a name, an empty sequence, a character that is no letter, and a file without a sequence.
    """
    path = Path(path)
    found = 0
    try:
        with _open(path) as handle:
            for name, sequence, line in _records(handle, path):
                found += 1
                yield Protein(name, _checked(sequence, name, path, line))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"damaged gzip file ({error})", where=path, fix="copy or download it again") from None
    if not found:
        raise UserError("no sequence in it", where=path, fix="give a FASTA file of proteins")


def _open(path: Path) -> io.BufferedIOBase:
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="check --fasta") from None
    except IsADirectoryError:
        raise UserError("a directory, not a FASTA file", where=path, fix="check --fasta") from None
    if handle.peek(2)[:2] == GZIP_MAGIC:
        return gzip.GzipFile(fileobj=handle)
    return handle


def _records(handle: io.BufferedIOBase, path: Path) -> Iterator[tuple[str, list[bytes], int]]:
    """(name, lines of the sequence, line number of the header)."""
    name: str | None = None
    lines: list[bytes] = []
    start = 0
    for number, raw in enumerate(handle, 1):
        line = raw.strip()
        if line.startswith(b">"):
            if name is not None:
                yield name, lines, start
            words = line[1:].split(None, 1)
            if not words:
                raise UserError("a header without a name", where=f"{path}:{number}", fix="put an id after `>`")
            name, lines, start = words[0].decode("utf-8", "replace"), [], number
        elif line:
            if name is None:
                raise UserError(
                    "not a FASTA: the first line does not start with `>`",
                    where=path,
                    fix="give a FASTA file of proteins",
                )
            lines.append(line)
    if name is not None:
        yield name, lines, start


def _checked(lines: list[bytes], name: str, path: Path, header: int) -> str:
    sequence = b"".join(lines).removesuffix(b"*")
    if not sequence:
        raise UserError(f"{name} has no residues", where=f"{path}:{header}", fix="remove it, or complete the file")
    if (wrong := _NOT_RESIDUES.search(sequence)) is not None:
        character = wrong[0].decode("latin-1")
        hint = "remove the gaps of the alignment" if character in "-." else "only letters are residues"
        raise UserError(f"{name} has {character!r} at residue {wrong.start() + 1}", where=f"{path}:{header}", fix=hint)
    return sequence.decode("ascii")


def write_fasta(file: BinaryIO, names: pa.Array, sequences: pa.Array) -> None:
    """Append n records of two lines each: `>name` and the whole sequence.

    names, sequences: string[n] or large_string[n].
    """
    text = pa.large_string()  # whose offsets do not overflow
    start, newline, nothing = (pa.scalar(word, text) for word in (">", "\n", ""))
    records = pc.binary_join_element_wise(start, names.cast(text), newline, sequences.cast(text), newline, nothing)
    raw, offsets = string_buffers(records)
    file.write(raw[: offsets[-1]])
