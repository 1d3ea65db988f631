"""Write the two tables of the stage: clusters.parquet and membership.parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.cluster.blocks import blocks
from unirefine.cluster.inputs import Level, read_lengths
from unirefine.cluster.order import group_members, number_clusters, positions, sort_rows
from unirefine.core.tables import table_writer

CLUSTERS = pa.schema([("key", pa.uint64()), ("row", pa.uint32()), ("length", pa.int32()), ("size", pa.uint32())])
MEMBERSHIP = pa.schema([("cluster", pa.uint32()), ("row", pa.uint32()), ("key", pa.uint64()), ("length", pa.int32())])


def write_tables(
    output: Path, curated: Path, clusters: Level, members: Level, owner: np.ndarray, clusters_left: np.ndarray
) -> np.ndarray:
    """Write the clusters in the order of their keys, and their members in the order of (cluster, key).

    clusters: the level whose records represent clusters. owner: uint32[members], row of each member's cluster or NONE;
    overwritten with cluster numbers. clusters_left: bool[clusters]; the others and their members are not written.
    Returns the cluster sizes, uint32[clusters left].
    """
    rows = sort_rows(np.flatnonzero(clusters_left).astype(np.uint32), clusters.keys)
    cluster_of = number_clusters(owner, members.kept, positions(rows, len(clusters_left)))
    order, sizes = group_members(cluster_of, len(rows), members.keys)
    lengths = read_lengths(curated, members)
    with table_writer(output / "membership.parquet", MEMBERSHIP) as writer:
        for block in blocks(len(order)):
            at = order[block]
            writer.write({"cluster": cluster_of[at], "row": at, "key": members.keys[at], "length": lengths[at]})
    del order, lengths
    lengths = read_lengths(curated, clusters)[rows]
    metadata = {"representative_level": clusters.parts.level}
    with table_writer(output / "clusters.parquet", CLUSTERS, metadata) as writer:
        for block in blocks(len(rows)):
            at = rows[block]
            writer.write({"key": clusters.keys[at], "row": at, "length": lengths[block], "size": sizes[block]})
    return sizes
