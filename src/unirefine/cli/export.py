"""`unirefine export`: the shards of a run in the formats that other trainers read."""

import argparse
from pathlib import Path

from unirefine.cli.common import at_least_one, stage_parser

FORMATS = {
    "parquet": "sequence, ur50_id, ur90_id in train/, validation/, test/, with a card for datasets.load_dataset",
    "bionemo": "BioNeMo 2's train.db, validation.db, train_clusters.parquet, valid_clusters.parquet",
    "fasta": "FASTA files, and which sequence is in which cluster as mmseqs' _cluster.tsv",
    "webdataset": "tar files with a JSON for each sequence",
    "mds": "MosaicML Streaming's shards",
}


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine export`."""
    made = stage_parser(
        "export",
        "Write the sequences of train, validation and test out of the shards of a run, in a format that other programs "
        "read:\n"
        + "\n".join(f"  {name:<12} {text}" for name, text in FORMATS.items())
        + "\nAn export that was interrupted goes on where it was: files that are complete are verified and kept.",
        "unirefine export --shards results/demo/shard --to parquet --output demo-parquet",
    )
    made.add_argument("--shards", type=Path, required=True, metavar="DIR", help="directory of the shards, or of a run")
    made.add_argument("--to", required=True, choices=FORMATS, help="the format")
    made.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="new directory, or one with the same export"
    )
    made.add_argument(
        "--threads", type=at_least_one, default=2, metavar="N", help="files written at a time (default: 2)"
    )
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.export.run import run
    from unirefine.progress import human

    done = run(arguments.shards, arguments.output, arguments.to, threads=arguments.threads)
    for name, side in done.sides.items():
        print(f"export: {name}: {side['documents']:,} clusters, {side['sequences']:,} sequences")
    kept = f", of which {done.kept} were there" if done.kept else ""
    print(f"export: {done.files} files{kept}, {human(done.size, 'B')} in {arguments.output}")
