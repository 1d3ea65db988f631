"""Which attention kernels Transformer Engine takes, and which of its recipes this GPU has.

`patches.attention_kernels_noted` calls `note` for every choice: one for each shape of a batch.
"""

from typing import Any

import torch

from unirefine.errors import UserError

UNFUSED = "unfused kernel (all scores in memory)"
NOTHING = "no kernel"

RECIPES = {
    "delayed": "is_fp8_available",
    "current": "is_fp8_available",
    "blockwise": "is_fp8_block_scaling_available",
    "mxfp8": "is_mxfp8_available",
    "nvfp4": "is_nvfp4_available",
}
"""For each `train.fp8`, Transformer Engine's function that says whether this GPU and its libraries have it."""

_seen: dict[str, None] = {}
_refusing = False


def refuse_slow(refuse: bool) -> None:
    """From now on, whether `note` refuses UNFUSED in bf16 and fp16, and NOTHING. Also forgets what was seen."""
    global _refusing
    _refusing = refuse
    _seen.clear()


def seen() -> list[str]:
    """The kernels chosen so far, in the order of their first use."""
    return list(_seen)


def note(parameters: Any, choice: tuple) -> None:
    """Remember what Transformer Engine chose. parameters: its `AttentionParams`; choice: what they were answered with.

    Raises UserError as `refuse_slow` says: before the memory for all scores is asked for.
    """
    flash, flash_version, fused, fused_number, unfused = choice[:5]
    if flash:
        name = f"flash-attn {flash_version}"
    elif fused:
        name = f"fused (cuDNN, sub-backend {int(fused_number)})"
    else:
        name = UNFUSED if unfused else NOTHING
    half = parameters.qkv_dtype in (torch.bfloat16, torch.float16)
    if _refusing and (name == NOTHING or (name == UNFUSED and half)):
        raise _refusal(parameters, name)
    _seen[name] = None


def _refusal(parameters: Any, name: str) -> UserError:
    packed = str(parameters.qkv_layout).startswith("t")
    if parameters.context_parallel:  # slots with padding, which flash-attn 2 does not take
        ways = ["set parallel.context: 1"]
    else:
        ways = ["install flash-attn", f"set train.packed: {str(not packed).lower()}"]
    if parameters.deterministic:
        ways.append("set train.deterministic: false")
    if name == UNFUSED:
        ways.append("allow it with train.attention: unfused")
    return UserError(
        f"attention of {parameters.batch_size} sequences of at most {parameters.max_seqlen_q} tokens "
        f"({str(parameters.qkv_dtype).removeprefix('torch.')}, {'packed' if packed else 'padded'}, heads of "
        f"{parameters.head_dim_qk}) would take Transformer Engine's {name}",
        fix=f"{', or '.join(ways)}; NVTE_DEBUG=1 NVTE_DEBUG_LEVEL=2 says why",
    )


def require_recipe(fp8: str) -> None:
    """Raise UserError when this GPU, or its CUDA, does not have the recipe of `train.fp8`."""
    import transformer_engine.pytorch as te

    available, reason = getattr(te, RECIPES[fp8])(return_reason=True)
    if not available:
        raise UserError(
            f"train.fp8 {fp8} does not work on {torch.cuda.get_device_name()}: {reason.rstrip('.')}",
            fix="choose another recipe, or off",
        )
