"""Micro-batches of this process: from samples to the tensors that `Esm2.forward` takes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from unirefine.alphabet import PAD
from unirefine.config import Train
from unirefine.model.batch import IGNORE
from unirefine.model.settings import length_multiple
from unirefine.sampling import FixedStream, SampleStream, prefetch
from unirefine.train import plan

FP8_ROWS = 32
"""FP8 matrix products take tokens by this number (delayed and current scaling: 16, MXFP8 blocks: 32)."""


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes."""

    indices: np.ndarray
    """Global indices of its samples: int64[b]."""
    lengths: np.ndarray
    """Tokens of each sample without padding: int64[b]."""
    tokens: torch.Tensor
    """int64[b, s], or packed int64[1, t]; on the CPU."""
    labels: torch.Tensor
    """Like tokens; -100 where there is no loss."""
    cu_seqlens: torch.Tensor | None
    """Packed: bounds of the slots, int32[slots + 1]."""


class Cut(NamedTuple):
    """Samples of a micro-batch that is yet to be made."""

    indices: np.ndarray
    """int64[b]"""
    lengths: np.ndarray
    """int64[b]: tokens without padding."""
    slots: np.ndarray
    """int64[b]: tokens with the padding that the layout needs."""


def cut(stream: SampleStream | FixedStream, indices: np.ndarray, config: Train, rank: int, ranks: int) -> list[Cut]:
    """The share of data-parallel rank `rank` of `ranks` in samples `indices`, cut into micro-batches.

    A micro-batch holds at most `micro_batch` x `sampling.max_tokens` tokens, padding included. Samples of like length
    lie together.
    """
    lengths = stream.lengths_of(indices)
    mine = plan.share(lengths, rank, ranks)
    indices, lengths = indices[mine], lengths[mine].astype(np.int64)
    # packed slots are cut by context parallelism one by one; otherwise only the whole row has to be divisible
    multiple = 2 * config.parallel.context if config.parallel.context > 1 else 1
    slots = _round_up(lengths, multiple if config.packed else row_multiple(config))
    budget = config.micro_batch * config.sampling.max_tokens
    parts = plan.packs(slots, budget) if config.packed else plan.micro_batches(slots, budget)
    return [Cut(indices[part], lengths[part], slots[part]) for part in parts]


def make(stream: SampleStream | FixedStream, samples: Cut, config: Train) -> MicroBatch:
    """Read, crop and mask the samples of a micro-batch."""
    made = stream.batch(samples.indices, width=int(samples.slots.max()))
    tokens, labels = made.tokens.astype(np.int64), made.labels.astype(np.int64)
    columns = np.arange(tokens.shape[1])
    bounds = None
    if config.packed:
        in_slot = columns < samples.slots[:, None]
        bounds = np.concatenate([[0], np.cumsum(samples.slots)])
        rest = -int(bounds[-1]) % row_multiple(config)
        if rest:
            bounds = np.append(bounds, bounds[-1] + rest)
        tokens = np.pad(tokens[in_slot], (0, rest), constant_values=PAD)[None]
        labels = np.pad(labels[in_slot], (0, rest), constant_values=IGNORE)[None]
    return MicroBatch(
        indices=samples.indices,
        lengths=samples.lengths,
        tokens=torch.from_numpy(tokens),
        labels=torch.from_numpy(labels),
        cu_seqlens=None if bounds is None else torch.from_numpy(bounds.astype(np.int32)),
    )


def training_batches(
    stream: SampleStream, config: Train, first: int, rank: int, ranks: int
) -> Iterator[list[MicroBatch]]:
    """This rank's micro-batches of step `first`, `first` + 1, ..., made in the background while a step computes."""

    def make_step(step: int) -> list[MicroBatch]:
        samples = plan.step_indices(step, config.global_batch)
        return [make(stream, part, config) for part in cut(stream, samples, config, rank, ranks)]

    return prefetch(make_step, range(first, config.steps))


def row_multiple(config: Train) -> int:
    """What the length of a row must be a multiple of: for the layout, and on each of its ranks for FP8's tiles."""
    multiple = length_multiple(config.parallel)
    if config.fp8 != "off":
        parts = config.parallel.context * (config.parallel.tensor if config.parallel.sequence else 1)
        multiple = math.lcm(multiple, FP8_ROWS * parts)
    return multiple


def _round_up(lengths: np.ndarray, multiple: int) -> np.ndarray:
    return -(-lengths // multiple) * multiple
