"""Start N gloo processes of a worker script on this machine and wait for them."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from torch.distributed import TCPStore


@contextlib.contextmanager
def rendezvous(processes: int) -> Iterator[dict[str, str]]:
    """Environment for `processes` ranks of one thread each on this machine; the caller adds RANK and LOCAL_RANK.

    This process serves the store, as torchrun's agent does, on a port that the kernel chooses and that stays bound.
    A free port that is found first and bound by rank 0 later could be taken by another process in between.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": "1",
    }


def launch(script: Path, processes: int, *arguments: object, timeout: float = 600) -> None:
    """Run `python script arguments...` as ranks 0..processes-1 of one world, one thread each.

    When a rank fails, kills the others and raises AssertionError with the output of the first that failed.
    """
    with tempfile.TemporaryDirectory() as directory, rendezvous(processes) as shared:
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
        logs = [Path(directory, f"rank-{rank}.log") for rank in range(processes)]
        ranks = []
        for rank, log in enumerate(logs):
            with log.open("w") as output:
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *map(str, arguments)],
                        env=os.environ | shared | quiet | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
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
