"""Megatron-core's IndexedDataset files, written whole arrays at a time and memory-mapped back.

`<prefix>.bin` holds the tokens end to end. `<prefix>.idx` is little-endian: the magic `MMIDIDX\\0\\0`, uint64 version
1, uint8 dtype code, uint64 number of sequences n, uint64 number of document offsets (documents + 1); then int32[n]
lengths in tokens, int64[n] byte offsets into the .bin, int64[documents + 1] sequence number at which each document
starts, and, in multimodal sets only, int8[n] modes.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirefine.errors import UserError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
_HEADER = struct.Struct("<9sQBQQ")
HEADER_BYTES = _HEADER.size
_BLOCK = 1 << 16
DTYPES: dict[int, np.dtype] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.int8),
    3: np.dtype(np.int16),
    4: np.dtype(np.int32),
    5: np.dtype(np.int64),
    8: np.dtype(np.uint16),
}
"""The format's integer types by their code. Codes 6 and 7 are floats."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Index:
    """One mapped .idx file. The arrays are views of the map and may be unaligned."""

    dtype: np.dtype
    lengths: np.ndarray
    """int32[n], in tokens."""
    pointers: np.ndarray
    """int64[n], in bytes."""
    documents: np.ndarray
    """int64[documents + 1]: first sequence of each document, then n."""


def write_index(path: Path | str, lengths: np.ndarray, documents: np.ndarray, dtype: type = np.uint8) -> None:
    """Write a .idx file to `path`, not atomically: callers give a temporary name.

    lengths: int32[n] in tokens, in file order. documents: int64[documents + 1], from 0 to n.
    """
    item = np.dtype(dtype)
    lengths = np.ascontiguousarray(lengths, "<i4")
    pointers = np.empty(len(lengths), "<i8")
    np.cumsum(lengths[:-1], dtype="<i8", out=pointers[1:])
    pointers[:1] = 0
    pointers *= item.itemsize
    with Path(path).open("wb") as handle:
        handle.write(_HEADER.pack(MAGIC, VERSION, _CODES[item], len(lengths), len(documents)))
        handle.write(lengths.data)
        handle.write(pointers.data)
        handle.write(np.ascontiguousarray(documents, "<i8").data)


def index_bytes(sequences: int, documents: int) -> int:
    """Size of a .idx file without modes."""
    return HEADER_BYTES + 12 * sequences + 8 * (documents + 1)


def map_file(path: Path) -> np.ndarray:
    """A file as uint8[bytes], mapped read-only. Raises UserError when it is missing."""
    try:
        size = path.stat().st_size
        return np.asarray(np.memmap(path, np.uint8, "r")) if size else np.empty(0, np.uint8)
    except FileNotFoundError:
        raise UserError("missing", where=path, fix="run `snakemake -R shard`") from None


def read_index(path: Path | str, bin_bytes: int) -> Index:
    """Map a .idx file and check every entry: whoever reads by it stays inside a .bin of `bin_bytes` bytes.

    Takes about 5 ms for a million sequences in memory. Raises UserError for a file that is not an index, is truncated
    or damaged, or belongs to another .bin.
    """
    path = Path(path)
    raw = map_file(path)

    def refuse(what: str) -> UserError:
        return UserError(what, where=path, fix="run `snakemake -R shard`")

    if len(raw) < HEADER_BYTES:
        raise refuse(f"torn: {len(raw)} bytes, shorter than the header of an index")
    magic, version, code, sequences, offsets = _HEADER.unpack(raw[:HEADER_BYTES].tobytes())
    if magic != MAGIC or version != VERSION:
        raise refuse("not a Megatron index of version 1")
    if code not in DTYPES:
        raise refuse(f"dtype code {code} is not an integer type")
    if offsets < 1:
        raise refuse("no document offsets")
    plain = index_bytes(sequences, offsets - 1)
    if len(raw) not in (plain, plain + sequences):  # modes of a multimodal set: one byte per sequence
        raise refuse(f"torn: {len(raw)} bytes, but {sequences} sequences and {offsets - 1} documents take {plain}")
    dtype = DTYPES[code]
    lengths = np.frombuffer(raw, "<i4", sequences, HEADER_BYTES)
    pointers = np.frombuffer(raw, "<i8", sequences, HEADER_BYTES + 4 * sequences)
    documents = np.frombuffer(raw, "<i8", offsets, HEADER_BYTES + 12 * sequences)
    if documents[0] != 0 or documents[-1] != sequences:
        raise refuse(f"its documents end at sequence {documents[-1]} of {sequences}")
    if (documents[1:] < documents[:-1]).any():
        raise refuse("the document offsets are not ascending")
    end = 0
    for first in range(0, sequences, _BLOCK):  # a block stays in the cache, and a copy of it is aligned
        block = lengths[first : first + _BLOCK].copy()
        if int(block.min()) < 0:
            raise refuse("a sequence has a negative length")
        ends = end + np.cumsum(block, dtype=np.int64) * dtype.itemsize
        starts = pointers[first : first + _BLOCK].copy()
        if starts[0] != end or (starts[1:] != ends[:-1]).any():
            raise refuse("the byte offsets do not follow from the lengths")
        end = int(ends[-1])
    if end != bin_bytes:
        raise refuse(f"its sequences end at byte {end}, but the .bin has {bin_bytes}")
    return Index(dtype, lengths, pointers, documents)
