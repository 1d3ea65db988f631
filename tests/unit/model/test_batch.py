"""Token dropout factors and context-parallel slices, by hand."""

import pytest
import torch

from unirefine.core.alphabet import MASK, PAD
from unirefine.model import batch


def test_token_scale_counts_cls_and_eos_and_no_padding():
    tokens = torch.tensor([[0, 5, MASK, 6, 2, PAD], [0, 5, 7, 6, 9, 2]])
    scale = batch.token_scale(tokens, batch.row_bounds(tokens))
    first = 0.88 / (1 - 1 / 5)
    assert scale.dtype == torch.float32
    assert scale[0].tolist() == pytest.approx([first, first, 0, first, first, 0])
    assert scale[1].tolist() == pytest.approx([0.88] * 6)


def test_token_scale_is_per_sequence_when_packed():
    tokens = torch.tensor([[0, MASK, 2, 0, 5, 5, MASK, 2, PAD, PAD]])
    scale = batch.token_scale(tokens, torch.tensor([0, 3, 8, 10], dtype=torch.int32))[0]
    a, b = 0.88 / (1 - 1 / 3), 0.88 / (1 - 1 / 5)
    assert scale.tolist() == pytest.approx([a, 0, a, b, b, b, 0, b, 0, 0])


def test_context_slices_are_balanced_and_cover_everything():
    values = torch.arange(16).view(2, 8)
    parts = [batch.context_slice(values, size=2, rank=rank) for rank in range(2)]
    assert parts[0].tolist() == [[0, 1, 6, 7], [8, 9, 14, 15]]
    assert parts[1].tolist() == [[2, 3, 4, 5], [10, 11, 12, 13]]


def test_context_slices_of_packed_slots():
    values = torch.arange(12)[None]
    bounds = torch.tensor([0, 4, 12], dtype=torch.int32)
    parts = [batch.context_slice(values, bounds, size=2, rank=rank) for rank in range(2)]
    assert parts[0].tolist() == [[0, 3, 4, 5, 10, 11]]
    assert parts[1].tolist() == [[1, 2, 6, 7, 8, 9]]


def test_a_slot_that_cannot_be_cut():
    with pytest.raises(ValueError, match="slot of 6 tokens is not a multiple of 2 x context parallel size = 4"):
        batch.context_slice(torch.zeros(1, 6), size=2, rank=0)
