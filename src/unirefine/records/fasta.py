"""FASTA to columns: one pass of a numba loop over a block of whole entries.

A UniRef header is read from its right end, because its description may hold anything, ` n=` and `>` too:
`>UniRef50_A0A5A9P0L4 peptidylprolyl isomerase n=1 Tax=Triplophysa tibetana TaxID=1572043 RepID=A0A5A9P0L4_9TELE`
"""

import numba
import numpy as np

from unirefine.ids import pack
from unirefine.records.columns import (
    CRLF,
    MISSING,
    NO_COUNT,
    NO_REPRESENTATIVE,
    OK,
    Columns,
    Parsed,
    allocate,
    append,
    id_status,
    is_word,
    number,
    starts_with,
    to_arrow,
)
from unirefine.records.residues import copy_checked, copy_letters, count_stops, finish, upper_case
from unirefine.records.stream import Block

_REP_ID = np.frombuffer(b" RepID=", np.uint8)
_TAX_ID = np.frombuffer(b" TaxID=", np.uint8)
_TAX = np.frombuffer(b" Tax=", np.uint8)
_COUNT = np.frombuffer(b" n=", np.uint8)
_NEWLINE, _RETURN, _GREATER, _SPACE, _TAB = 10, 13, 62, 32, 9
_USUAL_WIDTH = 60


def parse(block: Block, prefix: str, *, strict: bool) -> Parsed:
    """Parse a block of FASTA, which begins with a header or blank lines.

    prefix: of every id, as in `UniRef50_`; without `strict`, ids without a UniRef prefix are taken as they are.
    """
    columns = allocate(int(np.count_nonzero(block.raw == _GREATER)), len(block.raw), 0)
    n = _parse(block.raw, np.frombuffer(prefix.encode(), np.uint8), strict, columns)
    return to_arrow(columns, n, block.offset, with_members=False)


@numba.njit(cache=True, nogil=True)
def _parse(raw: np.ndarray, prefix: np.ndarray, strict: bool, out: Columns) -> int:
    n, i, size, width = 0, 0, len(raw), _USUAL_WIDTH
    while i < size and (raw[i] == _NEWLINE or raw[i] == _RETURN):
        i += 1
    while i < size:
        out.begin[n] = i
        end = _line_end(raw, i, size)
        after = end + 1
        if raw[end - 1] == _RETURN:
            end -= 1
            out.stats[CRLF] += 1
        _header(raw, i + 1, end, prefix, strict, out, n)
        i, width = _sequence(raw, after, size, width, out, n)
        n += 1
    return n


@numba.njit(cache=True, nogil=True, forceinline=True)
def _line_end(raw: np.ndarray, i: int, size: int) -> int:
    while i + 16 <= size:  # 16 bytes without a branch become one vector comparison
        found = 0
        for k in range(16):
            found |= raw[i + k] == _NEWLINE
        if found:
            break
        i += 16
    while i < size and raw[i] != _NEWLINE:
        i += 1
    return i


@numba.njit(cache=True, nogil=True, forceinline=True)
def _header(raw: np.ndarray, start: int, end: int, prefix: np.ndarray, strict: bool, out: Columns, n: int) -> None:
    """Fill id, key and the header's fields of entry n. raw[start:end] is the header without `>`."""
    id_end = start
    while id_end < end and raw[id_end] != _SPACE and raw[id_end] != _TAB:
        id_end += 1
    out.status[n], skip = id_status(raw, start, id_end, prefix, strict)
    out.taxon[n] = out.rep_taxon[n] = out.count[n] = MISSING
    out.rep_end[n + 1] = out.rep_end[n]
    if out.status[n] != OK:
        out.key[n] = 0
        out.id_end[n + 1] = out.id_end[n]
        return
    out.key[n] = pack(raw, start + skip, id_end)
    append(out.id, out.id_end, n, raw, start, id_end)
    if skip:
        _fields(raw, id_end, end, out, n)
        out.stats[NO_COUNT] += out.count[n] == MISSING
        out.stats[NO_REPRESENTATIVE] += out.rep_end[n + 1] == out.rep_end[n]


@numba.njit(cache=True, nogil=True, forceinline=True)
def _last(raw: np.ndarray, start: int, end: int, word: np.ndarray) -> int:
    """Where `word`, which begins with a space, last lies in raw[start:end]; -1: nowhere."""
    i = end - len(word)
    while i >= start:
        if raw[i] == _SPACE and starts_with(raw, i, end, word):
            return i
        i -= 1
    return -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _fields(raw: np.ndarray, start: int, end: int, out: Columns, n: int) -> None:
    """` n=`, ` Tax=`, ` TaxID=`, ` RepID=` of raw[start:end], from the right; any of them may be missing."""
    while end > start and (raw[end - 1] == _SPACE or raw[end - 1] == _TAB):
        end -= 1
    found = _last(raw, start, end, _REP_ID)
    if found >= 0 and is_word(raw, found + len(_REP_ID), end):
        append(out.rep, out.rep_end, n, raw, found + len(_REP_ID), end)
        end = found
    found = _last(raw, start, end, _TAX_ID)
    if found >= 0:
        value = number(raw, found + len(_TAX_ID), end)
        if value != MISSING:
            out.taxon[n] = value
            end = found
    # the count stands before ` Tax=`, whose value is free text; without a ` Tax=` it is the last field
    here = end
    while here >= 0:
        found = _last(raw, start, here, _COUNT)
        if found < 0:
            return
        digits = found + len(_COUNT)
        while digits < end and 48 <= raw[digits] <= 57:
            digits += 1
        if digits == end or starts_with(raw, digits, end, _TAX):
            out.count[n] = number(raw, found + len(_COUNT), digits)
            if out.count[n] != MISSING:
                return
        here = found


@numba.njit(cache=True, nogil=True, forceinline=True)
def _sequence(raw: np.ndarray, i: int, size: int, width: int, out: Columns, n: int) -> tuple[int, int]:
    """Copy the sequence lines from raw[i] on to entry n. Returns (start of the next header, width of the lines)."""
    first = at = out.seq_end[n]
    lower, stops = False, 0
    while i < size and raw[i] != _GREATER:
        end = i + width
        if end >= size or raw[end] != _NEWLINE or not copy_letters(raw[i:end], out.seq[at : at + width]):
            # not the usual width, or not all upper case: find the line's end, then look again
            end = _line_end(raw, i, size)
            after = end + 1
            if end > i and raw[end - 1] == _RETURN:
                end -= 1
                out.stats[CRLF] += 1
            if not copy_letters(raw[i:end], out.seq[at : at + end - i]):
                lower = copy_checked(raw, i, end, out.seq, at, out.status, out.detail, n) or lower
                upper_case(out.seq, at, at + end - i)
                stops += count_stops(out.seq, at, at + end - i)
            if after - i > _USUAL_WIDTH:
                width = after - 1 - i
            at += end - i
            i = after
        else:
            at += width
            i = end + 1
    out.seq_end[n + 1] = finish(out.seq, out.status, out.stats, n, first, at, lower, stops)
    return i, width
