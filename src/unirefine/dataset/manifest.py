"""`manifest.json` of a directory of shards: its format and the files that it lists."""

from pathlib import Path
from typing import Any

from unirefine.core.alphabet import TOKENS
from unirefine.errors import UserError, no_directory
from unirefine.files.atomic import read_json

FORMAT, FORMAT_VERSION = "unirefine-shards", 1
REBUILD = "run `snakemake -R shard`"
VERIFY = "run `unirefine verify` on the directory of the shards"
UNKNOWN_TOKEN = "sequence {} has a token that is not one of the 33"
"""What is wrong with a .bin, for the number of a sequence of a side."""


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a directory of shards. Raises UserError when it is missing or this version cannot read it."""
    path = directory / "manifest.json"
    if not directory.is_dir():
        raise UserError(
            no_directory(directory), where=directory, fix="give the directory of shards, as in results/demo/shard"
        )
    if not path.exists():
        raise UserError("no manifest.json, so the shards are not there or not complete", where=directory, fix=REBUILD)
    manifest = read_json(path)
    if manifest.get("format") != FORMAT or manifest.get("version") != FORMAT_VERSION:
        raise UserError(f"not a manifest of {FORMAT} version {FORMAT_VERSION}", where=path, fix=REBUILD)
    if manifest["alphabet"] != list(TOKENS):
        raise UserError("another alphabet than ESM-2's", where=path, fix=REBUILD)
    return manifest


def check_size(path: Path, expected: int) -> None:
    """Raises UserError unless the file has `expected` bytes."""
    if not path.exists():
        raise UserError("missing, but the manifest lists it", where=path, fix=REBUILD)
    size = path.stat().st_size
    if size != expected:
        word = "shorter" if size < expected else "longer"
        raise UserError(f"{abs(size - expected)} bytes {word} than the manifest says", where=path, fix=REBUILD)
