"""`unirefine predict`: predictions of a fine-tuned model for a FASTA."""

import argparse
from pathlib import Path

from unirefine.cli.common import at_least_one, stage_parser


def parser() -> argparse.ArgumentParser:
    """Command line of `unirefine predict`."""
    made = stage_parser(
        "predict",
        "Predict with a fine-tuned model. A row for each protein, in the order of the FASTA; probabilities of classes "
        "beside the class; of residues a letter for each. Of folds the mean of all models counts. Prints CSV, or "
        "writes --output.",
        "unirefine predict --model solubility --fasta mine.fasta --output predictions.csv",
    )
    made.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="the --output of a finetune, or a model in it"
    )
    made.add_argument("--fasta", type=Path, required=True, metavar="FILE", help="FASTA, plain or compressed")
    made.add_argument("--output", type=Path, metavar="FILE", help="a .csv, .tsv or .parquet (default: print CSV)")
    made.add_argument("--residues", action="store_true", help="a row for each residue, with probabilities")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where it runs (default: auto)")
    made.add_argument(
        "--batch-tokens", type=at_least_one, default=16384, metavar="N", help="padded tokens per forward pass"
    )
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    from unirefine.finetune.predict import run

    rows = run(
        arguments.model,
        arguments.fasta,
        arguments.output,
        device=arguments.device,
        batch_tokens=max(arguments.batch_tokens, 16),
        residues=arguments.residues,
    )
    if arguments.output is not None:
        print(f"wrote {rows:,} rows to {arguments.output}")
