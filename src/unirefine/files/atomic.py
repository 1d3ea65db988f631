"""Atomic writes: a file appears under its name only when it is complete and on disk.

A killed process leaves the old file or none, never half of one. Its temporary files are deleted when the same file is
written again.
"""

import contextlib
import errno
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unirefine.errors import UserError
from unirefine.files.documents import parse, with_checksum

CHUNK = 1 << 20
_TOKEN_BYTES = 6
_WRITING_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_ANY_TOKEN = "[0-9a-f]" * 2 * _TOKEN_BYTES


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary file in the same directory; on success fsync it and rename it to `path`.

    Its permissions are those of any new file, also when the block replaces it by one of mode 0600, as safetensors does.
    On any exception the temporary file is deleted and `path` stays as it was. Raises UserError when another process has
    begun to write `path` in the meantime: the last one to begin wins.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        temporary.touch()
        permissions = temporary.stat().st_mode
        yield temporary
        with _still_there(temporary, path):
            temporary.chmod(permissions)
        with _still_there(temporary, path), temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        with _still_there(temporary, path):
            temporary.replace(path)
        fsync_directory(path.parent)
    except BaseException as error:
        delete(temporary)
        if isinstance(error, OSError) and error.errno in _WRITING_FAILED:
            error.filename = error.filename or str(path)
        raise


def temporary_path(path: Path, kind: str = "tmp") -> Path:
    """A new path in the same directory, `.<name>.<12 hex digits>.<kind>`, for a file or directory that is unfinished.

    The directory is created, and such files and directories of earlier writers of `path` are deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{_ANY_TOKEN}.{kind}"):
        delete(leftover)
    return path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}.{kind}")


@contextlib.contextmanager
def temporary_directory(path: Path, kind: str = "tmp") -> Iterator[Path]:
    """Yield a new directory beside `path` and delete it in the end. Those of killed processes are deleted first.

    Its name is always new, so an orphaned program of a killed stage cannot write into the directory of the next.
    """
    directory = temporary_path(path, kind)
    directory.mkdir()
    try:
        yield directory
    finally:
        delete(directory)


def replace_directory(new: Path, directory: Path) -> None:
    """Rename `new`, a complete directory beside `directory`, to `directory`.

    A `directory` that exists is renamed to `.<name>.old` first and deleted last.
    """
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    fsync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def delete(path: Path) -> None:
    """Delete a file or directory if possible. What the file system does not delete now is left for the next writer."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _still_there(temporary: Path, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(
            f"its temporary file {temporary.name} is gone: another process writes it, or its directory was lost",
            where=path,
            fix="run only one of them",
        ) from None
    except OSError as error:  # an error of fsync has no file name
        error.filename = str(path)
        raise


def fsync_directory(directory: Path) -> None:
    """Make a rename inside `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically. Key order is kept.

    An object gets the key `checksum`, which `read_json` verifies, unless the file is in a format of others.
    """
    write_text(path, json.dumps(with_checksum(value, Path(path)), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file, without its checksum.

    Raises UserError when it is missing, damaged, or of another shape than its name promises (see `files.documents`).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="run the stage that writes it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not text ({error.reason})", where=path, fix="run the stage that writes it again") from None
    return parse(text, path)
