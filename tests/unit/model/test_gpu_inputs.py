"""The arguments of Megatron's CUDA kernels, and Megatron's RoPE against ours. No kernel runs."""

import unirefine.megatron  # noqa: F401 - before Megatron

import oracle
import pytest
import torch
from megatron.core.models.common.embeddings.rope_utils import apply_rotary_pos_emb

from unirefine.core.alphabet import PAD
from unirefine.model import batch
from unirefine.model.attention import rotate


class Rank:
    """A process group's size and rank, which is all that Megatron's RoPE needs."""

    def __init__(self, size: int, rank: int) -> None:
        self._size, self._rank = size, rank

    def size(self):
        return self._size

    def rank(self):
        return self._rank


def test_padded_batches_mask_padding(build):
    model = build(2, 64, 4)
    tokens = oracle.batch([9, 16, 3])
    mask, packed = model._attention_on_gpu(tokens, batch.row_bounds(tokens), 16, packed=False)
    assert packed is None and mask.shape == (3, 1, 1, 16) and mask.dtype == torch.bool
    assert torch.equal(mask[:, 0, 0], tokens == PAD)  # True: not attended


def test_packed_batches_give_bounds(build):
    bounds = torch.tensor([0, 9, 25, 28], dtype=torch.int32)
    tokens = torch.full((1, 28), 5)
    mask, packed = build(2, 64, 4)._attention_on_gpu(tokens, bounds, 16, packed=True)
    assert mask is None and packed.qkv_format == "thd"
    assert packed.cu_seqlens_q.tolist() == packed.cu_seqlens_kv.tolist() == [0, 9, 25, 28]
    assert packed.max_seqlen_q == packed.max_seqlen_kv == 16 and packed.cu_seqlens_q_padded is None


def test_context_parallel_batches_give_real_and_padded_bounds(build):
    model = build(2, 64, 4)
    model.cp_group = Rank(2, 0)
    tokens = oracle.batch([9, 16, 3])
    bounds = batch.row_bounds(tokens)
    mask, packed = model._attention_on_gpu(tokens.reshape(1, -1), bounds, 16, packed=True)
    assert mask is None and packed.max_seqlen_q == 16
    assert packed.cu_seqlens_q.tolist() == packed.cu_seqlens_kv.tolist() == [0, 9, 25, 28]
    assert packed.cu_seqlens_q_padded.tolist() == packed.cu_seqlens_kv_padded.tolist() == [0, 16, 32, 48]


@pytest.mark.parametrize(("size", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_rope_is_megatrons(size, rank, build):
    model = build(2, 64, 4)
    model.cp_group = Rank(size, rank)
    bounds = torch.tensor([0, 8, 28, 32], dtype=torch.int32)
    slots = model._slots(torch.full((1, 32), 5), bounds)
    x = torch.randn(32 // size, 4, 16)
    expected = apply_rotary_pos_emb(
        x, model.rotary_pos_emb(20, packed_seq=True), model.config, cu_seqlens=bounds, cp_group=Rank(size, rank)
    )
    assert (rotate(x, slots.cos, slots.sin) - expected).abs().max() < 1e-6


def test_rope_of_padded_batches_is_megatrons(build):
    model = build(2, 64, 4)
    x = torch.randn(20, 1, 4, 16)
    expected = apply_rotary_pos_emb(x, model.rotary_pos_emb(20), model.config, cp_group=Rank(1, 0))
    slots = model._slots(torch.full((1, 20), 5), torch.tensor([0, 20], dtype=torch.int32))
    assert (rotate(x[:, 0], slots.cos, slots.sin) - expected[:, 0]).abs().max() < 1e-6


def test_rope_gradient():
    x = torch.randn(5, 2, 8, dtype=torch.float32, requires_grad=True)
    angles = torch.randn(5, 1, 4)
    out, gradient = rotate(x, angles.cos(), angles.sin()), torch.randn(5, 2, 8)
    out.backward(gradient)
    first, second = x.detach().requires_grad_().chunk(2, dim=-1)
    plain = torch.cat(
        [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
    )
    assert torch.allclose(out, plain, atol=1e-6)
    # a rotation: its transpose is the inverse
    assert torch.allclose(rotate(x.grad, angles.cos(), angles.sin()), gradient, atol=1e-6)


def test_rope_computes_in_fp32():
    x = torch.randn(4, 2, 8)
    angles = torch.arange(4.0)[:, None, None] * torch.ones(4) * 900
    rounded = rotate(x.bfloat16(), angles.cos(), angles.sin())
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, rotate(x.bfloat16().float(), angles.cos(), angles.sin()).bfloat16())
