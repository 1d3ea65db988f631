"""FASTA to columns: one pass of a numba loop over a block of whole entries.

A UniRef header is read from its right end, because its description may contain anything, also ` n=` and `>`:
`>UniRef50_A0A5A9P0L4 peptidylprolyl isomerase n=1 Tax=Triplophysa tibetana TaxID=1572043 RepID=A0A5A9P0L4_9TELE`
"""

import numba
import numpy as np

from unirefine.core.ids import pack
from unirefine.records.columns import (
    CRLF,
    LONE_RETURN,
    MISSING,
    NO_COUNT,
    NO_REPRESENTATIVE,
    OK,
    Columns,
    Parsed,
    allocate,
    append,
    id_status,
    is_fragment,
    is_word,
    number,
    starts_with,
    to_arrow,
)
from unirefine.records.residues import copy_checked, copy_letters, count_stops, finish, sample_letters, upper_case
from unirefine.records.stream import Block

_REP_ID = np.frombuffer(b" RepID=", np.uint8)
_TAX_ID = np.frombuffer(b" TaxID=", np.uint8)
_TAX = np.frombuffer(b" Tax=", np.uint8)
_COUNT = np.frombuffer(b" n=", np.uint8)
_NEWLINE, _RETURN, _GREATER, _SPACE, _TAB = 10, 13, 62, 32, 9
_USUAL_WIDTH = 60
_WIDEST_GUESS = 1024
"""A wider one is given up when it was wrong: that costs its width, and many short lines may follow a long one."""


def parse(block: Block, prefix: str, *, strict: bool, start: int = 0) -> Parsed:
    """Parse a block of FASTA, which begins with a header or blank lines at raw[start].

    prefix: of every id, as in `UniRef50_`; without `strict`, ids without a UniRef prefix are accepted as they are.
    """
    raw = block.raw[start:]
    columns, letters = allocate(_count_greater(raw) + 1, len(raw), 0), np.zeros(256, np.int64)
    n = _parse(raw, np.frombuffer(prefix.encode(), np.uint8), strict, columns)
    sample_letters(columns.seq, columns.seq_end[n], letters)
    return to_arrow(columns, n, block.offset + start, with_members=False, letters=letters)


@numba.njit(cache=True, nogil=True)
def _count_greater(raw: np.ndarray) -> int:
    """Number of `>`, an upper bound on the number of headers."""
    count, i = 0, 0
    while i + 128 <= len(raw):
        few = np.uint8(0)  # the compiler vectorises a sum of bytes in a byte
        for k in range(128):
            few += np.uint8(raw[i + k] == _GREATER)
        count += few
        i += 128
    while i < len(raw):
        count += raw[i] == _GREATER
        i += 1
    return count


@numba.njit(cache=True, nogil=True)
def _parse(raw: np.ndarray, prefix: np.ndarray, strict: bool, out: Columns) -> int:
    # local variables, because each access to an array of `out` costs a reference count
    key, begin, status, stats = out.key, out.begin, out.status, out.stats
    taxa, rep_taxa, counts = out.taxon, out.rep_taxon, out.count
    ids, id_ends, reps, rep_ends = out.id, out.id_end, out.rep, out.rep_end
    seq, seq_ends, detail, fragment = out.seq, out.seq_end, out.detail, out.fragment
    # not 0: numba would compile what they go to twice, for the literal and for every number
    zero = np.int64(0)
    n, i, size, width = zero, zero, len(raw), np.int64(_USUAL_WIDTH)
    while i < size and (raw[i] == _NEWLINE or _is_crlf(raw, i, size)):
        i += 1
    while i < size:
        begin[n] = i
        start, end, lone = i + 1, _header_end(raw, i, size), False
        after = end + 1
        if end < size and raw[end] == _RETURN:
            lone = not _is_crlf(raw, end, size)
            after = _next_line(raw, end)
            stats[CRLF] += not lone
        id_end = start
        while id_end < end and raw[id_end] != _SPACE and raw[id_end] != _TAB:
            id_end += 1
        state, skip = id_status(raw, start, id_end, prefix, strict)
        if lone:
            state = LONE_RETURN
        status[n], key[n] = state, 0
        count, taxon, rep_start, rep_stop = MISSING, MISSING, zero, zero
        if state == OK:
            key[n] = pack(raw, start + skip, id_end)
            fragment[n] = is_fragment(raw, id_end, end)
            if skip:
                count, taxon, rep_start, rep_stop = _fields(raw, id_end, end)
                stats[NO_COUNT] += count == MISSING
                stats[NO_REPRESENTATIVE] += rep_stop == 0
        else:
            id_end = start
        append(ids, id_ends, n, raw, start, id_end)
        append(reps, rep_ends, n, raw, rep_start, rep_stop)
        taxa[n], rep_taxa[n], counts[n] = taxon, MISSING, count
        i, width, seq_ends[n + 1] = _sequence(raw, after, size, width, seq, seq_ends[n], status, detail, stats, n)
        n += 1
    return n


@numba.njit(cache=True, nogil=True, forceinline=True)
def _line_end(raw: np.ndarray, i: int, size: int) -> int:
    while i + 16 <= size:  # the compiler vectorises 16 bytes without a branch
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
def _header_end(raw: np.ndarray, i: int, size: int) -> int:
    """Position of the first line feed or carriage return from i on, or the end."""
    while i + 16 <= size:
        found = 0
        for k in range(16):
            found |= (raw[i + k] == _NEWLINE) | (raw[i + k] == _RETURN)
        if found:
            break
        i += 16
    while i < size and raw[i] != _NEWLINE and raw[i] != _RETURN:
        i += 1
    return i


@numba.njit(cache=True, nogil=True)
def _next_line(raw: np.ndarray, i: int) -> int:
    """Start of the next line. Rarely called, hence not inlined."""
    while i < len(raw) and raw[i] != _NEWLINE:
        i += 1
    return i + 1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _is_crlf(raw: np.ndarray, i: int, size: int) -> bool:
    return raw[i] == _RETURN and i + 1 < size and raw[i + 1] == _NEWLINE


@numba.njit(cache=True, nogil=True, forceinline=True)
def _last(raw: np.ndarray, start: int, end: int, word: np.ndarray) -> int:
    """Position of the last `word`, which begins with a space, in raw[start:end]; -1: there is none."""
    i = end - len(word)
    while i >= start:
        if raw[i] == _SPACE and starts_with(raw, i, end, word):
            return i
        i -= 1
    return -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _fields(raw: np.ndarray, start: int, end: int) -> tuple[int, int, int, int]:
    """Read ` n=`, ` Tax=`, ` TaxID=`, ` RepID=` of raw[start:end] from the right; any of them may be missing.

    Returns (count, taxon, start and end of the representative): MISSING, MISSING, 0, 0 where there is none.
    """
    taxon, rep_start, rep_stop = MISSING, 0, 0
    while end > start and (raw[end - 1] == _SPACE or raw[end - 1] == _TAB):
        end -= 1
    found = _last(raw, start, end, _REP_ID)
    if found >= 0 and is_word(raw, found + len(_REP_ID), end):
        rep_start, rep_stop = found + len(_REP_ID), end
        end = found
    found = _last(raw, start, end, _TAX_ID)
    if found >= 0:
        taxon = number(raw, found + len(_TAX_ID), end)
        if taxon != MISSING:
            end = found
    # the count stands before ` Tax=`, whose value is free text; without a ` Tax=` it is the last field
    here = _last(raw, start, end, _COUNT)
    while here >= 0:
        digits = here + len(_COUNT)
        while digits < end and 48 <= raw[digits] <= 57:
            digits += 1
        if digits == end or starts_with(raw, digits, end, _TAX):
            count = number(raw, here + len(_COUNT), digits)
            if count != MISSING:
                return count, taxon, rep_start, rep_stop
        here = _last(raw, start, here, _COUNT)
    return MISSING, taxon, rep_start, rep_stop


@numba.njit(cache=True, nogil=True, forceinline=True)
def _sequence(
    raw: np.ndarray,
    i: int,
    size: int,
    width: int,
    seq: np.ndarray,
    first: int,
    status: np.ndarray,
    detail: np.ndarray,
    stats: np.ndarray,
    n: int,
) -> tuple[int, int, int]:
    """Copy the sequence lines of entry n, from raw[i] on, to seq[first:].

    Returns (start of the next header, width of the lines, end of the sequence in `seq`).
    """
    at, lower, stops = np.int64(first), False, 0
    while i < size and raw[i] != _GREATER:
        end = i + width
        if end < size and raw[end] == _NEWLINE and copy_letters(raw[i:end], seq[at : at + width]):
            at += width
            i = end + 1
            continue
        # not the usual width, or not all upper case: find the line's end, then look again
        end = _line_end(raw, i, size)
        after = end + 1
        if raw[end - 1] == _RETURN and i < end < size:
            end -= 1
            stats[CRLF] += 1
        if not copy_letters(raw[i:end], seq[at : at + end - i]):
            lower = copy_checked(raw, i, end, seq, at, status, detail, n) or lower
            upper_case(seq, at, at + end - i)
            stops += count_stops(seq, at, at + end - i)
        if after - i > _USUAL_WIDTH:
            width = after - 1 - i
        elif width > _WIDEST_GUESS:
            width = _USUAL_WIDTH
        at += end - i
        i = after
    return i, width, finish(seq, status, stats, n, first, at, lower, stops)
