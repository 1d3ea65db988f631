"""What a training asks of a machine, and whether this one has it: GPUs, precision, Transformer Engine, ranks."""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files.made_by import cpu_name

FP8_CAPABILITY = {"delayed": (8, 9), "current": (8, 9), "blockwise": (9, 0), "mxfp8": (10, 0), "nvfp4": (10, 0)}
"""Compute capability that each recipe needs: Ada; Hopper; Blackwell. `megatron.kernels` asks about the rest."""
BF16_CAPABILITY = (8, 0)
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Within a container, its limit."""


@dataclass(frozen=True)
class Machine:
    """This node, as a process of the training sees it."""

    gpus: int
    """GPUs that torch can use."""
    name: str
    """CUDA's name of the first, or `cpu`."""
    capability: tuple[int, int]
    """Its compute capability."""
    memory: float
    """Bytes: of one GPU; without any, of the node."""
    cores: int
    """CPU cores that this process may use."""
    engine: bool
    """Whether Transformer Engine can be imported."""
    backends: tuple[str, ...]
    """What torch.distributed was built with: `gloo`, `nccl`."""
    why: str = ""
    """Why a GPU that is there, or Transformer Engine, cannot be used."""


def gpus() -> int:
    """How many GPUs torch can use. Takes none of them, as `this_machine` may, which is for the processes that train."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def this_machine() -> Machine:
    """The node that this process runs on. Without torch, it has no GPU."""
    cores, memory = len(os.sched_getaffinity(0)), _memory()
    if importlib.util.find_spec("torch") is None:
        return Machine(0, "cpu", (0, 0), memory, cores, False, ("gloo",))
    import torch

    distributed = torch.distributed
    backends = []
    if distributed.is_available():
        available = {"gloo": distributed.is_gloo_available, "nccl": distributed.is_nccl_available}
        backends = [name for name, is_there in available.items() if is_there()]
    if not torch.cuda.is_available():
        why = ""
        if Path("/dev/nvidiactl").exists():
            built = torch.version.cuda
            why = "this torch was built without CUDA" if built is None else f"torch wants a driver for CUDA {built}"
            why = "CUDA_VISIBLE_DEVICES hides it" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else why
        return Machine(0, "cpu", (0, 0), memory, cores, False, tuple(backends), why)
    count, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    mine = torch.cuda.get_device_properties(local if local < count else 0)
    why = _without_engine()
    return Machine(count, mine.name, (mine.major, mine.minor), mine.total_memory, cores, not why, tuple(backends), why)


def _without_engine() -> str:
    """Why Transformer Engine cannot be used; empty when it can."""
    if importlib.util.find_spec("transformer_engine") is None:
        return "not installed"
    try:
        importlib.import_module("transformer_engine.pytorch")
    except (ImportError, OSError) as error:  # built for another torch, or a library is missing
        return f"installed, but does not load ({' '.join(str(error).split())[:120]})"
    return ""


def _memory() -> float:
    """Bytes of this node's memory, or of its share that this process's container may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or `max`
        return memory


def hardware(config: Train, machine: Machine) -> dict[str, Any]:
    """What train.json says of the nodes of a training. machine: the first of them."""
    return {
        "nodes": config.parallel.nodes,
        "processes": config.parallel.world,
        "cpu": cpu_name(),
        "cores": machine.cores,
        "memory_bytes": int(_memory()),
        "gpu": machine.name if machine.gpus else None,
        "gpus": config.parallel.world if machine.gpus else 0,
    }


def no_gpu(machine: Machine) -> str:
    """`no GPU found`, with the reason where a GPU is there."""
    return f"no GPU found ({machine.why})" if machine.why else "no GPU found"


def problem(config: Train, machine: Machine) -> UserError | None:
    """What `config` asks for and `machine` does not have; None when it has everything."""
    if config.fp8 != "off":
        least = FP8_CAPABILITY[config.fp8]
        if not machine.gpus:
            return UserError(f"train.fp8 {config.fp8} needs an NVIDIA GPU: {no_gpu(machine)}", fix="set train.fp8: off")
        if machine.capability < least:
            return UserError(
                f"train.fp8 {config.fp8} needs a GPU of compute capability {_dotted(least)}; {machine.name} has "
                f"{_dotted(machine.capability)}", fix=f"set train.fp8: {_other_recipe(machine)}",
            )  # fmt: skip
    if config.attention != "auto" and not machine.gpus:
        return UserError(
            f"train.attention {config.attention} is a kernel of NVIDIA GPUs: {no_gpu(machine)}", fix="set it to auto"
        )
    backend = "nccl" if machine.gpus else "gloo"
    if backend not in machine.backends:
        return UserError(
            f"this torch has no {backend}, through which the processes of a training exchange gradients",
            fix="install another build of torch: PyPI's for Linux has it",
        )
    if not machine.gpus:
        return None
    if not machine.engine:
        return UserError(
            f"on GPUs ({machine.name}) the layers are Transformer Engine's, which is {machine.why or 'not installed'}",
            fix="use the container in envs/ or pip install 'unirefine[gpu]'; CUDA_VISIBLE_DEVICES= trains on the CPU",
        )
    if config.precision == "bf16" and machine.capability < BF16_CAPABILITY:
        return UserError(
            f"train.precision bf16 needs a GPU of compute capability {_dotted(BF16_CAPABILITY)}; {machine.name} has "
            f"{_dotted(machine.capability)}", fix="set train.precision: fp16",
        )  # fmt: skip
    return None


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def _other_recipe(machine: Machine) -> str:
    return "current" if machine.capability >= FP8_CAPABILITY["current"] else "off"


def check_gpus(processes: int, gpus: int) -> None:
    """Raise UserError when a node has GPUs, but fewer than processes of the training."""
    if 0 < gpus < processes:
        raise UserError(
            f"train.parallel.processes_per_node is {processes}, and this node has {gpus} GPU{'s' * (gpus > 1)}",
            fix=f"set it to {gpus}; CUDA_VISIBLE_DEVICES= trains on the CPU",
        )


def check_ranks(config: Train, environment: Mapping[str, str]) -> None:
    """Raise UserError when the variables of torchrun or srun do not describe a process of this training.

    environment: as in os.environ, with RANK.
    """
    numbers = {}
    for name, default in (("RANK", ""), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_PORT", "29500")):
        text = environment.get(name, default)
        if not text.isdecimal():
            raise UserError(f"{name}={text!r} is not a whole number", fix="unset it, or start by torchrun or srun")
        numbers[name] = int(text)
    world, asked = numbers["WORLD_SIZE"], config.parallel.world
    if world != asked:
        raise UserError(
            f"this job has {world} process{'es' * (world > 1)}, train.parallel asks for nodes x processes_per_node = "
            f"{config.parallel.nodes} x {config.parallel.processes_per_node} = {asked}",
            fix="make them equal, or start the command without torchrun (and without RANK): it starts its processes",
        )
    if numbers["RANK"] >= world:
        raise UserError(f"RANK={numbers['RANK']} of WORLD_SIZE={world}: ranks are 0 to {world - 1}")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK") if name not in environment]
    if world > 1 and missing:
        raise UserError(
            f"RANK is set, and {' and '.join(missing)} {'are' if missing[1:] else 'is'} not",
            fix="start by torchrun or srun, or unset RANK",
        )
