"""`counts.json`, which every stage writes: how many sequences came in, were kept, and were removed by reason."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.files.atomic import write_json


def level_counts(entered: int, kept: int, removed: Mapping[str, int]) -> dict[str, Any]:
    """Counts of one level (`uniref50`, `uniref90`, ...) through a stage.

    Raises AssertionError unless `entered == kept + sum(removed)`: a stage that loses a sequence has a bug.
    """
    removed = {reason: int(count) for reason, count in sorted(removed.items()) if count}
    assert entered == kept + sum(removed.values()), (entered, kept, removed)
    return {"in": int(entered), "kept": int(kept), "removed": removed}


def write_counts(path: Path | str, stage: str, levels: Mapping[str, Mapping[str, Any]], **facts: Any) -> None:
    """Write a stage's `counts.json`: `{stage, levels: {level: {in, kept, removed: {reason: n}}}, **facts}`."""
    write_json(path, {"stage": stage, "levels": {name: dict(level) for name, level in levels.items()}, **facts})
