"""Padded batches: sequences of similar length together, longest first."""

import numpy as np

from unirefine.core.alphabet import CLS, EOS

SPECIAL_TOKENS = 2
"""`<cls>` before and `<eos>` after every sequence."""


def micro_batches(lengths: np.ndarray, budget: int) -> list[slice]:
    """Cut sequences, longest first, into batches of at most `budget` padded tokens (at least one sequence each).

    lengths: int[n], descending, in tokens. Returns slices that cover 0..n in order.
    """
    slices, start = [], 0
    while start < len(lengths):
        rows = max(1, budget // max(int(lengths[start]), 1))
        slices.append(slice(start, min(start + rows, len(lengths))))
        start = slices[-1].stop
    return slices


def length_buckets(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Indices of sequences in batches of at most `budget` padded tokens: int64 arrays, each index in one of them.

    lengths: int[n], in tokens. The longest sequences come first, so that running out of memory shows at once; equal
    lengths stay in input order. A sequence longer than `budget` is a batch of its own.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    return [order[each] for each in micro_batches(lengths[order], budget)]


def with_special_tokens(sequence: np.ndarray) -> np.ndarray:
    """`<cls>` + residues + `<eos>`: uint8[length + 2]."""
    whole = np.empty(len(sequence) + SPECIAL_TOKENS, np.uint8)
    whole[0], whole[1:-1], whole[-1] = CLS, sequence, EOS
    return whole
