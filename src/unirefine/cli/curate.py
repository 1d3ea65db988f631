"""`unirefine curate`: remove artificial, purge-listed and unwanted records, and list each with its reason."""

import argparse

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.core.levels import LEVELS


def parser() -> argparse.ArgumentParser:
    """Command line of the curate stage."""
    made = stage_parser(
        "curate",
        "Remove records that are artificial by taxonomy, on a purge list, of unwanted length or letters, or like a"
        " de-novo design. removed.parquet lists every removal with its reason and evidence.",
        "unirefine curate --records results/demo/records --taxdump results/demo/release/taxdump.tar.gz \\\n"
        "    --purge-list results/demo/release/purge-0.txt --output results/demo/curate",
    )
    add_config(made, "curate")
    made.add_argument("--records", required=True, metavar="DIR", help="output directory of the records stage")
    made.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS), help="default: both")
    made.add_argument(
        "--taxdump", metavar="FILE", help="NCBI's taxdump.tar.gz; default: the pinned list of the package"
    )
    made.add_argument(
        "--purge-list", action="append", nargs="+", default=[], metavar="FILE", help="ids to remove, one a line"
    )
    made.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="threads of jackhmmer (curate.designs)"
    )
    made.add_argument("--output", required=True, metavar="DIR", help="where to write")
    made.set_defaults(run=with_lock(_run))
    return made


def _run(arguments: argparse.Namespace) -> None:
    """Run the stage and print one line for each level."""
    from unirefine.config import Curate
    from unirefine.curate.run import run

    config = config_of(arguments, Curate, "curate")
    done = run(
        config,
        arguments.records,
        arguments.levels,
        arguments.output,
        taxdump=arguments.taxdump,
        purge_lists=[path for group in arguments.purge_list for path in group],
        threads=arguments.threads,
    )
    roots = ", ".join(map(str, done.taxonomy["roots"]))
    print(f"artificial taxa: {done.taxonomy['artificial_taxa']:,} below {roots}, from the {done.taxonomy['source']}")
    for line in done.notes:
        print(line)
    for level, count in done.taxonomy.get("kept_with_artificial_members", {}).items():
        if count:
            print(f"{level}: {count:,} have an artificial member and stay; curate.artificial_members: any removes them")
    for level, counts in done.counts.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["removed"].items()) or "nothing"
        own = arguments.levels == [LEVELS[1]]  # a FASTA of your own has one level
        what = f"your own FASTA: {counts['in']:,} sequences" if own else f"{level}: {counts['in']:,} records"
        print(f"{what}, {counts['kept']:,} kept; removed: {reasons}")
