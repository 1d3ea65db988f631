"""Changes to single layers of a model that Megatron-core has built, of which its options know nothing.

The names of Transformer Engine's attributes are checked where they are set: an error beats a change without effect.
tests/unit/megatron/test_layers.py and tests/te find out when a version needs others.
"""

from collections.abc import Iterator
from typing import Any

import torch

from unirefine.errors import UserError


def add_bias_in_product(linear: torch.nn.Module) -> None:
    """Let a column-parallel layer of Transformer Engine add its bias in the epilogue of its matrix product.

    Megatron asks for the bias back (`te_return_bias`), because its own fused activation adds it. That one is the tanh
    GELU, and without it the bias is a pass over the largest activation of the model, and another one backward.
    """
    _set(linear, te_return_bias=False, return_bias=False, apply_bias=True)


def accumulate_in_product(model: torch.nn.Module) -> None:
    """Let Transformer Engine's matrix products add weight gradients to the fp32 buffers of Megatron's DDP themselves.

    For a model in DDP, whose parameters have a `main_grad`. Megatron's option `gradient_accumulation_fusion` asks the
    same of its own layers too, which need a kernel of Apex's for it.
    """
    for linear in _linears(model):
        _set(linear, fuse_wgrad_accumulation=True)


def copy_bias_of(mlp: torch.nn.Module) -> None:
    """Let a feed-forward network return a copy of its bias, so that it can be recomputed.

    It returns its second bias for the residual connection to add: the parameter itself. What a recomputed part returns
    gets a history, and a parameter with one is no leaf any more: the backward pass would recompute without end.
    """
    mlp.register_forward_hook(
        lambda _module, _inputs, outputs: (outputs[0], None if outputs[1] is None else outputs[1].clone())
    )


def _linears(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The layers of Transformer Engine with a weight and a bias."""
    return (module for module in model.modules() if hasattr(module, "fuse_wgrad_accumulation"))


def _set(module: torch.nn.Module, **values: Any) -> None:
    for name, value in values.items():
        if not hasattr(module, name):
            raise UserError(
                f"{type(module).__name__} has no attribute {name}: this Transformer Engine is not known",
                fix="install Transformer Engine 2.20",
            )
        setattr(module, name, value)
