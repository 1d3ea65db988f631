"""What is done, stale, running or missing: Snakemake's own plan, by stage, with sizes and times from the files.

Jobs and reasons are those of a dry run of the same Snakefile and config; no dates are compared here.
"""

import csv
import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unirefine.config import load_config
from unirefine.core.levels import STAGES
from unirefine.files import lineage
from unirefine.files.code import stage_digest
from unirefine.files.stages import RESULTS
from unirefine.workflow.directories import shared_directories
from unirefine.workflow.snakemake import SNAKEFILE, plan

RUNNING = ".running"
"""File in a run's results that its workflow keeps locked."""


@dataclass(kw_only=True)
class Stage:
    """A stage of a run, as it is now."""

    name: str
    jobs: int = 0
    state: str = "done"
    """`done`, `stale`, `missing`, `running` or `interrupted`."""
    why: list[str] = field(default_factory=list)
    due: int = 0
    """Jobs that a start would run, or whose files are gone."""
    outputs: list[Path] = field(default_factory=list)
    """Declared outputs that exist."""
    directory: Path = Path()
    """Where it writes."""
    notes: list[str] = field(default_factory=list)
    """Remarks that make nothing stale."""
    seconds: float = 0.0
    """What the jobs took when they last ran, from their benchmark files."""
    after: set[str] = field(default_factory=set)
    """All stages that need the results of this one."""

    @property
    def bytes(self) -> int:
        """Bytes of the stage's directory, undeclared checkpoints included."""
        return size(self.directory)


def size(path: Path) -> int:
    """Bytes of a file or of everything in a directory."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def stage_of(rule: str) -> str:
    """The stage of a rule: `decontaminate_search` is of decontaminate."""
    return rule.partition("_")[0]


def inspect(config: Path | str, snakefile: Path = SNAKEFILE, words: Sequence[str] = ()) -> list[Stage]:
    """The stages of the run that `config` describes, in the order of the workflow, from the working directory.

    words: targets and options of Snakemake, as in `plan`; by default everything is the target. Raises UserError
    when Snakemake cannot plan it.
    """
    read = load_config(config)  # first: of a mistake in it Snakemake says less
    planned = plan(Path(config), snakefile, words)
    shared = shared_directories(read)
    running = any(is_running(path) for path in {RESULTS / read.run.name, *(path.parent for path in shared.values())})
    stages: dict[str, Stage] = {}
    for job in planned.jobs():
        name = stage_of(job.rule.name)
        stage = stages.setdefault(name, Stage(name=name, directory=shared.get(name, RESULTS / read.run.name / name)))
        stage.jobs += 1
        stage.outputs += [path for path in map(Path, job.output) if path.exists()]
        stage.seconds += seconds(Path(job.benchmark)) if job.benchmark else 0.0
        stage.after |= {stage_of(one.rule.name) for one in planned.after(job)} - {"all", name}
        if planned.is_due(job):
            _add_due(stage, planned.reasons(job), planned.was_started(job), running)
        elif any(not Path(path).exists() for path in planned.kept_outputs(job)):
            _add_gone(stage)
    for stage in stages.values():
        if stage.state == "stale" and not stage.outputs:
            stage.state = "missing"
        stage.notes = [f"in {stage.directory}"] if stage.name in shared else []
        stage.notes += [other_code_note(stage.name, code) for code in other_code(stage.name, stage.directory)]
    return sorted(stages.values(), key=lambda stage: STAGES.index(stage.name) if stage.name in STAGES else len(STAGES))


def _add_due(stage: Stage, why: list[str], started: bool, running: bool) -> None:
    stage.due += 1
    if started:
        stage.state = "running" if running else "interrupted"
    elif stage.state == "done":
        stage.state = "stale"
    stage.why += [one for one in why if one not in stage.why]


def _add_gone(stage: Stage) -> None:
    """Files are gone that no later stage asks for, because what was made from them is there."""
    stage.due += 1
    stage.state = "stale" if stage.state == "done" else stage.state
    why = f"gone, but nothing that is due reads it: `snakemake {stage.name}` makes it"
    stage.why += [why] if why not in stage.why else []


def is_running(results: Path) -> bool:
    """Whether a workflow runs on these results: `preflight.mark_running` holds the lock, on whatever machine."""
    try:
        with (results / RUNNING).open("rb+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none has run, or the file system has no locks
        return False
    return False


def other_code(stage: str, directory: Path) -> list[str]:
    """The code that made the results of a stage, by its lineage, where the stage's own code differs from today's."""
    files = [path for pattern in ("", "uniref*/", "final/") for path in directory.glob(pattern + lineage.FILE)]
    return sorted({code for path in files if (code := made_by_other_code(stage, lineage.read(path)))})


def made_by_other_code(stage: str, made: Mapping[str, Any]) -> str | None:
    """`unirefine 0.2.0 at 4eb6dfd2c1`, where the last step of a lineage was made by other code of the stage."""
    last = made["steps"][-1]
    return None if last.get("code") == stage_digest(stage) else lineage.code_of(last)


def other_code_note(stage: str, code: str) -> str:
    """The note about a stage that other code made. Such a stage is stale, with the exception of training."""
    kept = "; no edit of code trains again, `snakemake -R train` does" if stage == "train" else ""
    return f"made by other code ({code}){kept}"


def seconds(benchmark: Path) -> float:
    """Wall-clock seconds in a benchmark file of Snakemake; 0 without one."""
    if not benchmark.exists():
        return 0.0
    with benchmark.open(encoding="utf-8", newline="") as lines:
        return sum(float(row["s"]) for row in csv.DictReader(lines, delimiter="\t"))


def rebuild(stages: Sequence[Stage], name: str) -> list[Stage]:
    """The stage and those after it: what a removal makes run again."""
    (stage,) = (stage for stage in stages if stage.name == name)
    return [each for each in stages if each is stage or each.name in stage.after]
