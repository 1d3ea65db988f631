"""Download one file of a release: resumed after a kill, verified while it streams, renamed when it is whole."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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
from unirefine.release.outside import is_what_it_should_be, kind_of
from unirefine.release.sources import Origin, Sources
from unirefine.release.transport import MOST_BYTES, Downloader, PastEndError

_FULL_DISK = "free some space and run it again: it goes on from there"


class _Source(NamedTuple):
    """Where a download came from: the address asked, and the one after redirects."""

    asked: str
    url: str


def run(
    file: str,
    output: Path,
    config: Release,
    downloader: Downloader | None = None,
    *,
    planned: Iterable[str] = (),
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Download `file` to `output`, with its facts in `<output>.json`, and return the facts.

    A partial download in `<output>.part` is resumed if a checksum is known that will verify the whole. A file that is
    there and has the right checksum is not downloaded again. downloader: the config's unless given. planned: further
    files for the same directory; there must be room for the missing ones too. sources: where files come from, the
    config's unless given. Raises UserError when no mirror delivers the file as it is described, or when the disk is too
    small.
    """
    sources = sources or Sources.of(config, downloader)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(output)
    with locked(partial) as handle:
        origin = sources.find(file)
        hashes = _present(file, output, origin)
        if hashes is None:
            _check_room(file, output.parents[file.count("/")], planned, origin, sources)
            origin, source, hashes = _download_verified(file, handle, partial, origin, sources)
            partial.replace(output)
        else:
            source = _earlier_source(output, hashes, origin)
            partial.unlink()
        facts_of(partial).unlink(missing_ok=True)
        fsync_directory(output.parent)
    facts = describe(file, source.url, source.asked, origin.release, hashes, verified_by=origin.authority or None)
    write_json(facts_of(output), facts)
    return facts


def partial_of(output: Path) -> Path:
    """Where a download is until it is whole."""
    return output.with_name(f"{output.name}.part")


def _present(file: str, output: Path, origin: Origin) -> dict[str, Any] | None:
    """Hashes of the output if it is there and is the file that the origin describes."""
    if origin.checksum is None or not output.is_file() or origin.size not in (None, output.stat().st_size):
        return None
    with output.open("rb") as handle:
        hashes = hash_file(handle, file).result()
    return hashes if origin.agrees(hashes) else None


def _earlier_source(output: Path, hashes: dict[str, Any], origin: Origin) -> _Source:
    """Where the file that is there came from, as its facts say; the first mirror where they are gone or another's."""
    facts = read_json(facts_of(output)) if facts_of(output).exists() else {}
    if facts.get("sha256") != hashes["sha256"] or "asked_url" not in facts:
        return _Source(origin.urls[0], origin.urls[0])
    return _Source(facts["asked_url"], facts["url"])


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
) -> tuple[Origin, _Source, dict[str, Any]]:
    """Download until the checksum is right, each time from another mirror first; return whence, and the hashes."""
    attempts = sources.downloader.attempts
    if origin.checksum is None and not origin.is_local:
        print(f"{file}: no md5 is published for it, so it is taken unverified", file=sys.stderr)
    for attempt in range(attempts):
        if attempt:
            origin = sources.find(file)  # the current release may have changed in the meantime
            turn = attempt % len(origin.urls)
            origin = dataclasses.replace(origin, urls=origin.urls[turn:] + origin.urls[:turn])
        try:
            source, hashes = _download(file, handle, partial, origin, sources.downloader)
        except PastEndError:  # what is there of it is not a part of this file
            _start_over(handle, partial)
            source, hashes = _download(file, handle, partial, origin, sources.downloader)
        if origin.agrees(hashes):
            if origin.size is None:  # no metalink vouches for it
                _check_kind(file, handle, partial, source.url)
            return origin, source, hashes
        print(f"{file}: wrong {origin.kind} {hashes[origin.kind]}; deleted", file=sys.stderr)
        _start_over(handle, partial)
    raise UserError(
        f"{origin.kind} is {hashes[origin.kind]} where {origin.authority} says {origin.checksum}, {attempts} times"
        " over",
        where=file,
        fix="the download was deleted; try again later or use another mirror",
    )


def _download(
    file: str, handle: BinaryIO, partial: Path, origin: Origin, downloader: Downloader
) -> tuple[_Source, dict[str, Any]]:
    """Append the rest of the file to its partial download and fsync it; return where it came from and its hashes."""
    identity = {"size": origin.size, origin.kind: origin.checksum}
    if origin.checksum is None or not facts_of(partial).exists() or read_json(facts_of(partial)) != identity:
        _start_over(handle, partial)
        if origin.checksum is not None:
            write_json(facts_of(partial), identity)
    hasher, source = hash_file(handle, file), _Source(origin.urls[0], origin.urls[0])
    if origin.size is not None:
        if hasher.size > origin.size:
            _start_over(handle, partial)
            hasher = Hasher()
        check_space(partial.parent, origin.size - hasher.size, file)
    # without its last byte's rename, a file of unknown size is whole when its md5 is right
    whole = hasher.size == origin.size or (origin.checksum is not None and origin.agrees(hasher.result()))
    resumed = f" (resumed at {human(hasher.size, 'B')})" if hasher.size else ""
    left = None if origin.size is None else origin.size - hasher.size
    pieces = downloader.stream(
        origin.urls,
        what=file,
        start=hasher.size,
        size=origin.size,
        most=MOST_BYTES if origin.size is None else None,
        resumable=origin.checksum is not None,
    )
    with meter(f"{file}{resumed}", total=left, unit="B") as done:
        for piece in () if whole else pieces:
            if piece.position != hasher.size:  # without a checksum an interrupted file begins again
                _start_over(handle, partial)
                hasher = Hasher()
            with clear_write_errors(file, hasher, _FULL_DISK):
                handle.write(piece.data)
            hasher.update(piece.data)
            done.advance(len(piece.data))
            source = _Source(piece.asked, piece.url)
        with clear_write_errors(file, hasher, _FULL_DISK):
            handle.flush()
            os.fsync(handle.fileno())
    return source, hasher.result()


def _check_kind(file: str, handle: BinaryIO, partial: Path, url: str) -> None:
    """Raise UserError, and delete the download, when it is a page of a portal or a login instead of the file."""
    handle.seek(0)
    start = handle.read(512)
    if not is_what_it_should_be(file, start):
        _start_over(handle, partial)
        expected = "a gzip file" if file.endswith(".gz") else "text"
        raise UserError(
            f"{file} from there is {kind_of(start)}, not {expected}", where=url, fix="open the address in a browser"
        )


def _start_over(handle: BinaryIO, partial: Path) -> None:
    handle.truncate(handle.seek(0))
    facts_of(partial).unlink(missing_ok=True)
