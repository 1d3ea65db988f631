"""Import Megatron without what a CPU has no use for: torch's compiler, and wandb for its inference server.

Megatron decorates its fused functions with torch.compile at import, which loads the whole compiler. Together they are
half of the start of every process. With a GPU nothing is changed.
"""

import logging
import sys
import warnings

import torch

# Megatron warns at import about each optional CUDA package that is missing; on a CPU none of them can be there.
warnings.filterwarnings("ignore", module=r"megatron\.core")

if not torch.cuda.is_available():
    # Where Transformer Engine is installed but has no GPU, Megatron would take its CUDA Adam and norms.
    sys.modules.setdefault("transformer_engine", None)
    # Megatron's fused kernels make torch look for a CUDA compiler; one without a GPU is no news.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

if not torch.cuda.is_available():
    compiler = torch.compile
    torch.compile = lambda function, **_options: function
    held_back = "wandb" not in sys.modules
    sys.modules.setdefault("wandb", None)
    try:
        from megatron.core import jit
    finally:
        torch.compile = compiler
        if held_back:
            del sys.modules["wandb"]
    jit.disable_jit_fuser()  # in what is imported later
