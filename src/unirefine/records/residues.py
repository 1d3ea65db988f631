"""Residue letters: copied into the columns, checked, upper-cased; the policy for `*` and invalid bytes."""

import numba
import numpy as np

from unirefine.records.columns import (
    EMPTY,
    INNER_HEADER,
    INNER_STOP,
    INVALID,
    LONE_RETURN,
    LOWER_CASE,
    OK,
    RESIDUES,
    TRAILING_STOP,
)

_STAR, _GREATER, _RETURN = 42, 62, 13
_WINDOWS, _WINDOW = 16, 64


@numba.njit(cache=True, nogil=True, forceinline=True)
def copy_letters(source: np.ndarray, target: np.ndarray) -> bool:
    """Copy uint8[k]; whether all are A to Z. Without a branch, so that the compiler vectorises it."""
    worst = np.uint8(0)
    for k in range(len(source)):
        target[k] = source[k]
        worst = max(worst, np.uint8(source[k] - np.uint8(65)))
    return worst < 26


@numba.njit(cache=True, nogil=True)
def copy_checked(
    raw: np.ndarray, i: int, end: int, target: np.ndarray, at: int, status: np.ndarray, detail: np.ndarray, n: int
) -> bool:
    """Copy raw[i:end] to target[at:]; whether any letter is lower case.

    A byte that is neither a letter nor `*` marks entry n, with its position and value as evidence: the first one, or
    the first that shows that a line end is missing.
    """
    lower = False
    for k in range(end - i):
        byte = raw[i + k]
        target[at + k] = byte
        if 97 <= byte <= 122:
            lower = True
        elif (byte < 65 or byte > 90) and byte != _STAR:
            bad = INNER_HEADER if byte == _GREATER else LONE_RETURN if byte == _RETURN else INVALID
            if status[n] == OK or (status[n] == INVALID and bad != INVALID):
                status[n], detail[n, 0], detail[n, 1] = bad, i + k, byte
    return lower


@numba.njit(cache=True, nogil=True)
def sample_letters(seq: np.ndarray, end: int, letters: np.ndarray) -> None:
    """Add to letters, int64[256], about how often each byte occurs in seq[:end]: windows of long sequences count."""
    step = max(end // _WINDOWS, _WINDOW)
    for start in range(0, end, step):
        length = min(_WINDOW, end - start)
        weight = min(step, end - start) // length
        for i in range(start, start + length):
            letters[seq[i]] += weight


@numba.njit(cache=True, nogil=True)
def upper_case(raw: np.ndarray, start: int, end: int) -> None:
    """Upper-case the letters of raw[start:end] in place."""
    for i in range(start, end):
        if 97 <= raw[i] <= 122:
            raw[i] -= 32


@numba.njit(cache=True, nogil=True)
def count_stops(raw: np.ndarray, start: int, end: int) -> int:
    """Number of `*` in raw[start:end]."""
    stops = 0
    for i in range(start, end):
        stops += raw[i] == _STAR
    return stops


@numba.njit(cache=True, nogil=True)
def finish(
    seq: np.ndarray, status: np.ndarray, stats: np.ndarray, n: int, first: int, at: int, lower: bool, stops: int
) -> int:
    """Policy for the sequence seq[first:at] of entry n: drop trailing `*`, count, set its status. Returns its end.

    A sequence with a bad status becomes empty.
    """
    whole = at
    while stops and at > first and seq[at - 1] == _STAR:
        at -= 1
        stops -= 1
    if status[n] == OK and at == first:
        status[n] = EMPTY
    if status[n] != OK:
        return first
    stats[TRAILING_STOP] += at < whole
    stats[INNER_STOP] += stops > 0
    stats[LOWER_CASE] += lower
    stats[RESIDUES] += at - first
    return at
