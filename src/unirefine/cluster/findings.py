"""What removed.parquet and violations.parquet list: records of a level, for which reason, with which evidence.

A finding holds row numbers; ids and evidence become strings only when they are written, a block at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unirefine.cluster.assignment import Assignment
from unirefine.cluster.blocks import blocks
from unirefine.cluster.checks import MemberCounts
from unirefine.cluster.claims import FROM_UNIREF50, FROM_UNIREF90
from unirefine.cluster.membership import Membership
from unirefine.core.ids import OTHER, id_of
from unirefine.core.removed import removed_writer
from unirefine.core.rows import NONE
from unirefine.core.tables import Parts, strings_at, take_strings
from unirefine.errors import UserError

_NAMED = 3


class Finding(NamedTuple):
    """Records of one level that are listed for one reason."""

    parts: Parts
    reason: str
    rows: np.ndarray
    """int64[n], ascending; a record may be listed several times."""
    about: tuple[Parts, np.ndarray] | None = None
    """n records that the evidence names, in any order: their level, and rows [n]."""
    evidence: Callable[[slice, Sequence[str], Sequence[str]], Sequence[str]] | None = None
    """Texts for a slice of the n rows, given their ids and the ids of `about`. Without it, the latter are the texts."""


def write_findings(path: Path, findings: Iterable[Finding]) -> dict[str, Counter[str]]:
    """Write a table like removed.parquet; returns how many were listed by level and reason."""
    with removed_writer(path) as listed:
        for parts, reason, rows, about, evidence in findings:
            for block in blocks(len(rows)):
                ids = strings_at(parts, "id", rows[block]).to_pylist()
                others = take_strings(about[0], "id", about[1][block]).to_pylist() if about else []
                listed.add(parts.level, reason, ids, evidence(block, ids, others) if evidence else others)
    return listed.counts


def find_removals(
    membership: Membership,
    assignment: Assignment,
    counts: MemberCounts,
    clusters: Parts,
    members: Parts,
    sources: Sequence[str],
    reasons: Sequence[str],
) -> Iterator[Finding]:
    """What goes: members without a cluster or with two, and what goes with another record.

    sources: names of where the claims come from. reasons: for which reason the representative of each of
    `assignment.clusters_without_representative` was removed as a UniRef90 entry.
    """
    yield from _find_unassigned(membership, assignment, clusters, members, sources)

    def representative(block: slice, ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        names = [name.replace("UniRef50_", "UniRef90_", 1) for name in ids]
        return [f"{name} ({reason})" for name, reason in zip(names, reasons[block], strict=True)]

    yield Finding(clusters, "cluster_removed", assignment.clusters_without_representative, evidence=representative)
    rows = assignment.members_of_removed_clusters
    yield Finding(members, "cluster_removed", rows, (clusters, membership.owner[rows]))

    def bad_cluster(block: slice, _ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        return _unknown_clusters(membership.unknown_cluster_claims, assignment.members_of_bad_clusters[block])

    yield Finding(members, "cluster_removed", assignment.members_of_bad_clusters, evidence=bad_cluster)

    def no_members(block: slice, _ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        return [
            f"none of its {count} UniRef90 members was kept" if count else "no UniRef90 belongs to it"
            for count in counts.members[assignment.clusters_without_members[block]].tolist()
        ]

    yield Finding(clusters, "no_members", assignment.clusters_without_members, evidence=no_members)


def find_violations(
    membership: Membership,
    assignment: Assignment,
    counts: MemberCounts,
    clusters: Parts,
    members: Parts,
    sources: Sequence[str],
    removed_members: np.ndarray,
    named_elsewhere: np.ndarray,
) -> Iterator[Finding]:
    """Where the release contradicts itself, whether or not something is removed for it.

    no_cluster, two_clusters: as removed. member_count: the count of a UniRef50 is not the sum of its UniRef90s'.
    listed_members: an entry lists another number of members than it states. missing_member: a UniRef50 names a UniRef90
    that is neither a record nor one that the records stage removed (removed_members: uint64[n], keys). one_source: only
    one of two XML files puts a UniRef90 there. named_elsewhere: a UniRef90 (rows int64[n]) is in a UniRef50 of another
    name, although one of its own name exists.
    """
    yield from _find_unassigned(membership, assignment, clusters, members, sources)
    sums = counts.sums.wrong

    def member_count(block: slice, _ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        return [
            f"states {stated} members, its {n_members} UniRef90 clusters state {total}"
            for _row, stated, n_members, total in sums[block].tolist()
        ]

    yield Finding(clusters, "member_count", sums[:, 0], evidence=member_count)
    for parts in (clusters, members):
        lists = counts.listed[parts.level].wrong

        def listed_members(block: slice, _ids: Sequence[str], _others: Sequence[str], lists=lists) -> list[str]:
            return [f"states {stated} members, lists {listed}" for _row, stated, listed in lists[block].tolist()]

        yield Finding(parts, "listed_members", lists[:, 0], evidence=listed_members)
    missing = membership.unknown_member_claims
    missing = missing[~np.isin(missing[:, 1], removed_members)]

    def missing_member(block: slice, _ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        names = [_id_of_key(key, "UniRef90_") for key in missing[block, 1].tolist()]
        return [f"names {name}, which is not among the records" for name in names]

    yield Finding(clusters, "missing_member", missing[:, 0].astype(np.int64), evidence=missing_member)
    owner, seen = membership.owner, membership.sources
    if len(sources) == 2:
        rows = np.flatnonzero((owner != NONE) & (seen != (FROM_UNIREF50 | FROM_UNIREF90)))
        by = seen[rows]

        def one_source(block: slice, _ids: Sequence[str], others: Sequence[str]) -> list[str]:
            only = [sources[0 if bits == FROM_UNIREF50 else 1] for bits in by[block].tolist()]
            return [f"{source} alone puts it in {name}" for source, name in zip(only, others, strict=True)]

        yield Finding(members, "one_source", rows, (clusters, owner[rows]), one_source)

    def elsewhere(_block: slice, ids: Sequence[str], others: Sequence[str]) -> list[str]:
        expected = [name.replace("UniRef90_", "UniRef50_", 1) for name in ids]
        return [f"in {name}, although {other} exists" for name, other in zip(others, expected, strict=True)]

    yield Finding(members, "named_elsewhere", named_elsewhere, (clusters, owner[named_elsewhere]), elsewhere)


def _find_unassigned(
    membership: Membership, assignment: Assignment, clusters: Parts, members: Parts, sources: Sequence[str]
) -> Iterator[Finding]:
    """Members in no cluster or in two."""
    without, unknown = assignment.members_without_cluster, membership.unknown_cluster_claims
    unnamed = f"{' and '.join(sources)} put{'' if len(sources) > 1 else 's'} it in no UniRef50"

    def no_cluster(block: slice, _ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        texts = [unnamed] * len(without[block])
        claimed = np.isin(without[block], unknown[:, 0].astype(np.int64))
        names = _unknown_clusters(unknown, without[block][claimed])
        for i, name in zip(np.flatnonzero(claimed).tolist(), names, strict=True):
            texts[i] = f"{name} is not among the records"
        return texts

    yield Finding(members, "no_cluster", without, evidence=no_cluster)
    in_two = assignment.members_in_two_clusters

    def two_clusters(block: slice, _ids: Sequence[str], _others: Sequence[str]) -> list[str]:
        claimants = _claimants(membership, clusters, in_two[block])
        return [", ".join(sorted(claimants[row])) for row in in_two[block].tolist()]

    yield Finding(members, "two_clusters", in_two, evidence=two_clusters)


def refuse_violations(assignment: Assignment, counts: MemberCounts, clusters: Parts, members: Parts) -> None:
    """Raise UserError for kept members in no UniRef50 or in two, and for entries that list not what they state."""
    other = "with another number of members than stated"
    found = (
        ("UniRef90 in no UniRef50", members, assignment.members_without_cluster),
        ("UniRef90 in two UniRef50", members, assignment.members_in_two_clusters),
        (f"UniRef50 {other}", clusters, counts.listed[clusters.level].wrong[:, 0]),
        (f"UniRef90 {other}", members, counts.listed[members.level].wrong[:, 0]),
    )
    texts = [
        f"{len(rows)} {what} (such as {', '.join(strings_at(parts, 'id', rows[:_NAMED]).to_pylist())})"
        for what, parts, rows in found
        if len(rows)
    ]
    if texts:
        raise UserError(
            " and ".join(texts),
            where=members.paths[0].parent,
            fix="cluster.violations: remove lists them and drops those in no UniRef50 or two",
        )


def _claimants(membership: Membership, clusters: Parts, rows: np.ndarray) -> dict[int, list[str]]:
    """Names of the clusters that claim each of some members in conflict, by member row. rows: int64[n]."""
    names: dict[int, list[str]] = {row: [] for row in rows.tolist()}
    known, unknown = (
        claims[np.isin(claims[:, 0].astype(np.int64), rows)]
        for claims in (membership.conflicting_claims, membership.conflicting_unknown_claims)
    )
    for row, name in zip(known[:, 0].tolist(), take_strings(clusters, "id", known[:, 1]).to_pylist(), strict=True):
        names[row].append(name)
    for row, key in unknown.tolist():
        names[row].append(f"{_id_of_key(key, 'UniRef50_')} (not among the records)")
    return names


def _unknown_clusters(claims: np.ndarray, rows: np.ndarray) -> list[str]:
    """Names of clusters that are not among the records. claims: `unknown_cluster_claims`; rows: int64[n], all in it."""
    at = np.searchsorted(claims[:, 0], rows.astype(np.uint64))
    return [_id_of_key(key, "UniRef50_") for key in claims[at, 1].tolist()]


def _id_of_key(key: int, prefix: str) -> str:
    """Id of a key that no record has. A hashed id is lost; its key stands for it."""
    return prefix + (id_of(key) if key >> 62 != OTHER else f"(key {key})")
