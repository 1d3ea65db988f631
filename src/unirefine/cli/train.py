"""`unirefine train`: train ESM-2; launches the processes of the job, or is one of them."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, config_of, named_paths, stage_parser
from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.faults import as_user_error


def parser() -> argparse.ArgumentParser:
    """Command-line interface of the stage."""
    parser = stage_parser(
        "train",
        "Train ESM-2 on Megatron-core. Starts train.parallel.processes_per_node processes on this node, or on every "
        "node when it is the script of a Slurm job, unless torchrun or srun has started them. Started again, it "
        "continues from the newest complete checkpoint. Exit status 75: SIGTERM or SIGUSR1 stopped it after it had "
        "saved a checkpoint; start it again.",
        "unirefine train --config config/demo.yaml --shards results/demo/shard --output results/demo/train",
    )
    add_config(parser, "train")
    parser.add_argument("--shards", type=Path, metavar="DIR", help="what `unirefine shard build` wrote")
    parser.add_argument("--output", type=Path, metavar="DIR", help="checkpoints/, metrics.jsonl, tensorboard/, final/")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print parameters, FLOPs, memory, what it fits, steps, tokens, epochs and warnings; train nothing",
    )
    parser.set_defaults(run=train)
    return parser


def train(arguments: argparse.Namespace) -> None:
    """Print what the config costs, or train."""
    config = config_of(arguments, Train, "train")
    if arguments.dry_run:
        from unirefine.train import schedule
        from unirefine.train.dryrun import dry_run
        from unirefine.train.sizing import sized

        config = sized(config, arguments.shards)
        print(dry_run(config, arguments.shards), flush=True)
        schedule.check(config.steps, config.optimizer)
        return
    if arguments.shards is None or arguments.output is None:
        raise UserError("--shards and --output are needed", fix="or give --dry-run to see what the config costs")
    from unirefine.train import launcher
    from unirefine.train.run import run

    launcher.exec_srun(config, arguments.shards, arguments.output)
    try:
        run(config, arguments.shards, arguments.output)
        if launcher.has_rank():  # one of the job's processes, whose process group run() leaves up
            from unirefine.megatron.platform import shutdown

            shutdown()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what torch raises for a checkpoint is no Exception
        fault = as_user_error(error, named_paths(arguments))
        if fault is not None and launcher.report_failure(fault.line()):
            raise SystemExit(1) from None
        raise
