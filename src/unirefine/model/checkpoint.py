"""Megatron distributed checkpoints that appear only when they are whole, and load at any TP, PP, CP and DP.

    checkpoint.save(directory, model, optimizer, scheduler, extra={"step": 100})
    extra = checkpoint.load(directory, model, optimizer, scheduler)
    facts = checkpoint.read(directory)        # no weights: sizes of the model, `extra`, versions

A checkpoint is written to `.<name>.part` beside its place and renamed, so a directory with `complete.json` in it is a
complete checkpoint and anything else is none. All functions but `read` are collective: every rank calls them.
"""

import queue
import shutil
import warnings
from pathlib import Path
from typing import Any, Protocol

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.serialization import (
    get_default_load_sharded_strategy,
    get_default_save_sharded_strategy,
)
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.fully_parallel import (
    FullyParallelLoadStrategyWrapper,
    FullyParallelSaveStrategyWrapper,
)
from megatron.core.dist_checkpointing.validation import StrictHandling
from safetensors.torch import load_file, save_file

from unirefine.config.training import PRESETS, Model
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory, read_json, write_json
from unirefine.files.code import versions
from unirefine.model import optimizer_state
from unirefine.model.esm2 import Esm2

FORMAT = 1
MARKER = "complete.json"
ASIDE = "aside.safetensors"

# optimizer state is stored per parameter in its whole shape, so that it loads at another TP, PP or DP
OPTIMIZER_LAYOUT = {"distrib_optim_sharding_type": "fully_reshardable", "chained_optim_avoid_prefix": True}

# Megatron starts a server process for the results of writers, for the sake of asynchronous saving; it would outlive a
# kill -9. Ours come back in the same process.
filesystem_async._results_queue = queue.Queue()


class Stateful(Protocol):
    """A scheduler, or whatever else has a small state that is the same on every rank."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def unwrap(model: Any) -> Esm2:
    """The `Esm2` inside Megatron's DDP and Float16Module wrappers, or inside a list of one."""
    if isinstance(model, list):
        (model,) = model
    while hasattr(model, "module"):
        model = model.module
    return model


def is_complete(directory: Path | str) -> bool:
    """Whether `directory` is a checkpoint that was written to its end."""
    return (Path(directory) / MARKER).is_file()


def read(directory: Path | str) -> dict[str, Any]:
    """`complete.json`: `{format, model: {layers, hidden, heads}, dtype, extra, versions}`.

    Raises UserError when `directory` is no complete checkpoint, or one of a later format.
    """
    directory = Path(directory)
    if not is_complete(directory):
        raise UserError(f"not a complete checkpoint (it has no {MARKER})", where=directory)
    facts = read_json(directory / MARKER)
    if facts.get("format") != FORMAT:
        raise UserError(f"checkpoint format {facts.get('format')!r}, this version reads {FORMAT}", where=directory)
    return facts


def model_of(directory: Path | str) -> Model:
    """The `config.Model` of a checkpoint: its preset, or free sizes."""
    sizes = read(directory)["model"]
    return model_of_sizes(sizes["layers"], sizes["hidden"], sizes["heads"])


def model_of_sizes(layers: int, hidden: int, heads: int) -> Model:
    """The preset of these sizes, or a free-size model."""
    for name, preset in PRESETS.items():
        if preset == (layers, hidden, heads):
            return Model(preset=name)
    return Model(preset=None, layers=layers, hidden=hidden, heads=heads)


def save(
    directory: Path | str,
    model: Any,
    optimizer: Any = None,
    scheduler: Stateful | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint; an older one of the same name is replaced. `extra` must be JSON and equal on every rank."""
    directory = Path(directory)
    part = directory.with_name(f".{directory.name}.part")
    esm2, first = unwrap(model), torch.distributed.get_rank() == 0
    if first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    torch.distributed.barrier()
    state = _sharded_state(esm2, optimizer, loading=False)
    if scheduler is not None:
        state["scheduler"] = scheduler.state_dict()
    # what several ranks hold alike is written by one of them, each time another, and read by one, who tells the others
    writer = FullyParallelSaveStrategyWrapper(get_default_save_sharded_strategy(), _alike())
    dist_checkpointing.save(state, str(part), writer)
    torch.distributed.barrier()
    if first:
        if esm2.aside:
            save_file(esm2.aside, part / ASIDE)
        config = esm2.config
        sizes = {"layers": config.num_layers, "hidden": config.hidden_size, "heads": config.num_attention_heads}
        facts = {"format": FORMAT, "model": sizes, "extra": extra or {}}
        facts["dtype"] = str(config.params_dtype).removeprefix("torch.")
        facts["versions"] = versions("torch", "megatron-core")
        write_json(part / MARKER, facts)
        _replace_directory(part, directory)
    torch.distributed.barrier()


def load(directory: Path | str, model: Any, optimizer: Any = None, scheduler: Stateful | None = None) -> dict[str, Any]:
    """Load weights (and, when given, optimizer and scheduler state) in place; returns the saved `extra`.

    The layout may differ from the one that saved. Raises UserError when the checkpoint is incomplete, is of another
    model size, or lacks the optimizer or scheduler that is asked for.
    """
    directory = Path(directory)
    facts, esm2 = read(directory), unwrap(model)
    config = esm2.config
    sizes = {"layers": config.num_layers, "hidden": config.hidden_size, "heads": config.num_attention_heads}
    if facts["model"] != sizes:
        raise UserError(f"checkpoint of a model {facts['model']}, not {sizes}", where=directory)
    state = _sharded_state(esm2, optimizer, loading=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, about what Megatron's checkpoints are made of
        reader = FullyParallelLoadStrategyWrapper(get_default_load_sharded_strategy(str(directory)), _alike())
        loaded = dist_checkpointing.load(state, str(directory), reader, strict=StrictHandling.ASSUME_OK_UNEXPECTED)
    esm2.load_state_dict(loaded["model"], strict=False)  # what is not in it: Transformer Engine's FP8 state
    for name, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is not None:
            if name not in loaded:
                raise UserError(f"checkpoint has no {name} state", where=directory)
            target.load_state_dict(loaded[name])
    for adam in _torch_adams(optimizer):
        for state in adam.state.values():  # Megatron gives all parameters one and the same step tensor
            state["step"] = state["step"].clone()
    if (directory / ASIDE).is_file():
        esm2.aside = load_file(directory / ASIDE)
    return facts["extra"]


def _alike() -> torch.distributed.ProcessGroup:
    """The ranks that hold the same part of the model: DP x CP."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def _sharded_state(esm2: Esm2, optimizer: Any, *, loading: bool) -> dict[str, Any]:
    weights = esm2.sharded_state_dict(metadata={})
    # Transformer Engine's extra state holds FP8 history only; without it a checkpoint fits either layer spec
    weights = {name: value for name, value in weights.items() if not isinstance(value, ShardedObject)}
    state: dict[str, Any] = {"model": weights}
    if optimizer is not None:
        for part in _chained(optimizer):
            _allocate_state(part)
            optimizer_state.share_out(part)
        metadata = dict(OPTIMIZER_LAYOUT)
        state["optimizer"] = optimizer.sharded_state_dict(weights, is_loading=loading, metadata=metadata)
    return state


def _chained(optimizer: Any) -> list[Any]:
    """The optimizers inside Megatron's ChainedOptimizer."""
    return getattr(optimizer, "chained_optimizers", [optimizer] if optimizer is not None else [])


def _torch_adams(optimizer: Any) -> list[torch.optim.Optimizer]:
    """torch's own Adams inside Megatron's optimizer (on GPUs Transformer Engine's Adam is there instead)."""
    inner = [part.optimizer for part in _chained(optimizer)]
    return [adam for adam in inner if isinstance(adam, torch.optim.Adam | torch.optim.AdamW)]


def _allocate_state(part: Any) -> None:
    """Give Adam its moments before its first update: a checkpoint is loaded into them, and one that is written while
    fp16 loss scaling has skipped every update so far must hold them.
    """
    part.init_state_fn(part.optimizer, part.config)
    for adam in _torch_adams(part):
        for state in adam.state.values():
            state.setdefault("step", torch.tensor(0.0))


def _replace_directory(part: Path, directory: Path) -> None:
    """Rename `part` to `directory`; an old `directory` is moved away first and deleted last."""
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    part.rename(directory)
    fsync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)
