"""What a batch of tokens means to ESM-2: slots, true lengths, token dropout, context-parallel slices.

A *slot* holds one sequence: it is a row of a padded batch `tokens[b, s]`, or `tokens[0, cu[i]:cu[i + 1]]` of a packed
batch `tokens[1, t]`. Sequences are left-aligned in their slot; the rest of it is `<pad>`, which occurs nowhere else.
"""

import torch

from unirefine.core.alphabet import MASK, PAD

TRAINED_MASK_RATIO = 0.15 * 0.8
"""Fraction of `<mask>` that token dropout assumes, fixed for every ESM-2 (Lin et al. 2023)."""

IGNORE = -100
"""Label of a position without loss, as in torch and transformers."""


def on_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the CPU, such as the bounds of slots, on `device`: copied without waiting for the GPU."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


def row_bounds(tokens: torch.Tensor) -> torch.Tensor:
    """Bounds of the slots of a flattened padded batch [b, s]: int32[b + 1] on the CPU."""
    rows, length = tokens.shape
    return torch.arange(rows + 1, dtype=torch.int32) * length


def slot_sums(values: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Sum per slot. values: int or bool[t]; bounds: int32[n + 1] on the same device; returns int64[n]."""
    running = torch.nn.functional.pad(values.to(torch.int64).cumsum(0), (1, 0))
    return running[bounds].diff()


def without_padding(
    tokens: torch.Tensor, bounds: torch.Tensor, multiple: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens int64[1, m], bounds, index): the real tokens of a batch, packed.

    index: int64[number of real tokens], their positions in the flattened batch. m is a multiple of `multiple`, if need
    be with a slot of `<pad>` at the end. tokens and bounds are as in `token_scale`.
    """
    flat = tokens.reshape(-1)
    valid = flat != PAD
    index = valid.nonzero()[:, 0]
    lengths = slot_sums(valid, bounds)
    packed = flat[index]
    missing = -len(packed) % multiple
    if missing:
        packed = torch.cat([packed, packed.new_full((missing,), PAD)])
        lengths = torch.cat([lengths, lengths.new_tensor([missing])])
    lengths = lengths[lengths > 0]
    return packed[None], torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32), index


def token_scale(tokens: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Token dropout (Lin et al. 2023) as one factor per token, by which embeddings are multiplied.

    0 for `<mask>` and `<pad>`; elsewhere (1 - 0.15 x 0.8) / (1 - n_mask / n_nonpad) of the sequence, with `<cls>` and
    `<eos>` counted. The same in training and inference.

    tokens: int64[b, s]; bounds: int32[n + 1] over the flattened tokens, on the same device; returns float32[b, s].
    """
    flat = tokens.reshape(-1)
    lengths = slot_sums(flat != PAD, bounds).clamp(min=1)
    observed = slot_sums(flat == MASK, bounds) / lengths
    factor = (1 - TRAINED_MASK_RATIO) / (1 - observed)
    spread = factor.repeat_interleave(bounds.diff(), output_size=flat.numel())
    return spread.masked_fill((flat == MASK) | (flat == PAD), 0.0).view_as(tokens)


def context_index(bounds: torch.Tensor, size: int, rank: int) -> torch.Tensor:
    """Positions of a flattened batch that context-parallel rank `rank` of `size` holds: int64[t / size] on the CPU.

    Each slot is cut into 2 x size chunks; rank r holds chunks r and 2 x size - 1 - r (Megatron's and Transformer
    Engine's load-balanced order). Every slot length must be a multiple of 2 x size.
    """
    chunks = []
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        chunk, rest = divmod(end - start, 2 * size)
        if rest:
            raise ValueError(
                f"slot of {end - start} tokens is not a multiple of 2 x context parallel size = {2 * size}"
            )
        chunks += [torch.arange(chunk) + start + number * chunk for number in (rank, 2 * size - 1 - rank)]
    return torch.cat(chunks)


def context_slice(values: torch.Tensor, bounds: torch.Tensor | None = None, *, size: int, rank: int) -> torch.Tensor:
    """This context-parallel rank's slice of `values` [b, s] (or [1, t] with bounds): [b, s / size] ([1, t / size]).

    The order of positions is that of `Esm2.forward`'s output under context parallelism.
    """
    if size == 1:
        return values
    index = context_index(row_bounds(values) if bounds is None else bounds, size, rank)
    index = on_device(index, values.device)
    return values.reshape(-1)[index].view(values.shape[0], -1)
