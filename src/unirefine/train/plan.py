"""Which samples make up step k, which data-parallel rank computes which of them, and in which micro-batches.

Step k consists of the global sample indices [k * global_batch, (k + 1) * global_batch), whatever the layout. The loss
is a sum over the chosen positions of the whole step divided by their number, so any partition gives the same
gradient; the one below keeps padding small and the ranks equally busy.
"""

import numpy as np


def step_indices(step: int, global_batch: int) -> np.ndarray:
    """Global sample indices of step `step` (0-based): uint64[global_batch]."""
    return np.arange(step * global_batch, (step + 1) * global_batch, dtype=np.uint64)


def share(lengths: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """Positions of the samples that data-parallel rank `rank` of `ranks` computes: int64[n / ranks], longest first.

    lengths: int[n], tokens of each sample of the step; n is a multiple of `ranks`. Samples are ranked by length (ties
    by position) and dealt back and forth, 0 1 2 2 1 0 0 1 2 ..., so that every rank gets nearly the same tokens.
    """
    assert len(lengths) % ranks == 0, (len(lengths), ranks)
    rounds = np.argsort(-lengths.astype(np.int64), kind="stable").reshape(-1, ranks)
    rounds[1::2] = rounds[1::2, ::-1]
    return rounds[:, rank]


def micro_batches(lengths: np.ndarray, budget: int) -> list[slice]:
    """Cut samples, longest first, into micro-batches of at most `budget` padded tokens (one sample at least).

    lengths: int[n], descending. Returns slices that cover 0..n in order.
    """
    slices, start = [], 0
    while start < len(lengths):
        size = max(1, budget // int(lengths[start]))
        slices.append(slice(start, min(start + size, len(lengths))))
        start = slices[-1].stop
    return slices
