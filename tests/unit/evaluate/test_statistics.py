"""Perplexities by hand, intervals against theory, bins at their edges."""

import numpy as np
import pytest
import scipy.stats

from unirefine.core.resampling import perplexity_intervals
from unirefine.evaluate.statistics import bootstrap, breakdown, edge_bins, sum_by


def test_breakdown_equals_hand_computed_perplexities():
    bins = np.array([0, 0, 2, -1, 2, 2])
    sequence = np.array([7, 8, 3, 3, 3, 4])
    nll = {"ours": np.log([2.0, 8.0, 1.0, 50.0, 3.0, 9.0])}
    rows = breakdown(bins, ["short", "none", "long"], sequence, nll, group=np.array([1, 1, 0, 0, 0, 9]), seed=0)
    low, high = rows[1].pop("intervals")["ours"]
    assert (low, high) == (pytest.approx(3**0.5), pytest.approx(9.0))  # resamples of two clusters: one, both, the other
    assert rows == [
        {"bin": "short", "sequences": 2, "residues": 2, "ours": pytest.approx(4.0), "clusters": 1, "intervals": None},
        {"bin": "long", "sequences": 2, "residues": 3, "ours": pytest.approx(3.0), "clusters": 2},
    ]


def test_intervals_of_a_bin_agree_with_scipys_bootstrap():
    rng = np.random.default_rng(4)
    positions = rng.integers(0, 30, 80)
    nll = np.stack([rng.normal(2.5, 0.4, 80), rng.normal(2.8, 0.2, 80)]) * positions

    def mean(sums, counts, axis):
        return np.exp(sums.sum(axis) / counts.sum(axis))

    for values, found in zip(nll, perplexity_intervals(nll, positions, seed=3), strict=True):
        data, has = (values, positions), positions > 0
        data = tuple(array[has] for array in data)
        theirs = scipy.stats.bootstrap(
            data, mean, paired=True, vectorized=True, method="percentile", n_resamples=2000, rng=1
        ).confidence_interval
        assert found == pytest.approx(list(theirs), rel=0.01)
    assert perplexity_intervals(nll, positions, seed=3) == perplexity_intervals(nll, positions, seed=3)
    assert perplexity_intervals(nll[:, :1], np.array([3]), seed=0) is None


def test_bins_start_at_their_edges_and_nan_is_in_none():
    bins, labels = edge_bins(np.array([1, 49, 50, 99, 100, 5000, np.nan]), (1, 50, 100))
    assert bins.tolist() == [0, 0, 1, 1, 2, 2, -1]
    assert labels == ["1-49", "50-99", "100 and more"]
    assert edge_bins(np.array([0.25]), (0.0, 0.2, 0.3))[1] == ["0-0.2", "0.2-0.3", "0.3 and more"]
    assert edge_bins(np.array([1, 2]), (1, 2, 3))[1] == ["1", "2", "3 and more"]


def test_intervals_cover_the_truth_as_often_as_they_say():
    truth, hits, runs = 1.7, 0, 200
    for run in range(runs):
        rng = np.random.default_rng(run)
        # positions of a cluster share an offset, so an interval over positions would be far too narrow
        masked = rng.integers(5, 40, 60)
        group = np.repeat(np.arange(60), masked)
        nll = truth + rng.normal(0, 0.4, 60)[group] + rng.normal(0, 0.3, len(group))
        low, high = bootstrap({"ours": sum_by(group, nll, 60)}, seed=run)["ours"]["interval"]
        hits += low <= np.exp(truth) <= high
    assert 0.88 <= hits / runs <= 0.99


def test_the_paired_ratio_shows_a_small_but_constant_gain():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(100), 20)
    base = 2 + rng.normal(0, 1, 100)[group]
    models = {
        "ours": sum_by(group, base - 0.02, 100),
        "unigram": sum_by(group, base + rng.normal(0, 0.01, len(base)), 100),
    }
    found = bootstrap(models, seed=0, reference="ours")
    assert found["unigram"]["ratio"] == pytest.approx(np.exp(-0.02), rel=1e-3)
    assert found["unigram"]["ratio_interval"][1] < 1
    assert found["ours"]["interval"][1] > found["unigram"]["interval"][0]  # the single intervals overlap
    assert "ratio" not in found["ours"]


def test_without_positions_there_are_no_numbers():
    nothing = sum_by(np.array([], int), np.array([]), 4)
    found = bootstrap({"ours": nothing, "unigram": nothing}, seed=0, reference="ours")
    assert found["ours"] == {"residues": 0, "perplexity": None, "interval": None}
    assert found["unigram"] == found["ours"] | {"ratio": None, "ratio_interval": None}


def test_the_same_seed_gives_the_same_interval():
    sums = {"ours": sum_by(np.arange(50) % 10, np.linspace(1, 3, 50), 10)}
    assert bootstrap(sums, seed=4, reference="ours") == bootstrap(sums, seed=4, reference="ours")
    assert bootstrap(sums, seed=4, reference="ours") != bootstrap(sums, seed=5, reference="ours")
