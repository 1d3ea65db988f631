"""`unirefine train`: train ESM-2, as a launcher of processes or as one of them."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, config_of, stage_parser
from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.faults import as_user_error


def parser() -> argparse.ArgumentParser:
    """Command-line interface of the stage."""
    parser = stage_parser(
        "train",
        "Train ESM-2 on Megatron-core. Starts train.parallel.processes_per_node processes on this node, or on every "
        "node when it is the script of a Slurm job, unless torchrun or srun already did. Started again, it continues "
        "from the newest complete checkpoint. Exit status 75: stopped by SIGTERM or SIGUSR1 after a checkpoint; start "
        "it again.",
        "unirefine train --config config/demo.yaml --shards results/demo/shard --output results/demo/train",
    )
    add_config(parser, "train")
    parser.add_argument("--shards", type=Path, metavar="DIR", help="what `unirefine shard build` wrote")
    parser.add_argument("--output", type=Path, metavar="DIR", help="checkpoints/, metrics.jsonl, tensorboard/, final/")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print parameters, FLOPs, memory, steps, tokens and epochs; train nothing",
    )
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print the costs, or launch, or be one of the launched."""
    from unirefine.dataset import open_shards
    from unirefine.train import launcher

    config = config_of(arguments, Train, "train")
    if arguments.dry_run:
        from unirefine.train.dryrun import dry_run

        print(dry_run(config, arguments.shards))
        return
    if arguments.shards is None or arguments.output is None:
        raise UserError("--shards and --output are needed", fix="or give --dry-run to see what the config costs")
    paths = ["--shards", str(arguments.shards), "--output", str(arguments.output)]
    again = ["--config", config.model_dump_json(), *paths]
    launcher.become_slurm_step(config.parallel, again)
    launcher.adopt_srun(config.parallel)
    if not launcher.is_worker() and config.parallel.world > 1:
        open_shards(arguments.shards)  # refuse broken ones before any process starts
        launcher.launch(config.parallel, again)
        return
    if not launcher.is_worker():
        launcher.alone()
    try:
        from unirefine.megatron.platform import shutdown

        from unirefine.train.run import train

        train(config, arguments.shards, arguments.output)
        shutdown()
    except Exception as error:
        fault = as_user_error(error)
        if fault is not None and launcher.report(fault.line()):
            raise SystemExit(1) from None
        raise
