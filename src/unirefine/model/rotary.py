"""Rotary frequencies that come with a model.

transformers and fair-esm compute with the frequencies that a checkpoint stores, so the engine does too. In a checkpoint
made from esm2_t6_8M_UR50D they are rounded to half precision. Exact ones turn the last of 1,000 positions by up to 0.07
radians more or less, and hidden states differ by up to 0.009.
"""

from collections.abc import Mapping

import torch

from unirefine.errors import UserError
from unirefine.model.settings import ROPE_THETA

STORED = "rotary_embeddings.inv_freq"
"""How the names end: of one tensor for each layer, or, by later versions of transformers, of one for all."""
_ROUNDED = 1e-2
"""Largest relative difference from the exact frequencies: bfloat16 rounds by up to 0.4%."""


def stored_frequencies(tensors: Mapping[str, torch.Tensor], head_size: int, where: object) -> torch.Tensor | None:
    """float32[head_size / 2], one for all layers; None where `tensors`, by transformers' names, have none.

    Raises UserError for what are not ESM-2's frequencies, and where layers have different ones.
    """
    found = {name: tensor.float() for name, tensor in tensors.items() if name.endswith(STORED)}
    if not found:
        return None
    usual = ROPE_THETA ** -(torch.arange(0, head_size, 2) / head_size)
    first = next(iter(found.values()))
    for name, frequencies in found.items():
        if frequencies.shape != usual.shape or not torch.allclose(frequencies, usual, rtol=_ROUNDED, atol=0):
            raise UserError(f"{name} are not ESM-2's rotary frequencies", where=where, fix="get the model again")
        if not torch.equal(frequencies, first):
            raise UserError(f"{name} differ from those of another layer", where=where, fix="get the model again")
    return first
