"""What is done, stale, running or missing: Snakemake's own plan, by stage, with sizes and times from the files.

Nothing is guessed from dates: jobs and reasons are those of a dry run of the same Snakefile and config.
"""

import contextlib
import csv
import fcntl
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unirefine.config import load_config
from unirefine.core.levels import STAGES
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.code import source
from unirefine.files.stages import RESULTS
from unirefine.workflow import directories

MISSING = "output missing"
"""Reason of a job whose output is not there, of which nothing else changed."""
HELD = ".running"
"""File in a run's results that its workflow keeps locked."""
SNAKEFILE = Path(__file__).parents[3] / "Snakefile"


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
    """What is good to know and makes nothing stale."""
    seconds: float = 0.0
    """What the jobs took when they last ran, from their benchmark files."""
    after: set[str] = field(default_factory=set)
    """Stages that read what this one writes, and theirs."""

    @property
    def bytes(self) -> int:
        """Bytes of what is there, declared or not: train's checkpoints count. Cards lie beside shards and model."""
        return size(self.directory) if self.directory.name != "cards" else sum(size(path) for path in self.outputs)


def size(path: Path) -> int:
    """Bytes of a file or of everything in a directory."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def stage_of(rule: str) -> str:
    """The stage of a rule: `decontaminate_search` is of decontaminate."""
    return rule.partition("_")[0]


def inspect(config: Path | str, snakefile: Path = SNAKEFILE) -> list[Stage]:
    """The stages of the run that `config` describes, in the order of the workflow, from the working directory.

    Raises UserError when Snakemake cannot plan it.
    """
    dag, persistence = _plan(Path(config), snakefile)
    read = load_config(config)
    elsewhere = directories.find(read)
    running = any(is_held(path) for path in {RESULTS / read.run.name, *(path.parent for path in elsewhere.values())})
    stages: dict[str, Stage] = {}
    jobs = [job for job in dag.jobs if job.rule.name != "all"]
    for job in jobs:
        name = stage_of(job.rule.name)
        directory = elsewhere.get(name, RESULTS / read.run.name / name)
        stage = stages.setdefault(name, Stage(name=name, directory=directory))
        stage.jobs += 1
        stage.outputs += [path for path in map(Path, job.output) if path.exists()]
        stage.seconds += seconds(Path(job.benchmark)) if job.benchmark else 0.0
        stage.after |= {stage_of(follower.rule.name) for follower in dag.bfs(dag.depending, job)} - {"all", stage.name}
    for job in jobs:
        if dag.needrun(job):
            _judge(stages[stage_of(job.rule.name)], job, dag.reason(job), _started(job, persistence), running)
        elif any(not Path(path).exists() for path in set(job.output) - job.temp_output):
            _judge_unneeded(stages[stage_of(job.rule.name)])
    for stage in stages.values():
        if stage.state == "stale" and not stage.outputs:
            stage.state = "missing"
        stage.notes = [f"in {stage.directory}"] if stage.name in elsewhere else []
        stage.notes += made_by_other_code(stage.directory)
    return sorted(stages.values(), key=lambda stage: STAGES.index(stage.name))


def _plan(config: Path, snakefile: Path) -> tuple[Any, Any]:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    if not snakefile.exists():
        raise UserError("no Snakefile there", where=snakefile, fix="give --snakefile, from a checkout")
    told = io.StringIO()
    with contextlib.redirect_stderr(told), SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            ResourceSettings(cores=1), config_settings=ConfigSettings(configfiles=[config]), snakefile=snakefile
        )
        try:
            planned = workflow.dag(DAGSettings(force_incomplete=True))
            planned.execute_workflow(pseudo_executor="dryrun")
        except SystemExit:  # the config is wrong, and the Snakefile has said how in one line
            line = told.getvalue().strip().removeprefix("unirefine: error: ")
            raise UserError(line or "Snakemake cannot read it", where=None if line else config) from None
        except Exception as error:
            raise UserError(f"Snakemake cannot plan it: {error}", where=config) from None
        return workflow._workflow.dag, workflow._workflow.persistence


def _started(job: Any, persistence: Any) -> bool:
    """Whether the job was started and did not end. Snakemake's own question is only about files that exist already."""
    return bool(persistence._filter_incomplete_keys([persistence._get_key(path) for path in job.output]))


def is_held(results: Path) -> bool:
    """Whether a workflow runs on these results: the lock that `preflight.hold` takes is held, on whatever machine."""
    try:
        with (results / HELD).open("rb+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none has run, or the file system knows no locks
        return False
    return False


def made_by_other_code(directory: Path) -> list[str]:
    """A note where a stage's lineage names other code than this. Not all of that makes it stale (docs/reruns.md)."""
    files = [path for pattern in ("", "uniref*/", "final/") for path in directory.glob(pattern + lineage.FILE)]
    steps = [lineage.read(path)["steps"][-1] for path in files]
    others = {lineage.code_of(one) for one in steps if one["source"]["digest"] != source()["digest"]}
    return [f"made by other code ({code})" for code in sorted(others)]


def _judge(stage: Stage, job: Any, reason: Any, started: bool, running: bool) -> None:
    stage.due += 1
    if started:
        stage.state = "running" if running else "interrupted"
    elif stage.state == "done":
        stage.state = "stale"
    stage.why += [why for why in reasons(reason) if why not in stage.why]


def _judge_unneeded(stage: Stage) -> None:
    """Files are gone that no later stage asks for, because what was made of them is there."""
    stage.due += 1
    stage.state = "stale" if stage.state == "done" else stage.state
    why = f"gone, but nothing that is due reads it: `snakemake {stage.name}` makes it"
    stage.why += [why] if why not in stage.why else []


def reasons(reason: Any) -> list[str]:
    """Snakemake's reason for a job in few words."""
    from snakemake.io import is_flagged

    told = []
    if reason.forced:
        told.append("asked for")
    if reason.params_changed:
        told += changed_params(reason.params_changed.only_old, reason.params_changed.only_new)
    missing = [path for path in reason.missing_output if not is_flagged(path, "temp")]
    if missing and not told:
        told.append(MISSING)
    if changed := set(reason.updated_input) - set(reason.updated_input_run):
        told.append(f"changed input {', '.join(sorted(Path(path).name for path in changed)[:3])}")
    if reason.input_changed:
        told.append("another set of inputs")
    if reason.code_changed:
        told.append("rule changed")
    if reason.software_stack_changed:
        told.append("environment changed")
    if not told and reason.updated_input_run:
        told.append("what it reads is made again")
    return told


def changed_params(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """What differs between two sets of params: `option seed`, `code`, `MMseqs2`, else `command line`.

    Params are Snakemake's representations of strings; options are one JSON object, code and tools are `name:value`.
    """
    old, new = ({_text(one) for one in these} for these in (before, now))
    told = []
    for kind in ("code", "MMseqs2"):
        if any(text.startswith(f"{kind}:") for text in old | new):
            told.append(kind)
    was, now_is = ({key: value for text in these for key, value in _options(text).items()} for these in (old, new))
    options = [key for key in sorted(was.keys() | now_is.keys()) if was.get(key) != now_is.get(key)]
    if options:
        told.append(f"option {', '.join(options)}")
    return told or ["command line"]


def _text(param: str) -> str:
    return param[1:-1] if param[:1] in ("'", '"') else param


def _options(text: str) -> dict[str, str]:
    if not text.startswith("{"):
        return {}
    try:
        return {key: json.dumps(value) for key, value in json.loads(text).items()}
    except ValueError:
        return {}


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
