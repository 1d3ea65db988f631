"""`unirefine compare`: what differs between two runs."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser, with_lock


def parser() -> argparse.ArgumentParser:
    """Command line of `unirefine compare`."""
    made = stage_parser(
        "compare",
        "What differs between two runs, of one release or of two: ids that are gone, new or in another cluster, sides "
        "that changed and why, validation that both have. Needs the cluster stage of both; sides once they are split. "
        "Members are read in slices, so memory does not grow with their number.",
        "unirefine compare results/demo results/demo-long",
    )
    made.add_argument("first", type=Path, metavar="A", help="results of a run, as in results/demo")
    made.add_argument("second", type=Path, metavar="B", help="results of another run")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    made.add_argument(
        "--output", type=Path, metavar="DIR", help="also write every id that differs: clusters.parquet, members.parquet"
    )
    made.set_defaults(run=with_lock(_run, lambda arguments: arguments.output and arguments.output / ".lock"))
    return made


def _run(arguments: argparse.Namespace) -> None:
    import json

    from unirefine.compare.run import run
    from unirefine.compare.text import lines
    from unirefine.workflow.runs import require_run

    require_run(arguments.first)
    require_run(arguments.second)

    result = run(arguments.first, arguments.second, arguments.output)
    print(json.dumps(result, indent=1, ensure_ascii=False) if arguments.json else "\n".join(lines(result)))
