"""The clusters of a FASTA of your own, as a table has them: representative and member, as MMseqs2 writes them."""

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.cluster.blocks import BLOCK_ROWS
from unirefine.cluster.index import KeyIndex
from unirefine.cluster.inputs import Level
from unirefine.core.idlist import inner_keys, some
from unirefine.core.ids import keys_of
from unirefine.core.pairs import read_pairs
from unirefine.core.rows import NONE
from unirefine.core.tables import iterate, numbers, string_buffers, strings_at
from unirefine.errors import UserError

_FIX = "each line has a representative, a tab and a member, as in mmseqs' _cluster.tsv"
_NAMED = 3


@dataclass(frozen=True)
class Found:
    """The clusters of n records."""

    owner: np.ndarray
    """uint32[n]: row of the record that represents the cluster of each kept record, NONE for the others."""
    lines: int
    unknown: int
    """Lines whose member is no record."""
    represented_anew: int
    """Clusters whose representative was not kept: the longest member represents them."""


def read_table(path: Path, members: Level, index: KeyIndex, lengths: np.ndarray) -> Found:
    """The clusters of the kept records. lengths: int32[n], of the kept records.

    Where an id of the FASTA is `sp|P12345|AATM_RABIT`, the table may have P12345, as MMseqs2 writes it. Raises
    UserError for a kept record that the table does not have, and for one in two clusters.
    """
    finder = _Finder(members, index)
    cluster = np.zeros(len(members.keys), np.uint64)  # the key of the representative of each record, as written
    placed = np.zeros(len(members.keys), bool)
    lines = unknown = 0
    for heads, names in read_pairs(path, "cluster table", _FIX):
        rows, keys = finder.rows(names), _keys(heads)
        lines += len(rows)
        known = rows != NONE
        unknown += int((~known).sum())
        other = _place(rows, keys, cluster, placed)
        if other >= 0:
            member, second = names[other].as_py()[:60], heads[other].as_py()[:60]
            what = f"{member} is a member of two clusters, the second one that of {second}"
            raise UserError(what, where=path, fix="a sequence is in one cluster; keep one line of it")
    missing = np.flatnonzero(members.kept & ~placed)
    if len(missing):
        names = strings_at(members.parts, "id", missing[: _NAMED + 1]).to_pylist()
        raise UserError(
            f"{len(missing):,} sequences of the FASTA are in no cluster: {some(names, _NAMED)}",
            where=path,
            fix="take the table of this FASTA; its ids are those of the headers, up to the first space",
        )
    return _owners(members, finder, cluster, lengths, lines, unknown)


class _Finder:
    """Rows of ids: by the whole id, or by the accession within it."""

    def __init__(self, members: Level, index: KeyIndex) -> None:
        self._index, rows, inner = index, [np.empty(0, np.uint32)], [np.empty(0, np.uint64)]
        for first, batch in iterate(members.parts, ["key", "id"], batch_rows=BLOCK_ROWS):
            keys = numbers(batch.column(0))
            accessions = inner_keys(keys, batch.column(1))[0]
            other = np.flatnonzero(accessions != keys)
            rows.append((first + other).astype(np.uint32))
            inner.append(accessions[other])
        self._rows, self._accessions = np.concatenate(rows), KeyIndex(np.concatenate(inner))

    def rows(self, ids: pa.Array) -> np.ndarray:
        """Row of each id, uint32[n]; NONE where there is none."""
        return self.of_keys(_keys(ids))

    def of_keys(self, keys: np.ndarray) -> np.ndarray:
        """Row of each key, uint32[n]; NONE where there is none."""
        rows = self._index.rows(keys)
        left = np.flatnonzero(rows == NONE)
        if len(self._rows) and len(left):
            found = self._accessions.rows(keys[left])
            rows[left] = np.where(found == NONE, NONE, self._rows[np.minimum(found, len(self._rows) - 1)])
        return rows


def _keys(ids: pa.Array) -> np.ndarray:
    """Keys of ids, uint64[n], without a UniRef prefix."""
    return keys_of(*string_buffers(pc.replace_substring_regex(ids, r"^UniRef\d+_", "")))


@numba.njit(cache=True)
def _place(rows, keys, cluster, placed):
    """Note the cluster of each row. Returns the first line that puts a record into a second cluster, or -1."""
    for line in range(len(rows)):
        row = rows[line]
        if row == NONE:
            continue
        if placed[row] and cluster[row] != keys[line]:
            return line
        placed[row], cluster[row] = True, keys[line]
    return -1


def _owners(
    members: Level, finder: _Finder, cluster: np.ndarray, lengths: np.ndarray, lines: int, unknown: int
) -> Found:
    """Row of the representative of each kept record: as named where that is kept, else the longest member."""
    rows = np.flatnonzero(members.kept)
    rows = rows[np.argsort(cluster[rows], kind="stable")]
    names, first = np.unique(cluster[rows], return_index=True)
    heads = finder.of_keys(names)
    present = heads != NONE
    present[present] = members.kept[heads[present]] & (cluster[heads[present]] == names[present])
    _longest(rows, np.append(first, len(rows)), lengths, members.keys, present, heads)
    owner = np.full(len(members.keys), NONE, np.uint32)
    owner[rows] = np.repeat(heads, np.diff(np.append(first, len(rows))))
    return Found(owner, lines, unknown, int((~present).sum()))


@numba.njit(cache=True)
def _longest(rows, ends, lengths, keys, present, heads):
    """Write the longest member, of equal ones that with the smallest key, of each cluster that is not `present`."""
    for cluster in range(len(heads)):
        if present[cluster]:
            continue
        best = rows[ends[cluster]]
        for at in range(ends[cluster], ends[cluster + 1]):
            row = rows[at]
            if lengths[row] > lengths[best] or (lengths[row] == lengths[best] and keys[row] < keys[best]):
                best = row
        heads[cluster] = best
