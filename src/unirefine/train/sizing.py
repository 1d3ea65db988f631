"""A training sized to its data: `train.epochs` becomes steps, batch, learning rate and intervals.

The numbers are rules of thumb around the published recipe; docs/continue.md has what was measured.
"""

import math
from pathlib import Path
from typing import Any

from unirefine.config import Train
from unirefine.dataset import open_shards
from unirefine.errors import UserError
from unirefine.train.forecast import Data, data_of, rounded

FROM_SCRATCH = {"epochs": 50, "samples": 10_000_000, "lr": 4e-4}
FROM_MODEL = {"epochs": 20, "samples": 1_000_000, "lr": 1e-4}
"""With `train.init`: fewer and smaller steps, which keep more of what the model knows."""
STEPS = 1000
"""The batch is as large as leaves this many steps,"""
BATCHES = 8, 2048
"""within these bounds."""


def sized(config: Train, shards: Path | None) -> Train:
    """`config` with numbers in place of `epochs`; a config without `epochs` as it is.

    Raises UserError when there are no shards to size it to.
    """
    if config.epochs is None:
        return config
    if shards is None:
        raise UserError("train.epochs sizes the training to the data", fix="give --shards, or set train.steps")
    return fitted(config, data_of(open_shards(shards), config))


def fitted(config: Train, data: Data) -> Train:
    """`config`, whose `epochs` are set, with numbers for `data`."""
    rule = FROM_SCRATCH if config.init is None else FROM_MODEL
    if config.epochs == "auto":
        samples = min(rule["epochs"] * data.clusters, max(rule["samples"], data.clusters))
    else:
        samples = float(config.epochs) * data.clusters  # type: ignore[arg-type]
    batch = config.global_batch or (None if config.global_tokens else _batch(samples, config))
    steps = math.ceil(samples / (batch or config.global_tokens / data.mean_length))
    interval = max(1, steps // 10)
    optimizer: dict[str, Any] = config.optimizer.model_dump()
    chosen = {
        "epochs": None,
        "steps": steps,
        "global_batch": batch,
        "validate_every": config.validate_every or interval,
        "checkpoint_every": config.checkpoint_every or interval,
        "optimizer": optimizer
        | {
            "lr": optimizer["lr"] or rule["lr"],
            "warmup_steps": min(2000, interval) if optimizer["warmup_steps"] is None else optimizer["warmup_steps"],
        },
    }
    return Train.model_validate(config.model_dump() | chosen)


def _batch(samples: float, config: Train) -> int:
    """Sequences of a step: a power of two, raised to a multiple of what the layout needs."""
    least, most = BATCHES
    wanted = 2 ** int(math.log2(min(max(samples / STEPS, least), most)))
    unit = config.micro_batch * config.parallel.data
    return -(-wanted // unit) * unit


def describe(config: Train, data: Data) -> str:
    """What `fitted` has chosen, in words."""
    passes = config.steps * (config.global_batch or config.step_tokens / data.mean_length) / data.clusters
    return (
        f"sized to {data.clusters:,} train clusters: {rounded(passes)} epochs are {config.steps:,} steps of "
        f"{config.step_size}; learning rate {config.optimizer.lr:g} after {config.optimizer.warmup_steps:,} steps of "
        f"warm-up; validation every {config.validate_every:,} steps"
    )
