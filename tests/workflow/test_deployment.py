"""Plans with `--sdm conda` and `--sdm apptainer`.

Machines without these tools run the tests as well: a stand-in answers Snakemake's questions, and nothing is installed.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config/uniref-current.yaml"
CONDA = {"conda_version": "25.9.0", "conda_prefix": "/opt/conda", "platform": "linux-64", "root_prefix": "/opt/conda"}


def answer_with(tools: Path, method: str, answers: dict[str, str]) -> None:
    """Write a stand-in for the tool, which answers a command line by the word of `answers` in it."""
    cases = "\n".join(f"*{word}*) echo '{answer}';;" for word, answer in answers.items())
    tool = tools / method
    tool.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\n')
    tool.chmod(0o755)


def dry_run(workflow, tools: Path, method: str, answers: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Plan a full release with that software deployment, with a stand-in for the tool."""
    answer_with(tools, method, answers)
    command = workflow.command("--dry-run", "--sdm", method, config=CONFIG)
    path = workflow.environment["PATH"]
    return subprocess.run(
        command, env=os.environ | {"PATH": f"{tools}:{path}"}, capture_output=True, text=True, check=False
    )


def test_conda_brings_mmseqs_of_the_pinned_version(workflow, tmp_path):
    strict = json.dumps({"get": {"channel_priority": "strict"}})
    planned = dry_run(
        workflow, tmp_path, "conda", {"info": json.dumps(CONDA), "config": strict, "--version": "conda 25.9.0"}
    )
    assert planned.returncode == 0, planned.stderr
    assert "envs/mmseqs2.yaml will be created" in planned.stdout + planned.stderr
    assert "decontaminate_search" in planned.stdout


def test_apptainer_runs_every_job_in_the_image(tmp_path, monkeypatch, jobs_of):
    """Training too, but `srun` starts its containers, one a node: an image has no Slurm in it."""
    answer_with(tmp_path, "apptainer", {"--version": "apptainer version 1.4.0"})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    jobs = jobs_of(tmp_path, CONFIG, "--sdm", "apptainer", "--profile", str(ROOT / "profiles/slurm"))
    images = {job.rule.name: job.container_img_url for job in jobs if not job.rule.norun}
    assert {"curate", "decontaminate_search", "shard", "train", "evaluate", "embed", "report"} <= set(images)
    assert not images.pop("train")
    assert set(images.values()) == {"envs/unirefine.sif"}
    (train,) = (job.shellcmd for job in jobs if job.rule.name == "train")
    step, container = train.split("} apptainer", 1)
    asked = "srun --nodes 1 --ntasks 1 --ntasks-per-node 1 --cpu-bind=none --wait=60"
    job, cores = {"SLURM_JOB_ID": "7"}, {"SLURM_CPUS_PER_TASK": "96"}
    for slurm, expected in (({}, ""), (job, asked), (job | cores, f"{asked} --cpus-per-task=96")):
        said = subprocess.run(["bash", "-c", f"echo {step}}}"], env=slurm, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == expected
    assert ("apptainer" + container).startswith(
        'apptainer exec --home "$PWD" --nv envs/unirefine.sif unirefine train --config '
    )


def test_without_containers_training_starts_by_itself(workflow, jobs_of):
    (train,) = (
        job for job in jobs_of(workflow.directory, workflow.directory / "small.yaml") if job.rule.name == "train"
    )
    assert train.shellcmd.split()[:2] == ["unirefine", "train"]


@pytest.mark.parametrize("method", ["conda", "apptainer"])
def test_without_the_tool_it_is_one_line_at_once(workflow, method):
    done = workflow.snakemake("--dry-run", "--sdm", method, config=CONFIG)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert method in done.stdout.splitlines()[-1]
