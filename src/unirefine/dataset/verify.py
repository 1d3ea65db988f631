"""Check shards against their manifest: the hash of every file, and every entry of every index."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unirefine.dataset.indexed import read_index
from unirefine.dataset.manifest import REBUILD, check_size, read_manifest
from unirefine.dataset.reader import open_ids, open_shards
from unirefine.errors import UserError
from unirefine.files.hashes import sha256_file
from unirefine.progress import meter

CHANGED = "its content is not what was written (SHA-256 differs)"


def verify_shards(directory: Path, *, threads: int = 2) -> tuple[int, int]:
    """Check sizes, hashes, indices and row counts against the manifest; returns (files, bytes).

    Raises UserError for the first file, in the manifest's order, that has changed.
    """
    files = read_manifest(directory)["files"]
    for file in files:
        check_size(directory / file["name"], file["bytes"])
    total = sum(file["bytes"] for file in files)
    with meter("verify", total=total, unit="B") as progress:
        for file, same in _hashed(directory, files, threads):
            if not same:
                raise UserError(CHANGED, where=directory / file["name"], fix=REBUILD)
            progress.advance(file["bytes"])
    for side in open_shards(directory).sides.values():
        for prefix in side.prefixes:
            _check_shard(prefix)
    return len(files), total


def changed_files(directory: Path, rank: int, ranks: int) -> list[Path]:
    """Files whose SHA-256 is not the manifest's, among the share of rank `rank` of `ranks`."""
    files = read_manifest(directory)["files"][rank::ranks]
    return [directory / file["name"] for file, same in _hashed(directory, files, threads=1) if not same]


def _hashed(directory: Path, files: list[dict[str, Any]], threads: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """(file, whether its SHA-256 is the manifest's), in order."""
    with ThreadPoolExecutor(threads) as pool:
        digests = pool.map(lambda file: sha256_file(directory / file["name"]), files)
        for file, digest in zip(files, digests, strict=True):
            yield file, digest == file["sha256"]


def _check_shard(prefix: Path) -> None:
    path = prefix.with_name(prefix.name + ".idx")
    index = read_index(path, prefix.with_name(prefix.name + ".bin").stat().st_size)
    open_ids(prefix, len(index.lengths)).close()
