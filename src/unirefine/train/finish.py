"""`final/`: the trained model in both layouts and what trained it, written aside and renamed."""

import shutil
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch

from unirefine.config import Train
from unirefine.files.atomic import fsync_directory, read_json, write_json
from unirefine.files.code import versions
from unirefine.model import checkpoint
from unirefine.model.convert import export_huggingface
from unirefine.train import origin
from unirefine.train.flops import parameters
from unirefine.train.measure import Progress

FACTS = "train.json"


def is_finished(output: Path, config: Train, identity: dict[str, str]) -> bool:
    """Whether `<output>/final` is the result of exactly this run."""
    facts = output / "final" / FACTS
    if not facts.exists():
        return False
    found = read_json(facts)
    return found["identity"] == identity and found["step"] == config.steps


def finish(
    output: Path, model: Any, config: Train, progress: Progress, identity: dict[str, str], manifest: dict[str, Any]
) -> None:
    """Write `final/megatron/`, `final/huggingface/`, `final/metrics.jsonl` and `final/train.json` (all processes).

    `model`: up to date (see `engine.settled`). The directory appears when all of it is there.
    """
    aside, main = output / ".final.tmp", platform.rank() == 0
    if main:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    torch.distributed.barrier()
    checkpoint.save(aside / "megatron", model, extra={"step": progress.step})
    export_huggingface(model, aside / "huggingface")
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
    # its own copy: the live file belongs to the next run as soon as one starts
    shutil.copyfile(output / "metrics.jsonl", aside / "metrics.jsonl")
    write_json(aside / FACTS, facts)
    origin.end(
        output, aside, {key: facts[key] for key in ("step", "samples", "tokens", "parameters")} | progress.latest
    )
    final = output / "final"
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    fsync_directory(output)
