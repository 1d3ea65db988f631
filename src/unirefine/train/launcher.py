"""Start one training process per GPU (or CPU core) of this node, forward signals to them, and report why they ended.

torch.distributed's elastic agent, on which `torchrun` is built, runs inside this process. So we decide about signals
and exit codes: SIGTERM from Slurm or Snakemake is forwarded to the workers, and they are not killed while they save.
"""

import contextlib
import ctypes
import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from unirefine.config import Parallel, Train
from unirefine.errors import UserError
from unirefine.faults import LOST_PEER

EXIT_PREEMPTED = 75
"""Exit status after SIGTERM or SIGUSR1 with the checkpoint saved (EX_TEMPFAIL): start again to continue."""

SHUTDOWN_VARIABLE = "UNIREFINE_SHUTDOWN_S"
"""Environment variable: the whole seconds of `shutdown_seconds`."""

SHUTDOWN_S = 10
"""Default of SHUTDOWN_VARIABLE."""

SRUN_WAIT_S = 60
"""Slurm ends the workers of all nodes this many seconds after those of the first node have ended (`srun --wait`)."""

WORKERS_VARIABLE = "UNIREFINE_PIDS"
"""Environment variable: the directory through which a launcher and its workers exchange the files below.

Each worker creates `<process id>.pid` in it.
"""

STOP_FILE = "stop"
"""The launcher creates it when it forwards a signal, for workers that register later."""

SAVED_FILE = "saved"
"""A worker creates it when it has saved its checkpoint after a signal."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask for a checkpoint and a stop."""


def has_rank() -> bool:
    """Whether this process is one of a job's: our launcher, torchrun or `use_slurm_rank` has set its RANK."""
    return "RANK" in os.environ


def use_slurm_rank(parallel: Parallel) -> None:
    """Under `srun` with one task per process: set torch.distributed's variables from Slurm's."""
    environment = os.environ
    if has_rank():
        return
    tasks = environment.get("SLURM_STEP_NUM_TASKS")
    if tasks is not None and tasks not in (str(parallel.nodes), str(parallel.world)):
        raise UserError(
            f"srun has started {tasks} of this command, and train.parallel asks for {parallel.nodes} node(s) x "
            f"{parallel.processes_per_node} processes",
            fix=f"start one a node (--ntasks {parallel.nodes}) or one a process (--ntasks {parallel.world})",
        )
    if parallel.world == 1 or environment.get("SLURM_NTASKS") != str(parallel.world):
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
    environment["LOCAL_WORLD_SIZE"] = str(parallel.processes_per_node)
    address, port = _rendezvous_endpoint().rsplit(":", 1)
    environment.setdefault("MASTER_ADDR", address)
    environment.setdefault("MASTER_PORT", port)


def single_rank() -> contextlib.AbstractContextManager[None]:
    """Within the block, this process is rank 0 of 1, whatever Slurm's variables say about the tasks of a job."""
    return _environment(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def exec_srun(config: Train, shards: Path, output: Path) -> None:
    """In the batch script of a Slurm job: replace this process by `srun`, which runs the command once on every node.

    Returns outside a job and inside a step. One node needs a step too: Slurm's warning before the time limit
    (`--signal=USR1@300`) goes to steps, not to the script.
    """
    if "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ or has_rank():
        return
    if shutil.which("srun") is None:
        raise UserError(
            "this is a job of Slurm (SLURM_JOB_ID is set), and there is no srun to start the training with",
            fix="put it on PATH; in a container, start the container by srun; outside of a job, unset SLURM_JOB_ID",
        )
    nodes = str(config.parallel.nodes)
    srun = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1"]
    srun += ["--cpu-bind=none"]  # the workers of a node share the CPUs that the job has there
    if cores := os.environ.get("SLURM_CPUS_PER_TASK"):  # since Slurm 22.05 a step takes one unless it asks for more
        srun += [f"--cpus-per-task={cores}"]
    srun += [f"--wait={SRUN_WAIT_S}"]
    sys.stdout.flush()
    os.execvp("srun", [*srun, sys.executable, *_command(config, shards, output)])


def launch(config: Train, shards: Path, output: Path) -> None:
    """Run `unirefine train` in `parallel.processes_per_node` processes and wait for them.

    With `parallel.nodes` above 1, run this once on every node (`srun --ntasks-per-node=1`). The launchers meet at
    MASTER_ADDR:MASTER_PORT, by default on the first node of the Slurm job.

    Raises UserError with the first worker's own message when one fails, and SystemExit with EXIT_PREEMPTED when they
    stopped on a signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _quieten_agent()
    parallel, timeout = config.parallel, shutdown_seconds()
    endpoint = _rendezvous_endpoint() if parallel.nodes > 1 else "127.0.0.1:0"
    check_address(endpoint)
    with (
        tempfile.TemporaryDirectory(prefix="unirefine-train-") as scratch,
        _forwarded_signals(Path(scratch)),
        _environment(**{WORKERS_VARIABLE: scratch, **_thread_variables(parallel)}),
    ):
        agent = LaunchConfig(
            min_nodes=parallel.nodes,
            max_nodes=parallel.nodes,
            nproc_per_node=parallel.processes_per_node,
            # must be the same on every node: launchers meet those of the same id
            run_id=os.environ.get("SLURM_JOB_ID", "unirefine"),
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint,
            # nodes that meet at the loopback address are one machine, whose name need not resolve
            local_addr="127.0.0.1" if endpoint.startswith("127.0.0.1:") else None,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            signals_to_handle="SIGINT,SIGHUP,SIGQUIT",
            shutdown_timeout=timeout,
        )
        try:
            elastic_launch(agent, sys.executable)(*_command(config, shards, output))
        except SignalException as stopped:
            raise KeyboardInterrupt from stopped
        except ChildFailedError as failed:
            _raise_failure(failed)
        except RendezvousError:
            # The node that serves the rendezvous was the first to notice that its workers had ended, and left. By now
            # the agent has waited for the workers of this node too.
            if (Path(scratch) / SAVED_FILE).exists():
                raise SystemExit(EXIT_PREEMPTED) from None
            raise UserError(
                f"this node has lost, or never had, a connection to the others at {endpoint}",
                fix="see the messages of the other nodes, and whether this one reaches that port; start again to "
                "continue from the newest checkpoint",
            ) from None


def quiet_torch() -> contextlib.AbstractContextManager[None]:
    """When torch is imported within the block, its C++ code does not log in this process (to its children it does)."""
    return _environment(TORCH_CPP_LOG_LEVEL=os.environ.get("TORCH_CPP_LOG_LEVEL", "FATAL"))


def _quieten_agent() -> None:
    """Keep what the elastic agent logs about its processes off stderr: `launch` says it in one line."""
    agent = logging.getLogger("torch.distributed.elastic")
    agent.propagate = False
    agent.addHandler(logging.NullHandler())  # without any handler, Python prints warnings itself


def shutdown_seconds() -> int:
    """Seconds between SIGTERM and SIGKILL for the other workers of a node when one of them has died.

    UNIREFINE_SHUTDOWN_S in the environment, 10 by default.
    """
    return _number(SHUTDOWN_VARIABLE, SHUTDOWN_S)


def _command(config: Train, shards: Path, output: Path) -> list[str]:
    """Arguments of the Python interpreter for `unirefine train` with the same config and directories."""
    paths = ["--shards", str(shards), "--output", str(output)]
    return ["-m", "unirefine.cli.main", "train", "--config", config.model_dump_json(), *paths]


def _raise_failure(failed: Exception) -> NoReturn:
    """Raise SystemExit or UserError for the agent's ChildFailedError."""
    failures = failed.failures  # type: ignore[attr-defined]
    if EXIT_PREEMPTED in {failure.exitcode for failure in failures.values()}:
        raise SystemExit(EXIT_PREEMPTED) from None
    said = {rank: failure.error_file_data.get("message") for rank, failure in failures.items()}
    messages = [message["message"] for message in said.values() if isinstance(message, dict)]
    silent = [rank for rank, message in said.items() if not isinstance(message, dict)]
    # those that have lost another process say so too, but are not the reason
    reasons = [message for message in messages if not message.startswith(LOST_PEER)]
    if reasons or not silent:
        raise UserError((reasons or messages)[0]) from None
    rank = min(silent, key=lambda each: failures[each].timestamp)
    code, again = failures[rank].exitcode, "start again to continue from the newest checkpoint"
    if code < 0:
        fix = f"{again}; if memory ran out, lower train.micro_batch"
        raise UserError(f"process {rank} was killed by signal {-code}", fix=fix) from None
    raise UserError(f"process {rank} failed with status {code}", fix=f"see the messages above; {again}") from None


class StopRequest:
    """Whether SIGTERM or SIGUSR1 has asked this process to save and stop. Creating it installs the handlers."""

    def __init__(self) -> None:
        self.requested = False
        for number in SIGNALS:
            signal.signal(number, self._handle)
        directory = os.environ.get(WORKERS_VARIABLE)
        if directory is None:
            return
        with contextlib.suppress(OSError, AttributeError):  # Linux: die with the launcher (PR_SET_PDEATHSIG is 1)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        (Path(directory) / f"{os.getpid()}.pid").touch()
        if (Path(directory) / STOP_FILE).exists():  # the signal came before this worker had registered
            self.requested = True

    def _handle(self, _number: int, _frame: object) -> None:
        self.requested = True


def exit_preempted() -> NoReturn:
    """Leave a process that has saved because of a signal. Raises SystemExit with EXIT_PREEMPTED."""
    directory = os.environ.get(WORKERS_VARIABLE)
    if directory is not None:
        (Path(directory) / SAVED_FILE).touch()
    raise SystemExit(EXIT_PREEMPTED)


def report_failure(line: str) -> bool:
    """In a worker: pass `line` to the launcher as the reason of the failure. False without a launcher of ours."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None or WORKERS_VARIABLE not in os.environ:
        return False
    Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": {"timestamp": int(time.time())}}}))
    return True


@contextlib.contextmanager
def _forwarded_signals(directory: Path) -> Iterator[None]:
    """Within the block, forward SIGTERM and SIGUSR1 to all registered workers; STOP_FILE reaches those to come."""

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


def _thread_variables(parallel: Parallel) -> dict[str, str]:
    """Variables that give a worker its threads: the node's, divided evenly. torch prefers MKL's, which Snakemake sets.

    The node's are the cores of the Slurm task, else OMP_NUM_THREADS of this process (Snakemake's `threads`), else the
    cores. Snakemake's `threads` of a training is its number of processes, which Slurm's profile multiplies.
    """
    variable = "SLURM_CPUS_PER_TASK" if os.environ.get("SLURM_CPUS_PER_TASK") else "OMP_NUM_THREADS"
    threads = _number(variable, len(os.sched_getaffinity(0)))
    share = str(max(1, threads // parallel.processes_per_node))
    return {"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share}


def _number(name: str, default: int) -> int:
    """A whole number from the environment. Raises UserError for anything else."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"{name}={text!r} is not a whole number", fix="correct it or unset it")
    return int(text)


def check_address(endpoint: str) -> None:
    """Raise UserError when the name at which the nodes meet does not resolve, which torch tries for minutes."""
    address, port = endpoint.rsplit(":", 1)
    try:
        socket.getaddrinfo(address, int(port))
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"the nodes are to meet at {address}, which this node does not find ({error})",
            fix="set MASTER_ADDR to a name or address of the first node that every node knows",
        ) from None


def _rendezvous_endpoint() -> str:
    """`host:port` at which the nodes meet: MASTER_ADDR and MASTER_PORT, or the first node of the Slurm job."""
    # without MASTER_PORT: the same on every node of a job, different for jobs that share a node
    port = _number("MASTER_PORT", 20_000 + _number("SLURM_JOB_ID", 9500) % 10_000)
    if not 0 < port < 65_536:
        raise UserError(f"MASTER_PORT={port} is no port", fix="take one between 1024 and 65535, the same on every node")
    if "MASTER_ADDR" in os.environ:
        return f"{os.environ['MASTER_ADDR']}:{port}"
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if nodes is None:
        raise UserError(
            "train.parallel.nodes is above 1, but no address is set at which the nodes meet",
            fix="set MASTER_ADDR (and MASTER_PORT) on every node, or start under srun",
        )
    return f"{first_host(nodes)}:{port}"


def first_host(nodes: str) -> str:
    """The first name of Slurm's list of hosts. Parsed here because a container does not have `scontrol`.

    >>> first_host("gpu[007-009,12]-ib,login1")
    'gpu007-ib'
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)[0]  # type: ignore[index]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)
