"""Which attention Transformer Engine picks: its own rules, asked with our model's attention layer and described GPUs.

The layer runs as in training up to the question, so that formats, masks, head sizes and flags are those of a training.
Only cuDNN's answer, whether it has a kernel, needs a GPU: `cudnn_has` stands in for it.
"""

import dataclasses
from collections.abc import Iterator

import unirefine.megatron  # noqa: F401 - before Megatron

import numpy as np
import pytest
import torch
from megatron.core.transformer.enums import AttnMaskType
from packaging.version import Version
from transformer_engine.pytorch.attention.dot_product_attention import utils
from transformer_engine.pytorch.attention.dot_product_attention.utils import AttentionParams, FlashAttentionUtils

from unirefine.config.training import PRESETS, Model
from unirefine.model.batch import row_bounds
from unirefine.train import environment, plan

CUDNN = (9, 24, 0)
FLASH = "2.8.3"
"""The versions that the table is made for: of the packages pinned for Python 3.12, and the last flash-attn 2 that
Transformer Engine 2.20 takes."""

DEVICES = {
    "H100, H200": ((9, 0), False),
    "B200": ((10, 0), False),
    "A100": ((8, 0), False),
    "A100 with flash-attn": ((8, 0), True),
    "L40S": ((8, 9), False),
    "L40S with flash-attn": ((8, 9), True),
}
"""Compute capability; whether flash-attn 2 is installed."""

MICRO_BATCH = {"3B": 8, "15B": 8}
"""`train.micro_batch` where it is not 32."""

CASES = {
    "packed": {"packed": True},
    "padded": {"packed": False},
    "packed, CP": {"packed": True, "context": 2},
    "packed, deterministic": {"packed": True, "deterministic": True},
    "padded, deterministic": {"packed": False, "deterministic": True},
    "packed, fp32": {"packed": True, "precision": "fp32"},
    "padded, fp32": {"packed": False, "precision": "fp32"},
}
"""Columns of the table; bf16 where nothing else is said. Padded rows are packed under context parallelism."""

NAMES = ("FlashAttention", "FusedAttention", "UnfusedDotProductAttention")
SHORT = dict(zip((*NAMES, None), ("flash", "cuDNN", "unfused", "error"), strict=True))


def lengths(micro_batch: int) -> list[int]:
    """Tokens of the sequences in the first packed micro-batch of a step, which has the longest ones.

    The step is of 2,048 sequences on 8 GPUs. Their lengths are log-normal like UniRef50's, cropped to 1,024 tokens.
    """
    drawn = np.exp(np.random.default_rng(0).normal(5.6, 0.75, 2048)).astype(int) + 20
    cropped = np.minimum(drawn, 1024)
    mine = cropped[plan.share(cropped, 0, 8)]
    return mine[plan.packs(mine, micro_batch * 1024)[0]].tolist()


class _Stop(Exception):
    """The question has been asked."""


class _OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def asked(build, preset: str, *, packed: bool, context: int = 1, deterministic: bool = False, precision: str = "bf16"):
    """The AttentionParams with which our model's attention layer asks for a backend in training."""
    _layers, hidden, heads = PRESETS[preset]
    size = Model(preset=None, layers=1, hidden=hidden, heads=heads)
    options = {"layout": {"context": context}, "precision": "bf16" if context > 1 else precision}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("megatron.core.extensions.transformer_engine.TEDotProductAttention.cp_stream", object())
        for name, values in environment.DETERMINISTIC.items() if deterministic else ():
            patched.setenv(name, values[0])
        model = build(size, packed=packed, deterministic=deterministic, **options)
        if packed:
            widths = [-(-length // (2 * context)) * 2 * context for length in lengths(MICRO_BATCH.get(preset, 32))]
            tokens = torch.full((1, sum(widths)), 5)
            bounds = torch.tensor([0, *widths]).cumsum(0).to(torch.int32)
        else:
            tokens = torch.full((MICRO_BATCH.get(preset, 32), 1024), 5)
            bounds = row_bounds(tokens)
        mask, params = model._attention_on_gpu(tokens, bounds, int(bounds.diff().max()), packed=packed)
        rows = (tokens.numel() // context,) if packed else tokens.T.shape
        # as Megatron's layer makes them: query and key from the RoPE kernel, the value a part of the fused product
        dtype, head = model.config.params_dtype, hidden // heads
        query, key = (torch.empty(*rows, heads, head, dtype=dtype) for _ in range(2))
        value = torch.empty(*rows, heads, 3 * head, dtype=dtype)[..., 2 * head :]
        found: list[AttentionParams] = []

        def capture(params: AttentionParams) -> None:
            found.append(params)
            raise _Stop

        patched.setattr(utils, "get_attention_backend", capture)
        patched.setattr(utils, "get_cu_seqlens", lambda _mask: row_bounds(tokens))  # it allocates on the GPU
        with pytest.raises(_Stop):
            model.encoder.layers[0].self_attention.core_attention(
                *(each.as_subclass(_OnGpu) for each in (query, key, value)),
                mask,
                attn_mask_type=AttnMaskType.padding,
                packed_seq_params=params,
            )
    return dataclasses.replace(found[0], qkv_type=torch.Tensor)


def cudnn_has(capability: tuple[int, int], arguments: dict) -> bool:
    """Whether cuDNN 9.24 has a kernel, for what we ask: head sizes that are multiples of 8, packed from sm90 on.

    From cuDNN's table of what its attention supports; half precision only, as Transformer Engine asks for no other.
    """
    packed = "THD" in arguments["qkv_layout"].name
    widest = 256 if capability >= (9, 0) else 128
    return (
        arguments["head_dim_qk"] % 8 == 0
        and arguments["head_dim_qk"] <= widest
        and (not packed or capability >= (9, 0))
    )


def chosen(params: AttentionParams, device: str) -> str | None:
    """Name of the backend that Transformer Engine's rules choose on a device; None: it raises an error."""
    capability, flash = DEVICES[device]

    def cudnn(**arguments):
        backend = utils.FusedAttnBackend
        has = cudnn_has(capability, arguments)
        return (backend.F16_arbitrary_seqlen if has else backend.No_Backend).value, "" if has else "no kernel"

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(utils, "get_device_compute_capability", lambda: capability)
        patched.setattr(utils, "get_cudnn_version", lambda: CUDNN)
        patched.setattr(utils, "_get_fused_attn_backend", cudnn)
        for name in (
            name for name in vars(FlashAttentionUtils) if name.startswith(("v2", "v3", "v4", "is_inst", "version"))
        ):
            patched.setattr(FlashAttentionUtils, name, getattr(FlashAttentionUtils, name))  # to be restored
        FlashAttentionUtils.is_installed = False
        if flash:
            FlashAttentionUtils.version = Version(FLASH)
            FlashAttentionUtils.set_flash_attention_version()
        flash, _, fused, _, unfused, _ = utils.get_attention_backend(params)
    return next((name for name, use in zip(NAMES, (flash, fused, unfused), strict=True) if use), None)


def choices(build) -> dict[str, dict[str, dict[str, str | None]]]:
    """{preset: {case: {device: backend}}}"""
    found: dict = {}
    for preset in PRESETS:
        questions = {case: asked(build, preset, **options) for case, options in CASES.items()}
        found[preset] = {
            case: {device: chosen(params, device) for device in DEVICES} for case, params in questions.items()
        }
    return found


def table(found: dict) -> Iterator[str]:
    """Lines of a Markdown table: a row per device and presets that have the same backends."""
    yield "| GPU | presets | " + " | ".join(CASES) + " |"
    yield "|---" * (len(CASES) + 2) + "|"
    for device in DEVICES:
        rows: dict[tuple, list[str]] = {}
        for preset, cases in found.items():
            rows.setdefault(tuple(SHORT[cases[case][device]] for case in CASES), []).append(preset)
        for backends, presets in rows.items():
            which = "all" if len(presets) == len(found) else ", ".join(presets)
            yield " | ".join(("| " + device, which, *backends)) + " |"
