"""Cluster, cluster size and identity to train of each validation sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.ids import key_of
from unirefine.core.tables import iterate_file
from unirefine.dataset import Side
from unirefine.errors import UserError
from unirefine.files.atomic import read_json

PREFIX = "UniRef50_"


@dataclass(frozen=True)
class Context:
    """Arrays over the first s sequences of the validation shard."""

    cluster: np.ndarray
    """int64[s]: index of the sequence's cluster in the shard."""
    size: np.ndarray | None
    """float64[s]: members of the cluster; None when not known."""
    identity: np.ndarray | None
    """float64[s]: highest identity of a train sequence to the cluster, NaN without a hit; None when not known."""


def load_context(side: Side, sequences: int, clusters: Path | None, decontaminated: Path | None) -> Context:
    """The context of the first `sequences` of a side.

    clusters: directory of the cluster stage, for sizes. decontaminated: directory of the decontaminate stage, for
    identities; needs `clusters`. Raises UserError when a file is missing or belongs to another run.
    """
    cluster = np.searchsorted(side.document_offsets, np.arange(sequences), side="right") - 1
    if clusters is None:
        if decontaminated is not None:
            raise UserError("its files have row numbers only", where=decontaminated, fix="give --clusters too")
        return Context(cluster, None, None)
    path = clusters / "clusters.parquet"
    columns = _columns(path, ("key", "size"), "cluster")
    keys = columns["key"]
    wanted = np.array([key_of(side.ids(i)[1].removeprefix(PREFIX)) for i in range(sequences)], np.uint64)
    index = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if not len(keys) or not np.array_equal(keys[index], wanted):
        raise UserError("a validation cluster is not in it", where=path, fix="give the clusters of the shards")
    sizes = columns["size"][index].astype(np.float64)
    return Context(cluster, sizes, None if decontaminated is None else _identity(decontaminated, len(keys))[index])


def _identity(decontaminated: Path, clusters: int) -> np.ndarray:
    """Highest identity of the final train set to each cluster: float64[clusters], NaN without an alignment."""
    policy = read_json(decontaminated / "identity.json")["audit"]["policy"]
    column = "audited" if policy == "remove" else "searched"
    best = np.full(clusters, np.nan)
    parts = sorted((decontaminated / "nearest").glob("part-*.parquet"))
    if not parts:
        raise UserError("no parts", where=decontaminated / "nearest", fix="run the decontaminate stage again")
    for path in parts:
        found = _columns(path, ("target", column), "decontaminate")
        # the arrays of an empty part have no dtype to rely on; benchmark proteins are numbered after the clusters
        targets = found["target"].astype(np.int64)
        own = targets < clusters
        np.fmax.at(best, targets[own], found[column].astype(np.float64)[own])
    return best


def _columns(path: Path, names: Sequence[str], stage: str) -> dict[str, np.ndarray]:
    batches = [batch for _row, batch in iterate_file(path, names, stage)]
    return {
        name: np.concatenate([batch[name].to_numpy(zero_copy_only=False) for batch in batches] or [np.empty(0)])
        for name in names
    }
