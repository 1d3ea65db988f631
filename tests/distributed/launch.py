"""Start N gloo processes of a worker script on this machine and wait for them."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from forked import Forked
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
    with rendezvous(processes) as shared:
        environments = [os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        ranks = [Forked(str(script), arguments, environment=each, merged=True) for each in environments]
        codes = ended(ranks, time.monotonic() + timeout)
        for rank in ranks:
            rank.kill()
        failed = next((rank for rank, code in enumerate(codes) if code), None)
        if failed is not None:
            output = ranks[failed].communicate()[0]
            raise AssertionError(f"rank {failed} of {processes} failed:\n{output[-6000:]}")
        assert None not in codes, f"{script.name} took longer than {timeout} s"


def ended(ranks: list[Forked], deadline: float) -> list[int | None]:
    """Exit statuses once all ranks have ended or one has failed; None of those that still run."""
    while True:
        codes = [rank.poll() for rank in ranks]
        if None not in codes or any(codes) or time.monotonic() > deadline:
            return codes
        time.sleep(0.02)
