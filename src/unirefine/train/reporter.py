"""Progress of a run: metrics.jsonl, TensorBoard, Weights & Biases, and an occasional line on stderr."""

import contextlib
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TextIO

from unirefine.megatron import platform

import torch

from unirefine.config import Train
from unirefine.files.documents import set_names
from unirefine.progress import PLAIN_INTERVAL_S, duration, human, waiting
from unirefine.train import forecast
from unirefine.train.flops import parameters, peak_flops
from unirefine.train.forecast import Data
from unirefine.train.machine import Machine
from unirefine.train.measure import Progress
from unirefine.train.metrics import Metrics, open_wandb


class Reporter:
    """Process 0 has one. Metrics go to files at once, and to stderr every ten seconds and after every validation.

    Before the first step it says what the training will do, and warns of what is doubtful.
    """

    def __init__(
        self,
        output: Path,
        config: Train,
        progress: Progress,
        *,
        machine: Machine,
        data: Data,
        stream: TextIO | None = None,
    ) -> None:
        self.config, self.stream = config, stream or sys.stderr
        project = config.wandb_project
        board = open_wandb(project, output, config.model_dump(mode="json")) if project else None
        self.metrics = Metrics(output, progress.step, board)
        self._kernels: list[str] = []
        self._first_step = contextlib.ExitStack()
        self._started, self._first, self._printed = monotonic(), progress.step, 0.0
        layers, hidden, _heads = config.model.sizes
        layout = config.parallel
        start = f"continues after step {progress.step:,}" if progress.step else "starts"
        if progress.step == config.steps:
            start += ", the last"
        self._print(
            f"train: {start}: {human(parameters(layers, hidden), ' parameters')}, {config.steps:,} steps of "
            f"{config.step_size}, {layout.world} processes (TP {layout.tensor}, PP {layout.pipeline}, "
            f"CP {layout.context}, DP {layout.data})"
        )
        if progress.step == config.steps:
            return
        self._print(f"train: {forecast.describe_epochs(config, data)}")
        self._print(f"train: {forecast.describe_device(config, machine)}; {forecast.describe_fit(config, machine)}")
        for warning in forecast.warnings(config, machine, data):
            self._print(f"unirefine train: warning: {warning}")
        self._first_step.enter_context(waiting("train: first step", stream=self.stream))

    def first_step(self, step: int, seconds: float) -> None:
        """Say how long the training takes at the speed of its first step after this start."""
        self._first_step.close()
        if step < self.config.steps:
            self._print(f"train: {forecast.after_first_step(self.config, step, seconds)}")

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write the metrics of `step`, and print them when the last printed line is old enough."""
        self.metrics.write(step, values)
        self._show(step, values)

    def amend(self, step: int, values: dict[str, float], validation: dict[str, float]) -> None:
        """As `log`, for a step that was done before and is validated now: its line stays, with `validation` added."""
        self.metrics.amend(step, values, validation)
        self._show(step, values)

    def _show(self, step: int, values: dict[str, float]) -> None:
        now = monotonic()
        if "validation_perplexity" not in values and now - self._printed < PLAIN_INTERVAL_S:
            return
        self._printed = now
        done = step - self._first
        left = (now - self._started) / done * (self.config.steps - step) if done else 0
        text = f"step {step:,}/{self.config.steps:,}" + (f"  ETA {duration(left)}" if left else "")
        if "loss" in values:  # none before step 1
            text += f"  loss {values['loss']:.4f}"
        if "validation_perplexity" in values:
            text += f"  validation perplexity {values['validation_perplexity']:.3f}"
        if "validation_hidden_perplexity" in values:
            text += f", of hidden residues {values['validation_hidden_perplexity']:.3f}"
        text += describe_sets(values)
        if "tokens_per_second" in values:
            text += f"  {human(values['tokens_per_second'], ' tokens')}/s"
        if "mfu" in values:
            text += f"  MFU {100 * values['mfu']:.1f}%"
        self._print(f"train: {text}")

    def attention(self, kernels: list[str]) -> None:
        """Print the attention kernels in use, from `megatron.kernels.seen`, when there are others than before."""
        if kernels != self._kernels:
            self._print(f"train: attention: {', '.join(kernels)}")
            self._kernels = kernels

    def close(self) -> None:
        """Close the files."""
        self._first_step.close()
        self.metrics.close()

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


def describe_sets(values: Mapping[str, float]) -> str:
    """The perplexities of further validation sets in words: `; general 17.512, of hidden residues 19.204`."""
    text = ""
    for name in set_names([values]):
        text += f"; {name} {values[f'validation_perplexity/{name}']:.3f}"
        hidden = values.get(f"validation_hidden_perplexity/{name}")
        text += "" if hidden is None else f", of hidden residues {hidden:.3f}"
    return text


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
