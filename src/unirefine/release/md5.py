"""MD5 whose state can be saved, so that a hash over a stream of many hours survives a restart (hashlib's cannot)."""

import base64
import math
from typing import Any

import numba
import numpy as np

_BLOCK = 64
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES = np.array([int(abs(math.sin(i + 1)) * 2**32) for i in range(64)], np.uint32)
_TURNS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_SHIFTS = np.array([shift for turns in _TURNS for shift in turns * 4], np.uint32)


@numba.njit(inline="always")
def _step(a: int, b: int, mixed: int, word: int, i: int) -> int:
    """b + rotate(a + mixed + sine + word), in 32 bits."""
    total = np.uint32(a + mixed + _SINES[i] + word)
    shift = _SHIFTS[i]
    turned = np.uint32(total << shift) | np.uint32(total >> np.uint32(np.uint32(32) - shift))
    return np.uint32(b + turned)


@numba.njit(cache=True, nogil=True)
def _compress(state: np.ndarray, blocks: np.ndarray) -> None:
    """Run 64-byte blocks through MD5 (RFC 1321). state: uint32[4], changed in place; blocks: uint32[n, 16]."""
    for n in range(len(blocks)):
        a, b, c, d = state[0], state[1], state[2], state[3]
        for i in range(16):
            a, d, c, b = d, c, b, _step(a, b, d ^ (b & (c ^ d)), blocks[n, i], i)
        for i in range(16, 32):
            a, d, c, b = d, c, b, _step(a, b, c ^ (d & (b ^ c)), blocks[n, (5 * i + 1) & 15], i)
        for i in range(32, 48):
            a, d, c, b = d, c, b, _step(a, b, b ^ c ^ d, blocks[n, (3 * i + 5) & 15], i)
        for i in range(48, 64):
            a, d, c, b = d, c, b, _step(a, b, c ^ (b | ~d), blocks[n, (7 * i) & 15], i)
        state[0] += a
        state[1] += b
        state[2] += c
        state[3] += d


class ResumableMD5:
    """MD5 of a byte stream; `state` and `restore` carry it over a restart."""

    def __init__(self) -> None:
        self._state = np.array(_START, np.uint32)
        self._rest = b""
        self.size = 0
        """Bytes hashed so far."""

    def update(self, data: bytes | memoryview) -> None:
        """Hash the next bytes."""
        view = memoryview(data)
        self.size += len(view)
        if self._rest:
            missing = _BLOCK - len(self._rest)
            self._rest += bytes(view[:missing])
            view = view[missing:]
            if len(self._rest) < _BLOCK:
                return
            self._blocks(self._rest)
        whole = len(view) // _BLOCK * _BLOCK
        self._blocks(view[:whole])
        self._rest = bytes(view[whole:])

    def hexdigest(self) -> str:
        """Hex digest of what has been hashed so far."""
        state = self._state.copy()
        padding = b"\x80" + bytes((55 - self.size) % _BLOCK) + (8 * self.size % 2**64).to_bytes(8, "little")
        _compress(state, np.frombuffer(self._rest + padding, "<u4").reshape(-1, 16))
        return state.astype("<u4").tobytes().hex()

    def state(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return {
            "words": self._state.tolist(),
            "rest": base64.b64encode(self._rest).decode(),
            "size": self.size,
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "ResumableMD5":
        """A hash that goes on from what `state` returned."""
        hasher = cls()
        hasher._state[:] = state["words"]
        hasher._rest = base64.b64decode(state["rest"])
        hasher.size = state["size"]
        return hasher

    def _blocks(self, data: bytes | memoryview) -> None:
        _compress(self._state, np.frombuffer(data, "<u4").reshape(-1, 16))
