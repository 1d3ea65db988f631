"""Counts of parameters and floating-point operations of an ESM-2, and peak FLOP/s of GPUs."""

from unirefine.core.alphabet import TOKENS

VOCABULARY = len(TOKENS)

# Dense peak of the tensor cores in bf16/fp16, FLOP/s: NVIDIA's data sheets, without sparsity
PEAK_FLOPS = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
}


def parameters(layers: int, hidden: int) -> int:
    """Parameters of an ESM-2 with rotary positions, tied embedding and no contact head.

    Embedding V h; per layer 12 h^2 + 13 h (QKV 3h^2+3h, output h^2+h, FFN 8h^2+5h, two layer norms 4h); final layer
    norm 2h; language-model head h^2 + h (dense) + 2h (layer norm) + V (bias of the tied decoder).
    """
    per_layer = 12 * hidden**2 + 13 * hidden
    return VOCABULARY * hidden + layers * per_layer + 2 * hidden + (hidden**2 + 3 * hidden + VOCABULARY)


def flops_per_token(layers: int, hidden: int, length: float) -> float:
    """FLOPs of forward and backward for one token of a sequence of `length` tokens (`<cls>` and `<eos>` included).

    3 [ L (24 h^2 + 4 s h) + 2 h^2 + 2 h V ]: a multiply-add counts two, the backward pass twice the forward pass;
    24 h^2 are a layer's four matrix products, 4 s h its attention scores and their product with the values (every
    token attends to all s), the rest is the head. Recomputation is not counted.
    """
    forward = layers * (24 * hidden**2 + 4 * length * hidden) + 2 * hidden**2 + 2 * hidden * VOCABULARY
    return 3 * forward


def batch_flops(layers: int, hidden: int, tokens: int, squared_lengths: int) -> float:
    """FLOPs of forward and backward for a batch. Padding does not count.

    tokens: sum of the sequences' lengths; squared_lengths: sum of the squares of their lengths.
    """
    return tokens * flops_per_token(layers, hidden, 0) + squared_lengths * 12 * layers * hidden


def peak_flops(device: str, precision: str, fp8: str) -> float | None:
    """Peak FLOP/s of one GPU, or None for fp32 and for a device that is not in `PEAK_FLOPS`.

    device: CUDA's name of it. FP8 doubles the peak of bf16.
    """
    if precision == "fp32":
        return None
    for name in sorted(PEAK_FLOPS, key=len, reverse=True):
        if all(word in device for word in name.split()):
            return PEAK_FLOPS[name] * (2 if fp8 != "off" else 1)
    return None
