"""Core attention and layer norm on a CPU: torch's SDPA over real tokens only, and a LayerNorm that allows SP.

They take the places of Megatron's `DotProductAttention` (materialises the scores, forks the CUDA generator) and of
its torch LayerNorm (refuses sequence parallelism) in the local layer spec.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from megatron.core.transformer.transformer_config import TransformerConfig


@dataclass
class Slots(PackedSeqParams):
    """Where the sequences of a batch lie; Megatron hands it through every layer to `SdpaAttention`.

    `qkv_format` is "sbhd" for padded batches (slot i is column i), "thd" for packed ones (slot i is spans[i]).
    """

    lengths: list[int] = field(default_factory=list)
    """Tokens of each slot that are not padding."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Packed: first and last + 1 local row of each slot (of this rank's part, under context parallelism)."""
    keys: list[torch.Tensor] = field(default_factory=list)
    """Context parallelism: for each slot the rows of real tokens in the keys gathered from all ranks (int64)."""


class SdpaAttention(torch.nn.Module):
    """Bidirectional attention within each slot. Pads are never attended, and get zeros."""

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
        """query, key, value: [s, b, heads, dim] or packed [t, heads, dim], after RoPE; returns [s, b, heads x dim]
        or [t, heads x dim]. The scale is dim^-0.5.
        """
        slots = packed_seq_params
        if slots.keys:
            return self._context_parallel(query, key, value, slots)
        if slots.qkv_format == "thd":
            return self._packed(query, key, value, slots)
        length, batch = query.shape[:2]
        if all(n == length for n in slots.lengths):
            heads_first = [x.permute(1, 2, 0, 3) for x in (query, key, value)]
            out = torch.nn.functional.scaled_dot_product_attention(*heads_first)
            return out.permute(2, 0, 1, 3).reshape(length, batch, -1)
        rows = [
            torch.nn.functional.pad(_attend(query[:n, i], key[:n, i], value[:n, i]), (0, 0, 0, length - n))
            for i, n in enumerate(slots.lengths)
        ]
        return torch.stack(rows, dim=1)

    def _packed(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slots: Slots) -> torch.Tensor:
        parts = []
        for (start, end), n in zip(slots.spans, slots.lengths, strict=True):
            rows = slice(start, start + n)
            parts.append(_attend(query[rows], key[rows], value[rows]))
            if start + n < end:
                parts.append(query.new_zeros(end - start - n, parts[-1].shape[1]))
        return torch.cat(parts)

    def _context_parallel(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slots: Slots
    ) -> torch.Tensor:
        # order does not matter among keys: RoPE has already put their positions into them
        key = gather_from_sequence_parallel_region(key.contiguous(), group=self.context_group)
        value = gather_from_sequence_parallel_region(value.contiguous(), group=self.context_group)
        parts = [
            _attend(query[start:end], key[rows], value[rows])
            for (start, end), rows in zip(slots.spans, slots.keys, strict=True)
        ]
        return torch.cat(parts)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """One sequence. query: [q, heads, dim]; key, value: [k, heads, dim]; returns [q, heads x dim]."""
    if not len(key):
        return query.new_zeros(len(query), query.shape[1] * query.shape[2])
    heads_first = [x.transpose(0, 1)[None] for x in (query, key, value)]
    out = torch.nn.functional.scaled_dot_product_attention(*heads_first)
    return out[0].transpose(0, 1).reshape(len(query), -1)


class LayerNorm(torch.nn.LayerNorm):
    """torch's LayerNorm whose parameters say that they are shared by the sequence-parallel ranks."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float, **_: Any) -> None:
        device = torch.cuda.current_device()
        super().__init__(hidden_size, eps=eps, device=device, dtype=config.params_dtype)
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel
