"""Bands of length lose no pair that could pass the coverage, by MMseqs2's own arithmetic."""

import numpy as np
import pytest

from unirefine.similarity import bands


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("pairs", [1, 500, 10**9])
def test_each_pair_that_can_cover_is_in_exactly_one_band(monkeypatch, coverage, pairs):
    monkeypatch.setattr(bands, "MIN_PAIRS", pairs)
    random = np.random.default_rng(pairs)
    asks, index = (np.exp(random.normal(5, 1, n)).astype(np.int64) + 1 for n in (200, 300))
    seen = np.zeros((len(asks), len(index)), int)
    found = list(bands.length_bands(asks, index, coverage))
    for asking, indexed in found:
        seen[np.ix_(asking, indexed)] += 1
    ratio = np.float32(asks)[:, None] / np.float32(index)[None, :]
    can = np.minimum(ratio, np.float32(1) / ratio) >= np.float32(coverage) - np.float32(1e-6)
    assert can.any() and (seen[can] == 1).all() and seen.max() == 1
    assert pairs > 1 or seen.sum() < 0.6 * seen.size, "bands leave out most of the other pairs"
    assert (len(found) == 1) == (pairs == 10**9)


def test_no_band_without_a_sequence_on_either_side():
    assert list(bands.length_bands(np.array([10, 20]), np.array([1000]), 0.8)) == []
