"""Frozen probes: how much of a label can a linear model read from vectors, on proteins unlike those of train?

Ridge regression for numbers (Spearman's correlation), logistic regression for categories (Matthews' correlation), on
the mean over residues. The test proteins are a column's, or a fifth of the rows in whole groups of similar proteins.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.core.alphabet import AMINO_ACIDS, encode
from unirefine.core.delimited import MISSING, Table, number, read_table
from unirefine.errors import UserError
from unirefine.evaluate.correlation import ranks, spearman
from unirefine.evaluate.statistics import RESAMPLES, percentiles
from unirefine.model.batching import length_buckets, with_special_tokens
from unirefine.model.inference import Engine, not_finite
from unirefine.similarity.linkage import search_all, single_linkage

IDENTITY, COVERAGE = 0.3, 0.8
"""Proteins of a pair above both, of both sequences, are on one side."""
TEST = 0.2
LONGEST = 1022
FEWEST = 10
"""Rows of train, and of test."""
_FEWEST_NUMBERS = 10
"""A column of numbers with fewer distinct values is taken for categories."""


@dataclass(frozen=True)
class Probe:
    """A task."""

    name: str
    """Of the file and the column."""
    sequences: tuple[str, ...]
    labels: np.ndarray
    """float64[n], or int64[n] of classes."""
    classes: tuple[str, ...]
    """Of categories; none for numbers."""
    test: np.ndarray
    """bool[n]."""
    group: np.ndarray
    """int64[n]: cluster of each row, over which intervals are made; the row itself where a column gave the split."""
    split: str
    """How train and test were divided, in words."""

    @property
    def measure(self) -> str:
        """The name of the score."""
        return "MCC" if self.classes else "Spearman"


def read_probe(text: str, split: str | None, output: Path, *, threads: int = 1) -> Probe:
    """The task of `TABLE:COLUMN`. split: a column with `train` and `test`; None: by homology. Raises UserError."""
    head, _, column = text.rpartition(":")
    if not head or not column:
        raise UserError(f"--probe {text}: no column", fix="give TABLE:COLUMN, as in stability.csv:score")
    path = Path(head)
    table = read_table(path, "--probe")
    sequence, label = _column(table, "sequence"), _column(table, column)
    sides = None if split is None else _column(table, split)
    rows = [row for row in table.rows[1:] if len(row.cells) > max(sequence, label)]
    rows = [row for row in rows if row.cells[label].casefold() not in MISSING]
    sequences = []
    for row in rows:
        one = row.cells[sequence].upper().rstrip("*")
        if not one or not one.isascii() or not one.isalpha():
            raise UserError("no sequence of letters", where=table.where(row))
        sequences.append(one)
    labels, classes = _labels(table, rows, label)
    if sides is None:
        group = _clusters(sequences, output, threads)
        test = _whole_clusters(sequences, group)
        how = f"{TEST:.0%} of the rows in whole clusters at {IDENTITY:.0%} identity"
    else:
        words = [row.cells[sides].casefold() if sides < len(row.cells) else "" for row in rows]
        kept = [i for i, word in enumerate(words) if word in ("train", "test")]
        sequences, labels = [sequences[i] for i in kept], labels[kept]
        test, group = np.array([words[i] == "test" for i in kept], bool), np.arange(len(kept))
        how = f"column {split}"
    probe = Probe(f"{path.stem}:{column}", tuple(sequences), labels, classes, test, group, how)
    for side, rows_of in (("train", ~test), ("test", test)):
        if rows_of.sum() < FEWEST or len(np.unique(labels[rows_of])) < 2:
            raise UserError(
                f"{int(rows_of.sum())} rows with {len(np.unique(labels[rows_of]))} different labels in {side}",
                where=path, fix=f"give at least {FEWEST} rows with two labels on each side; split: {how}",
            )  # fmt: skip
    return probe


def _column(table: Table, name: str) -> int:
    header = [cell.casefold() for cell in table.rows[0].cells] if table.rows else []
    if header.count(name.casefold()) != 1:
        what = "two columns" if name.casefold() in header else "no column"
        listed = ", ".join(table.rows[0].cells) if table.rows else "nothing"
        raise UserError(f"{what} {name!r}", where=table.path, fix=f"the first line has {listed}")
    return header.index(name.casefold())


def _labels(table: Table, rows: Sequence[Any], label: int) -> tuple[np.ndarray, tuple[str, ...]]:
    texts = [row.cells[label] for row in rows]
    try:
        values = [number(text, table.delimiter, "") for text in texts]
    except UserError:
        values = []
    if values and len(set(values)) >= _FEWEST_NUMBERS:
        return np.array(values, np.float64), ()
    classes = tuple(sorted(set(texts)))
    return np.array([classes.index(text) for text in texts], np.int64), classes


def _clusters(sequences: Sequence[str], output: Path, threads: int) -> np.ndarray:
    """Group of each row, int64[n]: no pair of different groups is similar."""
    pairs = search_all(sequences, output / "probe", "evaluate suite", threads=threads)
    return single_linkage(sequences, pairs, IDENTITY, COVERAGE)


def _whole_clusters(sequences: Sequence[str], group: np.ndarray) -> np.ndarray:
    """Which rows are test's: clusters in the order of the smallest hash in them, until there are enough."""
    sizes: Counter[int] = Counter(group.tolist())
    hashes: dict[int, bytes] = {}
    for one, sequence in zip(group.tolist(), sequences, strict=True):
        digest = hashlib.sha256(sequence.encode()).digest()
        hashes[one] = min(digest, hashes.get(one, digest))
    order = sorted(sizes, key=lambda one: hashes[one])
    chosen, rows = set(), 0
    for one in order:
        if rows + sizes[one] <= TEST * len(sequences) or not chosen:
            chosen.add(one)
            rows += sizes[one]
    return np.array([int(one) in chosen for one in group])


def vectors(engine: Engine, sequences: Sequence[str], batch_tokens: int) -> np.ndarray:
    """Mean over the first LONGEST residues of each protein: float64[n, h]. Raises UserError when not finite."""
    samples = [with_special_tokens(encode(sequence[:LONGEST])) for sequence in sequences]
    found = np.zeros((len(samples), engine.hidden))
    for batch in length_buckets(np.array([len(sample) for sample in samples]), batch_tokens):
        bounds = np.concatenate([[0], np.cumsum([len(samples[i]) for i in batch])])
        states = engine.states(np.concatenate([samples[i] for i in batch]), bounds).numpy()
        for i, start, end in zip(batch, bounds, bounds[1:], strict=False):
            found[i] = states[start + 1 : end - 1].mean(axis=0, dtype=np.float64)
            if not np.isfinite(found[i]).all():
                raise not_finite(sequences[i][:20])
    return found


def composition(sequences: Sequence[str]) -> np.ndarray:
    """What needs no model: the share of each amino acid, and the logarithm of the length: float64[n, 21]."""
    counts = np.array([[sequence.count(letter) for letter in AMINO_ACIDS] for sequence in sequences], np.float64)
    lengths = np.array([len(sequence) for sequence in sequences], np.float64)
    return np.column_stack([counts / lengths[:, None], np.log(lengths)])


def judge(probe: Probe, features: np.ndarray) -> dict[str, Any]:
    """`{measure, value, interval}` on the test rows of a linear model that was fitted on the train rows.

    features: float64[n, f]. interval: 95%, over resampled clusters of test.
    """
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear: Any = LogisticRegression(max_iter=1000) if probe.classes else RidgeCV(np.logspace(-2, 4, 13))
    fitted = make_pipeline(StandardScaler(), linear).fit(features[~probe.test], probe.labels[~probe.test])
    predicted, truth = fitted.predict(features[probe.test]), probe.labels[probe.test]
    value = matthews(truth, predicted) if probe.classes else spearman(truth, predicted)
    return {"measure": probe.measure, "value": value, "interval": _interval(probe, truth, predicted)}


def _interval(probe: Probe, truth: np.ndarray, predicted: np.ndarray) -> list[float] | None:
    """Of a score, over resampled clusters of test; ranks are those of all rows. None below FEWEST clusters."""
    _names, group = np.unique(probe.group[probe.test], return_inverse=True)
    clusters = int(group.max()) + 1
    if clusters < FEWEST:
        return None
    if probe.classes:
        classes = len(probe.classes)
        terms = np.eye(classes * classes)[truth * classes + predicted]
    else:
        x, y = (values - values.mean() for values in (ranks(truth), ranks(predicted)))
        terms = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)
    of_cluster = np.zeros((clusters, terms.shape[1]))
    np.add.at(of_cluster, group, terms)
    rng = np.random.Generator(np.random.Philox(0))
    weights = np.stack([np.bincount(rng.integers(0, clusters, clusters), minlength=clusters) for _ in range(RESAMPLES)])
    sums = weights @ of_cluster
    if probe.classes:
        return percentiles(np.array([_matthews(cells.reshape(classes, classes)) for cells in sums]))
    mx, my, xx, yy, xy = (sums[:, 1:] / sums[:, :1]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (xy - mx * my) / np.sqrt((xx - mx * mx) * (yy - my * my))
    found = found[np.isfinite(found)]
    return percentiles(found) if len(found) else None


def matthews(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews' correlation of any number of classes; 0 where truth or prediction has one class only."""
    classes = int(max(truth.max(), predicted.max())) + 1
    return _matthews(np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes))


def _matthews(cells: np.ndarray) -> float:
    """cells: [true class, predicted class]."""
    true, guessed, total = cells.sum(axis=1), cells.sum(axis=0), cells.sum()
    below = np.sqrt(float(total**2 - true @ true) * float(total**2 - guessed @ guessed))
    return float((np.trace(cells) * total - true @ guessed) / below) if below else 0.0
