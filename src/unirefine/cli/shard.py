"""`unirefine shard`: build the token shards, verify them, print a sequence back."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.config import Shard


def parser() -> argparse.ArgumentParser:
    """Command line of `unirefine shard` build, verify and cat."""
    top = stage_parser(
        "shard",
        "Tokenise clusters into Megatron indexed shards; verify them; print a sequence back.",
        "unirefine shard verify results/demo/shard",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    build = command(
        "build",
        "write train, validation (and test) shards, their ids, counts and manifest",
        "unirefine shard build --config config/demo.yaml --records results/demo/records \\\n"
        "    --clusters results/demo/cluster --split results/demo/decontaminate/split.parquet \\\n"
        "    --release results/demo/release/release.json --output results/demo/shard --threads 2",
    )
    add_config(build, "shard")
    build.add_argument("--records", type=Path, required=True, metavar="DIR", help="directory of the records stage")
    build.add_argument("--clusters", type=Path, required=True, metavar="DIR", help="directory of the cluster stage")
    build.add_argument("--split", type=Path, required=True, metavar="FILE", help="split.parquet after decontamination")
    build.add_argument("--release", type=Path, required=True, metavar="FILE", help="release.json")
    build.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the shards go")
    build.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="threads (default: 1)")
    build.set_defaults(run=with_lock(_build))

    held_out = command(
        "held-out",
        "write shards of the validation (and test) sequences of a data set alone, to evaluate models on",
        "unirefine shard held-out --dataset results/model-card/release/dataset --output results/model-card/shards",
    )
    held_out.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="directory with validation/*.parquet"
    )
    held_out.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the shards go")
    held_out.set_defaults(run=with_lock(_held_out))

    verify = command(
        "verify", "hash every file again and check every index", "unirefine shard verify results/demo/shard"
    )
    verify.add_argument("directory", type=Path, metavar="DIR", help="directory of the shards")
    verify.add_argument("--threads", type=at_least_one, default=2, metavar="N", help="threads (default: 2)")
    verify.set_defaults(run=_verify)

    cat = command(
        "cat", "print a sequence back as FASTA", "unirefine shard cat UniRef90_P12345 --shards results/demo/shard"
    )
    cat.add_argument("id", metavar="ID", help="UniRef90 id (or UniRef50 id of a validation representative)")
    cat.add_argument("--shards", type=Path, required=True, metavar="DIR", help="directory of the shards")
    cat.set_defaults(run=_cat)
    return top


def _build(arguments: argparse.Namespace) -> None:
    """Build the shards and print one line for each side."""
    from unirefine.shard.run import run

    config = config_of(arguments, Shard, "shard")
    manifest = run(
        config, records=arguments.records, clusters=arguments.clusters,
        split=arguments.split, release=arguments.release, output=arguments.output, threads=arguments.threads,
    )  # fmt: skip
    for name, side in manifest["sides"].items():
        print(
            f"shard: {name}: {side['documents']:,} clusters, {side['sequences']:,} sequences, "
            f"{side['tokens']:,} residues in {len(side['shards'])} shard(s); longest {side['longest']:,}"
        )


def _held_out(arguments: argparse.Namespace) -> None:
    """Write shards of held-out sequences and print one line for each side."""
    from unirefine.shard.held_out import run

    for name, side in run(arguments.dataset, arguments.output)["sides"].items():
        print(f"shard: {name}: {side['sequences']:,} sequences, {side['tokens']:,} residues")


def _verify(arguments: argparse.Namespace) -> None:
    """Verify the shards and print how much was checked."""
    from unirefine.dataset.verify import verify_shards
    from unirefine.progress import human

    files, size = verify_shards(arguments.directory, threads=arguments.threads)
    print(f"shard: {files} files, {human(size, 'B')}: all match the manifest")


def _cat(arguments: argparse.Namespace) -> None:
    """Print one sequence as FASTA."""
    from unirefine.dataset.lookup import find_sequence

    found = find_sequence(arguments.shards, arguments.id)
    print(found.fasta(), end="")
