"""Count the letters of sequences in Arrow's buffers."""

import numba
import numpy as np
import pyarrow as pa

from unirefine.core.alphabet import BYTE_TO_TOKEN, TOKENS, UNK
from unirefine.core.tables import string_buffers

_TOKEN_OF_X = TOKENS.index("X")


@numba.njit(cache=True, nogil=True)
def _count(raw, offsets, table, unknown, tokenless, totals):
    for row in range(len(offsets) - 1):
        x, no_token = 0, 0
        for i in range(offsets[row], offsets[row + 1]):
            byte = raw[i]
            token = table[byte]
            totals[byte] += 1
            if token == UNK:
                no_token += 1
            elif token == _TOKEN_OF_X:
                x += 1
        unknown[row] = x + no_token
        tokenless[row] = no_token


def count_letters(sequences: pa.Array, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the unknown residues of n sequences, and add the occurrences of every byte to totals, int64[256].

    sequences: string[n] or large_string[n]. Returns, for each sequence, the number of residues that are X or have no
    token, and the number of those that have no token: int32[n] each.
    """
    unknown, tokenless = np.empty(len(sequences), np.int32), np.empty(len(sequences), np.int32)
    _count(*string_buffers(sequences), BYTE_TO_TOKEN, unknown, tokenless, totals)
    return unknown, tokenless
