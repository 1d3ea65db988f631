"""`unirefine report`: one HTML report of a run."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, config_of, stage_parser, with_lock


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine report`."""
    built = stage_parser(
        "report",
        "One HTML page of a run, with figures: what was removed and why, the split, training, the perplexity table.",
        "unirefine report --results results/demo --output results/demo/report",
    )
    add_config(built, "report")
    built.add_argument(
        "--results", type=Path, required=True, metavar="DIR", help="results of a run, as in results/demo"
    )
    built.add_argument("--output", type=Path, metavar="DIR", help="where to write; default: RESULTS/report")
    built.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="results of a second run: its key numbers and losses beside this one's",
    )
    built.add_argument(
        "--show", action="store_true", help="write nothing; print where the report is and the perplexities"
    )
    built.set_defaults(run=with_lock(_run, _lock))
    return built


def _lock(arguments: argparse.Namespace) -> Path | None:
    from unirefine.workflow.runs import require_run

    require_run(arguments.results)
    return None if arguments.show else (arguments.output or arguments.results / "report") / ".lock"


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.config import Report
    from unirefine.errors import UserError
    from unirefine.report import run as stage

    config = config_of(arguments, Report, "report")
    output = arguments.output or arguments.results / "report"
    if arguments.show:
        path = output / "report.html"
        if not path.exists():
            raise UserError("no report there", where=path, fix="run it without --show first")
    else:
        path = stage.run(arguments.results, output, config, compare=arguments.compare)
    print("\n".join(stage.perplexity_lines(arguments.results)))
    print(f"report: {path}")
    for line in stage.continued_text(arguments.results):
        print(line)
