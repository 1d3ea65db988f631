"""Say what is wrong with a FASTA: the compiled reader finds where, a second reading finds the lines and the words."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from unirefine.core.compressed import DAMAGE
from unirefine.core.fasta_faults import LIMIT, CheckId, Fault, as_error, check, raw_entries, repeated_ids
from unirefine.core.ids import key_of
from unirefine.errors import UserError
from unirefine.records.stream import open_stream, read_blocks

_CHUNK = 1 << 22
_UNIREF = re.compile(rb"(UniRef\d+)_(.*)", re.DOTALL)
_PREFIX = re.compile(r"^UniRef\d+_")
_REMOVE = "or set records.bad_entries: remove to leave such entries out"


def id_rule(expected: str, *, strict: bool) -> CheckId:
    """The rule for ids of a level: as the compiled reader has it (`columns.id_status`).

    expected: as in `UniRef50`. strict: whether every id must begin with it.
    """

    def rule(name: bytes) -> tuple[str, str] | None:
        if not name.isascii() or not name.decode("ascii").isprintable():
            return "an id with other characters than visible ASCII letters", "rename it"
        match = _UNIREF.fullmatch(name)
        if match is None:
            if not strict:
                return None
            fix = "your own FASTA is for --level uniref90, without --release-note"
            return f"an id that does not begin with {expected}_", fix
        if (found := match[1].decode()) == "UniRef100":
            fix = "there is no such level here; to read them as your own FASTA, cut the prefix: sed 's/^>UniRef100_/>/'"
            return "UniRef100 ids", fix
        if found != expected:
            fix = "give the file of this --level"
            if expected == "UniRef90":  # a user's own FASTA is read at this level
                fix += f"; to read them as your own FASTA, cut the prefix: sed 's/^>{found}_/>/'"
            return f"{found} ids in {expected.lower()} input", fix
        return None if match[2] else (f"no id after {expected}_", "complete it, or remove the entry")

    return rule


def explain(path: Path, begin: int, rule: CheckId, *, removable: bool) -> UserError:
    """The faults of a FASTA from byte `begin` of the decompressed stream on, where an entry begins, in one line.

    removable: whether the policy leaves out entries whose sequence alone is wrong: these are not named then.
    """
    faults: list[Fault] = []
    file, stream, _compression = open_stream(path)
    with file, stream, contextlib.suppress(*DAMAGE):
        line, left = 1, begin
        while left and (chunk := stream.read(min(left, _CHUNK))):
            line += chunk.count(b"\n")
            left -= len(chunk)
        lines = stream if stream is not file else io.BufferedReader(file, _CHUNK)
        for entry in raw_entries(lines, line):
            fault = check(entry, rule, inner_stops=True)
            if fault is not None and not (removable and fault.in_sequence):
                faults.append(fault)
            if len(faults) == LIMIT:
                break
    assert faults, f"{path}: the two readers disagree about the entry at byte {begin}"
    error = as_error(faults, path)
    if any(fault.in_sequence for fault in faults):
        error = UserError(error.what, where=error.where, fix=_REMOVE)
    return error


def explain_repeated(paths: Sequence[Path], ids: list[str]) -> UserError:
    """The entries of a FASTA that have one of these ids, in one line; of several, where each is. Reads them again."""
    if len(paths) > 1:
        places: dict[str, list[str]] = {}
        for path in paths:
            for name, _header, line in _entries_with(path, ids):
                places.setdefault(name, []).append(f"{path.name} line {line:,}")
        listed = "; ".join(f"{name} ({' and '.join(found[:2])})" for name, found in sorted(places.items())[:3])
        return UserError(f"ids that are there twice: {listed}", where=paths[0], fix="an entry is on one side; keep one")
    path = paths[0]
    faults = repeated_ids(_entries_with(path, ids), lambda name: key_of(_PREFIX.sub("", name)))
    assert faults, f"{path}: no id is there twice"
    return as_error(faults, path)


def _entries_with(path: Path, ids: list[str]) -> Iterator[tuple[str, str, int]]:
    """(id, header, line) of each entry with one of the ids."""
    names = b"|".join(re.escape(name.encode()) for name in sorted(set(ids)))
    pattern = re.compile(rb"^(?:\xef\xbb\xbf)?>((%s)(?:[ \t][^\n]*|(?=\r?$)))" % names, re.MULTILINE)
    line = 1
    for block in read_blocks(path, b"\n>", 1):
        raw = block.raw.tobytes()
        at = 0
        for match in pattern.finditer(raw):
            line += raw.count(b"\n", at, match.start())
            at = match.start()
            yield match[2].decode(), match[1].decode("utf-8", "replace"), line
        line += raw.count(b"\n", at)
