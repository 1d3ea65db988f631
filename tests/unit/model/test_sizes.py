"""The presets have the published numbers of parameters, and layouts cover them exactly."""

import oracle
import pytest

from unirefine.config.training import PRESETS, Model, Parallel, Train
from unirefine.core.alphabet import TOKENS
from unirefine.model import settings
from unirefine.model.convert import stage_of
from unirefine.model.esm2 import build_esm2
from unirefine.model.huggingface import parameter_names
from unirefine.model.layout import global_parameters, is_vocabulary

# Millions of parameters as Lin et al. 2023 and the model cards give them, to three digits
PUBLISHED = {"8M": 7.5, "35M": 33.5, "150M": 148, "650M": 651, "3B": 2840, "15B": 15100}


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_of_a_preset(preset):
    train = Train(model=Model(preset=preset), parallel=Parallel(processes_per_node=1))
    with oracle.on_meta():
        model = build_esm2(train.model, train, weights=False)
    parameters = dict(global_parameters(model))
    assert all(parameter.is_meta for parameter in parameters.values())
    count = 0
    for name, parameter in parameters.items():
        rows = len(TOKENS) if is_vocabulary(name) else parameter.shape[0]
        count += rows * parameter.numel() // parameter.shape[0]
    assert count / 1e6 == pytest.approx(PUBLISHED[preset], rel=0.003)
    layers, hidden, _heads = PRESETS[preset]
    assert count == layers * (12 * hidden**2 + 13 * hidden) + 33 * hidden + 2 * hidden + hidden**2 + 3 * hidden + 33
    assert list(parameters) != [] and set(parameters) == set(parameter_names(layers))


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (33, 1, [33]),
        (33, 2, [16, 17]),
        (33, 4, [8, 9, 8, 8]),
        (34, 4, [8, 9, 9, 8]),
        (35, 4, [8, 9, 9, 9]),
        (48, 8, [6] * 8),
        (3, 3, [1, 1, 1]),
    ],
)
def test_pipeline_stages_are_even(layers, stages, expected):
    assert settings.pipeline_stages(layers, stages) == expected
    names = parameter_names(layers)
    owners = [stage_of(name, layers, stages) for name in names]
    assert owners == sorted(owners) and owners[0] == 0 and owners[-1] == stages - 1
    per_stage = [sum(".mlp.linear_fc1.weight" in n for n, s in zip(names, owners, strict=True) if s == stage)
                 for stage in range(stages)]  # fmt: skip
    assert per_stage == expected


@pytest.mark.parametrize("tensor", [1, 2, 4, 5, 8])
def test_padded_vocabulary_splits_evenly(tensor):
    rows = settings.padded_vocabulary(tensor)
    assert rows >= 33 and rows % tensor == 0 and (rows // tensor) % 8 == 0
    assert rows - 8 * tensor < 33


@pytest.mark.parametrize(
    ("layout", "multiple", "with_fp8"),
    [
        ({}, 1, 32),
        ({"tensor": 2}, 1, 32),
        ({"tensor": 2, "sequence": True}, 2, 64),
        ({"context": 2}, 4, 64),
        ({"tensor": 2, "sequence": True, "context": 2}, 8, 128),
    ],
)
def test_length_multiple(layout, multiple, with_fp8):
    assert settings.length_multiple(Parallel(**layout)) == multiple
    assert settings.length_multiple(Parallel(**layout), "mxfp8") == with_fp8
    for wide in ("blockwise", "nvfp4"):  # 128 tokens a rank
        assert settings.length_multiple(Parallel(**layout), wide) == 4 * with_fp8


@pytest.fixture
def configured(monkeypatch):
    """configured(gpu, **train options): what Megatron's TransformerConfig is given. On a CPU it refuses a GPU's."""
    monkeypatch.setattr(settings, "TransformerConfig", lambda **options: options)

    def configure(*, gpu: bool = True, **options) -> dict:
        train = Train(model=Model(preset="650M"), parallel=Parallel(processes_per_node=1), **options)
        return settings.transformer_config(train.model, train, gpu=gpu)

    return configure


@pytest.mark.parametrize(
    ("fp8", "expected"),
    [
        ("off", {}),
        ("delayed", {"fp8": "hybrid", "fp8_amax_compute_algo": "max"}),
        ("current", {"fp8": "hybrid", "fp8_recipe": "tensorwise"}),
        ("blockwise", {"fp8": "e4m3", "fp8_recipe": "blockwise"}),
        ("mxfp8", {"fp8": "e4m3", "fp8_recipe": "mxfp8"}),
        ("nvfp4", {"fp4": "e2m1", "fp4_recipe": "nvfp4"}),
    ],
)
def test_megatrons_options_of_a_recipe(fp8, expected, configured):
    options = configured(fp8=fp8)
    assert options | expected == options
    assert "first_last_layers_bf16" not in options and ("fp8" in options or "fp4" in options) == bool(expected)
    # data-parallel ranks may run different numbers of micro-batches
    assert options.get("tp_only_amax_red", False) == bool(expected)


def test_layers_at_both_ends_stay_out_of_fp8(configured):
    options = configured(fp8="current", fp8_skip_layers=2)
    names = ("first_last_layers_bf16", "num_layers_at_start_in_bf16", "num_layers_at_end_in_bf16")
    assert [options[name] for name in names] == [True, 2, 2]


def test_selective_recomputes_the_feed_forward_network(configured):
    """Fused attention keeps no scores: Megatron's default would compute it again for nothing."""
    assert configured(recompute="selective")["recompute_modules"] == ["mlp"]


def test_kernels_are_chosen_on_gpus_only(configured):
    options = {"attention": "flash", "deterministic": True}
    for gpu, expected in ((False, ("auto", False)), (True, ("flash", True))):
        found = configured(gpu=gpu, **options)
        assert (found["attention_backend"].name, found["deterministic_mode"]) == expected


def test_gelu_is_exact_and_never_fused():
    train = Train(model=Model(preset="8M"), parallel=Parallel(processes_per_node=1))
    config = settings.transformer_config(train.model, train, gpu=False)
    assert not config.bias_activation_fusion  # Megatron's fused kernel is the tanh approximation
    assert (config.hidden_dropout, config.attention_dropout, config.layernorm_epsilon) == (0.0, 0.0, 1e-5)
