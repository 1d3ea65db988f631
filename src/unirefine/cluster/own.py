"""Cluster a lab's own FASTA: MMseqs2 makes the 90% level, whose representatives stay, and the 50% level."""

from pathlib import Path
from typing import Any

import numpy as np

from unirefine.cluster.checks import blocks, cluster_names
from unirefine.cluster.files import index_records, read_kept, read_lengths, write_clusters, write_membership
from unirefine.cluster.mmseqs import cluster_levels
from unirefine.cluster.order import group_members, positions, sort_rows
from unirefine.config import Cluster
from unirefine.core.levels import NONE
from unirefine.core.removed import removed_writer
from unirefine.core.tables import record_parts, strings_at
from unirefine.errors import UserError
from unirefine.files.atomic import temporary_directory
from unirefine.files.counts import level_counts, write_counts
from unirefine.tools import find_mmseqs, tool_version


def cluster_own(
    config: Cluster, records: Path, curated: Path, output: Path, *, mmseqs: str | None, threads: int
) -> dict[str, Any]:
    """Write the stage's files for own sequences; the representatives' records are those of `uniref90`.

    MMseqs2's output goes to `mmseqs.log`. Raises UserError as `unirefine.cluster.run.cluster` does.
    """
    parts = record_parts(records, "uniref90")
    kept, keys = read_kept(curated, parts), index_records(parts).keys
    if not kept.any():
        raise UserError("curate kept no sequence", where=curated, fix="look into its removed.parquet")
    binary = find_mmseqs(mmseqs)
    output.mkdir(parents=True, exist_ok=True)
    log = output / "mmseqs.log"
    log.unlink(missing_ok=True)
    with temporary_directory(output / "mmseqs") as work:
        first, second = cluster_levels(config, parts, kept, binary=binary, work=work, log=log, threads=threads)
    reason = f"in_{round(100 * config.identities[0])}_percent_cluster"
    with removed_writer(output / "removed.parquet") as removed:
        for rows in blocks(np.flatnonzero(kept & (second == NONE))):
            removed.add("uniref90", reason, strings_at(parts, "id", rows), cluster_names(parts, first[rows]))
    with removed_writer(output / "violations.parquet"):
        pass  # there is no release that could contradict itself
    rows = sort_rows(np.unique(second[second != NONE]), keys)
    position = positions(rows, parts.rows)
    cluster_of = np.where(second == NONE, NONE, position[np.where(second == NONE, 0, second)])
    order, sizes = group_members(cluster_of, len(rows), keys)
    lengths = read_lengths(curated, parts)
    write_membership(output / "membership.parquet", order=order, cluster_of=cluster_of, keys=keys, lengths=lengths)
    write_clusters(
        output / "clusters.parquet", "uniref90", keys=keys[rows], rows=rows, lengths=lengths[rows], sizes=sizes
    )
    levels = {
        "uniref50": level_counts(len(rows), len(rows), {}),
        "uniref90": level_counts(int(kept.sum()), len(order), removed.counts.get("uniref90", {})),
    }
    facts = {
        "membership": "mmseqs",
        "mmseqs": {"version": tool_version(binary), "algorithm": config.algorithm, "coverage": config.coverage}
        | {"identities": list(config.identities)},
        "largest_cluster": int(sizes.max()),
    }
    write_counts(output / "counts.json", "cluster", levels, **facts)
    return {"levels": levels} | facts
