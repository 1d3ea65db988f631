"""Letters of sequences, counted straight in Arrow's buffers."""

import numba
import numpy as np
import pyarrow as pa

from unirefine.core.alphabet import BYTE_TO_TOKEN, TOKENS, UNK

_TOKEN_OF_X = TOKENS.index("X")


@numba.njit(cache=True, nogil=True)
def _count(data, offsets, table, unknown, tokenless, totals):
    for row in range(len(offsets) - 1):
        x, none = 0, 0
        for i in range(offsets[row], offsets[row + 1]):
            byte = data[i]
            token = table[byte]
            totals[byte] += 1
            if token == UNK:
                none += 1
            elif token == _TOKEN_OF_X:
                x += 1
        unknown[row] = x + none
        tokenless[row] = none


def string_buffers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes (uint8[...]) and offsets (int64[n + 1]) of n strings without nulls; the bytes are not copied."""
    assert column.null_count == 0
    dtype = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _validity, offsets, data = column.buffers()
    begin, end = column.offset, column.offset + len(column) + 1
    raw = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return raw, np.frombuffer(offsets, dtype)[begin:end].astype(np.int64)


def count_letters(sequences: pa.Array, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unknown residues of n sequences.

    Returns (int32[n] residues that are X or have no token, int32[n] residues without a token); adds the occurrences
    of every byte to totals: int64[256].
    """
    unknown, tokenless = np.empty(len(sequences), np.int32), np.empty(len(sequences), np.int32)
    data, offsets = string_buffers(sequences)
    _count(data, offsets, BYTE_TO_TOKEN, unknown, tokenless, totals)
    return unknown, tokenless
