"""Training on two nodes is stopped in every way that a cluster has, and continues."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pipeline import Pipeline, interrupt, wait_for

from unirefine.train.checkpoints import complete
from unirefine.train.launcher import EXIT_PREEMPTED

ENDLESS = {"steps": 1_000_000, "checkpoint_every": 20, "validate_every": 1_000_000, "log_every": 20}

pytestmark = pytest.mark.timeout(1800)


def newest(train: Path) -> int:
    """Step of the newest complete checkpoint, 0 without one."""
    found = complete(train / "checkpoints")
    return int(found[-1].name.removeprefix("step-")) if found else 0


def continued(pipeline: Pipeline, name: str) -> int:
    """The step after which the running job reports to continue; 0 when it has not reported it."""
    log = pipeline.directory / f"logs/{name}/train/train.log"
    found = re.search(r"continues after step ([\d,]+)", log.read_text()) if log.exists() else None
    return int(found[1].replace(",", "")) if found else 0


def finish(pipeline: Pipeline, name: str, train: Path, *arguments: str) -> None:
    """Run the workflow again: it finishes training, a few steps after the newest checkpoint."""
    saved = newest(train)
    config = pipeline.directory / f"{name}.yaml"
    config.write_text(config.read_text().replace(f"steps: {ENDLESS['steps']}", f"steps: {saved + 10}"))
    pipeline.run(f"results/{name}/train/final", *arguments, config=config.name)
    assert continued(pipeline, name) == saved
    assert newest(train) == saved + 10
    assert (train / "final").exists()


def uninterrupted(pipeline: Pipeline, name: str, steps: int, output: Path) -> dict[int, float]:
    """Loss by step of the same training without interruption, on this machine in two processes."""
    options = yaml.safe_load((pipeline.directory / f"{name}.yaml").read_text())["train"]
    options["parallel"] = {"processes_per_node": 2}
    command = [sys.executable, "-m", "unirefine.cli.main", "train", "--config", json.dumps(options)]
    command += ["--shards", str(pipeline.directory / "results/slurm/shard"), "--output", str(output)]
    running = subprocess.Popen(command, env=pipeline.environment, stdout=subprocess.DEVNULL)
    wait_for(lambda: max(losses(output), default=0) >= steps, f"step {steps}", running)
    running.terminate()
    assert running.wait(120) == EXIT_PREEMPTED
    return losses(output)


def losses(train: Path) -> dict[int, float]:
    """Loss by step, from metrics.jsonl; its last line may still be being written."""
    path = train / "metrics.jsonl"
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line}


def test_time_limit_and_ctrl_c(pipeline):
    train = pipeline.training("limit", **ENDLESS | {"checkpoint_every": 1_000_000})  # only the signal saves
    # the warning comes 40 to 70 seconds before the two minutes are over
    short = ("--set-resources", "train:runtime=2", "train:slurm_extra='--signal=USR1@40'")
    running = pipeline.start("results/limit/train/final", *short, config="limit.yaml")
    wait_for(lambda: continued(pipeline, "limit"), "a second job continues", running)
    output = (pipeline.directory / "snakemake.log").read_text()
    assert "Error in rule train" in output
    assert {job["TimelimitRaw"] for job in pipeline.jobs("train") if job["State"] == "FAILED"} == {"2"}
    interrupt(pipeline, running)
    finish(pipeline, "limit", train)  # also shows that the directory is not locked


def test_shared_files_hang_and_a_node_dies(pipeline, tmp_path):
    train = pipeline.training("death", **ENDLESS)
    running = pipeline.start("results/death/train/final", config="death.yaml")
    wait_for(lambda: newest(train) >= 40, "two checkpoints", running)

    pipeline.cluster.freeze_node("node2", 20)
    before = newest(train)
    wait_for(lambda: newest(train) >= before + 40, "training goes on after the files are back", running)
    assert continued(pipeline, "death") == 0, "the same job"

    saved = newest(train)
    pipeline.cluster.kill_node("node1")
    wait_for(lambda: "NODE_FAIL" in {job["State"] for job in pipeline.jobs("train")}, "the node is lost", running)
    pipeline.cluster.start_node("node1")
    wait_for(lambda: continued(pipeline, "death"), "the job's second start continues", running)
    resumed = continued(pipeline, "death")
    assert resumed >= saved
    wait_for(lambda: newest(train) >= resumed + 40, "it goes on", running)
    interrupt(pipeline, running)

    found = losses(train)
    wanted = uninterrupted(pipeline, "death", resumed + 40, tmp_path / "train")
    compared = sorted(found.keys() & wanted.keys())
    assert compared[-1] >= resumed + 40
    assert [found[step] for step in compared] == pytest.approx([wanted[step] for step in compared], rel=1e-5)

    # the last run of all is in an image that knows nothing of Slurm
    finish(pipeline, "death", train, "--sdm", "apptainer")
    assert sorted((pipeline.directory / "containers").read_text().split()) == ["node1", "node2"]
