"""A fine-tuned model judged: its predictions of the test side beside those of the baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from unirefine.config import Finetune
from unirefine.finetune import baselines, metrics, positions, similar
from unirefine.finetune.embeddings import embed
from unirefine.finetune.split import Split
from unirefine.finetune.tasks import Target

MODEL = "fine-tuned model"


@dataclass
class Outcome:
    """What was predicted of one target on all test rows of a split, or of all folds."""

    target: Target
    rows: np.ndarray
    """int64[n]: the tested rows that have a label."""
    fold: list[str]
    """Of each."""
    scores: dict[str, list[np.ndarray]]
    """By model: of each row float64[outputs], of residues [residues, outputs]."""
    nearest: np.ndarray
    """int64[n]: row of the nearest train sequence, -1 for none."""
    identity: np.ndarray
    """float64[n]: its identity; NaN for none."""
    table: dict[str, Any]
    """What `metrics.compare` returns."""
    over: str = "clusters"
    """What the intervals resample: clusters, positions or sequences."""
    groups: int = 0
    """So many of them are among the rows."""

    def flat(self, model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(labels, predictions as `metrics.metrics_of` takes them, index of the row) of all labelled items."""
        values = [self.target.values[row] for row in self.rows]
        if self.target.is_residue:
            owner = np.repeat(np.arange(len(values)), [len(value) for value in values])
            measured, scores = np.concatenate(values), np.concatenate(self.scores[model])
            there = ~np.isnan(measured)
            return measured[there], scores[there], owner[there]
        measured, scores = np.stack(values), np.stack(self.scores[model])
        if self.target.task != "multilabel":
            measured = measured[:, 0]
        if self.target.task == "regression":
            scores = scores[:, 0]
        return measured, scores, np.arange(len(values))


def predictions_of_baselines(
    targets: Sequence[Target],
    sequences: Sequence[str],
    pairs: pl.DataFrame,
    split: Split,
    config: Finetune,
    base: Path,
    device: torch.device,
) -> list[dict[str, list[np.ndarray]]]:
    """For each target, by baseline, the predictions of its labelled test rows of one split."""
    residue = targets[0].is_residue
    fitted = {row for target in targets for row in baselines.fitted_rows(target, split.train, config.seed)}
    vectors = embed(base, sequences, [*fitted, *split.test], config, device, residue=residue)
    letters = baselines.composition(sequences, residue=residue)
    found = []
    for target in targets:
        asked = split.test[target.labelled[split.test]]
        train = split.train[target.labelled[split.train]]
        neighbour, _ = similar.nearest(sequences, pairs, train, asked)
        found.append({
            baselines.NEAREST: baselines.nearest_neighbour(target, train, asked, sequences, neighbour),
            baselines.COMPOSITION: baselines.linear(target, train, asked, letters, config.seed),
            baselines.FROZEN: baselines.linear(target, train, asked, lambda row: vectors[int(row)], config.seed),
        })  # fmt: skip
    return found


def resampled(method: str, clusters: np.ndarray, rows: np.ndarray, places: np.ndarray | None) -> tuple[str, np.ndarray]:
    """(what intervals resample, group of every sequence): clusters of similar sequences; of variants of one protein, or
    where folds are of positions, those that change the same positions; of other tables of one cluster, sequences.

    rows: those that have a label. places: what `positions.changed` returns.
    """
    if method not in (positions.MODULO, positions.CONTIGUOUS) and len(np.unique(clusters[rows])) > 1:
        return "clusters", clusters
    if places is None:
        return "sequences", np.arange(len(clusters))
    return "positions", positions.groups(places)


def judge(outcome: Outcome, over: str, groups: np.ndarray, seed: int) -> None:
    """Fill in the table of an outcome. over, groups: what `resampled` returns."""
    _, drawn = np.unique(groups[outcome.rows], return_inverse=True)
    outcome.over, outcome.groups = over, int(drawn.max(initial=-1)) + 1
    models, owner = {}, np.empty(0, np.int64)
    for name in outcome.scores:
        measured, scores, owner = outcome.flat(name)
        models[name] = metrics.metrics_of(outcome.target, measured, scores)
    outcome.table = metrics.compare(models, drawn[owner], seed, MODEL)


def identity_bins(outcome: Outcome) -> list[dict[str, Any]]:
    """The metrics of the fine-tuned model by identity of the nearest train sequence, of bins with at least 5 rows."""
    edges = [0.0, 0.3, 0.5, 0.7, 0.9, 1.0001]
    names = ["below 30%", "30-50%", "50-70%", "70-90%", "90-100%"]
    measured, scores, owner = outcome.flat(MODEL)
    bins = np.digitize(outcome.identity, edges) - 1
    places = [("no alignment", np.isnan(outcome.identity))]
    places += [(name, ~np.isnan(outcome.identity) & (bins == at)) for at, name in enumerate(names)]
    found = []
    for name, inside in places:
        if inside.sum() < 5:
            continue
        chosen = inside[owner]
        one = np.ones(int(chosen.sum()))
        table = metrics.metrics_of(outcome.target, measured[chosen], scores[chosen])
        values = {key: metric(one) for key, metric in table.items()}
        found.append({
            "bin": name, "sequences": int(inside.sum()),
            **{key: float(value) if np.isfinite(value) else None for key, value in values.items()},
        })  # fmt: skip
    return found
