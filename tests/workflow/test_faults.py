"""Faults of a whole workflow: read-only results, kill -9, a second start, a clock that jumps, a program that crashes.

Faults of single jobs are in test_job_faults.py.
"""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import replace

import polars as pl
import pytest
from jobs import error_lines, first_write, jobs_of, kill_9, snapshot, with_mounts

from unirefine.tools import find_mmseqs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, which the test may change."""
    shutil.copytree(finished.directory, tmp_path / "copy", symlinks=True)
    return type(finished)(tmp_path / "copy")


def test_read_only_results_are_reported_in_one_line(copy):
    before = snapshot(copy.directory / "results")
    done = with_mounts(
        copy,
        f"""
        mount --bind results results && mount -o remount,ro,bind results || exit 90
        {shlex.join(copy.command("-R", "shard", "--until", "shard"))}; echo "run: $?"
        """,
    )
    assert "run: 1" in done.stdout, done.stdout
    (line,) = error_lines(done.stdout)
    assert line.startswith("unirefine: error: results/: is on a read-only file system; nothing was started")
    assert snapshot(copy.directory / "results") == before


def test_a_second_workflow_on_the_same_results_is_refused_and_the_first_goes_on(copy):
    config = copy.config_with("twice", {"split": {"seed": 5}, "decontaminate": {"parts": 1}})
    first = copy.start("decontaminate", config=config)
    locks = copy.directory / ".snakemake" / "locks"
    while not (locks.is_dir() and any(locks.iterdir())):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    second = copy.snakemake("decontaminate", config=config)
    assert first.wait(600) == 0, first.communicate()
    assert second.returncode == 1
    assert "cannot be locked" in second.stdout
    assert "Traceback" not in second.stdout
    assert copy.planned("decontaminate", config=config) == set()


def test_kill_9_of_the_workflow_at_random_moments_costs_nothing_but_time(finished, copy):
    """From the downloads to the shards. UNIREFINE_TEST_SEED repeats a failure."""
    seed = os.environ.get("UNIREFINE_TEST_SEED", os.urandom(4).hex())
    print(f"UNIREFINE_TEST_SEED={seed}")
    chance, results = random.Random(seed), copy.directory / "results/small"
    shutil.rmtree(copy.directory / "results")
    kills, seconds = 0, 4.0
    while kills < 2:
        run = copy.start("shard")
        first_write(run, results)
        time.sleep(chance.uniform(0, seconds))
        if run.poll() is not None:  # it was faster: once more from the start
            assert run.returncode == 0, run.communicate()
            shutil.rmtree(copy.directory / "results")
            seconds /= 2
            continue
        kill_9(run)
        run.communicate()
        assert copy.snakemake("--unlock").returncode == 0
        kills += 1
    done = copy.snakemake("shard")
    assert done.returncode == 0, done.stdout
    made = {path.name for path in results.iterdir()}
    whole = snapshot(finished.directory / "results/small")
    assert snapshot(results) == {name: what for name, what in whole.items() if name.split("/")[0] in made}


def test_a_file_from_the_future_is_reported_with_the_command_that_corrects_it(copy):
    """Snakemake compares small files by content. With this option all files count as large, as real ones do."""
    large = ("--max-checksum-file-size", "0")
    results = copy.directory / "results/small"
    late, before = results / "evaluate/perplexity.json", snapshot(results)
    ahead = time.time() + 7200
    os.utime(late, (ahead, ahead))
    assert copy.planned() == set()
    assert copy.planned(*large) == {"cards", "report", "all"}
    done = copy.snakemake(*large)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "warning" in line and "clock" in line]
    assert re.search(r"perplexity\.json is dated (1:5\d:|2:00:00)", line)
    assert "Traceback" not in done.stdout
    subprocess.run(line.split("then: ")[1].replace("{}", "'{}'"), shell=True, check=True, cwd=copy.directory)
    done = copy.snakemake(*large)
    assert done.returncode == 0, done.stdout
    assert "ahead of this machine's clock" not in done.stdout
    assert copy.planned(*large) == set()
    assert snapshot(results) == before


JUMPS = """
import time

real = time.time
time.time = lambda: real() + (0, 86400, -86400, 7200)[int(time.monotonic() * 4) % 4]
"""


def test_a_clock_that_jumps_back_and_forth_does_not_disturb_a_training(finished, copy, tmp_path):
    """A day ahead and a day back, four times a second, in every process; checkpoints dated in the wrong order."""
    job = jobs_of(copy)["train"]
    train = copy.directory / job.stage
    job.forget(copy.directory)
    shutil.rmtree(train / "checkpoints/step-00000030")
    ahead = time.time() + 86400
    os.utime(train / "checkpoints/step-00000010", (ahead, ahead))
    os.utime(train / "checkpoints/step-00000020", (0, 0))
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(JUMPS)
    path = ":".join([str(tmp_path / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        ["bash", "-c", job.script], cwd=copy.directory, text=True, check=False, timeout=600,
        env=replace(copy, new=True).environment | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output = process.stdout
    assert process.returncode == 0, output
    assert "continues after step 20" in output
    assert all("h" not in line.split("ETA ")[1] for line in output.splitlines() if "ETA " in line)
    lines, whole = (
        [json.loads(line) for line in (where.directory / job.stage / "metrics.jsonl").read_text().splitlines()]
        for where in (copy, finished)
    )
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25, 30]
    for name in ("loss", "validation_loss", "learning_rate"):
        values = [[line[name] for line in each if name in line] for each in (lines, whole)]
        assert values[0] == pytest.approx(values[1], abs=1e-5), name
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] < 3600
    assert all(line["tokens_per_second"] > 0 and 0 <= line["data_wait"] <= 1 for line in lines)
    assert sorted(path.name for path in (train / "checkpoints").iterdir()) == [
        "step-00000010", "step-00000020", "step-00000030",
    ]  # fmt: skip


@pytest.fixture
def crashing_mmseqs(tmp_path):
    """(MMseqs2 that crashes in the search of part 1 when the file `armed` is beside it, the log of its searches)."""
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/bash
if [[ $1 == search && $PWD =~ search-part-([0-9]+)- ]]; then
    echo "${{BASH_REMATCH[1]}}" >> {tmp_path}/searches
    [[ ${{BASH_REMATCH[1]}} == 001 ]] && rm {program.parent}/armed 2> /dev/null && kill -SEGV $$
fi
exec {find_mmseqs()} "$@"
"""
    )
    program.chmod(0o755)
    return program, tmp_path / "searches"


def test_a_crash_of_mmseqs_in_one_part_repeats_that_part_alone(finished, copy, crashing_mmseqs):
    program, searches = crashing_mmseqs
    config = copy.config_with("crash", {"tools": {"mmseqs": str(program)}})
    there, here = (where.directory / "results/small/decontaminate" for where in (copy, finished))

    (program.parent / "armed").touch()
    failed = copy.snakemake("decontaminate", "--keep-going", config=config)
    assert failed.returncode == 1
    (line,) = error_lines(failed.stdout)
    assert "mmseqs search was killed by SIGSEGV" in line
    assert [path.name for path in (there / "hits").iterdir()] == ["part-000-of-002.parquet"]
    assert [path.name for path in there.rglob("*") if ".tmp" in path.name] == []

    # the next run repeats the part; should it crash once more, --retries is enough
    searches.unlink()
    (program.parent / "armed").touch()
    done = copy.snakemake("decontaminate", "--retries", "1", config=config)
    assert done.returncode == 0, done.stdout
    assert searches.read_text().split() == ["001", "001", "001"], "crash, search, audit"
    now, before = snapshot(there), snapshot(here)
    assert set(now) == set(before)
    for name in sorted(name for name in now if now[name] != before[name]):
        assert b"(sha256 " in (there / name).read_bytes(), f"{name} differs, and not in MMseqs2's version alone"
        if name.endswith(".parquet"):
            assert pl.read_parquet(there / name).equals(pl.read_parquet(here / name)), name
