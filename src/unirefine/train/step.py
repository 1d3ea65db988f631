"""One update: forward and backward, sums over all processes, clipping, Adam."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import unirefine.megatron  # noqa: F401 - before Megatron

import torch
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import MegatronOptimizer

from unirefine.errors import UserError
from unirefine.train import checkpoints, engine
from unirefine.train.data import MicroBatch
from unirefine.train.measure import Interval

SHOWN = 20
"""Sample indices in an error message, at most."""


@dataclass(frozen=True)
class StepResult:
    """Result of one step, the same on every process."""

    sums: Interval
    """Sums over all processes; `seconds` is 0."""
    grad_norm: float
    """Before clipping. NaN when fp16 loss scaling skipped the update."""
    stop: bool
    """Whether some process was asked to stop."""


def train_step(
    model: DistributedDataParallel,
    optimizer: MegatronOptimizer,
    batches: Sequence[MicroBatch],
    *,
    step: int,
    waited: float,
    stop: bool,
    directory: Path,
) -> StepResult:
    """Update the model with this rank's micro-batches of step `step` (0-based). Collective.

    waited: seconds for which this process waited for the micro-batches. stop: whether it was asked to stop. directory:
    the directory of checkpoints, for the message. Raises UserError when the loss (before the update) or the gradient
    norm (after it) is not finite.
    """
    model.zero_grad_buffer()
    optimizer.zero_grad()
    reported = engine.forward_backward(model, batches, train=True)
    sums, stopping = _sums(batches, reported, waited, stop)
    if not math.isfinite(sums.loss):
        raise _not_finite("loss", step, batches, reported, directory)
    updated, norm, _ = optimizer.step()
    grad_norm = float(norm) if updated else math.nan
    if updated and not math.isfinite(grad_norm):
        raise _not_finite("gradient norm", step, batches, reported, directory)
    return StepResult(sums=sums, grad_norm=grad_norm, stop=stopping)


def _sums(batches: Sequence[MicroBatch], reported: torch.Tensor, waited: float, stop: bool) -> tuple[Interval, bool]:
    loss, chosen = reported.sum(0).tolist() if engine.holds_loss() else (0.0, 0.0)
    tokens = padded = squared = 0
    if engine.holds_samples():
        for batch in batches:
            tokens += int(batch.lengths.sum())
            padded += batch.tokens.numel()
            squared += int((batch.lengths**2).sum())
    *values, waited, stops = engine.add_up([loss, chosen, tokens, padded, squared, waited, stop])
    return Interval(*values, data_wait=waited / torch.distributed.get_world_size()), stops > 0


def _not_finite(
    what: str, step: int, batches: Sequence[MicroBatch], reported: torch.Tensor, directory: Path
) -> UserError:
    """The error to raise: it names the step, the samples of the micro-batches at fault, and the last checkpoint."""
    broken = [
        batch.indices for batch, sums in zip(batches, reported.tolist(), strict=False) if not math.isfinite(sums[0])
    ]
    gathered: list[list[int]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, [int(index) for indices in broken for index in indices])
    samples = sorted({index for indices in gathered for index in indices})
    shown = ", ".join(map(str, samples[:SHOWN])) + (f" and {len(samples) - SHOWN} more" if samples[SHOWN:] else "")
    kept = checkpoints.complete(directory)
    return UserError(
        f"{what} is not finite at step {step + 1}" + (f" in a micro-batch with samples {shown}" if samples else ""),
        fix=f"last good checkpoint: {kept[-1] if kept else 'none'}; lower train.optimizer.lr or change train.precision",
    )
