"""The records stage: one thread reads blocks, some parse them, some write, always in the same order."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from unirefine.config import Records
from unirefine.core.fasta_faults import BOM, UTF_16, refuse_nucleotides
from unirefine.core.prefetch import prefetch
from unirefine.core.release_note import ReleaseNote, read_note
from unirefine.core.removed import Removed, removed_writer
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.names import record_part
from unirefine.files.written import delete_stale
from unirefine.progress import meter
from unirefine.records import fasta, uniref_xml
from unirefine.records.columns import (
    BAD_ID,
    EMPTY,
    INVALID,
    NOT_UNIREF,
    OK,
    REASONS,
    RESIDUES,
    STATS,
    WRONG_CHECKSUM,
    WRONG_LENGTH,
    WRONG_LEVEL,
    Parsed,
)
from unirefine.records.duplicates import find_duplicates, locate_in_xml
from unirefine.records.explain import explain, explain_repeated, id_rule
from unirefine.records.parts import Parts, part_files
from unirefine.records.stream import Block, first_bytes, read_blocks

LEVEL_NAMES = {"uniref50": "UniRef50", "uniref90": "UniRef90"}
_OTHER = {"uniref50": "UniRef90", "uniref90": "UniRef50"}


@dataclass(frozen=True)
class Input:
    """What the first bytes of the input show."""

    path: Path
    level: str
    format: str
    """`xml` or `fasta`"""
    marker: bytes
    keep: int
    """Of `read_blocks`."""
    head: int
    """Bytes before the first entry: the start of the XML, or a byte order mark."""
    release: str | None
    """The release that the XML states."""
    strict: bool
    """Whether every id must have the prefix of the level: in a release, unlike your own FASTA."""
    own: bool = False
    """Whether it is a FASTA whose first id is not of UniRef."""


@dataclass(frozen=True)
class Built:
    """What the stage wrote for one level."""

    counts: dict[str, Any]
    """in, kept, removed by reason"""
    facts: dict[str, Any]
    """The rest of counts.json."""
    own: bool
    """Whether it was a FASTA whose first id is not of UniRef."""


def run(
    config: Records, level: str, source: Path, output: Path, *, release_note: Path | None = None, threads: int = 2
) -> Built:
    """Write the records of one level to `output/<level>/`: parts, removed.parquet, lineage.json, counts.json.

    release_note: must state the number of entries. Ids without a UniRef prefix are those of a custom FASTA: accepted as
    they are at level uniref90 without a release note, an error otherwise. Raises UserError, with nothing written, for
    every input that the policy does not cover.
    """
    note = read_note(release_note, level) if release_note else None
    found = inspect(source, level, strict=level != "uniref90" or note is not None)
    if note and found.release and note.release and note.release != found.release:
        raise UserError(f"release {found.release}, but its release note is of {note.release}", where=source)
    directory = output / level
    total = config.parts
    names = {
        kind: [directory / record_part(kind, part, total) for part in range(total)] for kind in ("records", "members")
    }
    tally = _Tally()
    with (
        part_files(names["records"], names["members"] if found.format == "xml" else [], max(1, threads - 1)) as parts,
        removed_writer(directory / "removed.parquet") as removed,
    ):
        _stream(config, found, parts, removed, tally, threads=threads)
        _check(config, found, note, parts, tally)
        (directory / "counts.json").unlink(missing_ok=True)  # written last: where it is, the level is complete
    counts = level_counts(tally.entries, tally.kept, removed.counts.get(level, {}))
    facts = {
        "format": found.format,
        "release": found.release or (note.release if note else None),
        "release_note_entries": note.entries if note else None,
        "bytes": tally.bytes,
        "compressed_bytes": source.stat().st_size,
        "residues": int(tally.stats[RESIDUES]),
        "members": tally.members,
        **{name: int(tally.stats[index]) for index, name in STATS.items()},
    }
    lineage.write(directory, lineage.step("records", config, counts={level: counts}))
    write_counts(directory / "counts.json", "records", {level: counts}, **facts)
    if found.own and note is None:  # it has one level: the other is of an earlier release
        delete_stale(output, "records", (), below="uniref50")
    return Built(counts, facts, found.own)


def inspect(source: Path, level: str, *, strict: bool) -> Input:
    """Detect what the input is. Raises UserError when it is empty, or neither FASTA nor UniRef XML of the level."""
    head = first_bytes(source, uniref_xml.HEAD_BYTES)
    if head.startswith(UTF_16):
        raise UserError("UTF-16 text", where=source, fix="save it as UTF-8 or ASCII")
    text = head.removeprefix(BOM)
    mark = len(head) - len(text)
    start = text.lstrip(b" \t\r\n")[:1]
    if start == b"<":
        length, release = uniref_xml.read_head(text, LEVEL_NAMES[level], source)
        return Input(source, level, "xml", b"</entry>", 0, mark + length, release, strict)
    if start == b">":
        own = re.match(rb">UniRef\d+_", text.lstrip()) is None
        found = Input(source, level, "fasta", b"\n>", 1, mark, None, strict, own)
        if not text.lstrip(b"\r\n").startswith(b">") or re.search(rb"\r[^\n]", head):
            raise _explain(found, 0)  # before a file without line feeds is read as one block
        return found
    what = f"it begins with {head[:20]!r}" if head else "an empty file"
    raise UserError(f"neither FASTA nor UniRef XML: {what}", where=source, fix="check --input")


def _explain(found: Input, begin: int, *, removable: bool = False) -> UserError:
    rule = id_rule(LEVEL_NAMES[found.level], strict=found.strict)
    return explain(found.path, begin, rule, removable=removable)


class _Tally:
    def __init__(self) -> None:
        self.entries = self.kept = self.members = self.bytes = 0
        self.stats = np.zeros(len(STATS) + 1, np.int64)
        self.letters = np.zeros(256, np.int64)


def _stream(config: Records, found: Input, parts: Parts, removed: Removed, tally: _Tally, *, threads: int) -> None:
    """Read, parse and distribute everything."""
    if found.format == "xml":
        parse = partial(_parse_xml, found=found, verify=config.verify_checksums)
    else:
        parse = partial(_parse_fasta, found=found)
    spare: deque[bytearray] = deque()
    source = read_blocks(found.path, found.marker, found.keep, spare)
    # as many parsers as threads: the threads that read and write are often waiting
    with (
        meter(f"records {found.level}", total=found.path.stat().st_size, unit="B") as progress,
        ThreadPoolExecutor(threads, "parser") as pool,
        closing(prefetch(lambda block: block, source)) as blocks,
    ):
        for block, parsed in _in_order(blocks, pool, parse, threads + 1):
            tally.entries += len(parsed.status)
            tally.bytes = block.offset + len(block.raw)
            tally.stats += parsed.stats
            if parsed.letters is not None:
                tally.letters += parsed.letters
            bad = parsed.status != OK
            if bad.any():
                parsed = _without_bad(parsed, bad, block, found, removed, config.bad_entries)
            tally.kept += parsed.records.num_rows
            tally.members += parsed.members.num_rows if parsed.members is not None else 0
            parts.add(parsed)
            spare.append(block.buffer)
            progress.advance(block.compressed - progress.done)
    parts.finish()


def _parse_fasta(block: Block, *, found: Input) -> Parsed:
    start = found.head if block.offset == 0 else 0
    return fasta.parse(block, f"{LEVEL_NAMES[found.level]}_", strict=found.strict, start=start)


def _parse_xml(block: Block, *, found: Input, verify: bool) -> Parsed:
    start = found.head if block.offset == 0 else 0
    name, other = LEVEL_NAMES[found.level], _OTHER[found.level]
    return uniref_xml.parse(block, start, name, other, verify=verify, path=found.path)


def _in_order(
    blocks: Iterator[Block], pool: ThreadPoolExecutor, parse: Callable[[Block], Parsed], ahead: int
) -> Iterator[tuple[Block, Parsed]]:
    """Parse blocks in the pool, `ahead` at a time. A UserError of the reader is raised after the blocks before it."""
    waiting: deque[tuple[Block, Future[Parsed]]] = deque()
    fault: UserError | None = None
    try:
        for block in blocks:
            waiting.append((block, pool.submit(parse, block)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
    except UserError as error:
        fault = error
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()
    if fault is not None:
        raise fault


def _without_bad(parsed: Parsed, bad: np.ndarray, block: Block, found: Input, removed: Removed, policy: str) -> Parsed:
    """Drop bad entries with their members and list them, or raise for the first that the policy does not remove."""
    ids = parsed.records.column("id")
    by_reason: dict[str, tuple[list[str], list[str]]] = {}
    for i in np.flatnonzero(bad):
        status = int(parsed.status[i])
        if policy == "error" or status not in REASONS:
            _raise_bad(parsed, int(i), block, found, policy)
        names, evidence = by_reason.setdefault(REASONS[status], ([], []))
        names.append(ids[i].as_py())
        evidence.append(f"at byte {parsed.begin[i]}: {_evidence(parsed, int(i), block)}")
    for reason, (names, evidence) in by_reason.items():
        removed.add(found.level, reason, names, evidence)
    good, members, lengths = pa.array(~bad), parsed.members, np.diff(parsed.member_end)
    if members is not None:
        members = members.filter(pa.array(np.repeat(~bad, lengths)))
    return replace(
        parsed,
        records=parsed.records.filter(good),
        members=members,
        member_end=np.concatenate([[0], np.cumsum(lengths[~bad])]),
    )


def _evidence(parsed: Parsed, i: int, block: Block) -> str:
    status, (first, second) = int(parsed.status[i]), parsed.detail[i]
    if status == EMPTY:
        return "empty sequence"
    if status == INVALID:
        shown = f"{chr(int(second))!r}" if 32 < second < 127 else f"byte 0x{int(second):02X}"
        return f"{shown} in the sequence, at byte {block.offset + int(first)}"
    if status == WRONG_LENGTH:
        return f"declared length {first}, found {second}"
    assert status == WRONG_CHECKSUM, status
    return f"declared CRC64 {int(first):016X}, computed {int(second):016X}"


def _raise_bad(parsed: Parsed, i: int, block: Block, found: Input, policy: str) -> NoReturn:
    status, begin = int(parsed.status[i]), int(parsed.begin[i])
    if found.format == "fasta":
        raise _explain(found, begin, removable=policy == "remove")
    where = f"at byte {begin:,} (decompressed)"
    if status in REASONS:
        name = parsed.records.column("id")[i].as_py()
        fix = "fetch the file again, or set records.bad_entries: remove to drop such entries and list them"
        raise UserError(f"{name} {where}: {_evidence(parsed, i, block)}", where=found.path, fix=fix)
    raw = block.raw[begin - block.offset :][:200].tobytes()
    text = raw.split(b"\n")[0].decode("latin-1")
    given = re.match(r'<entry[^>]*?\sid\s*=\s*["\']([^"\']*)', text)
    name = given[1] if given else text
    expected = LEVEL_NAMES[found.level]
    if status == WRONG_LEVEL:
        raise UserError(f"{name} {where} in {found.level} input", where=found.path, fix="give the file of this --level")
    if status == NOT_UNIREF:
        raise UserError(f"{name!r} {where} does not begin with {expected}_", where=found.path, fix="give UniRef XML")
    assert status == BAD_ID, status
    raise UserError(f"no usable id {where}: {text[:60]!r}", where=found.path, fix="ids are visible ASCII letters")


def _check(config: Records, found: Input, note: ReleaseNote | None, parts: Parts, tally: _Tally) -> None:
    """Checks of the whole input: how many entries, that they are proteins, and that no id occurs twice."""
    if tally.entries == 0:
        raise UserError("no entries", where=found.path, fix="check --input")
    if tally.kept == 0:
        what = f"no entry is left: records.bad_entries: remove would leave out all {tally.entries:,}"
        raise UserError(what, where=found.path, fix="see what is wrong with records.bad_entries: error")
    if note and note.entries != tally.entries:
        raise UserError(
            f"{tally.entries:,} entries, but the release note states {note.entries:,}",
            where=found.path,
            fix="the file or the note is of another release, or the download is incomplete; fetch both again",
        )
    if not found.strict and not config.allow_nucleotides:
        refuse_nucleotides(tally.letters, found.path, "records.allow_nucleotides")
    ids = find_duplicates(parts.paths, tally.kept)
    if ids and found.format == "fasta":
        raise explain_repeated(found.path, ids)
    if ids:
        what = "duplicate id" if len(set(ids)) == 1 else "ids with the same key"
        entries = " and ".join(f"{name} at byte {offset:,}" for name, offset in locate_in_xml(found.path, ids))
        raise UserError(f"{what}: {entries} (decompressed)", where=found.path, fix="keep one of them")
