"""The whole workflow through profiles/slurm on a real Slurm, training on two nodes."""

import json
import subprocess
import sys

import pytest
from pipeline import ROOT, Pipeline
from timeline import records

from unirefine.provenance import read_json

pytestmark = pytest.mark.timeout(1800)


def jobs(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """What Slurm recorded of the first job of each rule or group (`train`, `group_tables_...`)."""
    found = records(pipeline.cluster.directory / "jobs.txt", pipeline.directory / ".snakemake/slurm_logs")
    return {record["rule"]: record for record in reversed(found)}


def test_shards_are_those_of_a_local_run(pipeline, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    for name in ("slurm.yaml", "purge.txt", "site"):
        (local / name).symlink_to(pipeline.directory / name)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(local)]
    command += ["--cores", "2", "shard", "--configfile", str(local / "slurm.yaml")]
    subprocess.run(command, env=pipeline.environment, check=True, capture_output=True)
    ours, theirs = (
        read_json(where / "results/slurm/shard/manifest.json")["files"] for where in (pipeline.directory, local)
    )
    assert ours == theirs
    names = [file["name"] for file in ours]
    assert {"train-000-of-002.bin", "train-001-of-002.idx", "validation.bin"} <= set(names)
    for name in names:
        shard = [where / "results/slurm/shard" / name for where in (pipeline.directory, local)]
        assert shard[0].read_bytes() == shard[1].read_bytes(), name


def test_every_stage_was_a_job_of_the_size_in_the_profile(pipeline):
    done = jobs(pipeline)
    assert {record["JobState"] for record in done.values()} == {"COMPLETED"}
    train = done["train"]
    assert (train["NodeCnt"], train["NodeList"], train["TimeLimit"]) == ("2", "node[1-2]", str(7 * 24 * 60))
    assert "mem=400000M" in train["Tres"]
    assert "TresPerNode=gres:gpu:8" in pipeline.cluster.run("scontrol", "show", "job", train["JobId"])
    assert done["decontaminate"]["TimeLimit"] == "1440"
    (tables,) = (record for name, record in done.items() if name.startswith("group_tables"))
    assert tables["NodeCnt"] == "1"


def test_it_ends_with_a_model_and_a_report(pipeline):
    results = pipeline.directory / "results/slurm"
    assert json.loads((results / "train/final/train.json").read_text())["step"] == 30
    assert (results / "report/report.html").stat().st_size > 50_000
    assert "Nothing to be done" in pipeline.run()
