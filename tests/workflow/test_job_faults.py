"""Each writing job of the workflow, killed, on a full disk, cut off from its files, on a disk that turns read-only.

The command is the one that Snakemake runs. What comes out in the end is compared byte by byte, with the whole listing.
Disks are real: a tmpfs in a mount namespace that ends with its shell (`unshare`, as root or as a user).
"""

import errno
import functools
import os
import random
import re
import shlex
import shutil
import time

import pytest
from jobs import failing_calls, first_write, kill_9, parse, snapshot, told, with_mounts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DATA = (
    "release_fetch", "release", "records_uniref50", "records_uniref90", "curate", "cluster", "split",
    "decontaminate_prepare", "decontaminate_search", "decontaminate_remove", "decontaminate", "shard",
)  # fmt: skip
MODEL = ("train", "evaluate", "embed")
ALL = (*DATA, *MODEL, "cards", "report")
RESUMED = {"train": ("/train/",), "embed": (".chunks-",), "release_fetch": (".part",)}
"""What a job leaves on purpose for the next try."""


@pytest.fixture(scope="session")
def jobs(finished):
    """The workflow's jobs by rule."""
    done = finished.snakemake("--dry-run", "--forceall", "--printshellcmds")
    found = parse(done.stdout)
    assert set(ALL) <= found.keys(), done.stdout
    return found


@pytest.fixture(scope="session")
def before(finished, tmp_path_factory, jobs):
    """A function: the finished run just before a rule's job, in a new directory."""

    def spoil(rule):
        run = type(finished)(tmp_path_factory.mktemp(rule) / "run")
        shutil.copytree(finished.directory, run.directory, symlinks=True)
        if rule == "decontaminate_search":  # what it reads does not stay
            jobs["decontaminate_prepare"].run(run.directory, run.environment)
        clear(jobs[rule], run)
        return run

    return spoil


@pytest.fixture(scope="session")
def undisturbed(before, jobs):
    """A function: snapshot of `results` after a job left in peace, and seconds from its first write to its end."""

    @functools.cache
    def run(rule):
        directory = before(rule)
        took = jobs[rule].run(directory.directory, directory.environment)
        return snapshot(directory.directory / "results"), took

    return run


def clear(job, run):
    """Delete a job's outputs, as Snakemake does before it starts; of a training the checkpoints too."""
    job.forget(run.directory)
    if job.rule == "train":
        shutil.rmtree(run.directory / job.stage)
        (run.directory / job.stage).mkdir()


def shell(job):
    """A job's command as one word of a shell script, and what it says in a file."""
    return f"bash -c {shlex.quote('set -euo pipefail; ' + job.command)}"


@pytest.mark.parametrize("rule", ALL)
def test_kill_9_at_a_random_moment_of_the_work(before, undisturbed, jobs, rule):
    """Moments are drawn between the job's first write and its end; UNIREFINE_TEST_SEED repeats a failure."""
    seed = os.environ.get("UNIREFINE_TEST_SEED", os.urandom(4).hex())
    print(f"UNIREFINE_TEST_SEED={seed}")
    chance, job, run = random.Random(f"{seed} {rule}"), jobs[rule], before(rule)
    whole, took = undisturbed(rule)
    for _ in range(1 if rule in MODEL else 2):
        process = job.start(run.directory, run.environment)
        first_write(process, run.directory / job.stage)
        time.sleep(chance.uniform(0, took))
        kill_9(process)
        job.forget(run.directory)
    job.run(run.directory, run.environment)
    assert snapshot(run.directory / "results") == whole


@pytest.mark.parametrize("rule", ALL)
def test_a_full_disk_is_told_and_the_next_run_finishes(before, undisturbed, finished, jobs, rule):
    """There is room for half of the job's outputs."""
    job, run, command = jobs[rule], before(rule), shell(jobs[rule])
    whole, rest = undisturbed(rule)[0], snapshot(run.directory / "results")
    here = [output for output in job.outputs if output.is_relative_to(job.stage)]  # cards writes elsewhere as well
    files = [path for output in here for path in files_of(finished.directory / output)]
    pages = sum(-(-path.stat().st_size // 4096) for path in files) or 1  # a search's inputs do not stay
    done = with_mounts(
        run,
        f"""
        cp -a {job.stage} rest
        mount -t tmpfs -o size=64m tmpfs {job.stage} && cp -a rest/. {job.stage} || exit 90
        free=$(df --output=avail -B4096 {job.stage} | tail -n 1)
        head -c $(( (free - {pages // 2}) * 4096 )) /dev/zero > {job.stage}/filler
        {command} > first.txt 2>&1; echo "first run: $?"
        rm {job.stage}/filler && cp -a results between
        {command} > second.txt 2>&1; echo "second run: $?"
        cp -a results after
        """,
    )
    first, second = said(run)
    assert "first run: 1" in done.stdout, done.stdout + first
    assert all("free some space" in line for line in told(first)), first
    left = snapshot(run.directory / "between").items() - rest.items() - whole.items()
    assert [name for name, _content in left if not any(part in name for part in RESUMED.get(rule, ()))] == []
    assert "second run: 0" in done.stdout, second
    assert snapshot(run.directory / "after") == whole


def said(run):
    """What the first and the second run of a script printed."""
    return tuple((run.directory / f"{name}.txt").read_text() for name in ("first", "second"))


def files_of(path):
    """A file, or the files below a directory."""
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]


@pytest.mark.parametrize("rule", ["records_uniref50", "decontaminate_search", "shard"])
def test_a_node_that_loses_the_shared_files_for_a_while(before, undisturbed, jobs, rule):
    """Results are on a mount that goes in the midst of the work, and comes back."""
    job, run, command = jobs[rule], before(rule), shell(jobs[rule])
    done = with_mounts(
        run,
        f"""
        mkdir server && mount -t tmpfs -o size=64m tmpfs server && cp -a results/. server || exit 90
        mv results aside && mkdir results && mount --bind server results || exit 91
        state() {{ find {job.stage} -type f ! -name '*.lock' -printf '%p %s %T@ '; }}
        before=$(state)
        {command} > first.txt 2>&1 & job=$!
        while [ "$before" = "$(state)" ] && kill -0 $job; do :; done
        umount --lazy results
        wait $job; echo "first run: $?"
        rm -rf results/*  # what the job wrote where the mount had been
        mount --bind server results
        {command} > second.txt 2>&1; echo "second run: $?"
        cp -a results after
        """,
    )
    first, second = said(run)
    assert "first run: 1" in done.stdout, done.stdout + first
    (line,) = told(first)
    assert "lost" in line
    assert "second run: 0" in done.stdout, second
    assert snapshot(run.directory / "after") == undisturbed(rule)[0]


LOST = "this machine has lost that file system, or its disk fails"
FAULTS = [
    ("curate", "fsync", errno.EIO, LOST),
    ("cluster", "rename", errno.ESTALE, LOST),
    ("split", "fsync", errno.ETIMEDOUT, LOST),
    ("decontaminate_remove", "fsync", errno.EDQUOT, "free some space"),
    ("shard", "rename", errno.ENOTCONN, LOST),
]


@pytest.mark.parametrize(("rule", "call", "number", "advice"), FAULTS)
def test_what_a_file_system_answers_is_one_line_with_the_file(before, undisturbed, jobs, rule, call, number, advice):
    """The kernel itself lets fsync or rename fail, which is how NFS and Lustre tell of what was written before."""
    job, run = jobs[rule], before(rule)
    rest = snapshot(run.directory / "results")
    process = job.start(run.directory, run.environment, lambda: failing_calls(call, number))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    (line,) = told(output)
    assert re.search(rf"error: results/small/\S+: {os.strerror(number).lower()}; {advice}", line), line
    assert snapshot(run.directory / "results") == rest
    job.run(run.directory, run.environment)
    assert snapshot(run.directory / "results") == undisturbed(rule)[0]


@pytest.mark.parametrize("rule", ["split", "cluster"])
def test_results_that_turn_read_only_under_a_running_job(before, undisturbed, jobs, rule):
    run, command = before(rule), shell(jobs[rule])
    done = with_mounts(
        run,
        f"""
        mount --bind results results || exit 90
        {command} > first.txt 2>&1 & job=$!
        until mount -o remount,ro,bind results 2> /dev/null; do :; done
        wait $job; echo "first run: $?"
        mount -o remount,rw,bind results
        {command} > second.txt 2>&1; echo "second run: $?"
        """,
    )
    first, second = said(run)
    assert "first run: 1" in done.stdout, done.stdout + first
    (line,) = told(first)
    assert "read-only file system; mount it for writing and run the stage again" in line
    assert "second run: 0" in done.stdout, second
    assert snapshot(run.directory / "results") == undisturbed(rule)[0]
