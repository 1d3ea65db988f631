"""What a training asks of its GPU, and the line about attention."""

import io
from types import SimpleNamespace

from unirefine.megatron import kernels, platform

import pytest
import torch

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.train import loop
from unirefine.train.forecast import Data
from unirefine.train.machine import Machine
from unirefine.train.measure import Progress
from unirefine.train.reporter import Reporter


def config(**options) -> Train:
    return Train.model_validate({"parallel": {"processes_per_node": 1}, **options})


def batch(**changes) -> SimpleNamespace:
    """As Transformer Engine describes a batch: what `kernels.note` reads."""
    values = {"qkv_dtype": torch.bfloat16, "qkv_layout": "thd_thd_thd", "batch_size": 9, "max_seqlen_q": 1024,
              "head_dim_qk": 64, "context_parallel": False, "deterministic": False}  # fmt: skip
    return SimpleNamespace(**(values | changes))


FLASH, FUSED, UNFUSED = (True, "2.8.3", True, 1, True), (False, None, True, 1, True), (False, None, False, None, True)
NOTHING = (False, None, False, None, False)


@pytest.fixture
def gpu(monkeypatch):
    """A process that believes it has a GPU."""
    monkeypatch.setattr(platform, "on_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    yield
    kernels.refuse_slow(False)


@pytest.mark.parametrize(
    ("options", "changes", "choice", "says"),
    [
        ({}, {}, UNFUSED, "9 sequences of at most 1024 tokens .bfloat16, packed, heads of 64. would take "
                          ".* unfused kernel .*; install flash-attn, or set train.packed: false, or allow it with "),
        ({}, {"qkv_layout": "sbhd_sbhd_sbhd"}, UNFUSED, "set train.packed: true"),
        ({}, {"context_parallel": True}, NOTHING, "no kernel; set parallel.context: 1; NVTE_DEBUG"),
        ({"deterministic": True}, {"deterministic": True}, UNFUSED, "or set train.deterministic: false"),
    ],
)  # fmt: skip
def test_a_slow_kernel_is_refused(options, changes, choice, says, gpu, monkeypatch):
    monkeypatch.setattr(platform, "only_deterministic", lambda: None)
    loop.prepare_gpu(config(**options))
    kernels.note(batch(), FUSED)
    with pytest.raises(UserError, match=says) as caught:
        kernels.note(batch(**changes), choice)
    assert "\n" not in caught.value.line()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("options", [{"precision": "fp32"}, {"attention": "unfused"}])
def test_a_slow_kernel_that_was_asked_for_is_taken(options):
    loop.prepare_gpu(config(**options))
    kernels.note(batch(), UNFUSED)
    assert kernels.seen() == ["unfused kernel (all scores in memory)"]


@pytest.mark.usefixtures("gpu")
def test_the_kernels_are_named_once_and_again_when_others_come(tmp_path):
    loop.prepare_gpu(config())
    lines = io.StringIO()
    machine = Machine(8, "NVIDIA H100", (9, 0), 80e9, 96, True, ("gloo", "nccl"))
    data = Data(clusters=10**6, validation=1000, mean_length=200.0)
    reporter = Reporter(tmp_path, config(), Progress(), machine=machine, data=data, stream=lines)
    before = len(lines.getvalue())
    for choice in (None, FUSED, FUSED, FLASH):
        if choice:
            kernels.note(batch(), choice)
        reporter.attention(kernels.seen())
    reporter.close()
    assert lines.getvalue()[before:].splitlines() == [
        "train: attention: fused (cuDNN, sub-backend 1)",
        "train: attention: fused (cuDNN, sub-backend 1), flash-attn 2.8.3",
    ]
