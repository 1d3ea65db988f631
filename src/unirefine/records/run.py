"""The records stage: one thread reads blocks, some parse them, some write, always in the same order."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from unirefine.config import Records
from unirefine.core.fasta_faults import BOM, UTF_16, refuse_nucleotides
from unirefine.core.levels import SIDES, TRAIN
from unirefine.core.prefetch import prefetch
from unirefine.core.release_note import ReleaseNote, read_note
from unirefine.core.removed import Removed, removed_writer
from unirefine.core.tables import numbers
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.names import record_part
from unirefine.files.written import delete_stale
from unirefine.progress import meter
from unirefine.records import dataset, fasta, uniref_xml, xml_document
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
    with_side,
)
from unirefine.records.duplicates import find_duplicates, locate_in_xml
from unirefine.records.explain import explain, explain_repeated, id_rule
from unirefine.records.parts import Parts, part_files
from unirefine.records.sides import Sides
from unirefine.records.stream import Block, first_bytes, read_blocks
from unirefine.records.tally import Tally, in_order, without_bad

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
    side: int | None = None
    """The side of a split that all its entries are on."""


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
    config: Records,
    level: str,
    source: Path,
    output: Path,
    *,
    release_note: Path | None = None,
    held_out: Mapping[int, Path] | None = None,
    sides: Path | None = None,
    threads: int = 2,
) -> Built:
    """Write the records of one level to `output/<level>/`: parts, removed.parquet, lineage.json, counts.json.

    source: a FASTA, UniRef XML, or the directory of a data set (records.dataset). release_note: must state the number
    of entries. Ids without a UniRef prefix are those of a custom FASTA: accepted as they are at level uniref90 without
    a release note, an error otherwise. A FASTA may have a split: further ones in held_out, by side, or a table of ids
    and sides. Raises UserError, with nothing written, for every input that the policy does not cover.
    """
    note = read_note(release_note, level) if release_note else None
    if source.is_dir():
        found = Input(source, level, dataset.kind_of(source), b"", 0, 0, None, strict=False)
        size = dataset.size_of(source)
    else:
        found = inspect(source, level, strict=level != "uniref90" or note is not None)
        size = source.stat().st_size
    if note and found.release and note.release and note.release != found.release:
        raise UserError(f"release {found.release}, but its release note is of {note.release}", where=source)
    inputs = _inputs(found, held_out or {}, sides)
    size += sum(one.path.stat().st_size for one in inputs[1:])
    directory = output / level
    with_members = found.format == "xml" or (source.is_dir() and level == "uniref90")
    total = config.parts
    names = {
        kind: [directory / record_part(kind, part, total) for part in range(total)] for kind in ("records", "members")
    }
    tally = Tally()
    with (
        part_files(names["records"], names["members"] if with_members else [], max(1, threads - 1)) as parts,
        removed_writer(directory / "removed.parquet") as removed,
    ):
        if source.is_dir():
            given = dataset.stream(config, level, source, parts, removed, tally, threads=threads)
        else:
            given = _stream(config, inputs, parts, removed, tally, Sides(sides) if sides else None, threads=threads)
            _check(config, inputs, note, parts, tally)
        (directory / "counts.json").unlink(missing_ok=True)  # written last: where it is, the level is complete
    counts = level_counts(tally.entries, tally.kept, removed.counts.get(level, {}))
    facts = {
        "format": found.format,
        "release": found.release or (note.release if note else None),
        "release_note_entries": note.entries if note else None,
        "bytes": tally.bytes or size,
        "compressed_bytes": size,
        "residues": int(tally.stats[RESIDUES]),
        "members": tally.members,
        **{name: int(tally.stats[index]) for index, name in STATS.items()},
        **given,
    }
    lineage.write(directory, lineage.step("records", config, counts={level: counts}))
    write_counts(directory / "counts.json", "records", {level: counts}, **facts)
    if found.own and note is None:  # it has one level: the other is of an earlier release
        delete_stale(output, "records", (), below="uniref50")
    return Built(counts, facts, found.own)


def _inputs(found: Input, held_out: Mapping[int, Path], sides: Path | None) -> list[Input]:
    """The input and its further files. Raises UserError for a split of what is no FASTA of the user's own."""
    if not held_out and sides is None:
        return [found]
    if found.format != "fasta" or found.strict:
        raise UserError("has no split beside it: that is for a FASTA of your own", where=found.path, fix="leave it out")
    if held_out and sides is not None:
        raise UserError("two splits: files and a table", where=sides, fix="give --validation and --test, or --sides")
    inputs = [replace(found, side=TRAIN if held_out else None)]
    for side, path in sorted(held_out.items()):
        other = inspect(path, found.level, strict=False)
        if other.format != "fasta":
            raise UserError("not a FASTA", where=path, fix="give a FASTA of proteins")
        inputs.append(replace(other, side=side))
    return inputs


def inspect(source: Path, level: str, *, strict: bool) -> Input:
    """Detect what the input is. Raises UserError when it is empty, or neither FASTA nor UniRef XML of the level."""
    head = first_bytes(source, xml_document.HEAD_BYTES)
    if head.startswith(UTF_16):
        raise UserError("UTF-16 text", where=source, fix="save it as UTF-8 or ASCII")
    text = head.removeprefix(BOM)
    mark = len(head) - len(text)
    start = text.lstrip(b" \t\r\n")[:1]
    if start == b"<":
        length, release = xml_document.read_head(text, LEVEL_NAMES[level], source)
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


def _stream(
    config: Records,
    inputs: Sequence[Input],
    parts: Parts,
    removed: Removed,
    tally: Tally,
    sides: Sides | None,
    *,
    threads: int,
) -> dict[str, Any]:
    """Read, parse and distribute everything. Returns `{sides: {train: {records: n}, ...}}` where there is a split."""
    counts = np.zeros(len(SIDES), np.int64)
    for found in inputs:
        before = tally.bytes
        for block, parsed in _parsed(config, found, threads=threads):
            tally.add(parsed)
            tally.bytes = before + block.offset + len(block.raw)
            bad = parsed.status != OK
            if bad.any():
                parsed = _without_bad(parsed, bad, block, found, removed, config.bad_entries)
            if sides is not None or found.side is not None:
                keys = numbers(parsed.records.column("key"))
                given = (
                    sides.of(keys, parsed.records.column("id")) if sides is not None else np.full(len(keys), found.side)
                )
                counts += np.bincount(given, minlength=len(SIDES))
                parsed = with_side(parsed, given)
            tally.keep(parsed)
            parts.add(parsed)
    parts.finish()
    if sides is not None:
        sides.check()
    if not counts.any():
        return {}
    return {"sides": {name: {"records": int(counts[side])} for side, name in enumerate(SIDES)}}


def _parsed(config: Records, found: Input, *, threads: int) -> Iterator[tuple[Block, Parsed]]:
    """The blocks of one input and their entries. A block is read over once the next one is asked for."""
    if found.format == "xml":
        parse = partial(_parse_xml, found=found, verify=config.verify_checksums)
    else:
        parse = partial(_parse_fasta, found=found)
    spare: deque[bytearray] = deque()
    source = read_blocks(found.path, found.marker, found.keep, spare)
    size, beginning = found.path.stat().st_size, "a first run compiles for a while"
    # as many parsers as threads: the threads that read and write are often waiting
    with (
        meter(f"records {found.level}", total=size, unit="B", beginning=beginning) as progress,
        ThreadPoolExecutor(threads, "parser") as pool,
        closing(prefetch(lambda block: block, source)) as blocks,
    ):
        for block, parsed in in_order(blocks, pool, parse, threads + 1):
            yield block, parsed
            spare.append(block.buffer)
            progress.advance(block.compressed - progress.done)


def _parse_fasta(block: Block, *, found: Input) -> Parsed:
    start = found.head if block.offset == 0 else 0
    return fasta.parse(block, f"{LEVEL_NAMES[found.level]}_", strict=found.strict, start=start)


def _parse_xml(block: Block, *, found: Input, verify: bool) -> Parsed:
    start = found.head if block.offset == 0 else 0
    name, other = LEVEL_NAMES[found.level], _OTHER[found.level]
    return uniref_xml.parse(block, start, name, other, verify=verify, path=found.path)


def _without_bad(parsed: Parsed, bad: np.ndarray, block: Block, found: Input, removed: Removed, policy: str) -> Parsed:
    """Drop bad entries with their members and list them, or raise for the first that the policy does not remove."""
    for i in np.flatnonzero(bad).tolist():
        if policy == "error" or int(parsed.status[i]) not in REASONS:
            _raise_bad(parsed, i, block, found, policy)
    return without_bad(
        parsed, bad, found.level, removed, lambda i: f"at byte {parsed.begin[i]}: {_evidence(parsed, i, block)}"
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


def _check(config: Records, inputs: Sequence[Input], note: ReleaseNote | None, parts: Parts, tally: Tally) -> None:
    """Checks of the whole input: how many entries, that they are proteins, and that no id occurs twice."""
    found = inputs[0]
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
        raise explain_repeated([one.path for one in inputs], ids)
    if ids:
        what = "duplicate id" if len(set(ids)) == 1 else "ids with the same key"
        entries = " and ".join(f"{name} at byte {offset:,}" for name, offset in locate_in_xml(found.path, ids))
        raise UserError(f"{what}: {entries} (decompressed)", where=found.path, fix="keep one of them")
