"""Baselines that use at most the two neighbours of a residue: unigram, bigram and both neighbours.

They are fit on the train shards. A member of a cluster of n members has weight 1/n, which is how often the sampler
draws it (a uniform cluster, then a uniform member; cropping is ignored). With the weighted counts c, residue a, its
neighbours l and r in the unmasked sequence (`<cls>` and `<eos>` at the ends), and V = 33 tokens:

    unigram          p(a)        = (c(a) + 1) / (c + V)
    bigram           p(a | l)    = (c(l, a) + 1) / (c(l) + V)
    both neighbours  p(a | l, r) = (c(l, a, r) + 1) / (c(l, ., r) + V)

They see the true neighbours of the residue and never the residue itself. A model sees neighbours that may be masked,
and where the masking kept the residue, the residue. So the two are compared only where the residue is hidden.
"""

from dataclasses import dataclass

import numba
import numpy as np

from unirefine.core.alphabet import CLS, EOS, TOKENS
from unirefine.dataset.manifest import UNKNOWN_TOKEN, VERIFY
from unirefine.dataset.mapped import MappedTables, copy_tokens, document_range, sequence_span
from unirefine.errors import UserError

V = len(TOKENS)


@dataclass(frozen=True)
class Baselines:
    """Log-probabilities, float64, indexed by true tokens."""

    unigram: np.ndarray
    """[a]"""
    bigram: np.ndarray
    """[left, a]"""
    neighbours: np.ndarray
    """[left, a, right]"""

    def nll(self, name: str, left: np.ndarray, target: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each target, in nats: float64[n]. left, target, right: uint8[n]."""
        if name == "unigram":
            return -self.unigram[target]
        if name == "bigram":
            return -self.bigram[left, target]
        assert name == "neighbours", name
        return -self.neighbours[left, target, right]


BASELINES = {"neighbours": "both neighbours", "bigram": "bigram", "unigram": "unigram"}
"""Names to print, by key, best first."""
BLOCK = 1 << 16
"""Clusters per call of `count_triples`, between which progress is printed."""


@numba.njit(cache=True, nogil=True)
def _count(tables, first, end, buffer, counts):
    for document in range(first, end):
        sequence, members = document_range(tables, document)
        for member in range(members):
            address, length, part = sequence_span(tables, sequence + member)
            if length < 0:
                return part, -1
            start, left = 0, CLS
            while start < length:
                # read one token more than is counted: the right neighbour of the last
                read = min(len(buffer), length - start)
                counted = read if start + read == length else read - 1
                if not copy_tokens(address, tables.item_size, start, read, buffer):
                    return part, sequence + member
                for i in range(counted):
                    right = buffer[i + 1] if i + 1 < read else EOS
                    counts[left, buffer[i], right] += 1.0 / members
                    left = buffer[i]
                start += counted
    return -1, -1


def count_triples(tables: MappedTables, first: int, end: int, counts: np.ndarray) -> None:
    """Add c(left, residue, right) of clusters `first` to `end` (exclusive) of a side to counts: float64[33, 33, 33].

    Raises UserError when a shard is damaged.
    """
    part, sequence = _count(tables, first, end, np.empty(1 << 16, np.uint8), counts)
    if sequence >= 0:
        raise UserError(f"train: {UNKNOWN_TOKEN.format(sequence)}", fix=VERIFY)
    if part >= 0:
        raise UserError(f"the index of train shard {part} is corrupt", fix=VERIFY)


def fit(counts: np.ndarray) -> Baselines:
    """The three baselines from c(left, residue, right), with add-one smoothing over the 33 tokens."""
    pairs, single = counts.sum(axis=2), counts.sum(axis=(0, 2))
    return Baselines(
        unigram=np.log((single + 1) / (single.sum() + V)),
        bigram=np.log((pairs + 1) / (pairs.sum(axis=1, keepdims=True) + V)),
        neighbours=np.log((counts + 1) / (counts.sum(axis=1, keepdims=True) + V)),
    )
