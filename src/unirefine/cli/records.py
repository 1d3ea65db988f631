"""`unirefine records`: UniRef FASTA or XML, or your own FASTA, to Parquet records."""

import argparse
import os
from pathlib import Path

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.core.levels import LEVELS, SIDES


def parser() -> argparse.ArgumentParser:
    """Command line of the records stage."""
    made = stage_parser(
        "records",
        "Turn one level of a release into Parquet records: UniRef FASTA or XML, or your own FASTA (level uniref90),"
        " plain or compressed (gzip, bzip2, xz, zstd), or a data set that states clusters and sides."
        " XML also gives the membership and the representatives' own taxa; every sequence is checked"
        " against its length and CRC64.",
        "unirefine records --config config/demo.yaml --level uniref50 --input results/demo/release/uniref50.xml.gz \\\n"
        "    --release-note results/demo/release/uniref50.release_note --output results/demo/records --threads 2",
    )
    add_config(made, "records")
    made.add_argument("--level", required=True, choices=LEVELS, help="level of the input")
    made.add_argument(
        "--input", required=True, type=Path, metavar="PATH",
        help="FASTA or UniRef XML, plain or compressed; or the directory of a data set: train/ and validation/ with"
        " Parquet, or BioNeMo 2's files",
    )  # fmt: skip
    for side in SIDES[1:]:
        made.add_argument(
            f"--{side}", type=Path, metavar="FILE", help=f"your own FASTA of {side}; --input is that of train then"
        )
    made.add_argument(
        "--sides",
        type=Path,
        metavar="FILE",
        help="table of sides of your own FASTA: id, tab, train|validation|test",
    )
    made.add_argument("--release-note", type=Path, metavar="FILE", help="states the number of entries to expect")
    made.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="where to write; the level is a subdirectory"
    )
    made.add_argument(
        "--threads", type=at_least_one, default=min(4, os.cpu_count() or 1), metavar="N", help="default: %(default)s"
    )
    made.set_defaults(run=with_lock(run, lambda arguments: arguments.output / arguments.level / ".lock"))
    return made


def run(arguments: argparse.Namespace) -> None:
    """Run the stage and print its counts."""
    from unirefine.config import Records
    from unirefine.progress import human
    from unirefine.records.run import run as build

    config = config_of(arguments, Records, "records")
    built = build(
        config,
        arguments.level,
        arguments.input,
        arguments.output,
        release_note=arguments.release_note,
        held_out={side: path for side, name in enumerate(SIDES) if (path := getattr(arguments, name, None))},
        sides=arguments.sides,
        threads=arguments.threads,
    )
    counts, facts = built.counts, built.facts
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["removed"].items()) or "nothing"
    note = ", as the release note states" if facts["release_note_entries"] is not None else ""
    of = "your own FASTA" if built.own else arguments.level
    members = f", {facts['members']:,} members" if facts["members"] else ""
    if sides := facts.get("sides"):
        print(", ".join(f"{name}: {side['records']:,}" for name, side in sides.items()))
    print(
        f"{of}: {counts['kept']:,} of {counts['in']:,} entries kept{note}; removed: {reasons};"
        f" {facts['residues']:,} residues{members} in {config.parts} parts; {facts['format']} of"
        f" {human(facts['bytes'], 'B')}"
    )
