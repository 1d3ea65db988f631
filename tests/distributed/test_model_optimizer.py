"""Optimizer state survives a checkpoint at the same and at other layouts: the next step is the same step."""

from pathlib import Path

import pytest
import torch
from launch import launch

pytestmark = pytest.mark.distributed

HOPS = ["dp2:dp2", "pp2:pp2", "pp2:tp2", "tp2:cp2", "cp2:dp2", "dp2:pp2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("optimizer")
    launch(Path(__file__).with_name("optimizer_worker.py"), 2, directory, *HOPS)
    return {hop: torch.load(directory / f"{hop}.pt") for hop in HOPS}


@pytest.mark.parametrize("hop", HOPS)
def test_the_next_step_is_the_same(results, hop):
    expected, got = results[hop]
    assert expected.keys() == got.keys()
    for name, weights in expected.items():
        # an Adam step is up to 1e-2 here, so wrong moments or main parameters would show as such
        assert (weights - got[name]).abs().max() < 2e-5, name
