"""Run the stage: train in this process, or start the processes that train."""

import os
import sys
from pathlib import Path

from unirefine.config import Train
from unirefine.dataset import open_shards
from unirefine.train import checkpoints, environment, forecast, launcher, machine, schedule, sets, sizing


def run(config: Train, shards: Path, output: Path) -> None:
    """Train on `shards` into `output`, continuing from the newest complete checkpoint.

    Writes `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `lineage.json` and, at the end, `final/`. A process that has
    a rank (from torchrun, or srun with a task per GPU) trains as one of the job's processes; a process without one
    starts `train.parallel.processes_per_node` of them, or trains alone when the config asks for one process.

    Raises UserError for shards or checkpoints that do not fit, a machine without what the config asks for, a full disk,
    or a loss that is not finite; SystemExit with status `launcher.EXIT_PREEMPTED` after SIGTERM or SIGUSR1, with a
    checkpoint saved.
    """
    if config.epochs is not None:
        data = forecast.data_of(open_shards(shards), config)
        config = sizing.fitted(config, data)
        if os.environ.get("RANK", "0") == "0":
            print(f"train: {sizing.describe(config, data)}", file=sys.stderr, flush=True)
    sets.open_sets(config)  # report what is wrong before any process starts
    with environment.set_for(config):
        _run(config, shards, output)


def _run(config: Train, shards: Path, output: Path) -> None:
    launcher.use_slurm_rank(config.parallel)
    if launcher.has_rank():
        machine.check_ranks(config, os.environ)
        if config.parallel.world > 1:
            launcher.check_address(f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}")
    elif not checkpoints.complete(output / "checkpoints"):
        schedule.check(config.steps, config.optimizer)
    if not launcher.has_rank() and config.parallel.world > 1:
        open_shards(shards)  # report broken shards before any process starts
        with launcher.quiet_torch():
            machine.check_gpus(config.parallel.processes_per_node, machine.gpus())
        launcher.launch(config, shards, output)
        return
    from unirefine.megatron import platform  # imports Megatron, which the launcher does not need

    from unirefine.train.loop import train

    if launcher.has_rank():
        train(config, shards, output)  # the process group stays up, for the caller to end
        return
    with launcher.single_rank():
        train(config, shards, output)
        platform.shutdown()
