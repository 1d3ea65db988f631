"""What unirefine changes in Transformer Engine is there, and has the effect that it should have."""

import importlib
import inspect
from pathlib import Path

from unirefine.megatron import kernels, layers, patches, patching

import pytest
import torch
import transformer_engine.pytorch as te
from transformer_engine.pytorch.attention.dot_product_attention import utils

from unirefine.config.training import Model
from unirefine.errors import UserError

SMALL = Model(preset=None, layers=3, hidden=128, heads=4)
OURS = [patch for patch in patches.PATCHES.values() if patch.when == "gpu"]


@pytest.mark.parametrize("patch", OURS, ids=lambda patch: patch.name)
def test_patches_fit_and_are_needed(patch):
    assert patching.problem(patch) is None
    for file, text in patch.needed_by.items():
        package, _, rest = file.partition("/")
        assert text in Path(importlib.util.find_spec(package).submodule_search_locations[0], rest).read_text()


def test_the_bias_of_fc1_is_added_in_its_product(build):
    """Megatron asks for it back, so the change is still needed; fc2's is left to the residual connection."""
    for layer in build(SMALL, layout={"tensor": 2}).encoder.layers:
        fc1, fc2 = layer.mlp.linear_fc1, layer.mlp.linear_fc2
        assert (fc1.te_return_bias, fc1.return_bias, fc1.apply_bias) == (False, False, True)
        assert fc1.parallel_mode == "column" and not fc1.gemm_bias_unfused_add, "in the epilogue"
        assert (fc2.te_return_bias, fc2.return_bias, fc2.apply_bias) == (True, True, False)
    assert "self.te_return_bias = skip_bias_add and bias" in inspect.getsource(type(fc1).__init__)


def test_gradients_are_accumulated_in_the_product(build):
    model = build(SMALL)
    linears = [module for module in model.modules() if isinstance(module, (te.Linear, te.LayerNormLinear))]
    assert len(linears) == 4 * 3 and not any(linear.fuse_wgrad_accumulation for linear in linears)
    layers.accumulate_in_product(model)
    assert all(linear.fuse_wgrad_accumulation for linear in linears)
    source = inspect.getsource(inspect.getmodule(te.LayerNormLinear))
    assert "ctx.main_grad_func = lambda: weight.main_grad" in source, "Megatron's DDP gives the weight its buffer"


@pytest.mark.parametrize("fp8", ["delayed", "current", "blockwise"])
def test_recipes_of_hopper(fp8, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    kernels.require_recipe(fp8)


@pytest.mark.parametrize("fp8", ["mxfp8", "nvfp4"])
def test_recipes_that_hopper_does_not_have(fp8, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    with pytest.raises(UserError, match=rf"train.fp8 {fp8} does not work on NVIDIA H100 80GB HBM3: .* 10.0 or higher"):
        kernels.require_recipe(fp8)


@pytest.mark.parametrize(("fp8", "skip"), [("off", 0), ("current", 1), ("blockwise", 1), ("mxfp8", 1), ("nvfp4", 1)])
def test_layers_at_both_ends_stay_out_of_fp8(fp8, skip, build, monkeypatch):
    """Which layers run inside of Transformer Engine's FP8, as Megatron enters it for each."""
    from megatron.core.fp4_utils import get_fp4_context
    from megatron.core.fp8_utils import get_fp8_context

    config = build(SMALL, fp8=fp8, fp8_skip_layers=skip).config
    entered = []
    monkeypatch.setattr(te, "fp8_autocast", lambda **options: entered.append(type(options["fp8_recipe"]).__name__))
    inside = []
    for layer in range(3):
        (get_fp4_context if fp8 == "nvfp4" else get_fp8_context)(config, layer)
        inside.append(len(entered))
    assert inside == ([0, 0, 0] if fp8 == "off" else [0, 1, 1])


def parameters(**changes):
    """A packed bf16 batch of the 650M."""
    values = {
        "qkv_layout": "thd_thd_thd", "batch_size": 60, "num_heads": 20, "num_gqa_groups": 20, "max_seqlen_q": 1024,
        "max_seqlen_kv": 1024, "num_tokens_q": 32768, "num_tokens_kv": 32768, "head_dim_qk": 64, "head_dim_v": 64,
        "attn_mask_type": "padding", "window_size": (-1, -1), "core_attention_bias_requires_grad": False,
        "fp8_meta": {},
    }  # fmt: skip
    return utils.AttentionParams(**(values | changes))


@pytest.fixture
def choice(monkeypatch, build):
    """choose(fused): what Transformer Engine takes when cuDNN has a kernel (fused) or none; the patch is applied."""
    build(SMALL)
    kernels.refuse_slow(False)
    monkeypatch.setattr(utils, "get_cudnn_version", lambda: (9, 24, 0))
    backend = utils.FusedAttnBackend

    def choose(fused: bool, **changes):
        found = backend.F16_arbitrary_seqlen.value if fused else backend.No_Backend.value
        monkeypatch.setattr(utils, "_get_fused_attn_backend", lambda **_: (found, ""))
        return utils.get_attention_backend(parameters(**changes))

    yield choose
    kernels.refuse_slow(False)


def test_the_kernel_is_noted(choice):
    choice(True)
    assert kernels.seen() == ["fused (cuDNN, sub-backend 1)"]
    choice(False)
    assert kernels.seen() == ["fused (cuDNN, sub-backend 1)", kernels.UNFUSED]


def test_the_slow_kernel_is_refused_in_bf16_only(choice):
    kernels.refuse_slow(True)
    choice(True)
    choice(False, qkv_dtype=torch.float32)
    with pytest.raises(UserError, match=r"60 sequences of at most 1024 tokens .bfloat16, packed, heads of 64.*unfused"):
        choice(False)
