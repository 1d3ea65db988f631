"""`unirefine convert`: Hugging Face ESM-2 to a Megatron distributed checkpoint, or back."""

import argparse

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    result = stage_parser(
        "convert",
        "Convert ESM-2 weights, bit for bit, to the other layout: a Hugging Face directory or hub id becomes a\n"
        "Megatron distributed checkpoint, which loads at any TP and PP; a checkpoint (of any TP and PP) becomes a\n"
        "Hugging Face directory. final/ of a training stands for its Hugging Face directory. A pickle (fair-esm's\n"
        ".pt, a pytorch_model.bin) becomes a Hugging Face directory with safetensors, and nothing in it is run.\n"
        "Runs in one process, with memory for one copy.",
        "unirefine convert --from results/demo/train/final/megatron --to esm2-demo",
    )
    result.add_argument(
        "--from", required=True, dest="source", metavar="SOURCE",
        help="training, final/, checkpoint, Hugging Face directory, hub id like facebook/esm2_t6_8M_UR50D, or .pt file",
    )  # fmt: skip
    result.add_argument("--to", required=True, dest="target", metavar="DIR", help="directory to write; must not exist")
    result.set_defaults(run=run)
    return result


def run(arguments: argparse.Namespace) -> None:
    """Convert, and print one line about what was written."""
    from unirefine.convert.run import run as convert

    print(convert(arguments.source, arguments.target))
