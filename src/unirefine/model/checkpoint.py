"""Megatron distributed checkpoints that appear only when they are whole, and load at any TP, PP, CP and DP.

    checkpoint.save(directory, model, optimizer, scheduler, extra={"step": 100})
    extra = checkpoint.load(directory, model, optimizer, scheduler)
    facts = checkpoint.read(directory)        # no weights: sizes of the model, `extra`, versions

A checkpoint is written to `.<name>.part` and renamed, so a directory with `complete.json` in it is a complete
checkpoint. `save` and `load` are collective: every rank calls them.
"""

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
from megatron.core.dist_checkpointing.strategies.fully_parallel import (
    FullyParallelLoadStrategyWrapper,
    FullyParallelSaveStrategyWrapper,
)
from megatron.core.dist_checkpointing.validation import StrictHandling
from safetensors.torch import load_file, save_file

from unirefine.config.training import PRESETS, Model
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, replace_directory, write_json
from unirefine.files.code import versions
from unirefine.model.esm2 import Esm2

FORMAT = 1
MARKER = "complete.json"
EXTRA_TENSORS = "aside.safetensors"
"""File with `Esm2.extra_tensors`. Checkpoints of every version have it under this name."""

# optimizer state is stored per parameter in its whole shape, so that it loads at another TP, PP or DP
OPTIMIZER_LAYOUT = {"distrib_optim_sharding_type": "fully_reshardable", "chained_optim_avoid_prefix": True}


class Stateful(Protocol):
    """A scheduler, or anything else with a small state that is the same on every rank."""

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
    """Whether `directory` is a complete checkpoint."""
    return (Path(directory) / MARKER).is_file()


def read(directory: Path | str) -> dict[str, Any]:
    """`complete.json`: `{format, model: {layers, hidden, heads}, dtype, extra, versions}`.

    Raises UserError when `directory` is not a complete checkpoint or has another format.
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
    """Write a checkpoint, replacing one of the same name. `extra` must be JSON and equal on every rank."""
    directory = Path(directory)
    temporary = temporary_directory(directory)
    esm2, first = unwrap(model), torch.distributed.get_rank() == 0
    if first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    torch.distributed.barrier()
    state = _sharded_state(esm2, optimizer, loading=False)
    if scheduler is not None:
        state["scheduler"] = scheduler.state_dict()
    # a tensor that several ranks hold is written by one of them, and the tensors are spread over the ranks
    writer = FullyParallelSaveStrategyWrapper(get_default_save_sharded_strategy(), _replicas())
    dist_checkpointing.save(state, str(temporary), writer)
    torch.distributed.barrier()
    if first:
        if esm2.extra_tensors:
            save_file(esm2.extra_tensors, temporary / EXTRA_TENSORS)
        facts = {"format": FORMAT, "model": _sizes(esm2), "extra": extra or {}}
        facts["dtype"] = str(esm2.config.params_dtype).removeprefix("torch.")
        facts["versions"] = versions("torch", "megatron-core")
        write_json(temporary / MARKER, facts)
        replace_directory(temporary, directory)
    torch.distributed.barrier()


def load(directory: Path | str, model: Any, optimizer: Any = None, scheduler: Stateful | None = None) -> dict[str, Any]:
    """Load weights (and optimizer and scheduler state, if given) in place; returns the saved `extra`.

    The layout may differ from the one that saved. Raises UserError when the checkpoint is incomplete, has another model
    size, or lacks the state of a given optimizer or scheduler.
    """
    directory = Path(directory)
    facts, esm2 = read(directory), unwrap(model)
    if facts["model"] != _sizes(esm2):
        raise UserError(f"checkpoint of a model {facts['model']}, not {_sizes(esm2)}", where=directory)
    state = _sharded_state(esm2, optimizer, loading=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, about classes that Megatron uses
        reader = FullyParallelLoadStrategyWrapper(get_default_load_sharded_strategy(str(directory)), _replicas())
        loaded = dist_checkpointing.load(state, str(directory), reader, strict=StrictHandling.ASSUME_OK_UNEXPECTED)
    esm2.load_state_dict(loaded["model"], strict=False)  # it lacks Transformer Engine's FP8 state
    for name, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is not None:
            if name not in loaded:
                raise UserError(f"checkpoint has no {name} state", where=directory)
            target.load_state_dict(loaded[name])
    for adam in _torch_adams(optimizer):
        for state in adam.state.values():  # Megatron gives all parameters the same step tensor
            state["step"] = state["step"].clone()
    if (directory / EXTRA_TENSORS).is_file():
        esm2.extra_tensors = load_file(directory / EXTRA_TENSORS)
    return facts["extra"]


def _sizes(esm2: Esm2) -> dict[str, int]:
    config = esm2.config
    return {"layers": config.num_layers, "hidden": config.hidden_size, "heads": config.num_attention_heads}


def _replicas() -> torch.distributed.ProcessGroup:
    """The ranks that hold the same slice of the model: DP x CP."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def _sharded_state(esm2: Esm2, optimizer: Any, *, loading: bool) -> dict[str, Any]:
    weights = esm2.sharded_state_dict(metadata={})
    # Transformer Engine's extra state holds only FP8 history; without it a checkpoint loads with either layer spec
    weights = {name: value for name, value in weights.items() if not isinstance(value, ShardedObject)}
    state: dict[str, Any] = {"model": weights}
    if optimizer is not None:
        for each in _chained(optimizer):
            _allocate_state(each)
        metadata = dict(OPTIMIZER_LAYOUT)
        state["optimizer"] = optimizer.sharded_state_dict(weights, is_loading=loading, metadata=metadata)
    return state


def _chained(optimizer: Any) -> list[Any]:
    """The optimizers inside Megatron's ChainedOptimizer."""
    return getattr(optimizer, "chained_optimizers", [optimizer] if optimizer is not None else [])


def _torch_adams(optimizer: Any) -> list[torch.optim.Optimizer]:
    """torch's own Adams inside Megatron's optimizer (on GPUs Transformer Engine's Adam is there instead)."""
    inner = [each.optimizer for each in _chained(optimizer)]
    return [adam for adam in inner if isinstance(adam, torch.optim.Adam | torch.optim.AdamW)]


def _allocate_state(optimizer: Any) -> None:
    """Allocate Adam's moments before the first update. A checkpoint is loaded into them, and must have them even when
    fp16 loss scaling has skipped every update so far.
    """
    optimizer.init_state_fn(optimizer.optimizer, optimizer.config)
    for adam in _torch_adams(optimizer):
        for state in adam.state.values():
            state.setdefault("step", torch.tensor(0.0))


def temporary_directory(directory: Path) -> Path:
    """Where `directory` is written before `replace_directory`: `.<name>.part` beside it."""
    return directory.with_name(f".{directory.name}.part")
