"""Files out of a release's tarball: tars inside one gzip stream, read once from front to back, and not trusted.

Only plain files and directories below the tarball are accepted. tarfile itself takes a broken header for the end of the
archive and reads headers of any size into memory, so headers are checked before tarfile interprets them, and the bytes
that it may read for one are limited.
"""

import contextlib
import gzip
import os
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from isal import igzip, isal_zlib

from unirefine.files.atomic import CHUNK
from unirefine.progress import Meter, human, meter
from unirefine.release.files import Hasher, check_space, clear_write_errors

EXPANSION = 2
"""A tarball of gzip files hardly shrinks when it is compressed: its content is at most this many times its size."""
SLACK_BYTES = 64 << 20
"""What the content may have besides, so that the padding of a small tar fits."""
MOST_MEMBERS = 1000
"""A release's tarball has about a dozen."""
_LARGEST_EXTENSION = 1 << 14
"""Of an extended header in bytes: enough for any path. tarfile's time for one grows with the square of its length."""
_HEADER_BYTES = 1 << 20
_BUFFER = 1 << 18
_FULL_DISK = "free some space and run it again: the tarball is kept"
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_ACCEPTED = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, *_EXTENSIONS)


class BadTarball(Exception):
    """The tarball is not one of a release; the text says what is wrong with it."""


def extract(
    tarball: Path, output: Path, wanted: Collection[str], inner_tars: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Write the files of `tarball` called one of `wanted` to the directory `output`, fsynced; return their hashes.

    wanted, inner_tars: names without directories. Tars called one of `inner_tars` are read too, their other files and
    all other tars are skipped. The whole gzip stream is verified. Raises BadTarball, UserError when the disk is full.
    """
    found: dict[str, dict[str, Any]] = {}
    size = tarball.stat().st_size
    with (
        tarball.open("rb", buffering=0) as file,
        meter(f"{tarball.name}: extract", total=size, unit="B") as progress,
    ):
        content = _Content(file, EXPANSION * size + SLACK_BYTES, progress)
        try:
            for member, data in _files(content, content, inner_tars):
                name = PurePosixPath(member.name).name
                if name not in wanted:
                    continue
                if name in found:
                    raise BadTarball(f"has {name} twice")
                if member.size == 0:
                    raise BadTarball(f"has an empty {name}")
                check_space(output, member.size, name)
                found[name] = _write(data, output / name)
        except tarfile.TarError as error:
            raise BadTarball(f"ends in the middle of a file ({error})") from None
        while content.read(CHUNK):  # gzip's checksum comes last
            pass
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BadTarball(f"has no {', '.join(missing)}; it has {', '.join(content.names[:20])}")
    return found


class _Content:
    """The decompressed tarball, as tarfile reads it."""

    def __init__(self, file: BinaryIO, size_limit: int, progress: Meter) -> None:
        self._file, self._stream, self._progress = file, igzip.open(file, "rb"), progress
        self.position = 0
        self.size_limit = size_limit
        """Bytes in all, at most."""
        self.limit = size_limit
        """Position that must not be passed now."""
        self.names: list[str] = []
        """Of all members so far."""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. Raises BadTarball: not gzip, corrupt, truncated, too long."""
        try:
            data = self._stream.read(size)
        except EOFError:
            raise BadTarball("ends in the middle of its gzip stream") from None
        except (gzip.BadGzipFile, isal_zlib.error, zlib.error) as error:
            raise BadTarball(f"is not gzip or is corrupt ({error})") from None
        self.position += len(data)
        self._progress.advance(self._file.tell() - self._progress.done)
        if self.position > self.size_limit:
            raise BadTarball(f"has more than {human(self.size_limit, 'B')} of content, too much for its size")
        if self.position > self.limit:
            raise BadTarball(f"has a header of more than {human(_HEADER_BYTES, 'B')}")
        return data


class _Header(tarfile.TarInfo):
    """A tar header that is refused before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):
            raise  # the end of a tar
        except tarfile.HeaderError as error:
            raise BadTarball(f"is not a whole tar ({error})") from None
        if header.type not in _ACCEPTED:
            raise BadTarball(f"holds {_shown(header.name)}, which is no plain file (tar type {header.type!r})")
        if header.type in _EXTENSIONS and not 0 <= header.size <= _LARGEST_EXTENSION:
            raise BadTarball(f"has an extended header of {header.size:,} bytes")
        return header


def _files(
    stream: _Content | IO[bytes], content: _Content, inner_tars: Collection[str]
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield (header, content) of the files in the tar `stream`; where one is an inner tar, of the files in it.

    The content of a file can be read until the next is asked for.
    """
    with _header_limit(content):
        archive = tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER, tarinfo=_Header)  # noqa: SIM115 (not a file)
    while True:
        with _header_limit(content):
            member = archive.next()
        if member is None:
            return
        _check(member, content)
        if member.isdir():
            continue
        data = archive.extractfile(member)
        assert data is not None, "a regular file has content"
        if PurePosixPath(member.name).name in inner_tars:
            yield from _files(data, content, ())
        else:
            yield member, data
        while data.read(CHUNK):
            pass


@contextlib.contextmanager
def _header_limit(content: _Content) -> Iterator[None]:
    """While tarfile reads a header: limits the bytes it reads, and reports whatever it raises as a bad tarball."""
    content.limit = content.position + _HEADER_BYTES
    try:
        yield
    except (BadTarball, OSError, MemoryError):
        raise
    except Exception as error:  # a hostile header makes tarfile raise anything from KeyError to RecursionError
        raise BadTarball(f"is not a whole tar ({error})") from None
    content.limit = content.size_limit


def _check(member: tarfile.TarInfo, content: _Content) -> None:
    """Raise BadTarball for a member with an unsafe name or an impossible size, which a pax header may have set."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BadTarball(f"holds {_shown(member.name)}, which leads out of its directory")
    if member.issparse():
        raise BadTarball(f"holds {_shown(member.name)}, which is no plain file (sparse)")
    if not 0 <= member.size <= content.size_limit - content.position + 2 * _BUFFER:
        raise BadTarball(f"holds {_shown(member.name)} with an impossible size of {member.size:,} bytes")
    content.names.append(path.name[:80])
    if len(content.names) > MOST_MEMBERS:
        raise BadTarball(f"has more than {MOST_MEMBERS:,} members")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else f"{name[:80]}...")


def _write(data: IO[bytes], path: Path) -> dict[str, Any]:
    """Write a file and fsync it; return its hashes."""
    hasher = Hasher()
    with path.open("wb") as file:
        while piece := data.read(CHUNK):
            with clear_write_errors(path.name, hasher, _FULL_DISK):
                file.write(piece)
            hasher.update(piece)
        with clear_write_errors(path.name, hasher, _FULL_DISK):
            file.flush()
            os.fsync(file.fileno())
    return hasher.result()
