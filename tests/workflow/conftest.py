"""One small run of the whole workflow, shared by the tests of this folder."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import HERE as FORKS
from forked import Forked, completed
from minisite.site import build_demo

from unirefine.files import locks

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # lets test modules import their neighbours (`jobs`, `plan`)
sys.path.append(str(ROOT / "tests"))  # and `webserver`
import plan  # noqa: E402

SMALL = Path(__file__).parent / "small.yaml"


@dataclass(frozen=True)
class Workflow:
    """Runs Snakemake on this checkout, in another directory."""

    directory: Path
    source: Path | None = None
    """Directory of another source of unirefine, to be imported instead of the installed one."""
    checkout: Path = ROOT
    """Directory of the Snakefile."""
    options: tuple[str, ...] = ()
    """Of Snakemake, for every call."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables, for every call."""
    new: bool = False
    """Start Snakemake and `unirefine` as new processes. Else they are forks of the tests' server."""

    @property
    def forks(self) -> bool:
        """Whether processes are forks, which have the installed source."""
        return not self.new and self.source is None

    def command(self, *arguments: str, config: Path | None = None) -> list[str]:
        """Snakemake's command line."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(self.checkout / "Snakefile")]
        command += ["--directory", str(self.directory), "--cores", "2", "--rerun-incomplete", *self.options]
        # the last one, because it takes every word after it for another config file
        return [*command, "--configfile", str(config or self.directory / "small.yaml")]

    @property
    def environment(self) -> dict[str, str]:
        """That of a shell in which the project's environment is active."""
        programs = [str(FORKS)] if self.forks else []
        path = os.pathsep.join([*programs, str(Path(sys.executable).parent), os.environ["PATH"]])
        changed = {"PATH": path, **self.variables}
        return os.environ | changed | ({"PYTHONPATH": str(self.source)} if self.source else {})

    def snakemake(self, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run Snakemake. The result has its exit code, and all of its output in `stdout`."""
        return completed(self.start(*arguments, config=config), timeout=900)

    def start(self, *arguments: str, config: Path | None = None) -> subprocess.Popen[str] | Forked:
        """Start Snakemake in a session of its own. All of its output is in that of `communicate`."""
        command = self.command(*arguments, config=config)
        if self.forks:
            return Forked("snakemake", command[3:], environment=self.environment, merged=True)
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def unirefine(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a `unirefine` command in the directory."""
        if self.forks:
            process = Forked("unirefine", arguments, directory=self.directory, environment=self.environment)
            return completed(process, timeout=900)
        command = [sys.executable, "-m", "unirefine.cli.main", *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False, timeout=900
        )

    def planned(self, *arguments: str, config: Path | None = None) -> set[str]:
        """Names of the rules that a dry run would execute, planned in the test process."""
        assert not self.options, "a plan with a profile takes a real start: `dry_run`"
        with plan.environment(self.directory, self.environment, self.source):
            dag = plan.plan(config or self.directory / "small.yaml", *arguments, checkout=self.checkout)
            return {job.rule.name for job in dag.jobs if dag.needrun(job)}

    def dry_run(self, *arguments: str, config: Path | None = None) -> set[str]:
        """As `planned`, from the output of `snakemake --dry-run`."""
        done = self.snakemake("--dry-run", *arguments, config=config)
        assert done.returncode == 0, done.stdout
        return self.rules_of(done.stdout)

    @staticmethod
    def rules_of(output: str) -> set[str]:
        """Names of the rules in an output of Snakemake's: those that it executes, or would execute."""
        if "Nothing to be done" in output:
            return set()
        table = output.split("Job stats:")[1].split("total")[0]
        return set(re.findall(r"^(\w+) +\d+$", table, re.MULTILINE))

    def config_with(self, name: str, changes: dict[str, dict[str, object]]) -> Path:
        """The small config with some options changed, as a file."""
        values = yaml.safe_load((self.directory / "small.yaml").read_text())
        for block, options in changes.items():
            values.setdefault(block, {}).update(options)
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def status(self, config: str = "small.yaml", *arguments: object) -> dict[str, str]:
        """The lines of `unirefine status`, by stage."""
        done = self.unirefine("status", "--config", config, *arguments)
        assert done.returncode == 0, done.stderr
        return {line.split()[0]: line for line in done.stdout.splitlines()}

    def edited(self, directory: Path, *places: str) -> "Workflow":
        """The same with a copy of the source, in which some packages or modules have one more statement."""
        shutil.copytree(ROOT / "src", directory / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for place in places:
            module = directory / "src/unirefine" / place
            module = module / "__init__.py" if module.is_dir() else module
            module.write_text(module.read_text() + "EDITED = True\n")
        return replace(self, source=directory / "src")


def prepare(directory: Path) -> Workflow:
    """A working directory with the small config and a miniature UniProt site."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "small.yaml").write_text(SMALL.read_text())
    (directory / "purge.txt").write_text((ROOT / "resources/demo/purge.txt").read_text())
    build_demo(directory / "site", limit=240)
    return Workflow(directory)


@pytest.fixture(scope="session")
def workflow(tmp_path_factory):
    """A prepared directory; nothing has run in it."""
    return prepare(tmp_path_factory.mktemp("workflow"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A directory in which the whole workflow has run once. Tests that change it take `copy`.

    Its commands are new processes, but for train, of which test_faults.py starts new ones on this run.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-of-all"
    with locks.exclusive(shared.with_suffix(".lock"), wait=True):  # one worker runs it, the others wait
        if not (shared / "ended").exists():
            forked = prepare(shared)
            new = replace(forked, new=True)
            # Snakemake is a fork, its commands are not
            started = replace(forked, variables={"PATH": new.environment["PATH"]})
            for run, *targets in ((new, "shard", "decontaminate"), (forked, "train"), (started,)):
                done = run.snakemake(*targets)
                assert done.returncode == 0, done.stdout
            (shared / "ended").touch()
    shutil.copytree(shared, base / "finished", symlinks=True)
    return Workflow(base / "finished")


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, which the test may change."""
    shutil.copytree(finished.directory, tmp_path / "copy", symlinks=True)
    return replace(finished, directory=tmp_path / "copy")


@pytest.fixture
def jobs_of(monkeypatch):
    """(directory, config, words of Snakemake's command line) -> the jobs of its own dry run, every rule among them."""

    def jobs(directory: Path, config: Path, *words: str) -> list[Any]:
        monkeypatch.chdir(directory)
        return list(plan.plan(config, *words).jobs)

    return jobs
