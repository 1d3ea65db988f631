"""What must be beaten: the nearest train sequence, the composition, and a linear model on frozen embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
from pyopal import Aligner, Database
from scoring_matrices import ScoringMatrix
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unirefine.core import smith_waterman
from unirefine.core.alphabet import AMINO_ACIDS
from unirefine.finetune.tasks import Target

NEAREST, COMPOSITION, FROZEN = "nearest neighbour", "composition", "frozen embeddings"
WINDOW = 7
"""Residues on each side whose letters are the composition of a residue."""
MOST_RESIDUES = 20_000
"""Residues of the train sequences, drawn at random, that a linear model of residues is fitted to."""
_ALIGNER = Aligner(
    ScoringMatrix(smith_waterman.SCORES.tolist(), smith_waterman.LETTERS),
    smith_waterman.GAP_OPEN, smith_waterman.GAP_EXTEND,
)  # fmt: skip
Features = Callable[[int], np.ndarray]
"""From a row to float[features], for residues [residues, features]."""


def composition(sequences: Sequence[str], *, residue: bool) -> Features:
    """Shares of the 20 amino acids; of a residue: its own letter, and the counts in a window around it."""

    def of_row(row: int) -> np.ndarray:
        letters = np.frombuffer(sequences[row].encode(), np.uint8)
        own = np.stack([letters == ord(one) for one in AMINO_ACIDS], axis=1).astype(np.float64)
        if not residue:
            return own.mean(axis=0)
        running = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, axis=0)])
        at = np.arange(len(own))
        around = running[np.minimum(at + WINDOW + 1, len(own))] - running[np.maximum(at - WINDOW, 0)]
        return np.concatenate([own, around], axis=1)

    return of_row


def linear(target: Target, train: np.ndarray, asked: np.ndarray, features: Features, seed: int) -> list[np.ndarray]:
    """Ridge or logistic regression on features. Returns of each asked row what `batches.predict` returns of it.

    The strength of ridge is chosen by leave-one-out among the train rows; logistic regression has C = 1. Features are
    standardised.
    """
    rows = fitted_rows(target, train, seed)
    inputs = [features(row) for row in asked]
    if target.is_residue:
        y = np.concatenate([target.values[row] for row in rows])
        x = np.concatenate([features(row) for row in rows])[~np.isnan(y)]
        y = y[~np.isnan(y)]
        bounds = np.cumsum([len(each) for each in inputs])[:-1]
        return np.split(_classes(x, y, np.concatenate(inputs), len(target.classes)), bounds)
    x = np.stack([features(row) for row in rows])
    asked_x = np.stack(inputs)
    y = np.stack([target.values[row] for row in rows])
    if target.task == "regression":
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
        return list(model.fit(x, y[:, 0]).predict(asked_x)[:, None])
    if target.task == "multilabel":
        columns = [_classes(x, y[:, at], asked_x, 2)[:, 1] for at in range(y.shape[1])]
        return list(np.stack(columns, axis=1))
    return list(_classes(x, y[:, 0], asked_x, len(target.classes)))


def fitted_rows(target: Target, train: np.ndarray, seed: int) -> list[int]:
    """The train rows that a linear model is fitted to: all with a label, of residues so many as MOST_RESIDUES need."""
    rows = [int(row) for row in train if not np.isnan(target.values[row]).all()]
    if not target.is_residue:
        return rows
    chosen, residues = [], 0
    for at in np.random.Generator(np.random.Philox(seed)).permutation(len(rows)):
        chosen.append(rows[at])
        residues += len(target.values[rows[at]])
        if residues >= MOST_RESIDUES:
            break
    return sorted(chosen)


def _classes(x: np.ndarray, y: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities float64[k, classes]; of classes without a train row 0."""
    found = np.zeros((len(asked), classes))
    present = np.unique(y).astype(int)
    if len(present) == 1:
        found[:, present[0]] = 1.0
        return found
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    found[:, present] = model.fit(x, y).predict_proba(asked)
    return found


def nearest_neighbour(
    target: Target, train: np.ndarray, asked: np.ndarray, sequences: Sequence[str], neighbour: np.ndarray
) -> list[np.ndarray]:
    """The label of the nearest train sequence that has one, as scores; the train side's mean where there is none.

    neighbour: int64[k], the row of the nearest labelled train sequence of each asked row, -1 for none. Labels of
    residues are those that they are aligned with.
    """
    mean = _mean(target, train)
    found = []
    for row, near in zip(asked, neighbour, strict=True):
        if target.is_residue:
            found.append(_transferred(target, sequences, int(row), int(near), mean))
        elif near < 0:
            found.append(mean)
        else:
            found.append(_one_hot(target, target.values[near])[0])
    return found


def _mean(target: Target, train: np.ndarray) -> np.ndarray:
    """The mean label of the train side: float64[outputs]."""
    values = [target.values[row] for row in train if not np.isnan(target.values[row]).all()]
    if target.task == "regression" or target.task == "multilabel":
        return np.mean(values, axis=0)
    classes = np.concatenate(values)
    classes = classes[~np.isnan(classes)].astype(int)
    return np.bincount(classes, minlength=len(target.classes)) / len(classes)


def _one_hot(target: Target, values: np.ndarray) -> np.ndarray:
    """Labels as scores: float64[n, outputs]; NaN rows where there is no label."""
    if target.task in ("regression", "multilabel"):
        return values[None]
    scores = np.full((len(values), len(target.classes)), np.nan)
    there = ~np.isnan(values)
    scores[there] = np.eye(len(target.classes))[values[there].astype(int)]
    return scores


def _transferred(target: Target, sequences: Sequence[str], row: int, near: int, mean: np.ndarray) -> np.ndarray:
    """Labels of a neighbour's residues at the residues that they are aligned with, the mean elsewhere."""
    found = np.tile(mean, (len(sequences[row]), 1))
    if near < 0:
        return found
    query, other = (smith_waterman.as_residues(sequences[at]).decode() for at in (row, near))
    aligned = _ALIGNER.align(query, Database([other], _ALIGNER.alphabet), mode="full", algorithm="sw")[0]
    scores = _one_hot(target, target.values[near])
    at, there = aligned.query_start, aligned.target_start
    for step in aligned.alignment:  # M match, X mismatch, D a residue of the query alone, I one of the target alone
        if step in "MX":
            if not np.isnan(scores[there]).any():
                found[at] = scores[there]
            at, there = at + 1, there + 1
        elif step == "D":
            at += 1
        else:
            there += 1
    return found
