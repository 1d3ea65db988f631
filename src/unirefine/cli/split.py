"""`unirefine split`: choose the validation clusters."""

import argparse
import sys
from pathlib import Path

from unirefine.cli.common import add_config, config_of, stage_parser, with_lock


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine split`."""
    split = stage_parser(
        "split",
        "Choose the validation (and test) clusters by keyed hash, from an id list, or as the source gives them.",
        "unirefine split --config config/demo.yaml --set split.seed=42 \\\n"
        "    --clusters results/demo/cluster --output results/demo/split",
    )
    split.add_argument(
        "--clusters", type=Path, required=True, metavar="DIR", help="output directory of the cluster stage"
    )
    split.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="output directory of the records stage: has the given sides; finds listed accessions in ids like"
        " sp|P12345|AATM_RABIT",
    )
    split.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write")
    add_config(split, "split")
    split.set_defaults(run=with_lock(_run))
    return split


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.config import Split
    from unirefine.core.enough import FEW_CLUSTERS, few_clusters
    from unirefine.core.idlist import some
    from unirefine.core.levels import SIDES
    from unirefine.split.run import run

    counts = run(config_of(arguments, Split, "split"), arguments.clusters, arguments.output, records=arguments.records)
    for side, clusters, members in zip(SIDES, counts.clusters, counts.members, strict=True):
        if clusters:
            print(f"{side}: {clusters:,} clusters, {members:,} members")
    validation = counts.clusters[SIDES.index("validation")]
    if validation < FEW_CLUSTERS:
        warning = (
            f"{validation:,} validation cluster{'s' * (validation != 1)}: below {FEW_CLUSTERS} perplexity says little"
        )
        print(f"unirefine split: warning: {warning}; {few_clusters(sum(counts.clusters))}", file=sys.stderr)
    if counts.listed:
        rest = f"; not found: {some(counts.missing)}; see {arguments.output / 'missing_ids.txt'}"
        found = counts.listed - len(counts.missing)
        print(f"{found:,} of {counts.listed:,} listed ids are clusters here{rest if counts.missing else ''}")
