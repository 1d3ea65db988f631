"""Which members and clusters stay, and which go for which reason: arrays in, row numbers out."""

from dataclasses import dataclass

import numpy as np

from unirefine.cluster.blocks import blocks
from unirefine.cluster.membership import Membership
from unirefine.core.rows import NONE


@dataclass(frozen=True)
class Assignment:
    """Which clusters stay, and what goes for which reason. Rows are int64[n], ascending, of what curate kept."""

    clusters_left: np.ndarray
    """bool[clusters]: clusters with at least one kept member."""
    clusters_without_representative: np.ndarray
    """Rows of clusters that go because their representative was removed."""
    clusters_without_members: np.ndarray
    """Rows of other clusters, of whose members curate kept none."""
    members_without_cluster: np.ndarray
    """Rows of members that no cluster claims, or only one that is not in the release."""
    members_in_two_clusters: np.ndarray
    """Rows of members that two clusters claim."""
    members_of_removed_clusters: np.ndarray
    """Rows of members whose cluster curate removed, or that goes as its representative was removed."""
    members_of_bad_clusters: np.ndarray
    """Rows of members whose only cluster is an entry that the records stage removed."""


def assign(
    membership: Membership,
    kept_clusters: np.ndarray,
    kept_members: np.ndarray,
    removed_clusters: np.ndarray,
    without_representative: np.ndarray,
) -> Assignment:
    """Sort out which kept members have a cluster that stays.

    kept_*: bool[records], what curate kept. removed_clusters: uint64[n], keys of UniRef50 entries that the records
    stage removed. without_representative: int64[n], rows of clusters whose representative was removed, kept or not.
    """
    owner = membership.owner
    conflicts = (membership.conflicting_claims, membership.conflicting_unknown_claims)
    in_two = np.unique(np.concatenate([pairs[:, 0].astype(np.int64) for pairs in conflicts]))
    unknown = membership.unknown_cluster_claims
    of_bad = unknown[np.isin(unknown[:, 1], removed_clusters), 0].astype(np.int64)
    without = kept_members & (owner == NONE)
    without[in_two] = False
    without[of_bad] = False
    stays = kept_clusters.copy()
    stays[without_representative] = False
    populated = np.zeros(len(stays), bool)
    of_removed = [np.empty(0, np.int64)]
    for block in blocks(len(owner)):
        rows = np.flatnonzero(kept_members[block] & (owner[block] != NONE))
        clusters = owner[block][rows]
        populated[clusters] = True
        of_removed.append(block.start + rows[~stays[clusters]])
    return Assignment(
        clusters_left=stays & populated,
        clusters_without_representative=without_representative[kept_clusters[without_representative]],
        clusters_without_members=np.flatnonzero(stays & ~populated),
        members_without_cluster=np.flatnonzero(without),
        members_in_two_clusters=in_two[kept_members[in_two]],
        members_of_removed_clusters=np.concatenate(of_removed),
        members_of_bad_clusters=of_bad[kept_members[of_bad]],
    )
