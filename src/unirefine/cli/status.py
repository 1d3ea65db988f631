"""`unirefine status`: what of a run is done, stale, running or missing."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a run: its config, and the Snakefile that plans it."""
    parser.add_argument(
        "--config", type=Path, default=Path("config/demo.yaml"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--snakefile", type=Path, metavar="FILE", help="default: that of the checkout")


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine status`."""
    made = stage_parser(
        "status",
        "One line for each stage of a run: done, stale (and why), running, interrupted or missing, with size and time."
        " It is Snakemake's own dry run; call it from the directory that holds results/.",
        "unirefine status --config config/demo.yaml",
    )
    add_run(made)
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    import sys

    from unirefine.config import load_config
    from unirefine.files.stages import RESULTS
    from unirefine.progress import duration, human
    from unirefine.workflow.snakemake import SNAKEFILE
    from unirefine.workflow.status import inspect

    results = RESULTS / load_config(arguments.config).run.name
    if not results.is_dir():
        print(f"{results} is not there: nothing has run yet, or not from this directory", file=sys.stderr)
    for stage in inspect(arguments.config, arguments.snakefile or SNAKEFILE):
        jobs = f"{stage.jobs - stage.due}/{stage.jobs}"
        taken = duration(stage.seconds) if stage.seconds else ""
        print(
            f"{stage.name:<14} {stage.state:<11} {jobs:>7} jobs  {human(stage.bytes, 'B'):>8}  {taken:>7}"
            f"  {', '.join(stage.why + stage.notes)}".rstrip()
        )
