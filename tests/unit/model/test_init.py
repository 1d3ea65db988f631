"""Initial weights depend on the seed and the name, and have the spread they should."""

import math

import pytest
import torch

from unirefine.model.init import _normal
from unirefine.model.layout import global_parameters

GOLDEN = [-0.69973123, -0.45133418, -1.99041617]


def test_seed_decides(build):
    one, same, other = (build(2, 64, 4, seed=seed) for seed in (1, 1, 2))
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert not name.endswith("linear_fc1.weight") or not torch.equal(a, c)


def test_values(build):
    model = build(4, 128, 4)
    for name, parameter in global_parameters(model):
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            residual = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
            std = 0.02 / math.sqrt(8) if residual else 0.02
            assert parameter[:33].std().item() == pytest.approx(std, rel=0.1), name
            assert abs(parameter.mean().item()) < 0.1 * std
    assert (model.embedding.word_embeddings.weight[33:] == 0).all()


def test_layers_differ_but_depth_does_not_matter(build):
    short, deep = (dict(global_parameters(build(layers, 64, 4))) for layers in (2, 3))
    name = "encoder.layers.{}.mlp.linear_fc1.weight"
    assert torch.equal(short[name.format(1)], deep[name.format(1)])
    assert not torch.equal(short[name.format(0)], short[name.format(1)])


def test_golden(build):
    """Pinned: a change here changes every model that is trained from scratch."""
    config = build(1, 64, 4).config
    values = _normal(0, "encoder.layers.0.mlp.linear_fc1.weight", config, 1.0)
    assert values[0, :3].tolist() == pytest.approx(GOLDEN, abs=1e-6)
