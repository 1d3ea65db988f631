"""Divide long proteins into windows for the forward pass."""

import itertools
from typing import NamedTuple


class Window(NamedTuple):
    """Residues start to end (exclusive) are the input; the vectors of keep_start to keep_end (exclusive) are used."""

    start: int
    end: int
    keep_start: int
    keep_end: int


def truncated(length: int, size: int) -> list[Window]:
    """One window: the first `size` residues."""
    end = min(length, size)
    return [Window(0, end, 0, end)]


def overlapping(length: int, size: int) -> list[Window]:
    """Windows of `size` residues that overlap by half; the last one ends with the sequence and may overlap more.

    Each of two overlapping windows keeps its half of the overlap. So every residue is kept once, from the window in
    which it is farthest from an edge.
    """
    if length <= size:
        return truncated(length, size)
    starts = [*range(0, length - size, max(size // 2, 1)), length - size]
    middles = [(following + start + size) // 2 for start, following in itertools.pairwise(starts)]
    edges = [0, *middles, length]
    return [Window(start, start + size, edges[i], edges[i + 1]) for i, start in enumerate(starts)]
