"""Where a model comes from: `lineage.json` beside the checkpoints, in each of them, and in every layout of `final/`."""

from pathlib import Path
from typing import Any

from unirefine.config import Train
from unirefine.files import lineage
from unirefine.files.atomic import write_json

WEIGHTS = ("*.safetensors", "*.distcp", "common.pt")


def begin(output: Path, shards: Path, config: Train, *, resumed: bool) -> None:
    """Write `<output>/lineage.json` (process 0 only).

    What a resumed run was trained by before stays in it: a step for each code and config that took part.
    """
    init = Path(config.init) if config.init else None
    initial = sorted(init.glob("*.safetensors")) if init and init.is_dir() else []
    read_from = [output] if resumed else []
    read_from += [shards, *([init] if init and (init / lineage.FILE).exists() else [])]
    step = lineage.step("train", config, inputs=initial, packages=lineage.TRAIN_PACKAGES)
    lineage.write(output, step, read_from)


def end(output: Path, model: Path, counts: dict[str, Any]) -> None:
    """Write the lineage into a finished model's directory and its layouts, with counts and hashes of its weights."""
    found = lineage.read(output)
    found["steps"][-1]["counts"] = counts
    names = (str(path.relative_to(model)) for pattern in WEIGHTS for path in sorted(model.glob(f"*/{pattern}")))
    found["files"] = lineage.hashes(model, names)
    for directory in (model, model / "megatron", model / "huggingface"):
        write_json(directory / lineage.FILE, found)
