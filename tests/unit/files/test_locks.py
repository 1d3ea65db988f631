"""One writer for a directory, with real processes; only a file system without locks is imitated."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from unirefine.errors import UserError
from unirefine.files import locks

HOLD = """
import sys, time
from pathlib import Path
from unirefine.files.locks import exclusive
with exclusive(Path(sys.argv[1]) / ".lock", wait=True):
    print("has it", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path/out` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "out")],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"SLURM_JOB_ID": "4711"},
    )  # fmt: skip
    assert process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_sees_who_is_first(tmp_path, holder):
    with (
        pytest.raises(UserError, match=rf"process {holder.pid} on .* \(Slurm job 4711\); wait for it, stop it"),
        locks.exclusive(tmp_path / "out/.lock", wait=False),
    ):
        pass


def test_a_stage_waits_and_goes_on_when_the_first_is_killed(tmp_path, holder):
    """As a second Slurm job does, whose Snakemake was killed and started again."""
    command = [sys.executable, "-m", "unirefine.cli.main", "split", "--clusters", str(tmp_path), "--output"]
    with (tmp_path / "stderr").open("w") as stderr:
        second = subprocess.Popen([*command, str(tmp_path / "out")], stderr=stderr)
    deadline = time.monotonic() + 60
    while "waiting for it to end" not in (tmp_path / "stderr").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"process {holder.pid} on" in (tmp_path / "stderr").read_text()
    time.sleep(0.5)
    assert second.poll() is None
    holder.send_signal(signal.SIGKILL)
    assert second.wait(60) == 1
    assert "no such file" in (tmp_path / "stderr").read_text(), "it had its turn; there was nothing to read"
    assert f"process {second.pid} on" in (tmp_path / "out/.lock").read_text()


@pytest.mark.parametrize("there", ["", "out", "out/a"])
def test_what_fails_at_once_leaves_no_directory(tmp_path, there):
    (tmp_path / there).mkdir(exist_ok=True, parents=True)
    before = [path for path in tmp_path.rglob("*") if path.is_dir()]
    with pytest.raises(UserError), locks.exclusive(tmp_path / "out/a/.lock", wait=True):
        raise UserError("no such file")
    assert [path for path in tmp_path.rglob("*") if path.is_dir()] == before
    with pytest.raises(UserError), locks.exclusive(tmp_path / "new/.lock", wait=True):
        (tmp_path / "new/part").touch()
        raise UserError("the disk is full")
    assert (tmp_path / "new/part").exists()


def test_a_lock_that_its_holder_deletes_is_made_again(tmp_path, monkeypatch):
    """Who waits for a lock would else hold one on a file that is no longer there, beside the next one's."""
    path, take = tmp_path / "out/.lock", locks.take

    def deleted(handle, *, wait=False):
        monkeypatch.setattr(locks, "take", take)
        path.unlink()
        path.parent.rmdir()
        return take(handle, wait=wait)

    monkeypatch.setattr(locks, "take", deleted)
    with locks.exclusive(path, wait=True):
        assert str(os.getpid()) in path.read_text()


def test_parts_of_a_search_do_not_wait_for_each_other(tmp_path):
    from unirefine.cli import decontaminate

    words = ["search", "--directory", str(tmp_path), "--part"]
    held = [decontaminate._lock(decontaminate.parser().parse_args([*words, part])) for part in ("0", "1")]
    with locks.exclusive(held[0], wait=False), locks.exclusive(held[1], wait=False):
        assert [path.name for path in held] == [".search-000.lock", ".search-001.lock"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_not_another_run(tmp_path, monkeypatch, capsys, number):
    def flock(_handle: object, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locks.exclusive(tmp_path / "out/.lock", wait=False):
        pass
    printed = capsys.readouterr().err
    assert "has no file locks" in printed
    assert str(tmp_path / "out/.lock") in printed


def test_any_other_fault_comes_through(tmp_path, monkeypatch):
    def flock(_handle: object, _operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locks.exclusive(Path(tmp_path) / ".lock", wait=True):
        pass
