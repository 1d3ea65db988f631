"""Member ids as 64-bit keys, which are lossless for UniProt accessions (with isoform) and UniParc UPIs.

Bits 63-62 are the kind: 0 an accession, 1 a UPI, 2 any other id, as a 62-bit hash from which the id cannot be restored.
Accession: bits 61-9 are ten characters in base 37 (0: none, 1-10: digits, 11-36: A-Z), left-aligned; bits 8-0 are the
isoform number (0: none). UPI: bits 39-0 are its ten hexadecimal digits. The key of a UniRef cluster is the key of what
follows `UniRef50_`; the level is not in the key.
"""

import numba
import numpy as np

from unirefine.core.hashing import mix64

_KIND = 62
_LETTERS = 10
_MAX_ISOFORM = 511
ACCESSION, UPI, OTHER = 0, 1, 2


@numba.njit(cache=True)
def pack(raw: np.ndarray, start: int, end: int) -> int:
    """The key, uint64, of the id in raw[start:end]. raw: uint8[n]."""
    length = end - start
    if length == 13 and raw[start] == 85 and raw[start + 1] == 80 and raw[start + 2] == 73:  # "UPI"
        value = np.uint64(0)
        for i in range(start + 3, end):
            byte = raw[i]
            if 48 <= byte <= 57:
                digit = byte - 48
            elif 65 <= byte <= 70:
                digit = byte - 55
            else:
                return _pack_other(raw, start, end)
            value = (value << np.uint64(4)) | np.uint64(digit)
        return (np.uint64(UPI) << np.uint64(_KIND)) | value
    letters, value, i = 0, np.uint64(0), start
    while i < end and letters < _LETTERS:
        byte = raw[i]
        if 48 <= byte <= 57:
            digit = byte - 47
        elif 65 <= byte <= 90:
            digit = byte - 54
        else:
            break
        value = value * np.uint64(37) + np.uint64(digit)
        letters += 1
        i += 1
    if letters not in (6, 10):
        return _pack_other(raw, start, end)
    for _ in range(letters, _LETTERS):
        value = value * np.uint64(37)
    isoform = 0
    if i < end:
        if raw[i] != 45 or end - i < 2 or end - i > 4 or raw[i + 1] == 48:  # "-N", no leading zero
            return _pack_other(raw, start, end)
        for j in range(i + 1, end):
            byte = raw[j]
            if byte < 48 or byte > 57:
                return _pack_other(raw, start, end)
            isoform = isoform * 10 + (byte - 48)
        if isoform > _MAX_ISOFORM:
            return _pack_other(raw, start, end)
    return (value << np.uint64(9)) | np.uint64(isoform)


@numba.njit(cache=True)
def _pack_other(raw: np.ndarray, start: int, end: int) -> int:
    state = np.uint64(0xCBF29CE484222325)  # FNV-1a, then mixed
    for i in range(start, end):
        state = (state ^ np.uint64(raw[i])) * np.uint64(0x100000001B3)
    return (np.uint64(OTHER) << np.uint64(_KIND)) | (mix64(state) >> np.uint64(2))


def key_of(member_id: str) -> int:
    """The key of one member id (`A0A009IHW8`, `P10636-7`, `UPI002E2621C6`, or any other string)."""
    raw = np.frombuffer(member_id.encode(), np.uint8)
    return int(pack(raw, 0, len(raw)))


@numba.njit(cache=True)
def _pack_many(raw: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    keys = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(keys)):
        keys[i] = pack(raw, offsets[i], offsets[i + 1])
    return keys


def keys_of(raw: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The keys, uint64[n], of n ids: id i is raw[offsets[i] : offsets[i + 1]]. raw: uint8[bytes]; offsets: int[n + 1].

    The arguments are what `unirefine.core.tables.string_buffers` returns.
    """
    return _pack_many(raw, np.asarray(offsets, np.int64))


def id_of(key: int) -> str:
    """The member id of a key. Raises ValueError for a hashed id (kind 2), which cannot be restored."""
    kind = key >> _KIND
    if kind == UPI:
        return f"UPI{key & (2**40 - 1):010X}"
    if kind != ACCESSION:
        raise ValueError(f"key {key} is a hash; its id is in the records")
    isoform, value, letters = key & _MAX_ISOFORM, key >> 9, []
    for _ in range(_LETTERS):
        value, digit = divmod(value, 37)
        letters.append("" if digit == 0 else chr(digit + (47 if digit <= 10 else 54)))
    return "".join(reversed(letters)) + (f"-{isoform}" if isoform else "")
