"""What the names alone say: UniRef90_K belongs to UniRef50_K.

An entry is named after its representative K, which is a member of it, and UniRef50 clusters are made of whole UniRef90
clusters. So where both entries exist, K is in both, and the one belongs to the other. No source is needed for it.
"""

from typing import NamedTuple

import numpy as np

from unirefine.cluster.blocks import blocks
from unirefine.cluster.index import KeyIndex
from unirefine.cluster.membership import Membership
from unirefine.core.rows import NONE


class Named(NamedTuple):
    """What comes of the UniRef90 that bear the name of a UniRef50."""

    assigned: int
    """Members that no source names, and that were put into the cluster of their name."""
    elsewhere: np.ndarray
    """int64[n], ascending: rows of members that a source puts into a cluster of another name."""
    without_representative: np.ndarray
    """int64[n], ascending: rows of clusters whose representative was removed as a UniRef90 entry."""


def compare_names(
    membership: Membership,
    clusters: KeyIndex,
    members: KeyIndex,
    kept_members: np.ndarray,
    removed_members: np.ndarray,
    *,
    assign: bool,
) -> Named:
    """Compare the owners with the names, and find the clusters whose representative was removed.

    clusters, members: keys of all records. kept_members: bool[members], what curate kept. removed_members: uint64[n],
    keys of UniRef90 entries that the records stage removed. assign: give members that no source names the cluster of
    their name, in `membership.owner`. A claim always wins: a member with conflicting claims, or claimed by a cluster
    that is not among the records, stays without owner.

    The representative of a UniRef50 may have been removed at UniRef90 alone: the common taxon of the larger cluster is
    less exact, and the records stage looks at each file by itself. The removed sequence must not validate, be searched
    with, or stand for its cluster. A representative that is no UniRef90 of this release counts as present.

    Uses numba's threads.
    """
    claims = (
        membership.conflicting_claims,
        membership.conflicting_unknown_claims,
        membership.unknown_cluster_claims,
    )
    claimed = np.unique(np.concatenate([pairs[:, 0].astype(np.int64) for pairs in claims]))
    never_records = removed_members[members.rows(removed_members) == NONE]
    elsewhere, assigned, removed = [np.empty(0, np.int64)], 0, [clusters.rows(never_records)]
    for block in blocks(len(membership.owner)):
        owner, same_name = membership.owner[block], clusters.rows(members.keys[block])
        known, owned = same_name != NONE, owner != NONE
        elsewhere.append(block.start + np.flatnonzero(known & owned & (owner != same_name)))
        removed.append(same_name[known & ~kept_members[block]])
        if assign:
            free = known & ~owned
            first, last = np.searchsorted(claimed, [block.start, block.stop])
            free[claimed[first:last] - block.start] = False
            owner[free] = same_name[free]
            assigned += int(free.sum())
    rows = np.unique(np.concatenate(removed))
    return Named(assigned, np.concatenate(elsewhere), rows[rows != NONE].astype(np.int64))
