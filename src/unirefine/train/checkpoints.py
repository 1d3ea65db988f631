"""The checkpoint directory: written aside, renamed when complete, pruned; and which one a run continues from.

`checkpoints/step-00001000/` holds what `unirefine.model.checkpoint` writes, plus `complete.json`, written last. A
directory without it, or under a temporary name, is what a killed run left and is never read.
"""

import shutil
from pathlib import Path
from typing import Any

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.provenance import fsync_directory, read_json, sha256_json, write_json

MARKER = "complete.json"

# Options that decide which model comes out (up to rounding), as dotted names. The others (layout, micro-batch,
# intervals, the number of steps) may change between two parts of a run.
IDENTITY = ("model", "sampling", "optimizer", "seed", "global_batch", "precision", "fp8", "init")


def identity(config: Train, manifest_sha256: str) -> dict[str, str]:
    """Hashes of what a checkpoint may only be continued with: one per option of IDENTITY, and the shards'."""
    values = config.model_dump(mode="json")
    return {name: sha256_json(values[name]) for name in IDENTITY} | {"shards": manifest_sha256}


def checkpoint_path(directory: Path, step: int) -> Path:
    """`<directory>/step-00001000`: zero-padded, so that names sort by step."""
    return directory / f"step-{step:08d}"


def complete(directory: Path) -> list[Path]:
    """All complete checkpoints in `directory`, oldest first."""
    return sorted(path.parent for path in directory.glob(f"step-*/{MARKER}"))


def newest(directory: Path, wanted: dict[str, str]) -> tuple[Path, dict[str, Any]] | None:
    """The newest complete checkpoint and its state, or None.

    Raises UserError when it belongs to another config or other shards (`wanted`: from `identity`).
    """
    found = complete(directory)
    if not found:
        return None
    state = read_json(found[-1] / MARKER)
    different = [name for name, value in wanted.items() if state["identity"].get(name) != value]
    if different:
        options = " and ".join("the shards" if name == "shards" else f"train.{name}" for name in different)
        raise UserError(
            f"this checkpoint was trained with other values of {options}",
            where=found[-1],
            fix="go back to them, or train into another --output, or delete the checkpoints to start over",
        )
    return found[-1], state


def begin(directory: Path, step: int) -> Path:
    """Make the temporary directory that checkpoint `step` is written into (process 0 only); returns it."""
    aside = aside_path(directory, step)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    return aside


def aside_path(directory: Path, step: int) -> Path:
    """Where checkpoint `step` is written before it is complete."""
    return directory / f".{checkpoint_path(directory, step).name}.tmp"


def commit(directory: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Mark the temporary directory complete, give it its name, and delete all but the `keep` newest (process 0 only)."""
    aside, path = aside_path(directory, step), checkpoint_path(directory, step)
    write_json(aside / MARKER, state)
    if path.exists():  # an earlier run got here too; its marker said incomplete, or we would have resumed after it
        shutil.rmtree(path)
    aside.rename(path)
    fsync_directory(directory)
    for old in complete(directory)[:-keep]:
        (old / MARKER).unlink()  # from here on it is no checkpoint, even if the deletion is interrupted
        shutil.rmtree(old)
    return path


def discard(directory: Path, step: int) -> None:
    """Delete what a failed save left (process 0 only)."""
    shutil.rmtree(aside_path(directory, step), ignore_errors=True)


def sweep(directory: Path) -> None:
    """Delete the leftovers of killed runs: temporary and incomplete checkpoints (process 0 only, under the lock)."""
    for path in [*directory.glob(".step-*.tmp"), *directory.glob("step-*")]:
        if not (path / MARKER).exists() or path.name.startswith("."):
            shutil.rmtree(path)
