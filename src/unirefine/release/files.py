"""What the downloads share: hashes of a stream, room on the disk, one process per file, the facts beside a file."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unirefine.errors import UserError
from unirefine.files import locks
from unirefine.files.atomic import CHUNK
from unirefine.files.made_by import now
from unirefine.files.space import require_space
from unirefine.progress import human, meter

SPARE_BYTES = 64 << 20
"""Kept free on the disk besides the download itself."""


def describe(
    file: str, url: str, asked: str, release: str | None, hashes: dict[str, Any], *, verified_by: str | None
) -> dict[str, Any]:
    """A download's `.json`: file, url, asked_url, release, size, md5, sha256, date (UTC), verified_by.

    url: where it came from, after redirects from `asked`. verified_by: address of the metalink or md5 file that it
    agrees with; None: unverified.
    """
    return {
        "file": file, "url": url, "asked_url": asked, "release": release, **hashes, "date": now(),
        "verified_by": verified_by,
    }  # fmt: skip


def facts_of(path: Path) -> Path:
    """The `.json` beside a file: facts about a download, or which file a partial download belongs to."""
    return path.with_name(f"{path.name}.json")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def check_space(directory: Path, needed: int, what: str) -> None:
    """Raise UserError unless a download of `needed` bytes (and some spare) fits on the disk of `directory`."""
    require_space(directory, needed, what, "set release.directory to another disk", spare=SPARE_BYTES)


class Hasher:
    """Size, md5 and sha256 of bytes as they pass."""

    def __init__(self) -> None:
        self.size, self._md5, self._sha256 = 0, hashlib.md5(), hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Count and hash the next bytes."""
        self.size += len(data)
        self._md5.update(data)
        self._sha256.update(data)

    def result(self) -> dict[str, Any]:
        """`{size, md5, sha256}` of what has passed."""
        return {"size": self.size, "md5": self._md5.hexdigest(), "sha256": self._sha256.hexdigest()}


def hash_file(handle: BinaryIO, title: str) -> Hasher:
    """Hash an open file from start to end, and leave it at its end. title: of the progress lines."""
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    hasher = Hasher()
    if size:
        with meter(f"{title}: hash", total=size, unit="B") as done:
            while data := handle.read(CHUNK):
                hasher.update(data)
                done.advance(len(data))
    return hasher


@contextlib.contextmanager
def clear_write_errors(file: str, hasher: Hasher, fix: str) -> Iterator[None]:
    """Turn a full disk into a UserError that says how much of `file` was written and what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{(error.strerror or str(error)).lower()} after {human(hasher.size, 'B')}", where=file, fix=fix
        ) from None


@contextlib.contextmanager
def locked(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial download for reading and writing, for this process only. An empty one is deleted at the end."""
    while True:
        handle = partial.open("ab+")
        if not locks.take(handle):
            handle.close()
            raise UserError("another process is downloading it", where=partial, fix="wait for it, or stop it")
        if partial.exists() and os.fstat(handle.fileno()).st_ino == partial.stat().st_ino:
            break
        handle.close()  # another process finished and renamed it between open and lock
    with handle:
        try:
            yield handle
        finally:
            if partial.exists() and partial.stat().st_size == 0:
                partial.unlink()
                facts_of(partial).unlink(missing_ok=True)
