"""Walk a tar stream, tars inside it included, and copy out the wanted files; the state can be saved anywhere.

Everything in a tar starts at a multiple of 512 bytes, so a tar inside a tar is read by going on with headers where
its content begins: no stack is needed, and the whole state is a mode and a count.
"""

import base64
import tarfile
from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from typing import Any

_BLOCK = 512
_LARGEST_EXTENSION = 1 << 20
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)


class TarWalker:
    """Reads a tar stream in pieces of any size.

    enter: base names of inner tars to go into; others are passed over. wanted: base names of files to copy.
    write(name, size, data) is called with the consecutive pieces of a wanted file of `size` bytes; once with no data
    at its start.
    """

    def __init__(
        self, enter: Collection[str], wanted: Collection[str], write: Callable[[str, int, bytes], None]
    ) -> None:
        self._enter, self._wanted, self._write = enter, wanted, write
        self._mode = "header"
        self._name, self._size, self._left = "", 0, 0
        self._buffer = b""
        self._override: dict[str, str] = {}
        self._position = 0
        self.seen: list[str] = []
        """Names of all files that were met."""

    def state(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return {
            "mode": self._mode,
            "name": self._name,
            "size": self._size,
            "left": self._left,
            "buffer": base64.b64encode(self._buffer).decode(),
            "override": self._override,
            "position": self._position,
            "seen": self.seen,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._mode, self._name = state["mode"], state["name"]
        self._size, self._left = state["size"], state["left"]
        self._buffer = base64.b64decode(state["buffer"])
        self._override, self._position, self.seen = state["override"], state["position"], state["seen"]

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream. Raises ValueError where they are not a tar's."""
        view, at = memoryview(data), 0
        while at < len(view):
            if self._mode == "header":
                taken = min(_BLOCK - len(self._buffer), len(view) - at)
                self._buffer += view[at : at + taken]
                if len(self._buffer) == _BLOCK:
                    self._header()
            else:
                taken = min(self._left, len(view) - at)
                self._left -= taken
                if self._mode == "copy":
                    self._write(self._name, self._size, view[at : at + taken])
                elif self._mode == "extension":
                    self._buffer += view[at : at + taken]
                if self._left == 0:
                    self._content_done()
            at += taken
            self._position += taken

    @property
    def complete(self) -> bool:
        """Whether the stream may end here: not within a header or a file."""
        return self._mode == "header" and not self._buffer

    def _header(self) -> None:
        block, self._buffer = self._buffer, b""
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):
            return  # the end of an inner tar, or padding
        except tarfile.HeaderError as error:
            raise ValueError(f"is not a tar: no header at byte {self._position:,} of its content ({error})") from None
        if entry.type in _EXTENSIONS:
            if entry.size > _LARGEST_EXTENSION:
                raise ValueError(f"is not a usable tar: an extended header of {entry.size:,} bytes")
            self._begin("extension", entry.type.decode("ascii"), entry.size)
            return
        path = self._override.get("path", entry.name)
        size = int(self._override.get("size", entry.size))
        self._override = {}
        if entry.type not in _REGULAR:
            self._begin("skip", path, size)
            return
        name = PurePosixPath(path).name
        self.seen.append(path)
        if name in self._wanted:
            self._write(name, size, b"")
            self._begin("copy", name, size)
        elif name not in self._enter:
            self._begin("skip", name, size)

    def _begin(self, mode: str, name: str, size: int) -> None:
        """Take the next `size` bytes in this way; padding is passed over after them."""
        self._mode, self._name, self._size, self._left = mode, name, size, size
        if size == 0:
            self._content_done()

    def _content_done(self) -> None:
        if self._mode == "extension":
            self._extend()
        padding = -self._size % _BLOCK
        self._mode, self._size, self._left = ("skip", 0, padding) if padding else ("header", 0, 0)

    def _extend(self) -> None:
        """Keep what an extended header (pax, or GNU's long name) says about the file after it."""
        content, self._buffer = self._buffer, b""
        if self._name == tarfile.GNUTYPE_LONGNAME.decode("ascii"):
            self._override["path"] = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            return
        while content:
            length, _, _rest = content.partition(b" ")
            if not length.isdigit() or not 0 < int(length) <= len(content):
                raise ValueError("is not a usable tar: its extended header is malformed")
            key, _, value = content[len(length) + 1 : int(length)].rstrip(b"\n").partition(b"=")
            self._override[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
            content = content[int(length) :]
