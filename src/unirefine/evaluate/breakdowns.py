"""Perplexity of hidden residues by properties of the protein and by residue, and the sums of each protein."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.core.alphabet import TOKENS
from unirefine.core.tables import open_parquet, table_writer
from unirefine.dataset import Side
from unirefine.errors import UserError
from unirefine.evaluate import statistics
from unirefine.evaluate.context import Context
from unirefine.evaluate.masked import Positions

PROTEINS = "proteins.parquet"
_SEED = b"unirefine_seed"
LENGTH_EDGES = (1, 50, 100, 200, 300, 500, 800, 1023)
SIZE_EDGES = (1, 2, 3, 5, 10, 20, 50, 100)
IDENTITY_EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def breakdowns(
    nll: dict[str, np.ndarray], positions: Positions, context: Context, side: Side, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows by axis, over the hidden positions, with intervals over resampled clusters.

    nll: by model, float64[n], one per position.
    """
    hidden = positions.kinds()["hidden"]
    shown = {name: values[hidden] for name, values in nll.items()}
    sequence = positions.sequence[hidden]
    cluster = context.cluster[sequence]
    lengths = np.asarray(side.lengths[: len(context.cluster)], np.float64)
    axes: dict[str, tuple[np.ndarray, list[str]]] = {"length": statistics.edge_bins(lengths, LENGTH_EDGES)}
    if context.size is not None:
        axes["cluster_size"] = statistics.edge_bins(context.size, SIZE_EDGES)
    if context.identity is not None:
        axes["identity"] = identity_bins(context.identity)
    result = {
        name: statistics.breakdown(bins[sequence], labels, sequence, shown, group=cluster, seed=seed)
        for name, (bins, labels) in axes.items()
    }
    targets = positions.target[hidden].astype(np.int64)
    result["residue"] = statistics.breakdown(targets, TOKENS, None, shown, group=cluster, seed=seed)
    return result


def identity_bins(identity: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Bins over IDENTITY_EDGES and their labels; the last bin is of proteins without an alignment.

    identity: float64[n], NaN without an alignment. Returns int64[n].
    """
    bins, labels = statistics.edge_bins(identity, IDENTITY_EDGES)
    return np.where(bins < 0, len(labels), bins), [*labels, "no hit"]


def write_proteins(
    path: Path, nll: dict[str, np.ndarray], positions: Positions, context: Context, side: Side, seed: int
) -> None:
    """Write proteins.parquet: a row per evaluated sequence, in the order of the shard.

    Columns: `id`, `cluster_id`, `length` int32, `size` uint32 and `identity` float32 (null where not known), `hidden`
    int32 (residues), and for each model the sum of -log p over them, `nll <model>` float64, in nats. nll: by model,
    float64[n], one per position. seed: of the mask, kept as metadata, from which others resample as we do.
    """
    hidden, count = positions.kinds()["hidden"], len(context.cluster)
    owner = positions.sequence[hidden]
    sums = {name: statistics.sum_by(owner, values[hidden], count) for name, values in nll.items()}
    ids, cluster_ids = zip(*(side.ids(number) for number in range(count)), strict=True)
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "cluster_id": pa.array(cluster_ids, pa.string()),
        "length": pa.array(np.asarray(side.lengths[:count], np.int32)),
        "size": _known(context.size, count, pa.uint32()),
        "identity": _known(context.identity, count, pa.float32()),
        "hidden": pa.array(np.bincount(owner, minlength=count).astype(np.int32)),
        **{f"nll {name}": pa.array(found.nll) for name, found in sums.items()},
    }
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    with table_writer(path, schema, {_SEED.decode(): str(seed)}) as writer:
        writer.write(columns)


def is_proteins(path: Path) -> bool:
    """Whether a file is a proteins.parquet that `write_proteins` wrote."""
    try:
        with open_parquet(path, "evaluate") as file:
            return _SEED in (file.schema_arrow.metadata or {})
    except (OSError, UserError):
        return False


def _known(values: np.ndarray | None, count: int, kind: pa.DataType) -> pa.Array:
    """float64[count] as an Arrow array, null where it is NaN; nulls alone for None."""
    if values is None:
        return pa.nulls(count, kind)
    return pa.array(values, mask=np.isnan(values)).cast(kind)
