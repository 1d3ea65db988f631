"""Compiled sampling: which sequence, which window, which mask. Everything is a pure function of (seed, index).

Random numbers are `hashing.keyed(state, counter)`: none depends on another, so the order of evaluation, the batch
split, the number of workers and the crop change none of them. `state` is the keyed hash of the sample's index
(training) or of the sequence's key (evaluation).
"""

import numba
import numpy as np

from unirefine.core.alphabet import CLS, EOS, FIRST_AMINO_ACID, LAST_AMINO_ACID, MASK, PAD, TOKENS, UNK
from unirefine.core.hashing import keyed
from unirefine.dataset.mapped import copy_tokens, document_range, file_of, sequence_span
from unirefine.sampling.permutation import permute

NULL = TOKENS.index("<null_1>")
IGNORE = np.int8(-100)
"""Label of a position that is not chosen, as in PyTorch's cross entropy."""

# Hashed with the config's seed: one number per purpose, so that purposes do not share random numbers.
_CLUSTERS, _SAMPLES, _FIXED = np.uint64(1), np.uint64(2), np.uint64(3)
# Counters of a state. Residue p uses half p % 2 of word _RESIDUES + p // 2.
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
    """(start, tokens) of the crop of `<cls>` + residues + `<eos>`: uniform over all windows."""
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
        if members < 1:
            return file_of(tables.first_document, document)
        sequence[i] = first + np.int64(_below(keyed(state[i], _MEMBER), members))
        _address, length, file = sequence_span(tables, sequence[i])
        if length < 0:
            return file
        start[i], count[i] = _window(state[i], length, max_tokens)
    return -1


@numba.njit(cache=True, nogil=True)
def fixed_windows(tables, seed, keys, max_tokens, sequence, start, count, state):
    """As `train_windows`, for evaluation: sequence int64[b] and their keys uint64[b] are given."""
    fixed_key = keyed(seed, _FIXED)
    for i in range(len(sequence)):
        state[i] = keyed(fixed_key, keys[i])
        _address, length, file = sequence_span(tables, sequence[i])
        if length < 0:
            return file
        start[i], count[i] = _window(state[i], length, max_tokens)
    return -1


@numba.njit(cache=True, nogil=True)
def fill(tables, sequence, start, count, state, offsets, thresholds, amino_acids, tokens, labels):
    """Write sample i's masked tokens and labels at offsets[i] of tokens uint8[t], labels int8[t].

    thresholds: uint64[3], in units of 2**-32: chosen; of these masked; of these masked or random. Returns the number of
    a sequence that has something else than the 33 tokens, or -1.
    """
    longest = 0
    for i in range(len(count)):
        longest = max(longest, count[i])
    words, chosen = np.empty(longest // 2 + 2, np.uint64), np.empty(longest + 3, np.int64)
    for i in range(len(sequence)):
        address, length, _file = sequence_span(tables, sequence[i])
        row, row_labels = tokens[offsets[i] : offsets[i] + count[i]], labels[offsets[i] : offsets[i] + count[i]]
        row_labels[:] = IGNORE
        # position w of the window shows residue start + w - 1; the first one is at w = 1 if `<cls>` is inside
        lead = 1 if start[i] == 0 else 0
        first = start[i] + lead - 1
        residues = min(count[i] - lead, length - first)
        if lead:
            row[0] = CLS
        if lead + residues < count[i]:
            row[lead + residues] = EOS
        inner, inner_labels = row[lead : lead + residues], row_labels[lead : lead + residues]
        if not copy_tokens(address, tables.item_size, first, residues, inner):
            return sequence[i]
        found = _choose(state[i], first, residues, thresholds[0], words, chosen)
        _replace(state[i], first, chosen[:found], thresholds, amino_acids, inner, inner_labels)
    return -1


@numba.njit(cache=True, nogil=True)
def _choose(state, first, residues, threshold, words, chosen):
    """Write to chosen[: returned] which of residues first .. first + residues are to be predicted, from 0 for `first`.

    Two loops without branches: the hashes, which the compiler vectorises, and the comparison.
    """
    base, half = np.uint64(first >> 1), first & 1
    count = (residues + half + 1) >> 1
    for i in range(count):
        words[i] = keyed(state, _RESIDUES + base + np.uint64(i))
    found, position = 0, -half
    for i in range(count):
        word = words[i]
        chosen[found] = position
        found += (word & _LOW) < threshold and position >= 0
        chosen[found] = position + 1
        found += (word >> _HALF) < threshold and position + 1 < residues
        position += 2
    return found


@numba.njit(cache=True, nogil=True)
def _replace(state, first, chosen, thresholds, amino_acids, tokens, labels):
    """Label the chosen residues, and mask, replace or leave them. `<unk>` is never predicted."""
    for i in range(len(chosen)):
        position = np.uint64(chosen[i])
        true = tokens[position]
        if true == UNK:
            continue
        word = keyed(state, _REPLACEMENT + np.uint64(first) + position)
        kind = word & _LOW
        drawn = _FIRST + _below(word, _KINDS) if amino_acids else _below(word, _VOCABULARY)
        if drawn == PAD:  # models take it for the end of the sequence
            drawn = np.uint64(NULL)
        shown = drawn if kind < thresholds[2] else np.uint64(true)
        tokens[position] = MASK if kind < thresholds[1] else shown
        labels[position] = true


@numba.njit(cache=True, nogil=True)
def pad(tokens, labels, count):
    """Fill row i of tokens uint8[b, s] and labels int8[b, s] after its count[i] tokens."""
    for i in range(len(count)):
        tokens[i, count[i] :] = PAD
        labels[i, count[i] :] = IGNORE
