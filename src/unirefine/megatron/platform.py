"""Everything that differs between NVIDIA GPUs and a CPU: start and end of a process group, device, layer spec.

Megatron-core is written for CUDA. Where torch sees a GPU nothing here changes it: NCCL, the Transformer Engine spec.
Where it does not, `initialize` applies the patches below once per process, and the same program runs over gloo with
Megatron's local spec. Each patch says which line of Megatron needs it.
"""

import unirefine.megatron.uncompiled  # noqa: F401 - first of all: it and its package see to how Megatron is imported

# isort: split
import contextlib
import datetime
import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from megatron.core import optimizer as megatron_optimizer
from megatron.core import parallel_state
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.tensor_parallel import random as megatron_random
from torch.overrides import TorchFunctionMode

from unirefine.config.training import Parallel
from unirefine.errors import UserError

TIMEOUT = datetime.timedelta(minutes=10)
"""A collective that waits longer than this for another process fails, so a dead rank ends the job."""


def on_gpu() -> bool:
    """Whether torch sees an NVIDIA GPU."""
    return torch.cuda.is_available()


def device() -> torch.device:
    """The device of this process: its GPU (by LOCAL_RANK, or the only one that it sees) or the CPU.

    Raises UserError when there are fewer GPUs than processes on this node.
    """
    if not on_gpu():
        return torch.device("cpu")
    local, visible = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if visible == 1:  # srun --gpus-per-task shows each process its own GPU as number 0
        local = 0
    if local >= visible:
        raise UserError(
            f"process {local} of this node finds {visible} GPUs", fix="lower train.parallel.processes_per_node"
        )
    return torch.device("cuda", local)


def rank() -> int:
    """Global rank of this process (RANK of torchrun or srun; 0 without either)."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def world_size() -> int:
    """Number of processes (WORLD_SIZE; 1 without torchrun or srun)."""
    return int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))


def initialize(parallel: Parallel, seed: int) -> None:
    """Start the process group (from torchrun's variables, or alone) and Megatron's groups; seed every generator.

    TP, PP and CP come from `parallel`; DP is what is left of the world. A second call with the group already up
    only rebuilds Megatron's groups. Raises ValueError when the world is not a multiple of TP x PP x CP.
    """
    group = parallel.tensor * parallel.pipeline * parallel.context
    if world_size() % group:
        raise ValueError(
            f"{world_size()} processes are not a multiple of tensor x pipeline x context = {group}; "
            "start `parallel.nodes` x `parallel.processes_per_node` of them"
        )
    if on_gpu():
        torch.cuda.set_device(device())
    else:
        patch_for_cpu()
    if not torch.distributed.is_initialized():
        _start_process_group()
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallel.tensor,
        pipeline_model_parallel_size=parallel.pipeline,
        context_parallel_size=parallel.context,
        distributed_timeout_minutes=TIMEOUT.seconds // 60,
    )
    seed_everything(seed)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy, torch and Megatron's RNG tracker. Initial weights do not depend on it (see model/init.py)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below use the legacy generator
    torch.manual_seed(seed)
    if not on_gpu():
        megatron_random._CUDA_RNG_STATE_TRACKER = CpuRngTracker()
        megatron_random._CUDA_RNG_STATE_TRACKER_INITIALIZED = True
    model_parallel_cuda_manual_seed(seed)


def shutdown() -> None:
    """End Megatron's groups and the process group; nothing happens when they are not up."""
    parallel_state.destroy_model_parallel()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """Build modules without memory for their weights: for counting parameters and for plans of big models."""
    current_device, to_gpu = torch.cuda.current_device, torch.Tensor.cuda
    torch.cuda.current_device = lambda: "meta"  # Transformer Engine compares it with the string
    torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.cuda.current_device, torch.Tensor.cuda = current_device, to_gpu


def _start_process_group() -> None:
    backend = "nccl" if on_gpu() else "gloo"
    if world_size() == 1:
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1, timeout=TIMEOUT)
        return
    if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name that does not resolve is no obstacle then
    torch.distributed.init_process_group(backend, rank=rank(), world_size=world_size(), timeout=TIMEOUT)


# ---------------------------------------------------------------- patches, only without a GPU


class CpuRngTracker(megatron_random.CudaRNGStatesTracker):
    """Megatron's RNG tracker over torch's CPU generator (the original reads and writes the CUDA generator)."""

    def add(self, name: str, seed: int) -> None:
        """Register a named generator state."""
        self._is_initialized = True
        before = torch.get_rng_state()
        torch.manual_seed(seed)
        self.states_[name] = torch.get_rng_state()
        torch.set_rng_state(before)

    @contextlib.contextmanager
    def fork(self, name: str = "model-parallel-rng") -> Iterator[None]:
        """Run a block on a named generator state, then go back."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.states_[name])
        try:
            yield
        finally:
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(before)


class CudaCallsOnCpu(TorchFunctionMode):
    """Literal CUDA in Megatron's calls becomes the CPU.

    - `device="cuda"` (optimizer, schedules, grad scaler, checkpoint exchange): the CPU.
    - `.cuda()` of tensors (language_module ties the embedding by it): the tensor itself.
    - `tensor.type()` (clip_grads and distrib_optimizer compare it with "torch.cuda.FloatTensor"): answered as if
      the tensor were on a GPU.
    - `pin_memory=True` (context-parallel slices of RoPE): dropped.
    """

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


_mode: CudaCallsOnCpu | None = None


def patch_for_cpu() -> None:
    """Make Megatron-core run without CUDA. Idempotent; called by `initialize`, and by nothing when there is a GPU."""
    global _mode
    if _mode is not None or on_gpu():
        return
    assert sys.modules["transformer_engine"] is None, "unirefine.model must be imported before megatron"
    _mode = CudaCallsOnCpu()
    _mode.__enter__()  # for the life of the process, as torch.set_default_device does
    cpu = torch.device("cpu")
    # buffers and parameters are allocated on torch.cuda.current_device() throughout Megatron
    torch.cuda.current_device = lambda: cpu
    torch.cuda.synchronize = lambda device=None: None
    # gradient buffers (0.19) order their collectives by streams
    torch.cuda.current_stream = lambda device=None: contextlib.nullcontext()
    # checkpointing of activations saves and restores the CUDA generator
    megatron_random._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=False: torch.get_rng_state()
    megatron_random._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)
    # with Transformer Engine installed Megatron takes its fused Adam, a CUDA kernel
    megatron_optimizer.Adam = torch.optim.AdamW
    # torch's Adam has a `step` tensor per parameter, which checkpoints of the distributed optimizer do not hold
    restore = DistributedOptimizer._set_main_param_and_optimizer_states
    DistributedOptimizer._set_main_param_and_optimizer_states = lambda self, parameter, tensors: restore(
        self, parameter, {**self._get_main_param_and_optimizer_states(parameter), **tensors}
    )
