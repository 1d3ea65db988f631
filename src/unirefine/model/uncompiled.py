"""Import Megatron without what a CPU has no use for: torch's compiler, and wandb for its inference server.

Megatron decorates its fused functions with torch.compile at import, which loads the whole compiler. Together they are
half of the start of every process. With a GPU nothing is changed.
"""

import sys

import torch

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
