"""`unirefine completion`: commands and options for the Tab key of a shell."""

import argparse
import importlib

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine completion`."""
    made = stage_parser(
        "completion",
        "Print what a shell needs to complete `unirefine` with the Tab key.",
        'eval "$(unirefine completion bash)"',
    )
    made.add_argument("shell", choices=("bash", "zsh"), help="which shell")
    made.set_defaults(run=_run)
    return made


def whole_parser() -> argparse.ArgumentParser:
    """One parser of all commands, with their options and subcommands."""
    from unirefine.cli.main import STAGES

    whole = argparse.ArgumentParser(prog="unirefine")
    commands = whole.add_subparsers()
    for name, text in STAGES.items():
        one = importlib.import_module(f"unirefine.cli.{name}").parser()
        made = commands.add_parser(name, help=text, parents=[one], add_help=False, conflict_handler="resolve")
        for action in made._actions:
            if isinstance(action, argparse._SubParsersAction):
                action._prog_prefix = f"unirefine {name}"
    return whole


def _run(arguments: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(whole_parser(), shell=arguments.shell))
