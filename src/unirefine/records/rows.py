"""Rows of a data set, which come as Arrow columns, to the columns of the records: one compiled pass over a batch."""

from dataclasses import replace

import numba
import numpy as np
import pyarrow as pa

from unirefine.core.ids import pack
from unirefine.core.published import Rows
from unirefine.core.tables import string_buffers
from unirefine.records.columns import MEMBERS, OK, Parsed, allocate, append, id_status, to_arrow, with_side
from unirefine.records.residues import copy_checked, copy_letters, count_stops, finish, sample_letters, upper_case


@numba.njit(cache=True, nogil=True)
def _keys(raw, ends, prefix, keys, status):
    for row in range(len(ends) - 1):
        status[row], skip = id_status(raw, ends[row], ends[row + 1], prefix, False)
        keys[row] = pack(raw, ends[row] + skip, ends[row + 1]) if status[row] == OK else np.uint64(0)


def keys_of(ids: pa.Array, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Keys uint64[n] of ids, string[n], and their statuses uint8[n] (records.columns).

    prefix: as in `UniRef90_`. An id may be without any UniRef prefix, but not with that of another level.
    """
    keys, status = np.empty(len(ids), np.uint64), np.empty(len(ids), np.uint8)
    _keys(*string_buffers(ids), np.frombuffer(prefix.encode(), np.uint8), keys, status)
    return keys, status


def parse(rows: Rows, level: str) -> Parsed:
    """The records of a level that rows hold, and at uniref90 one claim each: to which cluster it belongs.

    The row numbers take the place of offsets in a stream. The ids have been checked.
    """
    assert rows.sequences is not None
    ids, prefix = (rows.members, "UniRef90_") if level == "uniref90" else (rows.clusters, "UniRef50_")
    n = len(ids)
    id_raw, id_ends = string_buffers(ids)
    raw, ends = string_buffers(rows.sequences)
    columns = allocate(n, int(max(ends[-1] - ends[0], id_ends[-1] - id_ends[0])), n)
    _parse(id_raw, id_ends, raw, ends, np.frombuffer(prefix.encode(), np.uint8), columns)
    columns.begin[:n] = rows.numbers
    letters = np.zeros(256, np.int64)
    sample_letters(columns.seq, columns.seq_end[n], letters)
    parsed = with_side(to_arrow(columns, n, 0, with_members=False, letters=letters), rows.side)
    if level != "uniref90":
        return parsed
    clusters, _status = keys_of(rows.clusters, "UniRef50_")
    members = pa.RecordBatch.from_arrays([pa.array(columns.key[:n]), pa.array(clusters)], schema=MEMBERS)
    return replace(parsed, members=members, member_end=np.arange(n + 1))


@numba.njit(cache=True, nogil=True)
def _parse(id_raw, id_ends, raw, ends, prefix, out):
    for n in range(len(id_ends) - 1):
        start, end = id_ends[n], id_ends[n + 1]
        out.status[n], skip = id_status(id_raw, start, end, prefix, False)
        out.key[n] = pack(id_raw, start + skip, end)
        append(out.id, out.id_end, n, id_raw, start, end)
        out.rep_end[n + 1] = out.rep_end[n]
        out.taxon[n] = out.rep_taxon[n] = out.count[n] = -1
        begin, stop, first = ends[n], ends[n + 1], out.seq_end[n]
        at, lower, stops = first + stop - begin, False, 0
        if not copy_letters(raw[begin:stop], out.seq[first:at]):
            lower = copy_checked(raw, begin, stop, out.seq, first, out.status, out.detail, n)
            if out.status[n] != OK:
                out.detail[n, 0] -= begin  # the position within the sequence
            upper_case(out.seq, first, at)
            stops = count_stops(out.seq, first, at)
        out.seq_end[n + 1] = finish(out.seq, out.status, out.stats, n, first, at, lower, stops)
