"""`unirefine train --dry-run`: what a config costs, before a job is queued."""

from pathlib import Path

import numpy as np

from unirefine.config import Train
from unirefine.dataset import open_shards
from unirefine.progress import human
from unirefine.sampling import SampleStream
from unirefine.train.flops import flops_per_token, parameters
from unirefine.train.memory import memory_per_process, rank_parameters

LENGTH_SAMPLES = 10_000
"""Samples from which the mean length is estimated."""


def dry_run(config: Train, shards: Path | None) -> str:
    """The cost of `config` as text; with a shard directory also the samples' mean length and the number of epochs."""
    layers, hidden, heads = config.model.sizes
    layout = config.parallel
    longest = config.sampling.max_tokens
    flops = flops_per_token(layers, hidden, longest)
    tokens = config.steps * config.step_tokens
    rows = [
        ("model", f"{layers} layers, hidden {hidden}, {heads} heads: {parameters(layers, hidden):,} parameters"),
        (
            "layout",
            f"{layout.nodes} node(s) x {layout.processes_per_node} processes: TP {layout.tensor}"
            f"{' with SP' if layout.sequence else ''}, PP {layout.pipeline}, CP {layout.context}, DP {layout.data}, "
            f"{config.precision}{'' if config.fp8 == 'off' else f', FP8 {config.fp8}'}",
        ),
        (
            "batch",
            f"{config.step_size} a step = DP {layout.data} x micro-batch {config.micro_batch} x "
            f"{config.accumulated} accumulated; at most {human(config.step_tokens, ' tokens')}",
        ),
        ("steps", f"{config.steps:,}, at most {human(tokens, ' tokens')}"),
        ("FLOPs per token", f"{human(flops, ' FLOP')} at {longest} tokens (forward and backward)"),
        ("FLOPs of the run", f"at most {flops * tokens:.3g}"),
    ]
    memory = memory_per_process(config)
    parts = ", ".join(f"{name} {human(size, 'B')}" for name, size in memory.items() if name != "total")
    rows.append(("memory a process", f"about {human(memory['total'], 'B')}: {parts}"))
    rows.append(("parameters a process", f"{rank_parameters(config):,} on the fullest"))
    if shards is not None:
        side = open_shards(shards).train
        mean = SampleStream(side, config.sampling).lengths_of(np.arange(LENGTH_SAMPLES)).mean()
        samples = config.steps * (config.global_batch or config.step_tokens / mean)
        rows += [
            ("samples", f"{human(samples, ' samples')} of {mean:.0f} tokens (mean of the first {LENGTH_SAMPLES:,})"),
            ("epochs", f"{samples / side.documents:.2f} over {side.documents:,} train clusters (one sample a cluster)"),
        ]
    return "\n".join(f"{name:<21} {text}" for name, text in rows)
