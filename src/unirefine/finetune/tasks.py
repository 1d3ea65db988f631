"""What the labels are: numbers, two classes, several classes, sets of classes, or a class for each residue."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unirefine.core.delimited import MISSING, number
from unirefine.errors import UserError
from unirefine.finetune.table import LABELS, Data
from unirefine.terminal import brief

NO_CLASS = tuple(word for word in MISSING if word != "none")
"""What stands for no label among classes: `none` may be a class."""
NO_RESIDUE = "?"
"""In a text with a letter for each residue: no label here."""
MOST_CLASSES = 200
FEW_VALUES = 10
"""So many different whole numbers at most are taken for classes."""
_SEPARATOR = re.compile(r"\s*[;|]\s*")


@dataclass(frozen=True)
class Target:
    """One column of labels of n sequences."""

    name: str
    task: str
    """regression, binary, multiclass, multilabel or residue."""
    classes: list[str]
    """Of all tasks but regression; binary: the second is the positive one."""
    values: list[np.ndarray]
    """A label per sequence, float64[outputs of the label]: the number; the index of the class; 0 or 1 for each class
    (multilabel); the index of the class of each residue. NaN, alone or at a residue, for none."""

    @property
    def outputs(self) -> int:
        """Outputs of the head: 1 number, or one for each class."""
        return max(len(self.classes), 1)

    @property
    def labelled(self) -> np.ndarray:
        """bool[n]: which sequences have a label, or one at any residue."""
        return np.array([not np.isnan(value).all() for value in self.values])

    @property
    def is_residue(self) -> bool:
        """Whether it has a label for each residue."""
        return self.task == "residue"

    def said(self) -> str:
        """The target in words."""
        count = int(self.labelled.sum())
        if self.task == "regression":
            text = "numbers (regression)"
        elif self.task == "residue":
            text = f"a class for each residue, of {len(self.classes)}: {', '.join(self.classes[:8])}"
        else:
            kind = {"binary": "two classes", "multiclass": "classes", "multilabel": "sets of classes"}[self.task]
            more = ", ..." if len(self.classes) > 8 else ""
            text = f"{kind} ({self.task}, {len(self.classes)}): {', '.join(self.classes[:8])}{more}"
        missing = len(self.values) - count
        return f"{self.name}: {text}; {count:,} labelled" + (f", {missing:,} without a label" if missing else "")


def find(data: Data, wanted: Sequence[str], task: str, reserved: Sequence[str]) -> list[Target]:
    """The targets of a table. wanted: columns, or none to choose. reserved: columns that are something else.

    Raises UserError when labels do not fit the task or the sequences, or leave nothing to learn.
    """
    names = list(dict.fromkeys(wanted)) or _choose(data, reserved)
    for name in names:
        if name not in data.columns:
            raise UserError(
                f"no column {name!r}; it has {', '.join(map(repr, data.columns)) or 'none beside the sequences'}",
                where=data.path, fix="check --target",
            )  # fmt: skip
    targets = [_target(data, name, task) for name in names]
    if len({target.is_residue for target in targets}) > 1:
        raise UserError("labels of residues and of whole sequences together", where=data.path, fix="fine-tune twice")
    return targets


def _choose(data: Data, reserved: Sequence[str]) -> list[str]:
    known = [name for name in LABELS if name in data.columns]
    rest = [name for name in data.columns if name not in reserved]
    if known:
        return known[:1]
    if len(rest) == 1:
        return rest
    what = "no column of labels" if not rest else f"several columns could be labels: {', '.join(map(repr, rest))}"
    raise UserError(what, where=data.path, fix="say which, as in --target solubility")


def _target(data: Data, name: str, task: str) -> Target:
    cells = data.columns[name]
    found = _detected(data, name) if task == "auto" else task
    if found == "regression":
        target = Target(name, found, [], [np.array([_number(data, name, row)]) for row in range(len(cells))])
        spread = np.array([value[0] for value in target.values])
        if np.isnan(spread).all() or np.nanmax(spread) == np.nanmin(spread):
            shown = "no number" if np.isnan(spread).all() else f"the same number everywhere ({np.nanmax(spread):g})"
            raise _refuse(data, name, shown, "there is nothing to learn; give another --target")
        return target
    if found == "residue":
        return _residues(data, name)
    if found == "multilabel":
        sets = [None if _none(cell) else {one for one in _SEPARATOR.split(cell) if one} for cell in cells]
        classes = sorted({one for each in sets if each for one in each})
        _check_classes(data, name, classes, 1)
        nothing = np.full(len(classes), np.nan)
        values = [nothing if each is None else np.array([float(one in each) for one in classes]) for each in sets]
        return Target(name, found, classes, values)
    counts = Counter(_class(cell) for cell in cells if not _none(cell))
    classes = sorted(counts, key=_natural)
    _check_classes(data, name, classes, 2)
    if found == "binary" and len(classes) != 2:
        raise _refuse(data, name, f"{len(classes)} classes, and binary has 2", "give --task multiclass")
    index = {one: float(at) for at, one in enumerate(classes)}
    return Target(name, found, classes, [np.array([np.nan if _none(c) else index[_class(c)]]) for c in cells])


def _detected(data: Data, name: str) -> str:
    cells = [(cell, sequence) for cell, sequence in zip(data.columns[name], data.sequences, strict=True)]
    cells = [(cell, sequence) for cell, sequence in cells if not _none(cell)]
    if not cells:
        raise _refuse(data, name, "no label in any row", "give another --target")
    fitting = sum(len(cell) == len(sequence) and len(cell) > 4 for cell, sequence in cells)
    if 2 * fitting >= len(cells):
        return "residue"
    texts = [cell for cell, _sequence in cells]
    try:
        values = [number(text, data.decimal, "") for text in texts]
    except UserError:
        return _words(data, name, texts)
    distinct = {value for value in values if value is not None}
    whole = all(value.is_integer() for value in distinct)
    if distinct <= {0.0, 1.0} or (whole and len(distinct) == 2):
        return "binary"
    return "multiclass" if whole and len(distinct) <= FEW_VALUES and len(values) >= 5 * len(distinct) else "regression"


def _words(data: Data, name: str, texts: list[str]) -> str:
    numbers = sum(_is_number(text, data.decimal) for text in texts)
    if 2 * numbers > len(texts):  # numbers with a mistake among them
        return "regression"
    if any(_SEPARATOR.search(text) for text in texts):
        return "multilabel"
    distinct = len(set(texts))
    if distinct > len(texts) / 2 and distinct > 2:
        what = f"neither numbers nor classes: {distinct:,} different texts in {len(texts):,} rows"
        raise _refuse(data, name, f"{what}, such as {brief(texts[0], 30)!r}", "give another --target")
    return "binary" if distinct == 2 else "multiclass"


def _residues(data: Data, name: str) -> Target:
    cells = data.columns[name]
    for cell, sequence, place in zip(cells, data.sequences, data.rows, strict=True):
        if not _none(cell) and len(cell) != len(sequence):
            text = f"column {name!r} has {len(cell):,} letters for {len(sequence):,} residues"
            fix = f"give one letter for each residue, {NO_RESIDUE!r} where there is no label"
            raise UserError(text, where=place, fix=fix)
    classes = sorted({letter for cell in cells if not _none(cell) for letter in cell} - {NO_RESIDUE})
    _check_classes(data, name, classes, 2)
    index = {one: float(at) for at, one in enumerate(classes)} | {NO_RESIDUE: np.nan}
    values = [
        np.full(len(sequence), np.nan) if _none(cell) else np.array([index[letter] for letter in cell])
        for cell, sequence in zip(cells, data.sequences, strict=True)
    ]
    return Target(name, "residue", classes, values)


def _check_classes(data: Data, name: str, classes: list[str], least: int) -> None:
    if len(classes) < least:
        shown = f"one class only ({brief(classes[0], 30)!r})" if classes else "no label in any row"
        raise _refuse(data, name, shown, "there is nothing to learn; give another --target")
    if len(classes) > MOST_CLASSES:
        shown = f"{len(classes):,} classes; at most {MOST_CLASSES}"
        raise _refuse(data, name, shown, "give --task regression for numbers, or join classes")


def _number(data: Data, name: str, row: int) -> float:
    cell = data.columns[name][row]
    value = number(cell, data.decimal, f"{data.rows[row]}, column {name!r}")
    return np.nan if value is None else value


def _is_number(text: str, delimiter: str) -> bool:
    try:
        number(text, delimiter, "")
    except UserError:
        return False
    return True


def _none(cell: str) -> bool:
    return cell.casefold() in NO_CLASS


def _class(cell: str) -> str:
    """The name of a class: that of 1.0, as tables write whole numbers beside empty cells, is 1."""
    return cell.removesuffix(".0") if re.fullmatch(r"-?[0-9]+\.0", cell) else cell


def _natural(name: str) -> tuple[bool, float, str]:
    is_whole = re.fullmatch(r"-?[0-9]{1,15}", name) is not None
    return (not is_whole, float(name) if is_whole else 0.0, name)


def _refuse(data: Data, name: str, what: str, fix: str) -> UserError:
    return UserError(f"column {name!r}: {what}", where=data.path, fix=fix)
