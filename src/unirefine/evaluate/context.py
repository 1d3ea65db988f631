"""What is known of each validation sequence beside its residues: cluster, cluster size, identity to train."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from unirefine.errors import UserError
from unirefine.ids import key_of
from unirefine.shards import Side

PREFIX = "UniRef50_"


@dataclass(frozen=True)
class Context:
    """Arrays over the first s sequences of the validation shard."""

    cluster: np.ndarray
    """int64[s]: number of the sequence's cluster in the shard, from 0."""
    size: np.ndarray | None
    """float64[s]: members of the cluster."""
    identity: np.ndarray | None
    """float64[s]: highest identity of a train sequence to the cluster; NaN where the search found none."""


def load_context(side: Side, sequences: int, clusters: Path | None, hits: Path | None) -> Context:
    """Sizes need `clusters` (directory of the cluster stage, or its clusters.parquet); identities need `hits` as well
    (Parquet with `target`, a cluster index, and `identity`: audit.parquet of the decontaminate stage).

    Raises UserError for a missing file, or one of another run.
    """
    cluster = np.searchsorted(side.document_offsets, np.arange(sequences), side="right") - 1
    if clusters is None:
        if hits is not None:
            raise UserError("identities name clusters by number", where=hits, fix="give --clusters too")
        return Context(cluster, None, None)
    path = clusters / "clusters.parquet" if clusters.is_dir() else clusters
    table = _read(path, ["key", "size"])
    keys, sizes = table["key"].to_numpy(), table["size"].to_numpy()
    wanted = np.array([key_of(side.ids(i)[1].removeprefix(PREFIX)) for i in range(sequences)], np.uint64)
    index = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if not len(keys) or not np.array_equal(keys[index], wanted):
        raise UserError(
            "a validation cluster is not in it", where=path, fix="give the clusters that the shards came from"
        )
    identity = None
    if hits is not None:
        found = _read(hits, ["target", "identity"])
        best = np.full(len(keys), np.nan)
        np.fmax.at(best, found["target"].to_numpy(), found["identity"].to_numpy().astype(np.float64))
        identity = best[index]
    return Context(cluster, sizes[index].astype(np.float64), identity)


def _read(path: Path, columns: list[str]) -> pq.ParquetFile:
    if not path.is_file():
        raise UserError("no such file", where=path, fix="run the stage that writes it")
    return pq.read_table(path, columns=columns)
