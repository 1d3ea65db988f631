"""Loads from memory-mapped IndexedDataset files inside numba.

A train set is many files. In numba, indexing a list of arrays at run time is expensive, so the files are described by
arrays of addresses, and compiled code loads from address + offset. Megatron's index arrays start at byte 34, so the
loads are unaligned (align 1).
"""

from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from unirefine.core.alphabet import TOKENS

_VOCABULARY = np.uint64(len(TOKENS))


def _loader(kind: types.Integer):  # the stubs of numba know no type for an intrinsic
    @intrinsic
    def load(_context, _address):
        def generate(context, builder, _signature, arguments):
            pointer = builder.inttoptr(arguments[0], ir.IntType(kind.bitwidth).as_pointer())
            return builder.load(pointer, align=1)

        return kind(types.uint64), generate

    return load


_load_uint8, _load_uint16 = _loader(types.uint8), _loader(types.uint16)
_load_int32, _load_int64 = _loader(types.int32), _loader(types.int64)


class MappedTables(NamedTuple):
    """Addresses and sizes of p mapped IndexedDataset files, for compiled code.

    Valid as long as the `IndexedFiles` that made it exists.
    """

    tokens: np.ndarray
    """uint64[p]: address of each .bin file."""
    token_bytes: np.ndarray
    """int64[p]: size of each .bin file."""
    lengths: np.ndarray
    """uint64[p]: address of the int32 sequence lengths."""
    pointers: np.ndarray
    """uint64[p]: address of the int64 byte offsets of the sequences."""
    documents: np.ndarray
    """uint64[p]: address of the int64 document offsets (documents + 1 of them)."""
    first_sequence: np.ndarray
    """int64[p + 1]: number of sequences before each file."""
    first_document: np.ndarray
    """int64[p + 1]: number of documents before each file."""
    item_size: int
    """Bytes per token: 1, 2, 4 or 8."""


@numba.njit(cache=True)
def file_of(firsts: np.ndarray, item: int) -> int:
    """Number of the file that holds global item `item`. firsts: int64[p + 1], ascending. Empty files are skipped."""
    low, high = 0, len(firsts) - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if firsts[middle] <= item:
            low = middle
        else:
            high = middle
    return low


@numba.njit(cache=True)
def document_range(tables: MappedTables, document: int) -> tuple[int, int]:
    """Global (first sequence, number of sequences) of a document."""
    file = file_of(tables.first_document, document)
    address = tables.documents[file] + np.uint64(8 * (document - tables.first_document[file]))
    first = _load_int64(address)
    return tables.first_sequence[file] + first, _load_int64(address + np.uint64(8)) - first


@numba.njit(cache=True)
def sequence_span(tables: MappedTables, sequence: int) -> tuple[int, int, int]:
    """(address of the first token, length in tokens, file) of a sequence; length -1 when its index entry is corrupt."""
    file = file_of(tables.first_sequence, sequence)
    local = sequence - tables.first_sequence[file]
    length = np.int64(_load_int32(tables.lengths[file] + np.uint64(4 * local)))
    pointer = _load_int64(tables.pointers[file] + np.uint64(8 * local))
    if length < 0 or pointer < 0 or pointer + length * tables.item_size > tables.token_bytes[file]:
        length = np.int64(-1)
    return tables.tokens[file] + np.uint64(pointer), length, file


@numba.njit(cache=True)
def copy_tokens(address: int, item_size: int, start: int, count: int, out: np.ndarray) -> bool:
    """Copy tokens start .. start + count of the sequence at `address` to out: uint8[>= count].

    Returns whether all of them are tokens of the alphabet, 0 .. 32; out is not to be used if not.
    """
    address += np.uint64(start * item_size)
    if item_size == 1:
        highest = np.uint8(0)
        for i in range(count):
            token = _load_uint8(address + np.uint64(i))
            out[i] = token
            highest = max(highest, token)
        return highest < _VOCABULARY
    seen = np.uint64(0)  # of all bits: a negative token is a large one
    if item_size == 2:
        for i in range(count):
            wide = np.uint64(_load_uint16(address + np.uint64(2 * i)))
            out[i] = wide
            seen = max(seen, wide)
    elif item_size == 4:
        for i in range(count):
            wide = np.uint64(_load_int32(address + np.uint64(4 * i)))
            out[i] = wide
            seen = max(seen, wide)
    else:
        for i in range(count):
            wide = np.uint64(_load_int64(address + np.uint64(8 * i)))
            out[i] = wide
            seen = max(seen, wide)
    return seen < _VOCABULARY
