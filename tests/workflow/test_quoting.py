"""Paths and words of a user reach the commands as they are: with spaces, quotes and what a shell would execute."""

import gzip
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml

from unirefine.core.levels import STAGES
from unirefine.tools import find_mmseqs

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
ODD = "proteins (1) $(touch INJECTED) 'a\" ;&.fasta"
UNQUOTED = {"threads", "params.start"}
"""A number, and the start of a container in shell, with Slurm's variables."""
TINY = {
    "model": {"preset": None, "layers": 1, "hidden": 16, "heads": 2},
    "sampling": {"max_tokens": 64},
    "parallel": {"processes_per_node": 1},
    "optimizer": {"warmup_steps": 1},
    "precision": "fp32",
    "steps": 2,
    "global_batch": 4,
    "micro_batch": 4,
}
DEMO = ROOT / "resources/demo/lab.fasta.gz"


@pytest.fixture
def plan(tmp_path, jobs_of):
    """A function from options to the jobs, by rule, of a run in an empty directory."""

    def jobs(**blocks):
        (tmp_path / "odd.yaml").write_text(yaml.safe_dump({"run": {"name": "odd"}, **blocks}))
        return {job.rule.name: job for job in jobs_of(tmp_path, tmp_path / "odd.yaml")}

    return jobs


def words(job) -> list[str]:
    """What a shell makes of a job's command."""
    return shlex.split(job.shellcmd)


def test_every_placeholder_of_a_command_is_quoted():
    for path in RULES:
        for command in re.findall(r"shell:\n((?: +\".*\"\n)+)", path.read_text()):
            found = set(re.findall(r"\{([^{}]+)\}", command))
            assert found, path
            assert {name for name in found if not name.endswith(":q")} <= UNQUOTED, path.name


def test_the_users_own_files_are_one_word_each(plan, tmp_path):
    for name in (ODD, f"ids {ODD}", f"designs {ODD}", f"tool {ODD}", f"bench {ODD}"):
        (tmp_path / name).touch(mode=0o755)
    (tmp_path / f"tool {ODD}").chmod(0o755)
    jobs = plan(
        release={"source": "fasta", "fasta": ODD, "taxdump": None, "purge_lists": [ODD], "directory": f"down {ODD}"},
        curate={"designs": f"designs {ODD}"},
        split={"method": "ids", "ids": f"ids {ODD}"},
        decontaminate={"against": [{"file": f"bench {ODD}", "name": "lab"}]},
        embed={"fasta": ODD},
        tools={"mmseqs": f"./tool {ODD}"},
        records={"parts": 1},
    )
    assert words(jobs["records_uniref90"])[words(jobs["records_uniref90"]).index("--input") + 1] == ODD
    assert f"down {ODD}/purge-0.txt" in words(jobs["curate"])
    assert f"down {ODD}/purge-0.txt" in words(jobs["release_fetch"])
    assert ODD in words(jobs["embed"])
    for rule in ("cluster", "decontaminate_search"):
        assert words(jobs[rule])[words(jobs[rule]).index("--mmseqs") + 1] == f"./tool {ODD}", rule
    assert {str(path) for path in jobs["split"].input} > {f"ids {ODD}"}
    prepare = jobs["decontaminate_prepare"]
    assert f"bench {ODD}" in {str(path) for path in prepare.input}
    (against,) = json.loads(words(prepare)[words(prepare).index("--config") + 1])["against"]
    assert against["file"] == f"bench {ODD}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_workflow_runs_where_every_path_is_odd(tmp_path, workflow):
    """Run, checkout, working directory, FASTA, purge list, MMseqs2, downloads. Nothing in a name is executed."""
    base, name = tmp_path / "my (odd) $dir; é", "my (odd) $dir; é $(touch INJECTED) 'a\" [1]*"
    base.mkdir()
    shutil.copytree(ROOT / "workflow", base / "checkout/workflow")
    shutil.copytree(ROOT / "envs", base / "checkout/envs")
    shutil.copy(ROOT / "Snakefile", base / "checkout")
    proteins = gzip.decompress(DEMO.read_bytes()).decode().split("\n>")[:40]
    (base / name).write_text("\n>".join(proteins) + "\n")
    (base / "purge $(touch INJECTED).txt").write_text(proteins[5].split("|")[1] + "\n")
    (base / "mmseqs; touch INJECTED").symlink_to(find_mmseqs())
    (base / "wild $(touch INJECTED) types.fasta").write_text(f">{proteins[6]}\n")
    config = base / f"{name}.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "run": {"name": name, "threads": 2},
                "release": {
                    "source": "fasta",
                    "fasta": str(base / name),
                    "taxdump": None,
                    "purge_lists": [str(base / "purge $(touch INJECTED).txt")],
                    "directory": str(base / "down & up"),
                },
                "tools": {"mmseqs": str(base / "mmseqs; touch INJECTED")},
                "records": {"parts": 1},
                "cluster": {"algorithm": "linclust"},  # `mmseqs cluster` takes 9 s of CPU for any input
                "split": {"validation_count": 4},
                "decontaminate": {
                    "parts": 1,
                    "audit_sample": 2,
                    "against": [{"file": str(base / "wild $(touch INJECTED) types.fasta"), "name": "wild"}],
                },
                "shard": {"parts": 1},
                "train": TINY,
                "evaluate": {"huggingface": False},
                "embed": {"sequences": 1, "arrays": True},
            }
        )
    )
    odd = replace(workflow, directory=base / "work", checkout=base / "checkout")
    done = odd.snakemake(config=config)
    assert done.returncode == 0, done.stdout
    results = base / "work/results" / name
    assert {path.name for path in results.iterdir()} == set(STAGES) - {"release"} | {"places.json", ".running"}
    assert (base / "down & up/release.json").exists()
    counts = json.loads((results / "curate/counts.json").read_text())
    assert counts["levels"]["uniref90"]["removed"] == {"purge_list": 1}
    assert name in (results / "cards/model/README.md").read_text()
    assert not list(tmp_path.rglob("INJECTED"))
    assert odd.planned(config=config) == set()
    kept = pl.read_parquet(results / "shard/train-000-of-001.ids.parquet", glob=False)["id"][0]
    traced = odd.unirefine("trace", kept, "--results", results)
    assert "train-000-of-001" in traced.stdout, traced.stderr


def test_braces_are_refused_in_one_line(workflow, tmp_path, capsys):
    """In the config and in the path of the checkout. The working directory may have them."""
    config = workflow.config_with("brace", {"curate": {"designs": "designs{1}.fasta"}})
    checkout, work = tmp_path / "a {b}/checkout", tmp_path / "a {b}/work"
    for directory in (checkout, work):
        directory.mkdir(parents=True)
    shutil.copytree(ROOT / "workflow", checkout / "workflow")
    shutil.copy(ROOT / "Snakefile", checkout)
    small = workflow.directory / "small.yaml"
    for run, options, says in (
        (workflow, config, "curate.designs is 'designs{1}.fasta'"),
        (replace(workflow, checkout=checkout), small, f"the checkout is '{checkout}'"),
    ):
        with pytest.raises(SystemExit):
            run.planned(config=options)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert f"{says}, and Snakemake takes braces for wildcards; rename it" in line
    (work / "purge.txt").touch()
    assert "train" in replace(workflow, directory=work).planned(config=small)
