"""What is wrong with a FASTA, told to the person who wrote it: with line numbers, and what to do.

All readers share these checks. The compiled reader of the records stage only finds that an entry is bad; what is said
about it comes from here.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unirefine.errors import UserError
from unirefine.terminal import brief

LIMIT = 20
"""Faults that are reported together."""
BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, with which some editors begin a file."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""With which UTF-16 text begins."""
OTHER_COMPRESSIONS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"\x04\x22\x4d\x18": "lz4",
}
"""First bytes of compressed files. The first four are read (core.compressed), but not one inside another."""
UNPACK = "give it plain, or compressed once with gzip, bzip2, xz or zstd"
_LONE_RETURN = re.compile(rb"\r(?!\n)")
_NAME = re.compile(rb"\S*")
_GAPS = b"-.~_"
_SHOWN = 60
_MIN_RESIDUES = 30
_NUCLEOTIDES, _BASES = b"ACGTUN", (b"A", b"C", b"G", b"TU")


class RawEntry(NamedTuple):
    """An entry as it is in the file."""

    header: bytes | None
    """The header line behind `>`; None for lines before the first header."""
    lines: list[bytes]
    """The lines after it, without line ends (LF or CRLF)."""
    line: int
    """Number of the header's line, from 1; of the first line where there is no header."""

    @property
    def name(self) -> bytes:
        """The header up to the first white space."""
        return _NAME.match(self.header or b"")[0]  # type: ignore[index]


class Fault(NamedTuple):
    """One mistake in a FASTA."""

    line: int
    name: str
    """The id of its entry; may be empty."""
    what: str
    fix: str
    in_sequence: bool = False
    """Whether the sequence alone is wrong, so that the entry can be left out."""
    earlier: int = 0
    """Of an id that is there twice, the line of the first one."""


CheckId = Callable[[bytes], tuple[str, str] | None]
"""A rule for ids: (what is wrong, what to do), or None."""


def raw_entries(lines: Iterable[bytes], first: int = 1) -> Iterator[RawEntry]:
    """The entries in the lines of a file. first: number of the first one. A byte order mark in line 1 is dropped."""
    header: bytes | None = None
    sequence: list[bytes] = []
    start = first
    for number, line in enumerate(lines, first):
        if number == 1:
            line = line.removeprefix(BOM)
        if line.endswith(b"\n"):
            line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if line.startswith(b">"):
            if header is not None or any(sequence):
                yield RawEntry(header, sequence, start)
            header, sequence, start = line[1:], [], number
        else:
            sequence.append(line)
    if header is not None or any(sequence):
        yield RawEntry(header, sequence, start)


def check(entry: RawEntry, check_id: CheckId, *, inner_stops: bool) -> Fault | None:
    """The first fault of an entry. inner_stops: whether `*` may stand inside a sequence."""
    whole = b"".join(entry.lines)
    if whole.isalpha() and entry.name and b"\r" not in (entry.header or b"") and not check_id(entry.name):
        return None
    return _lines_fault(entry, whole) or _header_fault(entry, check_id) or _sequence_fault(entry, whole, inner_stops)


def _lines_fault(entry: RawEntry, whole: bytes) -> Fault | None:
    """A fault that hides other entries in this one: a missing line end."""
    header = entry.header or b""
    if b"\r" in header or b"\r" in whole:
        what = "a carriage return without a line feed, the line end of old Macs"
        number = entry.line if b"\r" in header else _line_of(entry, b"\r")
        return _fault(entry, number, what, "convert the line ends, for instance with mac2unix")
    if b">" in whole:
        number = _line_of(entry, b">")
        line = next(line for line in entry.lines if b">" in line)
        if line.startswith(BOM):
            return _fault(entry, number, "a byte order mark before `>`", "remove the mark")
        if line.lstrip().startswith(b">"):
            return _fault(entry, number, "white space before `>`", "remove it")
        return _fault(entry, number, "`>` inside a line", "begin a new line before it")
    if entry.header is None:
        what = "text before the first header" if whole.strip() else "white space before the first header"
        return _fault(entry, entry.line, what, "begin with a line that starts with `>`")
    return None


def _header_fault(entry: RawEntry, check_id: CheckId) -> Fault | None:
    header = entry.header or b""
    if header[:1].isspace() and header.strip():
        shown = header.decode("utf-8", "replace").strip()
        fault = "a space after `>`", "remove it: the id follows `>` at once"
        return Fault(entry.line, _shown(shown), *fault)
    if not entry.name:
        return Fault(entry.line, "", "a header without an id", "put an id after `>`")
    wrong = check_id(entry.name)
    return None if wrong is None else _fault(entry, entry.line, *wrong)


def _sequence_fault(entry: RawEntry, whole: bytes, inner_stops: bool) -> Fault | None:
    sequence = whole.rstrip(b"*")
    if not sequence:
        what, fix = "an entry without residues", "complete it, or remove it"
        return _fault(entry, entry.line, what, fix, in_sequence=True)
    allowed = rb"[^A-Za-z*]" if inner_stops else rb"[^A-Za-z]"
    wrong = re.search(allowed, sequence)
    if wrong is None:
        return None
    what, fix = _letter_fault(wrong[0], last=wrong.end() == len(sequence))
    return _fault(entry, _line_of(entry, wrong[0]), what, fix, in_sequence=True)


def _letter_fault(byte: bytes, *, last: bool) -> tuple[str, str]:
    """(what, fix) for a byte that is no residue. last: whether it ends the sequence."""
    if byte in (b" ", b"\t"):
        return "a space in a sequence", "remove the spaces, also those at the ends of lines"
    shown = f"`{byte.decode()}`" if 32 < byte[0] < 127 else f"byte 0x{byte[0]:02X}"
    if byte in _GAPS:
        if last and byte in b"._":
            return f"{shown} at the end of a sequence", "remove it, or write a stop codon as `*`"
        return f"{shown} in a sequence", "remove the gaps of the alignment"
    if byte == b"*":
        return "`*` inside a sequence", "cut the sequence there, or remove the entry"
    if byte.isdigit():
        return "a number in a sequence", "remove the numbers: only letters are residues"
    return f"{shown} in a sequence", "remove it: only letters are residues"


def _line_of(entry: RawEntry, byte: bytes) -> int:
    """Number of the first line behind the header that has a byte."""
    first = entry.line if entry.header is None else entry.line + 1
    return next(number for number, line in enumerate(entry.lines, first) if byte in line)


def _fault(entry: RawEntry, line: int, what: str, fix: str, *, in_sequence: bool = False) -> Fault:
    return Fault(line, _shown(entry.name.decode("utf-8", "replace")), what, fix, in_sequence)


def _shown(text: str) -> str:
    return brief(text, _SHOWN)


def repeated_ids(
    found: Iterable[tuple[str, str, int]], same: Callable[[str], Hashable] = lambda name: name
) -> list[Fault]:
    """A fault for each repeated id. found: (id, header, line) of all entries that have one of these ids.

    same: what is equal for ids that cannot be told apart.
    """
    first: dict[Hashable, tuple[str, str, int]] = {}
    faults: list[Fault] = []
    for name, header, line in found:
        known, before, earlier = first.setdefault(same(name), (name, header, line))
        if earlier == line:
            continue
        shown = _shown(name)
        if known != name:
            shown = f"{_shown(known)} and {shown}"
            what, fix = "ids that cannot be told apart", "rename one of them"
        elif header.split() != before.split():
            what = "ids that are there twice, because an id ends at the first space"
            fix = f"join the words, as in {_shown('_'.join(header.split()[:2]))}"
        else:
            what, fix = "ids that are there twice", "keep one entry of each, or rename the others"
        faults.append(Fault(line, shown, what, fix, earlier=earlier))
        if len(faults) == LIMIT:
            break
    return faults


def as_error(faults: Sequence[Fault], path: object) -> UserError:
    """All faults in one line: those of one kind together, each with its entry and line."""
    groups: dict[str, list[str]] = {}
    fixes: dict[str, str] = {}
    for fault in faults[:LIMIT]:
        place = f"lines {fault.earlier} and {fault.line}" if fault.earlier else f"line {fault.line}"
        groups.setdefault(fault.what, []).append(f"{fault.name} ({place})" if fault.name else place)
        fixes.setdefault(fault.what, fault.fix)
    text = "; ".join(f"{what}: {', '.join(places)}; {fixes[what]}" for what, places in groups.items())
    if len(faults) >= LIMIT:
        text = f"the first {LIMIT} faults: {text}"
    elif len(faults) > 1:
        text = f"{len(faults)} faults: {text}"
    return UserError(text, where=f"{path}:{faults[0].line}")


def refuse_nucleotides(letters: np.ndarray, path: object, option: str | None) -> None:
    """Raises UserError when a file has nucleotides for sequences.

    letters: int64[256], how often each byte occurs in all of its sequences. option: the one that allows nucleotides.
    Nucleotides are at least 95% A, C, G, T, U or N, with all four bases among them; natural proteins never are.
    """
    letters = letters.copy()
    letters[65:91] += letters[97:123]
    total = int(letters[65:91].sum())
    bases = [int(letters[list(base)].sum()) for base in _BASES]
    share = int(letters[list(_NUCLEOTIDES)].sum()) / max(total, 1)
    if total >= _MIN_RESIDUES and share >= 0.95 and min(bases) >= 0.01 * total:
        raise UserError(
            f"nucleotides, not proteins: {share:.1%} of all letters are A, C, G, T, U or N",
            where=path,
            fix="translate the sequences first" + (f", or set {option}: true" if option else ""),
        )
