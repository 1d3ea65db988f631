"""What a training will do, in words, before it does it: epochs, tokens, memory, device; and what is doubtful."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unirefine.config import PRESETS, Train
from unirefine.core.enough import FEW_CLUSTERS, few_clusters
from unirefine.dataset import Shards
from unirefine.progress import duration, human
from unirefine.sampling import SampleStream
from unirefine.train.flops import PEAK_FLOPS, flops_per_token, parameters
from unirefine.train.machine import Machine, no_gpu
from unirefine.train.memory import memory_per_process

LENGTH_SAMPLES = 10_000
"""Samples from which the mean length is estimated."""

MANY_EPOCHS = 100
LARGE = parameters(*PRESETS["650M"][:2])
"""Parameters from which a CPU is no choice."""

OVERHEAD = 5e9, 1e9
"""Bytes a process on a GPU, on a CPU, that the estimate leaves out: CUDA, NCCL and its allocator; Python and torch."""

CARDS = (24e9, 40e9, 80e9, 141e9)
"""Memory of usual GPUs."""

DAY_S = 24 * 3600


@dataclass(frozen=True)
class Data:
    """The shards, as far as they decide how long a training is."""

    clusters: int
    """Train clusters."""
    validation: int
    """Validation clusters."""
    mean_length: float
    """Tokens of a sample, on average."""


class Epochs(NamedTuple):
    """How often a training sees its data."""

    samples: float
    tokens: float
    passes: float
    """Samples per train cluster."""


def data_of(shards: Shards, config: Train) -> Data:
    """Counts of the shards, and the mean length of their first samples."""
    lengths = SampleStream(shards.train, config.sampling).lengths_of(np.arange(LENGTH_SAMPLES))
    return Data(shards.train.documents, shards.validation.documents, float(lengths.mean()))


def epochs(config: Train, data: Data) -> Epochs:
    """Samples, tokens and epochs of all steps."""
    samples = config.steps * (config.global_batch or config.step_tokens / data.mean_length)
    return Epochs(samples, samples * data.mean_length, samples / data.clusters)


def rounded(passes: float) -> str:
    """A number of epochs: `0.14`, `3.20`, `341,333`."""
    return f"{passes:.2f}" if passes < 10 else f"{passes:,.0f}"


def describe_epochs(config: Train, data: Data) -> str:
    """Samples, tokens and epochs in words."""
    found = epochs(config, data)
    return (
        f"{rounded(found.passes)} epochs over {data.clusters:,} train clusters: "
        f"{human(found.samples, ' samples')}, {human(found.tokens, ' tokens')} ({data.mean_length:.0f} a sample)"
    )


def is_fitting(config: Train, memory: float, *, gpu: bool) -> bool | None:
    """Whether a process of `config` fits into `memory` bytes, by estimate; None when that is too close to call."""
    needed = memory_per_process(config)["total"]
    if needed > memory:
        return False
    return True if needed + OVERHEAD[0 if gpu else 1] <= memory else None


def describe_fit(config: Train, machine: Machine) -> str:
    """Whether the training fits the device, in words."""
    gpu = machine.gpus > 0
    memory = machine.memory if gpu else machine.memory / config.parallel.processes_per_node
    fits = is_fitting(config, memory, gpu=gpu)
    verdict = {True: "fits", False: "does not fit", None: "may not fit"}[fits]
    needed = human(memory_per_process(config)["total"], "B")
    beside = f"{OVERHEAD[0 if gpu else 1] / 1e9:.0f} GB for {'CUDA and NCCL' if gpu else 'Python and torch'}"
    where = machine.name if gpu else "the memory of this machine"
    share = "" if gpu or config.parallel.processes_per_node == 1 else " for each of its processes"
    text = f"{verdict} {where}: about {needed}, and {beside}, of {human(memory, 'B')}{share}"
    return text if fits else f"{text}; {smaller(config, memory, gpu=gpu)}"


def smaller(config: Train, memory: float, *, gpu: bool) -> str:
    """What would make a process fit into `memory` bytes."""
    for recompute in dict.fromkeys((config.recompute, "full")):
        for micro_batch in range(config.micro_batch, 0, -1):
            step = micro_batch * config.parallel.data
            if config.global_batch is not None and config.global_batch % step:
                continue
            tried = config.model_copy(update={"micro_batch": micro_batch, "recompute": recompute})
            if is_fitting(tried, memory, gpu=gpu):
                more = "" if recompute == config.recompute else f" and train.recompute: {recompute}"
                return f"train.micro_batch: {micro_batch}{more} would"
    return "spread it over more GPUs (parallel.tensor, parallel.pipeline)" if gpu else "take a smaller train.model"


def describe_cards(config: Train) -> str:
    """Which usual GPUs the training fits."""
    fitting = [f"{card / 1e9:.0f}" for card in CARDS if is_fitting(config, card, gpu=True)]
    if not fitting:
        return f"no GPU of up to {CARDS[-1] / 1e9:.0f} GB holds it; {smaller(config, CARDS[-1], gpu=True)}"
    return f"fits GPUs of {fitting[0]} GB and more" if fitting[1:] else f"fits GPUs of {fitting[0]} GB"


def describe_device(config: Train, machine: Machine) -> str:
    """What the training runs on, in words."""
    if machine.gpus:
        return f"{config.precision} on {machine.name}"
    return f"{no_gpu(machine)}: {config.precision} on the CPU"


def shortest(config: Train, tokens: float) -> str | None:
    """The time at the peak of the data sheets, which no training reaches; None in fp32, for which there is no peak."""
    if config.precision == "fp32":
        return None
    layers, hidden, _heads = config.model.sizes
    rate = config.parallel.world * (2 if config.fp8 != "off" else 1)
    flops = flops_per_token(layers, hidden, config.sampling.max_tokens) * tokens
    each = [f"{long(flops / (PEAK_FLOPS[name] * rate))} on {config.parallel.world} {name}" for name in ("A100", "H100")]
    return f"at least {', '.join(each)} (at the peak of their data sheets, which no training reaches)"


def long(seconds: float) -> str:
    """A duration, above two days in days."""
    return duration(seconds) if seconds < 2 * DAY_S else f"{seconds / DAY_S:,.0f} days"


def after_first_step(config: Train, step: int, seconds: float) -> str:
    """The estimate that the first step of this start allows. step: its number. seconds: its duration."""
    left = config.steps - step
    return (
        f"step {step:,} took {seconds:.2g} s: at this speed the other {left:,} take {long(left * seconds)}, without "
        "validation and checkpoints"
    )


def warnings(config: Train, machine: Machine, data: Data | None) -> list[str]:
    """What is doubtful about a training, each with what to do. data: None when no shards are given."""
    layers, hidden, _heads = config.model.sizes
    size = parameters(layers, hidden)
    found = []
    if not machine.gpus and size >= LARGE:
        found.append(
            f"{no_gpu(machine)}, and a model of {human(size, ' parameters')} needs one; train.model.preset: 8M can do "
            "without"
        )
    if not machine.gpus and config.parallel.processes_per_node > machine.cores:
        found.append(
            f"train.parallel.processes_per_node is {config.parallel.processes_per_node}, and there are {machine.cores} "
            "CPU cores: more processes than cores are slower than fewer"
        )
    if data is None:
        return found
    passes = epochs(config, data).passes
    if passes > MANY_EPOCHS:
        steps = int(config.steps * MANY_EPOCHS / passes)
        fix = f"{MANY_EPOCHS} are {steps:,} steps" if steps else "lower train.global_batch too"
        found.append(
            f"{rounded(passes)} epochs over {data.clusters:,} train clusters: with more than {MANY_EPOCHS} a model "
            f"may learn its proteins by heart; {fix}"
        )
    validation = min(data.validation, config.validate_sequences or data.validation)
    if validation < FEW_CLUSTERS:
        fix = "raise train.validate_sequences"
        if data.validation <= validation:
            fix = few_clusters(data.clusters + data.validation)
        found.append(
            f"validation on {validation:,} cluster{'s' * (validation != 1)}: below {FEW_CLUSTERS} its perplexity says "
            f"little; {fix}"
        )
    return found
