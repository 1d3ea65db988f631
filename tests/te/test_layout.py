"""Transformer Engine's ESM-2: fused modules, parameter names and shapes at every preset and layout, conversion."""

from unirefine.megatron import patches

import oracle
import pytest
import torch
import transformer_engine.pytorch as te
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.extensions.transformer_engine import (
    TEDotProductAttention,
    TELayerNormColumnParallelLinear,
    TERowParallelLinear,
)
from megatron.core.fp8_utils import get_fp8_context, get_fp8_recipe
from megatron.core.models.common.embeddings import rope_utils
from megatron.core.transformer.identity_op import IdentityOp
from transformer_engine.common import recipe

from unirefine.config.training import PRESETS, Model
from unirefine.model import checkpoint, convert, huggingface, spec
from unirefine.model.convert import stage_of
from unirefine.model.huggingface import parameter_names
from unirefine.model.layout import global_parameters, is_vocabulary, split_dimension
from unirefine.model.settings import DTYPES, padded_vocabulary

SMALL = Model(preset=None, layers=3, hidden=128, heads=4)


def whole_shape(name: str, hidden: int) -> list[int]:
    """Shape of a parameter at TP=1 with 33 vocabulary rows."""
    shapes = {
        "word_embeddings.weight": [33, hidden], "output_layer.bias": [33],
        "linear_qkv.weight": [3 * hidden, hidden], "linear_qkv.bias": [3 * hidden],
        "linear_fc1.weight": [4 * hidden, hidden], "linear_fc1.bias": [4 * hidden],
        "linear_fc2.weight": [hidden, 4 * hidden],
        "linear_proj.weight": [hidden, hidden], "dense.weight": [hidden, hidden],
    }  # fmt: skip
    return next((shape for end, shape in shapes.items() if name.endswith(end)), [hidden])


@pytest.mark.parametrize("tensor", [1, 2, 4])
@pytest.mark.parametrize("preset", PRESETS)
def test_names_and_shapes(preset, tensor, build):
    layers, hidden, _heads = PRESETS[preset]
    model = build(Model(preset=preset), tensor - 1, layout={"tensor": tensor})
    parameters = dict(global_parameters(model))
    assert set(parameters) == set(parameter_names(layers))
    for name, parameter in parameters.items():
        shape = whole_shape(name, hidden)
        if is_vocabulary(name):
            shape[0] = padded_vocabulary(tensor)
        if (dim := split_dimension(name)) is not None:
            shape[dim] //= tensor
        assert list(parameter.shape) == shape, name
        assert parameter.is_meta and parameter.dtype == torch.bfloat16
        assert getattr(parameter, "tensor_model_parallel", False) == (dim is not None), name


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("preset", ["650M", "15B"])
def test_stages_share_the_layers(preset, stages, build):
    layers = PRESETS[preset][0]
    seen = []
    for stage in range(stages):
        model = build(Model(preset=preset), stage, layout={"pipeline": stages})
        names = [name for name, _ in global_parameters(model)]
        copies = 1 if stage == stages - 1 else 0  # the head's copy of the embedding
        assert len(names) == sum(stage_of(name, layers, stages) == stage for name in parameter_names(layers)) + copies
        seen += names
    assert sorted(set(seen)) == sorted(parameter_names(layers)) and len(seen) == len(set(seen)) + 1


def test_fused_modules_are_chosen(build):
    model = build(SMALL, layout={"tensor": 2}, precision="bf16")
    assert len(model.encoder.layers) == 3
    for layer in model.encoder.layers:
        assert type(layer.self_attention.linear_qkv) is TELayerNormColumnParallelLinear
        assert type(layer.self_attention.core_attention) is TEDotProductAttention
        assert type(layer.self_attention.linear_proj) is TERowParallelLinear
        assert type(layer.mlp.linear_fc1) is TELayerNormColumnParallelLinear
        assert type(layer.mlp.linear_fc2) is TERowParallelLinear
        assert type(layer.input_layernorm) is IdentityOp and type(layer.pre_mlp_layernorm) is IdentityOp
        assert layer.self_attention.core_attention.attn_mask_type == "padding"
    assert isinstance(model.encoder.final_layernorm, te.LayerNorm)
    config = model.config
    assert config.apply_rope_fusion and rope_utils.fused_apply_rotary_pos_emb is not None
    assert config.bias_dropout_fusion and not config.bias_activation_fusion
    assert config.activation_func is torch.nn.functional.gelu


def test_sequence_parallel_reaches_every_module(build):
    """Transformer Engine marks parameters that it allocates; we mark the head's."""
    model = build(SMALL, layout={"tensor": 2, "sequence": True})
    for layer in model.encoder.layers:
        for module in (layer.self_attention.linear_qkv, layer.self_attention.linear_proj):
            assert module.sequence_parallel
        assert layer.mlp.linear_fc1.sequence_parallel and layer.mlp.linear_fc2.sequence_parallel
    assert model.encoder.final_layernorm.sequence_parallel and model.output_layer.sequence_parallel
    assert all(parameter.sequence_parallel for parameter in model.head.parameters())
    assert model.embedding.word_embeddings.reduce_scatter_embeddings


@pytest.mark.parametrize(
    ("fp8", "kind"),
    [
        ("delayed", recipe.DelayedScaling),
        ("current", recipe.Float8CurrentScaling),
        ("blockwise", recipe.Float8BlockScaling),
        ("mxfp8", recipe.MXFP8BlockScaling),
    ],
)
def test_fp8_recipes(fp8, kind, build):
    made = get_fp8_recipe(build(SMALL, fp8=fp8).config)
    assert type(made) is kind or issubclass(type(made), kind)


@pytest.mark.parametrize("fp8", ["delayed", "current", "mxfp8"])
def test_fp8_ranks_that_share_amax_run_the_same_micro_batches(fp8, build, monkeypatch):
    """Transformer Engine all-reduces after each micro-batch, and data-parallel ranks may run different numbers."""
    config = build(SMALL, layout={"tensor": 2}, data=2, fp8=fp8).config
    given = {}
    monkeypatch.setattr(te, "fp8_autocast", lambda **options: given.update(options))
    get_fp8_context(config)
    assert torch.distributed.get_process_group_ranks(given["fp8_group"]) == [0, 1]
    assert torch.distributed.get_world_size() == 4


SIZES = [(3, 128, 4, "bf16"), (3, 128, 4, "fp32"), (2, 96, 6, "fp32"), (5, 320, 20, "bf16")]


@pytest.mark.parametrize(("layers", "hidden", "heads", "precision"), SIZES)
def test_export_gives_back_what_was_loaded(layers, hidden, heads, precision, build, tmp_path, monkeypatch):
    """The files of `export_huggingface`, bit for bit, also with a checkpoint of the TE layout in between."""
    theirs = oracle.random_huggingface(layers, hidden, heads).to(DTYPES[precision])
    source = oracle.save_huggingface(theirs, tmp_path / "hf")
    size = Model(preset=None, layers=layers, hidden=hidden, heads=heads)
    model = build(size, device="cpu", precision=precision)
    convert.load_huggingface(source, model)
    loaded = build(size, device="cpu", precision=precision)
    with patches.CudaCallsOnCpu(), monkeypatch.context() as patched:  # what checkpoints exchange is on the GPU
        patched.setattr(torch.cuda, "current_device", lambda: torch.device("cpu"))
        checkpoint.save(tmp_path / "checkpoint", model)
        checkpoint.load(tmp_path / "checkpoint", loaded)
    expected = {huggingface.usual_name(name): tensor for name, tensor in convert_tensors(source).items()}
    for name, each in (("direct", model), ("through-checkpoint", loaded)):
        convert.export_huggingface(each, tmp_path / name)
        got = {huggingface.usual_name(name): tensor for name, tensor in convert_tensors(tmp_path / name).items()}
        assert got.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in got.items())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_conversion_round_trip(precision, build, tmp_path):
    """Hugging Face to the TE layout and back, bit for bit."""
    theirs = oracle.random_huggingface(3, 128, 4).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    source = oracle.save_huggingface(theirs, tmp_path / "hf")
    model = build(SMALL, device="cpu", precision=precision)
    convert.load_huggingface(source, model)
    expected = {huggingface.usual_name(name): tensor for name, tensor in convert_tensors(source).items()}
    compared = 0
    for name, whole in convert.whole_tensors(model):
        names = huggingface.huggingface_names(name)
        for theirs_name, part in zip(names, convert.split_qkv(whole, 4) if len(names) == 3 else [whole], strict=True):
            assert torch.equal(part, expected[theirs_name]), theirs_name
            compared += 1
    assert compared == 8 * 2 * 3 + 8
    assert "esm.contact_head.regression.weight" in model.extra_tensors


def convert_tensors(directory):
    files = huggingface.HuggingfaceFiles(directory)
    return {name: files.tensor(name) for name in files.names()}


@pytest.mark.parametrize("rank", [0, 1])
def test_tensor_parallel_parts(rank, build, tmp_path):
    """TP rank r of 2 holds heads 2r and 2r + 1, columns and rows to match."""
    theirs = oracle.random_huggingface(3, 128, 4)
    source = oracle.save_huggingface(theirs, tmp_path / "hf")
    model = build(SMALL, rank, device="cpu", layout={"tensor": 2}, precision="fp32")
    convert.load_huggingface(source, model)
    layer, reference = model.encoder.layers[1], theirs.esm.encoder.layer[1]
    mine = slice(64 * rank, 64 * rank + 64)
    qkv = layer.self_attention.linear_qkv.weight.view(2, 3, 32, 128)
    assert torch.equal(qkv[:, 0].reshape(64, 128), reference.attention.self.query.weight[mine])
    assert torch.equal(qkv[:, 2].reshape(64, 128), reference.attention.self.value.weight[mine])
    assert torch.equal(layer.self_attention.linear_proj.weight, reference.attention.output.dense.weight[:, mine])
    assert torch.equal(layer.self_attention.linear_qkv.layer_norm_weight, reference.attention.LayerNorm.weight)
    inner = slice(256 * rank, 256 * rank + 256)
    assert torch.equal(layer.mlp.linear_fc1.weight, reference.intermediate.dense.weight[inner])
    assert torch.equal(layer.mlp.linear_fc2.weight, reference.output.dense.weight[:, inner])
    assert torch.equal(layer.mlp.linear_fc2.bias, reference.output.dense.bias)


def test_checkpoints_of_both_specs_have_the_same_keys(build, monkeypatch):
    """A checkpoint written on GPUs loads on a CPU and the other way round."""
    from unirefine.model import esm2 as module

    def described(model):
        state = model.sharded_state_dict(metadata={})
        return {
            tensor.key: (tuple(tensor.global_shape), tensor.dtype)
            for tensor in state.values()
            if not isinstance(tensor, ShardedObject)
        }

    fused = described(build(SMALL))
    local = spec.block_spec
    monkeypatch.setattr(module, "block_spec", lambda layers, gpu: local(layers, gpu=False))
    monkeypatch.setattr(module.layers, "add_bias_in_product", lambda linear: None)
    assert described(build(SMALL)) == fused
