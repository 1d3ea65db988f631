"""`unirefine run`: the workflow, from any directory."""

import argparse

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine run`."""
    made = stage_parser(
        "run",
        "Run the workflow on a config, in the working directory: results/, logs/ and benchmarks/ are written there. It"
        " starts Snakemake with the workflow and a profile of this installation, and prints the command. What follows"
        " CONFIG is passed on: targets (stages by name) and options of Snakemake.",
        "unirefine run demo\n"
        "  unirefine run config/demo.yaml shard\n"
        "  unirefine run config/demo.yaml -n\n"
        "  unirefine run config/fasta.yaml --profile slurm -n",
    )
    made.add_argument("config", metavar="CONFIG", help="a config file, or the name of a shipped one: demo")
    made.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="targets and options of Snakemake")
    _add_own(made)
    made.set_defaults(run=_run)
    return made


def _add_own(parser: argparse.ArgumentParser) -> None:
    """Options that may stand before or after CONFIG."""
    parser.add_argument(
        "-n", "--dry-run", "--dryrun", action="store_true", default=argparse.SUPPRESS,
        help="start nothing: print each stage, its state and why, and how many jobs would run",
    )  # fmt: skip
    parser.add_argument(
        "--verbose", action="store_true", default=argparse.SUPPRESS, help="with -n: Snakemake's own list of all jobs"
    )
    parser.add_argument(
        "--profile", metavar="NAME|DIR", default=argparse.SUPPRESS, help="local (default), slurm, s3, or a directory"
    )


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.workflow import start

    later = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_own(later)
    own, words = later.parse_known_args(arguments.words, namespace=arguments)
    config = start.config_file(own.config)
    profile = start.profile_directory(getattr(own, "profile", "local"))
    dry, verbose = getattr(own, "dry_run", False), getattr(own, "verbose", False)
    if dry and not verbose:
        _print_plan(config, words)
        return
    if not dry:
        start.make_demo_site(config)
    words += [option for option, given in (("--dry-run", dry), ("--verbose", verbose and not dry)) if given]
    start.replace_process(start.command(config, profile, words))


def _print_plan(config, words: list[str]) -> None:
    from unirefine.workflow.status import inspect

    stages = inspect(config, words=words)
    rows = [("stage", "state", "jobs", "why")]
    names = {"missing": "to run"}
    rows += [
        (stage.name, names.get(stage.state, stage.state), f"{stage.due}/{stage.jobs}", ", ".join(stage.why))
        for stage in stages
    ]
    for name, state, jobs, why in rows:
        print(f"{name:<14} {state:<11} {jobs:>9}  {why}".rstrip())
    due, jobs = sum(stage.due for stage in stages), sum(stage.jobs for stage in stages)
    print(f"{due} of {jobs} jobs would run; nothing was started" if due else f"nothing to do: all {jobs} jobs are done")
