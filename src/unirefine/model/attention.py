"""Core attention and layer norm on a CPU: torch's SDPA over real tokens only, and a LayerNorm that allows SP.

In the local layer spec they replace Megatron's `DotProductAttention`, which materialises the scores and forks the CUDA
generator, and its torch LayerNorm, which does not support sequence parallelism.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from megatron.core.transformer.transformer_config import TransformerConfig


@dataclass
class Slots(PackedSeqParams):
    """The slots of a packed batch and their rotations; Megatron passes it to each layer's `SdpaAttention`."""

    widths: list[int] = field(default_factory=list)
    """Tokens of each slot (under context parallelism those of this rank)."""
    keys: list[torch.Tensor] = field(default_factory=list)
    """Context parallelism: for each slot, int64 indices of its real tokens in the gathered keys of all ranks."""
    cos: torch.Tensor | None = None
    """float32[t, 1, head_dim / 2]: RoPE at the position of each token in its sequence."""
    sin: torch.Tensor | None = None
    """As `cos`."""


class SdpaAttention(torch.nn.Module):
    """RoPE and bidirectional attention within each slot of a packed batch."""

    def __init__(self, config: TransformerConfig, layer_number: int, *args: Any, pg_collection: Any, **kwargs: Any):
        super().__init__()
        self.layer_number = layer_number
        self.context_group = pg_collection.cp

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: None,
        *,
        packed_seq_params: Slots,
        **_: Any,
    ) -> torch.Tensor:
        """query, key, value: [t, heads, dim], before RoPE; returns [t, heads x dim]. The scale is dim^-0.5."""
        slots = packed_seq_params
        query, key = rotate(query, slots.cos, slots.sin), rotate(key, slots.cos, slots.sin)
        if slots.keys:  # keys may come in any order: RoPE has encoded their positions
            key = gather_from_sequence_parallel_region(key, group=self.context_group)
            value = gather_from_sequence_parallel_region(value.contiguous(), group=self.context_group)
            queries = query.split(slots.widths)
            return torch.cat([_attend(q, key[rows], value[rows]) for q, rows in zip(queries, slots.keys, strict=True)])
        if len(set(slots.widths)) == 1:
            batch = [x.view(len(slots.widths), -1, *x.shape[1:]).transpose(1, 2) for x in (query, key, value)]
            return torch.nn.functional.scaled_dot_product_attention(*batch).transpose(1, 2).reshape(len(query), -1)
        sequences = zip(*(x.split(slots.widths) for x in (query, key, value)), strict=True)
        return torch.cat([_attend(*sequence) for sequence in sequences])


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention in one sequence. query: [q, heads, dim]; key, value: [k, heads, dim]; returns [q, heads x dim]: zeros
    if k is 0.
    """
    if not len(key):
        return query.new_zeros(len(query), query.shape[1] * query.shape[2])
    heads_first = [x.transpose(0, 1).unsqueeze(0) for x in (query, key, value)]
    out = torch.nn.functional.scaled_dot_product_attention(*heads_first)
    return out.squeeze(0).transpose(0, 1).reshape(len(query), -1)


class _Rotate(torch.autograd.Function):
    """RoPE in one pass over memory. The backward pass is the inverse rotation, so no activations are saved."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradient, cos, -sin), None, None


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.float().chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    half = x.shape[-1] // 2
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)
    return out.to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE of the whole head, first half against second half, computed in fp32.

    x: [t, heads, dim]; cos, sin: float32[t, 1, dim / 2]; returns [t, heads, dim] in x's dtype.
    """
    return _Rotate.apply(x, cos, sin)


class LayerNorm(torch.nn.LayerNorm):
    """torch's LayerNorm; its parameters have the attribute by which Megatron sums their gradients over SP ranks."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float, **_: Any) -> None:
        device = torch.cuda.current_device()
        super().__init__(hidden_size, eps=eps, device=device, dtype=config.params_dtype)
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel
