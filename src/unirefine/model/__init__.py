"""ESM-2 on Megatron-core: the model (`esm2`), its checkpoints (`checkpoint`), Hugging Face conversion (`convert`)."""

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
