"""A real Slurm on this machine: munged, slurmctld and two slurmd with their files in one directory.

    with VirtualCluster(directory) as cluster:
        subprocess.run(["sinfo"], env=os.environ | cluster.environment)

Runs as root or not: nothing outside the directory is written. Slurm's commands find their configuration through
wrappers at the head of PATH, because Snakemake's job steps drop SLURM_CONF from the environment of what they start.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PATH = f"{os.environ['PATH']}:/usr/sbin"  # where the daemons are, which is not on every user's path
NODES = ("node1", "node2")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr")
PACKAGES = "slurm-wlm slurm-wlm-basic-plugins munge"

SLURM_CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={directory}/jobs.txt
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdTimeout=15
InactiveLimit=0
KillWait=20
ReturnToService=2
MinJobAge=7200
OverTimeLimit=0
{nodes}
PartitionName=virtual Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


class VirtualCluster:
    """Two nodes that say they have 16 processors, 1 TB and 8 GPUs each, so that jobs of a real cluster's size are
    scheduled; nothing enforces it. A context manager. Raises RuntimeError when it does not come up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.daemons: dict[str, subprocess.Popen] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a shell needs so that its Slurm is this one, and ranks meet although `node1` is no name."""
        return {
            "PATH": f"{self.directory}/bin:{PATH}",
            "SLURM_CONF": str(self.directory / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",
        }

    def __enter__(self) -> "VirtualCluster":
        self._write_files()
        try:
            self._start_munge()
            self._daemon("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self.start_node(node)
            self._wait_until_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.daemons):
            self._stop(name)
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node (again)."""
        self._daemon(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """What a power cut does: slurmd and everything that it started, gone at once."""
        daemon = psutil.Process(self.daemons[node].pid)
        steps = [process for process in self._processes() if process.pid != daemon.pid and self._on(process, node)]
        doomed = [daemon, *steps, *(child for step in steps for child in step.children(recursive=True))]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.daemons.pop(node).wait()

    def freeze_node(self, node: str, seconds: float) -> None:
        """What a hanging shared file system does to a node: its job's processes stand still for a while."""
        tasks = [process for process in self._processes() if self._on(process, node)]
        if not tasks:
            raise RuntimeError(f"nothing runs on {node}")
        for each in tasks:
            each.suspend()
        time.sleep(seconds)
        for each in tasks:
            each.resume()

    def run(self, *command: str) -> str:
        """Standard output of one of Slurm's commands."""
        return subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=True
        ).stdout

    def queue(self) -> list[str]:
        """Ids of jobs that run or wait."""
        return self.run("squeue", "--noheader", "--format=%i").split()

    def _write_files(self) -> None:
        directory = self.directory
        for name in ("munge", "state", "bin", *(f"spool-{node}" for node in NODES)):
            (directory / name).mkdir(parents=True)
        (directory / "munge").chmod(0o755)
        (directory / "munge/key").write_bytes(secrets.token_bytes(1024))
        (directory / "munge/key").chmod(0o600)
        host = socket.gethostname()
        ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            "CPUs=16 RealMemory=1000000 Gres=gpu:8 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        (directory / "slurm.conf").write_text(
            SLURM_CONF.format(host=host, controller=ports[0], user=getpass.getuser(), directory=directory, nodes=nodes)
        )
        for number in range(8):  # Slurm counts GPUs by their device files
            (directory / f"gpu{number}").touch()
        (directory / "gres.conf").write_text(f"Name=gpu File={directory}/gpu[0-7]\n")
        for name in COMMANDS:
            wrapper = directory / "bin" / name
            wrapper.write_text(
                f'#!/bin/sh\nSLURM_CONF={directory}/slurm.conf exec {shutil.which(name, path=PATH)} "$@"\n'
            )
            wrapper.chmod(0o755)

    def _start_munge(self) -> None:
        munge = self.directory / "munge"
        self._daemon(
            "munged", "munged", "--foreground", "--force", "--num-threads=2", f"--key-file={munge}/key",
            f"--socket={munge}/socket", f"--pid-file={munge}/pid",
            f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        _wait("munged", 20, (munge / "socket").exists)

    def _daemon(self, name: str, *command: str) -> None:
        self._home(name).mkdir(exist_ok=True)
        with (self.directory / f"{name}.out").open("a") as output:
            self.daemons[name] = subprocess.Popen(
                [shutil.which(command[0], path=PATH), *command[1:]],
                env=os.environ | self.environment,
                cwd=self._home(name),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _stop(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _wait_until_idle(self) -> None:
        def idle() -> bool:
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    told = (self.directory / f"{name}.out").read_text()[-2000:]
                    raise RuntimeError(f"{name} ended with status {daemon.returncode}: {told}")
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.run("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * len(NODES)
            return False

        _wait("the two nodes", 60, idle)

    def _processes(self) -> list[psutil.Process]:
        """Every process that this cluster started, job steps and orphans too."""
        wanted = str(self.directory / "slurm.conf")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("SLURM_CONF") == wanted or Path(process.cwd()).parent == self.directory
                if ours and process.pid != os.getpid():
                    found.append(process)
        return found

    def _on(self, process: psutil.Process, node: str) -> bool:
        """Whether a process belongs to a step on this node.

        A task shows it in its environment; slurmstepd, whose environment is empty, in where slurmd was started.
        """
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get("SLURMD_NODENAME") == node or Path(process.cwd()) == self._home(node)
        return False

    def _home(self, name: str) -> Path:
        """The working directory of a daemon."""
        return self.directory / f"home-{name}"


def require_slurm() -> None:
    """Raises RuntimeError, with what to do, when Slurm's programs are missing."""
    missing = [
        name for name in ("slurmctld", "slurmd", "munged", "sbatch", "srun") if shutil.which(name, path=PATH) is None
    ]
    if missing:
        raise RuntimeError(
            f"{', '.join(missing)} not found; as root: apt-get install --no-install-recommends {PACKAGES}"
        )


def _wait(what: str, seconds: float, done: object) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up within {seconds:.0f} s")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main() -> int:
    """Whether a virtual cluster comes up on this machine: its nodes, or one line and status 1."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            require_slurm()
            with VirtualCluster(Path(scratch) / "slurm") as cluster:
                print(cluster.run("sinfo"), end="")
        except RuntimeError as error:
            print(f"no virtual Slurm here: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
