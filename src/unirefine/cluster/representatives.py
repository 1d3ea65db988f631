"""UniRef50 clusters whose representative is gone: the same sequence was removed as a UniRef90 entry.

The representative of a UniRef50 also represents a UniRef90, under the same id. It may have been removed there alone:
the common taxon of the larger cluster is less exact, and the records stage looks at each file by itself. Without this
the removed sequence would still validate, be searched with, and stand for its cluster.
"""

from pathlib import Path

import numpy as np

from unirefine.cluster.files import removal_reasons
from unirefine.cluster.index import KeyIndex
from unirefine.core.levels import NONE

_BLOCK = 1 << 22


def unrepresented(
    cluster_keys: np.ndarray,
    kept_clusters: np.ndarray,
    by_member: KeyIndex,
    kept_members: np.ndarray,
    removed_members: np.ndarray,
) -> np.ndarray:
    """Rows of kept clusters whose representative curate or the records stage removed at UniRef90: int64[n], ascending.

    cluster_keys: uint64[clusters]; kept_*: bool[records]; removed_members: uint64[m], keys of UniRef90 entries that the
    records stage removed. A representative that is no UniRef90 of this release counts as there. Uses numba's threads.
    """
    found = [np.empty(0, np.int64)]
    for start in range(0, len(cluster_keys), _BLOCK):
        keys = cluster_keys[start : start + _BLOCK]
        rows = by_member.rows(keys)
        known = rows != NONE
        gone = known & ~kept_members[np.where(known, rows, 0)]
        if len(removed_members):
            gone |= ~known & np.isin(keys, removed_members)
        found.append(start + np.flatnonzero(gone & kept_clusters[start : start + _BLOCK]))
    return np.concatenate(found)


def reasons_of(rows: np.ndarray, cluster_keys: np.ndarray, records: Path, curated: Path) -> dict[int, str]:
    """Row to the reason for which its representative was removed at UniRef90. rows: of `unrepresented`."""
    if not len(rows):
        return {}
    keys = cluster_keys[rows]
    listed = (records / "uniref90" / "removed.parquet", curated / "removed.parquet")
    reasons = removal_reasons(listed, "uniref90", keys)
    return {row: reasons[key] for row, key in zip(rows.tolist(), keys.tolist(), strict=True)}
