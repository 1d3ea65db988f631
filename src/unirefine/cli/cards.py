"""`unirefine cards`: a data card beside the shards and a model card beside the model."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine cards`."""
    made = stage_parser(
        "cards",
        "Write shard/README.md (data card), train/model-card.md and its copy train/final/huggingface/README.md:"
        " Markdown with the YAML header that the Hugging Face Hub reads, from the lineage and the evaluation of a"
        " finished run.",
        "unirefine cards --results results/demo",
    )
    made.add_argument("--results", type=Path, required=True, metavar="DIR", help="results of a run, as in results/demo")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.cards import run as stage

    print("\n".join(f"wrote {path}" for path in stage.run(arguments.results)))
