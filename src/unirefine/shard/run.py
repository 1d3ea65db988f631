"""Build the shards of a run: plan them, spill the tokens to buckets, assemble the shards, write the manifest."""

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unirefine.config import Shard
from unirefine.core.alphabet import TOKENS
from unirefine.core.levels import SIDES
from unirefine.dataset.manifest import FORMAT, FORMAT_VERSION
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import fsync_directory, read_json, temporary_directory, write_json
from unirefine.files.code import versions
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.hashes import sha256_json
from unirefine.files.space import require_space
from unirefine.files.written import delete_stale
from unirefine.progress import meter
from unirefine.shard.assemble import WrittenShard, assemble
from unirefine.shard.plan import Plan, make_plan
from unirefine.shard.spill import spill

_ID_BYTES = 64
"""Upper estimate of the disk space for a sequence's id, its cluster's id and their positions."""


def run(
    config: Shard, *, records: Path, clusters: Path, split: Path, release: Path, output: Path, threads: int = 1
) -> dict[str, Any]:
    """Write the shards of a run, counts, lineage and manifest to `output`; return the manifest.

    records, clusters: directories of those stages; split: split.parquet after decontamination; release: release.json.
    The files are byte-identical for any number of threads. They are renamed into `output` when all of them are complete
    and on disk. The manifest is written last, and without it nothing opens the directory.

    Raises UserError when the inputs do not fit each other and when the disk is too small.
    """
    released = read_json(release)
    output.mkdir(parents=True, exist_ok=True)
    plan = make_plan(config, records, clusters, split)
    residues = int(plan.lengths.sum(dtype="int64"))
    needed = residues + _ID_BYTES * len(plan.lengths) + 4 * residues // max(len(plan.bucket_ranks) - 1, 1)
    require_space(output, needed, "building the shards", "put results/ on a larger disk")
    with temporary_directory(output / "build") as work:
        _allow_open_files(len(plan.bucket_ranks) + 256)
        total = sum(level.rows for level in plan.levels.values())
        with meter("read and tokenise", total=total, unit=" records") as progress:
            buckets = spill(plan, work, threads, progress.advance)
        written = _assemble_all(plan, buckets, work, threads, residues)
        (output / "manifest.json").unlink(missing_ok=True)
        names = [file["name"] for shard in written for file in shard.files]
        for name in names:
            (work / name).replace(output / name)
        delete_stale(output, "shard", [*names, "counts.json", "lineage.json"])
        fsync_directory(output)
    manifest = _manifest(config, released, written)
    _write_counts(output, config, plan, written)
    step = lineage.step("shard", config, counts=manifest["sides"])
    lineage.write(output, step, [split.parent], release=released, files=manifest["files"])
    write_json(output / "manifest.json", manifest)
    return manifest


def _assemble_all(plan: Plan, buckets: list[Path], work: Path, threads: int, residues: int) -> list[WrittenShard]:
    with meter("order and write", total=residues, unit=" residues") as progress, ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(assemble, plan, shard, buckets, work) for shard in plan.shards]
        written = []
        try:
            for job in jobs:
                written.append(job.result())
                progress.advance(written[-1].tokens)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return written


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise UserError(f"{count} files must be open at once, the limit is {hard}", fix="raise `ulimit -n`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _manifest(config: Shard, released: dict[str, Any], written: list[WrittenShard]) -> dict[str, Any]:
    options = config.model_dump(mode="json")
    keys = ("file", "size", "sha256")  # not the date of the download, which would change the manifest
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "alphabet": list(TOKENS),
        "dtype": "uint8",
        "sides": sides_of(written),
        "files": [file for shard in written for file in shard.files],
        "config": options,
        "config_sha256": sha256_json(options),
        "release": {
            "source": released.get("source"),
            "release": released.get("release"),
            "files": [{key: file.get(key) for key in keys} for file in released.get("files", [])],
        },
        "versions": versions("numpy", "numba", "pyarrow"),
    }


def sides_of(written: list[WrittenShard]) -> dict[str, Any]:
    """By side, the names of its shards and the sums of their numbers."""
    sides = {}
    for side in SIDES:
        shards = [shard for shard in written if shard.side == side]
        if shards:
            sides[side] = {
                "shards": [shard.name for shard in shards],
                "documents": sum(shard.documents for shard in shards),
                "sequences": sum(shard.sequences for shard in shards),
                "tokens": sum(shard.tokens for shard in shards),
                "longest": max(shard.longest for shard in shards),
                "unknown": sum(shard.unknown for shard in shards),
            }
    return sides


def _write_counts(output: Path, config: Shard, plan: Plan, written: list[WrittenShard]) -> None:
    """Write counts.json. Every kept cluster is a document. Where only the UniRef50 representative of a cluster is
    written, its UniRef90 members are counted as removed, with the reason `<side>_cluster_member`.
    """
    sides = sides_of(written)
    documents = sum(facts["documents"] for facts in sides.values())
    removed = {}
    for side, facts in sides.items():
        are_members = side == "train" or config.validation == "members" or plan.representative_level == "uniref90"
        removed[f"{side}_cluster_member"] = plan.members[side] - (facts["sequences"] if are_members else 0)
    members = sum(plan.members.values())
    levels = {
        "uniref50": level_counts(documents, documents, {}),
        "uniref90": level_counts(members, members - sum(removed.values()), removed),
    }
    write_counts(output / "counts.json", "shard", levels, sides=sides)
