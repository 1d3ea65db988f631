"""All patches of Megatron-core's and torch's internals, and what each needs.

Megatron-core is written for CUDA. With a GPU only the patches of checkpoints are applied, and one of Transformer
Engine. Without one, Megatron is imported without torch's compiler, and its CUDA calls are sent to the CPU.

A patch is a function under `@patch` (patching.py). It names what it replaces or calls, and a line that needs it. A
target that is missing or takes other parameters is an error with the patch's name, when it is applied and in
tests/unit/megatron/test_patches.py, which also finds patches that are no longer needed.
"""

import contextlib
import importlib
import importlib.metadata
import inspect
import logging
import multiprocessing.dummy
import queue
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unirefine.megatron.patching import PATCHES, check_versions, minor_version, patch, require

import torch
from torch.overrides import TorchFunctionMode

from unirefine.errors import UserError

_OPTIMIZER = "megatron.core.optimizer.distrib_optimizer:DistributedOptimizer."
_RANDOM = "megatron.core.tensor_parallel.random:"
_applied: set[str] = set()


# ---------------------------------------------------------------- importing Megatron


def import_megatron() -> None:
    """Check the versions and import Megatron-core, on a CPU without what only a GPU needs.

    Called when `unirefine.megatron` is imported. On a CPU it takes 2.5 seconds instead of 4.
    """
    check_versions()
    # it warns about each optional CUDA package that is missing
    warnings.filterwarnings("ignore", module=r"megatron\.core")
    if torch.cuda.is_available():
        return
    # its fused kernels make torch look for a CUDA compiler and log that there is none
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    hide_transformer_engine()
    with without_compiler(), without_wandb():
        importlib.import_module("megatron.core")


@patch(
    "import",
    targets={},
    needed_by={
        "megatron/core/optimizer/__init__.py": "from transformer_engine.pytorch.optimizers import FusedAdam as Adam"
    },
)
def hide_transformer_engine() -> None:
    """Make `import transformer_engine` fail: where it is installed, Megatron takes its CUDA Adam and norms
    (optimizer/__init__.py, optimizer/clip_grads.py, extensions/transformer_engine.py).
    """
    sys.modules.setdefault("transformer_engine", None)  # type: ignore[arg-type]


@patch(
    "import",
    targets={"torch:compile": None, "megatron.core.jit:disable_jit_fuser": ()},
    needed_by={"megatron/core/jit.py": "jit_fuser = torch.compile"},
)
@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Leave fused functions as they are written. Megatron decorates them with torch.compile when it is imported
    (jit.py), which loads Dynamo and Inductor.
    """
    compiler = torch.compile
    torch.compile = lambda model, **_options: model
    try:
        yield
    finally:
        torch.compile = compiler
    require(PATCHES["without_compiler"])
    importlib.import_module("megatron.core.jit").disable_jit_fuser()  # for modules that are imported later


@patch("import", targets={}, needed_by={"megatron/core/inference/engines/dynamic_engine.py": "import wandb"})
@contextlib.contextmanager
def without_wandb() -> Iterator[None]:
    """Make `import wandb` fail: Megatron's inference server imports it where it is installed (dynamic_engine.py)."""
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["wandb"]


# ---------------------------------------------------------------- checkpoints, on GPUs too


def apply() -> None:
    """Apply the patches of kind "always" and those of this process's device: once per process.

    `platform.initialize` calls it. Raises UserError when a patch does not fit the installed versions.
    """
    cpu = not torch.cuda.is_available()
    assert not cpu or sys.modules["transformer_engine"] is None, "import unirefine.megatron before transformer_engine"
    kinds = {"always", "cpu"} if cpu else {"always", "gpu"} if find_spec("transformer_engine") else {"always"}
    installed = minor_version("megatron-core")
    for each in PATCHES.values():
        if each.when in kinds and each.name not in _applied and each.concerns(installed):
            require(each)
            each.function()
            _applied.add(each.name)


@patch(
    "always",
    targets={"megatron.core.dist_checkpointing.strategies.filesystem_async:_results_queue": None},
    needed_by={
        "megatron/core/dist_checkpointing/strategies/filesystem_async.py": "_results_queue = ctx.Manager().Queue()"
    },
)
def results_queue_in_process() -> None:
    """Give checkpoint writers a queue in this process. Megatron starts a server process for it
    (filesystem_async.py), which only asynchronous saving needs and which outlives a kill -9.
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async._results_queue = queue.Queue()


@patch(
    "always",
    targets={
        f"{_OPTIMIZER}sharded_param_state_fully_reshardable": (
            "self",
            "model_sharded_state_dict",
            "is_loading",
            "metadata",
        ),
        f"{_OPTIMIZER}_get_main_param_and_optimizer_states": ("self", "model_param"),
    },
    needed_by={
        "megatron/core/optimizer/distrib_optimizer.py": "param_state = self.sharded_param_state_fully_reshardable("
    },
)
def optimizer_state_by_owner() -> None:
    """Save the distributed optimizer's state as `megatron.optimizer_state` describes it. Megatron's own version
    (distrib_optimizer.py, sharding type fully_reshardable) gathers all of it in the memory of every rank.
    """
    from unirefine.megatron.optimizer_state import sharded_state

    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    def by_owner(
        self: DistributedOptimizer, model_sharded_state_dict: dict, is_loading: bool = False, metadata: Any = None
    ) -> dict:
        return sharded_state(self, model_sharded_state_dict, is_loading=is_loading)

    DistributedOptimizer.sharded_param_state_fully_reshardable = by_owner


@patch(
    "always",
    targets={
        "torch.distributed.checkpoint.filesystem:FileSystemReader.read_metadata": None,
        "torch.distributed.checkpoint.default_planner:DefaultLoadPlanner.load_bytes": ("self", "read_item", "value"),
    },
    needed_by={
        "torch/distributed/checkpoint/filesystem.py": "metadata = pickle.load(metadata_file)",
        "torch/distributed/checkpoint/default_planner.py": "weights_only=False",
    },
)
def no_code_in_checkpoints() -> None:
    """Read `.metadata` and Megatron's common values as `megatron.plain_pickle` does, and no other pickled objects.
    torch reads them with plain pickle (filesystem.py, default_planner.py), which runs what is in them.
    """
    from unirefine.megatron import plain_pickle

    from torch.distributed.checkpoint._nested_dict import set_element
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

    def read_metadata(self: FileSystemReader, *_arguments: Any, **options: Any) -> Metadata:
        rank = options.get("rank")
        path = self.fs.concat_path(self.path, plain_pickle.FILE if rank is None else f"__{rank}{plain_pickle.FILE}")
        with self.fs.create_stream(path, "rb") as stream:
            found = plain_pickle.load_metadata(stream, Path(path))
        found.storage_meta = found.storage_meta or StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found

    def load_bytes(self: DefaultLoadPlanner, read_item: Any, value: Any) -> None:
        name = read_item.dest_index.fqn
        if name != plain_pickle.COMMON:
            raise UserError(f"{name} is an object, not a tensor", fix="use another checkpoint")
        found = plain_pickle.load_plain(value)
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], found)
        else:
            self.state_dict[name] = found

    FileSystemReader.read_metadata, DefaultLoadPlanner.load_bytes = read_metadata, load_bytes


# ---------------------------------------------------------------- Transformer Engine, on GPUs

_ATTENTION = "transformer_engine.pytorch.attention.dot_product_attention"


@patch(
    "gpu",
    targets={f"{_ATTENTION}.utils:get_attention_backend": ("attention_params",)},
    needed_by={
        "transformer_engine/pytorch/attention/dot_product_attention/dot_product_attention.py": (
            "dpa_utils.get_attention_backend(attention_params)"
        )
    },
)
def attention_kernels_noted() -> None:
    """Tell `megatron.kernels` which attention kernel is taken. It is chosen anew for every shape of a batch, without a
    word (dot_product_attention.py): the slowest one would take its memory and time unnoticed.
    """
    from unirefine.megatron import kernels

    utils = importlib.import_module(f"{_ATTENTION}.utils")
    choose = utils.get_attention_backend

    def noted(attention_params: Any) -> tuple:
        choice = choose(attention_params)
        kernels.note(attention_params, choice)
        return choice

    utils.get_attention_backend = noted


# ---------------------------------------------------------------- running on a CPU


class CudaCallsOnCpu(TorchFunctionMode):
    """Sends literal CUDA in calls of torch to the CPU: see `cuda_calls_on_cpu`."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.type and len(args) == 1 and not kwargs:
            return func(*args).replace("torch.", "torch.cuda.", 1)
        if kwargs:
            if "device" in kwargs and str(kwargs["device"]).startswith("cuda"):
                kwargs = {**kwargs, "device": torch.device("cpu")}
            if kwargs.get("pin_memory"):
                kwargs = {**kwargs, "pin_memory": False}
            return func(*args, **kwargs)
        return func(*args)


@patch(
    "cpu",
    targets={"torch.overrides:TorchFunctionMode": None},
    needed_by={
        "megatron/core/pipeline_parallel/schedules.py": 'device="cuda"',
        "megatron/core/models/common/language_module/language_module.py": "weight.data = weight.data.cuda()",
        "megatron/core/optimizer/clip_grads.py": "param.grad.type() == 'torch.cuda.FloatTensor'",
        "megatron/core/models/common/embeddings/rope_utils.py": "pin_memory=True",
    },
)
def cuda_calls_on_cpu() -> None:
    """Send literal CUDA in Megatron's calls of torch to the CPU, for the life of the process:

    - `device="cuda"` (schedules.py, clip_grads.py, grad_scaler.py, exchange_utils.py) becomes the CPU;
    - `.cuda()` (language_module.py, which ties the embedding) returns the tensor itself;
    - `.type()` (clip_grads.py and distrib_optimizer.py compare it with "torch.cuda.FloatTensor") answers as on a GPU;
    - `pin_memory=True` (rope_utils.py, for context parallelism) is dropped.
    """
    CudaCallsOnCpu().__enter__()  # as torch.set_default_device does


@patch(
    "cpu",
    targets={"torch.cuda:current_device": ()},
    needed_by={"megatron/core/tensor_parallel/layers.py": "device=torch.cuda.current_device()"},
)
def current_device() -> None:
    """Parameters and buffers are allocated on torch.cuda.current_device() (layers.py, param_and_grad_buffer.py)."""
    cpu = torch.device("cpu")
    torch.cuda.current_device = lambda: cpu


@patch(
    "cpu",
    targets={"torch.cuda:synchronize": ("device",)},
    needed_by={"megatron/core/pipeline_parallel/p2p_communication.py": "torch.cuda.synchronize()"},
)
def synchronize() -> None:
    """Pipeline stages and checkpoint writers wait for the GPU (p2p_communication.py, filesystem_async.py)."""
    torch.cuda.synchronize = lambda device=None: None


@patch(
    "cpu",
    targets={"torch.cuda:current_stream": ("device",)},
    needed_by={"megatron/core/distributed/param_and_grad_buffer.py": "current_stream = torch.cuda.current_stream()"},
    since=(0, 19),
)
def current_stream() -> None:
    """Gradient buffers look at the stream before they reduce (param_and_grad_buffer.py); they ask nothing of it."""
    torch.cuda.current_stream = lambda device=None: contextlib.nullcontext()


@patch(
    "cpu",
    targets={"megatron.core.dist_checkpointing.strategies.filesystem_async:mp": None},
    needed_by={"megatron/core/dist_checkpointing/strategies/filesystem_async.py": 'ctx = mp.get_context("fork")'},
    until=(0, 16),
)
def checkpoint_writers_in_process() -> None:
    """Write a checkpoint's files with threads, as later versions of Megatron do (filesystem_async.py). 0.16 forks a
    process for each file, which costs more than to write it, and which outlives a kill -9 with the lock of the run.
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async.mp = SimpleNamespace(get_context=lambda _method: multiprocessing.dummy)


@patch(
    "cpu",
    targets={
        f"{_RANDOM}_get_cuda_rng_state": ("device", "clone", "graph_safe"),
        f"{_RANDOM}_set_cuda_rng_state": ("new_state", "device", "graph_safe"),
    },
    needed_by={"megatron/core/tensor_parallel/random.py": "cuda_rng_state = _get_cuda_rng_state("},
)
def generator_state() -> None:
    """Recomputed activations restore the CUDA generator's state (random.py: CheckpointFunction): the CPU's instead."""
    from megatron.core.tensor_parallel import random

    random._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=False: torch.get_rng_state()
    random._set_cuda_rng_state = lambda new_state, device=-1, graph_safe=False: torch.set_rng_state(new_state)


@patch(
    "cpu",
    targets={
        f"{_RANDOM}CudaRNGStatesTracker.add": ("self", "name", "seed"),
        f"{_RANDOM}CudaRNGStatesTracker.fork": ("self", "name"),
    },
    needed_by={"megatron/core/tensor_parallel/random.py": "orig_rng_state = torch.cuda.get_rng_state()"},
)
def rng_tracker() -> None:
    """The tracker of named generators reads and writes the CUDA generator (random.py): the CPU's instead."""
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    def add(self: CudaRNGStatesTracker, name: str, seed: int) -> None:
        """Register a named generator state."""
        self._is_initialized = True
        before = torch.get_rng_state()
        torch.manual_seed(seed)
        self.states_[name] = torch.get_rng_state()
        torch.set_rng_state(before)

    @contextlib.contextmanager
    def fork(self: CudaRNGStatesTracker, name: str = "model-parallel-rng") -> Iterator[None]:
        """Run a block on a named generator state, then go back."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.states_[name])
        try:
            yield
        finally:
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(before)

    CudaRNGStatesTracker.add, CudaRNGStatesTracker.fork = add, fork


@patch(
    "cpu",
    targets={"megatron.core.optimizer:Adam": None},
    needed_by={"megatron/core/optimizer/__init__.py": "from apex.optimizers import FusedAdam as Adam"},
)
def torch_adam() -> None:
    """Where Apex is installed, Megatron takes its Adam, a CUDA kernel (optimizer/__init__.py): torch's instead."""
    from megatron.core import optimizer

    optimizer.Adam = torch.optim.AdamW


@patch(
    "cpu",
    targets={
        f"{_OPTIMIZER}_set_main_param_and_optimizer_states": ("self", "model_param", "tensors"),
        f"{_OPTIMIZER}_get_main_param_and_optimizer_states": ("self", "model_param"),
    },
    needed_by={"megatron/core/optimizer/distrib_optimizer.py": "dst_tensors[key].copy_(tensors[key])"},
)
def adam_step_tensor() -> None:
    """Loading looks up every tensor of the optimizer's state in the checkpoint (distrib_optimizer.py). torch's Adam has
    a `step` tensor per parameter, which checkpoints do not hold: it stays as it is.
    """
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    restore = DistributedOptimizer._set_main_param_and_optimizer_states

    def with_step(self: DistributedOptimizer, model_param: torch.nn.Parameter, tensors: dict) -> None:
        restore(self, model_param, {**self._get_main_param_and_optimizer_states(model_param), **tensors})

    DistributedOptimizer._set_main_param_and_optimizer_states = with_step


@patch(
    "cpu",
    targets={
        "torch.optim:Optimizer.state_dict": ("self",),
        "torch.optim:Optimizer.load_state_dict": ("self", "state_dict"),
        "torch.optim:Optimizer.zero_grad": ("self", "set_to_none"),
        "torch.optim:Optimizer.add_param_group": ("self", "param_group"),
        "torch.optim.adam:_use_grad_for_differentiable": ("func",),  # the decorator of Adam.step
    },
    needed_by={
        "torch/optim/optimizer.py": "import torch._dynamo",
        "torch/optim/adam.py": "@_use_grad_for_differentiable",
    },
)
def optimizer_without_compiler() -> None:
    """Unwrap methods of torch's Adam. The decorators load the compiler, to keep it away from them (optimizer.py)."""
    for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group"):
        setattr(torch.optim.Optimizer, name, inspect.unwrap(getattr(torch.optim.Optimizer, name)))
    plain = inspect.unwrap(torch.optim.Adam.step)

    def step(self: torch.optim.Adam, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """As the decorator of Adam.step, without its calls of the compiler."""
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return plain(self, closure)

    torch.optim.Adam.step = step
