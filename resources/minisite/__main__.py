"""Build the demo's miniature UniProt site: `PYTHONPATH=resources python -m minisite --output results/site`."""

import argparse
import sys
from pathlib import Path

from minisite.site import ARCHIVE, RELEASE, build_demo
from unirefine.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Entry point. 0: done; 1: unusable input, reported in one line."""
    command = argparse.ArgumentParser(
        prog="minisite",
        description="Build a miniature UniProt site (layout and formats of ftp.uniprot.org) from resources/demo.",
    )
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="the site; replaced as a whole")
    command.add_argument("--release", metavar="NAME", default=RELEASE, help="current release (default: %(default)s)")
    command.add_argument(
        "--archive", metavar="NAME", default=ARCHIVE, help="previous release, one tarball (default: %(default)s)"
    )
    command.add_argument("--limit-clusters", metavar="N", type=int, help="take only N UniRef50 clusters")
    given = command.parse_args(argv)
    try:
        counts = build_demo(given.output, release=given.release, archive=given.archive, limit=given.limit_clusters)
    except UserError as error:
        print(f"minisite: error: {error.line()}", file=sys.stderr)
        return 1
    levels = ", ".join(f"{count:,} {level}" for level, count in counts.items())
    print(f"miniature site of release {given.release} in {given.output}: {levels} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
