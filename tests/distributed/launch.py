"""Start N gloo processes of a worker script on this machine and wait for them."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def launch(script: Path, processes: int, *arguments: object, timeout: float = 600) -> None:
    """Run `python script arguments...` as ranks 0..processes-1 of one world, one thread each.

    Fails with the output of the rank that failed first; the other ranks are ended.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryDirectory() as directory:
        logs = [Path(directory, f"rank-{rank}.log") for rank in range(processes)]
        ranks = []
        for rank, log in enumerate(logs):
            with log.open("w") as output:
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *map(str, arguments)],
                        env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        deadline = time.monotonic() + timeout
        try:
            while any(process.poll() is None for process in ranks) and time.monotonic() < deadline:
                if any(process.poll() for process in ranks):
                    break
                time.sleep(0.05)
            failed = next((rank for rank, process in enumerate(ranks) if process.poll()), None)
            if failed is not None:
                raise AssertionError(f"rank {failed} of {processes} failed:\n{logs[failed].read_text()[-6000:]}")
            assert time.monotonic() < deadline, f"{script.name} took longer than {timeout} s"
        finally:
            for process in ranks:
                process.kill()
                process.wait()
