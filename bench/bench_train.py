"""A training step beside the plain loop around EsmForMaskedLM, on real proteins, per token without padding.

Each case does whole updates (forward, backward, clipping, Adam) of the same masked samples, one process, fp32, SDPA, at
most the same number of tokens in a forward pass. transformers gets its samples in shuffled
order, or sorted by length within the step, as ours does itself.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from demo_proteins import proteins
from paired import main

STEP, MICRO, LONGEST = 16, 4, 1024
"""Samples a step; samples of full length a forward pass; tokens of the longest sample."""
SIZES = {"8M": (6, 320, 20), "four layers of 128": (4, 128, 4)}


@cache
def samples() -> list[tuple[np.ndarray, np.ndarray]]:
    """Masked tokens and labels of one step's samples, lengths as they come."""
    from unirefine.core.alphabet import CLS, EOS, MASK, encode

    rng, every = np.random.default_rng(0), proteins()
    made = []
    for sequence in every[:: len(every) // STEP][:STEP]:
        tokens = np.concatenate([[CLS], encode(sequence[: LONGEST - 2]), [EOS]]).astype(np.int64)
        chosen = (rng.random(len(tokens)) < 0.15) & (tokens != CLS) & (tokens != EOS)
        made.append((np.where(chosen, MASK, tokens), np.where(chosen, tokens, -100)))
    return made


def padded(chosen: Sequence[int], width: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, labels int64[b, s] and lengths int64[b] of some samples."""
    rows = [samples()[index] for index in chosen]
    lengths = np.array([len(tokens) for tokens, _ in rows])
    tokens = np.full((len(rows), width or lengths.max()), 1)
    labels = np.full_like(tokens, -100)
    for row, (masked, wanted) in enumerate(rows):
        tokens[row, : len(masked)], labels[row, : len(wanted)] = masked, wanted
    return tokens, labels, lengths


class Fixed:
    """The samples as `unirefine.train.data` takes a stream."""

    def lengths_of(self, indices: np.ndarray) -> np.ndarray:
        return np.array([len(samples()[index][0]) for index in indices])

    def batch(self, indices: np.ndarray, width: int):
        from unirefine.sampling import Batch

        return Batch(*padded(indices, width))


def ours(size: str, packed: bool):
    def case():
        from unirefine.megatron import platform

        from unirefine.config import Train
        from unirefine.model.esm2 import build_esm2
        from unirefine.train import engine
        from unirefine.train.data import make_micro_batch, plan_micro_batches
        from unirefine.train.step import train_step

        layers, hidden, heads = SIZES[size]
        config = Train.model_validate(
            {
                "model": {"preset": None, "layers": layers, "hidden": hidden, "heads": heads},
                "parallel": {"processes_per_node": 1}, "sampling": {"max_tokens": LONGEST},
                "global_batch": STEP, "micro_batch": MICRO, "packed": packed, "precision": "fp32",
            }
        )  # fmt: skip
        platform.initialize(config.parallel, 0)
        model = engine.wrap(build_esm2(config.model, config), config)
        optimizer = engine.build_optimizer(model, config)
        engine.set_rate(optimizer, 1e-4, 0.01)

        def run(count: int = STEP) -> None:
            plans = plan_micro_batches(Fixed(), np.arange(count), config, 0, 1)
            batches = [make_micro_batch(Fixed(), each, config) for each in plans]
            train_step(model, optimizer, batches, step=0, waited=0.0, stop=False, directory=Path())

        run(4)
        return int(Fixed().lengths_of(np.arange(STEP)).sum()), run

    case.__doc__ = f"unirefine, {'packed' if packed else 'padded'}."
    return case


def transformers_loop(size: str, by_length: bool):
    def case():
        import torch
        from transformers import EsmConfig, EsmForMaskedLM

        layers, hidden, heads = SIZES[size]
        config = EsmConfig(
            vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=hidden, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=4 * hidden, position_embedding_type="rotary",
            token_dropout=True, emb_layer_norm_before=False, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, attn_implementation="sdpa",
        )  # fmt: skip
        model = EsmForMaskedLM(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)

        def run(count: int = STEP) -> None:
            order = list(range(count))
            if by_length:
                order.sort(key=lambda index: -len(samples()[index][0]))
            total = sum(int((samples()[index][1] >= 0).sum()) for index in order)
            for start in range(0, count, MICRO):
                tokens, labels, lengths = padded(order[start : start + MICRO])
                mask = torch.from_numpy(np.arange(tokens.shape[1]) < lengths[:, None])
                logits = model(torch.from_numpy(tokens), attention_mask=mask).logits
                loss = torch.nn.functional.cross_entropy(
                    logits.view(-1, 33), torch.from_numpy(labels).view(-1), reduction="sum"
                )
                (loss / total).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        run(4)
        return sum(len(tokens) for tokens, _ in samples()), run

    case.__doc__ = "transformers loop."
    return case


TABLES = {
    f"Training step, {size}, fp32": (
        "tokens",
        {
            "unirefine, packed": ours(size, packed=True),
            "unirefine, padded": ours(size, packed=False),
            "transformers, in order": transformers_loop(size, by_length=False),
            "transformers, sorted by length": transformers_loop(size, by_length=True),
        },
    )
    for size in SIZES
}

if __name__ == "__main__":
    main(TABLES, rounds=3, per_core=True)
