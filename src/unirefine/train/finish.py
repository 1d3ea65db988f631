"""Write `final/`: the trained model in both layouts, its metrics, and what trained it."""

import shutil
import sys
from pathlib import Path
from typing import Any

from unirefine.megatron import platform

import torch

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json, replace_directory, write_json
from unirefine.files.code import versions
from unirefine.files.hashes import wrong_size
from unirefine.files.made_by import now
from unirefine.model import checkpoint, integrity
from unirefine.model.convert import export_huggingface
from unirefine.train import checkpoints, origin
from unirefine.train.flops import parameters
from unirefine.train.measure import Progress

FACTS = "train.json"
NOTHING_LEFT = "no checkpoint is left to continue from"
START_OVER = "delete it to start over"


def is_finished(output: Path, config: Train, identity: dict[str, str]) -> bool:
    """Whether `<output>/final` is the result of this config, these shards and this number of steps.

    It is not when a file is missing or of another size than its lineage says; then it is written again. Raises
    UserError when it is not, but no checkpoint is left to continue from: a new start would replace it.
    """
    final, is_alone = output / "final", not checkpoints.complete(output / "checkpoints")
    if not (final / FACTS).exists():
        return False
    found = read_json(final / FACTS)
    if is_alone:
        checkpoints.check_identity(final, found, identity)
        if found["step"] != config.steps:
            raise UserError(
                f"this is the model of {found['step']:,} steps, train.steps is {config.steps:,}, and {NOTHING_LEFT}",
                where=final, fix=f"{START_OVER}, or train into another --output with this as train.init",
            )  # fmt: skip
    if found["identity"] != identity or found["step"] != config.steps:
        return False
    if wrong := _damage(final):
        if is_alone:
            raise UserError(f"{wrong}; {NOTHING_LEFT}", where=final, fix=START_OVER)
        if platform.rank() == 0:
            warning = f"{final}: {wrong}; final/ is made again from the newest checkpoint"
            print(f"unirefine train: warning: {warning}", file=sys.stderr)
        return False
    return True


def _damage(final: Path) -> str | None:
    """What is wrong with the first file of `final/` that is missing or of another size; None when none is."""
    if not (final / lineage.FILE).exists():
        return f"{lineage.FILE}: missing"
    found = ((file["name"], wrong_size(final, file)) for file in lineage.read(final).get("files", []))
    return next((f"{name}: {wrong}" for name, wrong in found if wrong), None)


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
    names: list[Any] = [None]
    if main:
        _write_facts(temporary, output, config, progress, identity, manifest)
        paths = (path for path in temporary.rglob("*") if path.is_file())
        names = [sorted(str(path.relative_to(temporary)) for path in paths)]
    torch.distributed.broadcast_object_list(names, src=0)
    files = integrity.record(temporary, names[0])
    if main:
        counts = {"step": progress.step, "samples": progress.samples, "tokens": progress.tokens}
        counts |= {"parameters": parameters(*config.model.sizes[:2])} | progress.latest
        origin.write_model(output, temporary, counts, files)
        replace_directory(temporary, output / "final")


def _write_facts(
    final: Path, output: Path, config: Train, progress: Progress, identity: dict[str, str], manifest: dict[str, Any]
) -> None:
    layers, hidden, _heads = config.model.sizes
    facts = {
        "step": progress.step,
        "samples": progress.samples,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "finished": now(),
        "parameters": parameters(layers, hidden),
        **progress.latest,
        "config": config.model_dump(mode="json"),
        "identity": identity,
        "shards": {key: value for key, value in manifest.items() if key != "files"},
        "hardware": progress.hardware,
        "versions": versions("torch", "megatron-core", "transformers", "numpy"),
    }
    # a copy: the next run into this directory truncates the original
    shutil.copyfile(output / "metrics.jsonl", final / "metrics.jsonl")
    write_json(final / FACTS, facts)
