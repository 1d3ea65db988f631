"""A baseline that knows which residues it sees of the same protein, but not their order.

Proteins differ in composition, so a model that only counts what it sees beats the frequencies of all proteins. With
seen(a) the residues a among those of the window that are not chosen, seen their number, and q(a) the unigram:

    p(a) = (seen(a) + k q(a)) / (seen + k)

k, the weight of q in residues, is fitted on train sequences: the one of a grid with the highest likelihood of each
residue given all the others of its sequence.
"""

import numba
import numpy as np

from unirefine.core.alphabet import TOKENS
from unirefine.dataset.manifest import UNKNOWN_TOKEN, VERIFY
from unirefine.dataset.mapped import MappedTables, copy_tokens, document_range, sequence_span
from unirefine.errors import UserError

CLUSTERS = 20_000
"""Train clusters on which k is fitted, at most: the first ones, each by its first member."""
WEIGHTS = 2.0 ** np.arange(0, 18, 0.5)
"""Values of k that are tried."""


@numba.njit(cache=True, nogil=True)
def _add_likelihoods(tables, documents, buffer, frequencies, weights, total):
    for document in range(documents):
        sequence, members = document_range(tables, document)
        if members < 1:
            continue
        address, length, part = sequence_span(tables, sequence)
        if length < 0:
            return part, -1
        read = min(length, len(buffer))
        if not copy_tokens(address, tables.item_size, 0, read, buffer):
            return part, sequence
        counts = np.zeros(len(frequencies))
        for i in range(read):
            counts[buffer[i]] += 1
        for token in range(len(counts)):
            if counts[token] > 0 and read > 1:
                for i in range(len(weights)):
                    others = counts[token] - 1 + weights[i] * frequencies[token]
                    total[i] += counts[token] * np.log(others / (read - 1 + weights[i]))
    return -1, -1


def fit_weight(tables: MappedTables, documents: int, unigram: np.ndarray, longest: int) -> float:
    """k for sequences of at most `longest` residues, which longer ones are cut to.

    unigram: float64[33], log-probabilities. Raises UserError when a train shard is damaged.
    """
    total = np.zeros(len(WEIGHTS))
    buffer = np.empty(longest, np.uint8)
    part, sequence = _add_likelihoods(tables, min(documents, CLUSTERS), buffer, np.exp(unigram), WEIGHTS, total)
    if sequence >= 0:
        raise UserError(f"train: {UNKNOWN_TOKEN.format(sequence)}", fix=VERIFY)
    if part >= 0:
        raise UserError(f"the index of train shard {part} is corrupt", fix=VERIFY)
    return float(WEIGHTS[total.argmax()])


def nll(unigram: np.ndarray, weight: float, target: np.ndarray, alike: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each target in nats: float64[n].

    unigram: float64[33], log-probabilities. target: uint8[n]. alike, seen: int[n], how many of the residues seen in the
    window are the target, and how many there are.
    """
    assert len(unigram) == len(TOKENS)
    return -np.log((alike + weight * np.exp(unigram[target])) / (seen + weight))
