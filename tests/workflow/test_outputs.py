"""What rules declare against what their commands write, option by option, into empty and into used directories."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from forked import start_server

from unirefine.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
UNDECLARED = re.compile(r"train/(checkpoints|tensorboard)/|train/(metrics\.jsonl|lineage\.json)$|places\.json$")
"""What training keeps for its next start, and the note about shared stages."""
FASTA = {"release": {"format": "fasta"}}
OWN = {
    "release": {
        "source": "fasta", "fasta": str(Path(__file__).parents[2] / "resources/demo/lab.fasta.gz"), "purge_lists": [],
    },
    "records": {"parts": 1},
    "cluster": {"algorithm": "linclust"},  # `mmseqs cluster` takes 9 s of CPU for any input
}  # fmt: skip
HELD_OUT = {"split": {"test_fraction": 0.1}, "decontaminate": {"parts": 1}}
SEARCHED = ["decontaminate_prepare", "decontaminate_search", "decontaminate_remove", "decontaminate"]
ROWS = {
    "records.parts": [
        ({"records": {"parts": 3}}, ["records_uniref50", "records_uniref90"]),
        ({"records": {"parts": 2}}, ["records_uniref50", "records_uniref90"]),
    ],
    "release.format": [
        (FASTA, ["release_fetch", "release", "records_uniref50", "records_uniref90", "curate", "cluster"]),
        (OWN, ["release_fetch", "release", "records_uniref90", "curate", "cluster"]),
    ],
    "split.test_fraction": [
        ({"split": {"method": "ids", "ids": "ids.txt"}}, ["split"]),
        (HELD_OUT, ["split", *SEARCHED, "shard"]),
        ({"split": {"test_fraction": 0.0}, "decontaminate": {"parts": 1}}, ["split", *SEARCHED, "shard"]),
        ({"decontaminate": {"parts": 3}}, ["decontaminate_prepare"]),
    ],
    "shard.parts": [
        ({"shard": {"parts": 3}}, ["shard"]),
        ({"shard": {"parts": 1, "validation": "members"}}, ["shard"]),
    ],
    "embed": [
        ({"embed": {"arrays": True, "sequences": 2}}, ["embed"]),
        ({"embed": {"per_residue": False, "sequences": 2}}, ["embed"]),
    ],
}  # fmt: skip
"""By option: configs one after the other, all into the same directory, and the rules whose commands run."""


def written(results: Path) -> set[str]:
    """The files of a run that are not hidden."""
    files = (path for path in results.rglob("*") if path.is_file())
    return {str(path) for path in files if not any(part.startswith(".") for part in path.parts)}


def outputs(jobs) -> set[str]:
    return {str(output) for job in jobs for output in job.output}


def strays(results: Path, declared: set[str]) -> set[str]:
    """Files of a run that no rule declares."""
    found = {path for path in written(results) if not UNDECLARED.search(path)}
    return {path for path in found if path not in declared and not any(path.startswith(f"{one}/") for one in declared)}


def execute(job, environment):
    """The command of a job, in this process unless it loads a model."""
    command = re.sub(r"results/[^/]+/train/final", "results/small/train/final", job.shellcmd.split(" 2>&1 | tee ")[0])
    for output in map(Path, job.output):
        output.parent.mkdir(parents=True, exist_ok=True)
    if job.rule.name == "embed":
        start_server()
        subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True)
    else:
        program, *words = shlex.split(command)
        with mock.patch.dict(os.environ, environment):
            assert (program, main(words)) == ("unirefine", 0), command


def test_the_whole_run_wrote_what_it_declares(finished, jobs_of):
    jobs = jobs_of(finished.directory, finished.directory / "small.yaml")
    declared = outputs(jobs)
    temporary = {str(path) for job in jobs for path in job.temp_output}
    assert {path for path in declared if not Path(path).exists()} == temporary
    assert strays(Path("results/small"), declared) == set()


@pytest.mark.parametrize("row", ROWS)
def test_every_file_is_declared_and_nothing_of_other_options_is_left(finished, jobs_of, row):
    name = f"outputs-{row}"
    results = Path("results") / name
    held_out = pl.read_parquet(finished.directory / "results/small/shard/validation.ids.parquet")["id"]
    (finished.directory / "ids.txt").write_text("\n".join([*held_out, "UniRef50_UPI000000000A"]))
    for changes, rules in ROWS[row]:
        config = finished.config_with(name, {"run": {"name": name, "base": "small"}, **changes})
        jobs = jobs_of(finished.directory, config)
        found = [job for rule in rules for job in jobs if job.rule.name == rule and outputs([job])]
        assert {job.rule.name for job in found} == set(rules)
        for job in found:
            assert outputs([job]) == {path for path in outputs([job]) if path.startswith(f"{results}/")}
            execute(job, os.environ | finished.environment)
        assert {path for path in outputs(found) if not Path(path).exists()} == set()
        assert strays(results, outputs(jobs)) == set()
