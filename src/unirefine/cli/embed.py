"""`unirefine embed`: per-sequence and per-residue vectors of proteins."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, config_of, stage_parser, with_lock
from unirefine.config import Embed


def parser() -> argparse.ArgumentParser:
    """The command line of `unirefine embed`."""
    made = stage_parser(
        "embed",
        "Embed proteins with an ESM-2: means over residues (without special tokens) and per-residue vectors, in input "
        "order. Writes OUTPUT/sequences.parquet and OUTPUT/residues.parquet. Started again, it continues "
        "where it stopped.",
        "unirefine embed --model results/demo/train/final --fasta proteins.fasta.gz --output embeddings",
    )
    add_config(made, "embed")
    made.add_argument(
        "--model", type=Path, required=True, metavar="MODEL",
        help="a training run, its final/, a checkpoint, a Hugging Face ESM-2 directory, or a hub id",
    )  # fmt: skip
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--fasta", type=Path, metavar="FILE", help="FASTA, plain or gzipped")
    source.add_argument("--parquet", type=Path, metavar="FILE", help="Parquet with columns id and sequence")
    source.add_argument("--shards", type=Path, metavar="DIR", help="the first embed.sequences of the validation shard")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the Parquet files go")
    made.add_argument(
        "--layers", type=int, nargs="+", metavar="N",
        help="several layers in one pass (0: embeddings, -1: the last); writes OUTPUT/extract.parquet instead",
    )  # fmt: skip
    made.add_argument(
        "--include", nargs="+", choices=("mean", "cls", "residues", "logits", "probabilities", "contacts"),
        metavar="WHAT",
        help="what extract.parquet has: mean, cls, residues (of each layer), logits, probabilities, contacts "
        "(default: mean)",
    )  # fmt: skip
    made.set_defaults(run=with_lock(embed))
    return made


def embed(arguments: argparse.Namespace) -> None:
    """Run the stage and print a summary."""
    config = config_of(arguments, Embed, "embed")
    from unirefine.megatron import platform

    from unirefine.embed.run import run, summary
    from unirefine.embed.source import from_fasta, from_parquet, from_shards

    if arguments.fasta is not None:
        source = from_fasta(arguments.fasta, allow_nucleotides=config.allow_nucleotides)
    elif arguments.parquet is not None:
        source = from_parquet(arguments.parquet, allow_nucleotides=config.allow_nucleotides)
    else:
        source = from_shards(arguments.shards, config.sequences)
    try:
        if arguments.layers or arguments.include:
            from unirefine.embed.extract import run as extract

            layers, include = arguments.layers or [config.layer], arguments.include or ["mean"]
            print(f"wrote {extract(source, arguments.model, arguments.output, config, layers=layers, include=include)}")
            return
        result = run(source, arguments.model, arguments.output, config)
        if platform.rank() == 0:
            print(summary(result))
            print(f"wrote {', '.join(result.files)}")
    finally:
        platform.shutdown()
