"""Validation during training: the same sequences, windows and masks every time, at any layout."""

import math
from collections.abc import Mapping
from pathlib import Path

from unirefine.megatron import platform

import numpy as np
import torch
from megatron.core.distributed import DistributedDataParallel

from unirefine.config import Train
from unirefine.dataset import Side
from unirefine.errors import UserError
from unirefine.files.stages import shards_of
from unirefine.sampling import FixedStream, prefetch
from unirefine.train import engine
from unirefine.train.data import MicroBatch, MicroBatchPlan, check_validation, make_micro_batch, plan_micro_batches

GROUP = 16
"""Micro-batches in one run of the pipeline schedule."""


def check_sets(config: Train) -> None:
    """Hash the validation shards of `train.validation`, divided among the processes. Collective."""
    for given in config.validation.values():
        check_validation(shards_of(Path(given)))


class ValidationSets:
    """The run's own validation shard, and the further ones of `train.validation`."""

    def __init__(self, own: Side, others: Mapping[str, Side], config: Train, rank: int, ranks: int) -> None:
        self.own = Validation(own, config, rank, ranks)
        self.others = {name: Validation(side, config, rank, ranks) for name, side in others.items()}

    def run(self, model: DistributedDataParallel) -> dict[str, float]:
        """As `Validation.run`; numbers of a further set have its name behind a slash: `validation_loss/general`."""
        found = self.own.run(model)
        for name, one in self.others.items():
            found |= {f"{key}/{name}": value for key, value in one.run(model).items()}
        return found


class Validation:
    """This rank's share of the first `validate_sequences` of a validation shard."""

    def __init__(self, side: Side, config: Train, rank: int, ranks: int) -> None:
        count = min(config.validate_sequences or side.sequences, side.sequences)
        if count < ranks:
            raise UserError(
                f"{count} validation sequences for {ranks} data-parallel processes",
                where=side.prefixes[0],
                fix="use fewer of them",
            )
        self.config = config
        self.stream = FixedStream(side, config.sampling, config.sampling.seed)
        self.plans: list[MicroBatchPlan] = plan_micro_batches(
            self.stream, np.arange(count), config, rank, ranks, gpu=platform.on_gpu()
        )

    @torch.no_grad()
    def run(self, model: DistributedDataParallel) -> dict[str, float]:
        """Return `validation_loss`, nats per chosen position, `validation_hidden_loss`, nats per hidden one, and both
        as perplexities. What is hidden (`<mask>`) is left out where nothing is. Collective.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        batches = prefetch(self._make, self.plans)
        model.eval()
        with engine.parameters_synced(model):
            for start in range(0, len(self.plans), GROUP):
                group = [next(batches) for _ in self.plans[start : start + GROUP]]
                sums += engine.forward_backward(model, group, train=False).sum(0).cpu()
        model.train()
        loss, chosen, hidden_loss, hidden = engine.add_up(sums if engine.holds_loss() else torch.zeros(4))
        means = {"validation": loss / max(chosen, 1)}
        if hidden:
            means["validation_hidden"] = hidden_loss / hidden
        losses = {f"{name}_loss": mean for name, mean in means.items()}
        return losses | {f"{name}_perplexity": math.exp(min(mean, 100.0)) for name, mean in means.items()}

    def _make(self, samples: MicroBatchPlan) -> MicroBatch:
        made = make_micro_batch(self.stream, samples, self.config)
        return made.pinned() if platform.on_gpu() else made
