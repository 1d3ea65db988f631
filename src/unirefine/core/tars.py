"""Files out of a tar inside a gzip stream, read once from front to back, and not trusted.

Only plain files and directories below the tar are accepted. tarfile itself takes a broken header for the end of the
archive and reads headers of any size into memory, so headers are checked before tarfile interprets them, and the bytes
that it may read for one are limited.
"""

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import IO, BinaryIO

from isal import igzip, isal_zlib

from unirefine.files.atomic import CHUNK
from unirefine.progress import human

MOST_MEMBERS = 1000
"""UniProt's and NCBI's have about a dozen."""
_LARGEST_EXTENSION = 1 << 14
"""Of an extended header in bytes: enough for any path. tarfile's time for one grows with the square of its length."""
_HEADER_BYTES = 1 << 20
_BUFFER = 1 << 18
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_ACCEPTED = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, *_EXTENSIONS)


class BadTar(Exception):
    """The tar is damaged or hostile; the text says what is wrong with it."""


class Content:
    """The decompressed tar, as tarfile reads it."""

    def __init__(
        self, file: BinaryIO, size_limit: int, progress: Callable[[int], None] = lambda position: None
    ) -> None:
        self._file, self._stream, self._progress = file, igzip.open(file, "rb"), progress
        self.position = 0
        self.size_limit = size_limit
        """Bytes in all, at most."""
        self.limit = size_limit
        """Position that must not be passed now."""
        self.names: list[str] = []
        """Of all members so far."""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. Raises BadTar: not gzip, corrupt, truncated, too long."""
        try:
            data = self._stream.read(size)
        except EOFError:
            raise BadTar("ends in the middle of its gzip stream") from None
        except (gzip.BadGzipFile, isal_zlib.error, zlib.error) as error:
            raise BadTar(f"is not gzip or is corrupt ({error})") from None
        self.position += len(data)
        self._progress(self._file.tell())
        if self.position > self.size_limit:
            raise BadTar(f"has more than {human(self.size_limit, 'B')} of content, too much for its size")
        if self.position > self.limit:
            raise BadTar(f"has a header of more than {human(_HEADER_BYTES, 'B')}")
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
            raise BadTar(f"is not a whole tar ({error})") from None
        if header.type not in _ACCEPTED:
            raise BadTar(f"holds {_shown(header.name)}, which is no plain file (tar type {header.type!r})")
        if header.type in _EXTENSIONS and not 0 <= header.size <= _LARGEST_EXTENSION:
            raise BadTar(f"has an extended header of {header.size:,} bytes")
        return header


def files(
    stream: Content | IO[bytes], content: Content, inner_tars: Collection[str] = ()
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield (header, content) of the files in the tar `stream`; instead of one of `inner_tars`, of the files in it.

    stream: `content` itself, or a file in it. The content of a file can be read until the next is asked for. Raises
    BadTar, and tarfile.TarError where the tar ends within a file.
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
            yield from files(data, content, ())
        else:
            yield member, data
        while data.read(CHUNK):
            pass


@contextlib.contextmanager
def _header_limit(content: Content) -> Iterator[None]:
    """While tarfile reads a header: limits the bytes it reads, and reports whatever it raises as a bad tarball."""
    content.limit = content.position + _HEADER_BYTES
    try:
        yield
    except (BadTar, OSError, MemoryError):
        raise
    except Exception as error:  # a hostile header makes tarfile raise anything from KeyError to RecursionError
        raise BadTar(f"is not a whole tar ({error})") from None
    content.limit = content.size_limit


def _check(member: tarfile.TarInfo, content: Content) -> None:
    """Raise BadTar for a member with an unsafe name or an impossible size, which a pax header may have set."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BadTar(f"holds {_shown(member.name)}, which leads out of its directory")
    if member.issparse():
        raise BadTar(f"holds {_shown(member.name)}, which is no plain file (sparse)")
    if not 0 <= member.size <= content.size_limit - content.position + 2 * _BUFFER:
        raise BadTar(f"holds {_shown(member.name)} with an impossible size of {member.size:,} bytes")
    content.names.append(path.name[:80])
    if len(content.names) > MOST_MEMBERS:
        raise BadTar(f"has more than {MOST_MEMBERS:,} members")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else f"{name[:80]}...")
