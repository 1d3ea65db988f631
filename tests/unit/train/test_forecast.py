"""What is said of a training before it starts."""

import math

import pytest

from unirefine.config import PRESETS, Train
from unirefine.train import forecast
from unirefine.train.dryrun import dry_run
from unirefine.train.flops import flops_per_token
from unirefine.train.forecast import Data
from unirefine.train.machine import Machine
from unirefine.train.memory import memory_per_process

LAPTOP = Machine(0, "cpu", (0, 0), 16e9, 4, False, ("gloo",))
H100 = Machine(8, "NVIDIA H100", (9, 0), 80e9, 64, True, ("gloo", "nccl"))
SMALL = {"model": {"preset": "8M"}, "parallel": {"processes_per_node": 1}}
DATA = Data(clusters=3_000, validation=15, mean_length=200.0)


def train(**changes) -> Train:
    return Train.model_validate(SMALL | changes)


def test_epochs_are_samples_over_clusters():
    found = forecast.epochs(train(steps=150, global_batch=16), DATA)
    assert found == (2_400, 480_000, 0.8)
    by_tokens = train(steps=150, global_batch=None, global_tokens=20_000, sampling={"max_tokens": 1000})
    assert forecast.epochs(by_tokens, DATA) == (150 * 100, 150 * 20_000, 5.0)
    assert forecast.describe_epochs(train(), DATA).startswith(
        "341,333 epochs over 3,000 train clusters: 1.02 G samples"
    )


@pytest.mark.parametrize(
    ("options", "here", "data", "says"),
    [
        (
            {},
            H100,
            DATA,
            ["341,333 epochs over 3,000 train clusters: with more than 100", "validation on 15 clusters: below 100"],
        ),
        ({"steps": 146}, H100, Data(3_000, 100, 200.0), []),
        ({"steps": 147}, H100, Data(3_000, 99, 200.0), ["100 are 146 steps", "validation on 99 clusters"]),
        ({"steps": 1}, H100, Data(20, 100, 200.0), ["lower train.global_batch too"]),
        ({"steps": 9, "validate_sequences": 20}, H100, Data(9_000, 400, 200.0), ["raise train.validate_sequences"]),
        ({"steps": 9}, H100, Data(9_000, 1, 200.0), ["validation on 1 cluster: below 100"]),
        ({"model": {"preset": "650M"}}, LAPTOP, None, ["no GPU found, and a model of 651 M parameters needs one"]),
        ({"model": {"preset": "15B"}}, LAPTOP, None, ["no GPU found, and a model of 15.1 G parameters needs one"]),
        ({"model": {"preset": "650M"}}, H100, None, []),
        ({"model": {"preset": "150M"}}, LAPTOP, None, []),
        ({"parallel": {"processes_per_node": 8}}, LAPTOP, None, ["processes_per_node is 8, and there are 4 CPU cores"]),
    ],
)
def test_a_warning_for_each_doubt(options, here, data, says):
    found = forecast.warnings(train(**options), here, data)
    assert len(found) == len(says)
    assert all(each in line for each, line in zip(says, found, strict=True))


def test_the_verdict_is_that_of_the_estimate():
    config = train(model={"preset": "650M"}, micro_batch=64)
    needed = memory_per_process(config)["total"]
    assert needed > 80e9
    assert forecast.is_fitting(config, needed - 1, gpu=True) is False
    assert forecast.is_fitting(config, needed + 1, gpu=True) is None
    assert forecast.is_fitting(config, needed + 5e9, gpu=True) is True
    text = forecast.describe_fit(config, H100)
    assert text.startswith("does not fit NVIDIA H100: about ") and text.endswith(
        " of 80.0 GB; train.micro_batch: 32 would"
    )
    assert forecast.is_fitting(config.model_copy(update={"micro_batch": 32}), 80e9, gpu=True)
    assert forecast.describe_fit(train(), H100).startswith("fits NVIDIA H100: about ")


def test_on_a_cpu_the_processes_share_the_memory():
    text = forecast.describe_fit(train(parallel={"processes_per_node": 8}, micro_batch=256), LAPTOP)
    assert text.startswith("does not fit the memory of this machine: about ")
    assert "of 2.00 GB for each of its processes; train.micro_batch: " in text
    huge = forecast.describe_fit(train(model={"preset": "15B"}), LAPTOP)
    assert huge.endswith("of 16.0 GB; take a smaller train.model")


def test_when_no_micro_batch_helps_recomputation_or_more_gpus_may():
    config = train(
        model={"preset": "3B"}, parallel={"processes_per_node": 8}, sampling={"max_tokens": 65_536}, micro_batch=1
    )
    assert forecast.describe_fit(config, H100).endswith("train.micro_batch: 1 and train.recompute: full would")
    whole = train(model={"preset": "15B"})
    assert "spread it over more GPUs (parallel.tensor, parallel.pipeline)" in forecast.describe_fit(whole, H100)


def test_the_shortest_time_is_that_of_the_peak():
    config = train(model={"preset": "650M"}, parallel={"processes_per_node": 8})
    tokens = 500_000 * 2048 * 1024
    days = flops_per_token(*PRESETS["650M"][:2], 1024) * tokens / (8 * 312e12) / 86_400
    assert f"at least {days:,.0f} days on 8 A100, " in forecast.shortest(config, tokens)
    assert forecast.shortest(train(precision="fp32"), tokens) is None


def test_the_first_step_says_how_long_the_rest_takes():
    assert forecast.after_first_step(train(steps=151), 1, 0.3).startswith(
        "step 1 took 0.3 s: at this speed the other 150 take 45s"
    )
    assert "the other 499,999 take 347 days" in forecast.after_first_step(train(), 1, 60.0)


def test_the_dry_run_says_what_this_machine_lacks_and_warns():
    text = dry_run(train(model={"preset": "650M"}, fp8="current"), None)
    rows = [line[:21].strip() for line in text.splitlines()]
    lines = dict(zip(rows, (line[22:] for line in text.splitlines()), strict=True))
    assert lines["GPUs"] == "fits GPUs of 40 GB and more"
    assert lines["this machine"].startswith("no GPU found")
    assert lines["learning rate"] == "2,000 steps up to 0.0004, down to 4e-05 at step 450,000 of 500,000"
    assert lines["cannot start here"].startswith("train.fp8 current needs an NVIDIA GPU")
    assert rows[-1] == "warning" and "no GPU found, and a model of 651 M parameters" in lines["warning"]
    assert math.isclose(float(lines["memory a process"].split()[1]), 34, abs_tol=2)
