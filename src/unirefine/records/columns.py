"""The buffers that a parser fills, and how they become Arrow arrays without a copy."""

from collections import namedtuple
from dataclasses import dataclass, replace

import numba
import numpy as np
import pyarrow as pa

OTHER_TAXON = pa.struct(
    [pa.field("taxon_id", pa.int32(), nullable=False), pa.field("member_key", pa.uint64(), nullable=False)]
)
"""A taxon of a member that is not the representative's, and the first member with it."""
RECORDS = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("taxon_id", pa.int32()),
        pa.field("rep_taxon_id", pa.int32()),
        pa.field("member_count", pa.int32()),
        pa.field("listed_members", pa.int32()),
        pa.field("representative", pa.string()),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("other_taxa", pa.list_(OTHER_TAXON)),
        pa.field("fragment", pa.bool_()),
        pa.field("given_side", pa.uint8()),
        pa.field("sequence", pa.string(), nullable=False),
    ]
)
MEMBERS = pa.schema(
    [
        pa.field("cluster_key", pa.uint64(), nullable=False),
        pa.field("member_key", pa.uint64(), nullable=False),
    ]
)

OK, EMPTY, INVALID, WRONG_LENGTH, WRONG_CHECKSUM, BAD_ID, WRONG_LEVEL, NOT_UNIREF = range(8)
LONE_RETURN, INNER_HEADER = 8, 9
"""A carriage return without a line feed, and `>` inside a line: other entries hide in such an entry of FASTA."""
REASONS = {
    EMPTY: "empty_sequence",
    INVALID: "invalid_byte",
    WRONG_LENGTH: "wrong_length",
    WRONG_CHECKSUM: "wrong_checksum",
}
"""Statuses that `records.bad_entries: remove` removes, with their reasons. The others always stop the stage."""

LOWER_CASE, INNER_STOP, TRAILING_STOP, CRLF, NO_COUNT, NO_REPRESENTATIVE, NO_MEMBERS, RESIDUES = range(8)
STATS = {
    LOWER_CASE: "entries_upper_cased",
    INNER_STOP: "entries_with_inner_stop",
    TRAILING_STOP: "entries_with_trailing_stop_cut",
    CRLF: "crlf_line_ends",
    NO_COUNT: "entries_without_member_count",
    NO_REPRESENTATIVE: "entries_without_representative",
    NO_MEMBERS: "entries_without_members",
}
"""Counters of the parsers and their names in counts.json. RESIDUES (of kept entries) is reported as `residues`."""

MISSING = -1
_FRAGMENT = np.frombuffer(b"(Fragment", np.uint8)

Columns = namedtuple(
    "Columns",
    "key begin status detail taxon rep_taxon count listed id_end id rep_end rep seq_end seq"
    " member_end member other_end other_taxon other_member fragment stats",
)
"""Buffers of up to n entries, filled by a numba kernel.

key uint64[n], begin int64[n] (offset of the entry in the block), status uint8[n], detail uint64[n, 2] (evidence for
a bad status); taxon, rep_taxon, count int32[n] (MISSING: none); listed int32[n] (members that an entry of XML lists);
*_end int32[n + 1] (offsets into the uint8 buffers id, rep, seq); member_end int64[n + 1] (offsets into member
uint64[]); other_end int32[n + 1] (offsets into other_taxon int32[] and other_member uint64[]); fragment int8[n]
(whether the name says `(Fragment)`; MISSING: no name); stats int64[8].
"""


@dataclass(frozen=True)
class Parsed:
    """The entries of one block, good and bad."""

    records: pa.RecordBatch
    begin: np.ndarray
    """int64[n]: offset of each entry in the stream."""
    status: np.ndarray
    """uint8[n]"""
    detail: np.ndarray
    """uint64[n, 2]"""
    members: pa.RecordBatch | None
    member_end: np.ndarray
    """int64[n + 1]: members of record i are rows member_end[i] to member_end[i + 1]."""
    stats: np.ndarray
    """int64[]: by the constants of this module."""
    letters: np.ndarray | None = None
    """int64[256]: about how often each byte occurs in the sequences; None for XML."""


def allocate(entries: int, size: int, members: int) -> Columns:
    """Buffers for at most `entries` entries of `size` bytes in total. Pages that stay unused take no memory."""
    return Columns(
        key=np.empty(entries, np.uint64),
        begin=np.empty(entries, np.int64),
        status=np.zeros(entries, np.uint8),
        detail=np.zeros((entries, 2), np.uint64),
        taxon=np.empty(entries, np.int32),
        rep_taxon=np.empty(entries, np.int32),
        count=np.empty(entries, np.int32),
        listed=np.zeros(entries, np.int32),
        id_end=np.zeros(entries + 1, np.int32),
        id=np.empty(size, np.uint8),
        rep_end=np.zeros(entries + 1, np.int32),
        rep=np.empty(size, np.uint8),
        seq_end=np.zeros(entries + 1, np.int32),
        seq=np.empty(size, np.uint8),
        member_end=np.zeros(entries + 1, np.int64),
        member=np.empty(members, np.uint64),
        other_end=np.zeros(entries + 1, np.int32),
        other_taxon=np.empty(members, np.int32),
        other_member=np.empty(members, np.uint64),
        fragment=np.full(entries, MISSING, np.int8),
        stats=np.zeros(len(STATS) + 1, np.int64),
    )


def to_arrow(columns: Columns, n: int, offset: int, with_members: bool, letters: np.ndarray | None = None) -> Parsed:
    """The first n entries as Arrow arrays. offset: of the block in the stream. letters: of Parsed."""
    lengths = np.diff(columns.seq_end[: n + 1])
    has_rep = np.diff(columns.rep_end[: n + 1]) > 0
    listed, other_taxa = pa.nulls(n, pa.int32()), pa.nulls(n, RECORDS.field("other_taxa").type)
    if with_members:
        listed, other_taxa = pa.array(columns.listed[:n]), _other_taxa(columns, n)
    records = pa.RecordBatch.from_arrays(
        [
            pa.array(columns.key[:n]),
            _strings(columns.id_end, columns.id, n, None),
            _integers(columns.taxon[:n]),
            _integers(columns.rep_taxon[:n]),
            _integers(columns.count[:n]),
            listed,
            _strings(columns.rep_end, columns.rep, n, has_rep),
            pa.array(lengths),
            other_taxa,
            _booleans(columns.fragment[:n]),
            pa.nulls(n, pa.uint8()),
            _strings(columns.seq_end, columns.seq, n, None),
        ],
        schema=RECORDS,
    )
    members = None
    if with_members:
        rows = int(columns.member_end[n])
        clusters = np.repeat(columns.key[:n], np.diff(columns.member_end[: n + 1]))
        members = pa.RecordBatch.from_arrays([pa.array(clusters), pa.array(columns.member[:rows])], schema=MEMBERS)
    return Parsed(
        records=records,
        begin=columns.begin[:n] + offset,
        status=columns.status[:n],
        detail=columns.detail[:n],
        members=members,
        member_end=columns.member_end[: n + 1],
        stats=columns.stats,
        letters=letters,
    )


def with_side(parsed: Parsed, side: int | np.ndarray) -> Parsed:
    """The same records on a given side of a split. side: one for all, or uint8[n]."""
    sides = np.broadcast_to(np.asarray(side, np.uint8), parsed.records.num_rows)
    at = RECORDS.get_field_index("given_side")
    return replace(parsed, records=parsed.records.set_column(at, RECORDS.field(at), pa.array(sides)))


def _other_taxa(columns: Columns, n: int) -> pa.ListArray:
    rows = columns.other_end[n]
    arrays = [pa.array(columns.other_taxon[:rows]), pa.array(columns.other_member[:rows])]
    return pa.ListArray.from_arrays(
        pa.array(columns.other_end[: n + 1]), pa.StructArray.from_arrays(arrays, fields=list(OTHER_TAXON))
    )


def _bitmap(valid: np.ndarray) -> tuple[pa.Buffer | None, int]:
    nulls = len(valid) - int(np.count_nonzero(valid))
    return (pa.py_buffer(np.packbits(valid, bitorder="little")), nulls) if nulls else (None, 0)


def _integers(values: np.ndarray) -> pa.Int32Array:
    bitmap, nulls = _bitmap(values != MISSING)
    return pa.Int32Array.from_buffers(pa.int32(), len(values), [bitmap, pa.py_buffer(values)], null_count=nulls)


def _booleans(values: np.ndarray) -> pa.BooleanArray:
    """values: int8[n] of 0, 1 and MISSING, which becomes null."""
    return pa.array(values == 1, mask=values == MISSING)


def _strings(ends: np.ndarray, data: np.ndarray, n: int, valid: np.ndarray | None) -> pa.StringArray:
    bitmap, nulls = (None, 0) if valid is None else _bitmap(valid)
    return pa.StringArray.from_buffers(n, pa.py_buffer(ends[: n + 1]), pa.py_buffer(data[: ends[n]]), bitmap, nulls)


@numba.njit(cache=True, nogil=True, forceinline=True)
def number(raw: np.ndarray, start: int, end: int) -> int:
    """The decimal number raw[start:end], 0 to 2^31 - 1; MISSING for anything else."""
    if end == start or end - start > 10:
        return MISSING
    value = 0
    for i in range(start, end):
        if raw[i] < 48 or raw[i] > 57:
            return MISSING
        value = value * 10 + raw[i] - 48
    return value if value < 2**31 else MISSING


@numba.njit(cache=True, nogil=True, forceinline=True)
def starts_with(raw: np.ndarray, start: int, end: int, word: np.ndarray) -> bool:
    """Whether raw[start:end] begins with `word`, uint8[k]."""
    if end - start < len(word):
        return False
    for k in range(len(word)):  # noqa: SIM110 (numba has no all())
        if raw[start + k] != word[k]:
            return False
    return True


@numba.njit(cache=True, nogil=True, forceinline=True)
def is_word(raw: np.ndarray, start: int, end: int) -> bool:
    """Whether raw[start:end] is one or more visible ASCII characters, and nothing else."""
    for i in range(start, end):
        if raw[i] < 33 or raw[i] > 126:
            return False
    return end > start


@numba.njit(cache=True, nogil=True, forceinline=True)
def uniref_prefix(raw: np.ndarray, start: int, end: int) -> int:
    """Length of `UniRef<digits>_` at raw[start:end]; 0 if there is none."""
    if end - start < 8 or raw[start] != 85 or raw[start + 1] != 110 or raw[start + 2] != 105:
        return 0
    if raw[start + 3] != 82 or raw[start + 4] != 101 or raw[start + 5] != 102:
        return 0
    i = start + 6
    while i < end and 48 <= raw[i] <= 57:
        i += 1
    return i + 1 - start if i > start + 6 and i < end and raw[i] == 95 else 0


@numba.njit(cache=True, nogil=True, forceinline=True)
def id_status(raw: np.ndarray, start: int, end: int, prefix: np.ndarray, strict: bool) -> tuple[int, int]:
    """(status, length of the prefix) of an entry's id raw[start:end].

    prefix: uint8[k], as in `UniRef50_`. With `strict` every id must have it; otherwise an id without any UniRef prefix
    is accepted as it is.
    """
    if not is_word(raw, start, end):
        return BAD_ID, 0
    found = uniref_prefix(raw, start, end)
    if found == 0:
        return (NOT_UNIREF, 0) if strict else (OK, 0)
    if not starts_with(raw, start, end, prefix):
        return WRONG_LEVEL, 0
    return (OK, found) if start + found < end else (BAD_ID, 0)


@numba.njit(cache=True, nogil=True)
def is_fragment(raw: np.ndarray, start: int, end: int) -> int:
    """1 where the name raw[start:end] says `(Fragment)` or `(Fragments)`, else 0; MISSING for white space alone."""
    found, named = 0, False
    for i in range(start, end):
        byte = raw[i]
        named = named or byte > 32
        if byte == 40 and starts_with(raw, i, end, _FRAGMENT):
            after = i + len(_FRAGMENT)
            if after < end and raw[after] == 115:
                after += 1
            if after < end and raw[after] == 41:
                found = 1
    return found if named else MISSING


@numba.njit(cache=True, nogil=True, forceinline=True)
def append(target: np.ndarray, ends: np.ndarray, n: int, raw: np.ndarray, start: int, end: int) -> None:
    """Append raw[start:end] to a buffer as its string n; ends: offsets of the strings."""
    at = ends[n]
    for i in range(end - start):
        target[at + i] = raw[start + i]
    ends[n + 1] = at + end - start
