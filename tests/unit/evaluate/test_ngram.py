"""The baselines against a plain loop over every residue."""

from collections import Counter
from math import log

import numpy as np
import pytest

from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.evaluate import ngram

CLS, EOS = 0, 2


def plain_counts(documents) -> Counter:
    """Weight by (left, residue, right): every cluster counts as one sequence."""
    counts = Counter()
    for members in documents:
        for sequence in members:
            whole = [CLS, *sequence.tolist(), EOS]
            for i in range(1, len(whole) - 1):
                counts[whole[i - 1], whole[i], whole[i + 1]] += 1 / len(members)
    return counts


def counted(directory) -> np.ndarray:
    train = open_shards(directory).train
    counts = np.zeros((33, 33, 33))
    for first in range(0, train.documents, 7):  # in several calls, across the boundary of the shards
        ngram.count_triples(train.tables, first, min(first + 7, train.documents), counts)
    return counts


def test_counts_equal_a_plain_loop(written):
    expected = np.zeros((33, 33, 33))
    for triple, weight in plain_counts(written.train).items():
        expected[triple] = weight
    np.testing.assert_allclose(counted(written.directory), expected, rtol=1e-12)


@pytest.mark.parametrize("length", [65534, 65535, 65536, 65537, 131071, 131072])
def test_sequences_longer_than_the_buffer_are_counted_once(shard_writer, length):
    sequence = np.random.default_rng(length).integers(4, 24, length).astype(np.uint8)
    written = shard_writer([[[sequence]]])
    counts = counted(written.directory)
    whole = np.concatenate([[CLS], sequence, [EOS]])
    expected = np.zeros((33, 33, 33))
    np.add.at(expected, (whole[:-2], whole[1:-1], whole[2:]), 1)
    np.testing.assert_array_equal(counts, expected)


def test_probabilities_equal_the_formulas(written):
    triples = plain_counts(written.train)
    single, pairs, lefts, contexts = Counter(), Counter(), Counter(), Counter()
    for (left, residue, right), weight in triples.items():
        single[residue] += weight
        pairs[left, residue] += weight
        lefts[left] += weight
        contexts[left, right] += weight
    fitted = ngram.fit(counted(written.directory))
    rng = np.random.default_rng(0)
    for left, residue, right in rng.integers(0, 33, (300, 3)).tolist() + [list(t) for t in list(triples)[:300]]:
        arrays = [np.array([token], np.uint8) for token in (left, residue, right)]
        unigram = -log((single[residue] + 1) / (sum(single.values()) + 33))
        bigram = -log((pairs[left, residue] + 1) / (lefts[left] + 33))
        both = -log((triples[left, residue, right] + 1) / (contexts[left, right] + 33))
        for name, expected in (("unigram", unigram), ("bigram", bigram), ("neighbours", both)):
            assert fitted.nll(name, *arrays)[0] == pytest.approx(expected, rel=1e-10), (name, left, residue, right)


def test_probabilities_sum_to_one(written):
    fitted = ngram.fit(counted(written.directory))
    np.testing.assert_allclose(np.exp(fitted.unigram).sum(), 1)
    np.testing.assert_allclose(np.exp(fitted.bigram).sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(fitted.neighbours).sum(axis=1), 1)


def test_a_corrupt_index_is_one_line(written, tmp_path, shard_writer):
    broken = shard_writer([written.train])
    train = open_shards(broken.directory).train
    with (broken.directory / "train-000-of-001.idx").open("rb+") as index:  # while it is mapped
        index.seek(34 + 4 * 3)
        index.write((10**9).to_bytes(4, "little"))  # length of sequence 3
    with pytest.raises(UserError, match="train shard 0 is corrupt"):
        ngram.count_triples(train.tables, 0, train.documents, np.zeros((ngram.V,) * 3))
