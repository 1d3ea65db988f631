"""Reads a run's files into the plain data that figures and tables show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.core.levels import LEVELS, TRAIN
from unirefine.core.tables import find_parts, iterate_file, numbers
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
        counts += _binned(numbers(batch.column(0)), edges)
    return counts


def _binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(values, edges[0], np.nextafter(edges[-1], 0)), edges)[0]


def length_counts(results: Path) -> dict[str, np.ndarray]:
    """Lengths of all sequences of the second level over LENGTH_EDGES: of the input, after curation, and of train."""
    parts = find_parts(stage_path(results, "records"), LEVELS[1])
    curated = stage_path(results, "curate") / f"{LEVELS[1]}.parquet"
    found = {}
    if parts is not None:  # else somebody has deleted the records, which are large
        counts = [column_counts(path, "length", LENGTH_EDGES) for path in parts.paths]
        found["input"] = np.sum(counts, axis=0)
    if curated.exists():
        found["after curation"] = column_counts(curated, "length", LENGTH_EDGES)
    split = stage_path(results, "decontaminate") / "split.parquet"
    side = np.concatenate([numbers(batch.column(0)) for _row, batch in iterate_file(split, ["side"], "decontaminate")])
    train = np.zeros(len(LENGTH_EDGES) - 1, np.int64)
    members = stage_path(results, "cluster") / "membership.parquet"
    for _row, batch in iterate_file(members, ["cluster", "length"], "cluster"):
        cluster, length = (numbers(column) for column in batch.columns)
        train += _binned(length[side[cluster] == TRAIN], LENGTH_EDGES)
    return found | {"train": train}


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
