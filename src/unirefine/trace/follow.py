"""Follow one id from the release to its shard: what each stage's files say of it, one line a stage."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import REMOVED, SIDES, VALIDATION
from unirefine.core.tables import open_parquet
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.stages import stage_path
from unirefine.trace.lookup import Record, candidates, find_record, find_rows, record_at, removal, row_of

STAGES = ("records", "curate", "cluster", "decontaminate")
"""Stages that may remove something."""


class Step(NamedTuple):
    """What one stage did with the id."""

    stage: str
    text: str


@dataclass(frozen=True)
class _Place:
    """A cluster of the run."""

    index: int
    clusters: int
    key: int
    size: int
    id: str


class _Gone(Exception):
    """The id goes no further."""


def follow(results: Path, name: str, offset: Callable[[Path, int], int]) -> Iterator[Step]:
    """Yield one step per stage, up to the one that removed the id or has not been run.

    results: directory of a run. name: `UniRef90_P12345`, `UniRef50_P12345`, a bare accession, or an id of a lab's own
    FASTA. offset: gives the byte at which a sequence of a shard starts, from the shard's path without suffix and the
    sequence's number. Raises UserError when neither the records nor what they removed have the id.
    """
    record, removed = _find(results, name)
    if (said := _release(results)) is not None:
        yield Step("release", f"{said['release']} ({said['source']})")
    if record is None:
        yield Step("records", removed)
        return
    yield Step("records", _described(record))
    try:
        yield from _onwards(results, record, offset)
    except _Gone as gone:
        stage, text = gone.args
        yield Step(stage, text)


def _release(results: Path) -> dict[str, Any] | None:
    """release.json, or what the shards' lineage holds of it where the downloads are gone."""
    release = stage_path(results, "release") / "release.json"
    if release.exists():
        return read_json(release)
    shards = stage_path(results, "shard")
    return lineage.read(shards)["release"] if (shards / lineage.FILE).exists() else None


def _find(results: Path, name: str) -> tuple[Record | None, str]:
    """The record; or why the records stage removed it."""
    for level, full in candidates(name):
        record = find_record(stage_path(results, "records"), level, full)
        if record is not None:
            return record, ""
        found = removal(stage_path(results, "records") / level / "removed.parquet", level, full)
        if found:
            return None, f"{full}: {_reasons(found)}"
    raise UserError(f"{name} is not in this release", where=results, fix="check the id and --results")


def _reasons(found: list[tuple[str, str]]) -> str:
    return "removed: " + "; ".join(f"{reason} ({evidence})" if evidence else reason for reason, evidence in found)


def _described(record: Record) -> str:
    text = f"{record.id}, record {record.row:,} of {record.records:,} in {record.level}"
    for column, unit in (("length", "residue"), ("member_count", "member")):
        if record.columns.get(column) is not None:
            text += f", {_counted(record.columns[column], unit)}"
    for column, what in (
        ("representative", "representative"),
        ("taxon_id", "taxon"),
        ("rep_taxon_id", "representative's taxon"),
    ):
        if record.columns.get(column) is not None:
            text += f", {what} {record.columns[column]}"
    return text


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _onwards(results: Path, record: Record, offset: Callable[[Path, int], int]) -> Iterator[Step]:
    _check(results, "curate", record)
    yield Step("curate", "kept")
    _check(results, "cluster", record)
    place = _place(results, record)
    role = "is" if place.id == record.id else "in"
    disputed = removal(stage_path(results, "cluster") / "violations.parquet", record.level, record.id)
    noted = f"; {_reasons(disputed).removeprefix('removed: ')}" if disputed else ""
    yield Step(
        "cluster",
        f"{role} {place.id}, cluster {place.index:,} of {place.clusters:,}, {_counted(place.size, 'member')}{noted}",
    )
    side = _side(stage_path(results, "split"), "split", place)
    yield Step("split", SIDES[side] + _rank(results, place, side))
    final = _side(stage_path(results, "decontaminate"), "decontaminate", place)
    _check(results, "decontaminate", record)
    assert final != REMOVED, place
    yield Step("decontaminate", "kept" + _similar(results, place, side))
    yield Step("shard", _shard(results, record, place, side, offset))


def _check(results: Path, stage: str, record: Record) -> None:
    """Raises _Gone when a stage has not been run, or removed the id."""
    if not (stage_path(results, stage) / "counts.json").exists():
        raise _Gone(stage, "not run yet")
    found = removal(stage_path(results, stage) / "removed.parquet", record.level, record.id)
    if not found:
        return
    raise _Gone(stage, "; ".join([_reasons(found), *_because(results, record.level, found)]))


def _because(results: Path, level: str, found: list[tuple[str, str]]) -> Iterator[str]:
    """Why that was removed after which something of `level` had to go: the evidence of `cluster_removed` names it."""
    for reason, evidence in found:
        if reason != "cluster_removed":
            continue
        # a UniRef50 cluster that took its member along, or the UniRef90 whose sequence represented the cluster
        other, name = ("uniref50", evidence.split()[-1]) if level == "uniref90" else ("uniref90", evidence.split()[0])
        for earlier in STAGES:
            rows = removal(_removed_path(results, earlier, other), other, name)
            if rows:
                yield f"{name} {_reasons(rows)} by {earlier}"
                yield from _because(results, other, rows)


def _removed_path(results: Path, stage: str, level: str) -> Path:
    directory = stage_path(results, stage)
    return directory / level / "removed.parquet" if stage == "records" else directory / "removed.parquet"


def _place(results: Path, record: Record) -> _Place:
    """The cluster of a record."""
    path = stage_path(results, "cluster") / "clusters.parquet"
    with open_parquet(path, "cluster") as file:
        total = file.metadata.num_rows
        level = (file.schema_arrow.metadata or {})[b"representative_level"].decode()
    if record.level == level == "uniref50":
        (index,) = find_rows(path, "cluster", "row", record.row, 1)
    else:
        members = stage_path(results, "cluster") / "membership.parquet"
        rows = find_rows(members, "cluster", "row", record.row, 1)
        if not rows:
            raise _Gone("cluster", "in no cluster, and not listed as removed: run the cluster stage again")
        index = row_of(members, "cluster", rows[0], ["cluster"])["cluster"]
    found = row_of(path, "cluster", index, ["key", "row", "size"])
    name = record_at(stage_path(results, "records"), level, found["row"])["id"]
    return _Place(index, total, found["key"], found["size"], name)


def _side(directory: Path, stage: str, place: _Place) -> int:
    path = directory / "split.parquet"
    if not path.exists():
        raise _Gone(stage, "not run yet")
    return row_of(path, stage, place.index, ["side"])["side"]


def _rank(results: Path, place: _Place, side: int) -> str:
    """Why the cluster is on its side, where a hash decided."""
    said = read_json(stage_path(results, "split") / "counts.json")
    if said["method"] == "ids":
        return ", by the id list" if side == VALIDATION else ""
    value = int(keyed_hash(said["seed"], place.key))
    limits = ", ".join(f"{name} up to {limit}" for name, limit in said["largest_hash"].items())
    return f", hash {value:016x} of seed {said['seed']} ({limits})"


def _similar(results: Path, place: _Place, side: int) -> str:
    """What the searches found of a held-out cluster, or of a train cluster that stays."""
    hits = pl.scan_parquet(sorted((stage_path(results, "decontaminate") / "hits").glob("part-*.parquet")))
    if side != 0:
        taken = hits.filter(pl.col("target") == place.index).select(pl.col("cluster").n_unique()).collect().item()
        return f", {_counted(taken, 'train cluster')} similar to it {'was' if taken == 1 else 'were'} removed"
    audit = stage_path(results, "decontaminate") / "audit.parquet"
    if not audit.exists():
        return ", not audited yet"
    left = pl.read_parquet(audit).filter(pl.col("cluster") == place.index)
    return (
        f", but the audit found {_counted(len(left), 'hit')}" if len(left) else ", no similar held-out sequence found"
    )


def _shard(results: Path, record: Record, place: _Place, side: int, offset: Callable[[Path, int], int]) -> str:
    """Where the sequence is in the shards; for a UniRef50 id in train, where its members are."""
    directory = stage_path(results, "shard")
    if not (directory / "manifest.json").exists():
        raise _Gone("shard", "not run yet")
    held_out = side != 0
    for path in sorted(directory.glob(f"{SIDES[side]}*.ids.parquet")):
        prefix = path.with_name(path.name.removesuffix(".ids.parquet"))
        ids = pl.scan_parquet(path).with_row_index("row")
        found = ids.filter(pl.col("id") == record.id).collect()
        if len(found):
            row = found["row"][0]
            return f"{prefix.name}, sequence {row:,}, byte {offset(prefix, row):,} of {prefix.name}.bin"
        found = ids.filter(pl.col("cluster_id") == place.id).collect()
        if len(found):
            row = found["row"][0]
            what = (
                f"its cluster's representative {found['id'][0]}"
                if held_out
                else f"its {_counted(len(found), 'member')}"
            )
            return f"{prefix.name}, {what} from sequence {row:,}, byte {offset(prefix, row):,} of {prefix.name}.bin"
    raise UserError(f"{record.id} is in no {SIDES[side]} shard", where=directory, fix="run the shard stage again")
