"""`unirefine trace`: follow one id from the release to its shard."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine trace`."""
    trace = stage_parser(
        "trace",
        "Follow one id through a run: which stages kept it, which one removed it and why, its cluster, its side of the"
        " split, its shard.",
        "unirefine trace UniRef90_P12345 --results results/demo",
    )
    trace.add_argument("id", metavar="ID", help="UniRef90_X, UniRef50_X, a bare accession, or an id of your own FASTA")
    trace.add_argument("--results", type=Path, required=True, metavar="DIR", help="directory of the run")
    trace.set_defaults(run=_run)
    return trace


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.dataset.reader import IndexedFiles
    from unirefine.trace.follow import follow
    from unirefine.workflow.runs import require_run

    require_run(arguments.results)

    for step in follow(arguments.results, arguments.id, lambda prefix, row: IndexedFiles([prefix]).offset(row)):
        print(f"{step.stage:<14} {step.text}")
