"""What the programs for a GPU share: is there one, what is it, cases in processes of their own, one JSON file."""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), *(str(ROOT / "tests" / part) for part in ("gpu", "distributed", "unit/model"))]

NO_GPU = 3
"""Exit status where there is no NVIDIA GPU: nothing was checked, so it is neither success nor failure."""

LEAST_S = 10
"""A case is not started with less time left than this."""

RESULTS = ROOT / "bench/results-gpu"

PACKAGES = (
    *("torch", "transformer-engine", "transformer-engine-torch", "transformer-engine-cu13", "transformer-engine-cu12"),
    *("megatron-core", "flash-attn", "transformers", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "triton", "numpy"),
)

Case = Callable[[str], dict[str, Any]]
"""Takes the device, "gpu" or "cpu", and returns figures and `ok`. On a CPU it does the same at a tiny size."""


def main(name: str, description: str, cases: dict[str, Case], arguments: Sequence[str] | None = None) -> int:
    """Run the cases, each in a new process, and write their figures. Returns the exit status.

    0: all are ok; 1: one is not, or did not end in time; NO_GPU. name: how the JSON file's name begins.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--device", choices=["gpu", "cpu"], default="gpu", help="cpu: the same at a tiny size, as a test"
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=list(cases), help=f"of: {', '.join(cases)}")
    parser.add_argument("--minutes", type=float, default=9.5, help="cases that do not fit are not run (default: 9.5)")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/results-gpu/; cpu: nowhere)")
    parser.add_argument("--case", choices=list(cases), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif (missing := what_is_missing()) is not None:
        print(f"{name}: {missing[0]}; nothing was run", file=sys.stderr)
        return missing[1]
    if given.case:
        print(json.dumps(cases[given.case](given.device)))
        return 0
    report = {
        "program": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "results": run(given.only or list(cases), given.device, 60 * given.minutes),
    }
    path = given.json
    if path is None and given.device == "gpu":
        path = RESULTS / f"{name}-{re.sub(r'[^a-z0-9]+', '-', report['machine']['device'].lower())}.json"
    if path is not None:
        from unirefine.files.atomic import write_json

        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, report)
        print(f"figures: {path}")
    return 0 if all(result["ok"] for result in report["results"].values()) else 1


def what_is_missing() -> tuple[str, int] | None:
    """(what, exit status) when this machine cannot run the GPU path."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:  # said at once, without torch
        return "no NVIDIA GPU here (there is no driver)", NO_GPU
    import torch

    if not torch.cuda.is_available():
        return f"no NVIDIA GPU here (torch {torch.__version__} finds none)", NO_GPU
    if importlib.util.find_spec("transformer_engine") is None:
        return "Transformer Engine is missing; pip install 'unirefine[gpu]', or use the container in envs/", 1
    return None


def describe() -> dict[str, Any]:
    """Device, driver and versions."""
    import torch

    from unirefine.files import code

    machine: dict[str, Any] = {"device": "cpu", "cores": os.cpu_count()}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        machine |= {
            "device": device.name, "devices": torch.cuda.device_count(), "memory_bytes": device.total_memory,
            "compute_capability": f"{device.major}.{device.minor}", "driver": driver(), "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }  # fmt: skip
    installed = {each.metadata["Name"].lower() for each in importlib.metadata.distributions()}
    versions = code.versions(*(package for package in PACKAGES if package in installed))
    return machine | {"versions": versions, "source": dict(code.source())}


def driver() -> str | None:
    """Version of the driver by nvidia-smi; None where that program is missing."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return done.stdout.split("\n")[0].strip() or None


def run(cases: Sequence[str], device: str, seconds: float) -> dict[str, dict[str, Any]]:
    """Results by case. A case that fails, or has no time left, has the key `problem`."""
    results: dict[str, dict[str, Any]] = {}
    end = time.monotonic() + seconds
    for case in cases:
        left = end - time.monotonic()
        result = child(case, device, left) if left > LEAST_S else {"ok": False, "problem": "not run: no time was left"}
        results[case] = result
        print(f"{'ok ' if result['ok'] else 'OFF'} {case}: {line(result)}", flush=True)
        for name, inner in result.items():
            if isinstance(inner, dict):
                print(f"      {name}: {line(inner)}", flush=True)
    return results


def line(result: dict[str, Any]) -> str:
    """The figures of a result without inner tables and lists."""
    plain = {key: value for key, value in result.items() if key != "ok" and not isinstance(value, dict | list)}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in plain.items()
    )


def child(case: str, device: str, limit: float) -> dict[str, Any]:
    """The result of one case, in a process group of its own that is killed after `limit` seconds."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *sys.argv[:1], "--device", device, "--case", case],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return {"ok": False, "problem": f"took longer than {limit:.0f} s", "errors": errors.splitlines()[-20:]}
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    if process.returncode:
        return {
            "ok": False,
            "problem": f"exit status {process.returncode}",
            "errors": errors.splitlines()[-20:],
        } | seconds
    return json.loads(output.splitlines()[-1]) | seconds
