"""Environment variables that the GPU's libraries read at their first use, so before this process touches CUDA."""

import contextlib
import os
from collections.abc import Iterator, Mapping

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files import made_by

DETERMINISTIC = {
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": ("0",),
    "CUBLAS_WORKSPACE_CONFIG": (":4096:8", ":16:8"),
    "NCCL_ALGO": ("Ring", "CollnetDirect", "CollnetChain"),
}
"""Variables of `train.deterministic` and the values that Megatron-core verified; the first is set where there is none.

They are for attention, for cuBLAS, and for the order in which NCCL adds.
"""

KERNELS = {"flash": "NVTE_FLASH_ATTN", "fused": "NVTE_FUSED_ATTN", "unfused": "NVTE_UNFUSED_ATTN"}
"""Transformer Engine's switch of each attention kernel. Megatron sets them from `train.attention`."""


def variables(config: Train) -> dict[str, str]:
    """Values for variables that the user has not set.

    - expandable_segments: micro-batches have different sizes, and fixed segments fragment.
    - CUDA_DEVICE_MAX_CONNECTIONS=1 keeps the order in which TP and CP overlap communication with computation; without
      them it would only stop the gradient reduction from overlapping.
    - TORCHINDUCTOR_COMPILE_THREADS: a few small kernels are compiled, for which each process would start up to 32 more.
    - the command that was given: the processes of the training are started by another one.
    """
    values = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    values[made_by.COMMAND] = made_by.command()
    if "PYTORCH_ALLOC_CONF" in os.environ:  # the newer name of the same variable
        del values["PYTORCH_CUDA_ALLOC_CONF"]
    if config.parallel.tensor > 1 or config.parallel.context > 1:
        values["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    if config.deterministic:
        values |= {name: accepted[0] for name, accepted in DETERMINISTIC.items()}
    return values


def check(config: Train, environment: Mapping[str, str]) -> None:
    """Raise UserError when a variable contradicts `train.deterministic` or `train.attention`."""
    if config.deterministic:
        for name, accepted in DETERMINISTIC.items():
            if name in environment and environment[name] not in accepted:
                raise _contradiction("train.deterministic", name, environment[name], " or ".join(accepted))
    for kernel, name in KERNELS.items():
        needed = str(int(config.attention in ("auto", kernel)))
        if environment.get(name, needed) != needed:
            raise _contradiction(f"train.attention {config.attention}", name, environment[name], needed)


def _contradiction(option: str, name: str, value: str, needed: str) -> UserError:
    return UserError(f"{option} needs {name}={needed}, but the environment has {value!r}", fix=f"unset {name}")


@contextlib.contextmanager
def set_for(config: Train) -> Iterator[None]:
    """Within the block, and in processes started from it, the variables are set. Raises UserError as `check` does."""
    check(config, os.environ)
    added = {name: value for name, value in variables(config).items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
