"""A process group for each module, because commands that tests run end theirs; and models in it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from unirefine.megatron import platform

from unirefine.config.training import Model, Parallel, Train
from unirefine.model.esm2 import Esm2, build_esm2


@pytest.fixture(scope="module", autouse=True)
def group():
    torch.set_num_threads(1)  # batches this small are slower on more
    platform.initialize(Parallel(processes_per_node=1), seed=0)
    yield
    platform.shutdown()


def settings(layers: int, hidden: int, heads: int, **options) -> Train:
    """A one-process fp32 `Train` of a free-size model."""
    size = Model(preset=None, layers=layers, hidden=hidden, heads=heads)
    return Train(**({"precision": "fp32"} | options), model=size, parallel=Parallel(processes_per_node=1))


@pytest.fixture(scope="session")
def build():
    """build(layers, hidden, heads, **train options) -> Esm2."""

    def builder(layers: int, hidden: int, heads: int, *, weights: bool = True, **options) -> Esm2:
        train = settings(layers, hidden, heads, **options)
        return build_esm2(train.model, train, weights=weights)

    return builder
