"""Cluster: membership from UniRef XML, from idmapping, or computed by MMseqs2 for a lab's own FASTA."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

from unirefine.cluster.checks import MemberCounts
from unirefine.cluster.claims import idmapping_claims, xml_claims
from unirefine.cluster.fate import Fate, list_violations, remove
from unirefine.cluster.files import (
    index_records,
    read_kept,
    read_lengths,
    removed_keys,
    write_clusters,
    write_membership,
)
from unirefine.cluster.membership import Claims, build_membership
from unirefine.cluster.names import apply_names, list_elsewhere
from unirefine.cluster.order import group_members, positions, sort_rows
from unirefine.cluster.own import cluster_own
from unirefine.cluster.representatives import reasons_of, unrepresented
from unirefine.config import Cluster
from unirefine.core.levels import LEVELS, NONE
from unirefine.core.removed import removed_writer
from unirefine.core.tables import Parts, find_parts, record_parts
from unirefine.errors import UserError
from unirefine.files.counts import level_counts, write_counts


def cluster(
    config: Cluster,
    records: Path | str,
    curated: Path | str,
    output: Path | str,
    *,
    idmapping: Path | str | None = None,
    mmseqs: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Write clusters.parquet, membership.parquet, removed.parquet, violations.parquet and counts.json to `output`.

    records, curated: output directories of the two stages. idmapping: for `membership: idmapping`. mmseqs: binary, for
    `membership: mmseqs`. Returns the counts. Raises UserError for files that are missing or not of one run, two records
    with one key, and, where config.violations is `error`, for a UniRef90 in no or in two UniRef50 and for an entry that
    lists another number of members than it states.
    """
    numba.set_num_threads(min(max(threads, 1), numba.config.NUMBA_NUM_THREADS))
    records, curated, output = Path(records), Path(curated), Path(output)
    if config.membership == "mmseqs":
        return cluster_own(config, records, curated, output, mmseqs=mmseqs, threads=threads)
    return _cluster_uniref(config, records, curated, output, idmapping)


def _cluster_uniref(
    config: Cluster, records: Path, curated: Path, output: Path, idmapping: Path | str | None
) -> dict[str, Any]:
    """Memory: 26 bytes a UniRef90 record and 20 a UniRef50 record at its peak, about 6.5 GB for release 2024_03."""
    clusters, members = record_parts(records, "uniref50"), record_parts(records, "uniref90")
    kept_clusters, kept_members = read_kept(curated, clusters), read_kept(curated, members)
    sources = _sources(config, records, idmapping)
    by_cluster, by_member = index_records(clusters), index_records(members)
    cluster_keys, member_keys = by_cluster.keys, by_member.keys
    entered = {"uniref50": int(kept_clusters.sum()), "uniref90": int(kept_members.sum())}
    removed_members = removed_keys(records / "uniref90" / "removed.parquet", "uniref90")
    gone = unrepresented(cluster_keys, kept_clusters, by_member, kept_members, removed_members)
    membership = build_membership(by_cluster, by_member, _claims(config, records, idmapping))
    if not len(membership.disputed) and not (membership.owner != NONE).any():
        raise UserError(
            f"none of {membership.claims} statements names a UniRef90 and a UniRef50 of the records",
            where=records,
            fix="take both levels and the membership from one release",
        )
    named = apply_names(membership, by_cluster, by_member, place=config.membership == "idmapping")
    del by_cluster, by_member
    fate = Fate(
        membership,
        kept_clusters=kept_clusters,
        kept_members=kept_members,
        removed_clusters=removed_keys(records / "uniref50" / "removed.parquet", "uniref50"),
        removed_members=removed_members,
        unrepresented=gone,
    )
    counts = MemberCounts(clusters, members, membership.owner)
    if config.violations == "error":
        fate.raise_violations(clusters, members, counts.listings)
    with removed_writer(output / "violations.parquet") as violations:
        list_violations(violations, fate, counts, clusters, members, sources)
        list_elsewhere(violations, named, fate.owner, clusters, members)
    with removed_writer(output / "removed.parquet") as removed:
        reasons = reasons_of(gone, cluster_keys, records, curated)
        remove(removed, fate, clusters, members, counts.members, sources, reasons)
    facts = {
        "membership": config.membership,
        "sources": sources,
        "claims": membership.claims,
        "member_counts": {"checked": int(counts.checkable().sum()), "wrong": len(counts.wrong())},
        "placed_by_name": named.placed,
        "without_cluster": len(fate.homeless_rows),
        "without_member": int((kept_clusters & (counts.members == 0)).sum()),
        "listed_members": {
            level: {"checked": found.checked, "wrong": len(found.wrong())} for level, found in counts.listings.items()
        },
        "violations": {level: dict(sorted(found.items())) for level, found in sorted(violations.counts.items())},
    }
    del counts, membership
    sizes = _write(output, curated, fate, clusters, members, cluster_keys, member_keys)
    levels = {
        "uniref50": level_counts(entered["uniref50"], len(sizes), removed.counts.get("uniref50", {})),
        "uniref90": level_counts(entered["uniref90"], int(sizes.sum()), removed.counts.get("uniref90", {})),
    }
    facts["largest_cluster"] = int(sizes.max(initial=0))
    write_counts(output / "counts.json", "cluster", levels, **facts)
    return {"levels": levels} | facts


def _sources(config: Cluster, records: Path, idmapping: Path | str | None) -> list[str]:
    """Names of where the claims come from. Raises UserError when there are none."""
    if config.membership == "idmapping":
        if idmapping is None:
            raise UserError("cluster.membership is 'idmapping'", fix="give idmapping_selected.tab.gz with --idmapping")
        return [Path(idmapping).name]
    if find_parts(records, "uniref50", "members") is None:
        raise UserError(
            "no members files, which only UniRef XML gives",
            where=records / "uniref50",
            fix="set release.format: xml, or cluster.membership: idmapping",
        )
    return ["uniref50.xml", "uniref90.xml"] if find_parts(records, "uniref90", "members") else ["uniref50.xml"]


def _claims(config: Cluster, records: Path, idmapping: Path | str | None) -> Iterator[Claims]:
    if config.membership == "idmapping":
        yield from idmapping_claims(idmapping)
        return
    for level in LEVELS:
        parts = find_parts(records, level, "members")
        if parts is not None:
            yield from xml_claims(parts)


def _write(
    output: Path,
    curated: Path,
    fate: Fate,
    clusters: Parts,
    members: Parts,
    cluster_keys: np.ndarray,
    member_keys: np.ndarray,
) -> np.ndarray:
    """Write the two tables; returns the cluster sizes, uint32[kept clusters]."""
    rows = sort_rows(np.flatnonzero(fate.clusters_left).astype(np.uint32), cluster_keys)
    cluster_of = fate.take_cluster_of(positions(rows, clusters.rows))
    order, sizes = group_members(cluster_of, len(rows), member_keys)
    lengths = read_lengths(curated, members)
    write_membership(
        output / "membership.parquet", order=order, cluster_of=cluster_of, keys=member_keys, lengths=lengths
    )
    del order, cluster_of, lengths
    write_clusters(
        output / "clusters.parquet",
        "uniref50",
        keys=cluster_keys[rows],
        rows=rows,
        lengths=read_lengths(curated, clusters)[rows],
        sizes=sizes,
    )
    return sizes
