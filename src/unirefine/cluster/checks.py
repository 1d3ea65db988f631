"""Checks of a membership against what the entries state, and texts for what does not hold."""

from collections.abc import Iterator

import numba
import numpy as np
import pyarrow as pa

from unirefine.cluster.membership import Membership
from unirefine.core.ids import OTHER, id_of
from unirefine.core.levels import NONE
from unirefine.core.tables import Parts, iterate, numbers, strings_at

_NOT_STATED = -1
_BLOCK = 1 << 20


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


class Listings:
    """Entries of one level that list another number of members than they state."""

    def __init__(self) -> None:
        self.checked = 0
        """Entries that state and list members."""
        self._wrong: list[np.ndarray] = []

    def add(self, first: int, stated: np.ndarray, listed: np.ndarray) -> None:
        """Compare a batch that begins at row `first`. stated, listed: int[n], -1 where there is none."""
        both = (stated != _NOT_STATED) & (listed != _NOT_STATED)
        self.checked += int(both.sum())
        rows = np.flatnonzero(both & (stated != listed))
        if len(rows):
            self._wrong.append(np.stack([first + rows, stated[rows], listed[rows]], axis=1).astype(np.int64))

    def wrong(self) -> np.ndarray:
        """int64[n, 3], by row: row, members stated, members listed."""
        return np.concatenate(self._wrong) if self._wrong else np.empty((0, 3), np.int64)


class MemberCounts:
    """Members of UniRef50 clusters, counted and stated.

    Both levels state how many UniProtKB and UniParc members an entry has. A UniRef50 cluster is made of whole UniRef90
    clusters, so its count is the sum of theirs.
    """

    def __init__(self, clusters: Parts, members: Parts, owner: np.ndarray) -> None:
        """owner: uint32[member records], row of the cluster or NONE. Memory: 12 bytes a cluster."""
        self.stated = np.empty(clusters.rows, np.int32)
        """int32[clusters]: what the cluster's entry states, -1 where it does not."""
        self.sums = np.zeros(clusters.rows, np.int32)
        """int32[clusters]: sum of what its members' entries state, -1 where one does not."""
        self.members = np.zeros(clusters.rows, np.int32)
        """int32[clusters]: UniRef90 members by record, whether curate kept them or not."""
        self.listings = {level: Listings() for level in (clusters.level, members.level)}
        """By level: whether entries list as many members as they state."""
        for first, stated in self._read(clusters):
            self.stated[first : first + len(stated)] = stated
        for first, stated in self._read(members):
            _add_counts(stated, owner[first : first + len(stated)], self.sums, self.members)

    def _read(self, parts: Parts) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, member counts stated int32[n], -1 where not) in batches, compared with what is listed."""
        for first, batch in iterate(parts, ["member_count", "listed_members"], batch_rows=_BLOCK):
            stated = numbers(batch.column(0), _NOT_STATED).astype(np.int32, copy=False)
            self.listings[parts.level].add(first, stated, numbers(batch.column(1), _NOT_STATED))
            yield first, stated

    def checkable(self) -> np.ndarray:
        """bool[clusters]: both sides state their counts, and the cluster has members."""
        return (self.stated != _NOT_STATED) & (self.sums != _NOT_STATED) & (self.members > 0)

    def wrong(self) -> np.ndarray:
        """Rows of the checkable clusters whose count is not the sum of their members': int64[n], ascending."""
        return np.flatnonzero(self.checkable() & (self.stated != self.sums))

    def text(self, row: int) -> str:
        """What is wrong with one cluster."""
        return f"states {self.stated[row]} members, its {self.members[row]} UniRef90 clusters state {self.sums[row]}"


def member_name(key: int, prefix: str) -> str:
    """Id of a key that no record has; a hashed id cannot be told."""
    return prefix + (id_of(key) if key >> 62 != OTHER else f"(key {key})")


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in pieces whose strings fit into memory."""
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]


def cluster_names(parts: Parts, rows: np.ndarray) -> pa.Array:
    """Ids of clusters by row, in any order and with repeats. rows: unsigned[n]; returns n strings."""
    distinct, inverse = np.unique(rows, return_inverse=True)
    return strings_at(parts, "id", distinct).take(pa.array(inverse))


def disputes(membership: Membership, clusters: Parts) -> tuple[np.ndarray, list[str]]:
    """Members that several clusters claim: (rows int64[n], ascending, and n texts that name the clusters)."""
    names: dict[int, list[str]] = {}
    claimed = cluster_names(clusters, membership.disputed[:, 1]).to_pylist()
    for row, name in zip(membership.disputed[:, 0].tolist(), claimed, strict=True):
        names.setdefault(row, []).append(name)
    for row, key in membership.disputed_strangers.tolist():
        names.setdefault(row, []).append(f"{member_name(key, 'UniRef50_')} (not among the records)")
    rows = np.array(sorted(names), np.int64)
    return rows, [", ".join(sorted(names[row])) for row in rows.tolist()]
