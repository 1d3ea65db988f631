"""The runs below `results/`: where each one stands, from the files alone."""

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unirefine.core.levels import STAGES
from unirefine.errors import UserError, no_directory
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.stages import RESULTS, stage_path
from unirefine.workflow.status import is_running

_LAST = {"cards": "model/README.md", "evaluate": "perplexity.json", "report": "report.html", "release": "release.json"}
"""The file of a stage that is written last, where that is not its lineage."""
_NESTED = {"train": "final/lineage.json", "records": "uniref90/lineage.json", "embed": "sequences.parquet"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A directory of results."""

    name: str
    state: str
    """`running`, `finished` (it has a report) or `stopped`."""
    source: str
    """`release 2024_03`, `fasta`, ...; `unknown` before the release stage has ended."""
    stage: str
    """The last stage of the workflow that has ended, `none` before the first."""
    changed: datetime.datetime
    """When that stage ended."""
    perplexity: float | None
    """Masked perplexity of the hidden residues, of our model; of all chosen residues where that is missing."""


def find(root: Path = RESULTS) -> list[Run]:
    """The runs below a directory, the newest first. Raises UserError where that directory is not there."""
    if not root.is_dir():
        raise UserError(no_directory(root), where=root, fix="call it where results/ is, or give --results")
    runs = [_run(path) for path in root.iterdir() if path.is_dir() and is_run(path)]
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def is_run(results: Path) -> bool:
    """Whether a directory holds results of a run: one of its stages has written there."""
    return any(stage_path(results, stage).is_dir() for stage in STAGES)


def require_run(results: Path) -> None:
    """Raises UserError unless `results` is the directory of a run, and names those that are beside it."""
    if results.is_dir() and is_run(results):
        return
    beside = results.parent if results.parent.is_dir() else results
    others = sorted(str(path) for path in beside.iterdir() if path.is_dir() and is_run(path)) if beside.is_dir() else []
    raise UserError(
        "no results of a run are there" if results.is_dir() else no_directory(results),
        where=results,
        fix=f"runs are {', '.join(others[:5])}" if others else "give the directory of a run, as in results/demo",
    )


def _run(results: Path) -> Run:
    ended = list(_ended(results))
    stage, date = ended[-1] if ended else ("none", results.stat().st_mtime)
    state = "running" if is_running(results) else "finished" if stage == "report" else "stopped"
    return Run(
        name=results.name,
        state=state,
        source=_source(results),
        stage=stage,
        changed=datetime.datetime.fromtimestamp(date),
        perplexity=_perplexity(results / "evaluate" / _LAST["evaluate"]),
    )


def _ended(results: Path) -> Iterator[tuple[str, float]]:
    for stage in STAGES:
        file = stage_path(results, stage) / (_LAST.get(stage) or _NESTED.get(stage) or lineage.FILE)
        if file.exists():
            yield stage, file.stat().st_mtime


def _source(results: Path) -> str:
    file = stage_path(results, "release") / _LAST["release"]
    if not file.exists():
        return "unknown"
    release = read_json(file)
    name = release.get("release")
    return f"release {name}" if name and release["source"] in ("current", "archive") else str(release["source"])


def _perplexity(file: Path) -> float | None:
    if not file.exists():
        return None
    row = read_json(file)["table"][0]
    return row["hidden"]["perplexity"] or row["perplexity"]


def as_json(runs: list[Run]) -> str:
    """A list of objects, for other programs."""
    return json.dumps([run.__dict__ | {"changed": run.changed.isoformat(timespec="seconds")} for run in runs], indent=1)
