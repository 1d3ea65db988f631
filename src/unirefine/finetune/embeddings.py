"""Vectors of the model as it was before training, for the baseline on frozen embeddings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unirefine.config import Finetune
from unirefine.finetune.batches import inputs
from unirefine.finetune.model import quiet
from unirefine.model.batching import SPECIAL_TOKENS, length_buckets


@torch.inference_mode()
def embed(
    base: Path, sequences: Sequence[str], rows: Sequence[int], config: Finetune, device: torch.device, *, residue: bool
) -> dict[int, np.ndarray]:
    """By row: the mean vector of its residues, float32[hidden]; with `residue` a vector for each, [residues, hidden].

    Only the first `max_residues` residues are read; vectors of the others are 0.
    """
    from transformers import EsmModel

    with quiet():
        model = EsmModel.from_pretrained(base, add_pooling_layer=False, use_safetensors=True, dtype=torch.float32)
    model = model.eval().to(device)
    cut = {row: sequences[row][: config.max_residues] for row in dict.fromkeys(int(row) for row in rows)}
    chosen = list(cut)
    lengths = np.array([len(cut[row]) + SPECIAL_TOKENS for row in chosen])
    found = {}
    for batch in length_buckets(lengths, config.batch_tokens):
        states = model(**inputs([cut[chosen[at]] for at in batch], device)).last_hidden_state.float().cpu().numpy()
        for at, vectors in zip(batch, states, strict=True):
            row = chosen[at]
            kept = vectors[1 : len(cut[row]) + 1]
            if residue:
                found[row] = np.zeros((len(sequences[row]), kept.shape[1]), np.float32)
                found[row][: len(kept)] = kept
            else:
                found[row] = kept.mean(axis=0)
    return found
