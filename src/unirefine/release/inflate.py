"""gunzip whose state can be saved between two deflate blocks, so that a stream of many hours survives a restart.

Python's zlib module cannot do that; the zlib library can: inflate(Z_BLOCK) stops at a block boundary, and from there
another inflate goes on with the last 32 KiB of output as its dictionary and the bits left of the last byte.
"""

import base64
import ctypes
import ctypes.util
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unirefine.errors import UserError

_WINDOW = 1 << 15
_OUTPUT = 4 << 20
_Z_NO_FLUSH, _Z_BLOCK = 0, 5
_Z_OK, _Z_STREAM_END = 0, 1
_GZIP, _RAW = 31, -15
_AT_BOUNDARY, _LAST_BLOCK, _UNUSED_BITS = 128, 64, 7
"""Bits of z_stream.data_type after inflate(Z_BLOCK)."""


class _Stream(ctypes.Structure):
    """zlib's z_stream."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@functools.cache
def _zlib() -> ctypes.CDLL:
    """The zlib library. Raises UserError when this machine has none that can be loaded."""
    for name in ("libz.so.1", ctypes.util.find_library("z")):
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if library is not None:
            library.zlibVersion.restype = ctypes.c_char_p
            return library
    raise UserError("the zlib library (libz.so.1) is not there", fix="install zlib (Debian: apt install zlib1g)")


@dataclass(frozen=True)
class Boundary:
    """Where a deflate block ends, and all that is needed to go on from there."""

    bits: int
    """Unused bits of the last byte that was read."""
    last_byte: int
    window: bytes
    """The last (up to) 32 KiB of output."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"bits": self.bits, "last_byte": self.last_byte, "window": base64.b64encode(self.window).decode()}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Boundary":
        """What `to_json` was called on."""
        return cls(state["bits"], state["last_byte"], base64.b64decode(state["window"]))


class Inflater:
    """Inflates one gzip member that is fed in pieces; bytes after its end are passed over."""

    def __init__(self, boundary: Boundary | None = None) -> None:
        """Start at the start of a stream, or after a block boundary of it."""
        self._library = _zlib()
        self._stream = _Stream()
        self._output = ctypes.create_string_buffer(_OUTPUT)
        self._last_byte = 0
        self.ended = False
        """Whether the end of the member has been reached."""
        self.boundary: Boundary | None = None
        """The block boundary at which the last `inflate` stopped, if it was asked to and came to one."""
        self._check(
            self._library.inflateInit2_(
                ctypes.byref(self._stream), _GZIP if boundary is None else _RAW,
                self._library.zlibVersion(), ctypes.sizeof(_Stream),
            )
        )  # fmt: skip
        if boundary is not None and boundary.bits:
            value = boundary.last_byte >> (8 - boundary.bits)
            self._check(self._library.inflatePrime(ctypes.byref(self._stream), boundary.bits, value))
        if boundary is not None and boundary.window:
            size = len(boundary.window)
            self._check(self._library.inflateSetDictionary(ctypes.byref(self._stream), boundary.window, size))

    def __enter__(self) -> "Inflater":
        return self

    def __exit__(self, *_: object) -> None:
        self._library.inflateEnd(ctypes.byref(self._stream))

    def inflate(self, data: bytes, *, stop_at_block: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield (compressed bytes used, output) until `data` is used up.

        With `stop_at_block`, stop at the first block boundary: `boundary` is then set and the rest of `data` is
        unused. Raises ValueError when the data is not gzip or is corrupt.
        """
        self.boundary = None
        start = ctypes.cast(data, ctypes.c_void_p).value  # `data` lives until this generator is done
        position = 0
        while position < len(data):
            if self.ended:
                yield len(data) - position, b""
                return
            used, output = self._step(start + position, len(data) - position, stop_at_block)
            position += used
            self._last_byte = data[position - 1] if used else self._last_byte
            kind = self._stream.data_type
            if stop_at_block and kind & _AT_BOUNDARY and not kind & _LAST_BLOCK:
                self.boundary = self._boundary()
            yield used, output
            if self.boundary is not None:
                return

    def _step(self, address: int, size: int, stop_at_block: bool) -> tuple[int, bytes]:
        """One call of zlib's inflate: bytes used, output."""
        stream = self._stream
        stream.next_in, stream.avail_in = address, size
        stream.next_out, stream.avail_out = ctypes.addressof(self._output), _OUTPUT
        code = self._library.inflate(ctypes.byref(stream), _Z_BLOCK if stop_at_block else _Z_NO_FLUSH)
        self._check(code, fine=(_Z_OK, _Z_STREAM_END))
        self.ended = code == _Z_STREAM_END
        return size - stream.avail_in, ctypes.string_at(self._output, _OUTPUT - stream.avail_out)

    def _boundary(self) -> Boundary:
        window, size = ctypes.create_string_buffer(_WINDOW), ctypes.c_uint(0)
        self._check(self._library.inflateGetDictionary(ctypes.byref(self._stream), window, ctypes.byref(size)))
        return Boundary(self._stream.data_type & _UNUSED_BITS, self._last_byte, window.raw[: size.value])

    def _check(self, code: int, fine: tuple[int, ...] = (_Z_OK,)) -> None:
        if code not in fine:
            message = self._stream.msg.decode() if self._stream.msg else f"zlib error {code}"
            raise ValueError(f"is not gzip or is corrupt ({message})")
