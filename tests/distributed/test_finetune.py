"""Two processes of `unirefine finetune`, over gloo through accelerate: the losses of one process."""

import json
import os
import random
import time

import pytest
from forked import Forked
from launch import ended, rendezvous
from safetensors.torch import save_file
from transformers import EsmConfig, EsmForMaskedLM

from unirefine.cli.main import main

pytestmark = pytest.mark.distributed


def test_two_processes_have_the_losses_of_one(tmp_path):
    import torch

    torch.manual_seed(2)
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
        layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=1026,
    )  # fmt: skip
    config.save_pretrained(tmp_path / "esm2")
    weights = EsmForMaskedLM(config).state_dict()
    tied = "lm_head.decoder.weight"
    weights = {name: value for name, value in weights.items() if name != tied and "inv_freq" not in name}
    save_file(weights, tmp_path / "esm2/model.safetensors", metadata={"format": "pt"})
    draw = random.Random(1)
    rows = ["".join(draw.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(draw.randint(20, 50))) for _ in range(30)]
    lines = ["sequence,label", *(f"{row},{row.count('L') / len(row):.3f}" for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    words = ["finetune", "--model", tmp_path / "esm2", "--table", tmp_path / "t.csv", "--device", "cpu"]
    # 21 train rows in steps of 5: one process of a last step has no row; steps of several forward passes
    words += ["--epochs", "2", "--set", "batch=5", "--set", "batch_tokens=64"]
    words = [str(word) for word in words]
    assert main([*words, "--output", str(tmp_path / "one")]) == 0
    with rendezvous(2) as shared:
        ranks = [
            Forked(
                "unirefine", [*words, "--output", tmp_path / "two"], merged=True,
                environment=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]  # fmt: skip
        codes = ended(ranks, time.monotonic() + 200)
        for rank in ranks:
            rank.kill()
    assert codes == [0, 0], [rank.communicate()[0][-3000:] for rank in ranks]
    found = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(found[0]) == len(found[1]) == 12
    for one, two in zip(*found, strict=True):
        assert two == pytest.approx(one, abs=1e-5)
