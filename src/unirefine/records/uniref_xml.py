"""UniRef XML to columns: one compiled pass that reads records, verifies sequences and extracts the membership.

Elements that the records do not need are skipped. Sequences are verified with their declared length and CRC64 before
any policy changes them.
"""

from pathlib import Path

import numba
import numpy as np

from unirefine.core.crc64 import crc64
from unirefine.core.ids import pack
from unirefine.errors import UserError
from unirefine.records.columns import (
    EMPTY,
    MISSING,
    NO_COUNT,
    NO_MEMBERS,
    NO_REPRESENTATIVE,
    OK,
    WRONG_CHECKSUM,
    WRONG_LENGTH,
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
from unirefine.records.residues import copy_checked, copy_letters, count_stops, finish, upper_case
from unirefine.records.stream import Block
from unirefine.records.xml_document import check_end
from unirefine.records.xml_tokens import (
    BANG,
    LESS,
    SLASH,
    attributes,
    equals,
    hexadecimal_digit,
    is_space,
    name_end,
    next_tag,
    skip_comment,
    skip_space,
)


def _word(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_ENTRY, _PROPERTY, _REFERENCE, _SEQUENCE = _word("entry"), _word("property"), _word("dbReference"), _word("sequence")
_REPRESENTATIVE, _MEMBER, _NAME = _word("representativeMember"), _word("member"), _word("name")
_TYPE, _VALUE, _ID, _LENGTH, _CHECKSUM = _word("type"), _word("value"), _word("id"), _word("length"), _word("checksum")
_MEMBER_COUNT, _COMMON_TAXON, _TAXON = _word("member count"), _word("common taxon ID"), _word("NCBI taxonomy")
_ACCESSION, _UNIPARC = _word("UniProtKB accession"), _word("UniParc ID")

_MIN_ENTRY_BYTES = len('<entry id="UniRef50_X"></entry>')
_MIN_MEMBER_BYTES = len('<member><property type="NCBI taxonomy" value="1"/></member>')
_FEW = 24
"""Up to this many items are sorted by insertion: most entries have few members."""
END, MALFORMED, NO_SEQUENCE_ATTRIBUTE, WRONG_MEMBER, NESTED = range(5)
_MALFORMED = {
    MALFORMED: "not the XML of a UniRef entry",
    NO_SEQUENCE_ATTRIBUTE: "a sequence without a readable length and checksum",
    WRONG_MEMBER: "a member's {other} ID does not begin with {other}_",
    NESTED: "an entry with a second sequence or inside another entry",
}


def parse(block: Block, start: int, level_name: str, other_name: str, *, verify: bool, path: Path) -> Parsed:
    """Parse a block of UniRef XML from `start` on. The last block must end with the root's end tag.

    level_name, other_name: the level and the level of its members' ids, as in `UniRef50`, `UniRef90`. Raises UserError
    for XML that is malformed or truncated.
    """
    raw = block.raw
    columns = allocate(len(raw) // _MIN_ENTRY_BYTES + 1, len(raw), len(raw) // _MIN_MEMBER_BYTES + 1)
    other_id, other_prefix = _word(f"{other_name} ID"), _word(f"{other_name}_")
    n, error, position = _parse(raw, start, _word(f"{level_name}_"), other_id, other_prefix, verify, columns)
    if error != END:
        _fail(columns, n, error, position, block, other_name, path)
    if block.last:
        check_end(raw[position:], level_name, block.offset + position, path)
    elif position != len(raw):
        raise UserError(f"not an entry at byte {block.offset + position:,}", where=path, fix="fetch the file again")
    return to_arrow(columns, n, block.offset, with_members=True)


def _fail(columns: Columns, n: int, error: int, position: int, block: Block, other_name: str, path: Path) -> None:
    entry = columns.id[columns.id_end[n] : columns.id_end[n + 1]].tobytes().decode() or "an entry"
    begin = block.offset + int(columns.begin[n])
    if block.last and position >= len(block.raw) - 1:
        what = f"truncated: it ends at byte {block.offset + len(block.raw):,}, inside {entry}"
    else:
        what = _MALFORMED[error].format(other=other_name) + f", at byte {block.offset + position:,}, in {entry}"
    raise UserError(f"{what} (which begins at byte {begin:,})", where=path, fix="fetch the file again")


@numba.njit(cache=True, nogil=True)
def _parse(
    raw: np.ndarray,
    i: int,
    prefix: np.ndarray,
    other_id: np.ndarray,
    other_prefix: np.ndarray,
    verify: bool,
    out: Columns,
) -> tuple[int, int, int]:
    """Returns (entries, END, where they end), or (entries before it, the error, its position)."""
    # not 0: numba would compile what n goes to twice, for the literal and for every number
    n = np.int64(0)
    while True:
        i = skip_space(raw, i)
        if i < len(raw) - 1 and raw[i] == LESS and raw[i + 1] == BANG:
            i = skip_comment(raw, i)
            if i < 0:
                out.begin[n] = ~i
                out.id_end[n + 1] = out.id_end[n]
                return n, MALFORMED, ~i
            continue
        if i >= len(raw) or raw[i] != LESS or not equals(raw, i + 1, name_end(raw, i + 1), _ENTRY):
            return n, END, i
        i, error = _entry(raw, i, prefix, other_id, other_prefix, verify, out, n)
        if error != END:
            return n, error, i
        n += 1


@numba.njit(cache=True, nogil=True)
def _entry(
    raw: np.ndarray,
    i: int,
    prefix: np.ndarray,
    other_id: np.ndarray,
    other_prefix: np.ndarray,
    verify: bool,
    out: Columns,
    n: int,
) -> tuple[int, int]:
    """Read the entry at raw[i]. Returns (position after it, END) or (position, error)."""
    out.begin[n] = i
    out.id_end[n + 1] = out.id_end[n]
    out.rep_end[n + 1] = out.rep_end[n]
    out.seq_end[n + 1] = out.seq_end[n]
    out.taxon[n] = out.rep_taxon[n] = out.count[n] = MISSING
    first_member = members = np.int64(out.member_end[n])
    first_taxon = taxa = np.int64(out.other_end[n])
    listed = 0
    i, closed, a0, a1, _b0, _b1 = attributes(raw, i + 1 + len(_ENTRY), _ID, _ID)
    if i < 0 or closed:
        return (~i if i < 0 else int(out.begin[n])), MALFORMED
    out.status[n], skip = id_status(raw, a0, a1, prefix, True)
    out.key[n] = 0
    if out.status[n] == OK:
        out.key[n] = pack(raw, a0 + skip, a1)
        append(out.id, out.id_end, n, raw, a0, a1)
    in_representative, sequences = False, 0
    # of the current member: whether it has an id at the other level, the key of that id, its key, its taxon
    has_other, other_key, own_key, taxon = False, np.uint64(0), np.uint64(0), MISSING
    while True:
        i = next_tag(raw, i)
        if i + 1 >= len(raw):
            return i, MALFORMED
        if raw[i + 1] == BANG:
            i = skip_comment(raw, i)
            if i < 0:
                return ~i, MALFORMED
            continue
        closing = raw[i + 1] == SLASH
        name = i + 2 if closing else i + 1
        tag, stop = i, name_end(raw, name)
        if closing:
            i = skip_space(raw, stop)
            if i >= len(raw) or raw[i] != 62:
                return i, MALFORMED
            i += 1
            if equals(raw, name, stop, _MEMBER) or equals(raw, name, stop, _REPRESENTATIVE):
                listed += 1
                if has_other:
                    out.member[members] = other_key
                    members += 1
                if in_representative:
                    out.rep_taxon[n] = taxon
                elif taxon != MISSING and taxon != out.rep_taxon[n]:
                    out.other_taxon[taxa], out.other_member[taxa] = taxon, own_key
                    taxa += 1
                in_representative, has_other, taxon = False, False, MISSING
            elif equals(raw, name, stop, _ENTRY):
                break
        elif equals(raw, name, stop, _PROPERTY):
            i, closed, a0, a1, b0, b1 = attributes(raw, stop, _TYPE, _VALUE)
            if i < 0:
                return ~i, MALFORMED
            if equals(raw, a0, a1, other_id):
                if not starts_with(raw, b0, b1, other_prefix):
                    return tag, WRONG_MEMBER
                has_other, other_key = True, pack(raw, b0 + len(other_prefix), b1)
            elif equals(raw, a0, a1, _ACCESSION):
                if own_key == 0:
                    own_key = pack(raw, b0, b1)
            elif equals(raw, a0, a1, _TAXON):
                taxon = number(raw, b0, b1)
            elif equals(raw, a0, a1, _MEMBER_COUNT):
                out.count[n] = number(raw, b0, b1)
            elif equals(raw, a0, a1, _COMMON_TAXON):
                out.taxon[n] = number(raw, b0, b1)
        elif equals(raw, name, stop, _REFERENCE):
            i, closed, a0, a1, b0, b1 = attributes(raw, stop, _TYPE, _ID)
            if i < 0:
                return ~i, MALFORMED
            if equals(raw, a0, a1, _UNIPARC):
                own_key = pack(raw, b0, b1)
            if in_representative and is_word(raw, b0, b1):
                append(out.rep, out.rep_end, n, raw, b0, b1)
        elif equals(raw, name, stop, _SEQUENCE):
            i, closed, a0, a1, b0, b1 = attributes(raw, stop, _LENGTH, _CHECKSUM)
            if i < 0:
                return ~i, MALFORMED
            sequences += 1
            if sequences > 1:
                return tag, NESTED
            if not closed:
                end = next_tag(raw, i)
                if not _sequence(raw, i, end, a0, a1, b0, b1, verify, out, n):
                    return tag, NO_SEQUENCE_ATTRIBUTE
                i = end
        elif equals(raw, name, stop, _ENTRY):
            return tag, NESTED
        elif equals(raw, name, stop, _NAME):
            i, closed, a0, a1, b0, b1 = attributes(raw, stop, _ID, _ID)
            if i < 0:
                return ~i, MALFORMED
            if not closed and out.fragment[n] == MISSING:
                out.fragment[n] = is_fragment(raw, i, next_tag(raw, i))
        else:
            i, closed, a0, a1, b0, b1 = attributes(raw, stop, _ID, _ID)
            if i < 0:
                return ~i, MALFORMED
            starts = equals(raw, name, stop, _REPRESENTATIVE)
            if starts or equals(raw, name, stop, _MEMBER):
                in_representative = starts
                has_other, own_key, taxon = False, np.uint64(0), MISSING
    if out.status[n] == OK and out.seq_end[n + 1] == out.seq_end[n]:
        out.status[n] = EMPTY
    out.listed[n] = listed
    out.member_end[n + 1] = _distinct_keys(out.member, first_member, members)
    out.other_end[n + 1] = _distinct_taxa(out.other_taxon, out.other_member, first_taxon, taxa)
    out.stats[NO_COUNT] += out.count[n] == MISSING
    out.stats[NO_REPRESENTATIVE] += out.rep_end[n + 1] == out.rep_end[n]
    out.stats[NO_MEMBERS] += members == first_member
    return i, END


@numba.njit(cache=True, nogil=True, forceinline=True)
def _sequence(
    raw: np.ndarray, i: int, end: int, a0: int, a1: int, b0: int, b1: int, verify: bool, out: Columns, n: int
) -> bool:
    """Read the sequence raw[i:end] and verify it with its declared length raw[a0:a1] and checksum raw[b0:b1].

    Returns False when these two cannot be parsed.
    """
    while i < end and is_space(raw[i]):
        i += 1
    while end > i and is_space(raw[end - 1]):
        end -= 1
    first = np.int64(out.seq_end[n])
    at, lower, stops = first + end - i, False, 0
    plain = copy_letters(raw[i:end], out.seq[first:at])
    if not plain:
        at = first
        while i < end:  # pieces between white space
            if is_space(raw[i]):
                i += 1
                continue
            stop = i
            while stop < end and not is_space(raw[stop]):
                stop += 1
            lower = copy_checked(raw, i, stop, out.seq, at, out.status, out.detail, n) or lower
            at += stop - i
            i = stop
    if verify:
        length, checksum, readable = number(raw, a0, a1), *_hexadecimal(raw, b0, b1)
        if length == MISSING or not readable:
            return False
        if out.status[n] == OK and length != at - first:
            out.status[n] = WRONG_LENGTH
            out.detail[n, 0], out.detail[n, 1] = length, at - first
        if out.status[n] == OK:
            found = crc64(out.seq, first, at)
            if found != checksum:
                out.status[n] = WRONG_CHECKSUM
                out.detail[n, 0], out.detail[n, 1] = checksum, found
    if not plain:
        upper_case(out.seq, first, at)
        stops = count_stops(out.seq, first, at)
    out.seq_end[n + 1] = finish(out.seq, out.status, out.stats, n, first, at, lower, stops)
    return True


@numba.njit(cache=True, nogil=True)
def _hexadecimal(raw: np.ndarray, start: int, end: int) -> tuple[int, bool]:
    """(value, whether it is valid) of 1 to 16 hexadecimal digits."""
    value = np.uint64(0)
    for i in range(start, end):
        digit = hexadecimal_digit(raw[i])
        if digit > 15:
            return value, False
        value = (value << np.uint64(4)) | np.uint64(digit)
    return value, 1 <= end - start <= 16


@numba.njit(cache=True, nogil=True)
def _distinct_keys(keys: np.ndarray, start: int, end: int) -> int:
    """Sort keys[start:end] and drop repeats in place. Returns the new end."""
    if end - start > _FEW:
        keys[start:end].sort()
    else:
        for k in range(start + 1, end):
            key, at = keys[k], k
            while at > start and keys[at - 1] > key:
                keys[at] = keys[at - 1]
                at -= 1
            keys[at] = key
    at = min(start + 1, end)
    for k in range(start + 1, end):
        if keys[k] != keys[at - 1]:
            keys[at] = keys[k]
            at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _distinct_taxa(taxa: np.ndarray, members: np.ndarray, start: int, end: int) -> int:
    """Sort taxa[start:end] and drop repeats in place; of equal taxa the first member stays. Returns the new end."""
    if end - start > _FEW:
        order = np.argsort(taxa[start:end], kind="mergesort")  # stable
        unsorted_taxa, unsorted_members = taxa[start:end].copy(), members[start:end].copy()
        for k in range(len(order)):
            taxa[start + k], members[start + k] = unsorted_taxa[order[k]], unsorted_members[order[k]]
    else:
        for k in range(start + 1, end):
            taxon, member, at = taxa[k], members[k], k
            while at > start and taxa[at - 1] > taxon:
                taxa[at], members[at] = taxa[at - 1], members[at - 1]
                at -= 1
            taxa[at], members[at] = taxon, member
    at = min(start + 1, end)
    for k in range(start + 1, end):
        if taxa[k] != taxa[at - 1]:
            taxa[at], members[at] = taxa[k], members[k]
            at += 1
    return at
