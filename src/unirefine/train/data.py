"""This process's micro-batches, as the tensors that `Esm2.forward` takes."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from unirefine.config import Train
from unirefine.core.alphabet import CLS, EOS, PAD
from unirefine.dataset.held_out import changed_validation
from unirefine.dataset.manifest import REBUILD
from unirefine.dataset.verify import CHANGED, changed_files
from unirefine.errors import UserError
from unirefine.model.batch import IGNORE
from unirefine.model.batching import micro_batches
from unirefine.model.settings import length_multiple, slot_multiple
from unirefine.sampling import FixedStream, SampleStream, Windows, prefetch
from unirefine.train import plan

GPU_ROW = 64
"""Padded rows on a GPU have a multiple of this many tokens."""


@dataclass(frozen=True)
class MicroBatch:
    """Input of one forward pass, on the CPU."""

    indices: np.ndarray
    """Global indices of its samples: int64[b]."""
    lengths: np.ndarray
    """Tokens of each sample without padding: int64[b]."""
    tokens: torch.Tensor
    """uint8[b, s], or packed uint8[1, t]; the device widens them."""
    labels: torch.Tensor
    """int8, shape of `tokens`; -100 where there is no loss."""
    cu_seqlens: torch.Tensor | None
    """Bounds of the slots, int32[slots + 1]; None when not packed."""

    def pinned(self) -> "MicroBatch":
        """The same in memory from which the GPU copies without waiting."""
        tensors = {name: getattr(self, name) for name in ("tokens", "labels", "cu_seqlens")}
        return replace(self, **{name: each.pin_memory() for name, each in tensors.items() if each is not None})


class MicroBatchPlan(NamedTuple):
    """Samples from which `make_micro_batch` makes a micro-batch."""

    indices: np.ndarray
    """int64[b]"""
    lengths: np.ndarray
    """int64[b]: tokens without padding."""
    slots: np.ndarray
    """int64[b]: tokens with the padding that the layout needs."""
    windows: Windows
    """Which tokens each sample has."""
    rows: int
    """Rows of the micro-batch: those beyond the samples hold `<cls>` and `<eos>` alone. 1 when packed."""


def check_shards(directory: Path) -> None:
    """Hash the files of the shards, divided among the processes. Raises UserError on all of them when one differs."""
    _refuse(changed_files(directory, torch.distributed.get_rank(), torch.distributed.get_world_size()))


def check_validation(directory: Path) -> None:
    """As `check_shards`, of the validation side alone."""
    _refuse(changed_validation(directory, torch.distributed.get_rank(), torch.distributed.get_world_size()))


def _refuse(mine: list[Path]) -> None:
    """Raise UserError on all processes when one of them has a file that has changed. mine: those of this one."""
    found: list[list[Path]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(found, mine)
    if changed := sorted(path for paths in found for path in paths):
        raise UserError(CHANGED, where=", ".join(map(str, changed)), fix=REBUILD)


def plan_micro_batches(
    stream: SampleStream | FixedStream, indices: np.ndarray, config: Train, rank: int, ranks: int, *, gpu: bool = False
) -> list[MicroBatchPlan]:
    """Divide the samples of data-parallel rank `rank` of `ranks`, out of `indices`, into micro-batches.

    A micro-batch has at most `micro_batch` x `sampling.max_tokens` tokens, padding included, and samples of similar
    length. gpu: padded rows have a multiple of GPU_ROW tokens, and their number follows from it, so that there are few
    shapes: cuDNN plans its kernels anew for each.
    """
    windows = stream.windows(indices)
    mine = plan.share(windows.length, rank, ranks)
    indices, windows = indices[mine], _part(windows, mine)
    # packed slots are cut by context parallelism one by one; otherwise only the whole row has to be divisible
    multiple = slot_multiple(config.parallel) if config.packed else length_multiple(config.parallel, config.fp8)
    fixed = gpu and not config.packed
    slots = _round_up(windows.length, math.lcm(multiple, GPU_ROW) if fixed else multiple)
    budget = config.micro_batch * config.sampling.max_tokens
    parts = plan.packs(slots, budget) if config.packed else micro_batches(slots, budget)
    made = []
    for part in parts:
        rows = 1 if config.packed else part.stop - part.start
        if fixed:
            rows = max(1, budget // int(slots[part].max()))
        made.append(MicroBatchPlan(indices[part], windows.length[part], slots[part], _part(windows, part), rows))
    return made


def make_micro_batch(stream: SampleStream | FixedStream, samples: MicroBatchPlan, config: Train) -> MicroBatch:
    """Read, crop and mask the samples of a micro-batch."""
    bounds = None
    if config.packed:
        bounds = np.concatenate([[0], np.cumsum(samples.slots)])
        offsets, width = bounds[:-1], int(bounds[-1])
        rest = -width % length_multiple(config.parallel, config.fp8)
        if rest:
            bounds, width = np.append(bounds, width + rest), width + rest
    else:
        width = int(samples.slots.max())
        offsets = np.arange(len(samples.slots)) * width
    tokens, labels = np.full((samples.rows, width), PAD, np.uint8), np.full((samples.rows, width), IGNORE, np.int8)
    stream.fill(samples.windows, offsets, tokens.reshape(-1), labels.reshape(-1))
    if not config.packed:  # a row without any token would have nothing to attend to
        tokens[len(samples.slots) :, :2] = CLS, EOS
    return MicroBatch(
        indices=samples.indices,
        lengths=samples.lengths,
        tokens=torch.from_numpy(tokens),
        labels=torch.from_numpy(labels),
        cu_seqlens=None if bounds is None else torch.from_numpy(bounds.astype(np.int32)),
    )


def _part(windows: Windows, part: np.ndarray | slice) -> Windows:
    return Windows(*(values[part] for values in windows))


class Step(NamedTuple):
    """One step's work of this rank."""

    next_sample: int
    """Index of the next step's first sample: the state of the loader."""
    micro_batches: list[MicroBatch]


def training_steps(
    stream: SampleStream, config: Train, first: int, count: int, rank: int, ranks: int, *, gpu: bool = False
) -> Iterator[Step]:
    """Yield `count` steps from sample `first` on, prepared on a background thread. gpu: for a GPU, in pinned memory."""

    def make_step(samples: np.ndarray) -> Step:
        plans = plan_micro_batches(stream, samples, config, rank, ranks, gpu=gpu)
        made = [make_micro_batch(stream, each, config) for each in plans]
        return Step(int(samples[-1]) + 1, [each.pinned() for each in made] if gpu else made)

    return prefetch(make_step, itertools.islice(plan.steps(stream.lengths_of, config, first), count))


def _round_up(lengths: np.ndarray, multiple: int) -> np.ndarray:
    return -(-lengths // multiple) * multiple
