"""Which samples make up a step, and how they are divided."""

from itertools import islice

import numpy as np
import pytest

from unirefine.config import Train
from unirefine.train.plan import packs, share, steps

LENGTHS = np.random.default_rng(3).integers(20, 101, 5000)


def config(**changes) -> Train:
    parallel = {"processes_per_node": 2}
    return Train.model_validate({"parallel": parallel, "sampling": {"max_tokens": 100}, "micro_batch": 3} | changes)


def first_steps(train: Train, count: int, first: int = 0) -> list[np.ndarray]:
    return list(islice(steps(LENGTHS.__getitem__, train, first), count))


def test_steps_tile_the_samples():
    taken = first_steps(config(global_batch=6), 5)
    assert [len(samples) for samples in taken] == [6] * 5
    assert np.concatenate(taken).tolist() == list(range(30))


@pytest.mark.parametrize("tokens", [600, 777, 6_000, 60_000])
def test_steps_of_tokens_take_what_fits_and_continue_there(tokens):
    taken = first_steps(config(global_batch=None, global_tokens=tokens), 4)
    samples = np.concatenate(taken)
    assert samples.tolist() == list(range(len(samples)))
    for step in taken:
        assert LENGTHS[step].sum() <= tokens < LENGTHS[np.append(step, step[-1] + 1)].sum()
    again = first_steps(config(global_batch=None, global_tokens=tokens), 2, first=int(taken[1][-1]) + 1)
    assert [step.tolist() for step in again] == [step.tolist() for step in taken[2:]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_partition_the_step_with_nearly_equal_tokens(ranks):
    lengths = np.random.default_rng(0).integers(20, 1025, 241)
    shares = [share(lengths, rank, ranks) for rank in range(ranks)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(241))
    tokens = [lengths[positions].sum() for positions in shares]
    assert max(tokens) - min(tokens) <= 1024
    assert {len(positions) for positions in shares} <= {241 // ranks, 241 // ranks + 1}
    for positions in shares:
        assert (np.diff(lengths[positions]) <= 0).all()


def test_packs_cover_in_order_and_fill_the_budget():
    slots = np.sort(np.random.default_rng(2).integers(20, 257, 200))[::-1]
    slices = packs(slots, 2048)
    assert [i for cut in slices for i in range(200)[cut]] == list(range(200))
    sums = [slots[cut].sum() for cut in slices]
    assert max(sums) <= 2048
    assert all(total > 2048 - 256 for total in sums[:-1])
    assert packs(np.array([50, 10, 10]), 20) == [slice(0, 1), slice(1, 3)]
