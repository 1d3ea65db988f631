"""Start N gloo processes of a worker script on this machine and wait for them."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
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


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process that ranks are forked from (`ranks.py`), one for all tests of this process; it ends with it."""
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ranks.py"))],
        env=os.environ | quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def launch(script: Path, processes: int, *arguments: object, timeout: float = 600) -> None:
    """Run `python script arguments...` as ranks 0..processes-1 of one world, one thread each.

    When a rank fails, kills the others and raises AssertionError with the output of the first that failed.
    """
    with tempfile.TemporaryDirectory() as directory, rendezvous(processes) as shared:
        logs = [Path(directory, f"rank-{rank}.log") for rank in range(processes)]
        environment = os.environ | shared
        request = {
            "script": str(script),
            "arguments": [str(argument) for argument in arguments],
            "environments": [environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)],
            "logs": [str(log) for log in logs],
            "timeout": timeout,
        }
        server = _server()
        print(json.dumps(request), file=server.stdin, flush=True)
        codes = json.loads(server.stdout.readline())["codes"]
        failed = next((rank for rank, code in enumerate(codes) if code), None)
        if failed is not None:
            raise AssertionError(f"rank {failed} of {processes} failed:\n{logs[failed].read_text()[-6000:]}")
        assert None not in codes, f"{script.name} took longer than {timeout} s"
