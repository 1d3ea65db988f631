"""Reads a run's files into the plain data that figures and tables show."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.core.tables import iterate_file, numbers
from unirefine.errors import UserError
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


def length_counts(results: Path) -> dict[str, np.ndarray]:
    """Lengths of the kept sequences by level, over LENGTH_EDGES."""
    files = {"UniRef90 members": stage_path(results, "cluster") / "membership.parquet"}
    files["UniRef50 representatives"] = stage_path(results, "cluster") / "clusters.parquet"
    return {name: column_counts(path, "length", LENGTH_EDGES) for name, path in files.items()}


def size_edges(largest: int) -> np.ndarray:
    """Bins for cluster sizes: one each up to 10, then geometric."""
    small = np.arange(0.5, 10.6)
    if largest <= 10:
        return small
    return np.concatenate([small, np.unique(np.round(np.geomspace(11, largest + 1, 24)))[1:] - 0.5])


def cluster_sizes(results: Path) -> tuple[np.ndarray, np.ndarray]:
    """(edges float[n + 1], clusters int64[n]): how many UniRef50 clusters have how many UniRef90 members."""
    path = stage_path(results, "cluster") / "clusters.parquet"
    blocks = (numbers(batch.column(0)) for _row, batch in iterate_file(path, ["size"], "cluster"))
    edges = size_edges(max((int(block.max()) for block in blocks if len(block)), default=1))
    return edges, column_counts(path, "size", edges)


def read_metrics(results: Path) -> list[Mapping[str, Any]]:
    """The lines of the finished training's metrics.jsonl."""
    path = results / "train" / "final" / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="run `snakemake train`") from None
    return [json.loads(line) for line in lines]
