"""The fixed mask: which residues of the validation shard are predicted, and their neighbours.

`unirefine.sampling` computes crop and mask of a sequence from (seed, sequence id, residue) alone, so every model
predicts the same residues, however the sequences are batched.
"""

from dataclasses import dataclass

import numpy as np

from unirefine.config import Evaluate, Sampling
from unirefine.core.alphabet import CLS, EOS, MASK
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
    shown: np.ndarray
    """uint8[n]: the token that a model sees there: `<mask>`, the true one, or another."""
    alike: np.ndarray
    """int32[n]: how many of the window's residues that are not predicted are the target."""
    seen: np.ndarray
    """int32[n]: how many residues of the window are not predicted."""
    first: np.ndarray
    """int64[sequences + 1]: index of each sequence's first position, then n."""

    def kinds(self) -> dict[str, np.ndarray]:
        """Which positions are `hidden` (`<mask>`), `kept` (the true token) and `random` (a wrong one): bool[n] each.

        What a model sees decides: a random token may be `<mask>`, or the true one.
        """
        hidden = self.shown == MASK
        kept = ~hidden & (self.shown == self.target)
        return {"hidden": hidden, "kept": kept, "random": ~hidden & ~kept}


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
        residues, lefts, targets, rights, shown, alike, seen = [], [], [], [], [], [], []
        for sequence in range(self.sequences):
            made = self._stream.packed(np.array([sequence]))
            chosen = np.flatnonzero(made.labels >= 0)
            at = chosen + windows.start[sequence]  # indices into <cls> + residues + <eos>
            whole = np.concatenate([[CLS], self.side.tokens(sequence), [EOS]]).astype(np.uint8)
            counts[sequence + 1] = len(at)
            residues.append((at - 1).astype(np.int32))
            lefts.append(whole[at - 1])
            targets.append(whole[at])
            rights.append(whole[at + 1])
            shown.append(made.tokens[chosen])
            others = made.tokens[(made.labels < 0) & (made.tokens != CLS) & (made.tokens != EOS)]
            alike.append(np.bincount(others, minlength=256)[whole[at]].astype(np.int32))
            seen.append(np.full(len(at), len(others), np.int32))
        return Positions(
            sequence=np.repeat(np.arange(self.sequences, dtype=np.int32), counts[1:]),
            residue=np.concatenate(residues),
            left=np.concatenate(lefts),
            target=np.concatenate(targets),
            right=np.concatenate(rights),
            shown=np.concatenate(shown),
            alike=np.concatenate(alike),
            seen=np.concatenate(seen),
            first=np.cumsum(counts),
        )
