"""What the page's search by id knows: all ids of a small run, else those that were removed or held out."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.core.levels import LEVELS, REMOVED, SIDES, TRAIN
from unirefine.core.tables import find_parts, iterate_file, numbers, open_parquet, take_strings
from unirefine.files.stages import stage_path
from unirefine.report.examples import removed_files

MOST = 30_000
"""Ids on a page, at most: about 2 MB of it."""
STAGES = ("records", "curate", "cluster", "split", "decontaminate", "shard")
_SUFFIX = ".ids.parquet"


def search_index(results: Path) -> dict[str, Any]:
    """What page.js looks through.

    `{ids, clusters, shards, stages, covers, example, results}`. ids: by id `[cluster, shard, sequence or text]`, or
    `[-1, stage, reason]` of what was removed. clusters: `[id, members, side]` each.
    """
    shards = sorted(stage_path(results, "shard").glob(f"*{_SUFFIX}"))
    removed = removed_files(results)
    gone = sum(_rows(path, stage) for stage, path in removed)
    held_out = [path for path in shards if not path.name.startswith(SIDES[TRAIN])]
    whole = _rows(stage_path(results, "cluster") / "membership.parquet", "cluster")
    whole += _rows(stage_path(results, "cluster") / "clusters.parquet", "cluster")
    found = _Index(shards)
    if gone + whole <= MOST and find_parts(stage_path(results, "records"), LEVELS[1]) is not None:
        found.add_clusters(results)
        covers = "The page has the id of every record."
    elif gone + sum(_rows(path, "shard") for path in held_out) <= MOST:
        found.add_held_out(held_out)
        covers = "The page has the ids that were removed, and the held-out sequences in the shards."
    else:
        removed, covers = [], "The run has too many ids for a page."
    for stage, path in removed:
        found.add_removed(stage, path)
    example = next(iter(found.ids), "UniRef50_P12345")
    return {
        "ids": found.ids, "clusters": found.clusters, "shards": found.shards, "stages": STAGES, "covers": covers,
        "example": example, "results": str(results),
    }  # fmt: skip


def search_text(index: Mapping[str, Any]) -> list[str]:
    """What the search covers, as paragraphs."""
    return [
        f"Type an id to see what each stage did with it. {index['covers']} The command "
        f"unirefine trace ID --results {shlex.quote(index['results'])} follows any id, with its hash and its byte."
    ]


class _Index:
    """Collects ids. The first entry of an id stays."""

    def __init__(self, shards: list[Path]) -> None:
        self.paths = shards
        self.shards = [path.name.removesuffix(_SUFFIX) for path in shards]
        self.ids: dict[str, list[Any]] = {}
        self.clusters: list[list[Any]] = []

    def add_clusters(self, results: Path) -> None:
        """Every cluster that is left, and its members."""
        directory, records = stage_path(results, "cluster"), stage_path(results, "records")
        with open_parquet(directory / "clusters.parquet", "cluster") as file:
            level = (file.schema_arrow.metadata or {}).get(b"representative_level", b"uniref50").decode()
        row, size = _columns(directory / "clusters.parquet", "cluster", "row", "size")
        (side,) = _columns(stage_path(results, "decontaminate") / "split.parquet", "decontaminate", "side")
        cluster, member = _columns(directory / "membership.parquet", "cluster", "cluster", "row")
        parts = find_parts(records, level), find_parts(records, LEVELS[1])
        assert parts[0] is not None and parts[1] is not None
        names = take_strings(parts[0], "id", row).to_pylist()
        members = take_strings(parts[1], "id", member).to_pylist()
        places: dict[str, tuple[int, int]] = {}
        first: dict[str, tuple[int, int, str, int]] = {}
        for number, path in enumerate(self.paths):
            for at, (name, of) in enumerate(_rows_of(path, "shard", "id", "cluster_id")):
                places.setdefault(name, (number, at))
                shard, begin, representative, count = first.get(of, (number, at, name, 0))
                first[of] = shard, begin, representative, count + 1
        number_of = {}
        for index in np.flatnonzero(side != REMOVED):
            number_of[int(index)] = len(self.clusters)
            self.clusters.append([names[index], int(size[index]), SIDES[side[index]]])
        for name, index in zip(members, cluster.tolist(), strict=True):
            if index in number_of:
                self._add(name, number_of[index], names[index], side[index], places, first)
        for index, number in number_of.items():
            self._add(names[index], number, names[index], side[index], places, first)

    def _add(self, name: str, cluster: int, of: str, side: int, places: dict, first: dict) -> None:
        if name in places:
            self.ids.setdefault(name, [cluster, *places[name]])
        elif of in first:
            shard, at, representative, count = first[of]
            what = f"its {count:,} member{'' if count == 1 else 's'} from" if side == TRAIN else (
                f"its cluster's representative {representative} from"
            )  # fmt: skip
            self.ids.setdefault(name, [cluster, shard, f"{what} sequence {at:,}"])

    def add_held_out(self, paths: list[Path]) -> None:
        """What the shards of held-out sides hold."""
        for path in paths:
            side = path.name.removesuffix(_SUFFIX)
            for at, (name, of) in enumerate(_rows_of(path, "shard", "id", "cluster_id")):
                if not self.clusters or self.clusters[-1][0] != of:
                    self.clusters.append([of, 0, side])
                self.ids.setdefault(name, [len(self.clusters) - 1, self.shards.index(side), at])

    def add_removed(self, stage: str, path: Path) -> None:
        """The rows of a removed.parquet."""
        for name, reason, evidence in _rows_of(path, stage, "id", "reason", "evidence"):
            self.ids.setdefault(name, [-1, stage, f"{reason} ({evidence})" if evidence else reason])


def _rows(path: Path, stage: str) -> int:
    with open_parquet(path, stage) as file:
        return file.metadata.num_rows


def _columns(path: Path, stage: str, *names: str) -> list[np.ndarray]:
    blocks = [[numbers(column) for column in batch.columns] for _row, batch in iterate_file(path, names, stage)]
    return [np.concatenate(each) for each in zip(*blocks, strict=True)] if blocks else [np.empty(0, int)] * len(names)


def _rows_of(path: Path, stage: str, *names: str) -> Iterator[tuple[str, ...]]:
    for _row, batch in iterate_file(path, names, stage):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
