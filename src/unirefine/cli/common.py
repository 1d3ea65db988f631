"""What the commands share: a parser with an example, the stage's config block, one process per output."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from unirefine.config import load_block, parse_yaml
from unirefine.errors import UserError
from unirefine.files import locks

AnyBlock = TypeVar("AnyBlock", bound=BaseModel)


def stage_parser(stage: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser for one stage whose --help ends with a working example."""
    return argparse.ArgumentParser(
        prog=f"unirefine {stage}",
        description=description,
        epilog=f"example:\n  {example}\n\n--traceback: show where a fault arose, beside its one line",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def at_least_one(text: str) -> int:
    """The type of options like --threads."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def add_config(parser: argparse.ArgumentParser, block: str) -> None:
    """Add --config and --set, which together give the stage's config block."""
    parser.add_argument(
        "--config",
        metavar="FILE|JSON",
        help=f"config file (its block `{block}` is used) or the block as a JSON object; default: built-in defaults",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help=f"override one option, as in --set {block}.OPTION=VALUE or --set OPTION=VALUE; may be repeated",
    )


def config_of(arguments: argparse.Namespace, kind: type[AnyBlock], block: str) -> AnyBlock:
    """The validated block from --config and --set. Raises UserError."""
    overrides: dict[str, Any] = {}
    for text in arguments.overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {text!r} is not KEY=VALUE")
        overrides[key] = parse_yaml(value, where=f"--set {text}")
    arguments.block = load_block(kind, block, arguments.config, overrides)
    return arguments.block


def named_paths(arguments: argparse.Namespace) -> list[str]:
    """What may be a file or a directory among the options of a command and of its config block."""
    found: list[str] = []
    waiting = list(vars(arguments).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, str | Path):
            found.append(str(value))
        elif isinstance(value, BaseModel):
            waiting += value.model_dump(mode="json").values()
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return found


def with_lock(
    run: Callable[[argparse.Namespace], None],
    lock: Callable[[argparse.Namespace], Path | None] = lambda arguments: Path(arguments.output) / ".lock",
) -> Callable[[argparse.Namespace], None]:
    """`run` under the lock file of its output: it first waits until no other process writes there.

    lock: returns the lock file for a command line; None when the command writes nothing. Of several ranks only the
    first takes the lock.
    """

    def locked(arguments: argparse.Namespace) -> None:
        path = lock(arguments)
        if path is None or os.environ.get("RANK", "0") != "0":
            run(arguments)
            return
        with locks.exclusive(path, wait=True):
            run(arguments)

    return locked
