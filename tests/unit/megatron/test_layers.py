"""Changes to single layers: what they need of Megatron, and their effect. tests/te has them on Transformer Engine."""

import importlib.util
from pathlib import Path

from unirefine.megatron import layers, platform

import pytest
import torch

from unirefine.config.training import Model, Parallel, Train
from unirefine.errors import UserError
from unirefine.model.esm2 import build_esm2

TEXT = Path(importlib.util.find_spec("megatron.core").submodule_search_locations[0], "extensions/transformer_engine.py")
SMALL = {"model": Model(preset=None, layers=2, hidden=32, heads=2), "parallel": Parallel(processes_per_node=1)}


@pytest.fixture
def build():
    """build(**train options): an fp32 Esm2 of two layers."""
    platform.initialize(Parallel(processes_per_node=1), seed=0)
    yield lambda **options: build_esm2(SMALL["model"], Train(**SMALL, precision="fp32", **options))
    platform.shutdown()


def test_megatron_asks_for_biases_back():
    assert TEXT.read_text().count("self.te_return_bias = skip_bias_add and bias") >= 2
    assert "fuse_wgrad_accumulation=self.config.gradient_accumulation_fusion" in TEXT.read_text()


def test_a_layer_without_the_attribute_is_one_line():
    with pytest.raises(UserError, match="Linear has no attribute te_return_bias: this Transformer Engine is not known"):
        layers.add_bias_in_product(torch.nn.Linear(2, 2))


def test_what_a_recomputed_network_returns_is_no_parameter(build):
    """The first line: Megatron still returns the parameter, so the copy is still needed."""
    x = torch.randn(3, 1, 32)
    mlp = build().encoder.layers[0].mlp
    assert mlp(x)[1] is mlp.linear_fc2.bias
    mlp = build(recompute="selective").encoder.layers[0].mlp
    copied = mlp(x)[1]
    assert copied is not mlp.linear_fc2.bias and torch.equal(copied, mlp.linear_fc2.bias)
    copied.sum().backward()
    assert torch.equal(mlp.linear_fc2.bias.grad, torch.ones(32)) and mlp.linear_fc2.bias.is_leaf


def test_biases_of_a_recomputed_network_stay_parameters(build):
    model = build(recompute="selective").train()
    model(torch.full((1, 8), 5), labels=torch.full((1, 8), 5)).sum().backward()
    assert all(parameter.is_leaf and parameter.grad is not None for parameter in model.parameters())
