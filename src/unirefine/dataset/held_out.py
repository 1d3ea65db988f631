"""Check the validation side of shards alone, as of another run whose train side nobody reads here."""

from pathlib import Path

from unirefine.dataset.manifest import read_manifest
from unirefine.files.hashes import sha256_file


def changed_validation(directory: Path, rank: int, ranks: int) -> list[Path]:
    """Files of the validation side whose SHA-256 is not the manifest's, among the share of rank `rank` of `ranks`."""
    manifest = read_manifest(directory)
    shards = tuple(f"{shard}." for shard in manifest["sides"]["validation"]["shards"])
    files = [file for file in manifest["files"] if file["name"].startswith(shards)][rank::ranks]
    paths = [(directory / file["name"], file["sha256"]) for file in files]
    return [path for path, sha256 in paths if sha256_file(path) != sha256]
