"""Parameter counts against the published models; FLOPs against a count by torch."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import EsmConfig, EsmForMaskedLM

from unirefine.config import PRESETS, Train
from unirefine.train.flops import batch_flops, flops_per_token, parameters, peak_flops
from unirefine.train.memory import memory_per_process, rank_parameters


def hugging_face(layers: int, hidden: int, heads: int) -> EsmForMaskedLM:
    config = EsmConfig(
        vocab_size=33, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, pad_token_id=1,
        intermediate_size=4 * hidden, position_embedding_type="rotary", token_dropout=True, mask_token_id=32,
        attn_implementation="eager",
    )  # fmt: skip
    return EsmForMaskedLM(config)


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_those_of_the_hugging_face_model(preset):
    layers, hidden, heads = PRESETS[preset]
    with torch.device("meta"):
        model = hugging_face(layers, hidden, heads)
    unused = ("contact_head", "position_embeddings", "position_ids")
    # the tied decoder is listed once by named_parameters
    count = sum(p.numel() for name, p in model.named_parameters() if not any(word in name for word in unused))
    assert parameters(layers, hidden) == count


def test_flops_are_what_torch_counts():
    layers, hidden, heads, length, batch = 3, 64, 4, 48, 2
    with torch.device("meta"):
        model = hugging_face(layers, hidden, heads)
        tokens = torch.zeros(batch, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(tokens).logits.sum().backward()
    # torch skips the gradient with respect to the embedding's output: nothing; the embedding itself is a lookup
    expected = batch * length * flops_per_token(layers, hidden, length)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-9)
    assert batch_flops(layers, hidden, batch * length, batch * length**2) == pytest.approx(expected, rel=1e-12)


def test_peak_is_known_for_data_centre_gpus_only():
    assert peak_flops("NVIDIA A100-SXM4-80GB", "bf16", "off") == 312e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16", "off") == 989e12
    assert peak_flops("NVIDIA H100 PCIe", "bf16", "off") == 756e12
    assert peak_flops("NVIDIA H100 NVL", "bf16", "off") == peak_flops("NVIDIA H200 NVL", "bf16", "off") == 835e12
    assert peak_flops("NVIDIA H200", "bf16", "off") == 989e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16", "delayed") == 1978e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "fp32", "off") is None
    assert peak_flops("cpu", "bf16", "off") is None


def train(**changes) -> Train:
    return Train.model_validate({"model": {"preset": "3B"}, "global_batch": 2048, "micro_batch": 8} | changes)


def test_memory_shrinks_with_the_layout():
    one = memory_per_process(train())
    sharded = memory_per_process(train(parallel={"processes_per_node": 8, "tensor": 2, "pipeline": 2}))
    recomputed = memory_per_process(train(recompute="full"))
    assert one["total"] == sum(size for name, size in one.items() if name != "total")
    assert 3.5 < one["parameters"] / sharded["parameters"] < 4
    assert recomputed["activations"] < one["activations"] / 8
    selective = memory_per_process(train(recompute="selective"))
    # of 16 h values a token and layer, the second norm's output and the GELU's input and output are computed again
    assert 7 / 16 < selective["activations"] / one["activations"] < 8 / 16


def test_the_published_micro_batch_fits_an_a100_and_twice_of_it_does_not():
    published = {"model": {"preset": "650M"}, "parallel": {"processes_per_node": 1}}
    assert memory_per_process(train(**published, micro_batch=46, global_batch=46))["total"] < 80e9
    assert memory_per_process(train(**published, micro_batch=92, global_batch=92))["total"] > 80e9


def test_a_single_process_holds_every_parameter():
    config = train(parallel={"processes_per_node": 1})
    assert rank_parameters(config) == parameters(36, 2560)
