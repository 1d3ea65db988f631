"""Batches for inference: sequences of like length together, longest first."""

import numpy as np

from unirefine.core.alphabet import CLS, EOS

SPECIAL_TOKENS = 2
"""`<cls>` before and `<eos>` after every sequence."""


def length_buckets(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Indices of sequences, grouped so that a padded batch stays within `batch_tokens`.

    lengths: int[n], in tokens. Returns int64 arrays; every index is in exactly one of them. Sequences are sorted by
    length (longest first, so that what does not fit into memory fails at once), ties in input order; a sequence longer
    than `batch_tokens` is a batch of its own.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def with_special_tokens(sequence: np.ndarray) -> np.ndarray:
    """`<cls>` + residues + `<eos>`: uint8[length + 2]."""
    whole = np.empty(len(sequence) + SPECIAL_TOKENS, np.uint8)
    whole[0], whole[1:-1], whole[-1] = CLS, sequence, EOS
    return whole
