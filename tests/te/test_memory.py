"""The memory of a dry run beside Megatron's: its estimate, and what its buffers and optimizer take on meta tensors."""

import types

import unirefine.megatron  # noqa: F401 - before Megatron

import oracle
import pytest
import torch
from megatron.training import theoretical_memory_usage as megatron_estimate
from torch.overrides import TorchFunctionMode

from unirefine.config.training import Train
from unirefine.model.settings import padded_vocabulary
from unirefine.train import engine
from unirefine.train.memory import memory_per_process

CASES = {
    "650M on 8": ("650M", 8, {}),
    "3B on 8": ("3B", 8, {}),
    "3B on 256": ("3B", 256, {}),
    "15B at TP 4 on 64": ("15B", 16, {"tensor": 4, "sequence": True}),
    "15B at TP 4, PP 2 on 64": ("15B", 8, {"tensor": 4, "sequence": True, "pipeline": 2}),
    "3B on 8, one optimizer each": ("3B", 8, {"distributed_optimizer": False}),
}
"""Preset, DP, layout."""


class MetaForGpu(TorchFunctionMode):
    """The optimizers take meta tensors for those of a GPU, and make their own there."""

    def __torch_function__(self, function, _types, args=(), options=None):
        options = options or {}
        if function is torch.Tensor.type and len(args) == 1:
            return function(*args).replace(".meta.", ".cuda.")
        if str(options.get("device")).startswith("cuda"):
            options = options | {"device": "meta"}
        return function(*args, **options)


def config(case: str) -> Train:
    preset, data, layout = CASES[case]
    group = layout.get("tensor", 1) * layout.get("pipeline", 1)
    parallel = {"processes_per_node": 8, "nodes": max(1, data * group // 8)} | layout
    return Train.model_validate(
        {"model": {"preset": preset}, "parallel": parallel, "packed": True, "micro_batch": 8, "global_batch": 2048}
    )


def arguments(train: Train) -> types.SimpleNamespace:
    """What Megatron's estimate reads of the options of its own trainer."""
    layers, hidden, heads = train.model.sizes
    layout = train.parallel
    return types.SimpleNamespace(
        num_layers=layers, hidden_size=hidden, num_attention_heads=heads, kv_channels=hidden // heads,
        ffn_hidden_size=4 * hidden, padded_vocab_size=padded_vocabulary(layout.tensor), seq_length=1024,
        micro_batch_size=train.micro_batch, data_parallel_size=layout.data, world_size=layout.world,
        tensor_model_parallel_size=layout.tensor, pipeline_model_parallel_size=layout.pipeline,
        virtual_pipeline_model_parallel_size=None, use_distributed_optimizer=layout.distributed_optimizer,
        normalization="LayerNorm", add_bias_linear=True, untie_embeddings_and_output_weights=False,
        group_query_attention=False, num_experts=None, moe_shared_expert_intermediate_size=None, mtp_num_layers=None,
        multi_latent_attention=False, swiglu=False, expert_model_parallel_size=1, expert_tensor_parallel_size=1,
        moe_latent_size=None, moe_router_topk=1,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_megatrons_estimate(case):
    train = config(case)
    ours, theirs = memory_per_process(train), arguments(train)
    weights = megatron_estimate.compute_weight_and_optimizer_memory(theirs)
    # theirs leaves out ESM-2's head, a layer of one matrix
    assert sum(ours[part] for part in ("parameters", "gradients", "optimizer")) == pytest.approx(weights, rel=0.02)
    activations = megatron_estimate.compute_activation_memory(theirs, num_microbatches=train.accumulated)
    # theirs counts 34 bytes per layer, token and hidden unit, 2 of them masks of dropout, which ESM-2 does not have
    assert ours["activations"] == pytest.approx(activations * 32 / 34, rel=0.03)


@pytest.mark.parametrize("case", CASES)
def test_megatrons_buffers(case, build):
    """Parameters, gradients and optimizer of the last rank, in the stage with the head, as Megatron allocates them."""
    train = config(case)
    _preset, data, layout = CASES[case]
    model = build(
        train.model, train.parallel.world - 1, layout=layout, data=data, packed=True, micro_batch=8, global_batch=2048
    )
    with oracle.on_meta(), MetaForGpu():
        wrapped = engine.wrap(model, train)
        optimizer = engine.build_optimizer(wrapped, train)
    gradients = sum(buffer.grad_data.nbytes for buffer in wrapped.buffers)
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    main = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    expected = memory_per_process(train)
    # the embedding's rows are rounded up from 33, and buffers to what a ring of processes divides
    assert parameters == pytest.approx(expected["parameters"], rel=0.01)
    assert gradients == pytest.approx(expected["gradients"], rel=0.01)
    # fp32 weights, two moments
    assert 12 * main == pytest.approx(expected["optimizer"], rel=0.02)
