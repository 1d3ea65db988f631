"""Training over gloo processes: every layout gives the same losses, and so does an interrupted run."""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from train_runs import run_group
from train_shards import made_up, write_documents

from unirefine.cli.main import main
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.train.checkpoints import complete
from unirefine.train.metrics import read

pytestmark = pytest.mark.distributed

STEPS, STOP = 9, 6
CONFIG = {
    "model": {"preset": None, "layers": 3, "hidden": 48, "heads": 4},
    "sampling": {"max_tokens": 96},
    "optimizer": {"lr": 2e-3, "warmup_steps": 3},
    "steps": STEPS, "global_batch": 12, "micro_batch": 3, "precision": "fp32",
    "validate_every": 3, "checkpoint_every": STOP, "keep_checkpoints": 5, "log_every": 1,
}  # fmt: skip

# Options of train.parallel, and others of train. Where one process of two has all rows, they are two micro-batches too.
HALVES = {"micro_batch": 6}
LAYOUTS = {
    "dp2": ({}, {}),
    "dp2-packed": ({}, {"packed": True}),
    "dp2-replicated-optimizer": ({"distributed_optimizer": False}, {}),
    "tp2": ({"tensor": 2}, HALVES),
    "tp2-sp-packed": ({"tensor": 2, "sequence": True}, {"packed": True} | HALVES),
    "pp2": ({"pipeline": 2}, {}),
    "cp2": ({"context": 2}, HALVES),
    "cp2-packed": ({"context": 2}, {"packed": True} | HALVES),
}
TO_THE_END = {"checkpoint_every": STEPS}
"""Of runs that nobody continues: they have no checkpoint STOP."""
TOKENS = {"global_batch": None, "global_tokens": 700}
# Half precision. In the last, all updates up to checkpoint STOP overflow and are skipped.
HALF = {
    "bf16": {"precision": "bf16"},
    "bf16-replicated-optimizer": {"precision": "bf16", "parallel": {"distributed_optimizer": False}},
    "fp16": {"precision": "fp16", "initial_loss_scale": 64.0},
    "fp16-skipped": {"precision": "fp16", "initial_loss_scale": 2.0**40},
}


def config_of(layout: str, processes: int = 2, **changes) -> dict:
    parallel, options = LAYOUTS[layout]
    return CONFIG | options | {"parallel": {"processes_per_node": processes} | parallel} | changes


def half(name: str) -> dict:
    options = HALF[name]
    return CONFIG | options | {"parallel": {"processes_per_node": 2} | options.get("parallel", {})}


def losses(output: Path) -> list[tuple[int, float, float | None, float, float | None]]:
    """(step, loss, validation loss, gradient norm, validation loss of hidden residues) of each logged step."""
    names = ("step", "loss", "validation_loss", "grad_norm", "validation_hidden_loss")
    return [tuple(line.get(name) for name in names) for line in read(output / "metrics.jsonl")]


def layout_of(entry: dict) -> list[int]:
    """Sorts runs: processes keep their groups as long as the layout stays the same."""
    return [entry["config"]["parallel"].get(name, 1) for name in ("tensor", "pipeline", "context")]


def interrupted(source: Path, target: Path) -> Path:
    """A copy of a finished run, in the state of one that was killed some steps after checkpoint STOP."""
    shutil.copytree(source, target)
    shutil.rmtree(target / "final")
    for path in complete(target / "checkpoints"):
        if int(path.name.removeprefix("step-")) > STOP:
            shutil.rmtree(path)
    return target


@pytest.fixture(scope="module")
def runs(shards, other_shards, tmp_path_factory) -> Path:
    """Finished runs, one directory each: every layout over two processes, and some continued at another layout."""
    root = tmp_path_factory.mktemp("runs")

    def entry(output: str, config: dict) -> dict:
        return {"config": config, "shards": str(shards), "output": str(root / output)}

    continued = {"dp2": ["dp2", "tp2", "pp2"], "tp2": ["pp2"], "pp2": ["pp2", "dp2"]}
    entries = [entry(layout, config_of(layout) | ({} if layout in continued else TO_THE_END)) for layout in LAYOUTS]
    entries += [entry(name, half(name)) for name in HALF]
    entries += [
        entry("dp2-tokens", config_of("dp2", **TOKENS)),
        entry("tp2-tokens", config_of("tp2", **TOKENS, **TO_THE_END)),
        entry("dp2-sets", config_of("dp2", validation={"same": str(shards), "other": str(other_shards)})),
    ]
    run_group(2, sorted(entries, key=layout_of))
    entries = []
    for source, targets in continued.items():
        for target in targets:
            interrupted(root / source, root / f"{source}-then-{target}")
            entries.append(entry(f"{source}-then-{target}", config_of(target)))
    for name in HALF:
        interrupted(root / name, root / f"{name}-then-{name}")
        entries.append(entry(f"{name}-then-{name}", half(name)))
    interrupted(root / "dp2-sets", root / "dp2-sets-then-one")
    entries.append(entry("dp2-sets-then-one", config_of("dp2", validation={"same": str(shards)})))
    run_group(2, sorted(entries, key=layout_of))
    for source in ("dp2", "pp2"):
        interrupted(root / source, root / f"{source}-then-alone")
    interrupted(root / "dp2-tokens", root / "dp2-tokens-then-alone")
    entries = [entry(f"{source}-then-alone", config_of("dp2", processes=1)) for source in ("dp2", "pp2")]
    run_group(1, [*entries, entry("dp2-tokens-then-alone", config_of("dp2", processes=1, **TOKENS))])
    return root


@pytest.fixture(scope="module")
def other_shards(tmp_path_factory) -> Path:
    """The results of a run with other proteins."""
    results = tmp_path_factory.mktemp("other")
    write_documents(results / "shard", made_up(12, seed=9), validation=6)
    return results


def assert_same(found: list, expected: list, tolerance: float) -> None:
    assert [line[0] for line in found] == [line[0] for line in expected] == list(range(1, STEPS + 1))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[1:3] == pytest.approx(theirs[1:3], abs=tolerance), ours[0]
        assert ours[3] == pytest.approx(theirs[3], rel=10 * tolerance), ours[0]
        assert ours[4] == pytest.approx(theirs[4], abs=tolerance), ours[0]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "dp2"])
def test_layouts_give_the_same_losses(runs, layout):
    assert_same(losses(runs / layout), losses(runs / "dp2"), 1e-5)


def test_steps_of_tokens_have_the_same_samples_at_every_layout_and_after_a_stop(runs):
    found = read(runs / "dp2-tokens" / "metrics.jsonl")
    samples = [line["samples"] for line in found]
    tokens = [line["tokens"] for line in found]
    assert len(set(np.diff([0, *samples]))) > 1
    assert all(700 - 96 < step <= 700 for step in np.diff([0, *tokens]))
    for other in ("tp2-tokens", "dp2-tokens-then-alone"):
        assert_same(losses(runs / other), losses(runs / "dp2-tokens"), 1e-5)
        assert [line["samples"] for line in read(runs / other / "metrics.jsonl")] == samples


def test_further_validation_sets_are_measured_beside_the_own_one_and_decide_nothing(runs):
    before, *lines = read(runs / "dp2-sets" / "metrics.jsonl")
    assert before["step"] == 0 and "loss" not in before
    assert losses(runs / "dp2-sets")[1:] == losses(runs / "dp2")
    validated = [before, *(line for line in lines if "validation_loss" in line)]
    assert [line["step"] for line in validated] == [0, 3, 6, 9]
    for line in validated:
        for kind in ("validation_loss", "validation_hidden_loss", "validation_perplexity"):
            assert line[f"{kind}/same"] == line[kind] != line[f"{kind}/other"]
    trained = read_json(runs / "dp2-sets/final/train.json")
    assert trained["validation_loss/other"] == lines[-1]["validation_loss/other"] < before["validation_loss/other"]
    assert not any("/" in key for key in read_json(runs / "dp2/final/train.json") | lines[0])
    one = runs / "dp2-sets-then-one"
    assert read(one / "metrics.jsonl")[-1]["validation_loss/same"] == lines[-1]["validation_loss/same"]
    assert [key for key in read_json(one / "final/train.json") if "loss/" in key and "other" in key] == []


# (loss, gradient norm) of each step of "dp2"
GOLDEN = [
    (3.503979, 12.70999), (3.463904, 4.789634), (3.427066, 3.849622), (3.406265, 2.528037), (3.357287, 1.659763),
    (3.319483, 1.688381), (3.272315, 3.010090), (3.257703, 2.049758), (3.244062, 1.693398),
]  # fmt: skip


def test_golden_losses(runs):
    """Samples, masks, initial weights, loss, optimizer and schedule have not changed since the first release."""
    for (_, loss, _, norm, _), (golden_loss, golden_norm) in zip(losses(runs / "dp2"), GOLDEN, strict=True):
        assert loss == pytest.approx(golden_loss, abs=2e-4)
        assert norm == pytest.approx(golden_norm, rel=1e-3)


def test_every_file_of_a_model_and_of_a_checkpoint_is_recorded_with_its_hash(runs, capsys):
    final = runs / "dp2" / "final"
    written = {str(path.relative_to(final)) for path in final.rglob("*") if path.is_file()}
    listed = {file["name"]: file["sha256"] for file in lineage.read(final)["files"]}
    assert listed.keys() == {name for name in written if not name.endswith("lineage.json")}
    name = "huggingface/model.safetensors"
    assert listed[name] == hashlib.sha256((final / name).read_bytes()).hexdigest()
    recorded = json.loads((runs / "dp2/checkpoints/step-00000009/complete.json").read_text())["files"]
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata"} <= {file["name"] for file in recorded}
    assert main(["verify", str(runs / "dp2")]) == 0
    assert "DAMAGED" not in capsys.readouterr().out
    umask = os.umask(0o022)
    os.umask(umask)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (runs / "dp2").rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


def test_training_learns(runs):
    found = losses(runs / "dp2")
    assert found[-1][1] < found[0][1] - 0.2


def test_stop_and_go_at_the_same_layout_is_exact(runs):
    for layout in ("dp2", "pp2"):
        assert_same(losses(runs / f"{layout}-then-{layout}"), losses(runs / layout), 1e-12)


@pytest.mark.parametrize("name", HALF)
def test_stop_and_go_in_half_precision_is_exact(runs, name):
    assert losses(runs / f"{name}-then-{name}") == losses(runs / name)
    weights = [runs / run / "final" / "huggingface" / "model.safetensors" for run in (name, f"{name}-then-{name}")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_fp16_follows_fp32_and_skips_what_overflows(runs):
    for ours, theirs in zip(losses(runs / "fp16"), losses(runs / "dp2"), strict=True):
        assert ours[1] == pytest.approx(theirs[1], abs=0.02)
    skipped = losses(runs / "fp16-skipped")
    assert [line[3] for line in skipped[:STOP]] == [None] * STOP
    assert skipped[2][2] == skipped[5][2]  # validation: the weights are still the initial ones


@pytest.mark.parametrize(
    "name", ["dp2-then-tp2", "dp2-then-pp2", "tp2-then-pp2", "pp2-then-dp2", "dp2-then-alone", "pp2-then-alone"]
)
def test_stop_and_go_at_another_layout(runs, name):
    assert_same(losses(runs / name), losses(runs / "dp2"), 1e-5)


def test_final_directory(runs):
    from transformers import EsmForMaskedLM, EsmTokenizer

    final = runs / "tp2" / "final"
    facts = json.loads((final / "train.json").read_text())
    assert facts["step"] == STEPS
    assert facts["samples"] == STEPS * 12
    assert facts["config"]["parallel"]["tensor"] == 2
    assert facts["shards"]["format"] == "unirefine-shards"
    (machine,) = facts["hardware"]
    assert (machine["after_step"], machine["processes"], machine["gpu"]) == (0, 2, None)
    assert machine["date"] <= facts["finished"]
    model, loading = EsmForMaskedLM.from_pretrained(runs / "tp2" / "final" / "huggingface", output_loading_info=True)
    assert {name.split(".")[1] for name in loading["missing_keys"]} <= {"contact_head", "rotary_embeddings"}
    tokens = EsmTokenizer.from_pretrained(runs / "tp2" / "final" / "huggingface")("MKV", return_tensors="pt")
    assert model(**tokens).logits.shape == (1, 5, 33)
