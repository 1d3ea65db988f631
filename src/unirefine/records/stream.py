"""The input as blocks of whole entries: one thread reads and decompresses while others parse.

Every offset is in the decompressed stream.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unirefine.core.compressed import DAMAGE, damage, decompressed
from unirefine.core.fasta_faults import OTHER_COMPRESSIONS, UNPACK
from unirefine.errors import UserError
from unirefine.files.inputs import require_file

BLOCK_BYTES = 2 << 20
MAX_ENTRY_BYTES = 512 << 20
"""A larger entry is an error, which bounds the memory. UniRef's largest XML entries have a tenth of it."""


@dataclass(frozen=True)
class Block:
    """Consecutive whole entries of the stream."""

    raw: np.ndarray
    """uint8[n], writable; a view of `buffer`."""
    buffer: bytearray
    """For the reader's `spare` once the block is no longer needed."""
    offset: int
    """Of raw[0] in the stream."""
    last: bool
    """Whether this is the last block."""
    compressed: int
    """Bytes of the file read so far, for progress."""


def open_stream(path: Path) -> tuple[BinaryIO, BinaryIO, str | None]:
    """The file, its decompressed stream (the file itself if plain), and how it is compressed.

    Raises UserError for other compressions than those of core.compressed.
    """
    require_file(path, "check --input, or run the release stage")
    file = path.open("rb", buffering=0)
    stream, compression = decompressed(file)
    if compression is None:
        magic = file.read(6)
        file.seek(0)
        for start, name in OTHER_COMPRESSIONS.items():
            if magic.startswith(start):
                file.close()
                raise UserError(f"compressed with {name}", where=path, fix=UNPACK)
    return file, stream, compression


def read_blocks(path: Path, marker: bytes, keep: int, spare: deque[bytearray] | None = None) -> Iterator[Block]:
    """Yield the stream in blocks that end with `marker`; the marker's last `keep` bytes go to the next block.

    marker, keep: `b"\\n>", 1` (FASTA: the `>` starts the next block) or `b"</entry>", 0` (XML). The last block is
    what follows the last marker; it can be empty. Buffers that the caller appends to `spare` are reused: fresh memory
    costs a tenth of the time. Raises UserError: no such file, corrupt or truncated compression, an entry over
    MAX_ENTRY_BYTES.
    """
    file, stream, compression = open_stream(path)
    with file, stream:
        carry, offset, size = b"", 0, BLOCK_BYTES
        while True:
            buffer = _buffer(spare, size)
            buffer[: len(carry)] = carry
            filled = len(carry) + _fill(
                stream, memoryview(buffer)[len(carry) :], path, offset + len(carry), compression
            )
            last = filled < size
            cut = buffer.rfind(marker, 0, filled) + len(marker) - keep if not last else filled
            if last or cut > len(marker) - 1 - keep:
                yield Block(np.frombuffer(buffer, np.uint8)[:cut], buffer, offset, last, file.tell())
                carry, offset, size = bytes(memoryview(buffer)[cut:filled]), offset + cut, BLOCK_BYTES
            else:  # an entry is larger than the block
                if size >= MAX_ENTRY_BYTES:
                    raise UserError(
                        f"no end of an entry within {MAX_ENTRY_BYTES >> 20} MiB after byte {offset:,}",
                        where=path,
                        fix="check that it is FASTA or UniRef XML with line ends",
                    )
                carry = bytes(memoryview(buffer)[:filled])
            if last:
                return
            size = max(size, 2 * len(carry))


def _buffer(spare: deque[bytearray] | None, size: int) -> bytearray:
    """A buffer of that size, a spare one if possible; spare ones of another size are dropped."""
    while spare:
        if len(buffer := spare.pop()) == size:
            return buffer
    return bytearray(size)


def _fill(stream: BinaryIO, target: memoryview, path: Path, offset: int, compression: str | None) -> int:
    """Read until `target` is full or the stream ends. Returns the bytes read."""
    filled = 0
    try:
        while filled < len(target) and (count := stream.readinto(target[filled:])):
            filled += count
    except DAMAGE as error:
        kind, after = damage(error), f"after byte {offset + filled:,} decompressed"
        if kind is None:
            raise
        what = (
            f"truncated: the {compression} stream ends without its end mark, {after}"
            if kind == "truncated"
            else f"corrupt {compression} stream {after} ({error})"
        )
        raise UserError(what, where=path, fix="copy or download it again") from None
    return filled


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of the decompressed stream, at most `count`. Raises UserError as `read_blocks` does."""
    file, stream, compression = open_stream(path)
    with file, stream:
        buffer = bytearray(count)
        return bytes(buffer[: _fill(stream, memoryview(buffer), path, 0, compression)])
