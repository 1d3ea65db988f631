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
    """Runs the workflow on the virtual cluster, in a directory of its own."""

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
        """The cluster's, with this Python's commands first."""
        environment = os.environ | self.cluster.environment
        return environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}

    def start(self, *arguments: str, config: str = "slurm.yaml") -> subprocess.Popen:
        """Snakemake in the background; what it prints goes to snakemake.log."""
        with (self.directory / "snakemake.log").open("w") as log:
            return subprocess.Popen(
                self.command(*arguments, config=config), env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def finish(self, running: subprocess.Popen, timeout: float = 1500) -> str:
        """Wait for it; what it printed. Fails unless it succeeds."""
        try:
            code = running.wait(timeout)
        finally:
            running.kill()
        told = (self.directory / "snakemake.log").read_text()
        assert code == 0, told[-6000:]
        return told

    def run(self, *arguments: str, config: str = "slurm.yaml") -> str:
        """Snakemake to its end."""
        return self.finish(self.start(*arguments, config=config))

    def training(self, name: str, **options: object) -> Path:
        """A run of its own that takes everything before training from the first one; its `train` directory."""
        values = yaml.safe_load((self.directory / "slurm.yaml").read_text())
        values["run"]["name"] = name
        values["train"].update(options)
        (self.directory / f"{name}.yaml").write_text(yaml.safe_dump(values))
        results = self.directory / "results"
        shutil.copytree(results / "slurm", results / name, ignore=shutil.ignore_patterns("train", "evaluate", "embed"))
        return results / name / "train"


def wait_for(done, what: str, running: subprocess.Popen, seconds: float = 600) -> None:
    """Until `done()`; fails when Snakemake ends before, or when it takes longer."""
    deadline = time.monotonic() + seconds
    while not done():
        assert running.poll() is None, f"Snakemake ended before {what}"
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def interrupt(running: subprocess.Popen) -> int:
    """Ctrl-C, and the exit status that follows."""
    running.send_signal(signal.SIGINT)
    return running.wait(300)
