"""`unirefine crate`: a run as an RO-Crate."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine crate`."""
    made = stage_parser(
        "crate",
        "Pack a finished run as an RO-Crate of the Workflow Run Crate profile: the workflow, options, input URLs with"
        " md5, versions, the small results, and hashes of shards and weights, which are too large to be packed.",
        "unirefine crate --results results/demo --output demo.crate.zip",
    )
    made.add_argument("--results", type=Path, required=True, metavar="DIR", help="results of a run, as in results/demo")
    made.add_argument("--output", type=Path, required=True, metavar="FILE", help="the zip to write")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.crate import run as stage

    done = stage.run(arguments.results, arguments.output)
    print(f"wrote {arguments.output}: {done['packed']} files packed, {done['named']} named by hash")
