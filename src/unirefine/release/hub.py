"""A data set of the Hugging Face Hub: its files at one commit, each verified with the sha256 that the Hub states.

The Hub's list is not trusted: only names of Parquet files below train/, validation/ and test/ are taken, and pages of
the list come from the Hub alone.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.config import Release
from unirefine.core.levels import SIDES
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory
from unirefine.files.written import delete_files
from unirefine.release import fetch
from unirefine.release.files import facts_of, locked
from unirefine.release.sources import Origin, Sources
from unirefine.release.transport import Downloader, NotFoundError
from unirefine.terminal import brief

_NAME = re.compile(rf"({'|'.join(SIDES)})/[A-Za-z0-9_][A-Za-z0-9_.-]*\.parquet", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PAGE_BYTES = 16 << 20
_MOST_PAGES = 100
_FIX = "check release.dataset, release.revision and release.hub"


@dataclass(frozen=True)
class HubFiles(Sources):
    """The files of a data set, as `Sources` has those of UniProt."""

    listed: Mapping[str, Origin]

    def find(self, file: str) -> Origin:
        """Where a file comes from. Raises KeyError for one that is not listed."""
        return self.listed[file]


def run(output: Path, config: Release, downloader: Downloader | None = None) -> list[dict[str, Any]]:
    """Download a data set to the directory `output`, each file with its facts in a `.json`, and return the facts.

    Until all files are there and verified, they are in `<output>.part`; a killed download goes on from there. Raises
    UserError when the Hub has no such data set, or a file does not arrive as it is listed.
    """
    downloader = downloader or Downloader.of(config)
    found = HubFiles(config, downloader, list_files(config, downloader))
    partial = output.with_name(f"{output.name}.part")
    output.parent.mkdir(parents=True, exist_ok=True)
    with locked(output.with_name(f".{output.name}.lock")):
        if output.is_dir() and not partial.exists():
            output.replace(partial)  # what is there is verified, not downloaded
        _keep_only(partial, found.listed)
        facts = [
            fetch.run(name, partial / name, config, downloader, planned=list(found.listed), sources=found)
            for name in found.listed
        ]
        _keep_only(output, {})  # of an earlier commit
        partial.replace(output)
        fsync_directory(output.parent)
    return facts


def list_files(config: Release, downloader: Downloader) -> dict[str, Origin]:
    """The Parquet files of the sides, in the order of their names, with address, size and sha256.

    Raises UserError when the Hub has no such commit, or its list cannot be read, or has no files of train or
    validation, or states no sha256 of one.
    """
    base = f"{config.hub.rstrip('/')}"
    listing = f"{base}/api/datasets/{config.dataset}/tree/{config.revision}?recursive=true"
    sides = SIDES[1:] if config.only_held_out else SIDES
    found: dict[str, Origin] = {}
    for entry in _entries(listing, base, downloader):
        name = entry.get("path")
        if entry.get("type") != "file" or not isinstance(name, str) or not _NAME.fullmatch(name):
            continue
        if name.partition("/")[0] not in sides:
            continue
        lfs = entry.get("lfs")
        digest, size = (lfs.get("oid"), lfs.get("size")) if isinstance(lfs, dict) else (None, None)
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or type(size) is not int or size < 1:
            raise UserError(
                f"states no sha256 and size of {brief(name)}", where=listing, fix="it must be a file of LFS"
            )
        if name in found:
            raise UserError(f"lists {brief(name)} twice", where=listing, fix=_FIX)
        url = f"{base}/datasets/{config.dataset}/resolve/{config.revision}/{name}"
        found[name] = Origin((url,), size=size, sha256=digest, authority=listing)
    for side in sides[: sides.index("validation") + 1]:
        if not any(name.startswith(f"{side}/") for name in found):
            raise UserError(f"lists no {side}/*.parquet", where=listing, fix=_FIX)
    return dict(sorted(found.items()))


def _entries(listing: str, base: str, downloader: Downloader) -> list[dict[str, Any]]:
    """All entries of the list, page by page."""
    entries: list[dict[str, Any]] = []
    address: str | None = listing
    for _page in range(_MOST_PAGES):
        try:
            data, address = downloader.read_page([str(address)], what="the list of the data set", limit=_PAGE_BYTES)
        except NotFoundError:
            raise UserError("the Hub has no such data set or commit", where=listing, fix=_FIX) from None
        try:
            page = json.loads(data)
        except (ValueError, RecursionError):
            raise UserError("is not the list of a data set: no JSON", where=listing, fix=_FIX) from None
        if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
            raise UserError("is not the list of a data set", where=listing, fix=_FIX)
        entries += page
        if address is None:
            return entries
        if not address.startswith(f"{base}/"):
            raise UserError(f"goes on at another server, {brief(address)}", where=listing, fix=_FIX)
    raise UserError(f"has more than {_MOST_PAGES} pages", where=listing, fix=_FIX)


def _keep_only(directory: Path, wanted: Mapping[str, Origin]) -> None:
    """Delete the downloads below a directory that are not wanted, with their facts."""
    kept = {directory / name for name in wanted} | {fetch.partial_of(directory / name) for name in wanted}
    kept |= {facts_of(path) for path in kept}
    for side in SIDES:
        files = [path for path in (directory / side).glob("*.parquet*") if path not in kept]
        delete_files(directory, sorted(files))
