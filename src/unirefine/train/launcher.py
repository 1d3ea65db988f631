"""Start one training process per GPU (or CPU core) of this node and look after them.

torch.distributed's elastic agent (what `torchrun` is made of) runs inside this process, so that signals and exit
codes are ours: Slurm's or Snakemake's SIGTERM reaches the workers and is not followed by a kill while they save.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from unirefine.config import Parallel
from unirefine.errors import UserError

EXIT_PREEMPTED = 75
"""Exit status after SIGTERM or SIGUSR1 with the checkpoint saved (EX_TEMPFAIL): start again to continue."""

SHUTDOWN_S = 10
"""When one process dies, the others of its node get SIGTERM, and after this many seconds SIGKILL."""

STEP_SHUTDOWN_S = 60
"""When the processes of one node have ended, Slurm ends those of the other nodes after this many seconds."""

PIDS = "UNIREFINE_PIDS"
"""Environment variable: directory in which the workers of one node leave their process ids."""

STOP_FILE = "stop"
"""File in that directory: a signal has come, for workers that register later."""

SAVED_FILE = "saved"
"""File in that directory: a worker has saved because of a signal and ends."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def is_worker() -> bool:
    """Whether something (our launcher, torchrun, srun with a task per GPU) already gave this process a rank."""
    return "RANK" in os.environ


def adopt_srun(parallel: Parallel) -> None:
    """Under `srun` with one task per process: translate Slurm's variables to torch.distributed's."""
    environment = os.environ
    if is_worker() or parallel.world == 1 or environment.get("SLURM_NTASKS") != str(parallel.world):
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
    address, port = _first_node().rsplit(":", 1)
    environment.setdefault("MASTER_ADDR", address)
    environment.setdefault("MASTER_PORT", port)


def become_slurm_step(parallel: Parallel, arguments: Sequence[str]) -> None:
    """In the batch script of a Slurm job: replace this process by `srun`, which runs the command once on every node.

    Returns when there is no job, or when something has called `srun` already. A step is needed on one node as well:
    Slurm's warning before the time limit (`--signal=USR1@300`) reaches steps, not the script.
    """
    if "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ or is_worker():
        return
    nodes = str(parallel.nodes)
    command = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1"]
    command += ["--cpu-bind=none"]  # the launcher's processes share what the job has on the node
    command += [f"--wait={STEP_SHUTDOWN_S}"]
    sys.stdout.flush()
    os.execvp("srun", [*command, sys.executable, "-m", "unirefine.cli.main", "train", *arguments])


def alone() -> None:
    """Give a run of one process its rank: it needs no launcher, whatever batch job it is in."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")


def launch(parallel: Parallel, arguments: Sequence[str]) -> None:
    """Run `unirefine train <arguments>` in `parallel.processes_per_node` processes and wait for them.

    With `parallel.nodes` above 1 this runs once on every node (`srun --ntasks-per-node=1`) and meets the others at
    MASTER_ADDR:MASTER_PORT, by default the first node of the Slurm job.

    Raises UserError with the first process's own message when one fails, SystemExit(75) when they stopped on a signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    meeting = _first_node() if parallel.nodes > 1 else "127.0.0.1:0"
    with tempfile.TemporaryDirectory(prefix="unirefine-train-") as scratch, _forward_signals(Path(scratch)):
        os.environ[PIDS] = scratch
        _set_threads(parallel)
        config = LaunchConfig(
            min_nodes=parallel.nodes,
            max_nodes=parallel.nodes,
            nproc_per_node=parallel.processes_per_node,
            # the same on every node, or they would wait for each other under different names
            run_id=os.environ.get("SLURM_JOB_ID", "unirefine"),
            rdzv_backend="c10d",
            rdzv_endpoint=meeting,
            # nodes that meet at the loopback address are one machine, whose name need not resolve
            local_addr="127.0.0.1" if meeting.startswith("127.0.0.1:") else None,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            signals_to_handle="SIGINT,SIGHUP,SIGQUIT",
            shutdown_timeout=SHUTDOWN_S,
        )
        command = ["-m", "unirefine.cli.main", "train", *arguments]
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException as stopped:
            raise KeyboardInterrupt from stopped
        except ChildFailedError as failed:
            _explain(failed)
        except RendezvousError as lost:
            # The node that holds the rendezvous was the first to notice that its workers had ended. The agent has by
            # now waited for ours.
            if (Path(scratch) / SAVED_FILE).exists():
                raise SystemExit(EXIT_PREEMPTED) from None
            raise UserError(
                f"this node lost the others, which meet at {meeting}: {lost}",
                fix="see the messages of the other nodes; start again to continue from the newest checkpoint",
            ) from None


def _explain(failed: Exception) -> None:
    """Turn the agent's report into our exit code or one line."""
    failures = failed.failures.values()  # type: ignore[attr-defined]
    codes = {failure.exitcode for failure in failures}
    if EXIT_PREEMPTED in codes:
        raise SystemExit(EXIT_PREEMPTED) from None
    rank, first = failed.get_first_failure()  # type: ignore[attr-defined]
    told = [
        failure.error_file_data["message"]["message"]
        for failure in failures
        if isinstance(failure.error_file_data.get("message"), dict)
    ]
    if told:
        raise UserError(told[0]) from None
    how = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"failed with status {first.exitcode}"
    raise UserError(
        f"process {rank} {how}",
        fix="see the messages above; start again to continue from the newest checkpoint (out of memory? smaller "
        "train.micro_batch)",
    ) from None


class Stop:
    """Whether SIGTERM or SIGUSR1 asked this process to save and stop. Creating it installs the handlers."""

    def __init__(self) -> None:
        self.requested = False
        for number in SIGNALS:
            signal.signal(number, self._note)
        directory = os.environ.get(PIDS)
        if directory is None:
            return
        with contextlib.suppress(OSError, AttributeError):  # Linux: die with the launcher (PR_SET_PDEATHSIG is 1)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        (Path(directory) / f"{os.getpid()}.pid").touch()
        if (Path(directory) / STOP_FILE).exists():  # the signal was faster than we were
            self.requested = True

    def _note(self, _number: int, _frame: object) -> None:
        self.requested = True


def preempted() -> NoReturn:
    """In a worker that has saved because of a signal: leave with EXIT_PREEMPTED. Raises SystemExit."""
    directory = os.environ.get(PIDS)
    if directory is not None:
        (Path(directory) / SAVED_FILE).touch()
    raise SystemExit(EXIT_PREEMPTED)


def report(line: str) -> bool:
    """In a worker: hand `line` to the launcher as the reason of the failure. False when nobody listens."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None or PIDS not in os.environ:
        return False
    Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": {"timestamp": int(time.time())}}}))
    return True


@contextlib.contextmanager
def _forward_signals(directory: Path) -> Iterator[None]:
    """Pass SIGTERM and SIGUSR1 on to every worker that registered, and leave word for those that will."""

    def forward(number: int, _frame: object) -> None:
        (directory / STOP_FILE).touch()
        for path in directory.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.stem), number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _set_threads(parallel: Parallel) -> None:
    """Share OMP_NUM_THREADS (Snakemake's `threads`), or else the cores, between the processes of this node."""
    threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // parallel.processes_per_node))
    os.environ.pop("MKL_NUM_THREADS", None)  # Snakemake sets both, and torch prefers this one


def _first_node() -> str:
    """`host:port` where the nodes meet: MASTER_ADDR and MASTER_PORT, or the first node of the Slurm job."""
    port = os.environ.get("MASTER_PORT")
    if port is None:
        # the same on every node of a job, different for jobs that share a node
        port = str(20_000 + int(os.environ.get("SLURM_JOB_ID", "9500")) % 10_000)
    if "MASTER_ADDR" in os.environ:
        return f"{os.environ['MASTER_ADDR']}:{port}"
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if nodes is None:
        raise UserError(
            "train.parallel.nodes is above 1 but nothing says where the nodes meet",
            fix="set MASTER_ADDR (and MASTER_PORT) on every node, or start under srun",
        )
    return f"{first_host(nodes)}:{port}"


def first_host(nodes: str) -> str:
    """The first name of Slurm's list of hosts. Not asked of `scontrol`, which a container does not have.

    >>> first_host("gpu[007-009,12]-ib,login1")
    'gpu007-ib'
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)[0]  # type: ignore[index]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)
