"""The layout that Snakemake's catalog and snakedeploy expect: workflow/Snakefile, a module for others, lint."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import plan
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SNAKEMAKES = {"pydantic", "pyyaml", "snakemake", "typing-extensions"}
MODULES = {"pyyaml": "yaml", "scoring-matrices": "scoring_matrices"}
OTHER_WORKFLOW = """
module proteins:
    snakefile: "{snakefile}"
    config: config["proteins"]

use rule * from proteins as proteins_*

rule summary:
    default_target: True
    input: rules.proteins_shard.output.manifest
"""


def test_it_lints_with_no_config_file_and_no_more_than_snakemake_and_pydantic():
    """As the catalog does it, in a Python that has none of our other packages, and not ours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [name.split(">")[0].split("=")[0] for name in project["dependencies"]]
    others = [MODULES.get(name, name) for name in names if name not in SNAKEMAKES]
    assert {"numpy", "polars", "rich"} <= set(others)
    program = f"""
import pkgutil, sys
modules = pkgutil.iter_modules
pkgutil.iter_modules = lambda *given: [one for one in modules(*given) if not one.name.startswith("snakemake_")]
sys.modules |= dict.fromkeys({others!r})
sys.path = [path for path in sys.path if path != {str(ROOT / "src")!r}]
from snakemake.cli import main
main(["--snakefile", "workflow/Snakefile", "--lint"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Congratulations" in done.stderr


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Plans a workflow that has ours as its module, with this config for it."""
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(OTHER_WORKFLOW.format(snakefile=ROOT / "workflow/Snakefile"))

    def planned(config):
        Path("config.yaml").write_text(yaml.safe_dump({"proteins": config, "other": 1}))
        return {job.rule.name for job in plan.plan(Path("config.yaml"), checkout=tmp_path).jobs}

    return planned


def test_another_workflow_takes_it_as_a_module(other):
    config = yaml.safe_load((ROOT / "config/fasta.yaml").read_text())
    config["release"]["fasta"] = str(ROOT / config["release"]["fasta"])
    planned = other(config)
    assert {"summary", "proteins_records_uniref90", "proteins_decontaminate_search", "proteins_shard"} <= planned
    assert "proteins_train" not in planned


def test_a_mistake_in_the_config_of_the_module_is_one_line(other, capsys):
    with pytest.raises(SystemExit):
        other({"releese": {"source": "fasta"}})
    assert "unirefine: error: config of the module: unknown key 'releese'; did you mean" in capsys.readouterr().err


def test_what_snakedeploy_copies_is_there():
    assert (ROOT / "config/config.yaml").exists() and (ROOT / "config/README.md").exists()
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
