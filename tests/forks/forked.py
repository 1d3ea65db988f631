"""Commands as forks of `fork_server.py`, one server for all processes of pytest."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from unirefine.files import locks

HERE = Path(__file__).parent
VARIABLE = "UNIREFINE_FORK_SERVER"
"""Environment variable: the socket of the server. `unirefine` of this directory reads it too."""
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Libraries start their threads when they are imported."""


def start_server() -> str:
    """Start the server unless it runs. Returns the path of its socket."""
    path = Path(os.environ[VARIABLE])
    if path.exists():
        return str(path)
    with locks.exclusive(path.with_suffix(".lock"), wait=True):
        if not path.exists():
            owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            with path.with_suffix(".log").open("wb") as log:
                server = subprocess.Popen(
                    [sys.executable, str(HERE / "fork_server.py"), str(path), str(owner)],
                    env=os.environ | QUIET | SINGLE, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            while not path.exists():
                assert server.poll() is None, path.with_suffix(".log").read_text()
                time.sleep(0.02)
    return str(path)


class Forked:
    """`program arguments...` (`unirefine`, `snakemake` or a Python file), with the methods of subprocess.Popen."""

    def __init__(
        self,
        program: str,
        arguments: Sequence[object],
        *,
        directory: Path | None = None,
        environment: dict[str, str] | None = None,
        merged: bool = False,
        failing: tuple[str, int] | None = None,
        file_size: int | None = None,
    ) -> None:
        """Start it in a session of its own.

        merged: errors go where the output goes. failing: arguments of `failing_calls`. file_size: the largest file that
        it may write, in bytes.
        """
        self.args = [program, *map(str, arguments)]
        self.returncode: int | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._errors = self._output if merged else tempfile.TemporaryFile()  # noqa: SIM115
        request = {
            "program": program, "arguments": self.args[1:], "directory": str(directory or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "failing": failing, "file_size": file_size,
        }  # fmt: skip
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(start_server())
        files = [self._output.fileno(), self._errors.fileno()]
        socket.send_fds(self._connection, [json.dumps(request).encode()], files)
        self.pid = int(self._connection.recv(32))

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended. Raises subprocess.TimeoutExpired after that many seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._connection.recv(32))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait; then all that it has written to (standard output, standard error)."""
        self.wait(timeout)
        texts = []
        for file in (self._output, self._errors):
            file.seek(0)
            texts.append(file.read().decode())
        return texts[0], "" if self._errors is self._output else texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def completed(process: Forked, timeout: float) -> subprocess.CompletedProcess[str]:
    """Wait for a process, as subprocess.run does."""
    try:
        output, errors = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
