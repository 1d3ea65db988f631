"""Rank correlations of scores with measured values, and those of scores that need no model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scoring_matrices import ScoringMatrix

from unirefine.evaluate.mutants import Variant
from unirefine.evaluate.statistics import RESAMPLES, percentiles

FEWEST = 10
"""Values from which on there is an interval."""


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation, with mean ranks for ties; None for fewer than 2 values or a constant array."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def spearman_interval(first: np.ndarray, second: np.ndarray) -> list[float] | None:
    """Its 95% interval, `[low, high]`, over resampled variants; None below FEWEST values or for a constant array.

    The ranks are those of all values; they are not made again for each resample.
    """
    if len(first) < FEWEST or spearman(first, second) is None:
        return None
    x, y = (values - values.mean() for values in (ranks(first), ranks(second)))
    terms = np.stack([x, y, x * x, y * y, x * y])
    rng = np.random.Generator(np.random.Philox(0))
    found = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x))
        mx, my, xx, yy, xy = terms @ weights / len(x)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[resample] = (xy - mx * my) / np.sqrt((xx - mx * mx) * (yy - my * my))
    return percentiles(found[np.isfinite(found)])


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value from 1, ties at their mean: float64[n]."""
    return pl.Series(values).rank("average").to_numpy()


def without_model(variants: Sequence[Variant]) -> dict[str, np.ndarray]:
    """Scores that know nothing of the protein, float64[n] each; NaN where one is not for this variant.

    `blosum62`: its sum over the substitutions, minus that of no change. `fewer_substitutions`: minus their number.
    `longer`: the length. Where one of them does as well as the model, the model's score shows no more than that.
    """
    matrix = ScoringMatrix.from_name("BLOSUM62")
    at = {letter: i for i, letter in enumerate(matrix.alphabet)}
    table = np.array(matrix)
    scores = {name: np.full(len(variants), np.nan) for name in ("blosum62", "fewer_substitutions", "longer")}
    for i, variant in enumerate(variants):
        scores["longer"][i] = len(variant.edited.sequence)
        changes = variant.edited.changes
        if changes is None:
            continue
        scores["fewer_substitutions"][i] = -len(changes)
        if all(change.wild_type in at and change.mutant in at for change in changes):
            scores["blosum62"][i] = sum(
                table[at[change.wild_type], at[change.mutant]] - table[at[change.wild_type], at[change.wild_type]]
                for change in changes
            )
    return scores


def correlations(scores: Mapping[str, np.ndarray], measured: np.ndarray) -> dict[str, dict[str, Any]]:
    """`{spearman, interval, variants}` of each score with the measured values, over the variants that have both.

    scores, measured: float64[n], NaN for none.
    """
    found = {}
    for name, values in scores.items():
        both = ~np.isnan(measured) & ~np.isnan(values)
        pair = values[both], measured[both]
        found[name] = {"spearman": spearman(*pair), "interval": spearman_interval(*pair), "variants": int(both.sum())}
    return found
