"""The composition baseline against a plain loop."""

import numpy as np
import pytest

from unirefine.config import Evaluate, Sampling
from unirefine.dataset import open_shards
from unirefine.evaluate import composition
from unirefine.evaluate.masked import MaskedSide
from unirefine.sampling import fixed_batch


def test_the_weight_has_the_highest_leave_one_out_likelihood(written):
    train = open_shards(written.directory).train
    frequencies = np.random.default_rng(0).dirichlet(np.ones(33))
    found = composition.fit_weight(train.tables, train.documents, np.log(frequencies), 40)

    def likelihood(weight: float) -> float:
        total = 0.0
        for members in written.train:
            sequence = members[0][:40].tolist()
            for i, token in enumerate(sequence):
                others = sequence[:i] + sequence[i + 1 :]
                total += np.log((others.count(token) + weight * frequencies[token]) / (len(others) + weight))
        return total

    near = composition.WEIGHTS[np.abs(np.log2(composition.WEIGHTS / found)) < 1.1]
    assert len(near) > 2 and found == max(near, key=likelihood)
    assert likelihood(found) > likelihood(composition.WEIGHTS[0]) and likelihood(found) >= likelihood(
        composition.WEIGHTS[-1]
    )


def test_only_residues_that_are_not_chosen_are_counted(written):
    config = Evaluate(seed=2, masking={"max_tokens": 60})
    side = open_shards(written.directory).validation
    positions = MaskedSide(side, config).positions()
    unigram = np.log(np.full(33, 1 / 33))
    found = composition.nll(unigram, 8.0, positions.target, positions.alike, positions.seen)
    for i in range(0, len(found), 7):
        number = positions.sequence[i : i + 1].astype(np.int64)
        batch = fixed_batch(side, number, config.seed, Sampling(**config.masking.model_dump()))
        seen = [
            int(t) for t, label in zip(batch.tokens[0], batch.labels[0], strict=True) if label < 0 and t not in (0, 2)
        ]
        probability = (seen.count(positions.target[i]) + 8 / 33) / (len(seen) + 8)
        assert found[i] == pytest.approx(-np.log(probability))
