"""The virtual cluster itself: it runs as any user, and leaves nothing however its owner ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from virtual import processes_of

PROGRAM = [sys.executable, str(Path(__file__).with_name("virtual.py"))]
# nobody owns nothing, but may read everything here: Python can be in root's home
NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def wait_until_gone(directory: Path, seconds: float = 60) -> None:
    """Wait until no process of the cluster is left and its directory is removed."""
    deadline = time.monotonic() + seconds
    while directory.exists() or processes_of(directory):
        assert time.monotonic() < deadline, (directory.exists(), processes_of(directory))
        time.sleep(0.2)


def test_it_runs_a_job_as_an_ordinary_user_and_leaves_nothing():
    another = NOBODY if os.geteuid() == 0 else []
    done = subprocess.run([*another, *PROGRAM], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    user = "nobody" if another else os.environ["USER"]
    assert f"job of {user} on node[1-2]: COMPLETED" in done.stdout
    wait_until_gone(Path(done.stdout.splitlines()[0]), 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_owner_leaves_neither_daemon_nor_job_nor_directory(number):
    owner = subprocess.Popen([*PROGRAM, "sleep", "3600"], stdout=subprocess.PIPE, text=True)
    try:
        directory = Path(owner.stdout.readline().strip())
        deadline = time.monotonic() + 120
        while sum(process.name() == "sleep" for process in processes_of(directory)) < 2:
            assert time.monotonic() < deadline, "the job does not start"
            time.sleep(0.2)
    finally:
        owner.send_signal(number)
        owner.wait()
    wait_until_gone(directory)
