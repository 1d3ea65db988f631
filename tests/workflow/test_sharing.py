"""Runs that share equal stages with another one (`run.base`)."""

import hashlib
import json
import os
import shutil
import time

import polars as pl
import pytest

from unirefine.files.atomic import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SHARED = ("release", "records", "curate", "cluster", "split", "decontaminate", "shard")


@pytest.fixture(scope="module")
def several(finished, tmp_path_factory):
    """The finished run with two beside it: `longer` differs in training, `seeded` in the split and what follows."""
    directory = tmp_path_factory.mktemp("several") / "copy"
    shutil.copytree(finished.directory, directory, symlinks=True)
    run = type(finished)(directory)
    train = {"steps": 20, "parallel": {"processes_per_node": 1}}
    run.config_with("longer", {"run": {"name": "longer", "base": "small"}, "train": train})
    options = {"split": {"seed": 3}, "decontaminate": {"parts": 1}}  # one search takes half the time of two
    run.config_with("seeded", {"run": {"name": "seeded", "base": "longer"}} | options)
    before = state(run, "small")
    for name, target in (("longer", "all"), ("seeded", "shard")):
        done = run.snakemake(target, config=directory / f"{name}.yaml")
        assert done.returncode == 0, done.stdout
    assert state(run, "small") == before, "a run wrote into another's finished stages"
    return run


def state(run, name):
    """Bytes and dates of a run's files."""
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted((run.directory / "results" / name).rglob("*"))
        if path.is_file()
    }


def test_a_run_that_differs_in_training_trains_on_the_shards_of_its_base(several):
    results = several.directory / "results"
    assert {path.name for path in (results / "longer").iterdir() if path.is_dir()} == {
        "train", "evaluate", "embed", "cards", "report"
    }  # fmt: skip
    model = json.loads((results / "longer/train/final/lineage.json").read_text())
    shards = json.loads((results / "small/shard/lineage.json").read_text())
    assert model["steps"][:-1] == shards["steps"]
    assert model["steps"][-1]["counts"]["step"] == 20
    assert read_json(results / "longer/places.json") == {stage: f"../small/{stage}" for stage in SHARED}
    for name in ("small", "longer"):
        assert several.planned(config=several.directory / f"{name}.yaml") == set(), name


def test_a_run_that_differs_in_the_split_shares_what_is_before_it_through_its_base(several):
    results = several.directory / "results"
    written = {path.name for path in (results / "seeded").iterdir() if path.is_dir()}
    assert written == {"split", "decontaminate", "shard"}
    found = read_json(results / "seeded/places.json")
    assert found == {stage: f"../small/{stage}" for stage in ("release", "records", "curate", "cluster")}
    assert several.unirefine("shard", "verify", results / "seeded/shard").returncode == 0
    digests = {
        hashlib.sha256((results / run / "shard/validation.bin").read_bytes()).digest() for run in ("small", "seeded")
    }
    assert len(digests) == 2
    assert several.planned("shard", config=several.directory / "seeded.yaml") == set()


def test_commands_that_read_a_run_find_its_shared_stages(several):
    results = several.directory / "results"
    kept = pl.read_parquet(results / "small/records/uniref50/records-000-of-002.parquet")["id"][0]
    traces = [several.unirefine("trace", kept, "--results", results / run).stdout for run in ("small", "longer")]
    assert traces[0] == traces[1]
    assert kept in traces[0]
    report = (results / "longer/report/report.html").read_text(encoding="utf-8")
    assert "Run longer: from release 2026_03" in report
    assert "longer" in (results / "longer/cards/model/README.md").read_text()
    crate = several.unirefine("crate", "--results", results / "longer", "--output", several.directory / "crate.zip")
    assert crate.returncode == 0, crate.stderr
    lines = several.status("longer.yaml")
    assert all(" done " in line for line in lines.values()), lines
    for stage in SHARED:
        assert f"in results/small/{stage}" in lines[stage]
    assert "in results/" not in lines["train"]


def test_clean_removes_nothing_that_another_run_uses(several):
    before = state(several, "small")
    done = several.unirefine("clean", "split", "--config", "longer.yaml", "--yes")
    assert done.returncode == 1
    assert "results/small/split: split is of another run that this one shares with" in done.stderr
    done = several.unirefine("clean", "cluster", "--config", "small.yaml", "--yes")
    assert done.returncode == 1
    assert "nothing was removed: it is also used by run longer, seeded" in done.stderr
    done = several.unirefine("clean", "decontaminate", "--config", "small.yaml", "--yes")
    assert "it is also used by run longer;" in done.stderr
    assert state(several, "small") == before


def test_missing_files_of_the_base_are_made_there_and_stale_ones_are_refused(several, tmp_path):
    shutil.copytree(several.directory, tmp_path / "copy", symlinks=True)
    run = type(several)(tmp_path / "copy")
    config = run.config_with("fresh", {"run": {"name": "fresh", "base": "small"}, "train": {"steps": 10}})
    (run.directory / "results/small/shard/validation.bin").unlink()
    done = run.snakemake("shard", config=config)
    assert done.returncode == 0, done.stdout
    results = run.directory / "results"
    assert {path.name for path in (results / "fresh").iterdir() if path.is_dir()} == set()
    assert (run.directory / "logs/small/shard/shard.log").stat().st_mtime > time.time() - 600
    names = ("manifest.json", "validation.bin")
    first, again = ([(each / "results/small/shard" / name).read_bytes() for name in names]
                    for each in (several.directory, run.directory))  # fmt: skip
    assert first == again

    before = state(run, "small")
    with (run.directory / "purge.txt").open("a") as purge:
        purge.write("P99999\n")
    os.utime(run.directory / "purge.txt", (time.time() + 1,) * 2)
    done = run.snakemake(config=config)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert "release of run small would be made again (changed input purge.txt), and it is not this run's" in line
    assert state(run, "small") == before


def test_a_base_without_results_is_one_line(several):
    config = several.config_with("lost", {"run": {"name": "lost", "base": "smal"}})
    done = several.snakemake("--dry-run", config=config)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert "results/smal: run.base is 'smal', of which there are no results" in line
