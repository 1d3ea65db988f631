"""What differs between NVIDIA GPUs and a CPU: the process group, the device, seeds.

With a GPU: NCCL and the Transformer Engine layer spec. Without one, the same program runs over gloo with Megatron's
local spec, after the patches of `patches.apply`.
"""

import contextlib
import datetime
import os
import random
from collections.abc import Iterator

from unirefine.megatron import patches

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

from unirefine.config.training import Parallel
from unirefine.errors import UserError

TIMEOUT = datetime.timedelta(minutes=10)
"""A collective that waits longer than this fails, so a dead rank ends the job."""

PATIENCE = datetime.timedelta(hours=3)
"""As TIMEOUT, where the others wait until one process has written a whole model: 60 GB for 15B."""


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

    TP, PP and CP come from `parallel`; DP is the rest of the world. A second call makes new groups for another layout.
    Raises ValueError when the world size is not a multiple of TP x PP x CP.
    """
    group = parallel.tensor * parallel.pipeline * parallel.context
    if world_size() % group:
        raise ValueError(
            f"{world_size()} processes are not a multiple of tensor x pipeline x context = {group}; "
            "start `parallel.nodes` x `parallel.processes_per_node` of them"
        )
    if on_gpu():
        torch.cuda.set_device(device())
    patches.apply()
    if not torch.distributed.is_initialized():
        _start_process_group()
    if _layout() != (parallel.tensor, parallel.pipeline, parallel.context):  # gloo has a thread for each group
        _make_groups(parallel)
    seed_everything(seed)


def _layout() -> tuple[int, int, int] | None:
    """(TP, PP, CP) of Megatron's groups, None without any."""
    if not parallel_state.model_parallel_is_initialized():
        return None
    return (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_pipeline_model_parallel_world_size(),
        parallel_state.get_context_parallel_world_size(),
    )


def _make_groups(parallel: Parallel) -> None:
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallel.tensor,
        pipeline_model_parallel_size=parallel.pipeline,
        context_parallel_size=parallel.context,
        distributed_timeout_minutes=TIMEOUT.seconds // 60,
        # with NCCL nothing uses them, and gloo finds no way to the others where a host's name is 127.0.1.1
        create_gloo_process_groups=not on_gpu(),
    )


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, torch and Megatron's RNG tracker. Initial weights do not depend on it (see model/init.py)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below use the legacy generator
    torch.manual_seed(seed)
    model_parallel_cuda_manual_seed(seed)


def only_deterministic() -> None:
    """Make torch refuse kernels without a deterministic form. The variables of `train.environment` do the rest."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # only results count, and all memory is written first


def exact_fp32() -> None:
    """Compute products of fp32 matrices in fp32, not in TF32, as torch's own are by default.

    Transformer Engine's are TF32 otherwise. Before the first CUDA call; a value that the user has set stays.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


@contextlib.contextmanager
def until_all_are_done() -> Iterator[None]:
    """A block that ends on every process when it has ended on the last, which may take PATIENCE. Collective."""
    group = torch.distributed.new_group(timeout=PATIENCE)
    try:
        yield
        torch.distributed.barrier(group)
    finally:
        torch.distributed.destroy_process_group(group)


def shutdown() -> None:
    """Destroy Megatron's groups and the process group, if they exist."""
    parallel_state.destroy_model_parallel()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _start_process_group() -> None:
    backend = "nccl" if on_gpu() else "gloo"
    if world_size() == 1:
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1, timeout=TIMEOUT)
        return
    if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # works without a host name that resolves
    torch.distributed.init_process_group(backend, rank=rank(), world_size=world_size(), timeout=TIMEOUT)
