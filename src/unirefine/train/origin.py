"""Lineage of a model: `lineage.json` in the training's directory, in each checkpoint, and in `final/`."""

from pathlib import Path
from typing import Any

from unirefine.config import Train
from unirefine.files import lineage
from unirefine.files.atomic import write_json

WEIGHTS = ("*.safetensors", "*.distcp", "common.pt")


def write_run(output: Path, shards: Path, config: Train, *, resumed: bool) -> None:
    """Write `<output>/lineage.json`. Process 0 only.

    resumed: keep the steps that are in it, one for each code and config that has trained this run.
    """
    init = Path(config.init) if config.init else None
    initial = sorted(init.glob("*.safetensors")) if init and init.is_dir() else []
    read_from = [output] if resumed else []
    read_from += [shards, *([init] if init and (init / lineage.FILE).exists() else [])]
    step = lineage.step("train", config, inputs=initial, packages=lineage.TRAIN_PACKAGES)
    lineage.write(output, step, read_from)


def write_model(output: Path, model: Path, counts: dict[str, Any]) -> None:
    """Write the run's lineage, with counts and hashes of the weights, into `model` and each of its two layouts."""
    found = lineage.read(output)
    found["steps"][-1]["counts"] = counts
    names = (str(path.relative_to(model)) for pattern in WEIGHTS for path in sorted(model.glob(f"*/{pattern}")))
    found["files"] = lineage.hashes(model, names)
    for directory in (model, model / "megatron", model / "huggingface"):
        write_json(directory / lineage.FILE, found)
