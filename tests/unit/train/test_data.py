"""Micro-batches contain every sample once, and padding only where the layout needs it."""

import numpy as np
import pytest
import torch

from unirefine.config import Train
from unirefine.core.alphabet import CLS, EOS, PAD
from unirefine.model.settings import length_multiple
from unirefine.sampling import Windows
from unirefine.train.data import MicroBatch, make_micro_batch, plan_micro_batches

LENGTHS = np.random.default_rng(0).integers(10, 101, 48)
FIRST = 1000


class Counting:
    """Samples whose tokens identify them: token i of sample g is 5 + (g + i) % 20."""

    def windows(self, indices):
        lengths = LENGTHS[indices - FIRST]
        return Windows(np.asarray(indices), np.zeros_like(lengths), lengths, indices.astype(np.uint64))

    def fill(self, windows, offsets, tokens, labels):
        for index, length, offset in zip(windows.sequence, windows.length, offsets, strict=True):
            tokens[offset : offset + length] = 5 + (index + np.arange(length)) % 20
            labels[offset + 3] = index % 20


def config(**changes) -> Train:
    return Train.model_validate(
        {"model": {"preset": "8M"}, "sampling": {"max_tokens": 100}, "global_batch": 48, "micro_batch": 4} | changes
    )


LAYOUTS = {
    "plain": config(parallel={"processes_per_node": 1}, packed=False),
    "packed": config(parallel={"processes_per_node": 1}, packed=True),
    "cp2": config(parallel={"processes_per_node": 2, "context": 2}, packed=False),
    "cp2-packed": config(parallel={"processes_per_node": 2, "context": 2}, packed=True),
    "tp2-sp-packed": config(parallel={"processes_per_node": 2, "tensor": 2, "sequence": True}, packed=True),
    "fp8-packed": config(parallel={"processes_per_node": 1}, packed=True, fp8="mxfp8"),
    "blockwise-packed": config(parallel={"processes_per_node": 1}, fp8="blockwise", model={"preset": "650M"}),
    "fp8-cp2-sp": config(
        parallel={"processes_per_node": 4, "tensor": 2, "sequence": True, "context": 2}, fp8="delayed", packed=True
    ),
}


def all_batches(train: Train, ranks: int, *, gpu: bool = False) -> list[MicroBatch]:
    indices = FIRST + np.arange(48)
    return [
        make_micro_batch(Counting(), plan, train)
        for rank in range(ranks)
        for plan in plan_micro_batches(Counting(), indices, train, rank, ranks, gpu=gpu)
    ]


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_sample_is_there_once_and_complete(layout, ranks):
    train = LAYOUTS[layout]
    seen = []
    for batch in all_batches(train, ranks):
        bounds = batch.cu_seqlens
        if bounds is None:
            rows, marks = list(batch.tokens), list(batch.labels)
        else:
            rows, marks = (list(x[0].tensor_split(bounds[1:-1].long())) for x in (batch.tokens, batch.labels))
        for index, length, row, mark in zip(batch.indices, batch.lengths, rows, marks, strict=False):
            assert row[:length].tolist() == (5 + (index + np.arange(length)) % 20).tolist()
            assert (row[length:] == PAD).all()
            assert mark[3] == index % 20
            assert (mark == -100).sum() == len(mark) - 1
            seen.append(int(index))
        for row, mark in zip(rows[len(batch.indices) :], marks[len(batch.indices) :], strict=True):
            assert (row == PAD).all()
            assert (mark == -100).all()
    assert sorted(seen) == list(range(FIRST, FIRST + 48))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_divisible_and_within_the_budget(layout):
    train = LAYOUTS[layout]
    multiple = length_multiple(train.parallel, train.fp8)
    for batch in all_batches(train, 1):
        assert batch.tokens.shape[1] % multiple == 0
        assert batch.tokens.numel() < 400 + multiple
        if batch.cu_seqlens is not None and train.parallel.context > 1:
            assert (batch.cu_seqlens % (2 * train.parallel.context) == 0).all()
        if batch.cu_seqlens is not None:
            assert batch.cu_seqlens.dtype == torch.int32
            assert batch.cu_seqlens[-1] == batch.tokens.shape[1]


def test_packed_without_context_parallelism_has_no_padding():
    for batch in all_batches(LAYOUTS["packed"], 1):
        assert (batch.tokens != PAD).all()


def test_sorting_keeps_padding_small():
    batches = all_batches(LAYOUTS["plain"], 1)
    padded = sum(batch.tokens.numel() for batch in batches)
    assert padded < 1.12 * LENGTHS.sum()


def test_a_byte_a_token_travels():
    batch = all_batches(LAYOUTS["packed"], 1)[0]
    assert (batch.tokens.dtype, batch.labels.dtype) == (torch.uint8, torch.int8)


def test_padded_batches_on_gpus_have_few_shapes():
    """64 and 128 tokens a row; as many rows as the budget of 400 tokens allows, also when samples are few."""
    train = LAYOUTS["plain"]
    batches = all_batches(train, 1, gpu=True)
    assert {tuple(batch.tokens.shape) for batch in batches} == {(3, 128), (6, 64)}
    assert sum(len(batch.indices) for batch in batches) == 48 < sum(len(batch.tokens) for batch in batches)
    for batch in batches:
        added = batch.tokens[len(batch.indices) :]
        assert (added[:, :2] == torch.tensor([CLS, EOS])).all() and (added[:, 2:] == PAD).all()
        assert (batch.labels[len(batch.indices) :] == -100).all()
    plain = {
        index: row for batch in all_batches(train, 1) for index, row in zip(batch.indices, batch.tokens, strict=True)
    }
    for batch in batches:
        for index, length, row in zip(batch.indices, batch.lengths, batch.tokens, strict=False):
            assert torch.equal(row[:length], plain[index][:length])


def test_packed_batches_on_gpus_are_those_of_a_cpu():
    train = LAYOUTS["packed"]
    for here, there in zip(all_batches(train, 1), all_batches(train, 1, gpu=True), strict=True):
        assert torch.equal(here.tokens, there.tokens) and torch.equal(here.cu_seqlens, there.cu_seqlens)
