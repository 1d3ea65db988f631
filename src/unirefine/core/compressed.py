"""Compressed files as streams of their content, whatever their names: gzip, bzip2, xz and zstd by their first bytes."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa
from isal import igzip, isal_zlib

_CHUNK = 1 << 20


class _Stream(io.RawIOBase):
    """The content of one or more bzip2 or xz streams, one after the other. Anything else behind them is an error.

    The modules of the standard library take what follows the first stream for its end when it does not begin as a
    second one, so damage there would shorten the file without a word.
    """

    def __init__(self, file: BinaryIO, make: Callable[[], Any]) -> None:
        self._file, self._make, self._decompressor, self._waiting = file, make, make(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(_CHUNK)
                if self._make is not bz2.BZ2Decompressor:
                    rest = rest.lstrip(b"\0")  # padding between streams of xz
                if not rest and not (rest := self._file.read(_CHUNK)):
                    return 0
                self._decompressor, self._waiting = self._make(), rest
            if self._decompressor.needs_input and not self._waiting:
                self._waiting = self._file.read(_CHUNK)
                if not self._waiting:
                    raise EOFError("the compressed stream ends without its end mark")
            data = self._decompressor.decompress(self._waiting, max_length=len(buffer))
            self._waiting = b""
            if data:
                buffer[: len(data)] = data
                return len(data)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ)


_OPENERS: dict[bytes, tuple[str, Callable[[BinaryIO], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda file: igzip.open(file, "rb")),
    b"BZh": ("bzip2", lambda file: io.BufferedReader(_Stream(file, bz2.BZ2Decompressor), _CHUNK)),
    b"\xfd7zXZ": ("xz", lambda file: io.BufferedReader(_Stream(file, _xz), _CHUNK)),
    b"\x28\xb5\x2f\xfd": ("zstd", lambda file: io.BufferedReader(pa.CompressedInputStream(file, "zstd"), _CHUNK)),
}
_LONGEST_MAGIC = max(map(len, _OPENERS))


DAMAGE = (OSError, EOFError, zlib.error, isal_zlib.error, lzma.LZMAError, pa.ArrowInvalid)
"""What reading a damaged file raises; of the OSErrors see `damage`."""


def decompressed(file: BinaryIO) -> tuple[Any, str | None]:
    """(content of a file from its start on, its compression): the file itself and None where it is not compressed.

    file: open for reading, and seekable. The content is a binary stream with `readinto` and `readline`. Reading a
    damaged file raises one of DAMAGE.
    """
    start = file.read(_LONGEST_MAGIC)
    file.seek(0)
    for magic, (name, opener) in _OPENERS.items():
        if start.startswith(magic):
            return opener(file), name
    return file, None


def damage(error: BaseException) -> str | None:
    """`truncated` or `corrupt`, by the error that reading a compressed file raised; None for an error of the disk."""
    if isinstance(error, OSError) and error.errno is not None:
        return None
    return "truncated" if isinstance(error, EOFError) or "truncated" in str(error).lower() else "corrupt"
