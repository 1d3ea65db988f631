"""Join claims (`member belongs to cluster`) with the records of both levels, on 64-bit keys.

The claims are streamed. In memory are the keys of both levels, their indices, and one owner per UniRef90: 4.5 GB for
release 2024_03 (65.7 million clusters, 188 million members). The result does not depend on the order of the claims.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from unirefine.cluster.index import KeyIndex
from unirefine.core.rows import NONE

_PAIRS_BEFORE_SORT = 1 << 20


class Claims(NamedTuple):
    """A batch of n claims `member belongs to cluster`."""

    cluster_keys: np.ndarray
    """uint64[n]: keys of UniRef50 clusters."""
    member_keys: np.ndarray
    """uint64[n]: keys of UniRef90 clusters."""
    source: int
    """Bit of the source that makes the claim: 1, 2 or 4."""


@dataclass(frozen=True)
class Membership:
    """What the claims say, in row numbers of the two levels."""

    owner: np.ndarray
    """uint32[members]: row of the one cluster that a member belongs to, or NONE."""
    sources: np.ndarray
    """uint8[members]: bits of the sources that named the owner."""
    conflicting_claims: np.ndarray
    """uint32[n, 2], sorted, unique: (member row, cluster row) of the claims on members that two clusters claim."""
    conflicting_unknown_claims: np.ndarray
    """uint64[n, 2], sorted, unique: (member row, cluster key), the same where the cluster is not among the records."""
    unknown_cluster_claims: np.ndarray
    """uint64[n, 2], sorted, unique: (member row, cluster key) where the only cluster is not among the records."""
    unknown_member_claims: np.ndarray
    """uint64[n, 2], sorted, unique: (cluster row, member key) where the member is not among the records."""
    claims: int
    """Claims read."""


def join_claims(claims: Iterable[Claims], clusters: KeyIndex, members: KeyIndex) -> Membership:
    """Find the owner of each member. A member that two clusters claim has none.

    claims: batches in any order; a claim may be repeated. clusters, members: keys of all UniRef50 and UniRef90 records.
    Memory beyond the indices: 5 bytes a member, and 16 bytes for each distinct claim that is a violation. Uses numba's
    threads.
    """
    owner = np.full(len(members.keys), NONE, np.uint32)
    sources = np.zeros(len(members.keys), np.uint8)
    rivals, unknown_clusters, unknown_members = _Pairs(), _Pairs(), _Pairs()
    total = 0
    others = np.empty(0, np.int64)
    for cluster_keys, member_keys, source in claims:
        cluster_rows, member_rows = clusters.rows(cluster_keys), members.rows(member_keys)
        if len(others) < len(member_rows):
            others = np.empty(len(member_rows), np.int64)
        count = _set_owners(cluster_rows, member_rows, np.uint8(source), owner, sources, others)
        total += len(member_rows)
        if count:
            at = others[:count]
            known_cluster, known_member = cluster_rows[at] != NONE, member_rows[at] != NONE
            both, no_member, no_cluster = (
                at[known_cluster & known_member],
                at[known_cluster & ~known_member],
                at[~known_cluster & known_member],
            )
            rivals.add(member_rows[both], cluster_rows[both])
            unknown_members.add(cluster_rows[no_member], member_keys[no_member])
            unknown_clusters.add(member_rows[no_cluster], cluster_keys[no_cluster])
    return _separate_conflicts(owner, sources, rivals.get(), unknown_clusters.get(), unknown_members.get(), total)


@numba.njit(cache=True)
def _set_owners(clusters, members, bit, owner, sources, others):
    """Give every member the first cluster that claims it. Positions of other claims go to others; returns how many."""
    count = 0
    for i in range(len(members)):
        member, cluster = members[i], clusters[i]
        if member == NONE or cluster == NONE:
            others[count] = i
            count += 1
        elif owner[member] == NONE:
            owner[member] = cluster
            sources[member] |= bit
        elif owner[member] == cluster:
            sources[member] |= bit
        else:
            others[count] = i
            count += 1
    return count


class _Pairs:
    """A growing set of pairs of integers. Repeats are dropped whenever it has doubled."""

    def __init__(self) -> None:
        self._set, self._new, self._count = np.empty((0, 2), np.uint64), [], 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Add n pairs. first, second: unsigned[n]."""
        if len(first):
            self._new.append(np.stack([first.astype(np.uint64), second.astype(np.uint64)], axis=1))
            self._count += len(first)
            if self._count > len(self._set) + _PAIRS_BEFORE_SORT:
                self.get()

    def get(self) -> np.ndarray:
        """All pairs: uint64[n, 2], sorted, no pair twice."""
        self._set = _unique_pairs(np.concatenate([self._set, *self._new]))
        self._new, self._count = [], 0
        return self._set


def _unique_pairs(pairs: np.ndarray) -> np.ndarray:
    """Sorted rows of uint64[n, 2] without repeats."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[new]


def _separate_conflicts(owner, sources, rivals, unknown_clusters, unknown_members, total) -> Membership:
    """Take the owner from every member that has a second claim; all its claims are conflicting ones."""
    claimed, times = np.unique(unknown_clusters[:, 0], return_counts=True)
    twice = claimed[(times > 1) | (owner[claimed.astype(np.int64)] != NONE)]
    in_conflict = np.unique(np.concatenate([rivals[:, 0], twice]))
    rows = in_conflict.astype(np.int64)
    owned = rows[owner[rows] != NONE]
    first_claims = np.stack([owned.astype(np.uint64), owner[owned].astype(np.uint64)], axis=1)
    owner[rows] = NONE
    sources[rows] = 0
    conflicting = np.isin(unknown_clusters[:, 0], in_conflict)
    return Membership(
        owner=owner,
        sources=sources,
        conflicting_claims=_unique_pairs(np.concatenate([rivals, first_claims])).astype(np.uint32),
        conflicting_unknown_claims=unknown_clusters[conflicting],
        unknown_cluster_claims=unknown_clusters[~conflicting],
        unknown_member_claims=unknown_members,
        claims=total,
    )
