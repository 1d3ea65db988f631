"""`unirefine crate`: a run as an RO-Crate, a Parquet export as Croissant."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine crate`."""
    made = stage_parser(
        "crate",
        "Pack a finished run as an RO-Crate of the Workflow Run Crate profile: the workflow, options, input URLs with"
        " md5, versions, the small results, and hashes of shards and weights, which are too large to be packed."
        " Or describe a Parquet export as Croissant 1.1, with a record set for each split.",
        "unirefine crate --results results/demo --output demo.crate.zip\n"
        "  unirefine crate --export DIR --output DIR/croissant.json",
    )
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--results", type=Path, metavar="DIR", help="results of a run, as in results/demo")
    source.add_argument("--export", type=Path, metavar="DIR", help="what `unirefine export --to parquet` wrote")
    made.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the zip, or the JSON in the directory of the export"
    )
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    if arguments.export is not None:
        from unirefine.crate import croissant

        described = croissant.run(arguments.export, arguments.output)
        print(f"wrote {arguments.output}: {described['files']} files, {described['record_sets']} record sets")
        return
    from unirefine.crate import run as stage
    from unirefine.workflow.runs import require_run

    require_run(arguments.results)
    done = stage.run(arguments.results, arguments.output)
    print(f"wrote {arguments.output}: {done['packed']} files packed, {done['named']} named by hash")
