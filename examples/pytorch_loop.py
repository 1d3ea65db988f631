"""A plain PyTorch loop: Hugging Face's EsmForMaskedLM on ShardDataset, stopped and continued without a repeated sample.

    python examples/pytorch_loop.py results/demo/shard --steps 20 --state loop.pt

A second call continues from the state file up to --steps.
"""

import argparse
from pathlib import Path

import torch
from transformers import EsmConfig, EsmForMaskedLM

from unirefine.dataset import ShardDataset


def esm2(layers: int, hidden: int, heads: int) -> EsmForMaskedLM:
    """An ESM-2 with initial weights."""
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, num_hidden_layers=layers, hidden_size=hidden,
        num_attention_heads=heads, intermediate_size=4 * hidden, position_embedding_type="rotary", token_dropout=True,
        emb_layer_norm_before=False, layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return EsmForMaskedLM(config)


def main() -> None:
    """Train, print every loss, save the state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--state", type=Path, help="weights, optimizer and position; read where it exists")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = esm2(arguments.layers, arguments.hidden, heads=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, betas=(0.9, 0.98), weight_decay=0.01)
    loader = ShardDataset(arguments.shards, max_tokens=arguments.max_tokens).loader(
        arguments.batch, workers=arguments.workers
    )
    step = 0
    if arguments.state and arguments.state.exists():
        state = torch.load(arguments.state, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
        step = state["step"]

    while step < arguments.steps:
        for batch in loader:  # a pass; the next one has other members, windows and masks
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            print(f"step {step} loss {loss.item():.6f}", flush=True)
            if step == arguments.steps:
                break

    if arguments.state:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
        torch.save({**state, "step": step}, arguments.state)


if __name__ == "__main__":
    main()
