"""`--sdm conda` and `--sdm apptainer` as plans.

Neither tool is at hand everywhere, so what Snakemake asks them is answered here; what they would install is not tried.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "config/uniref-current.yaml"
CONDA = {"conda_version": "25.9.0", "conda_prefix": "/opt/conda", "platform": "linux-64", "root_prefix": "/opt/conda"}


def dry_run(workflow, tools: Path, method: str, answers: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A plan for a full release with that software deployment, the tool answering with what is in `answers`."""
    cases = "\n".join(f"*{word}*) echo '{answer}';;" for word, answer in answers.items())
    tool = tools / method
    tool.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\n')
    tool.chmod(0o755)
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


def test_apptainer_plans_every_stage(workflow, tmp_path):
    planned = dry_run(workflow, tmp_path, "apptainer", {"--version": "apptainer version 1.4.0"})
    assert planned.returncode == 0, planned.stderr
    assert "train" in planned.stdout


@pytest.mark.parametrize("method", ["conda", "apptainer"])
def test_without_the_tool_it_is_one_line_at_once(workflow, method):
    done = workflow.snakemake("--dry-run", "--sdm", method, config=CONFIG)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert method in done.stdout.splitlines()[-1]
