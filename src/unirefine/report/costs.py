"""What each stage took: time and memory from Snakemake's benchmark files, and the disk that its files take."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unirefine.core.levels import STAGES
from unirefine.files.stages import stage_path
from unirefine.files.written import stage_files
from unirefine.progress import duration, human

COLUMNS = ("stage", "jobs", "time of all jobs", "longest job", "CPU time", "most memory", "disk")


@dataclass(frozen=True)
class Cost:
    """Of one stage; None where nothing was measured."""

    jobs: int = 0
    seconds: float | None = None
    longest: float | None = None
    cpu: float | None = None
    memory: float | None = None
    """MiB, the most that one job held."""
    disk: int = 0
    """Bytes."""


def read_costs(results: Path) -> dict[str, Cost]:
    """By stage. The benchmark files are in benchmarks/<run>/<stage>, beside results/<run>, where they are kept."""
    found = {}
    for stage in STAGES:
        directory = stage_path(results, stage)
        run = directory.resolve().parent  # of a stage that is shared, the run that made it
        benchmarks = run.parent.parent / "benchmarks" / run.name / stage
        rows = [row for path in sorted(benchmarks.rglob("*.tsv")) for row in _rows(path)]
        disk = sum(path.stat().st_size for path in stage_files(directory, stage)) if directory.is_dir() else 0
        found[stage] = Cost(
            jobs=len(rows),
            seconds=_joined(rows, "s", sum),
            longest=_joined(rows, "s", max),
            cpu=_joined(rows, "cpu_time", sum),
            memory=_joined(rows, "max_rss", max),
            disk=disk,
        )
    return found


def _rows(path: Path) -> list[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))
    except (OSError, ValueError, csv.Error):
        return []


def _joined(rows: list[Mapping[str, str]], column: str, how) -> float | None:
    """A column of all jobs as one number; Snakemake writes NA or - where it measured nothing."""
    values = []
    for row in rows:
        try:
            values.append(float(row[column]))
        except (KeyError, TypeError, ValueError):
            continue
    return how(values) if values else None


def cost_rows(costs: Mapping[str, Cost]) -> list[list[str]]:
    """Rows of COLUMNS."""

    def time(value: float | None) -> str:
        return "-" if value is None else duration(value)

    return [
        [
            stage, str(cost.jobs or "-"), time(cost.seconds), time(cost.longest), time(cost.cpu),
            "-" if cost.memory is None else human(cost.memory * 2**20, "B"),
            human(cost.disk, "B") if cost.disk else "-",
        ]
        for stage, cost in costs.items()
    ]  # fmt: skip
