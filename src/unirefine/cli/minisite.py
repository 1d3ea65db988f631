"""`unirefine minisite`: build a miniature UniProt site from committed proteins."""

import argparse
from pathlib import Path

from unirefine.cli.common import stage_parser
from unirefine.errors import UserError

DEMO = Path(__file__).parents[3] / "resources" / "demo"


def parser() -> argparse.ArgumentParser:
    """The command line of `unirefine minisite`."""
    command = stage_parser(
        "minisite",
        "Build a miniature UniProt site (layout and formats of ftp.uniprot.org) from UniProtKB FASTA files.",
        "unirefine minisite --demo --output results/site",
    )
    command.add_argument("--demo", action="store_true", help="take --fasta and --clusters from resources/demo")
    command.add_argument("--fasta", metavar="FILE", type=Path, nargs="+", help="UniProtKB FASTA, xz or plain")
    command.add_argument(
        "--clusters",
        metavar="FILE",
        type=Path,
        help="table: accession, uniref90, uniref50; organisms.tsv.xz and taxonomy.tsv.xz lie beside it",
    )
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="the site; replaced as a whole")
    command.add_argument("--release", metavar="NAME", default="2026_03", help="current release (default: %(default)s)")
    command.add_argument(
        "--archive", metavar="NAME", default="2024_03", help="previous release, one tarball (default: %(default)s)"
    )
    command.add_argument("--limit-clusters", metavar="N", type=int, help="take only N UniRef50 clusters")
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace) -> None:
    """Build the site."""
    from unirefine.minisite.site import build

    fasta, clusters = arguments.fasta, arguments.clusters
    if arguments.demo:
        fasta, clusters = sorted(DEMO.glob("*.fasta.xz")), DEMO / "clusters.tsv.xz"
        if not fasta:
            raise UserError("no demo proteins", where=DEMO, fix="work in a checkout of the repository, or give --fasta")
    if not fasta or clusters is None:
        raise UserError("--fasta and --clusters are missing", fix="give both, or --demo")
    beside = clusters.parent
    counts = build(
        fasta,
        clusters,
        arguments.output,
        taxonomy=beside / "taxonomy.tsv.xz",
        organisms=beside / "organisms.tsv.xz",
        release=arguments.release,
        archive=arguments.archive,
        limit=arguments.limit_clusters,
    )
    levels = ", ".join(f"{count:,} {level}" for level, count in counts.items())
    print(f"miniature site of release {arguments.release} in {arguments.output}: {levels} entries")
