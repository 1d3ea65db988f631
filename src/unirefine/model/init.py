"""Initial weights as a pure function of (seed, parameter name): the same model at every layout.

Each parameter is drawn whole from a CPU generator keyed by the seed and its name in checkpoints; each tensor-parallel
rank keeps its slice. Weights are N(0, 0.02), those that write into the residual stream
N(0, 0.02 / sqrt(2 x layers)) as in Megatron; biases are 0, layer norm weights 1.
"""

import hashlib
import math

import torch

from unirefine.model.layout import global_parameters, local_slice
from unirefine.model.settings import INIT_STD, VOCABULARY


@torch.no_grad()
def initialize_weights(model: torch.nn.Module, seed: int) -> None:
    """Set every parameter of an `Esm2` stage in place."""
    residual = INIT_STD / math.sqrt(2 * model.config.num_layers)
    for name, parameter in global_parameters(model):
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            std = residual if name.endswith(("linear_proj.weight", "linear_fc2.weight")) else INIT_STD
            parameter.copy_(local_slice(name, _normal(seed, name, model.config, std), model))


def _normal(seed: int, name: str, config: object, std: float) -> torch.Tensor:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.empty(_shape(name, config)).normal_(0.0, std, generator=generator)


def _shape(name: str, config: object) -> tuple[int, int]:
    hidden, inner = config.hidden_size, config.ffn_hidden_size
    shapes = {
        "word_embeddings.weight": (VOCABULARY, hidden),
        "linear_qkv.weight": (3 * hidden, hidden),
        "linear_proj.weight": (hidden, hidden),
        "linear_fc1.weight": (inner, hidden),
        "linear_fc2.weight": (hidden, inner),
        "dense.weight": (hidden, hidden),
    }
    return next(shape for end, shape in shapes.items() if name.endswith(end))
