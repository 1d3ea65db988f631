"""Every job of the workflow is killed and run on a full disk; some lose their files or find them read-only.

The command is the one that Snakemake runs. Its files are in the end, byte by byte, those of the finished run.
Disks are real: a tmpfs in a mount namespace (`unshare`, as root or as a user).
"""

import errno
import os
import random
import re
import shlex
import shutil
from dataclasses import replace

import pytest
from jobs import error_lines, jobs_of, snapshot, with_mounts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DATA = (
    "release_fetch", "release", "records_uniref50", "records_uniref90", "curate", "cluster", "split",
    "decontaminate_prepare", "decontaminate_search", "decontaminate_remove", "decontaminate", "shard",
)  # fmt: skip
MODEL = ("train", "evaluate", "embed")
ALL = (*DATA, *MODEL, "cards", "report")
RESUMED = {"train": ("/train/",), "embed": (".chunks-",), "release_fetch": (".part",)}
"""Files that a job leaves for its next start."""


@pytest.fixture(scope="module")
def jobs(finished):
    """The workflow's jobs by rule."""
    found = jobs_of(finished)
    assert set(ALL) <= found.keys()
    return found


@pytest.fixture(scope="module")
def complete(finished, jobs, tmp_path_factory):
    """(The finished run with the temporary inputs of the searches, a snapshot of its results)."""
    run = replace(finished, directory=tmp_path_factory.mktemp("complete") / "run")
    shutil.copytree(finished.directory, run.directory, symlinks=True)
    jobs["decontaminate_prepare"].run(run.directory, run.environment)
    return run, snapshot(run.directory / "results")


@pytest.fixture
def before(complete, jobs, tmp_path):
    """A function: the finished run just before a rule's job."""

    def without_outputs(rule):
        run = replace(complete[0], directory=tmp_path / "run")
        shutil.rmtree(run.directory, ignore_errors=True)
        shutil.copytree(complete[0].directory, run.directory, symlinks=True)
        clear(jobs[rule], run)
        return run

    return without_outputs


def clear(job, run):
    """Delete a job's outputs, as Snakemake does before it starts. For a training also the checkpoints."""
    job.forget(run.directory)
    if job.rule == "train":
        shutil.rmtree(run.directory / job.stage)
        (run.directory / job.stage).mkdir()


def shell(job):
    """A job's command as a shell script starts it."""
    return f"bash -c {shlex.quote(job.script)}"


@pytest.mark.parametrize("rule", ALL)
def test_after_a_full_disk_and_kill_9_at_random_moments_a_job_writes_what_it_always_writes(
    before, complete, jobs, rule
):
    """One after the other, in one directory. UNIREFINE_TEST_SEED repeats the moments of a failure."""
    seed = os.environ.get("UNIREFINE_TEST_SEED", os.urandom(4).hex())
    print(f"UNIREFINE_TEST_SEED={seed}")
    chance, job, run = random.Random(f"{seed} {rule}"), jobs[rule], before(rule)
    run_on_a_full_disk(job, run, complete)
    for _ in range(1 if rule in MODEL else 2):
        job.kill_at_random(run.directory, run.environment, chance)
        job.forget(run.directory)
    job.run(run.directory, run.environment)
    assert snapshot(run.directory / "results") == complete[1]


def run_on_a_full_disk(job, run, complete):
    """Run the job with room for half of its outputs: it fails with one line and leaves only what it resumes from."""
    rest, whole = snapshot(run.directory / "results"), complete[1]
    files = [path for output in job.outputs for path in files_of(complete[0].directory / output)]
    pages = sum(-(-path.stat().st_size // 4096) for path in files)
    done = with_mounts(
        run,
        f"""
        cp -a {job.stage} rest
        mount -t tmpfs -o size=64m tmpfs {job.stage} && cp -a rest/. {job.stage} || exit 90
        free=$(df --output=avail -B4096 {job.stage} | tail -n 1)
        head -c $(( (free - {pages // 2}) * 4096 )) /dev/zero > {job.stage}/filler
        {shell(job)} > first.txt 2>&1; echo "first run: $?"
        rm {job.stage}/filler && cp -a {job.stage} left
        """,
    )
    first = outputs(run)[0]
    assert "first run: 1" in done.stdout, done.stdout + first
    assert all("free some space" in line for line in error_lines(first)), first
    shutil.rmtree(run.directory / job.stage)
    (run.directory / "left").rename(run.directory / job.stage)
    left = snapshot(run.directory / "results").items() - rest.items() - whole.items()
    assert [name for name, _content in left if not any(part in name for part in RESUMED.get(job.rule, ()))] == []
    job.forget(run.directory)


def outputs(run):
    """The output of the first and the second run of a script; empty for one that was not started."""
    found = (run.directory / f"{name}.txt" for name in ("first", "second"))
    return [path.read_text() if path.exists() else "" for path in found]


def files_of(path):
    """A file, or the files below a directory."""
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]


@pytest.mark.parametrize("rule", ["records_uniref50", "decontaminate_search", "shard"])
def test_a_node_that_loses_the_shared_files_for_a_while(before, complete, jobs, rule):
    """Results are on a mount that disappears during the job, and comes back. A job that was faster is started again."""
    job, command = jobs[rule], shell(jobs[rule])
    for _attempt in range(5):
        run = before(rule)
        done = lose_results(job, command, run)
        if "first run: 0" not in done.stdout:
            break
    first, second = outputs(run)
    assert "first run: 1" in done.stdout, done.stdout + first
    (line,) = error_lines(first)
    assert "lost" in line or "no such file" in line, line  # the latter where it had not opened its input yet
    assert "second run: 0" in done.stdout, second
    assert snapshot(run.directory / "after") == complete[1]


def lose_results(job, command, run):
    return with_mounts(
        run,
        f"""
        mkdir server && mount -t tmpfs -o size=64m tmpfs server && cp -a results/. server || exit 90
        mv results moved && mkdir results && mount --bind server results || exit 91
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


LOST = "this machine has lost that file system, or its disk fails"
FAULTS = [
    ("curate", "fsync", errno.EIO, LOST),
    ("cluster", "rename", errno.ESTALE, LOST),
    ("split", "fsync", errno.ETIMEDOUT, LOST),
    ("decontaminate_remove", "fsync", errno.EDQUOT, "free some space"),
    ("shard", "rename", errno.ENOTCONN, LOST),
]


@pytest.mark.parametrize(("rule", "call", "number", "advice"), FAULTS)
def test_what_a_file_system_answers_is_one_line_with_the_file(before, complete, jobs, rule, call, number, advice):
    """The kernel makes fsync or rename fail: so NFS and Lustre report errors of earlier writes."""
    job, run = jobs[rule], before(rule)
    rest = snapshot(run.directory / "results")
    process = job.start(run.directory, run.environment, failing=(call, number))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    (line,) = error_lines(output)
    assert re.search(rf"error: results/small/\S+: {os.strerror(number).lower()}; {advice}", line), line
    assert snapshot(run.directory / "results") == rest
    job.run(run.directory, run.environment)
    assert snapshot(run.directory / "results") == complete[1]


@pytest.mark.parametrize("rule", ["split", "cluster"])
def test_results_that_turn_read_only_under_a_running_job(before, complete, jobs, rule):
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
    first, second = outputs(run)
    assert "first run: 1" in done.stdout, done.stdout + first
    (line,) = error_lines(first)
    assert "read-only file system; mount it for writing and run the stage again" in line
    assert "second run: 0" in done.stdout, second
    assert snapshot(run.directory / "results") == complete[1]
