"""Plans of every shipped config, and mistakes that are reported before anything runs."""

import shutil
from pathlib import Path

import pytest

from unirefine.cli.main import main

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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"run": {"name": "a/b"}}, "'a/b' cannot name a run"),
        ({"release": {"name": "2024-03"}}, "release.name '2024-03' is no release of UniProt"),
        (
            {"embed": {"fasta": "e.fasta"}, "train": {"init": "m"}, "tools": {"mmseqs": "no-tool"}},
            "no such file: train.init: m, embed.fasta: e.fasta, tools.mmseqs: no-tool (no program); nothing",
        ),
    ],
)
def test_a_mistake_is_one_line_before_the_plan(workflow, capsys, changes, says):
    with pytest.raises(SystemExit):
        workflow.planned(config=workflow.config_with("mistake", changes))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "unirefine: error: " in line]
    assert says in line


def test_values_are_read_as_they_were_typed(workflow):
    """Snakemake itself reads YAML 1.1, in which `off` is false and `2026_03` a number."""
    config = workflow.directory / "typed.yaml"
    config.write_text(
        (workflow.directory / "small.yaml")
        .read_text()
        .replace('"2026_03"', "2026_03")
        .replace("  precision", "  fp8: off\n  precision")
    )
    assert "fp8: off" in config.read_text() and "name: 2026_03" in config.read_text()
    assert "train" in workflow.planned(config=config)


@pytest.mark.parametrize("command", [["status"], ["clean", "split"]])
def test_a_config_file_that_is_missing_is_named(capsys, command):
    """Snakemake ends before it reads our code, with Python's `No such file or directory: 'config/demp.yaml'`."""
    assert main([*command, "--config", "config/demp.yaml"]) == 1
    assert "error: config/demp.yaml: no such config file; config/demo.yaml is one to start" in capsys.readouterr().err


def test_the_local_profile_takes_effect(workflow):
    done = workflow.snakemake("--dry-run", "--profile", str(ROOT / "profiles/local"), "split")
    assert done.returncode == 0, done.stdout
    assert "profiles/local" in done.stdout
