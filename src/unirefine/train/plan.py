"""Which samples make up step k, and how they are divided among data-parallel ranks and micro-batches.

Steps take the samples 0, 1, 2, ... in order, either a fixed number of them or as many as fit into a number of tokens.
This does not depend on the layout. The loss of a step is the mean over all its chosen positions, so every division
gives the same gradient; the one below keeps padding small and gives the ranks equal work.
"""

from collections.abc import Callable, Iterator

import numpy as np

from unirefine.config import Train


def steps(lengths_of: Callable[[np.ndarray], np.ndarray], config: Train, first: int) -> Iterator[np.ndarray]:
    """Yield the global sample indices int64[n] of one step after another, without end.

    lengths_of: `SampleStream.lengths_of`, used with `global_tokens` only. first: index of the first sample.
    """
    while True:
        count = config.global_batch or _fitting(lengths_of, first, config.global_tokens, config.sampling.max_tokens)
        yield np.arange(first, first + count, dtype=np.int64)
        first += count


def _fitting(lengths_of: Callable[[np.ndarray], np.ndarray], first: int, tokens: int, longest: int) -> int:
    """The largest number of samples from `first` on that have at most `tokens` tokens together."""
    total = count = 0
    block = tokens // longest  # that many always fit
    while True:
        ends = total + np.cumsum(lengths_of(np.arange(first + count, first + count + block)), dtype=np.int64)
        fit = int(np.searchsorted(ends, tokens, side="right"))
        if fit < block:
            return count + fit
        total, count = int(ends[-1]), count + block


def share(lengths: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """Positions of the samples of data-parallel rank `rank` of `ranks`, longest first: int64[about n / ranks].

    lengths: int[n], tokens of each sample. Samples are sorted by length (ties by position) and assigned to the ranks
    back and forth, 0 1 2 2 1 0 0 1 2 ..., so that every rank gets nearly the same number of tokens.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    rounds = np.pad(order, (0, -len(order) % ranks), constant_values=-1).reshape(-1, ranks)
    rounds[1::2] = rounds[1::2, ::-1]
    mine = rounds[:, rank]
    return mine[mine >= 0]


def packs(slots: np.ndarray, budget: int) -> list[slice]:
    """Cut samples, in order, into packed micro-batches of at most `budget` tokens (one sample at least).

    slots: int[n], tokens that each sample takes. Returns slices that cover 0..n in order.
    """
    slices, start = [], 0
    ends = np.cumsum(slots)
    while start < len(slots):
        before = int(ends[start] - slots[start])
        stop = max(int(np.searchsorted(ends, before + budget, side="right")), start + 1)
        slices.append(slice(start, stop))
        start = stop
    return slices
