"""Where every sequence went: the stages' counts, joined and checked from release to shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.core.levels import LEVELS
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.files.stages import stage_path

STAGES = ("records", "curate", "cluster", "decontaminate", "shard")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stage's counts at one level."""

    stage: str
    level: str
    entered: int
    kept: int
    removed: Mapping[str, int]
    """Sequences (uniref90) or clusters (uniref50) removed, by reason."""


def read_counts(results: Path, stage: str) -> dict[str, Any]:
    """A stage's counts; the records stage writes one file a level, joined here."""
    if stage != "records":
        return read_json(stage_path(results, stage) / "counts.json")
    files = [stage_path(results, stage) / level / "counts.json" for level in LEVELS]
    found = [read_json(path) for path in files if path.exists()]
    if not found:
        return read_json(files[-1])  # its error says which file is missing
    levels = {name: counts for one in found for name, counts in one["levels"].items()}
    return {"stage": stage, "levels": levels}


def read_ledger(results: Path) -> list[Entry]:
    """All stages' counts in the order of the workflow.

    Raises UserError when a stage does not take in exactly what the one before it kept: then some stage's files are
    older than the others'.
    """
    entries: list[Entry] = []
    kept: dict[str, tuple[str, int]] = {}
    for stage in STAGES:
        for level, counts in read_counts(results, stage)["levels"].items():
            entry = Entry(
                stage=stage, level=level, entered=counts["in"], kept=counts["kept"], removed=dict(counts["removed"])
            )
            if entry.entered != entry.kept + sum(entry.removed.values()):
                raise UserError(
                    f"{level} counts of {stage} do not add up", where=stage_path(results, stage) / "counts.json"
                )
            before, count = kept.get(level, (stage, entry.entered))
            if count != entry.entered:
                raise UserError(
                    f"{stage} took in {entry.entered} of {level}, but {before} kept {count}",
                    where=results,
                    fix=f"run `snakemake -R {stage}` so that they belong to the same run",
                )
            kept[level] = (stage, entry.kept)
            entries.append(entry)
    return entries


def is_held_out(stage: str, reason: str) -> bool:
    """Whether a count of the shard stage is of members of held-out clusters: not removed, but not trained on either."""
    return stage == "shard" and reason.endswith("_cluster_member")


def removals(entries: list[Entry], level: str) -> list[tuple[str, str, int]]:
    """(stage, reason, count) of everything removed at a level, in the order of the workflow."""
    return [
        (entry.stage, reason, count)
        for entry in entries
        if entry.level == level
        for reason, count in sorted(entry.removed.items(), key=lambda item: -item[1])
    ]


def first_and_last(entries: list[Entry], level: str) -> tuple[int, int]:
    """(in, kept) of a level over the whole workflow. Raises KeyError when the run has no such level."""
    chain = [entry for entry in entries if entry.level == level]
    if not chain:
        raise KeyError(level)
    return chain[0].entered, chain[-1].kept
