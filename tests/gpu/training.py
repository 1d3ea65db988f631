"""Trainings with the program's own trainer: loss curves by precision, and a run that is stopped and continued."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from unirefine.megatron import kernels

import numpy as np
from train_shards import made_up, write_documents

from unirefine.config import Train
from unirefine.core.alphabet import encode
from unirefine.errors import UserError

# a width in blocks of 128, as FP8's blockwise scaling wants it
SIZES: dict[str, dict[str, Any]] = {
    "gpu": {
        "model": {"preset": None, "layers": 6, "hidden": 384, "heads": 6}, "steps": 200, "global_batch": 64,
        "micro_batch": 32, "sampling": {"max_tokens": 512},
    },
    "cpu": {
        "model": {"preset": None, "layers": 2, "hidden": 64, "heads": 4}, "steps": 30, "global_batch": 8,
        "micro_batch": 8, "sampling": {"max_tokens": 64},
    },
}  # fmt: skip
WINDOW = 20
"""Steps over which losses are averaged before curves are compared."""
LIMIT = 0.02
"""Largest relative difference between the averaged losses of a precision and those of fp32."""


def config(device: str, **changes: Any) -> Train:
    """A short training of a small model, one process."""
    steps = SIZES[device]["steps"]
    return Train.model_validate(
        {
            "parallel": {"processes_per_node": 1}, "packed": True, "optimizer": {"warmup_steps": steps // 4},
            "validate_every": steps, "validate_sequences": 64, "log_every": 1, "checkpoint_every": steps,
        }
        | SIZES[device]
        | changes
    )  # fmt: skip


def shards(directory: Path, device: str) -> Path:
    """The demo's real proteins as shards, each a cluster of its own; on a CPU a few made-up ones."""
    if device == "cpu":
        return write_documents(directory, made_up(60), validation=10)
    sys.path.append(str(Path(__file__).parents[2] / "bench"))
    from demo_proteins import proteins

    found = [np.asarray(encode(sequence), np.uint8) for sequence in proteins()]
    documents = [(f"C{number:05d}", [(f"P{number:05d}", residues)]) for number, residues in enumerate(found)]
    return write_documents(directory, documents, validation=100)


def losses(output: Path) -> list[float]:
    """Training loss of each step."""
    return [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def averaged(values: list[float]) -> list[float]:
    """Means over windows of WINDOW steps, or of all when there are fewer."""
    width = min(WINDOW, len(values))
    return [statistics.fmean(values[start : start + width]) for start in range(0, len(values) - width + 1, width)]


def start(arguments: list[str]) -> subprocess.Popen:
    """`unirefine` with these arguments in a new process. Its output goes to stderr."""
    command = [sys.executable, "-m", "unirefine.cli.main", *arguments]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=sys.stderr)


def train(config: Train, shards: Path, output: Path, *, stop_after: int | None = None) -> int:
    """Exit status of `unirefine train`. stop_after: a step after which it gets SIGUSR1."""
    process = start(["train", "--config", config.model_dump_json(), "--shards", str(shards), "--output", str(output)])
    metrics = output / "metrics.jsonl"
    while stop_after is not None and process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= stop_after:
            os.kill(process.pid, signal.SIGUSR1)
            break
        time.sleep(0.005)
    return process.wait()


def curves(variants: dict[str, dict[str, Any]], device: str) -> dict[str, Any]:
    """Losses of the same training in several precisions; the first is what the others are compared with."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = shards(Path(scratch) / "shards", device)
        for number, (name, options) in enumerate(variants.items()):
            output = Path(scratch) / f"run-{number}"
            status = train(config(device, **options), data, output)
            if status:
                return {"ok": False, "problem": f"{name}: exit status {status}", **found}
            found[name] = losses(output)
    first = next(iter(variants))
    reference = averaged(found[first])
    result: dict[str, Any] = {"ok": True}
    for name, values in found.items():
        off = max(abs(one / other - 1) for one, other in zip(averaged(values), reference, strict=True))
        result[name] = {"off": off, "last": averaged(values)[-1], "losses": values}
        result["ok"] &= off <= LIMIT
    result["ok"] &= reference[-1] <= reference[0]
    return result


def variants(device: str) -> dict[str, dict[str, Any]]:
    """Options of each curve: fp32, bf16, and the FP8 recipes that the device has kernels for."""
    found: dict[str, dict[str, Any]] = {"fp32": {"precision": "fp32"}, "bf16": {"precision": "bf16"}}
    for fp8 in kernels.RECIPES if device == "gpu" else ():
        with contextlib.suppress(UserError):
            kernels.require_recipe(fp8)
            found[f"fp8 {fp8}"] = {"precision": "bf16", "fp8": fp8}
    return found


def resume(device: str, **options: Any) -> dict[str, Any]:
    """A training that is stopped by a signal and started again has the losses of one that is not, bit for bit."""
    chosen = config(device, deterministic=True, **options)
    with tempfile.TemporaryDirectory() as scratch:
        data = shards(Path(scratch) / "shards", device)
        whole, parts = Path(scratch) / "whole", Path(scratch) / "parts"
        statuses = [train(chosen, data, whole), train(chosen, data, parts, stop_after=chosen.steps // 4)]
        stopped = len(losses(parts))
        statuses.append(train(chosen, data, parts))
        if statuses != [0, 75, 0]:
            return {"ok": False, "problem": f"exit statuses {statuses}, expected [0, 75, 0]"}
        expected, got = losses(whole), losses(parts)
        exported = (parts / "final/huggingface/model.safetensors").exists()
    off = max(abs(one - other) for one, other in zip(got, expected, strict=True))
    return {"ok": off == 0 and exported, "off": off, "stopped_after": stopped, "steps": len(got)}
