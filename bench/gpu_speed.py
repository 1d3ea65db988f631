"""Training speed on one GPU: tokens/s, MFU, memory, by size, layout and precision, with the program's own steps.

`make gpu-bench`. Lengths are log-normal like those of UniRef50, cropped to 1,024 tokens; a case with `fixed` has only
sequences of 1,024. Exit status: 0; 1 when a case failed; 3 without an NVIDIA GPU.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/gpu"))
import machine

WARM_UP, STEPS, ACCUMULATED = 3, 8, 4
"""Steps before and in the measurement; full micro-batches a step."""
KERNELS = 25
"""Kernels that are listed."""
CLUSTERS = {"gpu": 20_000, "cpu": 60}
TINY = {
    "model": {"preset": None, "layers": 2, "hidden": 64, "heads": 4},
    "sampling": {"max_tokens": 64},
    "micro_batch": 2,
}

CASES: dict[str, dict[str, Any]] = {
    "650M": {"preset": "650M", "micro_batch": 32},
    "650M-fixed": {"preset": "650M", "micro_batch": 32, "fixed": True},
    "650M-padded": {"preset": "650M", "micro_batch": 16, "packed": False},
    "650M-fp8-current": {"preset": "650M", "micro_batch": 32, "fp8": "current"},
    "3B": {"preset": "3B", "micro_batch": 4},
    "3B-fp8-current": {"preset": "3B", "micro_batch": 4, "fp8": "current"},
    "8M": {"preset": "8M", "micro_batch": 256},
    "650M-fp8-blockwise": {"preset": "650M", "micro_batch": 32, "fp8": "blockwise"},
    "650M-fp8-delayed": {"preset": "650M", "micro_batch": 32, "fp8": "delayed"},
    "650M-kernels": {"preset": "650M", "micro_batch": 32, "kernels": True},
    "35M": {"preset": "35M", "micro_batch": 128},
    "150M": {"preset": "150M", "micro_batch": 64},
}
"""What is measured, the most wanted first: later ones are left out when the time is over."""


def shards(directory: Path, count: int, fixed: bool) -> Path:
    """Random proteins with lengths like UniRef50's, or all longer than a crop."""
    from train_shards import write_documents

    rng = np.random.default_rng(0)
    lengths = np.full(count, 2000) if fixed else np.exp(rng.normal(5.6, 0.75, count)).astype(int) + 20
    residues = np.split(rng.integers(4, 24, lengths.sum()).astype(np.uint8), np.cumsum(lengths)[:-1])
    documents = [(f"C{number:05d}", [(f"P{number:05d}", each)]) for number, each in enumerate(residues)]
    return write_documents(directory, documents, validation=10)


def longest_kernels(averages: Any) -> dict[str, float]:
    """Milliseconds of the kernels (on a CPU: operators) that took most of a step, by torch's profiler."""
    times = {each.key: each.self_device_time_total for each in averages}
    if not any(times.values()):
        times = {each.key: each.self_cpu_time_total for each in averages}
    ordered = sorted(times.items(), key=lambda entry: -entry[1])
    return {name[:80]: round(microseconds / 1e3, 3) for name, microseconds in ordered[:KERNELS]}


def measure(options: dict[str, Any], device: str) -> dict[str, Any]:
    """Figures of one case."""
    from unirefine.megatron import kernels, platform

    import torch

    from unirefine.config import Train
    from unirefine.dataset import open_shards
    from unirefine.model.esm2 import build_esm2
    from unirefine.sampling import SampleStream
    from unirefine.train import engine, environment, launcher
    from unirefine.train.data import training_steps
    from unirefine.train.loop import prepare_gpu
    from unirefine.train.measure import Progress
    from unirefine.train.reporter import memory_bytes, peak
    from unirefine.train.step import train_step

    options = dict(options)
    preset, fixed, kernels_too = options.pop("preset"), options.pop("fixed", False), options.pop("kernels", False)
    options = {"packed": True, "model": {"preset": preset}, "sampling": {"max_tokens": 1024}} | options
    if device == "cpu":
        options |= TINY | {"precision": "fp32", "fp8": "off"}
    tokens = ACCUMULATED * options["micro_batch"] * options["sampling"]["max_tokens"]
    config = Train.model_validate(
        options | {"parallel": {"processes_per_node": 1}, "global_batch": None, "global_tokens": tokens}
    )
    with tempfile.TemporaryDirectory() as scratch, launcher.single_rank(), environment.set_for(config):
        platform.initialize(config.parallel, 0)
        if platform.on_gpu():
            prepare_gpu(config)
        model = engine.wrap(build_esm2(config.model, config), config)
        optimizer = engine.build_optimizer(model, config)
        engine.set_rate(optimizer, 1e-4, 0.01)
        data = open_shards(shards(Path(scratch) / "shards", CLUSTERS[device], fixed))
        stream = SampleStream(data.train, config.sampling)
        steps = training_steps(stream, config, 0, WARM_UP + STEPS + kernels_too, 0, 1, gpu=platform.on_gpu())
        warm, measured, micro_batches = Progress(), Progress(), 0

        def run(progress: Progress) -> int:
            """One step; its micro-batches."""
            began = time.perf_counter()
            step = next(steps)
            waited = time.perf_counter() - began
            done = train_step(
                model, optimizer, step.micro_batches,
                step=progress.step, waited=waited, stop=False, directory=Path(scratch),
            )  # fmt: skip
            if platform.on_gpu():
                torch.cuda.synchronize()
            progress.count(step.next_sample, done.sums, time.perf_counter() - began)
            return len(step.micro_batches)

        for _ in range(WARM_UP):
            run(warm)
        for _ in range(STEPS):
            micro_batches += run(measured)
        longest = {}
        if kernels_too:
            with torch.profiler.profile() as profiled:
                run(Progress())
            longest = {"kernels_ms": longest_kernels(profiled.key_averages())}
        platform.shutdown()
    total = measured.interval
    return {
        "ok": True,
        **total.speed(config, peak(config)),
        "seconds_a_step": total.seconds / STEPS,
        "micro_batches_a_step": micro_batches / STEPS,
        "tokens_a_sequence": total.tokens / (measured.samples - warm.samples),
        "warm_up_seconds": warm.seconds,
        "loss": total.loss / total.chosen,
        "memory_bytes": memory_bytes(),
        "attention": ", ".join(kernels.seen()) or "SDPA",
        "options": options,
    } | longest


if __name__ == "__main__":
    cases: dict[str, machine.Case] = {name: partial(measure, options) for name, options in CASES.items()}
    sys.exit(machine.main("gpu-bench", __doc__, cases))
