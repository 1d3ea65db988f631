"""Paths and words of a user reach the commands as they are: with spaces, quotes and what a shell would execute."""

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
ODD = "proteins (1) $(touch INJECTED) 'a\" ;&.fasta"
UNQUOTED = {"threads", "params.level", "params.levels", "params.program", "params.start"}
"""Placeholders that hold no word of a user's, or several words of a shell command."""
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
    for name in (ODD, f"ids {ODD}", f"designs {ODD}", f"tool {ODD}"):
        (tmp_path / name).write_text("")
    jobs = plan(
        release={"source": "fasta", "fasta": ODD, "taxdump": None, "purge_lists": [ODD], "directory": f"down {ODD}"},
        curate={"designs": f"designs {ODD}"},
        split={"method": "ids", "ids": f"ids {ODD}"},
        embed={"fasta": ODD},
        tools={"mmseqs": f"tool {ODD}"},
        records={"parts": 1},
    )
    assert words(jobs["records_uniref90"])[words(jobs["records_uniref90"]).index("--input") + 1] == ODD
    assert f"down {ODD}/purge-0.txt" in words(jobs["curate"])
    assert f"down {ODD}/purge-0.txt" in words(jobs["release_fetch"])
    assert ODD in words(jobs["embed"])
    for rule in ("cluster", "decontaminate_search", "decontaminate"):
        assert words(jobs[rule])[words(jobs[rule]).index("--mmseqs") + 1] == f"tool {ODD}", rule
    assert {str(path) for path in jobs["split"].input} > {f"ids {ODD}"}


def test_a_command_with_such_a_path_runs_and_executes_nothing_of_it(plan, tmp_path, workflow):
    (tmp_path / ODD).symlink_to(DEMO)
    jobs = plan(
        release={"source": "fasta", "fasta": ODD, "taxdump": None},
        records={"parts": 1},
    )
    job = jobs["records_uniref90"]
    Path(job.log[0]).parent.mkdir(parents=True)
    environment = replace(workflow, new=True).environment
    subprocess.run(["bash", "-c", job.shellcmd], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert Path(job.output[0]).exists()
    assert not (tmp_path / "INJECTED").exists()


def test_a_brace_is_refused_in_one_line(workflow):
    config = workflow.config_with("brace", {"curate": {"designs": "designs{1}.fasta"}})
    done = workflow.snakemake("--dry-run", config=config)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert "curate.designs is 'designs{1}.fasta', and Snakemake takes braces for wildcards; rename it" in line
