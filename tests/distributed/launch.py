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
    """Environment with which `processes` ranks find each other on this machine, one thread each; RANK is missing.

    The store that they meet at is served by this process, as torchrun's agent does, on a port that the kernel gives
    and that is bound until the end: a port that is probed, freed and bound again by rank 0 may be somebody else's.
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

    Fails with the output of the rank that failed first; the other ranks are ended.
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
