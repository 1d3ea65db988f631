"""Batches of masked samples: training by global sample index, evaluation by sequence number."""

from typing import NamedTuple, Protocol

import numpy as np

from unirefine.config import Sampling
from unirefine.dataset.manifest import UNKNOWN_TOKEN, VERIFY
from unirefine.dataset.mapped import MappedTables
from unirefine.errors import UserError
from unirefine.sampling.kernels import fill, fixed_windows, pad, train_windows


class Batch(NamedTuple):
    """b samples, padded to the same length s."""

    tokens: np.ndarray
    """uint8[b, s]; `<pad>` (1) after each sample and nowhere else: a `<pad>` drawn at random becomes `<null_1>`."""
    labels: np.ndarray
    """int8[b, s]: the true token where it is to be predicted, -100 elsewhere."""
    lengths: np.ndarray
    """int32[b]: tokens of each sample, `<cls>` and `<eos>` included where they are inside the crop."""


class PackedBatch(NamedTuple):
    """b samples end to end, t tokens in all."""

    tokens: np.ndarray
    """uint8[t]"""
    labels: np.ndarray
    """int8[t]"""
    cu_seqlens: np.ndarray
    """int32[b + 1]: where each sample starts, then t."""


class Windows(NamedTuple):
    """Which tokens each sample has."""

    sequence: np.ndarray
    """int64[b]: sequence number within the side."""
    start: np.ndarray
    """int64[b]: first token of the window in `<cls>` + residues + `<eos>`."""
    length: np.ndarray
    """int64[b]: tokens of the window."""
    state: np.ndarray
    """uint64[b]: key of the sample's random numbers."""


class Source(Protocol):
    """What a stream reads: `dataset.Side`, for example."""

    documents: int
    sequences: int
    tables: MappedTables

    def keys(self, sequences: np.ndarray) -> np.ndarray:
        """Keys of sequences int64[b]: uint64[b]."""
        ...


class _Stream:
    def __init__(self, side: Source, config: Sampling) -> None:
        self.side, self.config = side, config
        chosen, masked = config.mask_fraction, config.mask_token_fraction
        fractions = (chosen, masked, masked + config.random_token_fraction)
        self._thresholds = np.array([round(fraction * 2**32) for fraction in fractions], np.uint64)
        self._amino_acids = config.random_tokens == "amino_acids"

    def windows(self, indices: np.ndarray) -> Windows:
        """Sequence and crop window of each sample."""
        raise NotImplementedError

    def lengths_of(self, indices: np.ndarray) -> np.ndarray:
        """Tokens of each sample of `batch(indices)`: int32[b]. Reads only the index, not the tokens."""
        return self.windows(indices).length.astype(np.int32)

    def batch(self, indices: np.ndarray, *, width: int | None = None, multiple: int = 1) -> Batch:
        """Samples as padded rows: one for each of indices int64[b], in that order.

        s is `width` or the longest sample, rounded up to a multiple of `multiple`. Raises ValueError when a sample is
        longer than `width`, IndexError for an index out of range.
        """
        windows = self.windows(indices)
        longest = int(windows.length.max(initial=0))
        if width is not None and longest > width:
            raise ValueError(f"a sample has {longest} tokens, more than the width {width}")
        s = -(-(longest if width is None else width) // multiple) * multiple
        tokens, labels = np.empty((len(indices), s), np.uint8), np.empty((len(indices), s), np.int8)
        offsets = np.arange(len(indices), dtype=np.int64) * s
        self.fill(windows, offsets, tokens.reshape(-1), labels.reshape(-1))
        pad(tokens, labels, windows.length)
        return Batch(tokens, labels, windows.length.astype(np.int32))

    def packed(self, indices: np.ndarray) -> PackedBatch:
        """Samples end to end without padding (THD): one for each of indices int64[b], in that order."""
        windows = self.windows(indices)
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(windows.length, out=offsets[1:])
        tokens, labels = np.empty(int(offsets[-1]), np.uint8), np.empty(int(offsets[-1]), np.int8)
        self.fill(windows, offsets, tokens, labels)
        return PackedBatch(tokens, labels, offsets.astype(np.int32))

    def fill(self, windows: Windows, offsets: np.ndarray, tokens: np.ndarray, labels: np.ndarray) -> None:
        """Write the masked tokens and the labels of each sample at offsets int64[b] of tokens uint8[t], labels int8[t].

        windows: from `windows`. Raises UserError for a sequence that has something else than the 33 tokens.
        """
        bad = fill(
            self.side.tables, windows.sequence, windows.start, windows.length, windows.state, offsets,
            self._thresholds, self._amino_acids, tokens, labels,
        )  # fmt: skip
        if bad >= 0:
            raise UserError(UNKNOWN_TOKEN.format(bad), fix=VERIFY)


class SampleStream(_Stream):
    """The training samples of a side: sample g is a pure function of (config.seed, g), for every g >= 0.

    `side.documents` samples are one epoch: one uniformly drawn member of each cluster, in an order that differs between
    epochs. A sequence longer than `max_tokens` is cropped uniformly; residues are masked independently. Nothing depends
    on world size, workers or how indices are batched, so the state of a loader is one integer.
    """

    def windows(self, indices: np.ndarray) -> Windows:
        """Sequence and window of samples int64[b]. Raises IndexError for a negative index."""
        indices = np.ascontiguousarray(indices, np.int64)
        if len(indices) and indices.min() < 0:
            raise IndexError(f"sample {indices.min()} is negative")
        windows = _empty(len(indices))
        bad = train_windows(
            self.side.tables,
            self.side.documents,
            np.uint64(self.config.seed),
            self.config.max_tokens,
            indices,
            *windows,
        )
        return _checked(windows, bad)


class FixedStream(_Stream):
    """Samples for evaluation. Indices are sequence numbers; window and mask are pure functions of (seed, key, residue).

    The key is that of the sequence's id, so a sequence has the same mask in any order, batch and shard.
    """

    def __init__(self, side: Source, config: Sampling, seed: int) -> None:
        super().__init__(side, config)
        self.seed = seed

    def windows(self, indices: np.ndarray) -> Windows:
        """Windows of sequences int64[b]. Raises IndexError for a number out of range."""
        indices = np.ascontiguousarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= self.side.sequences):
            raise IndexError(
                f"a sequence of {indices.min()} .. {indices.max()} is not in 0 .. {self.side.sequences - 1}"
            )
        windows = _empty(len(indices))
        windows.sequence[:] = indices
        bad = fixed_windows(
            self.side.tables, np.uint64(self.seed), self.side.keys(indices), self.config.max_tokens, *windows
        )
        return _checked(windows, bad)


def fixed_batch(side: Source, indices: np.ndarray, seed: int, config: Sampling) -> Batch:
    """Masked sequences of a side for evaluation, as `FixedStream(side, config, seed).batch(indices)`."""
    return FixedStream(side, config, seed).batch(indices)


def _empty(count: int) -> Windows:
    return Windows(*(np.empty(count, kind) for kind in (np.int64, np.int64, np.int64, np.uint64)))


def _checked(windows: Windows, bad: int) -> Windows:
    if bad >= 0:
        raise UserError(f"the index of shard file {bad} is corrupt", fix=VERIFY)
    return windows
