"""This process's micro-batches, as the tensors that `Esm2.forward` takes."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from unirefine.config import Train
from unirefine.core.alphabet import PAD
from unirefine.dataset.manifest import REBUILD
from unirefine.dataset.verify import CHANGED, changed_files
from unirefine.errors import UserError
from unirefine.model.batch import IGNORE
from unirefine.model.batching import micro_batches
from unirefine.model.settings import length_multiple, slot_multiple
from unirefine.sampling import FixedStream, SampleStream, prefetch
from unirefine.train import plan


@dataclass(frozen=True)
class MicroBatch:
    """Input of one forward pass, on the CPU."""

    indices: np.ndarray
    """Global indices of its samples: int64[b]."""
    lengths: np.ndarray
    """Tokens of each sample without padding: int64[b]."""
    tokens: torch.Tensor
    """int64[b, s], or packed int64[1, t]."""
    labels: torch.Tensor
    """Shape of `tokens`; -100 where there is no loss."""
    cu_seqlens: torch.Tensor | None
    """Bounds of the slots, int32[slots + 1]; None when not packed."""


class MicroBatchPlan(NamedTuple):
    """Samples from which `make_micro_batch` makes a micro-batch."""

    indices: np.ndarray
    """int64[b]"""
    lengths: np.ndarray
    """int64[b]: tokens without padding."""
    slots: np.ndarray
    """int64[b]: tokens with the padding that the layout needs."""


def check_shards(directory: Path) -> None:
    """Hash the files of the shards, divided among the processes. Raises UserError on all of them when one differs."""
    ranks = torch.distributed.get_world_size()
    found: list[list[Path]] = [[] for _ in range(ranks)]
    torch.distributed.all_gather_object(found, changed_files(directory, torch.distributed.get_rank(), ranks))
    if changed := sorted(path for paths in found for path in paths):
        raise UserError(CHANGED, where=", ".join(map(str, changed)), fix=REBUILD)


def plan_micro_batches(
    stream: SampleStream | FixedStream, indices: np.ndarray, config: Train, rank: int, ranks: int
) -> list[MicroBatchPlan]:
    """Divide the samples of data-parallel rank `rank` of `ranks`, out of `indices`, into micro-batches.

    A micro-batch has at most `micro_batch` x `sampling.max_tokens` tokens, padding included, and samples of similar
    length.
    """
    lengths = stream.lengths_of(indices)
    mine = plan.share(lengths, rank, ranks)
    indices, lengths = indices[mine], lengths[mine].astype(np.int64)
    # packed slots are cut by context parallelism one by one; otherwise only the whole row has to be divisible
    multiple = slot_multiple(config.parallel) if config.packed else length_multiple(config.parallel, config.fp8)
    slots = _round_up(lengths, multiple)
    budget = config.micro_batch * config.sampling.max_tokens
    parts = plan.packs(slots, budget) if config.packed else micro_batches(slots, budget)
    return [MicroBatchPlan(indices[part], lengths[part], slots[part]) for part in parts]


def make_micro_batch(stream: SampleStream | FixedStream, samples: MicroBatchPlan, config: Train) -> MicroBatch:
    """Read, crop and mask the samples of a micro-batch."""
    made = stream.batch(samples.indices, width=int(samples.slots.max()))
    tokens, labels = made.tokens.astype(np.int64), made.labels.astype(np.int64)
    columns = np.arange(tokens.shape[1])
    bounds = None
    if config.packed:
        in_slot = columns < samples.slots[:, None]
        bounds = np.concatenate([[0], np.cumsum(samples.slots)])
        rest = -int(bounds[-1]) % length_multiple(config.parallel, config.fp8)
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


class Step(NamedTuple):
    """One step's work of this rank."""

    next_sample: int
    """Index of the next step's first sample: the state of the loader."""
    micro_batches: list[MicroBatch]


def training_steps(
    stream: SampleStream, config: Train, first: int, count: int, rank: int, ranks: int
) -> Iterator[Step]:
    """Yield `count` steps from sample `first` on, prepared on a background thread."""

    def make_step(samples: np.ndarray) -> Step:
        plans = plan_micro_batches(stream, samples, config, rank, ranks)
        return Step(int(samples[-1]) + 1, [make_micro_batch(stream, each, config) for each in plans])

    return prefetch(make_step, itertools.islice(plan.steps(stream.lengths_of, config, first), count))


def _round_up(lengths: np.ndarray, multiple: int) -> np.ndarray:
    return -(-lengths // multiple) * multiple
