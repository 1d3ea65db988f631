"""Write `final/`: the trained model in both layouts, its metrics, and what trained it."""

import shutil
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch

from unirefine.config import Train
from unirefine.files.atomic import read_json, replace_directory, write_json
from unirefine.files.code import versions
from unirefine.model import checkpoint
from unirefine.model.convert import export_huggingface
from unirefine.train import origin
from unirefine.train.flops import parameters
from unirefine.train.measure import Progress

FACTS = "train.json"


def is_finished(output: Path, config: Train, identity: dict[str, str]) -> bool:
    """Whether `<output>/final` is the result of this config, these shards and this number of steps."""
    facts = output / "final" / FACTS
    if not facts.exists():
        return False
    found = read_json(facts)
    return found["identity"] == identity and found["step"] == config.steps


def finish(
    output: Path, model: Any, config: Train, progress: Progress, identity: dict[str, str], manifest: dict[str, Any]
) -> None:
    """Write `final/megatron/`, `final/huggingface/`, `final/metrics.jsonl` and `final/train.json`.

    Collective. `model`'s parameters must be up to date (see `engine.parameters_synced`). The directory appears when it
    is complete.
    """
    temporary, main = output / ".final.tmp", platform.rank() == 0
    if main:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    torch.distributed.barrier()
    checkpoint.save(temporary / "megatron", model, extra={"step": progress.step})
    export_huggingface(model, temporary / "huggingface")
    if not main:
        return
    layers, hidden, _heads = config.model.sizes
    facts = {
        "step": progress.step,
        "samples": progress.samples,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "parameters": parameters(layers, hidden),
        **progress.latest,
        "config": config.model_dump(mode="json"),
        "identity": identity,
        "shards": {key: value for key, value in manifest.items() if key != "files"},
        "versions": versions("torch", "megatron-core", "transformers", "numpy"),
    }
    # a copy: the next run into this directory truncates the original
    shutil.copyfile(output / "metrics.jsonl", temporary / "metrics.jsonl")
    write_json(temporary / FACTS, facts)
    counts = {key: facts[key] for key in ("step", "samples", "tokens", "parameters")} | progress.latest
    origin.write_model(output, temporary, counts)
    replace_directory(temporary, output / "final")
