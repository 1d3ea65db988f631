"""Build the shards of a run: plan, first pass, second pass, and the manifest that vouches for all of it."""

import contextlib
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unirefine.config import Shard
from unirefine.core.alphabet import TOKENS
from unirefine.dataset.manifest import FORMAT, FORMAT_VERSION
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory, read_json, write_json
from unirefine.files.code import versions
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.hashes import sha256_json
from unirefine.files.names import is_shard_file
from unirefine.progress import human, meter
from unirefine.shard.assemble import Written, assemble
from unirefine.shard.plan import SIDES, Plan, make_plan
from unirefine.shard.spill import spill

_ID_BYTES = 64  # of a sequence's id, its cluster's id and the bookkeeping, generously


def build_shards(
    config: Shard, *, records: Path, clusters: Path, split: Path, release: Path, output: Path, threads: int
) -> dict[str, Any]:
    """Write the shards of a run into `output` and return the manifest.

    records, clusters: directories of those stages; split: split.parquet after decontamination; release:
    release.json. The files are byte-identical for any number of threads. They get their names when all of them are
    complete and on disk, and the manifest comes last: without it nothing opens the directory.

    Raises UserError for inputs that do not fit each other and when the disk is too small.
    """
    released = read_json(release)
    output.mkdir(parents=True, exist_ok=True)
    plan = make_plan(config, records, clusters, split)
    residues = int(plan.lengths.sum(dtype="int64"))
    _check_space(output, residues + _ID_BYTES * len(plan.lengths) + 4 * residues // max(len(plan.bucket_ranks) - 1, 1))
    with _workspace(output) as work:
        _allow_open_files(len(plan.bucket_ranks) + 256)
        total = sum(level.rows for level in plan.levels.values())
        with meter("read and tokenise", total=total, unit=" records") as progress:
            buckets = spill(plan, work, threads, progress.advance)
        written = _assemble_all(plan, buckets, work, threads, residues)
        (output / "manifest.json").unlink(missing_ok=True)
        for name in (file["name"] for shard in written for file in shard.files):
            (work / name).replace(output / name)
        _delete_stale(output, {file["name"] for shard in written for file in shard.files})
        fsync_directory(output)
    manifest = _manifest(config, released, written)
    _write_counts(output, config, plan, written)
    write_json(output / "manifest.json", manifest)
    return manifest


def _assemble_all(plan: Plan, buckets: list[Path], work: Path, threads: int, residues: int) -> list[Written]:
    with meter("order and write", total=residues, unit=" residues") as progress, ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(assemble, plan, part, buckets, work) for part in plan.parts]
        written = []
        try:
            for job in jobs:
                written.append(job.result())
                progress.advance(written[-1].tokens)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return written


@contextlib.contextmanager
def _workspace(output: Path) -> Iterator[Path]:
    """A fresh directory beside the results, on the same file system; nothing of it stays."""
    work = output / ".build"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _delete_stale(output: Path, names: set[str]) -> None:
    """Delete the shards of an earlier build that the new one does not have: other parts, or a test side."""
    for path in [path for path in output.iterdir() if is_shard_file(path.name) and path.name not in names]:
        path.unlink()


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UserError(
            f"building the shards takes {human(needed, 'B')} and {human(free, 'B')} are free",
            where=directory, fix="free some space or put results/ on a larger disk",
        )  # fmt: skip


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise UserError(f"{count} files must be open at once, the limit is {hard}", fix="raise `ulimit -n`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _manifest(config: Shard, released: dict[str, Any], written: list[Written]) -> dict[str, Any]:
    options = config.model_dump(mode="json")
    files = ("file", "size", "sha256")  # not the day of the download, which would differ on every rebuild
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "alphabet": list(TOKENS),
        "dtype": "uint8",
        "sides": _sides(written),
        "files": [file for shard in written for file in shard.files],
        "config": options,
        "config_sha256": sha256_json(options),
        "release": {
            "source": released.get("source"),
            "release": released.get("release"),
            "files": [{key: file.get(key) for key in files} for file in released.get("files", [])],
        },
        "versions": versions("numpy", "numba", "pyarrow"),
    }


def _sides(written: list[Written]) -> dict[str, Any]:
    sides = {}
    for side in SIDES:
        shards = [shard for shard in written if shard.part.side == side]
        if shards:
            sides[side] = {
                "shards": [shard.part.name for shard in shards],
                "documents": sum(shard.documents for shard in shards),
                "sequences": sum(shard.sequences for shard in shards),
                "tokens": sum(shard.tokens for shard in shards),
                "longest": max(shard.longest for shard in shards),
                "unknown": sum(shard.unknown for shard in shards),
            }
    return sides


def _write_counts(output: Path, config: Shard, plan: Plan, written: list[Written]) -> None:
    """Counts of both levels. Every kept cluster is a document. A UniRef90 member of a cluster that only its
    UniRef50 representative stands for is not written, and is listed as `<side>_cluster_member`.
    """
    sides = _sides(written)
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
