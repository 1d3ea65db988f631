"""From negative log-likelihoods at positions to perplexities, intervals and breakdowns."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unirefine.core.resampling import LEVEL, RESAMPLES, perplexity_intervals


@dataclass(frozen=True)
class Sums:
    """Negative log-likelihood summed per group (validation sequence or cluster)."""

    nll: np.ndarray
    """float64[groups], in nats."""
    positions: np.ndarray
    """int64[groups]: positions that were added up."""


def sum_by(group: np.ndarray, nll: np.ndarray, groups: int) -> Sums:
    """Sums per group. group: int[n], 0 <= group < groups, and nll: float[n], one of each per position."""
    return Sums(
        np.bincount(group, weights=np.asarray(nll, np.float64), minlength=groups), np.bincount(group, minlength=groups)
    )


def perplexity(nll_sum: float, positions: float) -> float | None:
    """exp(nll_sum / positions), None without positions."""
    return float(np.exp(nll_sum / positions)) if positions else None


def bootstrap(models: Mapping[str, Sums], *, seed: int, reference: str | None = None) -> dict[str, dict[str, Any]]:
    """Each model's perplexity with its 95% percentile interval over resampled groups; with a reference, ratios.

    Groups (clusters) are resampled, not positions, because only groups are independent. All models share the resamples
    and the positions, so the ratio reference / model is a paired comparison: `reference` is better than a model when
    the upper end of the ratio's interval is below 1.

    Returns per model `{residues: n, perplexity: x, interval: [low, high]}` and, for all but the reference, `ratio: x,
    ratio_interval: [low, high]`. Without positions there are 0 residues and every number is None.
    """
    names = list(models)
    positions = models[names[0]].positions
    for name in names:
        assert np.array_equal(models[name].positions, positions), f"{name} was scored at other positions"
    found = int(positions.sum())
    if not found:
        nothing = {"residues": 0, "perplexity": None, "interval": None}
        no_ratio = {"ratio": None, "ratio_interval": None}
        return {name: nothing | (no_ratio if reference not in (None, name) else {}) for name in names}
    groups = len(positions)
    values = np.stack([models[name].nll for name in names] + [positions.astype(np.float64)])
    rng = np.random.Generator(np.random.Philox(seed))
    draws = np.empty((RESAMPLES, len(names) + 1))
    for resample in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        draws[resample] = values @ weights
    with np.errstate(divide="ignore", invalid="ignore"):
        means = draws[:, :-1] / draws[:, -1:]
    means = means[np.isfinite(means).all(axis=1)]  # a resample of a tiny set may have no position
    total = values.sum(axis=1)
    result: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(names):
        result[name] = {
            "residues": found,
            "perplexity": perplexity(total[column], found),
            "interval": percentiles(np.exp(means[:, column])),
        }
        if reference not in (None, name):
            base = names.index(reference)
            result[name]["ratio"] = float(np.exp((total[base] - total[column]) / total[-1]))
            result[name]["ratio_interval"] = percentiles(np.exp(means[:, base] - means[:, column]))
    return result


def percentiles(samples: np.ndarray) -> list[float]:
    """The middle 95% of samples: `[low, high]`."""
    tail = (1 - LEVEL) / 2
    return [float(value) for value in np.quantile(samples, [tail, 1 - tail])]


def breakdown(
    bins: np.ndarray,
    labels: Sequence[str],
    sequence: np.ndarray | None,
    nll: Mapping[str, np.ndarray],
    *,
    group: np.ndarray,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per bin with a position: `{bin, sequences, residues, <model>: perplexity, ..., clusters, intervals}`.

    bins: int[n], bin of each position, negative for none. sequence: int[n], sequence of each position, or None
    when bins do not divide sequences (but residues). nll: float[n] per model. group: int[n], cluster of each position;
    those of a bin are resampled for `intervals`, `{<model>: [low, high]}` or None for a bin of one cluster.
    """
    inside = bins >= 0
    residues = np.bincount(bins[inside], minlength=len(labels))
    sums = {
        name: np.bincount(bins[inside], weights=values[inside], minlength=len(labels)) for name, values in nll.items()
    }
    if sequence is not None:
        several = int(sequence.max(initial=0)) + 1
        pairs = np.unique(bins[inside].astype(np.int64) * several + sequence[inside])
        sequences = np.bincount(pairs // several, minlength=len(labels))
    rows = []
    for index, label in enumerate(labels):
        if not residues[index]:
            continue
        row: dict[str, Any] = {"bin": label}
        if sequence is not None:
            row["sequences"] = int(sequences[index])
        row["residues"] = int(residues[index])
        row |= {name: perplexity(sums[name][index], residues[index]) for name in nll}
        rows.append(row | _intervals(bins == index, group, nll, seed))
    return rows


def _intervals(where: np.ndarray, group: np.ndarray, nll: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """`{clusters, intervals}` of the positions of one bin. where: bool[n]."""
    owners, owner = np.unique(group[where], return_inverse=True)
    sums = np.stack([np.bincount(owner, weights=values[where]) for values in nll.values()])
    found = perplexity_intervals(sums, np.bincount(owner), seed=seed)
    return {"clusters": len(owners), "intervals": found and dict(zip(nll, found, strict=True))}


def edge_bins(values: np.ndarray, edges: Sequence[float]) -> tuple[np.ndarray, list[str]]:
    """Bin of each value: int64[n], and the bins' labels, like `50-99` (whole numbers) or `0.3-0.4`.

    values: float[n]; NaN has bin -1. edges: ascending; bin i is edges[i] <= value < edges[i + 1], the last is open.
    """
    whole = all(float(edge).is_integer() for edge in edges)
    labels = []
    for low, high in itertools.zip_longest(edges, edges[1:]):
        if high is None:
            labels.append(f"{low:g} and more")
        elif whole:
            labels.append(f"{low:g}-{high - 1:g}" if high - 1 > low else f"{low:g}")
        else:
            labels.append(f"{low:g}-{high:g}")
    values = np.asarray(values, np.float64)
    bins = np.searchsorted(np.asarray(edges, np.float64), values, side="right") - 1
    return np.where(np.isnan(values), -1, bins), labels
