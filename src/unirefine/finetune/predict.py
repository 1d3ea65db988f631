"""Predictions of a fine-tuned model for the proteins of a FASTA, as a table."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine import progress
from unirefine.config import Finetune
from unirefine.core import parquet
from unirefine.core.fasta import Protein, read_fasta
from unirefine.errors import UserError, no_directory
from unirefine.files.atomic import atomic_path, write_text
from unirefine.finetune import model as models
from unirefine.finetune.outputs import label
from unirefine.finetune.tasks import Target
from unirefine.finetune.train import accelerator, predict_all

FORMS = (".csv", ".tsv", ".parquet")
_GROUP = 1 << 16


def run(given: Path, fasta: Path, output: Path | None, *, device: str, batch_tokens: int, residues: bool) -> int:
    """Predict and write the table to `output` (.csv, .tsv or .parquet), or to standard output. Returns its rows.

    given: the directory of a fine-tuning, of one of its folds, or an exported model. Of folds the mean of all models is
    given, and for numbers the deviation between them. residues: a row for each residue. Raises UserError.
    """
    if output is not None:
        _check_output(output, given, fasta)
    directories = _models(given)
    proteins = list(read_fasta(fasta))
    helper = accelerator(device, "fp32")
    sequences = [protein.sequence for protein in proteins]
    total: list[list[list[np.ndarray]]] = []
    targets: list[Target] = []
    with progress.meter("predict", total=len(proteins) * len(directories), unit="sequences") as done:
        for directory in directories:
            model, found, task = models.load(directory)
            if targets and [(t.name, t.classes) for t in targets] != [(t.name, t.classes) for t in found]:
                raise UserError("its folds predict different targets", where=given, fix="fine-tune again")
            targets = found
            config = Finetune(max_residues=task["max_residues"], batch_tokens=batch_tokens)
            total.append(predict_all(model.to(helper.device), sequences, targets, config, helper, done.advance))
    longest = task["max_residues"]
    if residues and not targets[0].is_residue:
        raise UserError("predicts whole sequences", where=given, fix="leave --residues out")
    columns, rows = _table(proteins, targets, total, longest, residues=residues)
    _write(columns, rows, output)
    return len(rows)


def _models(given: Path) -> list[Path]:
    if (given / models.TASK).is_file():
        return [given]
    if (given / "model" / models.TASK).is_file():
        return [given / "model"]
    folds = [one.parent for one in given.glob(f"fold-*/model/{models.TASK}")]
    if folds:
        return sorted(folds, key=lambda path: int(path.parent.name.removeprefix("fold-")))
    what = "no fine-tuned model in it" if given.is_dir() else no_directory(given)
    raise UserError(what, where=given, fix="give the --output of a finished `unirefine finetune`")


def _check_output(output: Path, given: Path, fasta: Path) -> None:
    if output.suffix not in FORMS:
        raise UserError(f"ends in {output.suffix or 'nothing'}", where=output, fix=f"end it in {', '.join(FORMS)}")
    if output.is_dir() or (output.exists() and output.samefile(fasta)):
        what = "a directory" if output.is_dir() else "the input, which the output would replace"
        raise UserError(what, where=output, fix="choose another --output")
    if output.resolve().is_relative_to(given.resolve()):
        raise UserError("inside the model", where=output, fix="choose another --output")


def _table(
    proteins: Sequence[Protein], targets: Sequence[Target], total: list, longest: int, *, residues: bool
) -> tuple[list[str], list[list]]:
    columns = ["id", *(["position", "residue"] if residues else ["length"])]
    columns += [name for target in targets for name in _columns(target, len(total), residues=residues)]
    columns += [] if targets[0].is_residue else ["truncated"]
    rows = []
    for at, protein in enumerate(proteins):
        each = [np.stack([fold[at][number] for fold in total]) for number in range(len(targets))]
        if residues:
            for place, letter in enumerate(protein.sequence):
                cells = [c for t, values in zip(targets, each, strict=True) for c in _cells(t, values[:, place])]
                rows.append([protein.name, place + 1, letter, *cells])
            continue
        cells = [c for target, values in zip(targets, each, strict=True) for c in _cells(target, values)]
        cut = [] if targets[0].is_residue else [int(len(protein.sequence) > longest)]
        rows.append([protein.name, len(protein.sequence), *cells, *cut])
    return columns, rows


def _columns(target: Target, models_: int, *, residues: bool) -> list[str]:
    if target.task == "regression":
        return [target.name, *([f"{target.name} deviation"] if models_ > 1 else [])]
    if target.is_residue and not residues:
        return [target.name]
    return [target.name, *(f"{target.name}={one}" for one in target.classes)]


def _cells(target: Target, values: np.ndarray) -> Iterator[str | float]:
    """The prediction, then numbers. values: float64[models, ...], of which the mean counts."""
    mean = values.mean(axis=0)
    if target.is_residue and mean.ndim == 1:  # one residue
        yield target.classes[int(mean.argmax())]
        yield from (round(float(value), 6) for value in mean)
        return
    if target.task == "regression":
        yield float(mean[0])
        if len(values) > 1:
            yield float(values[:, 0].std(ddof=1))
        return
    yield label(target, mean)
    if not target.is_residue:
        yield from (round(float(value), 6) for value in mean)


def _write(columns: list[str], rows: list[list], output: Path | None) -> None:
    if output is not None and output.suffix == ".parquet":
        arrays = [pa.array([row[at] for row in rows]) for at in range(len(columns))]
        with atomic_path(output) as temporary:
            parquet.write_table(pa.Table.from_arrays(arrays, names=columns), temporary, row_group_size=_GROUP)
        return
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter="\t" if output is not None and output.suffix == ".tsv" else ",", lineterminator="\n"
    )
    writer.writerows([columns, *rows])
    if output is None:
        sys.stdout.write(text.getvalue())
    else:
        write_text(output, text.getvalue())
