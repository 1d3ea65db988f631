"""The tokens of XML on bytes, compiled: tags, attributes, entities, comments.

Positions are offsets into a block. A negative position is an error at ~position. Anything that a UniRef document does
not have (CDATA, processing instructions inside the root, unknown entities) is an error.
"""

import numba
import numpy as np

LESS, GREATER, SLASH, AMPERSAND, QUOTE, APOSTROPHE, EQUALS, BANG, SEMICOLON, HASH = (
    60,
    62,
    47,
    38,
    34,
    39,
    61,
    33,
    59,
    35,
)
NOT_ASCII = 255
"""Stands for a character reference above ASCII in a decoded value, and makes the value invalid wherever it is used."""

_COMMENT = np.frombuffer(b"<!--", np.uint8)
_STOPS = np.zeros(256, np.bool_)
_STOPS[[QUOTE, APOSTROPHE, AMPERSAND, LESS]] = True
_ENTITIES = ((b"amp", 38), (b"lt", 60), (b"gt", 62), (b"quot", 34), (b"apos", 39))
_ENTITY_NAMES = np.zeros((len(_ENTITIES), 4), np.uint8)
_ENTITY_BYTES = np.array([byte for _name, byte in _ENTITIES], np.uint8)
for _row, (_name, _byte) in enumerate(_ENTITIES):
    _ENTITY_NAMES[_row, : len(_name)] = list(_name)


@numba.njit(cache=True, nogil=True, forceinline=True)
def is_space(byte: int) -> bool:
    """Whether this is white space in XML."""
    return byte == 32 or byte == 10 or byte == 13 or byte == 9


@numba.njit(cache=True, nogil=True, forceinline=True)
def skip_space(raw: np.ndarray, i: int) -> int:
    """First position from i on without white space, or the end."""
    while i < len(raw) and is_space(raw[i]):
        i += 1
    return i


@numba.njit(cache=True, nogil=True, forceinline=True)
def equals(raw: np.ndarray, start: int, end: int, word: np.ndarray) -> bool:
    """Whether raw[start:end] is `word`, uint8[k]."""
    if end - start != len(word):
        return False
    for k in range(len(word)):  # noqa: SIM110 (numba has no all())
        if raw[start + k] != word[k]:
            return False
    return True


@numba.njit(cache=True, nogil=True, forceinline=True)
def next_tag(raw: np.ndarray, i: int) -> int:
    """Position of the next `<` from i on, or the end."""
    while i + 16 <= len(raw):  # the compiler vectorises 16 bytes without a branch
        found = 0
        for k in range(16):
            found |= raw[i + k] == LESS
        if found:
            break
        i += 16
    while i < len(raw) and raw[i] != LESS:
        i += 1
    return i


@numba.njit(cache=True, nogil=True, forceinline=True)
def name_end(raw: np.ndarray, i: int) -> int:
    """End of the name that begins at i."""
    while i < len(raw):
        byte = raw[i]
        if is_space(byte) or byte in (GREATER, SLASH, EQUALS, LESS):
            break
        i += 1
    return i


@numba.njit(cache=True, nogil=True)
def skip_comment(raw: np.ndarray, i: int) -> int:
    """Position after the comment at i. An error if there is none, or if it does not end in this block."""
    start = i
    if not equals(raw, i, min(i + 4, len(raw)), _COMMENT):
        return ~start
    i += 4
    while i + 3 <= len(raw):
        if raw[i] == 45 and raw[i + 1] == 45 and raw[i + 2] == GREATER:
            return i + 3
        i += 1
    return ~start


@numba.njit(cache=True, nogil=True)
def attributes(raw: np.ndarray, i: int, first: np.ndarray, second: np.ndarray) -> tuple[int, bool, int, int, int, int]:
    """Read a tag's attributes from i, behind its name, to its `>`.

    Returns (position after `>`, whether it is an empty element `/>`, start and end of the values of the attributes
    `first` and `second`); start and end are 0 where there is no such attribute. Values with entities are decoded in
    place, since they only get shorter.
    """
    a0 = a1 = b0 = b1 = 0
    size = len(raw)
    while True:
        before = i
        i = skip_space(raw, i)
        if i >= size:
            return ~i, False, a0, a1, b0, b1
        if raw[i] == GREATER:
            return i + 1, False, a0, a1, b0, b1
        if raw[i] == SLASH:
            if i + 1 < size and raw[i + 1] == GREATER:
                return i + 2, True, a0, a1, b0, b1
            return ~i, False, a0, a1, b0, b1
        name = i
        i = name_end(raw, i)
        stop = i
        i = skip_space(raw, i)
        if before == name or stop == name or i + 1 >= size or raw[i] != EQUALS:
            return ~i, False, a0, a1, b0, b1
        i = skip_space(raw, i + 1)
        if i >= size or (raw[i] != QUOTE and raw[i] != APOSTROPHE):
            return ~i, False, a0, a1, b0, b1
        quote = raw[i]
        start = i + 1
        i, end = _value(raw, start, quote)
        if i < 0:
            return i, False, a0, a1, b0, b1
        if equals(raw, name, stop, first):
            a0, a1 = start, end
        elif equals(raw, name, stop, second):
            b0, b1 = start, end


@numba.njit(cache=True, nogil=True, forceinline=True)
def _value(raw: np.ndarray, i: int, quote: int) -> tuple[int, int]:
    """(position after the closing quote, end of the decoded value) of the value that begins at i."""
    start = i
    while True:
        while i < len(raw) and not _STOPS[raw[i]]:
            i += 1
        if i >= len(raw) or raw[i] == LESS:
            return ~i, start
        if raw[i] == quote:
            return i + 1, i
        if raw[i] == AMPERSAND:
            return _decode(raw, i, quote)
        i += 1


@numba.njit(cache=True, nogil=True)
def _decode(raw: np.ndarray, i: int, quote: int) -> tuple[int, int]:
    """As `_value`, from the first `&` on: writes the decoded value over the encoded one."""
    at = i
    while i < len(raw) and raw[i] != quote:
        byte = raw[i]
        if byte == LESS:
            return ~i, at
        if byte == AMPERSAND:
            after, byte = _entity(raw, i)
            if after < 0:
                return after, at
            i = after
        else:
            i += 1
        raw[at] = byte
        at += 1
    return (i + 1, at) if i < len(raw) else (~i, at)


@numba.njit(cache=True, nogil=True)
def _entity(raw: np.ndarray, i: int) -> tuple[int, int]:
    """(position after the `;`, byte) of the entity at i."""
    start, end = i + 1, i + 1
    while end < len(raw) and end - start < 10 and raw[end] != SEMICOLON:
        end += 1
    if end >= len(raw) or raw[end] != SEMICOLON or end == start:
        return ~i, 0
    if raw[start] == HASH:
        base, k, value = 10, start + 1, 0
        if k < end and raw[k] == 120:  # x
            base, k = 16, k + 1
        if k == end:
            return ~i, 0
        while k < end:
            digit = hexadecimal_digit(raw[k])
            if digit >= base:
                return ~i, 0
            value = value * base + digit
            k += 1
        return end + 1, value if value < 128 else NOT_ASCII
    for row in range(len(_ENTITY_NAMES)):
        same = True
        for k in range(4):
            letter = raw[start + k] if start + k < end else 0
            same = same and letter == _ENTITY_NAMES[row, k]
        if same and end - start <= 4:
            return end + 1, _ENTITY_BYTES[row]
    return ~i, 0


@numba.njit(cache=True, nogil=True)
def hexadecimal_digit(byte: int) -> int:
    """Value of a hexadecimal digit; 99 of anything else."""
    if 48 <= byte <= 57:
        return byte - 48
    if 65 <= byte <= 70:
        return byte - 55
    if 97 <= byte <= 102:
        return byte - 87
    return 99
