"""`unirefine verify`: whether shards, a model or the files of a stage are still as they were written."""

import argparse
from pathlib import Path

from unirefine.cli.common import at_least_one, stage_parser


def parser() -> argparse.ArgumentParser:
    """Command line of `unirefine verify`."""
    made = stage_parser(
        "verify",
        "Compare files with what was recorded when they were written: shards with the hashes and counts of their "
        "manifest; checkpoints, final/ and exported models with their hashes, and config, vocabulary and tensors with "
        "each other; Parquet files of any stage with their page checksums. Nothing in a model is run.",
        "unirefine verify results/demo/shard\n  unirefine verify results/demo/train",
    )
    made.add_argument(
        "path", type=Path, metavar="PATH",
        help="shards, a checkpoint, final/, a Hugging Face directory, a training, or the directory of a stage",
    )  # fmt: skip
    made.add_argument(
        "--threads", type=at_least_one, default=2, metavar="N", help="files hashed at a time (default: 2)"
    )
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.verify.run import run

    run(arguments.path, threads=arguments.threads)
