"""The whole workflow through profiles/slurm on a real Slurm, its data stages interrupted in every way (rough.py)."""

import json
import subprocess
import sys

import pytest
from pipeline import ROOT

from unirefine.files.atomic import read_json

pytestmark = pytest.mark.timeout(1800)


def test_shards_are_those_of_a_local_run_that_nothing_interrupted(pipeline, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    for name in ("slurm.yaml", "purge.txt", "site", "mmseqs"):
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


def test_a_lost_node_starts_the_job_again_and_a_time_limit_submits_one_with_more_time(seen):
    first, second = ({job["JobIDRaw"]: job for job in jobs} for jobs in (seen.first, seen.second))
    (again,) = first.keys() & second.keys()
    assert (first[again]["State"], first[again]["NodeList"]) == ("NODE_FAIL", "node1")
    (late,) = first.keys() - {again}
    assert (first[late]["State"], first[late]["TimelimitRaw"]) == ("TIMEOUT", "1")
    (new,) = second.keys() - {again}
    assert second[new]["TimelimitRaw"] == "32"


def test_a_job_submitted_twice_waits_for_the_first(seen, pipeline):
    """kill -9 of Snakemake left the second jobs running. They completed, and so did the third ones."""
    before = {job["JobIDRaw"] for job in seen.second}
    assert any(f"(Slurm job {number}) is writing here" in seen.waited for number in before)
    done = {job["JobIDRaw"] for job in pipeline.jobs("decontaminate_search") if job["State"] == "COMPLETED"}
    assert before < done
    assert len(done) == 4


def test_every_stage_was_a_job_of_the_size_in_the_profile(pipeline):
    done = {job["rule"].split("_")[0]: job for job in pipeline.recorded() if job["State"] == "COMPLETED"}
    assert {"release", "records", "group", "decontaminate", "shard", "train", "evaluate", "embed"} <= set(done)
    train = pipeline.jobs("train")[0]
    assert (train["NNodes"], train["NodeList"], train["TimelimitRaw"]) == ("2", "node[1-2]", str(3 * 24 * 60))
    assert {"mem=400000M", "node=2", "gres/gpu=2"} <= set(train["ReqTRES"].split(","))
    (tables,) = pipeline.jobs("group_tables")
    assert tables["NNodes"] == "1"
    audit = [job for job in pipeline.jobs("decontaminate") if job["rule"] == "decontaminate"]
    assert [job["TimelimitRaw"] for job in audit] == ["1440"]


def test_it_ends_with_a_model_and_a_report(pipeline):
    results = pipeline.directory / "results/slurm"
    assert json.loads((results / "train/final/train.json").read_text())["step"] == 30
    assert (results / "report/report.html").stat().st_size > 50_000
    assert "Nothing to be done" in pipeline.run()
