"""What the downloads share: hashes of a stream, the disk, one process per file, the facts written beside."""

import contextlib
import datetime
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unirefine.errors import UserError
from unirefine.files import locks
from unirefine.files.atomic import CHUNK
from unirefine.progress import human

SPARE_BYTES = 64 << 20
"""Kept free on the disk besides the download itself."""


def describe(file: str, url: str, release: str | None, hashes: dict[str, Any]) -> dict[str, Any]:
    """The content of a download's `.json`: file, url, release, size, md5, sha256, date (UTC)."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"file": file, "url": url, "release": release, **hashes, "date": now}


def check_space(directory: Path, needed: int, what: str) -> None:
    """Raise UserError unless `needed` bytes (and some spare) are free where `directory` is."""
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        raise UserError(
            f"{what} needs {human(needed, 'B')} (and {human(SPARE_BYTES, 'B')} to spare); the disk has"
            f" {human(free, 'B')} free",
            where=directory,
            fix="free some space or set release.directory to another disk",
        )


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


def hash_file(handle: BinaryIO) -> Hasher:
    """Hash an open file from its start to its end, where it is left."""
    handle.seek(0)
    hasher = Hasher()
    while data := handle.read(CHUNK):
        hasher.update(data)
    return hasher


@contextlib.contextmanager
def write_faults_told(file: str, size: int) -> Iterator[None]:
    """Turn a full disk into a UserError that says that the download will be resumed."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{(error.strerror or str(error)).lower()} after {human(size, 'B')}",
            where=file,
            fix="free some space and run it again: it goes on from there",
        ) from None


def note_of(part: Path) -> Path:
    """The small file beside a part that says which file the part belongs to."""
    return part.with_name(f"{part.name}.json")


@contextlib.contextmanager
def locked(part: Path) -> Iterator[BinaryIO]:
    """Open the part for reading and writing, for this process only. An empty part does not stay."""
    while True:
        handle = part.open("ab+")
        if not locks.take(handle):
            handle.close()
            raise UserError("another process is downloading it", where=part, fix="wait for it, or stop it")
        if part.exists() and os.fstat(handle.fileno()).st_ino == part.stat().st_ino:
            break
        handle.close()  # its former owner finished between open and lock
    with handle:
        try:
            yield handle
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()
                note_of(part).unlink(missing_ok=True)
