"""What a workflow meets in months on a cluster: full and read-only disks, kill -9, a second start, a clock that jumps,
a program that crashes.

Disks are real: a tmpfs of a few pages over one stage's directory, in a mount namespace that ends with its shell.
"""

import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from unirefine.tools import find_mmseqs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STAGES = (
    "release", "records", "curate", "cluster", "split", "decontaminate", "shard", "train",
    "evaluate", "embed", "report",
)  # fmt: skip
RULES = {"records": "records_uniref90"}


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run, to be spoilt."""
    shutil.copytree(finished.directory, tmp_path / "copy", symlinks=True)
    return type(finished)(tmp_path / "copy")


def digests(directory: Path, suffixes: tuple[str, ...] = (".bin", ".idx", ".parquet")) -> dict[str, str]:
    """SHA-256 of a directory's data files."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if path.suffix in suffixes
    }


def with_mounts(workflow, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own, in the workflow's directory; mounts end with it."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    return subprocess.run(
        [*unshare, "bash", "-c", script], cwd=workflow.directory, env=workflow.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
    )  # fmt: skip


def told(output: str) -> list[str]:
    """The lines that explain a failure, one for each job; no traceback beside them."""
    lines = {line for line in output.splitlines() if line.startswith("unirefine") and "error:" in line}
    assert lines, output
    assert "Traceback" not in output, output
    return sorted(lines)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_told_and_the_next_run_finishes(copy, stage):
    directory = copy.directory / "results/small" / stage
    before = digests(directory)
    rule = RULES.get(stage, stage)
    snakemake = shlex.join(copy.command(rule))
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    done = with_mounts(
        copy,
        f"""
        mount -t tmpfs -o size={max(size // 2 // 4096, 1) * 4096} tmpfs results/small/{stage} || exit 90
        touch results/small/{stage}/.mounted
        {"head -c 4096 /dev/zero > results/small/" + stage + "/filler" if size < 16384 else ""}
        {snakemake}; echo "first run: $?"
        rm -f results/small/{stage}/filler
        mount -o remount,size=200m results/small/{stage}
        {snakemake} > second.txt 2>&1; echo "second run: $?"
        cp -r results/small/{stage} after
        """,
    )
    assert "first run: 1" in done.stdout, done.stdout
    assert "second run: 0" in done.stdout, (copy.directory / "second.txt").read_text()
    assert all("free some space" in line for line in told(done.stdout)), told(done.stdout)
    assert digests(copy.directory / "after") == before


def test_read_only_results_are_told(copy):
    before = digests(copy.directory / "results/small/shard")
    done = with_mounts(
        copy,
        f"""
        mount --bind results results && mount -o remount,ro,bind results || exit 90
        {shlex.join(copy.command("-R", "shard", "--until", "shard"))}; echo "run: $?"
        """,
    )
    assert "run: 1" in done.stdout, done.stdout
    (line,) = told(done.stdout)
    assert line.startswith("unirefine: error: results/: is on a read-only file system; nothing was started")
    assert digests(copy.directory / "results/small/shard") == before


def test_a_second_workflow_on_the_same_results_is_refused_and_the_first_goes_on(copy):
    config = copy.config_with("twice", {"split": {"seed": 5}})
    first = subprocess.Popen(
        copy.command("shard", config=config), cwd=copy.directory, env=copy.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    locks = copy.directory / ".snakemake" / "locks"
    while not (locks.is_dir() and any(locks.iterdir())):
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.02)
    second = copy.snakemake("shard", config=config)
    assert first.wait(600) == 0, first.stdout.read()
    assert second.returncode == 1
    assert "cannot be locked" in second.stdout
    assert "Traceback" not in second.stdout
    assert copy.planned("shard", config=config) == set()


def test_kill_9_at_random_moments_costs_nothing_but_time(finished, copy):
    config = copy.config_with("killed", {"run": {"name": "killed"}})
    chance = random.Random(os.environ.get("UNIREFINE_TEST_SEED", "kill"))
    kills = 0
    for _ in range(4):
        run = subprocess.Popen(
            copy.command(config=config), cwd=copy.directory, env=copy.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            run.wait(chance.uniform(4, 20))
        except subprocess.TimeoutExpired:
            everything = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
            for process in everything:
                process.send_signal(signal.SIGKILL)
            run.wait()
            kills += 1
            assert copy.snakemake("--unlock", config=config).returncode == 0
    done = copy.snakemake("--rerun-incomplete", config=config)
    assert done.returncode == 0, done.stdout
    assert kills >= 1
    there, here = copy.directory / "results/killed", finished.directory / "results/small"
    for stage in ("records/uniref90", "curate", "cluster", "split", "decontaminate", "shard"):
        assert digests(there / stage) == digests(here / stage), stage
    left = [path for path in there.rglob("*") if ".tmp" in path.name or path.name.endswith(".part")]
    assert left == []


def test_a_clock_that_was_ahead_is_told_and_a_touch_mends_it(copy):
    ahead = time.time() + 7200
    late = copy.directory / "results/small/split/split.parquet"
    os.utime(late, (ahead, ahead))
    done = copy.snakemake("shard")
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "warning" in line and "clock" in line]
    assert "split.parquet" in line
    os.utime(late, None)
    os.utime(late, (time.time() - 7200,) * 2)
    assert copy.planned("shard") == set()


@pytest.fixture
def crashing_mmseqs(tmp_path):
    """(MMseqs2 that crashes while `armed` lies beside it, in the search of part 1 only; the log of its searches)."""
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/bash
if [[ $1 == search && $* =~ search-part-([0-9]+)- ]]; then
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
    (line,) = told(failed.stdout)
    assert "mmseqs search was killed by SIGSEGV" in line
    assert [path.name for path in (there / "hits").iterdir()] == ["part-000-of-002.parquet"]
    assert [path.name for path in there.rglob("*") if ".tmp" in path.name] == []

    # the next run repeats the part; should it crash once more, --retries is enough
    searches.unlink()
    (program.parent / "armed").touch()
    done = copy.snakemake("decontaminate", "--retries", "1", config=config)
    assert done.returncode == 0, done.stdout
    assert searches.read_text().split() == ["001", "001", "001"], "crash, search, audit"
    assert digests(there) == digests(here)
    for kind in ("hits", "audit", "nearest"):
        assert digests(there / kind) == digests(here / kind), kind
