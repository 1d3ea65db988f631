"""Compiled sampling: which sequence, which window, which mask. Everything is a pure function of (seed, index).

Random numbers are `hashing.keyed(state, counter)`: nothing is drawn in sequence, so no order of evaluation, batch
split, worker count or crop changes any of them. `state` is the keyed hash of the sample's index (training) or of the
sequence's key (evaluation).
"""

import numba
import numpy as np

from unirefine.core.alphabet import CLS, EOS, FIRST_AMINO_ACID, LAST_AMINO_ACID, MASK, PAD, TOKENS, UNK
from unirefine.core.hashing import keyed
from unirefine.dataset.mapped import copy_tokens, document_range, sequence_span
from unirefine.sampling.permutation import permute

NULL = TOKENS.index("<null_1>")
IGNORE = np.int8(-100)
"""Label of a position that is not chosen, as in PyTorch's cross entropy."""

# What is hashed with the config's seed, one word per purpose, so that purposes do not share random numbers.
_CLUSTERS, _SAMPLES, _FIXED = np.uint64(1), np.uint64(2), np.uint64(3)
# Counters under a state; residue p takes half p % 2 of word _RESIDUES + p // 2.
_MEMBER, _CROP, _RESIDUES, _REPLACEMENT = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(1 << 62)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_VOCABULARY, _FIRST, _KINDS = (
    np.uint64(len(TOKENS)),
    np.uint64(FIRST_AMINO_ACID),
    np.uint64(LAST_AMINO_ACID - FIRST_AMINO_ACID + 1),
)


@numba.njit(cache=True, inline="always")
def _below(word, n):
    """Uniform over 0 .. n - 1 from the upper 32 bits of a random word; n < 2**32, bias below 2**-32."""
    return ((word >> _HALF) * np.uint64(n)) >> _HALF


@numba.njit(cache=True, inline="always")
def _window(state, length, max_tokens):
    """(start, tokens) of the crop of `<cls>` + residues + `<eos>`: uniform over all windows, the last included."""
    whole = length + 2
    if whole <= max_tokens:
        return np.int64(0), np.int64(whole)
    return np.int64(_below(keyed(state, _CROP), whole - max_tokens + 1)), np.int64(max_tokens)


@numba.njit(cache=True, nogil=True)
def train_windows(tables, documents, seed, max_tokens, indices, sequence, start, count, state):
    """Fill sequence, start, count: int64[b] and state: uint64[b] for global sample indices int64[b].

    Returns the number of a file whose index is corrupt, or -1.
    """
    cluster_key, sample_key = keyed(seed, _CLUSTERS), keyed(seed, _SAMPLES)
    for i in range(len(indices)):
        epoch, position = np.uint64(indices[i] // documents), np.uint64(indices[i] % documents)
        document = np.int64(permute(keyed(cluster_key, epoch), position, np.uint64(documents)))
        state[i] = keyed(sample_key, np.uint64(indices[i]))
        first, members = document_range(tables, document)
        sequence[i] = first + np.int64(_below(keyed(state[i], _MEMBER), members))
        _address, length, part = sequence_span(tables, sequence[i])
        if length < 0 or members < 1:
            return part
        start[i], count[i] = _window(state[i], length, max_tokens)
    return -1


@numba.njit(cache=True, nogil=True)
def fixed_windows(tables, seed, keys, max_tokens, sequence, start, count, state):
    """The same for evaluation: sequence int64[b] and their keys uint64[b] are given."""
    fixed_key = keyed(seed, _FIXED)
    for i in range(len(sequence)):
        state[i] = keyed(fixed_key, keys[i])
        _address, length, part = sequence_span(tables, sequence[i])
        if length < 0:
            return part
        start[i], count[i] = _window(state[i], length, max_tokens)
    return -1


@numba.njit(cache=True, nogil=True)
def fill(tables, sequence, start, count, state, offsets, thresholds, amino_acids, tokens, labels):
    """Write sample i's masked tokens and labels at offsets[i] of tokens uint8[t], labels int8[t].

    thresholds: uint64[3], in units of 2**-32: chosen; of these masked; of these masked or random.
    """
    longest = 0
    for i in range(len(count)):
        longest = max(longest, count[i])
    words, chosen = np.empty(longest // 2 + 2, np.uint64), np.empty(longest + 3, np.int64)
    for i in range(len(sequence)):
        address, length, _part = sequence_span(tables, sequence[i])
        row, row_labels = tokens[offsets[i] : offsets[i] + count[i]], labels[offsets[i] : offsets[i] + count[i]]
        row_labels[:] = IGNORE
        # window position w shows residue start + w - 1; w of the first residue is 1 when `<cls>` is inside
        lead = 1 if start[i] == 0 else 0
        first = start[i] + lead - 1
        residues = min(count[i] - lead, length - first)
        if lead:
            row[0] = CLS
        if lead + residues < count[i]:
            row[lead + residues] = EOS
        inner, inner_labels = row[lead : lead + residues], row_labels[lead : lead + residues]
        copy_tokens(address, tables.item_size, first, residues, inner)
        found = _choose(state[i], first, residues, thresholds[0], words, chosen)
        _replace(state[i], first, chosen[:found], thresholds, amino_acids, inner, inner_labels)


@numba.njit(cache=True, nogil=True)
def _choose(state, first, residues, threshold, words, chosen):
    """Which of residues first .. first + residues are to be predicted, by place in the window: chosen[: returned].

    In two loops without branches: the hashes, which the compiler vectorises, and the comparison.
    """
    base, half = np.uint64(first >> 1), first & 1
    count = (residues + half + 1) >> 1
    for i in range(count):
        words[i] = keyed(state, _RESIDUES + base + np.uint64(i))
    found, place = 0, -half
    for i in range(count):
        word = words[i]
        chosen[found] = place
        found += (word & _LOW) < threshold and place >= 0
        chosen[found] = place + 1
        found += (word >> _HALF) < threshold and place + 1 < residues
        place += 2
    return found


@numba.njit(cache=True, nogil=True)
def _replace(state, first, chosen, thresholds, amino_acids, tokens, labels):
    """Label the chosen places and mask, replace or leave them. `<unk>` is no residue to predict."""
    for i in range(len(chosen)):
        place = np.uint64(chosen[i])
        true = tokens[place]
        if true == UNK:
            continue
        word = keyed(state, _REPLACEMENT + np.uint64(first) + place)
        kind = word & _LOW
        drawn = _FIRST + _below(word, _KINDS) if amino_acids else _below(word, _VOCABULARY)
        if drawn == PAD:  # inside a sequence it would mean the end to a model
            drawn = np.uint64(NULL)
        shown = drawn if kind < thresholds[2] else np.uint64(true)
        tokens[place] = MASK if kind < thresholds[1] else shown
        labels[place] = true


@numba.njit(cache=True, nogil=True)
def pad(tokens, labels, count):
    """Fill what follows count[i] tokens in row i of tokens uint8[b, s] and labels int8[b, s]."""
    for i in range(len(count)):
        tokens[i, count[i] :] = PAD
        labels[i, count[i] :] = IGNORE
