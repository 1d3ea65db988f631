"""Large buffers that each thread reuses, because new memory costs a page fault for every 4 kB."""

import threading

import numpy as np

_LOCAL = threading.local()


def scratch(name: str, size: int) -> np.ndarray:
    """This thread's buffer `name`: uint8[size], 16-byte aligned, not initialised, valid until the next call for it."""
    buffers = _LOCAL.__dict__
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = np.empty(size + size // 8, np.uint8)
    return buffers[name][:size]
