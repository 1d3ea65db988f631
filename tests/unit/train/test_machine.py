"""A training on a machine without what it asks for ends in one line."""

from dataclasses import replace

import pytest

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.train import machine
from unirefine.train.machine import Machine, check_gpus, check_ranks, problem, this_machine

BOTH = ("gloo", "nccl")
LAPTOP = Machine(0, "cpu", (0, 0), 16e9, 4, False, ("gloo",))
V100 = Machine(8, "V100", (7, 0), 32e9, 40, True, BOTH)
A100 = Machine(8, "A100", (8, 0), 80e9, 64, True, BOTH)
H100 = Machine(8, "H100", (9, 0), 80e9, 64, True, BOTH)
B200 = Machine(8, "B200", (10, 0), 180e9, 64, True, BOTH)


@pytest.mark.parametrize(
    ("here", "options", "says"),
    [
        (LAPTOP, {"fp8": "current"}, "train.fp8 current needs an NVIDIA GPU: no GPU found; set train.fp8: off"),
        (replace(LAPTOP, why="no driver"), {"fp8": "mxfp8"}, "no GPU found (no driver); set train.fp8: off"),
        (A100, {"fp8": "delayed"}, "compute capability 8.9; A100 has 8.0; set train.fp8: off"),
        (H100, {"fp8": "mxfp8"}, "compute capability 10.0; H100 has 9.0; set train.fp8: current"),
        (
            V100,
            {},
            "train.precision bf16 needs a GPU of compute capability 8.0; V100 has 7.0; set train.precision: fp16",
        ),
        (
            replace(H100, engine=False),
            {},
            "on GPUs (H100) the layers are Transformer Engine's, which is not installed;",
        ),
        (replace(H100, engine=False, why="broken"), {}, "Transformer Engine's, which is broken; use the container"),
        (replace(H100, backends=("gloo",)), {}, "this torch has no nccl"),
        (replace(LAPTOP, backends=()), {}, "this torch has no gloo"),
        (LAPTOP, {"precision": "fp16"}, None),
        (V100, {"precision": "fp16"}, None),
        (A100, {}, None),
        (H100, {"fp8": "current"}, None),
        (B200, {"fp8": "mxfp8"}, None),
        (B200, {"fp8": "nvfp4"}, None),
        (H100, {"fp8": "nvfp4"}, "compute capability 10.0; H100 has 9.0; set train.fp8: current"),
        (H100, {"fp8": "blockwise"}, None),
        (
            LAPTOP,
            {"attention": "flash"},
            "train.attention flash is a kernel of NVIDIA GPUs: no GPU found; set it to auto",
        ),
        (H100, {"attention": "flash"}, None),
    ],
)
def test_what_a_machine_lacks(here, options, says):
    found = problem(Train.model_validate(options), here)
    assert (found is None) if says is None else says in str(found)


def test_this_machine_is_what_the_system_says(tmp_path, monkeypatch):
    found = this_machine()
    assert found.gpus == 0 and found.name == "cpu" and "gloo" in found.backends
    assert 0 < found.cores <= 1024 and 1e8 < found.memory < 1e14
    assert problem(Train(), found) is None
    monkeypatch.setattr(machine, "CGROUP_LIMIT", tmp_path / "memory.max")
    whole = this_machine().memory
    (tmp_path / "memory.max").write_text("123456789\n")
    assert this_machine().memory == 123456789
    (tmp_path / "memory.max").write_text("max\n")
    assert this_machine().memory == whole


def test_a_node_with_fewer_gpus_than_processes_is_refused_before_they_start():
    check_gpus(8, 0)  # it trains on the CPU
    check_gpus(8, 8)
    for there, count in ((1, "1 GPU;"), (2, "2 GPUs;")):
        with pytest.raises(UserError, match=f"processes_per_node is 8, and this node has {count} set it to {there}"):
            check_gpus(8, there)


MET = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        (
            {"WORLD_SIZE": "4"},
            "this job has 4 processes, train.parallel asks for nodes x processes_per_node = 1 x 2 = 2",
        ),
        ({"WORLD_SIZE": None}, "this job has 1 process, train.parallel"),
        ({"RANK": "2"}, "RANK=2 of WORLD_SIZE=2: ranks are 0 to 1"),
        ({"RANK": "first"}, "RANK='first' is not a whole number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http' is not a whole number"),
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, "RANK is set, and MASTER_ADDR and MASTER_PORT are not"),
        ({"LOCAL_RANK": None}, "RANK is set, and LOCAL_RANK is not; start by torchrun or srun, or unset RANK"),
    ],
)
def test_the_processes_of_a_job_are_those_that_the_config_asks_for(changes, says):
    environment = {name: value for name, value in (MET | changes).items() if value is not None}
    config = Train.model_validate({"parallel": {"processes_per_node": 2}})
    if says is None:
        check_ranks(config, environment)
        return
    with pytest.raises(UserError) as raised:
        check_ranks(config, environment)
    assert says in str(raised.value)
