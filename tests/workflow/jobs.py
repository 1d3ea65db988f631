"""Jobs of the workflow, run as Snakemake runs them but without it, and what is done to them."""

import contextlib
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from forked import Forked, start_server
from plan import environment, plan

from unirefine.workflow.status import seconds, size

CLOCKED = {
    "date", "seconds", "data_wait", "tokens_per_second", "padded_tokens_per_second", "memory_bytes", "url", "asked_url",
    "checksum", "command", "finished",
}  # fmt: skip
"""Keys in JSON whose values differ between runs on the same data."""
# torch's checkpoints, in which the order of tensors varies, and texts with times in them
UNCOMPARED = re.compile(r"\.distcp$|\.metadata$|common\.pt$|/report\.html$|README\.md$|card\.md$|\.svg$")
IGNORED = re.compile(
    r"/events\.out\.tfevents|/\.(search-\d+\.)?lock$|/\.running$|/\.mounted$|/filler$|/\.snakemake_timestamp$"
)
"""Files that are left out: one for each start of a training, locks, and files of Snakemake or of a test."""


@dataclass(frozen=True)
class Job:
    """A rule's command and what it declares, relative to the directory it runs in."""

    rule: str
    command: str
    outputs: tuple[Path, ...]
    threads: int
    took: float
    """Seconds of its last run by Snakemake, the start of the command included."""

    @property
    def stage(self) -> Path:
        """`results/<run>/<stage>`, in which it writes."""
        return Path(*self.outputs[0].parts[:3])

    def forget(self, directory: Path) -> None:
        """Delete the outputs, as Snakemake does before it runs a job. Undeclared files stay."""
        for output in self.outputs:
            path = directory / output
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    @property
    def threads_variables(self) -> dict[str, str]:
        """Environment variables that Snakemake sets. Floating-point results depend on the number of threads."""
        return {f"{library}_NUM_THREADS": str(self.threads) for library in ("OMP", "OPENBLAS", "MKL")}

    def start(self, directory: Path, environment: dict[str, str], failing: tuple[str, int] | None = None) -> Forked:
        """Start the command without its log, in a new process group. failing: see Forked."""
        program, *arguments = shlex.split(self.command.split(" 2>&1 | tee ")[0])
        return Forked(
            program, arguments, directory=directory, environment=environment | self.threads_variables, merged=True,
            failing=failing,
        )  # fmt: skip

    @property
    def script(self) -> str:
        """The command for bash, as Snakemake runs it."""
        threads = " ".join(f"{name}={value}" for name, value in self.threads_variables.items())
        return f"set -euo pipefail; export {threads}; {self.command}"

    def run(self, directory: Path, environment: dict[str, str]) -> None:
        """Run the command until it has succeeded."""
        process = self.start(directory, environment)
        output = process.communicate(timeout=600)[0]
        assert process.returncode == 0, output

    def kill_at_random(self, directory: Path, environment: dict[str, str], chance: random.Random) -> None:
        """Start the command and kill it at a random moment between its first write and its end."""
        work = None
        for _ in range(20):
            began = time.monotonic()
            process = self.start(directory, environment)
            wrote = first_write(process, directory / self.stage)
            if work is None:  # seconds from the first write to the end
                work = max(self.took - (wrote - began), 0.1)
            try:
                process.wait(chance.uniform(0, work))
            except subprocess.TimeoutExpired:
                kill_9(process)
            output = process.communicate()[0]
            if process.returncode == -signal.SIGKILL:
                return
            assert process.returncode == 0, output
            work = time.monotonic() - wrote  # it was faster this time: draw again
            self.forget(directory)
        raise AssertionError(f"{self.rule} always ended before it could be killed")


def jobs_of(workflow: Any) -> dict[str, Job]:
    """The jobs of a finished run by rule; of a rule with several jobs the one that writes most."""
    found: dict[str, Job] = {}
    with environment(workflow.directory, workflow.environment, None):
        for job in plan(workflow.directory / "small.yaml", "--forceall").jobs:
            if job.shellcmd is None:
                continue
            outputs = tuple(map(Path, job.output))
            if job.rule.name not in found or bytes_of(outputs) > bytes_of(found[job.rule.name].outputs):
                took = seconds(Path(job.benchmark))
                found[job.rule.name] = Job(job.rule.name, job.shellcmd, outputs, job.threads, took)
    return found


def bytes_of(paths: Iterable[Path]) -> int:
    """Bytes of files and directories, of those that exist."""
    return sum(size(path) for path in paths)


def first_write(process: Forked | subprocess.Popen[str], directory: Path) -> float:
    """Wait until a file in `directory` changes or the process ends. Returns the time."""
    before = _state(directory)
    while process.poll() is None and _state(directory) == before:
        time.sleep(0.005)
    return time.monotonic()


def _state(directory: Path) -> dict[Path, tuple[int, int]]:
    found = {}
    for path in directory.rglob("*"):
        try:
            about = path.lstat()
        except FileNotFoundError:
            continue
        found[path] = (about.st_mtime_ns, about.st_size)
    return found


def kill_9(process: Forked | subprocess.Popen[str]) -> None:
    """Kill the process group and its descendants in other groups, as Slurm or a crash of the node does.

    A process that ends by itself meanwhile keeps its own return code.
    """
    everything: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        everything = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
    for child in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # it died with the group
            child.send_signal(signal.SIGKILL)
    psutil.wait_procs(everything, timeout=30)


def snapshot(directory: Path) -> dict[str, str]:
    """SHA-256 of the content of every file below a directory, JSON without times; `directory` for directories."""
    return {
        str(path.relative_to(directory)): _digest(path)
        for path in sorted(directory.rglob("*"))
        if not IGNORED.search(str(path))
    }


def _digest(path: Path) -> str:
    if path.is_dir():
        return "directory"
    if UNCOMPARED.search(str(path)):
        return "not compared"
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        lines = content.splitlines() if path.suffix == ".jsonl" else [content]
        content = json.dumps([_timeless(json.loads(line)) for line in lines]).encode()
    return hashlib.sha256(content).hexdigest()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        # hashes of files that are not compared, or that are compared without their times
        if str(value.get("name", "")).endswith((".distcp", ".metadata", "common.pt", ".json", ".jsonl")):
            return value["name"]
        return {key: _timeless(each) for key, each in value.items() if key not in CLOCKED}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def error_lines(output: str) -> list[str]:
    """The distinct error lines of unirefine in an output. Fails when there is none, or a traceback."""
    lines = set(re.findall(r"^(?:[\d-]{10} [\d:]{8}  )?(unirefine.*error:.*)", output, re.MULTILINE))  # logs have times
    assert lines, output
    assert "Traceback" not in output, output
    return sorted(lines)


def with_mounts(workflow, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a new mount namespace, in the workflow's directory. Its mounts end with it."""
    start_server()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    return subprocess.run(
        [*unshare, "bash", "-c", script], cwd=workflow.directory, env=workflow.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
    )  # fmt: skip
