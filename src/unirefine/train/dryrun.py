"""`unirefine train --dry-run`: what a config will cost, before anything is queued."""

from pathlib import Path

from unirefine.config import Train
from unirefine.progress import human
from unirefine.shards import open_shards
from unirefine.train.flops import flops_per_token, parameters
from unirefine.train.memory import memory_per_process, rank_parameters


def dry_run(config: Train, shards: Path | None) -> str:
    """The cost of `config` as text. With a shard directory also epochs over its clusters and real mean lengths."""
    layers, hidden, heads = config.model.sizes
    layout = config.parallel
    longest = config.sampling.max_tokens
    tokens_step = config.global_batch * longest
    flops = flops_per_token(layers, hidden, longest)
    samples = config.steps * config.global_batch
    accumulate = config.global_batch // (config.micro_batch * layout.data)
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
            f"{config.global_batch} sequences a step = DP {layout.data} x micro-batch {config.micro_batch} x "
            f"{accumulate} accumulated; at most {human(tokens_step, ' tokens')}",
        ),
        ("steps", f"{config.steps:,} = {human(samples, ' samples')}, at most {human(samples * longest, ' tokens')}"),
        ("FLOPs per token", f"{human(flops, ' FLOP')} at {longest} tokens (forward and backward)"),
        ("FLOPs of the run", f"at most {flops * samples * longest:.3g}"),
    ]
    memory = memory_per_process(config)
    parts = ", ".join(f"{name} {human(size, 'B')}" for name, size in memory.items() if name != "total")
    rows.append(("memory a process", f"about {human(memory['total'], 'B')}: {parts}"))
    rows.append(("parameters a process", f"{rank_parameters(config):,} on the fullest"))
    if shards is not None:
        clusters = open_shards(shards).train.documents
        rows.append(("epochs", f"{samples / clusters:.2f} over {clusters:,} train clusters (one sample a cluster)"))
    return "\n".join(f"{name:<21} {text}" for name, text in rows)
