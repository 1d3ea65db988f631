"""Windows cover every residue exactly once."""

import pytest

from unirefine.embed.windows import overlapping, truncated


def depth(window, residue: int, length: int) -> int:
    """Distance to the nearest edge of the window that is not an end of the protein."""
    before = residue - window.start if window.start else length
    after = window.end - 1 - residue if window.end < length else length
    return min(before, after)


@pytest.mark.parametrize("size", [2, 3, 10, 11])
def test_every_residue_is_kept_once_from_the_window_in_which_it_is_deepest(size):
    for length in range(1, 8 * size):
        windows = overlapping(length, size)
        kept = [residue for window in windows for residue in range(window.keep_start, window.keep_end)]
        assert kept == list(range(length))
        for window in windows:
            assert 0 <= window.start <= window.keep_start <= window.keep_end <= window.end <= length
            assert window.end - window.start <= size
        for residue in range(length):
            (owner,) = [window for window in windows if window.keep_start <= residue < window.keep_end]
            best = max(depth(window, residue, length) for window in windows if window.start <= residue < window.end)
            assert depth(owner, residue, length) >= best - 1


def test_truncation_keeps_the_first_residues():
    assert truncated(5, 10) == [(0, 5, 0, 5)]
    assert truncated(50, 10) == [(0, 10, 0, 10)]
