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
from unirefine.release import sources, transport
from unirefine.release.files import Hasher, check_space, describe, hash_file, locked, note_of, write_faults_told
from unirefine.release.sources import Origin
from unirefine.release.transport import Patience


def fetch(
    file: str, output: Path, config: Release, patience: Patience | None = None, *, planned: Iterable[str] = ()
) -> dict[str, Any]:
    """Download `file` to `output`, with `<output>.json` beside it, and return what that holds.

    What is in `<output>.part` from an earlier try is kept if a checksum is known that will tell whether it fits.
    A file that is already there and has the right checksum is not downloaded again. planned: further files that are to
    come into the same directory; there must be room for what is missing of them too. Raises UserError when no mirror
    delivers the file as it is described, or the disk is too small.
    """
    patience = patience or sources.patience_of(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f"{output.name}.part")
    with locked(part) as handle:
        origin = sources.find(file, config, patience)
        url, hashes = origin.urls[0], _present(output, origin)
        if hashes is None:
            _check_room(file, output.parent, planned, origin, config, patience)
            url, hashes = _download_verified(file, handle, part, origin, config, patience)
            handle.flush()
            os.fsync(handle.fileno())
            part.replace(output)
        else:
            part.unlink()
        note_of(part).unlink(missing_ok=True)
        fsync_directory(output.parent)
    facts = describe(file, url, origin.release, hashes)
    write_json(output.with_name(f"{output.name}.json"), facts)
    return facts


def _present(output: Path, origin: Origin) -> dict[str, Any] | None:
    """Hashes of the output if it is there and is the file that the origin describes."""
    if origin.md5 is None or not output.is_file() or origin.size not in (None, output.stat().st_size):
        return None
    with output.open("rb") as handle:
        hashes = hash_file(handle).result()
    return hashes if hashes["md5"] == origin.md5 else None


def _check_room(
    file: str, directory: Path, planned: Iterable[str], origin: Origin, config: Release, patience: Patience
) -> None:
    """Raise UserError unless the disk has room for what is missing of all files whose size is known.

    A planned file that cannot be asked for counts nothing: its own download will tell what is wrong.
    """
    sizes = {file: origin.size}
    for other in planned:
        if other not in sizes and not (directory / other).exists():
            with contextlib.suppress(UserError):
                sizes[other] = sources.find(other, config, patience).size
    # all parts are looked at just before the disk is: another process may be writing one of them
    missing = {name: size - _size(directory / f"{name}.part") for name, size in sizes.items() if size is not None}
    others = sum(left > 0 for name, left in missing.items() if name != file)
    what = f"{file}, with {others} more of the release," if others else file
    if missing.get(file):
        check_space(directory, sum(left for left in missing.values() if left > 0), what)


def _size(path: Path) -> int:
    """Bytes of a file, 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def _download_verified(
    file: str, handle: BinaryIO, part: Path, origin: Origin, config: Release, patience: Patience
) -> tuple[str, dict[str, Any]]:
    """Download until the checksum is right, each time from another mirror first; return the URL and the hashes."""
    for attempt in range(patience.attempts):
        if attempt:
            origin = sources.find(file, config, patience)  # what is current may have changed under way
            turn = attempt % len(origin.urls)
            origin = dataclasses.replace(origin, urls=origin.urls[turn:] + origin.urls[:turn])
        url, hashes = _download(file, handle, part, origin, patience)
        if origin.md5 in (None, hashes["md5"]):
            return url, hashes
        print(f"{file}: wrong md5 {hashes['md5']}; deleted", file=sys.stderr)
        _start_over(handle, part)
    raise UserError(
        f"md5 is {hashes['md5']} where {origin.authority} says {origin.md5}, {patience.attempts} times over",
        where=file,
        fix="the download was deleted; try again later or use another mirror",
    )


def _download(
    file: str, handle: BinaryIO, part: Path, origin: Origin, patience: Patience
) -> tuple[str, dict[str, Any]]:
    """Stream the file into the part, after what is already in it; return the URL it came from and its hashes."""
    note = {"size": origin.size, "md5": origin.md5}
    if origin.md5 is None or not note_of(part).exists() or read_json(note_of(part)) != note:
        _start_over(handle, part)
        if origin.md5 is not None:
            write_json(note_of(part), note)
    hasher, url = hash_file(handle), origin.urls[0]
    if origin.size is not None:
        if hasher.size > origin.size:
            _start_over(handle, part)
            hasher = Hasher()
        check_space(part.parent, origin.size - hasher.size, file)
        if hasher.size == origin.size:
            return url, hasher.result()
    resumed = f" (resumed at {human(hasher.size, 'B')})" if hasher.size else ""
    left = None if origin.size is None else origin.size - hasher.size
    with meter(f"{file}{resumed}", total=left, unit="B") as done:
        for position, data, source in transport.stream(
            origin.urls, what=file, patience=patience,
            start=hasher.size, size=origin.size, resumable=origin.md5 is not None,
        ):  # fmt: skip
            if position != hasher.size:  # without a checksum an interrupted file begins again
                _start_over(handle, part)
                hasher = Hasher()
            with write_faults_told(file, hasher.size):
                handle.write(data)
            hasher.update(data)
            done.advance(len(data))
            url = source
        with write_faults_told(file, hasher.size):
            handle.flush()
    return url, hasher.result()


def _start_over(handle: BinaryIO, part: Path) -> None:
    handle.truncate(handle.seek(0))
    note_of(part).unlink(missing_ok=True)
