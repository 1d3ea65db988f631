"""The model that a training starts from is as large as the one that it trains."""

import unirefine.megatron  # noqa: F401 - before Megatron

import pytest

from unirefine.config import Model, Train
from unirefine.errors import UserError
from unirefine.train import initial


class Found:
    def model(self):
        return Model(preset="8M")


def test_without_init_there_is_none():
    assert initial.find_initial(Train()) is None


def test_a_model_of_the_hub_is_compared_when_it_is_there(monkeypatch):
    monkeypatch.setattr(initial, "find", lambda given: Found())
    assert initial.find_initial(Train(init="me/model", model=Model(preset="8M"))).model().preset == "8M"
    says = (
        "me/model: train.model has 33 layers, hidden 1280, 20 heads, and the model of train.init 6 layers, hidden 320"
    )
    with pytest.raises(UserError, match=says):
        initial.find_initial(Train(init="me/model"))
