"""Training on two nodes is stopped in every way that a cluster knows, and goes on."""

import re
import time

import pytest
from pipeline import Pipeline, interrupt, wait_for

from unirefine.train.checkpoints import complete

ENDLESS = {"steps": 1_000_000, "checkpoint_every": 20, "validate_every": 1_000_000, "log_every": 20}

pytestmark = pytest.mark.timeout(1800)


def newest(train) -> int:
    """Step of the newest complete checkpoint, 0 without one."""
    found = complete(train / "checkpoints")
    return int(found[-1].name.removeprefix("step-")) if found else 0


def continued(pipeline: Pipeline, name: str) -> int:
    """After which step the job that runs now says that it continues; 0 when it has said nothing."""
    log = pipeline.directory / f"logs/{name}/train/train.log"
    found = re.search(r"continues after step ([\d,]+)", log.read_text()) if log.exists() else None
    return int(found[1].replace(",", "")) if found else 0


def finish(pipeline: Pipeline, name: str, train) -> None:
    """The next run of the workflow: a few steps more and training is finished, from the newest checkpoint on."""
    saved = newest(train)
    config = pipeline.directory / f"{name}.yaml"
    config.write_text(config.read_text().replace(f"steps: {ENDLESS['steps']}", f"steps: {saved + 10}"))
    pipeline.run(f"results/{name}/train/final", config=config.name)
    assert continued(pipeline, name) == saved
    assert newest(train) == saved + 10
    assert (train / "final").exists()


def test_time_limit_and_ctrl_c(pipeline):
    train = pipeline.training("limit", **ENDLESS | {"checkpoint_every": 1_000_000})  # only the signal saves
    # the warning comes 40 to 70 seconds before the two minutes are over
    short = ("--set-resources", "train:runtime=2", "train:slurm_extra='--signal=USR1@40'")
    running = pipeline.start("results/limit/train/final", *short, config="limit.yaml")
    wait_for(lambda: continued(pipeline, "limit"), "a second job continues", running)
    told = (pipeline.directory / "snakemake.log").read_text()
    assert "Error in rule train" in told
    assert interrupt(running) == 1
    wait_for_empty_queue(pipeline)
    finish(pipeline, "limit", train)  # also shows that the directory is not locked


def test_shared_files_hang_and_a_node_dies(pipeline):
    train = pipeline.training("death", **ENDLESS)
    running = pipeline.start("results/death/train/final", config="death.yaml")
    wait_for(lambda: newest(train) >= 40, "two checkpoints", running)

    pipeline.cluster.freeze_node("node2", 20)
    before = newest(train)
    wait_for(lambda: newest(train) >= before + 40, "training goes on after the files are back", running)
    assert continued(pipeline, "death") == 0, "the same job"

    saved = newest(train)
    pipeline.cluster.kill_node("node1")
    wait_for(lambda: "Error in rule train" in (pipeline.directory / "snakemake.log").read_text(), "the loss", running)
    pipeline.cluster.start_node("node1")
    wait_for(lambda: continued(pipeline, "death"), "a second job continues", running)
    assert continued(pipeline, "death") >= saved
    assert interrupt(running) == 1
    wait_for_empty_queue(pipeline)
    finish(pipeline, "death", train)


def wait_for_empty_queue(pipeline: Pipeline) -> None:
    """Ctrl-C has cancelled what ran; its processes have half a minute to end."""
    for _ in range(60):
        if not pipeline.cluster.queue():
            return
        time.sleep(1)
    raise AssertionError(f"still in the queue after Ctrl-C: {pipeline.cluster.queue()}")
