"""Variables of the GPU's libraries: set where the user has none, refused where they contradict an option."""

import os
from unittest import mock

import pytest

from unirefine.config import Train
from unirefine.errors import UserError
from unirefine.files.made_by import COMMAND
from unirefine.train import environment

ALWAYS = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
EXACT = {"NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Ring"}
ORDERED = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}


def config(**options) -> Train:
    return Train.model_validate({"parallel": {"processes_per_node": 1}, **options})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ALWAYS),
        ({"parallel": {"processes_per_node": 8}}, ALWAYS),
        ({"parallel": {"processes_per_node": 2, "tensor": 2}}, ALWAYS | ORDERED),
        ({"parallel": {"processes_per_node": 2, "context": 2}}, ALWAYS | ORDERED),
        ({"deterministic": True}, ALWAYS | EXACT),
    ],
)
def test_what_is_set_within_the_block(options, expected):
    with (
        mock.patch.dict(os.environ, {"HOME": "x"}, clear=True),
        mock.patch("sys.argv", ["here", "train", "--set", "a b"]),
    ):
        with environment.set_for(config(**options)):
            assert dict(os.environ) == {"HOME": "x", COMMAND: "unirefine train --set 'a b'"} | expected
        assert dict(os.environ) == {"HOME": "x"}


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_what_the_user_set_stays(name):
    with mock.patch.dict(os.environ, {name: "backend:native"}, clear=True):
        with environment.set_for(config()):
            assert os.environ[name] == "backend:native"
            assert [key for key in os.environ if key.endswith("ALLOC_CONF")] == [name]
        assert os.environ[name] == "backend:native"


@pytest.mark.parametrize(
    ("options", "name", "value", "message"),
    [
        ({"deterministic": True}, "NCCL_ALGO", "Tree", "train.deterministic needs NCCL_ALGO=Ring or CollnetDirect"),
        ({"deterministic": True}, "NVTE_ALLOW_NONDETERMINISTIC_ALGO", "1", "needs NVTE_ALLOW_NONDETERMINISTIC_ALGO=0"),
        ({"attention": "flash"}, "NVTE_FUSED_ATTN", "1", "train.attention flash needs NVTE_FUSED_ATTN=0, but the env"),
        ({}, "NVTE_FLASH_ATTN", "0", "train.attention auto needs NVTE_FLASH_ATTN=1, .* '0'; unset NVTE_FLASH_ATTN"),
    ],
)
def test_a_contradiction_is_one_line(options, name, value, message):
    with (
        mock.patch.dict(os.environ, {name: value}, clear=True),
        pytest.raises(UserError, match=message),
        environment.set_for(config(**options)),
    ):
        pass


def test_other_values_that_are_deterministic_stay():
    given = {"NCCL_ALGO": "CollnetChain", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    with mock.patch.dict(os.environ, given, clear=True), environment.set_for(config(deterministic=True)):
        assert {name: os.environ[name] for name in given} == given
