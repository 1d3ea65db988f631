"""Progress of a run: metrics.jsonl, TensorBoard, Weights & Biases, and an occasional line on stderr."""

import resource
import sys
from pathlib import Path
from time import monotonic
from typing import TextIO

from unirefine.megatron import platform

import torch

from unirefine.config import Train
from unirefine.progress import PLAIN_INTERVAL_S, duration, human
from unirefine.train.flops import parameters, peak_flops
from unirefine.train.measure import Progress
from unirefine.train.metrics import Metrics, open_wandb


class Reporter:
    """Process 0 has one. Metrics go to files at once, and to stderr every ten seconds and after every validation."""

    def __init__(self, output: Path, config: Train, progress: Progress, stream: TextIO | None = None) -> None:
        self.config, self.stream = config, stream or sys.stderr
        project = config.wandb_project
        board = open_wandb(project, output, config.model_dump(mode="json")) if project else None
        self.metrics = Metrics(output, progress.step, board)
        self._kernels: list[str] = []
        self._started, self._first, self._printed = monotonic(), progress.step, 0.0
        layers, hidden, _heads = config.model.sizes
        layout = config.parallel
        start = f"continues after step {progress.step:,}" if progress.step else "starts"
        self._print(
            f"train: {start}: {human(parameters(layers, hidden), ' parameters')}, {config.steps:,} steps of "
            f"{config.step_size}, {layout.world} processes (TP {layout.tensor}, PP {layout.pipeline}, "
            f"CP {layout.context}, DP {layout.data}), {config.precision} on {device_name()}"
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write the metrics of `step`, and print them when the last printed line is old enough."""
        self.metrics.write(step, values)
        now = monotonic()
        if "validation_perplexity" not in values and now - self._printed < PLAIN_INTERVAL_S:
            return
        self._printed = now
        text = f"step {step:,}/{self.config.steps:,}  loss {values['loss']:.4f}"
        if "validation_perplexity" in values:
            text += f"  validation perplexity {values['validation_perplexity']:.3f}"
        text += f"  {human(values['tokens_per_second'], ' tokens')}/s"
        if "mfu" in values:
            text += f"  MFU {100 * values['mfu']:.1f}%"
        left = (now - self._started) / max(step - self._first, 1) * (self.config.steps - step)
        self._print(f"train: {text}  ETA {duration(left)}")

    def attention(self, kernels: list[str]) -> None:
        """Print the attention kernels in use, from `megatron.kernels.seen`, when there are others than before."""
        if kernels != self._kernels:
            self._print(f"train: attention: {', '.join(kernels)}")
            self._kernels = kernels

    def close(self) -> None:
        """Close the files."""
        self.metrics.close()

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


def device_name() -> str:
    """CUDA's name of the GPU, or `cpu`."""
    return torch.cuda.get_device_name() if platform.on_gpu() else "cpu"


def peak(config: Train) -> float | None:
    """Peak FLOP/s of this process's device, or None for a device without a known peak."""
    return peak_flops(device_name(), config.precision, config.fp8)


def memory_bytes() -> int:
    """Peak memory of this process so far, in bytes: allocated on the GPU, or resident without one."""
    if platform.on_gpu():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
