"""Metrics of weighted rows, and their 95% intervals over resampled groups: clusters, positions or sequences.

A resample draws groups with replacement; a row weighs as often as its group was drawn. So each metric is a function
of whole weights, and what can be sorted or added up is done once. scikit-learn and scipy give the same values (tests).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unirefine.evaluate.statistics import RESAMPLES, percentiles
from unirefine.finetune.tasks import Target

Metric = Callable[[np.ndarray], float]
"""From weights, float64[n], to a value; NaN where it is not defined."""
FEWEST = 10
"""Groups from which on there is an interval."""
PRIMARY = {
    "regression": "spearman", "binary": "auroc", "multiclass": "mcc", "multilabel": "auroc", "residue": "mcc",
}  # fmt: skip
"""By which models are compared; two classes of residues: auroc."""
NAMES = {
    "spearman": "Spearman", "r2": "R²", "rmse": "RMSE", "auroc": "AUROC", "ap": "AP", "mcc": "MCC", "f1": "F1",
}  # fmt: skip
LOWER_IS_BETTER = ("rmse",)


def primary(target: Target) -> str:
    """The metric by which models of a target are compared."""
    return "auroc" if target.is_residue and len(target.classes) == 2 else PRIMARY[target.task]


def metrics_of(target: Target, measured: np.ndarray, predicted: np.ndarray) -> dict[str, Metric]:
    """The metrics of a target. measured: float64[n] (multilabel: [n, classes]); predicted: float64[n] (regression),
    else a score for each class, float64[n, classes].

    AUROC and AP of several classes are means over the classes that have rows of both kinds, F1 is the macro average.
    """
    if target.task == "regression":
        return {
            "spearman": _spearman(measured, predicted),
            "r2": _r2(measured, predicted),
            "rmse": _rmse(measured, predicted),
        }
    if target.task == "multilabel":
        chosen = predicted >= 0.5
        tables = [_confusion(measured[:, at], chosen[:, at], 2) for at in range(measured.shape[1])]
        truth = [measured[:, at] == 1 for at in range(measured.shape[1])]
        return {
            "auroc": _mean([_auroc(truth[at], predicted[:, at]) for at in range(len(truth))]),
            "ap": _mean([_ap(truth[at], predicted[:, at]) for at in range(len(truth))]),
            "mcc": _mean([lambda w, t=table: mcc(t(w)) for table in tables]),
            "f1": _mean([lambda w, t=table: _f1_of(t(w))[1] for table in tables]),
        }
    table = _confusion(measured, predicted.argmax(axis=1), len(target.classes))
    scored = [1] if len(target.classes) == 2 else range(len(target.classes))
    return {
        "auroc": _mean([_auroc(measured == at, predicted[:, at]) for at in scored]),
        "ap": _mean([_ap(measured == at, predicted[:, at]) for at in scored]),
        "mcc": lambda weights: mcc(table(weights)),
        "f1": lambda weights: f1_macro(table(weights)),
    }


def _mean(parts: list[Metric]) -> Metric:
    def mean(weights: np.ndarray) -> float:
        values = np.array([part(weights) for part in parts])
        return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else np.nan

    return mean


def _spearman(measured: np.ndarray, predicted: np.ndarray) -> Metric:
    ranks = [_ranker(measured), _ranker(predicted)]

    def spearman(weights: np.ndarray) -> float:
        x, y = (rank(weights) for rank in ranks)
        total = weights.sum()
        x, y = x - weights @ x / total, y - weights @ y / total
        scale = np.sqrt((weights @ (x * x)) * (weights @ (y * y)))
        return float(weights @ (x * y) / scale) if scale > 0 else np.nan

    return spearman


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean rank of each value among weighted ones."""
    distinct, place = np.unique(values, return_inverse=True)

    def rank(weights: np.ndarray) -> np.ndarray:
        held = np.bincount(place, weights=weights, minlength=len(distinct))
        return (np.cumsum(held) - held / 2)[place]

    return rank


def _r2(measured: np.ndarray, predicted: np.ndarray) -> Metric:
    def r2(weights: np.ndarray) -> float:
        spread = weights @ (measured - weights @ measured / weights.sum()) ** 2
        return float(1 - weights @ (measured - predicted) ** 2 / spread) if spread > 0 else np.nan

    return r2


def _rmse(measured: np.ndarray, predicted: np.ndarray) -> Metric:
    squares = (measured - predicted) ** 2
    return lambda weights: float(np.sqrt(weights @ squares / weights.sum()))


def _sums(truth: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(weight of positives, weight of all) at each distinct score, from the highest down."""
    distinct, place = np.unique(-scores, return_inverse=True)

    def sums(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        every = np.bincount(place, weights=weights, minlength=len(distinct))
        return np.bincount(place, weights=weights * truth, minlength=len(distinct)), every

    return sums


def _auroc(truth: np.ndarray, scores: np.ndarray) -> Metric:
    sums = _sums(truth, scores)

    def auroc(weights: np.ndarray) -> float:
        positive, every = sums(weights)
        negative = every - positive
        pairs = positive.sum() * negative.sum()
        below = negative.sum() - np.cumsum(negative)
        return float(positive @ (below + negative / 2) / pairs) if pairs > 0 else np.nan

    return auroc


def _ap(truth: np.ndarray, scores: np.ndarray) -> Metric:
    sums = _sums(truth, scores)

    def average_precision(weights: np.ndarray) -> float:
        positive, every = sums(weights)
        total = positive.sum()
        if total == 0 or total == every.sum():
            return np.nan
        seen = np.cumsum(every)
        precision = np.divide(np.cumsum(positive), seen, out=np.zeros(len(seen)), where=seen > 0)
        return float(positive @ precision / total)

    return average_precision


def _confusion(measured: np.ndarray, chosen: np.ndarray, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """The table of (measured, chosen) class: float64[classes, classes]."""
    place = measured.astype(np.int64) * classes + chosen.astype(np.int64)
    return lambda weights: np.bincount(place, weights=weights, minlength=classes**2).reshape(classes, classes)


def mcc(table: np.ndarray) -> float:
    """Matthews' correlation of a confusion table, of any number of classes; 0 where one side is constant."""
    total, right = table.sum(), np.trace(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    scale = np.sqrt((total**2 - columns @ columns) * (total**2 - rows @ rows))
    return float((right * total - rows @ columns) / scale) if scale > 0 else 0.0


def _f1_of(table: np.ndarray) -> np.ndarray:
    both = table.sum(axis=0) + table.sum(axis=1)
    return np.divide(2 * np.diag(table), both, out=np.zeros(len(table)), where=both > 0)


def f1_macro(table: np.ndarray) -> float:
    """Mean F1 of the classes that are measured or predicted."""
    there = table.sum(axis=0) + table.sum(axis=1) > 0
    return float(_f1_of(table)[there].mean())


def resamples(groups: np.ndarray, seed: int) -> np.ndarray | None:
    """How often each of g groups is drawn in each resample: int16[RESAMPLES, g]; None for fewer than FEWEST.

    groups: int64[n], the group of each row, 0 <= group < g.
    """
    count = int(groups.max(initial=-1)) + 1
    if count < FEWEST:
        return None
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = np.empty((RESAMPLES, count), np.int16)
    for number in range(RESAMPLES):
        drawn[number] = np.bincount(rng.integers(0, count, count), minlength=count)
    return drawn


def compare(models: Mapping[str, Mapping[str, Metric]], groups: np.ndarray, seed: int, ours: str) -> dict[str, Any]:
    """`{model: {metric: {value, interval, difference, difference_interval}}}`, over rows in `groups`.

    The differences, of all but `ours`, are ours minus the model's in the same resamples. Intervals are None below
    FEWEST groups, values None where they are not defined.
    """
    drawn = resamples(groups, seed)
    one = np.ones(len(groups))
    values = {name: {key: metric(one) for key, metric in metrics.items()} for name, metrics in models.items()}
    samples: dict[str, dict[str, np.ndarray]] = {name: {} for name in models}
    if drawn is not None:
        found = np.empty((len(drawn), sum(map(len, models.values()))))
        for number, times in enumerate(drawn):
            weights = times[groups].astype(np.float64)
            found[number] = [metric(weights) for metrics in models.values() for metric in metrics.values()]
        columns = iter(found.T)
        samples = {name: {key: next(columns) for key in metrics} for name, metrics in models.items()}
    result: dict[str, Any] = {}
    for name in models:
        result[name] = {}
        for key, value in values[name].items():
            row = {"value": _number(value), "interval": _interval(samples[name].get(key))}
            if name != ours:
                row["difference"] = _number(values[ours][key] - value)
                both = samples[ours][key] - samples[name][key] if drawn is not None else None
                row["difference_interval"] = _interval(both)
            result[name][key] = row
    return result


def better(row: Mapping[str, Any], key: str) -> str:
    """`better`, `worse`, `not better` or `unknown`: is ours, by the interval of the difference to this row's model?"""
    interval = row["difference_interval"]
    if interval is None:
        return "unknown"
    low, high = interval if key not in LOWER_IS_BETTER else (-interval[1], -interval[0])
    return "better" if low > 0 else "worse" if high < 0 else "not better"


def _interval(samples: np.ndarray | None) -> list[float] | None:
    if samples is None:
        return None
    finite = samples[np.isfinite(samples)]
    return percentiles(finite) if len(finite) >= RESAMPLES // 2 else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
