"""`unirefine train --dry-run`: what a config costs, before a job is queued."""

from pathlib import Path

from unirefine.config import Train
from unirefine.dataset import open_shards
from unirefine.progress import human
from unirefine.train import forecast, machine, schedule
from unirefine.train.flops import flops_per_token, parameters
from unirefine.train.memory import memory_per_process, rank_parameters


def dry_run(config: Train, shards: Path | None) -> str:
    """The cost of `config` as text, whether it fits this machine, and warnings.

    With a shard directory also the samples' mean length and the number of epochs.
    """
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
        ("learning rate", schedule.describe(config.steps, config.optimizer)),
        ("FLOPs per token", f"{human(flops, ' FLOP')} at {longest} tokens (forward and backward)"),
        ("FLOPs of the run", f"at most {flops * tokens:.3g}"),
    ]
    memory = memory_per_process(config)
    parts = ", ".join(f"{name} {human(size, 'B')}" for name, size in memory.items() if name != "total")
    rows.append(("memory a process", f"about {human(memory['total'], 'B')}: {parts}"))
    rows.append(("parameters a process", f"{rank_parameters(config):,} on the fullest"))
    here = machine.this_machine()
    missing = machine.problem(config, here)
    rows += [
        ("GPUs", forecast.describe_cards(config)),
        ("this machine", f"{forecast.describe_device(config, here)}; {forecast.describe_fit(config, here)}"),
    ]
    data = None
    if shards is not None:
        data = forecast.data_of(open_shards(shards), config)
        found = forecast.epochs(config, data)
        rows += [
            (
                "samples",
                f"{human(found.samples, ' samples')} of {data.mean_length:.0f} tokens (mean of the first "
                f"{forecast.LENGTH_SAMPLES:,}): {human(found.tokens, ' tokens')}",
            ),
            (
                "epochs",
                f"{forecast.rounded(found.passes)} over {data.clusters:,} train clusters (one sample a cluster)",
            ),
        ]
    if time := forecast.shortest(config, tokens if data is None else forecast.epochs(config, data).tokens):
        rows.append(("time", time))
    lines = [f"{name:<21} {text}" for name, text in rows]
    lines += [f"{'cannot start here':<21} {missing}"] if missing else []
    return "\n".join(lines + [f"{'warning':<21} {text}" for text in forecast.warnings(config, here, data)])
