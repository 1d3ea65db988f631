"""CRC64 as in UniProt: ISO 3309 (x^64+x^4+x^3+x+1), reflected, initial value 0; computed in steps of eight bytes."""

import numba
import numpy as np

_POLYNOMIAL = 0xD800000000000000


def _tables() -> np.ndarray:
    tables = np.zeros((8, 256), np.uint64)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for step in range(1, 8):
        before = tables[step - 1]
        tables[step] = tables[0, (before & np.uint64(255)).astype(np.intp)] ^ (before >> np.uint64(8))
    return tables


_TABLES = _tables()


@numba.njit(cache=True, nogil=True)
def crc64(raw: np.ndarray, start: int, end: int) -> int:
    """CRC64 of raw[start:end]. raw: uint8[n]; returns uint64."""
    byte, crc, i = np.uint64(255), np.uint64(0), start
    while i + 8 <= end:
        word = np.uint64(0)
        for k in range(8):
            word |= np.uint64(raw[i + k]) << np.uint64(8 * k)
        crc ^= word
        crc = (
            _TABLES[7, crc & byte]
            ^ _TABLES[6, (crc >> np.uint64(8)) & byte]
            ^ _TABLES[5, (crc >> np.uint64(16)) & byte]
            ^ _TABLES[4, (crc >> np.uint64(24)) & byte]
            ^ _TABLES[3, (crc >> np.uint64(32)) & byte]
            ^ _TABLES[2, (crc >> np.uint64(40)) & byte]
            ^ _TABLES[1, (crc >> np.uint64(48)) & byte]
            ^ _TABLES[0, crc >> np.uint64(56)]
        )
        i += 8
    while i < end:
        crc = _TABLES[0, (crc ^ np.uint64(raw[i])) & byte] ^ (crc >> np.uint64(8))
        i += 1
    return crc


def crc64_hex(sequence: bytes | str) -> str:
    """CRC64 of a sequence as UniProt prints it: 16 upper-case hexadecimal digits.

    >>> crc64_hex("MKV")
    '72C336F000000000'
    """
    raw = np.frombuffer(sequence.encode("ascii") if isinstance(sequence, str) else sequence, np.uint8)
    return f"{crc64(raw, 0, len(raw)):016X}"
