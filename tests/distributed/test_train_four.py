"""Training over four gloo processes: two kinds of parallelism together, lower precision, recomputation."""

from pathlib import Path

import pytest
from test_train import CONFIG, HALVES, TO_THE_END, assert_same, losses
from train_runs import run_group

from unirefine.train.metrics import read

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

# Options of train.parallel, and others of train
LAYOUTS = {
    "tp2-dp2": ({"tensor": 2}, {}),
    "pp2-dp2": ({"pipeline": 2}, {}),
    "tp2-sp-pp2-packed-recompute": (
        {"tensor": 2, "sequence": True, "pipeline": 2},
        {"packed": True, "recompute": "full"} | HALVES,
    ),
    "cp2-tp2": ({"context": 2, "tensor": 2}, HALVES),
}


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("four")

    def entry(name: str, processes: int, parallel: dict, options: dict) -> dict:
        config = CONFIG | TO_THE_END | options | {"parallel": {"processes_per_node": processes} | parallel}
        return {"config": config, "shards": str(shards), "output": str(root / name)}

    run_group(4, [entry(name, 4, *layout) for name, layout in LAYOUTS.items()])
    run_group(1, [entry("alone", 1, {}, {}), entry("bf16", 1, {}, {"precision": "bf16"} | HALVES)])
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_four_processes_give_the_losses_of_one(runs, layout):
    assert_same(losses(runs / layout), losses(runs / "alone"), 1e-5)


def test_bf16_follows_fp32(runs):
    exact, rounded = (losses(runs / name) for name in ("alone", "bf16"))
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours[1] == pytest.approx(theirs[1], abs=0.03)
    assert read(runs / "bf16" / "metrics.jsonl")[-1]["validation_loss"] == pytest.approx(exact[-1][2], abs=0.03)
