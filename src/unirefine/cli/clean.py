"""`unirefine clean STAGE`: remove what a stage wrote, after saying what making it again costs."""

import argparse

from unirefine.cli.common import stage_parser
from unirefine.cli.status import add_run


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine clean`."""
    made = stage_parser(
        "clean",
        "Remove what a stage of a run wrote (train: its checkpoints too). Says first how long that stage and those"
        " after it took last time, and asks.",
        "unirefine clean evaluate --config config/demo.yaml",
    )
    made.add_argument("stage", metavar="STAGE", help="release, records, curate, ...")
    add_run(made)
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    import shutil
    import sys

    from unirefine.config import load_config
    from unirefine.core.levels import STAGES
    from unirefine.errors import UserError
    from unirefine.files.stages import RESULTS, runs_sharing
    from unirefine.progress import duration, human
    from unirefine.workflow.directories import shared_directories
    from unirefine.workflow.snakemake import SNAKEFILE
    from unirefine.workflow.status import inspect, is_running, rebuild, size

    if arguments.stage not in STAGES:
        raise UserError(f"{arguments.stage!r} is no stage", fix=f"stages: {', '.join(STAGES)}")
    config = load_config(arguments.config)
    shared = shared_directories(config).get(arguments.stage)
    if shared and not (arguments.stage == "release" and config.release.directory):
        raise UserError(
            f"{arguments.stage} is of another run that this one shares with", where=shared,
            fix="clean it with that run's config",
        )  # fmt: skip
    directory = shared or RESULTS / config.run.name / arguments.stage
    if others := [name for name in runs_sharing(directory) if name != config.run.name]:
        raise UserError(
            f"nothing was removed: it is also used by run {', '.join(others)}", where=directory,
            fix="clean what those runs make from it, or remove their results, or delete it by hand",
        )  # fmt: skip
    stages = inspect(arguments.config, arguments.snakefile or SNAKEFILE)
    again = rebuild(stages, arguments.stage)
    if is_running(RESULTS / config.run.name):
        raise UserError("a workflow is running on these results", where=directory, fix="stop it first")
    if not directory.exists():
        print(f"{directory}: nothing there")
        return
    total = human(size(directory), "B")
    print(f"{directory}: {total} would be removed; making it, and what follows from it, took last time:")
    for stage in again:
        print(f"  {stage.name:<14} {duration(stage.seconds) if stage.seconds else 'never ran'}")
    print(f"  {'in all':<14} {duration(sum(stage.seconds for stage in again))}")
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UserError("nothing was removed: there is nobody to ask", fix="give --yes")
        if input("Remove it? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return
    shutil.rmtree(directory)
    print(f"removed {directory}")
