"""The programs of examples/ run as they are, on shards, and learn."""

import os
import re
import time
from pathlib import Path

import pytest
import torch
from forked import Forked
from launch import ended, rendezvous
from transformers import EsmForMaskedLM

from unirefine.dataset import ShardDataset

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("--max-tokens", 64, "--layers", 1, "--hidden", 32, "--batch", 4)
LINE = re.compile(r"^step (\d+) loss (\d+\.\d+)$", re.MULTILINE)


def run(name: str, *arguments: object, processes: int = 1) -> str:
    """The output of rank 0 of an example."""
    with rendezvous(processes) as shared:
        environments = [os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        if processes == 1:
            environments = [os.environ | {"OMP_NUM_THREADS": "1"}]
        ranks = [Forked(str(EXAMPLES / name), arguments, environment=each, merged=True) for each in environments]
        codes = ended(ranks, time.monotonic() + 300)
        for rank in ranks:
            rank.kill()
        outputs = [rank.communicate()[0] for rank in ranks]
    assert codes == [0] * processes, outputs
    return outputs[0]


def losses(output: str) -> list[float]:
    found = LINE.findall(output)
    assert [int(step) for step, _loss in found] == list(range(int(found[0][0]), int(found[-1][0]) + 1))
    return [float(loss) for _step, loss in found]


def test_the_pytorch_loop_goes_on_where_it_stopped(shards, tmp_path):
    state = tmp_path / "loop.pt"
    whole = losses(run("pytorch_loop.py", shards, "--steps", 30, *SMALL))
    first = losses(run("pytorch_loop.py", shards, "--steps", 12, "--state", state, "--workers", 2, *SMALL))
    rest = losses(run("pytorch_loop.py", shards, "--steps", 30, "--state", state, *SMALL))
    assert first + rest == pytest.approx(whole, abs=2e-5)  # two passes: an epoch has 25 steps
    assert len(whole) == 30 and sum(whole[-5:]) < sum(whole[:5])


def test_the_trainer_of_hugging_face_validates_on_fixed_masks(shards, tmp_path):
    output = run("hf_trainer.py", shards, "--steps", 4, "--output", tmp_path / "hf", *SMALL)
    shown = float(re.findall(r"validation loss (\d+\.\d+)", output)[-1])
    model = EsmForMaskedLM.from_pretrained(tmp_path / "hf").eval()
    dataset = ShardDataset(shards, "validation", max_tokens=64)
    with torch.no_grad():
        means = [model(**batch).loss.item() for batch in dataset.loader(4)]  # 20 sequences: five whole batches
    assert shown == pytest.approx(sum(means) / len(means), abs=1e-5)


def test_the_megatron_loop_has_the_same_losses_at_any_layout(shards):
    one, two, tensor = (
        losses(run("megatron_loop.py", shards, "--steps", 4, *SMALL, *layout, processes=processes))
        for processes, layout in ((1, ()), (2, ()), (2, ("--tensor", 2)))
    )
    assert two == pytest.approx(one, abs=2e-5) and tensor == pytest.approx(one, abs=2e-5)
    assert len(one) == 4 and one[-1] != one[0]
