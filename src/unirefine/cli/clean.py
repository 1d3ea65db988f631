"""`unirefine clean STAGE`: remove what a stage wrote, after saying what making it again costs."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser
from unirefine.cli.status import add_run
from unirefine.config import Config
from unirefine.errors import UserError

_NAMED = 5


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine clean`."""
    made = stage_parser(
        "clean",
        "Remove the files that a stage of a run wrote (train: its checkpoints too), and no others. Says first how long"
        " that stage and those after it took last time, and asks.",
        "unirefine clean evaluate --config config/demo.yaml",
    )
    made.add_argument("stage", metavar="STAGE", help="release, records, curate, ...")
    add_run(made)
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    import sys

    from unirefine.config import load_config
    from unirefine.files.stages import RESULTS
    from unirefine.files.written import delete_files, other_files, stage_files
    from unirefine.progress import duration, human
    from unirefine.workflow.runs import require_run
    from unirefine.workflow.snakemake import SNAKEFILE
    from unirefine.workflow.status import inspect, rebuild

    config = load_config(arguments.config)
    directory = _directory(arguments.stage, config)
    if not directory.exists():
        require_run(RESULTS / config.run.name)
        print(f"{directory}: nothing there")
        return
    stages = inspect(arguments.config, arguments.snakefile or SNAKEFILE)
    again = rebuild(stages, arguments.stage)
    own = stage_files(directory, arguments.stage, unfinished=True)
    others = _listed([str(path.relative_to(directory)) for path in other_files(directory, arguments.stage)])
    if not own:
        print(f"{directory}: nothing that {arguments.stage} wrote; kept: {others or 'it is empty'}")
        return
    total = human(sum(path.lstat().st_size for path in own), "B")
    print(
        f"{directory}: {len(own)} files, {total}, would be removed; making them, and what follows from them, took last"
        " time:"
    )
    for stage in again:
        print(f"  {stage.name:<14} {duration(stage.seconds) if stage.seconds else 'never ran'}")
    print(f"  {'in all':<14} {duration(sum(stage.seconds for stage in again))}")
    if others:
        print(f"kept, because {arguments.stage} did not write it: {others}")
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UserError("nothing was removed: there is nobody to ask", fix="give --yes")
        if input("Remove them? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return
    delete_files(directory, own)
    print(f"removed {len(own)} files of {directory}")


def _directory(stage: str, config: Config) -> Path:
    """The directory of a stage. Raises UserError for one that must not be cleaned now."""
    from unirefine.core.levels import STAGES
    from unirefine.files.stages import RESULTS, runs_sharing
    from unirefine.workflow.directories import shared_directories
    from unirefine.workflow.status import is_running

    if stage not in STAGES:
        raise UserError(f"{stage!r} is no stage", fix=f"stages: {', '.join(STAGES)}")
    shared = shared_directories(config).get(stage)
    if shared and not (stage == "release" and config.release.directory):
        raise UserError(
            f"{stage} is of another run that this one shares with", where=shared, fix="clean it with that run's config"
        )
    directory = shared or RESULTS / config.run.name / stage
    if others := [name for name in runs_sharing(directory) if name != config.run.name]:
        raise UserError(
            f"nothing was removed: it is also used by run {', '.join(others)}", where=directory,
            fix="clean what those runs make from it, or remove their results, or delete it by hand",
        )  # fmt: skip
    if is_running(RESULTS / config.run.name):
        raise UserError("a workflow is running on these results", where=directory, fix="stop it first")
    return directory


def _listed(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
