"""Plans of every shipped config, and mistakes that are reported before anything runs."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALWAYS = {"release", "curate", "cluster", "split", "decontaminate_prepare", "decontaminate_search"}
ALWAYS |= {"decontaminate_remove", "decontaminate", "shard", "train", "evaluate", "embed", "cards", "report"}


@pytest.fixture
def checkout(workflow, tmp_path):
    """The prepared directory, with the files that shipped configs name."""
    shutil.copytree(ROOT / "resources", workflow.directory / "resources", dirs_exist_ok=True)
    return workflow


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("demo", {"release_fetch", "records_uniref50", "records_uniref90", "all"}),
        ("uniref-current", {"release_fetch", "records_uniref50", "records_uniref90", "all"}),
        ("uniref-2024_03", {"release_archive", "release_fetch", "records_uniref50", "records_uniref90", "all"}),
        ("fasta", {"records_uniref90", "all"}),
    ],
)
def test_a_shipped_config_plans_every_stage(checkout, name, also):
    assert checkout.planned(config=ROOT / "config" / f"{name}.yaml") == ALWAYS | also


@pytest.mark.parametrize(
    ("target", "last"),
    [("split", "split"), ("shard", "shard"), ("decontaminate", "decontaminate"), ("release", "release")],
)
def test_a_stage_is_a_target_by_name(workflow, target, last):
    planned = workflow.planned(target)
    assert last in planned
    assert "train" not in planned


def test_without_a_config_file_it_is_the_demo(checkout):
    import os
    import subprocess
    import sys

    shutil.copytree(ROOT / "config", checkout.directory / "config", dirs_exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n", "-c2"],
        cwd=checkout.directory, capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "results/demo/split/split.parquet" in done.stdout + done.stderr


def test_a_typo_in_the_config_is_one_line(workflow):
    done = workflow.snakemake("--dry-run", config=workflow.config_with("typo", {"splitt": {"seed": 1}}))
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if "error" in line.lower()]
    assert len(lines) == 1
    assert "unknown key 'splitt'; did you mean 'split'?" in lines[0]
    assert "Traceback" not in done.stdout


def test_the_local_profile_takes_effect(workflow):
    done = workflow.snakemake("--dry-run", "--profile", str(ROOT / "profiles/local"), "split")
    assert done.returncode == 0, done.stdout
    assert "profiles/local" in done.stdout
