"""Read claims: from the members files of the records stage (UniRef XML), or from idmapping_selected.tab."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numba
import numpy as np

from unirefine.cluster.membership import Claims
from unirefine.core.compressed import DAMAGE, damage, decompressed
from unirefine.core.ids import pack
from unirefine.core.levels import LEVELS
from unirefine.core.tables import Parts, find_parts, iterate, numbers
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.files.inputs import require_file
from unirefine.progress import meter

FROM_UNIREF50, FROM_UNIREF90, FROM_IDMAPPING = 1, 2, 4
"""Bits of the sources, which `Membership.sources` holds."""
_BATCH_ROWS = 1 << 21
_BLOCK_BYTES = 1 << 23
_UNIREF90_COLUMN, _UNIREF50_COLUMN, _COLUMNS = 8, 9, 22  # the first two 0-based
_UNIREF_0_ = np.frombuffer(b"UniRef_0_", np.uint8)
_OK, _FEW_COLUMNS, _BAD_ID = 0, 1, 2


def open_claims(records: Path, idmapping: Path | str | None) -> tuple[list[str], Iterator[Claims]]:
    """Names of the sources, and the claims that they make.

    idmapping: idmapping_selected.tab(.gz). Without it the members files are read, which UniRef XML gives at both levels
    and a data set at uniref90; raises UserError when there are none.
    """
    if idmapping is not None:
        return [Path(idmapping).name], idmapping_claims(idmapping)
    levels = [parts for level in LEVELS if (parts := find_parts(records, level, "members"))]
    kind = source_of(records)
    if not levels or (kind == "xml" and levels[0].level != LEVELS[0]):
        raise UserError(
            "no members files, which only UniRef XML gives",
            where=records / LEVELS[0],
            fix="set release.format: xml, or give UniProt's idmapping_selected.tab.gz with --idmapping",
        )
    return [f"{parts.level}.{kind}" for parts in levels], itertools.chain.from_iterable(map(xml_claims, levels))


def source_of(records: Path) -> str:
    """What the records of UniRef90 were read from: `xml`, or `parquet` or `bionemo`, which name clusters there only."""
    path = records / LEVELS[1] / "counts.json"
    found = read_json(path).get("format") if path.exists() else None
    return found if found in ("parquet", "bionemo") else "xml"


def xml_claims(parts: Parts) -> Iterator[Claims]:
    """Claims of a level's members files: uniref50's entries name their UniRef90, uniref90's their UniRef50."""
    entry_is_cluster = parts.level == LEVELS[0]
    with meter(f"membership of {parts.level}", total=parts.rows, unit="claims") as progress:
        for _first, batch in iterate(parts, ["cluster_key", "member_key"], batch_rows=_BATCH_ROWS):
            entries, named = numbers(batch.column(0)), numbers(batch.column(1))
            yield Claims(entries, named, FROM_UNIREF50) if entry_is_cluster else Claims(named, entries, FROM_UNIREF90)
            progress.advance(batch.num_rows)


@numba.njit(cache=True)
def _is_uniref(raw, start, end, digit):
    """Whether raw[start:end] begins with `UniRef<digit>0_` and has something after it."""
    if end - start < 10:
        return False
    for i in range(9):  # noqa: SIM110 (numba has no all())
        if raw[start + i] != (digit if i == 6 else _UNIREF_0_[i]):
            return False
    return True


@numba.njit(cache=True)
def _parse(raw, size, clusters, members):
    """Claims of the whole lines in raw[:size].

    Returns (claims, lines, bytes used, status). With a status other than _OK, the bad line is the one after `lines`.
    """
    claims, lines, start = 0, 0, 0
    starts, ends = np.zeros(2, np.int64), np.zeros(2, np.int64)
    while True:
        column, field, i = 0, start, start
        starts[:] = 0
        ends[:] = 0
        while i < size and raw[i] != 10:
            if raw[i] == 9:
                if _UNIREF90_COLUMN <= column <= _UNIREF50_COLUMN:
                    starts[column - _UNIREF90_COLUMN], ends[column - _UNIREF90_COLUMN] = field, i
                column += 1
                field = i + 1
            i += 1
        if i == size:
            return claims, lines, start, _OK
        if i > start:
            if column + 1 < _COLUMNS:
                return claims, lines, start, _FEW_COLUMNS
            if ends[0] > starts[0] and ends[1] > starts[1]:
                if not (_is_uniref(raw, starts[0], ends[0], 57) and _is_uniref(raw, starts[1], ends[1], 53)):
                    return claims, lines, start, _BAD_ID
                members[claims] = pack(raw, starts[0] + 9, ends[0])
                clusters[claims] = pack(raw, starts[1] + 9, ends[1])
                claims += 1
        lines += 1
        start = i + 1


def idmapping_claims(path: Path | str) -> Iterator[Claims]:
    """Claims of `idmapping_selected.tab` (plain or compressed): columns 9 (UniRef90) and 10 (UniRef50), counted from 1.

    A line where one of the two is empty makes no claim. Streams in blocks of 8 MB. Raises UserError with the line
    number for a line that has too few columns or other ids there, and for a truncated gzip.
    """
    path = Path(path)
    buffer = np.empty(2 * _BLOCK_BYTES, np.uint8)
    rest = lines = 0  # bytes of an unfinished line at the start of the buffer; lines before it
    with _open(path) as file, meter("idmapping", unit="B") as progress:
        while True:
            count = _read(file, buffer[rest : rest + _BLOCK_BYTES], path)
            if not count and rest:  # no final newline
                buffer[rest] = 10
                count = 1
            size = rest + count
            clusters, members = np.empty(size // 20 + 1, np.uint64), np.empty(size // 20 + 1, np.uint64)
            claims, whole, used, status = _parse(buffer, size, clusters, members)
            if status != _OK:
                what = (
                    f"has fewer than {_COLUMNS} columns"
                    if status == _FEW_COLUMNS
                    else "has no UniRef90 and UniRef50 in 9 and 10"
                )
                raise UserError(
                    f"line {lines + whole + 1} {what}", where=path, fix="give UniProt's idmapping_selected.tab"
                )
            if not count:
                return
            lines += whole
            rest = size - used
            if rest > _BLOCK_BYTES:
                raise UserError(f"line {lines + 1} is longer than 8 MB", where=path, fix="fetch the file again")
            buffer[:rest] = buffer[used:size].copy()
            progress.advance(count)
            yield Claims(clusters[:claims], members[:claims], FROM_IDMAPPING)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    require_file(path, "run the release stage, or check --idmapping")
    with path.open("rb") as file, decompressed(file)[0] as stream:
        yield stream


def _read(file: BinaryIO, buffer: np.ndarray, path: Path) -> int:
    try:
        return file.readinto(buffer)
    except DAMAGE as error:
        if damage(error) is None:
            raise
        raise UserError(f"not a whole compressed file ({error})", where=path, fix="fetch the file again") from None
