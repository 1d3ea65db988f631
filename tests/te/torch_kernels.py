"""Plain torch in place of Transformer Engine's CUDA kernels, so that its layer spec computes on a CPU.

What is replaced is `forward` of its modules and its RoPE kernels; Megatron's layers, which call them, are the real
ones. So a test sees which tensors, masks, bounds and flags reach the kernels, and what is made of their results. The
kernels themselves are not tested.
"""

import threading
from collections.abc import Callable
from typing import Any

import unirefine.megatron  # noqa: F401 - before Megatron

import pytest
import torch
import transformer_engine.pytorch as te
from megatron.core.models.common.embeddings import rope_utils
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention
from transformer_engine.pytorch.attention.rope import apply_rotary_pos_emb
from transformer_engine.pytorch.quantization import FP8GlobalStateManager, get_align_size_for_quantization
from transformer_engine.pytorch.utils import assert_dim_for_fp8_exec

UNDEFINED = 7.0
"""What attention returns at padding between sequences, where the real kernel leaves what it likes."""


class Ranks:
    """The context-parallel ranks of one model, each a thread of this process, which exchange keys and values.

    The graph of autograd spans all ranks: one backward pass from the sum of their losses gives each its gradients.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size)
        self._rank = threading.local()
        self._given: list[Any] = [None] * size

    @property
    def rank(self) -> int:
        """Rank of the calling thread."""
        return self._rank.value

    def run(self, function: Callable[[int], Any]) -> list[Any]:
        """[function(0), function(1), ...], each in its own thread. Raises the first error."""
        results: list[Any] = [None] * self.size
        errors: list[BaseException] = []

        def work(rank: int) -> None:
            self._rank.value = rank
            try:
                results[rank] = function(rank)
            except BaseException as error:
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
        return results

    def gather(self, value: Any) -> list[Any]:
        """What every rank gave. Collective."""
        self._given[self.rank] = value
        self._barrier.wait()
        everything = list(self._given)
        self._barrier.wait()
        return everything


def install(monkeypatch: pytest.MonkeyPatch, ranks: Ranks | None = None) -> None:
    """Replace the kernels for one test. `ranks`: of models under context parallelism."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(te.LayerNorm, "forward", _layer_norm)
    monkeypatch.setattr(te.LayerNormLinear, "forward", _layer_norm_linear)
    monkeypatch.setattr(te.Linear, "forward", _linear)
    monkeypatch.setattr(rope_utils, "fused_apply_rotary_pos_emb", _rope)
    monkeypatch.setattr(rope_utils, "fused_apply_rotary_pos_emb_thd", _rope_packed)
    monkeypatch.setattr(
        te.DotProductAttention, "forward", lambda module, *given, **named: _attention(ranks, *given, **named)
    )


def _layer_norm(module: te.LayerNorm, hidden: torch.Tensor) -> torch.Tensor:
    assert not module.zero_centered_gamma
    return layer_norm(hidden, (hidden.shape[-1],), module.weight, module.bias, module.eps)


def _layer_norm_linear(module: te.LayerNormLinear, hidden: torch.Tensor, **_: Any):
    assert module.normalization == "LayerNorm" and not module.zero_centered_gamma
    normal = layer_norm(hidden, (hidden.shape[-1],), module.layer_norm_weight, module.layer_norm_bias, module.eps)
    return _linear(module, normal)


def _linear(module: te.Linear | te.LayerNormLinear, given: torch.Tensor, **_: Any):
    """The output with the bias in it, or (output, bias) for the caller to add."""
    if FP8GlobalStateManager.is_fp8_enabled():  # what the real forward and the quantizers of its backward ask for
        assert_dim_for_fp8_exec(given, module.weight)
        multiple = get_align_size_for_quantization(FP8GlobalStateManager.get_fp8_recipe())
        assert given.shape[:-1].numel() % multiple == 0, f"{tuple(given.shape)}: tokens in blocks of {multiple}"
    assert module.apply_bias != module.return_bias, "a bias is added exactly once"
    if module.return_bias:
        return linear(given, module.weight), module.bias
    return linear(given, module.weight, module.bias)


def _rope(hidden: torch.Tensor, angles: torch.Tensor, interleaved: bool = False) -> torch.Tensor:
    assert angles.dtype == torch.float32 and not interleaved
    return apply_rotary_pos_emb(hidden, angles, tensor_format="sbhd", fused=False)


def _rope_packed(
    hidden: torch.Tensor, bounds: torch.Tensor, angles: torch.Tensor, interleaved: bool = False, **ranks: int
) -> torch.Tensor:
    """ranks: cp_size and cp_rank."""
    assert angles.dtype == torch.float32 and bounds.dtype == torch.int32 and not interleaved
    return apply_rotary_pos_emb(hidden, angles, tensor_format="thd", fused=False, cu_seqlens=bounds, **ranks)


def _attention(
    ranks: Ranks | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    attn_mask_type: str,
    qkv_format: str = "sbhd",
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_kv: torch.Tensor | None = None,
    cu_seqlens_q_padded: torch.Tensor | None = None,
    cu_seqlens_kv_padded: torch.Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_kv: int | None = None,
    **rest: Any,
) -> torch.Tensor:
    assert attn_mask_type == "padding" and not any(value is not None for value in rest.values()), rest
    if qkv_format == "sbhd":
        s, b = query.shape[:2]
        assert mask is not None and mask.dtype == torch.bool and mask.shape == (b, 1, 1, s)
        rows = (each.permute(1, 2, 0, 3) for each in (query, key, value))
        return scaled_dot_product_attention(*rows, attn_mask=~mask).permute(2, 0, 1, 3).reshape(s, b, -1)
    assert qkv_format == "thd" and mask is None
    slots = cu_seqlens_q if cu_seqlens_q_padded is None else cu_seqlens_q_padded
    for bounds in (cu_seqlens_q, cu_seqlens_kv, slots):
        assert bounds is not None and bounds.dtype == torch.int32
    assert torch.equal(cu_seqlens_q, cu_seqlens_kv) and type(max_seqlen_q) is type(max_seqlen_kv) is int
    assert max_seqlen_q == max_seqlen_kv >= int(slots.diff().max())
    size, rank = (1, 0) if ranks is None else (ranks.size, ranks.rank)
    assert int(slots[-1]) == len(query) * size
    everybody = [(key, value)] if ranks is None else ranks.gather((key, value))
    parts = []
    for start, end, length in zip(slots[:-1] // size, slots[1:] // size, cu_seqlens_q.diff(), strict=True):
        keys, values = (_whole([held[which][start:end] for held in everybody])[:length] for which in (0, 1))
        heads_first = (each.transpose(0, 1)[None] for each in (query[start:end], keys, values))
        attended = scaled_dot_product_attention(*heads_first)[0].transpose(0, 1)
        every = torch.arange((end - start) * size)
        held = (
            every if size == 1 else torch.cat([every.chunk(2 * size)[number] for number in (rank, 2 * size - 1 - rank)])
        )
        parts.append(attended.masked_fill((held >= length)[:, None, None], UNDEFINED))
    return torch.cat(parts).flatten(1)


def _whole(parts: list[torch.Tensor]) -> torch.Tensor:
    """A slot of which rank r of n holds the r-th and the (2n - 1 - r)-th of 2n chunks."""
    if len(parts) == 1:
        return parts[0]
    first, second = zip(*(part.chunk(2) for part in parts), strict=True)
    return torch.cat([*first, *reversed(second)])
