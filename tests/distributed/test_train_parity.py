"""Training parity: our loop and a plain PyTorch loop around EsmForMaskedLM give the same loss curve."""

from pathlib import Path

import numpy as np
import pytest
import torch
from train_runs import run_group
from transformers import EsmConfig, EsmForMaskedLM

from unirefine.config import Sampling
from unirefine.dataset import open_shards
from unirefine.sampling import SampleStream, fixed_batch
from unirefine.train.metrics import read

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

STEPS, BATCH, PEAK, WARMUP, DECAY = 200, 8, 2e-3, 20, 0.01
SAMPLING = {"max_tokens": 64}
CONFIG = {
    "model": {"preset": None, "layers": 2, "hidden": 64, "heads": 4}, "sampling": SAMPLING,
    "optimizer": {"lr": PEAK, "warmup_steps": WARMUP, "weight_decay": DECAY},
    "steps": STEPS, "global_batch": BATCH, "precision": "fp32",
    "validate_every": 1000, "checkpoint_every": 1000, "log_every": 1,
}  # fmt: skip


def plain_loop(directory: Path, shards: Path) -> tuple[list[float], dict[str, float]]:
    """Loss of each step, and the validation losses at the end, with transformers and torch.optim only, except for the
    samples, which are ours.
    """
    model = EsmForMaskedLM.from_pretrained(directory).train()
    named = [(name, p) for name, p in model.named_parameters() if "contact_head" not in name]
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for _, p in named if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.98), eps=1e-8)
    end = 0.9 * STEPS
    stream = SampleStream(open_shards(shards).train, Sampling(**SAMPLING))
    losses = []
    for step in range(STEPS):
        update = step + 1
        decayed = PEAK * (1 - 0.9 * (update - WARMUP) / (end - WARMUP))
        for group in optimizer.param_groups:
            group["lr"] = PEAK * update / WARMUP if update < WARMUP else max(decayed, 0.1 * PEAK)
        batch = stream.batch(np.arange(step * BATCH, (step + 1) * BATCH))
        mask = torch.arange(batch.tokens.shape[1]) < torch.from_numpy(batch.lengths)[:, None]
        labels = torch.from_numpy(batch.labels.astype(np.int64))
        loss = model(torch.from_numpy(batch.tokens.astype(np.int64)), attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, validated(model, shards)


@torch.no_grad()
def validated(model: EsmForMaskedLM, shards: Path) -> dict[str, float]:
    """Mean loss of the validation sequences, one by one: over all chosen residues, and over those hidden by <mask>."""
    side, sampling = open_shards(shards).validation, Sampling(**SAMPLING)
    nll, hidden = [], []
    for sequence in range(side.sequences):
        batch = fixed_batch(side, np.array([sequence]), sampling.seed, sampling)
        tokens, labels = (torch.from_numpy(each.astype(np.int64)) for each in (batch.tokens, batch.labels))
        logits = model(tokens, attention_mask=torch.ones_like(tokens)).logits
        chosen = labels >= 0
        nll.append(torch.nn.functional.cross_entropy(logits[chosen], labels[chosen], reduction="none"))
        hidden.append(tokens[chosen] == 32)
    found, where = torch.cat(nll), torch.cat(hidden)
    assert 0 < where.sum() < len(where)
    return {"validation_loss": float(found.mean()), "validation_hidden_loss": float(found[where].mean())}


@pytest.fixture(scope="module")
def lines(shards, tmp_path_factory) -> dict[str, list[dict[str, float]]]:
    """metrics.jsonl by layout, and what a plain loop would have written there."""
    root = tmp_path_factory.mktemp("parity")
    torch.set_num_threads(1)  # as the processes that are launched
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=33, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        position_embedding_type="rotary", token_dropout=True, mask_token_id=32, pad_token_id=1, layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, emb_layer_norm_before=False,
    )  # fmt: skip
    initial = root / "initial"
    EsmForMaskedLM(config).save_pretrained(initial)
    layouts = {"dp2": {}, "tp2": {"tensor": 2}}
    runs = [
        {
            # one micro-batch a step: sums over several are compared in test_model_layouts.py and test_train.py
            "config": CONFIG
            | {"init": str(initial), "parallel": {"processes_per_node": 2} | layout}
            | {"micro_batch": BATCH if layout else BATCH // 2},
            "shards": str(shards),
            "output": str(root / name),
        }
        for name, layout in layouts.items()
    ]
    run_group(2, runs)
    losses, validation = plain_loop(initial, shards)
    plain = [{"loss": loss} for loss in losses]
    plain[-1] |= validation
    return {name: read(root / name / "metrics.jsonl") for name in layouts} | {"plain": plain}


@pytest.fixture(scope="module")
def curves(lines) -> dict[str, list[float]]:
    return {name: [line["loss"] for line in found] for name, found in lines.items()}


@pytest.mark.parametrize("layout", ["dp2", "tp2"])
def test_validation_coincides_with_a_plain_loop(lines, layout):
    ours, plain = lines[layout][-1], lines["plain"][-1]
    for name in ("validation_loss", "validation_hidden_loss"):
        assert ours[name] == pytest.approx(plain[name], abs=1e-3)
    assert ours["validation_hidden_perplexity"] == pytest.approx(np.exp(ours["validation_hidden_loss"]))
    assert abs(ours["validation_hidden_loss"] - ours["validation_loss"]) > 0.01


@pytest.mark.parametrize("layout", ["dp2", "tp2"])
def test_200_steps_coincide_with_a_plain_loop(curves, layout):
    ours, plain = np.array(curves[layout]), np.array(curves["plain"])
    assert ours.shape == plain.shape == (STEPS,)
    assert np.abs(ours - plain).max() < 1e-3


def test_the_curve_goes_down(curves):
    assert np.mean(curves["plain"][-20:]) < np.mean(curves["plain"][:5]) - 0.3
