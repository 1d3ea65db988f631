"""What becomes of every cluster and member, given the membership and what curate kept."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from unirefine.cluster.checks import Listings, MemberCounts, blocks, cluster_names, disputes, member_name
from unirefine.cluster.claims import FROM_UNIREF50
from unirefine.cluster.membership import Membership
from unirefine.core.levels import NONE
from unirefine.core.removed import Removed
from unirefine.core.tables import Parts, strings_at
from unirefine.errors import UserError

_SHOWN = 3
_BLOCK = 1 << 22


class Fate:
    """Which members stay, and why the others go. Takes `membership.owner` over."""

    def __init__(
        self,
        membership: Membership,
        *,
        kept_clusters: np.ndarray,
        kept_members: np.ndarray,
        removed_clusters: np.ndarray,
        removed_members: np.ndarray,
        unrepresented: np.ndarray,
    ) -> None:
        """kept_*: bool[records], what curate kept. removed_*: uint64[n], keys of what the records stage removed.

        unrepresented: int64[n], rows of kept clusters that go because their representative is gone; they are taken out
        of kept_clusters.
        """
        self.membership = membership
        self.unrepresented = unrepresented
        kept_clusters[unrepresented] = False
        self.kept_clusters, self.kept_members = kept_clusters, kept_members
        self.owner: np.ndarray = membership.owner
        """uint32[members]: cluster row of a member, NONE where it has none or two."""
        strange_rows = membership.strangers[:, 0].astype(np.int64)
        dropped = np.isin(membership.strangers[:, 1], removed_clusters)
        self.strangers = {int(row): int(key) for row, key in membership.strangers.tolist()}
        """Member row to the key of its only cluster, where that is not among the records."""
        self.dropped_rows = strange_rows[dropped & kept_members[strange_rows]]
        """int64[n]: kept members whose cluster the records stage removed."""
        disputed = np.union1d(membership.disputed[:, 0], membership.disputed_strangers[:, 0]).astype(np.int64)
        self.disputed_rows = disputed[kept_members[disputed]]
        """int64[n]: kept members that two clusters claim."""
        homeless = kept_members & (self.owner == NONE)
        homeless[self.disputed_rows] = False
        homeless[self.dropped_rows] = False
        self.homeless_rows = np.flatnonzero(homeless)
        """int64[n]: kept members that no cluster of the release claims."""
        self.missing = membership.missing[~np.isin(membership.missing[:, 1], removed_members)]
        """uint64[n, 2]: (cluster row, key) of members that are named, but neither a record nor removed as one."""
        self.clusters_left = self._clusters_left()
        """bool[clusters]: kept clusters with at least one kept member."""

    def _clusters_left(self) -> np.ndarray:
        left = np.zeros(len(self.kept_clusters), bool)
        for start in range(0, len(self.owner), _BLOCK):
            owners = self.owner[start : start + _BLOCK]
            left[owners[self.kept_members[start : start + _BLOCK] & (owners != NONE)]] = True
        return left & self.kept_clusters

    def followers(self) -> np.ndarray:
        """Kept members of clusters that curate removed or that lost their representative: rows int64[n], ascending."""
        found = []
        for start in range(0, len(self.owner), _BLOCK):
            owners = self.owner[start : start + _BLOCK]
            rows = np.flatnonzero(self.kept_members[start : start + _BLOCK] & (owners != NONE))
            found.append(start + rows[~self.kept_clusters[owners[rows]]])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def take_cluster_of(self, position: np.ndarray) -> np.ndarray:
        """Turn owners into cluster indices in place: uint32[members], NONE for a member that goes.

        position: uint32[clusters], index of each cluster that is left, NONE for the others.
        """
        for start in range(0, len(self.owner), _BLOCK):
            owners = self.owner[start : start + _BLOCK]
            placed = self.kept_members[start : start + _BLOCK] & (owners != NONE)
            owners[placed] = position[owners[placed]]
            owners[~placed] = NONE
        return self.owner

    def raise_violations(self, clusters: Parts, members: Parts, listings: dict[str, Listings]) -> None:
        """Raise UserError for kept members in no UniRef50 or in two, and for entries that list not what they state."""
        other = "with another number of members than stated"
        found = (
            ("UniRef90 in no UniRef50", members, self.homeless_rows),
            ("UniRef90 in two UniRef50", members, self.disputed_rows),
            (f"UniRef50 {other}", clusters, listings[clusters.level].wrong()[:, 0]),
            (f"UniRef90 {other}", members, listings[members.level].wrong()[:, 0]),
        )
        texts = [
            f"{len(rows)} {what} (such as {', '.join(strings_at(parts, 'id', rows[:_SHOWN]).to_pylist())})"
            for what, parts, rows in found
            if len(rows)
        ]
        if texts:
            raise UserError(
                " and ".join(texts),
                where=members.paths[0].parent,
                fix="cluster.violations: remove lists them and drops those in no UniRef50 or two",
            )


def remove(
    removed: Removed,
    fate: Fate,
    clusters: Parts,
    members: Parts,
    member_counts: np.ndarray,
    sources: Sequence[str],
    gone: dict[int, str],
) -> None:
    """List every cluster and member that goes.

    member_counts: int32[clusters], members by the sources. gone: rows of `fate.unrepresented` to the reason for which
    the representative was removed at UniRef90.
    """
    for rows in blocks(fate.unrepresented):
        names = strings_at(clusters, "id", rows).to_pylist()
        evidence = [
            f"{name.replace('UniRef50_', 'UniRef90_', 1)} ({gone[row]})"
            for name, row in zip(names, rows.tolist(), strict=True)
        ]
        removed.add("uniref50", "cluster_removed", names, evidence)
    for rows in blocks(fate.followers()):
        evidence = cluster_names(clusters, fate.owner[rows])
        removed.add("uniref90", "cluster_removed", strings_at(members, "id", rows), evidence)
    for rows in blocks(fate.dropped_rows):
        evidence = [member_name(fate.strangers[row], "UniRef50_") for row in rows.tolist()]
        removed.add("uniref90", "cluster_removed", strings_at(members, "id", rows), evidence)
    _list_unplaced(removed, fate, clusters, members, sources)
    for rows in blocks(np.flatnonzero(fate.kept_clusters & ~fate.clusters_left)):
        evidence = [
            f"none of its {count} UniRef90 members was kept" if count else "no UniRef90 belongs to it"
            for count in member_counts[rows].tolist()
        ]
        removed.add("uniref50", "no_members", strings_at(clusters, "id", rows), evidence)


def _list_unplaced(removed: Removed, fate: Fate, clusters: Parts, members: Parts, sources: Sequence[str]) -> None:
    nobody = f"{' and '.join(sources)} put{'' if len(sources) > 1 else 's'} it in no UniRef50"
    for rows in blocks(fate.homeless_rows):
        evidence = [
            f"{member_name(fate.strangers[row], 'UniRef50_')} is not among the records"
            if row in fate.strangers
            else nobody
            for row in rows.tolist()
        ]
        removed.add("uniref90", "no_cluster", strings_at(members, "id", rows), evidence)
    rows, texts = disputes(fate.membership, clusters)
    for row_block in blocks(np.flatnonzero(fate.kept_members[rows])):
        evidence = [texts[at] for at in row_block.tolist()]
        removed.add("uniref90", "two_clusters", strings_at(members, "id", rows[row_block]), evidence)


def list_violations(
    violations: Removed,
    fate: Fate,
    counts: MemberCounts,
    clusters: Parts,
    members: Parts,
    sources: Sequence[str],
) -> None:
    """List everything in the release that contradicts itself, whether or not it makes something go.

    two_clusters, no_cluster: as removed. listed_members: an entry lists another number of members than it states.
    member_count: a UniRef50 whose count is not the sum of its UniRef90s'.
    missing_member: a UniRef50 names a UniRef90 that is not there. one_source: only one of two XML files says so.
    """
    _list_unplaced(violations, fate, clusters, members, sources)
    for rows in blocks(counts.wrong()):
        texts = [counts.text(row) for row in rows.tolist()]
        violations.add("uniref50", "member_count", strings_at(clusters, "id", rows), texts)
    for parts in (clusters, members):
        for wrong in blocks(counts.listings[parts.level].wrong()):
            texts = [f"states {stated} members, lists {listed}" for _row, stated, listed in wrong.tolist()]
            violations.add(parts.level, "listed_members", strings_at(parts, "id", wrong[:, 0]), texts)
    for pairs in blocks(fate.missing):
        texts = [
            f"names {member_name(key, 'UniRef90_')}, which is not among the records" for _row, key in pairs.tolist()
        ]
        violations.add("uniref50", "missing_member", cluster_names(clusters, pairs[:, 0]), texts)
    if len(sources) == 2:
        owned, seen = fate.owner != NONE, fate.membership.sources
        for rows in blocks(np.flatnonzero(owned & (seen != 3))):
            names = cluster_names(clusters, fate.owner[rows]).to_pylist()
            texts = [
                f"{sources[0 if seen[row] == FROM_UNIREF50 else 1]} alone puts it in {name}"
                for row, name in zip(rows.tolist(), names, strict=True)
            ]
            violations.add("uniref90", "one_source", strings_at(members, "id", rows), pa.array(texts))
