"""`unirefine runs`: the runs below results/."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine runs`."""
    made = stage_parser(
        "runs",
        "List the runs below results/, the newest first: state, source, last stage that has ended and when, and the"
        " masked perplexity where the residue is hidden. Reads the files alone; `unirefine status` asks what is stale.",
        "unirefine runs --results results",
    )
    made.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="their directory (default: results)"
    )
    made.add_argument("--json", action="store_true", help="print them as JSON")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.workflow import runs

    found = runs.find(arguments.results)
    if arguments.json:
        print(runs.as_json(found))
        return
    if not found:
        print(f"{arguments.results}: no runs")
        return
    rows = [("run", "state", "source", "last stage", "ended", "perplexity")]
    for run in found:
        perplexity = "" if run.perplexity is None else f"{run.perplexity:.2f}"
        rows.append((run.name, run.state, run.source, run.stage, f"{run.changed:%Y-%m-%d %H:%M}", perplexity))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
