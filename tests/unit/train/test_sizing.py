"""A training sized to its data."""

import pytest

from unirefine.config import Train, load_block
from unirefine.errors import UserError
from unirefine.train import sizing
from unirefine.train.forecast import Data, epochs

FAMILY = {"init": "facebook/esm2_t6_8M_UR50D", "parallel": {"processes_per_node": 1}, "epochs": "auto"}
SCRATCH = FAMILY | {"init": None, "model": {"preset": "8M"}}


def train(options, **changes) -> Train:
    return Train.model_validate(options | changes)


@pytest.mark.parametrize(
    ("options", "clusters", "found", "rate"),
    [
        (FAMILY | {"micro_batch": 4}, 148, (370, 8), 1e-4),
        (FAMILY, 148, (185, 16), 1e-4),
        (SCRATCH, 3_000, (150_000 // 128 + 1, 128), 4e-4),
        (SCRATCH, 60_000_000, (29_297, 2048), 4e-4),  # one epoch
        (FAMILY, 200_000, (1954, 512), 1e-4),  # a million samples
        (FAMILY | {"epochs": 2.5}, 1000, (157, 16), 1e-4),
        (FAMILY | {"epochs": "3", "global_batch": 32, "optimizer": {"lr": 3e-4}}, 1000, (94, 32), 3e-4),
    ],
)
def test_steps_batch_and_rate_follow_the_number_of_clusters(options, clusters, found, rate):
    config = sizing.fitted(train(options), Data(clusters, 100, 200.0))
    assert ((config.steps, config.global_batch), config.optimizer.lr) == (found, rate)
    assert config.optimizer.warmup_steps == min(2000, config.steps // 10) == min(2000, config.validate_every)
    assert config.epochs is None and Train.model_validate_json(config.model_dump_json()) == config


def test_steps_of_tokens_take_as_many_samples():
    data = Data(1000, 100, 200.0)
    config = sizing.fitted(train(FAMILY, epochs=10, global_batch=None, global_tokens=20_000, micro_batch=2), data)
    assert (config.steps, config.global_batch) == (100, None) and epochs(config, data).passes == 10
    assert sizing.describe(config, data).startswith("sized to 1,000 train clusters: 10 epochs are 100 steps of 20,000 ")


def test_what_contradicts_itself_is_refused():
    for options, says in (
        ({"steps": 3, "epochs": 2}, "train.steps and train.epochs exclude each other"),
        ({"steps": None}, "train.steps is null; give a number, or train.epochs"),
        ({"optimizer": {"lr": None}}, "train.optimizer.lr is null"),
        ({"epochs": 0}, "train.epochs is 0; give a number above 0, or auto"),
        ({"epochs": "some"}, "train.epochs is 'some'; give a number above 0, or auto"),
        ({"validation": {"9": "results/demo"}}, "train.validation"),
        ({"validation": {"validation": "results/demo"}}, "this name is that of the run's own set; choose another"),
    ):
        with pytest.raises(UserError, match=says):
            load_block(Train, "train", None, options)
    with pytest.raises(UserError, match=r"train.epochs sizes the training to the data; give --shards"):
        sizing.sized(train(FAMILY), None)
    assert "epochs" not in Train().model_dump() and "validation" not in Train().model_dump()
