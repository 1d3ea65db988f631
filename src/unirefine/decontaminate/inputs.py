"""What several steps share: clusters and their sides, the names of files and FASTA records, the results of parts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.config import Decontaminate
from unirefine.core import parquet
from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import LEVELS, REMOVED, TEST, TRAIN, VALIDATION
from unirefine.core.tables import Parts, iterate_file, numbers, open_parquet, record_parts, take_strings
from unirefine.errors import UserError
from unirefine.files.names import search_part
from unirefine.files.written import delete_stale

SEARCHED = "unirefine_searched"
"""Metadata key of a `hits` file: `{mmseqs: version, level, search: options, audit: options, audit_share}` as JSON."""

OPTIONS = ("search", "audit", "audit_share")
"""The options of `Decontaminate` that it has: those of the searches."""

COUNTED = "unirefine_giants"
"""Metadata key of a `hits` file: what was aligned apart in that part (see `similarity.giants.counts`), as JSON."""

RESULTS = ("hits", "audit", "nearest")
"""The tables that the search of a part writes, each kind into a directory of its own."""

_AUDITED = 0xA0D17
"""Seed of the draw of clusters for the audit's search."""


@dataclass(frozen=True)
class Clusters:
    """The clusters of a run and their sides; n clusters in cluster order."""

    directory: Path
    side: np.ndarray
    """uint8[n]: 0 train, 1 validation, 2 test, 255 removed."""
    representative_level: str
    """Level of the records that represent the clusters."""

    def column(self, name: str) -> np.ndarray:
        """A column of clusters.parquet: `key` uint64[n], `row`, `length` or `size`."""
        table = open_parquet(self.directory / "clusters.parquet", "cluster").read(columns=[name])
        return table[name].to_numpy()

    def representatives(self, records: Path) -> Parts:
        """The records that the column `row` refers to."""
        return record_parts(records, self.representative_level)

    @property
    def held_out(self) -> np.ndarray:
        """bool[n]: validation and test clusters."""
        return (self.side == VALIDATION) | (self.side == TEST)

    def members(self, *columns: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield blocks of membership.parquet: the `cluster` of each of m members, uint32[m], and `columns`."""
        names = ["cluster", *columns]
        for _row, batch in iterate_file(self.directory / "membership.parquet", names, "cluster", batch_rows=1 << 20):
            block = tuple(numbers(column) for column in batch.columns)
            if len(block[0]) and int(block[0][-1]) >= len(self.side):
                raise UserError(
                    f"cluster {block[0][-1]} of {len(self.side)}",
                    where=self.directory / "membership.parquet",
                    fix="run the cluster stage again",
                )
            yield block


def audited(share: float, clusters: np.ndarray) -> np.ndarray:
    """bool[n]: which clusters the audit's search takes. clusters: their numbers."""
    if share >= 1:
        return np.ones(len(clusters), bool)
    return keyed_hash(_AUDITED, clusters) < np.uint64(share * 2**64)


def read_clusters(clusters: Path, split: Path) -> Clusters:
    """Read the clusters and their sides. clusters, split: directories of those stages, or one with a `split.parquet`.

    Raises UserError unless there is one valid side for each cluster.
    """
    path, split_path = clusters / "clusters.parquet", split / "split.parquet"
    with open_parquet(path, "cluster") as file:
        total = file.metadata.num_rows
        level = (file.schema_arrow.metadata or {}).get(b"representative_level", b"").decode()
    side = open_parquet(split_path, "split").read(columns=["side"])["side"].to_numpy()
    if len(side) != total:
        raise UserError(f"{len(side)} sides for {total} clusters", where=split_path, fix="run the split stage again")
    if level not in LEVELS:
        raise UserError("its metadata names no representative_level", where=path, fix="run the cluster stage again")
    if not np.isin(side, (TRAIN, VALIDATION, TEST, REMOVED)).all():
        raise UserError("a side that is none of 0, 1, 2, 255", where=split_path, fix="run the split stage again")
    return Clusters(clusters, side, level)


def names_of(known: Clusters, clusters: np.ndarray, records: Path) -> list[str]:
    """Ids of clusters as in their records, `UniRef50_P12345`. clusters: int[n] in any order, may repeat."""
    return take_strings(known.representatives(records), "id", known.column("row")[clusters]).to_pylist()


def fasta_names(clusters: np.ndarray, rows: np.ndarray | None = None) -> pa.Array:
    """Names of FASTA records: `<cluster>` for a representative, `<cluster>_<uniref90 row>` for a member.

    clusters: integers [n]; rows: integers [n] for members. Returns string[n].
    """
    names = pa.array(clusters).cast(pa.string())
    return names if rows is None else pc.binary_join_element_wise(names, pa.array(rows).cast(pa.string()), "_")


def query_path(directory: Path, part: int, parts: int) -> Path:
    """FASTA of a part's train sequences."""
    return directory / "queries" / f"{search_part(part, parts)}.fasta"


def result_path(directory: Path, kind: str, part: int, parts: int) -> Path:
    """Table of a part's results. kind: one of RESULTS."""
    return directory / kind / f"{search_part(part, parts)}.parquet"


def delete_other_parts(directory: Path, parts: int) -> None:
    """Delete queries and results of an earlier run that cut the train set into another number of parts."""
    for kind in ("queries", *RESULTS):
        suffix = "fasta" if kind == "queries" else "parquet"
        keep = [f"{kind}/{search_part(part, parts)}.{suffix}" for part in range(parts)]
        delete_stale(directory, "decontaminate", keep, below=kind)


def open_result(config: Decontaminate, directory: Path, kind: str, part: int) -> parquet.File:
    """Open the result of a part; see `result_path`. Raises UserError when it is missing."""
    return open_parquet(result_path(directory, kind, part, config.parts), f"decontaminate (search --part {part})")


def read_results(config: Decontaminate, directory: Path, kind: str) -> pl.DataFrame:
    """Read the results of all parts; see `result_path`. Raises UserError when a part is missing."""
    frames = []
    for part in range(config.parts):
        with open_result(config, directory, kind, part) as file:
            frames.append(pl.DataFrame(pl.from_arrow(file.read())))
    return pl.concat(frames)


def read_giants(config: Decontaminate, directory: Path) -> dict[str, int]:
    """The counts of all parts. Every part has the same held-out sequences."""
    total: dict[str, Any] = {"train": 0, "held_out": 0, "pairs": 0, "hits": 0}
    for part in range(config.parts):
        with open_result(config, directory, "hits", part) as file:
            found = json.loads((file.schema_arrow.metadata or {}).get(COUNTED.encode(), b"{}"))
        for name, count in found.items():
            total[name] = max(total[name], count) if name == "held_out" else total[name] + count
    return total


def target_path(directory: Path) -> Path:
    """FASTA of the held-out sequences."""
    return directory / "target.fasta"


def level_of(target: Path) -> str | None:
    """The level at which prepare wrote the FASTA of the held-out sequences; None when there are none."""
    with target.open("rb") as lines:
        name = next(lines, b"")
    return ("members" if b"_" in name else "representatives") if name else None  # prepare writes members first
