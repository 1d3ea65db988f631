"""From the project's config to Megatron's: sizes, layout, precision, recompute; and the layer spec of the device."""

import math

import torch
from megatron.core.transformer.enums import AttnBackend
from megatron.core.transformer.transformer_config import TransformerConfig

from unirefine.config.training import FP8_BLOCK, Model, Parallel, Train
from unirefine.core.alphabet import TOKENS
from unirefine.errors import UserError

VOCABULARY = len(TOKENS)
LAYER_NORM_EPS = 1e-5
ROPE_THETA = 10000
INIT_STD = 0.02
VOCABULARY_MULTIPLE = 8
"""The embedding's rows per TP rank are a multiple of this: tensor cores want 8."""

FP8_TOKENS = 32
"""Rows of FP8 matrices are a multiple of this at least, or of the recipe's block if that is larger."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Megatron's options of each `train.fp8`. Blocks of one scale need no e5m2 for gradients.
FP8_RECIPES: dict[str, dict] = {
    "delayed": {"fp8": "hybrid", "fp8_recipe": "delayed", "fp8_amax_history_len": 1024, "fp8_amax_compute_algo": "max"},
    "current": {"fp8": "hybrid", "fp8_recipe": "tensorwise"},
    "blockwise": {"fp8": "e4m3", "fp8_recipe": "blockwise"},
    "mxfp8": {"fp8": "e4m3", "fp8_recipe": "mxfp8"},
    "nvfp4": {"fp4": "e2m1", "fp4_recipe": "nvfp4"},
}


def padded_vocabulary(tensor: int) -> int:
    """Rows of the embedding at a TP size: 33, rounded up to a multiple of 8 x TP."""
    step = VOCABULARY_MULTIPLE * tensor
    return math.ceil(VOCABULARY / step) * step


def length_multiple(parallel: Parallel, fp8: str = "off") -> int:
    """What the length of a row must be a multiple of: s of a padded batch [b, s], t of a packed one [1, t].

    Context parallelism cuts a sequence into 2 x CP chunks, sequence parallelism a CP rank's tokens into TP pieces.
    Under FP8 each of these ranks has a multiple of FP8_TOKENS or the recipe's block. Slots have `slot_multiple`.
    """
    per_rank = slot_multiple(parallel) // parallel.context if fp8 == "off" else max(FP8_TOKENS, FP8_BLOCK[fp8])
    return parallel.context * (parallel.tensor if parallel.sequence else 1) * per_rank


def slot_multiple(parallel: Parallel) -> int:
    """What the length of a slot in a packed batch must be a multiple of: 2 x CP under context parallelism, else 1."""
    return 2 * parallel.context if parallel.context > 1 else 1


def pipeline_stages(layers: int, stages: int) -> list[int]:
    """Layers of each pipeline stage, as even as possible.

    Leftover layers go to the middle stages first, then to the last, then to the first: the first also holds the
    embedding, the last the head, which for a vocabulary of 33 is about one small matrix.
    """
    base, rest = divmod(layers, stages)
    order = [*range(1, stages - 1), stages - 1, 0] if stages > 1 else [0]
    extra = set(order[:rest])
    return [base + (stage in extra) for stage in range(stages)]


def _pipeline_layout(layers: int, stages: int) -> list[list[str]]:
    layout = [["decoder"] * count for count in pipeline_stages(layers, stages)]
    layout[0].insert(0, "embedding")
    layout[-1].append("loss")
    return layout


def transformer_config(model: Model, train: Train, *, gpu: bool) -> TransformerConfig:
    """Megatron's TransformerConfig of an ESM-2 of `model`'s size under `train`'s layout and precision.

    `gpu` selects fused kernels (Transformer Engine); without it everything is plain torch. Biases everywhere, pre-LN,
    no dropout, erf GELU (Megatron's fused bias-GELU is the tanh approximation, so that fusion stays off).
    """
    layers, hidden, heads = model.sizes
    layout, dtype = train.parallel, DTYPES[train.precision]
    if gpu and layout.context > 1 and train.precision == "fp32":
        raise UserError(
            "on GPUs, context parallelism needs train.precision bf16 or fp16: no attention kernel takes fp32 there",
            fix="change the precision, or set parallel.context: 1",
        )
    options: dict = {}
    if layout.pipeline > 1:
        options |= {
            "pipeline_model_parallel_layout": _pipeline_layout(layers, layout.pipeline),
            "pipeline_dtype": dtype,
            "variable_seq_lengths": True,  # a batch is as long as its longest sequence
            "moe_token_dispatcher_type": "alltoall",  # unused, but the option above requires it
        }
    if train.fp8 != "off":
        # data-parallel ranks may run different numbers of micro-batches, so amax is shared within TP only
        options |= FP8_RECIPES[train.fp8] | {"tp_only_amax_red": True}
        if train.fp8_skip_layers:
            options |= {
                "first_last_layers_bf16": True,
                "num_layers_at_start_in_bf16": train.fp8_skip_layers,
                "num_layers_at_end_in_bf16": train.fp8_skip_layers,
            }
    if train.recompute == "full":
        options |= {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    elif train.recompute == "selective":
        # not Megatron's default, the attention: fused kernels keep no scores that could be computed again
        options |= {"recompute_granularity": "selective", "recompute_modules": ["mlp"]}
    return TransformerConfig(
        num_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        ffn_hidden_size=4 * hidden,
        tensor_model_parallel_size=layout.tensor,
        pipeline_model_parallel_size=layout.pipeline,
        context_parallel_size=layout.context,
        sequence_parallel=layout.sequence,
        params_dtype=dtype,
        bf16=train.precision == "bf16",
        fp16=train.precision == "fp16",
        layernorm_epsilon=LAYER_NORM_EPS,
        activation_func=torch.nn.functional.gelu,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        add_bias_linear=True,
        init_method_std=INIT_STD,
        perform_initialization=False,  # model/init.py does it, identically at every layout
        attention_softmax_in_fp32=True,
        attention_backend=AttnBackend[train.attention] if gpu else AttnBackend.auto,
        deterministic_mode=gpu and train.deterministic,
        apply_rope_fusion=gpu,
        bias_activation_fusion=False,
        bias_dropout_fusion=gpu,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        cross_entropy_loss_fusion=False,
        calculate_per_token_loss=True,
        **options,
    )
