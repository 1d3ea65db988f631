"""A real Slurm on this machine: munged, MariaDB, slurmdbd, slurmctld and two slurmd with their files in one directory.

    with VirtualCluster(directory) as cluster:
        subprocess.run(["sinfo"], env=os.environ | cluster.environment)

Runs as root or not: nothing outside the directory is written. Slurm's commands find their configuration through
wrappers at the head of PATH, because Snakemake's job steps drop SLURM_CONF from the environment of what they start.

However the process that started the cluster ends, its guard (another process) ends the daemons and all jobs, and
removes the directory.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import accounting
import psutil

PATH = f"{os.environ['PATH']}:/usr/sbin"  # where the daemons are, which is not on every user's path
NODES = ("node1", "node2")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr")
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
PACKAGES = "slurm-wlm slurm-wlm-basic-plugins slurm-wlm-mysql-plugin slurmdbd munge mariadb-server"
FIELDS = ("JobIDRaw", "State", "Start", "End", "NodeList", "NNodes", "TimelimitRaw", "ReqTRES")

SLURM_CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket,cred_expire=15
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
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={directory}/munge/socket
AccountingStorageTRES=gres/gpu
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdTimeout=10
InactiveLimit=0
KillWait=20
ReturnToService=2
MinJobAge=7200
OverTimeLimit=0
{nodes}
PartitionName=virtual Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


class VirtualCluster:
    """Two nodes that claim 16 processors, 1 TB and 8 GPUs each, so that jobs of a real cluster's size are scheduled;
    nothing enforces it. A context manager. Raises RuntimeError when the cluster does not start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.daemons: dict[str, subprocess.Popen] = {}
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.guard: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for Slurm's commands, and for ranks to meet although `node1` does not resolve."""
        return {
            "PATH": f"{self.directory}/bin:{PATH}",
            "SLURM_CONF": str(self.directory / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",
        }

    def __enter__(self) -> "VirtualCluster":
        self.directory.mkdir(parents=True)
        # it ends when the pipe closes, whose other end only this process has
        self.guard = subprocess.Popen(
            [sys.executable, __file__, "--guard", str(self.directory)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            ports = _free_ports(3 + len(NODES))
            self._write_files(ports)
            self._start_munge()
            self._start_accounting(*ports[1:3])
            self._daemon("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self.start_node(node)
            _wait("the two nodes", 120, self._idle)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.daemons)):
            self._stop(name)
        self.guard.stdin.close()
        self.guard.wait()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node (again)."""
        self._daemon(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill slurmd and everything that it started at once, as a power cut does."""
        daemon = psutil.Process(self.daemons[node].pid)
        steps = [
            process for process in processes_of(self.directory) if process.pid != daemon.pid and self._on(process, node)
        ]
        doomed = [daemon, *steps]
        for step in steps:
            with contextlib.suppress(psutil.NoSuchProcess):  # a step may end meanwhile
                doomed += step.children(recursive=True)
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.daemons.pop(node).wait()

    def freeze_node(self, node: str, seconds: float) -> None:
        """Stop the processes of a node's job for a while, as a hanging shared file system does."""
        tasks = [process for process in processes_of(self.directory) if self._on(process, node)]
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

    def jobs(self) -> list[dict[str, str]]:
        """The accounting's records of all jobs, by number. Keys are FIELDS.

        A job that was put back into the queue has a record for each of its starts.
        """
        command = [
            "sacct",
            "--allocations",
            "--duplicates",
            "--allusers",
            "--noheader",
            "--parsable2",
            "--starttime=now-1days",
        ]
        lines = self.run(*command, f"--format={','.join(FIELDS)}").splitlines()
        found = [dict(zip(FIELDS, line.split("|"), strict=True)) for line in lines]
        return sorted(found, key=lambda job: int(job["JobIDRaw"]))

    def _write_files(self, ports: list[int]) -> None:
        directory = self.directory
        for name in ("munge", "state", "bin", *(f"spool-{node}" for node in NODES)):
            (directory / name).mkdir(parents=True)
        (directory / "munge").chmod(0o755)
        (directory / "munge/key").write_bytes(secrets.token_bytes(1024))
        (directory / "munge/key").chmod(0o600)
        host = socket.gethostname()
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            "CPUs=16 RealMemory=1000000 Gres=gpu:8 State=UNKNOWN"
            for node, port in zip(NODES, ports[3:], strict=True)
        )
        (directory / "slurm.conf").write_text(
            SLURM_CONF.format(
                host=host, controller=ports[0], accounting=ports[1], user=self.user, directory=directory, nodes=nodes
            )
        )
        accounting.write_settings(directory, self.user, ports[1], ports[2])
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
        _wait("munged", 60, (munge / "socket").exists)

    def _start_accounting(self, port: int, database: int) -> None:
        program = shutil.which("mariadb-install-db", path=PATH)
        accounting.create_database(self.directory, self.user, program)
        self._daemon("mariadbd", *accounting.server(self.directory, self.user, database))
        _wait("mariadbd", 120, lambda: self._listens("mariadbd", database))
        self._daemon("slurmdbd", "slurmdbd", "-D")
        _wait("slurmdbd", 120, lambda: self._listens("slurmdbd", port))
        self.run("sacctmgr", "--immediate", "add", "cluster", "virtual")

    def _listens(self, name: str, port: int) -> bool:
        self._require_alive()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return True
        return False

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

    def _idle(self) -> bool:
        self._require_alive()
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.run("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * len(NODES)
        return False

    def _require_alive(self) -> None:
        """Raises RuntimeError with the last line of a daemon that has ended."""
        for name, daemon in self.daemons.items():
            if daemon.poll() is not None:
                logs = [(self.directory / f"{name}.{kind}") for kind in ("out", "log")]
                lines = [line for path in logs if path.exists() for line in path.read_text().splitlines()[-2:]]
                raise RuntimeError(f"{name} ended with status {daemon.returncode}: {' / '.join(lines)}")

    def _on(self, process: psutil.Process, node: str) -> bool:
        """Whether a process belongs to a step on this node.

        A task has the node in its environment. slurmstepd, whose environment is empty, has slurmd's working directory.
        """
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get("SLURMD_NODENAME") == node or Path(process.cwd()) == self._home(node)
        return False

    def _home(self, name: str) -> Path:
        """The working directory of a daemon."""
        return self.directory / f"home-{name}"


def processes_of(directory: Path) -> list[psutil.Process]:
    """All processes that the cluster in this directory started, with job steps and orphans."""
    wanted = str(directory / "slurm.conf")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get("SLURM_CONF") == wanted or Path(process.cwd()).parent == directory
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def guard(directory: Path) -> None:
    """Wait until the cluster's owner ends or closes the pipe, then kill its processes and remove its directory."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    quiet = 0
    while quiet < 3:  # a process that is just being started is found the second time
        found = processes_of(directory)
        quiet = 0 if found else quiet + 1
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.1)
    shutil.rmtree(directory, ignore_errors=True)


def require_slurm() -> None:
    """Raises RuntimeError, with what to do, when programs are missing."""
    wanted = (*DAEMONS, "mariadb-install-db", "sbatch", "srun", "sacct")
    missing = [name for name in wanted if shutil.which(name, path=PATH) is None]
    if missing:
        raise RuntimeError(
            f"{', '.join(missing)} not found; as root: apt-get install --no-install-recommends {PACKAGES}"
        )


def _wait(what: str, seconds: float, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not done():
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
    """Start a virtual cluster and run a job (the command given, or `true`). Exit status 0, or 1 and one line."""
    if sys.argv[1:2] == ["--guard"]:
        guard(Path(sys.argv[2]))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        try:
            require_slurm()
            with VirtualCluster(Path(scratch) / "slurm") as cluster:
                print(cluster.directory, cluster.run("sinfo"), sep="\n", end="", flush=True)
                cluster.run("srun", "--nodes=2", *(sys.argv[1:] or ["true"]))
                _wait("the job's record", 60, lambda: [job["State"] for job in cluster.jobs()] == ["COMPLETED"])
                (job,) = cluster.jobs()
                print(f"job of {cluster.user} on {job['NodeList']}: {job['State']}")
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"no virtual Slurm here: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
