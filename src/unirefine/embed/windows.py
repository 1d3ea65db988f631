"""Which residues one forward pass sees, and which of them it answers for."""

import itertools
from typing import NamedTuple


class Window(NamedTuple):
    """Residues start .. end of a sequence are shown; those from keep_start to keep_end are taken from this pass."""

    start: int
    end: int
    keep_start: int
    keep_end: int


def truncated(length: int, size: int) -> list[Window]:
    """The first `size` residues."""
    end = min(length, size)
    return [Window(0, end, 0, end)]


def overlapping(length: int, size: int) -> list[Window]:
    """Windows of `size` residues that overlap by half (the last one ends where the sequence ends, so it may overlap
    more). Where two overlap, each answers for its half of the overlap: every residue is kept exactly once, from the
    window in which it lies deepest.
    """
    if length <= size:
        return truncated(length, size)
    starts = [*range(0, length - size, max(size // 2, 1)), length - size]
    middles = [(following + start + size) // 2 for start, following in itertools.pairwise(starts)]
    edges = [0, *middles, length]
    return [Window(start, start + size, edges[i], edges[i + 1]) for i, start in enumerate(starts)]
