"""Megatron distributed checkpoints that appear only when they are whole, and load at any TP, PP, CP and DP.

    checkpoint.save(directory, model, optimizer, scheduler, extra={"step": 100})
    extra = checkpoint.load(directory, model, optimizer, scheduler)
    facts = checkpoint.read(directory)        # no weights: sizes of the model, `extra`, versions

A checkpoint is written to `.<name>.part` and renamed, so a directory with `complete.json` in it is a complete
checkpoint. That file has the size and SHA-256 of all others, which are compared before anything else is read. `save`,
`load` and `problem` are collective: every rank calls them.
"""

import shutil
import warnings
from pathlib import Path
from typing import Any, Protocol

from unirefine.megatron import plain_pickle

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
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException

from unirefine.config.training import PRESETS, Model
from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path, read_json, replace_directory, write_json
from unirefine.files.code import versions
from unirefine.model import integrity
from unirefine.model.esm2 import Esm2
from unirefine.model.settings import DTYPES
from unirefine.model.tensors import SafetensorsFile

FORMAT = 1
MARKER = "complete.json"
ANOTHER = "use another checkpoint"
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
    """`complete.json`: `{format, model: {layers, hidden, heads}, dtype, extra, versions, files}`.

    files: `{name, bytes, sha256}` of each other file; checkpoints of earlier versions have none. Raises UserError when
    `directory` is not a complete checkpoint, has another format, or when complete.json is damaged.
    """
    directory = Path(directory)
    if not is_complete(directory):
        raise UserError(f"not a complete checkpoint (it has no {MARKER})", where=directory)
    facts = read_json(directory / MARKER)
    if not isinstance(facts, dict):
        raise UserError(f"{MARKER} is not what was written", where=directory, fix=ANOTHER)
    if facts.get("format") != FORMAT:
        raise UserError(f"checkpoint format {facts.get('format')!r}, this version reads {FORMAT}", where=directory)
    sizes, extra = facts.get("model"), facts.get("extra")
    numbers = [sizes.get(name) for name in ("layers", "hidden", "heads")] if isinstance(sizes, dict) else [None]
    whole = all(type(number) is int and number > 0 for number in numbers)
    if not whole or numbers[1] % (2 * numbers[2]) or not isinstance(extra, dict):
        raise UserError(f"{MARKER} does not say what the checkpoint holds", where=directory, fix=ANOTHER)
    if facts.get("dtype") not in [str(dtype).removeprefix("torch.") for dtype in DTYPES.values()]:
        raise UserError(f"{MARKER} names the dtype {facts.get('dtype')!r}", where=directory, fix=ANOTHER)
    return facts


def problem(directory: Path | str) -> str | None:
    """What is damaged in a checkpoint, in words with the file's name; None when nothing is.

    Collective: the processes divide the files, and each is hashed once.
    """
    try:
        facts = read(directory)
    except UserError as error:
        return error.what
    return integrity.problem(Path(directory), facts.get("files", []))


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
    if first and esm2.extra_tensors:
        with atomic_path(temporary / EXTRA_TENSORS) as path:
            save_file(esm2.extra_tensors, path)
    torch.distributed.barrier()
    names: list[Any] = [sorted(path.name for path in temporary.iterdir()) if first else None]
    torch.distributed.broadcast_object_list(names, src=0)  # a file system may show new files to other nodes late
    files = integrity.record(temporary, names[0])
    if first:
        facts = {"format": FORMAT, "model": _sizes(esm2), "extra": extra or {}}
        facts["dtype"] = str(esm2.config.params_dtype).removeprefix("torch.")
        facts |= {"versions": versions("torch", "megatron-core"), "files": files}
        write_json(temporary / MARKER, facts)
        replace_directory(temporary, directory)
    torch.distributed.barrier()


def load(
    directory: Path | str,
    model: Any,
    optimizer: Any = None,
    scheduler: Stateful | None = None,
    *,
    checked: bool = False,
) -> dict[str, Any]:
    """Load weights (and optimizer and scheduler state, if given) in place; returns the saved `extra`.

    The layout may differ from the one that saved. checked: whether `problem` has just found nothing. Raises UserError,
    on every process, when the checkpoint is incomplete or damaged, has another model size, holds objects or tensors
    that are not those of an ESM-2, or lacks the state of a given optimizer or scheduler.
    """
    directory = Path(directory)
    facts, esm2 = read(directory), unwrap(model)
    if facts["model"] != _sizes(esm2):
        raise UserError(f"checkpoint of a model {facts['model']}, not {_sizes(esm2)}", where=directory)
    if not checked and (wrong := problem(directory)):
        raise UserError(f"damaged: {wrong}", where=directory, fix=ANOTHER)
    state = _sharded_state(esm2, optimizer, loading=True)
    plain_pickle.check_common(directory)
    _check_tensors(state["model"], directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, about classes that Megatron uses
        reader = FullyParallelLoadStrategyWrapper(get_default_load_sharded_strategy(str(directory)), _replicas())
        try:
            loaded = dist_checkpointing.load(state, str(directory), reader, strict=StrictHandling.ASSUME_OK_UNEXPECTED)
        except CheckpointException as error:  # every process raises it, process 0 with the causes
            causes = ", ".join(str(cause) for cause, _trace in error.failures.values())
            raise UserError(f"cannot be read: {causes}", where=directory, fix=ANOTHER) from None
    esm2.load_state_dict(loaded["model"], strict=False)  # it lacks Transformer Engine's FP8 state
    if wrong := integrity.agree(not_finite(esm2)):
        raise UserError(wrong, where=directory, fix=ANOTHER)
    for name, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is not None:
            if name not in loaded:
                raise UserError(f"checkpoint has no {name} state", where=directory)
            target.load_state_dict(loaded[name])
    for adam in _torch_adams(optimizer):
        for state in adam.state.values():  # Megatron gives all parameters the same step tensor
            state["step"] = state["step"].clone()
    if (directory / EXTRA_TENSORS).is_file():
        aside = SafetensorsFile(directory / EXTRA_TENSORS)
        esm2.keep_beside({name: aside.tensor(name) for name in aside.names}, directory)
    return facts["extra"]


def not_finite(esm2: Esm2) -> str | None:
    """The first of this process's parameters with a value that is no number, in words; None when there is none."""
    for name, parameter in esm2.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"{name} has values that are not finite"
    return None


def _check_tensors(weights: dict[str, Any], directory: Path) -> None:
    """Raise UserError unless each of the weights is stored, with its shape and as floating-point numbers."""
    stored = plain_pickle.read_metadata(directory).state_dict_metadata
    for wanted in weights.values():
        found = stored.get(wanted.key)
        if found is None:
            raise UserError(f"no tensor {wanted.key}", where=directory, fix=ANOTHER)
        # the embedding has rows of padding, whose number depends on TP
        first = 1 if wanted.allow_shape_mismatch else 0
        if tuple(found.size[first:]) != tuple(wanted.global_shape[first:]) or len(found.size) != len(
            wanted.global_shape
        ):
            shape = tuple(wanted.global_shape)
            raise UserError(f"{wanted.key} has shape {tuple(found.size)}, not {shape}", where=directory, fix=ANOTHER)
        if not found.properties.dtype.is_floating_point:
            raise UserError(f"{wanted.key} is {found.properties.dtype}", where=directory, fix=ANOTHER)


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
