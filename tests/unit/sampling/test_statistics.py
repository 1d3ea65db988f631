"""Uniform over clusters, over members, over windows; masks at their rates, independent of each other."""

import numpy as np
import pytest

from unirefine.config import Sampling
from unirefine.core.alphabet import CLS, EOS, MASK, PAD, TOKENS
from unirefine.sampling import FixedStream, SampleStream

IGNORE = -100
NULL = TOKENS.index("<null_1>")


def test_each_epoch_has_every_cluster_once_in_another_order(make_side):
    sizes = np.random.default_rng(0).integers(1, 5, 501)
    side = make_side(sizes, np.full(sizes.sum(), 10))
    cluster_of = np.repeat(np.arange(501), sizes)
    stream = SampleStream(side, Sampling())
    epochs = cluster_of[stream.windows(np.arange(501 * 20)).sequence].reshape(20, 501)
    for epoch in epochs:
        assert sorted(epoch) == list(range(501))
    correlations = np.corrcoef(epochs)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(501)
    other = cluster_of[SampleStream(side, Sampling(seed=2)).windows(np.arange(501)).sequence]
    assert (other != epochs[0]).mean() > 0.98


def test_the_position_of_a_cluster_in_an_epoch_is_uniform(make_side, assert_counts):
    side = make_side(np.ones(12, int), np.full(12, 5))
    epochs = 6000
    order = SampleStream(side, Sampling()).windows(np.arange(12 * epochs)).sequence.reshape(epochs, 12)
    for position in range(12):
        assert_counts(np.bincount(order[:, position], minlength=12), epochs / 12)


@pytest.mark.parametrize("size", [2, 3, 7, 200])
def test_members_of_a_cluster_are_uniform_and_independent_of_the_last_epoch(make_side, assert_counts, size):
    side = make_side([size, 1], np.full(size + 1, 5), files=1)
    epochs = 200 * size + 4000
    sequence = SampleStream(side, Sampling()).windows(np.arange(2 * epochs)).sequence.reshape(epochs, 2)
    members = sequence[sequence != size]
    assert len(members) == epochs
    assert_counts(np.bincount(members, minlength=size), epochs / size)
    if size < 10:
        pairs = members[0:-1:2] * size + members[1::2]
        assert_counts(np.bincount(pairs, minlength=size * size), len(pairs) / size**2)


@pytest.mark.parametrize("kind", ["train", "fixed"])
def test_windows_are_uniform_the_first_and_the_last_included(make_side, assert_counts, kind):
    clusters, residues, context = 20_000, 50, 40
    side = make_side(np.ones(clusters, int), np.full(clusters, residues))
    config = Sampling(max_tokens=context)
    stream = SampleStream(side, config) if kind == "train" else FixedStream(side, config, 1)
    windows = stream.windows(np.arange(clusters))
    positions = residues + 2 - context + 1
    assert set(windows.length) == {context}
    assert_counts(np.bincount(windows.start, minlength=positions), clusters / positions)
    batch = stream.batch(np.arange(clusters))
    first = np.where(batch.labels[:, 0] == IGNORE, batch.tokens[:, 0], batch.labels[:, 0])  # a mask may show <cls>
    np.testing.assert_array_equal(first == CLS, windows.start == 0)
    last = windows.start == positions - 1
    assert (batch.tokens[last, -1] == EOS).all() and (batch.labels[last, -1] == IGNORE).all()
    assert abs(last.mean() * positions - 1) < 0.2


@pytest.mark.parametrize("kind", ["train", "fixed"])
@pytest.mark.parametrize("random_tokens", ["vocabulary", "amino_acids"])
def test_mask_rates(make_side, assert_counts, kind, random_tokens):
    clusters, residues = 4000, 300
    side = make_side(np.ones(clusters, int), np.full(clusters, residues))
    config = Sampling(random_tokens=random_tokens)
    stream = SampleStream(side, config) if kind == "train" else FixedStream(side, config, 1)
    indices = np.arange(clusters)
    batch, sequence = stream.batch(indices), stream.windows(indices).sequence
    chosen = batch.labels[:, 1:-1] != IGNORE
    total = clusters * residues
    assert_counts([chosen.sum(), total - chosen.sum()], [0.15 * total, 0.85 * total])
    assert_counts(chosen.sum(axis=0), chosen.sum() / residues)  # uniform over positions
    per_sample = chosen.sum(axis=1)  # binomial: neither fixed nor clumped
    assert abs(per_sample.var() / (residues * 0.15 * 0.85) - 1) < 0.1
    neighbours = (chosen[:, 1:] & chosen[:, :-1]).mean()
    assert abs(neighbours / 0.15**2 - 1) < 0.03
    truth = 4 + (sequence[:, None] + np.arange(residues)) % 20
    shown, true = batch.tokens[:, 1:-1][chosen], truth[chosen]
    np.testing.assert_array_equal(batch.tokens[:, 1:-1][~chosen], truth[~chosen])
    kinds = 33 if random_tokens == "vocabulary" else 20
    masked, same = (shown == MASK).sum(), (shown == true).sum()
    count = len(shown)
    if random_tokens == "vocabulary":
        expected = [count * (0.8 + 0.1 / 33), count * (0.1 + 0.1 / 33), count * (0.1 - 0.2 / 33)]
    else:
        expected = [count * 0.8, count * (0.1 + 0.1 / 20), count * (0.1 - 0.1 / 20)]
    assert_counts([masked, same, count - masked - same], expected)
    replaced = shown[(shown != MASK) & (shown != true)]
    # each replacement is uniform over the tokens that are neither the true one nor <mask>; <pad> shows as <null_1>
    share = np.zeros(33)
    for token in range(4, 24):
        others = [t for t in (range(32) if kinds == 33 else range(4, 24)) if t != token]
        share[others] += (true == token).mean() / len(others)
    share[NULL], share[PAD] = share[NULL] + share[PAD], 0
    seen = np.bincount(replaced, minlength=33)
    assert (seen[share == 0] == 0).all()
    assert_counts(seen[share > 0], len(replaced) * share[share > 0])


@pytest.mark.parametrize(
    ("options", "masked", "kept"),
    [
        ({"mask_token_fraction": 1.0, "random_token_fraction": 0.0}, 1.0, 0.0),
        ({"mask_token_fraction": 0.0, "random_token_fraction": 0.0}, 0.0, 1.0),
        ({"mask_fraction": 0.4, "mask_token_fraction": 0.5, "random_token_fraction": 0.5}, 0.5, 0.0),
    ],
)
def test_the_extremes_of_the_options(make_side, options, masked, kept):
    side = make_side(np.ones(200, int), np.full(200, 300))
    config = Sampling(random_tokens="amino_acids", **options)
    batch = SampleStream(side, config).batch(np.arange(200))
    chosen = batch.labels != IGNORE
    assert abs(chosen.sum() / 60_000 / config.mask_fraction - 1) < 0.03
    shown, true = batch.tokens[chosen], batch.labels[chosen]
    assert abs((shown == MASK).mean() - masked) < 0.02
    accident = (1 - masked) / 20 if kept == 0.0 and masked < 1 else 0.0
    assert abs((shown == true).mean() - kept - accident) < 0.02


def test_masks_of_the_same_sequence_differ_between_epochs(make_side):
    side = make_side([1], np.array([400]), files=1)
    batch = SampleStream(side, Sampling()).batch(np.arange(300))
    chosen = (batch.labels != IGNORE)[:, 1:-1]
    overlap = (chosen[:-1] & chosen[1:]).mean()
    assert abs(overlap / 0.15**2 - 1) < 0.06
