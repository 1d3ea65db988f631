"""`unirefine cards`: a data card and a model card of a run."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser, with_lock


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine cards`."""
    made = stage_parser(
        "cards",
        "Write data/README.md (data card) and model/README.md (model card): Markdown with the YAML header that the"
        " Hugging Face Hub reads, from the lineage and the evaluation of a finished run. To publish, copy them beside"
        " the shards and beside the weights.",
        "unirefine cards --results results/demo",
    )
    made.add_argument("--results", type=Path, required=True, metavar="DIR", help="results of a run, as in results/demo")
    made.add_argument("--output", type=Path, metavar="DIR", help="where to write; default: RESULTS/cards")
    made.set_defaults(run=with_lock(_run, _lock))
    return made


def _output(arguments: argparse.Namespace) -> Path:
    return arguments.output or arguments.results / "cards"


def _lock(arguments: argparse.Namespace) -> Path:
    """The lock file. Raises UserError where there are no results, before anything is written there."""
    from unirefine.workflow.runs import require_run

    require_run(arguments.results)
    return _output(arguments) / ".lock"


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.cards.run import run

    print("\n".join(f"wrote {path}" for path in run(arguments.results, _output(arguments))))
