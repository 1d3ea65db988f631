"""Reads a run's files into the plain data that figures and tables show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.core.tables import iterate_file, numbers
from unirefine.files.documents import read_lines
from unirefine.files.stages import stage_path

LENGTH_EDGES = np.geomspace(10, 50_000, 61)
"""Bins of sequence length in residues; the longest UniProt sequence seen has 49,499."""


def column_counts(path: Path, column: str, edges: np.ndarray) -> np.ndarray:
    """Histogram of an integer column over `edges`, streamed. Values beyond either end count in the outer bins.

    Returns int64[len(edges) - 1].
    """
    counts = np.zeros(len(edges) - 1, np.int64)
    for _row, batch in iterate_file(path, [column], path.parent.name):
        values = np.clip(numbers(batch.column(0)), edges[0], np.nextafter(edges[-1], 0))
        counts += np.histogram(values, edges)[0]
    return counts


def length_counts(results: Path, names: tuple[str, str]) -> dict[str, np.ndarray]:
    """Lengths of the kept sequences by level, over LENGTH_EDGES. names: of members and of representatives."""
    tables = [stage_path(results, "cluster") / f"{table}.parquet" for table in ("membership", "clusters")]
    files = dict(zip(names, tables, strict=True))
    return {name: column_counts(path, "length", LENGTH_EDGES) for name, path in files.items()}


def size_edges(largest: int) -> np.ndarray:
    """Bins for cluster sizes: one each up to 10, then geometric."""
    small = np.arange(0.5, 10.6)
    if largest <= 10:
        return small
    return np.concatenate([small, np.unique(np.round(np.geomspace(11, largest + 1, 24)))[1:] - 0.5])


def cluster_sizes(results: Path) -> tuple[np.ndarray, np.ndarray]:
    """(edges float[n + 1], clusters int64[n]): how many clusters have how many members."""
    path = stage_path(results, "cluster") / "clusters.parquet"
    blocks = (numbers(batch.column(0)) for _row, batch in iterate_file(path, ["size"], "cluster"))
    edges = size_edges(max((int(block.max()) for block in blocks if len(block)), default=1))
    return edges, column_counts(path, "size", edges)


def read_metrics(results: Path, origin: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The lines of the finished training's metrics.jsonl. origin: lineage.json of the model."""
    name = "metrics.jsonl"
    known = {file["name"]: file["sha256"] for file in origin.get("files", [])}
    return read_lines(results / "train" / "final" / name, sha256=known.get(name))
