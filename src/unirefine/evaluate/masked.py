"""The fixed mask: which residues of the validation shard are predicted, and their neighbours.

`unirefine.sampling` computes crop and mask of a sequence from (seed, sequence id, residue) alone, so every model
predicts the same residues, however the sequences are batched.
"""

from dataclasses import dataclass

import numpy as np

from unirefine.config import Evaluate, Sampling
from unirefine.core.alphabet import CLS, EOS
from unirefine.dataset import Side
from unirefine.dataset.mapped import MappedTables
from unirefine.sampling import FixedStream


@dataclass(frozen=True)
class Positions:
    """The n predicted residues, sorted by (sequence, residue)."""

    sequence: np.ndarray
    """int32[n]: index of the sequence in the validation shard."""
    residue: np.ndarray
    """int32[n]: index of the residue in its sequence, from 0."""
    left: np.ndarray
    """uint8[n]: the true token before it; `<cls>` before the first residue."""
    target: np.ndarray
    """uint8[n]: the true token, to be predicted."""
    right: np.ndarray
    """uint8[n]: the true token after it; `<eos>` after the last residue."""
    first: np.ndarray
    """int64[sequences + 1]: index of each sequence's first position, then n."""


class _SideWithKeys:
    """A side with the keys of its first sequences in memory, so that batches can have any order."""

    def __init__(self, side: Side, sequences: int) -> None:
        self.documents, self.sequences, self.tables = side.documents, sequences, side.tables
        self._keys = side.keys(np.arange(sequences))

    tables: MappedTables

    def keys(self, sequences: np.ndarray) -> np.ndarray:
        return self._keys[sequences]


class MaskedSide:
    """The first `config.sequences` sequences of a side, cropped and masked."""

    def __init__(self, side: Side, config: Evaluate) -> None:
        self.side = side
        self.sequences = min(side.sequences, config.sequences or side.sequences)
        sampling = Sampling(**config.masking.model_dump())
        self._stream = FixedStream(_SideWithKeys(side, self.sequences), sampling, config.seed)
        self.lengths = self._stream.lengths_of(np.arange(self.sequences))
        """int32[sequences]: tokens of each sample after cropping, special tokens included."""

    def batch(self, sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Concatenated samples: tokens uint8[t], bounds int32[n + 1], and positions to predict int64[m] in tokens."""
        made = self._stream.packed(sequences)
        return made.tokens, made.cu_seqlens, np.flatnonzero(made.labels >= 0)

    def positions(self) -> Positions:
        """All predicted positions."""
        windows = self._stream.windows(np.arange(self.sequences))
        counts = np.zeros(self.sequences + 1, np.int64)
        residues, lefts, targets, rights = [], [], [], []
        for sequence in range(self.sequences):
            made = self._stream.packed(np.array([sequence]))
            at = np.flatnonzero(made.labels >= 0) + windows.start[sequence]  # indices into <cls> + residues + <eos>
            whole = np.concatenate([[CLS], self.side.tokens(sequence), [EOS]]).astype(np.uint8)
            counts[sequence + 1] = len(at)
            residues.append((at - 1).astype(np.int32))
            lefts.append(whole[at - 1])
            targets.append(whole[at])
            rights.append(whole[at + 1])
        return Positions(
            sequence=np.repeat(np.arange(self.sequences, dtype=np.int32), counts[1:]),
            residue=np.concatenate(residues),
            left=np.concatenate(lefts),
            target=np.concatenate(targets),
            right=np.concatenate(rights),
            first=np.cumsum(counts),
        )
