"""Whether the entries have as many members as they state."""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

from unirefine.cluster.blocks import BLOCK_ROWS
from unirefine.core.rows import NONE
from unirefine.core.tables import Parts, iterate, numbers

_NOT_STATED = -1


@dataclass(frozen=True)
class Checked:
    """What one check found."""

    entries: int
    """Entries that could be checked."""
    wrong: np.ndarray
    """int64[n, columns], by row: the row of an entry, then the numbers that do not agree."""


@dataclass(frozen=True)
class MemberCounts:
    """Members of the entries, counted and stated.

    Both levels state how many UniProtKB and UniParc members an entry has. A UniRef50 cluster is made of whole UniRef90
    clusters, so its count is the sum of theirs.
    """

    members: np.ndarray
    """int32[clusters]: UniRef90 members by record, whether curate kept them or not."""
    sums: Checked
    """UniRef50 clusters: row, members stated, UniRef90 members, sum of what these state."""
    listed: dict[str, Checked]
    """Entries of each level: row, members stated, members listed."""


def count_members(clusters: Parts, members: Parts, owner: np.ndarray) -> MemberCounts:
    """Count and compare. owner: uint32[members], row of the cluster or NONE. Memory: 12 bytes a cluster.

    A sum is checked where the cluster and all of its members state their counts, a list where the entry states and
    lists members.
    """
    stated = np.empty(clusters.rows, np.int32)
    sums, n_members = np.zeros(clusters.rows, np.int32), np.zeros(clusters.rows, np.int32)
    lists = {clusters.level: [], members.level: []}
    for first, counts, listed in _read_counts(clusters):
        lists[clusters.level].append(_compare(first, counts, listed))
        stated[first : first + len(counts)] = counts
    for first, counts, listed in _read_counts(members):
        lists[members.level].append(_compare(first, counts, listed))
        _add_counts(counts, owner[first : first + len(counts)], sums, n_members)
    comparable = (stated != _NOT_STATED) & (sums != _NOT_STATED) & (n_members > 0)
    wrong = np.flatnonzero(comparable & (stated != sums))
    table = np.stack([wrong, stated[wrong], n_members[wrong], sums[wrong]], axis=1)
    return MemberCounts(n_members, Checked(int(comparable.sum()), table), {k: _all(v) for k, v in lists.items()})


def _read_counts(parts: Parts) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Batches of (first row, members stated int32[n], members listed int32[n]); -1 where there is no number."""
    for first, batch in iterate(parts, ["member_count", "listed_members"], batch_rows=BLOCK_ROWS):
        stated, listed = (numbers(column, _NOT_STATED).astype(np.int32, copy=False) for column in batch.columns)
        yield first, stated, listed


def _compare(first: int, stated: np.ndarray, listed: np.ndarray) -> Checked:
    """Compare a batch that begins at row `first`."""
    both = (stated != _NOT_STATED) & (listed != _NOT_STATED)
    rows = np.flatnonzero(both & (stated != listed))
    return Checked(int(both.sum()), np.stack([first + rows, stated[rows], listed[rows]], axis=1))


def _all(batches: list[Checked]) -> Checked:
    """What was found in all batches of a level."""
    nothing = np.empty((0, 3), np.int64)
    return Checked(sum(one.entries for one in batches), np.concatenate([nothing, *(one.wrong for one in batches)]))


@numba.njit(cache=True)
def _add_counts(counts, owner, sums, members):
    for row in range(len(owner)):
        cluster = owner[row]
        if cluster == NONE:
            continue
        members[cluster] += 1
        if counts[row] == _NOT_STATED or sums[cluster] == _NOT_STATED:
            sums[cluster] = _NOT_STATED
        else:
            sums[cluster] += counts[row]
