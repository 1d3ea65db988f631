"""`unirefine split`: choose the validation clusters."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, alone, config_of, stage_parser


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine split`."""
    split = stage_parser(
        "split",
        "Choose the validation (and test) clusters by keyed hash or from an id list.",
        "unirefine split --clusters results/demo/cluster --output results/demo/split --set validation_fraction=0.05",
    )
    split.add_argument("--clusters", type=Path, required=True, metavar="DIR", help="directory of the cluster stage")
    split.add_argument("--output", type=Path, required=True, metavar="DIR", help="where split.parquet goes")
    add_config(split, "split")
    split.set_defaults(run=alone(_run))
    return split


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.config import Split
    from unirefine.core.levels import SIDES
    from unirefine.files import lineage
    from unirefine.files.atomic import read_json
    from unirefine.split import run_split

    config = config_of(arguments, Split, "split")
    counts = run_split(config, arguments.clusters, arguments.output)
    sides = read_json(arguments.output / "counts.json")["sides"]
    step = lineage.step("split", config, counts=sides, inputs=[config.ids] if config.ids else [])
    lineage.write(arguments.output, step, [arguments.clusters])
    for side, clusters, members in zip(SIDES, counts.clusters, counts.members, strict=True):
        if clusters:
            print(f"{side}: {clusters:,} clusters, {members:,} members")
    if counts.missing:
        print(f"{counts.missing:,} listed ids are no clusters here; see {arguments.output / 'missing_ids.txt'}")
