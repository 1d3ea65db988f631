"""Follow one id from the release to its shard: what the files of each stage say about it, in one line a stage."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from unirefine.core.hashing import keyed_hash
from unirefine.core.levels import LEVELS, REMOVED, SIDES, TRAIN, VALIDATION
from unirefine.core.tables import open_parquet
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.stages import stage_path
from unirefine.trace.lookup import Record, candidates, find_record, find_rows, record_at, removal, row_of, select
from unirefine.trace.members import find_owners, looked_at

UNIREF50, UNIREF90 = LEVELS
REMOVING_STAGES = ("records", "curate", "cluster", "decontaminate")


class Step(NamedTuple):
    """What one stage did with the id."""

    stage: str
    text: str


@dataclass(frozen=True)
class _Cluster:
    """The cluster that a record belongs to."""

    index: int
    total: int
    """Clusters of the run."""
    key: int
    size: int
    """Members."""
    id: str


class _Stop(Exception):
    """The id goes no further; holds the last step."""


def follow(results: Path, name: str, offset: Callable[[Path, int], int]) -> Iterator[Step]:
    """Yield one step per stage, up to the stage that removed the id or has not been run.

    results: directory of a run. name: `UniRef90_P12345`, `UniRef50_P12345`, a bare accession, or an id of your own
    FASTA. offset: function that returns the byte at which a sequence starts, given its shard's path without suffix and
    its number. A member is traced as the record that it belongs to. Raises UserError when the id is in no record.
    """
    record, text = _find(results, name)
    release = _release(results)
    own = release is not None and release["source"] == "fasta"
    if release is not None:
        files = ", ".join(file["file"] for file in release["files"][:1])
        name = release["release"] or lineage.data_set_of(release)
        yield Step("release", f"your own FASTA, {files}" if own else f"{name} ({release['source']})")
    if record is None:
        yield Step("records", text)
        return
    yield Step("records", text + _described(record, own))
    try:
        yield from _follow_record(results, record, offset)
    except _Stop as stop:
        stage, text = stop.args
        yield Step(stage, text)


def _release(results: Path) -> dict[str, Any] | None:
    """release.json, or its copy in the lineage of the shards when the downloads are deleted."""
    path = stage_path(results, "release") / "release.json"
    if path.exists():
        return read_json(path)
    shards = stage_path(results, "shard")
    return lineage.read(shards)["release"] if (shards / lineage.FILE).exists() else None


def _find(results: Path, name: str) -> tuple[Record | None, str]:
    """The record, and how the id belongs to it when it is a member; or None and why the records stage removed it."""
    records, release = stage_path(results, "records"), stage_path(results, "release")
    owners = ((level, full, f"{name} {how} {full}: ") for level, full, how in find_owners(records, release, name))
    for level, full, how in itertools.chain(((*one, "") for one in candidates(name)), owners):
        record = find_record(records, level, full)
        if record is not None:
            return record, how
        found = removal(records / level / "removed.parquet", level, full)
        if found:
            return None, f"{how}{full}: {_reasons(found)}"
    raise UserError(
        f"{name} is not in this release: {looked_at(records, release)}", where=results, fix="check the id and --results"
    )


def _reasons(found: list[tuple[str, str]]) -> str:
    return "removed: " + "; ".join(f"{reason} ({evidence})" if evidence else reason for reason, evidence in found)


def _described(record: Record, own: bool) -> str:
    """own: whether it is a sequence of the user's own FASTA."""
    what = "sequence" if own else "record"
    text = f"{record.id}, {what} {record.row:,} of {record.records:,}" + ("" if own else f" in {record.level}")
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


def _follow_record(results: Path, record: Record, offset: Callable[[Path, int], int]) -> Iterator[Step]:
    """The steps after the records stage. Raises _Stop."""
    _check_kept(results, "curate", record)
    yield Step("curate", "kept")
    _check_kept(results, "cluster", record)
    cluster = _find_cluster(results, record)
    role = "is" if cluster.id == record.id else "in"
    violations = removal(stage_path(results, "cluster") / "violations.parquet", record.level, record.id)
    listed = f"; {_reasons(violations).removeprefix('removed: ')}" if violations else ""
    yield Step(
        "cluster",
        f"{role} {cluster.id}, cluster {cluster.index:,} of {cluster.total:,},"
        f" {_counted(cluster.size, 'member')}{listed}",
    )
    side = _side(stage_path(results, "split"), "split", cluster)
    yield Step("split", SIDES[side] + _rank(results, cluster, side))
    final = _side(stage_path(results, "decontaminate"), "decontaminate", cluster)
    _check_kept(results, "decontaminate", record)
    assert final != REMOVED, cluster
    yield Step("decontaminate", "kept" + _similar(results, cluster, side))
    yield Step("shard", _shard(results, record, cluster, side, offset))


def _check_kept(results: Path, stage: str, record: Record) -> None:
    """Raise _Stop when a stage has not been run, or removed the id."""
    if not (stage_path(results, stage) / "counts.json").exists():
        raise _Stop(stage, "not run yet")
    found = removal(stage_path(results, stage) / "removed.parquet", record.level, record.id)
    if found:
        raise _Stop(stage, "; ".join([_reasons(found), *_causes(results, record.level, found)]))


def _causes(results: Path, level: str, found: list[tuple[str, str]]) -> Iterator[str]:
    """Why the record was removed that took one of `level` along: the evidence of `cluster_removed` names it."""
    for reason, evidence in found:
        if reason != "cluster_removed":
            continue
        # a UniRef50 cluster took its member along, or a UniRef90 the cluster that its sequence represented
        other, name = (UNIREF50, evidence.split()[-1]) if level == UNIREF90 else (UNIREF90, evidence.split()[0])
        for earlier in REMOVING_STAGES:
            rows = removal(_removed_path(results, earlier, other), other, name)
            if rows:
                yield f"{name} {_reasons(rows)} by {earlier}"
                yield from _causes(results, other, rows)


def _removed_path(results: Path, stage: str, level: str) -> Path:
    directory = stage_path(results, stage)
    return directory / level / "removed.parquet" if stage == "records" else directory / "removed.parquet"


def _find_cluster(results: Path, record: Record) -> _Cluster:
    """The cluster of a record. Raises _Stop."""
    path = stage_path(results, "cluster") / "clusters.parquet"
    with open_parquet(path, "cluster") as file:
        total = file.metadata.num_rows
        level = (file.schema_arrow.metadata or {}).get(b"representative_level", b"").decode()
    if level not in LEVELS:
        raise UserError("its metadata names no representative_level", where=path, fix="run the cluster stage again")
    if record.level == level == UNIREF50:
        (index,) = find_rows(path, "cluster", "row", record.row, 1)
    else:
        members = stage_path(results, "cluster") / "membership.parquet"
        rows = find_rows(members, "cluster", "row", record.row, 1)
        if not rows:
            raise _Stop("cluster", "in no cluster, and not listed as removed: run the cluster stage again")
        index = row_of(members, "cluster", rows[0], ["cluster"])["cluster"]
    found = row_of(path, "cluster", index, ["key", "row", "size"])
    name = record_at(stage_path(results, "records"), level, found["row"])["id"]
    return _Cluster(index, total, found["key"], found["size"], name)


def _side(directory: Path, stage: str, cluster: _Cluster) -> int:
    """The side of a cluster as a stage wrote it. Raises _Stop."""
    path = directory / "split.parquet"
    if not path.exists():
        raise _Stop(stage, "not run yet")
    return row_of(path, stage, cluster.index, ["side"])["side"]


def _rank(results: Path, cluster: _Cluster, side: int) -> str:
    """Why the cluster is on its side: its hash, the id list, or the source."""
    split = read_json(stage_path(results, "split") / "counts.json")
    if split["method"] == "ids":
        return ", by the id list" if side == VALIDATION else ""
    if split["method"] == "given":
        return ", as the source says"
    value = int(keyed_hash(split["seed"], cluster.key))
    limits = ", ".join(f"{name} up to {limit}" for name, limit in split["largest_hash"].items())
    return f", hash {value:016x} of seed {split['seed']} ({limits})"


def _similar(results: Path, cluster: _Cluster, side: int) -> str:
    """What the searches found for a held-out cluster, or for a train cluster that stays."""
    if side != TRAIN:
        paths = sorted((stage_path(results, "decontaminate") / "hits").glob("part-*.parquet"))
        hits = (row for path in paths for row in select(path, "decontaminate", ["cluster"], target=cluster.index))
        taken = len({row["cluster"] for row in hits})
        return f", {_counted(taken, 'train cluster')} similar to it {'was' if taken == 1 else 'were'} removed"
    audit = stage_path(results, "decontaminate") / "audit.parquet"
    if not audit.exists():
        return ", not audited yet"
    rows = select(audit, "decontaminate", ["cluster", "check"], cluster=cluster.index)
    reported = sum(row["check"] == "report" for row in rows)
    of_benchmarks = f", {_counted(reported, 'hit')} with proteins of decontaminate.against reported" if reported else ""
    if left := len(rows) - reported:
        return f", but the audit found {_counted(left, 'hit')}{of_benchmarks}"
    return f", no similar held-out sequence found{of_benchmarks}"


def _shard(results: Path, record: Record, cluster: _Cluster, side: int, offset: Callable[[Path, int], int]) -> str:
    """The shard and byte of the sequence; of a UniRef50 in train, those of its members. Raises _Stop."""
    directory = stage_path(results, "shard")
    if not (directory / "manifest.json").exists():
        raise _Stop("shard", "not run yet")
    held_out = side != TRAIN
    for path in sorted(directory.glob(f"{SIDES[side]}*.ids.parquet")):
        prefix = path.with_name(path.name.removesuffix(".ids.parquet"))
        if found := select(path, "shard", ["id"], id=record.id):
            row = found[0]["row"]
            return f"{prefix.name}, sequence {row:,}, byte {offset(prefix, row):,} of {prefix.name}.bin"
        if found := select(path, "shard", ["id"], cluster_id=cluster.id):
            row = found[0]["row"]
            what = (
                f"its cluster's representative {found[0]['id']}"
                if held_out
                else f"its {_counted(len(found), 'member')}"
            )
            return f"{prefix.name}, {what} from sequence {row:,}, byte {offset(prefix, row):,} of {prefix.name}.bin"
    raise UserError(f"{record.id} is in no {SIDES[side]} shard", where=directory, fix="run the shard stage again")
