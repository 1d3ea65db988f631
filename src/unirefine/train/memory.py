"""Estimate the memory of one GPU from the config, before a job is queued."""

from unirefine.config import Train
from unirefine.train.flops import VOCABULARY, parameters

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}


def layers_of_stage(layers: int, pipeline: int) -> int:
    """Layers of the largest pipeline stage."""
    return -(-layers // pipeline)


def rank_parameters(config: Train) -> int:
    """Parameters of the process with the most: the first or last pipeline stage, which hold the tied embedding."""
    layers, hidden, _heads = config.model.sizes
    layout = config.parallel
    stage = layers_of_stage(layers, layout.pipeline)
    # of a layer, QKV, output and feed-forward are split over TP; layer norms and two biases are not
    split = 12 * hidden**2 + 7 * hidden
    whole = 6 * hidden
    embedding = VOCABULARY * hidden // layout.tensor
    head = parameters(layers, hidden) - VOCABULARY * hidden - layers * (split + whole)
    return stage * (split // layout.tensor + whole) + embedding + head


def memory_per_process(config: Train) -> dict[str, float]:
    """Bytes of the process with the most: `parameters`, `gradients`, `optimizer`, `activations`, `total`.

    Gradients are accumulated in fp32. The optimizer holds Adam's two moments and, unless the model is fp32, fp32
    weights; the distributed optimizer divides that by DP x CP. Activations are those that the backward pass needs for
    a full micro-batch with flash attention: per layer and token 16 h values (h each: inputs and outputs of two layer
    norms, q, k, v, the attention's output; 4 h each: the GELU's input and output). With 1F1B, the first stage has as
    many micro-batches in flight as there are stages. Not included: CUDA, NCCL and allocator overhead (2 to 5 GB).
    Check: for the 650M with the published 46 sequences a micro-batch on one 80 GB A100 the estimate is 76 GB.
    """
    layers, hidden, _heads = config.model.sizes
    layout, width = config.parallel, BYTES[config.precision]
    count = rank_parameters(config)
    weights = count * width
    gradients = count * 4
    state = count * (8 if config.precision == "fp32" else 12)
    if layout.distributed_optimizer:
        state /= layout.data * layout.context
    tokens = config.micro_batch * config.sampling.max_tokens / layout.context
    stage = layers_of_stage(layers, layout.pipeline)
    in_flight = min(layout.pipeline, config.accumulated)
    shared = 4 * hidden / (layout.tensor if layout.sequence else 1)
    per_layer = tokens * width * (shared + 12 * hidden / layout.tensor)
    if config.recompute == "full":
        kept = in_flight * stage * tokens * width * hidden + per_layer
    elif config.recompute == "selective":  # neither the second layer norm's output nor the GELU's input and output
        inner = tokens * width * (shared / 4 + 8 * hidden / layout.tensor)
        kept = in_flight * stage * (per_layer - inner) + inner
    else:
        kept = in_flight * stage * per_layer
    head = tokens * (width * 4 * hidden + 4 * 3 * VOCABULARY)
    parts = {"parameters": weights, "gradients": gradients, "optimizer": state, "activations": kept + head}
    return parts | {"total": sum(parts.values())}
