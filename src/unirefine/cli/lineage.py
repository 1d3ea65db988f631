"""`unirefine lineage`: where shards, a checkpoint or a model come from."""

import argparse
import json
from pathlib import Path

from unirefine.cli.common import stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine lineage`."""
    made = stage_parser(
        "lineage",
        "Print where shards, a checkpoint or a model come from: release and md5s; each step's options, counts, versions"
        " and commit; hashes of the files. Reads only lineage.json inside the directory, so it works on any copy.",
        "unirefine lineage results/demo/train/final",
    )
    made.add_argument("path", type=Path, metavar="PATH", help="shards, a checkpoint, final/, or an exported model")
    made.add_argument("--json", action="store_true", help="print the file itself")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.files import lineage

    found = lineage.read(arguments.path)
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lineage.lines(found)))
