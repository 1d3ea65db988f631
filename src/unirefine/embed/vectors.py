"""Vectors of a chunk of proteins, computed in batches of similar length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unirefine.megatron import platform

import numpy as np

from unirefine.config import Embed
from unirefine.core.alphabet import encode
from unirefine.core.fasta import Protein
from unirefine.embed.windows import Window, overlapping, truncated
from unirefine.model.batching import length_buckets, with_special_tokens
from unirefine.model.inference import Engine, not_finite


@dataclass(frozen=True)
class Vectors:
    """Vectors of n proteins. h: hidden size."""

    mean: np.ndarray
    """float32[n, h]: mean over the embedded residues, without special tokens."""
    cls: np.ndarray
    """float32[n, h]: the vector of `<cls>`; with several windows, the mean of theirs."""
    residues: np.ndarray | None
    """float32[sum of embedded, h]: every embedded residue, protein after protein; None without `per_residue`."""
    embedded: np.ndarray
    """int64[n]: residues with a vector, fewer than the protein's length when it was truncated."""


def budget(config: Embed) -> int:
    """Padded tokens per forward pass: those of the config, else what suits the device."""
    return config.batch_tokens or (16384 if platform.on_gpu() else 4096)


def embed_chunk(
    engine: Engine, proteins: Sequence[Protein], config: Embed, advance: Callable[[int], None] = lambda residues: None
) -> Vectors:
    """Embed proteins. advance: called with the number of residues after each batch.

    Raises UserError when a vector is not finite.
    """
    cut = overlapping if config.long_sequences == "windows" else truncated
    pieces: list[tuple[int, Window]] = []
    for number, protein in enumerate(proteins):
        pieces += [(number, window) for window in cut(len(protein.sequence), config.max_residues)]
    tokens = [encode(protein.sequence) for protein in proteins]
    embedded = np.zeros(len(proteins), np.int64)
    passes = np.zeros(len(proteins), np.float32)
    for number, window in pieces:
        embedded[number] += window.keep_end - window.keep_start
        passes[number] += 1
    first = np.concatenate([[0], np.cumsum(embedded)])
    mean = np.zeros((len(proteins), engine.hidden), np.float64)
    cls = np.zeros((len(proteins), engine.hidden), np.float32)
    residues = np.empty((int(first[-1]), engine.hidden), np.float32) if config.per_residue else None
    lengths = np.array([window.end - window.start + 2 for _, window in pieces])
    for batch in length_buckets(lengths, budget(config)):
        samples = [with_special_tokens(tokens[n][w.start : w.end]) for n, w in (pieces[i] for i in batch)]
        bounds = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])])
        states = engine.states(np.concatenate(samples), bounds, config.layer).numpy()
        finite = np.isfinite(states).all(axis=1)
        for piece, start in zip(batch, bounds, strict=False):
            number, window = pieces[piece]
            if not finite[start : start + len(tokens[number][window.start : window.end]) + 2].all():
                raise not_finite(proteins[number].name)
            kept = states[start + 1 + window.keep_start - window.start : start + 1 + window.keep_end - window.start]
            mean[number] += kept.sum(axis=0, dtype=np.float64)
            cls[number] += states[start]
            if residues is not None:
                residues[first[number] + window.keep_start : first[number] + window.keep_end] = kept
        advance(sum(pieces[i][1].keep_end - pieces[i][1].keep_start for i in batch))
    mean /= embedded[:, None]
    return Vectors(mean.astype(np.float32), cls / passes[:, None], residues, embedded)
