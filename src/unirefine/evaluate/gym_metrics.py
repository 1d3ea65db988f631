"""ProteinGym's measures of an assay, and its averages over assays.

As its own script computes them (performance_DMS_benchmarks.py): the values of an assay are rounded to three digits.
They are averaged over the assays of a UniProt entry and selection type, then over the entries of a selection type,
then over the selection types. By MSA depth and taxon: over the assays of an entry, then over entries. By mutation
depth: over the assays of an entry and selection type, then over all of these.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from unirefine.evaluate.correlation import spearman
from unirefine.evaluate.statistics import RESAMPLES, percentiles

METRICS = ("Spearman", "AUC", "MCC", "NDCG", "Top_recall")
DEPTHS = ("1", "2", "3", "4", "5+")
_TOP = 10
"""Per cent of the variants."""

Rows = Sequence[Mapping[str, Any]]
"""Of assays: `uniprot`, `selection`, `msa_depth`, `taxon`, `metrics: {name: value}`, `depths: {depth: metrics}`."""


def measure(
    measured: np.ndarray, score: np.ndarray, positive: np.ndarray | None, cutoff: float
) -> dict[str, float | None]:
    """The METRICS of one assay, or of its variants of one depth; None for one that is not defined.

    measured, score: float64[n], without NaN. positive: bool[n] (DMS_score_bin), None when it is not known. cutoff:
    scores from it on are taken for positive (ProteinGym: the median of the assay's scores).
    """
    found: dict[str, float | None] = {"Spearman": spearman(measured, score), "AUC": None, "MCC": None}
    if positive is not None:
        found |= {"AUC": auc(positive, score), "MCC": mcc(positive, score >= cutoff)}
    return found | {"NDCG": ndcg(measured, score), "Top_recall": top_recall(measured, score)}


def auc(positive: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a positive scores above a negative, ties half. None for one class only."""
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return None
    ranks = pl.Series(score).rank("average").to_numpy()
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def mcc(positive: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews' correlation; 0 where one of the two has one class only."""
    cells = [int((a & b).sum()) for a in (positive, ~positive) for b in (predicted, ~predicted)]
    both, missed, wrong, neither = cells
    below = (both + wrong) * (both + missed) * (neither + wrong) * (neither + missed)  # of whole numbers: no overflow
    return (both * neither - wrong * missed) / math.sqrt(below) if below else 0.0


def ndcg(measured: np.ndarray, score: np.ndarray) -> float | None:
    """Normalised discounted cumulative gain of the best tenth; gains are the measured values scaled to 0..1.

    0 below ten variants, None where all are measured alike. Equal scores are ranked in input order.
    """
    span = np.ptp(measured)
    top = len(measured) * _TOP // 100
    if not span:
        return None if top else 0.0
    gains = (measured - measured.min()) / span
    discounts = 1 / np.log2(np.arange(top) + 2)
    best = [gains[np.argsort(-order, kind="stable")[:top]] @ discounts for order in (score, gains)]
    return float(best[0] / best[1]) if best[1] else 0.0


def top_recall(measured: np.ndarray, score: np.ndarray) -> float | None:
    """Of the variants measured above the 90th percentile, the share that also scores above it; None without any."""
    best, chosen = (values > np.percentile(values, 100 - _TOP) for values in (measured, score))
    return float((best & chosen).sum() / best.sum()) if best.any() else None


def averages(rows: Rows, seed: int = 0) -> dict[str, Any]:
    """By metric `{average, interval, selection: {..}, msa_depth: {..}, taxon: {..}, mutation_depth: {..}}`.

    Also nearest_train: {..} where a row has it: the bin of identity of the train sequence nearest to the wild type.
    interval: 95%, over resampled UniProt entries of each selection type; None for fewer than two entries in each.
    """
    found, near = {}, any("nearest_train" in row for row in rows)
    for metric in METRICS:
        values = [_rounded(row["metrics"].get(metric)) for row in rows]
        by_type = _of_entries(rows, values, "selection")
        types = _means(by_type)
        found[metric] = {
            "average": _mean(types.values()),
            "interval": _interval(by_type, seed),
            "selection": types,
            **{axis: _means(_of_entries(rows, values, axis)) for axis in ("msa_depth", "taxon")},
            "mutation_depth": _by_depth(rows, metric),
            **({"nearest_train": _means(_of_entries(rows, values, "nearest_train"))} if near else {}),
        }
    return found


def _by_depth(rows: Rows, metric: str) -> dict[str, float | None]:
    found = {}
    for depth in DEPTHS:
        values = [_rounded(row["depths"].get(depth, {}).get(metric)) for row in rows]
        pairs = [one for entries in _of_entries(rows, values, "selection").values() for one in entries.values()]
        if (mean := _mean(pairs)) is not None:
            found[depth] = mean
    return found


def _means(groups: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    return {name: _mean(entries.values()) for name, entries in sorted(groups.items())}


def _of_entries(rows: Rows, values: Sequence[float | None], axis: str) -> dict[str, dict[str, float | None]]:
    """By group of an axis, by UniProt entry: the mean over its assays there. Assays without a group are left out."""
    groups: dict[str, dict[str, list[float | None]]] = {}
    for row, value in zip(rows, values, strict=True):
        if row[axis]:
            groups.setdefault(row[axis], {}).setdefault(row["uniprot"], []).append(value)
    return {
        group: {entry: _mean(found) for entry, found in entries.items()} for group, entries in groups.items()
    }  # fmt: skip


def _interval(by_type: Mapping[str, Mapping[str, float | None]], seed: int) -> list[float] | None:
    known = [np.array([value for value in entries.values() if value is not None]) for entries in by_type.values()]
    known = [values for values in known if len(values)]
    if not known or max(map(len, known)) < 2:
        return None
    rng = np.random.Generator(np.random.Philox(seed))
    draws = [
        np.mean([values[rng.integers(0, len(values), len(values))].mean() for values in known])
        for _ in range(RESAMPLES)
    ]
    return percentiles(np.array(draws))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(np.round(value, 3))


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
