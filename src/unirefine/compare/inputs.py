"""What is read of the two runs: clusters with their sides, members in slices, removals, options."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import keys_of
from unirefine.core.levels import LEVELS
from unirefine.core.tables import Parts, iterate_file, numbers, open_parquet, record_parts, string_buffers, take_strings
from unirefine.errors import UserError, no_directory
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.stages import stage_path

EARLY = ("records", "curate", "cluster")
"""Stages whose removals are no longer in membership.parquet."""
_SEED = 0xC0FFEE
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Run:
    """One of the two runs; its n clusters are in order of their keys."""

    results: Path
    keys: np.ndarray
    """uint64[n], ascending."""
    rows: np.ndarray
    """uint32[n]: records of the representatives."""
    level: str
    """Level of these records."""
    split: np.ndarray | None
    """uint8[n]: sides of the split stage; None before it has run."""
    side: np.ndarray | None
    """uint8[n]: final sides, after decontamination where that has run; None before the split."""
    members: int
    origin: Mapping[str, Any]
    """Its lineage as far as it has come."""
    release: str | None
    """Name of its release, or of its data set; None for a FASTA."""

    def directory(self, stage: str) -> Path:
        """The directory of a stage."""
        return stage_path(self.results, stage)

    def cluster_names(self, clusters: np.ndarray) -> pa.Array:
        """Ids of clusters, large_string[k]. clusters: int[k] in any order."""
        return take_strings(record_parts(self.directory("records"), self.level), "id", self.rows[clusters])

    def member_records(self) -> Parts:
        """The records that the rows of members refer to."""
        return record_parts(self.directory("records"), "uniref90")


def read_run(results: Path) -> Run:
    """Read the clusters and sides of a run. Raises UserError when its cluster stage has not run."""
    directory = stage_path(results, "cluster")
    path = directory / "clusters.parquet"
    if not results.is_dir():
        raise UserError(no_directory(results), where=results, fix="give the results of a run, as in results/demo")
    with open_parquet(path, "cluster") as file:
        level = (file.schema_arrow.metadata or {}).get(b"representative_level", b"").decode()
    if level not in LEVELS:
        raise UserError("its metadata names no representative_level", where=path, fix="run the cluster stage again")
    blocks = [batch for _row, batch in iterate_file(path, ["key", "row"], "cluster", batch_rows=_BLOCK)]
    keys = np.concatenate([numbers(batch.column(0)) for batch in blocks])
    rows = np.concatenate([numbers(batch.column(1)) for batch in blocks])
    if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
        raise UserError("its keys do not ascend", where=path, fix="run the cluster stage again")
    with open_parquet(directory / "membership.parquet", "cluster") as file:
        members = file.metadata.num_rows
    split = _sides(results, "split", len(keys))
    final = _sides(results, "decontaminate", len(keys))
    last = next(
        stage for stage in ("decontaminate", "split", "cluster") if (stage_path(results, stage) / lineage.FILE).exists()
    )
    origin = lineage.read(stage_path(results, last))
    found = stage_path(results, "release") / "release.json"
    released = read_json(found) if found.exists() else origin["release"]  # only lineages from the shards on have it
    release = (released or {}).get("release") or lineage.data_set_of(released)
    return Run(results, keys, rows, level, split, split if final is None else final, members, origin, release)


def _sides(results: Path, stage: str, clusters: int) -> np.ndarray | None:
    path = stage_path(results, stage) / "split.parquet"
    if not path.exists():
        return None
    sides = open_parquet(path, stage).read(columns=["side"])["side"].to_numpy()
    if len(sides) != clusters:
        raise UserError(f"{len(sides)} sides for {clusters} clusters", where=path, fix=f"run the {stage} stage again")
    return sides


@dataclass(frozen=True)
class Members:
    """A slice of a run's members, in order of their keys: all arrays have length k."""

    key: np.ndarray
    cluster: np.ndarray
    row: np.ndarray


def members_of(run: Run, number: int, slices: int) -> Members:
    """The members in slice `number` of `slices`: those whose hash falls there, the same ids in every run.

    Reads the whole table; memory: the slice.
    """
    path = run.directory("cluster") / "membership.parquet"
    found: list[tuple[np.ndarray, ...]] = []
    for _row, batch in iterate_file(path, ["key", "cluster", "row"], "cluster", batch_rows=_BLOCK):
        block = [numbers(column) for column in batch.columns]
        if slices > 1:
            chosen = keyed_hash(_SEED, block[0]) % np.uint64(slices) == number
            block = [column[chosen] for column in block]
        found.append(tuple(block))
    key, cluster, row = (np.concatenate(columns) for columns in zip(*found, strict=True)) if found else ([],) * 3
    order = np.argsort(key, kind="stable")
    if len(order) and int(cluster.max()) >= len(run.keys):
        raise UserError(f"cluster {cluster.max()} of {len(run.keys)}", where=path, fix="run the cluster stage again")
    return Members(key[order], cluster[order], row[order])


@dataclass(frozen=True)
class Reasons:
    """Why ids of one level were removed by some stages of a run."""

    keys: np.ndarray
    """uint64[k], ascending."""
    codes: np.ndarray
    """int64[k]: indices of `names`."""
    names: list[str]

    def count(self, keys: np.ndarray, otherwise: str) -> dict[str, int]:
        """How many of some ids have which reason. keys: uint64[n]; otherwise: what the others are counted as."""
        codes = self.of(keys)
        counts = np.bincount(codes + 1, minlength=len(self.names) + 1)
        named = zip([otherwise, *self.names], counts.tolist(), strict=True)
        return {name: count for name, count in named if count}

    def of(self, keys: np.ndarray) -> np.ndarray:
        """The reason of each id: int64[n], -1 for none. keys: uint64[n]."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.codes[at], -1)


def removals(run: Run, level: str, stages: tuple[str, ...]) -> Reasons:
    """The removals of a level by stages that have run. The first stage that removed an id counts."""
    names: dict[str, int] = {}
    keys, codes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for stage in stages:
        directory = run.directory(stage)
        path = (directory / level if stage == "records" else directory) / "removed.parquet"
        if not path.exists():
            continue
        for _row, batch in iterate_file(path, ["level", "id", "reason"], stage, batch_rows=_BLOCK):
            rows = batch.filter(pc.equal(batch.column("level"), level))
            if not len(rows):
                continue
            keys.append(keys_of_ids(rows.column("id")))
            encoded = rows.column("reason").dictionary_encode()
            found = [names.setdefault(f"{stage}: {name}", len(names)) for name in encoded.dictionary.to_pylist()]
            codes.append(np.array(found, np.int64)[encoded.indices.to_numpy()])
    joined, first = np.unique(np.concatenate(keys), return_index=True)
    return Reasons(joined, np.concatenate(codes)[first], list(names))


def keys_of_ids(ids: pa.Array) -> np.ndarray:
    """Keys of ids with or without `UniRef90_`: uint64[n]."""
    bare = pc.replace_substring_regex(ids.cast(pa.large_string()), pattern=r"^UniRef[0-9]+_", replacement="")
    return keys_of(*string_buffers(bare))


def option_changes(first: Run, second: Run) -> Iterator[tuple[str, Any, Any]]:
    """(option, value of the first run, of the second) of the stages that both have run."""
    steps = [{one["stage"]: one["config"] for one in run.origin["steps"]} for run in (first, second)]
    for stage in steps[0].keys() & steps[1].keys():
        left, right = (dict(_flat(stage, step[stage])) for step in steps)
        for name in sorted(left.keys() | right.keys()):
            if left.get(name) != right.get(name) and not re.search(r"\.parts$", name):
                yield name, left.get(name), right.get(name)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}", inner)
    else:
        yield prefix, value
