"""The workflow on the virtual cluster, as tests start, watch and interrupt it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from virtual import VirtualCluster

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Pipeline:
    """Runs the workflow on the virtual cluster, in one directory."""

    directory: Path
    cluster: VirtualCluster

    def command(self, *arguments: str, config: str = "slurm.yaml", profiles: tuple[str, ...] = ("slurm",)) -> list[str]:
        """Snakemake's command line with profiles/slurm as it is, and what differs on two virtual nodes."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", str(self.directory)]
        command += [
            "--profile",
            str(ROOT / "profiles/slurm"),
            "--workflow-profile",
            str(HERE / "virtual"),
        ]
        return [*command, "--configfile", str(self.directory / config)]

    @property
    def environment(self) -> dict[str, str]:
        """The cluster's, with this Python's commands first, and an apptainer."""
        environment = os.environ | self.cluster.environment
        return environment | {"PATH": f"{Path(sys.executable).parent}:{self.directory}/programs:{environment['PATH']}"}

    def install_apptainer(self) -> None:
        """Install a stand-in for apptainer, which runs the command with only this Python on PATH.

        So the command finds no Slurm, as in an image. It appends the node's name to the file `containers`.
        """
        program = self.directory / "programs/apptainer"
        program.parent.mkdir()
        program.write_text(
            f"""#!/bin/bash
[[ $1 == --version ]] && exec echo apptainer version 1.4.0
while [[ $1 != *.sif ]]; do shift; done
echo "$SLURMD_NODENAME" >> {self.directory}/containers
unset SLURM_CONF
PATH={Path(sys.executable).parent} exec "${{@:2}}"
"""
        )
        program.chmod(0o755)

    def start(self, *arguments: str, config: str = "slurm.yaml") -> subprocess.Popen:
        """Start Snakemake in the background, with its output in snakemake.log."""
        with (self.directory / "snakemake.log").open("w") as log:
            return subprocess.Popen(
                self.command(*arguments, config=config), env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def finish(self, running: subprocess.Popen, timeout: float = 1500) -> str:
        """Wait until it has succeeded. Returns its output."""
        try:
            code = running.wait(timeout)
        finally:
            running.kill()
        output = (self.directory / "snakemake.log").read_text()
        assert code == 0, output[-6000:]
        return output

    def run(self, *arguments: str, config: str = "slurm.yaml") -> str:
        """Run Snakemake until it has succeeded. Returns its output."""
        return self.finish(self.start(*arguments, config=config))

    def jobs(self, rule: str) -> list[dict[str, str]]:
        """Slurm's records of the jobs whose rule or group begins with `rule`, oldest first."""
        return [job for job in self.recorded() if job["rule"].startswith(rule)]

    def recorded(self) -> list[dict[str, str]]:
        """Slurm's records of all of Snakemake's jobs. `rule` is added: it is in the path of the job's log."""
        logs = self.directory / ".snakemake/slurm_logs"
        rules = {log.stem: log.relative_to(logs).parts[0].removeprefix("rule_") for log in logs.rglob("*.log")}
        return [job | {"rule": rules[job["JobIDRaw"]]} for job in self.cluster.jobs() if job["JobIDRaw"] in rules]

    def log(self, name: str) -> str:
        """The text of a stage's log, empty when there is none."""
        path = self.directory / "logs" / name
        return path.read_text() if path.exists() else ""

    def training(self, name: str, **options: object) -> Path:
        """Prepare another run with the first one's results before training. Returns its `train` directory."""
        values = yaml.safe_load((self.directory / "slurm.yaml").read_text())
        values["run"]["name"] = name
        values["train"].update(options)
        (self.directory / f"{name}.yaml").write_text(yaml.safe_dump(values))
        results = self.directory / "results"
        shutil.copytree(results / "slurm", results / name, ignore=shutil.ignore_patterns("train", "evaluate", "embed"))
        return results / name / "train"


def wait_for(done, what: str, running: subprocess.Popen, seconds: float = 900) -> None:
    """Wait until `done()`. Fails when Snakemake ends first, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        assert running.poll() is None, f"Snakemake ended before {what}"
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def interrupt(pipeline: Pipeline, running: subprocess.Popen) -> None:
    """Press Ctrl-C: Snakemake ends with status 1, and its jobs leave the queue."""
    running.send_signal(signal.SIGINT)
    try:
        assert running.wait(300) == 1
    finally:
        running.kill()
    deadline = time.monotonic() + 180
    while pipeline.cluster.queue():
        assert time.monotonic() < deadline, f"still in the queue after Ctrl-C: {pipeline.cluster.queue()}"
        time.sleep(0.5)
