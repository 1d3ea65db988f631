"""The tables of a fine-tuning: the side of each sequence, and the predictions of the tested ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.files.atomic import atomic_path
from unirefine.finetune import state
from unirefine.finetune.outcome import MODEL, Outcome
from unirefine.finetune.split import sides_of
from unirefine.finetune.table import Data
from unirefine.finetune.tasks import NO_RESIDUE, Target

SPLIT, PREDICTIONS = "split.parquet", "predictions.parquet"
_GROUP = 1 << 16


def write(output: Path, data: Data, groups: np.ndarray, arms: Sequence[Any]) -> None:
    """Write `split.parquet` (id, cluster, side by each method) and `predictions.parquet` (of tested rows)."""
    columns = {"id": pa.array(data.ids), "cluster": pa.array(groups.astype(np.int32))}
    columns |= {arm.method: pa.array(sides_of(arm.splits, len(data.ids))) for arm in arms}
    _write(output / SPLIT, pa.table(columns))
    rows = [row for arm in arms for outcome in arm.outcomes for row in _rows(arm.method, outcome, data)]
    kinds = {
        "split": pa.string(), "fold": pa.string(), "target": pa.string(), "id": pa.string(), "measured": pa.string(),
        "predicted": pa.string(), "score": pa.float64(), "nearest": pa.string(), "identity": pa.float64(),
    }  # fmt: skip
    schema = pa.schema([pa.field(name, kind) for name, kind in kinds.items()])
    _write(output / PREDICTIONS, pa.Table.from_pylist(rows, schema=schema))


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, row_group_size=_GROUP)


def _rows(method: str, outcome: Outcome, data: Data) -> list[dict[str, Any]]:
    target, found = outcome.target, []
    for at, row in enumerate(outcome.rows):
        scores = outcome.scores[MODEL][at]
        near, identity = int(outcome.nearest[at]), float(outcome.identity[at])
        found.append({
            "split": method, "fold": outcome.fold[at], "target": target.name, "id": data.ids[row],
            "measured": _measured(target, target.values[row]), "predicted": label(target, scores),
            "score": probability(target, scores), "nearest": data.ids[near] if near >= 0 else None,
            "identity": None if np.isnan(identity) else identity,
        })  # fmt: skip
    return found


def _measured(target: Target, value: np.ndarray) -> str:
    if target.task == "regression":
        return f"{value[0]:.6g}"
    if target.task == "multilabel":
        return ";".join(one for one, there in zip(target.classes, value, strict=True) if there)
    letters = [NO_RESIDUE if np.isnan(one) else target.classes[int(one)] for one in value]
    return "".join(letters)


def label(target: Target, scores: np.ndarray) -> str:
    """A prediction as it would stand in the table of labels: number, class, classes, or a letter for each residue."""
    if target.task == "regression":
        return f"{scores[0]:.6g}"
    if target.task == "multilabel":
        return ";".join(one for one, score in zip(target.classes, scores, strict=True) if score >= 0.5)
    if target.is_residue:
        return "".join(target.classes[at] for at in scores.argmax(axis=-1))
    return target.classes[int(scores.argmax())]


def probability(target: Target, scores: np.ndarray) -> float | None:
    """The probability of the predicted class; of residues its mean; None for numbers and sets of classes."""
    if target.task in ("regression", "multilabel"):
        return None
    return float(scores.max(axis=-1).mean())


def model_directories(output: Path) -> list[Path]:
    """The exported models: `model` and `merged`, of each fold."""
    folds = sorted(output.glob("fold-*"), key=lambda path: int(path.name.removeprefix("fold-")))
    found = [base / name for base in (output, *folds) for name in ("model", "merged")]
    return [path for path in found if path.is_dir()]


def state_files(output: Path) -> list[Path]:
    """What only a resume needs."""
    return [path for name in (state.STATE, state.BEST) for path in output.glob(f"**/{name}")] + [
        output / "pairs.parquet"
    ]
