"""Sides of a fine-tuning: by homology, at random, or by a column; once, or in folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unirefine.config import Finetune
from unirefine.errors import UserError
from unirefine.finetune.table import Data

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
MOST_FOLDS = 20


@dataclass(frozen=True)
class Split:
    """Train, validation and test rows of one training."""

    name: str
    """`` for the only one, else `fold-1`, `fold-2`, ..."""
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def by_groups(groups: np.ndarray, rows: np.ndarray, config: Finetune, where: object) -> list[Split]:
    """Splits that keep groups whole. groups: int64[n], of every sequence; rows: those that have a label.

    Larger groups are placed first, each on the side that lacks most of its part; ties by the seed. Raises UserError
    when there are fewer groups than sides.
    """
    shares = (
        np.full(config.folds, 1 / config.folds)
        if config.folds > 1
        else np.array([1 - config.validation - config.test, config.validation, config.test])
    )
    numbers, sizes = np.unique(groups[rows], return_counts=True)
    if len(numbers) < len(shares):
        single = len(numbers) == 1 != len(rows)
        kind = "sequences" if len(numbers) == len(rows) else f"cluster{'' if single else 's'} of similar sequences"
        fix = "give more, or fewer folds"
        if kind != "sequences":
            fix = "name a column of sides or folds with --split, or give --split random to see what a random one says"
        needed = f"{len(shares)} folds" if config.folds > 1 else "train, validation and test"
        raise UserError(f"{len(numbers)} {kind} for {needed}", where=where, fix=fix)
    order = np.random.Generator(np.random.Philox(config.seed)).permutation(len(numbers))
    order = order[np.argsort(-sizes[order], kind="stable")]
    wanted = shares * len(rows)
    held = np.zeros(len(shares))
    members = np.zeros(len(shares), int)
    side = np.empty(len(numbers), np.int64)
    for done, at in enumerate(order):
        empty = np.flatnonzero(members == 0)
        if len(order) - done <= len(empty):  # the rest goes to the sides that have none
            chosen = int(empty[0])
        else:
            fits = np.flatnonzero(held + sizes[at] <= np.ceil(wanted) + 1e-9)
            lack = (wanted - held) / wanted
            chosen = int(fits[np.argmax(lack[fits])]) if len(fits) else int(np.argmax(wanted - held))
        side[at], held[chosen], members[chosen] = chosen, held[chosen] + sizes[at], members[chosen] + 1
    of = dict(zip(numbers.tolist(), side.tolist(), strict=True))
    return _splits(np.array([of[group] for group in groups[rows].tolist()]), rows, config.folds)


def _splits(side: np.ndarray, rows: np.ndarray, folds: int) -> list[Split]:
    if folds == 1:
        return [Split("", *(rows[side == number] for number in range(3)))]
    return [
        Split(
            f"fold-{fold + 1}",
            rows[(side != fold) & (side != (fold + 1) % folds)],
            rows[side == (fold + 1) % folds],
            rows[side == fold],
        )
        for fold in range(folds)
    ]


def by_column(data: Data, rows: np.ndarray, config: Finetune) -> list[Split]:
    """Splits that a column states: sides, or folds of which each is the test side once.

    Without a validation side, part of the train side is drawn for it. Raises UserError for what is neither.
    """
    name = config.split_by
    if name not in data.columns:
        has = ", ".join(map(repr, data.columns)) or "no other columns"
        raise UserError(
            f"no column {name!r} for --split; it has {has}", where=data.path, fix="homology, random, or a column"
        )
    cells = [data.columns[name][row].casefold() for row in rows]
    empty = next((row for row, cell in zip(rows, cells, strict=True) if not cell), None)
    if empty is not None:
        raise UserError(f"column {name!r} is empty", where=data.rows[empty], fix="give each row a side or a fold")
    if set(cells) <= set(_WORDS):
        return [_sides(np.array([_WORDS[cell] for cell in cells]), rows, name, config, data)]
    folds = sorted(set(cells))
    if not 3 <= len(folds) <= MOST_FOLDS:
        what = f"column {name!r} has {len(folds)} different values"
        fix = f"give train, validation and test, or 3 to {MOST_FOLDS} folds"
        raise UserError(what, where=data.path, fix=fix)
    side = np.array([folds.index(cell) for cell in cells])
    return _splits(side, rows, len(folds))


def _sides(sides: np.ndarray, rows: np.ndarray, name: str, config: Finetune, data: Data) -> Split:
    for needed in (TRAIN, TEST):
        if needed not in sides:
            raise UserError(
                f"column {name!r} has no {needed} rows with a label", where=data.path, fix="name them in it"
            )
    if VALIDATION not in sides:
        train = np.flatnonzero(sides == TRAIN)
        rng = np.random.Generator(np.random.Philox(config.seed))
        if len(train) < 2:
            raise UserError(f"column {name!r} has one train row", where=data.path, fix="name more of them")
        count = min(max(1, round(config.validation * len(train))), len(train) - 1)
        sides = sides.copy().astype(object)
        sides[rng.choice(train, count, replace=False)] = VALIDATION
    return Split("", *(rows[sides == side] for side in (TRAIN, VALIDATION, TEST)))


def sides_of(splits: Sequence[Split], count: int) -> list[str]:
    """The side of each of `count` rows; in folds `fold-N` where it is tested; `` for a row without a label."""
    sides = [""] * count
    for split in splits:
        parts = [(split.test, split.name or TEST)]
        if not split.name:
            parts += [(split.train, TRAIN), (split.validation, VALIDATION)]
        for rows, side in parts:
            for row in rows:
                sides[row] = side
    return sides
