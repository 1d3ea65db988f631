"""`unirefine init`: a config to start from."""

import argparse
import sys
from pathlib import Path

from unirefine.cli.common import at_least_one, stage_parser
from unirefine.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Options of `unirefine init`."""
    made = stage_parser(
        "init",
        "Write a config with comments, for your own FASTA, a release of UniProt or the published data set. Asks what"
        " the options leave open, where somebody is there to ask. An existing file stays as it is.",
        "unirefine init my-proteins.yaml --fasta resources/demo/lab.fasta.gz\n"
        "  unirefine init family.yaml --fasta resources/demo/lab.fasta.gz --from facebook/esm2_t6_8M_UR50D\n"
        "  unirefine init release.yaml --release current --model 35M --gpus 4\n"
        "  unirefine init published.yaml --published",
    )
    made.add_argument("file", type=Path, metavar="FILE", help="the config to write, as in my-proteins.yaml")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--fasta", metavar="FILE", help="your own proteins")
    source.add_argument("--release", metavar="NAME", help="a release of UniProt, as in 2024_03, or `current`")
    source.add_argument("--published", action="store_true", help="NVIDIA's published ESM-2 data set")
    made.add_argument("--name", metavar="NAME", help="name of the run (default: that of the file)")
    made.add_argument("--model", default="8M", metavar="SIZE", help="8M (default), 35M, 150M, 650M, 3B or 15B")
    made.add_argument(
        "--from", dest="start", metavar="MODEL",
        help="with --fasta: a model to continue on it, as in facebook/esm2_t6_8M_UR50D or results/demo/train/final",
    )  # fmt: skip
    made.add_argument("--gpus", type=at_least_one, default=1, metavar="N", help="processes of training (default: 1)")
    made.add_argument(
        "--steps",
        type=at_least_one,
        metavar="N",
        help="of training (default: chosen for the data of a FASTA, else 500000)",
    )
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    import os

    from unirefine.config import Train, starting
    from unirefine.files.atomic import write_text

    file = arguments.file
    if file.suffix not in (".yaml", ".yml"):
        raise UserError("the name of a config ends in .yaml", where=file)
    if file.exists():
        raise UserError("is there already, and stays as it is", where=file, fix="name another file")
    if not (arguments.fasta or arguments.release or arguments.published):
        _ask(arguments)
    if arguments.fasta and not Path(arguments.fasta).is_file():
        raise UserError("no such file", where=arguments.fasta, fix="give the path of a FASTA")
    if arguments.start and not arguments.fasta:
        raise UserError("--from continues a model on your own proteins", fix="give --fasta too")
    made = starting.text(
        file,
        name=arguments.name or file.stem,
        threads=os.cpu_count() or 1,
        model=arguments.model,
        gpus=arguments.gpus,
        steps=arguments.steps or (None if arguments.fasta else Train().steps),
        start=arguments.start,
        fasta=arguments.fasta,
        release=arguments.release,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, made)
    print(f"wrote {file}; next: unirefine run {file} -n")


def _ask(arguments: argparse.Namespace) -> None:
    """Ask for what is missing. Raises UserError where nobody is there."""
    if not sys.stdin.isatty():
        raise UserError("where do the sequences come from?", fix="give --fasta FILE, --release NAME or --published")
    from unirefine.config.starting import CURRENT

    answer = input("Sequences: 1 your own FASTA, 2 a release of UniProt, 3 NVIDIA's published data set [1] ").strip()
    if answer in ("", "1"):
        arguments.fasta = input("Path of the FASTA: ").strip()
        if not arguments.fasta:
            raise UserError("no path was given", fix="start again")
    elif answer == "2":
        arguments.release = input(f"Its name, as in 2024_03 [{CURRENT}] ").strip() or CURRENT
    elif answer == "3":
        arguments.published = True
    else:
        raise UserError(f"{answer!r} is none of 1, 2 and 3", fix="start again")
