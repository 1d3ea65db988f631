"""Which slice of which whole tensor a rank holds: checkpoint names, split dimensions, vocabulary padding.

The whole tensors are those of a model at TP=1, PP=1 with 33 vocabulary rows; names are Transformer Engine's with the
global layer number, as in `encoder.layers.7.self_attention.linear_qkv.layer_norm_weight`.
"""

import re
from collections.abc import Iterator

import torch

from unirefine.model.settings import VOCABULARY
from unirefine.model.spec import CHECKPOINT_NAMES

EMBEDDING = "embedding.word_embeddings.weight"

# dimension along which tensor parallelism splits a tensor; the others are whole on every rank
SPLIT = {
    "word_embeddings.weight": 0,
    "output_layer.bias": 0,
    "linear_qkv.weight": 0,
    "linear_qkv.bias": 0,
    "linear_proj.weight": 1,
    "linear_fc1.weight": 0,
    "linear_fc1.bias": 0,
    "linear_fc2.weight": 1,
}


def split_dimension(name: str) -> int | None:
    """Dimension that TP splits, or None."""
    return next((dim for end, dim in SPLIT.items() if name.endswith(end)), None)


def mark_split_parameters(model: torch.nn.Module) -> None:
    """Set Megatron's attributes of parameters that TP splits: the gradient norm counts the others once.

    Megatron sets them when it initialises weights, which `model/init.py` does instead.
    """
    for name, parameter in global_parameters(model):
        dim = split_dimension(name)
        if dim is not None:
            parameter.tensor_model_parallel, parameter.partition_dim, parameter.partition_stride = True, dim, 1


def is_vocabulary(name: str) -> bool:
    """Whether dimension 0 is the (padded) vocabulary."""
    return name.endswith(("word_embeddings.weight", "output_layer.bias"))


def global_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """(global name, parameter) of every parameter of this rank's `Esm2`.

    The last stage's copy of the embedding has the embedding's name.
    """
    offset = model.encoder.layers[0].layer_number - 1 if len(model.encoder.layers) else 0
    for name, parameter in model.named_parameters():
        yield global_name(name, offset), parameter


def global_name(name: str, layer_offset: int) -> str:
    """Global name of a parameter, from its name (in either layer spec) in a stage that starts at `layer_offset`."""
    if name == "output_layer.weight":
        return EMBEDDING
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)", name)
    if match is None:
        return name
    rest = match[2]
    for local, checkpoint in CHECKPOINT_NAMES.items():
        if rest.startswith(local):
            rest = checkpoint + rest.removeprefix(local)
    return f"encoder.layers.{int(match[1]) + layer_offset}.{rest}"


def local_slice(name: str, whole: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """This TP rank's slice of a whole tensor (a view where possible); rows of the padded vocabulary are 0."""
    dim = split_dimension(name)
    if dim is None:
        return whole
    if is_vocabulary(name):
        assert whole.shape[0] == VOCABULARY, (name, whole.shape)
        whole = torch.cat([whole, whole.new_zeros(model.vocabulary - VOCABULARY, *whole.shape[1:])])
    group = model.pg_collection.tp
    return whole.chunk(group.size(), dim)[group.rank()]
