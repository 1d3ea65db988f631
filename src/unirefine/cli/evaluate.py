"""unirefine evaluate: masked perplexity, ours and Hugging Face's, beside baselines."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, config_of, stage_parser
from unirefine.config import Evaluate


def parser() -> argparse.ArgumentParser:
    """The command line of `unirefine evaluate`."""
    made = stage_parser(
        "evaluate",
        "Masked perplexity over the validation shard with a fixed mask: the checkpoint on Megatron-core, the same "
        "through transformers' EsmForMaskedLM (both must agree), and unigram and bigram baselines. "
        "Writes OUTPUT/perplexity.json.",
        "unirefine evaluate --shards results/demo/shard --model results/demo/train/final --output evaluate",
    )
    add_config(made, "evaluate")
    made.add_argument("--shards", type=Path, required=True, metavar="DIR", help="directory of the shard stage")
    made.add_argument(
        "--model", type=Path, required=True, nargs="+", metavar="DIR",
        help="final/ of a training run, or a Hugging Face ESM-2 directory; several make one table",
    )  # fmt: skip
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where perplexity.json goes")
    made.add_argument("--clusters", type=Path, metavar="DIR", help="directory of the cluster stage: breakdown by size")
    made.add_argument(
        "--decontaminated", type=Path, metavar="DIR",
        help="directory of the decontaminate stage: breakdown by nearest-train identity (needs --clusters)",
    )  # fmt: skip
    made.set_defaults(run=run)
    return made


def run(arguments: argparse.Namespace) -> None:
    """Run the stage and print its table."""
    config = config_of(arguments, Evaluate, "evaluate")
    from unirefine.evaluate.render import lines
    from unirefine.evaluate.run import evaluate
    from unirefine.train import platform

    try:
        result = evaluate(
            arguments.shards,
            arguments.model,
            arguments.output,
            config,
            clusters=arguments.clusters,
            decontaminated=arguments.decontaminated,
        )
        if platform.rank() == 0:
            print("\n".join(lines(result)))
            print(f"wrote {arguments.output / 'perplexity.json'}")
    finally:
        platform.shutdown()
