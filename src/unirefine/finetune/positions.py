"""Variants of one protein: the positions that each changes, and sides by position."""

from collections.abc import Sequence

import numpy as np

from unirefine.errors import UserError
from unirefine.finetune.split import Split

MODULO, CONTIGUOUS = "modulo", "contiguous"
FOLDS = 5
"""ProteinGym's number, when no other is asked for."""


def changed(sequences: Sequence[str]) -> np.ndarray | None:
    """Where each sequence differs from the most frequent letters: bool[n, residues].

    None when they are not variants of one protein: of one length, and at least half like those letters each.
    """
    if len(sequences) < 2 or len({len(sequence) for sequence in sequences}) > 1:
        return None
    letters = np.frombuffer("".join(sequences).encode(), np.uint8).reshape(len(sequences), -1)
    wild_type = [np.bincount(column).argmax() for column in letters.T]
    found = letters != np.array(wild_type, np.uint8)
    return found if (found.mean(axis=1) <= 0.5).all() else None


def by_position(places: np.ndarray | None, rows: np.ndarray, scheme: str, folds: int, where: object) -> list[Split]:
    """Folds of positions, each of which is the test side once and the validation side once.

    modulo: a position's number modulo the folds; contiguous: stretches with equally many changed positions. A variant
    is tested in the fold of all its positions, and trained on where none of them is held out; so one that changes
    positions of several folds is tested in none. places: what `changed` returns; rows: those that have a label.
    Raises UserError when the sequences are not variants of one protein, or a fold has none of them.
    """
    if places is None:
        what = f"--split {scheme} is for variants of one protein, with substitutions alone"
        raise UserError(what, where=where, fix="give --split homology, random, or a column")
    folds = folds if folds > 1 else FOLDS
    touched = np.flatnonzero(places[rows].any(axis=0))
    fold_of = np.full(places.shape[1], -1)
    if scheme == MODULO:
        fold_of[touched] = touched % folds
    else:
        for number, stretch in enumerate(np.array_split(touched, folds)):
            fold_of[stretch] = number
    # bool[rows, folds]: whether a variant changes a position of the fold
    touches = np.stack([places[rows][:, fold_of == fold].any(axis=1) for fold in range(folds)], axis=1)
    alone = touches.sum(axis=1) == 1
    empty = np.flatnonzero((touches & alone[:, None]).sum(axis=0) == 0)
    if len(empty):
        what = f"no variant is only in fold {empty[0] + 1} of {folds} by --split {scheme}"
        raise UserError(what, where=where, fix="give fewer --folds, --split random, or a column")
    found = []
    for fold in range(folds):
        other = (fold + 1) % folds
        train, validation, test = (
            ~touches[:, fold] & ~touches[:, other], touches[:, other] & alone, touches[:, fold] & alone,
        )  # fmt: skip
        found.append(Split(f"fold-{fold + 1}", rows[train], rows[validation], rows[test]))
    return found


def groups(places: np.ndarray) -> np.ndarray:
    """Variants that change the same positions are in one group: int64[n]."""
    return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
