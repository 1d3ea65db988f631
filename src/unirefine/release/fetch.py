"""Download one file of a release: resumed after a kill, verified while it streams, renamed when it is whole."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory, read_json, write_json
from unirefine.progress import human, meter
from unirefine.release.files import (
    Hasher,
    check_space,
    clear_write_errors,
    describe,
    facts_of,
    hash_file,
    locked,
    size_of,
)
from unirefine.release.sources import Origin, Sources
from unirefine.release.transport import Downloader

_FULL_DISK = "free some space and run it again: it goes on from there"


def run(
    file: str, output: Path, config: Release, downloader: Downloader | None = None, *, planned: Iterable[str] = ()
) -> dict[str, Any]:
    """Download `file` to `output`, with its facts in `<output>.json`, and return the facts.

    A partial download in `<output>.part` is resumed if a checksum is known that will verify the whole. A file that is
    there and has the right checksum is not downloaded again. downloader: the config's unless given. planned: further
    files for the same directory; there must be room for the missing ones too. Raises UserError when no mirror delivers
    the file as it is described, or when the disk is too small.
    """
    sources = Sources.of(config, downloader)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(output)
    with locked(partial) as handle:
        origin = sources.find(file)
        url, hashes = origin.urls[0], _present(file, output, origin)
        if hashes is None:
            _check_room(file, output.parent, planned, origin, sources)
            url, hashes = _download_verified(file, handle, partial, origin, sources)
            partial.replace(output)
        else:
            partial.unlink()
        facts_of(partial).unlink(missing_ok=True)
        fsync_directory(output.parent)
    facts = describe(file, url, origin.release, hashes)
    write_json(facts_of(output), facts)
    return facts


def partial_of(output: Path) -> Path:
    """Where a download is until it is whole."""
    return output.with_name(f"{output.name}.part")


def _present(file: str, output: Path, origin: Origin) -> dict[str, Any] | None:
    """Hashes of the output if it is there and is the file that the origin describes."""
    if origin.md5 is None or not output.is_file() or origin.size not in (None, output.stat().st_size):
        return None
    with output.open("rb") as handle:
        hashes = hash_file(handle, file).result()
    return hashes if hashes["md5"] == origin.md5 else None


def _check_room(file: str, directory: Path, planned: Iterable[str], origin: Origin, sources: Sources) -> None:
    """Raise UserError unless the disk has room for what is missing of all files whose size is known.

    A planned file whose size cannot be found out counts as nothing: its own download will report why.
    """
    sizes = {file: origin.size}
    for other in planned:
        if other not in sizes and not (directory / other).exists():
            with contextlib.suppress(UserError):
                sizes[other] = sources.find(other).size
    # measure the partial downloads just before the disk: another process may be writing one of them
    missing = {name: size - size_of(partial_of(directory / name)) for name, size in sizes.items() if size is not None}
    others = sum(left > 0 for name, left in missing.items() if name != file)
    what = f"{file}, with {others} more of the release," if others else file
    if missing.get(file):
        check_space(directory, sum(left for left in missing.values() if left > 0), what)


def _download_verified(
    file: str, handle: BinaryIO, partial: Path, origin: Origin, sources: Sources
) -> tuple[str, dict[str, Any]]:
    """Download until the checksum is right, each time from another mirror first; return the URL and the hashes."""
    attempts = sources.downloader.attempts
    for attempt in range(attempts):
        if attempt:
            origin = sources.find(file)  # the current release may have changed in the meantime
            turn = attempt % len(origin.urls)
            origin = dataclasses.replace(origin, urls=origin.urls[turn:] + origin.urls[:turn])
        url, hashes = _download(file, handle, partial, origin, sources.downloader)
        if origin.md5 in (None, hashes["md5"]):
            return url, hashes
        print(f"{file}: wrong md5 {hashes['md5']}; deleted", file=sys.stderr)
        _start_over(handle, partial)
    raise UserError(
        f"md5 is {hashes['md5']} where {origin.authority} says {origin.md5}, {attempts} times over",
        where=file,
        fix="the download was deleted; try again later or use another mirror",
    )


def _download(
    file: str, handle: BinaryIO, partial: Path, origin: Origin, downloader: Downloader
) -> tuple[str, dict[str, Any]]:
    """Append the rest of the file to its partial download and fsync it; return the URL it came from and its hashes."""
    identity = {"size": origin.size, "md5": origin.md5}
    if origin.md5 is None or not facts_of(partial).exists() or read_json(facts_of(partial)) != identity:
        _start_over(handle, partial)
        if origin.md5 is not None:
            write_json(facts_of(partial), identity)
    hasher, url = hash_file(handle, file), origin.urls[0]
    if origin.size is not None:
        if hasher.size > origin.size:
            _start_over(handle, partial)
            hasher = Hasher()
        check_space(partial.parent, origin.size - hasher.size, file)
    resumed = f" (resumed at {human(hasher.size, 'B')})" if hasher.size else ""
    left = None if origin.size is None else origin.size - hasher.size
    pieces = downloader.stream(
        origin.urls, what=file, start=hasher.size, size=origin.size, resumable=origin.md5 is not None
    )
    with meter(f"{file}{resumed}", total=left, unit="B") as done:
        for position, data, source in () if left == 0 else pieces:
            if position != hasher.size:  # without a checksum an interrupted file begins again
                _start_over(handle, partial)
                hasher = Hasher()
            with clear_write_errors(file, hasher, _FULL_DISK):
                handle.write(data)
            hasher.update(data)
            done.advance(len(data))
            url = source
        with clear_write_errors(file, hasher, _FULL_DISK):
            handle.flush()
            os.fsync(handle.fileno())
    return url, hasher.result()


def _start_over(handle: BinaryIO, partial: Path) -> None:
    handle.truncate(handle.seek(0))
    facts_of(partial).unlink(missing_ok=True)
