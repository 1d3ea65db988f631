"""What the names alone say: UniRef90_K belongs to UniRef50_K.

An entry is named after its representative K, which is a member of it; UniRef50 clusters are made of whole UniRef90
clusters. So where both entries exist, K is in both, and the one belongs to the other. No source is needed for it.
"""

from typing import NamedTuple

import numpy as np

from unirefine.cluster.checks import blocks, cluster_names
from unirefine.cluster.index import KeyIndex
from unirefine.cluster.membership import Membership
from unirefine.core.levels import NONE
from unirefine.core.removed import Removed
from unirefine.core.tables import Parts, strings_at

_BLOCK = 1 << 22


class Named(NamedTuple):
    """Members whose name is that of a cluster."""

    placed: int
    """Members that no source names, put into the cluster of their name."""
    elsewhere: np.ndarray
    """int64[n], ascending: rows of members that a source puts into a cluster of another name."""


def apply_names(membership: Membership, clusters: KeyIndex, members: KeyIndex, *, place: bool) -> Named:
    """Compare the owners with the names; place: also give members that no source names their owner, in place.

    A claim always wins, and a member whose claims contradict each other or name a cluster that is not there stays
    without owner. Memory: blocks of 4 million members. Uses numba's threads.
    """
    owner, elsewhere, placed = membership.owner, [], 0
    told = np.concatenate(
        [pairs[:, 0] for pairs in (membership.disputed, membership.disputed_strangers, membership.strangers)]
    )
    told = np.unique(told.astype(np.int64))
    for start in range(0, len(owner), _BLOCK):
        owners = owner[start : start + _BLOCK]
        own = clusters.rows(members.keys[start : start + _BLOCK])
        known, owned = own != NONE, owners != NONE
        elsewhere.append(start + np.flatnonzero(known & owned & (owners != own)))
        if place:
            free = known & ~owned
            free[told[np.searchsorted(told, start) : np.searchsorted(told, start + len(owners))] - start] = False
            owners[free] = own[free]
            placed += int(free.sum())
    return Named(placed, np.concatenate(elsewhere) if elsewhere else np.empty(0, np.int64))


def list_elsewhere(violations: Removed, named: Named, owner: np.ndarray, clusters: Parts, members: Parts) -> None:
    """List the members in a cluster of another name, as `named_elsewhere`. owner: uint32[members]."""
    for rows in blocks(named.elsewhere):
        names = strings_at(members, "id", rows)
        evidence = [
            f"in {cluster}, although {name.replace('UniRef90_', 'UniRef50_', 1)} exists"
            for name, cluster in zip(names.to_pylist(), cluster_names(clusters, owner[rows]).to_pylist(), strict=True)
        ]
        violations.add("uniref90", "named_elsewhere", names, evidence)
