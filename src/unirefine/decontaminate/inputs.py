"""What every step of the stage reads: clusters and their sides, the record level of representatives, file names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.core.levels import LEVELS, REMOVED, TEST, TRAIN, VALIDATION
from unirefine.core.tables import Parts, iterate_file, numbers, open_parquet, record_parts
from unirefine.errors import UserError
from unirefine.files.names import parts_of_search, search_part

SEARCHED = "unirefine_searched"
"""Metadata key of `hits`: `{mmseqs: version, search: options, audit: options}` as JSON."""


@dataclass(frozen=True)
class Clusters:
    """The clusters of a run and their sides; n clusters in cluster order."""

    directory: Path
    side: np.ndarray
    """uint8[n]: 0 train, 1 validation, 2 test, 255 removed."""
    representative_level: str
    """Level of the records that represent clusters."""

    def column(self, name: str) -> np.ndarray:
        """A column of clusters.parquet: `key` uint64[n], `row`, `length` or `size`."""
        table = open_parquet(self.directory / "clusters.parquet", "cluster").read(columns=[name])
        return table[name].to_numpy()

    def representatives(self, records: Path) -> Parts:
        """The record parts that the column `row` counts in."""
        return record_parts(records, self.representative_level)

    @property
    def held_out(self) -> np.ndarray:
        """bool[n]: validation and test clusters."""
        return (self.side == VALIDATION) | (self.side == TEST)

    def members(self, *columns: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Blocks of membership.parquet: the `cluster` of each member, and the columns asked for."""
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


def read_clusters(clusters: Path, split: Path) -> Clusters:
    """Read sides from the directory `split`. Raises UserError unless they fit the clusters."""
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


def query_path(directory: Path, part: int, parts: int) -> Path:
    """FASTA of a part's train sequences."""
    return directory / "queries" / f"{search_part(part, parts)}.fasta"


def result_path(directory: Path, kind: str, part: int, parts: int) -> Path:
    """Result of a part: kind `hits`, `audit` or `nearest`."""
    return directory / kind / f"{search_part(part, parts)}.parquet"


def delete_other_parts(directory: Path, parts: int) -> None:
    """Delete queries and results of an earlier run that cut the train set into another number of parts."""
    for kind in ("queries", "hits", "audit", "nearest"):
        for path in (directory / kind).glob("part-*"):
            if parts_of_search(path.stem) not in (None, parts):
                path.unlink()


def target_path(directory: Path) -> Path:
    """FASTA of the held-out sequences."""
    return directory / "target.fasta"
