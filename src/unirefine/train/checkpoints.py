"""The directory of checkpoints: which one a run continues from, and which ones are deleted.

`unirefine.model.checkpoint` writes `checkpoints/step-00001000/` under a temporary name and renames it when it is
complete. A directory without `complete.json` was left by a killed run and is never read.
"""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.files.hashes import sha256_json

MARKER = "complete.json"
NAME = re.compile(r"step-\d{8,}")

# Options of `train` that decide the trained model, up to rounding. The others (layout, micro-batch, intervals, steps)
# may change when a run is continued.
IDENTITY = ("model", "sampling", "optimizer", "seed", "global_batch", "precision", "fp8", "init")


def identity(config: Train, manifest_sha256: str) -> dict[str, str]:
    """What must be the same when a checkpoint is continued: the hash of each option of IDENTITY and of the shards."""
    values = config.model_dump(mode="json")
    values["global_batch"] = config.global_batch or config.step_size
    if config.fp8_skip_layers:
        values["fp8"] = [config.fp8, config.fp8_skip_layers]
    return {name: sha256_json(values[name]) for name in IDENTITY} | {"shards": manifest_sha256}


def checkpoint_path(directory: Path, step: int) -> Path:
    """`<directory>/step-00001000`: zero-padded, so that names sort by step."""
    return directory / f"step-{step:08d}"


def complete(directory: Path) -> list[Path]:
    """All complete checkpoints in `directory`, oldest first. A copy under another name is none of the run's."""
    found = (path.parent for path in directory.glob(f"step-*/{MARKER}"))
    return sorted((path for path in found if NAME.fullmatch(path.name)), key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def check_identity(path: Path, state: dict[str, Any], wanted: dict[str, str]) -> None:
    """Raise UserError when a checkpoint, or `final/`, belongs to another config or to other shards.

    state: the `extra` of its complete.json, or its train.json. wanted: from `identity`.
    """
    if not isinstance(state.get("identity"), dict):
        raise UserError("not a checkpoint of a training", where=path, fix="to start from it, set train.init to it")
    different = [name for name, value in wanted.items() if state["identity"].get(name) != value]
    if different:
        options = " and ".join("the shards" if name == "shards" else f"train.{name}" for name in different)
        raise UserError(
            f"this was trained with other values of {options}",
            where=path,
            fix="go back to them, or train into another --output, or delete checkpoints/ and final/ to start over",
        )


def check_steps(path: Path, step: int, steps: int) -> None:
    """Raise UserError when a run has gone further than it is asked to go; it says how to get a model all the same.

    path: the newest checkpoint, of `step`. steps: `train.steps`.
    """
    if step <= steps:
        return
    older = [each for each in complete(path.parent) if _step_of(each) <= steps]
    export = older[-1] if older else path
    command = shlex.join(["unirefine", "convert", "--from", str(export), "--to", "DIR"])
    raise UserError(
        f"the newest checkpoint is of step {step:,}, train.steps is {steps:,}",
        where=path,
        fix=f"set train.steps to {step:,} at least, or export step {_step_of(export):,} by `{command}`, or train into "
        "another --output",
    )


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no longer one of the run's; returns its new path."""
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    return aside


def best(directory: Path) -> Path | None:
    """The complete checkpoint with the lowest validation loss, among those whose step was validated."""
    losses = {}
    for path in complete(directory):
        try:
            state = read_json(path / MARKER)["extra"]
            validated = state["latest"].get("validated_step") == state["step"]
        except (
            UserError,
            LookupError,
            TypeError,
            AttributeError,
        ):  # damaged, or not of a training
            continue
        if validated:
            losses[path] = state["latest"]["validation_loss"]
    return min(losses, key=losses.__getitem__, default=None)


def prune(directory: Path, keep: int) -> None:
    """Delete all complete checkpoints but the `keep` newest and the best. Process 0 only."""
    for old in complete(directory)[:-keep]:
        if old != best(directory):
            (old / MARKER).unlink()  # first, so that an interrupted deletion leaves no complete checkpoint
            shutil.rmtree(old)


def sweep(directory: Path) -> None:
    """Delete what killed runs and failed saves left. Process 0 only."""
    for path in [*directory.glob("step-*"), *directory.glob(".step-*")]:
        if path.name.startswith(".") or (NAME.fullmatch(path.name) and not (path / MARKER).exists()):
            shutil.rmtree(path)
