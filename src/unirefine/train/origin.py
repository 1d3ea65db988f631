"""Lineage of a model: `lineage.json` in the training's directory, in each checkpoint, and in `final/`."""

from pathlib import Path
from typing import Any

import unirefine.megatron  # noqa: F401 - before Megatron

from unirefine.config import Train
from unirefine.files import lineage
from unirefine.files.atomic import write_json
from unirefine.model.source import find

WEIGHTS = ("*.safetensors", "huggingface/*.safetensors", "*.distcp")
"""Where the weights of a model lie: of Hugging Face's layout alone, of `final/`, of a checkpoint."""


def write_run(output: Path, shards: Path, config: Train, *, resumed: bool) -> None:
    """Write `<output>/lineage.json`. Process 0 only.

    resumed: keep the steps that are in it, one for each code and config that has trained this run.
    """
    init = find(config.init).directory if config.init else None
    initial = [path for pattern in WEIGHTS for path in sorted(init.glob(pattern))] if init else []
    read_from = [output] if resumed else []
    read_from += [shards, *([init] if init and (init / lineage.FILE).exists() else [])]
    step = lineage.step("train", config, inputs=initial, packages=lineage.TRAIN_PACKAGES)
    lineage.write(output, step, read_from)


def write_model(output: Path, model: Path, counts: dict[str, Any], files: list[dict[str, Any]]) -> None:
    """Write the run's lineage, with counts and the hashes of `files`, into `model` and each of its two layouts.

    files: from `integrity.record`, of all files in `model`. Each lineage lists those below its own directory.
    """
    found = lineage.read(output)
    found["steps"][-1]["counts"] = counts
    for directory in ("", "megatron/", "huggingface/"):
        mine = [
            {**file, "name": file["name"].removeprefix(directory)}
            for file in files
            if file["name"].startswith(directory)
        ]
        write_json(model / directory / lineage.FILE, found | {"files": mine})
