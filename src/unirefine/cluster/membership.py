"""Membership from claims: who says that which UniRef90 belongs to which UniRef50, joined on 64-bit keys.

The claims are streamed; only the two key columns, their indices and one owner per UniRef90 are in memory. For the full
release 2024_03 (65.7 million clusters, 188 million members) that is 4.5 GB. The result does not depend on the order
of the claims.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from unirefine.cluster.index import KeyIndex
from unirefine.core.levels import NONE

_PAIRS_BEFORE_SORT = 1 << 20


class Claims(NamedTuple):
    """A batch of n statements `member belongs to cluster`."""

    cluster_keys: np.ndarray
    """uint64[n]: keys of UniRef50 clusters."""
    member_keys: np.ndarray
    """uint64[n]: keys of UniRef90 clusters."""
    source: int
    """Bit of who says so: 1, 2, 4, ..."""


@dataclass
class Membership:
    """What the claims say, in row numbers of the two levels."""

    owner: np.ndarray
    """uint32[members]: row of the one cluster that a member belongs to, or NONE."""
    sources: np.ndarray
    """uint8[members]: bits of the sources that named the owner."""
    disputed: np.ndarray
    """uint32[d, 2], sorted, unique: (member row, cluster row) of every claim on a member that two clusters claim."""
    disputed_strangers: np.ndarray
    """uint64[d, 2], sorted, unique: (member row, cluster key), likewise, where the cluster is not among the records."""
    strangers: np.ndarray
    """uint64[s, 2], sorted, unique: (member row, cluster key) where the only cluster is not among the records."""
    missing: np.ndarray
    """uint64[m, 2], sorted, unique: (cluster row, member key) where the member is not among the records."""
    claims: int
    """Claims read."""


@numba.njit(cache=True)
def _assign(clusters, members, bit, owner, sources, extra):
    """Give every member its first cluster. Positions of the other claims go to extra; returns how many."""
    extras = 0
    for i in range(len(members)):
        member, cluster = members[i], clusters[i]
        if member == NONE or cluster == NONE:
            extra[extras] = i
            extras += 1
        elif owner[member] == NONE:
            owner[member] = cluster
            sources[member] |= bit
        elif owner[member] == cluster:
            sources[member] |= bit
        else:
            extra[extras] = i
            extras += 1
    return extras


def _unique_pairs(pairs: np.ndarray) -> np.ndarray:
    """Sorted rows of uint64[n, 2] without repeats."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[new]


class _Pairs:
    """A growing set of pairs of integers; repeats are dropped whenever it has doubled."""

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


def build_membership(clusters: KeyIndex, members: KeyIndex, claims: Iterable[Claims]) -> Membership:
    """Join claims with the records of both levels.

    clusters, members: index of the keys of all UniRef50 and UniRef90 records. claims: batches in any order; a claim
    may be repeated. A member that two clusters claim has no owner; both claims are in `disputed`. Uses numba's threads.

    Memory beyond the indices: 5 bytes a member, and 16 bytes for every distinct claim that is a violation.
    """
    owner = np.full(len(members.keys), NONE, np.uint32)
    sources = np.zeros(len(members.keys), np.uint8)
    rivals, strangers, missing = _Pairs(), _Pairs(), _Pairs()
    total = 0
    extra = np.empty(0, np.int64)
    for cluster_keys, member_keys, source in claims:
        cluster_rows, member_rows = clusters.rows(cluster_keys), members.rows(member_keys)
        if len(extra) < len(member_rows):
            extra = np.empty(len(member_rows), np.int64)
        count = _assign(cluster_rows, member_rows, np.uint8(source), owner, sources, extra)
        total += len(member_rows)
        if count:
            at = extra[:count]
            known_cluster, known_member = cluster_rows[at] != NONE, member_rows[at] != NONE
            both, lost, strange = (
                at[known_cluster & known_member],
                at[known_cluster & ~known_member],
                at[~known_cluster],
            )
            rivals.add(member_rows[both], cluster_rows[both])
            missing.add(cluster_rows[lost], member_keys[lost])
            strange = strange[member_rows[strange] != NONE]
            strangers.add(member_rows[strange], cluster_keys[strange])
    return _resolve(owner, sources, rivals.get(), strangers.get(), missing.get(), total)


def _resolve(owner, sources, rivals, strangers, missing, total) -> Membership:
    """Take the owner from every member that has a second claim."""
    claimed, times = np.unique(strangers[:, 0], return_counts=True)
    twice = claimed[(times > 1) | (owner[claimed.astype(np.int64)] != NONE)]
    disputed = np.unique(np.concatenate([rivals[:, 0], twice]))
    rows = disputed.astype(np.int64)
    owned = rows[owner[rows] != NONE]
    first_claims = np.stack([owned.astype(np.uint64), owner[owned].astype(np.uint64)], axis=1)
    owner[rows] = NONE
    sources[rows] = 0
    stranger_disputed = np.isin(strangers[:, 0], disputed)
    return Membership(
        owner=owner,
        sources=sources,
        disputed=_unique_pairs(np.concatenate([rivals, first_claims])).astype(np.uint32),
        disputed_strangers=strangers[stranger_disputed],
        strangers=strangers[~stranger_disputed],
        missing=missing,
        claims=total,
    )
