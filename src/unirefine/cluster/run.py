"""The cluster stage: open, arrays, claims, assignment, checks, files."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from unirefine.cluster.assignment import assign
from unirefine.cluster.checks import count_members
from unirefine.cluster.claims import open_claims, source_of
from unirefine.cluster.findings import (
    Finding,
    find_removals,
    find_violations,
    refuse_violations,
    write_findings,
)
from unirefine.cluster.giants import Joined
from unirefine.cluster.index import index_records
from unirefine.cluster.inputs import Level, curated_levels, open_level, read_lengths, removal_reasons
from unirefine.cluster.membership import join_claims
from unirefine.cluster.mmseqs import cluster_sequences
from unirefine.cluster.names import compare_names
from unirefine.cluster.outputs import write_tables
from unirefine.cluster.table import read_table
from unirefine.config import Cluster
from unirefine.core.levels import LEVELS, NO_SIDE
from unirefine.core.rows import NONE
from unirefine.core.tables import read_column
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.written import delete_stale
from unirefine.tools import find_mmseqs, tool_version

UNIREF50, UNIREF90 = LEVELS
FILES = (
    *("clusters.parquet", "membership.parquet", "removed.parquet", "violations.parquet"),
    *("counts.json", "lineage.json"),
)
"""What the stage writes, beside the log of MMseqs2 for a FASTA of the user's own."""


def run(
    config: Cluster,
    records: Path | str,
    curated: Path | str,
    output: Path | str,
    *,
    idmapping: Path | str | None = None,
    table: Path | str | None = None,
    mmseqs: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Write clusters.parquet, membership.parquet, removed.parquet, violations.parquet, counts.json and lineage.json.

    records, curated: output directories of the two stages. The membership comes from `idmapping`, UniProt's
    idmapping_selected.tab(.gz), where it is given, else from the UniRef XML or the data set. Where curate saw
    `uniref90` alone, the records are a FASTA of your own: its clusters are those of `table`, or MMseqs2 (mmseqs: its
    binary) computes both levels.
    Returns the counts. Raises UserError for files that are missing or not of one run, for two records with one key,
    and, where config.violations is `error`, for a UniRef90 in no or in two UniRef50 and for an entry that lists another
    number of members than it states.
    """
    records, curated, output = Path(records), Path(curated), Path(output)
    numba.set_num_threads(min(max(threads, 1), numba.config.NUMBA_NUM_THREADS))

    # open
    custom = idmapping is None and UNIREF50 not in curated_levels(curated)
    members = open_level(records, curated, UNIREF90)
    clusters = members if custom else open_level(records, curated, UNIREF50)
    # arrays, claims, assignment, checks
    if custom and table is not None:
        grouped = _group_by_table(curated, members, Path(table))
    elif custom:
        grouped = _group_by_similarity(config, curated, members, output, mmseqs, threads)
    else:
        grouped = _group_by_claims(config, records, curated, clusters, members, idmapping)
    # files
    removed = write_findings(output / "removed.parquet", grouped.removals)
    violations = write_findings(output / "violations.parquet", grouped.violations)
    facts, owner, clusters_left = grouped.facts, grouped.owner, grouped.clusters_left
    del grouped
    sizes = write_tables(output, curated, clusters, members, owner, clusters_left)
    entered = len(sizes) if custom else int(clusters.kept.sum())  # those of your own FASTA are made here
    kept = {
        UNIREF50: level_counts(entered, len(sizes), removed.get(UNIREF50, {})),
        UNIREF90: level_counts(int(members.kept.sum()), int(sizes.sum()), removed.get(UNIREF90, {})),
    }
    if not custom:
        facts["violations"] = {level: dict(sorted(found.items())) for level, found in sorted(violations.items())}
    facts["largest_cluster"] = int(sizes.max(initial=0))
    write_counts(output / "counts.json", "cluster", kept, **facts)
    tools = {"mmseqs": facts["mmseqs"]["version"]} if "mmseqs" in facts else {}
    step = lineage.step("cluster", config, counts=kept, tools=tools, inputs=[table] if table else [])
    lineage.write(output, step, [curated])
    delete_stale(output, "cluster", [*FILES, "mmseqs.log"] if "mmseqs" in facts else FILES)
    return {"levels": kept} | facts


@dataclass(frozen=True)
class Grouped:
    """Members in clusters, and what goes."""

    owner: np.ndarray
    """uint32[members]: row of the record that represents the member's cluster, or NONE."""
    clusters_left: np.ndarray
    """bool[records that may represent a cluster]: those that do."""
    removals: Iterable[Finding]
    """For removed.parquet."""
    violations: Iterable[Finding]
    """For violations.parquet."""
    facts: dict[str, Any]
    """For counts.json."""


def _group_by_claims(
    config: Cluster, records: Path, curated: Path, clusters: Level, members: Level, idmapping: Path | str | None
) -> Grouped:
    """Group UniRef90 by what a release claims.

    Memory: 26 bytes a UniRef90 record and 20 a UniRef50 record at its peak, about 6.5 GB for release 2024_03.
    """
    # arrays
    by_cluster = index_records(clusters.parts, clusters.keys)
    by_member = index_records(members.parts, members.keys)
    # claims
    sources, claims = open_claims(records, idmapping)
    membership = join_claims(claims, by_cluster, by_member)
    if not len(membership.conflicting_claims) and not (membership.owner != NONE).any():
        raise UserError(
            f"none of {membership.claims} statements names a UniRef90 and a UniRef50 of the records",
            where=records,
            fix="take both levels and the membership from one release",
        )
    named = compare_names(
        membership, by_cluster, by_member, members.kept, members.removed, assign=idmapping is not None
    )
    del by_cluster, by_member
    # assignment
    assignment = assign(membership, clusters.kept, members.kept, clusters.removed, named.without_representative)
    # checks
    counts = count_members(clusters.parts, members.parts, membership.owner)
    unrepresented = clusters.keys[assignment.clusters_without_representative]
    reasons = removal_reasons((records / UNIREF90, curated), UNIREF90, unrepresented)
    if config.violations == "error":
        refuse_violations(assignment, counts, clusters.parts, members.parts)
    facts = {
        "membership": "idmapping" if idmapping is not None else source_of(records),
        "sources": sources,
        "claims": membership.claims,
        "member_counts": {"checked": counts.sums.entries, "wrong": len(counts.sums.wrong)},
        "placed_by_name": named.assigned,
        "without_cluster": len(assignment.members_without_cluster),
        "without_member": int((counts.members[assignment.clusters_without_members] == 0).sum()),
        "listed_members": {
            level: {"checked": lists.entries, "wrong": len(lists.wrong)} for level, lists in counts.listed.items()
        },
    }
    return Grouped(
        owner=membership.owner,
        clusters_left=assignment.clusters_left,
        removals=find_removals(membership, assignment, counts, clusters.parts, members.parts, sources, reasons),
        violations=find_violations(
            membership,
            assignment,
            counts,
            clusters.parts,
            members.parts,
            sources,
            removed_members=members.removed,
            named_elsewhere=named.elsewhere,
        ),
        facts=facts,
    )


def _group_by_table(curated: Path, members: Level, table: Path) -> Grouped:
    """Group your own sequences as a table says. Memory: 40 bytes a record."""
    index = index_records(members.parts, members.keys)
    if not members.kept.any():
        raise UserError("curate kept no sequence", where=curated, fix="look into its removed.parquet")
    found = read_table(table, members, index, read_lengths(curated, members))
    clusters_left = np.zeros(len(found.owner), bool)
    clusters_left[found.owner[found.owner != NONE]] = True
    facts = {
        "membership": "table",
        "table": {
            "file": table.name,
            "lines": found.lines,
            "not_in_fasta": found.unknown,
            "other_representative": found.represented_anew,
        },
    }
    return Grouped(owner=found.owner, clusters_left=clusters_left, removals=[], violations=[], facts=facts)


def _group_by_similarity(
    config: Cluster, curated: Path, members: Level, output: Path, mmseqs: str | None, threads: int
) -> Grouped:
    """Group your own sequences with MMseqs2, those of each side by themselves where a split is given.

    The representatives of the first level are the members; those of the second level represent the clusters.
    """
    index_records(members.parts, members.keys)  # no key comes twice
    if not members.kept.any():
        raise UserError("curate kept no sequence", where=curated, fix="look into its removed.parquet")
    binary = find_mmseqs(mmseqs)
    (output / "mmseqs.log").unlink(missing_ok=True)
    given = read_column(members.parts, "given_side", np.uint8, null=NO_SIDE)
    representative, owner = (np.full(len(given), NONE, np.uint32) for _level in range(2))
    apart = [Joined(0, 0, 0), Joined(0, 0, 0)]
    for side in np.unique(given[members.kept]):  # similar sequences on two sides stay on both: decontaminate finds them
        chosen = members.kept & (given == side)
        *found, joined = cluster_sequences(config, members.parts, chosen, output, binary=binary, threads=threads)
        representative[chosen], owner[chosen] = found[0][chosen], found[1][chosen]
        apart = [before.plus(more) for before, more in zip(apart, joined, strict=True)]
    clusters_left = np.zeros(len(owner), bool)
    clusters_left[owner[owner != NONE]] = True
    copies = np.flatnonzero(members.kept & (owner == NONE))
    reason = f"in_{round(100 * config.identities[0])}_percent_cluster"
    facts = {
        "membership": "mmseqs",
        "mmseqs": {
            "version": tool_version(binary),
            "algorithm": config.algorithm,
            "coverage": config.coverage,
            "identities": list(config.identities),
        },
        "giants": [asdict(level) for level in apart],
    }
    return Grouped(
        owner=owner,
        clusters_left=clusters_left,
        removals=[Finding(members.parts, reason, copies, about=(members.parts, representative[copies]))],
        violations=[],  # there is no release that could contradict itself
        facts=facts,
    )
