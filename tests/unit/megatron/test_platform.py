"""Groups, devices and seeds; the CPU patches act on Megatron's calls only, and a GPU sees none of them."""

import os
import subprocess
import sys
from unittest import mock

from unirefine.megatron import platform

import pytest
import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import random as megatron_random

from unirefine.config.training import Parallel
from unirefine.errors import UserError


@pytest.fixture
def alone():
    platform.initialize(Parallel(processes_per_node=1), seed=3)
    yield
    platform.shutdown()


@pytest.mark.usefixtures("alone")
def test_cuda_calls_go_to_the_cpu():
    assert torch.zeros(2, device="cuda").device.type == "cpu"
    assert torch.tensor([1.0], device=torch.device("cuda")).device.type == "cpu"
    assert torch.zeros(2, device=torch.cuda.current_device()).device.type == "cpu"
    assert torch.zeros(2, device="meta").device.type == "meta"
    assert torch.tensor([1], pin_memory=True).tolist() == [1]
    x = torch.ones(2)
    assert x.cuda() is x
    torch.cuda.synchronize()


@pytest.mark.usefixtures("alone")
def test_tensor_types_are_named_as_on_a_gpu():
    assert torch.ones(1).type() == "torch.cuda.FloatTensor"
    assert torch.ones(1, dtype=torch.bfloat16).type() == "torch.cuda.BFloat16Tensor"
    assert torch.ones(1).type(torch.float64).dtype == torch.float64


@pytest.mark.usefixtures("alone")
def test_rng_tracker_forks_and_returns():
    tracker = megatron_random.get_cuda_rng_tracker()
    assert isinstance(tracker, megatron_random.CudaRNGStatesTracker)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with tracker.fork():
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with tracker.fork():
        second = torch.rand(3)
    assert not torch.equal(first, second)


def test_a_second_initialize_changes_the_layout(alone):
    platform.initialize(Parallel(processes_per_node=1), seed=3)
    assert parallel_state.get_tensor_model_parallel_world_size() == 1
    assert torch.distributed.get_world_size() == 1


def test_a_second_initialize_at_the_same_layout_keeps_the_groups_and_seeds_again(alone):
    group, drawn = parallel_state.get_data_parallel_group(), torch.rand(3)
    platform.initialize(Parallel(processes_per_node=1), seed=3)
    assert parallel_state.get_data_parallel_group() is group
    assert torch.equal(torch.rand(3), drawn)


def test_world_that_does_not_fit():
    with pytest.raises(ValueError, match="1 processes are not a multiple of tensor x pipeline x context = 2"):
        platform.initialize(Parallel(processes_per_node=2, tensor=2), seed=0)
    platform.shutdown()


def test_shutdown_twice():
    platform.shutdown()
    platform.shutdown()
    assert not torch.distributed.is_initialized()


def test_nothing_is_patched_where_there_is_a_gpu():
    program = """
import torch
torch.cuda.is_available = lambda: True
before = torch.cuda.current_device, torch.cuda.synchronize, torch.Tensor.cuda, torch.cuda.current_stream
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.tensor_parallel import random
def megatrons():
    return (random._get_cuda_rng_state, random._set_cuda_rng_state, random.CudaRNGStatesTracker.add,
            random.CudaRNGStatesTracker.fork, DistributedOptimizer._set_main_param_and_optimizer_states)
mine = megatrons()
from unirefine.megatron import patches
patches.apply()
after = torch.cuda.current_device, torch.cuda.synchronize, torch.Tensor.cuda, torch.cuda.current_stream
assert before == after
assert mine == megatrons()
from importlib.util import find_spec
engine = {"attention_kernels_noted"} if find_spec("transformer_engine") else set()
assert patches._applied == engine | {
    "results_queue_in_process", "optimizer_state_by_owner", "no_code_in_checkpoints"
}
assert torch.ones(1).type() == "torch.FloatTensor"
from megatron.core import jit
assert jit.jit_fuser is torch.compile
import sys
assert "transformer_engine" not in sys.modules or sys.modules["transformer_engine"] is not None
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


@pytest.mark.parametrize(
    ("local", "visible", "index"),
    [("0", 8, 0), ("5", 8, 5), ("5", 1, 0)],  # the last: srun --gpus-per-task
)
def test_the_gpu_of_a_process(local, visible, index, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert platform.device() == torch.device("cuda", index)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UserError, match="process 4 of this node finds 4 GPUs"):
        platform.device()


def test_gloo_groups_are_made_on_cpus_only(monkeypatch):
    """NCCL uses none of them, and gloo fails where a host's name is 127.0.1.1."""
    made = []
    monkeypatch.setattr(parallel_state, "initialize_model_parallel", lambda **options: made.append(options))
    monkeypatch.setattr(platform, "seed_everything", lambda seed: None)
    monkeypatch.setattr(platform, "_start_process_group", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for gpu in (False, True):
        monkeypatch.setattr(platform, "on_gpu", lambda gpu=gpu: gpu)
        monkeypatch.setattr(platform, "device", lambda: torch.device("cpu"))
        platform.initialize(Parallel(processes_per_node=1), seed=0)
    assert [options["create_gloo_process_groups"] for options in made] == [True, False]


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("1", "1")])
def test_exact_fp32_leaves_what_the_user_set(before, after):
    with mock.patch.dict(os.environ):
        os.environ.pop("NVIDIA_TF32_OVERRIDE", None)
        if before:
            os.environ["NVIDIA_TF32_OVERRIDE"] = before
        platform.exact_fp32()
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == after


@pytest.mark.usefixtures("alone")
def test_waiting_for_one_process_has_a_longer_timeout(monkeypatch):
    made, new = [], torch.distributed.new_group
    monkeypatch.setattr(torch.distributed, "new_group", lambda **options: made.append(options) or new(**options))
    with platform.until_all_are_done():
        pass
    assert made == [{"timeout": platform.PATIENCE}] and platform.PATIENCE > 10 * platform.TIMEOUT
    with pytest.raises(KeyError), platform.until_all_are_done():
        raise KeyError
    assert torch.distributed.is_initialized()


def test_only_deterministic_kernels():
    try:
        platform.only_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
