"""Bootstrap intervals of perplexities over resampled groups, which are clusters or proteins."""

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_DRAWS = 1 << 20


def perplexity_intervals(nll: np.ndarray, positions: np.ndarray, *, seed: int) -> list[list[float]] | None:
    """95% percentile intervals of exp(sum of nll / sum of positions) over groups drawn with replacement.

    nll: float64[models, groups], summed per group, in nats. positions: int64[groups]. All models share the resamples.
    Returns `[low, high]` per model; None for fewer than two groups with positions, which say nothing about others.
    """
    has = positions > 0
    values = np.concatenate([nll[:, has], positions[None, has]]).astype(np.float64)
    groups = values.shape[1]
    if groups < 2:
        return None
    rng = np.random.Generator(np.random.Philox(seed))
    block = max(1, min(RESAMPLES, _DRAWS // groups))
    means = []
    for first in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - first)
        drawn = rng.integers(0, groups, (count, groups)) + np.arange(count)[:, None] * groups
        weights = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        sums = values @ weights.T
        means.append(sums[:-1] / sums[-1])
    tail = (1 - LEVEL) / 2
    found = np.exp(np.quantile(np.concatenate(means, axis=1), [tail, 1 - tail], axis=1))
    return [[float(low), float(high)] for low, high in found.T]
